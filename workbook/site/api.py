"""The reference of `helpers`: read from the sources, so that nothing heavy is imported to describe it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from helpers.paths import ROOT
from workbook.site.templates import contents, filled

HELPERS = ROOT / "helpers"
SECTION = re.compile(r"^(Args|Returns|Raises|Yields):$", re.MULTILINE)
DRAWN = re.compile(r"^ {2,}\S|\S {3,}\S", re.MULTILINE)
NAMES = {"Args": "Arguments", "Returns": "Returns", "Raises": "Raises", "Yields": "Yields"}
Described = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def pages(folder: Path = HELPERS) -> dict[str, str]:
    """Name of a part of `helpers` ("lora", "claims") -> its page in Markdown; a package's modules share one."""
    parts: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*.py")):
        relative = path.relative_to(folder)
        if path.name not in ("__init__.py", "__main__.py") or len(relative.parts) == 2:
            parts.setdefault(relative.parts[0].removesuffix(".py"), []).append(path)
    made = {name: _page(name, paths, folder) for name, paths in parts.items() if name != "__init__"}
    return {name: text for name, text in made.items() if text}


def index(made: dict[str, str]) -> str:
    """The first page of the reference: every part with the one sentence that its sources begin with."""
    rows = "\n".join(f"- [{name}]({name}.md): {_first_line(text)}" for name, text in made.items())
    return filled("helpers.md", rows=rows, contents=contents(made))


def _page(name: str, paths: list[Path], folder: Path) -> str:
    parts = [_module(path, folder) for path in paths]
    body = "\n\n".join(part for part in parts if part)
    return f"# helpers.{name}\n\n{body}\n" if body else ""


def _module(path: Path, folder: Path) -> str:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    dotted = ".".join(["helpers", *path.relative_to(folder).with_suffix("").parts]).removesuffix(".__init__")
    said, public = _docstring(tree), list(_public(tree))
    if not said and not public:
        return ""
    alone = dotted.count(".") == 1  # its name is the page's title
    heading = [] if alone else [f"## {dotted}"]
    return "\n\n".join([*heading, said, *(_entry(node, "##" if alone else "###") for node in public)])


def _public(tree: ast.Module) -> Iterator[Described]:
    for node in tree.body:
        if isinstance(node, Described) and not node.name.startswith("_") and ast.get_docstring(node):
            yield node


def _entry(node: Described, level: str) -> str:
    methods = []
    if isinstance(node, ast.ClassDef):
        inner = (one for one in node.body if isinstance(one, ast.FunctionDef))
        methods = [one for one in inner if not one.name.startswith("_") and ast.get_docstring(one)]
    lines = [f"{level} {node.name}", f"```python\n{_signature(node)}\n```", _docstring(node)]
    for one in methods:
        lines += [f"{level}# {node.name}.{one.name}", f"```python\n{_signature(one)}\n```", _docstring(one)]
    return "\n\n".join(lines)


def _signature(node: Described) -> str:
    if isinstance(node, ast.ClassDef):
        fields = [one for one in node.body if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)]
        start = next((one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"), None)
        bases = f"({', '.join(ast.unparse(base) for base in node.bases)})" if node.bases else ""
        rows = [f"    {ast.unparse(one)}" for one in fields] or ([f"    {_signature(start)}"] if start else [])
        return "\n".join([f"class {node.name}{bases}{':' if rows else ''}", *rows])
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    line = f"def {node.name}({ast.unparse(node.args)}){returns}"
    if len(line) <= 88:
        return line
    taken = ast.unparse(node.args).replace("'", '"')
    return f"def {node.name}(\n    {_split(taken)},\n){returns}"


def _split(arguments: str) -> str:
    """One argument a line; commas inside brackets stay."""
    depth, made = 0, ""
    for sign in arguments:
        depth += (sign in "([{") - (sign in ")]}")
        made += ",\n   " if sign == "," and not depth else sign
    return made


def _docstring(node: Described | ast.Module) -> str:
    """The docstring as Markdown: its sections become lists, signs with a meaning in Markdown stay signs."""
    text = ast.get_docstring(node) or ""
    parts = SECTION.split(text)
    made = [_plain(parts[0])]
    for name, body in zip(parts[1::2], parts[2::2], strict=True):
        made.append(f"**{NAMES[name]}**\n\n{_listed(body)}")
    return "\n\n".join(part for part in made if part.strip())


def _listed(body: str) -> str:
    items: list[str] = []
    for line in body.strip("\n").splitlines():
        if line.startswith("    ") and not line.startswith("     ") and line.strip():
            items.append(line.strip())
        elif line.strip() and items:
            items[-1] += f" {line.strip()}"
        elif line.strip():
            items.append(line.strip())
    return "\n".join(f"- {_escaped(item)}" for item in items)


def _plain(text: str) -> str:
    """Running text with Markdown's signs taken as they are; what is drawn or set in columns goes into a block."""
    blocks = re.split(r"\n\s*\n", text.strip("\n"))
    return "\n\n".join(f"```text\n{block}\n```" if DRAWN.search(block) else _escaped(block) for block in blocks)


def _escaped(text: str) -> str:
    parts = re.split(r"(`[^`\n]+`)", text.strip())
    for index in range(0, len(parts), 2):
        parts[index] = re.sub(r"([*_$<>\[\]|\\#{}])", r"\\\1", parts[index])
    return "".join(parts)


def _first_line(page: str) -> str:
    lines = page.split("\n\n")
    said = next((part for part in lines[1:] if not part.startswith(("#", "```"))), "")
    return " ".join(said.split()).split(". ")[0].rstrip(".") + "."
