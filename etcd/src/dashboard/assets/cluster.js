// The cluster: who is in it, who leads, who answers, and how far everybody is.

import * as api from "./api.js";
import { empty, h, replace, setText } from "./dom.js";
import { span } from "./bytes.js";

const WORDS = { healthy: "Healthy", unhealthy: "Unhealthy", unreachable: "Unreachable", unstarted: "Not started" };
const KINDS = { healthy: "good", unhealthy: "bad", unreachable: "bad", unstarted: "warn" };

let summary;
let table;
let verdict;
let title;

export function start(section) {
  title = h("h1", { id: "title-cluster" }, "Cluster");
  verdict = h("p", { class: "verdict", role: "status" });
  summary = h("dl", { class: "tiles" });
  table = h("div", { class: "members" }, empty("Asking the members…"));
  section.append(h("div", { class: "head" }, title, verdict), summary, table);
}

export function enter() {}

export function failed(error) {
  if (table.querySelector("table") === null) replace(table, empty("No answer yet", api.explain(error)));
}

/** What the states of the members mean for those who use the cluster. */
function judge(members, leader) {
  const all = members.length;
  const healthy = members.filter((member) => member.health === "healthy").length;
  const majority = Math.floor(all / 2) + 1;
  if (!leader) return ["bad", "No leader: writes wait until a majority of members agrees on one."];
  if (healthy === all) {
    const bears = all - majority;
    const more = all === 1 ? "It bears no loss: its data are on one machine." : bears === 0 ? "It bears no loss of a member." : `It bears the loss of ${bears === 1 ? "one member" : `${bears} members`}.`;
    return [all === 1 ? "calm" : "good", `${all === 1 ? "The only member is" : `All ${all} members are`} healthy. ${more}`];
  }
  if (healthy < majority) return ["bad", `Only ${healthy} of ${all} members are healthy, ${majority} are needed: writes may not be answered.`];
  const spare = healthy - majority;
  return ["warn", `${healthy} of ${all} members are healthy: the cluster works and bears ${spare === 0 ? "no further loss" : `the loss of ${spare} more`}.`];
}

const number = (value) => (value === null || value === undefined ? "–" : value.toLocaleString("en-US"));
const millis = (value) => (value === null || value === undefined ? "–" : value < 10 ? `${value.toFixed(2)} ms` : `${Math.round(value)} ms`);

function tile(name, value, detail, id) {
  return h("div", { class: "tile" }, h("dt", null, name), h("dd", { id }, value, detail ? h("small", null, detail) : null));
}

export function update(cluster) {
  // Somebody is marking an id or a URL to copy it: it is not taken away under their hand.
  const selection = getSelection();
  if (!selection.isCollapsed && table.contains(selection.anchorNode)) return;
  const own = cluster.members.find((member) => member.is_self);
  const report = own && own.report ? own.report : {};
  const leader = cluster.members.find((member) => member.id === report.leader);
  const [kind, words] = judge(cluster.members, report.leader);
  verdict.className = `verdict ${kind}`;
  setText(verdict, words);
  const commits = cluster.members.map((member) => (member.report && member.report.commit) || 0);
  const furthest = Math.max(...commits);
  replace(
    summary,
    tile("Leader", leader ? leader.name || leader.id : report.leader || "none", leader ? leader.id : "", "leader"),
    tile("Raft term", number(report.term), "", "term"),
    tile("Raft index", number(report.commit), `applied ${number(report.applied)}`, "index"),
    tile("Store index", number(report.store_index), "X-Etcd-Index"),
    tile("Cluster version", cluster.version || "not decided"),
    tile("Users and roles", cluster.auth ? "on" : "off", cluster.auth ? "" : "everybody may do everything"),
  );
  const followers = new Map();
  for (const member of cluster.members) {
    if (member.report && member.report.role === "leader") for (const one of member.report.followers) followers.set(one.id, one);
  }
  const sorted = [...cluster.members].sort((one, other) => one.name.localeCompare(other.name) || one.id.localeCompare(other.id));
  const rows = sorted.map((member) => row(member, followers.get(member.id), report.leader, furthest));
  const heads = ["Member", "State", "Raft", "Answer", "Append latency", "Appends", "URLs"];
  const caption = h("caption", { class: "unseen" }, "Members of the cluster");
  // The row that has the focus is not there any more when the table is made anew: it has nothing to focus.
  replace(table, h("table", { class: "grid stacking" }, caption, h("thead", null, h("tr", null, heads.map((head) => h("th", { scope: "col" }, head)))), h("tbody", null, rows)));
}

function cell(label, ...children) {
  return h("td", { "data-label": label }, h("div", null, children));
}

function row(member, follower, leaderId, furthest) {
  const report = member.report;
  const leads = member.id === leaderId;
  const badges = [leads ? h("span", { class: "badge accent" }, "leader") : null, member.is_self ? h("span", { class: "badge" }, "this member") : null];
  const state = h("span", { class: `state ${KINDS[member.health]}` }, WORDS[member.health]);
  const behind = report && report.commit !== null && furthest - report.commit > 0 ? `${number(furthest - report.commit)} behind` : "";
  const since = report && report.started ? span((api.serverNow() - Date.parse(report.started)) / 1000) : "";
  const linked = member.linked === false && member.health !== "unstarted" ? h("small", { class: "bad-text" }, "no connection between the members") : null;
  return h(
    "tr",
    { "data-member": member.name, "data-health": member.health },
    h("th", { scope: "row" }, h("div", { class: "member-name" }, member.name || "(unnamed)", badges), h("small", { class: "mono" }, member.id)),
    cell("State", state, since ? h("small", null, `up ${since}`) : null, linked, member.problem ? h("small", { class: "problem-text" }, member.problem) : null),
    cell("Raft", report && report.term !== null ? [h("span", { class: "num" }, `${number(report.commit)}`), h("small", null, `term ${report.term}${behind ? ` · ${behind}` : ""}`)] : "–"),
    cell("Answer", member.is_self ? "–" : millis(member.round_trip), report && report.version ? h("small", null, `${report.version}${report.program ? ` · ${report.program}` : ""}`) : null),
    cell("Append latency", follower ? [millis(follower.latency), h("small", null, `ø ${millis(follower.latency_average)}${follower.fail ? ` · ${number(follower.fail)} failed` : ""}`)] : h("span", { class: "faint" }, leads ? "leads" : "–")),
    cell("Appends", report ? appends(report) : "–"),
    cell("URLs", h("ul", { class: "urls" }, member.client_urls.map((url) => h("li", null, url)), member.peer_urls.map((url) => h("li", { class: "faint" }, url, h("span", { class: "unseen" }, " (between members)"))))),
  );
}

function appends(report) {
  const rate = (direction) => `${direction.per_second < 10 ? direction.per_second.toFixed(1) : Math.round(direction.per_second)}/s`;
  const sent = report.role === "leader";
  const direction = sent ? report.sent : report.received;
  return [rate(direction), h("small", null, `${sent ? "sent" : "received"} ${number(direction.count)}`)];
}
