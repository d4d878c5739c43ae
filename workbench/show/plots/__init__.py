"""Values to plotly figures, all in one visual grammar; nothing here fits, generates or plays."""

from workbench.show.plots.diagnosis import cosines, diagnosis_figure, score_over_time
from workbench.show.plots.grammar import GENRE_COLOURS, UNSTEERED, colours_for
from workbench.show.plots.maps import map_scatter
from workbench.show.plots.probing import accuracy_per_layer, confusion, trail_accuracy, trail_cosines
from workbench.show.plots.sound import piano_roll, spectrogram, waveform
from workbench.show.plots.steering import (
    crosstalk_matrix,
    dose_response,
    fusion_line,
    judged_genres,
    judged_table,
    take_scores,
)

__all__ = [
    "GENRE_COLOURS",
    "UNSTEERED",
    "accuracy_per_layer",
    "colours_for",
    "confusion",
    "cosines",
    "crosstalk_matrix",
    "diagnosis_figure",
    "dose_response",
    "fusion_line",
    "judged_genres",
    "judged_table",
    "map_scatter",
    "piano_roll",
    "score_over_time",
    "spectrogram",
    "take_scores",
    "trail_accuracy",
    "trail_cosines",
    "waveform",
]
