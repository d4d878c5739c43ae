"""One colour-blind-safe colour per genre, the same in every figure, player and panel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from workbench.sound.labels import in_order

# Okabe and Ito's colour-blind-safe palette, one colour per genre everywhere.
GENRE_COLOURS: Mapping[str, str] = MappingProxyType(
    {
        "classical": "#0072B2",
        "jazz": "#E69F00",
        "electronic": "#CC79A7",
        "rock": "#D55E00",
        "country": "#009E73",
        "reggae": "#56B4E9",
    }
)
UNSTEERED = "#777777"
# Labels beyond the six genres: the palette's last colour, then darker shades that stay apart in grey scale.
OTHERS = ("#8A7A00", "#4B2E83", "#882255", "#332288", "#117733", "#661100", "#44AA99", "#AA4499")


def colours_for(labels: Iterable[object]) -> dict[str, str]:
    """Return one colour per label: fixed for genres and "unsteered", the cycle in rising order for others."""
    names = in_order(str(label) for label in labels)
    fixed = {**GENRE_COLOURS, "unsteered": UNSTEERED}
    others = [name for name in names if name not in fixed]
    cycle = OTHERS if any(name in fixed for name in names) else (*GENRE_COLOURS.values(), *OTHERS)
    chosen = {name: cycle[i % len(cycle)] for i, name in enumerate(others)}
    return {name: fixed.get(name) or chosen[name] for name in names}


def colours_of_clips(names: Iterable[str]) -> dict[str, str]:
    """Return one colour per clip: grey for the unsteered, else the first genre named, else the cycle.

    A steered clip is named by its plan ("0.6*jazz@3"), so player, bars and waveforms agree untold.
    """
    chosen = {name: _colour_of_clip(name.lower()) for name in names}
    others = colours_for(name for name, colour in chosen.items() if colour is None)
    return {name: colour or others[name] for name, colour in chosen.items()}


def _colour_of_clip(name: str) -> str | None:
    if name.startswith(("unsteered", "before")):
        return UNSTEERED
    places = {name.find(genre): colour for genre, colour in GENRE_COLOURS.items() if genre in name}
    return places[min(places)] if places else None
