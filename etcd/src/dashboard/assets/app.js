// The frame of the page: which view is shown, who is signed in, whether the server is there, which colours.

import * as api from "./api.js";
import { dialog, field, h, setText, toast } from "./dom.js";
import * as clusterView from "./cluster.js";
import * as keysView from "./keys.js";
import * as statsView from "./stats.js";
import * as watchView from "./watch.js";

const INTERVAL = 2000;

const views = { cluster: clusterView, keys: keysView, watch: watchView, stats: statsView };

/** What all views know of the server. */
const state = { readOnly: true, auth: false, cluster: null };

let current = null;

function route() {
  const words = location.hash.replace(/^#\/?/, "");
  const cut = words.indexOf("/");
  const name = cut < 0 ? words : words.slice(0, cut);
  const view = views[name] ? name : "cluster";
  const rest = views[name] && cut >= 0 ? words.slice(cut) : "";
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.view === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  for (const other of Object.keys(views)) document.getElementById(`view-${other}`).hidden = other !== view;
  document.title = `${view[0].toUpperCase()}${view.slice(1)} · etcd dashboard`;
  if (current && current !== view && views[current].leave) views[current].leave();
  const came = current !== view;
  current = view;
  views[view].enter(rest, came);
}

const THEMES = { auto: "◐ Auto", light: "☀ Light", dark: "☾ Dark" };
const SPOKEN = { auto: "as the system", light: "light", dark: "dark" };

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  const button = document.getElementById("theme");
  setText(button, THEMES[theme]);
  button.setAttribute("aria-label", `Colours: ${SPOKEN[theme]}`);
}

function startTheme() {
  let theme = "auto";
  try {
    theme = localStorage.getItem("etcd-dashboard-theme") || "auto";
  } catch {
    // Browsers may forbid it; the choice lives as long as the page then.
  }
  setTheme(THEMES[theme] ? theme : "auto");
  document.getElementById("theme").addEventListener("click", () => {
    const names = Object.keys(THEMES);
    const next = names[(names.indexOf(document.documentElement.dataset.theme) + 1) % names.length];
    setTheme(next);
    try {
      localStorage.setItem("etcd-dashboard-theme", next);
    } catch {
      // As above.
    }
  });
}

/** Asks for a user and a password. Resolves to whether somebody has signed in. */
export async function askForUser(why) {
  const name = h("input", { type: "text", name: "user", autocomplete: "username", autocapitalize: "none", spellcheck: "false", required: true });
  const password = h("input", { type: "password", name: "password", autocomplete: "current-password" });
  return dialog({
    title: "Sign in",
    body: [
      h("p", null, why || "Users are switched on in this cluster."),
      field("User", name),
      field("Password", password, "Kept in the memory of this page only, and sent to this server with each request."),
    ],
    action: "Sign in",
    submit: async () => {
      await api.signIn(name.value, password.value);
      toast(`Signed in as ${name.value}`);
    },
    explain: (error) => api.explain(error),
  });
}

function showAccount() {
  const button = document.getElementById("account");
  button.hidden = !state.auth && api.user() === null;
  setText(button, api.user() === null ? "Sign in" : `Sign out ${api.user()}`);
}

function showReachable() {
  const banner = document.getElementById("banner");
  const lost = !api.isReachable();
  if (lost && banner.hidden) banner.textContent = "Connection to the server lost. What is shown may be old; trying again…";
  if (!lost && !banner.hidden) toast("Connected again");
  banner.hidden = !lost;
  document.body.classList.toggle("lost", lost);
}

async function round() {
  try {
    const cluster = await api.cluster();
    state.cluster = cluster;
    state.auth = cluster.auth;
    state.readOnly = cluster.read_only;
    setText(document.getElementById("brand-cluster"), cluster.cluster_id);
    document.getElementById("read-only").hidden = !cluster.read_only;
    showAccount();
    for (const view of Object.values(views)) if (view.update) view.update(cluster);
  } catch (error) {
    if (views[current].failed) views[current].failed(error);
  }
}

/** Rounds follow each other while the page is seen: none piles up on another. */
function keepGoing(work) {
  let timer = null;
  let running = false;
  const next = async () => {
    timer = null;
    if (document.hidden || running) return;
    running = true;
    await work().catch(() => {});
    running = false;
    timer = setTimeout(next, INTERVAL);
  };
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && timer === null) next();
  });
  next();
}

startTheme();
for (const [name, view] of Object.entries(views)) {
  view.start(document.getElementById(`view-${name}`), { state, askForUser });
}
api.onChange(() => {
  showReachable();
  showAccount();
  if (api.isReachable() && views[current].recovered) views[current].recovered();
});
document.getElementById("account").addEventListener("click", () => {
  if (api.user() === null) askForUser();
  else {
    api.signOut();
    toast("Signed out");
  }
});
window.addEventListener("hashchange", route);
route();
keepGoing(round);
keepGoing(statsView.sample);
