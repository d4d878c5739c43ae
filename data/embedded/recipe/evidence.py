"""The evidence for steering the built-in model, as a page with sound and as ``docs/results.md``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import workbench as wb
from recipe.card import table
from workbench.cli.tasks import directions_by_method
from workbench.evidence.report import Evidence, headline
from workbench.show.page import PUSHED, judge_rows, method_rows, way_rows

PAGE = "results.md"
CAVEAT = (
    "The judge learned from music of the composer that the model learned from, so this is movement inside "
    "one world; what a listener hears that learned from recordings stands in the "
    "[model card](../data/embedded/MODEL_CARD.md)."
)
ELSEWHERE = """## The same on a real checkpoint

```sh
workbench evaluate --model facebook/musicgen-small --music FOLDER --judge NAME --budget 600
```

`FOLDER` has a subfolder per genre; half of its groups make the directions, the other half validates the
judges and begins the transitions. The built-in judge knows the built-in music only: name a judge of
recordings. At 0.18 s a frame ([benchmarks](../BENCHMARKS.md)) a clip of 5 s takes musicgen-small 45 s on one
thread, so use `--device cuda` where there is a GPU; medium and large take the same command. Rows are
kept, so that it can be stopped and given again, and `client=` of `wb.evidence_report` shares the clips among
the workers of a cluster.
"""


def measure_evidence(out: Path, *, minutes: float = 40.0, progress: bool = True) -> Path:
    """Return the path of ``docs/results.md``, after writing it and the page in ``out``."""
    model, songs = wb.load("embedded"), wb.dataset("embedded")
    learnt, held = songs.split(test=0.5)
    layers = sorted({model.n_layers // 4, model.n_layers // 2})
    acts = wb.capture(model, learnt, seconds=5, layers=layers, progress=progress)
    options: dict[str, Any] = {"budget_minutes": minutes, "progress": progress}
    found = wb.evidence_report(model, directions_by_method(acts), music=held, folder=out, **options)
    docs = Path(__file__).resolve().parents[3] / "docs"
    (docs / PAGE).write_text(results_text(found), encoding="utf-8")
    return docs / PAGE


def results_text(found: Evidence) -> str:
    """Return the figures of the evidence as Markdown."""
    parts = [
        "# Is the steering real? Results for the built-in model\n",
        f"Measured by `make evidence`, minutes: {found.settings['minutes']}. {headline(found.verdicts)}\n",
        f"{CAVEAT}\n",
        "\n".join(f"- {one.sentence}" for one in found.verdicts.values()) + "\n",
        *_chosen(found),
        *_methods(found),
        *_ways(found),
        *_turns(found),
        *_judges(found),
        "## Settings\n",
        "\n".join(f"- {name}: {_few(value)}" for name, value in found.settings.items()) + "\n",
        ELSEWHERE,
    ]
    return "\n".join(parts)


def _few(value: str, most: int = 12) -> str:
    """Return a list in words, cut where it is long."""
    parts = value.split(", ")
    return value if len(parts) <= most else f"{', '.join(parts[:2])} and {len(parts) - 2} more"


def _interval(row: Any, name: str, form: str = ".0%") -> str:
    value, low, high = (format(round(row[f"{name}{end}"], 2) + 0.0, form) for end in ("", "_low", "_high"))
    return f"{value} ({low} to {high})"


def _chosen(found: Evidence) -> Iterator[str]:
    yield "## Beside controls\n"
    yield (
        "Share of clips that are heard as the genre, at the chosen dose, with 95 % intervals; "
        f"directions by {found.main}. The last column is the p-value of beating every control, in pairs, "
        "adjusted over genres (Holm).\n"
    )
    rows = found.table[found.table["chosen"]]
    names = list(dict.fromkeys([found.main, *rows["method"]]))
    lines = []
    for aim, part in rows.groupby("aim", sort=False):
        own = part.set_index("method")
        cells = [_interval(own.loc[name], "hit_rate") for name in names]
        mine = own.loc[found.main]
        lines.append([str(aim), f"{mine['layer']:g}", f"{mine['dose']:g}", str(mine["n"]), *cells,
                      f"{mine['adjusted_p']:.2g}"])  # fmt: skip
    yield table(["genre", "layer", "dose", "n", *names, "p"], lines)


def _methods(found: Evidence) -> Iterator[str]:
    yield "## Methods, over all genres\n"
    yield table(*method_rows(found))


def _ways(found: Evidence) -> Iterator[str]:
    yield "## Ways to push\n"
    yield f"{PUSHED} Over all genres, layers as chosen above.\n"
    yield table(*way_rows(found))


def _turns(found: Evidence) -> Iterator[str]:
    if len(found.turns):
        yield "## Transitions\n"
        yield "Gain in P(new genre) from the given five seconds to the five that follow, in pairs.\n"
        yield table(
            list(found.turns.columns), [[str(cell) for cell in row] for row in found.turns.to_numpy()]
        )


def _judges(found: Evidence) -> Iterator[str]:
    yield "## Judges\n"
    yield "AUC by rank, and by how much the codec's round trip alone moves the mean probability.\n"
    yield table(*judge_rows(found))
