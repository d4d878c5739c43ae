"""What goes in: clips, labelled datasets, splits that never cut a group, and a lint for datasets."""

from workbench.sound.clip import Clip
from workbench.sound.dataset import Dataset, Entry
from workbench.sound.lint import Finding, LintReport, lint, measures
from workbench.sound.loaders import FileReader, from_csv, from_fma, from_folder, from_gtzan
from workbench.sound.read import read_clip
from workbench.sound.splits import grouped_folds

__all__ = [
    "Clip",
    "Dataset",
    "Entry",
    "FileReader",
    "Finding",
    "LintReport",
    "from_csv",
    "from_fma",
    "from_folder",
    "from_gtzan",
    "grouped_folds",
    "lint",
    "measures",
    "read_clip",
]
