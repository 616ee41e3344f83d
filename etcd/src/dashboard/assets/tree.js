// The tree of keys: read directory by directory, shown as a flat list of rows, walked with the keys of a tree.

import * as api from "./api.js";
import { h, replace } from "./dom.js";
import { nameOf, parentOf, showPath, span } from "./bytes.js";

const ROWS_MAX = 2000;
const REFRESHED_MAX = 40;

export class Tree {
  /** `chosen(path, entry)` is called when somebody picks a node, `failed(error, path)` when one cannot be read. */
  constructor({ chosen, failed, removing }) {
    this.chosen = chosen;
    this.failed = failed;
    this.removing = removing;
    this.root = "";
    this.hidden = false;
    /** What is known of directories, by path: entries, whether there are more, whether it is open. */
    this.directories = new Map();
    this.selected = null;
    this.focused = null;
    this.typed = "";
    this.element = h("div", { class: "tree", role: "tree", "aria-label": "Keys", keydown: (event) => this.key(event), click: (event) => this.click(event) });
  }

  async open(root) {
    this.root = root;
    this.directories.clear();
    this.focused = null;
    replace(this.element, h("p", { class: "loading" }, "Reading…"));
    await this.load(root);
    this.draw();
  }

  async load(path, more = false) {
    const known = this.directories.get(path);
    const after = more && known && known.entries.length ? known.entries.at(-1).name : "";
    try {
      const node = await api.node(path, { hidden: this.hidden, after, dir: true });
      if (!node.dir) return false;
      const entries = more && known ? known.entries.concat(node.entries) : node.entries;
      this.directories.set(path, { entries, more: node.more, open: true });
      return true;
    } catch (error) {
      if (error.code === 100) this.directories.delete(path);
      this.failed(error, path);
      return false;
    }
  }

  /** Reads again what is open. What was loaded in parts is read from its beginning. */
  async refresh() {
    const open = [...this.directories].filter(([path, directory]) => directory.open && this.isShown(path)).slice(0, REFRESHED_MAX);
    for (const [path, directory] of open) {
      if (directory.entries.length > 500) continue;
      if (!(await this.load(path)) && path === this.root) return;
    }
    this.draw();
  }

  isShown(path) {
    for (let at = path; at !== this.root; at = parentOf(at)) {
      if (at === "" || !this.directories.get(parentOf(at))?.open) return false;
    }
    return true;
  }

  /** Opens all directories above a node and selects it. */
  async reveal(path) {
    if (path !== this.root && !path.startsWith(`${this.root}/`)) return;
    const above = [];
    for (let at = path; at !== this.root; at = parentOf(at)) above.unshift(parentOf(at));
    for (const directory of above) {
      const known = this.directories.get(directory);
      if (known) known.open = true;
      else if (!(await this.load(directory))) break;
    }
    this.selected = path;
    this.focused = path;
    this.draw();
    this.rowOf(path)?.scrollIntoView({ block: "nearest" });
  }

  rows() {
    const rows = [];
    const visit = (path, level) => {
      const directory = this.directories.get(path);
      if (!directory || !directory.open) return;
      const count = directory.entries.length;
      directory.entries.forEach((entry, at) => {
        if (rows.length >= ROWS_MAX) return;
        const below = `${path}/${entry.name}`;
        rows.push({ path: below, entry, level, at: at + 1, count });
        if (entry.dir) visit(below, level + 1);
      });
      if (directory.more && rows.length < ROWS_MAX) rows.push({ path: `${path}/…`, more: path, level, at: count + 1, count: count + 1 });
    };
    visit(this.root, 1);
    return rows;
  }

  draw() {
    const hadFocus = this.element.contains(document.activeElement);
    const rows = this.rows();
    this.shown = rows;
    if (rows.length === 0) {
      if (this.directories.has(this.root)) replace(this.element, h("p", { class: "loading" }, this.hidden ? "Nothing is in here." : "Nothing is in here that is not hidden."));
      return;
    }
    if (!rows.some((row) => row.path === this.focused)) this.focused = rows.some((row) => row.path === this.selected) ? this.selected : rows[0].path;
    replace(this.element, rows.map((row) => this.row(row)));
    if (hadFocus) this.rowOf(this.focused)?.focus({ preventScroll: true });
  }

  row({ path, entry, more, level, at, count }) {
    const open = entry?.dir && this.directories.get(path)?.open;
    const attributes = {
      role: "treeitem",
      class: `row level-${Math.min(level, 12)}${entry?.hidden ? " hidden-node" : ""}${entry?.dir ? " dir" : ""}`,
      tabindex: path === this.focused ? "0" : "-1",
      "aria-level": level,
      "aria-posinset": at,
      "aria-setsize": count,
      "aria-selected": path === this.selected ? "true" : "false",
      "aria-expanded": entry?.dir ? String(Boolean(open)) : undefined,
      "data-path": path,
    };
    if (more !== undefined) return h("div", { ...attributes, class: `${attributes.class} more` }, h("span", { class: "twist" }), "Show more…");
    const expires = entry.expiration ? h("small", { class: "expires", "data-expires": entry.expiration, "aria-label": "expires" }, left(entry.expiration)) : null;
    return h("div", attributes, h("span", { class: "twist", "aria-hidden": "true" }, entry.dir ? (open ? "▾" : "▸") : ""), h("span", { class: "name" }, showPath(entry.name)), expires);
  }

  rowOf(path) {
    return [...this.element.children].find((row) => row.dataset.path === path);
  }

  async toggle(path, open) {
    const directory = this.directories.get(path);
    if (directory) directory.open = open;
    if (open) await this.load(path);
    this.draw();
  }

  async pick(row) {
    if (row.more !== undefined) {
      await this.load(row.more, true);
      this.draw();
      return;
    }
    this.selected = row.path;
    this.focused = row.path;
    this.draw();
    this.chosen(row.path, row.entry);
  }

  click(event) {
    const element = event.target.closest(".row");
    const row = element && this.shown.find(({ path }) => path === element.dataset.path);
    if (!row) return;
    this.focused = row.path;
    if (row.entry?.dir && event.target.closest(".twist")) this.toggle(row.path, !this.directories.get(row.path)?.open);
    else {
      if (row.entry?.dir && !this.directories.get(row.path)?.open) this.toggle(row.path, true);
      this.pick(row);
    }
  }

  focus(path) {
    const before = this.rowOf(this.focused);
    if (before) before.tabIndex = -1;
    this.focused = path;
    const row = this.rowOf(path);
    if (row) {
      row.tabIndex = 0;
      row.focus();
      row.scrollIntoView({ block: "nearest" });
    }
  }

  key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey || !this.shown?.length) return;
    const at = this.shown.findIndex((row) => row.path === this.focused);
    const row = this.shown[at];
    if (!row) return;
    const open = row.entry?.dir && this.directories.get(row.path)?.open;
    const go = (to) => this.focus(this.shown[Math.max(0, Math.min(this.shown.length - 1, to))].path);
    const actions = {
      ArrowDown: () => go(at + 1),
      ArrowUp: () => go(at - 1),
      Home: () => go(0),
      End: () => go(this.shown.length - 1),
      PageDown: () => go(at + 15),
      PageUp: () => go(at - 15),
      ArrowRight: () => (row.entry?.dir && !open ? this.toggle(row.path, true) : open ? go(at + 1) : null),
      ArrowLeft: () => {
        const parent = parentOf(row.path);
        if (open) this.toggle(row.path, false);
        else if (parent !== this.root) this.focus(parent);
      },
      Enter: () => this.pick(row),
      " ": () => this.pick(row),
      Delete: () => row.entry && this.removing(row.path, row.entry),
    };
    if (actions[event.key]) {
      event.preventDefault();
      actions[event.key]();
    } else if (event.key.length === 1) this.seek(event.key, at);
  }

  /** Goes to the next row whose name begins with what is typed. */
  seek(letter, at) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => (this.typed = ""), 700);
    this.typed += letter.toLowerCase();
    const from = this.typed.length > 1 ? at : at + 1;
    const order = [...this.shown.slice(from), ...this.shown.slice(0, from)];
    const found = order.find((row) => row.entry && showPath(nameOf(row.path)).toLowerCase().startsWith(this.typed));
    if (found) this.focus(found.path);
  }
}

/** How long until then, in words. */
export function left(expiration) {
  const seconds = (Date.parse(expiration) - api.serverNow()) / 1000;
  return seconds > 0 ? span(Math.ceil(seconds)) : "expiring…";
}

/** Brings all countdowns below an element up to date. */
export function countDown(element) {
  for (const one of element.querySelectorAll("[data-expires]")) one.textContent = left(one.dataset.expires);
}
