"""The same function over many items on several threads, each of which calculates alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # comes with scikit-learn

Item = TypeVar("Item")
Result = TypeVar("Result")


def processors() -> int:
    """Return how many threads may calculate: the processors of this process, at most OMP_NUM_THREADS."""
    held = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return min(held, int(asked)) if asked.isdigit() and int(asked) > 0 else held


@contextmanager
def alone() -> Iterator[None]:
    """Let linear algebra inside calculate on the caller's thread only.

    The products and decompositions of a probe are small: handing each to several threads costs more than it
    brings, and ten times as much as the work itself where another program keeps a core busy.
    """
    with threadpool_limits(limits=1):
        yield


def in_order(
    function: Callable[[Item], Result], items: Sequence[Item], *, threads: int = 1
) -> Iterator[Result]:
    """Yield `function(item)` of every item, in order; with one thread nothing is started.

    Every thread calculates `alone`, and the caller's setting comes back when all is done.
    """
    with alone():
        if threads <= 1 or len(items) <= 1:
            yield from map(function, items)
            return
        # OpenMP counts its threads per thread that calls it, so each one is told anew.
        told = {"initializer": threadpool_limits, "initargs": (1,)}
        with ThreadPoolExecutor(min(threads, len(items)), **told) as pool:
            yield from pool.map(function, items)
