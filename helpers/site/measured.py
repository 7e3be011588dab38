"""The pages that show what was measured: the ledger of claims and the leaderboard, read when the site is built."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from helpers.claims import leaderboard, page
from helpers.claims.results import Results
from helpers.claims.verdict import WORDS, Verdict
from helpers.plots import conclusion, ladder
from helpers.plots.style import png
from helpers.site.links import mended
from helpers.site.notebook import figure_element

SETTING = re.compile(r"^\*\*(Lesson (\d\d): .+)\*\*$", re.MULTILINE)
MEANING = {
    "holds": "every trial passed",
    "holds with a condition": "some did, and the condition says which",
    "not at this scale": "none did, and the reason says why, and when it would",
    "not measured yet": "the reference has no figures for it so far",
    "a definition": "there is nothing to measure, and it says why",
}


def ledger_page(verdicts: Sequence[Verdict], results: Results, extra: Path, pages: Collection[str]) -> str:
    """The ledger in Markdown: what the verdicts mean, all claims at a glance, then each group with its figures."""
    counts = {word: sum(found.word == word for found in verdicts) for word in WORDS}
    words = [f"- **{page.SIGNS[word]}** ({counts[word]}): {MEANING[word]}." for word in WORDS if counts[word]]
    overview = _image(conclusion.tiles(verdicts), conclusion.tiles_in_words(verdicts), extra)
    groups = dict.fromkeys(found.claim.group for found in verdicts)
    parts = [
        f"## {group}\n\n{page.table([found for found in verdicts if found.claim.group == group])}" for group in groups
    ]
    text = (
        "# Was it all true?\n\n"
        f'<p class="number">The ledger of {len(verdicts)} claims</p>\n\n'
        "A course ends with a list of what you now know. Here every sentence of that list has a number and a rule: the "
        "95 % interval over several runs has to lie *wholly* on the claimed side of a threshold. The rule follows from "
        "the sentence's words, and was written down beside it.\n\n" + "\n".join(words) + f"\n\n{overview}\n\n"
        "Behind each figure stands ✓, ✗ or ? (these runs cannot tell), then what it needed. *Theirs* are other people's "
        "figures, with the title of the work. 02 § 5 is lesson 02, section 5.\n\n"
        + "\n\n".join(parts)
        + f"\n\n## Whose figures these are\n\n{_sources(results)}\n"
    )
    return _from_top(text, "ledger.md", pages)


def leaderboard_page(results: Results, extra: Path, pages: Collection[str]) -> str:
    """The leaderboard in Markdown: a figure over all settings that have both ends of the scale, then each setting."""
    shares = leaderboard.shares(results)
    drawn = _image(conclusion.share_for_numbers(shares), conclusion.share_in_words(shares), extra) if shares else ""
    told = SETTING.sub(lambda found: f"## {found[1]}", leaderboard.page(results, Results({})))
    text = (
        "# Which method gives most for its numbers?\n\n"
        '<p class="number">The leaderboard</p>\n\n'
        "All methods of the course. A row of one table says **nothing** against a row of another: they start from other "
        "models, with other numbers of labels. So each setting has a table of its own, best accuracy first. Memory and time "
        "are the middle of all runs, with their range.\n\n"
        f"{drawn}\n\n"
        "*How to read it:* 0 % is the head alone and 100 % is all parameters, each of the same setting. To the left stand "
        f"methods that train a thousandth of the model.\n\n{told}\n\n"
        "*Forgotten* is what training cost on the old task: in lesson 07 the rise of the language model's loss with the "
        "change in place, in lesson 08 points of accuracy on the topics. *Trained numbers* count the head too.\n\n"
        f"## Whose figures these are\n\n{_sources(results)}\n"
    )
    return _from_top(text, "leaderboard.md", pages)


def climb(results: Results, extra: Path) -> str:
    """Lesson 02's ladder from the reference results, for the start page; '' where it was not measured."""
    known = [row for row in leaderboard.rows(results)["02"] if row.accuracy]
    if not known:
        return ""
    scores = {row.title: row.accuracy for row in reversed(known)}
    return _image(ladder.ladder(scores), ladder.ladder_in_words(scores), extra)


def _image(figure: Figure, alt: str, extra: Path) -> str:
    return figure_element(png(figure), alt, extra, up="")


def _sources(results: Results) -> str:
    rows = [f"| {number} | {found.label} |" for number, found in sorted(results.lessons.items())]
    return "\n".join(["| lesson | measured with |", "|---|---|", *rows])


def _from_top(text: str, name: str, pages: Collection[str]) -> str:
    """helpers.claims links to the lessons as from beside them; these pages stand one folder higher."""
    return mended(re.sub(r"\]\((\d\d_\w+\.ipynb)", r"](notebooks/\1", text), name, pages)
