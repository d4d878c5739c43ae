"""Laws of patching, direct effects and the lens: all of B gives B, nothing gives A, parts add up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from steering_fixture import direction
from tolerances import NETWORK, draws, same_codes
from toy_judges import DOSE, Reference, planted

from workbench.errors import EvidenceError
from workbench.evidence import causal
from workbench.evidence.causal import Cell, Line, Passage, code_logits, lens
from workbench.evidence.search import acts_per_layer
from workbench.generation.generate import generate
from workbench.generation.take import Window
from workbench.model.folders import builtin_folder
from workbench.model.load import load
from workbench.model.network import SITES
from workbench.model.sampling import draw, guide, write_step
from workbench.model.teacher_forcing import Reading, padded_ids, read_codes, score_codes
from workbench.probing import Probe
from workbench.stats import Scores

SECONDS, LAYERS = 0.6, range(4)
STEPS = 15 + 3  # frames at 25 a second, and the largest delay
QUIET: dict[str, Any] = {"seconds": SECONDS, "progress": False}


@pytest.fixture(scope="module")
def takes(tiny_model: Any) -> tuple[Any, Any]:
    return tuple(generate(tiny_model, ["a calm tune", "fast rock"], seed=[3, 3], **QUIET))


def probe_of(model: Any, layer: int = 2, site: str = "resid_post") -> Probe:
    weights = np.random.default_rng(0).standard_normal((3, model.d_model))
    place = {"layer": layer, "site": site, "target": "genre", "residual_norm": 1.0, "model_id": model.id}
    scores = Scores(0.9, 0.8, 1.0, 0.9, 0.5, 0.5, 0.4, 0.6, 40, 10)
    names = {"classes": ("classical", "jazz", "rock"), "method": "logistic", "l2": 1.0, "scores": scores}
    return Probe(weights=weights, bias=[0.3, -0.1, 0.2], mean=np.zeros(model.d_model), **place, **names)


def final(model: Any, passage: Passage, **options: Any) -> torch.Tensor:
    place = causal.final_place(model)
    return code_logits(model, causal.read_states(model, passage, [place], **options)[place])


def scored(model: Any, passage: Passage, branch: str = "cond") -> torch.Tensor:
    ids = padded_ids(model, [passage.codes], behind=3)[0][:, :, :-1]
    text = model.text([passage.prompt]) if branch == "cond" else model.null_text(1)
    return model.network.score(ids, text)


def whole(*lines: Line) -> list[Cell]:
    return [Cell(line, 0, STEPS) for line in lines]


def test_law_patching_nothing_gives_a(tiny_model: Any, takes: Any) -> None:
    for branch in causal.BRANCHES:
        one = Passage.of(tiny_model, takes[0])
        plain = scored(tiny_model, one, branch)
        assert torch.allclose(final(tiny_model, one, branch=branch), plain, **NETWORK)


def test_law_patching_everything_from_b_gives_b(tiny_model: Any, takes: Any) -> None:
    one, other = (Passage.of(tiny_model, take) for take in takes)
    lines = [Line(layer) for layer in LAYERS]
    for branch in causal.BRANCHES:
        donor = causal.read_states(tiny_model, other, [line.place for line in lines], branch=branch)
        states = {place: rows[0] for place, rows in donor.items()}
        patched = final(tiny_model, one, branch=branch, variants=[whole(*lines), []], donor=states)
        assert torch.allclose(patched[:1], scored(tiny_model, other, branch), **NETWORK)
        assert torch.allclose(patched[1:], scored(tiny_model, one, branch), **NETWORK), "its neighbour is A"


@pytest.mark.parametrize(
    "line", [Line(0, "embed"), *(Line(n, s) for n in LAYERS for s in ("resid_pre", "resid_post"))]
)
def test_law_under_one_text_one_whole_stream_from_b_gives_b(tiny_model: Any, takes: Any, line: Line) -> None:
    one, other = Passage.of(tiny_model, takes[0]), Passage.of(tiny_model, takes[1].codes)
    other = Passage(other.codes, one.prompt, one.settings)
    donor = {line.place: causal.read_states(tiny_model, other, [line.place])[line.place][0]}
    patched = final(tiny_model, one, variants=[whole(line)], donor=donor)
    assert torch.allclose(patched, scored(tiny_model, other), **NETWORK)


@pytest.mark.parametrize("heads", [False, True])
def test_law_patching_a_passage_into_itself_changes_nothing(tiny_model: Any, takes: Any, heads: bool) -> None:
    one, other = takes
    found = causal.patch_map(
        tiny_model, one, one, probe=probe_of(tiny_model), class_="jazz", sites=SITES, heads=heads, windows=3
    )
    assert np.abs(found.values).max() < NETWORK["atol"] and found.goal == pytest.approx(found.start, abs=1e-5)
    moved = causal.patch_map(
        tiny_model, one, other, probe=probe_of(tiny_model), class_="jazz", sites=SITES, heads=heads, windows=3
    )
    early = [place for place, line in enumerate(moved.lines) if line.layer < 2]
    assert (np.abs(moved.values[0, early]).max(axis=1) > 1e-3).all(), (
        "another passage changes it at every line"
    )
    late = [place for place, line in enumerate(moved.lines) if line.layer > 2]
    assert not moved.values[0, late].any(), "what lies behind the probe cannot move it"


@pytest.mark.parametrize("line", [Line(1), Line(2, "head_out", 3), Line(1, "mlp_out")])
def test_a_patch_equals_plain_hooks(tiny_model: Any, takes: Any, line: Line) -> None:
    one, other = (Passage.of(tiny_model, take) for take in takes)
    donor = {line.place: causal.read_states(tiny_model, other, [line.place])[line.place][0]}
    patched = final(tiny_model, one, variants=[[Cell(line, 4, 9)]], donor=donor)
    block = tiny_model.musicgen.decoder.model.decoder.layers[line.layer]
    part = slice(24, 32) if line.head == 3 else slice(None)

    def write(stream: torch.Tensor) -> None:
        stream[:, 4:9, part] = donor[line.place][4:9, part]

    if line.site == "head_out":
        hook = block.self_attn.out_proj.register_forward_pre_hook(lambda _module, given: write(given[0]))
    else:
        module = block if line.site == "resid_post" else block.fc2
        hook = module.register_forward_hook(lambda _module, _given, output: write(output))
    try:
        assert torch.allclose(patched, scored(tiny_model, one), **NETWORK)
    finally:
        hook.remove()
    assert not torch.allclose(patched, scored(tiny_model, one), **NETWORK)


def test_a_map_s_numbers_are_guided_log_odds_of_the_codes(tiny_model: Any, takes: Any) -> None:
    found = causal.patch_map(tiny_model, *takes, windows=3, batch=5)
    one, other = found.onto, found.source
    differ = np.argwhere(one.codes != other.codes)

    def odds(logits: torch.Tensor) -> float:
        return float(
            np.mean(
                [
                    float(logits[0, c, t + c, other.codes[c, t]] - logits[0, c, t + c, one.codes[c, t]])
                    for c, t in differ
                ]
            )
        )

    cond, null = (scored(tiny_model, one, branch) for branch in causal.BRANCHES)
    start = odds(guide(torch.cat([cond, null]), 3.0))
    assert start == pytest.approx(found.start, abs=1e-3)
    goal = guide(torch.cat([scored(tiny_model, other, branch) for branch in causal.BRANCHES]), 3.0)
    assert odds(goal) == pytest.approx(found.goal, abs=1e-3)
    cell = Cell(Line(1), *found.edges[1:3])
    for place, branch in enumerate(found.branches):
        donor = {
            (1, "resid_post"): causal.read_states(tiny_model, other, [(1, "resid_post")], branch=branch)[
                1, "resid_post"
            ][0]
        }
        new = final(tiny_model, one, branch=branch, variants=[[cell]], donor=donor)
        both = [new, null] if branch == "cond" else [cond, new]
        change = odds(guide(torch.cat(both), 3.0)) - start
        assert change == pytest.approx(found.values[place, 1, 1], abs=1e-3)
    table = found.table()
    assert len(table) == found.values.size == 2 * 4 * 3
    assert table["share"].to_numpy() * (found.goal - found.start) == pytest.approx(found.values.ravel())


def test_law_a_heard_patch_of_everything_is_b_and_of_itself_a(tiny_model: Any, takes: Any) -> None:
    one, other = takes
    with draws() as gaps:
        found = causal.patch_map(tiny_model, one, other, windows=1)
        everything = found.hear(tiny_model, 3, 0, branch="both")
        same_codes(everything.codes, other.codes, gaps)
        assert everything.receipt.ok and everything.receipt.changed == 2 * STEPS
        alone = causal.PatchMap(**{**vars(found), "source": found.onto}).hear(tiny_model, 1, 0, branch="both")
        same_codes(alone.codes, one.codes, gaps)


def test_a_heard_window_changes_its_steps_only_and_stays_a_plan(tiny_model: Any, takes: Any) -> None:
    found = causal.patch_map(tiny_model, *takes, sites=("head_out",), heads=True, windows=3)
    take = found.hear(tiny_model, 5, 1)
    cells = take.receipt.cells
    first, stop = found.edges[1:3]
    assert sorted(cells.step[cells.norm_change > 0]) == list(range(first, stop))
    assert set(cells.layer) == {1} and set(cells.site) == {"head_out"} and set(cells.row) == {"cond"}
    assert np.array_equal(take.codes[0, :first], takes[0].codes[0, :first])
    assert not np.array_equal(take.codes, takes[0].codes)
    again = generate(tiny_model, take.prompt, steering=take.plan, seed=take.seed, **QUIET)
    assert np.array_equal(again.codes, take.codes)


def test_a_clip_keeps_its_own_music_before_the_window(tiny_model: Any, takes: Any) -> None:
    found = causal.patch_map(tiny_model, takes[0].codes, takes[1].codes, windows=3)
    take = found.hear(tiny_model, 2, 1)
    start = found.edges[1]
    assert np.array_equal(take.codes[:, :start], takes[0].codes[:, :start])
    assert take.codes.shape == takes[0].codes.shape and take.receipt.ok
    cells = take.receipt.cells
    assert sorted(cells.step[cells.norm_change > 0]) == list(range(found.edges[2] - start))


def test_a_continuation_is_patched_in_its_new_part_alone(tiny_model: Any, takes: Any) -> None:
    long, other = (generate(tiny_model, "a tune", audio=take.codes, seed=4, **QUIET) for take in takes)
    take = causal.patch_map(tiny_model, long, other, windows=2).hear(tiny_model, 3, 0)
    cells = take.receipt.cells
    assert sorted(cells.step[cells.norm_change > 0]) == [0]  # the window ends with step 16, the 15th is new
    assert np.array_equal(take.codes[:, :15], long.codes[:, :15]) and take.codes.shape == long.codes.shape


def test_a_patch_of_zeros_is_a_patch(tiny_folder: Any) -> None:
    model = load(tiny_folder, device="cpu", dtype="float32")
    with torch.no_grad():
        model.musicgen.decoder.model.decoder.layers[1].self_attn.v_proj.weight.zero_()
    codes = np.random.default_rng(0).integers(0, 64, (4, 6))
    plan = causal.patch_plan(model, codes, [Cell(Line(1, "head_out", 2), 3, 5)])
    for term in plan.terms:
        assert np.flatnonzero(term.direction.vector).tolist() == list(range(16, 24))
        assert term.direction.centre < 1e-20


def test_a_probe_reads_what_it_reads_in_a_capture(tiny_model: Any, takes: Any) -> None:
    probe, (one, other) = probe_of(tiny_model), takes
    found = causal.patch_map(tiny_model, one, other, probe=probe, class_="jazz", layers=[0], windows=1)
    codes, text = [take.codes for take in takes], tiny_model.text([take.prompt for take in takes])
    logits = probe.logits(
        read_codes(tiny_model, codes, text, Reading(("resid_post",), (2,)))["resid_post"][:, 0]
    )
    expected = logits[:, 1] - logits.mean(1)
    assert [found.start, found.goal] == pytest.approx(expected, abs=1e-4)
    assert found.branches == ("cond",) and "jazz" in found.label


@pytest.mark.parametrize("branch", causal.BRANCHES)
def test_law_direct_effects_and_the_rest_add_up(tiny_model: Any, takes: Any, branch: str) -> None:
    one, other = takes
    probe = {"probe": probe_of(tiny_model), "class_": "jazz"}
    for options in ({}, {"against": other}, probe):
        found = causal.direct_effects(tiny_model, one, branch=branch, **options)
        # a total is a sum of 600 products of size 1: 600 x 6e-8
        assert found.table["effect"].sum() + found.rest == pytest.approx(found.total, abs=1e-4)
        assert len(found.table) == 1 + (3 if options is probe else 4) * (4 + 2)
    logits = scored(tiny_model, Passage.of(tiny_model, one), branch)[0]
    own = [
        logits[c, c : c + 15].gather(-1, torch.tensor(one.codes[c]).long()[:, None])[:, 0] for c in range(4)
    ]
    mean = [logits[c, c : c + 15].mean(-1) for c in range(4)]
    plain = causal.direct_effects(tiny_model, one, branch=branch)
    assert plain.total == pytest.approx(float((torch.stack(own) - torch.stack(mean)).mean()), abs=1e-4)


def test_a_planted_head_is_found_by_patching_and_attribution(tiny_folder: Any) -> None:
    model = load(tiny_folder, device="cpu", dtype="float32")
    with torch.no_grad():
        for number, block in enumerate(model.musicgen.decoder.model.decoder.layers):
            block.fc2.weight.zero_()
            block.encoder_attn.out_proj.weight.zero_()
            kept = block.self_attn.out_proj.weight[:, 8:16].clone()  # head 1 alone may write, in block 2
            block.self_attn.out_proj.weight.zero_()
            if number == 2:
                block.self_attn.out_proj.weight[:, 8:16] = 3 * kept
    one, other = generate(model, ["a calm tune", "fast rock"], seed=[3, 4], **QUIET)
    found = causal.patch_map(model, one, other, sites=("head_out",), heads=True, windows=2)
    strongest = np.abs(found.values).max(axis=(0, 2))
    assert [line for line, size in zip(found.lines, strongest, strict=True) if size > 1e-6] == [
        Line(2, "head_out", 1)
    ]
    table = causal.direct_effects(model, one).table
    written = table[(table["effect"].abs() > 1e-6) & (table["layer"] >= 0)]
    assert written[["layer", "part"]].to_numpy().tolist() == [[2, "head 1"]]


@pytest.mark.parametrize("forced", [True, False])
def test_law_the_lens_at_the_last_block_is_the_take(tiny_model: Any, takes: Any, forced: bool) -> None:
    with draws() as gaps:
        found = lens(tiny_model, takes[0], forced=forced)
        same_codes(found.codes[-1], takes[0].codes, gaps)
    (nats,) = score_codes(tiny_model, [takes[0].codes], tiny_model.text([takes[0].prompt]))
    assert found.table["nll"].iloc[-1] == pytest.approx(float(nats.mean()), abs=1e-4)
    assert found.table["same"].to_numpy() == pytest.approx((found.codes == takes[0].codes).mean((1, 2)))
    assert found.clips[1].seconds == pytest.approx(SECONDS, abs=0.02)
    assert found.table["layer"].tolist() == list(found.clips) == [0, 1, 2, 3]


def test_an_earlier_block_plays_what_a_model_cut_there_plays(
    tiny_model: Any, tiny_folder: Any, takes: Any
) -> None:
    cut = load(tiny_folder, device="cpu", dtype="float32")
    cut.musicgen.decoder.model.decoder.layers = cut.musicgen.decoder.model.decoder.layers[:2]
    run = cut.sampling([takes[0].prompt], seeds=[3], frames=15, guidance=3.0, top_k=50)
    with draws() as gaps:
        cut.network.sample(run)
        same_codes(lens(tiny_model, takes[0], [1], forced=False).codes[0], run.codes[0].numpy(), gaps)
    one = Passage.of(cut, replace(takes[0], model_id=""))
    both = [scored(cut, one, branch) for branch in causal.BRANCHES]
    guided = guide(torch.cat(both), 3.0)
    run = cut.sampling([takes[0].prompt], seeds=[3], frames=15, guidance=3.0, top_k=50)
    for step in range(STEPS):
        write_step(draw(guided[:, :, step], run), run.codes, step, run.delays, run.bos)
    assert np.array_equal(lens(tiny_model, takes[0], [1]).codes[0], run.codes[0].numpy())


def test_a_continuation_s_lens_keeps_what_was_given(tiny_model: Any, takes: Any) -> None:
    long = generate(tiny_model, "a tune", audio=takes[0].codes, **QUIET)
    for forced in (True, False):
        with draws() as gaps:
            found = lens(tiny_model, long, [0, 3], forced=forced)
            same_codes(found.codes[1], long.codes, gaps)
        assert np.array_equal(found.codes[0, :, :15], long.codes[:, :15])
        assert not np.array_equal(found.codes[0], long.codes)
        assert found.table["same"].iloc[0] == pytest.approx((found.codes[0] == long.codes)[:, 15:].mean())


def test_the_laws_hold_where_text_stands_before_the_music(melody_model: Any) -> None:
    one, other = generate(melody_model, ["a calm tune", "fast rock"], seed=[3, 3], **QUIET)
    found = causal.patch_map(melody_model, one, other, layers=[3], windows=1)
    assert found.values.sum() == pytest.approx(found.goal - found.start, abs=1e-3), "all of B gives B"
    effects = causal.direct_effects(melody_model, one)
    assert effects.table["effect"].sum() + effects.rest == pytest.approx(effects.total, abs=1e-4)
    assert effects.table.loc[effects.table["part"] == "text", "effect"].abs().max() < 1e-4, "it is no part"
    with draws() as gaps:
        same_codes(found.hear(melody_model, 0, 0, branch="both").codes, other.codes, gaps)
        for forced in (True, False):
            same_codes(lens(melody_model, one, forced=forced).codes[-1], one.codes, gaps)


@pytest.fixture
def two_layers(tiny_model: Any) -> Iterator[Any]:
    """What `acts_per_layer` asks of probes: directions that the judge knows after block 3, others after 1."""
    aims = {"jazz": 0, "rock": 1}

    def directions(layer: int) -> dict[str, Any]:
        if layer == 3:
            return {name: planted(tiny_model, number, name=name) for name, number in aims.items()}
        return {name: direction(tiny_model, layer, seed=50 + n, name=name) for name, n in aims.items()}

    table = {
        "layer": [1, 3],
        "accuracy": [0.9, 0.5],
        "low": [0.8, 0.4],
        "high": [1.0, 0.6],
        "chance": [0.5, 0.5],
    }
    yield SimpleNamespace(layers=(1, 3), directions=directions, table=lambda: pd.DataFrame(table))


def test_a_layer_whose_planted_direction_acts_is_found(tiny_model: Any, two_layers: Any) -> None:
    judge = Reference(tiny_model, {"jazz": 0, "rock": 1, "reggae": 2})
    table = acts_per_layer(
        tiny_model,
        two_layers,
        ["jazz", "rock"],
        judge,
        dose=DOSE,
        seeds=range(6),
        seconds=1.0,  # as long as what the judge knows
        progress=False,
    )
    early, late = table.to_dict("records")
    assert (early["layer"], late["layer"], late["n"], late["accuracy"]) == (1, 3, 12, 0.5)
    assert late["effect"] > 0.5 and late["effect_low"] > early["effect_high"]


def test_what_cannot_be_asked_is_refused_in_words(tiny_model: Any, takes: Any) -> None:
    steered = generate(tiny_model, "a tune", steering=direction(tiny_model, 1).at(0.5), **QUIET)
    with pytest.raises(EvidenceError, match="it is steered"):
        causal.patch_map(tiny_model, takes[0], steered)
    with pytest.raises(EvidenceError, match="it is of another"):
        lens(tiny_model, replace(takes[0], model_id="another"))
    with pytest.raises(EvidenceError, match="drawn in windows"):
        lens(tiny_model, replace(takes[0], windows=(Window(0.0, 0.6, 0.0, "a tune"),)))
    with pytest.raises(EvidenceError, match="both have the same codes"):
        causal.patch_map(tiny_model, takes[0], takes[0])
    with pytest.raises(EvidenceError, match="knows classical, jazz, rock") as told:
        causal.patch_map(tiny_model, *takes, probe=probe_of(tiny_model), class_="reggae")
    assert isinstance(told.value, KeyError)
    with pytest.raises(EvidenceError, match="to which parts do not add up"):
        causal.direct_effects(tiny_model, takes[0], probe=probe_of(tiny_model, site="mlp_out"), class_="jazz")
    long = generate(tiny_model, "a tune", audio=takes[0].codes, **QUIET)
    with pytest.raises(EvidenceError, match="nothing is drawn there"):
        causal.patch_map(tiny_model, long, takes[1], windows=5).hear(tiny_model, 0, 0)


@pytest.mark.skipif(not (builtin_folder() / "config.json").exists(), reason="no built-in model here")
def test_the_laws_hold_on_the_built_in_model() -> None:
    model = load("embedded")
    one, other = generate(model, ["a rock tune", "a jazz tune"], seed=[3, 3], seconds=1, progress=False)
    effects = causal.direct_effects(model, one, against=other)
    assert effects.table["effect"].sum() + effects.rest == pytest.approx(effects.total, abs=1e-3)
    found = causal.patch_map(model, one, other, layers=[5], windows=1)
    assert found.values.sum() == pytest.approx(found.goal - found.start, abs=1e-3), "all of B gives B"
    with draws() as gaps:
        same_codes(found.hear(model, 0, 0, branch="both").codes, other.codes, gaps)
        same_codes(lens(model, one, [5]).codes[0], one.codes, gaps)
