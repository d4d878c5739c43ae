"""Reading labels and numbers from the residual stream: probes with held-out scores, and maps."""

from workbench.probing.crossval import HeldOut as HeldOut
from workbench.probing.crossval import cross_validate as cross_validate
from workbench.probing.directions import decoder_rows as decoder_rows
from workbench.probing.directions import directions_by as directions_by
from workbench.probing.fit import fit_multilabel as fit_multilabel
from workbench.probing.fit import fit_probes as fit_probes
from workbench.probing.fit import fit_regression as fit_regression
from workbench.probing.probe import LabelProbe as LabelProbe
from workbench.probing.probe import LabelScores as LabelScores
from workbench.probing.probe import LabelSweep as LabelSweep
from workbench.probing.probe import NumberProbe as NumberProbe
from workbench.probing.probe import NumberScores as NumberScores
from workbench.probing.probe import NumberSweep as NumberSweep
from workbench.probing.probe import Probe as Probe
from workbench.probing.probe import ProbeSweep as ProbeSweep
from workbench.probing.projection import Projection as Projection
from workbench.probing.projection import project as project
from workbench.probing.projection import project_layers as project_layers
from workbench.probing.solvers import PROBE_METHODS as PROBE_METHODS
from workbench.probing.solvers import ProbeMethod as ProbeMethod
from workbench.probing.solvers import register_probe_method as register_probe_method
from workbench.probing.solvers import regularization_path as regularization_path
from workbench.probing.solvers import regularization_paths as regularization_paths
from workbench.stats import Scores as Scores
from workbench.stats import accuracy_interval as accuracy_interval
