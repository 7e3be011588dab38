"""What decides a claim: a figure over seeds, and the side of a threshold on which its interval has to lie.

Every rule turns the metrics of one run (one seed) into one number, so that what makes a seed lucky for both sides of a
comparison cancels out; the interval over the seeds is Student's (`helpers.intervals.mean_t`).
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from helpers.intervals import Answer, Interval
from helpers.record import METRIC_NAME

Metric = Annotated[str, Field(pattern=f"^{METRIC_NAME.pattern}$")]


class Strict(BaseModel):
    """A part of the ledger's file: an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Rule(Strict):
    """A number of each run, and the open range that its interval has to lie in."""

    metric: Metric

    @property
    def metrics(self) -> tuple[str, ...]:
        """The recorded metrics that it reads, in the order of `number`'s arguments."""
        return (self.metric,)

    @property
    def bounds(self) -> tuple[float, float]:
        """The ends of the range in which the claim is true; both belong to it where `closed`."""
        raise NotImplementedError

    @property
    def closed(self) -> bool:
        return False

    @property
    def words(self) -> str:
        """The rule as a formula that a learner can read."""
        raise NotImplementedError

    @property
    def needs(self) -> str:
        """What the number is, and what it has to be, in few words."""
        raise NotImplementedError

    def number(self, metric: float) -> float:
        """The number of one run."""
        return metric

    def answer(self, interval: Interval) -> Answer:
        """ "yes": the whole interval lies inside; "no": all of it outside; "open": the seeds cannot tell."""
        return interval.within(*self.bounds, closed=self.closed)


class Above(Rule):
    """The metric lies above a threshold."""

    kind: Literal["above"]
    threshold: FiniteFloat

    @property
    def bounds(self) -> tuple[float, float]:
        return self.threshold, math.inf

    @property
    def words(self) -> str:
        return f"{self.metric} > {self.threshold:g}"

    @property
    def needs(self) -> str:
        return f"above {self.threshold:g}"


class AtMost(Rule):
    """The metric is no larger than a limit, which it may reach: for parity checks and counts."""

    kind: Literal["at_most"]
    limit: FiniteFloat

    @property
    def bounds(self) -> tuple[float, float]:
        return -math.inf, self.limit

    @property
    def closed(self) -> bool:
        return True

    @property
    def words(self) -> str:
        return f"{self.metric} ≤ {self.limit:g}"

    @property
    def needs(self) -> str:
        return f"at most {self.limit:g}"


class Near(Rule):
    """The metric lies within a distance of a known value."""

    kind: Literal["near"]
    value: FiniteFloat
    by: Annotated[FiniteFloat, Field(gt=0)]

    @property
    def bounds(self) -> tuple[float, float]:
        return self.value - self.by, self.value + self.by

    @property
    def words(self) -> str:
        return f"{self.metric} = {self.value:g} ± {self.by:g}"

    @property
    def needs(self) -> str:
        return f"{self.value:g} ± {self.by:g}"
