"""News items in AG News's four classes, and recipes: a domain that pretraining never sees."""

from __future__ import annotations

from microworld.grammar import Speaker

TOPICS = ("World", "Sports", "Business", "Sci/Tech")
RULES = ("world", "sports", "business", "scitech")
STRAY = 0.25  # chance that a second sentence comes from another class, as in real news


def item(voice: Speaker, topic: int) -> str:
    """One to three sentences of class `topic` (0 to 3). The first sentence always belongs to the class."""
    voice.slots = {}
    sentences = [voice.say(RULES[topic])]
    if voice.chance(0.5):
        other = int(voice.rng.random() * 4) if voice.chance(STRAY) else topic
        sentences.append(voice.say(RULES[other]))
    if voice.chance(0.6):
        sentences.append(voice.say("more"))
    return " ".join(sentences)


def recipe(voice: Speaker) -> str:
    """A short recipe."""
    voice.slots = {}
    return voice.say("recipe")
