// The open connections, with their socket options: requested and in effect.

import { get, post } from "./api.js";
import { button, note, open } from "./dialog.js";
import { h, icon, put, state, text } from "./dom.js";
import { bytes, count, duration, plural, visible } from "./format.js";
import { live, on } from "./live.js";

const MOST_SHOWN = 300;
const MANY = 500;

/** Compare the effective value of an option with the requested one; returns a key of WORDS. */
export function standing(name, { asked, effective, error }) {
  if (error) return "refused";
  if (asked === null) return "left";
  if (asked === effective) return "same";
  // The kernel doubles buffer sizes and rounds these times up.
  if (/buffer_bytes$|^defer_accept/.test(name) && effective > asked) return "rounded";
  return "differs";
}

const WORDS = {
  same: "as requested",
  left: "system default",
  rounded: "rounded up by the system",
  differs: "differs",
  refused: "refused",
};

function shown(value) {
  if (value === null) return "–";
  return typeof value === "boolean" ? (value ? "on" : "off") : count(value);
}

function optionsTable(options) {
  return h(
    "table",
    { class: "options" },
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        h("th", { scope: "col" }, "Socket option"),
        h("th", { scope: "col", class: "num" }, "Requested"),
        h("th", { scope: "col", class: "num" }, "In effect"),
        h("th", { scope: "col" }, "Status"),
      ),
    ),
    h(
      "tbody",
      {},
      Object.entries(options).map(([name, option]) => {
        const how = standing(name, option);
        return h(
          "tr",
          { class: how, "data-option": name },
          h("th", { scope: "row", class: "mono" }, name),
          h("td", { class: "num" }, option.asked === null ? "–" : shown(option.asked)),
          h("td", { class: "num" }, shown(option.effective)),
          h(
            "td",
            {},
            h("span", { class: `badge ${how}` }, option.error ? `${WORDS[how]}: ${option.error}` : WORDS[how]),
          ),
        );
      }),
    ),
  );
}

/** Summarize the options of a socket: the kind of badge, and its text. */
export function summary(options) {
  const how = Object.entries(options).map(([name, option]) => standing(name, option));
  const number = (...kinds) => how.filter((each) => kinds.includes(each)).length;
  const off = number("differs", "refused");
  if (off) return ["differs", `${off} of ${how.length} differ`];
  if (!how.length) return ["left", "none"];
  if (number("same") === how.length) return ["same", `all ${how.length} as requested`];
  if (number("left") === how.length) return ["left", "all system defaults"];
  const same = number("same") ? `${number("same")} of ${how.length} as requested` : "";
  const rounded = number("rounded") ? `${number("rounded")} rounded up` : "";
  return ["plain", [same, rounded].filter(Boolean).join(", ")];
}

export function mount(container, signal) {
  const filter = h("input", {
    type: "search",
    placeholder: "Address or command",
    "aria-label": "Filter connections",
    oninput: () => draw(),
  });
  const told = h("p", { class: "about" });
  const body = h("tbody");
  // The dashboard's own connections are in a separate, collapsed group.
  const own = h("tbody", { hidden: true });
  const ownLabel = h("span", {});
  const unfold = h(
    "button",
    {
      type: "button",
      class: "disclose",
      "aria-expanded": "false",
      onclick: () => {
        own.hidden = !own.hidden;
        unfold.setAttribute("aria-expanded", String(!own.hidden));
      },
    },
    icon("chevron"),
    ownLabel,
  );
  const ownHead = h("tbody", { class: "group" }, h("tr", {}, h("th", { scope: "rowgroup", colspan: "11" }, unfold)));
  const columns = [
    ["ID", "num"],
    ["Client"],
    ["Listener"],
    ["Age", "num"],
    ["Idle", "num"],
    ["Commands", "num"],
    ["Received", "num"],
    ["Sent", "num"],
    ["Last command"],
    ["Socket options", "whole"],
    ["", "end"],
  ];
  const table = h(
    "table",
    { class: "data stacked" },
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        columns.map(([name, kind = ""]) =>
          h("th", { scope: "col", class: kind }, name || h("span", { class: "hidden" }, "Close"))
        ),
      ),
    ),
    body,
    ownHead,
    own,
  );
  const holder = h("div", { class: "card scroll" }, state("loading", "Reading the connections…"));
  const listeners = h("div", { class: "listeners" });
  put(
    container,
    h(
      "div",
      { class: "head" },
      h("h1", {}, "Connections"),
      told,
      h("span", { class: "spring" }),
      h("label", { class: "field-icon" }, icon("search"), filter),
    ),
    holder,
    h("h2", {}, "Listeners"),
    listeners,
  );

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
    put(
      cells[10],
      h("button", {
        type: "button",
        class: "quiet danger",
        "aria-label": `Close connection ${id}`,
        onclick: () => confirm(id),
      }, "Close"),
    );
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
    const values = [
      String(one.id),
      visible(one.peer),
      one.listener,
      duration(one.age_seconds),
      duration(one.idle_seconds),
      count(one.commands),
      bytes(one.bytes_in),
      bytes(one.bytes_out),
      one.id === live.connection ? "events for this page" : one.last_verb ? visible(one.last_verb) : "–",
    ];
    values.forEach((value, index) => text(there.cells[index], value));
    return there;
  }

  function draw() {
    if (connections === null) return;
    const wanted = filter.value.trim().toLowerCase();
    const fitting = connections.filter((each) =>
      !wanted || `${each.peer} ${each.listener} ${each.last_verb} ${each.id}`.toLowerCase().includes(wanted)
    );
    const clients = fitting.filter((each) => !each.dashboard).slice(0, MOST_SHOWN);
    const ours = fitting.filter((each) => each.dashboard).slice(0, MOST_SHOWN);
    const number = connections.filter((each) => !each.dashboard).length;
    text(told, `${plural(number, "client")}${number > clients.length ? `, ${count(clients.length)} shown` : ""}`);
    if (!fitting.length) {
      put(holder, state("empty", connections.length ? "No connection matches" : "No connections"));
      return;
    }
    text(ownLabel, plural(ours.length, "connection of the dashboard", "connections of the dashboard"));
    ownHead.hidden = !ours.length;
    const here = new Set();
    const focused = document.activeElement;
    for (const [holding, some] of [[body, clients], [own, ours]]) {
      some.forEach((each, index) => {
        here.add(each.id);
        const { element, details } = update(each);
        // Move a row only if its place has changed: a moved element loses the focus.
        if (holding.children[index * 2] !== element) holding.insertBefore(element, holding.children[index * 2] ?? null);
        if (element.nextSibling !== details) element.after(details);
      });
    }
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
      if (connections === null && !signal.aborted) {
        put(holder, state("error", "The connections cannot be shown", error.message, button("Try again", refresh)));
      }
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
        note(closed ? `Connection ${id} is closed.` : `Connection ${id} was already closed.`);
      } catch (error) {
        note(`Connection ${id} was not closed: ${error.message}`, "bad");
      }
      dialog.close();
      refresh();
    }, "danger");
    const dialog = open(`Close connection ${id}?`, {
      body: [
        h(
          "p",
          {},
          "The client ",
          h("code", {}, visible(one.peer)),
          " is disconnected immediately. Replies that it has not read are lost.",
        ),
        id === live.connection
          ? h("p", { class: "warning" }, "This is the connection of this page. The page will reconnect.")
          : null,
      ].filter(Boolean),
      actions: [h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"), act],
    });
  }

  function drawListeners() {
    if (!live.info) {
      put(listeners, state("loading", "Reading…"));
      return;
    }
    put(
      listeners,
      live.info.listeners.map((each) => {
        const [how, what] = summary(each.socket_options);
        return h(
          "details",
          { class: "card listener" },
          h(
            "summary",
            {},
            icon("chevron"),
            h("strong", {}, each.name),
            h("code", {}, visible(each.address)),
            h("span", { class: "spring" }),
            h("span", { class: `badge ${how}` }, what),
          ),
          h("div", { class: "scroll" }, optionsTable(each.socket_options)),
        );
      }),
    );
  }

  on(["sample"], () => {
    if ((connections?.length ?? 0) < MANY || Date.now() - asked > 15000) refresh();
  }, signal);
  on(["history"], () => {
    drawListeners();
    refresh();
  }, signal);
  drawListeners();
  refresh();
}
