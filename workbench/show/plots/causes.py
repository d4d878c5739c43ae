"""Figures about causes: which states move a read-out, what parts write, where reading and acting part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from workbench.errors import EvidenceError
from workbench.show.plots import grammar as g

if TYPE_CHECKING:
    from workbench.evidence.causal import DirectEffects, PatchMap

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
    words = [
        [f"{round(100 * one) + 0:d}" if shares.size <= WORDS_AT_MOST else "" for one in row] for row in shares
    ]
    look = {
        **_around_zero(shares), "tickformat": ".0%", "words": words,
        "customdata": [[[line, window] for window in range(columns)] for line in range(rows)],
        "hovertemplate": "%{y}, %{x} s: %{z:.1%}<extra></extra>",
    }  # fmt: skip
    g.add_heat(result, shares, windows, list(map(str, found.lines)), "share of the way", **look)
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
    digits = 1 if np.abs(effects.to_numpy()).max() >= 1 else 2
    words = [[f"{round(one, digits) + 0.0:.{digits}f}" for one in row] for row in effects.to_numpy()]
    look = {
        **_around_zero(effects.to_numpy()), "tickformat": ".1f", "words": words,
        "hovertemplate": "%{y}, %{x}: %{z:.3f}<extra></extra>",
    }  # fmt: skip
    short = [part.replace("head ", "H") for part in parts]
    layers = [f"layer {layer}" for layer in effects.index]
    return g.add_heat(result, effects.to_numpy(), short, layers, "direct effect", **look)


def _around_zero(values: np.ndarray) -> dict[str, Any]:
    """Return a scale for changes of either sign, the same length on both sides of white."""
    reach = max(float(np.abs(values).max()), 1e-9)
    return {"zmin": -reach, "zmax": reach, "colorscale": g.DIVERGING, "size": 11}


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
    for name, words, colour, symbol in (
        ("accuracy", "reads: held-out accuracy", BLUE, "circle"),
        ("effect", "acts: rise of P(aim)", ORANGE, "diamond"),
    ):
        ends = ("low", "high") if name == "accuracy" else ("effect_low", "effect_high")
        bars = g.interval(table[name], *(table[end] for end in ends))
        look: dict[str, Any] = {
            "error_y": bars,
            "hover": "layer %{x}: %{y:.1%}",
            "marker": {"symbol": symbol},
        }
        result.add_trace(g.curve(layers, table[name], words, colour, **look))
    legend = {"orientation": "h", "x": 0, "y": -0.3, "yanchor": "top"}
    result.add_hline(y=0, line={"color": "#888888", "width": 1})
    return result.update_layout(legend=legend).update_xaxes(tickmode="array", tickvals=layers.tolist())
