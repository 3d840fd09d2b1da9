"""Bayes-optimal learning: what no algorithm can do better, given the law of the labels.

The posterior mean of the weights has one order parameter, q = m, and one equation,

    q = q_hat / (1 + q_hat),   q_hat = alpha I(q),

with the Fisher information I(q) of one label (`_label_information`). I increases with q, so that
all solutions can be found: see `_solutions`.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import expit

from replica._core.arguments import LARGEST, ArgumentError, broadcast, real_array
from replica._core.jit import for_each_chunk, jit
from replica._core.results import Result
from replica._core.status import Status, warn_not_converged
from replica.labels import Flip, NoiseLike, NoiseWord, as_noise
from replica.students import (
    ERF,
    LINEAR,
    SIGN,
    SOFTPLUS,
    TANH,
    LeakyReLU,
    Student,
    StudentLike,
    as_student,
)

from ._label_information import (
    Information,
    leaky_information,
    output_information,
    output_variance,
    preimage_information,
    sign_information,
    sign_overlap,
    smooth_fraction,
    turning_points,
)
from ._proximal import PreparedActivation, prepare
from ._ridge import Columns as Ridge
from ._ridge import solve_ridge
from ._teacher_average import LEGENDRE

__all__ = ["BayesOptimal", "bayes_optimal", "solve_sign"]

_CONVERGED = int(Status.CONVERGED)
_MAX_ITERATIONS = int(Status.MAX_ITERATIONS)

# Steps of a root-finder that needs about ten.
_MOST_STEPS = 200
# Unknowns are x = ln(q/(1 - q)); a relative accuracy at which the rounding of I begins to show.
_SETTLED = 4e-16
# Overlaps below this count as 0 where one label says nothing of the sign of the field.
_LEAST = math.log(1e-8)
_LN_2 = math.log(2.0)
# Posterior variances down to 1e-20 are resolved beside kinks away from 0.
_MOST = 46.0
# I(0) so far below I(1/2) is the rounding of 0.
_NOTHING = 1e-20
# Between two of these lies one solution or none; where q or 1 - q is small all changes slowly.
_GRID = (-12.0, -9.0, *np.arange(-6.0, 10.0, 0.5).tolist(), 10.0, 12.0, 16.0, 22.0, 32.0)
# Rules of 8, 12, 18 and 26 nodes, tried in turn until two agree to so much, or as well as they can.
_RULES = LEGENDRE[1:]
_AGREED = 1e-12
_TOO_FAR_APART = 1e-5
# Angles below this have series that are exact to rounding.
_SMALL_ANGLE = 1e-2
# I of a constant, by sums that cancel.
_ROUNDING = 1e-28
# Built-in activations that are invertible: the label is as good as the field that they take.
_INVERTIBLE = (ERF, TANH, SOFTPLUS)


@dataclass(frozen=True, repr=False)
class BayesOptimal(Result):
    """Errors and overlap of the Bayes-optimal estimator; see `bayes_optimal`.

    All arrays have the broadcast shape of (alpha, S). Every value is NaN where `status` is not
    CONVERGED, and `error_rate` and `gibbs_error_rate` for teachers that are no signs.

    Attributes
    ----------
    teacher : LeakyReLU or Student
    noise : {"output", "input", "logistic"} or Flip
    alpha, S : ndarray
        Load and noise variance.
    gamma, R : ndarray
        The posterior mean of the weights has the length gamma, sqrt(|W|^2/N), and the cosine R
        with the teacher: equal, since gamma^2 = gamma R (Nishimori). For an even teacher, up to the
        common sign of the weights.
    q : ndarray
        gamma^2, the overlap of two samples of the posterior with each other and with the teacher.
    gen_error : ndarray
        E[(phi(z) - E[phi(z) | samples])^2], the least mean square error of any estimator of the
        noise-free output.
    gibbs_gen_error : ndarray
        The same for the output of one sample of the posterior: twice as much.
    error_rate : ndarray
        Sign teachers: how often the best guess of the noise-free sign is wrong, arccos(sqrt(q))/pi.
    gibbs_error_rate : ndarray
        The same for one sample of the posterior, arccos(q)/pi.
    weak_recovery : ndarray
        Load up to which q = 0 is a stable solution: 0 unless a single label says nothing about the
        sign of the field (even teachers).
    n_solutions : ndarray of int
        Solutions of the saddle-point equation, unstable ones included. More than one: the returned
        one has the least free energy, and practical algorithms may be held up by another.
    residual : ndarray
        The identity of Nishimori, |m_hat/q_hat - 1|, with m_hat from an integral or a formula of
        its own; or what is left of the saddle-point equation, if that is larger.
    quadrature_error : ndarray
        Relative difference of I(q) by the last two rules, where that is an integral in two
        dimensions or more; 0 for closed forms and one-dimensional integrals.
    status : ndarray of int8
        A `Status` per element; `messages` says it in words.
    """

    teacher: LeakyReLU | Student
    noise: NoiseWord | Flip
    alpha: NDArray[np.float64]
    S: NDArray[np.float64]
    gamma: NDArray[np.float64]
    R: NDArray[np.float64]
    q: NDArray[np.float64]
    gen_error: NDArray[np.float64]
    gibbs_gen_error: NDArray[np.float64]
    error_rate: NDArray[np.float64]
    gibbs_error_rate: NDArray[np.float64]
    weak_recovery: NDArray[np.float64]
    n_solutions: NDArray[np.int64]
    residual: NDArray[np.float64]
    quadrature_error: NDArray[np.float64]
    status: NDArray[np.int8]

    _problem = ("teacher", "noise", "alpha", "S")

    def _curve_name(self) -> str:
        return f"Bayes-optimal, {self.teacher.name}"


def bayes_optimal(
    alpha: ArrayLike,
    S: ArrayLike = 0.0,
    *,
    teacher: StudentLike = "linear",
    noise: NoiseLike = "output",
) -> BayesOptimal:
    """Solve for the Bayes-optimal error: the least that any estimator can reach from the samples.

    The prior of the teacher is uniform on |w*|^2 = N, and the law of the labels is known.

    Parameters
    ----------
    alpha : array_like
        Load P/N, from 1e-100 to 1e100.
    S : array_like
        Variance of the noise s, from 0 to 1e100. Broadcast with `alpha`.
    teacher : str, LeakyReLU, Student or callable
        The teacher's activation phi; see `as_student`.
    noise : {"output", "input", "logistic"} or Flip
        "output": labels y = phi(z) + s. "input": y = phi(z + s). "logistic" and `Flip`, for the
        teacher "sign": s of the logistic law of variance S, and signs that are turned with a
        probability.

    Returns
    -------
    BayesOptimal
        Frozen, with arrays of the broadcast shape.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type, out of range, or the shapes do not broadcast; if the
        noise needs a teacher "sign" and does not have it.

    Warns
    -----
    ConvergenceWarning
        If an element did not converge; its values are NaN and `status` says why.

    See Also
    --------
    perceptron_rules : The rules of learning from noise-free signs, beside this bound.
    solve_equilibrium : With beta = 1/S and zeta = S the Gibbs measure is this posterior.

    Notes
    -----
    Linear teachers, and what is as good as one (an invertible phi of z + s): closed form. Signs:
    relative accuracy 1e-12 (1 - q and errors included), below a millisecond, a few with logistic
    noise. (Leaky) ReLU with output noise: tens of milliseconds; any other phi with output noise:
    about a second, and the longer the smaller S > 0 is.

    Without noise an output that is not flat gives one equation for the weights: at loads above
    1/P(phi is not flat) they are determined, and the errors exactly 0.

    Theory: :eq:`eq-bayes-overlap` and :eq:`eq-bayes-errors` in :doc:`/classification`.

    Examples
    --------
    >>> bayes_optimal([1.0, 2.0], 0.25).q.round(9)
    array([0.6096118 , 0.82460947])
    >>> bayes_optimal(5.0, teacher="sign").error_rate.round(9)
    np.float64(0.08393517)
    """
    phi, law = as_student(teacher, name="teacher"), as_noise(noise)
    if phi != SIGN and (law == "logistic" or isinstance(law, Flip)):
        raise ArgumentError(
            f"noise {getattr(law, 'name', law)!r} is for labels that are signs and needs teacher "
            f"'sign', got {phi.name!r}"
        )
    alpha_, S_ = broadcast(
        alpha=real_array("alpha", alpha, low=1.0 / LARGEST, high=LARGEST),
        S=real_array("S", S, low=0.0, high=LARGEST),
    )
    columns = _Columns(
        log_odds=np.full(alpha_.size, np.nan),
        variance=np.full(alpha_.size, np.nan),
        weak_recovery=np.zeros(alpha_.size),
        n_solutions=np.ones(alpha_.size, np.int64),
        residual=np.full(alpha_.size, np.nan),
        quadrature_error=np.zeros(alpha_.size),
        status=np.full(alpha_.size, _CONVERGED, np.int8),
    )
    loads, noises = alpha_.reshape(-1), S_.reshape(-1)
    by_field = np.full(loads.size, law != "output") | (noises == 0.0)  # y = phi(z + s)
    invertible = phi in _INVERTIBLE or (isinstance(phi, LeakyReLU) and phi.slope > 0.0)
    closed = (by_field & invertible) | (phi == LINEAR)
    signs = by_field & (phi == SIGN)
    _solve_linear(loads, noises, closed, columns)
    flip = law.probability if isinstance(law, Flip) else 0.0
    solve_signs = partial(_solve_signs, loads, noises, signs, flip, law == "logistic", columns)
    for_each_chunk(solve_signs, loads.size, min_chunk=64)
    for i in np.flatnonzero(~(closed | signs)).tolist():
        _solve_general(phi, float(loads[i]), float(noises[i]), bool(by_field[i]), columns, i)
    failed = columns.status != _CONVERGED
    x = np.where(failed, np.nan, columns.log_odds)
    V = expit(-x)
    gamma = np.where(x > 0.0, np.sqrt(1.0 - V), np.sqrt(expit(x)))
    half_angle = np.arctan2(np.sqrt(V), gamma)  # arccos(gamma)
    angle = 2.0 * np.arctan2(np.sqrt(V), np.sqrt(2.0 - V))  # arccos(q)
    if phi == SIGN:
        variance, rates = 2.0 * angle / math.pi, (half_angle / math.pi, angle / math.pi)
    else:
        rates = np.full_like(x, np.nan), np.full_like(x, np.nan)
        variance = _leaky_variance(phi.slope, V, angle) if isinstance(phi, LeakyReLU) else None
        if variance is None:
            variance = np.where(failed, np.nan, columns.variance)
            for i in np.flatnonzero(closed).tolist():
                variance[i] = _general_variance(phi, float(x[i]))
    shape = alpha_.shape
    for column in (columns.weak_recovery, columns.residual, columns.quadrature_error):
        column[failed] = np.nan
    result = BayesOptimal(
        teacher=phi,
        noise=law,
        alpha=alpha_,
        S=S_,
        gamma=gamma.reshape(shape),
        R=gamma.reshape(shape).copy(),
        q=expit(x).reshape(shape),
        gen_error=variance.reshape(shape),
        gibbs_gen_error=2.0 * variance.reshape(shape),
        error_rate=rates[0].reshape(shape),
        gibbs_error_rate=rates[1].reshape(shape),
        weak_recovery=columns.weak_recovery.reshape(shape),
        n_solutions=columns.n_solutions.reshape(shape),
        residual=columns.residual.reshape(shape),
        quadrature_error=columns.quadrature_error.reshape(shape),
        status=columns.status.reshape(shape),
    )
    warn_not_converged(result.status)
    return result


class _Columns(NamedTuple):
    """What the solvers find, point by point; `log_odds` is x = ln(q/(1 - q))."""

    log_odds: NDArray[np.float64]
    variance: NDArray[np.float64]
    weak_recovery: NDArray[np.float64]
    n_solutions: NDArray[np.int64]
    residual: NDArray[np.float64]
    quadrature_error: NDArray[np.float64]
    status: NDArray[np.int8]


def _leaky_variance(
    slope: float, V: NDArray[np.float64], angle: NDArray[np.float64]
) -> NDArray[np.float64]:
    """E[var(phi(z) given omega)]: phi is (1 + a)/2 times z plus (1 - a)/2 times |z|."""
    small = angle**3 / 3.0 - angle**5 / 30.0 + angle**7 / 840.0
    bent = np.where(angle < _SMALL_ANGLE, small, np.sin(angle) - angle * np.cos(angle))
    even = V - 2.0 / math.pi * bent
    return np.asarray(0.25 * ((1.0 + slope) ** 2 * V + (1.0 - slope) ** 2 * even))


# --- Linear teachers, and what is as good as one -------------------------------------------------


def _solve_linear(
    alpha: NDArray[np.float64], S: NDArray[np.float64], chosen: NDArray[np.bool_], columns: _Columns
) -> None:
    """Ridge regression with zeta = S is optimal: q_hat = alpha/(V + S), a quadratic equation."""
    a, s = alpha[chosen], S[chosen]
    b = s + (a - 1.0)
    root = np.hypot(b, 2.0 * np.sqrt(s))
    with np.errstate(divide="ignore", invalid="ignore"):
        V = np.where(b < 0.0, 0.5 * (root - b), np.where(s > 0.0, 2.0 * s / (root + b), 0.0))
        columns.log_odds[chosen] = np.log(a) - np.log(V + s)
    ridge = Ridge.of_size(a.size)
    solve_ridge(a, s, s, ridge, 0, a.size)
    columns.residual[chosen] = np.abs(ridge.gamma / ridge.R - 1.0)


# --- Signs ---------------------------------------------------------------------------------------


@jit
def _sign_excess(x, log_alpha, S, flip, logistic):
    """ln(alpha I) - x, which decreases and vanishes at the solution."""
    q, V = 1.0 / (1.0 + math.exp(-x)), 1.0 / (1.0 + math.exp(x))
    return log_alpha + math.log(sign_information(q, V, S, flip, logistic)) - x


@jit
def solve_sign(alpha, S, flip, logistic):
    """x = ln(q/(1 - q)) and a status: regula falsi with the weights of Illinois."""
    start = sign_information(0.0, 1.0, S, flip, logistic)
    if not start > 0.0:  # labels turned every other time say nothing
        return -math.inf, _CONVERGED
    log_alpha = math.log(alpha)
    low = log_alpha + math.log(start)  # I increases with q
    at_low = _sign_excess(low, log_alpha, S, flip, logistic)
    if at_low <= 0.0:
        return low, _CONVERGED
    high, at_high = low, at_low
    for _ in range(_MOST_STEPS):
        high += 2.0 * at_high + 0.1
        at_high = _sign_excess(high, log_alpha, S, flip, logistic)
        if not at_high > 0.0:
            break
        low, at_low = high, at_high
    side = 0
    for _ in range(_MOST_STEPS):
        if not (math.isfinite(at_low) and math.isfinite(at_high)):
            break
        x = (low * at_high - high * at_low) / (at_high - at_low)
        x = min(max(x, low), high)
        at = _sign_excess(x, log_alpha, S, flip, logistic)
        if abs(at) <= _SETTLED * max(1.0, abs(x)) or high - low <= _SETTLED * max(1.0, abs(x)):
            return x, _CONVERGED
        if at > 0.0:
            low, at_low = x, at
            at_high *= 0.5 if side == 1 else 1.0
            side = 1
        else:
            high, at_high = x, at
            at_low *= 0.5 if side == -1 else 1.0
            side = -1
    return math.nan, _MAX_ITERATIONS


@jit
def _solve_signs(alpha, S, chosen, flip, logistic, columns, start, stop):
    for i in range(start, stop):
        if not chosen[i]:
            continue
        x, columns.status[i] = solve_sign(alpha[i], S[i], flip, logistic)
        columns.log_odds[i] = x
        columns.residual[i] = 0.0
        if x > -math.inf:
            q, V = 1.0 / (1.0 + math.exp(-x)), 1.0 / (1.0 + math.exp(x))
            m_hat = alpha[i] * sign_overlap(q, V, S[i], flip, logistic)
            columns.residual[i] = abs(m_hat / math.exp(x) - 1.0)


# --- Any other teacher ---------------------------------------------------------------------------


@lru_cache(maxsize=8)
def _prepared(phi: LeakyReLU | Student, half_width: float) -> tuple[PreparedActivation, Any]:
    activation = prepare(phi, half_width)
    return activation, turning_points(activation)


def _activation(phi: LeakyReLU | Student, S: float = 0.0) -> tuple[PreparedActivation, Any]:
    """Return phi, tabulated where z + s is, and its turning points."""
    width = 32.0
    while width < 13.0 * math.sqrt(1.0 + S):
        width *= 4.0
    return _prepared(phi, width)


def _general_variance(phi: LeakyReLU | Student, x: float) -> float:
    return output_variance(*_activation(phi), expit(x), expit(-x), _RULES[-1])


def _solve_general(
    phi: LeakyReLU | Student, alpha: float, S: float, by_field: bool, columns: _Columns, i: int
) -> None:
    """Solve one point; write it into row i."""
    highest = _MOST
    certain = False
    if by_field:
        activation, turns = _activation(phi, S)
        inform = partial(preimage_information, activation, turns, S)
        # As many equations as weights
        certain = S == 0.0 and alpha * smooth_fraction(activation, 1.0) >= 1.0
        if S > 0.0:  # z + s itself would say 1/(V + S)
            highest = min(highest, math.log(alpha) - math.log(S) + 1.0)
    elif isinstance(phi, LeakyReLU):
        inform = partial(leaky_information, phi.slope, S)
        highest = math.log(alpha) - math.log(S) + 1.0  # a linear phi would say 1/(V + S)
    else:
        inform = partial(output_information, *_activation(phi), S)

    @cache
    def information(x: float, level: int) -> Information:
        return Information(*inform(expit(x), expit(-x), _RULES[level]))

    def log_information(x: float) -> float:
        return math.log(alpha * information(x, 0).fisher)

    # By a finer rule than solutions are looked for, since 0 has to be told from rounding.
    start, halfway = information(-math.inf, 2).fisher, information(0.0, 2).fisher
    if not math.isfinite(start):  # the noise is too small to be resolved
        columns.status[i] = _MAX_ITERATIONS
        return
    if not halfway > _ROUNDING / (1.0 + S):  # a constant phi
        columns.log_odds[i], columns.residual[i] = -math.inf, 0.0
        columns.variance[i], columns.weak_recovery[i] = 0.0, math.inf
        return
    even = start <= _NOTHING * halfway
    if even:  # I(q) = q/weak_recovery for small q, less a term in q^2
        one, two = (math.exp(-x) * information(x, 1).fisher for x in (_LEAST, _LEAST + _LN_2))
        columns.weak_recovery[i] = 1.0 / (2.0 * one - two)
        lowest = _LEAST
    else:
        lowest = math.log(alpha * start)
    highest = max(highest, lowest + 1.0)
    if not certain and log_information(highest) > highest:  # nearer to 1 than can be resolved
        columns.status[i] = _MAX_ITERATIONS
        return
    found = _solutions(log_information, lowest, highest)
    candidates = [-math.inf] * even + found + [math.inf] * certain
    columns.n_solutions[i] = len(candidates)
    if certain:
        columns.log_odds[i], columns.variance[i], columns.residual[i] = math.inf, 0.0, 0.0
        return
    if not candidates:
        columns.status[i] = _MAX_ITERATIONS
        return

    def free_entropy(x: float) -> float:
        return 0.5 * (expit(x) - np.logaddexp(0.0, x)) + alpha * information(x, 0).log_likelihood

    x = max(candidates, key=free_entropy) if len(candidates) > 1 else candidates[0]
    if x > -math.inf:
        x, there, error = _refined(x, information, math.log(alpha))
        if not error <= _TOO_FAR_APART:
            columns.status[i] = _MAX_ITERATIONS
            return
        left = abs(alpha * there.fisher / math.exp(x) - 1.0)
        columns.residual[i] = max(left, abs(there.overlap / there.fisher - 1.0))
        columns.quadrature_error[i] = error
    else:
        columns.residual[i] = 0.0
    columns.log_odds[i] = x
    if not isinstance(phi, LeakyReLU):
        columns.variance[i] = _general_variance(phi, x)


def _refined(
    x: float, information: Callable[[float, int], Information], log_alpha: float
) -> tuple[float, Information, float]:
    """Follow a solution to finer rules; return it, I there, and how far the last two are apart."""
    here, error = information(x, 0), math.inf
    for level in range(1, len(_RULES)):
        error = abs(information(x, level).fisher / information(x, level - 1).fisher - 1.0)
        x = _polished(
            lambda x, level=level: log_alpha + math.log(information(x, level).fisher), x, error
        )
        here = information(x, level)
        if not error > _AGREED:
            break
    return x, here, error


def _polished(step: Callable[[float], float], x: float, error: float) -> float:
    """The solution of step(x) = x near x, by secants, where `step` has changed by `error`."""
    before, at_before = x, step(x) - x
    x = x + (2.0 * at_before if at_before else error)
    for _ in range(8):
        at = step(x) - x
        if abs(at) <= _SETTLED * max(1.0, abs(x)) or at == at_before:
            break
        (before, at_before), x = (x, at), x - at * (x - before) / (at - at_before)
    return x


def _solutions(step: Callable[[float], float], low: float, high: float) -> list[float]:
    """All solutions of step(x) = x between `low` and `high`, for an increasing step.

    Since step increases, a solution between a and b lies between step(a) and step(b), too: most of
    the grid is never looked at.
    """
    grid = [low, *(x for x in _GRID if low < x < high), high]
    found: list[float] = []
    to_do = [(0, len(grid) - 1)]
    while to_do:
        i, j = to_do.pop()
        at_i, at_j = step(grid[i]), step(grid[j])
        if at_i > grid[j] or at_j < grid[i]:
            continue
        if j == i + 1:
            if (at_i >= grid[i]) != (at_j >= grid[j]):
                ends = grid[i], grid[j]
                found.append(float(brentq(lambda x: step(x) - x, *ends, xtol=1e-15)))  # type: ignore
            continue
        first = max(i, bisect_right(grid, at_i) - 1)
        last = max(min(j, bisect_left(grid, at_j)), first + 1)
        if (first, last) != (i, j):
            to_do.append((first, last))
        else:
            to_do += [((i + j) // 2, j), (i, (i + j) // 2)]
    return sorted(found)
