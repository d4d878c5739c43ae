"""Labels and groups as values: which are missing, what classes are called, and in which order they stand."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

# How NumPy and pandas write what is not there; as text it would pass for a class or a group of that name.
_NOT_THERE = ("", "nan", "NaN", "None", "NaT", "<NA>")


def missing(values: Iterable[Any] | np.ndarray, *, empty: bool = True) -> np.ndarray:
    """Return True (n,) for None, NaN and their spellings as text, and, where `empty` is set, for blank text.

    >>> missing(["jazz", None, "nan", " "]).tolist()
    [False, True, True, True]
    """
    array = np.asarray(values if isinstance(values, np.ndarray) else list(values))
    if array.dtype.kind in "biu":
        return np.zeros(array.shape, dtype=bool)
    if array.dtype.kind == "f":
        return np.isnan(array)
    words = _NOT_THERE if empty else _NOT_THERE[1:]
    held = array.astype(object)
    spelled = [isinstance(one, str) and one.strip() in words for one in held.tolist()]
    return np.asarray(pd.isna(held)) | np.array(spelled, dtype=bool)


def as_text(values: Iterable[Any] | np.ndarray) -> np.ndarray:
    """Return values as text (n,); whole numbers without a decimal point.

    >>> as_text([1.0, 2.5]).tolist()
    ['1', '2.5']
    """
    array = np.asarray(values if isinstance(values, np.ndarray) else list(values))
    if array.dtype.kind != "f":
        return array.astype(str)
    told = [str(int(one)) if one.is_integer() else str(one) for one in array.astype(float).tolist()]
    return np.array(told, dtype=str)


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return the different names in rising order: by value where all of them are numbers, else as text.

    >>> in_order(["10", "2", "2"])
    ('2', '10')
    """
    different = sorted(set(names))
    try:
        values = {name: float(name) for name in different}
    except ValueError:
        return tuple(different)
    if not all(math.isfinite(value) for value in values.values()):
        return tuple(different)
    return tuple(sorted(different, key=lambda name: values[name]))


def numbered(values: Iterable[Any] | np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the class names in rising order, and the class number of each value (n,).

    >>> names, numbers = numbered([10, 2, 2])
    >>> names, numbers.tolist()
    (('2', '10'), [1, 0, 0])
    """
    found, place = np.unique(as_text(values), return_inverse=True)
    names = in_order(found.tolist())
    rank = {name: number for number, name in enumerate(names)}
    return names, np.array([rank[name] for name in found.tolist()], dtype=int)[place]
