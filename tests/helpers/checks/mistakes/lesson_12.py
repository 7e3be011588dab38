"""Answers to the exercises of lesson 12: right ones, and mistakes with what the check says to them."""

from __future__ import annotations

from scipy import stats


def as_good_as_full():
    return "accuracy_lora - accuracy_full >= -0.01"


def largest_believed(p_values, rate=0.05):
    count = 0
    for place, p in enumerate(sorted(p_values), start=1):
        if p <= place * rate / len(p_values):
            count = place
    return sorted(p_values)[count - 1] if count else 0.0


def stops_early(p_values, rate=0.05):
    last = 0.0
    for place, p in enumerate(sorted(p_values), start=1):
        if p > place * rate / len(p_values):
            return last
        last = p
    return last


def stops_after(values, looks, level=0.05):
    p_values = ((count, stats.ttest_1samp(values[:count], 0).pvalue) for count in looks)
    return next((count for count, p in p_values if p <= level), None)


def looks_always(values, looks, level=0.05):
    return stops_after(values, range(2, len(values) + 1), level)


def looks_ahead(values, looks, level=0.05):
    return next((count for count in looks if stats.ttest_1samp(values, 0).pvalue <= level), None)


def one_sided(values, looks, level=0.05):
    p_values = ((count, stats.ttest_1samp(values[:count], 0, alternative="greater").pvalue) for count in looks)
    return next((count for count, p in p_values if p <= level), None)


def ranked(rows):
    found = {}
    for row in sorted(rows, key=lambda row: -row["accuracy"]):
        found.setdefault(row["setting"], []).append(row["method"])
    return found


RIGHT = {"12.1": as_good_as_full, "12.2": largest_believed, "12.3": stops_after, "12.4": ranked}


MISTAKES = [
    ("12.1", lambda: None, "should return a rule as text"),
    ("12.1", lambda: True, "should return a rule as text"),
    ("12.1", lambda: "accuracy_lora is fine", "should return a rule as text"),
    ("12.1", lambda: "accuracy_lora > 0.9", "the rule where LoRA and all parameters are equal"),
    ("12.1", lambda: "accuracy_lora - accuracy_full > 0", "LoRA and all parameters are equal"),
    ("12.1", lambda: "accuracy_lora / accuracy_full > 0.5", "LoRA is worse by one and a half points"),
    ("12.1", lambda: "accuracy_lora - accuracy_full > -0.02", "LoRA is worse by one and a half points"),
    ("12.1", lambda: "accuracy_lora / accuracy_full > 0.98", "LoRA is worse by one and a half points"),
    ("12.1", lambda: "accuracy_full - accuracy_lora > -0.01", "LoRA is better by five points"),
    ("12.1", lambda: "accuracy_qlora > 0.5", "cannot be computed from accuracy_lora and accuracy_full"),
    ("12.1", lambda: "exit(1) > 0.5", "cannot be computed from accuracy_lora and accuracy_full"),
    ("12.2", lambda p_values, rate: None, "is None: is a return missing?"),
    ("12.2", lambda p_values, rate: max([p for p in p_values if p <= rate], default=0.0), "the only question"),
    ("12.2", lambda p_values, rate: max([p for p in p_values if p <= rate / len(p_values)], default=0.0), "Bonferroni"),
    ("12.2", stops_early, "stops at the first p above the line"),
    ("12.3", looks_always, "not only at those in `looks`"),
    ("12.3", looks_ahead, "that are not there yet"),
    ("12.3", one_sided, "should be None, not 5"),
    ("12.3", lambda values, looks, level: stops_after(values, looks), "should be None, not 6"),
    ("12.3", lambda values, looks, level: stops_after(values, looks[-1:], level), "only the last look is tested"),
    ("12.4", lambda rows: sorted(rows, key=lambda row: -row["accuracy"]), "This is one list"),
    ("12.4", lambda rows: {"500 labels": ["adapter"]}, "the methods of 500 labels should have 2 items"),
    ("12.4", lambda rows: 1, "a dictionary"),
]
