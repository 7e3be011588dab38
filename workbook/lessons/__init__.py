"""The lessons as things to find, check, run side by side and show."""

from workbook.lessons.lesson import NOTEBOOKS, Lesson, find, select

__all__ = ["NOTEBOOKS", "Lesson", "find", "select"]
