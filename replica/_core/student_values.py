"""What theory and simulation ask of students alike: values, continuity, a leaky one's error."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Protocol

import numpy as np
from numba.core.registry import CPUDispatcher
from numpy.typing import ArrayLike, NDArray

from .activation_table import ActivationTable, activation_value
from .arguments import ArgumentError
from .callables import RealFunction
from .jit import jit

__all__ = ["error_of_overlaps", "quick_values", "refuse_jumps"]

# On both sides of a kink, far enough apart for a jump and for no slope to show.
_NEAR = 1e-9
# Within 2e-9 around a kink a continuous activation changes by less.
_JUMP = 1e-6


class _HasValues(Protocol):
    """A student as `replica.students` has them."""

    @property
    def name(self) -> str: ...
    @property
    def kinks(self) -> tuple[float, ...]: ...
    def values(self, u: ArrayLike) -> NDArray[np.float64]: ...
    def table(self, half_width: float) -> ActivationTable: ...


# Functions remembered: more than one problem uses, few enough to hold.
@lru_cache(maxsize=64)
def _takes_arrays(activation: RealFunction) -> bool:
    points = np.linspace(-1.0, 1.0, 3)
    try:
        return np.shape(activation(points)) == points.shape
    except Exception:  # written for one number
        return False


@jit
def _tabulated(
    breaks: NDArray[np.float64], series: NDArray[np.float64], u: NDArray[np.float64]
) -> NDArray[np.float64]:
    flat = u.ravel()
    out = np.empty(flat.size)
    for i in range(flat.size):
        out[i] = activation_value(breaks, series, flat[i])
    return out


def quick_values(student: _HasValues, u: NDArray[np.float64]) -> NDArray[np.float64]:
    """g(u), from the table where g is Python code that has to be called for every number."""
    activation = getattr(student, "activation", None)
    if activation is None or isinstance(activation, CPUDispatcher) or _takes_arrays(activation):
        return student.values(u)
    # A power of two, so that there are few tables.
    width = 2.0 ** math.ceil(math.log2(max(16.0, float(np.abs(u).max(initial=0.0)))))
    table = student.table(width)
    return _tabulated(table.breaks, table.series, u).reshape(u.shape)


def refuse_jumps(student: _HasValues, name: str = "student") -> None:
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
