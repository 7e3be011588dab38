"""Computes the verdict on each claim from what its trials measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from helpers.intervals import Interval
from workbook.claims.comparison import Comparison
from workbook.claims.inference import Estimate, believed, estimate
from workbook.claims.ledger import Claim, Trial, rows_behind
from workbook.claims.results import Results

Word = Literal[
    "holds",
    "holds with a condition",
    "contradicted",
    "cannot tell",
    "true by construction",
    "not measured yet",
    "not measurable",
]
WORDS: tuple[Word, ...] = get_args(Word)
JUDGED: tuple[Word, ...] = WORDS[:4]  # verdicts on claims that a measurement can refute
Answer = Literal["yes", "no", "open", "missing"]


@dataclass(frozen=True)
class Measurement:
    """One rule's estimate over the seeds (None if no seed has the number), and its answer."""

    rule: Comparison
    seeds: int
    estimate: Estimate | None
    answer: Answer

    @property
    def interval(self) -> Interval | None:
        """The number with its 95 % interval."""
        return self.estimate.interval if self.estimate else None


@dataclass(frozen=True)
class TrialResult:
    """One trial with its measurements."""

    trial: Trial
    measurements: tuple[Measurement, ...]

    @property
    def answer(self) -> Answer:
        """The answer of all rules together: "no" if any says no, else "missing" or "open" if any does, else "yes"."""
        answers = {one.answer for one in self.measurements}
        found: tuple[Answer, ...] = ("no", "missing", "open")
        return next((answer for answer in found if answer in answers), "yes")


@dataclass(frozen=True)
class Verdict:
    """The verdict on one claim in a word, with the trials behind it."""

    claim: Claim
    word: Word
    trials: tuple[TrialResult, ...]

    @property
    def missing(self) -> int:
        """The number of trials without results."""
        return sum(one.answer == "missing" for one in self.trials)

    @property
    def text(self) -> str:
        """An explanation of the verdict: in which settings the claim holds, and in which it does not."""
        if self.word == "not measurable":
            return self.claim.reason
        parts = []
        if self.word == "holds with a condition":
            for answer, words in (("yes", "It holds for"), ("no", "It fails for"), ("open", "Open for")):
                settings = [one.trial.setting for one in self.trials if one.answer == answer]
                parts += [f"{words}: {'; '.join(settings)}."] if settings else []
        if 0 < self.missing < len(self.trials):
            parts.append(f"So far {len(self.trials) - self.missing} of {len(self.trials)} trials have figures.")
        return " ".join(parts)


Limits = Callable[[Sequence[float]], float]  # all p-values -> the largest that counts


def judge(
    claims: Sequence[Claim],
    results: Results,
    test_rows: Mapping[str, Mapping[str, int]],
    *,
    limits: Limits = believed,
    independent: bool = False,
) -> dict[str, Verdict]:
    """Return the verdict on every claim, by the claim's id.

    All claims are judged together, because among a hundred tests on a few seeds some succeed by chance. So an answer
    counts if its p-value is at most the limit that `believed` gives for all rules of all empirical claims:

    - A *plain* trial is the setting that the sentence describes. If one answers "no", the claim is contradicted. If one
      is open, these seeds cannot tell, whatever the other trials say.
    - A *hard* trial is a setting in which a true sentence of this kind could well fail. If all plain trials pass, the
      claim holds if the hard ones pass too, and otherwise holds with a condition.
    - A claim that is true by construction (a count, the size of a file, two ways to compute the same thing) must be
      true for every seed. A single exception contradicts it.

    Args:
        test_rows: lesson -> prefix of a metric -> the number of its test rows (`ClaimsLedger.test_rows`).
        limits: the correction for several tests. independent: as in `estimate`. Both show how robust the verdicts are.
    """
    measured = {
        claim.id: [_trial(trial, results, test_rows, independent) for trial in claim.trials] for claim in claims
    }
    asked = [
        one.p
        for claim in claims
        if claim.kind == "empirical"
        for found in measured[claim.id]
        for _, _, one in found
        if one and not one.exact
    ]
    limit = limits(asked)
    return {claim.id: _verdict(claim, measured[claim.id], results, limit) for claim in claims}


Found = list[tuple[Comparison, int, Estimate | None]]


def _trial(trial: Trial, results: Results, test_rows: Mapping[str, Mapping[str, int]], independent: bool) -> Found:
    found: Found = []
    for rule in trial.rules:
        runs = [dict(zip(rule.metrics, values, strict=True)) for values in results.runs(trial.lesson, rule.metrics)]
        rows = rows_behind(rule.metrics, test_rows.get(trial.lesson, {}))
        found.append((rule, len(runs), estimate(rule, runs, rows, independent=independent)))
    return found


def _verdict(claim: Claim, measured: Sequence[Found], results: Results, limit: float) -> Verdict:
    trials = tuple(
        TrialResult(
            trial,
            tuple(
                Measurement(rule, seeds, one, _answer(claim, trial, rule, one, results, limit))
                for rule, seeds, one in found
            ),
        )
        for trial, found in zip(claim.trials, measured, strict=True)
    )
    return Verdict(claim, _word(claim, trials), trials)


def _answer(
    claim: Claim, trial: Trial, rule: Comparison, found: Estimate | None, results: Results, limit: float
) -> Answer:
    if found is None:
        return "missing"
    if claim.kind == "construction":
        runs = results.runs(trial.lesson, rule.metrics)
        every = all(rule.met_by(rule.evaluate(dict(zip(rule.metrics, values, strict=True)))) for values in runs)
        return "yes" if every else "no"
    return found.side if found.exact or found.p <= limit else "open"


def _word(claim: Claim, trials: Sequence[TrialResult]) -> Word:
    if claim.kind == "unmeasured":
        return "not measurable"
    plain = {one.answer for one in trials if not one.trial.hard}
    hard = {one.answer for one in trials if one.trial.hard} - {"missing"}
    if "no" in plain:
        return "contradicted"
    if not plain - {"missing"}:
        return "not measured yet"
    if claim.kind == "construction":
        return "true by construction"
    if "open" in plain:
        return "cannot tell"
    return "holds" if hard == {"yes"} else "holds with a condition"
