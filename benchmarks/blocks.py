"""Train some of the last blocks, as lesson 02 does with `settings`, over several seeds; write blocks.json.

make reference REFERENCES=blocks

Each seed is one run of lesson 02 that trains only "blocks_2", "blocks_3" and "blocks_4". Lesson 02 pairs the seeds with
those of its own reference, so both need the same code and number of threads. Each finished seed is saved in
`runs/reference`. After an interruption, the same command continues from there.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from helpers import record
from helpers.paths import ROOT
from helpers.reference import FOLDER, kept, save_reference
from workbook.engine.task import Task
from workbook.engine.worker import run_task
from workbook.lessons import find, select

SETTINGS = "blocks_2, blocks_3, blocks_4"
PARTS = ROOT / "runs" / "reference"


def measure(seed: int, budget: str, threads: int) -> dict[str, float]:
    """Run lesson 02 with one seed. Return its numbers about some of the last blocks."""
    (lesson,) = select(("02",), find())
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder).resolve() / lesson.name
        given = {"budget": budget, "seed": seed, "settings": SETTINGS}
        task = Task(
            lesson.name, str(made), str(lesson.path), given, str(made.with_name("stop")), threads, numbered=False
        )
        outcome = run_task(task)
        if outcome.status != "done":
            raise click.ClickException(f"seed {seed}: {outcome.error}")
        return blocks_only(record.read(made / record.FILE)["metrics"])


def blocks_only(metrics: dict[str, float]) -> dict[str, float]:
    """The metrics of the settings that train some of the last blocks."""
    names = [name.strip() for name in SETTINGS.split(",")]
    return {metric: value for metric, value in metrics.items() if metric.endswith(tuple(f"_{name}" for name in names))}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seeds", default=5, type=click.IntRange(2, 100), show_default=True, help="5 means the seeds 0 to 4.")
@click.option("--budget", default="standard", type=click.Choice(("quick", "standard")), show_default=True)
@click.option("--threads", default=1, type=click.IntRange(1), show_default=True)
@click.option("--into", default=FOLDER, type=click.Path(path_type=Path), help="The folder for blocks.json.")
@click.option("--parts", default=PARTS, type=click.Path(path_type=Path), help="The folder for finished seeds.")
def main(seeds: int, budget: str, threads: int, into: Path, parts: Path) -> None:
    """Measure every seed and write data/reference/blocks.json."""
    settings: dict[str, object] = {"budget": budget, "settings": SETTINGS, "threads": threads}
    found = []
    for seed in range(seeds):
        one = kept(parts, "blocks", {**settings, "seed": seed}, lambda seed=seed: measure(seed, budget, threads))
        click.echo(f"seed {seed}  " + "  ".join(f"{k} {v:.3f}" for k, v in one.items() if k.startswith("accuracy_")))
        found.append(one)
    path = save_reference("blocks", f"python -m benchmarks.blocks --seeds {seeds}", settings, found, into, threads)
    click.echo(f"written: {path.name}")


if __name__ == "__main__":
    main()
