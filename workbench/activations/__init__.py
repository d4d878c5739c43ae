"""Labelled activations (xarray), and the resumable, checksummed store that holds them on disk (Zarr)."""

from workbench.activations.activations import Activations, concat_activations, cut_head, head_name, head_slice
from workbench.activations.spec import Cost, StoreSpec, bytes_needed, free_memory
from workbench.activations.store import ActivationStore, UnusableStore, open_activations, share_done

__all__ = [
    "ActivationStore",
    "Activations",
    "Cost",
    "StoreSpec",
    "UnusableStore",
    "bytes_needed",
    "concat_activations",
    "cut_head",
    "free_memory",
    "head_name",
    "head_slice",
    "open_activations",
    "share_done",
]
