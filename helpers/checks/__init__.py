"""Feedback on exercises: `check` an answer, print a `hint`, list which exercises are `solved`.

The exercises themselves are in `helpers.lessons.lesson_NN.exercises`.
"""

from helpers.checks.compare import (
    NotAttempted,
    Wrong,
    attempted,
    called,
    differs,
    expect,
    expect_calls,
    parts_of,
    returned,
)
from helpers.checks.overview import overview
from helpers.checks.registry import Feedback, assert_solved, check, exercise, go_on_with, hint, solved, verdict

__all__ = [
    "Feedback",
    "NotAttempted",
    "Wrong",
    "assert_solved",
    "attempted",
    "called",
    "check",
    "differs",
    "exercise",
    "expect",
    "expect_calls",
    "go_on_with",
    "hint",
    "overview",
    "parts_of",
    "returned",
    "solved",
    "verdict",
]
