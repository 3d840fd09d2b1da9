"""How a solver ended, element by element."""

from __future__ import annotations

import warnings
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["ConvergenceWarning", "Status", "warn_not_converged"]


class ConvergenceWarning(RuntimeWarning):
    """Some elements of an array of problems did not converge; their values are NaN."""


class Status(IntEnum):
    """How one element of an array of problems ended.

    Examples
    --------
    >>> Status.CONVERGED.message
    'converged'
    >>> int(Status.DIVERGENT)
    1
    """

    CONVERGED = 0
    DIVERGENT = 1
    MAX_ITERATIONS = 2
    NON_FINITE = 3
    NEEDS_DECAY = 4

    @property
    def message(self) -> str:
        """One line for people."""
        return _MESSAGES[self]


_MESSAGES = {
    Status.CONVERGED: "converged",
    Status.DIVERGENT: "the exact solution is infinite here (interpolation threshold)",
    Status.MAX_ITERATIONS: "no convergence within the iteration limit; the values are NaN",
    Status.NON_FINITE: "a non-finite intermediate value; the values are NaN",
    Status.NEEDS_DECAY: "chi is infinite without decay (the student fits every sample it can): "
    "the general solver needs zeta > 0 here",
}


def warn_not_converged(status: NDArray[np.int8], *, stacklevel: int) -> None:
    """One `ConvergenceWarning` for all elements without a value; none if there are no such.

    `stacklevel` counts as for `warnings.warn` in the caller's place.
    """
    import numpy as np  # not at the top: the command line needs the warning without it

    failed = status > Status.DIVERGENT
    if failed.any():
        first = tuple(int(i) for i in np.argwhere(failed)[0])
        where = f", first at index {first}" if first else ""
        reasons = "; ".join(Status(int(code)).message for code in np.unique(status[failed]))
        warnings.warn(
            f"{int(failed.sum())} of {status.size} points did not converge{where}: {reasons}",
            ConvergenceWarning,
            stacklevel=stacklevel + 1,
        )
