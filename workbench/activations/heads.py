"""Single attention heads: where a head's numbers lie in a row of the site `head_out`, and its name.

`head_out` is what the heads give to the output projection, before it mixes them: a row of d_model numbers in
which head 0 has the first d_model / n_heads, head 1 the next, and so on.
"""

from __future__ import annotations

from dataclasses import replace

from workbench.activations.spec import refusal
from workbench.activations.values import Activations

HEAD_SITE = "head_out"


def head_slice(d_model: int, n_heads: int, head: int) -> slice:
    """Return where head `head` of `n_heads` lies in a row of `d_model` numbers.

    Raises:
        ActivationsError: there is no such head, or the heads do not divide the row.
    """
    if n_heads < 1 or d_model % n_heads or not 0 <= head < n_heads:
        raise refusal(
            f"Head {head} was asked for",
            f"there are heads 0-{n_heads - 1} in rows of {d_model} numbers",
            "Use one of these",
        )
    width = d_model // n_heads
    return slice(head * width, (head + 1) * width)


def head_name(layer: int, head: int) -> str:
    """Return the usual name of a head.

    >>> head_name(5, 3)
    'L5H3'
    """
    return f"L{layer}H{head}"


def cut_head(acts: Activations, head: int, *, n_heads: int | None = None) -> Activations:
    """Return one head of every layer: the site `head_out` alone, with d_model / n_heads features.

    Probes are fitted to it as to any other: `fit_probes(cut_head(acts, 3), site="head_out")`.

    Args:
        acts: activations that hold `head_out`.
        head: 0-based number of the head.
        n_heads: heads of a block; what the capture wrote down when None.

    Raises:
        ActivationsError: `head_out` is not held, the number of heads is not known, or there is no such head.
    """
    known = acts.data.attrs.get("n_heads") if n_heads is None else n_heads
    if HEAD_SITE not in acts.sites or known is None:
        raise refusal(
            f"Head {head} was asked for",
            f"the sites are {', '.join(acts.sites)}, with {known or 'an unknown number of'} heads",
            f"Capture with sites=({HEAD_SITE!r},)",
        )
    part = acts.data.isel(feature=head_slice(acts.d_model, int(known), head))
    others = [site for site in acts.sites if site != HEAD_SITE]
    return replace(acts, data=part.drop_vars(others).assign_attrs(head=head))
