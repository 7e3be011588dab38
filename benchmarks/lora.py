"""The reference of lesson 08: topics, then reviews, by the head, by LoRA of several ranks and by all parameters.

python -m benchmarks.lora                three seeds on the test rows, written to data/reference/lora.json
python -m benchmarks.lora --tune         the grid of learning rates, on validation rows only; prints, writes nothing

The recipe is `helpers.adaptation`'s, the one that the lesson runs. Each seed draws its own rows and random starts.
Every piece (a seed and a method) is kept in `runs/reference` when it is done; interrupted, the command goes on there.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import click
import torch

from helpers import adaptation, catalog
from helpers.batches import TokenizedReviews, pad, sample_rows, tokenize
from helpers.catalog import ROOT
from helpers.low_rank import linear_changes, linear_weights, truncate, with_changes
from helpers.models import MeanPoolClassifier
from helpers.record import write_json
from helpers.reference import FOLDER, save_reference
from helpers.runtime import UserError, start

GRIDS = {"head_only": (1e-2, 3e-2, 1e-1), "lora": (1e-3, 2e-3, 5e-3, 1e-2), "full": (2.5e-4, 5e-4, 1e-3, 2e-3)}
PIECES = ("full", "head_only", "lora", *(f"lora_rank_{rank}" for rank in adaptation.TRAINED_RANKS))
LOOKS = 250  # validation rows of each task, looked at eight times on the way


@dataclass
class Bench:
    """One seed's rows, its learner, and the model that knows topics."""

    seed: int
    labels: int
    epochs: int
    rows: dict[str, dict[str, TokenizedReviews]] = field(init=False)

    def __post_init__(self) -> None:
        tokenizer = catalog.tokenizer("encoder", "pocket")
        counts = {"topics": adaptation.FIRST_LABELS, "reviews": self.labels}
        self.rows = {name: _rows(name, count, self.seed, tokenizer) for name, count in counts.items()}
        self.learner = adaptation.Learner(pad(tokenizer), adaptation.FIRST_EPOCHS, self.seed)
        torch.manual_seed(self.seed)
        self.start = catalog.classifier("pocket", num_labels=4)
        self.learner.fit(self.start, self.rows["topics"]["train"], adaptation.FIRST_RATE, progress="topics")
        self.topics_head = adaptation.new_head(self.start, 2, self.seed)
        self.learner.epochs = self.epochs

    def trained(self, method: str, rate: float, rank: int = adaptation.RANK, look: Callable | None = None):
        """The model, and its history; `look` is called with the model on the way."""
        model = adaptation.prepare(copy.deepcopy(self.start), method, rank=rank)
        if method == "head_only":
            return model, self.learner.fit_head(model, self.rows["reviews"]["train"], rate)
        watching = {"look": lambda: look(model), "times": 8} if look else {}
        return model, self.learner.fit(model, self.rows["reviews"]["train"], rate, progress=method, **watching)

    def both(self, model: MeanPoolClassifier) -> tuple[float, float]:
        """Accuracy on reviews and on topics, a few validation rows each."""
        some = {name: self.rows[name]["validation"].select(range(min(LOOKS, len(self.rows[name]["validation"]))))
                for name in self.rows}  # fmt: skip
        return (self.learner.accuracy(model, some["reviews"]),
                self.learner.accuracy(model, some["topics"], self.topics_head))  # fmt: skip


def _rows(role: str, count: int, seed: int, tokenizer) -> dict[str, TokenizedReviews]:
    found = catalog.dataset(role, "pocket")
    parts = {"train": sample_rows(found["train"], count, seed), "validation": found["validation"]}
    parts["test"] = found["test"]
    return {split: TokenizedReviews.from_dataset(tokenize(part, tokenizer)) for split, part in parts.items()}


def measure(bench: Bench, piece: str) -> dict[str, object]:
    """The metrics of one piece, on the test rows; the path of forgetting on validation rows."""
    method, _, ending = piece.partition("_rank_")
    rank, path = int(ending or adaptation.RANK), []
    watched = piece in ("full", "lora")
    look = (lambda model: path.append(bench.both(model))) if watched else None
    model, history = bench.trained(method, adaptation.RATES[method], rank, look)
    test = {name: bench.rows[name]["test"] for name in bench.rows}
    values: dict[str, object] = bench.learner.outcome(piece, model, test["reviews"], history).metrics(piece)
    values[f"accuracy_topics_{piece}"] = bench.learner.accuracy(model, test["topics"], bench.topics_head)
    if watched:
        values[f"path_{piece}"] = path
    if piece == "full":
        values["accuracy_topics_before"] = bench.learner.accuracy(bench.start, test["topics"], bench.topics_head)
        values |= truncated(bench, model)
    return values


def truncated(bench: Bench, model: MeanPoolClassifier) -> dict[str, float]:
    """Accuracy on the validation reviews with every matrix's change cut to a rank."""
    before = linear_weights(bench.start.body)
    changes = linear_changes(before, model.body)
    judged, values = bench.rows["reviews"]["validation"], {}
    for rank in (0, *adaptation.RANKS):
        cut = copy.deepcopy(model)
        with_changes(cut.body, before, {path: truncate(change, rank) for path, change in changes.items()})
        values[f"accuracy_truncated_rank_{rank}"] = bench.learner.accuracy(cut, judged)
    return values | {"accuracy_truncated_whole": bench.learner.accuracy(model, judged)}


def matched(values: dict[str, object]) -> dict[str, float]:
    """What LoRA and full fine-tuning still knew of the topics when they first were equally good at reviews."""
    paths = {name: [tuple(pair) for pair in values.pop(f"path_{name}")] for name in ("full", "lora")}
    level = min(max(new for new, _ in path) for path in paths.values())
    found = {f"accuracy_topics_{name}_matched": adaptation.at_matched_accuracy(path, level)
             for name, path in paths.items()}  # fmt: skip
    return values | found | {"accuracy_matched": level}


def measure_all(seeds: int, labels: int, epochs: int, parts: Path) -> list[dict[str, float]]:
    """Every piece of every seed; those already in `parts` are read."""
    found = []
    for seed in range(seeds):
        bench, values = None, {}
        for piece in PIECES:
            path = parts / f"lora-{labels}-{epochs}-{seed}-{piece}.json"
            if not path.is_file():
                bench = bench or Bench(seed, labels, epochs)
                write_json(path, measure(bench, piece))
            values |= json.loads(path.read_text(encoding="utf-8"))
            click.echo(f"seed {seed}  {piece:16}{values[f'accuracy_{piece}']:.3f}  {values[f'seconds_{piece}']:6.1f} s")
        found.append(matched(values))
    return found


def tune(seeds: int, labels: int, epochs: int) -> None:
    """Print the mean validation accuracy of every learning rate for every method."""
    benches = [Bench(seed, labels, epochs) for seed in range(seeds)]
    for method, grid in GRIDS.items():
        for rate in grid:
            scores = [bench.learner.accuracy(bench.trained(method, rate)[0], bench.rows["reviews"]["validation"])
                      for bench in benches]  # fmt: skip
            click.echo(f"{method:12}{rate:8.1e}  {sum(scores) / len(scores):.3f}")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seeds", default=3, type=click.IntRange(1, 100), show_default=True, help="How many: 0, 1, 2, ...")
@click.option("--labels", default=adaptation.LABELS, type=click.IntRange(2), show_default=True)
@click.option("--epochs", default=adaptation.EPOCHS, type=click.IntRange(1), show_default=True)
@click.option("--tune", "tuning", is_flag=True, help="Try learning rates on validation rows; write nothing.")
@click.option("--into", default=FOLDER, type=click.Path(path_type=Path), help="The folder for lora.json.")
@click.option("--parts", default=ROOT / "runs" / "reference", type=click.Path(path_type=Path), help="Finished pieces.")
def main(seeds: int, labels: int, epochs: int, tuning: bool, into: Path, parts: Path) -> None:
    """Adapt once per seed and method and write data/reference/lora.json."""
    try:
        start(track="pocket", budget="standard", seed=0)
        if tuning:
            return tune(seeds, labels, epochs)
        measured = measure_all(seeds, labels, epochs, parts)
        settings = {"labels": labels, "epochs": epochs, "rank": adaptation.RANK, "alpha": adaptation.ALPHA}
        path = save_reference("lora", 'make reference REFERENCES="lora"', settings, measured, into)
        click.echo(f"written: {path.name}")
    except UserError as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
