"""The laws on a melody model, whose text and melody stand before the music: nothing public may see them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evidence_samples import seen_while_drawing
from live_fixture import session, until
from plain_hooks import drawn, forced, recording
from steering_fixture import direction, untraced
from tolerances import NETWORK, SUMMED, draws, same_codes

from workbench.evidence.damage import likelihood
from workbench.generation.generate import extend, generate, generate_long
from workbench.generation.live.journal import CODES
from workbench.generation.live.recording import Recording
from workbench.model import network
from workbench.model.conditioning import Melody
from workbench.model.generated import read_while_sampling
from workbench.model.load import load
from workbench.model.network import SITES
from workbench.model.sampling import apply_delay
from workbench.model.teacher_forcing import Reading, read_codes
from workbench.steering import window

PROMPTS = ["a calm tune", "fast jazz with drums and guitar", "rock"]
MELODIES = [Melody((0, 4, 7, 0, 9)), None, Melody((2, 11) * 9)]
FRAMES, GIVEN, RATE = 20, 9, 25
OPENING = np.random.default_rng(5).integers(0, 64, (4, GIVEN))
FRAME_BY_FRAME = Reading(SITES, (0, 1, 2, 3), None)


def make(model: Any, prompt: Any = PROMPTS[0], **settings: Any) -> Any:
    return generate(model, prompt, **{"seconds": FRAMES / RATE, "seed": 3, "progress": False, **settings})


def features(melody: Melody | None) -> torch.Tensor | None:
    """What transformers' `generate` takes for a melody."""
    return None if melody is None else torch.nn.functional.one_hot(torch.tensor([melody.pitches]), 12).float()


def apart(one: np.ndarray, other: np.ndarray) -> float:
    return float((np.linalg.norm(one - other, axis=-1) / np.linalg.norm(other, axis=-1)).max())


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("row", range(3))
def test_codes_and_activations_equal_transformers_own_and_plain_hooks(
    melody_model: Any, melody_folder: Path, row: int, guidance: float
) -> None:
    """Law 14: codes bit for bit, and all sites at all steps, in the rows with text and without."""
    prompt, melody = PROMPTS[row], MELODIES[row]
    told: dict[str, Any] = {"seed": 3, "frames": FRAMES, "guidance": guidance, "features": features(melody)}
    codes, held = drawn(untraced(melody_folder), melody_model, prompt, **told)
    settings = {"guidance": guidance, "top_k": 50, "melodies": [melody]}
    run = melody_model.sampling([prompt], seeds=[3], frames=FRAMES, **settings)
    ours = read_while_sampling(melody_model, run, FRAME_BY_FRAME, rows="both" if guidance > 1 else "cond")
    assert torch.equal(run.codes[0], codes)
    for site in SITES:
        assert np.allclose(ours[site], held[site][:, :, 1 : FRAMES + 1].numpy(), **SUMMED), site
    assert np.array_equal(make(melody_model, prompt, melody=melody, guidance=guidance).codes, codes)
    unheard = make(melody_model, prompt, guidance=guidance).codes
    assert np.array_equal(unheard, codes) == (melody is None), "the melody must matter"


@pytest.mark.parametrize("melody", [None, MELODIES[0]])
def test_a_continuation_equals_transformers_own(
    melody_model: Any, melody_folder: Path, melody: Melody | None
) -> None:
    told: dict[str, Any] = {"given": torch.as_tensor(OPENING), "features": features(melody)}
    codes, _ = drawn(untraced(melody_folder), melody_model, PROMPTS[0], seed=3, frames=GIVEN + FRAMES, **told)
    take = make(melody_model, audio=OPENING, melody=melody)
    assert np.array_equal(take.codes, codes)
    assert (take.prompt_seconds, take.melody) == (GIVEN / RATE, melody)


@pytest.mark.parametrize("given", [False, True], ids=["generated", "continued"])
def test_law_12_a_batch_equals_its_single_runs(melody_model: Any, given: bool) -> None:
    plans = [direction(melody_model, 1).at(0.8), None, direction(melody_model, 2).at(0.5, branch="both")]
    more: dict[str, Any] = {"audio": OPENING} if given else {}
    together = make(melody_model, PROMPTS, melody=MELODIES, steering=plans, seed=[3, 4, 5], **more)
    for row, take in enumerate(together):
        told = {"melody": MELODIES[row], "steering": plans[row], "seed": 3 + row}
        with draws() as gaps:
            one = make(melody_model, PROMPTS[row], **told, **more)
        if same_codes(take.codes, one.codes, gaps):
            norms = [each.receipt.cells.norm_change for each in (take, one)]
            assert np.allclose(*norms, **NETWORK)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("given", [None, 8])
def test_law_13_teacher_forcing_equals_generation(
    melody_model: Any, melody_folder: Path, dtype: torch.dtype, given: int | None
) -> None:
    model: Any = melody_model if dtype == torch.float32 else load(melody_folder, device="cpu", dtype=dtype)
    opening = None if given is None else torch.as_tensor(OPENING[None, :, :given]).repeat(3, 1, 1)
    run = model.sampling(PROMPTS, seeds=[3, 4, 5], frames=FRAMES, prompt_codes=opening, melodies=MELODIES)
    ours = read_while_sampling(model, run, FRAME_BY_FRAME)
    codes = list(run.codes.numpy())
    again = read_codes(model, codes, model.text(PROMPTS, MELODIES), FRAME_BY_FRAME)
    deaf = read_codes(model, codes, model.text(PROMPTS), FRAME_BY_FRAME)
    limit = 1e-5 if dtype == torch.float32 else 3e-2
    for site in SITES:
        assert apart(again[site], ours[site]) < limit or dtype == torch.bfloat16, site
        assert np.linalg.norm(again[site] - ours[site]) < limit * np.linalg.norm(ours[site]), site
    assert apart(deaf["resid_post"][0], ours["resid_post"][0]) > 1e-2, "the melody must matter"


def test_law_14_forced_reading_equals_plain_hooks(melody_model: Any, melody_folder: Path) -> None:
    told, plain = melody_model.text(PROMPTS[:1], MELODIES[:1]), untraced(melody_folder)
    ids = apply_delay(torch.as_tensor(OPENING)[None], melody_model.bos)[..., : GIVEN + 1]
    ours = read_codes(melody_model, [OPENING], told, FRAME_BY_FRAME)
    theirs = forced(plain, ids, told)
    for site in SITES:
        assert theirs[site].shape[2] == told.prefix + GIVEN + 1
        assert np.array_equal(ours[site], theirs[site][:, :, told.prefix + 1 :].numpy()), site


def test_null_rows_of_a_one_word_text_are_the_null_condition(melody_model: Any) -> None:
    run = melody_model.sampling([""], seeds=[3], frames=FRAMES)
    null = read_while_sampling(melody_model, run, FRAME_BY_FRAME, rows="null")
    again = read_codes(melody_model, list(run.codes.numpy()), melody_model.null_text(1), FRAME_BY_FRAME)
    assert apart(again["resid_post"], null["resid_post"]) < 1e-5


@pytest.mark.parametrize("rows", ["cond", "null", "both"])
def test_law_01_dose_0_is_bit_identical(melody_model: Any, rows: str) -> None:
    idle = direction(melody_model, 1).at(0.0, branch=rows)
    take = make(melody_model, PROMPTS, steering=idle, melody=MELODIES)
    for one, plain in zip(take, make(melody_model, PROMPTS, melody=MELODIES), strict=True):
        assert np.array_equal(one.codes, plain.codes)
        assert set(one.receipt.cells.reason) == {"dose 0"}


def test_laws_03_and_04_steps_are_those_of_the_music(melody_model: Any) -> None:
    one = direction(melody_model, 1)
    plain = make(melody_model, melody=MELODIES[0])
    late = make(melody_model, melody=MELODIES[0], steering=one.at(6.0, schedule=window(0.4, 9)))
    assert np.array_equal(plain.codes[:, : 10 - 3], late.codes[:, : 10 - 3])
    assert not np.array_equal(plain.codes[:, 10 - 3 :], late.codes[:, 10 - 3 :])
    cells = late.receipt.cells
    assert cells.step.tolist() == list(range(FRAMES + 3))
    assert cells.seconds.tolist() == pytest.approx([step / RATE for step in range(FRAMES + 3)])
    assert ((cells.norm_change > 0) == (cells.seconds >= 0.4 - 1e-9)).all()
    assert late.receipt.ok


@pytest.mark.parametrize("layer", [0, 2])
def test_law_11_only_the_last_position_of_conditional_rows_is_edited(
    melody_model: Any, monkeypatch: pytest.MonkeyPatch, layer: int
) -> None:
    """Padded rows, forced codes: the prefix and the null rows hold what they hold unsteered."""
    monkeypatch.setattr(network, "draw", lambda _logits, _run: torch.tensor([[5, 60, 33, 7]] * 3))
    one, held = direction(melody_model, layer), []
    for plan in (None, one.at(0.7)):
        with recording(melody_model.musicgen) as kept:
            takes = make(melody_model, PROMPTS, melody=MELODIES, steering=plan)
        held.append(kept["resid_pre"][layer + 1])
    plain, steered = held
    assert plain[0].shape == (6, 12 + 7 + 1, 32)
    assert torch.equal(steered[0][:, :-1], plain[0][:, :-1])
    push = 0.7 * one.residual_norm * torch.tensor(one.vector)
    assert torch.allclose((steered[0] - plain[0])[:3, -1], push.expand(3, 32), **NETWORK)
    for then, now in zip(plain, steered, strict=True):
        assert torch.equal(then[3:], now[3:])
    assert all(take.receipt.changed == FRAMES + 3 for take in takes)


def test_the_likelihood_is_what_free_generation_saw(
    melody_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    take, logits = seen_while_drawing(
        melody_model, "a calm tune", monkeypatch=monkeypatch, melody=MELODIES[0]
    )
    longer = make(melody_model, PROMPTS[1], guidance=1.0)
    found, _other = likelihood(melody_model, [take, longer])
    for book, row in enumerate(take.codes):
        for frame, code in enumerate(row):
            said = logits[frame + melody_model.delays[book], book]
            by_hand = float(torch.logsumexp(said, 0) - said[int(code)])
            assert np.isclose(found.nats[book, frame], by_hand, **NETWORK)


def test_each_window_is_told_what_the_melody_does_from_there_on(melody_model: Any) -> None:
    """Windows of 16 frames, 8 of them heard: the second begins 8 frames after the first, and so on."""
    melody = Melody(tuple(np.random.default_rng(1).integers(0, 12, 30).tolist()))
    lengths = {"window_seconds": 16 / RATE, "overlap_seconds": 8 / RATE}
    settings: dict[str, Any] = {"seed": 3, "progress": False, **lengths}
    take = generate_long(melody_model, PROMPTS[0], seconds=32 / RATE, melody=melody, **settings)
    codes, generators = torch.zeros(1, 4, 0, dtype=torch.long), None
    for begin, heard, new in ((0, 0, 16), (8, 8, 8), (16, 8, 8)):
        run = melody_model.sampling(
            PROMPTS[:1], seeds=[3], frames=heard + new, top_k=50, melodies=[melody.later(begin / RATE)],
            prompt_codes=codes[..., -heard:] if heard else None,
        )  # fmt: skip
        run.generators = generators or run.generators
        melody_model.network.sample(run)
        codes, generators = torch.cat([codes, run.codes[..., heard:]], -1), run.generators
    assert np.array_equal(take.codes, codes[0])
    assert not np.array_equal(take.codes, generate_long(
        melody_model, PROMPTS[0], seconds=32 / RATE, **settings).codes)  # fmt: skip
    more = extend(melody_model, take, seconds=8 / RATE, **lengths, progress=False)
    assert more.melody == melody
    by_hand = generate_long(
        melody_model, PROMPTS[0], seconds=8 / RATE, audio=take.codes, melody=melody, **settings
    )
    assert np.array_equal(more.codes, by_hand.codes)


def test_a_session_follows_from_its_beginning_and_a_recording_from_its_own(
    melody_model: Any, tmp_path: Path
) -> None:
    """Windows of 30 frames, of which 10 are heard again; the recording begins in the middle."""
    melody = Melody(tuple(np.random.default_rng(1).integers(0, 12, 30).tolist()))
    live = session(melody_model, prompt="a tune", melody=melody)
    live.record(tmp_path / "one")
    live.start()
    until(lambda: live.figures().frames >= 50)
    live.end_recording()
    until(lambda: not live.recording and live.figures().frames >= 60)
    live.record(tmp_path / "two")
    until(lambda: (tmp_path / "two" / CODES).exists() and (tmp_path / "two" / CODES).stat().st_size > 0)
    live.stop()
    first = Recording.load(tmp_path / "one")
    codes, generators = torch.zeros(1, 4, 0, dtype=torch.long), None
    for heard in (0, 10, 10):
        told = [melody.later((codes.shape[-1] - heard) / RATE)]
        run = melody_model.sampling(
            ["a tune"], seeds=[3], frames=heard + 20, top_k=50, melodies=told,
            prompt_codes=codes[..., -heard:] if heard else None,
        )  # fmt: skip
        run.generators = generators or run.generators
        melody_model.network.sample(run)
        codes, generators = torch.cat([codes, run.codes[..., heard:]], -1), run.generators
    assert np.array_equal(first.codes[:, :50], codes[0, :, :50])
    second = Recording.load(tmp_path / "two")
    start = second.windows[0].span.start
    assert start >= 60
    assert first.take(melody_model).melody == melody
    assert second.take(melody_model).melody == melody.later(start / RATE)
