"""Generated clips are a dataset like any other: captured from their own codes, labelled, by prompt."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.errors import DatasetError, GenerationError
from workbench.generation.generate import generate, takes_dataset
from workbench.model.capture import capture
from workbench.model.teacher_forcing import codes_match_codec
from workbench.sound import Clip, Dataset, Entry, measures


@pytest.fixture(scope="module")
def takes(tiny_model):
    return generate(tiny_model, ["jazz", "rock", "jazz"], seed=[0, 1, 2], seconds=0.6, progress=False)


def test_takes_are_clips_with_their_codes_prompts_and_labels(takes, tiny_model):
    songs = takes_dataset(takes, labels={"genre": ["jazz", "rock", "jazz"]})
    assert songs.ids.tolist() == ["jazz (seed 0)", "rock (seed 1)", "jazz (seed 2)"]
    assert songs.groups.tolist() == ["jazz", "rock", "jazz"]
    assert songs.labels("steering").tolist() == ["unsteered"] * 3
    assert songs.clip("rock (seed 1)") == takes[1].clip
    assert codes_match_codec(tiny_model, songs)
    acts = capture(tiny_model, songs, cache=False, progress=False)
    assert acts.labels("genre").tolist() == ["jazz", "rock", "jazz"]
    assert len({entry.digest for entry in songs}) == 3


def test_equal_takes_and_labels_that_do_not_fit_are_refused(takes):
    with pytest.raises(GenerationError, match="genre have another length"):
        takes_dataset(takes, labels={"genre": ["jazz"]})
    with pytest.raises(DatasetError, match="more than once"):
        takes_dataset(takes, names=["a", "b", "a"])


def test_measures_tell_what_differs_between_clips_and_nothing_else():
    loud, rate_hz = np.random.default_rng(0).standard_normal(16_000).astype(np.float32), 8_000
    clips = {"a": Clip(0.1 * loud, rate_hz), "b": Clip(0.2 * loud, rate_hz)}
    entries = tuple(Entry(name, {}, name, name, name) for name in clips)
    songs = Dataset(entries, "two", lambda entry: clips[entry.id])
    found = measures(songs)
    assert set(found) == {"level_db"}  # equally long, and neither is ever silent
    assert np.diff(found["level_db"])[0] == pytest.approx(20 * np.log10(2))
    assert measures(songs, seconds=0.5)["level_db"][0] == clips["a"].section(0, 0.5).level_db
