"""The heart: one nnsight trace around a whole generation, in which vectors enter the residual stream.

Visits are made in the order in which the model computes (layers ascending, then sites): nnsight would bind
a late request to the next step without a warning. The loop has an exact bound: code after an open one never
runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from workbench.generation.cells import Edit
from workbench.generation.receipt import ReceiptWriter
from workbench.model.musicgen import Model
from workbench.model.sampling import Sampling
from workbench.model.sites import Place, in_order, live


def run_steered(
    model: Model,
    run: Sampling,
    edits: Mapping[Place, Sequence[Edit]],
    watched: Sequence[Place] = (),
) -> tuple[ReceiptWriter, dict[Place, torch.Tensor]]:
    """Draw the codes of `run` (into `run.codes`), steering every step as `edits` say.

    Returns the measured changes, and what the conditional rows held at each `watched` place after steering:
    (steps, B, d_model) in fp32.

    Raises:
        Cancelled: When `run.cancel` was set.
        ModelError: When the model is already running on this thread.
    """
    network, receipt, steps, batch = model.network, ReceiptWriter(), run.steps, run.batch
    seen: dict[Place, list[torch.Tensor]] = {place: [] for place in watched}
    places = in_order([*edits, *watched])
    with model.exclusive(), network.sample(run) as tracer:
        for step in tracer.iter[:steps]:
            for place in places:
                stream = live(network, place)  # (rows, 1, d_model): the model's own tensor, not a copy
                for edit in edits.get(place, ()):
                    if (acting := edit.groups[step]) is not None:
                        lanes, rows = acting
                        before = stream[rows]
                        after = edit.after(before, lanes, step)
                        # ===> Here the steering vector enters the residual stream, in place. <===
                        stream[rows] = after
                        receipt.measure(edit, step, before=before, meant=after, now=stream[rows])
                if place in seen:
                    seen[place].append(stream[:batch, 0].float().clone())
    return receipt, {place: torch.stack(rows) for place, rows in seen.items()}
