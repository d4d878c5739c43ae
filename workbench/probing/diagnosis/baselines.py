"""Baselines: what is read without the model: from codes, plain sound features, the text, random weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from workbench.errors import ProbeError
from workbench.probing.crossval import cross_validate
from workbench.probing.diagnosis.evaluation import ProbeEvaluation
from workbench.stats import Estimate, mean_over_groups, rate_over_groups

if TYPE_CHECKING:
    from workbench.model.musicgen import Model
    from workbench.sound import Clip, Dataset

# Features that a probe must beat: the codec's codes, statistics of the sound, the text, random weights.
#
# Each function returns one row per clip, in the dataset's order, for `baselines(case, {"codes": ...})`. What
# simple features tell, the model need not have understood; what random weights tell, it need not have learnt.


Array = np.ndarray
RATE_HZ = 22_050
_BANDS, _CEPSTRA = 64, 20


def codec_histogram(model: Model, dataset: Dataset, *, seconds: float | None = None) -> Array:
    """Return how often each code comes in each codebook, (n, codebooks x size): roots of shares.

    Roots make the distance between two clips that of their distributions (Hellinger), so that the few most
    frequent codes do not decide alone.

    model    whose codec encodes the clips; codes that are stored or cached are not encoded again
    seconds  how much of each clip's beginning is counted; all when None
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
    clips = (dataset.clip(number) for number in range(len(dataset)))
    return np.array(
        [clip_statistics(clip if seconds is None else clip.section(0, seconds)) for clip in clips]
    )


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
    """Return the mean of the text states that the decoder is told, (n, d_model); zeros for an empty text.

    texts  what was said of each clip, such as `acts.coordinate("text")`
    """
    said = sorted({text for text in texts if text})
    held = {"": np.zeros(model.d_model)}
    for text in said:
        found = model.text([text]).words()
        count = max(int(found.mask.sum()), 1)
        held[text] = found.states[0].float().sum(0).cpu().numpy() / count
    return np.stack([held[text] for text in texts])


def random_weights(
    model: Model, dataset: Dataset, *, layer: int, site: str = "resid_post", seed: int = 0, **settings: Any
) -> Array:
    """Return what the same network gives before it has learnt anything, (n, d_model).

    layer, site  as of the probe that it is a baseline for
    seed         of the weights
    settings     those of `capture`: text, seconds, pool, batch ... as in the probe's own capture
    """
    from workbench.model.capture import capture

    acts = capture(untrained(model, seed=seed), dataset, sites=(site,), layers=[layer], **settings)
    return acts.matrix(layer, site=site)


def untrained(model: Model, *, seed: int = 0) -> Model:
    """Return the model with a decoder of random weights; codec and text encoder stay as they are.

    The clips keep their codes, so that the only thing that is missing is what the decoder learnt.
    """
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
    told = hashlib.sha256(f"{model.fingerprint} untrained {seed}".encode()).hexdigest()
    return Model(
        fresh.eval().requires_grad_(False),
        model.tokenizer,
        id=f"{model.id}, untrained, seed {seed}",
        fingerprint=told,
        notes="random decoder weights",
    )


@dataclass(frozen=True)
class Baselines:
    """Accuracy of the probe and of each baseline under the same splits.

    accuracy  by name, and `lead` how far the probe lies above it, paired clip by clip
    """

    target: str
    layer: int
    probe: Estimate
    accuracy: Mapping[str, Estimate] = field(hash=False)
    lead: Mapping[str, Estimate] = field(hash=False)

    @property
    def strongest(self) -> str:
        """The name of the baseline that comes nearest to the probe, or beats it."""
        return min(self.lead, key=lambda name: self.lead[name].value)

    @property
    def effect(self) -> float:
        """How far the probe lies above the strongest baseline."""
        return self.lead[self.strongest].value

    @property
    def p_value(self) -> None:
        """None: a strong baseline is a fact about the task, not a fault of the probe."""
        return

    def table(self) -> pd.DataFrame:
        """Return the probe's row and one per baseline: features, accuracy and lead with their intervals."""
        rows = [self._row(f"layer {self.layer}", self.probe, Estimate(0.0, 0.0, 0.0))]
        rows += [self._row(name, self.accuracy[name], self.lead[name]) for name in self.accuracy]
        return pd.DataFrame(rows)

    def sentence(self) -> str:
        """Return what was found, with its number."""
        name = self.strongest
        lead = self.lead[name]
        verdict = "the model adds to it" if lead.low > 0 else "the model is not shown to add anything to it"
        return (
            f"At the same splits the strongest baseline, {name}, reads the {self.target} with accuracy "
            f"{self.accuracy[name].value:.2f} and layer {self.layer} with {self.probe.value:.2f} "
            f"(lead {lead}): {verdict}."
        )

    @staticmethod
    def _row(name: str, accuracy: Estimate, lead: Estimate) -> dict[str, float | str]:
        row: dict[str, float | str] = {"features": name, "accuracy": accuracy.value}
        row |= {"low": accuracy.low, "high": accuracy.high}
        return row | {"lead": lead.value, "lead_low": lead.low, "lead_high": lead.high}


def baselines(case: ProbeEvaluation, features: Mapping[str, Array]) -> Baselines:
    """Return what the probe's method reads from other features, under the case's own splits.

    features  name -> (n, f) numbers of the same samples, in the same order (`baseline_features` makes some);
              l2 is chosen inside the training folds of each

    Raises ProbeError for no features, another number of samples, or numbers that are not finite.
    """
    if not features:
        raise ProbeError("Baselines were asked for", "no features were given", "Give at least one")
    accuracy, lead = {}, {}
    for name, values in features.items():
        correct = _correct(case, name, np.asarray(values, dtype=np.float64))
        accuracy[name] = rate_over_groups(correct, case.groups)
        lead[name] = mean_over_groups(case.correct.astype(np.float64) - correct, case.groups)
    return Baselines(case.target, case.layer, case.accuracy, accuracy, lead)


def _correct(case: ProbeEvaluation, name: str, values: Array) -> Array:
    if values.ndim != 2 or len(values) != len(case.y) or not np.isfinite(values).all():
        found = f"their shape is {values.shape}" if np.isfinite(values).all() else "some are not finite"
        do = "Give one row of finite numbers for each sample"
        raise ProbeError(f"{name!r} features of {len(case.y)} samples were asked for", found, do)
    held = cross_validate(values, case.y, case.splits, groups=case.groups, method=case.method, seed=case.seed)
    return np.asarray(held.predicted == case.y)


# Control task: whether this probe could have learnt any labelling of the same groups just as well.
#
# Hewitt & Liang 2019, "Designing and Interpreting Probes with Control Tasks": each group gets a random class,
# and the probe is asked to read that. What it reads there it has memorised. Selectivity is the accuracy on
# the
# real task minus that on the control task, both under a split that lets the probe see the groups.


@dataclass(frozen=True)
class ControlTask:
    """Accuracy on the real and on the control task under the same random splits, and their difference."""

    target: str
    layer: int
    unit: str
    real: Estimate
    control: Estimate
    selectivity: Estimate

    @property
    def effect(self) -> float:
        """Selectivity, a share of clips."""
        return self.selectivity.value

    @property
    def p_value(self) -> None:
        """None: low selectivity warns of memory, which the group leak tests."""
        return

    def sentence(self) -> str:
        """Return what was found, with its number."""
        return (
            f"A probe that is given a random class for each {self.unit} reads it back with accuracy "
            f"{self.control.value:.2f}, the true {self.target} with {self.real.value:.2f}: "
            f"selectivity {self.selectivity} at layer {self.layer}."
        )


def control_task(case: ProbeEvaluation, *, repeats: int = 3) -> ControlTask:
    """Return the selectivity of the probe's recipe, over `repeats` random labellings of the groups."""
    rng = np.random.default_rng(case.seed)
    _, first, member = np.unique(case.groups, return_index=True, return_inverse=True)
    (called,) = case.predicted([case.random_splits()])
    real = (called == case.y).astype(np.float64)
    control = []
    for repeat in range(repeats):
        drawn = _random_classes(case.y[first], len(case.classes), rng)[member]
        (called,) = case.predicted([case.random_splits(repeat)], y=drawn)
        control.append(called == drawn)
    mean = np.mean(control, axis=0)
    return ControlTask(
        target=case.target,
        layer=case.layer,
        unit=case.unit,
        real=rate_over_groups(real, case.groups),
        control=rate_over_groups(mean, case.groups),
        selectivity=mean_over_groups(real - mean, case.groups),
    )


def _random_classes(of_group: np.ndarray, classes: int, rng: np.random.Generator) -> np.ndarray:
    """Return a random class for each group: as frequent as the real ones, where groups are of one class."""
    held = len(np.unique(of_group)) == classes
    return rng.permutation(of_group if held else np.arange(len(of_group)) % classes)
