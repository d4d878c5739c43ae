"""Threads: results come in order, each thread calculates alone, and the caller's setting comes back."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from workbench.probing import crossval as parallel
from workbench.probing.crossval import in_order, processors


def pools() -> list[int]:
    return [pool["num_threads"] for pool in threadpool_info()]


@pytest.mark.parametrize("threads", [1, 3])
def test_every_thread_calculates_alone_and_the_callers_setting_comes_back(threads):
    used, names = [], set()

    def work(number: int) -> int:
        used.extend(pools())
        names.add(threading.current_thread().name)
        return number**2

    with threadpool_limits(limits=2):
        before = pools()
        assert list(in_order(work, list(range(7)), threads=threads)) == [n**2 for n in range(7)]
        assert pools() == before
    assert set(used) == {1}
    assert (names == {threading.main_thread().name}) == (threads == 1)


def test_results_do_not_wait_for_those_behind_them():
    late, arrived = threading.Event(), []

    def work(number: int) -> int:
        if number == 1:
            assert late.wait(10)
        return number

    for number in in_order(work, [0, 1], threads=2):
        arrived.append(number)
        late.set()
    assert arrived == [0, 1]


@pytest.mark.parametrize("threads", [1, 2])
def test_what_fails_in_a_thread_is_raised_to_the_caller(threads):
    with pytest.raises(ZeroDivisionError):
        list(in_order(lambda number: 1 / number, [1, 0], threads=threads))


def test_no_more_threads_are_used_than_the_user_allows(monkeypatch):
    monkeypatch.setattr(parallel.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    for asked, expected in (("3", 3), ("64", 8), ("2,1", 2), ("", 8), ("0", 8), ("many", 8)):
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
        assert processors() == expected
    monkeypatch.delattr(parallel.os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(parallel.os, "cpu_count", lambda: np.int64(5))
    assert processors() == 5
