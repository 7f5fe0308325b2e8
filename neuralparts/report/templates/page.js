"use strict";
const byId = id => document.getElementById(id);
// A colour of the page's style, as it is now: light or dark.
const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const hasWebGL = () => Boolean(document.createElement("canvas").getContext("webgl"));
const drawn = [];

// The text that an element holds as base64 of gzip.
async function unpacked(id) {
  const bytes = Uint8Array.from(atob(byId(id).textContent), c => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

function markDrawn(id) {
  byId(id).closest(".drawing")?.classList.add("drawn");
  drawn.push(id);
  document.documentElement.dataset.drawn = drawn.join(" ");
}

// A line at the foot of a view, in place of an earlier one.
function say(place, text, className = "") {
  place.querySelector(":scope > .message")?.remove();
  const message = document.createElement("p");
  message.className = "message " + className;
  message.textContent = text;
  place.append(message);
}

// ------------------------------------------------------------------------------------------------------------ cameras

// The cameras of all views move together. A camera is {eye, center, up} with x, y, z, in plotly's units, in which the
// cube about the part has edges of 1. `set` moves a view and may return a promise. Until it is kept, what any view but
// the one that is followed reports is only the echo.
const cameras = {
  setters: new Map(), camera: null, first: null, busy: false, source: "", next: null,
  add(id, set) {
    this.setters.set(id, set);
    if (this.camera !== this.first) set(this.camera);
  },
  // source: id of the view that the reader moves, or "keys".
  async moved(camera, source) {
    if (this.busy) {
      if (source === this.source) this.next = camera;
      return;
    }
    Object.assign(this, {camera, source, busy: true});
    try {
      await Promise.all([...this.setters].filter(([id]) => id !== source).map(([, set]) => set(camera)));
    } finally { this.busy = false; }
    const next = this.next;
    this.next = null;
    if (next) this.moved(next, source);
  },
};

// The camera after a key: rotated about the vertical, tilted, nearer or farther; undefined for another key.
function cameraAfter(key, {eye, center, up}) {
  const [x, y, z] = ["x", "y", "z"].map(axis => eye[axis] - center[axis]);
  let distance = Math.hypot(x, y, z), around = Math.atan2(y, x), height = Math.asin(z / distance);
  const step = Math.PI / 24;
  if (key === "ArrowLeft") around -= step;
  else if (key === "ArrowRight") around += step;
  else if (key === "ArrowUp") height = Math.min(height + step, 1.5);
  else if (key === "ArrowDown") height = Math.max(height - step, -1.5);
  else if (key === "+" || key === "=") distance /= 1.1;
  else if (key === "-") distance *= 1.1;
  else if (key === "0") return cameras.first;
  else return undefined;
  const flat = distance * Math.cos(height);
  return {center, up: key.startsWith("Arrow") ? {x: 0, y: 0, z: 1} : up, eye: {x: center.x + flat * Math.cos(around),
    y: center.y + flat * Math.sin(around), z: center.z + distance * Math.sin(height)}};
}

function listenToKeys(place, name) {
  place.tabIndex = 0;
  place.setAttribute("role", "group");
  place.setAttribute("aria-label", name + " in 3-D: arrow keys rotate, plus and minus zoom, 0 goes back");
  place.addEventListener("keydown", event => {
    const camera = event.ctrlKey || event.metaKey || event.altKey ? undefined : cameraAfter(event.key, cameras.camera);
    if (!camera) return;
    event.preventDefault();
    cameras.moved(camera, "keys");
  });
}

// ------------------------------------------------------------------------------------------------------------- plotly

// A layout in the colours of the page.
function themed(layout) {
  const grid = colour("--grid"), ink = colour("--ink");
  layout.font.color = ink;
  Object.assign(layout.modebar, {color: colour("--soft"), activecolor: ink});
  layout.hoverlabel = {bgcolor: colour("--card"), font: {color: ink}, bordercolor: colour("--soft")};
  for (const axis of ["xaxis", "yaxis", "yaxis2"]) if (layout[axis]) layout[axis].gridcolor = grid;
  return layout;
}

async function drawFigure(id, figure) {
  // No button that sends a part to plotly's cloud: somebody's design stays on this machine.
  const settings = {responsive: true, displaylogo: false, plotlyServerURL: "", scrollZoom: id !== "curves",
    modeBarButtonsToRemove: ["sendChartToCloud", "tableRotation", "resetCameraLastSave3d", "hoverClosest3d", "select2d",
      "lasso2d"]};
  const view = await Plotly.newPlot(id, figure.data, themed(figure.layout), settings);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
    Plotly.react(view, view.data, themed(view.layout), settings));
  if (id !== "curves") {
    const moved = camera => { if (camera) cameras.moved(camera, id); };
    for (const event of ["plotly_relayouting", "plotly_relayout"]) view.on(event, change => moved(change["scene.camera"]));
    // plotly reports no movement by touch.
    for (const event of ["touchmove", "touchend"])
      view.addEventListener(event, () => moved(view._fullLayout.scene._scene.getCamera()));
    cameras.add(id, camera => Plotly.relayout(view, {"scene.camera": camera}));
    listenToKeys(view, id === "input" ? "The input" : "The marched mesh");
  }
  markDrawn(id);
}

// ------------------------------------------------------------------------------------------------------ tabs, network

function selectTab(id) {
  for (const tab of document.querySelectorAll("[role=tab]")) {
    const selected = tab.id === "tab-" + id;
    tab.setAttribute("aria-selected", selected);
    tab.tabIndex = selected ? 0 : -1;
    byId(tab.getAttribute("aria-controls")).hidden = !selected;
  }
  show[id]?.();
  // The window may have another size than when this was last seen.
  if (id !== "network" && drawn.includes(id)) Plotly.Plots.resize(byId(id));
}

function listenToTabs() {
  const tabs = [...document.querySelectorAll("[role=tab]")];
  for (const [k, tab] of tabs.entries()) {
    tab.onclick = () => selectTab(tab.id.slice(4));
    tab.onkeydown = event => {
      const step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
      if (!step) return;
      const next = tabs[(k + step + tabs.length) % tabs.length];
      next.focus();
      next.click();
    };
  }
}

// The network in its tab, before plotly is there; the marched mesh where there is no WebGL 2.
async function drawNetwork() {
  const place = byId("network"), tabs = document.querySelector("[role=tablist]");
  tabs.hidden = false;
  selectTab("network");
  try {
    const view = new NetworkView(place, JSON.parse(byId("network-payload").textContent),
      {frame: JSON.parse(place.dataset.frame) ?? undefined, onCamera: camera => cameras.moved(camera, "network")});
    if (cameras.camera) view.setCamera(cameras.camera);
    if (!await view.ready) throw view.fault;
    cameras.add("network", camera => view.setCamera(camera));
    markDrawn("network");
  } catch (error) {
    selectTab("reconstruction");
    tabs.hidden = true;
    say(byId("panel-reconstruction").firstElementChild, "The network itself needs WebGL 2 (" + error.message + ").");
  }
}

// ---------------------------------------------------------------------------------------------------------- tolerance

// The fraction of the surface that deviates by at most a tolerance, by linear interpolation of the quantiles.
function fractionWithin(quantiles, tolerance) {
  const above = quantiles.findIndex(value => value > tolerance), last = quantiles.length - 1;
  if (above <= 0) return above < 0 ? 1 : 0;
  return (above - 1 + (tolerance - quantiles[above - 1]) / (quantiles[above] - quantiles[above - 1])) / last;
}

function listenToTolerance() {
  const field = byId("tolerance"), quantiles = byId("deviation").dataset.quantiles.split(" ").map(Number);
  const drawing = byId("histogram"), {width} = drawing.viewBox.baseVal, end = Number(drawing.dataset.end);
  field.disabled = false;
  field.oninput = () => {
    const tolerance = Number(field.value);
    if (!(tolerance > 0)) return;
    const percent = (100 * fractionWithin(quantiles, tolerance)).toFixed(2) + "%";
    byId("within").firstElementChild.textContent = percent;
    byId("within").lastChild.textContent = " of the marched surface is within ±" + field.value + " of the input.";
    for (const [side, id] of [[-1, "low"], [1, "high"]]) {
      const x = width / 2 * (1 + side * tolerance / end), line = byId(id);
      byId("colours").setAttribute(side < 0 ? "x1" : "x2", x);
      line.setAttribute("x1", x);
      line.setAttribute("x2", x);
    }
    recolour();
  };
}

// The drawn mesh and the scale below it follow the tolerance; the still picture keeps the colours of the first one.
function recolour() {
  const field = byId("tolerance"), tolerance = Number(field?.value);
  if (!drawn.includes("reconstruction") || !(tolerance > 0)) return;
  Plotly.restyle("reconstruction", {cmin: -tolerance, cmax: tolerance});
  labelScale(field.value);
}

function labelScale(tolerance) {
  for (const place of document.querySelectorAll(".scale .tolerance")) place.textContent = tolerance;
}

// ------------------------------------------------------------------------------------------------------ the whole page

// Draws a view when it is first seen, by its id.
const show = {};

async function draw() {
  const figures = byId("figures") ? JSON.parse(await unpacked("figures")) : {};
  const scene = Object.values(figures).find(figure => figure.layout.scene)?.layout.scene;
  if (scene) cameras.camera = cameras.first =
    {center: {x: 0, y: 0, z: 0}, up: {x: 0, y: 0, z: 1}, ...scene.camera};
  if (byId("network")) await drawNetwork();
  if (!byId("library")) return;
  const library = document.createElement("script");
  library.textContent = await unpacked("library");
  document.head.append(library);
  for (const [id, figure] of Object.entries(figures)) {
    if (figure.layout.scene && !hasWebGL()) {
      say(byId(id).closest(".drawing"), "Without WebGL this is a still picture.");
    } else if (byId(id).closest("[hidden]")) {
      show[id] = () => { delete show[id]; drawFigure(id, figure).then(recolour).catch(broken); };
    } else {
      await drawFigure(id, figure);
    }
  }
  recolour();  // a reader may have set the tolerance before
}

function broken(error) {
  console.error(error);
  const text = "This browser could not draw it (" + error + "). The figures and tables are complete.";
  for (const place of document.querySelectorAll(".drawing:not(.drawn), #curves:not(.js-plotly-plot)"))
    say(place, text, "broken");
}

for (const button of document.querySelectorAll("button.touch")) button.onclick = () => {
  const rotating = button.closest(".drawing").classList.toggle("rotating");
  button.setAttribute("aria-pressed", rotating);
};
byId("copy").hidden = false;
byId("copy").onclick = async () => {
  getSelection().selectAllChildren(byId("command"));
  await navigator.clipboard?.writeText(byId("command").textContent);
  byId("copy").textContent = navigator.clipboard ? "Copied" : "Selected";
};
// Paper has no way to open a section, and shows the still pictures.
const closed = [];
addEventListener("beforeprint", () => {
  if (byId("tolerance")) labelScale(byId("tolerance").defaultValue);
  closed.push(...document.querySelectorAll("details:not([open])"));
  for (const section of closed) section.open = true;
});
addEventListener("afterprint", () => {
  recolour();
  for (const section of closed.splice(0)) section.open = false;
});
listenToTabs();
if (byId("deviation")) listenToTolerance();
draw().catch(broken);
