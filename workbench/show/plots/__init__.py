"""Values to plotly figures, all in one visual grammar; nothing here fits, generates or plays."""

from workbench.show.plots.diagnosis import cosines as cosines
from workbench.show.plots.diagnosis import diagnosis_figure as diagnosis_figure
from workbench.show.plots.diagnosis import score_over_time as score_over_time
from workbench.show.plots.grammar import GENRE_COLOURS as GENRE_COLOURS
from workbench.show.plots.grammar import UNSTEERED as UNSTEERED
from workbench.show.plots.grammar import colours_for as colours_for
from workbench.show.plots.probing import accuracy_per_layer as accuracy_per_layer
from workbench.show.plots.probing import confusion as confusion
from workbench.show.plots.probing import map_scatter as map_scatter
from workbench.show.plots.probing import path_accuracy as path_accuracy
from workbench.show.plots.probing import path_cosines as path_cosines
from workbench.show.plots.sound import piano_roll as piano_roll
from workbench.show.plots.steering import beside_controls as beside_controls
from workbench.show.plots.steering import blend_line as blend_line
from workbench.show.plots.steering import crosstalk_matrix as crosstalk_matrix
from workbench.show.plots.steering import direct_heat as direct_heat
from workbench.show.plots.steering import dose_of_aim as dose_of_aim
from workbench.show.plots.steering import dose_response as dose_response
from workbench.show.plots.steering import frontier as frontier
from workbench.show.plots.steering import judged_genres as judged_genres
from workbench.show.plots.steering import judged_table as judged_table
from workbench.show.plots.steering import patch_heat as patch_heat
from workbench.show.plots.steering import reads_and_acts as reads_and_acts
from workbench.show.plots.steering import take_scores as take_scores
