"""Trajectories of the order parameters (gamma, R, L), one at a time.

The compiled integrator serves the pairs with a closed form or a series, SciPy's the rest.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import solve_ivp

from replica._core.arguments import ArgumentError, choice, integer, real_array, real_scalar
from replica._core.normalizer import Normalizer
from replica._core.results import Result, over
from replica._core.status import Status, warn
from replica.students import LeakyReLU, Student, StudentLike

from ._model import L_RANGE, LARGEST, Model, Pair, field, make_model
from ._rosenbrock import DIVERGED_AT, blank_runs, integrate_many

__all__ = ["Trajectory", "check_start", "check_times", "integrate"]

# Below this a method of variable order needs so many fewer steps that it is the faster one.
_TIGHT = 1e-11
Solver = Literal["RODAS4", "LSODA", "Radau", "BDF", "DOP853", "RK45", "RK23"]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Trajectory(Result):
    """The order parameters along one run, and what follows from them.

    Attributes
    ----------
    t : ndarray, shape (n,)
        Time, samples seen per weight.
    gamma, R, L : ndarray, shape (n,)
        Order parameters; NaN after a divergence or a failure. Without a normalizer gamma is L. From
        R < 0 gamma may pass through 0: (gamma, R) and (-gamma, -R) are the same student.
    one_minus_R : ndarray, shape (n,)
        1 - R, to full relative accuracy.
    effective_learning_rate : ndarray, shape (n,)
        eta gamma / L^2, the rate at which R moves (Table 1).
    gen_error : ndarray, shape (n,)
        E[(g*(z) - g(u))^2] with population statistics, against the noise-free teacher.
    status : Status
        CONVERGED: the last time was reached within the tolerances; DIVERGENT when |W| ran away;
        NON_FINITE or MAX_ITERATIONS when the integrator gave up.
    message : str
        One line on how the run ended.
    n_evaluations : int
        Evaluations of the right-hand side.
    student, teacher, normalizer, S, zeta, batch_size, learning_rate, gamma0, R0, L0
        The problem.
    solver, rtol, atol, max_steps
        How it was integrated; `solver` is the one that was used.
    """

    _problem = (
        "student", "teacher", "normalizer", "S", "zeta", "batch_size", "learning_rate",
        "gamma0", "R0", "L0", "t",
    )  # fmt: skip

    student: LeakyReLU | Student
    teacher: LeakyReLU | Student
    normalizer: Normalizer
    S: float
    zeta: float
    batch_size: int
    learning_rate: float
    gamma0: float
    R0: float
    L0: float
    t: NDArray[np.float64] = over("t")
    gamma: NDArray[np.float64] = over("t")
    R: NDArray[np.float64] = over("t")
    L: NDArray[np.float64] = over("t")
    one_minus_R: NDArray[np.float64] = over("t")
    effective_learning_rate: NDArray[np.float64] = over("t")
    gen_error: NDArray[np.float64] = over("t")
    status: Status
    message: str
    n_evaluations: int
    solver: Solver
    rtol: float
    atol: float
    max_steps: int

    @property
    def messages(self) -> str:
        """The same as `message`."""
        return self.message

    def _curve_name(self) -> str:
        return self.normalizer


def check_times(t: ArrayLike) -> NDArray[np.float64]:
    """Return the output times as a 1-D array; they must be >= 0 and strictly increasing."""
    times = np.atleast_1d(real_array("t", t, low=0.0))
    if times.ndim != 1 or times.size == 0:
        raise ArgumentError(f"t must be a non-empty 1-D array of times, got shape {times.shape}")
    if (np.diff(times) <= 0).any():
        where = int(np.argmax(np.diff(times) <= 0))
        raise ArgumentError(
            "t must be strictly increasing, "
            f"got {times[where]:g} before {times[where + 1]:g} (element {where + 1})"
        )
    return times


def check_start(
    model: Model, gamma0: ArrayLike | None, R0: ArrayLike, L0: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the checked initial order parameters; gamma0 may be None, as in `integrate`."""
    R0 = real_array("R0", R0, low=-1.0, high=1.0)
    L0 = real_array("L0", L0, **L_RANGE)
    if gamma0 is None:
        gamma0 = L0 if model.plain else 1.0
    gamma0 = real_array("gamma0", gamma0, low=0.0, high=LARGEST, low_open=True)
    if model.plain and np.any(gamma0 != L0):
        raise ArgumentError(
            f"gamma0 is L0 for normalizer 'none', where both are |w|/sqrt(N), got {gamma0} and {L0}"
        )
    return gamma0, R0, L0


def integrate(
    *,
    student: StudentLike,
    teacher: StudentLike | None = None,
    normalizer: Normalizer = "none",
    S: float = 0.0,
    zeta: float = 0.0,
    batch_size: int = 1,
    learning_rate: float,
    gamma0: float | None = None,
    R0: float,
    L0: float,
    t: ArrayLike,
    solver: Solver | None = None,
    rtol: float | None = None,
    atol: float = 1e-13,
    max_steps: int | None = None,
) -> Trajectory:
    """Integrate the order-parameter equations of online learning (eq. 6) from t = 0.

    Each step takes `batch_size` fresh samples and follows the gradient of the sum of their losses.
    The arguments mean what they do in `simulate_online`, of which this is the limit N -> infinity.

    Parameters
    ----------
    student : str, LeakyReLU or Student
        Closed forms for "linear", "relu", `LeakyReLU` and "erf"; quadrature otherwise.
    teacher : optional
        Activation of the teacher; that of the student by default.
    normalizer : {"none", "wn", "pn", "bn", "bn-var", "bn-mean"}, optional
        "none": plain SGD. "wn", weight normalization, and "pn", population normalization: the same
        equations, with gamma decay the paper's model of batch normalization. "bn", "bn-var",
        "bn-mean": real batch normalization, the gradient included, by mean and variance of the
        batch, its root mean square, or its mean alone.
    S : float, optional
        Variance of the label noise.
    zeta : float, optional
        Decay per sample: over dt = 1 gamma (without normalizer: w) shrinks by 1 - eta zeta.
    batch_size : int, optional
        Samples per step; at least 4 for "bn", 3 for "bn-var" and 2 for "bn-mean": the update of a
        smaller batch has an infinite variance, and order parameters no equations. Nothing depends
        on it otherwise.
    learning_rate : float
        eta >= 0, of the sum over the batch of (1/2) (y - g(u))^2.
    gamma0, R0, L0 : float
        Start: output scale (> 0), overlap in [-1, 1], weight length |w|/sqrt(N) (> 0). `gamma0` is
        1 by default, without a normalizer L0 and nothing else.
    t : array_like, shape (n,)
        Output times >= 0, samples seen per weight, strictly increasing.
    solver : str, optional
        "RODAS4", compiled, for pairs with a closed form or a series (leaky family with any
        normalizer, erf with erf without batches), or a method of `scipy.integrate.solve_ivp`. By
        default RODAS4 where it serves and ``rtol >= 1e-11``, else "LSODA": both are implicit where
        the flow is stiff.
    rtol, atol : float, optional
        Its tolerances, on (gamma, 1 - R, (L/L0)^4). `rtol` is 1e-9 by default, and 1e-6 where each
        evaluation is a quadrature over a batch, of about that accuracy and some milliseconds.
    max_steps : int, optional
        When a run is given up: steps of RODAS4 besides one for each output time, or evaluations of
        the right-hand side by the others. By default 100,000; 10,000 where each evaluation is a
        quadrature, and 3,000 where it is one over a batch.

    Returns
    -------
    Trajectory

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or is out of range.

    Warns
    -----
    ConvergenceWarning
        If the run diverges or the integrator fails; the values from there on are NaN.

    See Also
    --------
    replica.simulate_online : The same at finite N.

    Notes
    -----
    Theory: :eq:`eq-flow` and :eq:`eq-batch` in :doc:`/dynamics`.

    Valid for N -> infinity at fixed t and batch size; at finite N means differ by O(1/N).
    Normalized methods cannot diverge: gamma is attracted to a bounded set and L only grows.

    Examples
    --------
    >>> run = integrate(student="relu", normalizer="pn", learning_rate=0.5, zeta=0.1,
    ...                 gamma0=0.5, R0=0.1, L0=1.0, t=[0, 10, 100])
    >>> run.R.round(4)
    array([0.1   , 0.6238, 0.9976])
    """
    model = make_model(
        student=student,
        teacher=teacher,
        normalizer=normalizer,
        S=S,
        zeta=zeta,
        batch_size=batch_size,
        learning_rate=learning_rate,
    )
    times = check_times(t)
    start = _scalar_start(model, gamma0, R0, L0)
    compiled = model.pair is not None
    slow = model.has_batches and not compiled
    # Quadrature over batches is slow, and good to 1e-6 where there are kinks.
    if rtol is None:
        rtol = 1e-6 if slow else 1e-9
    rtol = real_scalar("rtol", rtol, low=1e-13)
    atol = real_scalar("atol", atol, low=0.0, low_open=True)
    if max_steps is None:
        max_steps = 100_000 if compiled else 3_000 if slow else 10_000
    max_steps = integer("max_steps", max_steps, low=1)
    default: Solver = "RODAS4" if compiled and rtol >= _TIGHT else "LSODA"
    chosen = solver or default
    choice("solver", chosen, get_args(Solver))
    if chosen == "RODAS4" and not compiled:
        raise ArgumentError(
            f"solver 'RODAS4' needs a closed form or a series, which {model.described} does not "
            "have"
        )
    if chosen == "RODAS4":
        end = _solve_compiled(model, start, times, rtol, atol, max_steps)
    else:
        end = _solve_by_scipy(model, start, times, chosen, rtol, atol, max_steps)
    if end.status != Status.CONVERGED:
        warn(f"{model.normalizer}: {end.message}")

    gamma, D, growth = end.state
    L = gamma if model.plain else start.L * growth**0.25
    return Trajectory(
        student=model.student,
        teacher=model.teacher,
        normalizer=model.normalizer,
        S=model.S,
        zeta=model.zeta,
        batch_size=model.batch_size,
        learning_rate=model.learning_rate,
        gamma0=start.gamma,
        R0=start.R,
        L0=start.L,
        t=times,
        gamma=gamma,
        R=1.0 - D,
        L=L,
        one_minus_R=D,
        effective_learning_rate=model.learning_rate * gamma / L**2,
        gen_error=end.errors,
        status=end.status,
        message=end.message,
        n_evaluations=end.n_evaluations,
        solver=chosen,
        rtol=rtol,
        atol=atol,
        max_steps=max_steps,
    )


class _Start(NamedTuple):
    gamma: float
    R: float
    L: float


class _Solution(NamedTuple):
    """(gamma, 1 - R, (L/L0)^4) at the output times, shape (3, n), NaN where there is no answer."""

    state: NDArray[np.float64]
    errors: NDArray[np.float64]
    status: Status
    message: str
    n_evaluations: int


def _scalar_start(model: Model, gamma0: ArrayLike | None, R0: ArrayLike, L0: ArrayLike) -> _Start:
    R0 = real_scalar("R0", R0, low=-1.0, high=1.0)
    L0 = real_scalar("L0", L0, **L_RANGE)
    if gamma0 is not None:
        gamma0 = real_scalar("gamma0", gamma0, low=0.0, high=LARGEST, low_open=True)
    return _Start(*(float(x) for x in check_start(model, gamma0, R0, L0)))


_ABOVE_MAXIMUM = "|W| diverged at t = {:.4g}: the learning rate is above its maximum"
_REACHED = "reached the last time"


def _solve_compiled(
    model: Model,
    start: _Start,
    times: NDArray[np.float64],
    rtol: float,
    atol: float,
    max_steps: int,
) -> _Solution:
    assert isinstance(model.pair, Pair)  # or RODAS4 would have been refused
    problem = np.array([[model.learning_rate, model.zeta, model.S]])
    state = np.array([[start.gamma, 1.0 - start.R, start.L**4]])
    runs = blank_runs(1, times.size)
    integrate_many(
        model.pair,
        model.series,
        model.plain,
        problem,
        state,
        times,
        rtol,
        atol,
        max_steps,
        0,
        1,
        runs,
    )
    status, when = Status(int(runs.status[0])), runs.ends[0]
    tries = int(runs.tries[0])
    message = {
        Status.CONVERGED: _REACHED,
        Status.DIVERGENT: _ABOVE_MAXIMUM.format(when),
        Status.MAX_ITERATIONS: f"gave up at t = {when:.4g} after {tries} steps",
        Status.NON_FINITE: f"a value that is not finite after t = {when:.4g}",
    }[status]
    # Six stages a step.
    return _Solution(runs.out[0].T, runs.errors[0], status, message, 6 * tries)


class _GaveUpError(Exception):
    pass


def _solve_by_scipy(
    model: Model,
    start: _Start,
    times: NDArray[np.float64],
    solver: Solver,
    rtol: float,
    atol: float,
    max_steps: int,
) -> _Solution:
    unit = start.L**4
    limit = DIVERGED_AT * max(1.0, start.gamma)
    scale = np.array([1.0, 1.0, unit])
    # SciPy takes steps that no longer advance the time if the last one is near the smallest float.
    clock = min(float(times[-1]), 1.0)
    n_evaluations = 0
    # A Jacobian by differences moves L alone in one of three evaluations.
    averages = lru_cache(maxsize=4)(model.averages)
    eta, zeta = model.learning_rate, model.zeta

    def rates(_: float, y: NDArray[np.float64]) -> tuple[float, float, float]:
        nonlocal n_evaluations
        n_evaluations += 1
        if n_evaluations > max_steps:
            raise _GaveUpError
        gamma, D, growth = y.tolist()
        if not math.isfinite(gamma + D + growth):  # a step that went wrong: the integrator gives up
            return math.nan, math.nan, math.nan
        at = averages(gamma, D)
        gamma, D, quartic = field(model.plain, eta, zeta, at, gamma, D, growth * unit)
        return clock * gamma, clock * D, clock * quartic / unit

    def matrix(_: float, y: NDArray[np.float64]) -> NDArray[np.float64]:
        gamma, D, growth = y.tolist()
        return clock * model.rates_jacobian(gamma, D, growth * unit) * scale / scale[:, None]

    def runaway(_: float, y: NDArray[np.float64]) -> float:
        return limit - abs(y[0])

    runaway.terminal = True  # type: ignore[attr-defined]
    options: dict[str, Any] = {}
    if solver in ("LSODA", "Radau", "BDF") and model.pair is not None:
        options["jac"] = matrix
    first = np.array([start.gamma, 1.0 - start.R, 1.0])

    def solution(status: Status, message: str, evaluations: int) -> _Solution:
        pairs = zip(out[0], out[1], strict=True)
        errors = [model.generalization_error(g, d) if np.isfinite(g) else np.nan for g, d in pairs]
        return _Solution(out, np.array(errors), status, message, evaluations)

    out = np.full((3, times.size), np.nan)
    out[:, times == 0.0] = first[:, None]
    if times[-1] == 0.0:
        return solution(Status.CONVERGED, _REACHED, 0)
    with np.errstate(all="ignore"), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = solve_ivp(
                rates,
                (0.0, times[-1] / clock),
                first,
                method=solver,
                t_eval=times / clock,
                rtol=rtol,
                atol=atol,
                events=runaway,
                **options,
            )
        except _GaveUpError:
            message = f"gave up after {max_steps} evaluations of the right-hand side"
            return solution(Status.MAX_ITERATIONS, message, max_steps)
    reached = result.y.shape[1]
    out[:, :reached] = result.y
    out[:, times == 0.0] = first[:, None]  # not the integrator's interpolation of it
    # The exact flow keeps 0 <= 1 - R <= 2; the integrator may step over the edge by its tolerance.
    out[1] = np.clip(out[1], 0.0, 2.0)
    out[:, ~np.isfinite(out).all(axis=0)] = np.nan
    if result.status == 1:
        when = clock * float(result.t_events[0][0])
        return solution(Status.DIVERGENT, _ABOVE_MAXIMUM.format(when), result.nfev)
    if result.status != 0 or not np.isfinite(out).all():
        reason = str(caught[-1].message) if caught else result.message
        return solution(Status.NON_FINITE, f"the integrator stopped: {reason}", result.nfev)
    return solution(Status.CONVERGED, _REACHED, result.nfev)
