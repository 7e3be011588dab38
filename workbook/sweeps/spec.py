"""The fields of a sweep's YAML file, checked before anything runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from helpers.runtime import UserError, nearest


class Loader(yaml.SafeLoader):
    """Loads plain values only: a tag that would build an object is an error. 1e-3 is a number, as in YAML 1.2."""


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+$"), list("-+.0123456789")
)
Whole = Annotated[int, Field(strict=True, ge=0, lt=2**32)]


class Strict(BaseModel):
    """The base class of all parts of the file; an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Range(Strict):
    """A range, from `low` to `high`, for numbers drawn at random."""

    low: float
    high: float
    scale: Literal["linear", "log"] = "linear"

    @model_validator(mode="after")
    def ordered(self) -> Range:
        if not self.low < self.high:
            raise ValueError(f"low ({self.low}) has to be below high ({self.high})")
        if self.scale == "log" and self.low <= 0:
            raise ValueError("a logarithmic scale needs numbers above 0")
        return self


class Sample(Strict):
    """A seeded random sample: `runs` draws, each parameter from its range or list."""

    runs: Annotated[int, Field(strict=True, ge=1)]
    seed: Whole = 0
    values: dict[str, Range | list]


class Drawing(Strict):
    """What the figure shows: a parameter on the x axis, the metrics as lines, and optionally a logarithmic x axis.

    With metrics such as `accuracy_nf4_*`, the x axis shows the numbers that their names end with, and x is its label.
    """

    x: str
    metrics: Annotated[list[str], Field(min_length=1)]
    lines: str = ""
    log: bool = False

    @model_validator(mode="after")
    def all_or_none(self) -> Drawing:
        if len({metric.endswith("_*") for metric in self.metrics}) > 1:
            raise ValueError("either all of its metrics end in _* or none")
        return self


class Sweep(Strict):
    """A sweep: a question, one or several lessons, fixed parameters, varied parameters, and seeds."""

    question: Annotated[str, Field(min_length=1)]
    notebook: Annotated[str, Field(min_length=1)] | Annotated[list[str], Field(min_length=1)]
    fixed: dict[str, object] = {}
    grid: dict[str, list] | None = None
    cases: list[dict[str, object]] | None = None
    sample: Sample | None = None
    seeds: list[Whole] = []
    minutes: Annotated[float, Field(gt=0, le=10_000)] = 60
    figure: Drawing | None = None

    @model_validator(mode="after")
    def one_way(self) -> Sweep:
        ways = [way for way in ("grid", "cases", "sample") if getattr(self, way) is not None]
        if len(ways) > 1:
            raise ValueError(f"it has {' and '.join(ways)}, but a sweep is either a grid, cases or a sample")
        if not ways and not self.seeds:
            raise ValueError("it varies nothing: give it a grid, cases, a sample or seeds")
        return self


def read_spec(path: Path) -> Sweep:
    """The sweep that a file describes.

    Raises:
        UserError: the file is missing, is not plain YAML, or has an invalid field.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=Loader)
    except FileNotFoundError:
        names = [other.stem for other in path.parent.glob("*.yaml")]
        raise UserError(f"There is no sweep file {path}.{nearest(path.stem, names)}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        said = " ".join(str(error).split())
        raise UserError(f"{path.name} is not plain YAML: {said}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path.name} has to hold fields such as `question:` and `notebook:`.")
    try:
        return Sweep.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{path.name}: {_sentence(error)}") from None


def _sentence(error: ValidationError) -> str:
    """A message about the first error, with its place and, for a misspelt field, the nearest name."""
    # A misspelt field also causes an error about the missing field. The misspelling is the one to report.
    first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    place = ".".join(str(part) for part in first["loc"]) or "the file"
    if first["type"] == "extra_forbidden":
        parts: dict[str, type[Strict]] = {"sample": Sample, "figure": Drawing}
        fields = parts.get(str(first["loc"][0]), Sweep).model_fields
        name = str(first["loc"][-1])
        return f'there is no field "{place}".{nearest(name, fields)} There are: {", ".join(fields)}.'
    said = first["msg"].removeprefix("Value error, ")
    return f"{place}: {said[0].lower() + said[1:]}."
