"""The ledger as a page: a table in Markdown for one group of claims, the evidence for one, and links to the lessons."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from helpers.intervals import Interval, mean_t
from helpers.runtime import UserError, nearest
from workbook.claims.spec import Claim, Ledger, Published, Shown
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


def groups(ledger: Ledger) -> list[str]:
    """The groups of claims, in the ledger's order."""
    return list(dict.fromkeys(claim.group for claim in ledger.claims))


def table(verdicts: Sequence[Verdict], own: Mapping[str, Verdict] | None = None) -> str:
    """A table in Markdown: claim, what the reference measured, your own runs, verdict and where to see it.

    own: claim's id -> the same from the learner's own runs; its figures are shown, it decides nothing.
    """
    mine = {name: found for name, found in (own or {}).items() if any(_known(found))}
    heads = ["claim", "measured, reference"] + (["your own runs"] if mine else []) + ["verdict", "seen in"]
    lines, lessons = [_row(heads), _row(["---"] * len(heads))], find()
    for found in verdicts:
        cells = [_claim(found.claim), _figures(found)]
        cells += [_own(mine.get(found.claim.id))] if mine else []
        cells += [f"**{SIGNS[found.word]}**" + (f"<br>{found.text}" if found.text else "")]
        lines.append(_row([*cells, "<br>".join(link(place, lessons) for place in found.claim.shown)]))
    return "\n".join(lines)


def evidence(verdicts: Sequence[Verdict], name: str) -> str:
    """All that one claim rests on, with its rules as formulas; a UserError for a name that no claim has."""
    found = {one.claim.id: one for one in verdicts}
    if name not in found:
        raise UserError(f'There is no claim "{name}".{nearest(name, found)}')
    one = found[name]
    lines = [f"{one.claim.claim}", f"verdict: {one.word}. {one.text}".rstrip()]
    for tried in one.trials:
        lines.append(f"  lesson {tried.trial.lesson}, {tried.trial.setting}:")
        for figure in tried.figures:
            measured = _measured(figure.interval, figure.seeds)
            lines.append(f"    {figure.rule.words}:  {measured}  {MARKS[figure.answer]}")
    if near := one.claim.closest:
        lines.append(f"  closest to it, lesson {near.lesson}, {near.words}:")
        lines.append(f"    {near.metric}:  {_measured(_closest(one), len(one.closest))}")
    lines += [f"  theirs: {published(one_of)}" for one_of in one.claim.published]
    return "\n".join(lines)


def _measured(interval: Interval | None, seeds: int) -> str:
    return "no figures yet" if interval is None else f"{interval:.3g}, {seeds} seeds"


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


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _claim(claim: Claim) -> str:
    theirs = "".join(f"<br>*theirs: {published(one)}*" for one in claim.published)
    return f"**{claim.short}**<br>{claim.claim}{theirs}"


def _figures(found: Verdict) -> str:
    lines = []
    for tried in found.trials:
        said = (f"{_value(figure.interval)} {MARKS[figure.answer]} ({figure.rule.needs})" for figure in tried.figures)
        lines.append(f"{tried.trial.setting}: {', '.join(said)}")
    if found.claim.closest:
        lines.append(f"closest to it, {found.claim.closest.words}: {_value(_closest(found))}")
    return "<br>".join(lines)


def _closest(found: Verdict) -> Interval | None:
    return mean_t(found.closest) if found.closest else None


def _value(interval: Interval | None) -> str:
    if interval is None:
        return "no figures yet"
    value, rest = f"{interval:.3g}".split(" ", 1)
    return f"**{value}** {rest}"


def _own(found: Verdict | None) -> str:
    known = _known(found) if found else []
    return "<br>".join(f"{interval.value:.3g} ({seeds} run{'s' * (seeds > 1)})" for interval, seeds in known)


def _known(found: Verdict) -> list[tuple[Interval, int]]:
    """What was measured, and with how many seeds."""
    figures = [(figure.interval, figure.seeds) for tried in found.trials for figure in tried.figures]
    figures += [(_closest(found), len(found.closest))]
    return [(interval, seeds) for interval, seeds in figures if interval is not None]
