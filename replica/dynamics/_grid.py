"""Many trajectories at once: the compiled integrator run over a grid of problems."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from replica._core.arguments import ArgumentError, broadcast, integer, real_array, real_scalar
from replica._core.jit import for_each_chunk
from replica._core.status import warn_not_converged
from replica._core.text import summary
from replica.students import LeakyReLU, Student

from . import _model
from ._flow import check_start, check_times
from ._rosenbrock import integrate_many

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
    learning_rate, zeta, S, gamma0, R0, L0 : ndarray, shape grid
        The problems, broadcast.
    method, student, teacher, batch_size, rtol, atol, max_steps
        What the problems have in common: the other arguments of `integrate_grid`.
    """

    method: str
    student: LeakyReLU | Student
    teacher: LeakyReLU | Student
    learning_rate: NDArray[np.float64]
    zeta: NDArray[np.float64]
    S: NDArray[np.float64]
    gamma0: NDArray[np.float64]
    R0: NDArray[np.float64]
    L0: NDArray[np.float64]
    batch_size: int
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
    status: NDArray[np.int64]
    n_steps: NDArray[np.int64]

    def __repr__(self) -> str:
        return summary(self, "TrajectoryGrid")


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
    >>> grid = integrate_grid("bn", student="relu", learning_rate=[[0.5], [1.0]],
    ...                       zeta=[0.0, 0.1, 0.2], gamma0=0.5, R0=0.1, L0=1.0, t=[0, 100])
    >>> grid.R.shape, grid.R[0, 1, -1].round(4)
    ((2, 3, 2), np.float64(0.9976))
    """
    zeta = real_array("zeta", zeta, low=0.0)
    worst = float(zeta.max(initial=0.0))
    model = _model.make_model(method, student, teacher, zeta=worst, batch_size=batch_size)
    if not model.is_compiled:
        raise ArgumentError(
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
    status, steps, tries = np.zeros((3, eta.size), dtype=np.int64)
    ends = np.empty(eta.size)
    pair = model.pair
    assert pair is not None  # refused above

    def run(first: int, stop: int) -> None:
        integrate_many(
            *pair, model.method == "sgd", 1.0 / model.batch_size, problems, start, times,
            rtol, atol, max_steps, first, stop, out, errors, status, steps, tries, ends,
        )  # fmt: skip

    for_each_chunk(run, eta.size, min_chunk=16)
    warn_not_converged(status.astype(np.int8).reshape(shape))
    gamma, D, growth = (out[..., j].reshape(*shape, times.size) for j in range(3))
    L = gamma if model.method == "sgd" else L0[..., None] * growth**0.25
    return TrajectoryGrid(
        method=model.method,
        student=model.student,
        teacher=model.teacher,
        learning_rate=eta,
        zeta=zeta,
        S=S,
        gamma0=gamma0,
        R0=R0,
        L0=L0,
        batch_size=model.batch_size,
        rtol=rtol,
        atol=atol,
        max_steps=max_steps,
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
