"""Capture while generating: what the decoder's rows held, step by step, unsteered."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from workbench.activations import Activations
from workbench.activations.activations import window_times
from workbench.errors import ActivationsError, number_or_nan, whole_number
from workbench.model.capture_plan import drawn_cost, free_on_device
from workbench.model.musicgen import Model
from workbench.model.network import Place, live
from workbench.model.sampling import Sampling, frames_for
from workbench.model.teacher_forcing import Reading, codes_for, codes_match_codec, reading_attrs, reading_of
from workbench.sound.dataset import Dataset, Entry

# Reading activations while codes are drawn: what captures from prompts and of continuations share.


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


def capture_generated(
    model: Model,
    prompts: Sequence[str],
    *,
    seeds: Sequence[int],
    seconds: float = 5.0,
    sites: Sequence[str] = ("resid_post",),
    layers: Sequence[int] | None = None,
    pool: str | None = "mean",
    window: float | None = None,
    rows: str = "cond",
    guidance: float | None = None,
    labels: Mapping[str, Sequence[str]] | None = None,
    batch: int = 8,
    progress: bool = True,
    cancel: threading.Event | None = None,
    on_codes: OnCodes | None = None,
) -> Activations:
    """Activations of unsteered generations, one sample per prompt and seed, in memory.

    prompts  one per clip; the prompt is also the clip's group
    seeds    as many
    seconds  length of each generation
    sites, layers, pool, window  as in `capture`; frame t is what step t + 1 held
    rows     "cond", "null" (the rows of guidance without text), or "both": first all cond, then all null
    guidance classifier-free guidance, by default the checkpoint's; null rows exist above 1 only
    labels   values per clip by target, for example the genre that each prompt names
    batch    clips drawn at once
    cancel   set it (from any thread) to stop before the next step
    on_codes called with each clip's number and codes (k, frames)

    Raises ActivationsError when there are no prompts, or not as many seeds, and where memory would not do;
    ModelError for a layer, site, pool or row that does not exist; Cancelled.
    """
    if not prompts or len(prompts) != len(seeds):
        raise ActivationsError(
            f"Generations of {len(prompts)} prompts with {len(seeds)} seeds were asked for",
            "each needs one of both",
            "Give equally long lists",
        )
    reading = reading_of(model, sites=sites, layers=layers, pool=pool, window=window)
    frames = model.frames_for(seconds)
    guidance = model.guidance if guidance is None else guidance

    def begin(some: slice) -> Sampling:
        settings: dict[str, Any] = {"guidance": guidance, **model.draws, "cancel": cancel}
        return model.sampling(prompts[some], seeds=seeds[some], frames=frames, **settings)

    clips = {
        "clip": np.array([f"{prompt} (seed {seed})" for prompt, seed in zip(prompts, seeds, strict=True)]),
        "group": np.array(prompts),
        "text": np.array(prompts),
        "source": np.full(len(prompts), "generated"),
        **{f"label_{target}": np.asarray(values) for target, values in (labels or {}).items()},
    }
    drawing = Drawing(reading, rows, batch=batch, progress=progress, on_codes=on_codes)
    return drawing.capture(model, begin, clips, {"guidance": guidance, "seconds": seconds})


# Continuation: the first seconds of a clip are given as codes, and the model goes on from there.
#
# `begin_continuation` makes the run; whoever draws it (capture here, steering elsewhere) visits the decoder
# `run.visits` times, and what is drawn at visit v is step v + run.given_frames.


PARTS = ("new", "all")


def begin_continuation(
    model: Model,
    codes: Sequence[np.ndarray],
    prompts: Sequence[str],
    *,
    seeds: Sequence[int],
    frames: int,
    **settings: Any,
) -> Sampling:
    """A run that goes on from `codes`, as in `model.sampling`.

    Args:
        model: The model.
        codes: One array (k, given frames) per clip, equally long.
        prompts: As many texts.
        seeds: As many.
        frames: Length of the whole, given frames included.
        settings: Those of Sampling: guidance, temperature, top_k, on_step, cancel.

    Raises:
        ModelError: When nothing would be left to be drawn.
    """
    given = torch.tensor(np.stack(codes), dtype=torch.long, device=model.device)
    return model.sampling(prompts, seeds=seeds, frames=frames, given=given, **settings)


def capture_continued(
    model: Model,
    dataset: Dataset,
    prompts: str | Sequence[str],
    *,
    heard: float = 2.0,
    seconds: float = 3.0,
    part: str = "new",
    seeds: Sequence[int] | None = None,
    sites: Sequence[str] = ("resid_post",),
    layers: Sequence[int] | None = None,
    pool: str | None = "mean",
    window: float | None = None,
    rows: str = "cond",
    guidance: float | None = None,
    batch: int = 8,
    progress: bool = True,
    cancel: threading.Event | None = None,
    on_codes: OnCodes | None = None,
) -> Activations:
    """Activations while the model continues each clip of `dataset`, unsteered, in memory.

    prompts  one text, or one per clip
    heard    seconds of each clip that are given
    seconds  how long the model goes on
    part     "new" reads the frames that the model made, "all" the given ones too
    seeds    one per clip; 0, 1, 2 ... when None
    sites, layers, pool, window  as in `capture`; windows start with the part that is read, and start_s counts
             from the beginning of the clip
    rows, guidance, batch, progress, cancel, on_codes  as in `capture_generated`; codes hold the whole

    Groups and labels are those of the clips. Raises ActivationsError for a clip that is silent or shorter
    than `heard`, for lists that do not match, and where memory would not do; ModelError and Cancelled as
    `capture_generated` does; GenerationError when the whole does not fit the model's window.
    """
    texts = (prompts,) * len(dataset) if isinstance(prompts, str) else tuple(prompts)
    seeds = tuple(range(len(dataset))) if seeds is None else tuple(seeds)
    _check(dataset, texts, seeds, part)
    reading = reading_of(model, sites=sites, layers=layers, pool=pool, window=window)
    heard, seconds = number_or_nan(heard), number_or_nan(seconds)
    model.frames_for(heard)  # each is refused by itself before both are added
    model.frames_for(seconds)
    given, frames = frames_for(heard, model.frame_rate_hz), model.frames_for(heard + seconds)
    codes = _openings(model, dataset, heard, given)
    guidance = model.guidance if guidance is None else guidance

    def begin(some: slice) -> Sampling:
        settings = {"guidance": guidance, **model.draws, "cancel": cancel}
        return begin_continuation(
            model, codes[some], texts[some], seeds=seeds[some], frames=frames, **settings
        )

    clips = {"clip": dataset.ids, "group": dataset.groups, "text": np.array(texts)}
    clips |= {f"label_{target}": dataset.labels(target) for target in dataset.targets}
    clips["source"] = np.full(len(dataset), "continued")
    attrs = {"guidance": guidance, "seconds": seconds, "heard_s": heard, "part": part}
    attrs |= {"dataset": dataset.name, "dataset_fingerprint": dataset.fingerprint}
    skipped = given if part == "new" else 0
    drawing = Drawing(reading, rows, skipped, batch=batch, progress=progress, on_codes=on_codes)
    return drawing.capture(model, begin, clips, attrs)


def _openings(model: Model, dataset: Dataset, heard: float, given: int) -> list[np.ndarray]:
    """The first `given` frames of each clip's codes."""
    stored = codes_match_codec(model, dataset)
    codes = [codes_for(model, dataset, entry, seconds=heard, stored=stored) for entry in dataset.entries]
    for entry, array in zip(dataset.entries, codes, strict=True):
        if array.shape[-1] < given:
            _refuse_short(entry, array.shape[-1] / model.frame_rate_hz, heard)
    return [array[:, :given] for array in codes]


def _refuse_short(entry: Entry, held_s: float, heard: float) -> None:
    raise ActivationsError(
        f"A continuation of the first {heard:g} s of the clip {entry.id!r} was asked for",
        f"it lasts {held_s:.1f} s",
        "Give less of each clip (heard=...), or leave this one out",
    )


def _check(dataset: Dataset, texts: Sequence[str], seeds: Sequence[int], part: str) -> None:
    if not len(texts) == len(seeds) == len(dataset):
        raise ActivationsError(
            f"Continuations with {len(texts)} prompts and {len(seeds)} seeds were asked for",
            f"the dataset has {len(dataset)} clips",
            "Give one prompt or one per clip, and one seed per clip",
        )
    if part not in PARTS:
        raise ActivationsError(
            f"The part {part!r} was asked for", f"there are {', '.join(PARTS)}", "Use one of these"
        )
