"""One linear probe: what reads a class from the residual stream of one layer, and what it is worth."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from workbench.errors import ProbeError, message
from workbench.probing.scores import Scores
from workbench.probing.solvers import probabilities
from workbench.steering import Direction, Gate, ReadOut

Array = np.ndarray
_FORMAT = "musicgen-workbench probe 1"
_TENSORS = ("weights", "bias", "mean")


@dataclass(frozen=True, eq=False, kw_only=True)
class Probe:
    """A linear probe in raw residual space: logits = x W' + b, the scaling of features folded back in.

    weights   (classes, d), float64, read-only; `bias` (classes,); `mean` (d,) is the average of the training
              samples
    strength  the L2 penalty that was chosen (solvers.py)
    scores    held-out figures of the same recipe (this probe itself is fitted on all samples)
    """

    classes: tuple[str, ...]
    weights: Array
    bias: Array
    mean: Array
    layer: int
    site: str
    target: str
    method: str
    strength: float
    scores: Scores
    residual_norm: float
    model_id: str = ""
    dataset_fingerprint: str = ""

    def __post_init__(self) -> None:
        for name in _TENSORS:
            # Row order matters: safetensors writes the bytes of a transposed array as they lie.
            array = np.array(getattr(self, name), dtype=np.float64, order="C")
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        object.__setattr__(self, "classes", tuple(self.classes))

    @property
    def accuracy(self) -> float:
        """Held-out accuracy."""
        return self.scores.accuracy

    def logits(self, x: Array) -> Array:
        """Return the logits (..., classes) of residuals (..., d)."""
        x = np.asarray(x, dtype=np.float64)
        if x.ndim == 0 or x.shape[-1] != self.weights.shape[1]:
            raise ProbeError(
                message(
                    f"An array of shape {x.shape} was to be read by the probe of layer {self.layer}",
                    f"it reads residuals of width {self.weights.shape[1]}",
                    "Pass residuals of the model that it was fitted on",
                )
            )
        return np.asarray(x @ self.weights.T + self.bias)

    def predict(self, x: Array) -> Array:
        """Return the most likely class (...) of residuals (..., d)."""
        return np.asarray(np.array(self.classes)[self.logits(x).argmax(-1)])

    def predict_proba(self, x: Array) -> Array:
        """Return P(class) (..., classes) of residuals (..., d); `solvers.probabilities` says how."""
        return probabilities(self.logits(x), self.method)

    def direction(self, class_: str) -> Direction:
        """Return the unit direction along which the logit of `class_` rises fastest, named as the class."""
        if class_ not in self.classes:
            raise ProbeError(
                message(
                    f"A direction of {class_!r} was asked for",
                    f"the probe knows {', '.join(self.classes)}",
                    "Use one of those classes",
                )
            )
        weights = self.weights[self.classes.index(class_)]
        return Direction(
            weights.astype(np.float32),
            self.layer,
            self.site,
            name=class_,
            residual_norm=self.residual_norm,
            centre=float(self.mean @ weights),
            origin={
                "method": f"probe weight, {self.method}",
                "target": self.target,
                "model_id": self.model_id,
                "dataset_fingerprint": self.dataset_fingerprint,
                "accuracy": f"{self.scores.accuracy:.4f}",
            },
        ).unit()

    def read_out(self) -> ReadOut:
        """Return what reads, as the plain value that a plan's gates are made of."""
        link = "shares" if self.method == "ridge" else "softmax"
        place = {"site": self.site, "target": self.target, "model_id": self.model_id}
        return ReadOut(self.classes, self.weights, self.bias, self.layer, link=link, **place)

    def gate(
        self, class_: str, *, below: float | None = None, above: float | None = None, over: float = 1.0
    ) -> Gate:
        """Return the gate that lets steering through while P(class) reads below (or above) a threshold.

        over  how many seconds of readings are averaged
        Raises ProbeError unless one threshold is given, SteeringError for a class that is not known.
        """
        if (below is None) == (above is None):
            found = f"below={below} and above={above} were given"
            raise ProbeError(message(f"A gate on {class_!r} was asked for", found, "Give one of both"))
        if below is not None:
            return Gate(self.read_out(), class_, "below", below, over)
        return Gate(self.read_out(), class_, "above", float(above or 0.0), over)

    def save(self, path: Path | str) -> Path:
        """Write the numbers as safetensors, all else as JSON in its metadata; return the path."""
        from safetensors.numpy import save_file

        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {name: getattr(self, name) for name in _TENSORS}
        save_file(tensors, path, metadata={"workbench": json.dumps({"format": _FORMAT} | self._record())})
        return path

    @classmethod
    def load(cls, path: Path | str) -> Probe:
        """Return the probe that `save` wrote; raise ProbeError when the file holds none."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(path), framework="np") as file:
                record: dict[str, Any] = json.loads(file.metadata()["workbench"])
                if record.pop("format") != _FORMAT:
                    raise KeyError("format")
                scores = Scores(**record.pop("scores"))
                return cls(scores=scores, **record, **{name: file.get_tensor(name) for name in _TENSORS})
        except (OSError, SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
            found = f"the file holds none ({type(error).__name__}: {error})"
            raise ProbeError(
                message(f"A probe was asked for from {path}", found, "Use a file that Probe.save wrote")
            ) from error

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Probe):
            return NotImplemented
        same = all(np.array_equal(getattr(self, name), getattr(other, name)) for name in _TENSORS)
        # Compared as text, because a score that was not measured is NaN, which equals nothing.
        return same and json.dumps(self._record()) == json.dumps(other._record())

    def __hash__(self) -> int:
        return hash((json.dumps(self._record()), self.weights.tobytes()))

    def _record(self) -> dict[str, Any]:
        """Return everything but the tensors, as JSON holds it."""
        plain = {name: value for name, value in self.__dict__.items() if name not in (*_TENSORS, "scores")}
        return plain | {"scores": asdict(self.scores)}
