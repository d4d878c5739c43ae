// The bytes of a message: a binary buffer, or base64 text where the host drops those; null where neither came.
function bytesFrom({ text }, buffers) {
  if (text !== undefined) return bytesOf(text).buffer;
  const raw = buffers?.[0];
  if (!raw?.byteLength) return null;
  return raw.buffer ? raw.buffer.slice(raw.byteOffset, raw.byteOffset + raw.byteLength) : raw.slice(0);
}

// Streaming player: float32 chunks of one side or two arrive as binary messages and are scheduled back to back on the audio clock.
// A live one (`live`, music without an end) keeps nothing, can be paused, holds back again after a gap, and reports what
// was heard four times a second, with the epoch of the session that it belongs to.
// In here a chunk is a list of its sides.
class Stream {
  constructor(model) {
    this.model = model;
    this.views = new Set();
    this.epoch = model.get("epoch") ?? 0;
    this.clear();
    model.on("msg:custom", (message, buffers) => this.obey(message, buffers));
    model.set("ready", true);
    model.save_changes();
    if (!this.live) return;
    model.send({ kind: "joined" });
    this.told = 0;
    this.beat = setInterval(() => { if (this.next === null && this.held.length) this.report(); }, 400); // "I am waiting"
    model.on("change:lead_s", () => { if (this.held.length) this.begin(); }); // what is there may be enough now
  }

  get live() { return this.model.get("live") === true; }

  clear() {
    for (const source of this.voices?.keys() ?? []) { source.onended = null; source.stop(); }
    Object.assign(this, { voices: new Map(), paused: false, scheduled: 0, held: [], kept: [], next: null, underruns: 0, loudest: 0, finished: false, received: 0 });
    clearInterval(this.timer);
    this.timer = null;
  }

  get rate() { return this.model.get("rate_hz"); }
  get lead() { return this.next === null ? 0 : Math.max(0, this.next - this.output.context.currentTime); }

  obey(message, buffers) {
    if (message.kind === "reset") { this.clear(); this.epoch = message.epoch ?? 0; this.report(); this.paint(); return; }
    if (message.kind === "finish") { this.finished = true; this.begin(); return; }
    if (message.kind === "pause") return this.pause();
    if (message.kind === "resume") { this.paused = false; return this.begin(); }
    const bytes = bytesFrom(message, buffers);
    if (!bytes) { this.model.send({ kind: "no binary" }); return; } // some hosts drop it: it then comes as text
    if (message.kind === "download") return save(new Blob([bytes]), message.name);
    const all = new Float32Array(bytes), length = all.length / message.sides;
    const chunk = Array.from({ length: message.sides }, (_, side) => all.subarray(side * length, (side + 1) * length));
    if (!this.live) this.kept.push(chunk);
    this.held.push(chunk);
    this.received += length / this.rate;
    this.begin();
  }

  // Holds sound back until `lead_s` seconds have come (or the stream has ended), then keeps the queue scheduled.
  begin() {
    this.output ??= meteredOutput();
    if (this.paused) return this.paint();
    if (this.live) this.noteGap();
    const waiting = this.held.reduce((sum, [side]) => sum + side.length, 0) / this.rate;
    if (this.next === null && waiting < this.model.get("lead_s") && !this.finished) return this.paint();
    const context = this.output.context;
    if (context.state !== "running") { context.resume().then(() => this.begin()); return this.paint(); }
    if (!this.timer) { silenceOthers(this); this.timer = setInterval(() => this.tick(), 50); }
    while (this.held.length) this.schedule(this.held.shift());
    return this.paint();
  }

  // A gap in live music: sound is held back again, instead of stuttering on.
  noteGap() {
    if (this.next === null || this.next >= this.output.context.currentTime || this.finished) return;
    this.underruns += 1;
    this.next = null;
  }

  // Stops at once; what is scheduled and was not heard yet is kept for later.
  pause() {
    if (this.paused) return;
    this.paused = true;
    const now = this.output?.context.currentTime ?? 0, rest = [];
    for (const [source, { chunk, at }] of this.voices) {
      const heard = Math.max(0, Math.round((now - at) * this.rate));
      if (heard < chunk[0].length) rest.push(chunk.map((side) => side.subarray(heard)));
      source.onended = null;
      source.stop();
      source.disconnect();
    }
    this.voices.clear();
    this.scheduled -= rest.reduce((sum, [side]) => sum + side.length, 0) / this.rate;
    this.held.unshift(...rest);
    this.next = null;
    clearInterval(this.timer);
    this.timer = null;
    this.report();
    this.paint();
  }

  schedule(chunk) {
    const context = this.output.context, now = context.currentTime;
    if (this.next === null) this.next = now + 0.02;
    else if (this.next < now) { this.underruns += 1; this.next = now + 0.02; }
    const buffer = new AudioBuffer({ length: chunk[0].length, numberOfChannels: chunk.length, sampleRate: this.rate });
    chunk.forEach((side, number) => buffer.copyToChannel(side, number));
    const source = new AudioBufferSourceNode(context, { buffer });
    source.connect(this.output.input);
    source.start(this.next);
    this.voices.set(source, { chunk, at: this.next });
    this.next += buffer.duration;
    this.scheduled += buffer.duration;
    source.onended = () => { this.voices.delete(source); source.disconnect(); };
  }

  tick() {
    const level = this.output.level();
    this.loudest = Math.max(this.loudest, level);
    if (this.live) this.noteGap();
    this.views.forEach((view) => view.move(level));
    this.ticks = (this.ticks ?? 0) + 1;
    if (this.ticks % 5 === 0) this.report();
    if (this.finished && !this.voices.size && !this.held.length) { clearInterval(this.timer); this.timer = null; this.report(); this.paint(); }
  }

  report() {
    const values = { underruns: this.underruns, level: this.loudest, lead_now_s: this.lead, received_s: this.received,
      playing: this.timer !== null };
    if (this.live) values.heard = this.heard();
    for (const [name, value] of Object.entries(values)) this.model.set(name, value);
    this.model.save_changes();
  }

  // Seconds that have left the loudspeaker, as far as the browser knows its own delay.
  heard() {
    const context = this.output?.context;
    const delay = Math.min(0.25, (context?.outputLatency || context?.baseLatency) ?? 0);
    const playing = this.next !== null; // where nothing is scheduled, all of it has been heard
    return { epoch: this.epoch, played_s: Math.max(0, this.scheduled - (playing ? this.lead + delay : 0)),
      underruns: this.underruns, playing, told: ++this.told };
  }

  stop() {
    if (this.live) { if (this.timer) { this.pause(); this.model.send({ kind: "silenced" }); } return; }
    this.end();
  }

  end() { const kept = this.kept, received = this.received; this.clear(); Object.assign(this, { kept, received, finished: true }); this.report(); this.paint(); }
  paint() { this.views.forEach((view) => view.paint()); }

  save() {
    const joined = (side) => {
      const parts = this.kept.map((chunk) => chunk[side]), all = new Float32Array(Math.round(this.received * this.rate));
      parts.reduce((at, part) => { all.set(part, at); return at + part.length; }, 0);
      return all;
    };
    save(wavFile((this.kept[0] ?? [0]).map((_, side) => joined(side)), this.rate), "stream.wav");
  }
}

class StreamView {
  constructor(engine, el) {
    this.engine = engine;
    el.classList.add("wb-panel");
    el.setAttribute("role", "group");
    el.setAttribute("aria-label", "Streaming player");
    this.start = element("button", "wb-button wb-play", { textContent: "▶ Play", onclick: () => engine.begin() }, "Allow sound");
    this.stop = element("button", "wb-button", { textContent: "■ Stop", onclick: () => engine.stop() }, "Stop the sound");
    this.meter = levelMeter();
    this.text = element("span", "wb-hint");
    const wav = element("button", "wb-button", { textContent: "WAV", onclick: () => engine.save() }, "Download what has come so far as WAV");
    const bar = element("div", "wb-bar");
    bar.append(this.start, ...(engine.live ? [] : [this.stop]), this.meter.box, this.text, ...(engine.live ? [] : [wav]));
    el.append(bar);
    if (engine.live) requestAnimationFrame(() => this.listen(el.closest(".wb-desk")));
    this.paint();
  }

  // Keys for the whole desk: Space plays and pauses, digits choose a scene (0: all doses to 0).
  listen(desk) {
    if (!desk || desk.dataset.keys) return;
    desk.dataset.keys = "on";
    desk.tabIndex = 0;
    desk.addEventListener("keydown", (event) => {
      const { tagName, type } = event.target;
      const typing = tagName === "TEXTAREA" || (tagName === "INPUT" && type !== "range") || (tagName === "BUTTON" && event.key === " ");
      if (typing || event.ctrlKey || event.metaKey || event.altKey || !/^[ 0-9]$/.test(event.key)) return;
      this.engine.model.send({ kind: "key", key: event.key });
      event.preventDefault();
      event.stopPropagation(); // the notebook has the same keys for its own commands
    });
  }

  paint() { this.move(0); }

  move(level) {
    const { engine } = this;
    const blocked = engine.output && engine.output.context.state !== "running" && engine.held.length;
    this.meter.show(level, level ? engine.output.peak : 0);
    this.start.style.display = blocked ? "" : "none";
    this.stop.disabled = engine.timer === null;
    const state = engine.paused ? "paused" : engine.live && engine.timer && engine.next === null ? "waiting for more sound" : engine.timer ? `playing, ${engine.lead.toFixed(1)} s ahead` : engine.finished ? "ended" : engine.live && !engine.received ? "silent" : "waiting for sound";
    const gaps = engine.underruns ? `, ${engine.underruns} gap${engine.underruns > 1 ? "s" : ""} (the sound came too late)` : "";
    const came = engine.live ? "" : `; ${engine.received.toFixed(1)} s received`;
    this.text.textContent = (blocked ? "Press Play once: the browser wants one click before sound." : `${state}${came}${gaps}`);
  }
}

export default hearing({
  initialize({ model }) {
    const engine = new Stream(model);
    page.engines.set(model.get("key"), engine);
    return () => { engine.clear(); clearInterval(engine.beat); if (engine.live) model.send({ kind: "left" }); page.engines.delete(model.get("key")); };
  },
  render({ model, el }) {
    const engine = page.engines.get(model.get("key"));
    const view = new StreamView(engine, el);
    engine.views.add(view);
    return () => { engine.views.delete(view); };
  },
});
