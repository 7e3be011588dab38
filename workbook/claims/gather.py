"""From the sweep over all lessons to the reference: every number that its runs recorded, in one table.

python -m workbook.claims.gather [--sweeps FOLDER] [--into FILE]

A lesson whose runs are not all done, or are fewer than five, is left as it was, and that is said: `workbook sweep
resume reference` goes on there. Nothing is typed by hand: what a run recorded is what the table holds. Numbers called
`real_<metric>` come from a lesson's section on real text, which runs where `workbook real` has fetched the files; they
stand as `<metric>` in a table of their own, `results_real.parquet` beside the other one.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import click

from helpers import record
from helpers.reference import machine
from helpers.runtime import UserError
from workbook.claims.results import FEWEST, ON_REAL_TEXT, REAL_TABLE, TABLE, Rows, read_rows, rows_of, write_table
from workbook.sweeps.saved import SWEEPS, members, read_sweep
from workbook.sweeps.status import states_of

SWEEP = "reference"


@dataclass(frozen=True)
class LessonRows:
    """One lesson's runs: rows (lesson, seed, metric, value), and how they were made."""

    rows: Rows
    about: dict[str, object]


def gathered(sweeps: Path, name: str) -> LessonRows:
    """What the runs of one sweep recorded.

    Raises:
        UserError: not all of its runs are done, they are too few, or they were not made alike.
    """
    saved = read_sweep(sweeps, name)
    states = states_of(sweeps / saved.name, saved)
    done = [state.folder for state in states.values() if state.status == "done" and state.folder]
    if len(done) < max(FEWEST, len(states)):
        raise UserError(f"{len(done)} of {max(FEWEST, len(states))} runs are done; workbook sweep resume {name}")
    runs = [record.read(folder / record.FILE) for folder in done]
    made = [
        {"versions": run["versions"], "threads": run["threads"], "parameters": _without_seed(run["parameters"])}
        for run in runs
    ]
    if any(one != made[0] for one in made):
        raise UserError("its runs had other versions, threads or parameters, so they are not draws of one thing")
    rows = [row for run in runs for row in rows_of(run)]
    finished = max(run["finished"] for run in runs)
    return LessonRows(rows, {"command": "make reference", "date": finished[:10], "machine": machine(), **made[0]})


def _without_seed(parameters: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in parameters.items() if name != "seed"}


def gather(sweeps: Path, into: Path) -> list[str]:
    """Write both tables from the reference's sweeps; return a line for each lesson.

    Lessons that are not taken keep the rows that the tables had.
    """
    tables = {False: into, True: into.with_name(REAL_TABLE.name)}  # on real text? -> its table
    kept = {real: read_rows(path) for real, path in tables.items()}
    lines = []
    for name in members(sweeps, SWEEP):
        lesson = name[-2:]
        try:
            found = gathered(sweeps, name)
        except UserError as error:
            lines.append(f"{lesson}: not taken: {error}")
            continue
        split: dict[bool, Rows] = {False: [], True: []}
        for number, seed, metric, value in found.rows:
            on_real_text = metric.startswith(ON_REAL_TEXT)
            split[on_real_text].append((number, seed, metric.removeprefix(ON_REAL_TEXT), value))
        for real, new in split.items():
            if new:
                rows, about = kept[real]
                about[lesson] = found.about
                kept[real] = [row for row in rows if row[0] != lesson] + new, about
        said = f", {len(split[True])} of them on real text" if split[True] else ""
        lines.append(f"{lesson}: {len({row[1] for row in found.rows})} seeds, {len(found.rows)} numbers{said}")
    for real, (rows, about) in kept.items():
        if rows:
            tables[real].parent.mkdir(parents=True, exist_ok=True)
            write_table(tables[real], sorted(rows), about)
    return lines


@click.command()
@click.option("--sweeps", type=click.Path(path_type=Path), default=SWEEPS, help="Another folder than runs/sweeps/.")
@click.option("--into", type=click.Path(path_type=Path), default=TABLE, help="Another table.")
def main(sweeps: Path, into: Path) -> None:
    """Put what the reference's runs recorded into data/reference/results.parquet and results_real.parquet."""
    lines = gather(sweeps.resolve(), into)
    click.echo("\n".join(lines))
    sys.exit(1 if any("not taken" in line for line in lines) else 0)


if __name__ == "__main__":
    main()
