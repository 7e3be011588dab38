"""What is said when a run ends: the index page, and the closing lines."""

from __future__ import annotations

import html
from pathlib import Path

from helpers.files import write_text
from helpers.redaction import redacted
from workbook.engine.ledger import Outcome
from workbook.lessons import Lesson
from workbook.lessons.layout import number_text, page
from workbook.run.plan import Run

MAIN = 6


def main_figures(outcome: Outcome | None) -> list[tuple[str, str]]:
    """The first few single numbers that a lesson recorded, in its own order."""
    metrics = outcome.metrics if outcome else {}
    numbers = {name: value for name, value in metrics.items() if isinstance(value, int | float)}
    return [(name.replace("_", " "), number_text(name, value)) for name, value in numbers.items()][:MAIN]


def write_index(run: Run) -> Path:
    """Write `index.html`: every lesson with its state, time and figures."""
    rows = "\n".join(_row(run, lesson) for lesson in run.lessons)
    body = f"""<h1>The lessons, run {html.escape(run.folder.name)}</h1>
<table><thead><tr><th>lesson</th><th></th><th>time</th><th>main figures</th></tr></thead>
<tbody>
{rows}
</tbody></table>
<p>Beside each page lie the executed notebook and <code>metrics.json</code> with all figures.</p>"""
    return write_text(run.folder / "index.html", redacted(page("The lessons", f"<main>{body}</main>")))


def closing_lines(run: Run) -> list[str]:
    """The last lines of the command: figures of what is done, cell and error of what failed."""
    lines = []
    for name, state in run.campaign.states.items():
        outcome = state.outcome
        if outcome is None:
            lines.append(f"{name}: not run")
        elif state.status == "done":
            lines.append(f"{name}: done in {outcome.seconds:.0f} s")
            lines += [f"    {figure}: {value}" for figure, value in main_figures(outcome)]
        else:
            where = f" in cell [{outcome.cell}]" if outcome.cell else ""
            lines.append(f"{name}: FAILED{where}: {outcome.error}")
    return lines


def _row(run: Run, lesson: Lesson) -> str:
    state = run.campaign.states[lesson.name]
    outcome = state.outcome
    title = html.escape(f"{lesson.number} · {lesson.title}")
    if (run.folder / lesson.name / f"{lesson.name}.html").is_file():
        title = f'<a href="{lesson.name}/{lesson.name}.html">{title}</a>'
    status, seconds, kind = ("not run", "", "left")
    if outcome:
        status = kind = "done" if state.status == "done" else "failed"
        seconds = f"{outcome.seconds:.0f} s"
    figures = "<br>".join(f"{html.escape(name)}: {value}" for name, value in main_figures(outcome))
    if outcome and outcome.error:
        where = f"cell [{outcome.cell}]: " if outcome.cell else ""
        figures = html.escape(where + outcome.error)
    return f'<tr><td>{title}</td><td class="{kind}">{status}</td><td>{seconds}</td><td>{figures}</td></tr>'
