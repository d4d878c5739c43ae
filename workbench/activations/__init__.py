"""Labelled activations (xarray), and the resumable, checksummed store that holds them on disk (Zarr)."""

from workbench.activations.activations import Activations, cut_head, head_name, head_slice, join_activations
from workbench.activations.spec import Cost, StoreSpec, bytes_needed, free_memory
from workbench.activations.store import ActivationStore, UnusableStore, open_activations

__all__ = [
    "ActivationStore",
    "Activations",
    "Cost",
    "StoreSpec",
    "UnusableStore",
    "bytes_needed",
    "cut_head",
    "free_memory",
    "head_name",
    "head_slice",
    "join_activations",
    "open_activations",
]
