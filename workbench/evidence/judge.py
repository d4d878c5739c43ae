"""Judges: classifiers that only ever hear the audio, so that what a probe made is never marked by the probe.

A judge is any object with `classes`, `rate_hz` and `probabilities(clips)`; `register_judge` gives it a name,
and wherever a judge is accepted its name is, too. `TrainedJudge` is the kind that ships: a small network on
audio features. Judges from the hub and panels (`judges_hub`) have names that begin with their kind.
"""

from __future__ import annotations

import json
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeGuard

import numpy as np
from scipy.special import softmax

from workbench.errors import EvidenceError, is_text, reason, warn_renamed
from workbench.evidence.features import RATE_HZ, VERSION, block_slices, features
from workbench.files import DIGEST, builtin_path, check_digest, digest_of, file_in, write_together
from workbench.sound import Clip

FOLDER = builtin_path("data", "embedded", "judge")


class _Moved(type(Protocol)):  # type: ignore[misc]  # typing does not name the metaclass of protocols
    """Keeps `Judge.load` of the version before for one release."""

    def __getattr__(cls, name: str) -> Any:
        if name == "load" and cls is Judge:
            warn_renamed("Judge.load", "TrainedJudge.load")
            return TrainedJudge.load
        raise AttributeError(f"{cls.__name__} has no {name!r}")


@typing.runtime_checkable
class Judge(Protocol, metaclass=_Moved):
    """What hears clips and says how probable each class is."""

    @property
    def classes(self) -> tuple[str, ...]:
        """What it tells apart, in the order of its probabilities."""

    @property
    def rate_hz(self) -> int:
        """The sample rate at which it listens; the judge resamples clips of other rates."""

    def probabilities(self, clips: Sequence[Clip]) -> np.ndarray:
        """Return the probability of each class for each clip `(clips, classes)`; each row sums to 1."""


_REGISTERED: dict[str, Any] = {}
KINDS = ("clap", "ast", "maest", "panel")
"""What the names of judges from the hub and of panels begin with."""


def register_judge(name: str, judge: Judge | Callable[[], Judge]) -> None:
    """Give a judge, or a function that makes it when it is first needed, a name for `load_judge`.

    A judge that already has this name, also one that ships, is replaced. EvidenceError where it is neither.

    >>> class Peak:
    ...     classes, rate_hz = ("loud", "soft"), 16_000
    ...     def probabilities(self, clips):
    ...         return np.array([[clip.peak, 1 - clip.peak] for clip in clips])
    >>> register_judge("peak", Peak)
    >>> load_judge("peak").classes
    ('loud', 'soft')
    """
    if not (_is_judge(judge) or callable(judge)):
        found = f"{type(judge).__name__} lacks one of classes, rate_hz, probabilities"
        raise EvidenceError(f"A judge {name!r} was to be registered", found, "Give all three")
    _REGISTERED[name] = judge


def load_judge(target: str = "genre", folder: Path | str | None = None) -> Judge:
    """Return the judge of this name that lies in a folder, by default a registered one, then one that ships.

    Judges that ship are called by what they tell apart: genre, tempo, mode ... "clap", "ast" and "maest" come
    from the hub, "clap:FOLDER" from a folder, and "panel:genre,clap,ast" asks several. EvidenceError where
    there is none of this name (a KeyError too), or what was registered makes no judge.
    """
    kind, _, source = target.partition(":")
    if folder is None and target not in _REGISTERED and kind in KINDS:
        _REGISTERED[target] = _of_kind(kind, source)
    if folder is not None or target not in _REGISTERED:
        return TrainedJudge.load(FOLDER if folder is None else folder, target)
    judge = _REGISTERED[target]
    judge = judge if _is_judge(judge) else judge()
    if not _is_judge(judge):
        found = f"what was registered gave {type(judge).__name__}"
        do = "Return an object with classes, rate_hz and probabilities"
        raise EvidenceError(f"The judge {target!r} was asked for", found, do)
    _REGISTERED[target] = judge
    return judge


def _of_kind(kind: str, source: str) -> Judge:
    from workbench.evidence.judges_hub import MAKERS, Panel

    if kind == "panel":
        return Panel(as_judges([name.strip() for name in source.split(",") if name.strip()]))
    return MAKERS[kind](source) if source else MAKERS[kind]()


def _is_judge(one: object) -> TypeGuard[Judge]:
    return isinstance(one, Judge) and not isinstance(one, type)


Judges = Judge | str | Sequence[Judge | str] | Mapping[str, Judge | str]
"""One judge or several, each as it is or by its name; a mapping says what the columns are called."""


def as_judges(judges: Judges) -> dict[str, Judge]:
    """Return judges by name: their key, the name (or kind) they were asked by, their target, or "judge".

    Names that come again get a number behind.

    >>> list(as_judges(["genre", "tempo", "genre"]))
    ['genre', 'tempo', 'genre (2)']
    """
    if isinstance(judges, Mapping):
        return {name: load_judge(one) if isinstance(one, str) else one for name, one in judges.items()}
    alone = isinstance(judges, str) or not isinstance(judges, Sequence)
    listed: list[Any] = [judges] if alone else list(judges)  # type: ignore[arg-type]
    found: dict[str, Judge | str] = {}
    for one in listed:
        name = one if isinstance(one, str) else str(getattr(one, "target", "judge"))
        name = kind if (kind := name.partition(":")[0]) in KINDS else name
        again = sum(other == name or other.startswith(f"{name} (") for other in found)
        found[f"{name} ({again + 1})" if again else name] = one
    return as_judges(found)


def first_to_know(judges: Mapping[str, Judge]) -> dict[str, str]:
    """Return, for each class, the name of the first judge that knows it."""
    every = [(class_, name) for name, judge in judges.items() for class_ in judge.classes]
    return dict(reversed(every))


@dataclass(frozen=True)
class TrainedJudge:
    """A small neural network on audio features that tells the label `target`.

    Mean and scale `(n,)` standardise the features of the blocks that it `hears`. Layers: weights `(inputs,
    outputs)` and biases `(outputs,)`, with ReLU between them; `card` says how it was made and how good it is.
    """

    target: str
    classes: tuple[str, ...]
    mean: np.ndarray
    scale: np.ndarray
    layers: tuple[tuple[np.ndarray, np.ndarray], ...]
    card: dict[str, object]
    hears: tuple[str, ...]
    rate_hz: ClassVar[int] = RATE_HZ

    def __post_init__(self) -> None:
        if problem := _problem(self):
            asked = f"A judge of {self.target!r} was asked for"
            raise EvidenceError(asked, problem, "Fit it again (make embedded)")

    @cached_property
    def fingerprint(self) -> str:
        """A digest of its name, classes and weights."""
        arrays = {f"{i} {part}": one for i, layer in enumerate(self.layers) for part, one in enumerate(layer)}
        about = {"target": self.target, "classes": self.classes, "hears": self.hears, "features": VERSION}
        return digest_of(about, arrays | {"mean": self.mean, "scale": self.scale})

    def probabilities(self, clips: Sequence[Clip]) -> np.ndarray:
        """Return class probabilities `(clips, classes)`; EvidenceError where there are no clips."""
        if not clips:
            raise EvidenceError("A judgement was asked for", "there are no clips", "Pass at least one clip")
        return self.probabilities_of(np.stack([features(clip) for clip in clips]))

    def probabilities_of(self, vectors: np.ndarray) -> np.ndarray:
        """Return class probabilities `(clips, classes)` of what `features` returns for each clip."""
        weight, bias = self.layers[-1]
        return np.asarray(softmax(self._hidden(vectors) @ weight + bias, axis=1))

    def embed(self, clips: Sequence[Clip]) -> np.ndarray:
        """Return what the last layer reads of each clip `(clips, width)`."""
        return self._hidden(np.stack([features(clip) for clip in clips]))

    def _hidden(self, vectors: np.ndarray) -> np.ndarray:
        slices = block_slices()
        whole = max(part.stop for part in slices.values())
        own = sum(slices[name].stop - slices[name].start for name in self.hears)
        if vectors.shape[-1] != whole or own != len(self.mean):
            found = f"it takes {len(self.mean)} features of {', '.join(self.hears)} ({own} of {whole})"
            found += f", and got vectors of {vectors.shape[-1]}"
            do = "Pass what features() returns, or fit the judge again with this version"
            raise EvidenceError(f"The judge of {self.target} was asked", found, do)
        heard = np.concatenate([vectors[..., slices[name]] for name in self.hears], axis=-1)
        hidden = np.clip((heard - self.mean) / self.scale, -6, 6)
        for weight, bias in self.layers[:-1]:
            hidden = np.maximum(hidden @ weight + bias, 0.0)
        return np.asarray(hidden)

    def decide(self, clips: Sequence[Clip]) -> list[str]:
        """Return the most probable class of each clip."""
        return [self.classes[i] for i in self.probabilities(clips).argmax(axis=1)]

    def save(self, folder: Path | str) -> Path:
        """Write `<target>.safetensors` and `<target>.json` into a folder, both or none, and return it."""
        from safetensors.numpy import save

        tensors = {"mean": _smallest(self.mean), "scale": _smallest(self.scale)}
        for i, (weight, bias) in enumerate(self.layers):
            tensors |= {f"weight_{i}": _smallest(weight), f"bias_{i}": _smallest(bias)}
        about = {"target": self.target, "features": VERSION, "hears": self.hears, "classes": self.classes,
                 "layers": len(self.layers), "card": self.card}  # fmt: skip
        text = json.dumps({**about, DIGEST: digest_of(about, tensors)}, indent=2) + "\n"
        files = {f"{self.target}.safetensors": save(tensors), f"{self.target}.json": text.encode()}
        return write_together(folder, files)

    @classmethod
    def load(cls, folder: Path | str, target: str = "genre") -> TrainedJudge:
        """Return a judge that `save` wrote; EvidenceError where it is missing, damaged or outdated."""
        from safetensors.numpy import load_file

        path, asked = file_in(folder, f"{target}.json"), f"A judge of {target} was asked for"
        if not path.exists():
            names = sorted(path.stem for path in Path(folder).glob("*.json"))
            found = f"{folder} holds: {', '.join(names) or 'none'}"
            if _REGISTERED:
                found += f"; registered are: {', '.join(_REGISTERED)}"
            raise EvidenceError.lookup(asked, found, "Choose one of these")
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
            found = f"{path} and the .safetensors beside it cannot be read ({reason(error)})"
            raise EvidenceError(asked, found, "Use a folder that TrainedJudge.save wrote") from error
        found = f"that in {folder} was fitted to features {fitted}, and the features are now {VERSION}"
        raise EvidenceError(asked, found, "Fit it again (make embedded), or use the version that made it")


def _smallest(numbers: np.ndarray) -> np.ndarray:
    """Return numbers in half precision where nothing is lost by it, else in single precision."""
    single = np.ascontiguousarray(numbers, np.float32)
    with np.errstate(over="ignore"):
        half = single.astype(np.float16)
    return half if np.array_equal(half.astype(np.float32), single) else single


def _problem(judge: TrainedJudge) -> str:
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
        return f"its scale has the shape {judge.scale.shape}, not {judge.mean.shape}, or is not above 0"
    for weight, bias in judge.layers:
        if weight.ndim != 2 or len(weight) != width or bias.shape != weight.shape[1:]:
            return f"a layer of {weight.shape} and {bias.shape} numbers follows one of {width}"
        width = weight.shape[1]
    return "" if width == len(judge.classes) else f"{width} outputs stand for {len(judge.classes)} classes"
