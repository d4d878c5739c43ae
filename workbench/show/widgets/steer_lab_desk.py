"""The dose desk: a slider for every direction, in columns by group, and a pad that blends four of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import ipywidgets

from workbench.errors import SteeringError
from workbench.show.widgets.blend_pad import BlendPad
from workbench.show.widgets.steer_lab_groups import Group

MOST = 1.0
"""The largest dose of a slider; from about 0.4 on the music tends to break."""


class DoseDesk(ipywidgets.Box):
    """Sliders by name, and a pad or none; `doses` is what they say.

    Args:
        groups: a column each; small groups share one.
        pad: four of the names, or None.
        on_change: called after a slider was moved, once where several were moved together.

    Raises:
        SteeringError: the pad names a direction that is not there, or not four.
    """

    def __init__(
        self, groups: Sequence[Group], pad: Sequence[str] | None, on_change: Callable[[], object]
    ) -> None:
        self._on_change, self._quiet = on_change, False
        self.sliders = {name: _slider(name) for group in groups for name in group.names}
        self.pad = _pad(pad, self.sliders)
        columns = [_column(each, self.sliders) for each in _packed(groups)]
        super().__init__(columns, layout={"flex_flow": "row wrap", "align_items": "flex-start"})
        for slider in self.sliders.values():
            slider.observe(lambda _change: self._tell(), "value")
        if self.pad is not None:
            self.pad.layout.width = "250px"
            self.children = [*columns, self.pad]
            self.pad.observe(lambda change: self.move(change["new"]), "doses")

    @property
    def doses(self) -> dict[str, float]:
        """What the sliders say, by name."""
        # The page adds steps of 0.01 in binary and sends back 0.6000000000000001.
        return {name: round(float(slider.value), 6) for name, slider in self.sliders.items()}

    def move(self, doses: Mapping[str, float]) -> None:
        """Move several sliders, and tell of it once.

        Raises:
            SteeringError: there is no slider of a name.
        """
        _check("A push towards", doses, self.sliders)
        beyond = [f"{name}={dose:g}" for name, dose in doses.items() if not abs(dose) <= MOST]
        if beyond:
            found, do = f"sliders go from -{MOST:g} to {MOST:g}", "Write larger doses into the plan's line"
            raise SteeringError(f"Doses of {', '.join(beyond)} were asked for", found, do)
        self._quiet = True
        try:
            for name, dose in doses.items():
                self.sliders[name].value = dose
        finally:
            self._quiet = False
        self._tell()

    def _tell(self) -> None:
        if not self._quiet:
            self._on_change()


def _packed(groups: Sequence[Group]) -> list[list[Group]]:
    """Return the groups in columns, none of which is much higher than the largest group."""
    highest = max(len(group.names) for group in groups) + 2
    columns: list[list[Group]] = []
    for group in groups:
        if columns and sum(len(each.names) + 1 for each in [*columns[-1], group]) <= highest + 1:
            columns[-1].append(group)
        else:
            columns.append([group])
    return columns


def _column(groups: Sequence[Group], sliders: Mapping[str, ipywidgets.Widget]) -> ipywidgets.VBox:
    parts: list[ipywidgets.Widget] = []
    for group in groups:
        parts.append(ipywidgets.Label(group.name, style={"font_weight": "bold"}))
        parts += [sliders[name] for name in group.names]
    return ipywidgets.VBox(parts, layout={"width": "min(100%, 340px)"})


def _slider(name: str) -> ipywidgets.FloatSlider:
    # A slider that tells while it is moved also tells what the kernel has just told it, rounded in binary,
    # and while a cell runs this comes too late: it would undo later moves.
    return ipywidgets.FloatSlider(
        description=name,
        min=-MOST,
        max=MOST,
        step=0.01,
        value=0,
        readout_format=".2f",
        continuous_update=False,
        layout={"width": "100%"},
        tooltip=f"dose of {name}: 0 leaves it out, negative steers away",
    )


def _pad(names: Sequence[str] | None, sliders: Mapping[str, object]) -> BlendPad | None:
    _check("A pad with", names or (), sliders)
    return None if names is None else BlendPad(names)


def _check(asked: str, names: Mapping[str, float] | Sequence[str], sliders: Mapping[str, object]) -> None:
    strange = [name for name in names if name not in sliders]
    if strange:
        found = f"the directions are {', '.join(sliders)}"
        raise SteeringError(f"{asked} {', '.join(strange)} was asked for", found, "Use these names")
