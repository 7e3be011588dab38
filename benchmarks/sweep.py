"""The same short runs through papermill in a shell loop and through `workbook sweep run`, on the same cores.

    python benchmarks/sweep.py                      twelve runs of lesson 02 at budget quick: about six minutes
    python benchmarks/sweep.py --runs 4 --lesson 00

The loop has all cores for one run after the other, the sweep one core for each of several runs side by side.
Nothing else should be at work on the machine meanwhile.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import click
import nbformat
import yaml
from rich.console import Console
from rich.table import Table

from helpers.lessons import NOTEBOOKS, find, select
from helpers.lessons.kernel import cores, environment
from helpers.sweeps.results import PARQUET, ask

RATIO, OUTSIDE = 1.7, 0.10
ENDED = 'select "seconds_kernel", "seconds_cells" from runs'


@dataclass(frozen=True)
class Measured:
    """One way to run them: seconds by the clock, lanes side by side, and each run's seconds in kernel and cells."""

    seconds: float
    lanes: int
    kernel: list[float]
    cells: list[float]

    @property
    def per_minute(self) -> float:
        """Runs that ended in a minute."""
        return 60 * len(self.cells) / self.seconds

    @property
    def overhead(self) -> float:
        """Seconds of a lane for each run that were not spent in the notebook's own cells."""
        return (self.seconds * self.lanes - sum(self.cells)) / len(self.cells)

    @property
    def outside(self) -> float:
        """The share of all lanes' time in which no kernel was at work."""
        return 1 - sum(self.kernel) / (self.seconds * self.lanes)


def loop(notebook: Path, budget: str, runs: int, folder: Path) -> Measured:
    """What somebody would type without this project: papermill in a loop of the shell."""
    folder.mkdir()
    command = " ".join(
        [
            f"for seed in $(seq 0 {runs - 1}); do",
            f"{shlex.quote(sys.executable)} -m papermill --no-progress-bar -k python3 -l python",
            f"--cwd {shlex.quote(str(notebook.parent))}",
            f"{shlex.quote(str(notebook))} {shlex.quote(str(folder))}/$seed.ipynb",
            f"-p budget {budget} -p seed $seed || exit 1; done",
        ]
    )
    seconds = _timed(["bash", "-c", command], environment(threads=cores(), run_folder=folder), folder)
    made = [nbformat.read(path, as_version=4) for path in sorted(folder.glob("*.ipynb"))]
    durations = [sum(cell.metadata.get("papermill", {}).get("duration") or 0.0 for cell in one.cells) for one in made]
    return Measured(seconds, 1, [one.metadata.papermill.duration for one in made], durations)


def sweep(notebook: Path, budget: str, runs: int, workers: int, folder: Path) -> Measured:
    """The same runs as a sweep."""
    folder.mkdir()
    plan = {"question": "How fast?", "notebook": notebook.stem, "fixed": {"budget": budget}, "seeds": list(range(runs))}
    file = folder / "speed.yaml"
    file.write_text(yaml.safe_dump(plan))
    command = [sys.executable, "-m", "helpers.cli", "sweep", "run", str(file), "--yes", "--into", str(folder)]
    command += ["--workers", str(workers), "--notebooks", str(notebook.parent)]
    seconds = _timed(command, dict(os.environ), folder)
    rows = ask(folder / "speed" / PARQUET, ENDED)[1]
    return Measured(seconds, workers, [row[0] for row in rows], [row[1] for row in rows])


def _timed(command: list[str], settings: dict[str, str], folder: Path) -> float:
    began = time.perf_counter()
    ended = subprocess.run(command, env=settings, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if ended.returncode:
        raise click.ClickException(f"{folder.name} failed:\n{(ended.stdout + ended.stderr)[-2000:]}")
    return seconds


def table(before: Measured, now: Measured) -> Table:
    """Both ways side by side."""
    made = Table("", "papermill loop", "workbook sweep")
    made.add_row("wall time", *(f"{way.seconds:.1f} s" for way in (before, now)))
    made.add_row("runs per minute", *(f"{way.per_minute:.2f}" for way in (before, now)))
    made.add_row("in the cells, per run", *(f"{sum(way.cells) / len(way.cells):.1f} s" for way in (before, now)))
    made.add_row("beside the cells, per run", *(f"{way.overhead:.1f} s" for way in (before, now)))
    made.add_row("outside kernels", *(f"{way.outside:.1%}" for way in (before, now)))
    return made


@click.command()
@click.option("--lesson", default="02", show_default=True, help="The lesson that is run.")
@click.option("--budget", default="quick", show_default=True, help="Its budget.")
@click.option("--runs", type=click.IntRange(1, 1000), default=12, show_default=True, help="How many, each a seed.")
@click.option("--workers", type=click.IntRange(1), default=cores, help="Runs side by side.  [default: every core]")
@click.option("--notebooks", type=click.Path(path_type=Path), default=NOTEBOOKS, help="Another folder of lessons.")
def main(lesson: str, budget: str, runs: int, workers: int, notebooks: Path) -> None:
    """Measure how many runs a minute a sweep does, against papermill in a loop of the shell."""
    notebook = select([lesson], find(notebooks.resolve()))[0].path
    click.echo(f"{runs} runs of {notebook.stem}, budget {budget}, {cores()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as name:
        before = loop(notebook, budget, runs, Path(name) / "loop")
        now = sweep(notebook, budget, runs, min(workers, runs), Path(name) / "sweep")
    Console().print(table(before, now))
    ratio = now.per_minute / before.per_minute
    click.echo(f"throughput: {ratio:.2f} times the loop's (wanted: at least {RATIO})")
    click.echo(f"outside kernels: {now.outside:.1%} of the workers' time (wanted: at most {OUTSIDE:.0%})")


if __name__ == "__main__":
    main()
