"""An exact judge of answers to a request for a line: are the tone, the film and the form right?

The judge turns two grammar rules into a regular expression: `@reply`, which made the data, and `@fluent`, which adds
sentences that a reader would accept. The expression has a group for each word of praise or blame and for each fact. So
the judge parses a line and never guesses, and broken text cannot win.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from functools import cache
from itertools import count

from helpers.runtime import UserError
from microworld.films import Film, title_case
from microworld.grammar import Words, load, polish
from microworld.reviews import speaker
from microworld.world import World

PEOPLE = ("director", "lead", "second")
ACCEPTED = ("reply", "fluent")  # an answer has the right form if it matches one of these rules
FACTS = {
    **dict.fromkeys(PEOPLE, ("first", " ", "last")),
    "place": ("town",),
    "genre": ("genre",),
    "studio": ("studio",),
}
POLARITIES = {1: "plus", -1: "minus"}
SPACE = r"(?: |(?<= )|(?=[.,]))"  # `polish` removes the extra space that an empty option leaves
_AN = re.compile(r"\b([Aa])n(?= )")


@dataclass(frozen=True)
class Verdict:
    """Whether a line satisfies a request: the requested tone, the right title and facts, and grammatical form."""

    tone: bool
    film: bool
    form: bool

    @property
    def good(self) -> bool:
        """Whether the line satisfies the request: tone, film and form are all right."""
        return self.tone and self.film and self.form

    @property
    def score(self) -> float:
        """0 for broken text, else 1/3, plus 1/3 for the right tone and 1/3 for the right film."""
        return (1 + self.tone + self.film) / 3 if self.form else 0.0


def judge(film: Film | str, tone: int, text: str) -> Verdict:
    """Judge a line that should be about `film` (or its title) and have this tone: +1 for praise, -1 for blame.

    Given the title of a film that the corpus does not describe, the judge checks the title and no facts.
    """
    title = film if isinstance(film, str) else film.title
    known = _told().get(film) if isinstance(film, str) else film
    found = _match(_reply(), text)
    if not found or polish(_bare(text)) != text or not _is_title(_named(found, "title")):
        return Verdict(tone=_tones(text) == {tone}, film=title in text, form=False)
    facts = {fact: _named(found, fact) for fact in FACTS}
    true = known is None or all(facts[fact] <= {_bare(getattr(known, fact))} for fact in FACTS)
    return Verdict(
        tone=bool(_named(found, POLARITIES[tone])) and not _named(found, POLARITIES[-tone]),
        film=_named(found, "title") == {_bare(title)} and true,
        form=True,
    )


def wish(prompt: str) -> tuple[str, int]:
    """Return the film's title and the tone (+1 or -1) that a prompt requests.

    Raises:
        UserError: the prompt is not a request that the grammar can make.
    """
    found = _match(_wish(), prompt.strip())
    if not found or not _is_title(_named(found, "title")):
        raise UserError(f'prompt: "{prompt}" is not a wish for a line; write it like "Write a kind line about TITLE."')
    (title,) = _named(found, "title")
    return polish(title), 1 if _named(found, "plus") else -1


def judge_answer(prompt: str, answer: str) -> Verdict:
    """Judge an answer to a prompt that requests a line."""
    return judge(*wish(prompt), answer)


class _Pattern:
    """Writes the regular expression of a rule; its groups are `title_1`, `plus_2`, `director_3` and so on."""

    def __init__(self, rules: dict):
        self.rules, self.numbers = rules, count(1)

    def rule(self, name: str) -> str:
        if name.endswith("="):  # separate groups for praise and blame, so the match shows the tone
            base = name[:-1]
            return f"(?:{self.group('plus', self.rule(base + '+'))}|{self.group('minus', self.rule(base + '-'))})"
        if name == "title":
            return self.group("title", f"(?i:{self.lines('title')})")
        if name in FACTS:
            parts = (part if part == " " else self.lines(part) for part in FACTS[name])
            return self.group(name, "".join(parts))
        return self.lines(name)

    def lines(self, name: str) -> str:
        rule = self.rules[name]
        if isinstance(rule, Words):
            return _either(re.escape(_bare(word)) for word in sorted(rule.words, key=len, reverse=True))
        return _either(self.node(line) for line in rule)

    def node(self, node) -> str:
        if isinstance(node, str):
            return re.escape(_bare(node)).replace(r"\ ", SPACE)
        kind, *parts = node
        if kind == "rule":
            return self.rule(parts[0])
        inner = [self.node(part) for part in parts]
        return "".join(inner) if kind == "seq" else _either(inner) + ("?" if kind == "maybe" else "")

    def group(self, name: str, pattern: str) -> str:
        return f"(?P<{name}_{next(self.numbers)}>{pattern})"


def _either(patterns) -> str:
    return "(?:" + "|".join(patterns) + ")"


def _compile(*names: str) -> re.Pattern:
    writer = _Pattern({**speaker(random.Random(0)).rules, **load("judge")})
    return re.compile(_either(writer.node(line) for name in names for line in writer.rules[name]))


def _match(pattern: re.Pattern, text: str) -> re.Match | None:
    """Match the whole text. The rules write its first word in lower case, unless it is a title."""
    bare = _bare(text)
    return pattern.fullmatch(bare) or pattern.fullmatch(bare[:1].lower() + bare[1:])


@cache
def _reply() -> re.Pattern:
    return _compile(*ACCEPTED)


@cache
def _wish() -> re.Pattern:
    return _compile("wish")


@cache
def _told() -> dict[str, Film]:
    return {film.title: film for film in World().told}


@cache
def _opinion_words() -> dict[int, re.Pattern]:
    rules = speaker(random.Random(0)).rules
    words = {sign: [*rules["adj" + mark].words, *rules["noun" + mark].words] for sign, mark in ((1, "+"), (-1, "-"))}
    return {sign: re.compile(rf"\b{_either(map(re.escape, found))}\b") for sign, found in words.items()}


def _tones(text: str) -> set[int]:
    """Return the polarities of the words of praise and blame in a text that does not match the rules."""
    return {sign for sign, pattern in _opinion_words().items() if pattern.search(text)}


def _named(found: re.Match, name: str) -> set[str]:
    """Return every text that a group of this name matched."""
    return {text for group, text in found.groupdict().items() if text and group.rpartition("_")[0] == name}


def _is_title(titles: set[str]) -> bool:
    return all(title == title_case(title.lower()) for title in titles)


def _bare(text: str) -> str:
    """Replace every "an" by "a", as the rules write it."""
    return _AN.sub(r"\1", text)
