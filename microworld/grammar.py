"""A small text grammar: rules in plain files, expanded by a seeded generator.

A rule file holds rules of this shape::

    @name            one alternative per line below
    @name words      comma-separated words, the first ones drawn more often (Zipf's law)

and a line may hold ``{a|b|c}`` (one of them), ``[a]`` (half of the time) and ``<rule>``.
Words of praise and blame come as a pair of rules, ``rule+`` and ``rule-``. In a line, ``<rule=>`` stands for the one
of the requested polarity, and ``<rule!>`` for the opposite one. So one line serves both polarities, and its other
words do not reveal the polarity.
"""

from __future__ import annotations

import random
import re
from bisect import bisect
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any

PHRASES = Path(__file__).parent / "phrases"
PLURAL_VERBS = {"is": "are", "was": "were", "has": "have", "does": "do"}
ZIPF_SHIFT = 3.0  # weight of the r-th word is 1 / (r + shift): a flat head and a long tail, as in real word counts

_TOKEN = re.compile(r"[{}\[\]|]|<[^<>]+>|[^{}\[\]|<>]+")
_ARTICLE = re.compile(r"\b([Aa]) (?=[aeiouAEIOU]|hour|honest|heir)(?!uni[^nm]|use|usu|eu|one\b|once\b)")
_START = re.compile(r"(^[\"']?|[.!?][\"']? +[\"']?)([a-z])")


class Words:
    """A rule that is a list of words or short phrases, of which the first are drawn most often (Zipf's law)."""

    def __init__(self, name: str, words: list[str]):
        self.name, self.words = name, words
        self.polarity = {"+": 1, "-": -1}.get(name[-1], 0)
        self.cumulative = list(accumulate(1 / (rank + ZIPF_SHIFT) for rank in range(len(words))))

    def draw(self, rng: random.Random) -> str:
        return self.words[bisect(self.cumulative, rng.random() * self.cumulative[-1])]


def parse(line: str) -> tuple:
    """Turn a line into nested tuples: ("seq", ...), ("any", ...), ("maybe", node), ("rule", name) and strings."""
    tokens = _TOKEN.findall(line)
    node, end = _sequence(tokens, 0)
    if end != len(tokens):
        raise ValueError(f"Unbalanced brackets in the line {line!r}.")
    return node


def _sequence(tokens: list[str], at: int) -> tuple[tuple, int]:
    parts: list[tuple | str] = []
    while at < len(tokens) and tokens[at] not in "}]|":
        token = tokens[at]
        if token == "{":
            options, at = _options(tokens, at + 1)
            parts.append(("any", *options))
        elif token == "[":
            options, at = _options(tokens, at + 1)
            parts.append(("maybe", options[0] if len(options) == 1 else ("any", *options)))
        else:
            parts.append(("rule", token[1:-1]) if token[0] == "<" else token)
            at += 1
    return ("seq", *parts), at


def _options(tokens: list[str], at: int) -> tuple[list[tuple], int]:
    options = []
    while True:
        node, at = _sequence(tokens, at)
        options.append(node)
        if at >= len(tokens):
            raise ValueError("A bracket is not closed in the line " + repr("".join(tokens)))
        if tokens[at] in "}]":
            return options, at + 1
        at += 1


@cache
def load(*names: str) -> dict[str, Words | list[tuple]]:
    """Read rule files by name (without ending) into one dictionary; later files may add to earlier rules."""
    rules: dict[str, Any] = {}  # Words, or the parsed lines
    for name in names:
        for block in re.split(r"^@", (PHRASES / f"{name}.txt").read_text(encoding="utf-8"), flags=re.M)[1:]:
            head, _, body = block.partition("\n")
            rule, *flags = head.split()
            lines = [line.strip() for line in body.splitlines() if line.strip() and not line.startswith("#")]
            if "words" in flags:
                words = [word.strip() for line in lines for word in line.split(",") if word.strip()]
                rules[rule] = Words(rule, words)
            else:
                rules[rule] = [*rules.get(rule, []), *(parse(line) for line in lines)]
    return rules


class Speaker:
    """Expands rules with one random generator; remembers the words of praise and blame that it has used."""

    def __init__(self, rules: dict, rng: random.Random):
        self.rules, self.rng = rules, rng
        self.slots: dict[str, str] = {}
        self.opinions: list[tuple[str, int]] = []
        plurals = "|".join(rules["plural"].words) if "plural" in rules else "(?!)"
        self._plural = re.compile(rf"\b((?:{plurals}),?(?: alone)? )(is|was|has|does)\b")

    def pick(self, items):
        """Draw one of the items, with `random()` only, whose stream is the same in every Python version."""
        return items[int(self.rng.random() * len(items))]

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def say(self, rule: str, polarity: int = 0, **slots: str) -> str:
        """Expand a rule to finished sentences, with the right articles, plural verbs and capital letters."""
        self.slots.update(slots)
        return self._agree(polish(self._rule(rule, polarity)))

    def line(self, text: str, polarity: int = 0, **slots: str) -> str:
        """Expand a line of text that is given directly, not by a rule's name."""
        self.slots.update(slots)
        return self._agree(polish(self._node(parse(text), polarity)))

    def _agree(self, text: str) -> str:
        """Replace a singular verb after a plural subject by its plural."""
        return self._plural.sub(lambda found: found[1] + PLURAL_VERBS[found[2]], text)

    def _rule(self, name: str, polarity: int) -> str:
        if name in self.slots:
            return self.slots[name]
        sign = name[-1]
        if sign in "=!":
            wanted = polarity if sign == "=" else -polarity
            base = self.slots.get("@" + name[:-1], name[:-1])
            if base + "+" not in self.rules:
                return self._rule(base, wanted)
            name = base + ("+" if wanted > 0 else "-")
        else:
            name = self.slots.get("@" + name, name)
        rule = self.rules[name]
        if isinstance(rule, Words):
            word = rule.draw(self.rng)
            if rule.polarity:
                self.opinions.append((word, rule.polarity))
            return word
        inner = {"+": 1, "-": -1}.get(name[-1], polarity)
        return self._node(self.pick(rule), inner)

    def _node(self, node, polarity: int) -> str:
        if isinstance(node, str):
            return node
        kind = node[0]
        if kind == "seq":
            return "".join([part if isinstance(part, str) else self._node(part, polarity) for part in node[1:]])
        if kind == "any":
            return self._node(self.pick(node[1:]), polarity)
        if kind == "maybe":
            return self._node(node[1], polarity) if self.rng.random() < 0.5 else ""
        return self._rule(node[1], polarity)


def polish(text: str) -> str:
    """Choose between "a" and "an", remove double spaces and articles, and capitalize each sentence."""
    text = re.sub(r"  +", " ", text).strip().replace(" ,", ",").replace(" .", ".")
    text = _ARTICLE.sub(lambda match: match.group(1) + "n ", text)
    text = re.sub(r"\b(the|a) (?:the|a)\b", r"\1", text, flags=re.I)
    return _START.sub(lambda match: match.group(1) + match.group(2).upper(), text)
