"""The battery's laws: a planted fault is found and its size estimated; what is clean raises no alarm.

Seeds are fixed, nothing is tuned per seed, and every alarm passes Holm's correction for the whole battery.
Sizes are measured on fresh clips or by counting (`planted_faults`).
"""

from __future__ import annotations

import numpy as np
import planted_faults
import pytest
from tolerances import DOUBLE

from workbench.probing.diagnosis import ProbeReport, diagnose

FAULTS = {  # planted by -> (finding, how far the estimate may lie from the size)
    "group_leak": ("group leak", 0.10),
    "loudness": ("confound: level_db", 0.10),
    "text_leak": ("text leak", 0.10),
    "noise": ("label noise", 0.05),
    "too_few": ("too few clips", 0.10),
}
SEEDS = [pytest.param(10, id="10"), pytest.param(100, id="100", marks=pytest.mark.long)]


def reports(name: str, seeds: int):
    """Yield what is planted and what the battery says of it, seed by seed."""
    for seed in range(seeds):
        planted = getattr(planted_faults, name)(seed)
        yield planted, diagnose(planted.acts, sweep=planted.sweep(), views=False, **planted.given)


def alarms(report: ProbeReport) -> set[str]:
    return {finding.name for finding in report.alarms}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_and_its_size_estimated(name, seeds):
    finding, tolerance = FAULTS[name]
    found, near, hard = [], [], []
    for planted, report in reports(name, seeds):
        found.append(finding in alarms(report))
        near.append(abs(report[finding].effect - planted.size) <= tolerance)
        if planted.flipped is not None:
            clips = report[finding].value.table()["clip"][: round(0.2 * len(planted.flipped))]
            numbers = [int(clip.removeprefix("clip")) for clip in clips]
            hard.append(planted.flipped[numbers].sum() >= 0.6 * planted.flipped.sum())
    assert sum(found) >= 0.9 * seeds
    assert sum(near) >= 0.9 * seeds
    assert sum(hard) >= 0.9 * len(hard)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seeds", SEEDS)
def test_a_clean_set_raises_no_alarm_from_the_whole_battery(seeds):
    raised = [sorted(alarms(report)) for _, report in reports("clean", seeds)]
    assert sum(map(bool, raised)) <= 0.1 * seeds, raised


def test_what_is_found_is_said_with_its_number():
    ((_, report),) = reports("group_leak", 1)
    value = report["group leak"].value
    told = report["group leak"].sentence()
    assert f"accuracy of {value.random.value:.2f}" in told
    assert f"drops to {value.grouped.value:.2f} when groups are held out" in told
    assert told.endswith("the probe recognises groups.")
    assert np.isclose(value.gap.value, value.random.value - value.grouped.value, **DOUBLE)
    ((_, clean),) = reports("clean", 1)
    assert "stays at" in clean["group leak"].sentence()
    assert "none of 7 tests" in clean.verdict()
