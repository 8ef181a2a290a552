// Every knob: its value, where that came from, and what a change takes.

import { get } from "./api.js";
import { button } from "./dialog.js";
import { h, icon, put, state } from "./dom.js";
import { plural, visible } from "./format.js";
import { on } from "./live.js";

const ORIGINS = { default: "default", file: "file", environment: "environment" };

function shown(value) {
  if (Array.isArray(value)) return value.length ? value.join(", ") : "none";
  if (value === "") return "not set";
  return typeof value === "boolean" ? (value ? "true" : "false") : String(value);
}

export function mount(container, signal) {
  const told = h("p", { class: "about" });
  const filter = h("input", { type: "search", placeholder: "Name or value", "aria-label": "Filter knobs", oninput: () => draw() });
  const only = h("input", { type: "checkbox", onchange: () => draw() });
  const holder = h("div", { class: "sections" }, state("loading", "Reading the configuration…"));
  put(container,
    h("div", { class: "head" }, h("h1", {}, "Configuration"), told, h("span", { class: "spring" }),
      h("label", { class: "check-label" }, only, "Only what was set"),
      h("label", { class: "field-icon" }, icon("search"), filter)),
    holder);
  let answer = null;

  async function load() {
    try {
      const [knobs, info] = await Promise.all([get("/config", signal), get("/info", signal)]);
      answer = { ...knobs, pending_restart: info.server.pending_restart };
      draw();
    } catch (error) {
      if (!signal.aborted) put(holder, state("error", "The configuration can not be shown", error.message, button("Try again", load)));
    }
  }

  function draw() {
    if (!answer) return;
    put(told, answer.file ? ["from ", h("code", {}, visible(answer.file))] : "no file was read");
    const pending = new Set(answer.pending_restart);
    const wanted = filter.value.trim().toLowerCase();
    const fitting = answer.knobs.filter((knob) =>
      (!only.checked || knob.origin !== "default") && (!wanted || `${knob.section}.${knob.key} ${shown(knob.value)}`.toLowerCase().includes(wanted)));
    if (!fitting.length) { put(holder, h("div", { class: "card" }, state("empty", "No knob fits"))); return; }
    const sections = [...new Set(fitting.map((knob) => knob.section))];
    put(holder,
      pending.size ? h("p", { class: "warning" }, `${plural(pending.size, "change")} in the file will take effect at the next start: ${[...pending].join(", ")}.`) : null,
      sections.map((section) => h("section", { class: "card" },
        h("h2", { class: "mono" }, `[${section}]`),
        h("div", { class: "scroll" }, h("table", { class: "data stacked knobs" },
          h("thead", { class: "hidden" }, h("tr", {}, ["Knob", "Value", "From", "A change"].map((name) => h("th", { scope: "col" }, name)))),
          h("tbody", {}, fitting.filter((knob) => knob.section === section).map((knob) => {
            const masked = knob.value === "********";
            const value = shown(knob.value);
            const name = `${section}.${knob.key}`;
            return h("tr", { "data-knob": name, class: pending.has(name) ? "pending" : "" },
              h("th", { scope: "row", class: "mono" }, knob.key),
              h("td", { class: `mono value ${value === "not set" || value === "none" ? "unset" : ""}` }, masked ? h("span", { title: "a secret, which is never shown" }, "••••••••") : visible(value)),
              h("td", {}, h("span", { class: `badge origin ${knob.origin}` }, ORIGINS[knob.origin])),
              h("td", { class: knob.needs_restart ? "restart" : "about" }, knob.needs_restart ? "needs a restart" : "follows a reload"));
          })))))));
  }

  on(["history"], load, signal);
  load();
}
