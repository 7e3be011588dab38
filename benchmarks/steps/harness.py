"""Times two sides alternately in one run, and computes their ratio."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from helpers.runtime import UserError

Seconds = Callable[[], float]  # a function that does a piece of work and returns the seconds that count
ROUNDS = 15


@dataclass(frozen=True)
class Spread:
    """The median of some figures, with their lowest and highest value."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """Compute the spread of one or more figures."""
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{self.median:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class Target:
    """The target for a ratio: "at most" or "at least" the limit, or "within" that distance of 1."""

    kind: str
    limit: float

    def met(self, value: float) -> bool:
        """Whether the figure meets the target."""
        if self.kind == "within":
            return abs(value - 1) <= self.limit
        return value <= self.limit if self.kind == "at most" else value >= self.limit

    def __str__(self) -> str:
        return f"within {self.limit:.0%}" if self.kind == "within" else f"{self.kind} {self.limit:.2f}"


@dataclass(frozen=True)
class Row:
    """One line of the table. A line without a target is there to explain another line."""

    what: str
    ours: str
    beside: str
    ratio: Spread
    target: Target | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        """Return "met" or "missed", by the median, or "" without a target."""
        if self.target is None:
            return ""
        return "met" if self.target.met(self.ratio.median) else "missed"


@dataclass(frozen=True)
class Turns:
    """Seconds of both sides, one pair for each round."""

    ours: list[float]
    beside: list[float]

    @property
    def ratio(self) -> Spread:
        """Our seconds divided by the other side's, round by round, so that a slow moment affects both sides."""
        return Spread.of([one / other for one, other in zip(self.ours, self.beside, strict=True)])

    def milliseconds(self, count: int = 1) -> tuple[str, str]:
        """Return the median milliseconds of each side for one of `count` pieces of work, as text."""
        return tuple(f"{1000 * statistics.median(side) / count:.2f} ms" for side in (self.ours, self.beside))


def by_turns(ours: Seconds, beside: Seconds, rounds: int) -> Turns:
    """Time `rounds` pairs after one warm-up of each side. The side that goes first alternates."""
    ours(), beside()
    found = Turns([], [])
    for number in range(rounds):
        sides = [(ours, found.ours), (beside, found.beside)]
        for work, kept in sides if number % 2 == 0 else reversed(sides):
            kept.append(work())
    return found


def timed(work: Callable[[], object], times: int = 1) -> Seconds:
    """Return a function that does `work` `times` times and returns all the seconds."""

    def seconds() -> float:
        began = time.perf_counter()
        for _ in range(times):
            work()
        return time.perf_counter() - began

    return seconds


def same(what: str, ours, beside, within: float = 0.0) -> None:
    """Raise a UserError if two sides compute different values, because their times would not be comparable.

    ours, beside: tensors of one shape.
    """
    apart = (ours - beside).abs().max().item()
    if not apart <= within:
        raise UserError(f"{what}: the two sides differ by {apart:.1e}, so their times say nothing.")


def same_way(what: str, before, ours, beside, within: float) -> None:
    """Raise a UserError if two trainings end too far apart, relative to how far the weights moved.

    before, ours, beside: one weight at the start and at both ends, all of one shape. Adam amplifies rounding, so two
    equal trainings differ a little. Trainings on different batches differ by about as much as the weights moved.
    """
    apart = ((ours - beside).norm() / (beside - before).norm()).item()
    if not apart <= within:
        raise UserError(f"{what}: the two sides end {apart:.0%} of their way apart, so their times say nothing.")
