// Lists the largest tags and the entries of one tag, and invalidates tags.

import { get, post } from "./api.js";
import { bar, LOG_NOTE, scale } from "./bars.js";
import { button, note, open } from "./dialog.js";
import { h, icon, label, put, segmented, state, text } from "./dom.js";
import { ago, bytes, compact, count, entries, plural, visible } from "./format.js";
import { entryPages, lines } from "./lists.js";
import { on } from "./live.js";
import { address, inDatabase, titled } from "./route.js";

const MOST = 100;
export const SORTS = [["keys", "Keys"], ["bytes", "Size"], ["hits", "Hits"]];
const ABOUT = { Size: "Keys and values together", Hits: "Estimated from a sample" };
let sort = "keys";

export function mount(container, signal, tag, query) {
  if (tag === undefined) list(container, signal);
  else one(container, signal, tag, Math.max(0, Math.floor(Number(query.get("from"))) || 0));
}

function list(container, signal) {
  const chosen = new Set();
  let tags = null;
  let asked = 0;
  const prefix = h("input", {
    type: "search",
    placeholder: "Prefix",
    "aria-label": "Tags with this prefix",
    class: "mono",
    spellcheck: "false",
    oninput: () => {
      clearTimeout(timer);
      timer = setTimeout(load, 250);
    },
  });
  let timer = 0;
  const told = h("p", { class: "about", role: "status" });
  const body = h("tbody");
  const table = h(
    "table",
    { class: "data stacked tags" },
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        h("th", { scope: "col", class: "check" }, h("span", { class: "hidden" }, "Select")),
        h("th", { scope: "col" }, "Tag"),
        ...["Keys", "Size", "Hits"].map((name) => h("th", { scope: "col", class: "num", title: ABOUT[name] }, name)),
        h(
          "th",
          { scope: "col", class: "num", title: "Reads of keys that an invalidation of the tag had removed" },
          "Misses since invalidation",
        ),
        h(
          "th",
          { scope: "col", class: "num", title: "Reads answered with an old value while a new one was computed" },
          "Stale served",
        ),
        h(
          "th",
          { scope: "col", class: "num", title: "Values that were outdated before they were stored" },
          "Fills refused",
        ),
        h(
          "th",
          { scope: "col", class: "num", title: "Entries that invalidations of the tag have removed" },
          "Entries invalidated",
        ),
        h("th", { scope: "col", class: "num" }, "Last invalidation"),
      ),
    ),
    body,
  );
  const holder = h("div", { class: "card scroll" }, state("loading", "Reading the tags…"));
  const act = h("button", {
    type: "button",
    class: "outline",
    onclick: () =>
      invalidateTags([...chosen], () => {
        chosen.clear();
        load();
      }),
  }, "Invalidate…");
  put(
    container,
    h(
      "div",
      { class: "head" },
      h("h1", {}, "Tags"),
      told,
      h("span", { class: "spring" }),
      act,
      button(icon("refresh"), load, "plain"),
    ),
    h(
      "div",
      { class: "row toolbar" },
      h("label", { class: "field-icon" }, icon("search"), prefix),
      h("span", { class: "spring" }),
      h("span", { class: "about" }, "Sort by"),
      segmented("Sort by", SORTS, sort, (value) => {
        sort = value;
        load();
      }),
    ),
    holder,
  );
  container.querySelector("button.plain").setAttribute("aria-label", "Refresh");

  async function load() {
    const mine = (asked += 1);
    holder.setAttribute("aria-busy", "true");
    try {
      const found =
        (await get(inDatabase(`/tags?limit=${MOST}&sort=${sort}&prefix=${encodeURIComponent(prefix.value)}`), signal))
          .tags;
      if (mine !== asked) return;
      tags = found;
      draw();
    } catch (error) {
      if (!signal.aborted && mine === asked) {
        put(holder, state("error", "The tags cannot be shown", error.message, button("Try again", load)));
      }
    } finally {
      if (mine === asked) holder.removeAttribute("aria-busy");
    }
  }

  function choose(name, on) {
    if (on) chosen.add(name);
    else chosen.delete(name);
    act.className = chosen.size ? "danger" : "outline";
    text(act, chosen.size ? `Invalidate ${plural(chosen.size, "tag")}…` : "Invalidate…");
  }

  function draw() {
    const { log, share } = scale(tags.map((each) => each[sort]));
    text(
      told,
      `${tags.length === MOST ? `the top ${MOST}` : plural(tags.length, "tag")}${log ? ` · ${LOG_NOTE}` : ""}`,
    );
    for (const name of [...chosen]) if (!tags.some((each) => each.name === name)) chosen.delete(name);
    choose("", false);
    if (!tags.length) {
      put(
        holder,
        prefix.value
          ? state("empty", "No tag has this prefix")
          : state("empty", "There are no tags yet", "A tag exists while an entry carries it."),
      );
      return;
    }
    put(
      body,
      tags.map((each) => {
        const measured = (name, value) => h("td", { class: `num ${name === sort ? "by" : ""}` }, value);
        return h(
          "tr",
          {},
          h(
            "td",
            { class: "check" },
            h("input", {
              type: "checkbox",
              "aria-label": `Select ${visible(each.name)}`,
              checked: chosen.has(each.name),
              onchange: (event) => choose(each.name, event.target.checked),
            }),
          ),
          h(
            "td",
            { class: "mono key-cell measured" },
            bar(share(each[sort])),
            h("a", { href: address("tags", each.name), title: visible(each.name) }, visible(each.name)),
          ),
          measured("keys", count(each.keys)),
          measured("bytes", bytes(each.bytes)),
          measured("hits", compact(each.hits)),
          h("td", { class: "num" }, compact(each.misses_after_invalidation)),
          h("td", { class: "num" }, compact(each.stale_served)),
          h("td", { class: "num" }, compact(each.fills_refused)),
          h("td", { class: "num", title: plural(each.invalidations, "invalidation") }, count(each.invalidated)),
          h(
            "td",
            { class: "num" },
            each.seconds_since_invalidation === null ? "never" : ago(each.seconds_since_invalidation),
          ),
        );
      }),
    );
    label(table);
    if (!table.isConnected) put(holder, table);
  }

  on(["history"], load, signal);
  load();
}

function one(container, signal, tag, from) {
  const told = h("p", { class: "about", role: "status" });
  const pages = entryPages(signal, {
    empty: "No entry carries this tag",
    emptyDetail: "A tag exists only while an entry carries it.",
    where: (offset) => address("tags", tag, { from: offset }),
  });
  put(
    container,
    h("p", { class: "crumbs" }, h("a", { href: address("tags") }, "Tags"), " / "),
    h(
      "div",
      { class: "head" },
      h("h1", { class: "mono" }, visible(tag)),
      told,
      h("span", { class: "spring" }),
      h("button", {
        type: "button",
        class: "danger",
        onclick: () =>
          invalidateTags([tag], () => {
            pages.reload();
            look();
          }),
      }, "Invalidate…"),
    ),
    pages.element,
  );

  async function look() {
    try {
      const [{ count: keys }, { tags }] = await Promise.all([
        post(inDatabase("/invalidate/tags?dry_run=true"), { tags: [tag] }, signal),
        get(inDatabase(`/tags?limit=${MOST}&prefix=${encodeURIComponent(tag)}`), signal),
      ]);
      // With very many tags of this prefix, the tag may not be in the list.
      const seen = tags.find((each) => each.name === tag);
      text(told, `${plural(keys, "key")}${seen ? ` · ${bytes(seen.bytes)} · ${compact(seen.hits)} hits` : ""}`);
    } catch {
      text(told, "");
    }
  }

  on(["history"], () => pages.reload(), signal);
  pages.load({ tag_any: [tag] }, from);
  look();
}

/** A dialog that invalidates tags, with a count of the entries to remove. */
function invalidateTags(tags, done) {
  let mode = "any";
  let asked = 0;
  const field = h("textarea", {
    name: "tags",
    class: "mono",
    rows: String(Math.min(Math.max(tags.length, 2), 8)),
    spellcheck: "false",
    value: tags.join("\n"),
    oninput: () => {
      clearTimeout(timer);
      timer = setTimeout(preview, 250);
    },
  });
  let timer = 0;
  const modes = h(
    "div",
    { class: "row" },
    segmented("Which entries", [["any", "Any of the tags"], ["all", "All of the tags"]], mode, (chosen) => {
      mode = chosen;
      preview();
    }),
  );
  const outcome = h("p", { class: "preview", role: "status", "aria-live": "polite" });
  const act = button("Invalidate", async () => {
    try {
      const { count: removed } = await post(inDatabase("/invalidate/tags"), { tags: lines(field.value), mode });
      note(`${entries(removed)} removed.`);
      dialog.close();
      done();
    } catch (error) {
      put(outcome, error.message);
    }
  }, "danger");

  async function preview() {
    const wanted = lines(field.value);
    const mine = (asked += 1);
    act.disabled = true;
    modes.hidden = wanted.length < 2;
    if (!wanted.length) {
      put(outcome, "Name at least one tag.");
      text(act, "Invalidate");
      return;
    }
    put(outcome, "Counting…");
    try {
      const { count: number } = await post(inDatabase("/invalidate/tags?dry_run=true"), { tags: wanted, mode });
      if (mine !== asked) return;
      put(outcome, h("strong", {}, entries(number)), " will be removed.");
      text(act, number ? `Invalidate ${entries(number)}` : "Nothing to invalidate");
      act.disabled = number === 0;
    } catch (error) {
      if (mine === asked) put(outcome, error.message);
    }
  }

  const dialog = open(titled(tags.length === 1 ? "Invalidate a tag" : "Invalidate tags"), {
    body: [
      h("label", { class: "form" }, h("span", {}, "Tags ", h("span", { class: "about" }, "one per line")), field),
      modes,
      outcome,
    ],
    actions: [h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"), act],
  });
  preview();
}
