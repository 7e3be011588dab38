"""Pretraining text: a corpus in five domains, and a library about more films that only the decoder reads."""

from __future__ import annotations

from collections.abc import Callable

from microworld.reviews import Reviewer, Style, speaker
from microworld.texts import blurb, item, page, reading, recipe, talk
from microworld.world import World, generator

CORPUS_STYLE = Style(
    counted=(8, 1, 1, 0.5, 0.5, 0.5),
    own=(0.05, 0.25, 0.4, 0.3),
    aside=(0.5, 0.35, 0.15),
    against=0.6,
    mixed=0.25,
    verdict=0.25,
)
CORPUS_ROWS = {"reviews": 60_000, "blurbs": 60_000, "films": 60_000, "talk": 20_000, "news": 40_000}
LIBRARY_ROWS = {"pages": 24_000, "questions": 24_000, "readings": 36_000}

Splits = dict[str, list[dict]]


def corpus(world: World) -> Splits:
    """Return pretraining text in five domains, and the split `newcomer` in a sixth that pretraining never sees."""
    rng = generator("corpus")
    voice, critic = speaker(rng), Reviewer(CORPUS_STYLE, rng, world.told)
    write: dict[str, Callable[[], str]] = {
        "reviews": lambda: critic.write(voice.pick(world.told)).text,
        "blurbs": lambda: blurb(voice, voice.pick(world.told)),
        "films": lambda: page(voice, voice.pick(world.told)),
        "talk": lambda: talk(voice, voice.pick(world.talked)),
        "news": lambda: item(voice, int(rng.random() * 4)),
    }
    held_out = dict.fromkeys(CORPUS_ROWS, 200)
    splits = {
        name: [{"text": write[domain](), "domain": domain} for domain, count in sizes.items() for _ in range(count)]
        for name, sizes in (("train", CORPUS_ROWS), ("validation", held_out))
    }
    splits["newcomer"] = [{"text": recipe(voice), "domain": "recipes"} for _ in range(2_000)]
    return splits


def library(world: World) -> Splits:
    """Return text about many more films, for the decoder: pages, questions about most of these films, and readings.

    A model memorizes the facts of a few films. It needs many films to learn to answer questions about a film that no
    training question asks about. Readings are about films that no other pretraining text names, so the model can only
    copy the answers from the text.
    """
    voice = speaker(generator("library"))
    asked = world.shelved[: len(world.shelved) * 3 // 4]
    write: dict[str, Callable[[], str]] = {
        "pages": lambda: page(voice, voice.pick(world.shelved)),
        "questions": lambda: talk(voice, voice.pick(asked)),
        "readings": lambda: reading(voice, voice.pick(world.passing)),
    }
    rows = [{"text": write[domain](), "domain": domain} for domain, count in LIBRARY_ROWS.items() for _ in range(count)]
    return {"train": rows}
