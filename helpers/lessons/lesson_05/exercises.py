"""The exercises of lesson 05: a comparison's probability, leave-one-out advantages, a reward in the wrong place."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from helpers.checks.compare import attempted, differs
from helpers.checks.registry import exercise
from helpers.ppo import token_rewards


@exercise(
    "05.1",
    hints=[
        "Only the difference of the two scores matters; at a difference of 0 the answer is 0.5.",
        "Bradley and Terry put the difference through the sigmoid, 1 / (1 + e^(-x)).",
        "return 1 / (1 + math.exp(score_b - score_a))",
    ],
)
def prefers_a(answer: Callable[[float, float], float]) -> str | None:
    """answer(score_a, score_b): how probable it is that A is preferred."""
    for score_a, score_b in ((0.0, 0.0), (3.0, 1.0), (-1.0, 0.5)):
        got = attempted(answer(score_a, score_b))
        wanted = 1 / (1 + math.exp(score_b - score_a))
        problem = differs(f"your prefers_a({score_a}, {score_b})", got, wanted)
        if problem and not differs("", got, 1 - wanted):
            return f"{problem}: that is how often B is preferred"
        if problem and not differs("", got, -math.log(wanted)):
            return f"{problem}: that is the loss, -log of the probability"
        if problem:
            return problem
    return None


@exercise(
    "05.2",
    hints=[
        "The sum of the others is the sum of the row without the answer itself.",
        "Divide the sum of the others by how many they are, size - 1, and subtract that mean from the answer's reward.",
        "others = (rewards.sum(dim=1, keepdim=True) - rewards) / (rewards.shape[1] - 1); return rewards - others",
    ],
)
def leave_one_out(answer: Callable[[Tensor], Tensor]) -> str | None:
    """answer(rewards): (wishes, size) rewards in, advantages out."""
    rewards = torch.tensor([[1.0, 0.0, 0.0, 2.0], [5.0, 5.0, 5.0, 5.0], [-3.0, 0.5, 4.0, 1.0]])
    got = attempted(answer(rewards.clone()))
    wanted = rewards - (rewards.sum(dim=1, keepdim=True) - rewards) / 3
    problem = differs("the advantages", got, wanted)
    if problem and not differs("", got, rewards - rewards.mean(dim=1, keepdim=True)):
        return f"{problem}: you compare with the mean of the whole group, the answer itself included"
    if problem and not differs("", got, rewards - rewards.mean()):
        return f"{problem}: you compare with answers to other wishes too"
    return problem


@exercise(
    "05.3",
    hints=[
        "Which columns belong to the first answer? Look at its row of the mask.",
        "mask.sum(dim=1) - 1 is the place of each answer's last token: one number per row.",
        "rewards[torch.arange(len(scores)), mask.sum(dim=1) - 1] += scores",
    ],
)
def mended(answer: Callable[..., Tensor]) -> str | None:
    """answer(scores, log_probs, reference, mask, kl_weight): the reward of every token."""
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]]).bool()
    scores = torch.tensor([5.0, 7.0, -2.0])
    log_probs, reference = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    given = (scores, log_probs, reference, mask, 0.1)
    got = attempted(answer(*(part.clone() if torch.is_tensor(part) else part for part in given)))
    wanted = token_rewards(*given)
    problem = differs("the rewards", got, wanted)
    if problem is None:
        return None
    if torch.is_tensor(got) and got.shape == wanted.shape:
        if got[~mask].abs().sum() > 0:
            return f"{problem}: there is still a reward in the padding, where the mask is False"
        if not differs("", got, token_rewards(scores, log_probs, reference, mask, -0.1)):
            return f"{problem}: the penalty has the wrong sign, so that leaving the reference pays"
        if not differs("", got, token_rewards(scores, log_probs, reference, mask, 0.0)):
            return f"{problem}: the KL penalty is gone"
    return problem
