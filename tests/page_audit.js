// What is wrong with what a page shows, by boxes and computed colours; each fault is a line of text.
window.audit = (() => {
  const LEFT_OUT = "style, script, option, title, desc, defs, .hoverlayer, .modebar-container, .jp-mod-hidden";
  const SCROLLS = "[role=region][tabindex='0']"; // tables, by keys too
  // For a picture, plotly draws a figure again far to the left of the page, for a moment.
  const aside = (el) => el.closest(".js-plotly-plot")?.getBoundingClientRect().right < -1000;
  const seen = (el) => !aside(el) && el.checkVisibility({ visibilityProperty: true, opacityProperty: true });
  const told = (text) => JSON.stringify(text.replace(/\s+/g, " ").trim().slice(0, 50));

  // --- colours -------------------------------------------------------------------------------------------------
  function colour(text) {
    const numbers = (text.match(/-?[\d.]+(e-?\d+)?/g) ?? []).map(Number);
    if (!text || text === "none" || text.startsWith("url") || text === "transparent" || numbers.length < 3) return [0, 0, 0, 0];
    const scale = text.startsWith("color(") ? 255 : 1;
    return [...numbers.slice(0, 3).map((v) => v * scale), numbers[3] ?? 1];
  }
  const over = ([r, g, b, a], below) => [r, g, b].map((v, i) => a * v + (1 - a) * below[i]);
  const light = (rgb) => rgb.reduce((sum, v, i) => {
    const c = v / 255;
    return sum + [0.2126, 0.7152, 0.0722][i] * (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  }, 0);
  function contrast(one, other) {
    const [low, high] = [light(one), light(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  }
  const chain = (el) => { const all = []; for (let at = el; at; at = at.parentElement) all.push(at); return all; };
  function paper(el) { // the colour behind an element: that of its parents, laid over one another
    const figure = el.closest(".js-plotly-plot");
    if (figure && el.closest("svg")) return colour(getComputedStyle(figure.querySelector(".main-svg")).backgroundColor).slice(0, 3);
    const layers = chain(el).map((at) => colour(getComputedStyle(at).backgroundColor));
    const last = layers.findIndex((layer) => layer[3] === 1);
    return layers.slice(0, last < 0 ? undefined : last + 1).reduceRight((below, layer) => over(layer, below), [255, 255, 255]);
  }
  const opacity = (el) => chain(el).reduce((all, at) => all * Number(getComputedStyle(at).opacity), 1);
  function ink(el, property, part) {
    const [r, g, b, a] = colour(getComputedStyle(el)[property]);
    return [r, g, b, a * opacity(el) * (part ? Number(getComputedStyle(el)[part]) : 1)];
  }
  const shades = new Map();
  async function shade(image, x, y) { // of a heat map's picture, whose cells are of one colour each
    const href = image.getAttribute("href") ?? image.getAttribute("xlink:href"), box = image.getBoundingClientRect();
    if (!shades.has(href)) {
      const drawn = Object.assign(new Image(), { src: href });
      await drawn.decode();
      const canvas = Object.assign(document.createElement("canvas"), { width: drawn.width, height: drawn.height });
      canvas.getContext("2d", { willReadFrequently: true }).drawImage(drawn, 0, 0);
      shades.set(href, canvas);
    }
    const canvas = shades.get(href);
    const place = [(x - box.left) / box.width * canvas.width, (y - box.top) / box.height * canvas.height];
    return [...canvas.getContext("2d").getImageData(...place.map(Math.floor), 1, 1).data].slice(0, 3);
  }

  // --- boxes: four corners each, so that slanted text is what it is ----------------------------------------------
  const corners = (l, t, r, b) => [[l, t], [r, t], [r, b], [l, b]];
  function quad(el) {
    const { x, y, width, height } = el.getBBox(), m = el.getScreenCTM();
    const cut = 0.15 * height; // the room above and below the letters
    return corners(x, y + cut, x + width, y + height - cut).map(([px, py]) => [m.a * px + m.c * py + m.e, m.b * px + m.d * py + m.f]);
  }
  const boxOf = (q) => { const [xs, ys] = [q.map((p) => p[0]), q.map((p) => p[1])]; return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)]; };
  function overlap(one, other) { // how deep two of them lie in each other, in pixels
    let least = Infinity;
    for (const q of [one, other]) for (const i of [0, 1]) {
      const [dx, dy] = [q[i + 1][0] - q[i][0], q[i + 1][1] - q[i][1]], length = Math.hypot(dx, dy) || 1;
      const along = (p) => (p[0] * dx + p[1] * dy) / length;
      const [a, b] = [one.map(along), other.map(along)];
      least = Math.min(least, Math.min(Math.max(...a), Math.max(...b)) - Math.max(Math.min(...a), Math.min(...b)));
    }
    return least;
  }
  const rect = (el) => { const { left, top, right, bottom } = el.getBoundingClientRect(); return corners(left, top, right, bottom); };
  const outside = (q, [l, t, r, b], slack = 1.5) => { const [x0, y0, x1, y1] = boxOf(q); return x0 < l - slack || y0 < t - slack || x1 > r + slack || y1 > b + slack; };

  function* texts(root) {
    const walk = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    const done = new Set();
    for (let node = walk.nextNode(); node; node = walk.nextNode()) {
      const el = node.parentElement;
      if (!node.data.trim() || el.closest(LEFT_OUT) || !seen(el)) continue;
      const svg = el.closest("text");
      if (svg) {
        if (!done.has(svg)) yield { el: svg, says: svg.textContent, quads: [quad(svg)], svg: true };
        done.add(svg);
        continue;
      }
      const range = document.createRange();
      range.selectNodeContents(node);
      const quads = [...range.getClientRects()].filter((r) => r.width > 1 && r.height > 1).map((r) => {
        const cut = 0.15 * r.height;
        return corners(r.left, r.top + cut, r.right, r.bottom - cut);
      });
      if (quads.length) yield { el, says: node.data, quads, svg: false };
    }
  }

  function clips(el, root) { // boxes beyond which an element is not drawn
    const found = [];
    for (const at of chain(el).filter((each) => root.contains(each))) {
      const style = getComputedStyle(at);
      const named = /url\("?#([^")]+)"?\)/.exec(at.getAttribute("clip-path") ?? style.clipPath ?? "");
      const shape = named && document.getElementById(named[1])?.querySelector("rect");
      if (shape) {
        const m = at.getScreenCTM(), [x, y, w, h] = ["x", "y", "width", "height"].map((n) => Number(shape.getAttribute(n) ?? 0));
        found.push(["its clip", boxOf(corners(x, y, x + w, y + h).map(([px, py]) => [m.a * px + m.c * py + m.e, m.b * px + m.d * py + m.f]))]);
      } else if (at.tagName === "svg" || (style.overflowX !== "visible" && style.display !== "inline")) {
        const box = boxOf(rect(at));
        if (at.matches(SCROLLS)) break; // what is in it can be scrolled to
        if (at.matches("html, body") || at.closest("pre")) continue;
        found.push([`${at.tagName.toLowerCase()}.${at.getAttribute("class") ?? ""}`, box]);
      }
    }
    return found;
  }

  function* boxFaults(root, all) {
    for (let i = 0; i < all.length; i++) for (let j = i + 1; j < all.length; j++) {
      const deep = Math.max(...all[i].quads.flatMap((a) => all[j].quads.map((b) => overlap(a, b))));
      if (deep > 1.5) yield `texts overlap by ${deep.toFixed(0)} px: ${told(all[i].says)} and ${told(all[j].says)}`;
    }
    const [left, , right] = boxOf(rect(root));
    for (const { el, says, quads } of all) {
      for (const [name, box] of clips(el, root)) if (quads.some((q) => outside(q, box))) yield `cut by ${name}: ${told(says)}`;
      if (!el.closest(SCROLLS) && quads.some((q) => outside(q, [left, -1e9, right, 1e9]))) yield `sticks out of its column: ${told(says)}`;
    }
    for (const el of root.querySelectorAll("select:not([size])"))
      if (seen(el) && el.options.length && !el.selectedOptions[0]?.textContent.trim()) yield `a choice that shows nothing: ${told(el.textContent)}`;
    for (const el of root.querySelectorAll("*")) {
      const style = getComputedStyle(el);
      if (el.matches(SCROLLS) || el.matches("pre, select, svg *, .jp-OutputArea-prompt *") || !seen(el) || el.clientWidth === 0) continue;
      const wide = el.scrollWidth > el.clientWidth + 1, high = el.scrollHeight > el.clientHeight + 1;
      const can = (way) => way === "auto" || way === "scroll";
      if ((wide && can(style.overflowX)) || (high && can(style.overflowY)))
        yield `a scrollbar: ${el.tagName.toLowerCase()}.${el.className} ${el.scrollWidth}x${el.scrollHeight} in ${el.clientWidth}x${el.clientHeight}`;
      if (wide && el.matches("input[type=text], input[type=number], input:not([type])"))
        yield `cut in its field: ${told(el.value)}`;
    }
  }

  function* plotFaults(root) {
    for (const figure of root.querySelectorAll(".js-plotly-plot")) {
      if (aside(figure)) continue;
      const name = told(figure._fullLayout?.title?.text ?? "");
      const plots = [...figure.querySelectorAll(".nsewdrag")].map(rect);
      const outer = [".g-gtitle text", ".legend .bg", ".colorbar text", ".xtick text", ".ytick text", ".infolayer [class*='title'] text", ".infolayer text[class*='title']"];
      for (const part of figure.querySelectorAll(outer.join(", "))) {
        const q = part.tagName === "text" ? quad(part) : rect(part);
        for (const plot of plots) if (overlap(q, plot) > 1.5) yield `${name}: over the plot: ${told(part.textContent || part.getAttribute("class"))}`;
      }
      const marks = [...figure.querySelectorAll(".scatterlayer .point")];
      for (const text of figure.querySelectorAll(".textpoint text, .annotation text, .legend .bg"))
        for (const mark of marks)
          if (overlap(text.tagName === "text" ? quad(text) : rect(text), rect(mark)) > 1.5) { yield `${name}: over a mark: ${told(text.textContent || "legend")}`; break; }
    }
  }

  async function* colourFaults(root, all) {
    for (const { el, says, quads, svg } of all) {
      if (!el.isConnected) continue; // of a figure that plotly drew aside for a picture, and has taken away
      const style = getComputedStyle(el);
      let behind = paper(el);
      const heat = el.closest(".js-plotly-plot") && el.closest(".heatmap-label, .textpoint");
      if (heat) for (const image of el.closest(".js-plotly-plot").querySelectorAll(".heatmaplayer image")) {
        const [l, t, r, b] = boxOf(quads[0]);
        if (!outside(quads[0], boxOf(rect(image)), 0)) behind = await shade(image, (l + r) / 2, (t + b) / 2);
      }
      const found = contrast(over(ink(el, svg ? "fill" : "color", svg ? "fillOpacity" : null), behind), behind);
      const size = parseFloat(style.fontSize), bold = Number(style.fontWeight) >= 700 || (svg && el.querySelector("tspan[style*='bold']"));
      const large = size >= 24 || (bold && size >= 18.66);
      if (el.closest(":disabled, .mod-disabled, [aria-disabled=true], [disabled]")) continue; // exempt: they do nothing now
      const scale = svg ? Math.hypot(el.getScreenCTM().a, el.getScreenCTM().b) : 1;
      if (size * scale < 9) yield `${(size * scale).toFixed(1)} px is too small: ${told(says)}`;
      if (found < (large ? 3 : 4.5)) yield `contrast ${found.toFixed(2)}: ${told(says)} ${style[svg ? "fill" : "color"]} on ${behind.map(Math.round)}`;
    }
    const graphics = [[".lines path.js-line", ["stroke"]], [".points path.point", ["fill", "stroke"]], [".errorbar path", ["stroke"]],
      [".bars .point path", ["fill", "stroke"]], [".shapelayer path", ["stroke", "fill"]]];
    for (const figure of root.querySelectorAll(".js-plotly-plot")) for (const [kind, properties] of graphics)
      for (const el of figure.querySelectorAll(kind)) {
        const trace = el.closest(".trace")?.__data__?.[0]?.trace;
        if (!seen(el) || trace?.hoverinfo === "skip" || el.closest(".legend")) continue; // decoration, such as a band
        if (getComputedStyle(el).fill.startsWith("url")) continue; // hatched
        if (kind.startsWith(".shape") && figure.querySelector(".heatmaplayer image")) continue; // drawn on shades
        const behind = paper(el);
        const best = Math.max(...properties.map((p) => contrast(over(ink(el, p, `${p}Opacity`), behind), behind)));
        if (best < 3) { yield `contrast ${best.toFixed(2)} of ${kind}: ${told(figure._fullLayout.title.text)} ${trace?.name ?? ""} on ${behind}`; break; }
      }
    for (const el of root.querySelectorAll("*")) {
      const style = getComputedStyle(el);
      if (parseFloat(style.borderLeftWidth) < 4 || style.borderLeftStyle === "none" || !seen(el)) continue;
      const edge = ink(el, "borderLeftColor"), behind = paper(el.parentElement);
      if (edge[3] && contrast(over(edge, behind), behind) < 3) yield `contrast ${contrast(over(edge, behind), behind).toFixed(2)} of the edge of ${told(el.textContent)}`;
    }
  }

  // --- controls --------------------------------------------------------------------------------------------------
  const CONTROLS = "button, input, select, textarea, summary, a[href], audio[controls], [tabindex], [role=slider], [role=radio], [role=tab], [role=button]";
  const named = (el) => [el.getAttribute("aria-label"), document.getElementById(el.getAttribute("aria-labelledby") ?? "")?.textContent,
    [...(el.labels ?? [])].map((label) => label.textContent).join(" "), el.matches("input, select, textarea") ? "" : el.textContent, el.title, el.closest(".widget-inline-hbox")?.title, el.closest(".widget-inline-hbox")?.querySelector(".widget-label")?.textContent].find((text) => text?.trim());
  const ring = (el) => { const s = getComputedStyle(el); return [s.outlineStyle, s.outlineWidth, s.outlineColor, s.boxShadow, s.borderColor].join("|"); };
  const controls = (root) => [...root.querySelectorAll(CONTROLS)].filter((el) => seen(el) && !el.disabled && !el.closest("[disabled]") && !el.closest(LEFT_OUT)
    && !el.matches("[tabindex='-1']:not([role=tab], [role=radio])") && !el.closest("[inert]"));
  const grouped = (el) => { const group = el.closest("[role=tablist], [role=radiogroup], [role=toolbar]"); return group ?? el; };

  document.head.append(Object.assign(document.createElement("style"), { textContent: "* { transition: none !important; }" }));
  function begin(root) { // called before keys are pressed; where the root is no whole page, its first control is taken
    window.__met = new Set();
    window.__plain = new Map(controls(root).map((el) => [el, ring(el)]));
    window.__audited = root;
    const [first] = window.__plain.keys();
    if (root !== document.body && first) { first.focus(); window.__met.add(first); }
    return [...window.__plain.keys()].filter((el) => !named(el)).map((el) => `a control without a name: ${el.outerHTML.slice(0, 120)}`);
  }
  function step() { // called after each press of Tab: null where the focus has left
    const el = document.activeElement;
    if (!el || el === document.body || !window.__audited.contains(el)) return null;
    const inside = el === window.__at; // a player of the browser's own has stops inside
    window.__at = el;
    if (window.__met.has(el)) return inside ? [] : null;
    window.__met.add(el);
    if (!window.__plain.has(el)) return []; // it does nothing now
    if (ring(el) === window.__plain.get(el)) return [`no focus ring: ${told(named(el) ?? el.outerHTML)} ${el.className}`];
    const style = getComputedStyle(el), behind = paper((el.closest(".noUi-target") ?? el).parentElement);
    const edge = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) ? ink(el, "outlineColor") : style.boxShadow !== "none" ? colour(style.boxShadow) : ink(el, "borderColor");
    const found = contrast(over(edge, behind), behind);
    return found < 3 ? [`focus ring of contrast ${found.toFixed(2)}: ${told(named(el) ?? "")}`] : [];
  }
  function end() {
    const met = new Set([...window.__met].map(grouped));
    return controls(window.__audited).filter((el) => !met.has(grouped(el))).map((el) => `Tab does not reach ${told(named(el) ?? el.outerHTML)} ${el.className}`);
  }

  async function look(root) {
    const all = [...texts(root)], found = [...boxFaults(root, all), ...plotFaults(root)];
    for await (const fault of colourFaults(root, all)) found.push(fault);
    return [...new Set(found)];
  }
  return { look, begin, step, end };
})();
