// Recent events: invalidations, slow commands, refused connections, warnings, errors.

import { get } from "./api.js";
import { h, icon, label, put, segmented, state, text } from "./dom.js";
import { clock, count, entries, latency, moment, plural, visible } from "./format.js";
import { live, on } from "./live.js";

const KINDS = [["", "All"], ["invalidation", "Invalidations"], ["slow", "Slow"], ["refused", "Refused"], [
  "warning",
  "Warnings",
], ["error", "Errors"]];
const MOST = 200;
let kind = "";
let wanted = "";

function told(event) {
  if (event.kind === "invalidation") {
    const names = event.names.flatMap((name, index) => [index ? ", " : "", h("code", {}, visible(name))]);
    return [
      h("strong", {}, entries(event.count)),
      " by ",
      h("code", {}, event.command),
      event.names.length ? " of " : "",
      names,
      event.more_names ? ` and ${plural(event.more_names, "more", "more")}` : "",
      event.db ? ` in database ${event.db}` : "",
    ];
  }
  if (event.kind === "slow") {
    return [
      h("strong", {}, latency(event.duration_ms / 1000)),
      " for ",
      event.commands > 1 ? `a batch of ${count(event.commands)} commands: ` : "",
      h("code", {}, visible(event.command)),
      event.argument && !event.command.endsWith(event.argument) ? [" of ", h("code", {}, visible(event.argument))] : "",
    ];
  }
  return h("span", {}, visible(event.text));
}

/** The text of an event that a search looks at, in lower case. */
function words({ kind, command = "", names = [], argument, text: message = "", peer = "", source = "" }) {
  return [kind, command, ...names, argument ?? "", message, peer, source].join("\n").toLowerCase();
}

export function mount(container, signal) {
  const threshold = h("p", { class: "about" });
  const body = h("tbody");
  const table = h(
    "table",
    { class: "data stacked events" },
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        h("th", { scope: "col" }, "Time"),
        h("th", { scope: "col" }, "Kind"),
        h("th", { scope: "col" }, "Event"),
        h("th", { scope: "col" }, "Source"),
      ),
    ),
    body,
  );
  const holder = h("div", { class: "card scroll" });
  const choice = segmented("Kind of events", KINDS, kind, (chosen) => {
    kind = chosen;
    draw();
  });
  const field = h("input", {
    type: "search",
    value: wanted,
    placeholder: "Text, name or address",
    "aria-label": "Search events",
    spellcheck: "false",
    oninput: () => {
      wanted = field.value;
      draw();
    },
  });
  const pause = h("button", {
    type: "button",
    "aria-pressed": "false",
    onclick: () => {
      held = held ? null : live.events;
      draw();
    },
  });
  const waiting = h("p", { class: "about", role: "status" });
  // The events to show while the list is paused.
  let held = null;
  put(
    container,
    h("div", { class: "head" }, h("h1", {}, "Events"), threshold),
    h(
      "div",
      { class: "row toolbar" },
      choice,
      h("span", { class: "spring" }),
      waiting,
      pause,
      h("label", { class: "field-icon" }, icon("search"), field),
    ),
    holder,
  );

  function drawPause() {
    pause.setAttribute("aria-pressed", String(held !== null));
    put(pause, icon(held ? "play" : "pause"), held ? "Resume" : "Pause");
    const last = held?.[0]?.id ?? 0;
    const more = held ? live.events.filter((event) => event.id > last).length : 0;
    text(waiting, held ? `Paused, ${count(more)} new` : "");
  }

  function draw() {
    drawPause();
    const events = held ?? live.events;
    [...choice.children].forEach((button, index) => {
      const [name, label] = KINDS[index];
      const number = name ? events.filter((event) => event.kind === name).length : events.length;
      put(button, label, number ? h("span", { class: "number" }, count(number)) : null);
    });
    const sought = wanted.trim().toLowerCase();
    const fitting = events.filter((event) =>
      (!kind || event.kind === kind) && (!sought || words(event).includes(sought))
    ).slice(0, MOST);
    if (!fitting.length) {
      put(
        holder,
        live.status === "connecting" && !live.info ? state("loading", "Reading the events…") : state(
          "empty",
          events.length ? "No event matches" : "No events yet",
          "Invalidations, slow commands, refused connections, warnings and errors are listed here.",
        ),
      );
      return;
    }
    put(
      body,
      fitting.map((event) =>
        h(
          "tr",
          { "data-event": event.kind },
          h("td", { class: "time", title: moment(event.time) }, clock(event.time)),
          h("td", {}, h("span", { class: `badge kind ${event.kind}` }, event.kind)),
          h("td", { class: "what" }, told(event)),
          h("td", { class: "mono who" }, event.peer ? visible(event.peer) : event.source ?? ""),
        )
      ),
    );
    label(table);
    if (!table.isConnected) put(holder, table);
  }

  async function ask() {
    try {
      const { slow_command_ms: ms, total } = await get("/slowlog?limit=0", signal);
      text(
        threshold,
        ms
          ? `slow: ${count(ms)}\u00a0ms or more (logging.slow_command_ms), ${count(total)} since the start`
          : "slow commands are not recorded (logging.slow_command_ms = 0)",
      );
    } catch {
      text(threshold, "");
    }
  }

  on(["log", "status"], draw, signal);
  on(["history"], ask, signal);
  draw();
  ask();
}
