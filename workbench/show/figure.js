// What panels and pages do with a figure: the colours of the page's theme, titles that fit its width, room for legends.

// Figures are made dark on white. Where the page is dark, their greys are turned round, and nothing else: a genre keeps
// its colour. Ink, grid, notes, axes, the unsteered, and white, which is the paper.
const DARK = { "#222222": "#E4E4E4", "#E6E6E6": "#3C3C3C", "#555555": "#BDBDBD", "#888888": "#9A9A9A", "#777777": "#A6A6A6",
  "#FFFFFF": "#111111", white: "#111111", "#000000": "#FFFFFF" };

// A copy of a part of a figure in the colours of the page.
function inked(part, dark) {
  if (typeof part === "string") return dark ? DARK[part] ?? part : part;
  if (Array.isArray(part)) return part.map((each) => inked(each, dark));
  if (part === null || typeof part !== "object" || ArrayBuffer.isView(part)) return part;
  if (part.type === "heatmap" || [part.meta, part.name].includes("on shades")) return part; // shades, and the words on them, stay
  return Object.fromEntries(Object.entries(part).map(([name, value]) => [name, inked(value, dark)]));
}

const pen = document.createElement("canvas").getContext("2d");

// Text with line breaks, no line of it wider than so many pixels; a bold text is bold as a whole.
function wrapped(text, { size, family }, width) {
  const bold = /^<b>(.*)<\/b>$/s.exec(text);
  pen.font = `${bold ? "bold " : ""}${size}px ${family}`;
  const lines = [];
  for (const word of (bold?.[1] ?? text).split(/\s+|<br>/)) {
    const longer = lines.length ? `${lines.at(-1)} ${word}` : word;
    if (lines.length && pen.measureText(longer.replace(/<[^>]*>/g, "")).width <= width) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  const whole = lines.join("<br>");
  return { text: bold ? `<b>${whole}</b>` : whole, more: lines.length - 1 };
}

const NARROW = 560; // pixels; below, a legend has no room beside the plot

// A layout for a figure of so many pixels: title and note in as many lines as they need, and so much higher. They are
// one text: plotly would place a subtitle below the title as it measured it, and a hidden title has no height.
function fitted(layout, width) {
  const { title, font, margin, legend } = layout;
  if (!title?.text || !margin) return layout;
  const { subtitle } = title, family = font?.family ?? "sans-serif", room = width ? width - 2 * (title.pad?.l ?? 10) : Infinity;
  const size = title.font?.size ?? 16, small = subtitle?.font?.size ?? 12.5;
  const head = wrapped(title.text, { size, family }, room), note = wrapped(subtitle?.text ?? "", { size: small, family }, room);
  const extra = Math.ceil(1.3 * size * (head.more + note.more));
  const style = `font-size:${small}px;color:${subtitle?.font?.color ?? "inherit"}`;
  const text = subtitle?.text ? `${head.text}<br><span style="${style}">${note.text}</span>` : head.text;
  const below = { orientation: "h", x: 0, xanchor: "left", y: -0.3, yanchor: "top" };
  return { ...layout, margin: { ...margin, t: margin.t + extra }, height: layout.height && layout.height + extra,
    title: { ...title, text, subtitle: undefined }, legend: width && width < NARROW ? { ...legend, ...below } : legend };
}

// What a figure lacks once it is drawn: height for what stands outside its plot, a place for a legend below its axis.
function lacking(chart, { height, margin, legend }) {
  if (!chart.offsetParent) return null; // in a tab that is closed: drawn again when it is opened
  const { _size: size } = chart._fullLayout, changes = {};
  const lost = height && margin ? height - margin.t - margin.b - size.h : 0;
  if (Math.abs(lost) > 4) changes.height = Math.max(height, chart._fullLayout.height + Math.ceil(lost));
  const box = chart.querySelector(".legend .bg");
  if (box && legend?.orientation === "h" && legend.y < 0.5) {
    const top = chart.getBoundingClientRect().top, bottom = size.t + size.h;
    const parts = [...chart.querySelectorAll(".xaxislayer-above text, .g-xtitle text, .g-x2title text")];
    const deepest = Math.max(bottom, ...parts.map((part) => part.getBoundingClientRect().bottom - top));
    const gap = box.getBoundingClientRect().top - top - deepest;
    if (Math.abs(gap - 8) > 4) Object.assign(changes, { "legend.y": -(deepest + 8 - bottom) / size.h, "legend.yanchor": "top" });
  }
  if (changes.height === chart._fullLayout.height) delete changes.height;
  return Object.keys(changes).length ? changes : null;
}

// Traces for a narrow figure: heat maps without their scale, and without words that would lie over one another.
function slimmed(data, { font }, width) {
  if (!width || width >= NARROW) return data;
  return data.map((trace) => {
    if (trace.type === "heatmap") return trace.text || data.some((other) => other.meta === "on shades") ? { ...trace, showscale: false } : trace;
    if (trace.meta !== "on shades") return trace;
    pen.font = `${trace.textfont.size}px ${font?.family ?? "sans-serif"}`;
    const widest = Math.max(...trace.text.map((word) => pen.measureText(word).width));
    return { ...trace, visible: widest + 4 < (width - 120) / new Set(trace.x).size };
  });
}

// Draws a figure: legends and slanted labels make it higher, and its plot no smaller. Points that only change their
// colours or their width do so at once (`still`).
async function drawn(Plotly, chart, { data, layout, config, dark, width, still }) {
  const fit = { ...fitted(inked(layout, dark), width), width: width || undefined };
  if (still) delete fit.transition;
  chart.style.height = ""; // the layout says how high it is
  await Plotly.react(chart, slimmed(inked(data, dark), fit, width), fit, { ...config, responsive: false });
  for (let round = 0, more = lacking(chart, fit); more && round < 4; more = lacking(chart, fit), round += 1)
    await Plotly.relayout(chart, more);
}
