"""Does steering one attribute move the others? Every plan is heard by every judge, beside the unsteered twin.

A cell of the matrix is a plan and a class of a judge: how often it is heard, and by how much its probability
changes. Classes of one target exclude each other, so what jazz gains rock must lose; crosstalk proper is
what happens to *other* targets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from workbench.errors import EvidenceError
from workbench.evidence.hearing import asks, beside, hear, pair_names
from workbench.evidence.intervals import means
from workbench.evidence.judge import Judge
from workbench.evidence.sweep import wilson
from workbench.model.musicgen import Model
from workbench.model.norms import NEUTRAL_PROMPTS
from workbench.steering import Steering

Aim = tuple[str, str]
"""(target, class) of a judge."""


@dataclass(frozen=True, eq=False)
class Crosstalk:
    """What every judge hears under every plan.

    cells    a row per plan and class of a judge: plan, target, class, own (whether the plan aims at it), n,
             hit_rate with low and high (Wilson), unsteered (the twins' hit rate), change (mean change of the
             probability against the twin) with change_low and change_high (paired bootstrap)
    flips    a row per plan and judge: plan, target, n, flips (share of clips whose verdict is not the
             twin's), low, high
    clips    every clip that was heard
    """

    cells: pd.DataFrame
    flips: pd.DataFrame = field(repr=False)
    clips: pd.DataFrame = field(repr=False)

    def table(self, what: str = "change") -> pd.DataFrame:
        """Return a matrix, plans down and "target: class" across, of one of the columns of `cells`.

        Raises:
            EvidenceError: there is no such column.
        """
        values = [name for name in self.cells if name not in ("plan", "target", "class", "own")]
        if what not in values:
            held = f"the figures are {', '.join(map(str, values))}"
            raise EvidenceError(f"A matrix of {what!r} was asked for", held, "Use one of these")
        named = self.cells.assign(column=self.cells["target"] + ": " + self.cells["class"])
        wide = named.pivot(index="plan", columns="column", values=what)
        return wide.loc[named["plan"].unique(), named["column"].unique()]

    def specificity(self, plan: str | None = None) -> float:
        """Return the mean change of own classes over the mean |change| of all classes of other targets.

        Chance moves other targets a little, too, so a few clips understate it. NaN where no plan has an aim.

        Args:
            plan: one plan; by default all together.
        """
        cells = self.cells if plan is None else self.cells[self.cells["plan"] == plan]
        own = cells[cells["own"]]
        aimed = cells["plan"].map(dict(zip(own["plan"], own["target"], strict=True)))
        others = cells[aimed.notna() & (cells["target"] != aimed)]["change"].abs().mean()
        return float(own["change"].mean() / others) if len(own) and others > 0 else float("nan")


def crosstalk(
    model: Model,
    plans: Mapping[str, Steering],
    judges: Mapping[str, Judge],
    *,
    aims: Mapping[str, Aim] | None = None,
    prompts: Sequence[str] = NEUTRAL_PROMPTS,
    seeds: Sequence[int] = tuple(range(12)),
    seconds: float = 5.0,
    guidance: float | None = None,
    progress: bool = True,
) -> Crosstalk:
    """Return what every judge hears under every plan, against the unsteered twins.

    Args:
        model: the model.
        plans: by name; a random direction of the same dose belongs among them.
        judges: by target.
        aims: what a plan aims at; by default the class of a judge that is called as the plan is.
        prompts: taken in turn, seed by seed.
        seeds: one clip per plan and seed.
        seconds: length of the clips.
        guidance: classifier-free guidance; by default what the checkpoint says.
        progress: whether to show progress bars.

    Raises:
        EvidenceError: there is no plan or no judge, or an aim that no judge hears.
    """
    if not plans or not judges:
        found = f"there are {len(plans)} plans and {len(judges)} judges"
        raise EvidenceError("Crosstalk was asked for", found, "Give at least one of each")
    own = aims_of(plans, judges, aims, needed=False)
    asked = asks(plans, prompts, seeds)
    clips = hear(model, asked, judges, seconds=seconds, guidance=guidance, progress=progress)
    return crosstalk_of(clips, {target: tuple(judge.classes) for target, judge in judges.items()}, own)


def crosstalk_of(
    clips: pd.DataFrame, classes: Mapping[str, Sequence[str]], aims: Mapping[str, Aim]
) -> Crosstalk:
    """Return the matrix of clips that are already heard.

    Args:
        clips: rows of `hear`, the unsteered twins among them.
        classes: of each judge, by target.
        aims: what plans aim at, where they do.
    """
    cells, flips = [], []
    for plan in [name for name in clips["method"].unique() if name != "unsteered"]:
        mine, twins = beside(clips, plan)
        groups = pair_names(mine)
        for target, names in classes.items():
            heard, before = mine[f"judged_{target}"], twins[f"judged_{target}"]
            columns = [f"p_{target}_{name}" for name in names]
            changes = means(mine[columns].to_numpy() - twins[columns].to_numpy(), groups)
            told = {"plan": plan, "target": target}
            flipped = (heard != before).to_numpy()
            flips.append({**told, "n": len(mine), "flips": flipped.mean(), **_bounds(flipped)})
            for name, change in zip(names, changes, strict=True):
                hits = (heard == name).to_numpy()
                cells.append(
                    {**told, "class": name, "own": aims.get(plan) == (target, name), "n": len(mine),
                     "hit_rate": hits.mean(), **_bounds(hits), "unsteered": (before == name).mean(),
                     "change": change.value, "change_low": change.low, "change_high": change.high}
                )  # fmt: skip
    return Crosstalk(pd.DataFrame(cells), pd.DataFrame(flips), clips)


def aims_of(
    plans: Sequence[str] | Mapping[str, Steering],
    judges: Mapping[str, Judge],
    aims: Mapping[str, Aim] | None,
    *,
    needed: bool,
) -> dict[str, Aim]:
    """Return what each plan aims at: as told, else the one class of a judge that is called as the plan is.

    Args:
        plans: names of plans.
        judges: by target.
        aims: what is told; checked.
        needed: whether every plan must have an aim.

    Raises:
        EvidenceError: no judge hears an aim, a name fits several judges, or a plan lacks a needed aim.
    """
    heard = [(target, str(name)) for target, judge in judges.items() for name in judge.classes]
    told = dict(aims or {})
    for plan in plans:
        fitting = [told[plan]] if plan in told else [aim for aim in heard if aim[1] == plan]
        if len(fitting) > 1 or (needed and not fitting) or any(aim not in heard for aim in fitting):
            classes = ", ".join(f"{target}: {name}" for target, name in heard)
            raise EvidenceError(
                f"What the plan {plan!r} aims at was looked for",
                f"{fitting or 'nothing'} fits what judges hear ({classes})",
                'Tell it, for example aims={"plan": ("genre", "jazz")}',
            )
        told |= dict.fromkeys([plan], fitting[0]) if fitting else {}
    return {plan: told[plan] for plan in plans if plan in told}


def _bounds(hits: np.ndarray) -> dict[str, float]:
    low, high = wilson(int(hits.sum()), len(hits))
    return {"low": low, "high": high}
