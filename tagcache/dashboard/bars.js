// Bars behind the names in a table, to compare its rows.

import { h } from "./dom.js";

// If the largest value is this many times the median, use a logarithmic scale, or other bars would be too short.
const GIANT = 20;

export const LOG_NOTE = "Bars: logarithmic scale";

/** The scale for some values: `share(value)` is the length of a bar, from 0 to 1; `log` says if it is logarithmic. */
export function scale(values) {
  const sorted = values.filter((value) => value > 0).sort((a, b) => a - b);
  const most = sorted.at(-1) ?? 1;
  const log = most > GIANT * (sorted[(sorted.length - 1) >> 1] ?? most);
  return { log, share: (value) => (value <= 0 ? 0 : log ? Math.log1p(value) / Math.log1p(most) : value / most) };
}

/** One bar. `share` is its part of the width of the cell, from 0 to 1. */
export function bar(share) {
  const element = h("span", { class: "bar", "aria-hidden": "true" });
  element.style.width = `${share * 100}%`;
  return element;
}
