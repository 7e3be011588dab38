"""Reviews: the label is what the writer's own sentences say."""

import random
from dataclasses import replace

from microworld.build import REVIEW_STYLE
from microworld.films import make_films
from microworld.grammar import load
from microworld.reviews import Reviewer, Style

FILMS = make_films(20, seed=5)
PLAIN = Style(counted=(1,), own=(0, 0, 1), aside=(1,), against=0, mixed=0, verdict=0)


def reviewer(style: Style, seed: int = 0) -> Reviewer:
    return Reviewer(style, random.Random(seed), FILMS)


def test_plain_reviews_use_words_of_one_polarity_only():
    critic = reviewer(PLAIN)
    for polarity in (1, -1):
        for film in FILMS:
            review = critic.write(film, polarity)
            assert review.polarity == polarity and review.misleading == ()
            assert {sign for _, sign in critic.voice.opinions} <= {polarity}


def test_negation_misleads():
    review = reviewer(replace(PLAIN, counted=(0, 1))).write(FILMS[0], 1)
    words = load("names", "opinions")
    assert "negated" in review.phenomena and review.misleading
    assert all(
        any(word in rule.words for name, rule in words.items() if name.endswith("-") and hasattr(rule, "words"))
        for word in review.misleading
    )


def test_phenomena_name_what_is_there():
    critic = reviewer(replace(PLAIN, aside=(0, 0, 1), verdict=1))
    found = critic.write(FILMS[1], 1).phenomena
    assert "verdict" in found and {"hearsay", "waved_aside", "elsewhere"} & set(found)


def test_mixed_reviews_keep_a_majority():
    critic = reviewer(replace(PLAIN, mixed=1))
    review = critic.write(FILMS[2], 1)
    assert "mixed" in review.phenomena


def test_same_seed_same_text_and_no_bracket_is_left():
    first, second = reviewer(REVIEW_STYLE, 3), reviewer(REVIEW_STYLE, 3)
    for film in FILMS:
        text = first.write(film).text
        assert text == second.write(film).text
        assert (not set(text) & set("{}[]<>|") and text[0] in '"') or text[0].isupper()
