"""The engine behind `workbook run` and `workbook sweep`: it runs each notebook in a worker process with its own kernel.

A scheduler (this machine's processes, or Dask) gives a `Task` to a worker; the worker executes the notebook with
papermill and records the outcome in the ledger on disk. The callers, `workbook.run` and `workbook.sweeps`, decide what
to run and how to show it.
"""

import sys

# nbformat imports jsonschema, which builds a grammar for international addresses with this module. That takes a second
# in every command and worker, and no notebook's schema needs it. jsonschema also works without the module.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]  # None makes its import fail
