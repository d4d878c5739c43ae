"""The cases of a capture: which clip is read under which text, and what each case is called in the result.

A plain capture has one case per clip. Both rows, or several text conditions, make several cases of a clip;
windows make several samples of a case.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from workbench.activations import StoreSpec
from workbench.activations.windows import window_times
from workbench.errors import ActivationsError, ModelError
from workbench.model.chunks import Job
from workbench.model.reading import reading_attrs
from workbench.sound.dataset import Dataset

if TYPE_CHECKING:
    from workbench.model.musicgen import Model

ROWS = ("cond", "null", "both")
_CHUNK_BYTES = 128 << 20  # of a chunk of windows at one site


@dataclass(frozen=True, eq=False)
class Cases:
    """What is read, in order: clips by position (cases,), the text of each, and further coordinates (cases,).

    A text of None is the null condition of guidance.
    """

    entries: np.ndarray
    texts: tuple[str | None, ...]
    more: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.texts)

    def labels(self, dataset: Dataset) -> dict[str, np.ndarray]:
        """Coordinates of each case (cases,): clip, group, labels, text, row, source and the further ones."""
        found: dict[str, np.ndarray] = {"clip": dataset.ids, "group": dataset.groups}
        found |= {f"label_{target}": dataset.labels(target) for target in dataset.targets}
        found = {name: values[self.entries] for name, values in found.items()}
        found["text"] = np.array([text or "" for text in self.texts])
        found["row"] = np.array(["null" if text is None else "cond" for text in self.texts])
        found["source"] = np.full(len(self), "teacher-forced")
        return {**found, **self.more}


def cases_for(dataset: Dataset, text: str | Sequence[str] | None, rows: str) -> Cases:
    """One case per clip, or with both rows two: first all clips under their text, then all without one.

    Raises:
        ModelError: For rows that do not exist, and for both rows without a text.
        ActivationsError: When there are not as many texts as clips.
    """
    if rows not in ROWS or (rows == "both" and text is None):
        raise ModelError(
            f"The rows {rows!r} were asked for",
            f"there are {', '.join(ROWS)}, and without a text every row is a null row",
            "Use one of these, and give a text where both are wanted",
        )
    texts = [_texts(dataset, text)] if rows != "null" else []
    if rows != "cond":
        texts.append((None,) * len(dataset))
    entries = np.tile(np.arange(len(dataset)), len(texts))
    return Cases(entries, tuple(one for block in texts for one in block))


def _texts(dataset: Dataset, text: str | Sequence[str] | None) -> tuple[str | None, ...]:
    """The text of each clip, None for the null condition."""
    if text is None or isinstance(text, str):
        return (text,) * len(dataset)
    if len(text) != len(dataset):
        raise ActivationsError(
            f"{len(text)} texts were given",
            f"the dataset has {len(dataset)} clips",
            "Give one text, or one per clip",
        )
    return tuple(text)


def spec_for(
    model: Model, dataset: Dataset, cases: Cases, job: Job, *, held: np.ndarray | None, clips_per_chunk: int
) -> StoreSpec:
    """The shape and the labels of what a capture gives, without the residual norms.

    Args:
        model: The model.
        dataset: The clips.
        cases: What is read.
        job: How it is read.
        held: Frames of each clip (clips,); needed where frames are kept or windows are cut.
        clips_per_chunk: How many cases are written at once, unless they are large.
    """
    reading, samples, frames, chunk = job.reading, cases.labels(dataset), None, clips_per_chunk
    if reading.window is not None and held is not None:
        own = held[cases.entries]
        counts = reading.counts(own)
        samples = {name: np.repeat(values, counts) for name, values in samples.items()}
        samples |= window_times(own, reading.window, model.frame_rate_hz)
        most = int(counts.max())
        fitting = _CHUNK_BYTES // (most * len(reading.layers) * model.d_model * 4)
        chunk = most * max(1, min(clips_per_chunk, fitting))
    elif reading.pool is None and held is not None:
        samples["frames_held"], frames = held[cases.entries], int(held.max())
    attrs = {
        "dataset": dataset.name,
        "dataset_fingerprint": dataset.fingerprint,
        "seconds": job.seconds,
        **reading_attrs(model, reading),
    }
    return StoreSpec(
        sites=reading.sites,
        layers=reading.layers,
        d_model=model.d_model,
        samples=samples,
        frames=frames,
        attrs=attrs,
        samples_per_chunk=chunk if frames is None else None,
    )
