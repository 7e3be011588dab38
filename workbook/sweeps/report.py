"""Shows a sweep's results: a table on the screen, and a page with the figure and every run's notebook."""

from __future__ import annotations

import base64
import math
import re
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from helpers.files import write_text
from helpers.intervals import Interval
from helpers.plotting import png
from helpers.redaction import redacted
from workbook.engine.ledger import Outcome, State
from workbook.engine.screen import say, shown
from workbook.lessons.layout import filled, number_text, page
from workbook.sweeps.figure import description, draw, lines_of, quantity_of
from workbook.sweeps.progress import counts, label
from workbook.sweeps.results import Cell, cells, cells_by_ending, has_endings, metric_names, write_table
from workbook.sweeps.saved import SavedSweep

PICTURE = "figure.png"
MAIN = 6
PAGE = """<main><h1>{{ saved.question }}</h1>
<p>{{ counted }}. Lesson {{ saved.notebook }}.
Square brackets: 95 % intervals over the runs of a cell (Student's t).</p>
{% if picture %}
<p><img alt="{{ picture.alt }}" src="data:image/png;base64,{{ picture.data }}"></p>
{% endif %}
<table><thead><tr>{% for head in heads %}<th>{{ head }}</th>{% endfor %}</tr></thead><tbody>
{% for row in rows %}
<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table>
<h2>Every run</h2>
<table><tbody>
{% for run in runs %}
<tr><td>{{ run.name }}</td><td class="{{ run.status }}">{{ run.status }}</td><td>{{ run.seconds }}</td>
<td>{% for word, file in run.files.items() %}<a href="{{ file }}">{{ word }}</a><br>{% endfor %}</td>
<td>{{ run.words | join("<br>" | safe) }}
{% if run.trace %}<details><summary>traceback</summary><pre>{{ run.trace }}</pre></details>{% endif %}</td></tr>
{% endfor %}
</tbody></table></main>"""
TERMINAL_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def shown_metrics(saved: SavedSweep, path: Path) -> list[str]:
    """The metrics that get a column: those of the figure, or the first MAIN metrics if there is no figure."""
    if saved.figure:
        return list(saved.figure["metrics"])
    return metric_names(path, [name for run in saved.runs.values() for name in run])[:MAIN]


def mean_text(name: str, interval: Interval | None) -> str:
    """A mean with its interval, if it has one."""
    if interval is None:
        return ""
    if math.isnan(interval.low):
        return number_text(name, interval.value)
    return f"{number_text(name, interval.value)} [{interval.low:.3g}, {interval.high:.3g}]"


def grouped(saved: SavedSweep, path: Path) -> tuple[list[str], list[str], list[Cell]]:
    """The names of the varied parameters, the metrics, and the cells of the grid with their means."""
    metrics = shown_metrics(saved, path)
    if not has_endings(metrics):
        return saved.varied, metrics, cells(path, saved.varied, metrics)
    found = cells_by_ending(path, saved.varied, metrics)
    return [*saved.varied, saved.figure["x"]], list(found[0].means), found


def show_report(folder: Path, saved: SavedSweep, states: dict[str, State]) -> None:
    """Write `runs.parquet`, `figure.png` and `index.html`; print the table of cells and where to look.

    Raises:
        UserError: no run is done, or the figure shows a metric that no run recorded.
    """
    path = write_table(folder, saved.runs, states)
    by, metrics, found = grouped(saved, path)
    heads = [*by, "runs", *(name.replace("_", " ") for name in metrics)]
    rows = [
        [*map(str, cell.values), str(cell.runs), *(mean_text(name, cell.means[name]) for name in metrics)]
        for cell in found
    ]
    body = filled(
        PAGE,
        saved=saved,
        counted=", ".join(f"{count} {status}" for status, count in counts(states).items() if count),
        picture=_picture(folder, saved, path),
        heads=heads,
        rows=rows,
        runs=[_run(folder, saved, run, state, metrics) for run, state in states.items()],
    )
    index = write_text(folder / "index.html", redacted(page(saved.question, body)))
    table = Table(*heads, box=SIMPLE)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    say(f"Look at {shown(index)}")


def _picture(folder: Path, saved: SavedSweep, path: Path) -> dict[str, str]:
    """Write the figure; return its image data and alternative text for the page, {} if the sweep has no figure."""
    if not saved.figure:
        return {}
    x, metrics = saved.figure["x"], saved.figure["metrics"]
    lines = lines_of(path, saved.figure)
    picture = png(draw(lines, x, quantity_of(metrics), saved.figure.get("log", False), saved.question))
    (folder / PICTURE).write_bytes(picture)
    return {"alt": description(lines, x), "data": base64.b64encode(picture).decode()}


def _run(folder: Path, saved: SavedSweep, run: str, state: State, metrics: list[str]) -> dict[str, object]:
    """A run's row in the page: its name, its figures or its error, and links to its page and notebook."""
    outcome = state.outcome or Outcome(state.status)
    if state.status == "done":
        values = outcome.metrics
        words = [f"{name.replace('_', ' ')}: {number_text(name, values[name])}" for name in metrics if name in values]
    else:
        words = f"{f'cell [{outcome.cell}]: ' if outcome.cell else ''}{outcome.error}".splitlines()
    files = {word: f"{saved.notebook}.{word}" for word in ("html", "ipynb")} if state.folder else {}
    return {
        "name": label(saved.runs[run], saved.varied) or run,
        "status": state.status,
        "seconds": f"{outcome.seconds:.0f} s" if state.outcome else "",
        "files": {
            word: (state.folder / name).relative_to(folder).as_posix()
            for word, name in files.items()
            if state.folder and (state.folder / name).is_file()
        },
        "words": [*words, *outcome.notes],
        "trace": TERMINAL_COLOURS.sub("", outcome.trace),  # without colour codes, which a page shows as characters
    }
