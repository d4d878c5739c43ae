"""The built-in music: composed by rules that can be checked, shipped as codes that sound."""

import numpy as np
import pytest

from workbench.datasets import dataset
from workbench.embedded import styles, theory
from workbench.embedded.compose import compose, step_frames
from workbench.embedded.corpus import SPLITS
from workbench.embedded.factors import BEAT_FRAMES, FRAME_RATE_HZ, Piece, draw_factors, groove
from workbench.embedded.render import vary
from workbench.errors import DatasetError
from workbench.model.folders import builtin_folder


@pytest.fixture(scope="module")
def songs():
    return dataset("embedded")


def test_the_built_in_set_is_what_the_recipe_says(songs):
    factors = SPLITS["listen"].factors()
    assert len(songs) == len(factors) >= 1200
    for entry, piece in zip(songs, factors, strict=True):
        assert dict(entry.labels) == piece.labels()
        assert entry.group == piece.labels()["groove"]


def test_every_genre_has_at_least_ten_grooves(songs):
    assert songs.genres == styles.GENRES
    for genre in songs.genres:
        assert len(set(songs.where(genre=genre).groups)) >= 10


def test_a_piece_lasts_ten_seconds_and_sounds(songs):
    for index in (0, len(songs) // 2, len(songs) - 1):
        clip = songs.clip(index)
        assert clip.seconds == pytest.approx(10.0)
        assert -30 < clip.level_db < -12
        assert (np.abs(clip.samples) >= 1.0).mean() < 1e-4  # a decoded drum may overshoot for a moment


def test_no_set_shares_a_groove_or_a_piece_with_the_judges():
    trained = {(f.genre, f.groove) for f in SPLITS["train"].factors()}
    listened = {(f.genre, f.groove) for f in SPLITS["listen"].factors()}
    judged = {(f.genre, f.groove) for name in ("judge", "judge-varied") for f in SPLITS[name].factors()}
    examined = {(f.genre, f.groove) for f in SPLITS["exam"].factors()}
    assert not (trained | listened) & (judged | examined)
    assert not judged & examined
    assert not set(SPLITS["exam"].soundfonts) & set(SPLITS["judge"].soundfonts)
    pieces = [(f.genre, f.groove, f.seed) for name in ("train", "listen") for f in SPLITS[name].factors()]
    assert len(pieces) == len(set(pieces))


@pytest.mark.parametrize("genre", styles.GENRES)
def test_notes_fall_on_the_grid_and_follow_their_factors(genre):
    for seed in range(6):
        factors = draw_factors(genre, seed, seed)
        piece = compose(factors, bars=4)
        beat = BEAT_FRAMES[factors.tempo]
        grid = set(step_frames(beat, swing=styles.STYLES[genre].swing))
        assert piece.frames == 16 * beat
        assert all(note.start % (4 * beat) in grid for note in piece.notes)
        assert all(
            0 < note.pitch < 128 and 0 < note.velocity < 128 and note.length > 0 for note in piece.notes
        )
        assert piece.programs["lead"] == styles.LEADS[factors.lead]
        assert piece == compose(factors, bars=4)


def test_denser_pieces_have_more_notes():
    def notes(density: str) -> float:
        found = [draw_factors(g, k, s) for g in styles.GENRES for k in range(4) for s in range(6)]
        return float(np.mean([len(compose(f, bars=4).notes) for f in found if f.density == density]))

    assert notes("high") > 1.2 * notes("low")


def test_grooves_of_a_genre_differ():
    for genre in styles.GENRES:
        assert len({groove(genre, number) for number in range(12)}) >= 11


def test_there_are_eight_hours_to_train_on():
    frames = sum(8 * 4 * BEAT_FRAMES[f.tempo] for f in SPLITS["train"].factors())
    assert SPLITS["train"].bars == 8
    assert frames / FRAME_RATE_HZ >= 8 * 3600


def test_genres_share_their_sounds():
    users = [set(style.comps) for style in styles.STYLES.values()]
    for sounds in users:
        assert all(sum(sound in other for other in users) >= 2 for sound in sounds)
    for style in styles.STYLES.values():
        assert max(style.comps.values()) / sum(style.comps.values()) < 0.5


def test_every_genre_plays_common_chords_and_chords_of_its_own():
    for genre in styles.GENRES:
        bars = [_chords_of(compose(draw_factors(genre, k, s), bars=4)) for k in range(6) for s in range(8)]
        common = {
            tuple(theory.chord(c, theory.KEYS[key], mode).root for c in loop)
            for mode, loops in styles.COMMON_LOOPS.items()
            for loop in loops
            for key in theory.KEYS
        }
        share = np.mean([roots in common for roots in bars])
        assert 0.25 < share < 1.0


def _chords_of(piece: Piece) -> tuple[int, ...]:
    """Return the pitch class of the first bass note of each bar, the root of its chord."""
    bar = piece.frames // 4
    notes = [n for n in piece.notes if n.role == "bass"]
    return tuple(next(n.pitch for n in notes if n.start // bar == b) % 12 for b in range(4))


def test_variations_for_judges_never_change_the_labelled_lead():
    for seed in range(30):
        piece = compose(draw_factors("jazz", 0, seed), bars=2)
        varied = vary(piece)
        assert varied.programs["lead"] == piece.programs["lead"]
        assert varied.notes == piece.notes


def test_factors_are_independent_of_the_genre(songs):
    genres = songs.labels("genre")
    for target in ("tempo", "mode", "density"):
        values = songs.labels(target)
        for value in np.unique(values):
            shares = [np.mean(values[genres == genre] == value) for genre in songs.genres]
            assert max(shares) - min(shares) < 0.15


def test_a_source_that_is_not_there_is_told(tmp_path):
    with pytest.raises(DatasetError, match="there is no such file or folder"):
        dataset(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="holds none"):
        dataset("embedded", folder=tmp_path)


def test_what_is_committed_for_the_built_in_model_stays_small():
    files = [path for path in builtin_folder().parent.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 45e6
    assert all(path.stat().st_size < 16e6 for path in files)
    assert sum(p.stat().st_size for p in builtin_folder().glob("*.safetensors")) < 30e6
