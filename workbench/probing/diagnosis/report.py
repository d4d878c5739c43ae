"""The battery: all diagnoses that the inputs allow, in one call, with one error rate for all alarms."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from workbench.errors import ProbeError
from workbench.probing.diagnosis.baselines import baselines as compare_baselines
from workbench.probing.diagnosis.baselines import control_task
from workbench.probing.diagnosis.data_faults import BELIEVABLE, class_imbalance, label_noise, learning_curve
from workbench.probing.diagnosis.evaluation import ProbeEvaluation, evaluate_probe
from workbench.probing.diagnosis.leaks import confound, group_leak, text_leak, transfer
from workbench.probing.diagnosis.views import accuracy_by_layer, calibration, confusion, direction_stability
from workbench.probing.fit import fit_probes
from workbench.probing.methods import PlainFit, ProbeMethod
from workbench.probing.probe import ProbeSweep
from workbench.stats import SURE, holm

if TYPE_CHECKING:
    from workbench.activations import Activations

# A report on a probe: every finding with its number, and those that raise an alarm.


class Diagnosis(Protocol):
    """What every diagnosis returns: a size in the unit of the fault, perhaps a test, and plain words."""

    @property
    def effect(self) -> float:
        """The size of what was found."""

    @property
    def p_value(self) -> float | None:
        """Chance of it where nothing is wrong; None where nothing is tested."""

    def sentence(self) -> str:
        """Return what was found, with its number."""


class Test(Diagnosis, Protocol):
    """A diagnosis of a fault, which may raise an alarm."""

    def sentence(self, alarm: bool | None = None) -> str:
        """Return what was found; `alarm` is the battery's verdict, by default that of its own p-value."""


@dataclass(frozen=True, eq=False)
class Finding:
    """One diagnosis in a report.

    name      "group leak", "confound: level_db" ...
    value     the diagnosis, with all its numbers
    words     what was found, in a sentence that agrees with the alarm
    adjusted  its p-value after Holm's correction for all that could have raised an alarm; None if untested
    alarm     whether the fault is there: adjusted p at most 0.05, and a size that matters
    """

    name: str
    value: Diagnosis
    words: str
    adjusted: float | None = None
    alarm: bool = False

    @property
    def effect(self) -> float:
        """The size of what was found."""
        return self.value.effect

    def sentence(self) -> str:
        """Return what was found, with its number."""
        return self.words


@dataclass(frozen=True, eq=False)
class ProbeReport:
    """All findings about the probe of one layer.

    case     the probe under examination, for further questions
    skipped  what was not looked at, and what is needed to do so, one sentence each
    """

    case: ProbeEvaluation
    findings: tuple[Finding, ...]
    skipped: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __getitem__(self, name: str) -> Finding:
        """Return the finding of this name."""
        for finding in self.findings:
            if finding.name == name:
                return finding
        held = ", ".join(finding.name for finding in self.findings)
        raise ProbeError(f"The finding {name!r} was asked for", f"there are {held}", "Use one of these")

    @property
    def alarms(self) -> tuple[Finding, ...]:
        """The findings that raise an alarm, surest first."""
        raised = (finding for finding in self.findings if finding.alarm)
        return tuple(sorted(raised, key=lambda finding: finding.adjusted or 0.0))

    def table(self) -> pd.DataFrame:
        """Return one row per finding: finding, effect, p_value, adjusted, alarm, sentence."""
        rows = [
            {
                "finding": finding.name,
                "effect": finding.effect,
                "p_value": math.nan if finding.value.p_value is None else finding.value.p_value,
                "adjusted": math.nan if finding.adjusted is None else finding.adjusted,
                "alarm": finding.alarm,
                "sentence": finding.sentence(),
            }
            for finding in self.findings
        ]
        return pd.DataFrame(rows)

    def sentences(self) -> tuple[str, ...]:
        """Return the verdict, then a sentence for each finding, alarms first."""
        rest = (finding for finding in self.findings if not finding.alarm)
        return (self.verdict(), *(one.sentence() for one in (*self.alarms, *rest)))

    def verdict(self) -> str:
        """Return what holds in one sentence."""
        case, accuracy = self.case, self.case.accuracy
        told = f"The {case.target} probe of layer {case.layer} has accuracy {accuracy} on new {case.unit}s"
        tested = sum(finding.adjusted is not None for finding in self.findings)
        if not self.alarms:
            return f"{told}, and none of {tested} tests for faults raised an alarm."
        names = ", ".join(finding.name for finding in self.alarms)
        return f"{told}, but {len(self.alarms)} of {tested} tests for faults raised an alarm: {names}."


Array = np.ndarray
_NEEDED = {
    "conditions": "Text leak: not looked at; it needs the clips captured under four texts (`conditions`).",
    "confounds": "Confounds: not looked at; they need numbers per sample, such as level_db (`confounds`).",
    "baselines": "Baselines: not looked at; they need other features of the same samples (`baselines`).",
    "generated": "Transfer: not looked at; it needs labelled activations of generated clips (`generated`).",
}


def diagnose(
    acts: Activations,
    target: str = "genre",
    *,
    layer: int | None = None,
    sweep: ProbeSweep | None = None,
    method: ProbeMethod | PlainFit | None = None,
    conditions: Activations | None = None,
    confounds: Mapping[str, Array] | None = None,
    baselines: Mapping[str, Array] | None = None,
    generated: Activations | None = None,
    folds: int = 5,
    seed: int = 0,
    unit: str = "group",
    class_weights: Mapping[str, float] | str | None = None,
    views: bool = True,
) -> ProbeReport:
    """Return what holds of a probe and what does not; same input, same answer.

    Every fault that is tested has a p-value over groups; Holm's correction makes 0.05 the chance that a probe
    without a fault raises any alarm. A fault must also be large enough to matter (two points of accuracy, 3 %
    of the labels, five points of flattery).

    acts           pooled activations with the label `target`
    layer          the layer that is examined; the best of the sweep when None
    sweep          probes that were fitted on `acts`; by default they are fitted here, with this seed
    conditions     the same clips under texts (see `text_leak`)
    confounds      name -> number of each sample (see `confound`)
    baselines      name -> other features of each sample (see `baselines`)
    generated      labelled activations of generated clips, for the transfer there and back
    folds          parts of the grouped cross-validation
    unit           what a group is called in sentences: "track", "artist", "groove"
    class_weights  those that the probes were fitted with
    views          False runs only what can raise an alarm
    """
    if sweep is None:
        fitting = {"folds": folds, "seed": seed, "class_weights": class_weights}
        sweep = fit_probes(acts, target, method=method or "logistic", **fitting)
    probe = sweep.best if layer is None else sweep[layer]
    look = partial(
        evaluate_probe,
        probe=probe,
        folds=folds,
        seed=seed,
        unit=unit,
        method=method,
        class_weights=class_weights,
    )
    with threadpool_limits(limits=1):
        case = look(acts)
        tests = _tests(case, conditions, confounds or {})
        seen = _views(case, sweep) if views else {}
        if baselines:
            seen["baselines"] = compare_baselines(case, baselines)
        if generated is not None:
            seen["transfer"] = transfer(case, look(generated))
    given = {"conditions": conditions, "confounds": confounds, "baselines": baselines, "generated": generated}
    skipped = tuple(_NEEDED[name] for name, value in given.items() if value is None)
    return ProbeReport(case, _judged(tests, seen), skipped)


def _tests(
    case: ProbeEvaluation, conditions: Activations | None, confounds: Mapping[str, Array]
) -> dict[str, Test]:
    """Return what can raise an alarm."""
    found: dict[str, Test] = {"group leak": group_leak(case)}
    if conditions is not None:
        found["text leak"] = text_leak(case, conditions)
    found |= {f"confound: {name}": confound(case, name, values) for name, values in confounds.items()}
    found["label noise"] = label_noise(case)
    found["too few clips"] = learning_curve(case)
    found["class imbalance"] = class_imbalance(case)
    return found


def _views(case: ProbeEvaluation, sweep: ProbeSweep) -> dict[str, Diagnosis]:
    """Return what is described and not tested."""
    return {
        "accuracy": accuracy_by_layer(sweep),
        "control task": control_task(case),
        "confusion": confusion(case),
        "calibration": calibration(case),
        "direction stability": direction_stability(case),
    }


def _judged(tests: dict[str, Test], views: dict[str, Diagnosis]) -> tuple[Finding, ...]:
    """Return the findings with p-values corrected for all that were tested, and the alarms decided."""
    tested = {name: value.p_value for name, value in tests.items() if value.p_value is not None}
    adjusted = dict(zip(tested, holm(list(tested.values())).tolist(), strict=True))
    found = []
    for name, value in tests.items():
        chance = adjusted.get(name)
        matters = name != "label noise" or value.effect > BELIEVABLE
        alarm = chance is not None and chance <= SURE and matters
        found.append(Finding(name, value, value.sentence(alarm), chance, alarm))
    return (*found, *(Finding(name, value, value.sentence()) for name, value in views.items()))
