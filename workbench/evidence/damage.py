"""What steering may do to music besides what was wanted: guards against broken sound, and the likelihood.

A judge can be won over by noise, so every effect is reported beside these. None is a verdict on its own:
music may be loud, sparse or loop-based. They say most against the unsteered clip of the same prompt and seed.

The *likelihood* hears no sound at all. Steering that breaks the music leads it to codes that the model itself
would hardly write, and their negative log-likelihood (NLL) rises. A take drawn with guidance or top-k comes
from a sharper distribution, so its NLL is no estimate of the model's entropy; what counts is the difference
to the baseline. A low NLL is not good in itself: loops and held tones are likely too.

The dose that *breaks* the music is measured by real music (`breaking_dose`): steered music that the model
finds less likely than all but a few real pieces is broken. One number then says where a fader's range stops
being musical; a single direction may break sooner or later, and the table says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from workbench.errors import EvidenceError, renamed_keywords
from workbench.generation.generate import generate
from workbench.generation.take import Take
from workbench.model.musicgen import NEUTRAL_PROMPTS, Model
from workbench.model.teacher_forcing import codes_for, codes_match_codec, score_codes
from workbench.sound import Clip, Dataset
from workbench.steering import Direction

_FRAME_S = 0.05
_SILENT_DB = -60.0
_FULL_SCALE = 0.99
_BANDS = 24
_LOWEST_HZ = 60.0
_AGAIN_DB = 1.5
_STRETCH_S = 0.5
_LAGS_S = (0.25, 4.0)


@renamed_keywords(twin="baseline")
def damage(clip: Clip, baseline: Clip | None = None) -> dict[str, float]:
    """Return measures of a clip; with a baseline each has a companion `<name>_change`, clip minus baseline.

    - level_db: RMS level in dBFS
    - clipping: share of samples at or beyond 99 % of full scale
    - silence: share of 50 ms frames below -60 dBFS
    - flatness: geometric over arithmetic mean of the power spectrum, mean over the frames that are not
      silent: 0 for a pure tone; white noise scores about 0.56, by the scatter of its spectrum
    - repetition: largest share of half-second stretches, over lags of 0.25 to 4 s, that sound again just as
      they did one lag before (within 1.5 dB in 24 bands): 1 for a held tone or an exact loop

    Of a stereo clip, level and clipping are of both sides, the others of their mean.

    >>> from workbench.sound import Clip
    >>> round(damage(Clip(np.ones(8000) / 2, 8000))["level_db"], 1)
    -6.0
    """
    found, before = _measure(clip), {} if baseline is None else _measure(baseline)
    return found | {f"{name}_change": found[name] - was for name, was in before.items()}


def _measure(clip: Clip) -> dict[str, float]:
    size = max(int(clip.rate_hz * _FRAME_S), 16)
    count = max(-(-(len(clip.samples) - size) // (size // 2)), 0) + 1
    padded = np.zeros(size + (count - 1) * (size // 2), np.float32)  # the last frame ends in silence
    padded[: len(clip.samples)] = clip.samples
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[:: size // 2]
    loud = _decibel((frames.astype(np.float64) ** 2).mean(1)) >= _SILENT_DB
    # A Hann window keeps a tone from leaking over the whole spectrum, which would look like noise.
    power = np.abs(np.fft.rfft(frames * np.hanning(frames.shape[1] + 1)[:-1], axis=1)) ** 2
    return {
        "level_db": clip.level_db,
        "clipping": float((np.abs(clip.heard) >= _FULL_SCALE).mean()),
        "silence": float(1 - loud.mean()),
        "flatness": _flatness(power[loud]),
        "repetition": _repetition(_band_levels(power, clip.rate_hz)),
    }


def _decibel(power: np.ndarray) -> np.ndarray:
    return np.asarray(10 * np.log10(np.maximum(power, 1e-12)))


def _flatness(power: np.ndarray) -> float:
    """Return the mean of exp(mean log P) / mean P over the frames of P (frames, bins), 0 without any."""
    if len(power) == 0:
        return 0.0
    # The floor, 120 dB below the mean, keeps one empty bin from making any frame a pure tone.
    power = power[:, 1:] + 1e-12 * power[:, 1:].mean(1, keepdims=True) + 1e-30
    return float((np.exp(np.log(power).mean(1)) / power.mean(1)).mean())


def _band_levels(power: np.ndarray, rate_hz: int) -> np.ndarray:
    """Return levels in dB of bands evenly spaced in pitch (frames, bands), cut 60 dB below the loudest."""
    frequencies = np.linspace(0, rate_hz / 2, power.shape[1])
    edges = np.geomspace(_LOWEST_HZ, rate_hz / 2, _BANDS + 1)
    band = np.searchsorted(edges, frequencies, side="right") - 1
    inside = (band >= 0) & (band < _BANDS)
    sums = np.zeros((len(power), _BANDS))
    np.add.at(sums.T, band[inside], power[:, inside].T)
    levels = _decibel(sums)
    return np.asarray(np.maximum(levels, levels.max() - 60))


def _repetition(levels: np.ndarray) -> float:
    """Return the largest share, over lags, of stretches whose bands come back to within 1.5 dB (RMS)."""
    hop_s = _FRAME_S / 2
    stretch, longest = round(_STRETCH_S / hop_s), min(round(_LAGS_S[1] / hop_s), len(levels) // 2)
    best = 0.0
    for lag in range(round(_LAGS_S[0] / hop_s), longest + 1):
        squared = ((levels[lag:] - levels[:-lag]) ** 2).mean(1)
        sums = np.cumsum(np.concatenate([[0.0], squared]))
        if len(squared) < stretch:
            break
        means = (sums[stretch:] - sums[:-stretch]) / stretch
        best = max(best, float((means <= _AGAIN_DB**2).mean()))
    return best


@dataclass(frozen=True, eq=False)
class Likelihood:
    """What the unsteered model says of one take: the NLL of each of its codes `(k, frames)`, in nats."""

    nats: np.ndarray

    @property
    def nll(self) -> float:
        """The mean over all codes, in nats per code; knowing nothing, it would be log(codebook size)."""
        return float(self.nats.mean(dtype=np.float64))

    @property
    def per_codebook(self) -> tuple[float, ...]:
        """The mean of each codebook `(k,)`, the coarsest first."""
        return tuple(float(row.mean(dtype=np.float64)) for row in self.nats)

    def row(self) -> dict[str, float]:
        """Return nll and nll_0, nll_1 ... per codebook, as columns beside those of `damage`."""
        return {"nll": self.nll} | {f"nll_{book}": nll for book, nll in enumerate(self.per_codebook)}


def likelihood(
    model: Model, takes: Sequence[Take], *, batch: int = 8, progress: bool = False
) -> list[Likelihood]:
    """Return what the unsteered model says of each take, however it was made.

    Each is read teacher-forced, `batch` takes per forward pass, under its own prompt and melody, on the
    conditional row alone: without guidance, at temperature 1, over all codes. EvidenceError where there is no
    take, or one holds codes that this model does not have.
    """
    if not takes:
        raise EvidenceError("A likelihood was asked for", "there are no takes", "Pass at least one")
    for take in takes:
        books, largest = take.codes.shape[0], int(take.codes.max())
        if books != model.n_codebooks or largest >= model.codebook_size:
            own = f"{model.id} has {model.n_codebooks} codebooks of {model.codebook_size}"
            asked, do = f"The likelihood of {take!r} was asked for", "Ask the model that made it"
            raise EvidenceError(asked, f"it has {books} codebooks with codes up to {largest}, and {own}", do)
    scores: list[Likelihood] = []
    starts = range(0, len(takes), batch)
    for start in tqdm(starts, desc="Scoring", unit="batch", disable=not progress, leave=False):
        some = takes[start : start + batch]
        text = model.text([take.prompt for take in some], [take.melody for take in some])
        scores += [Likelihood(nats) for nats in score_codes(model, [take.codes for take in some], text)]
    return scores


DOSES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)


@dataclass(frozen=True, eq=False)
class BreakingDose:
    """From which dose on, either way, the mean over directions is broken; infinite where it never was.

    It is interpolated between those that were tried. `table` has a row per direction and dose: direction,
    dose, n, nll (nats per code), broken (nll > real).
    """

    dose: float
    real: float  # what `share` of the real pieces stay below, in nats per code
    share: float
    table: pd.DataFrame = field(repr=False)

    def sentence(self) -> str:
        """Return what was found, with its numbers."""
        yardstick = f"{self.share:.0%} of the real pieces are likelier than {self.real:.2f} nats per code"
        if not np.isfinite(self.dose):
            return f"{yardstick}, and so is the music at every dose up to {self.table['dose'].abs().max():g}."
        return f"{yardstick}; from dose {self.dose:.2f} on steered music is not."


def breaking_dose(
    model: Model,
    directions: Mapping[str, Direction],
    dataset: Dataset,
    *,
    doses: Sequence[float] = DOSES,
    seeds: Sequence[int] = tuple(range(8)),
    seconds: float = 4.0,
    share: float = 0.95,
    progress: bool = True,
) -> BreakingDose:
    """Return the dose from which steering along these directions breaks the music.

    Unit directions, by name, are pushed either way: a clip of so many seconds per seed, direction and signed
    dose. The data set holds some fifty clips of real music, of which `share` are to be likelier than what
    counts as broken. EvidenceError for no directions, doses that do not rise above 0, or a share outside 0-1.
    """
    ladder = [float(dose) for dose in doses]
    rising = ladder and ladder[0] > 0 and all(a < b for a, b in pairwise(ladder))
    if not directions or not rising or not 0 < share < 1:
        found = f"there are {len(directions)} directions, doses {ladder} and a share of {share}"
        raise EvidenceError("A breaking dose was asked for", found, "Give doses that rise above 0")
    real = float(np.quantile(_real(model, dataset, seconds), share))
    prompts = [NEUTRAL_PROMPTS[number % len(NEUTRAL_PROMPTS)] for number in range(len(seeds))]
    rows = []
    signed = [sign * dose for dose in ladder for sign in (1, -1)]
    for dose in tqdm(signed, desc="Breaking dose", unit="dose", disable=not progress, leave=False):
        plans = [one.at(dose=dose) for one in directions.values() for _seed in seeds]
        takes = generate(
            model, prompts * len(directions), steering=plans, seed=list(seeds) * len(directions),
            seconds=seconds, progress=False,
        )  # fmt: skip
        nlls = np.reshape([one.nll for one in likelihood(model, takes)], (len(directions), len(seeds)))
        mean = zip(directions, nlls.mean(1), strict=True)
        rows += [(name, dose, len(seeds), nll, nll > real) for name, nll in mean]
    table = pd.DataFrame(rows, columns=["direction", "dose", "n", "nll", "broken"])
    means = table.groupby(table["dose"].abs())["nll"].mean()
    return BreakingDose(_crossing(means.index.to_numpy(), means.to_numpy(), real), real, share, table)


def _real(model: Model, dataset: Dataset, seconds: float) -> np.ndarray:
    """Return nats per code of each real piece (n,) under a neutral prompt."""
    stored = codes_match_codec(model, dataset)
    codes = [codes_for(model, dataset, entry, seconds=seconds, stored=stored) for entry in dataset]
    found: list[float] = []
    for some in (codes[start : start + 8] for start in range(0, len(codes), 8)):
        text = model.text([NEUTRAL_PROMPTS[0]] * len(some))
        found += [float(nats.mean()) for nats in score_codes(model, some, text)]
    return np.array(found)


def _crossing(doses: np.ndarray, nats: np.ndarray, real: float) -> float:
    """Return the first dose at which `nats` rises above `real`, linear between neighbours."""
    if not (nats > real).any():
        return float("inf")
    first = int(np.argmax(nats > real))
    between = slice(max(first - 1, 0), first + 1)
    return float(np.interp(real, nats[between], doses[between]))
