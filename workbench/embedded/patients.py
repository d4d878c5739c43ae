"""Six probes that are broken, each in its own way, made from real captures of the built-in music.

A patient comes with its owner's claim, the figure of its owner's own evaluation, and all that the probe lab
needs to find out. Its cause is one of CAUSES; `diagnosed` in this module says in words whether an answer is
right. Everything is made by the same functions that a user has: what is broken is the data or its handling.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from workbench.activations import Activations
from workbench.errors import DatasetError, message
from workbench.model.capture import capture
from workbench.model.conditions import NAMING_TEXT, capture_conditions
from workbench.model.musicgen import Model
from workbench.probing import fit_probes
from workbench.show.exercises import Verdict
from workbench.sound import Clip, Dataset, Entry, measures

CAUSES: Mapping[str, str] = {
    "text leak": "the prompt named the genre while the activations were captured",
    "track leak": "clips of one groove stood on both sides of the split",
    "loudness": "the two classes were mastered at different levels",
    "imbalance": "one class has most of the clips, and accuracy flatters",
    "label noise": "15 % of the labels are wrong",
    "too few clips": "there are too few grooves to learn from",
}
CLUES: Mapping[str, str] = {
    "text leak": "look at the four texts under Leaks: which accuracy falls when the words are wrong?",
    "track leak": "compare the random split with the held-out grooves under Leaks",
    "loudness": "under Confounds, ask what the level in dB tells by itself",
    "imbalance": "under Numbers, compare accuracy with the mean recall",
    "label noise": "under Labels, listen to the hardest clips: do their labels fit?",
    "too few clips": "under Numbers, see whether the learning curve still rises",
}
NOISE, GAIN_DB, RATIO, FEW = 0.15, 9.0, 9, 5


@dataclass(frozen=True, eq=False)
class Patient:
    """A broken probe.

    name     "A" to "F"
    claim    what its owner says
    acts     activations with the label `target`, and with true grooves as groups
    songs    the clips' sound
    options  what the lab and `diagnose` are given besides: conditions, confounds, unit
    """

    name: str
    claim: str
    acts: Activations
    target: str
    songs: Dataset
    options: Mapping[str, Any]
    cause: str = field(repr=False)


@dataclass(frozen=True)
class _Louder:
    """Reads a clip of a dataset and changes its level by `gain_db[id]`."""

    songs: Dataset
    gain_db: Mapping[str, float]

    def __call__(self, entry: Entry) -> Clip:
        clip = self.songs.clip(entry.id)
        return Clip(clip.samples * np.float32(10 ** (self.gain_db[entry.id] / 20)), clip.rate_hz)


def patients(model: Model, songs: Dataset, *, seconds: float = 5.0, seed: int = 0) -> dict[str, Patient]:
    """Return the six patients by name, in an order that tells nothing.

    Args:
        model: whose residual stream is read.
        songs: labelled with genre and mood, at least ten clips of each genre in at least FEW grooves.
        seconds: of each clip that are used.
        seed: of everything that is drawn.
    """
    rng = np.random.default_rng(seed)
    options: dict[str, Any] = {"seconds": seconds, "progress": False}
    acts = capture(model, songs, **options)
    level = measures(songs, seconds=seconds)["level_db"]
    plain = {"confounds": {"level_db": level}, "unit": "groove"}
    made = [
        _text_leak(model, songs, plain, options),
        _track_leak(acts, songs, plain, rng),
        _loudness(model, songs, level, options, rng),
        _imbalance(acts, songs, level, rng),
        _label_noise(acts, songs, plain, rng),
        _too_few(acts, songs, level, rng),
    ]
    order = np.random.default_rng(seed + 1).permutation(len(made))
    return {name: replace(made[i], name=name) for name, i in zip("ABCDEF", order, strict=True)}


def diagnosed(patient: Patient, answer: str | None) -> Verdict:
    """Check which of CAUSES is wrong with a patient, and say why or where to look."""
    if answer is None:
        return Verdict(None, f"Name one of: {', '.join(CAUSES)}.")
    if answer not in CAUSES:
        return Verdict(False, f"{answer!r} is none of the six causes: {', '.join(CAUSES)}.")
    if answer == patient.cause:
        return Verdict(True, f"Patient {patient.name}: {CAUSES[answer]}.")
    tested = f"If it were {answer}, the lab would raise that alarm for patient {patient.name}"
    return Verdict(False, f"{tested}, and it does not. Another hint: {CLUES[patient.cause]}.")


def _labelled(acts: Activations, target: str, values: np.ndarray) -> Activations:
    """Return activations with one more label."""
    return Activations(acts.data.assign_coords({f"label_{target}": ("sample", values)}))


def _text_leak(model: Model, songs: Dataset, plain: dict[str, Any], options: dict[str, Any]) -> Patient:
    texts = [NAMING_TEXT.format(genre) for genre in songs.labels()]
    acts = capture(model, songs, text=texts, **options)
    conditions = capture_conditions(model, songs, **options)
    accuracy = fit_probes(acts, shuffles=0).best.accuracy
    claim = (
        f"Genre is read with {accuracy:.0%} on held-out grooves. Each clip was captured under its caption."
    )
    return Patient("", claim, acts, "genre", songs, {**plain, "conditions": conditions}, "text leak")


def _track_leak(
    acts: Activations, songs: Dataset, plain: dict[str, Any], rng: np.random.Generator
) -> Patient:
    """A label that is tossed for each groove: there is nothing in the sound but the groove itself."""
    side = dict(zip(sorted(set(acts.groups)), _tossed(len(set(acts.groups)), rng), strict=True))
    acts = _labelled(acts, "danceable", np.array([("no", "yes")[side[group]] for group in acts.groups]))
    alone = Activations(acts.data.assign_coords(group=("sample", acts.clips)))
    accuracy = fit_probes(alone, "danceable", shuffles=0).best.accuracy
    claim = f"Whether listeners call a clip danceable is read with {accuracy:.0%} on held-out clips."
    return Patient("", claim, acts, "danceable", songs, plain, "track leak")


def _loudness(
    model: Model, songs: Dataset, level: np.ndarray, options: dict[str, Any], rng: np.random.Generator
) -> Patient:
    """Two studios, drawn for each groove; one of them masters louder."""
    groups = songs.groups
    side = dict(zip(sorted(set(groups)), _tossed(len(set(groups)), rng), strict=True))
    loud = np.array([side[group] for group in groups])
    gain = -(1 - loud) * GAIN_DB + rng.normal(0, 1.5, len(songs)) - level
    gain += np.median(level)
    mastered = replace(songs, reader=_Louder(songs, dict(zip(songs.ids, gain, strict=True))))
    # Stored codes are those of the old level: without them, and with other digests, clips are encoded anew.
    entries = (
        replace(e, codes=None, digest=f"{e.digest} {db:+.3f} dB") for e, db in zip(songs, gain, strict=True)
    )
    mastered = replace(mastered, entries=tuple(entries))
    acts = _labelled(capture(model, mastered, cache=False, **options), "studio", np.array(["A", "B"])[loud])
    accuracy = fit_probes(acts, "studio", shuffles=0).best.accuracy
    claim = f"The model knows the sound of a studio: {accuracy:.0%} on held-out grooves."
    made = {"confounds": {"level_db": level + gain}, "unit": "groove"}
    return Patient("", claim, acts, "studio", mastered, made, "loudness")


def _imbalance(acts: Activations, songs: Dataset, level: np.ndarray, rng: np.random.Generator) -> Patient:
    """Calm against the rest, with few calm clips."""
    mood = np.where(acts.labels("mood") == "sad", "sad", "other")
    sad, other = (rng.permutation(np.flatnonzero(mood == name)) for name in ("sad", "other"))
    kept = np.sort(np.concatenate([other, sad[: max(2 * FEW, len(other) // RATIO)]]))
    part = _labelled(acts.subset(kept), "sadness", mood[kept])
    accuracy = fit_probes(part, "sadness", shuffles=0).best.accuracy
    claim = f"Sad clips are told from all others with {accuracy:.0%} on held-out grooves."
    made = {"confounds": {"level_db": level[kept]}, "unit": "groove"}
    return Patient("", claim, part, "sadness", songs.subset(kept), made, "imbalance")


def _label_noise(
    acts: Activations, songs: Dataset, plain: dict[str, Any], rng: np.random.Generator
) -> Patient:
    labels = acts.labels("genre").copy()
    names = np.unique(labels)
    for i in rng.permutation(len(labels))[: round(NOISE * len(labels))]:
        labels[i] = rng.choice(names[names != labels[i]])
    part = _labelled(acts, "tag", labels)
    accuracy = fit_probes(part, "tag", shuffles=0).best.accuracy
    claim = f"Tags from the web are read with only {accuracy:.0%}: does the model not know the genres?"
    tagged = tuple(
        replace(entry, labels={**entry.labels, "tag": str(label)})
        for entry, label in zip(songs, labels, strict=True)
    )
    return Patient("", claim, part, "tag", replace(songs, entries=tagged), plain, "label noise")


def _too_few(acts: Activations, songs: Dataset, level: np.ndarray, rng: np.random.Generator) -> Patient:
    """One clip of each of FEW grooves of each genre."""
    kept = []
    for genre in songs.genres:
        own = np.flatnonzero(songs.labels() == genre)
        grooves = rng.permutation(np.unique(songs.groups[own]))[:FEW]
        kept += [int(rng.choice(own[songs.groups[own] == groove])) for groove in grooves]
    part = acts.subset(np.sort(kept))
    accuracy = fit_probes(part, shuffles=0).best.accuracy
    claim = f"Genre is read with {accuracy:.0%}: is this all that the model knows?"
    made = {"confounds": {"level_db": level[np.sort(kept)]}, "unit": "groove"}
    return Patient("", claim, part, "genre", songs.subset(np.sort(kept)), made, "too few clips")


def _tossed(count: int, rng: np.random.Generator) -> np.ndarray:
    """Return (count,) zeros and ones in random order, as many of each."""
    if count < 4:
        found = f"there are {count} grooves"
        raise DatasetError(message("A coin was to be tossed for each groove", found, "Use more of the music"))
    return rng.permutation(np.arange(count) % 2)
