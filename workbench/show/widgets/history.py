"""The takes of a session: ticked to be compared, named, saved, loaded and dropped."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import ipywidgets
import traitlets

from workbench.errors import GenerationError
from workbench.evidence.judge import Judge, load_judge
from workbench.files import file_name, numbered_names
from workbench.generation.take import Take
from workbench.show.page import part
from workbench.show.widgets import ui
from workbench.show.widgets.players import ComparisonPlayer
from workbench.show.widgets.takes import code_html, free_name, take_words


class TakeRow(ipywidgets.Box):
    """A tick, a name that can be changed, what the take is and a judge has `heard` in it, and its code."""

    def __init__(self, name: str, take: Take, heard: str) -> None:
        self.name, self.take, self.heard = name, take, heard
        self.path: Path | None = None
        self.saved_as = ""
        self.tick = ipywidgets.Checkbox(indent=False, layout={"width": "26px"}, tooltip="Compare this take")
        words = {"continuous_update": False, "tooltip": "name of the take"}
        self.label = ipywidgets.Text(value=name, layout={"width": "200px"}, **words)
        self.words = ipywidgets.HTML(layout={"flex": "1 1 200px", "min_width": "0"})
        self.code = ipywidgets.HTML(layout={"display": "none", **ui.FULL})
        look = {"align_items": "center", "flex": "0 0 auto", "flex_flow": "row wrap", **ui.FULL}
        super().__init__([self.tick, self.label, self.words, self.code], layout=look)
        self.describe()

    def show_code(self) -> None:
        """Show the code that makes the take again, or fold it up."""
        hidden = self.code.layout.display == "none"
        if hidden:
            self.code.value = code_html(self.take, self.path)
        self.code.layout.display = "" if hidden else "none"

    def saved(self, path: Path) -> None:
        """Note that the take lies in `path`."""
        self.path, self.saved_as = path, self.name
        self.describe()

    def describe(self) -> None:
        """Say what the take is and where it was saved."""
        take, steered = self.take, take_words(self.take)
        facts = [take.prompt, f"seed {take.seed}", f"{take.seconds:.1f} s"]
        facts = facts if self.name == steered else [steered, *facts]
        place = f"saved in {self.path}" if self.path else "not saved"
        self.words.value = part("line_of_take", take.steering or steered, facts, self.heard, place)


class TakeHistory(ui.Together, ui.Panel):
    """A list of takes, newest first; `chosen` names those that are ticked, and may be set.

    Args:
        folder: where takes are saved, each in its own; by default `takes` in WORKBENCH_OUT or out.
        judge: hears every take, as it is or by its name; what it heard stands in the list.
        most: how many takes that were never saved are kept; the oldest goes first, ticked ones last.
        on_play: plays a take by its name; by default a player below the list does.
        on_open: sets a lab to a take, which gets a button for it.

    `add`, `save`, `read` and `drop` do what a session and the buttons do. Each take can be played, downloaded
    as WAV, and drawn again by the code that is shown on request.
    """

    chosen = traitlets.List(traitlets.Unicode())

    def __init__(
        self, folder: Path | str | None = None, judge: Judge | str | None = None, *, most: int = 50,
        on_play: Callable[[str], object] | None = None, on_open: Callable[[Take], object] | None = None,
    ) -> None:  # fmt: skip
        out = Path(os.environ.get("WORKBENCH_OUT", "out")) / "takes"
        self.folder, self.most = out if folder is None else Path(folder), most
        self.judge = load_judge(judge) if isinstance(judge, str) else judge
        self._rows: list[TakeRow] = []  # newest first
        self._on_play, self._on_open = on_play or self._play, on_open
        self.player = ComparisonPlayer()  # also hands out the files
        self.player.layout.display = "none"
        self._on_change = self._follow_ticks
        self.list = ipywidgets.VBox(layout={"width": "100%", "max_height": "340px", "overflow": "auto"})
        hint = "a folder that a take was saved in"
        self.path = ipywidgets.Combobox(placeholder=hint, tooltip=hint, layout={"width": "min(100%, 360px)"})
        self.status = ipywidgets.HTML()
        self.problem = problem = ipywidgets.HTML()
        save = ui.button("Save", "Write the ticked takes, each into a folder of its own", self.save, problem)
        drop = ui.button("Drop", "Forget the ticked takes; what was saved stays on disk", self.drop, problem)
        load = ui.button("Load", "Read a saved take", lambda: self.read(self.path.value), problem)
        below = [ui.in_row(save, drop, self.path, load), self.status, problem, self.player]
        super().__init__([self.list, *below])
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
        return {name: self.takes[name] for name in self.chosen}

    def add(self, name: str, take: Take) -> str:
        """Put a take at the top of the list, not ticked; return its name, numbered where that was taken."""
        row = self._add(name, take)
        self._say(f"Added {row.name}.{self._forget_beyond(row)}")
        return row.name

    def save(self) -> list[Path]:
        """Write the ticked takes (else a GenerationError), each into `folder`/<name>; return the folders.

        Nothing is overwritten: where the folder is taken the new one gets a number. A take that was saved
        under its present name, and still lies there, is not written again.
        """
        rows = self._ticked("saved")
        for row in rows:
            if row.path is None or row.saved_as != row.name or not row.path.is_dir():
                row.saved(row.take.save(_free(self.folder / file_name(row.name))))
        self._list_saved()
        self._say(f"Saved {', '.join(row.name for row in rows)} in {self.folder}.")
        return [row.path for row in rows if row.path is not None]

    def read(self, path: Path | str) -> str:
        """Put the take saved in a folder (else a GenerationError) at the top, ticked; return its name."""
        folder = Path(path)
        row = self._add(folder.resolve().name, Take.load(folder))
        row.saved(folder)
        self.chosen = [*self.chosen, row.name]
        self._say(f"Loaded {row.name}.")
        return row.name

    def drop(self) -> None:
        """Forget the ticked takes; what was saved stays on disk. A GenerationError where none is ticked."""
        rows = self._ticked("dropped")
        self._remove(rows)
        self._say(f"Dropped {', '.join(row.name for row in rows)}.")

    def _add(self, name: str, take: Take) -> TakeRow:
        heard = ""
        if self.judge is not None:
            (odds,) = self.judge.probabilities([take.new])
            heard = f"{self.judge.classes[int(odds.argmax())]} ({odds.max():.0%})"
        taken = [row.name for row in self._rows]
        new = TakeRow(free_name(name.strip() or "take", taken), take, heard)
        new.children = [*new.children[:-1], *self._buttons(new), new.code]
        ui.follow([new.tick], self._changed)
        ui.follow([new.label], lambda: self._rename(new))
        self._show([new, *self._rows])
        return new

    def _buttons(self, row: TakeRow) -> list[ipywidgets.Button]:
        deeds: list[tuple[str, str, Callable[[], object]]] = [
            ("▶", "Play this take", lambda: self._on_play(row.name)),
            ("WAV", "Download this take as WAV", lambda: self._offer(row)),
            ("Code", "Show the code that makes this take again", row.show_code),
        ]
        if self._on_open is not None:
            hint = "Open in the lab: doses or plan, prompt and seed become this take's"
            deeds.append(("Open", hint, lambda: self._open(row)))
        return [ui.button(*deed, self.problem) for deed in deeds]

    def _play(self, name: str) -> None:
        self.player.layout.display = ""
        self.player.play_one(name, self.takes[name].clip)

    def _offer(self, row: TakeRow) -> None:
        self.player.offer(f"{file_name(row.name)}.wav", row.take.clip.encode("wav"))

    def _open(self, row: TakeRow) -> None:
        if self._on_open is not None:
            self._on_open(row.take)
            self._say(f"Opened {row.name}: Generate makes it again.")

    def _forget_beyond(self, new: TakeRow) -> str:
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
        for row in rows:  # a widget that is open is kept for good, and its take with it
            for one in (*row.children, row):
                one.close()

    def _follow_ticks(self) -> None:
        """Let `chosen` say what is ticked: in the order of ticking, new ones last."""
        ticked = [row.name for row in reversed(self._rows) if row.tick.value]
        kept = [name for name in self.chosen if name in ticked]
        self.chosen = kept + [name for name in ticked if name not in kept]

    @traitlets.validate("chosen")  # type: ignore[untyped-decorator]  # traitlets has no types
    def _check_chosen(self, proposal: dict[str, list[str]]) -> list[str]:
        wanted = dict.fromkeys(proposal["value"])
        if unknown := ", ".join(name for name in wanted if name not in self.takes):
            asked, found = f"The takes {unknown} were to be chosen", ", ".join(self.takes) or "none"
            raise GenerationError.lookup(asked, f"the list holds {found}", "Choose among these names")
        return list(wanted)

    def _tick_chosen(self) -> None:
        with self.together():
            for row in self._rows:
                row.tick.value = row.name in self.chosen

    def _rename(self, row: TakeRow) -> None:
        if row.label.value == row.name:
            return
        others = [one.name for one in self._rows if one is not row]
        old, row.name = row.name, free_name(row.label.value.strip() or row.name, others)
        row.label.value = row.name
        row.describe()
        self.chosen = [row.name if one == old else one for one in self.chosen]
        self._say(f"{old} is now called {row.name}.")

    def _ticked(self, what: str) -> list[TakeRow]:
        if not self.chosen:
            raise GenerationError(f"Takes were to be {what}", "none is ticked", "Tick one, or set `chosen`")
        return sorted((row for row in self._rows if row.tick.value), key=lambda r: self.chosen.index(r.name))

    def _list_saved(self) -> None:
        saved = sorted(self.folder.glob("*/take.json"), key=lambda path: path.stat().st_mtime, reverse=True)
        self.path.options = [str(path.parent) for path in saved]

    def _say(self, text: str) -> None:
        self.status.value, self.problem.value = ui.note_html(text), ""


def _free(folder: Path) -> Path:
    """Make and return a folder of this name, or with a number behind, that was not there before."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for name in numbered_names(folder.name):
        with suppress(FileExistsError):
            (folder.parent / name).mkdir()
            return folder.parent / name
    raise AssertionError("there is always a next number")
