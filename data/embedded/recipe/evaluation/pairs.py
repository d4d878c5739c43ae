"""Two attributes steered at once: layer and doses chosen for the pair, each reported beside itself alone.

What is best for each alone need not be best for both: with the settings that `auto_dose` had found for each,
electronic was heard in .71 of the clips in which it was heard alone, once minor was added two layers earlier.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recipe.evaluation.bench import Bench
from recipe.evaluation.doses import AIMS, Doses
from recipe.evaluation.rows import Bar, Row, seeds_text
from recipe.prompts import BARE_PROMPTS
from workbench.evidence.crosstalk import pairs
from workbench.evidence.trials import Trial, pair_prompts, run_trials
from workbench.steering import Steering

PAIRS = (("jazz", "slow"), ("rock", "calm"), ("electronic", "minor"), ("classical", "piano"))
TOGETHER_DOSES = (0.05, 0.1, 0.15)
SHARE = Bar(at_least=0.8)
Plans = Mapping[str, Steering]


def measure_pairs(bench: Bench, doses: Doses) -> tuple[list[Row], dict[str, Any]]:
    """Return two rows per pair, one for each attribute, and the hit rates behind them.

    Args:
        bench: what is measured.
        doses: what was found for each attribute alone.
    """
    rows, details = [], {}
    seeds = bench.budget.seeds("pairs", bench.budget.clips)
    for names in [pair for pair in PAIRS if set(pair) <= set(doses.found)]:
        setting, plans = _chosen(bench, doses, names)
        found = pairs(
            bench.model, plans, bench.judges, aims={name: AIMS[name] for name in names},
            prompts=BARE_PROMPTS, seeds=seeds, seconds=bench.seconds, progress=bench.progress,
        )  # fmt: skip
        together = " + ".join(names)
        for name in names:
            ratio = found.ratio[name]
            note = (
                f"{found.together[name].value:.2f} together, {found.alone[name].value:.2f} alone, "
                f"{found.unsteered[name].value:.2f} unsteered; {setting}, chosen on other seeds"
            )
            rows.append(Row(f"pairs.{together}.{name}", f"{together}: hit rate of {name} together over alone",
                            SHARE, ratio.value, ratio.low, ratio.high, len(seeds), seeds_text(seeds),
                            note))  # fmt: skip
        table = found.table().round(4).astype(object).where(lambda told: told.notna(), None)
        details[together] = {
            "table": table.to_dict("records"),
            "both": round(found.all_hit.value, 4),
            "setting": setting,
        }
    return rows, details


def settings(doses: Doses, names: tuple[str, ...]) -> dict[str, Plans]:
    """Return the settings to choose from: what was found for each alone, and one layer and dose for both."""
    made: dict[str, Plans] = {"layers and doses of each alone": {name: doses.plan(name) for name in names}}
    targets = [AIMS[name] for name in names]
    layers = set.intersection(*(set(doses.directions[target]) for target, _ in targets))
    for layer in sorted(layers):
        for dose in TOGETHER_DOSES:
            made[f"layer {layer}, dose {dose:g} each"] = {
                name: doses.directions[target][layer][class_].named(name).at(dose)
                for name, (target, class_) in zip(names, targets, strict=True)
            }
    return made


def _chosen(bench: Bench, doses: Doses, names: tuple[str, ...]) -> tuple[str, Plans]:
    """Return the setting under which both are heard most often at once; of equals the likelier music."""
    choices = settings(doses, names)
    seeds = bench.budget.seeds("choose pairs", bench.budget.part(8 / 30))
    together = {
        name: Steering(tuple(term for plan in plans.values() for term in plan.terms))
        for name, plans in choices.items()
    }
    some = [
        Trial(*pair, plan, name)
        for name, plan in together.items() for pair in pair_prompts(BARE_PROMPTS, seeds)
    ]  # fmt: skip
    judges = {target: bench.judges[target] for target, _ in (AIMS[name] for name in names)}
    table = run_trials(bench.model, some, judges, seconds=bench.seconds, progress=bench.progress)
    both = [table[f"judged_{target}"] == class_ for target, class_ in (AIMS[name] for name in names)]
    means = table.assign(both=both[0] & both[1]).groupby("method", sort=False)[["both", "nll"]].mean()
    best = max(choices, key=lambda name: (means["both"][name], -means["nll"][name]))
    return best, choices[best]
