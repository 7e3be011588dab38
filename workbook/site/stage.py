"""Collects all sources of the site in one folder for Sphinx."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import nbformat

from helpers.files import write_text
from helpers.paths import ROOT
from helpers.runtime import UserError
from workbook.claims.ledger import load_ledger
from workbook.claims.real_trials import on_real_text
from workbook.claims.results import REAL_TABLE, load_results
from workbook.claims.verdict import judge
from workbook.lessons.lesson import NOTEBOOKS, Lesson, find
from workbook.site import measured, start
from workbook.site.links import relink
from workbook.site.notebook import shown

DOCS = ROOT / "docs"
GLOSSARY = "glossary.md"
REFERENCE = "api/helpers/index.rst"  # written by sphinx-autoapi
MADE = ("index.md", "ledger.md", "leaderboard.md", "instructors.md", REFERENCE)
# These tags are anchors for JupyterLab, whose own anchors keep capitals. On the site they would duplicate an anchor.
ANCHOR = re.compile(r'^<a id="[\w-]+"></a>\n+', re.MULTILINE)


def stage(folder: Path, notebooks: Path = NOTEBOOKS) -> list[Lesson]:
    """Empty `folder` and write all pages of the site to it; return the lessons.

    Raises:
        UserError: no notebook is built, a notebook is incomplete, or results cannot be read.
    """
    lessons = [lesson for lesson in find(notebooks) if lesson.path.is_file()]
    if not lessons:
        raise UserError("There is no notebook to publish: `make notebooks` builds them.")
    shutil.rmtree(folder, ignore_errors=True)
    extra = folder / "extra"
    extra.mkdir(parents=True)
    texts = sorted(DOCS.glob("*.md"))
    pages = {*MADE, *(f"docs/{text.name}" for text in texts)}
    pages |= {f"notebooks/{lesson.path.name}" for lesson in lessons}
    for lesson in lessons:
        made = nbformat.writes(shown(lesson, extra, pages), version=4)
        write_text(folder / "notebooks" / lesson.path.name, made)
    _texts(folder / "docs", texts, pages)
    _measured_pages(folder, lessons, pages, [text.name for text in texts if text.name != GLOSSARY])
    return lessons


def _texts(folder: Path, texts: list[Path], pages: set[str]) -> None:
    for text in texts:
        content = relink(ANCHOR.sub("", text.read_text(encoding="utf-8")), f"docs/{text.name}", pages)
        write_text(folder / text.name, content)
    for picture in [*DOCS.glob("*.png"), *DOCS.glob("*.svg")]:
        shutil.copy(picture, folder / picture.name)


def _measured_pages(folder: Path, lessons: list[Lesson], pages: set[str], more: list[str]) -> None:
    found, extra = load_results(), folder / "extra"
    ledger = load_ledger()
    verdicts = list(judge(ledger.claims, found, ledger.test_rows).values())
    real = judge(on_real_text(ledger.claims), load_results(REAL_TABLE), ledger.test_rows_real)
    first = start.start_page(lessons, verdicts, measured.ladder_picture(found, extra), more)
    write_text(folder / "index.md", relink(first, "index.md", pages))
    write_text(folder / "ledger.md", measured.ledger_page(verdicts, real, found, extra, pages))
    write_text(folder / "leaderboard.md", measured.leaderboard_page(found, extra, pages))
    write_text(folder / "instructors.md", relink(start.instructors_page(more), "instructors.md", pages))
