"""The plain copy of a widget: what is in it, how large it is, and that it follows the widget."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
import soundfile
from ipywidgets.widgets.widget import _remove_buffers
from nbclient import NotebookClient
from show_samples import EVIL, JUDGED, projection, tone

from workbench.show import plots
from workbench.show.widgets import BlendPad, LivePlayer, kept
from workbench.show.widgets.fader import Fader
from workbench.show.widgets.kept import ASK
from workbench.show.widgets.players import ComparisonPlayer
from workbench.show.widgets.ui import Panel, PlotPanel
from workbench.sound.clip import Clip

PICTURE = "data:image/webp;base64,AAAA"
MAKE = """
import numpy as np
from workbench.show.widgets import ComparisonPlayer, PlotPanel
from workbench.show.widgets.ui import Panel
from workbench.sound.clip import Clip
clip = Clip(np.random.default_rng(0).uniform(-0.3, 0.3, 160_000), 32_000)
player = ComparisonPlayer({"noise": clip})
player
"""


def sounds_in(copy: str) -> list[tuple[np.ndarray, int]]:
    found = re.findall(r"<audio controls preload='metadata' src='data:audio/ogg;base64,([^']+)'", copy)
    return [soundfile.read(io.BytesIO(base64.b64decode(one))) for one in found]


@pytest.fixture(scope="module")
def outputs():
    """Outputs of cells that nobody looks at: a player, a panel that a later cell changes, a closed one."""
    later = "other = ComparisonPlayer()\nPanel([other])", 'other.load({"a": clip, "b": clip})'
    cells = [nbformat.v4.new_code_cell(text) for text in (MAKE, *later, "player.close()\nplayer")]
    book = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(book, timeout=120, store_widget_state=False).execute()
    return [cell.outputs for cell in book.cells]


def test_a_cell_holds_the_widget_and_its_copy_at_once(outputs):
    live, copy = (one.data for one in outputs[0])
    assert live["text/plain"] == ASK and "application/vnd.jupyter.widget-view+json" in live
    name = live["application/vnd.jupyter.widget-view+json"]["model_id"]
    assert f"wb-copy-{name}" in copy["text/html"] and f"wb-live-{name}" in copy["text/html"]
    ((sound, rate),) = sounds_in(copy["text/html"])
    assert (len(sound), rate) == (160_000, 32_000)
    assert len(copy["text/html"]) < 120_000, "five seconds of noise, which no codec makes small"
    assert ASK not in copy["text/html"] and "<script" not in copy["text/html"]


def test_a_panel_asks_to_be_run_and_plays_what_came_later(outputs):
    assert f"<p>{ASK}</p>" in outputs[1][1].data["text/html"]
    assert len(sounds_in(outputs[1][1].data["text/html"])) == 2
    (closed,) = outputs[3]
    assert closed.data == {"text/plain": "ComparisonPlayer, closed"}


def test_the_copy_has_the_gain_of_the_player():
    loud = tone(440, level=2.0)
    (sound, _), (quiet, _) = sounds_in(ComparisonPlayer({"loud": loud, "quiet": tone(440)}).copy_html())
    assert 0.9 < np.abs(sound).max() < 1.1
    assert np.sqrt((sound**2).mean() / (quiet**2).mean()) == pytest.approx(5, rel=0.1)


def test_names_in_a_copy_are_text():
    assert EVIL not in ComparisonPlayer({EVIL: tone(440)}).copy_html()
    panel = PlotPanel(plots.judged_genres(JUDGED).update_layout(title_text=f"a'b {EVIL} 1 < 2"))
    for picture in ("", PICTURE, "x' onload='alert(1)"):
        panel.picture = picture
        assert "<script" not in panel.copy_html() and "onload='" not in panel.copy_html()


def test_a_figure_has_the_picture_that_the_page_made_until_it_changes():
    panel = PlotPanel(plots.judged_genres(JUDGED))
    assert f"data-wb-figure='{panel.model_id}'" in panel.copy_html()
    panel._handle_custom_msg({"kind": "picture", "url": PICTURE}, [])
    assert f"<img alt='What does the judge hear?' src='{PICTURE}'" in panel.copy_html()
    panel.show(plots.judged_genres(JUDGED))
    assert PICTURE not in panel.copy_html(), "that is the picture of another figure"


def test_a_panel_shows_its_parts_but_for_those_that_are_hidden():
    player, hidden = ComparisonPlayer({"a": tone(440)}), ComparisonPlayer({"b": tone(440)})
    hidden.layout.display = "none"
    copy = Panel(
        [Panel([player]), hidden, PlotPanel(), Panel([ComparisonPlayer({"c": tone(1)})], hidden=True)]
    )
    assert len(sounds_in(copy.copy_html())) == 1


def test_a_copy_follows_all_parts_also_those_that_come_later():
    panel, sent = Panel(), []
    panel._copies = (
        type("Handle", (), {"update": lambda _self, data, raw: sent.append(data["text/html"])})(),
    )
    panel._renew_copies()
    player, plot = ComparisonPlayer(), PlotPanel()
    panel.children = [player]
    panel.children = [player, plot]
    player.load({"a": Clip(np.zeros(8000), 8000)})
    assert len(sounds_in(sent[-1])) == 1
    plot.show(plots.judged_genres(JUDGED))
    assert "data-wb-figure" in sent[-1] and "<script>" in sent[-1]
    plot.picture = PICTURE
    assert PICTURE in sent[-1] and "<script>" not in sent[-1]
    count = len(sent)
    player.current, plot.name = 0, "other"
    assert len(sent) == count, "nothing is sent where nothing has changed"


def test_binary_messages_are_sent_by_players_alone():
    """Some hosts drop them; players notice and send text (see tests/browser/test_browser_desk.py)."""
    folder = Path(kept.__file__).parent
    sending = [path.name for path in folder.glob("*.py") if "buffers=" in path.read_text(encoding="utf-8")]
    assert sending == ["players.py"]
    pad, fader = BlendPad(["jazz", "rock", "reggae", "country"], strength=0.2), Fader("jazz")
    figure, player = PlotPanel(plots.map_scatter(projection())), ComparisonPlayer({"a": tone(440)})
    for widget in (pad, fader, figure, player, LivePlayer(32_000)):
        _state, _paths, buffers = _remove_buffers(widget.get_state())
        assert buffers == [], type(widget).__name__
