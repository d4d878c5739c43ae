"""Is the steering real? Methods and controls on the same prompts and seeds, and what their figures say.

Layer and dose are chosen on some prompts and seeds and reported on others, in pairs with unsteered clips.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from workbench.errors import EvidenceError
from workbench.evidence import search
from workbench.evidence.crosstalk import beginnings, compare_gains, transitions
from workbench.evidence.judge import Judge, Judges, as_judges, first_to_know
from workbench.evidence.metrics import frontier_area
from workbench.evidence.search import COSTS, DOSES, STEERED, DamageBudget, ranked, settings
from workbench.evidence.trials import UNSTEERED, Trial, pair_prompts, run_trials
from workbench.evidence.validate import Labelled, effects, prompted_clips, validate_judge
from workbench.files import digest_of, write_atomically
from workbench.generation.request import prompt_codes_of
from workbench.model.musicgen import NEUTRAL_PROMPTS, Model
from workbench.sound import Dataset
from workbench.stats import SURE, means, proportion, rate_over_groups
from workbench.steering import Direction, Steering, random_direction
from workbench.steering.together import WAYS, Way

RANDOM, SHRINK, PROMPTED = "random directions", "norm shrink only", "prompt only"
OTHER, SHUFFLED = "another genre's direction", "shuffled labels"
CONTROLS = (UNSTEERED, RANDOM, SHUFFLED, OTHER, SHRINK)
"""What steering must beat. A prompt that names the genre is no control: it is what one could do instead."""
TRANSITIONS = (("classical", "electronic"), ("electronic", "jazz"), ("jazz", "rock"), ("rock", "classical"))
FIRST_REPORTED = 1000  # the seeds from here on are reported, those from 0 on choose
FEWEST, MOST, TIMED = (2, 6), (6, 64), 32  # clips that choose and are reported, per condition
BEGINNINGS = 12
VALIDATED = range(3000, 3008)  # seeds of prompted clips on which judges are validated
REAL_CLIPS = 20  # per class, on which they are validated, too
DRAWN = 20  # random directions, among which the clips are shared

Clips = tuple[int, int]
Run = partial[pd.DataFrame]  # `run_trials` with everything but the trials


@dataclass(frozen=True)
class Design:
    """What a report measures, and on what.

    >>> Design(doses=(0.1, 0.2), clips=(2, 12)).choosing_prompts
    ('a tune', 'a piece of music')
    """

    doses: tuple[float, ...] = DOSES  # multiples of the layer's mean residual norm
    choosing_prompts: tuple[str, ...] = NEUTRAL_PROMPTS[:2]
    reporting_prompts: tuple[str, ...] = NEUTRAL_PROMPTS[2:]
    prompted: str = "{} music"  # the prompt that names an aim, for the comparison with a prompt alone
    full: int = 4  # so many methods, the first ones, are reported at all doses, the others at the chosen one
    clips: Clips | None = None  # per condition, that choose and are reported; None: as time allows
    seconds: float = 5.0
    budget: DamageBudget = field(default_factory=DamageBudget)  # what costs more is chosen only if all do
    branch: str = "cond"
    ways: Mapping[str, Way] = field(default_factory=lambda: WAYS)  # also tried with the directions reported

    @property
    def doses_of_ways(self) -> tuple[float, ...]:
        """The doses at which ways to push are compared: every second, with the largest."""
        return self.doses[::-2][::-1]

    def __post_init__(self) -> None:
        shared = sorted(set(self.choosing_prompts) & set(self.reporting_prompts))
        chooses, reported = self.clips or FEWEST
        if shared or not 0 < chooses <= FIRST_REPORTED or reported < 2 or not min(self.doses, default=0) > 0:
            found = f"doses are {self.doses}, clips {self.clips}, prompts of both parts {shared}"
            do = "Give doses above 0, clips (two to report); what chose is never reported"
            raise EvidenceError("A report was designed", found, do)


class Setting(NamedTuple):
    """A direction, the dose that was chosen for it, and the score that chose it (see `search.settings`)."""

    direction: Direction
    dose: float
    score: float = 0.0


Chosen = dict[tuple[str, str], Setting]  # by (method, aim)


@dataclass(frozen=True, eq=False)
class Study:
    """Methods with a direction, or one per layer, for every aim; the judges that hear them; the design."""

    methods: dict[str, dict[str, tuple[Direction, ...]]]
    shuffled: dict[str, tuple[Direction, ...]]
    judges: dict[str, Judge]
    design: Design

    @classmethod
    def of(cls, directions: Mapping[str, Any], judges: Judges, design: Design) -> Study:
        """Return a study of directions by aim, or by method and aim; EvidenceError where one is missing."""
        nested = all(isinstance(one, Mapping) for one in directions.values())
        methods = {
            name: {aim: (one,) if isinstance(one, Direction) else tuple(one) for aim, one in part.items()}
            for name, part in (directions if nested else {STEERED: directions}).items()
        }
        shuffled = [methods.pop(name) for name in list(methods) if name.startswith("shuffled")]
        methods.pop("random", None)  # random directions are drawn here, another one for every clip
        study = cls(methods, shuffled[0] if shuffled else {}, as_judges(judges), design)
        aims = {aim for part in methods.values() for aim in part}
        if not aims or aims - set(study.judge_of) or any(aims - set(part) for part in methods.values()):
            found = f"the methods aim at {sorted(aims)}, and the judges hear {sorted(study.judge_of)}"
            do = "Give each method a direction for every aim, and judges that hear the aims"
            raise EvidenceError("A report on directions was asked for", found, do)
        return study

    @property
    def aims(self) -> list[str]:
        """What is steered to, in order."""
        return list(next(iter(self.methods.values())))

    @property
    def in_full(self) -> list[str]:
        """The methods that are reported at all doses."""
        return list(self.methods)[: self.design.full]

    @property
    def judge_of(self) -> dict[str, str]:
        """Class -> name of the first judge that knows it."""
        return first_to_know(self.judges)

    def choosing(self, count: int) -> list[Trial]:
        """Return the trials that choose layers and doses: `count` seeds each, baselines first."""
        pairs = pair_prompts(self.design.choosing_prompts, range(count))
        some = self._trials(pairs, UNSTEERED, stage="choosing")
        for name, part in self.methods.items():
            for aim, candidates in part.items():
                for setting in (Setting(one, dose) for one in candidates for dose in self.design.doses):
                    some += self._trials(pairs, name, setting, aim=aim, stage="choosing")
        return some

    def reporting(self, count: int, chosen: Chosen, main: str) -> list[Trial]:
        """Return the trials that are reported: `count` seeds per condition, other seeds, other prompts."""
        pairs = pair_prompts(self.design.reporting_prompts, range(FIRST_REPORTED, FIRST_REPORTED + count))
        some = self._trials(pairs, UNSTEERED)
        for (name, aim), setting in chosen.items():
            for dose in self.design.doses if name in self.in_full else (setting.dose,):
                some += self._trials(pairs, name, Setting(setting.direction, dose), aim=aim)
        best = {aim: chosen[main, aim] for aim in self.aims}
        for like in {one.direction.layer: one.direction for one in best.values()}.values():
            for dose in self.design.doses:
                several = min(DRAWN, max(count // 2, 2))  # each has its share of the pairs
                for drawn in range(several):
                    setting = Setting(random_direction(like, drawn), dose)
                    some += self._trials(pairs[drawn::several], RANDOM, setting, drawn=drawn)
        for aim, setting in best.items():
            for way, other, push in self.other_ways(setting, self.methods[main][aim]):
                some += self._trials(pairs, way, other, push, aim=aim)
        for one in {(one.direction.layer, one.dose): one for one in best.values()}.values():
            shrink = one.direction.at(one.dose, operation="norm_shrink", branch=self.design.branch)
            some += self._trials(pairs, SHRINK, one, shrink)
        for aim, setting in best.items():
            some += self._trials(pairs, PROMPTED, aim=aim, prompt=self.design.prompted.format(aim))
            every = self.shuffled.get(aim, ())
            own = [one for one in every if one.layer == setting.direction.layer] or every
            for number, pair in enumerate(pairs if own else ()):  # several take turns, clip by clip
                other = Setting(own[number % len(own)], setting.dose)
                some += self._trials([pair], SHUFFLED, other, aim=aim)
        return some

    def plan(self, setting: Setting) -> Steering:
        """Return the plan of a setting."""
        return setting.direction.at(setting.dose, branch=self.design.branch)

    def other_ways(
        self, setting: Setting, candidates: Sequence[Direction]
    ) -> Iterator[tuple[str, Setting, Steering]]:
        """Yield name, dose and plan of each way to push that differs from the setting's own plan."""
        some = sorted(candidates, key=lambda one: one.layer != setting.direction.layer)
        for name, way in self.design.ways.items():
            for other in map(partial(Setting, setting.direction), self.design.doses_of_ways):
                push = way(some, other.dose)
                if str(push) != str(self.plan(other)):
                    yield name, other, push

    def _trials(
        self, pairs: Sequence[tuple[str, int]], method: str, setting: Setting | None = None,
        push: Steering | None = None, *, aim: str | None = None, stage: str = "reporting",
        prompt: str | None = None, drawn: int | None = None,
    ) -> list[Trial]:  # fmt: skip
        """Return a trial of each (prompt, seed), by default of the setting's plan.

        `drawn` is the number of a random direction.
        """
        place = (None, 0.0) if setting is None else (setting.direction.layer, setting.dose)
        columns = {"stage": stage, "layer": place[0], "dose": place[1], "drawn": drawn}
        push = push or (setting and self.plan(setting))
        return [
            Trial(prompt or base, seed, push, method, aim, columns={**columns, "base": base})
            for base, seed in pairs
        ]

    def choose(self, rows: pd.DataFrame) -> Chosen:
        """Return the best setting of each method and aim, within the damage budget where one is."""
        baselines, chosen = rows[rows["method"] == UNSTEERED], {}
        for name, part in self.methods.items():
            for aim, candidates in part.items():
                mine = rows[(rows["method"] == name) & (rows["aim"] == aim)].assign(method=STEERED)
                tried = settings(pd.concat([baselines, mine], ignore_index=True), self.design.budget)
                layer, dose = ranked(tried)[0]
                score = tried.loc[(tried["layer"] == layer) & (tried["dose"] == dose), "score"].iloc[0]
                direction = next(one for one in candidates if one.layer == layer)
                chosen[name, aim] = Setting(direction, dose, float(score))
        return chosen

    def main(self, chosen: Chosen) -> str:
        """Return the method of the verdicts: of those in full, the best on the seeds that chose."""
        return max(self.in_full, key=lambda name: sum(chosen[name, aim].score for aim in self.aims))

    def clips(self, rows: pd.DataFrame, chosen: Chosen, main: str) -> pd.DataFrame:
        """Return a row per aim and clip that says something about it, with gain and costs in pairs.

        Clips without an aim (baselines, random directions, shrinking) count for every aim of their layer; the
        main method's clips of the other aims are the control `OTHER`. `chosen` marks the chosen settings.
        """
        alone, parts = rows["method"] == UNSTEERED, []
        base = rows[alone].set_index(["base", "seed"])
        doses = {key: one.dose for key, one in chosen.items()}
        keys = zip(rows["method"], rows["aim"], strict=True)
        steered = rows["dose"] == np.array([doses.get(key, np.nan) for key in keys])
        for aim in self.aims:
            direction, dose, _score = chosen[main, aim]
            here, at_dose = rows["layer"] == direction.layer, rows["dose"] == dose
            drawn, shrunk = rows["method"] == RANDOM, rows["method"] == SHRINK
            shared = alone | (here & drawn) | (here & at_dose & shrunk)
            moved = rows[steered & (rows["method"] == main) & (rows["aim"] != aim)]
            moved = moved.assign(method=OTHER, layer=direction.layer, dose=dose, chosen=True)
            right = steered | alone | (at_dose & rows["method"].isin(CONTROLS)) | (rows["method"] == PROMPTED)
            part = pd.concat([rows.assign(chosen=right)[shared | (rows["aim"] == aim)], moved])
            name, before = self.judge_of[aim], base.loc[list(zip(part["base"], part["seed"], strict=True))]
            judged, p = part[f"judged_{name}"], f"p_{name}_{aim}"
            rises = {**COSTS, "gain": p}
            risen = {what: part[column] - before[column].to_numpy() for what, column in rises.items()}
            parts.append(part.assign(aim=aim, judged=judged, hit=judged == aim, p=part[p], **risen))
        return pd.concat(parts, ignore_index=True)

    def about(self, model: Model) -> dict[str, str]:
        """Return what is measured on what, with fingerprints: equal texts mean equal figures."""
        design, told = self.design, {"model": f"{model.id} {model.fingerprint[:12]}"}
        for name, judge in self.judges.items():
            told[f"judge {name}"] = str(getattr(judge, "fingerprint", type(judge).__qualname__))[:24]
        for name, part in {**self.methods, SHUFFLED: self.shuffled}.items():
            every = [(aim, one) for aim, some in part.items() for one in some]
            told[name] = ", ".join(f"{aim}@{one.layer} {one.fingerprint[:8]}" for aim, one in every)
        for name, way in design.ways.items():
            some = self.methods[self.in_full[0]][self.aims[0]]
            told[f"way to push: {name}"] = str(way(some, design.doses[0]))
        told["doses"] = ", ".join(f"{dose:g}" for dose in design.doses)
        told["prompts that choose, seeds from 0"] = "; ".join(design.choosing_prompts)
        told[f"prompts that are reported, seeds from {FIRST_REPORTED}"] = "; ".join(design.reporting_prompts)
        told["prompt only"] = design.prompted.format(self.aims[0])
        told["each clip"] = f"{design.seconds:g} s, branch {design.branch}, guidance {model.guidance:g}"
        return {**told, "budget": str(design.budget)} | {name: str(one) for name, one in model.draws.items()}


def summary(clips: pd.DataFrame, by: Sequence[str] = ("aim", "method", "dose", "chosen")) -> pd.DataFrame:
    """Return per condition n, hit_rate, p, gain, the costs and wrong_way, intervals as <name>_low and _high.

    `gain` and costs are mean changes against the unsteered clips of the same prompts and seeds (bootstrap of
    these pairs), `wrong_way` the share of clips in which the aim became less probable.
    """
    rows = []
    for key, part in clips.groupby(list(by), sort=False):
        groups = (part["seed"].astype(str) + " " + part["base"]).to_numpy()  # what is compared in pairs
        shares = {"hit_rate": part["hit"].to_numpy(bool), "wrong_way": part["gain"].to_numpy() < 0}
        rate = proportion if len(set(groups)) == len(groups) else partial(rate_over_groups, groups=groups)
        found, names = {name: rate(hits) for name, hits in shares.items()}, ["p", "gain", *COSTS]
        found |= dict(zip(names, means(part[names].to_numpy(), groups), strict=True))
        row: dict[str, Any] = dict(zip(by, key if isinstance(key, tuple) else (key,), strict=True))
        row |= {"layer": part["layer"].iloc[0], "n": len(part)}
        for name, one in found.items():
            row |= {name: one.value, f"{name}_low": one.low, f"{name}_high": one.high}
        rows.append(row)
    return pd.DataFrame(rows)


def compared_ways(clips: pd.DataFrame, main: str, design: Design) -> pd.DataFrame:
    """Return the summary of the main method, here called "add", and of all other ways to push by dose.

    `area` is that under effect against quality, of 1 at most (see `metrics.effect_quality`): a way that needs
    larger doses for the same effect loses nothing by it, one that damages the music more does.
    """
    some = clips["method"].isin([main, *design.ways]) & clips["dose"].isin(design.doses_of_ways)
    named = clips[some].replace({"method": {main: "add"}}).sort_values("dose", kind="stable")
    table = summary(named, ("method", "dose"))
    used = np.array([design.budget.used({name: row[name] for name in COSTS}) for _, row in table.iterrows()])
    table["quality"] = np.clip(1 - used, 0.0, 1.0)
    for _, part in table.groupby("method"):
        table.loc[part.index, "area"] = frontier_area(part["gain"].to_numpy(), part["quality"].to_numpy())
    return table.sort_values("area", ascending=False, kind="stable", ignore_index=True)


class Verdict(NamedTuple):
    """What the figures say of one aim: whether it steers, and a sentence that says why."""

    steers: bool
    sentence: str


def verdicts(
    table: pd.DataFrame, main: str, budget: DamageBudget, judges: pd.DataFrame
) -> dict[str, Verdict]:
    """Return per aim whether it steers: its hit rate lies above every control, intervals apart.

    `table` is what `summary` returns with the column adjusted_p, which may add a doubt. Nothing is claimed of
    an aim that its judge hears neither in real nor in prompted clips (see `validate_judge`).
    """
    found = {}
    for aim, part in table[table["chosen"]].groupby("aim", sort=False):
        rows = {row["method"]: row for row in part.to_dict("records")}
        mine, controls = rows[main], [rows[name] for name in CONTROLS if name in rows]
        most = max(controls, key=lambda row: float(row["hit_rate_high"]))
        apart, sure = mine["hit_rate_low"] > most["hit_rate_high"], mine["adjusted_p"] <= SURE
        own = judges[(judges["class"] == aim) & judges["first"].astype(bool)]
        heard, moved = own[own["figure"] == "AUC"], own[(own["figure"] == "codec") & ~own["ok"].astype(bool)]
        deaf = len(heard) > 0 and not heard["ok"].any()
        told = f"{_share(mine)} of its clips are heard as {aim}, of the controls at most {_share(most)}"
        told += f" ({most['method']})"
        if deaf:
            on = ", ".join(f"{auc:.2f} on {kind}" for auc, kind in heard[["value", "material"]].to_numpy())
            told = f"Nothing is said of {aim}: its judge does not tell it from the others (AUC {on})"
        elif apart:
            luck = "" if sure else f", yet it may be luck (p = {mine['adjusted_p']:.2f} in pairs)"
            told = f"{aim} steers: {told}, intervals apart{luck}"
        elif mine["hit_rate"] <= most["hit_rate"]:
            told = f"{aim} does not steer: {told}, no less"
        else:
            told = f"{aim} is not shown to steer: {told}, and the intervals meet"
        if PROMPTED in rows:
            told += f". A prompt alone reaches {_share(rows[PROMPTED])}"
        units = zip(COSTS, ("nats per code", "dB", "repetition"), strict=True)
        cost = ", ".join(f"{round(mine[name], 2) + 0.0:+.2f} {unit}" for name, unit in units)
        over = budget.used({name: float(mine[name]) for name in COSTS}) > 1
        cost += ", more than the damage budget allows" if over else ""
        told += f". Cost against the unsteered clips: {cost}."
        told += "".join(f" The codec alone moves P({aim}) by {one:+.2f}." for one in moved["value"])
        found[str(aim)] = Verdict(bool(apart and not deaf), told)
    return found


def _share(row: Mapping[Any, Any]) -> str:
    return f"{row['hit_rate']:.0%} ({row['hit_rate_low']:.0%} to {row['hit_rate_high']:.0%})"


def headline(found: Mapping[str, Verdict]) -> str:
    """Return in a sentence how many aims steer, and which do not.

    >>> headline({"jazz": Verdict(True, ""), "rock": Verdict(False, "")})
    '1 of 2 steers above every control with intervals apart. Not shown for: rock.'
    """
    missing = [aim for aim, one in found.items() if not one.steers]
    count = len(found) - len(missing)
    steer = "steers" if count == 1 else "steer"
    told = f"{count} of {len(found)} {steer} above every control with intervals apart."
    return f"{told} Not shown for: {', '.join(missing)}." if missing else told


def adjusted_p(clips: pd.DataFrame, main: str) -> dict[str, float]:
    """Return per aim the p-value of doing no more than the control that it beats least, by Holm over aims.

    What is compared is P(aim), in pairs; against random directions each of them counts once (`effect`).
    """
    chosen = clips[clips["chosen"]].replace({"method": {RANDOM: search.RANDOM}})
    others = [search.RANDOM if name == RANDOM else name for name in CONTROLS]
    return {aim: one.p_value for aim, one in effects(chosen, method=main, controls=others).items()}


def validated(model: Model, study: Study, music: Dataset | None) -> pd.DataFrame:
    """Return how well each judge tells each aim on prompted and, with music, on real clips.

    Columns: those of `JudgeValidation.table`, judge, and first (whether it is the judge of the verdicts).
    """
    seconds, materials = study.design.seconds, {}
    if music is not None:
        songs = music.take(min(REAL_CLIPS, min(int((music.labels() == one).sum()) for one in music.genres)))
        sounds = [songs.clip(number).section(0, seconds) for number in range(len(songs))]
        materials["real clips"] = Labelled(sounds, songs.labels().tolist(), songs.groups.tolist())
    how: dict[str, Any] = {"prompt": study.design.prompted, "seconds": seconds, "progress": False}
    materials["prompted clips"] = prompted_clips(model, study.aims, VALIDATED, **how)
    parts = []
    for name, judge in study.judges.items():
        found = validate_judge(judge, materials, model=None if music is None else model).table
        first = [study.judge_of.get(one) == name for one in found["class"]]
        parts.append(found.assign(judge=name, first=first)[found["class"].isin(study.aims)])
    return pd.concat(parts, ignore_index=True)


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a report found; `print` says it in a sentence, and the page lies in its folder.

    `table` has a row per aim, method and dose (see `summary`), `chosen` at the settings that were chosen.
    """

    folder: Path
    main: str  # the method of the verdicts, the best where layers and doses were chosen
    verdicts: dict[str, Verdict]
    table: pd.DataFrame = field(repr=False)
    curves: pd.DataFrame = field(repr=False)  # `table` per method and dose over all aims
    methods: pd.DataFrame = field(repr=False)  # the same at the chosen settings
    ways: pd.DataFrame = field(repr=False)  # other ways to push along the same directions (`compared_ways`)
    by_judge: dict[str, pd.DataFrame] = field(repr=False)  # `table` as each that knows all aims hears it
    judges: pd.DataFrame = field(repr=False)  # how well each judge tells each aim (see `validated`)
    turns: pd.DataFrame = field(repr=False)  # a row per transition, steered and prompted (`compare_gains`)
    clips: pd.DataFrame = field(repr=False)  # a row per aim and clip
    plans: dict[str, Steering] = field(repr=False)  # aim -> the chosen plan of the method of the verdicts
    examples: dict[str, dict[str, Trial]] = field(repr=False)  # title -> trials heard side by side, by rule
    settings: dict[str, str] = field(repr=False)  # what was measured on what, with fingerprints

    @property
    def page(self) -> Path:
        """Where the page is written."""
        return self.folder / "index.html"

    @property
    def matrix(self) -> dict[str, dict[str, float]]:
        """What is steered to, or "unsteered" -> the share of its clips that are heard as each class."""
        some, aims = self.clips[self.clips["chosen"]], list(self.verdicts)
        alone = some[(some["aim"] == aims[0]) & (some["method"] == UNSTEERED)].assign(aim=UNSTEERED)
        heard = pd.concat([some[some["method"] == self.main], alone])
        shares = pd.crosstab(heard["aim"], heard["judged"], normalize="index")
        shares = shares.reindex([*aims, UNSTEERED], columns=sorted({*shares, *aims}), fill_value=0.0)
        return {str(name): dict(row) for name, row in shares.iterrows()}

    def __str__(self) -> str:
        return headline(self.verdicts)


def gather(
    model: Model,
    directions: Mapping[str, Any],
    judges: Judges,
    design: Design,
    *,
    folder: Path,
    minutes: float,
    music: Dataset | None = None,
    **options: Any,
) -> Evidence:
    """Return the evidence, resumed from the rows in its folder; arguments as for `evidence_report`."""
    study, began = Study.of(directions, judges, design), time.monotonic()
    options |= {"seconds": design.seconds, "likely": True}
    run = partial(run_trials, model, judges=study.judges, **options)
    chooses, count = _sized(study, model, run, folder=folder, minutes=minutes, turns=music is not None)
    options["path"] = folder / "rows.jsonl"
    run = partial(run, path=options["path"])
    tried = run(study.choosing(chooses))
    chosen = study.choose(tried)
    main = study.main(chosen)
    rows = run(study.reporting(count, chosen, main), chosen_on=tried)
    clips = study.clips(rows, chosen, main)
    best = {aim: chosen[main, aim] for aim in study.aims}
    plans = {aim: study.plan(one) for aim, one in best.items()}
    turns, examples = pd.DataFrame(), _examples(clips, main, plans)
    if music is not None:
        turns, more = _turned(model, study, best, music, count, **options)
        examples |= more
    table, heard = summary(clips), validated(model, study, music)
    table["adjusted_p"] = table["aim"].map(adjusted_p(clips, main))
    full = clips["method"].isin([*study.in_full, RANDOM])
    curves = summary(clips[full], ("method", "dose"))
    alone = {name: replace(study, judges={name: one}) for name, one in study.judges.items()}
    by_judge = {name: summary(one.clips(rows, chosen, main)) for name, one in alone.items()
                if set(study.aims) <= set(one.judge_of)}  # fmt: skip
    told = {
        "clips": f"{len(rows)} are reported, {count} per condition; {chooses} per setting chose",
        "minutes": f"{(time.monotonic() - began) / 60:.1f} in this call, of a budget of {minutes:g}",
    }
    return Evidence(
        folder, main, verdicts(table, main, design.budget, heard),
        table, curves, summary(clips[clips["chosen"]], ("method",)), compared_ways(clips, main, design),
        by_judge, heard, turns, clips, plans, examples,
        {**study.about(model), **told},
    )  # fmt: skip


def _sized(study: Study, model: Model, run: Run, *, folder: Path, minutes: float, turns: bool) -> Clips:
    """Return the clips per condition that fit the budget, after timing a batch; once for each folder."""
    guess = {
        (name, aim): Setting(candidates[0], study.design.doses[0])
        for name, part in study.methods.items() for aim, candidates in part.items()
    }  # fmt: skip
    each = len(study.choosing(1)), len(study.reporting(1, guess, study.in_full[0]))
    path = folder / "plan.json"
    key = digest_of({**study.about(model), "minutes": [minutes, study.design.clips]})
    kept = json.loads(path.read_text("utf-8")) if path.exists() else {}
    if kept.get("key") != key:
        clips, rate = study.design.clips, float("nan")
        if clips is None:
            some = study.choosing(FEWEST[0])[:TIMED]
            run(some[: FEWEST[0]])  # what is slow only once
            began = time.monotonic()
            run(some)
            rate = (time.monotonic() - began) / len(some)
            room = 0.85 * 60 * minutes / rate - (turns * 2 * len(TRANSITIONS) * 3 * BEGINNINGS)
            chooses = int(np.clip(0.3 * room // each[0], FEWEST[0], MOST[0]))
            clips = chooses, int(np.clip((room - chooses * each[0]) // each[1], FEWEST[1], MOST[1]))
        kept = {"key": key, "clips": clips, "rate": rate}
        write_atomically(path, json.dumps(kept).encode())
    chooses, count = kept["clips"]
    total = chooses * each[0] + count * each[1]
    if run.keywords.get("progress", True):
        took = f"about {total * kept['rate'] / 60:.0f} min" if kept["rate"] == kept["rate"] else "not timed"
        tqdm.write(f"{total} clips, {count} per condition: {took}. What is finished in {folder} is kept.")
    return chooses, count


def _examples(clips: pd.DataFrame, main: str, plans: Mapping[str, Steering]) -> dict[str, dict[str, Trial]]:
    """Return, by rule, the clips of each aim with the best, the median and the worst gain, and baselines."""
    found = {}
    for aim, part in clips[(clips["method"] == main) & clips["chosen"]].groupby("aim", sort=False):
        ordered = part.sort_values("gain", ascending=False, kind="stable")
        for name, place in (("best", 0), ("median", len(ordered) // 2), ("worst", -1)):
            row = ordered.iloc[place]
            pair = (str(row["base"]), int(row["seed"]))
            steered = Trial(*pair, plans[str(aim)], main, str(aim))
            both = {UNSTEERED: Trial(*pair, aim=str(aim)), STEERED: steered}
            found[f"{aim}, {name} of {len(ordered)}"] = both
    return found


def _turned(
    model: Model, study: Study, best: Mapping[str, Setting], music: Dataset, count: int, **options: Any
) -> tuple[pd.DataFrame, dict[str, dict[str, Trial]]]:
    """Return the paper's transitions, prompted beside steered, and for each the clips with the median gain.

    Half of the groups choose the dose, the beginnings that are reported are from the other half.
    """
    rows, examples, seconds = [], {}, study.design.seconds
    for out_of, into in TRANSITIONS:
        if out_of not in music.genres or into not in best:
            continue
        options |= {"judge": study.judges[study.judge_of[into]], "target": into, "given_seconds": seconds}
        chooses, reported = music.where(genre=out_of).split(test=0.5)
        some, neutral = beginnings(chooses, out_of, 3), NEUTRAL_PROMPTS[0]
        plans = {f"{dose:g}": study.plan(best[into]._replace(dose=dose)) for dose in study.design.doses}
        conditions: dict[str, tuple[str, Steering | None]]
        conditions = {at: (neutral, push) for at, push in plans.items()}
        tried = transitions(model, some.clips, conditions, seeds=range(len(some.clips)), **options)
        gains = tried.groupby("method")["gain"].mean().round(2)
        at = max(plans, key=lambda name: (gains[name], -float(name)))
        some = beginnings(reported, out_of, min(count, BEGINNINGS))
        conditions = {PROMPTED: (study.design.prompted.format(into), None), STEERED: (neutral, plans[at])}
        seeds = range(FIRST_REPORTED, FIRST_REPORTED + len(some.clips))
        table = transitions(model, some.clips, conditions, seeds=seeds, **options)
        told = {name: table[table["method"] == name].sort_values("beginning") for name in conditions}
        both = [told[name]["gain"].to_numpy() for name in (STEERED, PROMPTED)]
        found = compare_gains(both[0], both[1], groups=some.grooves)
        heard = {f"{name} heard": proportion(told[name]["judged"] == into) for name in (STEERED, PROMPTED)}
        rows.append({"transition": f"{out_of} to {into}", "dose": at, "n": found.n, STEERED: found.steered,
                     PROMPTED: found.prompted, "difference": found.difference, **heard})  # fmt: skip
        middle = int(np.argsort(both[0], kind="stable")[len(both[0]) // 2])
        codes = prompt_codes_of(model, some.clips[middle], seconds)
        examples[f"{out_of} to {into}"] = {
            name: Trial(prompt, seeds[middle], push, name, into, codes)
            for name, (prompt, push) in conditions.items()
        }
    return pd.DataFrame(rows), examples
