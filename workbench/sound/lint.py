"""A lint for datasets: faults that make a probe's accuracy a lie, found before anything is captured.

A probe that scores well because one genre is louder, longer or shared between train and test has learned
the dataset, not the music. Each check names one such shortcut, how strong it is, and which clips show it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from workbench.errors import AudioError
from workbench.sound.clip import SILENT_LEVEL_DB, Clip
from workbench.sound.dataset import Dataset, some

Severity = Literal["error", "warning"]
MAX_RATIO = 2.0  # largest class to smallest class
MIN_GROUPS = 5  # per class: fewer cannot fill five folds
MIN_EXPLAINED = 0.14  # eta squared; Cohen (1988) calls this a large effect
MAX_CHANCE = 0.01  # permutation p-value
_SHUFFLES = 999
_FRAME_S = 0.064
_SLOTS = 48
_BAND_EDGES_HZ = np.geomspace(60, 3500, 25)  # present at every rate from 8 kHz on, so that copies compare
_STEADY = 1e-3  # a sound whose bands vary less than this share of their size has no fingerprint
_SPLIT_APART = "a split may put one in train and one in test"

# kind of finding, measure, how to call it, and the difference between class means from which it matters
_CONFOUNDS = (
    ("level", "level_db", "loudness (dBFS)", 1.0),
    ("length", "seconds", "length (seconds)", 0.25),
    ("silence_share", "silence", "share of silence", 0.05),
    ("rate", "rate_hz", "sample rate (Hz)", 1.0),
)


class ClipMeasures(NamedTuple):
    """RMS level in dBFS, length and rate of a clip, and its share of 64 ms frames below -60 dBFS.

    The fingerprint (1152,) has unit norm; it is None for sound that never changes.
    """

    level_db: float
    seconds: float
    rate_hz: float
    silence: float
    fingerprint: np.ndarray | None


def measure_clip(clip: Clip) -> ClipMeasures:
    """Return the measures of a clip's whole frames of 64 ms: the rest, filled up, would be an event."""
    width = min(len(clip.samples), max(1, round(_FRAME_S * clip.rate_hz)))
    frames = clip.samples[: len(clip.samples) // width * width].reshape(-1, width)
    power = np.mean(np.square(frames, dtype=np.float64), axis=1)
    silence = float(np.mean(power < 10 ** (SILENT_LEVEL_DB / 10)))
    fingerprint = _audio_fingerprint(frames, clip.rate_hz)
    return ClipMeasures(clip.level_db, clip.seconds, float(clip.rate_hz), silence, fingerprint)


def measures(dataset: Dataset, *, seconds: float | None = None) -> dict[str, np.ndarray]:
    """Return what a probe could read instead of music: level_db, seconds and silence of each clip, (n,) each.

    The first `seconds` count, all if None. What is the same for all clips is left out: it confounds nothing.
    """
    of = [measure_clip(dataset.clip(number, seconds=seconds)) for number in range(len(dataset))]
    table = pd.DataFrame(of)[["level_db", "seconds", "silence"]]
    return {str(name): one.to_numpy() for name, one in table.items() if one.max() - one.min() > 1e-6}


def same_sound(fingerprints: np.ndarray, *, threshold: float = 0.98) -> list[tuple[int, int]]:
    """Return the pairs (i, j), i < j, of fingerprints (n, 1152) whose correlation reaches the threshold."""
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(fingerprints), 512):  # blocks: all pairs of 8,000 clips at once take 256 MB
        close = fingerprints[start : start + 512] @ fingerprints.T >= threshold
        pairs += [(start + i, j) for i, j in np.argwhere(close).tolist() if start + i < j]
    return pairs


def _audio_fingerprint(frames: np.ndarray, rate_hz: int) -> np.ndarray | None:
    """Return band levels (24 bands x 48 slots of the clip), freed of what stays the same throughout."""
    if len(frames) < _SLOTS:
        return None
    power = np.abs(np.fft.rfft(frames * np.hanning(frames.shape[1]), axis=1)) ** 2
    edges = np.searchsorted(np.fft.rfftfreq(frames.shape[1], 1 / rate_hz), _BAND_EDGES_HZ)
    bands = np.stack([power[:, low : max(high, low + 1)].sum(axis=1) for low, high in pairwise(edges)])
    slots = np.stack([part.mean(axis=1) for part in np.array_split(bands, _SLOTS, axis=1)], axis=1)
    roots: np.ndarray = slots**0.25  # keeps quiet passages in view
    course = (roots - roots.mean(axis=1, keepdims=True)).ravel()
    norm = float(np.linalg.norm(course))
    return course / norm if norm > _STEADY * float(np.linalg.norm(roots)) else None


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
        result = f"{len(self.findings)} finding(s)" if self.findings else "clean"
        lines = (f"  {f.severity:7s} {f.kind}: {f.message}" for f in self.findings)
        return "\n".join([f"{self.dataset}: {self.clips} clips, {result}", *lines])


def lint(dataset: Dataset, target: str = "genre", *, progress: bool = True) -> LintReport:
    """Return what is wrong with a dataset for probing `target`; every clip is measured once.

    Kinds: `left_out` (what its loader could not use, and classes that vanished with it), `unreadable`,
    `silent`, `duplicate` (same bytes in one group), `contradiction` (same bytes, other label), `leak` (same
    sound in several groups), `group_names` (several spellings of one), `one_class`, `imbalance`, `groups`
    (too few for five folds), and the confounds `level`, `length`, `silence_share`, `rate`.

    >>> from workbench.sound import Entry
    >>> names = [f"{genre}{n}" for genre in ("jazz", "rock") for n in range(8)]
    >>> entries = tuple(Entry(name, {"genre": name[:4]}, name, "", name) for name in names)
    >>> noise = np.random.default_rng(0).uniform(-0.1, 0.1, 8000)
    >>> louder = {"jazz": 1, "rock": 5}
    >>> songs = Dataset(entries, "songs", lambda one: Clip(louder[one.id[:4]] * noise, 8000))
    >>> [finding.kind for finding in lint(songs, progress=False).findings]
    ['level']
    >>> measures(songs)["level_db"].round().tolist()[::8]
    [-25.0, -11.0]
    """
    dataset.classes(target)
    measured: dict[str, ClipMeasures] = {}
    findings = [Finding("left_out", "warning", text) for text in dataset.warnings]
    for entry in tqdm(dataset, desc=f"listening to {dataset.name}", unit="clip", disable=not progress):
        try:
            measured[entry.id] = measure_clip(dataset.reader(entry))
        except AudioError as error:
            findings.append(Finding("unreadable", "error", str(error), (entry.id,)))
    silent = tuple(name for name, one in measured.items() if one.level_db < SILENT_LEVEL_DB)
    if silent:
        text = f"{len(silent)} clip(s) are silent: {some(silent)}. Leave them out"
        findings.append(Finding("silent", "error", text, silent))
    findings += [
        *_copies(dataset, target),
        *_same_sounds(dataset, measured),
        *_group_names(dataset),
        *_balance(dataset, target),
        *_confounds(dataset, target, measured),
    ]
    findings.sort(key=lambda finding: finding.severity != "error")
    return LintReport(dataset.name, len(dataset), tuple(findings))


def _copies(dataset: Dataset, target: str) -> Iterator[Finding]:
    """Yield what clips with equal bytes do: cross groups, contradict each other, or merely repeat."""
    digests = [entry.digest for entry in dataset]
    frame = pd.DataFrame({"id": dataset.ids, "group": dataset.groups, "label": dataset.labels(target)})
    for _, same in frame.groupby(digests):
        if len(same) < 2:
            continue
        ids, labels, groups = tuple(same["id"]), same["label"].unique(), same["group"].nunique()
        what = f"{some(ids)} are the same file"
        if len(labels) > 1:
            text = f"{what}, labelled {some(labels)}. Decide for one"
            yield Finding("contradiction", "error", text, ids)
        if groups > 1:
            text = f"{what} in {groups} groups, so {_SPLIT_APART}. Give them one group or keep one"
            yield Finding("leak", "error", text, ids, 1.0)
        else:
            yield Finding("duplicate", "warning", f"{what}. Keep one", ids)


def _same_sounds(dataset: Dataset, measured: Mapping[str, ClipMeasures]) -> Iterator[Finding]:
    """Yield pairs that sound the same in different groups, whatever their format, level or tags."""
    found = {one.id: measured[one.id].fingerprint for one in dataset if one.id in measured}
    known = [entry for entry in dataset if found.get(entry.id) is not None]
    fingerprints = np.array([found[entry.id] for entry in known])
    for i, j in same_sound(fingerprints):
        first, second = known[i], known[j]
        if first.group != second.group and first.digest != second.digest:
            what = f"{first.id} and {second.id} sound the same but stand in the groups {first.group} and"
            text = f"{what} {second.group}. Give them one group or keep one"
            correlation = float(fingerprints[i] @ fingerprints[j])
            yield Finding("leak", "error", text, (first.id, second.id), correlation)


def _group_names(dataset: Dataset) -> Iterator[Finding]:
    """Yield groups whose names differ in case, spaces, signs or accents alone: a split takes them for two."""
    groups = pd.Series(np.unique(dataset.groups))
    for plain, alike in groups.groupby(groups.map(_plain)):
        if plain and len(alike) > 1:
            what = f"the groups {some(map(repr, alike))} have nearly the same name, so {_SPLIT_APART}"
            ids = tuple(dataset.ids[np.isin(dataset.groups, alike)].tolist())
            yield Finding("group_names", "warning", f"{what}. Write them alike if they are one", ids)


def _plain(name: str) -> str:
    """Return a name in small letters without accents, signs and spaces; spaces between numbers count."""
    letters = unicodedata.normalize("NFKD", name.casefold())
    kept = "".join(letter for letter in letters if not unicodedata.combining(letter))
    words = re.findall(r"[^\W_]+", kept)
    return (" " if any(letter.isdigit() for letter in kept) else "").join(words)


def _balance(dataset: Dataset, target: str) -> Iterator[Finding]:
    """Yield what is wrong with the numbers of clips and groups of the classes."""
    labels, groups = dataset.labels(target), dataset.groups
    names, counts = np.unique(labels, return_counts=True)
    if len(names) == 1:
        text = f"all clips are of one class, {names[0]}, and a probe needs two. Add clips of another"
        yield Finding("one_class", "warning", text)
    most, least = int(counts.argmax()), int(counts.argmin())
    ratio = float(counts[most] / counts[least])
    if ratio > MAX_RATIO:
        what = f"{names[most]} has {counts[most]} clips and {names[least]} {counts[least]}"
        do = f"Use dataset.take({counts[least]}) or read macro-F1"
        yield Finding("imbalance", "warning", f"{what}: accuracy alone will flatter. {do}", value=ratio)
    for name in names:
        count = len(np.unique(groups[labels == name]))
        if count < MIN_GROUPS:
            what = f"{name} has {count} group(s), too few for {MIN_GROUPS} folds"
            yield Finding("groups", "warning", f"{what}. Add tracks or use fewer folds", value=float(count))


def _confounds(dataset: Dataset, target: str, measured: Mapping[str, ClipMeasures]) -> Iterator[Finding]:
    """Yield the measures that tell classes apart by themselves (eta squared, permutations over groups)."""
    if not measured:
        return
    rows = [(str(one.labels[target]), one.group, *measured[one.id]) for one in dataset if one.id in measured]
    frame = pd.DataFrame(rows, columns=["label", "group", *ClipMeasures._fields])
    # clips of one group are not independent samples: each group counts once per class
    units = frame.drop(columns="fingerprint").groupby(["label", "group"]).mean()
    labels = units.index.get_level_values("label")
    for kind, measure, words, matters in _CONFOUNDS:
        means = units[measure].groupby("label").mean()
        if means.max() - means.min() < matters:
            continue
        explained, chance = _explained(units[measure].to_numpy(), labels.to_numpy())
        if explained >= MIN_EXPLAINED and chance <= MAX_CHANCE:
            what = f"{words} alone explains {explained:.0%} of the variance between clips"
            ends = f"{means.idxmax()} {means.max():.3g}, {means.idxmin()} {means.min():.3g}"
            do = "A probe can read it instead of music: even it out, or report it as a baseline"
            yield Finding(kind, "warning", f"{what}: {ends}. {do}", value=explained)


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
