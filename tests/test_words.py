"""Words that readers stumble over do not come back: in the README, the guides, messages, docstrings and comments.

The list is the style guide's table. A word may stand in `code`, in a quotation of the data, and where it is the field's
own term (a code branch, a term of a formula).
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Pattern -> what to write instead.
WORDS = {
    r"mend(?:ed|s|ing)?": "fix, fixed",
    r"dear(?:er|est)?|costly": "expensive, costs more",
    r"untold": "unknown",
    r"what stands in": "what the column contains",
    r"newcomers?": "a new domain",
    r"granted wish(?:es)?|wishes granted": "requests satisfied",
    r"leash": "KL penalty",
    r"rungs?": "setting",
    r"climb(?:s|ed|ing)?": "train",
    r"whence|thence|thereof|therein|wherein|whereby|hitherto|henceforth|lest|albeit": "plain words",
    r"ere|nought|naught|oft|amidst|amongst|whilst|betwixt|unto|thrice": "plain words",
    r"is looked at|are looked at|looks at everything": "checks",
    r"(?:says?|said|told|tells?|looks?(?: at \w+)?) in words|in words what": "tells you",
    r"the latter|the former": "its name",
    r"sooner reached|is nothing lost": "a plain sentence",
}
ALL = re.compile(rf"\b(?:{'|'.join(f'(?:{pattern})' for pattern in WORDS)})\b", re.IGNORECASE)
CODE = re.compile(r"```.*?```|`[^`\n]*`|\]\([^)]*\)|<[^>\n]*>", re.DOTALL)
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES += sorted((ROOT / "sweeps").glob("*.yaml"))
MODULES = sorted(
    path
    for folder in ("helpers", "workbook", "microworld", "tools", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
)


def remedy(word: str) -> str:
    """What the list gives instead of a word."""
    return next(better for pattern, better in WORDS.items() if re.fullmatch(pattern, word, re.IGNORECASE))


def found_in(text: str) -> list[str]:
    """Words of the list in a text, but for what stands in code."""
    return [f'"{word}": {remedy(word)}' for word in ALL.findall(CODE.sub(" ", text))]


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of everything in a module that a person reads: docstrings, comments, sentences in messages."""
    source = path.read_text(encoding="utf-8")
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, node.value


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_pages_use_plain_words(page):
    assert found_in(page.read_text(encoding="utf-8")) == []


# The micro-world's data have wishes and facts that a model was told; what makes and shows them says so too.
OWN_WORDS = ("microworld/", "helpers/lessons/lesson_05/")


def test_modules_use_plain_words():
    wrong = [
        f"{module.relative_to(ROOT).as_posix()}:{line} {said}"
        for module in MODULES
        if not module.relative_to(ROOT).as_posix().startswith(OWN_WORDS)
        for line, text in prose(module)
        for said in found_in(text)
    ]
    assert wrong == []


def test_planted_words_are_found(tmp_path):
    assert found_in("Mended, and dearer.") == ['"Mended": fix, fixed', '"dearer": expensive, costs more']
    assert found_in("A `leash` in code and a deadline are fine.") == []
    planted = tmp_path / "planted.py"
    planted.write_text('"""The leash."""\nx = 1  # a rung\nraise ValueError(f"{x} is untold")\n')
    said = [word for _, text in prose(planted) for word in found_in(text)]
    assert len(said) == 3
