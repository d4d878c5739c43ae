"""Says a piece's factors in words: the prompts that the built-in language model is trained on.

A prompt names some of genre, tempo, mood and lead instrument, in one of many phrasings; four in ten name no
genre, so that a neutral prompt stands for a mixture of all genres.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from workbench.embedded.factors import MOODS, Factors
from workbench.embedded.styles import GENRES, LEADS

TEMPO_WORDS = {
    "slow": ("slow", "relaxed", "unhurried"),
    "medium": ("medium tempo", "walking", "moderate"),
    "fast": ("fast", "quick", "driving"),
}
MOOD_WORDS = {
    "happy": ("happy", "cheerful", "joyful"),
    "calm": ("calm", "gentle", "peaceful"),
    "sad": ("sad", "melancholy", "wistful"),
    "energetic": ("energetic", "intense", "powerful"),
}
NOUNS = ("tune", "song", "piece", "track", "piece of music", "melody", "recording", "instrumental")
OPENINGS = (
    "",
    "",
    "",
    "play ",
    "give me ",
    "here is ",
    "this is ",
    "i would like to hear ",
    "please make ",
    "we hear ",
)
LEAD_PHRASES = (
    "with {lead}",
    "with a {lead}",
    "led by {lead}",
    "featuring {lead}",
    "for {lead}",
    "with {lead} in front",
    "and the {lead} plays the melody",
    "on the {lead}",
)
ENDINGS = (
    "",
    "",
    "",
    " please",
    " for a quiet evening",
    " to dance to",
    " from a small band",
    " to listen to",
    " in a club",
    " for a film",
    " that i can remember",
    " with a good groove",
)
NEUTRAL_PROMPTS = (
    "a tune",
    "a song",
    "a piece of music",
    "play a melody",
    "this is a recording",
    "an instrumental track",
    "give me a song to listen to",
    "a tune from a small band",
)
"""Prompts that name no factor at all: what steering starts from and what residual norms are measured on."""


def prompt(factors: Factors, rng: np.random.Generator, *, genre_share: float = 0.6) -> str:
    """Return a prompt that is true of the piece.

    Args:
        factors: of the piece.
        rng: chooses the phrasing and which factors are named.
        genre_share: how often the genre is named; the other factors are named four times in ten.
    """
    words = []
    if rng.random() < 0.4:
        words.append(_choice(rng, TEMPO_WORDS[factors.tempo]))
    if rng.random() < 0.4:
        words.append(_choice(rng, MOOD_WORDS[factors.mood]))
    rng.shuffle(words)
    named = rng.random() < genre_share
    if named:
        words.append(factors.genre)
    noun = "music" if named and rng.random() < 0.25 else _choice(rng, NOUNS)
    phrase = " ".join([*words, noun])
    article = "" if noun == "music" else "an " if phrase[0] in "aeiou" else "a "
    lead = " " + _choice(rng, LEAD_PHRASES).format(lead=factors.lead) if rng.random() < 0.4 else ""
    return f"{_choice(rng, OPENINGS)}{article}{phrase}{lead}{_choice(rng, ENDINGS)}"


def vocabulary() -> list[str]:
    """Return every word that prompts use, sorted: the tokenizer's vocabulary."""
    return sorted({word for phrase in _phrases() for word in phrase.replace("{lead}", "").split()})


def _phrases() -> Iterator[str]:
    yield from (
        *GENRES,
        *LEADS,
        *MOODS.values(),
        "music",
        "a",
        "an",
        "the",
        "in",
        "of",
        "style",
        "tempo",
        "mood",
        "and",
        "like",
    )
    for words in (
        *TEMPO_WORDS.values(),
        *MOOD_WORDS.values(),
        NOUNS,
        OPENINGS,
        LEAD_PHRASES,
        ENDINGS,
        NEUTRAL_PROMPTS,
    ):
        yield from words


def _choice(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]
