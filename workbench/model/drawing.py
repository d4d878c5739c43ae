"""Reading activations while codes are drawn: what captures from prompts and of continuations share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from workbench.activations import Activations
from workbench.activations.windows import window_times
from workbench.errors import ActivationsError, whole_number
from workbench.model.cost import drawn_cost, free_on_device
from workbench.model.musicgen import Model
from workbench.model.reading import Reading, reading_attrs
from workbench.model.sampling import Sampling
from workbench.model.sites import Place, live

OnCodes = Callable[[int, np.ndarray], None]
"""Called with a clip's number and its finished codes (k, frames), for those who want to hear it."""


@dataclass(frozen=True)
class Drawing:
    """How activations are read while a model draws codes.

    reading  what is read
    rows     "cond", "null" or "both" kinds of rows
    skipped  frames at the beginning that are left out of the result
    batch    clips drawn at once
    """

    reading: Reading
    rows: str = "cond"
    skipped: int = 0
    batch: int = 8
    progress: bool = True
    on_codes: OnCodes | None = None

    def capture(
        self,
        model: Model,
        begin: Callable[[slice], Sampling],
        clips: Mapping[str, np.ndarray],
        attrs: Mapping[str, Any],
    ) -> Activations:
        """The activations of all clips, in memory; where both rows are read, all cond rows come first.

        Args:
            model: The model.
            begin: Gives the run of some clips.
            clips: Coordinates (clips,), among them clip, group and text.
            attrs: What describes the run.

        Raises:
            ActivationsError: Where memory would not do.
            ModelError: For rows that this run has not.
            Cancelled: When a run's `cancel` was set.
        """
        whole_number(self.batch, "A batch of", ActivationsError, least=1)
        total, kinds = len(clips["clip"]), ("cond", "null") if self.rows == "both" else (self.rows,)
        parts: dict[str, list[dict[str, np.ndarray]]] = {kind: [] for kind in kinds}
        with tqdm(desc="Drawing", unit="clip", total=total, disable=not self.progress, leave=False) as bar:
            for start in range(0, total, self.batch):
                run = begin(slice(start, min(start + self.batch, total)))
                if start == 0:
                    self._check(model, run, total, kinds=len(kinds))
                read = read_while_sampling(model, run, self.reading, rows=self.rows, skipped=self.skipped)
                held = np.full(run.batch * len(kinds), run.frames - self.skipped)
                split = {site: self.reading.samples(values, held) for site, values in read.items()}
                for number, kind in enumerate(kinds):
                    own = slice(number * run.batch, (number + 1) * run.batch)
                    parts[kind].append({site: np.concatenate(rows[own]) for site, rows in split.items()})
                if self.on_codes is not None:
                    for row, codes in enumerate(run.codes.cpu().numpy()):
                        self.on_codes(start + row, codes)
                bar.update(run.batch)
        blocks = [part for kind in kinds for part in parts[kind]]
        return Activations.from_arrays(
            {site: np.concatenate([block[site] for block in blocks]) for site in self.reading.sites},
            layers=self.reading.layers,
            samples=self._samples(model, clips, kinds, run.frames),
            attrs={**attrs, **self._start(model), **reading_attrs(model, self.reading)},
            residual_norm=model.residual_norms()[list(self.reading.layers)],
        )

    def _check(self, model: Model, run: Sampling, clips: int, *, kinds: int) -> None:
        """Refuse, before anything is drawn, what memory cannot hold."""
        shape = {"clips": clips, "rows": kinds, "frames": run.frames, "batch": self.batch}
        cost = drawn_cost(model, self.reading, **shape, guided=run.guided)
        cost.check(free_device=free_on_device(model))

    def _samples(
        self, model: Model, clips: Mapping[str, np.ndarray], kinds: tuple[str, ...], frames: int
    ) -> dict[str, np.ndarray]:
        """The sample coordinates: a null row was told nothing, so its text is empty."""
        total = len(clips["clip"])
        samples = {name: np.tile(values, len(kinds)) for name, values in clips.items()}
        samples["row"] = np.repeat(kinds, total)
        samples["text"] = np.where(samples["row"] == "null", "", samples["text"])
        window = self.reading.window
        if window is None:
            return samples
        held = np.full(total * len(kinds), frames - self.skipped)
        start_s = self.skipped / model.frame_rate_hz
        counts = self.reading.counts(held)
        samples = {name: np.repeat(values, counts) for name, values in samples.items()}
        return samples | window_times(held, window, model.frame_rate_hz, start_s=start_s)

    def _start(self, model: Model) -> dict[str, float]:
        """When the first frame of the result sounds, unless that is at once."""
        return {"start_s": self.skipped / model.frame_rate_hz} if self.skipped else {}


def read_while_sampling(
    model: Model, run: Sampling, reading: Reading, *, rows: str = "cond", skipped: int = 0
) -> dict[str, np.ndarray]:
    """Activations (rows, layers, [frames,] d_model) fp32 by site, read while `run` draws its codes.

    Args:
        model: The model.
        run: What is drawn; its codes fill up. Given frames are read at its first visit.
        reading: What is read.
        rows: The rows that are read: "cond" (B), "null" (B) or "both" (2B, cond first).
        skipped: Frames at the beginning that are left out.
    """
    network, places, chosen = model.network, reading.places, run.rows(rows)
    seen: dict[Place, list[torch.Tensor]] = {place: [] for place in places}
    with model.exclusive(), network.sample(run) as tracer:
        for _visit in tracer.iter[: run.visits]:
            for place in places:
                seen[place].append(live(network, place)[chosen].clone())
    held = torch.full((chosen.stop - chosen.start,), run.frames - skipped, device=model.device)
    read: dict[Place, torch.Tensor] = {}
    begin = run.text.prefix + 1  # position 1 of the music is the first that has heard a frame
    for place in places:  # one after another: frames that are pooled make room for the next
        frames = torch.cat(seen.pop(place), dim=1)[:, begin + skipped : begin + run.frames]
        read[place] = reading.pooled(frames, held)
    return reading.stacked(read)
