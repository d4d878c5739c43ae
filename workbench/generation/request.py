"""What a generation is asked to do, checked and broadcast before the model is touched."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
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

Audio = Clip | np.ndarray | torch.Tensor
"""A clip, or codes (k, frames) of the model's own codec."""

Tune = Clip | Melody
"""A clip, of which only the melody is used, or that melody."""

Plan = Steering | None


def prompt_codes_of(model: Model, audio: object, seconds: float | None = None) -> np.ndarray:
    """The codes (k, frames) int64 of the last `seconds` of a clip or codes; of all of it when None."""
    if seconds is not None:
        asked = "A prompt with a length in seconds of"
        GenerationError.number(seconds, asked, above=0, do="Use more than 0 s")
    if isinstance(audio, Clip):
        whole = seconds is None or seconds >= audio.seconds
        used = audio if whole else audio.section(audio.seconds - cast(float, seconds), audio.seconds)
        codes = model.encode(used).numpy()
    elif isinstance(audio, np.ndarray | torch.Tensor):
        codes = np.asarray(audio.cpu() if isinstance(audio, torch.Tensor) else audio)
        _check_codes(model, codes)
    else:
        found = f"{type(audio).__name__} is neither a clip nor codes"
        _refuse("A continuation", found, "Give a Clip (read_clip), or the codes of a take")
    if seconds is not None:
        codes = codes[:, -frames_for(seconds, model.frame_rate_hz) :]
    return codes.astype(np.int64)


def _check_codes(model: Model, codes: np.ndarray) -> None:
    """Refuse codes that this model's codec cannot have made."""
    do = "Give codes of this model, or the clip itself"
    whole = np.issubdtype(codes.dtype, np.integer) and codes.ndim == 2 and codes.size > 0
    if not whole or codes.shape[0] != model.n_codebooks:
        asked = f"A continuation of codes of shape {codes.shape} and type {codes.dtype}"
        _refuse(asked, f"{model.id} has whole numbers ({model.n_codebooks}, frames)", do)
    if codes.min() < 0 or codes.max() >= model.codebook_size:
        asked = f"A continuation of codes from {codes.min()} to {codes.max()}"
        _refuse(asked, f"{model.id} has codes from 0 to {model.codebook_size - 1}", do)


def melody_of(model: Model, tune: object) -> Melody | None:
    """The melody of a melody or a clip that is not silent, for a model that takes one; None stays None."""
    asked = "Music that follows a melody"
    if tune is None:
        return None
    if not model.takes_melody:
        do = 'Load "facebook/musicgen-melody", or give the sound as audio=...'
        _refuse(asked, f"{model.id} follows no melody", do)
    if isinstance(tune, Melody):
        return tune
    if not isinstance(tune, Clip):
        _refuse(asked, f"{type(tune).__name__} is neither a clip nor a melody", "Give a Clip (read_clip)")
    if tune.silent:
        found = f"it is silent ({tune.level_db:.0f} dBFS)"
        _refuse(asked, found, "Give a clip in which something is played")
    return Melody.of(tune)


@dataclass(frozen=True)
class Row:
    """One clip of a batch; `prompt_codes` (k, frames) are what it continues from; it follows `melody`."""

    prompt: str
    plan: Plan
    seed: int
    prompt_codes: np.ndarray | None = field(default=None, compare=False)
    melody: Melody | None = None

    @property
    def prompt_frames(self) -> int:
        """How many frames it continues from."""
        return 0 if self.prompt_codes is None else self.prompt_codes.shape[-1]


@dataclass(frozen=True)
class Settings:
    """How codes are drawn: guidance scale g, temperature, top-k (0 keeps all codes).

    >>> Settings(guidance=3).top_k
    250
    """

    guidance: float = 3.0
    temperature: float = 1.0
    top_k: int = 250

    def __post_init__(self) -> None:
        usual = "Use 0 or more, such as 3.0, or 1.0 for none"
        likeliest = "Use 1.0, or top_k=1 to take the likeliest code at each step"
        GenerationError.number(self.guidance, "A guidance of", least=0, do=usual)
        GenerationError.number(self.temperature, "A temperature of", above=0, do=likeliest)
        top_k = number_or_nan(self.top_k)
        if not top_k >= 0 or top_k % 1:
            do = "Use 250, or 0 to keep all codes"
            _refuse(f"A top_k of {self.top_k}", "it must be a whole number and not negative", do)
        for name, kind in (("guidance", float), ("temperature", float), ("top_k", int)):
            object.__setattr__(self, name, kind(getattr(self, name)))


def settings_of(model: Model, **given: float | None) -> Settings:
    """The settings, by their names; those of the checkpoint's generation config where None."""
    own: dict[str, Any] = {"guidance": model.guidance, "temperature": model.temperature, "top_k": model.top_k}
    return Settings(**{**own, **{name: one for name, one in given.items() if one is not None}})


def rows_of(
    model: Model, prompt: str | Sequence[str], steering: Plan | Sequence[Plan], seed: int | Sequence[int], *,
    audio: Audio | Sequence[Audio | None] | None = None, audio_seconds: float | None = None,
    melody: Tune | Sequence[Tune | None] | None = None,
) -> tuple[list[Row], bool]:  # fmt: skip
    """One Row per clip, and whether the caller gave a list; a single value goes with every clip.

    Raises:
        GenerationError: For an empty list, lists of different lengths, or one thing of the wrong kind.
        SteeringError: When a plan does not fit the model.
    """
    sounds, several = _listed(audio, (Clip, np.ndarray, torch.Tensor, str))
    tunes, various = _listed(melody, Clip)
    columns: list[tuple[list[Any], bool]] = [
        _listed(prompt, str),
        _listed(steering, Steering),
        _listed(seed, int),
        ([None if one is None else prompt_codes_of(model, one, audio_seconds) for one in sounds], several),
        ([melody_of(model, tune) for tune in tunes], various),
    ]
    lengths = {len(column) for column, many in columns if many}
    if 0 in lengths or len(lengths) > 1:
        counts = ", ".join(str(len(column)) for column, _many in columns)
        asked = f"Clips for {counts} prompts, plans, seeds, sounds and melodies"
        found = "an empty list makes nothing" if 0 in lengths else "lists must be equally long"
        _refuse(asked, found, "Give one of each, or equally long lists")
    count = max(lengths, default=1)
    check_prompts(model, columns[0][0])
    filled = (column * count if not many else column for column, many in columns)
    return [_row(model, *parts) for parts in zip(*filled, strict=True)], bool(lengths)


def _listed(value: object, single: type | tuple[type, ...]) -> tuple[list[object], bool]:
    """The value as a list, and whether it was one."""
    if value is None or isinstance(value, single) or not isinstance(value, Sequence):
        return [value], False
    return list(value), True


def check_prompts(model: Model, prompts: Sequence[Any]) -> None:
    """Raise GenerationError where a prompt is no text, or longer than what a melody model has room for."""
    for prompt in prompts:
        if problem := prompt_problem(prompt):
            _refuse(f"A clip for the prompt {prompt!r}", problem, 'Give text such as "a calm tune"')
    long = [text for text in prompts if len(text) >= TEXT_ROOM] if model.takes_melody else []
    for text in long:  # a token has a letter or more; a copy, for a tokenizer may not be used by two threads
        count = len(copy.deepcopy(model.tokenizer)(text)["input_ids"])
        if count > TEXT_ROOM:
            found = f"{model.id} has room for {TEXT_ROOM}"
            _refuse(f"A prompt of {count} tokens", found, "Use a shorter prompt")


def alike(rows: Sequence[Row], most: int) -> list[list[int]]:
    """The numbers of rows that can be drawn together, those that go on from as much, at most `most` each."""
    most = whole_number(most, "A batch of", GenerationError, least=1)
    groups: dict[int, list[int]] = {}
    for number, row in enumerate(rows):
        groups.setdefault(row.prompt_frames, []).append(number)
    return [group[start : start + most] for group in groups.values() for start in range(0, len(group), most)]


def _row(model: Model, prompt: object, plan: object, seed: object, *more: Any) -> Row:
    """The checked row; more are the codes that it continues from, and its melody."""
    seed = whole_number(seed, "A clip with the seed", GenerationError)
    if plan is not None and not isinstance(plan, Steering):
        _refuse(f"Steering by a {type(plan).__name__}", "a plan was expected", "Use direction.at(dose)")
    if plan is not None:
        plan.check(model)
        for term in plan.terms:
            _check_site(term.direction.name, term.direction.site, term.at_layer)
            if (gate := term.gate) is not None:
                _check_site(f"a gate on {gate.class_}", gate.read_out.site, gate.read_out.layer)
    return Row(str(prompt), plan, seed, *more)


def _check_site(name: str, site: str, layer: int) -> None:
    if site not in SITES or (site == "embed" and layer != 0):
        found = f"the sites are {', '.join(SITES)}, and embed exists at layer 0 only"
        _refuse(f"{name!r} at {site!r} of layer {layer}", found, "Use what was made at one of these")


def _refuse(asked: str, found: str, do: str) -> NoReturn:
    raise GenerationError(f"{asked} was asked for", found, do)
