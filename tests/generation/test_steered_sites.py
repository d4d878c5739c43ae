"""Steering at every site really enters the model: seen at the site, and in what the block makes of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from steering_fixture import direction
from tolerances import NETWORK, PUSHED

from workbench.generation.edits import compile_plans
from workbench.generation.generate import generate
from workbench.generation.steer import run_steered
from workbench.model.network import SITES
from workbench.steering import Steering
from workbench.steering.operations import OPERATIONS

PROMPT, VISITS = "a calm tune", 11
WATCHED = [(0, site) for site in SITES]


def seen(model: Any, plan: Steering | None, given: np.ndarray | None = None) -> tuple[Any, Any]:
    """What every site of layer 0 held, by site (visits, d_model), and the receipt."""
    settings: dict[str, Any] = {"frames": 8}
    if given is not None:
        settings = {"prompt_codes": torch.tensor(given)[None], "frames": 8 + given.shape[-1]}
    run = model.sampling([PROMPT], seeds=[3], top_k=50, **settings)
    seconds = [step / 25 for step in range(run.visits)]
    edits = compile_plans([plan], seconds, guided=True, device_of=model.device_of)
    writer, held = run_steered(model, run, edits, WATCHED)
    every = [edit for group in edits.values() for edit in group]
    (receipt,) = writer.receipts(1, every, seconds)
    return {site: values[:, 0] for (_layer, site), values in held.items()}, receipt


@pytest.mark.parametrize("given", [None, np.arange(12).reshape(4, 3)], ids=["from nothing", "continued"])
@pytest.mark.parametrize("site", SITES)
def test_law_04_a_push_at_a_site_reaches_what_comes_after_it(tiny_model: Any, site: str, given: Any) -> None:
    one = direction(tiny_model, 0, site=site)
    plain, _ = seen(tiny_model, None, given)
    steered, receipt = seen(tiny_model, one.at(0.7), given)
    push = torch.tensor(0.7 * one.residual_norm * one.vector)
    moved = {name: (steered[name] - plain[name])[0] for name in SITES}  # all was equal until the first visit
    assert torch.allclose(moved[site], push, **NETWORK)
    before = [name for name in SITES[: SITES.index(site)] if (name, site) != ("embed", "resid_pre")]
    assert all(moved[name].abs().max() == 0 for name in before)
    if site == "head_out":
        mix = tiny_model.musicgen.decoder.model.decoder.layers[0].self_attn.out_proj.weight
        assert torch.allclose(moved["attn_out"], mix @ push, **NETWORK)
    if site == "mlp_out":
        assert torch.allclose(moved["resid_post"], push, **NETWORK)
    if site in ("embed", "resid_pre"):
        assert moved["head_out"].norm() > 0.01
    assert moved["resid_post"].norm() > 0.01
    assert receipt.ok
    assert receipt.changed == VISITS
    assert np.allclose(receipt.cells.norm_change, 0.7 * one.residual_norm, **PUSHED)


@pytest.mark.parametrize("site", SITES)
def test_laws_01_04_05_every_operation_at_every_site(tiny_model: Any, site: str) -> None:
    one = direction(tiny_model, 0, site=site)
    doses = {"add": 0.5, "norm_scaled_add": 0.4, "norm_shrink": 0.4, "keep_norm": 0.5}
    doses |= {"remove": 1.0, "clamp": 2.0, "patch": 1.0}
    plans = [one.at(doses[name], operation=name) for name in OPERATIONS]
    settings = {"seconds": 0.32, "seed": [3] * 8, "progress": False}
    *takes, plain = generate(tiny_model, PROMPT, steering=[*plans, None], **settings)
    for take in takes:
        assert take.receipt.ok
        assert take.receipt.changed == VISITS
        assert not np.array_equal(take.codes, plain.codes)
    held = {
        name: seen(tiny_model, plan)[0][site].numpy() for name, plan in zip(OPERATIONS, plans, strict=True)
    }
    assert held["remove"].shape == held["clamp"].shape == (VISITS, 32)
    assert np.allclose(held["remove"] @ one.vector, 0.0, **NETWORK)
    assert np.allclose(held["clamp"] @ one.vector, 2.0, **NETWORK)
    nothing = [one.at(0.0, operation=name) for name in list(OPERATIONS)[:5]]
    settings["seed"] = [3] * 5
    for take in generate(tiny_model, PROMPT, steering=nothing, **settings):
        assert np.array_equal(take.codes, plain.codes)


@pytest.mark.parametrize("head", range(4))
def test_a_head_s_push_stays_in_its_slice(tiny_model: Any, head: int) -> None:
    one = direction(tiny_model, 0, site="head_out").head(head, tiny_model.n_heads).unit()
    plain, _ = seen(tiny_model, None)
    steered, receipt = seen(tiny_model, one.at(0.7))
    moved = (steered["head_out"] - plain["head_out"])[0].numpy()
    inside = np.zeros(32, dtype=bool)
    inside[8 * head : 8 * head + 8] = True
    assert (moved[~inside] == 0).all()
    assert np.isclose(np.linalg.norm(moved), 0.7 * one.residual_norm, **PUSHED)
    assert receipt.changed == VISITS
