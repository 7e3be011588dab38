"""What a run depends on: the notebook's code, the helpers that it imports, the libraries, its parameters."""

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
FILES = ("data", "model")  # parameters that may name a file or folder of one's own


def state_of(lesson: Lesson) -> dict[str, str]:
    """A hash of each thing that changes results: notebook, helpers, data, libraries.

    The notebook counts by its code and tags, not by its bytes: cell identifiers are random, outputs come and go.
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
    """Twelve hexadecimal digits that belong to this code, these parameters and the files that they name."""
    named = {name: _content(str(parameters[name])) for name in named_parameters(parameters)}
    if parameters.get("track") == "real":  # fetched files, so no commit knows them
        named["real"] = _hash([file.read_text(encoding="utf-8") for file in committed_sums(real_folder())])
    return _hash([state, parameters, *([named] if any(named.values()) else [])])[:12]


def named_parameters(parameters: dict[str, object]) -> list[str]:
    """The parameters that may name a file or folder of one's own."""
    return [name for name in FILES if isinstance(parameters.get(name), str) and parameters[name]]


def _content(name: str) -> str:
    """A hash of the file or folder that a value names; "" if it is none of this machine's."""
    path = local_path(name.rpartition("?")[0] or name)
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return _digest(tuple((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files)) if files else ""


@lru_cache(maxsize=32)
def _digest(files: tuple[tuple[str, int, int], ...]) -> str:
    """A hash of the files' bytes, read once as long as their sizes and times stay."""
    sums = []
    for name, *_ in files:
        with Path(name).open("rb") as file:
            sums.append([Path(name).name, hashlib.file_digest(file, "sha256").hexdigest()])
    return _hash(sums)


def difference(then: dict[str, str], now: dict[str, str]) -> str:
    """What changed between two states, in words; "" when nothing did."""
    return " and ".join(name for name in then if then[name] != now.get(name))


def files(lesson: Lesson) -> list[Path]:
    """The modules of this project that the notebook imports, and that these import.

    Loaded by their names or paths, and so never seen as imports: the lesson's exercises, and metrics.
    """
    exercises = ROOT / "helpers" / "lessons" / f"lesson_{lesson.number}" / "exercises.py"
    by_name = {*(ROOT / "helpers" / "metrics").rglob("*.py"), *([exercises] if exercises.is_file() else [])}
    return sorted(_walk(lesson)[0] | by_name)


def imports(lesson: Lesson) -> list[tuple[str, str]]:
    """Libraries that the notebook's code imports, itself or through helpers: (module, name or "")."""
    return sorted(_walk(lesson)[1])


def _walk(lesson: Lesson) -> tuple[set[Path], set[tuple[str, str]]]:
    # Reading some fifty modules takes a while, and a worker asks before every run.
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
        # What a module imports only inside functions is worth loading ahead when the notebook itself names the module.
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
    """What is imported, as (module, name or ""); also inside functions, if wanted."""
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
    """The files behind `from module import name`: its packages, and the name if that is a module too."""
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
    """A cell's code as a tree; a cell with a magic or a mistake has none, its kernel will say so."""
    try:
        return ast.parse(source)
    except SyntaxError:
        return ast.Module([], [])


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
