// In a page that was exported with the state of its widgets: each figure whose picture no browser has made draws itself.
(async () => {
  if (document.readyState === "loading") await new Promise((done) => addEventListener("DOMContentLoaded", done));
  const saved = document.querySelector("script[type='application/vnd.jupyter.widget-state+json']");
  const states = saved ? JSON.parse(saved.textContent).state : {};
  const modelOf = (id) => ({ get: (name) => states[id].state[name], on() {}, off() {}, send() {},
    widget_manager: { get_model: async (other) => modelOf(other) } });
  for (const el of document.querySelectorAll("[data-wb-figure]")) {
    const id = el.dataset.wbFigure;
    if (!states[id]) continue;
    el.removeAttribute("data-wb-figure");
    const style = Object.assign(document.createElement("style"), { textContent: states[id].state._css });
    el.replaceChildren(style);
    const url = URL.createObjectURL(new Blob([states[id].state._esm], { type: "text/javascript" }));
    await (await import(url)).default.render({ model: modelOf(id), el });
  }
})();
