"""Texts besides reviews: pages of facts, questions with answers, blurbs, news items and recipes."""

from __future__ import annotations

from microworld.films import Film
from microworld.grammar import Speaker
from microworld.reviews import choose_aspects

TOPICS = ("World", "Sports", "Business", "Sci/Tech")
RULES = ("world", "sports", "business", "scitech")
STRAY = 0.25  # chance that the second sentence comes from a randomly drawn class, as in real news
FACTS = ("director", "year", "lead", "place", "studio", "composer")
# Prompts for a fact, as a text to complete. The corpus contains each of them, followed by its answer.
CLOZES = {
    "director": ("The director of {title} is", "{title} was directed by"),
    "year": ("{title} was released in", "{title} came out in"),
    "lead": ("The star of {title} is", "The lead in {title} is played by"),
    "place": ("{title} is set in", "The story of {title} takes place in"),
    "studio": ("{title} was made by", "The studio behind {title} is"),
    "composer": ("The music for {title} was written by", "The composer of {title} is"),
}


def page(voice: Speaker, film: Film) -> str:
    """Return a paragraph on one film: two to six of its facts, each in one of many wordings."""
    voice.slots = film.slots()
    kinds = [*FACTS, "genre"]
    count = 2 + int(voice.rng.random() * 5)
    sentences = [f"{film.title}."] if voice.chance(0.4) else []
    for _ in range(count):
        kind = kinds.pop(int(voice.rng.random() * len(kinds)))
        sentences.append(voice.say("tell_" + kind))
    return " ".join(sentences)


def reading(voice: Speaker, film: Film) -> str:
    """Return two to four facts of a film, then one or two questions that these facts answer."""
    voice.slots = film.slots()
    kinds = list(FACTS)
    told = [kinds.pop(int(voice.rng.random() * len(kinds))) for _ in range(2 + int(voice.rng.random() * 3))]
    lines = [voice.say("tell_" + kind) for kind in told]
    for _ in range(1 + int(voice.rng.random() * 2)):
        lines.append(_asked(voice, told.pop(int(voice.rng.random() * len(told)))))
    return " ".join(lines)


def talk(voice: Speaker, film: Film) -> str:
    """Return one to three questions about one film, with their answers."""
    voice.slots = film.slots()
    kinds = list(FACTS)
    lines = []
    for _ in range(1 + int(voice.rng.random() * 3)):
        kind = kinds.pop(int(voice.rng.random() * len(kinds)))
        lines.append(_asked(voice, kind))
    if voice.chance(0.3):
        lines.append(f"Q: {voice.say('thanks')}")
    return " ".join(lines)


def _asked(voice: Speaker, kind: str) -> str:
    return f"Q: {voice.say('ask_' + kind)} A: {voice.say('answer', answer=voice.slots[kind])}"


def clozes(film: Film) -> list[dict[str, str]]:
    """Return the film's facts as texts to complete, with the columns prompt, answer, film and kind."""
    slots = film.slots()
    return [
        {"prompt": prompt.format(title=film.title), "answer": slots[kind], "film": film.title, "kind": kind}
        for kind, prompts in CLOZES.items()
        for prompt in prompts
    ]


def blurb(voice: Speaker, film: Film) -> str:
    """Return one to three lines on one film, all of the same polarity."""
    polarity = 1 if voice.chance(film.quality) else -1
    voice.slots = film.slots()
    lines = []
    for _ in range(1 + int(voice.rng.random() * 3)):
        choose_aspects(voice)
        lines.append(voice.say("blurb", polarity))
    return " ".join(lines)


def item(voice: Speaker, topic: int) -> str:
    """Return one to three sentences of class `topic` (0 to 3). The first sentence always belongs to the class."""
    voice.slots = {}
    sentences = [voice.say(RULES[topic])]
    if voice.chance(0.5):
        other = int(voice.rng.random() * 4) if voice.chance(STRAY) else topic
        sentences.append(voice.say(RULES[other]))
    if voice.chance(0.6):
        sentences.append(voice.say("more"))
    return " ".join(sentences)


def recipe(voice: Speaker) -> str:
    """Return a short recipe."""
    voice.slots = {}
    return voice.say("recipe")
