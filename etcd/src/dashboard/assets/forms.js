// What is asked of people before keys change: new nodes, times to live, deletions. All of it guards what others do
// meanwhile: nothing is overwritten or deleted that was not on the screen.

import * as api from "./api.js";
import { dialog, field, h, toast } from "./dom.js";
import { formValue, parsePath, showPath, unescape, utf8 } from "./bytes.js";

/** A time to live, as typed: a number of seconds, or with a unit. Throws if it is none. */
export function seconds(text) {
  const found = /^\s*(\d+)\s*(s|m|min|h|d)?\s*$/.exec(text);
  const value = found ? Number(found[1]) * { s: 1, m: 60, min: 60, h: 3600, d: 86400 }[found[2] || "s"] : 0;
  if (value < 1 || value > 3e9) throw new Error("A time to live is a number of seconds, or such as 90s, 5min, 2h, 7d.");
  return value;
}

export function ttlInput(value = "") {
  return h("input", { type: "text", inputmode: "text", placeholder: "never", autocomplete: "off", value, class: "short" });
}

/** Makes a key or a directory below `parent`. Resolves to its path. */
export async function create(parent) {
  let made = null;
  const name = h("input", { type: "text", autocomplete: "off", autocapitalize: "none", spellcheck: "false", name: "name" });
  const kind = h("select", { name: "kind" }, h("option", { value: "key" }, "Key"), h("option", { value: "dir" }, "Directory"));
  const value = h("textarea", { rows: "5", name: "value", spellcheck: "false", class: "mono" });
  const escaped = h("input", { type: "checkbox", name: "escaped" });
  const ttl = ttlInput();
  ttl.name = "ttl";
  const valueFields = h("div", null, field("Value", value), h("label", { class: "check" }, escaped, "with escapes: \\n, \\xFF, \\u{…}"));
  kind.addEventListener("change", () => (valueFields.hidden = kind.value === "dir"));
  await dialog({
    title: "Create",
    body: [
      field("Name", name, `Below ${showPath(parent)}. A slash in it makes directories on the way; a name that begins with _ is hidden.`),
      field("Kind", kind),
      valueFields,
      field("Expires after", ttl, "Seconds, or such as 5min, 2h, 7d. Empty for never."),
    ],
    action: "Create",
    submit: async () => {
      const path = parent + parsePath(name.value);
      if (path === parent) throw new Error("A name is missing.");
      const dir = kind.value === "dir";
      const bytes = escaped.checked ? unescape(value.value) : utf8(value.value);
      await api.create(path, { dir, value: dir ? undefined : formValue(bytes), ttl: ttl.value.trim() ? seconds(ttl.value) : undefined });
      made = path;
      toast(`Created “${showPath(path)}”`);
    },
    explain: (error) => api.explain(error, "this key"),
  });
  return made;
}

/** Sets when a node goes. Resolves to whether that was done. */
export function changeTtl(path, node) {
  const ttl = ttlInput(node.expiration ? String(Math.max(1, Math.round((Date.parse(node.expiration) - api.serverNow()) / 1000))) : "");
  const hint = node.dir
    ? "Seconds, or such as 5min, 2h, 7d; empty for never. All that is in the directory goes with it."
    : "Seconds, or such as 5min, 2h, 7d; empty for never. The value stays, and watchers are not told.";
  return dialog({
    title: `When ${showPath(path)} expires`,
    body: [field("Expires after", ttl, hint)],
    action: "Set",
    submit: async () => {
      const after = ttl.value.trim() ? seconds(ttl.value) : null;
      if (node.dir) await api.setTtl(path, { dir: true, ttl: after ?? "" });
      else if (after === null) await api.swap(path, { value: formValue(node.bytes), index: node.modified });
      else await api.setTtl(path, { ttl: after, index: node.modified });
      toast(after === null ? "It stays for good now" : `It expires in ${after} s`);
    },
    explain: (error) => (error.code === 101 ? `${api.explain(error)} Close this, look at what it is now, and try again.` : api.explain(error, "this key")),
  });
}

/** Deletes a node after a question. Resolves to whether that was done. */
export function remove(path, node) {
  const what = node.dir
    ? [h("p", null, "The directory ", h("code", null, showPath(path)), " and everything below it will be deleted, hidden keys too."), h("p", null, "There is no way back but a backup.")]
    : [h("p", null, "The key ", h("code", null, showPath(path)), " will be deleted, if nobody changes it before."), h("p", null, "There is no way back but a backup.")];
  return dialog({
    title: node.dir ? "Delete a directory?" : "Delete a key?",
    body: what,
    action: node.dir ? "Delete it and all below" : "Delete",
    danger: true,
    submit: async () => {
      await api.remove(path, { dir: node.dir, index: node.modified });
      toast(`Deleted “${showPath(path)}”`);
    },
    explain: (error) => (error.code === 101 ? `${api.explain(error)} It was not deleted. Close this and look at what it is now.` : api.explain(error, "this key")),
  });
}
