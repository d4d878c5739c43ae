"""Do two attributes steered together each work as well as alone? Ratios of hit rates, clip beside clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from workbench.errors import EvidenceError
from workbench.evidence.crosstalk import Aim, aims_of
from workbench.evidence.hearing import UNSTEERED, asks, hear, pair_names
from workbench.evidence.intervals import means, ratios
from workbench.evidence.judge import Judge
from workbench.model.musicgen import Model
from workbench.model.norms import NEUTRAL_PROMPTS
from workbench.probing.diagnosis.estimate import Estimate
from workbench.steering import Steering

TOGETHER = "together"


@dataclass(frozen=True, eq=False)
class Combined:
    """Attributes steered alone and together; every interval is a bootstrap over (prompt, seed).

    alone       hit rate of each aim under its own plan
    together    hit rate of each aim under all plans at once
    unsteered   hit rate of each aim under none
    ratio       together over alone; NaN where alone never hits
    all_hit     share of the clips steered together that hit every aim at once
    clips       every clip that was heard
    """

    alone: Mapping[str, Estimate]
    together: Mapping[str, Estimate]
    unsteered: Mapping[str, Estimate]
    ratio: Mapping[str, Estimate]
    all_hit: Estimate
    clips: pd.DataFrame = field(repr=False)

    def table(self) -> pd.DataFrame:
        """Return a row per attribute: hit rates alone, together and unsteered, and the ratio's interval."""
        rows = [
            {"attribute": name, "unsteered": self.unsteered[name].value, "alone": self.alone[name].value,
             "together": self.together[name].value, "ratio": self.ratio[name].value,
             "low": self.ratio[name].low, "high": self.ratio[name].high}
            for name in self.alone
        ]  # fmt: skip
        return pd.DataFrame(rows)


def combine(
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
) -> Combined:
    """Return how well each attribute is steered alone and together with the others.

    Args:
        model: the model.
        plans: two or more, by name; together their terms act in this order.
        judges: by target.
        aims: what each plan aims at; by default the class of a judge that is called as the plan is.
        prompts: taken in turn, seed by seed.
        seeds: one clip per plan and seed.
        seconds: length of the clips.
        guidance: classifier-free guidance; by default what the checkpoint says.
        progress: whether to show progress bars.

    Raises:
        EvidenceError: there are fewer than two plans, or a plan aims at nothing that a judge hears.
    """
    if len(plans) < 2 or TOGETHER in plans:
        found = f"the plans are {', '.join(plans) or 'none'}"
        do = f"Give at least two, none of them called {TOGETHER!r}"
        raise EvidenceError("Attributes were to be steered together", found, do)
    own = aims_of(plans, judges, aims, needed=True)
    every = {**plans, TOGETHER: Steering(tuple(term for plan in plans.values() for term in plan.terms))}
    asked = asks(every, prompts, seeds)
    return combined_of(hear(model, asked, judges, seconds=seconds, guidance=guidance, progress=progress), own)


def combined_of(clips: pd.DataFrame, aims: Mapping[str, Aim]) -> Combined:
    """Return the comparison of clips that are already heard: methods are the plans, together, unsteered.

    Args:
        clips: rows of `hear`.
        aims: plan -> (target, class).
    """
    names = list(aims)
    hits = {
        method: _hits(clips, method, aims if method in (TOGETHER, UNSTEERED) else {method: aims[method]})
        for method in (*names, TOGETHER, UNSTEERED)
    }
    together, unsteered = hits[TOGETHER], hits[UNSTEERED]
    if any(not one.index.equals(together.index) for one in hits.values()):
        found = "not every plan was heard on the same prompts and seeds"
        raise EvidenceError("Attributes were to be compared", found, "Hear all on the same")
    groups = pair_names(together.reset_index())
    alone = np.column_stack([hits[name][name] for name in names])
    both = together[names].to_numpy()

    def named(found: list[Estimate]) -> dict[str, Estimate]:
        return dict(zip(names, found, strict=True))

    return Combined(
        named(means(alone, groups)),
        named(means(both, groups)),
        named(means(unsteered[names].to_numpy(), groups)),
        named(ratios(both, alone, groups)),
        means(np.asarray(both.all(axis=1))[:, None], groups)[0],
        clips,
    )


def _hits(clips: pd.DataFrame, method: str, aims: Mapping[str, Aim]) -> pd.DataFrame:
    """Return whether each clip of a method hits each aim (pairs, aims), sorted by prompt and seed."""
    part = clips[clips["method"] == method].set_index(["prompt", "seed"]).sort_index()
    told = {
        name: (part[f"judged_{target}"] == class_).astype(float) for name, (target, class_) in aims.items()
    }
    return pd.DataFrame(told, index=part.index)
