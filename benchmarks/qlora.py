"""Lesson 11's learning rates, and what it shows on real text over several seeds.

python -m benchmarks.qlora real      lesson_11_real.json: needs the real track's files (`workbook real`)
python -m benchmarks.qlora tune      the grid of learning rates, on validation rows only; writes nothing

The lesson's five seeds on the invented world are `make reference`. Each seed draws its own training rows, heads and
adapters. A piece that is finished is kept, so a second call goes on where the first one ended.
"""

from __future__ import annotations

from pathlib import Path

import click
import torch

from helpers import catalog, qlora
from helpers.batches import TokenizedReviews, pad, sample_rows, tokenize
from helpers.evaluation import accuracy, predict_rows
from helpers.intervals import mean_t
from helpers.lessons.lesson_11 import experiment
from helpers.paths import ROOT
from helpers.reference import FOLDER, kept, save_reference
from helpers.runtime import UserError, seed_everything, start

GRIDS = {"full": (5e-4, 1e-3, 2e-3), "lora": (1e-3, 2e-3, 3e-3, 5e-3), "qlora": (1e-3, 2e-3, 3e-3, 5e-3)}
REAL = {"labels": experiment.REAL_LABELS, "test_rows": experiment.REAL_TEST_ROWS, "tokens": experiment.REAL_TOKENS}


def validated(method: str, rate: float, seed: int, reviews, tokenizer) -> float:
    """The accuracy on validation rows after one training with the lesson's recipe."""
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


def ledgers() -> dict[str, float]:
    """What a training step of SmolLM2 takes, counted: nothing is drawn, so one step tells."""
    found = {method: experiment.smollm2_ledger(method) for method in ("lora", "qlora")}
    return {
        f"{part}_bytes_{method}": float(getattr(ledger, part))
        for method, ledger in found.items()
        for part in (*ledger.PARTS, "peak")
    }


def on_real_text(parts: Path, seeds: int) -> list[dict[str, float]]:
    """The accuracies of each seed, and the bytes, which are the same for all."""
    counted = kept(parts / "qlora", "ledgers", REAL, ledgers)
    measured = []
    for seed in range(seeds):
        settings = REAL | {"seed": seed}
        found = kept(parts / "qlora", f"{seed}", settings, lambda seed=seed: experiment.accuracies_on_real_text(seed))
        click.echo(f"seed {seed}  " + "  ".join(f"{name} {value:.4f}" for name, value in found.items()))
        measured.append({**found, **counted})
    return measured


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("what", type=click.Choice(["real", "tune"]))
@click.option("--seeds", default=3, type=click.IntRange(1, 100), show_default=True, help="How many: 0, 1, 2, ...")
@click.option("--into", default=FOLDER, type=click.Path(path_type=Path), help="The folder for the result.")
@click.option("--parts", default=ROOT / "runs" / "reference", type=click.Path(path_type=Path), help="Finished pieces.")
def main(what: str, seeds: int, into: Path, parts: Path) -> None:
    """Try lesson 11's learning rates, or write what it measures on real text."""
    try:
        start(track="real" if what == "real" else "pocket", budget="standard", seed=0)
        qlora.drop_two_notices()
        if what == "tune":
            return tune(seeds)
        command = "python -m benchmarks.qlora real"
        path = save_reference("lesson_11_real", command, REAL, on_real_text(parts, seeds), into)
        click.echo(f"written: {path.name}")
    except UserError as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
