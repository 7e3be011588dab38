"""References of lesson 02 that its own runs do not make: its settings on real text, and random starts with more passes.

python -m benchmarks.full_vs_last_layer real      lesson_02_real.json: needs the real track's files (`workbook real`)
python -m benchmarks.full_vs_last_layer scratch   lesson_02_random_start.json

Both train as the lesson does, with `helpers.recipes`, and measure on the test rows. Every finished piece is kept in
`runs/reference`; interrupted, the command goes on there.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import click
import torch
from datasets import Dataset

from helpers import catalog
from helpers.batches import sample_rows
from helpers.evaluation import Outcome, bag_of_words, evaluate
from helpers.lessons.lesson_02.experiment import (
    LABELS,
    REAL_LABELS,
    REAL_TEST_ROWS,
    SETTINGS,
    Task,
    recipes_of,
    task_of,
)
from helpers.models import MeanPoolClassifier, freeze_all_but
from helpers.paths import ROOT
from helpers.recipes import Recipe
from helpers.reference import FOLDER, kept, save_reference
from helpers.runtime import UserError, seed_everything, start
from helpers.training import train_on_features, train_on_text

BLOCKS = {"head_only": 0, "last_block": 1, "full": None, "scratch": None}
PASSES = (3, 6, 12)  # each with a whole schedule of its own


@cache
def rows_of(track: str, seed: int) -> tuple[Dataset, Dataset]:
    """The training and the test reviews of a seed, as the lesson draws them."""
    found = catalog.dataset("reviews", track)
    labels, count = (REAL_LABELS, REAL_TEST_ROWS) if track == "real" else (LABELS, len(found["test"]))
    return sample_rows(found["train"], labels, seed), found["test"].select(range(count))


@cache
def task(track: str, seed: int) -> Task:
    """The rows of a seed as tokens."""
    return task_of(track, *rows_of(track, seed), MeanPoolClassifier)


def trained(track: str, name: str, recipe: Recipe, seed: int) -> dict[str, float]:
    """One setting of one seed: its accuracy on the test rows."""
    if name == "bag_of_words":
        train, test = rows_of(track, seed)
        guesses = torch.as_tensor(bag_of_words(train["text"], train["label"]).predict(test["text"]))
        return {"accuracy": Outcome(name, guesses, torch.tensor(test["label"])).accuracy.value}
    seed_everything(seed)
    given = task(track, seed)
    model = freeze_all_but(given.new_model(name != "scratch"), BLOCKS[name])
    fit = train_on_features if name == "head_only" else train_on_text
    history = fit(
        model, given.train_rows, given.collate, recipe.learning_rate, epochs=recipe.epochs, seed=seed, progress=name
    )
    return {"accuracy": evaluate(name, model, given.test_rows, given.collate, history).accuracy.value}


def piece(parts: Path, track: str, name: str, recipe: Recipe, seed: int) -> float:
    """The accuracy of `trained`, measured now or in an earlier try."""
    labels = len(rows_of(track, seed)[0])
    settings = {"track": track, "setting": name, "recipe": asdict(recipe), "seed": seed, "labels": labels}
    file = f"{track}-{name}-{recipe.epochs}-{seed}"
    found = kept(parts / "full_vs_last_layer", file, settings, lambda: trained(track, name, recipe, seed))
    click.echo(f"{track:8}{name:14}{recipe.epochs:3} epochs  seed {seed}  {found['accuracy']:.4f}")
    return float(found["accuracy"])


def on_real_text(parts: Path, seeds: int) -> list[dict[str, float]]:
    """The bag of words and every setting, for each seed."""
    recipes = {"bag_of_words": Recipe(0.0), **recipes_of(SETTINGS, "published", "standard")}
    return [
        {f"accuracy_{name}": piece(parts, "real", name, recipe, seed) for name, recipe in recipes.items()}
        for seed in range(seeds)
    ]


def random_starts(parts: Path, seeds: int) -> list[dict[str, float]]:
    """A random start with more and more passes, for each seed."""
    recipe = recipes_of(("scratch",), "pocket", "standard")["scratch"]
    return [
        {
            f"accuracy_{passes}_passes": piece(parts, "pocket", "scratch", replace(recipe, epochs=passes), seed)
            for passes in PASSES
        }
        for seed in range(seeds)
    ]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("what", type=click.Choice(["real", "scratch"]))
@click.option("--seeds", default=3, type=click.IntRange(1, 100), show_default=True, help="How many: 0, 1, 2, ...")
@click.option("--into", default=FOLDER, type=click.Path(path_type=Path), help="The folder for the result.")
@click.option("--parts", default=ROOT / "runs" / "reference", type=click.Path(path_type=Path), help="Finished pieces.")
def main(what: str, seeds: int, into: Path, parts: Path) -> None:
    """Train lesson 02's settings once per seed and write what they reach on the test rows."""
    try:
        start(track="real" if what == "real" else "pocket", budget="standard", seed=0)
        measured = (on_real_text if what == "real" else random_starts)(parts, seeds)
        settings = {"labels": REAL_LABELS, "test_rows": REAL_TEST_ROWS} if what == "real" else {"labels": LABELS}
        name = "lesson_02_real" if what == "real" else "lesson_02_random_start"
        path = save_reference(name, f"python -m benchmarks.full_vs_last_layer {what}", settings, measured, into)
        click.echo(f"written: {path.name}")
    except UserError as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
