"""The grids behind `helpers.recipes`: learning rates for a published encoder on real sentences, in recipes.json.

make reference REFERENCES=recipes                       every grid; writes data/reference/recipes.json
make reference REFERENCES=recipes ARGS="--only full"    one method; prints, writes nothing

Every piece (a method, a rate, a seed) draws its own 2,000 training rows of the real track's `reviews` and is judged on
the validation rows; no test row is read. One seed tries the whole grid, then three seeds try the best rate and its
neighbours. Each finished piece is kept in `runs/reference`; interrupted, the command goes on there.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import click
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from helpers import catalog
from helpers.batches import TokenizedReviews, grouped_batches, length_batches, pad, sample_rows, tokenize
from helpers.cost import Stopwatch
from helpers.evaluation import correct_and_loss
from helpers.files import write_json
from helpers.lessons.lesson_08.experiment import prepare
from helpers.models import MeanPoolClassifier, blocks, freeze_all_but
from helpers.paths import ROOT
from helpers.reference import FOLDER, kept, machine, today
from helpers.runtime import UserError, seed_everything, start
from helpers.training import (
    BATCH_SIZE,
    HEAD_BATCH_SIZE,
    HEAD_EPOCHS,
    History,
    fit_adamw,
    train_on_features,
    train_on_text,
)

LABELS, EPOCHS, RANK, ALPHA = 2000, 2, 8, 16
GRIDS = {
    "head_only": (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1),
    "last_block": (1.25e-4, 2.5e-4, 5e-4, 1e-3, 2e-3),
    "full": (5e-5, 1e-4, 2e-4, 4e-4),
    "lora": (5e-4, 1e-3, 2e-3, 4e-3),
    "scratch": (2.5e-4, 5e-4, 1e-3, 2e-3),
}
SEEDS = 3


@cache
def data(seed: int) -> tuple[TokenizedReviews, TokenizedReviews]:
    """The training rows of this seed and the validation rows."""
    tokenizer, found = catalog.tokenizer("encoder", "real"), catalog.dataset("reviews", "real")
    parts = (sample_rows(found["train"], LABELS, seed), found["validation"])
    train, validation = (TokenizedReviews.from_dataset(tokenize(part, tokenizer)) for part in parts)
    return train, validation


def validation_rows() -> int:
    """How many rows every training is judged on."""
    return len(data(0)[1])


@cache
def collator():
    """Pads a list of tokenized rows."""
    return pad(catalog.tokenizer("encoder", "real"))


class Given(nn.Module):
    """Takes the place of the embeddings: the states that the frozen blocks computed pass through."""

    def forward(self, input_ids: Tensor, **_: object) -> Tensor:
        """input_ids: the states, (batch, seq, hidden), returned as they are."""
        return input_ids


class LastBlock(nn.Module):
    """The last block and the head of a classifier, on states that the frozen blocks below computed once."""

    def __init__(self, classifier: MeanPoolClassifier) -> None:
        super().__init__()
        self.classifier = classifier
        body = classifier.body
        body.embeddings, body.encoder.layer = Given(), body.encoder.layer[-1:]

    def forward(self, states: Tensor, attention_mask: Tensor, labels: Tensor):
        """states: (batch, seq, hidden) before the last block. Returns the classifier's output."""
        return self.classifier(states, attention_mask, labels)


@torch.no_grad()
def states_before_last(classifier: MeanPoolClassifier, rows: TokenizedReviews) -> list[Tensor]:
    """What the last block reads of each row: (seq, hidden), without dropout."""
    caught: list[Tensor] = []
    hook = blocks(classifier.body)[-1].register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    classifier.eval()
    batches, states = length_batches(rows, collator(), 64, shuffle=False), {}
    for batch in batches:
        classifier.features(batch["input_ids"], batch["attention_mask"])
        for state, mask in zip(caught.pop(), batch["attention_mask"], strict=True):
            states[len(states)] = state[: int(mask.sum())].clone()
    hook.remove()
    order = batches.batch_sampler.order
    return [state for _, state in sorted(zip(order, states.values(), strict=True), key=lambda pair: pair[0])]


@cache
def cached_states(seed: int) -> list[Tensor]:
    """`states_before_last` of this seed's training rows: they are the same for every rate."""
    return states_before_last(catalog.classifier("real"), data(seed)[0])


def pad_states(rows: Sequence[tuple[Tensor, int]]) -> dict[str, Tensor]:
    """States of different lengths as one rectangle."""
    states = [state for state, _ in rows]
    ones = [torch.ones(len(state), dtype=torch.long) for state in states]
    return {
        "states": pad_sequence(states, batch_first=True),
        "attention_mask": pad_sequence(ones, batch_first=True),
        "labels": torch.tensor([label for _, label in rows]),
    }


def fit_last_block(classifier: MeanPoolClassifier, rate: float, seed: int) -> History:
    """Train the last block and the head in place."""
    rows, states = data(seed)[0], cached_states(seed)
    whole, embeddings = classifier.body.encoder.layer, classifier.body.embeddings
    pairs = list(zip(states, rows.labels, strict=True))
    batches = grouped_batches(pairs, rows.lengths, pad_states, BATCH_SIZE, shuffle=True, seed=seed)
    history = fit_adamw(LastBlock(classifier), batches, rate, epochs=EPOCHS, progress="last block")
    classifier.body.encoder.layer, classifier.body.embeddings = whole, embeddings
    return history


def trained(method: str, rate: float, seed: int) -> dict[str, float]:
    """One training; accuracy and loss on the validation rows, seconds and last losses of the training."""
    rows, validation = data(seed)
    seed_everything(seed)
    classifier = catalog.classifier("real", pretrained=method != "scratch")
    options = {"epochs": EPOCHS, "seed": seed, "progress": f"{method} {rate:g} seed {seed}"}
    with Stopwatch() as watch:
        if method == "head_only":
            freeze_all_but(classifier, 0)
            history = train_on_features(classifier, rows, collator(), rate, **options)
        elif method == "last_block":
            history = fit_last_block(freeze_all_but(classifier, 1), rate, seed)
        else:
            prepare(classifier, "lora" if method == "lora" else "full", rank=RANK, alpha=ALPHA)
            history = train_on_text(classifier, rows, collator(), rate, **options)
    correct, loss = correct_and_loss(classifier, validation, collator())
    found = {"accuracy": correct.mean().item(), "loss": loss, "seconds": watch.seconds}
    return {**found, "training_loss": history.mean_loss()}


def piece(parts: Path, method: str, rate: float, seed: int) -> dict[str, float]:
    """`trained`, or what it gave in an earlier try."""
    settings = {"method": method, "rate": rate, "seed": seed, "labels": LABELS, "epochs": EPOCHS, "batch": BATCH_SIZE}
    if method == "lora":
        settings |= {"rank": RANK, "alpha": ALPHA}
    found = kept(parts / "recipes", f"{method}-{rate:g}-{seed}", settings, lambda: trained(method, rate, seed))
    said = ", ".join(f"{name} {value:.4f}" for name, value in found.items())
    click.echo(f"{method:12}{rate:9.2e}  seed {seed}  {said}")
    return found


def search(parts: Path, method: str) -> dict[str, dict[str, list[float]]]:
    """Rate -> metric -> one value per seed: one seed for the whole grid, then SEEDS for the best and its neighbours.

    Raises:
        UserError: when the best rate is at an edge of the grid.
    """
    grid = GRIDS[method]
    runs = {rate: [piece(parts, method, rate, 0)] for rate in grid}
    while True:
        best = max(grid, key=lambda rate: mean(runs[rate]))
        place = grid.index(best)
        if place in (0, len(grid) - 1):
            raise UserError(f"{method}: the best rate, {best:g}, is at the edge of its grid; widen it.")
        short = [rate for rate in grid[place - 1 : place + 2] if len(runs[rate]) < SEEDS]
        if not short:
            break
        for rate in short:
            runs[rate] += [piece(parts, method, rate, seed) for seed in range(len(runs[rate]), SEEDS)]
    return {f"{rate:g}": {name: [run[name] for run in runs[rate]] for name in runs[rate][0]} for rate in grid}


def mean(runs: Sequence[dict[str, float]]) -> float:
    """The mean accuracy of the runs."""
    return sum(run["accuracy"] for run in runs) / len(runs)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--only", multiple=True, type=click.Choice(list(GRIDS)), help="Search these methods only; writes nothing."
)
@click.option("--into", default=FOLDER, type=click.Path(path_type=Path), help="The folder for recipes.json.")
@click.option("--parts", default=ROOT / "runs" / "reference", type=click.Path(path_type=Path), help="Finished pieces.")
def main(only: tuple[str, ...], into: Path, parts: Path) -> None:
    """Try learning rates on validation rows and write data/reference/recipes.json."""
    try:
        start(track="real", budget="standard", seed=0)
        found = {method: search(parts, method) for method in only or GRIDS}
    except UserError as error:
        raise click.ClickException(str(error)) from None
    if only:
        return
    settings = {"model": "all-MiniLM-L6-v2", "data": "reviews of the real track", "labels": LABELS, "epochs": EPOCHS}
    settings |= {
        "batch_size": BATCH_SIZE,
        "head_epochs": HEAD_EPOCHS,
        "head_batch_size": HEAD_BATCH_SIZE,
        "rank": RANK,
        "alpha": ALPHA,
    }
    settings |= {"validation_rows": validation_rows()}
    about = {"command": "make reference REFERENCES=recipes", "date": today(), "machine": machine(), "threads": 1}
    path = write_json(into / "recipes.json", {**about, "settings": settings, "grids": found})
    click.echo(f"written: {path.name}")


if __name__ == "__main__":
    main()
