"""What a generation is asked to do, checked and broadcast before the model is touched."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn, cast

import numpy as np
import torch

from workbench.errors import GenerationError, number_or_nan, whole_number
from workbench.model.conditioning import TEXT_ROOM, Melody, prompt_problem
from workbench.model.musicgen import Model
from workbench.model.network import SITES
from workbench.model.sampling import frames_for
from workbench.sound.clip import Clip
from workbench.steering.plan import Steering

# Sound to go on from: a clip or codes, checked and cut to what is heard.


Audio = Clip | np.ndarray | torch.Tensor
"""A clip, or codes (k, frames) of the model's own codec."""


def given_codes(model: Model, audio: object, seconds: float | None = None) -> np.ndarray:
    """The codes (k, frames) int64 of the last `seconds` of `audio`; of all of it when None or shorter.

    Raises:
        GenerationError: When the audio is neither a clip nor this model's codes, or `seconds` is not above 0.
    """
    if seconds is not None and not 0 < number_or_nan(seconds) < math.inf:
        raise _refusal(f"{seconds} s of audio", "there must be something to hear", "Use more than 0 s")
    if isinstance(audio, Clip):
        heard = audio if seconds is None or seconds >= audio.seconds else _end(audio, seconds)
        codes = model.encode(heard).numpy()
    elif isinstance(audio, np.ndarray | torch.Tensor):
        codes = np.asarray(audio.cpu() if isinstance(audio, torch.Tensor) else audio)
        _check(model, codes)
    else:
        found = f"{type(audio).__name__} is neither a clip nor codes"
        raise _refusal("A continuation", found, "Give a Clip (read_clip), or the codes of a take")
    if seconds is not None:
        codes = codes[:, -frames_for(seconds, model.frame_rate_hz) :]
    return codes.astype(np.int64)


def _end(clip: Clip, seconds: float) -> Clip:
    return clip.section(clip.seconds - seconds, clip.seconds)


def _check(model: Model, codes: np.ndarray) -> None:
    """Refuse codes that this model's codec cannot have made."""
    whole = np.issubdtype(codes.dtype, np.integer) and codes.ndim == 2 and codes.size > 0
    if not whole or codes.shape[0] != model.n_codebooks:
        raise _refusal(
            f"A continuation of codes of shape {codes.shape} and type {codes.dtype}",
            f"{model.id} speaks whole numbers ({model.n_codebooks}, frames)",
            "Give codes of this model, or the clip itself",
        )
    if codes.min() < 0 or codes.max() >= model.codebook_size:
        raise _refusal(
            f"A continuation of codes from {codes.min()} to {codes.max()}",
            f"{model.id} has codes from 0 to {model.codebook_size - 1}",
            "Give codes of this model, or the clip itself",
        )


def listed(audio: object) -> tuple[list[object], bool]:
    """The audio as a list, and whether it was one."""
    if audio is None or isinstance(audio, Clip | np.ndarray | torch.Tensor):
        return [audio], False
    if not isinstance(audio, Sequence) or isinstance(audio, str):
        found = f"{type(audio).__name__} is neither a clip nor codes"
        raise _refusal("A continuation", found, "Give a Clip (read_clip), or the codes of a take")
    return list(audio), True


def _refusal(asked: str, found: str, do: str) -> GenerationError:
    return GenerationError(f"{asked} was asked for", found, do)


# Melody to follow, checked: it is a condition, like the text, where audio is the beginning.


Tune = Clip | Melody
"""A clip, of which only the melody is heard, or that melody."""


def heard_melody(model: Model, tune: object) -> Melody | None:
    """The melody of `tune`; None stays None.

    Raises:
        GenerationError: When the model takes no melody, or the tune is silent or neither clip nor melody.
    """
    if tune is None:
        return None
    if not model.takes_melody:
        raise _melody_refusal(
            f"{model.id} follows no melody", 'Load "facebook/musicgen-melody", or give the sound as audio=...'
        )
    if isinstance(tune, Melody):
        return tune
    if not isinstance(tune, Clip):
        raise _melody_refusal(
            f"{type(tune).__name__} is neither a clip nor a melody", "Give a Clip (read_clip)"
        )
    if tune.silent:
        raise _melody_refusal(
            f"it is silent ({tune.level_db:.0f} dBFS)", "Give a clip in which something is played"
        )
    return Melody.of(tune)


def _melody_refusal(found: str, do: str) -> GenerationError:
    return GenerationError("Music that follows a melody was asked for", found, do)


Plan = Steering | None


@dataclass(frozen=True)
class Row:
    """One clip of a batch; `given` are the codes (k, frames) that it goes on from; it follows `melody`."""

    prompt: str
    plan: Plan
    seed: int
    given: np.ndarray | None = field(default=None, compare=False)
    melody: Melody | None = None

    @property
    def given_frames(self) -> int:
        """How many frames it goes on from."""
        return 0 if self.given is None else self.given.shape[-1]


@dataclass(frozen=True)
class Settings:
    """How codes are drawn: guidance scale g, temperature, top-k (0 keeps all codes)."""

    guidance: float = 3.0
    temperature: float = 1.0
    top_k: int = 250

    def __post_init__(self) -> None:
        if not 0 <= number_or_nan(self.guidance) < math.inf:
            _refuse(
                f"A guidance of {self.guidance}", "it must be 0 or more", "Use 3.0, or 1.0 to switch it off"
            )
        if not 0 < number_or_nan(self.temperature) < math.inf:
            likeliest = "Use 1.0, or top_k=1 to take the likeliest code at each step"
            _refuse(f"A temperature of {self.temperature}", "it must be above 0", likeliest)
        top_k = number_or_nan(self.top_k)
        if not top_k >= 0 or top_k % 1:
            found = "it must be a whole number and not negative"
            _refuse(f"A top_k of {self.top_k}", found, "Use 250, or 0 to keep all codes")
        for name, kind in (("guidance", float), ("temperature", float), ("top_k", int)):
            object.__setattr__(self, name, kind(getattr(self, name)))


def settings_of(
    model: Model,
    *,
    guidance: float | None = None,
    temperature: float | None = None,
    top_k: float | None = None,
) -> Settings:
    """The checked settings; those of the checkpoint's generation config where None.

    Raises:
        GenerationError: For a number that makes no sense.
    """
    return Settings(
        model.guidance if guidance is None else guidance,
        model.temperature if temperature is None else temperature,
        model.top_k if top_k is None else cast(int, top_k),
    )


def rows_of(
    model: Model,
    prompt: str | Sequence[str],
    steering: Plan | Sequence[Plan],
    seed: int | Sequence[int],
    *,
    audio: Audio | Sequence[Audio | None] | None = None,
    audio_seconds: float | None = None,
    melody: Tune | Sequence[Tune | None] | None = None,
) -> tuple[list[Row], bool]:
    """One Row per clip, and whether the caller gave a list (and so expects one back).

    A single prompt, plan, seed, audio or melody goes with every clip of the others.

    Raises:
        GenerationError: For an empty list, lists of different lengths, or one thing of the wrong kind.
        SteeringError: When a plan does not fit the model.
    """
    sounds, several = listed(audio)
    given = [None if one is None else given_codes(model, one, audio_seconds) for one in sounds]
    tunes, various = _listed(melody, Clip)
    melodies = [heard_melody(model, tune) for tune in tunes]
    columns: list[tuple[list[Any], bool]] = [
        _listed(prompt, str), _listed(steering, Steering), _listed(seed, int), (given, several),
        (melodies, various),
    ]  # fmt: skip
    lengths = {len(column) for column, many in columns if many}
    if 0 in lengths or len(lengths) > 1:
        told = ", ".join(str(len(column)) for column, _many in columns)
        _refuse(
            f"Clips for {told} prompts, plans, seeds, sounds and melodies",
            "an empty list makes nothing" if 0 in lengths else "lists must be equally long",
            "Give one of each, or equally long lists",
        )
    count = max(lengths, default=1)
    check_room(model, [text for text in columns[0][0] if isinstance(text, str)])
    filled = (column * count if not many else column for column, many in columns)
    rows = [
        replace(_row(model, *parts), given=codes, melody=tune)
        for *parts, codes, tune in zip(*filled, strict=True)
    ]
    return rows, bool(lengths)


def check_room(model: Model, prompts: Sequence[str]) -> None:
    """Raise GenerationError where a prompt is longer than what a melody model keeps free for it."""
    long = [text for text in prompts if len(text) >= TEXT_ROOM] if model.takes_melody else []
    for text in long:  # a token has a letter or more; a copy, for a tokenizer may not be used by two threads
        count = len(copy.deepcopy(model.tokenizer)(text)["input_ids"])
        if count > TEXT_ROOM:
            _refuse(
                f"A prompt of {count} tokens", f"{model.id} has room for {TEXT_ROOM}", "Use a shorter prompt"
            )


def alike(rows: Sequence[Row], most: int) -> list[list[int]]:
    """The numbers of rows that can be drawn together, those that go on from as much, at most `most` each."""
    most = whole_number(most, "A batch of", GenerationError, least=1)
    groups: dict[int, list[int]] = {}
    for number, row in enumerate(rows):
        groups.setdefault(row.given_frames, []).append(number)
    return [group[start : start + most] for group in groups.values() for start in range(0, len(group), most)]


def _listed(value: object, single: type) -> tuple[list[object], bool]:
    """The value as a list, and whether it was one."""
    if value is None or isinstance(value, single) or not isinstance(value, Sequence):
        return [value], False
    return list(value), True


def check_prompt(prompt: object) -> None:
    """Raise GenerationError where a prompt is no text that can be written down."""
    problem = prompt_problem(prompt)
    if problem:
        _refuse(f"A clip for the prompt {prompt!r}", problem, 'Give text such as "a calm tune"')


def _row(model: Model, prompt: object, plan: object, seed: object) -> Row:
    """The checked row, without what it goes on from and follows."""
    check_prompt(prompt)
    prompt = str(prompt)
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**63:
        _refuse(
            f"A clip with the seed {seed!r}", "a seed is a whole number from 0 to 2**63 - 1", "Use one such"
        )
    if plan is None:
        return Row(prompt, None, int(seed))
    if not isinstance(plan, Steering):
        _refuse(f"Steering by a {type(plan).__name__}", "a plan was expected", "Use direction.at(dose)")
    plan.check(model)
    for term in plan.terms:
        _check_site(term.direction.name, term.direction.site, term.at_layer)
        if term.gate is not None:
            _check_site(f"a gate on {term.gate.class_}", term.gate.read_out.site, term.gate.read_out.layer)
    return Row(prompt, plan, int(seed))


def _check_site(name: str, site: str, layer: int) -> None:
    if site not in SITES or (site == "embed" and layer != 0):
        _refuse(
            f"{name!r} at {site!r} of layer {layer}",
            f"the sites are {', '.join(SITES)}, and embed exists at layer 0 only",
            "Use what was made at one of these",
        )


def _refuse(asked: str, found: str, do: str) -> NoReturn:
    raise GenerationError(f"{asked} was asked for", found, do)
