"""Composes a piece by rules, part by part, straight into the tokens of the band."""

from __future__ import annotations

from dataclasses import dataclass, field
from zlib import crc32

import numpy as np

from recipe.factors import BANDS, KEYS, Factors, draw
from recipe.practice import PRACTICES, SCALES, Drums, Groove, Melody, Practice
from workbench.model import band

STEPS = 16
BARS = 12
LONGEST_LEAD_FRAMES = 48
"""No tone of a lead is longer (1.92 s): in music that a model plays, a longer one is a lead that hangs."""
_CYMBALS = {"h": 1, "o": 2, "O": 3, "p": 4, "r": 5, "R": 6, "c": 7}
_FILL = {"h": 8, "m": 9, "l": 10}
_MAJOR = (0, 2, 4, 5, 7, 9, 11)
_BOOK = {part: index for index, part in enumerate(band.PARTS)}


@dataclass(frozen=True)
class Piece:
    """A composed piece: its factors, its tokens (7, frames) int16, and who plays."""

    factors: Factors
    codes: np.ndarray
    sounds: dict[str, str]


def groove(genre: str, number: int, density: str) -> Groove:
    """Return groove `number` of a genre, the same everywhere; density chooses the melody cells."""
    practice = PRACTICES[genre]
    rng = np.random.default_rng([crc32(genre.encode()), 7, number])

    def two(options: tuple) -> tuple:  # type: ignore[type-arg]
        order = rng.permutation(len(options))
        first = options[order[0]]
        # Most grooves keep a figure for both sections; the others change it.
        return first, options[order[1 % len(options)]] if rng.random() < 0.4 else first

    drums, bass = two(practice.drums), two(practice.bass)
    accompaniment, colour = two(practice.accompaniment), two(practice.colour)
    cells = practice.melody.busy if density == "high" else practice.melody.calm
    pairs = []
    for _section in range(2):
        order = rng.permutation(min(len(practice.melody.busy), len(practice.melody.calm)))
        pairs.append((cells[order[0]], cells[order[1]]))
    return Groove(drums, bass, accompaniment, colour, (pairs[0], pairs[1]))


def step_frames(beat: int, *, swing: bool) -> list[int]:
    """Return the frame of each of a bar's 16 steps; swung offbeat eighths fall on two thirds of the beat."""
    inside = [0, beat / 3, beat * 2 / 3, beat * 5 / 6] if swing else [0, beat / 4, beat / 2, beat * 3 / 4]
    return [b * beat + int(np.floor(inside[s] + 0.5)) for b in range(4) for s in range(4)]


def compose(factors: Factors, bars: int = BARS) -> Piece:
    """Return the piece that the factors and their seed determine.

    Args:
        factors: What the piece is to be.
        bars: Length in bars of four beats.
    """
    practice = PRACTICES[factors.genre]
    rng = np.random.default_rng([crc32(repr(factors).encode())])
    sounds = _sounds(factors, rng)
    loops = practice.loops[factors.mode]
    symbols = loops[int(rng.integers(len(loops)))]
    chords = [_chord(symbols[bar % len(symbols)], factors.key) for bar in range(bars)]
    writer = _Writer(
        factors, practice, groove(factors.genre, factors.groove, factors.density), sounds, rng, bars
    )
    writer.conduct()
    writer.chords(chords)
    resting = writer.drums_and_breaks()
    writer.bass(chords, resting)
    writer.accompany("accompaniment")
    writer.accompany("colour")
    writer.lead(chords)
    return Piece(factors, writer.codes, sounds)


def _sounds(factors: Factors, rng: np.random.Generator) -> dict[str, str]:
    """Return the instrument of each part, "" for nobody."""
    players = BANDS[factors.band]
    accompaniment = draw(players.accompaniment, rng)
    others = {name: w for name, w in players.colour.items() if name != accompaniment}
    return {
        "drums": draw(players.kit, rng),
        "harmony": draw(players.pad, rng),
        "bass": draw(players.bass, rng),
        "accompaniment": accompaniment,
        "colour": draw(others, rng),
        "lead": factors.lead,
    }


def _chord(symbol: str, key: str) -> tuple[int, str]:
    """Return (root pitch class, quality) of a symbol such as ``b7:maj``: a degree of the major scale."""
    degree, quality = symbol.split(":")
    shift = -1 if degree[0] == "b" else 1 if degree[0] == "#" else 0
    root = KEYS[key] + _MAJOR[int(degree[-1]) - 1] + shift
    return root % 12, quality


def _number(table: tuple[band.Instrument, ...], name: str) -> int:
    return next(index for index, one in enumerate(table) if one.name == name)


def _bar_of(figure: str, bar: int) -> str:
    """Return one bar of a figure, whose bars are parted by ``|``."""
    parts = figure.split("|")
    return parts[bar % len(parts)]


def _nearest(pitch_class: int, around: float) -> int:
    """Return the pitch of that class nearest to `around`."""
    below = int(np.floor(around)) - (int(np.floor(around)) - pitch_class) % 12
    return below if around - below <= 6 else below + 12


@dataclass
class _Writer:
    """Writes the parts of one piece."""

    factors: Factors
    practice: Practice
    groove: Groove
    sounds: dict[str, str]
    rng: np.random.Generator
    bars: int
    codes: np.ndarray = field(init=False)
    grid: list[int] = field(init=False)
    bar_frames: int = field(init=False)

    def __post_init__(self) -> None:
        beat = band.BEAT_FRAMES[self.factors.tempo]
        self.grid = step_frames(beat, swing=self.practice.swing)
        self.bar_frames = 4 * beat
        self.codes = np.full((len(band.PARTS), self.bars * self.bar_frames), band.REST, np.int16)

    @property
    def dense(self) -> bool:
        return self.factors.density == "high"

    def section(self, bar: int) -> int:
        """Return 0 for the first section, 1 for the second, which are bars 4 to 7 of twelve."""
        return bar // 4 % 2

    def at(self, bar: int, step: int) -> int:
        return (bar + step // STEPS) * self.bar_frames + self.grid[step % STEPS]

    def put(self, part: str, start: int, end: int, token: int) -> None:
        """Begin `token` at frame `start` and hold it until `end`."""
        row = self.codes[_BOOK[part]]
        if start < len(row):
            row[start] = token
            row[start + 1 : end] = band.HOLD

    def conduct(self) -> None:
        frames = [band.conductor_token(self.factors.tempo, f) for f in range(self.bar_frames)]
        self.codes[0] = np.tile(frames, self.bars)

    def chords(self, chords: list[tuple[int, str]]) -> None:
        """Write the chord of each bar; it is said again at each beat."""
        pad = self.sounds["harmony"]
        index = 1 + _number(band.PADS, pad) if pad else 0
        beat = self.bar_frames // 4
        for bar, (root, quality) in enumerate(chords):
            for start in range(bar * self.bar_frames, (bar + 1) * self.bar_frames, beat):
                self.put("harmony", start, start + beat, band.harmony_token(root, quality, index))

    def drums_and_breaks(self) -> set[int]:
        """Write the drums; return the bars in which drums and bass leave the others alone."""
        resting: set[int] = set()
        if self.bars >= 8 and self.rng.random() < self.practice.break_chance:
            first = int(self.rng.choice([0, 6]))
            resting = {first, first + 1}
        kit = self.sounds["drums"]
        answered = bool(resting)
        for bar in range(self.bars):
            if not kit or bar in resting:
                continue
            fill = ""
            if self.practice.fill and bar % 4 == 3 and self.rng.random() < 0.5:
                fill = self.practice.fill[int(self.rng.integers(len(self.practice.fill)))]
            crash = self.practice.crash and (answered or bar % 4 == 0) and self.rng.random() < 0.7
            self.drum_bar(bar, _number(band.KITS, kit), self.groove.drums[self.section(bar)], fill, crash)
            answered = bool(fill)
        return resting

    def drum_bar(self, bar: int, kit: int, drums: Drums, fill: str, crash: bool) -> None:
        lanes = [
            _bar_of(lane, bar) or "." * STEPS for lane in (drums.kick, drums.snare, drums.side, drums.cymbal)
        ]
        for step in range(STEPS):
            kick, snare, side, cymbal = (lane[step] for lane in lanes)
            hand = 1 if snare in "Xx" else 2 if snare == "o" else 3 if side in "Xx" else 0
            top = _CYMBALS.get(cymbal, 0)
            if not self.dense and step % 2 and cymbal in "ho":
                top = 0
            if crash and step == 0:
                top = _CYMBALS["c"]
            kicked = kick in "Xx" or (kick == "o" and self.dense)
            if fill and step >= 8:
                mark = fill[step - 8]
                hand, top, kicked = int(mark == "s"), _FILL.get(mark, 0), step in (8, 12) and kicked
            token = band.drum_token(kit, kick=kicked, snare_hand=hand, cymbal_hand=top)
            if token != band.REST:
                self.codes[1, self.at(bar, step)] = token

    def bass(self, chords: list[tuple[int, str]], resting: set[int]) -> None:
        name = self.sounds["bass"]
        index = _number(band.BASSES, name)
        centre = 45 if name == "cello bass" else 38
        for bar, (root_class, quality) in enumerate(chords):
            if bar in resting and self.sounds["drums"]:
                continue
            figure = _bar_of(self.groove.bass[self.section(bar)], bar)
            root = _nearest(root_class, centre)
            goal = _nearest(chords[(bar + 1) % len(chords)][0], root)
            tones = [(root_class + t) % 12 for t in band.QUALITIES[quality]]
            third = next((t for t in (4, 3) if (root_class + t) % 12 in tones), 12)
            pitches = {
                "r": root,
                "u": root + 12,
                "f": root + (6 if (root_class + 6) % 12 in tones and quality in ("dim", "m7b5") else 7),
                "l": root - 5,
                "t": root + third,
                "s": root + (9 if third == 4 else 10),
                "a": goal + (1 if goal < root or (goal == root and self.rng.random() < 0.5) else -1),
                "w": goal + (2 if goal < root else -2),
                "o": root,
            }
            onsets = [i for i, mark in enumerate(figure) if mark != "." and (mark != "o" or self.dense)]
            for onset, after in zip(onsets, [*onsets[1:], STEPS], strict=False):
                start = self.at(bar, onset)
                end = self.at(bar, min(after, onset + self.practice.bass_steps))
                self.put("bass", start, end, band.pitch_token("bass", index, pitches[figure[onset]]))

    def accompany(self, part: str) -> None:
        """Write the accompaniment or the colour: strums and single tones of whatever chord sounds."""
        name = self.sounds[part]
        if not name:
            return
        index = _number(band.ACCOMPANIMENTS, name)
        figures = self.groove.accompaniment if part == "accompaniment" else self.groove.colour
        longest = self.practice.accompaniment_steps if part == "accompaniment" else self.practice.colour_steps
        for bar in range(self.bars):
            figure = _bar_of(figures[self.section(bar)], bar)
            onsets = [i for i, mark in enumerate(figure) if mark not in ".-" and self.keeps(i, mark)]
            for onset, after in zip(onsets, [*onsets[1:], STEPS], strict=False):
                mark = figure[onset]
                action = "Xx".index(mark) if mark in "Xx" else len(band.STRUMS) + int(mark)
                start, end = self.at(bar, onset), self.at(bar, min(after, onset + longest))
                self.put(part, start, end, band.accompaniment_token(index, action))

    def keeps(self, step: int, mark: str) -> bool:
        """Return whether this density plays a mark: low density leaves out sixteenths."""
        return self.dense or step % 2 == 0 or mark == "X"

    def lead(self, chords: list[tuple[int, str]]) -> None:
        melody = self.practice.melody
        name = self.sounds["lead"]
        index = _number(band.LEADS, name)
        low = band.LEADS[index].low
        scale = self.scale(melody, low)
        motifs = [self.motif(melody, cell) for pair in self.groove.cells for cell in pair]
        begin = len(scale) // 2 + int(self.rng.integers(-2, 3))
        place = begin
        for bar, chord in enumerate(chords):
            section, inside = self.section(bar), bar % 4
            cell, steps = motifs[2 * section + (1 if inside == 2 else 0)]
            if inside == 3:
                if self.rng.random() < melody.rest_bars:
                    continue
                cell = cell[:8] + "x-------" if self.dense else "x-----------...."
            if inside in (0, 1) or melody.ostinato:
                place = begin + (1 if inside == 1 and not melody.ostinato else 0)
            place = self.phrase(bar, cell, steps, chord, scale, place=place, index=index, melody=melody)

    def scale(self, melody: Melody, low: int) -> list[int]:
        """Return the pitches that the lead draws from."""
        tonic = KEYS[self.factors.key]
        inside = {(tonic + s) % 12 for s in SCALES[melody.scale][self.factors.mode]}
        return [p for p in range(low + 2, low + band.PITCHES - 1) if p % 12 in inside]

    def motif(self, melody: Melody, cell: str) -> tuple[str, list[int]]:
        """Return a cell and the scale step that leads to each of its onsets."""
        steps = list(melody.steps)
        chances = np.array(list(melody.steps.values()))
        drawn = self.rng.choice(steps, size=cell.count("x"), p=chances / chances.sum())
        return cell, [int(step) for step in drawn]

    def phrase(
        self, bar: int, cell: str, steps: list[int], chord: tuple[int, str], scale: list[int], *, place: int,
        index: int, melody: Melody,
    ) -> int:  # fmt: skip
        """Write one bar of the lead; return where in the scale it ends."""
        onsets = [i for i, mark in enumerate(cell) if mark == "x"]
        tones = {(chord[0] + t) % 12 for t in (*band.QUALITIES[chord[1]], 0)}
        pitches: list[int] = []
        for count, onset in enumerate(onsets):
            place += steps[count % len(steps)] if steps else 0
            place = int(np.clip(place, 2, len(scale) - 3))
            pitch = scale[place]
            if onset % 4 == 0 and not melody.ostinato:
                near = [p for p in range(pitch - 3, pitch + 4) if p % 12 in tones]
                pitch = min(near, key=lambda p: (abs(p - pitch), p)) if near else pitch
                place = min(range(len(scale)), key=lambda i: abs(scale[i] - pitch))
            pitches.append(pitch)
        for count in range(len(onsets) - 1):
            if onsets[count + 1] % 4 == 0 and onsets[count] % 4 and self.rng.random() < melody.approach:
                pitches[count] = pitches[count + 1] + int(self.rng.choice([-1, 1]))
        for count, onset in enumerate(onsets):
            held = len(cell[onset + 1 :]) - len(cell[onset + 1 :].lstrip("-"))
            start, stop = self.at(bar, onset), self.at(bar, onset + 1 + held)
            end = start + max(2, min(LONGEST_LEAD_FRAMES, round(melody.share * (stop - start))))
            if held >= 2 and start >= 4 and self.rng.random() < melody.ornament:
                start = self.grace(start, pitches[count], index, scale)
            self.put("lead", start, end, band.pitch_token("lead", index, pitches[count]))
        return place

    def grace(self, start: int, pitch: int, index: int, scale: list[int]) -> int:
        """Write a short tone from the scale's neighbour; return where the main tone begins."""
        above = [p for p in scale if p > pitch]
        below = [p for p in scale if p < pitch]
        neighbour = (above[0] if above and self.rng.random() < 0.5 else below[-1]) if below else pitch
        self.put("lead", start, start + 2, band.pitch_token("lead", index, neighbour))
        return start + 2
