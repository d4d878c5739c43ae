"""The main job without a browser: probe, choose, steer, judge, write sound, figures and a report."""

from __future__ import annotations

import json
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import workbench as wb
from workbench.evidence.trials import hit_rates, sweep
from workbench.evidence.validate import Protocol, Validation, validate_steering
from workbench.files import file_names, write_atomically
from workbench.model.musicgen import NEUTRAL_PROMPTS
from workbench.probing import ProbeSweep
from workbench.show import plots
from workbench.show.broken_probes import relabelled
from workbench.show.page import write_page

PACKAGES = ("musicgen-workbench", "torch", "transformers", "nnsight", "scikit-learn", "umap-learn", "plotly")
COLUMNS = ["layer", "accuracy", "low", "high", "chance", "shuffled", "n"]
DOSES = (0.05, 0.1, 0.15, 0.2, 0.3)
PER_CLASS = 60
"""Clips per genre that the demo probes: enough for intervals of a few points, few enough for a minute."""


def run_demo(
    out: Path, *, model: str = "embedded", music: str = "embedded", device: str | None = None,
    prompt: str = "a tune", seed: int = 7, clips: int = 8, judge: wb.Judge | str = "genre",
) -> Path:  # fmt: skip
    """Write WAV files, ``report.json`` and ``index.html`` into a folder; return the page's path.

    The options are those of ``workbench demo``; prompt and seed are those of the clips that are kept. A judge
    that knows no genre labels the music itself: what it hears is steered.
    """
    out.mkdir(parents=True, exist_ok=True)
    network = wb.load(model, device=device)
    songs = wb.dataset(music)
    songs = songs.take(min(PER_CLASS, min((songs.labels() == g).sum() for g in songs.genres)))
    ear = wb.load_judge(judge) if isinstance(judge, str) else judge
    songs, target = _labelled(songs, ear)
    acts = wb.capture(network, songs, seconds=5)
    probes = wb.fit_probes(acts, target=target)
    protocol = _protocol(probes, clips)
    methods = {"logistic": probes, "means": wb.fit_probes(acts, target=target, method="means", shuffles=0)}
    method = _best_method(network, ear, methods, protocol)
    validation = validate_steering(network, methods[method], ear, protocol)
    plans: dict[str, wb.Steering | None] = {"unsteered": None}
    for aim, (layer, dose) in validation.settings.items():
        plans[aim] = methods[method][layer].direction(aim).at(dose)
    begin = time.perf_counter()
    made = wb.generate(network, prompt, steering=list(plans.values()), seed=seed, seconds=5)
    speed = (time.perf_counter() - begin) / sum(take.seconds for take in made)
    takes, names = dict(zip(plans, made, strict=True)), file_names(plans)
    table = probes.table().rename(columns={"shuffled_mean": "shuffled"})
    files = {name: take.clip.write(out / f"{names[name]}.wav") for name, take in takes.items()}
    report = {
        "model": {"id": network.id, "fingerprint": network.fingerprint, "layers": network.n_layers},
        "music": {"name": songs.name, "clips": len(songs), "fingerprint": songs.fingerprint},
        "prompt": prompt,
        "seed": seed,
        "method": method,
        "probe": table[COLUMNS].astype(float).round(4).to_dict("records"),
        "steering": validation.summary(),
        "receipts_ok": bool(validation.reporting["ok"].all() and all(t.receipt.ok for t in takes.values())),
        "seconds_per_audio_second": round(speed, 3),
        "versions": {name: version(name) for name in PACKAGES},
    }
    write_atomically(out / "report.json", f"{json.dumps(report, indent=2)}\n".encode())
    validation.reporting.to_csv(out / "judged.csv", index=False)
    return write_page(out, report, _figures(acts, probes, validation), files)


def _labelled(songs: wb.Dataset, judge: wb.Judge) -> tuple[wb.Dataset, str]:
    """Return the music and the label to probe: its genre, or what a judge that knows no genre hears in it."""
    if set(judge.classes) & set(songs.genres):
        return songs, "genre"
    odds = judge.probabilities([songs.clip(entry.id).section(0, 5) for entry in songs])
    return relabelled(songs, "heard", [judge.classes[best] for best in odds.argmax(axis=1)]), "heard"


def _protocol(probes: ProbeSweep, clips: int) -> Protocol:
    """Return a short validation before and at the middle layer; each genre has its own layer and dose."""
    middle = len(probes.layers) // 2
    return Protocol(
        prompts=NEUTRAL_PROMPTS[:3], layers=tuple(probes.layers[max(0, middle - 1) : middle + 1]),
        doses=DOSES, choosing_seeds=tuple(range(min(3, clips))), per_aim=True,
        reporting_seeds=tuple(range(1000, 1000 + clips)), random_directions=min(4, clips),
    )  # fmt: skip


def _best_method(model: wb.Model, judge: wb.Judge, methods: dict[str, ProbeSweep], protocol: Protocol) -> str:
    """Return whose directions are heard more often at two doses, on the seeds that choose."""
    heard = {}
    for name, probes in methods.items():
        directions = probes.directions(protocol.layers[-1])
        known = {aim: direction for aim, direction in directions.items() if aim in judge.classes}
        clips = sweep(model, known, DOSES[1::2], judge, prompts=NEUTRAL_PROMPTS[:3],
                      seeds=protocol.choosing_seeds)  # fmt: skip
        heard[name] = float(clips["hit"].mean())
    return max(heard, key=heard.__getitem__)


def _figures(acts: wb.Activations, probes: ProbeSweep, validation: Validation) -> dict[str, Any]:
    doses = hit_rates(validation.choosing[validation.choosing["layer"] == validation.layer])
    doses, chance = doses.rename(columns={"aim": "genre"}), 1 / len(probes.classes)
    projection = wb.project(acts, probes.best.layer)
    return {
        "Accuracy of a linear probe per layer": plots.accuracy_per_layer(probes.table()),
        "Map of the clips at the best layer": plots.map_scatter(projection),
        "Which genres the probe confuses": plots.confusion(probes.confusion()),
        "Hit rate against dose, on the seeds that chose": plots.dose_response(doses, chance=chance),
    }
