"""What inputs and penalty make of the averages over one sample: the weights' half.

A channel says how one sample pulls, (V_hat, m_hat, q_hat) = (-alpha g0, alpha g1, alpha E[f^2]);
here these become overlaps. In a mode of variance s and cross-power c with the teacher, whose field
has variance rho, means over the modes written <.>,

    chi = <s/(zeta + V_hat s)>,   m = m_hat <c/(zeta + V_hat s)>,
    q = <(m_hat^2 c s + q_hat s^2)/(zeta + V_hat s)^2>,   s = c = rho = 1 for isotropic inputs.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from replica._core.jit import jit
from replica.inputs import Inputs, Isotropic

__all__ = [
    "IsotropicRidge",
    "ModeArrays",
    "Overlaps",
    "Ridge",
    "RidgeSums",
    "coordinates",
    "linear_start",
    "mode_arrays",
    "overlaps_and_slopes",
    "overlaps_at",
    "ridge_of",
    "ridge_sums",
]


class Overlaps(NamedTuple):
    """Susceptibility, overlap with the teacher, and q - m^2/rho, which keeps its digits beside q.

    `rho` is the variance of the teacher's field.
    """

    chi: float
    m: float
    rest: float
    rho: float = 1.0

    @property
    def q(self) -> float:
        """Overlap of two replicas."""
        return self.rest + self.m * self.m / self.rho


def coordinates(overlaps: Overlaps) -> NDArray[np.float64]:
    """Return (ln chi, m, ln rest), in which the fixed point is sought."""
    return np.array([math.log(overlaps.chi), overlaps.m, math.log(overlaps.rest)])


def overlaps_at(x: NDArray[np.float64], rho: float = 1.0) -> Overlaps:
    """Return the overlaps at these coordinates."""
    return Overlaps(math.exp(x[0]), float(x[1]), math.exp(x[2]), rho)


class IsotropicRidge:
    """Isotropic inputs with weight decay `zeta`."""

    rho = 1.0
    rank = 1.0

    def __init__(self, zeta: float) -> None:
        self.zeta = zeta

    def overlaps(self, V_hat: float, m_hat: float, q_hat: float) -> Overlaps | None:
        """Return the overlaps; None where no minimum is left: zeta + V_hat <= 0, or q <= m^2."""
        stiffness = self.zeta + V_hat
        if not stiffness > 0.0:
            return None
        chi = 1.0 / stiffness
        rest = q_hat * chi * chi
        return Overlaps(chi, m_hat * chi, rest) if rest > 0.0 else None

    def slopes(self, V_hat: float, m_hat: float, q_hat: float) -> NDArray[np.float64]:
        """Return the derivatives of (ln chi, m, ln rest) in (V_hat, m_hat, q_hat)."""
        chi = 1.0 / (self.zeta + V_hat)
        m = m_hat * chi
        return np.array([[-chi, 0.0, 0.0], [-m * chi, chi, 0.0], [-2.0 * chi, 0.0, 1.0 / q_hat]])

    def length(self, overlaps: Overlaps, V_hat: float, m_hat: float, q_hat: float) -> float:
        """Return |w|^2/N of the mean weights."""
        return overlaps.q

    def spread(self, V_hat: float, beta: float) -> float:
        """Return the variance of a weight at temperature 1/beta."""
        return 1.0 / (beta * (self.zeta + V_hat))

    def inequality(self, V_hat: float) -> float:
        """Return <r^2>/<r>^2 of the responses r = s/(zeta + V_hat s): 1 where all are alike."""
        return 1.0

    def free_energy(
        self, overlaps: Overlaps, beta: float, V_hat: float, m_hat: float, q_hat: float
    ) -> float:
        """Return the part of -beta f that is not alpha ln Z."""
        V = overlaps.chi / beta
        q = overlaps.q + V
        return overlaps.rest / (2 * V) + math.log(V) / 2 - beta * self.zeta * q / 2


class ModeArrays(NamedTuple):
    """Modes that vary, for compiled code: variances, weights, and the teacher's powers.

    `powers` are times the weights, so that their sum is the `explained` part of `rho`; `offset` is
    s minus its mean over them, `center`.
    """

    s: NDArray[np.float64]
    weight: NDArray[np.float64]
    powers: NDArray[np.float64]
    offset: NDArray[np.float64]
    center: float
    explained: float
    unexplained: float
    rho: float
    rank: float
    still: float


@lru_cache(maxsize=64)
def mode_arrays(inputs: Inputs) -> ModeArrays:
    """Return the modes of `inputs`, without those that do not vary."""
    modes = inputs.modes
    varies = modes.variances > 0.0
    s = np.ascontiguousarray(modes.variances[varies])
    weight = np.ascontiguousarray(modes.weights[varies])
    powers = weight * modes.powers[varies]
    explained = float(powers.sum())
    center = float(powers @ s) / explained if explained > 0.0 else float(weight @ s / weight.sum())
    rank = modes.rank
    return ModeArrays(
        s,
        weight,
        powers,
        s - center,
        center,
        explained,
        modes.unexplained,
        explained + modes.unexplained,
        rank,
        float(modes.weights[~varies].sum()),
    )


class RidgeSums(NamedTuple):
    """Sums over the modes; r = s/(zeta + V_hat s), p the teacher's power."""

    chi: float  # <r>
    A1: float  # <r^2>
    A2: float  # <r^3>
    P0: float  # sum of p/(zeta + V_hat s)
    P1: float  # sum of p r
    P2: float  # sum of p r^2
    spread: float  # sum of p r^2 - (sum of p r)^2/(sum of p)
    spread_V: float  # its derivative in V_hat


@jit
def ridge_sums(modes: Any, zeta: float, V_hat: float) -> RidgeSums:
    """Sum over the modes.

    What differs from mode to mode, d = r - r0 with r0 that of the mean variance, is
    zeta (s - s0)/((zeta + V_hat s)(zeta + V_hat s0)): the spread keeps its digits where all modes
    are nearly alike, and is exactly 0 where they are, or where there is no decay.
    """
    t0 = 1.0 / (zeta + V_hat * modes.center)
    r0 = modes.center * t0
    scale = zeta * t0
    chi = A1 = A2 = P0 = D1 = D2 = D3 = 0.0
    for k in range(modes.s.size):
        t = 1.0 / (zeta + V_hat * modes.s[k])
        r = modes.s[k] * t
        wr = modes.weight[k] * r
        chi += wr
        wr *= r
        A1 += wr
        A2 += wr * r
        pt = modes.powers[k] * t
        P0 += pt
        d = scale * modes.offset[k] * t
        pd = modes.powers[k] * d
        D1 += pd
        pd *= d
        D2 += pd
        D3 += pd * d
    E = modes.explained
    P1 = E * r0 + D1
    P2 = E * r0 * r0 + 2.0 * r0 * D1 + D2
    if E > 0.0:
        spread = max(D2 - D1 * D1 / E, 0.0)
        spread_V = -2.0 * (2.0 * r0 * spread + D3 - D1 * D2 / E)
    else:
        spread = spread_V = 0.0
    return RidgeSums(chi, A1, A2, P0, P1, P2, spread, spread_V)


@jit
def overlaps_and_slopes(
    modes: Any, zeta: float, V_hat: float, m_hat: float, q_hat: float, slopes: Any
) -> tuple[float, float, float, float]:
    """Return chi, m, rest = q - m^2/rho and length |w|^2/N.

    Writes the derivatives of (ln chi, m, ln rest) in (V_hat, m_hat, q_hat) into `slopes`.
    """
    sums = ridge_sums(modes, zeta, V_hat)
    # of the overlap with the teacher: what is left of q after the projection on its field
    share = modes.unexplained / (modes.rho * modes.explained) if modes.explained > 0.0 else 0.0
    off = sums.spread + share * sums.P1 * sums.P1
    off_V = sums.spread_V - 2.0 * share * sums.P1 * sums.P2
    rest = q_hat * sums.A1 + m_hat * m_hat * off
    slopes[0, 0] = -sums.A1 / sums.chi
    slopes[0, 1] = 0.0
    slopes[0, 2] = 0.0
    slopes[1, 0] = -m_hat * sums.P2
    slopes[1, 1] = sums.P1
    slopes[1, 2] = 0.0
    slopes[2, 0] = (m_hat * m_hat * off_V - 2.0 * q_hat * sums.A2) / rest
    slopes[2, 1] = 2.0 * m_hat * off / rest
    slopes[2, 2] = sums.A1 / rest
    return sums.chi, m_hat * sums.P1, rest, sums.P0


class Ridge:
    """Inputs of any modes with weight decay `zeta`; the same as `IsotropicRidge` for others."""

    def __init__(self, modes: ModeArrays, zeta: float) -> None:
        self.zeta = zeta
        self.modes = modes
        self.rho = self.modes.rho
        self.rank = self.modes.rank
        self._slopes = np.empty((3, 3))
        self.last_length = math.nan  # of the solution, for who solves
        self._at: tuple[float, float, float] | None = None

    def overlaps(self, V_hat: float, m_hat: float, q_hat: float) -> Overlaps | None:
        """Return the overlaps; None where no minimum is left."""
        if not (V_hat > 0.0 or (self.zeta > 0.0 and self.zeta + V_hat * self.modes.s.max() > 0.0)):
            return None
        chi, m, rest, _ = overlaps_and_slopes(
            self.modes, self.zeta, V_hat, m_hat, q_hat, self._slopes
        )
        self._at = (V_hat, m_hat, q_hat)
        return Overlaps(chi, m, rest, self.rho) if rest > 0.0 else None

    def slopes(self, V_hat: float, m_hat: float, q_hat: float) -> NDArray[np.float64]:
        """Return the derivatives of (ln chi, m, ln rest) in (V_hat, m_hat, q_hat)."""
        if self._at != (V_hat, m_hat, q_hat):
            self.overlaps(V_hat, m_hat, q_hat)
        return self._slopes

    def length(self, overlaps: Overlaps, V_hat: float, m_hat: float, q_hat: float) -> float:
        """Return |w|^2/N of the mean weights."""
        t = 1.0 / (self.zeta + V_hat * self.modes.s)
        s = self.modes.s
        return float(
            m_hat * m_hat * (self.modes.powers @ (s * t * t))
            + q_hat * (self.modes.weight * s @ t**2)
        )

    def spread(self, V_hat: float, beta: float) -> float:
        """Return the mean variance of a weight at temperature 1/beta."""
        return (
            self._still() + self.modes.weight @ (1.0 / (self.zeta + V_hat * self.modes.s))
        ) / beta

    def inequality(self, V_hat: float) -> float:
        """Return <r^2>/<r>^2 of the responses r = s/(zeta + V_hat s)."""
        sums = ridge_sums(self.modes, self.zeta, V_hat)
        return sums.A1 / (sums.chi * sums.chi)

    def _still(self) -> float:
        """The part of <1/zeta> of the modes that do not vary."""
        if self.modes.still == 0.0:
            return 0.0
        return self.modes.still / self.zeta if self.zeta > 0.0 else math.inf

    def free_energy(
        self, overlaps: Overlaps, beta: float, V_hat: float, m_hat: float, q_hat: float
    ) -> float:
        """Return the part of -beta f that is not alpha ln Z, relative to unit Gaussian weights."""
        stiffness = self.zeta + V_hat * self.modes.s
        logs = self.modes.weight @ np.log(beta * stiffness)
        if self.modes.still > 0.0:
            logs += self.modes.still * math.log(beta * self.zeta) if self.zeta > 0.0 else -math.inf
        chi, m, _, _ = overlaps
        field = m_hat * m + q_hat * chi  # <(m_hat^2 c + q_hat s)/(zeta + V_hat s)>
        linear = V_hat * (overlaps.q + chi / beta) + field - 2.0 * m_hat * m - q_hat * chi
        return 0.5 * (beta * linear - logs - 1.0)


def ridge_of(inputs: Inputs, zeta: float) -> IsotropicRidge | Ridge:
    """Return the weights' half of the saddle point."""
    return (
        IsotropicRidge(zeta) if isinstance(inputs, Isotropic) else Ridge(mode_arrays(inputs), zeta)
    )


@jit
def linear_start(modes: Any, alpha: float, S: float, zeta: float) -> tuple[float, float, float]:
    """Return (chi, m, rest) of the linear student with square loss, roughly.

    V_hat = alpha/(1 + chi) is the root of V_hat + <V_hat s/(zeta + V_hat s)> = alpha.
    """
    low = max(alpha - modes.rank, 0.0)
    high = alpha
    V = 0.5 * (low + high)
    if zeta == 0.0:
        V = max(alpha - modes.rank, 0.05 * alpha)
    else:
        for _ in range(60):
            sums = ridge_sums(modes, zeta, V)
            gap = V + V * sums.chi - alpha
            if gap > 0.0:
                high = V
            else:
                low = V
            # d(V r)/dV = zeta s t^2 = r - V r^2
            step = gap / (1.0 + sums.chi - V * sums.A1)
            V -= step
            if not low < V < high:
                V = 0.5 * (low + high)
            if abs(step) <= 1e-3 * V:
                break
    sums = ridge_sums(modes, zeta, V)
    chi = min(sums.chi, 1e3)
    m = V * sums.P1
    share = modes.unexplained / (modes.rho * modes.explained) if modes.explained > 0.0 else 0.0
    off = V * V * (sums.spread + share * sums.P1 * sums.P1)
    gain = min(V * V * sums.A1 / alpha, 0.95)
    error = S + (modes.rho - m) ** 2 / modes.rho + off
    return chi, m, off + gain * error / (1.0 - gain) + 1e-6 * modes.rho
