// Searches entries by key prefix or by tags, and shows them as a list or grouped by prefix.

import { post } from "./api.js";
import { bar, LOG_NOTE, scale } from "./bars.js";
import { button } from "./dialog.js";
import { h, icon, label, put, segmented, state } from "./dom.js";
import { editEntry, mountEntry } from "./entry.js";
import { count, entries, visible } from "./format.js";
import { deleteFound, entryPages, lines, MOST } from "./lists.js";
import { on } from "./live.js";
import { address, inDatabase, visit } from "./route.js";

const MODES = [["prefix", "Prefix"], ["tag_any", "Any tag"], ["tag_all", "All tags"]];
const HINTS = { prefix: "Key begins with", tag_any: "Tags, separated by commas", tag_all: "Tags, separated by commas" };
const VIEWS = [["list", "List"], ["groups", "Groups"]];
const SEPARATOR = ":";
const MOST_GROUPS = 500;

/** Group keys by their part after `prefix` up to the next separator, the largest group first. */
export function groups(keys, prefix, separator) {
  const found = new Map();
  for (const key of keys) {
    const at = key.indexOf(separator, prefix.length);
    const name = at < 0 ? key : key.slice(0, at + separator.length);
    const group = found.get(name) ?? { name, isKey: at < 0, count: 0 };
    group.count += 1;
    found.set(name, group);
  }
  return [...found.values()].sort((a, b) => b.count - a.count || (a.name < b.name ? -1 : 1));
}

export function mount(container, signal, key, query) {
  if (key === undefined) search(container, signal, query);
  else mountEntry(container, signal, key);
}

/** Read the search from the address. */
function asked(query) {
  const known = (value, options) => (options.some(([each]) => each === value) ? value : options[0][0]);
  const by = known(query.get("by"), MODES);
  return {
    by,
    q: query.get("q") ?? "",
    view: by === "prefix" ? known(query.get("view"), VIEWS) : "list",
    separator: query.get("separator") || SEPARATOR,
    from: Math.max(0, Math.floor(Number(query.get("from"))) || 0),
  };
}

function where({ by, q, view, separator, from }) {
  return address("keys", undefined, {
    by: by === "prefix" ? "" : by,
    q,
    view: view === "list" ? "" : view,
    separator: separator === SEPARATOR ? "" : separator,
    from,
  });
}

/** The body of POST /search. */
function body({ by, q }) {
  return by === "prefix" ? { q } : { [by]: tagsOf(q) };
}

const tagsOf = (q) => lines(q.replaceAll(",", "\n")).map((tag) => tag.trim()).filter(Boolean);

/** Describe the search, for the dialog that deletes its results. */
function words({ by, q }) {
  // Without a condition the server lists all entries.
  if (by === "prefix" ? !q : !tagsOf(q).length) return "All entries.";
  if (by === "prefix") return ["Entries whose key begins with ", h("code", {}, visible(q)), "."];
  return [
    `Entries that carry ${by === "tag_any" ? "any" : "all"} of the tags `,
    tagsOf(q).flatMap((tag, index) => [index ? ", " : "", h("code", {}, visible(tag))]),
    ".",
  ];
}

function search(container, signal, query) {
  let now = asked(query);
  const pages = entryPages(signal, {
    empty: "No entry found",
    emptyDetail: "Keys are searched by their beginning, and case matters.",
    where: (from) => {
      now.from = from;
      return where(now);
    },
  });
  const tree = keyGroups(signal, (q) => where({ ...now, q, view: "groups" }));
  const field = h("input", { type: "search", class: "mono", spellcheck: "false", value: now.q });
  const separator = h("input", {
    class: "mono separator",
    value: now.separator,
    maxlength: "8",
    spellcheck: "false",
    autocapitalize: "none",
    autocomplete: "off",
    onchange: () => again(),
  });
  const separated = h("label", { class: "check-label" }, "Separator", separator);
  const views = segmented("Shown as", VIEWS, now.view, (view) => again({ view }));
  const holder = h("div", {});
  const remove = h("button", {
    type: "button",
    class: "outline",
    onclick: () => deleteFound(body(now), words(now), now.view === "list" ? pages.keys() : null, show),
  }, "Delete found…");
  put(
    container,
    h(
      "div",
      { class: "head" },
      h("h1", {}, "Keys"),
      h("p", { class: "about" }, "newest first"),
      h("span", { class: "spring" }),
      h(
        "div",
        { class: "row" },
        remove,
        h(
          "button",
          {
            type: "button",
            class: "primary",
            onclick: () => editEntry(null, show),
          },
          icon("plus"),
          "New entry",
        ),
      ),
    ),
    h(
      "form",
      {
        class: "row toolbar",
        onsubmit: (event) => {
          event.preventDefault();
          again();
        },
      },
      segmented("Search by", MODES, now.by, (by) => again({ by })),
      h("label", { class: "field-icon grow" }, icon("search"), field),
      h("button", { type: "submit" }, "Search"),
      views,
      separated,
    ),
    holder,
  );
  field.addEventListener("search", () => again());

  function again(change = {}) {
    now = { ...now, q: field.value, separator: separator.value || SEPARATOR, from: 0, ...change };
    if (now.by !== "prefix") now.view = "list";
    visit(where(now));
    show();
  }

  function show() {
    const grouped = now.view === "groups";
    field.placeholder = HINTS[now.by];
    field.setAttribute("aria-label", HINTS[now.by]);
    views.hidden = now.by !== "prefix";
    separated.hidden = !grouped;
    put(holder, grouped ? tree.element : pages.element);
    return grouped ? tree.load(now.q, now.separator) : pages.load(body(now), now.from);
  }

  on(["history"], show, signal);
  show();
}

/** A table of key groups. `where(prefix)` is the address of the groups below a prefix. */
function keyGroups(signal, where) {
  const told = h("p", { class: "about told", role: "status" });
  const rows = h("tbody");
  const table = h(
    "table",
    { class: "data stacked groups" },
    h(
      "thead",
      {},
      h("tr", {}, h("th", { scope: "col" }, "Prefix or key"), h("th", { scope: "col", class: "num" }, "Entries")),
    ),
    rows,
  );
  const holder = h("div", { class: "scroll" }, state("loading", "Grouping the keys…"));
  const element = h("div", { class: "card" }, told, holder);
  let asked = 0;

  async function load(prefix, separator) {
    const mine = (asked += 1);
    try {
      const found = (await post(inDatabase("/search"), { q: prefix, limit: MOST }, signal)).keys;
      if (mine === asked) draw(found.map((row) => row.key), prefix, separator);
    } catch (error) {
      if (!signal.aborted && mine === asked) {
        put(
          holder,
          state(
            "error",
            "The keys cannot be grouped",
            error.message,
            button("Try again", () => load(prefix, separator)),
          ),
        );
      }
    }
  }

  function draw(keys, prefix, separator) {
    const all = groups(keys, prefix, separator);
    const shown = all.slice(0, MOST_GROUPS);
    const { log, share } = scale(shown.map((each) => each.count));
    put(
      told,
      crumbs(prefix, separator, where),
      keys.length >= MOST
        ? `only the newest ${count(MOST)} entries are grouped; search a prefix to see more`
        : entries(keys.length),
      all.length > shown.length ? ` · the largest ${MOST_GROUPS} of ${count(all.length)} groups` : "",
      log ? ` · ${LOG_NOTE}` : "",
    );
    if (!shown.length) {
      put(holder, state("empty", "No entry found", "Keys are searched by their beginning, and case matters."));
      return;
    }
    put(
      rows,
      shown.map((each) =>
        h(
          "tr",
          {},
          h(
            "td",
            { class: "mono key-cell measured" },
            bar(share(each.count)),
            h(
              "a",
              { href: each.isKey ? address("keys", each.name) : where(each.name) },
              visible(each.name),
              each.isKey ? null : h("span", { class: "about" }, "…"),
            ),
          ),
          h("td", { class: "num" }, count(each.count)),
        )
      ),
    );
    label(table);
    put(holder, table);
  }

  return { element, load };
}

/** Links to the groups above a prefix. */
function crumbs(prefix, separator, where) {
  const above = [h("a", { href: where("") }, "All keys"), " / "];
  for (
    let at = prefix.indexOf(separator);
    at >= 0 && at + separator.length < prefix.length;
    at = prefix.indexOf(separator, at + separator.length)
  ) {
    const part = prefix.slice(0, at + separator.length);
    above.push(h("a", { class: "mono", href: where(part) }, visible(part)), " / ");
  }
  return prefix ? [above, h("code", {}, visible(prefix)), " · "] : null;
}
