"""Does the model follow words? Clips from prompts with and without a genre word."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recipe.evaluation.bench import Bench, Heard
from recipe.evaluation.rows import Bar, Row, rate_row, seeds_text

TEMPLATES = (
    "{a} {genre} tune",
    "{genre} music",
    "a piece of {genre} music",
    "play {a} {genre} song",
    "i would like to hear {a} {genre} track",
    "this is {genre} from a small band",
)
MEAN, EACH, SHARE = Bar(at_least=0.90), Bar(at_least=0.75), Bar(at_least=0.05, at_most=0.40)


def genre_prompt(genre: str, number: int) -> str:
    """Return a prompt that names a genre; phrasings take turns.

    >>> genre_prompt("electronic", 0)
    'an electronic tune'
    """
    article = "an" if genre[0] in "aeiou" else "a"
    return TEMPLATES[number % len(TEMPLATES)].format(a=article, genre=genre)


@dataclass(frozen=True)
class Text:
    """What was heard without any steering: generated clips with and without a genre word, and real pieces."""

    rows: list[Row]
    prompted: Heard
    neutral: Heard
    real: Heard


def measure_text(bench: Bench) -> Text:
    """Return prompted hit rates, shares of genres from neutral prompts, and the judge on real pieces."""
    prompted_rows, prompted = _prompted(bench)
    neutral_rows, neutral = _neutral(bench)
    accuracy, real = _real(bench)
    return Text([*prompted_rows, *neutral_rows, accuracy], prompted, neutral, real)


def _prompted(bench: Bench) -> tuple[list[Row], Heard]:
    seeds = bench.budget.seeds("prompted", bench.budget.clips)
    wanted = [(genre, i, seed) for genre in bench.genres for i, seed in enumerate(seeds)]
    takes = bench.generate([genre_prompt(g, i) for g, i, _ in wanted], [seed for _, _, seed in wanted])
    for (genre, i, seed), take in zip(wanted, takes, strict=True):
        path = bench.out / "prompted" / genre / f"prompt-{i % len(TEMPLATES)}-seed-{seed}.wav"
        bench.write(path, take.clip, take.codes)
    heard = Heard.of([take.clip for take in takes])
    names = np.array([genre for genre, _, _ in wanted])
    hits = heard.classes(bench.judges["genre"]) == names
    what, told = "prompted genre hit rate", seeds_text(seeds)
    mean = rate_row("prompted.mean", f"{what}, all genres", MEAN, hits, seeds=told)
    each = [
        rate_row(f"prompted.{genre}", f"{what}: {genre}", EACH, hits[names == genre], seeds=told)
        for genre in bench.genres
    ]
    return [mean, *each], heard


def _neutral(bench: Bench) -> tuple[list[Row], Heard]:
    seeds = bench.budget.seeds("neutral", bench.budget.neutral)
    prompts = bench.neutral(seeds)
    takes = bench.generate(prompts, seeds)
    heard = Heard.of([take.clip for take in takes])
    genres = heard.classes(bench.judges["genre"])
    turn = list(dict.fromkeys(prompts))
    for genre, take in zip(genres, takes, strict=True):
        name = f"prompt-{turn.index(take.prompt)}-seed-{take.seed}.wav"
        bench.write(bench.out / "unsteered" / str(genre) / name, take.clip, take.codes)
    return [
        rate_row(f"neutral.{genre}", f"prompts without a genre word, share heard as {genre}", SHARE,
                 genres == genre, seeds=seeds_text(seeds))
        for genre in bench.genres
    ], heard  # fmt: skip


def _real(bench: Bench) -> tuple[Row, Heard]:
    songs = bench.music.where(genre=list(bench.genres))
    if "typical" in songs.targets:
        songs = songs.where(typical="yes")
    songs = songs.take(bench.budget.clips, seed=1)
    clips = [songs.clip(i).section(0, bench.seconds) for i in range(len(songs))]
    frames = round(bench.seconds * bench.model.frame_rate_hz)
    for entry, genre, clip in zip(songs, songs.labels(), clips, strict=True):
        codes = bench.model.encode(clip).numpy() if entry.codes is None else entry.codes
        bench.write(bench.out / "real" / genre / f"{entry.id.replace('/', '-')}.wav", clip, codes[:, :frames])
    heard = Heard.of(clips)
    hits = heard.classes(bench.judges["genre"]) == songs.labels()
    return rate_row("judge.real", "genre judge on shipped pieces, typical ones", Bar(), hits), heard
