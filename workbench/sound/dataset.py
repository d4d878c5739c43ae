"""A dataset: labelled, grouped clips that are read only when they are needed.

A *group* is what a split must never cut: a track, an artist, a groove. Clips of one group on both sides of a
split let a probe recognise the track instead of the genre. `grouped_folds`, `held_out_indices` and
`balanced_indices` take labels (n,) and groups (n,) and return indices: activations share them.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from workbench.errors import DatasetError
from workbench.sound.clip import Clip

Label = str | float
# How NumPy and pandas write what is not there; as text it would pass for a class or a group of that name.
_NOT_THERE = ("", "nan", "NaN", "NAN", "None", "NaT", "<NA>", "null", "NULL")


def missing(values: Iterable[Any] | np.ndarray, *, empty: bool = True) -> np.ndarray:
    """Return True (n,) for None, NaN and their spellings as text and, if `empty` is set, for blank text."""
    array = np.asarray(values if isinstance(values, np.ndarray) else list(values))
    if array.dtype.kind in "biuf":
        return np.asarray(pd.isna(array))
    words = _NOT_THERE if empty else _NOT_THERE[1:]
    objects = array.astype(object)
    spelled = [isinstance(one, str) and one.strip() in words for one in objects.tolist()]
    return np.asarray(pd.isna(objects)) | np.array(spelled, dtype=bool)


def as_text(values: Iterable[Any] | np.ndarray) -> np.ndarray:
    """Return values as text (n,); whole numbers without a decimal point."""
    array = np.asarray(values if isinstance(values, np.ndarray) else list(values))
    if array.dtype.kind != "f":
        return array.astype(str)
    texts = [str(int(one)) if one.is_integer() else str(one) for one in array.astype(float).tolist()]
    return np.array(texts, dtype=str)


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return the different names in rising order: by value where all of them are numbers, else as text."""
    different = sorted(set(names))
    with suppress(ValueError):
        if all(math.isfinite(float(name)) for name in different):
            different.sort(key=float)
    return tuple(different)


def numbered(values: Iterable[Any] | np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the class names in rising order, and the class number of each value (n,).

    >>> names, numbers = numbered([10, 2, 2])
    >>> names, numbers.tolist()
    (('2', '10'), [1, 0, 0])
    """
    texts = as_text(values)
    names = in_order(texts.tolist())
    return names, pd.Index(names).get_indexer(pd.Index(texts)).astype(int)


@dataclass(frozen=True, eq=False)
class Entry:
    """One clip of a dataset, without its sound.

    Args:
        id: unique name within the dataset.
        labels: target to value, e.g. {"genre": "jazz", "tempo": 94.0}.
        group: what a split never cuts.
        source: file path, or "builtin:<id>".
        digest: SHA-256 of the bytes of file or codes (and of the window, where only part is used).
        codes: shape (n_codebooks, frames) int16 when the sound is stored as codec codes.
    """

    id: str
    labels: Mapping[str, Label]
    group: str
    source: str
    digest: str
    codes: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Dataset:
    """Entries, and the reader that turns an entry into sound.

    `warnings` says what its loader left out, and which classes vanished with it; `lint` repeats it. Raises
    DatasetError where there is no entry, two entries share an id, or one has no group.

    >>> def entry(n, genre):
    ...     return Entry(f"{genre}{n}", {"genre": genre}, f"{genre} track {n}", "", "")
    >>> songs = Dataset((entry(1, "jazz"), entry(2, "jazz"), entry(1, "rock")), "songs", lambda entry: None)
    >>> songs, songs.genres, songs.where(genre="jazz").ids.tolist()
    (Dataset('songs', 3 clips, 3 groups), ('jazz', 'rock'), ['jazz1', 'jazz2'])
    """

    entries: tuple[Entry, ...]
    name: str
    reader: Callable[[Entry], Clip]
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        asked = f"The dataset {self.name!r} was asked for"
        if not self.entries:
            raise DatasetError(asked, "it has no clips", "Add at least one sound file")
        ids, without = pd.Index(self.ids), missing([entry.group for entry in self])
        if ids.has_duplicates:
            found = f"the ids {some(ids[ids.duplicated()].unique())} come more than once"
            raise DatasetError(asked, found, "Keep one entry for each")
        if without.any():
            asked = f"A group for each clip of {self.name!r} was asked for"
            found = f"{without.sum()} of {len(self)} have none ({some(ids[without])})"
            do = "Name a track or artist for each, or the clip itself where nothing is shared"
            raise DatasetError(asked, found, do)

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __repr__(self) -> str:
        return f"Dataset({self.name!r}, {len(self)} clips, {len(set(self.groups))} groups)"

    @property
    def ids(self) -> np.ndarray:
        """Ids of the entries, shape (n,), strings."""
        return np.array([entry.id for entry in self.entries], dtype=str)

    @property
    def groups(self) -> np.ndarray:
        """Groups of the entries, shape (n,), strings."""
        return np.array([entry.group for entry in self.entries], dtype=str)

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the labels that every entry carries, sorted."""
        return tuple(sorted(set.intersection(*(set(entry.labels) for entry in self.entries))))

    def labels(self, target: str = "genre") -> np.ndarray:
        """Return all labels (n,): strings, or float64 if all are numbers. DatasetError if one is missing."""
        asked = f"The label {target!r} was asked for"
        if without := [entry.id for entry in self if target not in entry.labels]:
            found = f"{len(without)} of {len(self)} clips lack it ({some(without)})"
            do = f"Use one of the labels that all clips have: {', '.join(self.targets) or 'none'}"
            raise DatasetError(asked, found, do)
        values = [entry.labels[target] for entry in self]
        if all(isinstance(value, int | float) for value in values):
            return np.array(values, dtype=np.float64)
        if without := self.ids[missing(values, empty=False)].tolist():
            found = f"{len(without)} of {len(self)} clips have None or NaN there ({some(without)})"
            raise DatasetError(asked, found, "Fill it in, or leave these clips out with dataset.subset")
        return np.array(values, dtype=str)

    def classes(self, target: str = "genre") -> tuple[str, ...]:
        """Return the distinct labels, in rising order ("2" before "10"); DatasetError if they are numbers."""
        labels = self.labels(target)
        if labels.dtype.kind == "f":
            do = "Give it as text, for example in bins such as 'slow' and 'fast'"
            raise DatasetError(f"The classes of {target!r} were asked for", "its values are numbers", do)
        return in_order(labels.tolist())

    @property
    def genres(self) -> tuple[str, ...]:
        """Distinct genres, sorted."""
        return self.classes("genre")

    def clip(self, id_or_index: str | int, *, seconds: float | None = None) -> Clip:
        """Return the sound of one entry, by id or by position; its first `seconds`, all of it if None."""
        entry = self.entries[self._index(id_or_index)]
        if seconds is None:
            return self.reader(entry)
        clip = getattr(self.reader, "beginning", lambda one, _seconds: self.reader(one))(entry, seconds)
        return clip.section(0, seconds)

    @property
    def fingerprint(self) -> str:
        """Hexadecimal SHA-256 over ids, digests, groups and labels, in order: equal value, equal data."""
        rows = [[entry.id, entry.digest, entry.group, dict(entry.labels)] for entry in self.entries]
        return hashlib.sha256(json.dumps(rows, sort_keys=True, default=float).encode()).hexdigest()

    def table(self) -> pd.DataFrame:
        """Return one line per clip: id, group, source and all labels."""
        rows = ({"id": one.id, "group": one.group, **one.labels, "source": one.source} for one in self)
        return pd.DataFrame(rows)

    def subset(self, ids_or_mask: Iterable[Any]) -> Dataset:
        """Return the entries that a boolean mask (n,), indices or ids name, in the order of the latter."""
        wanted = np.asarray(list(ids_or_mask))
        if wanted.dtype == bool:
            if len(wanted) != len(self):
                asked, found = f"A mask of {len(wanted)} was given", f"the dataset has {len(self)} clips"
                raise DatasetError(asked, found, "Make the mask from dataset.labels() or dataset.ids")
            wanted = np.flatnonzero(wanted)
        positions = [self._index(item) for item in wanted.tolist()]
        return replace(self, entries=tuple(self.entries[i] for i in positions))

    def where(self, **labels: Label | Iterable[Label]) -> Dataset:
        """Return the entries with these labels; a list allows several: `where(genre=["jazz", "rock"])`."""
        mask = np.ones(len(self), dtype=bool)
        for target, allowed in labels.items():
            several = [allowed] if isinstance(allowed, str | int | float) else list(allowed)
            mask &= np.isin(self.labels(target), several)
        if not mask.any():
            wanted = ", ".join(f"{target}={value!r}" for target, value in labels.items())
            values = "; ".join(f"{target}: {some(np.unique(self.labels(target)), 8)}" for target in labels)
            asked = f"Clips with {wanted} were asked for"
            raise DatasetError(asked, "there are none", f"The dataset has {values}")
        return self.subset(mask)

    def take(self, per_class: int, *, target: str = "genre", seed: int = 0) -> Dataset:
        """Return `per_class` clips of each class, spread over as many groups as there are."""
        self.classes(target)
        return self.subset(balanced_indices(self.labels(target), self.groups, per_class, seed=seed))

    def split(self, *, test: float = 0.25, target: str = "genre", seed: int = 0) -> tuple[Dataset, Dataset]:
        """Return (train, test): no group is in both, about the share `test` of each class in the second."""
        self.classes(target)
        held_out = held_out_indices(self.labels(target), self.groups, test, seed=seed)
        return self.subset(np.delete(np.arange(len(self)), held_out)), self.subset(held_out)

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {entry.id: position for position, entry in enumerate(self.entries)}

    def _index(self, id_or_index: str | int) -> int:
        index = self._positions.get(id_or_index) if isinstance(id_or_index, str) else id_or_index
        if index is None or not -len(self) <= index < len(self):
            asked = f"The clip {id_or_index!r} was asked for"
            found = f"{self.name!r} has {len(self)} clips ({some(self.ids)})"
            raise DatasetError(asked, found, "Use an index or one of dataset.ids")
        return int(index)


def some(names: Iterable[Any], count: int = 3) -> str:
    """Return the first names and how many more there are, for messages: "a, b, c and 2 more"."""
    texts = list(map(str, names))
    more = f" and {len(texts) - count} more" if len(texts) > count else ""
    return ", ".join(texts[:count]) + more


def grouped_folds(
    labels: np.ndarray, groups: np.ndarray, *, folds: int = 5, seed: int = 0
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (train, test) indices per fold: no group on both sides, classes as even as groups allow.

    Raises DatasetError for fewer than two classes or folds, and fewer groups of a class than folds.

    >>> labels, groups = np.array(["jazz", "jazz", "rock", "rock"] * 2), np.array(list("aabbccdd"))
    >>> [groups[test].tolist() for _, test in grouped_folds(labels, groups, folds=2)]
    [['b', 'b', 'c', 'c'], ['a', 'a', 'd', 'd']]
    """
    from sklearn.model_selection import StratifiedGroupKFold

    labels, groups = np.asarray(labels), np.asarray(groups)
    _check_pair(labels, groups)
    asked = f"{folds} folds were asked for"
    if folds < 2:
        raise DatasetError(asked, "a split needs two sides", "Use folds=2 or more")
    if len(np.unique(labels)) < 2:
        found = f"all samples are of one class, {labels[0]}"
        raise DatasetError("Folds were asked for", found, "Add clips of another class")
    counts = {label: len(np.unique(groups[labels == label])) for label in np.unique(labels).tolist()}
    scarce, fewest = min(counts.items(), key=lambda one: one[1])
    if fewest < folds:
        do = f"Use folds={fewest}" if fewest >= 2 else "Add tracks of this class, or leave it out"
        raise DatasetError(asked, f"{scarce!r} has {fewest} group(s) and a group is never cut", do)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    pairs = list(splitter.split(np.zeros(len(labels)), labels, groups))
    for number, (train, _) in enumerate(pairs):
        missing = sorted(set(labels.tolist()) - set(labels[train].tolist()))
        if missing:
            found = f"fold {number} would train without {missing[0]!r}, which shares groups with too many"
            raise DatasetError(asked, found, "Use fewer folds, or finer groups")
    return pairs


def held_out_indices(labels: np.ndarray, groups: np.ndarray, test: float, *, seed: int = 0) -> np.ndarray:
    """Return sorted indices of whole groups, about the share `test` of each class; both sides keep one."""
    if not 0 < test < 1:
        do = "Use a share between 0 and 1"
        raise DatasetError(f"A test share of {test} was asked for", "a split needs two sides", do)
    _check_pair(labels, groups)
    sizes = Counter(groups.tolist())
    home: dict[str, str] = {}  # the most frequent class of each group, for which it counts
    for (group, label), _ in Counter(zip(groups.tolist(), labels.tolist(), strict=True)).most_common():
        home.setdefault(group, label)
    rng = np.random.default_rng(seed)
    chosen: set[str] = set()
    for name in sorted(set(labels.tolist())):
        candidates = sorted(group for group, owner in home.items() if owner == name)
        if len(candidates) < 2:
            found = f"it has {len(candidates)} group(s) of its own, and a group is never cut"
            do = "Add tracks, or leave the class out with dataset.where"
            raise DatasetError(f"A split of {name!r} was asked for", found, do)
        wanted = test * sum(sizes[group] for group in candidates)
        taken = 0
        for group in rng.permutation(candidates)[:-1].tolist():
            # the next whole group may overshoot; it is taken when that lands closer to the share
            if taken and taken + sizes[group] / 2 > wanted:
                break
            chosen.add(group)
            taken += sizes[group]
    return np.flatnonzero(np.isin(groups, sorted(chosen)))


def balanced_indices(labels: np.ndarray, groups: np.ndarray, per_class: int, *, seed: int = 0) -> np.ndarray:
    """Return sorted indices of `per_class` samples of each class, one of each group before a second."""
    rng = np.random.default_rng(seed)
    chosen: list[int] = []
    for name in sorted(set(labels.tolist())):
        members = np.flatnonzero(labels == name)
        if not 1 <= per_class <= len(members):
            do = f"Use a number from 1 to {min(Counter(labels.tolist()).values())}"
            asked = f"{per_class} clips of each class were asked for"
            raise DatasetError(asked, f"{name!r} has {len(members)}", do)
        members = rng.permutation(members)
        turn = pd.Series(members).groupby(groups[members]).cumcount()
        chosen += members[np.argsort(turn, kind="stable")[:per_class]].tolist()
    return np.array(sorted(chosen))


def _check_pair(labels: np.ndarray, groups: np.ndarray) -> None:
    """Raise DatasetError unless both have the shape (n,)."""
    if labels.ndim != 1 or labels.shape != groups.shape or len(labels) == 0:
        found = f"the shapes are {labels.shape} and {groups.shape}"
        asked = "A label and a group for each sample were asked for"
        raise DatasetError(asked, found, "Pass two arrays of shape (n,)")
