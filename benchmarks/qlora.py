"""The reference of lesson 11: full, LoRA and QLoRA over several seeds, kept in data/reference/qlora.json.

make reference REFERENCES=qlora                   three seeds on the test rows
make reference REFERENCES=qlora ARGS="--tune"     the grid of learning rates, on validation rows only; writes nothing

The recipe is `helpers.qlora`'s, the lesson's own. Each seed draws its own training rows, heads and adapters.
"""

from __future__ import annotations

from pathlib import Path

import click
import torch

from helpers import catalog, qlora
from helpers.batches import TokenizedReviews, pad, sample_rows, tokenize
from helpers.evaluation import accuracy, predict_rows
from helpers.intervals import mean_t
from helpers.reference import FOLDER, save_reference
from helpers.runtime import UserError, seed_everything, start
from helpers.training import trainable_parameters

GRIDS = {"full": (5e-4, 1e-3, 2e-3), "lora": (1e-3, 2e-3, 3e-3, 5e-3), "qlora": (1e-3, 2e-3, 3e-3, 5e-3)}


def measure(method: str, rate: float, seed: int, rows: dict[str, TokenizedReviews], tokenizer, epochs: int) -> dict:
    """Train once and judge on the rows "judged": accuracy and trained parameters.

    The seconds are shown but not kept: other work on the machine would be in them. The lesson's own run has its own.
    """
    seed_everything(seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    classifier = qlora.classifier(method, "pocket", device=device)
    collate = pad(tokenizer)
    seconds = qlora.fit(classifier, rows["train"], collate, learning_rate=rate, epochs=epochs, seed=seed)
    found = accuracy(*predict_rows(classifier, rows["judged"], collate))
    click.echo(f"seed {seed}  {qlora.TITLES[method]:16}{rate:8.1e}  {found:.4f}  {seconds:6.1f} s")
    trained = trainable_parameters(classifier)
    return {f"accuracy_{method}": found, f"trainable_parameters_{method}": trained}


def rows_of(reviews, tokenizer, seed: int, labels: int, judged: str) -> dict[str, TokenizedReviews]:
    """The training rows of one seed, and the rows to judge on."""
    splits = {"train": sample_rows(reviews["train"], labels, seed), "judged": reviews[judged]}
    return {name: TokenizedReviews.from_dataset(tokenize(part, tokenizer)) for name, part in splits.items()}


def tune(reviews, tokenizer, seeds: int, labels: int, epochs: int) -> None:
    """Print the mean validation accuracy of every learning rate for every method, over the seeds."""
    drawn = [rows_of(reviews, tokenizer, seed, labels, "validation") for seed in range(seeds)]
    for method in qlora.METHODS:
        for rate in GRIDS[method]:
            runs = [measure(method, rate, seed, rows, tokenizer, epochs) for seed, rows in enumerate(drawn)]
            mean = mean_t([run[f"accuracy_{method}"] for run in runs])
            click.echo(f"{qlora.TITLES[method]:16}{rate:8.1e}  mean {mean.value:.4f}")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seeds", default=3, type=click.IntRange(1, 100), show_default=True, help="How many: 0, 1, 2, ...")
@click.option("--labels", default=qlora.LABELS, type=click.IntRange(2), show_default=True)
@click.option("--epochs", default=qlora.EPOCHS, type=click.IntRange(1), show_default=True)
@click.option("--tune", "tuning", is_flag=True, help="Try learning rates on validation rows; write nothing.")
@click.option("--into", default=FOLDER, type=click.Path(path_type=Path), help="The folder for qlora.json.")
def main(seeds: int, labels: int, epochs: int, tuning: bool, into: Path) -> None:
    """Train the three methods once per seed and write data/reference/qlora.json."""
    try:
        start(track="pocket", budget="standard", seed=0)
        qlora.drop_two_notices()
        reviews, tokenizer = catalog.dataset("reviews", "pocket"), catalog.tokenizer("encoder", "pocket")
        if tuning:
            return tune(reviews, tokenizer, seeds, labels, epochs)
        measured = []
        for seed in range(seeds):
            rows = rows_of(reviews, tokenizer, seed, labels, "test")
            runs = [measure(name, qlora.RATES[name], seed, rows, tokenizer, epochs) for name in qlora.METHODS]
            measured.append({name: value for run in runs for name, value in run.items()})
        settings = {"labels": labels, "epochs": epochs, "rank": qlora.RANK, "rates": qlora.RATES}
        path = save_reference(
            "qlora", "make reference REFERENCES=qlora", settings | {"test_rows": len(reviews["test"])}, measured, into
        )
        click.echo(f"written: {path.name}")
    except UserError as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
