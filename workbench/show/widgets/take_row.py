"""One line of the history of takes: a tick, a name that can be changed, and what the take is, in words."""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import ipywidgets

from workbench.show.widgets.player import shortened

if TYPE_CHECKING:
    from workbench.generation.take import Take

_PLAN = 80  # letters of a plan that are shown


class TakeRow(ipywidgets.HBox):
    """A take under its name.

    Args:
        name: what it is called.
        take: the take.
        heard: what a judge heard in it; empty where there is none.
        on_tick: called when the tick has changed.
        on_rename: called with the row and the new name; returns the name that it gets.
    """

    def __init__(
        self,
        name: str,
        take: Take,
        heard: str,
        *,
        on_tick: Callable[[], object],
        on_rename: Callable[[TakeRow, str], str],
    ) -> None:
        self.name, self.take, self.heard = name, take, heard
        self.path: Path | None = None
        self.saved_as = ""
        self._rename = on_rename
        self.tick = ipywidgets.Checkbox(
            value=False, indent=False, layout={"width": "26px"}, tooltip="Compare this take"
        )
        self.label = ipywidgets.Text(value=name, continuous_update=False, layout={"width": "200px"})
        self.words = ipywidgets.HTML(layout={"flex": "1 1 200px", "min_width": "0"})
        super().__init__(
            [self.tick, self.label, self.words], layout={"align_items": "center", "width": "100%"}
        )
        self.tell()
        self.tick.observe(lambda _change: on_tick(), "value")
        self.label.observe(self._named, "value")

    def saved(self, path: Path) -> None:
        """Note that the take lies in `path`, under its present name."""
        self.path, self.saved_as = path, self.name
        self.tell()

    def forget(self) -> None:
        """Close the line and its parts: what is open is held for good, and the take with it."""
        for part in (*self.children, self):
            part.close()

    def tell(self) -> None:
        """Say what the take is and where it was saved."""
        take = self.take
        plan = shortened(take.steering) or "unsteered"
        short = plan if len(plan) <= _PLAN else f"{plan[: _PLAN - 1]}…"
        told = [
            f"<code title='{html.escape(take.steering, quote=True)}'>{html.escape(short)}</code>",
            html.escape(take.prompt),
            f"seed {html.escape(str(take.seed))}",
            f"{take.seconds:.1f} s",
        ]
        if self.heard:
            told.append(f"heard as <b>{html.escape(self.heard)}</b>")
        told.append(f"saved in {html.escape(str(self.path))}" if self.path else "not saved")
        self.words.value = f"<div class='wb-note' style='line-height:1.35'>{' &middot; '.join(told)}</div>"

    def _named(self, change: dict[str, str]) -> None:
        if change["new"] != self.name:
            self.label.value = self.name = self._rename(self, change["new"])
