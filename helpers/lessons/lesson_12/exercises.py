"""The exercises of lesson 12: what an interval answers, why pairs are compared, and who may be ranked with whom."""

from __future__ import annotations

from collections.abc import Callable

from helpers.checks import Wrong, attempted, called, exercise, expect
from helpers.intervals import mean_t


@exercise(
    "12.1",
    hints=[
        "Draw the interval on a line and mark the threshold. There are three ways in which they can lie.",
        "The whole interval above: yes. The whole interval below: no. In all other cases the seeds cannot tell.",
        'return "yes" if low > threshold else "no" if high < threshold else "open"',
    ],
)
def answer_of(answer: Callable) -> None:
    """answer(low, high, threshold): "yes", "no" or "open" for the claim that the figure is above the threshold."""
    cases = {(0.91, 0.94, 0.9): "yes", (0.85, 0.89, 0.9): "no", (0.89, 0.92, 0.9): "open", (-0.2, 0.6, 0.0): "open"}
    for given, wanted in cases.items():
        low, high, threshold = given
        got = attempted(answer(*given))
        if isinstance(got, bool):
            raise Wrong('it returns True or False, but there are three answers: "yes", "no" and "open"')
        middle = "yes" if (low + high) / 2 > threshold else "no"
        mistakes = {"that is what the middle says; the interval holds the threshold": middle}
        expect(called("answer", given), got, wanted, mistakes=mistakes)


@exercise(
    "12.2",
    hints=[
        "Both methods had the same seed, hence the same reviews. Which single number does one seed give?",
        "Take the difference seed by seed first, then one interval over the differences.",
        "return mean_t([one - other for one, other in zip(a, b)])",
    ],
)
def paired(answer: Callable) -> None:
    """answer(a, b): the interval of the mean of a - b over seeds, with its `low` and `high`."""
    a, b = [0.95, 0.85, 0.90, 0.80], [0.91, 0.82, 0.85, 0.77]
    wanted = mean_t([one - other for one, other in zip(a, b, strict=True)])
    got = attempted(answer(list(a), list(b)))
    if not hasattr(got, "low"):
        raise Wrong("it should return an interval, such as mean_t gives")
    apart = "the two intervals are taken apart and then subtracted: what makes a seed hard for both stays in"
    expect("the lower end", got.low, wanted.low, mistakes={apart: mean_t(a).low - mean_t(b).high})
    expect("the upper end", got.high, wanted.high)


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
def ranked(answer: Callable) -> None:
    """answer(rows): setting -> its methods, best first; rows are dictionaries with setting, method and accuracy."""
    rows = [
        {"setting": "500 labels", "method": "all parameters", "accuracy": 0.87},
        {"setting": "2,000 labels", "method": "last block", "accuracy": 0.89},
        {"setting": "500 labels", "method": "adapter", "accuracy": 0.86},
        {"setting": "2,000 labels", "method": "all parameters", "accuracy": 0.93},
    ]
    got = attempted(answer([dict(row) for row in rows]))
    if isinstance(got, list):
        raise Wrong("this is one list: the last block with 2,000 labels stands before all parameters with 500")
    if not isinstance(got, dict):
        raise Wrong("it should return a dictionary: setting -> methods")
    expect("the methods of 500 labels", got.get("500 labels"), ["all parameters", "adapter"])
    expect("the methods of 2,000 labels", got.get("2,000 labels"), ["all parameters", "last block"])
