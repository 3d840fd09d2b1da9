"""Many trajectories at once: a compiled stiff integrator run over a grid of problems.

The integrator is the Rosenbrock method RODAS4 (Hairer and Wanner, Solving ODEs II, section IV.7):
order 4 with an embedded order 3, L-stable, no Newton iteration, with the exact Jacobian. May import
`_closed_forms`, `_model`, `flow` and the shared modules.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from replica._jit import for_each_chunk, jit
from replica._repr import summary
from replica._status import Status
from replica._validation import broadcast, integer, real_array, real_scalar
from replica.students import LeakyReLU, Student

from . import _closed_forms, _model
from .flow import DIVERGED_AT, check_start, check_times

__all__ = ["TrajectoryGrid", "integrate_grid"]


@dataclass(frozen=True, repr=False)
class TrajectoryGrid:
    """Trajectories over a grid of problems of shape ``grid``.

    Attributes
    ----------
    t : ndarray, shape (n,)
        Time, steps / N.
    gamma, R, L, one_minus_R : ndarray, shape (*grid, n)
        Order parameters; NaN from a divergence or failure on. For "sgd" gamma is L.
    effective_learning_rate, gen_error : ndarray, shape (*grid, n)
        As in `Trajectory`.
    status : ndarray of int, shape grid
        Values of `Status`.
    n_steps : ndarray of int, shape grid
        Accepted steps of the integrator.
    method, student, teacher, batch_size
        What the problems have in common.
    """

    method: str
    student: LeakyReLU | Student
    teacher: LeakyReLU | Student
    batch_size: int
    t: NDArray[np.float64]
    gamma: NDArray[np.float64]
    R: NDArray[np.float64]
    L: NDArray[np.float64]
    one_minus_R: NDArray[np.float64]
    effective_learning_rate: NDArray[np.float64]
    gen_error: NDArray[np.float64]
    status: NDArray[np.int64]
    n_steps: NDArray[np.int64]

    def __repr__(self) -> str:
        return summary(self, "TrajectoryGrid")


@jit
def _rates(
    pair: int, a: float, b: float, sgd: bool, noise: float, p: Any, y: Any, out: Any
) -> None:
    P, _, _, I2, _, _, G, _, _ = _closed_forms.averages(pair, a, b, p[2], y[0], y[1])
    out[0], out[1], out[2] = _model.field(sgd, p[0], p[1], P, noise * I2, G, y[0], y[1], y[2])


@jit
def _factorize(matrix: Any, pivots: Any) -> None:
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
def _substitute(factors: Any, pivots: Any, x: Any) -> None:
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
    pair: int,
    a: float,
    b: float,
    sgd: bool,
    noise: float,
    p: Any,
    y: Any,
    times: Any,
    rtol: float,
    atol: float,
    max_steps: int,
    out: Any,
) -> tuple[int, int]:
    """Integrate from t = 0; fill out[i] = y(times[i]); return status and accepted steps.

    p is (eta, zeta, S); y, the start (gamma, 1 - R, L^4), is overwritten.
    """
    limit = DIVERGED_AT * max(1.0, y[0])
    k = np.zeros((6, 3))
    stage = np.empty(3)
    rate = np.empty(3)
    matrix = np.empty((3, 3))
    pivots = np.empty(3, dtype=np.int64)
    t = 0.0
    h = 0.0
    steps = 0
    rejected = False
    for i in range(times.size):
        tries = 0
        while t < times[i]:
            tries += 1
            if steps >= max_steps or tries > 10 * max_steps:
                return 2, steps
            averages = _closed_forms.averages(pair, a, b, p[2], y[0], y[1])
            P, P_g, P_D, I2, I2_g, I2_D, G, G_g, G_D = averages
            J = _model.field_jacobian(
                sgd, p[0], p[1], P, P_g, P_D, noise * I2, noise * I2_g, noise * I2_D,
                G, G_g, G_D, y[0], y[1], y[2],
            )  # fmt: skip
            if h == 0.0:
                # A first step over which nothing can change by more than about 1 %.
                _rates(pair, a, b, sgd, noise, p, y, rate)
                fastest = 1e-12
                for j in range(3):
                    fastest = max(fastest, abs(rate[j]) / (abs(y[j]) + 1e-3), abs(J[4 * j]))
                h = 0.01 / fastest
            last = t + h >= times[i]
            step = times[i] - t if last else h
            for row in range(3):
                for column in range(3):
                    matrix[row, column] = -J[3 * row + column]
                matrix[row, row] += 1 / (_GAMMA * step)
            _factorize(matrix, pivots)
            for s in range(6):
                for j in range(3):
                    stage[j] = y[j]
                    for m in range(s):
                        stage[j] += _A[s, m] * k[m, j]
                _rates(pair, a, b, sgd, noise, p, stage, k[s])
                for j in range(3):
                    for m in range(s):
                        k[s, j] += _C[s, m] * k[m, j] / step
                _substitute(matrix, pivots, k[s])
            # The last stage is the error estimate, and the last point plus it the solution.
            error = 0.0
            for j in range(3):
                stage[j] += k[5, j]
                floor = atol * (out[0, 2] if j == 2 else 1.0)
                scale = floor + rtol * max(abs(y[j]), abs(stage[j]))
                error = max(error, abs(k[5, j]) / scale)
            if not np.isfinite(error):
                error = 1e8
                if step < 1e-14 * max(1e-6, t):
                    return 3, steps
            factor = min(5.0, max(0.1, 0.9 * error**-0.25 if error > 0.0 else 5.0))
            if error <= 1.0:
                t = times[i] if last else t + step
                for j in range(3):
                    y[j] = stage[j]
                y[1] = min(max(y[1], 0.0), 2.0)
                steps += 1
                if abs(y[0]) > limit:
                    return 1, steps
                if rejected:
                    factor = min(factor, 1.0)
                # A step cut short by an output time says little about how long steps may be.
                h = max(h, step * factor) if last else step * factor
                rejected = False
            else:
                h = step * factor
                rejected = True
        for j in range(3):
            out[i, j] = y[j]
    return 0, steps


@jit
def _integrate_many(
    pair: int,
    a: float,
    b: float,
    sgd: bool,
    noise: float,
    problems: Any,
    start: Any,
    times: Any,
    rtol: float,
    atol: float,
    max_steps: int,
    first: int,
    stop: int,
    out: Any,
    errors: Any,
    status: Any,
    steps: Any,
) -> None:
    for i in range(first, stop):
        out[i, 0, 2] = start[i, 2]  # read by the integrator as the unit of L^4
        status[i], steps[i] = _integrate_one(
            pair, a, b, sgd, noise, problems[i], start[i], times, rtol, atol, max_steps, out[i]
        )
        for n in range(times.size):
            gamma, D = out[i, n, 0], out[i, n, 1]
            errors[i, n] = _closed_forms.generalization_error(pair, a, b, gamma, D)


def integrate_grid(
    method: str,
    *,
    student: str | LeakyReLU | Student,
    learning_rate: ArrayLike,
    zeta: ArrayLike = 0.0,
    S: ArrayLike = 0.0,
    gamma0: ArrayLike,
    R0: ArrayLike,
    L0: ArrayLike,
    t: ArrayLike,
    teacher: str | LeakyReLU | Student | None = None,
    batch_size: int = 1,
    rtol: float = 1e-6,
    atol: float = 1e-10,
    max_steps: int = 100_000,
) -> TrajectoryGrid:
    """Integrate eq. 6 for arrays of problems, compiled and on all cores.

    Parameters
    ----------
    method : {"bn", "wn", "sgd"}
        As in `integrate`.
    student, teacher : str, LeakyReLU or Student
        A pair with a closed form: both of the leaky family, or both "erf".
    learning_rate, zeta, S, gamma0, R0, L0 : array_like
        As in `integrate`, broadcast against each other.
    t : array_like, shape (n,)
        Output times >= 0, strictly increasing.
    batch_size : int, optional
        Samples per step.
    rtol, atol : float, optional
        Error per step allowed in gamma, 1 - R and (L/L0)^4.
    max_steps : int, optional
        Steps per trajectory before it is given up.

    Returns
    -------
    TrajectoryGrid
        Nothing is raised or warned about for single problems: see its `status`.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or is out of range, or the pair has no closed form.

    Notes
    -----
    Theory: :eq:`eq-flow` in :doc:`/dynamics`.

    Examples
    --------
    >>> grid = integrate_grid("bn", student="relu", learning_rate=[[0.5], [1.0]],
    ...                       zeta=[0.0, 0.1, 0.2], gamma0=0.5, R0=0.1, L0=1.0, t=[0, 100])
    >>> grid.R.shape, grid.R[0, 1, -1].round(4)
    ((2, 3, 2), np.float64(0.9976))
    """
    zeta = real_array("zeta", zeta, low=0.0)
    worst = float(zeta.max(initial=0.0))
    model = _model.make_model(method, student, teacher, zeta=worst, batch_size=batch_size)
    if model.method == "minibatch-bn" or model.pair is None:
        raise ValueError(
            f"integrate_grid needs a closed form, which method {model.method!r} with student "
            f"{model.student.name} and teacher {model.teacher.name} does not have; use integrate"
        )
    times = check_times(t)
    rtol = real_scalar("rtol", rtol, low=1e-13)
    atol = real_scalar("atol", atol, low=0.0, low_open=True)
    max_steps = integer("max_steps", max_steps, low=1)
    gamma0, R0, L0 = check_start(model.method, gamma0, R0, L0)
    eta, zeta, S, gamma0, R0, L0 = broadcast(
        learning_rate=real_array("learning_rate", learning_rate, low=0.0, high=_model.LARGEST),
        zeta=zeta,
        S=real_array("S", S, low=0.0, high=_model.LARGEST),
        gamma0=gamma0,
        R0=R0,
        L0=L0,
    )
    shape = eta.shape
    problems = np.stack([eta.ravel(), zeta.ravel(), S.ravel()], axis=1)
    start = np.stack([gamma0.ravel(), 1.0 - R0.ravel(), L0.ravel() ** 4], axis=1)
    out = np.full((eta.size, times.size, 3), np.nan)
    errors = np.empty(out.shape[:2])
    status = np.zeros(eta.size, dtype=np.int64)
    steps = np.zeros(eta.size, dtype=np.int64)

    pair = model.pair

    def run(first: int, stop: int) -> None:
        _integrate_many(
            *pair, model.method == "sgd", 1.0 / model.batch_size,
            problems, start, times, rtol, atol, max_steps, first, stop, out, errors, status, steps,
        )  # fmt: skip

    for_each_chunk(run, eta.size, min_chunk=16)
    failed = (status == Status.MAX_ITERATIONS) | (status == Status.NON_FINITE)
    out[failed] = np.nan
    gamma, D, quartic = (out[..., j].reshape(*shape, times.size) for j in range(3))
    # Where a run stopped before the first output, the unit of L^4 is still in its place.
    L = gamma if model.method == "sgd" else np.where(np.isnan(gamma), np.nan, quartic**0.25)
    return TrajectoryGrid(
        method=model.method,
        student=model.student,
        teacher=model.teacher,
        batch_size=model.batch_size,
        t=times,
        gamma=gamma,
        R=1.0 - D,
        L=L,
        one_minus_R=D,
        effective_learning_rate=eta[..., None] * gamma / L**2,
        gen_error=errors.reshape(*shape, times.size),
        status=status.reshape(shape),
        n_steps=steps.reshape(shape),
    )
