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
from typing import TYPE_CHECKING, Any

# OpenMP threads spin while they wait, unless told otherwise before the library is loaded. One step of a small
# model has hundreds of short waits, and where another program holds a core each of them lasts a time slice:
# 1 s of sound took 42 s instead of 0.7 s. Whoever has set the variable keeps their value.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _let_numba_compile() -> None:
    """Give numba a folder of this process, where it can write neither beside the libraries nor at home.

    Otherwise librosa and umap cannot even be imported: "cannot cache function: no locator available".
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    usual = [Path(sysconfig.get_path("purelib")) / "librosa", home / "numba"]
    standing = [next(place for place in (path, *path.parents) if place.exists()) for path in usual]
    if "NUMBA_CACHE_DIR" in os.environ or any(os.access(place, os.W_OK) for place in standing):
        return
    os.environ["NUMBA_CACHE_DIR"] = tempfile.mkdtemp(prefix="numba-")
    atexit.register(shutil.rmtree, os.environ["NUMBA_CACHE_DIR"], ignore_errors=True)


with suppress(OSError, RuntimeError):  # no home, no temporary folder: numba then says so
    _let_numba_compile()

if TYPE_CHECKING:
    from workbench.activations import Activations as Activations
    from workbench.activations import open_activations as open_activations
    from workbench.datasets import dataset as dataset
    from workbench.errors import WorkbenchError as WorkbenchError
    from workbench.evidence.damage import damage as damage
    from workbench.evidence.judge import Judge as Judge
    from workbench.evidence.judge import load_judge as load_judge
    from workbench.generation.generate import extend as extend
    from workbench.generation.generate import generate as generate
    from workbench.generation.generate import generate_long as generate_long
    from workbench.generation.generate import takes_dataset as takes_dataset
    from workbench.generation.live.recording import Recording as Recording
    from workbench.generation.live.recording import replay as replay
    from workbench.generation.reproduce import code_of as code_of
    from workbench.generation.reproduce import repeat as repeat
    from workbench.generation.take import Take as Take
    from workbench.model.capture import capture as capture
    from workbench.model.capture import capture_conditions as capture_conditions
    from workbench.model.capture import capture_cost as capture_cost
    from workbench.model.conditioning import Melody as Melody
    from workbench.model.generated import capture_continued as capture_continued
    from workbench.model.generated import capture_generated as capture_generated
    from workbench.model.load import load as load
    from workbench.model.musicgen import Model as Model
    from workbench.probing import LabelProbe as LabelProbe
    from workbench.probing import NumberProbe as NumberProbe
    from workbench.probing import Probe as Probe
    from workbench.probing import fit_multilabel as fit_multilabel
    from workbench.probing import fit_probes as fit_probes
    from workbench.probing import fit_regression as fit_regression
    from workbench.probing import project as project
    from workbench.show.widgets import BlendPad as BlendPad
    from workbench.show.widgets import ConsultingRoom as ConsultingRoom
    from workbench.show.widgets import LiveDesk as LiveDesk
    from workbench.show.widgets import MapPanel as MapPanel
    from workbench.show.widgets import ProbeLab as ProbeLab
    from workbench.show.widgets import ProbePanel as ProbePanel
    from workbench.show.widgets import SteerLab as SteerLab
    from workbench.show.widgets import SteerPanel as SteerPanel
    from workbench.show.widgets import TakeComparison as TakeComparison
    from workbench.show.widgets import TakeHistory as TakeHistory
    from workbench.show.widgets import compare as compare
    from workbench.sound import Clip as Clip
    from workbench.sound import Dataset as Dataset
    from workbench.sound import lint as lint
    from workbench.sound import measures as measures
    from workbench.sound import read_clip as read_clip
    from workbench.steering import Direction as Direction
    from workbench.steering import Steering as Steering
    from workbench.steering import crossfade as crossfade
    from workbench.steering import difference_in_means as difference_in_means
    from workbench.steering import random_direction as random_direction
    from workbench.steering import spread as spread

_HOMES = {
    "activations": (
        "Activations",
        "open_activations",
    ),
    "datasets": ("dataset",),
    "errors": ("WorkbenchError",),
    "evidence.damage": ("damage",),
    "evidence.judge": (
        "Judge",
        "load_judge",
    ),
    "generation.generate": (
        "extend",
        "generate",
        "generate_long",
        "takes_dataset",
    ),
    "generation.live.recording": (
        "Recording",
        "replay",
    ),
    "generation.reproduce": (
        "code_of",
        "repeat",
    ),
    "generation.take": ("Take",),
    "model.capture": (
        "capture",
        "capture_conditions",
        "capture_cost",
    ),
    "model.conditioning": ("Melody",),
    "model.generated": (
        "capture_continued",
        "capture_generated",
    ),
    "model.load": ("load",),
    "model.musicgen": ("Model",),
    "probing": (
        "LabelProbe",
        "NumberProbe",
        "Probe",
        "fit_multilabel",
        "fit_probes",
        "fit_regression",
        "project",
    ),
    "show.widgets": (
        "BlendPad",
        "ConsultingRoom",
        "LiveDesk",
        "MapPanel",
        "ProbeLab",
        "ProbePanel",
        "SteerLab",
        "SteerPanel",
        "TakeComparison",
        "TakeHistory",
        "compare",
    ),
    "sound": (
        "Clip",
        "Dataset",
        "lint",
        "measures",
        "read_clip",
    ),
    "steering": (
        "Direction",
        "Steering",
        "crossfade",
        "difference_in_means",
        "random_direction",
        "spread",
    ),
    "steering.schedule": (
        "constant",
        "decay",
        "fade",
        "knots",
        "pulse",
        "ramp",
        "window",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"workbench has no {name!r}; it has: {', '.join(__all__)}")
    value = getattr(import_module(f"workbench.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
