"""What the ledger's file may say: the course's sentences by their fingerprints, and our claims, checked when read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError, model_validator

from helpers.paths import ROOT
from helpers.record import METRIC_NAME
from helpers.runtime import UserError, nearest
from workbook.claims import comparison
from workbook.claims.comparison import Comparison

PATH = ROOT / "data" / "reference" / "claims.yaml"
Text = Annotated[str, Field(min_length=1)]
Number = Annotated[str, Field(pattern=r"^\d\d$")]
Place = Annotated[str, Field(pattern=r"^\d+\.\d+$")]
Metric = Annotated[str, Field(pattern=f"^{METRIC_NAME.pattern}$")]
Rule = Annotated[Comparison, PlainValidator(comparison.parse)]


class Strict(BaseModel):
    """A part of the file: an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Sentence(Strict):
    """A sentence of the course's conclusion: where it stands, its fingerprint, and whether it asserts something."""

    place: Place
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    asserts: bool
    why: str = ""  # it asserts nothing

    @model_validator(mode="after")
    def explained(self) -> Sentence:
        if not self.asserts and not self.why:
            raise ValueError("a sentence that asserts nothing needs a why")
        return self


class Shown(Strict):
    """The section of a lesson where a reader can see it."""

    lesson: Number
    section: Annotated[int, Field(strict=True, ge=1)]


class Trial(Strict):
    """One setting in which the claim is put to the test: it passes where all of its rules do."""

    lesson: Number
    setting: Text
    rules: Annotated[list[Rule], Field(min_length=1)]


class Closest(Strict):
    """A number of a lesson that comes closest to a claim which no run can measure; it decides nothing."""

    lesson: Number
    metric: Metric
    words: Text


class Published(Strict):
    """What others measured, with its source; a repository has no year of its own."""

    figure: Text
    title: Text
    year: Annotated[int, Field(strict=True, ge=1950, le=2100)] | None = None


class Claim(Strict):
    """One thing that the course says, in our words, and what would show it."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    short: Annotated[str, Field(min_length=1, max_length=34)]
    group: Text
    claim: Text
    covers: Annotated[list[Place], Field(min_length=1)]
    kind: Literal["measured", "unmeasured"]
    shown: Annotated[list[Shown], Field(min_length=1)]
    trials: tuple[Trial, ...] = ()
    closest: Closest | None = None
    at_best: Literal["holds", "holds with a condition"] = "holds"
    condition: str = ""
    reason: str = ""  # measured: why it would not hold here; unmeasured: why nothing can be
    published: tuple[Published, ...] = ()

    @model_validator(mode="after")
    def whole(self) -> Claim:
        if not self.reason:
            raise ValueError(f"{self.id} needs a reason")
        if self.kind == "unmeasured" and (self.trials or self.condition or not self.closest):
            raise ValueError(f"{self.id} is not measured: it needs a closest, and has neither trials nor a condition")
        if self.kind == "measured" and (self.closest or not (self.trials and self.condition)):
            raise ValueError(f"{self.id} is measured: it needs trials and a condition, and has no closest")
        return self


class ClaimsLedger(Strict):
    """The whole file."""

    sentences: Annotated[list[Sentence], Field(min_length=1)]
    claims: Annotated[list[Claim], Field(min_length=1)]

    @model_validator(mode="after")
    def complete(self) -> ClaimsLedger:
        names = [f'claim "{one.id}"' for one in self.claims] + [f'sentence "{one.place}"' for one in self.sentences]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"the {twice} is there twice")
        asserted = {one.place for one in self.sentences if one.asserts}
        for claim in self.claims:
            for place in set(claim.covers) - asserted:
                raise ValueError(f"{claim.id} covers sentence {place}, which is not listed or asserts nothing")
        left = asserted - {place for claim in self.claims for place in claim.covers}
        if left:
            raise ValueError(f"no claim covers sentence {min(left)}")
        return self


def load_ledger(path: Path = PATH) -> ClaimsLedger:
    """The claims ledger.

    Raises:
        UserError: the file is missing, not plain YAML, or something in it is not as it should be.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"There is no {path.name} in data/reference.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path.name} is not plain YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path.name} has to hold `sentences:` and `claims:`.")
    try:
        return ClaimsLedger.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{path.name}: {_sentence(error, content)}") from None


def _sentence(error: ValidationError, content: dict) -> str:
    """The first thing that is wrong, with the claim's id and its place; for a misspelt field, the nearest name."""
    # A misspelt field also leaves the right one out: the misspelling is the one to tell.
    first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    parts = [str(part) for part in first["loc"]]
    if parts[:1] == ["claims"] and len(parts) > 1:
        entry = content["claims"][int(parts[1])]
        parts[1] = str(entry.get("id", parts[1])) if isinstance(entry, dict) else parts[1]
    place = ".".join(parts) or "the file"
    if first["type"] == "extra_forbidden":
        fields = Claim.model_fields if len(parts) == 3 else {}
        return f'there is no field "{place}".{nearest(parts[-1], fields)}'
    said = first["msg"].removeprefix("Value error, ").removesuffix(".")
    return f"{place}: {said[0].lower() + said[1:]}."
