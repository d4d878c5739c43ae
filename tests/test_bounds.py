"""Text and files can ask for anything: what is read is bounded, and nonsense is refused with its place."""

from __future__ import annotations

import base64
import json
import time
import tracemalloc
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from saved_kinds import KINDS, edit_record, judge, probe, recorded, stored, take, unit

from workbench.activations import open_activations
from workbench.errors import (
    ActivationsError,
    EvidenceError,
    GenerationError,
    ModelError,
    ProbeError,
    SteeringError,
    WorkbenchError,
    is_number,
    is_text,
    is_whole,
    reason,
)
from workbench.generation.engine import Span
from workbench.generation.live.journal import RecordedWindow
from workbench.generation.live.recording import Recording
from workbench.generation.take import ProbeTrace, Take, Window
from workbench.model.conditioning import Melody
from workbench.steering import Gate, ReadOut, Schedule, Steering
from workbench.steering import plan as plan_file
from workbench.steering.plan import MOST_BYTES

HELD = {"jazz": unit()}
NAN, INF = float("nan"), float("inf")
NONSENSE: list[Any] = [None, "x", True, NAN, INF, -1, 10**400, [], {}]


def used_s(work: Any) -> float:
    """The processor's seconds that `work` takes, the better of two."""
    times = []
    for _ in range(2):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return min(times)


def test_twenty_thousand_terms_are_read_within_seconds():
    many = {f"d{seed}": unit(seed=seed) for seed in range(2000)}
    plan = Steering(tuple(one.at(0.5) for one in many.values()) * 10)
    text = plan.text()
    assert len(plan.terms) == 20_000
    read: list[Steering] = []
    assert used_s(lambda: read.append(Steering.parse(text, many))) < 2  # 0.5 s, and was 33 s
    assert read[-1] == plan


def test_an_error_in_a_long_text_quotes_its_surroundings_only():
    text = " + ".join(["0.5*jazz@5"] * 20_000) + " + 0.5*blues@5"
    with pytest.raises(SteeringError, match=r"At character \d+ of '\.\.\. .*'blues@5'") as caught:
        Steering.parse(text, HELD)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "text",
    [
        "9" * 5000 + "*jazz@5",
        "1e999*jazz@5",
        "0.5*jazz@" + "9" * 5000,
        "0.5*jazz@5>" + "9" * 5000,
        "0.5*jazz@5 | ramp(" + "9" * 5000 + "s,6s)",
        "0.5*jazz@5 | pulse(" + "9" * 400 + " steps)",
        '0.5*"\\ud800"@5',
    ],
)
def test_numbers_beyond_all_bounds_are_refused_where_they_stand(text):
    with pytest.raises(SteeringError, match=r"^At character") as caught:
        Steering.parse(text, HELD)
    assert len(str(caught.value)) < 1000


ITEM = json.loads(unit().at(0.5).to_json())[0]


@pytest.mark.parametrize(
    "text",
    ["5", "[5]", "null", "[null]", "[" * 100_000, "9" * 5000, "[" + "9" * 5000 + "]", '"' + "x" * 9, "[[[]]]"]
    + [
        json.dumps([ITEM | {name: value}])
        for name in ("fingerprint", "dose", "operation", "schedule", "rows", "layer")
        for value in ([], {}, 1e999, "\ud800", True)
    ]
    + [json.dumps([ITEM | {"layer": value}]) for value in (1.5, "3", -1)]
    + [json.dumps([ITEM | {"gate": value}]) for value in (5, {}, [], {"fingerprint": []})]
    + [5, None, b"\xff"],
)
def test_what_is_no_plan_in_json_is_refused_with_the_reason(text):
    with pytest.raises(SteeringError) as caught:
        Steering.from_json(text, HELD)
    assert len(str(caught.value)) < 1500


def test_packed_text_unpacks_to_a_bounded_size():
    bomb = base64.b64encode(zlib.compress(bytes(8 * MOST_BYTES), 9)).decode()
    assert len(bomb) < MOST_BYTES / 50
    tracemalloc.start()
    with pytest.raises(SteeringError, match="larger than 16 MB"):
        Steering.unpack(bomb)
    assert tracemalloc.get_traced_memory()[1] < 3 * MOST_BYTES
    tracemalloc.stop()


def test_what_is_packed_can_be_unpacked(monkeypatch):
    plan = unit().at(0.5)
    assert Steering.unpack(plan.pack()) == plan
    for wrong in (plan.pack()[:-8], plan.pack() + "AAAA", "", "5", "ü"):
        with pytest.raises(SteeringError, match="packed text"):
            Steering.unpack(wrong)
    monkeypatch.setattr(plan_file, "MOST_BYTES", 100)
    with pytest.raises(SteeringError, match=r"Steering\.save"):
        plan.pack()


def test_values_that_no_file_can_mean_are_told_apart():
    assert [value for value in (0, 3, np.int64(3)) if is_whole(value)] == [0, 3, 3]
    assert not any(is_whole(value) for value in (-1, 3.0, "3", True, None, NAN))
    assert all(is_number(value) for value in (0, -1.5, np.float32(2), 10**300))
    assert not any(is_number(value) for value in ("1", None, True, NAN, INF, 10**400, 1j))
    assert is_text("ü") and not is_text("\ud800") and not is_text(b"x") and not is_text(None)
    assert len(reason(ValueError("x" * 10_000))) < 320


@pytest.mark.parametrize("kind", [Take, Recording, Steering])
def test_a_folder_without_what_is_loaded_is_named_in_words(kind, tmp_path):
    with pytest.raises(WorkbenchError, match=r"there is no .*nowhere") as refusal:
        kind.load(tmp_path / "nowhere")
    assert "Errno" not in str(refusal.value)


READ = ReadOut(("a", "b"), np.ones((2, 4)), np.zeros(2), 1)
BIRTHS: dict[str, tuple[type[WorkbenchError], Any, list[Any]]] = {
    "a direction's layer": (SteeringError, lambda x: replace(unit(), layer=x), [*NONSENSE, 1.5]),
    "a direction's name": (SteeringError, lambda x: replace(unit(), name=x), [None, 5, "", "\ud800"]),
    "a direction's site": (SteeringError, lambda x: replace(unit(), site=x), [None, 5, ""]),
    "a direction's norm": (SteeringError, lambda x: replace(unit(), residual_norm=x), ["x", None, INF, -1]),
    "a direction's centre": (SteeringError, lambda x: replace(unit(), centre=x), ["x", None, INF, NAN]),
    "a direction's origin": (SteeringError, lambda x: replace(unit(), origin=x), [None, 5, "x"]),
    "a dose": (SteeringError, lambda x: unit().at(x), [None, "x", True, NAN, INF, 10**400, []]),
    "a term's layer": (SteeringError, lambda x: unit().at(1, layer=x), ["3", 1.5, True, -1, NAN, []]),
    "a term's chance": (SteeringError, lambda x: unit().at(1, chance=x), NONSENSE),
    "a term's operation": (SteeringError, lambda x: unit().at(1, operation=x), NONSENSE),
    "a term's rows": (SteeringError, lambda x: unit().at(1, branch=x), NONSENSE),
    "a schedule's kind": (SteeringError, lambda x: Schedule(x), NONSENSE),
    "a schedule's numbers": (SteeringError, lambda x: Schedule("ramp", (0, x)), NONSENSE),
    "a read-out's layer": (SteeringError, lambda x: replace(READ, layer=x), NONSENSE),
    "a read-out's target": (SteeringError, lambda x: replace(READ, target=x), [None, 5, "\ud800"]),
    "a gate's threshold": (SteeringError, lambda x: Gate(READ, "a", threshold=x), NONSENSE),
    "a gate's seconds": (SteeringError, lambda x: Gate(READ, "a", over=x), NONSENSE),
    "a melody": (ModelError, lambda x: Melody((0, x)), NONSENSE),
    "a take's guidance": (GenerationError, lambda x: replace(take(), guidance=x), NONSENSE),
    "a take's temperature": (GenerationError, lambda x: replace(take(), temperature=x), [0, *NONSENSE]),
    "a take's top_k": (GenerationError, lambda x: replace(take(), top_k=x), [1.5, None, "x", -1]),
    "a take's seed": (GenerationError, lambda x: replace(take(), seed=x), [1.5, None, "x", -1]),
    "a take's prompt": (GenerationError, lambda x: replace(take(), prompt=x), [5, None, "\ud800"]),
    "a take's audio": (GenerationError, lambda x: replace(take(), prompt_seconds=x), [-5, 1e6, *NONSENSE]),
    "a take's codes": (
        GenerationError,
        lambda x: replace(take(), codes=x),
        [np.full((4, 5), 40_000), np.full((4, 5), -1), np.zeros(3, int), np.full((4, 5), NAN)],
    ),
    "a take's versions": (GenerationError, lambda x: replace(take(), versions={"torch": x}), [5, None]),
    "a window's end": (GenerationError, lambda x: Window(1.0, x, 0.0, "p"), [0.5, *NONSENSE]),
    "a trace's layer": (GenerationError, lambda x: replace(take().probe_traces[0], layer=x), NONSENSE),
    "a trace's readings": (
        GenerationError,
        lambda x: ProbeTrace("g", 1, ("a", "b"), np.zeros(3), x),
        [np.zeros((2, 2)), np.zeros((3, 1)), np.full((3, 2), NAN)],
    ),
    "a probe's layer": (ProbeError, lambda x: replace(probe(), layer=x), [*NONSENSE, 1.5]),
    "a probe's norm": (ProbeError, lambda x: replace(probe(), residual_norm=x), ["x", None, INF]),
    "a probe's l2": (ProbeError, lambda x: replace(probe(), l2=x), ["x", None, INF]),
    "a probe's score": (
        ProbeError, lambda x: replace(probe(), scores=replace(probe().scores, low=x)), ["x", None, INF]
    ),
    "a probe's weights": (ProbeError, lambda x: replace(probe(), weights=probe().weights * x), [NAN]),
    "a judge's scale": (EvidenceError, lambda x: replace(judge(), scale=judge().scale * x), [0, -1, NAN]),
    "a judge's classes": (EvidenceError, lambda x: replace(judge(), classes=x), [("a",), ("a", "a"), ()]),
    "a judge's layers": (EvidenceError, lambda x: replace(judge(), layers=x), [(), judge().layers[1:]]),
    "a judge's blocks": (EvidenceError, lambda x: replace(judge(), hears=x), [("smell",), (5,)]),
}  # fmt: skip


@pytest.mark.parametrize("what", BIRTHS)
def test_constructors_check_what_they_are_given(what):
    kind, make, wrong = BIRTHS[what]
    for value in wrong:
        with pytest.raises(kind):
            make(value)


WRONG: list[tuple[str, str, Any]] = [
    ("direction", "layer", "x"), ("direction", "residual_norm", -1), ("direction", "name", 5),
    ("probe", "layer", "x"), ("number probe", "bias", "x"), ("label probe", "method", 5),
    ("take", "given_s", -5), ("take", "guidance", NAN), ("take", "seed", None), ("take", "windows", 5),
    ("take", "melody", [99]), ("take", "receipt", 5), ("take", "probe_traces", [5]), ("take", "versions", 5),
    ("recording", "frame_rate_hz", 0), ("recording", "n_codebooks", 0), ("recording", "window", 10**12),
    ("recording", "settings", {"guidance": NAN}), ("recording", "knobs", 5), ("recording", "seed", "x"),
    ("recording", "environment", 5), ("recording", "overlap", -3), ("recording", "n_codebooks", 10**9),
    ("judge", "layers", 10**9), ("judge", "layers", "x"), ("judge", "classes", 5), ("judge", "hears", [5]),
    ("judge", "classes", ["jazz"]),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "field", "value"), WRONG)
def test_a_wrong_value_in_a_file_is_refused_with_the_file(kind, field, value, tmp_path):
    saved = KINDS[kind]
    saved.write(tmp_path / "it")
    edit_record(tmp_path / "it", saved, {field: value})
    if (kind, field) == ("recording", "window"):
        assert Recording.load(tmp_path / "it").doses()  # it asks for no memory of that size
        return
    with pytest.raises(saved.error, match=str(tmp_path / "it")):
        saved.load(tmp_path / "it")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["", "5", "[]", "[" * 100_000, "{}", "\ud800", "9" * 5000, '{"format": 5}'])
def test_a_record_that_is_none_is_refused_with_the_file(kind, text, tmp_path):
    saved = KINDS[kind]
    saved.write(tmp_path / "it")
    edit_record(tmp_path / "it", saved, text)
    with pytest.raises(saved.error, match=str(tmp_path / "it")):
        saved.load(tmp_path / "it")


def test_what_a_journal_asks_for_is_bounded_by_its_frames(tmp_path):
    recorded(tmp_path / "it")
    whole = Recording.load(tmp_path / "it")
    frames = whole.codes.shape[-1] + 2 * len(whole.codes)
    assert sum(map(len, whole.doses())) <= frames
    for change in ({"cut": 10**12}, {"cut": None, "span": replace(whole.windows[0].span, start=0)}):
        windows = tuple(replace(one, **change) for one in whole.windows)
        assert sum(map(len, replace(whole, windows=windows).doses())) <= 2 * frames
    with pytest.raises(GenerationError, match="longer than the 12 frames"):
        replace(whole, windows=(RecordedWindow(Span(0, 10**9)),))


@pytest.mark.parametrize("size", [0, 1, 40])
def test_a_shortened_file_of_a_store_is_named(size, tmp_path):
    stored(tmp_path / "it")
    shard = tmp_path / "it" / "resid_post" / "c" / "1" / "0" / "0"
    shard.write_bytes(shard.read_bytes()[:size])
    named = str(shard) if size else r"1 of 3 chunks are unfinished \(the first is 1\)"
    with pytest.raises(ActivationsError, match=named):
        open_activations(tmp_path / "it")


def test_a_take_holds_what_was_made_and_comes_back(tmp_path: Path) -> None:
    assert Take.load(take().save(tmp_path)) == take()
