// Builds the page. Text is always inserted as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") element.setAttribute("class", value);
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  put(element, ...children);
  return element;
}

/** Create an HTML element. Props are attributes, `class`, `value` and listeners such as `onclick`. */
export function h(name, props = {}, ...children) {
  return fill(document.createElement(name), props, children);
}

/** Create an SVG element. */
export function s(name, props = {}, ...children) {
  return fill(document.createElementNS(SVG, name), props, children);
}

/** Replace the content of an element. */
export function put(element, ...children) {
  element.replaceChildren(
    ...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false),
  );
  return element;
}

/** Set a text only if it differs, so that a selection in it is kept. */
export function text(element, value) {
  if (element.textContent !== value) element.textContent = value;
}

/** Label each cell with its column, for the layout of narrow windows, which has no columns. */
export function label(table) {
  const names = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
  for (const row of table.tBodies[0].rows) {
    [...row.cells].forEach((cell, index) => {
      cell.dataset.label = names[index] ?? "";
    });
  }
}

const PATHS = {
  tag:
    "M3 5.5A2.5 2.5 0 0 1 5.5 3h6.1c.7 0 1.3.3 1.8.7l7 7a2.5 2.5 0 0 1 0 3.6l-6.1 6.1a2.5 2.5 0 0 1-3.6 0l-7-7A2.5 2.5 0 0 1 3 11.6z M8.2 6.3a1.9 1.9 0 1 0 0 3.8 1.9 1.9 0 0 0 0-3.8z",
  empty: "M4 13h4l1.5 3h5L16 13h4 M4 13l3-8h10l3 8v6H4z",
  alert: "M12 4 2.8 20h18.4z M12 10v4.5 M12 17.2v.3",
  search: "M10.5 4a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13z M15.5 15.5 21 21",
  close: "M6 6l12 12 M18 6 6 18",
  refresh: "M19 8a8 8 0 1 0 1 6 M20 3v5h-5",
  chevron: "M9 6l6 6-6 6",
  info: "M12 3.5a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17z M12 11v5.5 M12 7.6v.3",
  pause: "M8 5v14 M16 5v14",
  play: "M8 5l11 7-11 7z",
  plus: "M12 5v14 M5 12h14",
};

/** Create an icon of 24 by 24 pixels, hidden from screen readers. */
export function icon(name, more = "") {
  const solid = name === "tag";
  return s(
    "svg",
    { class: `icon ${solid ? "solid" : ""} ${more}`, viewBox: "0 0 24 24", "aria-hidden": "true" },
    s("path", { d: PATHS[name], "fill-rule": "evenodd" }),
  );
}

/** A message in place of content: empty, loading or error. */
export function state(kind, title, detail = "", ...actions) {
  const sign = kind === "loading"
    ? h("span", { class: "spinner", "aria-hidden": "true" })
    : icon(kind === "error" ? "alert" : "empty");
  return h(
    "div",
    { class: `state ${kind}`, role: kind === "error" ? "alert" : "status" },
    sign,
    h("p", { class: "state-title" }, title),
    detail ? h("p", { class: "state-detail" }, detail) : null,
    actions.length ? h("div", { class: "row" }, ...actions) : null,
  );
}

/** Buttons to choose one of a few values. `choose` is called with the value. */
export function segmented(label, options, chosen, choose) {
  const buttons = options.map(([value, name]) =>
    h("button", { type: "button", "aria-pressed": String(value === chosen), onclick: () => pick(value) }, name)
  );
  function pick(value) {
    options.forEach(([each], index) => buttons[index].setAttribute("aria-pressed", String(each === value)));
    choose(value);
  }
  return h("div", { class: "segmented", role: "group", "aria-label": label }, buttons);
}
