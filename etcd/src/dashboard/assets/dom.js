// Elements out of descriptions. Text goes into text nodes and nowhere else: no value, key or name can become markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children) {
    if (child === undefined || child === null || child === false) continue;
    if (Array.isArray(child)) append(element, child);
    else element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/** An HTML element. An attribute that is a function listens to the event of its name. */
export function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** An SVG element. */
export function s(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

export function replace(element, ...children) {
  element.replaceChildren();
  append(element, children);
  return element;
}

/** Changes a text only where it differs, so that what reads the page aloud is not disturbed. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

let labels = 0;

/** A label and its control, with a hint below. */
export function field(label, control, hint) {
  const id = control.id || `field-${++labels}`;
  control.id = id;
  const below = hint ? h("p", { class: "hint", id: `${id}-hint` }, hint) : null;
  if (below) control.setAttribute("aria-describedby", below.id);
  return h("div", { class: "field" }, h("label", { for: id }, label), control, below);
}

/** A message that goes away by itself. */
export function toast(text, kind = "good") {
  const box = document.getElementById("toasts");
  const item = h("div", { class: `toast ${kind}` }, text);
  box.append(item);
  while (box.children.length > 3) box.firstChild.remove();
  setTimeout(() => item.remove(), kind === "good" ? 4000 : 9000);
}

/**
 * A modal dialog with a form. `submit` may throw: what it throws is told by `explain` in the dialog, which stays open.
 * Resolves when the dialog is closed, to whether it was submitted.
 */
export function dialog({ title, body, action, danger, submit, explain }) {
  return new Promise((resolve) => {
    const before = document.activeElement;
    const problem = h("p", { class: "problem", role: "alert", hidden: true });
    const go = h("button", { type: "submit", class: danger ? "danger" : "primary" }, action);
    const heading = h("h2", { id: `dialog-${++labels}` }, title);
    const cancel = h("button", { type: "button", click: () => box.close() }, "Cancel");
    const form = h("form", { method: "dialog", novalidate: true }, heading, body, problem, h("div", { class: "actions" }, cancel, go));
    const box = h("dialog", { "aria-labelledby": heading.id }, form);
    let done = false;
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      go.disabled = true;
      problem.hidden = true;
      try {
        await submit();
        done = true;
        box.close();
      } catch (error) {
        problem.textContent = explain ? explain(error) : error.message;
        problem.hidden = false;
      } finally {
        go.disabled = false;
      }
    });
    box.addEventListener("close", () => {
      box.remove();
      if (before && before.isConnected) before.focus();
      resolve(done);
    });
    document.body.append(box);
    box.showModal();
    const first = danger ? cancel : box.querySelector("input, textarea, select");
    if (first) first.focus();
  });
}

/** What an empty place says. */
export function empty(title, text, ...more) {
  return h("div", { class: "empty" }, h("p", { class: "empty-title" }, title), text ? h("p", null, text) : null, ...more);
}
