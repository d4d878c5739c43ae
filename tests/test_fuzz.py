"""Whatever stands in text, tables, sound files and saved values: a value that can be used, or one error.

`make test` draws the same 1,000 cases every time, `make verify-fuzz` 20,000 new ones: WORKBENCH_FUZZ says how
many.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from saved_kinds import KINDS, plan, unit

from workbench.errors import AudioError, DatasetError, SteeringError
from workbench.sound import from_csv, read_clip
from workbench.steering import Steering
from workbench.steering.plan_text import parse_schedule

CASES = int(os.environ.get("WORKBENCH_FUZZ", "1000"))
HELD = {"jazz": unit(), "rock": unit("rock", seed=1), **plan().directions}
pytestmark = pytest.mark.filterwarnings("ignore")


def share(of_thousand: int) -> Callable[[Any], Any]:
    """Give a test its share of the cases, which are the same each time unless more than 1,000 are drawn."""
    return settings(
        max_examples=max(1, CASES * of_thousand // 1000),
        derandomize=CASES <= 1000,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],  # a case is small as it is, and shrinking takes minutes
        suppress_health_check=list(HealthCheck),
    )


WORDS = [
    "0.8", "-", "+", "*", "jazz", "rock", "blues", "@", "5", "3", ">", "#", "ab12", "|", ";", "(", ")", ",",
    "add(", "remove(", "clamp(", "keep_norm(", "constant", "ramp(2s,6s)", "window(0s,1s)", "pulse(25 steps)",
    "knots(0s:1,2s:0)", "decay(", "s", "cond", "both", "null", "chance(0.5)", " ",
    "gate(jazz@4 < 0.8 over 1s)", "none", '"a b"', '"', "\\", "1e999", "9" * 500, "nan", "é", "\0", "\u2028",
    "٣", "0.5*jazz@5", "0.5*jazz@5 | ramp(1s,2s)",
]  # fmt: skip
TEXTS = st.one_of(
    st.lists(st.sampled_from(WORDS), max_size=12).map("".join),
    st.text(max_size=30),
    st.builds(
        lambda at, new: plan().text()[:at] + new + plan().text()[at + 1 :],
        st.integers(0, 150), st.text(max_size=2),
    ),
)  # fmt: skip
NASTY: list[Any] = [
    None, True, -5, 0, 1.5, 10**400, float("inf"), float("nan"), 1e300, "", "x", "\ud800", "9" * 5000,
    [], {}, [[]], [1, 2], ["x"], {"x": 1}, 2**63, -(2**70),
]  # fmt: skip
VALUES = st.one_of(st.sampled_from(NASTY), st.integers(), st.floats(), st.text(max_size=5))
JSON = st.recursive(
    VALUES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@share(200)
@given(TEXTS)
def test_text_is_a_plan_that_reads_back_or_is_refused(text: str) -> None:
    try:
        read = Steering.parse(text, HELD, plan().read_outs)
    except SteeringError as error:
        assert len(str(error)) < 3000
    else:
        assert Steering.parse(read.text(), HELD, plan().read_outs) == read


@share(60)
@given(TEXTS)
def test_text_is_a_schedule_that_reads_back_or_is_refused(text: str) -> None:
    try:
        read = parse_schedule(text)
    except SteeringError:
        return
    assert parse_schedule(read.text()) == read
    assert np.isfinite([read.factor(seconds, 3) for seconds in (0.0, 1.5, 1e6)]).all()


@share(140)
@given(JSON | st.text(max_size=9), st.lists(st.integers(0, 99), max_size=6), st.booleans())
def test_json_is_a_plan_or_is_refused(value: Any, way: list[int], inside: bool) -> None:
    text = json.dumps(planted(json.loads(plan().to_json()), way, value) if inside else value)
    try:
        read = Steering.from_json(text, HELD, plan().read_outs)
    except SteeringError:
        return
    assert Steering.from_json(read.to_json(), HELD, plan().read_outs) == read


def planted(document: Any, way: list[int], value: Any) -> Any:
    """Return a JSON document with `value` where the numbers of `way` lead; an odd last one removes."""
    if not way or not isinstance(document, dict | list) or not document:
        return value
    keys = list(document) if isinstance(document, dict) else list(range(len(document)))
    key = keys[way[0] % len(keys)]
    if len(way) == 1 and way[0] % 2:
        del document[key]
    else:
        document[key] = planted(document[key], way[1:], value)
    return document


DAMAGE = st.tuples(
    st.sampled_from(["flip", "flip", "cut", "insert", "remove", "zeros"]),
    st.integers(0, 2**24),
    st.binary(min_size=1, max_size=8),
)


def damaged(data: bytes, damage: tuple[str, int, bytes]) -> bytes:
    """Return the bytes after one kind of damage at a place, which counts from the end where it is odd."""
    kind, number, new = damage
    at = number // 2 % (len(data) + 1)
    at = len(data) - at if number % 2 else at
    if kind == "flip":
        return data[:at] + bytes(byte ^ 1 << new[0] % 8 for byte in data[at : at + 1]) + data[at + 1 :]
    if kind == "cut":
        return data[:at]
    if kind == "insert":
        return data[:at] + new * new[0] + data[at:]
    return data[:at] + (b"" if kind == "remove" else bytes(len(new))) + data[at + len(new) :]


FORMATS = {
    "wav": "PCM_16",
    "flac": "PCM_16",
    "ogg": "VORBIS",
    "mp3": "MPEG_LAYER_III",
    "aiff": "PCM_16",
    "au": "PCM_16",
}


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A tenth of a second of sound in every format, as bytes."""
    folder = tmp_path_factory.mktemp("sounds")
    for suffix, kind in FORMATS.items():
        soundfile.write(folder / f"a.{suffix}", np.sin(np.arange(2205) / 9), 22050, subtype=kind)
    return {path.suffix[1:]: path.read_bytes() for path in folder.iterdir()}


@share(200)
@given(st.data())
def test_a_sound_file_is_read_or_refused(sounds: dict[str, bytes], tmp_path_factory: Any, data: Any) -> None:
    suffix, named = data.draw(st.sampled_from(list(sounds))), data.draw(st.sampled_from(list(sounds)))
    path = folder_of(tmp_path_factory) / f"it.{named if data.draw(st.booleans()) else suffix}"
    path.write_bytes(damaged(damaged(sounds[suffix], data.draw(DAMAGE)), data.draw(DAMAGE)))
    try:
        clip = read_clip(path)
    except AudioError as error:
        assert str(path) in str(error)
    else:
        assert np.isfinite(clip.samples).all() and clip.seconds > 0


CELLS = st.sampled_from(
    ["a.wav", "b.wav", "jazz", "rock", "", " ", "1", "nan", "1e999", '"', 'a"b', "é", "\0", "x\ty"]
)
TABLES = st.builds(
    lambda head, rows, joint, end: end.join(joint.join(row) for row in [head, *rows]),
    st.lists(st.sampled_from(["file", "genre", "artist", "bpm", "", '"genre"']), max_size=4),
    st.lists(st.lists(CELLS, max_size=5), max_size=5),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["\n", "\r\n", "\r", "\n\n"]),
)


@share(60)
@given(
    TABLES | st.text(max_size=20),
    st.sampled_from(["utf-8", "utf-16", "latin-1"]),
    st.sampled_from([None, "artist"]),
)
def test_a_table_is_a_dataset_or_is_refused(
    sounds: dict[str, bytes], tmp_path_factory: Any, table: str, encoding: str, group: str | None
) -> None:
    folder = folder_of(tmp_path_factory)
    for name in ("a.wav", "b.wav"):
        (folder / name).write_bytes(sounds["wav"])
    (folder / "table.csv").write_bytes(table.encode(encoding, errors="replace"))
    try:
        dataset = from_csv(folder / "table.csv", group=group, progress=False)
    except DatasetError as error:
        assert str(error)
    else:
        assert set(dataset.ids) <= {"a.wav", "b.wav"} and len(dataset.table()) == len(dataset)


FOLDERS: list[Path] = []


def folder_of(factory: pytest.TempPathFactory) -> Path:
    """Return the one folder that all cases write into."""
    if not FOLDERS:
        FOLDERS.append(factory.mktemp("fuzz"))
    return FOLDERS[0]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, dict[str, bytes]]]:
    """Every kind of saved value: its folder, and its files as bytes."""
    folders = {kind: tmp_path_factory.mktemp("saved") / "it" for kind in KINDS}
    for kind, folder in folders.items():
        KINDS[kind].write(folder)
    return {
        kind: (
            folder,
            {
                str(file.relative_to(folder)): file.read_bytes()
                for file in folder.rglob("*")
                if file.is_file()
            },
        )
        for kind, folder in folders.items()
    }


SHARES = {"store": 20, "take": 45, "recording": 45, "judge": 40}  # the others: 38 each


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_saved_value_can_be_used_or_is_refused(kind: str, written: Any) -> None:
    folder, files = written[kind]
    saved = KINDS[kind]

    @share(SHARES.get(kind, 38))
    @given(
        st.sampled_from(sorted(files)),
        DAMAGE,
        VALUES,
        st.lists(st.integers(0, 99), max_size=4),
        st.booleans(),
    )
    def case(name: str, damage: Any, value: Any, way: list[int], plainly: bool) -> None:
        new = damaged(files[name], damage) if plainly else misled(files[name], way, value)
        (folder / name).write_bytes(new)
        try:
            held = saved.load(folder)
        except saved.error as error:
            assert str(folder) in str(error), error
        else:
            saved.use(held)
        finally:
            (folder / name).write_bytes(files[name])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        case()


def misled(data: bytes, way: list[int], value: Any) -> bytes:
    """Return a file with `value` planted in its JSON, its safetensors header, or the JSON in that."""
    try:
        if data[:1] == b"{" and b"}\n{" not in data:
            return json.dumps(planted(without_digest(json.loads(data)), way, value)).encode(errors="replace")
        if data[8:9] != b"{":
            return data
        size = int.from_bytes(data[:8], "little")
        header, rest = json.loads(data[8 : 8 + size]), data[8 + size :]
    except ValueError:
        return data
    if "about" in header:
        begin, end = header["about"]["data_offsets"]
        about = json.loads(rest[begin:end])
        new = json.dumps(planted(without_digest(about), way, value)).encode(errors="replace")
        new = new[: end - begin].ljust(end - begin)
        return data[: 8 + size] + rest[:begin] + new + rest[end:]
    if "__metadata__" in header:
        record = json.loads(header["__metadata__"]["workbench"])
        text = json.dumps(planted(without_digest(record), way, value))
        header["__metadata__"]["workbench"] = text.encode(errors="replace").decode()
    else:
        header = planted(header, way, value)
    new = json.dumps(header).encode(errors="replace")
    return len(new).to_bytes(8, "little") + new + rest


def without_digest(record: Any) -> Any:
    """Return a record as an older version wrote it, so that damage is noticed by what it says alone."""
    if isinstance(record, dict):
        record.pop("digest", None)
    return record
