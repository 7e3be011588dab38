"""The rule that decides a claim: a formula over one run's metrics, and the range in which its interval must lie."""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass

from helpers.record import METRIC_NAME

FORMULA = re.compile(r"(?P<number>[^<>=]+) (?P<relation>[<>]=?|=) (?P<value>\S+)(?: ± (?P<margin>\S+))?")
OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
IN_WORDS = {">": "above", ">=": "at least", "<": "below", "<=": "at most"}


@dataclass(frozen=True)
class Comparison:
    """A formula such as `accuracy_full - accuracy_head_only > 0`, evaluated in each run.

    A seed that is lucky for both sides of a difference or ratio cancels out, because both sides come from one run.
    `workbook.claims.inference` combines the seeds.
    """

    formula: str
    number: ast.expr
    metrics: tuple[str, ...]  # names of the metrics in the formula, in its order
    bounds: tuple[float, float]
    closed: bool  # whether the bounds belong to the range
    needs: str  # the number and its required range, in a few words

    def evaluate(self, metrics: Mapping[str, float]) -> float:
        """Return the formula's number for one run, or nan if it divides by zero."""
        try:
            return _evaluate(self.number, metrics)
        except ZeroDivisionError:
            return math.nan

    @property
    def is_ratio(self) -> bool:
        """Whether the number is a ratio of two metrics, so that its mean over seeds is geometric."""
        match self.number:
            case ast.BinOp(ast.Name(), ast.Div(), ast.Name()):
                return True
        return False

    def met_by(self, number: float) -> bool:
        """Whether a number lies in the rule's range."""
        low, high = self.bounds
        return low <= number <= high if self.closed else low < number < high


def parse(formula: object) -> Comparison:
    """Parse the text of a formula.

    Raises:
        ValueError: the text is not such a formula.
    """
    text = str(formula)
    found = FORMULA.fullmatch(text)
    if not found or (found["relation"] == "=") != bool(found["margin"]):
        raise ValueError(
            f'"{formula}" is no rule; write one like "accuracy_full - accuracy_lora > 0.01" or "error = 0.07 ± 0.001"'
        )
    try:
        number = ast.parse(found["number"], mode="eval").body
    except SyntaxError:
        raise ValueError(f'"{found["number"]}" is no formula: use metrics, + - * / and brackets') from None
    metrics = tuple(dict.fromkeys(_metrics(number)))
    value, margin = _finite(found["value"]), _finite(found["margin"] or "0")
    relation = found["relation"]
    if relation == "=":
        if margin <= 0:
            raise ValueError(f'the margin of "{formula}" has to be above 0')
        bounds, limit = (value - margin, value + margin), f"{value:g} ± {margin:g}"
    else:
        bounds = (value, math.inf) if relation[0] == ">" else (-math.inf, value)
        limit = f"{IN_WORDS[relation]} {value:g}"
    closed = relation in ("<=", ">=")
    return Comparison(text, number, metrics, bounds, closed, f"{_quantity(number)} {limit}".strip())


def _metrics(number: ast.expr) -> list[str]:
    """Return the metric names in a formula; raise a ValueError for anything but metrics, operators and numbers."""
    match number:
        case ast.Name(name) if METRIC_NAME.fullmatch(name):
            return [name]
        case ast.BinOp(left, sign, right) if type(sign) in OPERATORS:
            return _metrics(left) + _metrics(right)
        case ast.Constant(int() | float()):
            return []
    raise ValueError(f'"{ast.unparse(number)}" is no metric: names are in lower case, such as accuracy_full')


def _evaluate(number: ast.expr, metrics: Mapping[str, float]) -> float:
    match number:
        case ast.BinOp(left, sign, right):
            return OPERATORS[type(sign)](_evaluate(left, metrics), _evaluate(right, metrics))
        case ast.Name(name):
            return metrics[name]
    return ast.literal_eval(number)


def _finite(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f'"{text}" is no finite number')
    return value


def _quantity(number: ast.expr) -> str:
    match number:
        case ast.BinOp(ast.BinOp(), ast.Div(), ast.BinOp()):
            return "share of the way"
        case ast.BinOp(_, ast.Div()):
            return "ratio"
        case ast.BinOp(_, ast.Sub()):
            return "difference"
    return ""
