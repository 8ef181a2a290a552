// The frame: logging in, the tabs, and whether the server is there.

import { get, session } from "./api.js";
import * as config from "./config.js";
import * as connections from "./connections.js";
import { closeAll } from "./dialog.js";
import { h, icon, put, state, text } from "./dom.js";
import * as events from "./events.js";
import { clock } from "./format.js";
import * as keys from "./keys.js";
import { live, on } from "./live.js";
import * as overview from "./overview.js";
import * as tags from "./tags.js";

const app = document.getElementById("app");
const TABS = [
  ["overview", "Overview", overview], ["connections", "Connections", connections], ["tags", "Tags", tags],
  ["keys", "Keys", keys], ["config", "Configuration", config], ["events", "Events", events],
];

function brand() {
  return h("span", { class: "brand" }, icon("tag"), "TagCache");
}

function showLogin(message = "") {
  live.stop();
  closeAll();
  const problem = h("p", { class: "form-error", role: "alert" }, message);
  const user = h("input", { name: "username", autocomplete: "username", required: true, spellcheck: "false", autocapitalize: "none" });
  const password = h("input", { name: "password", type: "password", autocomplete: "current-password", required: true });
  const enter = h("button", { type: "submit", class: "primary" }, "Log in");
  const form = h("form", { class: "card form login", onsubmit: submit },
    brand(), h("h1", { class: "hidden" }, "Log in to TagCache"),
    h("label", {}, h("span", {}, "User"), user),
    h("label", {}, h("span", {}, "Password"), password),
    problem, enter);
  put(app, h("main", { class: "center" }, form));
  document.title = "Log in · TagCache";
  user.focus();

  async function submit(event) {
    event.preventDefault();
    enter.disabled = true;
    text(problem, "");
    try {
      await session.begin(user.value, password.value);
      showApp();
      document.getElementById("main").focus();
    } catch (error) {
      const why = { 401: "User or password is wrong.", 429: "Too many wrong attempts. Wait half a minute, then try again." };
      text(problem, why[error.status] ?? error.message);
      enter.disabled = false;
      password.select();
    }
  }
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
  const nav = h("nav", { "aria-label": "Views" }, TABS.map(([name, label]) => h("a", { href: `#/${name}` }, label)));
  put(app,
    h("a", { class: "skip", href: "#main", onclick: (event) => { event.preventDefault(); main.focus(); } }, "Skip to the content"),
    h("header", {}, brand(), nav, h("span", { class: "spring" }), pill,
      session.open ? null : h("button", { type: "button", class: "quiet", title: `Logged in as ${session.user}`, onclick: () => session.end() }, "Log out")),
    banner, notice, main);

  let view = new AbortController();
  function route() {
    const [, name = "", parameter] = location.hash.match(/^#\/([a-z]*)(?:\/(.*))?$/) ?? [];
    const tab = TABS.find(([each]) => each === name) ?? TABS[0];
    view.abort();
    view = new AbortController();
    closeAll();
    [...nav.children].forEach((link, index) => {
      if (TABS[index] === tab) { link.setAttribute("aria-current", "page"); link.scrollIntoView({ block: "nearest", inline: "nearest" }); } else link.removeAttribute("aria-current");
    });
    document.title = `${tab[1]} · TagCache`;
    const content = h("div", { class: `view ${tab[0]}` });
    put(main, content);
    let decoded;
    try {
      decoded = parameter === undefined ? undefined : decodeURIComponent(parameter);
    } catch {
      decoded = parameter;
    }
    tab[2].mount(content, view.signal, decoded);
    scrollTo(0, 0);
  }

  function status() {
    const names = { connecting: "Connecting", live: "Live", lost: "Disconnected" };
    pill.className = `pill ${live.status}`;
    put(pill, h("span", { class: "dot", "aria-hidden": "true" }), names[live.status]);
    document.body.dataset.state = live.status;
    banner.hidden = live.status !== "lost";
    if (live.status === "lost") {
      put(banner, icon("alert"), h("p", {}, h("strong", {}, "The server can not be reached."), ` What is shown is of ${clock(live.since / 1000)}. Trying again… ${live.problem}`),
        h("span", { class: "spring" }), h("button", { type: "button", onclick: () => live.hurry() }, "Try now"));
    }
  }

  addEventListener("hashchange", route, { signal });
  signal.addEventListener("abort", () => view.abort(), { once: true });
  on(["status"], status, signal);
  on(["history"], () => { live.started = live.last?.time ?? Date.now() / 1000; }, signal);
  get("/auth/setup_required", signal).then(({ setup_required: standing }) => {
    notice.hidden = !standing;
    if (standing) put(notice, icon("alert"), h("p", {}, "The default password still stands. Change it with ", h("code", {}, "tagcache change-password"), "."), h("span", { class: "spring" }), h("button", { type: "button", class: "plain", "aria-label": "Dismiss", onclick: () => { notice.hidden = true; } }, icon("close")));
  }).catch(() => {});
  status();
  route();
  live.start();
}

session.addEventListener("ended", (event) => {
  leave.abort();
  delete document.body.dataset.state;
  showLogin(event.detail);
});

async function start() {
  if (session.valid) { showApp(); return; }
  try {
    session.open = !(await get("/auth/required")).auth_required;
  } catch (error) {
    put(app, h("main", { class: "center" }, h("div", { class: "card" }, state("error", "The server can not be reached", error.message, h("button", { type: "button", onclick: start }, "Try again")))));
    return;
  }
  if (session.open) showApp();
  else showLogin();
}

start();
