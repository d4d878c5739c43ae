"""Generated and continued activations equal plain hooks on transformers' own loop, and teacher forcing."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plain_hooks import drawn
from steering_fixture import untraced
from tolerances import SUMMED, draws, same_codes

from workbench.errors import ActivationsError, Cancelled, GenerationError, ModelError, RenamedWarning
from workbench.model.capture import capture
from workbench.model.generated import capture_continued, capture_generated, read_while_sampling
from workbench.model.network import SITES
from workbench.model.teacher_forcing import Reading, codes_for, read_codes

ALL = tuple(range(4))
PROMPTS = ["a calm tune", "fast rock"]
FRAMES, GIVEN = 13, 5  # at 25 frames a second; windows of 4 frames leave one over
READINGS = {
    "mean": Reading(SITES, ALL, "mean"),
    "last": Reading(SITES, ALL, "last"),
    "max": Reading(SITES, ALL, "max"),
    "frames": Reading(SITES, ALL, None),
    "window": Reading(SITES, ALL, "mean", window=4),
}


def opening(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 64, (4, GIVEN))


def begin(model: Any, *, given: bool, guidance: float = 3.0, clips: int = 2) -> Any:
    settings = {"frames": FRAMES, "guidance": guidance, "top_k": model.top_k}
    prompts, seeds = PROMPTS[:clips], list(range(3, 3 + clips))
    if not given:
        return model.sampling(prompts, seeds=seeds, **settings)
    codes = torch.as_tensor(np.stack([opening(seed) for seed in seeds]))
    return model.sampling(prompts, seeds=seeds, prompt_codes=codes, **settings)


@pytest.mark.parametrize("given", [False, True], ids=["generated", "continued"])
def test_law_14_reading_while_drawing_equals_plain_hooks(
    tiny_model: Any, tiny_folder: Path, given: bool
) -> None:
    start = torch.as_tensor(opening(3)) if given else None
    model = untraced(tiny_folder)
    codes, theirs = drawn(model, tiny_model, PROMPTS[0], seed=3, frames=FRAMES, given=start)
    for rows, half in (("cond", slice(0, 1)), ("null", slice(1, 2)), ("both", slice(0, 2))):
        run = begin(tiny_model, given=given, clips=1)
        ours = read_while_sampling(tiny_model, run, READINGS["frames"], rows=rows)
        assert torch.equal(run.codes[0], codes), "the codes are those that transformers draws"
        for site in SITES:
            plain = theirs[site][half, :, 1 : FRAMES + 1].numpy()
            assert np.allclose(ours[site], plain, **SUMMED), (rows, site)
    if given:
        assert torch.equal(codes[:, :GIVEN], torch.as_tensor(opening(3)))


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """Largest relative difference of two arrays of vectors."""
    return float((np.linalg.norm(one - other, axis=-1) / np.linalg.norm(other, axis=-1)).max())


@pytest.mark.parametrize("given", [False, True], ids=["generated", "continued"])
@pytest.mark.parametrize("name", READINGS)
def test_law_13_teacher_forcing_equals_drawing_for_each_pooling(
    tiny_model: Any, name: str, given: bool
) -> None:
    reading, run = READINGS[name], begin(tiny_model, given=given)
    ours = read_while_sampling(tiny_model, run, reading, rows="both")
    codes = list(run.codes.numpy())
    cond = read_codes(tiny_model, codes, tiny_model.text(PROMPTS), reading)
    null = read_codes(tiny_model, codes, tiny_model.null_text(2), reading)
    for site in SITES:
        assert apart(ours[site][:2], cond[site]) < 3e-6, site
        assert apart(ours[site][2:], null[site]) < 3e-6, site
    assert apart(ours["resid_post"][:2], ours["resid_post"][2:]) > 1e-2, "cond and null rows must differ"


@pytest.mark.parametrize("name", READINGS)
def test_law_13_holds_for_the_new_part_of_a_continuation(tiny_model: Any, name: str) -> None:
    reading, run = READINGS[name], begin(tiny_model, given=True)
    ours = read_while_sampling(tiny_model, run, reading, skipped=GIVEN)
    frames = read_codes(tiny_model, list(run.codes.numpy()), tiny_model.text(PROMPTS), READINGS["frames"])
    held = torch.full((2,), FRAMES - GIVEN)
    for site in SITES:
        for layer in ALL:
            new = torch.as_tensor(frames[site][:, layer, GIVEN:])
            assert apart(ours[site][:, layer], reading.pooled(new, held).numpy()) < 3e-6, (site, layer)


def test_a_continuation_s_batch_equals_its_single_runs(tiny_model: Any) -> None:
    both, one = begin(tiny_model, given=True), begin(tiny_model, given=True, clips=1)
    for run in (both, one):
        with torch.no_grad(), draws() as gaps:
            tiny_model.network.sample(run)
    same_codes(both.codes[0].numpy(), one.codes[0].numpy(), gaps)
    assert (both.visits, both.steps) == (FRAMES - GIVEN + 3, FRAMES + 3)


def test_generated_rows_and_windows_are_samples_of_their_own(tiny_model: Any) -> None:
    settings: dict[str, Any] = {"seeds": [1, 2, 3], "seconds": 0.52, "batch": 2, "progress": False}
    prompts, heard = ["a tune", "rock", "a tune"], {}
    acts = capture_generated(
        tiny_model, prompts, rows="both", window_seconds=0.16, labels={"genre": ["x", "rock", "x"]},
        on_codes=lambda number, codes: heard.update({number: codes}), **settings,
    )  # fmt: skip
    assert len(acts) == 2 * 3 * 3
    assert acts.coordinate("row").tolist() == ["cond"] * 9 + ["null"] * 9
    assert acts.groups[:9].tolist() == acts.groups[9:].tolist() == np.repeat(prompts, 3).tolist()
    assert acts.coordinate("text").tolist() == [*np.repeat(prompts, 3).tolist(), *[""] * 9]
    assert acts.coordinate("start_s") == pytest.approx(np.tile([0, 0.16, 0.32], 6))
    assert acts.coordinate("length_s") == pytest.approx(np.full(18, 0.16))
    assert set(acts.coordinate("source")) == {"generated"}
    frames = capture_generated(tiny_model, prompts, rows="null", pool=None, **settings)
    windows = frames.pooled("mean", window_seconds=0.16)
    for layer in ALL:
        assert np.allclose(acts.where(row="null").matrix(layer), windows.matrix(layer), **SUMMED)
    assert sorted(heard) == [0, 1, 2]
    assert heard[2].shape == (4, 13)


def test_continued_clips_keep_their_labels_and_their_beginning(tiny_model: Any, tiny_dataset: Any) -> None:
    songs, heard = tiny_dataset.subset([0, 7, 13]), {}
    settings: dict[str, Any] = {
        "context_seconds": 0.2,
        "seconds": 0.32,
        "pool": None,
        "progress": False,
        "batch": 2,
    }
    new = capture_continued(
        tiny_model, songs, "a tune", on_codes=lambda number, codes: heard.update({number: codes}), **settings
    )
    whole = capture_continued(tiny_model, songs, "a tune", part="all", **settings)
    assert new.frames(2).shape == (3, 8, 32)
    assert np.array_equal(whole.frames(2)[:, 5:], new.frames(2))
    assert (new.data.attrs["start_s"], "start_s" in whole.data.attrs) == (0.2, False)
    assert new.labels().tolist() == songs.labels().tolist()
    assert new.groups.tolist() == songs.groups.tolist()
    assert set(new.coordinate("source")) == {"continued"}
    for number, entry in enumerate(songs):
        own = codes_for(tiny_model, songs, entry, seconds=0.2, stored=False)
        assert np.array_equal(heard[number][:, :5], own)
    timed = new.pooled("mean", window_seconds=0.16).coordinate("start_s")
    assert timed == pytest.approx(np.tile([0.2, 0.36], 3))
    windows = capture_continued(
        tiny_model, songs, "a tune", **{**settings, "pool": "mean", "window_seconds": 0.16}
    )
    assert windows.coordinate("start_s") == pytest.approx(timed)
    other = capture_continued(tiny_model, songs, "a tune", seeds=[5, 6, 7], **settings)
    assert not np.allclose(other.frames(2), new.frames(2), atol=1e-3)


def test_keywords_of_the_version_before_warn_and_work(tiny_model: Any, tiny_dataset: Any) -> None:
    songs, settings = tiny_dataset.subset([0]), {"seconds": 0.2, "progress": False}
    with pytest.warns(RenamedWarning, match="context_seconds"):
        old = capture_continued(tiny_model, songs, "a tune", heard=0.2, **settings)
    new = capture_continued(tiny_model, songs, "a tune", context_seconds=0.2, **settings)
    assert np.array_equal(old.matrix(2), new.matrix(2))
    with pytest.warns(RenamedWarning, match="window_seconds"):
        assert len(capture(tiny_model, songs, window=0.12, cache=False, **settings)) == 2


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({"rows": "null", "guidance": 1.0}, ModelError, "guidance above 1"),
        ({"rows": "all"}, ModelError, "cond, null and both"),
        ({"seeds": [1]}, ActivationsError, "1 seeds"),
        ({"prompts": ["a"]}, ActivationsError, "1 prompts"),
        ({"part": "old"}, ActivationsError, "new, all"),
        ({"context_seconds": 2.2}, ActivationsError, "it lasts 2.0 s"),
        ({"seconds": 60.0}, GenerationError, "length in seconds of 60.0"),
        ({"layers": [9]}, ModelError, "layers 0-3"),
        ({"window_seconds": 0.0}, ActivationsError, "no length of time"),
    ],
)
def test_continuations_that_make_no_sense_are_refused(
    tiny_model: Any, tiny_dataset: Any, settings: dict[str, Any], error: type[Exception], says: str
) -> None:
    asked = {"prompts": "a tune", "context_seconds": 0.2, "seconds": 0.2, "progress": False, **settings}
    with pytest.raises(error, match=says):
        capture_continued(tiny_model, tiny_dataset.subset([0, 1]), **asked)


@pytest.mark.parametrize("shape", [(2, 4, FRAMES), (1, 4, 2), (2, 3, 2), (2, 4, 0)])
def test_given_codes_must_fit_the_run(tiny_model: Any, shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="2 clips of 4 codebooks"):
        tiny_model.sampling(
            PROMPTS, seeds=[1, 2], frames=FRAMES, prompt_codes=torch.zeros(shape, dtype=torch.long)
        )


def test_a_cancelled_capture_leaves_the_model_clean(tiny_model: Any, tiny_dataset: Any) -> None:
    cancel = threading.Event()
    cancel.set()
    songs = tiny_dataset.subset([0])
    settings: dict[str, Any] = {"context_seconds": 0.2, "seconds": 0.2, "progress": False}
    with pytest.raises(Cancelled):
        capture_continued(tiny_model, songs, "a tune", cancel=cancel, **settings)
    assert len(capture_continued(tiny_model, songs, "a tune", **settings)) == 1


def test_a_silent_clip_is_not_continued(tiny_model: Any, tiny_dataset: Any) -> None:
    from workbench.sound.clip import Clip

    quiet = Clip(np.zeros(16_000, dtype=np.float32), 16_000)
    entry = dataclasses.replace(tiny_dataset.entries[3], digest="silence")
    songs = dataclasses.replace(tiny_dataset, entries=(entry,), reader=lambda _entry: quiet)
    with pytest.raises(ActivationsError, match="it is silent"):
        capture_continued(tiny_model, songs, "a tune", context_seconds=0.2, seconds=0.2, progress=False)
