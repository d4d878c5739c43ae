"""The command line: it teaches, it works end to end, its errors are one line."""

import ast
import contextlib
import importlib
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from clone_fixture import small_clone
from PIL import Image, ImageColor

import workbench as wb
from workbench.cli import main
from workbench.cli.app import LIVE
from workbench.cli.copies import PAGES
from workbench.cli.demo import DOSES
from workbench.cli.main import parser
from workbench.cli.tasks import SHUFFLES, across, up
from workbench.evidence.judge import register_judge
from workbench.evidence.report import Verdict
from workbench.extensions import load_extension
from workbench.model.musicgen import Model
from workbench.probing import ProbeSweep
from workbench.show.plots.probing import BLUE

ROOT = Path(__file__).resolve().parents[2]
command_line = importlib.import_module("workbench.cli.main")


@pytest.mark.parametrize("command", ["lab", "app", "demo", "doctor", "capture", "probe", "steer", "evaluate"])
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert len(capsys.readouterr().out) > 200


def test_the_first_page_walks_through_the_job(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    told = capsys.readouterr().out
    assert all(
        f"workbench {name}" in told
        for name in ("doctor", "lab", "demo", "capture", "probe", "steer", "evaluate")
    )
    assert parser().prog == "workbench"


def test_the_doctor_finds_everything_well(capsys):
    assert main(["doctor"]) == 0
    told = capsys.readouterr().out
    assert "steering:" in told
    assert "cells changed" in told
    assert "Everything works." in told
    assert re.search(r"ok speed: [\d.]+ steps/s, [\d.]+ x real time; decoder cpu float32; text encoder", told)
    assert re.search(r"steps/s by threads: 1: [\d.]+", told) and torch.get_num_threads() == 1


def test_the_doctor_warns_of_what_slows_a_model_down(monkeypatch, tiny_model):
    rates = {1: 10.0, 4: 30.0}  # by clips; two threads are twice as fast
    monkeypatch.setattr(
        command_line, "_steps_per_second",
        lambda _model, clips=1: rates[clips] * torch.get_num_threads(),
    )  # fmt: skip
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(command_line, "_swapped_mb", lambda: 12)
    told = command_line._speed(tiny_model)
    assert "! 4 clips at once are made 3.0 x as fast" in told
    assert "! steps/s by threads: 1: 10.0, 2: 20.0; 1 in use. OMP_NUM_THREADS=2 is faster" in told
    assert "! the accelerator of this machine is not used" in told
    assert "! 12 MB of this process are in swap" in told
    assert torch.get_num_threads() == 1


def test_the_doctor_says_what_is_missing(capsys, tmp_path):
    assert main(["doctor", "--model", str(tmp_path)]) == 1
    assert "there is no config.json in it" in capsys.readouterr().out


def in_python(told):
    """Run the line that a command ends with; return its variables and the value of its last expression."""
    last = told.strip().splitlines()[-1]
    assert last.startswith("In Python: import workbench as wb; ")
    *lines, shown = ast.parse(last.removeprefix("In Python: ")).body
    names = {}
    exec(compile(ast.Module(lines, []), "line", "exec"), names)
    if isinstance(shown, ast.Expr):
        return names, eval(compile(ast.Expression(shown.value), "line", "eval"), names)
    exec(compile(ast.Module([shown], []), "line", "exec"), names)
    return names, None


@pytest.fixture(scope="module")
def store(tiny_folder, tiny_dataset, tmp_path_factory):
    """A folder with music, and what `workbench capture` stored and printed of it."""
    root = tmp_path_factory.mktemp("job")
    for index, entry in enumerate(tiny_dataset):
        tiny_dataset.clip(index).write(
            root / "music" / str(entry.labels["genre"]) / f"{'ab'[index % 2]}{index % 6}_{index}.wav"
        )
    with contextlib.redirect_stdout(io.StringIO()) as told:
        words = ["--model", str(tiny_folder), "--music", str(root / "music"), "-o", str(root / "acts.zarr")]
        assert main(["capture", *words]) == 0
    (root / "told").write_text(told.getvalue())
    return root


def test_capture_probe_and_steer_follow_one_another(tiny_folder, store, tmp_path, capsys):
    acts, probes, wav = store / "acts.zarr", tmp_path / "probes", tmp_path / "steered.wav"
    assert len(in_python((store / "told").read_text())[0]["acts"]) == 18
    assert main(["probe", str(acts), "--method", "ridge", "-o", str(probes)]) == 0
    told = capsys.readouterr().out
    assert "accuracy" in told
    sweep = in_python(told)[0]["probes"]
    assert sweep.method == "ridge" and sweep.layers == (0, 1, 2, 3)
    files = sorted(probes.glob("*.safetensors"))
    directions = [wb.Direction.load(file) for file in files]
    assert [one.layer for one in directions] == [2, 2, 2], "the middle of four, not the best by luck"
    assert directions[0].fingerprint == sweep[2].direction("classical").fingerprint
    steer = ["steer", "a tune", "--model", str(tiny_folder), "--direction", str(files[0]), "--seconds", "0.5"]
    assert main([*steer, "-o", str(wav)]) == 0
    assert wav.exists()
    assert wav.with_name("steered-unsteered.wav").exists()
    told = capsys.readouterr().out
    assert "cells changed" in told
    assert [clip["name"] for clip in in_python(told)[1].children[0].clips] == ["unsteered", "steered"]
    assert main(["probe", str(acts), "--method", "means"]) == 0
    assert in_python(capsys.readouterr().out)[0]["probes"].method == "means"
    assert main([*steer, "--operation", "keep_norm", "-o", str(wav)]) == 0
    assert "keep_norm(" in capsys.readouterr().out


def test_probe_tells_what_a_layer_confuses_and_takes_its_directions(store, tmp_path, capsys):
    words = ["probe", str(store / "acts.zarr"), "--method", "means", "--layer", "1", "-o", str(tmp_path)]
    assert main(words) == 0
    told = capsys.readouterr().out
    sweep, counts = ProbeSweep.load(tmp_path / "sweep"), {}
    for row in told.split("predicted across.\n")[1].splitlines()[2:5]:
        genre, *cells, recall = row.split()
        counts[genre] = [int(cell) for cell in cells]
        own = counts[genre][["classical", "jazz", "rock"].index(genre)]
        assert recall == f"{own / 6:.0%}" and sum(counts[genre]) == 6
    assert list(counts.values()) == sweep.confusion(1).to_numpy().tolist()
    assert {wb.Direction.load(file).layer for file in tmp_path.glob("*.safetensors")} == {1}
    assert main(["probe", str(store / "acts.zarr"), "--layer", "9"]) == 1
    told = capsys.readouterr()
    assert "Layer 9" in told.err and "accuracy" not in told.out


@pytest.mark.parametrize(
    ("rule", "groups"), [("clip", 18), (r"/(\w\d)_", 6), ("genre", None), ("[ab](.", None)]
)
def test_probe_groups_by_a_label_or_a_pattern(store, capsys, rule, groups):
    status = main(["probe", str(store / "acts.zarr"), "--method", "means", "--group", rule])
    told = capsys.readouterr()
    if groups is None:
        assert status == 1 and "but" in told.err
        return
    line = told.out.splitlines()[0].split(), told.out.splitlines()[1].split()
    assert int(line[1][line[0].index("groups")]) == groups
    probes = in_python(told.out)[0]["probes"]
    assert probes.held_out["group"].nunique() == groups and probes.method == "means"


def test_probe_lints_the_music_that_was_captured(store, tmp_path, capsys):
    words = ["probe", str(store / "acts.zarr"), "--method", "means", "--lint"]
    assert main([*words, "--music", str(store / "music")]) == 0
    told = capsys.readouterr().out
    assert told.startswith("music: 18 clips, ") and told.index("clips") < told.index("accuracy")
    assert main(words) == 1
    assert "18 of the captured clips are not in it" in capsys.readouterr().err


def test_probe_draws_accuracy_per_layer_as_png(store, tmp_path, capsys):
    png = tmp_path / "deep" / "accuracy.png"
    assert main(["probe", str(store / "acts.zarr"), "--method", "means", "--png", str(png)]) == 0
    told = capsys.readouterr().out
    table = in_python(told)[0]["probes"].table()
    assert str(png) in told
    image = Image.open(png)
    assert image.format == "PNG" and image.size == (1200, 700)
    blue = ImageColor.getrgb(BLUE)
    for number, (accuracy, low, high) in enumerate(table[["accuracy", "low", "high"]].to_numpy().tolist()):
        x = round(across(number, len(table)))
        rows = [y for y in range(image.height) if image.getpixel((x, y)) == blue]
        ends = max(high, accuracy), min(low, accuracy)
        assert abs(rows[0] - up(ends[0])) <= 9 and abs(rows[-1] - up(ends[1])) <= 9
        wide = [y for y in rows if image.getpixel((x + 6, y)) == blue]
        assert abs(sum(wide) / len(wide) - up(accuracy)) <= 8


def test_steer_takes_a_plan_and_asks_a_judge(
    tiny_folder, store, tmp_path, capsys, monkeypatch, forget_extensions
):
    assert main(["probe", str(store / "acts.zarr"), "--method", "means", "-o", str(tmp_path / "probes")]) == 0
    register_judge("loud", Loud())
    model = ["--model", str(tiny_folder), "--seconds", "0.5", "-o", str(tmp_path / "it's steered.wav")]
    steer = ["steer", "a tune", "--direction", str(tmp_path / "probes"), *model]
    capsys.readouterr()
    assert main([*steer, "--plan", "0.2*jazz@2 - 0.1*rock@2", "--judge", "loud"]) == 0
    told = capsys.readouterr()
    known = {
        f"{name}@2": wb.Direction.load(tmp_path / f"probes/{name}.safetensors") for name in ("jazz", "rock")
    }
    assert f"{wb.Steering.parse('0.2*jazz@2 - 0.1*rock@2', known)}; " in told.out
    rows = told.out.split("The judge loud hears:\n")[1].splitlines()
    assert rows[0].split() == ["loud", "soft"]
    assert [row.split()[0] for row in rows[1:3]] == ["unsteered", "steered"]
    assert rows[1].split()[1:] == ["70%", "30%"]
    assert in_python(told.out)[1] is not None
    assert told.err.find("tends to break") < 0
    assert main(steer) == 1
    assert "there are classical@2, jazz@2, rock@2" in capsys.readouterr().err
    assert main([*steer, "--plan", "0.2*jazz@2", "--dose", "0.3"]) == 1
    assert "--dose was given too" in capsys.readouterr().err
    assert main([*steer, "--plan", "0.2*polka@2"]) == 1
    assert "polka" in capsys.readouterr().err
    monkeypatch.setattr(Model, "breaking_dose", 0.3)
    for plan, warned in (
        ("-0.45*jazz@2 + 0.1*rock@2", True),
        ("0.29*jazz@2", False),
        ("remove(0.5*jazz@2)", False),
    ):
        assert main([*steer, "--plan", plan]) == 0
        told = capsys.readouterr().err
        assert ("tends to break" in told) == ("from 0.30 on; asked: 0.45." in told) == warned


class Loud:
    classes, rate_hz = ("loud", "soft"), 16_000

    def probabilities(self, clips):
        return np.array([[0.7, 0.3] for _ in clips])


@pytest.mark.parametrize(
    ("words", "asked", "found"),
    [
        (["steer"], "`workbench steer`", "the following arguments are required: prompt, --direction"),
        (
            ["steer", "a", "--direction", "b", "--dose", "much"],
            "`workbench steer`",
            "invalid float value: 'much'",
        ),
        (["probe", "acts.zarr", "--colour"], "`workbench probe`", "it does not know --colour"),
        (["prob"], "`workbench`", "invalid choice: 'prob'"),
    ],
)
def test_a_wrong_argument_says_what_was_asked_and_found_and_what_to_do(capsys, words, asked, found):
    with pytest.raises(SystemExit) as stop:
        main(words)
    told = capsys.readouterr().err
    assert stop.value.code == 2 and told.count("\n") == 1
    assert told.startswith(f"workbench: {asked} was asked for, but ") and found in told
    assert told.endswith(f"Run {asked[:-1]} --help` to see what it takes.\n")


def test_an_error_is_one_line_and_status_one(capsys, tmp_path):
    assert main(["capture", "--music", str(tmp_path / "nowhere"), "-o", str(tmp_path / "x.zarr")]) == 1
    told = capsys.readouterr().err
    assert told.startswith("workbench: ")
    assert told.count("\n") == 1


def test_the_demo_writes_sound_a_report_and_a_page(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("workbench.cli.demo.PER_CLASS", 12)
    monkeypatch.setattr("workbench.cli.demo.DOSES", (0.1, 0.2))
    assert main(["demo", "--out", str(tmp_path), "--clips", "1"]) == 0
    assert len(in_python(capsys.readouterr().out)[0]["clips"]) == 7
    report = json.loads((tmp_path / "report.json").read_text())
    assert {"model", "versions", "probe", "steering", "receipts_ok", "seconds_per_audio_second"} <= set(
        report
    )
    assert report["method"] in ("logistic", "means")
    assert report["receipts_ok"] is True
    for row in report["probe"]:
        assert {"layer", "accuracy", "low", "high", "chance", "shuffled"} <= set(row)
    assert len(report["steering"]) == 6
    for row in report["steering"].values():
        assert {"layer", "dose", "hit_rate", "unsteered", "random_direction", "n", "low", "high"} <= set(row)
    assert len(list(tmp_path.glob("*.wav"))) == 7
    assert "plotly" in (tmp_path / "index.html").read_text()


def test_an_extension_is_run_once_and_its_faults_are_told(tmp_path, capsys):
    file, seen = tmp_path / "mine.py", tmp_path / "seen"
    file.write_text(f"open({str(seen)!r}, 'a').write('x')")
    for _ in range(2):
        load_extension(file)
    assert seen.read_text() == "x"
    (tmp_path / "bad.py").write_text("1 / 0")
    for name, told in (("bad.py", "ZeroDivisionError"), ("none.py", "there is no such Python file")):
        assert main(["probe", "acts.zarr", "--extension", str(tmp_path / name)]) == 1
        assert told in capsys.readouterr().err


def test_the_wheel_carries_what_a_clone_has_beside_the_package(tmp_path):
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
    shipped = "workbench/_shipped"
    for folder in ("data/embedded/model", "data/embedded/music", "data/embedded/judge", "notebooks"):
        for file in (path for path in (ROOT / folder).rglob("*") if path.is_file()):
            here = file.relative_to(ROOT).as_posix()
            assert f"{shipped}/{here}" in names or {"out", ".ipynb_checkpoints"} & set(file.parts), here
    pages = {page for kind in PAGES for page in ROOT.glob(kind)} - {ROOT / "docs" / "verified.md"}
    assert len(pages) > 8
    for page in [*pages, ROOT / "docs" / "screenshots" / f"{LIVE}-light.webp"]:
        assert f"{shipped}/{page.relative_to(ROOT).as_posix()}" in names
    code = {path.relative_to(ROOT).as_posix() for path in (ROOT / "workbench").rglob("*.*")}
    assert {name for name in code if "__pycache__" not in name} <= names
    assert not [name for name in names if "recipe" in name or name.startswith("tests")]


def test_lab_opens_jupyterlab_on_the_quickstart(monkeypatch, tmp_path, capsys):
    clone, called = small_clone(tmp_path), []
    monkeypatch.setattr("workbench.cli.copies.builtin_path", clone.joinpath)
    monkeypatch.setattr("subprocess.call", lambda command, **_settings: called.append(command) or 0)
    assert main(["lab", "--", "--port=9"]) == 0
    assert main(["lab", "2_genre_map.ipynb", "--", "--port", "9"]) == 0
    assert main(["lab"]) == 0
    first, second, third = called
    assert first[:3] == [sys.executable, "-m", "jupyterlab"]
    book = clone / "my_notebooks" / "0_quickstart.ipynb"
    assert first[3:] == [str(book), f"--notebook-dir={clone}", "--port=9"], "a root with docs and data"
    assert second[3] == str(book.with_name("2_genre_map.ipynb")) and second[-2:] == ["--port", "9"]
    assert third == first[:-1]
    assert str(book.parent) in capsys.readouterr().out
    assert main(["lab", "nothing.ipynb"]) == 1
    assert "but there are 0_quickstart.ipynb, " in capsys.readouterr().err
    assert len(called) == 3


@pytest.mark.parametrize(
    ("old", "new"),
    [("build-embedded", "build"), ("evaluate-embedded", "evaluate"), ("evaluate-steering", "steering")],
)
def test_the_old_commands_forward_to_the_recipe(monkeypatch, capsys, old, new):
    called = []
    monkeypatch.setattr(
        "subprocess.call", lambda command, **settings: called.append((command, settings)) or 3
    )
    assert main([old, "--clips", "1"]) == 3, "the recipe's own status"
    ((command, settings),) = called
    assert command == [sys.executable, "-m", "recipe", new, "--clips", "1"]
    assert settings["env"]["PYTHONPATH"].endswith("data/embedded")
    assert f"python -m recipe {new}" in capsys.readouterr().err


def test_the_usual_doses_are_those_at_which_the_built_in_model_steers_best():
    asked = parser().parse_args(["steer", "a tune", "--direction", "jazz.safetensors"])
    assert 0.1 <= asked.dose <= 0.2
    assert len(DOSES) == 5 and sum(0.1 <= dose <= 0.2 for dose in DOSES) == 3


def test_evaluate_makes_directions_of_one_half_and_reports_with_the_other(
    tiny_folder, store, tmp_path, capsys, monkeypatch
):
    asked, out = {}, tmp_path / "evidence"

    class Found:
        verdicts, page, plans = {"jazz": Verdict(True, "jazz steers.")}, out / "index.html", {"jazz": "plan"}

        def __str__(self):
            return "1 of 1 steers"

    def report(model, directions, **options):
        asked.update(options, directions=directions)
        return Found()

    def blind(model, plans, folder, *, triples):
        asked.update(plans=plans, triples=triples)
        return folder / "listen.html"

    monkeypatch.setattr(wb, "evidence_report", report)
    monkeypatch.setattr(wb, "blind_test", blind)
    words = ["evaluate", "--model", str(tiny_folder), "--music", str(store / "music"), "--out", str(out)]
    assert main([*words, "--budget", "3", "--judge", "genre", "--blind", "4"]) == 0
    told = capsys.readouterr().out
    assert "jazz steers." in told and f"Open {out / 'index.html'}" in told and "listen.html" in told
    assert asked["budget_minutes"] == 3 and asked["judges"] == ["genre"] and asked["triples"] == 4
    learnt = {one.origin["dataset_fingerprint"] for one in asked["directions"]["means"]["jazz"]}
    assert learnt and asked["music"].fingerprint not in learnt and len(asked["music"]) == 9
    own = asked["directions"]
    assert [one.layer for one in own["logistic"]["jazz"]] == [1, 2]
    assert len(own["shuffled labels"]["jazz"]) == 2 * SHUFFLES
    one = tmp_path / "jazz.safetensors"
    own["means"]["jazz"][0].save(one)
    assert main([*words, "--direction", str(one)]) == 0
    assert list(asked["directions"]) == ["jazz"] and asked["judges"] == "genre"
