"""The exercises of lesson 06: what beta asks of a policy, a win rate with ties, and a reference that moves along."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from helpers.checks import Wrong, called, exercise, expect, returned


@exercise(
    "06.1",
    hints=[
        "The model of preferences says: probability = sigmoid(beta * gap). Solve it for the gap.",
        "The sigmoid's inverse is log(p / (1 - p)), the log-odds.",
        "return math.log(probability / (1 - probability)) / beta",
    ],
)
def needed_gap(answer: Callable) -> None:
    """answer(probability, beta): the gap of log-ratios that makes the chosen answer preferred that often."""
    for probability, beta in ((0.5, 0.1), (0.9, 0.1), (0.9, 1.0), (0.99, 0.3)):
        gap = math.log(probability / (1 - probability))
        mistakes = {"that is the gap of rewards; the rewards are beta times the log-ratios": gap}
        name, got = called("needed_gap", (probability, beta)), answer(probability, beta)
        expect(name, got, gap / beta, tolerance=1e-4, mistakes=mistakes)


@exercise(
    "06.2",
    hints=[
        "Count three kinds of prompts: ours is better, theirs is better, both have the same score.",
        "A win counts 1, a tie 0.5, a loss 0; then take the mean over the prompts.",
        "return ((ours > theirs).double() + 0.5 * (ours == theirs).double()).mean()",
    ],
)
def share_of_wins(answer: Callable) -> None:
    """answer(ours, theirs): scores (prompts,) of two models; how often the first wins, a tie counting half."""
    ours, theirs = torch.tensor([1.0, 1.0, 0.0, 0.5, 1.0]), torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0])
    mistakes = {
        "ties are counted as losses": 0.4,
        "ties are counted as wins": 0.8,
        "the ties are left out; here they count half": 2 / 3,
    }
    expect("the win rate", answer(ours.clone(), theirs.clone()), 0.6, mistakes=mistakes)
    expect("the win rate of a model against itself", answer(ours, ours.clone()), 0.5)


@exercise(
    "06.3",
    hints=[
        "Print the margin of each step. Then ask: from which weights does each of its two terms come?",
        "`reference = policy` gives the same object a second name: what the optimizer changes, the reference sees too.",
        "Put `reference = copy.deepcopy(policy)` before the loop (or compute the reference's numbers before the first "
        "step).",
    ],
)
def still_reference(answer: Callable) -> None:
    """answer(policy, batches, loss_of, optimizer): trains the policy and returns the loss of every step."""
    policy, batches, optimizer = _toy()
    start = policy.weight.detach().clone()
    losses = returned(answer(policy, batches, _toy_loss, optimizer), "the list of losses")
    if len(losses) != len(batches):
        raise Wrong(f"it should return one loss per batch, {len(batches)} in all, not {len(losses)}")
    if torch.equal(policy.weight, start):
        raise Wrong("the policy did not move: are loss.backward() and optimizer.step() still there?")
    if all(abs(loss - math.log(2)) < 1e-6 for loss in losses):
        raise Wrong("the loss still stands at ln 2: the reference moves with the policy")
    expect("the loss of each step", [float(loss) for loss in losses], _right_losses())


def _toy() -> tuple[nn.Linear, list[Tensor], torch.optim.SGD]:
    """Four answers that a linear layer scores; the first is chosen, the second rejected."""
    policy = nn.Linear(3, 4)
    with torch.no_grad():
        policy.weight.copy_(torch.randn(4, 3, generator=torch.Generator().manual_seed(0)))
        policy.bias.zero_()
    batches = list(torch.randn(6, 5, 3, generator=torch.Generator().manual_seed(1)))  # six of (prompts, 3)
    return policy, batches, torch.optim.SGD(policy.parameters(), lr=0.5)


def _toy_loss(policy: nn.Module, reference: nn.Module, batch: Tensor) -> Tensor:
    """The DPO loss of the toy, with beta 0.5."""
    ours = policy(batch).log_softmax(dim=-1)  # (prompts, answers)
    with torch.no_grad():
        theirs = reference(batch).log_softmax(dim=-1)
    ratios = ours - theirs
    return -nn.functional.logsigmoid(0.5 * (ratios[:, 0] - ratios[:, 1])).mean()


def _right_losses() -> list[float]:
    policy, batches, optimizer = _toy()
    reference = copy.deepcopy(policy)
    losses = []
    for batch in batches:
        loss = _toy_loss(policy, reference, batch)
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return losses
