"""Answers to the exercises of lesson 06: right ones, and mistakes with what the check says to them."""

from __future__ import annotations

import copy
import math


def gap(probability, beta):
    return math.log(probability / (1 - probability)) / beta


def wins(ours, theirs):
    return ((ours > theirs).double() + 0.5 * (ours == theirs).double()).mean()


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


RIGHT = {"06.1": gap, "06.2": wins, "06.3": loop()}

MISTAKES = [
    ("06.1", lambda p, beta: math.log(p / (1 - p)), "beta times the log-ratios"),
    ("06.1", lambda p, beta: p / beta, "should be"),
    ("06.2", lambda ours, theirs: (ours > theirs).double().mean(), "counted as losses"),
    ("06.2", lambda ours, theirs: (ours >= theirs).double().mean(), "counted as wins"),
    ("06.2", lambda ours, theirs: (ours > theirs).sum() / (ours != theirs).sum(), "left out"),
    ("06.3", loop(reference="same"), "stands at ln 2"),
    ("06.3", loop(reference="late"), "stands at ln 2"),
    ("06.3", loop(step=False), "did not move"),
    ("06.3", loop(returns=False), "returns None"),
    ("06.3", lambda *_: [0.5], "one loss per batch"),
]
