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


def relatives(*, per_token=True, reference=1.0, subtract=0.0, smoothed=False, divided=True, parts=3):
    """The losses of exercise 06.3 with one thing done wrongly."""

    def relative_losses(policy, start, lengths, beta, epsilon, gamma):
        log_sigmoid, ratios = torch.nn.functional.logsigmoid, policy - start
        lengths = lengths if per_token else torch.ones_like(lengths)
        first = (policy - reference * start) / lengths
        ipo = (first[0] - first[1] - 1 / (2 * beta)) ** 2
        margin, sign = beta * (ratios[0] - ratios[1]), -1 if smoothed else 1
        robust = -((1 - epsilon) * log_sigmoid(margin) - sign * epsilon * log_sigmoid(-margin))
        robust = robust / (1 - 2 * epsilon) if divided and not smoothed else robust
        second = (policy - subtract * start) / lengths
        return (ipo, robust, -log_sigmoid(beta * (second[0] - second[1]) - gamma))[:parts]

    return relative_losses


def loop(*, reference="copy", step=True, returns=True):
    """The loop of exercise 06.4 with one thing done wrongly."""

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


RIGHT = {"06.1": loss(), "06.2": gradients(), "06.3": relatives(), "06.4": loop()}

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
    ("06.3", relatives(per_token=False), "the lengths are left out"),
    ("06.3", relatives(reference=0.0), "the reference is left out"),
    ("06.3", relatives(subtract=1.0), "SimPO has no reference"),
    ("06.3", relatives(smoothed=True), "plain label smoothing"),
    ("06.3", relatives(divided=False), "1 - 2 epsilon"),
    ("06.3", relatives(parts=1), "three tensors"),
    ("06.4", loop(reference="same"), "stands at ln 2"),
    ("06.4", loop(reference="late"), "stands at ln 2"),
    ("06.4", loop(step=False), "did not move"),
    ("06.4", loop(returns=False), "returns None"),
    ("06.4", lambda *_: [0.5], "one loss per batch"),
]
