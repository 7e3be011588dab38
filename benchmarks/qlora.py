"""Search lesson 11's learning rates on a grid, with validation rows only.

python -m benchmarks.qlora      prints every rate's accuracy; writes nothing

`make reference` measures the lesson itself over several seeds, on the micro-world and on real text.
"""

from __future__ import annotations

import click
import torch

from helpers import catalog, qlora
from helpers.batches import TokenizedReviews, pad, sample_rows, tokenize
from helpers.evaluation import accuracy, predict_rows
from helpers.intervals import mean_t
from helpers.runtime import UserError, seed_everything, start

GRIDS = {"full": (5e-4, 1e-3, 2e-3), "lora": (1e-3, 2e-3, 3e-3, 5e-3), "qlora": (1e-3, 2e-3, 3e-3, 5e-3)}


def validated(method: str, rate: float, seed: int, reviews, tokenizer) -> float:
    """Train once with the lesson's recipe at this rate, and return the accuracy on the validation rows."""
    splits = {"train": sample_rows(reviews["train"], qlora.LABELS, seed), "validation": reviews["validation"]}
    rows = {name: TokenizedReviews.from_dataset(tokenize(part, tokenizer)) for name, part in splits.items()}
    seed_everything(seed)
    classifier = qlora.classifier(method, "pocket", device="cuda" if torch.cuda.is_available() else "cpu")
    collate = pad(tokenizer)
    seconds = qlora.fit(classifier, rows["train"], collate, learning_rate=rate, epochs=qlora.EPOCHS, seed=seed)
    found = accuracy(*predict_rows(classifier, rows["validation"], collate))
    click.echo(f"seed {seed}  {qlora.TITLES[method]:16}{rate:8.1e}  {found:.4f}  {seconds:6.1f} s")
    return found


def tune(seeds: int) -> None:
    """Print the mean validation accuracy of every learning rate for every method, over the seeds."""
    reviews, tokenizer = catalog.dataset("reviews", "pocket"), catalog.tokenizer("encoder", "pocket")
    for method in qlora.METHODS:
        for rate in GRIDS[method]:
            mean = mean_t([validated(method, rate, seed, reviews, tokenizer) for seed in range(seeds)])
            click.echo(f"{qlora.TITLES[method]:16}{rate:8.1e}  mean {mean.value:.4f}")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--seeds",
    default=3,
    type=click.IntRange(1, 100),
    show_default=True,
    help="Number of seeds; 3 means seeds 0, 1 and 2.",
)
def main(seeds: int) -> None:
    """Try lesson 11's learning rates on validation rows; write nothing."""
    try:
        start(track="pocket", budget="standard", seed=0)
        qlora.drop_two_notices()
        tune(seeds)
    except UserError as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
