"""Says what is installed, where the model would run, and whether it loads and steers."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

PACKAGES = (
    "torch",
    "transformers",
    "nnsight",
    "scikit-learn",
    "umap-learn",
    "plotly",
    "jupyterlab",
    "ipywidgets",
    "anywidget",
    "xarray",
    "zarr",
)


def examine(name: str = "embedded", device: str | None = None) -> int:
    """Print a line per finding; return 0 when everything works, 1 otherwise."""
    print(f"Python {platform.python_version()} on {platform.system()} {platform.machine()}")
    fine = [_check(package, lambda package=package: version(package)) for package in PACKAGES]  # type: ignore[misc]
    fine.append(_check("music", _music))
    fine.append(_check(f"model {name}", lambda: _model(name, device)))
    print("Everything works." if all(fine) else "Something is missing: see the lines marked with x.")
    return 0 if all(fine) else 1


def _check(what: str, look: Callable[[], str]) -> bool:
    """Print what was found, or why nothing was; never raise, so that one fault does not hide the others."""
    try:
        print(f"  ok {what}: {look()}")
    except PackageNotFoundError:
        print(f"  x  {what}: not installed. Run `make lab`, or pip install -e .")
    except Exception as error:  # a doctor reports whatever is wrong
        print(f"  x  {what}: {error}")
    else:
        return True
    return False


def _music() -> str:
    from workbench.datasets import dataset

    songs = dataset("embedded")
    grooves, first = len(set(songs.groups)), songs.clip(0)
    return f"{len(songs)} built-in pieces, {grooves} grooves; the first lasts {first.seconds:g} s"


def _model(name: str, device: str | None) -> str:
    """Load the model, push it along a random direction for a second, and read the receipt."""
    import numpy as np

    import workbench as wb

    begin = time.perf_counter()
    model = wb.load(name, device=device)
    loaded = time.perf_counter() - begin
    middle = model.n_layers // 2
    vector = np.random.default_rng(0).standard_normal(model.d_model).astype(np.float32)
    norm = float(model.residual_norms()[middle])
    push = wb.Direction(vector, layer=middle, name="random", residual_norm=norm).unit().at(0.5)
    begin = time.perf_counter()
    take = wb.generate(model, "a tune", steering=push, seconds=1, progress=False)
    speed = take.seconds / (time.perf_counter() - begin)
    return f"loaded in {loaded:.1f} s, {speed:.1f} x real time, steering: {take.receipt}\n{model.describe()}"
