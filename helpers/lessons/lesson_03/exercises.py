"""The exercises of lesson 03: when to stop, a forgetting probe, a choice, two detectors of leaks, a report to fix."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from helpers.checks import Wrong, attempted, called, exercise, expect, parts_of, returned
from helpers.language_model import IGNORED
from helpers.own_data import duplicates

Right = dict[str, Tensor]


@exercise(
    "03.1",
    hints=[
        "Walk through the losses and remember where the best so far is. Then count how many epochs came after it.",
        "An epoch is better when its loss is below the best so far minus min_delta. Stop when len(losses) - 1 - best "
        "is at least patience; Python counts from 0, the answer from 1.",
        "best = 0; for at, loss in enumerate(losses): if loss < losses[best] - min_delta: best = at. After the loop: "
        "return len(losses) - 1 - best >= patience, best + 1",
    ],
)
def early_stop(answer: Callable) -> None:
    """answer(losses, patience, min_delta): whether to stop now, and the best epoch, from 1."""
    cases = (
        (([0.6, 0.5, 0.55], 2), (False, 2)),
        (([0.6, 0.5, 0.55, 0.52], 2), (True, 2)),
        (([0.6, 0.5, 0.4, 0.3], 2), (False, 4)),
        (([0.5, 0.5, 0.5], 2), (True, 1)),
        (([0.6, 0.595, 0.5, 0.495, 0.49], 2, 0.02), (True, 3)),
    )
    for given, wanted in cases:
        name = called("early_stop", given)
        got = parts_of(
            answer(list(given[0]), *given[1:]), 2, f"{name} should be two things, whether to stop and an epoch"
        )
        expect(f"whether {name} stops", bool(got[0]), wanted[0])
        mistakes = {"that counts from 0; count from 1": wanted[1] - 1}
        expect(f"the best epoch of {name}", got[1], wanted[1], mistakes=mistakes)


class _Probed(nn.Module):
    """Its loss is one nat for each hidden token that is not a 7, and half a nat more in training mode."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> SimpleNamespace:
        hidden = labels != IGNORED
        return SimpleNamespace(loss=(labels[hidden] != 7).double().mean() + 0.5 * self.training)


@exercise(
    "03.2",
    hints=[
        "A batch that hides ten words should count ten times as much as one that hides a single word.",
        "For each batch: count the hidden words, (batch['labels'] != IGNORED).sum(), and add loss times count. Divide "
        "the sum by the number of hidden words at the end. language_model.eval() comes first.",
        "total += language_model(**batch).loss.item() * hidden; count += hidden; after the loop return total / count",
    ],
)
def masked_word_loss(answer: Callable) -> None:
    """answer(language_model, batches): the mean loss per hidden token over all batches, without dropout."""
    labels = [[7] * 9 + [IGNORED], [5] + [IGNORED] * 9, [7, 5] * 3 + [IGNORED] * 4]
    batches = []
    for row in labels:
        ids = torch.tensor([row])
        batches.append({"input_ids": ids.clamp(min=0), "attention_mask": torch.ones_like(ids), "labels": ids})
    probed = _Probed().train()
    mistakes = {
        "that is the mean of the batches' means: weight each batch by its hidden words": 0.5,
        "the model is still in training mode: call language_model.eval() first": 0.75,
        "that weights a batch by its tokens, hidden or not": 0.5,
    }
    got = returned(answer(probed, batches), "the mean loss as a number")
    expect("the loss per hidden token", float(got), 0.25, mistakes=mistakes)


@exercise(
    "03.3",
    hints=[
        "First throw out every setting that breaks the budget with at least one seed. Then compare what is left.",
        "A setting may stay if max(rises) <= budget. Among those take the highest mean accuracy; if nothing stayed, "
        "return None.",
        "allowed = {name: sum(accuracies) / len(accuracies) for name, (accuracies, rises) in points.items() if "
        "max(rises) <= budget}; return max(allowed, key=allowed.get, default=None)",
    ],
)
def best_setting(answer: Callable) -> None:
    """answer(points, budget): the setting with the best mean accuracy whose rise keeps the budget with every seed."""
    points = {
        "plain": ([0.90, 0.92, 0.91], [4.0, 3.0, 5.0]),
        "low": ([0.70, 0.72, 0.71], [0.1, 0.2, 0.1]),
        "uneven": ([0.89, 0.90, 0.88], [0.1, 0.1, 0.9]),
        "even": ([0.84, 0.80, 0.86], [0.5, 0.4, 0.5]),
        "one lucky seed": ([0.95, 0.70, 0.75], [0.2, 0.3, 0.4]),
    }
    for budget, wanted, why in (
        (10.0, "plain", "every setting keeps that budget, so accuracy decides"),
        (1.0, "uneven", "of the settings within the budget, the one with the highest mean accuracy"),
        (0.5, "even", '"uneven" breaks the budget with its third seed, a rise of exactly 0.5 keeps it, and what '
         "counts is the mean accuracy"),
        (0.4, "one lucky seed", "only two settings stay within the budget with every seed"),
        (0.05, None, "no setting keeps that budget"),
    ):  # fmt: skip
        given = {name: (list(accuracies), list(rises)) for name, (accuracies, rises) in points.items()}
        got = attempted(answer(given, budget))
        if wanted is not None:
            returned(got, "the name of a setting")
        if got != wanted:
            raise Wrong(f"with a budget of {budget} nats it returns {got!r}; it should return {wanted!r}: {why}")


@exercise(
    "03.4",
    hints=[
        "Decide group by group, not row by row: draw the order of the groups, and send whole groups to the test.",
        "list(dict.fromkeys(groups)) gives the groups in the order of their first row. Stop before a group when the "
        "test already has share * len(groups) rows.",
        "for name in np.random.default_rng(seed).permutation(names): if len(test) >= share * len(groups): break; "
        "test += [row for row, group in enumerate(groups) if group == name]. Training gets the other rows.",
    ],
)
def grouped_split(answer: Callable) -> None:
    """answer(groups, share, seed): row numbers for training and for the test, no group on both sides."""
    for groups, share, seed in ((list("aabbbccdd"), 0.3, 0), (list("abcabcabca"), 0.5, 1), (list("xxxxxyz"), 0.2, 3)):
        name = called("grouped_split", (groups, share, seed))
        train, test = parts_of(answer(list(groups), share, seed), 2, f"{name} should be two lists of row numbers")
        train, test = [int(row) for row in train], [int(row) for row in test]
        if sorted(train + test) != list(range(len(groups))):
            raise Wrong(f"{name} should put every row on exactly one side")
        both = sorted({groups[row] for row in train} & {groups[row] for row in test})
        if both:
            raise Wrong(f"{name} puts the group {both[0]!r} on both sides")
        wanted = duplicates.grouped_split(groups, share, seed)
        if len(test) < share * len(groups):
            raise Wrong(f"{name} gives {len(test)} test rows, fewer than {share:.0%} of {len(groups)}")
        expect(f"the training rows of {name}", train, wanted[0])
        expect(f"the test rows of {name}", test, wanted[1])


@exercise(
    "03.5",
    hints=[
        "First turn every text into a set of shingles, tuples of three words in a row; then compare sets.",
        "own = words(text); {tuple(own[at : at + 3]) for at in range(max(1, len(own) - 2))} are the shingles. The "
        "similarity of two sets is len(one & other) / len(one | other).",
        "for j, other in enumerate(shingles): for i, one in enumerate(shingles[:j]): if len(one & other) >= threshold "
        "* len(one | other): pairs.append((i, j)). Return sorted(pairs).",
    ],
)
def near_duplicates(answer: Callable) -> None:
    """answer(texts, threshold): all pairs (i, j), i < j, whose shingles have at least this Jaccard similarity."""
    cases = (
        (["One, two three FOUR.", "one two three four", "four three two one"], 1.0, "capitals and punctuation"),
        (["a b c d e f", "x", "a b c d e g", "a b c d"], 0.5, "shingles shared, divided by those that either has"),
        (["a b c d e f", "x", "a b c d e g", "a b c d"], 0.65, "shingles of three words; shared by those of either"),
        (["Two words", "two words!", "two other", "two words more"], 0.9, "a short text is one shingle"),
    )
    for texts, threshold, note in cases:
        got = returned(answer(list(texts), threshold), "a list of pairs")
        wanted = [(pair.first, pair.second) for pair in duplicates.near_duplicates(texts, threshold)]
        got = [tuple(map(int, pair)) for pair in got]
        if any(one >= other for one, other in got):
            raise Wrong(f"{called('near_duplicates', (texts, threshold))} should have pairs (i, j) with i < j only")
        expect(called("near_duplicates", (texts, threshold)), got, wanted, note=f" ({note})")


@exercise(
    "03.6",
    hints=[
        "On which rows is the score computed? And what would another three hundred rows have said?",
        "Use the test rows. The two models answered the same rows, so draw them in pairs: paired_bootstrap gives an "
        "interval of the difference. If 0 lies inside it, the data do not say which is better.",
        'gap = paired_bootstrap(first["test"], second["test"]); "first" if gap.low > 0, "second" if gap.high < 0, '
        'else "neither"',
    ],
)
def careful_report(answer: Callable) -> None:
    """answer(first, second): split -> (rows,) of 0/1; "first", "second" or "neither"."""
    by_heart, poor, good = _right(300, 300), _right(200, 300), _right(270, 300)
    close, closer = _right(255, 300), _right(256, 300, shift=7)
    for first, second, wanted, why in (
        (
            {"train": by_heart, "test": poor},
            {"train": poor, "test": good},
            "second",
            "the first knows its training rows by heart, and is far worse on the test rows",
        ),
        ({"train": poor, "test": good}, {"train": good, "test": poor}, "first", "it is far better on the test rows"),
        (
            {"train": good, "test": close},
            {"train": good, "test": closer},
            "neither",
            "255 against 256 of 300 right is no difference that other rows would show again",
        ),
        (
            {"train": good, "test": closer},
            {"train": by_heart, "test": close},
            "neither",
            "256 against 255 of 300 right is no difference that other rows would show again",
        ),
    ):
        got = attempted(answer(first, second))
        if got not in ("first", "second", "neither"):
            raise Wrong(f'it should return "first", "second" or "neither", not {got!r}')
        if got != wanted:
            raise Wrong(f'it says "{got}" where it should say "{wanted}": {why}')


def _right(count: int, rows: int, shift: int = 0) -> Tensor:
    """`count` of `rows` right, spread evenly, so that models err on different rows."""
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(shift))
    right = torch.zeros(rows, dtype=torch.double)
    right[order[:count]] = 1.0
    return right
