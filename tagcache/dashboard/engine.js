// The Redis engine: whether its servers can be reached, and their figures.

import { h, icon, label, put, text } from "./dom.js";
import { bytes, count, duration, MISSING, percent, plural, visible } from "./format.js";

/** Whether entries are kept in Redis. */
export const isElsewhere = (info) => Boolean(info?.engine) && info.engine.backend !== "memory";

/** Whether entries are kept in Redis, which cannot be reached now. */
export const isAway = (info) => isElsewhere(info) && info.engine.status !== "ok";

const REACHED = { ok: ["same", "reachable"], degraded: ["error", "not reachable"] };

/** A notice while the engine cannot be reached, and a section about its servers; hidden if empty. */
export function engineParts() {
  const detail = h("span", { class: "detail" });
  const notice = h("div", { class: "notice", role: "alert" });
  const told = [
    icon("alert"),
    h(
      "p",
      {},
      h("strong", {}, "The entries cannot be reached."),
      " Commands are answered with backend_unavailable until they can. ",
      detail,
    ),
  ];
  const place = h("span", { class: "mono place" });
  const badge = h("span", { class: "badge" });
  const body = h("tbody");
  const servers = h(
    "table",
    { class: "data stacked servers" },
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        ["Server", "Version", "Memory", "Limit", "Eviction"].map((name) =>
          h("th", { scope: "col", class: name === "Memory" || name === "Limit" ? "num" : null }, name)
        ),
      ),
    ),
    body,
  );
  const holder = h("div", { class: "scroll" }, servers);
  const about = h("p", { class: "about" });
  const near = h("div", { class: "near", hidden: true });
  const section = h(
    "section",
    { class: "card engine", "aria-label": "Engine", hidden: true },
    h("div", { class: "engine-head" }, h("h2", {}, "Entries are kept in"), place, badge),
    about,
    holder,
    near,
  );

  function draw(info) {
    const engine = isElsewhere(info) ? info.engine : null;
    const away = isAway(info);
    // A screen reader reads what is added to an alert, not what it already contains.
    if (away !== notice.hasChildNodes()) put(notice, away ? told : null);
    section.hidden = engine === null;
    if (engine === null) return;
    text(detail, away && engine.detail ? visible(engine.detail) : "");
    text(place, visible(engine.url));
    const [kind, name] = REACHED[engine.status] ?? ["warning", visible(engine.status)];
    badge.className = `badge ${kind}`;
    text(badge, name);
    text(about, aboutFigures(engine, away));
    holder.hidden = engine.servers.length === 0;
    put(
      body,
      engine.servers.map((each) =>
        h(
          "tr",
          {},
          h("th", { scope: "row", class: "mono" }, visible(each.address)),
          h("td", {}, visible(each.version)),
          h("td", { class: "num" }, bytes(each.used_memory_bytes)),
          h("td", { class: "num" }, each.max_memory_bytes ? bytes(each.max_memory_bytes) : "none"),
          h("td", {}, each.eviction_policy ? visible(each.eviction_policy) : MISSING),
        )
      ),
    );
    label(servers);
    near.hidden = engine.near_cache === null;
    if (engine.near_cache !== null) drawNear(near, engine.near_cache);
  }

  return { notice, section, draw };
}

function aboutFigures(engine, away) {
  if (!engine.servers.length) return "No server has been reached yet.";
  return `Hits, misses and invalidations are of this server only. Entries, tags, memory, expirations and evictions are of the whole engine${
    away ? ", as last seen" : ""
  }.`;
}

function drawNear(holder, near) {
  const facts = [
    ["Entries", count(near.items)],
    [
      "Memory",
      `${bytes(near.memory_used_bytes)} of ${bytes(near.max_memory_bytes)}`,
      `${percent(near.max_memory_bytes ? near.memory_used_bytes / near.max_memory_bytes : 0)} of engine.near_cache_mb`,
    ],
    ["Hits", count(near.hits), "reads answered without asking Redis, since the start"],
    ["Evicted", count(near.evictions), "entries removed to make room, since the start"],
    ["Cleared", plural(near.cleared, "time"), "how often the whole near cache was emptied, since the start"],
    ["Maximum staleness", duration(near.staleness_bound_ms / 1000)],
  ];
  put(
    holder,
    h(
      "div",
      { class: "row" },
      h("h3", {}, "Near cache, in this server"),
      h("span", { class: `badge ${near.fresh ? "same" : "warning"}` }, near.fresh ? "in use" : "not in use"),
    ),
    h(
      "dl",
      { class: "facts" },
      facts.map(([name, value, about]) => h("div", { title: about }, h("dt", {}, name), h("dd", {}, value))),
    ),
  );
}
