"""One leaderboard over all methods, with a table for each setting, because only rows measured alike can be ranked.

Each lesson has one setting: the model it starts from, the number of labelled reviews, and the epochs. Within a setting,
all methods had the same rows, steps and evaluation.
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

# Method -> its title, and its family: a baseline, or one of lesson 07's families.
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
# Lesson -> the model that its methods start from, and the methods.
BOARDS = {
    "02": ("the pretrained encoder", ("bag_of_words", "scratch", "head_only", "last_block", "full")),
    "07": ("the pretrained encoder", ("head_only", "bitfit", "last_block", "adapter", "ia3", "soft_prompt", "prefix",
                                      "lora", "full")),
    "08": ("an encoder that has learned topics", ("bag_of_words", "head_only", "lora", "full")),
    "09": ("the pretrained encoder", ("head_only", "lora", "rslora", "dora")),
    "11": ("the pretrained encoder", ("full", "lora", "qlora")),
}  # fmt: skip
HEADS = ("method", "accuracy [95 %]", "rate", "trained parameters", "file", "memory", "training time", "forgotten")
OTHER_RECIPES = {("07", "lora"): "lora_query_value"}  # (lesson, method) -> recipe, if it has another name
AT_THE_EDGE = {("07", "soft_prompt"), ("07", "prefix")}  # the best rate was the highest that was tried
COST = ("trainable_parameters", "checkpoint_bytes", "peak_memory_bytes", "seconds")


@dataclass(frozen=True)
class Row:
    """One method in one setting; `accuracy` is None if the setting's results do not contain the method."""

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
        """The number of trained parameters, which is the same in every run."""
        return self.cost["trainable_parameters"][0]

    @property
    def family(self) -> str:
        return METHODS[self.method][1]


def setting(lesson: str, results: Results) -> str:
    """Describe what all rows of a lesson have in common, with the numbers from the lesson's results."""
    settings = results.lessons[lesson].settings if lesson in results.lessons else {}
    labels, passes = settings.get("labels"), settings.get("epochs")
    parts = [f"lesson {lesson}: {BOARDS[lesson][0]}"]
    parts += [f"{labels:,} labelled reviews"] if labels else []
    if isinstance(passes, Mapping):  # the number of epochs depends on the method
        passes = f"{min(passes.values())} to {max(passes.values())}"
    parts += [f"{passes} passes"] if passes else []
    return ", ".join(parts)


@cache
def _test_rows() -> TestRows:
    return load_ledger().test_rows


def interval(lesson: str, formula: str, results: Results) -> Interval | None:
    """Return a formula's interval over the seeds and their shared test rows, as in the ledger; None without runs."""
    rule = parse(formula)
    runs = [dict(zip(rule.metrics, values, strict=True)) for values in results.runs(lesson, rule.metrics)]
    found = estimate(rule, runs, rows_behind(rule.metrics, _test_rows().get(lesson, {})))
    return found.interval if found else None


def rows(results: Results) -> dict[str, list[Row]]:
    """Return lesson -> its rows, best accuracy first. Methods without figures come last, with the reason.

    A method that another lesson measured gets no empty row.
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
    """Describe how much of the old task is lost: nats of the masked-word loss, or points of accuracy on the topics."""
    rises = results.values(lesson, f"loss_rise_{method}")
    if rises:
        return f"{_interval(mean_t(rises), '+.2f')} nats"
    pairs = results.runs(lesson, ["accuracy_topics_before", f"accuracy_topics_{method}"])
    points = [100 * (before - after) for before, after in pairs]
    return f"{_interval(mean_t(points), '+.0f')} points on topics" if points else ""


def _interval(interval: Interval, spec: str) -> str:
    """Format the interval, or only the value if a single run gives no interval."""
    return f"{interval.value:{spec}}" if math.isnan(interval.low) else f"{interval:{spec}}"


def cells(row: Row) -> list[str]:
    """Return accuracy, rate, trained parameters, file, memory, seconds and forgetting as text, '' if unknown."""
    if row.accuracy is None:
        return [""] * (len(HEADS) - 1)
    counts, sizes, peaks, seconds = (row.cost[what] for what in COST)
    # Memory and seconds depend on other work on the machine, so the cell shows their median and range.
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
    """Return the learning rate of the lesson's recipe as text, or '' for a method without one."""
    name = OTHER_RECIPES.get((row.lesson, row.method), row.method)
    if name not in POCKET:
        return ""
    note = " (highest tried)" if (row.lesson, row.method) in AT_THE_EDGE else ""
    return f"{recipe(name, lesson=row.lesson).learning_rate:g}{note}"


def _middle(values: Sequence[float], unit: str) -> str:
    """Format the median, smallest and largest value, with two digits if below 10."""
    if not values:
        return ""
    low, middle, high = (f"{value:.2g}" if value < 10 else f"{value:.0f}" for value in
                         (min(values), median(values), max(values)))  # fmt: skip
    return f"{middle}{unit}" + (f" ({low} to {high})" if len(values) > 1 else "")


def share_of_way(row: Row, results: Results) -> Interval | None:
    """Return how far a method gets, seed by seed, from head only (0) to full fine-tuning (1) in its setting."""
    own, floor, ceiling = (f"accuracy_{name}" for name in (row.method, "head_only", "full"))
    return interval(row.lesson, f"({own} - {floor}) / ({ceiling} - {floor}) > 0.5", results)


def page(results: Results, own: Results) -> str:
    """Return the leaderboard in Markdown: a table for each setting, with the learner's own rows last, in italics."""
    mine = {lesson: [row for row in part if row.accuracy] for lesson, part in rows(own).items()}
    parts = []
    for lesson, part in rows(results).items():
        lines = [[row.title, *_shown(row)] for row in part]
        lines += [[f"*{text}*" for text in (f"{row.title}, yours", *_shown(row))] for row in mine[lesson]]
        table = markdown_table(HEADS, lines) if lines else ""
        parts += [f"**{_raised(setting(lesson, results))}**", table, _note(lesson, part, results)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _shown(row: Row) -> list[str]:
    """Return a row's cells, with a dash for each unknown; without any figure, the first cell gives the reason."""
    return [text or "–" for text in cells(row)] if row.accuracy else [row.reason, *["–"] * (len(HEADS) - 2)]


def _note(lesson: str, part: Sequence[Row], results: Results) -> str:
    """Say why the table has no figures, or which columns are empty in all rows."""
    known = [cells(row) for row in part if row.accuracy]
    if not known:
        return f"{_raised(_why(lesson, results))}."
    empty = [head for head, column in zip(HEADS[1:], zip(*known, strict=True), strict=True) if not any(column)]
    return f"Not kept in these results: {', '.join(empty)}." if empty else ""


def _raised(text: str) -> str:
    return text[0].upper() + text[1:]


def shares(results: Results, named: Results | None = None) -> dict[str, list[tuple[Row, Interval]]]:
    """Return setting -> (row, share of the way) for all methods with a known share, for the figure.

    named: the results that name the settings; by default `results`. For the learner's runs, pass the reference.
    """
    found = {}
    for lesson, part in rows(results).items():
        measured = [(row, share_of_way(row, results)) for row in part if row.cost.get("trainable_parameters")]
        if known := [(row, share) for row, share in measured if share]:
            found[setting(lesson, named or results)] = known
    return found
