"""What a coarser precision costs: python tests/bench_precision.py [clips per genre | outliers]

With clips: the same prompts and seeds are drawn by the built-in model in each precision, steered and not. A
judge hears all of them, and the float32 model says how likely it finds their codes; paired bootstrap over
prompt and seed, against float32. Steered is by difference in means, read in float32.

"outliers": random weights in musicgen-small's width, six blocks, of whose norms a few channels are made 30
times as large, as they are in real transformers. Per block, by how much of its norm the residual stream
differs from float32, and the cosine of probe weights (difference in means, logistic) with those from float32.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import fixture_model
import numpy as np
import torch

import workbench as wb
from workbench.evidence.damage import likelihood
from workbench.model import lowbit
from workbench.model.load import divergence, next_codes
from workbench.model.teacher_forcing import Reading, read_codes
from workbench.probing.solvers import Design, logistic_path, one_hot
from workbench.stats import means

SECONDS, FIRST_SEED, LAYER, DOSE = 5.0, 20_000, 2, 0.2
PRECISIONS = ("float32", "bfloat16", "int8", "int4")
OUTLIERS, LARGER, CLIPS, FRAMES = 6, 30.0, 64, 25


def main(count: int) -> None:
    """Draw, judge, score, and print a line for each precision and one for its difference from float32."""
    judge = wb.load_judge()
    names = [name for name in judge.classes for _ in range(count)]
    seeds = np.arange(FIRST_SEED, FIRST_SEED + len(names))
    wanted = [judge.classes.index(name) for name in names]
    exact = wb.load("embedded", dtype="float32")
    acts = wb.capture(exact, wb.dataset("embedded").take(96), layers=[LAYER], seconds=5.0, progress=False)
    pushes = {name: wb.difference_in_means(acts, name, layer=LAYER) for name in judge.classes}
    found: dict[str, np.ndarray] = {}
    for steered in (False, True):
        prompts = ["a tune" if steered else f"a {name} tune" for name in names]
        plans = [pushes[name].at(DOSE) if steered else None for name in names]
        for dtype in PRECISIONS:
            model = exact if dtype == "float32" else wb.load("embedded", dtype=dtype)
            start = time.perf_counter()
            takes = wb.generate(
                model, prompts, seed=seeds.tolist(), seconds=SECONDS, steering=plans, progress=False
            )
            spent = time.perf_counter() - start
            heard = judge.probabilities([take.clip for take in takes])
            nll = np.array([one.nll for one in likelihood(exact, takes)])
            found[dtype] = np.column_stack([heard.argmax(axis=1) == wanted, nll])
            moved = divergence(next_codes(exact), next_codes(model))
            told = [
                f"{name} {value:.3f}, {change} from float32"
                for name, value, change in zip(
                    ("hits", "nats per code"),
                    found[dtype].mean(axis=0),
                    means(found[dtype] - found["float32"], seeds),
                    strict=True,
                )
            ]
            sys.stdout.write(
                f"{'steered' if steered else 'prompted'}, {dtype}: {'; '.join(told)}; {len(takes)} clips, "
                f"{spent:.0f} s in batches; odds of the next codes moved by {moved:.2g} nats\n"
            )
            sys.stdout.flush()


def outliers() -> None:
    """Print the errors of the residual stream and the cosines of probe weights, a line for each scheme."""
    decoder = fixture_model.decoder_config(
        num_hidden_layers=6,
        hidden_size=1024,
        ffn_dim=4096,
        num_attention_heads=16,
        initializer_factor=0.02,
    )
    musicgen = fixture_model.build(decoder=decoder)
    channels = torch.randperm(1024, generator=torch.Generator().manual_seed(1))[:OUTLIERS]
    for block in musicgen.decoder.model.decoder.layers:
        for norm in (block.self_attn_layer_norm, block.encoder_attn_layer_norm, block.final_layer_norm):
            norm.weight.data[channels] *= LARGER
    rng = np.random.default_rng(0)
    # Two kinds of clip, of which each prefers one half of the codes.
    kinds = np.arange(CLIPS) % 2
    codes = [rng.integers(0, 48, (4, FRAMES)) + 16 * kind for kind in kinds]
    read: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as folder:
        saved = fixture_model.save(musicgen, Path(folder) / "outliers")
        for scheme in (*PRECISIONS, "int8, torch's kernel", "int8, one digit"):
            read[scheme] = _residuals(saved, scheme, codes)
    exact = read.pop("float32")
    for scheme, values in read.items():
        apart = np.linalg.norm(values - exact, axis=-1) / np.linalg.norm(exact, axis=-1)
        layers = " ".join(f"{layer:.1e}" for layer in apart.mean(axis=(0, 2)))
        pairs = [
            (_weights(one.mean(axis=1), kinds), _weights(two.mean(axis=1), kinds))
            for one, two in zip(values.swapaxes(0, 1), exact.swapaxes(0, 1), strict=True)
        ]
        cosines = np.array([[float(a @ b) for a, b in zip(one, two, strict=True)] for one, two in pairs])
        least = cosines.min(axis=0)
        sys.stdout.write(
            f"{scheme:22} error by block {layers}; least cosine: means {least[0]:.5f}, "
            f"logistic {least[1]:.5f}\n"
        )


def _residuals(saved: Path, scheme: str, codes: list[np.ndarray]) -> np.ndarray:
    """Return the residual stream (clips, layers, frames, d_model) of forced codes."""
    kept = lowbit.TWO_DIGITS, lowbit.BASE
    lowbit.TWO_DIGITS = kept[0] and "kernel" not in scheme
    if "one digit" in scheme:
        lowbit.BASE = 10**9  # the second digit counts nothing
    try:
        model: Any = wb.load(saved, device="cpu", dtype=scheme.split(",")[0], check=False)
        reading = Reading(("resid_post",), tuple(model.layers), None)
        return read_codes(model, codes, model.text(["a tune"] * len(codes)), reading)["resid_post"]
    finally:
        lowbit.TWO_DIGITS, lowbit.BASE = kept


def _weights(x: np.ndarray, kinds: np.ndarray) -> list[np.ndarray]:
    """Return the unit weights (d_model,) of two probes of `kinds`, in the space of the residuals."""
    x = x.astype(np.float64)
    design = Design.of(x)
    logistic = logistic_path(design, one_hot(kinds, 2), [1e-2])
    found = [x[kinds == 1].mean(0) - x[kinds == 0].mean(0), np.asarray(logistic[0][0]).reshape(2, -1)[1]]
    return [one / np.linalg.norm(one) for one in found]


if __name__ == "__main__":
    if sys.argv[1:] == ["outliers"]:
        outliers()
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
