"""What to do to the model while it plays: immutable terms that can be written down and read back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from workbench.errors import SteeringError, reason
from workbench.files import write_atomically
from workbench.steering import grammar, written
from workbench.steering.term import Term

if TYPE_CHECKING:
    from workbench.steering.direction import Direction
    from workbench.steering.gate import ReadOut

__all__ = ["Steerable", "Steering", "Term"]


class Steerable(Protocol):
    """What `Steering.check` needs to know of a model."""

    @property
    def id(self) -> str:
        """The name that directions carry in their origin."""

    @property
    def layers(self) -> range:
        """The decoder blocks, counted from 0."""

    @property
    def d_model(self) -> int:
        """The width of the residual stream."""


@dataclass(frozen=True)
class Steering:
    """A plan: terms that act in order. Plans join with `+`, and `-` joins the opposite of a plan's pushes.

    `Steering(x)` also takes another Steering, one Term, or any mixture of both in a sequence.
    """

    terms: tuple[Term, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "terms", tuple(_flat(self.terms)))

    def __add__(self, other: Steering) -> Steering:
        return Steering(self.terms + other.terms)

    def __sub__(self, other: Steering) -> Steering:
        return self + -other

    def __neg__(self) -> Steering:
        return Steering(tuple(-term for term in self.terms))

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that are touched, in rising order."""
        return tuple(sorted({term.at_layer for term in self.terms}))

    def at_layer(self, layer: int) -> tuple[Term, ...]:
        """Return the terms that act at one layer, in order."""
        return tuple(term for term in self.terms if term.at_layer == layer)

    @property
    def directions(self) -> dict[str, Direction]:
        """Every direction used, by the name in `text()`; `parse` and `from_json` take this mapping."""
        return {text.key: term.direction for text, term in zip(self._texts, self.terms, strict=True)}

    @property
    def read_outs(self) -> dict[str, ReadOut]:
        """Every read-out that a gate reads, by the name in `text()`; `parse` and `from_json` take it too."""
        return {
            text.gate.key: term.gate.read_out
            for text, term in zip(self._texts, self.terms, strict=True)
            if text.gate is not None and term.gate is not None
        }

    def text(self) -> str:
        """Return the canonical text, e.g. `0.8*jazz@5 - 0.4*rock@5 | ramp(2s,6s) | cond` (grammar.py)."""
        return grammar.write(self._texts)

    def __str__(self) -> str:
        return self.text()

    @classmethod
    def parse(cls, text: str, directions: Mapping[str, Direction], probes: written.Probes = ()) -> Steering:
        """Return the plan that `text` writes, its names looked up in `directions`, its gates in `probes`.

        A name is looked up as `name@layer`, then as `name`; the direction must have been made at that layer.
        A gate's class is looked up among the classes that the probes of its layer read.
        Raises SteeringError, with the place in the text, for bad text and unknown names.
        """
        terms = grammar.read(text)
        read = dict.fromkeys(probe.read_out() for probe in written.values(probes))
        named = written.Named(directions, list(read))
        return cls(tuple(written.from_text(term, text, named) for term in terms))

    def to_json(self) -> str:
        """Return the plan as JSON text; directions and gates' read-outs stand by name and fingerprint."""
        return json.dumps([written.as_json(term) for term in self.terms], ensure_ascii=False)

    @classmethod
    def from_json(
        cls,
        text: str,
        directions: Mapping[str, Direction] | Iterable[Direction],
        probes: written.Probes = (),
    ) -> Steering:
        """Return the plan that `to_json` wrote; directions and read-outs are found by fingerprint."""
        held = {direction.fingerprint: direction for direction in written.values(directions)}
        read = {one.fingerprint: one for one in (probe.read_out() for probe in written.values(probes))}
        try:
            return cls(tuple(written.from_json(item, held, read) for item in json.loads(text)))
        except SteeringError:
            raise
        except Exception as error:  # text can be wrong in any way
            raise SteeringError(
                "A plan was asked for from JSON",
                f"the text is not one ({reason(error)})",
                "Pass Steering.to_json()",
            ) from error

    def save(self, path: Path | str) -> Path:
        """Write the plan with its directions and read-outs as one safetensors file; return the path.

        Raises DiskError when the disk is full or the folder cannot be written; an older file is then whole.
        """
        from workbench.steering.plan_file import to_bytes

        return write_atomically(path, to_bytes(self))

    @classmethod
    def load(cls, path: Path | str) -> Steering:
        """Return the plan that `save` wrote; raise SteeringError when the file holds none."""
        from workbench.steering.plan_file import from_bytes

        try:
            return from_bytes(Path(path).read_bytes(), str(path))
        except OSError as error:
            found = f"it cannot be read ({error})"
            raise SteeringError(
                f"The plan in {path} was asked for", found, "Use a file that Steering.save wrote"
            ) from error

    def pack(self) -> str:
        """Return the plan and all its vectors as lines of plain letters, to stand in code."""
        from workbench.steering.plan_file import pack

        return pack(self)

    @classmethod
    def unpack(cls, text: str) -> Steering:
        """Return the plan that `pack` wrote; raise SteeringError when letters are missing or changed."""
        from workbench.steering.plan_file import unpack

        return unpack(text)

    @cached_property
    def _texts(self) -> list[grammar.TermText]:
        """The terms as text knows them, with marks where a name alone would be ambiguous."""
        named = {term.direction.fingerprint: term.direction for term in self.terms}
        mark = written.marks({key: (one.name, one.layer) for key, one in named.items()})
        read = dict.fromkeys(term.gate.read_out for term in self.terms if term.gate is not None)
        held = written.reading(read)
        return [written.as_text(term, mark, held) for term in self.terms]

    def check(self, model: Steerable) -> None:
        """Raise SteeringError where the plan does not fit `model`: layer, width, another model's vector."""
        for term in self.terms:
            problem = _misfit(term, model)
            if problem:
                raise SteeringError(
                    f"{term.direction.name!r} was to act at layer {term.at_layer} of {model.id}", *problem
                )


def _flat(parts: object) -> Iterable[Term]:
    """Yield the terms of a Term, a Steering, or a sequence of them."""
    if isinstance(parts, Term):
        yield parts
    elif isinstance(parts, Steering):
        yield from parts.terms
    elif isinstance(parts, list | tuple):
        for part in parts:
            yield from _flat(part)
    else:
        raise SteeringError(
            "A plan was asked for", f"{type(parts).__name__} is no part of one", "Use direction.at(dose)"
        )


def _misfit(term: Term, model: Steerable) -> tuple[str, str] | None:
    """Return (found, do) when a term cannot act on this model."""
    direction = term.direction
    made_for, width = direction.origin.get("model_id", ""), direction.vector.size
    if made_for and made_for != model.id:
        found = f"the direction was made for the model {made_for!r}"
        return found, "Make a direction from this model's activations"
    if width != model.d_model:
        found = f"it has {width} numbers where the model has {model.d_model}"
        return found, "Use a direction made for this model"
    if term.at_layer not in model.layers:
        return f"the model has layers {model.layers[0]}-{model.layers[-1]}", "Use one of model.layers"
    read = term.gate.read_out if term.gate is not None else None
    if read is None:
        return None
    if read.model_id and read.model_id != model.id:
        return f"its gate's probe was made for the model {read.model_id!r}", "Fit a probe on this model"
    if read.weights.shape[1] != model.d_model or read.layer not in model.layers:
        found = f"its gate reads {read.weights.shape[1]} numbers at layer {read.layer}"
        return found, f"Use a probe of {model.d_model} numbers at one of model.layers"
    return None
