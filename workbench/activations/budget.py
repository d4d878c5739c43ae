"""What a capture takes of memory and disk: told before it starts, and refused where it does not fit."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import psutil

from workbench.activations.spec import refusal
from workbench.files import size_text

_CGROUPS = (  # version 2, then version 1: folder, limit, use
    ("/sys/fs/cgroup", "memory.max", "memory.current"),
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
)
_FILE_CACHE = ("inactive_file", "total_inactive_file")  # counted as used, and given back when asked for


@dataclass(frozen=True)
class Cost:
    """What a capture needs at most, in bytes; forecasts of memory are rounded up rather than down.

    Args:
        samples: samples of the finished array.
        result: its numbers.
        memory: main memory at once, the result included where it lies there.
        device: memory of the accelerator at once; 0 where the model runs on the CPU.
        disk: size of the store; 0 where the result stays in memory.
    """

    samples: int
    result: int
    memory: int
    device: int = 0
    disk: int = 0

    def sentence(self) -> str:
        """Return the forecast in plain words."""
        extra = f", {size_text(self.device)} of the accelerator's" if self.device else ""
        place = f"{size_text(self.disk)} of disk" if self.disk else "nothing on disk"
        return f"{self.samples} samples: at most {size_text(self.memory)} of memory{extra}, and {place}."

    def check(self, path: Path | None = None, *, free_device: int | None = None) -> None:
        """Raise ActivationsError where this does not fit into free memory, or on the disk under `path`."""
        if path is not None:
            require_disk(path, self.disk)
        kinds = [("memory", self.memory, free_memory())]
        if free_device is not None:
            kinds.append(("the accelerator's memory", self.device, free_device))
        for kind, needed, free in kinds:
            if needed > free:
                raise refusal(
                    f"A capture of {self.samples} samples was asked for",
                    f"it needs {size_text(needed)} of {kind} and {size_text(free)} are free",
                    "Use a smaller batch, fewer layers or sites, pooled activations"
                    + ("" if self.disk else ", or let the result lie on disk (path=...)"),
                )


def free_memory() -> int:
    """Return the bytes of main memory that can be taken: what the machine and this process's group allow."""
    return min([int(psutil.virtual_memory().available), *_group_allowances()])


def _group_allowances() -> list[int]:
    """Return what the memory limits of a container or a batch job leave; empty where there are none."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    names = {line.split(":", 2)[2].lstrip("/") for line in lines if line.split(":", 2)[1] in ("", "memory")}
    found = []
    for root, limit, use in _CGROUPS:
        folders = {Path(root), *(Path(root) / name for name in names)}
        found += [_allowance(folder / limit, folder / use, folder / "memory.stat") for folder in folders]
    return [free for free in found if free is not None]


def _allowance(limit: Path, use: Path, stat: Path) -> int | None:
    """Return what a group may still take, None where it has no limit."""
    try:
        most, used = limit.read_text().strip(), int(use.read_text())
        told = dict(line.split() for line in stat.read_text().splitlines())
    except (OSError, ValueError):
        return None
    cache = max(int(told.get(name, 0)) for name in _FILE_CACHE)
    return max(0, int(most) - used + cache) if most.isdigit() else None


def require_disk(path: Path, needed: int) -> None:
    """Raise ActivationsError when the disk under `path` has less than `needed` bytes free."""
    parent = path.absolute()
    while not parent.exists():
        parent = parent.parent
    free = shutil.disk_usage(parent).free
    if needed > free:
        raise refusal(
            f"Activations of {size_text(needed)} were asked for at {path}",
            f"the disk has {size_text(free)} free",
            'Pool them (pool="mean"), take fewer layers or clips, or give a path on another disk',
        )
