"""Parts that all panels are built of: labelled controls, rows, buttons whose errors show, words as HTML."""

from __future__ import annotations

import html
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import ipywidgets

from workbench.errors import WorkbenchError, warn_renamed

STYLE = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
FULL = {"width": "100%"}
ROWS = 8  # lines of a list that are seen at once
W = TypeVar("W", bound=ipywidgets.Widget)


def control(kind: type[W], name: str, width: str = "260px", **settings: Any) -> W:
    """Return a control of a kind of ipywidgets, labelled, `width` wide where there is room for it.

    A slider is quiet while it is dragged, unless told otherwise: it would echo what the kernel has set, late
    and rounded, while a cell runs, and undo later moves.
    """
    if issubclass(kind, (ipywidgets.FloatSlider, ipywidgets.IntSlider, ipywidgets.SelectionSlider)):
        settings.setdefault("continuous_update", False)
    settings.setdefault("tooltip", name)
    return kind(description=name, layout={"width": f"min(100%, {width})"}, **settings)


def dose_slider(name: str, low: float, high: float, step: float, width: str, **settings: Any) -> Any:
    """Return the slider of one direction's dose, in multiples of the layer's mean residual norm."""
    hint = f"dose of {name}: 0 leaves the model alone, negative steers away"
    numbers = {"min": low, "max": high, "step": step, "value": 0, "readout_format": ".2f"}
    return control(ipywidgets.FloatSlider, name, width, tooltip=hint, **numbers, **settings)


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


def value_of(number: Any) -> float:
    """Return what a control says; the page adds steps in binary and sends back 0.6000000000000001."""
    return round(float(number.value), 6)


def in_row(*parts: ipywidgets.Widget) -> ipywidgets.Box:
    """Return parts side by side, in more lines where there is no room."""
    return ipywidgets.Box(list(parts), layout={"flex_flow": "row wrap", "align_items": "center"})


def note_html(text: str) -> str:
    """Return `text`, escaped, as a line in small grey type."""
    return f"<style>{STYLE}</style><div class='wb-note'>{html.escape(text)}</div>"


def problem_html(error: BaseException) -> str:
    """Return the error as escaped HTML: the workbench's own message alone, others with their traceback."""
    text = html.escape(str(error) or type(error).__name__)
    box = f"<style>{STYLE}</style><div class='wb-error' role='alert'>"
    if isinstance(error, WorkbenchError):
        return f"{box}{text}</div>"
    trace = html.escape("".join(traceback.format_exception(error)))
    details = f"<details><summary>Traceback</summary><pre>{trace}</pre></details>"
    return f"{box}{type(error).__name__}: {text}{details}</div>"


def renamed(owner: str, old: str, new: str) -> Any:
    """Return the property that an attribute's old name is for one release: it warns and gives the new one."""

    def read(panel: object) -> Any:
        warn_renamed(f"{owner}.{old}", f"{owner}.{new}")
        return getattr(panel, new)

    return property(read, doc=f"The old name of `{new}`.")


class Together:
    """What several controls have in common: one report where many of them are moved `together`."""

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


class ClipList(ipywidgets.VBox):
    """Clips by id, a line of words each, of which one can be chosen; hidden while it is empty.

    Args:
        on_choose: called with the id of the line that was chosen.
    """

    def __init__(self, on_choose: Callable[[str], object]) -> None:
        self._on_choose = on_choose
        self.head = ipywidgets.HTML()
        self.lines = ipywidgets.Select(options=[], rows=ROWS, layout=FULL)
        super().__init__([self.head, self.lines], layout={"display": "none", **FULL})
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
