"""Identifies a run by what it depends on: the notebook's code, the helpers that it imports, libraries, parameters."""

from __future__ import annotations

import ast
import hashlib
import json
from functools import lru_cache
from pathlib import Path

from helpers.files import committed_sums
from helpers.paths import ROOT, local_path
from helpers.real import real_folder
from helpers.record import versions
from workbook.lessons import Lesson

OWN = ("helpers", "microworld", "workbook")  # packages of this project that a lesson can reach
FILES = ("data", "model")  # parameters that may name a file or folder of the learner


def state_of(lesson: Lesson) -> dict[str, str]:
    """A hash of each thing that changes results: notebook, helpers, data, libraries.

    The notebook's hash covers only code and tags, because other parts, such as outputs, do not change results.
    """
    return {
        "notebook": _hash(code_of(lesson)),
        "helpers": _hash([[str(file.relative_to(ROOT)), file.read_text(encoding="utf-8")] for file in files(lesson)]),
        "data": _hash([file.read_text(encoding="utf-8") for file in committed_sums(ROOT / "data")]),
        "libraries": _hash(versions()),
    }


def code_of(lesson: Lesson) -> list[list]:
    """The text and the tags of each code cell."""
    return [[cell["source"], sorted(cell["metadata"].get("tags", []))] for cell in _code_cells(lesson)]


def run_identity(state: dict[str, str], parameters: dict[str, object]) -> str:
    """A hash (twelve hexadecimal digits) of the code's state, the parameters and the files that they name."""
    named = {name: _content(str(parameters[name])) for name in named_parameters(parameters)}
    if parameters.get("track") == "real":  # downloaded files, which `state` does not cover
        named["real"] = _hash([file.read_text(encoding="utf-8") for file in committed_sums(real_folder())])
    return _hash([state, parameters, *([named] if any(named.values()) else [])])[:12]


def named_parameters(parameters: dict[str, object]) -> list[str]:
    """The names of the parameters that name a file or folder of the learner."""
    return [name for name in FILES if isinstance(parameters.get(name), str) and parameters[name]]


def _content(name: str) -> str:
    """A hash of the file or folder that a value names; "" if this machine has no such file."""
    path = local_path(name.rpartition("?")[0] or name)
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return _digest(tuple((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files)) if files else ""


@lru_cache(maxsize=32)
def _digest(files: tuple[tuple[str, int, int], ...]) -> str:
    """A hash of the files' bytes, cached until a size or modification time changes."""
    sums = []
    for name, *_ in files:
        with Path(name).open("rb") as file:
            sums.append([Path(name).name, hashlib.file_digest(file, "sha256").hexdigest()])
    return _hash(sums)


def difference(then: dict[str, str], now: dict[str, str]) -> str:
    """What changed between two states, in words; "" when nothing did."""
    return " and ".join(name for name in then if then[name] != now.get(name))


def files(lesson: Lesson) -> list[Path]:
    """The modules of this project that the notebook imports, directly or through other modules.

    The lesson's exercises and the metrics are added, because they are loaded by name or path, not by an import.
    """
    exercises = ROOT / "helpers" / "lessons" / f"lesson_{lesson.number}" / "exercises.py"
    by_name = {*(ROOT / "helpers" / "metrics").rglob("*.py"), *([exercises] if exercises.is_file() else [])}
    return sorted(_walk(lesson)[0] | by_name)


def imports(lesson: Lesson) -> list[tuple[str, str]]:
    """The libraries that the notebook imports, directly or through helpers, as (module, name or "")."""
    return sorted(_walk(lesson)[1])


def _walk(lesson: Lesson) -> tuple[set[Path], set[tuple[str, str]]]:
    # Reading about fifty modules is slow and every run needs them, so the result is cached until a module changes.
    newest = max(file.stat().st_mtime_ns for own in OWN for file in (ROOT / own).rglob("*.py"))
    return _walked(tuple(cell["source"] for cell in _code_cells(lesson)), newest)


@lru_cache(maxsize=32)
def _walked(sources: tuple[str, ...], newest: int) -> tuple[set[Path], set[tuple[str, str]]]:
    cells = [_parsed(source) for source in sources]
    named = {file for tree in cells for module, name in _imported(tree) for file in _module_files(module, name)}
    waiting = [(tree, True) for tree in cells]
    own: set[Path] = set()
    libraries: set[tuple[str, str]] = set()
    while waiting:
        tree, direct = waiting.pop()
        # Imports inside a module's functions count only if the notebook itself imports the module.
        libraries |= {pair for pair in _imported(tree, inside=direct) if pair[0].partition(".")[0] not in OWN}
        for module, name in _imported(tree):
            for file in _module_files(module, name) - own:
                own.add(file)
                waiting.append((_tree(file, file.stat().st_mtime_ns), file in named))
    return own, libraries


@lru_cache(maxsize=512)
def _tree(file: Path, changed: int) -> ast.AST:
    return ast.parse(file.read_text(encoding="utf-8"))


def _imported(tree: ast.AST, inside: bool = True) -> set[tuple[str, str]]:
    """The imports in a syntax tree, as (module, name or ""); inside functions only if `inside` is true."""
    found: set[tuple[str, str]] = set()
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found |= {(alias.name, "") for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {(node.module, alias.name) for alias in node.names}
        elif inside or not isinstance(node, ast.FunctionDef):
            waiting += ast.iter_child_nodes(node)
    return found


def _module_files(module: str, name: str) -> set[Path]:
    """The files that `from module import name` loads: packages, module, and `name` if it is a module too."""
    if module.partition(".")[0] not in OWN:
        return set()
    found, folder = set(), ROOT
    for part in [*module.split("."), name]:
        file = folder / f"{part}.py"
        folder = folder / part
        found |= {path for path in (file, folder / "__init__.py") if path.is_file()}
    return found


def _code_cells(lesson: Lesson) -> list[dict]:
    return [cell for cell in lesson.cells if cell["cell_type"] == "code"]


def _parsed(source: str) -> ast.AST:
    """A cell's syntax tree; an empty one for a cell with a magic or a syntax error."""
    try:
        return ast.parse(source)
    except SyntaxError:
        return ast.Module([], [])


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
