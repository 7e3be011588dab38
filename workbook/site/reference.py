"""Settings for sphinx-autoapi: which names the reference shows, and how docstrings become reStructuredText.

Docstrings are plain text with `code` in single backticks, as in Markdown. Some characters have another meaning in
reStructuredText, so they are escaped before Sphinx reads them.
"""

from __future__ import annotations

import re
import sys

from astroid.exceptions import AstroidImportError
from astroid.manager import AstroidManager
from sphinx.ext.napoleon import GoogleDocstring

CODE = re.compile(r"``([^`\n]+)``|`([^`\n]+)`")
SIGNS = re.compile(r"[*|\\`]|_(?!\w)")
DRAWN = re.compile(r"\S {3,}\S")  # an ASCII drawing, or columns
ITEM = re.compile(r"^(?=\w+(?:, \w+)*: )", re.MULTILINE)  # an item such as "alpha: how much"
QUALIFIED = re.compile(r"\b(?:collections\.abc|pathlib|typing)\.(?=[A-Z])")
SECTION = re.compile(r"^(Args|Returns|Raises|Yields):$", re.MULTILINE)


def setup(app) -> dict[str, object]:
    """Register with Sphinx."""
    app.connect("autoapi-skip-member", skipped)
    app.connect("autodoc-process-docstring", rewrite)
    app.config.autoapi_prepare_jinja_env = short_types
    AstroidManager.ast_from_module_name = own_module  # type: ignore[method-assign]  # astroid has no setting for it
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def own_module(manager: AstroidManager, name: str, *args, read=AstroidManager.ast_from_module_name, **options):
    """astroid's module of this name; refuse third-party modules, because reading all of torch takes minutes."""
    package = name.partition(".")[0]
    if package not in sys.stdlib_module_names and package != "helpers":
        raise AstroidImportError(f"{name} is not read", modname=name)
    return read(manager, name, *args, **options)


def skipped(app, kind: str, name: str, member, skip: bool, options) -> bool:
    """Whether the reference leaves a name out: it has no docstring and is not an annotated field."""
    return skip or not (member.docstring or (kind == "attribute" and member.annotation))


def short_types(templates) -> None:
    """Have the templates write `Sequence[str]` as the source does, without the module it comes from."""
    templates.finalize = lambda value: QUALIFIED.sub("", value) if isinstance(value, str) else value


def rewrite(app, kind: str, name: str, member, options, lines: list[str]) -> None:
    """Convert a docstring's lines to reStructuredText in place; Args and Raises become lists."""
    first, *others = re.split(r"\n\s*\n", "\n".join(lines).strip("\n"))
    lines[:] = GoogleDocstring("\n\n".join([_escaped(first), *map(_block, others)])).lines()


def _block(block: str) -> str:
    """Convert a paragraph: a drawing becomes a code block, items of the form "name: meaning" become a list."""
    if SECTION.match(block):
        return _escaped(block)
    if DRAWN.search(block):
        return ".. code-block:: text\n\n" + "\n".join(f"    {line}" for line in block.split("\n"))
    items = [item for item in ITEM.split(block) if item]
    if len(items) == 1:
        return _escaped(block)
    return "\n".join(f"- {_escaped(' '.join(item.split()))}" for item in items)


def _escaped(text: str) -> str:
    text = re.sub(r"`'(?=\w)", "`’", text)  # after code, the theme takes a straight quote for an opening one
    start, made = 0, []
    for code in CODE.finditer(text):
        made += [SIGNS.sub(r"\\\g<0>", text[start : code.start()]), f"\\ ``{code[1] or code[2]}``\\ "]
        start = code.end()
    return "".join([*made, SIGNS.sub(r"\\\g<0>", text[start:])])
