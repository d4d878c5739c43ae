"""The parts of a self-contained HTML page: one stylesheet, figures with plotly.js inside, escaped tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

from workbench.show.plots.grammar import CONFIG, plotly_source

CSS = Path(__file__).with_name("page.css")


def document(title: str, parts: Iterable[str], *, script: str = "") -> str:
    """Return a whole page; `parts` are HTML, `title` is text."""
    return "".join(
        [
            "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
            "<meta name='viewport' content='width=device-width, initial-scale=1'>",
            f"<title>{escape(title)}</title><link rel='icon' href='data:,'>",
            f"<style>{CSS.read_text(encoding='utf-8')}</style></head><body><main>",
            *parts,
            f"</main>{f'<script>{script}</script>' if script else ''}</body></html>\n",
        ]
    )


def figures(drawn: Mapping[str, Any], *, first: bool = True) -> str:
    """Return plotly figures by caption.

    Args:
        drawn: caption -> figure.
        first: whether these are the first of their page, which then bring plotly.js along.
    """
    library = _library() if first and drawn else ""
    return library + "".join(
        f"<figure aria-label='{escape(caption, quote=True)}'>"
        + figure.to_html(
            full_html=False, include_plotlyjs=False, config=dict(CONFIG)
        )  # plotly changes the dict
        + "</figure>"
        for caption, figure in drawn.items()
    )


def _library() -> str:
    """Return plotly.js, and its settings for the whole page: `to_html` drops an empty server's address."""
    return f"<script>{plotly_source()}</script><script>Plotly.setPlotConfig({json.dumps(CONFIG)})</script>"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return an HTML table, everything escaped."""
    top = "".join(f"<th scope='col'>{escape(cell)}</th>" for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows)
    return f"<div class='table'><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
