"""How a solver ended, element by element."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["ConvergenceWarning", "Status"]


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
