"""Feedback on exercises: `check` an answer, ask for a `hint`, count what is `solved`."""

from helpers.checks.compare import NotAttempted, attempted, differs
from helpers.checks.overview import overview
from helpers.checks.registry import Feedback, assert_solved, check, exercise, hint, solved, verdict

__all__ = [
    "Feedback",
    "NotAttempted",
    "assert_solved",
    "attempted",
    "check",
    "differs",
    "exercise",
    "hint",
    "overview",
    "solved",
    "verdict",
]
