"""The main job without a browser: probe, choose, steer, judge, write sound, figures and a report."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

import workbench as wb
from workbench.evidence.search import RANDOM, AutoDose, auto_dose
from workbench.evidence.trials import UNSTEERED, hit_rates, sweep
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
    methods = {"logistic": probes, "means": wb.fit_probes(acts, target=target, method="means", shuffles=0)}
    seeds = range(min(3, clips))
    method = _best_method(network, ear, methods, seeds)
    how = {"seeds": seeds, "further_seeds": range(1000, 1000 + clips)}
    searches = _searched(network, methods[method], ear, **how)
    plans = {"unsteered": None} | {aim: one.steering for aim, one in searches.items()}
    begin = time.perf_counter()
    made = wb.generate(network, prompt, steering=list(plans.values()), seed=seed, seconds=5)
    speed = (time.perf_counter() - begin) / sum(take.seconds for take in made)
    takes = dict(zip(plans, made, strict=True))
    judged = pd.concat([one.clips for one in searches.values()], ignore_index=True)
    names = file_names(takes)
    table = probes.table().rename(columns={"shuffled_mean": "shuffled"})
    files = {name: take.clip.write(out / f"{names[name]}.wav") for name, take in takes.items()}
    report = {
        "model": {"id": network.id, "fingerprint": network.fingerprint, "layers": network.n_layers},
        "music": {"name": songs.name, "clips": len(songs), "fingerprint": songs.fingerprint},
        "prompt": prompt,
        "seed": seed,
        "method": method,
        "probe": table[COLUMNS].astype(float).round(4).to_dict("records"),
        "steering": {aim: _proved(one) for aim, one in searches.items()},
        "receipts_ok": bool(judged["ok"].all() and all(take.receipt.ok for take in takes.values())),
        "seconds_per_audio_second": round(speed, 3),
        "versions": {name: version(name) for name in PACKAGES},
    }
    write_atomically(out / "report.json", f"{json.dumps(report, indent=2)}\n".encode())
    judged.to_csv(out / "judged.csv", index=False)
    return write_page(out, report, _figures(acts, probes, searches), files)


def _labelled(songs: wb.Dataset, judge: wb.Judge) -> tuple[wb.Dataset, str]:
    """Return the music and the label to probe: its genre, or what a judge that knows no genre hears in it."""
    if set(judge.classes) & set(songs.genres):
        return songs, "genre"
    odds = judge.probabilities([songs.clip(entry.id).section(0, 5) for entry in songs])
    return relabelled(songs, "heard", [judge.classes[best] for best in odds.argmax(axis=1)]), "heard"


def _layers(probes: ProbeSweep) -> tuple[int, ...]:
    """Return the layers that are steered: the middle one and the one before."""
    middle = len(probes.layers) // 2
    return tuple(probes.layers[max(0, middle - 1) : middle + 1])


def _best_method(
    model: wb.Model, judge: wb.Judge, methods: dict[str, ProbeSweep], seeds: Sequence[int]
) -> str:
    """Return whose directions are heard more often at two doses, on the seeds that choose."""
    heard = {}
    for name, probes in methods.items():
        directions = probes.directions(_layers(probes)[-1])
        known = {aim: direction for aim, direction in directions.items() if aim in judge.classes}
        clips = sweep(model, known, DOSES[1::2], judge, prompts=NEUTRAL_PROMPTS[:3], seeds=seeds)
        heard[name] = float(clips["hit"].mean())
    return max(heard, key=heard.__getitem__)


def _searched(model: wb.Model, probes: ProbeSweep, judge: wb.Judge, **seeds: Any) -> dict[str, AutoDose]:
    """Return for each class that the judge hears a layer and dose that some seeds choose and others prove."""
    return {
        aim: auto_dose(model, {layer: probes[layer].direction(aim) for layer in _layers(probes)}, aim,
                          judge, doses=DOSES, prompts=NEUTRAL_PROMPTS[:3], **seeds)
        for aim in probes.classes if aim in judge.classes
    }  # fmt: skip


def _proved(found: AutoDose) -> dict[str, Any]:
    """Return what the seeds that did not choose say of a setting."""
    rate, proof = found.hit_rate, found.clips[found.clips["stage"] == "proof"]
    shares = {"hit_rate": rate.value, "low": rate.low, "high": rate.high}
    shares |= {"unsteered": found.rates[UNSTEERED].value, "random_direction": found.rates[RANDOM].value}
    n = int((proof["method"] == UNSTEERED).sum())
    rounded = {name: round(float(share), 4) for name, share in shares.items()}
    return {"layer": found.layer, "dose": found.dose, "n": n, **rounded, "verdict": found.verdict}


def _figures(acts: wb.Activations, probes: ProbeSweep, searches: Mapping[str, AutoDose]) -> dict[str, Any]:
    tried = [one.clips[(one.clips["stage"] != "proof") & (one.clips["layer"] == one.layer)]
             for one in searches.values()]  # fmt: skip
    doses, chance = hit_rates(pd.concat(tried)).rename(columns={"aim": "genre"}), 1 / len(probes.classes)
    projection = wb.project(acts, probes.best.layer)
    return {
        "Accuracy of a linear probe per layer": plots.accuracy_per_layer(probes.table()),
        "Map of the clips at the best layer": plots.map_scatter(projection),
        "Which genres the probe confuses": plots.confusion(probes.confusion()),
        "Hit rate against dose, on the seeds that chose": plots.dose_response(doses, chance=chance),
    }
