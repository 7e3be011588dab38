"""`workbook sweep`: runs a notebook over a grid of parameters and seeds, and records every run, so it can be resumed.

This package has a sweep's file format, its plan, its commands and its results. `workbook.engine` executes the runs.
"""
