"use strict";
(function () {
  const PAPER_WIDTH = 680; // pixels between the margins of A4 and of US letter
  const LIGHT = { text: "#1b1f24", line: "#dfe3e8" };
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const config = { displayModeBar: false, responsive: true, scrollZoom: false };

  function data(id) {
    const holder = document.getElementById(id);
    return holder ? JSON.parse(holder.textContent) : null;
  }

  function theme() {
    const style = getComputedStyle(document.documentElement);
    return { text: style.getPropertyValue("--text").trim(), line: style.getPropertyValue("--line").trim() };
  }

  // What a chart looks like under a theme, as the flat keys that Plotly.relayout takes.
  function colours(layout, look) {
    const change = { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", "font.color": look.text,
      "font.family": "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif" };
    for (const [prefix, axes] of [["", layout], ["scene.", layout.scene || {}]]) {
      for (const key of Object.keys(axes)) {
        if (/^[xyz]axis\d*$/.test(key)) {
          change[prefix + key + ".gridcolor"] = look.line;
          change[prefix + key + ".zerolinecolor"] = look.line;
          change[prefix + key + ".linecolor"] = look.line;
        }
      }
    }
    return change;
  }

  // The same inside a layout that is yet to be drawn.
  function themed(layout, look) {
    for (const [path, value] of Object.entries(colours(layout, look))) {
      const keys = path.split("."), last = keys.pop();
      let at = layout;
      for (const key of keys) { at = at[key] = at[key] || {}; }
      at[last] = value;
    }
    return layout;
  }

  const drawn = [];

  function draw(holder, traces, layout, options) {
    return Plotly.newPlot(holder, traces, themed(layout, theme()), options || config).then(() => drawn.push(holder));
  }

  function repaint(look, width) {
    for (const holder of drawn) {
      const change = colours(holder.layout, look);
      if (width === null) { change.autosize = true; change.width = undefined; } else if (width) { change.width = width; }
      Plotly.relayout(holder, change);
    }
  }

  // Truth and predictions of one frame in space.

  function numbers(text, Kind) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return new Kind(bytes.buffer);
  }

  function points(rays, depths, wanted) {
    const x = [], y = [], z = [];
    for (const i of wanted) {
      // Plotly's z points up: forward becomes y, and what points down is turned round.
      x.push(rays[3 * i] * depths[i]);
      y.push(depths[i]);
      z.push(-rays[3 * i + 1] * depths[i]);
    }
    return { x, y, z };
  }

  function span(values, pad) {
    let low = Infinity, high = -Infinity;
    for (const value of values) { if (value < low) low = value; if (value > high) high = value; }
    const room = Math.max(pad * (high - low), 0.05);
    return [low - room, high + room];
  }

  function cloudFigure(material, choice) {
    const frame = material.frames[choice.frame];
    const rays = numbers(frame.rays, Float32Array), truth = numbers(frame.truth, Float32Array);
    const colour = numbers(frame.colours, Uint8Array), all = numbers(frame.predictions, Float32Array);
    const known = [];
    for (let i = 0; i < frame.n; i++) { if (Number.isFinite(truth[i])) known.push(i); }
    const photo = known.map((i) => `rgb(${colour[3 * i]},${colour[3 * i + 1]},${colour[3 * i + 2]})`);
    const real = points(rays, truth, known);
    const guess = points(rays, all.subarray(choice.encoder * frame.n, (choice.encoder + 1) * frame.n), known);
    const trace = (at, name, shade, visible) => ({ type: "scatter3d", mode: "markers", name, visible, hoverinfo: "skip",
      marker: { size: 1.7, color: shade, opacity: 1 }, ...at });
    const traces = [
      trace(real, "truth", photo, choice.show !== "prediction"),
      trace(guess, "prediction", choice.colour === "photograph" ? photo : "#d98c00", choice.show !== "truth"),
    ];
    // The box is that of the truth, with room: one wild prediction must not shrink the room to a dot.
    const side = (title, values) => ({ title: { text: title }, range: span(values, 0.2), zeroline: false,
      showbackground: false });
    const layout = { height: null, autosize: true, margin: { l: 0, r: 0, t: 0, b: 0 }, showlegend: false,
      scene: { aspectmode: "data", dragmode: "orbit", uirevision: choice.frame,
        camera: { eye: { x: 0.45, y: -1.65, z: 0.45 }, center: { x: 0, y: 0, z: -0.16 } },
        xaxis: side("right, m", real.x), yaxis: side("forward, m", real.y), zaxis: side("up, m", real.z) } };
    return { traces, layout };
  }

  function webgl() {
    const canvas = document.createElement("canvas");
    return Boolean(canvas.getContext("webgl2") || canvas.getContext("webgl"));
  }

  function cloud(material) {
    const holder = document.getElementById("cloud");
    if (!webgl()) {
      holder.style.height = holder.style.minHeight = "auto";
      holder.textContent = "This browser has no WebGL, which the point cloud needs.";
      return Promise.resolve();
    }
    const choice = { frame: 0, encoder: 0, show: "both", colour: "source" };
    const zooming = { ...config, scrollZoom: true };
    const update = function () {
      const figure = cloudFigure(material, choice);
      Plotly.react(holder, figure.traces, themed(figure.layout, theme()), zooming);
    };
    for (const select of document.querySelectorAll("#cloud-controls select")) {
      const numeric = select.name === "frame" || select.name === "encoder";
      select.value = String(choice[select.name]);
      select.addEventListener("change", function () {
        choice[select.name] = numeric ? Number(select.value) : select.value;
        update();
      });
    }
    const first = cloudFigure(material, choice);
    return draw(holder, first.traces, first.layout, zooming);
  }

  // A chart of which a select shows one of several.
  function choose(holder, select, choices) {
    if (!select) { return; }
    select.selectedIndex = 0;
    select.addEventListener("change", function () {
      const figure = choices[select.selectedIndex];
      holder.style.minHeight = figure.layout.height + "px";
      Plotly.react(holder, figure.data, themed(figure.layout, theme()), config);
    });
  }

  // One chart a turn of the event loop, so that the page can be read and scrolled from the start.
  const pause = () => new Promise((resolve) => setTimeout(resolve, 0));

  async function drawAll() {
    for (const [id, figure] of Object.entries(data("figures") || {})) {
      await pause();
      const holder = document.getElementById(id), choices = figure.choices || [figure];
      await draw(holder, choices[0].data, choices[0].layout);
      choose(holder, document.querySelector(`select[data-chart="${id}"]`), choices);
    }
    const material = data("cloud-data");
    if (material) {
      await pause();
      await cloud(material);
    }
    document.body.dataset.drawn = String(drawn.length);
  }

  dark.addEventListener("change", () => repaint(theme()));
  window.addEventListener("beforeprint", () => repaint(LIGHT, PAPER_WIDTH));
  window.addEventListener("afterprint", () => repaint(theme(), null));
  drawAll();
})();
