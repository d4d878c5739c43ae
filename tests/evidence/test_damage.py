"""Damage: each guard is blind to sound that is whole and sees the one thing that it is for."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.evidence.damage import damage
from workbench.sound import Clip

RATE = 16_000


def melody(seconds: float = 8.0, *, seed: int = 0) -> np.ndarray:
    """Return a tune of decaying notes that does not repeat itself."""
    rng = np.random.default_rng(seed)
    out = np.zeros(int(seconds * RATE))
    for start in np.arange(0, seconds - 0.2, 0.2):
        size = int(0.2 * RATE)
        t = np.arange(size) / RATE
        tone = sum(np.sin(2 * np.pi * k * rng.uniform(150, 900) * t) / k for k in (1, 2, 3))
        out[int(start * RATE) :][:size] += 0.2 * np.exp(-8 * t) * tone
    return out


def measured(samples: np.ndarray, rate: int = RATE) -> dict[str, float]:
    return damage(Clip(samples, rate))


def test_a_whole_tune_trips_no_guard():
    found = measured(melody())
    assert set(found) == {"level_db", "clipping", "silence", "flatness", "repetition"}
    assert -35 < found["level_db"] < -10
    assert found["clipping"] == 0
    assert found["silence"] < 0.1
    assert found["flatness"] < 0.1
    assert found["repetition"] < 0.2


def test_clipping_is_the_share_of_samples_at_full_scale():
    samples = 0.5 * np.ones(1000)
    samples[:100] = 1.0
    samples[100:150] = -1.3
    assert measured(samples)["clipping"] == pytest.approx(0.15)


def test_silence_is_the_share_of_quiet_frames():
    samples = melody()
    samples[len(samples) // 4 :] *= 1e-5
    assert measured(samples)["silence"] == pytest.approx(0.75, abs=0.02)
    nothing = measured(np.zeros(RATE))
    assert (nothing["silence"], nothing["flatness"], nothing["level_db"]) == (1, 0, -120)


def test_flatness_is_low_for_a_tone_and_known_for_noise():
    t = np.arange(4 * RATE) / RATE
    # No whole number of periods fits a frame, so the tone would leak without a window.
    assert measured(0.3 * np.sin(2 * np.pi * 449.3 * t))["flatness"] < 1e-4
    noise = 0.1 * np.random.default_rng(0).standard_normal(4 * RATE)
    # The power of white noise is exponentially distributed: exp(E log P) / E P = exp(-0.5772).
    assert measured(noise)["flatness"] == pytest.approx(np.exp(-0.5772), abs=0.01)
    assert measured(np.concatenate([noise, np.zeros(4 * RATE)]))["flatness"] == pytest.approx(
        0.5615, abs=0.02
    )


def test_repetition_sees_a_held_tone_and_an_exact_loop():
    t = np.arange(8 * RATE) / RATE
    assert measured(0.3 * np.sin(2 * np.pi * 440 * t))["repetition"] > 0.95
    tune = melody()
    assert measured(np.tile(tune[: 2 * RATE], 4))["repetition"] > 0.95
    half = np.concatenate([tune[: 4 * RATE], np.tile(tune[4 * RATE : 5 * RATE], 4)])
    assert 0.3 < measured(half)["repetition"] < 0.75


def test_an_end_that_comes_back_to_the_beginning_is_no_loop():
    tune = melody(4.5)
    tune[-int(0.7 * RATE) :] = tune[: int(0.7 * RATE)]  # over lags of at most half the clip it is not seen
    assert measured(tune)["repetition"] < 0.3


def test_figures_but_the_level_do_not_depend_on_loudness():
    loud, soft = measured(melody()), measured(0.5 * melody())
    assert loud["level_db"] - soft["level_db"] == pytest.approx(6.02, abs=0.01)
    for name in ("flatness", "repetition"):
        assert loud[name] == pytest.approx(soft[name], abs=0.01)


def test_changes_are_told_against_the_twin():
    clip, twin = Clip(0.5 * melody(), RATE), Clip(melody(), RATE)
    found = damage(clip, twin)
    assert found["level_db_change"] == pytest.approx(-6.02, abs=0.01)
    assert {name for name in found if name.endswith("_change")} == {f"{name}_change" for name in damage(clip)}
    assert all(value == 0 for name, value in damage(clip, clip).items() if name.endswith("_change"))


@pytest.mark.parametrize("size", [1, 15, 800, 801])
@pytest.mark.parametrize("rate", [300, 32_000])
def test_any_clip_has_figures(size, rate):
    found = measured(np.full(size, 0.25), rate)
    assert all(np.isfinite(value) for value in found.values())
