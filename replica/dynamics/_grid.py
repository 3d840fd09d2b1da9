"""Many trajectories at once: the compiled integrator run over a grid of problems."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from replica._core.arguments import (
    ArgumentError,
    Limits,
    broadcast,
    integer,
    real_array,
    real_scalar,
)
from replica._core.jit import for_each_chunk
from replica._core.normalizer import Normalizer
from replica._core.results import Result, over
from replica._core.status import Status, warn_not_converged
from replica.students import LeakyReLU, Student, StudentLike

from . import _model
from ._flow import check_start, check_times
from ._rosenbrock import blank_runs, integrate_many

__all__ = ["TrajectoryGrid", "integrate_grid"]

# Trajectories that a thread takes at once: their cost varies, and handing them out costs nothing.
_MIN_CHUNK = 16


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class TrajectoryGrid(Result):
    """Trajectories over a grid of problems of shape ``grid``.

    Attributes
    ----------
    t : ndarray, shape (n,)
        Time, samples seen per weight.
    gamma, R, L, one_minus_R : ndarray, shape (*grid, n)
        Order parameters; NaN from a divergence or failure on. Without a normalizer gamma is L.
    effective_learning_rate, gen_error : ndarray, shape (*grid, n)
        As in `Trajectory`.
    status : ndarray of int8, shape grid
        Values of `Status`.
    n_steps : ndarray of int, shape grid
        Accepted steps of the integrator.
    S, zeta, learning_rate, gamma0, R0, L0 : ndarray, shape grid
        The problems, broadcast.
    student, teacher, normalizer, batch_size, rtol, atol, max_steps
        What the problems have in common: the other arguments of `integrate_grid`.
    """

    _problem = (
        "student", "teacher", "normalizer", "S", "zeta", "batch_size", "learning_rate",
        "gamma0", "R0", "L0", "t",
    )  # fmt: skip

    student: LeakyReLU | Student
    teacher: LeakyReLU | Student
    normalizer: Normalizer
    S: NDArray[np.float64]
    zeta: NDArray[np.float64]
    batch_size: int
    learning_rate: NDArray[np.float64]
    gamma0: NDArray[np.float64]
    R0: NDArray[np.float64]
    L0: NDArray[np.float64]
    t: NDArray[np.float64] = over("t")
    gamma: NDArray[np.float64] = over(..., "t")
    R: NDArray[np.float64] = over(..., "t")
    L: NDArray[np.float64] = over(..., "t")
    one_minus_R: NDArray[np.float64] = over(..., "t")
    effective_learning_rate: NDArray[np.float64] = over(..., "t")
    gen_error: NDArray[np.float64] = over(..., "t")
    status: NDArray[np.int8]
    n_steps: NDArray[np.int64]
    rtol: float
    atol: float
    max_steps: int

    @property
    def messages(self) -> Any:
        """The status of every trajectory in words, in the shape of `status`."""
        ran_away = "|W| diverged: the learning rate is above its maximum"
        text = np.where(self.status == Status.DIVERGENT, ran_away, super().messages)
        return text if text.ndim else text[()]


def integrate_grid(
    *,
    student: StudentLike,
    teacher: StudentLike | None = None,
    normalizer: Normalizer = "none",
    S: ArrayLike = 0.0,
    zeta: ArrayLike = 0.0,
    batch_size: int = 1,
    learning_rate: ArrayLike,
    gamma0: ArrayLike | None = None,
    R0: ArrayLike,
    L0: ArrayLike,
    t: ArrayLike,
    rtol: float = 1e-6,
    atol: float = 1e-10,
    max_steps: int = 100_000,
) -> TrajectoryGrid:
    """Integrate eq. 6 for arrays of problems, compiled and on all cores.

    Parameters
    ----------
    student, teacher : str, LeakyReLU or Student
        A pair with a closed form or a series: both of the leaky family, or both "erf" without
        batches.
    normalizer, batch_size
        As in `integrate`.
    S, zeta, learning_rate, gamma0, R0, L0 : array_like
        As in `integrate`, broadcast against each other.
    t : array_like, shape (n,)
        Output times >= 0, strictly increasing.
    rtol, atol : float, optional
        Error per step allowed in gamma, 1 - R and (L/L0)^4.
    max_steps : int, optional
        Steps per trajectory, besides one for each output time, before it is given up.

    Returns
    -------
    TrajectoryGrid

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or is out of range, or the pair has no closed form.

    Warns
    -----
    ConvergenceWarning
        Once, if trajectories are given up; they are NaN from there on and `status` says which. A
        divergence, which is what the equations do, is told by `status` alone.

    Notes
    -----
    Theory: :eq:`eq-flow` in :doc:`/dynamics`.

    Examples
    --------
    >>> grid = integrate_grid(student="relu", normalizer="pn", learning_rate=[[0.5], [1.0]],
    ...                       zeta=[0.0, 0.1, 0.2], gamma0=0.5, R0=0.1, L0=1.0, t=[0, 100])
    >>> grid.R.shape, grid.R[0, 1, -1].round(4)
    ((2, 3, 2), np.float64(0.9976))
    """
    model = _model.make_model(
        student=student, teacher=teacher, normalizer=normalizer, batch_size=batch_size
    )
    pair = model.pair
    if pair is None:
        raise ArgumentError(
            f"integrate_grid needs a closed form or a series, which {model.described} does not "
            "have; use integrate"
        )
    times = check_times(t)
    rtol = real_scalar("rtol", rtol, low=1e-13)
    atol = real_scalar("atol", atol, low=0.0, low_open=True)
    max_steps = integer("max_steps", max_steps, low=1)
    gamma0, R0, L0 = check_start(model, gamma0, R0, L0)
    positive: Limits = {"low": 0.0, "high": _model.LARGEST}
    S, zeta, eta, gamma0, R0, L0 = broadcast(
        S=real_array("S", S, **positive),
        zeta=real_array("zeta", zeta, **positive),
        learning_rate=real_array("learning_rate", learning_rate, **positive),
        gamma0=gamma0,
        R0=R0,
        L0=L0,
    )
    shape = eta.shape
    problems = np.stack([eta.ravel(), zeta.ravel(), S.ravel()], axis=1)
    start = np.stack([gamma0.ravel(), 1.0 - R0.ravel(), L0.ravel() ** 4], axis=1)
    runs = blank_runs(eta.size, times.size)

    series = model.series  # before the threads want it

    def run(first: int, stop: int) -> None:
        integrate_many(
            pair,
            series,
            model.plain,
            problems,
            start,
            times,
            rtol,
            atol,
            max_steps,
            first,
            stop,
            runs,
        )

    for_each_chunk(run, eta.size, min_chunk=_MIN_CHUNK)
    status = runs.status.astype(np.int8).reshape(shape)
    warn_not_converged(status)
    gamma, D, growth = (runs.out[..., j].reshape(*shape, times.size) for j in range(3))
    L = gamma if model.plain else L0[..., None] * growth**0.25
    return TrajectoryGrid(
        student=model.student,
        teacher=model.teacher,
        normalizer=model.normalizer,
        S=S,
        zeta=zeta,
        batch_size=model.batch_size,
        learning_rate=eta,
        gamma0=gamma0,
        R0=R0,
        L0=L0,
        t=times,
        gamma=gamma,
        R=1.0 - D,
        L=L,
        one_minus_R=D,
        effective_learning_rate=eta[..., None] * gamma / L**2,
        gen_error=runs.errors.reshape(*shape, times.size),
        status=status,
        n_steps=runs.steps.reshape(shape),
        rtol=rtol,
        atol=atol,
        max_steps=max_steps,
    )
