"""What makes a genre: drum figures, bass figures, accompaniment figures, chord loops, sounds, levels.

One bar is 16 steps. In drum and accompaniment figures ``X`` is an accent, ``x`` a normal hit, ``o`` a soft
hit (left out at low density), ``.`` a rest. In bass figures ``r`` is the chord's root, ``f`` its fifth, ``t``
its third, ``u`` the root an octave up, ``a`` a step into the next root. Arpeggios index chord tones.

The figures are our own arrangement of the commonplaces of each style. A *groove* is one choice from each
list (see ``compose.groove``), so that two grooves of a genre are really different loops.
"""

from __future__ import annotations

from dataclasses import dataclass, field

GENRES = ("classical", "country", "electronic", "jazz", "reggae", "rock")
LEADS: dict[str, int] = {"piano": 0, "guitar": 25, "violin": 40, "saxophone": 65, "flute": 73, "synth": 81}
"""Lead instruments (General MIDI programs); every genre uses every one of them."""

KICK, SNARE, RIM, CLAP, HAT, PEDAL_HAT, OPEN_HAT, RIDE, CRASH, TOM_HI, TOM_MID, TOM_LOW = (
    36,
    38,
    37,
    39,
    42,
    44,
    46,
    51,
    49,
    50,
    47,
    45,
)


@dataclass(frozen=True)
class Style:
    """The material of one genre; every field is a list of alternatives unless said otherwise."""

    kick: tuple[str, ...] = ()
    snare: tuple[str, ...] = ()
    hat: tuple[str, ...] = ()
    snare_sound: tuple[int, ...] = (SNARE,)
    hat_sound: tuple[int, ...] = (HAT,)
    backbeat_sound: int | None = None  # a second sound on the kick's rests, e.g. a pedal hat
    kit: int = 0  # General MIDI drum kit
    bass: tuple[str, ...] = ()
    bass_program: tuple[int, ...] = (33,)
    bass_length: int = 4  # longest bass note in steps
    comp: tuple[str, ...] = ()
    comp_program: tuple[int, ...] = (0,)
    comp_length: int = 4  # longest accompaniment note in steps
    comp_low: int = 55  # lowest pitch of the accompaniment
    arpeggio: bool = False  # accompaniment figures index chord tones
    pad_program: tuple[int, ...] = ()
    loops: dict[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)
    swing: bool = False
    favourite_leads: tuple[str, ...] = ()  # drawn four times as often as the others
    levels: dict[str, float] = field(default_factory=dict)  # dB of each role relative to the lead


LEVELS = {"drums": 0.0, "bass": -1.0, "comp": -5.0, "pad": -11.0, "lead": -2.0}

STYLES: dict[str, Style] = {
    "classical": Style(
        bass=("r...............", "r.......f.......", "r...t...f...t...", "r...f...u...f..."),
        bass_program=(42, 43, 0),
        bass_length=16,
        comp=(
            "0.2.1.2.0.2.1.2.",
            "0.1.2.1.0.1.2.1.",
            "0.1.2.3.2.1.0.1.",
            "0...1...2...1...",
            "0121012101210121",
            "0...2.1.0...2.1.",
        ),
        comp_program=(0, 46, 45, 48),
        comp_length=3,
        comp_low=60,
        arpeggio=True,
        pad_program=(48, 49, 52),
        loops={
            "major": (
                ("1", "4", "5", "1"),
                ("1", "6", "2", "5"),
                ("1", "5", "6", "3"),
                ("1", "2", "5:D", "1"),
            ),
            "minor": (
                ("1", "4", "5:D", "1"),
                ("1", "6", "4", "5:D"),
                ("1", "7", "6", "5:D"),
                ("1", "3", "4", "5:D"),
            ),
        },
        favourite_leads=("violin", "flute", "piano"),
        levels={"pad": -7.0, "comp": -4.0, "bass": -6.0, "lead": 0.0},
    ),
    "country": Style(
        kick=("X.......x.......", "X.......X.......", "X.....o.X.....o."),
        snare=("ooXoooXoooXoooXo", "o.x.o.X.o.x.o.X.", "....X.......X...", "..x...X...x...X."),
        hat=("x...x...x...x...", "..x...x...x...x.", "x.x.x.x.x.x.x.x."),
        snare_sound=(SNARE, RIM),
        bass=("r.......f.......", "r.......f...a...", "r...r...f...f...", "r.......f.....a."),
        bass_program=(32, 33),
        bass_length=6,
        comp=("....X.......X...", "..x.X.x...x.X.x.", "....X.o.....X.oo", "....X..x....X..x"),
        comp_program=(25, 105, 25),
        comp_length=3,
        comp_low=57,
        loops={
            "major": (("1", "4", "1", "5"), ("1", "1", "4", "5"), ("1", "5", "4", "1"), ("1", "4", "5", "1")),
            "minor": (("1", "7", "6", "7"), ("1", "4", "1", "5:D"), ("1", "6", "7", "1")),
        },
        favourite_leads=("violin", "guitar"),
        levels={"comp": -1.0, "drums": -5.0, "bass": 0.0},
    ),
    "electronic": Style(
        kick=("X...X...X...X...", "X...X...X...X..x", "X...X...X..xX...", "X..xX...X...X..."),
        snare=("....X.......X...", "....X.......X..o", "............X...", "....X..o....X..."),
        hat=("..X...X...X...X.", "..Xo..Xo..Xo..Xo", "xoXoxoXoxoXoxoXo", "..X...X...X.x.X."),
        snare_sound=(CLAP, SNARE),
        hat_sound=(OPEN_HAT, HAT),
        kit=25,
        bass=(
            "..r...r...r...r.",
            "..rr..rr..rr..rr",
            "r.rr.rr.r.rr.rr.",
            "rrr.rrr.rrr.rrr.",
            "..u...r...u...r.",
        ),
        bass_program=(38, 39, 87),
        bass_length=2,
        comp=(
            "0121012101210121",
            "0.12.01.0.12.01.",
            "0..1..2.0..1..2.",
            "012.012.012.012.",
            "2.1.0.1.2.1.0.1.",
        ),
        comp_program=(81, 80, 90),
        comp_length=1,
        comp_low=64,
        arpeggio=True,
        pad_program=(89, 90, 95),
        loops={
            "major": (("1", "5", "6", "4"), ("4", "1", "5", "6"), ("1", "1", "4", "4")),
            "minor": (("1", "6", "3", "7"), ("1", "1", "6", "7"), ("6", "7", "1", "1")),
        },
        favourite_leads=("synth",),
        levels={"drums": 1.0, "bass": 0.0, "comp": -6.0, "pad": -9.0, "lead": -5.0},
    ),
    "jazz": Style(
        kick=("o.......o.......", "o...o...o...o...", "..........o....."),
        snare=("......o.......o.", "..o.......o.....", "......x.....o...", "..............x."),
        hat=("X...X.x.X...X.x.", "X...X.x.x.x.X.x.", "x...X.x.x...X...", "x.x.X...x.x.X..."),
        hat_sound=(RIDE,),
        backbeat_sound=PEDAL_HAT,
        kit=32,
        bass=("r...t...f...a...", "r...f...u...a...", "r...r...t...a...", "r...t...f.t.a..."),
        bass_program=(32,),
        bass_length=4,
        comp=(
            "X.....x.........",
            "......x.......x.",
            "X.....x...x.....",
            "....x.......x.x.",
            "..x.......x.....",
        ),
        comp_program=(0, 26, 4),
        comp_length=5,
        comp_low=53,
        loops={
            "major": (
                ("2:7", "5:D", "1:7", "1:7"),
                ("1:7", "6:D", "2:9", "5:D"),
                ("1:9", "4:D", "3:7", "6:D"),
            ),
            "minor": (
                ("1:7", "4:7", "7:D", "3:7"),
                ("2:7", "5:D", "1:7", "1:9"),
                ("1:7", "6:7", "2:7", "5:D"),
            ),
        },
        swing=True,
        favourite_leads=("saxophone", "piano"),
        levels={"drums": -5.0, "bass": 1.0, "comp": -4.0},
    ),
    "reggae": Style(
        kick=("........X.......", "X.......X.......", "X...X...X...X..."),
        snare=("........X.......", "........X.....o.", "........X..o...."),
        hat=("..x...x...x...x.", "x.x.x.x.x.x.x.x.", "..x.x.x...x.x.x."),
        snare_sound=(RIM, SNARE),
        bass=(
            "r..r..f....r..f.",
            "..r.r.f...r.t.f.",
            "r..r..u.f..r....",
            "r.....r.f.t.r...",
            "....r.r.f...r.t.",
        ),
        bass_program=(33, 34),
        bass_length=3,
        comp=("....X.......X...", "..X...X...X...X.", "....X.x.....X.x.", "....Xx......Xx.."),
        comp_program=(27, 28, 18),
        comp_length=1,
        comp_low=60,
        pad_program=(16, 17),
        loops={
            "major": (("1", "4", "1", "5"), ("1", "1", "4", "4"), ("1", "2", "1", "2"), ("1", "5", "4", "4")),
            "minor": (("1", "4", "1", "4"), ("1", "1", "7", "7"), ("1", "7", "6", "7")),
        },
        favourite_leads=("saxophone", "flute"),
        levels={"bass": 3.0, "comp": -1.0, "drums": -2.0, "lead": -5.0},
    ),
    "rock": Style(
        kick=("X.......X.x.....", "X.....x.X.......", "X..x....X.x.....", "X.x.....XXx....."),
        snare=("....X.......X...", "....X.......X.o.", "....X..o.o..X..."),
        hat=("X.x.X.x.X.x.X.x.", "x...x...x...x...", "X.X.X.X.X.X.X.X."),
        hat_sound=(HAT, CRASH, RIDE),
        kit=16,
        bass=("r.r.r.r.r.r.r.r.", "r..rr...r..rr...", "r.r.r.r.r.r.u.f.", "r...r.r.r...r.a."),
        bass_program=(34, 33),
        bass_length=3,
        comp=(
            "X.x.x.x.X.x.x.x.",
            "X..x..x.X..x..x.",
            "X.....xxX.....xx",
            "X...x...X.x.x...",
            "X.xxX.xxX.xxX.xx",
        ),
        comp_program=(30, 29),
        comp_length=4,
        comp_low=45,
        loops={
            "major": (
                ("1:P", "4:P", "5:P", "4:P"),
                ("1:P", "5:P", "6:P", "4:P"),
                ("1:P", "7:P", "4:P", "1:P"),
            ),
            "minor": (
                ("1:P", "6:P", "7:P", "1:P"),
                ("1:P", "3:P", "7:P", "4:P"),
                ("1:P", "7:P", "6:P", "7:P"),
            ),
        },
        favourite_leads=("guitar", "synth"),
        levels={"comp": 1.0, "drums": 2.0, "bass": 0.0, "lead": -4.0},
    ),
}
