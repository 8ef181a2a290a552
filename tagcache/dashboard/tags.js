// The tags with the most of something, the keys of one, and invalidating them.

import { get, post } from "./api.js";
import { button } from "./dialog.js";
import { h, icon, label, put, segmented, state, text } from "./dom.js";
import { ago, bytes, compact, count, plural, visible } from "./format.js";
import { entryPages, invalidateTags } from "./lists.js";
import { on } from "./live.js";

const MOST = 100;
const SORTS = [["keys", "Keys"], ["bytes", "Bytes"], ["hits", "Hits"]];
let sort = "keys";

export function mount(container, signal, tag) {
  if (tag === undefined) list(container, signal);
  else one(container, signal, tag);
}

function list(container, signal) {
  const chosen = new Set();
  let tags = null;
  let asked = 0;
  const prefix = h("input", { type: "search", placeholder: "Begins with", "aria-label": "Tags that begin with", class: "mono", spellcheck: "false", oninput: () => { clearTimeout(timer); timer = setTimeout(load, 250); } });
  let timer = 0;
  const told = h("p", { class: "about", role: "status" });
  const body = h("tbody");
  const table = h("table", { class: "data stacked tags" },
    h("thead", {}, h("tr", {},
      h("th", { scope: "col", class: "check" }, h("span", { class: "hidden" }, "Choose")),
      h("th", { scope: "col" }, "Tag"),
      ...["Keys", "Bytes", "Hits"].map((name) => h("th", { scope: "col", class: "num", title: name === "Hits" ? "estimated from a sample" : null }, name)),
      h("th", { scope: "col", class: "num", title: "Look-ups of keys that an invalidation of the tag had removed" }, "Misses after"),
      h("th", { scope: "col", class: "num" }, "Invalidated"),
      h("th", { scope: "col", class: "num" }, "Last"))), body);
  const holder = h("div", { class: "card scroll" }, state("loading", "Looking at the tags…"));
  const act = h("button", { type: "button", class: "outline", onclick: () => invalidateTags([...chosen], () => { chosen.clear(); load(); }) }, "Invalidate…");
  const bar = h("div", { class: "row selection" }, act);
  put(container,
    h("div", { class: "head" }, h("h1", {}, "Tags"), told, h("span", { class: "spring" }), bar, button(icon("refresh"), load, "plain")),
    h("div", { class: "row toolbar" }, h("label", { class: "field-icon" }, icon("search"), prefix), h("span", { class: "spring" }), h("span", { class: "about" }, "Top by"), segmented("Top by", SORTS, sort, (value) => { sort = value; load(); })),
    holder);
  container.querySelector("button.plain").setAttribute("aria-label", "Refresh");

  async function load() {
    const mine = (asked += 1);
    holder.setAttribute("aria-busy", "true");
    try {
      const found = (await get(`/tags?limit=${MOST}&sort=${sort}&prefix=${encodeURIComponent(prefix.value)}`, signal)).tags;
      if (mine !== asked) return;
      tags = found;
      draw();
    } catch (error) {
      if (!signal.aborted && mine === asked) put(holder, state("error", "The tags can not be shown", error.message, button("Try again", load)));
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
    text(told, tags.length === MOST ? `the top ${MOST}` : plural(tags.length, "tag"));
    for (const name of [...chosen]) if (!tags.some((each) => each.name === name)) chosen.delete(name);
    choose("", false);
    if (!tags.length) {
      put(holder, prefix.value ? state("empty", "No tag begins with that") : state("empty", "There are no tags yet", "A tag exists while an entry carries it."));
      return;
    }
    const most = Math.max(...tags.map((each) => each[sort]), 1);
    put(body, tags.map((each) => {
      const share = h("span", { class: "bar", "aria-hidden": "true" });
      share.style.width = `${(each[sort] / most) * 100}%`;
      const measured = (name, value) => h("td", { class: `num ${name === sort ? "by" : ""}` }, value);
      return h("tr", {},
        h("td", { class: "check" }, h("input", { type: "checkbox", "aria-label": `Choose ${visible(each.name)}`, checked: chosen.has(each.name), onchange: (event) => choose(each.name, event.target.checked) })),
        h("td", { class: "mono key-cell measured" }, share, h("a", { href: `#/tags/${encodeURIComponent(each.name)}`, title: visible(each.name) }, visible(each.name))),
        measured("keys", count(each.keys)), measured("bytes", bytes(each.bytes)), measured("hits", compact(each.hits)),
        h("td", { class: "num" }, compact(each.misses_after_invalidation)),
        h("td", { class: "num", title: plural(each.invalidations, "invalidation") }, count(each.invalidated)),
        h("td", { class: "num" }, each.seconds_since_invalidation === null ? "never" : ago(each.seconds_since_invalidation)));
    }));
    label(table);
    if (!table.isConnected) put(holder, table);
  }

  on(["history"], load, signal);
  load();
}

function one(container, signal, tag) {
  const told = h("p", { class: "about", role: "status" });
  const pages = entryPages(signal, { empty: "No entry carries this tag", emptyDetail: "A tag without entries does not exist.", changed: () => look() });
  put(container,
    h("p", { class: "crumbs" }, h("a", { href: "#/tags" }, "Tags"), " / "),
    h("div", { class: "head" }, h("h1", { class: "mono" }, visible(tag)), told, h("span", { class: "spring" }),
      h("button", { type: "button", class: "danger", onclick: () => invalidateTags([tag], () => { pages.reload(); look(); }) }, "Invalidate…")),
    pages.element);

  async function look() {
    try {
      const [{ count: keys }, { tags }] = await Promise.all([
        post("/invalidate/tags?dry_run=true", { tags: [tag] }, signal),
        get(`/tags?limit=${MOST}&prefix=${encodeURIComponent(tag)}`, signal),
      ]);
      // Where very many tags begin like this one, it may not be among the first.
      const seen = tags.find((each) => each.name === tag);
      text(told, `${plural(keys, "key")}${seen ? ` · ${bytes(seen.bytes)} · ${compact(seen.hits)} hits` : ""}`);
    } catch {
      text(told, "");
    }
  }

  on(["history"], () => pages.reload(), signal);
  pages.load({ tag_any: [tag] });
  look();
}
