"""A probe over time: what it says of each frame or window of a clip, with seconds, to draw under a player."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from workbench.errors import ProbeError
from workbench.probing.probe import Probe

if TYPE_CHECKING:
    from workbench.activations import Activations

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class ScoreOverTime:
    """P(class) along each clip.

    clips          (n,) ids; `classes` (k,)
    seconds        (n, t) where each frame or window starts; NaN behind a clip's end
    probabilities  (n, t, k), NaN likewise
    """

    target: str
    layer: int
    clips: tuple[str, ...]
    classes: tuple[str, ...]
    seconds: Array
    probabilities: Array

    def table(self, clip: str | None = None) -> pd.DataFrame:
        """Return one row per clip and moment: clip, seconds, and P of each class in a column of its name."""
        chosen = range(len(self.clips)) if clip is None else [self._position(clip)]
        parts = []
        for position in chosen:
            held = np.isfinite(self.seconds[position])
            part = pd.DataFrame(self.probabilities[position][held], columns=list(self.classes))
            part.insert(0, "seconds", self.seconds[position][held])
            part.insert(0, "clip", self.clips[position])
            parts.append(part)
        return pd.concat(parts, ignore_index=True)

    @property
    def effect(self) -> float:
        """Share of moments at which the class that leads is not the one that leads over the whole clip."""
        held = np.isfinite(self.seconds)
        leads = np.where(held, np.nan_to_num(self.probabilities).argmax(2), -1)
        whole = np.nanmean(self.probabilities, axis=1).argmax(1)
        return float((leads != whole[:, None])[held].mean())

    @property
    def p_value(self) -> None:
        """None: nothing is tested."""
        return

    def sentence(self) -> str:
        """Return what was found, with its number."""
        return (
            f"Over {len(self.clips)} clips the probe of layer {self.layer} names, at {self.effect:.0%} of "
            f"the moments, another {self.target} than over the whole clip."
        )

    def _position(self, clip: str) -> int:
        if clip not in self.clips:
            found = f"there are {', '.join(self.clips[:3])} and others, {len(self.clips)} in all"
            raise ProbeError(f"The clip {clip!r} was asked for", found, "Use one of .clips")
        return self.clips.index(clip)


def score_over_time(acts: Activations, probe: Probe) -> ScoreOverTime:
    """Return what a probe says along each clip.

    acts   activations that keep their frames (capture with pool=None), or windows (coordinate `start_s`)
    probe  read at its layer and site; it was fitted on averages over longer stretches, so that single frames
           are noisier than what it knows

    Raises ProbeError for activations that are pooled over whole clips.
    """
    if acts.per_frame:
        clips, seconds, x = _frames(acts, probe)
    elif "start_s" in acts.data.coords:
        clips, seconds, x = _windows(acts, probe)
    else:
        found = "these activations are pooled over whole clips"
        do = "Capture with pool=None or with window=1.0"
        raise ProbeError("Scores over time were asked for", found, do)
    held = np.isfinite(seconds)
    shares = np.full((*seconds.shape, len(probe.classes)), np.nan)
    shares[held] = probe.predict_proba(x[held])
    return ScoreOverTime(probe.target, probe.layer, clips, probe.classes, seconds, shares)


def _frames(acts: Activations, probe: Probe) -> tuple[tuple[str, ...], Array, Array]:
    """Return clips (n,), seconds (n, t) and activations (n, t, d) of frames."""
    x = acts.frames(probe.layer, site=probe.site)
    rate_hz = float(acts.data.attrs.get("frame_rate_hz", 0))
    if rate_hz <= 0:
        found = "the activations do not say how many frames a second has"
        raise ProbeError("Scores in seconds were asked for", found, "Set the attribute frame_rate_hz")
    seconds = np.where(np.isfinite(x).all(2), np.arange(x.shape[1])[None] / rate_hz, np.nan)
    return tuple(acts.clips.tolist()), seconds, x


def _windows(acts: Activations, probe: Probe) -> tuple[tuple[str, ...], Array, Array]:
    """Return the same of windows: one clip's windows are samples of their own, put in order of time."""
    x, start_s = acts.matrix(probe.layer, site=probe.site), acts.coordinate("start_s").astype(float)
    clips, first, member = np.unique(acts.clips, return_index=True, return_inverse=True)
    most = int(np.bincount(member).max())
    seconds = np.full((len(clips), most), np.nan)
    stacked = np.zeros((len(clips), most, x.shape[1]))
    for clip in range(len(clips)):
        own = np.flatnonzero(member == clip)
        own = own[np.argsort(start_s[own], kind="stable")]
        seconds[clip, : len(own)], stacked[clip, : len(own)] = start_s[own], x[own]
    order = np.argsort(first)  # clips in the order in which they came
    return tuple(clips[order].tolist()), seconds[order], stacked[order]
