// One node: a key with its value, or a directory with what is in it.
//
// An edit remembers the index of the value that it began with and puts the new one in the place of just that one. If
// somebody was quicker both values are shown, and whoever edits decides.

import * as api from "./api.js";
import { empty, h, replace, setText, toast } from "./dom.js";
import { decode, escape, formValue, fromBase64, hexDump, nameOf, plainText, showPath, size, unescape, utf8 } from "./bytes.js";
import { changeTtl, remove, seconds, ttlInput } from "./forms.js";
import { left } from "./tree.js";

const SHOWN_MAX = 256 * 1024;

export class NodePane {
  /** `changed(path)` is called after a node was changed here, `go(path)` when another one is picked. */
  constructor({ state, hidden, changed, go, watch, add, signIn }) {
    Object.assign(this, { state, hidden, changed, go, watch, add, signIn });
    this.element = h("div", { class: "node", role: "region", "aria-label": "Selected node" });
    this.path = null;
    this.node = null;
    this.editing = null;
    this.as = null;
    this.none();
  }

  none() {
    this.path = null;
    this.node = null;
    this.editing = null;
    replace(this.element, empty("Nothing is selected", "Pick a key or a directory in the tree. With the keyboard: arrows to move, Enter to open."));
  }

  isEditing() {
    return this.editing !== null && this.editing.isDirty();
  }

  async show(path) {
    this.path = path;
    this.editing = null;
    this.as = null;
    await this.read();
  }

  /** Reads the node again. An edit stays; that the value has changed below it is told. */
  async read() {
    const path = this.path;
    if (path === null) return;
    let node;
    try {
      node = await this.fetch(path);
    } catch (error) {
      if (this.path !== path || error instanceof api.Unreachable) return;
      if (this.editing) this.editing.gone(error);
      else this.refused(error);
      return;
    }
    if (this.path !== path) return;
    const before = this.node;
    this.node = node;
    if (this.editing) this.editing.moved(node);
    else if (!before || before.path !== path || JSON.stringify(before.raw) !== JSON.stringify(node.raw)) this.draw();
  }

  async fetch(path) {
    const hidden = this.hidden();
    const read = async (dir) => {
      const raw = await api.node(path, { hidden, dir });
      delete raw.index;
      return { ...raw, raw, path, bytes: raw.dir ? null : fromBase64(raw.value) };
    };
    try {
      return await read(false);
    } catch (error) {
      // A right to what is below a directory is one to its name with a slash.
      if (error.status !== 401) throw error;
      return read(true);
    }
  }

  refused(error) {
    this.node = null;
    const button = api.needsSignIn(error) ? h("button", { type: "button", class: "primary", click: () => this.signIn() }, "Sign in") : null;
    replace(this.element, this.heading(), empty(error.code === 100 ? "Gone" : "Not readable", api.explain(error, `“${showPath(this.path)}”`), button));
  }

  heading() {
    const parts = this.path === "" ? [] : this.path.slice(1).split("/");
    const crumbs = [h("li", null, h("a", { href: "#/keys" }, "/"))];
    parts.forEach((part, at) => {
      const path = `/${parts.slice(0, at + 1).join("/")}`;
      const last = at === parts.length - 1;
      crumbs.push(h("li", null, h("a", { href: `#/keys${path}`, "aria-current": last ? "true" : undefined }, showPath(part)), last ? null : "/"));
    });
    return h("div", { class: "node-head" }, h("button", { type: "button", class: "quiet back", click: () => this.go(null) }, "‹ Tree"), h("nav", { "aria-label": "Path", class: "crumbs" }, h("ol", null, crumbs)));
  }

  facts() {
    const { node } = this;
    const fact = (name, value, attributes) => h("div", null, h("dt", null, name), h("dd", attributes || null, value));
    return h(
      "dl",
      { class: "facts" },
      fact("Kind", node.dir ? "directory" : "key"),
      node.dir ? null : fact("Size", size(node.size)),
      fact("Modified index", String(node.modified), { id: "modified-index" }),
      fact("Created index", String(node.created)),
      fact("Expires", node.expiration ? left(node.expiration) : "never", node.expiration ? { "data-expires": node.expiration, class: "warn-text", id: "expires", title: node.expiration } : { id: "expires" }),
    );
  }

  actions() {
    const { node, path, state } = this;
    const button = (text, click, more) => h("button", { type: "button", click, ...more }, text);
    const writes = !state.readOnly;
    const done = (work) => async () => {
      if (await work()) this.changed(path);
    };
    return h(
      "div",
      { class: "actions start" },
      node.dir && writes ? button("Create here…", () => this.add(path)) : null,
      !node.dir && writes ? button("Edit", () => this.edit(), { class: "primary", id: "edit" }) : null,
      writes && path !== "" ? button("Expiry…", done(() => changeTtl(path, node))) : null,
      button("Watch", () => this.watch(path)),
      !node.dir && plainText(node.bytes) !== null && navigator.clipboard ? button("Copy", () => navigator.clipboard.writeText(decode(node.bytes)).then(() => toast("Copied")).catch(() => toast("The browser does not allow it", "bad"))) : null,
      writes && path !== "" ? button("Delete…", done(() => remove(path, node)), { class: "danger quiet-danger" }) : null,
    );
  }

  draw() {
    const focused = this.element.contains(document.activeElement) ? document.activeElement.id : null;
    replace(this.element, this.heading(), this.facts(), this.actions(), this.node.dir ? this.listing() : this.value());
    // Whoever works by keyboard stays where they were.
    if (focused !== null) (document.getElementById(focused || "edit") || this.element.querySelector("button, a"))?.focus();
  }

  listing() {
    const { node, path } = this;
    if (node.entries.length === 0) return empty("An empty directory", this.hidden() ? "" : "Hidden nodes are not shown.");
    const rows = node.entries.map((entry) => {
      const bytes = fromBase64(entry.preview);
      const cut = entry.size > bytes.length ? " …" : "";
      const preview = entry.dir ? h("span", { class: "faint" }, "directory") : h("span", { class: "preview mono" }, escape(bytes, true) + cut);
      return h(
        "tr",
        entry.hidden ? { class: "hidden-node" } : null,
        h("th", { scope: "row" }, h("a", { href: `#/keys${path}/${entry.name}` }, showPath(entry.name), entry.dir ? "/" : "")),
        h("td", null, preview),
        h("td", { class: "num" }, entry.dir ? "" : size(entry.size)),
        h("td", { class: "num" }, String(entry.modified)),
        h("td", null, entry.expiration ? h("span", { "data-expires": entry.expiration }, left(entry.expiration)) : ""),
      );
    });
    const heads = ["Name", "Value", "Size", "Modified", "Expires"];
    return h(
      "div",
      { class: "scroll" },
      h("table", { class: "grid entries" }, h("thead", null, h("tr", null, heads.map((head) => h("th", { scope: "col" }, head)))), h("tbody", null, rows)),
      node.more ? h("p", { class: "hint" }, `The first ${node.entries.length} are shown; “Show more” in the tree has the others.`) : null,
    );
  }

  /** The forms in which a value can be shown, best first. */
  forms() {
    const { bytes } = this.node;
    const text = plainText(bytes);
    const forms = {};
    if (text !== null && /^\s*[[{]/.test(text) && text.length < SHOWN_MAX) {
      try {
        JSON.parse(text);
        forms.JSON = () => h("pre", { class: "value json", tabindex: "0" }, highlight(text));
      } catch {
        // It only begins like JSON.
      }
    }
    const cut = (shown) => (shown.length > SHOWN_MAX ? `${shown.slice(0, SHOWN_MAX)}\n… cut: the value is longer than is shown` : shown);
    if (text !== null) forms.Text = () => h("pre", { class: "value", tabindex: "0" }, cut(text));
    else forms.Escaped = () => h("pre", { class: "value", tabindex: "0" }, cut(escape(bytes.subarray(0, SHOWN_MAX))));
    forms.Hex = () => h("pre", { class: "value hex", tabindex: "0" }, hexDump(bytes));
    return forms;
  }

  value() {
    const { node } = this;
    if (node.size === 0) return empty("An empty value");
    const forms = this.forms();
    const names = Object.keys(forms);
    if (!names.includes(this.as)) this.as = names[0];
    const note = names.includes("Text") ? null : h("p", { class: "note" }, "This value is binary or has invisible characters. It is shown with escapes, and an edit keeps every byte.");
    const body = h("div", { id: "value-body" }, forms[this.as]());
    const pick = (name) => {
      this.as = name;
      this.draw();
      this.element.querySelector(`[data-form="${name}"]`).focus();
    };
    const choices = names.map((name) => h("button", { type: "button", "data-form": name, "aria-pressed": String(name === this.as), click: () => pick(name) }, name));
    return h("div", { class: "value-box" }, names.length > 1 ? h("div", { class: "segments", role: "group", "aria-label": "Shown as" }, choices) : null, note, body);
  }

  edit() {
    this.editing = new Edit(this);
    replace(this.element, this.heading(), this.facts(), this.editing.element);
    this.editing.input.focus();
  }

  stopEditing() {
    this.editing = null;
    if (this.node && this.node.path === this.path) this.draw();
    this.element.querySelector("#edit")?.focus();
  }
}

/** JSON, indented, its parts marked. Numbers and strings stay as they are written. */
function highlight(text) {
  const out = [];
  const token = /("(?:[^"\\]|\\.)*")|(-?\d[\d.eE+-]*)|(true|false|null)|([{}[\],:])/g;
  let indent = 0;
  let last = "";
  const line = () => `\n${"  ".repeat(indent)}`;
  const tokens = [...text.matchAll(token)];
  tokens.forEach(([all, string, number, word], at) => {
    const next = tokens[at + 1]?.[0];
    if (string) out.push(h("span", { class: next === ":" ? "json-key" : "json-string" }, all));
    else if (number) out.push(h("span", { class: "json-number" }, all));
    else if (word) out.push(h("span", { class: "json-word" }, all));
    else if (all === "{" || all === "[") {
      indent += 1;
      const closed = next === "}" || next === "]";
      out.push(closed ? all : all + line());
    } else if (all === "}" || all === "]") {
      indent -= 1;
      out.push(last === "{" || last === "[" ? all : line() + all);
    } else if (all === ",") out.push(all + line());
    else out.push(": ");
    last = all;
  });
  return out;
}

/** A value that is being changed. */
class Edit {
  constructor(pane) {
    this.pane = pane;
    this.path = pane.path;
    /** What the new value is to take the place of. */
    this.base = pane.node;
    this.isEscaped = plainText(this.base.bytes) === null;
    this.begun = this.textOf(this.base.bytes);
    this.input = h("textarea", { id: "edit-value", class: "mono", spellcheck: "false", rows: String(Math.min(24, Math.max(6, this.begun.split("\n").length + 1))), keydown: (event) => this.key(event) });
    this.input.value = this.begun;
    this.keep = h("select", { id: "edit-ttl" });
    if (this.base.expiration) this.keep.append(h("option", { value: "keep" }, "as it does now"));
    this.keep.append(h("option", { value: "never" }, "never"), h("option", { value: "after" }, "after…"));
    this.after = ttlInput();
    this.after.setAttribute("aria-label", "Expires after");
    this.after.hidden = true;
    this.keep.addEventListener("change", () => (this.after.hidden = this.keep.value !== "after"));
    this.notice = h("div", { class: "conflict", role: "alert", hidden: true });
    this.problem = h("p", { class: "problem", role: "alert", hidden: true });
    this.save = h("button", { type: "submit", class: "primary" }, "Save");
    const how = this.isEscaped
      ? "Escapes: \\\\ for a backslash, \\n, \\r, \\t, \\xFF for a byte, \\u{202e} for a character. Every byte that you leave alone stays as it is."
      : "Saved as UTF-8, byte for byte as it stands here.";
    this.element = h(
      "form",
      { class: "edit", submit: (event) => this.submit(event) },
      this.notice,
      h("div", { class: "field" }, h("label", { for: "edit-value" }, this.isEscaped ? "Value, with escapes" : "Value"), this.input, h("p", { class: "hint" }, how)),
      h("div", { class: "field inline" }, h("label", { for: "edit-ttl" }, "Expires"), this.keep, this.after),
      this.problem,
      h("div", { class: "actions start" }, this.save, h("button", { type: "button", click: () => this.pane.stopEditing() }, "Cancel"), h("span", { class: "hint" }, "Ctrl+Enter saves, Esc leaves")),
    );
  }

  textOf(bytes) {
    return this.isEscaped ? escape(bytes) : decode(bytes);
  }

  isDirty() {
    return this.input.value !== this.begun || this.keep.selectedIndex > 0;
  }

  key(event) {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      this.element.requestSubmit();
    } else if (event.key === "Escape") {
      event.preventDefault();
      if (this.input.value === this.begun) this.pane.stopEditing();
      else this.say("Your changes are not saved. Press Cancel to drop them.");
    }
  }

  say(text) {
    this.problem.hidden = !text;
    setText(this.problem, text || "");
  }

  /** The node has been read again while it is edited. */
  moved(node) {
    if (node.modified !== this.base.modified) this.conflict(node);
  }

  gone(error) {
    this.say(error.code === 100 ? "This key was deleted or has expired meanwhile. Save makes nothing new: copy your text and create the key again." : api.explain(error));
  }

  /** Somebody was quicker: what is there now, and the two ways on. */
  conflict(node) {
    if (this.seen === node.modified) return;
    this.seen = node.modified;
    this.notice.hidden = false;
    const theirs = node.dir ? "It is a directory now." : null;
    const take = () => {
      this.base = node;
      this.isEscaped = plainText(node.bytes) === null;
      this.begun = this.textOf(node.bytes);
      this.input.value = this.begun;
      this.settle();
    };
    const keep = () => {
      this.base = node;
      this.settle();
    };
    replace(
      this.notice,
      h("p", null, h("strong", null, "Somebody else has changed this key"), ` (index ${this.base.modified} → ${node.modified}). Nothing of yours is saved yet. It is now:`),
      theirs ? h("p", null, theirs) : h("pre", { class: "value", tabindex: "0" }, escape(node.bytes.subarray(0, 4096))),
      theirs ? null : h("div", { class: "actions start" }, h("button", { type: "button", id: "take-theirs", click: take }, "Take theirs"), h("button", { type: "button", id: "keep-mine", click: keep }, "Keep my text, to replace theirs")),
    );
  }

  settle() {
    this.notice.hidden = true;
    this.seen = null;
    this.say("");
    this.pane.node = this.base;
    this.input.focus();
  }

  ttl() {
    if (this.keep.value === "never") return undefined;
    if (this.keep.value === "after") return seconds(this.after.value);
    return Math.max(1, Math.round((Date.parse(this.base.expiration) - api.serverNow()) / 1000));
  }

  async submit(event) {
    event.preventDefault();
    this.say("");
    if (!this.notice.hidden) {
      this.say("First say what is to become of their change.");
      return;
    }
    this.save.disabled = true;
    try {
      const bytes = this.isEscaped ? unescape(this.input.value) : utf8(this.input.value);
      await api.swap(this.path, { value: formValue(bytes), ttl: this.ttl(), index: this.base.modified });
      toast(`Saved “${showPath(nameOf(this.path))}”`);
      if (this.pane.editing === this) {
        this.pane.stopEditing();
        this.pane.changed(this.path);
      }
    } catch (error) {
      if (error.code === 101) this.conflict(await this.pane.fetch(this.path).catch(() => this.base));
      else if (error.code === 100) this.gone(error);
      else this.say(api.explain(error, `“${showPath(this.path)}”`));
    } finally {
      this.save.disabled = false;
    }
  }
}
