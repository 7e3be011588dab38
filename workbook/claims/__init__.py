"""The claims of the course, measured: the ledger, its rules, its results and its verdicts."""
