"""Judges: classifiers that hear sound only, so that what a probe made is never marked by the probe."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from workbench.errors import EvidenceError
from workbench.evidence.features import VERSION, block_slices, features
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
        """Write ``<target>.safetensors`` and ``<target>.json`` into a folder and return it."""
        from safetensors.numpy import save_file

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {"mean": self.mean, "scale": self.scale}
        for i, (weight, bias) in enumerate(self.layers):
            tensors |= {f"weight_{i}": weight, f"bias_{i}": bias}
        save_file(
            {k: np.ascontiguousarray(v, np.float32) for k, v in tensors.items()},
            folder / f"{self.target}.safetensors",
        )
        about = {
            "target": self.target,
            "features": VERSION,
            "hears": self.hears,
            "classes": self.classes,
            "layers": len(self.layers),
            "card": self.card,
        }
        (folder / f"{self.target}.json").write_text(json.dumps(about, indent=2) + "\n")
        return folder

    @classmethod
    def load(cls, folder: Path | str, target: str = "genre") -> Judge:
        """Return a judge written by ``save``."""
        from safetensors.numpy import load_file

        path = Path(folder) / f"{target}.json"
        if not path.exists():
            held = ", ".join(sorted(p.stem for p in Path(folder).glob("*.json"))) or "none"
            raise EvidenceError(
                f"A judge of {target} was asked for", f"{folder} holds: {held}", "Choose one of these"
            )
        about = json.loads(path.read_text())
        if about.get("features") != VERSION:
            raise EvidenceError(
                f"A judge of {target} was asked for",
                f"it was fitted to features {about.get('features', 'of an older version')}, "
                f"and the features are now {VERSION}",
                "Fit it again (workbench build-embedded), or use the version that made it",
            )
        tensors = load_file(path.with_suffix(".safetensors"))
        layers = tuple((tensors[f"weight_{i}"], tensors[f"bias_{i}"]) for i in range(about["layers"]))
        standard = (tensors["mean"], tensors["scale"])
        return cls(target, tuple(about["classes"]), *standard, layers, about["card"], tuple(about["hears"]))


def load_judge(target: str = "genre") -> Judge:
    """Return a judge that ships with the repository (``data/embedded/judge``)."""
    return Judge.load(Path(__file__).parents[2] / "data" / "embedded" / "judge", target)
