"""Answers to the exercises of lesson 03: right ones, and mistakes with what the check says to them."""

from __future__ import annotations

import itertools
import re
from functools import partial

import numpy as np

from helpers.intervals import paired_bootstrap
from helpers.own_data.duplicates import grouped_split


def stop(losses, patience, min_delta=0.0, *, first=1, strict=True, late=0, delta=True):
    best = 0
    for at, loss in enumerate(losses):
        bar = losses[best] - min_delta * delta
        if loss < bar or (not strict and loss == bar):
            best = at
    return len(losses) - 1 - best >= patience + late, best + first


def probe(language_model, batches, *, weighted=True, evaluating=True):
    if evaluating:
        language_model.eval()
    parts = [(language_model(**batch).loss.item(), int((batch["labels"] != -100).sum())) for batch in batches]
    weights = [count if weighted else 1 for _, count in parts]
    return sum(loss * weight for (loss, _), weight in zip(parts, weights, strict=True)) / sum(weights)


def setting(points, budget, *, spread=max, score=np.mean, strict=False, least=False):
    allowed = {}
    for name, (accuracies, rises) in points.items():
        if spread(rises) < budget or (not strict and spread(rises) == budget):
            allowed[name] = -spread(rises) if least else score(accuracies)
    return max(allowed, key=allowed.get, default=None)


def by_rows(groups, share, seed):
    order = np.random.default_rng(seed).permutation(len(groups)).tolist()
    most = round(share * len(groups)) + 1
    return sorted(order[most:]), sorted(order[:most])


def one_group(groups, share, seed):
    name = groups[0]
    test = [row for row, group in enumerate(groups) if group == name][:1]
    return [row for row in range(len(groups)) if row not in test], test


def pairs(texts, threshold, *, words=str.lower, size=3, ordered=True, over="union"):
    found = []
    sets = []
    for text in texts:
        own = re.findall(r"\w+", words(text))
        sets.append({tuple(own[at : at + size]) for at in range(max(1, len(own) - size + 1))})
    for i, j in itertools.combinations(range(len(texts)), 2):
        one, other = sets[i], sets[j]
        total = len(one | other) if over == "union" else min(len(one), len(other))
        if len(one & other) >= threshold * total:
            found.append((i, j) if ordered else (j, i))
    return found


def report(first, second, part="test"):
    gap = paired_bootstrap(first[part], second[part])
    if gap.low > 0:
        return "first"
    return "second" if gap.high < 0 else "neither"


def by_decimals(first, second):
    return "first" if first["test"].mean() > second["test"].mean() else "second"


RIGHT = {"03.1": stop, "03.2": probe, "03.3": setting, "03.4": grouped_split, "03.5": pairs, "03.6": report}

MISTAKES = [
    ("03.1", partial(stop, first=0), "count from 1"),
    ("03.1", partial(stop, late=1), "stops should be True"),
    ("03.1", partial(stop, strict=False), "should be"),
    ("03.1", partial(stop, delta=False), "should be"),
    ("03.2", partial(probe, weighted=False), "weight each batch"),
    ("03.2", partial(probe, evaluating=False), "language_model.eval"),
    ("03.2", lambda *_: None, "returns None"),
    ("03.3", partial(setting, spread=np.mean), "breaks the budget with its third seed"),
    ("03.3", partial(setting, spread=min), "budget of 1.0|budget of 0.5"),
    ("03.3", partial(setting, score=max), "mean accuracy|accuracy decides"),
    ("03.3", partial(setting, strict=True), "exactly 0.5"),
    ("03.3", partial(setting, least=True), "accuracy decides"),
    ("03.3", lambda points, budget: setting(points, budget) or "plain", "no setting keeps"),
    ("03.3", lambda *_: None, "returns None"),
    ("03.4", by_rows, "on both sides"),
    ("03.4", one_group, "on both sides|fewer than"),
    ("03.4", lambda groups, share, seed: (list(range(len(groups))), []), "fewer than"),
    ("03.4", lambda groups, share, seed: grouped_split(groups, share, seed)[::-1], "should"),
    ("03.5", partial(pairs, words=str), "should"),
    ("03.5", partial(pairs, size=2), "should"),
    ("03.5", partial(pairs, ordered=False), "i < j"),
    ("03.5", partial(pairs, over="smaller"), "should"),
    ("03.6", lambda first, second: report(first, second, "train"), "by heart"),
    ("03.6", by_decimals, "255"),
    ("03.6", lambda *_: "neither", "should say"),
]
