"""Training the vocoder: what a step may change, what a file keeps, and that silence does no harm."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from workbench.embedded.factors import draw_factors
from workbench.embedded.train_adversary import Adversary, Balancer, Discriminator, discriminator_loss
from workbench.embedded.train_vocoder import (
    COLUMNS,
    SEGMENT_FRAMES,
    Segments,
    SpectralLoss,
    resume_training,
    train_vocoder,
    with_fresh_decoder,
)
from workbench.model.codec import WorkbenchCodec, WorkbenchCodecConfig

SMALL = {
    "sampling_rate": 16000, "hidden_size": 16, "codebook_dim": 16, "codebook_size": 64, "num_filters": 2,
    "upsampling_ratios": [8, 5, 4, 4], "num_lstm_layers": 1, "target_bandwidths": [0.6],
    "pad_mode": "constant", "mel_bands": 20,
}  # fmt: skip
PIECES, SECONDS = 2, 2.0


def tiny_codec() -> WorkbenchCodec:
    """A codec with drawn filters and codebooks and an untrained decoder."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        codec = WorkbenchCodec(WorkbenchCodecConfig(**SMALL))
        for layer in codec.quantizer.layers:
            layer.codebook.embed.normal_()
        codec.encoder.mel.uniform_(0, 0.1)
        codec.encoder.projection.normal_()
    return codec.eval()


@pytest.fixture
def build(tmp_path: Path) -> Path:
    """A build folder with a fitted codec and a rendered training split of two short pieces."""
    tiny_codec().save_pretrained(tmp_path / "codec")
    (tmp_path / "audio").mkdir()
    samples = np.random.default_rng(0).normal(0, 3000, int(PIECES * SECONDS * 16000)).astype("<i2")
    samples.tofile(tmp_path / "audio" / "train.int16")
    starts = [int(i * SECONDS * 16000) for i in range(PIECES + 1)]
    factors = [asdict(draw_factors("jazz", 0, i)) for i in range(PIECES)]
    content = {"rate_hz": 16000, "starts": starts, "factors": factors}
    (tmp_path / "audio" / "train.json").write_text(json.dumps(content))
    return tmp_path


def batch(codec: WorkbenchCodec, rows: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and sound of one batch of noise."""
    rng = torch.Generator().manual_seed(1)
    codes = (len(codec.quantizer.layers), rows, SEGMENT_FRAMES)
    return (
        torch.randint(0, 64, codes, generator=rng),
        0.1 * torch.randn(rows, SEGMENT_FRAMES * 640, generator=rng),
    )


def copied(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def test_an_adversarial_step_changes_decoder_and_discriminator_and_nothing_else(build: Path) -> None:
    run = resume_training(build, device="cpu")
    run.adversary = Adversary("cpu")
    fixed = [copied(run.codec.encoder), copied(run.codec.quantizer)]
    decoder, judge = copied(run.codec.decoder), copied(run.adversary.discriminator)
    for _ in range(6):
        losses = run.take_step(*batch(run.codec, 1), rate=1e-3, resolutions=2)
        assert {"spectral", "adversarial", "features"} <= set(losses)
        assert all(np.isfinite(value) for value in losses.values())
    assert not same(decoder, run.codec.decoder.state_dict())
    assert not same(judge, run.adversary.discriminator.state_dict())
    assert same(fixed[0], run.codec.encoder.state_dict())
    assert same(fixed[1], run.codec.quantizer.state_dict())
    assert 0 < sum("discriminator" in line for line in run.recent) < 6, "it learns in two of three steps"


def test_teaching_the_decoder_leaves_the_discriminator_as_it_is() -> None:
    adversary = Adversary("cpu")
    before = copied(adversary.discriminator)
    made = torch.randn(2, 4000).requires_grad_()
    gradient, _ = adversary.teach(made, torch.randn(2, 4000), made.square().mean())
    assert same(before, adversary.discriminator.state_dict())
    assert all(p.grad is None and p.requires_grad for p in adversary.discriminator.parameters())
    assert gradient.shape == made.shape and float(gradient.norm()) > 0


def test_a_resumed_training_has_decoder_discriminator_optimisers_and_balance(build: Path) -> None:
    run = resume_training(build, device="cpu")
    run.adversary = Adversary("cpu")
    for _ in range(2):
        run.take_step(*batch(run.codec), rate=1e-3, resolutions=2)
    run.save(build / "vocoder")
    again = resume_training(build, device="cpu")
    assert again.step == 2
    assert again.adversary is not None
    assert same(run.codec.state_dict(), again.codec.state_dict())
    assert same(run.adversary.discriminator.state_dict(), again.adversary.discriminator.state_dict())
    assert again.adversary.balancer.sums == pytest.approx(run.adversary.balancer.sums)
    assert again.adversary.balancer.seen == run.adversary.balancer.seen
    memory = [one.optimiser.state_dict()["state"] for one in (run, again)]
    assert torch.equal(memory[0][0]["exp_avg"], memory[1][0]["exp_avg"])
    judges = [one.adversary.optimiser.state_dict()["state"] for one in (run, again)]
    assert torch.equal(judges[0][0]["exp_avg"], judges[1][0]["exp_avg"])


def test_the_spectral_step_is_the_gradient_of_the_spectral_loss(build: Path) -> None:
    run = resume_training(build, device="cpu")
    losses = [run.take_step(*batch(run.codec), rate=3e-3, resolutions=5)["spectral"] for _ in range(12)]
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("minutes_of_adversary", [False, True])
def test_one_command_trains_saves_and_goes_on(build: Path, minutes_of_adversary: bool) -> None:
    for _ in range(2):
        train_vocoder(build, minutes=0.02, adversary=minutes_of_adversary, batch=2)
    rows = list(csv.DictReader((build / "vocoder" / "log.csv").open()))
    assert tuple(rows[0]) == COLUMNS and len(rows) == 2
    assert int(rows[1]["step"]) > int(rows[0]["step"]) > 0
    assert float(rows[1]["minutes"]) >= float(rows[0]["minutes"]) > 0
    assert bool(rows[1]["features"]) == minutes_of_adversary
    assert (build / "vocoder" / "adversary.pt").exists() == minutes_of_adversary


def test_more_filters_make_a_wider_decoder_behind_the_same_codes() -> None:
    codec = tiny_codec()
    wide = with_fresh_decoder(codec, 3)
    sound = torch.randn(1, 1, 6400)
    assert torch.equal(codec.encode(sound).audio_codes, wide.encode(sound).audio_codes)
    counts = [sum(p.numel() for p in one.decoder.parameters()) for one in (codec, wide)]
    assert counts[1] > counts[0]
    assert wide.decode(wide.encode(sound).audio_codes, [None]).audio_values.shape == sound.shape


def test_silence_gives_finite_losses_and_gradients() -> None:
    adversary, silence = Adversary("cpu"), torch.zeros(1, 8000)
    for _ in range(3):
        made = silence.clone().requires_grad_()
        gradient, losses = adversary.teach(made, silence, SpectralLoss(16000)(made, silence))
        assert torch.isfinite(gradient).all()
        assert all(np.isfinite(value) for value in losses.values())
        assert np.isfinite(adversary.learn(made, silence))


def test_partials_are_heard_where_mel_bands_are_blind() -> None:
    time_s = torch.arange(8000) / 16000
    low, high = (0.3 * torch.sin(2 * torch.pi * f * time_s)[None] for f in (6900.0, 7000.0))
    plain, fine = (SpectralLoss(16000, partials=weight)(low, high, [2048]) for weight in (0.0, 0.3))
    same_tone = SpectralLoss(16000, partials=0.3)(low, low, [2048])
    assert fine > plain + 0.1
    assert float(same_tone) == pytest.approx(0, abs=1e-6)


def test_the_balancer_gives_each_loss_its_share_whatever_its_scale() -> None:
    output = torch.zeros(2, requires_grad=True)
    for scale in (1.0, 1e6, 1e-6):
        losses = {"first": 2 * output[0], "second": scale * output[1]}
        mixed = Balancer({"first": 3.0, "second": 1.0}).gradient(losses, output)
        assert mixed.tolist() == pytest.approx([1.5, 0.5]), "on the scale of the first, in shares of 3 to 1"


def test_the_discriminator_learns_to_tell_noise_from_tones() -> None:
    adversary = Adversary("cpu", lr=2e-3)
    tones = torch.sin(torch.arange(8000) * torch.tensor([[0.1], [0.23]]))
    noise = 0.5 * torch.randn(2, 8000, generator=torch.Generator().manual_seed(0))
    first = adversary.learn(noise, tones)
    for _ in range(16):
        adversary.learn(noise, tones)
    judged = adversary.discriminator(tones), adversary.discriminator(noise)
    assert float(discriminator_loss(*judged).detach()) < 0.7 * first


def test_the_discriminator_hears_phase() -> None:
    """A spectral magnitude cannot tell a sound from its negative; the complex spectrum can."""
    sound = torch.randn(1, 4000, generator=torch.Generator().manual_seed(0))
    discriminator = Discriminator(sizes=(512,), channels=4)
    (a, _), (b, _) = discriminator(sound)[0], discriminator(-sound)[0]
    assert (a - b).abs().max() > 1e-3


def test_segments_line_up_codes_and_sound(build: Path) -> None:
    from workbench.embedded.corpus import corpus

    pieces = corpus("train", build)
    codes = [np.arange(50)[None].repeat(4, 0) + 100 * i for i in range(PIECES)]
    tokens, waves = Segments(pieces, codes, 640, np.random.default_rng(0)).draw(16)
    for row, wave in zip(tokens[0], waves, strict=True):
        piece, first = divmod(int(row[0]), 100)
        wanted = pieces.piece(piece)[first * 640 : (first + SEGMENT_FRAMES) * 640]
        assert np.array_equal(wave.numpy(), wanted)
