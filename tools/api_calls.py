"""Check that each library call in the lessons and helpers fits the installed version of the library.

    python tools/api_calls.py          prints a line of JSON for each use that does not fit, then the counts

The script finds the calls in the source code with `ast`. It looks up each name in the installed library, and binds the
arguments to the signature. It cannot check arguments that a signature accepts as `**kwargs`; the tests cover those.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = ("transformers", "trl", "peft", "datasets", "bitsandbytes")
SOURCES = ("notebooks/source", "helpers")
# What a function returns, so that the methods called on the result are checked too. A class returns an instance.
GIVES = {
    "transformers.AutoTokenizer.from_pretrained": "transformers.PreTrainedTokenizerBase",
    "transformers.AutoConfig.from_pretrained": "transformers.PretrainedConfig",
    "peft.get_peft_model": "peft.PeftModel",
    "peft.PeftModel.from_pretrained": "peft.PeftModel",
    "datasets.Dataset.from_dict": "datasets.Dataset",
    "datasets.Dataset.from_list": "datasets.Dataset",
    "datasets.Dataset.from_pandas": "datasets.Dataset",
}


@dataclass(frozen=True)
class Use:
    """One use of a library: a dotted name and, for a call, its arguments. `place` is file:line."""

    name: str
    place: str
    called: bool = False
    positional: int = 0
    keywords: tuple[str, ...] = ()
    open: bool = False  # the call has more arguments, from * or **
    instance: bool = False  # an attribute of an instance of the class in the name


@dataclass(frozen=True)
class Misfit:
    """A use that the installed library does not support, and why."""

    name: str
    place: str
    problem: str


def uses(files: Iterable[Path], root: Path = ROOT, libraries: tuple[str, ...] = LIBRARIES) -> list[Use]:
    """Return every import, attribute and call of the libraries in these files, in the files' order."""
    found = []
    for file in files:
        reader = _Reader(file.relative_to(root).as_posix(), libraries)
        reader.visit(ast.parse(file.read_text(encoding="utf-8")))
        found += reader.found
    return found


def misfits(found: Iterable[Use]) -> list[Misfit]:
    """Return the uses that the installed libraries do not support. The same problem counts once, at its first place."""
    seen: dict[tuple[str, str], Misfit] = {}
    for use in found:
        if problem := _problem(use):
            seen.setdefault((use.name, problem), Misfit(use.name, use.place, problem))
    return list(seen.values())


class _Reader(ast.NodeVisitor):
    """Collects uses. Within a file, it follows imported names and variables that hold an instance of a known class."""

    def __init__(self, place: str, libraries: tuple[str, ...]) -> None:
        self.place, self.libraries = place, libraries
        self.names: dict[str, str] = {}  # a name in the file -> a dotted name in a library
        self.objects: dict[str, str] = {}  # a variable -> the class of its value
        self.found: list[Use] = []

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            if alias.name.split(".")[0] in self.libraries:
                first = alias.name.split(".")[0]
                self.names[alias.asname or first] = alias.name if alias.asname else first
                self._add(alias.name, node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.level == 0 and (node.module or "").split(".")[0] in self.libraries:
            for alias in node.names:
                self.names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                self._add(f"{node.module}.{alias.name}", node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        outer, self.objects = self.objects, dict(self.objects)
        for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
            self.objects.pop(argument.arg, None)
        self.generic_visit(node)
        self.objects = outer

    def visit_Assign(self, node: ast.Assign) -> None:
        given = self._class_of(node.value)
        self.generic_visit(node)
        for target in node.targets:
            if isinstance(target, ast.Name) and given:
                self.objects[target.id] = given

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Store):
            self.objects.pop(node.id, None)

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        name, instance = self._dotted(node.func)
        if name:
            plain = [one for one in node.args if not isinstance(one, ast.Starred)]
            words = tuple(one.arg for one in node.keywords if one.arg)
            spread = len(plain) < len(node.args) or len(words) < len(node.keywords)
            self._add(name, node, True, len(plain), words, spread, instance)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.generic_visit(node)
        name, instance = self._dotted(node)
        if name and not instance:  # a class often lacks the attributes of its instances
            self._add(name, node)

    def _dotted(self, node: ast.AST) -> tuple[str, bool]:
        """Return an expression's name in the library (or ""), and whether it is an attribute of an instance."""
        if isinstance(node, ast.Name):
            return self.names.get(node.id, ""), False
        if isinstance(node, ast.Attribute):
            if given := self._class_of(node.value):
                return f"{given}.{node.attr}", True
            name, instance = self._dotted(node.value)
            return (f"{name}.{node.attr}", False) if name and not instance else ("", False)
        return "", False

    def _class_of(self, node: ast.AST) -> str:
        """Return the library class of an expression's value, or ""."""
        if isinstance(node, ast.Name):
            return self.objects.get(node.id, "")
        if isinstance(node, ast.Call):
            name, _ = self._dotted(node.func)
            if name in GIVES:
                return GIVES[name]
            return name if name.rpartition(".")[2][:1].isupper() else ""
        return ""

    def _add(self, name: str, node: ast.AST, *call: Any) -> None:
        self.found.append(Use(name, f"{self.place}:{node.lineno}", *call))  # type: ignore[attr-defined]


def _problem(use: Use) -> str:
    """Return why the installed library does not support a use, or "" if it does."""
    try:
        what, owner = _look_up(use.name)
    except AttributeError:
        return "" if use.instance and _answers_any(use.name.rpartition(".")[0]) else "does not exist"
    except Exception as error:  # a library may raise any error on import
        return f"cannot be imported ({type(error).__name__}: {str(error).splitlines()[0][:100]})"
    if not use.called:
        return ""
    static = isinstance(inspect.getattr_static(owner, use.name.rpartition(".")[2], None), staticmethod)
    me = [None] if use.instance and inspect.isfunction(what) and not static else []
    said = ""
    for wrapped in (True, False):  # for class methods that transformers copies, the wrapped signature lacks an argument
        try:
            signature = inspect.signature(what, follow_wrapped=wrapped)
        except (TypeError, ValueError):
            return ""  # a built-in function or a property has no signature to check
        bind = signature.bind_partial if use.open else signature.bind
        try:
            bind(*me, *[None] * use.positional, **dict.fromkeys(use.keywords))
        except TypeError as error:
            said = said or str(error)
        else:
            return ""
    return said


def _answers_any(name: str) -> bool:
    """Return whether instances of a class have attributes that the class itself lacks, as torch's modules do."""
    return hasattr(_look_up(name)[0], "__getattr__")


def _look_up(name: str) -> tuple[Any, Any]:
    """Return the object and the module or class that contains it."""
    parts = name.split(".")
    what, owner = importlib.import_module(parts[0]), None
    for number, part in enumerate(parts[1:], 2):
        owner = what
        try:
            what = getattr(what, part)
        except AttributeError:
            if not inspect.ismodule(owner):
                raise
            try:
                what = importlib.import_module(".".join(parts[:number]))
            except ModuleNotFoundError:
                raise AttributeError(name) from None
    return what, owner


def main() -> int:
    files = sorted(file for folder in SOURCES for file in (ROOT / folder).rglob("*.py"))
    found = uses(files)
    for misfit in misfits(found):
        print(json.dumps(asdict(misfit)))
    print(json.dumps({"checked": len(found), "calls": sum(use.called for use in found)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
