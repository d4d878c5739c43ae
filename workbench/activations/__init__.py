"""Labelled activations (xarray), and the resumable, checksummed store that holds them on disk (Zarr)."""

from workbench.activations.activations import Activations as Activations
from workbench.activations.activations import concat_activations as concat_activations
from workbench.activations.activations import cut_head as cut_head
from workbench.activations.activations import head_name as head_name
from workbench.activations.activations import head_slice as head_slice
from workbench.activations.spec import Cost as Cost
from workbench.activations.spec import StoreSpec as StoreSpec
from workbench.activations.spec import bytes_needed as bytes_needed
from workbench.activations.spec import free_memory as free_memory
from workbench.activations.store import ActivationStore as ActivationStore
from workbench.activations.store import UnusableStore as UnusableStore
from workbench.activations.store import open_activations as open_activations
from workbench.activations.store import share_done as share_done
