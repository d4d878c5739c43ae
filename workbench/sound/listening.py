"""What the lint hears of a clip: level, length, silence, and a print that recognises the same sound."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from workbench.sound.clip import SILENT_LEVEL_DB, Clip
from workbench.sound.dataset import Dataset

_FRAME_S = 0.064
_PRINT_SLOTS = 48
_PRINT_BAND_EDGES_HZ = np.geomspace(60, 3500, 25)  # held by every rate from 8 kHz on, so that copies compare
_STEADY = 1e-3  # a sound whose bands vary less than this share of their size has no print


@dataclass(frozen=True, eq=False)
class Heard:
    """Measures of one clip.

    Args:
        level_db: RMS level in dBFS.
        seconds: length.
        rate_hz: rate of the file.
        silence: share of 64 ms frames below -60 dBFS, 0 to 1.
        sound_print: shape (1152,), unit norm; None for sound that does not change over time.
    """

    level_db: float
    seconds: float
    rate_hz: float
    silence: float
    sound_print: np.ndarray | None


def listen(clip: Clip) -> Heard:
    """Return the measures of a clip."""
    frames = _frames(clip)
    power = np.mean(np.square(frames, dtype=np.float64), axis=1)
    silence = float(np.mean(power < 10 ** (SILENT_LEVEL_DB / 10)))
    return Heard(
        clip.level_db, clip.seconds, float(clip.rate_hz), silence, _sound_print(frames, clip.rate_hz)
    )


def measures(dataset: Dataset, *, seconds: float | None = None) -> dict[str, np.ndarray]:
    """Return what a probe could read instead of music: level_db, seconds and silence of each clip, (n,) each.

    A measure that is the same for all clips is left out: it can confound nothing.

    Args:
        dataset: whose clips are listened to.
        seconds: how much of each clip's beginning counts; all when None.
    """
    clips = (dataset.clip(number) for number in range(len(dataset)))
    heard = [listen(clip if seconds is None else clip.section(0, seconds)) for clip in clips]
    found = {
        name: np.array([getattr(one, name) for one in heard]) for name in ("level_db", "seconds", "silence")
    }
    return {name: values for name, values in found.items() if np.ptp(values) > 1e-6}


def same_sound(prints: np.ndarray, *, threshold: float = 0.98) -> list[tuple[int, int]]:
    """Return the pairs (i, j), i < j, of prints (n, 1152) whose correlation reaches the threshold."""
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(prints), 512):  # blocks: all pairs of 8,000 clips at once would take 256 MB
        close = prints[start : start + 512] @ prints.T >= threshold
        pairs += [(start + i, j) for i, j in np.argwhere(close).tolist() if start + i < j]
    return pairs


def _frames(clip: Clip) -> np.ndarray:
    """Return the clip in whole frames of 64 ms, shape (frames, n); one frame where it is shorter.

    The rest is dropped: padded with zeros it would look like an event, the same one in every clip.
    """
    width = min(len(clip.samples), max(1, round(_FRAME_S * clip.rate_hz)))
    return clip.samples[: len(clip.samples) // width * width].reshape(-1, width)


def _sound_print(frames: np.ndarray, rate_hz: int) -> np.ndarray | None:
    """Return band levels (24 bands x 48 slots of the clip's length), freed of what stays the same throughout.

    The fourth root of the power keeps quiet passages in view; removing each band's mean leaves the course of
    the sound: two clips of the same timbre differ, a copy at another level or in another format agrees.
    """
    if len(frames) < _PRINT_SLOTS:
        return None
    power = np.abs(np.fft.rfft(frames * np.hanning(frames.shape[1]), axis=1)) ** 2
    edges = np.searchsorted(np.fft.rfftfreq(frames.shape[1], 1 / rate_hz), _PRINT_BAND_EDGES_HZ)
    bands = np.stack([power[:, low : max(high, low + 1)].sum(axis=1) for low, high in pairwise(edges)])
    slots = np.stack([part.mean(axis=1) for part in np.array_split(bands, _PRINT_SLOTS, axis=1)], axis=1)
    course: np.ndarray = slots**0.25
    size = float(np.linalg.norm(course))
    course = (course - course.mean(axis=1, keepdims=True)).ravel()
    norm = float(np.linalg.norm(course))
    return course / norm if norm > _STEADY * size else None
