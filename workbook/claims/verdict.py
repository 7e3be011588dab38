"""From a claim and results to a verdict: what every trial measured, and what follows from all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from helpers.intervals import Interval, mean_t
from workbook.claims.results import Results
from workbook.claims.rules import Rule
from workbook.claims.spec import Claim, Trial

Word = Literal["holds", "holds with a condition", "not at this scale", "not measured yet", "not measurable"]
WORDS: tuple[Word, ...] = get_args(Word)


@dataclass(frozen=True)
class Figure:
    """What one rule measured: its number's interval over the seeds (None: no seed has it), and how it answers."""

    rule: Rule
    seeds: int
    interval: Interval | None
    answer: Literal["yes", "no", "open", "missing"]


@dataclass(frozen=True)
class Tried:
    """One trial with its figures."""

    trial: Trial
    figures: tuple[Figure, ...]

    @property
    def answer(self) -> Literal["yes", "no", "open", "missing"]:
        """All of its rules have to say yes; a single no settles it, whatever is missing."""
        answers = {figure.answer for figure in self.figures}
        return next((answer for answer in ("no", "missing", "open") if answer in answers), "yes")


@dataclass(frozen=True)
class Verdict:
    """The word, and what it rests on."""

    claim: Claim
    word: Word
    trials: tuple[Tried, ...]
    closest: tuple[float, ...] = ()  # of a claim that no run can measure: what comes closest, a value per seed

    @property
    def missing(self) -> int:
        """How many trials have no figures yet."""
        return sum(tried.answer == "missing" for tried in self.trials)

    @property
    def undecided(self) -> bool:
        """Not shown, and not refuted either: every interval holds its threshold."""
        return self.word == "not at this scale" and all(tried.answer != "no" for tried in self.trials)

    @property
    def text(self) -> str:
        """The condition or the reason that goes with the word, and what is still missing."""
        parts = ["These seeds cannot tell."] if self.undecided else []
        parts += [self.claim.condition] if self.word == "holds with a condition" else []
        parts += [self.claim.reason] if self.word in ("not at this scale", "not measurable") else []
        if 0 < self.missing < len(self.trials):
            parts.append(f"So far {len(self.trials) - self.missing} of {len(self.trials)} trials have figures.")
        return " ".join(parts)


def verdict(claim: Claim, results: Results) -> Verdict:
    """The verdict on a claim.

    A trial passes where every rule's 95 % interval over the seeds lies wholly on the side that the claim says. All
    trials pass: it holds. Some do: it holds with a condition. None: not at this scale. Trials without figures do not
    count, and with none at all there is no verdict. A claim whose sentence says more than its trials can show is
    marked in the ledger (`at_best`): its best verdict is the one with a condition.
    """
    if claim.kind == "unmeasured":
        return Verdict(claim, "not measurable", (), tuple(results.values(claim.closest.lesson, claim.closest.metric)))
    tried = tuple(Tried(trial, tuple(_figure(rule, trial, results) for rule in trial.rules)) for trial in claim.trials)
    return Verdict(claim, _word(claim, [one.answer for one in tried if one.answer != "missing"]), tried)


def _word(claim: Claim, answers: Sequence[str]) -> Word:
    if not answers:
        return "not measured yet"
    if "yes" not in answers:
        return "not at this scale"
    return claim.at_best if set(answers) == {"yes"} else "holds with a condition"


def _figure(rule: Rule, trial: Trial, results: Results) -> Figure:
    numbers = [rule.number(*values) for values in results.runs(trial.lesson, rule.metrics)]
    numbers = [number for number in numbers if math.isfinite(number)]  # a ratio to zero says nothing
    if not numbers:
        return Figure(rule, 0, None, "missing")
    interval = mean_t(numbers)
    return Figure(rule, len(numbers), interval, rule.answer(interval))
