"""The whole recipe of the built-in music and model, from nothing to `data/embedded`, each stage resumable.

compose and render -> fit the codec -> train its decoder -> train the judges -> train the language model ->
publish. The judges are finished before the language model begins, and do not change afterwards.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile

import torch

from workbench.embedded.codec_report import write_codec_report
from workbench.embedded.corpus import corpus
from workbench.embedded.dataset import write_dataset
from workbench.embedded.fit_codec import encode_corpus, fit_codec, load_codec
from workbench.embedded.fit_judge import TARGETS, fit_judges
from workbench.embedded.language import build_tokenizer, save_model
from workbench.embedded.train_language import Schedule, train_language
from workbench.embedded.train_vocoder import train_vocoder
from workbench.evidence.judge import Judge
from workbench.model.folders import builtin_folder
from workbench.model.load import load
from workbench.model.norms import measure_residual_norms


@dataclass(frozen=True)
class Budget:
    """Minutes for the two trained parts on the machine at hand."""

    vocoder_minutes: float = 110.0
    language_minutes: float = 230.0


def build_embedded(
    build: Path, *, budget: Budget | None = None, device: str = "cpu", data: Path | None = None
) -> Path:
    """Return the folder into which model, music and judges were published.

    Args:
        build: working folder (about 2 GB); what is already in it is not done again.
        budget: training time; the steps are taken that fit.
        device: "cpu" or "cuda"; nothing else differs.
        data: where to publish; by default the repository's ``data/embedded``.
    """
    budget = budget or Budget()
    data = data or builtin_folder().parent
    fit_codec(build)
    if not (build / "vocoder" / "config.json").exists():
        train_vocoder(build, minutes=budget.vocoder_minutes, device=device)
    missing = [target for target in TARGETS if not (data / "judge" / f"{target}.json").exists()]
    for judge in fit_judges(build, targets=missing).values() if missing else ():
        judge.save(data / "judge")
    train_language(build, minutes=budget.language_minutes, device=device)
    return publish(build, data)


def publish(build: Path, data: Path) -> Path:
    """Write model (half precision, tokenizer, residual norms), music, training curve and codec figures."""
    model = train_language(build, minutes=0.0, schedule=Schedule())
    codec = load_codec(build / "vocoder")
    model.audio_encoder.load_state_dict(codec.state_dict())
    folder = data / "model"
    for old in folder.glob("*.safetensors*"):
        old.unlink()
    save_model(model, build_tokenizer(), folder)
    write_dataset(data / "music", corpus("listen", build).factors, encode_corpus(codec, "listen", build))
    norms = measure_residual_norms(load(folder, dtype=torch.float32))
    (folder / "workbench.json").write_text(json.dumps({"residual_norms": norms.round(5).tolist()}) + "\n")
    copyfile(build / "language" / "log.csv", data / "training.csv")
    write_codec_report(build, data, judge=Judge.load(data / "judge"))
    return data
