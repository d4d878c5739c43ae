"""A slider from the ridge probe to the difference in means: the direction turns, its worth is drawn."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import ipywidgets

from workbench.errors import ProbeError
from workbench.show.plots import trail_accuracy, trail_cosines
from workbench.show.widgets.plot_panel import PlotPanel

if TYPE_CHECKING:
    from workbench.probing.diagnosis import RidgeToMeans
    from workbench.steering import Direction

MEANING = (
    "A small penalty λ lets the probe set features against one another; a large one leaves only how far "
    "the class means lie apart, in units of each feature's spread. That is why the right end may still "
    "differ from the difference in means of the raw activations. Where the accuracy stays level while the "
    "direction turns, the clips do not say which direction is the model's own: steer with several, listen. "
    '<code>lab.direction("jazz")</code> is the direction at the slider\'s λ.'
)


class TrailPanel(ipywidgets.VBox):
    """The trail of one class at one layer; λ on a log scale picks the direction that `direction` returns.

    It is empty until `show` was called.
    """

    def __init__(self) -> None:
        self.walk: RidgeToMeans | None = None
        self.cosines: PlotPanel | None = None
        self.accuracy: PlotPanel | None = None
        self.words = ipywidgets.HTML()
        self.class_ = ipywidgets.Dropdown(description="class", layout={"width": "260px"})
        self.strength = ipywidgets.SelectionSlider(
            description="λ", options=[("none yet", 0.0)], continuous_update=False,
            layout={"width": "420px"},
        )  # fmt: skip
        controls = ipywidgets.HBox([self.class_, self.strength], layout={"flex_flow": "row wrap"})
        meaning = ipywidgets.HTML(f"<div class='wb-note' style='line-height:1.45'>{MEANING}</div>")
        self._above = [controls, self.words, meaning]
        super().__init__(self._above, layout={"width": "100%"})
        for control in (self.class_, self.strength):
            control.observe(lambda _change: self._redraw(), "value")

    def show(self, walk: RidgeToMeans) -> None:
        """Show the trails of a layer; class and λ stay where they were if it has them."""
        class_, strength = self.class_.value, self.strength.value
        middle = walk.strengths[len(walk.strengths) // 2]
        self.walk = None  # setting options moves the values, which must not draw
        self.class_.options = walk.classes
        self.class_.value = class_ if class_ in walk.classes else walk.classes[0]
        self.strength.options = list(zip(walk.labels, walk.strengths, strict=True))
        self.strength.value = strength if strength in walk.strengths else middle
        self.walk = walk
        self._redraw()

    def direction(self, class_: str | None = None) -> Direction:
        """Return the direction of a class (the one that is shown when None) at the slider's λ.

        Raises:
            ProbeError: nothing is shown yet, or there is no such class.
        """
        if self.walk is None:
            found = "nothing has been examined yet"
            raise ProbeError("A direction of the trail was asked for", found, "Call show(...) first")
        return self.walk.direction(class_ or self.class_.value, self.strength.value)

    def _redraw(self) -> None:
        """Draw class and λ as the controls stand."""
        if self.walk is None:
            return
        shown = self.class_.value, self.strength.value
        figures = trail_cosines(self.walk, *shown), trail_accuracy(self.walk, *shown)
        self.words.value = _words(self.walk, *shown)
        if self.cosines is None or self.accuracy is None:
            self.cosines = PlotPanel(figures[0], name="ridge_to_means_cosines")
            self.accuracy = PlotPanel(figures[1], name="ridge_to_means_accuracy")
            self.children = [*self._above, self.cosines, self.accuracy]
        else:
            self.cosines.show(figures[0])
            self.accuracy.show(figures[1])


def _words(walk: RidgeToMeans, class_: str, strength: float) -> str:
    """Return the sentence about the class that is shown, and a small table of all classes at this λ."""
    table = walk.table()
    rows = "".join(
        f"<tr><td><b>{html.escape(str(row['class']))}</b></td><td>{row['to_probe']:.2f}</td>"
        f"<td>{row['to_means']:.2f}</td>"
        f"<td>{row['accuracy']:.0%} ({row['low']:.0%} to {row['high']:.0%})</td></tr>"
        for row in table[table["strength"] == strength].to_dict("records")
    )
    head = "<tr><td></td><td>cosine to probe</td><td>to means</td><td>held-out accuracy</td></tr>"
    told = html.escape(walk.sentence(class_, strength))
    cells = "<style>.wb-trail td{padding:1px 14px 1px 0}</style>"
    return f"<div style='line-height:1.45'>{told}</div>{cells}<table class='wb-trail'>{head}{rows}</table>"
