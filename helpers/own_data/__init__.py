"""A learner's own file or folder as a dataset: read whole, its columns found, its rows counted and split.

`request` parses what a lesson's `data` says, `formats` reads the files, `columns` finds which column is which, `table`
sorts the rows into usable and not, `splits` makes train, validation and test, and `datasets` builds what lessons use.
`workbook data check` reports what the same functions find; its report lives in `workbook`.
"""

from helpers.own_data.datasets import load_columns, load_labelled, notes, print_notes
from helpers.own_data.request import Request

__all__ = ["Request", "load_columns", "load_labelled", "notes", "print_notes"]
