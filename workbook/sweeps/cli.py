"""The commands of `workbook sweep`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import click

from helpers.paths import ROOT
from helpers.runtime import UserError

RUNS = ROOT / "runs" / "sweeps"
WHERE = [
    click.option("--workers", type=click.IntRange(1, 1024), help="Runs side by side.  [default: one for each core]"),
    click.option("--scheduler", default="", metavar="ADDRESS", help="A Dask scheduler that runs: tcp://host:port."),
    click.option("--slurm", type=click.Path(path_type=Path), help="A YAML file with settings for Slurm."),
    click.option("--timeout", type=click.FloatRange(1), help="Seconds that one run may take.  [default: the sweep's]"),
    click.option("--retries", type=click.IntRange(0, 3), help="How often a crashed run is tried again.  [default: 1]"),
    click.option("--yes", is_flag=True, help="Do not ask about a large number of runs."),
]
INTO = click.option("--into", type=click.Path(path_type=Path), default=RUNS, help="Another folder than runs/sweeps/.")


def _worst(statuses: Iterable[int]) -> int:
    """The exit status of one sweep after the other: the worst, and none begins after one was interrupted."""
    from workbook.lessons.command import INTERRUPTED

    worst = 0
    for status in statuses:
        worst = max(worst, status)
        if status == INTERRUPTED:
            break
    return worst


def _where(command):
    for option in reversed(WHERE):
        command = option(command)
    return command


@click.group()
def sweep() -> None:
    """Run one lesson over many parameters and seeds.

    \b
    workbook sweep run sweeps/labels.yaml --dry-run   what would be run?
    workbook sweep run sweeps/labels.yaml             run it; Ctrl-C keeps what is done
    workbook sweep status labels                      how far is it?
    workbook sweep resume labels                      the rest
    workbook sweep results labels                     table, figure, page
    """
    try:
        import fcntl  # noqa: F401
    except ImportError:
        raise UserError("Sweeps need Linux or macOS; on Windows, run them inside WSL.") from None


@sweep.command()
@click.argument("file", type=click.Path(path_type=Path))
@_where
@click.option("--dry-run", is_flag=True, help="Only say what would be run.")
@click.option("--notebooks", type=click.Path(path_type=Path), help="Another folder of lessons than notebooks/.")
@INTO
def run(file, workers, scheduler, slurm, timeout, retries, yes, dry_run, notebooks, into) -> None:
    """Run the sweep that FILE describes; runs that are done already are kept."""
    from workbook.lessons import NOTEBOOKS
    from workbook.sweeps import command
    from workbook.sweeps.plan import make_plans

    plans = make_plans(file, (notebooks or NOTEBOOKS).resolve())
    seconds = timeout or plans[0].sweep.minutes * 60
    options = command.Options(workers, scheduler, slurm, seconds, 1 if retries is None else retries, yes)
    if scheduler and slurm:
        raise UserError("--scheduler and --slurm exclude each other: name one place to run.")
    if dry_run:
        for plan in plans:
            command.dry_run(plan, options)
        return
    sys.exit(_worst(command.carry_out(plan, into.resolve() / plan.name, options) for plan in plans))


@sweep.command()
@click.argument("name")
@_where
@INTO
def resume(name, workers, scheduler, slurm, timeout, retries, yes, into) -> None:
    """Run what is not done of the sweep NAME, with the same notebook and helpers."""
    from workbook.sweeps import command
    from workbook.sweeps.looking import same_plan
    from workbook.sweeps.saved import load, members

    def resumed(saved) -> int:
        again = saved.retries if retries is None else retries
        options = command.Options(workers, scheduler, slurm, timeout or saved.seconds, again, yes)
        return command.carry_out(same_plan(saved), into.resolve() / saved.name, options)

    sys.exit(_worst(resumed(load(into.resolve(), one)) for one in members(into.resolve(), name)))


@sweep.command()
@click.argument("name")
@INTO
def status(name, into) -> None:
    """How far the sweep NAME is."""
    from workbook.sweeps.looking import show_status
    from workbook.sweeps.saved import members

    sys.exit(max(show_status(into.resolve(), one) for one in members(into.resolve(), name)))


@sweep.command()
@click.argument("name")
@click.option("--sql", help="A question to DuckDB about the table `runs`.")
@INTO
def results(name, sql, into) -> None:
    """Table, figure and page of the sweep NAME, as far as it is."""
    from workbook.sweeps.looking import show_results
    from workbook.sweeps.saved import members

    sys.exit(max(show_results(into.resolve(), one, sql) for one in members(into.resolve(), name)))


@sweep.command()
@click.argument("name")
@INTO
def cancel(name, into) -> None:
    """End the sweep NAME, from another terminal; what is done stays."""
    from workbook.sweeps.looking import cancel_sweep

    cancel_sweep(into.resolve(), name)
