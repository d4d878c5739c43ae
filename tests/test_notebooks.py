"""Every notebook runs from top to bottom in a fresh kernel with few clips, and shows what it promises."""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from workbench.model.folders import builtin_folder

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"


def number(path: Path) -> str:
    """Return the number of a notebook."""
    return path.stem.partition("_")[0]


BOOKS = sorted(FOLDER.glob("*.ipynb"), key=lambda path: int(number(path)))
LOOK = {  # what is asked after the last cell: nbclient does not follow widgets that worker threads make
    "0": "print('FIGURES', json.dumps({name: max(row, key=row.get) for name, row in rows.items()}))\n"
    "print(genre_map.plot.figure['layout']['title']['text'])",
    "1": "print('FIGURES', json.dumps([table.min().to_dict(), table.max().to_dict(),\n"
    "  {name: [s.best.accuracy, s.best.scores.low] for name, s in {**sweeps, 'coin': grouped}.items()}]))",
    "2": "drawn = {name: [one.points.tolist(), [*one.labels.genre]] for name, one in maps.items()}\n"
    "print('FIGURES', json.dumps(drawn))\n"
    "print(genre_map.plot.figure['layout']['title']['text'])",
    "3": "print('FIGURES', json.dumps([rates.to_dict('records'), changes]))\n"
    "print(list(desk.player.sounds), desk.verdict.figure['layout']['title']['text'])",
    "5": "print(lab.tabs.titles, genre_map.plot.figure['layout']['title']['text'])",
    "6": "print(labs.lab.wait().verdict())",
    "7": "print('FIGURES', json.dumps([heard, table.to_dict(), spill.specificity()], default=dict))\n"
    "print(lab.text, list(lab.history.takes), lab.finder.verdict.value, lab.costs.value)",
    "8": "print(desk.figures().state, desk.status.value, len(desk.folders))",
    "9": "sums = effects.table.effect.sum() + effects.rest, effects.total\n"
    "tables = [one.to_dict('records') for one in (rates, acts, early.table)]\n"
    "print('FIGURES', json.dumps([found.table().share.max(), sums, *tables]))\n"
    "print(list(panel.player.sounds), panel.take.receipt)",
    "10": "print('FIGURES', json.dumps([chart.probes['logistic'].best.layer,\n"
    "  chart.doses.to_dict('records'), [path.name for path in place.iterdir()]]))",
    "4": "print('FIGURES', json.dumps([songs.groups.tolist(), list(faulty), probes.best.accuracy]))\n"
    "print(list(desk.player.sounds), own_map.plot.figure['layout']['title']['text'])",
}


def group(number: str) -> pytest.MarkDecorator:
    """All tests of one notebook run in one process, which executes it once."""
    return pytest.mark.xdist_group(f"notebook-{number}")


LONG = ("7", "9")  # a minute each; what they show has tests of its own, and `make verify-laws` runs them


def marks(number: str) -> list[pytest.MarkDecorator]:
    """Return the marks of a notebook's tests."""
    return [group(number), *([pytest.mark.long] if number in LONG else [])]


FEW = "10"  # clips of each genre: five folds need five grooves of each

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(not (builtin_folder() / "config.json").exists(), reason="no built-in model here"),
]


@pytest.fixture(scope="session")  # tests of other modules may run between two of one notebook
def executed(tmp_path_factory: pytest.TempPathFactory, shared: Callable[..., Path]) -> Callable[[Path], Any]:
    """Return a function that runs a notebook once; they share one cache, as a user's do theirs."""
    scratch, cache = tmp_path_factory.mktemp("notebooks"), shared("notebooks", Path.mkdir)
    done: dict[Path, Any] = {}

    def run(path: Path) -> Any:
        if path not in done:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("WORKBENCH_PER_GENRE", FEW)
                patch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))
                patch.setenv("WORKBENCH_CACHE", str(cache))
                patch.setenv("WORKBENCH_OUT", str(scratch / "out"))
                patch.setenv("IPYTHONDIR", str(scratch / "ipython"))
                book = nbformat.read(path, as_version=4)
                book.cells.append(nbformat.v4.new_code_cell(f"import json\n{LOOK.get(number(path), '')}"))
                client = NotebookClient(
                    book, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(FOLDER)}}
                )
                client.execute()
            done[path] = client
        return done[path]

    return run


def outputs(client: Any) -> list[Any]:
    """Return the outputs of all cells, in order."""
    return [out for cell in client.nb.cells if cell.cell_type == "code" for out in cell.outputs]


def shown(client: Any) -> str:
    """Return all that is printed or shown as text."""
    outs = outputs(client)
    kinds = ("text/html", "text/markdown")
    return "\n".join(
        str(out.get("text", "")) + "".join(str(out.get("data", {}).get(kind, "")) for kind in kinds)
        for out in outs
    )


def seen(client: Any) -> list[str]:
    """Return the computed sentences, in order."""
    pages = [str(out.get("data", {}).get("text/html", "")) for out in outputs(client)]
    found = [re.search(r"<b>What you see:</b> (.*)</div>", page) for page in pages]
    return [html.unescape(one.group(1)) for one in found if one]


def figures(client: Any) -> Any:
    """Return the figures that were asked for after the last cell, to hold the sentences against them."""
    text = "".join(str(out.get("text", "")) for out in outputs(client) if out.get("name") == "stdout")
    return json.loads(text.partition("FIGURES ")[2].splitlines()[0])


def states(client: Any, trait: str) -> list[Any]:
    """Return that trait of all live widgets that have it."""
    return [state[trait] for state in client.widget_state.values() if trait in state]


def questions(client: Any) -> set[str]:
    """Return the titles of all figures, without mark-up."""
    figures = [figure for figure in states(client, "figure") if figure]
    return {figure["layout"]["title"]["text"].removeprefix("<b>").removesuffix("</b>") for figure in figures}


def heard(client: Any) -> list[list[str]]:
    """Return the names of the clips of every player that holds some."""
    return [[clip["name"] for clip in clips] for clips in states(client, "clips") if clips]


def stem(path: Path) -> str:
    """Return the name of a notebook, as the name of its test."""
    return path.stem


def test_the_notebooks_are_there_and_all_are_for_any_kernel() -> None:
    assert [number(path) for path in BOOKS] == [str(place) for place in range(11)]
    for path in BOOKS:
        book = nbformat.read(path, as_version=4)
        nbformat.validate(book)
        assert book.metadata.kernelspec.name == "python3"


@pytest.mark.parametrize("path", [pytest.param(path, marks=marks(number(path))) for path in BOOKS], ids=stem)
def test_a_notebook_runs_and_ends_with_two_exercises(path: Path, executed: Callable[[Path], Any]) -> None:
    client = executed(path)  # an error in a cell raises here
    kinds = [out.output_type for out in outputs(client)]
    assert "error" not in kinds
    spoken = [str(out) for out in outputs(client) if out.get("name") == "stderr"]
    assert not [text for text in spoken if "Traceback" in text or "Warning" in text]
    words = "labs.check(" if number(path) == "6" else "exercises."
    checks = [cell for cell in client.nb.cells if cell.cell_type == "code" and words in cell.source]
    assert len(checks) == (1 if number(path) == "6" else 2)
    assert shown(client).count("No answer yet.") == (6 if number(path) == "6" else 2)


@group("0")
def test_the_quickstart_probes_maps_steers_and_plays(executed: Callable[[Path], Any]) -> None:
    client = executed(BOOKS[0])
    assert "In which layers can a linear probe read the genre?" in questions(client)
    assert "Do clips of one genre lie together at layer 3?" in shown(client)
    assert "What does the judge hear in each clip?" in questions(client)
    genres = ["classical", "country", "electronic", "jazz", "reggae", "rock"]
    assert genres in heard(client)
    steered = next(names for names in heard(client) if names[0] == "unsteered")
    assert len(steered) == 7
    assert all(any(genre in name for name in steered) for genre in genres)
    assert "cells changed" in shown(client) and "NOT as planned" not in shown(client)
    layers, together, judged = seen(client)
    assert re.match(r"at its best layer, \d, the probe names the genre of \d+ % of the clips", layers)
    assert re.match(r"for \d+ % of the clips the nearest one on this map", together)
    verdict = figures(client)
    hits = sum(verdict[genre] == genre for genre in genres)
    assert f"unsteered tune as {verdict['unsteered']}; it hears {hits} of 6 pushes" in judged


@group("1")
def test_the_probe_notebook_shows_the_leak_and_every_target(executed: Callable[[Path], Any]) -> None:
    client = executed(BOOKS[1])
    text = shown(client)
    targets, _moment, leak, agreement, _mistakes = seen(client)
    low, high, best = figures(client)
    assert all(
        f"{pair}: " in agreement and f"({low[pair]:.2f} to {high[pair]:.2f})" in agreement for pair in low
    )
    assert ("nearly the same" in agreement) == any(value >= 0.9 for value in low.values())
    assert f"interval begins at {100 * best.pop('coin')[1]:.0f} %" in leak
    written = [[f"{name} ({100 * best[name][0]:.{digits}f} % " for digits in (0, 1)] for name in best]
    assert sum(any(form in targets for form in forms) for forms in written) >= 2
    for word in (
        "genre",
        "band",
        "tempo",
        "mode",
        "mood",
        "density",
        "random split",
        "logistic, means",
        "0.2 s",
    ):
        assert word in text


@group("2")
def test_the_map_notebook_draws_three_maps_and_measures_trust(executed: Callable[[Path], Any]) -> None:
    client = executed(BOOKS[2])
    maps = [f for f in states(client, "figure") if f and "lie together" in f["layout"]["title"]["text"]]
    assert len(maps) >= 2  # and the panel's own, where its thread was quick enough to be followed
    assert "Do clips of one genre lie together at layer 3?" in shown(client)
    assert "trustworthiness" in shown(client)
    told = seen(client)
    assert len(told) == 4 and "of the variance" in told[2]
    share = {}
    for name, (points, genres) in figures(client).items():
        places, kinds = np.array(points), np.array(genres)
        away = ((places[:, None] - places[None]) ** 2).sum(2) + np.diag([np.inf] * len(places))
        share[name] = f"{100 * (kinds == kinds[away.argmin(1)]).mean():.0f} %"
    assert told[0].startswith(f"for {share['umap']} of the clips")
    assert all(f"{name} {value}" in told[3] for name, value in share.items())


@group("3")
def test_the_steering_notebook_steers_controls_and_keeps_receipts(executed: Callable[[Path], Any]) -> None:
    client = executed(BOOKS[3])
    assert "How much steering does it take to change the genre?" in questions(client)
    assert "['unsteered', 'rock 0.2']" in shown(client) and "What does the judge hear?" in shown(client)
    assert any(names[:1] == ["unsteered"] and len(names) == 4 for names in heard(client))
    assert "ramp(1s,3s)" in shown(client) and "left alone: schedule" in shown(client)
    assert "random" in shown(client) and "flatness" in shown(client)
    rates, changes = figures(client)
    doses, damage = seen(client)
    steered = [row for row in rates if row["method"] == "probe"]
    assert all(f"{100 * row['hit_rate']:.0f} % at {row['dose']:g}" in doses for row in steered)
    falls = steered[-1]["hit_rate"] < max(row["hit_rate"] for row in steered)
    assert falls == ("More is not better" in doses)
    louder = {name for name, row in changes.items() if abs(row["level_db_change"]) > 3}
    assert all(f"{name} (" in damage for name in louder)


@group("4")
def test_the_folder_notebook_finds_the_planted_mistake(executed: Callable[[Path], Any]) -> None:
    client = executed(BOOKS[4])
    assert "contradiction" in shown(client) and "take five.wav" in shown(client)
    groups, faulty, accuracy = figures(client)
    grouped, linted, probed, _near = seen(client)
    assert len(faulty) == 2 and "take five.wav" in str(faulty)
    assert re.match(r"the rule GROUP made \d+ groups of 31 files", grouped) and len(set(groups)) > 9
    assert linted.startswith("2 errors and") and "2 clips stand in an error" in linted
    assert f"of {100 * accuracy:.0f} % of the clips" in probed
    assert "['unsteered', 'jazz 0.2']" in shown(client)
    assert "Do clips of one genre lie together at layer 3?" in shown(client)


@group("5")
def test_the_probe_lab_examines_maps_and_reads_over_time(executed: Callable[[Path], Any]) -> None:
    client = executed(BOOKS[5])
    text = shown(client)
    assert "on new grooves" in text and "strongest baseline" in text
    tabs = (
        "Accuracy",
        "Leaks",
        "Confounds",
        "Baselines",
        "Labels",
        "Numbers",
        "Directions",
        "Ridge to means",
    )
    assert all(tab in text for tab in tabs)
    assert any(names[:1] == ["unsteered"] and "jazz 0.2" in names[1] for names in heard(client))
    assert "Do clips of one genre lie together" in text
    assert "When does the probe hear which genre?" in questions(client)


@group("6")
def test_the_broken_probes_come_with_their_claims(executed: Callable[[Path], Any]) -> None:
    text = shown(executed(BOOKS[6]))
    assert "its claim" in text and "has accuracy" in text
    assert any("wb-unanswered" in names for names in states(executed(BOOKS[6]), "_dom_classes"))
    assert all(f"{name}: No answer yet." in text for name in "ABCDEF")


@pytest.mark.long
@group("7")
def test_the_steering_lab_combines_gates_goes_on_and_searches(executed: Callable[[Path], Any]) -> None:
    client = executed(next(path for path in BOOKS if number(path) == "7"))
    text = shown(client)
    assert "0.2*jazz@2 | constant | cond | gate(jazz@5 < 0.8 over 1s)" in text
    assert "gate" in text.split("left alone: ")[1].split(")")[0]
    assert "at right angles" in text and "in words: a calm tune, electronic" in text
    steered = ["jazz 0.15, slow 0.15", "electronic 0.2"]
    assert all(f"'{name}'" in text for name in ["unsteered", *steered])
    assert "At layer" in text and "nats per code" in text
    told, (heard_as, cosines, ratio) = seen(client), figures(client)
    assert f"{ratio:.1f} times as much" in told[-1]
    for name, shares in heard_as.items():
        assert f"{100 * shares.get('electronic', 0):.0f} % of {name}" in told[2]
    kind = {"jazz": 0, "rock": 0, "slow": 1, "fast": 1, "calm": 2, "energetic": 2}
    pairs = [(abs(cosines[a][b]), a, b) for a in kind for b in kind if kind[a] < kind[b]]
    assert f"{max(pairs)[1]} and {max(pairs)[2]} share most" in told[0]
    asked = {"Which directions share a part?", "What else does steering change?"}
    assert asked <= questions(client)
    assert ["unsteered", "jazz 0.2, until jazz"] in heard(client)


@group("8")
def test_the_live_desk_plays_and_its_recording_replays(executed: Callable[[Path], Any]) -> None:
    client = executed(next(path for path in BOOKS if number(path) == "8"))
    text = shown(client)
    played, replayed = seen(client)
    assert "all " in replayed and "codes of" in replayed and "bit for bit" in replayed
    assert ("no gaps" in played) == ("no gaps" in text.partition("stopped: ")[2].split(";")[0])
    assert "stopped: " in text and "steps/s" in text and "knob to ear" in text
    assert ["with the knob", "unsteered"] in heard(client)


@pytest.mark.long
@group("9")
def test_the_notebook_of_causes_patches_counts_and_erases(executed: Callable[[Path], Any]) -> None:
    client = executed(next(path for path in BOOKS if number(path) == "9"))
    text, told = shown(client), seen(client)
    asked = {"Which states carry the difference?", "Who writes it into the stream?"}
    assert {*asked, "Where is the genre read, and where does steering act?"} <= questions(client)
    assert ["rock", "jazz"] in heard(client) and "'patched: layer 3, 1.0 to 1.6 s'] 13 of" in text
    share, (sums, total), rates, acts, early = figures(client)
    carried, written, stopped, erased, apart = told
    assert f"goes {100 * share:.0f} % of the way" in carried
    assert sums == pytest.approx(total, abs=1e-3) and f"the read-out itself ({total:.2f})" in written
    assert early[-1]["same"] == 1.0 and f"unlikely by {early[0]['nll']:.2f} nats" in stopped
    assert all(f"{100 * row['hit_rate']:.0f} %" in erased for row in rates) and len(rates) == 10
    most = max(acts, key=lambda row: row["effect"])
    assert f"pushed best in layer {most['layer']} (" in apart and len(acts) == 6


@group("10")
def test_the_real_checkpoint_notebook_ends_at_a_desk(executed: Callable[[Path], Any]) -> None:
    client = executed(next(path for path in BOOKS if number(path) == "10"))
    text, (layer, doses, names) = shown(client), figures(client)
    assert "CC-BY-NC 4.0" in text and "facebook/musicgen-stereo-melody-large" in text
    assert "The atlas will take about" in text
    read, _near, recommended = seen(client)
    assert f"at its best layer, {layer}," in read
    assert {"README.md", "atlas.json", "probes-logistic", "activations"} <= set(names)
    for row in doses:
        assert row["by"] == "auto-dose"
        assert f"{row['aim']} at layer {row['layer']} with dose {row['dose']:g}" in recommended
    assert ["unsteered", "to country"] in heard(client)
    assert "In which layers can a linear probe read the genre?" in questions(client)
