"""The reference of lesson 09: LoRA and its relatives over several seeds, in data/reference/lora_variants.json.

python -m benchmarks.lora_variants            three seeds on the test rows
python -m benchmarks.lora_variants --tune     a grid of learning rates, on validation rows only; prints, writes nothing

The recipe is `helpers.lora_variants`', the one that the lesson runs. Every piece (a seed and a variant) is kept in
`runs/reference` when it is done; interrupted, the command goes on there.
"""

from __future__ import annotations

import json
from pathlib import Path

import click

from helpers import catalog, lora_variants
from helpers.batches import TokenizedReviews, pad, sample_rows, tokenize
from helpers.catalog import ROOT
from helpers.ladder import Outcome
from helpers.record import write_json
from helpers.reference import FOLDER, save_reference
from helpers.runtime import UserError, seed_everything, start

GRID = (1e-3, 2e-3, 4e-3)


def rows_of(seed: int, labels: int, judged: str) -> tuple[dict[str, TokenizedReviews], object]:
    """The training rows of this seed and the rows to be judged on, and the collator."""
    tokenizer, found = catalog.tokenizer("encoder", "pocket"), catalog.dataset("reviews", "pocket")
    parts = {"train": sample_rows(found["train"], labels, seed), "test": found[judged]}
    rows = {name: TokenizedReviews.from_dataset(tokenize(part, tokenizer)) for name, part in parts.items()}
    return rows, pad(tokenizer)


def trained(name: str, seed: int, labels: int, epochs: int, judged: str, rate: float | None = None) -> Outcome:
    """One variant, from the pretrained encoder."""
    rows, collate = rows_of(seed, labels, judged)
    seed_everything(seed)
    options = {"epochs": epochs, "seed": seed, "learning_rate": rate}
    variant = lora_variants.VARIANTS[name]
    return lora_variants.fine_tune(variant, catalog.classifier("pocket"), rows, collate, **options)[1]


def measure_all(seeds: int, labels: int, epochs: int, parts: Path) -> list[dict[str, float]]:
    """Every variant of every seed, on the test rows; those already in `parts` are read."""
    found = []
    for seed in range(seeds):
        values: dict[str, float] = {}
        for name in lora_variants.VARIANTS:
            path = parts / f"lora_variants-{labels}-{epochs}-{seed}-{name}.json"
            if not path.is_file():
                write_json(path, trained(name, seed, labels, epochs, "test").metrics(name))
            values |= json.loads(path.read_text(encoding="utf-8"))
            click.echo(f"seed {seed}  {name:20}{values[f'accuracy_{name}']:.3f}  {values[f'seconds_{name}']:6.1f} s")
        found.append(values)
    return found


def tune(seeds: int, labels: int, epochs: int) -> None:
    """Print the mean validation accuracy of every learning rate for every variant."""
    for name in lora_variants.VARIANTS:
        for rate in GRID:
            scores = [trained(name, seed, labels, epochs, "validation", rate).accuracy.value for seed in range(seeds)]
            click.echo(f"{name:20}{rate:8.1e}  {sum(scores) / len(scores):.3f}")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seeds", default=3, type=click.IntRange(1, 100), show_default=True, help="How many: 0, 1, 2, ...")
@click.option("--labels", default=lora_variants.LABELS, type=click.IntRange(2), show_default=True)
@click.option("--epochs", default=lora_variants.EPOCHS, type=click.IntRange(1), show_default=True)
@click.option("--tune", "tuning", is_flag=True, help="Try learning rates on validation rows; write nothing.")
@click.option("--into", default=FOLDER, type=click.Path(path_type=Path), help="The folder for lora_variants.json.")
@click.option("--parts", default=ROOT / "runs" / "reference", type=click.Path(path_type=Path), help="Finished pieces.")
def main(seeds: int, labels: int, epochs: int, tuning: bool, into: Path, parts: Path) -> None:
    """Train each variant once per seed and write data/reference/lora_variants.json."""
    try:
        start(track="pocket", budget="standard", seed=0)
        if tuning:
            return tune(seeds, labels, epochs)
        measured = measure_all(seeds, labels, epochs, parts)
        settings = {"labels": labels, "epochs": epochs, "rank": lora_variants.RANK, "alpha": lora_variants.ALPHA}
        path = save_reference("lora_variants", 'make reference REFERENCES="lora_variants"', settings, measured, into)
        click.echo(f"written: {path.name}")
    except UserError as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
