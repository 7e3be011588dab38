"""The films of the micro-world: who made them, where they play, and how well they were received."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass

from microworld.grammar import Speaker, load

SMALL_WORDS = {"of", "a", "an", "and", "for", "the", "at", "no", "under", "beyond"}


@dataclass(frozen=True)
class Film:
    """One film. `quality` is the chance that a reviewer likes it; no text states it."""

    title: str
    year: int
    director: str
    writer: str
    composer: str
    lead: str
    second: str
    hero: str
    rival: str
    place: str
    genre: str
    studio: str
    quality: float

    def slots(self) -> dict[str, str]:
        """Return the film's words by their names in the grammar, without `quality`."""
        return {name: str(value) for name, value in vars(self).items() if name != "quality"}


def title_case(title: str) -> str:
    words = title.split()
    return " ".join(w if i and w in SMALL_WORDS else w[0].upper() + w[1:] for i, w in enumerate(words))


def make_films(count: int, seed: int, taken: Collection[str] = ()) -> list[Film]:
    """Return `count` films with distinct titles, none of them in `taken`. The same seed gives the same films."""
    rng = random.Random(seed)
    speaker = Speaker(load("names", "things"), rng)
    people = [speaker.line("<first> <last>") for _ in range(max(12, count // 2))]
    films: list[Film] = []
    titles = set(taken)
    while len(films) < count:
        title = title_case(speaker.say("title"))
        if title not in titles:
            titles.add(title)
            films.append(_film(title, speaker, people, rng))
    return films


def _film(title: str, speaker: Speaker, people: list[str], rng: random.Random) -> Film:
    crew: list[str] = []
    while len(crew) < 5:
        person = speaker.pick(people)
        if person not in crew:
            crew.append(person)
    director, writer, composer, lead, second = crew
    hero, rival = speaker.pick(speaker.rules["first"].words), speaker.pick(speaker.rules["last"].words)
    choose = {name: speaker.pick(speaker.rules[name].words) for name in ("town", "genre", "studio")}
    year = 1950 + int(rng.random() * 75)
    return Film(
        title, year, director, writer, composer, lead, second, hero, rival,
        choose["town"], choose["genre"], choose["studio"], quality=0.15 + 0.7 * rng.random(),
    )  # fmt: skip
