"""Supervised fine-tuning of a decoder on prompts with completions: the recipe of lesson 04, and of the model that
lessons 05 and 06 start from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from helpers.conversations import Row, conversation_batches
from helpers.training import History, train, warmup_linear


@dataclass(frozen=True)
class Recipe:
    """What decides a fine-tuning, but for the model and the rows; chosen on validation rows."""

    learning_rate: float = 4e-4
    epochs: int = 2
    batch_size: int = 16
    weight_decay: float = 0.01


RECIPE = Recipe()


def fine_tune(
    model: nn.Module,
    rows: Sequence[Row],
    pad_id: int,
    recipe: Recipe = RECIPE,
    *,
    seed: int = 0,
    progress: str = "fine-tuning",
) -> History:
    """Train in place on encoded conversations; the seed decides their order.

    Raises:
        UserError: before the weights are touched, when a loss is not finite.
    """
    batches = conversation_batches(rows, pad_id, recipe.batch_size, seed=seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    scheduler = warmup_linear(optimizer, recipe.epochs * len(batches))
    return train(model, batches, optimizer, scheduler, epochs=recipe.epochs, progress=progress)
