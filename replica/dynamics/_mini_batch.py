"""Averages of one step of real batch normalization over a fresh batch of size M.

The student's output is g(gamma h_j), h_j = uhat_j / sigma_B with sigma_B^2 = mean_j uhat_j^2, and
the gradient runs through sigma_B. The batch statistics depend on the samples, and the average over
both is exact: by sigma_B^-p = C_p int ds s^(p/2-1) exp(-s M sigma_B^2 / 2) the batch factorizes
into samples whose field uhat has variance 1/(1+s), for which every average is known. One smooth
one-dimensional integral is left.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["batch_averages", "inverse_moment"]

_PANEL_NODES = 16


@lru_cache(maxsize=1)
def _panels() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Nodes y = sin(angle) and weights for the angle in [0, pi/2], finer towards both ends."""
    x, w = np.polynomial.legendre.leggauss(_PANEL_NODES)
    # The integrand bends at angle ~ arccos(R), however small; y^M is a peak at pi/2.
    low = np.concatenate([[0.0], 4.0 ** np.arange(-13, 1)]) * math.pi / 4
    edges = np.concatenate([low, math.pi / 2 - low[-2::-1]])
    half = np.diff(edges) / 2
    angles = edges[:-1, None] + half[:, None] * (1 + x)
    return np.sin(angles).ravel(), (half[:, None] * w).ravel()


def inverse_moment(M: int, p: int) -> float:
    """Return E[sigma_B^-p] for M sigma_B^2 chi-squared with M degrees of freedom; needs M > p.

    Examples
    --------
    >>> round(inverse_moment(8, 2), 12) == round(8 / 6, 12)
    True
    >>> round(inverse_moment(8, -1), 6)  # E[sigma_B]
    0.969311
    """
    return (M / 2) ** (p / 2) * math.exp(math.lgamma((M - p) / 2) - math.lgamma(M / 2))


def batch_averages(
    M: int, a: float, b: float, S: float, gamma: float, D: float
) -> tuple[float, float, float]:
    """Return P, I2 and G of one mini-batch step, for slopes a (student) and b (teacher).

    With delta_j = g'(gamma h_j) (g*(z_j) + s_j - g(gamma h_j)), m = mean_j delta_j h_j and the
    weight gradient gamma c_j, c_j = (delta_j - h_j m) / (M sigma_B):
    P = E[m], I2 = E[sum_j c_j^2], G = E[sum_j c_j z_j] = (1 - R^2) E[sum_j dc_j/dz_j].
    """
    # An integrator may look a little outside [0, 2]: G continues through its zero.
    outside, D = D * (2.0 - D), min(max(D, 0.0), 2.0)
    if gamma < 0.0:
        P, I2, G = batch_averages(M, a, b, S, -gamma, 2.0 - D)
        return -P, I2, outside if outside < 0.0 else G
    if a == 1.0 and b == 1.0:
        mean = inverse_moment(M, -1)
        return (
            (1 - D) * mean - gamma,
            (M - 1) / (M * (M - 2)) * (D * (2 - D) + S),
            (outside if outside < 0.0 else D * (2 - D)) * mean,
        )
    y, weight = _panels()
    R = 1.0 - D
    sine2 = D * (2 - D)
    z_sd = np.sqrt(sine2 + R * R * y * y)
    rho = R * y / z_sd
    co = np.sqrt(sine2) / z_sd  # sqrt(1 - rho^2) without cancellation
    asin = np.arctan2(rho, co)
    t = 2 / math.pi

    def mixed(power_a: int, power_b: int, even, odd):
        # slope^power on each side: the even and odd halves of the two piecewise powers
        plus = (1 + a**power_a) * (1 + b**power_b) / 4
        minus = (1 - a**power_a) * (1 - b**power_b) / 4
        return plus * even + minus * odd

    step_step = mixed(1, 1, 1.0, t * asin)
    uu_step_step = mixed(1, 1, 1.0, t * (asin + rho * co)) * y**2
    uz = mixed(1, 1, rho, t * (co + rho * asin)) * y * z_sd
    uz3 = mixed(3, 1, rho, t * (co + rho * asin)) * y * z_sd
    zz = mixed(2, 2, 1.0, t * (asin + rho * co)) * z_sd**2
    square = 1 + 2 * rho**2
    uuzz = mixed(2, 2, square, t * (square * asin + 3 * rho * co)) * (y * z_sd) ** 2
    uuuz = mixed(3, 1, 3 * rho, t * ((2 + rho**2) * co + 3 * rho * asin)) * y**3 * z_sd
    uu = (1 + a * a) / 2 * y**2

    def average(p: int, integrand) -> float:
        # C_p int dx x^(p/2-1) (1-x)^((M-p)/2-1) integrand, with 1 - x = y^2
        density = (1 - y * y) ** ((p - 1) / 2) * y ** float(M - p - 1)
        log_c = p / 2 * math.log(M / 2) - math.lgamma(p / 2) + math.log(2)
        return math.exp(log_c) * float(np.sum(weight * density * integrand))

    inverse2 = inverse_moment(M, 2)
    P = average(1, uz) - gamma * (1 + a * a) / 2
    kappa = average(1, step_step) - average(3, uu_step_step) / M

    q = gamma * gamma
    own = S * (1 + a * a) / 2
    squares = average(2, zz) + (own + q * (1 + a**4) / 2) * inverse2 - 2 * gamma * average(3, uz3)
    same = average(4, uuzz) + (own + q * (1 + a**4) / 2 * 3 * M / (M + 2)) * inverse2
    same -= 2 * gamma * average(5, uuuz)
    other = average(4, uz * uz) + q * ((1 + a * a) / 2) ** 2 * M / (M + 2) * inverse2
    other -= 2 * gamma * average(5, uz * uu)
    I2 = squares / M - same / M**2 - other * (M - 1) / M**2
    return P, I2, (outside if outside < 0.0 else sine2) * kappa
