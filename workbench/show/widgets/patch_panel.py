"""The patch panel: a heat map of patches whose cells play, beside the music as it is and its source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ipywidgets

from workbench.evidence.causal import PatchMap
from workbench.generation.take import Take
from workbench.model.musicgen import Model
from workbench.show.widgets import ui
from workbench.show.widgets.base import Job, JobPanel, PlotPanel, Points
from workbench.show.widgets.players import ComparisonPlayer
from workbench.sound import Clip


class PatchPanel(ui.Panel):
    """The heat map of a `PatchMap`; a click on a cell draws the music with that patch, and plays it.

    Args:
        model: the model that the map is of.
        found: the map.
        sounds: what stands beside the patched music in the player, such as both takes of the map.
    """

    def __init__(
        self, model: Model, found: PatchMap, sounds: Mapping[str, Take | Clip] | None = None
    ) -> None:
        self.model, self.found, self.cell = model, found, (0, 0)
        self.take: Take | None = None
        self.sounds = {
            name: one.clip if isinstance(one, Take) else one for name, one in (sounds or {}).items()
        }
        halves = {"prompted half": "cond", "unprompted half": "null"}
        shown = [(words, branch) for words, branch in halves.items() if branch in found.branches]
        self.branch = ui.control(ipywidgets.Dropdown, "patched", options=shown)
        self.plot, self.player = PlotPanel(name="patches"), ComparisonPlayer(self.sounds)
        self.job = JobPanel(self._draw_music, label="Play this patch", on_done=self._show_music)
        self.plot.on_click(self._clicked)
        super().__init__([self.branch, self.plot, self.job, self.player])
        ui.follow([self.branch], self._redraw)
        self._redraw()

    def hear(self, line: int, window: int) -> Take:
        """Draw the music with the patch of a cell, play it beside the others, and return it."""
        self.cell = (line, window)
        return self.job.start().wait()

    def _clicked(self, points: Points) -> None:
        for point in points[:1]:
            if isinstance(point.get("data"), list):
                self.cell = (int(point["data"][0]), int(point["data"][1]))
                self.job.start()

    def _draw_music(self, job: Job) -> Take:
        line, window = self.cell
        frames = self.found.onto.codes.shape[1]

        def on_frame(done: int, _codes: object) -> None:
            job.progress(done / frames, self._words())

        options: dict[str, Any] = {"on_frame": on_frame, "cancel": job.cancel}
        return self.found.hear(self.model, line, window, branch=self.branch.value, **options)

    def _show_music(self, take: Take) -> None:
        self.take = take
        name = f"patched: {self._words()}"
        self.player.load({**self.sounds, name: take.clip})
        self.player.play(name)

    def _words(self) -> str:
        line, window = self.cell
        start, end = self.found.seconds(window)
        return f"{self.found.lines[line]}, {start:.1f} to {end:.1f} s"

    def _redraw(self) -> None:
        self.plot.show(self.found.plot(self.branch.value), table=self.found.table())
