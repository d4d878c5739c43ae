"""What makes a genre: how its drums, bass, accompaniment, colour and lead are played, and its chords.

A bar is 16 steps. Drum lanes: ``X`` loud, ``x`` normal, ``o`` soft or only at high density, ``.`` nothing.
Bass figures: ``r`` root, ``u`` root an octave up, ``f`` fifth, ``t`` third, ``s`` sixth or seventh, ``l``
the octave's fifth below, ``a`` a chromatic step into the next root, ``w`` a scale step towards it.
Accompaniments: ``X`` loud and ``x`` soft strums, digits single tones of the voicing (4-7 an octave higher).
Melody cells: ``x`` onset, ``-`` held on, ``.`` rest. ``|`` parts bars. A *groove* is one choice from each
list, so that two grooves of a genre are different loops. All figures are our own arrangement of the
commonplaces of each style.
"""

from __future__ import annotations

from dataclasses import dataclass, field

Loops = dict[str, tuple[tuple[str, ...], ...]]


@dataclass(frozen=True)
class Drums:
    """One beat: lanes of 16 steps, each perhaps several bars (``|``)."""

    kick: str = ""
    snare: str = ""
    side: str = ""
    cymbal: str = (
        ""  # what the cymbal hand does: h hat, o soft hat, O open, p pedal, r ride, R ride and pedal
    )


@dataclass(frozen=True)
class Melody:
    """How a lead moves.

    Attributes:
        busy: Cells of one bar at high density.
        calm: Cells of one bar at low density.
        steps: Chances of scale steps between onsets.
        scale: Name of the scale: "mode", "pentatonic", "blues", "bebop".
        approach: Chance that the tone before a chord tone on the beat is a chromatic neighbour.
        ornament: Chance of a grace run before a long tone.
        ostinato: Whether the motif is repeated as it is, whatever the chord.
        share: Share of its time that a tone sounds.
        rest_bars: Chance that a bar of the answer is left to the band.
    """

    busy: tuple[str, ...]
    calm: tuple[str, ...]
    steps: dict[int, float]
    scale: str = "mode"
    approach: float = 0.0
    ornament: float = 0.0
    ostinato: bool = False
    share: float = 0.9
    rest_bars: float = 0.0


@dataclass(frozen=True)
class Practice:
    """The practice of one genre; tuples are alternatives among which a groove chooses."""

    drums: tuple[Drums, ...]
    bass: tuple[str, ...]
    accompaniment: tuple[str, ...]
    colour: tuple[str, ...]
    loops: Loops
    melody: Melody
    swing: bool = False
    bass_steps: int = 4  # longest bass note in steps
    accompaniment_steps: int = 4  # longest strum or tone
    colour_steps: int = 4
    fill: tuple[str, ...] = ()  # last half bar: s snare, h m l toms, k kick
    crash: bool = False
    break_chance: float = 0.2  # that drums and bass leave two bars to the others


CLASSICAL = Practice(
    drums=(Drums(),),
    bass=(
        "r...............",
        "r.......f.......",
        "r.......t.......",
        "r...f...u...f...",
        "r...w...t...w...",
        "r.......u.......",
    ),
    bass_steps=16,
    accompaniment=(
        "0.2.1.2.0.2.1.2.",
        "0.1.2.3.2.1.2.1.",
        "0.2.4.2.1.2.4.2.",
        "0121012101210121",
        "0...2.1.0...2.1.",
        "0.1.2.4.5.4.2.1.",
        "0123454301234543",
        "X.......X.......",
        "0...2...1...2...",
    ),
    accompaniment_steps=3,
    colour=(
        "4---------------",
        "5-------4-------",
        "................|4.5.6.5.4-------",
        "7---6---5-------",
        "....4.5.6-------|................",
        "X---------------",
        "4-------5-------|6-------5-------",
    ),
    colour_steps=16,
    loops={
        "major": (
            ("1:maj", "4:maj", "5:7", "1:maj"),
            ("1:maj", "6:min", "2:min", "5:7"),
            ("1:maj", "5:maj", "6:min", "3:min", "4:maj", "1:maj", "5:7", "1:maj"),
            ("1:maj", "2:min", "5:7", "1:maj"),
            ("1:maj", "#1:dim", "2:min", "5:7"),
            ("1:maj", "4:maj", "1:maj", "5:sus", "6:min", "2:7", "5:7", "1:maj"),
        ),
        "minor": (
            ("1:min", "4:min", "5:7", "1:min"),
            ("1:min", "b6:maj", "4:min", "5:7"),
            ("1:min", "2:dim", "5:7", "1:min"),
            ("1:min", "b3:maj", "b6:maj", "5:7"),
            ("1:min", "4:min", "b7:maj", "b3:maj", "b6:maj", "2:dim", "5:7", "1:min"),
        ),
    },
    melody=Melody(
        busy=(
            "x-x-x-x-x-x-x-x-",
            "x---x-x-x---x-x-",
            "x-xxx-x-x-x-x---",
            "x-----x-x-x-x-x-",
            "xxxxx-x-xxxxx---",
            "x---x---x-x-x-x-",
        ),
        calm=(
            "x-------x---x---",
            "x---x---x-------",
            "x-----x-x-------",
            "x-------x-------",
            "x---------x-x---",
        ),
        steps={-4: 0.04, -2: 0.1, -1: 0.38, 0: 0.02, 1: 0.34, 2: 0.08, 4: 0.04},
        ornament=0.3,
        share=1.0,
    ),
    break_chance=0.0,
)

COUNTRY = Practice(
    drums=(
        Drums("X.......X.......", "ooXoooXoooXoooXo", "", "................"),
        Drums("X.......X.......", "o.X.o.X.o.X.o.X.", "", "................"),
        Drums("X.......X.......", "....X.......X...", "", "h.h.h.h.h.h.h.h."),
        Drums("X.......X.....x.", "ooXoooXoooXoooXX", "", "................"),
        Drums("X...X...X...X...", "..X...X...X...X.", "", "................"),
        Drums("X.......X.......", "", "....X.......X...", "h.hoh.hoh.hoh.ho"),
    ),
    bass=(
        "r.......f.......",
        "r.......l.......",
        "r.......f.....w.",
        "r...f...r...f...",
        "r...l...r...l...",
        "r.......f...w.a.",
        "r...f...r...w.a.",
    ),
    bass_steps=4,
    accompaniment=(
        "....X.......X...",
        "....X.x.....X.x.",
        "....X.xx....X.xx",
        "..X...X...X...X.",
        "..X.x.X...X.x.X.",
        "0...X.x.1...X.x.",
        "0.X.1.X.0.X.1.X.",
        "0.xxX.xx1.xxX.xx",
    ),
    accompaniment_steps=3,
    colour=(
        "..X...X...X...X.",
        "..X.x.X...X.x.X.",
        "X.x.X.xxX.x.X.xx",
        "....X.......X...",
        "4.6.7.5.X.6.7.5.",
        "X.xxX.xxX.xxX.xx",
        "5.6.7.5.6.7.5.6.|....X.......X...",
    ),
    colour_steps=2,
    loops={
        "major": (
            ("1:maj", "4:maj", "1:maj", "5:7"),
            ("1:maj", "1:maj", "4:maj", "1:maj", "1:maj", "1:maj", "5:maj", "1:maj"),
            ("1:maj", "1:maj", "5:maj", "1:maj"),
            ("1:maj", "4:maj", "5:maj", "1:maj"),
            ("1:maj", "4:maj", "1:maj", "1:maj", "4:maj", "4:maj", "5:maj", "1:maj"),
            ("1:maj", "2:7", "5:maj", "1:maj"),
        ),
        "minor": (
            ("1:min", "1:min", "4:min", "1:min"),
            ("1:min", "b7:maj", "1:min", "b7:maj"),
            ("1:min", "4:min", "1:min", "5:7"),
            ("1:min", "b3:maj", "b7:maj", "1:min"),
        ),
    },
    melody=Melody(
        busy=(
            "x.x.x.x.x.x.x---",
            "xxxxx.x.xxxxx.x.",
            "x-x.xxx.x-x.x---",
            "x.xxx.xxx.xxx---",
            "x---x.x.x.x.x.x.",
        ),
        calm=("x-----x-x-------", "x---x-x-x-------", "x---x---x-x-x---", "x-------x-x-x---"),
        steps={-3: 0.05, -2: 0.18, -1: 0.28, 0: 0.08, 1: 0.22, 2: 0.14, 3: 0.05},
        scale="pentatonic",
        ornament=0.35,
        share=0.95,
        rest_bars=0.15,
    ),
    fill=("s.s.ss..", "ssssss..", "s...s..."),
    break_chance=0.1,
)

ELECTRONIC = Practice(
    drums=(
        Drums("X...X...X...X...", "", "....X.......X...", "..O...O...O...O."),
        Drums("X...X...X...X...", "", "....X.......X...", "hoOhhoOhhoOhhoOh"),
        Drums("X...X...X...X...", "....X.......X...", "", "ooOoooOoooOoooOo"),
        Drums("X...X...X...X..x", "", "....X.......X..x", "hhOhhhOhhhOhhhOh"),
        Drums("X...X...X...X...", "............x...", "....X.......X...", "..O...O...O...Oh"),
    ),
    bass=(
        "..r...r...r...r.",
        "..rr..rr..rr..rr",
        ".rrr.rrr.rrr.rrr",
        "rrrrrrrrrrrrrrrr",
        "r.ur.ur.ur.ur.u.",
        "..r...u...r...u.",
        "r..r..r.r..r..u.",
    ),
    bass_steps=2,
    accompaniment=(
        "0121012101210121",
        "0123012301230123",
        "4567456745674567",
        "0.12.01.2.01.21.",
        "0246024602460246",
        "X..X..X.X..X..X.",
        "..X...X...X...X.",
        "0415041504150415",
        "7654765476547654",
    ),
    accompaniment_steps=1,
    colour=(
        "................|................|................|4567456745674567",
        "4.4.5.5.6.6.5.5.",
        "..X...X...X...X.",
        "7...6...7...5...",
        "4..4..4.5..5..5.",
        "................",
        "....6.......7...",
    ),
    colour_steps=1,
    loops={
        "major": (
            ("1:maj", "1:maj", "6:min", "6:min"),
            ("4:maj", "4:maj", "1:maj", "1:maj"),
            ("1:maj", "5:maj", "6:min", "4:maj"),
            ("1:sus", "1:maj", "4:maj", "4:maj"),
        ),
        "minor": (
            ("1:min", "1:min", "b6:maj", "b6:maj"),
            ("1:min", "1:min", "b7:maj", "b7:maj"),
            ("1:min", "b6:maj", "b3:maj", "b7:maj"),
            ("1:min", "1:min", "1:min", "b7:maj"),
            ("1:m7", "1:m7", "4:m7", "4:m7"),
        ),
    },
    melody=Melody(
        busy=(
            "x..x..x.x..x..x.",
            "x.x..x.xx.x..x.x",
            "xx.xx.x.xx.xx.x.",
            "x.x.xx.x.x.x.xx.",
            "xxxx.xx.xxxx.xx.",
        ),
        calm=("x..x..x-........", "x-....x-....x-..", "x---....x.x.....", "..x...x...x-...."),
        steps={-4: 0.06, -2: 0.2, -1: 0.18, 0: 0.22, 1: 0.14, 2: 0.14, 4: 0.06},
        scale="pentatonic",
        ostinato=True,
        share=0.55,
        rest_bars=0.3,
    ),
    fill=("ssssssss", "s.s.ssss"),
    crash=True,
    break_chance=0.3,
)

JAZZ = Practice(
    drums=(
        Drums("", "......o.......o.", "", "r...R.r.r...R.r."),
        Drums("o...o...o...o...", "..o.......o.....", "", "r...R.r.r...R.r."),
        Drums("..........o.....", "......x.....o...", "", "r...R.r.r...R.r."),
        Drums("", "o.......o.....o.", "", "r...R.r.r.r.R.r."),
        Drums("", "......o...o.....", "....x...........", "r...R...r...R.r."),
        Drums("x..............o", "..o...o.......o.", "", "r.r.R.r.r.r.R.r."),
    ),
    bass=(
        "r...t...f...a...",
        "r...f...u...a...",
        "r...w...t...a...",
        "r...s...f...a...",
        "r...f...t...a...",
        "u...s...f...a...",
        "r...r...f..of.a.",
    ),
    bass_steps=4,
    accompaniment=(
        "X.....x.........|......x.........",
        "......X.......x.",
        "X.....x...x.....|..x.............",
        "..x.......X.....",
        "......X......x..|..x.....x.......",
        "X.........x.....|....x.....X.....",
        "............X.x.|......X.........",
    ),
    accompaniment_steps=3,
    colour=(
        "................",
        "..............x.|X...............|................|................",
        "................|......X.......X.",
    ),
    colour_steps=3,
    loops={
        "major": (
            ("2:m9", "5:13", "1:maj9", "1:maj9"),
            ("1:maj9", "6:alt", "2:m9", "5:13"),
            ("2:m9", "b2:13", "1:maj9", "6:alt"),
            ("3:m9", "6:alt", "2:m9", "5:13"),
            (
                "1:13",
                "4:13",
                "1:13",
                "1:13",
                "4:13",
                "4:13",
                "1:13",
                "6:alt",
                "2:m9",
                "5:13",
                "1:13",
                "5:alt",
            ),
            ("1:maj9", "b3:dim", "2:m9", "5:13"),
            ("4:maj9", "b7:13", "1:maj9", "1:maj9"),
        ),
        "minor": (
            ("1:m9", "1:m9", "2:m7b5", "5:alt"),
            ("2:m7b5", "5:alt", "1:m9", "1:m9"),
            ("1:m9", "b6:13", "5:alt", "1:m9"),
            ("1:m9", "4:m9", "1:m9", "5:alt"),
            ("1:m9", "1:m9", "4:m9", "4:m9", "1:m9", "1:m9", "b6:13", "5:alt"),
        ),
    },
    melody=Melody(
        busy=(
            "x.x.x.x.x.x.x.x.",
            "x.x.x.x.x.x---..",
            "..x.x.x.x.x.x.x.",
            "x---..x.x.x.x.x.",
            "x.x.x.x---..x.x.",
            "..x.x.x.x-x.x---",
        ),
        calm=(
            "x-----x-........",
            "..x.x.x-----....",
            "x---..x---......",
            "......x.x.x-----",
            "x-----..x.x-----",
        ),
        steps={-4: 0.05, -3: 0.06, -2: 0.14, -1: 0.3, 0: 0.01, 1: 0.25, 2: 0.1, 3: 0.05, 4: 0.04},
        scale="bebop",
        approach=0.6,
        share=0.92,
        rest_bars=0.2,
    ),
    swing=True,
    fill=("s.s.h.m.", "..s.s.s.", "s...m.l."),
    break_chance=0.1,
)

REGGAE = Practice(
    drums=(
        Drums("........X.......", "", "........X.......", "h.h.h.h.h.h.h.h."),
        Drums("........X.......", "", "........X.....x.", "h.hoh.hoh.hoh.ho"),
        Drums("........X.......", "........X.......", "......x.......x.", "h.hoh.hoh.hoh.hO"),
        Drums("X.......X.......", "", "........X..x....", "h.h.h.hoh.h.h.ho"),
        Drums("X...X...X...X...", "", "........X.......", "h.hoh.hoh.hoh.ho"),
    ),
    bass=(
        "..r.r.f...r.t.f.",
        "..r..r....f..r..",
        "....r.r.f.t.r...",
        "r..r..f......t.f",
        "..rrr.....f.t.r.",
        "......r.r.t.f...",
        "..r.f.r.......t.",
    ),
    bass_steps=3,
    accompaniment=(
        "....X.......X...",
        "..X...X...X...X.",
        "....X.......Xx..",
        "..Xx..X...Xx..X.",
        "....Xx......Xx..",
    ),
    accompaniment_steps=1,
    colour=(
        "..x.x.....x.x...",
        "x.x.x.x.x.x.x.x.",
        ".x.x.x.x.x.x.x.x",
        "..xx..xx..xx..xx",
        "................|............X.X.",
        "..0.4.0...0.4.0.",
    ),
    colour_steps=1,
    loops={
        "major": (
            ("1:maj", "4:maj", "1:maj", "4:maj"),
            ("1:maj", "1:maj", "2:min", "2:min"),
            ("1:maj", "b7:maj", "1:maj", "b7:maj"),
            ("1:maj", "6:min", "4:maj", "5:maj"),
            ("1:maj", "2:min", "1:maj", "5:maj"),
        ),
        "minor": (
            ("1:min", "4:min", "1:min", "4:min"),
            ("1:min", "1:min", "b7:maj", "b7:maj"),
            ("1:m7", "4:m7", "1:m7", "4:m7"),
            ("1:min", "b7:maj", "b6:maj", "b7:maj"),
        ),
    },
    melody=Melody(
        busy=(
            "..x.x.x.x---....",
            "x.x.x-----......",
            "..x-x-x.x.x-....",
            "x---x.x.x---....",
            "......x.x.x.x---",
        ),
        calm=("..x-----........", "x-----x---......", "........x---x---", "..x---x-----...."),
        steps={-3: 0.06, -2: 0.2, -1: 0.26, 0: 0.12, 1: 0.2, 2: 0.12, 3: 0.04},
        scale="pentatonic",
        share=0.8,
        rest_bars=0.4,
    ),
    fill=("s.sss...", "..h.h.m.", "s..s..s."),
    break_chance=0.2,
)

ROCK = Practice(
    drums=(
        Drums("X.......X.x.....", "....X.......X...", "", "h.h.h.h.h.h.h.h."),
        Drums("X.....x.X.......", "....X.......X...", "", "h.h.h.h.h.h.h.O."),
        Drums("X..x....X.x.....", "....X.......X..o", "", "O...O...O...O..."),
        Drums("X.x.....XXx.....", "....X.......X...", "", "r.r.r.r.r.r.r.r."),
        Drums("X.x...x.X.x...x.", "....X.......X...", "", "O.O.O.O.O.O.O.O."),
        Drums("X...x...X..x..x.", "....X.......X.o.", "", "h.h.h.h.h.h.h.h."),
    ),
    bass=(
        "r.r.r.r.r.r.r.r.",
        "r.r.r.r.r.r.u.f.",
        "r..rr.r.r..rr.r.",
        "r.r.r.r.r.r.r.a.",
        "r...r.r.r...r.r.",
        "r..r..r.r..r..f.",
    ),
    bass_steps=2,
    accompaniment=(
        "X.x.x.x.X.x.x.x.",
        "X..X..X.X..X..X.",
        "X.......X...X...",
        "X.xxX.xxX.xxX.xx",
        "X...............",
        "x.xxx.xxx.xxX.X.",
        "X..x..X...X.X...",
        "X.....X.X.......",
    ),
    accompaniment_steps=8,
    colour=(
        "................",
        "X.......X.......",
        "4.5.6.5.4.5.6.5.",
        "X...............",
        "....X.......X...",
        "................|4.4.5.5.6.6.7.7.",
    ),
    colour_steps=6,
    loops={
        "major": (
            ("1:5", "b7:5", "4:5", "1:5"),
            ("1:5", "5:5", "6:5", "4:5"),
            ("6:5", "4:5", "1:5", "5:5"),
            ("1:5", "4:5", "5:5", "4:5"),
            ("1:5", "1:5", "4:5", "5:5"),
        ),
        "minor": (
            ("1:5", "b6:5", "b7:5", "1:5"),
            ("1:5", "b3:5", "b7:5", "4:5"),
            ("1:5", "b7:5", "b6:5", "b7:5"),
            ("1:5", "1:5", "b3:5", "4:5"),
            ("1:5", "b6:5", "b3:5", "b7:5"),
        ),
    },
    melody=Melody(
        busy=(
            "x.xxx.x.x.xxx---",
            "xxxxxxxxx---x.x.",
            "x-x-x.xxx-----..",
            "x.x.xxx-x.x.xxx-",
            "x---x.x.xxxxx---",
        ),
        calm=("x-----x-x-------", "x-------x---x---", "x---x-----------", "..x-x-----x-----"),
        steps={-3: 0.06, -2: 0.16, -1: 0.26, 0: 0.1, 1: 0.24, 2: 0.12, 3: 0.06},
        scale="blues",
        ornament=0.15,
        share=0.97,
        rest_bars=0.2,
    ),
    fill=("s.sshhml", "ssssmmll", "hhmmll..", "s.h.m.l."),
    crash=True,
    break_chance=0.1,
)

PRACTICES: dict[str, Practice] = {
    "classical": CLASSICAL,
    "country": COUNTRY,
    "electronic": ELECTRONIC,
    "jazz": JAZZ,
    "reggae": REGGAE,
    "rock": ROCK,
}

SCALES: dict[str, dict[str, tuple[int, ...]]] = {
    "mode": {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)},
    "pentatonic": {"major": (0, 2, 4, 7, 9), "minor": (0, 3, 5, 7, 10)},
    "blues": {"major": (0, 2, 3, 4, 7, 9), "minor": (0, 3, 5, 6, 7, 10)},
    "bebop": {"major": (0, 2, 4, 5, 7, 9, 10, 11), "minor": (0, 2, 3, 5, 7, 8, 10, 11)},
}


@dataclass(frozen=True)
class Groove:
    """One loop of a genre, fixed by (genre, number): two bars' worth of figures for two sections."""

    drums: tuple[Drums, Drums]
    bass: tuple[str, str]
    accompaniment: tuple[str, str]
    colour: tuple[str, str]
    cells: tuple[tuple[str, str], tuple[str, str]] = field(default=(("", ""), ("", "")))
