// One figure with its two downloads. plotly.js (1.5 MB packed) lies in one library model that all panels share,
// and is unpacked once per page.
async function unpackPlotly(model) {
  const id = model.get("library").replace("IPY_MODEL_", "");
  const library = await model.widget_manager.get_model(id);
  const packed = Uint8Array.from(atob(library.get("source")), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const text = await new Response(stream).text();
  // A page may define AMD or CommonJS loaders: plotly.js is given its own `module`, so that it takes neither.
  const wrapped = ["const module = {exports: {}}, define = undefined;\n", text, "\nexport default module.exports;"];
  const url = URL.createObjectURL(new Blob(wrapped, { type: "text/javascript" }));
  try { return (await import(url)).default; } finally { URL.revokeObjectURL(url); }
}

function plotly(model) {
  if (!window.__workbenchPlotly) {
    window.__workbenchPlotly = unpackPlotly(model);
    window.__workbenchPlotly.catch(() => { delete window.__workbenchPlotly; }); // the next panel may try again
  }
  return window.__workbenchPlotly;
}

function isDark(el) {
  // In a panel, a part may be drawn before it stands in the page, where nothing has a colour.
  const probe = (el.isConnected ? el : document.body).appendChild(document.createElement("i"));
  probe.style.color = "var(--jp-layout-color0, white)";
  const [red, green, blue] = getComputedStyle(probe).color.match(/[\d.]+/g).map(Number);
  probe.remove();
  return 0.3 * red + 0.6 * green + 0.1 * blue < 128;
}

const pointOf = (p) => ({ curve: p.curveNumber, index: p.pointNumber ?? null, x: p.x, y: p.y, data: p.customdata ?? null });

function button(text, label, action) {
  const made = Object.assign(document.createElement("button"), { textContent: text, title: label, onclick: action });
  made.className = "wb-button";
  made.setAttribute("aria-label", label);
  return made;
}

// A line where a player of this page is. Player and figure meet in the page: no message goes to the kernel.
function follow(key, chart, line) {
  const move = () => {
    const { xaxis, yaxis } = chart._fullLayout ?? {};
    const at = window.__workbench?.engines.get(key)?.position;
    line.hidden = !xaxis || at === undefined || at < xaxis.range[0] || at > xaxis.range[1];
    if (line.hidden) return;
    Object.assign(line.style, { left: `${xaxis._offset + xaxis.d2p(at)}px`, top: `${yaxis._offset}px`,
      bottom: "auto", height: `${yaxis._length}px` });
  };
  const timer = setInterval(move, 60);
  return () => clearInterval(timer);
}

async function render({ model, el }) {
  el.classList.add("wb-panel");
  const chart = document.createElement("div");
  chart.setAttribute("role", "figure");
  const bar = Object.assign(document.createElement("div"), { className: "wb-bar wb-right" });
  const stage = Object.assign(document.createElement("div"), { className: "wb-stage" });
  const line = Object.assign(document.createElement("div"), { className: "wb-head", hidden: true });
  stage.append(chart, line);
  el.append(stage, bar);
  let Plotly;
  try { Plotly = await plotly(model); } catch (error) {
    chart.textContent = `The figure cannot be drawn here: ${error.message}. Reload the page or use a current browser.`;
    return;
  }
  // plotly loses a box that is being drawn where it draws a figure anew, or takes a picture of any: both wait for its end.
  let held = Promise.resolve(), letGo = () => {};
  const hold = ({ type, target }) => {
    if (type !== "pointerdown") setTimeout(letGo, 150);
    else if (target.closest?.(".js-plotly-plot")) { letGo(); held = new Promise((done) => { letGo = done; }); }
  };
  const moments = ["pointerdown", "pointerup", "pointercancel"];
  for (const moment of moments) window.addEventListener(moment, hold, true);
  // The kernel keeps a picture in the colours of paper for those who read the notebook without a kernel.
  let keeping;
  const keep = async () => {
    await held;
    const { data, layout } = model.get("figure");
    const size = { width: Math.min(chart.clientWidth || 700, 800), height: chart.clientHeight || layout.height || 400 };
    model.send({ kind: "picture", url: await Plotly.toImage({ data, layout }, { format: "webp", scale: 1.25, ...size }) });
    delete chart.dataset.keeping;
  };
  let shown = 0, width = 0, last = Promise.resolve(); // drawn again for a theme or a width, a figure keeps its zoom
  const drawNow = async (still) => {
    await held;
    if (!chart.isConnected) return;
    const { data, layout } = model.get("figure");
    if (!data) return; // nothing to show yet: the panel is hidden
    const first = !chart.on;
    width = el.clientWidth;
    chart.setAttribute("aria-label", (layout?.title?.text ?? "figure").replace(/<[^>]*>/g, " ").trim());
    await drawn(Plotly, chart, { data, layout: { uirevision: `figure ${shown}`, ...layout }, width, dark: isDark(el), still,
      config: structuredClone(model.get("config")) });
    clearTimeout(keeping);
    keeping = setTimeout(keep, 500);
    chart.dataset.keeping = "soon";
    if (!first) return;
    let boxed = false, clicks = 0;
    const select = (points) => { boxed = points.length > 0; model.send({ kind: "select", points: points.map(pointOf) }); };
    const clear = () => { // a click on empty space, or two anywhere, take the box away
      if (!boxed) return;
      select([]);
      Plotly.update(chart, { selectedpoints: [null] }, { selections: [] });
    };
    chart.on("plotly_click", (e) => { clicks++; model.send({ kind: "click", points: e.points.map(pointOf) }); });
    chart.on("plotly_deselect", clear);
    chart.on("plotly_selected", (e) => {
      if (e) return select(e.points);
      const before = clicks; // plotly says first that a click has selected nothing, then whether it met a point
      setTimeout(() => clicks === before && clear());
    });
  };
  const draw = (still = true) => { // one after the other
    chart.setAttribute("aria-busy", "true");
    last = last.catch(() => {}).then(() => drawNow(still)).finally(() => chart.setAttribute("aria-busy", "false"));
    return last;
  };
  const redraw = () => { shown += 1; return draw(false); };
  await draw();
  model.on("change:figure", redraw);
  const theme = new MutationObserver(() => draw()); // JupyterLab names its theme on the body
  theme.observe(document.body, { attributeFilter: ["data-jp-theme-name", "data-jp-theme-light", "class"] });
  const name = () => model.get("name");
  const save = (href, suffix) => Object.assign(document.createElement("a"), { href, download: name() + suffix }).click();
  bar.append(
    button("PNG", "Download the picture as PNG", async () =>
      save(await Plotly.toImage(chart, { format: "png", scale: 2, width: chart.clientWidth, height: chart.clientHeight }), ".png")),
    button("CSV", "Download the data as CSV", () =>
      save(URL.createObjectURL(new Blob([model.get("csv")], { type: "text/csv" })), ".csv")),
  );
  const watch = new ResizeObserver(() => chart.isConnected && chart.offsetParent && el.clientWidth !== width && draw());
  watch.observe(el);
  const leave = model.get("clock") ? follow(model.get("clock"), chart, line) : () => {};
  return () => { clearTimeout(keeping); moments.forEach((moment) => window.removeEventListener(moment, hold, true)); leave(); watch.disconnect(); theme.disconnect(); model.off("change:figure", redraw); Plotly.purge(chart); };
}
export default hearing({ render });
