"use strict";
// Everything that is shown goes in as text: nothing of a peer's is ever taken for markup.

const byId = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const COLOURS = ["var(--v0)", "var(--v1)", "var(--v2)", "var(--v3)"];

function make(name, text, className) {
  const node = document.createElement(name);
  if (text !== undefined && text !== null) node.textContent = String(text);
  if (className) node.className = className;
  return node;
}

function row(cells) {
  const tr = document.createElement("tr");
  for (const cell of cells) {
    if (cell instanceof Node) { const td = document.createElement("td"); td.append(cell); tr.append(td); }
    else tr.append(make("td", cell.text, cell.className));
  }
  return tr;
}

const cell = (text, className) => ({ text, className });
const sum = (numbers) => (numbers || []).reduce((a, b) => a + b, 0);
const time = (seconds) => new Date(seconds * 1000).toLocaleTimeString();

function fill(node, rows, columns, nothing) {
  if (rows.length) { node.replaceChildren(...rows); return; }
  const td = make("td", nothing, "quiet");
  td.colSpan = columns;
  const tr = document.createElement("tr");
  tr.append(td);
  node.replaceChildren(tr);
}

function bars(node, entries, nothing) {
  if (!entries.length) { node.replaceChildren(make("dd", nothing, "quiet")); return; }
  const most = Math.max(...entries.map((entry) => entry[1]), 1);
  node.replaceChildren(...entries.flatMap(([name, count]) => {
    const bar = document.createElement("progress");
    bar.max = most; bar.value = count;
    bar.setAttribute("aria-hidden", "true");
    const dd = document.createElement("dd");
    dd.append(bar, make("span", count));
    return [make("dt", name), dd];
  }));
}

function svg(name, attributes) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

function chart(rates) {
  const names = Object.keys(rates).filter((name) => !["failed", "accepted", "refused"].includes(name)).reverse();
  const series = [...names.map((name, i) => [name, rates[name], COLOURS[i % COLOURS.length]]), ["failed", rates.failed, "var(--bad)"]];
  const buckets = 100, per = rates.failed.length / buckets;
  const stacked = Array.from({ length: buckets }, (_, b) =>
    series.map(([, values]) => sum(values.slice(Math.round(b * per), Math.round((b + 1) * per))) / per));
  const top = Math.max(1, ...stacked.map(sum));
  const picture = svg("svg", { viewBox: "0 0 400 100", preserveAspectRatio: "none" });
  stacked.forEach((values, b) => {
    let y = 98;
    values.forEach((value, s) => {
      const height = (value / top) * 94;
      if (height > 0) picture.append(svg("rect", { x: b * 4, y: y - height, width: 3.4, height, fill: series[s][2] }));
      y -= height;
    });
  });
  picture.append(svg("line", { x1: 0, x2: 400, y1: 98.5, y2: 98.5, stroke: "var(--line)" }));
  byId("chart").replaceChildren(picture);
  byId("chart").setAttribute("aria-label", `Handshakes a second, at most ${top.toFixed(1)}`);
  byId("legend").replaceChildren(...series.map(([name, values, colour]) => {
    const mark = svg("svg", { viewBox: "0 0 10 10", "aria-hidden": "true" });
    mark.append(svg("rect", { width: 10, height: 10, fill: colour }));
    const li = document.createElement("li");
    li.append(mark, `${name}: ${sum(values)}`);
    return li;
  }), make("li", `top ${top.toFixed(1)}/s`, "quiet"));
}

const MARKS = { fine: "good", soon: "warn", expired: "bad", unknown: "warn" };

function certificates(value) {
  byId("problems").replaceChildren(...value.certificate_problems.map((each) =>
    make("p", `Not in force since ${each.since}: ${each.option} ${each.file}: ${each.reason}`, "problem bad")));
  fill(byId("certificates"), value.certificates.map((each) => {
    const days = each.days === null ? "unknown" : each.mark === "expired" ? `expired (${each.days})` : each.mark === "soon" ? `${each.days} – soon` : each.days;
    const names = (each.names.length ? each.names : [each.subject]).map((name) => name.replace(/^dns:/, "")).join(", ");
    return row([cell(each.server_name ? `${names} (for ${each.server_name})` : names), cell(days, `right ${MARKS[each.mark]}`),
      cell(each.chain.length ? each.chain.join(" ← ") : `${each.issuer} (no chain sent)`), cell(each.key, "tight"), cell(each.file)]);
  }), 5, "No certificate: TLS is not offered.");
  byId("reloads").replaceChildren(...(value.reloads.length ? value.reloads.slice(0, 6).map((each) => {
    const li = document.createElement("li");
    li.append(make("span", each.ok ? "taken" : "NOT taken", each.ok ? "good" : "bad"), ` ${time(each.time)} ${each.kind} ${each.what}: ${each.text}`);
    return li;
  }) : [make("li", "none since this server began to be watched", "quiet")]));
}

const opened = new Set();

function verified(each) {
  if (!each.tls) return ["–", "quiet"];
  if (each.tls.verified) return ["verified", "good"];
  const error = each.tls_variables.tls_client_verify_error || "not verified";
  return [error, error === "no certificate presented" ? "quiet" : "bad"];
}

function session(each) {
  const tls = each.tls;
  const open = opened.has(each.id);
  const button = make("button", `${open ? "▾" : "▸"} ${each.peer}`, "plain");
  button.type = "button";
  button.dataset.session = each.id;
  button.setAttribute("aria-expanded", String(open));
  button.addEventListener("click", () => {
    if (open) opened.delete(each.id); else opened.add(each.id);
    sessions();
  });
  const list = document.createElement("dl");
  for (const [key, value] of Object.entries({ session: each.id, messages: each.messages, ...each.tls_variables })) {
    list.append(make("dt", key, "quiet"), make("dd", value));
  }
  const [text, className] = verified(each);
  const subject = each.tls_variables.tls_client_cert_subject;
  const who = subject ? `${text}: ${subject}` : text;
  const line = row([button, cell(each.listener, "tight"), cell(tls ? `${tls.protocol} ${tls.cipher}` : "off", tls ? "" : "quiet"),
    cell(who, className), cell(each.state, "tight"), cell(`${Math.round(each.age)} s`, "right")]);
  if (!open) return [line];
  const td = document.createElement("td");
  td.colSpan = 6;
  td.append(list);
  const more = make("tr", null, "details");
  more.append(td);
  return [line, more];
}

let last = null;

function sessions() {
  const wanted = byId("filter").value.toLowerCase();
  const focus = document.activeElement && document.activeElement.dataset.session;
  const found = last.sessions.filter((each) => !wanted || JSON.stringify(each).toLowerCase().includes(wanted));
  byId("sessions-total").textContent = wanted ? `${found.length} of ${last.sessions_total}` : last.sessions_total;
  fill(byId("sessions"), found.slice(0, 200).flatMap(session), 6, wanted ? "None fits." : "None.");
  if (focus) for (const button of byId("sessions").querySelectorAll("button")) if (button.dataset.session === focus) button.focus();
}

function show(value) {
  last = value;
  const minute = (name) => sum(value.rates[name].slice(-60));
  const versions = Object.keys(value.rates).filter((name) => !["failed", "accepted", "refused"].includes(name));
  byId("n-sessions").textContent = value.sessions_total;
  byId("n-handshakes").textContent = (sum(versions.map((name) => sum(value.rates[name].slice(-10)))) / 10).toFixed(1);
  byId("n-messages").textContent = minute("accepted");
  byId("n-refused").textContent = value.refusals.filter((each) => value.time - each.time < 60).length;
  byId("clock").textContent = `as of ${time(value.time)}`;
  certificates(value);
  chart(value.rates);
  bars(byId("groups"), Object.entries(value.groups), "none");
  bars(byId("failures"), value.tls_failures, "none");
  bars(byId("outcomes"), Object.entries(value.client_certificates), "none");
  bars(byId("reasons"), value.verify_errors, "none failed");
  sessions();
  fill(byId("policy"), value.policy_groups.map((each) => row([cell(each.group), cell(each.deciders, "right"), cell(each.asked, "right"),
    cell(`${each.latency_ms.p50 ?? "–"} ms`, "right"), cell(`${each.latency_ms.p99 ?? "–"} ms`, "right"),
    cell(each.fallbacks, `right ${each.fallbacks ? "warn" : ""}`), cell(each.breaker, each.breaker === "closed" ? "tight" : "tight bad")])), 7, "No group has been asked.");
  fill(byId("refusals"), value.refusals.map((each) => row([cell(time(each.time), "tight"), cell(each.peer), cell(each.phase, "tight"),
    cell(`${each.code} ${each.text}`), cell(each.decided_by), cell(each.reason === each.text ? "" : each.reason)])), 6, "None.");
  state(value.state, value.ready ? "good" : "warn");
}

function state(text, className) {
  const node = byId("state");
  if (node.textContent !== text) node.textContent = text;
  node.className = `pill ${className}`;
}

let alive = 0;
const feed = new EventSource("/events");
feed.addEventListener("message", (event) => { alive = Date.now(); show(JSON.parse(event.data)); });
feed.addEventListener("error", () => state("connection lost: these figures are old", "bad"));
setInterval(() => { if (alive && Date.now() - alive > 8000) state("no news: these figures are old", "bad"); }, 2000);
byId("filter").addEventListener("input", () => { if (last) sessions(); });
