"""Parts that all panels are built of: labelled controls, rows, buttons whose errors show, words as HTML."""

from __future__ import annotations

import html
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import anywidget
import ipywidgets

from workbench.errors import WorkbenchError
from workbench.show.widgets.kept import Kept

FULL = {"width": "100%"}
ROWS = 8  # lines of a list that are seen at once
W = TypeVar("W", bound=ipywidgets.Widget)


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
    _css = Path(__file__).parent / "style.css"

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
