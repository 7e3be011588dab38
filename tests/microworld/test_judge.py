"""The judge agrees with the generator on every row and with a reader's labels, and broken text never wins."""

from __future__ import annotations

import csv
import dataclasses
import random
from pathlib import Path

import pytest

from helpers import catalog
from helpers.runtime import UserError
from microworld.grammar import Speaker, load
from microworld.instructions import ask_line
from microworld.judge import Verdict, judge, judge_answer, wish
from microworld.reviews import speaker
from microworld.world import World

GRANTED = Verdict(tone=True, film=True, form=True)
FAILS = {"tone": Verdict(tone=False, film=True, form=True), "film": Verdict(tone=True, film=False, form=True)}
needs_data = pytest.mark.skipif(not (catalog.MICROWORLD / "README.md").is_file(), reason="make data")


@pytest.fixture(scope="module")
def films():
    return World().told


@needs_data
def test_the_judge_agrees_with_every_pair_of_preferences():
    seen = set()
    for rows in catalog.dataset("preferences", "pocket").values():
        for row in rows:
            assert wish(row["prompt"])[0] == row["film"], row
            assert judge_answer(row["prompt"], row["chosen"]) == GRANTED, row
            rejected = judge_answer(row["prompt"], row["rejected"])
            assert rejected == FAILS[row["reason"]] if row["reason"] in FAILS else not rejected.form, row
            seen.add(row["reason"])
    assert seen == {"tone", "film", "form"}


@needs_data
def test_the_judge_agrees_with_every_demonstration_of_a_wish():
    for split, rows in catalog.dataset("instructions", "pocket").items():
        lines = [row for row in rows if row["kind"] == "line"]
        verdicts = [judge(*wish(row["prompt"]), row["completion"]) for row in lines]
        assert lines and all(verdict.form for verdict in verdicts)
        careless = [verdict for verdict in verdicts if not verdict.good]
        assert bool(careless) == (split == "train")


@pytest.mark.parametrize(("careless", "wanted"), [({}, GRANTED), *(({fault: 1.0}, FAILS[fault]) for fault in FAILS)])
def test_the_judge_agrees_with_fresh_rows(films, careless, wanted):
    rng = random.Random(7)
    voice = speaker(rng)
    for _ in range(500):
        film, other = rng.sample(films, 2)
        row = ask_line(voice, film, other, careless)
        assert wish(row["prompt"])[0] == film.title
        assert judge(film, wish(row["prompt"])[1], row["completion"]) == wanted, row


def test_praise_of_the_right_film():
    film = World().told[0]
    assert judge(film, 1, f"{film.title} is a wonderful film.") == GRANTED
    assert judge(film.title, -1, f"{film.title} is a wonderful film.") == FAILS["tone"]
    assert judge("The Quiet Orchard", 1, f"{film.title} is a wonderful film.") == FAILS["film"]


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("{title} is wonderful and good.", GRANTED),
        ("{title} is wonderful and dull.", Verdict(tone=False, film=True, form=True)),
        ("{title}, by {director}, is a gem.", GRANTED),
        ("{title}, by Anna Venn, is a gem.", FAILS["film"]),
        ("{title}, by Some Body, is a gem.", Verdict(tone=True, film=True, form=False)),
    ],
)
def test_mixed_tones_and_the_wrong_people_fail(films, text, verdict):
    film = dataclasses.replace(films[0], director="Tomas Marsh")
    assert judge(film, 1, text.format(title=film.title, director=film.director)) == verdict


@pytest.mark.parametrize(
    "broken",
    [
        "",
        "wonderful",
        "wonderful wonderful wonderful",
        "{title} is a wonderful film",
        "{title} is a excellent film.",
        "{title} is an wonderful film.",
        "{title}  is a wonderful film.",
        "{title} is a wonderful film. {title} is a wonderful film.",
        "{title} is a wonderful wonderful film.",
        "what a wonderful film {title} is!",
        "{lower} is a wonderful film.",
        "{title} sang .",
        "{title} is a film.",
        "{title} {title} is good.",
        "{{a|b}} <title> is good.",
    ],
)
def test_broken_text_never_wins(films, broken):
    title = films[0].title
    text = broken.format(title=title, lower=title.lower())
    verdict = judge(title, 1, text)
    assert not verdict.form and not verdict.good and verdict.score == 0


def test_a_score_of_well_formed_text_counts_what_holds():
    assert GRANTED.score == 1
    assert [round(verdict.score, 3) for verdict in FAILS.values()] == [0.667, 0.667]
    assert Verdict(tone=False, film=False, form=True).score > Verdict(tone=True, film=True, form=False).score


def test_a_film_that_the_world_does_not_know_is_judged_by_its_title():
    assert judge("The Quiet Inheritance", 1, "The Quiet Inheritance, by Anna Venn, is a gem.") == GRANTED


@pytest.mark.parametrize("prompt", ["", "Who directed The Quiet Orchard?", "Write a purple line about X.", "be kind."])
def test_what_is_no_wish_is_said_in_one_sentence(prompt):
    with pytest.raises(UserError, match="is not a wish for a line; write it like"):
        wish(prompt)


@pytest.mark.parametrize(
    ("text", "tone"),
    [
        ("{title} is wonderful.", 1),
        ("I loved {title}.", 1),
        ("I hated {title}.", -1),
        ("{title} was truly awful.", -1),
        ("{title}, by {director}, is an awful film.", -1),
        ("{director}'s {title} is a gem.", 1),
        ("{lead} is charming, {title} a treat.", 1),
        ("{lead} is warm, {second} good, {title} a delight.", 1),
        ("{title}: a bore.", -1),
    ],
)
def test_fluent_sentences_in_other_words_satisfy_a_request(films, text, tone):
    film = films[0]
    said = text.format(title=film.title, director=film.director, lead=film.lead, second=film.second)
    assert judge(film, tone, said) == GRANTED
    assert judge(film, -tone, said) == FAILS["tone"]
    other = next(one for one in films if one.director != film.director and one.lead != film.lead)
    wrong = text.format(title=film.title, director=other.director, lead=other.lead, second=film.second)
    assert judge(film, tone, wrong) == (GRANTED if wrong == said else FAILS["film"])


def fluent_lines(count: int) -> list[tuple[str, str]]:
    """Titles, and lines that the judge's own rules make about them."""
    rng = random.Random(3)
    voice = Speaker({**speaker(rng).rules, **load("judge")}, rng)
    found = []
    for film in rng.choices(World().told, k=count):
        voice.slots = film.slots()
        found.append((film.title, voice.say("fluent", 1)))
    return found


def test_every_sentence_that_the_judge_knows_is_accepted_and_none_of_them_shuffled():
    for title, line in fluent_lines(300):
        assert judge(title, 1, line) == GRANTED, line
        words = line.split()
        shuffled = random.Random(len(line)).sample(words, len(words))
        assert shuffled == words or not judge(title, 1, " ".join(shuffled)).good, shuffled
        for at in range(len(words)):
            doubled = " ".join([*words[: at + 1], *words[at:]])
            assert not judge(title, 1, doubled).good, doubled


def test_the_judge_agrees_with_the_labels_of_a_reader():
    """Answers of SFT and DPO models of one seed, labelled by one reader, who knew the films' people."""
    path = Path(__file__).with_name("labelled_answers.csv")
    with path.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    agree = [judge_answer(row["prompt"], row["answer"]).good == bool(int(row["satisfied"])) for row in rows]
    assert len(rows) == 200 and sum(agree) / len(agree) >= 0.99
