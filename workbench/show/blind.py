"""Blind listening: steered, unsteered and randomly pushed clips in one page, and what listeners said of them.

The page works offline, on a phone too. It does not say which clip is which: that stands in `key.json`.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from workbench.errors import EvidenceError
from workbench.evidence.trials import UNSTEERED, Trial, make_takes
from workbench.files import write_atomically
from workbench.model.musicgen import NEUTRAL_PROMPTS, Model
from workbench.show.page import LISTENED_HZ, player_html, render
from workbench.stats import interval, point_estimate, rate_over_groups, roc_auc
from workbench.steering import Steering, random_direction

STEERED, RANDOM = "steered", "random"
KINDS, LETTERS, ALL = (STEERED, UNSTEERED, RANDOM), "ABC", "all"
FIRST_SEED = 2000  # other seeds than those that chose a dose or were reported
MANY = 5  # listeners; from here on intervals are for new listeners, below for new triples
QUESTIONS = {"most": "most like the genre", "liked": "liked best"}


def blind_test(
    model: Model, plans: Mapping[str, Steering], folder: Path | str, *, triples: int = 12,
    prompts: Sequence[str] = NEUTRAL_PROMPTS, seconds: float = 5.0, random_state: int | None = None,
    progress: bool = True,
) -> Path:  # fmt: skip
    """Return the path of `folder`/listen.html, after writing it and, beside it, `key.json`.

    Each triple has one prompt and seed: steered, unsteered, and pushed along random directions at the same
    doses, in random order. Send the page alone, keep the key: `blind_results` reads both.

    Args:
        model: the model.
        plans: genre -> plan, one at least, else an EvidenceError; triples take the genres in turn.
        folder: where both files go; a DiskError where it cannot be written.
        triples: how many (1 or more); a listener needs about half a minute for each.
        prompts: taken in turn, triple by triple.
        seconds: length of each clip.
        random_state: of the order; by default another one every time.
        progress: whether to show a progress bar.

    >>> blind_test(model, {"jazz": jazz.at(0.2)}, "out/blind")  # doctest: +SKIP
    >>> blind_test(None, {}, "out/blind")
    Traceback (most recent call last):
    workbench.errors.EvidenceError: A blind test was asked for, but there are 0 plans and 12 triples. ...
    """
    if not plans or triples < 1:
        found = f"there are {len(plans)} plans and {triples} triples"
        raise EvidenceError("A blind test was asked for", found, "Give at least one of each")
    rng = np.random.default_rng(random_state)
    aims = rng.permutation([list(plans)[i % len(plans)] for i in range(triples)]).tolist()
    some, rows = [], []
    for number, aim in enumerate(aims):
        seed, prompt = FIRST_SEED + number, prompts[number % len(prompts)]
        terms = [replace(one, direction=random_direction(one.direction, seed)) for one in plans[aim].terms]
        pushes = {STEERED: plans[aim], UNSTEERED: None, RANDOM: Steering(tuple(terms))}
        for letter, kind in zip(LETTERS, rng.permutation(KINDS).tolist(), strict=True):
            some.append(Trial(prompt, seed, pushes[kind], kind, aim))
            rows.append({"triple": str(number + 1), "clip": letter, "aim": aim, "kind": kind, "seed": seed})
    takes = make_takes(model, some, seconds=seconds, progress=progress)
    clips = [take.clip.resample(min(take.clip.rate_hz, LISTENED_HZ)) for take in takes]
    labels = [f"{row['triple']}{row['clip']}" for row in rows]
    sounds = zip(rows, map(player_html, clips, labels), strict=True)
    test, target = secrets.token_hex(4), Path(folder)
    write_atomically(target / "key.json", json.dumps({"test": test, "clips": rows}, indent=1).encode())
    page = render("listen.html", test=test, clips=[*sounds], genres=sorted(plans))
    return write_atomically(target / "listen.html", page.encode())


def blind_results(answers: Sequence[Path | str], key: Path | str) -> pd.DataFrame:
    """Return what listeners said: per genre, and for all, shares and AUC with 95 % intervals.

    Columns: genre, question, kind, value, low, high, n, chance. Of "most like the genre" and "liked best" the
    value is the share of triples in which this kind was chosen; of "AUC" the chance that a steered clip
    scores above one of the others (a point where the genre was named, one where it was chosen as most like).
    From five listeners on intervals draw listeners, below they draw triples.

    `answers` are the CSV files that the page saved, `key` is the `key.json` that was written beside it. An
    EvidenceError where there is no answer, or one belongs to another test.
    """
    about, tables = json.loads(Path(key).read_text("utf-8")), []
    for path in map(Path, answers):
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        tables.append(table.assign(listener=table["listener"].where(table["listener"] != "", path.stem)))
    rows = pd.concat(tables) if tables else pd.DataFrame({"test": [], "most": []})
    strange = sorted(set(rows["test"]) - {about["test"]})
    if strange or not (rows["most"] != "").any():
        found = f"they are of {', '.join(strange)}" if strange else "nothing was answered"
        asked = f"Answers to the test {about['test']} were to be read"
        raise EvidenceError(asked, found, "Give its CSV files")
    rows = rows.drop_duplicates(["listener", "triple", "clip"], keep="last")
    rows = rows.merge(pd.DataFrame(about["clips"]), on=["triple", "clip"])
    rows["group"] = rows["listener"]
    if rows["listener"].nunique() < MANY:
        rows["group"] += " " + rows["triple"]
    parts = {**dict(list(rows.groupby("aim"))), ALL: rows}
    return pd.DataFrame([line for aim, part in parts.items() for line in _lines(str(aim), part)])


def _lines(aim: str, rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a row per question and kind."""
    found = []
    for column, question in QUESTIONS.items():
        asked = rows[rows[column] != ""]
        for kind, part in asked.groupby("kind"):
            one = rate_over_groups((part[column] == "1").to_numpy(), part["group"].to_numpy())
            shares = {"value": one.value, "low": one.low, "high": one.high, "n": len(part), "chance": 1 / 3}
            found.append({"genre": aim, "question": question, "kind": kind, **shares})
    heard = rows[rows["most"] != ""]
    score = (heard["genre"] == heard["aim"]).to_numpy(float) + (heard["most"] == "1").to_numpy(float)
    if len(heard):
        figure = roc_auc((heard["kind"] == STEERED).to_numpy(), score)
        low, high = interval(figure, heard["group"].to_numpy())
        value = {"value": point_estimate(figure, len(heard)), "low": low, "high": high, "n": len(heard)}
        found.append({"genre": aim, "question": "AUC", "kind": STEERED, **value, "chance": 0.5})
    return found
