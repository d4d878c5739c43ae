"""The built-in language model before training: what its training relies on."""

import numpy as np
import pytest
import torch
from recipe.language import build_model, delayed
from recipe.train_language import Schedule, hang, language_loss
from tolerances import NETWORK
from workbench.model.codec import WorkbenchCodec, WorkbenchCodecConfig

SMALL = {
    "sampling_rate": 16000, "hidden_size": 16, "codebook_dim": 16, "codebook_size": 64, "num_filters": 4,
    "upsampling_ratios": [8, 5, 4, 4], "num_lstm_layers": 1, "target_bandwidths": [0.6],
}  # fmt: skip


@pytest.fixture(scope="module")
def codec() -> WorkbenchCodec:
    torch.manual_seed(0)
    made = WorkbenchCodec(WorkbenchCodecConfig(**SMALL))
    for layer in made.quantizer.layers:
        layer.codebook.embed.normal_()
    made.encoder.mel.uniform_(0, 0.1)
    made.encoder.projection.normal_()
    return made.eval()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_the_decoder_never_sees_what_it_is_to_predict(codec, attention):
    model = build_model(codec, hidden=32, layers=2, heads=2, feed_forward=32).eval()
    model.decoder.set_attn_implementation(attention)
    text, mask = torch.randn(1, 3, 128), torch.ones(1, 3, dtype=torch.long)
    first = torch.randint(0, 64, (4, 12))
    other = first.clone()
    other[:, 8:] = (other[:, 8:] + 1) % 64
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


def test_embeddings_start_from_the_codebooks_geometry(codec):
    model = build_model(codec, hidden=32, layers=1, heads=2, feed_forward=32)
    vectors = codec.quantizer.layers[0].codebook.embed
    learned = model.decoder.model.decoder.embed_tokens[0].weight[:64]
    centred = vectors - vectors.mean(dim=0)
    cosines = [torch.nn.functional.cosine_similarity(x[0], x[1:], dim=1) for x in (centred, learned)]
    assert torch.allclose(cosines[0], cosines[1], **NETWORK)


def test_music_that_hangs_plays_a_few_frames_over_and_over_and_nothing_else_changes():
    played = torch.arange(2 * 3 * 120).reshape(2, 3, 120)
    hung = hang(played, 1.0, np.random.default_rng(0))
    for row, original in zip(hung, played, strict=True):
        changed = torch.nonzero((row != original).any(0)).flatten()
        begin, end = int(changed[0]), int(changed[-1]) + 1
        assert 8 <= end - begin <= 50
        lags = [
            lag for lag in range(1, 13) if torch.equal(row[:, begin:end], row[:, begin - lag : end - lag])
        ]
        assert lags
    assert torch.equal(played, torch.arange(2 * 3 * 120).reshape(2, 3, 120))
    assert torch.equal(hang(played, 0.0, np.random.default_rng(0)), played)


def test_music_hangs_in_training_only_and_as_often_as_the_schedule_says(codec):
    model = build_model(codec, hidden=32, layers=1, heads=2, feed_forward=32).eval()
    torch.manual_seed(0)
    codes = torch.randint(0, 64, (3, 4, 80))
    batch = codes, torch.zeros(3, 2, dtype=torch.long), torch.zeros(3, 2, dtype=torch.long)
    flawless = Schedule(blanked_rows=0.0, hanging_rows=0.0)
    with torch.no_grad():
        plain, _ = language_loss(model, batch, flawless)
        same, _ = language_loss(model, batch, flawless, np.random.default_rng(0))
        other, _ = language_loss(
            model, batch, Schedule(blanked_rows=0.0, hanging_rows=1.0), np.random.default_rng(0)
        )
    assert float(same) == float(plain) != float(other)
