"""The whole recipe of the built-in music and model, from nothing to `data/embedded`, each stage resumable.

record the band -> train its ear -> train the judges -> compose and train the language model -> publish. The
judges are finished before the language model begins, and do not change afterwards.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile

import numpy as np
import torch
from safetensors.numpy import save_file

from recipe.corpus import scores
from recipe.factors import Factors
from recipe.language import SAMPLING, build_tokenizer, save_model
from recipe.train_hearing import hearing_codec, train_hearing
from recipe.train_judges import TARGETS, train_judges
from recipe.train_language import Schedule, train_language
from workbench.datasets import builtin_dataset
from workbench.evidence.damage import BreakingDose, breaking_dose
from workbench.model.band import BEAT_FRAMES, FRAME_RATE_HZ
from workbench.model.capture import capture
from workbench.model.folders import builtin_folder
from workbench.model.load import load
from workbench.model.musicgen import measure_residual_norms
from workbench.probing.fit import fit_probes

PIECE_S = 10.0
_FIRST_BARS = 7  # a shipped piece begins with one of so many bars, so that intros are not all that is heard


@dataclass(frozen=True)
class Budget:
    """Minutes for the two trained parts on the machine at hand."""

    hearing_minutes: float = 60.0
    language_minutes: float = 230.0


def build_embedded(
    build: Path, *, budget: Budget | None = None, device: str = "cpu", data: Path | None = None
) -> Path:
    """Return the folder into which model, music and judges were published.

    Args:
        build: working folder; what is already in it is not done again.
        budget: training time; the steps are taken that fit.
        device: "cpu" or "cuda" for the language model; nothing else differs.
        data: where to publish; by default the repository's ``data/embedded``.
    """
    budget = budget or Budget()
    data = data or builtin_folder().parent
    train_hearing(build, minutes=budget.hearing_minutes)
    missing = [target for target in TARGETS if not (build / "judges" / f"{target}.json").exists()]
    for judge in train_judges(build, targets=missing).values() if missing else ():
        judge.save(build / "judges")
    train_language(build, minutes=budget.language_minutes, device=device)
    return publish(build, data)


def publish(build: Path, data: Path) -> Path:
    """Write model (half precision, tokenizer, residual norms), music, judges and training curve."""
    model = train_language(build, minutes=0.0, schedule=Schedule())
    codec = hearing_codec(build)
    model.audio_encoder = codec
    model.config.audio_encoder = codec.config
    model.generation_config.update(**SAMPLING)
    folder = data / "model"
    for old in folder.glob("*.safetensors*"):
        old.unlink()
    save_model(model, build_tokenizer(), folder)
    pieces = scores("music", build)
    shipped = [cut(f, codes) for f, codes in zip(pieces.factors, pieces.codes, strict=True)]
    write_music(data / "music", pieces.factors, shipped)
    norms = measure_residual_norms(load(folder, dtype=torch.float32))
    (folder / "workbench.json").write_text(json.dumps({"residual_norms": norms.round(5).tolist()}) + "\n")
    measure_breaking_dose(folder)
    (data / "judge").mkdir(parents=True, exist_ok=True)
    for path in (build / "judges").iterdir():
        copyfile(path, data / "judge" / path.name)
    copyfile(build / "language" / "log.csv", data / "training.csv")
    return data


def measure_breaking_dose(folder: Path, *, per_genre: int = 20) -> BreakingDose:
    """Write the dose from which genre steering breaks the music into `folder`/workbench.json."""
    model, songs = load(folder), builtin_dataset(folder.parent / "music").take(per_genre)
    probes = fit_probes(capture(model, songs, seconds=PIECE_S / 2), "genre")
    found = breaking_dose(model, probes.directions(model.n_layers // 2), songs)
    path = folder / "workbench.json"
    record = json.loads(path.read_bytes()) | {"breaking_dose": round(found.dose, 3)}
    path.write_text(json.dumps(record) + "\n")
    return found


def cut(factors: Factors, codes: np.ndarray) -> np.ndarray:
    """Return the `PIECE_S` seconds of a piece (parts, frames) that ship; they begin on a bar line."""
    start = factors.seed % _FIRST_BARS * 4 * BEAT_FRAMES[factors.tempo]
    return codes[:, start : start + round(PIECE_S * FRAME_RATE_HZ)]


def write_music(folder: Path, factors: tuple[Factors, ...], codes: list[np.ndarray]) -> Path:
    """Write codes and labels of pieces of equal length into a folder and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"codes": np.stack(codes).astype(np.int16)}, folder / "codes.safetensors")
    with (folder / "labels.csv").open("w", newline="") as file:
        rows = [{"id": f"{f.labels()['groove']}-{f.seed % 1000:03d}", **f.labels()} for f in factors]
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return folder
