"""The engine behind `workbook run` and `workbook sweep`: runs of notebooks, each in a worker process with its kernel.

A scheduler (this machine's processes, or Dask) gives a `Task` to a worker; the worker executes the notebook with
papermill and writes what happened into the ledger on disk. What to run, and how to show it, is the callers' business:
`workbook.run` and `workbook.sweeps`.
"""

import sys

# jsonschema, which nbformat imports, would build a grammar of international addresses: a second of every command and
# worker, for what no notebook's schema asks. Without that module it does without.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]  # None: "there is no such module"
