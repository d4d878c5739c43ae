// One dose: a fader with a number. Double click or Home sets it to 0; "m" (or a right click) learns a MIDI knob.
const made = (tag, className, properties = {}) => Object.assign(document.createElement(tag), properties, { className });

// One MIDI access per page; `learning` is the fader that waits for a knob to be turned.
const midi = (window.__workbenchMidi ??= { bound: new Map(), learning: null, access: null });

async function listenToMidi() {
  midi.access ??= await navigator.requestMIDIAccess();
  for (const input of midi.access.inputs.values()) input.onmidimessage = ({ data: [status, knob, level] }) => {
    if ((status & 0xf0) !== 0xb0) return; // control changes alone
    const address = `${status & 0x0f}/${knob}`;
    if (midi.learning) { midi.bound.set(address, midi.learning); midi.learning.learnt(); midi.learning = null; }
    midi.bound.get(address)?.turn(level / 127);
  };
  if (!midi.access.inputs.size) throw new Error("no MIDI controller is connected");
}

function render({ model, el }) {
  el.classList.add("wb-panel");
  const name = model.get("name"), row = made("div", "wb-fader");
  const label = made("span", "wb-fader-name", { textContent: name, title: name });
  label.style.borderColor = model.get("colour") || "transparent";
  const slide = made("input", "wb-fader-slide", { type: "range", step: model.get("step"), title: model.get("hint") });
  const number = made("input", "wb-fader-number", { type: "number", step: model.get("step"), title: `${name}: type a dose` });
  slide.setAttribute("aria-label", `dose of ${name}`);
  number.setAttribute("aria-label", `dose of ${name}, as a number`);
  row.append(label, slide, number);
  el.append(row);

  const paint = () => {
    const value = model.get("value"), most = model.get("most"), breaks = model.get("breaks");
    Object.assign(slide, { min: -most, max: most, value });
    if (document.activeElement !== number) number.value = value.toFixed(2);
    // Shaded: from this dose on, either way, the model's own music breaks.
    const edge = breaks > 0 && breaks < most ? 50 * (1 - breaks / most) : 0;
    slide.style.setProperty("--edge", `${edge.toFixed(1)}%`);
    row.classList.toggle("wb-broken", breaks > 0 && Math.abs(value) >= breaks);
  };

  let waiting = null; // at most 20 messages a second, the last one always
  const save = () => { waiting ??= setTimeout(() => { waiting = null; model.save_changes(); }, 50); };
  const put = (value, now) => {
    if (!Number.isFinite(value)) return paint();
    model.set("value", Math.round(value * 1e6) / 1e6);
    if (now) save();
    return paint();
  };
  slide.oninput = () => put(slide.valueAsNumber, model.get("live"));
  slide.onchange = () => put(slide.valueAsNumber, true);
  number.onchange = () => {
    put(Math.max(-model.get("limit"), Math.min(model.get("limit"), number.valueAsNumber)), true);
    number.value = model.get("value").toFixed(2); // what was taken, also while the cursor is in it
  };
  row.ondblclick = (event) => { if (event.target !== number) put(0, true); };
  const knob = {
    turn: (share) => put((2 * share - 1) * model.get("most"), true),
    learnt: () => { label.textContent = name; },
  };
  const learn = async () => {
    if (!navigator.requestMIDIAccess) { label.title = "This browser knows no MIDI"; return; }
    midi.learning?.learnt();
    midi.learning = knob;
    label.textContent = "turn a MIDI knob …";
    try { await listenToMidi(); } catch (error) { knob.learnt(); midi.learning = null; label.title = error.message; }
  };
  label.oncontextmenu = (event) => { event.preventDefault(); learn(); };
  slide.onkeydown = (event) => {
    if (event.key === "Home" || event.key === "Delete") { event.preventDefault(); put(0, true); }
    else if (event.key === "m") learn();
    else if (!event.key.startsWith("Arrow") && !event.key.startsWith("Page") && event.key !== "End") return;
    event.stopPropagation(); // the notebook has the same keys for its own commands
  };
  number.onkeydown = (event) => event.stopPropagation();
  for (const trait of ["value", "most", "breaks"]) model.on(`change:${trait}`, paint);
  paint();
  return () => {
    for (const trait of ["value", "most", "breaks"]) model.off(`change:${trait}`, paint);
    for (const [address, bound] of midi.bound) if (bound === knob) midi.bound.delete(address);
    clearTimeout(waiting);
  };
}

export default hearing({ render });
