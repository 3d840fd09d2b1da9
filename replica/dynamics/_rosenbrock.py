"""The compiled stiff integrator of the order-parameter equations, for pairs with a closed form.

The Rosenbrock method RODAS4 (Hairer and Wanner, Solving ODEs II, section IV.7): order 4 with an
embedded order 3, L-stable, no Newton iteration, with the exact Jacobian. A step ends at every
output time, so nothing is interpolated.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from replica._core.jit import jit
from replica._core.status import Status

from . import _model

__all__ = ["DIVERGED_AT", "Runs", "blank_runs", "integrate_many"]

# |W| beyond this many times max(1, its start) is divergence: nothing brings the flow back.
DIVERGED_AT = 1e6
# Below this a step has no reciprocal of use; the first order is exact there, since no rate of an
# allowed problem that is finite at all gets near the inverse.
_TINY_STEP = 1e-290
# Plain numbers, as compiled code wants them.
_CONVERGED, _DIVERGENT = int(Status.CONVERGED), int(Status.DIVERGENT)
_MAX_ITERATIONS, _NON_FINITE = int(Status.MAX_ITERATIONS), int(Status.NON_FINITE)


class Runs(NamedTuple):
    """What `integrate_many` writes, a row for each problem.

    ``out[i, n]`` is (gamma, 1 - R, (L/L0)^4) at ``times[n]``, ``errors[i, n]`` the generalization
    error, both NaN where the run does not arrive. `ends` is where it ended, `steps` counts those
    accepted, `tries` those begun.
    """

    out: NDArray[np.float64]
    errors: NDArray[np.float64]
    status: NDArray[np.int64]
    steps: NDArray[np.int64]
    tries: NDArray[np.int64]
    ends: NDArray[np.float64]


def blank_runs(n: int, n_times: int) -> Runs:
    """Return `Runs` of n problems for `integrate_many` to fill."""
    status, steps, tries = np.zeros((3, n), dtype=np.int64)
    out = np.full((n, n_times, 3), np.nan)
    return Runs(out, np.empty((n, n_times)), status, steps, tries, np.empty(n))


class _Ending(NamedTuple):
    """How one run ended."""

    status: int
    steps: int
    tries: int
    t: float


@jit
def _rates(
    pair: _model.Pair,
    series: NDArray[np.float64],
    plain: bool,
    p: NDArray[np.float64],
    y: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    at = _model.pair_averages(pair, series, p[2], y[0], y[1])
    out[0], out[1], out[2] = _model.field(plain, p[0], p[1], at, y[0], y[1], y[2])


@jit
def _factorize(matrix: NDArray[np.float64], pivots: NDArray[np.int64]) -> None:
    """LU factors of a 3 x 3 matrix in place, with row exchanges."""
    for k in range(3):
        best = k
        for i in range(k + 1, 3):
            if abs(matrix[i, k]) > abs(matrix[best, k]):
                best = i
        pivots[k] = best
        for j in range(3):
            matrix[k, j], matrix[best, j] = matrix[best, j], matrix[k, j]
        for i in range(k + 1, 3):
            matrix[i, k] /= matrix[k, k]
            for j in range(k + 1, 3):
                matrix[i, j] -= matrix[i, k] * matrix[k, j]


@jit
def _substitute(
    factors: NDArray[np.float64], pivots: NDArray[np.int64], x: NDArray[np.float64]
) -> None:
    for k in range(3):
        x[k], x[pivots[k]] = x[pivots[k]], x[k]
    for i in range(1, 3):
        for j in range(i):
            x[i] -= factors[i, j] * x[j]
    for i in range(2, -1, -1):
        for j in range(i + 1, 3):
            x[i] -= factors[i, j] * x[j]
        x[i] /= factors[i, i]


# The coefficients in the transformed variables, which spare the products with the Jacobian.
_GAMMA = 0.25
_A = np.zeros((6, 6))
_A[1, :1] = (1.544,)
_A[2, :2] = 0.9466785280815826, 0.2557011698983284
_A[3, :3] = 3.314825187068521, 2.896124015972201, 0.9986419139977817
_A[4, :4] = 1.221224509226641, 6.019134481288629, 12.53708332932087, -0.6878860361058950
_A[5, :4] = _A[4, :4]
_A[5, 4] = 1.0
_C = np.zeros((6, 6))
_C[1, :1] = (-5.6688,)
_C[2, :2] = -2.430093356833875, -0.2063599157091915
_C[3, :3] = -0.1073529058151375, -9.594562251023355, -20.47028614809616
_C[4, :4] = 7.496443313967647, -10.24680431464352, -33.99990352819905, 11.70890893206160
_C[5, :5] = (
    8.083246795921522,
    -7.981132988064893,
    -31.52159432874371,
    16.31930543123136,
    -6.058818238834054,
)


@jit
def _integrate_one(
    pair: _model.Pair,
    series: NDArray[np.float64],
    plain: bool,
    p: NDArray[np.float64],
    y: NDArray[np.float64],
    times: NDArray[np.float64],
    rtol: float,
    atol: float,
    max_steps: int,
    out: NDArray[np.float64],
) -> _Ending:
    """Integrate from t = 0.

    p is (eta, zeta, S); y, the start (gamma, 1 - R, L^4), is overwritten. ``out[i]`` becomes
    (gamma, 1 - R, (L/L0)^4) at ``times[i]`` for all times that are reached.
    """
    limit = DIVERGED_AT * max(1.0, y[0])
    unit = y[2]
    k = np.zeros((6, 3))
    stage = np.empty(3)
    rate = np.empty(3)
    jacobian = np.empty((3, 3))
    matrix = np.empty((3, 3))
    pivots = np.empty(3, dtype=np.int64)
    t = 0.0
    h = 0.0
    steps = 0
    tries = 0
    rejected = False
    for i in range(times.size):
        while t < times[i]:
            # Steps that an output time cuts short are not held against the run.
            if steps >= max_steps + i or tries >= 10 * (max_steps + i):
                return _Ending(_MAX_ITERATIONS, steps, tries, t)
            tries += 1
            at = _model.pair_averages(pair, series, p[2], y[0], y[1])
            _model.field_jacobian(plain, p[0], p[1], at, y[0], y[1], y[2], jacobian)
            if h == 0.0:
                # A first step over which nothing can change by more than about 1 %.
                _rates(pair, series, plain, p, y, rate)
                fastest = 1e-12  # nothing moves: any first step will do
                for j in range(3):
                    fastest = max(fastest, abs(rate[j]) / (abs(y[j]) + 1e-3), abs(jacobian[j, j]))
                h = 0.01 / fastest
                if not 0.0 < h < math.inf:
                    return _Ending(_NON_FINITE, steps, tries, t)
            last = t + h >= times[i]
            step = times[i] - t if last else h
            if not last and t + step == t:
                return _Ending(_MAX_ITERATIONS, steps, tries, t)
            if step < _TINY_STEP:
                _rates(pair, series, plain, p, y, rate)
                for j in range(3):
                    if not abs(rate[j]) * step <= 1e-9 * (abs(y[j]) + atol):
                        return _Ending(_NON_FINITE, steps, tries, t)
                    y[j] += step * rate[j]
                t = times[i] if last else t + step
                steps += 1
                continue
            for row in range(3):
                for column in range(3):
                    matrix[row, column] = -jacobian[row, column]
                matrix[row, row] += 1 / (_GAMMA * step)
            _factorize(matrix, pivots)
            for s in range(6):
                for j in range(3):
                    stage[j] = y[j]
                    for m in range(s):
                        stage[j] += _A[s, m] * k[m, j]
                _rates(pair, series, plain, p, stage, k[s])
                for j in range(3):
                    for m in range(s):
                        k[s, j] += _C[s, m] * k[m, j] / step
                _substitute(matrix, pivots, k[s])
            # The last stage is the error estimate, and the last point plus it the solution.
            error = 0.0
            finite = True
            for j in range(3):
                stage[j] += k[5, j]
                floor = atol * (unit if j == 2 else 1.0)
                scale = floor + rtol * max(abs(y[j]), abs(stage[j]))
                ratio = abs(k[5, j]) / scale
                finite = finite and math.isfinite(stage[j]) and math.isfinite(ratio)
                error = max(error, ratio)
            if not finite:
                error = 1e8  # the next step is the shortest that may follow
                if step < 1e-14 * max(1e-6, t):  # no step is short enough
                    return _Ending(_NON_FINITE, steps, tries, t)
            factor = min(5.0, max(0.1, 0.9 * error**-0.25 if error > 0.0 else 5.0))
            if error <= 1.0:
                before = abs(y[0])
                for j in range(3):
                    y[j] = stage[j]
                y[1] = min(max(y[1], 0.0), 2.0)
                steps += 1
                after = abs(y[0])
                if after > limit:
                    # |W| runs away exponentially: a straight line in its logarithm.
                    share = math.log(limit / before) / math.log(after / before)
                    return _Ending(_DIVERGENT, steps, tries, t + share * step)
                t = times[i] if last else t + step
                if rejected:
                    factor = min(factor, 1.0)
                # A step cut short by an output time says little about how long steps may be.
                h = max(h, step * factor) if last else step * factor
                rejected = False
            else:
                h = step * factor
                rejected = True
        out[i, 0], out[i, 1], out[i, 2] = y[0], y[1], y[2] / unit
    return _Ending(_CONVERGED, steps, tries, t)


@jit
def integrate_many(
    pair: _model.Pair,
    series: NDArray[np.float64],
    plain: bool,
    problems: NDArray[np.float64],
    start: NDArray[np.float64],
    times: NDArray[np.float64],
    rtol: float,
    atol: float,
    max_steps: int,
    first: int,
    stop: int,
    runs: Runs,
) -> None:
    """Integrate the problems first..stop; `runs` holds NaN and keeps it where none is reached."""
    for i in range(first, stop):
        end = _integrate_one(
            pair, series, plain, problems[i], start[i], times, rtol, atol, max_steps, runs.out[i]
        )
        runs.status[i], runs.steps[i], runs.tries[i] = end.status, end.steps, end.tries
        runs.ends[i] = end.t
        for n in range(times.size):
            runs.errors[i, n] = _model.error_of(pair, runs.out[i, n, 0], runs.out[i, n, 1])
