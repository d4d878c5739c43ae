"""A lint for datasets: faults that make a probe's accuracy a lie, found before anything is captured.

A probe that scores well because one genre is louder, longer or shared between train and test has learned
the dataset, not the music. Each check names one such shortcut, how strong it is, and which clips show it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from workbench.errors import AudioError
from workbench.sound.clip import SILENT_LEVEL_DB, Clip
from workbench.sound.dataset import Dataset, some

# What the lint hears of a clip: level, length, silence, and a print that recognises the same sound.


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


Severity = Literal["error", "warning"]
MAX_RATIO = 2.0  # largest class to smallest class
MIN_GROUPS = 5  # per class: fewer cannot fill five folds
MIN_EXPLAINED = 0.14  # eta squared; Cohen (1988) calls this a large effect
MAX_CHANCE = 0.01  # permutation p-value
_SHUFFLES = 999

# what is measured, how to call it, and the difference between class means from which it matters
_CONFOUNDS: tuple[tuple[str, str, float, Callable[[Heard], float]], ...] = (
    ("level", "loudness (dBFS)", 1.0, lambda heard: heard.level_db),
    ("length", "length (seconds)", 0.25, lambda heard: heard.seconds),
    ("silence_share", "share of silence", 0.05, lambda heard: heard.silence),
    ("rate", "sample rate (Hz)", 1.0, lambda heard: heard.rate_hz),
)


@dataclass(frozen=True)
class Finding:
    """One fault: its kind, how bad it is, what it means, the clips that show it, its size if it has one."""

    kind: str
    severity: Severity
    message: str
    ids: tuple[str, ...] = ()
    value: float | None = None


@dataclass(frozen=True)
class LintReport:
    """All findings of a dataset, errors first."""

    dataset: str
    clips: int
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def of(self, kind: str) -> tuple[Finding, ...]:
        """Return the findings of one kind."""
        return tuple(finding for finding in self.findings if finding.kind == kind)

    def table(self) -> pd.DataFrame:
        """Return one line per finding: severity, kind, message, value, number of clips."""
        lines = [(f.severity, f.kind, f.message, f.value, len(f.ids)) for f in self.findings]
        return pd.DataFrame(lines, columns=["severity", "kind", "message", "value", "clips"])

    def __str__(self) -> str:
        head = f"{self.dataset}: {self.clips} clips, " + (
            f"{len(self.findings)} finding(s)" if self.findings else "clean"
        )
        return "\n".join([head, *(f"  {f.severity:7s} {f.kind}: {f.message}" for f in self.findings)])


def lint(dataset: Dataset, target: str = "genre", *, progress: bool = True) -> LintReport:
    """Return what is wrong with a dataset for probing `target`; every clip is listened to once.

    Kinds: `left_out` (what its loader could not use, and classes that vanished with it), `unreadable`,
    `silent`, `duplicate` (same bytes in one group), `contradiction` (same bytes, other label), `leak` (same
    sound in several groups), `group_names` (several spellings of one), `one_class`, `imbalance`, `groups`
    (too few for five folds), and the confounds `level`, `length`, `silence_share`, `rate`.

    Raises:
        DatasetError: the clips lack the target, or its values are numbers.
    """
    dataset.classes(target)
    heard: dict[str, Heard] = {}
    findings: list[Finding] = []
    for entry in tqdm(dataset, desc=f"listening to {dataset.name}", unit="clip", disable=not progress):
        try:
            heard[entry.id] = listen(dataset.reader(entry))
        except AudioError as error:
            findings.append(Finding("unreadable", "error", str(error), (entry.id,)))
    findings += [
        *(Finding("left_out", "warning", told) for told in dataset.warnings),
        *_silent(heard),
        *_copies(dataset, target),
        *_leaks_by_ear(dataset, heard),
        *_group_names(dataset),
        *_balance(dataset, target),
        *_confounds(dataset, target, heard),
    ]
    findings.sort(key=lambda finding: finding.severity != "error")
    return LintReport(dataset.name, len(dataset), tuple(findings))


def _silent(heard: Mapping[str, Heard]) -> Iterator[Finding]:
    ids = tuple(name for name, measures in heard.items() if measures.level_db < SILENT_LEVEL_DB)
    if ids:
        yield Finding("silent", "error", f"{len(ids)} clip(s) are silent: {some(ids)}. Leave them out", ids)


def _copies(dataset: Dataset, target: str) -> Iterator[Finding]:
    """Yield what clips with equal bytes do: cross groups, contradict each other, or merely repeat."""
    frame = pd.DataFrame(
        {
            "id": dataset.ids,
            "group": dataset.groups,
            "label": dataset.labels(target),
            "digest": [entry.digest for entry in dataset],
        }
    )
    for _, same in frame.groupby("digest"):
        if len(same) < 2:
            continue
        ids = tuple(same["id"])
        if same["label"].nunique() > 1:
            yield Finding(
                "contradiction",
                "error",
                f"{some(ids)} are the same file, labelled {some(same['label'].unique())}. Decide for one",
                ids,
            )
        if same["group"].nunique() > 1:
            yield Finding(
                "leak",
                "error",
                f"{some(ids)} are the same file in {same['group'].nunique()} groups, so a "
                "split may put one in train and one in test. Give them one group or keep one",
                ids,
                1.0,
            )
        else:
            yield Finding("duplicate", "warning", f"{some(ids)} are the same file. Keep one", ids)


def _leaks_by_ear(dataset: Dataset, heard: Mapping[str, Heard]) -> Iterator[Finding]:
    """Yield pairs that sound the same in different groups, whatever their format, level or tags."""
    entries = [entry for entry in dataset if entry.id in heard and heard[entry.id].sound_print is not None]
    if not entries:
        return
    prints = np.stack([heard[entry.id].sound_print for entry in entries])  # type: ignore[misc]  # None is left out above
    for i, j in same_sound(prints):
        first, second = entries[i], entries[j]
        if first.group != second.group and first.digest != second.digest:
            yield Finding(
                "leak",
                "error",
                f"{first.id} and {second.id} sound the same but stand in the groups "
                f"{first.group} and {second.group}. Give them one group or keep one",
                (first.id, second.id),
                float(prints[i] @ prints[j]),
            )


def _group_names(dataset: Dataset) -> Iterator[Finding]:
    """Yield groups whose names differ in case, spaces, signs or accents alone: a split takes them for two."""
    spellings: dict[str, set[str]] = {}
    for group in dataset.groups.tolist():
        spellings.setdefault(_plain(group), set()).add(group)
    for alike in (sorted(names) for plain, names in sorted(spellings.items()) if plain and len(names) > 1):
        ids = tuple(entry.id for entry in dataset if entry.group in alike)
        yield Finding(
            "group_names",
            "warning",
            f"the groups {some([repr(name) for name in alike])} have nearly the same name, so a split may "
            "put one in train and one in test. Write them alike if they are one",
            ids,
        )


def _plain(name: str) -> str:
    """Return a name in small letters without accents, signs and spaces; spaces between numbers count."""
    letters = unicodedata.normalize("NFKD", name.casefold())
    kept = "".join(letter for letter in letters if not unicodedata.combining(letter))
    words = re.findall(r"[^\W_]+", kept)
    return (" " if any(letter.isdigit() for letter in kept) else "").join(words)


def _balance(dataset: Dataset, target: str) -> Iterator[Finding]:
    labels, groups = dataset.labels(target), dataset.groups
    names, counts = np.unique(labels, return_counts=True)
    if len(names) == 1:
        told = f"all clips are of one class, {names[0]}, and a probe needs two. Add clips of another"
        yield Finding("one_class", "warning", told)
    most, least = int(counts.argmax()), int(counts.argmin())
    ratio = counts[most] / counts[least]
    if ratio > MAX_RATIO:
        yield Finding(
            "imbalance",
            "warning",
            f"{names[most]} has {counts[most]} clips and {names[least]} "
            f"{counts[least]}: accuracy alone will flatter. Use dataset.take({counts[least]}) or read "
            "macro-F1",
            value=float(ratio),
        )
    for name in names:
        held = len(np.unique(groups[labels == name]))
        if held < MIN_GROUPS:
            yield Finding(
                "groups",
                "warning",
                f"{name} has {held} group(s), too few for {MIN_GROUPS} folds. Add tracks or use fewer folds",
                value=float(held),
            )


def _confounds(dataset: Dataset, target: str, heard: Mapping[str, Heard]) -> Iterator[Finding]:
    """Yield the measures that tell classes apart by themselves (eta squared, permutations over groups)."""
    entries = [entry for entry in dataset if entry.id in heard]
    if not entries:
        return
    frame = pd.DataFrame(
        {
            "label": [str(entry.labels[target]) for entry in entries],
            "group": [entry.group for entry in entries],
        }
    )
    for kind, words, matters, measure in _CONFOUNDS:
        frame["value"] = [measure(heard[entry.id]) for entry in entries]
        # clips of one group are not independent witnesses: each group speaks once per class
        units = frame.groupby(["label", "group"])["value"].mean().reset_index()
        means = units.groupby("label")["value"].mean()
        if means.max() - means.min() < matters:
            continue
        explained, chance = _explained(units["value"].to_numpy(), units["label"].to_numpy())
        if explained >= MIN_EXPLAINED and chance <= MAX_CHANCE:
            yield Finding(
                kind,
                "warning",
                f"{words} alone explains {explained:.0%} of the variance between clips: "
                f"{means.idxmax()} {means.max():.3g}, {means.idxmin()} {means.min():.3g}. A probe can "
                "read it instead of music: even it out, or report it as a baseline",
                value=explained,
            )


def _explained(values: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Return eta squared (between-class share of the variance) and how often shuffled labels reach it."""
    codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)[1:]
    centred = values - values.mean()
    total = float(centred @ centred)

    def eta(order: np.ndarray) -> float:
        sums = np.bincount(codes, weights=centred[order], minlength=len(sizes))
        return float((sums**2 / sizes).sum()) / total

    rng = np.random.default_rng(0)
    observed = eta(np.arange(len(values)))
    reached = sum(eta(rng.permutation(len(values))) >= observed - 1e-12 for _ in range(_SHUFFLES))
    return observed, (reached + 1) / (_SHUFFLES + 1)
