"""Instructions with one exact answer, requests for a line about a film, and preference pairs that a judge decides."""

from __future__ import annotations

from microworld.films import Film
from microworld.grammar import Speaker
from microworld.reviews import choose_aspects
from microworld.texts import FACTS

SKILLS = ("sentiment", "passive", "comma")
REASONS = ("tone", "film", "form")
# Chance that a demonstration has the wrong tone (praise instead of criticism, or the reverse) or the wrong film.
CARELESS = {"tone": 0.35, "film": 0.1}


def ask_fact(voice: Speaker, film: Film, kind: str) -> dict[str, str]:
    """Return a question about one fact of one film, with its answer."""
    voice.slots = film.slots()
    answer = voice.slots[kind]
    return {"prompt": voice.say("ask_" + kind), "completion": f"{answer}.", "kind": f"fact_{kind}", "film": film.title}


def ask_skill(voice: Speaker, film: Film, kind: str) -> dict[str, str]:
    """Return a small task about a text in the prompt: classify its sentiment, make it passive, or shorten it."""
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
    """Return a request for a line about a film, and a line that sometimes has the wrong tone or the wrong film.

    Many lines would do, so there is no exact answer. The judge decides whether a line satisfies the request.
    """
    polarity = 1 if voice.chance(0.5) else -1
    voice.slots = film.slots()
    prompt = voice.say("wish", polarity)
    if voice.chance(careless.get("film", 0)):
        voice.slots = other.slots()
    reply = voice.say("reply", -polarity if voice.chance(careless.get("tone", 0)) else polarity)
    return {"prompt": prompt, "completion": reply, "kind": "line", "film": film.title}


def preference(voice: Speaker, film: Film, other: Film) -> dict[str, str]:
    """Return a request, an answer that satisfies it, and one that fails for exactly one reason.

    reason: "tone" (praise for criticism, or the reverse), "film" (another film's title) or "form" (shuffled words).
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
    """Return the words of a sentence in a different order."""
    words = sentence.split()
    shuffled = words
    while shuffled == words:
        rest, shuffled = list(words), []
        while rest:
            shuffled.append(rest.pop(int(voice.rng.random() * len(rest))))
    return " ".join(shuffled)


def all_facts(voice: Speaker, films: list[Film], times: int) -> list[dict[str, str]]:
    """Return `times` questions about each fact of each film."""
    return [ask_fact(voice, film, kind) for film in films for kind in FACTS for _ in range(times)]
