"""A take: one generated clip with everything that made it, as a value that can be kept on disk."""

from __future__ import annotations

import html
import io
import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from safetensors.numpy import load_file, save

from workbench.errors import GenerationError, is_number, is_text, is_whole, reason, renamed_attribute
from workbench.files import DIGEST, check_digest, digest_of, file_in, write_together
from workbench.generation.receipt import COLUMNS, Receipt
from workbench.generation.request import Settings
from workbench.generation.score import Score
from workbench.model.band import BAND
from workbench.model.conditioning import Melody
from workbench.model.musicgen import Model
from workbench.sound.clip import Clip
from workbench.steering.operations import UnknownOperationError
from workbench.steering.plan import Steering, from_bytes, to_bytes

PACKAGES = ("musicgen-workbench", "torch", "transformers", "nnsight")


def packages() -> dict[str, str]:
    """The versions of the packages that draw codes, as they are installed here."""
    return {name: version(name) for name in PACKAGES}


def environment(model: Model) -> dict[str, str]:
    """What must be the same for codes to be the same bit for bit, beside the model and what it is asked."""
    return {
        "codec": model.codec,
        "device": model.device.type,
        "random": model.random_device.type,
        "precision": model.precision,
        "threads": str(torch.get_num_threads()),
        "processor": platform.machine(),
        "python": platform.python_version(),
        **packages(),
    }


def differences(then: Mapping[str, str], model: Model) -> list[str]:
    """What is different now, as "torch 2.9 then, 2.13 now"; empty where all is the same."""
    # What older takes do not say: they drew where the model ran, and this model's codec is theirs.
    known = {"codec": model.codec, "random": then.get("device"), **then}
    return [
        f"{name} {known.get(name, 'unknown')} then, {value} now"
        for name, value in environment(model).items()
        if known.get(name) != value
    ]


FORMAT = "musicgen-workbench take 1"
PLAN = "plan.safetensors"
_PLAIN: Mapping[str, tuple[Callable[[object], bool], tuple[str, ...]]] = {
    "text": (is_text, ("prompt", "steering", "steering_json", "model_id")),
    "a finite number": (is_number, ("guidance", "temperature")),
    "a whole number": (is_whole, ("seed", "top_k")),
}


@dataclass(frozen=True, eq=False)
class ProbeTrace:
    """What a probe read while the clip was made: `probabilities` (frames, classes), from conditional rows.

    `seconds` count from the beginning of the clip; of a continuation only the new frames were read.
    """

    target: str
    layer: int
    classes: tuple[str, ...]
    seconds: np.ndarray
    probabilities: np.ndarray

    def __post_init__(self) -> None:
        texts = (self.target, *self.classes)
        shape = (*np.shape(self.seconds), len(self.classes))
        if not (is_whole(self.layer) and all(map(is_text, texts)) and len(shape) == 2):
            found = f"its layer is {self.layer!r}, its target {self.target!r}, its classes {self.classes!r}"
        elif np.shape(self.probabilities) != shape or not np.isfinite(self.probabilities).all():
            found = f"its probabilities are {np.shape(self.probabilities)}, not {shape}, or not all finite"
        else:
            return
        raise GenerationError("What a probe read was to be kept", found, "Give what the probe read")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ProbeTrace):
            return NotImplemented
        same = np.array_equal(self.probabilities, other.probabilities)
        return _heading(self) == _heading(other) and same and np.array_equal(self.seconds, other.seconds)


@dataclass(frozen=True)
class Window:
    """One of the runs that a long take was drawn in: seconds of its new part, and of its context."""

    start_s: float
    end_s: float
    context_s: float
    prompt: str

    def __post_init__(self) -> None:
        rising = is_number(self.start_s, 0) and is_number(self.end_s, self.start_s)
        if not (rising and is_number(self.context_s, 0) and is_text(self.prompt)):
            found = f"it is {self}"
            raise GenerationError("A run of a take was to be kept", found, "Give rising seconds and text")


@dataclass(frozen=True, eq=False)
class Take:
    """One generated clip with everything that made it.

    Args:
        clip: The sound; of a continuation the whole.
        codes: (k, frames) int16, the codec's codes it was decoded from.
        prompt: Text. With seed, guidance, temperature, top_k, the plan and the model it determines the codes.
        seed: Of the row's own generator.
        steering, steering_json: The plan as text, empty when unsteered, and with fingerprints of directions.
        receipt: What the plan really changed.
        guidance, temperature, top_k: How it was drawn, see `Settings`.
        model_id: The model.
        probe_traces: What probes read while it was made.
        prompt_seconds: How much at the beginning is the audio it continues from; the seconds of schedules
            and receipt count from there.
        windows: Of a long take, the runs that it was drawn in.
        melody: What it follows from its beginning; generate(melody=...) takes it again.
        plan: The plan, ready to be used again; None when unsteered, or where its directions were not kept.
            `steering_json` stands for it in equality.
        versions: Packages, device, precision and threads that made it; not part of equality.

    Raises:
        GenerationError: For values that no generation makes.
    """

    clip: Clip
    codes: np.ndarray
    prompt: str
    seed: int
    steering: str = ""
    steering_json: str = "[]"
    receipt: Receipt = field(default_factory=lambda: Receipt.from_records([]))
    guidance: float = 3.0
    temperature: float = 1.0
    top_k: int = 250
    model_id: str = ""
    probe_traces: tuple[ProbeTrace, ...] = ()
    prompt_seconds: float = 0.0
    windows: tuple[Window, ...] = ()
    melody: Melody | None = None
    plan: Steering | None = None
    versions: Mapping[str, str] = field(default_factory=packages)

    def __post_init__(self) -> None:
        if problem := _problem(self):
            raise GenerationError("A take was to be kept", problem, "Give what generate made")
        Settings(self.guidance, self.temperature, self.top_k)
        codes = np.array(self.codes, dtype=np.int16)
        codes.setflags(write=False)
        object.__setattr__(self, "codes", codes)

    @property
    def seconds(self) -> float:
        """The length of the sound, of a continuation the whole."""
        return self.clip.seconds

    @property
    def new(self) -> Clip:
        """The sound without the audio that it continues from."""
        return self.clip.section(self.prompt_seconds, self.seconds) if self.prompt_seconds else self.clip

    given_s = renamed_attribute("given_s", "prompt_seconds")

    @property
    def has_score(self) -> bool:
        """Whether its codes are a score, as those of a band are."""
        return self.versions.get("codec") == BAND

    def score(self) -> Score:
        """The notes that its codes stand for; GenerationError where the model's codes are no score."""
        if not self.has_score:
            codec = self.versions.get("codec", "unknown")
            found = f"the codes of {self.model_id or 'its model'} (codec: {codec}) are no score but sound"
            do = 'Use a model whose codec is a band, such as wb.load("embedded")'
            raise GenerationError("The notes of a take were asked for", found, do)
        return Score.read(self.codes)

    def _asked(self) -> dict[str, object]:
        """The plain facts, as JSON holds them, under the names that they have on disk."""
        plain = {name: getattr(self, name) for _fits, names in _PLAIN.values() for name in names}
        windows = [asdict(window) for window in self.windows]
        return {
            **plain,
            "given_s": self.prompt_seconds,
            "windows": [{"heard_s": window.pop("context_s"), **window} for window in windows],
            "melody": None if self.melody is None else list(self.melody.pitches),
        }

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Take):
            return NotImplemented
        same_sound = self.clip == other.clip and np.array_equal(self.codes, other.codes)
        same_record = self.receipt == other.receipt and self.probe_traces == other.probe_traces
        return same_sound and same_record and self._asked() == other._asked()

    def __hash__(self) -> int:
        return hash((self.codes.tobytes(), self.prompt, self.seed, self.steering))

    def __repr__(self) -> str:
        plan = self.steering or "unsteered"
        return f"Take({self.prompt!r}, seed {self.seed}, {plan}, {self.seconds:.1f} s)"

    def _repr_html_(self) -> str:
        """A player with its caption."""
        plan, prompt = html.escape(self.steering) or "unsteered", html.escape(self.prompt)
        caption = f"<b>{prompt}</b> &middot; seed {self.seed} &middot; <code>{plan}</code>"
        receipt = f"<br>{html.escape(str(self.receipt))}" if self.steering else ""
        return f"<div>{caption}{receipt}<br>{self.clip._repr_html_()}</div>"

    def save(self, folder: Path | str) -> Path:
        """Write take.wav (32-bit float), codes.safetensors, take.json, plan.safetensors; return `folder`.

        Raises:
            DiskError: When the disk is full or the folder cannot be written; an older take is then whole.
        """
        sound = io.BytesIO()
        soundfile.write(sound, self.clip.heard.T, self.clip.rate_hz, subtype="FLOAT", format="WAV")
        arrays = self._arrays()
        kept: dict[str, Any] = {
            "format": FORMAT,
            **self._asked(),
            "receipt": {"columns": COLUMNS, "cells": self.receipt.to_records()},
            "probe_traces": [_heading(trace) for trace in self.probe_traces],
            "versions": dict(self.versions),
            "saved": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        kept[DIGEST] = digest_of(kept, _with_sound(arrays, self.clip))
        files = {
            "take.wav": sound.getvalue(),
            "codes.safetensors": save(arrays),
            PLAN: b"" if self.plan is None else to_bytes(self.plan),  # empty: none, also where one was before
            "take.json": json.dumps(kept, indent=1, ensure_ascii=False).encode(),
        }
        return write_together(folder, files)

    def _arrays(self) -> dict[str, np.ndarray]:
        """The codes and, per probe, seconds and probabilities."""
        arrays = {"codes": np.ascontiguousarray(self.codes)}
        for index, trace in enumerate(self.probe_traces):
            arrays[f"seconds_{index}"] = np.ascontiguousarray(trace.seconds)
            arrays[f"probabilities_{index}"] = np.ascontiguousarray(trace.probabilities)
        return arrays

    @classmethod
    def load(cls, folder: Path | str) -> Take:
        """The equal value of what `save` wrote; GenerationError where there is none, or a file is damaged."""
        folder = Path(folder)
        try:
            record = json.loads(file_in(folder, "take.json").read_text(encoding="utf-8"))
            kept = {name: value for name, value in record.items() if name not in ("format", "saved", DIGEST)}
            if record["format"] != FORMAT:
                raise KeyError("format")
            arrays = load_file(file_in(folder, "codes.safetensors"))
            sound, rate_hz = soundfile.read(file_in(folder, "take.wav"), dtype="float32")
            clip = Clip(sound.T, rate_hz)
            kept["prompt_seconds"] = kept.pop("given_s", 0.0)
            kept["windows"] = tuple(
                Window(one["start_s"], one["end_s"], one["heard_s"], one["prompt"])
                for one in kept.get("windows", ())
            )
            if kept.get("melody") is not None:
                kept["melody"] = Melody(tuple(kept["melody"]))
            kept["receipt"] = Receipt.from_records(kept["receipt"]["cells"])
            kept["probe_traces"] = tuple(
                ProbeTrace(one["target"], one["layer"], tuple(one["classes"]), arrays[f"seconds_{index}"],
                           arrays[f"probabilities_{index}"])
                for index, one in enumerate(kept["probe_traces"])
            )  # fmt: skip
            kept["plan"] = _plan(folder, kept["steering_json"])
            take = cls(clip=clip, codes=arrays["codes"], **kept)
            check_digest(folder, record, _with_sound(arrays, clip))
            return take
        except UnknownOperationError:
            raise
        except Exception as error:  # a damaged file can be wrong in any way
            asked, do = f"The take in {folder} was asked for", "Use a folder that Take.save wrote"
            raise GenerationError(asked, f"it cannot be read ({reason(error)})", do) from error


def _with_sound(arrays: Mapping[str, np.ndarray], clip: Clip) -> dict[str, np.ndarray]:
    """The arrays that a take's digest is over; the plan beside it has a digest of its own."""
    return {**arrays, "samples": clip.heard, "rate_hz": np.array(clip.rate_hz, dtype=np.int64)}


def _problem(take: Take) -> str:
    """What is wrong with the values of a take, or an empty text."""
    for kind, (fits, names) in _PLAIN.items():
        for name in names:
            if not fits(value := getattr(take, name)):
                return f"its {name} is {value!r}, which is not {kind}"
    if not is_number(take.prompt_seconds, 0, take.seconds):
        return f"{take.prompt_seconds!r} s of its {take.seconds:g} s are what it continues from"
    if not all(is_text(name) and is_text(value) for name, value in take.versions.items()):
        return "its versions are not text"
    codes = np.asarray(take.codes)
    if codes.ndim != 2 or codes.dtype.kind not in "iu" or not len(codes):
        return f"its codes have the shape {codes.shape} and are {codes.dtype}"
    if codes.size and not 0 <= codes.min() <= codes.max() <= np.iinfo(np.int16).max:
        return f"its codes lie between {codes.min()} and {codes.max()}"
    return ""


def _plan(folder: Path, written: str) -> Steering | None:
    """The plan beside a take whose terms are `written` as JSON; None where there is none."""
    path = file_in(folder, PLAN)
    if not path.is_file():
        return None
    plan = from_bytes(path.read_bytes(), str(path), notice=False)  # the take itself gives notice
    if Steering.from_json(written, plan.directions, plan.read_outs) != plan:
        raise ValueError(f"{PLAN} holds another plan than the take's")
    return plan


def _heading(trace: ProbeTrace) -> dict[str, object]:
    """What JSON keeps of a probe's trace; its arrays lie beside the codes."""
    return {"target": trace.target, "layer": trace.layer, "classes": list(trace.classes)}
