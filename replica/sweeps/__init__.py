"""Sweeps: a grid of runs on any executor, every finished run safe in one SQLite file.

Imports NumPy and the argument checks; the runs may be any function. The file is the only state:
a sweep that is killed at any moment is resumed by the same call.
"""

from ._store import CorruptStoreError, StoreError
from ._sweep import delete_runs, load_runs, sweep
from ._table import SweepTable

__all__ = ["CorruptStoreError", "StoreError", "SweepTable", "delete_runs", "load_runs", "sweep"]
