"""`workbook run`: runs lessons in parallel and writes them to one folder under `runs/`; a later command can resume it.

`workbook.engine` executes the lessons; `workbook.lessons` finds and checks them.
"""
