"""Six probes that are broken, each in its own way, made from real captures of the built-in music.

A patient comes with its owner's claim, the figure of its owner's own evaluation, and all that the probe lab
needs to find out. Its cause is one of CAUSES; `check_cause` in this module says in words whether an answer is
right. Everything is made by the same functions that a user has: what is broken is the data or its handling.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from workbench.activations import Activations
from workbench.errors import DatasetError
from workbench.model.capture import NAMING_TEXT, capture, capture_conditions
from workbench.model.musicgen import Model
from workbench.probing import fit_probes
from workbench.show.exercises import Verdict
from workbench.sound import Dataset, measures

CAUSES: Mapping[str, str] = {
    "text leak": "the prompt named the genre while the activations were captured",
    "track leak": "clips of one groove stood on both sides of the split",
    "tempo confound": "one of the two classes is faster than the other",
    "imbalance": "one class has most of the clips, and accuracy flatters",
    "label noise": "15 % of the labels are wrong",
    "too few clips": "there are too few grooves to learn from",
}
CLUES: Mapping[str, str] = {
    "text leak": "look at the four texts under Leaks: which accuracy falls when the words are wrong?",
    "track leak": "compare the random split with the held-out grooves under Leaks",
    "tempo confound": "under Confounds, ask what the beats a minute tell by themselves",
    "imbalance": "under Numbers, compare accuracy with the mean recall",
    "label noise": "under Labels, listen to the hardest clips: do their labels fit?",
    "too few clips": "under Numbers, see whether the learning curve still rises",
}
NOISE, SLOWEST, RATIO, FEW = 0.15, 0.08, 9, 8
FEWEST = 10  # clips of a class, so that most of five folds hold some
GROOVES, CLIPS = 4, 8  # of each genre, and of each of these grooves: what the track leak needs


@dataclass(frozen=True, eq=False)
class BrokenProbe:
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


def broken_probes(
    model: Model, songs: Dataset, *, per_genre: int = 40, seconds: float = 5.0, seed: int = 0
) -> dict[str, BrokenProbe]:
    """Return the six broken_probes by name, in an order that tells nothing.

    Args:
        model: whose residual stream is read.
        songs: labelled with genre, mood and tempo_bpm, with many clips of at least FEW grooves a genre.
        per_genre: clips of each genre that most broken_probes have.
        seconds: of each clip that are used.
        seed: of everything that is drawn.
    """
    rng = np.random.default_rng(seed)
    options: dict[str, Any] = {"seconds": seconds, "progress": False}
    few = songs.take(per_genre, seed=seed)
    acts = capture(model, few, **options)
    plain = _measured(few, seconds)
    made = [
        _text_leak(model, few, plain, options, rng),
        _track_leak(model, songs, options, rng),
        _tempo(acts, few, plain, rng),
        _imbalance(acts, few, seconds, rng),
        _label_noise(acts, few, plain, rng),
        _too_few(model, songs, options, np.random.default_rng(seed + 5)),  # a draw whose curve clearly rises
    ]
    order = np.random.default_rng(seed + 1).permutation(len(made))
    return {name: replace(made[i], name=name) for name, i in zip("ABCDEF", order, strict=True)}


def _measured(songs: Dataset, seconds: float, *, mood: bool = False) -> dict[str, Any]:
    """Return what the lab is told besides: each clip's loudness and tempo, and what a group is.

    A mood is a tempo to some degree, so that there the tempo is no confound.
    """
    confounds = {"level_db": measures(songs, seconds=seconds)["level_db"]}
    if not mood:
        confounds["tempo_bpm"] = songs.labels("tempo_bpm").astype(float)
    return {"confounds": confounds, "unit": "groove"}


def check_cause(patient: BrokenProbe, answer: str | None) -> Verdict:
    """Check which of CAUSES is wrong with a patient, and say why or where to look."""
    if answer is None:
        return Verdict(None, f"Name one of: {', '.join(CAUSES)}.")
    if answer not in CAUSES:
        return Verdict(False, f"{answer!r} is none of the six causes: {', '.join(CAUSES)}.")
    if answer == patient.cause:
        return Verdict(True, f"BrokenProbe {patient.name}: {CAUSES[answer]}.")
    tested = f"If it were {answer}, the lab would raise that alarm for patient {patient.name}"
    return Verdict(False, f"{tested}, and it does not. Another hint: {CLUES[patient.cause]}.")


def _labelled(acts: Activations, target: str, values: np.ndarray) -> Activations:
    """Return activations with one more label."""
    return Activations(acts.data.assign_coords({f"label_{target}": ("sample", values)}))


def _text_leak(
    model: Model, songs: Dataset, plain: dict[str, Any], options: dict[str, Any], rng: np.random.Generator
) -> BrokenProbe:
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
    return BrokenProbe("", claim, acts, "request", songs, {**plain, "conditions": conditions}, "text leak")


def _track_leak(
    model: Model, songs: Dataset, options: dict[str, Any], rng: np.random.Generator
) -> BrokenProbe:
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
    return BrokenProbe("", claim, acts, "danceable", part, _measured(part, options["seconds"]), "track leak")


def _tempo(acts: Activations, songs: Dataset, plain: dict[str, Any], rng: np.random.Generator) -> BrokenProbe:
    """Two radio stations, drawn for each clip; one of them mostly plays what is fast."""
    bpm = acts.labels("tempo_bpm").astype(float)
    fast = (bpm - bpm.min()) / (bpm.max() - bpm.min())
    label = np.where(rng.random(len(bpm)) < SLOWEST + (1 - 2 * SLOWEST) * fast, "B", "A")
    labelled = _labelled(acts, "station", label)
    accuracy = fit_probes(labelled, "station", shuffles=0, progress=False).best.accuracy
    claim = f"The model knows the taste of a radio station: {accuracy:.0%} on held-out grooves."
    return BrokenProbe("", claim, labelled, "station", songs, plain, "tempo confound")


def _imbalance(acts: Activations, songs: Dataset, seconds: float, rng: np.random.Generator) -> BrokenProbe:
    """Sad against the rest, with few sad clips."""
    mood = np.where(acts.labels("mood") == "sad", "sad", "other")
    sad, other = (rng.permutation(np.flatnonzero(mood == name)) for name in ("sad", "other"))
    kept = np.sort(np.concatenate([other, sad[: max(FEWEST, len(other) // RATIO)]]))
    part, few = _labelled(acts.subset(kept), "sadness", mood[kept]), songs.subset(kept)
    accuracy = fit_probes(part, "sadness", shuffles=0, progress=False).best.accuracy
    claim = f"Sad clips are told from all others with {accuracy:.0%} on held-out grooves."
    return BrokenProbe("", claim, part, "sadness", few, _measured(few, seconds, mood=True), "imbalance")


def _label_noise(
    acts: Activations, songs: Dataset, plain: dict[str, Any], rng: np.random.Generator
) -> BrokenProbe:
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
    return BrokenProbe("", claim, part, "tag", replace(songs, entries=tagged), plain, "label noise")


def _too_few(model: Model, songs: Dataset, options: dict[str, Any], rng: np.random.Generator) -> BrokenProbe:
    """One clip of each of FEW grooves of each genre."""
    kept = []
    for genre in songs.genres:
        own = np.flatnonzero(songs.labels() == genre)
        grooves = rng.permutation(np.unique(songs.groups[own]))[:FEW]
        kept += [int(rng.choice(own[songs.groups[own] == groove])) for groove in grooves]
    few = songs.subset(np.sort(kept))
    acts = capture(model, few, **options)
    accuracy = fit_probes(acts, "mood", shuffles=0, progress=False).best.accuracy
    claim = f"Mood is read with {accuracy:.0%}: is this all that the model knows?"
    return BrokenProbe(
        "", claim, acts, "mood", few, _measured(few, options["seconds"], mood=True), "too few clips"
    )


def _by_groove(groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return (n,) zeros and ones: a coin for each groove, as many of each side."""
    names, member = np.unique(groups, return_inverse=True)
    if len(names) < 10:
        found = f"there are {len(names)} grooves"
        raise DatasetError("A coin was to be tossed for each groove", found, "Use more of the music")
    return np.asarray(rng.permutation(np.arange(len(names)) % 2)[member])
