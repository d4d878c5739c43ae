"""Takes beside each other: one sound each, the right twin, every word escaped."""

from __future__ import annotations

import dataclasses
import html
import json
import re
import threading
import time
from typing import Any

import numpy as np
import pytest
from generation_samples import Reader
from show_samples import EVIL, Ear, sent_by, tone
from steering_fixture import direction
from tolerances import ROUNDED

from workbench.errors import EvidenceError, GenerationError
from workbench.evidence.damage import damage, likelihood
from workbench.generation.generate import generate
from workbench.generation.reproduce import reproduction_code
from workbench.generation.take import Take
from workbench.show import plots
from workbench.show.widgets.history import TakeRow
from workbench.show.widgets.takes import TakeComparison, compare
from workbench.sound.clip import Clip


@pytest.fixture(scope="module")
def takes(tiny_model: Any) -> dict[str, Take]:
    plan = direction(tiny_model, 1).at(0.8)
    made = generate(
        tiny_model, "a tune", steering=[None, plan, plan + plan], seed=3, seconds=1.0, progress=False,
        probes=[Reader()],
    )  # fmt: skip
    return dict(zip(["unsteered", "jazz", "more jazz"], made, strict=True))


def cells(comparison: TakeComparison) -> dict[str, list[str]]:
    """The table of damage, by take."""
    found = {}
    for row in re.findall(r"<tr><th scope='row'>(.*?)</tr>", comparison.damage.value):
        name, *rest = re.split(r"</th>|</td>", row)
        found[html.unescape(name)] = [cell.removeprefix("<td>") for cell in rest if cell]
    return found


def test_a_comparison_shows_what_there_is(takes: dict[str, Take]) -> None:
    ear = Ear()
    comparison = TakeComparison(takes, [ear])
    assert list(comparison.sounds) == list(takes) and comparison.sounds["jazz"] is takes["jazz"].clip
    shown = [comparison.player, comparison.scores, comparison.verdicts["genre"], comparison.damage]
    assert list(comparison.children) == [*shown, comparison.made]
    bars = comparison.verdicts["genre"].figure["data"]
    assert [bar["name"] for bar in bars] == list(takes)
    heard = Ear().probabilities([takes["jazz"].clip])[0].tolist()
    assert bars[1]["y"] == pytest.approx(heard)
    assert ear.asked == 3
    state = json.dumps(
        [w.get_state() for w in (comparison.damage, comparison.made, comparison.scores.plot)], default=str
    )
    for clip in comparison.player.clips:
        assert clip["audio"][:200] not in state, "no sound stands on the page twice"


def test_clips_alone_are_only_heard() -> None:
    comparison = compare(tone(220), tone(330))
    assert list(comparison.children) == [comparison.player, comparison.scores]
    assert comparison.scores.layout.display == "none"
    judged = compare(tone(220), tone(330), judges=[Ear()])
    assert list(judged.children)[2:] == [judged.verdicts["genre"]]


def test_it_is_played_and_saved_like_its_player(takes: dict[str, Take], tmp_path: Any) -> None:
    comparison = compare(*takes.values(), names=list(takes))
    sent = sent_by(comparison.player)
    comparison.player.ready = True
    comparison.play("jazz", at_s=0.5)
    comparison.stop()
    assert [content["kind"] for content, _ in sent] == ["play", "stop"]
    comparison.current = 2
    comparison.player.level, comparison.player.playing = 0.25, True
    assert (comparison.player.current, comparison.current) == (2, 2)
    assert (comparison.level, comparison.playing) == (0.25, True)
    assert [path.name for path in comparison.save(tmp_path)] == [f"{name}.wav" for name in takes]


def test_scores_stand_on_the_player_s_clock(takes: dict[str, Take]) -> None:
    comparison = TakeComparison({"long": tone(220, 3.0), **takes})
    scores = comparison.scores
    assert scores.layout.display == "" and scores.plot.clock == comparison.player.key
    assert scores.probe.label == "genre, layer 2" and list(scores.class_.options) == ["jazz", "rock"]
    assert scores.plot.figure["layout"]["xaxis"]["range"] == [0, 3.0]
    lines = {line["name"]: line for line in scores.plot.figure["data"] if line.get("name")}
    assert list(lines) == list(takes)
    assert lines["jazz"]["line"]["color"] == lines["more jazz"]["line"]["color"]
    assert lines["jazz"]["line"]["dash"] != lines["more jazz"]["line"]["dash"]
    before = scores.plot.figure["layout"]["title"]["text"]
    scores.class_.value = next(one for one in scores.class_.options if one not in before)
    assert scores.class_.value in scores.plot.figure["layout"]["title"]["text"]
    kept = scores.class_.value
    comparison.load({"one": takes["jazz"]})
    assert scores.class_.value == kept
    assert [line["name"] for line in scores.plot.figure["data"] if line.get("name")] == ["one"]
    comparison.load({"none": dataclasses.replace(takes["jazz"], probe_traces=())})
    assert scores.layout.display == "none"


def test_the_table_and_the_line_are_the_readings(takes: dict[str, Take]) -> None:
    (trace,) = takes["jazz"].probe_traces
    read = np.random.default_rng(0).random(25)  # the tiny model's own readings are all but 0 and 1
    trace = dataclasses.replace(trace, probabilities=np.stack([1 - read, read], axis=1))
    figure = plots.take_scores({"jazz": trace}, "rock", seconds=1.0)
    faint, strong = figure.data[0], figure.data[1]
    assert np.allclose(faint.y, read, **ROUNDED)
    around = [read[6:end].mean() for end in (18, 19)]  # half a second is 12 or 13 of 25 readings
    assert np.isclose(strong.y[12], around, **ROUNDED).any()
    level = dataclasses.replace(trace, probabilities=np.full_like(trace.probabilities, 0.25))
    held = plots.take_scores({"jazz": level}, "rock", seconds=1.0).data[1].y
    assert np.allclose(held, 0.25, **ROUNDED) and len(held) == 25, "the ends are means of what there is"
    assert figure.layout.shapes[0].y0 == 0.5
    table = TakeComparison(takes).scores.plot.csv.splitlines()
    assert table[0] == "take,seconds,jazz,rock" and len(table) == 1 + 3 * 25
    with pytest.raises(EvidenceError, match="the traces know jazz, rock"):
        plots.take_scores({"jazz": trace}, "polka", seconds=1.0)


def test_the_first_class_shown_is_the_one_that_moved_most(takes: dict[str, Take]) -> None:
    def traced(name: str, *shares: float) -> Take:
        (trace,) = takes[name].probe_traces
        read = np.tile(np.array(shares, dtype=np.float32), (25, 1))
        changed = dataclasses.replace(trace, classes=("a", "b", "c"), probabilities=read)
        return dataclasses.replace(takes[name], probe_traces=(changed,))

    pair = {"unsteered": traced("unsteered", 0.6, 0.3, 0.1), "jazz": traced("jazz", 0.5, 0.1, 0.4)}
    assert TakeComparison(pair).scores.class_.value == "c"
    assert TakeComparison({"jazz": pair["jazz"]}).scores.class_.value == "a"


def test_a_click_on_a_line_plays_that_take_from_there(takes: dict[str, Take]) -> None:
    comparison = TakeComparison(takes)
    sent = sent_by(comparison.player)
    comparison.player.ready = True
    curve = [line.get("name") for line in comparison.scores.plot.figure["data"]].index("more jazz")
    point = {"curve": curve, "index": 3, "x": 0.4, "y": 0.5, "data": None}
    comparison.scores.plot._handle_custom_msg({"kind": "click", "points": [point]}, [])
    assert sent[0][0] == {"kind": "play", "index": 2, "at_s": 0.4}


def test_damage_stands_beside_the_twin(takes: dict[str, Take]) -> None:
    other = dataclasses.replace(takes["jazz"], seed=4)
    comparison = TakeComparison({**takes, "stranger": other, "again": takes["unsteered"]})
    assert comparison.twins == {"jazz": "unsteered", "more jazz": "unsteered"}
    table = cells(comparison)
    found = damage(takes["jazz"].clip, takes["unsteered"].clip)
    level = f"{found['level_db']:.1f} dB ({found['level_db_change']:+.1f})"
    assert table["jazz"][0] == level
    assert "(" not in table["unsteered"][0] and "(" not in table["stranger"][0]
    assert "seed and settings is here for stranger" in comparison.damage.value
    named = TakeComparison({**takes, "stranger": other}, reference="jazz")
    assert set(named.twins.values()) == {"jazz"} and "(" in cells(named)["unsteered"][0]
    with pytest.raises(EvidenceError, match="the takes are unsteered, jazz, more jazz"):
        TakeComparison(takes, reference="nobody")


def test_the_likelihood_is_there_when_it_is_asked_for(tiny_model: Any, takes: dict[str, Take]) -> None:
    comparison = TakeComparison(takes)
    assert "NLL" not in comparison.damage.value
    comparison.measure_likelihood(tiny_model)
    plain, jazz = (likelihood(tiny_model, [takes[name]])[0].nll for name in ("unsteered", "jazz"))
    assert cells(comparison)["jazz"][-1] == f"{jazz:.2f} nats ({jazz - plain:+.2f})"
    comparison.load(takes)
    assert "NLL" not in comparison.damage.value


def test_each_take_says_how_it_was_made(takes: dict[str, Take]) -> None:
    comparison = TakeComparison(takes)
    text = html.unescape(comparison.made.value)
    assert takes["more jazz"].steering in text and str(takes["more jazz"].receipt) in text
    assert [
        html.unescape(code) for code in re.findall("<pre>(.*?)</pre>", comparison.made.value, re.DOTALL)
    ] == [reproduction_code(take) for take in takes.values()]
    lost = dataclasses.replace(takes["jazz"], plan=None)
    told = TakeComparison({"lost": lost}).made.value
    assert "<pre>" not in told and "directions were not kept" in html.unescape(told)


def test_everything_is_escaped(takes: dict[str, Take]) -> None:
    bad = dataclasses.replace(takes["jazz"], prompt=EVIL, model_id=EVIL, steering=EVIL, plan=None)
    comparison = TakeComparison({EVIL: bad, "jazz": takes["jazz"]}, {EVIL: Ear(EVIL, (EVIL, "rock"))})
    for shown in (comparison.damage.value, comparison.made.value):
        assert EVIL not in shown and html.escape(EVIL) in shown


def test_judges_hear_only_what_is_new_and_are_told_apart(takes: dict[str, Take]) -> None:
    first, second, tempo = Ear(), Ear(), Ear("tempo", ("slow", "fast"))
    comparison = TakeComparison({"jazz": takes["jazz"]}, [first, second, tempo])
    assert list(comparison.verdicts) == ["genre", "genre (2)", "tempo"]
    assert "What does the judge of tempo hear?" in json.dumps(comparison.verdicts["tempo"].figure)
    comparison.load(takes)
    assert first.asked == 3 and tempo.asked == 3
    comparison.load({})
    assert list(comparison.children) == [comparison.player, comparison.scores]
    assert TakeComparison(takes, Ear()).verdicts.keys() == {"genre"}, "a judge alone will do"


def test_many_verdicts_become_a_table(takes: dict[str, Take]) -> None:
    many = {f"take {number}": takes["jazz"] for number in range(16)}
    figure = TakeComparison(many, [Ear("tempo")]).verdicts["tempo"].figure
    assert figure["data"][0]["type"] == "heatmap" and len(figure["data"][0]["y"]) == 16


def test_clips_stand_among_takes(takes: dict[str, Take]) -> None:
    comparison = TakeComparison({"a song": tone(220), **takes}, [Ear()])
    assert list(comparison.sounds) == ["a song", *takes]
    assert isinstance(comparison.sounds["a song"], Clip) and "a song" not in comparison.damage.value
    assert len(comparison.verdicts["genre"].figure["data"]) == 4


def test_the_new_part_of_a_continuation_is_compared_with_its_baseline(
    tiny_model: Any,
) -> None:
    plan, quick = direction(tiny_model, 1).at(0.8), {"seed": 3, "seconds": 0.6, "progress": False}
    beginnings = [np.random.default_rng(number).integers(0, 64, (4, 10)) for number in range(2)]
    made = [
        generate(tiny_model, "a tune", steering=steering, audio=given, **quick)
        for given in beginnings for steering in (None, plan)
    ]  # fmt: skip
    heard: list[float] = []

    class Lengths(Ear):
        def probabilities(self, clips: Any) -> np.ndarray:
            heard.extend(round(clip.seconds, 2) for clip in clips)
            return super().probabilities(clips)

    named = dict(zip(["one", "one steered", "two", "two steered"], made, strict=True))
    comparison = TakeComparison(named, [Lengths()])
    assert heard == [0.6] * 4
    assert comparison.twins["one steered"] == "one" and comparison.twins["two steered"] == "two"
    change = damage(made[3].new, baseline=made[2].new)["level_db_change"]
    assert f"({change:+.1f})" in cells(comparison)["two steered"][0]


def test_takes_may_be_ticked_while_a_worker_brings_others(takes: dict[str, Take]) -> None:
    class Slow(Ear):
        def probabilities(self, clips: Any) -> np.ndarray:
            time.sleep(0.3)
            return super().probabilities(clips)

    comparison = TakeComparison({}, [Slow()])
    worker = threading.Thread(target=comparison.load, args=(takes,))
    worker.start()
    time.sleep(0.1)
    comparison.load({"unsteered": takes["unsteered"]})
    worker.join()
    assert list(comparison.player.sounds) == list(comparison.takes) == ["unsteered"]
    assert [trace["name"] for trace in comparison.verdicts["genre"].figure["data"]] == ["unsteered"]


def test_what_a_folder_says_of_itself_is_no_page(takes: dict[str, Take], tmp_path: Any) -> None:
    folder = takes["jazz"].save(tmp_path / "sent")
    kept = json.loads((folder / "take.json").read_text())
    (folder / "take.json").write_text(json.dumps({**kept, "seed": "<img src=x onerror=alert(1)>"}))
    with pytest.raises(GenerationError, match="seed is"):
        Take.load(folder)
    with pytest.raises(GenerationError, match="its seed is"):
        dataclasses.replace(takes["jazz"], seed=EVIL)  # type: ignore[arg-type]
    forged = dataclasses.replace(takes["jazz"], prompt=EVIL, model_id=EVIL)
    row = TakeRow("sent", forged, "")
    assert EVIL not in forged._repr_html_() and EVIL not in row.words.value


def test_the_notes_of_a_band_stand_under_the_player(band_model: Any, takes: dict[str, Take]) -> None:
    plain = generate(band_model, "a tune", seed=3, seconds=0.6, progress=False)
    comparison = TakeComparison({"unsteered": plain, "tone": tone(220, 2.0)})
    (roll,) = comparison.rolls
    assert comparison.children[:2] == (comparison.player, roll)
    assert roll.clock == comparison.player.key
    assert len(roll.csv.splitlines()) == 1 + len(plain.score())
    assert roll.figure["layout"]["xaxis"]["range"] == [0, 2.0], "the player's clock"
    comparison.load(takes)
    assert comparison.rolls == [], "another codec's codes are no notes"
