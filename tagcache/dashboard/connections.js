// Who is connected, with what was asked of each socket and what holds.

import { get, post } from "./api.js";
import { button, note, open } from "./dialog.js";
import { h, icon, put, state, text } from "./dom.js";
import { bytes, count, duration, plural, visible } from "./format.js";
import { live, on } from "./live.js";

const MOST_SHOWN = 300;
const MANY = 500;

/** How an option stands: "same", "left" to the system, "rounded" up, "differs" or "refused". */
export function standing(name, { asked, effective, error }) {
  if (error) return "refused";
  if (asked === null) return "left";
  if (asked === effective) return "same";
  // The kernel doubles buffers and rounds these times up.
  if (/buffer_bytes$|^defer_accept/.test(name) && effective > asked) return "rounded";
  return "differs";
}

const WORDS = { same: "as asked", left: "left to the system", rounded: "rounded up by the system", differs: "differs", refused: "refused" };

function shown(value) {
  if (value === null) return "–";
  return typeof value === "boolean" ? (value ? "on" : "off") : count(value);
}

function optionsTable(options) {
  return h("table", { class: "options" },
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Socket option"), h("th", { scope: "col", class: "num" }, "Asked"), h("th", { scope: "col", class: "num" }, "In effect"), h("th", { scope: "col" }, "Standing"))),
    h("tbody", {}, Object.entries(options).map(([name, option]) => {
      const how = standing(name, option);
      return h("tr", { class: how, "data-option": name },
        h("th", { scope: "row", class: "mono" }, name),
        h("td", { class: "num" }, option.asked === null ? "system" : shown(option.asked)),
        h("td", { class: "num" }, shown(option.effective)),
        h("td", {}, h("span", { class: `badge ${how}` }, option.error ? `${WORDS[how]}: ${option.error}` : WORDS[how])));
    })));
}

function summary(options) {
  const how = Object.entries(options).map(([name, option]) => standing(name, option));
  const off = how.filter((each) => each === "differs" || each === "refused").length;
  const rounded = how.filter((each) => each === "rounded").length;
  if (off) return ["differs", `${off} of ${how.length} differ`];
  if (rounded) return ["rounded", `${rounded} rounded up`];
  return how.length ? ["same", `all ${how.length} as asked`] : ["left", "none"];
}

export function mount(container, signal) {
  const filter = h("input", { type: "search", placeholder: "Address, listener or verb", "aria-label": "Filter connections", oninput: () => draw() });
  const told = h("p", { class: "about" });
  const body = h("tbody");
  const columns = [["ID", "num"], ["Peer"], ["Port"], ["Age", "num"], ["Idle", "num"], ["Commands", "num"], ["In", "num"], ["Out", "num"], ["Last verb"], ["Socket options", "whole"], ["", "end"]];
  const table = h("table", { class: "data stacked" }, h("thead", {}, h("tr", {}, columns.map(([name, kind = ""]) => h("th", { scope: "col", class: kind }, name || h("span", { class: "hidden" }, "Close"))))), body);
  const holder = h("div", { class: "card scroll" }, state("loading", "Asking who is connected…"));
  const listeners = h("div", { class: "listeners" });
  put(container,
    h("div", { class: "head" }, h("h1", {}, "Connections"), told, h("span", { class: "spring" }), h("label", { class: "field-icon" }, icon("search"), filter)),
    holder, h("h2", {}, "Listening sockets"), listeners);

  let connections = null;
  let asked = 0;
  let asking = false;
  const rows = new Map();

  function row(id) {
    const cells = columns.map(([name, kind = ""]) => h("td", { class: kind, "data-label": name }));
    const chevron = h("button", { type: "button", class: "disclose", "aria-expanded": "false" });
    const details = h("tr", { class: "details", hidden: true }, h("td", { colspan: columns.length }));
    chevron.addEventListener("click", () => {
      details.hidden = !details.hidden;
      chevron.setAttribute("aria-expanded", String(!details.hidden));
    });
    const badge = h("span", { class: "badge" });
    put(chevron, icon("chevron"), badge);
    put(cells[9], chevron);
    put(cells[10], h("button", { type: "button", class: "quiet danger", "aria-label": `Close connection ${id}`, onclick: () => confirm(id) }, "Close"));
    cells[1].classList.add("mono");
    cells[8].classList.add("mono");
    return { element: h("tr", { "data-id": id }, cells), details, cells, badge, chevron };
  }

  function update(one) {
    let there = rows.get(one.id);
    if (!there) {
      there = row(one.id);
      rows.set(one.id, there);
      put(there.details.firstChild, optionsTable(one.socket_options));
      const [how, what] = summary(one.socket_options);
      there.badge.className = `badge ${how}`;
      text(there.badge, what);
      there.chevron.setAttribute("aria-label", `Socket options of connection ${one.id}: ${what}`);
    }
    const values = [String(one.id), visible(one.peer), one.listener, duration(one.age_seconds), duration(one.idle_seconds), count(one.commands), bytes(one.bytes_in), bytes(one.bytes_out), one.last_verb ? visible(one.last_verb) : "–"];
    values.forEach((value, index) => text(there.cells[index], value));
    if (one.id === live.connection && !there.mine) {
      there.mine = true;
      there.element.classList.add("mine");
    }
    if (there.mine) text(there.cells[8], "this page");
    return there;
  }

  function draw() {
    if (connections === null) return;
    const wanted = filter.value.trim().toLowerCase();
    const fitting = connections.filter((each) => !wanted || `${each.peer} ${each.listener} ${each.last_verb} ${each.id}`.toLowerCase().includes(wanted));
    text(told, `${plural(connections.length, "connection")}${fitting.length > MOST_SHOWN ? `, the first ${MOST_SHOWN} shown` : ""}`);
    if (!fitting.length) {
      put(holder, connections.length ? state("empty", "No connection fits", "Nothing here matches the filter.") : state("empty", "Nobody is connected"));
      return;
    }
    const here = new Set();
    const focused = document.activeElement;
    fitting.slice(0, MOST_SHOWN).forEach((each, index) => {
      here.add(each.id);
      const { element, details } = update(each);
      // Moved only where it is elsewhere, for what is moved loses the focus.
      if (body.children[index * 2] !== element) body.insertBefore(element, body.children[index * 2] ?? null);
      if (element.nextSibling !== details) element.after(details);
    });
    for (const [id, { element, details }] of rows) {
      if (here.has(id)) continue;
      element.remove();
      details.remove();
      rows.delete(id);
    }
    if (table.parentElement !== holder) put(holder, table);
    if (focused !== document.activeElement && focused?.isConnected) focused.focus();
  }

  async function refresh() {
    if (asking) return;
    asking = true;
    asked = Date.now();
    try {
      ({ connections } = await get("/connections", signal));
      draw();
    } catch (error) {
      if (connections === null && !signal.aborted) put(holder, state("error", "The connections can not be shown", error.message, button("Try again", refresh)));
    } finally {
      asking = false;
    }
  }

  function confirm(id) {
    const one = connections.find((each) => each.id === id);
    if (!one) return;
    const act = button("Close connection", async () => {
      try {
        const { closed } = await post("/connections/close", { id });
        note(closed ? `Connection ${id} is closed.` : `Connection ${id} was gone already.`);
      } catch (error) {
        note(`Connection ${id} was not closed: ${error.message}`, "bad");
      }
      dialog.close();
      refresh();
    }, "danger");
    const dialog = open(`Close connection ${id}?`, {
      body: [
        h("p", {}, "The client ", h("code", {}, visible(one.peer)), " is cut off at once; replies it has not read are lost."),
        id === live.connection ? h("p", { class: "warning" }, "This is the connection of this very page; it will connect anew.") : null,
      ].filter(Boolean),
      actions: [h("button", { type: "button", onclick: () => dialog.close() }, "Keep it"), act],
    });
  }

  function drawListeners() {
    if (!live.info) { put(listeners, state("loading", "Asking…")); return; }
    put(listeners, live.info.listeners.map((each) => {
      const [how, what] = summary(each.socket_options);
      return h("details", { class: "card listener" },
        h("summary", {}, icon("chevron"), h("strong", {}, each.name), h("code", {}, visible(each.address)), h("span", { class: "spring" }), h("span", { class: `badge ${how}` }, what)),
        h("div", { class: "scroll" }, optionsTable(each.socket_options)));
    }));
  }

  on(["sample"], () => {
    if ((connections?.length ?? 0) < MANY || Date.now() - asked > 15000) refresh();
  }, signal);
  on(["history"], () => { drawListeners(); refresh(); }, signal);
  drawListeners();
  refresh();
}
