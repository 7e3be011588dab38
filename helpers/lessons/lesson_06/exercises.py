"""The exercises of lesson 06: the DPO loss, its gradient, three relatives, and a reference that moves along."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from helpers.checks import Wrong, exercise, expect, parts_of, returned
from helpers.dpo import dpo_loss
from helpers.lessons.lesson_06.experiment import relative_losses


@exercise(
    "06.1",
    hints=[
        "An implicit reward is beta times a log-ratio: the policy's log-probability minus the reference's.",
        "The loss of a pair is -log(sigmoid(chosen reward - rejected reward)); nn.functional.logsigmoid is the stable "
        "way to write it.",
        "chosen = beta * (policy_chosen - reference_chosen); rejected = beta * (policy_rejected - reference_rejected); "
        "return -nn.functional.logsigmoid(chosen - rejected), chosen, rejected",
    ],
)
def loss_of_dpo(answer: Callable) -> None:
    """answer(policy_chosen, policy_rejected, reference_chosen, reference_rejected, beta): three tensors (batch,)."""
    draw = torch.randn(4, 5, generator=torch.Generator().manual_seed(0)) * 3 - 20
    chosen, rejected, reference_chosen, reference_rejected = draw
    four = chosen, rejected, reference_chosen, reference_rejected
    names = ("the losses", "the rewards of the chosen answers", "the rewards of the rejected answers")
    for beta in (1.0, 0.1):
        got = parts_of(
            returned(answer(*(part.clone() for part in four), beta), "losses and rewards"), 3,
            "it should return three tensors: losses, chosen rewards, rejected rewards",
        )  # fmt: skip
        wanted = dpo_loss(*four, beta)
        without = -nn.functional.logsigmoid(beta * (chosen - rejected))
        mistakes = {
            "the reference is left out": without,
            "beta is left out": dpo_loss(*four, 1.0)[0],
            "you prefer the rejected answer": dpo_loss(rejected, chosen, reference_rejected, reference_chosen, beta)[0],
            "that is the mean; return the loss of each pair": wanted[0].mean(),
        }
        for name, one, right in zip(names, got, wanted, strict=True):
            expect(f"{name} with beta {beta:g}", one, right, mistakes=mistakes if name == "the losses" else None)


@exercise(
    "06.2",
    hints=[
        "The derivative of -log(sigmoid(m)) is -sigmoid(-m).",
        "m = chosen_rewards - rejected_rewards, and a reward is beta times the log-probability minus a constant: the "
        "chain rule gives beta for the chosen answer and -beta for the rejected one.",
        "weight = beta * torch.sigmoid(rejected_rewards - chosen_rewards); return -weight, weight",
    ],
)
def gradients_of_dpo(answer: Callable) -> None:
    """answer(chosen_rewards, rejected_rewards, beta): the derivatives by both log-probabilities, (batch,) each."""
    names = ("the derivative by log pi(chosen)", "the derivative by log pi(rejected)")
    for beta in (1.0, 0.3):
        policy = (torch.randn(2, 5, generator=torch.Generator().manual_seed(1)) * 2).requires_grad_()
        nothing = torch.zeros(5)
        losses, *rewards = dpo_loss(policy[0], policy[1], nothing, nothing, beta)
        (wanted,) = torch.autograd.grad(losses.sum(), policy)
        chosen, rejected = (reward.detach() for reward in rewards)
        got = parts_of(
            returned(answer(chosen.clone(), rejected.clone(), beta), "two derivatives"), 2,
            "it should return two tensors, the two derivatives",
        )  # fmt: skip
        for sign, name, one, right in zip((-1.0, 1.0), names, got, wanted, strict=True):
            mistakes = {
                "the sign is wrong": -right,
                "beta is missing: the derivative of a reward by a log-probability is beta": right / beta,
                "you took sigmoid(m); a pair that is ranked rightly needs less, so it is sigmoid(-m)": sign
                * beta
                * torch.sigmoid(chosen - rejected),
            }
            expect(f"{name}, beta {beta:g},", one, right, mistakes=mistakes)


@exercise(
    "06.3",
    hints=[
        "ratios = policy - reference, (2, batch). IPO and SimPO divide by the lengths, robust DPO does not.",
        "SimPO has no reference: policy / lengths takes the place of the log-ratios.",
        "Robust DPO is -((1 - epsilon) * logsigmoid(m) - epsilon * logsigmoid(-m)) / (1 - 2 * epsilon), with "
        "m = beta * (ratios[0] - ratios[1]); IPO is (per_token[0] - per_token[1] - 1 / (2 * beta)) ** 2.",
    ],
)
def three_relatives(answer: Callable) -> None:
    """answer(policy, reference, lengths, beta, epsilon, gamma): the losses of IPO, robust DPO and SimPO, (batch,)."""
    generator = torch.Generator().manual_seed(2)
    policy, reference = torch.randn(2, 2, 5, generator=generator) * 3 - 20
    lengths = torch.randint(3, 12, (2, 5), generator=generator)
    for beta, epsilon, gamma in ((0.1, 0.1, 0.5), (2.0, 0.3, 1.5)):
        got = parts_of(
            returned(answer(policy.clone(), reference.clone(), lengths.clone(), beta, epsilon, gamma), "three losses"),
            3, "it should return three tensors: the losses of IPO, robust DPO and SimPO",
        )  # fmt: skip
        wanted = relative_losses(policy, reference, lengths, beta, epsilon, gamma)
        whole = relative_losses(policy, reference, torch.ones_like(lengths), beta, epsilon, gamma)
        no_reference = relative_losses(policy, torch.zeros_like(reference), lengths, beta, epsilon, gamma)
        against = relative_losses(policy - reference, torch.zeros_like(reference), lengths, beta, epsilon, gamma)
        margin = beta * ((policy - reference)[0] - (policy - reference)[1])
        log_sigmoid = nn.functional.logsigmoid
        smoothed = -(1 - epsilon) * log_sigmoid(margin) - epsilon * log_sigmoid(-margin)
        mistakes = (
            {"the lengths are left out": whole[0], "the reference is left out": no_reference[0]},
            {
                "that is plain label smoothing": smoothed,
                "the division by 1 - 2 epsilon is missing": wanted[1] * (1 - 2 * epsilon),
            },
            {"the lengths are left out": whole[2], "SimPO has no reference": against[2]},
        )
        for name, one, right, known in zip(("IPO", "robust DPO", "SimPO"), got, wanted, mistakes, strict=True):
            expect(f"the losses of {name}, beta {beta:g},", one, right, mistakes=known)


@exercise(
    "06.4",
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
