"""Players: clips on one clock (`ComparisonPlayer`), sound that is still being made, and a live session."""

from __future__ import annotations

import base64
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import traitlets

from workbench.errors import AudioError
from workbench.files import file_names
from workbench.generation.live.pacing import Playback
from workbench.show.page import part, player_html
from workbench.show.plots.grammar import colours_of_clips
from workbench.show.plots.sound import FLOOR_DB, log_mel, outline
from workbench.show.widgets.kept import ScriptedWidget, script
from workbench.sound.clip import Clip

ANSWER_S = 2.0  # a page that has had no sound for so long gets it as text


class SoundWidget(ScriptedWidget):
    """A player in a page: messages wait until the page is there, and the page reports its level.

    `level` is the loudest RMS (0-1) measured at the loudspeaker since the sound began; 0 means silence.
    """

    ready = traitlets.Bool(False).tag(sync=True)
    playing = traitlets.Bool(False).tag(sync=True)
    level = traitlets.Float(0.0).tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        self._waiting: deque[tuple[dict[str, Any], bytes | None]] = deque()
        self._as_text = False  # some hosted notebooks drop binary buffers
        self.observe(self._flush, "ready")

    def offer(self, name: str, data: bytes) -> None:
        """Let the page's browser download a file of that name."""
        self._send_later({"kind": "download", "name": name}, data)

    def _send_later(self, content: dict[str, Any], chunk: bytes | None = None) -> None:
        """Send a message, perhaps with a binary chunk, once the page is ready for it."""
        self._waiting.append((content, chunk))
        self._flush(None)

    def _flush(self, _change: object) -> None:
        while self.ready and self._waiting:
            content, chunk = self._waiting.popleft()
            if chunk is not None and self._as_text:
                self.send({**content, "text": base64.b64encode(chunk).decode()})
            else:
                self.send(content, buffers=None if chunk is None else [chunk])


class ComparisonPlayer(SoundWidget):
    """Clips one below the other: press Play, then change between them while they run, or click a waveform.

    Args:
        clips: name -> clip; rates and lengths may differ. The colour is that of the genre in the name, grey
            for the unsteered.

    All clips play at one gain, so that a clip which steering has made louder, or destroyed, sounds like that.
    """

    _esm = script("sound.js", "player.js")
    clips = traitlets.List().tag(sync=True)
    current = traitlets.Int(0).tag(sync=True)
    copied = ("clips",)

    def __init__(self, clips: Mapping[str, Clip] | None = None) -> None:
        super().__init__()
        self._as_text = True  # what it offers is small, and text arrives on every host
        self.load(clips or {})

    def load(self, clips: Mapping[str, Clip], *, details: Mapping[str, str] | None = None) -> None:
        """Replace the clips; what plays stops. `details` are shown where the mouse rests on a name."""
        self.sounds = dict(clips)
        gain = 1.0 / max([1.0, *(float(clip.peak) for clip in clips.values())])  # the loudest at full scale
        shades = colours_of_clips(self.sounds)
        self._copied_sounds = cache(partial(_sounds_html, self.sounds, shades, gain))
        with self.hold_sync():
            self.current = 0
            self.clips = [
                {"name": name, "colour": shades[name], "detail": (details or {}).get(name, "")}
                | _described(clip, gain)
                for name, clip in self.sounds.items()
            ]

    def copy_html(self) -> str:
        """Return the clips, each in the browser's own player, at the gain of this one."""
        return self._copied_sounds()

    def play_one(self, clip_id: str, clip: Clip, label: str = "") -> None:
        """Load a single clip, named (and so coloured) by its label first if it has one, and start it."""
        name = f"{label}: {clip_id}" if label else clip_id
        self.load({name: clip})
        self.play(name)

    def play(self, name: str | None = None, *, at_s: float = 0.0) -> None:
        """Start at `at_s` seconds with the clip of a name (else an AudioError), by default the open one."""
        if name is not None and name not in self.sounds:
            asked, found = f"The clip {name!r} was to be played", f"the player has {list(self.sounds)}"
            raise AudioError.lookup(asked, found, "Choose one of these names")
        index = None if name is None else list(self.sounds).index(name)
        self._send_later({"kind": "play", "index": index, "at_s": at_s})

    def stop(self) -> None:
        """Stop the sound and keep the place."""
        self._send_later({"kind": "stop"})

    def save(self, folder: Path | str) -> list[Path]:
        """Write every clip as `<name>.wav` into `folder`, names made fit for disks, and return the paths."""
        names = file_names(self.sounds)
        return [clip.write(Path(folder) / f"{names[name]}.wav") for name, clip in self.sounds.items()]


def shortened(plan: str) -> str:
    """Return a plan's text without what goes without saying: a constant schedule on the conditional rows."""
    return plan.replace(" | constant | cond", "")


def _scaled(clip: Clip, gain: float) -> Clip:
    return clip if gain == 1.0 else Clip(clip.heard * np.float32(gain), clip.rate_hz)


def _sounds_html(clips: Mapping[str, Clip], colours: Mapping[str, str], gain: float) -> str:
    """Return all clips in the browser's own players: as Ogg Vorbis, a fifth of FLAC or less."""
    players = {name: player_html(_scaled(clip, gain), name, "ogg") for name, clip in clips.items()}
    return part("sounds", [(name, colours[name], player) for name, player in players.items()])


def _described(clip: Clip, gain: float) -> dict[str, Any]:
    """Return what the page needs of a clip: lossless FLAC as text, outlines of the sides, spectrogram."""
    scaled = _scaled(clip, gain)
    sides = [Clip(side, clip.rate_hz) for side in np.atleast_2d(scaled.heard)]  # drawn left over right
    # log-mel levels as bytes: 0 = FLOOR_DB, 255 = full scale, (bands, frames) in C order
    grey = np.round((log_mel(scaled) - FLOOR_DB) * (255 / -FLOOR_DB)).astype(np.uint8)
    levels = base64.b64encode(grey.tobytes()).decode()
    return {
        "rate_hz": clip.rate_hz,
        "seconds": clip.seconds,
        "audio": base64.b64encode(scaled.encode("flac")).decode(),
        "outlines": [np.round(outline(side), 3).tolist() for side in sides],
        "spectrum": {"bands": grey.shape[0], "frames": grey.shape[1], "levels": levels},
    }


class StreamPlayer(SoundWidget):
    """Plays float32 chunks, mono or stereo, back to back as they are pushed, from any thread.

    The sound begins when `lead_s` seconds have come. A producer of r times real time (r < 1) needs
    `total * (1 - r)` seconds, or it stutters; `held_back` says how many. The page reports `underruns` (gaps
    heard), `lead_now_s` (scheduled ahead), `received_s` and `level`.
    """

    _esm = script("sound.js", "stream_player.js")
    rate_hz = traitlets.Int().tag(sync=True)
    lead_s = traitlets.Float(0.3).tag(sync=True)
    lead_now_s = traitlets.Float(0.0).tag(sync=True)
    received_s = traitlets.Float(0.0).tag(sync=True)
    underruns = traitlets.Int(0).tag(sync=True)

    def __init__(self, rate_hz: int, *, lead_s: float = 0.3) -> None:
        super().__init__(rate_hz=rate_hz, lead_s=lead_s)
        self._chunks: list[np.ndarray] = []
        self._since: float | None = None  # when the first chunk was sent
        self.on_msg(self._receive)

    def push(self, chunk: np.ndarray) -> None:
        """Append samples in -1..1, mono (n,) or stereo (2, n), as those before; an AudioError for others."""
        samples = np.ascontiguousarray(chunk, dtype="<f4")
        sides = (self._chunks[0] if self._chunks else samples).shape[:-1]
        if samples.shape[:-1] != sides or sides not in ((), (2,)) or not np.isfinite(samples).all():
            found = f"it has shape {samples.shape} or is not finite"
            do = "Push finite samples, either all (n,) or all (2, n)"
            raise AudioError("A chunk was to be played", found, do)
        if samples.size:
            self._chunks.append(samples)
            self._send_chunk(samples)
            self._look_for_answer()

    def _send_chunk(self, samples: np.ndarray) -> None:
        """Send the sides one after the other: (n,) is one, (2, n) are two."""
        self._send_later({"kind": "chunk", "sides": samples.ndim}, samples.tobytes())

    def finish(self) -> None:
        """Say that nothing more comes; what is held back begins to play."""
        self._look_for_answer()
        self._send_later({"kind": "finish"})

    def _look_for_answer(self) -> None:
        """Send sound as text from now on where the page has had none of it within two seconds."""
        if self._since is None and self.ready:
            self._since = time.monotonic()
        elif self._since is not None and not self.received_s and time.monotonic() - self._since > ANSWER_S:
            self._use_text()

    def _use_text(self) -> None:
        if not self._as_text:
            self._as_text = True
            self._send_again()

    def _send_again(self) -> None:
        self._send_later({"kind": "reset"})
        for samples in self._chunks:
            self._send_chunk(samples)

    def _receive(self, _player: object, content: Mapping[str, Any], _buffers: object) -> None:
        if content.get("kind") == "no binary":
            self._use_text()

    def reset(self) -> None:
        """Silence the player and forget all chunks."""
        self._chunks.clear()
        self._since = None
        self._waiting.clear()
        self._send_later({"kind": "reset"})

    def clip(self) -> Clip:
        """Return everything pushed so far as one clip; an AudioError where that is nothing."""
        if not self._chunks:
            asked = "The streamed clip was asked for"
            raise AudioError(asked, "nothing has been pushed", "Push chunks first")
        return Clip(np.concatenate(self._chunks, axis=-1), self.rate_hz)


class LivePlayer(StreamPlayer):
    """Plays what a session delivers, on every page that shows it; where there is none, sound is let go.

    `heard` is what the page reports four times a second: seconds played and gaps since the last `follow`.
    """

    live = traitlets.Bool(True).tag(sync=True)
    epoch = traitlets.Int(0).tag(sync=True)
    heard = traitlets.Dict().tag(sync=True)
    silenced = traitlets.Int(0)
    """Counts how often another player on the page has taken the loudspeaker."""

    def __init__(self, rate_hz: int) -> None:
        super().__init__(rate_hz)
        self._playback = Playback()
        self._there = self._joining = False
        self._on_key: Callable[[str], object] = lambda _key: None
        self.observe(self._report, "heard")

    def on_key(self, act: Callable[[str], object]) -> None:
        """Call `act` with " " or a digit when that key is pressed in the desk around the player."""
        self._on_key = act

    def follow(self, playback: Playback) -> None:
        """Begin anew, for another session: what is heard is reported to `playback`."""
        self.epoch += 1
        self._waiting.clear()
        if self._there:
            self._send_later({"kind": "reset", "epoch": self.epoch})
        self._playback, self._joining = playback, self._there
        self.lead_s = playback.hold_s

    def push(self, chunk: np.ndarray) -> None:
        """Play samples on the page, if one is there; to be called just before the playback gets them."""
        if self._joining:
            self._joining = False
            self._playback.join()
        if self._there:
            super().push(chunk)
            self._chunks.clear()  # music without an end is not kept

    def pause(self) -> None:
        """Fall silent at once, and keep what was not heard yet."""
        if self._there:
            self._send_later({"kind": "pause"})

    def resume(self) -> None:
        """Go on."""
        if self._there:
            self._send_later({"kind": "resume"})

    def _receive(self, _player: object, content: Mapping[str, Any], _buffers: object) -> None:
        if content.get("kind") == "joined":
            self._waiting.clear()
            self._there = self._joining = True
        elif content.get("kind") == "left":
            self._there = self._joining = False
            self._playback.leave()
        elif content.get("kind") == "silenced":
            self.silenced += 1
        elif content.get("kind") == "key":
            self._on_key(str(content.get("key")))
        else:
            super()._receive(_player, content, _buffers)

    def _send_again(self) -> None:
        """Let the session send on from here: music without an end is not kept."""
        self._joining = self._there

    def _report(self, _change: object) -> None:
        heard = self.heard
        if heard.get("epoch") == self.epoch and not self._joining:
            playing, underruns = bool(heard["playing"]), int(heard["underruns"])
            self._playback.report(float(heard["played_s"]), playing=playing, underruns=underruns)
