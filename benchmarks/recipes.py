"""Search the learning rates of `helpers.recipes` for a published encoder on real sentences; write recipes.json.

make reference REFERENCES=recipes                       every grid; writes data/reference/recipes.json
make reference REFERENCES=recipes ARGS="--only full"    one method's grid; the file keeps the other grids

Each piece (a method, a rate, a seed) trains on rows of the real track's `reviews` that the seed draws, and is evaluated
on the validation rows. No test row is read. One seed tries the whole grid, which grows while its best rate is at an
edge. Then three seeds try the best rate and its neighbours. Each finished piece is saved in `runs/reference`. After an
interruption, the same command continues from there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import click
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

from helpers import catalog
from helpers.batches import (
    FeatureBatches,
    TokenizedReviews,
    grouped_batches,
    length_batches,
    pad,
    sample_rows,
    tokenize,
)
from helpers.evaluation import accuracy, predict, predict_rows
from helpers.files import write_json
from helpers.lessons.lesson_08.experiment import prepare
from helpers.models import HeadClassifier, MeanPoolClassifier, blocks, cache_features, freeze_all_but
from helpers.paths import ROOT
from helpers.reference import FOLDER, kept, machine, today
from helpers.runtime import UserError, seed_everything, start
from helpers.training import (
    BATCH_SIZE,
    HEAD_BATCH_SIZE,
    HEAD_EPOCHS,
    History,
    fit_adamw,
    train_on_text,
)

LABELS, EPOCHS, RANK, ALPHA = 1000, 2, 8, 16
GRIDS = {  # where the search starts; it adds rates by factors of two while the best rate is at an edge
    "head_only": (1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
    "last_block": (2.5e-4, 5e-4, 1e-3, 2e-3),
    "full": (1e-4, 2e-4, 4e-4),
    "lora": (1e-3, 2e-3, 4e-3),
    "scratch": (5e-4, 1e-3, 2e-3),
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
    """Return the number of validation rows that evaluate each training."""
    return len(data(0)[1])


@cache
def collator():
    """Return the collator, which pads a list of tokenized rows."""
    return pad(catalog.tokenizer("encoder", "real"))


class Given(nn.Module):
    """Replaces the embeddings: it passes on the states that the frozen blocks have computed."""

    def forward(self, input_ids: Tensor, **_: object) -> Tensor:
        """input_ids: the states, (batch, seq, hidden), returned as they are."""
        return input_ids


class LastBlock(nn.Module):
    """The last block and the head of a classifier, applied to cached states of the frozen blocks below."""

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
    """Return the input of the last block for each row, (seq, hidden), without dropout."""
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
def frozen(seed: int | None, states: bool) -> list[Tensor]:
    """Return the pretrained body's output for each training row of a seed, or (seed None) for each validation row.

    states: whether to return the states (seq, hidden) before the last block, or else the features (hidden,) that the
    head reads. Both are cached, because they are the same for every rate.
    """
    rows, classifier = data(0)[1] if seed is None else data(seed)[0], catalog.classifier("real")
    if states:
        return states_before_last(classifier, rows)
    batches = length_batches(rows, collator(), 64, shuffle=False)
    features, _ = cache_features(classifier, batches)
    order = batches.batch_sampler.order
    return [row for _, row in sorted(zip(order, features, strict=True), key=lambda pair: pair[0])]


def pad_states(rows: Sequence[tuple[Tensor, int]]) -> dict[str, Tensor]:
    """Pad states of different lengths into one batch."""
    states = [state for state, _ in rows]
    ones = [torch.ones(len(state), dtype=torch.long) for state in states]
    return {
        "states": pad_sequence(states, batch_first=True),
        "attention_mask": pad_sequence(ones, batch_first=True),
        "labels": torch.tensor([label for _, label in rows]),
    }


def state_batches(rows: TokenizedReviews, states: Sequence[Tensor], *, shuffle: bool, seed: int = 0) -> DataLoader:
    """Return batches of cached states, in the order in which `length_batches` returns the rows."""
    pairs = list(zip(states, rows.labels, strict=True))
    return grouped_batches(pairs, rows.lengths, pad_states, BATCH_SIZE, shuffle=shuffle, seed=seed)


def fitted(method: str, rate: float, seed: int) -> tuple[History, Tensor, Tensor]:
    """Train once; return the history, and the logits (rows, 2) and labels (rows,) of the validation rows."""
    rows, validation = data(seed)
    seed_everything(seed)
    classifier = catalog.classifier("real", pretrained=method != "scratch")
    options = {"epochs": EPOCHS, "progress": f"{method} {rate:g} seed {seed}"}
    if method == "head_only":
        features, head = torch.stack(frozen(seed, states=False)), HeadClassifier(classifier.head)
        batches = FeatureBatches(features, torch.tensor(rows.labels), HEAD_BATCH_SIZE, seed=seed)
        history = fit_adamw(head, batches, rate, epochs=HEAD_EPOCHS)
        with torch.no_grad():
            return history, head(torch.stack(frozen(None, states=False))).logits, torch.tensor(validation.labels)
    if method == "last_block":
        last = LastBlock(freeze_all_but(classifier, 1))
        history = fit_adamw(
            last, state_batches(rows, frozen(seed, states=True), shuffle=True, seed=seed), rate, **options
        )
        return history, *predict(last, state_batches(validation, frozen(None, states=True), shuffle=False))
    prepare(classifier, "lora" if method == "lora" else "full", rank=RANK, alpha=ALPHA)
    history = train_on_text(classifier, rows, collator(), rate, seed=seed, **options)
    return history, *predict_rows(classifier, validation, collator())


def trained(method: str, rate: float, seed: int) -> dict[str, float]:
    """Train once. Return accuracy and loss on the validation rows, the CPU seconds, and the mean of the last losses."""
    began = time.process_time()
    history, logits, labels = fitted(method, rate, seed)
    seconds = time.process_time() - began
    loss = nn.functional.cross_entropy(logits, labels).item()
    return {
        "accuracy": accuracy(logits, labels),
        "loss": loss,
        "seconds": seconds,
        "training_loss": history.mean_loss(),
    }


def piece(parts: Path, method: str, rate: float, seed: int) -> dict[str, float]:
    """Return the result of `trained`, read from `parts` if it was saved there."""
    settings = {"method": method, "rate": rate, "seed": seed, "labels": LABELS, "epochs": EPOCHS, "batch": BATCH_SIZE}
    if method == "lora":
        settings |= {"rank": RANK, "alpha": ALPHA}
    found = kept(parts / "recipes", f"{method}-{rate:g}-{seed}", settings, lambda: trained(method, rate, seed))
    said = ", ".join(f"{name} {value:.4f}" for name, value in found.items())
    click.echo(f"{method:12}{rate:9.2e}  seed {seed}  {said}")
    return found


def search(parts: Path, method: str) -> dict[str, dict[str, list[float]]]:
    """Search one method's rates; return rate -> metric -> values. The best rate and its neighbours get SEEDS seeds."""
    runs = {rate: [piece(parts, method, rate, 0)] for rate in GRIDS[method]}
    while True:
        grid = sorted(runs)
        best = max(grid, key=lambda rate: mean(runs[rate]))
        place = grid.index(best)
        if best in (grid[0], grid[-1]):
            beyond = best / 2 if place == 0 else best * 2
            runs[beyond] = [piece(parts, method, beyond, 0)]
            continue
        short = [rate for rate in grid[place - 1 : place + 2] if len(runs[rate]) < SEEDS]
        if not short:
            return {f"{rate:g}": {name: [run[name] for run in runs[rate]] for name in runs[rate][0]} for rate in grid}
        for rate in short:
            runs[rate] += [piece(parts, method, rate, seed) for seed in range(len(runs[rate]), SEEDS)]


def mean(runs: Sequence[dict[str, float]]) -> float:
    """The mean accuracy of the runs."""
    return sum(run["accuracy"] for run in runs) / len(runs)


def write(into: Path, found: dict[str, dict]) -> Path:
    """Put these grids into recipes.json. Grids of other methods stay if they were searched with the same settings."""
    settings = {"model": "all-MiniLM-L6-v2", "data": "reviews of the real track", "labels": LABELS, "epochs": EPOCHS}
    settings |= {"batch_size": BATCH_SIZE, "head_epochs": HEAD_EPOCHS, "head_batch_size": HEAD_BATCH_SIZE}
    settings |= {"rank": RANK, "alpha": ALPHA, "validation_rows": validation_rows()}
    path = into / "recipes.json"
    old = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    grids = {**(old["grids"] if old.get("settings") == settings else {}), **found}
    about = {"command": "make reference REFERENCES=recipes", "date": today(), "machine": machine(), "threads": 1}
    ordered = {method: grids[method] for method in GRIDS if method in grids}
    return write_json(path, {**about, "settings": settings, "grids": ordered})


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--only", multiple=True, type=click.Choice(list(GRIDS)), help="Search these methods only; repeatable.")
@click.option("--into", default=FOLDER, type=click.Path(path_type=Path), help="The folder for recipes.json.")
@click.option(
    "--parts", default=ROOT / "runs" / "reference", type=click.Path(path_type=Path), help="Folder of finished pieces."
)
def main(only: tuple[str, ...], into: Path, parts: Path) -> None:
    """Search learning rates on validation rows; write data/reference/recipes.json again after each method."""
    try:
        start(track="real", budget="standard", seed=0)
        for method in only or GRIDS:
            path = write(into, {method: search(parts, method)})
            click.echo(f"{method}: written to {path.name}")
    except UserError as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
