"""`workbook sweep`: one notebook over a grid of parameters and seeds, with a ledger on disk that can be resumed.

Here are a sweep's file, its plan, its commands and its results. How a run is executed is `workbook.engine`'s business.
"""
