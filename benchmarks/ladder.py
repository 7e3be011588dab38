"""The reference ladder: every strategy of lesson 02 over several seeds, kept in data/reference/ladder.json.

make reference REFERENCES=ladder                   five seeds on the test rows
make reference REFERENCES=ladder ARGS="--tune"     the grid of rates, on validation rows only; prints, writes nothing

The recipe is the lesson's own, in `helpers.lessons.lesson_02.experiment`.
Each seed draws its own training rows and random starts.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path

import click
import torch

from helpers import catalog
from helpers.batches import TokenizedReviews, pad, sample_rows, tokenize
from helpers.cost import Stopwatch
from helpers.evaluation import Outcome, bag_of_words, majority
from helpers.intervals import mean_t
from helpers.lessons.lesson_02.experiment import EPOCHS, LABELS, STRATEGIES, Task, fit_and_evaluate
from helpers.reference import FOLDER, save_reference
from helpers.runtime import UserError, start

GRID = (2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3)
HEAD_GRID = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0)


def task_of(reviews, tokenizer, seed: int, labels: int, judged: str) -> tuple[Task, dict]:
    """The strategies' common task for one seed, and the rows as text: {"train": ..., "judged": ...}."""
    rows = {"train": sample_rows(reviews["train"], labels, seed), "judged": reviews[judged]}
    tokenized = {name: TokenizedReviews.from_dataset(tokenize(part, tokenizer)) for name, part in rows.items()}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    task = Task(
        new_model=lambda pretrained: catalog.classifier("pocket", pretrained=pretrained),
        train_rows=tokenized["train"],
        test_rows=tokenized["judged"],
        collate=pad(tokenizer),
        device=device,
    )
    return task, rows


def measure(reviews, tokenizer, seed: int, labels: int, epochs: int) -> dict[str, float]:
    """All metrics of one seed, on the test rows."""
    task, rows = task_of(reviews, tokenizer, seed, labels, "test")
    train, test = rows["train"], rows["judged"]
    truth = torch.tensor(test["label"])
    with Stopwatch() as watch:
        words = bag_of_words(train["text"], train["label"])
    guesses = torch.as_tensor(words.predict(test["text"]))
    floor = {
        "majority": Outcome("majority class", torch.full_like(truth, majority(train["label"])), truth),
        "bag_of_words": Outcome("bag of words", guesses, truth, words[-1].coef_.size, watch.seconds),
    }
    trained = {
        name: fit_and_evaluate(strategy, task, epochs=epochs, seed=seed) for name, strategy in STRATEGIES.items()
    }
    values: dict[str, float] = {}
    for name, outcome in (floor | trained).items():
        click.echo(f"seed {seed}  {outcome.title:32}{outcome.accuracy:.3f}  {outcome.seconds:6.1f} s")
        values |= outcome.metrics(name)
    return values


def measure_seed(seed: int, labels: int, epochs: int) -> dict[str, float]:
    """`measure`, in a process of its own."""
    start(track="pocket", budget="standard", seed=0, threads=torch.get_num_threads())
    return measure(catalog.dataset("reviews", "pocket"), catalog.tokenizer("encoder", "pocket"), seed, labels, epochs)


def measure_side_by_side(seeds: int, labels: int, epochs: int, jobs: int) -> list[dict[str, float]]:
    """All seeds over `jobs` processes, cores / jobs threads each."""
    threads = max(1, torch.get_num_threads() // jobs)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, torch.set_num_threads, (threads,)) as pool:
        return list(pool.map(measure_seed, range(seeds), repeat(labels), repeat(epochs)))


def tune(reviews, tokenizer, seeds: int, labels: int, epochs: int) -> None:
    """Print the mean validation accuracy of every learning rate for every strategy, over the seeds."""
    tasks = [task_of(reviews, tokenizer, seed, labels, "validation") for seed in range(seeds)]
    for penalty in PENALTIES:
        fitted = [(bag_of_words(r["train"]["text"], r["train"]["label"], penalty), r["judged"]) for _, r in tasks]
        scores = [float(words.score(judged["text"], judged["label"])) for words, judged in fitted]
        click.echo(f"bag of words, C = {penalty:<22g}{mean_t(scores).value:.3f}")
    for strategy in STRATEGIES.values():
        for rate in HEAD_GRID if strategy.trainable_blocks == 0 else GRID:
            scale = rate / strategy.learning_rate
            outcomes = [
                fit_and_evaluate(strategy, task, epochs=epochs, seed=seed, rate_scale=scale)
                for seed, (task, _) in enumerate(tasks)
            ]
            score = mean_t([outcome.accuracy.value for outcome in outcomes])
            click.echo(f"{strategy.title:32}{rate:8.1e}  {score.value:.3f}")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seeds", default=5, type=click.IntRange(1, 100), show_default=True, help="How many: 0, 1, 2, ...")
@click.option("--labels", default=LABELS, type=click.IntRange(2), show_default=True)
@click.option("--epochs", default=EPOCHS, type=click.IntRange(1), show_default=True)
@click.option("--jobs", default=1, type=click.IntRange(1), show_default=True, help="Seeds measured side by side.")
@click.option("--tune", "tuning", is_flag=True, help="Try learning rates on validation rows; write nothing.")
@click.option("--into", default=FOLDER, type=click.Path(path_type=Path), help="The folder for ladder.json.")
def main(seeds: int, labels: int, epochs: int, jobs: int, tuning: bool, into: Path) -> None:
    """Train by every strategy once per seed and write data/reference/ladder.json."""
    try:
        start(track="pocket", budget="standard", seed=0)
        reviews, tokenizer = catalog.dataset("reviews", "pocket"), catalog.tokenizer("encoder", "pocket")
        if tuning:
            return tune(reviews, tokenizer, seeds, labels, epochs)
        if jobs > 1:
            measured = measure_side_by_side(seeds, labels, epochs, jobs)
        else:
            measured = [measure(reviews, tokenizer, seed, labels, epochs) for seed in range(seeds)]
        settings = {"labels": labels, "epochs": epochs, "test_rows": len(reviews["test"])}
        path = save_reference(
            "ladder",
            "make reference REFERENCES=ladder",
            settings,
            measured,
            into,
            threads=max(1, torch.get_num_threads() // jobs),
        )
        click.echo(f"written: {path.name}")
    except UserError as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
