"""Diagnoses of a probe: whether it reads what its name says, from what is really there.

`examine` makes a case of a probe; every diagnosis is a function of the case that returns a small value with
its numbers, an effect in the unit of the fault, a p-value where something is tested, and a sentence.
`diagnose` runs them all.
"""

from workbench.probing.diagnosis.baseline_features import (
    codec_histogram,
    random_weights,
    sound_statistics,
    text_embedding,
    untrained,
)
from workbench.probing.diagnosis.baselines import Baselines, baselines
from workbench.probing.diagnosis.battery import diagnose
from workbench.probing.diagnosis.calibration import Calibration, calibration
from workbench.probing.diagnosis.case import Case, examine
from workbench.probing.diagnosis.confound import Confound, confound
from workbench.probing.diagnosis.confusion import Confusion, confusion
from workbench.probing.diagnosis.control_task import ControlTask, control_task
from workbench.probing.diagnosis.directions import (
    DirectionStability,
    cosine_classes,
    cosine_layers,
    direction_stability,
)
from workbench.probing.diagnosis.estimate import Estimate, holm
from workbench.probing.diagnosis.group_leak import GroupLeak, group_leak
from workbench.probing.diagnosis.imbalance import ClassImbalance, class_imbalance
from workbench.probing.diagnosis.label_noise import LabelNoise, label_noise
from workbench.probing.diagnosis.layers import AccuracyByLayer, accuracy_by_layer
from workbench.probing.diagnosis.learning_curve import LearningCurve, learning_curve
from workbench.probing.diagnosis.over_time import ScoreOverTime, score_over_time
from workbench.probing.diagnosis.report import Diagnosis, Finding, ProbeReport
from workbench.probing.diagnosis.ridge_to_means import RidgeToMeans, ridge_to_means
from workbench.probing.diagnosis.text_leak import TextLeak, text_leak
from workbench.probing.diagnosis.transfer import Transfer, transfer

__all__ = [
    "AccuracyByLayer",
    "Baselines",
    "Calibration",
    "Case",
    "ClassImbalance",
    "Confound",
    "Confusion",
    "ControlTask",
    "Diagnosis",
    "DirectionStability",
    "Estimate",
    "Finding",
    "GroupLeak",
    "LabelNoise",
    "LearningCurve",
    "ProbeReport",
    "RidgeToMeans",
    "ScoreOverTime",
    "TextLeak",
    "Transfer",
    "accuracy_by_layer",
    "baselines",
    "calibration",
    "class_imbalance",
    "codec_histogram",
    "confound",
    "confusion",
    "control_task",
    "cosine_classes",
    "cosine_layers",
    "diagnose",
    "direction_stability",
    "examine",
    "group_leak",
    "holm",
    "label_noise",
    "learning_curve",
    "random_weights",
    "ridge_to_means",
    "score_over_time",
    "sound_statistics",
    "text_embedding",
    "text_leak",
    "transfer",
    "untrained",
]
