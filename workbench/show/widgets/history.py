"""The takes of a session: ticked to be compared, named, saved, loaded and dropped."""

from __future__ import annotations

import html
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

import ipywidgets
import traitlets

from workbench.errors import GenerationError
from workbench.evidence.judge import load_judge
from workbench.files import file_name, numbered_names
from workbench.generation.take import Take
from workbench.show.widgets.parts import FULL, Together, button, follow, in_row, note_html
from workbench.show.widgets.players import shortened

if TYPE_CHECKING:
    from workbench.evidence.judge import Judge

_PLAN = 80  # letters of a plan that are shown


class TakeRow(ipywidgets.HBox):
    """One line of the history: a tick, a name that can be changed, and what the take is, in words.

    Args:
        name: what it is called.
        take: the take.
        heard: what a judge heard in it; empty where there is none.
        on_tick: called when the tick has changed.
        on_rename: called with the row and the new name; returns the name that it gets.
    """

    def __init__(
        self,
        name: str,
        take: Take,
        heard: str,
        *,
        on_tick: Callable[[], object],
        on_rename: Callable[[TakeRow, str], str],
    ) -> None:
        self.name, self.take, self.heard = name, take, heard
        self.path: Path | None = None
        self.saved_as = ""
        self._rename = on_rename
        self.tick = ipywidgets.Checkbox(indent=False, layout={"width": "26px"}, tooltip="Compare this take")
        words = {"continuous_update": False, "tooltip": "name of the take"}
        self.label = ipywidgets.Text(value=name, layout={"width": "200px"}, **words)
        self.words = ipywidgets.HTML(layout={"flex": "1 1 200px", "min_width": "0"})
        super().__init__([self.tick, self.label, self.words], layout={"align_items": "center", **FULL})
        self.describe()
        follow([self.tick], on_tick)
        self.label.observe(self._named, "value")

    def saved(self, path: Path) -> None:
        """Note that the take lies in `path`, under its present name."""
        self.path, self.saved_as = path, self.name
        self.describe()

    def forget(self) -> None:
        """Close the line and its parts: a widget that is open is kept for good, and its take with it."""
        for part in (*self.children, self):
            part.close()

    def describe(self) -> None:
        """Say what the take is and where it was saved."""
        take = self.take
        plan = shortened(take.steering) or "unsteered"
        short = plan if len(plan) <= _PLAN else f"{plan[: _PLAN - 1]}…"
        parts = [
            f"<code title='{html.escape(take.steering, quote=True)}'>{html.escape(short)}</code>",
            html.escape(take.prompt),
            f"seed {html.escape(str(take.seed))}",
            f"{take.seconds:.1f} s",
        ]
        if self.heard:
            parts.append(f"heard as <b>{html.escape(self.heard)}</b>")
        parts.append(f"saved in {html.escape(str(self.path))}" if self.path else "not saved")
        self.words.value = f"<div class='wb-note' style='line-height:1.35'>{' &middot; '.join(parts)}</div>"

    def _named(self, change: dict[str, str]) -> None:
        if change["new"] != self.name:
            self.label.value = self.name = self._rename(self, change["new"])


class TakeHistory(Together, ipywidgets.VBox):
    """A list of takes, newest first; `chosen` names those that are ticked, and may be set.

    Args:
        folder: where takes are saved, each into a folder of its name; when None, `takes` in WORKBENCH_OUT or
            out.
        judge: hears every take, as it is or by its name; what it heard stands in the list.
        most: how many takes that were never saved are kept; beyond, the oldest is dropped, one that is not
            ticked if there is any.

    `add`, `save`, `read` and `drop` do what a session and the buttons do.
    """

    chosen = traitlets.List(traitlets.Unicode())

    def __init__(
        self, folder: Path | str | None = None, judge: Judge | str | None = None, *, most: int = 50
    ) -> None:
        out = Path(os.environ.get("WORKBENCH_OUT", "out")) / "takes"
        self.folder, self.most = out if folder is None else Path(folder), most
        self.judge = load_judge(judge) if isinstance(judge, str) else judge
        self._rows: list[TakeRow] = []  # newest first
        self._on_change = self._follow_ticks
        self.list = ipywidgets.VBox(layout={"width": "100%", "max_height": "340px", "overflow": "auto"})
        hint = "a folder that a take was saved in"
        self.path = ipywidgets.Combobox(placeholder=hint, tooltip=hint, layout={"width": "min(100%, 360px)"})
        self.status, self.problem = ipywidgets.HTML(), ipywidgets.HTML()
        problem = self.problem
        save = button("Save", "Write the ticked takes, each into a folder of its own", self.save, problem)
        drop = button("Drop", "Forget the ticked takes; what was saved stays on disk", self.drop, problem)
        load = button("Load", "Read a saved take", lambda: self.read(self.path.value), problem)
        parts = [self.list, in_row(save, drop, self.path, load), self.status, self.problem]
        super().__init__(parts, layout=FULL)
        self.observe(lambda _change: self._tick_chosen(), "chosen")
        self._list_saved()
        self._say("No take yet.")

    @property
    def takes(self) -> dict[str, Take]:
        """The takes by name, newest first."""
        return {row.name: row.take for row in self._rows}

    @property
    def chosen_takes(self) -> dict[str, Take]:
        """The ticked takes by name, in the order of `chosen`."""
        takes = self.takes
        return {name: takes[name] for name in self.chosen}

    def add(self, name: str, take: Take) -> str:
        """Put a take at the top of the list, not ticked; return its name, numbered where that was taken."""
        row = self._add(name, take)
        dropped = self._forget_beyond(row)
        self._say(f"Added {row.name}.{dropped}")
        return row.name

    def save(self) -> list[Path]:
        """Write the ticked takes, each into `folder`/<name>, and return the folders.

        Nothing is overwritten: where the folder is taken the new one gets a number. A take that was saved
        under its present name, and still lies there, is not written again.

        Raises:
            GenerationError: no take is ticked.
        """
        rows = self._ticked("saved")
        for row in rows:
            if row.path is None or row.saved_as != row.name or not row.path.is_dir():
                row.saved(row.take.save(_free(self.folder / file_name(row.name))))
        self._list_saved()
        self._say(f"Saved {', '.join(row.name for row in rows)} in {self.folder}.")
        return [row.path for row in rows if row.path is not None]

    def read(self, path: Path | str) -> str:
        """Put the take that was saved in a folder at the top of the list, ticked; return its name.

        Raises:
            GenerationError: the folder holds no take.
        """
        folder = Path(path)
        row = self._add(folder.resolve().name, Take.load(folder))
        row.saved(folder)
        self.chosen = [*self.chosen, row.name]
        self._say(f"Loaded {row.name}.")
        return row.name

    def drop(self) -> None:
        """Forget the ticked takes; what was saved stays on disk.

        Raises:
            GenerationError: no take is ticked.
        """
        rows = self._ticked("dropped")
        self._remove(rows)
        self._say(f"Dropped {', '.join(row.name for row in rows)}.")

    def _add(self, name: str, take: Take) -> TakeRow:
        heard = ""
        if self.judge is not None:
            (odds,) = self.judge.probabilities([take.new])
            heard = f"{self.judge.classes[int(odds.argmax())]} ({odds.max():.0%})"
        free = self._free_name(name, self._rows)
        new = TakeRow(free, take, heard, on_tick=self._changed, on_rename=self._rename)
        self._show([new, *self._rows])
        return new

    def _forget_beyond(self, new: TakeRow) -> str:
        """Drop what is beyond `most`; return a sentence about it, empty where nothing is."""
        unsaved = [row for row in reversed(self._rows) if row.path is None and row is not new]
        beyond = len(unsaved) + 1 - self.most
        if beyond <= 0:
            return ""
        gone = sorted(unsaved, key=lambda row: row.tick.value)[:beyond]
        self._remove(gone)
        names = ", ".join(row.name for row in gone)
        return f" Dropped {names}: {self.most} takes that are not saved are kept."

    def _show(self, rows: Sequence[TakeRow]) -> None:
        self._rows = list(rows)
        self.list.children = tuple(rows)
        self._follow_ticks()

    def _remove(self, rows: Sequence[TakeRow]) -> None:
        self._show([row for row in self._rows if row not in rows])
        for row in rows:
            row.forget()

    def _follow_ticks(self) -> None:
        """Let `chosen` say what is ticked: in the order of ticking, new ones last."""
        ticked = [row.name for row in reversed(self._rows) if row.tick.value]
        kept = [name for name in self.chosen if name in ticked]
        self.chosen = kept + [name for name in ticked if name not in kept]

    @traitlets.validate("chosen")  # type: ignore[untyped-decorator]  # traitlets has no types
    def _check_chosen(self, proposal: dict[str, list[str]]) -> list[str]:
        wanted = list(dict.fromkeys(proposal["value"]))
        unknown = [name for name in wanted if name not in self.takes]
        if unknown:
            asked = f"The takes {', '.join(unknown)} were to be chosen"
            found = f"the list holds {', '.join(self.takes) or 'none'}"
            raise GenerationError.lookup(asked, found, "Choose among these names")
        return wanted

    def _tick_chosen(self) -> None:
        with self.together():
            for row in self._rows:
                row.tick.value = row.name in self.chosen

    def _rename(self, row: TakeRow, name: str) -> str:
        """Give a row another name: never an empty one, and with a number where it is taken."""
        others = [one for one in self._rows if one is not row]
        old, new = row.name, self._free_name(name.strip() or row.name, others)
        row.name = new
        self.chosen = [new if one == old else one for one in self.chosen]
        self._say(f"{old} is now called {new}.")
        return new

    def _free_name(self, name: str, others: Sequence[TakeRow]) -> str:
        taken = {row.name for row in others}
        wanted = name.strip() or "take"
        names = chain([wanted], (f"{wanted} {number}" for number in count(2)))
        return next(one for one in names if one not in taken)

    def _ticked(self, what: str) -> list[TakeRow]:
        rows = {row.name: row for row in self._rows}
        if not self.chosen:
            raise GenerationError(f"Takes were to be {what}", "none is ticked", "Tick one, or set `chosen`")
        return [rows[name] for name in self.chosen]

    def _list_saved(self) -> None:
        saved = sorted(self.folder.glob("*/take.json"), key=lambda path: path.stat().st_mtime, reverse=True)
        self.path.options = [str(path.parent) for path in saved]

    def _say(self, text: str) -> None:
        self.status.value, self.problem.value = note_html(text), ""


def _free(folder: Path) -> Path:
    """Make and return a folder of this name, or with a number behind, that was not there before."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    names = numbered_names(folder.name)
    while True:
        path = folder.parent / next(names)
        with suppress(FileExistsError):
            path.mkdir()
            return path
