"""Work on the workers of a Dask cluster, each of which loads the model once, from its folder."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from workbench.errors import Cancelled, WorkbenchError
from workbench.model.load import load
from workbench.model.musicgen import Model

T = TypeVar("T")
R = TypeVar("R")
_LOADING = threading.Lock()


def on_workers(
    client: Any,
    model: Model,
    function: Callable[[Model, T], R],
    work: Sequence[T],
    *,
    error: type[WorkbenchError],
    cancel: threading.Event | None = None,
) -> Iterator[tuple[T, R]]:
    """Yield each piece of work with its `function(model, piece)`, as the workers finish them.

    Raises:
        WorkbenchError: `error`: the model is in no folder that a worker could load it from.
        Cancelled: `cancel` was set; it is looked at before each result is taken in.
    """
    from distributed import as_completed

    if model.folder is None:
        found = f"{model.id} exists in this process only"
        do = "Write it with save_pretrained to a folder that the workers see, and load it from there"
        raise error("Work on a cluster was asked for", found, do)
    how = (str(model.folder), str(model.device), model.precision, model.id)
    futures = {client.submit(_with_model, how, function, one, pure=False): one for one in work}
    try:
        for future in as_completed(list(futures)):
            if cancel is not None and cancel.is_set():
                raise Cancelled("Work on a cluster was stopped")
            yield futures[future], future.result()
    finally:
        client.cancel(list(futures))


_loaded = lru_cache(maxsize=1)(load)  # a worker loads its model once


def _with_model(how: tuple[str, str, str, str], function: Callable[[Model, T], R], one: T) -> R:
    folder, device, dtype, id_ = how
    with _LOADING:
        model = _loaded(folder, device=device, dtype=dtype, check=False)
        model.id = id_
    return function(model, one)
