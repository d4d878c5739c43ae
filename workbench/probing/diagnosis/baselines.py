"""What is read without the model: from its codes, plain features of the sound, the text, random weights.

Each feature function returns one row per clip, in the dataset's order, for `baselines(probed, {"codes": x})`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from workbench.errors import ProbeError
from workbench.probing.crossval import cross_validate
from workbench.probing.diagnosis.evaluation import Diagnosis, ProbeEvaluation
from workbench.stats import Estimate

if TYPE_CHECKING:
    from workbench.model.musicgen import Model
    from workbench.sound import Clip, Dataset

Array = np.ndarray
RATE_HZ = 22_050
_BANDS, _CEPSTRA = 64, 20


def codec_histogram(model: Model, dataset: Dataset, *, seconds: float | None = None) -> Array:
    """Return how often each code comes in each codebook, (n, codebooks x size): roots of shares.

    The distance between roots is Hellinger's, in which the few most frequent codes do not decide alone. Of
    each clip the first `seconds` are counted; codes that are stored or cached are not encoded again.
    """
    from workbench.model.teacher_forcing import codes_for, codes_match_codec

    stored = codes_match_codec(model, dataset)
    rows = []
    for entry in dataset:
        codes = codes_for(model, dataset, entry, seconds=seconds, stored=stored)
        counts = [np.bincount(book, minlength=model.codebook_size) for book in codes]
        rows.append(np.sqrt(np.concatenate(counts) / codes.shape[1]))
    return np.array(rows)


def sound_statistics(dataset: Dataset, *, seconds: float | None = None) -> Array:
    """Return mean and deviation over time of log-mel bands, MFCC and chroma, (n, 192)."""
    parts = (dataset.clip(number, seconds=seconds) for number in range(len(dataset)))
    return np.array([clip_statistics(part) for part in parts])


def clip_statistics(clip: Clip) -> Array:
    """Return the statistics (192,) of one clip: 64 log-mel bands in dB, 20 MFCC, 12 pitch classes."""
    import librosa

    samples = clip.resample(RATE_HZ).samples
    power = np.abs(librosa.stft(samples, n_fft=min(2048, len(samples)))) ** 2
    size = 2 * (power.shape[0] - 1)
    mel = librosa.feature.melspectrogram(S=power, sr=RATE_HZ, n_fft=size, n_mels=_BANDS)
    decibels = librosa.power_to_db(mel, top_db=None)
    cepstra = librosa.feature.mfcc(S=decibels, n_mfcc=_CEPSTRA)
    chroma = librosa.feature.chroma_stft(S=power, sr=RATE_HZ, n_fft=size, tuning=0.0)
    return np.concatenate([part for one in (decibels, cepstra, chroma) for part in (one.mean(1), one.std(1))])


def text_embedding(model: Model, texts: Sequence[str]) -> Array:
    """Return the mean of the text states that the decoder is given, (n, d_model); zeros for an empty text."""
    means = {"": np.zeros(model.d_model)}
    for text in sorted({text for text in texts if text}):
        encoded = model.text([text]).words()
        count = max(int(encoded.mask.sum()), 1)
        means[text] = encoded.states[0].float().sum(0).cpu().numpy() / count
    return np.stack([means[text] for text in texts])


def random_weights(
    model: Model, dataset: Dataset, *, layer: int, site: str = "resid_post", seed: int = 0, **settings: Any
) -> Array:
    """Return what the same network gives before it has learnt anything, (n, d_model).

    Layer and site are those of the probe; the seed is that of the weights; the settings are those of the
    probe's own `capture`: text, seconds, pool, batch ...
    """
    from workbench.model.capture import capture

    acts = capture(untrained(model, seed=seed), dataset, sites=(site,), layers=[layer], **settings)
    return acts.matrix(layer, site=site)


def untrained(model: Model, *, seed: int = 0) -> Model:
    """Return the model with a decoder of random weights; codec and text encoder stay as they are."""
    import torch

    from workbench.model.musicgen import Model

    trained = model.musicgen
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = type(trained)(trained.config)
    for name, part in trained.named_children():
        if name != "decoder":
            getattr(fresh, name).load_state_dict(part.state_dict())
            getattr(fresh, name).to(device=model.device, dtype=next(part.parameters()).dtype)
    fresh.decoder.to(device=model.device, dtype=model.dtype)
    fresh.generation_config = trained.generation_config
    fingerprint = hashlib.sha256(f"{model.fingerprint} untrained {seed}".encode()).hexdigest()
    about: dict[str, Any] = {"id": f"{model.id}, untrained, seed {seed}", "notes": "random decoder weights"}
    fresh = fresh.eval().requires_grad_(False)
    return Model(fresh, model.tokenizer, fingerprint=fingerprint, **about)


@dataclass(frozen=True)
class Baselines(Diagnosis):
    """Accuracy of the probe and of each baseline, whose strength is a fact about the task and no fault."""

    probe: Estimate
    accuracy: Mapping[str, Estimate] = field(hash=False)  # of each baseline, by name
    lead: Mapping[str, Estimate] = field(hash=False)  # of the probe above it, paired clip by clip

    @property
    def strongest(self) -> str:
        """The name of the baseline that comes nearest to the probe, or beats it."""
        return min(self.lead, key=lambda name: self.lead[name].value)

    @property
    def effect(self) -> float:
        """How far the probe lies above the strongest baseline."""
        return self.lead[self.strongest].value

    def table(self) -> pd.DataFrame:
        """Return the probe's row and one per baseline: features, accuracy and lead with their intervals."""
        rows = [(f"layer {self.layer}", self.probe, Estimate(0.0, 0.0, 0.0))]
        rows += [(name, one, self.lead[name]) for name, one in self.accuracy.items()]
        columns = ["features", "accuracy", "low", "high", "lead", "lead_low", "lead_high"]
        cells = [(name, a.value, a.low, a.high, lead.value, lead.low, lead.high) for name, a, lead in rows]
        return pd.DataFrame(cells, columns=columns)

    def _words(self, alarm: bool) -> str:
        name, lead = self.strongest, self.lead[self.strongest]
        verdict = "adds to it" if lead.low > 0 else "is not shown to add anything to it"
        return (
            f"At the same splits the strongest baseline, {name}, reads the {self.target} with accuracy "
            f"{self.accuracy[name].value:.2f} and layer {self.layer} with {self.probe.value:.2f} "
            f"(lead {lead}): the model {verdict}."
        )


def baselines(probed: ProbeEvaluation, features: Mapping[str, Array]) -> Baselines:
    """Return what the probe's method reads from other features, under the same splits.

    The features are numbers (n, f) of the same samples, in the same order, by name. Their l2 is chosen inside
    the training folds. ProbeError for no features, other samples, or numbers that are not finite.
    """
    if not features:
        raise ProbeError("Baselines were asked for", "no features were given", "Give at least one")
    accuracy, lead = {}, {}
    fitting: dict[str, Any] = {"groups": probed.groups, "method": probed.method, "seed": probed.seed}
    for name, given in features.items():
        values = np.asarray(given, dtype=np.float64)
        if values.ndim != 2 or len(values) != len(probed.y) or not np.isfinite(values).all():
            found = f"their shape is {values.shape}" if np.isfinite(values).all() else "some are not finite"
            do = "Give one row of finite numbers for each sample"
            raise ProbeError(f"{name!r} features of {len(probed.y)} samples were asked for", found, do)
        correct = cross_validate(values, probed.y, probed.splits, **fitting).predicted == probed.y
        accuracy[name] = probed.rate(correct)
        lead[name] = probed.mean(probed.correct.astype(np.float64) - correct)
    return Baselines(**probed.place, probe=probed.accuracy, accuracy=accuracy, lead=lead)


@dataclass(frozen=True)
class ControlTask(Diagnosis):
    """Accuracy on the real and on the control task under the same random splits, and their difference."""

    unit: str
    real: Estimate
    control: Estimate
    selectivity: Estimate

    figure: ClassVar[str] = "selectivity"

    def _words(self, alarm: bool) -> str:
        return (
            f"A probe that is given a random class for each {self.unit} reads it back with accuracy "
            f"{self.control.value:.2f}, the true {self.target} with {self.real.value:.2f}: "
            f"selectivity {self.selectivity} at layer {self.layer}."
        )


def control_task(probed: ProbeEvaluation, *, repeats: int = 3) -> ControlTask:
    """Return the selectivity of the probe's recipe, which could learn any labelling of the groups if it is 0.

    Each group gets a random class, and the probe is asked to read that (Hewitt & Liang 2019, "Designing and
    Interpreting Probes with Control Tasks"). Selectivity is the accuracy on the real task minus that on the
    control task, the mean of `repeats`, both under a split that lets the probe see the groups.
    """
    rng = np.random.default_rng(probed.seed)
    _, first, member = np.unique(probed.groups, return_index=True, return_inverse=True)
    (called,) = probed.predicted([probed.random_splits()])
    real, control = (called == probed.y).astype(np.float64), []
    for repeat in range(repeats):
        drawn = _random_classes(probed.y[first], len(probed.classes), rng)[member]
        (called,) = probed.predicted([probed.random_splits(repeat)], y=drawn)
        control.append(called == drawn)
    mean = np.mean(control, axis=0)
    rates = probed.rate(real), probed.rate(mean), probed.mean(real - mean)
    return ControlTask(probed.target, probed.layer, probed.unit, *rates)


def _random_classes(of_group: Array, classes: int, rng: np.random.Generator) -> Array:
    """Return a random class for each group: as frequent as the real ones, where groups are of one class."""
    complete = len(np.unique(of_group)) == classes
    return rng.permutation(of_group if complete else np.arange(len(of_group)) % classes)
