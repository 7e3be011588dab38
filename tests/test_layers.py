"""Which package may import which: workbook > microworld > helpers. An import inside a function counts too."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ("workbook", "microworld", "helpers")  # each may import itself and those after it
# Libraries of the command: no lesson needs them.
COMMANDS_OWN = {"click", "papermill", "nbclient", "jupytext", "distributed", "duckdb", "pydantic", "sphinx"}
# Lessons whose subject is the machine or the ledger.
MAY_IMPORT_WORKBOOK = {"00_start_here", "12_course_conclusion"}
LESSONS = sorted((ROOT / "notebooks" / "source").glob("[0-9][0-9]_*.py"))


def imported(code: str) -> set[str]:
    """The first part of the name of every module that some code imports."""
    found = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def wrong(package: str, code: str) -> set[str]:
    """What code of a package imports and may not."""
    above = set(LAYERS[: LAYERS.index(package)])
    return imported(code) & (above if package == "workbook" else above | COMMANDS_OWN)


@pytest.mark.parametrize("package", LAYERS)
def test_imports_point_downwards(package):
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    found = {str(file.relative_to(ROOT)): wrong(package, file.read_text(encoding="utf-8")) for file in files}
    assert {name: names for name, names in found.items() if names} == {}


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_does_not_need_the_command(lesson):
    names = imported(lesson.read_text(encoding="utf-8"))
    assert "workbook" not in names or lesson.stem in MAY_IMPORT_WORKBOOK


@pytest.mark.parametrize(
    ("package", "code", "found"),
    [
        ("helpers", "from workbook.lessons import find", {"workbook"}),
        ("helpers", "def f():\n    import microworld.judge", {"microworld"}),
        ("microworld", "from workbook import doctor\nimport helpers", {"workbook"}),
        ("microworld", "def f():\n    import click", {"click"}),
        ("workbook", "import click, microworld\nfrom helpers import catalog", set()),
    ],
)
def test_a_planted_arrow_is_seen(package, code, found):
    assert wrong(package, code) == found
