"""Measure the reference figures of lesson 03 over several seeds, for data/reference/pitfalls.json.

python benchmarks/pitfalls.py                   three seeds on the test rows (some twenty minutes of one core)
python benchmarks/pitfalls.py --seeds 5 --jobs 2
python -m benchmarks.pitfalls --controls --seeds 5    the controls: a curve for each remedy, forgetting,
                                                      overfitting, films with and without names

The recipes are the lesson's own, in `helpers.lessons.lesson_03.experiment`.
Each seed draws its own reviews and random starts.
"""

from __future__ import annotations

import copy
import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from itertools import repeat
from pathlib import Path

import click
import numpy as np
import torch
from datasets import Dataset

from helpers import catalog
from helpers.batches import TokenizedReviews, length_batches, pad, sample_rows, tokenize
from helpers.evaluation import correct_and_loss
from helpers.lessons.lesson_03 import experiment
from helpers.models import MeanPoolClassifier, freeze_all_but
from helpers.recipes import recipe
from helpers.reference import FOLDER, kept, save_reference
from helpers.runtime import UserError, seed_everything, start
from helpers.training import BATCH_SIZE, train, train_on_text

SIZES = (*experiment.SIZES, 800, 1600)
LABELS, EPOCHS, TEXTS = 400, 3, 100
OVERFIT = {"plain": {}, "dropout": {"dropout": 0.3}, "weight_decay": {"decay": 10.0}}
DEALS = 1  # random divisions of the films into two halves; each seed's figure is the mean over them
TEST_ROWS = 1000


class Bench:
    """The data of one seed, read and tokenized once."""

    def __init__(self, seed: int, sizes: tuple[int, ...], test_rows: int) -> None:
        self.seed, self.sizes = seed, sizes
        self.reviews = catalog.dataset("reviews", "pocket")
        self.tokenizer = catalog.tokenizer("encoder", "pocket")
        self.collate = pad(self.tokenizer)
        pool = sample_rows(self.reviews["train"], max(*sizes, min(LABELS, max(sizes))), seed)
        test = self.reviews["test"].select(range(min(test_rows, len(self.reviews["test"]))))
        self.train, self.test = self.tokenized(pool), self.tokenized(test)

    def tokenized(self, rows) -> TokenizedReviews:
        return TokenizedReviews.from_dataset(tokenize(rows, self.tokenizer))

    def accuracy(self, classifier, rows: TokenizedReviews) -> float:
        return correct_and_loss(classifier, rows, self.collate)[0].mean().item()

    def learn(self, classifier, rows: TokenizedReviews, epochs: int, learning_rate: float = experiment.RATE) -> None:
        train_on_text(classifier, rows, self.collate, learning_rate, epochs=epochs, seed=self.seed)


def by_labels(bench: Bench) -> dict[str, float]:
    """Return the accuracy for each number of labels, pretrained and from a random start."""
    found = {}
    for name, pretrained in (("full", True), ("scratch", False)):
        for size in bench.sizes:
            seed_everything(bench.seed)
            classifier = catalog.classifier("pocket", pretrained=pretrained)
            bench.learn(classifier, bench.train.select(range(size)), experiment.epochs_for(size))
            found[f"accuracy_{name}_{size}_labels"] = bench.accuracy(classifier, bench.test)
            click.echo(f"seed {bench.seed}  {name}, {size} labels: {found[f'accuracy_{name}_{size}_labels']:.3f}")
    return found


def forgetting(bench: Bench) -> dict[str, float]:
    """Return accuracy and the mean rise of the masked-word loss, for plain fine-tuning and each remedy."""
    corpus = catalog.dataset("corpus", "pocket")
    domains = experiment.domain_batches(bench.tokenizer, corpus["validation"], TEXTS, bench.seed)
    before = experiment.domain_losses(catalog.masked_language_model("pocket"), domains)
    rows = bench.train.select(range(min(LABELS, len(bench.train))))
    steps = EPOCHS * -(-len(rows) // BATCH_SIZE)
    old = list(corpus["train"].shuffle(seed=bench.seed).select(range(8 * steps))["text"])
    found = {}
    for name in ("plain", "lower_rate", "last_block_only", "replay", "average"):
        if name != "average":  # `average` needs no training: it averages the weights of `plain` with the old ones
            language_model, classifier = _pair(bench.seed)
            _fine_tune(bench, name, language_model, classifier, rows, old)
        if name == "plain":
            plain = {key: value.clone() for key, value in language_model.state_dict().items()}
            head = {key: value.clone() for key, value in classifier.head.state_dict().items()}
        if name == "average":
            language_model, classifier = _pair(bench.seed)
            language_model.load_state_dict(experiment.average_weights(plain, language_model.state_dict()))
            classifier.head.load_state_dict(head)
        after = experiment.domain_losses(language_model, domains)
        found[f"accuracy_forgetting_{name}"] = bench.accuracy(classifier, bench.test)
        found[f"loss_rise_forgetting_{name}"] = float(np.mean([after[domain] - before[domain] for domain in before]))
        click.echo(f"seed {bench.seed}  {name}: {found[f'accuracy_forgetting_{name}']:.3f}, "
                   f"loss {found[f'loss_rise_forgetting_{name}']:+.2f}")  # fmt: skip
    return found


def _pair(seed: int):
    seed_everything(seed)
    language_model = catalog.masked_language_model("pocket")
    return language_model, MeanPoolClassifier(language_model.base_model)


def _fine_tune(bench: Bench, name: str, language_model, classifier, rows: TokenizedReviews, old: list[str]) -> None:
    if name == "last_block_only":
        bench.learn(freeze_all_but(classifier, 1), rows, EPOCHS, 2 * experiment.RATE)
    elif name == "replay":
        batches = experiment.masked_batches(bench.tokenizer, old, bench.seed, batch_size=8)
        bench.learn(experiment.WithReplay(classifier, language_model, batches, weight=0.1), rows, EPOCHS)
    else:
        bench.learn(classifier, rows, EPOCHS, experiment.RATE / (4 if name == "lower_rate" else 1))


def film_site(bench: Bench, count: int) -> tuple[tuple[list[str], list[str]], Dataset]:
    """Return the films with the most one-sided labels, and the openings of their reviews."""
    groups = experiment.lopsided_films(bench.reviews["train"], count)
    of_these = {film for group in groups for film in group}
    site = bench.reviews["train"].filter(lambda row: row["film"] in of_these)
    return groups, site.map(lambda row: {"text": experiment.opening(row["text"])})


def seen_and_unseen(bench: Bench, rows: TokenizedReviews, halves) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Train on each half. Return which test rows the model with their films gets right, and which the other one.

    The first list begins with the test rows of half 0, the second list with those of half 1.
    """
    seen: list[torch.Tensor] = []
    unseen: list[torch.Tensor] = []
    for own, (learned, _) in enumerate(halves):
        seed_everything(bench.seed)
        classifier = catalog.classifier("pocket")
        bench.learn(classifier, rows.select(learned.tolist()), experiment.FILM_EPOCHS)
        for side, (_, tested) in enumerate(halves):
            answered, _ = correct_and_loss(classifier, rows.select(tested.tolist()), bench.collate)
            (seen if side == own else unseen).append(answered)
    return seen, unseen


def films(bench: Bench, count: int) -> dict[str, float]:
    """Return two accuracies on the same test rows: of the model that saw their films, and of the one that did not."""
    groups, site = film_site(bench, count)
    rows = bench.tokenized(site)
    right: dict[str, list[torch.Tensor]] = {"random_split": [], "film_split": []}
    for deal in range(DEALS):
        halves = experiment.two_halves(site["film"], groups, bench.seed + 1000 * deal)
        for name, parts in zip(right, seen_and_unseen(bench, rows, halves), strict=True):
            right[name] += parts
    found = {f"accuracy_full_{name}": torch.cat(parts).mean().item() for name, parts in right.items()}
    click.echo(f"seed {bench.seed}  {found}")
    return found


def measure_seed(seed: int, sizes: tuple[int, ...], test_rows: int, film_count: int, threads: int) -> dict[str, float]:
    """Return all metrics of one seed."""
    start(track="pocket", budget="standard", seed=0, threads=threads)
    bench = Bench(seed, sizes, test_rows)
    return films(bench, film_count) | forgetting(bench) | by_labels(bench)


def controls(seed: int, film_count: int, threads: int, settings: dict, parts: Path) -> dict[str, float]:
    """Measure the lesson's controls with one seed. Finished pieces are saved, so the command can be interrupted."""
    start(track="pocket", budget="standard", seed=0, threads=threads)
    bench = Bench(seed, (LABELS,), 300)
    pieces = {"films": partial(films_with_names, bench, film_count), "overfitting": partial(overfitting, bench)}
    pieces["random start"] = partial(random_start, bench)
    pieces["plain"] = partial(plain_and_lost, bench)
    for curve, points in experiment.CURVES.items():
        for setting, remedy in points.items():
            name = f"{curve.replace(' ', '_')}_{setting}"
            pieces[name.replace("/", "_")] = partial(one_point, bench, name, remedy)
    found: dict[str, float] = {}
    for name, measure in pieces.items():
        found |= kept(parts, name, settings | {"seed": seed}, measure)
        click.echo(f"seed {seed}  {name}")
    return found


def overfitting(bench: Bench, labels: int = 200, epochs: int = 10) -> dict[str, float]:
    """Return test accuracy and loss after too many epochs on few labels, without a remedy and with three remedies.

    Early stopping is the run without a remedy, at the epoch with the lowest loss on validation rows.
    """
    found, rows = {}, bench.train.select(range(labels))
    validation = bench.tokenized(bench.reviews["validation"].select(range(300)))
    for name, settings in OVERFIT.items():
        seed_everything(bench.seed)
        classifier = catalog.classifier("pocket")
        for module in classifier.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = settings.get("dropout", module.p)
        batches = length_batches(rows, bench.collate, BATCH_SIZE, seed=bench.seed)
        # As in the lesson: a constant learning rate, and torch's weight decay.
        optimizer = torch.optim.AdamW(
            classifier.parameters(), lr=experiment.RATE, weight_decay=settings.get("decay", 0.01)
        )
        lowest = float("inf")
        for _ in range(epochs):
            train(classifier, batches, optimizer)
            right, loss = correct_and_loss(classifier, bench.test, bench.collate)
            found |= {f"loss_overfit_{name}": loss, f"accuracy_overfit_{name}": right.mean().item()}
            watched = correct_and_loss(classifier, validation, bench.collate)[1] if name == "plain" else lowest
            if watched < lowest:
                lowest = watched
                found |= {"loss_overfit_early_stopping": loss, "accuracy_overfit_early_stopping": right.mean().item()}
    click.echo(f"seed {bench.seed}  {found}")
    return found


def random_start(bench: Bench) -> dict[str, float]:
    """Return the accuracy of a random start with its own recipe: half the rate, and twice the epochs."""
    seed_everything(bench.seed)
    classifier = catalog.classifier("pocket", pretrained=False)
    own, labels = recipe("scratch"), len(bench.train)
    bench.learn(classifier, bench.train, 2 * experiment.epochs_for(labels), own.learning_rate)
    return {f"accuracy_scratch_own_recipe_{labels}_labels": bench.accuracy(classifier, bench.test)}


class Probe:
    """One seed's texts of the old task: to measure its loss before and after, to replay, and to refit its head."""

    def __init__(self, bench: Bench) -> None:
        corpus, seed = catalog.dataset("corpus", "pocket"), bench.seed

        def masked(seed_of_order: int, texts: int, batch_size: int) -> list:
            drawn = list(corpus["train"].shuffle(seed=seed_of_order).select(range(texts))["text"])
            return experiment.masked_batches(bench.tokenizer, drawn, seed, batch_size=batch_size)

        self.domains = experiment.domain_batches(bench.tokenizer, corpus["validation"], 24, seed)
        self.before = experiment.domain_losses(catalog.masked_language_model("pocket"), self.domains)
        self.old = masked(seed, 8 * EPOCHS * -(-LABELS // BATCH_SIZE), 8)
        self.again = masked(1000 + seed, 16 * experiment.REFIT_STEPS, 16)


@cache
def _probe(bench: Bench) -> Probe:
    return Probe(bench)


def one_point(bench: Bench, name: str, remedy: experiment.Remedy) -> dict[str, float]:
    """Fine-tune once with a remedy. Return accuracy and the mean rise of the old task's loss."""
    language_model, classifier = _pair(bench.seed)
    return _point(bench, name, *_tuned(bench, remedy, language_model, classifier))


def _tuned(bench: Bench, remedy: experiment.Remedy, language_model, classifier) -> tuple:
    rows = bench.train.select(range(LABELS))
    given = (remedy, language_model, classifier, rows, bench.collate, _probe(bench).old)
    experiment.fine_tune(*given, epochs=EPOCHS, seed=bench.seed)
    return language_model, classifier


def _point(bench: Bench, name: str, language_model, classifier) -> dict[str, float]:
    before, after = _probe(bench).before, experiment.domain_losses(language_model, _probe(bench).domains)
    rise = float(np.mean([after[domain] - before[domain] for domain in before]))
    found = {f"accuracy_curve_{name}": bench.accuracy(classifier, bench.test), f"loss_rise_curve_{name}": rise}
    click.echo(f"seed {bench.seed}  {found}")
    return found


def plain_and_lost(bench: Bench) -> dict[str, float]:
    """Measure plain fine-tuning, averages of its weights with the old ones, and what the fine-tuned body lost."""
    language_model, classifier = _tuned(bench, experiment.Remedy(), *_pair(bench.seed))
    found = _point(bench, "plain", language_model, classifier)
    plain = {key: value.clone() for key, value in language_model.state_dict().items()}
    old = catalog.masked_language_model("pocket").state_dict()
    for share in experiment.SHARES:
        language_model.load_state_dict(experiment.average_weights(plain, old, share))
        found |= _point(bench, f"share_of_new_weights_{share}", language_model, classifier)
    return found | _lost(bench, plain, _probe(bench).domains, _probe(bench).again)


def _lost(bench: Bench, plain: dict, domains: dict, again: list) -> dict[str, float]:
    """Return the old loss with a refitted head and the next task's accuracy, for the old and the fine-tuned body."""
    topics = catalog.dataset("topics", "pocket")
    learned = bench.tokenized(sample_rows(topics["train"], experiment.NEXT_LABELS, bench.seed))
    tested = bench.tokenized(topics["test"].select(range(500)))
    losses, found = {}, {}
    for name in ("pretrained", "plain"):
        language_model = catalog.masked_language_model("pocket")
        if name == "plain":
            language_model.load_state_dict(plain)
        body = copy.deepcopy(language_model.base_model)
        experiment.refit_head(language_model, again)
        losses[name] = float(np.mean(list(experiment.domain_losses(language_model, domains).values())))
        seed_everything(bench.seed)
        classifier = MeanPoolClassifier(body, max(topics["train"]["label"]) + 1)
        bench.learn(classifier, learned, experiment.epochs_for(experiment.NEXT_LABELS))
        found[f"accuracy_next_task_{name}"] = bench.accuracy(classifier, tested)
    found["loss_refit_pretrained"] = losses["pretrained"]
    found["loss_rise_refit"] = losses["plain"] - losses["pretrained"]
    click.echo(f"seed {bench.seed}  {found}")
    return found


def films_with_names(bench: Bench, count: int) -> dict[str, float]:
    """Return how much higher the random split scores on each film, with and without names in the texts."""
    groups, site = film_site(bench, count)
    halves = experiment.two_halves(site["film"], groups, bench.seed)
    tested_films = [film for _, tested in halves for film in np.array(site["film"])[tested]]
    found = {}
    for kind in ("names", "no_names"):
        shown = site if kind == "names" else site.map(lambda row: {"text": experiment.hide_names(row["text"])})
        with_films, without = seen_and_unseen(bench, bench.tokenized(shown), halves)
        seen, unseen = torch.cat(with_films).tolist(), torch.cat(without[::-1]).tolist()  # both: half 0, then half 1
        gaps = experiment.gap_by_group(seen, unseen, tested_films)
        found |= {f"gap_{kind}_film_{number:02}": gap for number, gap in enumerate(gaps.values())}
        found |= {f"accuracy_{kind}_seen": float(np.mean(seen)), f"accuracy_{kind}_unseen": float(np.mean(unseen))}
        click.echo(f"seed {bench.seed}  {kind}: seen {np.mean(seen):.3f}, unseen {np.mean(unseen):.3f}")
    return found


def write_controls(seeds: int, film_count: int, into: Path) -> None:
    """Measure the controls with each seed, save each piece, and write pitfalls_controls.json."""
    settings = {"labels": LABELS, "epochs": EPOCHS, "films": film_count, "test_rows": 300, "overfit_labels": 200}
    settings |= {"refit_steps": experiment.REFIT_STEPS, "next_labels": experiment.NEXT_LABELS}
    settings |= {"replay_head": "frozen"}  # replay trains the body, and the masked-word head of no remedy is trained
    parts = Path(tempfile.gettempdir()) / "pitfalls_controls"
    measured = []
    for seed in range(seeds):
        measured.append(controls(seed, film_count, 1, settings, parts))
    command = f"python -m benchmarks.pitfalls --controls --seeds {seeds}"
    path = save_reference("pitfalls_controls", command, settings, measured, into, 1)
    click.echo(f"written: {path.name}")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--seeds",
    default=3,
    type=click.IntRange(1, 100),
    show_default=True,
    help="Number of seeds; 3 means seeds 0, 1 and 2.",
)
@click.option(
    "--sizes", default=",".join(map(str, SIZES)), show_default=True, help="Numbers of labels, separated by commas."
)
@click.option("--test-rows", default=TEST_ROWS, type=click.IntRange(10), show_default=True)
@click.option("--films", "film_count", default=experiment.FILMS, type=click.IntRange(2), show_default=True)
@click.option(
    "--jobs", default=1, type=click.IntRange(1), show_default=True, help="Number of seeds to measure in parallel."
)
@click.option(
    "--controls", "only_controls", is_flag=True, help="Measure only the controls, and write pitfalls_controls.json."
)
@click.option("--into", default=FOLDER, type=click.Path(path_type=Path), help="The folder for pitfalls.json.")
def main(seeds: int, sizes: str, test_rows: int, film_count: int, jobs: int, only_controls: bool, into: Path) -> None:
    """Measure every seed and write data/reference/pitfalls.json."""
    try:
        if only_controls:
            return write_controls(seeds, film_count, into)
        wanted = tuple(sorted({int(size) for size in sizes.split(",")}))
        threads = max(1, torch.get_num_threads() // jobs)
        pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) if jobs > 1 else None
        given = [range(seeds), *(repeat(value) for value in (wanted, test_rows, film_count, threads))]
        measured = list(pool.map(measure_seed, *given) if pool else map(measure_seed, *given))
        settings = {"sizes": list(wanted), "labels": LABELS, "epochs": EPOCHS, "films": film_count}
        path = save_reference(
            "pitfalls", "python benchmarks/pitfalls.py", settings | {"test_rows": test_rows}, measured, into, threads
        )
        click.echo(f"written: {path.name}")
    except UserError as error:
        raise click.ClickException(str(error)) from None
    except ValueError as error:
        raise click.ClickException(f"sizes: {error}") from None


if __name__ == "__main__":
    main()
