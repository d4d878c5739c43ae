"""The codec's figures: measured on known sounds, where the truth is known too."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_vocoder import tiny_codec

from workbench.embedded import codec_report as report
from workbench.embedded.factors import draw_factors
from workbench.sound import Clip

GROOVES = (0, 1, 10, 11)


class Ear:
    """A judge that hears everything as jazz."""

    def decide(self, clips: list[Clip]) -> list[str]:
        return ["jazz"] * len(clips)


@pytest.fixture
def build(tmp_path: Path) -> Path:
    """A build folder with a codec and eight pieces of jazz and rock, of grooves old and new."""
    tiny_codec().save_pretrained(tmp_path / "vocoder")
    (tmp_path / "audio").mkdir()
    factors = [asdict(draw_factors(genre, groove, 1)) for genre in ("jazz", "rock") for groove in GROOVES]
    n = 2 * 16000
    samples = np.random.default_rng(0).normal(0, 3000, len(factors) * n).astype("<i2")
    samples.tofile(tmp_path / "audio" / "listen.int16")
    content = {"rate_hz": 16000, "starts": [i * n for i in range(len(factors) + 1)], "factors": factors}
    (tmp_path / "audio" / "listen.json").write_text(json.dumps(content))
    return tmp_path


def test_the_report_has_every_figure_and_is_written_as_json(build: Path, tmp_path: Path) -> None:
    ear: Any = Ear()
    path = report.write_codec_report(build, tmp_path / "data", judge=ear, clips=8)
    figures = json.loads(path.read_text())
    assert path.name == "codec.json"
    assert set(figures) == {"judge_accuracy", "stft_distance", "streaming", "decoding", "measured_on"}
    judged, distance, streaming = (figures[k] for k in ("judge_accuracy", "stft_distance", "streaming"))
    assert judged["originals"]["value"] == judged["decoded"]["value"] == 0.5
    assert judged["value"] == 1 and judged["ok"] and judged["n"] == 8
    assert judged["decoded_new_grooves"]["n"] == 4
    assert judged["decoded"]["low"] < 0.5 < judged["decoded"]["high"]
    assert distance["low"] <= distance["value"] <= distance["high"]
    assert distance["value"] == pytest.approx(distance["decoder"] / distance["griffin_lim"], abs=1e-3)
    assert streaming["ok"], "an untrained decoder is causal: no piece knows less than the whole"
    assert figures["decoding"]["times_real_time"] > 0


def test_a_decoder_without_its_context_clicks(build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = tiny_codec()
    codes = torch.randint(0, 64, (4, 50), generator=torch.Generator().manual_seed(0))
    whole = report.decode(codec, codes).samples
    with_context, borders = report.in_pieces(codec, codes)
    monkeypatch.setattr("workbench.model.piecewise.CONTEXT_FRAMES", 0)
    without, _ = report.in_pieces(codec, codes)
    assert borders.tolist() == [12 * 640, 24 * 640, 36 * 640, 48 * 640]
    assert with_context.shape == whole.shape == without.shape
    assert np.abs(without - whole).max() > 10 * np.abs(with_context - whole).max()


def test_the_distance_is_nil_for_the_same_sound_and_grows_with_noise() -> None:
    rng = np.random.default_rng(0)
    sound = np.sin(np.arange(16000) * 0.1) * 0.3
    noisy = [Clip(sound + level * rng.standard_normal(16000), 16000) for level in (0.001, 0.01, 0.1)]
    distances = [report.stft_distance(clip, Clip(sound, 16000)) for clip in noisy]
    assert report.stft_distance(Clip(sound, 16000), Clip(sound, 16000)) == 0
    assert distances == sorted(distances)
    quiet = Clip(np.zeros(16000), 16000)
    assert np.isfinite(report.stft_distance(quiet, Clip(sound, 16000)))


def test_griffin_lim_puts_the_sound_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """An encoder that passes the true spectrum on, so that only phases and place are guessed."""
    codec, n = tiny_codec(), 25 * 640
    sound = np.zeros(n, np.float32)
    at = np.arange(4000, 6000)
    sound[at] = np.sin(at * 0.2) * np.hanning(len(at))
    padded = torch.nn.functional.pad(torch.from_numpy(sound), ((1024 - 160) // 2,) * 2)
    spectrum = torch.stft(
        padded, 1024, 160, window=torch.hann_window(1024), center=False, return_complex=True
    ).abs()[None]
    monkeypatch.setattr(type(codec.encoder), "spectrum_estimate", lambda self, e: spectrum, raising=False)
    guess = report.griffin_lim(codec, torch.zeros(4, 25, dtype=torch.long)).samples
    assert guess.shape == sound.shape
    centres = [float((np.arange(n) * x**2).sum() / (x**2).sum()) for x in (guess, sound)]
    assert centres[0] == pytest.approx(centres[1], abs=40)


def test_sections_are_spread_over_old_and_new_grooves() -> None:
    trained = [True] * 50 + [False] * 10
    chosen = report._chosen(trained, 12)
    assert sum(trained[i] for i in chosen) == 6 and len(chosen) == 12
    assert len(report._chosen(trained, 40)) == 30, "20 old ones and the 10 new ones that there are"
