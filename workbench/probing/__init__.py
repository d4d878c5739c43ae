"""Reading labels and numbers from the residual stream: probes with held-out scores, and maps."""

from workbench.probing.crossval import HeldOut, cross_validate
from workbench.probing.fit import fit_multilabel, fit_probes, fit_regression
from workbench.probing.methods import PROBE_METHODS, ProbeMethod, register_probe_method
from workbench.probing.probe import (
    LabelProbe,
    LabelScores,
    LabelSweep,
    NumberProbe,
    NumberScores,
    NumberSweep,
    Probe,
    ProbeSweep,
)
from workbench.probing.projection import Projection, project, project_layers
from workbench.probing.solvers import regularization_path, regularization_paths
from workbench.stats import Scores, accuracy_interval

__all__ = [
    "PROBE_METHODS",
    "HeldOut",
    "LabelProbe",
    "LabelScores",
    "LabelSweep",
    "NumberProbe",
    "NumberScores",
    "NumberSweep",
    "Probe",
    "ProbeMethod",
    "ProbeSweep",
    "Projection",
    "Scores",
    "accuracy_interval",
    "cross_validate",
    "fit_multilabel",
    "fit_probes",
    "fit_regression",
    "project",
    "project_layers",
    "register_probe_method",
    "regularization_path",
    "regularization_paths",
]
