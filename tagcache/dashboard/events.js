// What has happened of late: invalidations, slow commands, refused connections, warnings, errors.

import { get } from "./api.js";
import { h, label, put, segmented, state, text } from "./dom.js";
import { clock, count, entries, latency, moment, plural, visible } from "./format.js";
import { live, on } from "./live.js";

const KINDS = [["", "All"], ["invalidation", "Invalidations"], ["slow", "Slow"], ["refused", "Refused"], ["warning", "Warnings"], ["error", "Errors"]];
const MOST = 200;
let kind = "";

function told(event) {
  if (event.kind === "invalidation") {
    const names = event.names.flatMap((name, index) => [index ? ", " : "", h("code", {}, visible(name))]);
    return [h("strong", {}, entries(event.count)), " by ", h("code", {}, event.command), event.names.length ? " of " : "", names, event.more_names ? ` and ${plural(event.more_names, "more", "more")}` : ""];
  }
  if (event.kind === "slow") {
    return [h("strong", {}, latency(event.duration_ms / 1000)), " for ", h("code", {}, visible(event.command)), event.commands > 1 ? ` and what came with it, ${count(event.commands)} commands` : "", event.argument ? [" of ", h("code", {}, visible(event.argument))] : ""];
  }
  return h("span", {}, visible(event.text));
}

export function mount(container, signal) {
  const threshold = h("p", { class: "about" });
  const body = h("tbody");
  const table = h("table", { class: "data stacked events" },
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Time"), h("th", { scope: "col" }, "Kind"), h("th", { scope: "col" }, "What"), h("th", { scope: "col" }, "Who"))), body);
  const holder = h("div", { class: "card scroll" });
  const choice = segmented("Kind of events", KINDS, kind, (chosen) => { kind = chosen; draw(); });
  put(container, h("div", { class: "head" }, h("h1", {}, "Events"), threshold), h("div", { class: "row toolbar" }, choice), holder);

  function draw() {
    [...choice.children].forEach((button, index) => {
      const [name, label] = KINDS[index];
      const number = name ? live.events.filter((event) => event.kind === name).length : live.events.length;
      put(button, label, number ? h("span", { class: "number" }, count(number)) : null);
    });
    const fitting = live.events.filter((event) => !kind || event.kind === kind).slice(0, MOST);
    if (!fitting.length) {
      put(holder, live.status === "connecting" && !live.info ? state("loading", "Reading what has happened…") : state("empty", kind ? "None of these" : "Nothing has happened yet", "Invalidations, slow commands, refused connections, warnings and errors will be listed here."));
      return;
    }
    put(body, fitting.map((event) => h("tr", { "data-event": event.kind },
      h("td", { class: "time", title: moment(event.time) }, clock(event.time)),
      h("td", {}, h("span", { class: `badge kind ${event.kind}` }, event.kind)),
      h("td", { class: "what" }, told(event)),
      h("td", { class: "mono who" }, event.peer ? visible(event.peer) : event.source ?? ""))));
    label(table);
    if (!table.isConnected) put(holder, table);
  }

  async function ask() {
    try {
      const { slow_command_ms: ms, total } = await get("/slowlog?limit=0", signal);
      text(threshold, ms ? `slow is ${count(ms)}\u00a0ms and more (logging.slow_command_ms); ${count(total)} since the start` : "slow commands are not noted (logging.slow_command_ms = 0)");
    } catch {
      text(threshold, "");
    }
  }

  on(["log", "status"], draw, signal);
  on(["history"], ask, signal);
  draw();
  ask();
}
