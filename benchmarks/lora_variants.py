"""Measure the reference of lesson 09: LoRA and its variants over several seeds, for data/reference/lora_variants.json.

python -m benchmarks.lora_variants            three seeds on the test rows
python -m benchmarks.lora_variants --tune     a grid of learning rates, on validation rows; writes no reference
python -m benchmarks.lora_variants --more     matched parameters and PiSSA, five seeds: lora_variants_more.json

The recipe is the lesson's own, in `helpers.lessons.lesson_09.experiment`.
Each seed draws its own rows and random starts.
Each finished piece (a seed, a variant and all its settings) is saved in `runs/reference`. After an interruption, the
same command continues from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

import click

from helpers import catalog
from helpers.batches import TokenizedReviews, pad, sample_rows, tokenize
from helpers.evaluation import evaluate
from helpers.intervals import mean_t
from helpers.lessons.lesson_09 import experiment
from helpers.models import freeze_all_but
from helpers.paths import ROOT
from helpers.recipes import recipe
from helpers.reference import FOLDER, kept, save_reference
from helpers.runtime import UserError, seed_everything, start
from helpers.training import train_on_features

GRID = (1e-3, 2e-3, 4e-3, 8e-3)
CONTROL = "head_only"  # with lesson 02's recipe
KEPT = ("accuracy_", "trainable_parameters_")


def rows_of(seed: int, labels: int, judged: str) -> tuple[dict[str, TokenizedReviews], Callable]:
    """Return this seed's training rows, the rows of the split `judged` as "test", and the collator."""
    tokenizer, found = catalog.tokenizer("encoder", "pocket"), catalog.dataset("reviews", "pocket")
    parts = {"train": sample_rows(found["train"], labels, seed), "test": found[judged]}
    rows = {name: TokenizedReviews.from_dataset(tokenize(part, tokenizer)) for name, part in parts.items()}
    return rows, pad(tokenizer)


def variant_of(name: str) -> experiment.Variant:
    """Look up a variant that the lesson trains, or one that only the reference measures."""
    return (experiment.VARIANTS | experiment.MORE)[name]


def settings_of(name: str, rate: float | None, **others: object) -> dict[str, object]:
    """Return all settings that decide a piece's result. A saved piece is reused only if all of them are equal."""
    fixed = {"rank": experiment.RANK, "alpha": experiment.ALPHA, "batch_size": experiment.BATCH_SIZE}
    if name == CONTROL:
        return {"variant": asdict(recipe(CONTROL)), **others}
    variant = variant_of(name)
    return {"variant": asdict(variant) | {"learning_rate": rate or variant.learning_rate()}, **fixed, **others}


def trained(name: str, rate: float | None, *, seed: int, labels: int, epochs: int, judged: str) -> dict[str, float]:
    """Train one variant, or the control, from the pretrained encoder. Return its metrics on the rows `judged`.

    The seconds are dropped, because other work on the machine would distort them. The lesson's own run measures them.
    """
    rows, collate = rows_of(seed, labels, judged)
    seed_everything(seed)
    if name == CONTROL:
        model, rate = freeze_all_but(catalog.classifier("pocket"), 0), recipe(CONTROL).learning_rate
        history = train_on_features(model, rows["train"], collate, rate, epochs=epochs, seed=seed)
        found = evaluate(CONTROL, model, rows["test"], collate, history)
    else:
        variant, options = variant_of(name), {"epochs": epochs, "seed": seed, "learning_rate": rate}
        found = experiment.fine_tune(variant, catalog.classifier("pocket"), rows, collate, **options)[1]
    return {metric: value for metric, value in found.metrics(name).items() if metric.startswith(KEPT)}


def piece(parts: Path, name: str, rate: float | None = None, **others: object) -> dict[str, float]:
    """Return the metrics of one piece: read if they are saved for the same settings, else measured and saved."""
    settings = settings_of(name, rate, **others)
    file = f"{name}-{others['judged']}-{others['seed']}"
    found = kept(parts / "lora_variants", file, settings, lambda: trained(name, rate, **others))
    said = settings["variant"]["learning_rate"]
    click.echo(f"seed {others['seed']}  {name:16}{said:8.0e}  {found[f'accuracy_{name}']:.4f}")
    return found


def measure(parts: Path, names: Iterable[str], seeds: int, labels: int, epochs: int) -> list[dict[str, float]]:
    """Measure each of these variants with every seed, on the test rows."""
    names = list(names)
    found = []
    for seed in range(seeds):
        others = {"seed": seed, "labels": labels, "epochs": epochs, "judged": "test"}
        pieces = [piece(parts, name, **others) for name in names]
        found.append({metric: value for metrics in pieces for metric, value in metrics.items()})
    return found


def tune(parts: Path, names: Iterable[str], seeds: int, labels: int, epochs: int) -> None:
    """Print every variant's mean validation accuracy by learning rate, and the best rate (of ties, the lowest)."""
    others = {"labels": labels, "epochs": epochs, "judged": "validation"}
    for name in names:
        means = {}
        for rate in GRID:
            pieces = [piece(parts, name, rate, seed=seed, **others) for seed in range(seeds)]
            means[rate] = mean_t([found[f"accuracy_{name}"] for found in pieces]).value
        said = ", ".join(f"{rate:.0e} {mean:.4f}" for rate, mean in means.items())
        click.echo(f"{name:16}{said}; best {max(means, key=means.get):.0e}")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--seeds",
    default=3,
    type=click.IntRange(1, 100),
    show_default=True,
    help="Number of seeds; 3 means seeds 0, 1 and 2.",
)
@click.option("--labels", default=experiment.LABELS, type=click.IntRange(2), show_default=True)
@click.option("--epochs", default=experiment.EPOCHS, type=click.IntRange(1), show_default=True)
@click.option("--tune", "tuning", is_flag=True, help="Try learning rates on validation rows; write nothing.")
@click.option("--only", multiple=True, help="With --tune: a variant's name; repeatable.")
@click.option(
    "--more", is_flag=True, help="Measure the variants that the lesson does not train, instead of the lesson's own."
)
@click.option("--into", default=FOLDER, type=click.Path(path_type=Path), help="The folder for lora_variants.json.")
@click.option(
    "--parts", default=ROOT / "runs" / "reference", type=click.Path(path_type=Path), help="Folder of finished pieces."
)
def main(
    seeds: int, labels: int, epochs: int, tuning: bool, only: tuple[str, ...], more: bool, into: Path, parts: Path
) -> None:
    """Train each variant once per seed and write data/reference/lora_variants.json."""
    try:
        start(track="pocket", budget="standard", seed=0)
        if tuning:
            return tune(parts, only or tuple(experiment.VARIANTS), seeds, labels, epochs)
        chosen = experiment.MORE if more else experiment.VARIANTS
        measured = measure(parts, chosen if more else (CONTROL, *chosen), seeds, labels, epochs)
        settings = {"labels": labels, "epochs": epochs, "rank": experiment.RANK, "alpha": experiment.ALPHA}
        settings["rates"] = {name: variant.learning_rate() for name, variant in chosen.items()}
        name, flag = ("lora_variants_more", " --more") if more else ("lora_variants", "")
        path = save_reference(name, f"python -m benchmarks.lora_variants{flag}", settings, measured, into)
        click.echo(f"written: {path.name}")
    except UserError as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
