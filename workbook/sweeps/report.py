"""A sweep's results for people: a table on the screen, and a page with the figure and every run's notebook."""

from __future__ import annotations

import base64
import html
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
from workbook.engine.ledger import State
from workbook.engine.screen import say, shown
from workbook.lessons.layout import number_text, page
from workbook.sweeps.figure import description, draw, lines_of, quantity_of
from workbook.sweeps.progress import counts, label
from workbook.sweeps.results import Cell, cells, cells_by_ending, has_endings, metric_names, write_table
from workbook.sweeps.saved import SavedSweep

PICTURE = "figure.png"
MAIN = 6
TERMINAL_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def shown_metrics(saved: SavedSweep, path: Path) -> list[str]:
    """The metrics worth a column: the figure's, or else the first few."""
    if saved.figure:
        return list(saved.figure["metrics"])
    return metric_names(path, [name for run in saved.runs.values() for name in run])[:MAIN]


def mean_text(name: str, interval: Interval | None) -> str:
    """A mean with its interval, as far as there is one."""
    if interval is None:
        return ""
    if math.isnan(interval.low):
        return number_text(name, interval.value)
    return f"{number_text(name, interval.value)} [{interval.low:.3g}, {interval.high:.3g}]"


def grouped(saved: SavedSweep, path: Path) -> tuple[list[str], list[str], list[Cell]]:
    """The cells of the grid: the names of their values, the metrics, and what was found in each."""
    metrics = shown_metrics(saved, path)
    if not has_endings(metrics):
        return saved.varied, metrics, cells(path, saved.varied, metrics)
    found = cells_by_ending(path, saved.varied, metrics)
    return [*saved.varied, saved.figure["x"]], list(found[0].means), found


def _shown(by: list[str], metrics: list[str], found: list[Cell]) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of the cells' table."""
    heads = [*by, "runs", *(name.replace("_", " ") for name in metrics)]
    return heads, [
        [*map(str, cell.values), str(cell.runs), *(mean_text(name, cell.means[name]) for name in metrics)]
        for cell in found
    ]


def show_report(folder: Path, saved: SavedSweep, states: dict[str, State]) -> None:
    """Write `runs.parquet`, `figure.png` and `index.html`; print the table of cells and where to look.

    Raises:
        UserError: no run is done, or the figure shows a metric that no run recorded.
    """
    path = write_table(folder, saved.runs, states)
    by, metrics, found = grouped(saved, path)
    heads, rows = _shown(by, metrics, found)
    table = Table(*heads, box=SIMPLE)
    for row in rows:
        table.add_row(*row)
    parts = [
        f"<h1>{html.escape(saved.question)}</h1>",
        f"<p>{_counted(states)} Lesson {html.escape(saved.notebook)}. Square brackets: 95 % intervals over the "
        "runs of a cell (Student's t).</p>",
        _picture(folder, saved, path),
        _html_table(heads, rows),
        "<h2>Every run</h2>",
        _runs_table(folder, saved, states, metrics),
    ]
    body = "\n".join(part for part in parts if part)
    index = write_text(folder / "index.html", redacted(page(saved.question, f"<main>{body}</main>")))
    Console().print(table)
    say(f"Look at {shown(index)}")


def _counted(states: dict[str, State]) -> str:
    number = counts(states)
    return ", ".join(f"{count} {status}" for status, count in number.items() if count) + "."


def _picture(folder: Path, saved: SavedSweep, path: Path) -> str:
    if not saved.figure:
        return ""
    x, metrics = saved.figure["x"], saved.figure["metrics"]
    lines = lines_of(path, saved.figure)
    picture = png(draw(lines, x, quantity_of(metrics), saved.figure.get("log", False), saved.question))
    (folder / PICTURE).write_bytes(picture)
    alt = html.escape(description(lines, x))
    return f'<p><img alt="{alt}" src="data:image/png;base64,{base64.b64encode(picture).decode()}"></p>'


def _runs_table(folder: Path, saved: SavedSweep, states: dict[str, State], metrics: list[str]) -> str:
    rows = []
    for run, state in states.items():
        name = html.escape(label(saved.runs[run], saved.varied) or run)
        seconds = f"{state.outcome.seconds:.0f} s" if state.outcome else ""
        links = "<br>".join(_links(folder, state, saved.notebook))
        rows.append(
            f'<tr><td>{name}</td><td class="{state.status}">{state.status}</td><td>{seconds}</td>'
            f"<td>{links}</td><td>{_words(state, metrics)}</td></tr>"
        )
    return "<table><tbody>" + "\n".join(rows) + "</tbody></table>"


def _links(folder: Path, state: State, notebook: str) -> list[str]:
    """Where the executed notebook lies, to read and to open."""
    made = {"page": ".html", "notebook": ".ipynb"}
    files = {word: state.folder / f"{notebook}{suffix}" for word, suffix in made.items()} if state.folder else {}
    return [f'<a href="{file.relative_to(folder)}">{word}</a>' for word, file in files.items() if file.is_file()]


def _words(state: State, metrics: list[str]) -> str:
    """What a run found, or why it did not."""
    if not state.outcome:
        return ""
    notes = [html.escape(note) for note in state.outcome.notes]
    if state.status == "done":
        values = state.outcome.metrics
        numbers = [f"{name.replace('_', ' ')}: {number_text(name, values[name])}" for name in metrics if name in values]
        return "<br>".join([*numbers, *notes])
    where = f"cell [{state.outcome.cell}]: " if state.outcome.cell else ""
    # A terminal's colours would stand in the page as signs.
    trace = html.escape(TERMINAL_COLOURS.sub("", state.outcome.trace))
    folded = f"<details><summary>traceback</summary><pre>{trace}</pre></details>" if trace else ""
    return "<br>".join([html.escape(where + state.outcome.error).replace("\n", "<br>"), *notes]) + folded


def _html_table(heads: list[str], rows: list[list[str]]) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in heads)
    body = "\n".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>"
