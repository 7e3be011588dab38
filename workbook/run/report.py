"""The report at the end of a run: the index page and the closing lines."""

from __future__ import annotations

from pathlib import Path

from helpers.files import write_text
from helpers.redaction import redacted
from workbook.engine.ledger import Outcome
from workbook.lessons import Lesson
from workbook.lessons.layout import filled, number_text, page
from workbook.run.plan import Run

MAIN = 6
PAGE = """<main><h1>The lessons, run {{ run }}</h1>
<table><thead><tr><th>lesson</th><th></th><th>time</th><th>main figures</th></tr></thead><tbody>
{% for row in rows %}
<tr><td>{% if row.file %}<a href="{{ row.file }}">{{ row.title }}</a>{% else %}{{ row.title }}{% endif %}</td>
<td class="{{ "left" if row.status == "not run" else row.status }}">{{ row.status }}</td><td>{{ row.seconds }}</td>
<td>{{ row.words | join("<br>" | safe) }}</td></tr>
{% endfor %}
</tbody></table>
<p>Beside each page lie the executed notebook and <code>metrics.json</code> with all figures.</p></main>"""


def main_figures(outcome: Outcome | None) -> list[tuple[str, str]]:
    """The first few single numbers that a lesson recorded, in its own order."""
    metrics = outcome.metrics if outcome else {}
    numbers = {name: value for name, value in metrics.items() if isinstance(value, int | float)}
    return [(name.replace("_", " "), number_text(name, value)) for name, value in numbers.items()][:MAIN]


def write_index(run: Run) -> Path:
    """Write `index.html`: every lesson with its state, time and figures."""
    body = filled(PAGE, run=run.folder.name, rows=[_row(run, lesson) for lesson in run.lessons])
    return write_text(run.folder / "index.html", redacted(page("The lessons", body)))


def closing_lines(run: Run) -> list[str]:
    """The last lines of the command: figures of finished lessons, cell and error of failed ones."""
    lines = []
    for name, state in run.campaign.states.items():
        outcome = state.outcome
        if outcome is None:
            lines.append(f"{name}: not run")
        elif state.status == "done":
            lines.append(f"{name}: done in {outcome.seconds:.0f} s")
            lines += [f"    {figure}: {value}" for figure, value in main_figures(outcome)]
            lines += [f"    ! {note}" for note in outcome.notes]
        else:
            where = f" in cell [{outcome.cell}]" if outcome.cell else ""
            lines.append(f"{name}: FAILED{where}: {outcome.error}")
    return lines


def _row(run: Run, lesson: Lesson) -> dict[str, object]:
    state = run.campaign.states[lesson.name]
    outcome = state.outcome
    words = [f"{name}: {value}" for name, value in main_figures(outcome)] + (outcome.notes if outcome else [])
    if outcome and outcome.error:
        words = [f"{f'cell [{outcome.cell}]: ' if outcome.cell else ''}{outcome.error}"]
    file = f"{lesson.name}/{lesson.name}.html"
    return {
        "title": f"{lesson.number} · {lesson.title}",
        "file": file if (run.folder / file).is_file() else "",
        "status": ("done" if state.status == "done" else "failed") if outcome else "not run",
        "seconds": f"{outcome.seconds:.0f} s" if outcome else "",
        "words": words,
    }
