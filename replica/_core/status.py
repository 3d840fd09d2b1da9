"""How a solver ended, element by element."""

from __future__ import annotations

import os
import sys
import warnings
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["ConvergenceWarning", "Status", "warn", "warn_not_converged"]

_PACKAGE = os.path.dirname(os.path.dirname(__file__)) + os.sep


class ConvergenceWarning(RuntimeWarning):
    """Some elements of an array of problems did not converge; their values are NaN."""


class Status(IntEnum):
    """How one element of an array of problems, a run, or a point of a sweep ended, or stands.

    Solvers: CONVERGED, DIVERGENT (the exact answer is infinite, or the run ran away),
    MAX_ITERATIONS, NON_FINITE, NEEDS_DECAY. Simulations: CONVERGED (a tolerance was met), DONE (all
    steps that were asked for), DIVERGENT. Points of a sweep: DONE, FAILED, RUNNING, WAITING. In
    tables the name in lower case.

    Examples
    --------
    >>> Status.CONVERGED.message
    'converged'
    >>> int(Status.DIVERGENT)
    1
    """

    CONVERGED = 0
    DIVERGENT = 1
    DONE = 2
    MAX_ITERATIONS = 3
    NON_FINITE = 4
    NEEDS_DECAY = 5
    FAILED = 6
    RUNNING = 7
    WAITING = 8

    @property
    def message(self) -> str:
        """One line for people."""
        return _MESSAGES[self]


_MESSAGES = {
    Status.CONVERGED: "converged",
    Status.DIVERGENT: "the exact solution is infinite here, or the run ran away",
    Status.DONE: "all steps that were asked for are done",
    Status.MAX_ITERATIONS: "no convergence within the iteration limit; the values are NaN",
    Status.NON_FINITE: "a non-finite intermediate value; the values are NaN",
    Status.NEEDS_DECAY: "chi is infinite without decay (the student fits every sample it can): "
    "the general solver needs zeta > 0 here",
    Status.FAILED: "an error was raised",
    Status.RUNNING: "running",
    Status.WAITING: "not begun",
}


def warn(message: str, category: type[Warning] = ConvergenceWarning) -> None:
    """`warnings.warn` at the line that called the package, however deep inside it this is called.

    The filter that shows a warning once per line then sees the caller's lines.
    """
    frame = sys._getframe(1)
    while frame.f_code.co_filename.startswith(_PACKAGE) and frame.f_back is not None:
        frame = frame.f_back
    warnings.warn_explicit(
        message,
        category,
        frame.f_code.co_filename,
        frame.f_lineno,
        module=frame.f_globals.get("__name__", "<string>"),
        registry=frame.f_globals.setdefault("__warningregistry__", {}),
    )


def warn_not_converged(status: NDArray[np.int8]) -> None:
    """One `ConvergenceWarning` for all elements without a value; none if there are no such."""
    import numpy as np  # not at the top: the command line needs the warning without it

    failed = status > Status.DONE
    if failed.any():
        first = tuple(int(i) for i in np.argwhere(failed)[0])
        where = f", first at index {first}" if first else ""
        reasons = "; ".join(Status(int(code)).message for code in np.unique(status[failed]))
        warn(f"{int(failed.sum())} of {status.size} points did not converge{where}: {reasons}")
