"""Takes in words: what else changed beside the twin, how each was made, and the code that makes it again."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import TYPE_CHECKING

from workbench.errors import GenerationError
from workbench.evidence.damage import damage
from workbench.generation.repeat import code_of
from workbench.show.widgets.job_panel import STYLE

if TYPE_CHECKING:
    from workbench.evidence.likelihood import Likelihood
    from workbench.generation.take import Take

# name in `damage` or of the likelihood -> heading, what it is multiplied by, format, unit
MEASURES = {
    "level_db": ("level", 1.0, ".1f", " dB"),
    "clipping": ("clipping", 100.0, ".1f", " %"),
    "silence": ("silence", 100.0, ".0f", " %"),
    "flatness": ("flatness", 1.0, ".3f", ""),
    "repetition": ("repetition", 100.0, ".0f", " %"),
    "nll": ("likelihood (NLL)", 1.0, ".2f", " nats"),
}


def twins_of(takes: Mapping[str, Take], reference: str | None) -> dict[str, str]:
    """Return name -> name of the take that each is measured beside.

    A named `reference` serves all. Otherwise a steered take's twin is the first unsteered one of the same
    model, prompt, seed and settings; takes without a twin are left out.
    """
    if reference is not None:
        return {name: reference for name in takes if name != reference}
    plain: dict[tuple[object, ...], str] = {}
    for name, take in takes.items():
        if not take.steering:
            plain.setdefault(_same(take), name)
    return {
        name: plain[_same(take)] for name, take in takes.items() if take.steering and _same(take) in plain
    }


def _same(take: Take) -> tuple[object, ...]:
    """What a twin must have in common."""
    given = round(take.given_s * take.codes.shape[-1] / take.seconds)
    heard = (take.codes[:, :given].tobytes(), take.melody, take.windows)
    settings = (take.guidance, take.temperature, take.top_k, take.codes.shape, *heard)
    return (take.model_id, take.prompt, take.seed, *settings)


def damage_html(takes: Mapping[str, Take], twins: Mapping[str, str], likely: Mapping[str, Likelihood]) -> str:
    """Return the guards of each take as a table, with the difference to its twin in brackets."""
    found = {name: dict(damage(take.new)) for name, take in takes.items()}
    for name, one in likely.items():
        found[name]["nll"] = one.nll
    measures = [name for name in MEASURES if any(name in row for row in found.values())]
    head = "".join(f"<th scope='col'>{MEASURES[name][0]}</th>" for name in measures)
    rows = "".join(
        f"<tr><th scope='row'>{html.escape(name)}</th>"
        + "".join(
            f"<td>{_cell(measure, row, found.get(twins.get(name, ''), {}))}</td>" for measure in measures
        )
        + "</tr>"
        for name, row in found.items()
    )
    note = f"<div class='wb-note'>{html.escape(_beside(takes, twins))}</div>"
    return (
        f"<style>{STYLE}</style><div class='wb-takes'><table><thead><tr><th scope='col'>take</th>{head}</tr>"
        f"</thead><tbody>{rows}</tbody></table>{note}</div>"
    )


def _cell(measure: str, row: Mapping[str, float], twin: Mapping[str, float]) -> str:
    if measure not in row:
        return ""
    _heading, times, form, unit = MEASURES[measure]
    told = f"{row[measure] * times:{form}}{unit}"
    if measure not in twin:
        return told
    return f"{told} ({(row[measure] - twin[measure]) * times:+z{form}})"


def _beside(takes: Mapping[str, Take], twins: Mapping[str, str]) -> str:
    """Say what the numbers in brackets are."""
    alone = [name for name, take in takes.items() if take.steering and name not in twins]
    references = sorted(set(twins.values()))
    told = f"In brackets: the change from {' and '.join(references)}." if references else ""
    if alone:
        told += f" No unsteered take of the same prompt, seed and settings is here for {', '.join(alone)}."
    return f"{told} None of these is a verdict: music may be loud, sparse or full of loops.".strip()


def made_html(takes: Mapping[str, Take]) -> str:
    """Return how each take was made, folded: plan, receipt, prompt, settings, code."""
    parts = "".join(_made(name, take) for name, take in takes.items())
    return f"<style>{STYLE}</style><div class='wb-takes'>{parts}</div>"


def _made(name: str, take: Take) -> str:
    rows = {
        "plan": f"<code>{html.escape(take.steering or 'unsteered')}</code>",
        "receipt": html.escape(str(take.receipt)),
        "prompt": html.escape(repr(take.prompt)),
        "drawn with": html.escape(
            f"seed {take.seed}, guidance {take.guidance:g}, temperature {take.temperature:g}, "
            f"top-k {take.top_k}, {take.seconds:.2f} s by {take.model_id or 'an unknown model'}"
        ),
    }
    if take.given_s:
        rows["goes on from"] = f"{take.given_s:.2f} s that were given"
    if take.windows:
        rows["windows"] = html.escape(
            "; ".join(f"{one.start_s:.1f}-{one.end_s:.1f} s: {one.prompt}" for one in take.windows)
        )
    table = "".join(f"<tr><th scope='row'>{what}</th><td>{told}</td></tr>" for what, told in rows.items())
    return (
        f"<details><summary>How <b>{html.escape(name)}</b> was made</summary><table>{table}</table>"
        f"<details><summary>The code that makes it again (one click selects it)</summary>{_code(take)}"
        "</details></details>"
    )


def _code(take: Take) -> str:
    try:
        return f"<pre>{html.escape(code_of(take))}</pre>"
    except GenerationError as problem:
        return f"<div class='wb-note'>{html.escape(str(problem))}</div>"
