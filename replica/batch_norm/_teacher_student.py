"""Batch normalization in the teacher-student problem, trained to convergence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from replica._core.arguments import ArgumentError, broadcast, choice, integer, real_array
from replica._core.results import Result
from replica._core.status import Status, warn_not_converged
from replica._core.student_values import error_of_overlaps
from replica.equilibrium import solve_equilibrium
from replica.students import LeakyReLU, StudentLike, as_piecewise

from ._finite_batch import SMALLEST_BATCH, solve_finite_batch
from ._gamma_decay import batch_sizes
from ._prior import chi_excess

__all__ = [
    "BatchNormEquilibrium",
    "OutputPenaltyEquilibrium",
    "bn_equilibrium",
    "bn_gen_error",
    "output_penalty_strength",
    "shrinkage",
    "solve_output_penalty",
]


BatchTheory = Literal["expansion", "finite-batch"]
Statistics = Literal["training", "population"]


def shrinkage(batch_size: ArrayLike, *, mean_subtracted: bool = False) -> Any:
    """Factor c_M = E[sigma_B]/sigma_P by which batch normalization shrinks the trained student.

    Parameters
    ----------
    batch_size : int or array_like of int
        M >= 2.
    mean_subtracted : bool
        Whether mu_B is subtracted. Not so in the teacher-student problem, where the shift is
        frozen at 0.

    Returns
    -------
    float or ndarray
        sqrt(2/M) Gamma((n + 1)/2)/Gamma(n/2), n = M or M - 1; about 1 - 1/(4 M) or 1 - 3/(4 M).

    Raises
    ------
    TypeError, ValueError
        For M < 2.

    Notes
    -----
    Theory: :eq:`eq-shrinkage` in :doc:`/batch_norm`.

    Within a batch the normalized values have mean square exactly 1, so the noise acts on the loss
    of the linear student only through the mean of y h/sigma_B, which is linear in 1/sigma_B.

    Examples
    --------
    >>> [round(shrinkage(M), 4) for M in (4, 8, 32)]
    [0.94, 0.9693, 0.9922]
    """
    size = batch_sizes(batch_size)
    factor = 1.0 + chi_excess(size, size - bool(mean_subtracted), 1)
    return float(factor) if size.ndim == 0 else factor


def output_penalty_strength(batch_size: ArrayLike) -> Any:
    """Coefficient c of the penalty (c/2) sum_j g(W.x_j)^2 that shrinks as batch norm does.

    Parameters
    ----------
    batch_size : int or array_like of int
        M >= 2.

    Returns
    -------
    float or ndarray
        c = 1/c_M - 1, about 1/(4 M), with c_M of `shrinkage`.

    Raises
    ------
    TypeError, ValueError
        For M < 2.

    Notes
    -----
    Theory: :eq:`eq-output-penalty` in :doc:`/batch_norm`.

    Examples
    --------
    >>> round(output_penalty_strength(32) * 32, 3)
    0.251
    """
    size = batch_sizes(batch_size)
    excess = chi_excess(size, size, 1)
    strength = -excess / (1.0 + excess)
    return float(strength) if size.ndim == 0 else strength


@dataclass(frozen=True, repr=False)
class BatchNormEquilibrium(Result):
    """Student trained with batch normalization to convergence; see `bn_equilibrium`.

    Attributes
    ----------
    student : LeakyReLU
    theory : {"expansion", "finite-batch"}
    statistics : {"training", "population"}
    batch_size : int
    alpha, S : ndarray
        The problem.
    gamma, R : ndarray
        Length and teacher overlap of the effective weights gamma w/sigma used at test time.
    gen_error : ndarray
        Generalization error against the noise-free teacher.
    shrinkage : float
        c_M.
    angle : ndarray
        Angle to the unregularized solution on the same data, in radians, to order 1/M (linear
        student) or at any M; 0 for the other students, whose theory neglects it.
    status : ndarray of int8
        `Status` of each element.
    """

    _problem = ("student", "theory", "statistics", "batch_size", "alpha", "S")

    student: LeakyReLU
    theory: BatchTheory
    statistics: Statistics
    batch_size: int
    alpha: NDArray[np.float64]
    S: NDArray[np.float64]
    gamma: NDArray[np.float64]
    R: NDArray[np.float64]
    gen_error: NDArray[np.float64]
    shrinkage: float
    angle: NDArray[np.float64]
    status: NDArray[np.int8]

    def _curve_name(self) -> str:
        return f"{self.student.name}, batch norm, M = {self.batch_size}"


def bn_equilibrium(
    alpha: ArrayLike,
    S: ArrayLike,
    *,
    batch_size: int,
    student: StudentLike = "linear",
    statistics: Statistics = "training",
    theory: BatchTheory = "expansion",
) -> BatchNormEquilibrium:
    """Order parameters of a student trained with batch normalization until nothing changes.

    Parameters
    ----------
    alpha, S : array_like
        Load (> 0) and noise variance (>= 0), broadcast together.
    batch_size : int
        M >= 2.
    student : {"linear", "relu"} or LeakyReLU
    statistics : {"training", "population"}
        Which sigma normalizes at test time: the root mean square of w.x over the training set (what
        a running average of the variance estimates) or over the population, |w|/sqrt(N).
    theory : {"expansion", "finite-batch"}
        To order 1/M^2, in closed form, or at any M >= 4, in about a second a point above
        alpha = 1; the latter for the linear student only.

    Returns
    -------
    BatchNormEquilibrium
        Arrays of the broadcast shape. gamma and gen_error are infinite at the interpolation
        threshold alpha = 1 of the linear student with S > 0 and training-set statistics.

    Raises
    ------
    TypeError, ValueError
        For parameters out of range, and for "finite-batch" with another student or M < 4.

    Warns
    -----
    ConvergenceWarning
        If elements of the finite-batch theory did not converge; they are NaN.

    Notes
    -----
    Theory: :eq:`eq-batch-loss`, :eq:`eq-bn-angle`, :eq:`eq-bn-error`, at any M
    :eq:`eq-bn-sample-loss`
    and :eq:`eq-bn-replica` in :doc:`/batch_norm`.

    Linear student. The expected loss over batches is mean(y^2)/2 - gamma E[mean_B(y h)/sigma_B] +
    gamma^2/2, because mean_B(h^2)/sigma_B^2 = 1. At the least-squares direction h and the residual
    e = y - h are independent Gaussians, so gamma = c_M sigma_P: W = c_M W_LS. For alpha < 1 (from
    a start in the row space) and for S = 0 the residual vanishes, the Cauchy-Schwarz bound
    mean_B(y h)/sigma_B <= rms_B(y) is met in every batch, and this is exact for every M. For
    alpha > 1 the loss of a sample depends on how much the sample itself moves sigma_B; the force
    -(3/2M) e_j (h_j^2/sigma_P^2 - 1) turns W away from W_LS by

        tan(angle)^2 = (9/2) S (alpha - 1) / (alpha (alpha - 1 + S) M^2),

    in a direction orthogonal to teacher and W_LS. gen_error is then right to order 1/M^2, for
    M (alpha - 1) >> 1.

    Finite batch. The mean correlation in batches is a functional of the law of (W.x, y) on the
    training set; its derivative is a loss of single samples that depends on its own minimum.
    Solved by replica-symmetric M-estimation at every M, without expansion; batches are
    independent draws. That loss is not convex. At small M the best output jumps for some labels
    (26 % of them at alpha = 2, M = 4, 0.8 % at M = 8, none at M = 32), and replica symmetry is
    an approximation.
    Numerical accuracy 1e-8 for M >= 6 and 1e-5 at M = 4.

    Leaky and ReLU students. c_M times the zeta = 0 solution, i.e. the penalty of
    `solve_output_penalty`. It assumes that the hidden values of the training set are Gaussian,
    which they become as alpha grows. Near and below the interpolation threshold it fails: the
    unregularized minima form a continuum, in which batch normalization drifts towards hidden
    values of low kurtosis instead of the solution of least norm.

    Examples
    --------
    >>> result = bn_equilibrium(2.0, 0.25, batch_size=32)
    >>> print(f"{result.gamma:.4f} {result.R:.4f} {result.gen_error:.4f}")
    1.1096 0.8942 0.2467
    >>> result = bn_equilibrium(2.0, 0.25, batch_size=32, theory="finite-batch")
    >>> print(f"{result.gamma:.4f} {result.R:.4f} {result.gen_error:.4f}")
    1.1096 0.8942 0.2467
    """
    student = as_piecewise(student, what="bn_equilibrium")
    theory = choice("theory", theory, get_args(BatchTheory))
    c = shrinkage(integer("batch_size", batch_size, low=2))
    if theory == "finite-batch" and (student.slope != 1.0 or batch_size < SMALLEST_BATCH):
        raise ArgumentError(
            'theory="finite-batch" needs the linear student and batch_size >= '
            f"{SMALLEST_BATCH}, got {student.name} and {batch_size!r}"
        )
    statistics = choice("statistics", statistics, get_args(Statistics))
    alpha, S = broadcast(
        alpha=real_array("alpha", alpha, low=0.0, low_open=True),
        S=real_array("S", S, low=0.0),
    )
    length, R, output = _ridgeless(alpha, S, student)
    tangent, gain = np.zeros(alpha.shape), np.zeros(alpha.shape)
    turns = (alpha > 1) & (S > 0) & (student.slope == 1.0)
    load, noise = alpha[turns], S[turns]
    tangent[turns] = np.sqrt(4.5 * noise * (load - 1) / (load * (load - 1 + noise))) / batch_size
    # What the turn adds to the mean square hidden value, relatively and halved.
    gain[turns] = 2.25 * noise * (load - 1) / (load * (load + noise) * batch_size**2)
    turned = np.hypot(1, tangent)
    if statistics == "training":
        gamma = c * length * turned
    else:
        gamma = c * np.sqrt(output) * (1 + gain)  # the loss gains by the turn, and gamma with it
    gamma, R, angle = np.array(gamma), np.array(R / turned), np.array(np.arctan(tangent))
    status = np.where(np.isinf(gamma), Status.DIVERGENT, Status.CONVERGED).astype(np.int8)
    if theory == "finite-batch" and np.any(turns):
        for index in np.argwhere(turns):
            i = tuple(index)
            found = solve_finite_batch(float(alpha[i]), float(S[i]), int(batch_size))
            R[i], angle[i], status[i] = found.R, found.angle, found.status
            training = statistics == "training"
            gamma[i] = found.gamma_training if training else found.gamma_population
        warn_not_converged(status)
    return BatchNormEquilibrium(
        alpha=alpha,
        S=S,
        batch_size=int(batch_size),
        student=student,
        statistics=statistics,
        gamma=gamma,
        R=R,
        gen_error=error_of_overlaps(gamma, R, student.slope),
        shrinkage=c,
        angle=angle,
        theory=theory,
        status=status,
    )


def bn_gen_error(
    alpha: ArrayLike,
    S: ArrayLike,
    *,
    batch_size: int,
    student: StudentLike = "linear",
    statistics: Statistics = "training",
    theory: BatchTheory = "expansion",
) -> Any:
    """Generalization error of batch normalization trained to convergence.

    Parameters
    ----------
    alpha, S, batch_size, student, statistics, theory
        As for `bn_equilibrium`.

    Returns
    -------
    float or ndarray
        Of the broadcast shape of `alpha` and `S`.

    Raises
    ------
    TypeError, ValueError
        For parameters out of range.

    Notes
    -----
    Theory: :eq:`eq-bn-error`, at any M :eq:`eq-bn-replica` in :doc:`/batch_norm`.

    Examples
    --------
    >>> round(bn_gen_error(2.0, 0.25, batch_size=32), 4)
    0.2467
    """
    error = bn_equilibrium(
        alpha, S, batch_size=batch_size, student=student, statistics=statistics, theory=theory
    ).gen_error
    return float(error) if error.ndim == 0 else error


class _Ridgeless(NamedTuple):
    gamma: NDArray[np.float64]
    R: NDArray[np.float64]
    output: NDArray[np.float64]  # mean square hidden value on the training set


def _ridgeless(
    alpha: NDArray[np.float64], S: NDArray[np.float64], student: LeakyReLU
) -> _Ridgeless:
    """The student at zeta = 0, trained without batch normalization."""
    solution = solve_equilibrium(alpha, S, 0.0, student=student)
    gamma, R, a = solution.gamma, solution.R, student.slope
    with np.errstate(invalid="ignore"):
        # From the saddle-point equations: E[u^2] = q + (2 q zeta chi - q + m^2)/alpha.
        output = gamma**2 * (alpha - 1 + R**2) / alpha
        if a > 0:  # interpolation: u = g^-1(y)
            fitted = 0.5 * (1 + S) * (1 + 1 / a**2)
        else:  # u = y for y > 0, and min(omega, 0) for y < 0
            r = np.clip(R / np.sqrt(1 + S), -1, 1)
            silent = np.pi / 2 + np.arcsin(r) + r * np.sqrt(1 - r * r)
            fitted = 0.5 * (1 + S) + gamma**2 * silent / (2 * np.pi)
    return _Ridgeless(gamma, R, np.where(np.isinf(solution.chi), fitted, output))


@dataclass(frozen=True, repr=False)
class OutputPenaltyEquilibrium(Result):
    """Saddle point with the penalty on the training-set output; see `solve_output_penalty`.

    Attributes
    ----------
    student : LeakyReLU
    alpha, S, zeta, penalty : ndarray
        The problem.
    gamma, R, chi : ndarray
        Order parameters.
    gen_error, energy : ndarray
        Generalization error and ground-state energy per input dimension.
    status : ndarray of int8
        `Status` of the underlying solution.
    """

    _problem = ("student", "alpha", "S", "zeta", "penalty")

    student: LeakyReLU
    alpha: NDArray[np.float64]
    S: NDArray[np.float64]
    zeta: NDArray[np.float64]
    penalty: NDArray[np.float64]
    gamma: NDArray[np.float64]
    R: NDArray[np.float64]
    chi: NDArray[np.float64]
    gen_error: NDArray[np.float64]
    energy: NDArray[np.float64]
    status: NDArray[np.int8]


def solve_output_penalty(
    alpha: ArrayLike,
    S: ArrayLike,
    zeta: ArrayLike,
    penalty: ArrayLike,
    *,
    student: StudentLike = "linear",
) -> OutputPenaltyEquilibrium:
    """Saddle point of (1/2) sum_j (y_j - g_j)^2 + (c/2) sum_j g_j^2 + (zeta/2) |W|^2.

    Parameters
    ----------
    alpha, S, zeta : array_like
        Load, noise variance and weight penalty, as for `solve_equilibrium`.
    penalty : array_like
        c >= 0, the penalty on the outputs g_j = g(W.x_j) of the training set; see
        `output_penalty_strength`.
    student : {"linear", "relu"} or LeakyReLU

    Returns
    -------
    OutputPenaltyEquilibrium
        Arrays of the broadcast shape of the four parameters.

    Raises
    ------
    TypeError, ValueError
        For parameters out of range.

    Notes
    -----
    Theory: :eq:`eq-output-penalty` in :doc:`/batch_norm`.

    Completing the square, (y - g)^2 + c g^2 = ((1 + c) g - y)^2/(1 + c) + c y^2/(1 + c). Since g is
    homogeneous, V = (1 + c) W turns the energy into

        [ (1/2) sum_j (y_j - g(V.x_j))^2 + (zeta/(1 + c)) |V|^2/2 ]/(1 + c) + const,

    the standard problem at zeta/(1 + c): no new saddle point, and at zeta = 0 nothing but the
    factor 1/(1 + c) on the weights. gamma = gamma_V/(1 + c), R = R_V, chi = chi_V/(1 + c).

    Examples
    --------
    >>> result = solve_output_penalty(2.0, 0.25, 0.1, 0.0)
    >>> print(f"{result.gen_error:.6f}")
    0.192665
    """
    student = as_piecewise(student, what="solve_output_penalty")
    alpha, S, zeta, penalty = broadcast(
        alpha=real_array("alpha", alpha, low=0.0, low_open=True),
        S=real_array("S", S, low=0.0),
        zeta=real_array("zeta", zeta, low=0.0),
        penalty=real_array("penalty", penalty, low=0.0),
    )
    scale = 1 + penalty
    plain = solve_equilibrium(alpha, S, zeta / scale, student=student)
    gamma, R = plain.gamma / scale, plain.R
    return OutputPenaltyEquilibrium(
        alpha=alpha,
        S=S,
        zeta=zeta,
        penalty=penalty,
        student=student,
        gamma=gamma,
        R=R,
        chi=plain.chi / scale,
        gen_error=error_of_overlaps(gamma, R, student.slope),
        energy=(plain.energy + 0.5 * penalty * alpha * (1 + S)) / scale,
        status=plain.status,
    )
