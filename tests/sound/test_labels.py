"""What is missing is no class and no group, and numbers keep their names and their order."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
from planted import activations, labels_and_groups

from workbench.activations import Activations, ActivationStore, StoreSpec
from workbench.errors import ActivationsError, DatasetError, ProbeError
from workbench.probing import fit_multilabel, fit_probes, fit_regression, project
from workbench.probing.diagnosis.evaluation import evaluate_probe
from workbench.probing.solvers import regularization_paths
from workbench.show.plots import confusion, map_scatter
from workbench.sound import Clip, Dataset, Entry, from_csv
from workbench.sound.dataset import as_text, in_order, missing, numbered
from workbench.steering import difference_in_means

LABELS, GROUPS = labels_and_groups(groups=6, clips=2)
N = len(LABELS)
QUICK: dict[str, Any] = {"progress": False, "shuffles": 0, "l2": [0.1]}
NUMBERS = np.array([1, 2, 10])[np.unique(LABELS, return_inverse=True)[1]]


def acts_of(labels: np.ndarray = LABELS, groups: np.ndarray = GROUPS, **more: np.ndarray) -> Activations:
    x = np.random.default_rng(0).standard_normal((N, 2, 6))
    x[:, 1, :3] += 8 * (NUMBERS[:, None] == [1, 2, 10])
    return activations(x, labels, groups, **more)


def gaps(values: np.ndarray, what: Any, dtype: Any = object) -> np.ndarray:
    """Return the values with three of them replaced."""
    made = values.astype(object)
    made[[1, 5, 9]] = what
    return made.astype(dtype)


@pytest.mark.parametrize("what", [None, math.nan, pd.NA, pd.NaT, "nan", "None", "NaN", "<NA>"])
def test_missing_labels_and_groups_are_refused_with_their_count(what: Any) -> None:
    with pytest.raises(ActivationsError, match=rf"label 'genre' .* {N} samples .* 3 of them have none"):
        acts_of(gaps(LABELS, what))
    with pytest.raises(ActivationsError, match=rf"A group .* {N} samples .* 3 of them have none"):
        acts_of(groups=gaps(GROUPS, what))
    with pytest.raises(ActivationsError, match="3 of them have none"):
        acts_of(gaps(LABELS, what, str))
    entries = tuple(Entry(f"c{i}", {"genre": "jazz"}, what if i < 3 else "g", "", "") for i in range(9))
    with pytest.raises(DatasetError, match="3 of 9 have none"):
        Dataset(entries, "songs", lambda entry: Clip(np.ones(9), 8000))
    entries = tuple(Entry(f"c{i}", {"genre": what if i < 3 else "jazz"}, "g", "", "") for i in range(9))
    with pytest.raises(DatasetError, match=r"'genre'.* 3 of 9 clips have None or NaN"):
        Dataset(entries, "songs", lambda entry: Clip(np.ones(9), 8000)).labels()


def test_numbers_that_are_nan_are_no_class_no_group_and_no_number() -> None:
    holed = gaps(NUMBERS, math.nan, float)
    for use in (
        lambda acts: fit_probes(acts, "k", **QUICK),
        lambda acts: regularization_paths(acts, 1, [1.0], target="k"),
        lambda acts: difference_in_means(acts, "1", target="k", layer=1),
    ):
        with pytest.raises(ActivationsError, match=rf"'k'.* 3 of {N} samples have none"):
            use(acts_of(k=holed))
    with pytest.raises(ProbeError, match="3 samples have no such number"):
        fit_regression(acts_of(k=holed), "k", **QUICK)
    with pytest.raises(ActivationsError, match=r"A group .* 3 of them"):
        acts_of(groups=gaps(np.arange(N), math.nan, float))


def test_blank_text_is_no_class_and_no_group_but_no_tag_either() -> None:
    with pytest.raises(ActivationsError, match=rf"'genre'.* 3 of {N} samples have none"):
        fit_probes(acts_of(gaps(LABELS, " ", str)), **QUICK)
    with pytest.raises(ActivationsError, match=r"A group .* 3 of them"):
        acts_of(groups=gaps(GROUPS, "", str))
    assert acts_of(tags=gaps(LABELS, "", str)).labels("tags")[1] == ""


def test_missing_tags_and_plain_text_are_refused_with_their_count() -> None:
    tags = [{"loud"} if i % 2 else {"live"} for i in range(N)]
    for what in ("loud", None, 3.0):
        with pytest.raises(ProbeError, match=rf"2 of {N} samples have text, None or a number"):
            fit_multilabel(acts_of(), [what, what, *tags[2:]], progress=False)
    with pytest.raises(DatasetError, match=rf"2 of {N} samples have a label that is None"):
        fit_multilabel(acts_of(), [{None}, {math.nan, "loud"}, *tags[2:]], progress=False)


def test_a_store_takes_no_missing_label(tmp_path: Path) -> None:
    samples = {"clip": np.arange(3), "group": np.arange(3), "label_genre": np.array(["a", None, "b"])}
    with pytest.raises(ActivationsError, match="1 of them have none"):
        ActivationStore.open_or_create(
            tmp_path / "store", StoreSpec(sites=("resid_post",), layers=(0,), d_model=2, samples=samples)
        )


@pytest.mark.parametrize("column", ["file", "genre", "artist"])
def test_a_csv_cell_that_says_nan_is_an_empty_one(column: str, tmp_path: Path) -> None:
    lines = [{"file": f"{i}.wav", "genre": "jazz", "artist": f"a{i}"} for i in range(3)]
    for line in lines:
        soundfile.write(tmp_path / line["file"], np.full(800, 0.1), 8000)
    lines[1][column] = "nan"
    pd.DataFrame(lines).to_csv(tmp_path / "songs.csv", index=False)
    with pytest.raises(DatasetError, match=rf"'{column}' in each line .*line\(s\) 3 have none"):
        from_csv(tmp_path / "songs.csv", group="artist", progress=False)


@pytest.mark.parametrize("kind", [int, float, str, object])
def test_labels_that_are_numbers_keep_their_names_and_their_order(kind: Any) -> None:
    acts = acts_of(k=NUMBERS.astype(kind))
    probes = fit_probes(acts, "k", **QUICK)
    assert probes.classes == ("1", "2", "10")
    assert probes.best.direction("10").name == "10"
    assert set(probes.held_out["truth"]) == {"1", "2", "10"}
    assert probes.confusion(1).loc["10", "10"] == 12
    assert probes[1].predict(acts.matrix(1))[NUMBERS == 10].tolist() == ["10"] * 12
    assert list(regularization_paths(acts, 1, [1.0], target="k")) == ["1", "2", "10"]
    assert (
        evaluate_probe(acts, probes[1], folds=3).y.tolist() == np.searchsorted([1, 2, 10], NUMBERS).tolist()
    )
    assert difference_in_means(acts, "2", target="k", layer=1).name == "2"
    assert len(acts.where(k="10")) == len(acts.subset(NUMBERS == 10))


def test_datasets_tags_and_maps_order_numbers_by_value_too() -> None:
    entries = tuple(Entry(f"c{i}", {"genre": str(i)}, "g", "", "") for i in (10, 2, 1))
    assert Dataset(entries, "songs", lambda entry: Clip(np.ones(9), 8000)).genres == ("1", "2", "10")
    acts = acts_of(k=NUMBERS, tags=NUMBERS.astype(str))
    assert fit_multilabel(acts, progress=False, l2=[0.1], layers=[1]).labels == ("1", "2", "10")
    assert acts.classes("tags") == ("1", "2", "10")
    drawn = project(acts, 1, method="pca")
    for name in ("k", "tags"):
        assert [trace.name for trace in map_scatter(drawn, colour_by=name).data] == ["1", "2", "10"]
    counts = pd.DataFrame(np.eye(2), index=["2", "10"], columns=["2", "10"])
    assert confusion(counts).layout.autotypenumbers == "strict"


def test_samples_that_do_not_exist_are_not_an_empty_answer() -> None:
    with pytest.raises(ActivationsError, match=r"genre='polka'.*there are none"):
        acts_of().where(genre="polka")


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_probe_of_any_kind_does_not_read_nan(bad: float) -> None:
    acts = acts_of(bpm=NUMBERS * 1.5, tags=LABELS)
    x = acts.matrix(1).copy()
    x[[2, 4], 3] = bad
    probe = fit_probes(acts, **QUICK)[1]
    number, label = fit_regression(acts, "bpm", **QUICK)[1], fit_multilabel(acts, progress=False)[1]
    for read in (probe.predict, probe.predict_proba, number.predict, label.predict, label.predict_proba):
        with pytest.raises(ProbeError, match=rf"{N} sample\(s\).*2 of them hold NaN"):
            read(x)
        with pytest.raises(ProbeError, match="no numbers"):
            read([["a"] * 6])


def test_missing_values_text_and_order_say_what_they_are() -> None:
    assert missing(["jazz", None, math.nan, " ", "nan", "none"]).tolist() == [
        False,
        True,
        True,
        True,
        True,
        False,
    ]
    assert missing(["", "a"], empty=False).tolist() == [False, False]
    assert missing(np.array([1, 2])).tolist() == [False, False]
    assert as_text([1.0, 2.5, -3.0]).tolist() == ["1", "2.5", "-3"]
    assert in_order(["10", "2", "1.5"]) == ("1.5", "2", "10")
    assert in_order(["b", "10", "2"]) == ("10", "2", "b")
    assert in_order(["inf", "2"]) == ("2", "inf")
    names, numbers = numbered([10.0, 2.0, 2.0])
    assert (names, numbers.tolist()) == (("2", "10"), [1, 0, 0])
