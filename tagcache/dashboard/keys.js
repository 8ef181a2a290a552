// Entries by the beginning of their key, or by their tags.

import { h, icon, put, segmented } from "./dom.js";
import { editEntry, entryPages, lines } from "./lists.js";
import { on } from "./live.js";

const MODES = [["prefix", "Prefix"], ["tag_any", "Any tag"], ["tag_all", "All tags"]];
const HINTS = { prefix: "Key begins with", tag_any: "Tags, with commas between them", tag_all: "Tags, with commas between them" };
const kept = { mode: "prefix", text: "" };

export function mount(container, signal) {
  const pages = entryPages(signal, { empty: "No entry fits", emptyDetail: "Keys are searched by their beginning, and case matters." });
  const field = h("input", { type: "search", class: "mono", spellcheck: "false", value: kept.text, placeholder: HINTS[kept.mode], "aria-label": HINTS[kept.mode] });
  const form = h("form", { class: "row toolbar", onsubmit: (event) => { event.preventDefault(); search(); } },
    segmented("Search by", MODES, kept.mode, (mode) => {
      kept.mode = mode;
      field.placeholder = HINTS[mode];
      field.setAttribute("aria-label", HINTS[mode]);
      search();
    }),
    h("label", { class: "field-icon grow" }, icon("search"), field),
    h("button", { type: "submit" }, "Search"));
  field.addEventListener("search", () => search());
  put(container,
    h("div", { class: "head" }, h("h1", {}, "Keys"), h("p", { class: "about" }, "the newest first"), h("span", { class: "spring" }),
      h("button", { type: "button", class: "primary", onclick: () => editEntry(null, pages.reload) }, icon("plus"), "New entry")),
    form, pages.element);

  function search() {
    kept.text = field.value;
    const tags = lines(field.value.replaceAll(",", "\n")).map((tag) => tag.trim());
    return pages.load(kept.mode === "prefix" ? { q: field.value } : { [kept.mode]: tags });
  }

  on(["history"], () => pages.reload(), signal);
  search();
}
