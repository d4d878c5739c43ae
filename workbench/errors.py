"""One root error and a few subclasses; every message says what was asked, what was found, what to do."""

from __future__ import annotations


class WorkbenchError(Exception):
    """Root of every error that the workbench raises on purpose."""


class AudioError(WorkbenchError):
    """A sound that cannot be read, written or used."""


class DatasetError(WorkbenchError):
    """A set of clips that is empty, ambiguous or cannot be split as asked."""


class ActivationsError(WorkbenchError):
    """An activation store that is unfinished, damaged or does not hold what was asked."""


class ModelError(WorkbenchError):
    """A model that cannot be loaded, or that breaks the contract which the workbench relies on."""


class ProbeError(WorkbenchError):
    """A probe that cannot be fitted, read or applied."""


class SteeringError(WorkbenchError):
    """A direction, schedule or plan that cannot be carried out on this model."""


class GenerationError(WorkbenchError):
    """A generation that cannot start, or whose receipt shows that a planned edit did not happen."""


class EvidenceError(WorkbenchError):
    """A judge or a measurement that cannot give an honest answer."""


class Cancelled(WorkbenchError):
    """Work that was stopped on request; what was finished before is kept."""


def message(asked: str, found: str, do: str) -> str:
    """Return one line of the house's error form: what was asked, what was found, what to do.

    >>> message("Layer 30 was asked for", "the model has layers 0-23", "Use one of model.layers")
    'Layer 30 was asked for, but the model has layers 0-23. Use one of model.layers.'
    """
    return f"{asked}, but {found}. {do}."
