"""Students: the activation g(u) that turns the field u = W.x into the output.

May import `_validation` only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ._validation import real_scalar

__all__ = ["LINEAR", "RELU", "LeakyReLU", "as_student"]


@dataclass(frozen=True)
class LeakyReLU:
    """The piecewise-linear student g(u) = u for u > 0 and slope * u for u < 0.

    Parameters
    ----------
    slope : float
        Slope of the negative side, in [0, 1]: 1 is the linear student, 0 is ReLU.

    Raises
    ------
    TypeError, ValueError
        If `slope` is not a real number in [0, 1].

    Examples
    --------
    >>> LeakyReLU(0.1)
    LeakyReLU(slope=0.1)
    >>> LeakyReLU(1.0) == LINEAR
    True
    """

    slope: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "slope", real_scalar("slope", self.slope, low=0.0, high=1.0))

    @property
    def name(self) -> str:
        """Name for labels and tables: "linear", "relu" or "leaky-relu(slope)"."""
        if self.slope == 1.0:
            return "linear"
        return "relu" if self.slope == 0.0 else f"leaky-relu({self.slope:g})"


LINEAR = LeakyReLU(1.0)
RELU = LeakyReLU(0.0)
_BY_NAME = {"linear": LINEAR, "relu": RELU}


def as_student(student: Any, *, name: str = "student") -> LeakyReLU:
    """Return the student meant by `student`: "linear", "relu" or a `LeakyReLU` itself.

    Examples
    --------
    >>> as_student("relu")
    LeakyReLU(slope=0.0)
    """
    if isinstance(student, LeakyReLU):
        return student
    if not isinstance(student, str):
        raise TypeError(f"{name} must be 'linear', 'relu' or a LeakyReLU(slope), got {student!r}")
    if student not in _BY_NAME:
        raise ValueError(f"{name} must be 'linear', 'relu' or a LeakyReLU(slope), got {student!r}")
    return _BY_NAME[student]
