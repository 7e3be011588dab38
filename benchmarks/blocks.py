"""Train some of the last blocks, as lesson 02 does with `settings`, over several seeds; write blocks.json.

make reference REFERENCES=blocks

Each seed of a setting, such as "blocks_2", is one run of lesson 02 that ends after its cell that trains. The lesson
pairs the seeds with those of its own reference, so both need the same code and number of threads. Each finished run is
saved in `runs/reference`. After an interruption, the same command continues from there. A setting is written to
blocks.json when all of its seeds are there.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import click
import nbformat

from helpers import record
from helpers.paths import ROOT
from helpers.reference import FOLDER, kept, save_reference
from workbook.engine.task import Task
from workbook.engine.worker import run_task
from workbook.lessons import find, select

SETTINGS = ("blocks_2", "blocks_4", "blocks_3")  # the first and the last depth first
PARTS = ROOT / "runs" / "reference"
TRAINS = "outcomes[name] = train_setting("  # the cell that trains the settings has this; the cells below are left out
RECORDS = """
from helpers.record import record

record("02_full_vs_last_layer", {}, **{k: v for name in chosen for k, v in outcomes[name].metrics(name).items()})
"""


def until_trained(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook up to the cell that trains the settings, and a last cell that records their numbers."""
    last = next((place for place, cell in enumerate(notebook.cells) if TRAINS in cell.source), None)
    if last is None:
        raise click.ClickException(f"lesson 02 has no cell with `{TRAINS}`; TRAINS in this file names it.")
    notebook.cells[last + 1 :] = [nbformat.v4.new_code_cell(RECORDS.strip())]
    return notebook


def measure(setting: str, seed: int, budget: str, threads: int) -> dict[str, float]:
    """Run lesson 02 with one seed until this setting is trained. Return the numbers about it."""
    (lesson,) = select(("02",), find())
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder).resolve() / lesson.name
        cut = Path(folder).resolve() / "cut" / lesson.path.name
        cut.parent.mkdir()
        nbformat.write(until_trained(nbformat.read(lesson.path, as_version=4)), cut)
        given = {"budget": budget, "seed": seed, "settings": setting}
        task = Task(lesson.name, str(made), str(cut), given, str(made.with_name("stop")), threads, numbered=False)
        outcome = run_task(task)
        if outcome.status != "done":
            raise click.ClickException(f"{setting}, seed {seed}: {outcome.error}")
        return about(setting, record.read(made / record.FILE)["metrics"])


def about(setting: str, metrics: dict[str, float]) -> dict[str, float]:
    """The metrics of this setting."""
    return {metric: value for metric, value in metrics.items() if metric.endswith(f"_{setting}")}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seeds", default=5, type=click.IntRange(2, 100), show_default=True, help="5 means the seeds 0 to 4.")
@click.option("--budget", default="standard", type=click.Choice(("quick", "standard")), show_default=True)
@click.option("--threads", default=1, type=click.IntRange(1), show_default=True)
@click.option("--into", default=FOLDER, type=click.Path(path_type=Path), help="The folder for blocks.json.")
@click.option("--parts", default=PARTS, type=click.Path(path_type=Path), help="The folder for finished seeds.")
def main(seeds: int, budget: str, threads: int, into: Path, parts: Path) -> None:
    """Measure every seed of every setting and write data/reference/blocks.json."""
    given: dict[str, object] = {"budget": budget, "threads": threads}
    found: list[dict[str, float]] = [{} for _ in range(seeds)]
    for setting in SETTINGS:
        for seed, one in enumerate(found):
            key = {**given, "settings": setting, "seed": seed}
            one |= kept(parts, "blocks", key, partial(measure, setting, seed, budget, threads))
            click.echo(f"{setting}  seed {seed}  {one[f'accuracy_{setting}']:.4f}")
        command = f"python -m benchmarks.blocks --seeds {seeds}"
        path = save_reference("blocks", command, given, found, into, threads)
        click.echo(f"written: {path.name}")


if __name__ == "__main__":
    main()
