"""A plotly figure in a notebook: interactive, with events back to Python and downloads, and no network."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets
import pandas as pd
import traitlets

from workbench.show.plots.grammar import CONFIG, plotly_source

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
