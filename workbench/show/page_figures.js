// Figures of a page take its width and its theme, and are drawn again when these change.
addEventListener("DOMContentLoaded", () => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  for (const chart of document.querySelectorAll(".plotly-graph-div")) {
    const { data } = chart, layout = structuredClone(chart.layout);
    chart.parentElement.style.height = "";
    let width = 0, last = Promise.resolve();
    const draw = () => {
      width = chart.parentElement.clientWidth;
      chart.setAttribute("aria-busy", "true");
      last = last
        .then(() => drawn(Plotly, chart, { data, layout, width, dark: dark.matches, still: true }))
        .then(() => chart.setAttribute("aria-busy", "false"));
    };
    dark.addEventListener("change", draw);
    const watch = new ResizeObserver(() => chart.parentElement.clientWidth !== width && draw());
    watch.observe(chart.parentElement);
    draw();
  }
});
