"""The map: every clip a point, alike where the model's activations are alike; a click plays the clip."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ipywidgets

from workbench.errors import Cancelled
from workbench.show.colours import colours_for
from workbench.show.plots import map_scatter
from workbench.show.widgets.job_panel import Job, JobPanel, note_html, problem_html
from workbench.show.widgets.player import ComparisonPlayer
from workbench.show.widgets.plot_panel import PlotPanel, Points

if TYPE_CHECKING:
    from workbench.activations import Activations
    from workbench.probing.projection import Projection
    from workbench.sound.dataset import Dataset

Settings = tuple[int, str, int, int]  # layer, method, seed, neighbours
NARROW: dict[str, Any] = {"width": "210px"}
WIDE: dict[str, Any] = {"width": "300px"}


class MapPanel(ipywidgets.VBox):
    """A map of the clips at one layer; layer, method, seed, neighbours and colours can be changed.

    Args:
        acts: pooled activations of the clips.
        dataset: where the clips' sound comes from, by the ids in `acts`.
        layer: the first layer shown; by default the middle one.
        method: "umap" (a few seconds, the first time longer) or "pca".
        projection: a finished projection to begin with; without it `wait()` returns the first one.
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
    ) -> None:
        self.acts, self.dataset = acts, dataset
        self.projection: Projection | None = projection
        self._made: dict[Settings, Projection] = {}
        self._shown: Settings | None = None
        layers = [int(each) for each in acts.layers]
        first = (layers[len(layers) // 2] if layer is None else layer, method, seed, neighbours)
        if projection is not None:
            first = (int(projection.layer), projection.method, projection.seed, neighbours)
        self._add_controls(layers, first, colour_by)
        self.status = ipywidgets.HTML(note_html("Click a point to hear the clip."))
        self.player = ComparisonPlayer()
        self.job: JobPanel[Settings] = JobPanel(self._project, label="Draw again", on_done=self._show)
        self.plot: PlotPanel | None = None
        super().__init__([self._controls, self.job, self.status, self.player], layout={"width": "100%"})
        if projection is None:
            self.job.start()
        else:
            self._made[self.settings] = projection
            self._show(self.settings)
        for control in (self.layer, self.method, self.neighbours, self.seed):
            control.observe(lambda _change: self.start(), "value")
        self.colour.observe(lambda _change: self._redraw(), "value")
        self.job.observe(lambda _change: self._catch_up(), "state")

    def _add_controls(self, layers: list[int], first: Settings, colour_by: str) -> None:
        layer, method, seed, neighbours = first
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
        self.seed = ipywidgets.BoundedIntText(
            description="seed", min=0, max=2**31 - 1, value=seed, layout=NARROW
        )
        names = [*self.acts.targets] or [colour_by]
        chosen = colour_by if colour_by in names else names[0]
        self.colour = ipywidgets.Dropdown(description="colour by", options=names, value=chosen, layout=NARROW)
        self._controls = ipywidgets.HBox(
            [self.layer, self.method, self.neighbours, self.seed, self.colour],
            layout={"flex_flow": "row wrap"},
        )

    @property
    def settings(self) -> Settings:
        """Layer, method, seed and neighbours as the controls stand."""
        return self.layer.value, self.method.value, self.seed.value, self.neighbours.value

    def start(self) -> MapPanel:
        """Draw the map of the present settings, at once if it was made before, else in a worker thread."""
        self.neighbours.disabled = self.method.value == "pca"
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
        sound = self.dataset.clip(clip_id)
        entry = self.dataset.subset([clip_id]).entries[0]
        genre = str(entry.labels.get("genre", ""))
        name = f"{genre}: {clip_id}" if genre else clip_id
        self.player.load({name: sound}, colours={name: colours_for([genre])[genre]} if genre else None)
        self.player.play(name)
        told = ", ".join(
            f"{key}: {value:g}" if isinstance(value, float) else f"{key}: {value}"
            for key, value in entry.labels.items()
        )
        self.status.value = note_html(f"Playing {clip_id} ({told})")
        self._redraw(playing=clip_id)

    def _project(self, job: Job) -> Settings:
        """Make the projection of the present settings and return these."""
        from workbench.probing.projection import project

        layer, method, seed, neighbours = wanted = self.settings
        job.progress(0.1, f"{method.upper()} of layer {layer}")
        made = self._made.get(wanted) or project(
            self.acts, layer, method=method, seed=seed, neighbours=neighbours
        )
        if job.cancel.is_set():  # neither UMAP nor PCA can be stopped half-way
            raise Cancelled("The map was cancelled.")
        self._made[wanted] = made
        return wanted

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
        figure = map_scatter(self.projection, colour_by=self.colour.value, playing=playing)
        table = self.projection.table()
        if self.plot is None:
            self.plot = PlotPanel(figure, table=table, name="map")
            self.plot.on_click(self._clicked)
            self.children = [self._controls, self.job, self.plot, self.status, self.player]
        else:
            self.plot.show(figure, table=table)

    def _clicked(self, points: Points) -> None:
        """Play the clicked clip; what goes wrong is shown, since nobody sees a callback's traceback."""
        clips = [point["data"] for point in points if isinstance(point.get("data"), str)]
        try:
            for clip in clips[:1]:
                self.play(clip)
        except Exception as error:
            self.status.value = problem_html(error)
