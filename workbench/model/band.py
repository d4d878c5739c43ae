"""The band: what each code of the built-in model means as music, and how it is played.

The built-in codec's codebooks are the parts of a band. Twenty-five times a second each part has one token;
token 0 is a rest, token 1 holds what sounds, every other token begins something:

| book | part | a token says |
|---|---|---|
| 0 | conductor | tempo and frame in the bar (silent) |
| 1 | drums | kit, kick or none, what the snare hand hits, what the cymbal hand hits |
| 2 | harmony | chord (root and quality) and which pad holds it; the accompaniments read their chord here |
| 3 | bass | instrument and pitch |
| 4 | accompaniment | instrument and a strum (loud, soft) or one tone of the chord |
| 5 | colour | a second accompaniment |
| 6 | lead | instrument and pitch |
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

BAND = "workbench_band"  # the codec whose codes are read here
FRAME_RATE_HZ = 25
BEAT_FRAMES: dict[str, int] = {"slow": 20, "medium": 16, "fast": 12}  # 75, 93.75 and 125 beats a minute
PARTS = ("conductor", "drums", "harmony", "bass", "accompaniment", "colour", "lead")
SOUNDING = PARTS[1:]
REST, HOLD, FIRST = 0, 1, 2
VOCABULARY = 512
DRUM_HITS = {  # General MIDI's names
    36: "kick", 37: "side stick", 38: "snare", 39: "clap", 42: "hi-hat", 43: "low tom", 44: "pedal hi-hat",
    46: "open hi-hat", 47: "middle tom", 49: "crash", 50: "high tom", 51: "ride",
}  # fmt: skip


@dataclass(frozen=True)
class Instrument:
    """A sound of the band."""

    name: str  # as in scores
    program: int  # General MIDI program, from 0; of a kit, the kit's number
    low: int = 48  # lowest MIDI pitch of its part (leads and basses)
    sustained: bool = False  # whether it sounds as long as it is held
    release_s: float = 0.08  # how long it takes to die away after it is let go
    level_db: float = 0.0  # on top of the level of its part
    glide: float = 0.0  # semitones from below which an accented tone is reached


# The instruments of each part, in the order of their tokens.
_LISTED = pd.read_csv(Path(__file__).with_name("instruments.csv"), true_values=["yes"], false_values=["no"])
KITS, BASSES, PADS, ACCOMPANIMENTS, LEADS = (
    tuple(Instrument(*fields) for owner, *fields in _LISTED.itertuples(index=False) if owner == part)
    for part in ("drums", "bass", "harmony", "accompaniment", "lead")
)
_TABLES = {
    "drums": KITS, "bass": BASSES, "harmony": PADS, "accompaniment": ACCOMPANIMENTS, "colour": ACCOMPANIMENTS,
    "lead": LEADS,
}  # fmt: skip
INSTRUMENTS = {(part, one.name): one for part, table in _TABLES.items() for one in table}
PITCHES = 28  # of a bass or lead, from its lowest
# What each hand can do: General MIDI pitch and velocity of the hits.
SNARE_HAND = {"": [], "snare": [(38, 110)], "soft snare": [(38, 50)], "side": [(37, 110)]}
CYMBAL_HAND = {
    "": [], "hat": [(42, 100)], "soft hat": [(42, 62)], "open hat": [(46, 100)], "pedal hat": [(44, 100)],
    "ride": [(51, 100)], "ride and pedal hat": [(51, 100), (44, 90)], "crash": [(49, 100)],
    "high tom": [(50, 100)], "middle tom": [(47, 100)], "low tom": [(43, 100)],
}  # fmt: skip

QUALITIES: dict[str, tuple[int, ...]] = {  # semitones above the root; jazz leaves the root to the bass
    "maj": (0, 4, 7),
    "min": (0, 3, 7),
    "5": (0, 7),
    "7": (0, 4, 7, 10),
    "m7": (0, 3, 7, 10),
    "dim": (0, 3, 6, 9),
    "sus": (0, 5, 7),
    "6": (0, 4, 7, 9),
    "maj9": (4, 7, 11, 14),
    "m9": (3, 7, 10, 14),
    "13": (10, 14, 16, 21),
    "alt": (10, 13, 16, 20),
    "m7b5": (0, 3, 6, 10),
}
STRUMS = ("loud", "soft")
TONES = 8  # that an accompaniment can play alone: the four of the voicing, and the same an octave higher
_ACTIONS = len(STRUMS) + TONES
# What the tokens of conductor, drums and harmony say, from FIRST on.
_BEATS = [(tempo, frame) for tempo, beat in BEAT_FRAMES.items() for frame in range(4 * beat)]
_DRUMS = [*product(range(len(KITS)), (False, True), SNARE_HAND.values(), CYMBAL_HAND.values())]
_CHORDS = [*product(range(len(PADS) + 1), range(12), QUALITIES)]
INSTRUMENT_TOKENS = {"bass": PITCHES, "accompaniment": _ACTIONS, "colour": _ACTIONS, "lead": PITCHES}
TOKENS = {  # of each part but drums, rest and hold included
    "conductor": FIRST + len(_BEATS),
    "harmony": FIRST + len(_CHORDS),
    **{part: FIRST + len(_TABLES[part]) * each for part, each in INSTRUMENT_TOKENS.items()},
}
_LONGEST = {"bass": 84, "accompaniment": 84, "colour": 84, "lead": 48}  # frames: then a held note has died
_HIT_FRAMES = 4  # length of a drum hit in scores


def voicing(root: int, quality: str) -> tuple[int, ...]:
    """Return the four MIDI pitches of a chord, `root` 0 (C) to 11, in close position around middle C.

    Power chords (``"5"``) lie low, as guitars play them.
    """
    if quality == "5":
        low = 40 + (root - 40) % 12
        return low, low + 7, low + 12, low + 19
    tones = QUALITIES[quality]
    choices = []
    for first in range(len(tones)):
        pitches: list[int] = []
        for tone in tones[first:] + tones[:first]:
            floor = pitches[-1] + 1 if pitches else 51
            pitches.append(floor + (root + tone - floor) % 12)
        if len(pitches) == 3:
            pitches.append(pitches[0] + 12)
        choices.append(pitches)
    return tuple(min(choices, key=lambda p: (abs(sum(p) - 4 * 61), p)))


def conductor_token(tempo: str, frame: int) -> int:
    """Return the token of a frame in the bar (0 to 4 beats - 1) at a tempo."""
    return FIRST + _BEATS.index((tempo, frame))


def drum_token(kit: int, *, kick: bool, snare_hand: int, cymbal_hand: int) -> int:
    """Return the token of what a drummer hits in one frame: a kit, and an index into each hand's sounds."""
    hits = (int(kick) * len(SNARE_HAND) + snare_hand) * len(CYMBAL_HAND) + cymbal_hand
    return FIRST + kit * len(_DRUMS) // len(KITS) + hits if hits else REST


def harmony_token(root: int, quality: str, pad: int = 0) -> int:
    """Return the token of a chord; pad 0 is none, then `PADS`."""
    return FIRST + _CHORDS.index((pad, root, quality))


def pitch_token(part: str, instrument: int, pitch: int) -> int:
    """Return the token that begins `pitch` on a bass or lead; pitches beyond its range move by octaves."""
    low = _TABLES[part][instrument].low
    while pitch < low:
        pitch += 12
    while pitch >= low + PITCHES:
        pitch -= 12
    return FIRST + instrument * PITCHES + pitch - low


def accompaniment_token(instrument: int, action: int) -> int:
    """Return the token of a strum (0 loud, 1 soft) or of a single tone (2 + its number)."""
    return FIRST + instrument * _ACTIONS + action


@dataclass(frozen=True)
class Note:
    """One sounding note or hit."""

    part: str
    instrument: str
    pitch: int  # MIDI number; of drums, the General MIDI hit
    start: int  # first frame
    length: int  # in frames
    velocity: int  # 1 to 127


def drum_hits(token: int) -> tuple[int, list[tuple[int, int]]]:
    """Return the kit and (General MIDI pitch, velocity) of each hit of a drum token; none for others."""
    if not FIRST <= token < FIRST + len(_DRUMS):
        return 0, []
    kit, kick, snare_hits, cymbal_hits = _DRUMS[token - FIRST]
    if KITS[kit].name == "machine kit":  # it has a clap for the side stick
        snare_hits = [(39 if pitch == 37 else pitch, velocity) for pitch, velocity in snare_hits]
    return kit, [*([(36, 110)] if kick else []), *snare_hits, *cymbal_hits]


def chord_of(token: int) -> tuple[int, str, int] | None:
    """Return root, quality and pad of a harmony token, None for others."""
    if not FIRST <= token < TOKENS["harmony"]:
        return None
    pad, root, quality = _CHORDS[token - FIRST]
    return root, quality, pad


def beat_of(token: int) -> tuple[str, int] | None:
    """Return tempo and frame in the bar of a conductor token, None for others."""
    return _BEATS[token - FIRST] if FIRST <= token < TOKENS["conductor"] else None


def accent_of(token: int) -> int:
    """Return how much louder or softer (in velocity) a conductor token's place in the bar is played."""
    beat = beat_of(token)
    if beat is None:
        return 0
    tempo, frame = beat
    inside = frame % BEAT_FRAMES[tempo]
    if inside == 0:
        return 8 if frame == 0 else 3
    return -3 if inside == BEAT_FRAMES[tempo] // 2 else -6


class ScoreReader:
    """Reads codes frame by frame: which notes begin and which end. In pieces or at once alike."""

    def __init__(self) -> None:
        self.frame = 0
        self.chord = voicing(0, "maj")
        self._pad: tuple[int, str, int] | None = None
        self._sounding: dict[str, list[Note]] = {}

    def read(self, tokens: Iterable[int]) -> tuple[list[Note], list[Note]]:
        """Return the notes (with length 0) that a token of each part begins, and those that it ends."""
        now, end = [int(token) for token in tokens], list[Note]()
        accent = accent_of(now[0])
        kit, hits = drum_hits(now[1])
        begin = [self._note("drums", KITS[kit], pitch, velocity + accent // 3) for pitch, velocity in hits]
        self._read_harmony(now[2], begin, end)
        for index, part in enumerate(PARTS[3:], start=3):
            self._read_part(part, now[index], accent, begin, end)
        self.frame += 1
        return begin, end

    def close(self) -> list[Note]:
        """Return what still sounds: it ends here."""
        left = [note for notes in self._sounding.values() for note in notes]
        self._sounding = {}
        return left

    def _read_harmony(self, token: int, begin: list[Note], end: list[Note]) -> None:
        chord = chord_of(token)
        if token == HOLD or chord == self._pad:
            return
        end += self._sounding.pop("harmony", [])
        self._pad = chord
        if chord is None:
            return
        self.chord = voicing(chord[0], chord[1])
        if chord[2]:
            pad = PADS[chord[2] - 1]
            self._sounding["harmony"] = [self._note("harmony", pad, pitch, 80) for pitch in self.chord]
            begin += self._sounding["harmony"]

    def _read_part(self, part: str, token: int, accent: int, begin: list[Note], end: list[Note]) -> None:
        sounding = self._sounding.get(part, [])
        if token == HOLD and not (sounding and self.frame - sounding[0].start >= _LONGEST[part]):
            return
        end += sounding
        self._sounding[part] = self._notes(part, token, accent)
        begin += self._sounding[part]

    def _notes(self, part: str, token: int, accent: int) -> list[Note]:
        """Return the notes that a token of a bass, an accompaniment or a lead begins."""
        if not FIRST <= token < TOKENS[part]:
            return []
        index, action = divmod(token - FIRST, INSTRUMENT_TOKENS[part])
        instrument = _TABLES[part][index]
        if part in ("bass", "lead"):
            return [self._note(part, instrument, instrument.low + action, 100 + accent)]
        if action < len(STRUMS):
            velocity = (106, 80)[action] + accent // 2
            return [self._note(part, instrument, pitch, velocity) for pitch in self.chord]
        octave, tone = divmod(action - len(STRUMS), 4)
        return [self._note(part, instrument, self.chord[tone] + 12 * octave, 98 + accent)]

    def _note(self, part: str, instrument: Instrument, pitch: int, velocity: int) -> Note:
        return Note(part, instrument.name, pitch, self.frame, 0, velocity)


def read_score(codes: np.ndarray) -> list[Note]:
    """Return the notes that codes (7, frames) stand for, in the order in which they begin."""
    reader, notes = ScoreReader(), dict[Note, Note]()  # as they begin: as they are in the end
    changes = [reader.read(tokens) for tokens in np.asarray(codes).T]
    for frame, (begin, end) in enumerate([*changes, ([], reader.close())]):
        notes |= {note: replace(note, length=_HIT_FRAMES) for note in begin}
        notes |= {note: replace(note, length=max(1, frame - note.start)) for note in end}
    return list(notes.values())
