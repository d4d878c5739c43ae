"""What a cell shows where no kernel is: a plain copy of its widget, in sound and pictures of the browser.

A front end without kernel writes an error in the place of a widget, whatever else the same output holds. So a
widget leaves two outputs, itself and its copy, and a rule of style, which finds both by name, shows one.
"""

from __future__ import annotations

import html
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets
import traitlets
from IPython.display import DisplayHandle, display

from workbench.show.page import render

ASK = "Run this cell to use the panel."
HERE = Path(__file__).parent
RUN = "Run this cell to see what stood here."  # other widgets, such as progress bars, say this in JupyterLab
WAIT_S = 3  # for a widget to come alive, before its copy is shown


class Kept(ipywidgets.DOMWidget):
    """A widget whose copy is kept in the notebook, up to date, and seen wherever the widget is not alive."""

    copied: tuple[str, ...] = ()
    """The traits with which the copy changes."""
    _copies: tuple[DisplayHandle, ...] = ()
    _copy = ""

    def copy_html(self) -> str:
        """Return what can be seen and heard of the widget without a kernel, as HTML; "" where nothing can."""
        return "".join(map(_copy_of, getattr(self, "children", ())))

    def _ipython_display_(self) -> None:
        if self.comm is None:
            display({"text/plain": f"{type(self).__name__}, closed"}, raw=True)
            return
        bundle = self._repr_mimebundle_()
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        self.add_class(f"wb-live-{self.model_id}")
        self._renew_copies()
        display({**data, "text/plain": ASK}, metadata=metadata, raw=True)
        copy = display({"text/html": self._copy}, raw=True, display_id=True)
        self._copies = (*self._copies, copy)
        self._renew_copies()  # a part may have changed meanwhile

    def _whole_copy(self) -> str:
        names, shown = {one: f"wb-{one}-{self.model_id}" for one in ("copy", "live")}, self.copy_html()
        ask = ASK if hasattr(self, "children") or not shown else ""
        return render("copy.html", **names, shown=shown, ask=ask, run=RUN, wait_s=WAIT_S)

    def _renew_copies(self, _change: object = None) -> None:
        """Let every copy show what the widget now does, and watch all parts that it now has."""
        for part in _parts(self):
            part.observe(self._renew_copies, [*part.copied])
        if (copy := self._whole_copy()) != self._copy:
            self._copy = copy
            for shown in self._copies:
                shown.update({"text/html": copy}, raw=True)


def script(*names: str) -> str:
    """Return these files of this folder as the one script of a widget, which hears the kernel."""
    return "".join((HERE / name).read_text(encoding="utf-8") for name in ("hearing.js", *names))


class ScriptedWidget(Kept, anywidget.AnyWidget):
    """A widget with a `script` of ours: what is drawn and heard in the page."""

    _css = HERE / "style.css"
    key = traitlets.Unicode().tag(sync=True)
    """The id of its model, under which the page finds it and keeps the one engine of all its outputs."""

    def __init__(self, **traits: Any) -> None:
        key = uuid.uuid4().hex
        super().__init__(key=key, model_id=key, **traits)


def _copy_of(part: Any) -> str:
    if part.layout.display == "none":
        return ""
    return part.copy_html() if isinstance(part, Kept) else Kept.copy_html(part)


def _parts(widget: Any) -> Iterator[Any]:
    if isinstance(widget, Kept):
        yield widget
    for child in getattr(widget, "children", ()):
        yield from _parts(child)


def picture_html(url: str, title: str, model_id: str) -> str:
    """Return a figure's picture, or where there is none yet a place that an exported page draws it in."""
    title = html.escape(title, quote=True)
    if url:
        return f"<img alt='{title}' src='{html.escape(url, quote=True)}' style='max-width: min(100%, 800px)'>"
    return f"<div data-wb-figure='{model_id}'>Run this cell to draw the figure: {title}</div>"
