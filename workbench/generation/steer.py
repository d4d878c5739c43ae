"""One nnsight trace around a whole generation, in which vectors enter the residual stream.

Places are visited in the order in which the model computes: nnsight would bind a late request to the next
step without a warning. The loop has an exact bound: code after an open one never runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from workbench.generation.edits import Edit, Sliders, StepGains
from workbench.generation.receipt import ReceiptWriter
from workbench.model.musicgen import Model
from workbench.model.network import Place, in_order, live
from workbench.model.sampling import Sampling

Begun = Callable[[ReceiptWriter, Mapping[Place, list[torch.Tensor]]], object]
"""Called before the first step with what is measured and read as the run goes on."""


def run_steered(
    model: Model,
    run: Sampling,
    edits: Mapping[Place, Sequence[Edit]],
    watched: Sequence[Place] = (),
    sliders: Sliders | None = None,
    *,
    begun: Begun | None = None,
) -> tuple[ReceiptWriter, dict[Place, torch.Tensor]]:
    """Draw the codes of `run` (into `run.codes`), steering every visit of the decoder as `edits` say.

    A continuation's first visit reads the given frames all at once; only its last position is edited and
    watched. What visit v draws is step v of the new part.

    The edits are laid out for `run.visits` steps. Sliders may be moved meanwhile, and keep what gates read.

    Returns:
        The measured changes, and what the conditional rows were at each `watched` place, after steering:
        (visits, B, d_model) in float32.

    Raises:
        Cancelled: When `run.cancel` was set.
        ModelError: When the model is already running on this thread.
    """
    network, batch = model.network, run.batch
    gains = StepGains(sliders or Sliders(), edits, run, model.frame_rate_hz)
    receipt = ReceiptWriter(gains)
    seen: dict[Place, list[torch.Tensor]] = {place: [] for place in watched}
    gated = gains.places
    places = in_order([*edits, *watched, *gated])
    if begun is not None:
        begun(receipt, seen)
    with model.exclusive(), network.sample(run) as tracer:
        for step in tracer.iter[: run.visits]:
            for place in places:
                stream = live(network, place)[:, -1:]  # (rows, 1, d_model): a view of the model's own tensor
                gains.begin(step)
                for edit in edits.get(place, ()):
                    active = edit.active[step]
                    if active is not None:
                        indices, rows = active
                        before = stream[rows]
                        after = edit.after(before, indices, gains.at(edit, step, indices))
                        # Here the vector enters the residual stream.
                        stream[rows] = after
                        receipt.measure(edit, step, indices, before=before, meant=after, now=stream[rows])
                if place in seen:
                    seen[place].append(stream[:batch, 0].float().clone())
                if place in gated:
                    gains.read(place, stream[:batch, 0])
    return receipt, {place: torch.stack(rows) for place, rows in seen.items()}
