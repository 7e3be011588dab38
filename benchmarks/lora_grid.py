"""The second reference of lesson 08: LoRA by rank, learning rate and alpha, with all parameters beside it.

python -m benchmarks.lora_grid                data/reference/lora_grid.json, on validation rows
python -m benchmarks.lora_grid --seeds 5      more seeds; what was measured before is not measured again

The pretrained pocket encoder learns a few hundred reviews in one cell of the grid after the other. Two runs of a cell
differ in the rows and the random starts. Every finished piece is kept in `runs/reference`.
"""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import Any

import click
import torch

from helpers import catalog
from helpers.batches import TokenizedReviews, pad, sample_rows, tokenize
from helpers.evaluation import correct_and_loss
from helpers.lessons.lesson_08.experiment import linear_changes, linear_weights, prepare
from helpers.lora import lora_layers
from helpers.models import MeanPoolClassifier
from helpers.paths import ROOT
from helpers.reference import FOLDER, kept, save_reference
from helpers.runtime import UserError, seed_everything, start
from helpers.training import train_on_text

RANKS, RATES, FULL_RATES = (1, 8, 64), (1e-3, 2e-3, 4e-3, 8e-3), (2.5e-4, 5e-4, 1e-3, 2e-3)
ALPHA = 16.0  # at every rank; the cells of "wide" have twice the rank instead
LABELS, EPOCHS, JUDGED = 400, 4, 500
EARLY = 20  # steps, of 100


def cells() -> dict[str, tuple[str, int, float, float]]:
    """The name of every cell -> method, rank, alpha, learning rate."""
    found = {f"lora_{rank}_{rate:g}": ("lora", rank, ALPHA, rate) for rank in RANKS for rate in RATES}
    found |= {f"wide_{RANKS[-1]}_{rate:g}": ("lora", RANKS[-1], 2.0 * RANKS[-1], rate) for rate in RATES}
    return found | {f"full_{rate:g}": ("full", 0, 0.0, rate) for rate in FULL_RATES}


@cache
def rows_of(seed: int) -> tuple[TokenizedReviews, TokenizedReviews, Any]:
    """Training rows, validation rows and the collator."""
    tokenizer, found = catalog.tokenizer("encoder", "pocket"), catalog.dataset("reviews", "pocket")
    parts = sample_rows(found["train"], LABELS, seed), found["validation"].select(range(JUDGED))
    train, judged = (TokenizedReviews.from_dataset(tokenize(part, tokenizer, 192)) for part in parts)
    return train, judged, pad(tokenizer)


def size_of_change(model: MeanPoolClassifier, before: dict[str, torch.Tensor]) -> float:
    """The Frobenius norm of all changes of matrices in the blocks together."""
    changes = [layer.change() for layer in lora_layers(model).values()]
    if not changes:
        found = linear_changes(before, model)
        changes = [change for path, change in found.items() if not path.startswith("head")]
    return torch.stack([change.detach().norm() for change in changes]).norm().item()


def measure(method: str, rank: int, alpha: float, rate: float, seed: int) -> dict[str, float]:
    """One training: the loss after a few steps and at the end, the accuracy, and how far the matrices moved."""
    train, judged, collate = rows_of(seed)
    seed_everything(seed)
    model = prepare(catalog.classifier("pocket"), method, rank=rank or 1, alpha=alpha)
    before, few, values = linear_weights(model), judged.select(range(100)), {}

    def look(step: int) -> None:
        if step in (0, EARLY):
            values[f"loss_{step}"] = correct_and_loss(model, few, collate)[1]
            values[f"size_{step}"] = size_of_change(model, before)

    history = train_on_text(model, train, collate, rate, epochs=EPOCHS, seed=seed, on_step=look)
    correct, loss = correct_and_loss(model, judged, collate)
    values |= {"accuracy": correct.mean().item(), "loss": loss, "size": size_of_change(model, before)}
    return values | {"training_loss": history.mean_loss(20)}


def piece(parts: Path, name: str, seed: int) -> dict[str, float]:
    """All metrics of one cell and seed, with the cell's name at the end: accuracy_lora_8_0.002."""
    method, rank, alpha, rate = cells()[name]
    settings: dict[str, object] = {"method": method, "rank": rank, "alpha": alpha, "rate": rate, "seed": seed}
    settings |= {"labels": LABELS, "epochs": EPOCHS, "judged": JUDGED, "early": EARLY}
    found = kept(parts / "lora_grid", f"{name}-{seed}", settings, partial(measure, method, rank, alpha, rate, seed))
    click.echo(f"seed {seed}  {name:16}accuracy {found['accuracy']:.3f}  loss {found['loss']:.3f}")
    return {f"{metric}_{name}": float(str(value)) for metric, value in found.items()}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seeds", default=3, type=click.IntRange(1, 100), show_default=True, help="How many: 0, 1, 2, ...")
@click.option("--into", default=FOLDER, type=click.Path(path_type=Path), help="The folder for lora_grid.json.")
@click.option("--parts", default=ROOT / "runs" / "reference", type=click.Path(path_type=Path), help="Finished pieces.")
def main(seeds: int, into: Path, parts: Path) -> None:
    """Train every cell of the grid once per seed and write data/reference/lora_grid.json."""
    try:
        start(track="pocket", budget="standard", seed=0)
        measured: list[dict[str, float]] = []
        for seed in range(seeds):
            measured.append({})
            for name in cells():
                measured[-1] |= piece(parts, name, seed)
        settings = {"labels": LABELS, "epochs": EPOCHS, "alpha": ALPHA, "judged": JUDGED, "early": EARLY}
        settings |= {"ranks": RANKS, "rates": RATES, "full_rates": FULL_RATES}
        path = save_reference("lora_grid", "python -m benchmarks.lora_grid", settings, measured, into)
        click.echo(f"written: {path.name}")
    except UserError as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
