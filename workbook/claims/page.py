"""The ledger as a page: a table in Markdown for one group of claims, the evidence for one, and links to the lessons."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from helpers.intervals import Interval, mean_t
from helpers.runtime import UserError, nearest
from workbook.claims.ledger import Claim, ClaimsLedger, Published, Shown
from workbook.claims.results import Results
from workbook.claims.verdict import Verdict
from workbook.lessons import find
from workbook.lessons.lesson import Lesson

MARKS = {"yes": "✓", "no": "✗", "open": "?", "missing": "–"}
SIGNS = {
    "holds": "✓ holds",
    "holds with a condition": "◐ holds with a condition",
    "not at this scale": "✗ not at this scale",
    "not measured yet": "– not measured yet",
    "not measurable": "· not measurable",
}
HEADING = re.compile(r"^## (\d+)\. (.+)$", re.MULTILINE)


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown; a bar inside a cell stays a bar."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |" for cells in lines)


def groups(ledger: ClaimsLedger) -> list[str]:
    """The groups of claims, in the ledger's order."""
    return list(dict.fromkeys(claim.group for claim in ledger.claims))


def sources(results: Results, head: str) -> str:
    """A table in Markdown: on which machine, when and by which command each lesson was measured."""
    return markdown_table(["lesson", head], ((number, one.label) for number, one in sorted(results.lessons.items())))


def table(verdicts: Sequence[Verdict], own: Mapping[str, Verdict] | None = None) -> str:
    """A table in Markdown: claim, what the reference measured, your own runs, verdict and where to see it.

    own: claim's id -> the same from the learner's own runs; its figures are shown, it decides nothing.
    """
    mine = {name: _own(one) for name, one in (own or {}).items() if _own(one)}
    lessons = find()
    rows = []
    for one in verdicts:
        verdict = f"**{SIGNS[one.word]}**" + (f"<br>{one.text}" if one.text else "")
        links = "<br>".join(link(place, lessons) for place in one.claim.shown)
        yours = [mine.get(one.claim.id, "")] if mine else []
        rows.append([_claim(one.claim), _measured(one), *yours, verdict, links])
    heads = ["claim", "measured, reference", *(["your own runs"] if mine else []), "verdict", "seen in"]
    return markdown_table(heads, rows)


def evidence(verdicts: Sequence[Verdict], name: str) -> str:
    """All that one claim rests on, with its rules as formulas; a UserError for a name that no claim has."""
    found = {one.claim.id: one for one in verdicts}
    if name not in found:
        raise UserError(f'There is no claim "{name}".{nearest(name, found)}')
    verdict = found[name]
    lines = [verdict.claim.claim, f"verdict: {verdict.word}. {verdict.text}".rstrip()]
    for result in verdict.trials:
        lines.append(f"  lesson {result.trial.lesson}, {result.trial.setting}:")
        for one in result.measurements:
            lines.append(f"    {one.rule.formula}:  {_plain(one.interval, one.seeds)}  {MARKS[one.answer]}")
    if near := verdict.claim.closest:
        lines.append(f"  closest to it, lesson {near.lesson}, {near.words}:")
        lines.append(f"    {near.metric}:  {_plain(_closest(verdict), len(verdict.closest))}")
    return "\n".join([*lines, *(f"  theirs: {published(one)}" for one in verdict.claim.published)])


def link(place: Shown, lessons: Sequence[Lesson]) -> str:
    """A link in Markdown to a section of a lesson; plain words where the lesson's notebook is not there."""
    words = f"{place.lesson}\N{NO-BREAK SPACE}§\N{NO-BREAK SPACE}{place.section}"
    lesson = next((one for one in lessons if one.number == place.lesson), None)
    if lesson is None or not lesson.path.is_file():
        return words
    title = headings(lesson).get(place.section)
    anchor = f"#{place.section}.-{title.replace(' ', '-')}" if title else ""
    return f"[{words}]({lesson.path.name}{anchor.replace('`', '').replace('?', '%3F')})"


def headings(lesson: Lesson) -> dict[int, str]:
    """A lesson's numbered sections."""
    text = "\n".join(cell["source"] for cell in lesson.cells if cell["cell_type"] == "markdown")
    return {int(number): title for number, title in HEADING.findall(text)}


def published(one: Published) -> str:
    """Somebody else's figure with its source."""
    return f"{one.figure} ({one.title}{f', {one.year}' if one.year else ''})"


def _claim(claim: Claim) -> str:
    theirs = "".join(f"<br>*theirs: {published(one)}*" for one in claim.published)
    return f"**{claim.short}**<br>{claim.claim}{theirs}"


def _measured(verdict: Verdict) -> str:
    lines = []
    for result in verdict.trials:
        said = (f"{_bold(one.interval)} {MARKS[one.answer]} ({one.rule.needs})" for one in result.measurements)
        lines.append(f"{result.trial.setting}: {', '.join(said)}")
    if near := verdict.claim.closest:
        lines.append(f"closest to it, {near.words}: {_bold(_closest(verdict))}")
    return "<br>".join(lines)


def _own(verdict: Verdict) -> str:
    """What the learner's own runs measured, with the number of runs; '' where there is nothing."""
    known = [(one.interval, one.seeds) for result in verdict.trials for one in result.measurements]
    known.append((_closest(verdict), len(verdict.closest)))
    return "<br>".join(f"{value.value:.3g} ({seeds} run{'s' * (seeds > 1)})" for value, seeds in known if value)


def _closest(verdict: Verdict) -> Interval | None:
    return mean_t(verdict.closest) if verdict.closest else None


def _plain(interval: Interval | None, seeds: int) -> str:
    return f"{interval:.3g}, {seeds} seeds" if interval else "no figures yet"


def _bold(interval: Interval | None) -> str:
    return "**{}** {}".format(*f"{interval:.3g}".split(" ", 1)) if interval else "no figures yet"
