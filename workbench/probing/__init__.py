"""Reading labels and numbers from the residual stream: probes with held-out scores, and maps."""

from workbench.probing.crossval import HeldOut, cross_validate
from workbench.probing.fit import fit_probes
from workbench.probing.multilabel import fit_multilabel
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
from workbench.probing.regression import fit_regression
from workbench.probing.solvers import regularization_path, regularization_paths
from workbench.stats import Scores, accuracy_interval

__all__ = [
    "HeldOut",
    "LabelProbe",
    "LabelScores",
    "LabelSweep",
    "NumberProbe",
    "NumberScores",
    "NumberSweep",
    "Probe",
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
    "regularization_path",
    "regularization_paths",
]
