"""Trains the band's ear on what the band itself plays. Resumable; the data are made on the fly.

Making sound and spectra costs more than learning from them, so every step makes two windows anew, and learns
from those and ten of the last 240.

Run it as ``python -m recipe.train_hearing BUILD``. It
writes `hearing/ear.safetensors` there, and prints how many tokens of held-out pieces are heard exactly.
"""

from __future__ import annotations

import argparse
import time
from collections import deque
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from recipe.corpus import Scores, scores
from recipe.samples import SHIPPED, bank_of, packed_bank
from workbench.model.band import FIRST, FRAME_RATE_HZ, PARTS, TOKENS
from workbench.model.band_codec import HANDS, BandCodec, BandCodecConfig, BandEar, features_of
from workbench.model.band_sampler import FRAME, Bank, Player

WIDTH = 192
STEPS = 1800
_WINDOW, _LEAD_IN = 8 * FRAME_RATE_HZ, 2 * FRAME_RATE_HZ
_ROWS, _FRESH, _KEPT = 12, 2, 240  # windows a step learns from, and how many of them are made anew and kept
_PEAK_RATE = 3e-3
_ONSET_WEIGHT, _HIT_WEIGHT = 2.5, 2.0


class Rendered:
    """Windows of pieces with what the ear sees when the band plays them.

    Args:
        pieces: What is played.
        bank: The samples.
        rng: Draws windows and levels.
    """

    def __init__(self, pieces: Scores, bank: Bank, rng: np.random.Generator) -> None:
        self.pieces, self.bank, self.rng = pieces, bank, rng
        self._kept: deque[tuple[Tensor, Tensor]] = deque(maxlen=_KEPT)

    def batch(self) -> tuple[Tensor, Tensor]:
        """Return features (rows, frames, n) and codes (rows, parts, frames), some of them seen before."""
        sounds, codes = self.draw(_FRESH)
        self._kept.extend(zip(features_of(sounds), codes, strict=True))
        older = self.rng.integers(len(self._kept), size=_ROWS - _FRESH).tolist()
        chosen = [self._kept[i] for i in [*range(-_FRESH, 0), *older]]
        features, tokens = zip(*chosen, strict=True)
        return torch.stack(features), torch.stack(tokens)

    def draw(self, rows: int) -> tuple[Tensor, Tensor]:
        """Return sound (rows, samples) and codes (rows, parts, frames); what rang before is heard."""
        sounds, codes = [], []
        for piece in self.rng.integers(len(self.pieces), size=rows):
            whole = self.pieces.codes[piece]
            start = int(self.rng.integers(_LEAD_IN, whole.shape[1] - _WINDOW + 1))
            played = Player(self.bank).play(whole[:, start - _LEAD_IN : start + _WINDOW])[_LEAD_IN * FRAME :]
            sounds.append(played * np.float32(10 ** (self.rng.uniform(-8, 5) / 20)))
            codes.append(whole[:, start : start + _WINDOW].astype(np.int64))
        return torch.from_numpy(np.stack(sounds)), torch.from_numpy(np.stack(codes))


def hands_of(drums: Tensor) -> dict[str, Tensor]:
    """Return what drum tokens say, a tensor like them for each of `HANDS`; kits are -1 where none is."""
    hit = drums >= FIRST
    rest = (drums - FIRST).clamp(min=0)
    found = {}
    for name in ("cymbal_hand", "snare_hand", "kick"):
        found[name] = torch.where(hit, rest % HANDS[name], 0)
        rest = rest // HANDS[name]
    return {**found, "kit": torch.where(hit, rest, -1)}


def hearing_loss(ear: BandEar, features: Tensor, codes: Tensor) -> Tensor:
    """Return the sum of all heads' cross-entropies; tokens that begin something and hits weigh more."""
    logits = ear(features)
    losses = []
    for part, count in TOKENS.items():
        weight = torch.ones(count)
        if part != "conductor":
            weight[FIRST:] = _ONSET_WEIGHT
        losses.append(
            functional.cross_entropy(
                logits[part].flatten(0, 1), codes[:, PARTS.index(part)].flatten(), weight
            )
        )
    for name, target in hands_of(codes[:, PARTS.index("drums")]).items():
        weight = torch.ones(HANDS[name])
        if name != "kit":
            weight[1:] = _HIT_WEIGHT
        losses.append(
            functional.cross_entropy(logits[name].flatten(0, 1), target.flatten(), weight, ignore_index=-1)
        )
    return torch.stack(losses).sum()


def train_hearing(build: Path, *, minutes: float, steps: int = STEPS, seed: int = 0) -> BandEar:
    """Return the ear after at most so many minutes of training; run again to continue where it stopped."""
    torch.manual_seed(seed)
    ear = BandEar(WIDTH)
    optimiser = torch.optim.AdamW(ear.parameters(), lr=_PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    step = _resume(build, ear, optimiser)
    data = Rendered(scores("train", build), bank_of(SHIPPED, build), np.random.default_rng([seed, step]))
    begin, recent = time.time(), []
    while step < steps and (time.time() - begin) / 60 < minutes:
        share = min(1.0, (step + 1) / 50) * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * step / steps)))
        for group in optimiser.param_groups:
            group["lr"] = float(_PEAK_RATE * share)
        loss = hearing_loss(ear, *data.batch())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(ear.parameters(), 1.0)
        optimiser.step()
        step += 1
        recent.append(float(loss.detach()))
        if step % 25 == 0 or step == steps:
            _save(build, ear, optimiser, step)
            print(f"step {step}: {np.mean(recent):.3f} nats, {(time.time() - begin) / 60:.1f} min")
            recent = []
    _save(build, ear, optimiser, step)
    return ear.eval()


def exact(found: np.ndarray, played: np.ndarray) -> dict[str, dict[str, float]]:
    """Return the shares of equal tokens (parts, frames): of all, and where either begins something."""
    shares = {}
    for index, part in enumerate(PARTS):
        same = found[index] == played[index]
        begins = (found[index] >= FIRST) | (played[index] >= FIRST)
        share = float(same[begins].mean()) if begins.any() else 1.0
        shares[part] = {"all": float(same.mean()), "begins": share}
    return shares


def report(ear: BandEar, build: Path, *, rows: int = 48, seed: int = 1) -> dict[str, dict[str, float]]:
    """Return the share of exact tokens of each part, on pieces of grooves that were never trained on."""
    data = Rendered(scores("held", build), bank_of(SHIPPED, build), np.random.default_rng(seed))
    sound, codes = data.draw(rows)
    heard = torch.cat([ear.codes(some) for some in torch.split(sound, 8)])
    return exact(heard.transpose(0, 1).flatten(1).numpy(), codes.transpose(0, 1).flatten(1).numpy())


def hearing_codec(build: Path) -> BandCodec:
    """Return the codec whole: the packed bank and the ear of a build folder."""
    blob, index = packed_bank(SHIPPED, build)
    codec = BandCodec(BandCodecConfig(bank_bytes=len(blob), bank_index=index, ear_width=WIDTH))
    codec.bank_ogg.copy_(torch.frombuffer(bytearray(blob), dtype=torch.uint8))
    weights = {
        name: value.float() for name, value in load_file(build / "hearing" / "ear.safetensors").items()
    }
    assert codec.ear is not None
    codec.ear.load_state_dict(weights)
    return codec.eval()


def _resume(build: Path, ear: BandEar, optimiser: torch.optim.Optimizer) -> int:
    path = build / "hearing" / "checkpoint.pt"
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    ear.load_state_dict(state["ear"])
    optimiser.load_state_dict(state["optimiser"])
    return int(state["step"])


def _save(build: Path, ear: BandEar, optimiser: torch.optim.Optimizer, step: int) -> None:
    """Write the checkpoint and the weights in half precision, each whole or not at all."""
    folder = build / "hearing"
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(
        {"ear": ear.state_dict(), "optimiser": optimiser.state_dict(), "step": step}, folder / "aside.pt"
    )
    (folder / "aside.pt").replace(folder / "checkpoint.pt")
    save_file({name: value.half() for name, value in ear.state_dict().items()}, folder / "aside.safetensors")
    (folder / "aside.safetensors").replace(folder / "ear.safetensors")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("build", type=Path)
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--steps", type=int, default=STEPS)
    asked = parser.parse_args()
    trained = train_hearing(asked.build, minutes=asked.minutes, steps=asked.steps)
    for part, shares in report(trained, asked.build).items():
        print(part, {name: round(share, 3) for name, share in shares.items()})
