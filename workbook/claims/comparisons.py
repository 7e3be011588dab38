"""The rules that compare two metrics of the same run: by their difference, their ratio, or a share of a gap."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, FiniteFloat

from workbook.claims.rules import Metric, Rule


class Pair(Rule):
    """A metric beside another one of the same run."""

    than: Metric

    @property
    def metrics(self) -> tuple[str, ...]:
        return self.metric, self.than


class Difference(Pair):
    """What is compared is metric - than."""

    by: FiniteFloat

    def number(self, metric: float, than: float) -> float:
        return metric - than


class DifferenceAbove(Difference):
    """The metric is larger than another by more than `by`."""

    kind: Literal["difference_above"]

    @property
    def bounds(self) -> tuple[float, float]:
        return self.by, math.inf

    @property
    def words(self) -> str:
        return f"{self.metric} - {self.than} > {self.by:g}"

    @property
    def needs(self) -> str:
        return f"difference above {self.by:g}"


class DifferenceWithin(Difference):
    """The two are the same but for `by` at most, shown by the whole interval."""

    kind: Literal["difference_within"]
    by: Annotated[FiniteFloat, Field(gt=0)]

    @property
    def bounds(self) -> tuple[float, float]:
        return -self.by, self.by

    @property
    def words(self) -> str:
        return f"{self.metric} = {self.than} ± {self.by:g}"

    @property
    def needs(self) -> str:
        return f"difference within ± {self.by:g}"


class Ratio(Pair):
    """What is compared is metric / than; nothing may be divided by zero."""

    times: Annotated[FiniteFloat, Field(gt=0)]

    def number(self, metric: float, than: float) -> float:
        return metric / than if than else math.nan


class RatioAbove(Ratio):
    """The metric is more than `times` the other."""

    kind: Literal["ratio_above"]

    @property
    def bounds(self) -> tuple[float, float]:
        return self.times, math.inf

    @property
    def words(self) -> str:
        return f"{self.metric} / {self.than} > {self.times:g}"

    @property
    def needs(self) -> str:
        return f"ratio above {self.times:g}"


class RatioBelow(Ratio):
    """The metric is less than `times` the other."""

    kind: Literal["ratio_below"]

    @property
    def bounds(self) -> tuple[float, float]:
        return -math.inf, self.times

    @property
    def words(self) -> str:
        return f"{self.metric} / {self.than} < {self.times:g}"

    @property
    def needs(self) -> str:
        return f"ratio below {self.times:g}"


class ShareAbove(Rule):
    """Of the way from a floor to a ceiling (the head alone, all parameters), more than `share` is gone."""

    kind: Literal["share_above"]
    floor: Metric
    ceiling: Metric
    share: Annotated[FiniteFloat, Field(ge=0)]

    @property
    def metrics(self) -> tuple[str, ...]:
        return self.metric, self.floor, self.ceiling

    @property
    def bounds(self) -> tuple[float, float]:
        return self.share, math.inf

    @property
    def words(self) -> str:
        return f"({self.metric} - {self.floor}) / ({self.ceiling} - {self.floor}) > {self.share:g}"

    @property
    def needs(self) -> str:
        return f"share of the way above {self.share:g}"

    def number(self, metric: float, floor: float, ceiling: float) -> float:
        return (metric - floor) / (ceiling - floor) if ceiling != floor else math.nan
