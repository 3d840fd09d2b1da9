"""What theory and simulation ask of students alike: continuity, and the error of a leaky one."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .arguments import ArgumentError

__all__ = ["error_of_overlaps", "refuse_jumps"]

# On both sides of a kink, far enough apart for a jump and for no slope to show.
_NEAR = 1e-9
# Within 2e-9 around a kink a continuous activation changes by less.
_JUMP = 1e-6


class _HasKinks(Protocol):
    """A student as `replica.students` has them."""

    @property
    def name(self) -> str: ...
    @property
    def kinks(self) -> tuple[float, ...]: ...
    def values(self, u: ArrayLike) -> NDArray[np.float64]: ...


def refuse_jumps(student: _HasKinks, name: str = "student") -> None:
    """Refuse a student that jumps, where it learns by its slope."""
    for kink in student.kinks:
        below, above = student.values([kink - _NEAR, kink + _NEAR])
        if abs(above - below) > _JUMP:
            raise ArgumentError(
                f"{name} must be continuous, since it learns by its slope; {student.name} jumps at "
                f"{kink:g}"
            )


def error_of_overlaps(
    gamma: NDArray[np.float64], R: NDArray[np.float64], slope: float
) -> NDArray[np.float64]:
    """Generalization error E[(z - g(u))^2] at length `gamma` and overlap `R`, unchecked.

    Eq. (18) for any slope, as a sum of squares so that nothing cancels near the minimum; inf where
    `gamma` is.
    """
    k = 0.5 * (1.0 + slope * slope)
    with np.errstate(invalid="ignore"):
        along = np.where(np.isinf(gamma), 0.0, gamma * R - 0.5 * (1.0 + slope) / k)
        excess = gamma**2 * (1.0 - R) * (1.0 + R) + along**2
    return 0.25 * (1.0 - slope) ** 2 / k + k * excess
