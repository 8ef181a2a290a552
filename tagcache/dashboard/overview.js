// Current figures, and the last hour.

import { Chart } from "./chart.js";
import { h, put, segmented, text } from "./dom.js";
import { engineParts, isElsewhere } from "./engine.js";
import {
  BYTE_UNITS,
  byteRate,
  bytes,
  compact,
  count,
  duration,
  latency,
  MISSING,
  percent,
  rate,
  tick,
} from "./format.js";
import { live, on } from "./live.js";
import { topTags, trafficPanels } from "./traffic.js";

const RANGES = [[300, "5 min"], [900, "15 min"], [3600, "1 hour"]];
let range = 300;

function byteAxis(number) {
  let unit = 0;
  while (number >= 1024 && unit < BYTE_UNITS.length - 1) {
    number /= 1024;
    unit += 1;
  }
  return `${Math.round(number * 10) / 10}\u00a0${BYTE_UNITS[unit]}`;
}

const NO_READS = "no reads";

const CHARTS = [
  {
    title: "Requests",
    about: "per second, both ports",
    wide: true,
    format: rate,
    axis: tick,
    series: [{ name: "reads", label: "Reads" }, { name: "writes", label: "Writes" }, {
      name: "invalidations",
      label: "Invalidations",
    }, { name: "others", label: "Other" }],
  },
  {
    title: "Hit ratio",
    format: percent,
    axis: (share) => `${share * 100}\u00a0%`,
    domain: 1,
    none: NO_READS,
    series: [{ name: "hits", of: "lookups", label: "" }],
  },
  {
    title: "Response time",
    about: "sampled",
    format: latency,
    series: [{ name: "latency_p50", label: "Median" }, { name: "latency_p99", label: "99th percentile", peak: true }],
  },
  {
    title: "Memory",
    about: "estimate for all entries",
    format: bytes,
    axis: byteAxis,
    binary: true,
    limit: "max_memory",
    series: [{ name: "memory", label: "" }],
  },
  {
    title: "Entries and tags",
    format: compact,
    axis: tick,
    integer: true,
    series: [{ name: "entries", label: "Entries" }, { name: "tags", label: "Tags" }],
  },
  {
    title: "Removed entries",
    format: rate,
    axis: tick,
    series: [{ name: "invalidated", label: "Invalidated" }, { name: "expired", label: "Expired" }, {
      name: "evicted",
      label: "Evicted",
    }],
  },
  { title: "Connections", format: count, axis: tick, integer: true, series: [{ name: "connections", label: "" }] },
  {
    title: "Reactor lag",
    about: "highest in two seconds",
    format: latency,
    series: [{ name: "lag", label: "", peak: true }],
  },
  {
    title: "Network",
    format: byteRate,
    axis: byteAxis,
    binary: true,
    series: [{ name: "bytes_in", label: "In" }, { name: "bytes_out", label: "Out" }],
  },
  {
    title: "CPU",
    about: "of one core",
    format: percent,
    axis: (share) => `${Math.round(share * 1000) / 10}\u00a0%`,
    series: [{ name: "cpu", label: "" }],
  },
  {
    title: "Process memory",
    about: "resident",
    format: bytes,
    axis: byteAxis,
    binary: true,
    series: [{ name: "resident", label: "" }],
  },
];

// The notes of charts whose values concern an engine shared by several servers.
const SHARED = { Memory: "of the Redis servers", "Entries and tags": "of the whole engine" };

/** A section about leases and stale entries; hidden until there have been any. */
function freshParts() {
  const holder = h("dl", { class: "facts" });
  const section = h(
    "section",
    { class: "card engine", "aria-label": "Leases", hidden: true },
    h("div", { class: "engine-head" }, h("h2", {}, "Leases and stale entries")),
    h("p", { class: "about" }, "As of when this page was loaded; counts are since the start of the server."),
    holder,
  );

  function draw(info) {
    const cache = info?.cache;
    section.hidden = !(cache?.leases_granted || cache?.stale_items);
    if (section.hidden) return;
    const facts = [
      ["Leases", cache.leases, "clients that are computing a value"],
      ["Waiting", cache.waiting_fetches, "requests that wait for such a value"],
      ["Filled", cache.fills, "values stored under a lease"],
      ["Refused", cache.fills_refused, "values that were outdated before they were stored"],
      ["Stale served", cache.stale_served, "reads answered with an old value"],
      ["Stale entries", cache.stale_items, "old values that are kept for their grace"],
    ];
    put(
      holder,
      facts.map(([name, value, about]) => h("div", { title: about }, h("dt", {}, name), h("dd", {}, count(value)))),
    );
  }

  return { section, draw };
}

function tile(label) {
  const value = h("p", { class: "tile-value" }, MISSING);
  const more = h("p", { class: "tile-more" }, "\u00a0");
  return { element: h("div", { class: "card tile" }, h("h3", {}, label), value, more), value, more };
}

export function mount(container, signal) {
  const tiles = {
    requests: tile("Requests"),
    hits: tile("Hit ratio"),
    entries: tile("Entries"),
    memory: tile("Memory"),
    connections: tile("Connections"),
    lag: tile("Reactor lag"),
    cpu: tile("CPU"),
    resident: tile("Process memory"),
  };
  const meter = h("div", { class: "meter", hidden: true }, h("div", {}));
  tiles.memory.element.append(meter);
  const charts = CHARTS.map((chart) => new Chart(chart));
  const server = h("p", { class: "about" });
  const engine = engineParts();
  const fresh = freshParts();
  put(
    container,
    h(
      "div",
      { class: "head" },
      h("h1", {}, "Overview"),
      server,
      h("span", { class: "spring" }),
      segmented("Time shown", RANGES, range, (chosen) => {
        range = chosen;
        draw();
      }),
    ),
    engine.notice,
    h("section", { class: "tiles", "aria-label": "Now" }, Object.values(tiles).map((each) => each.element)),
    h("section", { class: "charts", "aria-label": "Requests over time" }, charts[0].element),
    h("div", { class: "panels" }, topTags(signal), trafficPanels(signal)),
    h("section", { class: "charts", "aria-label": "History" }, charts.slice(1).map((chart) => chart.element)),
    engine.section,
    fresh.section,
  );

  function drawEngine() {
    engine.draw(live.info);
    fresh.draw(live.info);
    const elsewhere = isElsewhere(live.info);
    charts.forEach((chart, index) => chart.explain((elsewhere && SHARED[chart.title]) || (CHARTS[index].about ?? "")));
    tiles.memory.element.classList.toggle("shared", elsewhere);
  }

  function draw() {
    charts.forEach((chart) => chart.show(live.samples, range, live.interval));
    const last = live.last;
    if (live.info) {
      text(
        server,
        `TagCache ${live.info.server.version} · process ${live.info.server.pid} · up ${
          duration(live.info.server.uptime_seconds + (last ? Math.max(0, last.time - live.started) : 0))
        } · ${live.info.server.event_loop} · native core ${live.info.server.native_core}`,
      );
    }
    if (!last) return;
    text(tiles.requests.value, rate(last.requests));
    text(tiles.requests.more, `${rate(last.reads)} reads`);
    text(tiles.hits.value, last.lookups ? percent(last.hits / last.lookups) : NO_READS);
    text(tiles.hits.more, last.lookups ? `${rate(last.misses)} misses` : "in the last 2\u00a0s");
    text(tiles.entries.value, count(last.entries));
    text(tiles.entries.more, `${count(last.tags)} tags`);
    const elsewhere = isElsewhere(live.info);
    const unseen = elsewhere && !live.info.engine.servers.length;
    text(tiles.memory.value, unseen ? MISSING : bytes(last.memory));
    const share = last.max_memory ? last.memory / last.max_memory : 0;
    const limit = last.max_memory ? `${percent(share)} of ${bytes(last.max_memory)}` : "no limit set";
    text(tiles.memory.more, elsewhere ? `${limit}, of the Redis servers` : limit);
    meter.hidden = !last.max_memory;
    meter.firstChild.style.width = `${Math.min(share, 1) * 100}%`;
    meter.classList.toggle("full", share > 0.9);
    text(tiles.connections.value, count(last.connections));
    text(tiles.connections.more, live.info ? `of ${count(live.info.connections.max_connections)}` : "\u00a0");
    text(tiles.lag.value, latency(last.lag));
    text(tiles.lag.more, last.backlog ? `${count(last.backlog)} entries to reclaim` : "no entries to reclaim");
    text(tiles.cpu.value, percent(last.cpu));
    text(tiles.cpu.more, "of one core");
    text(tiles.resident.value, bytes(last.resident));
    text(tiles.resident.more, "resident");
  }

  on(["sample", "history", "engine"], draw, signal);
  on(["history", "engine"], drawEngine, signal);
  signal.addEventListener("abort", () => charts.forEach((chart) => chart.destroy()), { once: true });
  draw();
  drawEngine();
}
