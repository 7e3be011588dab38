"""Measure the reference of lesson 08: topics, then reviews, by the head only, LoRA of several ranks, or all weights.

python -m benchmarks.lora                three seeds on the test rows, written to data/reference/lora.json
python -m benchmarks.lora --tune         one grid of rates and epochs, on validation rows; writes no reference

The recipe is the lesson's own, in `helpers.lessons.lesson_08.experiment`.
Each seed draws its own rows and random starts.
Each finished training is saved in `runs/reference` under its settings. After an interruption, the same command
continues from there.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path

import click
import torch

from helpers import catalog
from helpers.batches import TokenizedReviews, pad, sample_rows, tokenize
from helpers.lessons.lesson_08 import experiment
from helpers.lessons.lesson_08.experiment import linear_changes, linear_weights, truncate, with_changes
from helpers.models import MeanPoolClassifier
from helpers.paths import ROOT
from helpers.reference import FOLDER, kept, save_reference
from helpers.runtime import UserError, seed_everything, start

RATES = (5e-4, 1e-3, 2e-3)  # at 4e-3 LoRA falls to chance
HEAD_RATES = (1e-2, 3e-2, 1e-1)  # higher, because the head has far fewer parameters and its features are cached
EPOCHS = (3, 6)
PIECES = ("full", "head_only", "lora", "blocks", "full_longer")  # full_longer trains all parameters for LoRA's epochs
LOOKS = 250  # validation rows of each task, evaluated eight times during training


@dataclass(frozen=True)
class Trial:
    """The settings of one training, besides the seed and the constants of `helpers.lessons.lesson_08.experiment`."""

    method: str
    learning_rate: float
    epochs: int
    labels: int
    rank: int = experiment.RANK

    def settings(self, seed: int) -> dict[str, object]:
        """Return everything that the figures depend on."""
        first = (experiment.FIRST_LABELS, experiment.FIRST_EPOCHS, experiment.FIRST_RATE)
        fixed = {"alpha": experiment.ALPHA, "batch_size": experiment.BATCH_SIZE, "looks": LOOKS, "first": first}
        return {"seed": seed, **asdict(self), **fixed, "cut": experiment.RANKS}


def chosen(piece: str, labels: int, epochs: int | None) -> Trial:
    """Return the trial for a name such as "full" or "lora_rank_4". With epochs=None, it has the method's own."""
    method, _, ending = piece.removesuffix("_longer").partition("_rank_")
    like = "full" if method == "blocks" else method  # only the trained part differs
    passes = epochs or experiment.EPOCHS["lora" if piece.endswith("_longer") else like]
    return Trial(method, experiment.RATES[like], passes, labels, int(ending or experiment.RANK))


@dataclass
class Bench:
    """One seed's rows, and its model that knows topics (trained at its first use)."""

    seed: int
    labels: int

    def __post_init__(self) -> None:
        tokenizer = catalog.tokenizer("encoder", "pocket")
        counts = {"topics": experiment.FIRST_LABELS, "reviews": self.labels}
        self.rows = {name: _rows(name, count, self.seed, tokenizer) for name, count in counts.items()}
        self.learner = experiment.Learner(pad(tokenizer), experiment.FIRST_EPOCHS, self.seed)

    @cached_property
    def start(self) -> tuple[MeanPoolClassifier, torch.nn.Module]:
        """Return the model that knows topics, with a new head for reviews, and its topics head."""
        torch.manual_seed(self.seed)
        model = catalog.classifier("pocket", num_labels=4)
        self.learner.epochs = experiment.FIRST_EPOCHS
        self.learner.fit(model, self.rows["topics"]["train"], experiment.FIRST_RATE, progress="topics")
        return model, experiment.new_head(model, 2, self.seed)

    def trained(self, trial: Trial, look: Callable | None = None):
        """Train on the reviews. Return the model and its history. `look` gets the model eight times during training."""
        before, rows = copy.deepcopy(self.start[0]), self.rows["reviews"]["train"]
        seed_everything(self.seed)  # LoRA's random start must not depend on earlier trainings
        model, self.learner.epochs = experiment.prepare(before, trial.method, rank=trial.rank), trial.epochs
        if trial.method == "head_only":
            return model, self.learner.fit_head(model, rows, trial.learning_rate)
        watching = {"look": lambda: look(model), "times": 8} if look else {}
        return model, self.learner.fit(model, rows, trial.learning_rate, progress=trial.method, **watching)

    def both(self, model: MeanPoolClassifier) -> tuple[float, float]:
        """Return the accuracy on reviews and on topics, from a few validation rows each."""
        some = {name: parts["validation"].select(range(min(LOOKS, len(parts["validation"]))))
                for name, parts in self.rows.items()}  # fmt: skip
        return (self.learner.accuracy(model, some["reviews"]),
                self.learner.accuracy(model, some["topics"], self.start[1]))  # fmt: skip


def _rows(role: str, count: int, seed: int, tokenizer) -> dict[str, TokenizedReviews]:
    found = catalog.dataset(role, "pocket")
    splits = {**found, "train": sample_rows(found["train"], count, seed)}
    return {split: TokenizedReviews.from_dataset(tokenize(part, tokenizer)) for split, part in splits.items()}


def measure(bench: Bench, piece: str, trial: Trial) -> dict[str, object]:
    """Return one piece's metrics on test rows and, for "full" and "lora", the path of forgetting on validation rows."""
    path, watched = [], piece in ("full", "lora")
    model, history = bench.trained(trial, (lambda model: path.append(bench.both(model))) if watched else None)
    (before, topics_head), test = bench.start, {name: bench.rows[name]["test"] for name in bench.rows}
    values: dict[str, object] = bench.learner.outcome(piece, model, test["reviews"], history).metrics(piece)
    values[f"accuracy_topics_{piece}"] = bench.learner.accuracy(model, test["topics"], topics_head)
    if watched:
        values[f"path_{piece}"] = path
    if piece == "full":
        values["accuracy_topics_before"] = bench.learner.accuracy(before, test["topics"], topics_head)
        values |= truncated(bench, model)
    return values


def truncated(bench: Bench, model: MeanPoolClassifier) -> dict[str, float]:
    """Return the accuracy on the validation reviews after truncating each weight matrix's update to a rank."""
    before, judged = linear_weights(bench.start[0].body), bench.rows["reviews"]["validation"]
    changes, values = linear_changes(before, model.body), {}
    for rank in (0, *experiment.RANKS):
        cut = copy.deepcopy(model)
        with_changes(cut.body, before, {path: truncate(change, rank) for path, change in changes.items()})
        values[f"accuracy_truncated_rank_{rank}"] = bench.learner.accuracy(cut, judged)
    return values | {"accuracy_truncated_whole": bench.learner.accuracy(model, judged)}


def matched(values: dict[str, object]) -> dict[str, float]:
    """Return the topic accuracy of LoRA and of full fine-tuning where each first reaches the same review accuracy."""
    paths = {name: [tuple(pair) for pair in values.pop(f"path_{name}")] for name in ("full", "lora")}
    level = min(max(new for new, _ in path) for path in paths.values())
    found = {f"accuracy_topics_{name}_matched": experiment.at_matched_accuracy(path, level)
             for name, path in paths.items()}  # fmt: skip
    return values | found | {"accuracy_matched": level}


def measure_all(seeds: int, labels: int, epochs: int | None, parts: Path) -> list[dict[str, float]]:
    """Measure every piece of every seed."""
    found = []
    names = (*PIECES, *(f"lora_rank_{rank}" for rank in experiment.TRAINED_RANKS))
    for bench in (Bench(seed, labels) for seed in range(seeds)):
        values: dict[str, object] = {}
        for name in names:
            trial = chosen(name, labels, epochs)
            settings = trial.settings(bench.seed) | {"judged": "test", "piece": name}
            values |= kept(parts, "lora", settings, partial(measure, bench, name, trial))
            said = f"seed {bench.seed}  {name:16}{values[f'accuracy_{name}']:.3f}"
            click.echo(f"{said}  {values[f'seconds_{name}']:6.1f} s")
        found.append(matched(values))
    return found


def tune(seeds: int, labels: int, parts: Path) -> None:
    """Print every method's mean validation accuracy over the seeds, for every rate and number of epochs."""
    benches = [Bench(seed, labels) for seed in range(seeds)]
    trials = [Trial("head_only", rate, experiment.EPOCHS["head_only"], labels) for rate in HEAD_RATES]
    trials += [Trial(name, rate, passes, labels) for passes in EPOCHS for name in ("lora", "full") for rate in RATES]
    for trial in trials:
        scores = [kept(parts, "lora", trial.settings(bench.seed) | {"judged": "validation"},
                       partial(validation, bench, trial))["accuracy"]
                  for bench in benches]  # fmt: skip
        said = "  ".join(f"{score:.3f}" for score in scores)
        mean = sum(scores) / len(scores)
        click.echo(f"{trial.method:12}{trial.epochs} epochs{trial.learning_rate:9.1e}  mean {mean:.4f}  ({said})")


def validation(bench: Bench, trial: Trial) -> dict[str, float]:
    """Train once, and return the accuracy on the validation reviews."""
    return {"accuracy": bench.learner.accuracy(bench.trained(trial)[0], bench.rows["reviews"]["validation"])}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--seeds",
    default=3,
    type=click.IntRange(1, 100),
    show_default=True,
    help="Number of seeds; 3 means seeds 0, 1 and 2.",
)
@click.option("--labels", default=experiment.LABELS, type=click.IntRange(2), show_default=True)
@click.option(
    "--epochs",
    default=None,
    type=click.IntRange(1),
    help="Number of epochs, for a trial run.  [default: each method's own]",
)
@click.option("--tune", "tuning", is_flag=True, help="Try rates and epochs on validation rows; write no result.")
@click.option("--into", default=FOLDER, type=click.Path(path_type=Path), help="The folder for lora.json.")
@click.option(
    "--parts", default=ROOT / "runs" / "reference", type=click.Path(path_type=Path), help="Folder of finished pieces."
)
def main(seeds: int, labels: int, epochs: int | None, tuning: bool, into: Path, parts: Path) -> None:
    """Adapt once per seed and method and write data/reference/lora.json."""
    try:
        start(track="pocket", budget="standard", seed=0)
        if tuning:
            return tune(seeds, labels, parts)
        measured = measure_all(seeds, labels, epochs, parts)
        settings = {"labels": labels, "epochs": epochs or experiment.EPOCHS, "rank": experiment.RANK}
        settings |= {"alpha": experiment.ALPHA, "learning_rates": experiment.RATES}
        path = save_reference("lora", 'make reference REFERENCES="lora"', settings, measured, into)
        click.echo(f"written: {path.name}")
    except UserError as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
