"""Layer and dose of every aim, found by `auto_dose` within a quality budget; other parts steer with them.

Which kind of direction an aim gets was chosen on other seeds: a difference in means turns genre and lead
best; for tempo, mood and mode it drags along what comes with them in the music, and costs more nats per code
than the weight of a probe that is heard as often.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from recipe.evaluation.bench import Bench
from recipe.evaluation.rows import NO_BAR, Row, seeds_text
from recipe.prompts import BARE_PROMPTS
from workbench.activations import Activations
from workbench.evidence.crosstalk import Aim
from workbench.evidence.search import AutoDose, auto_dose
from workbench.probing import fit_probes
from workbench.steering import Direction, Steering

AIMS: Mapping[str, Aim] = {
    "classical": ("genre", "classical"),
    "electronic": ("genre", "electronic"),
    "jazz": ("genre", "jazz"),
    "rock": ("genre", "rock"),
    "slow": ("tempo", "slow"),
    "calm": ("mood", "calm"),
    "minor": ("mode", "minor"),
    "piano": ("lead", "piano"),
}
DOSES = (0.025, 0.05, 0.075, 0.1, 0.15, 0.2)
METHODS = {"genre": "means", "lead": "means", "tempo": "logistic", "mood": "logistic", "mode": "logistic"}
ByLayer = Mapping[int, Mapping[str, Direction]]


@dataclass(frozen=True, eq=False)
class Doses:
    """What was found for each aim, and the directions by target, layer and class."""

    found: Mapping[str, AutoDose]
    directions: Mapping[str, ByLayer]

    def plan(self, name: str) -> Steering:
        """Return the plan of an aim with the setting that was found."""
        one = self.found[name]
        target, class_ = AIMS[name]
        return self.directions[target][one.layer][class_].named(name).at(one.dose)


def heard_aims(bench: Bench, acts: Activations) -> dict[str, Aim]:
    """Return the aims that a judge hears and the music is labelled with."""
    return {
        name: (target, class_)
        for name, (target, class_) in AIMS.items()
        if target in bench.judges and target in acts.targets
        and class_ in bench.judges[target].classes and class_ in acts.classes(target)
    }  # fmt: skip


def directions_by_target(bench: Bench, acts: Activations) -> dict[str, ByLayer]:
    """Return the directions of the probes, each target's by its method: target -> layer -> class.

    Args:
        bench: says which layers there are to choose from.
        acts: of labelled pieces.
    """
    made: dict[str, ByLayer] = {}
    for target in dict.fromkeys(target for target, _ in heard_aims(bench, acts).values()):
        probes = fit_probes(acts, target, method=METHODS[target], layers=bench.layers(4), shuffles=0)
        made[target] = {layer: probes.directions(layer) for layer in probes.layers}
    return made


def find_doses(bench: Bench, acts: Activations) -> Doses:
    """Return layer and dose of every aim that a judge can hear.

    Args:
        bench: what is measured.
        acts: what the directions are from.
    """
    directions = directions_by_target(bench, acts)
    found = {}
    for name, (target, class_) in heard_aims(bench, acts).items():
        by_layer = {layer: classes[class_] for layer, classes in directions[target].items()}
        found[name] = auto_dose(
            bench.model,
            by_layer,
            class_,
            bench.judges[target],
            prompts=BARE_PROMPTS,
            seeds=bench.budget.seeds("choose doses", bench.budget.part(6 / 30)),
            further_seeds=bench.budget.seeds("doses", bench.budget.part(16 / 30)),
            doses=DOSES,
            seconds=bench.seconds,
            progress=bench.progress,
        )
    return Doses(found, directions)


def dose_rows(doses: Doses) -> list[Row]:
    """Return a row per aim: how often it is heard at the setting that was found, on the further seeds."""
    rows = []
    for name, one in doses.found.items():
        proof = one.clips[one.clips["stage"] == "proof"]
        rate, random, before = (one.rates[kind] for kind in ("steered", "random", "unsteered"))
        note = (
            f"layer {one.layer}, dose {one.dose:g}; random directions {random.value:.2f}, unsteered "
            f"{before.value:.2f}; {one.cost['nll_rise'].value:+.2f} nats per code; "
            f"{'steerable' if one.steerable else 'not proved steerable'} within the budget"
        )
        rows.append(Row(f"doses.{name}", f"auto-dose, {name} is heard", NO_BAR, rate.value, rate.low,
                        rate.high, proof["seed"].nunique(), seeds_text(proof["seed"].tolist()),
                        note))  # fmt: skip
    return rows
