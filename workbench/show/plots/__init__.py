"""Values to plotly figures, all in one visual grammar; nothing here fits, generates or plays."""

from workbench.show.colours import GENRE_COLOURS, UNSTEERED, colours_for
from workbench.show.plots.comparisons import crosstalk_matrix, fusion_line
from workbench.show.plots.diagnosis import cosines, diagnosis_figure, score_over_time
from workbench.show.plots.maps import map_scatter
from workbench.show.plots.probing import accuracy_per_layer, confusion
from workbench.show.plots.score import piano_roll
from workbench.show.plots.sound import spectrogram, waveform
from workbench.show.plots.steering import dose_response, judged_genres, judged_table
from workbench.show.plots.takes import take_scores
from workbench.show.plots.trail import trail_accuracy, trail_cosines

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
