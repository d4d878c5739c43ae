// Shared by both players: one audio context per page, a level meter, WAV files. Put in front of each player's script.
const page = (window.__workbench ??= { context: null, engines: new Map() });

function audioContext() {
  page.context ??= new AudioContext({ latencyHint: "interactive" });
  return page.context;
}

// An output of two sides with a meter; mono goes to both. `level()` is the RMS (0-1) of the last 2048 samples that went to
// the loudspeakers, `peak` the largest of them.
function meteredOutput() {
  const context = audioContext();
  const input = new GainNode(context, { channelCount: 2, channelCountMode: "explicit" });
  const splitter = new ChannelSplitterNode(context, { numberOfOutputs: 2 });
  const analysers = [0, 1].map(() => new AnalyserNode(context, { fftSize: 2048 }));
  input.connect(context.destination);
  input.connect(splitter);
  analysers.forEach((analyser, side) => splitter.connect(analyser, side));
  const window_ = new Float32Array(2 * 2048), halves = [window_.subarray(0, 2048), window_.subarray(2048)];
  const output = { context, input, peak: 0 };
  output.level = () => {
    analysers.forEach((analyser, side) => analyser.getFloatTimeDomainData(halves[side]));
    const rms = Math.sqrt(window_.reduce((sum, v) => sum + v * v, 0) / window_.length);
    output.peak = window_.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
    window.__workbenchLevel = rms;
    return rms;
  };
  return output;
}

// A level meter from -48 dB to full scale: a bar for the RMS, a line for the peak of the last two seconds.
const decibel = (value) => 20 * Math.log10(Math.max(value, 1e-5));
const place = (value) => `${Math.max(0, Math.min(100, 100 + (100 / 48) * decibel(value)))}%`;

function levelMeter() {
  const box = element("div", "wb-level", {}, "sound level"), bar = element("i", "wb-level-bar"), line = element("b", "wb-level-peak");
  box.setAttribute("role", "meter");
  box.setAttribute("aria-valuemin", "-48");
  box.setAttribute("aria-valuemax", "0");
  box.append(bar, line);
  let held = 0, since = 0;
  const show = (level, peak = level) => {
    const now = performance.now();
    if (peak >= held || now - since > 2000) { held = peak; since = now; }
    bar.style.clipPath = `inset(0 calc(100% - ${place(level)}) 0 0)`;
    line.style.left = place(held);
    line.classList.toggle("wb-clipped", held >= 0.99);
    box.setAttribute("aria-valuenow", String(Math.round(Math.max(-48, decibel(level)))));
    box.title = held > 0 ? `sound level ${decibel(level).toFixed(0)} dB, peak ${decibel(held).toFixed(0)} dB` : "sound level";
  };
  return { box, show };
}

function silenceOthers(engine) {
  for (const other of page.engines.values()) if (other !== engine) other.stop();
}

// 16-bit WAV of one or two sides, float samples in -1..1. Some browsers decode a positive step k to k/32767, others to
// k/32768; the samples themselves tell which, so a decoded clip is written back exactly.
function wavFile(sides, rate) {
  const channels = sides.length, bytes = 2 * channels * sides[0].length;
  const view = new DataView(new ArrayBuffer(44 + bytes));
  const text = (at, s) => [...s].forEach((c, i) => view.setUint8(at + i, c.charCodeAt(0)));
  text(0, "RIFF"); view.setUint32(4, 36 + bytes, true); text(8, "WAVEfmt ");
  view.setUint32(16, 16, true); view.setUint16(20, 1, true); view.setUint16(22, channels, true);
  view.setUint32(24, rate, true); view.setUint32(28, 2 * channels * rate, true);
  view.setUint16(32, 2 * channels, true); view.setUint16(34, 16, true);
  text(36, "data"); view.setUint32(40, bytes, true);
  const off = (v, scale) => (v > 0 ? Math.abs(v * scale - Math.round(v * scale)) : 0);
  const misfit = (scale) => sides.reduce((all, side) => side.reduce((sum, v) => sum + off(v, scale), all), 0);
  const scale = misfit(32767) < misfit(32768) ? 32767 : 32768;
  const step = (v) => Math.max(-32768, Math.min(32767, Math.round(v * (v < 0 ? 32768 : scale))));
  sides.forEach((side, at) => side.forEach((v, i) => view.setInt16(44 + 2 * (channels * i + at), step(v), true)));
  return new Blob([view], { type: "audio/wav" });
}

function save(blob, name) {
  const href = URL.createObjectURL(blob);
  Object.assign(document.createElement("a"), { href, download: name.replace(/[^\p{L}\p{N} ._+-]/gu, "_") }).click();
  setTimeout(() => URL.revokeObjectURL(href), 10_000);
}

function element(tag, className, properties = {}, label = null) {
  const made = Object.assign(document.createElement(tag), properties);
  made.className = className;
  if (label) { made.setAttribute("aria-label", label); made.title = label; }
  return made;
}

const seconds = (t) => t.toFixed(1);
const bytesOf = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
