"""The sentences of a text: points, parts of points, wrapped lines; and the course's own, where its file is at hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.workbook.claims.sentences import fingerprint, plain, sentences
from workbook.claims.ledger import load_ledger

VARIABLE = "COURSE_CONCLUSION"  # a path to the text, which is not part of this repository
TOY = """A Title

Well done! You know
two things:

- Water is wet. Fire,
 however, burns: it is hot.
- Some colours are:
 - Red
 - Deep   blue

- The last point
 is here.
"""


def source() -> dict[str, str]:
    """Place -> sentence of the course's conclusion; the test is skipped where nobody says where the text lies."""
    if not os.environ.get(VARIABLE):
        pytest.skip(f"{VARIABLE} does not name the text")
    return sentences(Path(os.environ[VARIABLE]).read_text(encoding="utf-8"))


def problem(listed: dict[str, str], text: dict[str, str]) -> str:
    """The first sentence whose fingerprint is not the listed one, or that only one side has; '' where all agree."""
    found = {place: fingerprint(sentence) for place, sentence in text.items()}
    return next((place for place in sorted({*listed, *found}) if listed.get(place) != found.get(place)), "")


def copied(claim: str, text: str, words: int = 7) -> str:
    """The first run of so many words that a claim has in common with the text; '' where there is none."""
    said, there = plain(claim).lower().split(), f" {plain(text).lower()} "
    runs = (" ".join(said[start : start + words]) for start in range(len(said) - words + 1))
    return next((run for run in runs if f" {run} " in there), "")


def test_sentences_of_points_and_their_parts():
    assert sentences(TOY) == {
        "0.1": "A Title",
        "0.2": "Well done!",
        "0.3": "You know two things:",
        "1.1": "Water is wet.",
        "1.2": "Fire, however, burns: it is hot.",
        "2.1": "Some colours are:",
        "2.2": "Red",
        "2.3": "Deep blue",
        "3.1": "The last point is here.",
    }


def test_a_fingerprint_does_not_see_line_breaks():
    assert fingerprint("Water  is\n wet.") == fingerprint("Water is wet.") != fingerprint("Water was wet.")


@pytest.mark.parametrize(
    "planted",
    [TOY.replace("wet", "dry"), TOY + "- One more.\n", TOY.replace(" - Red\n", "")],
    ids=["word", "more", "less"],
)
def test_a_changed_text_is_seen(planted):
    listed = {place: fingerprint(sentence) for place, sentence in sentences(TOY).items()}
    assert problem(listed, sentences(TOY)) == ""
    assert problem(listed, sentences(planted)) != ""


def test_the_ledger_lists_every_sentence_of_the_source():
    assert problem({one.place: one.sha256 for one in load_ledger().sentences}, source()) == ""


def test_the_claims_are_in_our_own_words():
    text = " ".join(source().values())
    assert copied("it says: water is wet and fire burns today", "Indeed water is wet and fire burns today.", 4)
    for claim in load_ledger().claims:
        for said in (claim.claim, claim.short, claim.condition, claim.reason):
            assert not copied(said, text), claim.id
