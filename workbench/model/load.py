"""Loading: the built-in model, a hub id or a folder; which device and precision; the contract check.

transformers fills what a checkpoint lacks with random numbers, and leaves out what it does not expect. A
model that is partly random gives figures like any other, so here a checkpoint is loaded whole or refused.

Rounding is judged at the odds that codes are drawn from. A former built-in model lost 0.0014 nats per code to
bfloat16, and its judged music stayed the same; one that loses more than ten times that is kept in float32.
"""

from __future__ import annotations

import json
import logging
import re
import threading
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError, safe_open

from workbench.errors import ModelError, WorkbenchError
from workbench.model import band_codec as _band_codec  # noqa: F401  (registers its codec with AutoModel)
from workbench.model.contract import check_contract, settle_codec
from workbench.model.folders import builtin_folder, folder_fingerprint, weight_files
from workbench.model.lowbit import LOW_BIT, quantise, speeds
from workbench.model.musicgen import Model
from workbench.model.network import spread_blocks
from workbench.model.sampling import apply_delay
from workbench.sound.dataset import some

_SMALL = 50_000_000  # below this many parameters fp32 is fast enough, and exact
_SPEED_UP = 1.2  # a coarser precision must be at least this much faster to be worth its rounding
FRAMES = 8  # random ones, after which the odds of the next codes are compared
MOST_NATS = 0.02  # divergence per code up to which a coarser precision is chosen without being asked for

_KINDS = {
    "musicgen": transformers.MusicgenForConditionalGeneration,
    "musicgen_melody": transformers.MusicgenMelodyForConditionalGeneration,
}
_PARTS = ("text_encoder", "audio_encoder", "decoder")
_JSON = ("config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json")
_POINTER = b"version https://git-lfs"
# how checkpoints of before torch 2 call the two halves of a normed weight, and how transformers does now
_RENAMED = {
    ".weight_g": ".parametrizations.weight.original0",
    ".weight_v": ".parametrizations.weight.original1",
}
# stored keys that may be left out: positions are computed, and of a T5 only the encoder is used
_HARMLESS = re.compile(r"\.embed_positions\.weights$|^text_encoder\.(decoder|lm_head)\.")
_WRAPPED = {
    "module.": ("data-parallel training", "model.module"),
    "_orig_mod.": ("torch.compile", "model._orig_mod"),
    "_fsdp_wrapped_module.": ("sharded training", "the whole, unsharded model"),
}
_AGAIN = "Download or save it again"
_MERGE = "Merge it first (merge_and_unload() of peft, then save_pretrained) and load the result"
_NAMED = 'Use "embedded", an existing folder, or an id such as "facebook/musicgen-small"'
# transformers builds models on a process-wide "meta" device: two loads at once both lose their weights
_LOADING = threading.Lock()
Device = str | int | torch.device


class _Refused(Exception):
    """What was found and what to do about it; `_refusing` adds which model was asked for."""


def choose_device(asked: Device | None) -> torch.device:
    """Return the device that was asked for, or the best one that is present: CUDA, then Apple MPS, then CPU.

    "gpu" is the accelerator that is present, a number alone is that CUDA device, and others are a ModelError.
    """
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if other := torch.accelerator.current_accelerator(check_available=True):
        present[other.type] = True
    choices = [kind for kind, here in present.items() if here]
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
        if device.type in choices:
            single = device.type in ("cpu", "mps")
            if (device.index or 0) < (1 if single else torch.get_device_module(device.type).device_count()):
                return device
        found = "torch finds no such device here"
    do = f"Use one of {json.dumps(choices)[1:-1]}, or None for the best of them"
    raise ModelError(f"The device {str(asked)!r} was asked for", found, do)


def choose_precision(
    asked: str | torch.dtype | None, device: torch.device, musicgen: Any, tried: Collection[str] = ()
) -> tuple[str, str]:
    """Return the decoder's precision, none of those that were `tried`, and the reason in a few words."""
    if asked is not None:
        name = str(asked).strip().lower().removeprefix("torch.")
        if name in LOW_BIT and device.type != "cpu":
            found, do = f"there are no such kernels for {device}", 'Use "bfloat16", or device="cpu"'
            raise ModelError(f"The precision {asked!r} was asked for", found, do)
        if name not in (*LOW_BIT, "float32", "bfloat16", "float16", "float64"):
            do = 'Use "float32", "bfloat16", "float16" or "float64", or on a CPU "int8" or "int4"'
            raise ModelError(f"The precision {asked!r} was asked for", "it is none", do)
        return name, "as asked"
    if sum(parameter.numel() for parameter in musicgen.decoder.parameters()) < _SMALL:
        return "float32", "small enough for float32"
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported() and "bfloat16" not in tried
        return ("bfloat16", "CUDA has it") if fast else ("float32", "no bfloat16 on this GPU")
    if device.type == "mps":
        return "float32", "bfloat16 on MPS is untested"
    gains = speeds(int(musicgen.decoder.config.hidden_size))
    told = ", ".join(f"{name} measured {gain:.1f} x" for name, gain in gains.items() if name != "float32")
    fast = {name: gain for name, gain in gains.items() if gain >= _SPEED_UP and name not in tried}
    return max(fast, key=fast.__getitem__, default="float32"), f"{told} float32 on this processor"


def next_codes(model: Model, *, seed: int = 0) -> torch.Tensor:
    """Return the log-probabilities (k, positions, V) of what follows a few random codes, fp32 on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(model.codebook_size, (1, model.n_codebooks, FRAMES), generator=generator)
    ids = apply_delay(codes.to(model.device), model.bos, model.delays)[..., :FRAMES]
    with model.exclusive():
        logits = model.network.score(ids, model.text(["music"]))
    return logits[0].log_softmax(-1).cpu()


def divergence(exact: torch.Tensor, coarse: torch.Tensor) -> float:
    """Return the mean Kullback-Leibler divergence, nats per code, of two results of `next_codes`."""
    return float((exact.exp() * (exact - coarse)).sum(-1).mean())


def load(
    name: str | Path = "embedded",
    *,
    device: Device | Sequence[Device] | None = None,
    dtype: str | torch.dtype | None = None,
    check: bool = True,
) -> Model:
    """Return a MusicGen, ready to be read and steered.

    Args:
        name: "embedded" (the built-in model), a folder written by `save_pretrained`, or a hub id such as
            "facebook/musicgen-small".
        device: "cpu", "cuda" (or "cuda:1"), "mps"; the best one present when None. The codec goes there too
            if it gives what it gives on the CPU, else it stays on the CPU. Several, as ["cuda:0", "cuda:1"],
            share the decoder's blocks, for a model that is too large for one.
        dtype: "float32", "bfloat16", "float16", or on a CPU "int8" or "int4", which are the decoder's weights
            only (`workbench.model.lowbit`); when None, of float32, bfloat16 and int8 the one that is measured
            to be fastest and to move the odds of the next codes by at most 0.02 nats. The codec stays in
            float32.
        check: Whether to measure the contract (less than a second on small models).

    Raises:
        ModelError: Nothing loadable is there, the checkpoint is not whole, the kind of model is not
            supported, or the contract breaks.
    """
    several = device if isinstance(device, Sequence) and not isinstance(device, str) else [device]
    return _load(name, [choose_device(one) for one in several or [None]], dtype, check, tried={})


def _load(
    name: str | Path,
    places: Sequence[torch.device],
    dtype: str | torch.dtype | None,
    check: bool,
    *,
    tried: Mapping[str, str],
) -> Model:
    """Load in the asked or best precision, of which those in `tried` were too far from what is stored."""
    local, place = _locate(name), places[0]
    source = str(local or name)
    with _LOADING, _quiet(), _refusing(source, "transformers cannot load it"):
        musicgen, tokenizer, folder = _read(source, local)
        mark, id_ = folder_fingerprint(local) if local else None, str(name)
    if mark:  # two folders may share a name, and the built-in model may be trained anew
        label = "embedded" if id_ == "embedded" else Path(name).expanduser().resolve().name
        id_ = f"{label}#{mark[:8]}"
    precision, why = choose_precision(dtype, place, musicgen, tried)
    model = Model(musicgen, tokenizer, id=id_, folder=folder, fingerprint=mark)
    model.notes = ", ".join([why, *tried.values()])
    # Only what is stored more finely can say what rounding costs, and only what nobody asked for has to.
    stored, low = model.dtype, precision in LOW_BIT
    typed = torch.float32 if low else getattr(torch, precision)
    rounds = low or torch.finfo(typed).eps > torch.finfo(stored).eps
    exact = next_codes(model) if dtype is None and rounds else None
    with _refusing(source, f"it cannot be moved to {place}"):
        if low:
            quantise(musicgen.decoder, precision)
        _move(musicgen, places, typed)
        model.notes += settle_codec(musicgen, place)
    if exact is not None:
        lost = divergence(exact, next_codes(model))
        told = f"{precision} moves the odds of the next codes by {lost:.1g} nats"
        if not lost <= MOST_NATS:  # also where the odds are no numbers any more
            del model, musicgen
            return _load(name, places, None, check, tried={**tried, precision: f"{told}, which is too far"})
        model.notes += f", {told}"
    if check:
        with _refusing(source, "the check of its contract fails"):
            difference = check_contract(model)
        model.notes += f"; teacher forcing repeats generation to {difference:.0e}"
    return model


def _move(musicgen: Any, places: Sequence[torch.device], typed: torch.dtype) -> None:
    """Move all but the codec to a device, and the decoder's blocks to all of several."""
    for part, module in musicgen.named_children():
        if part == "audio_encoder":  # bfloat16 is audible, and `settle_codec` says where it goes
            module.to(dtype=torch.float32)
        else:
            module.to(device=places[0], dtype=typed)
    if len(places) > 1:
        spread_blocks(musicgen.decoder, places)


def _locate(name: str | Path) -> Path | None:
    """Return the folder of the model that was asked for, None for a hub id."""
    if str(name) == "embedded":
        folder = builtin_folder()
        if not (folder / "config.json").is_file():
            asked, do = "The built-in model was asked for", "Restore data/ from the repository"
            raise ModelError(asked, f"{folder} has none", do)
        return folder
    if not isinstance(name, str | Path) or not str(name).strip() or "\0" in str(name):
        raise ModelError(f"The model {name!r} was asked for", "that is no name", _NAMED)
    path = Path(name).expanduser()
    if path.is_dir():
        asked = f"The model in {path} was asked for"
        if (path / "adapter_config.json").is_file():
            found = "it holds an adapter (adapter_config.json), which changes another checkpoint's weights"
            raise ModelError(asked, found, _MERGE)
        if not (path / "config.json").is_file():
            raise ModelError(asked, "there is no config.json in it", "Write it with save_pretrained")
        return path
    if path.is_absolute() or str(name).count("/") != 1:
        found = "it is neither a folder nor a hub id"
        raise ModelError(f"The model {str(name)!r} was asked for", found, _NAMED)
    return None


def _read(source: str, local: Path | None) -> tuple[Any, Any, Path | None]:
    """Return the transformers model, evaluating, in its stored precision; its tokenizer and folder."""
    if local is not None:
        _check_files(local)
    config = transformers.AutoConfig.from_pretrained(source)
    if config.model_type not in _KINDS:
        do = "Use a MusicGen, mono or stereo, with or without melody"
        raise _Refused(f"a {config.model_type!r} model is not a MusicGen", do)
    _check_config(source, config)
    musicgen, report = _KINDS[config.model_type].from_pretrained(
        source, dtype="auto", output_loading_info=True, ignore_mismatched_sizes=True
    )
    cached = transformers.utils.cached_file(local or source, "config.json", local_files_only=True)
    folder = Path(cached).parent if cached else None
    _check_keys(musicgen, report, [] if folder is None else weight_files(folder))
    for name, tensor in musicgen.state_dict().items():
        if tensor.is_floating_point() and tensor.numel() and not all(map(torch.isfinite, tensor.aminmax())):
            bad = f"{int((~torch.isfinite(tensor)).sum())} of the {tensor.numel()} numbers in {name}"
            do = "Use an earlier checkpoint, or save it again in float32"
            raise _Refused(f"{bad} are NaN or infinite", do)
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    _check_tokenizer(tokenizer, musicgen)
    return musicgen.eval().requires_grad_(False), tokenizer, folder


@contextmanager
def _refusing(source: str, problem: str) -> Iterator[None]:
    """Turn `_Refused`, and whatever libraries raise on a damaged checkpoint, into a ModelError."""
    asked = f"The model {source} was asked for"
    try:
        yield
    except WorkbenchError:
        raise
    except _Refused as error:
        raise ModelError(asked, *error.args) from error.__cause__
    except Exception as error:
        kind, words = type(error).__name__, (str(error).splitlines() or [""])[0]
        if kind == "UnpicklingError":  # torch's own words advise to run what is in the file
            words = "a .bin file is damaged, or holds more than plain weights"
        do = "Check the name, the connection, and that weights and tokenizer are complete"
        raise ModelError(asked, f"{problem} ({kind}: {words})", do) from error


def _check_files(folder: Path) -> None:
    """Refuse a folder whose files are pointers, cut, empty or missing, before anything is built."""
    for path in [folder / name for name in _JSON] + sorted(folder.glob("*.index.json")):
        if path.is_file():
            _check_pointer(path)
            try:
                json.loads(path.read_text(encoding="utf-8"))
            except ValueError as error:
                raise _Refused(f"{path.name} is no JSON ({error})", _AGAIN) from error
    for path in weight_files(folder):
        if not path.is_file():
            raise _Refused(f"{path.name}, which its index names, is missing", _AGAIN)
        _check_pointer(path)
        if path.suffix == ".safetensors":
            _stored_keys(path)


def _check_pointer(path: Path) -> None:
    """Refuse an empty file, and what Git LFS puts in the place of a file that was not downloaded."""
    with path.open("rb") as file:
        head = file.read(len(_POINTER))
    if not head:
        raise _Refused(f"{path.name} is empty", _AGAIN)
    if head == _POINTER:
        raise _Refused(f"{path.name} is a Git LFS pointer, not the file itself", "Run git lfs pull")


def _stored_keys(path: Path) -> set[str]:
    """Return the names of the tensors in a weight file."""
    if path.suffix != ".safetensors":
        return set(torch.load(path, map_location="meta", weights_only=True, mmap=zipfile.is_zipfile(path)))
    try:
        with safe_open(path, "pt") as file:
            return set(file.keys())
    except SafetensorError as error:
        raise _Refused(f"{path.name} is cut or no safetensors file ({error})", _AGAIN) from error


def _check_config(source: str, config: Any) -> None:
    """Refuse a configuration for which transformers would fill in parts, or that lacks the BOS id."""
    raw, _rest = type(config).get_config_dict(source)
    missing = [part for part in _PARTS if not isinstance(raw.get(part), dict)]
    if missing:
        found = f"its config.json has no {' and no '.join(missing)}"
        raise _Refused(found, "Use the config.json that the weights were saved with")
    bos, size = config.decoder.bos_token_id, config.decoder.vocab_size
    if not isinstance(bos, int) or not 0 <= bos <= size:
        found = f"the bos_token_id of its decoder is {bos}, where codes and BOS are 0 to {size}"
        raise _Refused(found, f"Set it to {size} in config.json, as every MusicGen has it")


def _check_keys(musicgen: Any, report: dict[str, Any], files: Sequence[Path]) -> None:
    """Refuse weights that do not fill the model, or more than fill it.

    transformers does not report unexpected keys with "decoder" in their names (its T5 asks for that), so the
    names in the files are compared here.
    """
    expected = set(musicgen.state_dict())
    stored = set[str]().union(*map(_stored_keys, files))
    for old, new in _RENAMED.items():
        stored = {key.replace(old, new) if key.endswith(old) else key for key in stored}
    unexpected = (stored - expected) | set(report["unexpected_keys"])
    unexpected = {key for key in unexpected if not _HARMLESS.search(key)}
    missing, shapes = set(report["missing_keys"]), sorted(report["mismatched_keys"])
    if not (missing or unexpected or shapes or report["error_msgs"]):
        return
    named = {
        "missing": sorted(missing),
        "unexpected": sorted(unexpected),
        "of another shape": [f"{key} {tuple(is_)} for {tuple(should)}" for key, is_, should in shapes],
        "unreadable": list(report["error_msgs"]),
    }
    faults = [f"{len(names)} {what} ({some(names, 5)})" for what, names in named.items() if names]
    why, do = _cause(missing, unexpected, {key for key, *_shapes in shapes}, expected - missing)
    raise _Refused(f"of its weights {', '.join(faults)}: {why}", do)


def _cause(missing: set[str], unexpected: set[str], shapes: set[str], there: set[str]) -> tuple[str, str]:
    """Return why keys probably do not fit, and what to do; `there` are the expected keys that are found."""
    if any("lora_" in key or ".base_layer." in key for key in unexpected):
        return "an adapter (LoRA) is not merged into them", _MERGE
    for prefix, (maker, inner) in _WRAPPED.items():
        if any(f".{prefix}" in f".{key}" for key in unexpected):
            return f"names carry {prefix!r}, as {maker} saves them", f"Save {inner} with save_pretrained"
    absent = [part for part in _PARTS if not any(key.startswith(f"{part}.") for key in there)]
    bare = any(key.startswith(("model.decoder.", "lm_heads.")) for key in unexpected)
    if absent == ["text_encoder", "audio_encoder"] or (bare and len(absent) == len(_PARTS)):
        do = "Save the whole model (the ForConditionalGeneration class), not its decoder"
        return "this is the decoder only", do
    if absent:
        return f"nothing of {' and '.join(absent)} is there", _AGAIN
    if any(re.search(r"embed_tokens|lm_heads|shared", key) for key in shapes):
        return "they have another vocabulary than config.json says", "Use the config.json saved with them"
    if missing and not unexpected:
        return "they would be filled with random numbers", _AGAIN
    return "they belong to another configuration", "Use the config.json that they were saved with"


def _check_tokenizer(tokenizer: Any, musicgen: Any) -> None:
    """Refuse a tokenizer without words, as transformers makes where there is none, and that of another T5."""
    vocabulary = tokenizer.get_vocab()
    if not vocabulary.keys() - tokenizer.get_added_vocab().keys() - {"\u2581"}:
        files = " or ".join(sorted(set(tokenizer.vocab_files_names.values())))
        found = f"there is no tokenizer file ({files}), and every prompt would become unknown words"
        raise _Refused(found, "Write the tokenizer into the folder with its save_pretrained")
    size = musicgen.get_input_embeddings().num_embeddings
    if max(vocabulary.values()) >= size:
        found = f"its tokenizer has {max(vocabulary.values()) + 1} words, and its text encoder {size}"
        raise _Refused(found, "Use the tokenizer that the text encoder was trained with")


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
