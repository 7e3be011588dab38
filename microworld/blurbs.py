"""Short lines for posters and listings: praise next to praise, blame next to blame."""

from __future__ import annotations

from microworld.films import Film
from microworld.grammar import Speaker
from microworld.reviews import choose_aspects


def blurb(voice: Speaker, film: Film) -> str:
    """One to three lines on one film, all of the same polarity."""
    polarity = 1 if voice.chance(film.quality) else -1
    voice.slots = film.slots()
    lines = []
    for _ in range(1 + int(voice.rng.random() * 3)):
        choose_aspects(voice)
        lines.append(voice.say("blurb", polarity))
    return " ".join(lines)
