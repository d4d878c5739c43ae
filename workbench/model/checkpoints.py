"""The public checkpoints: what each one is, takes and allows, said before anything is fetched.

Sizes are computed from the published shapes. A download is counted as float32; a checkpoint that its makers
store in half precision takes half of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from workbench.errors import DiskError, ModelError
from workbench.files import free_on_disk, size_text
from workbench.model.folders import builtin_folder, weight_files

LICENCE = "CC-BY-NC 4.0"  # of the weights of every published MusicGen
# bytes per number of the decoder's matrices (int4: with scale and offset of each 32), and of all the rest
PRECISIONS = {"float32": (4, 4), "bfloat16": (2, 2), "int8": (1, 4), "int4": (0.625, 4)}
FILES = ("*.json", "*.safetensors", "*.model", "*.txt")  # what `load` reads of a checkpoint
_TEXT_ENCODER, _CODEC = 109_628_544, 57_584_834  # parameters of T5-base's encoder, and of EnCodec at 32 kHz
_TEXT_WIDTH, _CHROMA, _CODES = 768, 12, 2048
_ROWS, _STEPS = 2, 503  # of ten seconds with guidance


@dataclass(frozen=True)
class Checkpoint:
    """One published shape; the decoder's feed-forward part is four times as wide as its stream.

    >>> Checkpoint(24, 1024, 16).parameters
    587584834
    """

    layers: int
    width: int
    heads: int
    codebooks: int = 4  # 8 in stereo
    melody: bool = False

    @property
    def decoder(self) -> int:
        """Parameters of the decoder with what joins it to its text; of melody models it reads no states."""
        d, attentions = self.width, 1 if self.melody else 2
        block = attentions * (4 * d * d + 2 * d) + 8 * d * d + 2 * d
        codes = self.codebooks * (2 * _CODES + 1) * d
        return self.layers * block + 2 * d + codes + (_TEXT_WIDTH + 1) * d + self.melody * (_CHROMA + 1) * d

    @property
    def parameters(self) -> int:
        """All of its parameters."""
        return self.decoder + _TEXT_ENCODER + _CODEC

    def memory(self, precision: str = "float32") -> int:
        """Return the bytes of its weights, codec in float32, and of the cache of ten guided seconds."""
        matrix, rest = PRECISIONS[precision]
        embedded = self.codebooks * (_CODES + 1) * self.width
        kept = 2 * self.layers * _ROWS * _STEPS * self.width
        return int((self.decoder - embedded) * matrix + (embedded + _TEXT_ENCODER + kept) * rest) + 4 * _CODEC


_SMALL, _MEDIUM, _LARGE = (24, 1024, 16), (48, 1536, 24), (48, 2048, 32)
CHECKPOINTS = {
    f"facebook/musicgen-{side}{name}": Checkpoint(*shape, 8 if side else 4, "melody" in name)
    for side in ("", "stereo-")
    for name, shape in (("small", _SMALL), ("medium", _MEDIUM), ("large", _LARGE), ("melody", _MEDIUM),
                        ("melody-large", _LARGE))
}  # fmt: skip
"""Every published MusicGen that transformers loads, by its id on the hub."""


def licence_of(model_id: str) -> str:
    """Return the licence of a model's weights, as far as it is known here."""
    return LICENCE if model_id in CHECKPOINTS else "not stated"


def cached(name: str) -> Path | None:
    """Return the folder in the hub's cache that holds a whole checkpoint; None where it is to be fetched."""
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(name, "config.json")
    if not isinstance(config, str):
        return None
    files = weight_files(Path(config).parent)
    return Path(config).parent if files and all(path.is_file() for path in files) else None


def facts() -> pd.DataFrame:
    """Return a row per public checkpoint: parameters, download, memory per precision, licence, here or not.

    Nothing is fetched. Memory is that of the weights and of ten seconds of music.
    """
    rows = {
        name: {
            "parameters": f"{one.parameters / 1e9:.2f} billion",
            "download": size_text(4 * one.parameters),
            **{f"memory, {precision}": size_text(one.memory(precision)) for precision in PRECISIONS},
            "licence": LICENCE,
            "fetched": "yes" if cached(name) else "no",
        }
        for name, one in CHECKPOINTS.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def fetch(name: str) -> Path:
    """Return the folder of a checkpoint, fetched under progress bars where the hub's cache lacks it.

    A fetch that was interrupted continues where it stopped. "embedded" and folders are returned as they are.

    Raises:
        ModelError: the hub does not give it.
        DiskError: its download does not fit on the disk of the cache.
    """
    from huggingface_hub import constants, snapshot_download

    if name == "embedded" or Path(name).expanduser().is_dir():
        return builtin_folder() if name == "embedded" else Path(name).expanduser()
    if here := cached(name):
        return here
    cache, asked = Path(constants.HF_HUB_CACHE), f"The checkpoint {name} was to be fetched"
    needed = 4 * CHECKPOINTS[name].parameters if name in CHECKPOINTS else 0
    if needed > (free := free_on_disk(cache)):
        found = f"it takes {size_text(needed)}, and {size_text(free)} are free at {cache}"
        raise DiskError(asked, found, "Free some space, or name a folder on another disk in HF_HUB_CACHE")
    try:
        return Path(snapshot_download(name, allow_patterns=list(FILES)))
    except Exception as error:  # whatever a network can do
        found = f"the hub does not give it ({type(error).__name__}: {(str(error).splitlines() or [''])[0]})"
        do = "Check the name and the connection, and call it again: what has arrived is kept"
        raise ModelError(asked, found, do) from error
