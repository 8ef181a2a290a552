// The frame of all views: log-in, tabs, and the state of the connection.

import { get, session } from "./api.js";
import * as config from "./config.js";
import * as connections from "./connections.js";
import { closeAll } from "./dialog.js";
import { h, icon, put, state } from "./dom.js";
import * as events from "./events.js";
import { clock, visible } from "./format.js";
import * as keys from "./keys.js";
import { live, on } from "./live.js";
import { loginForm } from "./login.js";
import * as overview from "./overview.js";
import { address, database, parse } from "./route.js";
import * as tags from "./tags.js";

const app = document.getElementById("app");
const TABS = [
  ["overview", "Overview", overview],
  ["connections", "Connections", connections],
  ["tags", "Tags", tags],
  ["keys", "Keys", keys],
  ["config", "Configuration", config],
  ["events", "Events", events],
];

// The views that show entries of one database.
const IN_DATABASE = ["overview", "tags", "keys"];

function brand() {
  return h("span", { class: "brand" }, icon("tag"), "TagCache");
}

function showLogin() {
  live.stop();
  closeAll();
  const form = loginForm(brand(), () => {
    showApp();
    document.getElementById("main").focus();
  });
  put(app, h("main", { class: "center" }, form));
  document.title = "Log in · TagCache";
  form.elements.username.focus();
}

let leave = new AbortController();

function showApp() {
  leave.abort();
  leave = new AbortController();
  const { signal } = leave;
  const main = h("main", { id: "main", tabindex: "-1" });
  const pill = h("span", { class: "pill", role: "status" });
  const banner = h("div", { class: "banner", role: "alert", hidden: true });
  const notice = h("div", { class: "banner caution", hidden: true });
  const choice = h("select", {
    "aria-label": "Database",
    hidden: true,
    onchange: () => {
      location.hash = address(parse(location.hash).name, undefined, { db: choice.value });
    },
  });
  const nav = h("nav", { "aria-label": "Views" }, TABS.map(([name, label]) => h("a", { href: address(name) }, label)));
  put(
    app,
    h("a", {
      class: "skip",
      href: "#main",
      onclick: (event) => {
        event.preventDefault();
        main.focus();
      },
    }, "Skip to the content"),
    h(
      "header",
      {},
      brand(),
      nav,
      h("span", { class: "spring" }),
      choice,
      pill,
      session.open ? null : h("button", {
        type: "button",
        class: "quiet",
        title: `Logged in as ${session.user}`,
        onclick: () => session.end(),
      }, "Log out"),
    ),
    banner,
    notice,
    main,
  );

  let view = new AbortController();
  function route() {
    const { name, parameter, query } = parse(location.hash);
    const tab = TABS.find(([each]) => each === name) ?? TABS[0];
    view.abort();
    view = new AbortController();
    closeAll();
    [...nav.children].forEach((link, index) => {
      link.href = address(TABS[index][0]);
      if (TABS[index] === tab) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    });
    document.title = `${parameter === undefined ? "" : `${visible(parameter)} · `}${tab[1]} · TagCache`;
    const content = h("div", { class: `view ${tab[0]}` });
    put(main, content);
    tab[2].mount(content, view.signal, parameter, query);
    scrollTo(0, 0);
    choose(tab[0], live.info?.databases ?? []);
    if (live.status === "live") {
      // Clients may have begun to use other databases.
      get("/info", view.signal).then(({ databases }) => choose(tab[0], databases)).catch(() => {});
    }
  }

  /** Offer the databases in use, if there are several. */
  function choose(name, databases) {
    const numbers = new Set([...databases.map(({ db }) => String(db)), database()]);
    choice.hidden = !IN_DATABASE.includes(name) || (numbers.size < 2 && database() === "0");
    put(
      choice,
      [...numbers].sort((a, b) => a - b).map((db) => h("option", { value: db }, `Database ${db}`)),
    );
    choice.value = database();
  }

  function move() {
    route();
    // The focused element was in the old content, which is gone.
    if (document.activeElement === document.body) main.focus({ preventScroll: true });
  }

  function status() {
    const names = { connecting: "Connecting", live: "Live", lost: "Disconnected" };
    pill.className = `pill ${live.status}`;
    put(pill, h("span", { class: "dot", "aria-hidden": "true" }), names[live.status]);
    document.body.dataset.state = live.status;
    banner.hidden = live.status !== "lost";
    if (live.status === "lost") {
      put(
        banner,
        icon("alert"),
        h(
          "p",
          {},
          h("strong", {}, "The server cannot be reached."),
          ` The page shows data from ${clock(live.since / 1000)}. Reconnecting… ${live.problem}`,
        ),
        h("span", { class: "spring" }),
        h("button", { type: "button", onclick: () => live.hurry() }, "Try now"),
      );
    }
  }

  addEventListener("hashchange", move, { signal });
  signal.addEventListener("abort", () => view.abort(), { once: true });
  on(["status"], status, signal);
  on(["history"], () => {
    live.started = live.last?.time ?? Date.now() / 1000;
    choose(parse(location.hash).name || TABS[0][0], live.info.databases);
  }, signal);
  get("/auth/setup_required", signal).then(({ setup_required: isDefault }) => {
    notice.hidden = !isDefault;
    if (isDefault) {
      put(
        notice,
        icon("alert"),
        h("p", {}, "The default password is in use. Change it with ", h("code", {}, "tagcache change-password"), "."),
        h("span", { class: "spring" }),
        h("button", {
          type: "button",
          class: "plain",
          "aria-label": "Dismiss",
          onclick: () => {
            notice.hidden = true;
          },
        }, icon("close")),
      );
    }
  }).catch(() => {});
  status();
  route();
  live.start();
}

session.addEventListener("ended", () => {
  leave.abort();
  delete document.body.dataset.state;
  showLogin();
});

async function start() {
  if (session.valid) {
    showApp();
    return;
  }
  try {
    session.open = !(await get("/auth/required")).auth_required;
  } catch (error) {
    put(
      app,
      h(
        "main",
        { class: "center" },
        h(
          "div",
          { class: "card" },
          state(
            "error",
            "The server cannot be reached",
            error.message,
            h("button", { type: "button", onclick: start }, "Try again"),
          ),
        ),
      ),
    );
    return;
  }
  if (session.open) showApp();
  else showLogin();
}

start();
