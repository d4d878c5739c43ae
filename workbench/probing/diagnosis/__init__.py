"""Diagnoses of a probe: whether it reads what its name says, from what is really there.

`evaluate_probe` examines a probe; every diagnosis is a function of the `ProbeEvaluation` that returns a small
value with its numbers, an effect in the unit of the fault, a p-value where something is tested, and a
sentence. `diagnose` runs them all.
"""

from workbench.probing.diagnosis.baselines import (
    Baselines,
    ControlTask,
    baselines,
    codec_histogram,
    control_task,
    random_weights,
    sound_statistics,
    text_embedding,
    untrained,
)
from workbench.probing.diagnosis.data_faults import (
    ClassImbalance,
    LabelNoise,
    LearningCurve,
    class_imbalance,
    label_noise,
    learning_curve,
)
from workbench.probing.diagnosis.evaluation import Diagnosis, ProbeEvaluation, evaluate_probe
from workbench.probing.diagnosis.leaks import (
    Confound,
    GroupLeak,
    TextLeak,
    Transfer,
    confound,
    group_leak,
    text_leak,
    transfer,
)
from workbench.probing.diagnosis.report import Finding, ProbeReport, diagnose
from workbench.probing.diagnosis.views import (
    AccuracyByLayer,
    Calibration,
    Confusion,
    DirectionStability,
    RidgeToMeans,
    ScoreOverTime,
    accuracy_by_layer,
    calibration,
    confusion,
    cosine_classes,
    cosine_layers,
    direction_stability,
    ridge_to_means,
    score_over_time,
)
from workbench.stats import Estimate, holm

__all__ = [
    "AccuracyByLayer",
    "Baselines",
    "Calibration",
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
    "ProbeEvaluation",
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
    "evaluate_probe",
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
