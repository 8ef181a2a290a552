// All settings: value, source, description, and whether a change needs a restart.

import { get } from "./api.js";
import { button } from "./dialog.js";
import { h, icon, put, state } from "./dom.js";
import { plural, visible } from "./format.js";
import { on } from "./live.js";

function shown(value) {
  if (Array.isArray(value)) return value.length ? value.join(", ") : "none";
  if (value === "") return "not set";
  return typeof value === "boolean" ? (value ? "true" : "false") : String(value);
}

/** Group the knobs that share a description. */
function described(knobs) {
  const found = [];
  for (const knob of knobs) {
    if (found.at(-1)?.[0].description === knob.description) found.at(-1).push(knob);
    else found.push([knob]);
  }
  return found;
}

function knobGroup(knobs, pending) {
  const id = `about-${knobs[0].section}-${knobs[0].key}`;
  return h(
    "tbody",
    {},
    knobs.map((knob) => knobRow(knob, pending, id)),
    h("tr", { class: "description" }, h("td", { id, colspan: "3" }, h("p", {}, visible(knobs[0].description)))),
  );
}

function knobRow(knob, pending, about) {
  const masked = knob.value === "********";
  const value = shown(knob.value);
  const name = `${knob.section}.${knob.key}`;
  return h(
    "tr",
    { "data-knob": name, class: pending.has(name) ? "pending" : "" },
    h("th", { scope: "row", class: "mono", "aria-describedby": about }, knob.key),
    h(
      "td",
      { class: `mono value ${value === "not set" || value === "none" ? "unset" : ""}` },
      masked ? h("span", { title: "a secret, which is never shown" }, "••••••••") : visible(value),
    ),
    h(
      "td",
      { class: "about" },
      knob.origin === "default"
        ? "default"
        : h("span", { class: `badge origin ${knob.origin}` }, `from the ${knob.origin}`),
      knob.needs_restart ? " · needs a restart" : " · applies on reload",
    ),
  );
}

export function mount(container, signal) {
  const told = h("p", { class: "about" });
  const filter = h("input", {
    type: "search",
    placeholder: "Name or description",
    "aria-label": "Filter settings",
    oninput: () => draw(),
  });
  const only = h("input", { type: "checkbox", onchange: () => draw() });
  const holder = h("div", { class: "sections" }, state("loading", "Reading the configuration…"));
  put(
    container,
    h(
      "div",
      { class: "head" },
      h("h1", {}, "Configuration"),
      told,
      h("span", { class: "spring" }),
      h("label", { class: "check-label" }, only, "Only changed settings"),
      h("label", { class: "field-icon" }, icon("search"), filter),
    ),
    holder,
  );
  let answer = null;

  async function load() {
    try {
      const [knobs, info] = await Promise.all([get("/config", signal), get("/info", signal)]);
      answer = { ...knobs, pending_restart: info.server.pending_restart };
      draw();
    } catch (error) {
      if (!signal.aborted) {
        put(holder, state("error", "The configuration cannot be shown", error.message, button("Try again", load)));
      }
    }
  }

  function draw() {
    if (!answer) return;
    put(told, answer.file ? ["from ", h("code", {}, visible(answer.file))] : "without a configuration file");
    const pending = new Set(answer.pending_restart);
    const wanted = filter.value.trim().toLowerCase();
    const fitting = answer.knobs.filter((knob) =>
      (!only.checked || knob.origin !== "default") &&
      (!wanted || `${knob.section}.${knob.key} ${shown(knob.value)} ${knob.description}`.toLowerCase().includes(wanted))
    );
    if (!fitting.length) {
      put(holder, h("div", { class: "card" }, state("empty", "No setting matches")));
      return;
    }
    const sections = [...new Set(fitting.map((knob) => knob.section))];
    put(
      holder,
      pending.size
        ? h(
          "p",
          { class: "warning" },
          `${plural(pending.size, "change")} in the file will take effect at the next start: ${
            [...pending].join(", ")
          }.`,
        )
        : null,
      sections.map((section) =>
        h(
          "section",
          { class: "card" },
          h("h2", { class: "mono" }, `[${section}]`),
          h(
            "table",
            { class: "data knobs" },
            h(
              "thead",
              { class: "hidden" },
              h("tr", {}, ["Setting", "Value", "Source and effect"].map((name) => h("th", { scope: "col" }, name))),
            ),
            described(fitting.filter((knob) => knob.section === section)).map((group) => knobGroup(group, pending)),
          ),
        )
      ),
    );
  }

  on(["history"], load, signal);
  load();
}
