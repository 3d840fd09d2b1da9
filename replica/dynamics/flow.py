"""Trajectories of the order parameters (gamma, R, L), one at a time, on SciPy's integrators.

May import `_model` and the shared modules; matplotlib only inside `Trajectory.plot`.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import solve_ivp

from replica._repr import summary
from replica._status import Status, warn
from replica._validation import choice, real_array, real_scalar
from replica.students import LeakyReLU, Student

from ._model import LARGEST, Model, make_model

__all__ = ["DIVERGED_AT", "Trajectory", "check_start", "check_times", "integrate"]

SOLVERS = ("LSODA", "Radau", "BDF", "DOP853", "RK45", "RK23")
# |W| beyond this many times max(1, its start) is divergence: nothing brings the flow back.
DIVERGED_AT = 1e6
L_RANGE: dict[str, Any] = {"low": 1 / LARGEST, "high": LARGEST}


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
    method, student, teacher, learning_rate, zeta, S, batch_size
        The problem.
    """

    method: str
    student: LeakyReLU | Student
    teacher: LeakyReLU | Student
    learning_rate: float
    zeta: float
    S: float
    batch_size: int
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
        raise ValueError(f"t must be a non-empty 1-D array of times, got shape {times.shape}")
    if (np.diff(times) <= 0).any():
        where = int(np.argmax(np.diff(times) <= 0))
        raise ValueError(
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
        raise ValueError(
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
    solver: str = "LSODA",
    rtol: float = 1e-9,
    atol: float = 1e-13,
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
        Method of `scipy.integrate.solve_ivp`; the default is implicit where the flow is stiff.
    rtol, atol : float, optional
        Its tolerances, on (gamma, 1 - R, (L/L0)^4).

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
    solver = choice("solver", solver, SOLVERS)
    rtol, atol = real_scalar("rtol", rtol, low=1e-13), real_scalar("atol", atol, **limits)
    state, status, message, n_evaluations = _solve(model, start, times, solver, rtol, atol)
    if status != Status.CONVERGED:
        warn(f"{model.method}: {message}")

    gamma, D, growth = state
    L = gamma if model.method == "sgd" else start[2] * growth**0.25
    errors = [
        model.generalization_error(g, d) if np.isfinite(g) else np.nan
        for g, d in zip(gamma, D, strict=True)
    ]
    return Trajectory(
        method=model.method,
        student=model.student,
        teacher=model.teacher,
        learning_rate=model.learning_rate,
        zeta=model.zeta,
        S=model.S,
        batch_size=model.batch_size,
        t=times,
        gamma=gamma,
        R=1.0 - D,
        L=L,
        one_minus_R=D,
        effective_learning_rate=model.learning_rate * gamma / L**2,
        gen_error=np.array(errors),
        status=status,
        message=message,
        n_evaluations=n_evaluations,
    )


def _solve(
    model: Model,
    start: list[float],
    times: NDArray[np.float64],
    solver: str,
    rtol: float,
    atol: float,
) -> tuple[NDArray[np.float64], Status, str, int]:
    """Return (gamma, 1 - R, (L/L0)^4) at `times`, shape (3, n), NaN where there is no answer."""
    gamma0, R0, L0 = start
    unit = L0**4
    limit = DIVERGED_AT * max(1.0, gamma0)
    scale = np.array([1.0, 1.0, unit])

    def rates(_: float, y: NDArray[np.float64]) -> tuple[float, float, float]:
        gamma, D, growth = y.tolist()
        gamma, D, quartic = model.rates(gamma, D, growth * unit)
        return gamma, D, quartic / unit

    def matrix(_: float, y: NDArray[np.float64]) -> NDArray[np.float64]:
        gamma, D, growth = y.tolist()
        return model.rates_jacobian(gamma, D, growth * unit) * scale / scale[:, None]

    def runaway(_: float, y: NDArray[np.float64]) -> float:
        return limit - abs(y[0])

    runaway.terminal = True  # type: ignore[attr-defined]
    options: dict[str, Any] = {}
    if solver in ("LSODA", "Radau", "BDF") and model.pair and model.method != "minibatch-bn":
        options["jac"] = matrix
    first = np.array([gamma0, 1.0 - R0, 1.0])
    out = np.full((3, times.size), np.nan)
    if times[-1] == 0.0:
        return (
            np.repeat(first[:, None], times.size, axis=1),
            Status.CONVERGED,
            "no time to integrate over",
            0,
        )
    with np.errstate(all="ignore"), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = solve_ivp(
            rates,
            (0.0, times[-1]),
            first,
            method=solver,
            t_eval=times,
            rtol=rtol,
            atol=atol,
            events=runaway,
            **options,
        )
    reached = result.y.shape[1]
    out[:, :reached] = result.y
    out[:, times == 0.0] = first[:, None]  # not the integrator's interpolation of it
    # The exact flow keeps 0 <= 1 - R <= 2; the integrator may step over the edge by its tolerance.
    out[1] = np.clip(out[1], 0.0, 2.0)
    if result.status == 1:
        when = float(result.t_events[0][0])
        message = f"|W| diverged at t = {when:.4g}: the learning rate is above its maximum"
        return out, Status.DIVERGENT, message, result.nfev
    if result.status != 0 or not np.isfinite(out).all():
        reason = str(caught[-1].message) if caught else result.message
        return out, Status.NON_FINITE, f"the integrator stopped: {reason}", result.nfev
    return out, Status.CONVERGED, "reached the last time", result.nfev
