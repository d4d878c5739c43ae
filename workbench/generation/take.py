"""A take: one generated clip with everything that made it, as a value that can be kept on disk."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import soundfile
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from workbench.errors import GenerationError, ModelError, SteeringError
from workbench.generation.circumstances import packages
from workbench.generation.receipt import COLUMNS, Receipt
from workbench.model.band import BAND
from workbench.model.melody import Melody
from workbench.model.score import Score
from workbench.sound.clip import Clip
from workbench.steering.plan import Steering

FORMAT = "musicgen-workbench take 1"
PLAN = "plan.safetensors"
_PLAIN: dict[str, type | tuple[type, ...]] = {
    "prompt": str, "seed": int, "steering": str, "steering_json": str, "model_id": str, "top_k": int,
    "guidance": (int, float), "temperature": (int, float),
}  # fmt: skip
DAMAGES = (OSError, KeyError, TypeError, ValueError, SafetensorError, ModelError, SteeringError)


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

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ProbeTrace):
            return NotImplemented
        told = (self.target, self.layer, self.classes) == (other.target, other.layer, other.classes)
        same = np.array_equal(self.probabilities, other.probabilities)
        return told and same and np.array_equal(self.seconds, other.seconds)


@dataclass(frozen=True)
class Window:
    """One of the runs that a long take was drawn in: seconds of its new part and of what it heard."""

    start_s: float
    end_s: float
    heard_s: float
    prompt: str


@dataclass(frozen=True, eq=False)
class Take:
    """One generated clip.

    clip            the sound; of a continuation the whole, the given part included
    codes           (k, frames) int16, the codec's codes it was decoded from
    prompt, seed, guidance, temperature, top_k
                    what was asked for; with the model they determine the codes
    steering        the plan as text, empty when unsteered; `steering_json` carries fingerprints of its
    directions
    receipt         what the plan really changed
    model_id        the model
    probe_traces    what probes read while it was made
    given_s         how many seconds at the beginning were given; the plan's schedules and the receipt's
                    seconds count from there
    windows         of a long take, the runs that it was drawn in
    melody          what it was told to follow, from its beginning; generate(melody=...) takes it again
    plan            the plan itself, ready to be used again; None when unsteered, or where its directions were
                    not kept. `steering_json` stands for it in equality
    versions        packages, device, precision and threads that made it; not part of equality
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
    given_s: float = 0.0
    windows: tuple[Window, ...] = ()
    melody: Melody | None = None
    plan: Steering | None = None
    versions: Mapping[str, str] = field(default_factory=packages)

    def __post_init__(self) -> None:
        codes = np.array(self.codes, dtype=np.int16)
        codes.setflags(write=False)
        object.__setattr__(self, "codes", codes)

    @property
    def seconds(self) -> float:
        """The length of the sound, the given part included."""
        return self.clip.seconds

    @property
    def new(self) -> Clip:
        """The sound without the given part."""
        return self.clip.section(self.given_s, self.seconds) if self.given_s else self.clip

    @property
    def has_score(self) -> bool:
        """Whether its codes are a score, as those of a band are."""
        return self.versions.get("codec") == BAND

    def score(self) -> Score:
        """The notes that its codes stand for, of models that write scores; they can be plotted and saved.

        Raises:
            GenerationError: The model's codes are no score.
        """
        if not self.has_score:
            codec = self.versions.get("codec", "unknown")
            raise GenerationError(
                "The notes of a take were asked for",
                f"the codes of {self.model_id or 'its model'} (codec: {codec}) are no score but sound",
                'Use a model whose codec is a band, such as wb.load("embedded")',
            )
        return Score.read(self.codes)

    def _asked(self) -> dict[str, object]:
        """The plain facts, as JSON holds them."""
        names = (
            "prompt",
            "seed",
            "steering",
            "steering_json",
            "guidance",
            "temperature",
            "top_k",
            "model_id",
            "given_s",
        )
        windows = [asdict(window) for window in self.windows]
        melody = None if self.melody is None else list(self.melody.pitches)
        return {**{name: getattr(self, name) for name in names}, "windows": windows, "melody": melody}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Take):
            return NotImplemented
        same_sound = self.clip == other.clip and np.array_equal(self.codes, other.codes)
        same_record = self.receipt == other.receipt and self.probe_traces == other.probe_traces
        return same_sound and same_record and self._asked() == other._asked()

    def __hash__(self) -> int:
        return hash((self.codes.tobytes(), self.prompt, self.seed, self.steering))

    def __repr__(self) -> str:
        return (
            f"Take({self.prompt!r}, seed {self.seed}, {self.steering or 'unsteered'}, {self.seconds:.1f} s)"
        )

    def _repr_html_(self) -> str:
        """A player with its caption."""
        plan = html.escape(self.steering) or "unsteered"
        seed = html.escape(str(self.seed))  # a file may say anything
        told = f"<b>{html.escape(self.prompt)}</b> &middot; seed {seed} &middot; <code>{plan}</code>"
        return f"<div>{told}<br>{self.clip._repr_html_()}</div>"

    def save(self, folder: Path | str) -> Path:
        """Write the take into `folder`, complete in itself; return `folder`.

        take.wav (32-bit float: nothing is lost), codes.safetensors, take.json; of a steered take also
        plan.safetensors, with its directions and its gates' read-outs, so that it can be drawn again.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / "take.wav", self.clip.samples, self.clip.rate_hz, subtype="FLOAT")
        save_file(self._arrays(), folder / "codes.safetensors")
        (folder / PLAN).unlink(missing_ok=True)
        if self.plan is not None:
            self.plan.save(folder / PLAN)
        kept = {
            "format": FORMAT,
            **self._asked(),
            "receipt": {"columns": COLUMNS, "cells": self.receipt.to_records()},
            "probe_traces": [_heading(trace) for trace in self.probe_traces],
            "versions": dict(self.versions),
            "saved": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        (folder / "take.json").write_text(json.dumps(kept, indent=1, ensure_ascii=False), encoding="utf-8")
        return folder

    def _arrays(self) -> dict[str, np.ndarray]:
        """The codes and, per probe, seconds and probabilities."""
        arrays = {"codes": np.ascontiguousarray(self.codes)}
        for index, trace in enumerate(self.probe_traces):
            arrays[f"seconds_{index}"] = np.ascontiguousarray(trace.seconds)
            arrays[f"probabilities_{index}"] = np.ascontiguousarray(trace.probabilities)
        return arrays

    @classmethod
    def load(cls, folder: Path | str) -> Take:
        """The take that `save` wrote; an equal value.

        Raises:
            GenerationError: When the folder holds no take, or one of its files is damaged.
        """
        folder = Path(folder)
        try:
            kept = json.loads((folder / "take.json").read_text(encoding="utf-8"))
            if kept.pop("format") != FORMAT:
                raise KeyError("format")
            arrays = load_file(folder / "codes.safetensors")
            samples, rate_hz = soundfile.read(folder / "take.wav", dtype="float32")
            kept.pop("saved")
            for name, kind in _PLAIN.items():
                if not isinstance(kept[name], kind) or isinstance(kept[name], bool):
                    raise TypeError(f"{name} is {kept[name]!r}")
            kept["windows"] = tuple(Window(**window) for window in kept.get("windows", ()))
            if kept.get("melody") is not None:
                kept["melody"] = Melody(tuple(kept["melody"]))
            kept["receipt"] = Receipt.from_records(kept["receipt"]["cells"])
            kept["probe_traces"] = tuple(
                _trace(heading, arrays, index) for index, heading in enumerate(kept["probe_traces"])
            )
            kept["plan"] = _plan(folder, kept["steering_json"])
            return cls(clip=Clip(samples, rate_hz), codes=arrays["codes"], **kept)
        except (*DAMAGES, soundfile.SoundFileError) as error:
            raise GenerationError(
                f"The take in {folder} was asked for",
                f"it cannot be read ({type(error).__name__}: {error})",
                "Use a folder that Take.save wrote",
            ) from error


def _plan(folder: Path, written: str) -> Steering | None:
    """The plan beside a take whose terms are `written` as JSON; None where there is none."""
    if not (folder / PLAN).is_file():
        return None
    plan = Steering.load(folder / PLAN)
    if plan.to_json() != written:
        raise ValueError(f"{PLAN} holds another plan than the take's")
    return plan


def _heading(trace: ProbeTrace) -> dict[str, object]:
    """What JSON keeps of a probe's trace; its arrays lie beside the codes."""
    return {"target": trace.target, "layer": trace.layer, "classes": list(trace.classes)}


def _trace(heading: Mapping[str, object], arrays: Mapping[str, np.ndarray], index: int) -> ProbeTrace:
    """The trace that `_heading` and `Take._arrays` wrote."""
    layer, classes = heading["layer"], heading["classes"]
    if not isinstance(layer, int) or not isinstance(classes, list):
        raise ValueError("a probe trace without layer and classes")
    return ProbeTrace(
        str(heading["target"]),
        layer,
        tuple(classes),
        arrays[f"seconds_{index}"],
        arrays[f"probabilities_{index}"],
    )
