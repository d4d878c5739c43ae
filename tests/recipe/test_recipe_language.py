"""The built-in language model and its training: what is predicted from what, and how much each counts."""

from __future__ import annotations

from functools import partial

import band_fixture
import numpy as np
import pytest
import torch
from recipe import train_language as training
from recipe.compose import compose
from recipe.corpus import Scores
from recipe.evaluation.curves import read_log
from recipe.factors import GENRES, draw_factors
from recipe.language import build_model, build_tokenizer, delayed, token_attributes
from recipe.muon import Muon, orthogonalised
from recipe.prompts import factor_words
from recipe.samples import pack_bank
from recipe.train_language import Schedule, Windows, hang, language_loss

from workbench.model import band
from workbench.model.band_codec import BandCodec, BandCodecConfig

FLAWLESS = Schedule(blanked_rows=0.0, hanging_rows=0.0)
SMALL = {"hidden": 32, "layers": 1, "heads": 2, "feed_forward": 32}


@pytest.fixture(scope="module")
def codec() -> BandCodec:
    blob, index = pack_bank(band_fixture.tiny_bank())
    made = BandCodec(BandCodecConfig(bank_bytes=len(blob), bank_index=index, ear_width=8)).eval()
    made.bank_ogg.copy_(torch.frombuffer(bytearray(blob), dtype=torch.uint8))
    return made


@pytest.fixture(scope="module")
def model(codec):
    return build_model(codec, **SMALL).eval()


@pytest.fixture(scope="module")
def pieces() -> Scores:
    """A composed piece of each genre."""
    factors = tuple(draw_factors(genre, number, 7 + number) for number, genre in enumerate(GENRES))
    return Scores(factors, tuple(compose(one).codes for one in factors))


@pytest.fixture
def windows(pieces) -> Windows:
    return Windows(
        pieces.factors, list(pieces.codes), build_tokenizer(), np.random.default_rng(0), Schedule()
    )


def some_batch(rows: int = 3, frames: int = 80, aligned: bool = True):
    """Codes, text, mask and alignment; the codes are any."""
    codes = torch.from_numpy(
        np.stack([band_fixture.random_codes(frames, seed, invalid=False) for seed in range(rows)])
    )
    text = torch.zeros(2, rows, 2, dtype=torch.long)
    return codes, text[0], text[1], torch.full((rows,), aligned)


def given(model, batch, schedule, rng=None):
    """Return loss, losses per codebook, and the codes (B, K, positions) that the decoder was given."""
    seen = []

    def look(_module, _args, kwargs):
        seen.append(kwargs["decoder_input_ids"].clone())

    hook = model.register_forward_pre_hook(look, with_kwargs=True)
    try:
        with torch.no_grad():
            loss, per_book = language_loss(model, batch, schedule, rng)
    finally:
        hook.remove()
    return loss, per_book, seen[0].reshape(len(batch[0]), len(band.PARTS), -1)


# ----------------------------------------------------------------------------------- the untrained model


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_the_decoder_never_sees_what_it_is_to_predict(codec, attention):
    model = build_model(codec, **SMALL | {"layers": 2}).eval()
    model.decoder.set_attn_implementation(attention)
    text, mask = torch.randn(1, 3, 128), torch.ones(1, 3, dtype=torch.long)
    first = torch.randint(0, band.VOCABULARY, (len(band.PARTS), 12))
    other = first.clone()
    other[:, 8:] = (other[:, 8:] + 1) % band.VOCABULARY
    with torch.no_grad():
        a, b = (
            model(encoder_outputs=(text,), attention_mask=mask, decoder_input_ids=ids).logits
            for ids in (first, other)
        )
    assert torch.equal(a[:, :8], b[:, :8])
    assert not torch.equal(a[:, 8:], b[:, 8:])


def test_delayed_inputs_are_what_was_written_one_step_before():
    codes = torch.arange(1, 9).reshape(1, 2, 4)
    inputs, targets = delayed(codes, pad=99)
    assert targets.tolist() == [[[1, 2, 3, 4, -100], [-100, 5, 6, 7, 8]]]
    assert inputs.tolist() == [[[99, 1, 2, 3, 4], [99, 99, 5, 6, 7]]]


def test_the_model_holds_its_band_and_trains_neither_it_nor_the_text(codec, model):
    assert torch.equal(model.audio_encoder.bank_ogg, codec.bank_ogg)
    for name, weight in codec.state_dict().items():
        assert torch.equal(model.audio_encoder.state_dict()[name], weight), name
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert trained == {name for name, _ in model.named_parameters() if name.startswith("decoder.")}


def vectors_of(model, part: str, *, head: bool = False) -> torch.Tensor:
    """Return what each token of a part starts as (tokens, width), as unit vectors."""
    book = band.PARTS.index(part)
    inner = model.decoder.model.decoder
    weight = model.decoder.lm_heads[book].weight if head else inner.embed_tokens[book].weight
    return torch.nn.functional.normalize(weight[: band.VOCABULARY].detach(), dim=1)


def alikeness(model, one: str, other: str, *, head: bool = False) -> tuple[float, float]:
    """Return the mean cosine of two parts' tokens that share something, and of those that share nothing."""
    cosines = vectors_of(model, one, head=head) @ vectors_of(model, other, head=head).T
    attributes = [[set(token_attributes(part, t)) for t in range(band.VOCABULARY)] for part in (one, other)]
    shared = torch.tensor([[bool(a & b) for b in attributes[1]] for a in attributes[0]])
    meant = torch.tensor([[bool(a and b) for b in attributes[1]] for a in attributes[0]])
    if one == other:
        meant.fill_diagonal_(fill_value=False)
    return float(cosines[shared & meant].mean()), float(cosines[~shared & meant].mean())


@pytest.mark.parametrize("head", [False, True], ids=["embeddings", "heads"])
@pytest.mark.parametrize("part", band.PARTS)
def test_tokens_that_have_something_in_common_begin_more_alike_than_others(model, part, head):
    alike, different = alikeness(model, part, part, head=head)
    assert alike > different + 0.2
    assert abs(different) < 0.15


def test_tokens_of_different_parts_begin_alike_where_they_mean_the_same(model):
    alike, different = alikeness(model, "bass", "lead")  # pitch classes
    assert alike > different + 0.15
    same = vectors_of(model, "accompaniment")[band.accompaniment_token(6, 3)]
    assert float(same @ vectors_of(model, "colour")[band.accompaniment_token(6, 3)]) > 0.6


def test_every_token_that_a_composer_writes_means_something(pieces):
    for codes in pieces.codes:
        for part, row in zip(band.PARTS, codes, strict=True):
            assert all(token_attributes(part, int(token)) for token in np.unique(row)), part


def test_the_conductor_begins_as_the_place_in_the_bar(codec, model):
    def cosine(one, places):
        tokens = vectors_of(one, "conductor")
        return np.mean([
            float(tokens[band.conductor_token("slow", 4 * i)] @ tokens[band.conductor_token("fast", place)])
            for i, place in places
        ])  # fmt: skip

    same = [(i, 48 * 4 * i // 80) for i in range(0, 20, 5)]  # the same shares of bars of 80 and 48 frames
    apart = [(i, (place + 27) % 48) for i, place in same]  # two beats and a quarter later
    assert cosine(model, same) > cosine(model, apart) + 0.4
    plain = build_model(codec, **SMALL, conductor_sines=False)
    assert abs(cosine(plain, same)) < 0.3


# ------------------------------------------------------------------------------------------ the windows


def test_windows_begin_on_bar_lines_but_for_a_given_share(windows):
    codes, ids, mask, aligned = windows.draw(400, 60)
    assert codes.shape == (400, len(band.PARTS), 60)
    assert float((~aligned).float().mean()) == pytest.approx(windows.schedule.unaligned_rows, abs=0.1)
    places = [band.beat_of(int(token))[1] for token in codes[:, 0, 0]]
    assert {place for place, on_bar in zip(places, aligned, strict=True) if on_bar} == {0}
    assert len({place for place, on_bar in zip(places, aligned, strict=True) if not on_bar}) > 30
    dropped = (mask == 0).all(dim=1)
    assert float(dropped.float().mean()) == pytest.approx(windows.schedule.text_dropout, abs=0.08)
    assert ids.shape == mask.shape


def test_each_window_comes_with_a_prompt_of_its_own_piece(windows):
    codes, ids, _mask, _aligned = windows.draw(200, 60)
    told = 0
    for row, text in zip(codes, windows.tokenizer.batch_decode(ids), strict=True):
        tempo = band.beat_of(int(row[0, 0]))[0]
        words = {word: value for value, own in factor_words()["tempo"].items() for word in own}
        named = {words[word] for word in text.split() if word in words}
        assert named <= {tempo}, text
        told += len(named)
    assert told > 40


def test_windows_grow_and_rates_rise_and_fall():
    schedule, rng = Schedule(steps=1000), np.random.default_rng(0)
    assert {schedule.window_frames(249, rng) for _ in range(50)} == {60}
    assert {schedule.window_frames(250, rng) for _ in range(50)} == {60, 125, 250}
    rates = [schedule.rate_at(step) for step in range(1001)]
    assert rates[0] == pytest.approx(0.01, rel=0.01)
    assert 95 <= int(np.argmax(rates)) <= 100 and 0.9 < max(rates) <= 1
    assert rates[-1] == pytest.approx(0.02)


# --------------------------------------------------------------------------------------------- the loss


def test_music_that_hangs_repeats_a_few_frames_and_keeps_the_rest():
    played = torch.arange(20 * 3 * 120).reshape(20, 3, 120)
    hung = hang(played, 1.0, np.random.default_rng(0))
    cycles = set()
    for row, original in zip(hung, played, strict=True):
        assert torch.equal(row[0], original[0]), "the conductor goes on"
        changed = torch.nonzero((row[1:] != original[1:]).any(0)).flatten()
        begin, end = int(changed[0]), int(changed[-1]) + 1
        assert 8 <= end - begin < 50
        assert (row[1:, begin:end] != original[1:, begin:end]).all()
        lags = [
            lag
            for lag in range(1, min(12, begin) + 1)
            if torch.equal(row[1:, begin:end], row[1:, begin - lag : end - lag])
        ]
        assert lags
        cycles.add(lags[0])
    assert len(cycles) > 5
    assert torch.equal(played, torch.arange(20 * 3 * 120).reshape(20, 3, 120))
    assert torch.equal(hang(played, 0.0, np.random.default_rng(0)), played)


def test_music_hangs_and_is_blanked_in_training_only(model):
    batch = some_batch()
    true, _targets = delayed(batch[0], band.VOCABULARY)
    plain, _, inputs = given(model, batch, Schedule())
    assert torch.equal(inputs, true)
    same, _, inputs = given(model, batch, FLAWLESS, np.random.default_rng(0))
    assert torch.equal(inputs, true)
    assert float(same) == float(plain)
    hanging = Schedule(blanked_rows=0.0, hanging_rows=1.0)
    other, _, inputs = given(model, batch, hanging, np.random.default_rng(0))
    assert float(other) != float(plain)
    assert torch.equal(inputs[:, 0], true[:, 0])
    assert (inputs != true).any(dim=2).any(dim=1).all()
    assert int((inputs == band.VOCABULARY).sum()) <= int((true == band.VOCABULARY).sum()) + 3 * 6 * 49
    blanked = Schedule(blanked_rows=1.0, hanging_rows=0.0)
    other, _, inputs = given(model, batch, blanked, np.random.default_rng(0))
    assert float(other) != float(plain)
    assert set(inputs[inputs != true].tolist()) == {band.VOCABULARY}


def test_rows_hang_and_are_blanked_as_often_as_the_schedule_says(model):
    rng, schedule = np.random.default_rng(1), Schedule(blanked_rows=0.0, hanging_rows=0.25)
    batch = some_batch(rows=160, frames=30)
    true, _targets = delayed(batch[0], band.VOCABULARY)

    def changed(schedule):
        inputs = given(model, batch, schedule, rng)[2]
        return (inputs != true).float().mean(dim=(1, 2)).numpy()

    assert float((changed(schedule) > 0).mean()) == pytest.approx(0.25, abs=0.12)
    blanks = changed(Schedule(blanked_rows=0.5, hanging_rows=0.0))
    assert float((blanks > 0).mean()) == pytest.approx(0.5, abs=0.12)
    some = blanks[blanks > 0]
    assert some.min() < 0.2 and some.max() > 0.8, "from hardly anything up to nearly all of it"


def test_the_loss_is_the_weighted_mean_of_what_is_to_be_predicted(model):
    """Written out one by one; a row that begins anywhere has no target at its first frame, in any book."""
    codes, ids, mask, _aligned = some_batch(rows=2, frames=6)
    aligned = torch.tensor([True, False])
    schedule = Schedule(first_frames=4, first_weight=3.0, onset_weight=2.0)
    loss, per_book, inputs = given(model, (codes, ids, mask, aligned), schedule)
    with torch.no_grad():
        text = model.text_encoder(ids).last_hidden_state
        flat = inputs.reshape(-1, inputs.shape[2])
        logits = model(encoder_outputs=(text,), attention_mask=mask, decoder_input_ids=flat).logits
    surprise = -logits.log_softmax(-1).reshape(2, len(band.PARTS), -1, band.VOCABULARY)
    above, below, books = 0.0, 0.0, [[] for _ in band.PARTS]
    for row in range(2):
        for book, codebook_weight in enumerate(schedule.codebook_weights):
            for frame in range(0 if aligned[row] else 1, 6):
                position, token = frame + book, int(codes[row, book, frame])
                weight = codebook_weight * (3.0 if position < 4 else 1.0) * (2.0 if token >= 2 else 1.0)
                nats = float(surprise[row, book, position, token])
                above, below = above + weight * nats, below + weight
                books[book].append(nats)
    assert float(loss) == pytest.approx(above / below, rel=1e-4)
    assert per_book.tolist() == pytest.approx([np.mean(nats) for nats in books], rel=1e-4)
    assert [len(nats) for nats in books] == [11] * len(band.PARTS)


# ------------------------------------------------------------------------------------------- the steps


@pytest.mark.parametrize("shape", [(20, 50), (50, 20), (32, 32)])
def test_orthogonalised_matrices_keep_directions_at_unit_size(shape):
    torch.manual_seed(0)
    matrices = torch.randn(3, *shape) * torch.tensor([1e-3, 1.0, 1e3])[:, None, None]
    made = orthogonalised(matrices)
    assert made.shape == matrices.shape and made.dtype == matrices.dtype
    for matrix, original in zip(made, matrices, strict=True):
        left, values, right = torch.linalg.svd(original, full_matrices=False)
        kept = values > 0.05 * values[0]  # what is nearly nothing may stay small
        found = torch.diagonal(left.T @ matrix @ right.T)
        assert ((found[kept] > 0.6) & (found[kept] < 1.3)).all(), found
    assert torch.isfinite(orthogonalised(torch.zeros(1, 4, 6))).all()


def test_a_step_of_muon_goes_against_the_gradient_by_a_fifth_of_its_rate():
    torch.manual_seed(0)
    matrix = torch.nn.Parameter(torch.zeros(24, 60))
    other = torch.nn.Parameter(torch.ones(24, 60))
    matrix.grad = torch.randn(24, 60)
    Muon([{"params": [matrix, other]}], lr=0.1).step()
    moved = matrix.detach()
    assert float((moved * matrix.grad).sum()) < 0
    assert float(moved.pow(2).mean().sqrt()) == pytest.approx(0.02, rel=0.25)
    assert torch.equal(other, torch.ones(24, 60)), "what has no gradient stays"


def test_each_weight_has_one_optimiser_and_steps_lower_the_loss(codec):
    model = build_model(codec, **SMALL)
    muon, adam = training._optimisers(model, Schedule())
    assert isinstance(muon, Muon)
    held = [id(p) for o in (muon, adam) for group in o.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    listening = muon.param_groups[1]
    assert listening["peak_lr"] == 4 * muon.param_groups[0]["peak_lr"]
    assert len(listening["params"]) == 4
    batch, losses = some_batch(rows=2, frames=30), []
    for _ in range(12):
        loss, _per_book = language_loss(model, batch, FLAWLESS)
        model.zero_grad()
        loss.backward()
        for optimiser in (muon, adam):
            optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


def test_training_goes_on_where_it_stopped(pieces, codec, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "scores", lambda name, build: pieces if name == "train" else None)
    monkeypatch.setattr(training, "build_model", partial(build_model, **SMALL))
    taken = []
    monkeypatch.setattr(training, "language_loss", lambda *all_: taken.append(1) or language_loss(*all_))
    schedule = {"batch_frames": 120, "window_s": ((0.0, (2.4,)),)}
    first = training.train_language(tmp_path, minutes=5, schedule=Schedule(steps=2, **schedule))
    idle = training.train_language(tmp_path, minutes=0, schedule=Schedule(steps=3, **schedule))
    for name, weight in first.decoder.state_dict().items():
        assert torch.equal(weight, idle.decoder.state_dict()[name]), name
    further = training.train_language(tmp_path, minutes=5, schedule=Schedule(steps=3, **schedule))
    assert len(taken) == 2 + 0 + 1
    heads = [model.decoder.lm_heads[0].weight for model in (first, further)]
    assert not torch.equal(*heads)
    log = read_log(tmp_path / "language" / "log.csv")
    assert [line["step"] for line in log] == [2, 3]
    assert set(log[0]) == {"step", "loss", *(f"codebook {k}" for k in range(1, 8)), "minutes"}
    assert not (tmp_path / "language" / "checkpoint.tmp").exists()
