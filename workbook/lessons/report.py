"""What is said when a run ends: the index page, and the closing lines."""

from __future__ import annotations

import html
from pathlib import Path

from helpers.files import write_text
from workbook.lessons.attempt import Attempt
from workbook.lessons.run import Run

MAIN = 6


def main_figures(attempt: Attempt) -> list[tuple[str, str]]:
    """The first few single numbers that the lesson recorded, in its own order."""
    metrics = attempt.outcome.metrics if attempt.outcome else {}
    numbers = {name: value for name, value in metrics.items() if isinstance(value, int | float)}
    return [(name.replace("_", " "), figure(name, value)) for name, value in numbers.items()][:MAIN]


def figure(name: str, value: float) -> str:
    """A number as a person reads it, with the unit that its metric's name tells."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name.startswith("seconds"):
        return f"{value:.1f} s"
    if "bytes" in name:
        return f"{value / 1e6:,.1f} MB"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def index(run: Run) -> Path:
    """Write `index.html`: every lesson with its state, time and figures."""
    from workbook.lessons.layout import page

    rows = "\n".join(_row(run.folder, attempt) for attempt in run.attempts)
    body = f"""<h1>The lessons, run {html.escape(run.folder.name)}</h1>
<table><thead><tr><th>lesson</th><th></th><th>time</th><th>main figures</th></tr></thead>
<tbody>
{rows}
</tbody></table>
<p>Beside each page lie the executed notebook and <code>metrics.json</code> with all figures.</p>"""
    return write_text(run.folder / "index.html", page("The lessons", f"<main>{body}</main>"))


def closing(run: Run) -> list[str]:
    """The last lines of the command: figures of what is done, cell and error of what failed."""
    lines = []
    for attempt in run.attempts:
        outcome = attempt.outcome
        if outcome is None:
            lines.append(f"{attempt.lesson.name}: not run")
        elif outcome.status == "failed":
            where = f" in cell [{outcome.cell}]" if outcome.cell else ""
            lines.append(f"{attempt.lesson.name}: FAILED{where}: {outcome.error}")
        else:
            lines.append(f"{attempt.lesson.name}: done in {outcome.seconds:.0f} s")
            lines += [f"    {name}: {value}" for name, value in main_figures(attempt)]
    return lines


def _row(folder: Path, attempt: Attempt) -> str:
    lesson, outcome = attempt.lesson, attempt.outcome
    title = html.escape(f"{lesson.number} · {lesson.title}")
    if (folder / lesson.name / f"{lesson.name}.html").is_file():
        title = f'<a href="{lesson.name}/{lesson.name}.html">{title}</a>'
    status, seconds = (outcome.status, f"{outcome.seconds:.0f} s") if outcome else ("not run", "")
    figures = "<br>".join(f"{html.escape(name)}: {value}" for name, value in main_figures(attempt))
    if outcome and outcome.error:
        where = f"cell [{outcome.cell}]: " if outcome.cell else ""
        figures = html.escape(where + outcome.error)
    kind = status if outcome else "left"
    return f'<tr><td>{title}</td><td class="{kind}">{status}</td><td>{seconds}</td><td>{figures}</td></tr>'
