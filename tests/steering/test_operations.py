"""The five edits: one formula each, checked against arithmetic that is written out independently."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tolerances import NETWORK, SUMMED

from workbench.errors import SteeringError
from workbench.steering.operations import (
    OPERATIONS,
    UNITS,
    Operation,
    UnknownOperationError,
    add,
    find_operation,
    keep_norm,
    norm_scaled_add,
    register_operation,
    set_projection,
)

D = 48


@pytest.fixture
def h() -> torch.Tensor:
    return 7 * torch.randn(3, 5, D, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def v() -> torch.Tensor:
    vector = torch.randn(D, generator=torch.Generator().manual_seed(2))
    return vector / vector.norm()


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


def test_law_05_add_then_its_opposite_is_the_identity(h, v):
    pushed = add(h, v, 14.0)
    assert relative(pushed, h) > 0.1
    assert relative(add(pushed, v, -14.0), h) < 1e-6


def test_law_05_additions_commute(h, v):
    w = torch.roll(v, 3)
    one = add(add(h, v, 14.0), w, -6.0)
    other = add(add(h, w, -6.0), v, 14.0)
    assert relative(one, other) < 1e-6


def test_law_05_remove_leaves_projection_0_and_is_idempotent(h, v):
    removed = set_projection(h, v, 1.0, 0.0)
    assert (h @ v).abs().max() > 1
    assert (removed @ v).abs().max() < 1e-5
    assert relative(set_projection(removed, v, 1.0, 0.0), removed) < 1e-6


def test_law_05_clamp_leaves_its_target(h, v):
    assert torch.allclose(set_projection(h, v, 1.0, 3.0) @ v, torch.full(h.shape[:2], 3.0), **SUMMED)


def test_each_operation_equals_its_formula_in_plain_numpy(h, v):
    x, u = h.double().numpy(), v.double().numpy()
    norm = np.sqrt((x**2).sum(-1, keepdims=True))
    along = (x @ u)[..., None]
    pushed = x + 0.6 * 20 * u
    expected = {
        "add": pushed,
        "norm_scaled_add": (x + 0.4 * norm * u) / 1.4,
        "norm_shrink": x / 1.4,
        "keep_norm": pushed / np.sqrt((pushed**2).sum(-1, keepdims=True)) * norm,
        "remove": x - 0.5 * (along - 2.0) * u,
        "clamp": x + (3.0 - along) * u,
        "patch": 0.5 * x + 0.5 * 2.0 * u,
    }
    strengths = {
        "add": 0.6,
        "norm_scaled_add": 0.4,
        "norm_shrink": 0.4,
        "keep_norm": 0.6,
        "remove": 0.5,
        "clamp": 3.0,
        "patch": 0.5,
    }
    assert set(expected) == set(OPERATIONS)
    for name, value in expected.items():
        found = OPERATIONS[name](h, v, strengths[name], residual_norm=20.0, centre=2.0)
        np.testing.assert_allclose(found.numpy(), value, **NETWORK, err_msg=name)


def test_keep_norm_keeps_the_norm_and_turns_towards_v(h, v):
    turned = keep_norm(h, v, 20.0)
    assert torch.allclose(turned.norm(dim=-1), h.norm(dim=-1), **SUMMED)
    assert ((turned @ v) > (h @ v)).all()


def test_keep_norm_of_a_push_that_lands_on_zero_is_zero_not_nan(v):
    assert torch.equal(keep_norm(20.0 * v[None, None], v, -20.0), torch.zeros(1, 1, D))


def test_a_negative_norm_scaled_add_is_one_along_minus_v(h, v):
    assert torch.equal(norm_scaled_add(h, v, -0.5), norm_scaled_add(h, -v, 0.5))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("operation", ["add", "norm_scaled_add", "keep_norm", "remove", "patch"])
def test_law_01_strength_0_gives_back_the_same_bits(h, v, operation, dtype):
    h = h.to(dtype)
    assert torch.equal(OPERATIONS[operation](h, v, 0.0, residual_norm=20.0), h)
    assert torch.equal(OPERATIONS[operation](h, v, 0.8, residual_norm=20.0, factor=0.0), h)


def test_law_05_a_patch_puts_a_state_in_and_leaves_other_coordinates(h, v):
    part = torch.where(torch.arange(D) < D // 2, v, 0.0)
    patched = OPERATIONS["patch"](h, part / part.norm(), 1.0, centre=part.norm())
    assert torch.allclose(patched[..., : D // 2], v[: D // 2].expand(*h.shape[:2], -1), **SUMMED)
    assert torch.equal(patched[..., D // 2 :], h[..., D // 2 :])


def test_clamp_under_a_schedule_at_0_leaves_the_stream_alone(h, v):
    assert torch.equal(OPERATIONS["clamp"](h, v, 3.0, residual_norm=20.0, factor=0.0), h)
    half = OPERATIONS["clamp"](h, v, 3.0, residual_norm=20.0, factor=0.5)
    assert torch.allclose(half @ v, (h @ v + 3.0) / 2, **SUMMED)


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_the_result_has_the_precision_of_h_and_is_rounded_only_once(h, v, operation, dtype):
    h = h.to(dtype)
    found = OPERATIONS[operation](h, v, 0.3, residual_norm=20.0)
    exact = OPERATIONS[operation](h.double(), v.double(), 0.3, residual_norm=20.0)
    assert found.dtype == dtype
    # One rounding of the exact result: half a unit in the last place, plus what float32 arithmetic may shift.
    assert torch.allclose(found.double(), exact, rtol=1.01 * torch.finfo(dtype).eps / 2 + 1e-6, atol=1e-5)


def test_rows_may_have_their_own_direction_and_strength(h, v):
    vs = torch.stack([v, torch.roll(v, 1), torch.roll(v, 2)])[:, None]
    doses = torch.tensor([0.0, 0.5, -1.0])[:, None, None]
    for operation in OPERATIONS:
        together = OPERATIONS[operation](h, vs, doses, residual_norm=20.0)
        alone = [
            OPERATIONS[operation](h[i : i + 1], vs[i, 0], float(doses[i]), residual_norm=20.0)
            for i in range(3)
        ]
        assert torch.allclose(together, torch.cat(alone), **SUMMED), operation


def test_the_input_is_left_alone(h, v):
    before = h.clone()
    for operation in OPERATIONS:
        OPERATIONS[operation](h, v, 0.5, residual_norm=20.0)
    assert torch.equal(h, before)


def test_an_unknown_operation_lists_the_known_ones():
    with pytest.raises(UnknownOperationError, match=r"'push'.*add, norm_.*register_operation") as told:
        find_operation("push")
    assert isinstance(told.value, SteeringError) and isinstance(told.value, KeyError)
    with pytest.raises(SteeringError, match="a list"):
        find_operation(["add"])


def test_the_old_name_of_the_published_update_is_still_understood():
    assert find_operation("paper") is OPERATIONS["norm_scaled_add"]


@pytest.mark.parametrize("name", ["add", "paper"])
def test_a_built_in_operation_cannot_be_replaced(name):
    with pytest.raises(SteeringError, match="built-in"):
        register_operation(Operation(name, add))
    assert OPERATIONS["add"].formula is add


def test_another_operation_of_a_name_replaces_it_only_on_purpose(forget_extensions):
    first, second = Operation("odd", add), Operation("odd", keep_norm)
    assert find_operation(first) is first is find_operation("odd")
    with pytest.raises(SteeringError, match="another one"):
        find_operation(second)
    assert register_operation(second) is find_operation("odd")


@pytest.mark.parametrize(
    "wrong",
    [{"name": "two words"}, {"name": ""}, {"formula": "add"}, {"unit": "hertz"}, {"unit": "projection"}],
    ids=str,
)
def test_an_operation_that_no_plan_could_write_or_run_is_refused(wrong):
    with pytest.raises(SteeringError):
        Operation(**{"name": "odd", "formula": add, **wrong})


@pytest.mark.parametrize("unit", UNITS)
def test_the_unit_says_what_the_dose_is_to_the_formula(h, v, unit):
    seen = []

    def note(h, v, a, target=None):
        seen.append((a, target))
        return h

    Operation("note", note, unit, unit == "projection")(h, v, 0.5, factor=0.5, residual_norm=8.0, centre=3.0)
    Operation("note", note, unit, True)(h, v, 0.5, factor=0.5, residual_norm=8.0, centre=3.0)
    pushed, aimed = {
        "R": ((2.0, None), (2.0, 3.0)), "number": ((0.25, None), (0.25, 3.0)),
        "weight": ((0.25, None), (0.25, 3.0)), "projection": ((0.5, 0.5), (0.5, 0.5)),
    }[unit]  # fmt: skip
    assert seen == [pushed, aimed]
