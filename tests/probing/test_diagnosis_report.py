"""The report: same input, same answer; words agree with the alarms; what was not looked at is told."""

from __future__ import annotations

import numpy as np
import planted_faults as pf
import pytest
from planted import activations, planted
from tolerances import DOUBLE

from workbench.errors import ProbeError
from workbench.probing import fit_probes
from workbench.probing.diagnosis import diagnose, holm
from workbench.probing.diagnosis.report import _judged


@pytest.fixture(scope="module")
def full():
    acts, _ = planted(1.8, clips=4)
    generated, _ = planted(1.8, clips=4, seed=1)
    rng = np.random.default_rng(0)
    given = {"confounds": {"level_db": rng.standard_normal(len(acts))}, "generated": generated}
    given["baselines"] = {"noise": rng.standard_normal((len(acts), 3))}
    sweep = fit_probes(acts, l2=[0.1], shuffles=2, progress=False)
    return diagnose(acts, sweep=sweep, unit="track", **given)


def test_everything_that_the_inputs_allow_is_there_and_the_rest_is_told(full):
    assert [finding.name for finding in full] == [
        "group leak",
        "confound: level_db",
        "label noise",
        "too few clips",
        "class imbalance",
        "accuracy",
        "control task",
        "confusion",
        "calibration",
        "direction stability",
        "baselines",
        "transfer",
    ]
    assert len(full.skipped) == 1
    assert "Text leak" in full.skipped[0]
    assert full.evaluation.layer == 1
    with pytest.raises(ProbeError, match=r"'text leak' was asked for.*group leak"):
        full["text leak"]


def test_every_finding_is_told_before_it_is_made_and_can_end_the_work():
    acts, _ = planted(1.8, clips=4)
    sweep = fit_probes(acts, l2=[0.1], shuffles=0, progress=False)
    seen = []
    report = diagnose(acts, sweep=sweep, views=False, on_finding=lambda *at: seen.append(at))
    names = [finding.name for finding in report]
    assert seen == [(name, place / len(names)) for place, name in enumerate(names)] and len(names) == 4

    def stop(name, _share):
        raise InterruptedError(name)

    with pytest.raises(InterruptedError, match="group leak"):
        diagnose(acts, sweep=sweep, on_finding=stop)


def test_the_table_and_the_sentences_say_the_same(full):
    table = full.table()
    assert table["finding"].tolist() == [finding.name for finding in full]
    assert table["alarm"].tolist() == [finding.alarm for finding in full]
    assert set(table["sentence"]) == set(full.sentences()[1:])
    tested = table.dropna(subset="p_value")
    np.testing.assert_allclose(tested["adjusted"], holm(tested["p_value"].tolist()), **DOUBLE)
    assert full.sentences()[0] == full.verdict()
    assert f"accuracy {full.evaluation.accuracy}" in full.verdict()
    assert "track" in full["group leak"].sentence()


def test_one_layer_can_be_asked_for_and_equal_input_gives_equal_answers():
    acts, _ = planted(1.8, clips=4)
    sweep = fit_probes(acts, l2=[0.1], shuffles=0, progress=False)
    one, two = (diagnose(acts, sweep=sweep, layer=0) for _ in range(2))
    assert one.evaluation.layer == 0
    assert one.sentences() == two.sentences()
    assert one.table().drop(columns="sentence").equals(two.table().drop(columns="sentence"))


def test_probes_are_fitted_where_none_are_given():
    acts = pf.clean(0).acts
    found = diagnose(acts, views=False)
    assert found.evaluation.l2 == fit_probes(acts, shuffles=0, progress=False).best.l2
    assert not found.alarms


def test_alarms_survive_the_correction_and_words_follow_them():
    class Fault:
        def __init__(self, p_value, effect=0.5):
            self.p_value, self.effect = p_value, effect

        def sentence(self, alarm=None):
            return f"alarm is {alarm}"

    tests = {"a": Fault(0.02), "b": Fault(0.001), "c": Fault(0.5), "d": Fault(None)}
    found = {finding.name: finding for finding in _judged(tests)}
    # 0.02 alone would do; the second of three it must be below 0.025.
    assert [name for name, finding in found.items() if finding.alarm] == ["a", "b"]
    assert [finding.alarm for finding in _judged({**tests, "e": Fault(0.9)})] == [False, True, *[False] * 3]
    assert found["a"].sentence() == "alarm is True"
    assert found["d"].adjusted is None
    few = _judged({"label noise": Fault(0.001, effect=0.029)})
    many = _judged({"label noise": Fault(0.001, effect=0.031)})
    assert (few[0].alarm, many[0].alarm) == (False, True)


def test_imbalance_raises_an_alarm_of_its_own():
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(60), 5)
    y = np.array([0] * 48 + [1] * 6 + [2] * 6)[group]
    x = 1.2 * np.eye(6)[y] + rng.standard_normal((300, 6))
    acts = activations(x[:, None], pf.NAMES[y], np.array([f"t{n}" for n in group]))
    found = diagnose(acts, sweep=pf.probes(acts), views=False)
    assert "class imbalance" in {finding.name for finding in found.alarms}
    assert "alarm: " in found.verdict()
    assert "class imbalance" in found.verdict()
    assert found.sentences()[1] == found.alarms[0].sentence()
