"""The page of results is written from the evidence, figure by figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from recipe.evidence import results_text
from report_samples import judged, judged_table, study_clips

from workbench.evidence.report import Design, Evidence, compared_ways, summary, verdicts
from workbench.evidence.search import DamageBudget
from workbench.stats import Estimate


def evidence(rates: dict[str, tuple[float, float]]) -> Evidence:
    """Return what a report would have found with these hit rates."""
    clips = study_clips(rates, 40)
    table, judges = judged_table(clips), judged(rates, low=0.82)
    turns = pd.DataFrame([{"transition": "jazz to rock", "steered": Estimate(0.7, 0.6, 0.8)}])
    said = verdicts(table, "probe", DamageBudget(), judges)
    settings = {"model": "m 123", "minutes": "3.0 in this call", "doses": "0.1, 0.2"}
    methods = summary(clips, ("method",))
    kept = clips[clips["method"] == "probe"].assign(method="norm kept", gain=-0.5, hit=False)
    ways = compared_ways(pd.concat([clips, kept]), "probe", Design(doses=(0.2,)))
    rest: tuple[Any, ...] = ({}, judges, turns, clips, {}, {}, settings)
    return Evidence(Path("out"), "probe", said, table, methods, methods, ways, *rest)


def test_the_page_of_results_says_what_the_figures_say():
    text = results_text(evidence({"jazz": (0.95, 0.1), "rock": (0.2, 0.2)}))
    assert "1 of 2 steers above every control" in text and "rock does not steer" in text
    row = next(line for line in text.splitlines() if line.startswith("| jazz | 3 | 0.2 | 40 |"))
    assert "95% (83% to 99%)" in row and "10% (4% to 23%)" in row
    assert "| jazz to rock | 0.70 (0.60 to 0.80) |" in text and "0.87 (0.82 to 0.92)" in text
    ways = text[text.index("## Ways to push") :]
    assert "| add | 0.38 | 57% (46% to 68%) | +0.00 |" in ways  # (0.95 + 0.2) / 2, gains 0.2 less
    assert "| norm kept | 0.00 | 0% (0% to " in ways
    assert "workbench evaluate --model facebook/musicgen-small" in text and "- doses: 0.1, 0.2" in text
    better = results_text(evidence({"jazz": (0.95, 0.1), "rock": (0.9, 0.2)}))
    assert "2 of 2 steer above every control" in better
