"""The pages with measured results, the ledger of claims and the leaderboard, made when the site is built."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from helpers.plotting import Figure, dot_plot, png
from workbook.claims import figures, leaderboard, page
from workbook.claims.results import Results
from workbook.claims.verdict import WORDS, Verdict
from workbook.site.links import relink
from workbook.site.notebook import figure_element
from workbook.site.templates import filled

SETTING = re.compile(r"^\*\*(Lesson \d\d: .+)\*\*$", re.MULTILINE)
LESSON_FILE = re.compile(r"\]\((\d\d_\w+\.ipynb)")
CLAIMS = "## {}\n\n:::{{container}} claims\n{}\n:::"
SHARES = """:::{container} picture
%s
:::

*How to read it:* 0 %% is the head alone and 100 %% is all parameters, each of the same setting. To the left stand
methods that train a thousandth of the model."""


def ledger_page(
    verdicts: Sequence[Verdict], real: Mapping[str, Verdict], results: Results, extra: Path, pages: Collection[str]
) -> str:
    """The ledger in Markdown: what the verdicts mean, all claims at a glance, then each group with its figures."""
    counts = {word: sum(found.word == word for found in verdicts) for word in WORDS}
    groups: dict[str, list[Verdict]] = {}
    for found in verdicts:
        groups.setdefault(found.claim.group, []).append(found)
    text = filled(
        "ledger.md",
        count=len(verdicts),
        words="\n".join(
            f"- **{page.SIGNS[word]}** ({counts[word]}): {page.MEANING[word]}." for word in WORDS if counts[word]
        ),
        overview=_image(figures.tiles(verdicts), extra),
        groups="\n\n".join(CLAIMS.format(group, page.table(part, real)) for group, part in groups.items()),
        sources=page.sources(results, "measured with"),
    )
    return _from_top(text, "ledger.md", pages)


def leaderboard_page(results: Results, extra: Path, pages: Collection[str]) -> str:
    """The leaderboard in Markdown: a figure of all settings whose scale from 0 to 100 % is known, then each setting."""
    shares = leaderboard.shares(results)
    drawn = ""
    if shares:
        drawn = SHARES % _image(figures.share_for_numbers(shares), extra)
    tables = SETTING.sub(lambda found: f"## {found[1]}", leaderboard.page(results, Results({})))
    return _from_top(
        filled("leaderboard.md", figure=drawn, tables=tables, sources=page.sources(results, "measured with")),
        "leaderboard.md",
        pages,
    )


def ladder_picture(results: Results, extra: Path) -> str:
    """The figure of lesson 02's methods from the reference results, for the start page; '' if none was measured."""
    scores = {row.title: row.accuracy for row in reversed(leaderboard.rows(results)["02"]) if row.accuracy}
    if not scores:
        return ""
    return _image(dot_plot(scores), extra)


def _image(figure: Figure, extra: Path) -> str:
    return figure_element(png(figure), figure.alt, extra, up="")


def _from_top(text: str, name: str, pages: Collection[str]) -> str:
    """Correct links to lessons: `workbook.claims` writes them for the lessons' folder, these pages are one above."""
    return relink(LESSON_FILE.sub(r"](notebooks/\1", text), name, pages)
