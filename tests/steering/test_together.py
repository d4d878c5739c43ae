"""Directions together: crossfades, doses shared among layers, right angles, parts for one head."""

from __future__ import annotations

import numpy as np
import pytest
from steering_samples import JAZZ, ROCK, unit
from tolerances import NETWORK, ROUNDED, SUMMED

from workbench.errors import ActivationsError, SteeringError
from workbench.steering import Steering, crossfade, orthogonalise, pulse, split_dose
from workbench.steering.together import randomised


def test_a_crossfade_adds_up_to_one_all_the_time():
    plan = crossfade(JAZZ.at(0.5) + JAZZ.at(0.1, branch="both"), ROCK.at(0.7), 2, 6)
    assert plan.text().endswith("0.7*rock@5 | ramp(2s,6s) | cond")
    old, also, new = plan.terms
    for seconds in (0, 1.9, 2, 3.3, 6, 9):
        assert old.schedule.factor(seconds) + new.schedule.factor(seconds) == pytest.approx(1)
        assert also.schedule == old.schedule
    assert (old.schedule.factor(2), old.schedule.factor(6)) == (1, 0)
    assert also.branch == "both"


def test_a_crossfade_of_a_plan_with_a_schedule_is_refused():
    with pytest.raises(SteeringError, match="schedule of its own"):
        crossfade(JAZZ.at(0.5, schedule=pulse(1)), ROCK.at(1), 2, 6)


def test_a_dose_is_shared_among_layers_by_weight():
    directions = [unit("jazz", layer) for layer in (6, 2, 4)]
    plan = split_dose(directions, 0.8, [1, -1, 2], branch="both")
    assert [(term.at_layer, term.dose, term.branch) for term in plan.terms] == [
        (2, -0.2, "both"), (4, 0.4, "both"), (6, 0.2, "both"),
    ]  # fmt: skip
    even = split_dose({one.layer: one for one in directions}, 0.9)
    assert [term.dose for term in even.terms] == pytest.approx([0.3, 0.3, 0.3])
    assert even.layers == (2, 4, 6)


@pytest.mark.parametrize(
    ("directions", "settings", "says"),
    [
        ([], {}, "at least one"),
        ([JAZZ, ROCK], {}, "one direction per layer"),
        ({4: JAZZ}, {}, "its own layer as key"),
        ([JAZZ], {"weights": [1, 2]}, "one number per direction"),
        ([JAZZ], {"weights": [0]}, "not all 0"),
        ([JAZZ], {"operation": "remove"}, "no dose to share"),
        ([JAZZ], {"operation": "clamp"}, "no dose to share"),
    ],
)
def test_doses_that_cannot_be_shared_are_refused(directions, settings, says):
    with pytest.raises(SteeringError, match=says):
        split_dose(directions, 0.5, **settings)


THREE = [unit(name, centre=float(place)) for place, name in enumerate(("jazz", "rock", "reggae"))]


@pytest.mark.parametrize("method", ["gram-schmidt", "symmetric"])
def test_orthogonalised_directions_are_orthonormal_and_span_the_same(method):
    made = orthogonalise(THREE, method=method)
    v, w = (np.array([one.vector for one in ones]) for ones in (THREE, made))
    np.testing.assert_allclose(w @ w.T, np.eye(3), **SUMMED)
    np.testing.assert_allclose((v @ w.T) @ w, v, **SUMMED)
    assert [one.name for one in made] == ["jazz", "rock", "reggae"]
    assert [one.residual_norm for one in made] == [20.0] * 3
    mean = np.linalg.lstsq(v, [one.centre for one in THREE], rcond=None)[0]
    np.testing.assert_allclose([one.centre for one in made], w @ mean, **NETWORK)
    assert all(one.cosine(before) > 0.5 for one, before in zip(made, THREE, strict=True))
    assert Steering([one.at(0.1) for one in made]).layers == (5,)


def test_gram_schmidt_keeps_the_first_and_symmetric_knows_no_order():
    first, second, _third = orthogonalise(THREE)
    np.testing.assert_allclose(first.vector, THREE[0].vector, **ROUNDED)
    assert np.isclose(second.cosine(THREE[1].orthogonal_to(THREE[0])), 1, **ROUNDED)
    turned = orthogonalise(THREE[::-1], method="symmetric")[::-1]
    for one, other in zip(orthogonalise(THREE, method="symmetric"), turned, strict=True):
        np.testing.assert_allclose(one.vector, other.vector, **SUMMED)
    moved = {
        method: sum(np.sum((one.vector - was.vector) ** 2) for one, was in zip(made, THREE, strict=True))
        for method in ("gram-schmidt", "symmetric")
        for made in [orthogonalise(THREE, method=method)]
    }
    assert moved["symmetric"] < moved["gram-schmidt"], "Loewdin's move is the smallest"


def test_what_cannot_be_made_orthogonal_is_refused():
    assert orthogonalise([]) == ()
    with pytest.raises(SteeringError, match="made of the others"):
        orthogonalise([JAZZ, ROCK, (JAZZ - ROCK).unit()])
    with pytest.raises(SteeringError, match="layers differ"):
        orthogonalise([JAZZ, unit("rock", 3)])
    with pytest.raises(SteeringError, match="gram-schmidt, symmetric"):
        orthogonalise([JAZZ], method="qr")


def test_a_head_is_a_part_of_a_head_out_direction():
    whole = unit("jazz", 3, site="head_out", centre=2.0)
    heads = [whole.head(number, 4) for number in range(4)]
    np.testing.assert_array_equal(sum(head.vector for head in heads), whole.vector)
    assert heads[2].name == "jazz L3H2"
    assert np.flatnonzero(heads[2].vector).tolist() == [8, 9, 10, 11]
    assert (heads[2].centre, heads[2].residual_norm, heads[2].origin["head"]) == (0.0, 20.0, "2")
    assert heads[2].unit().at(0.5).terms[0].direction.site == "head_out"
    with pytest.raises(SteeringError, match="where heads are mixed"):
        JAZZ.head(0, 4)
    with pytest.raises(ActivationsError, match="heads 0-3"):
        whole.head(4, 4)


def test_a_plans_control_has_a_random_direction_for_each_own():
    plan = JAZZ.at(0.5, schedule=pulse(every_steps=2)) + JAZZ.at(-0.5, layer=JAZZ.layer + 1) + ROCK.at(0.2)
    control, other = randomised(plan, 0), randomised(plan, 1)
    first, again, third = (term.direction for term in control.terms)
    assert first == again and third != first  # what cancels out in the plan does so in its control
    for mine, term in zip(plan.terms, control.terms, strict=True):
        assert (term.dose, term.schedule, term.at_layer) == (mine.dose, mine.schedule, mine.at_layer)
        assert np.isclose(term.direction.norm, mine.direction.norm, **ROUNDED)
        assert abs(term.direction.cosine(mine.direction)) < 0.99
    vectors = [term.direction.vector for one in (control, other) for term in one.terms]
    assert len({vector.tobytes() for vector in vectors}) == 4  # two controls share no direction
