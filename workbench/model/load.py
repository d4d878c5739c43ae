"""Loading: the built-in model, a hub id or a folder; which device and precision; the contract check.

transformers fills what a checkpoint lacks with random numbers, leaves out what it does not expect, and says
so in a report that few read. A model that is partly random gives figures like any other, so here a checkpoint
is loaded whole or refused, with the names of what is missing and the likely cause.
"""

from __future__ import annotations

import json
import logging
import re
import threading
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError, safe_open
from transformers import (
    AutoConfig,
    AutoTokenizer,
    MusicgenForConditionalGeneration,
    MusicgenMelodyForConditionalGeneration,
)

from workbench.errors import ModelError, WorkbenchError
from workbench.model import band_codec as _band_codec  # noqa: F401  (registers its codec with AutoModel)
from workbench.model.contract import check_contract, settle_codec
from workbench.model.folders import builtin_folder, folder_fingerprint, weight_files
from workbench.model.musicgen import Model
from workbench.model.sampling import apply_delay

# Which device and which precision, measured rather than guessed.


_SMALL = 50_000_000  # below this many parameters fp32 is fast enough, and exact
_SPEED_UP = 1.2  # bf16 must be at least this much faster to be worth its rounding


def choose_device(asked: str | int | torch.device | None) -> torch.device:
    """The device that was asked for, or the best one that is present: CUDA, then Apple MPS, then CPU.

    Capitals do not matter; "gpu" is the accelerator that is present, and a number alone is that CUDA device.

    Raises:
        ModelError: When this is no device, or it is not here.
    """
    choices = _present()
    if asked is None:
        return torch.device(choices[0])
    text = "" if isinstance(asked, bool) else str(asked).strip().lower()
    if text == "gpu":
        text = choices[0] if choices[0] != "cpu" else "cuda"
    try:
        device = torch.device(f"cuda:{text}" if text.isdecimal() else text)
    except RuntimeError:
        found = "torch knows no such device"
    else:
        if device.type in choices and (device.index or 0) < _count(device.type):
            return device
        found = "torch finds no such device here"
    named = ", ".join(f'"{choice}"' for choice in choices)
    raise ModelError(
        f"The device {str(asked)!r} was asked for",
        found,
        f"Use one of {named}, or None for the best of them",
    )


def _present() -> list[str]:
    """The kinds of device that are here, in the order in which they are preferred."""
    found = ["cuda"] if torch.cuda.is_available() else []
    found += ["mps"] if torch.backends.mps.is_available() else []
    other = torch.accelerator.current_accelerator(check_available=True)
    return [*found, "cpu", *([other.type] if other is not None and other.type not in found else [])]


def _count(kind: str) -> int:
    """How many devices of a kind are here."""
    return 1 if kind in ("cpu", "mps") else torch.get_device_module(kind).device_count()


def choose_dtype(
    asked: str | torch.dtype | None, device: torch.device, musicgen: Any
) -> tuple[torch.dtype, str]:
    """The decoder's precision and the reason for it in a few words."""
    if asked is not None:
        dtype = getattr(torch, str(asked).strip().lower().removeprefix("torch."), None)
        if dtype not in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
            raise ModelError(
                f"The precision {asked!r} was asked for",
                "it is none",
                'Use "float32", "bfloat16", "float16" or "float64"',
            )
        return dtype, "as asked"
    parameters = sum(parameter.numel() for parameter in musicgen.decoder.parameters())
    if parameters < _SMALL:
        return torch.float32, "small enough for float32"
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported()
        return (torch.bfloat16, "CUDA has it") if fast else (torch.float32, "no bfloat16 on this GPU")
    if device.type == "mps":
        return torch.float32, "bfloat16 on MPS is untested"
    gain = _bf16_gain(int(musicgen.decoder.config.hidden_size))
    wanted = torch.bfloat16 if gain >= _SPEED_UP else torch.float32
    return wanted, f"bfloat16 measured {gain:.1f} x float32 on this processor"


def _bf16_gain(width: int) -> float:
    """How many times faster bf16 is here at a feed-forward product with two rows (one guided step)."""
    weight, rows = torch.zeros(4 * width, width), torch.zeros(2, width)
    seconds = []
    for dtype in (torch.float32, torch.bfloat16):
        typed, values = weight.to(dtype), rows.to(dtype)
        torch.nn.functional.linear(values, typed)
        start = time.perf_counter()
        for _ in range(8):
            torch.nn.functional.linear(values, typed)
        seconds.append(time.perf_counter() - start)
    return seconds[0] / max(seconds[1], 1e-9)


# What coarser numbers cost a model: how far its odds of the next codes move.
#
# Rounding is judged where it matters, at the odds that codes are drawn from. A former built-in model (four
# codebooks of a neural codec) lost 0.0014 nats per code to bfloat16, on codes drawn at random as on its own
# (BENCHMARKS.md), and its judged music stayed the same; a model that loses more than ten times that is
# kept in
# float32.


FRAMES = 8
MOST_NATS = 0.02
"""Divergence per code up to which a coarser precision is chosen without being asked for."""


def next_codes(model: Model, *, seed: int = 0) -> torch.Tensor:
    """The log-probabilities (k, positions, V) of the next codes after a few random ones, fp32 on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(model.codebook_size, (1, model.n_codebooks, FRAMES), generator=generator)
    ids = apply_delay(codes.to(model.device), model.bos, model.delays)[..., :FRAMES]
    with model.exclusive():
        logits = model.network.score(ids, model.text(["music"]))
    return logits[0].log_softmax(-1).cpu()


def divergence(exact: torch.Tensor, coarse: torch.Tensor) -> float:
    """The mean Kullback-Leibler divergence, nats per code, of two results of `next_codes`."""
    return float((exact.exp() * (exact - coarse)).sum(-1).mean())


_KINDS = {
    "musicgen": MusicgenForConditionalGeneration,
    "musicgen_melody": MusicgenMelodyForConditionalGeneration,
}
_PARTS = ("text_encoder", "audio_encoder", "decoder")
_JSON = ("config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json")
_POINTER = b"version https://git-lfs"
_RENAMED = (
    (".weight_g", ".parametrizations.weight.original0"),
    (".weight_v", ".parametrizations.weight.original1"),
)
"""How checkpoints of before torch 2 call the two halves of a normed weight, and how transformers does now."""
_HARMLESS = re.compile(r"\.embed_positions\.weights$|^text_encoder\.(decoder|lm_head)\.")
"""Stored keys that may be left out: positions are computed, and of a T5 only the encoder is used."""
_WRAPPED = {
    "module.": ("data-parallel training", "model.module"),
    "_orig_mod.": ("torch.compile", "model._orig_mod"),
    "_fsdp_wrapped_module.": ("sharded training", "the whole, unsharded model"),
}
_AGAIN = "Download or save it again"
_MERGE = "Merge it first (merge_and_unload() of peft, then save_pretrained) and load the result"
_NAMED = 'Use "embedded", an existing folder, or an id such as "facebook/musicgen-small"'
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
        device: "cpu", "cuda" (or "cuda:1"), "mps"; the best one present when None. The codec goes there too
            if it gives what it gives on the CPU, else it stays on the CPU.
        dtype: "float32", "bfloat16", "float16"; when None, bfloat16 where it is measured to be
            faster and to move the odds of the next codes by at most 0.02 nats. The codec stays in float32.
        check: Whether to measure the contract (less than a second on small models).

    Raises:
        ModelError: Nothing loadable is there, the checkpoint is not whole, the kind of model is not
            supported, or the contract breaks.
    """
    source, local = _locate(name)
    place = choose_device(device)
    with _LOADING, _quiet(), _refusing(source, "transformers cannot load it"):
        musicgen, tokenizer, folder = _read(source, local)
        mark = folder_fingerprint(local) if local else None
    precision, why = choose_dtype(dtype, place, musicgen)
    model = Model(musicgen, tokenizer, id=_identify(name, mark), folder=folder, fingerprint=mark, notes=why)
    # Only what is stored in float32 can say what rounding costs, and only what nobody asked for has to.
    exact = next_codes(model) if dtype is None and _rounds(model, precision) else None
    with _refusing(source, f"it cannot be moved to {place}"):
        _settle(musicgen, place, precision)
        model.notes += settle_codec(musicgen, place)
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
        with _refusing(source, "the check of its contract fails"):
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
    if not isinstance(name, str | Path) or not str(name).strip() or "\0" in str(name):
        raise ModelError(f"The model {name!r} was asked for", "that is no name", _NAMED)
    path = Path(name).expanduser()
    if path.is_dir():
        if (path / "adapter_config.json").is_file():
            found = "it holds an adapter (adapter_config.json), which changes another checkpoint's weights"
            raise _not_loaded(str(path), found, _MERGE)
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
            _NAMED,
        )
    return str(name), None


def _read(source: str, local: Path | None) -> tuple[Any, Any, Path | None]:
    """The transformers model, evaluating, in the precision it was stored in; its tokenizer and folder."""
    if local is not None:
        _check_files(source, local)
    config = AutoConfig.from_pretrained(source)
    if config.model_type not in _KINDS:
        _refuse(source, config.model_type)
    _check_config(source, config)
    musicgen, report = _KINDS[config.model_type].from_pretrained(
        source, dtype="auto", output_loading_info=True, ignore_mismatched_sizes=True
    )
    folder = local or _snapshot(source)
    _check_keys(source, musicgen, report, [] if folder is None else weight_files(folder))
    _check_numbers(source, musicgen)
    tokenizer = AutoTokenizer.from_pretrained(source)
    _check_tokenizer(source, tokenizer, musicgen)
    return musicgen.eval().requires_grad_(False), tokenizer, folder


@contextmanager
def _refusing(source: str, found: str) -> Iterator[None]:
    """Turn whatever libraries raise on a damaged checkpoint into a ModelError that begins with `found`."""
    try:
        yield
    except WorkbenchError:
        raise
    except Exception as error:
        kind, told = type(error).__name__, (str(error).splitlines() or [""])[0]
        if kind == "UnpicklingError":  # torch's own words advise to run what is in the file
            told = "a .bin file is damaged, or holds more than plain weights"
        raise _not_loaded(
            source,
            f"{found} ({kind}: {told})",
            "Check the name, the connection, and that weights and tokenizer are complete",
        ) from error


def _not_loaded(source: str, found: str, do: str) -> ModelError:
    return ModelError(f"The model {source} was asked for", found, do)


def _check_files(source: str, folder: Path) -> None:
    """Refuse a folder whose files are pointers, cut, empty or missing, before anything is built."""
    for path in [folder / name for name in _JSON] + sorted(folder.glob("*.index.json")):
        if path.is_file():
            _check_pointer(source, path)
            try:
                json.loads(path.read_text(encoding="utf-8"))
            except ValueError as error:
                raise _not_loaded(source, f"{path.name} is no JSON ({error})", _AGAIN) from error
    for path in weight_files(folder):
        if not path.is_file():
            raise _not_loaded(source, f"{path.name}, which its index names, is missing", _AGAIN)
        _check_pointer(source, path)
        if path.suffix == ".safetensors":
            _stored_keys(source, path)


def _check_pointer(source: str, path: Path) -> None:
    """Refuse an empty file, and what Git LFS puts in the place of a file that was not downloaded."""
    with path.open("rb") as file:
        head = file.read(len(_POINTER))
    if not head:
        raise _not_loaded(source, f"{path.name} is empty", _AGAIN)
    if head == _POINTER:
        raise _not_loaded(
            source, f"{path.name} is a Git LFS pointer, not the file itself", "Run git lfs pull"
        )


def _stored_keys(source: str, path: Path) -> set[str]:
    """The names of the tensors in a weight file."""
    if path.suffix != ".safetensors":
        stored = torch.load(path, map_location="meta", weights_only=True, mmap=zipfile.is_zipfile(path))
        return set(stored)
    try:
        with safe_open(path, "pt") as file:
            return set(file.keys())
    except SafetensorError as error:
        raise _not_loaded(source, f"{path.name} is cut or no safetensors file ({error})", _AGAIN) from error


def _check_config(source: str, config: Any) -> None:
    """Refuse a configuration for which transformers would fill in parts, or that lacks the BOS id."""
    raw, _rest = type(config).get_config_dict(source)
    missing = [part for part in _PARTS if not isinstance(raw.get(part), dict)]
    if missing:
        found = f"its config.json has no {' and no '.join(missing)}"
        raise _not_loaded(source, found, "Use the config.json that the weights were saved with")
    bos, size = config.decoder.bos_token_id, config.decoder.vocab_size
    if not isinstance(bos, int) or not 0 <= bos <= size:
        found = f"the bos_token_id of its decoder is {bos}, where codes and BOS are 0 to {size}"
        raise _not_loaded(source, found, f"Set it to {size} in config.json, as every MusicGen has it")


def _check_keys(source: str, musicgen: Any, report: dict[str, Any], files: Sequence[Path]) -> None:
    """Refuse weights that do not fill the model, or more than fill it.

    transformers does not report unexpected keys with "decoder" in their names (its T5 asks for that), so the
    names in the files are compared here.
    """
    expected, stored = set(musicgen.state_dict()), set[str]()
    for path in files:
        stored |= _stored_keys(source, path)
    for old, new in _RENAMED:
        stored = {key.replace(old, new) if key.endswith(old) else key for key in stored}
    unexpected = (stored - expected) | set(report["unexpected_keys"])
    unexpected = {key for key in unexpected if not _HARMLESS.search(key)}
    missing, shapes = set(report["missing_keys"]), sorted(report["mismatched_keys"])
    if not (missing or unexpected or shapes or report["error_msgs"]):
        return
    told = [
        f"{len(names)} {what} ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"
        for what, names in (
            ("missing", sorted(missing)),
            ("unexpected", sorted(unexpected)),
            ("of another shape", [f"{key} {tuple(is_)} for {tuple(should)}" for key, is_, should in shapes]),
            ("unreadable", list(report["error_msgs"])),
        )
        if names
    ]
    why, do = _cause(missing, unexpected, {key for key, *_shapes in shapes}, expected - missing)
    raise _not_loaded(source, f"of its weights {', '.join(told)}: {why}", do)


def _cause(missing: set[str], unexpected: set[str], shapes: set[str], held: set[str]) -> tuple[str, str]:
    """Why keys probably do not fit, and what to do about it; `held` are the expected keys that are there."""
    if any("lora_" in key or ".base_layer." in key for key in unexpected):
        return "an adapter (LoRA) is not merged into them", _MERGE
    for prefix, (maker, inner) in _WRAPPED.items():
        if any(f".{prefix}" in f".{key}" for key in unexpected):
            return f"names carry {prefix!r}, as {maker} saves them", f"Save {inner} with save_pretrained"
    absent = [part for part in _PARTS if not any(key.startswith(f"{part}.") for key in held)]
    bare = any(key.startswith(("model.decoder.", "lm_heads.")) for key in unexpected)
    if absent == ["text_encoder", "audio_encoder"] or (bare and len(absent) == len(_PARTS)):
        whole = "Save the whole model (the ForConditionalGeneration class), not its decoder"
        return "this is the decoder only", whole
    if absent:
        return f"nothing of {' and '.join(absent)} is there", _AGAIN
    if any(re.search(r"embed_tokens|lm_heads|shared", key) for key in shapes):
        return "they have another vocabulary than config.json says", "Use the config.json saved with them"
    if missing and not unexpected:
        return "they would be filled with random numbers", _AGAIN
    return "they belong to another configuration", "Use the config.json that they were saved with"


def _check_numbers(source: str, musicgen: Any) -> None:
    """Refuse weights that are not finite."""
    for name, tensor in musicgen.state_dict().items():
        if tensor.is_floating_point() and tensor.numel() and not all(map(torch.isfinite, tensor.aminmax())):
            bad = int((~torch.isfinite(tensor)).sum())
            found = f"{bad} of the {tensor.numel()} numbers in {name} are NaN or infinite"
            raise _not_loaded(source, found, "Use an earlier checkpoint, or save it again in float32")


def _check_tokenizer(source: str, tokenizer: Any, musicgen: Any) -> None:
    """Refuse a tokenizer without words, as transformers makes where there is none, and that of another T5."""
    vocabulary = tokenizer.get_vocab()
    if not vocabulary.keys() - tokenizer.get_added_vocab().keys() - {"\u2581"}:
        files = " or ".join(sorted(set(tokenizer.vocab_files_names.values())))
        found = f"there is no tokenizer file ({files}), and every prompt would become unknown words"
        raise _not_loaded(source, found, "Write the tokenizer into the folder with its save_pretrained")
    size = musicgen.get_input_embeddings().num_embeddings
    if max(vocabulary.values()) >= size:
        found = f"its tokenizer has {max(vocabulary.values()) + 1} words, and its text encoder {size}"
        raise _not_loaded(source, found, "Use the tokenizer that the text encoder was trained with")


def _refuse(source: str, kind: str) -> None:
    found = f"a {kind!r} model is not a MusicGen"
    raise _not_loaded(source, found, "Use a MusicGen, mono or stereo, with or without melody")


def _settle(musicgen: Any, device: torch.device, dtype: torch.dtype) -> None:
    """Move the model; all but the codec take `dtype`, the codec float32 (bfloat16 is audible)."""
    for name, part in musicgen.named_children():
        if name == "audio_encoder":  # `settle_codec` says where it goes
            part.to(dtype=torch.float32)
        else:
            part.to(device=device, dtype=dtype)


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
