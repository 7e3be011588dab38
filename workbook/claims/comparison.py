"""What decides a claim: a formula over the metrics of one run, and the range in which its interval has to lie."""

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

    What makes a seed lucky for both sides of a difference or a ratio cancels out inside the run; what the seeds say
    about it together is worked out in `workbook.claims.inference`.
    """

    formula: str
    number: ast.expr
    metrics: tuple[str, ...]  # recorded names that the formula reads, in its order
    bounds: tuple[float, float]
    closed: bool  # whether the bounds themselves count
    needs: str  # what the number is, and what it has to be, in few words

    def evaluate(self, metrics: Mapping[str, float]) -> float:
        """The number of one run; nan where it divides by zero."""
        try:
            return _evaluate(self.number, metrics)
        except ZeroDivisionError:
            return math.nan

    @property
    def is_ratio(self) -> bool:
        """Whether the number is a ratio of two metrics; the mean of ratios is geometric."""
        match self.number:
            case ast.BinOp(ast.Name(), ast.Div(), ast.Name()):
                return True
        return False

    def met_by(self, number: float) -> bool:
        """Whether a number is as the rule wants it."""
        low, high = self.bounds
        return low <= number <= high if self.closed else low < number < high


def parse(formula: object) -> Comparison:
    """The comparison that a formula writes.

    Raises:
        ValueError: the text is no such formula.
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
    """The names in a formula; a ValueError for anything that is no metric, operator or number."""
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
