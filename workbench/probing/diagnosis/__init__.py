"""Diagnoses of a probe: whether it reads what its name says, from what is really there.

Every diagnosis is a function of what `evaluate_probe` returns. `diagnose` runs all that its inputs allow;
`score_over_time` and `ridge_to_means` are asked for alone.
"""

from workbench.probing.diagnosis.baselines import Baselines as Baselines
from workbench.probing.diagnosis.baselines import ControlTask as ControlTask
from workbench.probing.diagnosis.baselines import baselines as baselines
from workbench.probing.diagnosis.baselines import codec_histogram as codec_histogram
from workbench.probing.diagnosis.baselines import control_task as control_task
from workbench.probing.diagnosis.baselines import random_weights as random_weights
from workbench.probing.diagnosis.baselines import sound_statistics as sound_statistics
from workbench.probing.diagnosis.baselines import text_embedding as text_embedding
from workbench.probing.diagnosis.baselines import untrained as untrained
from workbench.probing.diagnosis.evaluation import Diagnosis as Diagnosis
from workbench.probing.diagnosis.evaluation import ProbeEvaluation as ProbeEvaluation
from workbench.probing.diagnosis.evaluation import evaluate_probe as evaluate_probe
from workbench.probing.diagnosis.faults import ClassImbalance as ClassImbalance
from workbench.probing.diagnosis.faults import Confound as Confound
from workbench.probing.diagnosis.faults import GroupLeak as GroupLeak
from workbench.probing.diagnosis.faults import LabelNoise as LabelNoise
from workbench.probing.diagnosis.faults import LearningCurve as LearningCurve
from workbench.probing.diagnosis.faults import TextLeak as TextLeak
from workbench.probing.diagnosis.faults import Transfer as Transfer
from workbench.probing.diagnosis.faults import class_imbalance as class_imbalance
from workbench.probing.diagnosis.faults import confound as confound
from workbench.probing.diagnosis.faults import group_leak as group_leak
from workbench.probing.diagnosis.faults import label_noise as label_noise
from workbench.probing.diagnosis.faults import learning_curve as learning_curve
from workbench.probing.diagnosis.faults import text_leak as text_leak
from workbench.probing.diagnosis.faults import transfer as transfer
from workbench.probing.diagnosis.report import Finding as Finding
from workbench.probing.diagnosis.report import ProbeReport as ProbeReport
from workbench.probing.diagnosis.report import diagnose as diagnose
from workbench.probing.diagnosis.views import AccuracyByLayer as AccuracyByLayer
from workbench.probing.diagnosis.views import Calibration as Calibration
from workbench.probing.diagnosis.views import Confusion as Confusion
from workbench.probing.diagnosis.views import DirectionStability as DirectionStability
from workbench.probing.diagnosis.views import RidgeToMeans as RidgeToMeans
from workbench.probing.diagnosis.views import ScoreOverTime as ScoreOverTime
from workbench.probing.diagnosis.views import accuracy_by_layer as accuracy_by_layer
from workbench.probing.diagnosis.views import calibration as calibration
from workbench.probing.diagnosis.views import confusion as confusion
from workbench.probing.diagnosis.views import cosine_classes as cosine_classes
from workbench.probing.diagnosis.views import cosine_layers as cosine_layers
from workbench.probing.diagnosis.views import direction_stability as direction_stability
from workbench.probing.diagnosis.views import ridge_to_means as ridge_to_means
from workbench.probing.diagnosis.views import score_over_time as score_over_time
from workbench.stats import Estimate as Estimate
from workbench.stats import holm as holm
