"""From a claim and results to a verdict: what every trial measured, and what follows from all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from helpers.intervals import Answer, Interval, mean_t
from workbook.claims.comparison import Comparison
from workbook.claims.ledger import Claim, Trial
from workbook.claims.results import Results

Word = Literal["holds", "holds with a condition", "not at this scale", "not measured yet", "not measurable"]
WORDS: tuple[Word, ...] = get_args(Word)


@dataclass(frozen=True)
class Measurement:
    """What one rule's number is: its interval over the seeds (None: no seed has it), and how it answers."""

    rule: Comparison
    seeds: int
    interval: Interval | None
    answer: Answer | Literal["missing"]


@dataclass(frozen=True)
class TrialResult:
    """One trial with its measurements."""

    trial: Trial
    measurements: tuple[Measurement, ...]

    @property
    def answer(self) -> Answer | Literal["missing"]:
        """All of its rules have to say yes; a single no settles it, whatever is missing."""
        answers = {one.answer for one in self.measurements}
        return next((answer for answer in ("no", "missing", "open") if answer in answers), "yes")


@dataclass(frozen=True)
class Verdict:
    """The word, and what it rests on."""

    claim: Claim
    word: Word
    trials: tuple[TrialResult, ...]
    closest: tuple[float, ...] = ()  # of a claim that no run can measure: what comes closest, a value per seed

    @property
    def missing(self) -> int:
        """How many trials have no results yet."""
        return sum(one.answer == "missing" for one in self.trials)

    @property
    def undecided(self) -> bool:
        """Not shown, and not refuted either: every interval holds its threshold."""
        return self.word == "not at this scale" and all(one.answer != "no" for one in self.trials)

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
    if near := claim.closest:
        return Verdict(claim, "not measurable", (), tuple(results.values(near.lesson, near.metric)))
    trials = tuple(
        TrialResult(trial, tuple(_measurement(rule, trial.lesson, results) for rule in trial.rules))
        for trial in claim.trials
    )
    return Verdict(claim, _word(claim, [one.answer for one in trials if one.answer != "missing"]), trials)


def _word(claim: Claim, answers: Sequence[str]) -> Word:
    if not answers:
        return "not measured yet"
    if "yes" not in answers:
        return "not at this scale"
    return claim.at_best if set(answers) == {"yes"} else "holds with a condition"


def _measurement(rule: Comparison, lesson: str, results: Results) -> Measurement:
    runs = results.runs(lesson, rule.metrics)
    numbers = [rule.evaluate(dict(zip(rule.metrics, values, strict=True))) for values in runs]
    numbers = [number for number in numbers if math.isfinite(number)]  # a ratio to zero says nothing
    if not numbers:
        return Measurement(rule, 0, None, "missing")
    interval = mean_t(numbers)
    return Measurement(rule, len(numbers), interval, rule.answer(interval))
