"""Turns a learner's own file or folder into a dataset: reads it, finds its columns, checks and splits its rows.

`request` parses a lesson's `data`, `formats` reads the files, `columns` assigns columns to roles, `table` separates
usable rows from others, `splits` makes train, validation and test, and `datasets` builds what lessons use.
`workbook data check` uses the same functions; its report is in `workbook`.
"""

from helpers.own_data.datasets import load_columns, load_labelled, notes, print_notes
from helpers.own_data.request import Request

__all__ = ["Request", "load_columns", "load_labelled", "notes", "print_notes"]
