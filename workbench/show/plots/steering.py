"""Figures about steering: what a dose does, what the judge hears, which states and parts are the cause."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from workbench.errors import EvidenceError
from workbench.show.plots import grammar as g
from workbench.sound.dataset import in_order

if TYPE_CHECKING:
    from workbench.evidence.causal import DirectEffects, PatchMap
    from workbench.evidence.crosstalk import BlendCurve, Crosstalk
    from workbench.generation.take import ProbeTrace

MEAN_S = 0.5
"""Seconds of readings that the drawn line averages; the readings themselves are drawn faint."""
DASHES = ("solid", "dot", "dashdot", "longdash", "longdashdot")


def take_scores(traces: Mapping[str, ProbeTrace], class_: str, *, seconds: float) -> go.Figure:
    """Return P(class) along several takes, a line per take in its colour in the player.

    `traces` say by the take's name what one probe, which knows the class (else an EvidenceError), read in it;
    `seconds` is the length of the longest clip in the player.
    """
    if not traces or any(class_ not in trace.classes for trace in traces.values()):
        found = f"the traces know {', '.join(sorted({c for t in traces.values() for c in t.classes}))}"
        do = "Pass traces of one probe, and one of its classes"
        raise EvidenceError(f"The readings of {class_!r} were to be drawn", found, do)
    first = next(iter(traces.values()))
    chance = 1 / len(first.classes)
    note = (
        f"{first.target}, layer {first.layer}; means of {MEAN_S} s over single readings; "
        f"dashed: an even guess, {chance:.0%}."
    )
    question = f"When does the probe read {class_}?"
    result = g.figure(question, x="seconds", y=f"P({class_})", note=note, height=300, shares=[-0.02, 1.04])
    colours = g.colours_of_clips(traces)
    shades = list(colours.values())
    for place, (name, trace) in enumerate(traces.items()):
        same = shades[:place].count(shades[place])  # takes that share a colour differ in their dashes
        line = {"color": shades[place], "dash": DASHES[same % len(DASHES)], "width": 2.5}
        read = np.asarray(trace.probabilities)[:, trace.classes.index(class_)]
        result.add_traces(_lines(name, np.asarray(trace.seconds), read, line))
    result.add_hline(y=chance, line=dict(g.DASHED))
    return g.on_player_clock(result, seconds)


def _lines(name: str, seconds: np.ndarray, read: np.ndarray, style: dict[str, Any]) -> list[go.Scatter]:
    apart = float(np.diff(seconds).mean()) if len(seconds) > 1 else 1.0
    width = min(len(read), max(1, round(MEAN_S / apart)))
    counts = np.convolve(np.ones(len(read)), np.ones(width), "same")
    mean = np.convolve(read, np.ones(width), "same") / counts
    faint = {"color": style["color"], "width": 1}
    return [
        go.Scatter(
            x=seconds, y=read, mode="lines", line=faint, opacity=0.3, hoverinfo="skip", showlegend=False,
            legendgroup=name,
        ),
        go.Scatter(
            x=seconds, y=mean, mode="lines", line=style, name=name, legendgroup=name,
            hovertemplate="%{x:.2f} s: %{y:.0%}<extra>%{fullData.name}</extra>",
        ),
    ]  # fmt: skip


HATCHES = ("", "/", ".", "x")
NEEDED = ("dose", "hit_rate", "low", "high")


def dose_response(table: pd.DataFrame, *, chance: float | None = None) -> go.Figure:
    """Return the hit rate over the dose, a line per genre with its 95 % interval, and the random directions.

    `table` has one row per measurement, else it is an EvidenceError: dose (multiples of the layer's mean
    residual norm R), hit_rate, low, high (all 0-1); optional `genre` (one line each) and `kind` ("steered" or
    "random", the control of equal norm, grey and dotted). `chance` is the judge's level, drawn dashed.
    """
    missing = [name for name in NEEDED if name not in table]
    if missing or table.empty:
        found, do = f"the table has {len(table)} rows and lacks {missing}", "Pass the table of a dose sweep"
        raise EvidenceError("A dose-response figure was asked for", found, do)
    steered = pd.Series("steered", index=table.index)
    genre, kind = (table[name].astype(str) if name in table else steered for name in ("genre", "kind"))
    question = "How much steering does it take to change the genre?"
    across = "dose (multiples of the layer's mean residual norm)"
    note = "Share of clips that the judge hears as the wanted genre; bars are 95 % intervals."
    result = g.figure(question, x=across, y="hit rate", note=note, shares=[-0.03, 1.05])
    colours = g.colours_for(genre)
    for (who, what), group in table.groupby([genre, kind], sort=True):
        rows, name, colour = group.sort_values("dose"), str(who), colours[str(who)]
        look: dict[str, Any] = {}
        if what == "random":
            name, colour = f"{who}: random direction", g.UNSTEERED
            look = {"line": {"width": 1.8, "dash": "dot"}, "marker": {"size": 7, "symbol": "x"}}
        rate = rows["hit_rate"]
        look |= {"error_y": g.interval(rate, rows["low"], rows["high"]), "hover": "dose %{x}: %{y:.0%}"}
        result.add_trace(g.curve(rows["dose"], rate, name, colour, **look))
    if chance is not None:
        result.add_trace(g.dashed([table["dose"].min(), table["dose"].max()], [chance] * 2, "chance"))
    return result


def judged_genres(
    probabilities: Mapping[str, Mapping[str, float]], *, wanted: str | None = None, target: str = "genre"
) -> go.Figure:
    """Return what the judge hears in each clip: bars per genre, in the colour of the clip in the player.

    `probabilities` are 0-1 by clip and genre (an EvidenceError unless clips share genres); the bars of the
    `wanted` genre are outlined in black; `target` is what the judge tells apart.
    """
    genres = _judged(probabilities)
    note = "A judge that hears audio only, never the model's activations."
    result = g.figure(_question(target), x=target, y="probability", note=note, height=340, shares=[0, 1.12])
    colours = g.colours_of_clips(probabilities)
    shades = list(colours.values())
    crowded = len(shades) * len(genres) > 8  # bars too thin for a number to lie on them
    for place, (clip, colour) in enumerate(colours.items()):
        values = [probabilities[clip][genre] for genre in genres]
        hatch = HATCHES[shades[:place].count(colour) % len(HATCHES)]  # clips of one colour stay apart
        edge = {"width": [2.5 if genre == wanted else 0 for genre in genres], "color": g.INK}
        pattern = {"shape": hatch, "fillmode": "overlay", "fgcolor": "white", "size": 7}
        result.add_trace(
            go.Bar(
                x=genres, y=values, name=clip, marker={"color": colour, "line": edge, "pattern": pattern},
                text=[f"{value:.0%}" for value in values], textposition="outside", cliponaxis=False,
                textangle=-90 if crowded else 0, textfont={"size": 12}, constraintext="none",
                hovertemplate="%{x}: %{y:.1%}<extra>%{fullData.name}</extra>",
            )
        )  # fmt: skip
    result.update_layout(barmode="group", bargap=0.25, bargroupgap=0.05)
    return result.update_yaxes(tickvals=[0, 0.25, 0.5, 0.75, 1])


def judged_table(probabilities: Mapping[str, Mapping[str, float]], *, target: str = "genre") -> go.Figure:
    """Return what `judged_genres` does as a table of shades: for more clips than bars can show."""
    genres, clips = _judged(probabilities), list(probabilities)
    question = _question(target).replace("?", " in each clip?")
    note = "A judge that hears audio only, never the model's activations; each row sums to 100 %."
    result = g.figure(question, x="heard as", y="", note=note, height=170 + 36 * len(clips))
    z = [[probabilities[clip][genre] for genre in genres] for clip in clips]
    return g.add_heat(result, z, genres, clips, "probability", hover="%{y} is heard as %{x}: %{z:.1%}")


def _question(target: str) -> str:
    return "What does the judge hear?" if target == "genre" else f"What does the judge of {target} hear?"


def _judged(probabilities: Mapping[str, Mapping[str, float]]) -> list[str]:
    genres = list(in_order(genre for values in probabilities.values() for genre in values))
    if not genres or any(set(values) != set(genres) for values in probabilities.values()):
        found, do = f"the clips carry {dict(probabilities)}", "Pass the same genres for every clip"
        raise EvidenceError("Judged genres were to be drawn", found, do)
    return genres


def crosstalk_matrix(value: Crosstalk) -> go.Figure:
    """Return how every plan changes each class's mean P; aims are framed, brackets: the interval holds 0."""
    cells = value.cells
    plans = list(cells["plan"].unique())
    pairs = zip(cells["target"].astype(str), cells["class"].astype(str), strict=True)
    classes = list(dict.fromkeys(pairs))  # in the order of the judges
    note = "Change of the judge's probability against the unsteered baseline; aims are framed, "
    result = g.figure(
        "What else does steering change?", x="class of a judge", y="steered towards",
        note=f"{note}brackets: the 95 % interval holds 0.", height=230 + 44 * len(plans),
    )  # fmt: skip
    shape = (len(plans), len(classes))
    z, words, hover = np.full(shape, np.nan), np.full(shape, "", object), np.full(shape, "", object)
    for row in cells.to_dict("records"):
        down, across = plans.index(row["plan"]), classes.index((str(row["target"]), str(row["class"])))
        change = f"{100 * row['change']:+.0f}"
        sure = row["change_low"] > 0 or row["change_high"] < 0
        z[down, across] = row["change"]
        words[down, across] = change if sure else f"({change})"
        hover[down, across] = (
            f"{row['plan']}: {row['target']} {row['class']}<br>P {100 * row['change']:+.1f} points "
            f"({100 * row['change_low']:+.1f} to {100 * row['change_high']:+.1f})<br>"
            f"heard in {row['hit_rate']:.0%}, unsteered in {row['unsteered']:.0%}, n = {row['n']}"
        )
        if row["own"]:
            corners = {"x0": across - 0.5, "x1": across + 0.5, "y0": down - 0.5, "y1": down + 0.5}
            result.add_shape(type="rect", name=g.ON_SHADES, line={"color": g.INK, "width": 2.5}, **corners)
    look: dict[str, Any] = {"words": words, "size": 12, "reach": 1.0, "tickformat": "+.0%"}
    look |= {"hover": "%{customdata}", "customdata": hover}
    g.add_heat(result, z, range(len(classes)), range(len(plans)), "change of P", **look)
    for place, (one, other) in enumerate(pairwise(classes)):
        if one[0] != other[0]:
            result.add_vline(x=place + 0.5, name=g.ON_SHADES, line={"color": g.INK, "width": 1})
    ticks = [f"{target}<br>{name}" for target, name in classes]
    result.update_xaxes(tickvals=list(range(len(classes))), ticktext=ticks)
    return result.update_yaxes(tickvals=list(range(len(plans))), ticktext=plans)


def blend_line(value: BlendCurve) -> go.Figure:
    """Return the log-odds of the first class against the second over its weight: every seed, and the mean."""
    table = value.table()
    result = g.figure(
        f"Can one play between {value.second} and {value.first}?",
        x=f"weight of {value.first} (the rest is {value.second})",
        y=f"log-odds, {value.first} against {value.second} (nats)",
        note=f"Rank correlation inside a seed: {value.spearman}; bars are 95 % intervals over seeds.",
    )
    for number, row in enumerate(value.odds):
        result.add_trace(
            go.Scatter(
                x=list(value.weights), y=row.tolist(), mode="lines", opacity=0.5, hoverinfo="skip",
                line={"color": g.UNSTEERED, "width": 1}, name="one seed", legendgroup="seeds",
                showlegend=number == 0,
            )
        )  # fmt: skip
    colour = g.colours_for([value.first, value.second])[value.first]
    odds = table["log_odds"]
    bars, hover = g.interval(odds, table["low"], table["high"]), "weight %{x}: %{y:.2f}"
    name = "mean, 95 % interval"
    result.add_trace(g.curve(table["weight"], odds, name, colour, error_y=bars, hover=hover))
    named = {"annotation_text": "as much of both", "annotation_position": "top right"}
    return result.add_hline(y=0, line=dict(g.DASHED), **named)


SYMBOLS = ("circle", "x", "square-open", "diamond-open", "triangle-up-open", "cross", "star", "hexagon-open")


def dose_of_aim(table: pd.DataFrame, aim: str, *, main: str, control: str) -> go.Figure:
    """Return the hit rate of one aim over the dose, from the unsteered model on, beside random directions.

    `table` is that of an `Evidence`; `main` and `control` are the methods that are drawn.
    """
    own = table[table["aim"] == aim]
    parts = [
        own[own["method"].isin([name, "unsteered"])].assign(kind=kind)
        for name, kind in ((main, "steered"), (control, "random"))
    ]
    rows = pd.concat(parts).assign(genre=aim)
    drawn = dose_response(rows.rename(columns={"hit_rate_low": "low", "hit_rate_high": "high"}))
    drawn.update_xaxes(title_text="dose (multiples of R)")
    return drawn.update_layout(title_text=f"<b>How much does it take to reach {aim}?</b>", height=340)


def beside_controls(table: pd.DataFrame, main: str, names: Sequence[str]) -> go.Figure:
    """Return the hit rate of every aim at its chosen setting, under it those of the controls by name.

    `table` is that of an `Evidence`: aim, method, hit_rate with _low and _high (0-1), chosen.
    """
    rows = table[table["chosen"]]
    aims, shown = list(rows["aim"].unique()), [main, *(name for name in names if name in set(rows["method"]))]
    note = "Share of clips that the judge hears as the aim, at the chosen dose; bars are 95 % intervals."
    height = 190 + len(aims) * (16 * len(shown) + 12)
    result = g.figure("Does steering beat every control?", x="hit rate", y="", note=note, height=height)
    colours = g.colours_for(aims)
    for place, name in enumerate(shown):
        own = rows[rows["method"] == name].set_index("aim").reindex(aims)
        y = [down + (place + 1) / (len(shown) + 1) - 0.5 for down in range(len(aims))]
        marker: dict[str, Any] = {"symbol": SYMBOLS[place % len(SYMBOLS)], "size": 9, "color": g.UNSTEERED}
        if not place:
            marker |= {"color": [colours[aim] for aim in aims], "size": 12}
        bars = g.interval(own["hit_rate"], own["hit_rate_low"], own["hit_rate_high"])
        look: dict[str, Any] = {
            "mode": "markers",
            "error_x": {**bars, "color": g.UNSTEERED},
            "marker": marker,
        }
        result.add_trace(g.curve(own["hit_rate"], y, name, g.UNSTEERED, hover="%{x:.0%}", **look))
    for edge in range(1, len(aims)):
        result.add_hline(y=edge - 0.5, line={"color": g.UNSTEERED, "width": 1, "dash": "dot"})
    result.update_xaxes(range=[-0.03, 1.03], tickformat=".0%")
    ticks = {"tickvals": list(range(len(aims))), "ticktext": aims, "showgrid": False}
    result.update_layout(legend={"orientation": "h", "x": 0, "y": -0.16, "yanchor": "top"})
    return result.update_yaxes(range=[len(aims) - 0.5, -0.5], **ticks)


def frontier(
    curves: pd.DataFrame, methods: pd.DataFrame, *, control: str = "",
    title: str = "What does the effect cost?",
) -> go.Figure:  # fmt: skip
    """Return effect against quality: gain in P(aim) over the rise of the NLL, a curve over doses per method.

    Both tables are those of an `Evidence`: method, gain and nll_rise with _low and _high. Methods that were
    tried at one dose are single points; `control` is drawn grey and dotted.
    """
    note = "Means over genres, 95 % intervals; NLL under the unsteered model. Up is more effect."
    across = "rise of the NLL (nats per code)"
    result = g.figure(title, x=across, y="gain in P(genre)", note=note, height=440)
    single = methods[~methods["method"].isin([*curves["method"], "unsteered"])].assign(dose=np.nan)
    rows = pd.concat([curves, single], ignore_index=True)
    colours = g.colours_for(name for name in rows["method"].unique() if name != control)
    for place, (name, part) in enumerate(rows.groupby("method", sort=False)):
        own = part.sort_values("dose")
        bars = {f"error_{axis}": {**g.interval(own[of], own[f"{of}_low"], own[f"{of}_high"]), "thickness": 1}
                for axis, of in (("x", "nll_rise"), ("y", "gain"))}  # fmt: skip
        look: dict[str, Any] = {"marker": {"symbol": SYMBOLS[place % len(SYMBOLS)]}, **bars}
        if name == control:
            look["line"] = {"dash": "dot", "width": 1.8}
        words = [f"dose {dose:g}" if dose == dose else "chosen dose" for dose in own["dose"]]
        look |= {"customdata": words, "hover": "%{customdata}: %{y:+.2f} at %{x:+.2f} nats"}
        colour = colours.get(str(name), g.UNSTEERED)
        result.add_trace(g.curve(own["nll_rise"], own["gain"], str(name), colour, **look))
    return result.add_hline(y=0, line=dict(g.DASHED))


WORDS_AT_MOST = 150  # numbers in the cells of a larger map would be too small to read
BLUE, ORANGE = g.GENRE_COLOURS["classical"], g.GENRE_COLOURS["rock"]


def patch_heat(found: PatchMap, branch: str = "cond") -> go.Figure:
    """Return lines x windows of a patch map: the change as a share of the way to the source's reading.

    A clicked cell carries [line, window] for `PatchMap.hear`. EvidenceError for a branch that was not read.
    """
    if branch not in found.branches:
        asked, read = f"The map of the branch {branch!r} was to be drawn", ", ".join(found.branches)
        raise EvidenceError.lookup(asked, f"it has {read}", "Use one of these")
    shares = found.values[found.branches.index(branch)] / (found.goal - found.start)
    half = "prompted" if branch == "cond" else "unprompted"
    note = (
        f"Patched in the {half} half of guidance. {_sentence(found.label)}: {found.start:.1f} as it is, "
        f"{found.goal:.1f} in the source; a cell is the share of that way."
    )
    rows, columns = shares.shape
    height = 190 + max(24 * rows, 120)
    result = g.figure("Which states carry the difference?", x="window (s)", y="", note=note, height=height)
    windows = [f"{start:.1f}–{end:.1f}" for start, end in map(found.seconds, range(columns))]
    words = np.where(shares.size <= WORDS_AT_MOST, np.round(100 * shares).astype(int).astype(str), "")
    look: dict[str, Any] = {"words": words, "size": 11, "reach": _reach(shares)}
    look["customdata"] = [[[line, window] for window in range(columns)] for line in range(rows)]
    names, hover = list(map(str, found.lines)), "%{y}, %{x} s: %{z:.1%}"
    g.add_heat(result, shares, windows, names, "share of the way", hover=hover, **look)
    return result.update_xaxes(tickangle=-45)


def direct_heat(found: DirectEffects) -> go.Figure:
    """Return what each head, the attention to the text and the feed-forward part of each layer writes."""
    table = found.table[found.table["layer"] >= 0]
    parts = list(dict.fromkeys(table["part"]))
    effects = table.pivot(index="layer", columns="part", values="effect")[parts]
    embedded = float(found.table.loc[found.table["layer"] < 0, "effect"].sum())
    note = (
        f"{_sentence(found.label)}: {found.total:.2f}, of which the embedding writes {embedded:.2f} and "
        f"biases {found.rest:.2f}; the cells are the rest."
    )
    height = 210 + 30 * len(effects)
    result = g.figure("Who writes it into the stream?", x="part", y="", note=note, height=height)
    reach = _reach(effects.to_numpy())
    words = "z.1f" if reach >= 1 else "z.2f"
    look: dict[str, Any] = {"words": words, "size": 11, "reach": reach, "tickformat": ".1f"}
    short = [part.replace("head ", "H") for part in parts]
    layers = [f"layer {layer}" for layer in effects.index]
    return g.add_heat(result, effects, short, layers, "direct effect", hover="%{y}, %{x}: %{z:.3f}", **look)


def _reach(values: np.ndarray) -> float:
    return max(float(np.abs(values).max()), 1e-9)


def _sentence(label: str) -> str:
    """Return a label with a capital, as a sentence begins."""
    return label[0].upper() + label[1:]


def reads_and_acts(table: pd.DataFrame, *, target: str = "genre") -> go.Figure:
    """Return a probe's accuracy beside the effect of steering, per layer, each with its 95 % interval.

    `table` is what `acts_per_layer` returns: accuracies 0-1, effects in changes of P(aim).
    """
    best, most = (table.nlargest(1, name)["layer"].iloc[0] for name in ("accuracy", "effect"))
    note = f"Reads best in layer {best:.0f}; acts most in layer {most:.0f}. Bars are 95 % intervals."
    reach = [min(-0.05, float(table["effect_low"].min()) - 0.03), 1.04]
    result = g.figure(
        f"Where is the {target} read, and where does steering act?",
        x="layer (0 = first block)", y="share of clips / change of P", note=note, shares=reach,
    )  # fmt: skip
    layers = table["layer"]
    result.add_trace(g.dashed(layers, table["chance"], "chance of reading"))
    for name, low, high, words, colour, symbol in (
        ("accuracy", "low", "high", "reads: held-out accuracy", BLUE, "circle"),
        ("effect", "effect_low", "effect_high", "acts: rise of P(aim)", ORANGE, "diamond"),
    ):
        bars = g.interval(table[name], table[low], table[high])
        look: dict[str, Any] = {"error_y": bars, "marker": {"symbol": symbol}}
        result.add_trace(g.curve(layers, table[name], words, colour, hover="layer %{x}: %{y:.1%}", **look))
    legend = {"orientation": "h", "x": 0, "y": -0.3, "yanchor": "top"}
    result.add_hline(y=0, line={"color": "#888888", "width": 1})
    return result.update_layout(legend=legend).update_xaxes(tickmode="array", tickvals=layers.tolist())
