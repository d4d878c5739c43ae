"""Measures the built-in model against its bars and writes the figures down, stamped with what was measured.

Every clip that was judged is kept under ``<out>/{prompted,unsteered,steered,random,real}/<genre>/``, so that
anyone can listen, or let another judge hear the same files.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from workbench.embedded.card import write_card
from workbench.embedded.dataset import builtin_dataset
from workbench.embedded.prompts import NEUTRAL_PROMPTS
from workbench.embedded.styles import GENRES
from workbench.evidence.judge import Judge, load_judge
from workbench.evidence.sweep import wilson
from workbench.evidence.validate import Protocol, validate_steering
from workbench.generation.generate import generate
from workbench.generation.take import Take
from workbench.model.capture import capture
from workbench.model.folders import builtin_folder
from workbench.model.load import load
from workbench.model.musicgen import Model
from workbench.probing import fit_probes

PROMPTS = ("a {} tune", "{} music", "a piece of {} music", "play a {} song")
SECONDS = 5.0
FIGURES = "figures.json"


@dataclass(frozen=True)
class Share:
    """A proportion with its 95 % interval (Wilson) and its number of clips."""

    value: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, hits: np.ndarray) -> Share:
        """Return the share of true values."""
        low, high = wilson(int(hits.sum()), len(hits))
        return cls(round(float(hits.mean()), 4), round(low, 4), round(high, 4), len(hits))


def evaluate(out: Path, *, clips: int = 24, data: Path | None = None) -> Path:
    """Return the path of ``figures.json``, after writing it and the model card's figures.

    Args:
        out: folder for the judged clips and ``report.json``.
        clips: judged clips per genre and condition.
        data: the built-in model's data folder; by default the one that ships.
    """
    data = data or builtin_folder().parent
    begin = time.time()
    model, judge = load(data / "model"), load_judge()
    report: dict[str, object] = {"stamp": stamp(data), "code": code_hash()}
    report["prompted"] = _prompted(model, judge, out, clips)
    report["unsteered"] = _unsteered(model, judge, out, clips)
    report["real"] = _real(judge, out, clips)
    report |= _probed_and_steered(model, judge, out, clips)
    report["speed"] = _speed(model)
    report["minutes"] = round((time.time() - begin) / 60, 1)
    report["machine"] = (
        f"{platform.machine()}, {torch.get_num_threads()} threads, {datetime.now(UTC):%Y-%m-%d}"
    )
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    figures = data / FIGURES
    figures.write_text(json.dumps(report, indent=2) + "\n")
    write_card(data, report)
    return figures


def stamp(data: Path) -> dict[str, str]:
    """Return the hashes that published figures belong to: weights, music, judge."""
    parts = {"weights": "model/*.safetensors", "music": "music/*", "judge": "judge/*.safetensors"}
    return {name: _hash(sorted(data.glob(pattern))) for name, pattern in parts.items()}


def code_hash() -> str:
    """Return the hash of the package's Python files, which the figures were measured with."""
    return _hash(sorted(Path(__file__).parents[1].rglob("*.py")))


def _hash(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _keep(takes: Mapping[str, list[Take]], folder: Path) -> None:
    """Write the clips of each genre as FLAC files."""
    for genre, made in takes.items():
        (folder / genre).mkdir(parents=True, exist_ok=True)
        for take in made:
            take.clip.write(folder / genre / f"{take.seed}.flac")


def _prompted(model: Model, judge: Judge, out: Path, clips: int) -> dict[str, Share | dict[str, object]]:
    """Return how often the judge hears the genre that the prompt names, per genre and over all."""
    wanted = [(genre, i) for genre in GENRES for i in range(clips)]
    prompts = [PROMPTS[i % len(PROMPTS)].format(genre) for genre, i in wanted]
    takes = generate(model, prompts, seed=[5000 + i for _, i in wanted], seconds=SECONDS)
    _keep(
        {g: [t for t, (h, _) in zip(takes, wanted, strict=True) if h == g] for g in GENRES}, out / "prompted"
    )
    hits = np.array(judge.decide([t.clip for t in takes])) == np.array([genre for genre, _ in wanted])
    names = np.array([genre for genre, _ in wanted])
    return {"all": vars(Share.of(hits)), **{g: vars(Share.of(hits[names == g])) for g in GENRES}}


def _unsteered(model: Model, judge: Judge, out: Path, clips: int) -> dict[str, dict[str, object]]:
    """Return the share of each genre that the judge hears in clips from neutral prompts."""
    count = 4 * clips
    prompts = [NEUTRAL_PROMPTS[i % len(NEUTRAL_PROMPTS)] for i in range(count)]
    takes = generate(model, prompts, seed=[6000 + i for i in range(count)], seconds=SECONDS)
    heard = np.array(judge.decide([t.clip for t in takes]))
    _keep({g: [t for t, h in zip(takes, heard, strict=True) if h == g] for g in GENRES}, out / "unsteered")
    return {g: vars(Share.of(heard == g)) for g in GENRES}


def _real(judge: Judge, out: Path, clips: int) -> dict[str, object]:
    """Return the judge's accuracy on shipped pieces (decoded codes, first five seconds)."""
    songs = builtin_dataset().take(clips, seed=1)
    sections = [songs.clip(i).section(0, SECONDS) for i in range(len(songs))]
    for name, genre, clip in zip(songs.ids, songs.labels(), sections, strict=True):
        (out / "real" / genre).mkdir(parents=True, exist_ok=True)
        clip.write(out / "real" / genre / f"{name}.flac")
    return vars(Share.of(np.array(judge.decide(sections)) == songs.labels()))


def _probed_and_steered(model: Model, judge: Judge, out: Path, clips: int) -> dict[str, object]:
    """Return probe accuracy per layer, and the steering validation with the clips that it chose from."""
    acts = capture(model, builtin_dataset(), seconds=SECONDS)
    probes = fit_probes(acts, target="genre")
    protocol = Protocol(
        prompts=NEUTRAL_PROMPTS,
        layers=tuple(model.layers),
        doses=(0.3, 0.6, 1.0),
        choosing_seeds=tuple(range(3)),
        reporting_seeds=tuple(range(7000, 7000 + clips)),
        random_directions=min(20, clips),
    )
    validation = validate_steering(model, probes, judge, protocol, keep=out)
    steered = validation.reporting[validation.reporting["method"] == "probe"]
    random = validation.reporting[validation.reporting["method"] == "random"]
    grid = validation.choosing.groupby(["layer", "dose"])["hit"].mean().round(3).reset_index()
    return {
        "probe": probes.table().round(4).to_dict("records"),
        "steering": validation.summary(),
        "steered": vars(Share.of(steered["hit"].to_numpy())),
        "random": vars(Share.of(random["hit"].to_numpy())),
        "grid": grid.to_dict("records"),
        "receipts_ok": bool(validation.reporting["ok"].all()),
    }


def _speed(model: Model) -> dict[str, float]:
    """Return seconds of work for one guided clip of five seconds, decoding included (best of three)."""
    times = []
    for seed in range(3):
        begin = time.perf_counter()
        generate(model, "a tune", seed=seed, seconds=SECONDS, progress=False)
        times.append(time.perf_counter() - begin)
    return {"seconds_for_5_s": round(min(times), 2), "times_real_time": round(SECONDS / min(times), 2)}
