"""Can genre be read? Probes per layer on held-out grooves, beside the embedding and a random-weight model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import MusicgenForConditionalGeneration

from recipe.evaluation.bench import Bench
from recipe.evaluation.rows import Bar, Row
from workbench.activations import Activations
from workbench.model.capture import capture
from workbench.model.musicgen import Model
from workbench.probing import ProbeSweep, fit_probes
from workbench.sound import Dataset
from workbench.stats import bootstrap

_GROOVES = "interval: bootstrap of whole grooves, which no probe saw that judged them"

MOMENT_S = 0.2


@dataclass(frozen=True)
class Read:
    """Activations of the shipped pieces, and what probes find in them."""

    acts: Activations
    probes: ProbeSweep
    rows: list[Row]
    details: dict[str, Any]


def measure_reading(bench: Bench) -> Read:
    """Return the probes for genre per layer, and the rows about them.

    The embedding layer is what enters block 0 (codes and positions, no context); the random-weight model has
    the same shape, tokenizer and codec, all other weights drawn afresh. Same clips, same folds, same recipe.
    """
    songs = _pieces(bench)
    options = {"seconds": bench.seconds, "progress": bench.progress}
    acts = capture(bench.model, songs, **options)  # type: ignore[arg-type]
    probes = fit_probes(acts)
    first = capture(bench.model, songs, sites=("embed",), layers=[0], **options)  # type: ignore[arg-type]
    embedding = fit_probes(first, site="embed")
    untrained = random_weights(bench.model)
    random = fit_probes(capture(untrained, songs, **options))  # type: ignore[arg-type]
    moments = {
        "probe_moment": fit_probes(_one_moment(bench.model, songs, bench, "resid_post")),
        "probe_moment_embedding": fit_probes(_one_moment(bench.model, songs, bench, "embed"), site="embed"),
        "probe_moment_random": fit_probes(_one_moment(untrained, songs, bench, "resid_post")),
    }
    rows = [*_own_rows(probes), _lead("probe.random_weights",
            "best layer minus best layer of a random-weight model", 0.15, probes, random),
            _lead("probe.rise", "best layer minus embedding layer", 0.10, probes, embedding),
            _lead("probe.moment_rise", "one moment (0.2 s): best layer minus embedding layer", 0.2,
                  moments["probe_moment"], moments["probe_moment_embedding"]),
            _lead("probe.moment_random", "one moment: best layer minus best layer of random weights", 0.2,
                  moments["probe_moment"], moments["probe_moment_random"])]  # fmt: skip
    swept = {"probe": probes, "probe_embedding": embedding, "probe_random": random, **moments}
    details = {name: _table(sweep) for name, sweep in swept.items()}
    return Read(acts, probes, rows, details)


def random_weights(model: Model, seed: int = 20_251) -> Model:
    """Return a model of the same shape, tokenizer and codec whose other weights are freshly initialised.

    transformers' own initialisation draws them; nothing learned is left, in the embeddings neither. The seed
    is an unusual one, so that it does not draw again what training started from.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = MusicgenForConditionalGeneration(model.musicgen.config).eval().requires_grad_(False)
    fresh.audio_encoder.load_state_dict(model.musicgen.audio_encoder.state_dict())
    fresh.generation_config = model.musicgen.generation_config
    for name, part in fresh.named_children():
        part.to(device=model.device, dtype=torch.float32 if name == "audio_encoder" else model.dtype)
    return Model(fresh, model.tokenizer, id=f"random weights in the shape of {model.id}", notes="untrained")


def correct(probes: ProbeSweep, layer: int) -> np.ndarray:
    """Return whether each held-out sample was read right at a layer (n,), in the order of samples."""
    rows = probes.held_out[probes.held_out["layer"] == layer]
    return np.asarray(rows["truth"] == rows["predicted"], float)


def _one_moment(model: Model, songs: Dataset, bench: Bench, site: str) -> Activations:
    """Return the activations of one moment of `MOMENT_S` of each clip, drawn from its second half.

    Model and site do not change which moment is drawn.
    """
    layers = [0] if site == "embed" else None
    acts = capture(model, songs, seconds=bench.seconds, window_seconds=MOMENT_S, sites=(site,), layers=layers,
                   progress=bench.progress)  # fmt: skip
    rng = np.random.default_rng(0)
    late = acts.coordinate("start_s") >= bench.seconds / 2
    chosen = [int(rng.choice(np.flatnonzero((acts.clips == clip) & late))) for clip in songs.ids]
    return acts.subset(np.array(chosen))


def _pieces(bench: Bench) -> Dataset:
    """Return equally many pieces of each genre, spread over the grooves."""
    songs = bench.music.where(genre=list(bench.genres))
    fewest = min(int((songs.labels() == genre).sum()) for genre in songs.genres)
    return songs.take(min(fewest, bench.budget.probed), seed=2)


def _own_rows(probes: ProbeSweep) -> list[Row]:
    best = probes.best
    s = best.scores
    note = f"best layer: {best.layer} of {len(probes)}; {s.groups} grooves; interval for new grooves"
    accuracy = Row("probe.best", "probe accuracy for genre at the best layer, grooves held out",
                   Bar(at_least=0.90), s.accuracy, s.low, s.high, s.samples, note=note)  # fmt: skip
    half = (s.shuffled_high - s.shuffled_low) / 2
    band = Bar(at_least=s.chance - half, at_most=s.chance + half)
    note = f"bar: chance ({s.chance:.3f}) give or take half the band of 20 runs, which is the interval"
    shuffled = Row("probe.shuffled", "the same probe on shuffled labels", band, s.shuffled_mean,
                   s.shuffled_low, s.shuffled_high, s.samples, note=note)  # fmt: skip
    return [accuracy, shuffled]


def _lead(id: str, what: str, least: float, probes: ProbeSweep, other: ProbeSweep) -> Row:  # noqa: A002
    """Return how much better the best layer reads than another sweep's best, clip by clip."""
    ahead = correct(probes, probes.best.layer) - correct(other, other.best.layer)
    held = probes.held_out[probes.held_out["layer"] == probes.best.layer]
    low, high = bootstrap(
        lambda chosen: float(ahead[chosen].mean()), held["group"].to_numpy(), strata=held["truth"].to_numpy()
    )
    best, theirs = probes.best, other.best
    note = f"{best.accuracy:.3f} against {theirs.accuracy:.3f} (layer {theirs.layer}); {_GROOVES}"
    return Row(id, what, Bar(at_least=least), float(ahead.mean()), low, high, len(ahead), note=note)


def _table(probes: ProbeSweep) -> list[dict[str, Any]]:
    return [{str(k): v for k, v in row.items()} for row in probes.table().round(4).to_dict("records")]
