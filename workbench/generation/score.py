"""Codes of a band as notes: a table, a piano roll, a MIDI file."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import mido
import numpy as np
import pandas as pd

from workbench.model.band import BEAT_FRAMES, FRAME_RATE_HZ, INSTRUMENTS, SOUNDING, Note, beat_of, read_score

_TICKS = 480  # a beat in a MIDI file
_DRUM_CHANNEL = 9  # counted from 0: channel 10


@dataclass(frozen=True)
class Score:
    """What a band plays: notes in the order in which they begin, in so many frames, 25 a second.

    The tempo is what the conductor mostly says: "slow", "medium" or "fast".
    """

    notes: tuple[Note, ...]
    frames: int
    tempo: str = "medium"

    @classmethod
    def read(cls, codes: np.ndarray) -> Score:
        """The score that codes (parts, frames) stand for."""
        beats = [beat for token in codes[0].tolist() if (beat := beat_of(token)) is not None]
        counted = Counter(tempo for tempo, _frame in beats)
        tempo = counted.most_common(1)[0][0] if counted else "medium"
        return cls(tuple(read_score(codes)), codes.shape[1], tempo)

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.frames / FRAME_RATE_HZ

    @property
    def beats_per_minute(self) -> float:
        """The tempo as a number."""
        return 60 * FRAME_RATE_HZ / BEAT_FRAMES[self.tempo]

    @property
    def table(self) -> pd.DataFrame:
        """A row per note: part, instrument, pitch (MIDI), start_seconds, seconds, velocity."""
        rows = [
            (n.part, n.instrument, n.pitch, n.start / FRAME_RATE_HZ, n.length / FRAME_RATE_HZ, n.velocity)
            for n in self.notes
        ]
        names = ["part", "instrument", "pitch", "start_seconds", "seconds", "velocity"]
        return pd.DataFrame(rows, columns=names)

    def plot(self) -> Any:
        """A piano roll, a colour per part; the drums below, a row per hit."""
        from workbench.show.plots.sound import piano_roll

        return piano_roll(self)

    def save(self, path: Path | str) -> Path:
        """Write a MIDI file, a track per part, drums on channel 10; return its path."""
        path = Path(path)
        file = mido.MidiFile(ticks_per_beat=_TICKS)
        beat = mido.bpm2tempo(self.beats_per_minute)
        file.tracks.append(mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=beat)]))
        for number, part in enumerate(SOUNDING):
            notes = [note for note in self.notes if note.part == part]
            if notes:
                channel = _DRUM_CHANNEL if part == "drums" else number
                file.tracks.append(self._track(part, notes, channel))
        file.save(path)
        return path

    def _track(self, part: str, notes: list[Note], channel: int) -> mido.MidiTrack:
        """A part's notes with the time between them; where its instrument changes, a change of program."""
        step = _TICKS // BEAT_FRAMES[self.tempo]
        events: list[tuple[int, int, Any]] = []  # tick; ends before programs before beginnings; message
        for note, end in zip(notes, _ends(notes), strict=True):
            on = {"note": note.pitch, "channel": channel}
            loud = min(127, max(1, note.velocity))
            events.append((note.start * step, 2, mido.Message("note_on", velocity=loud, **on)))
            events.append((end * step, 0, mido.Message("note_off", velocity=0, **on)))
        playing = None
        for note in notes:
            if note.instrument != playing:
                program = INSTRUMENTS[part, note.instrument].program
                change = mido.Message("program_change", program=program, channel=channel)
                events.append((note.start * step, 1, change))
                playing = note.instrument
        events.sort(key=lambda event: event[:2])
        ticks = [0, *(tick for tick, _order, _message in events)]
        track = mido.MidiTrack([mido.MetaMessage("track_name", name=part)])
        for (_tick, _order, message), (before, now) in zip(events, pairwise(ticks), strict=True):
            track.append(message.copy(time=now - before))
        return track

    def __len__(self) -> int:
        return len(self.notes)

    def __repr__(self) -> str:
        return f"Score({len(self)} notes, {self.seconds:.1f} s, {self.beats_per_minute:.0f} beats a minute)"

    def _repr_html_(self) -> str:
        """The table."""
        return str(self.table._repr_html_())  # type: ignore[operator]


def _ends(notes: list[Note]) -> list[int]:
    """Where each note of a part ends, at the latest where the same pitch begins again."""
    following: dict[int, int] = {}
    ends = []
    for note in reversed(notes):
        ends.append(min(note.start + note.length, following.get(note.pitch, note.start + note.length)))
        following[note.pitch] = note.start
    return ends[::-1]
