"""Labelled activations (xarray), and the resumable, checksummed store that holds them on disk (Zarr)."""

from workbench.activations.opening import open_activations
from workbench.activations.spec import StoreSpec, bytes_needed
from workbench.activations.store import ActivationStore
from workbench.activations.values import Activations

__all__ = ["ActivationStore", "Activations", "StoreSpec", "bytes_needed", "open_activations"]
