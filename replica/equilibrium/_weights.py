"""What inputs and penalty make of the averages over one sample: the weights' half.

A channel says how one sample pulls, (V_hat, m_hat, q_hat) = (-alpha g0, alpha g1, alpha E[f^2]);
here these become overlaps. Other inputs or penalties are other functions of the same arguments.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Overlaps", "coordinates", "isotropic_ridge", "isotropic_ridge_slopes", "overlaps_at"]


class Overlaps(NamedTuple):
    """Susceptibility, overlap with the teacher, and q - m^2, which keeps its digits beside q."""

    chi: float
    m: float
    rest: float

    @property
    def q(self) -> float:
        """Overlap of two replicas."""
        return self.rest + self.m * self.m


def isotropic_ridge(V_hat: float, m_hat: float, q_hat: float, zeta: float) -> Overlaps | None:
    """chi = 1/(zeta + V_hat), m = m_hat chi, q = (m_hat^2 + q_hat) chi^2 for isotropic inputs.

    None where no minimum is left: zeta + V_hat <= 0, or q <= m^2.
    """
    stiffness = zeta + V_hat
    if not stiffness > 0.0:
        return None
    chi = 1.0 / stiffness
    rest = q_hat * chi * chi
    return Overlaps(chi, m_hat * chi, rest) if rest > 0.0 else None


def isotropic_ridge_slopes(overlaps: Overlaps, q_hat: float) -> NDArray[np.float64]:
    """Return the derivatives of (ln chi, m, ln rest) in (V_hat, m_hat, q_hat)."""
    chi, m, _ = overlaps
    return np.array([[-chi, 0.0, 0.0], [-m * chi, chi, 0.0], [-2.0 * chi, 0.0, 1.0 / q_hat]])


def coordinates(overlaps: Overlaps) -> NDArray[np.float64]:
    """Return (ln chi, m, ln rest), in which the fixed point is sought."""
    return np.array([math.log(overlaps.chi), overlaps.m, math.log(overlaps.rest)])


def overlaps_at(x: NDArray[np.float64]) -> Overlaps:
    """Return the overlaps at these coordinates."""
    return Overlaps(math.exp(x[0]), float(x[1]), math.exp(x[2]))
