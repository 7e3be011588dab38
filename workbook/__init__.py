"""The command `workbook`: it runs, sweeps, checks and publishes the lessons.

Lessons import `helpers`, not this package. The exceptions are lesson 00, which imports `workbook.doctor`, and lesson
12, which imports `workbook.claims`.
"""
