"""Draws the skeleton of a prompt: a sentence whose slots are open, from a grammar of phrases.

Nothing here looks at a piece, so that nothing but the words of the slots can tell one piece from another;
and nothing here names a value of a factor. Slots: {genre}, {style} (a genre standing alone), {tempo} ("at a
{tempo} tempo"), {pace} (a tempo as an adjective), {mood}, {lead}, {noun}.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_PLAIN = ("...",)
_REQUESTS = (
    "play ...", "play me ...", "give me ...", "make ...", "write ...", "compose ...", "create ...",
    "generate ...", "let me hear ...", "let us listen to ...", "I want to hear ...", "perform ...",
    "I would like to hear ...", "I would like ...", "we want ...", "now play ...", "for our film, make ...",
)  # fmt: skip
_SENTENCES = (
    "please play ...", "please make ...", "this is ...", "here is ...", "it is ...", "we hear ...",
    "you hear ...", "now comes ...", "next comes ...", "there is ... on the radio", "the radio plays ...",
    "somebody plays ...", "someone is playing ...",
    "the evening begins with ...", "the film begins with ...", "after dinner we listen to ...",
    "in the next room somebody plays ...", "it is raining, and the radio plays ...",
    "imagine a quiet evening; somebody plays ...", "imagine a small room; you hear ...",
    "the door opens and we hear ...", "while we wait, they play ...", "... is playing in the next room",
    "... comes from the open window", "... is what we hear", "... is what I want to hear",
)  # fmt: skip
_QUESTIONS = (
    "can you play ...",
    "can we hear ...",
    "will you play me ...",
    "do you have ...",
    "do you know ...",
)
_FORMS = (
    *[(_PLAIN, ("", "", "", "", "", ".", " please", ", please"))] * 5,
    *[(_REQUESTS, ("", "", ".", "!", " please", ", please."))] * 3,
    *[(_SENTENCES, ("", ".", "."))] * 3,
    (_QUESTIONS, ("?",)),
)
"""Frames, in which the music is named at the dots, and how such a sentence closes; repeated by weight."""

_FILLERS = (
    "for a film", "for a quiet evening", "for the evening", "for a long drive", "for my friends",
    "for a party", "to listen to", "to dance to", "to work to", "from a small band", "in a club",
    "with a good groove",
)  # fmt: skip
_HEADS = {  # by (genre is named, lead stands before the noun); the star is where adjectives go
    (False, False): (
        "a * {noun}", "a * {noun}", "a * {noun}", "some * music", "* music", "a * piece of music",
        "a piece of * music", "something *",
    ),
    (True, False): (
        "a * {genre} {noun}", "a * {genre} {noun}", "a * {genre} {noun}", "some * {style}", "* {style}",
        "* {genre} music", "some * {genre} music", "a * piece of {genre} music", "a piece of * {genre} music",
        "a * {noun} in {genre} style", "a * {noun} in the style of {genre} music",
    ),
    (False, True): (
        "a * {lead} {noun}", "some * {lead} music", "* {lead} music", "a * piece of {lead} music",
    ),
    (True, True): (
        "a * {genre} {lead} {noun}", "some * {genre} {lead}", "* {genre} {lead} music", "* {genre} {lead}",
        "a * piece of {genre} music for {lead}", "a * {lead} {noun} in {genre} style",
    ),
}  # fmt: skip
_SHORT_HEADS = {  # what people type: no article
    (False, False): ("* {noun}",),
    (True, False): ("* {genre} {noun}", "* {genre} {noun}", "* {style}", "* {style}"),
    (False, True): ("* {lead} {noun}", "* {lead}"),
    (True, True): ("* {genre} {lead} {noun}", "* {genre} {lead}"),
}
_ADJECTIVES = {  # by (tempo is named, mood is named): what stands before the noun, and after it
    (False, False): (("", ""),),
    (True, False): (
        *[("{pace} ", "")] * 6, ("", " at a {tempo} tempo"), ("", " with a {tempo} tempo"),
        ("", " at a {tempo} pace"), ("", " that is {pace}"), ("", ", {pace},"),
    ),
    (False, True): (
        *[("{mood} ", "")] * 6, ("", " in a {mood} mood"), ("", " with a {mood} mood"),
        ("", " that sounds {mood}"), ("", " that feels {mood}"), ("", ", {mood},"),
    ),
    (True, True): (
        *[("{pace} {mood} ", "")] * 2, *[("{mood} {pace} ", "")] * 2, ("{pace}, {mood} ", ""),
        ("{mood}, {pace} ", ""), ("{pace} and {mood} ", ""), ("{mood} and {pace} ", ""),
        ("", ", {pace} and {mood},"), ("", ", {mood} and {pace},"), ("", " that is {pace} and {mood}"),
        ("{mood} ", " at a {tempo} tempo"), ("{mood} ", " at a {tempo} pace"),
        ("{pace} ", " in a {mood} mood"), ("{pace} ", " that sounds {mood}"),
        ("", " in a {mood} mood, at a {tempo} tempo"),
    ),
}  # fmt: skip
_LEAD_PHRASES = (
    "with {lead}", "with {lead}", "with {lead}", "with a {lead}", "with {lead} in front",
    "with a {lead} in front", "led by a {lead}", "led by the {lead}", "featuring {lead}",
    "featuring a {lead}", "for {lead}", "on {lead}", "on the {lead}", "played on the {lead}",
    "played by a {lead}", "with a {lead} melody",
    "with the melody on the {lead}", "in which the {lead} leads",
)  # fmt: skip
_CLAUSES = {
    "genre": ("the style is {genre}", "it is {style}", "it is in {genre} style"),
    "tempo": ("the tempo is {tempo}", "it goes at a {tempo} pace", "it is {pace}"),
    "mood": ("the mood is {mood}", "it sounds {mood}", "it feels {mood}", "it is {mood}"),
    "lead": (
        "the {lead} plays the melody", "the {lead} leads", "a {lead} is in front",
        "the melody is on the {lead}", "the lead instrument is a {lead}",
    ),
}  # fmt: skip
_JOINS = ("; ", ", and ", " and ", ". ")
_TAGS = {"genre": "{genre}", "tempo": "{pace}", "mood": "{mood}", "lead": "{lead}"}
_LABELS = {
    "genre": "genre: {genre}",
    "tempo": "tempo: {tempo}",
    "mood": "mood: {mood}",
    "lead": "lead: {lead}",
}
_SLOT = re.compile(r"\{\w+\}|\.\.\.|\*")  # also where a frame names the music, and a head its adjectives


def draw_skeleton(named: set[str], draws: Iterator[float]) -> str:
    """Return a skeleton that names the given factors.

    Args:
        named: some of "genre", "tempo", "mood", "lead".
        draws: uniform numbers from [0, 1), at most 20 of which are used.
    """
    kind = next(draws)
    if named and kind < 0.1:
        return _tags(named, draws)
    if named and kind > 0.8:
        told = pick(sorted(named), draws)
        return _sentence(named - {told}, pick(_CLAUSES[told], draws), draws)
    return _sentence(named, "", draws)


def fixed_texts() -> Iterator[str]:
    """Yield every text that skeletons are made of, its slots left out."""
    forms = [part for form in _FORMS for part in form]
    adjectives = [part for pairs in _ADJECTIVES.values() for pair in pairs for part in pair]
    phrases = [*_CLAUSES.values(), *_HEADS.values(), *_SHORT_HEADS.values(), _LABELS.values()]
    for texts in (*forms, adjectives, *phrases, _FILLERS, _LEAD_PHRASES, _JOINS):
        for text in texts:
            yield _SLOT.sub(" ", text)


def pick(options: Sequence[str], draws: Iterator[float]) -> str:
    """Return one of the options, each as likely as any other."""
    return options[int(next(draws) * len(options))]


def _sentence(named: set[str], clause: str, draws: Iterator[float]) -> str:
    frames, closings = _FORMS[int(next(draws) * len(_FORMS))]
    phrase = _phrase(named, frames is _PLAIN, draws)
    text = pick(frames, draws).replace("...", phrase).rstrip(",")
    if not clause:
        return text + pick(closings, draws)
    join = "? " if frames is _QUESTIONS else pick(_JOINS, draws)
    if join in ("? ", ". "):
        return f"{text}{join}{clause[0].upper()}{clause[1:]}."
    return f"{text}{join}{clause}."


def _phrase(named: set[str], short: bool, draws: Iterator[float]) -> str:
    """Return a noun phrase that names the given factors, with a filler in one of five."""
    adjectives = _ADJECTIVES["tempo" in named, "mood" in named]
    before, after = adjectives[int(next(draws) * len(adjectives))]
    key = ("genre" in named, "lead" in named and next(draws) < 0.3)
    heads = _SHORT_HEADS if short and next(draws) < 0.5 else _HEADS
    head = pick(heads[key], draws)
    if head == "something *":  # adjectives follow it, and end it
        before = before.rstrip()
    phrase = head.replace("* ", before).replace("*", before).rstrip()
    filler = " " + pick(_FILLERS, draws) if next(draws) < 0.2 else ""
    lead = " " + pick(_LEAD_PHRASES, draws) if "lead" in named and not key[1] else ""
    return f"{phrase}{filler}{after}{lead}"


def _tags(named: set[str], draws: Iterator[float]) -> str:
    """Return the bare slots in any order: "{pace}, {genre}, {lead}"."""
    order = sorted(sorted(named), key=lambda _: next(draws))
    labelled = next(draws) < 0.2
    texts = _LABELS if labelled else _TAGS
    return (", " if labelled or next(draws) < 0.6 else " ").join(texts[factor] for factor in order)
