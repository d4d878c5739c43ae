"""A list of clips that were picked in a figure: choose one line, hear that clip."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import ipywidgets

from workbench.show.widgets.job_panel import note_html

ROWS = 8  # lines that are seen at once


class ClipList(ipywidgets.VBox):
    """Clips by id, with a line of words each; hidden while it is empty.

    Args:
        on_choose: called with the id of the line that was chosen.
    """

    def __init__(self, on_choose: Callable[[str], object]) -> None:
        self._on_choose = on_choose
        self.head = ipywidgets.HTML()
        self.lines = ipywidgets.Select(options=[], rows=ROWS, layout={"width": "100%"})
        super().__init__([self.head, self.lines], layout={"display": "none", "width": "100%"})
        self.lines.observe(self._chosen, "value")

    def show(self, clips: Sequence[str], words: Sequence[str], *, title: str) -> None:
        """List these clips, each with its words, under a title; nothing is chosen yet."""
        self.lines.unobserve(self._chosen, "value")
        self.lines.options = list(zip(words, clips, strict=True))
        self.lines.value = None
        self.lines.rows = max(2, min(ROWS, len(clips)))
        self.lines.observe(self._chosen, "value")
        self.head.value = note_html(title)
        self.layout.display = "" if clips else "none"

    @property
    def clips(self) -> list[str]:
        """The ids listed."""
        return [str(clip) for _, clip in self.lines.options]

    def _chosen(self, change: dict[str, object]) -> None:
        if isinstance(change["new"], str):
            self._on_choose(change["new"])
