"""Self-monitoring: steer only while a linear read-out of the stream reads below (or above) a threshold.

The idea is SMITIN's (arXiv 2404.02252): stop pushing once it sounds like what was wanted, go on when it no
longer does. A read-out is the plain value of a probe, without its training history; `probe.gate("jazz",
below=0.8)` makes a gate from one.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from workbench.errors import SteeringError, is_number, is_text, is_whole

SIDES = {"below": "<", "above": ">"}
"""The two sides of a threshold on which a gate may be open, and the sign that stands for each."""

LINKS = ("softmax", "shares", "sigmoid", "cut")
"""From logits to probabilities: softmax (logistic probes, means), shares (ridge: cut to 0-1, made to sum to
1); of labels, each against its absence: sigmoid (logistic, means), cut (ridge: to 0-1)."""


@dataclass(frozen=True, eq=False)
class ReadOut:
    """A linear read-out: probabilities of classes = link(x W' + b) of the stream x at one place.

    classes   their names
    weights   (classes, d) float32, read-only; `bias` (classes,)
    layer     the block it reads, at `site`, after steering
    link      one of LINKS
    target    what the classes tell apart
    model_id  the model that it was fitted on; empty fits any of the right width
    """

    classes: tuple[str, ...]
    weights: np.ndarray
    bias: np.ndarray
    layer: int
    site: str = field(default="resid_post", kw_only=True)
    link: str = field(default="softmax", kw_only=True)
    target: str = field(default="", kw_only=True)
    model_id: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        if not all(is_text(text) for text in (self.site, self.link, self.target, self.model_id)):
            told = ", ".join(repr(text) for text in (self.site, self.link, self.target, self.model_id))
            raise SteeringError(
                "A read-out was asked for", f"its site, link, target and model are {told}", "Give text"
            )
        object.__setattr__(self, "classes", tuple(str(name) for name in self.classes))
        for name in ("weights", "bias"):
            array = np.array(getattr(self, name), dtype=np.float32, order="C")
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        problem = _misshapen(self)
        if problem:
            asked = f"A read-out of {', '.join(self.classes) or 'nothing'} was asked for"
            raise SteeringError(asked, problem, "Use Probe.read_out()")

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all that acts: classes, place, link, model, weights and bias."""
        acting = [list(self.classes), int(self.layer), self.site, self.link, self.model_id]
        digest = hashlib.sha256(json.dumps(acting).encode())
        digest.update(self.weights.tobytes() + self.bias.tobytes())
        return digest.hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ReadOut) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def read_out(self) -> ReadOut:
        """Return the read-out itself, so that probes and read-outs can be given alike."""
        return self

    def probabilities(self, x: Tensor) -> Tensor:
        """Return (rows, classes) float32 probabilities of residuals (rows, d), on their device.

        Each row is computed apart, so that its neighbours cannot move it across a threshold.
        """
        weights = torch.tensor(self.weights, device=x.device)
        bias = torch.tensor(self.bias, device=x.device)
        return probabilities(x, weights, bias, self.link)


@dataclass(frozen=True)
class Gate:
    """Steer only while P(`class_`) reads `side` the `threshold`, averaged over the last `over` seconds.

    read_out   what reads
    class_     one of its classes
    side       "below" or "above": where the gate is open
    threshold  a probability from 0 to 1
    over       how many seconds of readings are averaged; 0 takes the last reading alone
    """

    read_out: ReadOut
    class_: str
    side: str = "below"
    threshold: float = 0.5
    over: float = 1.0

    def __post_init__(self) -> None:
        problem = _impossible(self)
        if problem:
            asked = f"A gate on {self.class_!r} {self.side} {self.threshold!r} was asked for"
            raise SteeringError(asked, *problem)
        for name in ("threshold", "over"):
            object.__setattr__(self, name, float(getattr(self, name)) + 0.0)

    def is_open(self, readings: Tensor) -> Tensor:
        """Return whether the gate is open, bool (...), for averaged probabilities (..., classes)."""
        read = readings[..., self.read_out.classes.index(self.class_)]
        return read < self.threshold if self.side == "below" else read > self.threshold


def probabilities(x: Tensor, weights: Tensor, bias: Tensor, link: str) -> Tensor:
    """Return P (rows, classes) for residuals x (rows, d), weights (classes, d) and bias (classes,)."""
    logits = (x.float()[:, None, :] * weights).sum(-1) + bias
    if link == "sigmoid":
        return logits.sigmoid()
    if link == "cut":
        return logits.clamp(0, 1)
    if link == "softmax":
        return logits.softmax(-1)
    shares = logits.clamp(0, 1)
    shares = torch.where(shares.sum(-1, keepdim=True) > 0, shares, torch.ones_like(shares))
    return shares / shares.sum(-1, keepdim=True)


def _misshapen(read_out: ReadOut) -> str:
    """Return what is wrong with the numbers of a read-out, or an empty text."""
    count, shape = len(read_out.classes), read_out.weights.shape
    if len(shape) != 2 or shape[0] != count or not count or read_out.bias.shape != (count,):
        return f"its weights have the shape {shape} and its bias {read_out.bias.shape}"
    if len(set(read_out.classes)) != count:
        return "two of its classes have one name"
    if not (np.isfinite(read_out.weights).all() and np.isfinite(read_out.bias).all()):
        return "its weights and bias are not all finite"
    if read_out.link not in LINKS:
        return f"the link {read_out.link!r} is none of {', '.join(LINKS)}"
    if not all(is_text(name) for name in read_out.classes):
        return f"its classes {read_out.classes!r} cannot all be written"
    return "" if is_whole(read_out.layer) else f"its layer {read_out.layer!r} is negative or no whole number"


def _impossible(gate: Gate) -> tuple[str, str] | None:
    """Return (found, do) when a gate cannot work."""
    if gate.class_ not in gate.read_out.classes:
        return f"the probe knows {', '.join(gate.read_out.classes)}", "Use one of those classes"
    if gate.side not in SIDES:
        return f"the sides are {' and '.join(SIDES)}", "Use one of those"
    if not is_number(gate.threshold, 0, 1):
        return "a threshold is a probability", "Use a number from 0 to 1"
    if not is_number(gate.over, 0):
        return f"readings cannot be averaged over {gate.over} s", "Use 0 or more seconds"
    return None
