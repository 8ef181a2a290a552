// Panels of the overview: the most frequent commands and errors, and the top tags.

import { get } from "./api.js";
import { bar, LOG_NOTE, scale } from "./bars.js";
import { h, label, put, segmented, state, text } from "./dom.js";
import { isAway } from "./engine.js";
import { bytes, compact, count, MISSING, plural, rate, visible } from "./format.js";
import { live, on } from "./live.js";
import { address, inDatabase, titled } from "./route.js";
import { SORTS } from "./tags.js";

const MOST_ROWS = 8;
const MOST_TAGS = 8;
// Do not read the tags more often, because the server has to read all of them.
const TAGS_EVERY_MS = 30_000;
let sort = "keys";

/** A card with a table. Each row has a name, with a bar behind it, and numbers. */
function panel(title, about, columns, ...controls) {
  const told = h("p", { class: "about" }, about);
  const body = h("tbody");
  const table = h(
    "table",
    { class: "data" },
    h(
      "thead",
      {},
      h("tr", {}, columns.map((name, index) => h("th", { scope: "col", class: index ? "num" : "" }, name))),
    ),
    body,
  );
  const holder = h("div", { class: "scroll" }, state("loading", "Reading…"));
  const element = h(
    "section",
    { class: "card panel", "aria-label": title },
    h("div", { class: "panel-head" }, h("h3", {}, title), told, h("span", { class: "spring" }), ...controls),
    holder,
  );

  /** `rows` are {name, value, cells}. The bar shows `value`. */
  function show(rows, empty) {
    const { log, share } = scale(rows.map((row) => row.value));
    text(told, log ? LOG_NOTE : about);
    if (!rows.length) {
      put(holder, state("empty", empty));
      return;
    }
    put(
      body,
      rows.map(({ name, value, cells }) =>
        h(
          "tr",
          {},
          h("td", { class: "mono key-cell measured" }, bar(share(value)), name),
          cells.map((cell) => h("td", { class: "num" }, cell)),
        )
      ),
    );
    label(table);
    if (!table.isConnected) put(holder, table);
  }

  function fail(message) {
    if (!table.isConnected) put(holder, state("error", "Not available", message));
  }

  return { element, show, fail };
}

/** Rows of the largest counts and their rates per second, with one row for the rest. */
function largest(counts, rates) {
  const all = Object.entries(counts).map(([name, total]) => ({ name, total, each: rates?.[name] ?? null }));
  all.sort((a, b) => b.total - a.total);
  const rest = all.splice(all.length > MOST_ROWS ? MOST_ROWS - 1 : MOST_ROWS);
  const sum = (values) => values.reduce((total, value) => total + value, 0);
  if (rest.length) {
    all.push({
      name: plural(rest.length, "other"),
      total: sum(rest.map((one) => one.total)),
      each: rates ? sum(rest.map((one) => one.each)) : null,
    });
  }
  return all.map(({ name, total, each }) => ({
    name: h("span", {}, visible(name)),
    value: total,
    cells: [each === null ? MISSING : rate(each), compact(total)],
  }));
}

const upper = (counts) =>
  Object.fromEntries(Object.entries(counts).map(([verb, number]) => [verb.toUpperCase(), number]));

/** The counts of both ports together, by name. */
function flat({ commands, requests, errors, failed_requests: failed }) {
  return {
    commands: { ...upper(commands), ...requests },
    errors: {
      ...errors,
      ...Object.fromEntries(Object.entries(failed).map(([status, number]) => [`HTTP ${status}`, number])),
    },
  };
}

/** The rates per second between two responses. */
function rates(before, now, seconds) {
  return Object.fromEntries(
    Object.entries(now).map(([name, total]) => [name, Math.max(0, total - (before[name] ?? 0)) / seconds]),
  );
}

/** Commands and errors since the start, updated with every sample. */
export function trafficPanels(signal) {
  const commands = panel("Commands", "since the start", ["Command or request", "Now", "Total"]);
  const errors = panel("Errors", "since the start", ["Error", "Now", "Total"]);
  let before = null;
  let asking = false;

  async function ask() {
    if (asking || document.hidden) return;
    asking = true;
    try {
      const now = { at: performance.now() / 1000, ...flat(await get("/traffic", signal)) };
      const seconds = before ? now.at - before.at : 0;
      const since = (kind) => (seconds > 0 ? rates(before[kind], now[kind], seconds) : null);
      commands.show(largest(now.commands, since("commands")), "No commands yet");
      errors.show(largest(now.errors, since("errors")), "No errors since the start");
      before = now;
    } catch (error) {
      if (!signal.aborted) { for (const each of [commands, errors]) each.fail(error.message); }
    } finally {
      asking = false;
    }
  }

  on(["sample"], ask, signal);
  // A restarted server counts from zero.
  on(["history"], () => {
    before = null;
    ask();
  }, signal);
  ask();
  return [commands.element, errors.element];
}

/** The tags with the most keys, bytes or hits. */
export function topTags(signal) {
  const choice = segmented("Top tags by", SORTS, sort, (chosen) => {
    sort = chosen;
    ask();
  });
  const tags = panel(titled("Top tags"), "", ["Tag", "Keys", "Size", "Hits"], choice);
  let mine = 0;
  let away = false;

  async function ask() {
    away = isAway(live.info);
    if (!live.info || away) return;
    const number = (mine += 1);
    try {
      const found = (await get(inDatabase(`/tags?limit=${MOST_TAGS}&sort=${sort}`), signal)).tags;
      if (number !== mine) return;
      tags.show(
        found.map((tag) => ({
          name: h("a", { href: address("tags", tag.name) }, visible(tag.name)),
          value: tag[sort],
          cells: [count(tag.keys), bytes(tag.bytes), compact(tag.hits)],
        })),
        "There are no tags yet",
      );
    } catch (error) {
      if (!signal.aborted && number === mine) tags.fail(error.message);
    }
  }

  const timer = setInterval(() => {
    if (!document.hidden && live.status === "live") ask();
  }, TAGS_EVERY_MS);
  signal.addEventListener("abort", () => clearInterval(timer), { once: true });
  on(["history"], ask, signal);
  // Most events only change figures. Read the tags again only when the engine is back.
  on(["engine"], () => {
    if (away !== isAway(live.info)) ask();
  }, signal);
  ask();
  return tags.element;
}
