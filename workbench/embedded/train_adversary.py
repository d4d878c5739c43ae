"""The discriminator that teaches the vocoder what spectral distances miss: phases, attacks, grain.

After EnCodec (Défossez et al. 2022, arXiv:2210.13438): one small network per resolution looks at the complex
short-time spectrum; hinge losses; feature matching; and a balancer, which gives each loss a fixed share of
the gradient at the decoder's output, whatever its scale. It is thrown away when the vocoder is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, relu
from torch.nn.utils.parametrizations import weight_norm

SIZES = (512, 1024, 2048)
CHANNELS = 16
UPDATE_SHARE = 2 / 3
"""Share of the steps in which the discriminator learns too, so that the decoder keeps up (EnCodec)."""

Judgement = tuple[Tensor, list[Tensor]]  # logits (B, 1, frames, bands), features of the layers before


class StftDiscriminator(nn.Module):
    """Convolutions over one complex short-time spectrum, real and imaginary part as two channels."""

    def __init__(self, size: int, channels: int) -> None:
        super().__init__()
        self.size = size
        self.window = nn.Buffer(torch.hann_window(size), persistent=False)
        inside = [_convolution(channels, channels, (3, 9), (1, 2), dilation) for dilation in (1, 2, 4)]
        self.layers = nn.ModuleList(
            [
                _convolution(2, channels, (3, 9), (1, 2)),  # striding at once halves the price
                *inside,
                _convolution(channels, channels, (3, 3)),
                _convolution(channels, 1, (3, 3)),
            ]
        )

    def forward(self, waveform: Tensor) -> Judgement:
        """Return logits and features of waveforms (B, n)."""
        spectrum = torch.stft(
            waveform.float(),
            self.size,
            self.size // 4,
            window=self.window,
            normalized=True,
            return_complex=True,
        )
        hidden, features = torch.stack([spectrum.real, spectrum.imag], dim=1).transpose(2, 3), []
        for layer in self.layers[:-1]:
            hidden = leaky_relu(layer(hidden), 0.2)
            features.append(hidden)
        return self.layers[-1](hidden), features


def _convolution(
    inputs: int, outputs: int, kernel: tuple[int, int], stride: tuple[int, int] = (1, 1), dilation: int = 1
) -> nn.Module:
    """Return a convolution over (frames, bands) that keeps the frames; `dilation` is along time."""
    padding = (dilation * (kernel[0] // 2), kernel[1] // 2)
    return weight_norm(nn.Conv2d(inputs, outputs, kernel, stride, padding, (dilation, 1)))


class Discriminator(nn.Module):
    """One `StftDiscriminator` per resolution."""

    def __init__(self, sizes: tuple[int, ...] = SIZES, channels: int = CHANNELS) -> None:
        super().__init__()
        self.scales = nn.ModuleList([StftDiscriminator(size, channels) for size in sizes])

    def forward(self, waveform: Tensor) -> list[Judgement]:
        """Return the judgement of each resolution on waveforms (B, n)."""
        with torch.autocast(waveform.device.type, dtype=torch.bfloat16):
            return [scale(waveform) for scale in self.scales]


def discriminator_loss(real: list[Judgement], made: list[Judgement]) -> Tensor:
    """Return the hinge loss: real sound above +1, made sound below -1, mean over resolutions."""
    terms = [
        relu(1 - r.float()).mean() + relu(1 + m.float()).mean()
        for (r, _), (m, _) in zip(real, made, strict=True)
    ]
    return torch.stack(terms).mean()


def adversarial_loss(made: list[Judgement]) -> Tensor:
    """Return what the decoder loses where its sound is not taken for real, mean over resolutions."""
    return torch.stack([relu(1 - logits.float()).mean() for logits, _ in made]).mean()


def feature_loss(real: list[Judgement], made: list[Judgement]) -> Tensor:
    """Return the mean distance of the discriminator's features, relative to those of the real sound."""
    terms = [
        (a.detach().float() - b.float()).abs().mean() / a.detach().float().abs().mean().clamp(min=1e-5)
        for (_, real_features), (_, made_features) in zip(real, made, strict=True)
        for a, b in zip(real_features, made_features, strict=True)
    ]
    return torch.stack(terms).mean()


class Balancer:
    """Mixes the gradients of several losses, so that each has its share whatever its scale.

    Each gradient is divided by the running mean of its own norm and weighed; the sum is put back on the
    scale of the first loss, so that the optimiser's memory stays valid when losses are added (EnCodec,
    section 3.4). Silence, where gradients vanish, gives a zero gradient and not a division by zero.

    Args:
        weights: the share of each loss; the first names the loss that gives the scale.
        decay: of the running means.
    """

    def __init__(self, weights: Mapping[str, float], decay: float = 0.99) -> None:
        self.weights = dict(weights)
        self.decay = decay
        self.sums = dict.fromkeys(self.weights, 0.0)
        self.seen = 0.0

    def gradient(self, losses: Mapping[str, Tensor], output: Tensor) -> Tensor:
        """Return the gradient to send back from `output`, which all losses were computed from."""
        self.seen = self.decay * self.seen + 1
        gradients, means = {}, {}
        for name in self.weights:
            (gradients[name],) = torch.autograd.grad(losses[name], output, retain_graph=True)
            self.sums[name] = self.decay * self.sums[name] + float(gradients[name].norm())
            means[name] = self.sums[name] / self.seen
        scale = next(iter(means.values())) / sum(self.weights.values())
        mixed = torch.zeros_like(output)
        for name, weight in self.weights.items():
            mixed = mixed + gradients[name] * (weight * scale / max(means[name], 1e-12))
        return mixed


class Adversary:
    """A discriminator with its optimiser and balancer: saved and resumed as one."""

    def __init__(self, device: str, *, lr: float = 3e-4, seed: int = 0) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.discriminator = Discriminator().to(device)
        self.optimiser = torch.optim.AdamW(
            self.discriminator.parameters(), lr=lr, betas=(0.8, 0.99), weight_decay=0.0
        )
        self.balancer = Balancer({"spectral": 2.0, "adversarial": 1.0, "features": 2.0})

    @classmethod
    def resume(cls, path: Path, device: str) -> Adversary:
        """Return the adversary that `save` wrote."""
        adversary = cls(device)
        saved = torch.load(path, weights_only=True, map_location=device)
        adversary.discriminator.load_state_dict(saved["discriminator"])
        adversary.optimiser.load_state_dict(saved["optimiser"])
        adversary.balancer.sums, adversary.balancer.seen = saved["sums"], saved["seen"]
        return adversary

    def save(self, path: Path) -> None:
        """Write discriminator, optimiser and balancer."""
        saved = {
            "discriminator": self.discriminator.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "sums": self.balancer.sums,
            "seen": self.balancer.seen,
        }
        torch.save(saved, path)

    def learn(self, made: Tensor, wanted: Tensor) -> float:
        """Return the discriminator's loss on waveforms (B, n), after one step of its own."""
        both = self.discriminator(torch.cat([wanted, made.detach()]))
        loss = discriminator_loss(*_halves(both, len(wanted)))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.discriminator.parameters(), 1.0)
        self.optimiser.step()
        return float(loss.detach())

    def teach(self, made: Tensor, wanted: Tensor, spectral: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Return the balanced gradient at `made` (B, n), and the losses behind it.

        Args:
            made: the decoder's output, a leaf that wants a gradient.
            wanted: the sound that it stands for.
            spectral: the spectral loss, computed from `made`.
        """
        self.discriminator.requires_grad_(False)  # what it thinks is used, not changed, and half as dear
        with torch.no_grad():
            real = self.discriminator(wanted)
        judged = self.discriminator(made)
        losses = {
            "spectral": spectral,
            "adversarial": adversarial_loss(judged),
            "features": feature_loss(real, judged),
        }
        gradient = self.balancer.gradient(losses, made)
        self.discriminator.requires_grad_(True)
        return gradient, {name: float(loss.detach()) for name, loss in losses.items()}


def _halves(judgements: list[Judgement], first: int) -> tuple[list[Judgement], list[Judgement]]:
    """Return the judgements on the first rows of a batch, and on the rest."""
    return (
        [(logits[:first], [f[:first] for f in features]) for logits, features in judgements],
        [(logits[first:], [f[first:] for f in features]) for logits, features in judgements],
    )
