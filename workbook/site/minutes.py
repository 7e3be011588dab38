"""The minutes that a lesson takes: to run it, as `make bench` measured, and to read it, estimated from its length."""

from __future__ import annotations

import json
import re
from pathlib import Path

from helpers.reference import FOLDER
from workbook.lessons.lesson import Lesson

WORDS_A_MINUTE = 130  # reading speed of a reader who works through the text
CODE_LINES_A_MINUTE = 25
EXERCISE_MINUTES = 4
FIVE = 5


def running(name: str, folder: Path = FOLDER) -> float | None:
    """Seconds of the lesson's standard run as `make bench` measured them; None if it was not measured."""
    path = folder / "lessons.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["lessons"] if path.is_file() else []
    found = [row["seconds"] for row in rows if row["lesson"] == name and row["budget"] == "standard"]
    return found[-1] if found else None


def reading(lesson: Lesson) -> int:
    """The estimated minutes to read a lesson, rounded to five, from its words, lines of code and exercises."""
    words = sum(len(cell["source"].split()) for cell in lesson.cells if cell["cell_type"] == "markdown")
    code = sum(len(cell["source"].splitlines()) for cell in lesson.cells if cell["cell_type"] == "code")
    minutes = words / WORDS_A_MINUTE + code / CODE_LINES_A_MINUTE + EXERCISE_MINUTES * len(lesson.tagged("exercise"))
    return max(FIVE, FIVE * round(minutes / FIVE))


def in_words(seconds: float | None) -> str:
    """A measured time in words."""
    if seconds is None:
        return "not measured yet"
    minutes = seconds / 60
    return f"{seconds:.0f} seconds" if minutes < 1 else re.sub(r"\.0 ", " ", f"{minutes:.1f} minutes")
