"""Files that are written whole or not at all, and say at reading whether they are what was written.

Every kind of value on disk has the same digest, a SHA-256 over its plain fields and its arrays.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
import re
import shutil
import textwrap
import unicodedata
import uuid
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from workbench.errors import DiskError

Arrays = Mapping[str, np.ndarray]
DIGEST = "digest"
NAME_CHARACTERS, _NAME_BYTES = 88, 200  # with the longest suffix, .safetensors, 100
_RESERVED = re.compile(r"(con|prn|aux|nul|(com|lpt)[0-9¹²³])( *$| *\.)", re.IGNORECASE)  # devices of Windows
WRITTEN = ".written"  # in a folder of files that belong together: those that wait to be moved into place
_COLUMNS = 96  # of letters
_METADATA = "workbench"  # where a safetensors file holds its fields
_REMEDIES = {
    "Free some space, or name a place on another disk": (errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
    "Name a folder that you may write to": (errno.EACCES, errno.EPERM, errno.EROFS),
    "A file stands where a folder belongs: name another place": (errno.EEXIST, errno.ENOTDIR),
}


def builtin_path(*parts: str) -> Path:
    """Return where something that ships lies: in the repository, or in the copy that a wheel carries."""
    packed = Path(__file__).parent / "_shipped"
    return (packed if packed.is_dir() else Path(__file__).resolve().parents[1]).joinpath(*parts)


def write_atomically(path: Path | str, data: bytes) -> Path:
    """Write a file aside, flush it to the disk and move it into its place; return the path.

    A reader sees the old file or the new one, never a part. DiskError where it cannot be written.
    """
    path = Path(path)
    with disk_errors(path, len(data)):
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft_in(path.parent) as draft:
            _write(draft, data)
            draft.replace(path)
    return path


@contextmanager
def draft_in(folder: Path) -> Iterator[Path]:
    """Give a path in a folder where nothing stands; what still lies there at the end is removed."""
    draft = folder / f".{uuid.uuid4().hex}.partial"
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        with suppress(OSError):
            draft.unlink()


def write_together(folder: Path | str, files: Mapping[str, bytes]) -> Path:
    """Write files that belong together, so that `file_in` finds all of them or all that were there before.

    They are written aside, flushed, and become valid by one renaming of a folder; only then are they moved to
    their places. Other files are left alone; empty content says that there is to be no such file. DiskError
    where the folder cannot be written; what was there before is then whole.
    """
    folder = Path(folder)
    with disk_errors(folder, sum(map(len, files.values()))):
        fresh = not folder.exists()
        try:
            with draft_in(folder) as draft:
                draft.mkdir(parents=True)
                _move_into_place(folder)
                for name, data in files.items():
                    _write(draft / name, data)
                draft.replace(folder / WRITTEN)
        except BaseException:
            if fresh:
                with suppress(OSError):
                    folder.rmdir()
            raise
    try:
        _move_into_place(folder)
    except OSError as error:
        what = f"lies in its folder {WRITTEN} and is read from there: it could not be moved to its place"
        warnings.warn(f"What was saved in {folder} {what} ({error}).", stacklevel=3)
    return folder


def file_in(folder: Path | str, name: str) -> Path:
    """Return where a file that `write_together` wrote lies now; the path need not exist."""
    waiting = Path(folder) / WRITTEN / name
    if not waiting.exists():
        return Path(folder) / name
    return waiting if waiting.stat().st_size else waiting / "none"  # empty: there is to be no such file


def _move_into_place(folder: Path) -> None:
    """Finish what a writer began that wrote everything and was then interrupted."""
    waiting = folder / WRITTEN
    if not waiting.is_dir():
        return
    for file in sorted(waiting.iterdir()):
        if file.stat().st_size:
            file.replace(folder / file.name)
        else:
            (folder / file.name).unlink(missing_ok=True)
            file.unlink()
    waiting.rmdir()


def _write(path: Path, data: bytes) -> None:
    """Write a new file and flush it to the disk."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def require_room(folder: Path | str, needed: int) -> None:
    """Raise DiskError unless `needed` bytes can be written below `folder`, by writing them for a moment."""
    with disk_errors(folder, needed), draft_in(_standing(Path(folder))) as trial:
        _write(trial, bytes(needed))


@contextmanager
def disk_errors(path: Path | str, needed: int = 0) -> Iterator[None]:
    """Turn the system's errors while `needed` bytes are written to `path` into a DiskError."""
    try:
        yield
    except DiskError:
        raise
    except OSError as error:
        found = error.strerror or str(error)
        with suppress(OSError):
            free = f"{size_text(free_on_disk(Path(path)))} are free there"
            found += f" ({size_text(needed)} are needed and {free})" if needed else f" ({free})"
        do = next((do for do, codes in _REMEDIES.items() if error.errno in codes), "Check the path")
        raise DiskError(f"{path} was to be written", found, do) from error


def _standing(path: Path) -> Path:
    """Return the path, or the nearest folder above it that exists."""
    path = path.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def free_on_disk(path: Path) -> int:
    """Return the free bytes of the disk on which `path` lies or would lie."""
    return shutil.disk_usage(_standing(path)).free


def size_text(size: float) -> str:
    """Return a number of bytes in the unit that fits it, with three digits: 12 bytes, 4.32 kB, 87.7 MB."""
    unit, *larger = ("bytes", "kB", "MB", "GB", "TB")
    while size >= 999.5 and larger:
        size, unit = size / 1000, larger.pop(0)
    digits = 0 if unit == "bytes" or size >= 99.95 else 1 if size >= 9.995 else 2
    return f"{size:.{digits}f} {unit}"


def digest_of(fields: Mapping[str, Any], arrays: Arrays | None = None) -> str:
    """Return the SHA-256, in hexadecimal, of JSON's fields in any order (but "digest") and of arrays."""
    plain = json.loads(json.dumps({name: value for name, value in fields.items() if name != DIGEST}))
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
    for name, array in sorted((arrays or {}).items()):
        digest.update(json.dumps([name, array.dtype.str, array.shape]).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def check_digest(
    source: Path | str, fields: Mapping[str, Any], arrays: Arrays | None = None, *, notice: bool = True
) -> None:
    """Raise ValueError where what was read is not what its digest says; warn where it has none."""
    if DIGEST not in fields:
        if notice:
            what = "is from an older version and carries no digest: damage to it would go unseen"
            warnings.warn(f"{source} {what}. Save it again to add one.", stacklevel=3)
    elif fields[DIGEST] != digest_of(fields, arrays):
        raise ValueError("it is damaged: its digest is not that of what was saved")


def pack_arrays(fields: Mapping[str, Any], arrays: Arrays) -> bytes:
    """Return the bytes of a safetensors file with arrays, and as its metadata fields and their digest."""
    from safetensors.numpy import save

    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    signed = {**fields, DIGEST: digest_of(fields, arrays)}
    return bytes(save(arrays, {_METADATA: json.dumps(signed)}))


@contextmanager
def unpacked(
    path: Path | str, wanted: str = "", *, notice: bool = True
) -> Iterator[tuple[dict[str, Any], dict[str, np.ndarray]]]:
    """Give fields and arrays of a file that `pack_arrays` made, without its format and digest.

    ValueError where the format is not the one that is wanted or, once all is taken in, the digest is another;
    with `notice` a missing digest is a warning then.
    """
    from safetensors import safe_open

    with safe_open(str(path), framework="np") as file:
        fields = dict(json.loads((file.metadata() or {})[_METADATA]))
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
    if fields.get("format", "") != wanted:
        raise ValueError(f"it is of the format {fields.get('format')!r}, not {wanted!r}")
    yield {name: one for name, one in fields.items() if name not in ("format", DIGEST)}, arrays
    check_digest(path, fields, arrays, notice=notice)


def letters(data: bytes) -> str:
    """Return bytes as lines of plain letters, to stand in code: base64 of what zlib makes of them."""
    return "\n".join(textwrap.wrap(base64.b64encode(zlib.compress(data, 9)).decode(), _COLUMNS))


def file_name(name: str) -> str:
    """Return `name` as a file or folder may be called anywhere, without suffix: at most 88 characters.

    >>> file_name("jazz?"), file_name("con"), file_name("..")
    ('jazz_', '_con', 'clip')
    """
    composed = unicodedata.normalize("NFC", name)
    kept = "".join(letter if letter.isalnum() or letter in " ._+-" else "_" for letter in composed)
    kept = _cut(kept.strip(" ."), NAME_CHARACTERS - 1) or "clip"
    return f"_{kept}" if _RESERVED.match(kept) else kept


def file_names(names: Iterable[str]) -> dict[str, str]:
    """Return a file name for each name; no two are equal, on disks that tell no capitals apart either.

    >>> file_names(["jazz?", "jazz!", "Jazz_"])
    {'jazz?': 'jazz_', 'jazz!': 'jazz_ 2', 'Jazz_': 'Jazz_ 3'}
    """
    given: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        if name not in given:
            given[name] = next(one for one in numbered_names(file_name(name)) if one.casefold() not in taken)
            taken.add(given[name].casefold())
    return given


def numbered_names(name: str) -> Iterator[str]:
    """Yield a file name, then the same with 2, 3 ... behind it, cut where it would grow too long."""
    yield name
    for number in count(2):
        yield f"{_cut(name, NAME_CHARACTERS - len(f' {number}'))} {number}"


def _cut(name: str, characters: int) -> str:
    """Return the beginning of a name: so many characters, and fewer bytes than file systems take."""
    return name[:characters].encode("utf-8", "replace")[:_NAME_BYTES].decode("utf-8", "ignore").rstrip(" .")
