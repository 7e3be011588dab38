"""Lesson 02: which settings are trained and with which recipes, the solutions that it goes on with, kinds of rows."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from datasets import Dataset
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from helpers import catalog
from helpers.batches import Batch, Collate, TokenizedReviews, pad, tokenize
from helpers.evaluation import counts_words
from helpers.intervals import Interval, mean_t
from helpers.models import mean_pool
from helpers.recipes import Recipe, recipe
from helpers.runtime import UserError, choose

LABELS = 2000
REAL_LABELS, REAL_TEST_ROWS = 1500, 1000  # on real text, so that the lesson trains every setting within minutes
SETTINGS = ("head_only", "last_block", "full", "scratch")
TITLES = {
    "majority": "majority class",
    "bag_of_words": "bag of words",
    "head_only": "pretrained, head only",
    "last_block": "pretrained, last block + head",
    "full": "pretrained, all trained",
    "scratch": "random start, all trained",
}
SOME_BLOCKS = re.compile(r"blocks_([2-9]|[1-9]\d+)")  # blocks_1 would be last_block
SCRATCH_PASSES = {
    "pocket": 2,
    "published": 1,
}  # times those of its recipe: a random start of the small model needs more
THIRDS = ("short", "middling", "long")


@dataclass(frozen=True)
class Task:
    """What is the same for every setting: the model's start, the rows and the device."""

    new_model: Callable[[bool], Any]  # takes `pretrained`
    train_rows: TokenizedReviews
    test_rows: TokenizedReviews
    collate: Collate
    device: str = "cpu"


def chosen_settings(settings: str) -> tuple[str, ...]:
    """The settings that the parameter names, in the lesson's order: "all", "none", or some with commas between.

    "all" is the four of the lesson; names such as "blocks_2" can be added, and come last.

    Raises:
        UserError: naming the one that does not exist.
    """
    named = [] if settings == "none" else [name.strip() for name in str(settings).split(",")]
    some = sorted({name for name in named if SOME_BLOCKS.fullmatch(name)}, key=blocks_in)
    for name in named:
        if name not in some:
            choose("settings", name, (*SETTINGS, "blocks_2", "all", "none"))
    return (*(name for name in SETTINGS if name in named or "all" in named), *some)


def blocks_in(name: str) -> int:
    """How many of the last blocks a setting such as "blocks_2" trains; 0 for a setting with another name."""
    found = SOME_BLOCKS.fullmatch(name)
    return int(found[1]) if found else 0


def between(depth: int, chosen: Sequence[str] = ()) -> dict[str, int]:
    """The settings between the last block and everything for a body of `depth` blocks: name -> trainable blocks.

    Raises:
        UserError: when one of the `chosen` settings trains more blocks than the body has.
    """
    for name in chosen:
        if blocks_in(name) > depth:
            raise UserError(f'settings names "{name}", but this model has {depth} blocks; take at most blocks_{depth}.')
    return {f"blocks_{count}": count for count in range(2, depth + 1)}


def title(name: str) -> str:
    """The name of a setting for a reader."""
    return TITLES.get(name) or f"pretrained, last {blocks_in(name)} blocks + head"


def paired(scores: Sequence[float], others: Sequence[float]) -> Interval:
    """The mean of `scores` minus `others`, seed by seed, as far as both have seeds, with Student's 95 % interval."""
    return mean_t([one - other for one, other in zip(scores, others, strict=False)])


def ratio(values: Sequence[float], others: Sequence[float]) -> Interval:
    """The mean of `values` divided by `others`, seed by seed, with Student's 95 % interval."""
    return mean_t([one / other for one, other in zip(values, others, strict=True)])


def how_much(by_depth: Mapping[str, Sequence[float]]) -> str:
    """Say, from accuracies over seeds, how much each depth gains and how few blocks are not clearly below "full".

    by_depth: setting -> one accuracy per seed, from "head_only" up to "full"; [] where nothing was measured.
    """
    full = by_depth.get("full", [])
    known = {name: seeds for name, seeds in by_depth.items() if name != "full" and min(len(seeds), len(full)) > 1}
    if not {"head_only", "last_block"} <= set(known):
        return "Not enough seeds to say how many blocks are enough."
    whole = paired(full, known["head_only"]).value
    closed = {name: 1 - paired(full, seeds).value / whole for name, seeds in known.items() if name != "head_only"}
    said = ", ".join(f"{short(name)} {share:.0%}" for name, share in closed.items())
    answer = f"The head alone is {whole:.3f} below everything. Training more closes this share of the gap: {said}."
    near = next((name for name in known if 0 in paired(full, known[name])), None)
    if near:
        gap, seeds = paired(full, known[near]), min(len(known[near]), len(full))
        answer += f" The fewest that are not clearly below everything: {short(near)} (gap {gap:+.3f}, {seeds} seeds)."
    else:
        answer += " Each of these stays clearly below everything."
    if missing := [short(name) for name in by_depth if name != "full" and name not in known]:
        answer += f" Not measured: {', '.join(missing)}."
    return answer


def short(name: str) -> str:
    """The name of a setting within a sentence."""
    return {"head_only": "the head", "last_block": "the last block"}.get(name) or f"the last {blocks_in(name)} blocks"


def recipes_of(
    chosen: Sequence[str], origin: str, budget: str, epochs: int = 0, rate_scale: float = 1.0
) -> dict[str, Recipe]:
    """The recipe of each setting: `helpers.recipes`, with this run's passes and rates; some blocks take that of "full".

    Args:
        origin: as `helpers.recipes.origin_of` says it.
        budget: "quick" takes few passes, "full" twice as many.
        epochs: passes of the settings that train blocks; 0 keeps the recipe's.
    """
    found = {}
    for name in chosen:
        one = recipe("full" if blocks_in(name) else name, origin).scaled(rate_scale)
        passes = one.epochs * (SCRATCH_PASSES[origin] if name == "scratch" else 1)
        if epochs and name != "head_only":
            passes = epochs
        quick = 5 if name == "head_only" else 1
        passes = {"quick": min(passes, quick), "full": 2 * passes}.get(budget, passes)
        found[name] = replace(one, epochs=passes)
    return found


def task_of(track: str, train: Dataset, test: Dataset, classifier: Callable[[nn.Module, int], nn.Module]) -> Task:
    """The task of a track: its encoder under `classifier(body, 2)`, and these rows as tokens."""
    tokenizer = catalog.tokenizer("encoder", track)
    read, judged = (TokenizedReviews.from_dataset(tokenize(part, tokenizer)) for part in (train, test))
    return Task(lambda old: classifier(catalog.body("encoder", track, pretrained=old), 2), read, judged, pad(tokenizer))


def units(texts: Sequence[str], rare: int) -> dict[str, Any]:
    """What tf-idf counts: words that `rare` texts have, or characters in scripts without spaces between words."""
    return {"min_df": rare} if counts_words(texts, rare) else {"analyzer": "char", "min_df": 1}


def training_step(model: nn.Module, batch: Batch, optimizer: Optimizer, scheduler: LRScheduler) -> float:
    """One step of training; returns its loss."""
    loss = model(**batch).loss
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
    optimizer.step()
    scheduler.step()
    optimizer.zero_grad()
    return loss.item()


def layer_features(body: nn.Module, input_ids: Tensor, attention_mask: Tensor) -> list[Tensor]:
    """The mean over the real tokens, (batch, hidden), of the embedding layer's states and of each block's."""
    states = body(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True).hidden_states
    return [mean_pool(state, attention_mask) for state in states]


def finite(losses: list[float]) -> list[float]:
    """The losses, if every one is a number.

    Raises:
        UserError: when the training has diverged.
    """
    wrong = next((step for step, loss in enumerate(losses, start=1) if not math.isfinite(loss)), None)
    if wrong:
        raise UserError(
            f"The loss became {losses[wrong - 1]} at step {wrong}: training has diverged. "
            "A lower learning rate is the first thing to try."
        )
    return losses


def rows_by_kind(dataset: Dataset, column: str = "phenomena", least: int = 1) -> dict[str, list[int]]:
    """Row numbers by what `column` (a list of names in each row) says; a row may be of several kinds.

    Data that lack the column are cut into three parts by the length of their text instead.
    Kinds of fewer than `least` rows are left out. Returned with the largest kind first.
    """
    if column in dataset.column_names:
        kinds: dict[str, list[int]] = {}
        for row, names in enumerate(dataset[column]):
            for name in names:
                kinds.setdefault(name, []).append(row)
    else:
        kinds = _by_length(dataset["text"])
    large = {name: rows for name, rows in kinds.items() if len(rows) >= least}
    return dict(sorted(large.items(), key=lambda item: (-len(item[1]), item[0])))


def _by_length(texts: list[str]) -> dict[str, list[int]]:
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    third = -(-len(order) // len(THIRDS))
    parts = (order[start : start + third] for start in range(0, len(order), third))
    return {name: sorted(rows) for name, rows in zip(THIRDS, parts, strict=False)}
