"""A take is drawn again bit for bit: from itself, from disk, and by its code in a fresh process."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from generation_samples import WINDOWS, Reader
from steering_fixture import direction

from workbench.errors import Cancelled, GenerationError, SteeringError
from workbench.generation.generate import extend, generate, generate_long
from workbench.generation.reproduce import reproduce, reproduction_code
from workbench.generation.take import Take, Window
from workbench.model.folders import builtin_folder
from workbench.model.load import load
from workbench.steering import Gate, ReadOut, Steering, crossfade, fade, knots, pulse, ramp
from workbench.steering import window as during

OPENING = np.random.default_rng(5).integers(0, 64, (4, 7))
QUICK: dict[str, Any] = {"seconds": 0.8, "progress": False, "seed": 3}
HALF = {
    "add": 0.8, "norm_scaled_add": 0.5, "keep_norm": 0.8, "remove": 1.0, "clamp": 2.0,
}  # fmt: skip


def gate(model: Any, layer: int = 2) -> Gate:
    weights = np.random.default_rng(1).standard_normal((2, model.d_model))
    return Gate(ReadOut(("a", "b"), weights, np.zeros(2), layer, target="genre"), "a", "below", 0.5, 0.2)


def plans(model: Any) -> dict[str, Steering]:
    """A plan of every operation, and of everything else that a plan may hold."""
    one, two = direction(model, 1), direction(model, 2, seed=1, name='odd "name"\n# ☃')
    made = {name: one.at(dose, operation=name) for name, dose in HALF.items()}
    schedules = {"ramp": ramp(0.2, 0.6), "knots": knots([(0, 0), (0.4, 1)]), "pulse": pulse(every_steps=3)}
    made |= {name: one.at(0.8, schedule=schedule) for name, schedule in schedules.items()}
    made |= {f"rows {rows}": two.at(0.6, branch=rows) for rows in ("null", "both")}
    made |= {"chance": one.at(0.8, chance=0.5), "gate": one.at(0.8, gate=gate(model))}
    made["two"] = crossfade(one.at(0.5), two.at(0.5), 0.2, 0.6)
    made["elsewhere"] = one.at(-0.4, layer=3) + two.at(0.4, schedule=during(0.2, 0.4), gate=gate(model, 1))
    return made


NAMES = [
    *HALF, "ramp", "knots", "pulse", "rows null", "rows both", "chance", "gate", "two", "elsewhere",
]  # fmt: skip


def same_again(model: Any, take: Take, **settings: Any) -> Take:
    """The take drawn again, which must happen without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        return reproduce(model, take, progress=False, **settings)


def run(code: str) -> str:
    """What the code prints, in a namespace of its own."""
    told = io.StringIO()
    with contextlib.redirect_stdout(told), warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        exec(code, {})
    return told.getvalue().strip()


@pytest.mark.parametrize("name", NAMES)
def test_every_plan_is_drawn_again_from_disk(tiny_model: Any, tmp_path: Path, name: str) -> None:
    plan = plans(tiny_model)[name]
    take = generate(tiny_model, "a tune", steering=plan, **QUICK)
    plain = generate(tiny_model, "a tune", **QUICK)
    assert not np.array_equal(take.codes, plain.codes)
    loaded = Take.load(take.save(tmp_path / "take"))
    assert loaded == take and loaded.plan == plan
    assert same_again(tiny_model, loaded) == take


@pytest.mark.parametrize("name", ["add", "two", "elsewhere"])
def test_the_code_alone_draws_the_codes_again(tiny_model: Any, tiny_folder: Path, name: str) -> None:
    plan, settings = plans(tiny_model)[name], {"guidance": 2.0, "top_k": 9, **QUICK}
    take = generate(tiny_model, 'a "tune"\n', steering=plan, **settings)
    code = reproduction_code(take, model=str(tiny_folder))
    assert run(code) == "True"
    assert run(code.replace("seed=3", "seed=4")) == "False", "what it prints is no matter of course"


def test_the_code_of_an_unsteered_take_is_short(tiny_model: Any, tiny_folder: Path) -> None:
    code = reproduction_code(generate(tiny_model, "a tune", temperature=0.7, **QUICK), model=str(tiny_folder))
    assert run(code) == "True"
    assert "unpack" not in code and "audio=" not in code and len(code.splitlines()) < 16


@pytest.mark.parametrize("how", ["codes", "clip", "end of a clip"])
def test_a_continuation_goes_on_from_its_own_beginning(
    tiny_model: Any, tiny_folder: Path, tmp_path: Path, how: str
) -> None:
    clip = generate(tiny_model, "rock", **{**QUICK, "seed": 9}).clip
    audio = {"codes": {"audio": OPENING}, "clip": {"audio": clip}}
    audio["end of a clip"] = {"audio": clip, "audio_seconds": 0.4}
    plan = plans(tiny_model)["ramp"]
    take = generate(tiny_model, "a tune", steering=plan, **audio[how], **QUICK)
    assert same_again(tiny_model, Take.load(take.save(tmp_path))) == take
    assert run(reproduction_code(take, model=str(tiny_folder))) == "True"
    assert run(reproduction_code(take, tmp_path, model=str(tiny_folder))) == "True"


@pytest.mark.parametrize(
    "settings",
    [
        {"seconds": 1.6, **WINDOWS},
        {"seconds": 1.6, "audio": OPENING, "changes": [(0.6, "rock"), (1.0, "jazz")], **WINDOWS},
        {"seconds": 0.3, "audio": np.tile(OPENING, 4), **WINDOWS},
    ],
    ids=["windows", "changes", "one window that hears the end"],
)
def test_a_long_take_is_drawn_in_its_windows(
    tiny_model: Any, tiny_folder: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    plan = plans(tiny_model)["gate"] + plans(tiny_model)["chance"]
    take = generate_long(tiny_model, "a tune", steering=plan, **{**QUICK, **settings})
    assert same_again(tiny_model, Take.load(take.save(tmp_path))) == take
    assert run(reproduction_code(take, model=str(tiny_folder))) == "True"


def test_an_extended_take_is_drawn_again(tiny_model: Any, tiny_folder: Path) -> None:
    first = generate(tiny_model, "a tune", **QUICK)
    for seconds in (0.3, 1.2):
        more = extend(tiny_model, first, seconds=seconds, progress=False, **WINDOWS)
        assert same_again(tiny_model, more) == more
        assert run(reproduction_code(more, model=str(tiny_folder))) == "True"


def test_probes_may_listen_again(tiny_model: Any) -> None:
    take = generate(tiny_model, "a tune", steering=plans(tiny_model)["add"], probes=[Reader()], **QUICK)
    assert same_again(tiny_model, take).probe_traces == ()
    assert same_again(tiny_model, take, probes=[Reader()]) == take


def test_a_repetition_can_be_stopped(tiny_model: Any) -> None:
    import threading

    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        reproduce(tiny_model, generate(tiny_model, "a tune", **QUICK), progress=False, cancel=cancel)


def test_codes_that_differ_are_told_with_the_reason(tiny_model: Any) -> None:
    take = generate(tiny_model, "a tune", **QUICK)
    codes = take.codes.copy()
    codes[0, 10] ^= 1
    other = dataclasses.replace(take, codes=codes, versions={**take.versions, "torch": "1.0"})
    with pytest.warns(UserWarning, match=r"from 0.40 s on: torch 1.0 then, \S+ now\.$"):
        reproduce(tiny_model, other, progress=False)
    among = {**take.versions, "batch": "18"}
    with pytest.warns(UserWarning, match=r"on: drawn among 18 clips then, alone now\.$"):
        reproduce(tiny_model, dataclasses.replace(other, versions=among), progress=False)
    with pytest.warns(UserWarning, match="does not say how it was made"):
        reproduce(tiny_model, dataclasses.replace(other, versions=take.versions), progress=False)


def test_what_cannot_be_drawn_again_is_refused(tiny_model: Any) -> None:
    take = generate(tiny_model, "a tune", steering=plans(tiny_model)["add"], **QUICK)
    bare = dataclasses.replace(take, plan=None)
    live = dataclasses.replace(bare, steering="live: 0..1*jazz")
    for one, found in ((bare, "directions were not kept"), (live, "only a recording knows")):
        for ask in (lambda one=one: reproduce(tiny_model, one), lambda one=one: reproduction_code(one)):
            with pytest.raises(GenerationError, match=found):
                ask()
    with pytest.raises(GenerationError, match="another model draws other codes"):
        reproduce(tiny_model, dataclasses.replace(take, model_id="another"))
    with pytest.raises(GenerationError, match="which model made it"):
        reproduction_code(dataclasses.replace(take, model_id=""))


def test_windows_that_no_call_makes_are_refused_without_a_folder(tiny_model: Any, tmp_path: Path) -> None:
    take = generate_long(tiny_model, "a tune", **{**QUICK, "seconds": 1.6, **WINDOWS})
    first, second, third = take.windows
    odd = dataclasses.replace(take, windows=(first, dataclasses.replace(second, context_s=0.2), third))
    with pytest.raises(GenerationError, match="no single call draws in such windows"):
        reproduction_code(odd)
    assert str(tmp_path) in reproduction_code(odd, tmp_path)
    assert isinstance(odd.windows[1], Window)


def test_a_take_saved_without_its_plan_still_loads(tiny_model: Any, tmp_path: Path) -> None:
    take = generate(tiny_model, "a tune", steering=plans(tiny_model)["add"], **QUICK)
    take.save(tmp_path)
    (tmp_path / "plan.safetensors").unlink()
    old = Take.load(tmp_path)
    assert old == take and old.plan is None
    dataclasses.replace(take, plan=None).save(tmp_path)
    take.save(tmp_path)
    generate(tiny_model, "a tune", **QUICK).save(tmp_path)
    assert not (tmp_path / "plan.safetensors").exists(), "the plan of the take that was there before"


def test_a_plan_beside_the_wrong_take_is_refused(tiny_model: Any, tmp_path: Path) -> None:
    take = generate(tiny_model, "a tune", steering=plans(tiny_model)["add"], **QUICK)
    take.save(tmp_path)
    plans(tiny_model)["norm_scaled_add"].save(tmp_path / "plan.safetensors")
    with pytest.raises(GenerationError, match="another plan"):
        Take.load(tmp_path)
    (tmp_path / "plan.safetensors").write_bytes(b"no plan")
    with pytest.raises(GenerationError, match="cannot be read"):
        Take.load(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_law_10_a_plan_with_its_vectors_survives_disk_and_letters(
    tiny_model: Any, tmp_path: Path, name: str
) -> None:
    plan = plans(tiny_model)[name]
    for back in (Steering.load(plan.save(tmp_path / "new" / "plan")), Steering.unpack(plan.pack())):
        assert back == plan and back.to_json() == plan.to_json()
        assert [term.direction.origin for term in back.terms] == [t.direction.origin for t in plan.terms]
        assert back.read_outs == plan.read_outs


def test_a_damaged_plan_is_named(tmp_path: Path, tiny_model: Any) -> None:
    letters = plans(tiny_model)["gate"].pack()
    for text in (letters[:-8], "?" + letters, ""):
        with pytest.raises(SteeringError, match="it holds none"):
            Steering.unpack(text)
    with pytest.raises(SteeringError, match="there is no "):
        Steering.load(tmp_path / "nowhere")


def test_no_terms_and_no_norm_survive(tiny_model: Any) -> None:
    assert Steering.unpack(Steering().pack()) == Steering()
    loose = dataclasses.replace(direction(tiny_model, 1), residual_norm=float("nan"))
    plan = loose.at(0.5, operation="remove", schedule=fade(0.1, 0.2))
    assert Steering.unpack(plan.pack()) == plan


@pytest.mark.long
@pytest.mark.timeout(420)
@pytest.mark.skipif(not (builtin_folder() / "config.json").exists(), reason="no built-in model here")
def test_the_code_of_built_in_takes_runs_in_a_fresh_process(tmp_path: Path) -> None:
    model = load("embedded", device="cpu", dtype="float32")
    made = plans(model)
    prompts = ["a tune"] * len(NAMES)
    takes = generate(model, prompts, steering=[made[name] for name in NAMES], **QUICK)
    takes.append(generate(model, "a tune", **QUICK))
    takes.append(generate(model, "a tune", steering=made["gate"], audio=takes[0].clip, **QUICK))
    windows = {"window_seconds": 0.5, "overlap_seconds": 0.2, "changes": [(0.4, "a slow tune")]}
    takes.append(generate_long(model, "a tune", steering=made["chance"], **windows, **QUICK))
    codes = [reproduction_code(take) for take in takes]
    assert all('wb.load("embedded"' in code or "wb.load('embedded'" in code for code in codes)
    codes += [
        reproduction_code(take, take.save(tmp_path / str(place))) for place, take in enumerate(takes[-2:])
    ]
    script = "import json, sys\nfor code in json.load(sys.stdin): exec(code, {})"
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", script], cwd=tmp_path, check=False, text=True,
        input=json.dumps(codes), capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True"] * len(codes)
