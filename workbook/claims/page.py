"""Shows the ledger: a Markdown table of claims, the evidence for one claim, and links to the lessons."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence

from helpers.runtime import UserError, nearest
from workbook.claims.inference import LEVEL, MOST, POWER, Estimate, both_needed, power, rows_needed, seeds_needed
from workbook.claims.ledger import Claim, ClaimsLedger, Published, Shown
from workbook.claims.results import Results
from workbook.claims.verdict import Measurement, Verdict, Word
from workbook.lessons import find
from workbook.lessons.lesson import Lesson

MEANING: Mapping[Word, str] = {
    "holds": "every trial passed, also the hard ones",
    "holds with a condition": "it passed as the sentence says it, and not in every hard trial; the words name them",
    "contradicted": "it failed as the sentence says it",
    "cannot tell": "these seeds and test rows leave it open",
    "true by construction": "a count, the size of a file, or two ways of computing one thing; no seed differed",
    "not measured yet": "there are no figures for it so far",
    "not measurable": "a definition, a name, or a sentence about people",
}
MARKS = {"yes": "✓", "no": "✗", "open": "?", "missing": "–"}
SIGNS = {
    "holds": "✓ holds",
    "holds with a condition": "◐ holds with a condition",
    "contradicted": "✗ contradicted",
    "cannot tell": "? cannot tell",
    "true by construction": "= true by construction",
    "not measured yet": "– not measured yet",
    "not measurable": "· not measurable",
}
HEADING = re.compile(r"^## (\d+)\. (.+)$", re.MULTILINE)


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; vertical bars inside cells are escaped."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |" for cells in lines)


def groups(ledger: ClaimsLedger) -> list[str]:
    """The groups of claims, in the ledger's order."""
    return list(dict.fromkeys(claim.group for claim in ledger.claims))


def sources(results: Results, head: str) -> str:
    """Return a Markdown table with the seeds, machine, date and command of each lesson's measurement."""
    return markdown_table(["lesson", head], ((number, one.label) for number, one in sorted(results.lessons.items())))


def table(verdicts: Sequence[Verdict], real: Mapping[str, Verdict], own: Mapping[str, Verdict] | None = None) -> str:
    """Return a Markdown table: claim, the reference's measurement, both verdicts, own runs, links to the lessons.

    Args:
        real: claim's id -> its verdict on published models and real text.
        own: claim's id -> its verdict from the learner's own runs; only its figures are shown.
    """
    mine = {name: _own(one) for name, one in (own or {}).items() if _own(one)}
    lessons = find()
    rows = []
    for one in verdicts:
        verdict = f"**{SIGNS[one.word]}**" + (f"<br>{one.text}" if one.text else "")
        links = "<br>".join(link(place, lessons) for place in one.claim.shown)
        yours = [mine.get(one.claim.id, "")] if mine else []
        rows.append([_claim(one.claim), _measured(one), verdict, _real(one, real.get(one.claim.id)), *yours, links])
    heads = ["claim", "measured, invented world", "invented world", "real text"]
    return markdown_table([*heads, *(["your own runs"] if mine else []), "seen in"], rows)


def evidence(verdict: Verdict) -> str:
    """Return all the evidence for one claim as text, with its rules as formulas."""
    lines = [verdict.claim.claim, f"verdict: {verdict.word}. {verdict.text}".rstrip()]
    for result in verdict.trials:
        hard = " (hard)" if result.trial.hard else ""
        lines.append(f"  lesson {result.trial.lesson}, {result.trial.setting}{hard}:")
        for one in result.measurements:
            lines.append(f"    {one.rule.formula}:  {_plain(one)}  {MARKS[one.answer]}")
    lines += [f"  note: {verdict.claim.note}"] if verdict.claim.note else []
    return "\n".join([*lines, *(f"  theirs: {published(one)}" for one in verdict.claim.published)])


def p_in_words(p: float) -> str:
    """Format a p-value; below 0.001 no digits are given, because the variances are only estimates."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def plan(verdicts: Iterable[Verdict], level: float = LEVEL) -> str:
    """Return a Markdown table of the open plain trials: power of as many new seeds, and what has a power of 80 %.

    A row holds if the mean and the variances so far are the true ones; see `inference.power`.
    """
    rows = []
    for verdict in verdicts:
        plain = (one for result in verdict.trials if not result.trial.hard for one in result.measurements)
        for one in plain:
            found = one.estimate
            if one.answer == "open" and found is not None and not math.isnan(found.shared):
                chance = power(found, found.seeds, level)
                share = found.shared / (found.between + found.shared)
                said = [f"{found.interval:.3g} ({one.rule.needs})", found.side, f"{share:.0%}"]
                rows.append([verdict.claim.short, *said, f"{chance:.0%} with {found.seeds}", _enough(found, level)])
    heads = ["open claim", "measured (needs)", "the mean says", "variance from test rows", "power of new seeds"]
    return markdown_table([*heads, f"enough for {POWER:.0%}"], rows)


def _enough(found: Estimate, level: float) -> str:
    """Say how many new seeds or test rows have the usual power."""
    seeds, rows = seeds_needed(found, level), rows_needed(found, level) if found.shared else None
    ways = [f"{seeds} new seeds"] if seeds else []
    ways += [f"{rows} times the test rows"] if rows else []
    if not ways and found.shared and (both := both_needed(found, level)):
        ways = [f"{both * found.seeds} new seeds and {both} times the test rows, together"]
    return " or ".join(ways) or f"nothing up to {MOST} times as much: the mean lies almost on the threshold"


def named(verdicts: Mapping[str, Verdict], name: str) -> Verdict:
    """Return the verdict on the claim with this id; raise a UserError if no claim has it."""
    if name not in verdicts:
        raise UserError(f'There is no claim "{name}".{nearest(name, verdicts)}')
    return verdicts[name]


def link(place: Shown, lessons: Sequence[Lesson]) -> str:
    """Return a Markdown link to a section of a lesson, or plain text if the lesson has no notebook."""
    words = f"{place.lesson}\N{NO-BREAK SPACE}§\N{NO-BREAK SPACE}{place.section}"
    lesson = next((one for one in lessons if one.number == place.lesson), None)
    if lesson is None or not lesson.path.is_file():
        return words
    title = headings(lesson).get(place.section)
    anchor = f"#{place.section}.-{title.replace(' ', '-')}" if title else ""
    return f"[{words}]({lesson.path.name}{anchor.replace('`', '').replace('?', '%3F')})"


def headings(lesson: Lesson) -> dict[int, str]:
    """Return number -> title of a lesson's sections."""
    text = "\n".join(cell["source"] for cell in lesson.cells if cell["cell_type"] == "markdown")
    return {int(number): title for number, title in HEADING.findall(text)}


def published(one: Published) -> str:
    """Format a published figure with its source."""
    return f"{one.figure} ({one.title}{f', {one.year}' if one.year else ''})"


def _claim(claim: Claim) -> str:
    places = ", ".join(dict.fromkeys(place.partition(".")[0] for place in claim.covers))
    note = f"<br>{claim.note}" if claim.note else ""
    theirs = "".join(f"<br>*theirs: {published(one)}*" for one in claim.published)
    return f"**{claim.short}** (point {places})<br>{claim.claim}{note}{theirs}"


def _measured(verdict: Verdict) -> str:
    lines = []
    for result in verdict.trials:
        said = (f"{_bold(one)} {MARKS[one.answer]} ({one.rule.needs})" for one in result.measurements)
        lines.append(f"{'*hard:* ' if result.trial.hard else ''}{result.trial.setting}: {', '.join(said)}")
    return "<br>".join(lines)


def _real(verdict: Verdict, real: Verdict | None) -> str:
    """Format the verdict on real text; '' for claims that are not measurable or true by construction."""
    if verdict.word in ("true by construction", "not measurable"):
        return ""
    if real is None or real.word == "not measured yet":
        return SIGNS["not measured yet"]
    lines = [f"**{SIGNS[real.word]}**", *([real.text] if real.text else [])]
    for result in real.trials:
        said = [f"{_bold(one)} {MARKS[one.answer]}" for one in result.measurements if one.estimate]
        lines += [f"{'*hard:* ' if result.trial.hard else ''}{result.trial.setting}: {', '.join(said)}"] if said else []
    return "<br>".join(lines)


def _own(verdict: Verdict) -> str:
    """Format the results of the learner's own runs with the number of runs; '' without runs."""
    known = [(one.interval, one.seeds) for result in verdict.trials for one in result.measurements]
    return "<br>".join(f"{value.value:.3g} ({seeds} run{'s' * (seeds > 1)})" for value, seeds in known if value)


def _plain(one: Measurement) -> str:
    if one.estimate is None:
        return "no figures yet"
    if one.estimate.exact:
        return f"{one.estimate.interval.value:.3g} in each of {one.seeds} seeds"
    return f"{one.estimate.interval:.3g}, {one.seeds} seeds, {p_in_words(one.estimate.p)}"


def _bold(one: Measurement) -> str:
    if one.estimate is None:
        return "no figures yet"
    if one.estimate.exact:
        return f"**{one.estimate.interval.value:.3g}** in every seed"
    value, _, ends = f"{one.estimate.interval:.3g}".partition(" ")
    return f"**{value}** {ends}".rstrip()
