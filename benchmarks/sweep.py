"""Time the same short runs in a shell loop of papermill and in `workbook sweep run`, on the same cores.

    python -m benchmarks.sweep                                  twelve short runs that train: nine minutes
    python -m benchmarks.sweep --lesson 02 --budget quick       twelve rehearsals of ten seconds each
    python -m benchmarks.sweep --runs 4 --lesson 00 --into /tmp

The loop gives all cores to one run at a time. The sweep gives one core to each of several runs at a time. Starting and
ending a run takes a few seconds, a larger share of shorter runs. Run nothing else on the machine meanwhile. The
command writes its section of benchmarks/RESULTS.md.
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

from benchmarks.steps import report
from benchmarks.steps.harness import Row, Spread, Target
from workbook.lessons import NOTEBOOKS, find, select
from workbook.lessons.kernel import cores, environment
from workbook.sweeps.results import PARQUET, ask

RATIO, OUTSIDE = Target("at least", 1.7), Target("at most", 0.10)
ENDED = 'select "seconds_kernel", "seconds_cells" from runs'


@dataclass(frozen=True)
class Measured:
    """Figures of one way to run the notebooks: wall-clock seconds, lanes, each run's seconds in kernel and cells."""

    seconds: float
    lanes: int
    kernel: list[float]
    cells: list[float]

    @property
    def per_minute(self) -> float:
        """Finished runs per minute."""
        return 60 * len(self.cells) / self.seconds

    @property
    def overhead(self) -> float:
        """Seconds that a lane spends per run outside the notebook's own cells."""
        return (self.seconds * self.lanes - sum(self.cells)) / len(self.cells)

    @property
    def outside(self) -> float:
        """The share of all lanes' time in which no kernel was running."""
        return 1 - sum(self.kernel) / (self.seconds * self.lanes)


def loop(notebook: Path, budget: str, runs: int, folder: Path) -> Measured:
    """Time papermill in a shell loop, as somebody would type it without this project."""
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
    """Time the same runs as a sweep."""
    folder.mkdir()
    plan = {"question": "How fast?", "notebook": notebook.stem, "fixed": {"budget": budget}, "seeds": list(range(runs))}
    file = folder / "speed.yaml"
    file.write_text(yaml.safe_dump(plan))
    command = [sys.executable, "-m", "workbook.cli", "sweep", "run", str(file), "--yes", "--into", str(folder)]
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


def rows(before: Measured, now: Measured) -> list[Row]:
    """Return both figures as rows of the page, each from one measurement."""
    runs = [f"{way.seconds:.1f} s, {way.per_minute:.2f} runs a minute" for way in (now, before)]
    lanes = [f"{way.outside:.1%} of {way.lanes} lane(s)" for way in (now, before)]
    cells = [f"{sum(way.cells) / len(way.cells):.1f} s" for way in (now, before)]
    beside = [f"{way.overhead:.1f} s" for way in (now, before)]
    note = f"per run {' and '.join(cells)} in its cells, {' and '.join(beside)} of a lane beside them"
    return [
        Row("throughput", *runs, Spread.of([now.per_minute / before.per_minute]), RATIO, note),
        Row("outside kernels", *lanes, Spread.of([now.outside]), OUTSIDE, "a share of the workers' time, no ratio"),
    ]


@click.command()
@click.option("--lesson", default="01", show_default=True, help="Number of the lesson to run.")
@click.option("--budget", default="standard", show_default=True, help="The lesson's budget.")
@click.option(
    "--runs",
    type=click.IntRange(1, 1000),
    default=12,
    show_default=True,
    help="Number of runs; each has its own seed.",
)
@click.option(
    "--workers", type=click.IntRange(1), default=cores, help="Number of parallel runs.  [default: every core]"
)
@click.option(
    "--notebooks", type=click.Path(path_type=Path), default=NOTEBOOKS, help="Read the lessons from this folder."
)
@click.option("--into", type=click.Path(path_type=Path), default=report.FOLDER, help="The folder for RESULTS.md.")
def main(lesson: str, budget: str, runs: int, workers: int, notebooks: Path, into: Path) -> None:
    """Compare the runs per minute of a sweep and of papermill in a shell loop."""
    chosen = select([lesson], find(notebooks.resolve()))[0]
    about = report.circumstances(cores(), rounds=1)
    click.echo(f"{runs} runs of {chosen.name}, budget {budget}, {cores()} cores, load {about['load']}")
    with tempfile.TemporaryDirectory() as name:
        before = loop(chosen.path, budget, runs, Path(name) / "loop")
        now = sweep(chosen.path, budget, runs, min(workers, runs), Path(name) / "sweep")
    found = rows(before, now)
    Console().print(report.terminal(found))
    title = f"Sweep beside a shell loop of papermill: {runs} runs of lesson {chosen.number}, budget {budget}"
    report.write({f"sweep_{chosen.number}_{budget}": report.section(title, found, "", about)}, into=into)


if __name__ == "__main__":
    main()
