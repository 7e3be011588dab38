"""Finds, checks and shows lessons: notebooks, parameters, web pages, JupyterLab, and the settings of kernels.

`workbook.engine` executes the lessons.
"""

from workbook.lessons.lesson import NOTEBOOKS, Lesson, find, select

__all__ = ["NOTEBOOKS", "Lesson", "find", "select"]
