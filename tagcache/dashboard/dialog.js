// Dialogs over the page, and short notifications at its edge.

import { h, icon } from "./dom.js";

let number = 0;

/** Open a dialog and return it. `body` and `actions` are elements. Closing removes it from the page. */
export function open(title, { body = [], actions = [], wide = false, closed = () => {} } = {}) {
  const id = `dialog-${(number += 1)}`;
  const element = h(
    "dialog",
    { "aria-labelledby": id, class: wide ? "wide" : "" },
    h(
      "div",
      { class: "dialog-head" },
      h("h2", { id }, title),
      h("button", {
        type: "button",
        class: "plain",
        "aria-label": "Close this dialog",
        onclick: () => element.close(),
      }, icon("close")),
    ),
    h("div", { class: "dialog-body" }, ...body),
    actions.length ? h("div", { class: "dialog-foot" }, ...actions) : null,
  );
  element.addEventListener("close", () => {
    element.remove();
    closed();
  });
  document.body.append(element);
  element.showModal();
  return element;
}

/** Close every dialog, because its subject no longer exists. */
export function closeAll() {
  for (const element of document.querySelectorAll("dialog[open]")) element.close();
}

const notes = h("div", { class: "notes", role: "status", "aria-live": "polite" });

/** Show a notification for some seconds. */
export function note(message, kind = "good") {
  if (!notes.isConnected) document.body.append(notes);
  const element = h("div", { class: `note ${kind}` }, message);
  notes.append(element);
  setTimeout(() => element.remove(), 6000);
}

/** A button that shows when it is busy, and cannot be pressed meanwhile. */
export function button(label, act, kind = "") {
  const element = h("button", { type: "button", class: kind }, label);
  element.addEventListener("click", async () => {
    if (element.getAttribute("aria-busy") === "true") return;
    element.setAttribute("aria-busy", "true");
    try {
      await act();
    } finally {
      element.removeAttribute("aria-busy");
    }
  });
  return element;
}
