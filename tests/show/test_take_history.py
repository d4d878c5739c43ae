"""The history of takes: ticks, names, folders that are never overwritten, and a bounded memory."""

from __future__ import annotations

import base64
import dataclasses
import gc
import html
import weakref
from pathlib import Path
from typing import Any

import pytest
from show_samples import EVIL, Ear, sent_by
from steering_fixture import direction

from workbench.errors import GenerationError
from workbench.generation.generate import generate
from workbench.generation.reproduce import reproduction_code
from workbench.generation.take import Take
from workbench.show.widgets.history import TakeHistory
from workbench.show.widgets.takes import TakeComparison


@pytest.fixture(scope="module")
def plain(tiny_model: Any) -> Take:
    return generate(tiny_model, "a tune", seed=3, seconds=0.5, progress=False)


@pytest.fixture(scope="module")
def steered(tiny_model: Any) -> Take:
    plan = direction(tiny_model, 1).at(0.8)
    return generate(tiny_model, "a tune", steering=plan, seed=3, seconds=0.5, progress=False)


@pytest.fixture
def history(tmp_path: Path, plain: Take, steered: Take) -> TakeHistory:
    made = TakeHistory(tmp_path / "takes")
    made.add("plain", plain)
    made.add("jazz", steered)
    return made


def row(history: TakeHistory, name: str) -> Any:
    return next(one for one in history.list.children if one.name == name)


def press(history: TakeHistory, label: str) -> None:
    (button,) = (one for one in history.children[1].children if getattr(one, "description", "") == label)
    button.click()


def test_takes_are_listed_newest_first_under_names_of_their_own(
    history: TakeHistory, plain: Take, steered: Take
) -> None:
    assert history.add("jazz", plain) == "jazz (2)"
    assert history.add(" ", plain) == "take"
    assert list(history.takes) == ["take", "jazz (2)", "jazz", "plain"]
    assert [one.label.value for one in history.list.children] == list(history.takes)
    assert history.takes["jazz"] is steered
    assert history.chosen == [] and history.chosen_takes == {}


def test_a_line_says_what_the_take_is(history: TakeHistory, steered: Take, tmp_path: Path) -> None:
    words = row(history, "jazz").words.value
    assert (
        "title='0.8*jazz@1 | constant | cond'>jazz 0.8 &middot; a tune" in words
        and "a tune" in words
        and "seed 3" in words
        and "not saved" in words
    )
    assert "unsteered" in row(history, "plain").words.value
    judged = TakeHistory(tmp_path, judge=Ear())
    judged.add("jazz", steered)
    (odds,) = Ear().probabilities([steered.clip])
    assert f"heard as <b>rock ({odds[1]:.0%})</b>" in row(judged, "jazz").words.value
    evil = dataclasses.replace(steered, prompt=EVIL, steering=EVIL + "x" * 200)
    judged.add(EVIL, evil)
    words = row(judged, EVIL).words.value
    assert EVIL not in words and "x" * 200 in words, "the whole plan is there, where the mouse rests"
    judged.chosen = [EVIL]
    judged.save()
    assert EVIL not in judged.status.value


def test_ticks_and_chosen_say_the_same(history: TakeHistory, plain: Take, steered: Take) -> None:
    seen: list[list[str]] = []
    history.observe(lambda change: seen.append(list(change["new"])), "chosen")
    row(history, "jazz").tick.value = True
    row(history, "plain").tick.value = True
    assert history.chosen == ["jazz", "plain"] and seen == [["jazz"], ["jazz", "plain"]]
    assert history.chosen_takes == {"jazz": steered, "plain": plain}
    history.chosen = ["plain"]
    assert (row(history, "jazz").tick.value, row(history, "plain").tick.value) == (False, True)
    assert seen[-1] == ["plain"] and len(seen) == 3
    with pytest.raises(GenerationError, match="nobody were to be chosen, but the list holds jazz, plain"):
        history.chosen = ["nobody"]
    assert history.chosen == ["plain"]
    comparison = TakeComparison(history.chosen_takes)
    assert list(comparison.sounds) == ["plain"]


def test_a_name_can_be_changed_but_not_to_one_that_is_taken(history: TakeHistory) -> None:
    history.chosen = ["jazz", "plain"]
    row(history, "jazz").label.value = "plain"
    assert list(history.takes) == ["plain (2)", "plain"] and history.chosen == ["plain (2)", "plain"]
    assert row(history, "plain (2)").label.value == "plain (2)"
    row(history, "plain (2)").label.value = "  "
    assert (
        list(history.takes) == ["plain (2)", "plain"] and row(history, "plain (2)").label.value == "plain (2)"
    )
    row(history, "plain (2)").label.value = " late jazz "
    assert row(history, "late jazz").label.value == "late jazz"
    assert history.chosen == ["late jazz", "plain"]


def test_saving_never_overwrites(history: TakeHistory, steered: Take, plain: Take, tmp_path: Path) -> None:
    (tmp_path / "takes" / "jazz").mkdir(parents=True)
    (tmp_path / "takes" / "jazz" / "note.txt").write_text("mine")
    history.chosen = ["jazz", "plain"]
    folders = history.save()
    assert [folder.name for folder in folders] == ["jazz 2", "plain"]
    assert [Take.load(folder) for folder in folders] == [steered, plain]
    assert "saved in" in row(history, "jazz").words.value and len(history.path.options) == 2
    assert history.save() == folders, "what lies there already is not written again"
    row(history, "jazz").label.value = "swing"
    assert [folder.name for folder in history.save()] == ["swing", "plain"]
    other = TakeHistory(tmp_path / "takes")
    other.add("plain", steered)
    other.chosen = ["plain"]
    assert [folder.name for folder in other.save()] == ["plain 2"]
    assert (tmp_path / "takes" / "jazz" / "note.txt").read_text() == "mine"
    assert Take.load(tmp_path / "takes" / "plain") == plain


@pytest.mark.parametrize("name", ["a/b", "..", "../out", ".", "CON: ?", "日本"])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, plain: Take, name: str) -> None:
    history = TakeHistory(tmp_path / "takes")
    history.chosen = [history.add(name, plain)]
    (folder,) = history.save()
    assert folder.parent == tmp_path / "takes" and folder.name not in (".", "..")
    assert Take.load(folder) == plain


def test_a_saved_take_is_read_again(history: TakeHistory, steered: Take, tmp_path: Path) -> None:
    history.chosen = ["jazz"]
    (folder,) = history.save()
    fresh = TakeHistory(tmp_path / "takes")
    assert list(fresh.path.options) == [str(folder)]
    assert fresh.read(folder) == "jazz" and fresh.chosen == ["jazz"]
    assert fresh.takes["jazz"] == steered and fresh.takes["jazz"].plan == steered.plan
    assert fresh.read(str(folder)) == "jazz (2)"
    assert fresh.save() == [folder, folder], "both lie there already"
    with pytest.raises(GenerationError, match="cannot be read"):
        fresh.read(tmp_path)


def test_buttons_do_it_and_show_what_goes_wrong(history: TakeHistory, tmp_path: Path) -> None:
    press(history, "Save")
    assert "none is ticked" in history.problem.value
    row(history, "jazz").tick.value = True
    press(history, "Save")
    assert history.problem.value == "" and (tmp_path / "takes" / "jazz" / "take.json").is_file()
    press(history, "Drop")
    assert list(history.takes) == ["plain"] and history.chosen == []
    assert (tmp_path / "takes" / "jazz" / "take.json").is_file()
    history.path.value = str(tmp_path / "takes" / "jazz")
    press(history, "Load")
    assert list(history.takes) == ["jazz", "plain"] and history.problem.value == ""
    history.path.value = str(tmp_path / "nowhere")
    press(history, "Load")
    assert "cannot be read" in history.problem.value


def test_unsaved_takes_are_bounded_and_a_loss_is_told(tmp_path: Path, plain: Take) -> None:
    history = TakeHistory(tmp_path, most=3)
    for number in range(3):
        history.add(f"take {number}", plain)
    history.chosen = ["take 0", "take 1"]
    (saved,) = [folder for folder in history.save() if folder.name == "take 1"]
    history.chosen = ["take 0"]
    history._rows[-1].path = None  # as if it had not been saved
    history.add("take 3", plain)
    assert "Dropped" not in history.status.value, "a saved one does not count"
    history.add("take 4", plain)
    assert list(history.takes) == ["take 4", "take 3", "take 1", "take 0"], "the ticked one stays"
    assert "Dropped take 2: 3 takes that are not saved are kept" in history.status.value
    assert saved.is_dir()


def test_a_dropped_take_is_let_go(tmp_path: Path, plain: Take) -> None:
    history = TakeHistory(tmp_path)
    history.add("gone", dataclasses.replace(plain, clip=dataclasses.replace(plain.clip)))
    held = weakref.ref(history.takes["gone"].clip)
    history.chosen = ["gone"]
    history.drop()
    gc.collect()
    assert held() is None


def test_the_folder_is_what_the_surroundings_say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORKBENCH_OUT", str(tmp_path))
    assert TakeHistory().folder == tmp_path / "takes"
    monkeypatch.delenv("WORKBENCH_OUT")
    assert TakeHistory().folder == Path("out") / "takes"


def press_in(row: Any, text: str) -> None:
    (button,) = (one for one in row.children if getattr(one, "description", "") == text)
    button.click()


def test_each_take_is_played_downloaded_and_drawn_again(
    history: TakeHistory, steered: Take, tmp_path: Path
) -> None:
    sent = sent_by(history.player)
    history.player.ready = True
    press_in(row(history, "jazz"), "▶")
    assert history.player.layout.display == "" and list(history.player.sounds) == ["jazz"]
    assert [content["kind"] for content, _ in sent if "kind" in content] == ["play"]
    press_in(row(history, "jazz"), "WAV")
    file = sent[-1][0]
    assert (file["kind"], file["name"]) == ("download", "jazz.wav")
    assert base64.b64decode(file["text"]) == steered.clip.encode("wav")
    code = row(history, "jazz").code
    assert code.layout.display == "none" and code.value == ""
    press_in(row(history, "jazz"), "Code")
    assert code.layout.display == "" and html.escape(reproduction_code(steered)) in code.value
    press_in(row(history, "jazz"), "Code")
    assert code.layout.display == "none"
    history.chosen = ["jazz"]
    (folder,) = history.save()
    press_in(row(history, "jazz"), "Code")
    assert html.escape(reproduction_code(steered, folder)) in code.value, "what was saved needs no letters"


def test_a_take_is_opened_where_there_is_a_lab(tmp_path: Path, steered: Take, plain: Take) -> None:
    opened: list[Take] = []

    def open_take(take: Take) -> None:
        if take is plain:
            raise GenerationError("A take was to be opened", "it is <odd>", "Do not")
        opened.append(take)

    played: list[str] = []
    history = TakeHistory(tmp_path, on_open=open_take, on_play=played.append)
    history.add("jazz", steered)
    history.add("plain", plain)
    press_in(row(history, "jazz"), "Open")
    assert opened == [steered] and "Opened jazz" in history.status.value
    press_in(row(history, "plain"), "Open")
    assert opened == [steered] and "it is &lt;odd&gt;" in history.problem.value
    press_in(row(history, "plain"), "▶")
    assert played == ["plain"] and not history.player.sounds
    alone = TakeHistory(tmp_path)
    alone.add("jazz", steered)
    assert "Open" not in [getattr(part, "description", "") for part in row(alone, "jazz").children]
