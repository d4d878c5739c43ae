"""What any judge must do: `check_judge(judge)` says so, of ours and of a stranger's."""

from __future__ import annotations

from typing import Any

import numpy as np

from workbench.evidence.judge import Judge
from workbench.sound import Clip

NEAR = 0.2  # what another sample rate may change of a probability, of sounds that no judge was made for


def sounds(rate_hz: int) -> list[Clip]:
    """Return a low pulse, a high tone, noise and a chord, 3 s each, without anything above 6 kHz."""
    time_s = np.arange(3 * rate_hz) / rate_hz
    noise = np.repeat(np.random.default_rng(0).normal(size=3 * 4000), rate_hz // 4000)
    waves = [
        np.sin(2 * np.pi * 110 * time_s) * (time_s % 0.5 < 0.25),
        np.sin(2 * np.pi * 3000 * time_s),
        0.5 * np.convolve(noise, np.hanning(rate_hz // 1000), mode="same") / (rate_hz / 2000),
        sum(np.sin(2 * np.pi * hertz * time_s) for hertz in (220, 277, 330)) / 3,
    ]
    return [Clip((0.3 * wave).astype(np.float32), rate_hz) for wave in waves]


def check_judge(judge: Any) -> None:
    """Check shapes, sums, order, silence, other sample rates, and that the same clip is always the same."""
    assert isinstance(judge, Judge), "it lacks one of classes, rate_hz, probabilities"
    assert len(set(judge.classes)) == len(judge.classes) >= 2
    assert all(isinstance(name, str) and name for name in judge.classes)
    assert judge.rate_hz > 0
    clips = sounds(judge.rate_hz)
    odds = np.asarray(judge.probabilities(clips))
    assert odds.shape == (len(clips), len(judge.classes)), f"it has the shape {odds.shape}"
    assert np.isfinite(odds).all() and (odds >= 0).all()
    np.testing.assert_allclose(odds.sum(axis=1), 1.0, atol=1e-5)
    backwards = np.asarray(judge.probabilities(clips[::-1]))[::-1]
    np.testing.assert_allclose(backwards, odds, atol=1e-5, err_msg="the order of clips changes the verdict")
    alone = np.concatenate([judge.probabilities([clip]) for clip in clips])
    np.testing.assert_allclose(alone, odds, atol=1e-5, err_msg="other clips change the verdict")
    for rate_hz in (2 * judge.rate_hz, 44_100):
        other = judge.probabilities([clip.resample(rate_hz) for clip in clips])
        np.testing.assert_allclose(other, odds, atol=NEAR, err_msg=f"{rate_hz} Hz sounds otherwise to it")
    silence = np.asarray(judge.probabilities([Clip(np.zeros(2 * judge.rate_hz, np.float32), judge.rate_hz)]))
    assert np.isfinite(silence).all(), "silence has no finite verdict"
    np.testing.assert_allclose(silence.sum(axis=1), 1.0, atol=1e-5)
