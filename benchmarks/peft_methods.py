"""Measure the reference of lesson 07: every method over several seeds, for data/reference/peft_methods.json.

python -m benchmarks.peft_methods                  three seeds on the test rows
python -m benchmarks.peft_methods --keep FOLDER    the same; saves finished pieces in FOLDER, so that it can continue
python -m benchmarks.peft_methods --tune           the grid of learning rates, on validation rows; writes nothing
python -m benchmarks.peft_methods --real           rates of training all of the published encoder, on validation
                                                   sentences, for data/reference/peft_real_rates.json

The recipe is the lesson's own, in `helpers.lessons.lesson_07.experiment`.
Each seed draws its own training rows and random starts.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
import torch

from helpers import catalog
from helpers.batches import TokenizedReviews, pad, sample_rows, tokenize
from helpers.evaluation import Outcome
from helpers.files import write_json
from helpers.intervals import mean_t
from helpers.lessons.lesson_02.experiment import Task
from helpers.lessons.lesson_03.experiment import domain_batches, domain_losses
from helpers.lessons.lesson_07 import experiment
from helpers.reference import FOLDER, save_reference
from helpers.runtime import UserError, start

GRID = (5e-4, 1e-3, 2e-3, 4e-3, 1e-2, 3e-2, 1e-1)
REAL_RATES = (5e-5, 1e-4, 2e-4, 4e-4)  # of training all parameters of the published encoder
REAL_VALIDATION_ROWS = 500
TEXTS = 24  # held-out texts per domain, to measure forgetting


class Bench:
    """The data of one seed, read and tokenized once."""

    def __init__(self, seed: int, labels: int, judged: str, judged_rows: int) -> None:
        self.seed = seed
        reviews, self.tokenizer = catalog.dataset("reviews", "pocket"), catalog.tokenizer("encoder", "pocket")
        drawn = [sample_rows(reviews["train"], labels, seed), reviews[judged]]
        drawn[1] = drawn[1].select(range(min(judged_rows, len(drawn[1]))))
        rows = [TokenizedReviews.from_dataset(tokenize(part, self.tokenizer, experiment.MAX_TOKENS)) for part in drawn]
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.task = Task(None, rows[0], rows[1], pad(self.tokenizer), device)

    def fine_tune(
        self, method: experiment.Method, epochs: int, rate: float | None = None
    ) -> tuple[experiment.Pair, Outcome]:
        language_model = catalog.masked_language_model("pocket")
        both, found = experiment.fine_tune(method, language_model, self.task, epochs=epochs, seed=self.seed, rate=rate)
        said = (
            f"seed {self.seed}  {found.title:20}{rate or method.learning_rate():8.0e}  {found.parameters:9,} trained  "
        )
        click.echo(f"{said}{found.accuracy:.3f}  {found.seconds:5.1f} s")
        return both, found


class Forgetting:
    """Measures the masked-word loss on held-out texts of each domain, before and after fine-tuning."""

    def __init__(self, bench: Bench) -> None:
        corpus = catalog.dataset("corpus", "pocket")["validation"]
        self.domains = domain_batches(bench.tokenizer, corpus, TEXTS, bench.seed)
        self.before = self.losses(catalog.masked_language_model("pocket").to(bench.task.device))

    def losses(self, language_model) -> dict[str, float]:
        return domain_losses(language_model, self.domains)

    def rise(self, language_model) -> float:
        """Return how much the loss has risen, as a mean over the domains."""
        after = self.losses(language_model)
        return sum(after[domain] - self.before[domain] for domain in after) / len(after)


def by_method(bench: Bench, forgetting: Forgetting, name: str, epochs: int) -> dict[str, float]:
    """Fine-tune with one method. Return accuracy, cost, file size, and the mean rise of the masked-word loss."""
    both, found = bench.fine_tune(experiment.methods()[name], epochs)
    with tempfile.TemporaryDirectory() as folder:
        size = experiment.save_trained(both.classifier, Path(folder) / "trained.safetensors")
    rise = forgetting.rise(both.language_model)
    return found.metrics(name) | {f"checkpoint_bytes_{name}": size, f"loss_rise_{name}": rise}


def pieces(seed: int, labels: int, epochs: int, test_rows: int, done: dict) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield every fine-tuning of one seed that is not in `done`, with its metrics on the test rows."""
    bench = Bench(seed, labels, "test", test_rows)
    forgetting = Forgetting(bench)
    for name in experiment.methods():
        if name not in done:
            yield name, by_method(bench, forgetting, name, epochs)
    usual = {"soft_prompt": experiment.LENGTH, "lora": experiment.RANK}  # `experiment.methods()` has these sizes
    for name, of_size in (("soft_prompt", experiment.soft_prompt), ("lora", experiment.low_rank)):
        for size in experiment.SIZES:
            if size != usual[name] and f"{name}_{size}" not in done:
                score = bench.fine_tune(of_size(size), epochs)[1].accuracy.value
                yield f"{name}_{size}", {f"accuracy_{name}_{size}": score}


def measure(seed: int, settings: dict[str, int], keep: Path | None) -> dict[str, float]:
    """Return all metrics of one seed. Pieces saved in `keep` for the same settings are not measured again."""
    path = keep / f"seed_{seed}.json" if keep else None
    kept = json.loads(path.read_text()) if path and path.is_file() else {}
    done = kept["pieces"] if kept.get("settings") == settings else {}
    for name, metrics in pieces(seed, **settings, done=dict(done)):
        done[name] = metrics
        if path:
            keep.mkdir(parents=True, exist_ok=True)
            write_json(path, {"settings": settings, "pieces": done})
    found = {name: value for metrics in done.values() for name, value in metrics.items()}
    for name, size in (("soft_prompt", experiment.LENGTH), ("lora", experiment.RANK)):
        found[f"accuracy_{name}_{size}"] = found[f"accuracy_{name}"]
    return found


def tune(seeds: int, labels: int, epochs: int, names: Iterable[str]) -> None:
    """Print the mean validation accuracy of every learning rate for every method, over the seeds."""
    benches = [Bench(seed, labels, "validation", 500) for seed in range(seeds)]
    for name in names:
        for rate in GRID:
            method = experiment.methods()[name]
            scores = [bench.fine_tune(method, epochs, rate)[1].accuracy.value for bench in benches]
            click.echo(f"{method.title:20}{rate:8.0e}  {mean_t(scores).value:.3f}")


def real_rates(seed: int) -> dict[str, float]:
    """Return the validation accuracy of every rate of training everything, with the rows of the lesson's section 10."""
    sentences, tokenizer = catalog.dataset("reviews", "real"), catalog.tokenizer("encoder", "real")
    drawn = sample_rows(sentences["train"], experiment.REAL_LABELS, seed)
    judged = sentences["validation"].select(range(REAL_VALIDATION_ROWS))
    rows = [TokenizedReviews.from_dataset(tokenize(part, tokenizer, 128)) for part in (drawn, judged)]
    task = Task(None, rows[0], rows[1], pad(tokenizer), "cuda" if torch.cuda.is_available() else "cpu")
    found, method = {}, experiment.methods()["full"]
    for rate in REAL_RATES:
        base, epochs = catalog.masked_language_model("real", new_head=True), experiment.REAL_EPOCHS
        _, outcome = experiment.fine_tune(method, base, task, epochs=epochs, seed=seed, rate=rate)
        found[f"accuracy_full_{rate:g}"] = outcome.accuracy.value
        click.echo(f"seed {seed}  {rate:8.0e}  {outcome.accuracy.value:.3f}  {outcome.seconds:5.1f} s")
    return found


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--seeds",
    default=3,
    type=click.IntRange(1, 100),
    show_default=True,
    help="Number of seeds; 3 means seeds 0, 1 and 2.",
)
@click.option("--labels", default=experiment.LABELS, type=click.IntRange(2), show_default=True)
@click.option("--epochs", default=experiment.EPOCHS, type=click.IntRange(1), show_default=True)
@click.option("--test-rows", default=1000, type=click.IntRange(10), show_default=True)
@click.option("--keep", type=click.Path(path_type=Path), help="Save finished pieces in this folder, and reuse them.")
@click.option("--tune", "tuning", is_flag=True, help="Try learning rates on validation rows; write nothing.")
@click.option("--real", "on_real_text", is_flag=True, help="Try rates of training all of the published encoder.")
@click.option("--only", default="", help="With --tune: only these methods, separated by commas.")
@click.option("--into", default=FOLDER, type=click.Path(path_type=Path), help="The folder for peft_methods.json.")
def main(
    seeds: int,
    labels: int,
    epochs: int,
    test_rows: int,
    keep: Path | None,
    tuning: bool,
    on_real_text: bool,
    only: str,
    into: Path,
) -> None:
    """Measure every seed and write data/reference/peft_methods.json (with --real: peft_real_rates.json)."""
    try:
        start(track="pocket", budget="standard", seed=0)
        if tuning:
            return tune(seeds, labels, epochs, only.split(",") if only else experiment.methods())
        if on_real_text:
            settings = {"labels": experiment.REAL_LABELS, "epochs": experiment.REAL_EPOCHS, "rates": list(REAL_RATES)}
            settings |= {"validation_rows": REAL_VALIDATION_ROWS}
            measured = [real_rates(seed) for seed in range(seeds)]
            command = "python -m benchmarks.peft_methods --real"
            click.echo(f"written: {save_reference('peft_real_rates', command, settings, measured, into).name}")
            return None
        settings = {"labels": labels, "epochs": epochs, "test_rows": test_rows}
        found = [measure(seed, settings, keep) for seed in range(seeds)]
        settings |= {"length": experiment.LENGTH, "rank": experiment.RANK, "alpha": experiment.ALPHA}
        settings |= {"sizes": list(experiment.SIZES)}
        path = save_reference("peft_methods", "python -m benchmarks.peft_methods", settings, found, into)
        click.echo(f"written: {path.name}")
    except UserError as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
