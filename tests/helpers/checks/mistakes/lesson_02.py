"""Answers to the exercises of lesson 02: right ones, and mistakes with what the check says to them."""

from __future__ import annotations


def loop(*, step_scheduler="each", order="after", step_optimizer=True, clear=True, returns=True):
    """The loop of exercise 02.3 with one thing done wrongly."""

    def train(model, batches, optimizer, scheduler):
        rates = []
        for batch in batches:
            if order == "before":
                scheduler.step()
            rates.append(optimizer.param_groups[0]["lr"])
            model(**batch).loss.backward()
            if step_optimizer:
                optimizer.step()
            if order == "after" and step_scheduler == "each":
                scheduler.step()
            if clear:
                optimizer.zero_grad()
        if step_scheduler == "once":
            scheduler.step()
        return rates if returns else None

    return train


def block(hidden, inner):
    return 4 * (hidden * hidden + hidden) + 2 * hidden * inner + inner + hidden + 4 * hidden


def rows(accuracy, half_width):
    return 1.96**2 * accuracy * (1 - accuracy) / half_width**2


RIGHT = {"02.1": block, "02.2": rows, "02.3": loop()}

MISTAKES = [
    ("02.1", lambda h, i: block(h, i) - 4 * h, r"block_parameters\(8, 16\) should be 600, not 568"),
    ("02.1", lambda h, i: block(h, i) - 5 * h - i, r"block_parameters\(8, 16\) should be 600, not 544"),
    ("02.2", lambda a, w: rows(a, w) / 4, r"rows_needed\(0.9, 0.01\) should be 3458, not 864"),
    ("02.2", lambda a, w: 1.96 * (a * (1 - a)) ** 0.5 / w, r"rows_needed\(0.9, 0.01\) should be 3458, not 58.8"),
    ("02.2", lambda a, w: rows(a, w) / (1 - a) * a, "should be 3458"),
    ("02.3", loop(step_scheduler="never"), "same at every step"),
    ("02.3", loop(step_scheduler="once"), "stepped 1 times in 6 batches"),
    ("02.3", loop(order="before"), "optimizer.step\\(\\) comes first"),
    ("02.3", loop(step_optimizer=False), "weights did not move"),
    ("02.3", loop(clear=False), "trained weights"),
    ("02.3", loop(returns=False), "returns None"),
]
