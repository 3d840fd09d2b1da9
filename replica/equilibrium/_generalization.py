"""The front door: generalization error from (alpha, S, zeta) or from (gamma, R)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, get_args, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from replica._core.arguments import LARGEST, ArgumentError, broadcast, choice, problem, real_array
from replica._core.jit import for_each_chunk
from replica._core.status import ConvergenceWarning, Status, warn_not_converged
from replica._core.student_values import error_of_overlaps
from replica.inputs import Clusters, Inputs, InputsLike, Isotropic, as_inputs
from replica.labels import NoiseLike, as_noise, check_labels
from replica.losses import SQUARE, Loss, LossLike, as_loss
from replica.students import LINEAR, LeakyReLU, Student, as_student

from ._clusters import solve_clusters
from ._convex_loss import best_decay, best_ridge_decay, serves
from ._equilibrium import Noise, Symmetry, Theory
from ._errors import mean_square_error
from ._piecewise import optimal_zeta_piecewise, piecewise_error, piecewise_errors
from ._ridge import ridge_error, ridge_errors
from ._saddle_point import WIDTHS, forgets_length, prepared
from ._solve import solve_equilibrium
from ._structured import structured_errors
from ._teacher_average import LEGENDRE, REACH
from ._weights import mode_arrays

__all__ = ["gen_error", "gen_error_from_overlaps", "optimal_zeta", "zeta_from_mean"]

_NUMBER = (float, int)  # exactly: a bool is no number here
# The slopes of the students that a call with plain numbers finds at once.
_SLOPES = {"linear": 1.0, "relu": 0.0}


@overload
def gen_error(
    alpha: float,
    S: float,
    zeta: float = 0.0,
    *,
    student: str | LeakyReLU | Student = ...,
    theory: Theory = ...,
    inputs: InputsLike = ...,
    loss: LossLike = ...,
    teacher: str | LeakyReLU | Student = ...,
    noise: NoiseLike = ...,
    symmetry: Symmetry = ...,
    levels: int = ...,
) -> float: ...
@overload
def gen_error(
    alpha: ArrayLike,
    S: ArrayLike,
    zeta: ArrayLike = 0.0,
    *,
    student: str | LeakyReLU | Student = ...,
    theory: Theory = ...,
    inputs: InputsLike = ...,
    loss: LossLike = ...,
    teacher: str | LeakyReLU | Student = ...,
    noise: NoiseLike = ...,
    symmetry: Symmetry = ...,
    levels: int = ...,
) -> float | NDArray[np.float64]: ...
def gen_error(
    alpha: ArrayLike,
    S: ArrayLike,
    zeta: ArrayLike = 0.0,
    *,
    student: str | LeakyReLU | Student = "linear",
    theory: Theory = "replica",
    inputs: InputsLike = None,
    loss: LossLike = "square",
    teacher: str | LeakyReLU | Student = "linear",
    noise: NoiseLike = "output",
    symmetry: Symmetry = "rs",
    levels: int = 2,
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
        a temperature see `solve_equilibrium`, for a student trained with batch
        norm `bn_gen_error`.
    theory : {"replica", "published"}
        The replica-symmetric solution of the true loss (exact for the linear student), or the
        closed forms of the paper (see `solve_equilibrium`).
    inputs : Inputs or str, optional
        `Isotropic()` (the default), `Spectrum`, `PowerLaw` or `RandomFeatures`; see
        `solve_equilibrium`. `Clusters` have labels of their own: S = 0 and no teacher, a linear
        student, and the error is the error rate for every loss; see `solve_clusters`.
    loss, teacher, noise
        What training minimizes and how labels are made; see `solve_equilibrium`.
    symmetry, levels
        Whether replica symmetry is broken, and how often; see `solve_equilibrium`.

    Returns
    -------
    float or ndarray
        E[(phi(z) - g(u))^2] against the noise-free teacher for a loss of residuals, the error rate
        P(sign u != sign z) for a loss of margins; a float if all arguments are scalars, else an
        array of the broadcast shape. It is inf where the noise is amplified
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

    Theory: :eq:`eq-ridge-error`, :eq:`eq-saddle-point` and :eq:`eq-published` in :doc:`/theory`.

    Examples
    --------
    >>> gen_error(2.0, 0.25)
    0.25
    >>> gen_error([0.5, 1.0, 2.0], 0.25, 1 / 64, student="relu").round(6)
    array([0.891687, 0.821235, 0.841794])
    >>> round(gen_error(2.0, 0.25, 0.1, loss="huber:0.5"), 6)
    0.195704
    >>> round(gen_error(2.0, 0.0, 0.1, loss="logistic", teacher="sign"), 6)
    0.179662
    """
    if symmetry != "rs":
        error = solve_equilibrium(
            alpha, S, zeta, student=student, theory=theory, loss=loss, teacher=teacher,
            noise=noise, inputs=inputs, symmetry=symmetry, levels=levels,
        ).gen_error  # fmt: skip
        return float(error) if error.ndim == 0 else error
    usual = loss == "square" and teacher == "linear" and noise == "output"
    if usual and theory == "replica" and inputs is None:
        number = _of_plain_numbers(alpha, S, zeta, student)
        if number == number:
            return number
    choice("theory", theory, get_args(Theory))
    activation = as_student(student)
    where = as_inputs(inputs)
    if isinstance(where, Clusters):
        _check_clusters(S, activation, teacher, noise, theory)
        rate = solve_clusters(alpha, zeta, inputs=where, loss=loss).error_rate
        return float(rate) if rate.ndim == 0 else rate
    usual = usual or (
        as_loss(loss) == SQUARE
        and as_student(teacher, name="teacher") == LINEAR
        and as_noise(noise) in get_args(Noise)
    )
    straight = theory == "replica" or (activation == LINEAR and isinstance(where, Isotropic))
    if usual and straight and isinstance(activation, LeakyReLU):
        problems = problem(alpha, S, zeta)
        error = np.empty_like(problems[0])
        flat = (array.reshape(-1) for array in (*problems, error))
        if not isinstance(where, Isotropic):
            modes = mode_arrays(where)
            for_each_chunk(
                partial(structured_errors, modes, activation.slope, *flat), error.size, min_chunk=16
            )
            failed = np.isnan(error)
            if failed.any():
                warn_not_converged(_status(failed))
        elif activation == LINEAR:
            for_each_chunk(partial(ridge_errors, *flat), error.size)
        else:
            for_each_chunk(partial(piecewise_errors, activation.slope, *flat), error.size)
            failed = np.isnan(error)
            if failed.any():
                warn_not_converged(_status(failed))
    else:
        error = solve_equilibrium(
            alpha, S, zeta, student=activation, theory=theory, loss=loss, teacher=teacher,
            noise=noise, inputs=where,
        ).gen_error  # fmt: skip
    return float(error) if error.ndim == 0 else error


def _check_clusters(
    S: ArrayLike, student: LeakyReLU | Student, teacher: Any, noise: Any, theory: str = "replica"
) -> None:
    """Refuse what two clusters do not have."""
    if student != LINEAR or theory != "replica":
        raise ArgumentError(
            f"inputs=Clusters serves student 'linear' and theory 'replica', got {student.name!r} "
            f"and {theory!r}"
        )
    if as_student(teacher, name="teacher") != LINEAR or noise != "output":
        raise ArgumentError(
            f"inputs=Clusters have labels of their own: no teacher and no noise, got {teacher!r} "
            f"and {noise!r}"
        )
    if real_array("S", S, low=0.0).any():
        raise ArgumentError("S must be 0 with inputs=Clusters, which have labels of their own")


def _of_plain_numbers(alpha: Any, S: Any, zeta: Any, student: Any) -> float:
    """The error of Python numbers in range and a student of known slope, at the price of a call.

    NaN for anything else, and where the solver fails: the way through arrays has the words for it.
    """
    if type(alpha) in _NUMBER and type(S) in _NUMBER and type(zeta) in _NUMBER:
        if type(student) is str:
            slope = _SLOPES.get(student)
        else:
            slope = student.slope if type(student) is LeakyReLU else None
        if (
            slope is not None
            and 1.0 / LARGEST <= alpha <= LARGEST
            and 0.0 <= S <= LARGEST
            and 0.0 <= zeta <= LARGEST
        ):
            numbers = float(alpha), float(S), float(zeta)
            return ridge_error(*numbers) if slope == 1.0 else piecewise_error(*numbers, slope)
    return math.nan


def _status(failed: NDArray[np.bool_]) -> NDArray[np.int8]:
    return np.where(failed, Status.MAX_ITERATIONS, Status.CONVERGED).astype(np.int8)


def gen_error_from_overlaps(
    gamma: ArrayLike, R: ArrayLike, *, student: str | LeakyReLU | Student = "linear"
) -> float | NDArray[np.float64]:
    """Generalization error of any student with length gamma and overlap R, trained or not.

    Parameters
    ----------
    gamma : array_like
        Length of the student's effective weights, sqrt(|W|^2/N), >= 0.
    R : array_like
        Overlap with the teacher, cosine of the angle between the two, in [-1, 1].
    student : str, LeakyReLU or Student
        The student's activation; the teacher is linear.

    Returns
    -------
    float or ndarray
        E[(z - g(u))^2]; for slope a it is 1 + (1 + a^2) gamma^2/2 - (1 + a) gamma R, eq. (18) of
        the paper for a = 1, written as a sum of squares, so that nothing cancels near the minimum.
        For any other student by quadrature, to a relative 1e-10; NaN for gamma above 1200, where
        the table of its activation ends.

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
    activation = as_student(student)
    if isinstance(activation, LeakyReLU):
        error = error_of_overlaps(gamma_, R_, activation.slope)
    else:
        pairs = zip(gamma_.ravel().tolist(), R_.ravel().tolist(), strict=True)
        error = np.array([_error_of_overlaps(activation, *pair) for pair in pairs])
        error = error.reshape(gamma_.shape)
    return float(error) if error.ndim == 0 else error


def _error_of_overlaps(student: Student, gamma: float, R: float) -> float:
    """E[(z - g(u))^2] of a student without a closed form."""
    if gamma == 0.0:
        return 1.0 + float(student.values(0.0)) ** 2
    width = next((w for w in WIDTHS if w > REACH * gamma), WIDTHS[-1])
    rest = gamma * gamma * (1.0 - R) * (1.0 + R)
    truth = prepared(LINEAR, WIDTHS[0])
    return mean_square_error(prepared(student, width), truth, gamma * R, rest, 0.0, LEGENDRE[-1])


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
    alpha: ArrayLike,
    S: ArrayLike,
    *,
    student: str | LeakyReLU | Student = "linear",
    inputs: InputsLike = None,
    loss: LossLike = "square",
    teacher: str | LeakyReLU | Student = "linear",
    noise: NoiseLike = "output",
) -> float | NDArray[np.float64]:
    """Weight decay (sum convention) of least generalization error.

    Parameters
    ----------
    alpha : array_like
        Load P/N, from 1e-100 to 1e100.
    S : array_like
        Variance of the label noise, from 0 to 1e100.
    student : str, LeakyReLU or Student
        The student's activation.
    inputs : Inputs or str, optional
        See `gen_error`. On others than isotropic ones a scan of zeta from 1e-8 to 1e3 (1 + S/rho)
        times the mean variance, four points a decade, and Brent's method; six digits in zeta.
    loss, teacher, noise
        What training minimizes and how labels are made; see `solve_equilibrium`.

    Returns
    -------
    float or ndarray
        Of the broadcast shape. Linear student and teacher, square loss: S exactly; any other
        teacher with noise added to its output: E[y^2]/E[y z]^2 - 1, pi/2 - 1 for clean signs.
        Linear student and another loss, or signs: where the derivative vanishes, to about nine
        digits; inf if the limit of large decay is the best, for a loss of margins. Else the
        minimizer of the replica curve,
        found by a scan of log zeta from 1e-14 to 1e3 (1 + S) and golden section; since the curve
        is flat at its minimum, expect seven digits in zeta. 0 if no decay is best. Students without
        a closed form: a scan from 1e-4 to 1e2 (1 + S), four points a decade, and Brent's method,
        three digits in zeta and about a second an element; a minimum at an end of the scan is that
        end.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type, out of range, or the shapes do not broadcast; also if
        the student's output does not depend on the length of its weights, as that of "sign": any
        decay would shrink them for ever, and there is no minimum to choose from.

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
    >>> print(f"{optimal_zeta(2.0, 0.0, teacher='sign'):.12f}")  # pi/2 - 1
    0.570796326795
    """
    activation = as_student(student)
    where = as_inputs(inputs)
    alpha_, S_, _ = problem(alpha, S, 0.0)
    if isinstance(where, Clusters):
        _check_clusters(S_, activation, teacher, noise)
        best = np.empty_like(alpha_)
        for index in np.ndindex(best.shape):
            best[index] = _optimal_zeta_of_clusters(float(alpha_[index]), where, as_loss(loss))
        warn_not_converged(_status(np.isnan(best)))
        return float(best) if best.ndim == 0 else best
    cost, how = as_loss(loss), as_noise(noise)
    whom = as_student(teacher, name="teacher")
    check_labels(cost, whom, how, S_)
    isotropic = isinstance(where, Isotropic)
    ridge = activation == LINEAR and cost == SQUARE and how == "output"
    if ridge and whom != LINEAR and isotropic:
        best = np.array([best_ridge_decay(value, whom) for value in S_.ravel().tolist()])
        return float(best[0]) if S_.ndim == 0 else best.reshape(S_.shape)
    if serves(cost, activation, whom, how, S_):
        best = np.empty_like(S_)
        for index in np.ndindex(best.shape):
            best[index] = best_decay(
                float(alpha_[index]), float(S_[index]), loss=cost, teacher=whom, noise=how,
                inputs=where,
            )  # fmt: skip
        warn_not_converged(_status(np.isnan(best)))
        return float(best) if best.ndim == 0 else best
    if activation == whom == LINEAR and isotropic:
        best = S_.copy()
    else:
        best = np.empty_like(S_)
        if isinstance(activation, LeakyReLU) and whom == LINEAR and isotropic:
            flat = alpha_.reshape(-1), S_.reshape(-1), activation.slope, best.reshape(-1)
            for_each_chunk(partial(optimal_zeta_piecewise, *flat), best.size, min_chunk=16)
        else:
            if forgets_length(activation):
                raise ArgumentError(
                    "student must have an output that depends on the length of its weights: with "
                    f"decay there is no minimum for {activation.name!r}"
                )
            for index in np.ndindex(best.shape):
                best[index] = _optimal_zeta(
                    float(alpha_[index]), float(S_[index]), activation, whom, how, where
                )
        warn_not_converged(_status(np.isnan(best)))
    return float(best) if best.ndim == 0 else best


# The range of decays of a first look, and how many of them: students without a closed form, and the
# others on inputs that are not isotropic.
_LEAST_ZETA, _MOST_ZETA, _PER_DECADE = 1e-4, 1e2, 4
_LEAST_QUICK, _MOST_QUICK = 1e-8, 1e3
_PRECISION, _PRECISION_QUICK = 1e-4, 1e-8


def _optimal_zeta(
    alpha: float,
    S: float,
    student: LeakyReLU | Student,
    teacher: LeakyReLU | Student,
    noise: Any,
    inputs: Inputs,
) -> float:
    """The decay of least error; NaN if no point of the scan converged."""

    def error(zeta: Any) -> NDArray[np.float64]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the caller gets one for all
            found = gen_error(
                alpha, S, zeta, student=student, teacher=teacher, noise=noise, inputs=inputs
            )
        return np.where(np.isnan(found), np.inf, found)

    modes = inputs.modes
    quick = isinstance(student, LeakyReLU) and teacher == LINEAR
    unit = float(modes.weights @ modes.variances)
    least, most = (_LEAST_QUICK, _MOST_QUICK) if quick else (_LEAST_ZETA, _MOST_ZETA)
    limits = least * unit, most * unit * (1.0 + S / modes.rho)
    return _least_error(error, *limits, _PRECISION_QUICK if quick else _PRECISION, quick)


def _optimal_zeta_of_clusters(alpha: float, inputs: Clusters, loss: Loss) -> float:
    """The decay of least error rate; inf if the limit of large decay is the best."""

    def error(zeta: Any) -> NDArray[np.float64]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            found = solve_clusters(alpha, zeta, inputs=inputs, loss=loss).error_rate
        return np.where(np.isnan(found), np.inf, found)

    most = _MOST_QUICK * inputs.variance
    best = _least_error(error, _LEAST_ZETA * inputs.variance, most, _PRECISION, True)
    large = error(np.array([best, 1e3 * most])) if best > 0.5 * most else np.zeros(2)
    return math.inf if best > 0.5 * most and large[1] <= large[0] else best


def _least_error(
    error: Callable[[Any], NDArray[np.float64]],
    low: float,
    high: float,
    precision: float,
    with_zero: bool,
) -> float:
    """The minimum of a function of zeta between two decays, or 0 if that may be and is better."""
    from scipy.optimize import minimize_scalar

    decades = math.log10(high / low)
    grid = np.linspace(math.log(low), math.log(high), 1 + round(decades * _PER_DECADE))
    errors = error(np.exp(grid))
    k = int(np.argmin(errors))
    if not np.isfinite(errors[k]):
        return math.nan
    if k in (0, grid.size - 1):
        return 0.0 if with_zero and k == 0 and error(0.0) <= errors[0] else float(np.exp(grid[k]))
    found = minimize_scalar(
        lambda x: float(error(math.exp(x))),
        bounds=(grid[k - 1], grid[k + 1]),
        method="bounded",
        options={"xatol": precision},
    )
    return float(np.exp(found.x if found.fun <= errors[k] else grid[k]))
