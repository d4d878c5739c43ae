// Blend pad: a point in a square between four names. Dragged, or moved with the arrow keys. Its legend says what the
// doses are: those of the point, or of the faders (`now`) where a hand has moved them since.
const clamp = (value) => Math.min(1, Math.max(0, value));
const HINT = "Drag the point, or move it with the arrow keys (Shift: fine, Home: middle).";
const made = (tag, className, properties = {}) => Object.assign(document.createElement(tag), properties, { className });

function render({ model, el }) {
  el.classList.add("wb-panel");
  const pad = made("div", "wb-pad", { tabIndex: 0 });
  pad.setAttribute("role", "slider");
  pad.setAttribute("aria-label", "Blend pad");
  pad.setAttribute("aria-roledescription", "two-dimensional slider");
  const dot = made("div", "wb-pad-dot");
  const corners = model.get("names").map((name, corner) => {
    const label = made("span", `wb-pad-name wb-pad-${corner}`, { textContent: name });
    label.style.borderColor = model.get("colours")[corner];
    return label;
  });
  pad.append(...corners, dot);
  const words = made("div", "wb-hint");
  const hint = made("div", "wb-hint");
  el.append(pad, words, hint);

  let dragged = false; // until Python has said that the faders have followed
  const paint = () => {
    const x = model.get("x"), y = model.get("y");
    dot.style.left = `${100 * x}%`;
    dot.style.top = `${100 * (1 - y)}%`;
    const shares = [(1 - x) * y, x * y, (1 - x) * (1 - y), x * (1 - y)];
    const own = shares.map((share) => model.get("strength") * share);
    const now = model.get("names").map((name, corner) => model.get("now")[name] ?? own[corner]);
    const away = !dragged && now.some((dose, corner) => Math.abs(dose - own[corner]) > 0.005);
    pad.classList.toggle("wb-away", away);
    const told = model.get("names").map((name, corner) => `${name}\u00a0${(away ? now : own)[corner].toFixed(2)}`).join(", ");
    words.textContent = told;
    hint.textContent = away ? "The faders stand elsewhere: drag the point to take over." : HINT;
    pad.setAttribute("aria-valuetext", told);
    pad.setAttribute("aria-valuemin", "0");
    pad.setAttribute("aria-valuemax", "100");
    pad.setAttribute("aria-valuenow", String(Math.round(100 * x)));
  };

  let waiting = null; // at most 20 messages a second, the last one always
  const save = () => { waiting ??= setTimeout(() => { waiting = null; model.save_changes(); }, 50); };
  const put = (x, y) => {
    dragged = true;
    model.set("x", clamp(x));
    model.set("y", clamp(y));
    save();
  };
  const follow = (event) => {
    const box = pad.getBoundingClientRect();
    put((event.clientX - box.left) / box.width, 1 - (event.clientY - box.top) / box.height);
  };
  pad.onpointerdown = (event) => { pad.setPointerCapture(event.pointerId); pad.focus(); follow(event); event.preventDefault(); };
  pad.onpointermove = (event) => { if (pad.hasPointerCapture(event.pointerId)) follow(event); };
  const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  pad.onkeydown = (event) => {
    const way = ways[event.key], step = event.shiftKey ? 0.01 : 0.05;
    if (way) put(model.get("x") + step * way[0], model.get("y") + step * way[1]);
    else if (event.key === "Home") put(0.5, 0.5);
    else return;
    event.preventDefault();
    event.stopPropagation(); // the notebook moves between cells with the same keys
  };
  const followed = () => { dragged = false; paint(); };
  model.on("change:x", paint);
  model.on("change:y", paint);
  model.on("change:now", followed);
  paint();
  return () => {
    model.off("change:x", paint);
    model.off("change:y", paint);
    model.off("change:now", followed);
    clearTimeout(waiting);
  };
}

export default hearing({ render });
