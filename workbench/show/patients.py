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
from workbench.errors import DatasetError
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
NOISE, GAIN_DB, RATIO, FEW = 0.15, 9.0, 9, 8
GROOVES, CLIPS = 4, 8  # of each genre, and of each of these grooves: what the track leak needs


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


def patients(
    model: Model, songs: Dataset, *, per_genre: int = 40, seconds: float = 5.0, seed: int = 0
) -> dict[str, Patient]:
    """Return the six patients by name, in an order that tells nothing.

    Args:
        model: whose residual stream is read.
        songs: labelled with genre and mood, many clips of each of at least FEW grooves of each genre.
        per_genre: clips of each genre that most patients have.
        seconds: of each clip that are used.
        seed: of everything that is drawn.
    """
    rng = np.random.default_rng(seed)
    options: dict[str, Any] = {"seconds": seconds, "progress": False}
    few = songs.take(per_genre, seed=seed)
    acts = capture(model, few, **options)
    level = measures(few, seconds=seconds)["level_db"]
    plain = {"confounds": {"level_db": level}, "unit": "groove"}
    made = [
        _text_leak(model, few, plain, options, rng),
        _track_leak(model, songs, options, rng),
        _loudness(model, few, level, options, rng),
        _imbalance(acts, few, level, rng),
        _label_noise(acts, few, plain, rng),
        _too_few(acts, few, level, np.random.default_rng(seed + 5)),  # a draw whose curve clearly rises
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


def _text_leak(
    model: Model, songs: Dataset, plain: dict[str, Any], options: dict[str, Any], rng: np.random.Generator
) -> Patient:
    """A request that is tossed for each groove: the sound knows nothing of it, the prompt says it."""
    asked = np.array(["jazz", "rock"])[_by_groove(songs.groups, rng)]
    entries = (replace(e, labels={**e.labels, "request": str(r)}) for e, r in zip(songs, asked, strict=True))
    songs = replace(songs, entries=tuple(entries))
    acts = capture(model, songs, text=[NAMING_TEXT.format(one) for one in asked], **options)
    conditions = capture_conditions(model, songs, "request", **options)
    accuracy = fit_probes(acts, "request", shuffles=0, progress=False).best.accuracy
    claim = (
        f"What a listener had asked for is read with {accuracy:.0%} on held-out grooves. Each clip was "
        "captured under its request, as MusicGen would have been told it."
    )
    return Patient("", claim, acts, "request", songs, {**plain, "conditions": conditions}, "text leak")


def _track_leak(model: Model, songs: Dataset, options: dict[str, Any], rng: np.random.Generator) -> Patient:
    """A label that is tossed for each groove: there is nothing in the sound but the groove itself."""
    kept: list[int] = []
    for genre in songs.genres:
        own = np.flatnonzero(songs.labels() == genre)
        for groove in rng.permutation(np.unique(songs.groups[own]))[:GROOVES]:
            kept += rng.permutation(own[songs.groups[own] == groove])[:CLIPS].tolist()
    part = songs.subset(np.sort(kept))
    acts = capture(model, part, **options)
    acts = _labelled(acts, "danceable", np.array(["no", "yes"])[_by_groove(acts.groups, rng)])
    alone = Activations(acts.data.assign_coords(group=("sample", acts.clips)))
    accuracy = fit_probes(alone, "danceable", shuffles=0, progress=False).best.accuracy
    claim = f"Whether listeners call a clip danceable is read with {accuracy:.0%} on held-out clips."
    made = {"confounds": measures(part, seconds=options["seconds"]), "unit": "groove"}
    return Patient("", claim, acts, "danceable", part, made, "track leak")


def _loudness(
    model: Model, songs: Dataset, level: np.ndarray, options: dict[str, Any], rng: np.random.Generator
) -> Patient:
    """Two studios, drawn for each groove; one of them masters louder."""
    loud = _by_groove(songs.groups, rng)
    gain = -(1 - loud) * GAIN_DB + rng.normal(0, 1.5, len(songs)) - level
    gain += np.median(level)
    mastered = replace(songs, reader=_Louder(songs, dict(zip(songs.ids, gain, strict=True))))
    # Stored codes are those of the old level: without them, and with other digests, clips are encoded anew.
    entries = (
        replace(e, codes=None, digest=f"{e.digest} {db:+.3f} dB") for e, db in zip(songs, gain, strict=True)
    )
    mastered = replace(mastered, entries=tuple(entries))
    acts = _labelled(capture(model, mastered, cache=False, **options), "studio", np.array(["A", "B"])[loud])
    accuracy = fit_probes(acts, "studio", shuffles=0, progress=False).best.accuracy
    claim = f"The model knows the sound of a studio: {accuracy:.0%} on held-out grooves."
    made = {"confounds": {"level_db": level + gain}, "unit": "groove"}
    return Patient("", claim, acts, "studio", mastered, made, "loudness")


def _imbalance(acts: Activations, songs: Dataset, level: np.ndarray, rng: np.random.Generator) -> Patient:
    """Calm against the rest, with few calm clips."""
    mood = np.where(acts.labels("mood") == "sad", "sad", "other")
    sad, other = (rng.permutation(np.flatnonzero(mood == name)) for name in ("sad", "other"))
    kept = np.sort(np.concatenate([other, sad[: max(2 * FEW, len(other) // RATIO)]]))
    part = _labelled(acts.subset(kept), "sadness", mood[kept])
    accuracy = fit_probes(part, "sadness", shuffles=0, progress=False).best.accuracy
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
    accuracy = fit_probes(part, "tag", shuffles=0, progress=False).best.accuracy
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
    accuracy = fit_probes(part, shuffles=0, progress=False).best.accuracy
    claim = f"Genre is read with {accuracy:.0%}: is this all that the model knows?"
    made = {"confounds": {"level_db": level[np.sort(kept)]}, "unit": "groove"}
    return Patient("", claim, part, "genre", songs.subset(np.sort(kept)), made, "too few clips")


def _by_groove(groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return (n,) zeros and ones: a coin for each groove, as many of each side."""
    names, member = np.unique(groups, return_inverse=True)
    if len(names) < 10:
        found = f"there are {len(names)} grooves"
        raise DatasetError("A coin was to be tossed for each groove", found, "Use more of the music")
    return np.asarray(rng.permutation(np.arange(len(names)) % 2)[member])
