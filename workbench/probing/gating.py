"""From a probe's read-out to a gate: what probes of every kind say alike."""

from __future__ import annotations

from workbench.errors import ProbeError
from workbench.steering import Gate, ReadOut


def one_sided(read_out: ReadOut, name: str, below: float | None, above: float | None, over: float) -> Gate:
    """Return the gate on P(`name`) with the one threshold that is given.

    over  how many seconds of readings are averaged
    Raises ProbeError unless one threshold is given, SteeringError for a name that is not known.
    """
    if below is not None and above is None:
        return Gate(read_out, name, "below", below, over)
    if above is not None and below is None:
        return Gate(read_out, name, "above", above, over)
    found = f"below={below} and above={above} were given"
    raise ProbeError(f"A gate on {name!r} was asked for", found, "Give one of both")
