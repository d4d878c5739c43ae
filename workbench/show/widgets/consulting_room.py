"""The consulting room: several probes under examination, one lab each, opened when it is asked for."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import ipywidgets

from workbench.show.widgets.probe_lab import ProbeLab

if TYPE_CHECKING:
    from workbench.activations import Activations
    from workbench.sound.dataset import Dataset


class Patient(Protocol):
    """What a lab needs to know of a probe, and what its owner claims."""

    claim: str
    acts: Activations
    target: str
    songs: Dataset
    options: Mapping[str, Any]


class ConsultingRoom(ipywidgets.VBox):
    """A choice of patients; each one's lab is made when it is first chosen.

    Args:
        patients: by name.
        options: passed on to every `ProbeLab`.
    """

    def __init__(self, patients: Mapping[str, Patient], **options: Any) -> None:
        self.patients, self.options = dict(patients), options
        self.labs: dict[str, ProbeLab] = {}
        names = list(self.patients)
        self.patient = ipywidgets.ToggleButtons(options=names, value=names[0], description="patient")
        self.claim = ipywidgets.HTML()
        super().__init__([self.patient, self.claim], layout={"width": "100%"})
        self.patient.observe(lambda _change: self._open(), "value")
        self._open()

    @property
    def lab(self) -> ProbeLab:
        """The lab of the chosen patient."""
        return self.labs[self.patient.value]

    def _open(self) -> None:
        name = self.patient.value
        one = self.patients[name]
        if name not in self.labs:
            self.labs[name] = ProbeLab(
                one.acts, one.songs, target=one.target, **{**one.options, **self.options}
            )
        self.claim.value = f"<p><b>The owner says:</b> {html.escape(one.claim)}</p>"
        self.children = [self.patient, self.claim, self.labs[name]]
