"""Published figures belong to the files that are committed; other weights make this fail."""

import json

from workbench.embedded.card import BEGIN, END, figures_text
from workbench.embedded.evaluate import FIGURES, stamp
from workbench.model.folders import builtin_folder

DATA = builtin_folder().parent


def published() -> dict:
    return json.loads((DATA / FIGURES).read_text())


def test_figures_were_measured_on_the_committed_weights_music_and_judge():
    assert published()["stamp"] == stamp(DATA), "run `make verify` and commit what it writes"


def test_the_model_card_quotes_the_measured_figures():
    text = (DATA / "MODEL_CARD.md").read_text().split(BEGIN)[1].split(END)[0]
    assert text.strip() == figures_text(published()).strip()


def test_the_built_in_model_clears_the_bars_that_the_card_claims():
    report = published()
    assert report["prompted"]["all"]["value"] >= 0.60
    assert report["steered"]["value"] >= 0.70
    assert report["random"]["value"] <= 0.30
    assert report["speed"]["seconds_for_5_s"] <= 5
    assert report["receipts_ok"]
