"""What makes a genre: drum, bass and accompaniment figures, chord loops, and which sounds it prefers.

One bar is 16 steps. In drum and strummed figures ``X`` is an accent, ``x`` a normal hit, ``o`` a soft hit
(left out at low density), ``.`` a rest. In bass figures ``r`` is the chord's root, ``f`` its fifth, ``t``
its third, ``u`` the root an octave up, ``a`` a step into the next root. Broken figures index chord tones.

Genres differ in rhythm, harmony and articulation. Sounds only lean: every genre draws its instruments piece
by piece from the same few, its own favourites more often, so that a mean spectrum does not give a genre
away. The figures are our own arrangement of the commonplaces of each style. A *groove* is one choice from
each list (see ``factors.groove``), so that two grooves of a genre are really different loops.
"""

from __future__ import annotations

from dataclasses import dataclass, field

GENRES = ("classical", "country", "electronic", "jazz", "reggae", "rock")
LEADS: dict[str, int] = {"piano": 0, "guitar": 25, "violin": 40, "saxophone": 65, "synth": 80}
"""Lead instruments (General MIDI programs); every genre uses every one of them."""

COMPS: dict[str, int] = {"piano": 0, "organ": 17, "acoustic guitar": 25, "clean guitar": 27,
                         "driven guitar": 29, "strings": 48, "synth": 81}  # fmt: skip
"""Accompanying instruments."""

BASSES: dict[str, int] = {"upright": 32, "electric": 33, "synth": 38, "cello": 42}
KITS: dict[str, int] = {"standard": 0, "power": 16, "machine": 25}
PADS: dict[str, int] = {"strings": 48, "warm": 89}

KICK, SNARE, RIM, CLAP, HAT, PEDAL_HAT, OPEN_HAT, RIDE, CRASH = 36, 38, 37, 39, 42, 44, 46, 51, 49
TOM_HI, TOM_MID, TOM_LOW = 50, 47, 45

Weights = dict[str, float]


@dataclass(frozen=True)
class Style:
    """The material of one genre; tuples are alternatives, ``Weights`` the chances of sounds."""

    kick: tuple[str, ...] = ()
    snare: tuple[str, ...] = ()
    hat: tuple[str, ...] = ()
    snare_sound: tuple[int, ...] = (SNARE,)
    hat_sound: tuple[int, ...] = (HAT,)
    pedal_hat: bool = False  # a foot hi-hat on two and four
    drums_share: float = 0.85  # how many pieces have drums at all
    bass: tuple[str, ...] = ()
    bass_length: int = 4  # longest bass note in steps
    strummed: tuple[str, ...] = ()  # accompaniment in chords
    broken: tuple[str, ...] = ()  # accompaniment in single chord tones
    comp_length: int = 4  # longest accompaniment note in steps
    loops: dict[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)
    swing: bool = False
    lead_length: float = 0.9  # share of the time to the next note that a melody note sounds
    lead_steps: int = 2  # grid of the melody: 1 sixteenths, 2 eighths, 4 quarters
    comps: Weights = field(default_factory=dict)
    basses: Weights = field(default_factory=dict)
    kits: Weights = field(default_factory=lambda: {"standard": 1.0})
    leads: tuple[str, ...] = ()  # favourites, drawn twice as often as the others
    pad_share: float = 0.15


LEVELS = {"drums": 0.0, "bass": 0.0, "comp": -4.0, "pad": -13.0, "lead": 1.0}
"""dB of each role's loud parts, the same in every genre; the lead stands out, so that it can be told."""

COMMON_LOOPS: dict[str, tuple[tuple[str, ...], ...]] = {
    "major": (("1", "4", "5", "1"), ("1", "6", "4", "5"), ("1", "5", "6", "4"), ("1", "1", "4", "5")),
    "minor": (("1", "4", "5:D", "1"), ("1", "6", "7", "1"), ("1", "7", "6", "7"), ("1", "1", "4", "7")),
}
"""Chord loops that every genre uses in half of its pieces, so that chords alone do not give a genre away."""

COMP_LOW = 54
"""Lowest pitch of an accompaniment, so that it stays under the melody."""

STYLES: dict[str, Style] = {
    "classical": Style(
        drums_share=0.0,
        bass=("r...............", "r.......f.......", "r.......t.......", "r...f...u...f..."),
        bass_length=16,
        broken=(
            "0.2.1.2.0.2.1.2.",
            "0.1.2.1.0.1.2.1.",
            "0.1.2.3.2.1.0.1.",
            "0121012101210121",
            "0...2.1.0...2.1.",
        ),
        comp_length=2,
        loops={
            "major": (
                ("1", "4", "5:D", "1"),
                ("1", "6", "2", "5:D"),
                ("1", "5", "6", "3"),
                ("1", "2", "5:D", "1"),
            ),
            "minor": (
                ("1", "4", "5:D", "1"),
                ("1", "6", "4", "5:D"),
                ("1", "2", "5:D", "1"),
                ("1", "3", "4", "5:D"),
            ),
        },
        lead_length=1.0,
        comps={"strings": 4, "piano": 4, "acoustic guitar": 2, "organ": 1, "synth": 1},
        basses={"cello": 3, "upright": 4, "electric": 1},
        leads=("violin", "piano"),
        pad_share=0.25,
    ),
    "country": Style(
        kick=("X.......X.......", "X.......X.....x."),
        snare=("ooXoooXoooXoooXo", "o.X.o.X.o.X.o.X.", "ooxoXoxoooxoXoxo", "oox.ooX.oox.ooX."),
        hat=("................", "..x...x...x...x."),
        snare_sound=(SNARE, RIM),
        bass=("r.......f.......", "r.......f.....a.", "r...r...f...f...", "r.......f...t.a."),
        bass_length=5,
        strummed=("....X.xx....X.xx", "....X.x.....X.x.", "....X..x....X.xx", "....Xxx.....Xxx."),
        comp_length=2,
        loops={
            "major": (("1", "4", "1", "5"), ("1", "1", "4", "5"), ("1", "5", "1", "1"), ("1", "4", "5", "1")),
            "minor": (("1", "4", "1", "5"), ("1", "1", "4", "5"), ("1", "6", "7", "1")),
        },
        lead_length=0.8,
        lead_steps=1,
        comps={"acoustic guitar": 4, "piano": 3, "clean guitar": 2, "organ": 1, "driven guitar": 1},
        basses={"upright": 4, "electric": 4},
        leads=("violin", "guitar"),
    ),
    "electronic": Style(
        kick=("X...X...X...X...", "X...X...X...X..x"),
        snare=("....X.......X...", "....X.......X..o", "............X..."),
        hat=("..X...X...X...X.", "..Xo..Xo..Xo..Xo", "ooXoooXoooXoooXo"),
        snare_sound=(CLAP, SNARE),
        hat_sound=(OPEN_HAT, HAT),
        drums_share=0.95,
        bass=("..r...r...r...r.", "..rr..rr..rr..rr", ".rrr.rrr.rrr.rrr", "..u...r...u...r."),
        bass_length=2,
        broken=(
            "0121012101210121",
            "012012012012012.",
            "2101210121012101",
            "0120123201201232",
            "01.201.201.201.2",
        ),
        comp_length=1,
        loops={
            "major": (("1", "1", "6", "6"), ("4", "4", "1", "1"), ("1", "1", "4", "4")),
            "minor": (("1", "1", "6", "6"), ("1", "1", "7", "7"), ("6", "6", "1", "1")),
        },
        lead_length=0.5,
        lead_steps=2,
        comps={"synth": 4, "piano": 3, "organ": 1, "strings": 2, "clean guitar": 1},
        basses={"synth": 5, "electric": 3},
        kits={"machine": 2, "standard": 3},
        leads=("synth",),
        pad_share=0.25,
    ),
    "jazz": Style(
        kick=("................", "o...o...o...o...", "..........o....."),
        snare=("......o.......o.", "..o.......o.....", "......x.....o..."),
        hat=("X...X.x.X...X.x.", "X...X.x.x...X.x.", "x.x.X...x.x.X..."),
        hat_sound=(RIDE, HAT),
        pedal_hat=True,
        bass=("r...t...f...a...", "r...f...u...a...", "r...r...t...a...", "r...t...f...a..."),
        bass_length=4,
        strummed=(
            "X.....x.........",
            "......x.......x.",
            "X.....x...x.....",
            "..x.......x.....",
            "......X......x..",
        ),
        comp_length=4,
        loops={
            "major": (
                ("2:7", "5:D", "1:7", "1:7"),
                ("1:7", "6:7", "2:9", "5:D"),
                ("1:9", "4:7", "3:7", "6:7"),
            ),
            "minor": (
                ("1:7", "4:7", "2:7", "5:D"),
                ("2:7", "5:D", "1:7", "1:9"),
                ("1:7", "6:7", "2:7", "5:D"),
            ),
        },
        swing=True,
        lead_length=0.9,
        comps={"piano": 4, "clean guitar": 3, "organ": 2, "acoustic guitar": 2, "strings": 1},
        basses={"upright": 5, "electric": 3},
        leads=("saxophone", "piano"),
        kits={"standard": 4, "power": 1},
    ),
    "reggae": Style(
        kick=("........X.......", "........X.......", "........X.....x."),
        snare=("........X.......", "........X.....o.", "........X..o...."),
        hat=("x.x.x.x.x.x.x.x.", "..x...x...x...x.", "x.xox.xox.xox.xo"),
        snare_sound=(RIM, SNARE),
        bass=("..r.r.f...r.t.f.", "r..r....f..r....", "..r.r...f.t.r...", "r..r..f......t.f"),
        bass_length=3,
        strummed=("..X...X...X...X.", "..Xx..X...Xx..X.", "..X...Xx..X...Xx"),
        comp_length=1,
        loops={
            "major": (("1", "4", "1", "4"), ("1", "1", "4", "4"), ("1", "2", "1", "2"), ("1", "5", "4", "4")),
            "minor": (("1", "4", "1", "4"), ("1", "1", "7", "7"), ("1", "7", "1", "7")),
        },
        lead_length=0.7,
        comps={"clean guitar": 4, "organ": 3, "piano": 3, "synth": 1, "acoustic guitar": 1},
        basses={"electric": 5, "synth": 2, "upright": 1},
        kits={"standard": 3, "power": 1, "machine": 1},
        leads=("saxophone",),
    ),
    "rock": Style(
        kick=("X.......X.x.....", "X.....x.X.......", "X..x....X.x.....", "X.x.....XXx....."),
        snare=("....X.......X...", "....X.......X..o"),
        hat=("X.x.X.x.X.x.X.x.", "x...x...x...x...", "X.X.X.X.X.X.X.X."),
        hat_sound=(HAT, OPEN_HAT, RIDE),
        drums_share=0.95,
        bass=("r.r.r.r.r.r.r.r.", "r.r.r.r.r.r.u.f.", "r..rr.r.r..rr.r.", "r.r.r.r.r.r.r.a."),
        bass_length=2,
        strummed=("X.x.x.x.X.x.x.x.", "X..x..x.X..x..x.", "X.....xxX.....xx", "X.xxX.xxX.xxX.xx"),
        comp_length=4,
        loops={
            "major": (("1", "4", "5", "4"), ("1", "5", "6", "4"), ("1:P", "7:P", "4:P", "1:P")),
            "minor": (("1", "6", "7", "1"), ("1", "3", "7", "4"), ("1:P", "7:P", "6:P", "7:P")),
        },
        lead_length=0.9,
        comps={"driven guitar": 4, "clean guitar": 3, "organ": 2, "piano": 2},
        basses={"electric": 5, "synth": 1, "upright": 1},
        kits={"power": 2, "standard": 3},
        leads=("guitar", "synth"),
    ),
}
