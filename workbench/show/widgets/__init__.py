"""Panels for notebooks: figures, players, long work, map, probe and steering views, labs, the live desk."""

from workbench.show.widgets.blend_pad import BlendPad
from workbench.show.widgets.consulting_room import ConsultingRoom
from workbench.show.widgets.job_panel import Job, JobPanel
from workbench.show.widgets.live_desk import LiveDesk
from workbench.show.widgets.live_player import LivePlayer
from workbench.show.widgets.map_panel import MapPanel
from workbench.show.widgets.player import ComparisonPlayer
from workbench.show.widgets.plot_panel import PlotPanel
from workbench.show.widgets.probe_lab import ProbeLab
from workbench.show.widgets.probe_panel import ProbePanel
from workbench.show.widgets.steer_lab import SteerLab
from workbench.show.widgets.steer_panel import SteerPanel
from workbench.show.widgets.stream_player import StreamPlayer, held_back
from workbench.show.widgets.take_comparison import TakeComparison, compare
from workbench.show.widgets.take_history import TakeHistory

__all__ = [
    "BlendPad",
    "ComparisonPlayer",
    "ConsultingRoom",
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
