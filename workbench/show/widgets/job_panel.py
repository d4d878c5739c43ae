"""Long work beside a running notebook: a worker thread with progress, cancel, and visible errors."""

from __future__ import annotations

import html
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import ipywidgets
import traitlets

from workbench.errors import Cancelled, WorkbenchError

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
