"""An atlas of a model: what each layer reads of a data set, the directions there, and how far they go.

It is a folder that can be shared: one file per probe, `atlas.json`, and a card for people. Everything in it
was measured on the model that it names, and no other model may use it.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from workbench.activations import Activations, open_activations, share_done
from workbench.errors import EvidenceError, reason
from workbench.evidence.damage import breaking_dose
from workbench.evidence.judge import Judge, as_judges
from workbench.evidence.search import auto_dose
from workbench.files import DIGEST, check_digest, digest_of, file_in, write_atomically
from workbench.model.capture import capture
from workbench.model.checkpoints import licence_of
from workbench.model.musicgen import Model
from workbench.probing import ProbeSweep, fit_probes
from workbench.probing.linear import SWEEP, small_table
from workbench.sound import Dataset
from workbench.steering import Direction, Steering

METHODS = ("logistic", "means")
CLIPS, WARM_UP = 10, 2  # of a forecast; what runs first pays for what runs only once
FORMAT = "musicgen-workbench atlas 1"
_FILE, _CARD, _ACTIVATIONS = "atlas.json", "README.md", "activations"
_DOSES = ("aim", "layer", "dose", "by", "steerable", "words")
_Dose = tuple[str, int, float, str, bool | None, str]
_COLUMNS = ["layer", "accuracy", "low", "high", "chance", "residual_norm"]


@dataclass(frozen=True)
class Forecast:
    """What an atlas will take, measured on a few of its clips."""

    clips: int  # that are still to be read
    capture_s: float
    probes_s: float

    @property
    def seconds(self) -> float:
        """All that is still to be done."""
        return self.capture_s + self.probes_s

    def __str__(self) -> str:
        parts = f"{_lasting(self.capture_s)} for {self.clips} clips, {_lasting(self.probes_s)} for probes"
        return f"The atlas will take about {_lasting(self.seconds)} ({parts})."


@dataclass(frozen=True, eq=False)
class Atlas:
    """What every layer of one model reads of a data set.

    `doses` has a row per aim that was searched for: aim, layer, dose, by ("auto-dose", where a judge heard
    it; "breaking dose", the largest at which the music held, where nobody did), steerable, words.
    """

    probes: Mapping[str, ProbeSweep]  # of all layers, by method; directions come from them
    about: Mapping[str, Any]  # model, data set and settings, as plain values
    doses: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(_DOSES)), repr=False)
    folder: Path | None = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Atlas):
            return NotImplemented
        same = dict(self.probes) == dict(other.probes) and dict(self.about) == dict(other.about)
        return same and self.doses.to_dict("list") == other.doses.to_dict("list")

    __hash__ = None  # type: ignore[assignment]

    @property
    def layer(self) -> int:
        """The recommended layer: that of most aims that can be steered; where none was tried, the best."""
        if self.doses.empty:
            return self._sweep().best.layer
        good = self.doses[self.doses["steerable"].eq(True)]
        return int((good if len(good) else self.doses)["layer"].mode()[0])

    def table(self, method: str = METHODS[0]) -> pd.DataFrame:
        """Return one row per layer: held-out accuracy with its interval and chance lines, residual norm."""
        norms = [probe.residual_norm for probe in self._sweep(method)]
        return self._sweep(method).table().assign(residual_norm=norms)

    def plot(self, method: str = METHODS[0]) -> Any:
        """Return the figure of accuracy per layer, the recommended one marked."""
        from workbench.show.plots.probing import accuracy_per_layer

        return accuracy_per_layer(self.table(method), target=self.about["target"], chosen=self.layer)

    def directions(self, layer: int | None = None, *, method: str = METHODS[0]) -> dict[str, Direction]:
        """Return the unit direction of every class at `layer` (default: the recommended one), by class."""
        return self._sweep(method).directions(self.layer if layer is None else layer)

    def plan(self, aim: str) -> Steering:
        """Return the recommended steering towards a class; EvidenceError where none was searched for."""
        rows = self.doses[self.doses["aim"] == aim]
        if rows.empty:
            found = f"doses are known for {', '.join(self.doses['aim']) or 'none'}"
            raise EvidenceError(f"A plan for {aim!r} was asked for", found, "Call recommend first")
        row = rows.iloc[0]
        return self.directions(int(row["layer"]))[aim].at(float(row["dose"]))

    def activations(self) -> Activations:
        """Return the activations that it was made of; ActivationsError where they were not shared with it."""
        return open_activations((self.folder or Path()) / _ACTIVATIONS)

    def recommend(
        self,
        model: Model,
        dataset: Dataset,
        judge: Judge | str | None = None,
        *,
        aims: Sequence[str] | None = None,
        layers: Sequence[int] | None = None,
        **search: Any,
    ) -> Atlas:
        """Return the atlas with the layer and the dose for each aim, searched for on this very model.

        A judge that knows the aims hears clips of every layer and dose (`auto_dose`, which takes `search`).
        Without one nobody can say what is heard: the doses are the largest at which the model finds its music
        as likely as real music (`breaking_dose`, which takes `search`), at the layer that reads best.

        The data set is real music, for the breaking dose. Aims are classes, all where None; the judge chooses
        among `layers`, the best and three between where None. EvidenceError for another model or unknown aim.
        """
        check_model(self.about, model)
        best = self._sweep().best.layer
        aims = self._sweep().classes if aims is None else tuple(aims)
        if judge is None:
            some = {aim: self._sweep()[best].direction(aim) for aim in aims}
            rows: list[_Dose] = _held(breaking_dose(model, some, dataset, **search).table, best)
        else:
            (one,) = as_judges(judge).values()
            quarters = {best, *(model.n_layers * part // 4 for part in (1, 2, 3))}
            tried, rows = sorted(quarters if layers is None else layers), []
            for aim in aims:
                own = {layer: self._sweep()[layer].direction(aim) for layer in tried}
                found = auto_dose(model, own, aim, one, **search)
                rows.append((aim, found.layer, found.dose, "auto-dose", found.steerable, found.verdict))
        return replace(self, doses=pd.DataFrame(rows, columns=list(_DOSES)))

    def save(self, folder: Path | str) -> Path:
        """Write the probes, a card, and last `atlas.json`, which makes it an atlas; return the folder."""
        folder, digests = Path(folder), {}
        for method, sweep in self.probes.items():
            place = sweep.save(folder / f"probes-{method}")
            digests[method] = hashlib.sha256(file_in(place, SWEEP).read_bytes()).hexdigest()
        doses = {name: values.tolist() for name, values in self.doses.items()}
        record: Any = {"format": FORMAT, "about": self.about, "probes": digests, "doses": doses}
        write_atomically(folder / _CARD, self.card().encode())
        text = json.dumps(record | {DIGEST: digest_of(record)}, indent=1, ensure_ascii=False)
        write_atomically(folder / _FILE, text.encode())
        return folder

    @classmethod
    def load(cls, folder: Path | str, model: Model | None = None) -> Atlas:
        """Return the atlas in a folder; EvidenceError where it is damaged, or not of `model`."""
        folder = Path(folder)
        try:
            record = json.loads((folder / _FILE).read_text("utf-8"))
            if record["format"] != FORMAT:
                raise ValueError(f"it is of the format {record['format']!r}")
            check_digest(folder, record)
            probes = {}
            for method, digest in record["probes"].items():
                place = folder / f"probes-{method}"
                if hashlib.sha256(file_in(place, SWEEP).read_bytes()).hexdigest() != digest:
                    raise ValueError(f"{place.name} is not what was saved with it")
                probes[method] = ProbeSweep.load(place)
            doses = pd.DataFrame(record["doses"], columns=list(_DOSES))
        except Exception as error:  # a damaged folder can be wrong in any way
            asked, found = f"The atlas in {folder} was asked for", f"it cannot be read ({reason(error)})"
            raise EvidenceError(asked, found, "Use a folder that wb.atlas or Atlas.save wrote") from error
        if model is not None:
            check_model(record["about"], model)
        return cls(probes, record["about"], doses, folder)

    def card(self) -> str:
        """Return what a reader of the folder should know, as Markdown."""
        about, best = self.about, self._sweep().best
        facts = {"fact": [name.replace("_", " ") for name in about], "value": about.values()}
        found = self.doses[["aim", "layer", "dose", "by"]]
        return "\n\n".join([
            f"# Atlas of {about['model']} on {about['dataset']}",
            f"Probes of the {about['target']} and directions in {len(self._sweep())} layers; at layer "
            f"{best.layer} a probe names {best.accuracy:.0%} of held-out clips rightly (chance "
            f"{best.scores.chance:.0%}). The model's weights are licensed {about['model_licence']}, the data "
            f"set's sounds {about['dataset_licence']}; neither is in this folder.",
            _markdown(pd.DataFrame(facts)),
            f"## Layers, by {METHODS[0]} probes",
            _markdown(self.table()[_COLUMNS]),
            "## Doses",
            _markdown(found) if len(found) else "None were searched for.",
            "To use it: `Atlas.load(folder, model)` in `workbench.evidence.atlas`.",
        ]) + "\n"  # fmt: skip

    def _repr_html_(self) -> str:
        title = f"Atlas of {self.about['model']} on {self.about['dataset']}, recommended layer {self.layer}"
        parts: list[Any] = [self.table()[_COLUMNS], *([self.doses] if len(self.doses) else [])]
        return "".join(small_table(title, part.to_dict("records")) for part in parts)

    def _sweep(self, method: str = METHODS[0]) -> ProbeSweep:
        if method not in self.probes:
            asked = f"Probes by {method!r} were asked for"
            raise EvidenceError.lookup(asked, f"the atlas has {', '.join(self.probes)}", "Use one of these")
        return self.probes[method]


def atlas(
    model: Model,
    dataset: Dataset,
    *,
    path: Path | str,
    target: str = "genre",
    seconds: float | None = None,
    text: str | None = None,
    batch: int = 8,
    folds: int = 5,
    seed: int = 0,
    licence: str = "not stated",
    progress: bool = True,
    cancel: threading.Event | None = None,
    on_forecast: Callable[[Forecast], object] = lambda _forecast: None,
) -> Atlas:
    """Return residual norms, probes and directions of every layer, kept in a folder.

    What it will take is measured first, on ten clips, and told. Where it was stopped, the same call goes on:
    clips that were read are not read again. A finished atlas is loaded.

    Clips have the label `target`. The folder at `path` holds the activations, too, which need not be shared;
    `licence` is that of the data set, for the card. `on_forecast` is called with the `Forecast` before the
    work, which `progress` shows. The rest is as for `capture` and `fit_probes`.

    Raises:
        EvidenceError: the folder holds an atlas of another model, data set or setting, or a damaged one.
        DatasetError: a class has fewer groups than folds.
        ActivationsError: as for `capture`.
        Cancelled: on request.

    >>> import tempfile
    >>> from workbench import dataset, load
    >>> songs = dataset("embedded").where(genre=["jazz", "rock"]).take(4)
    >>> small = {"folds": 2, "seconds": 0.4, "progress": False}
    >>> made = atlas(load("embedded"), songs, path=tempfile.mkdtemp(), **small)
    >>> made.about["clips"], sorted(made.directions(3))
    (8, ['jazz', 'rock'])
    """
    folder = Path(path)
    reading: dict[str, Any] = {"seconds": seconds, "text": text, "batch": batch}
    fitting: dict[str, Any] = {"target": target, "folds": folds, "seed": seed}
    about = _about(model, dataset, {"seconds": seconds, "text": text, **fitting}, licence)
    if (folder / _FILE).exists():
        found = Atlas.load(folder, model)
        if differ := [name for name, value in about.items() if found.about.get(name) != value]:
            told = f"one of another {', '.join(differ)} is there"
            raise EvidenceError(f"An atlas was to be made in {folder}", told, "Name another folder")
        return found
    forecast = _forecast(model, dataset, folder, reading, fitting)
    on_forecast(forecast)
    if progress:
        tqdm.write(str(forecast))
    acts = capture(model, dataset, path=folder / _ACTIVATIONS, progress=progress, cancel=cancel, **reading)
    probes = {one: fit_probes(acts, method=one, progress=progress, **fitting) for one in METHODS}
    made = Atlas(probes, about, folder=folder)
    made.save(folder)
    return made


def check_model(about: Mapping[str, Any], model: Model) -> None:
    """Raise EvidenceError unless an atlas with these facts is of this model, in whatever precision."""
    if about["model_fingerprint"] != model.fingerprint:
        found = f"it was made of {about['model']} (weights {about['model_fingerprint'][:8]})"
        asked = f"An atlas was to be used with {model.id} (weights {model.fingerprint[:8]})"
        raise EvidenceError(asked, found, "Load that model, or make an atlas of this one")


def _about(model: Model, dataset: Dataset, settings: Mapping[str, Any], licence: str) -> dict[str, Any]:
    """Return what an atlas says of itself."""
    return {
        "model": model.id, "model_fingerprint": model.fingerprint, "model_licence": licence_of(model.id),
        "precision": str(model.dtype).removeprefix("torch."), "dataset": dataset.name,
        "dataset_fingerprint": dataset.fingerprint, "dataset_licence": licence, "clips": len(dataset),
        **settings,
    }  # fmt: skip


def _forecast(
    model: Model, dataset: Dataset, folder: Path, reading: Mapping[str, Any], fitting: Mapping[str, Any]
) -> Forecast:
    """Time the reading of some clips from all over the data set, and the probes of one layer on noise."""
    model.residual_norms()  # measured once for every model
    places = np.unique(np.linspace(0, len(dataset) - 1, CLIPS).astype(int))
    first, rest = dataset.subset(places[:WARM_UP]), dataset.subset(places[WARM_UP:])
    quiet: Any = {"cache": False, "progress": False, **reading}
    capture(model, first, **quiet)
    begin = time.perf_counter()
    acts = capture(model, rest, **quiet)
    per_clip = (time.perf_counter() - begin) / len(rest)
    fit = partial(fit_probes, _alike(acts, dataset, fitting["target"]), progress=False, **fitting)
    fit(method=METHODS[-1])
    begin = time.perf_counter()
    for method in METHODS:
        fit(method=method)
    probes = (time.perf_counter() - begin) * model.n_layers
    left = round(len(dataset) * (1 - share_done(folder / _ACTIVATIONS)))
    return Forecast(left, per_clip * left, probes)


def _alike(acts: Activations, dataset: Dataset, target: str) -> Activations:
    """Return activations of one layer for a whole data set, drawn from those of some clips of each class."""
    layer, rng = acts.layers[len(acts.layers) // 2], np.random.default_rng(0)
    x, labels = acts.matrix(layer), dataset.labels(target)
    known = acts.labels(target)
    own = {name: np.flatnonzero(known == name) for name in set(known.tolist())}
    drawn = [rng.choice(own.get(name, np.arange(len(x)))) for name in labels.tolist()]
    noisy = x[drawn] + x.std(0) * rng.standard_normal((len(labels), x.shape[1])).astype(np.float32)
    samples = {"clip": dataset.ids, "group": dataset.groups, f"label_{target}": labels}
    norm = np.array([float(np.linalg.norm(x, axis=1).mean())])
    arrays = {"resid_post": noisy[:, None]}
    return Activations.from_arrays(arrays, layers=[layer], samples=samples, residual_norm=norm)


def _held(table: pd.DataFrame, layer: int) -> list[_Dose]:
    """Return a row per direction: the largest dose up to which it broke the music neither way."""
    rows: list[_Dose] = []
    for aim, own in table.groupby("direction", sort=False):
        broken = own.groupby(own["dose"].abs())["broken"].any()  # in the order of doses
        dose = max(broken.index[~broken.cummax()], default=0.0)
        words = f"The music holds up to dose {dose:g}; nobody listened whether it becomes {aim}."
        rows.append((str(aim), layer, float(dose), "breaking dose", None, words))
    return rows


def _markdown(table: pd.DataFrame) -> str:
    """Return a table in Markdown, three digits a number."""
    rows: Any = [list(table), ["---"] * len(table.columns), *table.to_numpy(object)]
    told = [[f"{one:.3g}" if isinstance(one, float) else str(one) for one in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in told)


def _lasting(seconds: float) -> str:
    """Return a time in words."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
