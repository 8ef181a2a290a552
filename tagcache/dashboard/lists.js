// Tables of entries, pages of them, and the dialogs that change them: for keys and for tags alike.

import { post } from "./api.js";
import { button, note, open } from "./dialog.js";
import { h, label, put, segmented, state, text } from "./dom.js";
import { ago, bytes, count, entries, moment, plural, ttl, visible } from "./format.js";

export const PAGE = 50;

/** Lines of a text field, without empty ones and without repetition. */
export function lines(value) {
  return [...new Set(value.split("\n").map((line) => line.replace(/\r$/, "")).filter((line) => line !== ""))];
}

export function chips(tags, most = 4) {
  if (!tags.length) return h("span", { class: "about" }, "none");
  return h("span", { class: "chips" },
    tags.slice(0, most).map((tag) => h("a", { class: "chip", href: `#/tags/${encodeURIComponent(tag)}`, title: visible(tag) }, visible(tag))),
    tags.length > most ? h("span", { class: "about" }, `+${tags.length - most}`) : null);
}

/**
 * A table of what a search finds, a page at a time. `search` is the body of POST /search, without limit
 * and offset. Returns {element, load(search), reload()}.
 */
export function entryPages(signal, { empty, emptyDetail, changed = () => {} }) {
  const body = h("tbody");
  const table = h("table", { class: "data stacked entries" },
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Key"), h("th", { scope: "col" }, "Tags"), h("th", { scope: "col", class: "num" }, "Time to live"), h("th", { scope: "col", class: "num" }, "Stored"))), body);
  const holder = h("div", { class: "scroll" });
  const where = h("span", { class: "about", role: "status" });
  const previous = h("button", { type: "button", onclick: () => go(offset - PAGE) }, "Previous");
  const next = h("button", { type: "button", onclick: () => go(offset + PAGE) }, "Next");
  const pager = h("div", { class: "pager" }, where, h("span", { class: "spring" }), previous, next);
  const element = h("div", { class: "card" }, holder, pager);
  let query = {};
  let offset = 0;
  let asked = 0;

  async function go(to) {
    offset = Math.max(0, to);
    const mine = (asked += 1);
    holder.setAttribute("aria-busy", "true");
    if (!table.isConnected) put(holder, state("loading", "Looking…"));
    try {
      // One more than is shown tells whether there is a next page.
      const found = (await post("/search", { ...query, limit: PAGE + 1, offset }, signal)).keys;
      if (mine === asked) draw(found);
    } catch (error) {
      if (signal.aborted || mine !== asked) return;
      put(holder, state("error", "The entries can not be shown", error.message, button("Try again", () => go(offset))));
      pager.hidden = true;
    } finally {
      if (mine === asked) holder.removeAttribute("aria-busy");
    }
  }

  function draw(found) {
    const rows = found.slice(0, PAGE);
    pager.hidden = !rows.length && !offset;
    text(where, rows.length ? `${count(offset + 1)}–${count(offset + rows.length)}` : "Nothing on this page");
    previous.disabled = offset === 0;
    next.disabled = found.length <= PAGE;
    if (!rows.length) { put(holder, state("empty", empty, emptyDetail)); return; }
    const now = Date.now();
    put(body, rows.map((row) => h("tr", {},
      h("td", { class: "mono key-cell" }, h("button", { type: "button", class: "link", title: visible(row.key), onclick: () => showEntry(row.key, () => { go(offset); changed(); }) }, visible(row.key))),
      h("td", {}, chips(row.tags)),
      h("td", { class: "num" }, ttl(row.ttl_ms)),
      h("td", { class: "num", title: moment(row.created_ms / 1000) }, ago((now - row.created_ms) / 1000)))));
    label(table);
    if (!table.isConnected) put(holder, table);
  }

  return { element, load: (search) => { query = search; return go(0); }, reload: () => go(offset) };
}

function decode(base64) {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

/** Bytes as a hex dump, 16 a line. */
export function hexDump(data) {
  const found = [];
  for (let start = 0; start < data.length; start += 16) {
    const some = [...data.subarray(start, start + 16)];
    const hex = some.map((byte) => byte.toString(16).padStart(2, "0"));
    const left = hex.slice(0, 8).join(" ").padEnd(23);
    const right = hex.slice(8).join(" ").padEnd(23);
    found.push(`${start.toString(16).padStart(8, "0")}  ${left}  ${right}  ${some.map((byte) => (byte >= 32 && byte < 127 ? String.fromCharCode(byte) : "·")).join("")}`);
  }
  return found.join("\n");
}

/** JSON laid out, every number as it is written; null if the text is not JSON. */
export function prettyJson(source) {
  if (!/^\s*[[{]/.test(source)) return null;
  try {
    JSON.parse(source);
  } catch {
    return null;
  }
  let depth = 0;
  const out = [];
  const indent = () => `\n${"  ".repeat(depth)}`;
  const tokens = source.match(/"(?:[^"\\]|\\.)*"|[[\]{},:]|[^\s[\]{},:"]+/g) ?? [];
  tokens.forEach((token, index) => {
    if (token === "{" || token === "[") {
      out.push(token);
      if (!/^[\]}]$/.test(tokens[index + 1])) { depth += 1; out.push(indent()); }
    } else if (token === "}" || token === "]") {
      if (!/^[[{]$/.test(tokens[index - 1])) { depth -= 1; out.push(indent()); }
      out.push(token);
    } else if (token === ",") out.push(",", indent());
    else if (token === ":") out.push(": ");
    else out.push(token);
  });
  return out.join("");
}

const MOST_SHOWN = 256 * 1024;

/** Show an entry in a dialog; `changed` is called when it was changed or removed. */
export async function showEntry(key, changed) {
  const content = h("div", {}, state("loading", "Reading the entry…"));
  const foot = h("div", { class: "row end" });
  const dialog = open(visible(key), { wide: true, body: [content, foot] });
  dialog.querySelector("h2").classList.add("mono");
  let item;
  try {
    // Raw, for a number parsed here could lose digits.
    [item] = (await post("/keys/bulk/get?raw=true", { keys: [key] })).items;
  } catch (error) {
    put(content, state("error", "The entry can not be read", error.message));
    return;
  }
  if (!item) {
    put(content, key.includes("\ufffd")
      ? state("empty", "This key is not text", "It was stored over the line protocol, and only that can name it.")
      : state("empty", "The entry is gone", "It was removed, or has expired."));
    changed();
    return;
  }
  if (item.error) {
    put(content, state("error", "The value cannot be shown", "It is compressed, and has more bytes than cache.max_value_length."));
    return;
  }
  const binary = item.value_base64 !== undefined;
  const data = binary ? decode(item.value_base64) : new TextEncoder().encode(item.value);
  const json = binary ? null : prettyJson(item.value);
  const views = [];
  if (json !== null) views.push(["json", "JSON"]);
  if (!binary) views.push(["text", "Text"]);
  views.push(["hex", "Hex"]);
  const shown = h("pre", { class: "value-view", tabindex: "0", "aria-label": "Value" });
  const cut = h("p", { class: "about" });
  const show = (view) => {
    const whole = view === "hex" ? hexDump(data.subarray(0, MOST_SHOWN / 4)) : view === "json" ? json : item.value;
    shown.dataset.view = view;
    text(shown, whole.slice(0, MOST_SHOWN));
    const part = view === "hex" ? data.length > MOST_SHOWN / 4 : whole.length > MOST_SHOWN;
    text(cut, part ? `Only the beginning is shown; the value has ${bytes(data.length)}.` : data.length ? "" : "The value is empty.");
  };
  const left = h("dd", {}, ttl(item.ttl_ms));
  const end = item.ttl_ms === null ? null : Date.now() + item.ttl_ms;
  const timer = end === null ? 0 : setInterval(() => {
    const now = end - Date.now();
    text(left, now > 0 ? ttl(now) : "expired");
    if (now <= 0 || !dialog.isConnected) clearInterval(timer);
  }, 1000);
  put(content,
    h("dl", { class: "facts" },
      h("div", {}, h("dt", {}, "Size"), h("dd", {}, bytes(data.length))),
      h("div", {}, h("dt", {}, "Time to live"), left),
      h("div", {}, h("dt", {}, "Stored"), h("dd", {}, moment(item.created_ms / 1000))),
      h("div", { class: "tags-fact" }, h("dt", {}, plural(item.tags.length, "tag")), h("dd", {}, chips(item.tags, 100)))),
    h("div", { class: "row value-head" }, h("h3", {}, "Value"), binary ? h("span", { class: "badge" }, "binary") : null, h("span", { class: "spring" }), segmented("View of the value", views, views[0][0], show)),
    shown, cut);
  content.addEventListener("click", (event) => { if (event.target.closest("a")) dialog.close(); });
  show(views[0][0]);
  put(foot,
    button("Delete", () => confirmDelete(key, () => { dialog.close(); changed(); }), "danger quiet"),
    h("span", { class: "spring" }),
    h("button", { type: "button", onclick: () => dialog.close() }, "Done"),
    h("button", { type: "button", class: "primary", onclick: () => { dialog.close(); editEntry({ ...item, binary, left: end === null ? null : end - Date.now() }, changed); } }, binary ? "Replace" : "Edit"));
}

function confirmDelete(key, done) {
  const act = button("Delete entry", async () => {
    try {
      const { count: removed } = await post("/invalidate/keys", { keys: [key] });
      note(removed ? "The entry is deleted." : "The entry was gone already.");
      dialog.close();
      done();
    } catch (error) {
      note(`Not deleted: ${error.message}`, "bad");
    }
  }, "danger");
  const dialog = open("Delete this entry?", {
    body: [h("p", {}, "The entry ", h("code", {}, visible(key)), " is removed at once, for every client.")],
    actions: [h("button", { type: "button", onclick: () => dialog.close() }, "Keep it"), act],
  });
}

/** Edit an entry, or make one where `item` is null. */
export function editEntry(item, changed) {
  const problem = h("p", { class: "form-error", role: "alert" });
  const key = h("input", { type: "text", name: "key", class: "mono", required: true, value: item ? item.key : "", readonly: Boolean(item), autocomplete: "off", spellcheck: "false" });
  const value = h("textarea", { name: "value", class: "mono", rows: "10", spellcheck: "false", value: item && !item.binary ? item.value : "" });
  const tags = h("textarea", { name: "tags", class: "mono", rows: "3", spellcheck: "false", value: item ? item.tags.join("\n") : "" });
  const seconds = h("input", { type: "number", name: "ttl", min: "0", step: "any", inputmode: "decimal", value: item && item.left !== null ? String(Math.max(1, Math.round(item.left / 1000))) : "" });
  const form = h("form", { id: "entry-form", class: "form" },
    item?.binary ? h("p", { class: "warning" }, "The value is binary, and can be replaced here by text only.") : null,
    item?.value?.includes("\r") ? h("p", { class: "warning" }, "The value has line ends of CR LF; saved here, they become LF.") : null,
    h("label", {}, h("span", {}, "Key"), key),
    h("label", {}, h("span", {}, "Value"), value),
    h("label", {}, h("span", {}, "Tags ", h("span", { class: "about" }, "one a line")), tags),
    h("label", { class: "short" }, h("span", {}, "Time to live ", h("span", { class: "about" }, "in seconds; empty: the server's default")), seconds),
    problem);
  const save = button(item ? "Save" : "Store", async () => {
    if (!form.reportValidity()) return;
    const ms = seconds.value === "" ? null : Math.round(Number(seconds.value) * 1000);
    try {
      await post("/put", { key: key.value, value: value.value, tags: lines(tags.value), ttl_ms: ms || null });
      note(item ? "The entry is saved." : "The entry is stored.");
      dialog.close();
      changed();
    } catch (error) {
      text(problem, error.message);
    }
  }, "primary");
  form.addEventListener("submit", (event) => { event.preventDefault(); save.click(); });
  const dialog = open(item ? "Edit entry" : "New entry", {
    wide: true,
    body: [form],
    actions: [h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"), save],
  });
  (item ? value : key).focus();
}

/** Invalidate by tags, after a look at how many entries would go. */
export function invalidateTags(tags, done) {
  let mode = "any";
  let asked = 0;
  const field = h("textarea", { name: "tags", class: "mono", rows: String(Math.min(Math.max(tags.length, 2), 8)), spellcheck: "false", value: tags.join("\n"), oninput: () => { clearTimeout(timer); timer = setTimeout(preview, 250); } });
  let timer = 0;
  const modes = h("div", { class: "row" }, segmented("Which entries", [["any", "Any of the tags"], ["all", "All of the tags"]], mode, (chosen) => { mode = chosen; preview(); }));
  const outcome = h("p", { class: "preview", role: "status", "aria-live": "polite" });
  const act = button("Invalidate", async () => {
    try {
      const { count: removed } = await post("/invalidate/tags", { tags: lines(field.value), mode });
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
    if (!wanted.length) { put(outcome, "Name at least one tag."); text(act, "Invalidate"); return; }
    put(outcome, "Counting…");
    try {
      const { count: number } = await post("/invalidate/tags?dry_run=true", { tags: wanted, mode });
      if (mine !== asked) return;
      put(outcome, h("strong", {}, entries(number)), " would go.");
      text(act, number ? `Invalidate ${entries(number)}` : "Nothing to invalidate");
      act.disabled = number === 0;
    } catch (error) {
      if (mine === asked) put(outcome, error.message);
    }
  }

  const dialog = open(tags.length === 1 ? "Invalidate a tag" : "Invalidate tags", {
    body: [
      h("label", { class: "form" }, h("span", {}, "Tags ", h("span", { class: "about" }, "one a line")), field),
      modes, outcome,
    ],
    actions: [h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"), act],
  });
  preview();
}
