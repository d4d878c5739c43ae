"""Law 10 for probes of every kind: what comes back from disk is what was saved, and damage is said."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from probing_samples import acts as acts
from probing_samples import probes as probes
from safetensors.numpy import load_file, save_file

from workbench.errors import ProbeError
from workbench.probing import LabelProbe, NumberProbe, Probe, fit_multilabel, fit_probes, fit_regression
from workbench.probing.probe import LabelSweep, NumberSweep, ProbeSweep

KINDS = {"probe": Probe, "number probe": NumberProbe, "label probe": LabelProbe}


def reading(probe, x):
    return probe.predict(x) if isinstance(probe, NumberProbe) else probe.logits(x)


def direction(probe):
    if isinstance(probe, NumberProbe):
        return probe.direction()
    return probe.direction("live" if isinstance(probe, LabelProbe) else "jazz")


@pytest.mark.parametrize("kind", KINDS)
def test_law_10_a_probe_of_any_kind_comes_back_from_disk(kind, probes, acts, tmp_path):
    probe = probes[kind]
    again = KINDS[kind].load(probe.save(tmp_path / "deep" / "it.safetensors"))
    assert again == probe
    assert hash(again) == hash(probe)
    assert (reading(again, acts.matrix(1)) == reading(probe, acts.matrix(1))).all()
    assert direction(again) == direction(probe)
    assert direction(again).origin == direction(probe).origin
    for name, value in vars(probe.scores).items():
        held = getattr(again.scores, name)
        if isinstance(value, pd.DataFrame):
            pd.testing.assert_frame_equal(held, value)
        else:
            assert held == value or np.isnan([held, value]).all(), name
    # A number that was not measured is kept as not measured, and equals itself.
    unknown = replace(probe, residual_norm=float("nan"))
    assert KINDS[kind].load(unknown.save(tmp_path / "unknown")) == unknown != probe


@pytest.mark.parametrize("kind", KINDS)
def test_every_number_of_a_probe_is_part_of_its_value(kind, probes):
    probe = probes[kind]
    for name in probe.tensors:
        moved = np.array(getattr(probe, name))
        moved.flat[-1] += 1e-9
        assert replace(probe, **{name: moved}) != probe, name
        with pytest.raises(ValueError, match="read-only"):
            getattr(probe, name)[...] = 0
    assert replace(probe, layer=0) != probe
    score = "r2" if kind == "number probe" else "macro_f1"
    assert replace(probe, scores=replace(probe.scores, **{score: 0.123})) != probe
    assert probe != "probe"


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_holds_no_such_probe_is_refused_with_the_cause(kind, probes, tmp_path):
    probe, load = probes[kind], KINDS[kind].load
    whole = probe.save(tmp_path / "whole")
    (tmp_path / "cut").write_bytes(whole.read_bytes()[:-8])
    (tmp_path / "text").write_text("no tensors")
    save_file({"weights": np.zeros(3)}, tmp_path / "bare")
    direction(probe).save(tmp_path / "direction")
    for name in ("cut", "text", "bare", "missing"):
        with pytest.raises(ProbeError, match=rf"A {kind} was asked for from .*{name}, but .* holds none"):
            load(tmp_path / name)
    with pytest.raises(ProbeError, match=f"'musicgen-workbench direction 1', not 'musicgen-workbench {kind}"):
        load(tmp_path / "direction")
    other = probes["probe" if kind != "probe" else "label probe"]
    with pytest.raises(
        ProbeError, match=rf"format 'musicgen-workbench {other.kind} 1'.*{KINDS[kind].__name__}"
    ):
        load(other.save(tmp_path / "other"))


def rewritten(path, change):
    """Write a saved probe again after `change` of its record and its arrays; return the path."""
    from safetensors import safe_open

    with safe_open(str(path), framework="np") as file:
        record, arrays = json.loads(file.metadata()["workbench"]), load_file(path)
    change(record, arrays)
    save_file(arrays, path, metadata={"workbench": json.dumps(record)})
    return path


DAMAGES = {
    "a later version": (lambda r, a: r.update(format=r["format"][:-1] + "2"), "probe 2', not"),
    "a lost array": (lambda r, a: a.pop("mean"), "mean"),
    "a narrower array": (lambda r, a: a.update(mean=a["mean"][:-1].copy()), "expected"),
    "a lost field": (lambda r, a: r.pop("layer"), "layer"),
    "a field too many": (lambda r, a: r.update(colour="red"), "colour"),
    "lost scores": (lambda r, a: r.pop("scores"), "scores"),
    "a lost score": (lambda r, a: r["scores"].pop("samples"), "samples"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_record_is_refused_with_what_is_wrong(kind, damage, probes, tmp_path):
    change, told = DAMAGES[damage]
    path = rewritten(probes[kind].save(tmp_path / "it"), change)
    with pytest.raises(ProbeError, match=rf"(?s)A {kind} was asked for from .*{told}"):
        KINDS[kind].load(path)


def test_arrays_that_do_not_fit_one_another_are_no_probe(probes):
    with pytest.raises(ProbeError, match=r"its bias have the shape \(2,\) where \(3,\)"):
        replace(probes["probe"], bias=np.zeros(2))
    with pytest.raises(ProbeError, match=r"its weights have the shape \(3, 12\) where \(2, 12\)"):
        replace(probes["probe"], classes=("jazz", "rock"), bias=np.zeros(2))
    with pytest.raises(ProbeError, match=r"its l2 have the shape \(1,\)"):
        replace(probes["label probe"], l2=np.ones(1))
    with pytest.raises(ProbeError, match=r"its weights have the shape \(1, 12\) where \(12,\)"):
        replace(probes["number probe"], weights=np.zeros((1, 12)))


SWEEPS = {"probe": ProbeSweep, "number probe": NumberSweep, "label probe": LabelSweep}


@pytest.fixture(scope="module")
def sweeps(acts):
    """One sweep of each kind."""
    return {
        "probe": fit_probes(acts, l2=[0.1], shuffles=2),
        "number probe": fit_regression(acts, "bpm", l2=[0.1], shuffles=0),
        "label probe": fit_multilabel(acts, l2=[0.1]),
    }


@pytest.mark.parametrize("kind", SWEEPS)
def test_law_10_the_probes_of_all_layers_come_back_from_disk(kind, sweeps, tmp_path):
    sweep = sweeps[kind]
    assert sweep.save(tmp_path / "deep" / "sweep") == tmp_path / "deep" / "sweep"
    again = SWEEPS[kind].load(tmp_path / "deep" / "sweep")
    assert again == sweep
    assert hash(again) == hash(sweep)
    pd.testing.assert_frame_equal(again.table(), sweep.table())
    if kind != "label probe":
        pd.testing.assert_frame_equal(again.held_out, sweep.held_out)
    if kind == "probe":
        pd.testing.assert_frame_equal(again.confusion(), sweep.confusion())
    # each file is a probe of its own
    assert KINDS[kind].load(tmp_path / "deep" / "sweep" / "layer-1.safetensors") == sweep[1]
    assert sweep != replace(sweep, probes=sweep.probes[:1])


@pytest.mark.parametrize("kind", SWEEPS)
def test_a_sweep_saved_over_another_one_leaves_nothing_of_it(kind, sweeps, tmp_path):
    sweep = sweeps[kind]
    sweep.save(tmp_path)
    fewer = replace(sweep, probes=sweep.probes[1:])
    fewer.save(tmp_path)
    assert SWEEPS[kind].load(tmp_path) == fewer
    assert sorted(path.name for path in tmp_path.iterdir()) == ["layer-1.safetensors", "sweep.safetensors"]


def test_a_sweep_of_another_kind_or_with_a_strange_file_is_refused(sweeps, tmp_path):
    sweeps["probe"].save(tmp_path / "it")
    with pytest.raises(ProbeError, match="probe sweep 1"):
        NumberSweep.load(tmp_path / "it")
    with pytest.raises(ProbeError, match="missing"):
        ProbeSweep.load(tmp_path / "missing")
    shutil.copytree(tmp_path / "it", tmp_path / "mixed")
    replace(sweeps["probe"][0], target="mood").save(tmp_path / "mixed" / "layer-0.safetensors")
    with pytest.raises(ProbeError, match=r"layer-0.safetensors is not the file that was saved with it"):
        ProbeSweep.load(tmp_path / "mixed")
    for name in ("sweep.safetensors", "layer-1.safetensors"):
        shutil.rmtree(tmp_path / "mixed")
        shutil.copytree(tmp_path / "it", tmp_path / "mixed")
        data = bytearray((tmp_path / "mixed" / name).read_bytes())
        data[-3] ^= 1
        (tmp_path / "mixed" / name).write_bytes(bytes(data))
        with pytest.raises(ProbeError, match="cannot be read"):
            ProbeSweep.load(tmp_path / "mixed")
