"""A list of clips that were picked in a figure: choose one line, hear that clip."""

from __future__ import annotations

import base64
import gzip
import html
import json
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

import anywidget
import ipywidgets
import pandas as pd
import traitlets

from workbench.errors import Cancelled, WorkbenchError
from workbench.show.plots.grammar import CONFIG, plotly_source

# Long work beside a running notebook: a worker thread with progress, cancel, and visible errors.


T = TypeVar("T")
STYLE = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")


class Job:
    """What the work sees of its panel: `cancel`, an event, and `progress`.

    Work that looks at neither cannot be stopped; `progress` raises `Cancelled` once cancel was pressed.
    """

    def __init__(self, report: Callable[[float, str], None]) -> None:
        self.cancel = threading.Event()
        self._report = report

    def progress(self, fraction: float, text: str = "") -> None:
        """Show how much is done (0-1) and what is being done.

        Raises:
            Cancelled: the cancel button was pressed.
        """
        if self.cancel.is_set():
            raise Cancelled("The job was cancelled.")
        self._report(min(max(float(fraction), 0.0), 1.0), text)


class JobPanel(ipywidgets.VBox, Generic[T]):
    """A button that runs `work(job)` in a worker thread, with progress bar, cancel button and error box.

    Args:
        work: gets a Job and returns the result.
        label: text of the button.
        on_done: called with the result, in the worker thread, before the state changes to "done".

    `state` is "ready", "running", "done", "failed" or "cancelled"; `start()` and `wait()` need no browser.
    """

    state = traitlets.Unicode("ready")

    def __init__(
        self, work: Callable[[Job], T], *, label: str = "Run", on_done: Callable[[T], object] | None = None
    ) -> None:
        self._work, self._on_done = work, on_done
        self._thread: threading.Thread | None = None
        self._result: T | None = None
        self._job = Job(self._show_progress)
        self.error: BaseException | None = None
        self.run_button = ipywidgets.Button(
            description=label, button_style="primary", tooltip=label, layout={"width": "auto"}
        )
        self.cancel_button = ipywidgets.Button(
            description="Cancel", disabled=True, tooltip="Stop this work", layout={"width": "auto"}
        )
        self.bar = ipywidgets.FloatProgress(
            min=0, max=1, value=0, layout={"width": "220px"}, style={"bar_color": "#0072B2"}
        )
        self.text = ipywidgets.Label(value="", layout={"flex": "1 1 160px"})
        self.problem = ipywidgets.HTML(layout={"display": "none", "width": "100%"})
        controls = ipywidgets.HBox(
            [self.run_button, self.cancel_button, self.bar, self.text],
            layout={"flex_flow": "row wrap", "align_items": "center"},
        )
        super().__init__([controls, self.problem], layout={"width": "100%"})
        self.run_button.on_click(lambda _button: self.start())
        self.cancel_button.on_click(lambda _button: self.cancel())

    def start(self) -> JobPanel[T]:
        """Begin the work unless it is running already, and return the panel at once."""
        if self.state == "running":
            return self
        self._job = Job(self._show_progress)
        self.error, self._result, self._shown_at = None, None, 0.0
        self._enter("running", "starting")
        self.bar.value = 0.0
        self._thread = threading.Thread(
            target=self._run, args=(self._job,), daemon=True, name="workbench job"
        )
        self._thread.start()
        return self

    def wait(self, timeout_s: float | None = None) -> T:
        """Return the result once the work has ended.

        Raises:
            Cancelled: the work was cancelled.
            WorkbenchError: it was never started, or has not ended after `timeout_s` seconds.
            BaseException: whatever the work raised.
        """
        if self._thread is None:
            raise WorkbenchError("The result was asked for", "the job has not started", "Call start() first")
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            raise WorkbenchError(
                f"The result was asked for within {timeout_s} s",
                f"the job is still at {self.bar.value:.0%}",
                "Wait longer or cancel it",
            )
        if self.error is not None:
            raise self.error
        return self._result  # type: ignore[return-value]  # set whenever there is no error

    def cancel(self) -> None:
        """Ask the work to stop; it does so the next time that it looks."""
        self._job.cancel.set()
        if self.state == "running":
            self.text.value = "stopping"

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
            self._enter("done", "done")

    def _enter(self, state: str, text: str) -> None:
        running = state == "running"
        self.run_button.disabled = running
        self.cancel_button.disabled = not running
        self.problem.layout.display = "" if state == "failed" else "none"
        self.text.value = text
        self.state = state

    def _show_progress(self, fraction: float, text: str) -> None:
        """Move the bar, at most ten times a second: more would only fill the line to the page."""
        now = time.monotonic()
        if now - self._shown_at >= 0.1 or fraction >= 1:
            self._shown_at = now
            self.bar.value = fraction
            self.text.value = text


def problem_html(error: BaseException) -> str:
    """Return the error as escaped HTML: the workbench's own message alone, others with their traceback."""
    text = html.escape(str(error) or type(error).__name__)
    box = f"<style>{STYLE}</style><div class='wb-error' role='alert'>"
    if isinstance(error, WorkbenchError):
        return f"{box}{text}</div>"
    trace = html.escape("".join(traceback.format_exception(error)))
    details = f"<details><summary>Traceback</summary><pre>{trace}</pre></details>"
    return f"{box}{type(error).__name__}: {text}{details}</div>"


def note_html(text: str) -> str:
    """Return `text`, escaped, as a line in the house's small grey type."""
    return f"<style>{STYLE}</style><div class='wb-note'>{html.escape(text)}</div>"


# A plotly figure in a notebook: interactive, with events back to Python and downloads, and no network.


Points = list[dict[str, Any]]  # each: curve, index, x, y and `data`, the point's customdata
HERE = Path(__file__).parent
# The panel has its own PNG button; a lasso and a second "reset" would only crowd the bar.
PANEL_CONFIG = CONFIG | {
    "modeBarButtonsToRemove": [*CONFIG["modeBarButtonsToRemove"], "toImage", "lasso2d", "autoScale2d"]
}


class PlotlyLibrary(ipywidgets.Widget):
    """plotly.js from the plotly wheel, packed; all panels of a kernel refer to one, so it travels once.

    It is a model of its own rather than a request from the page, because a page's requests wait until all
    running cells have ended, and figures should appear while a notebook runs.
    """

    source = traitlets.Unicode().tag(sync=True)  # base64 of gzip: text survives front ends that drop buffers


@cache
def _packed_plotly() -> str:
    return base64.b64encode(gzip.compress(plotly_source().encode(), 6)).decode()


_library: PlotlyLibrary | None = None


def shared_library() -> PlotlyLibrary:
    """Return this kernel's one library model; made anew if it was closed (`Widget.close_all`)."""
    global _library
    if _library is None or _library.comm is None:
        _library = PlotlyLibrary(source=_packed_plotly())
    return _library


class PlotPanel(anywidget.AnyWidget):
    """One figure, with `on_click` and `on_select`, and buttons that save it as PNG and its data as CSV.

    Args:
        figure: a plotly figure.
        table: what the CSV button saves; by default the points of the figure's traces.
        name: file name of the downloads, without ending.
        clock: the `key` of a player of the same page: a line on the time axis stands where that player is.
    """

    _esm = HERE / "plot_panel.js"
    _css = HERE / "style.css"
    library = traitlets.Instance(ipywidgets.Widget).tag(sync=True, **ipywidgets.widget_serialization)
    figure = traitlets.Dict().tag(sync=True)
    config = traitlets.Dict(PANEL_CONFIG).tag(sync=True)
    csv = traitlets.Unicode().tag(sync=True)
    name = traitlets.Unicode("figure").tag(sync=True)
    clock = traitlets.Unicode().tag(sync=True)

    def __init__(
        self, figure: Any, *, table: pd.DataFrame | None = None, name: str = "figure", clock: str = ""
    ) -> None:
        super().__init__(library=shared_library(), name=name, clock=clock, **_state(figure, table))
        self._listeners: dict[str, list[Callable[[Points], object]]] = {"click": [], "select": []}
        self.on_msg(self._receive)

    def show(self, figure: Any, *, table: pd.DataFrame | None = None, name: str | None = None) -> None:
        """Replace the figure in place; every output that holds this panel follows."""
        with self.hold_sync():
            self.name = name or self.name
            for trait, value in _state(figure, table).items():
                setattr(self, trait, value)

    def on_click(self, listener: Callable[[Points], object]) -> None:
        """Call `listener` with the clicked points."""
        self._listeners["click"].append(listener)

    def on_select(self, listener: Callable[[Points], object]) -> None:
        """Call `listener` with the points of a finished box selection."""
        self._listeners["select"].append(listener)

    def _receive(self, _panel: object, content: Mapping[str, Any], _buffers: object) -> None:
        for listener in self._listeners.get(str(content.get("kind")), []):
            listener(list(content.get("points", [])))


def _state(figure: Any, table: pd.DataFrame | None) -> dict[str, Any]:
    """Return the traits that say what is drawn and what the CSV holds."""
    data = points_of(figure) if table is None else table
    return {"figure": _plain(figure), "csv": data.to_csv(index=False, float_format="%.6g")}


def _plain(figure: Any) -> dict[str, Any]:
    """Return the figure as JSON values; numpy arrays become base64 typed arrays, which plotly.js reads."""
    made = json.loads(figure.to_json())
    return {"data": made["data"], "layout": made["layout"]}


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
