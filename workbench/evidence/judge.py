"""Judges: classifiers that hear sound only, so that what a probe made is never marked by the probe."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from workbench.errors import EvidenceError, is_text, reason
from workbench.evidence.features import VERSION, block_slices, features
from workbench.files import DIGEST, builtin_path, check_digest, digest_of, file_in, write_together
from workbench.sound import Clip


@dataclass(frozen=True)
class Judge:
    """A small neural network on audio features.

    Attributes:
        target: the label it tells, for example ``"genre"``.
        classes: the values it can tell apart, in the order of its outputs.
        mean: (n,) and ``scale``: (n,) standardise the features.
        layers: weights (inputs, outputs) and biases (outputs,) of each layer; ReLU between them.
        card: how it was made and how well it does (validation figures).
        hears: the blocks of features that it listens to; ``n`` is their length together.
    """

    target: str
    classes: tuple[str, ...]
    mean: np.ndarray
    scale: np.ndarray
    layers: tuple[tuple[np.ndarray, np.ndarray], ...]
    card: dict[str, object]
    hears: tuple[str, ...]

    def __post_init__(self) -> None:
        if problem := _problem(self):
            raise EvidenceError(
                f"A judge of {self.target!r} was asked for",
                problem,
                "Fit it again (make embedded)",
            )

    def probabilities(self, clips: Sequence[Clip]) -> np.ndarray:
        """Return the probability of each class for each clip (clips, classes); each row sums to 1."""
        if not clips:
            raise EvidenceError("A judgement was asked for", "there are no clips", "Pass at least one clip")
        return self.probabilities_of(np.stack([features(clip) for clip in clips]))

    def probabilities_of(self, vectors: np.ndarray) -> np.ndarray:
        """Return class probabilities (clips, classes) of what ``features`` returns for each clip."""
        hidden = np.clip((self._heard(vectors) - self.mean) / self.scale, -6, 6)
        for i, (weight, bias) in enumerate(self.layers):
            hidden = hidden @ weight + bias
            if i + 1 < len(self.layers):
                hidden = np.maximum(hidden, 0.0)
        odds = np.exp(hidden - hidden.max(axis=1, keepdims=True))
        return np.asarray(odds / odds.sum(axis=1, keepdims=True))

    def _heard(self, vectors: np.ndarray) -> np.ndarray:
        """Return the features (clips, n) of the blocks that this judge hears."""
        slices = block_slices()
        whole = max(part.stop for part in slices.values())
        own = sum(slices[name].stop - slices[name].start for name in self.hears)
        if vectors.shape[-1] != whole or own != len(self.mean):
            raise EvidenceError(
                f"The judge of {self.target} was asked",
                f"it takes {len(self.mean)} features of {', '.join(self.hears)} ({own} of {whole}), "
                f"and got vectors of {vectors.shape[-1]}",
                "Pass what features() returns, or fit the judge again with this version",
            )
        return np.concatenate([vectors[..., slices[name]] for name in self.hears], axis=-1)

    def decide(self, clips: Sequence[Clip]) -> list[str]:
        """Return the most probable class of each clip."""
        return [self.classes[i] for i in self.probabilities(clips).argmax(axis=1)]

    def save(self, folder: Path | str) -> Path:
        """Write ``<target>.safetensors`` and ``<target>.json`` into a folder and return it.

        Raises:
            DiskError: the disk is full or the folder cannot be written; an older judge is then whole.
        """
        from safetensors.numpy import save

        tensors = {"mean": self.mean, "scale": self.scale}
        for i, (weight, bias) in enumerate(self.layers):
            tensors |= {f"weight_{i}": weight, f"bias_{i}": bias}
        tensors = {k: _smallest(v) for k, v in tensors.items()}
        about = {
            "target": self.target,
            "features": VERSION,
            "hears": self.hears,
            "classes": self.classes,
            "layers": len(self.layers),
            "card": self.card,
        }
        text = json.dumps({**about, DIGEST: digest_of(about, tensors)}, indent=2) + "\n"
        files = {f"{self.target}.safetensors": save(tensors), f"{self.target}.json": text.encode()}
        return write_together(folder, files)

    @classmethod
    def load(cls, folder: Path | str, target: str = "genre") -> Judge:
        """Return a judge written by ``save``."""
        from safetensors.numpy import load_file

        path = file_in(folder, f"{target}.json")
        if not path.exists():
            held = ", ".join(sorted(p.stem for p in Path(folder).glob("*.json"))) or "none"
            raise EvidenceError(
                f"A judge of {target} was asked for", f"{folder} holds: {held}", "Choose one of these"
            )
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
            fitted = about.get("features", "of an older version")
            if fitted == VERSION:
                tensors, count = load_file(file_in(folder, f"{target}.safetensors")), range(about["layers"])
                check_digest(path, about, tensors)
                tensors = {name: np.asarray(one, np.float32) for name, one in tensors.items()}
                layers = tuple((tensors[f"weight_{i}"], tensors[f"bias_{i}"]) for i in count)
                classes, hears = tuple(about["classes"]), tuple(about["hears"])
                return cls(target, classes, tensors["mean"], tensors["scale"], layers, about["card"], hears)
        except Exception as error:  # a damaged file can be wrong in any way
            raise EvidenceError(
                f"A judge of {target} was asked for",
                f"{path} and the .safetensors beside it cannot be read ({reason(error)})",
                "Use a folder that Judge.save wrote",
            ) from error
        raise EvidenceError(
            f"A judge of {target} in {folder} was asked for",
            f"it was fitted to features {fitted}, and the features are now {VERSION}",
            "Fit it again (make embedded), or use the version that made it",
        )


def _smallest(numbers: np.ndarray) -> np.ndarray:
    """Return numbers in half precision where nothing is lost by it, else in single precision."""
    single = np.ascontiguousarray(numbers, np.float32)
    with np.errstate(over="ignore"):
        half = single.astype(np.float16)
    return half if np.array_equal(half.astype(np.float32), single) else single


def _problem(judge: Judge) -> str:
    """Return what is wrong with the parts of a judge, or an empty text."""
    texts = (judge.target, *judge.classes, *judge.hears)
    if not all(map(is_text, texts)) or not 0 < len(set(judge.classes)) == len(judge.classes):
        return f"its classes are {judge.classes!r} and it hears {judge.hears!r}"
    if unknown := sorted(set(judge.hears) - set(block_slices())):
        return f"it hears {', '.join(unknown)}, and there are {', '.join(block_slices())}"
    arrays = [judge.mean, judge.scale, *(array for layer in judge.layers for array in layer)]
    if not all(np.issubdtype(one.dtype, np.floating) and np.isfinite(one).all() for one in arrays):
        return "some of its numbers are not finite"
    width = len(judge.mean) if judge.mean.ndim == 1 else -1
    if judge.scale.shape != (width,) or not (judge.scale > 0).all():
        return (
            f"its scale has the shape {judge.scale.shape} for {judge.mean.shape} features, or is not above 0"
        )
    for weight, bias in judge.layers:
        if weight.ndim != 2 or len(weight) != width or bias.shape != weight.shape[1:]:
            return f"a layer of {weight.shape} and {bias.shape} numbers follows one of {width}"
        width = weight.shape[1]
    return "" if width == len(judge.classes) else f"{width} outputs stand for {len(judge.classes)} classes"


def load_judge(target: str = "genre") -> Judge:
    """Return a judge that ships with the repository (``data/embedded/judge``)."""
    return Judge.load(builtin_path("data", "embedded", "judge"), target)


# Two opinions on tempo: what a tempo judge expects, and librosa's beat estimate, which knows no judge.


LOWEST_BPM, HIGHEST_BPM = 60.0, 150.0


def librosa_tempo(clip: Clip) -> float:
    """Return librosa's tempo of a clip in beats a minute, folded by octaves into 60 to 150.

    The fold forgives the classic mistake of counting half or double beats; where both 60 to 75 and its double
    fit, librosa's own prior (around 120) has chosen. A clip without onsets gives 0.
    """
    from librosa.feature import tempo
    from librosa.onset import onset_strength

    strength = onset_strength(y=clip.samples, sr=clip.rate_hz)
    if not float(np.ptp(strength)):
        return 0.0
    return fold_octaves(float(np.ravel(tempo(onset_envelope=strength, sr=clip.rate_hz))[0]))


def fold_octaves(bpm: float) -> float:
    """Return a tempo doubled or halved until it lies between 60 and 150 beats a minute."""
    if not np.isfinite(bpm) or bpm <= 0:
        raise EvidenceError(
            "A tempo was to be folded", f"it is {bpm:g} beats a minute", "Pass a positive tempo"
        )
    while bpm < LOWEST_BPM:
        bpm *= 2
    while bpm > HIGHEST_BPM:
        bpm /= 2
    return bpm


def expected_bpm(judge: Judge, clips: Sequence[Clip], bpm: Mapping[str, float] | None = None) -> np.ndarray:
    """Return the tempo (clips,) that a judge expects: its classes' beats a minute, weighted by probability.

    Args:
        judge: a judge whose classes are tempi.
        clips: what it is to hear.
        bpm: beats a minute of each class; by default what the judge's card says.
    """
    table = judge.card.get("bpm") if bpm is None else bpm
    if not isinstance(table, Mapping) or set(judge.classes) - set(table):
        raise EvidenceError(
            "A tempo in beats a minute was asked for",
            f"the judge of {judge.target} has no such figure for its classes {', '.join(judge.classes)}",
            "Use the judge of tempo, or pass bpm={class: beats a minute}",
        )
    return np.asarray(judge.probabilities(clips) @ np.array([float(table[c]) for c in judge.classes]))
