"""Answers to the exercises of lesson 05: right ones, and mistakes with what the check says to them."""

from __future__ import annotations

import torch

from helpers.ppo import masked_mean


def loss(sign=1.0, margin=1.0, square="sum"):
    """The loss of exercise 05.1 with one thing done wrongly."""

    def reward_loss(chosen, rejected, margins, centering):
        apart = sign * (chosen - rejected) - margin * margins
        squared = {"sum": chosen + rejected, "difference": chosen - rejected, "none": torch.zeros(1)}[square] ** 2
        return -torch.nn.functional.logsigmoid(apart).mean() + centering * squared.mean()

    return reward_loss


def advantages(masked=True, carried=True, faded=True, padding=0.0, returns="sum"):
    """The advantages of exercise 05.2 with one thing done wrongly."""

    def advantages_and_returns(rewards, values, mask, gamma, gae_lambda):
        found = torch.zeros_like(rewards)
        running = following = torch.zeros(len(rewards))
        gamma = gamma if faded else 1.0
        for step in reversed(range(rewards.shape[1])):
            here = mask[:, step] if masked else 1.0
            surprise = rewards[:, step] + gamma * following - values[:, step]
            running = (surprise + gamma * gae_lambda * carried * running) * here
            following = values[:, step] * here
            found[:, step] = running
        found = found + padding * ~mask
        return found, (found + values) * mask if returns == "sum" else found

    return advantages_and_returns


def clipped(sign=-1.0, take="min", padded=False):
    """The loss of exercise 05.3 with one thing done wrongly."""

    def clipped_surrogate(log_probs, old, advantages, mask, clip):
        ratio = (log_probs - old).exp()
        free, held = ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages
        kinds = {"min": torch.min(free, held), "max": torch.max(free, held), "free": free, "held": held}
        return sign * masked_mean(kinds[take], torch.ones_like(mask) if padded else mask)

    return clipped_surrogate


def leave_one_out(rewards):
    return rewards - (rewards.sum(dim=1, keepdim=True) - rewards) / (rewards.shape[1] - 1)


RIGHT = {"05.1": loss(), "05.2": advantages(), "05.3": clipped(), "05.4": leave_one_out}


MISTAKES = [
    ("05.1", loss(sign=-1.0), "the wrong way round"),
    ("05.1", loss(margin=-1.0), "subtracted from the difference"),
    ("05.1", loss(margin=0.0), "the margin is left out"),
    ("05.1", loss(square="none"), "centering penalty is left out"),
    ("05.1", loss(square="difference"), "centering squares their sum"),
    ("05.2", advantages(masked=False), "still an advantage in the padding"),
    ("05.2", advantages(padding=1.0), "still an advantage in the padding"),
    ("05.2", advantages(carried=False), "do not carry the later surprises"),
    ("05.2", advantages(faded=False), "gamma is missing"),
    ("05.2", advantages(returns="none"), "those are the advantages"),
    ("05.2", lambda rewards, *_: rewards, "two tensors"),
    ("05.3", clipped(sign=1.0), "the sign is wrong"),
    ("05.3", clipped(take="held"), "you clip both ways"),
    ("05.3", clipped(take="free"), "nothing is clipped"),
    ("05.3", clipped(take="max"), "the larger product"),
    ("05.3", clipped(padded=True), "the padding counts too"),
    ("05.4", lambda r: r - r.mean(dim=1, keepdim=True), "the answer itself included"),
    ("05.4", lambda r: r - r.mean(), "other requests too"),
    ("05.4", lambda r: leave_one_out(r).flatten(), r"shape \(3, 4\)"),
]
