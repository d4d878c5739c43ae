"""What the evaluation reads in the codes of clips, on codes made by hand, and on the pieces that ship."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from recipe.build import cut, write_music
from recipe.compose import compose
from recipe.corpus import SPLITS
from recipe.evaluation import scores
from recipe.evaluation.scores import chord_changes, jumps, measure_scores, stuck_lead_seconds
from recipe.factors import GENRES, draw_factors

from workbench.datasets import builtin_dataset
from workbench.model.band import (
    BAND,
    BEAT_FRAMES,
    FRAME_RATE_HZ,
    HOLD,
    PARTS,
    REST,
    VOCABULARY,
    beat_of,
    conductor_token,
    harmony_token,
    pitch_token,
)

TONE, OTHER = pitch_token("lead", 12, 72), pitch_token("lead", 12, 74)
C, F = harmony_token(0, "maj"), harmony_token(5, "maj")
FRAMES = 100  # 4 s


def silence(frames: int = FRAMES) -> np.ndarray:
    """Codes (parts, frames) in which the conductor counts bars of medium tempo and nobody plays."""
    codes = np.full((len(PARTS), frames), REST)
    codes[0] = [conductor_token("medium", frame % 64) for frame in range(frames)]
    return codes


def with_lead(*spans: tuple[int, int, int]) -> np.ndarray:
    """Return codes whose lead plays a token from a frame on, held for so many frames in all."""
    codes = silence()
    for token, start, length in spans:
        codes[PARTS.index("lead"), start : start + length] = [token, *[HOLD] * (length - 1)]
    return codes


def with_chords(*said: tuple[int, int]) -> np.ndarray:
    """Return codes in which these chords are said at these frames, and held until the next."""
    codes = silence()
    row = codes[PARTS.index("harmony")]
    row[:] = HOLD
    for frame, token in said:
        row[frame] = token
    return codes


def with_jumps(count: int) -> np.ndarray:
    """Return codes whose conductor skips a frame so many times."""
    codes = silence()
    skipped = np.arange(FRAMES) + np.minimum(np.arange(FRAMES) // 10, count)
    codes[0] = [conductor_token("medium", int(frame) % 64) for frame in skipped]
    return codes


@pytest.mark.parametrize(
    ("codes", "seconds"),
    [
        (silence(), 0.0),
        (with_lead((TONE, 10, 51)), 51 / 25),
        (with_lead((TONE, 10, 50), (TONE, 60, 20)), 2.0),  # begun anew
        (with_lead((TONE, 10, 30), (OTHER, 40, 31)), 31 / 25),
        (with_lead((TONE, 0, 20), (REST, 20, 60)), 0.8),  # nothing holds a rest
        (with_lead((HOLD, 0, 70), (TONE, 70, 30)), 1.2),  # nor what never began
        (with_lead((VOCABULARY - 1, 0, 90)), 0.0),  # nor a token that is no tone
    ],
    ids=["silence", "one tone", "begun anew", "two tones", "a rest", "a hold of nothing", "no tone"],
)
def test_a_tone_of_the_lead_lasts_until_something_else_is_said(codes, seconds):
    assert stuck_lead_seconds(codes) == pytest.approx(seconds)


def test_a_conductor_jumps_where_he_does_not_go_on_in_the_bar():
    assert jumps(silence()) == 0
    assert [jumps(with_jumps(count)) for count in (1, 5)] == [1 / 99, 5 / 99]
    still, resting = silence(), silence()
    still[0, 20] = still[0, 19]  # said twice, and then a frame left out
    resting[0, 50] = REST  # neither follows on nor is followed on from
    assert jumps(still) == jumps(resting) == 2 / 99
    other = silence()
    other[0, 64:] = [conductor_token("fast", frame) for frame in range(36)]  # not what comes after a bar line
    assert jumps(other) == 1 / 99


def test_a_chord_changes_where_another_is_said():
    assert chord_changes(silence()) == 0
    assert chord_changes(with_chords((0, C), (16, C), (32, F), (48, F), (64, C))) == 2 / 4
    assert chord_changes(with_chords((0, C), (16, REST), (32, C))) == 0
    assert chord_changes(with_chords((0, C), (32, harmony_token(0, "maj", 1)))) == 0
    assert chord_changes(with_chords((0, C), (32, harmony_token(0, "min")))) == 1 / 4
    assert chord_changes(with_chords((0, VOCABULARY - 1), (32, C))) == 0


def keep(folder: Path, kind: str, genre: str, *clips: np.ndarray) -> None:
    (folder / kind / genre).mkdir(parents=True)
    for number, codes in enumerate(clips):
        np.save(folder / kind / genre / f"{number}.npy", codes)


def test_rows_and_table_are_those_of_the_kept_codes(tmp_path):
    changing, still = with_chords((0, C), (30, F), (60, C)), with_chords((0, C))
    keep(tmp_path, "real", "jazz", changing, changing)
    keep(tmp_path, "real", "rock", changing, still)
    keep(tmp_path, "prompted", "jazz", with_lead((TONE, 0, 60)), changing)
    keep(tmp_path, "steered", "rock", with_jumps(2), with_jumps(0), changing, still)
    found, table = measure_scores(tmp_path, ("jazz", "rock"), BAND)
    rows = {row.id: row for row in found}
    assert set(rows) == {"scores.stuck", "scores.jumps", "scores.chords"}
    assert rows["scores.stuck"].value == 1 / 6 and rows["scores.stuck"].n == 6
    assert rows["scores.jumps"].value == pytest.approx(2 / 99 / 4) and rows["scores.jumps"].n == 4
    assert rows["scores.chords"].value == pytest.approx((2 * 0.5 / 6) / (3 * 0.5 / 4))
    assert [rows[f"scores.{name}"].met for name in ("stuck", "jumps", "chords")] == [False, True, False]
    assert all(row.low <= row.value <= row.high for row in found)
    assert table["prompted"] == {"jazz": {"n": 2, "stuck": 0.5, "jumps": 0.0, "chord_changes": 0.25}}
    assert table["real"]["rock"]["chord_changes"] == 0.25
    assert table["unsteered"] == table["random"] == {}


@pytest.mark.parametrize(("codec", "why"), [("encodec", "encodec are no score"), (BAND, "were kept")])
def test_what_cannot_be_read_is_not_measured(tmp_path, codec, why):
    keep(tmp_path, "prompted", "jazz", np.zeros((4, 25), int) if codec == "encodec" else silence())
    rows, _table = measure_scores(tmp_path, ("jazz",), codec)
    assert len(rows) == 3
    assert all(row.value is None and row.met is False for row in rows)
    assert all(row.note.startswith("not measured:") and why in row.note for row in rows)


@pytest.mark.parametrize("genre", GENRES)
def test_shipped_pieces_begin_on_a_bar_line_and_have_no_fault(genre):
    starts = set()
    for seed in range(SPLITS["music"].first_seed, SPLITS["music"].first_seed + 3):
        factors = draw_factors(genre, 3, seed)
        whole = compose(factors).codes
        codes = cut(factors, whole)
        assert codes.shape == (len(PARTS), 10 * FRAME_RATE_HZ)
        assert beat_of(int(codes[0, 0])) == (factors.tempo, 0)
        bar = 4 * BEAT_FRAMES[factors.tempo]
        starts |= {
            start // bar
            for start in range(0, whole.shape[1] - 249, bar)
            if np.array_equal(whole[:, start : start + 250], codes)
        }
        assert jumps(codes) == 0
        assert stuck_lead_seconds(codes) <= scores.LONG_S
        assert chord_changes(codes) > 0
    assert len(starts) > 1, "not all are intros"


def test_music_is_read_as_it_was_written(tmp_path):
    factors = tuple(draw_factors(genre, 2, 10_000) for genre in GENRES)
    codes = [cut(one, compose(one).codes) for one in factors]
    music = builtin_dataset(write_music(tmp_path / "music", factors, codes))
    assert len(set(music.ids)) == len(music) == len(GENRES)
    for entry, one, own in zip(music, factors, codes, strict=True):
        np.testing.assert_array_equal(entry.codes, own)
        assert entry.labels == one.labels()
        assert entry.group == f"{one.genre}-02"
