"""An atlas is the same however often it was stopped, comes back from its folder, and fits one model only."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fixture_model
import numpy as np
import pandas as pd
import pytest
from toy_judges import Reference

from workbench.activations import share_done
from workbench.errors import Cancelled, EvidenceError
from workbench.evidence.atlas import Atlas, Forecast, _held, atlas
from workbench.evidence.search import DamageBudget, auto_dose
from workbench.model.load import load
from workbench.probing import fit_probes

SMALL: dict[str, Any] = {"folds": 2, "seconds": 1.0, "progress": False}
FREE = DamageBudget(nll_rise=np.inf, level_change_db=np.inf, repetition_rise=np.inf)
SEARCH: dict[str, Any] = {
    "seeds": (1, 2), "further_seeds": (11, 12), "doses": (1.0, 2.0), "seconds": 1.0, "progress": False,
    "budget": FREE,
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tiny_model: Any, tiny_dataset: Any, tmp_path_factory: pytest.TempPathFactory) -> Atlas:
    return atlas(tiny_model, tiny_dataset, path=tmp_path_factory.mktemp("atlas") / "one", **SMALL)


def copied(made: Atlas, folder: Path) -> Path:
    """Return a copy of the folder of an atlas, without its activations."""
    assert made.folder is not None
    return shutil.copytree(made.folder, folder, ignore=shutil.ignore_patterns("activations"))


def test_law_an_atlas_that_was_stopped_and_resumed_is_the_same(
    tiny_model: Any, tiny_dataset: Any, made: Atlas, tmp_path: Path
) -> None:
    stop, told = threading.Event(), list[Forecast]()
    stop.set()
    again: Any = {"path": tmp_path / "two", "on_forecast": told.append, **SMALL}
    with pytest.raises(Cancelled, match="16 of 18"):
        atlas(tiny_model, tiny_dataset, cancel=stop, **again)
    assert not (tmp_path / "two" / "atlas.json").exists()
    assert share_done(tmp_path / "two" / "activations") == 0.5, "the first of two chunks"
    resumed = atlas(tiny_model, tiny_dataset, **again)
    assert resumed == made
    assert [one.clips for one in told] == [18, 9]
    files = {path.name: path.read_bytes() for path in (tmp_path / "two").rglob("*.safetensors")}
    assert made.folder is not None
    assert files == {path.name: path.read_bytes() for path in made.folder.rglob("*.safetensors")}
    assert atlas(tiny_model, tiny_dataset, **again) == made and len(told) == 2, "a finished one is loaded"


KILLED = """
import os, signal, sys
from workbench.activations.store import ActivationStore
from workbench.evidence import atlas as module
from workbench.model.load import load
from workbench.sound import from_folder

folder, music, path, where = sys.argv[1:]
write, save = ActivationStore.write_chunk, module.write_atomically

def kill_when(now):
    if now:
        os.kill(os.getpid(), signal.SIGKILL)

def writing(store, number, arrays):
    kill_when(where == "reading" and number == 1)
    write(store, number, arrays)

def saving(place, data):
    kill_when(where == "saving" and place.name == "atlas.json")
    return save(place, data)

ActivationStore.write_chunk, module.write_atomically = writing, saving
model = load(folder, device="cpu", dtype="float32")
module.atlas(model, from_folder(music), path=path, folds=2, seconds=1.0, progress=False)
"""


@pytest.mark.long  # without a kill, the same is asked above
@pytest.mark.parametrize(("where", "left"), [("reading", 9), ("saving", 0)])
def test_law_a_killed_atlas_goes_on_and_is_the_same(
    tiny_model: Any, tiny_dataset: Any, tiny_folder: Path, tiny_music: Path, made: Atlas, tmp_path: Path,
    where: str, left: int,
) -> None:  # fmt: skip
    place, told = tmp_path / "atlas", list[Forecast]()
    asked = [sys.executable, "-c", KILLED, str(tiny_folder), str(tiny_music), str(place), where]
    assert subprocess.run(asked, check=False).returncode == -signal.SIGKILL
    assert not (place / "atlas.json").exists()
    assert atlas(tiny_model, tiny_dataset, path=place, on_forecast=told.append, **SMALL) == made
    assert [one.clips for one in told] == [left]


def test_an_atlas_holds_the_probes_and_directions_of_every_layer(
    tiny_model: Any, tiny_dataset: Any, made: Atlas
) -> None:
    acts = made.activations()
    assert set(acts.clips) == set(tiny_dataset.ids)
    for method in ("logistic", "means"):
        sweep = fit_probes(acts, method=method, folds=2, progress=False)
        assert made.probes[method] == sweep
        for layer in tiny_model.layers:
            assert made.directions(layer, method=method) == sweep.directions(layer)
    assert made.layer == made.probes["logistic"].best.layer
    norms = made.table()["residual_norm"]
    assert np.allclose(norms, tiny_model.residual_norms(), rtol=1e-6, atol=0)
    assert "genre" in made.plot().layout.title.text
    with pytest.raises(EvidenceError, match="the atlas has logistic, means"):
        made.table("rfm")


def test_law_an_atlas_comes_back_from_its_folder_without_the_music(made: Atlas, tmp_path: Path) -> None:
    found = Atlas.load(copied(made, tmp_path / "shared"))
    assert found == made and found.table().equals(made.table())
    card = (tmp_path / "shared" / "README.md").read_text("utf-8")
    assert made.about["model_fingerprint"] in card and "| layer | accuracy |" in card
    moved = replace(made, doses=pd.DataFrame(_held(broken({0.1: False}), 1), columns=made.doses.columns))
    assert Atlas.load(moved.save(tmp_path / "with doses")) == moved != made


def test_an_atlas_is_refused_for_another_model(made: Atlas, tiny_model: Any, tmp_path: Path) -> None:
    other = load(fixture_model.save_tiny(tmp_path / "other", seed=1), device="cpu", dtype="float32")
    with pytest.raises(EvidenceError, match="made of"):
        Atlas.load(str(made.folder), other)
    with pytest.raises(EvidenceError, match="made of"):
        made.recommend(other, None)  # type: ignore[arg-type]
    assert Atlas.load(str(made.folder), tiny_model) == made


def cut(folder: Path) -> None:
    path = folder / "probes-means" / "layer-1.safetensors"
    path.write_bytes(path.read_bytes()[:-8])


def swapped(folder: Path) -> None:
    shutil.rmtree(folder / "probes-means")
    shutil.copytree(folder / "probes-logistic", folder / "probes-means")


def rewritten(folder: Path) -> None:
    record = json.loads((folder / "atlas.json").read_text("utf-8"))
    record["about"]["clips"] = 1000
    (folder / "atlas.json").write_text(json.dumps(record), "utf-8")


@pytest.mark.parametrize("damage", [cut, swapped, rewritten, lambda folder: (folder / "atlas.json").unlink()])
def test_a_damaged_atlas_is_refused(made: Atlas, tmp_path: Path, damage: Callable[[Path], None]) -> None:
    folder = copied(made, tmp_path / "damaged")
    damage(folder)
    with pytest.raises(EvidenceError, match="cannot be read"):
        Atlas.load(folder)


def test_a_folder_with_another_atlas_is_left_alone(tiny_model: Any, tiny_dataset: Any, made: Atlas) -> None:
    with pytest.raises(EvidenceError, match="another seconds is there"):
        atlas(tiny_model, tiny_dataset, path=str(made.folder), **{**SMALL, "seconds": 0.5})
    with pytest.raises(EvidenceError, match="another dataset, dataset_fingerprint, clips is there"):
        atlas(tiny_model, replace(tiny_dataset.take(5), name="few"), path=str(made.folder), **SMALL)


def test_the_forecast_is_told_before_the_work(
    tiny_model: Any, tiny_dataset: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Enough(Exception):
        pass

    def told(forecast: Forecast) -> None:
        assert forecast.capture_s > 0 and forecast.probes_s > 0 and forecast.clips == 18
        raise Enough

    with pytest.raises(Enough):
        atlas(tiny_model, tiny_dataset, path=tmp_path / "none", on_forecast=told, **SMALL)
    assert not (tmp_path / "none").exists()
    atlas(tiny_model, tiny_dataset, path=tmp_path / "some", **{**SMALL, "progress": True})
    assert "The atlas will take about" in capsys.readouterr().out
    assert (
        str(Forecast(60, 5400, 60))
        == "The atlas will take about 91 min (90 min for 60 clips, 60 s for probes)."
    )


def test_a_judge_chooses_layer_and_dose_as_auto_dose_does(
    tiny_model: Any, tiny_dataset: Any, made: Atlas, tmp_path: Path
) -> None:
    judge = Reference(tiny_model, {"classical": 3, "jazz": 9, "rock": 20})
    found = made.recommend(tiny_model, tiny_dataset, judge, aims=["jazz"], layers=[1, 3], **SEARCH)
    own = {layer: made.directions(layer)["jazz"] for layer in (1, 3)}
    wanted = auto_dose(tiny_model, own, "jazz", judge, **SEARCH)
    (row,) = found.doses.to_dict("records")
    assert (row["layer"], row["dose"], row["by"]) == (wanted.layer, wanted.dose, "auto-dose")
    assert (row["steerable"], row["words"]) == (wanted.steerable, wanted.verdict)
    assert found.layer == wanted.layer and found.plan("jazz") == wanted.steering
    assert Atlas.load(found.save(copied(made, tmp_path / "found"))) == found
    with pytest.raises(EvidenceError, match="doses are known for jazz"):
        found.plan("rock")


def broken(doses: dict[float, bool], name: str = "jazz") -> pd.DataFrame:
    """Return rows as of `BreakingDose.table`, broken as is said when pushed one way, never the other."""
    rows = [(name, sign * dose, sign > 0 and is_) for dose, is_ in doses.items() for sign in (1, -1)]
    return pd.DataFrame(rows, columns=["direction", "dose", "broken"])


@pytest.mark.parametrize(
    ("doses", "largest"),
    [
        ({0.1: False, 0.2: False, 0.3: True}, 0.2),
        ({0.1: False, 0.2: True, 0.3: False}, 0.1),
        ({0.1: True, 0.2: True}, 0.0),
        ({0.1: False, 0.2: False}, 0.2),
    ],
)
def test_without_a_judge_the_dose_is_where_music_still_holds(
    doses: dict[float, bool], largest: float
) -> None:
    ((aim, layer, dose, by, steerable, words),) = _held(broken(doses), 3)
    assert (aim, layer, dose, by) == ("jazz", 3, pytest.approx(largest), "breaking dose")
    assert steerable is None and "nobody listened" in words


def test_doses_without_a_judge_are_measured_on_the_model(
    tiny_model: Any, tiny_dataset: Any, made: Atlas
) -> None:
    search: Any = {"doses": (0.001, 40.0), "seeds": (0,), "seconds": 0.5, "progress": False}
    found = made.recommend(tiny_model, tiny_dataset, aims=["jazz", "rock"], **search)
    assert list(found.doses["aim"]) == ["jazz", "rock"] and found.layer == made.layer
    assert (found.doses["dose"] < 40).all(), "a push of forty norms is no music"
