"""The exercises of lesson 02: counting parameters, test rows enough, and a scheduler that stands still."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR

from helpers.checks import Wrong, exercise, expect, expect_calls, returned
from helpers.models import HeadClassifier

STEPS = 6
RATE = 0.5


@exercise(
    "02.1",
    hints=[
        "A linear layer from n to m numbers has n x m weights and m biases. A normalisation has 2 numbers per feature.",
        "The block has four linear layers of hidden to hidden (query, key, value, output), one from hidden to inner, "
        "one from inner back to hidden, and two normalisations.",
        "return 4 * (hidden * hidden + hidden) + (hidden * inner + inner) + (inner * hidden + hidden) + 2 * 2 * hidden",
    ],
)
def block_parameters(answer: Callable) -> None:
    """answer(hidden, inner): the parameters of one transformer block; torch's own layer is counted beside it."""
    layers = {
        (hidden, inner): nn.TransformerEncoderLayer(hidden, nhead=4, dim_feedforward=inner)
        for hidden, inner in ((8, 16), (128, 512), (64, 80))
    }
    counts = [(sizes, sum(one.numel() for one in layer.parameters())) for sizes, layer in layers.items()]
    expect_calls(answer, "block_parameters", counts)


@exercise(
    "02.2",
    hints=[
        "The interval's half width is about 1.96 times the standard error of a share, "
        "sqrt(accuracy * (1 - accuracy) / rows).",
        "Set 1.96 * sqrt(accuracy * (1 - accuracy) / rows) equal to half_width and solve for rows.",
        "return math.ceil(1.96**2 * accuracy * (1 - accuracy) / half_width**2)",
    ],
)
def rows_needed(answer: Callable) -> None:
    """answer(accuracy, half_width): test rows for an interval of accuracy +- half_width."""
    for given in ((0.9, 0.01), (0.9, 0.02), (0.5, 0.05)):
        accuracy, half_width = given
        wanted = 1.96**2 * accuracy * (1 - accuracy) / half_width**2
        case, tolerance = (given, math.ceil(wanted)), 0.01 * wanted + 1
        expect_calls(answer, "rows_needed", [case], tolerance, note=" (anything within 1 % passes)")


@exercise(
    "02.3",
    hints=[
        "Follow the learning rate: which line of the loop could change it?",
        "A scheduler changes nothing when it is made. It changes the optimizer's learning rate each time its `step` is "
        "called, and ours counts in batches.",
        "Call `scheduler.step()` inside the loop, right after `optimizer.step()`.",
    ],
)
def stepped_schedule(answer: Callable) -> None:
    """answer(model, batches, optimizer, scheduler): trains and returns the learning rate of every step."""
    model, batches, optimizer, scheduler = _toy()
    start = model.head.weight.detach().clone()
    rates = returned(answer(model, batches, optimizer, scheduler), "the list of learning rates")
    if torch.equal(model.head.weight, start):
        raise Wrong("the weights did not move: are loss.backward() and optimizer.step() still there?")
    if scheduler.last_epoch == 0:
        raise Wrong("the learning rate is the same at every step: nothing tells the scheduler that a step has passed")
    if scheduler.last_epoch != STEPS:
        raise Wrong(f"the scheduler was stepped {scheduler.last_epoch} times in {STEPS} batches: it counts batches")
    wanted = [RATE * (1 - step / STEPS) for step in range(STEPS)]
    note = " (the first batch should be trained with the first rate: optimizer.step() comes first)"
    expect("the learning rate of each step", list(rates), wanted, note=note)
    twin, batches, optimizer, scheduler = _toy()
    for batch in batches:
        twin(**batch).loss.backward()
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
    expect("the trained weights", model.head.weight, twin.head.weight)


def _toy() -> tuple[HeadClassifier, list[dict[str, torch.Tensor]], SGD, LambdaLR]:
    """A head on random features, six batches, and a rate that falls in a line to zero."""
    generator = torch.Generator().manual_seed(0)
    head = nn.Linear(4, 2)
    with torch.no_grad():
        head.weight.copy_(torch.randn(2, 4, generator=generator))
        head.bias.zero_()
    features = torch.randn(STEPS, 8, 4, generator=generator)
    batches = [{"features": batch, "labels": (batch.sum(dim=1) > 0).long()} for batch in features]
    optimizer = SGD(head.parameters(), lr=RATE)
    return HeadClassifier(head), batches, optimizer, LambdaLR(optimizer, lambda step: 1 - step / STEPS)
