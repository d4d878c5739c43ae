"""Values to plotly figures, all in one visual grammar; nothing here fits, generates or plays."""

from workbench.show.plots.diagnosis import cosines, diagnosis_figure, score_over_time
from workbench.show.plots.grammar import GENRE_COLOURS, UNSTEERED, colours_for
from workbench.show.plots.maps import map_scatter
from workbench.show.plots.probing import accuracy_per_layer, confusion, path_accuracy, path_cosines
from workbench.show.plots.sound import piano_roll, spectrogram, waveform
from workbench.show.plots.steering import (
    blend_line,
    crosstalk_matrix,
    dose_response,
    judged_genres,
    judged_table,
    take_scores,
)

__all__ = [
    "GENRE_COLOURS",
    "UNSTEERED",
    "accuracy_per_layer",
    "blend_line",
    "colours_for",
    "confusion",
    "cosines",
    "crosstalk_matrix",
    "diagnosis_figure",
    "dose_response",
    "judged_genres",
    "judged_table",
    "map_scatter",
    "path_accuracy",
    "path_cosines",
    "piano_roll",
    "score_over_time",
    "spectrogram",
    "take_scores",
    "waveform",
]
