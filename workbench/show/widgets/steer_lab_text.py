"""The plan as a line of text: sliders write it, people edit it, and what stands there is generated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import ipywidgets
import traitlets

from workbench.errors import WorkbenchError
from workbench.show.widgets.job_panel import note_html, problem_html
from workbench.show.widgets.steer_lab_groups import Group
from workbench.steering.plan import Steering

if TYPE_CHECKING:
    from workbench.model.musicgen import Model
    from workbench.steering.direction import Direction
    from workbench.steering.gate import ReadOut


class PlanLine(ipywidgets.VBox):
    """One line that holds the canonical text of a plan, and under it what was understood.

    Args:
        model: the plan must fit it.
        groups: names that the text may use, at every layer.
        readers: what its gates may read.
        method_of: the method chosen for a group; directions found otherwise need their fingerprint
            (`jazz#1a2b3c@3`).

    `text` is the line, `steering` the plan that was last understood. `fault` says what is wrong with the
    text, and is None where it was understood. What any plan of this line has used stays known by its name.
    """

    text = traitlets.Unicode("none")

    def __init__(
        self,
        model: Model,
        groups: Sequence[Group],
        readers: Sequence[ReadOut],
        method_of: Callable[[str], str],
    ) -> None:
        self.model, self.groups, self.readers = model, groups, readers
        self._method_of = method_of
        self._met: dict[str, Direction] = {}
        self._writing = False
        self.steering: Steering | None = None
        self.fault: WorkbenchError | None = None
        self.box = ipywidgets.Text(
            description="plan", value=self.text, continuous_update=False, layout={"width": "98%"},
            tooltip="the plan: edit it and press Enter",
        )  # fmt: skip
        self.note = ipywidgets.HTML()
        super().__init__([self.box, self.note], layout={"width": "100%"})
        traitlets.link((self, "text"), (self.box, "value"))
        self.observe(lambda _change: self._read(), "text")

    def write(self, plan_of: Callable[[], Steering | None]) -> None:
        """Write the plan that `plan_of` returns; where it raises, say why and leave the text as it is."""
        try:
            plan = plan_of()
            if plan is not None:
                plan.check(self.model)
        except WorkbenchError as error:
            self._complain(error)
            return
        self._writing = True
        try:
            self.text = "none" if plan is None else plan.text()
        finally:
            self._writing = False
        self._accept(
            plan, "The sliders write this line; edit it and press Enter. What stands here is generated."
        )

    def _read(self) -> None:
        """Understand the text, unless it has just been written from the sliders."""
        if self._writing:
            return
        try:
            plan = Steering()
            if self.text.strip():
                plan = Steering.parse(self.text, self.directions(), self.readers)
            plan.check(self.model)
        except WorkbenchError as error:
            self._complain(error)
            return
        more = "The sliders do not show it; moving one writes the line anew."
        self._accept(plan if plan.terms else None, f"Read as: {plan.text()}. {more}")

    def directions(self) -> dict[str, Direction]:
        """Return every direction that the text may name, by name and layer."""
        held: dict[str, Direction] = {}
        for group in self.groups:
            chosen = self._method_of(group.name)
            for method in group.methods:
                for name in group.names:
                    for layer, one in group.by_layer(name, method).items():
                        mark = "" if method == chosen else f"#{one.fingerprint}"
                        held[f"{name}@{layer}{mark}"] = one
        used = self.steering.directions if self.steering is not None else {}
        return {**held, **{key: one for key, one in self._met.items() if key not in held}, **used}

    def _accept(self, plan: Steering | None, words: str) -> None:
        self.steering, self.fault = plan, None
        self._met |= plan.directions if plan is not None else {}
        self.note.value = note_html(words)

    def _complain(self, error: WorkbenchError) -> None:
        self.fault = error
        self.note.value = problem_html(error)
