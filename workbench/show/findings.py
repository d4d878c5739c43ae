"""What the notebooks say about their results: sentences that are computed from the figures beside them.

Each function takes what a notebook has made and returns a `Seen`, so that with other clips, another size or
another model the sentence changes with the figures. What a result says itself (`.sentence()`, `verdict()`, a
receipt) is not said again here.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.spatial.distance import pdist, squareform
from scipy.stats import spearmanr

from workbench.errors import DatasetError
from workbench.stats import wilson

if TYPE_CHECKING:
    from workbench.evidence.atlas import Atlas
    from workbench.evidence.causal import DirectEffects, Lens, PatchMap
    from workbench.evidence.crosstalk import Crosstalk
    from workbench.generation.live.pacing import LiveFigures
    from workbench.probing import ProbeSweep, Projection
    from workbench.sound import Dataset, LintReport

NEIGHBOURS = 5
ALIKE, RELATED = 0.9, 0.5
"""From the first cosine on two directions are called nearly the same, from the second on related."""
LOUDER_DB, NOISIER, REPEATING = 3.0, 0.05, 0.1
"""From these changes on a clip differs from its baseline by more than a passing ear would overlook."""


@dataclass(frozen=True, repr=False)
class Seen:
    """One computed sentence about a result.

    >>> print(Seen("2 of 3 pushes are heard."))
    What you see: 2 of 3 pushes are heard.
    """

    words: str

    def __str__(self) -> str:
        return f"What you see: {self.words}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        style = "border-left: 5px solid #0072B2; padding: 6px 12px; max-width: 75ch"
        return f"<div style='{style}'><b>What you see:</b> {html.escape(self.words)}</div>"


def layers(sweep: ProbeSweep) -> Seen:
    """Return how well the best layer reads, and how many layers clear both lines."""
    best, target = sweep.best.scores, sweep.target
    lines = {probe.layer: _line(probe.scores) for probe in sweep}
    clear = [probe.layer for probe in sweep if probe.scores.low > lines[probe.layer]]
    found = (
        f"at its best layer, {sweep.best.layer}, the probe names the {target} of {_pc(best.accuracy)} of the "
        f"clips ({_pc(best.low)} to {_pc(best.high)}), on groups it has never met. The higher of both lines "
        f"is at {_pc(lines[sweep.best.layer])} there. "
    )
    if not clear:
        return Seen(f"{found}No bar stays clear of it: the {target} was not found in any layer.")
    return Seen(f"{found}The bars of {len(clear)} of {_count(lines, 'layer')} stay clear of it.")


def targets(sweeps: Mapping[str, ProbeSweep]) -> Seen:
    """Return which label lies farthest above its line, and which nearest to it; several where equal."""
    lines = {name: (sweep.best.accuracy, _line(sweep.best.scores)) for name, sweep in sweeps.items()}
    lead = {name: round(100 * (accuracy - line)) for name, (accuracy, line) in lines.items()}
    told = {name: f"{name} ({_pc(accuracy)} against {_pc(line)})" for name, (accuracy, line) in lines.items()}
    most = _and(told[name] for name in told if lead[name] == max(lead.values()))
    least = _and(told[name] for name in told if lead[name] == min(lead.values()))
    return Seen(f"farthest above its line is {most}; nearest to its line is {least}.")


def moment(codes: Mapping[str, ProbeSweep], sweeps: Mapping[str, ProbeSweep]) -> Seen:
    """Return what the layers add to the codes, for each span of sound (the longest first)."""
    gains = {span: sweeps[span].best.accuracy - codes[span].best.accuracy for span in codes}
    parts = [
        f"from {span} of sound the codes alone reach {_pc(codes[span].best.accuracy)}, the best layer "
        f"{_pc(sweeps[span].best.accuracy)} ({_points(gain)})"
        for span, gain in gains.items()
    ]
    (long, short), few = list(gains)[:2], list(gains.values())
    more = few[1] - few[0]
    verdict = f"The layers add no more to {short} than to {long}."
    if more > 0.005:
        verdict = f"The layers add more ({_points(more)}) where the probe is given less."
    return Seen(f"{'; '.join(parts)}. {verdict}")


def leak(grouped: ProbeSweep, random: ProbeSweep) -> Seen:
    """Return whether a label that means nothing is read under either split."""
    parts = []
    for name, sweep in (("With whole grooves held out", grouped), ("With the random split", random)):
        best = sweep.best.scores
        line, above = f"above the line ({_pc(_line(best))})", best.low > _line(best)
        read = f"{line}: the coin looks readable" if above else f"not {line}"
        parts.append(f"{name} the best layer's interval begins at {_pc(best.low)}, {read}")
    return Seen(f"{'. '.join(parts)}.")


def agreement(cosines: pd.DataFrame, dimensions: int) -> Seen:
    """Return how far directions found in several ways agree; one column of cosines per pair of ways."""
    chance, parts = 4 / math.sqrt(dimensions), []
    for pair in cosines:
        low, high = float(cosines[pair].min()), float(cosines[pair].max())
        name = "nearly the same" if low >= ALIKE else "related" if low >= RELATED else "different"
        if low < RELATED <= high:
            name = "related for some genres, different for others"
        if high <= chance:
            name = "no more alike than two random ones"
        parts.append(f"{pair}: {name} ({low:.2f} to {high:.2f})")
    return Seen(f"{'; '.join(parts)}. Two random directions rarely exceed {chance:.2f}.")


def confusions(counts: pd.DataFrame) -> Seen:
    """Return the commonest mistake; true classes down, predicted ones across."""
    off = counts.to_numpy() * (1 - np.eye(len(counts), dtype=int))
    wrong, total = int(off.sum()), int(counts.to_numpy().sum())
    if not wrong:
        return Seen(f"none of the {total} clips is mistaken.")
    row, column = divmod(int(off.argmax()), off.shape[1])
    worst = f"{counts.index[row]} taken for {counts.columns[column]} ({off[row, column]} of them)"
    return Seen(f"{wrong} of {total} clips are mistaken, most often {worst}.")


def lie_together(projection: Projection, target: str = "genre") -> Seen:
    """Return how often the nearest point of a map has the same label, and how often by chance."""
    share, chance = _same(projection, target), _chance(projection, target)
    low, _high = wilson(round(share * len(projection.points)), len(projection.points))
    verdict = "clips of one kind lie together" if low > chance else "that is no more than chance"
    return Seen(
        f"for {_pc(share)} of the clips the nearest one on this map has the same {target}; points thrown at "
        f"random would have {_pc(chance)}: {verdict}. Its trustworthiness: {projection.trustworthiness:.2f}."
    )


def two_maps(one: Projection, other: Projection, target: str = "genre") -> Seen:
    """Return what two maps of the same clips agree on: neighbours, and distances between classes."""
    near = [_near(each, NEIGHBOURS) for each in (one, other)]
    kept = float(np.mean([len(set(a) & set(b)) / NEIGHBOURS for a, b in zip(*near, strict=True)]))
    chance = NEIGHBOURS / (len(one.points) - 1)
    apart = [_distances(each, target) for each in (one, other)]
    order = float(spearmanr(*apart).statistic) if len(apart[0]) > 2 else math.nan
    words = (
        f"of the {NEIGHBOURS} nearest neighbours of a clip, {_pc(kept)} are the same on both maps (chance "
        f"{_pc(chance)})"
    )
    if math.isnan(order):
        return Seen(f"{words}.")
    verdict = "much the same" if order > 0.8 else "partly the same" if order > 0.4 else "not the same"
    return Seen(f"{words}. Which {target}s lie far apart is {verdict} (rank correlation {order:.2f}).")


def shadow(projection: Projection) -> Seen:
    """Return how much of the variance the two axes of a PCA show."""
    first, second = projection.explained or (math.nan, math.nan)
    hidden = 1 - round(first, 2) - round(second, 2)
    return Seen(f"the axes carry {_pc(first)} and {_pc(second)} of the variance; {_pc(hidden)} is not shown.")


def same_nearest(maps: Mapping[str, Projection], target: str = "genre") -> Seen:
    """Return on which map the nearest clip most often has the same label."""
    share = {name: _same(one, target) for name, one in maps.items()}
    parts = ", ".join(f"{name} {_pc(value)}" for name, value in share.items())
    best = [name for name, value in share.items() if value == max(share.values())]
    chance = _chance(next(iter(maps.values())), target)
    chances = f"{parts} (chance {_pc(chance)})"
    return Seen(f"nearest clip of the same {target}: {chances}; most often on {_and(best)}.")


def judged(heard: Mapping[str, Mapping[str, float]], plain: str = "unsteered") -> Seen:
    """Return how many pushes a judge hears as their aim; `heard` has its probabilities for each clip."""
    verdict = {name: max(row, key=row.__getitem__) for name, row in heard.items()}
    aims = [name for name in verdict if name != plain]
    missed = [f"{name} (heard as {verdict[name]})" for name in aims if verdict[name] != name]
    count = f"it hears {len(aims) - len(missed)} of {len(aims)} pushes as what they aim at"
    rest = f"{count}, but not {_and(missed)}" if missed else count
    return Seen(f"the judge hears the unsteered tune as {verdict[plain]}; {rest}. That is one clip each.")


def doses(rates: pd.DataFrame) -> Seen:
    """Return how the hit rate goes with the dose, where it peaks and whether it falls, and the control."""
    parts = []
    for aim, table in rates[rates["method"] == "probe"].sort_values("dose").groupby("aim"):
        rows = table.to_dict("records")
        told = ", ".join(f"{_pc(row['hit_rate'])} at {row['dose']:g}" for row in rows)
        peak, last = max(rows, key=lambda row: float(row["hit_rate"])), rows[-1]
        words = f"share of clips heard as {aim}: {told}"
        if peak["hit_rate"] == 0:
            words += ". No dose does it"
        elif last["hit_rate"] < peak["hit_rate"]:
            words += (
                f". More is not better: from {_pc(peak['hit_rate'])} at {peak['dose']:g} it falls to "
                f"{_pc(last['hit_rate'])} at {last['dose']:g}"
            )
        elif last["hit_rate"] > rows[0]["hit_rate"]:
            words += ". It does not fall up to the largest dose"
        parts.append(words)
    control = rates[rates["method"] == "random"]["hit_rate"]
    extra = f" Random directions reach {_pc(control.max())} at most." if len(control) else ""
    return Seen(f"{'; '.join(parts)}.{extra} n = {rates['n'].min()} to {rates['n'].max()} clips a row.")


def damages(changes: Mapping[str, Mapping[str, float]]) -> Seen:
    """Return which clips differ in sound from their baselines, and in what."""
    bounds = {"level_db": LOUDER_DB, "flatness": NOISIER, "repetition": REPEATING}
    bounds |= {"clipping": 0.001, "silence": 0.05}
    found = []
    for name, row in changes.items():
        told = [
            f"{what} {row[f'{what}_change']:+.2g}"
            for what, bound in bounds.items()
            if abs(row.get(f"{what}_change", 0)) > bound
        ]
        found += [f"{name} ({', '.join(told)})"] if told else []
    quiet = (
        f"none of the {len(changes)} clips changes by more than {LOUDER_DB:g} dB, {NOISIER:g} in flatness or "
        f"{REPEATING:g} in repetition."
    )
    return Seen(f"{_and(found)} differ from the baseline in sound." if found else quiet)


def linted(report: LintReport) -> Seen:
    """Return how many errors and warnings a lint has, and how many clips stand in an error."""
    errors = [one for one in report.findings if one.severity == "error"]
    clips = {name for one in errors for name in one.ids}
    count = f"{_count(errors, 'error')} and {_count(report.findings[len(errors) :], 'warning')}"
    return Seen(f"{count} about {report.clips} clips; {_count(clips, 'clip')} stand in an error.")


def grouped(songs: Dataset, rule: object = None) -> Seen:
    """Return how many groups the clips fall into; a DatasetError where every genre is one single group."""
    groups, labels = songs.groups, songs.labels()
    each = {genre: len(set(groups[labels == genre])) for genre in songs.genres}
    whose = "the rule GROUP made" if rule is not None else "without a rule, files by themselves made"
    if len(songs) > len(each) and max(each.values()) == 1:
        found = f"{whose} {_count(set(groups), 'group')} of {len(songs)} files, such as {str(groups[0])!r}"
        do = "Blame the rule, not the music: change GROUP so that it tells tracks apart, or set it to None"
        raise DatasetError("Every genre should have several groups", found, do)
    largest = max(np.unique(groups, return_counts=True)[1])
    few = min(each, key=each.__getitem__)
    return Seen(
        f"{whose} {_count(set(groups), 'group')} of {len(songs)} files, the largest of "
        f"{_count(range(largest), 'file')}; {few} has the fewest ({each[few]})."
    )


def recommended(atlas: Atlas) -> Seen:
    """Return the layer and dose of every aim, and what speaks for them."""
    rows = atlas.doses.to_dict("records")
    told = _and(f"{row['aim']} at layer {row['layer']} with dose {row['dose']:g}" for row in rows)
    good = [row for row in rows if row["steerable"]]
    if all(row["by"] == "auto-dose" for row in rows):
        return Seen(f"{told}; {len(good)} of {_count(rows, 'aim')} can be steered within the budget.")
    return Seen(f"{told}: the largest doses tried at which the music holds. Nobody has listened to them yet.")


def shared(cosines: pd.DataFrame, kinds: Mapping[str, str]) -> Seen:
    """Return which two directions of different targets share most; `kinds` says the target of each."""
    pairs = [(a, b) for a, b in combinations(kinds, 2) if kinds[a] != kinds[b]]
    a, b = max(pairs, key=lambda pair: abs(float(cosines[pair[1]][pair[0]])))
    value = float(cosines[b][a])
    side, way = ("the same way", "along") if value > 0 else ("opposite ways", "against")
    return Seen(
        f"of directions for different qualities {a} and {b} share most: they point {side} ({value:+.2f}), so "
        f"that {abs(value):.2f} of a push along {a} goes {way} {b}."
    )


def together(found: Mapping[str, pd.DataFrame]) -> Seen:
    """Return what two pushes keep of each other, for each way of joining them."""
    parts, both = [], []
    for kind, table in found.items():
        rows = [row for row in table.reset_index().to_dict("records") if not math.isnan(row["ratio"])]
        kept = _and(f"{row['attribute']} keeps {row['ratio']:.2f} of its clips" for row in rows)
        both.append(float(table["both"].iloc[0]))
        parts.append(f"{kind}, {kept or 'nothing is heard alone'}, and {_pc(both[-1])} have both")
    more = "more" if both[-1] > both[0] else "as many" if both[-1] == both[0] else "fewer"
    return Seen(f"{'; '.join(parts)}. {list(found)[-1].capitalize()}, {more} clips have both.")


def continued(heard: pd.DataFrame, aim: str) -> Seen:
    """Return how often each way of going on (rows) is heard as the aim."""
    share = heard[aim] if aim in heard else pd.Series(0.0, index=heard.index)
    return Seen(f"{aim} is heard in {', '.join(f'{_pc(value)} of {name}' for name, value in share.items())}.")


def spilled(found: Crosstalk) -> Seen:
    """Return how much more the pushes move what they aim at than the rest."""
    ratio, own = found.specificity(), found.cells[found.cells["own"]]
    hits = f"the pushes move what they aim at by {100 * own['change'].mean():+.0f} points on average"
    if math.isnan(ratio):
        return Seen(f"{hits}.")
    return Seen(f"{hits}, {ratio:.1f} times as much as the classes of the other judges.")


def played(figures: LiveFigures) -> Seen:
    """Return whether the sound kept up, and how long a knob took."""
    gaps = _count(range(figures.underruns), "gap") if figures.underruns else "no gaps"
    knob = "no knob was moved"
    if figures.worst_knob_to_ear_s is not None:
        knob = f"a knob was heard after {figures.worst_knob_to_ear_s:.2f} s at the latest"
    pace = "faster" if figures.real_time_factor >= 1 else "slower"
    return Seen(f"{gaps}; {knob}; the model was {pace} than real time ({figures.real_time_factor:.1f} x).")


def replayed(again: np.ndarray, codes: np.ndarray) -> Seen:
    """Return whether two series of codes (codebooks, frames) are equal, and where they first differ."""
    if np.array_equal(again, codes):
        every = f"all {codes.size} codes of {codes.shape[-1]} frames"
        return Seen(f"{every} are equal: the same music, bit for bit.")
    frames = min(again.shape[-1], codes.shape[-1])
    differ = np.flatnonzero((again[..., :frames] != codes[..., :frames]).any(axis=0))
    where = f"from frame {differ[0]} on" if len(differ) else "in length alone"
    return Seen(f"the codes are NOT equal; they differ {where}.")


def carried(found: PatchMap) -> Seen:
    """Return which patch moves the read-out most, and how many move it by a tenth of the way."""
    table = found.table()
    top = max(table.to_dict("records"), key=lambda row: float(row["share"]))
    half = "prompted" if top["branch"] == "cond" else "unprompted"
    line = found.lines[int(table["share"].argmax()) // (len(found.edges) - 1) % len(found.lines)]
    return Seen(
        f"the strongest single patch, {line} from {top['start_s']:.1f} to {top['end_s']:.1f} s in the {half} "
        f"half, goes {_pc(top['share'])} of the way from {found.start:.1f} to {found.goal:.1f}; "
        f"{(table['share'] >= 0.1).sum()} of {len(table)} patches go a tenth of it or more."
    )


def written(found: DirectEffects) -> Seen:
    """Return which part writes most towards a read-out, and what kinds of parts add up to."""
    table = found.table.assign(kind=found.table["part"].str.replace(r"head \d+", "heads", regex=True))
    top = max(table.to_dict("records"), key=lambda row: abs(float(row["effect"])))
    sums = ", ".join(f"{kind} {value:+.2f}" for kind, value in table.groupby("kind")["effect"].sum().items())
    where = "the embedding" if top["layer"] < 0 else f"{top['part']} of layer {top['layer']}"
    return Seen(
        f"{where} writes most ({top['effect']:+.2f}). All of a kind together: {sums}; with biases "
        f"({found.rest:+.2f}) they add up to {table['effect'].sum() + found.rest:.2f}, the read-out itself "
        f"({found.total:.2f})."
    )


def stopped(found: Lens) -> Seen:
    """Return how much of the take is played, and how unlikely it is, after the first and the last block."""
    rows = found.table.sort_values("layer").to_dict("records")
    first, last = (
        f"after block {row['layer']} it plays {_pc(row['same'])} of the take's codes, too, and finds them "
        f"unlikely by {row['nll']:.2f} nats"
        for row in (rows[0], rows[-1])
    )
    falls = sum(one["nll"] > other["nll"] for one, other in pairwise(rows))
    mute = [str(layer) for layer, clip in found.clips.items() if clip.silent]
    more = f" Silence plays after block {_and(mute)}." if mute else ""
    blocks = f"{falls} of the {len(rows) - 1} blocks behind the first"
    return Seen(f"{first}; {last}. {blocks} bring it closer.{more}")


def erased(rates: pd.DataFrame, aim: str) -> Seen:
    """Return how often an erased class is still heard under its own prompt, and others under theirs."""
    parts = []
    for name, part in sorted(rates.groupby("aim", sort=False), key=lambda group: group[0] != aim):
        told = [f"{_pc(row['hit_rate'])} ({row['method']})" for row in part.to_dict("records")]
        parts.append(f"{name} is heard in {', '.join(told)}")
    mine = rates[rates["aim"] == aim].set_index("method")
    fell = list(mine.index[mine["high"] < mine.loc["unsteered", "low"]])
    verdict = f"For {aim}, the interval lies below the unsteered one with {_and(fell)}."
    return Seen(f"{'; '.join(parts)}. {verdict if fell else 'No interval lies below the unsteered one.'}")


def reads_or_acts(table: pd.DataFrame) -> Seen:
    """Return where a class is read best and where its direction moves the music most, and if that is sure."""
    rows = table.to_dict("records")
    best = max(rows, key=lambda row: float(row["accuracy"]))
    most = max(rows, key=lambda row: float(row["effect"]))
    sure = [row["layer"] for row in rows if row["effect_high"] < most["effect_low"]]
    above = f"its interval lies above that of layers {', '.join(map(str, sure))}"
    apart = above if sure else "no layer is surely weaker"
    return Seen(
        f"read best in layer {best['layer']} ({_pc(best['accuracy'])}), where a push moves P by "
        f"{_points(best['effect'])}; pushed best in layer {most['layer']} ({_points(most['effect'])}, "
        f"{apart})."
    )


def _line(scores: Any) -> float:
    """Return what has to be beaten: the commonest class, or the luckiest runs with shuffled labels."""
    return float(np.nanmax([scores.chance, scores.shuffled_high]))


def _near(projection: Projection, count: int) -> np.ndarray:
    """Return the nearest other points of each point (n, count)."""
    away = squareform(pdist(projection.points))
    np.fill_diagonal(away, np.inf)
    return np.argsort(away, axis=1, kind="stable")[:, :count]


def _same(projection: Projection, target: str) -> float:
    labels = projection.labels[target].to_numpy()
    return float((labels == labels[_near(projection, 1)[:, 0]]).mean())


def _chance(projection: Projection, target: str) -> float:
    counts = projection.labels[target].value_counts().to_numpy()
    return float((counts * (counts - 1)).sum() / (counts.sum() * (counts.sum() - 1)))


def _distances(projection: Projection, target: str) -> np.ndarray:
    """Return the distances between the middles of all pairs of classes."""
    middles = pd.DataFrame(projection.points).groupby(projection.labels[target].to_numpy()).mean()
    return np.asarray(pdist(middles))


def _pc(share: float) -> str:
    """Return whole per cent; with a decimal where 0 or 100 would say "none" or "all" and be wrong."""
    whole = f"{100 * share:.0f} %"
    return f"{100 * share:.1f} %" if whole in ("0 %", "100 %") and share not in (0, 1) else whole


def _points(gain: float) -> str:
    return f"{100 * gain:+.0f} points"


def _count(things: Any, name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"


def _and(names: Iterable[str]) -> str:
    listed = list(names)
    return " and ".join([", ".join(listed[:-1]), listed[-1]] if len(listed) > 1 else listed)
