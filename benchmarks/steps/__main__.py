"""Run all comparisons, or the named ones, and write benchmarks/RESULTS.md: `python -m benchmarks.steps [NAME]...`.

    python -m benchmarks.steps                                  all but whole_course, with every core
    python -m benchmarks.steps lora quantization --rounds 5
    python -m benchmarks.steps whole_course --run-folder runs/2030-01-31_120000

Run nothing else on the machine meanwhile.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import click
from rich.console import Console

from benchmarks.steps import report
from benchmarks.steps.harness import ROUNDS
from benchmarks.steps.report import TITLES
from helpers.qlora import drop_two_notices
from helpers.runtime import UserError, choose, start
from workbook.lessons.kernel import cores


def compare(name: str, rounds: int, toy: bool, threads: int, run_folder: Path | None) -> dict:
    """Measure one comparison, show its table, and return its section of the results."""
    module = importlib.import_module(f"benchmarks.steps.{name}")
    about = report.circumstances(threads, rounds)
    others = {"folder": run_folder} if name == "whole_course" else {}
    rows = module.measure(rounds, toy, **others)
    Console().print(report.terminal(rows))
    return report.section(TITLES[name], rows, getattr(module, "LEFT", ""), about)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--rounds", type=click.IntRange(1, 1000), default=ROUNDS, show_default=True, help="Number of timed pairs."
)
@click.option(
    "--threads", type=click.IntRange(1, 1024), default=cores, help="Number of torch threads.  [default: every core]"
)
@click.option(
    "--run-folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of the run that whole_course reads.",
)
@click.option(
    "--toy", is_flag=True, help="Use the smallest sizes, to test that everything runs. The figures mean nothing."
)
@click.option("--into", type=click.Path(path_type=Path), default=report.FOLDER, help="The folder for RESULTS.md.")
def main(names: tuple[str, ...], rounds: int, threads: int, run_folder: Path | None, toy: bool, into: Path) -> None:
    """Compare what this project wrote with libraries and bounds; NAME is one of: training_step, lora, other_methods,
    quantization, dpo, pretraining, memory, whole_course.

    Without a NAME, the command measures all but whole_course, which needs a finished run of all lessons.
    """
    try:
        if toy and into == report.FOLDER:
            raise UserError("--toy measures nothing; give another folder with --into.")
        chosen = [choose("NAME", name, TITLES) for name in names] or [name for name in TITLES if name != "whole_course"]
        drop_two_notices()
        start(track="pocket", budget="standard", seed=0, threads=threads)
        click.echo(f"{threads} thread(s) of {cores()} cores, load {os.getloadavg()[0]:.1f}, {rounds} rounds")
        for name in chosen:
            path = report.write({name: compare(name, rounds, toy, threads, run_folder)}, into)
        click.echo(f"written: {path.name}")
    except UserError as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
