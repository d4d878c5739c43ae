"""How long causes take on the built-in model: `python tests/bench_causal.py [threads]`."""

from __future__ import annotations

import sys
import time

import torch

import workbench as wb
from workbench.evidence import causal
from workbench.model.network import SITES

ASKED = {  # what is patched, and how
    "all layers, ten windows, both branches": {},
    "six sites, ten windows, both branches": {"sites": SITES},
    "each head, whole time, both branches": {"sites": ("head_out",), "heads": True, "windows": 1},
}


def main() -> None:
    """Print the seconds of each map of a 5 s clip."""
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
    model = wb.load("embedded")
    takes = wb.generate(model, ["a rock tune", "a jazz tune"], seed=[3, 3], seconds=5, progress=False)
    causal.patch_map(model, *takes, layers=[0], windows=1)  # what is made once is made
    for name, options in ASKED.items():
        begin = time.monotonic()
        found = causal.patch_map(model, *takes, **options)
        seconds = time.monotonic() - begin
        print(f"{name}: {found.values.size} patches, {seconds:.1f} s")  # noqa: T201  (a program for people)


if __name__ == "__main__":
    main()
