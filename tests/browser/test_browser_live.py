"""The live desk in a browser: the blend pad, the live player, and a desk in JupyterLab that is heard."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from app_fixture import write_notebook
from browser import Lab, until
from generation_samples import save_true_shape
from show_samples import tone

from workbench.generation.live.pacing import Playback
from workbench.model.folders import builtin_folder
from workbench.show.widgets.fader import BlendPad
from workbench.show.widgets.players import LivePlayer

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

FOUR = ("classical", "jazz", "rock", "reggae")
LEVEL = "() => Math.max(0, ...[...window.__workbench.engines.values()].map((e) => e.output?.level() ?? 0))"


def test_the_pad_follows_pointer_and_keys(stage: Any, tmp_path: Path) -> None:
    pad = BlendPad(FOUR, strength=0.2)
    stage.show(pad)
    handle = stage.page.get_by_role("slider", name="Blend pad")
    told = handle.get_attribute("aria-valuetext").replace("\u00a0", " ")
    assert told == "classical 0.05, jazz 0.05, rock 0.05, reggae 0.05"
    box = handle.bounding_box()
    stage.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    stage.page.mouse.down()
    stage.page.mouse.move(box["x"] + box["width"] - 2, box["y"] + 2, steps=5)
    stage.page.mouse.up()
    stage.page.mouse.move(5, 5)  # the point was let go: it stays
    stage.deliver(pad)
    assert pad.x > 0.98 and pad.y > 0.98 and pad.doses["jazz"] == pytest.approx(0.2, abs=0.01)
    handle.focus()
    stage.page.keyboard.press("Home")
    stage.page.keyboard.press("ArrowLeft")
    stage.page.keyboard.press("ArrowDown")
    stage.page.keyboard.press("Shift+ArrowDown")
    stage.deliver(pad)
    assert (pad.x, pad.y) == (pytest.approx(0.45), pytest.approx(0.44))
    for _press in range(12):
        stage.page.keyboard.press("ArrowLeft")
    stage.deliver(pad)
    assert pad.x == 0.0, "it does not leave the square"
    pad.move(0.0, 1.0)
    until(lambda: "classical\u00a00.20" in handle.get_attribute("aria-valuetext"), what="the moved point")
    stage.page.screenshot(path=str(tmp_path / "pad.png"))


def live_player(stage: Any, hold_s: float = 0.3) -> tuple[LivePlayer, Playback, np.ndarray]:
    player, playback = LivePlayer(16000), Playback(hold_s)
    stage.show(player)
    stage.deliver(player)
    player.follow(playback)
    return player, playback, tone(220, 4.0, rate_hz=16000).samples


def give(player: LivePlayer, playback: Playback, samples: np.ndarray) -> None:
    for chunk in np.split(samples, max(1, len(samples) // 1600)):
        player.push(chunk)
        playback.deliver(len(chunk) / 16000)


def test_the_live_player_tells_what_was_heard_and_pauses_at_once(stage: Any) -> None:
    player, playback, samples = live_player(stage)
    assert stage.page.get_by_text("silent").count() == 1
    give(player, playback, samples[:32000])
    until(lambda: stage.deliver(player) is not None and playback.played_s > 0.5, what="a report")
    assert player.level > 0.1
    told = player.heard["played_s"]
    player.pause()
    until(lambda: float(stage.page.evaluate(LEVEL)) < 1e-3, what="silence")
    stage.deliver(player)
    heard = playback.played_s
    assert told <= heard < 1.6 and not playback.running
    stage.page.wait_for_timeout(500)
    stage.deliver(player)
    assert playback.played_s == heard
    assert stage.page.get_by_text("paused").count() == 1
    player.resume()
    until(lambda: float(stage.page.evaluate(LEVEL)) > 0.1, what="sound again")
    until(lambda: stage.deliver(player) is not None and player.heard["played_s"] > 1.99, what="the rest")
    assert playback.played_s == pytest.approx(2.0, abs=1e-3), "nothing was lost by pausing"


def test_after_a_gap_live_sound_is_held_back_again(stage: Any) -> None:
    player, playback, samples = live_player(stage, hold_s=0.5)
    give(player, playback, samples[:9600])
    until(lambda: stage.deliver(player) is not None and playback.underruns == 1, what="the gap")
    assert not playback.running
    give(player, playback, samples[:4800])
    stage.page.wait_for_timeout(400)
    stage.deliver(player)
    assert playback.played_s == pytest.approx(0.6, abs=0.02), "0.3 s are not enough to go on"
    give(player, playback, samples[:4800])
    until(lambda: stage.deliver(player) is not None and playback.played_s > 0.9, what="sound again")


def test_sound_begins_when_less_is_to_be_held_back(stage: Any) -> None:
    player, playback, samples = live_player(stage, hold_s=2.0)
    give(player, playback, samples[:9600])
    stage.page.wait_for_timeout(500)
    stage.deliver(player)
    assert playback.played_s == 0 and not playback.running
    player.lead_s = 0.5
    until(lambda: stage.deliver(player) is not None and playback.played_s > 0.2, what="sound")


def test_a_new_session_begins_at_0_and_keeps_nothing(stage: Any) -> None:
    player, playback, samples = live_player(stage)
    give(player, playback, samples[:16000])
    until(lambda: stage.deliver(player) is not None and playback.played_s > 0.3, what="a report")
    second = Playback(0.3)
    player.follow(second)
    give(player, second, samples[:16000])
    until(lambda: stage.deliver(player) is not None and second.played_s > 0, what="the second session")
    assert second.played_s < 1.0
    kept = stage.page.evaluate("() => [...window.__workbench.engines.values()].map((e) => e.kept.length)")
    assert kept == [0]
    assert stage.page.get_by_role("button", name="Download").count() == 0


SECONDS = float(os.environ.get("WORKBENCH_LIVE_SECONDS", "60"))
DESK = [
    """
import numpy as np, workbench as wb
model = wb.load("embedded")
norm = float(model.residual_norms()[3])
def push(seed):
    vector = np.random.default_rng(seed).standard_normal(model.d_model).astype("float32")
    made = wb.Direction(vector, 3, name="x", residual_norm=norm, origin={"model_id": model.id})
    return made.unit()
names = ["classical", "jazz", "rock", "reggae"]
desk = wb.LiveDesk(model, {name: push(seed).named(name) for seed, name in enumerate(names)}, pad=names)
""",
    "desk",
    "",
]
AFTER = """
told = desk.figures()
same = bool((wb.replay(model, desk.recording) == desk.recording.codes).all())
moves = len(desk.recording.knobs())
print("FIGURES", told.underruns, round(told.worst_knob_to_ear_s, 3), told.slow, same, moves, told)
"""


@pytest.mark.long
@pytest.mark.skipif(not (builtin_folder() / "config.json").exists(), reason="no built-in model here")
@pytest.mark.parametrize("time_", [1, 2, 3])
def test_the_desk_plays_in_jupyterlab_while_knobs_move(
    lab: Lab, books: Path, chromium: Any, tmp_path: Path, time_: int
) -> None:
    write_notebook(books / "desk.ipynb", *DESK, title="")
    opened = lab.open(chromium, f"{books.name}/desk.ipynb", height=1300)
    opened.fold_sidebars()
    opened.run_all(seconds=300)
    page = opened.page
    try:
        _perform(page, SECONDS)
        opened.screenshot(tmp_path / f"desk_{time_}.png")
        page.get_by_role("button", name="Stop").click()
        told = _run_last(page, AFTER)
    finally:
        opened.screenshot(tmp_path / f"desk_{time_}_end.png")
        page.close()
    (tmp_path / "told.txt").write_text(told)
    underruns, knob_to_ear, slow, same, moves = told.split()[1:6]
    assert same == "True" and int(moves) >= 5
    assert int(underruns) == 0 and float(knob_to_ear) <= 1.0 and slow == "False", told


def _perform(page: Any, seconds: float) -> None:
    """Press play, move knobs and the pad, and measure that there is sound all the time."""
    until(lambda: page.get_by_role("button", name="Play").count() >= 1, what="the desk", seconds=60)
    page.get_by_role("button", name="Play").first.click()
    until(lambda: float(page.evaluate(LEVEL)) > 0.001, what="sound", seconds=60)
    knob = page.get_by_label("dose of jazz", exact=True).first
    end, levels, press = time.monotonic() + seconds, [], 0
    while time.monotonic() < end:
        if press % 4 == 3:
            page.get_by_role("slider", name="Blend pad").press("ArrowRight")
        else:
            knob.press("ArrowRight" if press % 8 < 4 else "ArrowLeft")
        press += 1
        for _look in range(10):
            page.wait_for_timeout(100)
            levels.append(float(page.evaluate(LEVEL)))
    quiet = float(np.mean(np.array(levels) < 1e-4))
    assert quiet < 0.1, f"{quiet:.0%} of the looks met silence"


def _run_last(page: Any, source: str) -> str:
    """Run text in the notebook's last cell and return what it printed."""
    page.evaluate(
        "source => { const cells = jupyterapp.shell.currentWidget.content.widgets;"
        " const last = cells[cells.length - 1]; last.model.sharedModel.setSource(source);"
        " jupyterapp.shell.currentWidget.content.activeCellIndex = cells.length - 1;"
        " jupyterapp.commands.execute('notebook:run-cell'); }",
        source.strip(),
    )
    printed = (
        "() => { const cells = jupyterapp.shell.currentWidget.content.widgets;"
        " const outs = cells[cells.length - 1].model.outputs.toJSON();"
        " return outs.map((o) => o.text ?? (o.ename ? o.ename + ': ' + o.evalue : '')).flat().join(''); }"
    )
    until(lambda: page.evaluate(printed).strip(), what="the last cell", seconds=300, every=0.5)
    text = str(page.evaluate(printed))
    assert "FIGURES" in text, text
    return text[text.index("FIGURES") :]


SLOW_DESK = [
    """
import numpy as np, workbench as wb
model = wb.load("small", device="cpu", dtype="int8", check=False)
vector = np.random.default_rng(0).standard_normal(model.d_model).astype("float32")
push = wb.Direction(vector, 12, name="jazz", residual_norm=10.0, origin={"model_id": model.id}).unit()
desk = wb.LiveDesk(model, {"jazz": push}, window_seconds=10.0, overlap_seconds=2.0)
""",
    "desk",
    "",
]
SLOW_AFTER = """
told = desk.figures()
print("FIGURES", told.slow, desk.session.rate, told)
"""
HEARD = """() => {
  const live = [...window.__workbench.engines.values()].find((e) => e.live && e.scheduled);
  return live ? [live.heard().played_s, live.underruns] : [0, 0];
}"""  # of the page's own clock


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_desk_on_a_true_shape_plays_on_after_its_stated_buffer(
    lab: Lab, books: Path, chromium: Any, tmp_path: Path
) -> None:
    """musicgen-small's shape in int8, slower than real time: the buffer, then the whole stretch, no gap."""
    save_true_shape(books / "small", "small")
    write_notebook(books / "slow.ipynb", *SLOW_DESK, title="")
    opened = lab.open(chromium, f"{books.name}/slow.ipynb", height=1300)
    opened.fold_sidebars()
    opened.run_all(seconds=600)
    page = opened.page
    try:
        until(lambda: page.get_by_text("of sound in a second here").count(), what="the notice", seconds=60)
        choice = page.locator("select").filter(has_text="s without a gap")
        labels = [text.replace("\u00a0", " ") for text in choice.locator("option").all_text_contents()]
        (number,) = [n for n, text in enumerate(labels) if f"then {SECONDS:.0f} s" in text]
        words = labels[number]
        stated_s = float(words.split()[1])
        choice.select_option(index=number)
        opened.screenshot(tmp_path / "before.png")
        page.get_by_role("button", name="Play").first.click()
        pressed = time.monotonic()
        until(lambda: page.get_by_text("filling: ").count(), what="the buffer", seconds=120)
        opened.screenshot(tmp_path / "filling.png")
        until(lambda: page.evaluate(HEARD)[0] > 0, what="sound", seconds=3 * stated_s + 120, every=0.5)
        waited_s, (heard_s, gaps) = time.monotonic() - pressed, page.evaluate(HEARD)
        while heard_s < SECONDS and not gaps:
            page.wait_for_timeout(500)
            heard_s, gaps = page.evaluate(HEARD)
        opened.screenshot(tmp_path / "played.png")
        page.get_by_role("button", name="Stop").click()
        told = _run_last(page, SLOW_AFTER)
    finally:
        opened.screenshot(tmp_path / "end.png")
        page.close()
    facts = f"{words}; waited {waited_s:.0f} s, then heard {heard_s:.1f} s; {told}"
    (tmp_path / "told.txt").write_text(facts)
    assert heard_s >= SECONDS, f"a gap before the stretch ended: {facts}"
    assert told.split()[1] == "True", facts
