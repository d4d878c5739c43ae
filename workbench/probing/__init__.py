"""Reading labels from the residual stream: probes with held-out scores, and maps of activations."""

from workbench.probing.fit import fit_probes
from workbench.probing.probe import Probe
from workbench.probing.projection import Projection, project
from workbench.probing.scores import Scores, accuracy_interval
from workbench.probing.sweep import ProbeSweep

__all__ = ["Probe", "ProbeSweep", "Projection", "Scores", "accuracy_interval", "fit_probes", "project"]
