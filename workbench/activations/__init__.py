"""Labelled activations (xarray), and the resumable, checksummed store that holds them on disk (Zarr)."""

from workbench.activations.budget import Cost, free_memory
from workbench.activations.heads import cut_head, head_name, head_slice
from workbench.activations.joining import join_activations
from workbench.activations.opening import UnusableStore, open_activations
from workbench.activations.spec import StoreSpec, bytes_needed
from workbench.activations.store import ActivationStore
from workbench.activations.values import Activations

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
