"""The laws for every operation x schedule x rows x gate x chance, drawn together in batches of any size.

A row's result must not depend on its neighbours, so one batch of 240 plans tests them all at once.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import cache
from itertools import compress, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from generation_samples import _residuals
from steering_fixture import direction, untraced
from tolerances import NETWORK, PUSHED, STREAM, draws, same_codes

from workbench.errors import Cancelled
from workbench.generation import compiled
from workbench.generation.edits import compile_plans
from workbench.generation.generate import generate
from workbench.generation.steer import run_steered
from workbench.model import network
from workbench.model.load import load
from workbench.steering import Gate, ReadOut, Steering, constant, pulse, ramp, window
from workbench.steering.operations import OPERATIONS

PROMPT, RATE, FRAMES, VISITS, LAYER, READ = "a calm tune", 25, 12, 15, 1, (3, "resid_post")
SCHEDULES = {
    "constant": lambda step: 1.0,
    "window": lambda step: float(6 <= step < 10),
    "ramp": lambda step: min(max((step - 2) / 5, 0.0), 1.0),
    "pulse": lambda step: float(step % 3 == 0),
}
WRITTEN = {
    "constant": constant(),
    "window": window(0.24, 0.4),
    "ramp": ramp(0.08, 0.28),
    "pulse": pulse(every_steps=3),
}
CASES = list(product(OPERATIONS, SCHEDULES, ("cond", "null", "both"), (None, "gate"), (1.0, 0.5)))
DOSES = {"add": 0.8, "norm_scaled_add": 0.4, "norm_shrink": 0.4, "keep_norm": 0.8, "remove": 0.9}
DOSES |= {"clamp": 5.0, "patch": 0.9}


@cache
def read_out(model: Any) -> ReadOut:
    """A random read-out that reads about half of what the unsteered model does as jazz."""
    weights = 0.1 * np.random.default_rng(8).standard_normal((2, 32))
    middle = drawn(model, [None] * 5, watched=[READ])[1][READ].mean((0, 1)).numpy()
    return ReadOut(("jazz", "rock"), weights, -weights @ middle, READ[0], site=READ[1])


def plan(model: Any, case: tuple[Any, ...], **changes: Any) -> Steering:
    operation, schedule, rows, gate, chance = case
    kept = {"schedule": WRITTEN[schedule], "operation": operation, "branch": rows, "chance": chance}
    over = 0.12 if rows == "both" else 0.28  # two gates of one probe need not average as long
    kept["gate"] = Gate(read_out(model), "jazz", "below", 0.5, over) if gate else None
    return direction(model, LAYER).at(**{"dose": DOSES[operation], **kept, **changes})


def drawn(
    model: Any,
    plans: list[Any],
    *,
    watched: Any = (),
    seeds: Any = None,
    engine: Any = run_steered,
    **settings: Any,
) -> Any:
    """(receipts, seen, codes) of one batch, all rows with the same prompt, row i with seed i % 5 if None."""
    seeds = seeds or [number % 5 for number in range(len(plans))]
    run = model.sampling([PROMPT] * len(plans), seeds=seeds, frames=FRAMES, **{"top_k": 50, **settings})
    seconds = [step / RATE for step in range(VISITS)]
    edits = compile_plans(plans, seconds, guided=run.guided, device_of=model.device_of, seeds=seeds)
    writer, seen = engine(model, run, edits, watched)
    every = [edit for group in edits.values() for edit in group]
    return writer.receipts(len(plans), every, seconds), seen, run.codes.numpy()


@pytest.fixture(scope="module", params=["float32", "int8", "int4"])
def tiny_model(tiny_folder: Path, request: Any) -> Any:
    """The tiny model, for each law in each precision whose residual stream is float32."""
    return load(tiny_folder, device="cpu", dtype=request.param)


@pytest.fixture(scope="module")
def batch(tiny_model: Any) -> Any:
    """All cases in one batch: receipts, what layer 1 and the gate's place held, codes."""
    places = [(LAYER, "resid_post"), READ]
    return drawn(tiny_model, [plan(tiny_model, case) for case in CASES], watched=places)


@pytest.fixture(scope="module")
def plain(tiny_model: Any) -> Any:
    """The same without steering, for the five seeds."""
    return drawn(tiny_model, [None] * 5, watched=[(LAYER, "resid_post")])


def test_law_12_the_compiled_engine_draws_what_the_trace_draws(
    tiny_model: Any, batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "BACKEND", "eager")
    plans = [plan(tiny_model, case) for case in CASES]
    with draws() as gaps:
        places = [(LAYER, "resid_post"), READ]
        receipts, seen, codes = drawn(tiny_model, plans, watched=places, engine=compiled.run_compiled)
    if tiny_model.precision == "float32":
        same_codes(codes, batch[2], gaps)
    same, most = (codes == batch[2]).all((1, 2)), STREAM[tiny_model.precision]
    assert same.mean() > 0.95  # in low precision candidates lie further apart that a rounding can tie
    for place, values in batch[1].items():
        apart = (seen[place] - values).norm(dim=-1) / values.norm(dim=-1)
        assert float(apart[:, same].max()) < most, place
    norm = float(batch[1][LAYER, "resid_post"].norm(dim=-1).mean())
    for one, other in compress(zip(receipts, batch[0], strict=True), same):
        assert one.cells.reason.equals(other.cells.reason)
        assert one.cells.planned.equals(other.cells.planned)
        assert np.allclose(one.cells.norm_change, other.cells.norm_change, rtol=most, atol=most * norm)


def open_gates(reads: ReadOut, seen: np.ndarray, count: int) -> np.ndarray:
    """Whether a gate over `count` readings is open at each step (visits, B), from what its place held."""
    logits = seen @ reads.weights.T + reads.bias
    jazz = 1 / (1 + np.exp(logits[..., 1] - logits[..., 0]))
    opened = np.ones(jazz.shape, dtype=bool)
    for step in range(2, VISITS):
        opened[step] = jazz[max(1, step - count) : step].mean(0) < 0.5
    return opened


def test_law_04_the_receipt_equals_an_independent_computation(tiny_model: Any, batch: Any) -> None:
    receipts, seen, _codes = batch
    held = seen[READ].numpy()
    short, slow = (open_gates(read_out(tiny_model), held, count) for count in (3, 7))
    met: set[str] = set()
    size = direction(tiny_model, LAYER).residual_norm
    for clip, ((operation, schedule, rows, gate, chance), receipt) in enumerate(
        zip(CASES, receipts, strict=True)
    ):
        assert receipt.ok
        halves, opened = (["cond", "null"], short) if rows == "both" else ([rows], slow)
        for half in halves:
            cells = receipt.cells[receipt.cells.row == half]
            luck = np.random.default_rng([clip % 5, 0, int(half == "null")]).random(VISITS) < chance
            factor = np.array([SCHEDULES[schedule](step) for step in range(VISITS)])
            free = opened[:, clip] if gate else np.ones(VISITS, dtype=bool)
            planned = factor * luck * free
            assert cells.planned.to_numpy() == pytest.approx(planned)
            changed = cells.norm_change.to_numpy()
            assert (changed[planned == 0] == 0).all()
            if operation == "add":
                assert np.allclose(changed, planned * DOSES["add"] * size, **PUSHED)
            else:
                assert (changed[planned != 0] > 0).all()
            told = np.select([factor == 0, ~luck, ~free], ["schedule", "chance", "gate"], default="")
            assert cells.reason.tolist() == told.tolist()
            met |= set(told)
        assert len(receipt) == VISITS * len(halves)
    assert met == {"", "schedule", "chance", "gate"}, "every reason must have occurred"
    assert 0.2 < short[2:].mean() < 0.8, "gates must open and close"
    assert (short != slow).any()


def test_law_05_remove_and_clamp_reach_their_targets_where_they_act(tiny_model: Any) -> None:
    one = direction(tiny_model, LAYER)
    plans = [
        plan(tiny_model, case, **({} if case[0] == "clamp" else {"dose": 1.0}))
        for case in CASES
        if OPERATIONS[case[0]].has_target
    ]
    receipts, seen, _codes = drawn(tiny_model, plans, watched=[(LAYER, "resid_post")])
    along = seen[LAYER, "resid_post"].numpy() @ one.vector
    checked = 0
    for clip, (steering, receipt) in enumerate(zip(plans, receipts, strict=True)):
        (term,), cells = steering.terms, receipt.cells
        full = cells[(cells.row == "cond") & (cells.planned == 1)]
        target = term.dose if term.operation == "clamp" else 0.0
        assert np.allclose(along[full.step, clip], target, **NETWORK)
        checked += len(full)
    assert checked > 200


@pytest.mark.parametrize("rows", ["cond", "both"])
def test_law_05_a_push_and_its_opposite_cancel_in_any_order(tiny_model: Any, rows: str) -> None:
    one, other = direction(tiny_model, LAYER), direction(tiny_model, LAYER, seed=1, name="rock")
    push, second = one.at(0.8, branch=rows), other.at(0.3, branch=rows)
    plans = [None, push - push, push + second, second + push]
    _receipts, seen, _codes = drawn(tiny_model, plans, watched=[(LAYER, "resid_post")], seeds=[3] * 4)
    first = seen[LAYER, "resid_post"][0]  # all rows have read the same so far
    size = first[0].norm()
    assert (first[1] - first[0]).norm() < 1e-6 * size
    assert (first[2] - first[3]).norm() < 1e-6 * size
    assert (first[2] - first[0]).norm() > 0.1 * size


def test_law_01_dose_0_and_whatever_never_acts_is_bit_identical(tiny_model: Any) -> None:
    never = [plan(tiny_model, case, dose=0.0) for case in CASES if case[0] != "clamp"]
    never += [plan(tiny_model, case, chance=0.0) for case in CASES if case[4] == 1.0]
    shut = Gate(replace(read_out(tiny_model), bias=[99.0, 0.0]), "jazz", "below", 0.5, 0.0)
    late = window(0.08, 9)  # there is a reading from step 2 on
    never += [plan(tiny_model, case, schedule=late, gate=shut) for case in CASES if case[1] == "constant"]
    receipts, _seen, codes = drawn(tiny_model, never)
    assert np.array_equal(codes, drawn(tiny_model, [None] * len(never))[2])
    for receipt in receipts:
        assert receipt.ok
        assert receipt.changed == 0
    assert "dose 0" in set(receipts[0].cells.reason)
    assert set(receipts[-1].cells.reason) <= {"schedule", "gate", "chance"}


def test_law_03_nothing_changes_before_the_first_step_that_may_act(tiny_model: Any, batch: Any) -> None:
    moved, unsteered = 0, drawn(tiny_model, [None] * len(CASES))[2]
    for plain, case, receipt, codes in zip(unsteered, CASES, batch[0], batch[2], strict=True):
        acting = receipt.cells[receipt.cells.norm_change > 0].step
        first = int(acting.min()) if len(acting) else VISITS
        untouched = max(0, first - 3)
        assert np.array_equal(codes[:, :untouched], plain[:, :untouched]), case
        moved += not np.array_equal(codes, plain)
    assert moved > 0.8 * len(CASES), "most plans must be heard"


@pytest.mark.parametrize("size", [1, 7])
def test_law_12_a_row_does_not_depend_on_its_neighbours(tiny_model: Any, batch: Any, size: int) -> None:
    some = list(range(0, 5 * 48, 31 if size == 1 else 12))[: 4 if size == 1 else 14]
    for start in range(0, len(some), size):
        part = some[start : start + size]
        plans = [plan(tiny_model, CASES[clip]) for clip in part]
        with draws() as gaps:
            receipts, _seen, codes = drawn(tiny_model, plans, seeds=[clip % 5 for clip in part])
        for place, clip in enumerate(part):
            if not same_codes(codes[place], batch[2][clip], gaps):
                continue
            one, other = receipts[place].cells, batch[0][clip].cells
            assert one.reason.equals(other.reason)
            assert np.allclose(one.norm_change, other.norm_change, **NETWORK)


@pytest.mark.parametrize("stop_at", [0, 7])
@pytest.mark.parametrize("how", ["raise", "cancel"])
def test_law_02_a_loop_that_ends_half_way_leaves_nothing(
    tiny_model: Any, tiny_folder: Path, plain: Any, how: str, stop_at: int
) -> None:
    cancel = threading.Event()

    def stop(step: int, _codes: torch.Tensor) -> None:
        if step == stop_at:
            cancel.set()
            if how == "raise":
                raise ZeroDivisionError

    plans = [plan(tiny_model, case) for case in CASES[::5]]
    with pytest.raises(ZeroDivisionError if how == "raise" else Cancelled):
        drawn(tiny_model, plans, on_step=stop, cancel=cancel)
    exact = tiny_model.precision == "float32"
    fresh = untraced(tiny_folder) if exact else load(tiny_folder, dtype=tiny_model.precision).musicgen
    for traced, clean in zip(_residuals(tiny_model.musicgen), _residuals(fresh), strict=True):
        assert torch.equal(traced, clean)
    assert np.array_equal(drawn(tiny_model, [None] * 5)[2], plain[2])


def test_law_10_what_a_take_says_of_its_plan_makes_the_same_take(tiny_model: Any) -> None:
    case = ("add", "ramp", "both", "gate", 0.5)
    steering = plan(tiny_model, case)
    settings = {"seconds": 0.48, "seed": 2, "progress": False}
    take = generate(tiny_model, PROMPT, steering=steering, **settings)
    again = Steering.parse(take.steering, steering.directions, steering.read_outs)
    assert generate(tiny_model, PROMPT, steering=again, **settings) == take
    stored = Steering.from_json(take.steering_json, steering.directions, steering.read_outs)
    assert stored == steering


def test_law_11_cond_only_steering_leaves_null_rows_alone(
    tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = [plan(tiny_model, case) for case in CASES if case[2] == "cond"]
    forced = torch.tensor([[5, 60, 33, 7]]).repeat(len(plans), 1)
    monkeypatch.setattr(network, "draw", lambda _logits, _run: forced)
    kept: list[torch.Tensor] = []
    blocks = tiny_model.musicgen.decoder.model.decoder.layers
    handles = [block.register_forward_hook(lambda _b, _a, out: kept.append(out.clone())) for block in blocks]
    drawn(tiny_model, [None] * len(plans))
    unsteered = torch.stack(kept)
    kept.clear()
    receipts = drawn(tiny_model, plans)[0]
    for handle in handles:
        handle.remove()
    steered, half = torch.stack(kept), len(plans)
    assert torch.equal(steered[:, half:], unsteered[:, half:])
    moved = ((steered - unsteered)[:, :half].abs().amax(dim=(0, 2, 3)) > 0).tolist()
    assert moved == [receipt.changed > 0 for receipt in receipts]
    assert sum(moved) > 0.75 * half
