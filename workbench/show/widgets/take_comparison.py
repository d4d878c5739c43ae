"""Takes beside each other: heard on one clock, read by probes, judged, measured, and how each was made."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets

from workbench.errors import AudioError, EvidenceError
from workbench.show.plots import judged_genres, judged_table, piano_roll
from workbench.show.widgets.player import ComparisonPlayer, shortened
from workbench.show.widgets.plot_panel import PlotPanel
from workbench.show.widgets.take_scores import TakeScores
from workbench.show.widgets.take_words import damage_html, made_html, twins_of
from workbench.sound.clip import Clip

if TYPE_CHECKING:
    from workbench.evidence.judge import Judge
    from workbench.evidence.likelihood import Likelihood
    from workbench.generation.take import Take
    from workbench.model.musicgen import Model

    Judges = Mapping[str, Judge] | Sequence[Judge]

BARS = 30  # more are no longer read as bars
ROLLS = 4  # more are no longer compared by eye


class TakeComparison(ipywidgets.VBox):
    """Takes on one clock; below, as far as there is any: notes, probe scores, verdicts, damage, plans, code.

    Args:
        takes: name -> take; clips may stand among them, which are heard and judged.
        judges: by name, or just judges; each hears all clips.
        reference: name of the take that damage is measured beside; when None each steered take's unsteered
            twin (same prompt, seed and settings), where it is here.

    `play`, `stop`, `save`, `sounds`, `current`, `playing` and `level` are those of `player`.

    Raises:
        EvidenceError: there is no take of the reference's name.
    """

    def __init__(
        self,
        takes: Mapping[str, Take | Clip] | None = None,
        judges: Judges = (),
        *,
        reference: str | None = None,
    ) -> None:
        self.judges, self.loading = _named(judges), threading.RLock()
        self.player = ComparisonPlayer()
        self.scores = TakeScores(self.player)
        self.verdicts: dict[str, PlotPanel] = {}
        self.rolls: list[PlotPanel] = []
        self.damage, self.made = ipywidgets.HTML(), ipywidgets.HTML()
        self.likelihoods: dict[str, Likelihood] = {}
        self._heard: dict[tuple[str, int], dict[str, float]] = {}
        self._judged: Mapping[str, Clip] = {}  # held, so that no other clip takes over an id
        super().__init__(layout={"width": "100%"})
        self.load(takes or {}, reference=reference)

    def load(self, takes: Mapping[str, Take | Clip], *, reference: str | None = None) -> None:
        """Replace what is compared; what plays stops.

        Raises:
            EvidenceError: there is no take of the reference's name.
        """
        made = {name: one for name, one in takes.items() if not isinstance(one, Clip)}
        if reference is not None and reference not in made:
            found = f"the takes are {', '.join(made) or 'none'}"
            raise EvidenceError(f"Takes were to be compared with {reference!r}", found, "Name one of them")
        with self.loading:  # a worker may bring takes while somebody ticks others
            self.takes, self.twins = made, twins_of(made, reference)
            self.player.load(
                {name: one if isinstance(one, Clip) else one.clip for name, one in takes.items()}
            )
            self.scores.load(made)
            self._judge()
            self.rolls = self._rolls()
            self.likelihoods = {}
            self._tell()
            self._arrange()

    def measure_likelihood(self, model: Model) -> None:
        """Add to the table how likely the unsteered `model` finds each take; `likelihoods` has it by name.

        Raises:
            EvidenceError: there is no take, or one is not this model's.
        """
        from workbench.evidence.likelihood import likelihood

        found = likelihood(model, list(self.takes.values()))
        self.likelihoods = dict(zip(self.takes, found, strict=True))
        self._tell()

    def _judge(self) -> None:
        """Draw what each judge hears; a clip that was there before is not judged again."""
        clips = self.player.sounds
        parts = {
            id(clip): self.takes[name].new if name in self.takes else clip for name, clip in clips.items()
        }  # of a continuation the new part: nobody made the given one
        heard: dict[tuple[str, int], dict[str, float]] = {}
        for judge_name, judge in self.judges.items() if clips else ():
            new = [clip for clip in clips.values() if (judge_name, id(clip)) not in self._heard]
            rows = judge.probabilities([parts[id(clip)] for clip in new]) if new else ()
            told = {
                id(clip): dict(zip(judge.classes, row.tolist(), strict=True))
                for clip, row in zip(new, rows, strict=True)
            }
            for clip in clips.values():
                key = (judge_name, id(clip))
                heard[key] = told[id(clip)] if id(clip) in told else self._heard[key]
            shown = {name: heard[judge_name, id(clip)] for name, clip in clips.items()}
            many = len(shown) * len(judge.classes) > BARS
            figure = (judged_table if many else judged_genres)(shown, target=judge_name)
            if judge_name in self.verdicts:
                self.verdicts[judge_name].show(figure)
            else:
                self.verdicts[judge_name] = PlotPanel(figure, name=f"judged_{judge_name}")
        self._heard, self._judged = heard, clips

    def _rolls(self) -> list[PlotPanel]:
        """The notes of the first takes whose codes are a score, on the player's clock."""
        seconds = max((clip.seconds for clip in self.player.sounds.values()), default=0.0)
        scores = {name: take.score() for name, take in self.takes.items() if take.has_score}
        return [
            PlotPanel(
                piano_roll(score, name=name, seconds=seconds),
                table=score.table, name=f"notes_{name}", clock=self.player.key,
            )
            for name, score in list(scores.items())[:ROLLS]
        ]  # fmt: skip

    def _tell(self) -> None:
        self.damage.value = damage_html(self.takes, self.twins, self.likelihoods) if self.takes else ""
        self.made.value = made_html(self.takes) if self.takes else ""

    def _arrange(self) -> None:
        verdicts = list(self.verdicts.values()) if self.player.sounds else []
        words = [self.damage, self.made] if self.takes else []
        self.children = [self.player, *self.rolls, self.scores, *verdicts, *words]

    def play(self, name: str | None = None, *, at_s: float = 0.0) -> None:
        """Start at `at_s` seconds, with the clip of that name open (else the current one)."""
        self.player.play(name, at_s=at_s)

    def stop(self) -> None:
        """Stop the sound and keep the place."""
        self.player.stop()

    def save(self, folder: Path | str) -> list[Path]:
        """Write every clip as `<name>.wav` into `folder` and return the paths."""
        return self.player.save(folder)

    @property
    def sounds(self) -> dict[str, Clip]:
        """The clips by name."""
        return self.player.sounds

    @property
    def current(self) -> int:
        """Which clip is open."""
        return int(self.player.current)

    @current.setter
    def current(self, index: int) -> None:
        self.player.current = index

    @property
    def playing(self) -> bool:
        """Whether the sound runs."""
        return bool(self.player.playing)

    @property
    def level(self) -> float:
        """The loudest RMS (0-1) measured at the loudspeaker since the sound began."""
        return float(self.player.level)


def compare(
    *sounds: Clip | Take, names: list[str] | None = None, judges: Judges = (), reference: str | None = None
) -> TakeComparison:
    """Return takes or clips beside each other: changed while they run, with all that is known of them.

    Args:
        sounds: takes (as `generate` gives them) or clips, two or more as a rule.
        names: one name each; by default "unsteered" or the plan of a take, "clip 1" ... for clips.
        judges: whose verdicts are drawn.
        reference: as in `TakeComparison`.

    Raises:
        AudioError: nothing is given, or the names do not fit.
        EvidenceError: there is no take of the reference's name.
    """
    if not sounds or (names is not None and len(names) != len(sounds)):
        raise AudioError(
            "A comparison was asked for",
            f"{len(sounds)} sounds and names {names} were given",
            "Pass at least one sound, and one name for each or none",
        )
    chosen = names or [_name(sound, place) for place, sound in enumerate(sounds, start=1)]
    return TakeComparison(dict(zip(_distinct(chosen), sounds, strict=True)), judges, reference=reference)


def _name(sound: Clip | Take, place: int) -> str:
    if isinstance(sound, Clip):
        return f"clip {place}"
    return shortened(sound.steering) or "unsteered"


def _named(judges: Any) -> dict[str, Judge]:
    """Return the judges by name; those of one target get a number behind."""
    if isinstance(judges, Mapping):
        return dict(judges)
    listed = [judges] if hasattr(judges, "probabilities") else list(judges)
    return dict(zip(_distinct([judge.target for judge in listed]), listed, strict=True))


def _distinct(names: list[str]) -> list[str]:
    """Return the names with a number behind every repetition."""
    return [
        name if names.index(name) == i else f"{name} ({names[: i + 1].count(name)})"
        for i, name in enumerate(names)
    ]
