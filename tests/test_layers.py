"""Which package may import which. The contracts are in pyproject.toml; import-linter holds them."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("helpers", "workbook", "microworld")
# The command imports what a verb needs when the verb is called: `workbook --help` would take ten seconds otherwise.
MAY_IMPORT_LATE = {"workbook/cli.py"}
# Lessons whose subject is the machine or the ledger.
MAY_IMPORT_WORKBOOK = {"00_start_here", "12_course_conclusion"}
MODULES = [file.relative_to(ROOT) for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]
LESSONS = sorted((ROOT / "notebooks" / "source").glob("[0-9][0-9]_*.py"))


def imported(tree: ast.AST) -> set[str]:
    """The first part of the name of every module that some code imports."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def imported_late(code: str) -> set[str]:
    """The packages of this project that some code imports inside a function."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    inside = [imported(node) for node in ast.walk(ast.parse(code)) if isinstance(node, functions)]
    return set().union(*inside) & set(PACKAGES)


def lint_imports(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess:
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_the_contracts_are_kept():
    result = lint_imports()
    assert result.returncode == 0, result.stdout


def test_a_planted_arrow_back_is_seen(tmp_path):
    """Inside a function too, where no start of the program would meet it."""
    for package in PACKAGES:
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    (tmp_path / "helpers" / "catalog.py").write_text("def rows():\n    import microworld\n")
    contracts = (ROOT / "pyproject.toml").read_text().split("[[tool.importlinter.contracts]]")
    layers = next(text for text in contracts if 'layers = ["workbook", "microworld", "helpers"]' in text)
    roots = f"[tool.importlinter]\nroot_packages = {list(PACKAGES)}\n"
    (tmp_path / "pyproject.toml").write_text(f"{roots}[[tool.importlinter.contracts]]{layers.partition('[tool.')[0]}")
    result = lint_imports(folder=tmp_path)
    assert result.returncode == 1 and "helpers.catalog -> microworld" in result.stdout, result.stdout


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_what_a_module_needs_stands_at_its_head(module):
    if module.as_posix() not in MAY_IMPORT_LATE:
        assert imported_late((ROOT / module).read_text(encoding="utf-8")) == set()


def test_a_late_import_is_seen():
    assert imported_late("import torch\ndef f():\n    from helpers.catalog import dataset") == {"helpers"}
    assert imported_late("from helpers import catalog\ndef f():\n    import torch") == set()


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_does_not_need_the_command(lesson):
    names = imported(ast.parse(lesson.read_text(encoding="utf-8")))
    assert "workbook" not in names or lesson.stem in MAY_IMPORT_WORKBOOK
