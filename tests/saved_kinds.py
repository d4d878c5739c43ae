"""One small value of every kind that the workbench saves, how it is loaded, and how its record is changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from workbench.activations import Activations, ActivationStore, StoreSpec, open_activations
from workbench.errors import (
    ActivationsError,
    EvidenceError,
    GenerationError,
    ProbeError,
    SteeringError,
    WorkbenchError,
)
from workbench.evidence.features import block_slices
from workbench.evidence.judge import TrainedJudge
from workbench.generation.live.recording import Recording, begin_recording
from workbench.generation.live.window import LiveSetup, WindowState
from workbench.generation.receipt import Receipt
from workbench.generation.request import Settings
from workbench.generation.take import ProbeTrace, Take, Window
from workbench.model.conditioning import Melody
from workbench.probing import LabelProbe, NumberProbe, Probe
from workbench.probing.probe import LabelScores, NumberScores
from workbench.sound.clip import Clip
from workbench.stats import Scores
from workbench.steering import Direction, Gate, ReadOut, Steering, ramp

D = 8


def unit(name: str = "jazz", layer: int = 5, seed: int = 0) -> Direction:
    vector = np.random.default_rng([seed, layer]).standard_normal(D)
    return Direction(vector / np.linalg.norm(vector), layer, name=name, residual_norm=20.0)


@cache
def plan() -> Steering:
    gate = Gate(ReadOut(("jazz", "rock"), np.eye(2, D), np.zeros(2), 4), "jazz", threshold=0.8)
    return unit().at(0.5, schedule=ramp(1, 2), gate=gate) - unit("a b", 3).at(0.25, chance=0.5)


@cache
def probe() -> Probe:
    scores = Scores(0.9, 0.8, 1.0, 0.9, 0.5, *[float("nan")] * 3, 40, 10)
    arrays = {"weights": np.eye(2, D), "bias": np.zeros(2), "mean": np.ones(D)}
    told = {"layer": 3, "site": "resid_post", "target": "genre", "residual_norm": 20.0, "model_id": "m"}
    return Probe(**arrays, **told, classes=("jazz", "rock"), method="ridge", l2=0.1, scores=scores)


@cache
def number_probe() -> NumberProbe:
    scores = NumberScores(*[0.5] * 12, 40, 10)
    told = {"layer": 3, "site": "resid_post", "target": "bpm", "residual_norm": 20.0}
    return NumberProbe(weights=np.ones(D), mean=np.ones(D), bias=1.0, l2=0.1, scores=scores, **told)


@cache
def label_probe() -> LabelProbe:
    table = pd.DataFrame({"label": ["live", "loud"], "f1": [0.5, 0.6]})
    scores = LabelScores(*[0.5] * 7, table, 40, 10)
    arrays = {"weights": np.eye(2, D), "bias": np.zeros(2), "mean": np.ones(D), "l2": np.ones(2)}
    told = {"layer": 3, "site": "resid_post", "target": "tags", "residual_norm": 20.0}
    return LabelProbe(**arrays, **told, labels=("live", "loud"), method="logistic", scores=scores)


@cache
def judge() -> TrainedJudge:
    width = sum(
        part.stop - part.start for name, part in block_slices().items() if name in ("key", "intervals")
    )
    rng = np.random.default_rng(0)
    layers = tuple(
        (rng.standard_normal(shape).astype(np.float32), np.zeros(shape[1], np.float32))
        for shape in ((width, 3), (3, 2))
    )
    parts = (np.zeros(width, np.float32), np.ones(width, np.float32), layers, {"hits": 0.9})
    return TrainedJudge("genre", ("jazz", "rock"), *parts, ("intervals", "key"))


@cache
def take() -> Take:
    trace = ProbeTrace("genre", 1, ("jazz", "rock"), np.arange(5) / 25, np.full((5, 2), 0.5, np.float32))
    cells = [[0, 0.0, 5, "resid_post", "cond", 0, 1.0, 0.5, ""]]
    return Take(
        Clip(np.linspace(-0.5, 0.5, 640), 3200), np.arange(20).reshape(4, 5), "a calm tune", 3,
        steering=plan().text(), steering_json=plan().to_json(), plan=plan(), model_id="m",
        receipt=Receipt.from_records(cells), probe_traces=(trace,), prompt_seconds=0.04,
        windows=(Window(0.0, 0.2, 0.0, "a calm tune"),), melody=Melody((0, 4, 7)),
    )  # fmt: skip


def recorded(folder: Path) -> None:
    """Write a recording of two windows, the first of which was cut after 8 visits."""
    device, delays = torch.device("cpu"), (0, 1, 2, 3)
    model: Any = SimpleNamespace(
        id="m", fingerprint="f00", frame_rate_hz=25.0, n_codebooks=4, delays=delays, device=device,
        random_device=device, codec="encodec", dtype=torch.float32, precision="float32",
    )  # fmt: skip
    knobs = (("jazz", unit()), ("rock", unit("rock", 2, 1)))
    carried = WindowState(torch.Generator(), torch.zeros(4, 2, dtype=torch.long), 4)
    journal = begin_recording(folder, model, LiveSetup(knobs, 3, Settings(), 12, 4), carried)
    codes = np.arange(40).reshape(4, 10) % 60
    for start, frames, visits in ((0, 5, 8), (5, 5, 8)):
        journal.note(window=[start, 8, 2], prompt="a tune")
        for visit in range(visits):
            journal.note(visit=visit, doses=[0.5, -0.25 * (visit > 3)])
            if visit >= 3:
                journal.add(codes[:, start + visit - 3 : start + visit - 2])
        if start == 0:
            journal.note(cut=visits)
        journal.note(pushes=[frames, 0, 0])
    journal.end("stopped")


def stored(folder: Path) -> None:
    """Write a finished store of three chunks."""
    samples = {
        "clip": np.array([f"c{n}" for n in range(5)]),
        "group": np.array([f"g{n // 2}" for n in range(5)]),
        "label_genre": np.array(["jazz", "rock", "jazz", "rock", "jazz"]),
    }
    spec = StoreSpec(sites=("resid_post",), layers=(0, 2), d_model=4, samples=samples, samples_per_chunk=2)
    store = ActivationStore.open_or_create(folder, spec)
    for chunk in store.missing():
        rows = store.spec.rows(chunk)
        store.write_chunk(chunk, {"resid_post": np.ones((rows.stop - rows.start, 2, 4), np.float32)})


@dataclass(frozen=True)
class Saved:
    """A kind of saved value: writes one into a folder, loads it from there, and does with it what users do.

    record  the file that holds its plain fields: JSON, safetensors with them in its metadata, or with the
            array "about"
    """

    write: Callable[[Path], object]
    load: Callable[[Path], Any]
    use: Callable[[Any], object]
    error: type[WorkbenchError]
    record: str


def _used_plan(held: Steering) -> None:
    assert Steering.parse(held.text(), held.directions, held.read_outs) == held
    assert Steering.from_json(held.to_json(), held.directions, held.read_outs) == held


def _used_take(held: Take) -> None:
    held._repr_html_(), repr(held), held.new, hash(held), len(held.receipt), held.receipt.ok
    assert held == held  # by value


def _used_recording(held: Recording) -> None:
    assert held.seconds >= 0 and held.prompts is not None and held.lost is not None
    assert len(held.knobs()) <= sum(len(doses) for doses in held.doses()) + 1


def _used_activations(held: Activations) -> None:
    held.matrix(int(held.layers[0])), held.classes(), held.groups, repr(held), held.fingerprint


KINDS: dict[str, Saved] = {
    "direction": Saved(
        lambda f: unit().save(f / "it"), lambda f: Direction.load(f / "it"),
        lambda held: (held.fingerprint, held.norm, repr(held), held.named("x")), SteeringError, "it",
    ),
    "plan": Saved(
        lambda f: plan().save(f / "it"), lambda f: Steering.load(f / "it"), _used_plan, SteeringError, "it"
    ),
    "probe": Saved(
        lambda f: probe().save(f / "it"), lambda f: Probe.load(f / "it"),
        lambda held: (held.predict(np.ones((2, held.mean.size))), held.read_out(), hash(held)),
        ProbeError, "it",
    ),
    "number probe": Saved(
        lambda f: number_probe().save(f / "it"), lambda f: NumberProbe.load(f / "it"),
        lambda held: (held.predict(np.ones((2, held.mean.size))), hash(held)), ProbeError, "it",
    ),
    "label probe": Saved(
        lambda f: label_probe().save(f / "it"), lambda f: LabelProbe.load(f / "it"),
        lambda held: (held.predict(np.ones((2, held.mean.size))), held.read_out(), hash(held)),
        ProbeError, "it",
    ),
    "judge": Saved(
        lambda f: judge().save(f), TrainedJudge.load,
        lambda held: held.probabilities_of(np.zeros((2, max(p.stop for p in block_slices().values())))),
        EvidenceError, "genre.json",
    ),
    "take": Saved(lambda f: take().save(f), Take.load, _used_take, GenerationError, "take.json"),
    "recording": Saved(recorded, Recording.load, _used_recording, GenerationError, "header.json"),
    "store": Saved(stored, open_activations, _used_activations, ActivationsError, "zarr.json"),
}  # fmt: skip


def edit_record(folder: Path, saved: Saved, change: dict[str, Any] | str) -> None:
    """Write the record of a saved value anew: with some fields changed and no digest, or any text instead."""
    path = folder / saved.record
    if path.suffix == ".json":
        text = path.read_text()
        path.write_bytes(changed(text, change).encode(errors="surrogatepass"))
        return
    with safe_open(str(path), framework="np") as file:
        metadata = dict(file.metadata() or {})
    arrays = load_file(path)
    if "about" in arrays:
        text = changed(arrays["about"].tobytes().decode(), change)
        arrays["about"] = np.frombuffer(text.encode(errors="surrogatepass"), dtype=np.uint8)
    else:
        text = changed(metadata["workbench"], change)
        metadata["workbench"] = text.encode(errors="replace").decode()
    save_file(arrays, path, metadata=metadata)


def changed(text: str, change: dict[str, Any] | str) -> str:
    """Return the text of a record after a change, or the text that stands instead of it."""
    if isinstance(change, str):
        return change
    record = {name: value for name, value in json.loads(text).items() if name != "digest"}
    return json.dumps(record | change)
