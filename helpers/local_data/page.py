"""A report on data, in lines to read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from helpers.local_data.columns import listed
from helpers.local_data.lengths import Lengths
from helpers.local_data.report import Report
from helpers.local_data.table import Table

CLASSES = 12  # shown of many
UNREADABLE = 10
WIDTH = 12


def page(report: Report, lengths: Mapping[str, Mapping[str, Lengths]]) -> Iterator[str]:
    """The lines of a report; lengths: part -> role -> tokens."""
    for part, table in report.tables.items():
        yield f"{table.path}" + (f"  ({part})" if len(report.tables) > 1 else "")
        yield from (_line(*line) for line in _table(report.kind, table))
        yield _line("repeated", _repeated(report.repeated[part]))
        if part in report.classes:
            yield _line("classes", _classes(report.classes[part]))
        for role, found in lengths.get(part, {}).items():
            yield _line("tokens", f"{role}: {found}")
        yield ""
    for (first, second), count in report.shared.items():
        yield _line("shared", f"{count:,} (rows of {second} that {first} has too){_leak(count)}")
    if report.kind == "labelled texts":
        yield _line("conflicts", f"{report.contradictions:,} (texts that stand there with more than one label)")
    yield from (_line("note", note) for note in report.notes)


def _line(name: str, said: str) -> str:
    return f"  {name:{WIDTH}}{said}"


def _table(kind: str, table: Table) -> Iterator[tuple[str, str]]:
    yield "rows", f"{table.total:,}, of which {len(table.bad):,} cannot be used"
    for problem in table.problems():
        yield "", problem
    for place, reason in list(table.unreadable.items())[1:UNREADABLE]:
        yield "", f"- also {table.unit} {place}: {reason}"
    yield "columns", f"{len(table.columns):,}: {listed(table.columns)}"
    yield "read as", f"{kind}: {table.choice}"
    unread = [name for name in table.columns if name not in table.choice.columns.values()]
    if unread:
        yield "not read", listed(unread)


def _repeated(count: int) -> str:
    return f"{count:,} (rows whose texts stood there before; capital letters and white space do not count)"


def _leak(count: int) -> str:
    return ": a score there tells what was learned by heart; remove them from one side" if count else ""


def _classes(counts: Counter) -> str:
    shown = [f"{name} {count:,} ({100 * count / counts.total():.1f} %)" for name, count in counts.most_common(CLASSES)]
    more = f" and {len(counts) - CLASSES:,} more" if len(counts) > CLASSES else ""
    return f"{len(counts):,}: {', '.join(shown)}{more}"
