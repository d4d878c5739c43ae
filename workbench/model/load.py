"""Loading: the built-in model, a hub id or a folder; which device and precision; the contract check."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    AutoConfig,
    AutoTokenizer,
    MusicgenForConditionalGeneration,
    MusicgenMelodyForConditionalGeneration,
)

from workbench.errors import ModelError
from workbench.model import band_codec as _band_codec  # noqa: F401  (registers its codec with AutoModel)
from workbench.model import codec as _codec  # noqa: F401  (likewise)
from workbench.model.contract import check_contract
from workbench.model.devices import choose_device, choose_dtype
from workbench.model.fingerprint import folder_fingerprint
from workbench.model.folders import builtin_folder
from workbench.model.musicgen import Model
from workbench.model.precision import MOST_NATS, divergence, next_codes

__all__ = ["builtin_folder", "load"]

_KINDS = {
    "musicgen": MusicgenForConditionalGeneration,
    "musicgen_melody": MusicgenMelodyForConditionalGeneration,
}
_LOADING = threading.Lock()
"""transformers builds models on a process-wide "meta" device: two loads at once both lose their weights."""


def load(
    name: str | Path = "embedded",
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    check: bool = True,
) -> Model:
    """A MusicGen, ready to be read and steered.

    Args:
        name: "embedded" (the built-in model), a folder written by `save_pretrained`, or a hub id such as
            "facebook/musicgen-small".
        device: "cpu", "cuda", "mps"; the best one present when None.
        dtype: "float32", "bfloat16", "float16"; when None, bfloat16 where it is measured to be
            faster and to move the odds of the next codes by at most 0.02 nats. The codec stays in float32.
        check: Whether to measure the contract (less than a second on small models).

    Raises:
        ModelError: Nothing loadable is there, the kind of model is not supported, or the contract breaks.
    """
    source, local = _locate(name)
    with _LOADING, _quiet():
        musicgen, tokenizer = _read(source)
        folder = local or _snapshot(source)
    place = choose_device(device)
    precision, why = choose_dtype(dtype, place, musicgen)
    mark = folder_fingerprint(local) if local else None
    model = Model(musicgen, tokenizer, id=_identify(name, mark), folder=folder, fingerprint=mark, notes=why)
    # Only what is stored in float32 can say what rounding costs, and only what nobody asked for has to.
    exact = next_codes(model) if dtype is None and _rounds(model, precision) else None
    _settle(musicgen, place, precision)
    if exact is not None:
        lost = divergence(exact, next_codes(model))
        model.notes += f", moves the odds of the next codes by {lost:.1g} nats"
        if not lost <= MOST_NATS:  # also where the odds are no numbers any more
            told = model.notes
            del model, musicgen
            exactly = load(name, device=device, dtype="float32", check=check)
            exactly.notes = exactly.notes.replace("as asked", f"{told}, which is too far", 1)
            return exactly
    if check:
        difference = check_contract(model)
        model.notes += f"; teacher forcing repeats generation to {difference:.0e}"
    return model


def _locate(name: str | Path) -> tuple[str, Path | None]:
    """What transformers is to load, and the folder it lies in if that is known already."""
    if str(name) == "embedded":
        folder = builtin_folder()
        if not (folder / "config.json").is_file():
            raise ModelError(
                "The built-in model was asked for",
                f"{folder} holds none",
                "Restore data/ from the repository",
            )
        return str(folder), folder
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(
                f"The model in {path} was asked for",
                "there is no config.json in it",
                "Write it with save_pretrained",
            )
        return str(path), path
    if path.is_absolute() or str(name).count("/") != 1:
        raise ModelError(
            f"The model {str(name)!r} was asked for",
            "it is neither a folder nor a hub id",
            'Use "embedded", an existing folder, or an id such as "facebook/musicgen-small"',
        )
    return str(name), None


def _read(source: str) -> tuple[Any, Any]:
    """The transformers model, in evaluation mode and in the precision it was stored in, and its tokenizer."""
    try:
        config = AutoConfig.from_pretrained(source)
        if config.model_type not in _KINDS:
            _refuse(source, config.model_type)
        musicgen = _KINDS[config.model_type].from_pretrained(source, dtype="auto")
        return musicgen.eval().requires_grad_(False), AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"The model {source} was asked for",
            f"transformers cannot load it ({type(error).__name__}: {str(error).splitlines()[0]})",
            "Check the name, the connection, and that weights and tokenizer are complete",
        ) from error


def _refuse(source: str, kind: str) -> None:
    raise ModelError(
        f"The model {source} was asked for",
        f"a {kind!r} model is not a MusicGen",
        "Use a MusicGen, mono or stereo, with or without melody",
    )


def _settle(musicgen: Any, device: torch.device, dtype: torch.dtype) -> None:
    """Move the model; all but the codec take `dtype`, the codec float32 (bfloat16 is audible)."""
    for name, part in musicgen.named_children():
        part.to(device=device, dtype=torch.float32 if name == "audio_encoder" else dtype)


def _rounds(model: Model, dtype: torch.dtype) -> bool:
    """Whether this precision is coarser than the one that the model is in."""
    return dtype != model.dtype and torch.finfo(dtype).eps > torch.finfo(model.dtype).eps


def _identify(name: str | Path, fingerprint: str | None) -> str:
    """The id that directions carry: a hub id as it is; a folder's name with the first digits of its hash.

    Two folders may share a name, and the built-in model may be trained anew: a direction must not fit by
    accident.
    """
    if fingerprint is None:
        return str(name)
    label = "embedded" if str(name) == "embedded" else Path(name).expanduser().resolve().name
    return f"{label}#{fingerprint[:8]}"


def _snapshot(source: str) -> Path | None:
    """The folder of the hub's cache that holds `source`."""
    path = transformers.utils.cached_file(source, "config.json", local_files_only=True)
    return Path(path).parent if path else None


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence transformers while it loads: it warns about BOS = codebook size, which every MusicGen has."""
    log = transformers.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity(logging.ERROR)
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()
