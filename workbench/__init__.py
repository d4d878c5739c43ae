"""The MusicGen Workbench: look inside a music model, find where it keeps "jazz", turn that up, listen.

```python
import workbench as wb

model  = wb.load("embedded")              # or "facebook/musicgen-small", or a folder
songs  = wb.dataset("embedded")           # or a folder with a subfolder per genre, or a CSV file
acts   = wb.capture(model, songs)
probes = wb.fit_probes(acts, target="genre")
jazz   = probes.best.direction("jazz")
take   = wb.generate(model, "a tune", steering=jazz.at(dose=0.15), seed=7)
```

Names are imported when they are first used, so that `import workbench` costs nothing.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sysconfig
import tempfile
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import lazy_loader

from workbench.errors import warn_renamed

# OpenMP threads spin while they wait, unless told otherwise before the library is loaded. One step of a small
# model has hundreds of short waits, and where another program holds a core each of them lasts a time slice:
# 1 s of sound took 42 s instead of 0.7 s. Whoever has set the variable keeps their value.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _let_numba_compile() -> None:
    """Give numba a folder where it can write: without, librosa and umap fail to import ("no locator")."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    usual = [Path(sysconfig.get_path("purelib")) / "librosa", home / "numba"]
    standing = [next(place for place in (path, *path.parents) if place.exists()) for path in usual]
    if "NUMBA_CACHE_DIR" in os.environ or any(os.access(place, os.W_OK) for place in standing):
        return
    os.environ["NUMBA_CACHE_DIR"] = tempfile.mkdtemp(prefix="numba-")
    atexit.register(shutil.rmtree, os.environ["NUMBA_CACHE_DIR"], ignore_errors=True)


with suppress(OSError, RuntimeError):  # no home, no temporary folder: numba then says so
    _let_numba_compile()

_public, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

# Names of the version before, kept for one release: old name -> where it is now, below `workbench`.
_MOVED = {
    "BlendPad": "show.widgets.BlendPad",
    "ConsultingRoom": "BrokenProbes",
    "LabelProbe": "probing.LabelProbe",
    "Melody": "model.conditioning.Melody",
    "NumberProbe": "probing.NumberProbe",
    "TakeComparison": "show.widgets.TakeComparison",
    "TakeHistory": "show.widgets.TakeHistory",
    "capture_continued": "model.generated.capture_continued",
    "capture_cost": "model.capture.capture_cost",
    "code_of": "generation.reproduce.reproduction_code",
    "constant": "steering.constant",
    "damage": "evidence.damage.damage",
    "decay": "steering.decay",
    "knots": "steering.knots",
    "pulse": "steering.pulse",
    "repeat": "reproduce",
    "spread": "steering.split_dose",
}


def __getattr__(name: str) -> Any:
    if name in _MOVED:
        home, _, new = _MOVED[name].rpartition(".")
        warn_renamed(f"workbench.{name}", f"workbench.{_MOVED[name]}")
        return getattr(import_module(f"workbench.{home}" if home else "workbench"), new)
    if name.startswith("_") or name in __all__:
        return _public(name)
    raise AttributeError(f"workbench has no {name!r}; it has: {', '.join(__all__)}")
