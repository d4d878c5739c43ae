"""Directions: algebra that keeps lengths, refusals that say why, and a round trip through disk."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from tolerances import ROUNDED

from workbench.errors import SteeringError
from workbench.steering import Direction, Term, random_direction


def direction(values=(3.0, 4.0, 0.0), **changes) -> Direction:
    kept = {"layer": 5, "name": "jazz", "residual_norm": 20.0, "centre": 1.5, "origin": {"model_id": "m"}}
    return Direction(np.array(values, np.float32), **(kept | changes))


def test_algebra_is_unnormalised_until_unit():
    jazz, rock = direction(), direction((0, 1, 0), name="rock", centre=-0.5)
    mix = 2 * jazz - 0.5 * rock
    np.testing.assert_allclose(mix.vector, [6, 7.5, 0], **ROUNDED)
    assert mix.centre == pytest.approx(2 * 1.5 + 0.5 * 0.5)
    assert mix.norm == pytest.approx(np.hypot(6, 7.5))
    np.testing.assert_allclose((-jazz).vector, [-3, -4, 0], **ROUNDED)
    np.testing.assert_allclose((jazz + rock).vector, [3, 5, 0], **ROUNDED)
    unit = mix.unit()
    assert np.isclose(unit.norm, 1, **ROUNDED)
    assert unit.centre == pytest.approx(mix.centre / mix.norm)
    assert unit.cosine(mix) == pytest.approx(1)


def test_names_tell_how_a_direction_was_composed():
    a, b = direction(name="a"), direction((1, 0, 0), name="b")
    assert (a - b).name == "a - b"
    assert (0.6 * a + 0.4 * b).name == "0.6*a + 0.4*b"
    assert (a - (a - b)).name == "a - (a - b)"
    assert (2 * (a + b)).name == "2*(a + b)"
    assert (-a).name == "-a"
    assert (a - b).unit().name == "a - b"
    assert a.named("c").name == "c"


def test_numpy_numbers_multiply_from_the_left_too():
    assert isinstance(np.float32(0.5) * direction(), Direction)
    with pytest.raises(TypeError):
        np.ones(3) * direction()


def test_cosine_and_orthogonal_part():
    a, b = direction((1, 1, 0)), direction((2, 0, 0), name="b")
    assert a.cosine(b) == pytest.approx(np.sqrt(0.5))
    rest = a.orthogonal_to(b)
    np.testing.assert_allclose(rest.vector, [0, 1, 0], **ROUNDED)
    assert np.isclose(rest.cosine(b), 0, **ROUNDED)
    assert rest.name == "jazz without b"


def test_a_direction_cannot_be_changed():
    values = np.ones(3, np.float32)
    made = direction(values)
    values[0] = 99
    assert made.vector[0] == 1
    with pytest.raises(ValueError, match="read-only"):
        made.vector[0] = 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.layer = 3


def test_equality_is_by_content():
    assert direction() == direction()
    assert hash(direction()) == hash(direction())
    for change in (
        {"layer": 6},
        {"site": "attn_out"},
        {"name": "x"},
        {"residual_norm": 2.0},
        {"centre": 0.0},
    ):
        assert direction(**change) != direction(), change
    assert direction((3, 4, 1e-6)) != direction()
    assert direction(origin={"model_id": "other"}) != direction()
    assert direction(origin={"model_id": "m", "score": "0.9"}) == direction()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"layer": 6}, "layers differ: 5 and 6"),
        ({"site": "attn_out"}, "sites differ: resid_post and attn_out"),
        ({"origin": {"model_id": "n"}}, "models differ: m and n"),
        ({"values": (1.0, 2.0)}, "widths differ: 3 and 2"),
    ],
)
def test_directions_of_different_places_do_not_mix(change, says):
    other = direction(**change)
    for combine in (lambda a, b: a + b, lambda a, b: a - b, Direction.cosine, Direction.orthogonal_to):
        with pytest.raises(SteeringError, match=says):
            combine(direction(), other)


def test_a_direction_without_a_model_mixes_and_takes_the_others_model():
    mixed = direction(origin={}) + direction()
    assert mixed.origin["model_id"] == "m"


@pytest.mark.parametrize("bad", [np.array([1, np.nan]), np.array([np.inf, 1]), np.zeros((2, 2)), np.zeros(0)])
def test_a_vector_must_be_one_finite_row(bad):
    with pytest.raises(SteeringError, match="one finite vector"):
        direction(bad)


def test_refusals_of_lengths_factors_and_names():
    with pytest.raises(SteeringError, match="length is 0"):
        (direction() - direction()).unit()
    with pytest.raises(SteeringError, match="finite"):
        direction() * float("nan")
    with pytest.raises(SteeringError, match="name is empty"):
        direction(name="")
    with pytest.raises(SteeringError, match=r"norm is 5, not 1.*\.unit\(\)"):
        direction().at(0.5)


@pytest.mark.parametrize("dose", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("operation", ["add", "norm_scaled_add", "keep_norm", "remove", "clamp"])
def test_doses_that_are_no_numbers_are_refused(dose, operation):
    with pytest.raises(SteeringError, match="finite number"):
        direction().unit().at(dose, operation=operation)


def test_a_scaled_dose_needs_the_residual_norm_that_it_is_a_multiple_of():
    unknown = dataclasses.replace(direction().unit(), residual_norm=float("nan"))
    for operation in ("add", "keep_norm"):
        with pytest.raises(SteeringError, match="residual norm"):
            unknown.at(0.5, operation=operation)
    assert unknown.at(0.5, operation="norm_scaled_add").layers == (5,)


def test_at_makes_a_plan_of_one_term():
    unit = direction().unit()
    (term,) = unit.at(0.5, branch="both", layer=7).terms
    assert term == Term(unit, 0.5, branch="both", layer=7)
    assert (term.at_layer, term.operation, term.schedule.text()) == (7, "add", "constant")


def test_law_10_a_direction_comes_back_from_disk(tmp_path):
    made = direction(name='r&b "live" – ü', origin={"model_id": "m", "score": "0.91"}).unit()
    again = Direction.load(made.save(tmp_path / "deep" / "jazz.safetensors"))
    assert again == made
    assert again.origin == made.origin
    assert again.vector.tobytes() == made.vector.tobytes()
    unknown = direction(residual_norm=float("nan"))
    assert Direction.load(unknown.save(tmp_path / "u.safetensors")) == unknown


def test_saving_twice_gives_the_same_bytes(tmp_path):
    one, two = (direction().save(tmp_path / f"{i}.safetensors").read_bytes() for i in range(2))
    assert one == two


def test_files_that_are_no_directions_are_refused(tmp_path):
    from safetensors.numpy import save_file

    (tmp_path / "text").write_text("hello")
    save_file({"vector": np.ones(3, np.float32)}, tmp_path / "bare")
    save_file(
        {"vector": np.ones(3, np.float32)}, tmp_path / "other", metadata={"workbench": '{"format": "x"}'}
    )
    whole = direction().save(tmp_path / "whole").read_bytes()
    (tmp_path / "cut").write_bytes(whole[:-4])
    for name in ("missing", "text", "bare", "other", "cut"):
        with pytest.raises(SteeringError, match="A direction was asked for from"):
            Direction.load(tmp_path / name)


def test_random_directions_are_unit_gaussians_and_repeatable():
    like = direction(np.eye(1, 4096)[0]).unit()
    one, two = random_direction(like, 1), random_direction(like, 2)
    assert one == random_direction(like, 1)
    assert np.isclose(one.norm, 1, **ROUNDED)
    assert abs(one.cosine(two)) < 0.08
    assert (one.layer, one.site, one.residual_norm, one.name) == (5, "resid_post", 20.0, "random_1")
    assert one.origin["method"] == "random"
    # Gaussian, so it prefers no axis: a tenth and nine tenths of the coordinates lie where a normal's would,
    # to 0.03 for 4096 of them.
    assert np.quantile(one.vector * 64, [0.1, 0.9]) == pytest.approx([-1.2816, 1.2816], abs=0.1)
