"""Collect every number that the runs of the sweep over all lessons recorded in one table, the reference.

python -m workbook.claims.gather [--sweeps FOLDER] [--into FILE]

If a lesson has unfinished runs, or fewer than five, its rows stay as they were and the command says so; `workbook sweep
resume reference` continues its runs. No number is typed by hand. Numbers called `real_<metric>` come from a lesson's
section on real text, which runs if `workbook real` has downloaded the files. They are saved as `<metric>` in a separate
table, `results_real.parquet`.
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
    """Read what the runs of one sweep recorded.

    Raises:
        UserError: some runs are unfinished, there are too few, or their versions, threads or parameters differ.
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
    """Write both tables from the reference's sweeps; return a message for each lesson.

    A lesson whose runs cannot be used keeps its old rows.
    """
    tables = {False: into, True: into.with_name(REAL_TABLE.name)}  # whether on real text -> table
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
@click.option(
    "--sweeps",
    type=click.Path(path_type=Path),
    default=SWEEPS,
    help="Read sweeps from this folder instead of runs/sweeps/.",
)
@click.option(
    "--into",
    type=click.Path(path_type=Path),
    default=TABLE,
    help="Write to this file instead of data/reference/results.parquet.",
)
def main(sweeps: Path, into: Path) -> None:
    """Write the numbers of the reference's runs to data/reference/results.parquet and results_real.parquet."""
    lines = gather(sweeps.resolve(), into)
    click.echo("\n".join(lines))
    sys.exit(1 if any("not taken" in line for line in lines) else 0)


if __name__ == "__main__":
    main()
