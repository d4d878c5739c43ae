"""One root error and a few subclasses; every message says what was asked, what was found, what to do.

Errors about what was given are ValueErrors too, and what a lookup does not find is a KeyError (`lookup`).
"""

from __future__ import annotations

import functools
import math
import operator
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any, ParamSpec, Self, SupportsIndex, TypeVar, cast

P = ParamSpec("P")
R = TypeVar("R")


class WorkbenchError(Exception):
    """Root of every error that the workbench raises on purpose; `asked` alone is a whole sentence.

    >>> print(ModelError("Layer 30 was asked for", "the model has layers 0-23", "Use one of model.layers"))
    Layer 30 was asked for, but the model has layers 0-23. Use one of model.layers.
    """

    def __init__(self, asked: str, found: str | None = None, do: str | None = None) -> None:
        super().__init__(*(part for part in (asked, found, do) if part is not None))
        self.asked, self.found, self.do = asked, found, do

    def __str__(self) -> str:
        return self.asked if self.found is None else message(self.asked, self.found, self.do or "")

    @classmethod
    def lookup(cls, asked: str, found: str, do: str) -> Self:
        """Return an error for a name or number that is not there, which is a KeyError too."""
        kind = type(cls.__name__, (cls, KeyError), {"__module__": cls.__module__})
        return cast(Self, kind(asked, found, do))

    @classmethod
    def among(
        cls, value: object, choices: Collection[object], what: str, *, held: str = "there are", do: str = ""
    ) -> None:
        """Raise a `lookup` error unless `value` is one of `choices`, of which the first 30 are listed.

        >>> ProbeError.among("top", ("mean", "max"), "The pool")
        Traceback (most recent call last):
        workbench.errors.ProbeError: The pool 'top' was asked for, but there are mean, max. Use one of these.
        """
        if value not in tuple(choices):
            names = list(map(str, choices))
            more = f" and {len(names) - 30} more" if len(names) > 30 else ""
            found = f"{held} {', '.join(names[:30]) or 'none'}{more}"
            raise cls.lookup(f"{what} {value!r:.200} was asked for", found, do or "Use one of these")

    @classmethod
    def number(
        cls, value: object, what: str, *, least: float = -math.inf, most: float = math.inf,
        above: float = -math.inf, found: str = "", do: str = "",
    ) -> float:  # fmt: skip
        """Return `value` as a float; raise an error unless it is finite, `least` to `most`, over `above`.

        >>> SteeringError.number(0, "A dose of", above=0, do="Use 1")
        Traceback (most recent call last):
        workbench.errors.SteeringError: A dose of 0 was asked for, but it is no finite number above 0. Use 1.
        """
        number = number_or_nan(value)
        if not (math.isfinite(number) and least <= number <= most and number > above):
            bounds = {"from": least, "above": above, "to": most}
            where = "".join(f" {word} {bound:g}" for word, bound in bounds.items() if math.isfinite(bound))
            found, do = found or f"it is no finite number{where}", do or f"Use a finite number{where}"
            raise cls(f"{what} {value!r:.40} was asked for", found, do)
        return number + 0.0  # -0.0 has another text

    @classmethod
    @contextmanager
    def damage(cls, asked: str, do: str, found: str = "it cannot be read") -> Iterator[None]:
        """Turn whatever is raised while a file is read, which can be wrong in any way, into this error."""
        try:
            yield
        except Exception as cause:
            raise cls(asked, f"{found} ({reason(cause)})", do) from cause


class AudioError(WorkbenchError, ValueError):
    """A sound that cannot be read, written or used."""


class DatasetError(WorkbenchError, ValueError):
    """A set of clips that is empty, ambiguous or cannot be split as asked."""


class ActivationsError(WorkbenchError, ValueError):
    """An activation store that is unfinished, damaged or does not hold what was asked."""


class ModelError(WorkbenchError):
    """A model that cannot be loaded, or that breaks the contract which the workbench relies on."""


class ProbeError(WorkbenchError, ValueError):
    """A probe that cannot be fitted, read or applied."""


class SteeringError(WorkbenchError, ValueError):
    """A direction, schedule or plan that cannot be carried out on this model."""


class GenerationError(WorkbenchError, ValueError):
    """A generation that cannot start, or whose receipt shows that a planned edit did not happen."""


class EvidenceError(WorkbenchError, ValueError):
    """A judge or a measurement that cannot give an honest answer."""


class DiskError(WorkbenchError, OSError):
    """A file or folder that cannot be written: the disk is full or read-only, or the place is closed."""


class Cancelled(WorkbenchError):
    """Work that was stopped on request; what was finished before is kept."""


class RenamedWarning(DeprecationWarning):
    """A name of the version before was used; it works for one release."""


def warn_renamed(old: str, new: str) -> None:
    """Warn, at the line of the caller's caller, that a name is now another."""
    text = f"{old} is now {new}; the old name goes with the next version"
    warnings.warn(text, RenamedWarning, stacklevel=3)


def renamed_keywords(**names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a function take keywords by former names (`former="present"`), with a warning, for one release."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> R:
            for old in names.keys() & kwargs.keys():
                warn_renamed(f"{function.__name__}({old}=...)", f"{names[old]}=")
                kwargs[names[old]] = kwargs.pop(old)
            return function(*args, **kwargs)

        return called

    return decorate


def renamed_attribute(old: str, new: str) -> Any:
    """Return the property under which the attribute `new` keeps its former name, with a warning."""

    def read(self: object) -> Any:
        warn_renamed(f"{type(self).__name__}.{old}", f".{new}")
        return getattr(self, new)

    return property(read, doc=f"The former name of `{new}`.")


def message(asked: str, found: str, do: str = "") -> str:
    """Return what every error says: what was asked, what was found, and what to do where that is known."""
    return f"{asked}, but {found}." + (f" {do}." if do else "")


def reason(error: BaseException, most: int = 300) -> str:
    """Return the kind and the words of another error, at most `most` characters, for a message."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        missing = isinstance(error, FileNotFoundError)
        text = f"there is no {error.filename}" if missing else f"{error.filename}: {error.strerror.lower()}"
    return text if len(text) <= most else f"{text[:most]} ..."


def is_whole(value: object, least: float = 0, most: float = 2**63 - 1) -> bool:
    """Return whether `value` is a whole number from `least` to `most` (64 bits), no True, no 3.0."""
    return not isinstance(value, bool) and isinstance(value, Integral) and least <= int(value) <= most


def is_number(value: object, least: float = -math.inf, most: float = math.inf) -> bool:
    """Return whether `value` is a finite number from `least` to `most`; True and False are none."""
    number = number_or_nan(value) if isinstance(value, Real) else math.nan
    return math.isfinite(number) and least <= number <= most


def is_nan(value: object) -> bool:
    """Return whether `value` is the number that says that nothing was measured."""
    return isinstance(value, float) and math.isnan(value)


def is_text(value: object) -> bool:
    """Return whether `value` is text that can be written as UTF-8, which has no lone surrogates."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False


def number_or_nan(value: object) -> float:
    """Return `value` as a float; NaN, which no range holds, where it is None, text or a truth value."""
    if value is None or isinstance(value, bool | str | bytes):
        return math.nan
    try:
        return float(cast(SupportsIndex, value))
    except (TypeError, ValueError, OverflowError, RuntimeError):  # what an array of many says
        return math.nan


def whole_number(value: object, what: str, error: type[WorkbenchError], *, least: int = 0) -> int:
    """Return `value` as an int; raise `error` where it is not a whole number of `least` or more."""
    if not is_whole(value, least):
        found = f"it is {f'below {least}' if least else 'negative'} or no whole number of 64 bits"
        raise error(f"{what} {value!r:.40} was asked for", found, f"Use a whole number from {least} on")
    return operator.index(cast(SupportsIndex, value))
