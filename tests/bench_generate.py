"""Generation, timed: python tests/bench_generate.py [model ... | precisions | engines [model ...]]

The engine against transformers' own `generate`. Models: "embedded", and "small" and "small-bf16", random
weights in musicgen-small's true shape. Whole calls are timed, from text to sound: one clip, guidance 3, one
thread unless OMP_NUM_THREADS says more. The ways take turns in one run; each has its least time told, for
other programs can only add to a time. The engine must draw the very codes of `generate`.

"precisions" compares a step of `generate` with one of each engine, musicgen-small's shape, in each precision
of ours: the median step of a call, in time on the clock and of the processor, the ways in turns.

"engines" compares the traced with the compiled engine, steered at one layer, on the best device that is
present: "embedded" where nothing else is named, or "small", "medium", "large" in bfloat16 (float32 on a CPU).
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from generation_samples import save_true_shape
from steering_fixture import prompt_ids, transformers_codes

import workbench as wb
from workbench.generation.live.session import LiveSession
from workbench.generation.request import settings_of

PROMPT, SEED = "a calm tune", 7
ENGINES = ("generate", "nnsight", "compiled")
LIMITS = {"embedded": 1.10, "small": 1.05, "small-bf16": 1.05}
CASES = {"embedded": (5.0, 9), "small": (1.0, 5), "small-bf16": (1.0, 7)}  # seconds of sound, rounds


def loaded(name: str) -> wb.Model:
    """Return the model of that name."""
    if name == "embedded":
        return wb.load(name, dtype="float32")
    with tempfile.TemporaryDirectory() as folder:
        saved = save_true_shape(Path(folder) / "small", "small")
        return wb.load(saved, dtype="bfloat16" if name.endswith("bf16") else "float32")


def pushes(model: wb.Model, count: int) -> wb.Steering:
    """Return a plan with a small push at each of `count` layers."""
    norms, origin = model.residual_norms(), {"model_id": model.id}
    layers = np.linspace(0, model.n_layers - 2, count).round().astype(int)
    draw = np.random.default_rng(0)
    terms = [
        wb.Direction(
            draw.standard_normal(model.d_model), layer, name=f"push {layer}",
            residual_norm=float(norms[layer]), origin=origin,
        ).unit().at(0.05)
        for layer in layers.tolist()
    ]  # fmt: skip
    return sum(terms[1:], terms[0])


def ways(model: wb.Model, seconds: float) -> dict[str, Callable[[], np.ndarray]]:
    """Return the ways to the same music, each giving its codes (k, frames)."""
    frames, top_k = model.frames_for(seconds), settings_of(model).top_k
    ids = prompt_ids(model, PROMPT)

    def own(steering: wb.Steering | None) -> np.ndarray:
        take = wb.generate(model, PROMPT, seed=SEED, seconds=seconds, steering=steering, progress=False)
        return take.codes

    def untraced() -> np.ndarray:
        run = model.sampling([PROMPT], seeds=[SEED], frames=frames, guidance=3.0, top_k=top_k)
        codes = type(model.network).sample.__wrapped__(model.network, run)
        model.decode_batch(list(codes))
        return codes[0].numpy()

    return {
        "generate": lambda: transformers_codes(
            model.musicgen, ids, seed=SEED, frames=frames, guidance_scale=3.0, top_k=top_k
        ),
        "own loop, no trace": untraced,
        "traced": partial(own, None),
        "steering 1 layer": partial(own, pushes(model, 1)),
        "steering 4 layers": partial(own, pushes(model, 4)),
    }


def step_times(model: wb.Model, seconds: float, engine: str, layers: int) -> tuple[float, float]:
    """Return the median milliseconds of a step of one clip: on the clock, of the processor.

    Args:
        model: The model.
        seconds: Of sound.
        engine: "generate" for transformers' own, or one of ours.
        layers: At how many ours is steered.
    """
    stamps: list[tuple[float, float]] = []

    def note(*_of: object) -> None:
        stamps.append((time.perf_counter(), time.process_time()))

    if engine == "generate":
        handle = model.musicgen.decoder.register_forward_pre_hook(note)
        ways(model, seconds)["generate"]()
        handle.remove()
    else:
        how: dict[str, Any] = {"seconds": seconds, "engine": engine, "progress": False, "on_frame": note}
        take = wb.generate(model, PROMPT, seed=SEED, steering=pushes(model, layers), **how)
        assert take.receipt.ok
    clock, processor = np.median(np.diff(stamps[2:], axis=0), axis=0) * 1000  # `generate` prefills twice
    return float(clock), float(processor)


def precisions(rounds: int = 5, seconds: float = 0.2) -> None:
    """Print a step of `generate` in float32 and bfloat16, and of both engines, steered, in each precision."""
    every: dict[str, Callable[[], tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        saved = save_true_shape(Path(folder) / "small", "small")
        for dtype in ("float32", "bfloat16", "int8", "int4"):
            model = wb.load(saved, device="cpu", dtype=dtype)
            for engine in ("nnsight", "compiled") if dtype.startswith("int") else ENGINES:
                every[f"{engine}, {dtype}"] = partial(step_times, model, seconds, engine, 4)
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for step in every.values():  # the compiler works
            step()
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in every}
        for _ in range(rounds):
            for name, step in every.items():
                found[name].append(step())
        sys.stdout.write(f"{threads} thread(s)\n")
        tell_steps(found)


def tell_steps(found: dict[str, list[tuple[float, float]]]) -> None:
    """Print medians, least times and ratios of what `step_times` gave in each round."""
    base = np.array(found["generate, float32"])
    for name, times in found.items():
        (clock, processor), least = np.median(times, axis=0), np.min(times, axis=0)
        ratio = np.median(np.array(times) / base, axis=0)
        sys.stdout.write(
            f"{name:28} clock {clock:6.1f} ms (least {least[0]:6.1f}), processor {processor:6.1f} ms "
            f"(least {least[1]:6.1f}), {ratio[0]:.2f} x / {ratio[1]:.2f} x generate in float32\n"
        )
        sys.stdout.flush()


def engines(names: list[str], rounds: int = 5) -> None:
    """Print the speed and memory of both engines, the capture's speed, and the live session's latency."""
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            saved = name if name == "embedded" else save_true_shape(Path(folder) / name, name)
            cuda = torch.cuda.is_available()
            model = wb.load(saved, dtype="bfloat16" if cuda and name != "embedded" else "float32")
        seconds = 4.0 if cuda or name == "embedded" else 0.4
        found: dict[str, list[float]] = {"nnsight": [], "compiled": []}
        for turn in range(rounds + 1):  # the first compiles
            for engine, steps in found.items():
                step, _ = step_times(model, seconds, engine, 1)
                if turn:
                    steps.append(step)
        for engine, steps in found.items():
            rate, ratio = 1000 / min(steps), np.median(np.array(steps) / np.array(found["nnsight"]))
            read = rate * weights(model) / 1e9
            sys.stdout.write(
                f"{name:9} {engine:9} {min(steps):7.2f} ms a step, {ratio:.2f} x traced, "
                f"{rate / model.frame_rate_hz:.2f} x real time, {read:.0f} GB/s of weights\n"
            )
        tell_more(model)


def weights(model: wb.Model) -> int:
    """Return the bytes of the decoder's weights, which every step reads once."""
    return sum(one.numel() * one.element_size() for one in model.musicgen.decoder.parameters())


def tell_more(model: wb.Model) -> None:
    """Print frames a second of a capture, knob to ear of a live session, and the memory of the device."""
    clips = wb.dataset("embedded").take(8, seed=0)
    start = time.perf_counter()
    wb.capture(model, clips, seconds=4.0, cache=False, progress=False)
    frames = len(clips) * 4 * model.frame_rate_hz / (time.perf_counter() - start)
    sys.stdout.write(f"          capture {frames:.0f} frames/s")
    direction = pushes(model, 1).terms[0].direction
    session = LiveSession(model, {"push": direction}, prompt=PROMPT).start()
    for dose in (0.05, 0.0, 0.05):
        session.wait(3)
        session.slide("push", dose)
    session.wait(3)
    sys.stdout.write(f", {session.figures()}")
    session.stop()
    if torch.cuda.is_available():
        sys.stdout.write(f" {torch.cuda.max_memory_allocated() / 1e9:.1f} GB of the GPU's memory")
    sys.stdout.write("\n")
    sys.stdout.flush()


def main(names: list[str]) -> None:
    """Time the models and print a line for each way."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    machine = f"{platform.machine()}, {torch.get_num_threads()} thread(s), torch {torch.__version__}"
    sys.stdout.write(f"{date.today()}, {machine}\n")
    if "engines" in names:
        engines([name for name in names if name != "engines"] or ["embedded"])
        return
    if "precisions" in names:
        precisions()
    for name in [name for name in names if name != "precisions"]:
        seconds, rounds = CASES[name]
        model = loaded(name)
        every = ways(model, seconds)
        codes = {way: np.asarray(draw()) for way, draw in every.items()}  # also the warm-up
        for way in ("own loop, no trace", "traced"):
            assert np.array_equal(codes[way], codes["generate"]), f"{name}: {way} draws other codes"
        times = {way: np.empty(rounds) for way in every}
        for turn in range(rounds):
            for way, draw in every.items():
                start = time.perf_counter()
                draw()
                times[way][turn] = time.perf_counter() - start
        base = times["generate"]
        for way, taken in times.items():
            ratio, middle = taken.min() / base.min(), float(np.median(taken / base))
            sys.stdout.write(
                f"{name:11} {way:20} {1000 * taken.min() / model.frames_for(seconds):7.2f} ms a frame, "
                f"{ratio:.2f} x (median of rounds {middle:.2f} x), limit {LIMITS[name]:.2f}\n"
            )


if __name__ == "__main__":
    main(sys.argv[1:] or list(CASES))
