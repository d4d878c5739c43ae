"""Six probes that are broken, each in its own way, made from real captures of the built-in music.

Everything is made by the same functions that a user has: what is broken is the data or its handling.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.activations import Activations
from workbench.errors import DatasetError
from workbench.model.capture import NAMING_TEXT, capture, capture_conditions
from workbench.model.musicgen import Model
from workbench.probing import fit_probes
from workbench.show.exercises import Verdict, wrong
from workbench.sound import Dataset, measures

if TYPE_CHECKING:
    from workbench.probing.diagnosis import ProbeReport

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
ALARMS: Mapping[str, str] = {name: name for name in CAUSES} | {
    "track leak": "group leak", "tempo confound": "confound: tempo_bpm", "imbalance": "class imbalance",
}  # fmt: skip
"""The finding of a report that raises an alarm for each of CAUSES; most are called like their cause."""
NOISE, SLOWEST, RATIO, FEW = 0.15, 0.08, 9, 8
FEWEST = 10  # clips of a class, so that most of five folds have some
GROOVES, CLIPS = 4, 8  # of each genre, and of each of these grooves: what the track leak needs


@dataclass(frozen=True, eq=False)
class BrokenProbe:
    """A broken probe, called "A" to "F", with its claim: the figure of an evaluation that missed the fault.

    `acts` have the label `target`, and true grooves as groups; `songs` are the clips' sound. `options` is
    what the lab and `diagnose` are given besides: conditions, confounds, unit. `cause` is one of CAUSES.
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
    """Return the six by name; `songs` have genre, mood and tempo_bpm, of which `per_genre` clips are used."""
    make = _Breaker(model, songs, per_genre, seconds, seed=seed)
    made = [
        make.text_leak(), make.track_leak(), make.tempo_confound(), make.imbalance(), make.label_noise(),
        make.too_few(np.random.default_rng(seed + 5)),  # a draw whose curve clearly rises
    ]  # fmt: skip
    order = np.random.default_rng(seed + 1).permutation(len(made))
    return {name: replace(made[i], name=name) for name, i in zip("ABCDEF", order, strict=True)}


def check_cause(
    broken: BrokenProbe, answer: object, report: Callable[[], ProbeReport] | None = None
) -> Verdict:
    """Check which of CAUSES is wrong with a broken probe, and say why or where to look.

    `report` makes the lab's report: with it another fault is accepted, too, if the lab raises its alarm.
    """
    if answer is None:
        return Verdict(None, f"Name one of: {', '.join(CAUSES)}.")
    if not isinstance(answer, str) or answer not in CAUSES:
        return Verdict(False, f"{str(answer)[:40]!r} is none of the six causes: {', '.join(CAUSES)}.")
    if answer == broken.cause:
        return Verdict(True, f"Broken probe {broken.name}: {CAUSES[answer]}.")
    reason = f"That is not what was broken in probe {broken.name}."
    if report is not None:
        raised = {finding.name: finding for finding in report().alarms}
        if ALARMS[answer] in raised:
            also = f"The lab raises this alarm, too: {raised[ALARMS[answer]].sentence()}"
            return Verdict(True, f"{also} What was broken on purpose is another thing: {CLUES[broken.cause]}")
        reason = f"The lab raises no alarm of that kind for broken probe {broken.name}."
    told = f"{broken.cause}: {CAUSES[broken.cause]}."
    name = f"broken probe {broken.name}"
    return wrong(name, answer, reason=reason, hint=CLUES[broken.cause], solution=told)


class _Breaker:
    """Makes one probe for each cause, in the order in which `broken_probes` asks, from one generator."""

    def __init__(self, model: Model, songs: Dataset, per_genre: int, seconds: float, *, seed: int) -> None:
        self.model, self.songs, self.rng = model, songs, np.random.default_rng(seed)
        self.settings: dict[str, Any] = {"seconds": seconds, "progress": False}
        self.few = songs.take(per_genre, seed=seed)
        self.acts = capture(model, self.few, **self.settings)
        self.measured = self._measured(self.few)

    def text_leak(self) -> BrokenProbe:
        """Label: a request, drawn for each groove; only the prompt knows it."""
        asked = np.array(["jazz", "rock"])[self._by_groove(self.few.groups)]
        songs = relabelled(self.few, "request", asked)
        texts = [NAMING_TEXT.format(one) for one in asked]
        acts = capture(self.model, songs, text=texts, **self.settings)
        conditions = capture_conditions(self.model, songs, "request", **self.settings)
        claim = (
            "What a listener had asked for is read with {} on held-out grooves. Each clip was captured under "
            "its request, as MusicGen would have been given it."
        )
        options = {**self.measured, "conditions": conditions}
        return _broken("text leak", claim, acts, "request", songs, options)

    def track_leak(self) -> BrokenProbe:
        """Label: drawn for each groove; there is nothing in the sound but the groove itself."""
        kept: list[int] = []
        for own in self._grooves(self.rng, GROOVES):
            kept += self.rng.permutation(own)[:CLIPS].tolist()
        part = self.songs.subset(np.sort(kept))
        acts = capture(self.model, part, **self.settings)
        acts = _labelled(acts, "danceable", np.array(["no", "yes"])[self._by_groove(acts.groups)])
        alone = Activations(acts.data.assign_coords(group=("sample", acts.clips)))
        claim = "Whether listeners call a clip danceable is read with {} on held-out clips."
        made = _broken("track leak", claim, alone, "danceable", part, self._measured(part))
        return replace(made, acts=acts)

    def tempo_confound(self) -> BrokenProbe:
        """Label: one of two radio stations, drawn for each clip; one of them mostly plays what is fast."""
        bpm = self.acts.labels("tempo_bpm").astype(float)
        fast = (bpm - bpm.min()) / (bpm.max() - bpm.min())
        label = np.where(self.rng.random(len(bpm)) < SLOWEST + (1 - 2 * SLOWEST) * fast, "B", "A")
        acts = _labelled(self.acts, "station", label)
        claim = "The model knows the taste of a radio station: {} on held-out grooves."
        return _broken("tempo confound", claim, acts, "station", self.few, self.measured)

    def imbalance(self) -> BrokenProbe:
        """Label: sad against the rest, with few sad clips."""
        mood = np.where(self.acts.labels("mood") == "sad", "sad", "other")
        sad, other = (self.rng.permutation(np.flatnonzero(mood == name)) for name in ("sad", "other"))
        kept = np.sort(np.concatenate([other, sad[: max(FEWEST, len(other) // RATIO)]]))
        acts, songs = _labelled(self.acts.subset(kept), "sadness", mood[kept]), self.few.subset(kept)
        options = {**self.measured, "confounds": {"level_db": self.measured["confounds"]["level_db"][kept]}}
        claim = "Sad clips are told from all others with {} on held-out grooves."
        return _broken("imbalance", claim, acts, "sadness", songs, options)

    def label_noise(self) -> BrokenProbe:
        """Label: the genre, but wrong in a share NOISE of the clips."""
        labels, rng = self.acts.labels("genre").copy(), self.rng
        names = np.unique(labels)
        for i in rng.permutation(len(labels))[: round(NOISE * len(labels))]:
            labels[i] = rng.choice(names[names != labels[i]])
        acts, songs = _labelled(self.acts, "tag", labels), relabelled(self.few, "tag", labels)
        claim = "Tags from the web are read with only {}: does the model not know the genres?"
        return _broken("label noise", claim, acts, "tag", songs, self.measured)

    def too_few(self, rng: np.random.Generator) -> BrokenProbe:
        """Label: mood, of a single clip of each of FEW grooves of each genre."""
        kept = [int(rng.choice(own)) for own in self._grooves(rng, FEW)]
        songs = self.songs.subset(np.sort(kept))
        acts, options = capture(self.model, songs, **self.settings), self._measured(songs, mood=True)
        claim = "Mood is read with {}: is this all that the model knows?"
        return _broken("too few clips", claim, acts, "mood", songs, options)

    def _grooves(self, rng: np.random.Generator, count: int) -> Iterator[np.ndarray]:
        """Yield the clips' places of `count` grooves of each genre, groove by groove."""
        for genre in self.songs.genres:
            own = np.flatnonzero(self.songs.labels() == genre)
            for groove in rng.permutation(np.unique(self.songs.groups[own]))[:count]:
                yield own[self.songs.groups[own] == groove]

    def _measured(self, songs: Dataset, *, mood: bool = False) -> dict[str, Any]:
        """Return what the lab is given besides; no tempo for a mood, which is one to some degree."""
        confounds = {"level_db": measures(songs, seconds=self.settings["seconds"])["level_db"]}
        if not mood:
            confounds["tempo_bpm"] = songs.labels("tempo_bpm").astype(float)
        return {"confounds": confounds, "unit": "groove"}

    def _by_groove(self, groups: np.ndarray) -> np.ndarray:
        """Return (n,) zeros and ones: a coin for each groove, as many of each side."""
        names, member = np.unique(groups, return_inverse=True)
        if len(names) < 10:
            asked, found = "A coin was to be tossed for each groove", f"there are {len(names)} grooves"
            raise DatasetError(asked, found, "Use more of the music")
        return np.asarray(self.rng.permutation(np.arange(len(names)) % 2)[member])


def _broken(cause: str, claim: str, acts: Activations, *about: Any) -> BrokenProbe:
    """Return a probe (`about`: target, songs, options), its claim with the accuracy on held-out groups."""
    target, songs, options = about
    accuracy = fit_probes(acts, target, shuffles=0, progress=False).best.accuracy
    return BrokenProbe("", claim.format(f"{accuracy:.0%}"), acts, target, songs, options, cause)


def _labelled(acts: Activations, target: str, values: np.ndarray) -> Activations:
    return Activations(acts.data.assign_coords({f"label_{target}": ("sample", values)}))


def relabelled(songs: Dataset, target: str, values: Iterable[object]) -> Dataset:
    """Return a dataset with one more label, a value for each clip."""
    pairs = zip(songs, values, strict=True)
    entries = tuple(replace(one, labels={**one.labels, target: str(value)}) for one, value in pairs)
    return replace(songs, entries=entries)
