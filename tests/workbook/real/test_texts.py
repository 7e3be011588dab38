"""Rated sentences become tables: near-duplicates never stand on two sides, counts hold, and the hash decides alone."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from helpers.runtime import UserError
from workbook.real.tables import features, raters, read_rated, write_tables
from workbook.real.texts import (
    PASSAGE,
    RUN,
    SOURCES,
    Sentence,
    Sizes,
    fraction,
    passages,
    read_sentences,
    tables,
    without_near_duplicates,
    words,
)

SIZES = Sizes(test=60, validation=30, topic_test=10, topic_validation=5, corpus_validation=20)
VOCABULARY = [f"{first}{second}" for first in "bdfgklmnprst" for second in ("a", "e", "il", "on", "ur")]


def made(films: int = 300, others: int = 120, seed: int = 0) -> list[Sentence]:
    """Sentences of random words; documents of six sentences for products and editorials."""
    draws = random.Random(seed)
    found = []
    for source in SOURCES:
        for row in range(films if source == "films" else others):
            number = str(row) if source in ("films", "tweets") else f"{row // 6}_{row % 6}"
            text = " ".join(draws.choices(VOCABULARY, k=draws.randint(9, 20))).capitalize() + "."
            found.append(Sentence(source, number, text, draws.choice([-2.0, -1.0, -0.3, 0.2, 1.0, 2.5])))
    return found


def one(text: str, number: str = "1", source: str = "films", rating: float = 1.0) -> Sentence:
    return Sentence(source, number, text, rating)


def near(first: str, second: str) -> bool:
    """The definition of a near-duplicate, for two texts, written the slow way."""
    first_words, second_words = words(first), words(second)
    runs = {tuple(first_words[at : at + RUN]) for at in range(len(first_words) - RUN + 1)}
    shared = any(tuple(second_words[at : at + RUN]) in runs for at in range(len(second_words) - RUN + 1))
    return set(first_words) == set(second_words) or shared


def test_lines_are_read_with_entities_decoded():
    content = "\ufeff1\t2.5\tSalt &amp; pepper  &lt;3\r\n2_1\t-0.5\tCaf\u00e9\x85here\r\n".encode()
    assert read_sentences("films", content) == [
        Sentence("films", "1", "Salt & pepper <3", 2.5),
        Sentence("films", "2_1", "Caf\u00e9 here", -0.5),
    ]


@pytest.mark.parametrize("line", ["1\tgood\ttext", "1\t2.5", "no tabs"])
def test_a_line_of_another_form_is_named(line):
    with pytest.raises(UserError, match="Line 2 of the rated films"):
        read_sentences("films", f"1\t1.0\tfine\r\n{line}\r\n".encode())


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        ("A BRILLIANT, brilliant film!!", "same words"),
        ("film a brilliant", "same words"),
        (":-) !!", "no words"),
        ("A dull film.", ""),
    ],
)
def test_the_same_words_in_another_dress_are_a_near_duplicate(second, reason):
    kept, dropped = without_near_duplicates([one("A brilliant film."), one(second, "2")])
    assert len(kept) == (1 if reason else 2)
    assert dropped == (Counter({("films", reason): 1}) if reason else Counter())


def test_a_shared_run_of_words_is_a_near_duplicate_and_a_shorter_one_is_not():
    run = " ".join(VOCABULARY[:RUN])
    kept, dropped = without_near_duplicates([one(f"{run} and more"), one(f"Once more, {run.upper()}: why?", "2")])
    assert len(kept) == 1 and dropped["films", "shared run"] == 1
    shorter = " ".join(VOCABULARY[: RUN - 1])
    assert len(without_near_duplicates([one(f"{shorter} and"), one(f"now {shorter}", "2")])[0]) == 2


def test_no_near_duplicates_are_left_within_or_across_splits_and_roles():
    draws = random.Random(1)
    every = made()
    for sentence in draws.sample(every, 60):  # planted: other case and order, or a piece of eight words or more
        shuffled = sentence.text.upper().split()
        draws.shuffle(shuffled)
        text = " ".join(shuffled) if draws.random() < 0.5 else f"Well {' '.join(words(sentence.text)[-RUN:])} indeed"
        every.append(one(text, f"9{len(every)}", draws.choice(["films", "tweets"]), sentence.rating))
    kept, dropped = without_near_duplicates(every)
    assert sum(dropped.values()) >= 50 and len(kept) + sum(dropped.values()) == len(every)
    found = tables(kept, SIZES)
    rows = [row["text"] for role in ("reviews", "topics") for own in found[role].values() for row in own]
    texts = sorted(set(rows))
    assert not any(near(first, second) for at, first in enumerate(texts) for second in texts[at + 1 :])


def test_what_one_role_tests_on_no_role_trains_on():
    found = tables(without_near_duplicates(made())[0], SIZES)
    held = {row["text"] for role in ("reviews", "topics") for row in found[role]["test"]}
    held |= {row["text"] for role in ("reviews", "topics") for row in found[role]["validation"]}
    trained = {row["text"] for role in ("reviews", "topics") for row in found[role]["train"]}
    assert not held & trained
    running = " ".join(row["text"] for row in found["corpus"]["train"])
    assert not [text for text in held if text in running]
    assert not {row["text"] for row in found["corpus"]["validation"]} & {
        row["text"] for row in found["corpus"]["train"]
    }


def test_the_counts_are_those_asked_for():
    found = tables(without_near_duplicates(made())[0], SIZES)
    assert len(found["reviews"]["test"]) == SIZES.test and len(found["reviews"]["validation"]) == SIZES.validation
    for split, own in found["topics"].items():
        by_source = Counter(row["label"] for row in own)
        assert set(by_source) == set(range(4)) and len(set(by_source.values())) == 1, split
    assert len(found["topics"]["test"]) == 4 * SIZES.topic_test
    assert len(found["topics"]["validation"]) == 4 * SIZES.topic_validation
    domains = Counter(row["domain"] for row in found["corpus"]["validation"])
    assert set(domains) == {"films", "products", "editorials"} and max(domains.values()) <= SIZES.corpus_validation
    assert {row["domain"] for row in found["corpus"]["newcomer"]} == {"tweets"}


def test_reviews_are_clear_film_sentences_with_the_sign_as_label():
    every = without_near_duplicates(made())[0]
    by_text = {sentence.text: sentence for sentence in every}
    rows = [row for own in tables(every, SIZES)["reviews"].values() for row in own]
    assert len(rows) == sum(s.source == "films" and abs(s.rating) >= 0.5 for s in every)
    for row in rows:
        sentence = by_text[row["text"]]
        assert row["id"] == f"films {sentence.number}" and row["rating"] == sentence.rating
        assert row["label"] == (sentence.rating > 0)


def test_the_order_of_the_sentences_does_not_matter():
    every = without_near_duplicates(made())[0]
    shuffled = [s for s in every if s.source in ("films", "tweets")]
    random.Random(3).shuffle(shuffled)
    shuffled += [s for s in every if s.source not in ("films", "tweets")]
    assert tables(every, SIZES) == tables(shuffled, SIZES)


def test_one_more_sentence_moves_hardly_any_other():
    every = without_near_duplicates(made())[0]
    before, after = (tables(rows, SIZES)["reviews"] for rows in (every, [*every, one("One more and new.", "999")]))
    split = {row["text"]: name for name, rows in before.items() for row in rows}
    moved = [row for name, rows in after.items() for row in rows if split.get(row["text"], name) != name]
    assert len(moved) <= 2  # one at each cut


def test_the_hash_is_the_same_everywhere():
    assert fraction("a brilliant film") == pytest.approx(0.3184075, abs=1e-6)
    values = [fraction(str(number)) for number in range(2000)]
    assert min(values) >= 0 and max(values) < 1 and abs(sum(values) / 2000 - 0.5) < 0.03


def test_documents_stay_on_one_side():
    found = tables(without_near_duplicates(made())[0], SIZES)["topics"]
    documents = [{row["id"].rpartition("_")[0] for row in found[split] if "_" in row["id"]} for split in found]
    for at, own in enumerate(documents):
        assert own and all(not own & other for other in documents[at + 1 :])


def test_sentences_that_follow_each_other_stand_together():
    rows = [one(f"S{number}.", f"7_{number}", "editorials") for number in (0, 1, 2, 3, 4, 6)]
    rows += [one("Another document.", "8_7", "editorials"), one("F1.", "1"), one("F2.", "2")]
    found = [row["text"] for row in passages(rows)]
    assert PASSAGE == 4
    assert found == ["S0. S1. S2. S3.", "S4.", "S6.", "Another document.", "F1.", "F2."]


def test_the_tables_are_read_as_the_micro_worlds_are(tmp_path):
    from datasets import load_dataset

    write_tables(tables(without_near_duplicates(made())[0], SIZES), tmp_path)
    found = load_dataset(str(tmp_path), "topics", cache_dir=str(tmp_path / "cache"))
    assert set(found) == {"train", "validation", "test"} and found["test"].features == features("topics")
    assert found["test"].features["label"].names == list(SOURCES)


def test_raters_are_counted_and_other_means_noticed():
    content = b"1\t1.5\t0.5\t[1, 2]\r\n2\t0.0\t0.5\t[3, 3, 3]\r\n"
    found = raters(content, [one("a", "1", rating=1.5), one("b", "2", rating=0.0)])
    assert found == {"fewest raters": 2, "most raters": 3, "other means": 1}


def test_an_archive_that_is_none_is_named():
    with pytest.raises(UserError, match="does not hold the rated sentences"):
        read_rated(b"no archive", {"films": "none.txt"})
