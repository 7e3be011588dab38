"""A lesson as a thing to find, check and show: its notebook, parameters and page; JupyterLab; a kernel's settings.

Executing lessons is not done here: `workbook.engine`.
"""

from workbook.lessons.lesson import NOTEBOOKS, Lesson, find, select

__all__ = ["NOTEBOOKS", "Lesson", "find", "select"]
