"""The text grammar: brackets, polarity, agreement, and the same words for the same seed."""

import random

import pytest

from microworld.grammar import Speaker, Words, load, parse, polish

RULES = {
    "adj+": Words("adj+", ["good"]),
    "adj-": Words("adj-", ["bad"]),
    "plural": Words("plural", ["songs"]),
    "line": [parse("it was <adj=>, not <adj!>.")],
    "many": [parse("the songs was <adj=>.")],
}


def speaker(seed: int = 0) -> Speaker:
    return Speaker(RULES, random.Random(seed))


@pytest.mark.parametrize(("polarity", "text"), [(1, "It was good, not bad."), (-1, "It was bad, not good.")])
def test_one_line_serves_both_polarities(polarity, text):
    voice = speaker()
    assert voice.say("line", polarity) == text
    assert sorted(voice.opinions) == [("bad", -1), ("good", 1)]


def test_verb_agrees_with_plural_subject():
    assert speaker().say("many", 1) == "The songs were good."


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("a apple. and then", "An apple. And then"),
        ("a unique a usual a one-off a uninspired hour", "A unique a usual a one-off an uninspired hour"),
        ("in the the end", "In the end"),
        ('"fine", they said. "go"', '"Fine", they said. "Go"'),
    ],
)
def test_polish(raw, text):
    assert polish(raw) == text


@pytest.mark.parametrize("line", ["{a|b", "a]b", "[a"])
def test_unbalanced_brackets_are_refused(line):
    with pytest.raises(ValueError, match="line"):
        parse(line)


def test_choices_and_options_all_occur():
    voice, node = speaker(), "{a|b}[ c]"
    assert {voice.line(node) for _ in range(100)} == {"A", "B", "A c", "B c"}


def test_words_are_drawn_by_rank():
    words, rng = Words("w", ["first", "second", "third"]), random.Random(0)
    drawn = [words.draw(rng) for _ in range(3000)]
    assert drawn.count("first") > drawn.count("second") > drawn.count("third") > 0


def test_every_phrase_file_parses_and_every_rule_it_names_exists():
    rules = load("names", "opinions", "things", "reviews", "blurbs", "pages", "talk", "news", "recipes", "instructions")
    given = {
        "title",
        "year",
        "director",
        "writer",
        "composer",
        "lead",
        "second",
        "hero",
        "rival",
        "place",
        "other_title",
        "subject",
        "other_subject",
        "quality",
        "other_quality",
        "answer",
    }

    def names(node):
        if isinstance(node, tuple):
            if node[0] == "rule":
                yield node[1]
            for part in node[1:]:
                yield from names(part)

    for rule, lines in rules.items():
        for node in lines if isinstance(lines, list) else []:
            for name in names(node):
                base = name.rstrip("=!")
                known = {base} & given or base in rules or {base + "+", base + "-"} <= set(rules)
                assert known, f"rule {rule} names {name}, which does not exist"
