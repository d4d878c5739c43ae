"""Trials: clips that are made to be compared, and the one runner that makes and judges them.

`trials`, `dose_trials` and `random_trials` list what is to be made, `run_trials` returns a table with a row
per clip in which nothing is averaged away, and `hit_rates` and `pair_with_baseline` read it.
"""

from __future__ import annotations

import json
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from workbench.errors import EvidenceError, warn_renamed
from workbench.evidence.damage import damage, likelihood
from workbench.evidence.judge import Judge, Judges, as_judges, first_to_know
from workbench.files import DIGEST, digest_of, disk_errors
from workbench.generation.engine import OnFrame
from workbench.generation.generate import generate
from workbench.generation.take import Take
from workbench.model.capture import on_workers
from workbench.model.musicgen import NEUTRAL_PROMPTS, Model
from workbench.stats import wilson
from workbench.steering import Direction, Steering, random_direction

UNSTEERED = "unsteered"
"""The method of a baseline: the clip of the same prompt and seed that is not steered."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """One clip to make and judge: a hit when the first judge that knows the aim hears it.

    It may go on from `prompt_codes` (k, frames), no part of equality; `columns` are plain values for its row.
    """

    prompt: str
    seed: int
    plan: Steering | None = None  # None leaves the model alone
    method: str = UNSTEERED  # name of the condition, for example "probe" or "random"
    aim: str | None = None  # the class that is steered to
    prompt_codes: np.ndarray | None = field(default=None, compare=False, repr=False)
    columns: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        plain = [value.item() if isinstance(value, np.generic) else value for value in self.columns.values()]
        object.__setattr__(self, "columns", dict(zip(self.columns, plain, strict=True)))
        object.__setattr__(self, "seed", int(self.seed))


OnRow = Callable[[Trial, Take, Row], object]
PromptSeeds = pd.DataFrame | Sequence["Trial | tuple[str, int]"]
"""(prompt, seed) pairs: as they are, those of trials, or those of a table's rows."""


class RunOptions(TypedDict, total=False):
    """The keywords of `run_trials`, which every function that runs trials passes on to it."""

    seconds: float
    guidance: float | None
    likely: bool
    batch: int
    path: Path | str | None
    client: Any
    progress: bool
    on_row: OnRow | None
    on_frame: OnFrame | None
    cancel: threading.Event | None
    chosen_on: PromptSeeds | None
    measure: Callable[[Take], Mapping[str, Any]] | None


def refuse_chosen(chosen_on: PromptSeeds, reported: PromptSeeds) -> None:
    """Raise EvidenceError where something would be reported on (prompt, seed) pairs that chose it.

    >>> refuse_chosen([("a tune", 1)], [("a tune", 2), ("a song", 1)])
    """

    def pairs(given: PromptSeeds) -> set[tuple[str, int]]:
        if isinstance(given, pd.DataFrame):
            return {(str(prompt), int(seed)) for prompt, seed in given[["prompt", "seed"]].to_numpy()}
        return {(one.prompt, one.seed) if isinstance(one, Trial) else (one[0], int(one[1])) for one in given}

    asked = pairs(reported)
    if shared := sorted(asked & pairs(chosen_on)):
        some = ", ".join(f"{prompt!r} with seed {seed}" for prompt, seed in shared[:3])
        found = f"{len(shared)} of {len(asked)} pairs of prompt and seed have chosen what is reported: {some}"
        raise EvidenceError("A result was to be reported", found, "Report on other prompts or seeds")


def pair_prompts(prompts: Sequence[str], seeds: Sequence[int]) -> list[tuple[str, int]]:
    """Return (prompt, seed) for each seed, prompts taken in turn: what all plans of a comparison share.

    >>> pair_prompts(["a tune", "a song"], [4, 5, 6])
    [('a tune', 4), ('a song', 5), ('a tune', 6)]
    """
    if not prompts or not seeds:
        found = f"there are {len(prompts)} prompts and {len(seeds)} seeds"
        raise EvidenceError("A comparison of plans was asked for", found, "Give at least one of each")
    return [(prompts[i % len(prompts)], seed) for i, seed in enumerate(seeds)]


def trials(plans: Mapping[str, Steering | None], prompts: Sequence[str], seeds: Sequence[int]) -> list[Trial]:
    """Return a trial of every plan, by name, on the same prompts and seeds, the baselines first.

    EvidenceError where there is no prompt or no seed, or a plan has the name of the baselines.
    """
    if UNSTEERED in plans:
        found = f"{UNSTEERED!r} is the name of the baselines, which are always made"
        raise EvidenceError("A plan of this name was to be compared", found, "Name it otherwise")
    pairs, every = pair_prompts(prompts, seeds), {UNSTEERED: None, **plans}
    return [Trial(*pair, plan, name) for name, plan in every.items() for pair in pairs]


PerAim = Sequence[Any] | Mapping[str, Sequence[Any]]  # the same for all aims, or for each its own


def of_aim(given: PerAim, aim: str) -> Sequence[Any]:
    """Return what is given for an aim."""
    return given[aim] if isinstance(given, Mapping) else given


def dose_trials(
    directions: Mapping[str, Direction],
    doses: PerAim,
    prompts: PerAim,
    seeds: Sequence[int],
    *,
    method: str = "probe",
    branch: str = "cond",
) -> list[Trial]:
    """Return a trial per direction, dose and seed, with layer and dose as columns.

    Directions are given by aim, a class of the judge; doses are multiples of the layer's mean residual norm,
    prompts taken in turn. The branch is the half of guidance that is steered: "cond", "null" or "both".
    """
    return [
        Trial(*pair, plan, method, aim, columns={"layer": direction.layer, "dose": dose})
        for aim, direction in directions.items()
        for dose in of_aim(doses, aim)
        for plan in [direction.at(dose, branch=branch)]
        for pair in pair_prompts(of_aim(prompts, aim), seeds)
    ]


def random_trials(
    directions: Mapping[str, Direction],
    doses: PerAim,
    prompts: PerAim,
    seeds: Sequence[int],
    *,
    count: int,
    branch: str = "cond",
) -> list[Trial]:
    """Return controls as `dose_trials` does: for each aim `count` random directions of its layer and norm."""
    return [
        trial
        for i, (aim, direction) in enumerate(directions.items())
        for k in range(count)
        for other in [random_direction(direction, seed=1000 * i + k)]
        for trial in dose_trials({aim: other}, doses, prompts, seeds, method="random", branch=branch)
    ]


def make_takes(model: Model, trials: Sequence[Trial], **options: Any) -> list[Take]:
    """Return the take of each trial, drawn in batches; options as for `generate`."""
    return generate(
        model, [trial.prompt for trial in trials], steering=[trial.plan for trial in trials],
        seed=[trial.seed for trial in trials], audio=[trial.prompt_codes for trial in trials], **options,
    )  # fmt: skip


@dataclass(frozen=True)
class _Settings:
    """What makes the row of a trial, beside model and trial."""

    judges: Mapping[str, Judge]
    seconds: float
    guidance: float | None
    likely: bool
    measure: Callable[[Take], Mapping[str, Any]] | None = None

    def check(self, some: Sequence[Trial], chosen_on: PromptSeeds | None) -> None:
        """Raise EvidenceError where trials cannot be run, or not be reported on."""
        known = first_to_know(self.judges)
        strange = sorted({one.aim for one in some if one.aim is not None} - set(known))
        if strange or not some:
            found = f"no judge knows {', '.join(strange)}; they hear {', '.join(known) or 'nothing'}"
            do = "Give at least one trial, and aim at what judges hear"
            raise EvidenceError("Trials were to be run", found if some else "there are none", do)
        if chosen_on is not None:
            refuse_chosen(chosen_on, some)

    def keys(self, model: Model, some: Sequence[Trial]) -> list[str]:
        """Return a digest of everything that each row depends on."""
        about = {
            "model": model.fingerprint, **model.draws, "seconds": self.seconds, "likely": self.likely,
            "guidance": model.guidance if self.guidance is None else self.guidance,
            "judges": {name: [getattr(judge, "fingerprint", type(judge).__qualname__), *judge.classes]
                       for name, judge in self.judges.items()},
        }  # fmt: skip
        if self.measure is not None:
            about["measure"] = getattr(self.measure, "fingerprint", repr(self.measure))
        return [
            digest_of(
                {**about, "prompt": one.prompt, "seed": one.seed, "method": one.method, "aim": one.aim,
                 "plan": one.plan.to_json() if one.plan else "", "columns": dict(one.columns)},
                {} if one.prompt_codes is None else {"codes": one.prompt_codes},
            )
            for one in some
        ]  # fmt: skip


def run_trials(
    model: Model,
    trials: Sequence[Trial],
    judges: Judges,
    *,
    seconds: float = 5.0,
    guidance: float | None = None,
    likely: bool = True,
    batch: int = 32,
    path: Path | str | None = None,
    client: Any = None,
    progress: bool = True,
    on_row: OnRow | None = None,
    on_frame: OnFrame | None = None,
    cancel: threading.Event | None = None,
    chosen_on: PromptSeeds | None = None,
    measure: Callable[[Take], Mapping[str, Any]] | None = None,
) -> pd.DataFrame:
    """Make and judge the clips of trials; return a row per trial, in their order.

    First come the columns of the trial: method, aim, its own, prompt, seed. `ok` says whether every planned
    edit was carried out (the take's receipt), `hit` whether the judge hears the aim, and `p` how probable it
    finds it. Where a clip continues another, all is measured in the new part alone, and `p_given` is the
    probability of the aim in the part that was given. Then follow for each judge its verdict `judged_<name>`
    and its probabilities `p_<name>_<class>`, the guards of `damage`, and nll, nll_0 ... of `likelihood`.

    Args:
        model: the model.
        trials: the clips to make.
        judges: one or several, each as it is or by its name; a mapping names the columns.
        seconds: length of each clip.
        guidance: classifier-free guidance; by default what the checkpoint says.
        likely: whether the likelihood of the codes under the unsteered model is measured.
        batch: clips that are drawn at once, and kept at once.
        path: a JSONL file to which finished rows are appended; what it holds is not made again.
        client: a `dask.distributed.Client` whose workers make the batches (see `on_workers`).
        progress: whether to show progress bars and, after the first batch, how long all will take.
        on_row: called with each new trial, its take and its row.
        on_frame: as `generate` calls it; `ClipCount` makes clips of frames. Not with a client.
        cancel: set it to stop before the next step; with a client before the next batch is taken in.
        chosen_on: the clips on which something was chosen that is now reported: none of their (prompt, seed)
            pairs may come again.
        measure: what else is measured of a take, as columns of plain values or lists (`measure_take`).

    Raises:
        EvidenceError: there is no trial, no judge knows an aim, one is on a pair that has chosen, or workers
            could not load the model.
        DiskError: the file cannot be written.
        Cancelled: `cancel` was set; what was finished is kept where there is a path.
    """
    settings = _Settings(as_judges(judges), seconds, guidance, likely, measure)
    settings.check(trials, chosen_on)
    keys = [str(i) for i in range(len(trials))] if path is None else settings.keys(model, trials)
    rows = {} if path is None else _finished_rows(Path(path))
    keyed = list(zip(keys, trials, strict=True))
    whole = [keyed[start : start + batch] for start in range(0, len(keyed), batch)]
    missing = [[(key, one) for key, one in part if key not in rows] for part in whole]
    work = [part for part in missing if part]
    watch: Any = {"progress": progress, "on_frame": on_frame, "cancel": cancel, "batch": batch}
    results: Iterator[tuple[_Batch, _Result]] = (
        (part, _run_batch(model, part, settings, **watch)) for part in work
    )
    if client is not None:
        run = partial(_run_batch, settings=settings, with_takes=on_row is not None, progress=False)
        results = on_workers(client, model, run, work, error=EvidenceError, cancel=cancel)
    for part, (made, takes) in _timed(results, sum(map(len, work)), progress and len(work) > 1):
        fresh = dict(zip([key for key, _ in part], made, strict=True))
        if path is not None:
            _append_rows(Path(path), fresh)
        rows |= fresh
        if on_row is not None:
            for (_, trial), take, row in zip(part, takes, made, strict=True):
                on_row(trial, take, row)
    return pd.DataFrame([rows[key] for key in keys])


_Batch = list[tuple[str, Trial]]
_Result = tuple[list[Row], list[Take]]


def _run_batch(
    model: Model, part: _Batch, settings: _Settings, *, with_takes: bool = True, **watch: Any
) -> _Result:
    """Return rows and, where they are wanted, takes of the trials of one batch."""
    some = [trial for _key, trial in part]
    takes = make_takes(model, some, seconds=settings.seconds, guidance=settings.guidance, **watch)
    rows: list[Row] = [
        {"method": one.method, "aim": one.aim, **one.columns, "prompt": take.prompt, "seed": take.seed,
         "ok": bool(take.receipt.ok), "hit": False, "p": float("nan")}
        for one, take in zip(some, takes, strict=True)
    ]  # fmt: skip
    for name, judge in settings.judges.items():
        for row, odds in zip(rows, judge.probabilities([take.new for take in takes]), strict=True):
            row[f"judged_{name}"] = judge.classes[int(np.argmax(odds))]
            row |= {f"p_{name}_{class_}": float(p) for class_, p in zip(judge.classes, odds, strict=True)}
    for one, take, row in zip(some, takes, rows, strict=True):
        row |= damage(take.new) | dict(settings.measure(take) if settings.measure else {})
        if one.aim is not None:
            name = first_to_know(settings.judges)[one.aim]
            row |= {"hit": row[f"judged_{name}"] == one.aim, "p": row[f"p_{name}_{one.aim}"]}
            if take.prompt_seconds:
                judge = settings.judges[name]
                (odds,) = judge.probabilities([take.clip.section(0.0, take.prompt_seconds)])
                row["p_given"] = float(odds[judge.classes.index(one.aim)])
    if settings.likely:
        scores = likelihood(model, takes, progress=bool(watch.get("progress")))
        rows = [row | score.row() for row, score in zip(rows, scores, strict=True)]
    return rows, takes if with_takes else []


def _timed(
    results: Iterator[tuple[_Batch, _Result]], total: int, progress: bool
) -> Iterator[tuple[_Batch, _Result]]:
    """Pass results on under a progress bar that says, once the first is there, how long all will take."""
    began = time.monotonic()
    with tqdm(total=total, desc="Trials", unit="clip", disable=not progress, leave=False) as bar:
        for part, result in results:
            if not bar.n:
                minutes = (time.monotonic() - began) * total / len(part) / 60
                bar.set_description(f"Trials (about {minutes:.1f} min for {total} clips)")
            bar.update(len(part))
            yield part, result


def _finished_rows(path: Path) -> dict[str, Row]:
    """Return rows of lines {"key", "row", "digest"} by key; a line that a killed process left is cut off."""
    if not path.exists():
        return {}
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        with disk_errors(path):
            os.truncate(path, len(whole))
    rows, damaged = {}, 0
    for line in whole.splitlines():
        try:
            one = json.loads(line)
            if one[DIGEST] != digest_of(one):
                raise ValueError
            rows[one["key"]] = one["row"]
        except (ValueError, KeyError, TypeError):
            damaged += 1
    if damaged:
        warnings.warn(f"{damaged} lines of {path} are damaged; their trials are run again.", stacklevel=3)
    return rows


def _append_rows(path: Path, rows: Mapping[str, Row]) -> None:
    """Append rows by key, whole lines in one writing."""
    lines = [{"key": key, "row": row} for key, row in rows.items()]
    data = "".join(json.dumps({**line, DIGEST: digest_of(line)}) + "\n" for line in lines).encode()
    with disk_errors(path, len(data)):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(data)


class ClipCount:
    """An `on_frame` of `run_trials` that tells after each frame how many clips have been made in all runs."""

    def __init__(self, tell: Callable[[float], object]) -> None:
        self._tell, self._whole, self._batch, self._share = tell, 0.0, 0, 0.0

    def __call__(self, done: int, codes: torch.Tensor) -> None:
        """Take note of `done` finished frames of the codes `(B, k, T)`."""
        share = done / codes.shape[-1]
        if share <= self._share:  # another batch has begun: the one before it is whole
            self._whole += self._batch
        self._batch, self._share = codes.shape[0], share
        self._tell(self._whole + share * codes.shape[0])


def pair_with_baseline(
    table: pd.DataFrame, method: str, other: str = UNSTEERED
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the clips of a method and those of another, row beside row: the same prompt and seed."""
    mine, theirs = (
        table[table["method"] == name].set_index(["prompt", "seed"]).sort_index() for name in (method, other)
    )
    if not len(mine) or not mine.index.equals(theirs.index) or not mine.index.is_unique:
        found = f"there are {len(mine)} and {len(theirs)} clips, not one of each prompt and seed"
        do = "Make both on the same prompts and seeds, each once"
        raise EvidenceError(f"The clips of {method!r} and {other!r} were to be paired", found, do)
    return mine.reset_index(), theirs.reset_index()


def pair_names(table: pd.DataFrame) -> np.ndarray:
    """Return the group `(n,)` of each clip for a bootstrap: its prompt and seed."""
    return np.array([f"{seed} {prompt}" for prompt, seed in zip(table["prompt"], table["seed"], strict=True)])


def without_judge_name(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return a table of one judge with the columns judged and p_<class>."""
    short = {f"judged_{name}": "judged"}
    short |= {one: one.replace(f"{name}_", "", 1) for one in map(str, table) if one.startswith(f"p_{name}_")}
    return table.drop(columns=["p", "p_given"], errors="ignore").rename(columns=short)


def sweep(
    model: Model,
    directions: Mapping[str, Direction],
    doses: Sequence[float],
    judge: Judge | str,
    *,
    prompts: Sequence[str] = NEUTRAL_PROMPTS,
    seeds: Sequence[int] = tuple(range(12)),
    random_directions: int = 0,
    branch: str = "cond",
    **options: Unpack[RunOptions],
) -> pd.DataFrame:
    """Return a row per direction, dose and seed, then those of random directions: dose and response.

    The columns are those of `run_trials`, and layer and dose; what the judge hears stands without its name in
    `judged` and `p_<class>`. The likelihood is left out unless `likely=True`. Arguments are those of
    `dose_trials`, and `random_directions` the controls per aim and dose, of the same layer and norm.
    EvidenceError where there is nothing to sweep, or the judge does not know an aim.
    """
    options.setdefault("likely", False)
    some = dose_trials(directions, doses, prompts, seeds, branch=branch)
    some += random_trials(directions, doses, prompts, seeds, count=random_directions, branch=branch)
    ((name, one),) = as_judges(judge).items()
    return without_judge_name(run_trials(model, some, {name: one}, **options), name)


def hit_rates(table: pd.DataFrame, by: Sequence[str] = ("aim", "method", "layer", "dose")) -> pd.DataFrame:
    """Return n and the hit rate with its 95 % interval (Wilson) for each combination of columns."""
    rates = table.groupby(list(by), dropna=False)["hit"].agg(n="count", hit_rate="mean").reset_index()
    bounds = [wilson(round(rate * n), n) for n, rate in zip(rates["n"], rates["hit_rate"], strict=True)]
    rates["low"], rates["high"] = zip(*bounds, strict=True)
    return rates


def __getattr__(name: str) -> Any:
    renamed = {"hear": run_trials, "asks": trials, "beside": pair_with_baseline, "paired": pair_prompts}
    if name not in renamed:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warn_renamed(f"{__name__}.{name}", f"{__name__}.{renamed[name].__name__}")
    return renamed[name]
