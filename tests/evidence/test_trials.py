"""The runner of trials: rows on disk outlive a killed process, and a cluster gives the same table."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from evidence_samples import Peak, listed
from steering_fixture import direction
from tolerances import DOUBLE, ROUNDED

from workbench.errors import Cancelled, EvidenceError, RenamedWarning
from workbench.evidence import trials as module
from workbench.evidence.damage import damage
from workbench.evidence.search import auto_dose
from workbench.evidence.trials import Trial, run_trials
from workbench.model import capture
from workbench.sound import Clip

SHORT: dict = {"seconds": 0.4, "progress": False, "batch": 2}


def run(model, some, judges=None, **options) -> tuple[pd.DataFrame, int]:
    """Return the table, and how many trials were newly made."""
    made = []
    options = {**SHORT, "on_row": lambda trial, take, row: made.append((trial, take, row)), **options}
    table = run_trials(model, some, judges or Peak(), **options)
    for trial, take, row in made:
        assert (take.prompt, take.seed, row["method"]) == (trial.prompt, trial.seed, trial.method)
    return table, len(made)


CHILD = """
import sys
sys.path[:0] = sys.argv[3:]
from evidence_samples import Peak, listed
from workbench.evidence.trials import run_trials
from workbench.model.load import load
model = load(sys.argv[1], device="cpu", dtype="float32")
run_trials(model, listed(model), Peak(), path=sys.argv[2], **{"seconds": 0.4, "progress": False, "batch": 2})
"""


def test_after_a_kill_only_what_is_missing_is_made(tiny_model, tiny_folder, tmp_path):
    path = tmp_path / "rows" / "trials.jsonl"
    folders = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(tiny_folder), str(path), *folders])
    until = time.monotonic() + 120
    while not (path.exists() and path.stat().st_size) and child.poll() is None and time.monotonic() < until:
        time.sleep(0.002)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    kept = path.read_bytes().count(b"\n")
    assert kept in (2, 4, 6), "whole batches are kept, and it was killed before the end"
    some = listed(tiny_model)
    table, made = run(tiny_model, some, path=path)
    assert made == len(some) - kept
    whole, _ = run(tiny_model, some)
    pd.testing.assert_frame_equal(table, whole)
    again, made = run(tiny_model, some, path=path)
    assert made == 0
    pd.testing.assert_frame_equal(again, whole)


def test_a_torn_and_a_damaged_line_are_made_again(tiny_model, tmp_path):
    path, some = tmp_path / "trials.jsonl", listed(tiny_model)
    whole, _ = run(tiny_model, some, path=path)
    lines = path.read_bytes().splitlines(keepends=True)
    damaged = lines[1].replace(b'"ok": true', b'"ok": 1.25')
    path.write_bytes(b"".join([lines[0], damaged, *lines[2:-1], lines[-1][:-20]]))
    with pytest.warns(UserWarning, match="1 lines of .* are damaged"):
        table, made = run(tiny_model, some, path=path)
    assert made == 2
    pd.testing.assert_frame_equal(table, whole, **ROUNDED)  # the batches are others
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_rows_belong_to_model_trial_judges_and_settings(tiny_model, band_model, tmp_path):
    path, some = tmp_path / "trials.jsonl", [Trial("a tune", 1, None, "x", "loud", columns={"dose": 0.0})]
    assert run(tiny_model, some, path=path)[1] == 1
    codes = np.zeros((tiny_model.n_codebooks, 5), int)
    others = [
        Trial("a song", 1, None, "x", "loud", columns={"dose": 0.0}),
        Trial("a tune", 2, None, "x", "loud", columns={"dose": 0.0}),
        Trial("a tune", 1, direction(tiny_model, 1).at(0.0), "x", "loud", columns={"dose": 0.0}),
        Trial("a tune", 1, None, "y", "loud", columns={"dose": 0.0}),
        Trial("a tune", 1, None, "x", "soft", columns={"dose": 0.0}),
        Trial("a tune", 1, None, "x", "loud", columns={"dose": 0.1}),
        Trial("a tune", 1, None, "x", "loud", codes, {"dose": 0.0}),
    ]
    table, made = run(tiny_model, some + others, path=path)
    assert made == len(others) and np.isfinite(table["p_given"].iloc[-1])
    for settings in ({"seconds": 0.6}, {"guidance": 1.0}, {"likely": False}, {"judges": {"other": Peak()}}):
        assert run(tiny_model, some, path=path, **settings)[1] == 1, settings
    assert run(band_model, some, path=path)[1] == 1
    assert run(tiny_model, some, path=path, batch=7, guidance=tiny_model.guidance)[1] == 0
    numpy = [Trial("a tune", np.int64(1), None, "x", "loud", columns={"dose": np.float32(0)})]
    assert run(tiny_model, numpy, path=path)[1] == 0


@pytest.mark.parametrize(
    "processes",
    [False, pytest.param(True, marks=pytest.mark.long)],
    ids=["threads", "processes, one killed half-way"],
)
def test_a_cluster_gives_the_same_table_and_loads_the_model_once(tiny_model, tmp_path, processes):
    import distributed

    capture._loaded.cache_clear()
    some, path = listed(tiny_model), tmp_path / "trials.jsonl"
    here, _ = run(tiny_model, some)
    cluster = distributed.LocalCluster(
        n_workers=1 + processes, threads_per_worker=2 - processes, processes=processes, dashboard_address=None
    )
    with cluster, distributed.Client(cluster) as client:
        alive = list(client.run(os.getpid).values()) if processes else []

        def kill(*_row) -> None:
            if len(alive) > 1:
                os.kill(alive.pop(), signal.SIGKILL)  # with what it was making

        there = run_trials(tiny_model, some, Peak(), client=client, path=path, **SHORT, on_row=kill)
        run(tiny_model, some, client=client, on_row=None)
        loads = client.run(lambda: capture._loaded.cache_info().misses)
    assert len(alive) == processes and set(loads.values()) <= {0, 1} and any(loads.values())
    pd.testing.assert_frame_equal(there, here, **DOUBLE)
    assert run(tiny_model, some, path=path)[1] == 0, "what a cluster made is kept, too"


def test_a_model_of_this_process_alone_is_refused_on_a_cluster(tiny_model, monkeypatch):
    monkeypatch.setattr(tiny_model, "folder", None)
    with pytest.raises(EvidenceError, match="this process only"):
        run(tiny_model, listed(tiny_model), client=object())


def test_cancelled_trials_keep_what_was_finished(tiny_model, tmp_path):
    path, some, stop = tmp_path / "trials.jsonl", listed(tiny_model), threading.Event()
    with pytest.raises(Cancelled):
        run(tiny_model, some, path=path, cancel=stop, on_row=lambda *_: stop.set())
    assert run(tiny_model, some, path=path)[1] == len(some) - 2


def test_the_time_that_all_will_take_is_told_after_the_first_batch(tiny_model, capsys):
    run(tiny_model, listed(tiny_model), progress=True)
    assert "min for 6 clips" in capsys.readouterr().err
    run(tiny_model, listed(tiny_model))
    assert not capsys.readouterr().err


def test_an_aim_counts_by_the_first_judge_that_knows_it(tiny_model):
    class Other(Peak):
        target, classes = "other", ("quiet", "loud")

    some = [Trial("a tune", 1, aim=aim) for aim in ("loud", "quiet", "soft", None)]
    table, _ = run(tiny_model, some, [Peak(), Other()])
    columns = ["p_level_loud", "p_other_quiet", "p_level_soft"]
    assert table["p"].tolist()[:3] == [table[name][i] for i, name in enumerate(columns)]
    assert np.isnan(table["p"][3]) and not table["hit"][3]
    for wrong in ([Trial("a tune", 1, aim="polka")], []):
        with pytest.raises(EvidenceError, match=r"polka|there are none"):
            run(tiny_model, wrong)


def test_what_is_judged_in_a_continuation_is_the_new_part(tiny_model):
    codes = tiny_model.encode(Clip(np.ones(16_000, np.float32), 16_000)).numpy()
    heard = []

    class Lengths(Peak):
        def probabilities(self, clips) -> np.ndarray:
            heard.append([round(clip.seconds, 2) for clip in clips])
            return super().probabilities(clips)

    some = [Trial("a tune", 1, None, "x", "loud", codes), Trial("a tune", 1, None, "y", "loud")]
    table, _ = run(tiny_model, some, Lengths())
    assert heard == [[0.4, 0.4], [1.0]]
    assert table["p_given"].notna().tolist() == [True, False]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("hear", "run_trials"),
        ("asks", "trials"),
        ("beside", "pair_with_baseline"),
        ("paired", "pair_prompts"),
    ],
)
def test_former_names_warn_and_work(old, new):
    with pytest.warns(RenamedWarning, match=new):
        assert getattr(module, old) is getattr(module, new)
    with pytest.raises(AttributeError, match="nothing"):
        _ = module.nothing


def test_former_keywords_warn_and_work(tiny_model):
    clip, before = (Clip(level * np.ones(8000, np.float32), 8000) for level in (0.5, 0.25))
    with pytest.warns(RenamedWarning, match="baseline="):
        assert damage(clip, twin=before) == damage(clip, baseline=before)
    with pytest.warns(RenamedWarning, match="branch="), pytest.raises(EvidenceError, match="judge hears"):
        auto_dose(tiny_model, {1: direction(tiny_model, 1)}, "jazz", Peak(), rows="both")
