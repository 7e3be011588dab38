"""A learner's own file or folder as a dataset: read whole, its columns mapped, its rows counted and split."""

from helpers.local_data.datasets import labelled, notes, rows_of, told
from helpers.local_data.request import Request
from helpers.local_data.table import read_table

__all__ = ["Request", "labelled", "notes", "read_table", "rows_of", "told"]
