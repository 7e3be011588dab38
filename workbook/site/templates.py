"""Fills in the page templates in docs/site when the site is built."""

from __future__ import annotations

from collections.abc import Iterable
from string import Template

from helpers.paths import ROOT

FOLDER = ROOT / "docs" / "site"


def filled(name: str, **values: object) -> str:
    """The page `name` with every `$word` replaced by its value.

    Raises:
        KeyError: the page contains a `$word` that has no value.
    """
    return Template((FOLDER / name).read_text(encoding="utf-8")).substitute(values)


def contents(pages: Iterable[str], caption: str = "") -> str:
    """A hidden Sphinx toctree of these pages; Sphinx makes the sidebar from it."""
    return "\n".join(["```{toctree}", ":hidden:", *([f":caption: {caption}"] if caption else []), "", *pages, "```"])
