"""From doses and settings to a plan, groups of directions, and the line that a plan is written in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from steering_fixture import direction

from workbench.errors import SteeringError
from workbench.model.capture import capture
from workbench.probing import fit_probes
from workbench.probing.probe import ProbeSweep
from workbench.show.widgets.steer_lab import in_words, wanted_takes
from workbench.show.widgets.steer_lab_plan import (
    GIVEN,
    Group,
    PlanLine,
    SteeringOptions,
    groups_of,
    plan_of,
    readers_of,
)
from workbench.steering import Steering, ramp

LAYERS = range(4)


def pushes(model: Any, layers: Iterable[int] = (2,), **doses: float) -> list[Any]:
    """Return pushes whose directions share a part, at layer 2 unless there are more layers."""
    made = []
    for number, (name, dose) in enumerate(doses.items()):
        held = {layer: direction(model, layer, seed=0) for layer in layers}
        if number:
            held = {
                layer: (one + direction(model, layer, seed=number)).unit().named(name)
                for layer, one in held.items()
            }
        made.append((dose, {layer: one.named(name) for layer, one in held.items()}))
    return made


@pytest.fixture(scope="module")
def sweeps(tiny_model: Any, tiny_dataset: Any) -> dict[str, ProbeSweep]:
    acts = capture(tiny_model, tiny_dataset, cache=False, progress=False)
    settings: dict[str, Any] = {"folds": 3, "shuffles": 0, "progress": False}
    return {
        "means": fit_probes(acts, method="means", **settings),
        "weight": fit_probes(acts, l2=[1.0], **settings),
    }


# ---------------------------------------------------------------------------------------------- plans


def test_doses_of_0_are_left_out_and_settings_reach_every_term(tiny_model: Any) -> None:
    settings: dict[str, Any] = {"schedule": ramp(1, 3), "branch": "both", "chance": 0.5}
    plan = plan_of(pushes(tiny_model, jazz=0.2, rock=0.0, slow=-0.1), operation="keep_norm", **settings)
    assert plan is not None
    told = "keep_norm(0.2*jazz@2) + keep_norm(-0.1*slow@2) | ramp(1s,3s) | both | chance(0.5)"
    assert plan.text() == told
    assert plan_of(pushes(tiny_model, jazz=0.0)) is None


def test_directions_at_right_angles_say_so_in_their_names(tiny_model: Any) -> None:
    given = pushes(tiny_model, jazz=0.2, slow=0.1, calm=0.1)
    assert given[0][1][2].cosine(given[1][1][2]) > 0.3
    plan = plan_of(given, angles="gram-schmidt")
    assert plan is not None
    jazz, slow, calm = (term.direction for term in plan.terms)
    assert [one.name for one in (jazz, slow, calm)] == [
        "jazz",
        "slow without jazz",
        "calm without jazz, slow",
    ]
    assert jazz == given[0][1][2]
    assert max(abs(jazz.cosine(slow)), abs(jazz.cosine(calm)), abs(slow.cosine(calm))) < 1e-5
    alike = plan_of(given, angles="symmetric")
    assert alike is not None
    assert alike.terms[1].direction.name == "slow apart from jazz, calm"
    alone = plan_of(given[:1], angles="symmetric")
    assert alone is not None and alone.text() == "0.2*jazz@2 | constant | cond"


def test_a_spread_dose_adds_up_at_right_angles_in_every_layer(tiny_model: Any) -> None:
    plan = plan_of(pushes(tiny_model, LAYERS, jazz=0.2, slow=0.1), angles="gram-schmidt")
    assert plan is not None and plan.layers == tuple(LAYERS)
    for name, dose in (("jazz", 0.2), ("slow without jazz", 0.1)):
        doses = [term.dose for term in plan.terms if term.direction.name == name]
        assert len(doses) == 4 and sum(doses) == pytest.approx(dose, abs=1e-3)  # of four decimals each
    for layer in LAYERS:
        jazz, slow = (term.direction for term in plan.at_layer(layer))
        assert abs(jazz.cosine(slow)) < 1e-5


def test_a_clamp_holds_the_projection_that_the_dose_stands_for(tiny_model: Any) -> None:
    plan = plan_of(pushes(tiny_model, jazz=0.5), operation="clamp")
    assert plan is not None
    norm = float(tiny_model.residual_norms()[2])
    assert plan.terms[0].dose == pytest.approx(0.5 * norm, abs=1e-3)  # told with three decimals
    with pytest.raises(SteeringError, match="no dose to share"):
        plan_of(pushes(tiny_model, LAYERS, jazz=0.5), operation="clamp")


# --------------------------------------------------------------------------------------------- groups


def test_groups_come_from_probes_from_methods_and_from_directions(sweeps: Any, tiny_model: Any) -> None:
    own = {"slow": direction(tiny_model, 1, name="slow")}
    both, tempo = groups_of({"genre": sweeps, "tempo": own})
    assert both.names == ("classical", "jazz", "rock") and both.layers == (0, 1, 2, 3)
    assert both.methods == ("means", "weight")
    for method, sweep in sweeps.items():
        assert both.found[method]["jazz"][1] == sweep[1].direction("jazz")
    assert tempo.methods == (GIVEN,) and tempo.layers == ()
    assert tempo.found == {GIVEN: {"slow": {1: own["slow"]}}}
    (flat,) = groups_of(own)
    assert flat.names == ("slow",)
    (alone,) = groups_of(sweeps["means"])
    assert alone.name == "genre" and alone.methods == ("means",)


def test_groups_that_make_no_sense_are_refused(sweeps: Any, tiny_model: Any) -> None:
    own = {"jazz": direction(tiny_model, 1)}
    for given, told in (
        ({}, "holds no direction"),
        ([own], "list holds no direction"),
        ({"genre": sweeps, "more": own}, "jazz stands in two groups"),
        ({"genre": {}}, "'genre' holds no directions"),
        ({"genre": {"a": 1}}, "'genre' holds no directions"),
    ):
        with pytest.raises(SteeringError, match=told):
            groups_of(given)


# ------------------------------------------------------------------------------- how, when and where


def made_options(sweeps: Any) -> tuple[SteeringOptions, list[int]]:
    told: list[int] = []
    groups = groups_of({"genre": sweeps})
    options = SteeringOptions(groups, readers_of([sweeps["means"][3]]), lambda: told.append(1))
    assert told == [], "making the controls is no change"
    return options, told


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("ramp", "ramp(1s,3s)"), ("fade", "fade(1s,3s)"), ("window", "window(1s,3s)"),
        ("pulse", "pulse(1s,0.5s)"), ("pulse_steps", "pulse(25 steps)"), ("decay", "decay(2s)"),
        ("knots", "knots(0s:0,2s:1,4s:0)"),
    ],
)  # fmt: skip
def test_every_schedule_begins_with_numbers_that_make_sense(sweeps: Any, kind: str, text: str) -> None:
    options, told = made_options(sweeps)
    options.schedule.value = kind
    assert str(options.settings["schedule"]) == text and told == [1]
    shown = [
        box.description for box in (options.first, options.second, options.points) if box.layout.display == ""
    ]
    assert len(shown) == {"pulse_steps": 1, "decay": 1, "knots": 1}.get(kind, 2)
    if kind == "ramp":
        options.second.value = 4.500000000000001
        assert str(options.settings["schedule"]) == "ramp(1s,4.5s)" and told == [1, 1]


def test_a_gate_reads_the_class_that_is_chosen(sweeps: Any) -> None:
    options, told = made_options(sweeps)
    assert options.settings["gate"] is None
    options.gate.label = "jazz (genre, layer 3)"
    options.side.value, options.threshold.value, options.over.value = "above", 0.4, 0.0
    gate = options.settings["gate"]
    assert gate is not None and len(told) == 4
    assert (gate.class_, gate.side, gate.threshold, gate.over) == ("jazz", "above", 0.4, 0.0)
    assert gate.read_out == sweeps["means"][3].read_out()


def test_of_two_probes_that_read_the_same_the_first_makes_gates(sweeps: Any) -> None:
    held = readers_of([sweeps["means"][3], sweeps["weight"][3], sweeps["weight"][2]])
    assert held == [sweeps["means"][3].read_out(), sweeps["weight"][2].read_out()]


# --------------------------------------------------------------------------------------------- the line


def made_line(model: Any, sweeps: Any, method: str = "means") -> PlanLine:
    groups: list[Group] = groups_of({"genre": sweeps})
    return PlanLine(model, groups, readers_of([sweeps["means"][3]]), lambda _group: method)


def test_a_text_is_understood_at_every_layer_and_read_back(tiny_model: Any, sweeps: Any) -> None:
    line = made_line(tiny_model, sweeps)
    line.text = "0.3*jazz@1 - .1 * rock@3 | fade(1s, 2s) | gate(jazz@3 < 0.8)"
    assert line.fault is None and line.steering is not None
    told = "0.3*jazz@1 - 0.1*rock@3 | fade(1s,2s) | cond | gate(jazz@3 &lt; 0.8 over 1s)"
    assert told in line.note.value
    assert line.steering.terms[0].direction == sweeps["means"][1].direction("jazz")
    other = sweeps["weight"][1].direction("jazz")
    assert made_line(tiny_model, sweeps, "weight").directions()["jazz@1"] == other
    line.text = f"0.3*jazz#{other.fingerprint[:12]}@1"
    assert line.steering.terms[0].direction == other
    line.text = " "
    assert line.steering is None and line.fault is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("0.3*jaz@1", "classical, jazz, rock, made at layers 0, 1, 2, 3"),
        ("0.3*", "the name of a direction"),
        ("0.3*jazz@1 | ramp(3s,1s)", "before its end"),
        ("0.3*jazz@1>9", "layers 0-3"),
        ("0.3*jazz@1 | gate(blues@3 < 0.5)", "the probes given read"),
    ],
)
def test_a_wrong_text_is_told_and_nothing_is_lost(tiny_model: Any, sweeps: Any, text: str, told: str) -> None:
    line = made_line(tiny_model, sweeps)
    line.text = "0.3*jazz@1"
    before = line.steering
    line.box.value = text
    assert line.text == text and line.steering is before and isinstance(line.fault, SteeringError)
    assert told in str(line.fault) and "class='wb-error'" in line.note.value
    line.text = "0.3*jazz@1"
    assert line.fault is None and "class='wb-error'" not in line.note.value


def test_what_a_plan_has_used_stays_known(tiny_model: Any, sweeps: Any) -> None:
    line = made_line(tiny_model, sweeps)
    given = pushes(tiny_model, jazz=0.2, slow=0.1)
    line.write(lambda: plan_of(given, angles="gram-schmidt"))
    kept = line.text
    line.write(lambda: None)
    assert line.text == "none" and line.steering is None
    line.text = kept.replace("0.1*", "0.3*")
    assert line.fault is None and line.steering is not None
    assert line.steering.terms[1].dose == 0.3
    assert abs(line.steering.terms[1].direction.cosine(given[0][1][2])) < 1e-5


# --------------------------------------------------------------------------------------------- the takes


def test_what_is_made_is_the_twin_the_push_the_words_and_the_control(tiny_model: Any) -> None:
    def methods(plan: Steering | None, **more: bool) -> list[str]:
        return [trial.method for trial in wanted_takes("a tune", 3, plan, **more)]

    assert methods(None, prompted=True, control=True) == ["unsteered"]
    plan = plan_of(pushes(tiny_model, jazz=0.2, slow=-0.1, calm=0.1), angles="gram-schmidt")
    assert plan is not None
    wanted = wanted_takes("a tune", 3, plan, prompted=True, control=True)
    names = [
        "unsteered",
        "jazz 0.2, slow -0.1, calm 0.1, at right angles",
        "in words: a tune, jazz, calm",
        "random direction",
    ]
    assert [one.method for one in wanted] == names
    assert [one.plan is None for one in wanted] == [True, False, True, False]
    control = wanted[3].plan
    assert control is not None and [term.dose for term in control.terms] == [0.2, -0.1, 0.1]
    assert abs(np.dot(control.terms[0].direction.vector, plan.terms[0].direction.vector)) < 0.7
    away = plan_of(pushes(tiny_model, jazz=-0.2))
    assert away is not None and in_words("a tune", away) == "a tune"
    assert methods(away, prompted=True) == ["unsteered", "jazz -0.2"]
