"""Answers to the exercises of lesson 03: right ones, and mistakes with what the check says to them."""

from __future__ import annotations

from helpers.intervals import paired_bootstrap


def fewest(curve, target):
    return min((size for size, accuracy in curve.items() if accuracy >= target), default=None)


def stop(losses, patience, *, first=1, strict=True, late=0):
    best = 0
    for at, loss in enumerate(losses):
        if loss < losses[best] or (not strict and loss == losses[best]):
            best = at
        if at - best >= patience + late:
            return at + first, best + first
    return len(losses) - 1 + first, best + first


def report(first, second, part="test"):
    gap = paired_bootstrap(first[part], second[part])
    if gap.low > 0:
        return "first"
    return "second" if gap.high < 0 else "neither"


def by_decimals(first, second):
    return "first" if first["test"].mean() > second["test"].mean() else "second"


RIGHT = {"03.1": fewest, "03.2": stop, "03.3": report}

MISTAKES = [
    ("03.1", lambda curve, target: next(size for size in curve if curve[size] >= target), "should be 50"),
    ("03.1", lambda curve, target: min([s for s in curve if curve[s] > target], default=None), "should be 50"),
    ("03.1", lambda curve, target: min([s for s in curve if curve[s] >= target], default=0), "should be None"),
    ("03.2", lambda losses, patience: stop(losses, patience, first=0), "count from 1"),
    ("03.2", lambda losses, patience: stop(losses, patience, late=1), "should be"),
    ("03.2", lambda losses, patience: stop(losses, patience, strict=False), "should be"),
    ("03.2", lambda losses, _: (len(losses), losses.index(min(losses)) + 1), "should be"),
    ("03.3", lambda first, second: report(first, second, "train"), "by heart"),
    ("03.3", by_decimals, "255"),
    ("03.3", lambda *_: "neither", "should say"),
]
