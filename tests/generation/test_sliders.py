"""Sliders and gates while a run goes on: what was moved, when it took effect, and that it can be replayed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from steering_fixture import direction
from tolerances import PUSHED, draws, same_codes

from workbench.errors import GenerationError
from workbench.generation.edits import Sliders
from workbench.generation.engine import Callbacks, Span, draw_takes
from workbench.generation.request import Row, Settings
from workbench.generation.take import Take
from workbench.steering import Gate, ReadOut, ramp

PROMPT = "a calm tune"


def drawn(model: Any, plans: list[Any], sliders: Sliders | None = None, **more: Any) -> list[Take]:
    rows = [Row(PROMPT, plan, 3 + place) for place, plan in enumerate(plans)]
    spans = more.pop("spans", [Span(0, 12)])
    return draw_takes(model, rows, spans, Settings(top_k=50), Callbacks(**more), sliders=sliders)


class Hand:
    """Moves sliders after given steps, as another thread would between them."""

    def __init__(self, sliders: Sliders, moves: dict[int, tuple[Any, ...]], **more: Any) -> None:
        self.sliders, self.moves, self.more, self.step = sliders, moves, more, 0

    def __call__(self) -> None:
        if self.step in self.moves:
            self.sliders.slide(*self.moves[self.step], **self.more)
        self.step += 1


def test_a_moved_slider_acts_from_the_next_step_on(tiny_model: Any) -> None:
    one = direction(tiny_model, 1)
    plan = one.at(1.0) + direction(tiny_model, 2).at(0.5, schedule=ramp(0, 0.2))
    sliders = Sliders()
    (take,) = drawn(tiny_model, [plan], sliders, advance=Hand(sliders, {4: (0, 0.25), 8: (0, 0.0)}))
    first = take.receipt.cells[take.receipt.cells.term == 0]
    expected = np.array([1.0] * 5 + [0.25] * 4 + [0.0] * 6)
    assert first.planned.to_numpy() == pytest.approx(expected)
    assert np.allclose(first.norm_change, expected * one.residual_norm, **PUSHED)
    assert first.reason.tolist() == [""] * 9 + ["slider"] * 6
    assert take.receipt.ok
    assert sliders.log[0, 0].tolist() == expected.tolist()
    assert sliders.log[0, 1].tolist() == [1.0] * 15


def test_what_was_moved_can_be_replayed(tiny_model: Any) -> None:
    plans = [
        direction(tiny_model, 1).at(1.0, branch="both"),
        direction(tiny_model, 2).at(1.0, operation="clamp"),
    ]
    sliders, spans = Sliders(), [Span(0, 10), Span(10, 6, 6)]
    hand = Hand(sliders, {2: (0, -0.5), 6: (0, 2.0), 15: (0, 0.3)})
    live = drawn(tiny_model, plans, sliders, advance=hand, spans=spans)
    replayed = drawn(tiny_model, plans, Sliders(sliders.log), spans=spans)
    still = drawn(tiny_model, plans, spans=spans)
    for one, other, unmoved in zip(live, replayed, still, strict=True):
        assert one == other
        assert not np.array_equal(one.codes, unmoved.codes)
    assert sliders.log[1, 0].shape == (22,)


def test_sliders_that_stand_still_change_nothing(tiny_model: Any) -> None:
    plan = direction(tiny_model, 1).at(0.7)
    sliders = Sliders()
    sliders.slide(0, 1.0)
    assert drawn(tiny_model, [plan], sliders) == drawn(tiny_model, [plan])
    off = Sliders()
    off.slide(0, 0.0)
    (take,) = drawn(tiny_model, [plan], off)
    assert np.array_equal(take.codes, drawn(tiny_model, [None])[0].codes)
    assert set(take.receipt.cells.reason) == {"slider"}


def test_a_slider_may_belong_to_one_clip(tiny_model: Any) -> None:
    plan = direction(tiny_model, 1).at(1.0)
    sliders = Sliders()
    sliders.slide(0, 0.5, clip=1)
    takes = drawn(tiny_model, [plan] * 3, sliders)
    assert [take.receipt.cells.planned.iloc[0] for take in takes] == [1.0, 0.5, 1.0]
    sliders = Sliders()
    sliders.slide(0, 0.5, clip=1)
    sliders.slide(0, 0.8)
    takes = drawn(tiny_model, [plan] * 3, sliders)
    assert [take.receipt.cells.planned.iloc[0] for take in takes] == [0.8, 0.8, 0.8], "the last move stands"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_slider_takes_finite_numbers_only(value: float) -> None:
    with pytest.raises(GenerationError, match="finite"):
        Sliders().slide(0, value)


def test_a_slider_a_gate_and_a_schedule_multiply(tiny_model: Any) -> None:
    shut = ReadOut(("a", "b"), np.zeros((2, 32)), np.array([9.0, 0.0]), 0)
    plan = direction(tiny_model, 1).at(1.0, schedule=ramp(0, 0.4), gate=Gate(shut, "a", "below", 0.5))
    plan = plan + direction(tiny_model, 1).at(1.0, schedule=ramp(0, 0.4), gate=Gate(shut, "a", "above", 0.5))
    sliders = Sliders()
    sliders.slide(1, 0.5)
    (take,) = drawn(tiny_model, [plan], sliders)
    closed, opened = (take.receipt.cells[take.receipt.cells.term == term] for term in (0, 1))
    factors = np.minimum(np.arange(15) / 10, 1)
    assert opened.planned.to_numpy() == pytest.approx(0.5 * factors)
    assert closed.planned.to_numpy() == pytest.approx(factors * (np.arange(15) < 2))
    assert closed.reason.tolist() == ["schedule", "", *["gate"] * 13]


@pytest.mark.parametrize("layer", [0, 1, 3])
@pytest.mark.parametrize("site", ["resid_pre", "head_out", "mlp_out", "resid_post"])
def test_a_gate_reads_wherever_its_probe_does_after_steering(tiny_model: Any, layer: int, site: str) -> None:
    """The push itself takes the reading across the threshold: the gate shuts, opens, shuts ..."""
    push = direction(tiny_model, layer, site=site)
    toward = ReadOut(
        ("away", "there"), np.stack([0 * push.vector, push.vector]), np.zeros(2), layer, site=site
    )
    dose = 30 / push.residual_norm
    plan = push.at(dose, gate=Gate(toward, "there", "below", 0.999, 0.0))
    (take,) = drawn(tiny_model, [plan])
    assert take.receipt.cells.reason.tolist()[:3] == ["", "", "gate"]
    assert {"", "gate"} == set(take.receipt.cells.reason)


def test_a_gated_row_reads_the_same_alone_and_in_company(tiny_model: Any) -> None:
    weights = np.random.default_rng(1).standard_normal((2, 32))
    push = direction(tiny_model, 1)
    plans = [
        push.at(
            0.5, branch=rows, gate=Gate(ReadOut(("a", "b"), weights, np.zeros(2), 2), "a", side, 0.5, 0.2)
        )
        for rows, side in (("cond", "below"), ("both", "above"), ("null", "below"))
    ]
    together = drawn(tiny_model, plans)
    for place, plan in enumerate(plans):
        with draws() as gaps:
            (alone,) = draw_takes(
                tiny_model, [Row(PROMPT, plan, 3 + place)], [Span(0, 12)], Settings(top_k=50), Callbacks()
            )
        if same_codes(alone.codes, together[place].codes, gaps):
            assert alone.receipt.cells.reason.equals(together[place].receipt.cells.reason)


def test_each_gate_is_read_once_and_none_waits_for_the_device(
    tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No step may ask the device for a value: that would wait for all that is queued there."""
    shut = ReadOut(("a", "b"), np.zeros((2, 32)), np.array([9.0, 0.0]), 2)
    plan = direction(tiny_model, 1).at(1.0, gate=Gate(shut, "a", "below", 0.5))
    asked: list[str] = []
    for name in ("item", "tolist", "__bool__", "__float__", "cpu", "numpy"):
        real = getattr(torch.Tensor, name)

        def watch(self: torch.Tensor, *args: Any, real: Any = real, name: str = name, **more: Any) -> Any:
            asked.append(name)
            return real(self, *args, **more)

        monkeypatch.setattr(torch.Tensor, name, watch)
    counts = []
    for frames in (4, 12):
        for gated in (plan, direction(tiny_model, 1).at(1.0)):
            asked.clear()
            drawn(tiny_model, [gated], spans=[Span(0, frames)])
            counts.append(len(asked))
    gated_short, plain_short, gated_long, plain_long = counts
    assert gated_long - plain_long == gated_short - plain_short
