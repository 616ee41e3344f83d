// The one door to the server: all that the page asks goes through `ask`. It knows who is signed in, whether the server
// can be reached, and what an error means.

import { toBase64, utf8 } from "./bytes.js";

const TIME_MAX = 10000;

/** In memory only: gone with the page. */
let credentials = null;
let reachable = true;
/** How far the server's clock is ahead of ours, in milliseconds. */
let clockAhead = 0;

const listeners = new Set();

/** Calls `listener` when the server is lost or back, and when somebody signs in or out. */
export function onChange(listener) {
  listeners.add(listener);
}

function changed() {
  for (const listener of listeners) listener();
}

export function isReachable() {
  return reachable;
}

export function user() {
  return credentials ? credentials.user : null;
}

export function serverNow() {
  return Date.now() + clockAhead;
}

export class Refusal extends Error {
  constructor(status, code, message, cause, index) {
    super(message);
    this.status = status;
    /** etcd's own number; 0 where there is none. */
    this.code = code;
    this.what = cause;
    /** `X-Etcd-Index`. */
    this.index = index;
  }
}

export class Unreachable extends Error {}

function setReachable(now) {
  if (reachable !== now) {
    reachable = now;
    changed();
  }
}

/** A raw answer. Throws `Unreachable` if there is none. */
export async function open(path, { method = "GET", body, signal, as = credentials } = {}) {
  const headers = {};
  if (as) headers.Authorization = `Basic ${toBase64(utf8(`${as.user}:${as.password}`))}`;
  if (body !== undefined) headers["Content-Type"] = "application/x-www-form-urlencoded";
  let answer;
  try {
    answer = await fetch(path, { method, headers, body, signal, credentials: "omit", cache: "no-store", redirect: "error" });
  } catch (error) {
    if (signal && signal.aborted && signal.reason !== TIMEOUT) throw error;
    setReachable(false);
    throw new Unreachable("The server does not answer.");
  }
  const date = Date.parse(answer.headers.get("Date"));
  if (!Number.isNaN(date)) {
    const ahead = date + 500 - Date.now();
    if (Math.abs(ahead - clockAhead) > 1500) clockAhead = ahead;
  }
  setReachable(true);
  return answer;
}

const TIMEOUT = new Error("timeout");

/** The refusal that an answer is. */
export async function refusalOf(answer) {
  const text = await answer.text().catch(() => "");
  const index = Number(answer.headers.get("X-Etcd-Index")) || 0;
  try {
    const { errorCode = 0, message = "", cause = "" } = JSON.parse(text);
    return new Refusal(answer.status, errorCode, message, cause, index);
  } catch {
    return new Refusal(answer.status, 0, text.trim() || answer.statusText, "", index);
  }
}

/** Asks and reads the JSON of the answer. */
export async function ask(path, options = {}) {
  const stop = new AbortController();
  const timer = setTimeout(() => stop.abort(TIMEOUT), TIME_MAX);
  try {
    const answer = await open(path, { ...options, signal: stop.signal });
    if (!answer.ok) throw await refusalOf(answer);
    const text = await answer.text();
    return text === "" ? null : JSON.parse(text);
  } catch (error) {
    if (stop.signal.aborted) {
      setReachable(false);
      throw new Unreachable("The server did not answer in time.");
    }
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

/** A form out of bytes that are escaped already. */
function form(fields) {
  const pairs = Object.entries(fields).filter(([, value]) => value !== undefined && value !== null);
  return pairs.map(([name, value]) => `${name}=${value}`).join("&");
}

const keys = (path, query) => `api/keys${path}${query ? `?${query}` : ""}`;

export const cluster = () => ask("api/cluster");
export const stats = () => ask("api/stats");

export function node(path, { hidden = false, after = "", dir = false } = {}) {
  const slash = dir || path === "" ? "/" : "";
  return ask(`api/node${path}${slash}?${form({ hidden, after })}`);
}

export function search(under, text, { hidden, values }) {
  return ask(`api/search${under}/?${form({ text: encodeURIComponent(text), hidden, values })}`);
}

export function create(path, { value, dir, ttl }) {
  return ask(keys(path), { method: "PUT", body: form({ value, dir: dir ? "true" : undefined, ttl, prevExist: "false" }) });
}

/** Puts a value in the place of the one with this index, and of no other. */
export function swap(path, { value, ttl, index }) {
  return ask(keys(path), { method: "PUT", body: form({ value, ttl, prevIndex: index }) });
}

/** Moves the time at which a node goes. A key keeps its value, and nobody who watches it is told. */
export function setTtl(path, { ttl, dir, index }) {
  const fields = dir ? { dir: "true", prevExist: "true", ttl } : { refresh: "true", prevExist: "true", prevIndex: index, ttl };
  return ask(keys(path), { method: "PUT", body: form(fields) });
}

export function remove(path, { dir, index }) {
  const query = dir ? "dir=true&recursive=true" : form({ prevIndex: index });
  return ask(keys(path, query), { method: "DELETE" });
}

/** An answer that goes on as events come. */
export function watch(path, { recursive, since, signal }) {
  return open(keys(path, form({ wait: "true", stream: "true", recursive, waitIndex: since || undefined })), { signal });
}

/** Whether users count, and whether these are a user and a password. Throws if not. */
export async function signIn(name, password) {
  const as = { user: name, password };
  const session = await ask("api/session", { as });
  if (session.auth && !session.known) throw new Refusal(401, 0, `There is no user “${name}” with this password.`, "", 0);
  credentials = as;
  changed();
}

export function signOut() {
  credentials = null;
  changed();
}

/** What an error means, and what to do next. */
export function explain(error, what = "this") {
  if (!(error instanceof Refusal)) return error.message;
  const detail = error.what ? ` (${error.what})` : "";
  switch (true) {
    case error.status === 401 && user() !== null:
      return `The user “${user()}” may not access ${what}. Sign in as another user, or have the right granted to a role of this one.`;
    case error.code === 110 || (error.status === 401 && error.message.startsWith("Insufficient")):
      return `Users are switched on in this cluster, and guests may not access ${what}. Sign in.`;
    case error.status === 401:
      return error.message;
    case error.status === 403 && error.code === 0:
      return error.message;
    case error.code === 100:
      return `There is nothing at this place any more${detail}. It was deleted or has expired.`;
    case error.code === 101:
      return `Somebody else changed it meanwhile${detail}.`;
    case error.code === 105:
      return `It exists already${detail}. Choose another name, or open it and edit it.`;
    case error.code === 104:
      return `A key stands where a directory is needed${detail}.`;
    case error.code === 102:
      return `It is a directory by now${detail}.`;
    case error.code === 107:
      return "The root cannot be changed.";
    case error.code === 300 || error.code === 301 || error.status === 503 || error.status === 500:
      return `The cluster could not do it: ${error.message}${detail}. Look at the cluster view: a majority of members must be healthy.`;
    case error.status === 413:
      return "The value is longer than this server takes (-max-request-bytes).";
    default:
      return `${error.message || `Status ${error.status}`}${detail}`;
  }
}

/** Whether signing in may help. */
export function needsSignIn(error) {
  return error instanceof Refusal && error.status === 401;
}
