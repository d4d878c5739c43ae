"""Says a piece's factors in words: the prompts that the built-in language model is trained on.

A prompt names some of genre, tempo, mood and lead instrument; four in ten name no genre, so that a prompt
without one stands for a mixture of all genres. It is made in two steps. First a *skeleton* is drawn without
a look at the piece ("play a {mood} {genre} {noun} with {lead}"), so that nothing but the words of its slots
can tell one piece from another. Then the slots are filled with words that are true of the piece. What
stands between the slots (frames, fillers, closings) names no factor. Where the genre of a crossover piece
is named, its band is named, too ("jazz played by a rock band"), so that a genre alone stands for its own
band.

The tokenizer lower-cases, and cuts words and runs of punctuation apart: "tune," is "tune" and ",".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import numpy as np

from recipe.factors import GENRES, LEAD_FAMILIES, MOODS, Factors
from recipe.phrasing import draw_skeleton, fixed_texts, pick
from workbench.model.band import BEAT_FRAMES

TEMPO_WORDS = {
    "slow": ("slow", "unhurried", "leisurely"),
    "medium": ("medium", "moderate", "mid"),
    "fast": ("fast", "quick", "brisk", "rapid"),
}
MOOD_WORDS = {
    "happy": ("happy", "cheerful", "joyful", "upbeat", "merry"),
    "calm": ("calm", "gentle", "peaceful", "relaxed", "relaxing", "soothing"),
    "sad": ("sad", "melancholy", "wistful", "mournful", "sorrowful"),
    "energetic": ("energetic", "intense", "powerful", "vigorous"),
}
GENRE_WORDS = {
    "classical": ("classical", "orchestral", "chamber"),
    "country": ("country", "bluegrass", "western"),
    "electronic": ("electronic", "techno", "house", "edm", "electronica"),
    "jazz": ("jazz", "swing", "bebop"),
    "reggae": ("reggae", "dub", "rocksteady", "jamaican"),
    "rock": ("rock", "hard rock", "alternative rock"),
}
LEAD_WORDS = {
    "saxophone": ("saxophone", "sax"),
    "synth": ("synth", "synthesizer"),
    "violin": ("violin", "fiddle"),
    "vibraphone": ("vibraphone", "vibes"),
}
"""Words of a factor's values. The first is the value's own name and OWN_SHARE of the mentions; a value that
is not listed has only its own name."""

_VALUES: dict[str, tuple[tuple[str, ...], Mapping[str, tuple[str, ...]]]] = {
    "genre": (GENRES, GENRE_WORDS),
    "tempo": (tuple(BEAT_FRAMES), TEMPO_WORDS),
    "mood": (tuple(MOODS.values()), MOOD_WORDS),
    "lead": (tuple(LEAD_FAMILIES), LEAD_WORDS),
}
OWN_SHARE = 0.75
_AS_ADJECTIVE = {word: f"{word} tempo" for word in ("medium", "mid")}  # at a mid pace, but a mid tempo tune
_AS_NOUN = {word: f"{word} music" for word in ("orchestral", "chamber", "western", "jamaican")}
UNKNOWN = "<unk>"
"""What the tokenizer makes of a word it does not know, and reads back as that."""

NOUNS = (
    "tune", "song", "piece", "track", "melody", "recording", "instrumental", "composition", "number", "theme",
)  # fmt: skip
BARE_PROMPTS = (
    "a tune",
    "a song",
    "a piece of music",
    "play a melody",
    "this is a recording",
    "an instrumental track",
    "give me a song to listen to",
    "a tune from a small band",
    "music",
    "some music",
    "a track",
    "a composition",
    "play some music",
    "play something",
    "let me hear a tune",
    "please make a track",
    "this is a piece of music",
    "I would like to hear a song.",
    "a melody for a film",
    "somebody plays a tune",
    "The radio plays a song.",
    "can you play a song?",
    "a piece of music, please",
    "Compose a theme for a film.",
    "We hear a piece of music.",
    "here is a number to listen to",
)
"""Prompts that name no factor at all: what steering starts from and what residual norms are measured on."""

UNSEEN_PHRASINGS = {
    "genre": (
        "could i hear some {genre}?",
        "how about {genre} tonight",
        "put on your best {genre}",
        "{genre} is all my grandmother ever liked",
        "surprise us, but stay within {genre}",
    ),
    "tempo": ("could it be a {tempo} one?", "whatever you choose, the beat should be {tempo}"),
    "mood": ("could i hear anything {mood}?", "today everybody here feels rather {mood}"),
    "lead": ("could i hear her {lead}?", "my uncle brought his {lead} along"),
}
"""Templates by factor that no training prompt follows, each with words that the vocabulary lacks: they tell
whether the model reads words or has learnt whole sentences. Never train on them; fill in own names."""

_BAND_PHRASES = ("played by a {band} band", "on {band} instruments", "with a {band} band")
_NAMED_SHARE = 0.4  # of tempo, mood and lead, each
_DRAWS = 40  # more uniform numbers than any prompt needs: drawn at once, ten times as fast as one by one
_ARTICLE = re.compile(r"\b([Aa]) (?=[aeiou])")
_TOKEN = re.compile(r"\w+|[^\w\s]+")


def prompt(
    factors: Factors, rng: np.random.Generator, *, genre_share: float = 0.6, unknown_share: float = 0.06
) -> str:
    """Return a prompt that is true of the piece.

    Args:
        factors: of the piece.
        rng: chooses the phrasing and which factors are named.
        genre_share: how often the genre is named; the other factors are named four times in ten.
        unknown_share: how often one to three unknown words are strewn in. An embedding that training never
            met could do anything; this one learns to mean nothing.
    """
    draws = iter(rng.random(_DRAWS).tolist())
    open_text = _skeleton(genre_share, draws)
    text = open_text.format_map(_slots(factors, draws))
    named = "{genre}" in open_text or "{style}" in open_text
    if _names_band(factors, named, next(draws)):
        text = text.rstrip(".?!") + f" {pick(_BAND_PHRASES, draws).format(band=factors.band)}"
    text = _ARTICLE.sub(r"\1n ", text)
    if text[-1] in ".?!":
        text = text[0].upper() + text[1:]
    return _strew_unknown(text, draws) if next(draws) < unknown_share else text


def _names_band(factors: Factors, genre_named: bool, draw: float) -> bool:
    """Return whether a prompt says whose band plays: of crossovers whenever the genre is named."""
    if factors.typical:
        return genre_named and draw < 0.05
    return genre_named or draw < 0.3


def skeleton(rng: np.random.Generator, *, genre_share: float = 0.6) -> str:
    """Return a prompt whose slots ({genre}, {noun} and so on, see ``phrasing``) are still open."""
    return _skeleton(genre_share, iter(rng.random(_DRAWS).tolist()))


def vocabulary() -> list[str]:
    """Return every word and punctuation mark that prompts use, sorted: the tokenizer's vocabulary."""
    return sorted({token for text in _texts() for token in _TOKEN.findall(text.lower())})


def factor_words() -> dict[str, dict[str, frozenset[str]]]:
    """Return the words that name each value of each factor: ``{"mood": {"sad": {"sad", "wistful"}}}``."""
    return {
        factor: {value: frozenset(" ".join(words.get(value, (value,))).split()) for value in values}
        for factor, (values, words) in _VALUES.items()
    }


def _skeleton(genre_share: float, draws: Iterator[float]) -> str:
    named = {"genre"} if next(draws) < genre_share else set()
    named |= {factor for factor in ("tempo", "mood", "lead") if next(draws) < _NAMED_SHARE}
    if not named and next(draws) < 0.5:
        return pick(BARE_PROMPTS, draws)
    return draw_skeleton(named, draws)


def _slots(factors: Factors, draws: Iterator[float]) -> dict[str, str]:
    genre = _mention(factors.genre, GENRE_WORDS, draws)
    tempo = _mention(factors.tempo, TEMPO_WORDS, draws)
    return {
        "genre": genre,
        "style": _AS_NOUN.get(genre, genre),
        "tempo": tempo,
        "pace": _AS_ADJECTIVE.get(tempo, tempo),
        "mood": _mention(factors.mood, MOOD_WORDS, draws),
        "lead": _mention(factors.lead_family, LEAD_WORDS, draws),
        "noun": pick(NOUNS, draws),
    }


def _mention(value: str, words: Mapping[str, tuple[str, ...]], draws: Iterator[float]) -> str:
    own, *others = words.get(value, (value,))
    share = next(draws)  # one number whatever the value is, so that what is drawn next does not depend on it
    return (
        own
        if share < OWN_SHARE or not others
        else pick(others, iter([(share - OWN_SHARE) / (1 - OWN_SHARE)]))
    )


def _strew_unknown(text: str, draws: Iterator[float]) -> str:
    words = [] if text in BARE_PROMPTS else text.split(" ")  # people type nothing but unknown words, too
    for _ in range(1 + int(3 * next(draws))):
        words.insert(int(next(draws) * (len(words) + 1)), UNKNOWN)
    return " ".join(words)


def _texts() -> Iterator[str]:
    """Yield every text that prompts are made of."""
    for values, words in _VALUES.values():
        for value in values:
            yield from words.get(value, (value,))
    for texts in (_AS_ADJECTIVE.values(), _AS_NOUN.values(), NOUNS, BARE_PROMPTS, fixed_texts()):
        yield from texts
    yield from (phrase.format(band="") for phrase in _BAND_PHRASES)
    yield "an"
