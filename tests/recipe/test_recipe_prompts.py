"""The prompts of the built-in language model: true, varied, and silent about what they do not name."""

import re
import time
from collections import Counter

import numpy as np
import pytest
from recipe.factors import BANDS, GENRES, LEAD_FAMILIES, draw_factors
from recipe.language import build_tokenizer
from recipe.phrasing import fixed_texts
from recipe.prompts import (
    BARE_PROMPTS,
    NOUNS,
    UNKNOWN,
    UNSEEN_PHRASINGS,
    factor_words,
    prompt,
    skeleton,
    vocabulary,
)

FACTORS = ("genre", "tempo", "mood", "lead")
SLOTS = {
    "genre": ("{genre}", "{style}"),
    "tempo": ("{tempo}", "{pace}"),
    "mood": ("{mood}",),
    "lead": ("{lead}",),
}
PIECES = [draw_factors(GENRES[i % len(GENRES)], i % 4, i) for i in range(480)]
LABELS = [piece.labels() for piece in PIECES]
NOBODYS_LEADS = {word for word, names in LEAD_FAMILIES.items() if not any(
    set(names) & set(band.lead) for band in BANDS.values()
)}  # fmt: skip
BAND = re.compile(r" (?:played by an? (\w+) band|on (\w+) instruments|with an? (\w+) band)$")


def apart(text: str) -> tuple[str, str]:
    """Return a prompt without what it says of the band, and the genre whose band it names ("" for none)."""
    said = BAND.search(text)
    return (text[: said.start()], next(filter(None, said.groups()))) if said else (text, "")


def tokens(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]+", text.lower())


def words_of_all_factors() -> set[str]:
    return {word for values in factor_words().values() for words in values.values() for word in words}


@pytest.fixture(scope="module")
def skeletons() -> list[str]:
    rng = np.random.default_rng(1)
    return [skeleton(rng) for _ in range(40_000)]


@pytest.fixture(scope="module")
def said() -> list[tuple[int, str]]:
    """Piece and prompt, many times, without unknown words."""
    rng = np.random.default_rng(2)
    return [(i % len(PIECES), prompt(PIECES[i % len(PIECES)], rng, unknown_share=0.0)) for i in range(24_000)]


@pytest.fixture(scope="module")
def heard(said) -> list[set[str]]:
    """The words of each prompt, but for what it says of the band."""
    return [set(tokens(apart(text)[0])) for _, text in said]


def test_there_are_hundreds_of_bare_sentence_skeletons(skeletons):
    assert len(set(skeletons)) > 10_000
    plain = {text for text in skeletons if text.startswith(("{", "a {")) and text.endswith("}")}
    assert len(plain) >= 300
    often = Counter(skeletons)
    assert sum(often[text] for text in sorted(often, key=lambda text: -often[text])[:20]) < 0.2 * len(
        skeletons
    )


@pytest.mark.parametrize(
    "text",
    [
        "{genre}",
        "a {genre} {noun}",
        "{pace} {mood} {lead} music",
        "{mood} {genre} {noun} with {lead}",
        "play some {style}",
        "a {mood} {genre} {noun}",
        "a {genre} {noun}, {pace} and {mood}, with {lead}",
        "{style} with {lead}",
        "imagine a quiet evening; somebody plays a {pace} {noun}.",
        "{pace}, {genre}",
    ],
)
def test_what_people_type_is_among_the_skeletons(text):
    rng = np.random.default_rng(3)
    assert any(skeleton(rng) == text for _ in range(400_000))


def test_a_prompt_names_only_words_of_its_own_piece(said, heard):
    for factor in FACTORS:
        known = factor_words()[factor]
        every = set().union(*known.values())
        for (index, text), words in zip(said, heard, strict=True):
            assert every & words <= known[LABELS[index][factor]], (text, PIECES[index])


def test_a_band_is_named_truly_and_always_beside_a_crossovers_genre(said):
    genres = {word for words in factor_words()["genre"].values() for word in words}
    counts = Counter()
    for index, text in said:
        piece = PIECES[index]
        sentence, band = apart(text)
        named = bool(genres & set(tokens(sentence)))
        assert band in ("", piece.band), (text, piece)
        counts[piece.typical, named, bool(band)] += 1
    assert counts[False, True, False] == 0 < counts[False, True, True]
    assert counts[True, False, True] == 0, "a band without a genre is that of a crossover"

    def share(typical, named):
        return counts[typical, named, True] / (counts[typical, named, True] + counts[typical, named, False])

    assert share(False, False) == pytest.approx(0.3, abs=0.04)
    assert share(True, True) == pytest.approx(0.05, abs=0.01)


def test_no_word_names_two_values():
    words = [word for values in factor_words().values() for own in values.values() for word in own]
    assert len(words) == len(set(words))


@pytest.mark.parametrize("factor", FACTORS)
def test_the_own_name_of_a_value_is_most_of_its_mentions(heard, factor):
    for value, words in factor_words()[factor].items():
        if value in NOBODYS_LEADS:
            continue
        mentions = [told for told in heard if told & words]
        assert len(mentions) > 100
        assert sum(value in told for told in mentions) >= 0.7 * len(mentions)
        assert all(any(word in told for told in mentions) for word in words)


def test_factors_are_named_as_often_as_asked(skeletons):
    shares = {f: np.mean([any(slot in text for slot in SLOTS[f]) for text in skeletons]) for f in FACTORS}
    assert shares["genre"] == pytest.approx(0.6, abs=0.01)
    assert [shares[factor] for factor in FACTORS[1:]] == pytest.approx([0.4] * 3, abs=0.01)
    rng = np.random.default_rng(4)
    assert not any("{genre}" in skeleton(rng, genre_share=0.0) for _ in range(2000))


def test_a_factor_is_named_once_at_most(skeletons):
    for text in set(skeletons):
        assert all(sum(text.count(slot) for slot in SLOTS[factor]) <= 1 for factor in FACTORS), text


def test_everything_but_the_slots_is_drawn_without_a_look_at_the_piece():
    """With the same random numbers two pieces get the same sentence, up to the words of their factors."""
    words = words_of_all_factors() | {"tempo", "music", "a", "an"}  # "medium tempo", "chamber music"
    with_band = 0
    for seed in range(500):
        texts = [prompt(piece, np.random.default_rng(seed), unknown_share=0.0) for piece in PIECES[:12]]
        plain = [text for text in texts if not apart(text)[1]]
        assert len({tuple(t for t in tokens(text) if t not in words) for text in plain}) <= 1, texts
        # Where a band is named, the sentence has no full stop; nothing else changes.
        sentences = {apart(text)[0].rstrip(".?!") for text in texts}
        assert len({tuple(t for t in tokens(text) if t not in words) for text in sentences}) == 1, texts
        with_band += len(plain) < len(texts)
    assert with_band > 100


def test_neutral_prompts_and_what_stands_between_slots_name_no_factor(skeletons):
    assert len(set(BARE_PROMPTS)) == len(BARE_PROMPTS) >= 24
    named = words_of_all_factors()
    for text in (*BARE_PROMPTS, *NOUNS, *fixed_texts(), *(re.sub(r"\{\w+\}", "", s) for s in skeletons)):
        assert not named & set(tokens(text)), text
    structure = {"tempo", "pace", "mood", "style", "genre", "lead", "leads", "led", "instrument"}
    assert not structure & {token for text in BARE_PROMPTS for token in tokens(text)}


def test_sentences_are_well_formed(said):
    for _, text in said:
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", text.lower()), text
        assert not re.search(r"[{}*]|\.\.|  | [,.;?!]|[,;:]$|,[.;,]|please.*please", text), text
        assert text == text.strip()
        assert text[-1] not in ".?!" or text[0].isupper(), text


def test_the_vocabulary_is_exactly_what_prompts_use(said):
    used = {token for _, text in said for token in tokens(text)}
    used |= {token for text in BARE_PROMPTS for token in tokens(text)}
    assert used == set(vocabulary()) - NOBODYS_LEADS
    assert len(NOBODYS_LEADS) <= 1
    assert vocabulary() == sorted(set(vocabulary()))


def test_the_tokenizer_knows_every_prompt_and_its_punctuation(said):
    tokenizer = build_tokenizer()
    for ids in tokenizer([text for _, text in said] + list(BARE_PROMPTS)).input_ids:
        assert tokenizer.unk_token_id not in ids
    apart = tokenizer.convert_ids_to_tokens(tokenizer("A Rock song, FAST and sad.").input_ids)
    assert apart == ["a", "rock", "song", ",", "fast", "and", "sad", ".", "</s>"]


def test_some_prompts_hold_unknown_words_as_the_tokenizer_reads_them():
    tokenizer, rng = build_tokenizer(), np.random.default_rng(5)
    texts = [prompt(PIECES[i % len(PIECES)], rng) for i in range(6000)]
    strewn = [text for text in texts if UNKNOWN in text]
    assert 0.045 < len(strewn) / len(texts) < 0.075
    assert tokenizer(UNKNOWN).input_ids == tokenizer("gamelan").input_ids
    for text in strewn:
        assert tokenizer(text).input_ids.count(tokenizer.unk_token_id) == text.count(UNKNOWN) <= 3
    assert any(set(text.split()) == {UNKNOWN} for text in strewn)


def test_unseen_phrasings_are_unseen_but_name_their_factor(skeletons):
    known = set(vocabulary())
    values = {
        "genre": GENRES,
        "tempo": ("slow", "fast"),
        "mood": ("calm", "sad"),
        "lead": tuple(LEAD_FAMILIES),
    }
    for factor, templates in UNSEEN_PHRASINGS.items():
        for template in templates:
            assert template not in skeletons
            assert set(tokens(template.replace(f"{{{factor}}}", ""))) - known
            for value in values[factor]:
                heard = set(tokens(template.format(**{factor: value})))
                assert heard & words_of_all_factors() == {value}
                assert value in known


def test_a_prompt_is_drawn_quickly():
    rng, times = np.random.default_rng(6), []
    for _ in range(5):
        begin = time.process_time()
        for piece in PIECES * 4:
            prompt(piece, rng)
        times.append((time.process_time() - begin) / (4 * len(PIECES)))
    assert min(times) < 60e-6
