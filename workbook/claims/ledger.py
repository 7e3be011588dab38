"""The format of the ledger's file, checked when it is read: hashes of the course's sentences, and our claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    """The base class of all parts of the file; an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Sentence(Strict):
    """A sentence of the course's conclusion: its place, its hash, and whether it asserts something."""

    place: Place
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    asserts: bool
    why: str = ""  # why it asserts nothing

    @model_validator(mode="after")
    def explained(self) -> Sentence:
        if not self.asserts and not self.why:
            raise ValueError("a sentence that asserts nothing needs a why")
        return self


class Shown(Strict):
    """The section of a lesson that shows a claim."""

    lesson: Number
    section: Annotated[int, Field(strict=True, ge=1)]


class Trial(Strict):
    """One setting in which the claim is tested. The trial passes if all its rules do.

    hard: whether a true sentence of this kind could well fail here; if not, this is the setting of the sentence.
    """

    lesson: Number
    setting: Text
    rules: Annotated[list[Rule], Field(min_length=1)]
    hard: bool = False


class Published(Strict):
    """A published figure with its source; `year` is None for a repository."""

    figure: Text
    title: Text
    year: Annotated[int, Field(strict=True, ge=1950, le=2100)] | None = None


class Claim(Strict):
    """One claim of the course, in our words, with the trials that test it."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    short: Annotated[str, Field(min_length=1, max_length=34)]
    group: Text
    claim: Text
    covers: Annotated[list[Place], Field(min_length=1)]
    kind: Literal["empirical", "construction", "unmeasured"]
    shown: Annotated[list[Shown], Field(min_length=1)]
    trials: tuple[Trial, ...] = ()
    note: str = ""  # how we read the sentence, or a caveat; must not depend on the figures
    reason: str = ""  # why no run can measure it
    published: tuple[Published, ...] = ()

    @model_validator(mode="after")
    def whole(self) -> Claim:
        if self.kind == "unmeasured":
            if self.trials or not self.reason:
                raise ValueError(f"{self.id} is unmeasured: it needs a reason, and has no trials")
            return self
        if self.reason or not self.trials:
            raise ValueError(f"{self.id} is measured, so it needs trials and must not have a reason")
        hard = {trial.hard for trial in self.trials}
        if self.kind == "construction" and True in hard:
            raise ValueError(f"{self.id} is true by construction: none of its trials can be hard")
        if self.kind == "empirical" and hard != {True, False}:
            raise ValueError(f"{self.id} is empirical: it needs a trial as the sentence says and a hard one")
        return self


TestRows = dict[Number, dict[str, Annotated[int, Field(strict=True, ge=1)]]]


class ClaimsLedger(Strict):
    """The whole file."""

    points: dict[Annotated[str, Field(pattern=r"^\d+$")], Text]  # number of a point in the conclusion -> its subject
    test_rows: TestRows
    test_rows_real: TestRows = Field(default_factory=dict)  # test rows of the sections on real text
    sentences: Annotated[list[Sentence], Field(min_length=1)]
    claims: Annotated[list[Claim], Field(min_length=1)]

    @model_validator(mode="after")
    def complete(self) -> ClaimsLedger:
        names = [f'claim "{one.id}"' for one in self.claims] + [f'sentence "{one.place}"' for one in self.sentences]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"the {twice} is there twice")
        nameless = {one.place.partition(".")[0] for one in self.sentences} - set(self.points)
        if nameless:
            raise ValueError(f"points has no words for point {min(nameless, key=int)}")
        asserted = {one.place for one in self.sentences if one.asserts}
        for claim in self.claims:
            for place in set(claim.covers) - asserted:
                raise ValueError(f"{claim.id} covers sentence {place}, which is not listed or asserts nothing")
        left = asserted - {place for claim in self.claims for place in claim.covers}
        if left:
            raise ValueError(f"no claim covers sentence {min(left)}")
        return self


def rows_behind(metrics: Sequence[str], test_rows: Mapping[str, int]) -> dict[str, int]:
    """Return metric -> number of its test rows, for metrics that are shares of rows.

    test_rows: prefix of a metric's name -> rows; the longest prefix that fits counts.
    """
    found = {}
    for metric in metrics:
        if fitting := [start for start in test_rows if metric.startswith(start)]:
            found[metric] = test_rows[max(fitting, key=len)]
    return found


def own_claim(text: str) -> Claim:
    """Read a learner's own claim from YAML: `claim`, and `trials` with `lesson`, `setting`, `rules` and `hard`.

    Raises:
        UserError: the text is not plain YAML, or has an invalid field.
    """
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"The claim is not plain YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict) or not content.get("claim"):
        raise UserError("A claim needs a line `claim: ...` with the sentence, and `trials:`.")
    usual = {"id": "my-own-claim", "short": "my own claim", "group": "Mine", "covers": ["0.0"], "kind": "empirical"}
    lessons = [one["lesson"] for one in content.get("trials") or [] if isinstance(one, dict) and "lesson" in one]
    whole = usual | {"shown": [{"lesson": (*lessons, "12")[0], "section": 1}]} | content
    try:
        return Claim.model_validate(whole)
    except ValidationError as error:
        raise UserError(f"Your claim: {_sentence(error, whole, Claim)}") from None


def load_ledger(path: Path = PATH) -> ClaimsLedger:
    """Read the claims ledger.

    Raises:
        UserError: the file is missing, is not plain YAML, or has an invalid field.
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


def _sentence(error: ValidationError, content: dict, top: type[Strict] = ClaimsLedger) -> str:
    """Return a message about the first error: the claim's id, the place and, for a misspelt field, the nearest name."""
    # A misspelt field also causes an error about the missing field. The misspelling is the one to report.
    first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    parts = [str(part) for part in first["loc"]]
    if parts[:1] == ["claims"] and len(parts) > 1:
        entry = content["claims"][int(parts[1])]
        parts[1] = str(entry.get("id", parts[1])) if isinstance(entry, dict) else parts[1]
    place = ".".join(parts) or "the file"
    if first["type"] == "extra_forbidden":
        fields = Claim.model_fields if len(parts) == 3 or (top is Claim and len(parts) == 1) else {}
        return f'there is no field "{place}".{nearest(parts[-1], fields)}'
    said = first["msg"].removeprefix("Value error, ").removesuffix(".")
    return f"{place}: {said[0].lower() + said[1:]}." if parts or top is ClaimsLedger else f"{said}."
