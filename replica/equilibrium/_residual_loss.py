"""Any convex loss of residuals, linear student and teacher, normal noise.

Everything depends on the residual of a fresh sample, r = y - omega ~ N(0, s^2): with h = 1 - m and
v = q - m^2,

    h = zeta chi = 1 - alpha K,   v = alpha W,   s^2 = S + h^2 + v,   K = E[1 - p'],  W = E[(r-p)^2]

for the proximal step p(r). Two unknowns, (log chi, log s^2). Given s^2 the first equation has one
root, since K grows with chi; the second then changes its sign once, at the only minimum.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from replica._core.jit import jit
from replica._core.status import Status

from ._pull import new_nodes, pull, value_slope_curvature
from ._ridge import ridge_point

__all__ = ["Found", "FoundColumns", "residual_point", "solve_residual_loss", "write_found"]

_CONVERGED = int(Status.CONVERGED)
_DIVERGENT = int(Status.DIVERGENT)
_MAX_ITERATIONS = int(Status.MAX_ITERATIONS)
_NON_FINITE = int(Status.NON_FINITE)
_NEEDS_DECAY = int(Status.NEEDS_DECAY)
# Newton's method is quadratic: after a step like this the next is below rounding.
_LAST_STEP = 1e-8
_RESIDUAL = 1e-10
_MOST_STEPS = 200
# Longest step of a logarithm; from a first guess a few orders of magnitude may be missing.
_LONGEST = 4.0
# exp(this) is a number; a chi beyond does not exist.
_LARGEST_LOG = 600.0


# A loss with a kink at 0 may hold the student at the teacher, in spite of decay: then the equation
# for s^2 has no root, however small beside zeta^2, the least s^2 that decay alone would make.
_MET = -100.0


class Found(NamedTuple):
    """The equilibrium at one point, as the solvers of convex losses give it."""

    gamma: float
    R: float
    q: float
    chi: float
    gen_error: float
    train_error: float
    train_loss: float
    test_loss: float
    error_rate: float
    train_error_rate: float
    margin: float
    replicon: float
    residual: float
    interpolating: bool
    n_iter: int
    status: int


class FoundColumns(NamedTuple):
    """The same for many points: arrays of one length."""

    gamma: NDArray[np.float64]
    R: NDArray[np.float64]
    q: NDArray[np.float64]
    chi: NDArray[np.float64]
    gen_error: NDArray[np.float64]
    train_error: NDArray[np.float64]
    train_loss: NDArray[np.float64]
    test_loss: NDArray[np.float64]
    error_rate: NDArray[np.float64]
    train_error_rate: NDArray[np.float64]
    margin: NDArray[np.float64]
    replicon: NDArray[np.float64]
    residual: NDArray[np.float64]
    interpolating: NDArray[np.bool_]
    n_iter: NDArray[np.int64]
    status: NDArray[np.int8]

    @staticmethod
    def of_size(size: int) -> FoundColumns:
        """Room for so many points."""
        kinds: dict[str, Any] = {"interpolating": np.bool_, "n_iter": np.int64, "status": np.int8}
        return FoundColumns._make(
            np.empty(size, kinds.get(name, np.float64)) for name in FoundColumns._fields
        )

    def reshape(self, shape: tuple[int, ...]) -> FoundColumns:
        """Return the columns in the shape of the problems."""
        return FoundColumns._make(column.reshape(shape) for column in self)


@jit
def write_found(columns, i, point):
    """Write one point into row i."""
    columns.gamma[i] = point.gamma
    columns.R[i] = point.R
    columns.q[i] = point.q
    columns.chi[i] = point.chi
    columns.gen_error[i] = point.gen_error
    columns.train_error[i] = point.train_error
    columns.train_loss[i] = point.train_loss
    columns.test_loss[i] = point.test_loss
    columns.error_rate[i] = point.error_rate
    columns.train_error_rate[i] = point.train_error_rate
    columns.margin[i] = point.margin
    columns.replicon[i] = point.replicon
    columns.residual[i] = point.residual
    columns.interpolating[i] = point.interpolating
    columns.n_iter[i] = point.n_iter
    columns.status[i] = point.status


@jit
def failed(status, n_iter):
    """Return a point without values."""
    nan = math.nan
    return Found(
        nan, nan, nan, nan, nan, nan, nan, nan, nan, nan, nan, nan, nan, False, n_iter, status
    )


class _Inner(NamedTuple):
    """chi at a given s^2, the averages there, and how it ended."""

    log_chi: float
    gap: float
    slope: float
    n_iter: int
    found: bool


@jit
def _chi_gap(alpha, zeta, chi, here):
    """Return zeta chi + alpha K - 1 without the cancellation where K is near 1."""
    if here.K_rest < here.K:
        return zeta * chi + (alpha - 1.0) - alpha * here.K_rest
    return zeta * chi + alpha * here.K - 1.0


@jit
def _find_chi(curve, alpha, zeta, s, log_chi, nodes):
    """Solve zeta chi + alpha K = 1 for chi at s = sqrt(s^2)."""
    low, high = -math.inf, math.inf
    last = False
    here = pull(curve, math.exp(log_chi), 0.0, s, nodes)
    for n in range(_MOST_STEPS):
        chi = math.exp(log_chi)
        gap = _chi_gap(alpha, zeta, chi, here)
        slope = zeta * chi + alpha * (here.K - here.KPv / s)
        if last or gap == 0.0:
            return _Inner(log_chi, gap, slope, n, True), here
        if gap != gap:
            break
        if gap > 0.0:
            high = log_chi
        else:
            low = log_chi
        step = -gap / slope if slope > 0.0 else math.copysign(_LONGEST, -gap)
        step = min(max(step, -_LONGEST), _LONGEST)
        new = log_chi + step
        if not low < new < high:
            new = 0.5 * (low + high)
            if not low < new < high:  # rounding
                return _Inner(log_chi, gap, slope, n, True), here
        elif abs(step) < _LAST_STEP:
            last = True
        log_chi = new
        if abs(log_chi) > _LARGEST_LOG:
            break
        here = pull(curve, math.exp(log_chi), 0.0, s, nodes)
    return _Inner(log_chi, math.nan, math.nan, _MOST_STEPS, False), here


@jit
def residual_point(alpha, S, zeta, curve, limit, least, nodes):
    """Equilibrium at one point; `limit` is the curve of the set where the loss is `least`."""
    if zeta == 0.0:
        low, high = limit.breaks
        if not (low > -math.inf and high < math.inf):
            return failed(_NEEDS_DECAY, 0)
        if alpha == 1.0 and low == high and not (S == 0.0 and low == 0.0):
            nan = math.nan
            inf = math.inf
            return Found(
                inf, 0.0, inf, inf, inf, low * low, least, inf, nan, nan, nan, 0.0, 0.0, True, 0,
                _DIVERGENT,
            )  # fmt: skip
        if S == 0.0 and low == high == 0.0 and alpha >= 1.0:
            return _teacher_found(alpha, curve, least)
        point = _without_residuals(alpha, S, curve, limit, least, nodes)
        if point.status == _CONVERGED:
            return point
    ridge = ridge_point(alpha, S, max(zeta, 1e-8))
    log_s2 = math.log(S + ridge.gen_error)
    log_chi = math.log(ridge.chi)
    low, high = -math.inf, math.inf
    last = False
    total = 0
    for _ in range(_MOST_STEPS):
        s2 = math.exp(log_s2)
        inner, here = _find_chi(curve, alpha, zeta, math.sqrt(s2), log_chi, nodes)
        total += inner.n_iter + 1
        if not inner.found:
            if inner.log_chi < _LARGEST_LOG:
                return failed(_NON_FINITE, total)
            # no chi: less than the inputs can be fitted, where fresh residuals are larger
            low = log_s2
            log_s2 = 0.5 * (low + high) if high < math.inf else log_s2 + 1.0
            if log_s2 > _LARGEST_LOG:
                break
            continue
        log_chi = inner.log_chi
        chi = math.exp(log_chi)
        h = zeta * chi
        w = here.W / s2
        fixed = S / s2 + (h / s2) * h
        if 0.5 * s2 < here.W:
            gap = fixed + (alpha - 1.0) - alpha * here.W_rest / s2
        else:
            gap = fixed + alpha * w - 1.0
        if gap != gap:
            return failed(_NON_FINITE, total)
        residual = max(abs(gap), abs(inner.gap))
        if last or gap == 0.0:
            if residual < _RESIDUAL:
                return _found(alpha, S, zeta, curve, chi, s2, here, residual, total, nodes)
            return failed(_MAX_ITERATIONS, total)
        if gap > 0.0:
            low = log_s2
        else:
            high = log_s2
        s = math.sqrt(s2)
        in_chi = 2.0 * (h / s2) * h + 2.0 * alpha * (w - here.KPP / s2)
        in_s2 = -fixed + alpha * (here.KPv / s - w)
        chi_in_s2 = -0.5 * alpha * here.Kvv / inner.slope if inner.slope > 0.0 else 0.0
        slope = in_s2 + in_chi * chi_in_s2
        step = -gap / slope if slope < 0.0 else math.copysign(_LONGEST, gap)
        step = min(max(step, -_LONGEST), _LONGEST)
        new = log_s2 + step
        if not low < new < high:
            new = 0.5 * (low + high)
            if not low < new < high:
                last = True
                continue
        elif abs(step) < _LAST_STEP:
            last = True
        move = chi_in_s2 * (new - log_s2)
        if abs(move) < 1.0:
            log_chi += move
        log_s2 = new
        if S == 0.0 and high - math.log(min(zeta * zeta, 1.0)) < _MET:
            return _teacher_found(alpha, curve, least)
        if abs(log_s2) > _LARGEST_LOG:
            break
    return failed(_MAX_ITERATIONS, total)


@jit
def _found(alpha, S, zeta, curve, chi, s2, here, residual, n_iter, nodes):
    h = zeta * chi
    m = alpha * here.K if h > 0.5 else 1.0 - h
    v = alpha * here.W
    q = m * m + v
    fresh = pull(curve, 0.0, 0.0, math.sqrt(s2), nodes)
    gamma = math.sqrt(q)
    nan = math.nan
    return Found(
        gamma, min(m / gamma, 1.0), q, chi, h * h + v, here.pp, here.train, fresh.train, nan, nan,
        nan, 1.0 - alpha * here.KK, residual, False, n_iter, _CONVERGED,
    )  # fmt: skip


@jit
def _teacher_found(alpha, curve, least):
    """The student is the teacher."""
    chi = math.inf
    replicon = 0.0
    if alpha > 1.0:
        # chi stays finite where the loss is smooth at 0: chi l''/(1 + chi l'') = 1/alpha
        chi = 0.0
        replicon = 1.0
        at = np.searchsorted(curve.breaks, 0.0)
        if not (at < curve.breaks.size and curve.breaks[at] == 0.0):
            curvature = _curvature_at_zero(curve)
            if curvature > 0.0:
                chi = 1.0 / (curvature * (alpha - 1.0))
                replicon = 1.0 - 1.0 / alpha
    nan = math.nan
    return Found(
        1.0, 1.0, 1.0, chi, 0.0, 0.0, least, least, nan, nan, nan, replicon, 0.0, True, 0,
        _CONVERGED,
    )  # fmt: skip


@jit
def _curvature_at_zero(curve):
    from_left = value_slope_curvature(curve, 0.0)
    return from_left[2]


@jit
def _without_residuals(alpha, S, curve, limit, least, nodes):
    """No decay, and every residual fits into the set where the loss is least: chi is infinite."""
    low, high = limit.breaks
    rest = 1.0 - alpha
    if low == high:
        if not alpha < 1.0:
            return failed(_MAX_ITERATIONS, 0)
        h = rest
        s2 = (S + h * h + alpha * low * low) / rest
        here = pull(limit, 0.0, 0.0, math.sqrt(s2), nodes)
        return _interpolation(alpha, curve, least, h, alpha * (s2 + low * low), s2, here, 0.0, 0,
                              nodes)  # fmt: skip
    log_s2 = math.log(S + 1.0)
    left, right = -math.inf, math.inf
    last = False
    for n in range(_MOST_STEPS):
        s2 = math.exp(log_s2)
        s = math.sqrt(s2)
        here = pull(limit, 0.0, 0.0, s, nodes)
        h = rest + alpha * here.K_rest
        gap = (S + h * h) / s2 - rest - alpha * here.W_rest / s2
        if s2 > 2.0 * here.W:
            gap = (S + h * h + alpha * here.W) / s2 - 1.0
        if last:
            if abs(gap) < _RESIDUAL and h > 0.0:
                v = alpha * here.W
                return _interpolation(alpha, curve, least, h, v, s2, here, abs(gap), n, nodes)
            return failed(_MAX_ITERATIONS, n)
        if h <= 0.0:  # too large an s^2: not a minimum
            right = log_s2
            gap_slope = 0.0
        else:
            if gap > 0.0:
                left = log_s2
            else:
                right = log_s2
            h_slope = -0.5 * alpha * here.Kvv
            gap_slope = -(S + h * h) / s2 + 2.0 * h * h_slope / s2
            gap_slope += alpha * (here.KPv / s - here.W / s2)
        step = -gap / gap_slope if gap_slope < 0.0 else math.copysign(1.0, gap)
        if h <= 0.0:
            step = -1.0
        step = min(max(step, -_LONGEST), _LONGEST)
        new = log_s2 + step
        if not left < new < right:
            new = 0.5 * (left + right)
            if not left < new < right:
                last = True
                continue
        elif abs(step) < _LAST_STEP:
            last = True
        log_s2 = new
        if abs(log_s2) > _LARGEST_LOG:
            break
    return failed(_MAX_ITERATIONS, _MOST_STEPS)


@jit
def _interpolation(alpha, curve, least, h, v, s2, here, residual, n_iter, nodes):
    m = alpha * here.K if h > 0.5 else 1.0 - h
    q = m * m + v
    gamma = math.sqrt(q)
    fresh = pull(curve, 0.0, 0.0, math.sqrt(s2), nodes)
    nan = math.nan
    return Found(
        gamma, min(m / gamma, 1.0), q, math.inf, h * h + v, here.pp, least, fresh.train, nan, nan,
        nan, h, residual, True, n_iter, _CONVERGED,
    )  # fmt: skip


@jit
def solve_residual_loss(alpha, S, zeta, curve, limit, least, columns, start, stop):
    """Fill the columns from `start` to `stop`."""
    nodes = new_nodes(curve)
    for i in range(start, stop):
        point = residual_point(alpha[i], S[i], zeta[i], curve, limit, least, nodes)
        write_found(columns, i, point)
