"""Which metrics a lesson records, read from its source without running it.

The names stand in the cell that calls `record`: as words, as `accuracy_{name}` with a loop around it, or inside an
outcome's `metrics(name)`. What may stand for `{name}` are words that the lesson, or a helper it imports, holds as text,
and numbers: so `accuracy_ia3` is known to lesson 07 and `accuracy_ia4` is not.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from helpers.paths import ROOT
from helpers.record import METRIC_NAME

LONGEST = 40
OUTCOME = (
    "accuracy_",
    "seconds_",
    "trainable_parameters_",
    "peak_memory_bytes_",
)  # of Outcome.metrics
GAP = "{}"
DATA = (
    "microworld/corpus.py",
    "microworld/instructions.py",
)  # the names of its domains and tasks reach lessons as data


@dataclass(frozen=True)
class Recorded:
    """The names of one lesson."""

    templates: frozenset[str]  # with {} where something is filled in
    words: frozenset[str]

    def __contains__(self, name: str) -> bool:
        return name in self.templates or bool(self._pattern.fullmatch(name))

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        word = "|".join(sorted(map(re.escape, self.words), key=len, reverse=True))
        filled = rf"(?:{word}|\d+)(?:_(?:{word}|\d+))*"
        gaps = (re.sub(r"(\{\})+", GAP, template) for template in self.templates if GAP in template)
        parts = (filled.join(map(re.escape, template.split(GAP))) for template in gaps)
        return re.compile("|".join(parts) or r"(?!)")


def recorded(source: Path) -> Recorded:
    """The metrics that a lesson's source records."""
    text = source.read_text(encoding="utf-8")
    cells = [
        piece for piece in re.split(r"(?m)^# %%.*$", text) if re.search(r"= record\(|\bvalues(\[.*\])? \|?= ", piece)
    ]
    found = {template for cell in cells for template in _templates(ast.parse(cell))} - {GAP}  # a number is no name
    templates = {template for template in found if METRIC_NAME.fullmatch(template.replace(GAP, "x"))}
    files = [source, *_imported(ast.parse(text)), *(ROOT / name for name in DATA)]
    words = frozenset(word for path in files for word in _words(ast.parse(path.read_text(encoding="utf-8"))))
    return Recorded(frozenset(templates), words)


def _templates(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant | ast.JoinedStr):
            yield _template(node)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "record":
            yield from (keyword.arg for keyword in node.keywords if keyword.arg)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "metrics":
            yield from (start + _template(node.args[0]) for start in OUTCOME)


def _template(node: ast.expr) -> str:
    """A string's text; whatever is only known at run time is {}."""
    if isinstance(node, ast.JoinedStr):
        return "".join(_template(part) for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else GAP


def _words(tree: ast.AST) -> Iterator[str]:
    """Every short text, spelled as in a metric's name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) <= LONGEST:
            word = re.sub(r"[^a-z0-9]+", "_", node.value.lower()).strip("_")
            if METRIC_NAME.fullmatch(word):
                yield word


def _imported(tree: ast.AST) -> list[Path]:
    """The files of the helpers that a lesson imports."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(("helpers", "microworld")):
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    paths = (ROOT / Path(*name.split(".")).with_suffix(".py") for name in sorted(names))
    return [path for path in paths if path.is_file()]
