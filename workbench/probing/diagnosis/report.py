"""The report on a probe: all diagnoses that the inputs allow, with one error rate for all alarms."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from workbench.activations import Activations
from workbench.errors import ProbeError, renamed_attribute
from workbench.probing.diagnosis import faults
from workbench.probing.diagnosis.baselines import baselines as compare_baselines
from workbench.probing.diagnosis.baselines import control_task
from workbench.probing.diagnosis.evaluation import Diagnosis, ProbeEvaluation, evaluate_probe
from workbench.probing.diagnosis.views import accuracy_by_layer, calibration, confusion, direction_stability
from workbench.probing.fit import fit_probes
from workbench.probing.probe import ProbeSweep
from workbench.probing.solvers import PlainFit, ProbeMethod
from workbench.stats import SURE, holm

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Finding:
    """One diagnosis in a report; an alarm needs an adjusted p of at most 0.05 and a size that matters."""

    name: str  # "group leak", "confound: level_db" ...
    value: Diagnosis
    adjusted: float | None = None  # p-value after Holm's correction for all that was tested
    alarm: bool = False

    @property
    def effect(self) -> float:
        """The size of what was found."""
        return self.value.effect

    def sentence(self) -> str:
        """Return what was found, with its number, in words that agree with the alarm."""
        return self.value.sentence(self.alarm)


@dataclass(frozen=True, eq=False)
class ProbeReport:
    """All findings about the probe of one layer."""

    evaluation: ProbeEvaluation  # for further questions
    findings: tuple[Finding, ...]
    skipped: tuple[str, ...] = ()  # what was not looked at and what it needs, one sentence each

    case = renamed_attribute("case", "evaluation")

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __getitem__(self, name: str) -> Finding:
        """Return the finding of this name."""
        named = {finding.name: finding for finding in self.findings}
        ProbeError.among(name, named, "The finding")
        return named[name]

    @property
    def alarms(self) -> tuple[Finding, ...]:
        """The findings that raise an alarm, surest first."""
        raised = (finding for finding in self.findings if finding.alarm)
        return tuple(sorted(raised, key=lambda finding: finding.adjusted or 0.0))

    def table(self) -> pd.DataFrame:
        """Return one row per finding: finding, effect, p_value, adjusted, alarm, sentence."""
        columns = ["finding", "effect", "p_value", "adjusted", "alarm", "sentence"]
        rows = [
            (one.name, one.effect, one.value.p_value, one.adjusted, one.alarm, one.sentence()) for one in self
        ]
        return pd.DataFrame(rows, columns=columns).astype({"p_value": float, "adjusted": float})

    def sentences(self) -> tuple[str, ...]:
        """Return the verdict, then a sentence for each finding, alarms first."""
        rest = (finding for finding in self.findings if not finding.alarm)
        return (self.verdict(), *(one.sentence() for one in (*self.alarms, *rest)))

    def verdict(self) -> str:
        """Return the result in one sentence."""
        probed = self.evaluation
        probe = f"The {probed.target} probe of layer {probed.layer}"
        result = f"{probe} has accuracy {probed.accuracy} on new {probed.unit}s"
        tested = sum(finding.adjusted is not None for finding in self.findings)
        if not self.alarms:
            return f"{result}, and none of {tested} tests for faults raised an alarm."
        names = ", ".join(finding.name for finding in self.alarms)
        return f"{result}, but {len(self.alarms)} of {tested} tests for faults raised an alarm: {names}."


_NEEDED = {
    "conditions": "Text leak: not looked at; it needs the clips captured under four texts (`conditions`).",
    "confounds": "Confounds: not looked at; they need numbers per sample, such as level_db (`confounds`).",
    "baselines": "Baselines: not looked at; they need other features of the same samples (`baselines`).",
    "generated": "Transfer: not looked at; it needs labelled activations of generated clips (`generated`).",
}


_TESTS: Mapping[str, Callable[[ProbeEvaluation], Diagnosis]] = {
    "label noise": faults.label_noise, "too few clips": faults.learning_curve,
    "class imbalance": faults.class_imbalance,
}  # fmt: skip
_VIEWS: Mapping[str, Callable[[ProbeEvaluation], Diagnosis]] = {
    "control task": control_task, "confusion": confusion, "calibration": calibration,
    "direction stability": direction_stability,
}  # fmt: skip


def diagnose(
    acts: Activations,
    target: str = "genre",
    *,
    layer: int | None = None,
    sweep: ProbeSweep | None = None,
    method: ProbeMethod | PlainFit | str | None = None,
    conditions: Activations | None = None,
    confounds: Mapping[str, Array] | None = None,
    baselines: Mapping[str, Array] | None = None,
    generated: Activations | None = None,
    folds: int = 5,
    seed: int = 0,
    unit: str = "group",
    class_weights: Mapping[str, float] | str | None = None,
    views: bool = True,
    on_finding: Callable[[str, float], object] = lambda _name, _share: None,
) -> ProbeReport:
    """Return what is right and wrong with a probe; same input, same answer.

    Every fault that is tested has a p-value over groups; Holm's correction makes 0.05 the chance that a probe
    without a fault raises any alarm. A fault must also be large enough to matter (two points of accuracy, 3 %
    of the labels, five points of flattery).

    Args:
        acts: pooled activations with the label `target`.
        target: the label.
        layer: the layer that is examined; the best of the sweep when None.
        sweep: probes that were fitted on `acts`; by default they are fitted here, with this seed.
        method: by which probes are fitted here, or were, where it cannot be found by its name.
        conditions: the same clips under texts (`text_leak`).
        confounds: name -> number of each sample (`confound`).
        baselines: name -> other features of each sample (`baselines`).
        generated: labelled activations of generated clips, for the transfer there and back.
        folds: parts of the grouped cross-validation.
        seed: of folds and draws.
        unit: what a group is called in sentences: "track", "artist", "groove".
        class_weights: those that the probes were fitted with.
        views: False runs only what can raise an alarm.
        on_finding: called with each finding's name before it is made, and which share of them is made (0-1).
    """
    fitting: dict[str, Any] = {"folds": folds, "seed": seed, "class_weights": class_weights}
    if sweep is None:
        sweep = fit_probes(acts, target, method=method or "logistic", **fitting)
    probe = sweep.best if layer is None else sweep[layer]
    fitting |= {"unit": unit, "method": method}
    given = {"conditions": conditions, "confounds": confounds, "baselines": baselines, "generated": generated}
    with threadpool_limits(limits=1):
        probed = evaluate_probe(acts, probe, **fitting)
        asked: dict[str, Callable[[ProbeEvaluation], Diagnosis]] = {"group leak": faults.group_leak}
        if conditions is not None:
            asked["text leak"] = partial(faults.text_leak, conditions=conditions)
        for name, values in (confounds or {}).items():
            asked[f"confound: {name}"] = partial(faults.confound, name=name, values=values)
        asked |= _TESTS
        if views:
            asked |= {"accuracy": lambda _probed: accuracy_by_layer(sweep), **_VIEWS}
        if baselines:
            asked["baselines"] = partial(compare_baselines, features=baselines)
        if generated is not None:
            asked["transfer"] = lambda own: faults.transfer(own, evaluate_probe(generated, probe, **fitting))
        found: dict[str, Diagnosis] = {}
        for name, examine in asked.items():
            on_finding(name, len(found) / len(asked))
            found[name] = examine(probed)
    skipped = tuple(_NEEDED[name] for name, value in given.items() if value is None)
    return ProbeReport(probed, _judged(found), skipped)


def _judged(found: Mapping[str, Diagnosis]) -> tuple[Finding, ...]:
    """Return the findings with p-values corrected for all that were tested, and the alarms decided."""
    tested = {name: value.p_value for name, value in found.items() if value.p_value is not None}
    adjusted = dict(zip(tested, holm(list(tested.values())).tolist(), strict=True))
    findings = []
    for name, value in found.items():
        chance = adjusted.get(name)
        matters = name != "label noise" or value.effect > faults.BELIEVABLE
        findings.append(Finding(name, value, chance, chance is not None and chance <= SURE and matters))
    return tuple(findings)
