"""The exercises of lesson 12: a rule that can fail, many questions, optional stopping, and who may be ranked."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable

from helpers.checks import Wrong, attempted, called, exercise, expect
from helpers.lessons.lesson_12.stopping import stops_after

RULE = re.compile(r"(?P<number>[^<>=]+?)\s*(?P<relation>[<>]=?)\s*(?P<bound>.+)")
RELATIONS = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}


@exercise(
    "12.1",
    hints=[
        "Which number is 0 when the two are equal? What is its largest value that you would still call as good?",
        "LoRA may be worse by up to 0.01. It may be better by any amount, so one bound is enough.",
        'return "accuracy_lora - accuracy_full > -0.01"',
    ],
)
def as_good_as_full(answer: Callable) -> None:
    """answer(): a rule as text, true where LoRA loses at most one point of accuracy against all parameters."""
    rule = attempted(answer())
    if not isinstance(rule, str) or not (found := RULE.fullmatch(rule.strip())):
        raise Wrong('it should return a rule as text, such as "accuracy_lora > 0.9"')
    cases = [
        (0.90, 0.90, True, "LoRA and all parameters are equal"),
        (0.895, 0.90, True, "LoRA is worse by half a point"),
        (0.95, 0.90, True, "LoRA is better by five points"),
        (0.892, 0.90, True, "LoRA is worse by eight tenths of a point"),
        (0.885, 0.90, False, "LoRA is worse by one and a half points"),
        (0.87, 0.90, False, "LoRA is worse by three points"),
        (0.60, 0.63, False, "LoRA is worse by three points, and both are low"),
    ]
    for lora, full, wanted, words in cases:
        values = {"accuracy_lora": lora, "accuracy_full": full}
        try:
            left, right = (_value(found[part], values) for part in ("number", "bound"))
        except (KeyError, SyntaxError, ValueError, ZeroDivisionError):
            raise Wrong(f'"{rule}" cannot be computed from accuracy_lora and accuracy_full') from None
        expect(f"the rule where {words} ({lora} against {full})", RELATIONS[found["relation"]](left, right), wanted)


def _value(text: str, values: dict[str, float]) -> float:
    """The value of a formula with + - * / over these names; nothing else is evaluated."""
    signs = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}

    def of(node: ast.expr) -> float:
        match node:
            case ast.BinOp(left, sign, right) if type(sign) in signs:
                return signs[type(sign)](of(left), of(right))
            case ast.UnaryOp(ast.USub(), operand):
                return -of(operand)
            case ast.Name(name):
                return values[name]
            case ast.Constant(int() | float() as value):
                return float(value)
        raise ValueError(text)

    return of(ast.parse(text.strip(), mode="eval").body)


@exercise(
    "12.2",
    hints=[
        "Sort the p-values. What is the line's height at the k-th of m?",
        "The line is k / m * rate. Look for the *largest* p on or below it, even if smaller ones lie above it.",
        "ordered = sorted(p_values)\n"
        "passed = [p for k, p in enumerate(ordered, start=1) if p <= k / len(ordered) * rate]\n"
        "return max(passed, default=0.0)",
    ],
)
def largest_believed(answer: Callable) -> None:
    """answer(p_values, rate): the largest p that counts by Benjamini and Hochberg, or 0.0."""
    cases = [
        ([0.6, 0.001, 0.03, 0.8], 0.05, 0.001),
        ([0.001, 0.02, 0.035, 0.04, 0.9], 0.05, 0.04),  # the third lies above the line, the fourth on it
        ([0.04, 0.045, 0.05], 0.05, 0.05),  # only the last lies below the line, and all of them count
        ([0.2, 0.5, 0.9], 0.05, 0.0),
        ([0.03], 0.05, 0.03),
        ([0.01, 0.04, 0.03, 0.9, 0.7], 0.10, 0.04),
    ]
    for p_values, rate, wanted in cases:
        ordered, count = sorted(p_values), len(p_values)
        single = max((p for p in ordered if p <= rate), default=0.0)
        shared = max((p for p in ordered if p <= rate / count), default=0.0)
        stopped = 0.0
        for place, p in enumerate(ordered, start=1):
            if p > place / count * rate:
                break
            stopped = p
        mistakes = {
            "every p is compared with the rate itself, as if it were the only question": single,
            "every p is compared with rate / m; that is Bonferroni's limit": shared,
            "it stops at the first p above the line; a larger one may lie below it again": stopped,
        }
        mistakes = {said: value for said, value in mistakes.items() if value != wanted}
        expect(called("answer", (p_values, rate)), attempted(answer(list(p_values), rate)), wanted, mistakes=mistakes)


VALUES = [0.9, -0.1, 0.5, 0.2, 0.4, 0.5, 0.3, -1.5, 0.2, 0.1]  # p <= 0.05 at 6 and 7 seeds only
ALL_NEGATIVE = [-0.3, -0.2, -0.4, -0.3, -0.1]


@exercise(
    "12.3",
    hints=[
        "Write a loop over the looks. Which part of `values` is there at each look?",
        "`stats.ttest_1samp(values[:count], 0).pvalue` is the p-value after `count` seeds.",
        "for count in looks:\n"
        "    if stats.ttest_1samp(values[:count], 0).pvalue <= level:\n"
        "        return count\n"
        "return None",
    ],
)
def stopping(answer: Callable) -> None:
    """answer(values, looks, level): after how many seeds somebody stops who tests at each look; None if never."""
    cases = [
        (VALUES, [10], 0.05),
        (VALUES, [5], 0.05),
        (VALUES, [6], 0.05),
        (VALUES, [5, 10], 0.05),
        (VALUES, [3, 5, 7, 10], 0.05),
        (VALUES, list(range(2, 11)), 0.05),
        (VALUES, list(range(2, 11)), 0.01),
        (ALL_NEGATIVE, [3, 5], 0.05),
    ]
    for values, looks, level in cases:
        wanted = stops_after(values, looks, level)
        found = [count for count in range(2, len(values) + 1) if stops_after(values, [count], level)]
        mistakes = {
            "only the last look is tested": stops_after(values, looks[-1:], level),
            "it looks at every number of seeds, not only at those in `looks`": min(found, default=None),
            "it tests all values at the first look, also those that are not there yet": (
                looks[0] if stops_after(values, [len(values)], level) else None
            ),
        }
        mistakes = {said: value for said, value in mistakes.items() if value != wanted}
        got, call = attempted(answer(list(values), list(looks), level)), called("stops_after", (values, looks, level))
        wrongly = next((said for said, value in mistakes.items() if got == value), "")
        if got != wanted:
            raise Wrong(f"{call} should be {wanted}, not {got}" + (f": {wrongly}" if wrongly else ""))


@exercise(
    "12.4",
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
