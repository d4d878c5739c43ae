"""Judges from the Hugging Face hub, and a panel of several judges.

CLAP compares a clip with captions; taggers (AudioSet, Discogs) give labels, which a table maps to classes.
They listen to windows as long as they were trained on, and the windows of a clip are averaged. `load_judge`
knows them as "clap", "ast" and "panel:genre,clap,ast", or of another checkpoint or folder as "clap:FOLDER".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from scipy.special import softmax

from workbench.errors import EvidenceError, reason
from workbench.files import digest_of
from workbench.model.load import choose_device
from workbench.sound import Clip
from workbench.stats import proportion

if TYPE_CHECKING:
    from workbench.evidence.judge import Judge

Array = np.ndarray
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
DISCOGS: Table = {
    **{genre: (f"{genre.title()}---*",) for genre in GENRES}, "country": ("*---Country*", "*---Bluegrass")
}  # fmt: skip
"""Genre -> patterns of Discogs' labels, which read "Genre---Style"."""
MAEST_LICENCE = "CC BY-NC-SA 4.0"
ALIKE = 0.99  # cosine; of captions that a trained text tower tells apart the least is far lower


@dataclass(frozen=True, eq=False)
class HubJudge:
    """A network that embeds windows of sound, and a head that makes class probabilities of embeddings.

    `table` says what stands for each class, captions or labels; `longest` are the samples of a window, and
    `pool` says how labels of a class are put together.
    """

    target: str
    pool: str
    table: Table
    rate_hz: int
    longest: int
    network: Any = field(repr=False)
    body: Callable[[Array], Any] = field(repr=False)
    head: Callable[[Array], Array] = field(repr=False)

    @property
    def classes(self) -> tuple[str, ...]:
        """What it tells apart."""
        return tuple(self.table)

    @cached_property
    def fingerprint(self) -> str:
        """A digest of its table and weights."""
        weights = {name: one.cpu().numpy() for name, one in self.network.state_dict().items()}
        return digest_of({"table": [[*one] for one in self.table.items()], "pool": self.pool}, weights)

    def embed(self, clips: Sequence[Clip]) -> Array:
        """Return the mean embedding (clips, d) of each clip's windows; EvidenceError without clips."""
        if not clips:
            raise EvidenceError("A judgement was asked for", "there are no clips", "Pass at least one clip")
        rows = []
        with torch.inference_mode():
            for samples in (clip.resample(self.rate_hz).samples for clip in clips):
                parts = np.array_split(samples, math.ceil(len(samples) / self.longest))
                rows.append(torch.cat([self.body(part) for part in parts]).mean(dim=0).cpu().numpy())
        return np.stack(rows)

    def probabilities(self, clips: Sequence[Clip]) -> Array:
        """Return class probabilities (clips, classes)."""
        return self.head(self.embed(clips))


@dataclass(frozen=True, eq=False)
class ClapJudge(HubJudge):
    """CLAP, which also compares sound with any text."""

    embed_text: Callable[[Sequence[str]], Array] = field(repr=False)

    def similarity(self, clips: Sequence[Clip], texts: Sequence[str]) -> Array:
        """Return the cosine (clips,) of each clip and its text."""
        return np.asarray((_unit(self.embed(clips)) * self.embed_text(texts)).sum(axis=1))


def clap_judge(
    source: str = "laion/clap-htsat-unfused", captions: Table = CAPTIONS, *, device: str | None = None
) -> ClapJudge:
    """Return CLAP (Wu et al. 2023), from a folder or the hub, as a judge of what captions describe.

    The probabilities are the softmax of its own logits, with the mean embedding of a class's captions.
    EvidenceError where it cannot be read, lacks weights, or its text tower tells no captions apart.
    """
    import transformers as hf

    kinds = (hf.ClapModel, hf.ClapFeatureExtractor, hf.AutoTokenizer)
    network, extractor, tokenizer = _read("clap", source, device, *kinds)

    def embed_text(texts: Sequence[str]) -> Array:
        read = tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        given = {name: read[name].to(network.device) for name in ("input_ids", "attention_mask")}
        with torch.inference_mode():
            return _unit(network.get_text_features(**given).pooler_output.cpu().numpy())

    def body(samples: Array) -> Any:
        read = extractor(samples, sampling_rate=extractor.sampling_rate, return_tensors="pt")
        return network.get_audio_features(**read.to(network.device)).pooler_output

    def head(embedded: Array) -> Array:
        return np.asarray(softmax(float(network.logit_scale_a.exp()) * _unit(embedded) @ text.T, axis=1))

    text = _unit(np.stack([embed_text(some).mean(axis=0) for some in captions.values()]))
    if not (least := float((text @ text.T).min())) < ALIKE:
        found = f"the captions of all {len(text)} classes are alike to it: no cosine lies below {least:.4f}"
        do = "Use a checkpoint whose text tower is trained and loaded, or captions that differ"
        raise EvidenceError(f"The judge clap of {source} was asked for", found, do)
    how = (extractor.sampling_rate, extractor.nb_max_samples, network, body, head, embed_text)
    return ClapJudge("clap", "softmax", captions, *how)


def ast_judge(
    source: str = "MIT/ast-finetuned-audioset-10-10-0.4593", table: Table = AUDIOSET, *, pool: str = "max",
    device: str | None = None,
) -> HubJudge:  # fmt: skip
    """Return the tagger AST (Gong et al. 2021), from a folder or the hub, as a judge.

    `table` is class -> labels, or patterns such as "Jazz*"; the "max" or "mean" of their probabilities is
    divided by the sum over classes. EvidenceError where it cannot be read, or a class has no label.
    """
    import transformers as hf

    kinds = (hf.ASTForAudioClassification, hf.ASTFeatureExtractor)
    network, extractor = _read("ast", source, device, *kinds)

    def read(samples: Array) -> Any:
        return extractor(samples, sampling_rate=16_000, return_tensors="pt")["input_values"]

    return _tagger("ast", network, table, pool, (160 * extractor.max_length, read))  # 10 ms a frame


def maest_judge(
    source: str = "mtg-upf/discogs-maest-5s-pw-129e", table: Table = DISCOGS, *, accept_licence: str = "",
    pool: str = "max", device: str | None = None,
) -> HubJudge:  # fmt: skip
    """Return MAEST, a tagger of Discogs' styles (Alonso-Jimenez et al. 2023), as a judge; see `ast_judge`.

    Its weights are for non-commercial use: EvidenceError unless `accept_licence` is the licence's name.
    """
    if accept_licence != MAEST_LICENCE:
        found = f"its weights are under the licence {MAEST_LICENCE}, which was not accepted"
        do = f'Where you accept it: register_judge("maest", maest_judge(accept_licence="{MAEST_LICENCE}"))'
        raise EvidenceError(f"The judge maest of {source} was asked for", found, do)
    import transformers as hf

    (network,) = _read("maest", source, device, hf.ASTForAudioClassification)
    frames, bands = network.config.max_length, network.config.num_mel_bins

    def read(samples: Array) -> Any:
        return _maest_mel(samples, frames, bands)

    return _tagger("maest", network, table, pool, (256 * (frames - 1), read))


def _maest_mel(samples: Array, frames: int, bands: int) -> Any:
    """Return MAEST's input (1, frames, bands): log10(1 + 10^4 mel power), standardised as in its training."""
    from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

    filters = mel_filter_bank(257, bands, 0.0, 8000.0, 16_000, norm="slaney", mel_scale="slaney")
    how: Any = {"power": 2.0, "mel_filters": filters, "mel_floor": 1e-30, "pad_mode": "constant"}
    heard = spectrogram(samples, window_function(512, "hann"), 512, 256, **how).T[:frames]
    mel = np.zeros((frames, bands), np.float32)
    mel[: len(heard)] = np.log10(1 + 1e4 * heard)
    return torch.from_numpy((mel - 2.06755686) / (2 * 1.26829282))[None]


def _tagger(
    target: str, network: Any, table: Table, pool: str, reads: tuple[int, Callable[[Array], Any]]
) -> HubJudge:
    names = {int(number): str(name) for number, name in network.config.id2label.items()}
    own = [[n for n, name in names.items() if any(fnmatchcase(name, one) for one in some)]
           for some in table.values()]  # fmt: skip
    if deaf := [one for one, some in zip(table, own, strict=True) if not some]:
        found = f"none of its labels ({', '.join(list(names.values())[:8])} ...) is one of {', '.join(deaf)}"
        raise EvidenceError(f"The judge {target} was asked for", found, "Give a table of class -> labels")
    longest, read = reads

    def body(samples: Array) -> Any:
        return network.audio_spectrogram_transformer(read(samples).to(network.device)).pooler_output

    def head(embedded: Array) -> Array:
        with torch.inference_mode():
            tags = network.classifier(torch.from_numpy(embedded).to(network.device)).sigmoid().cpu().numpy()
        return _shares(np.stack([getattr(tags[:, some], pool)(axis=1) for some in own], axis=1))

    return HubJudge(target, pool, table, 16_000, longest, network, body, head)


def _read(kind: str, source: str, device: str | None, network: Any, *others: Any) -> list[Any]:
    """Return a network, on its device and in float32, and others that lie beside it, of these classes."""
    try:
        found, report = network.from_pretrained(source, dtype=torch.float32, output_loading_info=True)
        if missing := sorted(report["missing_keys"]):
            raise ValueError(f"{len(missing)} weights are missing, such as {missing[0]}")
        beside = [one.from_pretrained(source) for one in others]
    except Exception as error:  # a damaged checkpoint can be wrong in any way
        asked, do = f"The judge {kind} of {source} was asked for", "Check name, connection and files"
        raise EvidenceError(asked, f"it cannot be read ({reason(error)})", do) from error
    return [found.eval().requires_grad_(False).to(choose_device(device)), *beside]


def _unit(vectors: Array) -> Array:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12))


def _shares(odds: Array) -> Array:
    exact = np.asarray(odds, np.float64) + 1e-12
    return np.asarray(exact / exact.sum(axis=-1, keepdims=True))


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

    def each(self, clips: Sequence[Clip]) -> Array:
        """Return the probabilities (judges, clips, classes) of each judge among the shared classes."""
        heard = [(one.classes, np.asarray(one.probabilities(clips))) for one in self.judges.values()]
        return _shares(np.stack([odds[:, [own.index(c) for c in self.classes]] for own, odds in heard]))

    def probabilities(self, clips: Sequence[Clip]) -> Array:
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
    sizes = {len(some) for some in verdicts.values()}
    if len(sizes) != 1 or 0 in sizes or len(verdicts) < 2:
        found = ", ".join(f"{name} heard {len(some)}" for name, some in verdicts.items()) or "nobody did"
        raise EvidenceError("The agreement of judges was asked for", found, "Let two hear the same clips")
    rows: list[tuple[Any, ...]] = []
    for some in [*combinations(verdicts, 2), tuple(verdicts)]:
        pooled = len(rows) == math.comb(len(verdicts), 2)
        votes = np.stack([np.asarray(verdicts[name], str) for name in some], axis=1)
        same, names = proportion((votes == votes[:, :1]).all(axis=1)), ("all", "") if pooled else some
        rows.append((*names, len(votes), same.value, same.low, same.high, _kappa(votes, pooled)))
    return pd.DataFrame(rows, columns=["first", "second", "n", "agreement", "low", "high", "kappa"])


def _kappa(votes: Array, pooled: bool) -> float:
    """Return agreement beyond chance of votes (clips, judges): Cohen's, or Fleiss' where chance is pooled."""
    judges, hits = votes.shape[1], votes[:, :, None] == np.unique(votes)  # (clips, judges, classes)
    counts, shares = hits.sum(axis=1), hits.mean(axis=0)
    seen = float((counts * (counts - 1)).sum(axis=1).mean() / (judges * (judges - 1)))
    expected = float((shares.mean(axis=0) ** 2).sum() if pooled else shares.prod(axis=0).sum())
    return 1.0 if expected >= 1 else (seen - expected) / (1 - expected)


MAKERS: Mapping[str, Callable[..., Judge]] = {"clap": clap_judge, "ast": ast_judge, "maest": maest_judge}
