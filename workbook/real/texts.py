"""Builds the tables of the roles `reviews`, `topics` and `corpus` from rated sentences, without random sampling.

Hutto and Gilbert (2014) had people rate sentences of four sources from -4 to +4. Near-duplicates are removed, and a
hash of the text (or of the document it comes from) decides the split. So a sentence that one role tests on is never
one that another role trains on.
"""

from __future__ import annotations

import hashlib
import html
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from helpers.runtime import UserError

SOURCES = ("films", "products", "editorials", "tweets")
CLASSES = ("negative", "positive")
NEW_DOMAIN = "tweets"  # in the corpus, only the split `newcomer` has this source
WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
RUN = 8  # two sentences that share this many successive words are near-duplicates
CLEAR = 0.5  # the smallest distance of a review's mean rating from 0
PASSAGE = 4  # the most sentences that a row of the corpus joins

Row = dict[str, Any]
Tables = dict[str, dict[str, list[Row]]]


@dataclass(frozen=True)
class Sizes:
    """The numbers of held-out rows.

    Reviews get exactly `test` and `validation` rows; topics get at most `topic_test` and `topic_validation` per source.
    """

    test: int = 2000
    validation: int = 1000
    topic_test: int = 500
    topic_validation: int = 250
    corpus_validation: int = 400  # at most, per domain


@dataclass(frozen=True)
class Sentence:
    """One rated sentence. number: as in its file, "12_3" for the third sentence of document 12; rating: -4 to +4."""

    source: str
    number: str
    text: str
    rating: float

    @property
    def unit(self) -> str:
        """The key that decides a sentence's split: its document if that is known, else its words."""
        document, separate, _ = self.number.partition("_")
        return f"{self.source} {document}" if separate else " ".join(words(self.text))


def read_sentences(source: str, content: bytes) -> list[Sentence]:
    """The sentences of one file: lines of number, mean rating and text, separated by tabs.

    Raises:
        UserError: a line has another form; the message names it.
    """
    found = []
    for place, line in enumerate(content.decode("utf-8-sig").removesuffix("\n").split("\n"), start=1):
        fields = line.split("\t")
        try:
            number, rating, text = fields[0], float(fields[1]), fields[2]
        except (IndexError, ValueError):
            raise UserError(f"Line {place} of the rated {source} is not number, rating and text.") from None
        found.append(Sentence(source, number, " ".join(html.unescape(text).split()), rating))
    return found


def words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation."""
    return WORD.findall(text.lower().replace("’", "'"))


def without_near_duplicates(sentences: Iterable[Sentence]) -> tuple[list[Sentence], Counter[tuple[str, str]]]:
    """Return the sentences without near-duplicates of earlier ones, and the number dropped by source and reason.

    A near-duplicate has the same set of words ("same words"), or shares RUN words in a row ("shared run"). Both are
    looked up in sets, so the time is proportional to the number of words. Sentences without a word are dropped too.
    """
    kept, dropped = [], Counter[tuple[str, str]]()
    sets: set[frozenset[str]] = set()
    runs: set[tuple[str, ...]] = set()
    for sentence in sentences:
        found = words(sentence.text)
        own = {tuple(found[start : start + RUN]) for start in range(len(found) - RUN + 1)}
        reason = "no words" if not found else "same words" if frozenset(found) in sets else ""
        reason = reason or ("" if own.isdisjoint(runs) else "shared run")
        if reason:
            dropped[sentence.source, reason] += 1
            continue
        kept.append(sentence)
        sets.add(frozenset(found))
        runs |= own
    return kept, dropped


def fraction(key: str) -> float:
    """A number from 0 to 1 that depends only on the key; it decides the split."""
    return int.from_bytes(hashlib.sha256(key.encode("utf-8")).digest()[:6], "big") / 2**48


def tables(kept: Sequence[Sentence], sizes: Sizes | None = None) -> Tables:
    """Role -> split -> rows, each split in the order of a hash.

    Args:
        kept: sentences without near-duplicates, in the order of their files.
        sizes: how many rows to hold out; None for the course's.
    """
    sizes = sizes or Sizes()
    clear = sorted(fraction(one.unit) for one in kept if is_review(one))
    # Films are cut so that test and validation get exactly the wanted numbers of reviews. Of the other sources, test
    # gets a fifth and validation a tenth.
    film_cuts = _at(clear, sizes.test), _at(clear, sizes.test + sizes.validation)
    parts: dict[str, list[Sentence]] = {"test": [], "validation": [], "train": []}
    for one in kept:
        test, validation = film_cuts if one.source == "films" else (0.2, 0.3)
        place = fraction(one.unit)
        parts["test" if place < test else "validation" if place < validation else "train"].append(one)
    return {
        "reviews": {split: _reviews(rows) for split, rows in parts.items()},
        "topics": _topics(parts, sizes),
        "corpus": _corpus(parts, sizes),
    }


def is_review(sentence: Sentence) -> bool:
    """Whether a sentence is about a film, and clearly positive or negative."""
    return sentence.source == "films" and abs(sentence.rating) >= CLEAR


def _at(ordered: Sequence[float], count: int) -> float:
    """The bound below which `count` of the numbers lie."""
    return ordered[count] if count < len(ordered) else 1.0


def _in_order(sentences: Iterable[Sentence]) -> list[Sentence]:
    return sorted(sentences, key=lambda one: fraction(one.text))


def _row(sentence: Sentence, label: int) -> Row:
    known = {"rating": sentence.rating, "id": f"{sentence.source} {sentence.number}"}
    return {"text": sentence.text, "label": label} | known


def _reviews(sentences: Iterable[Sentence]) -> list[Row]:
    return [_row(one, int(one.rating > 0)) for one in _in_order(filter(is_review, sentences))]


def _topics(parts: Mapping[str, Sequence[Sentence]], sizes: Sizes) -> dict[str, list[Row]]:
    """Return the same number of rows from each of the four sources, so random guesses have an accuracy of 1/4."""
    most = {"test": sizes.topic_test, "validation": sizes.topic_validation}
    found = {}
    for split, sentences in parts.items():
        by_source = {source: _in_order(one for one in sentences if one.source == source) for source in SOURCES}
        least = min(map(len, by_source.values()))
        taken = [one for own in by_source.values() for one in own[: min(least, most.get(split, least))]]
        found[split] = [_row(one, SOURCES.index(one.source)) for one in _in_order(taken)]
    return found


def _corpus(parts: Mapping[str, Sequence[Sentence]], sizes: Sizes) -> dict[str, list[Row]]:
    """Rows of running text: successive sentences of a document are joined."""
    found = {split: sorted(passages(sentences), key=_place) for split, sentences in parts.items()}
    everything = [row for split in ("test", "validation", "train") for row in found[split]]
    held_out: list[Row] = []
    for domain in SOURCES:
        own = [row for split in ("validation", "test") for row in found[split] if row["domain"] == domain]
        held_out += sorted(own, key=_place)[: sizes.corpus_validation]
    return {
        "train": [row for row in found["train"] if row["domain"] != NEW_DOMAIN],
        "validation": sorted((row for row in held_out if row["domain"] != NEW_DOMAIN), key=_place),
        # Test rows come first, because a lesson holds out the first fifth of this split.
        "newcomer": [row for row in everything if row["domain"] == NEW_DOMAIN],
    }


def passages(sentences: Iterable[Sentence]) -> list[Row]:
    """Rows of text and domain: up to PASSAGE sentences with successive numbers in one document, else one sentence."""
    rows: list[list[Sentence]] = []
    for one in sentences:
        last = rows[-1] if rows else []
        if last and len(last) < PASSAGE and _follows(last[-1], one):
            last.append(one)
        else:
            rows.append([one])
    return [{"text": " ".join(one.text for one in row), "domain": row[0].source} for row in rows]


def _follows(first: Sentence, second: Sentence) -> bool:
    document, separate, number = first.number.partition("_")
    return bool(separate) and first.source == second.source and second.number == f"{document}_{int(number) + 1}"


def _place(row: Row) -> float:
    return fraction(row["text"])
