// One entry: a page with its value, and the dialogs that change it.

import { post } from "./api.js";
import { button, note, open } from "./dialog.js";
import { h, put, segmented, state, text } from "./dom.js";
import { bytes, moment, plural, ttl, visible } from "./format.js";
import { chips, lines } from "./lists.js";
import { on } from "./live.js";
import { address, inDatabase, titled } from "./route.js";

const MOST_SHOWN = 256 * 1024;

function decode(base64) {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

/** Format bytes as a hex dump, 16 bytes per line. */
export function hexDump(data) {
  const found = [];
  for (let start = 0; start < data.length; start += 16) {
    const some = [...data.subarray(start, start + 16)];
    const hex = some.map((byte) => byte.toString(16).padStart(2, "0"));
    const left = hex.slice(0, 8).join(" ").padEnd(23);
    const right = hex.slice(8).join(" ").padEnd(23);
    found.push(
      `${start.toString(16).padStart(8, "0")}  ${left}  ${right}  ${
        some.map((byte) => (byte >= 32 && byte < 127 ? String.fromCharCode(byte) : "·")).join("")
      }`,
    );
  }
  return found.join("\n");
}

/** Indent JSON, and keep every number as it was written. Returns null if the text is not JSON. */
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
      if (!/^[\]}]$/.test(tokens[index + 1])) {
        depth += 1;
        out.push(indent());
      }
    } else if (token === "}" || token === "]") {
      if (!/^[[{]$/.test(tokens[index - 1])) {
        depth -= 1;
        out.push(indent());
      }
      out.push(token);
    } else if (token === ",") out.push(",", indent());
    else if (token === ":") out.push(": ");
    else out.push(token);
  });
  return out.join("");
}

/** The value of an entry, with a choice of the formats that fit it. */
function valueParts(item) {
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
    text(
      cut,
      part
        ? `Only the beginning is shown. The value has ${bytes(data.length)}.`
        : data.length
        ? ""
        : "The value is empty.",
    );
  };
  show(views[0][0]);
  const head = h(
    "div",
    { class: "row value-head" },
    h("h2", {}, "Value"),
    binary ? h("span", { class: "badge" }, "binary") : null,
    h("span", { class: "spring" }),
    segmented("View of the value", views, views[0][0], show),
  );
  return { size: data.length, elements: [head, shown, cut] };
}

/** The page of one entry; `#/keys/KEY`. */
export function mountEntry(container, signal, key) {
  const content = h("div", { class: "card entry" }, state("loading", "Reading the entry…"));
  const actions = h("div", { class: "row", hidden: true });
  const left = h("dd", {});
  let item = null;
  let end = null;
  put(
    container,
    h("p", { class: "crumbs" }, h("a", { href: address("keys") }, "Keys"), " / "),
    h("div", { class: "head" }, h("h1", { class: "mono" }, visible(key)), h("span", { class: "spring" }), actions),
    content,
  );
  put(
    actions,
    h("button", {
      type: "button",
      class: "outline",
      onclick: () =>
        confirmDelete(key, () => {
          location.hash = address("keys");
        }),
    }, "Delete"),
    h("button", {
      type: "button",
      class: "primary",
      onclick: () => editEntry({ ...item, left: end === null ? null : end - Date.now() }, load),
    }, "Edit"),
  );

  async function load() {
    try {
      // Keep numbers as text, because JavaScript would lose digits of large ones.
      [item] = (await post(inDatabase("/keys/bulk/get?raw=true"), { keys: [key] }, signal)).items;
      draw();
    } catch (error) {
      if (signal.aborted) return;
      actions.hidden = true;
      put(content, state("error", "The entry cannot be read", error.message, button("Try again", load)));
    }
  }

  function draw() {
    actions.hidden = !item || item.error !== undefined;
    if (item?.error) {
      put(
        content,
        state(
          "error",
          "The value cannot be shown",
          "It is compressed, and has more bytes than cache.max_value_length.",
        ),
      );
      return;
    }
    if (!item) {
      put(
        content,
        key.includes("\ufffd")
          ? state(
            "empty",
            "This key is not text",
            "It was stored over the line protocol, and only the line protocol can name it.",
          )
          : state("empty", "There is no such entry", "It was removed, has expired, or was never stored."),
      );
      return;
    }
    const value = valueParts(item);
    end = item.ttl_ms === null ? null : Date.now() + item.ttl_ms;
    tick();
    put(
      content,
      h(
        "dl",
        { class: "facts" },
        h("div", {}, h("dt", {}, "Size of the value"), h("dd", {}, bytes(value.size))),
        h("div", {}, h("dt", {}, "Time to live"), left),
        h("div", {}, h("dt", {}, "Stored"), h("dd", {}, moment(item.created_ms / 1000))),
        h(
          "div",
          { class: "tags-fact" },
          h("dt", {}, plural(item.tags.length, "tag")),
          h("dd", {}, chips(item.tags, 100)),
        ),
      ),
      value.elements,
    );
  }

  function tick() {
    const now = end === null ? null : end - Date.now();
    text(left, now === null || now > 0 ? ttl(now) : "expired");
  }

  const timer = setInterval(tick, 1000);
  signal.addEventListener("abort", () => clearInterval(timer), { once: true });
  on(["history"], load, signal);
  load();
}

function confirmDelete(key, done) {
  const act = button("Delete entry", async () => {
    try {
      const { count: removed } = await post(inDatabase("/keys/bulk/delete"), { keys: [key] });
      note(removed ? "The entry is deleted." : "The entry no longer existed.");
      dialog.close();
      done();
    } catch (error) {
      note(`Not deleted: ${error.message}`, "bad");
    }
  }, "danger");
  const dialog = open(titled("Delete this entry?"), {
    body: [h("p", {}, "The entry ", h("code", {}, visible(key)), " is removed immediately, for every client.")],
    actions: [h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"), act],
  });
}

/** Edit an entry, or create one if `item` is null. */
export function editEntry(item, changed) {
  const binary = item?.value_base64 !== undefined;
  const problem = h("p", { class: "form-error", role: "alert" });
  const key = h("input", {
    type: "text",
    name: "key",
    class: "mono",
    required: true,
    value: item ? item.key : "",
    readonly: Boolean(item),
    autocomplete: "off",
    spellcheck: "false",
  });
  const value = h("textarea", {
    name: "value",
    class: "mono",
    rows: "10",
    spellcheck: "false",
    value: item && !binary ? item.value : "",
  });
  const tags = h("textarea", {
    name: "tags",
    class: "mono",
    rows: "3",
    spellcheck: "false",
    value: item ? item.tags.join("\n") : "",
  });
  const seconds = h("input", {
    type: "number",
    name: "ttl",
    min: "0",
    step: "any",
    inputmode: "decimal",
    value: item && item.left !== null ? String(Math.max(1, Math.round(item.left / 1000))) : "",
  });
  const form = h(
    "form",
    { id: "entry-form", class: "form" },
    binary ? h("p", { class: "warning" }, "The value is binary. Here it can only be replaced with text.") : null,
    item?.value?.includes("\r")
      ? h("p", { class: "warning" }, "The value has CR LF line endings. Saving it here changes them to LF.")
      : null,
    h("label", {}, h("span", {}, "Key"), key),
    h("label", {}, h("span", {}, "Value"), value),
    h("label", {}, h("span", {}, "Tags ", h("span", { class: "about" }, "one per line")), tags),
    h(
      "label",
      { class: "short" },
      h("span", {}, "Time to live ", h("span", { class: "about" }, "in seconds; empty: the default of the server")),
      seconds,
    ),
    problem,
  );
  const save = button(item ? "Save" : "Store", async () => {
    if (!form.reportValidity()) return;
    const ms = seconds.value === "" ? null : Math.round(Number(seconds.value) * 1000);
    try {
      await post(inDatabase("/put"), {
        key: key.value,
        value: value.value,
        tags: lines(tags.value),
        ttl_ms: ms || null,
      });
      note(item ? "The entry is saved." : "The entry is stored.");
      dialog.close();
      changed();
    } catch (error) {
      text(problem, error.message);
    }
  }, "primary");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    save.click();
  });
  const dialog = open(titled(item ? "Edit entry" : "New entry"), {
    wide: true,
    body: [form],
    actions: [h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"), save],
  });
  (item ? value : key).focus();
}
