"""`workbook run`: lessons side by side into one folder under `runs/`, which a later command can resume.

How a lesson is executed is `workbook.engine`'s business; lessons themselves are `workbook.lessons`'.
"""
