// What the asked member does, over the last minutes. The server counts; the page keeps samples and draws differences.

import * as api from "./api.js";
import { h, replace } from "./dom.js";
import { size } from "./bytes.js";
import { Chart } from "./chart.js";

const SECONDS = 300;
const SAMPLES_MAX = 160;

const samples = [];
let charts = [];
let tiles;
let appendsChart;
let latencyChart;
let appendBox;
/** The leader's followers as of the last look at the cluster, and what they had before. */
const appends = [];
let appendNames = "";

const rate = (value) => `${value < 10 ? value.toFixed(1) : Math.round(value).toLocaleString("en-US")}/s`;
const millis = (value) => `${value < 10 ? value.toFixed(2) : Math.round(value)} ms`;
const whole = (value) => Math.round(value).toLocaleString("en-US");

/** Sums the measures of a family whose labels fit. */
function sum(sample, family, fits = () => true, part = "value") {
  return (sample.measures[family] || []).filter(({ labels }) => fits(labels)).reduce((total, measure) => total + (measure[part] || 0), 0);
}

/** How much a number has grown a second; null where it began anew, as after a restart. */
function growth(read) {
  return (now, before) => {
    const grown = read(now) - read(before);
    return grown < 0 ? null : (grown * 1000) / (now.at - before.at);
  };
}

/** The average of what was measured between two samples, in milliseconds. */
function average(family, fits) {
  return (now, before) => {
    const count = sum(now, family, fits) - sum(before, family, fits);
    const seconds = sum(now, family, fits, "sum") - sum(before, family, fits, "sum");
    return count > 0 && seconds >= 0 ? (seconds / count) * 1000 : null;
  };
}

const READS = ({ method }) => method === "GET" || method === "HEAD" || method === "QGET";
const WRITES = (labels) => !READS(labels);
const RECEIVED = "etcd_http_received_total";
const ANSWERED = "etcd_http_successful_duration_second";

const stored = (...names) => growth((sample) => names.reduce((total, name) => total + (sample.store[name] || 0), 0));

const DEFINITIONS = [
  {
    title: "Requests",
    about: "for keys, at this member",
    series: ["reads", "writes", "refused"],
    format: rate,
    values: [growth((sample) => sum(sample, RECEIVED, READS)), growth((sample) => sum(sample, RECEIVED, WRITES)), growth((sample) => sum(sample, "etcd_http_failed_total"))],
  },
  {
    title: "Latency",
    about: "average of what was answered",
    series: ["reads", "writes", "log sync"],
    format: millis,
    values: [average(ANSWERED, READS), average(ANSWERED, WRITES), average("etcd_wal_fsync_durations_seconds")],
  },
  {
    title: "Store",
    about: "changes applied here",
    series: ["set", "create, update, swap", "delete", "expire"],
    format: rate,
    values: [stored("setsSuccess"), stored("createSuccess", "updateSuccess", "compareAndSwapSuccess"), stored("deleteSuccess", "compareAndDeleteSuccess"), stored("expireCount")],
  },
  { title: "Watchers", about: "open at this member", series: ["watchers"], format: whole, values: [(now) => now.store.watchers] },
  { title: "Memory", about: "resident", unit: 1 << 20, series: ["memory"], format: (value) => size(Math.round(value)), values: [(now) => now.resident_bytes] },
  { title: "Processor", about: "of one core", series: ["processor"], format: (value) => `${value.toFixed(value < 10 ? 1 : 0)} %`, values: [(now, before) => (now.cpu_seconds === null ? null : growth((sample) => sample.cpu_seconds * 100)(now, before))] },
];

export function start(section) {
  tiles = h("dl", { class: "tiles" });
  charts = DEFINITIONS.map((definition) => ({ definition, chart: new Chart({ ...definition, seconds: SECONDS }) }));
  appendBox = h("div", { class: "charts" });
  section.append(
    h("div", { class: "head" }, h("h1", { id: "title-stats" }, "Stats"), h("p", { class: "verdict calm" }, `Of the member that served this page, while the page is open; up to ${SECONDS / 60} minutes.`)),
    tiles,
    h("div", { class: "charts" }, charts.map(({ chart }) => chart.element)),
    h("h2", null, "Appends to the members"),
    appendBox,
  );
  replace(appendBox, h("p", { class: "empty" }, "Asking the leader…"));
}

let seen = false;

export function enter() {
  seen = true;
  draw();
}

export function leave() {
  seen = false;
}

/** Takes a sample. Goes on while other views are shown, so that the charts have a past when they are opened. */
export async function sample() {
  const now = await api.stats();
  const before = samples.at(-1)?.raw;
  if (before && now.at <= before.at) return;
  // Through a proxy another member may answer: its counters have nothing to do with those before.
  if (before && before.member !== now.member) samples.length = 0;
  const values = DEFINITIONS.map((definition) => definition.values.map((value) => (samples.length ? value(now, before) : value.length === 1 ? value(now) : null)));
  samples.push({ at: now.at, raw: now, values });
  // Only the newest raw sample is needed again.
  if (samples.length > 1) samples.at(-2).raw = null;
  if (samples.length > SAMPLES_MAX) samples.shift();
  if (seen) draw();
}

function draw() {
  charts.forEach(({ chart }, at) => chart.show(samples.map((one) => ({ at: one.at, values: one.values[at] }))));
  const raw = samples.at(-1)?.raw;
  if (!raw) return;
  const { store } = raw;
  const tile = (name, value, detail) => h("div", { class: "tile" }, h("dt", null, name), h("dd", null, value, detail ? h("small", null, detail) : null));
  const total = (...names) => names.reduce((all, name) => all + (store[name] || 0), 0);
  replace(
    tiles,
    tile("Reads", whole(total("getsSuccess")), `${whole(total("getsFail"))} found nothing`),
    tile("Sets", whole(total("setsSuccess"))),
    tile("Deletes", whole(total("deleteSuccess", "compareAndDeleteSuccess"))),
    tile("Swaps", whole(total("compareAndSwapSuccess")), `${whole(total("compareAndSwapFail"))} came too late`),
    tile("Expired", whole(total("expireCount"))),
    tile("Waiting proposals", whole(sum(raw, "etcd_server_pending_proposal_total"))),
    tile("Open descriptors", raw.open_descriptors === null ? "–" : whole(raw.open_descriptors)),
  );
  drawAppends();
}

/** What the leader sends to each follower. */
export function update(cluster) {
  const leader = cluster.members.find((member) => member.report && member.report.role === "leader");
  const followers = leader ? leader.report.followers : [];
  const name = (id) => cluster.members.find((member) => member.id === id)?.name || id;
  const at = api.serverNow();
  appends.push({ at, of: new Map(followers.map((one) => [name(one.id), { success: one.success, latency: one.latency_average === 0 && one.latency === 0 ? null : one.latency }])) });
  if (appends.length > SAMPLES_MAX) appends.shift();
  if (seen) drawAppends();
}

function drawAppends() {
  const names = [...(appends.at(-1)?.of.keys() || [])].sort();
  if (names.length === 0) {
    appendNames = "";
    replace(appendBox, h("p", { class: "empty" }, appends.length ? "There is nobody to send to: the cluster has one member, or no leader that answers." : "Asking the leader…"));
    return;
  }
  if (appendNames !== names.join("/")) {
    appendNames = names.join("/");
    appendsChart = new Chart({ title: "Append rate", about: "from the leader", series: names, format: rate, seconds: SECONDS });
    latencyChart = new Chart({ title: "Append latency", about: "until the follower has it on its disk", series: names, format: millis, seconds: SECONDS });
    replace(appendBox, appendsChart.element, latencyChart.element);
  }
  const rates = appends.map(({ at, of }, index) => {
    const before = appends[index - 1];
    const values = names.map((name) => {
      const [now, last] = [of.get(name), before?.of.get(name)];
      return now && last && now.success >= last.success ? ((now.success - last.success) * 1000) / (at - before.at) : null;
    });
    return { at, values };
  });
  appendsChart.show(rates);
  latencyChart.show(appends.map(({ at, of }) => ({ at, values: names.map((name) => of.get(name)?.latency ?? null) })));
}
