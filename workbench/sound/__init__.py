"""What goes in: clips, labelled datasets, splits that never cut a group, and a lint for datasets."""

from workbench.sound.clip import Clip as Clip
from workbench.sound.dataset import Dataset as Dataset
from workbench.sound.dataset import Entry as Entry
from workbench.sound.dataset import grouped_folds as grouped_folds
from workbench.sound.lint import Finding as Finding
from workbench.sound.lint import LintReport as LintReport
from workbench.sound.lint import lint as lint
from workbench.sound.lint import measures as measures
from workbench.sound.loaders import FileReader as FileReader
from workbench.sound.loaders import from_csv as from_csv
from workbench.sound.loaders import from_fma as from_fma
from workbench.sound.loaders import from_folder as from_folder
from workbench.sound.loaders import from_gtzan as from_gtzan
from workbench.sound.read import read_clip as read_clip
