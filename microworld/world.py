"""The films of the micro-world, in groups that decide which texts mention them."""

from __future__ import annotations

import random

from microworld.films import make_films

SEED = 2024


class World:
    """All films, in groups by what the training texts say: facts, also questions about the facts, or nothing."""

    def __init__(self, seed: int = SEED):
        self.told = make_films(240, seed)
        taken = {film.title for film in self.told}
        self.fresh = make_films(320, seed + 1, taken)  # films of the labelled reviews: the corpus never names them
        taken |= {film.title for film in self.fresh}
        self.shelved = make_films(600, seed + 2, taken)  # films of the library
        taken |= {film.title for film in self.shelved}
        self.passing = make_films(8_000, seed + 3, taken)  # films of the readings: each is too rare to be memorized
        # The corpus asks about the films `talked`. Only the training instructions ask about the films `asked`. No
        # training text asks about the films `silent`.
        self.talked = [film for index, film in enumerate(self.told) if index % 4 < 2]
        self.asked = [film for index, film in enumerate(self.told) if index % 4 == 2]
        self.silent = [film for index, film in enumerate(self.told) if index % 4 == 3]


def generator(name: str) -> random.Random:
    """Return a separate random generator for the part `name`, so one part's size does not change another's rows."""
    return random.Random(f"{SEED}/{name}")


def shuffled(rows: list[dict], rng: random.Random) -> list[dict]:
    """Return the rows in a random order, drawn with `random()` only: its stream is the same in every Python version."""
    return [row for _, _, row in sorted((rng.random(), index, row) for index, row in enumerate(rows))]
