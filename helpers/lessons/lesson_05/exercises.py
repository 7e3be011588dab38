"""The exercises of lesson 05: the reward model's loss, GAE, PPO's clipped objective, leave-one-out advantages."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from helpers import ppo
from helpers.checks import Wrong, differs, exercise, expect, parts_of, returned


@exercise(
    "05.1",
    hints=[
        "The chosen answer has to win by its margin: subtract the margin from the difference before the sigmoid.",
        "nn.functional.logsigmoid(difference) is log(sigmoid(difference)); the loss is minus its mean. The second "
        "part is the mean of (chosen + rejected) squared, times `centering`.",
        "return -nn.functional.logsigmoid(chosen - rejected - margins).mean() "
        "+ centering * ((chosen + rejected) ** 2).mean()",
    ],
)
def loss_of_a_reward_model(answer: Callable) -> None:
    """answer(chosen, rejected, margins, centering): scores (batch,) in, the loss out."""
    chosen, rejected, margins = torch.tensor([[2.0, -1.0, 0.5], [0.0, 0.5, -3.0], [0.0, 1.0, 2.0]])

    def loss(minus: Tensor, centering: float) -> float:
        apart = chosen - rejected - minus
        return (-nn.functional.logsigmoid(apart).mean() + centering * ((chosen + rejected) ** 2).mean()).item()

    nothing = torch.zeros(3)
    flipped = (-nn.functional.logsigmoid(rejected - chosen).mean()).item()
    mistakes = {"you prefer the rejected answer: the difference is the wrong way round": flipped}
    expect("the loss without margin and centering", answer(chosen, rejected, nothing, 0.0), loss(nothing, 0.0),
           mistakes=mistakes)  # fmt: skip
    mistakes = {
        "the margin makes the loss smaller here: it has to be subtracted from the difference": loss(-margins, 0.0),
        "the margin is left out": loss(nothing, 0.0),
    }
    expect("the loss with margins", answer(chosen, rejected, margins, 0.0), loss(margins, 0.0), mistakes=mistakes)
    apart = ((chosen - rejected) ** 2).mean().item()
    mistakes = {
        "the centering penalty is left out": loss(margins, 0.0),
        "you square the difference of the two scores; centering squares their sum": loss(margins, 0.0) + 0.1 * apart,
    }
    got = answer(chosen, rejected, margins, 0.1)
    expect("the loss with centering 0.1", got, loss(margins, 0.1), mistakes=mistakes)
    expect("the loss as a single number", tuple(torch.as_tensor(got).shape), ())


@exercise(
    "05.2",
    hints=[
        "Go through the positions from the last to the first, and carry the advantage of the position after this one.",
        "surprise = rewards[:, step] + gamma * next_value - values[:, step]; "
        "running = (surprise + gamma * gae_lambda * running) * mask[:, step]; next_value = values[:, step] * mask[:, "
        "step].",
        "Start with running = next_value = torch.zeros_like(rewards[:, 0]), put `running` into advantages[:, step], "
        "and return advantages, (advantages + values) * mask.",
    ],
)
def generalized_advantages(answer: Callable) -> None:
    """answer(rewards, values, mask, gamma, gae_lambda): advantages and returns, each (batch, new)."""
    rewards, values = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 0]]).bool()
    rewards = rewards * mask
    for gamma, fade in ((1.0, 0.0), (1.0, 0.95), (0.9, 0.5)):
        given = (rewards, values, mask)
        got = parts_of(
            returned(answer(*(part.clone() for part in given), gamma, fade), "advantages and returns"), 2,
            "it should return two tensors, the advantages and the returns",
        )  # fmt: skip
        wanted = ppo.advantages_and_returns(*given, gamma, fade)
        where = f"the advantages with gamma {gamma:g} and lambda {fade:g}"
        problem = differs(where, got[0], wanted[0])
        if problem and torch.is_tensor(got[0]) and got[0].shape == mask.shape and got[0][~mask].abs().sum() > 0:
            raise Wrong(f"{problem}: there is still an advantage in the padding, where the mask is False")
        mistakes = {
            "the mask is left out: the value of a padded position enters": ppo.advantages_and_returns(
                rewards, values, torch.ones_like(mask), gamma, fade
            )[0],
            "you do not carry the later surprises": ppo.advantages_and_returns(*given, gamma, 0.0)[0],
            "gamma is missing": ppo.advantages_and_returns(*given, 1.0, fade)[0],
        }
        expect(where, got[0], wanted[0], mistakes=mistakes)
        expect("the returns", got[1], wanted[1], mistakes={"those are the advantages": wanted[0]})


@exercise(
    "05.3",
    hints=[
        "The ratio is exp(log_probs - old); the clipped one is ratio.clamp(1 - clip, 1 + clip).",
        "Multiply each with the advantages and take the smaller of the two products, token by token: torch.min(a, b).",
        "ratio = torch.exp(log_probs - old)\n"
        "limited = ratio.clamp(1 - clip, 1 + clip)\n"
        "return -masked_mean(torch.min(ratio * advantages, limited * advantages), mask)",
    ],
)
def clipped(answer: Callable) -> None:
    """answer(log_probs, old, advantages, mask, clip): the loss, a scalar; all tensors (batch, new)."""
    ratio = torch.tensor([[0.5, 1.5, 1.1, 9.0], [1.5, 0.5, 0.9, 1.0]])
    advantages = torch.tensor([[1.0, 2.0, -1.0, 5.0], [-3.0, -1.0, 0.5, 0.0]])
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]]).bool()
    old = torch.full((2, 4), -2.0)
    given = (ratio.log() + old, old, advantages)
    limited = ratio.clamp(0.8, 1.2)
    mistakes = {
        "the sign is wrong: the objective grows, so the loss is minus it": -ppo.clipped_surrogate(*given, mask, 0.2),
        "you clip both ways; where the unclipped product is smaller, it has to count": -ppo.masked_mean(
            limited * advantages, mask
        ),
        "nothing is clipped": -ppo.masked_mean(ratio * advantages, mask),
        "you take the larger product, not the smaller one": -ppo.masked_mean(
            torch.max(ratio * advantages, limited * advantages), mask
        ),
        "the padding counts too": ppo.clipped_surrogate(*given, torch.ones_like(mask), 0.2),
    }
    got = answer(*(part.clone() for part in given), mask, 0.2)
    expect("the loss", got, ppo.clipped_surrogate(*given, mask, 0.2), mistakes=mistakes)


@exercise(
    "05.4",
    hints=[
        "The sum of the others is the sum of the row without the answer itself.",
        "Divide the sum of the others by how many they are, size - 1, and subtract that mean from the answer's reward.",
        "others = (rewards.sum(dim=1, keepdim=True) - rewards) / (rewards.shape[1] - 1); return rewards - others",
    ],
)
def leave_one_out(answer: Callable) -> None:
    """answer(rewards): (requests, size) rewards in, advantages out."""
    rewards = torch.tensor([[1.0, 0.0, 0.0, 2.0], [5.0, 5.0, 5.0, 5.0], [-3.0, 0.5, 4.0, 1.0]])
    wanted = rewards - (rewards.sum(dim=1, keepdim=True) - rewards) / 3
    mistakes = {
        "you compare with the mean of the whole group, the answer itself included": rewards
        - rewards.mean(dim=1, keepdim=True),
        "you compare with answers to other requests too": rewards - rewards.mean(),
    }
    expect("the advantages", answer(rewards.clone()), wanted, mistakes=mistakes)
