"""Melody: what is heard of a clip, what the decoder is told before the music, and who is refused."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from plain_hooks import recording
from tolerances import ROUNDED, SUMMED
from tones import tone_clip
from transformers.audio_utils import chroma_filter_bank
from transformers.models.musicgen_melody.feature_extraction_musicgen_melody import (
    MusicgenMelodyFeatureExtractor as Theirs,
)

from workbench.errors import GenerationError, ModelError
from workbench.generation.generate import generate, generate_long
from workbench.generation.live.session import LiveSession
from workbench.generation.reproduce import reproduce, reproduction_code
from workbench.generation.request import melody_of
from workbench.generation.take import Take
from workbench.model.capture import capture, capture_cost
from workbench.model.capture_plan import drawn_cost
from workbench.model.conditioning import HOP, RATE_HZ, TEXT_ROOM, WINDOW, Melody, pitch_classes
from workbench.model.load import load
from workbench.model.teacher_forcing import Reading
from workbench.sound.clip import Clip

PROMPTS = ["a tune", "fast jazz with drums and guitar", "calm piano"]


def notes(*midi: int, seconds: float = 1.0, rate_hz: int = RATE_HZ) -> Clip:
    """A scale of tones with two overtones."""
    time_s = np.arange(int(rate_hz * seconds)) / rate_hz
    tones = [
        sum(np.sin(2 * np.pi * 440 * 2 ** ((note - 69) / 12) * part * time_s) / part for part in (1, 2, 3))
        for note in midi
    ]
    return Clip(0.2 * np.concatenate(tones), rate_hz)


def chroma_by_transformers(samples: np.ndarray) -> torch.Tensor:
    """One-hot chroma (frames, 12) by transformers' extractor, with torch's STFT in place of torchaudio's."""

    def spectrogram(waveform: torch.Tensor) -> torch.Tensor:
        window = torch.hann_window(WINDOW)
        return torch.stft(waveform, WINDOW, HOP, window=window, return_complex=True).abs() ** 2

    filters = torch.from_numpy(
        chroma_filter_bank(sampling_rate=RATE_HZ, num_frequency_bins=WINDOW, tuning=0, num_chroma=12)
    ).float()
    extractor = SimpleNamespace(n_fft=WINDOW, spectrogram=spectrogram, chroma_filters=filters)
    return Theirs._torch_extract_fbank_features(extractor, torch.tensor(samples)[None])[0]


@pytest.mark.parametrize("count", [5_000, 16_383, 16_384, 100_001, 640_000])
def test_chroma_is_that_of_transformers_extractor(count: int) -> None:
    sound = np.random.default_rng(count).standard_normal(count).cumsum() / 100
    clip = Clip(np.diff(sound, prepend=0) * np.sin(np.arange(count) / 3000), RATE_HZ)
    theirs = chroma_by_transformers(clip.samples)
    assert torch.equal(theirs.sum(-1), torch.ones(len(theirs)))
    assert np.array_equal(pitch_classes(clip), theirs.argmax(-1).numpy())
    assert len(set(pitch_classes(clip))) > 1 or count < WINDOW


@pytest.mark.parametrize("rate_hz", [RATE_HZ, 44_100, 16_000])
def test_the_notes_of_a_scale_are_heard(rate_hz: int) -> None:
    melody = Melody.of(notes(60, 64, 67, 69, 70, rate_hz=rate_hz))
    heard = [run.split("*")[0] for run in str(melody).split()]
    assert heard == ["C", "E", "G", "A", "A#"]
    assert melody.seconds == pytest.approx(5, abs=0.2)  # a frame more or less


def test_a_melody_begins_again_and_goes_on_later() -> None:
    melody = Melody((0, 4, 7))
    assert melody.frames(8) == (0, 4, 7, 0, 4, 7, 0, 4)
    assert melody.frames(2) == (0, 4)
    assert melody.later(0) == melody
    assert melody.later(4 / 7.8125) == melody.later(1 / 7.8125) == Melody((4, 7, 0))
    assert str(Melody((0, 0, 10))) == "C*2 A#"


@pytest.mark.parametrize("pitches", [(), (12,), (0, -1)])
def test_what_is_no_melody_is_named(pitches: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match=r"0 \(C\) to 11 \(B\)"):
        Melody(pitches)


def test_the_model_says_that_it_takes_a_melody(melody_model: Any, tiny_model: Any) -> None:
    assert melody_model.takes_melody
    assert not tiny_model.takes_melody
    assert "takes a melody: of each run's first 1.5 s" in melody_model.describe()
    assert "melody" not in tiny_model.describe()
    assert melody_model.max_seconds == pytest.approx((512 - 12 - TEXT_ROOM - 3) / 25)
    assert (tiny_model.prefix_room, melody_model.prefix_room) == (0, 12 + TEXT_ROOM)


def test_who_cannot_follow_and_what_cannot_be_followed_is_named(tiny_model: Any, melody_model: Any) -> None:
    melody, quick = Melody((0,)), {"seconds": 0.2, "progress": False}
    with pytest.raises(GenerationError, match=r"follows no melody.*musicgen-melody"):
        generate(tiny_model, "a tune", melody=melody, **quick)
    with pytest.raises(ModelError, match="takes none"):
        tiny_model.text(["a tune"], [melody])
    with pytest.raises(GenerationError, match="silent"):
        generate(melody_model, "a tune", melody=Clip(np.zeros(9_000), 16_000), **quick)
    with pytest.raises(GenerationError, match="neither a clip nor a melody"):
        generate(melody_model, "a tune", melody="C D E", **quick)
    with pytest.raises(GenerationError, match="lists must be equally long"):
        generate(melody_model, PROMPTS, melody=[melody, None], **quick)
    with pytest.raises(GenerationError, match=f"300 tokens.*room for {TEXT_ROOM}"):
        generate(melody_model, "tune " * 299, **quick)
    with pytest.raises(GenerationError, match=f"300 tokens.*room for {TEXT_ROOM}"):
        generate_long(melody_model, "a tune", changes=[(0.4, "tune " * 299)], seconds=0.8, progress=False)
    live = LiveSession(melody_model, {}, prompt="a tune")
    with pytest.raises(GenerationError, match=f"300 tokens.*room for {TEXT_ROOM}"):
        live.prompt = "tune " * 299
    assert live.prompt == "a tune"
    assert melody_of(melody_model, None) is None
    assert melody_of(tiny_model, None) is None


def test_a_clip_is_heard_as_its_melody(melody_model: Any) -> None:
    clip = notes(60, 62, 71, seconds=0.5)
    take = generate(melody_model, "a tune", melody=clip, seconds=0.2, progress=False)
    assert take.melody == Melody.of(clip) == melody_of(melody_model, clip)


def test_the_prefix_is_melody_then_text_and_null_rows_hear_neither(melody_model: Any) -> None:
    melodies = [Melody((5,)), None, Melody((1, 2))]
    told = melody_model.text(PROMPTS, melodies)
    alone = [melody_model.text([prompt], [one]) for prompt, one in zip(PROMPTS, melodies, strict=True)]
    lengths = [one.prefix for one in alone]
    assert lengths == [12 + 3, 12 + 7, 12 + 3]
    assert told.prefix == 19
    assert told.mask.sum(1).tolist() == lengths
    for row, one in enumerate(alone):
        assert one.padding is None
        assert torch.allclose(told.states[row, 19 - lengths[row] :], one.states[0], **ROUNDED)
        assert (told.states[row, : 19 - lengths[row]] == 0).all()
    null = told.with_null()
    silent = melody_model.null_text(1).states[0]
    assert silent.shape == (13, 32)
    for row, length in enumerate(lengths):
        states = null.states[3 + row, 19 - length :]
        assert torch.equal(states[:12], silent[:12])
        assert (states[12:] == 0).all()
    assert torch.equal(null.mask, told.mask.repeat(2, 1))
    words = torch.stack([one.states[0, 12:].sum(0) for one in alone])
    # up to seven words of one text in a padded batch, each within 1e-6, added in another order
    assert torch.allclose(told.words().states.sum(1), words, **SUMMED)


def test_a_padded_row_holds_what_it_would_hold_alone(melody_model: Any) -> None:
    """Plain hooks on the decoder: each row of a batch against its own run, positions of the music."""
    melodies = [Melody((5,)), None, Melody((1, 2))]
    ids = torch.randint(0, 64, (3, 4, 9), generator=torch.Generator().manual_seed(0))
    held = []
    for rows in (slice(0, 3), slice(0, 1), slice(1, 2), slice(2, 3)):
        told = melody_model.text(PROMPTS[rows], melodies[rows])
        with recording(melody_model.musicgen) as kept, torch.no_grad():
            final = melody_model.network.read(ids[rows], told)
        held.append({site: torch.cat(kept[site][2], 1)[:, told.prefix :] for site in kept} | {"final": final})
    for site, values in held[0].items():
        single = torch.cat([one[site] for one in held[1:]])
        assert values.shape[1] == 9
        assert float((values - single).norm() / single.norm()) < 1e-6, site


def test_bfloat16_loads_and_follows(melody_folder: Path) -> None:
    model: Any = load(melody_folder, device="cpu", dtype="bfloat16")
    some = generate(model, PROMPTS, melody=Melody((3, 4)), seconds=0.4, progress=False)
    assert [take.codes.shape for take in some] == [(4, 10)] * 3


def test_residual_norms_and_captures_speak_of_music_only(melody_model: Any, tiny_dataset: Any) -> None:
    acts = capture(melody_model, tiny_dataset, pool=None, seconds=0.4, cache=False, progress=False)
    assert acts.frames(1).shape == (18, 10, 32)
    norms = melody_model.residual_norms()
    assert norms.shape == (4,)
    assert (norms > 0).all()


def test_a_forecast_counts_what_stands_before_the_music(
    melody_model: Any, tiny_model: Any, tiny_dataset: Any
) -> None:
    settings: dict[str, Any] = {"layers": [1], "seconds": 0.4, "batch": 8, "cache": False}
    own, plain = (capture_cost(model, tiny_dataset, **settings) for model in (melody_model, tiny_model))
    # 11 positions against 268 + 11, eight rows, 12 x 32 + 2 x 64 numbers each of 4 bytes, and the mask
    assert own.memory - plain.memory == 8 * 268 * (12 * 32 + 2 * 64) * 4 + 2 * 8 * (279**2 - 11**2) * 4
    shape: dict[str, Any] = {"clips": 2, "rows": 1, "frames": 10, "batch": 2, "guided": True}
    reading = Reading(("resid_post",), (1,))
    drawn = [drawn_cost(model, reading, **shape).memory for model in (melody_model, tiny_model)]
    assert drawn[0] - drawn[1] > 2 * 5 * 4 * 268 * 32 * 4, "keys and values alone take so much"


def test_an_untrained_twin_follows_too(melody_model: Any) -> None:
    from workbench.probing.diagnosis.baselines import text_embedding, untrained

    twin = untrained(melody_model)
    assert twin.takes_melody
    told, own = twin.text(["jazz"], [Melody((1,))]), melody_model.text(["jazz"], [Melody((1,))])
    assert torch.equal(told.states, own.states)
    states = own.states[0, 12:]
    assert np.allclose(text_embedding(melody_model, ["jazz"])[0], states.mean(0).numpy(), **ROUNDED)


def test_takes_tell_and_repeat_their_melody(melody_model: Any, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"seconds": 0.4, "seed": 3, "progress": False}
    take = generate(melody_model, "a tune", melody=Clip(tone_clip(1, 0), 16_000), **settings)
    kept = Take.load(take.save(tmp_path))
    assert kept == take
    assert generate(melody_model, "a tune", melody=kept.melody, **settings) == take
    other = dataclasses.replace(take, melody=None)
    assert other != take
    assert Take.load(other.save(tmp_path / "other")) == other


@pytest.mark.parametrize("given_s", [0.0, 0.4])
def test_a_take_that_follows_a_melody_is_drawn_again_from_disk(
    melody_model: Any, melody_folder: Path, tmp_path: Path, given_s: float
) -> None:
    opening = np.random.default_rng(5).integers(0, 64, (4, 10)) if given_s else None
    asked: dict[str, Any] = {"seed": 3, "seconds": 0.6, "audio": opening, "progress": False}
    tune = Melody((0, 4, 7, 0, 9))
    take = generate(melody_model, "a calm tune", melody=tune, **asked)
    assert not np.array_equal(take.codes, generate(melody_model, "a calm tune", **asked).codes)
    kept = Take.load(take.save(tmp_path / "kept"))
    assert np.array_equal(reproduce(melody_model, kept, progress=False).codes, take.codes)
    code = reproduction_code(take, model=str(melody_folder))
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        exec(code, {})
    assert told.getvalue().strip() == "True"
