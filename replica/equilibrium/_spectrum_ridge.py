"""Linear student and square loss on inputs of any spectrum: one scalar root.

Modes k of the inputs have variance s_k, count c_k (how many there are; need not be whole) and power
p_k, the variance of the teacher's field that lies in them, all c_k together. From n samples the
student minimizes 1/2 sum_j (y_j - w.x_j)^2 + zeta/2 |w|^2 on inputs as they are, without a
factor 1/sqrt(N): isotropic inputs of the library, N of them of variance 1/N, are s = 1/N, c = N.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from replica._core.jit import jit
from replica._core.status import Status

__all__ = ["SpectrumColumns", "SpectrumPoint", "solve_spectrum", "spectrum_point"]

_CONVERGED = int(Status.CONVERGED)
_DIVERGENT = int(Status.DIVERGENT)
_MAX_ITERATIONS = int(Status.MAX_ITERATIONS)

_MOST_STEPS = 200  # 1100 binary orders of magnitude are halved in 60; Newton takes ten
_ROUNDED = 4.5e-16  # two units in the last place of a sum of counts that are fractions
_LAST_STEP = 1e-8  # of ln kappa: Newton squares it, and 1e-16 is the end


class SpectrumPoint(NamedTuple):
    """Ridge regression at one point; `norm2` is |w|^2 on the inputs as they are."""

    kappa: float
    chi: float
    m: float
    q: float
    norm2: float
    gen_error: float
    train_error: float
    replicon: float
    residual: float
    n_iter: int
    status: int


class SpectrumColumns(NamedTuple):
    """The same for many points: arrays of one length."""

    kappa: NDArray[np.float64]
    chi: NDArray[np.float64]
    m: NDArray[np.float64]
    q: NDArray[np.float64]
    norm2: NDArray[np.float64]
    gen_error: NDArray[np.float64]
    train_error: NDArray[np.float64]
    replicon: NDArray[np.float64]
    residual: NDArray[np.float64]
    n_iter: NDArray[np.int64]
    status: NDArray[np.int8]

    @staticmethod
    def of_size(size: int) -> SpectrumColumns:
        """Room for so many points."""
        integers = {"n_iter": np.int64, "status": np.int8}
        return SpectrumColumns._make(
            np.empty(size, integers.get(name, np.float64)) for name in SpectrumColumns._fields
        )


@jit
def _excess(kappa, n, over, zeta, s, c):
    """zeta/kappa + sum c s/(s + kappa) - n, and minus its derivative by ln kappa.

    A mode above kappa is counted whole, less what it lacks: then no term is larger than twice the
    derivative, and the root has the precision of the sum. ``over = n - rank`` stands in where most
    modes are counted whole: counts that are fractions add up to their sum but for rounding.
    """
    whole, below, parts = 0.0, 0.0, zeta / kappa
    slope = parts
    for k in range(s.size):
        inverse = 1.0 / (s[k] + kappa)
        learned, left = s[k] * inverse, kappa * inverse
        slope += c[k] * (learned * left)
        if left <= learned:
            whole += c[k]
            parts -= c[k] * left
        else:
            parts += c[k] * learned
            if s[k] > 0.0:
                below += c[k]
    return parts - (n - whole if whole <= below else over + below), slope


@jit
def _root(n, zeta, s, c, rank):
    """The root kappa > 0, and the steps it took; minus one step where there was no convergence."""
    smallest, trace = math.inf, 0.0
    for k in range(s.size):
        trace += c[k] * s[k]
        if s[k] > 0.0 and c[k] > 0.0:
            smallest = min(smallest, s[k])
    # zeta/kappa <= n, sum c s/(s + kappa) >= rank s_min/(s_min + kappa), and both <= trace/kappa
    low, high = zeta / n, (zeta + trace) / n
    if n < rank:
        low = max(low, smallest * ((rank - n) / n))
    low, high = low * (1.0 - 1e-12), high * (1.0 + 1e-12)  # the bounds are rounded
    kappa = high
    for step in range(1, _MOST_STEPS + 1):
        excess, slope = _excess(kappa, n, n - rank, zeta, s, c)
        if excess > 0.0:
            low = kappa
        else:
            high = kappa
        move = excess / slope
        found = kappa * math.exp(min(max(move, -700.0), 700.0))
        if abs(move) < _LAST_STEP:
            return found, step
        if not low < found < high:
            found = math.sqrt(low) * math.sqrt(high)
        if high <= low * (1.0 + 1e-15):
            return found, step
        kappa = found
    return kappa, -1


@jit
def spectrum_point(n, S, zeta, s, p, c):
    """Ridge regression of n samples with noise S: the equation is in the text of the module."""
    rank, lost = 0.0, 0.0  # a compensated sum: fractions of 1 shall sum to 1
    for k in range(s.size):
        if s[k] > 0.0:
            term = c[k] - lost
            total = rank + term
            lost = (total - rank) - term
            rank = total
    if abs(n - rank) <= _ROUNDED * rank:
        n = rank
    n_iter = 0
    if zeta > 0.0 or n < rank:
        kappa, n_iter = _root(n, zeta, s, c, rank)
        if n_iter < 0:
            nan = math.nan
            return SpectrumPoint(
                nan, nan, nan, nan, nan, nan, nan, nan, nan, _MOST_STEPS, _MAX_ITERATIONS
            )
        excess = zeta / kappa  # n - sum c s/(s + kappa)
    else:
        kappa, excess = 0.0, n - rank
    degrees = degrees2 = between = bias = m = explained = inverse2 = signal2 = 0.0
    for k in range(s.size):
        inverse = 1.0 / (s[k] + kappa) if s[k] + kappa > 0.0 else 0.0
        learned = s[k] * inverse
        left = kappa * inverse if s[k] > 0.0 else 1.0
        degrees += c[k] * learned
        degrees2 += c[k] * (learned * learned)
        between += c[k] * (learned * left)
        inverse2 += c[k] * (learned * inverse)
        bias += p[k] * (left * left)
        m += p[k] * learned
        explained += p[k] * (learned * learned)
        signal2 += p[k] * (learned * inverse)
    # n - sum c s^2/(s + kappa)^2, of positive terms
    stable = excess + between
    residual = 0.0
    if kappa > 0.0:
        residual = abs(excess + degrees - n) / n
    chi = degrees / excess if excess > 0.0 else math.inf
    if stable > 0.0:
        eps = bias * (n / stable) + S * (degrees2 / stable)
        error = (bias + S) * (n / stable)
        q = explained + degrees2 / n * error
        norm2 = signal2 + inverse2 / n * error
    elif bias + S > 0.0:  # n = rank, zeta = 0: the noise is amplified without bound
        return SpectrumPoint(
            kappa, chi, m, math.inf, math.inf, math.inf, 0.0, 0.0, residual, n_iter, _DIVERGENT
        )
    else:
        eps, error, q, norm2 = 0.0, 0.0, explained, signal2
    train = error * (excess / n) * (excess / n)
    return SpectrumPoint(
        kappa, chi, m, q, norm2, eps, train, stable / n, residual, n_iter, _CONVERGED
    )


@jit
def solve_spectrum(n, S, zeta, s, p, c, columns, start, stop):
    """Fill the columns from `start` to `stop`, one point for each n, S and zeta."""
    for i in range(start, stop):
        point = spectrum_point(n[i], S[i], zeta[i], s, p, c)
        columns.kappa[i] = point.kappa
        columns.chi[i] = point.chi
        columns.m[i] = point.m
        columns.q[i] = point.q
        columns.norm2[i] = point.norm2
        columns.gen_error[i] = point.gen_error
        columns.train_error[i] = point.train_error
        columns.replicon[i] = point.replicon
        columns.residual[i] = point.residual
        columns.n_iter[i] = point.n_iter
        columns.status[i] = point.status
