"""The command line: it teaches, it works end to end, its errors are one line."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from clone_fixture import small_clone

from workbench.cli import main
from workbench.cli.app import LIVE
from workbench.cli.demo import DOSES
from workbench.cli.copies import PAGES
from workbench.cli.main import parser
from workbench.extensions import load_extension

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("command", ["lab", "app", "demo", "doctor", "capture", "probe", "steer"])
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert len(capsys.readouterr().out) > 200


def test_the_first_page_walks_through_the_job(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    told = capsys.readouterr().out
    assert all(f"workbench {name}" in told for name in ("doctor", "lab", "demo", "capture", "probe", "steer"))
    assert parser().prog == "workbench"


def test_the_doctor_finds_everything_well(capsys):
    assert main(["doctor"]) == 0
    told = capsys.readouterr().out
    assert "steering:" in told
    assert "cells changed" in told
    assert "Everything works." in told


def test_the_doctor_says_what_is_missing(capsys, tmp_path):
    assert main(["doctor", "--model", str(tmp_path)]) == 1
    assert "there is no config.json in it" in capsys.readouterr().out


def test_capture_probe_and_steer_follow_one_another(tiny_folder, tiny_dataset, tmp_path, capsys):
    music = tmp_path / "music"
    for index, entry in enumerate(tiny_dataset):
        tiny_dataset.clip(index).write(music / str(entry.labels["genre"]) / f"{index}.wav")
    store, probes, wav = tmp_path / "acts.zarr", tmp_path / "probes", tmp_path / "steered.wav"
    assert main(["capture", "--model", str(tiny_folder), "--music", str(music), "-o", str(store)]) == 0
    assert main(["probe", str(store), "--method", "ridge", "-o", str(probes)]) == 0
    assert "accuracy" in capsys.readouterr().out
    direction = next(probes.glob("*.safetensors"))
    steer = [
        "steer",
        "a tune",
        "--model",
        str(tiny_folder),
        "--direction",
        str(direction),
        "--seconds",
        "0.5",
    ]
    assert main([*steer, "-o", str(wav)]) == 0
    assert wav.exists()
    assert wav.with_name("steered-unsteered.wav").exists()
    assert "cells changed" in capsys.readouterr().out
    assert main(["probe", str(store), "--method", "means"]) == 0
    assert main([*steer, "--operation", "keep_norm", "-o", str(wav)]) == 0
    assert "keep_norm(" in capsys.readouterr().out


def test_an_error_is_one_line_and_status_one(capsys, tmp_path):
    assert main(["capture", "--music", str(tmp_path / "nowhere"), "-o", str(tmp_path / "x.zarr")]) == 1
    told = capsys.readouterr().err
    assert told.startswith("workbench: ")
    assert told.count("\n") == 1


def test_the_demo_writes_sound_a_report_and_a_page(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("workbench.cli.demo.PER_CLASS", 12)
    monkeypatch.setattr("workbench.cli.demo.DOSES", (0.1, 0.2))
    assert main(["demo", "--out", str(tmp_path), "--clips", "1"]) == 0
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
    for page in [*pages, ROOT / "docs" / "screenshots" / f"{LIVE}-04.png"]:
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
