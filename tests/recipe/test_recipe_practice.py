"""Each genre is a practice: three counted facts of its style hold in the pieces that its own band plays."""

from __future__ import annotations

from collections import defaultdict
from functools import cache

import numpy as np
import pytest
from recipe.compose import Piece, compose
from recipe.factors import BANDS, GENRES, TYPICAL, draw_factors

from workbench.model.band import (
    BEAT_FRAMES,
    FIRST,
    HOLD,
    LEADS,
    PARTS,
    PITCHES,
    Note,
    beat_of,
    chord_of,
    read_score,
)

PIECES = 24


@cache
def pieces(genre: str) -> tuple[Piece, ...]:
    """Typical pieces of a genre, two of each of twelve grooves."""
    found: list[Piece] = []
    for groove in range(12):
        seed = 70_000
        while len(found) < 2 * (groove + 1):
            factors = draw_factors(genre, groove, seed)
            seed += 1
            if factors.typical:
                found.append(compose(factors))
    return tuple(found)


@cache
def notes(genre: str) -> tuple[tuple[Note, float], ...]:
    """Every note of those pieces with its place in the bar, in beats."""
    return tuple(
        (note, note.start % (4 * BEAT_FRAMES[piece.factors.tempo]) / BEAT_FRAMES[piece.factors.tempo])
        for piece in pieces(genre)
        for note in read_score(piece.codes)
    )


def share(genre: str, part: str, places: tuple[float, ...], *, pitch: tuple[int, ...] = ()) -> float:
    """The share of a part's onsets (of those pitches) that lie within a twentieth of a beat of the places."""
    found = [
        place for note, place in notes(genre) if note.part == part and (not pitch or note.pitch in pitch)
    ]
    near = [any(abs(place - one) < 0.05 for one in places) for place in found]
    return float(np.mean(near))


def per_bar(genre: str, part: str, place: float, *, pitch: tuple[int, ...] = ()) -> float:
    """The mean number of onsets at a place of the bar, in a bar."""
    hits = sum(
        1 for note, p in notes(genre)
        if note.part == part and abs(p - place) < 0.05 and (not pitch or note.pitch in pitch)
    )  # fmt: skip
    return hits / sum(
        piece.codes.shape[1] / (4 * BEAT_FRAMES[piece.factors.tempo]) for piece in pieces(genre)
    )


def qualities(genre: str) -> dict[str, float]:
    """The share of each chord quality, beat by beat."""
    counts: dict[str, float] = defaultdict(float)
    for piece in pieces(genre):
        for token in piece.codes[PARTS.index("harmony")]:
            chord = chord_of(int(token))
            if chord is not None:
                counts[chord[1]] += 1
    total = sum(counts.values())
    return {quality: count / total for quality, count in counts.items()}


BEATS, BACKBEATS, OFFBEATS = (0.0, 1.0, 2.0, 3.0), (1.0, 3.0), (0.5, 1.5, 2.5, 3.5)
KICK, SNARE, OPEN_HAT, PEDAL_HAT, RIDE = 36, 38, 46, 44, 51


def test_jazz_walks_swings_and_leaves_roots_to_the_bass():
    assert share("jazz", "bass", BEATS) > 0.9
    swung = share("jazz", "drums", tuple(b + 2 / 3 for b in range(4)), pitch=(RIDE,))
    assert swung > 0.15 and share("jazz", "drums", OFFBEATS, pitch=(RIDE,)) < 0.02
    rootless = sum(v for k, v in qualities("jazz").items() if k in ("maj9", "m9", "13", "alt"))
    assert rootless > 0.75
    assert share("jazz", "drums", BACKBEATS, pitch=(PEDAL_HAT,)) > 0.95


def test_rock_has_a_backbeat_power_chords_and_eighths_in_the_bass():
    assert share("rock", "drums", BACKBEATS, pitch=(SNARE,)) > 0.6
    assert qualities("rock")["5"] > 0.95
    assert share("rock", "bass", (*BEATS, *OFFBEATS)) > 0.85
    assert per_bar("rock", "bass", 0.0) > 0.85


def test_electronic_has_four_on_the_floor_and_open_hats_off_the_beat():
    for beat in BEATS:
        assert per_bar("electronic", "drums", beat, pitch=(KICK,)) > 0.75
    assert share("electronic", "drums", OFFBEATS, pitch=(OPEN_HAT,)) > 0.9
    assert {note.instrument.split()[-1] for note, _ in notes("electronic") if note.part == "lead"} == {
        "synth"
    }


def test_classical_has_no_drums_dominant_cadences_and_broken_chords():
    assert not [note for note, _ in notes("classical") if note.part == "drums"]
    assert qualities("classical")["7"] > 0.12
    singles = [
        c for piece in pieces("classical") for c in piece.codes[PARTS.index("accompaniment")] if c >= FIRST
    ]
    assert np.mean([(c - FIRST) % 10 >= 2 for c in singles]) > 0.7


def test_country_has_boom_chuck_backbeats_and_pentatonic_leads():
    assert per_bar("country", "bass", 0.0) > 0.85 and per_bar("country", "bass", 2.0) > 0.85
    chuck = sum(share("country", "accompaniment", (place,)) for place in BACKBEATS)
    boom = sum(share("country", "accompaniment", (place,)) for place in (0.0, 2.0))
    assert chuck > boom
    inside = [
        (note.pitch - {"F": 5, "C": 0, "G": 7}[piece.factors.key]) % 12
        in ({0, 2, 4, 7, 9} if piece.factors.mode == "major" else {0, 3, 5, 7, 10})
        for piece in pieces("country")
        for note in read_score(piece.codes)
        if note.part == "lead"
    ]
    assert np.mean(inside) > 0.75


def test_reggae_drops_the_one_skanks_off_the_beat_and_rests_in_the_bass():
    assert per_bar("reggae", "drums", 2.0, pitch=(KICK,)) > 0.8
    assert per_bar("reggae", "drums", 0.0, pitch=(KICK,)) < 0.5
    assert share("reggae", "accompaniment", (0.0, 2.0)) < 0.05
    assert per_bar("reggae", "bass", 0.0) < 0.5


@pytest.mark.parametrize("genre", GENRES)
def test_typical_pieces_use_the_sounds_of_their_genre_alone(genre):
    band = BANDS[genre]
    for piece in pieces(genre):
        assert piece.sounds["drums"] in band.kit and piece.sounds["bass"] in band.bass
        assert piece.sounds["lead"] in band.lead


def test_a_piece_is_typical_by_a_draw_before_it_is_composed():
    drawn = [
        draw_factors(genre, groove, seed) for genre in GENRES for groove in range(12) for seed in range(20)
    ]
    assert abs(np.mean([f.typical for f in drawn]) - TYPICAL) < 0.03
    for name in ("tempo", "key", "mode", "density"):
        for genre in GENRES:
            values = [getattr(f, name) for f in drawn if f.genre == genre]
            counts = [values.count(value) / len(values) for value in set(values)]
            assert max(counts) - min(counts) < 0.15, (genre, name)


@pytest.mark.parametrize("genre", GENRES)
def test_codes_read_back_as_a_score_inside_every_range(genre):
    for piece in pieces(genre)[:6]:
        assert piece.codes.min() >= 0 and piece.codes.max() < 512
        beats = [beat_of(int(token)) for token in piece.codes[0]]
        assert all(beat is not None and beat[0] == piece.factors.tempo for beat in beats)
        score = read_score(piece.codes)
        leads = [note for note in score if note.part == "lead"]
        low = next(one.low for one in LEADS if one.name == piece.factors.lead)
        assert leads and all(low <= note.pitch < low + PITCHES for note in leads)
        assert all(note.length > 0 and 0 < note.velocity < 128 for note in score)
        assert (piece.codes[1] != HOLD).all()


def test_a_piece_is_the_same_every_time_and_another_seed_gives_another():
    one, again, other = (compose(draw_factors("jazz", 3, seed)) for seed in (5, 5, 6))
    assert np.array_equal(one.codes, again.codes)
    assert not np.array_equal(one.codes[:, :200], other.codes[:, :200])
