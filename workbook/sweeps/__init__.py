"""Sweeps: one notebook over a grid of parameters and seeds, on Dask, with a ledger on the disk that can be resumed."""
