"""How many processor cores this process may use."""

from __future__ import annotations

import os

__all__ = ["n_cores"]


def n_cores() -> int:
    """Cores granted to this process: fewer than the machine's under a scheduler or `taskset`."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1
