"""Answers to the exercises of lesson 12: right ones, and mistakes with what the check says to them."""

from __future__ import annotations


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


def ranked(rows):
    found = {}
    for row in sorted(rows, key=lambda row: -row["accuracy"]):
        found.setdefault(row["setting"], []).append(row["method"])
    return found


RIGHT = {"12.1": as_good_as_full, "12.2": largest_believed, "12.3": ranked}


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
    ("12.3", lambda rows: sorted(rows, key=lambda row: -row["accuracy"]), "This is one list"),
    ("12.3", lambda rows: {"500 labels": ["adapter"]}, "the methods of 500 labels should have 2 items"),
    ("12.3", lambda rows: 1, "a dictionary"),
]
