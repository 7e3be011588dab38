"""Film reviews whose true label is known: the opinion is stated plainly, or by negation, contrast and the like.

The label is the sign of the writer's own sentences about this film. Quoted opinions, dismissed points, other films and
the plot do not count, although they use the same words of praise and criticism. So a reader can always find the label,
and a bag-of-words model often cannot.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from microworld.films import Film
from microworld.grammar import Speaker, load

ASPECTS = ("acting", "script", "story", "pictures", "music", "pace", "humour")
COUNTED = ("plain", "negated", "contrast", "counterfactual", "expected", "disagree")
NOT_COUNTED = ("hearsay", "waved_aside", "elsewhere")


@dataclass(frozen=True)
class Style:
    """The settings of a set of reviews, which decide how hard it is to classify."""

    counted: tuple[float, ...]  # weights of the kinds in COUNTED
    own: tuple[float, ...]  # chances of 1, 2, 3 ... sentences that count
    aside: tuple[float, ...]  # chances of 0, 1, 2 ... sentences that do not count
    against: float  # chance that a sentence that does not count speaks against the verdict
    mixed: float  # chance that one of three or more counted sentences goes the other way
    verdict: float  # chance of a closing verdict
    noise: float = 0.0  # chance that the label is wrong


@dataclass(frozen=True)
class Review:
    text: str
    polarity: int  # +1 or -1: what the writer thinks
    phenomena: tuple[str, ...]
    misleading: tuple[str, ...]  # words of praise in a poor review, words of blame in a good one


def speaker(rng: random.Random) -> Speaker:
    return Speaker(
        load("names", "opinions", "things", "reviews", "blurbs", "pages", "talk", "news", "recipes", "instructions"),
        rng,
    )


def choose_aspects(voice: Speaker) -> None:
    """Draw the aspects of `<subject>` and `<other_subject>`, and choose the rules for their adjectives."""
    first = voice.pick(ASPECTS)
    second = voice.pick([aspect for aspect in ASPECTS if aspect != first])
    for prefix, aspect in (("", first), ("other_", second)):
        voice.slots[f"@{prefix}subject"] = f"{aspect}.subject"
        voice.slots[f"@{prefix}quality"] = f"{aspect}.adj" if voice.chance(0.6) else "adj"


class Reviewer:
    """Writes reviews of films in one style. The same generator state gives the same text."""

    def __init__(self, style: Style, rng: random.Random, films: list[Film]):
        self.style, self.rng, self.films = style, rng, films
        self.voice = speaker(rng)

    def write(self, film: Film, polarity: int | None = None) -> Review:
        if polarity is None:
            polarity = 1 if self.rng.random() < film.quality else -1
        voice, style = self.voice, self.style
        voice.opinions.clear()
        voice.slots = {**film.slots(), "other_title": voice.pick(self.films).title}
        body, phenomena = self._own(polarity)
        for _ in range(self._draw(style.aside)):
            kind = voice.pick(NOT_COUNTED)
            sign = -polarity if voice.chance(style.against) else polarity
            body.insert(int(self.rng.random() * (len(body) + 1)), self._sentence(kind, sign))
            phenomena.append(kind)
        text = " ".join(self._frame(body, polarity, phenomena))
        misleading = sorted({word for word, sign in voice.opinions if sign == -polarity})
        return Review(text, polarity, tuple(sorted(set(phenomena))), tuple(misleading))

    def _own(self, polarity: int) -> tuple[list[str], list[str]]:
        count = 1 + self._draw(self.style.own)
        signs = [polarity] * count
        if count >= 3 and self.voice.chance(self.style.mixed):
            signs[int(self.rng.random() * (count - 1))] = -polarity
        # A sentence against the verdict is "plain", so it is about one aspect. The others may be about the whole film.
        kinds = [COUNTED[self._draw(self.style.counted)] if sign == polarity else "plain" for sign in signs]
        phenomena = kinds + (["mixed"] if -polarity in signs else [])
        return [self._sentence(kind, sign) for kind, sign in zip(kinds, signs, strict=True)], phenomena

    def _sentence(self, kind: str, sign: int) -> str:
        voice = self.voice
        choose_aspects(voice)
        rule = kind + ("+" if sign > 0 else "-") if kind == "counterfactual" else kind
        return voice.say(rule, sign)

    def _frame(self, body: list[str], polarity: int, phenomena: list[str]) -> list[str]:
        """Add an opening, plot, remark and verdict around the opinions, each by chance."""
        voice = self.voice
        if voice.chance(0.5):
            body.insert(0, voice.say("plot"))
            phenomena.append("plot")
        if voice.chance(0.5):
            body.insert(0, voice.say("opening"))
        if voice.chance(0.35):
            body.insert(int(self.rng.random() * (len(body) + 1)), voice.say("remark"))
        if voice.chance(self.style.verdict):
            body.append(voice.say("verdict" + ("+" if polarity > 0 else "-")))
            phenomena.append("verdict")
        return body

    def _draw(self, weights: tuple[float, ...]) -> int:
        at = self.rng.random() * sum(weights)
        for index, weight in enumerate(weights):
            at -= weight
            if at < 0:
                return index
        return len(weights) - 1
