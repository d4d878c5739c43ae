"""Views of probes, of a prompt before and after a push, of patches, and of all clips as a map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import ipywidgets
import numpy as np
import traitlets

from workbench.activations import Activations
from workbench.errors import Cancelled, ProbeError, SteeringError
from workbench.evidence.causal import PatchMap
from workbench.evidence.judge import Judge, load_judge
from workbench.generation.take import Take
from workbench.model.musicgen import Model
from workbench.probing import ProbeSweep, Projection, fit_probes, project
from workbench.show.plots import accuracy_per_layer, confusion, judged_genres, map_scatter
from workbench.show.widgets import ui
from workbench.show.widgets.fader import Fader
from workbench.show.widgets.players import ComparisonPlayer, shortened
from workbench.show.widgets.steer_lab import GeneratePanel
from workbench.sound import Clip, Dataset
from workbench.steering import Direction, Steering


class ProbePanel(ui.LookupPanel[str, ProbeSweep]):
    """Accuracy per layer with a choice of target; a target not fitted yet is fitted in a worker thread.

    Args:
        acts: pooled activations with labels; may be left out when only fitted `sweeps` are shown.
        targets: the labels to choose from, fitted or to be fitted on `acts` (else a ProbeError); by default
            those of `sweeps`, else "genre".
        sweeps: target -> fitted sweep, shown without fitting.
        options: of `fit_probes` (method, folds, seed, ...).

    `layer` is the layer whose confusions are shown, the best one until another is clicked; other panels may
    observe it.
    """

    layer = traitlets.Int(0)

    def __init__(
        self, acts: Activations | None = None, *, targets: Sequence[str] | None = None,
        sweeps: Mapping[str, ProbeSweep] | None = None, **options: Any,
    ) -> None:  # fmt: skip
        self.acts, self.options = acts, options
        self.sweeps = self.made = dict(sweeps or {})
        names = list(targets or self.sweeps or ["genre"])
        if acts is None and not set(names) <= set(self.sweeps):
            found = f"there are no activations and sweeps of {list(self.sweeps)} only"
            do = "Pass activations, or a sweep for every target"
            raise ProbeError(f"A view of the targets {names} was asked for", found, do)
        self.target = ui.control(ipywidgets.Dropdown, "target", options=names, value=names[0])
        self.status = ipywidgets.HTML()
        clips = 0 if acts is None else len(acts)
        timed = {"kind": ("Fit probes", clips)}
        self.job = self._make_job(self._fit, "Fit probes", lambda: str(self.target.value), **timed)
        self.job.layout.display = "none" if acts is None else ""
        self.accuracy, self.confusions = ui.PlotPanel(), ui.PlotPanel()
        self.accuracy.on_click(self._clicked)
        parts = [self.target, self.job, self.accuracy, self.status, self.confusions]
        super().__init__(parts)
        ui.follow([self.target], self.start)
        self.start()

    def _fit(self, job: ui.Job) -> str:
        assert self.acts is not None
        target = self._ask()
        self.made[target] = fit_in(job, self.acts, target, **self.options)
        return target

    def _draw(self, target: str) -> None:
        self._draw_layer(target, int(self.made[target].best.layer))

    def _clicked(self, points: ui.Points) -> None:
        for point in points[:1]:
            self.choose(round(point["x"]))

    def choose(self, layer: int) -> None:
        """Say in words how well one layer is read, and draw its confusions (else a ProbeError)."""
        self._draw_layer(str(self.shown), layer)

    def _draw_layer(self, target: str, layer: int) -> None:
        counts = self.made[target].confusion(layer)
        table = self.made[target].table()
        score = table.set_index("layer").loc[layer]
        self.layer = layer
        drawn = accuracy_per_layer(table, target=target, chosen=layer)
        self.accuracy.show(drawn, table=table, name=f"accuracy_{target}")
        interval = f"(95 % interval {score['low']:.1%} to {score['high']:.1%})"
        self.status.value = ui.note_html(
            f"Layer {layer}: accuracy {score['accuracy']:.1%} {interval}, macro F1 {score['macro_f1']:.2f}; "
            f"majority class {score['chance']:.1%}. Click another layer to compare."
        )
        counted, name = counts.rename_axis(index="truth").reset_index(), f"confusion_{target}_layer_{layer}"
        self.confusions.show(confusion(counts), table=counted, name=name)


def fit_in(job: ui.Job, acts: Activations, target: str, *, most: float = 1.0, **options: Any) -> ProbeSweep:
    """Return `fit_probes`; a job, of which it is the share `most`, shows its progress and can cancel it."""

    def report(done: int, layers: int) -> None:
        job.progress(most * done / layers, f"{target}: {done} of {layers} layers")

    job.progress(0.0, f"fitting probes of {target}")
    return fit_probes(acts, target, on_layer=report, **{"progress": False, **options})


class SteerPanel(GeneratePanel):
    """Prompt, one dose per direction, settings and Generate; then both versions in one comparison player.

    Args:
        directions: name -> unit Direction (one at least, else a SteeringError), or a ProbeSweep, which makes
            the layer a choice.
        judge: hears the results, as it is or by its name; its verdicts are drawn under the player.
        guidance: of the text; the model's own when None.

    `sliders["jazz"].value = 0.15` moves a slider; doses are in multiples of the layer's mean residual norm.
    What was made stands in `history`; the ticked takes are heard.
    """

    def __init__(
        self, model: Model, directions: Mapping[str, Direction] | ProbeSweep,
        judge: Judge | str | None = None, *, prompt: str = "a calm tune", seconds: float = 5.0, seed: int = 0,
        guidance: float | None = None,
    ) -> None:  # fmt: skip
        self._directions = directions
        self.judge = load_judge(judge) if isinstance(judge, str) else judge
        self._add_settings(model, prompt, seconds, seed, guidance)
        if not isinstance(directions, Mapping):
            layers, chosen = [int(probe.layer) for probe in directions.probes], int(directions.best.layer)
        elif directions:
            chosen = min(int(direction.layer) for direction in directions.values())
            layers = [chosen]
        else:
            do = "Pass a dict of directions or a probe sweep"
            raise SteeringError("A steering view was asked for", "no direction was given", do)
        self.layer = ui.control(
            ipywidgets.Dropdown, "layer", "200px", options=layers, value=chosen, disabled=len(layers) < 2
        )
        self.sliders = {name: Fader(name, breaks=model.breaking_dose) for name in self.directions}
        self.plan_text, self.player = ipywidgets.HTML(), ComparisonPlayer()
        self.verdict = ui.PlotPanel(name="judged")
        settings = ui.in_row(self.layer, self.guidance, self.seconds, self.seed, self.control)
        above = [self.prompt, ui.in_row(*self.sliders.values()), settings, self.plan_text]
        super().__init__([*above, self.job, self.history, self.player, self.verdict])
        ui.follow([self.layer, *self.sliders.values()], self._write_plan)
        self._write_plan()

    @property
    def directions(self) -> dict[str, Direction]:
        """The directions in force, by name; of the chosen layer if they come from probes."""
        if isinstance(self._directions, Mapping):
            return dict(self._directions)
        return dict(self._directions.directions(self.layer.value))

    @property
    def steering(self) -> Steering | None:
        """The plan that the sliders say, None when all doses are 0."""
        doses = {name: ui.value_of(slider) for name, slider in self.sliders.items()}
        terms = [self.directions[name].at(dose) for name, dose in doses.items() if dose]
        return sum(terms[1:], terms[0]) if terms else None

    def _hear_takes(self, takes: Mapping[str, Take]) -> None:
        plans = {name: take.steering for name, take in takes.items()}
        self.player.load({name: take.clip for name, take in takes.items()}, details=plans)
        if self.judge is not None and takes:
            rows = self.judge.probabilities(list(self.player.sounds.values())).tolist()
            shares = [dict(zip(self.judge.classes, row, strict=True)) for row in rows]
            self.verdict.show(judged_genres(dict(zip(takes, shares, strict=True))))
        elif not takes:
            self.verdict.layout.display = "none"  # what it said of them is gone with them

    def _say_plan(self, plan: Steering) -> None:
        before = self.layer.value, {name: slider.value for name, slider in self.sliders.items()}
        layer = plan.layers[0] if plan.layers else self.layer.value
        self.layer.value = layer if layer in self.layer.options else self.layer.value
        names = {direction: name for name, direction in self.directions.items()}
        doses = {names.get(term.direction, ""): term.dose for term in plan.terms}
        for name, slider in self.sliders.items():
            slider.value = doses.get(name, 0.0)
        if set(plan.terms) != set(() if self.steering is None else self.steering.terms):
            self.layer.value = before[0]
            for name, dose in before[1].items():
                self.sliders[name].value = dose
            asked, found = f"The plan {plan.text()} was to be set", "these faders push plainly, at one layer"
            raise SteeringError(asked, found, "Open the take in wb.SteerLab, whose line takes any plan")

    def _write_plan(self) -> None:
        plan = self.steering
        text = "no steering: all doses are 0" if plan is None else f"plan: {shortened(plan.text())}"
        self.plan_text.value = ui.note_html(f"{text} (doses in multiples of the layer's mean residual norm)")


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
        self.sounds = {n: one.clip if isinstance(one, Take) else one for n, one in (sounds or {}).items()}
        halves = {"prompted half": "cond", "unprompted half": "null"}
        shown = [(words, branch) for words, branch in halves.items() if branch in found.branches]
        self.branch = ui.control(ipywidgets.Dropdown, "patched", options=shown)
        self.plot, self.player = ui.PlotPanel(name="patches"), ComparisonPlayer(self.sounds)
        self.job = ui.JobPanel(self._draw_music, label="Play this patch", on_done=self._show_music)
        self.plot.on_click(self._clicked)
        super().__init__([self.branch, self.plot, self.job, self.player])
        ui.follow([self.branch], self._redraw)
        self._redraw()

    def hear(self, line: int, window: int) -> Take:
        """Draw the music with the patch of a cell, play it beside the others, and return it."""
        self.cell = (line, window)
        return self.job.start().wait()

    def _clicked(self, points: ui.Points) -> None:
        for point in points[:1]:
            if isinstance(point.get("data"), list):
                self.cell = (int(point["data"][0]), int(point["data"][1]))
                self.job.start()

    def _draw_music(self, job: ui.Job) -> Take:
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


# UMAP cannot be stopped half-way: a map that was cancelled ends here unseen, and the next one waits for it.
_DRAWS = ThreadPoolExecutor(1, "workbench map")
Settings = tuple[int, str, int, int, float]  # layer, method, seed, neighbours, min_distance


class MapPanel(ui.LookupPanel[Settings, Projection]):
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
        self, acts: Activations, dataset: Dataset, *, layer: int | None = None, method: str = "umap",
        seed: int = 0, neighbours: int = 15, colour_by: str = "genre", projection: Projection | None = None,
        sweep: ProbeSweep | None = None, joined: Activations | None = None,
        sounds: Mapping[str, Clip] | None = None,
    ) -> None:  # fmt: skip
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
        self.plot = ui.PlotPanel(name="map")
        self.plot.on_click(lambda points: [play(clip) for clip in ids_of(points)[:1]])
        self.plot.on_select(self._selected)
        timed = {"kind": ("map", len(acts)), "size": self._maps}
        self.job = self._make_job(self._project, "Draw again", lambda: self.settings, **timed)
        # The player stands beside the map where there is room for both, else below it.
        self.plot.layout.flex, self.plot.layout.min_width = "2 1 560px", "0"
        beside = ui.Panel([self.status, self.list, self.player])
        beside.layout.width, beside.layout.flex, beside.layout.min_width = "auto", "1 1 340px", "0"
        look = {"flex_flow": "row wrap", "align_items": "flex-start", "grid_gap": "0 16px", **ui.FULL}
        super().__init__([self._controls, self.job, ipywidgets.Box([self.plot, beside], layout=look)])
        if projection is not None:
            self.made[self.settings] = projection
        self.start()
        ui.follow([self.layer, self.method, self.neighbours, self.seed, self.min_distance], self.start)
        ui.follow([self.colour], self._redraw_anew)

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

    def _project(self, job: ui.Job) -> Settings:
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

    def _draw(self, settings: Settings) -> None:
        """Draw a projection that was made; the labels it carries become the choices of colour."""
        self.projection = self.made[settings]
        names = [str(name) for name in self.projection.labels]
        if list(self.colour.options) != names:
            ui.offer(self.colour, names, names[0])
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

    def _selected(self, points: ui.Points) -> None:
        clips = list(dict.fromkeys(ids_of(points)))
        assert self.projection is not None
        labels = dict(self.projection.table().set_index("clip")[self.colour.value])
        words = [f"{labels[clip]}: {clip}" if clip in labels else clip for clip in clips]
        self.list.show(clips, words, title=f"{len(clips)} clips in the box; choose one to hear it.")


def ids_of(points: ui.Points) -> list[str]:
    """Return the clip ids that points carry."""
    return [point["data"] for point in points if isinstance(point.get("data"), str)]
