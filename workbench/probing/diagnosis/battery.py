"""The battery: all diagnoses that the inputs allow, in one call, with one error rate for all alarms."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from workbench.probing.diagnosis.baselines import baselines as compare_baselines
from workbench.probing.diagnosis.calibration import calibration
from workbench.probing.diagnosis.case import Case, examine
from workbench.probing.diagnosis.confound import confound
from workbench.probing.diagnosis.confusion import confusion
from workbench.probing.diagnosis.control_task import control_task
from workbench.probing.diagnosis.directions import direction_stability
from workbench.probing.diagnosis.estimate import SURE, holm
from workbench.probing.diagnosis.group_leak import group_leak
from workbench.probing.diagnosis.imbalance import class_imbalance
from workbench.probing.diagnosis.label_noise import BELIEVABLE, label_noise
from workbench.probing.diagnosis.layers import accuracy_by_layer
from workbench.probing.diagnosis.learning_curve import learning_curve
from workbench.probing.diagnosis.report import Diagnosis, Finding, ProbeReport, Test
from workbench.probing.diagnosis.text_leak import text_leak
from workbench.probing.diagnosis.transfer import transfer
from workbench.probing.fit import fit_probes
from workbench.probing.parallel import alone
from workbench.probing.sweep import ProbeSweep

if TYPE_CHECKING:
    from workbench.activations import Activations

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
        sweep = fit_probes(acts, target, folds=folds, seed=seed, class_weights=class_weights)
    probe = sweep.best if layer is None else sweep[layer]
    look = partial(examine, probe=probe, folds=folds, seed=seed, unit=unit, class_weights=class_weights)
    with alone():
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


def _tests(case: Case, conditions: Activations | None, confounds: Mapping[str, Array]) -> dict[str, Test]:
    """Return what can raise an alarm."""
    found: dict[str, Test] = {"group leak": group_leak(case)}
    if conditions is not None:
        found["text leak"] = text_leak(case, conditions)
    found |= {f"confound: {name}": confound(case, name, values) for name, values in confounds.items()}
    found["label noise"] = label_noise(case)
    found["too few clips"] = learning_curve(case)
    found["class imbalance"] = class_imbalance(case)
    return found


def _views(case: Case, sweep: ProbeSweep) -> dict[str, Diagnosis]:
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
