// The log-in form, with the reason why a session has ended and help for a new server.

import { get, session } from "./api.js";
import { h, icon, put, text } from "./dom.js";

const PROBLEMS = {
  401: "User or password is wrong.",
  429: "Too many wrong attempts. Wait half a minute, then try again.",
};

/** Help while the default password is in use. It is no secret: the documentation has it too. */
function firstRun() {
  return [
    icon("info"),
    h(
      "div",
      {},
      h(
        "p",
        {},
        h("strong", {}, "The default password is in use: "),
        "user ",
        h("code", {}, "admin"),
        " (unless the configuration names another), password ",
        h("code", {}, "password"),
        ".",
      ),
      h(
        "p",
        {},
        "To set your own, run ",
        h("code", {}, "tagcache change-password"),
        ", or set ",
        h("code", {}, "authentication.password"),
        " in ",
        h("code", {}, "tagcache.conf"),
        ".",
      ),
    ),
  ];
}

/** The form. `entered` is called after a successful log-in. */
export function loginForm(brand, entered) {
  const notice = h("p", { class: "warning", role: "alert" }, session.notice || null);
  const hint = h("div", { class: "hint", hidden: true });
  const problem = h("p", { class: "form-error", role: "alert" });
  const user = h("input", {
    name: "username",
    autocomplete: "username",
    required: true,
    spellcheck: "false",
    autocapitalize: "none",
  });
  const password = h("input", { name: "password", type: "password", autocomplete: "current-password", required: true });
  const enter = h("button", { type: "submit", class: "primary" }, "Log in");

  async function submit(event) {
    event.preventDefault();
    enter.disabled = true;
    text(problem, "");
    try {
      await session.begin(user.value, password.value);
      session.notice = "";
      entered();
    } catch (error) {
      text(problem, PROBLEMS[error.status] ?? error.message);
      enter.disabled = false;
      password.select();
    }
  }

  get("/auth/setup_required").then(({ setup_required: isDefault }) => {
    hint.hidden = !isDefault;
    put(hint, isDefault ? firstRun() : null);
  }).catch(() => {});
  return h(
    "form",
    { class: "card form login", onsubmit: submit },
    brand,
    h("h1", { class: "hidden" }, "Log in to TagCache"),
    notice,
    hint,
    h("label", {}, h("span", {}, "User"), user),
    h("label", {}, h("span", {}, "Password"), password),
    problem,
    enter,
  );
}
