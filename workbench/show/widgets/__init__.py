"""Panels for notebooks: figures, players, long work, map, probe and steering views, labs, the live desk."""

from workbench.generation.live.pacing import held_back as held_back
from workbench.show.widgets.fader import BlendPad as BlendPad
from workbench.show.widgets.history import TakeHistory as TakeHistory
from workbench.show.widgets.live_desk import LiveDesk as LiveDesk
from workbench.show.widgets.panels import MapPanel as MapPanel
from workbench.show.widgets.panels import PatchPanel as PatchPanel
from workbench.show.widgets.panels import ProbePanel as ProbePanel
from workbench.show.widgets.panels import SteerPanel as SteerPanel
from workbench.show.widgets.players import ComparisonPlayer as ComparisonPlayer
from workbench.show.widgets.players import LivePlayer as LivePlayer
from workbench.show.widgets.players import StreamPlayer as StreamPlayer
from workbench.show.widgets.probe_lab import BrokenProbes as BrokenProbes
from workbench.show.widgets.probe_lab import ProbeLab as ProbeLab
from workbench.show.widgets.steer_lab import SteerLab as SteerLab
from workbench.show.widgets.takes import TakeComparison as TakeComparison
from workbench.show.widgets.takes import compare as compare
from workbench.show.widgets.ui import Job as Job
from workbench.show.widgets.ui import JobPanel as JobPanel
from workbench.show.widgets.ui import PlotPanel as PlotPanel
