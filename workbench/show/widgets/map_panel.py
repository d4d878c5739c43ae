"""The map: every clip a point, alike where the model's activations are alike; a click plays the clip."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import ipywidgets
import numpy as np

from workbench.activations import Activations
from workbench.errors import Cancelled
from workbench.probing.probe import ProbeSweep
from workbench.probing.projection import Projection, project
from workbench.show.plots import map_scatter
from workbench.show.widgets import ui
from workbench.show.widgets.base import Job, LookupPanel, PlotPanel, Points
from workbench.show.widgets.players import ComparisonPlayer
from workbench.sound import Clip
from workbench.sound.dataset import Dataset

# UMAP cannot be stopped half-way: a map that was cancelled ends here unseen, and the next one waits for it.
_DRAWS = ThreadPoolExecutor(1, "workbench map")
Settings = tuple[int, str, int, int, float]  # layer, method, seed, neighbours, min_distance


class MapPanel(LookupPanel[Settings, Projection]):
    """A map of the clips at one layer; layer, method, seed, neighbours and colours can be changed.

    A click plays a clip; a box drawn with the mouse lists the clips in it, and a line of the list plays. All
    maps are laid onto that of the middle layer, so that points move from layer to layer and do not jump.

    Args:
        acts: pooled activations of the clips.
        dataset: where the clips' sound comes from, by the ids in `acts`.
        layer: the first layer shown; by default the middle one.
        method: "umap" (a few seconds, the first time longer) or "pca".
        projection: a finished projection to begin with; without it `wait()` returns the first one.
        sweep: probes of the same samples; their held-out answers become colours, so that errors show.
        joined: activations of other clips (generated ones), placed on the map of the first.
        sounds: the sound of the joined clips by their ids.
    """

    def __init__(
        self,
        acts: Activations,
        dataset: Dataset,
        *,
        layer: int | None = None,
        method: str = "umap",
        seed: int = 0,
        neighbours: int = 15,
        colour_by: str = "genre",
        projection: Projection | None = None,
        sweep: ProbeSweep | None = None,
        joined: Activations | None = None,
        sounds: Mapping[str, Clip] | None = None,
    ) -> None:
        self.acts, self.dataset = acts, dataset
        self.sweep, self.joined, self.sounds = sweep, joined, dict(sounds or {})
        self.projection: Projection | None = projection
        self.made, self._revision = {}, 0
        layers = [int(each) for each in acts.layers]
        self._middle = layers[len(layers) // 2] if projection is None else int(projection.layer)
        first = (self._middle if layer is None else layer, method, seed, neighbours, 0.1)
        if projection is not None:
            first = (self._middle, projection.method, projection.seed, neighbours, 0.1)
        self._add_controls(layers, first, colour_by)
        hint = "Click a point to hear the clip; draw a box to list clips."
        self.status = ipywidgets.HTML(ui.note_html(hint))
        self.player = ComparisonPlayer()
        play = ui.shows_errors(self.play, self.status)
        self.list = ui.ClipList(play)
        self.plot = PlotPanel(name="map")
        self.plot.on_click(lambda points: [play(clip) for clip in ids_of(points)[:1]])
        self.plot.on_select(self._selected)
        self.job = self._make_job(self._project, "Draw again", kind=("map", len(acts)), size=self._maps)
        super().__init__([self._controls, self.job, self._map_and_player()])
        if projection is not None:
            self.made[self.settings] = projection
        self.start()
        ui.follow([self.layer, self.method, self.neighbours, self.seed, self.min_distance], self.start)
        ui.follow([self.colour], self._redraw_anew)

    def _map_and_player(self) -> ipywidgets.Box:
        """Return the map, and the player beside it where there is room for both, else below it."""
        self.plot.layout.flex, self.plot.layout.min_width = "2 1 560px", "0"
        beside = ui.Panel([self.status, self.list, self.player])
        beside.layout.width, beside.layout.flex, beside.layout.min_width = "auto", "1 1 340px", "0"
        look = {"flex_flow": "row wrap", "align_items": "flex-start", "grid_gap": "0 16px", **ui.FULL}
        return ipywidgets.Box([self.plot, beside], layout=look)

    def _add_controls(self, layers: list[int], first: Settings, colour_by: str) -> None:
        layer, method, seed, neighbours, spacing = first
        methods = [("UMAP", "umap"), ("PCA", "pca")]
        names = [*self.acts.targets] or [colour_by]
        chosen = colour_by if colour_by in names else names[0]
        self.layer = ui.control(ipywidgets.SelectionSlider, "layer", "300px", options=layers, value=layer)
        self.method = ui.control(ipywidgets.Dropdown, "method", "210px", options=methods, value=method)
        few, near = {"min": 2, "max": 100, "value": neighbours}, {"max": 0.99, "step": 0.01, "value": spacing}
        hint = "UMAP's min_dist: how close two points may lie"
        self.neighbours = ui.control(ipywidgets.IntSlider, "neighbours", "300px", **few)
        self.min_distance = ui.control(ipywidgets.FloatSlider, "spacing", "300px", tooltip=hint, **near)
        self.seed = ui.control(ipywidgets.BoundedIntText, "seed", "210px", min=0, max=2**31 - 1, value=seed)
        self.colour = ui.control(ipywidgets.Dropdown, "colour by", "210px", options=names, value=chosen)
        umap = self.neighbours, self.min_distance
        self._controls = ui.in_row(self.layer, self.method, *umap, self.seed, self.colour)

    @property
    def settings(self) -> Settings:
        """Layer, method, seed, neighbours and least distance as the controls stand."""
        map_ = self.method.value, self.seed.value, self.neighbours.value, self.min_distance.value
        return self.layer.value, *map_

    def start(self) -> MapPanel:
        """Draw the map of the present settings, at once if it was made before, else in a worker thread."""
        self.neighbours.disabled = self.min_distance.disabled = self.method.value == "pca"
        return super().start()

    def play(self, clip_id: str) -> None:
        """Load one clip into the player, start it, and mark its point."""
        labels: dict[str, Any] = {}
        sound = self.sounds.get(clip_id)
        if sound is None:
            sound = self.dataset.clip(clip_id)
            labels = dict(self.dataset.subset([clip_id]).entries[0].labels)
        self.player.play_one(clip_id, sound, str(labels.get("genre", "")))
        values = {key: f"{v:g}" if isinstance(v, float) else str(v) for key, v in labels.items()}
        words = ", ".join(f"{key}: {value}" for key, value in values.items())
        self.status.value = ui.note_html(f"Playing {clip_id}" + (f" ({words})" if words else ""))
        self._redraw(playing=clip_id)

    def _project(self, job: Job) -> Settings:
        wanted = self.settings
        drawing = _DRAWS.submit(self._aligned, wanted)
        try:
            while not drawing.done():
                job.progress(0.0, f"{wanted[1].upper()} of layer {wanted[0]}")
                wait([drawing], 0.2)
        except Cancelled:
            drawing.cancel()
            raise
        self.made[wanted] = drawing.result()
        return wanted

    def _aligned(self, wanted: Settings) -> Projection:
        if wanted in self.made:
            return self.made[wanted]
        layer, method, seed, neighbours, spacing = wanted
        near, middle = None, (self._middle, *wanted[1:])
        if layer != self._middle:
            near = self.made[middle] = self._aligned(middle)
        settings: dict[str, Any] = {"method": method, "random_state": seed, "neighbours": neighbours}
        made = project(self.acts, layer, min_distance=spacing, near=near, **settings)
        if self.sweep is None or layer not in self.sweep.layers:
            return made
        answers = self.sweep.held_out[self.sweep.held_out["layer"] == layer].set_index("clip").loc[made.clips]
        right = np.where(answers["truth"] == answers["predicted"], "yes", "no")
        made = made.with_label("probe says", answers["predicted"].to_numpy())
        return made.with_label("probe is right", right)

    def _ask(self) -> Settings:
        return self.settings

    def _draw(self, settings: Settings) -> None:
        """Draw a projection that was made; the labels it carries become the choices of colour."""
        self.projection = self.made[settings]
        names = [str(name) for name in self.projection.labels]
        if list(self.colour.options) != names:
            chosen = self.colour.value if self.colour.value in names else names[0]
            self.colour.options = names  # ipywidgets then chooses the first, whatever was chosen before
            self.colour.value = chosen
        self._redraw_anew()

    def _maps(self) -> float:
        """Return how many maps by UMAP the next run makes: PCA takes no time."""
        wanted = self.settings
        missing = {wanted, (self._middle, *wanted[1:])} - set(self.made)
        return float(len(missing)) if self.method.value == "umap" else 0.0

    def _redraw_anew(self) -> None:
        """Draw the map without the box that was drawn on another one, and without its list."""
        self._revision += 1
        self.list.show([], [], title="")
        self._redraw()

    def _redraw(self, playing: str | None = None) -> None:
        if self.projection is None:
            return
        joined = None if self.joined is None else self.projection.place(self.joined)
        figure = map_scatter(self.projection, colour_by=self.colour.value, playing=playing, joined=joined)
        figure.update_layout(selectionrevision=self._revision)
        self.plot.show(figure, table=self.projection.table())

    def _selected(self, points: Points) -> None:
        clips = list(dict.fromkeys(ids_of(points)))
        assert self.projection is not None
        labels = dict(self.projection.table().set_index("clip")[self.colour.value])
        words = [f"{labels[clip]}: {clip}" if clip in labels else clip for clip in clips]
        self.list.show(clips, words, title=f"{len(clips)} clips in the box; choose one to hear it.")


def ids_of(points: Points) -> list[str]:
    """Return the clip ids that points carry."""
    return [point["data"] for point in points if isinstance(point.get("data"), str)]
