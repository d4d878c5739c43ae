"""Judges from the Hugging Face hub, and a panel of several judges.

CLAP compares a clip with captions; taggers (AudioSet, Discogs) give labels, which a table maps to classes.
They listen to windows as long as they were trained on, and the windows of a clip are averaged. `load_judge`
knows them as "clap", "ast" and "panel:genre,clap,ast", or of another checkpoint or folder as "clap:FOLDER".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from workbench.errors import EvidenceError, reason
from workbench.files import digest_of
from workbench.model.load import choose_device
from workbench.stats import proportion

if TYPE_CHECKING:
    from workbench.evidence.judge import Judge
    from workbench.sound import Clip

Table = Mapping[str, Sequence[str]]
GENRES = ("classical", "country", "electronic", "jazz", "reggae", "rock")
CAPTIONS: Table = {genre: (f"{genre} music", f"a song of the genre {genre}") for genre in GENRES}
AUDIOSET: Table = {
    "classical": ("Classical music", "Opera"), "country": ("Country", "Bluegrass"),
    "electronic": ("Electronic music", "House music", "Techno", "Dubstep", "Drum and bass", "Electronica",
                   "Electronic dance music", "Trance music"),
    "jazz": ("Jazz", "Swing music"), "reggae": ("Reggae",),
    "rock": ("Rock music", "Heavy metal", "Punk rock", "Grunge", "Progressive rock", "Rock and roll"),
}  # fmt: skip
"""Genre -> labels of AudioSet (Gemmeke et al. 2017)."""
DISCOGS: Table = {genre: (f"{genre.title()}---*",) for genre in GENRES} | {
    "country": ("*---Country*", "*---Bluegrass")
}
"""Genre -> patterns of Discogs' labels, which read "Genre---Style"."""
MAEST_LICENCE = "CC BY-NC-SA 4.0"
ALIKE = 0.99  # cosine; of captions that a trained text tower tells apart the least is far lower
_AST_HOP, _MAEST_HOP = 160, 256  # samples a frame


@dataclass(frozen=True, eq=False)
class _HubJudge:
    """What judges from the hub share: `table` says what stands for each class, captions or labels."""

    source: str
    table: Table
    network: Any = field(repr=False)

    @property
    def classes(self) -> tuple[str, ...]:
        """What it tells apart."""
        return tuple(self.table)

    @cached_property
    def fingerprint(self) -> str:
        """A digest of its table and weights."""
        table = {name: list(some) for name, some in self.table.items()}
        weights = {name: one.cpu().numpy() for name, one in self.network.state_dict().items()}
        return digest_of({"table": table, "pool": getattr(self, "pool", "")}, weights)


@dataclass(frozen=True, eq=False)
class ClapJudge(_HubJudge):
    """Hears the class whose captions lie nearest to the clip (zero-shot; Wu et al. 2023)."""

    extractor: Any = field(repr=False)
    tokenizer: Any = field(repr=False)
    target = "clap"

    def __post_init__(self) -> None:
        least = float((self.text @ self.text.T).min())
        if not least < ALIKE:
            found = f"the captions of its {len(self.table)} classes lie within a cosine of {least:.4f}"
            do = "Use a checkpoint whose text tower is trained and loaded, or captions that differ"
            raise EvidenceError(f"The judge clap of {self.source} was asked for", found, do)

    @property
    def rate_hz(self) -> int:
        """The rate at which it listens."""
        return int(self.extractor.sampling_rate)

    @cached_property
    def text(self) -> np.ndarray:
        """The embedding (classes, d) of each class, of length 1: the mean of its captions'."""
        return _unit(np.stack([self.embed_text(some).mean(axis=0) for some in self.table.values()]))

    def embed_text(self, texts: Sequence[str]) -> np.ndarray:
        """Return the embeddings (texts, d) of length 1."""
        import torch

        read = self.tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        given = {name: read[name].to(self.network.device) for name in ("input_ids", "attention_mask")}
        with torch.inference_mode():
            return _unit(self.network.get_text_features(**given).pooler_output.cpu().numpy())

    def embed(self, clips: Sequence[Clip]) -> np.ndarray:
        """Return the embeddings (clips, d) of length 1; EvidenceError where there are no clips."""

        def heard(samples: np.ndarray) -> Any:
            read = self.extractor(samples, sampling_rate=self.rate_hz, return_tensors="pt")
            return self.network.get_audio_features(**read.to(self.network.device)).pooler_output

        return _unit(_over_windows(heard, clips, self.rate_hz, self.extractor.nb_max_samples))

    def probabilities(self, clips: Sequence[Clip]) -> np.ndarray:
        """Return class probabilities (clips, classes): the softmax of CLAP's own logits."""
        from scipy.special import softmax

        scale = float(self.network.logit_scale_a.exp())
        return np.asarray(softmax(scale * self.embed(clips) @ self.text.T, axis=1))

    def similarity(self, clips: Sequence[Clip], texts: Sequence[str]) -> np.ndarray:
        """Return the cosine (clips,) of each clip and its text."""
        return np.asarray((self.embed(clips) * self.embed_text(texts)).sum(axis=1))


@dataclass(frozen=True, eq=False)
class TaggerJudge(_HubJudge):
    """Hears the class whose labels a tagger gives most.

    The probabilities (sigmoids) of a class's labels are pooled, and divided by the sum over classes.
    """

    target: str
    pool: str
    rate_hz: int
    longest: int
    read: Callable[[np.ndarray], Any] = field(repr=False)

    def __post_init__(self) -> None:
        if deaf := [name for name, some in self.labels.items() if not some]:
            few = ", ".join(list(self.network.config.id2label.values())[:8])
            asked, found = f"The judge {self.target} of {self.source} was asked for", ", ".join(deaf)
            raise EvidenceError(asked, f"no label stands for {found}; they are {few} ...", "Give a table")

    @cached_property
    def labels(self) -> dict[str, list[int]]:
        """The numbers of the labels of each class, which match its patterns."""
        names = {int(number): str(name) for number, name in self.network.config.id2label.items()}
        return {
            one: [number for number, name in names.items() if any(fnmatchcase(name, like) for like in some)]
            for one, some in self.table.items()
        }

    def embed(self, clips: Sequence[Clip]) -> np.ndarray:
        """Return what its classifier reads of each clip (clips, d); EvidenceError where there are none."""
        body = self.network.audio_spectrogram_transformer
        return self._heard(lambda given: body(given).pooler_output, clips)

    def probabilities(self, clips: Sequence[Clip]) -> np.ndarray:
        """Return class probabilities (clips, classes)."""
        tags = self._heard(lambda given: self.network(given).logits.sigmoid(), clips).astype(np.float64)
        pooled = [getattr(tags[:, some], self.pool)(axis=1) for some in self.labels.values()]
        return _shares(np.stack(pooled, axis=1))

    def _heard(self, run: Callable[[Any], Any], clips: Sequence[Clip]) -> np.ndarray:
        device = self.network.device
        return _over_windows(lambda x: run(self.read(x).to(device)), clips, self.rate_hz, self.longest)


def clap_judge(
    source: str = "laion/clap-htsat-unfused", captions: Table = CAPTIONS, *, device: str | None = None
) -> ClapJudge:
    """Return CLAP, from a folder or the hub, as a judge of classes that captions describe.

    EvidenceError where it cannot be read, lacks weights, or its text tower tells no captions apart.
    """
    import transformers as hf

    with _refusing("clap", source):
        extractor = hf.ClapFeatureExtractor.from_pretrained(source)
        tokenizer = hf.AutoTokenizer.from_pretrained(source)
        network = _network(hf.ClapModel, source, device)
    return ClapJudge(str(source), captions, network, extractor, tokenizer)


def ast_judge(
    source: str = "MIT/ast-finetuned-audioset-10-10-0.4593", table: Table = AUDIOSET, *, pool: str = "max",
    device: str | None = None,
) -> TaggerJudge:  # fmt: skip
    """Return the tagger AST (Gong et al. 2021), from a folder or the hub, as a judge.

    `table` is class -> labels, or patterns such as "Jazz*"; `pool` of a class's labels is "max" or "mean".
    EvidenceError where it cannot be read, lacks weights, or a class has no label.
    """
    import transformers as hf

    with _refusing("ast", source):
        extractor = hf.ASTFeatureExtractor.from_pretrained(source)
        network = _network(hf.ASTForAudioClassification, source, device)
    rate_hz, longest = extractor.sampling_rate, extractor.max_length * _AST_HOP

    def read(samples: np.ndarray) -> Any:
        return extractor(samples, sampling_rate=rate_hz, return_tensors="pt")["input_values"]

    return TaggerJudge(str(source), table, network, "ast", pool, rate_hz, longest, read)


def maest_judge(
    source: str = "mtg-upf/discogs-maest-5s-pw-129e", table: Table = DISCOGS, *, accept_licence: str = "",
    pool: str = "max", device: str | None = None,
) -> TaggerJudge:  # fmt: skip
    """Return MAEST, a tagger of Discogs' styles (Alonso-Jimenez et al. 2023), as a judge; see `ast_judge`.

    Its weights are for non-commercial use: EvidenceError unless `accept_licence` is the licence's name.
    """
    if accept_licence != MAEST_LICENCE:
        found = f"its weights are under the licence {MAEST_LICENCE}, which was not accepted"
        do = f'Where you accept it: register_judge("maest", maest_judge(accept_licence="{MAEST_LICENCE}"))'
        raise EvidenceError(f"The judge maest of {source} was asked for", found, do)
    import transformers as hf

    with _refusing("maest", source):
        network = _network(hf.ASTForAudioClassification, source, device)
    frames, bands = network.config.max_length, network.config.num_mel_bins
    longest = (frames - 1) * _MAEST_HOP

    def read(samples: np.ndarray) -> Any:
        return _maest_mel(samples, frames, bands)

    return TaggerJudge(str(source), table, network, "maest", pool, 16_000, longest, read)


def _maest_mel(samples: np.ndarray, frames: int, bands: int) -> Any:
    """Return MAEST's input (1, frames, bands): log10(1 + 10^4 mel power), standardised as in its training."""
    import torch
    from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

    filters = mel_filter_bank(257, bands, 0.0, 8000.0, 16_000, norm="slaney", mel_scale="slaney")
    how: Any = {"power": 2.0, "mel_filters": filters, "mel_floor": 1e-30, "pad_mode": "constant"}
    heard = spectrogram(samples, window_function(512, "hann"), 512, _MAEST_HOP, **how).T[:frames]
    mel = np.zeros((frames, bands), np.float32)
    mel[: len(heard)] = np.log10(1 + 1e4 * heard)
    return torch.from_numpy((mel - 2.06755686) / (2 * 1.26829282))[None]


def _network(kind: Any, source: str, device: str | None) -> Any:
    import torch

    network, report = kind.from_pretrained(source, dtype=torch.float32, output_loading_info=True)
    if missing := sorted(report["missing_keys"]):
        raise ValueError(f"{len(missing)} weights are missing, such as {missing[0]}")
    return network.eval().requires_grad_(False).to(choose_device(device))


@contextmanager
def _refusing(kind: str, source: str) -> Iterator[None]:
    """Turn whatever libraries raise on a damaged checkpoint into an EvidenceError."""
    try:
        yield
    except Exception as error:
        asked, do = f"The judge {kind} of {source} was asked for", "Check name, connection and files"
        raise EvidenceError(asked, f"it cannot be read ({reason(error)})", do) from error


def _over_windows(
    heard: Callable[[np.ndarray], Any], clips: Sequence[Clip], rate_hz: int, longest: int
) -> np.ndarray:
    """Return the mean (clips, n) of what is heard (1, n) in a clip's equal windows, `longest` at most."""
    import torch

    if not clips:
        raise EvidenceError("A judgement was asked for", "there are no clips", "Pass at least one clip")
    rows = []
    with torch.inference_mode():
        for samples in (clip.resample(rate_hz).samples for clip in clips):
            parts = np.array_split(samples, math.ceil(len(samples) / longest))
            rows.append(torch.cat([heard(part) for part in parts]).mean(dim=0).cpu().numpy())
    return np.stack(rows)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12))


def _shares(odds: np.ndarray) -> np.ndarray:
    return np.asarray((odds + 1e-12) / (odds + 1e-12).sum(axis=-1, keepdims=True))


@dataclass(frozen=True, eq=False)
class Panel:
    """Several judges as one, of the classes that all of them know: a claim needs `needed` of them.

    A class has the probability that at least `needed` judges give it (with three judges the median), divided
    by the sum over classes: no judge alone, however sure, makes the panel hear anything.

    >>> from workbench.evidence.judge import load_judge
    >>> load_judge("panel:genre,genre").claim({"genre": True, "genre (2)": False})
    False
    """

    judges: Mapping[str, Judge]
    needed: int = 2
    target = "panel"

    def __post_init__(self) -> None:
        if not 1 < self.needed <= len(self.judges) or len(self.classes) < 2:
            found = f"{', '.join(self.judges) or 'no judges'} share {', '.join(self.classes) or 'no classes'}"
            do = "Give as many judges as must agree, two at least, that share two classes or more"
            raise EvidenceError(f"A panel in which {self.needed} must agree was asked for", found, do)

    @property
    def classes(self) -> tuple[str, ...]:
        """What all judges tell apart, in the order of the first."""
        every = [one.classes for one in self.judges.values()] or [()]
        return tuple(name for name in every[0] if all(name in other for other in every))

    @property
    def rate_hz(self) -> int:
        """The highest rate of its judges, each of which resamples."""
        return max(one.rate_hz for one in self.judges.values())

    @property
    def fingerprint(self) -> str:
        """A digest of its judges."""
        every = [getattr(one, "fingerprint", type(one).__qualname__) for one in self.judges.values()]
        return digest_of({"needed": self.needed, "judges": every})

    def each(self, clips: Sequence[Clip]) -> np.ndarray:
        """Return the probabilities (judges, clips, classes) of each judge among the shared classes."""
        heard = [(one.classes, np.asarray(one.probabilities(clips))) for one in self.judges.values()]
        return _shares(np.stack([odds[:, [own.index(c) for c in self.classes]] for own, odds in heard]))

    def probabilities(self, clips: Sequence[Clip]) -> np.ndarray:
        """Return class probabilities (clips, classes)."""
        return _shares(np.sort(self.each(clips), axis=0)[-self.needed])

    def claim(self, verdicts: Mapping[str, bool]) -> bool:
        """Return whether enough judges, by name, say yes; one that is not there has not said it."""
        return sum(bool(verdicts.get(name)) for name in self.judges) >= self.needed


def agreement(verdicts: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Return how far judges agree, given the verdicts of each on the same clips.

    A row per pair: first, second, n, agreement (share of equal verdicts), low, high (Wilson), Cohen's kappa;
    the last row, "all", has the share of clips on which all are of one mind, and Fleiss' kappa.

    >>> agreement({"a": ["jazz", "rock", "jazz"], "b": ["jazz", "rock", "rock"]})["kappa"].round(2).tolist()
    [0.4, 0.33]
    """
    names, votes = list(verdicts), [np.asarray(some, str) for some in verdicts.values()]
    sizes = [len(some) for some in votes]
    if len(votes) < 2 or len(set(sizes)) > 1 or not sizes[0]:
        found = f"{', '.join(names) or 'nobody'} heard {sizes} clips"
        raise EvidenceError("The agreement of judges was asked for", found, "Let two hear the same clips")
    groups = [((names[i], names[k]), np.stack([votes[i], votes[k]], 1), False)
              for i, k in combinations(range(len(votes)), 2)]  # fmt: skip
    rows = []
    for (first, second), some, pooled in [*groups, (("all", ""), np.stack(votes, axis=1), True)]:
        same = proportion((some == some[:, :1]).all(axis=1))
        rows.append((first, second, len(some), same.value, same.low, same.high, _kappa(some, pooled)))
    return pd.DataFrame(rows, columns=["first", "second", "n", "agreement", "low", "high", "kappa"])


def _kappa(votes: np.ndarray, pooled: bool) -> float:
    """Return agreement beyond chance of votes (clips, judges): Cohen's, or Fleiss' where chance is pooled."""
    judges, hits = votes.shape[1], votes[:, :, None] == np.unique(votes)  # (clips, judges, classes)
    counts, shares = hits.sum(axis=1), hits.mean(axis=0)
    seen = float((counts * (counts - 1)).sum(axis=1).mean() / (judges * (judges - 1)))
    expected = float((shares.mean(axis=0) ** 2).sum() if pooled else shares.prod(axis=0).sum())
    return 1.0 if expected >= 1 else (seen - expected) / (1 - expected)


MAKERS: Mapping[str, Callable[..., Judge]] = {"clap": clap_judge, "ast": ast_judge, "maest": maest_judge}
