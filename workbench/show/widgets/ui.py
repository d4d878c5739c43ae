"""What panels are made of: labelled controls, work in a thread with progress and Cancel, figures to click."""

from __future__ import annotations

import base64
import gzip
import html
import json
import re
import threading
import time
import traceback
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Generic, Self, TypeVar

import anywidget
import ipywidgets
import pandas as pd
import traitlets

from workbench.errors import Cancelled, WorkbenchError
from workbench.show.plots.grammar import CONFIG, plotly_source
from workbench.show.widgets.kept import HERE, Kept, ScriptedWidget, picture_html, script

FULL = {"width": "100%"}
ROWS = 8  # lines of a list that are seen at once
SURE = 0.05  # from this share on the rest of the time is reckoned from it
W = TypeVar("W", bound=ipywidgets.Widget)
T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


def control(kind: type[W], name: str, width: str = "260px", **settings: Any) -> W:
    """Return a labelled control of a kind of ipywidgets, `width` wide where there is room for it."""
    # A slider that tells while it is dragged would echo, late and rounded, what a running cell has set.
    if issubclass(kind, (ipywidgets.FloatSlider, ipywidgets.IntSlider, ipywidgets.SelectionSlider)):
        settings.setdefault("continuous_update", False)
    settings.setdefault("tooltip", name)
    room = f"min(calc(100% - 4px), {width})"  # controls have a margin of 2 px all round
    return kind(description=name, layout={"width": room}, **settings)


def tick_box(words: str) -> ipywidgets.Checkbox:
    """Return a box with its words beside it."""
    layout = {"width": "auto", "margin": "2px 18px 2px 2px"}
    return ipywidgets.Checkbox(description=words, indent=False, layout=layout)


def button(text: str, tooltip: str, act: Callable[[], object], problem: ipywidgets.HTML) -> ipywidgets.Button:
    """Return a button that does `act`; what goes wrong is shown in `problem`."""
    made = ipywidgets.Button(description=text, tooltip=tooltip, layout={"width": "auto"})
    safely = shows_errors(act, problem)
    made.on_click(lambda _button: safely())
    return made


def shows_errors(act: Callable[..., object], problem: ipywidgets.HTML) -> Callable[..., None]:
    """Return `act` as a callback whose error is shown: nobody sees the traceback of a callback."""

    def safely(*arguments: Any) -> None:
        try:
            act(*arguments)
        except Exception as error:
            problem.value = problem_html(error)

    return safely


def follow(controls: Iterable[ipywidgets.Widget], act: Callable[[], object], trait: str = "value") -> None:
    """Call `act` whenever a trait of one of the controls has changed."""
    for one in controls:
        one.observe(lambda _change: act(), trait)


def offer(control: ipywidgets.Widget, options: Sequence[Any], otherwise: Any) -> None:
    """Offer options, values or (words, value); a value chosen before stays so where it is among them."""
    values = [one[1] if isinstance(one, tuple) else one for one in options]
    value = control.value if control.value in values else otherwise
    control.options = options  # ipywidgets then chooses the first, whatever was chosen before
    control.value = value


def value_of(number: Any) -> float:
    """Return what a control says; the page adds steps in binary and sends back 0.6000000000000001."""
    return round(float(number.value), 6)


def in_row(*parts: ipywidgets.Widget) -> ipywidgets.Box:
    """Return parts side by side, in more lines where there is no room."""
    return ipywidgets.Box(list(parts), layout={"flex_flow": "row wrap", "align_items": "center"})


class StyleSheet(anywidget.AnyWidget):
    """Brings style.css to a page that shows no other anywidget of ours; it is not seen itself."""

    _esm = "export default { render() {} };"
    _css = HERE / "style.css"

    def __init__(self) -> None:
        super().__init__(layout={"display": "none"})


def box_html(kind: str, body: str) -> str:
    """Return HTML in a box of one kind of style.css, which figures, players and jobs bring to the page."""
    return f"<div class='{kind}'>{body}</div>"


def note_html(text: str) -> str:
    """Return `text`, escaped, as a line in small grey type."""
    return box_html("wb-note", html.escape(text))


def problem_html(error: BaseException) -> str:
    """Return the error as escaped HTML: the workbench's own message alone, others with their traceback."""
    text = html.escape(str(error) or type(error).__name__)
    if not isinstance(error, WorkbenchError):
        trace = html.escape("".join(traceback.format_exception(error)))
        details = f"<details><summary>Traceback</summary><pre>{trace}</pre></details>"
        text = f"{type(error).__name__}: {text}{details}"
    return box_html("wb-error", f"<div role='alert'>{text}</div>")


class Together:
    """Controls that report once where many of them are moved `together`."""

    _on_change: Callable[[], object]
    _quiet = False

    @contextmanager
    def together(self) -> Iterator[None]:
        """Move several controls, and report it once."""
        before, self._quiet = self._quiet, True
        try:
            yield
        finally:
            self._quiet = before
        self._changed()

    def _changed(self) -> None:
        if not self._quiet:
            self._on_change()


class Panel(Kept, ipywidgets.VBox):
    """Parts one below the other, as wide as the page, or not seen yet: what every panel is."""

    copied = ("children",)

    def __init__(self, parts: Sequence[ipywidgets.Widget] = (), *, hidden: bool = False) -> None:
        super().__init__(list(parts), layout={"width": "100%", "display": "none" if hidden else ""})


class ClipList(Panel):
    """Clips by id, a line of words each; `on_choose` gets the chosen id. Hidden while it is empty."""

    def __init__(self, on_choose: Callable[[str], object]) -> None:
        self._on_choose = on_choose
        self.head = ipywidgets.HTML()
        self.lines = ipywidgets.Select(options=[], rows=ROWS, layout={"margin": "2px 0", **FULL})
        super().__init__([self.head, self.lines], hidden=True)
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


class Job:
    """What the work sees of its panel: `cancel`, an event, and `progress`; without a look it cannot stop."""

    def __init__(self, report: Callable[[float, str], None]) -> None:
        self.cancel = threading.Event()
        self._report = report

    def progress(self, fraction: float, text: str = "") -> None:
        """Show how much is done (0-1) and what; raises `Cancelled` once the cancel button was pressed."""
        if self.cancel.is_set():
            raise Cancelled("The job was cancelled.")
        self._report(min(max(float(fraction), 0.0), 1.0), text)


_PACES: dict[Hashable, float] = {}
"""Kind of work -> seconds for one unit of it, as it was measured here last."""


class JobPanel(Panel, Generic[T]):
    """A button that runs `work(job)` in a worker thread, with progress bar, cancel button and error box.

    Args:
        work: gets a Job and returns the result.
        on_done: called with the result, in the worker thread, before the state changes to "done".
        size: how much the next run has to do, in any unit (seconds of sound, layers): what one unit took
            the last time says beforehand how long it will take.
        kind: panels of one kind share that measure; by default each has its own.

    `state` is "ready", "running", "done", "failed" or "cancelled"; `start()` and `wait()` need no browser.
    `pressed` says whether the last run was begun by the button.
    """

    state = traitlets.Unicode("ready")
    pressed = False

    def __init__(
        self, work: Callable[[Job], T], *, label: str = "Run", on_done: Callable[[T], object] | None = None,
        size: Callable[[], float] = lambda: 1.0, kind: Hashable = None,
    ) -> None:  # fmt: skip
        self._work, self._on_done, self._size = work, on_done, size
        self._kind, self._telling = object() if kind is None else kind, threading.RLock()
        self._thread: threading.Thread | None = None
        self._result: T | None = None
        self._job = Job(self._show_progress)
        self.error: BaseException | None = None
        self.problem = ipywidgets.HTML(layout={"display": "none", **FULL})
        self.run_button = button(label, label, lambda: self.start(pressed=True), self.problem)
        self.run_button.button_style = "primary"
        self.cancel_button = button("Cancel", "Stop this work", self.cancel, self.problem)
        self.cancel_button.disabled = True
        layout = {"width": "220px", "display": "none"}
        self.bar = ipywidgets.FloatProgress(max=1, layout=layout, style={"bar_color": "#0072B2"})
        self.text = ipywidgets.Label(layout={"flex": "1 1 160px"})
        controls = in_row(self.run_button, self.cancel_button, self.bar, self.text)
        super().__init__([controls, self.problem, StyleSheet()])

    def start(self, *, pressed: bool = False) -> JobPanel[T]:
        """Begin the work unless it is running already, and return the panel at once."""
        if self.state == "running":
            return self
        job = self._job = Job(self._show_progress)
        self.pressed, self.error, self._result = pressed, None, None
        self._shown_at, self._began, self._what = 0.0, time.monotonic(), "starting"
        self._units = self._size()
        self.bar.value = 0.0
        self._enter("running", self._told())
        self._thread = threading.Thread(target=self._run, args=(job,), daemon=True, name="workbench job")
        self._thread.start()
        clock = (self._thread,)
        threading.Thread(target=self._keep_telling, args=clock, daemon=True, name="workbench clock").start()
        return self

    def wait(self, timeout_s: float | None = None) -> T:
        """Return the result once the work has ended; raises what the work raised.

        A WorkbenchError says that it was never started, or has not ended after `timeout_s` seconds.
        """
        if self._thread is None:
            raise WorkbenchError("The result was asked for", "the job has not started", "Call start() first")
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            asked, found = f"The result was asked for within {timeout_s} s", f"{self.bar.value:.0%}"
            raise WorkbenchError(asked, f"the job is still at {found}", "Wait longer or cancel it")
        if self.error is not None:
            raise self.error
        return self._result  # type: ignore[return-value]  # set whenever there is no error

    def cancel(self) -> None:
        """Ask the work to stop; it does so the next time that it looks."""
        self._job.cancel.set()
        if self.state == "running":
            self.text.value = self._told()

    def foretell(self) -> None:
        """Say how long the next run will take, where an earlier one was timed."""
        pace = _PACES.get(self._kind)
        if self.state != "running" and pace is not None:
            self.text.value = f"takes about {spoken(pace * self._size())}"

    def _run(self, job: Job) -> None:
        """Do the work and show how it ended; the thread's outermost function, so it catches everything."""
        try:
            self._result = self._work(job)
            if self._on_done is not None:
                self._on_done(self._result)
        except Cancelled as stop:
            self.error = stop
            self._enter("cancelled", "cancelled")
        except BaseException as error:
            self.error = error
            self.problem.value = problem_html(error)
            self._enter("failed", "failed")
        else:
            self.bar.value = 1.0
            if self._units > 0:
                _PACES[self._kind] = (time.monotonic() - self._began) / self._units
            self._enter("done", "done")

    def _enter(self, state: str, text: str) -> None:
        running = state == "running"
        self.run_button.disabled = running
        self.cancel_button.disabled = not running
        self.bar.layout.display = "" if running else "none"
        self.problem.layout.display = "" if state == "failed" else "none"
        with self._telling:
            self.text.value = text
            self.state = state

    def _show_progress(self, fraction: float, text: str) -> None:
        """Move the bar, at most ten times a second: more would only fill the line to the page."""
        now = time.monotonic()
        if now - self._shown_at >= 0.1 or fraction >= 1:
            self._shown_at, self._what = now, text
            self.bar.value = fraction
            self.text.value = self._told()

    def _keep_telling(self, thread: threading.Thread) -> None:
        """Say every half second how long it goes on: much work cannot report, and must not look dead."""
        while thread.is_alive():
            thread.join(0.5)
            with self._telling:
                if self.state == "running":
                    self.text.value = self._told()

    def _told(self) -> str:
        """Return what is done, and how long it will go on or has gone on."""
        if self._job.cancel.is_set():
            return "stopping"
        spent, share, pace = time.monotonic() - self._began, float(self.bar.value), _PACES.get(self._kind)
        if share > SURE and spent > 1:
            left = spent * (1 / share - 1)
        elif pace is not None:
            left = pace * self._units - spent
        else:
            return f"{self._what}, {spent:.0f} s" if spent > 1 else self._what
        return f"{self._what}, about {spoken(left)} left" if left >= 1 else self._what


def spoken(seconds: float) -> str:
    """Return a time as people say it: "42 s", "3.3 min"."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"


class WorkPanel(Panel, Generic[T]):
    """A panel around one `job`; `start()` and `wait()` do what its button does."""

    job: JobPanel[Any]

    def start(self) -> Self:
        """Begin the work, as the button does."""
        self.job.start()
        return self

    def wait(self, timeout_s: float | None = None) -> T:
        """Return the result once the work has ended; raises what the work raised."""
        return self.job.wait(timeout_s)


class LookupPanel(WorkPanel[T], Generic[K, T]):
    """A panel that shows one result of many, by key; one that was not `made` yet is made in a worker thread.

    A panel says which key its controls `_ask` for and how its job makes a result (`_make_job`), and how to
    `_draw` one.
    """

    made: dict[K, T]
    shown: K | None = None
    _ask: Callable[[], K]

    def start(self) -> Self:
        """Show what the controls ask for, at once if it was made before, else when the work has ended."""
        if self._ask() in self.made and self.job.state != "running":
            self._show(self._ask())
        else:
            self.job.start()
        return self

    def wait(self, timeout_s: float | None = None) -> T:
        """Return what the controls ask for once it is shown; raises what the work raised."""
        while self.shown is None or self.shown != self._ask():  # controls may have moved meanwhile
            self.job.wait(timeout_s)
        return self.made[self.shown]

    def _make_job(
        self, work: Callable[[Job], K], label: str, ask: Callable[[], K], **timed: Any
    ) -> JobPanel[K]:
        """Return the job; after it, what was asked for meanwhile is made: the last wish wins."""
        self._ask = ask
        job: JobPanel[K] = JobPanel(work, label=label, on_done=self._show, **timed)
        job.observe(self._catch_up, "state")
        return job

    def _catch_up(self, change: Mapping[str, str]) -> None:
        if change["new"] == "done" and self.shown != self._ask():
            self.start()

    def _show(self, key: K) -> None:
        self._draw(key)
        self.shown = key  # last: whoever waits for it may look at the figures

    def _draw(self, key: K) -> None:
        raise NotImplementedError


Points = list[dict[str, Any]]  # each: curve, index, x, y and `data`, the point's customdata
# The panel has its own PNG button; a lasso and a second "reset" would only crowd the bar.
PANEL_CONFIG = CONFIG | {
    "modeBarButtonsToRemove": [*CONFIG["modeBarButtonsToRemove"], "toImage", "lasso2d", "autoScale2d"]
}


class PlotlyLibrary(ipywidgets.Widget):
    """plotly.js, packed; all panels of a kernel refer to one, so it travels once.

    A page's own request for it would wait until all running cells have ended.
    """

    source = traitlets.Unicode().tag(sync=True)  # base64 of gzip: text survives front ends that drop buffers


_library: PlotlyLibrary | None = None


def shared_library() -> PlotlyLibrary:
    """Return this kernel's one library model; made anew if it was closed (`Widget.close_all`)."""
    global _library
    if _library is None or _library.comm is None:
        packed = gzip.compress(plotly_source().encode(), 6)
        _library = PlotlyLibrary(source=base64.b64encode(packed).decode())
    return _library


class PlotPanel(ScriptedWidget):
    """One figure, with `on_click` and `on_select`, and buttons that save it as PNG and its data as CSV.

    Args:
        figure: a plotly figure; without one the panel is hidden until `show` brings one.
        table: what the CSV button saves; by default the points of the figure's traces.
        name: file name of the downloads, without ending.
        clock: the `key` of a player of the same page: a line on the time axis stands where that player is.
    """

    _esm = script("../figure.js", "plot_panel.js")
    library = traitlets.Instance(ipywidgets.Widget).tag(sync=True, **ipywidgets.widget_serialization)
    figure = traitlets.Dict().tag(sync=True)
    config = traitlets.Dict(PANEL_CONFIG).tag(sync=True)
    csv = traitlets.Unicode().tag(sync=True)
    name = traitlets.Unicode("figure").tag(sync=True)
    clock = traitlets.Unicode().tag(sync=True)
    picture = traitlets.Unicode()
    """The figure as a picture (a data URL), which the page makes once it has drawn it; "" until then."""
    copied = ("figure", "picture")

    def __init__(
        self, figure: Any = None, *, table: pd.DataFrame | None = None, name: str = "figure", clock: str = ""
    ) -> None:
        super().__init__(library=shared_library(), name=name, clock=clock, layout={"display": "none"})
        self._listeners: dict[str, list[Callable[[Points], object]]] = {"click": [], "select": []}
        self.on_msg(self._receive)
        if figure is not None:
            self.show(figure, table=table)

    def show(self, figure: Any, *, table: pd.DataFrame | None = None, name: str | None = None) -> None:
        """Replace the figure in place; every output that holds this panel follows."""
        drawn = json.loads(figure.to_json())  # numpy arrays become base64 typed arrays, which plotly.js reads
        self.layout.display = ""
        with self.hold_sync():
            self.name, self.picture = name or self.name, ""
            self.figure = {"data": drawn["data"], "layout": drawn["layout"]}
            data = points_of(figure) if table is None else table
            self.csv = data.to_csv(index=False, float_format="%.6g")

    def copy_html(self) -> str:
        """Return the picture of the figure."""
        if not self.figure:
            return ""
        title = self.figure["layout"].get("title", {}).get("text", self.name)
        return picture_html(self.picture, re.sub("<[^>]*>", "", title), self.model_id)

    def on_click(self, listener: Callable[[Points], object]) -> None:
        """Call `listener` with the clicked points."""
        self._listeners["click"].append(listener)

    def on_select(self, listener: Callable[[Points], object]) -> None:
        """Call `listener` with the points of a finished box selection."""
        self._listeners["select"].append(listener)

    def _receive(self, _panel: object, content: Mapping[str, Any], _buffers: object) -> None:
        if content.get("kind") == "picture":
            self.picture = str(content["url"])
        for listener in self._listeners.get(str(content.get("kind")), []):
            listener(list(content.get("points", [])))


def points_of(figure: Any) -> pd.DataFrame:
    """Return one row per point of the traces: trace, x, y, and `value` for heat maps."""
    tables = []
    for place, trace in enumerate(figure.data):
        name = trace.name or f"trace {place}"
        if trace.type == "heatmap":
            grid = pd.DataFrame(trace.z, columns=list(trace.x)).assign(y=list(trace.y), trace=name)
            tables.append(grid.melt(id_vars=["trace", "y"], var_name="x"))
        elif trace.hoverinfo != "skip":  # bands and outlines are decoration
            tables.append(pd.DataFrame({"trace": name, "x": list(trace.x), "y": list(trace.y)}))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["trace", "x", "y"])
