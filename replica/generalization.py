"""The front door: generalization error from (alpha, S, zeta) or from (gamma, R)."""

from __future__ import annotations

from functools import partial
from typing import overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._core.arguments import (
    ArgumentError,
    ArgumentTypeError,
    broadcast,
    choice,
    problem,
    real_array,
)
from ._core.jit import for_each_chunk
from ._core.status import Status, warn_not_converged
from .equilibrium._piecewise import optimal_zeta_piecewise
from .equilibrium._ridge import ridge_errors
from .equilibrium._solve import solve_equilibrium
from .students import LINEAR, LeakyReLU, Student, as_activation, as_student, error_of_overlaps

__all__ = ["gen_error", "gen_error_from_overlaps", "optimal_zeta", "zeta_from_mean"]


@overload
def gen_error(
    alpha: float,
    S: float,
    zeta: float = 0.0,
    *,
    student: str | LeakyReLU | Student = ...,
    theory: str = ...,
    batch_size: int | None = ...,
    statistics: str | None = ...,
) -> float: ...
@overload
def gen_error(
    alpha: ArrayLike,
    S: ArrayLike,
    zeta: ArrayLike = 0.0,
    *,
    student: str | LeakyReLU | Student = ...,
    theory: str = ...,
    batch_size: int | None = ...,
    statistics: str | None = ...,
) -> float | NDArray[np.float64]: ...
def gen_error(
    alpha: ArrayLike,
    S: ArrayLike,
    zeta: ArrayLike = 0.0,
    *,
    student: str | LeakyReLU | Student = "linear",
    theory: str = "replica",
    batch_size: int | None = None,
    statistics: str | None = None,
) -> float | NDArray[np.float64]:
    """Generalization error of a student trained to the end on alpha N noisy samples, N -> infinity.

    Parameters
    ----------
    alpha : array_like
        Load P/N, from 1e-100 to 1e100.
    S : array_like
        Variance of the label noise, from 0 to 1e100.
    zeta : array_like
        Weight decay, from 0 to 1e100, in the sum convention (`zeta_from_mean` converts); 0 means
        exactly 0.
    student : {"linear", "relu"}, LeakyReLU, Student or the name of one
        The student's activation; a `Student`, such as "erf", goes to the general solver. For
        another teacher or a temperature see `solve_equilibrium`.
    theory : {"replica", "published", "batch_norm"}
        The replica-symmetric solution of the true loss (exact for the linear student), the closed
        forms of the paper (see `solve_equilibrium`), or a student trained with batch
        normalization until nothing changes (see `bn_equilibrium`), which has no decay.
    batch_size : int, optional
        Batch size M >= 2; with ``theory="batch_norm"``, and only then.
    statistics : {"training", "population"}, optional
        Which sigma normalizes at test time; with ``theory="batch_norm"`` only, default "training".

    Returns
    -------
    float or ndarray
        E[(z - g(u))^2] against the noise-free teacher field z; a float if all arguments are
        scalars, else an array of the broadcast shape. It is inf where the noise is amplified
        without bound (alpha = 1 for slope > 0 and alpha = 2 for the published ReLU, at zeta = 0).

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type, out of range, or the shapes do not broadcast.

    Warns
    -----
    ConvergenceWarning
        If a point did not converge; its value is NaN.

    Notes
    -----
    Linear: Krogh and Hertz (1992), section 4.1 of the paper. Leaky ReLU: eps = 1 +
    (1 + a^2) q/2 - (1 + a) m at the saddle point, the general form of eq. (18). Relative accuracy
    1e-12 for the linear student, 1e-11 for the others where the problem is well conditioned.

    Batch norm: exact for the linear student below alpha = 1 and for S = 0, right to order 1/M^2
    where M (alpha - 1) is large; a rough approximation for slope < 1, which fails near and below
    the interpolation threshold.

    Theory: :eq:`eq-ridge-error`, :eq:`eq-saddle-point` and :eq:`eq-published` in :doc:`/theory`;
    :eq:`eq-bn-error` in :doc:`/batch_norm`.

    Examples
    --------
    >>> gen_error(2.0, 0.25)
    0.25
    >>> gen_error([0.5, 1.0, 2.0], 0.25, 1 / 64, student="relu").round(6)
    array([0.891687, 0.821235, 0.841794])
    >>> round(gen_error(2.0, 0.25, theory="batch_norm", batch_size=32), 4)
    0.2467
    """
    choice("theory", theory, ("replica", "published", "batch_norm"))
    if theory == "batch_norm":
        from .batch_norm import bn_gen_error  # not needed by the other theories

        student = as_student(student)
        if batch_size is None:
            raise ArgumentTypeError("batch_size is required with theory 'batch_norm'")
        alpha_, S_, zeta_ = problem(alpha, S, zeta)
        if zeta_.any():
            raise ArgumentError(
                "zeta must be 0 with theory 'batch_norm', which trains without decay"
            )
        if statistics is None:
            statistics = "training"
        return bn_gen_error(
            alpha_, S_, batch_size=batch_size, student=student, statistics=statistics
        )
    if batch_size is not None or statistics is not None:
        raise ArgumentTypeError(
            f"batch_size and statistics need theory 'batch_norm', got {theory!r}"
        )
    activation = as_activation(student)
    if activation == LINEAR:  # cheap enough to be worth a short cut
        problems = problem(alpha, S, zeta)
        error = np.empty_like(problems[0])
        flat = (array.reshape(-1) for array in (*problems, error))
        for_each_chunk(partial(ridge_errors, *flat), error.size)
    elif isinstance(activation, LeakyReLU):
        error = solve_equilibrium(alpha, S, zeta, student=activation, theory=theory).gen_error
    else:
        error = solve_equilibrium(alpha, S, zeta, student=activation, theory=theory).gen_error
    return float(error) if error.ndim == 0 else error


def gen_error_from_overlaps(
    gamma: ArrayLike, R: ArrayLike, *, student: str | LeakyReLU = "linear"
) -> float | NDArray[np.float64]:
    """Generalization error of any student with length gamma and overlap R, trained or not.

    Parameters
    ----------
    gamma : array_like
        Length of the student's effective weights, sqrt(|W|^2/N), >= 0.
    R : array_like
        Overlap with the teacher, cosine of the angle between the two, in [-1, 1].
    student : {"linear", "relu"} or LeakyReLU
        The student's activation.

    Returns
    -------
    float or ndarray
        1 + (1 + a^2) gamma^2/2 - (1 + a) gamma R for slope a: eq. (18) of the paper for a = 1.
        Written as a sum of squares, so that nothing cancels near the minimum.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type, out of range, or the shapes do not broadcast.

    Notes
    -----
    Theory: :eq:`eq-gen-error` in :doc:`/conventions`.

    Examples
    --------
    >>> gen_error_from_overlaps(1.0, 1.0, student="relu")
    0.5
    >>> gen_error_from_overlaps(0.0, 0.3)
    1.0
    """
    gamma_, R_ = broadcast(
        gamma=real_array("gamma", gamma, low=0.0), R=real_array("R", R, low=-1.0, high=1.0)
    )
    error = error_of_overlaps(gamma_, R_, as_student(student).slope)
    return float(error) if error.ndim == 0 else error


def zeta_from_mean(zeta: ArrayLike, alpha: ArrayLike) -> float | NDArray[np.float64]:
    """Weight decay in the sum convention from that of a loss averaged over samples.

    The paper's loss (1/P) sum_j (y_j - g_j)^2 + zeta gamma^2 has the same minimum as
    sum_j (y_j - g_j)^2/2 + (alpha zeta) |W|^2/2, which is the convention of `gen_error`.

    Parameters
    ----------
    zeta : array_like
        Coefficient of gamma^2 in the averaged loss, >= 0.
    alpha : array_like
        Load P/N, positive.

    Returns
    -------
    float or ndarray
        alpha zeta, of the broadcast shape.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type, out of range, or the shapes do not broadcast.

    Notes
    -----
    Theory: :eq:`eq-zeta-mean` in :doc:`/conventions`.

    Examples
    --------
    >>> zeta_from_mean(0.125, 2.0)
    0.25
    """
    zeta_, alpha_ = broadcast(
        zeta=real_array("zeta", zeta, low=0.0),
        alpha=real_array("alpha", alpha, low=0.0, low_open=True),
    )
    converted = np.asarray(alpha_ * zeta_)
    return float(converted) if converted.ndim == 0 else converted


def optimal_zeta(
    alpha: ArrayLike, S: ArrayLike, *, student: str | LeakyReLU = "linear"
) -> float | NDArray[np.float64]:
    """Weight decay (sum convention) of least generalization error.

    Parameters
    ----------
    alpha : array_like
        Load P/N, from 1e-100 to 1e100.
    S : array_like
        Variance of the label noise, from 0 to 1e100.
    student : {"linear", "relu"} or LeakyReLU
        The student's activation.

    Returns
    -------
    float or ndarray
        Of the broadcast shape. Linear student: S exactly. Else the minimizer of the replica curve,
        found by a scan of log zeta from 1e-14 to 1e3 (1 + S) and golden section; since the curve
        is flat at its minimum, expect seven digits in zeta. 0 if no decay is best.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type, out of range, or the shapes do not broadcast.

    Warns
    -----
    ConvergenceWarning
        If no point of a scan converged; its value is NaN.

    Notes
    -----
    Theory: :eq:`eq-ridge-error` and :eq:`eq-saddle-point` in :doc:`/theory`.

    Examples
    --------
    >>> optimal_zeta(2.0, 0.25)
    0.25
    >>> print(f"{optimal_zeta(2.0, 0.25, student='relu'):.5f}")
    0.19803
    """
    a = as_student(student).slope
    alpha_, S_, _ = problem(alpha, S, 0.0)
    if a == 1.0:
        best = S_.copy()
    else:
        best = np.empty_like(S_)
        kernel = partial(
            optimal_zeta_piecewise, alpha_.reshape(-1), S_.reshape(-1), a, best.reshape(-1)
        )
        for_each_chunk(kernel, best.size, min_chunk=16)
        failed = np.isnan(best)
        warn_not_converged(np.where(failed, Status.MAX_ITERATIONS, Status.CONVERGED))
    return float(best) if best.ndim == 0 else best
