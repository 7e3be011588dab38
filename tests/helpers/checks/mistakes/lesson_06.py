"""Answers to the exercises of lesson 06: right ones, and mistakes with what the check says to them."""

from __future__ import annotations

import copy

import torch


def loss(sign=1.0, reference=1.0, scaled=True, mean=False, parts=3):
    """The loss of exercise 06.1 with one thing done wrongly."""

    def dpo_loss(policy_chosen, policy_rejected, reference_chosen, reference_rejected, beta):
        beta = beta if scaled else 1.0
        chosen = beta * (policy_chosen - reference * reference_chosen)
        rejected = beta * (policy_rejected - reference * reference_rejected)
        losses = -torch.nn.functional.logsigmoid(sign * (chosen - rejected))
        return (losses.mean() if mean else losses, chosen, rejected)[:parts]

    return dpo_loss


def gradients(sign=1.0, scaled=True, side=1.0):
    """The derivatives of exercise 06.2 with one thing done wrongly."""

    def loss_gradients(chosen, rejected, beta):
        weight = (beta if scaled else 1.0) * torch.sigmoid(side * (rejected - chosen))
        return -sign * weight, sign * weight

    return loss_gradients


def loop(*, reference="copy", step=True, returns=True):
    """The loop of exercise 06.3 with one thing done wrongly."""

    def train(policy, batches, loss_of, optimizer):
        fixed = policy if reference == "same" else copy.deepcopy(policy)
        losses = []
        for batch in batches:
            loss = loss_of(policy, fixed, batch)
            losses.append(loss.item())
            loss.backward()
            if step:
                optimizer.step()
            optimizer.zero_grad()
            if reference == "late":
                fixed = copy.deepcopy(policy)
        return losses if returns else None

    return train


RIGHT = {"06.1": loss(), "06.2": gradients(), "06.3": loop()}

MISTAKES = [
    ("06.1", loss(reference=0.0), "the reference is left out"),
    ("06.1", loss(scaled=False), "beta is left out"),
    ("06.1", loss(sign=-1.0), "you prefer the rejected answer"),
    ("06.1", loss(mean=True), "should have the shape|that is the mean|shape"),
    ("06.1", loss(parts=1), "three tensors"),
    ("06.2", gradients(sign=-1.0), "the sign is wrong"),
    ("06.2", gradients(scaled=False), "beta is missing"),
    ("06.2", gradients(side=-1.0), "ranked rightly needs less"),
    ("06.2", lambda *_: torch.zeros(5), "two tensors"),
    ("06.3", loop(reference="same"), "stands at ln 2"),
    ("06.3", loop(reference="late"), "stands at ln 2"),
    ("06.3", loop(step=False), "did not move"),
    ("06.3", loop(returns=False), "returns None"),
    ("06.3", lambda *_: [0.5], "one loss per batch"),
]
