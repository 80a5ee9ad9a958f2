// The first plain page. Everything that comes from outside is set as text or as a number, never as markup.
"use strict";

const SVG = "http://www.w3.org/2000/svg";
const SHOWN_INCIDENTS = 100;
const TIME_STYLE = { dateStyle: "medium", timeStyle: "medium", hourCycle: "h23" };
const OLD_MS = 600_000; // an incident this much older than the newest fades on the map
const known = { shot: new Map(), incident: new Map(), cad_event: new Map(), slew_request: new Map() };
const nameOf = {
  shot: (record) => record.shot_id,
  incident: (record) => record.incident,
  cad_event: (record) => record.incident,
  slew_request: (record) => record.camera_id,
};
const limit = { shot: 500, incident: 200, cad_event: 200, slew_request: 500 };
const fresh = new Set(); // incidents that came while the page was open
let site = { name: "", sensors: [], cameras: [] };
let cursor = "";
let focus = ""; // the incident that the map is drawn around; empty for the whole site
let first = true;
let drawing = false;
let fleet = null; // what the hub last said of its sensors; null where this page is not told

const byId = (id) => document.getElementById(id);

// ------------------------------------------------------------------------------------------------ hearing the hub

async function begin() {
  try {
    const answer = await fetch("/api/state");
    if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
    const state = await answer.json();
    site = state.site;
    document.title = `${site.name} · AGLS`;
    byId("site").textContent = site.name;
    take(state);
    listen();
  } catch {
    say("lost", "hub not reached, trying again");
    setTimeout(begin, 2000);
  }
}

function listen() {
  const stream = new Worker("/stream.js");
  let lost = false;
  stream.onmessage = ({ data: news }) => {
    if (news.kind === "changes") {
      take(news.changes);
    } else if (news.kind === "lost") {
      lost = true;
      say("lost", "connection lost, trying again");
      if (news.gaveUp) restart(stream);
    } else if (lost) {
      restart(stream); // it is back, perhaps begun anew and with other sensors
    }
  };
  stream.postMessage(cursor);
}

function restart(stream) {
  stream.terminate();
  setTimeout(begin, 500);
}

function take(changes) {
  cursor = changes.cursor;
  if (changes.whole) for (const records of Object.values(known)) records.clear();
  for (const record of changes.records) {
    const records = known[record.type];
    if (!records) continue;
    const name = nameOf[record.type](record);
    if (record.type === "incident" && !first && !records.has(name)) fresh.add(name);
    records.delete(name);
    records.set(name, record);
    if (records.size > limit[record.type]) records.delete(records.keys().next().value);
  }
  if (changes.feed === "live") say("live", "live");
  else say("lost", "broker away: this page hears nothing");
  first = false;
  drawSoon();
}

function say(kind, text) {
  const feed = byId("feed");
  feed.className = `feed ${kind}`;
  if (feed.textContent !== text) feed.textContent = text;
}

function drawSoon() {
  if (drawing) return;
  drawing = true;
  setTimeout(() => {
    drawing = false;
    drawList();
    drawMap();
  }, 0);
}

// ------------------------------------------------------------------------------------------------------- the list

const moment = (text) => new Date(`${text.slice(0, 23)}Z`); // milliseconds are enough to show
const count = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;
const newestFirst = () =>
  [...known.incident.values()].sort((a, b) => (a.last_shot_time < b.last_shot_time ? 1 : -1));

function line(kind, text, tag = "span") {
  const element = document.createElement(tag);
  element.className = kind;
  element.textContent = text;
  return element;
}

function time(text) {
  const element = line("", moment(text).toLocaleString(undefined, TIME_STYLE), "time");
  element.dateTime = text;
  element.title = text;
  return element;
}

function place(incident) {
  const within = `within ${Math.max(1, Math.ceil(incident.ellipse.major_m))} m`;
  if (incident.latitude_deg !== null && incident.longitude_deg !== null)
    return `${incident.latitude_deg.toFixed(5)}, ${incident.longitude_deg.toFixed(5)} · ${within}`;
  const east = Math.round(incident.x_m);
  const north = Math.round(incident.y_m);
  return `${Math.abs(east)} m ${east < 0 ? "west" : "east"}, ${Math.abs(north)} m ${north < 0 ? "south" : "north"} · ${within}`;
}

function more(incident) {
  const parts = [`p ${incident.p_gunshot.toFixed(2)}`, `heard by ${count(incident.sensor_count, "sensor")}`];
  const call = known.cad_event.get(incident.incident);
  if (call) parts.push(`CAD: ${{ open: "opened", update: "updated", cancel: "cancelled" }[call.status]}`);
  const looking = [...known.slew_request.values()].filter((request) => request.incident === incident.incident);
  if (looking.length) parts.push(`asked to look: ${looking.map((request) => request.camera_id).join(", ")}`);
  return parts.join(" · ");
}

function card(incident) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = `incident ${incident.state}`;
  if (fresh.delete(incident.incident)) button.classList.add("fresh");
  button.setAttribute("aria-pressed", String(focus === incident.incident));
  button.dataset.incident = incident.incident;
  button.addEventListener("click", () => {
    focus = focus === incident.incident ? "" : incident.incident;
    drawSoon();
  });
  const top = line("top", "");
  top.append(line("state", incident.state), time(incident.last_shot_time));
  button.append(
    top,
    line("rounds", count(incident.round_count || incident.shot_ids.length, "round")),
    line("place", place(incident)),
    line("more", more(incident)),
  );
  const item = document.createElement("li");
  item.append(button);
  return item;
}

function drawList() {
  const incidents = newestFirst();
  const list = byId("incidents");
  const held = document.activeElement?.dataset?.incident;
  // Only what changed is built anew, so that what flashes goes on flashing and a screen reader is told only the news.
  const before = new Map([...list.children].map((item) => [item.dataset.key, item]));
  list.replaceChildren(
    ...incidents.slice(0, SHOWN_INCIDENTS).map((incident) => {
      const key = `${incident.incident} ${incident.revision} ${more(incident)} ${focus === incident.incident}`;
      const item = before.get(key) ?? card(incident);
      item.dataset.key = key;
      return item;
    }),
  );
  if (held) list.querySelector(`[data-incident="${CSS.escape(held)}"]`)?.focus();
  byId("none").hidden = incidents.length > 0;
  byId("number").textContent = incidents.length ? String(incidents.length) : "";
}

// ------------------------------------------------------------------------------------------------------ the fleet

const STALE_MS = 60_000; // the hub speaks of its sensors each ten seconds
const words = {
  never_heard: "never heard", losing_samples: "loses samples", clock: "clock not known well enough",
  wrong_time: "its clock is wrong", backlog: "comes late", level_drop: "much quieter than ever: covered?",
  moved: "it was moved", other_node: "has another node's file", disk_full: "disk full", behind: "a little behind",
  gaps: "messages are missing",
};
const said = (names) => names.map((name) => words[name] ?? name).join(", ");

async function lookAtFleet() {
  try {
    const answer = await fetch("/api/fleet");
    fleet = answer.ok ? await answer.json() : null;
  } catch {
    fleet = null;
  }
  drawFleet();
  drawMap();
}

function drawFleet() {
  byId("fleet").hidden = byId("unreliable").hidden = fleet === null;
  if (fleet === null) return;
  const stale = Date.now() - moment(fleet.at).getTime() > STALE_MS;
  const share = Math.round(100 * fleet.coverage_share);
  const whole = Math.round(100 * fleet.coverage_whole_share);
  const told = `${fleet.reliable_count} of ${count(fleet.nodes_count, "sensor")} can be relied on · coverage ${share} %`;
  byId("fleet").className = `fleet ${stale || fleet.reliable_count < fleet.nodes_count ? "some" : "all"}`;
  byId("fleet-title").textContent = stale
    ? `The hub says nothing of its sensors since ${moment(fleet.at).toLocaleString(undefined, TIME_STYLE)}`
    : told + (whole > share ? ` of ${whole} %` : "");
  const odd = fleet.nodes.filter((node) => node.reasons.length || node.remarks.length);
  byId("fleet-list").replaceChildren(
    ...odd.map((node) => {
      const item = document.createElement("li");
      item.append(line("name", node.sensor_id), line(node.reliable ? "remark" : "reason", said([...node.reasons, ...node.remarks])));
      return item;
    }),
    ...(odd.length ? [] : [line("", "Nothing to see to.", "li")]),
  );
}

// -------------------------------------------------------------------------------------------------------- the map

const shape = (tag, kind, attributes, ...children) => {
  const element = document.createElementNS(SVG, tag);
  if (kind) element.setAttribute("class", kind);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
};

const hint = (text) => {
  const element = shape("title", "", {});
  element.textContent = text;
  return element;
};

const label = (kind, x, y, text, anchor = "start") => {
  const element = shape("text", kind, { x, y, "text-anchor": anchor });
  element.textContent = text;
  return element;
};

function extent() {
  const around = focus && known.incident.get(focus);
  if (around) {
    const half = Math.max(100, 3 * around.ellipse.major_m);
    return [around.x_m - half, around.x_m + half, around.y_m - half, around.y_m + half];
  }
  const fixed = [...site.sensors, ...site.cameras];
  const points = [...fixed, ...[...known.incident.values()].filter((incident) => incident.state !== "withdrawn")];
  if (!points.length) return [-250, 250, -250, 250];
  const xs = points.map((point) => point.x_m);
  const ys = points.map((point) => point.y_m);
  const margin = 0.08 * Math.max(Math.max(...xs) - Math.min(...xs), Math.max(...ys) - Math.min(...ys), 200);
  return [Math.min(...xs) - margin, Math.max(...xs) + margin, Math.min(...ys) - margin, Math.max(...ys) + margin];
}

// North is up; metres become pixels by one scale.
function projection(width, height) {
  const [west, east, south, north] = extent();
  const scale = Math.min(width / (east - west), height / (north - south));
  return {
    scale,
    width,
    x: (x_m) => width / 2 + (x_m - (west + east) / 2) * scale,
    y: (y_m) => height / 2 - (y_m - (south + north) / 2) * scale,
    east: (px) => (px - width / 2) / scale + (west + east) / 2,
    north: (py) => (height / 2 - py) / scale + (south + north) / 2,
  };
}

function niceStep(least_m) {
  const power = 10 ** Math.floor(Math.log10(least_m));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= least_m);
}

function grid(to, width, height) {
  const step = niceStep(110 / to.scale);
  const parts = [];
  for (let x = Math.ceil(to.east(0) / step) * step; x < to.east(width); x += step)
    parts.push(`M${to.x(x)} 0V${height}`);
  for (let y = Math.ceil(to.north(height) / step) * step; y < to.north(0); y += step)
    parts.push(`M0 ${to.y(y)}H${width}`);
  const right = 20 + step * to.scale;
  return [
    shape("path", "grid", { d: parts.join("") || "M0 0" }),
    shape("path", "scale", { d: `M20 ${height - 26}v6H${right}v-6` }),
    label("", (20 + right) / 2, height - 30, step >= 1000 ? `${step / 1000} km` : `${step} m`, "middle"),
    shape("path", "scale", { d: `M${width - 30} 58V24m-6 9l6 -10l6 10` }),
    label("", width - 30, 74, "N", "middle"),
  ];
}

function ellipse(to, ellipse95, x_m, y_m, kind) {
  return shape("ellipse", kind, {
    rx: ellipse95.major_m * to.scale,
    ry: ellipse95.minor_m * to.scale,
    transform: `translate(${to.x(x_m)} ${to.y(y_m)}) rotate(${ellipse95.azimuth_deg - 90})`,
  });
}

function sensor(to, names) {
  return (each) => {
    const group = shape("g", "", { transform: `translate(${to.x(each.x_m)} ${to.y(each.y_m)})` });
    const node = fleet?.nodes.find((one) => one.sensor_id === each.sensor_id);
    const bad = node && !node.reliable;
    const told = bad ? `${each.sensor_id}: ${said(node.reasons)}` : each.sensor_id;
    group.append(shape("path", bad ? "sensor bad" : "sensor", { d: "M0 -8L8 6H-8Z" }, hint(told)));
    if (names) group.append(label("", 0, 20, each.sensor_id, "middle"));
    return group;
  };
}

function wedge(to, camera, request) {
  const half = (request.hfov_deg / 2) * (Math.PI / 180);
  const azimuth = (camera.pan_zero_azimuth_deg + request.pan_deg) * (Math.PI / 180);
  const reach = Math.max(request.distance_m * 1.15 * to.scale, 18);
  const [x, y] = [to.x(camera.x_m), to.y(camera.y_m)];
  const end = (turn) => `${x + reach * Math.sin(azimuth + turn)} ${y - reach * Math.cos(azimuth + turn)}`;
  const over = moment(request.not_after).getTime() < Date.now();
  const d = `M${x} ${y}L${end(-half)}A${reach} ${reach} 0 ${half > Math.PI / 2 ? 1 : 0} 1 ${end(half)}Z`;
  return shape("path", over ? "wedge over" : "wedge", { d }, hint(`${camera.camera_id}: ${request.reason}`));
}

function camera(to) {
  return (each) => {
    const group = shape("g", "", { transform: `translate(${to.x(each.x_m)} ${to.y(each.y_m)})` });
    group.append(shape("rect", "camera", { x: -6, y: -6, width: 12, height: 12 }, hint(each.camera_id)));
    group.append(label("camera-name", 9, -7, each.camera_id));
    return group;
  };
}

const ringRadius = (to, incident) => Math.max(13, incident.ellipse.major_m * to.scale + 5);

function incidentMark(to, newest_ms) {
  return (incident) => {
    const old = newest_ms - moment(incident.last_shot_time).getTime() > OLD_MS;
    const group = shape("g", `${incident.state}${old ? " old" : ""}`, {});
    const [x, y] = [to.x(incident.x_m), to.y(incident.y_m)];
    const shots = incident.shot_ids.map((id) => known.shot.get(id)).filter((shot) => shot && shot.state === "located");
    if (!shots.length) group.append(ellipse(to, incident.ellipse, incident.x_m, incident.y_m, "ellipse"));
    for (const shot of shots) group.append(ellipse(to, shot.ellipse, shot.x_m, shot.y_m, "ellipse"));
    for (const shot of shots)
      group.append(shape("circle", "shot", { cx: to.x(shot.x_m), cy: to.y(shot.y_m), r: 3.5 }, hint(shot.origin_time)));
    const ring = ringRadius(to, incident);
    group.append(shape("circle", "ring", { cx: x, cy: y, r: ring }, hint(incident.incident)));
    return group;
  };
}

// Newest first, and none over another: what is not labelled here stands in the list.
function incidentLabels(to, newest) {
  const placed = [];
  for (const incident of newest) {
    const ring = ringRadius(to, incident);
    const right = to.x(incident.x_m) + ring + 185 < to.width;
    const x = to.x(incident.x_m) + (right ? ring + 5 : -ring - 5);
    const y = to.y(incident.y_m) - 6;
    if (placed.some((other) => Math.abs(other.x - x) < 190 && Math.abs(other.y - y) < 20)) continue;
    const words = `${incident.state}, ${count(incident.round_count, "round")}`;
    placed.push({ x, y, element: label(`label ${incident.state}`, x, y, words, right ? "start" : "end") });
  }
  return placed.map((each) => each.element);
}

function strayShots(to) {
  const gathered = new Set([...known.incident.values()].flatMap((incident) => incident.shot_ids));
  const stray = [...known.shot.values()].filter((shot) => shot.state === "located" && !gathered.has(shot.shot_id));
  return stray.map((shot) =>
    shape("g", "withdrawn", {}, ellipse(to, shot.ellipse, shot.x_m, shot.y_m, "ellipse"),
      shape("circle", "shot", { cx: to.x(shot.x_m), cy: to.y(shot.y_m), r: 3 }, hint(`no incident, p ${shot.p_gunshot.toFixed(2)}`))),
  );
}

function drawMap() {
  const svg = byId("map");
  const { clientWidth: width, clientHeight: height } = svg;
  if (!width || !height) return;
  if (focus && !known.incident.has(focus)) focus = "";
  byId("whole").hidden = !focus;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const to = projection(width, height);
  const live = newestFirst().filter((incident) => incident.state !== "withdrawn").reverse();
  const newest_ms = live.length ? moment(live[live.length - 1].last_shot_time).getTime() : 0;
  const wedges = site.cameras
    .filter((each) => known.slew_request.has(each.camera_id))
    .map((each) => wedge(to, each, known.slew_request.get(each.camera_id)));
  svg.replaceChildren(
    ...grid(to, width, height),
    ...wedges,
    ...strayShots(to),
    ...site.sensors.map(sensor(to, site.sensors.length <= 40)),
    ...site.cameras.map(camera(to)),
    ...live.map(incidentMark(to, newest_ms)),
    ...incidentLabels(to, [...live].reverse()),
  );
}

byId("whole").addEventListener("click", () => {
  focus = "";
  drawSoon();
});
new ResizeObserver(drawMap).observe(byId("map")); // called before the browser paints the new size
setInterval(drawMap, 5000); // a request to look runs out by itself
setInterval(lookAtFleet, 10_000);
begin().then(lookAtFleet);
