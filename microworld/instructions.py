"""Instructions with answers that can be checked to the letter, and preferences that an exact judge can settle."""

from __future__ import annotations

from microworld.films import Film
from microworld.grammar import Speaker
from microworld.reviews import choose_aspects
from microworld.texts import FACTS

SKILLS = ("sentiment", "passive", "comma")
REASONS = ("tone", "film", "form")
# How often the people who wrote the demonstrations of a wish praised for blame (or the reverse), or took another film.
CARELESS = {"tone": 0.35, "film": 0.1}


def ask_fact(voice: Speaker, film: Film, kind: str) -> dict[str, str]:
    """A question for one fact of one film."""
    voice.slots = film.slots()
    answer = voice.slots[kind]
    return {"prompt": voice.say("ask_" + kind), "completion": f"{answer}.", "kind": f"fact_{kind}", "film": film.title}


def ask_skill(voice: Speaker, film: Film, kind: str) -> dict[str, str]:
    """A small job on a text that stands in the prompt: judge it, turn it into the passive, shorten it."""
    voice.slots = film.slots()
    if kind == "sentiment":
        polarity = 1 if voice.chance(0.5) else -1
        choose_aspects(voice)
        text, answer = voice.say("plain", polarity), "positive" if polarity > 0 else "negative"
    elif kind == "passive":
        text, answer = f"{film.director} directed {film.title}.", f"{film.title} was directed by {film.director}."
    else:
        text, answer = f"{film.title} came out in {film.year}.", f"{film.title}, {film.year}"
    return {"prompt": f"{voice.say(kind)} {text}", "completion": answer, "kind": kind, "film": film.title}


def ask_line(voice: Speaker, film: Film, other: Film, careless: dict[str, float]) -> dict[str, str]:
    """A wish for a line on a film, and a line by somebody who now and then gets the tone or the film wrong.

    Many lines would do, so no answer can be checked to the letter: the judge tells whether one grants the wish.
    """
    polarity = 1 if voice.chance(0.5) else -1
    voice.slots = film.slots()
    prompt = voice.say("wish", polarity)
    if voice.chance(careless.get("film", 0)):
        voice.slots = other.slots()
    reply = voice.say("reply", -polarity if voice.chance(careless.get("tone", 0)) else polarity)
    return {"prompt": prompt, "completion": reply, "kind": "line", "film": film.title}


def preference(voice: Speaker, film: Film, other: Film) -> dict[str, str]:
    """A wish, an answer that grants it, and one that fails it for exactly one reason.

    reason: "tone" (praise for blame or the reverse), "film" (another film's title), "form" (words out of order).
    """
    polarity = 1 if voice.chance(0.5) else -1
    voice.slots = film.slots()
    prompt, chosen = voice.say("wish", polarity), voice.say("reply", polarity)
    reason = voice.pick(REASONS)
    if reason == "form":
        rejected = _shuffle(voice, chosen)
    else:
        if reason == "film":
            voice.slots = other.slots()
        rejected = voice.say("reply", polarity if reason == "film" else -polarity)
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, "reason": reason, "film": film.title}


def _shuffle(voice: Speaker, sentence: str) -> str:
    """The words of a sentence in an order that differs from the first."""
    words = sentence.split()
    shuffled = words
    while shuffled == words:
        rest, shuffled = list(words), []
        while rest:
            shuffled.append(rest.pop(int(voice.rng.random() * len(rest))))
    return " ".join(shuffled)


def all_facts(voice: Speaker, films: list[Film], times: int) -> list[dict[str, str]]:
    """`times` questions for each fact of each film."""
    return [ask_fact(voice, film, kind) for film in films for kind in FACTS for _ in range(times)]
