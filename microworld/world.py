"""Which films the micro-world holds, and what may be said of each."""

from __future__ import annotations

import random

from microworld.films import make_films

SEED = 2024


class World:
    """The films, and who may speak of them: told and asked about, told only, told and asked in training, untold."""

    def __init__(self, seed: int = SEED):
        self.told = make_films(240, seed)
        taken = {film.title for film in self.told}
        self.fresh = make_films(320, seed + 1, taken)  # films of the labelled reviews: the corpus never names them
        taken |= {film.title for film in self.fresh}
        self.shelved = make_films(600, seed + 2, taken)  # films of the library
        taken |= {film.title for film in self.shelved}
        self.passing = make_films(8_000, seed + 3, taken)  # named once or twice, so not worth remembering
        self.talked = [film for index, film in enumerate(self.told) if index % 4 < 2]
        self.asked = [film for index, film in enumerate(self.told) if index % 4 == 2]
        self.silent = [film for index, film in enumerate(self.told) if index % 4 == 3]


def generator(name: str) -> random.Random:
    """A random stream of its own for each part, so that one part's size does not change another's rows."""
    return random.Random(f"{SEED}/{name}")


def shuffled(rows: list[dict], rng: random.Random) -> list[dict]:
    """The rows in a random order that depends on `random()` alone."""
    return [row for _, _, row in sorted((rng.random(), index, row) for index, row in enumerate(rows))]
