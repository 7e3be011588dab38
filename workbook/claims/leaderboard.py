"""One leaderboard over all methods, kept apart by setting: only rows measured alike are ranked together.

A setting is a lesson's: from which model, with how many labelled reviews, for how long. Inside it all methods had the
same rows, steps and judge.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import median

from helpers.intervals import Interval, mean_t
from helpers.recipes import POCKET, recipe
from workbook.claims.comparison import parse
from workbook.claims.inference import estimate
from workbook.claims.ledger import TestRows, load_ledger, rows_behind
from workbook.claims.page import markdown_table
from workbook.claims.results import Results

# Method -> its title, and how it goes about it: a baseline, or lesson 07's families.
METHODS = {
    "bag_of_words": ("bag of words", "baseline"),
    "scratch": ("random start, all parameters", "baseline"),
    "head_only": ("head only", "selective"),
    "last_block": ("last block", "selective"),
    "full": ("all parameters", "all"),
    "bitfit": ("BitFit", "selective"),
    "adapter": ("adapter", "additive"),
    "soft_prompt": ("soft prompt", "additive"),
    "prefix": ("prefix", "additive"),
    "ia3": ("IA3", "additive"),
    "lora": ("LoRA", "reparameterised"),
    "rslora": ("rsLoRA", "reparameterised"),
    "dora": ("DoRA", "reparameterised"),
    "qlora": ("QLoRA", "reparameterised"),
}
# Lesson -> what its methods start from, and its methods.
BOARDS = {
    "02": ("the pretrained encoder", ("bag_of_words", "scratch", "head_only", "last_block", "full")),
    "07": ("the pretrained encoder", ("head_only", "bitfit", "last_block", "adapter", "ia3", "soft_prompt", "prefix",
                                      "lora", "full")),
    "08": ("an encoder that has learned topics", ("bag_of_words", "head_only", "lora", "full")),
    "09": ("the pretrained encoder", ("head_only", "lora", "rslora", "dora")),
    "11": ("the pretrained encoder", ("full", "lora", "qlora")),
}  # fmt: skip
HEADS = ("method", "accuracy [95 %]", "rate", "trained parameters", "file", "memory", "training time", "forgotten")
OTHER_RECIPES = {("07", "lora"): "lora_query_value"}  # lesson, method -> its recipe's name, where that is another
AT_THE_EDGE = {("07", "soft_prompt"), ("07", "prefix")}  # their rate is the highest that was tried
COST = ("trainable_parameters", "checkpoint_bytes", "peak_memory_bytes", "seconds")


@dataclass(frozen=True)
class Row:
    """One method in one setting; what the setting's results do not hold is None."""

    method: str
    lesson: str
    accuracy: Interval | None
    seeds: int
    cost: Mapping[str, list[float]]
    forgetting: str = ""
    reason: str = ""

    @property
    def title(self) -> str:
        return METHODS[self.method][0]

    @property
    def parameters(self) -> float:
        """How many numbers it trains; the same in every run."""
        return self.cost["trainable_parameters"][0]

    @property
    def family(self) -> str:
        return METHODS[self.method][1]


def setting(lesson: str, results: Results) -> str:
    """What all rows of a lesson have in common, in words; the numbers are its results' own."""
    settings = results.lessons[lesson].settings if lesson in results.lessons else {}
    labels, passes = settings.get("labels"), settings.get("epochs")
    parts = [f"lesson {lesson}: {BOARDS[lesson][0]}"]
    parts += [f"{labels:,} labelled reviews"] if labels else []
    if isinstance(passes, Mapping):  # each method has as many as it needs
        passes = f"{min(passes.values())} to {max(passes.values())}"
    parts += [f"{passes} passes"] if passes else []
    return ", ".join(parts)


@cache
def _test_rows() -> TestRows:
    return load_ledger().test_rows


def interval(lesson: str, formula: str, results: Results) -> Interval | None:
    """The ledger's own interval of a formula, over the seeds and the test rows that they share; None without runs."""
    rule = parse(formula)
    runs = [dict(zip(rule.metrics, values, strict=True)) for values in results.runs(lesson, rule.metrics)]
    found = estimate(rule, runs, rows_behind(rule.metrics, _test_rows().get(lesson, {})))
    return found.interval if found else None


def rows(results: Results) -> dict[str, list[Row]]:
    """Lesson -> its rows, best accuracy first; methods without figures stand last and say why.

    A method that is measured in another lesson leaves no empty row behind.
    """
    found = {lesson: [_row(lesson, method, results) for method in methods] for lesson, (_, methods) in BOARDS.items()}
    known = {row.method for part in found.values() for row in part if row.accuracy}
    homes = {method: lesson for lesson, (_, methods) in reversed(BOARDS.items()) for method in methods}
    return {
        lesson: sorted(
            (row for row in part if row.accuracy or (row.method not in known and homes[row.method] == lesson)),
            key=lambda row: -row.accuracy.value if row.accuracy else 1.0,
        )
        for lesson, part in found.items()
    }


def _row(lesson: str, method: str, results: Results) -> Row:
    scores = results.values(lesson, f"accuracy_{method}")
    if not scores:
        return Row(method, lesson, None, 0, {}, reason=_why(lesson, results))
    cost = {what: results.values(lesson, f"{what}_{method}") for what in COST}
    accuracy = interval(lesson, f"accuracy_{method} > 0", results)
    return Row(method, lesson, accuracy, len(scores), cost, _forgetting(lesson, method, results))


def _why(lesson: str, results: Results) -> str:
    if lesson in results.lessons:
        return f"lesson {lesson}'s results do not hold it"
    return "not measured yet: make reference"


def _forgetting(lesson: str, method: str, results: Results) -> str:
    """How much of the old task is lost: nats of the masked-word loss, or points of accuracy on the topics."""
    rises = results.values(lesson, f"loss_rise_{method}")
    if rises:
        return f"{_interval(mean_t(rises), '+.2f')} nats"
    pairs = results.runs(lesson, ["accuracy_topics_before", f"accuracy_topics_{method}"])
    points = [100 * (before - after) for before, after in pairs]
    return f"{_interval(mean_t(points), '+.0f')} points on topics" if points else ""


def _interval(interval: Interval, spec: str) -> str:
    """The interval, or for a single run, which has none, its value."""
    return f"{interval.value:{spec}}" if math.isnan(interval.low) else f"{interval:{spec}}"


def cells(row: Row) -> list[str]:
    """Accuracy, rate, trained parameters, file, memory, seconds and forgetting in words; '' is not known."""
    if row.accuracy is None:
        return [""] * (len(HEADS) - 1)
    counts, sizes, peaks, seconds = (row.cost[what] for what in COST)
    # Memory and seconds depend on what else the machine did: the middle run, and the range of all.
    return [
        _interval(row.accuracy, ".3f"),
        rate(row),
        f"{counts[0]:,.0f}" if counts else "",
        f"{sizes[0] / 1e3:,.0f} kB" if sizes else "",
        _middle([value / 1e6 for value in peaks], " MB"),
        _middle(seconds, " s"),
        row.forgetting,
    ]


def rate(row: Row) -> str:
    """The learning rate of the lesson's recipe; '' for a method that has none."""
    name = OTHER_RECIPES.get((row.lesson, row.method), row.method)
    if name not in POCKET:
        return ""
    note = " (highest tried)" if (row.lesson, row.method) in AT_THE_EDGE else ""
    return f"{recipe(name, lesson=row.lesson).learning_rate:g}{note}"


def _middle(values: Sequence[float], unit: str) -> str:
    """The median with the smallest and largest, two digits each."""
    if not values:
        return ""
    low, middle, high = (f"{value:.2g}" if value < 10 else f"{value:.0f}" for value in
                         (min(values), median(values), max(values)))  # fmt: skip
    return f"{middle}{unit}" + (f" ({low} to {high})" if len(values) > 1 else "")


def share_of_way(row: Row, results: Results) -> Interval | None:
    """How far a method goes from the head alone (0) to all parameters (1) of its own setting, seed by seed."""
    own, floor, ceiling = (f"accuracy_{name}" for name in (row.method, "head_only", "full"))
    return interval(row.lesson, f"({own} - {floor}) / ({ceiling} - {floor}) > 0.5", results)


def page(results: Results, own: Results) -> str:
    """The whole leaderboard in Markdown: a table for each setting, the learner's own rows in italics under it."""
    mine = {lesson: [row for row in part if row.accuracy] for lesson, part in rows(own).items()}
    parts = []
    for lesson, part in rows(results).items():
        lines = [[row.title, *_shown(row)] for row in part]
        lines += [[f"*{text}*" for text in (f"{row.title}, yours", *_shown(row))] for row in mine[lesson]]
        table = markdown_table(HEADS, lines) if lines else ""
        parts += [f"**{_raised(setting(lesson, results))}**", table, _note(lesson, part, results)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _shown(row: Row) -> list[str]:
    """A row's cells with a dash where nothing is known; a row without any figure says why in the first."""
    return [text or "–" for text in cells(row)] if row.accuracy else [row.reason, *["–"] * (len(HEADS) - 2)]


def _note(lesson: str, part: Sequence[Row], results: Results) -> str:
    """Why a whole table, or a column that no row of it fills, is empty."""
    known = [cells(row) for row in part if row.accuracy]
    if not known:
        return f"{_raised(_why(lesson, results))}."
    empty = [head for head, column in zip(HEADS[1:], zip(*known, strict=True), strict=True) if not any(column)]
    return f"Not kept in these results: {', '.join(empty)}." if empty else ""


def _raised(text: str) -> str:
    return text[0].upper() + text[1:]


def shares(results: Results, named: Results | None = None) -> dict[str, list[tuple[Row, Interval]]]:
    """Setting -> (row, share of the way) of all methods whose share is known, for the figure.

    named: whose settings give the names; None takes the results' own. The learner's runs take the reference's.
    """
    found = {}
    for lesson, part in rows(results).items():
        measured = [(row, share_of_way(row, results)) for row in part if row.cost.get("trainable_parameters")]
        if known := [(row, share) for row, share in measured if share]:
            found[setting(lesson, named or results)] = known
    return found
