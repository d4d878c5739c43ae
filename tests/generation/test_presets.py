"""Plans of published systems, each against a few lines of plain hooks on transformers' own `generate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from steering_fixture import direction, prompt_ids, transformers_codes, untraced
from tolerances import PUSHED

from workbench.errors import SteeringError
from workbench.generation.generate import generate
from workbench.generation.take import Take
from workbench.steering import ReadOut, decay
from workbench.steering.together import PRESETS, genre_paper, means_everywhere, musicrfm, smitin

PROMPT, SEED, FRAMES = "a calm tune", 3, 50


def take_of(model: Any, plan: Any) -> Take:
    return generate(model, PROMPT, steering=plan, seed=SEED, seconds=FRAMES / 25, progress=False)


def codes_of(model: Any, folder: Path, pushes: Any) -> np.ndarray:
    settings: Any = {"seed": SEED, "frames": FRAMES, "guidance_scale": 3.0, "top_k": 50}
    return transformers_codes(untraced(folder), prompt_ids(model, PROMPT), pushes=pushes, **settings)


def unit(one: Any) -> torch.Tensor:
    return torch.tensor(one.vector)


def test_the_genre_papers_update_equals_plain_hooks(tiny_model: Any, tiny_folder: Path) -> None:
    one = direction(tiny_model, 1)

    def push(stream: torch.Tensor, step: int) -> None:
        if step % 25 == 0:
            stream[0] = (stream[0] + 0.6 * stream[0].norm() * unit(one)) / 1.6

    take = take_of(tiny_model, genre_paper([one], 0.6))
    assert np.array_equal(take.codes, codes_of(tiny_model, tiny_folder, {1: push}))
    assert not np.array_equal(take.codes, take_of(tiny_model, None).codes)
    assert take.receipt.changed == 3 and take.receipt.ok


def test_musicrfm_equals_plain_hooks(tiny_model: Any, tiny_folder: Path) -> None:
    ranked = [direction(tiny_model, layer) for layer in (2, 0, 3)]  # the best layer first

    def pushing(place: int, one: Any) -> Any:
        draws = [np.random.default_rng([SEED, place, row]).random(FRAMES + 3) < 0.3 for row in (0, 1)]

        def push(stream: torch.Tensor, step: int) -> None:
            size = 0.8 * 0.95**place * 0.5 ** (step / 25 / 1.5) * one.residual_norm
            for row in (0, 1):
                stream[row] += size * draws[row][step] * unit(one)

        return push

    take = take_of(tiny_model, musicrfm(ranked, 0.8, schedule=decay(1.5)))
    pushes = {one.layer: pushing(place, one) for place, one in enumerate(ranked)}
    assert np.array_equal(take.codes, codes_of(tiny_model, tiny_folder, pushes))
    share = take.receipt.changed / len(take.receipt)
    assert 0.2 < share < 0.4 and take.receipt.ok


def test_self_monitored_steering_equals_plain_hooks(tiny_model: Any, tiny_folder: Path) -> None:
    one, weights = direction(tiny_model, 1), 0.1 * np.random.default_rng(8).standard_normal((2, 32))
    read = ReadOut(("jazz", "rock"), weights, np.zeros(2), 3)
    heard: list[float] = []
    opened: list[bool] = []

    def push(stream: torch.Tensor, _step: int) -> None:
        opened.append(not heard or float(np.mean(heard[-25:])) < 0.5)
        stream[0] += opened[-1] * 1.5 * one.residual_norm * unit(one)

    def listen(stream: torch.Tensor, step: int) -> None:
        if step > 0:  # the first step has nothing to hear yet
            heard.append(float((stream[0, -1] @ torch.tensor(weights.T).float()).softmax(-1)[0]))

    take = take_of(tiny_model, smitin([one], 1.5, read, "jazz", below=0.5))
    assert np.array_equal(take.codes, codes_of(tiny_model, tiny_folder, {1: push, 3: listen}))
    assert (take.receipt.cells.norm_change > 0).tolist() == opened
    assert 0.1 < np.mean(opened) < 0.9, "the gate must open and close"


def test_means_in_all_layers_equal_plain_hooks(tiny_model: Any, tiny_folder: Path) -> None:
    every = [direction(tiny_model, layer) for layer in tiny_model.layers]

    def pushing(one: Any) -> Any:
        def push(stream: torch.Tensor, _step: int) -> None:
            stream[0] += 0.3 * one.residual_norm * unit(one)

        return push

    take = take_of(tiny_model, means_everywhere(every, 0.3))
    assert np.array_equal(
        take.codes, codes_of(tiny_model, tiny_folder, {one.layer: pushing(one) for one in every})
    )
    assert take.receipt.changed == len(take.receipt) == 4 * (FRAMES + 3)


def test_a_preset_without_directions_is_refused_and_each_has_a_source() -> None:
    for name, preset in PRESETS.items():
        assert "arXiv" in (preset.__doc__ or ""), name
    with pytest.raises(SteeringError, match="no direction was given"):
        genre_paper([])


@pytest.mark.parametrize("operation", ["add", "norm_scaled_add", "keep_norm", "remove"])
def test_receipts_tell_angle_and_norm_as_plain_hooks_see_them(
    tiny_model: Any, tiny_folder: Path, operation: str
) -> None:
    one, dose = direction(tiny_model, 1), {"add": 0.02, "remove": 1.0}.get(operation, 0.4)
    plan = one.at(dose, operation=operation, branch="both")
    take, seen = take_of(tiny_model, plan), []

    def push(stream: torch.Tensor, _step: int) -> None:
        for row in (0, 1):
            before, v = stream[row, 0].double(), unit(one).double()
            length, size = before.norm(), dose * one.residual_norm
            after = {
                "add": before + size * v,
                "norm_scaled_add": (before + dose * length * v) / (1 + dose),
                "keep_norm": (before + size * v) * length / (before + size * v).norm(),
                "remove": before - (before @ v) * v,
            }[operation]
            cosine = (before @ after / length / after.norm()).clamp(-1, 1)
            seen.append((row, torch.rad2deg(cosine.acos()).item(), (after.norm() / length).item()))
            stream[row, 0] = after.float()

    assert np.array_equal(take.codes, codes_of(tiny_model, tiny_folder, {1: push}))
    cells = take.receipt.cells
    for row, branch in enumerate(("cond", "null")):
        mine = cells[cells.row == branch]
        expected = np.array([numbers for number, *numbers in seen if number == row])
        # The stream of norm 100 is rounded to float32: angles to 1e-7 x 100 / 2 rad, here 1 to 30 degrees.
        assert np.allclose(mine.angle, expected[:, 0], rtol=1e-3, atol=0.0)
        assert np.allclose(mine.norm_ratio, expected[:, 1], **PUSHED)
    assert f"turned {cells.angle.mean():.1f}°, length x{cells.norm_ratio.mean():.2f}" in str(take.receipt)
    assert "<th>angle</th>" in take.receipt._repr_html_()
    still = take_of(tiny_model, one.at(0.0)).receipt.cells
    assert (still.angle == 0).all() and (still.norm_ratio == 1).all()


def test_receipts_saved_without_angles_still_load(tiny_model: Any) -> None:
    receipt = take_of(tiny_model, direction(tiny_model, 1).at(0.4)).receipt
    older = type(receipt).from_records([row[:-2] for row in receipt.to_records()])
    assert older.ok and older.changed == receipt.changed
    assert older.cells.angle.isna().all() and older.cells.norm_ratio.isna().all()
    assert "turned" not in str(older) and "turned" in str(receipt)
    assert type(receipt).from_records(older.to_records()) == older
    assert type(receipt).from_records(receipt.to_records()) == receipt
