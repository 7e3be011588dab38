"""The exercises of lesson 12: what an interval answers, why pairs are compared, and who may be ranked with whom."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from helpers.checks.compare import attempted, differs
from helpers.checks.registry import exercise
from helpers.intervals import mean_t


@exercise(
    "12.1",
    hints=[
        "Draw the interval on a line and mark the threshold. There are three ways in which they can lie.",
        "The whole interval above: yes. The whole interval below: no. In all other cases the seeds cannot tell.",
        'return "yes" if low > threshold else "no" if high < threshold else "open"',
    ],
)
def answer_of(answer: Callable[[float, float, float], str]) -> str | None:
    """answer(low, high, threshold): "yes", "no" or "open" for the claim that the figure is above the threshold."""
    cases = {(0.91, 0.94, 0.9): "yes", (0.85, 0.89, 0.9): "no", (0.89, 0.92, 0.9): "open", (-0.2, 0.6, 0.0): "open"}
    for given, wanted in cases.items():
        got = attempted(answer(*given))
        if isinstance(got, bool):
            return 'it returns True or False, but there are three answers: "yes", "no" and "open"'
        if got != wanted and wanted == "open" and got == ("yes" if sum(given[:2]) / 2 > given[2] else "no"):
            return f"your answer{given} is {got!r}: that is what the middle says; the interval holds the threshold"
        problem = differs(f"your answer{given}", got, wanted)
        if problem:
            return problem
    return None


@exercise(
    "12.2",
    hints=[
        "Both methods had the same seed, hence the same reviews. Which single number does one seed give?",
        "Take the difference seed by seed first, then one interval over the differences.",
        "return mean_t([one - other for one, other in zip(a, b)])",
    ],
)
def paired(answer: Callable[[Sequence[float], Sequence[float]], object]) -> str | None:
    """answer(a, b): the interval of the mean of a - b over seeds, with its `low` and `high`."""
    a, b = [0.95, 0.85, 0.90, 0.80], [0.91, 0.82, 0.85, 0.77]
    wanted = mean_t([one - other for one, other in zip(a, b, strict=True)])
    got = attempted(answer(list(a), list(b)))
    if not hasattr(got, "low"):
        return "it should return an interval, such as mean_t gives"
    apart = mean_t(a).low - mean_t(b).high
    if abs(got.low - apart) < 1e-6:
        return "the two intervals are taken apart and then subtracted: what makes a seed hard for both stays in"
    return differs("the lower end", got.low, wanted.low) or differs("the upper end", got.high, wanted.high)


@exercise(
    "12.3",
    hints=[
        "Look at which rows the sort puts side by side. Did they have the same number of labels?",
        "Sort inside each setting: first collect the rows of a setting, then rank them.",
        "found = {}\n"
        "for row in sorted(rows, key=lambda row: -row['accuracy']):\n"
        "    found.setdefault(row['setting'], []).append(row['method'])\n"
        "return found",
    ],
)
def ranked(answer: Callable[[list[dict]], object]) -> str | None:
    """answer(rows): setting -> its methods, best first; rows are dictionaries with setting, method and accuracy."""
    rows = [
        {"setting": "500 labels", "method": "all parameters", "accuracy": 0.87},
        {"setting": "2,000 labels", "method": "last block", "accuracy": 0.89},
        {"setting": "500 labels", "method": "adapter", "accuracy": 0.86},
        {"setting": "2,000 labels", "method": "all parameters", "accuracy": 0.93},
    ]
    wanted = {"500 labels": ["all parameters", "adapter"], "2,000 labels": ["all parameters", "last block"]}
    got = attempted(answer([dict(row) for row in rows]))
    if isinstance(got, list):
        return "this is one list: the last block with 2,000 labels stands before all parameters with 500"
    if not isinstance(got, dict):
        return "it should return a dictionary: setting -> methods"
    for setting, methods in wanted.items():
        problem = differs(f"the methods of {setting}", got.get(setting), methods)
        if problem:
            return problem
    return None
