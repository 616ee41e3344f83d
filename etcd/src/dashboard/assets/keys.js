// The key browser: the tree on one side, the node that is selected on the other.

import * as api from "./api.js";
import { empty, h, replace } from "./dom.js";
import { escape, fromBase64, parentOf, parsePath, showPath } from "./bytes.js";
import { create, remove } from "./forms.js";
import { NodePane } from "./node.js";
import { Tree, countDown } from "./tree.js";

let tree;
let pane;
let section;
let state;
let askForUser;
let rootInput;
let searchInput;
let inValues;
let hiddenToggle;
let results;
let problem;
let createButton;
let seenIndex = 0;
let opened = false;
let active = false;
let searching = 0;

export function start(element, app) {
  section = element;
  state = app.state;
  askForUser = app.askForUser;
  tree = new Tree({ chosen: (path) => go(path), failed, removing });
  pane = new NodePane({ state, hidden: () => tree.hidden, changed, go, watch: (path) => (location.hash = `#/watch${path || "/"}`), add, signIn });
  rootInput = h("input", { type: "text", value: "/", autocomplete: "off", autocapitalize: "none", spellcheck: "false", "aria-label": "Directory that the tree begins with", class: "mono" });
  searchInput = h("input", { type: "search", placeholder: "Search keys", "aria-label": "Search keys", autocomplete: "off", autocapitalize: "none", spellcheck: "false", id: "search" });
  inValues = h("input", { type: "checkbox", id: "search-values" });
  hiddenToggle = h("input", { type: "checkbox", id: "show-hidden", change: () => showHidden(hiddenToggle.checked) });
  createButton = h("button", { type: "button", class: "primary", id: "create", click: () => add(pane.node?.dir ? pane.path : pane.path ? parentOf(pane.path) : tree.root) }, "Create…");
  problem = h("div", { class: "tree-problem", role: "alert", hidden: true });
  results = h("div", { class: "results", role: "region", "aria-label": "Found", hidden: true });
  const toolbar = h(
    "div",
    { class: "toolbar" },
    h("form", { class: "rooting", submit: (event) => openRoot(event) }, h("span", { class: "prefix" }, "Tree of"), rootInput, h("button", { type: "submit", class: "unseen-on-wide" }, "Open")),
    h("form", { role: "search", class: "search", submit: (event) => search(event) }, searchInput, h("label", { class: "check" }, inValues, "in values")),
    h("label", { class: "check" }, hiddenToggle, "show hidden"),
    h("button", { type: "button", class: "quiet", id: "refresh", click: () => reload() }, "Refresh"),
    createButton,
  );
  searchInput.addEventListener("input", () => {
    if (searchInput.value === "") endSearch();
    else search();
  });
  inValues.addEventListener("change", () => searchInput.value && search());
  section.append(
    h("div", { class: "head" }, h("h1", { id: "title-keys" }, "Keys")),
    toolbar,
    h("div", { class: "split" }, h("div", { class: "side" }, problem, results, tree.element), pane.element),
  );
  section.addEventListener("keydown", (event) => {
    if (event.key === "/" && !/^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)) {
      event.preventDefault();
      searchInput.focus();
    }
  });
  setInterval(() => {
    if (active) countDown(section);
  }, 1000);
}

export async function enter(rest) {
  active = true;
  const path = rest.replace(/\/+$/, "");
  if (!opened) {
    opened = true;
    await tree.open("");
  }
  if (path === pane.path && pane.node) return;
  if (path === "" && rest === "") {
    section.classList.remove("with-node");
    if (pane.path !== null) pane.none();
    if (tree.directories.has("")) await show("");
    return;
  }
  await show(path);
}

async function show(path) {
  section.classList.toggle("with-node", path !== "");
  await pane.show(path);
  if (path !== "" && pane.path === path) await tree.reveal(path);
}

export function leave() {
  active = false;
}

export async function update(cluster) {
  createButton.hidden = state.readOnly;
  const index = cluster.members.find((member) => member.is_self)?.report?.store_index || 0;
  if (index === seenIndex) return;
  seenIndex = index;
  if (active && opened && !document.querySelector("dialog")) await refresh();
}

export function recovered() {
  if (opened) reload();
}

/** Reads again what is on the screen, without moving anything. */
async function refresh() {
  if (results.hidden) await tree.refresh();
  await pane.read();
}

async function reload() {
  problem.hidden = true;
  if (tree.directories.has(tree.root)) await tree.refresh();
  else await tree.open(tree.root);
  await pane.read();
}

/** Shows what has come of a change, unless something else is looked at by then. */
async function changed(path) {
  seenIndex = 0;
  const shown = pane.path;
  await tree.refresh();
  const isThere = await pane.fetch(path).then(() => true, () => false);
  if (pane.path !== shown) return;
  if (isThere) await pane.show(path);
  // It was deleted: its directory is shown.
  else go(parentOf(path));
}

/** Shows a node, or with null the tree alone. */
function go(path) {
  const hash = path === null ? "#/keys" : `#/keys${path || ""}`;
  if (location.hash === hash) enter(path || "");
  else location.hash = hash;
}

async function add(parent) {
  const path = await create(parent);
  if (path === null) return;
  const shown = pane.path;
  await tree.refresh();
  if (pane.path === shown) go(path);
}

async function removing(path, entry) {
  if (!state.readOnly && (await remove(path, entry))) changed(path);
}

async function signIn() {
  if (await askForUser()) reload();
}

function failed(error, path) {
  if (error instanceof api.Unreachable || error.code === 100) return;
  problem.hidden = false;
  const button = api.needsSignIn(error) ? h("button", { type: "button", click: () => signIn() }, "Sign in") : null;
  const more = path === "" ? " Or enter a directory that you may read in “Tree of”." : "";
  replace(problem, h("p", null, api.explain(error, `“${showPath(path)}”`) + more), button);
  if (path === tree.root) replace(tree.element, h("p", { class: "loading" }, "Not readable."));
}

async function openRoot(event) {
  event.preventDefault();
  problem.hidden = true;
  let root;
  try {
    root = parsePath(rootInput.value);
  } catch (error) {
    problem.hidden = false;
    replace(problem, h("p", null, error.message));
    return;
  }
  rootInput.value = showPath(root);
  endSearch();
  await tree.open(root);
  if (tree.directories.has(root)) go(root);
}

async function showHidden(hidden) {
  tree.hidden = hidden;
  if (searchInput.value) search();
  await reload();
}

function endSearch() {
  searching += 1;
  searchInput.value = "";
  results.hidden = true;
  tree.element.hidden = false;
}

async function search(event) {
  event?.preventDefault();
  const text = searchInput.value;
  if (text === "") return endSearch();
  const turn = ++searching;
  // Not for each letter that is typed.
  await new Promise((resolve) => setTimeout(resolve, event ? 0 : 250));
  if (turn !== searching) return undefined;
  let found;
  try {
    found = await api.search(tree.root, text, { hidden: tree.hidden, values: inValues.checked });
  } catch (error) {
    found = { error };
  }
  if (turn !== searching) return undefined;
  tree.element.hidden = true;
  results.hidden = false;
  if (found.error) return replace(results, empty("The search failed", api.explain(found.error, `all below “${showPath(tree.root)}”`)));
  if (found.entries.length === 0) return replace(results, empty("Nothing found", `${found.looked_at.toLocaleString("en-US")} nodes below ${showPath(tree.root)} were looked at.${tree.hidden ? "" : " Hidden ones were not."}`));
  const items = found.entries.map((entry) => {
    const preview = entry.dir ? "directory" : escape(fromBase64(entry.preview), true);
    return h("li", null, h("a", { href: `#/keys${entry.name}` }, h("span", { class: "mono" }, mark(showPath(entry.name), text)), h("small", { class: "preview" }, preview)));
  });
  const count = `${found.entries.length}${found.more ? " or more" : ""} found`;
  return replace(results, h("p", { class: "hint", role: "status" }, count), h("ul", { class: "found" }, items));
}

/** A text with the part that was searched for set off. */
function mark(shown, text) {
  const at = shown.toLowerCase().indexOf(text.toLowerCase());
  if (at < 0) return shown;
  return [shown.slice(0, at), h("mark", null, shown.slice(at, at + text.length)), shown.slice(at + text.length)];
}
