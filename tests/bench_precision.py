"""What bfloat16 costs the built-in model's music: python tests/bench_precision.py [clips per genre]

The same prompts and seeds are drawn in float32 and in bfloat16. A judge hears both, and the float32 model
says how likely it finds the codes of both; paired bootstrap over prompt and seed.
"""

from __future__ import annotations

import sys
import time

import numpy as np

import workbench as wb
from workbench.evidence.damage import likelihood
from workbench.model.load import divergence, next_codes
from workbench.stats import means

SECONDS, FIRST_SEED = 5.0, 20_000


def main(count: int) -> None:
    """Draw, judge, score, and print a line for each precision and one for their difference."""
    judge = wb.load_judge()
    prompts = [f"a {name} tune" for name in judge.classes for _ in range(count)]
    seeds = [FIRST_SEED + number for number in range(len(prompts))]
    exact = wb.load("embedded", dtype="float32")
    found = {}
    for dtype in ("float32", "bfloat16"):
        model = wb.load("embedded", dtype=dtype)
        start = time.perf_counter()
        takes = wb.generate(model, prompts, seed=seeds, seconds=SECONDS, progress=False)
        spent = time.perf_counter() - start
        heard = judge.probabilities([take.clip for take in takes])
        wanted = [judge.classes.index(prompt.split()[1]) for prompt in prompts]
        hits = heard.argmax(axis=1) == wanted
        nll = np.array([one.nll for one in likelihood(exact, takes)])
        found[dtype] = np.column_stack([hits, heard[np.arange(len(wanted)), wanted], nll])
        sys.stdout.write(
            f"{dtype}: hits {hits.mean():.3f}, P(prompted genre) {found[dtype][:, 1].mean():.3f}, "
            f"{nll.mean():.3f} nats per code, {spent:.1f} s for {len(takes)} clips in batches\n"
        )
        lost = divergence(next_codes(exact), next_codes(model))
        sys.stdout.write(f"  odds of the next codes moved by {lost:.2g} nats\n")
    names = ("hits", "P(prompted genre)", "nats per code")
    for name, change in zip(names, means(found["bfloat16"] - found["float32"], np.array(seeds)), strict=True):
        sys.stdout.write(f"bfloat16 minus float32, {name}: {change}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
