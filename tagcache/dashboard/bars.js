// Bars behind names, which show how the rows of a table compare.

import { h } from "./dom.js";

// Beside one that is this many times the median, the others would be too short to compare.
const GIANT = 20;

export const LOG_NOTE = "Bars: logarithmic scale";

/** How long the bars of some values are: `share(value)` is from 0 to 1; `log` tells the scale. */
export function scale(values) {
  const sorted = values.filter((value) => value > 0).sort((a, b) => a - b);
  const most = sorted.at(-1) ?? 1;
  const log = most > GIANT * (sorted[(sorted.length - 1) >> 1] ?? most);
  return { log, share: (value) => (value <= 0 ? 0 : log ? Math.log1p(value) / Math.log1p(most) : value / most) };
}

/** One bar, `share` of its cell wide. */
export function bar(share) {
  const element = h("span", { class: "bar", "aria-hidden": "true" });
  element.style.width = `${share * 100}%`;
  return element;
}
