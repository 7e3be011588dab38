"""The glossary's terms, and where a lesson first uses each: there it has to be linked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from helpers.paths import ROOT
from workbook.site.links import slug

PATH = ROOT / "docs" / "glossary.md"
TARGET = "../docs/glossary.md#"
BASIC = "Basic words"
ENTRY = re.compile(r"^(#{2,3}) (.+)$", re.MULTILINE)
ALSO = re.compile(r"\b(?:Short|Also): ([^.\n]+)\.")
# What is no running text: code, formulas, tags, headings, tables, and the objectives.
APART = re.compile(
    r"```.*?```|`[^`\n]+`|\$\$.*?\$\$|\$[^$\n]+\$|<[^>]+>|^#+ [^\n]*$|^\s*\|[^\n]*$|^\*\*You will be able to\*\*.*",
    re.DOTALL | re.MULTILINE,
)
LINK = re.compile(r"\[([^\[\]]*)\]\(([^()\s]+)\)")


@dataclass(frozen=True)
class Term:
    """An entry of the glossary: its heading, how it is written in texts, and whether every lesson links it."""

    name: str
    spellings: tuple[str, ...]
    basic: bool = False

    @property
    def target(self) -> str:
        return TARGET + slug(self.name)


@dataclass(frozen=True)
class Use:
    """A place where a term stands: the cell, the letters from `start` to `end`, and where its link leads ('': none)."""

    term: Term
    cell: int
    start: int
    end: int
    target: str

    @property
    def linked(self) -> bool:
        return self.target == self.term.target


def terms(path: Path = PATH) -> list[Term]:
    """All entries of the glossary, in its order."""
    text = path.read_text(encoding="utf-8")
    found, basic = [], False
    headings = list(ENTRY.finditer(text))
    for heading, following in zip(headings, [*headings[1:], None], strict=True):
        if heading[1] == "##":
            basic = heading[2] == BASIC
            continue
        said = text[heading.end() : following.start() if following else len(text)]
        found.append(Term(heading[2], (heading[2], *ALSO.findall(said)), basic))
    return found


def first_uses(cells: Sequence[str], known: Sequence[Term]) -> dict[str, Use]:
    """Name of a term -> where the Markdown cells first use it; a word inside a longer term is not a use of its own."""
    found: dict[str, Use] = {}
    for number, text in enumerate(cells):
        for use in _uses(text, number, known):
            found.setdefault(use.term.name, use)
    return found


def _uses(text: str, number: int, known: Sequence[Term]) -> Iterator[Use]:
    plain = APART.sub(lambda part: " " * len(part[0]), text)
    links = [(link.start(1), link.end(1), link[2]) for link in LINK.finditer(text)]
    for _, end, target in links:  # an address is not running text either
        plain = plain[: end + 2] + " " * len(target) + plain[end + 2 + len(target) :]
    by_spelling = {spelling.lower(): term for term in known for spelling in term.spellings}
    longest_first = sorted(by_spelling, key=len, reverse=True)
    said = "|".join(re.escape(spelling).replace(r"\ ", r"\s+") for spelling in longest_first)
    for match in re.finditer(rf"(?<![\w-])({said})(?:s|es)?(?![\w-])", plain, re.IGNORECASE):
        term = by_spelling[" ".join(match[1].lower().split())]
        target = next((target for start, end, target in links if start <= match.start() < end), "")
        yield Use(term, number, match.start(), match.end(), target)
