"""The pages that show what was measured: the ledger of claims and the leaderboard, read when the site is built."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from helpers.plotting import dot_plot, png
from workbook.claims import figures, leaderboard, page
from workbook.claims.results import Results
from workbook.claims.verdict import WORDS, Verdict
from workbook.site.links import mended
from workbook.site.notebook import figure_element
from workbook.site.templates import filled

SETTING = re.compile(r"^\*\*(Lesson \d\d: .+)\*\*$", re.MULTILINE)
LESSON_FILE = re.compile(r"\]\((\d\d_\w+\.ipynb)")
MEANING = {
    "holds": "every trial passed",
    "holds with a condition": "some did, and the condition says which",
    "not at this scale": "none did, and the reason says why, and when it would",
    "not measured yet": "the reference has no figures for it so far",
    "not measurable": "a definition, a name, or about people; the number beside it comes close and decides nothing",
}
CLAIMS = "## {}\n\n:::{{container}} claims\n{}\n:::"
SHARES = """:::{container} picture
%s
:::

*How to read it:* 0 %% is the head alone and 100 %% is all parameters, each of the same setting. To the left stand
methods that train a thousandth of the model."""


def ledger_page(verdicts: Sequence[Verdict], results: Results, extra: Path, pages: Collection[str]) -> str:
    """The ledger in Markdown: what the verdicts mean, all claims at a glance, then each group with its figures."""
    counts = {word: sum(found.word == word for found in verdicts) for word in WORDS}
    groups: dict[str, list[Verdict]] = {}
    for found in verdicts:
        groups.setdefault(found.claim.group, []).append(found)
    text = filled(
        "ledger.md",
        count=len(verdicts),
        words="\n".join(
            f"- **{page.SIGNS[word]}** ({counts[word]}): {MEANING[word]}." for word in WORDS if counts[word]
        ),
        overview=_image(figures.tiles(verdicts), figures.tiles_in_words(verdicts), extra),
        groups="\n\n".join(CLAIMS.format(group, page.table(part)) for group, part in groups.items()),
        sources=_sources(results),
    )
    return _from_top(text, "ledger.md", pages)


def leaderboard_page(results: Results, extra: Path, pages: Collection[str]) -> str:
    """The leaderboard in Markdown: a figure over all settings that have both ends of the scale, then each setting."""
    shares = leaderboard.shares(results)
    drawn = ""
    if shares:
        drawn = SHARES % _image(figures.share_for_numbers(shares), figures.share_in_words(shares), extra)
    tables = SETTING.sub(lambda found: f"## {found[1]}", leaderboard.page(results, Results({})))
    return _from_top(
        filled("leaderboard.md", figure=drawn, tables=tables, sources=_sources(results)), "leaderboard.md", pages
    )


def climb(results: Results, extra: Path) -> str:
    """Lesson 02's ladder from the reference results, for the start page; '' where it was not measured."""
    scores = {row.title: row.accuracy for row in reversed(leaderboard.rows(results)["02"]) if row.accuracy}
    if not scores:
        return ""
    figure = dot_plot(scores)
    return _image(figure, figure.alt, extra)


def _image(figure: Figure, alt: str, extra: Path) -> str:
    return figure_element(png(figure), alt, extra, up="")


def _sources(results: Results) -> str:
    rows = [f"| {number} | {found.label} |" for number, found in sorted(results.lessons.items())]
    return "\n".join(["| lesson | measured with |", "|---|---|", *rows])


def _from_top(text: str, name: str, pages: Collection[str]) -> str:
    """workbook.claims links to the lessons as from beside them; these pages stand one folder higher."""
    return mended(LESSON_FILE.sub(r"](notebooks/\1", text), name, pages)
