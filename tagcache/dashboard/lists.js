// Shows the results of a search in pages, and deletes them.

import { post } from "./api.js";
import { button, note, open } from "./dialog.js";
import { h, label, put, segmented, state, text } from "./dom.js";
import { ago, count, entries, moment, ttl, visible } from "./format.js";
import { address, inDatabase, titled, visit } from "./route.js";

export const PAGE = 50;
// The most entries that the server lists at once.
export const MOST = 10_000;
// The most bytes of JSON in one request, well below a server's default limit.
const MOST_CHARACTERS = 256 * 1024;

/** The lines of a text field, without empty and repeated ones. */
export function lines(value) {
  return [...new Set(value.split("\n").map((line) => line.replace(/\r$/, "")).filter((line) => line !== ""))];
}

export function chips(tags, most = 4) {
  if (!tags.length) return h("span", { class: "about" }, "none");
  return h(
    "span",
    { class: "chips" },
    tags.slice(0, most).map((tag) =>
      h("a", { class: "chip", href: address("tags", tag), title: visible(tag) }, visible(tag))
    ),
    tags.length > most ? h("span", { class: "about" }, `+${tags.length - most}`) : null,
  );
}

/**
 * A table of the results of a search, one page at a time. `search` is the body of POST /search without
 * limit and offset; `where(offset)` is the address of the page that begins there. Returns {element,
 * load(search, offset), reload(), keys()}.
 */
export function entryPages(signal, { empty, emptyDetail, where }) {
  const body = h("tbody");
  const table = h(
    "table",
    { class: "data stacked entries" },
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        h("th", { scope: "col" }, "Key"),
        h("th", { scope: "col" }, "Tags"),
        h("th", { scope: "col", class: "num" }, "Time to live"),
        h("th", { scope: "col", class: "num" }, "Stored"),
      ),
    ),
    body,
  );
  const holder = h("div", { class: "scroll" });
  const position = h("span", { class: "about", role: "status" });
  const turn = (to) => {
    visit(where(Math.max(0, to)));
    go(to);
  };
  const previous = h("button", { type: "button", onclick: () => turn(offset - PAGE) }, "Previous");
  const next = h("button", { type: "button", onclick: () => turn(offset + PAGE) }, "Next");
  const pager = h("div", { class: "pager" }, position, h("span", { class: "spring" }), previous, next);
  const element = h("div", { class: "card" }, holder, pager);
  let query = {};
  let offset = 0;
  let asked = 0;
  let rows = [];

  async function go(to) {
    offset = Math.max(0, to);
    const mine = (asked += 1);
    holder.setAttribute("aria-busy", "true");
    if (!table.isConnected) put(holder, state("loading", "Searching…"));
    try {
      // Ask for one more than a page, to know whether there is a next page.
      const found = (await post(inDatabase("/search"), { ...query, limit: PAGE + 1, offset }, signal)).keys;
      if (mine === asked) draw(found);
    } catch (error) {
      if (signal.aborted || mine !== asked) return;
      put(holder, state("error", "The entries cannot be shown", error.message, button("Try again", () => go(offset))));
      pager.hidden = true;
    } finally {
      if (mine === asked) holder.removeAttribute("aria-busy");
    }
  }

  function draw(found) {
    rows = found.slice(0, PAGE);
    pager.hidden = !rows.length && !offset;
    text(position, rows.length ? `${count(offset + 1)}–${count(offset + rows.length)}` : "Nothing on this page");
    previous.disabled = offset === 0;
    next.disabled = found.length <= PAGE;
    if (!rows.length) {
      put(holder, state("empty", empty, emptyDetail));
      return;
    }
    const now = Date.now();
    put(
      body,
      rows.map((row) =>
        h(
          "tr",
          {},
          h(
            "td",
            { class: "mono key-cell" },
            h("a", { href: address("keys", row.key), title: visible(row.key) }, visible(row.key)),
          ),
          h("td", {}, chips(row.tags)),
          h("td", { class: "num" }, ttl(row.ttl_ms)),
          h("td", { class: "num", title: moment(row.created_ms / 1000) }, ago((now - row.created_ms) / 1000)),
        )
      ),
    );
    label(table);
    if (!table.isConnected) put(holder, table);
  }

  return {
    element,
    load: (search, from = 0) => {
      query = search;
      return go(from);
    },
    reload: () => go(offset),
    keys: () => rows.map((row) => row.key),
  };
}

/** Split keys into groups whose JSON fits into one request. */
function* batches(keys) {
  let batch = [];
  let size = 0;
  for (const key of keys) {
    const length = JSON.stringify(key).length + 1;
    if (batch.length && size + length > MOST_CHARACTERS) {
      yield batch;
      batch = [];
      size = 0;
    }
    batch.push(key);
    size += length;
  }
  if (batch.length) yield batch;
}

/** Delete entries by their keys, or only count them; returns how many. It stops if `going()` is false. */
async function deleteKeys(keys, { dry = false, going = () => true }) {
  let removed = 0;
  for (const batch of batches(keys)) {
    if (!going()) break;
    removed += (await post(inDatabase(`/keys/bulk/delete?dry_run=${dry}`), { keys: batch })).count;
  }
  return removed;
}

/**
 * Ask, with a count, whether to delete the results of a search. `what` describes the search; `shown` are
 * the keys of the page, or null if entries are not listed one by one.
 */
export function deleteFound(search, what, shown, done) {
  let keys = [];
  let asked = 0;
  const outcome = h("p", { class: "preview", role: "status", "aria-live": "polite" });
  const choice = shown === null ? null : h(
    "div",
    { class: "row" },
    segmented("Which entries", [["page", "This page"], ["all", "All found"]], "page", preview),
  );
  const act = button("Delete", async () => {
    act.disabled = true;
    try {
      const removed = await deleteKeys(keys, { going: () => dialog.open });
      note(`${entries(removed)} deleted.`);
      dialog.close();
    } catch (error) {
      put(outcome, `Not everything was deleted: ${error.message}`);
    }
    done();
  }, "danger");

  async function preview(which) {
    const mine = (asked += 1);
    act.disabled = true;
    text(act, "Delete");
    put(outcome, "Counting…");
    try {
      const found = which === "page"
        ? shown
        : (await post(inDatabase("/search"), { ...search, limit: MOST, offset: 0 })).keys.map((row) => row.key);
      // Keys that are not text are shown with replacement characters, which do not name the entry.
      const named = found.filter((key) => !key.includes("\ufffd"));
      const number = await deleteKeys(named, { dry: true });
      if (mine !== asked) return;
      keys = named;
      put(
        outcome,
        h("strong", {}, entries(number)),
        " will be deleted.",
        found.length >= MOST ? ` At most ${count(MOST)} are deleted at a time; there may be more.` : "",
        named.length < found.length
          ? ` ${entries(found.length - named.length)} cannot be named here, because the key is not text.`
          : "",
      );
      text(act, number ? `Delete ${entries(number)}` : "Nothing to delete");
      act.disabled = number === 0;
    } catch (error) {
      if (mine === asked) put(outcome, error.message);
    }
  }

  const dialog = open(titled("Delete entries"), {
    body: [
      h("p", {}, what),
      choice,
      outcome,
      h("p", { class: "about" }, "Entries are removed immediately, for every client."),
    ].filter(Boolean),
    actions: [h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"), act],
  });
  preview(shown === null ? "all" : "page");
}
