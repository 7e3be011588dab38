"""The exercises of lesson 05: a comparison's probability, leave-one-out advantages, a reward in the wrong place."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from helpers.checks import Wrong, called, differs, exercise, expect
from helpers.ppo import token_rewards


@exercise(
    "05.1",
    hints=[
        "Only the difference of the two scores matters; at a difference of 0 the answer is 0.5.",
        "Bradley and Terry put the difference through the sigmoid, 1 / (1 + e^(-x)).",
        "return 1 / (1 + math.exp(score_b - score_a))",
    ],
)
def prefers_a(answer: Callable) -> None:
    """answer(score_a, score_b): how probable it is that A is preferred."""
    for given in ((0.0, 0.0), (3.0, 1.0), (-1.0, 0.5)):
        wanted = 1 / (1 + math.exp(given[1] - given[0]))
        mistakes = {
            "that is how often B is preferred": 1 - wanted,
            "that is the loss, -log of the probability": -math.log(wanted),
        }
        expect(called("prefers_a", given), answer(*given), wanted, mistakes=mistakes)


@exercise(
    "05.2",
    hints=[
        "The sum of the others is the sum of the row without the answer itself.",
        "Divide the sum of the others by how many they are, size - 1, and subtract that mean from the answer's reward.",
        "others = (rewards.sum(dim=1, keepdim=True) - rewards) / (rewards.shape[1] - 1); return rewards - others",
    ],
)
def leave_one_out(answer: Callable) -> None:
    """answer(rewards): (wishes, size) rewards in, advantages out."""
    rewards = torch.tensor([[1.0, 0.0, 0.0, 2.0], [5.0, 5.0, 5.0, 5.0], [-3.0, 0.5, 4.0, 1.0]])
    wanted = rewards - (rewards.sum(dim=1, keepdim=True) - rewards) / 3
    mistakes = {
        "you compare with the mean of the whole group, the answer itself included": rewards
        - rewards.mean(dim=1, keepdim=True),
        "you compare with answers to other wishes too": rewards - rewards.mean(),
    }
    expect("the advantages", answer(rewards.clone()), wanted, mistakes=mistakes)


@exercise(
    "05.3",
    hints=[
        "Which columns belong to the first answer? Look at its row of the mask.",
        "mask.sum(dim=1) - 1 is the place of each answer's last token: one number per row.",
        "rewards[torch.arange(len(scores)), mask.sum(dim=1) - 1] += scores",
    ],
)
def rewards_at_the_end(answer: Callable) -> None:
    """answer(scores, log_probs, reference, mask, kl_coef): the reward of every token."""
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]]).bool()
    scores = torch.tensor([5.0, 7.0, -2.0])
    log_probs, reference = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    given = (scores, log_probs, reference, mask)
    got, wanted = answer(*(part.clone() for part in given), 0.1), token_rewards(*given, 0.1)
    problem = differs("the rewards", got, wanted)
    if problem and torch.is_tensor(got) and got.shape == wanted.shape and got[~mask].abs().sum() > 0:
        raise Wrong(f"{problem}: there is still a reward in the padding, where the mask is False")
    mistakes = {
        "the penalty has the wrong sign, so that leaving the reference pays": token_rewards(*given, -0.1),
        "the KL penalty is gone": token_rewards(*given, 0.0),
    }
    expect("the rewards", got, wanted, mistakes=mistakes)
