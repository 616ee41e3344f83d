// Live events below a prefix.
//
// One answer that goes on brings them. When it breaks off, the next one begins behind the last event that was seen: the
// server's history closes the gap. Where the history does not reach back so far, a line says that events are missing.

import * as api from "./api.js";
import { field, h, replace, setText } from "./dom.js";
import { escape, parsePath, showPath, utf8 } from "./bytes.js";

const ROWS_MAX = 500;
const RETRY_MIN = 500;
const RETRY_MAX = 8000;

let prefix;
let recursive;
let from;
let startButton;
let pauseButton;
let list;
let count;
let status;
let filter;
let askForUser;

/** The watch that goes on. */
let run = null;
let paused = false;
/** What came while the list stood still; the oldest go first. */
let held = [];
let dropped = 0;
let total = 0;
/** What is to be shown in the next frame. */
let fresh = [];

export function start(section, app) {
  askForUser = app.askForUser;
  prefix = h("input", { type: "text", value: "/", class: "mono", autocomplete: "off", autocapitalize: "none", spellcheck: "false", id: "watch-prefix" });
  recursive = h("input", { type: "checkbox", checked: true, id: "watch-recursive" });
  from = h("input", { type: "text", inputmode: "numeric", placeholder: "now", class: "short", id: "watch-from" });
  startButton = h("button", { type: "submit", class: "primary", id: "watch-start" }, "Start");
  pauseButton = h("button", { type: "button", id: "watch-pause", "aria-pressed": "false", disabled: true, click: () => pause(!paused) }, "Pause");
  filter = h("input", { type: "search", placeholder: "Filter what is shown", "aria-label": "Filter what is shown", input: () => applyFilter() });
  status = h("p", { class: "watch-status", role: "status" }, "Not watching.");
  count = h("span", { class: "hint", id: "watch-count" });
  list = h("tbody", { id: "events" });
  section.append(
    h("div", { class: "head" }, h("h1", { id: "title-watch" }, "Watch"), status),
    h(
      "form",
      { class: "toolbar", submit: (event) => toggle(event) },
      field("Prefix", prefix),
      field("From index", from),
      h("label", { class: "check" }, recursive, "all below"),
      startButton,
      pauseButton,
      h("button", { type: "button", id: "watch-clear", click: () => clear() }, "Clear"),
      filter,
      count,
    ),
    h(
      "div",
      { class: "scroll events-box" },
      h(
        "table",
        { class: "grid events stacking" },
        h("caption", { class: "unseen" }, "Events, the newest first"),
        h("thead", null, h("tr", null, ["Time", "Index", "Action", "Key", "Value"].map((head) => h("th", { scope: "col" }, head)))),
        list,
      ),
    ),
  );
  showEmpty();
}

export function enter(rest, came) {
  if (rest !== "" && came) {
    const wanted = rest === "/" ? "" : rest.replace(/\/+$/, "");
    prefix.value = showPath(wanted);
    from.value = "";
    begin();
  }
}

export function recovered() {
  if (run && run.retry) run.retry();
}

function showEmpty() {
  if (list.children.length === 0) replace(list, h("tr", { class: "none" }, h("td", { colspan: "5" }, h("p", { class: "empty" }, "No events yet. What is written below the prefix appears here."))));
}

function toggle(event) {
  event.preventDefault();
  if (run) end("Stopped.");
  else begin();
}

function begin() {
  end("");
  let path;
  let since = 0;
  try {
    path = parsePath(prefix.value);
    if (from.value.trim()) {
      if (!/^\s*[1-9]\d*\s*$/.test(from.value)) throw new Error("An index is a number, such as 42.");
      since = Number(from.value);
    }
  } catch (error) {
    say(error.message, "bad");
    return;
  }
  setText(startButton, "Stop");
  pauseButton.disabled = false;
  run = { path, since, recursive: recursive.checked, stop: new AbortController(), wait: RETRY_MIN };
  follow(run);
}

function end(words) {
  if (run) run.stop.abort();
  run = null;
  setText(startButton, "Start");
  if (words) say(words);
}

function say(words, kind = "") {
  status.className = `watch-status ${kind}`;
  setText(status, words);
}

/** Asks again and again, each time from behind the last event. */
async function follow(own) {
  const { signal } = own.stop;
  while (run === own) {
    try {
      const answer = await api.watch(own.path, { recursive: own.recursive, since: own.since, signal });
      if (!answer.ok) throw await api.refusalOf(answer);
      const index = Number(answer.headers.get("X-Etcd-Index")) || 0;
      if (own.since === 0) own.since = index + 1;
      own.wait = RETRY_MIN;
      say(`Live below ${showPath(own.path)}, from index ${own.since.toLocaleString("en-US")}.`, "good");
      await read(own, answer.body.getReader());
    } catch (error) {
      if (run !== own || signal.aborted) return;
      if (error.code === 401) {
        // No HTTP status: etcd's number for a history that does not reach back so far.
        push({ gap: `Events from index ${own.since} on are no longer in the server's history. What happened up to index ${error.index} is missing here.` });
        own.since = error.index + 1;
        continue;
      }
      if (api.needsSignIn(error)) {
        end(api.explain(error, `all below “${showPath(own.path)}”`));
        status.className = "watch-status bad";
        if (api.user() === null && (await askForUser())) begin();
        return;
      }
      if (error instanceof api.Refusal && error.status < 500) {
        end(api.explain(error));
        return;
      }
    }
    if (run !== own) return;
    say(`The watch broke off; it goes on from index ${own.since} as soon as the server answers.`, "warn");
    await new Promise((resolve) => {
      own.retry = resolve;
      setTimeout(resolve, own.wait);
    });
    own.wait = Math.min(own.wait * 2, RETRY_MAX);
  }
}

/** Reads events, one in each line, until the answer ends. */
async function read(own, reader) {
  const decoder = new TextDecoder();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done || run !== own) return;
    text += decoder.decode(value, { stream: true });
    const lines = text.split("\n");
    text = lines.pop();
    for (const line of lines) {
      if (line.trim() === "") continue;
      const event = JSON.parse(line);
      if (!event.node) continue;
      own.since = event.node.modifiedIndex + 1;
      push(event);
    }
  }
}

function push(event) {
  total += event.gap ? 0 : 1;
  const item = { event, at: new Date() };
  if (paused) {
    held.push(item);
    if (held.length > ROWS_MAX) {
      held.shift();
      dropped += 1;
    }
    showCount();
    return;
  }
  if (fresh.length === 0) requestAnimationFrame(draw);
  fresh.push(item);
}

function draw() {
  const items = fresh.slice(-ROWS_MAX).reverse();
  fresh = [];
  list.querySelector(".none")?.remove();
  list.prepend(...items.map(row));
  while (list.children.length > ROWS_MAX) list.lastChild.remove();
  applyFilter();
  showCount();
}

function showCount() {
  const shown = list.querySelectorAll("tr:not(.none)").length;
  const waiting = held.length ? ` · ${held.length} wait${dropped ? ` (${dropped} older ones dropped)` : ""}` : "";
  setText(count, total ? `${total.toLocaleString("en-US")} events, ${shown} shown${waiting}` : "");
}

const KINDS = { set: "calm", create: "good", update: "calm", compareAndSwap: "calm", delete: "bad", compareAndDelete: "bad", expire: "warn" };

function row({ event, at }) {
  if (event.gap) return h("tr", { class: "gap" }, h("td", { colspan: "5" }, event.gap));
  const { action, node, prevNode } = event;
  const cell = (label, ...children) => h("td", { "data-label": label }, h("div", null, children));
  const path = linkTo(node.key);
  const value = node.value !== undefined ? shown(node.value) : node.dir ? "directory" : "";
  const before = prevNode && prevNode.value !== undefined && prevNode.value !== node.value ? h("del", null, shown(prevNode.value)) : null;
  const ttl = node.ttl ? h("span", { class: "badge" }, `ttl ${node.ttl} s`) : null;
  return h(
    "tr",
    { "data-text": `${action} ${node.key} ${node.value || ""}`.toLowerCase() },
    cell("Time", h("time", { class: "num", datetime: at.toISOString() }, at.toLocaleTimeString("en-GB"))),
    cell("Index", h("span", { class: "num" }, String(node.modifiedIndex))),
    cell("Action", h("span", { class: `badge ${KINDS[action] || ""}` }, action)),
    cell("Key", h("a", { class: "mono", href: `#/keys${path}` }, escape(utf8(node.key), true))),
    cell("Value", before, value === "" ? null : h("span", { class: "mono preview" }, value), ttl),
  );
}

function shown(value) {
  const text = escape(utf8(value), true);
  return text.length > 200 ? `${text.slice(0, 200)} …` : text;
}

function linkTo(key) {
  try {
    return parsePath(key.replaceAll("\\", "\\\\"));
  } catch {
    return "";
  }
}

function applyFilter() {
  const words = filter.value.toLowerCase();
  for (const one of list.children) {
    if (one.dataset.text !== undefined) one.hidden = words !== "" && !one.dataset.text.includes(words);
  }
}

function pause(wanted) {
  paused = wanted;
  pauseButton.setAttribute("aria-pressed", String(paused));
  setText(pauseButton, paused ? "Go on" : "Pause");
  if (!paused && held.length) {
    if (dropped) fresh.push({ event: { gap: `${dropped} events came while the list was paused and are not shown.` }, at: new Date() });
    fresh.push(...held);
    held = [];
    dropped = 0;
    requestAnimationFrame(draw);
  }
}

function clear() {
  list.replaceChildren();
  held = [];
  fresh = [];
  dropped = 0;
  total = 0;
  showEmpty();
  showCount();
}
