"""Linear student: ridge regression in the limit of large N, in closed form, and early stopping.

Forms are chosen so that nothing cancels anywhere (alpha -> 1, zeta -> 0, S = 0).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from replica._core.arguments import LARGEST, broadcast, real_array
from replica._core.jit import for_each_chunk, jit
from replica._core.results import Result
from replica._core.status import Status

__all__ = ["Columns", "EarlyStopping", "Point", "early_stopping", "ridge_error", "ridge_errors"]
__all__ += ["ridge_point", "solve_ridge", "write_point"]

_CONVERGED = int(Status.CONVERGED)
_DIVERGENT = int(Status.DIVERGENT)


@jit
def _response(alpha, S, zeta):
    """chi, h = 1 - m, chi/(1 + chi), the replicon 1 - alpha (chi/(1 + chi))^2, and gen_error."""
    a1 = alpha - 1.0
    root = math.sqrt(alpha)
    sqrt_D = math.sqrt((zeta + (1.0 + root) ** 2) * (zeta + (a1 / (1.0 + root)) ** 2))
    if a1 + zeta < 0.0:
        h = 0.5 * (sqrt_D - a1 - zeta)
        chi = h / zeta if zeta > 0.0 else math.inf
    else:
        chi = 2.0 / (sqrt_D + a1 + zeta) if sqrt_D + a1 + zeta > 0.0 else math.inf
        h = zeta * chi if zeta > 0.0 else 0.0
    share = chi / (1.0 + chi) if chi < math.inf else 1.0
    replicon = 2.0 * sqrt_D / (zeta + 1.0 + alpha + sqrt_D)
    if replicon > 0.0:
        eps = (h * h + alpha * share * share * S) / replicon
    else:  # alpha = 1, zeta = 0: the noise is amplified without bound
        eps = math.inf if S > 0.0 else 0.0
    return chi, h, share, replicon, eps


class Point(NamedTuple):
    """The equilibrium of a piecewise-linear student at one point."""

    gamma: float
    R: float
    chi: float
    gen_error: float
    train_error: float
    energy: float
    dead_fraction: float
    residual: float
    replicon: float
    n_iter: int
    status: int


class Columns(NamedTuple):
    """The same for many points: arrays of one length."""

    gamma: NDArray[np.float64]
    R: NDArray[np.float64]
    chi: NDArray[np.float64]
    gen_error: NDArray[np.float64]
    train_error: NDArray[np.float64]
    energy: NDArray[np.float64]
    dead_fraction: NDArray[np.float64]
    residual: NDArray[np.float64]
    replicon: NDArray[np.float64]
    n_iter: NDArray[np.int64]
    status: NDArray[np.int8]

    @staticmethod
    def of_size(size: int) -> Columns:
        """Room for so many points."""
        integers = {"n_iter": np.int64, "status": np.int8}
        return Columns._make(
            np.empty(size, integers.get(name, np.float64)) for name in Columns._fields
        )

    def reshape(self, shape: tuple[int, ...]) -> Columns:
        """Return the columns in the shape of the problems."""
        return Columns._make(column.reshape(shape) for column in self)


@jit
def write_point(columns, i, point):
    """Write one point into row i."""
    columns.gamma[i] = point.gamma
    columns.R[i] = point.R
    columns.chi[i] = point.chi
    columns.gen_error[i] = point.gen_error
    columns.train_error[i] = point.train_error
    columns.energy[i] = point.energy
    columns.dead_fraction[i] = point.dead_fraction
    columns.residual[i] = point.residual
    columns.replicon[i] = point.replicon
    columns.n_iter[i] = point.n_iter
    columns.status[i] = point.status


@jit
def ridge_point(alpha, S, zeta):
    """Equilibrium at one point."""
    chi, h, share, replicon, eps = _response(alpha, S, zeta)
    if eps == math.inf:
        return Point(math.inf, 0.0, chi, eps, 0.0, 0.0, 0.0, 0.0, replicon, 0, _DIVERGENT)
    m = alpha * share
    v = m * share * (S + h * h) / replicon if replicon > 0.0 else 0.0
    q = m * m + v
    gamma = math.sqrt(q)
    if q < 1e-200:  # squares may underflow, the length does not
        gamma = math.hypot(m, math.sqrt(m / replicon * (S + h * h)) * math.sqrt(share))
    R = min(m / gamma, 1.0)
    train = (S + h * h + v) / (1.0 + chi) / (1.0 + chi)
    energy = 0.5 * (alpha * train + zeta * q)
    dead = 0.0
    if chi < math.inf:
        sigma = math.sqrt(1.0 + S)
        mu = m / sigma
        dead = math.atan2(math.sqrt(v + mu * mu * S), mu + chi * sigma) / (2.0 * math.pi)
    residual = abs(zeta * chi + alpha * share - 1.0) if zeta > 0.0 or alpha > 1.0 else 0.0
    return Point(gamma, R, chi, eps, train, energy, dead, residual, replicon, 0, _CONVERGED)


@jit
def ridge_error(alpha, S, zeta):
    """The generalization error alone."""
    return _response(alpha, S, zeta)[4]


@jit
def ridge_errors(alpha, S, zeta, eps, start, stop):
    """Fill ``eps[start:stop]`` with the generalization error alone."""
    for i in range(start, stop):
        eps[i] = _response(alpha[i], S[i], zeta[i])[4]


@jit
def solve_ridge(alpha, S, zeta, columns, start, stop):
    """Fill the columns from `start` to `stop`."""
    for i in range(start, stop):
        write_point(columns, i, ridge_point(alpha[i], S[i], zeta[i]))


# --- early stopping: gradient flow from W = 0 -------------------------------------------------


_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(20)
_PANELS = 52


@jit
def _spectral_average(alpha, S, t, slope):
    """eps(t), or with `slope` true d eps/dt, as an average over the Marchenko-Pastur law.

    x = (1 - sqrt(alpha))^2 + 4 sqrt(alpha) sin^2(u), 0 < u < pi/2: Gauss-Legendre panels halve
    towards u = 0, so that the edge of the law and the decay e^-xt are resolved at any alpha and t.
    """
    root = math.sqrt(alpha)
    low = ((1.0 - alpha) / (1.0 + root)) ** 2
    total = 0.0
    right = 0.5 * math.pi
    for panel in range(_PANELS):
        left = 0.5 * right if panel < _PANELS - 1 else 0.0
        half = 0.5 * (right - left)
        part = 0.0
        for k in range(_NODES.size):
            s2 = math.sin(left + half * (1.0 + _NODES[k])) ** 2
            x = low + 4.0 * root * s2
            decay = math.exp(-x * t)
            growth = -math.expm1(-x * t)
            if slope:
                F = 2.0 * decay * (S * growth - x * decay)
            else:
                F = decay * decay + S * growth * growth / x
            part += _WEIGHTS[k] * s2 * (1.0 - s2) * F / x
        total += half * part
        right = left
    total *= 16.0 * alpha / math.pi
    return total if slope else total + max(1.0 - alpha, 0.0)


@jit
def _stopping_time(alpha, S):
    """Where d eps/dt = 0. Each mode x has its optimum at log(1 + x/S)/x: they bracket the root."""
    root = math.sqrt(alpha)
    x_low, x_high = ((1.0 - alpha) / (1.0 + root)) ** 2, (1.0 + root) ** 2
    low = math.log(math.log1p(x_high / S) / x_high)
    high = math.log(math.log1p(x_low / S) / x_low if x_low > 1e-12 * S else 1.0 / S)
    for _ in range(64):
        middle = 0.5 * (low + high)
        if not low < middle < high:
            break
        if _spectral_average(alpha, S, math.exp(middle), True) < 0.0:
            low = middle
        else:
            high = middle
    return math.exp(0.5 * (low + high))


@jit
def _early_stopping_array(alpha, S, t, eps, best_time, best, start, stop):
    for i in range(start, stop):
        limit = ridge_point(alpha[i], S[i], 0.0).gen_error
        eps[i] = _spectral_average(alpha[i], S[i], t[i], False) if t[i] < math.inf else limit
        if i > start and alpha[i] == alpha[i - 1] and S[i] == S[i - 1]:
            best_time[i], best[i] = best_time[i - 1], best[i - 1]
        elif S[i] == 0.0:
            best_time[i], best[i] = math.inf, limit
        else:
            best_time[i] = _stopping_time(alpha[i], S[i])
            best[i] = _spectral_average(alpha[i], S[i], best_time[i], False)


@dataclass(frozen=True, repr=False)
class EarlyStopping(Result):
    """Learning curve of gradient flow for the linear student; see `early_stopping`.

    Attributes
    ----------
    alpha, S, t : ndarray
        Load, noise variance and training time, broadcast against each other.
    gen_error : ndarray
        Generalization error at time `t`.
    optimal_time, optimal_error : ndarray
        The time of least generalization error for this (alpha, S), and that error. Without noise
        the error never rises: the time is inf.
    status : ndarray of int8
        CONVERGED, or DIVERGENT where the error at time `t` is infinite.
    """

    alpha: NDArray[np.float64]
    S: NDArray[np.float64]
    t: NDArray[np.float64]
    gen_error: NDArray[np.float64]
    optimal_time: NDArray[np.float64]
    optimal_error: NDArray[np.float64]
    status: NDArray[np.int8]

    _problem = ("alpha", "S", "t")

    def _curve_name(self) -> str:
        return "linear"


def early_stopping(alpha: ArrayLike, S: ArrayLike, t: ArrayLike) -> EarlyStopping:
    """Generalization error of the linear student under gradient flow from W = 0, at time t.

    The flow is dW/dt = -X^T (X W - y), so t = (number of steps) x (learning rate) of full-batch
    gradient descent with small steps on the loss summed over samples.

    Parameters
    ----------
    alpha : array_like
        Load P/N, from 1e-100 to 1e100.
    S : array_like
        Variance of the label noise, from 0 to 1e100.
    t : array_like
        Training time, >= 0; inf is the trained network. Broadcast with `alpha` and `S`.

    Returns
    -------
    EarlyStopping
        With ``gen_error`` at `t` and the optimal stopping time and error.

    Raises
    ------
    TypeError, ValueError
        If an argument is not real, out of range, or the shapes do not broadcast.

    Notes
    -----
    With the Marchenko-Pastur law rho(x) of the spectrum of X^T X, of edges (1 -+ sqrt(alpha))^2,
    eps(t) = (1 - alpha)_+ + int rho(x) [exp(-2xt) + S (1 - exp(-xt))^2/x] dx
    (Advani, Saxe and Sompolinsky 2020). Exact for N -> infinity at fixed t, to a relative 1e-12.

    Theory: :eq:`eq-early-stopping` in :doc:`/theory`.

    Examples
    --------
    >>> run = early_stopping(1.0, 0.25, [0.5, 5.0, 500.0])
    >>> run.gen_error.round(4)
    array([0.5516, 0.4321, 3.5889])
    >>> print(f"{run.optimal_time[0]:.3f} {run.optimal_error[0]:.4f}")
    2.465 0.4000
    """
    alpha_, S_, t_ = broadcast(
        alpha=real_array("alpha", alpha, low=1.0 / LARGEST, high=LARGEST),
        S=real_array("S", S, low=0.0, high=LARGEST),
        t=real_array("t", t, low=0.0, finite=False),
    )
    eps, best_time, best = np.empty_like(t_), np.empty_like(t_), np.empty_like(t_)
    flat = [array.reshape(-1) for array in (alpha_, S_, t_, eps, best_time, best)]
    for_each_chunk(partial(_early_stopping_array, *flat), t_.size, min_chunk=64)
    status = np.where(np.isinf(eps), Status.DIVERGENT, Status.CONVERGED).astype(np.int8)
    return EarlyStopping(alpha_, S_, t_, eps, best_time, best, status)
