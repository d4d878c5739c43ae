"""The map: every clip a point, alike where the model's activations are alike; a click plays the clip.

All maps of one panel are laid onto that of the middle layer, so that points move from layer to layer and do
not jump.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import ipywidgets
import numpy as np

from workbench.errors import Cancelled
from workbench.show.plots import map_scatter
from workbench.show.plots.grammar import colours_for
from workbench.show.widgets.base import ClipList, Job, JobPanel, PlotPanel, Points, note_html, problem_html
from workbench.show.widgets.players import ComparisonPlayer

if TYPE_CHECKING:
    from workbench.activations import Activations
    from workbench.probing.probe import ProbeSweep
    from workbench.probing.projection import Projection
    from workbench.sound import Clip
    from workbench.sound.dataset import Dataset

Settings = tuple[int, str, int, int, float]  # layer, method, seed, neighbours, min_distance
PROBE_SAYS, PROBE_RIGHT = "probe says", "probe is right"
NARROW: dict[str, Any] = {"width": "210px"}
WIDE: dict[str, Any] = {"width": "300px"}


class MapPanel(ipywidgets.VBox):
    """A map of the clips at one layer; layer, method, seed, neighbours and colours can be changed.

    A click plays a clip; a box drawn with the mouse lists the clips in it, and a line of the list plays.

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
        self._made: dict[Settings, Projection] = {}
        self._shown: Settings | None = None
        layers = [int(each) for each in acts.layers]
        self._middle = layers[len(layers) // 2] if projection is None else int(projection.layer)
        first = (layers[len(layers) // 2] if layer is None else layer, method, seed, neighbours, 0.1)
        if projection is not None:
            first = (int(projection.layer), projection.method, projection.seed, neighbours, 0.1)
        self._add_controls(layers, first, colour_by)
        self.status = ipywidgets.HTML(note_html("Click a point to hear the clip; draw a box to list clips."))
        self.player = ComparisonPlayer()
        self.list = ClipList(self._chosen)
        self.job: JobPanel[Settings] = JobPanel(self._project, label="Draw again", on_done=self._show)
        self.plot: PlotPanel | None = None
        below = [self.status, self.list, self.player]
        super().__init__([self._controls, self.job, *below], layout={"width": "100%"})
        if projection is None:
            self.job.start()
        else:
            self._made[self.settings] = projection
            self._show(self.settings)
        for control in (self.layer, self.method, self.neighbours, self.seed, self.min_distance):
            control.observe(lambda _change: self.start(), "value")
        self.colour.observe(lambda _change: self._redraw(), "value")
        self.job.observe(lambda _change: self._catch_up(), "state")

    def _add_controls(self, layers: list[int], first: Settings, colour_by: str) -> None:
        layer, method, seed, neighbours, min_distance = first
        self.layer = ipywidgets.SelectionSlider(
            description="layer", options=layers, value=layer, continuous_update=False, layout=WIDE
        )
        self.method = ipywidgets.Dropdown(
            description="method", options=[("UMAP", "umap"), ("PCA", "pca")], value=method, layout=NARROW
        )
        self.neighbours = ipywidgets.IntSlider(
            description="neighbours",
            min=2,
            max=100,
            value=neighbours,
            continuous_update=False,
            layout=WIDE,
            disabled=method == "pca",
        )
        self.min_distance = ipywidgets.FloatSlider(
            description="spacing",
            tooltip="UMAP's min_dist: how close two points may lie",
            min=0.0,
            max=0.99,
            step=0.01,
            value=min_distance,
            continuous_update=False,
            layout=WIDE,
            disabled=method == "pca",
        )
        self.seed = ipywidgets.BoundedIntText(
            description="seed", min=0, max=2**31 - 1, value=seed, layout=NARROW
        )
        names = [*self.acts.targets] or [colour_by]
        chosen = colour_by if colour_by in names else names[0]
        self.colour = ipywidgets.Dropdown(description="colour by", options=names, value=chosen, layout=NARROW)
        self._controls = ipywidgets.HBox(
            [self.layer, self.method, self.neighbours, self.min_distance, self.seed, self.colour],
            layout={"flex_flow": "row wrap"},
        )

    @property
    def settings(self) -> Settings:
        """Layer, method, seed, neighbours and least distance as the controls stand."""
        map_ = self.method.value, self.seed.value, self.neighbours.value, self.min_distance.value
        return self.layer.value, *map_

    def start(self) -> MapPanel:
        """Draw the map of the present settings, at once if it was made before, else in a worker thread."""
        self.neighbours.disabled = self.min_distance.disabled = self.method.value == "pca"
        if self.settings in self._made and self.job.state != "running":
            self._show(self.settings)
        else:
            self.job.start()
        return self

    def wait(self, timeout_s: float | None = None) -> Projection:
        """Return the projection that is shown once the work has ended."""
        while self._shown != self.settings:  # another round begins when a control moved meanwhile
            self.job.wait(timeout_s)
        assert self.projection is not None
        return self.projection

    def play(self, clip_id: str) -> None:
        """Load one clip into the player, start it, and mark its point."""
        labels: dict[str, Any] = {}
        if clip_id in self.sounds:
            sound = self.sounds[clip_id]
        else:
            sound = self.dataset.clip(clip_id)
            labels = dict(self.dataset.subset([clip_id]).entries[0].labels)
        genre = str(labels.get("genre", ""))
        name = f"{genre}: {clip_id}" if genre else clip_id
        self.player.load({name: sound}, colours={name: colours_for([genre])[genre]} if genre else None)
        self.player.play(name)
        told = ", ".join(
            f"{key}: {value:g}" if isinstance(value, float) else f"{key}: {value}"
            for key, value in labels.items()
        )
        self.status.value = note_html(f"Playing {clip_id}" + (f" ({told})" if told else ""))
        self._redraw(playing=clip_id)

    def _project(self, job: Job) -> Settings:
        """Make the projection of the present settings and return these."""
        wanted = self.settings
        job.progress(0.1, f"{wanted[1].upper()} of layer {wanted[0]}")
        made = self._aligned(wanted)
        if job.cancel.is_set():  # neither UMAP nor PCA can be stopped half-way
            raise Cancelled("The map was cancelled.")
        self._made[wanted] = made
        return wanted

    def _aligned(self, wanted: Settings) -> Projection:
        """Return the map of these settings, laid onto that of the middle layer."""
        from workbench.probing.projection import project

        if wanted in self._made:
            return self._made[wanted]
        layer, method, seed, neighbours, min_distance = wanted
        middle = (self._middle, *wanted[1:])
        near = None if layer == self._middle else self._aligned(middle)
        if near is not None:
            self._made[middle] = near
        made = project(
            self.acts,
            layer,
            method=method,
            random_state=seed,
            neighbours=neighbours,
            min_distance=min_distance,
            near=near,
        )
        return made if self.sweep is None else with_answers(made, self.sweep)

    def _catch_up(self) -> None:
        """Go on with settings that were changed while a map was being made: the last ones win."""
        if self.job.state == "done" and self._shown != self.settings:
            self.start()

    def _show(self, settings: Settings) -> None:
        """Draw a projection that was made; the labels it carries become the choices of colour."""
        self.projection = self._made[settings]
        names = [str(name) for name in self.projection.labels]
        if list(self.colour.options) != names:
            chosen = self.colour.value if self.colour.value in names else names[0]
            self.colour.options = names  # ipywidgets then chooses the first, whatever was chosen before
            self.colour.value = chosen
        self._redraw()
        self._shown = settings  # last: whoever waits for it may look at the figure

    def _redraw(self, playing: str | None = None) -> None:
        if self.projection is None:
            return
        joined = None if self.joined is None else self.projection.place(self.joined)
        figure = map_scatter(self.projection, colour_by=self.colour.value, playing=playing, joined=joined)
        table = self.projection.table()
        if self.plot is None:
            self.plot = PlotPanel(figure, table=table, name="map")
            self.plot.on_click(self._clicked)
            self.plot.on_select(self._selected)
            self.children = [self._controls, self.job, self.plot, self.status, self.list, self.player]
        else:
            self.plot.show(figure, table=table)

    def _clicked(self, points: Points) -> None:
        for clip in ids_of(points)[:1]:
            self._chosen(clip)

    def _selected(self, points: Points) -> None:
        """List the clips inside a box."""
        clips = list(dict.fromkeys(ids_of(points)))
        labels = self.projection.table().set_index("clip") if self.projection is not None else None
        known = set() if labels is None else set(labels.index)
        colour = self.colour.value
        words = [f"{labels.loc[c, colour]}: {c}" if labels is not None and c in known else c for c in clips]
        self.list.show(clips, words, title=f"{len(clips)} clips in the box; choose one to hear it.")

    def _chosen(self, clip: str) -> None:
        """Play a clip; what goes wrong is shown, since nobody sees a callback's traceback."""
        try:
            self.play(clip)
        except Exception as error:
            self.status.value = problem_html(error)


def ids_of(points: Points) -> list[str]:
    """Return the clip ids that points carry."""
    return [point["data"] for point in points if isinstance(point.get("data"), str)]


def with_answers(projection: Projection, sweep: ProbeSweep) -> Projection:
    """Return a map whose labels also tell what a probe that had not seen the clip's group answered."""
    if projection.layer not in sweep.layers:
        return projection
    held = sweep.held_out[sweep.held_out["layer"] == projection.layer].set_index("clip")
    held = held.loc[projection.clips]
    right = np.where(held["truth"] == held["predicted"], "yes", "no")
    return projection.with_label(PROBE_SAYS, held["predicted"].to_numpy()).with_label(PROBE_RIGHT, right)
