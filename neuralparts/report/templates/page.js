"use strict";

// The text that an element holds as base64 of gzip.
async function unpacked(id) {
  const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), c => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

// When the camera of one view moves, the other views follow. Their own events, which that causes, are ignored.
function linkCameras(views) {
  let following = false;
  for (const view of views) for (const moved of ["plotly_relayouting", "plotly_relayout"])
    view.on(moved, change => {
      const camera = change["scene.camera"];
      if (!camera || following) return;
      following = true;
      const others = views.filter(other => other !== view);
      Promise.all(others.map(other => Plotly.relayout(other, {"scene.camera": camera})))
        .finally(() => { following = false; });
    });
}

async function draw() {
  const library = document.createElement("script");
  library.textContent = await unpacked("library");
  document.head.append(library);
  const figures = JSON.parse(await unpacked("figures"));
  // No button that sends a part to plotly's cloud: somebody's design stays on this machine.
  const settings = {responsive: true, displaylogo: false, plotlyServerURL: "", modeBarButtonsToRemove:
    ["sendChartToCloud", "tableRotation", "resetCameraLastSave3d", "hoverClosest3d", "select2d", "lasso2d"]};
  const charts = {};
  for (const [id, figure] of Object.entries(figures))
    charts[id] = await Plotly.newPlot(id, figure.data, figure.layout,
      {...settings, scrollZoom: id !== "curves"});
  linkCameras(["input", "reconstruction"].filter(id => charts[id]).map(id => charts[id]));
  document.documentElement.dataset.drawn = Object.keys(charts).join(" ");
}

draw().catch(error => {
  console.error(error);
  for (const place of document.querySelectorAll(".view:not(.empty), #curves")) {
    const message = document.createElement("p");
    message.className = "broken";
    message.textContent = "This browser could not draw it (" + error + "). The tables below are complete.";
    place.replaceChildren(message);
  }
});
