"use strict";
// Everything that is shown goes in as text: nothing of a peer's is ever taken for markup.

const byId = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const COLOURS = ["var(--v0)", "var(--v1)", "var(--v2)", "var(--v3)"];

function make(name, text, className) {
  const node = document.createElement(name);
  if (text !== undefined && text !== null) node.append(breakable(String(text)));
  if (className) node.className = className;
  return node;
}

// A text whose long words may be broken after punctuation; what has no punctuation, after 24 letters.
function breakable(text) {
  const parts = document.createDocumentFragment();
  let run = "";
  for (const word of text.match(/\S+|\s+/gu) || []) {
    if (word.length <= 24) { run += word; continue; }
    const pieces = word.match(/(?:\d+\.){1,3}\d{1,3}[^\p{L}\p{N}]{0,8}|[\p{L}\p{N}]{1,24}[^\p{L}\p{N}([{<"']{0,8}|[^\p{L}\p{N}]{1,24}?/gu);
    let since = 0;
    pieces.forEach((piece, i) => {
      const opens = /^[([{<"']*$/.test(pieces[i - 1] || "") && since < 8;
      if (i && !opens) { parts.append(run, document.createElement("wbr")); run = ""; since = 0; }
      run += piece;
      since += piece.length;
    });
  }
  parts.append(run);
  return parts;
}

const cell = (text, className) => ({ text, className });
const sum = (numbers) => (numbers || []).reduce((a, b) => a + b, 0);
const CLOCK = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };

function time(seconds) {
  const moment = new Date(seconds * 1000), clock = moment.toLocaleTimeString([], CLOCK);
  return Date.now() / 1000 - seconds < 43200 ? clock : `${moment.toLocaleDateString()} ${clock}`;
}

function span(seconds) {
  const minutes = Math.floor(seconds / 60), hours = Math.floor(minutes / 60), days = Math.floor(hours / 24);
  if (days) return `${days} d ${hours % 24} h`;
  if (hours) return `${hours} h ${minutes % 60} min`;
  return minutes ? `${minutes} min` : `${Math.floor(seconds)} s`;
}

// Tables

function row(cells) {
  const tr = document.createElement("tr");
  for (const each of cells) {
    const td = make("td", null, each instanceof Node ? "" : each.className);
    if (each instanceof Node) td.append(each);
    else if (each.text !== "") td.append(make("span", each.text));
    tr.append(td);
  }
  return tr;
}

function whole(node, columns) {
  const tr = document.createElement("tr"), td = document.createElement("td");
  td.colSpan = columns;
  td.append(node);
  tr.append(td);
  return tr;
}

// On a narrow screen each cell has its column's name beside it.
function fill(body, rows, nothing) {
  const names = [...body.parentElement.tHead.rows[0].cells].map((each) => each.textContent);
  for (const tr of rows) if (tr.cells.length === names.length) [...tr.cells].forEach((td, i) => { td.dataset.name = names[i]; });
  body.replaceChildren(...(rows.length ? rows : [whole(make("span", nothing, "quiet"), names.length)]));
}

// What was opened stays open when the figures come anew.

const opened = new Set();

function toggle(key, text, className) {
  const button = make("button", text, className);
  button.type = "button";
  button.dataset.key = key;
  button.setAttribute("aria-expanded", String(opened.has(key)));
  button.addEventListener("click", () => {
    if (opened.has(key)) opened.delete(key); else opened.add(key);
    redraw();
  });
  return button;
}

function folded(key, all, limit) {
  if (all.length <= limit + 1) return [all, null];
  return opened.has(key) ? [all, toggle(key, "fewer", "more")] : [all.slice(0, limit), toggle(key, `${all.length - limit} more`, "more")];
}

function table(name, all, limit, nothing, draw) {
  const body = byId(name), [shown, button] = folded(name, all, limit);
  const rows = shown.flatMap(draw);
  if (button) rows.push(whole(button, body.parentElement.tHead.rows[0].cells.length));
  fill(body, rows, nothing);
}

function list(key, all, limit) {
  const node = document.createElement("span"), [shown, button] = folded(key, all, limit);
  node.append(breakable(shown.join(", ")));
  if (button) node.append(" ", button);
  return node;
}

function bars(node, entries, nothing) {
  if (!entries.length) { node.replaceChildren(make("dd", nothing, "quiet")); return; }
  const most = Math.max(...entries.map((entry) => entry[1]), 1);
  node.replaceChildren(...entries.flatMap(([name, count]) => {
    const bar = document.createElement("progress");
    bar.max = most; bar.value = count;
    bar.setAttribute("aria-hidden", "true");
    const dd = document.createElement("dd");
    dd.append(bar, make("span", count.toLocaleString()));
    return [make("dt", name), dd];
  }));
}

// Charts

function svg(name, attributes, text) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text) node.append(text);
  return node;
}

function merged(numbers, count) {
  const per = numbers.length / count;
  return Array.from({ length: count }, (_, i) => sum(numbers.slice(Math.round(i * per), Math.round((i + 1) * per))));
}

// Stacked bars over a time axis; `series` is a list of name, numbers and colour.
function chart(node, what, data, series) {
  const count = data.seconds === 1 ? 60 : 96, length = series[0][1].length * data.seconds, width = length / count;
  const [unit, per] = data.seconds === 1 ? ["s", 1] : ["min", 60];
  const stacked = series.map(([, numbers]) => merged(numbers, count));
  const totals = Array.from({ length: count }, (_, i) => sum(stacked.map((numbers) => numbers[i])));
  const top = Math.max(...totals, 1);
  const rate = (number) => `${(number / width * per).toLocaleString(undefined, { maximumFractionDigits: 1 })}/${unit}`;
  const at = (place) => new Date((data.begin + length * place) * 1000).toLocaleTimeString([], data.seconds === 1 ? CLOCK : { ...CLOCK, second: undefined });
  const picture = svg("svg", { viewBox: `0 0 ${count * 4} 100`, preserveAspectRatio: "none", role: "img",
    "aria-label": `${what}, at most ${rate(Math.max(...totals))}; ${series.map(([name, numbers]) => `${name} ${sum(numbers)}`).join(", ")}` });
  for (const place of [.25, .5, .75]) picture.append(svg("line", { x1: count * 4 * place, x2: count * 4 * place, y1: 0, y2: 100, class: "grid" }));
  totals.forEach((total, i) => {
    let y = 99;
    series.forEach(([, , colour], s) => {
      const height = stacked[s][i] / top * 96;
      if (height > 0) picture.append(svg("rect", { x: i * 4, y: y - height, width: 3.4, height, fill: colour }));
      y -= height;
    });
    const hint = svg("rect", { x: i * 4, y: 0, width: 4, height: 100, fill: "transparent" });
    hint.append(svg("title", {}, `${at(i / count)}: ${series.map(([name], s) => `${name} ${stacked[s][i]}`).join(", ")}`));
    picture.append(hint);
  });
  picture.append(svg("line", { x1: 0, x2: count * 4, y1: 99.5, y2: 99.5, class: "base" }));
  const axis = make("div", null, "axis quiet");
  axis.append(...[0, .25, .5, .75].map((place) => make("span", at(place))), make("span", "now"));
  const legend = make("ul", null, "legend");
  legend.append(...series.map(([name, numbers, colour]) => {
    const mark = svg("svg", { viewBox: "0 0 10 10", "aria-hidden": "true" }), li = document.createElement("li");
    mark.append(svg("rect", { width: 10, height: 10, fill: colour }));
    li.append(mark, `${name}: ${sum(numbers).toLocaleString()}`);
    return li;
  }), make("li", `top ${rate(Math.max(...totals))}`, "quiet"));
  node.replaceChildren(picture, axis, legend);
}

function traffic(value) {
  const data = value[document.querySelector("#range input:checked").value];
  const versions = Object.entries(data.versions).reverse().map(([name, numbers], i) => [name, numbers, COLOURS[i % COLOURS.length]]);
  chart(byId("messages-chart"), "Messages", data, [["accepted", data.accepted, "var(--v0)"], ["refused", data.refused, "var(--warn)"]]);
  chart(byId("handshakes-chart"), "Handshakes", data, [...versions, ["failed", data.failed, "var(--bad)"]]);
}

// The parts of the page

function problems(value) {
  byId("problems").replaceChildren(...value.problems.map((each) => {
    const box = make("div", null, "problem");
    box.append(make("p", `Not in force since ${time(each.since)}: ${each.what}: ${each.reason}`, "bad"));
    const stays = each.in_force.map((one) =>
      `${one.what}${one.not_after === null ? "" : `, valid until ${new Date(one.not_after * 1000).toLocaleDateString()}`}, read at ${time(one.read)}`);
    const line = make("p", "In force instead: ");
    line.append(stays.length ? list(`problem ${each.what}`, stays, 3) : "nothing");
    box.append(line);
    return box;
  }));
}

function listens(value) {
  table("listens", value.listeners, 10, "No Listen is open.", (each) => row([cell(each.listener), cell(each.sessions, "right"),
    ...["accepted", "refused", "established", "failed"].map((kind) => cell(each.minute[kind].toLocaleString(), "right")),
    ...["accepted", "refused"].map((kind) => cell(each.total[kind].toLocaleString(), "right"))]));
  byId("since").textContent = time(value.since);
}

const MARKS = { fine: "good", soon: "warn", expired: "bad", unknown: "warn" };

function certificates(value) {
  table("certificates", value.certificates, 10, "No certificate: TLS is not offered.", (each) => {
    const days = each.days === null ? "unknown" : each.mark === "expired" ? `expired (${each.days})` : each.mark === "soon" ? `${each.days} – soon` : each.days;
    const names = (each.names.length ? each.names : [each.subject]).map((name) => name.replace(/^dns:/, ""));
    const shown = list(`names ${each.file} ${each.key} ${each.server_name}`, names, 3);
    if (each.server_name) shown.append(make("span", ` (for ${each.server_name})`, "quiet"));
    return row([shown, cell(days, `right ${MARKS[each.mark]}`),
      cell(each.chain.length ? each.chain.join(" ← ") : `${each.issuer} (no chain sent)`), cell(each.key, "tight"), cell(each.file)]);
  });
  const [shown, button] = folded("reloads", value.reloads, 5);
  const items = shown.map((each) => {
    const li = document.createElement("li");
    li.append(make("span", each.ok ? "taken" : "NOT taken", each.ok ? "good" : "bad"), " ", breakable(`${time(each.time)} ${each.kind} ${each.what}: ${each.text}`));
    return li;
  });
  if (button) { const li = document.createElement("li"); li.append(button); items.push(li); }
  byId("reloads").replaceChildren(...(items.length ? items : [make("li", "none since this server is watched", "quiet")]));
}

function when(each) {
  const node = make("span", time(each.time));
  if (each.count > 1) node.append(" ", make("b", `× ${each.count.toLocaleString()}`), " ", make("span", `since ${time(each.first)}`, "quiet"));
  return node;
}

function envelope_summary(each) {
  const node = document.createElement("span");
  if (each.sender !== null) node.append(make("span", "from ", "quiet"), breakable(each.sender), " ");
  if (each.recipients.length) {
    const more = each.recipients_more ? ` and ${each.recipients_more} more` : "";
    node.append(make("span", "to ", "quiet"), breakable(each.recipients.join(", ") + more));
  }
  return node;
}

function reply(each) {
  const node = make("span", `${each.code} ${each.text}`);
  if (each.reason && each.reason !== each.text) node.append(" ", make("span", each.reason, "quiet"));
  return node;
}

function peer(each) {
  const node = make("span", each.peer);
  node.append(" ", make("span", `at ${each.listener}`, "quiet"));
  return node;
}

function refusals(value) {
  bars(byId("refusal-kinds"), value.refusal_kinds, "");
  table("refusals", value.refusals, 15, "None.", (each) => row([when(each), peer(each), cell(each.phase, "tight"), reply(each),
    cell(each.decided_by), envelope_summary(each), cell(each.tls || "no TLS", each.tls ? "" : "tight quiet")]));
  table("deliveries", value.delivery_failures, 5, "None.", (each) => row([when(each), envelope_summary(each), cell(`${each.code} ${each.text}`),
    cell(each.reason), peer(each)]));
}

function verified(each) {
  if (!each.tls) return ["–", "quiet"];
  if (each.tls.verified) return ["verified", "good"];
  const error = each.tls_variables.tls_client_verify_error || "not verified";
  return [error, error === "no certificate presented" ? "quiet" : "bad"];
}

function session(each) {
  const tls = each.tls, key = `session ${each.id}`, open = opened.has(key);
  const button = toggle(key, `${open ? "▾" : "▸"}\u00a0${each.peer}`, "plain");
  const [text, className] = verified(each);
  const subject = each.tls_variables.tls_client_cert_subject;
  const line = row([button, cell(each.listener), cell(tls ? `${tls.protocol} ${tls.cipher}` : "off", tls ? "" : "quiet"),
    cell(subject ? `${text}: ${subject}` : text, className), cell(each.state), cell(span(each.age), "right")]);
  if (!open) return [line];
  const details = make("dl", null, "details");
  for (const [name, value] of Object.entries({ session: each.id, messages: each.messages, ...each.tls_variables })) {
    details.append(make("dt", name, "quiet"), make("dd", value));
  }
  return [line, whole(details, 6)];
}

function sessions(value) {
  const wanted = byId("filter").value.toLowerCase();
  const found = value.sessions.filter((each) => !wanted || JSON.stringify(each).toLowerCase().includes(wanted));
  byId("sessions-total").textContent = wanted ? `${found.length} of ${value.sessions_total}` : value.sessions_total;
  table("sessions", found, 50, wanted ? "None fits." : "None.", session);
}

function policy(value) {
  const lost = Object.entries(value.lost_events).map(([name, number]) => `${name} ${number}`);
  byId("lost").textContent = lost.length ? `events lost: ${lost.join(", ")}` : "";
  table("policy", value.policy_groups, 20, "No group has been asked.", (each) => row([cell(each.group), cell(each.deciders, "right"), cell(each.asked, "right"),
    cell(`${each.latency_ms.p50 ?? "–"} ms`, "right"), cell(`${each.latency_ms.p99 ?? "–"} ms`, "right"),
    cell(each.fallbacks, `right ${each.fallbacks ? "warn" : ""}`), cell(each.breaker, each.breaker === "closed" ? "" : "bad")]));
}

function targets(value) {
  byId("remembered").textContent = value.remembered_recipients ? `${value.remembered_recipients} recipients are remembered for a retry` : "";
  table("targets", value.targets, 20, "None.", (each) => row([cell(each.name),
    cell(each.available ? (each.failing_seconds ? `failing for ${Math.round(each.failing_seconds)} s` : "available") : `not available: ${each.reason}`,
      each.available ? (each.failing_seconds ? "warn" : "") : "bad"),
    cell(each.latency === null ? "–" : `${(each.latency * 1000).toFixed(1)} ms`, "right"), cell(each.connections, "right"),
    ...["2xx", "4xx", "5xx", "failed"].map((kind) => cell(each.answers[kind] ?? 0, "right"))]));
}

function workers(value) {
  const states = Object.entries(value.workers).filter(([, number]) => number).map(([state, number]) => `${number} ${state}`);
  byId("workers-section").hidden = !Object.keys(value.workers).length;
  byId("workers-total").textContent = `${states.join(", ")}, ${value.worker_deaths} died`;
  table("workers", value.worker_list, 20, "None.", (each) => row([cell(each.number), cell(each.process, "right"),
    cell(each.ready ? "ready" : "starting", each.ready ? "good" : "warn"), cell(each.sessions, "right"), cell(span(each.seconds), "right")]));
}

function show(value) {
  const number = (name, text) => { byId(`n-${name}`).textContent = text.toLocaleString(); };
  number("sessions", value.sessions_total);
  number("handshakes", value.handshakes_per_second.toFixed(1));
  number("messages", value.per_minute.accepted);
  number("refused", value.per_minute.refused);
  number("undelivered", value.per_minute.undelivered);
  byId("n-undelivered").classList.toggle("bad", value.per_minute.undelivered > 0);
  byId("host").replaceChildren(breakable(`on ${value.host}`));
  byId("process").textContent = `version ${value.version}, up ${span(value.time - value.started)}`;
  byId("clock").textContent = `as of ${time(value.time)}`;
  document.title = `triosmtp on ${value.host}`;
  for (const part of [problems, traffic, listens, certificates, refusals, sessions, targets, policy, workers]) part(value);
  bars(byId("groups"), Object.entries(value.groups), "none");
  bars(byId("failures"), value.tls_failures, "none");
  bars(byId("outcomes"), Object.entries(value.client_certificates), "none");
  bars(byId("reasons"), value.verify_errors, "none failed");
  state(value.state, value.ready ? "good" : "warn");
}

let last = null;

function redraw() {
  if (!last) return;
  const key = document.activeElement && document.activeElement.dataset.key;
  show(last);
  if (key) for (const button of document.querySelectorAll("button[data-key]")) if (button.dataset.key === key) button.focus();
}

function state(text, className) {
  const node = byId("state");
  if (node.textContent !== text) node.textContent = text;
  node.className = `pill ${className}`;
}

// The feed.  A browser tries again by itself if a connection ends, but not if the answer is an error.

let alive = 0;

async function refused() {
  try {
    const answer = await fetch("/readyz");
    if (answer.status === 401) { location.assign("/login"); return; }
    state("too many watchers, or an error on the way: trying again", "bad");
  } catch (error) {
    state("connection lost: these figures are old", "bad");
  }
  setTimeout(connect, 5000);
}

function connect() {
  const feed = new EventSource("/events");
  feed.addEventListener("message", (event) => { alive = Date.now(); last = JSON.parse(event.data); redraw(); });
  feed.addEventListener("error", () => {
    state("connection lost: these figures are old", "bad");
    if (feed.readyState === EventSource.CLOSED) refused();
  });
}

connect();
setInterval(() => { if (alive && Date.now() - alive > 8000) state("no news: these figures are old", "bad"); }, 2000);
byId("filter").addEventListener("input", redraw);
byId("range").addEventListener("change", redraw);
