"""Trajectories of the order parameters (gamma, R, L), one at a time.

The compiled integrator serves the pairs with a closed form, SciPy's the rest.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import solve_ivp

from replica._core.arguments import ArgumentError, choice, integer, real_array, real_scalar
from replica._core.status import Status, warn
from replica._core.text import summary
from replica.students import LeakyReLU, Student

from ._model import L_RANGE, LARGEST, Model, make_model
from ._rosenbrock import DIVERGED_AT, integrate_many

__all__ = ["Trajectory", "check_start", "check_times", "integrate"]

# Below this a method of variable order needs so many fewer steps that it is the faster one.
_TIGHT = 1e-11
SOLVERS = ("RODAS4", "LSODA", "Radau", "BDF", "DOP853", "RK45", "RK23")


@dataclass(frozen=True, repr=False)
class Trajectory:
    """The order parameters along one run, and what follows from them.

    Attributes
    ----------
    t : ndarray, shape (n,)
        Time, steps / N.
    gamma, R, L : ndarray, shape (n,)
        Order parameters; NaN after a divergence or a failure. For "sgd" gamma is L. From R < 0
        gamma may pass through 0: (gamma, R) and (-gamma, -R) are the same student.
    one_minus_R : ndarray, shape (n,)
        1 - R, to full relative accuracy.
    effective_learning_rate : ndarray, shape (n,)
        eta gamma / L^2, the rate at which R moves (Table 1).
    gen_error : ndarray, shape (n,)
        E[(g*(z) - g(u))^2], against the noise-free teacher.
    status : Status
        CONVERGED; DIVERGENT when |W| ran away; NON_FINITE or MAX_ITERATIONS when the integrator
        gave up.
    message : str
        One line on how the run ended.
    n_evaluations : int
        Evaluations of the right-hand side.
    method, student, teacher, learning_rate, zeta, S, gamma0, R0, L0, batch_size
        The problem.
    solver, rtol, atol, max_steps
        How it was integrated; `solver` is the one that was used.
    """

    method: str
    student: LeakyReLU | Student
    teacher: LeakyReLU | Student
    learning_rate: float
    zeta: float
    S: float
    gamma0: float
    R0: float
    L0: float
    batch_size: int
    solver: str
    rtol: float
    atol: float
    max_steps: int
    t: NDArray[np.float64]
    gamma: NDArray[np.float64]
    R: NDArray[np.float64]
    L: NDArray[np.float64]
    one_minus_R: NDArray[np.float64]
    effective_learning_rate: NDArray[np.float64]
    gen_error: NDArray[np.float64]
    status: Status
    message: str
    n_evaluations: int

    def __repr__(self) -> str:
        return summary(self, "Trajectory")

    def plot(self, axes: Any = None, *, label: str | None = None, **style: Any) -> Any:
        """Draw gamma, R, L and the generalization error against t; return the array of axes.

        Parameters
        ----------
        axes : array of 4 matplotlib axes, optional
            Where to draw, so that several trajectories share a picture. Default: a new figure.
        label : str, optional
            Legend entry; the method by default.
        **style
            Passed on to ``axes.plot``.
        """
        if axes is None:
            from matplotlib.figure import Figure

            axes = Figure(figsize=(7.2, 5.0), layout="constrained").subplots(2, 2, sharex=True)
        panels = np.asarray(axes).ravel()
        series = (self.gamma, self.R, self.L, self.gen_error)
        for panel, values, name in zip(
            panels, series, (r"$\gamma$", "$R$", "$L$", "generalization error"), strict=True
        ):
            panel.plot(self.t, values, label=label or self.method, **style)
            panel.set(xlabel="$t$ = steps / $N$", ylabel=name)
        return axes


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
    method: str, gamma0: Any, R0: Any, L0: Any
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the checked initial order parameters."""
    gamma0 = real_array("gamma0", gamma0, low=0.0, high=LARGEST, low_open=True)
    R0 = real_array("R0", R0, low=-1.0, high=1.0)
    L0 = real_array("L0", L0, **L_RANGE)
    if method == "sgd" and np.any(gamma0 != L0):
        raise ArgumentError(
            f"gamma0 must equal L0 for method 'sgd', where both are |w|/sqrt(N), got {gamma0} "
            f"and {L0}"
        )
    return gamma0, R0, L0


def integrate(
    method: str,
    *,
    student: str | LeakyReLU | Student,
    learning_rate: float,
    zeta: float = 0.0,
    S: float = 0.0,
    gamma0: float,
    R0: float,
    L0: float,
    t: ArrayLike,
    teacher: str | LeakyReLU | Student | None = None,
    batch_size: int = 1,
    solver: str | None = None,
    rtol: float = 1e-9,
    atol: float = 1e-13,
    max_steps: int | None = None,
) -> Trajectory:
    """Integrate the order-parameter equations of online learning (eq. 6) from t = 0.

    Each step takes `batch_size` fresh samples and averages their gradients; N steps last one unit
    of time.

    Parameters
    ----------
    method : {"bn", "wn", "sgd", "minibatch-bn"}
        "bn": weight normalization with gamma decay `zeta`, the paper's model of batch
        normalization. "wn": the same without decay. "sgd": plain weights. "minibatch-bn": real
        batch normalization by the batch's own standard deviation, gradient included; `zeta` is an
        explicit decay on top (leaky family only, ``batch_size >= 3``).
    student : str, LeakyReLU or Student
        Closed forms for "linear", "relu", `LeakyReLU` and "erf"; quadrature otherwise.
    learning_rate : float
        eta >= 0, of the loss (1/2) (y - g(u))^2 averaged over the batch.
    zeta : float, optional
        Gamma decay, loss term (zeta/2) gamma^2; must be 0 for "wn" and "sgd".
    S : float, optional
        Variance of the label noise.
    gamma0, R0, L0 : float
        Start: output scale (> 0), overlap in [-1, 1], weight length |w|/sqrt(N) (> 0); "sgd" needs
        ``gamma0 == L0``.
    t : array_like, shape (n,)
        Output times >= 0, strictly increasing.
    teacher : optional
        Activation of the teacher; that of the student by default.
    batch_size : int, optional
        Samples per step.
    solver : str, optional
        "RODAS4", compiled, for pairs with a closed form, or a method of
        `scipy.integrate.solve_ivp`. By default RODAS4 where it serves and ``rtol >= 1e-11``, else
        "LSODA": both are implicit where the flow is stiff.
    rtol, atol : float, optional
        Its tolerances, on (gamma, 1 - R, (L/L0)^4).
    max_steps : int, optional
        When a run is given up: steps of RODAS4 besides one for each output time, or evaluations of
        the right-hand side by the others. By default 100,000, and 10,000 where each evaluation is a
        quadrature.

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

    Notes
    -----
    Theory: :eq:`eq-flow` and :eq:`eq-mini-batch` in :doc:`/dynamics`.

    Valid for N -> infinity at fixed t and batch size; at finite N means differ by O(1/N).
    Normalized methods cannot diverge: gamma is attracted to a bounded set and L only grows.

    Examples
    --------
    >>> run = integrate("bn", student="relu", learning_rate=0.5, zeta=0.1,
    ...                 gamma0=0.5, R0=0.1, L0=1.0, t=[0, 10, 100])
    >>> run.R.round(4)
    array([0.1   , 0.6238, 0.9976])
    """
    model = make_model(
        method,
        student,
        teacher,
        learning_rate=learning_rate,
        zeta=zeta,
        S=S,
        batch_size=batch_size,
    )
    times = check_times(t)
    limits: dict[str, Any] = {"low": 0.0, "low_open": True}
    start = [
        real_scalar("gamma0", gamma0, high=LARGEST, **limits),
        real_scalar("R0", R0, low=-1.0, high=1.0),
    ]
    start.append(real_scalar("L0", L0, **L_RANGE))
    check_start(model.method, *start)
    rtol, atol = real_scalar("rtol", rtol, low=1e-13), real_scalar("atol", atol, **limits)
    if max_steps is None:
        max_steps = 100_000 if model.is_compiled else 10_000
    max_steps = integer("max_steps", max_steps, low=1)
    if solver is None:
        solver = "RODAS4" if model.is_compiled and rtol >= _TIGHT else "LSODA"
    solver = choice("solver", solver, SOLVERS)
    if solver == "RODAS4" and not model.is_compiled:
        raise ArgumentError(
            f"solver 'RODAS4' needs a closed form, which method {model.method!r} with student "
            f"{model.student.name} and teacher {model.teacher.name} does not have"
        )
    if solver == "RODAS4":
        state, status, message, n_evaluations, errors = _solve_compiled(
            model, start, times, rtol, atol, max_steps
        )
    else:
        state, status, message, n_evaluations = _solve_by_scipy(
            model, start, times, solver, rtol, atol, max_steps
        )
        errors = np.array(
            [
                model.generalization_error(g, d) if np.isfinite(g) else np.nan
                for g, d in zip(state[0], state[1], strict=True)
            ]
        )
    if status != Status.CONVERGED:
        warn(f"{model.method}: {message}")

    gamma, D, growth = state
    L = gamma if model.method == "sgd" else start[2] * growth**0.25
    return Trajectory(
        method=model.method,
        student=model.student,
        teacher=model.teacher,
        learning_rate=model.learning_rate,
        zeta=model.zeta,
        S=model.S,
        gamma0=start[0],
        R0=start[1],
        L0=start[2],
        batch_size=model.batch_size,
        solver=solver,
        rtol=rtol,
        atol=atol,
        max_steps=max_steps,
        t=times,
        gamma=gamma,
        R=1.0 - D,
        L=L,
        one_minus_R=D,
        effective_learning_rate=model.learning_rate * gamma / L**2,
        gen_error=errors,
        status=status,
        message=message,
        n_evaluations=n_evaluations,
    )


_ABOVE_MAXIMUM = "|W| diverged at t = {:.4g}: the learning rate is above its maximum"
_REACHED = "reached the last time"


def _solve_compiled(
    model: Model,
    start: list[float],
    times: NDArray[np.float64],
    rtol: float,
    atol: float,
    max_steps: int,
) -> tuple[NDArray[np.float64], Status, str, int, NDArray[np.float64]]:
    """As `_solve_by_scipy`, and the generalization errors."""
    gamma0, R0, L0 = start
    problem = np.array([[model.learning_rate, model.zeta, model.S]])
    state = np.array([[gamma0, 1.0 - R0, L0**4]])
    out = np.full((1, times.size, 3), np.nan)
    errors = np.empty((1, times.size))
    counts = np.zeros((3, 1), dtype=np.int64)
    end = np.empty(1)
    integrate_many(
        *model.pair, model.method == "sgd", 1.0 / model.batch_size, problem, state, times,  # type: ignore[misc]
        rtol, atol, max_steps, 0, 1, out, errors, *counts, end,
    )  # fmt: skip
    status, _, tries = counts[:, 0].tolist()
    message = {
        Status.CONVERGED: _REACHED,
        Status.DIVERGENT: _ABOVE_MAXIMUM.format(end[0]),
        Status.MAX_ITERATIONS: f"gave up at t = {end[0]:.4g} after {tries} steps",
        Status.NON_FINITE: f"a value that is not finite after t = {end[0]:.4g}",
    }[Status(status)]
    return out[0].T, Status(status), message, 6 * tries, errors[0]


class _GaveUpError(Exception):
    pass


def _solve_by_scipy(
    model: Model,
    start: list[float],
    times: NDArray[np.float64],
    solver: str,
    rtol: float,
    atol: float,
    max_steps: int,
) -> tuple[NDArray[np.float64], Status, str, int]:
    """Return (gamma, 1 - R, (L/L0)^4) at `times`, shape (3, n), NaN where there is no answer."""
    gamma0, R0, L0 = start
    unit = L0**4
    limit = DIVERGED_AT * max(1.0, gamma0)
    scale = np.array([1.0, 1.0, unit])
    # SciPy takes steps that no longer advance the time if the last one is near the smallest float.
    clock = min(float(times[-1]), 1.0)
    n_evaluations = 0

    def rates(_: float, y: NDArray[np.float64]) -> tuple[float, float, float]:
        nonlocal n_evaluations
        n_evaluations += 1
        if n_evaluations > max_steps:
            raise _GaveUpError
        gamma, D, growth = y.tolist()
        gamma, D, quartic = model.rates(gamma, D, growth * unit)
        return clock * gamma, clock * D, clock * quartic / unit

    def matrix(_: float, y: NDArray[np.float64]) -> NDArray[np.float64]:
        gamma, D, growth = y.tolist()
        return clock * model.rates_jacobian(gamma, D, growth * unit) * scale / scale[:, None]

    def runaway(_: float, y: NDArray[np.float64]) -> float:
        return limit - abs(y[0])

    runaway.terminal = True  # type: ignore[attr-defined]
    options: dict[str, Any] = {}
    if solver in ("LSODA", "Radau", "BDF") and model.is_compiled:
        options["jac"] = matrix
    first = np.array([gamma0, 1.0 - R0, 1.0])
    out = np.full((3, times.size), np.nan)
    out[:, times == 0.0] = first[:, None]
    if times[-1] == 0.0:
        return out, Status.CONVERGED, _REACHED, 0
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
            return out, Status.MAX_ITERATIONS, message, max_steps
    reached = result.y.shape[1]
    out[:, :reached] = result.y
    out[:, times == 0.0] = first[:, None]  # not the integrator's interpolation of it
    # The exact flow keeps 0 <= 1 - R <= 2; the integrator may step over the edge by its tolerance.
    out[1] = np.clip(out[1], 0.0, 2.0)
    if result.status == 1:
        when = clock * float(result.t_events[0][0])
        return out, Status.DIVERGENT, _ABOVE_MAXIMUM.format(when), result.nfev
    if result.status != 0 or not np.isfinite(out).all():
        reason = str(caught[-1].message) if caught else result.message
        return out, Status.NON_FINITE, f"the integrator stopped: {reason}", result.nfev
    return out, Status.CONVERGED, _REACHED, result.nfev
