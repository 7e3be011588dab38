"""A sweep's results for people: a table on the screen, and a page with the figure and every run's notebook."""

from __future__ import annotations

import base64
import html
import math
from pathlib import Path

from rich.box import SIMPLE
from rich.table import Table

from helpers.files import write_text
from helpers.intervals import Interval
from helpers.plotting import png
from helpers.redaction import redacted
from workbook.lessons.layout import page
from workbook.lessons.report import figure as shown_number
from workbook.sweeps.endings import cells_by_ending, has_endings
from workbook.sweeps.figure import draw, lines_of, quantity_of, told
from workbook.sweeps.ledger import State
from workbook.sweeps.results import MAIN, Cell, cells, metric_names
from workbook.sweeps.saved import Saved
from workbook.sweeps.view import counts, label

PICTURE = "figure.png"


def shown_metrics(saved: Saved, path: Path) -> list[str]:
    """The metrics worth a column: the figure's, or else the first few."""
    if saved.figure:
        return list(saved.figure["metrics"])
    return metric_names(path, next(iter(saved.runs.values()), {}))[:MAIN]


def said(name: str, interval: Interval | None) -> str:
    """A mean with its interval, as far as there is one."""
    if interval is None:
        return ""
    if math.isnan(interval.low):
        return shown_number(name, interval.value)
    return f"{shown_number(name, interval.value)} [{interval.low:.3g}, {interval.high:.3g}]"


def grouped(saved: Saved, path: Path) -> tuple[list[str], list[str], list[Cell]]:
    """The cells of the grid: the names of their values, the metrics, and what was found in each."""
    metrics = shown_metrics(saved, path)
    if not has_endings(metrics):
        return saved.varied, metrics, cells(path, saved.varied, metrics)
    found = cells_by_ending(path, saved.varied, metrics)
    return [*saved.varied, saved.figure["x"]], list(found[0].means), found


def table(heads: list[str], rows: list[list[str]]) -> Table:
    """Cells of the grid with means and 95 % intervals, for a terminal."""
    made = Table(*heads, box=SIMPLE)
    for row in rows:
        made.add_row(*row)
    return made


def _shown(by: list[str], metrics: list[str], found: list[Cell]) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of the cells' table."""
    heads = [*by, "runs", *(name.replace("_", " ") for name in metrics)]
    return heads, [
        [*map(str, cell.values), str(cell.runs), *(said(name, cell.means[name]) for name in metrics)] for cell in found
    ]


def write_report(folder: Path, saved: Saved, states: dict[str, State], path: Path) -> tuple[Path, Table]:
    """Write `figure.png` and `index.html`; return the page's path and the table of cells."""
    by, metrics, found = grouped(saved, path)
    parts = [
        f"<h1>{html.escape(saved.question)}</h1>",
        f"<p>{_counted(states)} Lesson {html.escape(saved.notebook)}. Square brackets: 95 % intervals over the "
        "runs of a cell (Student's t).</p>",
        _picture(folder, saved, path),
        _html_table(*_shown(by, metrics, found)),
        "<h2>Every run</h2>",
        _runs_table(folder, saved, states, metrics),
    ]
    body = "\n".join(part for part in parts if part)
    index = write_text(folder / "index.html", redacted(page(saved.question, f"<main>{body}</main>")))
    return index, table(*_shown(by, metrics, found))


def _counted(states: dict[str, State]) -> str:
    number = counts(states)
    return ", ".join(f"{count} {status}" for status, count in number.items() if count) + "."


def _picture(folder: Path, saved: Saved, path: Path) -> str:
    if not saved.figure:
        return ""
    x, metrics = saved.figure["x"], saved.figure["metrics"]
    lines = lines_of(path, saved.figure)
    picture = png(draw(lines, x, quantity_of(metrics), saved.figure.get("log", False), saved.question))
    (folder / PICTURE).write_bytes(picture)
    alt = html.escape(told(lines, x))
    return f'<p><img alt="{alt}" src="data:image/png;base64,{base64.b64encode(picture).decode()}"></p>'


def _runs_table(folder: Path, saved: Saved, states: dict[str, State], metrics: list[str]) -> str:
    rows = []
    for run, state in states.items():
        name = html.escape(label(saved.runs[run], saved.varied) or run)
        seconds = f"{state.ending.seconds:.0f} s" if state.ending else ""
        links = "<br>".join(_links(folder, state, saved.notebook))
        rows.append(
            f'<tr><td>{name}</td><td class="{state.status}">{state.status}</td><td>{seconds}</td>'
            f"<td>{links}</td><td>{_words(state, metrics)}</td></tr>"
        )
    return "<table><tbody>" + "\n".join(rows) + "</tbody></table>"


def _links(folder: Path, state: State, notebook: str) -> list[str]:
    """Where the executed notebook lies, to read and to open."""
    made = {"page": ".html", "notebook": ".ipynb"} if state.folder else {}
    files = {word: state.folder / f"{notebook}{suffix}" for word, suffix in made.items()}
    return [f'<a href="{file.relative_to(folder)}">{word}</a>' for word, file in files.items() if file.is_file()]


def _words(state: State, metrics: list[str]) -> str:
    """What a run found, or why it did not."""
    if not state.ending:
        return ""
    notes = [html.escape(note) for note in state.ending.notes]
    if state.status == "done":
        values = state.ending.metrics
        numbers = [
            f"{name.replace('_', ' ')}: {shown_number(name, values[name])}" for name in metrics if name in values
        ]
        return "<br>".join([*numbers, *notes])
    where = f"cell [{state.ending.cell}]: " if state.ending.cell else ""
    trace = (
        state.ending.trace and f"<details><summary>traceback</summary><pre>{_plain(state.ending.trace)}</pre></details>"
    )
    return "<br>".join([html.escape(where + state.ending.error).replace("\n", "<br>"), *notes]) + trace


def _plain(trace: str) -> str:
    """A traceback without the terminal's colours."""
    import re

    return html.escape(re.sub(r"\x1b\[[0-9;]*m", "", trace))


def _html_table(heads: list[str], rows: list[list[str]]) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in heads)
    body = "\n".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>"
