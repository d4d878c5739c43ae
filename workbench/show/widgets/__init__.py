"""Panels for notebooks: figures, players, long work, map, probe and steering views, labs, the live desk."""

from workbench.generation.live.pacing import held_back
from workbench.show.widgets.base import Job, JobPanel, PlotPanel
from workbench.show.widgets.history import TakeHistory
from workbench.show.widgets.live_desk import LiveDesk
from workbench.show.widgets.map_panel import MapPanel
from workbench.show.widgets.panels import ProbePanel, SteerPanel
from workbench.show.widgets.players import ComparisonPlayer, LivePlayer, StreamPlayer
from workbench.show.widgets.probe_lab import BrokenProbes, ProbeLab
from workbench.show.widgets.steer_lab import BlendPad, SteerLab
from workbench.show.widgets.takes import TakeComparison, compare

__all__ = [
    "BlendPad",
    "BrokenProbes",
    "ComparisonPlayer",
    "Job",
    "JobPanel",
    "LiveDesk",
    "LivePlayer",
    "MapPanel",
    "PlotPanel",
    "ProbeLab",
    "ProbePanel",
    "SteerLab",
    "SteerPanel",
    "StreamPlayer",
    "TakeComparison",
    "TakeHistory",
    "compare",
    "held_back",
]
