// Comparison player: all clips run on one clock, only one is open; changing it fades over 30 ms, sample-locked.
const FADE_S = 0.03;
const CIVIDIS = [[0, 34, 78], [65, 77, 107], [124, 123, 120], [188, 175, 111], [254, 232, 56]];

// The colour of a level 0-255 on the cividis scale, which reads the same with every kind of colour vision.
function cividis(level) {
  const at = (level / 255) * (CIVIDIS.length - 1), low = Math.min(Math.floor(at), CIVIDIS.length - 2);
  return CIVIDIS[low].map((value, i) => value + (at - low) * (CIVIDIS[low + 1][i] - value));
}

class Comparison {
  constructor(model) {
    this.model = model;
    this.views = new Set();
    this.buffers = [];
    this.current = model.get("current");
    this.voices = null; // while playing: one {source, gain} per clip
    this.offset = 0;
    this.ready = this.load();
    model.on("change:clips", () => { this.stop(); this.offset = 0; this.ready = this.load(); });
    model.on("change:current", () => this.choose(model.get("current")));
    model.on("msg:custom", (m) => this.obey(m));
    this.tell({ ready: true });
  }

  get clips() { return this.model.get("clips"); }
  get duration() { return Math.max(0, ...this.clips.map((c) => c.seconds)); }
  get playing() { return this.voices !== null; }
  get position() {
    if (!this.playing) return this.offset;
    return Math.max(this.offset, Math.min(this.duration, this.offset + this.output.context.currentTime - this.startedAt));
  }

  tell(values) {
    for (const [name, value] of Object.entries(values)) this.model.set(name, value);
    this.model.save_changes();
  }

  async load() {
    const clips = this.clips;
    let buffers = [], problem = null;
    const decode = (c) => new OfflineAudioContext(1, 1, c.rate_hz).decodeAudioData(bytesOf(c.audio).buffer);
    try { buffers = await Promise.all(clips.map(decode)); } catch (error) {
      problem = `This browser cannot decode the clips (${error.message}). Show them with Clip's own player instead.`;
    }
    if (clips !== this.clips) return this.ready; // others have come meanwhile
    Object.assign(this, { buffers, problem });
    this.current = Math.min(this.current, Math.max(0, this.clips.length - 1));
    this.views.forEach((view) => view.rebuild());
  }

  async obey({ kind, index, at_s, name, text }) {
    if (kind === "download") return save(new Blob([bytesOf(text)]), name);
    await this.ready;
    if (kind === "stop") return this.stop();
    if (index !== null && index !== undefined) this.choose(index);
    return this.play(at_s ?? 0);
  }

  async play(at = this.position) {
    await this.ready;
    if (!this.buffers.length) return;
    this.output ??= meteredOutput();
    this.halt();
    silenceOthers(this);
    const context = this.output.context;
    this.waiting = context.state !== "running"; // browsers want one gesture on the page before any sound
    this.paint();
    await context.resume();
    this.waiting = false;
    this.halt(); // a second press may have come while waiting
    this.offset = at >= this.duration - 0.05 ? 0 : Math.max(0, at);
    this.startedAt = context.currentTime + 0.02;
    this.voices = this.buffers.map((buffer, i) => {
      const source = new AudioBufferSourceNode(context, { buffer });
      const gain = new GainNode(context, { gain: i === this.current ? 1 : 0 });
      source.connect(gain).connect(this.output.input);
      source.start(this.startedAt, Math.min(this.offset, buffer.duration));
      return { source, gain };
    });
    this.loudest = 0;
    this.ticks = 0;
    this.timer = setInterval(() => this.tick(), 50);
    this.tell({ playing: true });
    this.paint();
  }

  tick() {
    const level = this.output.level();
    this.loudest = Math.max(this.loudest, level);
    this.views.forEach((view) => view.move(level));
    if (++this.ticks === 4 || this.ticks % 10 === 0) this.tell({ level: this.loudest });
    if (this.position >= this.duration - 0.001) {
      if (this.loop) this.play(0); else { this.stop(); this.offset = 0; this.paint(); }
    }
  }

  halt() {
    clearInterval(this.timer);
    const voices = this.voices;
    if (!voices) return;
    this.offset = this.position;
    this.voices = null;
    voices.forEach(({ source, gain }) => { gain.gain.value = 0; source.stop(); source.disconnect(); });
  }

  stop() {
    if (!this.playing) return;
    this.halt();
    this.tell({ playing: false, level: this.loudest });
    this.paint();
  }

  choose(index) {
    if (index < 0 || index >= this.clips.length) return;
    this.current = index;
    const now = this.output?.context.currentTime;
    this.voices?.forEach(({ gain }, i) => {
      gain.gain.cancelScheduledValues(now);
      gain.gain.setValueAtTime(gain.gain.value, now);
      gain.gain.linearRampToValueAtTime(i === index ? 1 : 0, now + FADE_S);
    });
    if (this.model.get("current") !== index) this.tell({ current: index });
    this.paint();
  }

  paint() { this.views.forEach((view) => view.paint()); }
}

class ComparisonView {
  constructor(engine, el) {
    this.engine = engine;
    this.el = el;
    el.classList.add("wb-panel");
    el.tabIndex = 0;
    el.setAttribute("role", "group");
    el.setAttribute("aria-label", "Comparison player. Space plays and pauses, digits choose a clip, arrows seek.");
    el.onkeydown = (event) => this.key(event);
    this.rebuild();
    this.watch = new ResizeObserver(() => this.draw());
    this.watch.observe(el);
  }

  rebuild() {
    const { engine, el } = this;
    el.replaceChildren();
    this.rows = [];
    if (!engine.clips.length) { el.append(element("div", "wb-hint", { textContent: "No clip to play yet." })); return; }
    this.button = element("button", "wb-button wb-play", { onclick: () => (engine.playing ? engine.stop() : engine.play()) });
    this.clock = element("span", "wb-clock");
    this.meter = levelMeter();
    const loop = element("input", "", { type: "checkbox", checked: engine.loop, onchange: () => { engine.loop = loop.checked; } });
    const label = element("label", "");
    label.append(loop, " repeat");
    this.hint = element("span", "wb-hint");
    const bar = element("div", "wb-bar");
    bar.append(this.button, this.clock, this.meter.box, label, this.hint);
    const list = element("div", "", {}, "clips");
    list.setAttribute("role", "radiogroup");
    list.removeAttribute("title");
    this.rows = engine.clips.map((clip, index) => this.row(clip, index));
    list.append(...this.rows.map((row) => row.box));
    el.append(bar, list);
    this.draw();
    this.paint();
  }

  row(clip, index) {
    const box = element("div", "wb-row");
    box.style.borderLeftColor = clip.colour;
    const name = element("button", "wb-name", { textContent: clip.name, onclick: () => this.engine.choose(index) });
    name.setAttribute("role", "radio");
    name.title = [`Hear ${clip.name} (key ${index + 1})`, clip.detail].filter(Boolean).join("\n");
    const wave = element("div", "wb-wave", { onclick: (event) => this.seek(event, index) }, `${clip.name}: click to play from there`);
    const [shape, spectrum, head] = [element("canvas", "wb-shape"), element("canvas", "wb-spectrum"), element("div", "wb-head")];
    wave.append(shape, ...(clip.spectrum ? [spectrum] : []), head);
    const wav = element("button", "wb-button", { textContent: "WAV", onclick: () => this.save(clip, index) }, `Download ${clip.name} as WAV`);
    box.append(name, wave, wav);
    return { box, name, wave, shape, spectrum, head, clip };
  }

  save(clip, index) {
    const buffer = this.engine.buffers[index];
    if (!buffer) return;
    const sides = Array.from({ length: buffer.numberOfChannels }, (_, side) => buffer.getChannelData(side));
    save(wavFile(sides, clip.rate_hz), `${clip.name}.wav`);
  }

  seek(event, index) {
    const box = this.rows[index].wave.getBoundingClientRect();
    this.engine.choose(index);
    this.engine.play(((event.clientX - box.left) / box.width) * this.engine.duration);
  }

  key(event) {
    const { engine } = this;
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const turn = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    const isButton = event.target.tagName === "BUTTON" || event.target.tagName === "INPUT";
    if (event.key === " " && !isButton) { if (engine.playing) engine.stop(); else engine.play(); }
    else if (step) engine.play(Math.max(0, engine.position + step));
    else if (turn) engine.choose((engine.current + turn + engine.clips.length) % engine.clips.length);
    else if (/^[1-9]$/.test(event.key)) engine.choose(Number(event.key) - 1);
    else return;
    event.preventDefault();
    event.stopPropagation(); // Lab would take the key as a command of its own
  }

  draw() {
    const total = this.engine.duration;
    for (const { shape, spectrum, clip, wave } of this.rows) {
      const width = Math.max(50, wave.clientWidth), scale = window.devicePixelRatio || 1;
      Object.assign(shape, { width: width * scale, height: 52 * scale });
      const pen = shape.getContext("2d");
      pen.fillStyle = clip.colour;
      const used = shape.width * (clip.seconds / total), half = shape.height / clip.outlines.length / 2;
      clip.outlines.forEach((outline, side) => { // left over right
        const middle = (2 * side + 1) * half, column = used / outline.length;
        outline.forEach(([low, high], i) =>
          pen.fillRect(i * column, middle - high * half, Math.max(1, column), Math.max(1, (high - low) * half)));
      });
      if (clip.spectrum) this.drawSpectrum(spectrum, clip, clip.seconds / total);
    }
  }

  drawSpectrum(canvas, clip, share) {
    const { bands, frames, levels } = clip.spectrum;
    const values = bytesOf(levels);
    Object.assign(canvas, { width: Math.ceil(frames / share), height: bands });
    canvas.style.height = "64px";
    const pen = canvas.getContext("2d"), image = pen.createImageData(frames, bands);
    for (let band = 0; band < bands; band++) for (let frame = 0; frame < frames; frame++) {
      const colour = cividis(values[band * frames + frame]), at = 4 * ((bands - 1 - band) * frames + frame);
      image.data.set([...colour, 255], at);
    }
    pen.putImageData(image, 0, 0);
  }

  paint() {
    if (!this.rows.length) return;
    const { engine } = this;
    this.button.textContent = engine.playing ? "❚❚ Pause" : "▶ Play";
    this.button.setAttribute("aria-label", engine.playing ? "Pause" : "Play");
    this.hint.textContent = engine.problem
      ?? (engine.waiting ? "Press Play once: the browser wants one click before sound."
        : "Click a waveform to hear it from there.");
    this.rows.forEach(({ box, name }, i) => {
      box.classList.toggle("wb-on", i === engine.current);
      name.setAttribute("aria-checked", String(i === engine.current));
    });
    this.move(0);
  }

  move(level) {
    const { position, duration } = this.engine;
    this.clock.textContent = `${seconds(position)} / ${seconds(duration)} s`;
    this.meter.show(level, level ? this.engine.output.peak : 0);
    this.rows.forEach(({ head }) => { head.style.left = `${(100 * position) / (duration || 1)}%`; });
  }
}

export default hearing({
  initialize({ model }) {
    const engine = new Comparison(model);
    page.engines.set(model.get("key"), engine);
    return () => { engine.stop(); page.engines.delete(model.get("key")); };
  },
  render({ model, el }) {
    const engine = page.engines.get(model.get("key"));
    const view = new ComparisonView(engine, el);
    engine.views.add(view);
    return () => {
      view.watch.disconnect();
      engine.views.delete(view);
      if (!engine.views.size) engine.stop(); // nobody could press Pause any more
    };
  },
});
