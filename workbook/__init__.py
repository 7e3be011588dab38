"""The command `workbook`: it runs, sweeps, checks and publishes the lessons.

A lesson imports `helpers`, not this package. Only lesson 00 (`workbook.doctor`) and lesson 12 (`workbook.claims`) do.
"""
