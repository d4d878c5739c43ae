"""Generation: equal to transformers' own, steered exactly as planned, and nothing left behind."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from generation_samples import _residuals
from plain_hooks import recording
from steering_fixture import direction, prompt_ids, transformers_codes, untraced
from tolerances import NETWORK, PUSHED, RESIDUALS, SUMMED, TIE, draws, same_codes

from workbench.errors import Cancelled, GenerationError, ModelError, SteeringError
from workbench.generation import edits as cells
from workbench.generation import steer as steer_loop
from workbench.generation.generate import generate
from workbench.generation.take import Take
from workbench.model import network
from workbench.steering import Steering, ramp, window

PROMPT = "a calm tune"


def make(model: Any, prompt: Any = PROMPT, **settings: Any) -> Any:
    return generate(model, prompt, **{"seconds": 0.8, "progress": False, "seed": 3, **settings})


def same(one: Take, other: Take) -> bool:
    return np.array_equal(one.codes, other.codes) and one.clip == other.clip


@pytest.mark.parametrize("settings", [{}, {"guidance": 1.0}, {"temperature": 0.8, "top_k": 10}, {"top_k": 0}])
def test_codes_equal_transformers_generate(
    tiny_model: Any, tiny_folder: Path, settings: dict[str, Any]
) -> None:
    take = make(tiny_model, **settings)
    names = {"guidance_scale": 3.0, "temperature": 1.0, "top_k": 50}  # the fixture's own setting
    names |= {"guidance_scale" if key == "guidance" else key: value for key, value in settings.items()}
    ids = prompt_ids(tiny_model, PROMPT)
    assert np.array_equal(
        take.codes, transformers_codes(untraced(tiny_folder), ids, seed=3, frames=20, **names)
    )


def test_top_k_is_the_checkpoints_own_unless_told(tiny_model: Any) -> None:
    assert tiny_model.musicgen.generation_config.top_k == tiny_model.top_k == 50
    take = make(tiny_model)
    assert take.top_k == 50
    assert np.array_equal(take.codes, make(tiny_model, top_k=50).codes)
    assert not np.array_equal(take.codes, make(tiny_model, top_k=2).codes)


def test_steering_equals_plain_hooks_on_transformers_generate(tiny_model: Any, tiny_folder: Path) -> None:
    one, two = direction(tiny_model, 1), direction(tiny_model, 3, seed=1, name="rock")
    take = make(tiny_model, steering=two.at(-0.7, branch="both") + one.at(0.8, schedule=window(0.2, 0.5)))

    def push_one(stream: torch.Tensor, step: int) -> None:
        if 0.2 <= step / 25 < 0.5:
            stream[:1] += 0.8 * one.residual_norm * torch.tensor(one.vector)

    def push_two(stream: torch.Tensor, _step: int) -> None:
        stream += -0.7 * two.residual_norm * torch.tensor(two.vector)

    hooked = transformers_codes(
        untraced(tiny_folder), prompt_ids(tiny_model, PROMPT), seed=3, frames=20,
        pushes={1: push_one, 3: push_two}, guidance_scale=3.0, top_k=50,
    )  # fmt: skip
    assert np.array_equal(take.codes, hooked)
    assert not np.array_equal(take.codes, make(tiny_model).codes)


@pytest.mark.parametrize("operation", ["add", "norm_scaled_add", "keep_norm", "remove"])
@pytest.mark.parametrize("rows", ["cond", "null", "both"])
def test_law_01_dose_0_is_bit_identical(tiny_model: Any, operation: str, rows: str) -> None:
    take = make(tiny_model, steering=direction(tiny_model, 1).at(0.0, operation=operation, branch=rows))
    assert same(take, make(tiny_model))
    assert take.receipt.ok
    assert set(take.receipt.cells.reason) == {"dose 0"}


@pytest.mark.parametrize("stop_at", [0, 9, 22])
@pytest.mark.parametrize("how", ["raise", "cancel", "finish"])
def test_law_02_nothing_is_left_on_the_model(
    tiny_model: Any, tiny_folder: Path, how: str, stop_at: int
) -> None:
    before, cancel = make(tiny_model), threading.Event()
    plan = direction(tiny_model, 1).at(2.0) + direction(tiny_model, 2).at(1.0, branch="both")

    def stop(step: int, _codes: torch.Tensor) -> None:
        if step == stop_at and how == "raise":
            raise ZeroDivisionError
        if step == stop_at and how == "cancel":
            cancel.set()

    run = tiny_model.sampling([PROMPT], seeds=[3], frames=20, on_step=stop, cancel=cancel)
    edits = cells.compile_plans(
        [plan], [step / 25 for step in range(run.steps)], guided=True, device_of=tiny_model.device_of
    )
    last_step_cancel = how == "cancel" and stop_at == run.steps - 1  # set too late to stop anything
    if how == "finish" or last_step_cancel:
        steer_loop.run_steered(tiny_model, run, edits)
    else:
        with pytest.raises(ZeroDivisionError if how == "raise" else Cancelled):
            steer_loop.run_steered(tiny_model, run, edits)
    for traced, clean in zip(_residuals(tiny_model.musicgen), _residuals(untraced(tiny_folder)), strict=True):
        assert torch.equal(traced, clean)
    assert same(make(tiny_model), before)


@pytest.mark.parametrize("start_s", [0.24, 0.52])
def test_law_03_a_schedule_changes_nothing_before_it_starts(tiny_model: Any, start_s: float) -> None:
    plain = make(tiny_model)
    steered = make(tiny_model, steering=direction(tiny_model, 1).at(4.0, schedule=window(start_s, 9)))
    untouched = round(start_s * 25) - (tiny_model.n_codebooks - 1)
    assert np.array_equal(plain.codes[:, :untouched], steered.codes[:, :untouched])
    assert not np.array_equal(plain.codes[:, untouched:], steered.codes[:, untouched:])


def test_law_04_receipt_equals_an_independent_computation(tiny_model: Any) -> None:
    one, two = direction(tiny_model, 1), direction(tiny_model, 2, name="rock")
    schedule = ramp(0.2, 0.6)
    take = make(tiny_model, steering=one.at(0.8, schedule=schedule) + two.at(-0.5, branch="both"))
    expected = {}
    for step in range(23):
        factor = min(1.0, max(0.0, (step / 25 - 0.2) / 0.4))
        expected[step, 1, "cond"] = factor * 0.8 * one.residual_norm
        expected[step, 2, "cond"] = expected[step, 2, "null"] = 0.5 * two.residual_norm
    cells_of = take.receipt.cells
    measured = {(c.step, c.layer, c.row): c.norm_change for c in cells_of.itertuples()}
    assert measured.keys() == expected.keys()
    for key, norm in expected.items():
        assert np.isclose(measured[key], norm, **PUSHED)
    assert set(cells_of.reason[cells_of.norm_change == 0]) == {"schedule"}
    assert take.receipt.ok


@pytest.mark.parametrize("operation", ["add", "norm_scaled_add", "keep_norm", "remove", "clamp"])
def test_law_04_a_deleted_edit_is_an_error(
    tiny_model: Any, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    """The edit is computed but never reaches the stream: exactly what deleting the marked line would do."""
    place = 1, "resid_post"

    class Unwritable(torch.Tensor):
        def __setitem__(self, _key: Any, _value: Any) -> None:
            return None

    plan = direction(tiny_model, 1).at(0.5, operation=operation)
    assert make(tiny_model, steering=plan).receipt.ok
    monkeypatch.setattr(
        steer_loop,
        "live",
        lambda net, at: network_output(net, at).as_subclass(Unwritable) if at == place else None,
    )
    with pytest.raises(GenerationError, match="23 planned edits did not change the residual stream"):
        make(tiny_model, steering=plan)


def network_output(net: Any, place: tuple[int, str]) -> torch.Tensor:
    output: torch.Tensor = net.block(place[0]).output
    return output


def test_law_04_an_operation_that_finds_its_target_reached_is_no_error(tiny_model: Any) -> None:
    one = direction(tiny_model, 1)
    plan = one.at(1.0, operation="remove") + one.at(0.0, operation="clamp")
    take = make(tiny_model, steering=plan)
    assert take.receipt.ok
    assert (take.receipt.cells[take.receipt.cells.term == 0].norm_change > 0).all()


def test_law_11_cond_only_steering_leaves_null_rows_alone(
    tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    forced = torch.tensor([[5, 60, 33, 7]])
    monkeypatch.setattr(network, "draw", lambda _logits, _run: forced)
    kept: list[torch.Tensor] = []
    blocks = tiny_model.musicgen.decoder.model.decoder.layers
    handles = [block.register_forward_hook(lambda _b, _a, out: kept.append(out.clone())) for block in blocks]
    make(tiny_model)
    plain = torch.stack(kept)
    kept.clear()
    make(tiny_model, steering=direction(tiny_model, 1).at(2.0))
    steered = torch.stack(kept)
    for handle in handles:
        handle.remove()
    assert torch.equal(plain[:, 1:], steered[:, 1:])
    assert not torch.equal(plain[:, :1], steered[:, :1])


def test_law_12_a_batch_gives_the_codes_of_single_runs(tiny_model: Any) -> None:
    plan = direction(tiny_model, 1).at(0.8) + direction(tiny_model, 2).at(0.3, branch="both")
    prompts = ["a calm tune", "fast jazz with piano and drums", "rock"]
    plans, seeds = [plan, None, direction(tiny_model, 1).at(-0.4, operation="norm_scaled_add")], [3, 8, 3]
    together = make(tiny_model, prompts, steering=plans, seed=seeds)
    split = make(tiny_model, prompts, steering=plans, seed=seeds, batch=2)
    for index, take in enumerate(together):
        with draws() as gaps:
            alone = make(tiny_model, prompts[index], steering=plans[index], seed=seeds[index])
        same_codes(split[index].codes, alone.codes, gaps)
        if same_codes(take.codes, alone.codes, gaps):
            norms = [one.receipt.cells.norm_change for one in (take, alone)]
            assert np.allclose(*norms, **NETWORK)


def test_law_12_the_residuals_of_a_batch_are_those_of_single_runs(tiny_model: Any) -> None:
    """With the same codes told to both, so that no draw can tell them apart."""
    prompts = ["a calm tune", "fast jazz with piano and drums", "rock"]
    ids = torch.randint(0, 64, (3, 4, 9), generator=torch.Generator().manual_seed(0))
    held = []
    for rows in (slice(0, 3), slice(0, 1), slice(1, 2), slice(2, 3)):
        with recording(tiny_model.musicgen) as kept, torch.no_grad():
            tiny_model.network.read(ids[rows], tiny_model.text(prompts[rows]))
        held.append({site: torch.cat(kept[site][2], 1) for site in kept})
    for site, together in held[0].items():
        alone = torch.cat([one[site] for one in held[1:]])
        assert float((together - alone).norm() / alone.norm()) < RESIDUALS, site


def test_codes_that_differ_without_a_tie_are_no_equal_codes(tiny_model: Any) -> None:
    with draws() as gaps:
        take = make(tiny_model)
    other = take.codes.copy()
    other[1, 3] = (other[1, 3] + 1) % 64
    assert len(gaps) == 4 * (take.codes.shape[-1] + 3) and min(gaps) >= 0
    assert same_codes(take.codes, take.codes, gaps)
    assert not same_codes(take.codes, other, [1.0, 0.1 * TIE])
    with pytest.raises(AssertionError, match=r"no draw was closer than 0\.3"):
        same_codes(take.codes, other, [1.0, 0.3])


def test_lists_and_single_values_broadcast(tiny_model: Any) -> None:
    plan = direction(tiny_model, 1).at(1.0)
    before, after = make(tiny_model, steering=[None, plan])
    for take, steering in ((before, None), (after, plan)):
        with draws() as gaps:
            alone = make(tiny_model, steering=steering)
        assert take.steering == alone.steering
        if same_codes(take.codes, alone.codes, gaps):
            assert np.allclose(take.clip.samples, alone.clip.samples, **SUMMED)
    assert [take.seed for take in make(tiny_model, seed=[1, 2, 5])] == [1, 2, 5]
    assert len(make(tiny_model, [PROMPT])) == 1
    assert isinstance(make(tiny_model), Take)


@pytest.mark.parametrize("site", ["embed", "resid_pre", "attn_out", "mlp_out", "resid_post"])
def test_every_site_can_be_steered(tiny_model: Any, site: str) -> None:
    plan = direction(tiny_model, 0, site=site).at(1.0)
    take = make(tiny_model, steering=plan)
    assert take.receipt.ok
    assert take.receipt.changed == 23
    assert not np.array_equal(take.codes, make(tiny_model).codes)


def test_null_rows_need_guidance(tiny_model: Any) -> None:
    plan = direction(tiny_model, 1).at(1.0, branch="null")
    assert make(tiny_model, steering=plan).receipt.changed == 23
    with pytest.raises(GenerationError, match="without null rows"):
        make(tiny_model, steering=plan, guidance=1.0)


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({"prompt": []}, "an empty list makes nothing"),
        ({"steering": []}, "an empty list makes nothing"),
        ({"prompt": ["a", "b"], "seed": [1, 2, 3]}, "equally long"),
        ({"prompt": [None]}, "a prompt is text"),
        ({"seed": -1}, "whole number"),
        ({"seed": 1.5}, "whole number"),
        ({"seconds": 0}, "more than 0 and at most 20.4 s"),
        ({"seconds": 60}, "more than 0 and at most 20.4 s"),
        ({"seconds": float("nan")}, "more than 0"),
        ({"temperature": 0}, "above 0"),
        ({"guidance": float("nan")}, "0 or more"),
        ({"top_k": -1}, "negative"),
        ({"steering": "jazz"}, "a plan was expected"),
    ],
)
def test_requests_that_make_no_sense_are_named(tiny_model: Any, request_: dict[str, Any], says: str) -> None:
    with pytest.raises(GenerationError, match=says):
        make(tiny_model, **request_)


def test_plans_that_do_not_fit_the_model_are_named(tiny_model: Any) -> None:
    one = direction(tiny_model, 1)
    with pytest.raises(SteeringError, match="layers 0-3"):
        make(tiny_model, steering=one.at(1.0, layer=4))
    with pytest.raises(SteeringError, match="finite"):
        one.at(float("nan"))
    stranger = type(one)(one.vector, 1, name="jazz", residual_norm=1.0, origin={"model_id": "another"})
    with pytest.raises(SteeringError, match="another"):
        make(tiny_model, steering=stranger.at(1.0))
    assert isinstance(make(tiny_model, steering=Steering()), Take)


def test_frames_are_reported_as_they_finish_and_cancel_stops(tiny_model: Any) -> None:
    reported: list[tuple[int, np.ndarray]] = []
    take = make(
        tiny_model, on_frame=lambda done, codes: reported.append((done, codes[0, :, :done].numpy().copy()))
    )
    assert [done for done, _codes in reported] == list(range(1, 21))
    assert all(np.array_equal(codes, take.codes[:, :done]) for done, codes in reported)
    cancel, seen = threading.Event(), []

    def stop(done: int, _codes: torch.Tensor) -> None:
        seen.append(done)
        if done == 5:
            cancel.set()

    with pytest.raises(Cancelled, match="before step 8 of 23"):
        make(tiny_model, on_frame=stop, cancel=cancel)
    assert seen == [1, 2, 3, 4, 5]
    assert same(make(tiny_model), take)


def test_one_trace_at_a_time_other_threads_wait(tiny_model: Any) -> None:
    expected, got = [make(tiny_model, seed=seed) for seed in range(3)], {}
    threads = [
        threading.Thread(target=lambda seed=seed: got.update({seed: make(tiny_model, seed=seed)}))
        for seed in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(same(got[seed], expected[seed]) for seed in range(3))
    with pytest.raises(ModelError, match="one trace at a time"):
        make(tiny_model, on_frame=lambda _done, _codes: make(tiny_model))
    assert same(make(tiny_model, seed=0), expected[0])


@pytest.mark.parametrize("given", [False, True])
def test_what_on_frame_does_with_its_codes_changes_nothing(tiny_model: Any, given: bool) -> None:
    audio = {"audio": make(tiny_model).codes[:, :10]} if given else {}

    def spoil(_done: int, codes: torch.Tensor) -> None:
        codes.zero_()

    assert same(make(tiny_model, on_frame=spoil, **audio), make(tiny_model, **audio))
