"""Questions for a learner's predictions (a number, a choice or an order): reads, scores and formats answers."""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from helpers.runtime import UserError, nearest

NUMBER = re.compile(r"[-+]?(\d{1,3}(,\d{3})+|\d+)?(\.\d+)?(e[-+]?\d+)?", re.IGNORECASE)
ROUNDING = 1e-9


@dataclass(frozen=True)
class Question:
    """A question for a number, unless it has `choices`, or items to put into an `order`.

    A number counts as right if it differs from the result by at most `within`, or at most by the factor `factor`.
    """

    name: str
    within: float | None = None
    factor: float | None = None
    unit: str = ""
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[str, ...] = ()
    order: tuple[str, ...] = ()

    def read(self, given: Any) -> Any:
        """Convert `given` to an answer: a float, a choice, or a list of all items.

        Raises:
            UserError: when `given` is not a valid answer to this question; the message says why.
        """
        if self.order:
            items = list(given) if isinstance(given, list | tuple) else [given]
            if sorted(map(str, items)) != sorted(self.order):
                raise UserError(f"An order names each of these once: {', '.join(self.order)}.")
            return items
        if self.choices:
            if given not in self.choices:
                hint = nearest(given, self.choices) if given else ""
                raise UserError(f"Choose one of these: {', '.join(self.choices)}.{hint}")
            return given
        value = as_number(given)
        if value is None:
            raise UserError(f'"{given}" is not a number: type digits, such as 0.8 or 1,200.')
        if not self.low <= value <= self.high:
            raise UserError(f"{value:,g} is out of range: {self.name} asks for a number {self._range}.")
        return value

    def right(self, answer: Any, value: Any) -> bool:
        """Whether the answer counts as right if the result is `value`."""
        if self.choices or self.order:
            return answer == value
        if self.factor:
            same_side = answer * value > 0
            return same_side and max(answer / value, value / answer) <= self.factor * (1 + ROUNDING)
        return abs(answer - value) <= (self.within or 0) + ROUNDING

    def result(self, value: Any) -> Any:
        """Convert a run's result to the form that `right` compares; None if the run has no result."""
        if isinstance(value, list | tuple):
            return list(value)
        return value if self.choices and isinstance(value, str) else as_number(value)

    def say(self, answer: Any) -> str:
        """Format an answer or a result as text."""
        if isinstance(answer, list | tuple):
            return " > ".join(map(str, answer))
        return f"{_digits(answer)} {self.unit}".strip() if isinstance(answer, int | float) else str(answer)

    def span(self, values: Sequence[float]) -> str:
        """Format the smallest and the largest of some results as text, with the unit once."""
        return f"{_digits(min(values))} to {self.say(max(values))}"

    def miss(self, answer: Any, value: Any) -> str:
        """Describe how a wrong answer differs from the result: "too low, not within 0.03"."""
        if self.order:
            items = [item for item in value if item in answer]
            pairs = [(one, other) for place, one in enumerate(items) for other in items[place + 1 :]]
            kept = sum(answer.index(one) < answer.index(other) for one, other in pairs)
            return f"{kept} of {len(pairs)} pairs in the right order"
        if self.choices:
            return "another one"
        return f"too {'low' if answer < value else 'high'}, not {self.rule}"

    @property
    def rule(self) -> str:
        """The tolerance within which a number counts as right, as text; "" for a choice or an order."""
        return (
            f"within a factor of {self.factor:g}" if self.factor else f"within {self.within:g}" if self.within else ""
        )

    @property
    def _range(self) -> str:
        if math.isinf(self.high):
            return f"of at least {self.low:,g}"
        return f"of at most {self.high:,g}" if math.isinf(self.low) else f"from {self.low:,g} to {self.high:,g}"


def _digits(number: float) -> str:
    """Format a number with four digits, and a large one in full: 0.8421, 262,144."""
    return f"{number:,.4g}" if abs(number) < 10_000 else f"{number:,.0f}"


def as_number(given: Any) -> float | None:
    """Convert a typed or computed number ("1,200", "80 %" as 0.8, a tensor of one value); None for anything else."""
    if hasattr(given, "item") and getattr(given, "size", None) is not None:
        given = given.item() if math.prod(getattr(given, "shape", ())) == 1 else None
    if isinstance(given, str):
        text, percent = given.strip().removesuffix("%").strip(), given.strip().endswith("%")
        if not text or not NUMBER.fullmatch(text) or not any(map(str.isdigit, text)):
            return None
        given = float(text.replace(",", "")) / (100 if percent else 1)
    if isinstance(given, bool) or not isinstance(given, numbers.Real) or not math.isfinite(given):
        return None
    return float(given)
