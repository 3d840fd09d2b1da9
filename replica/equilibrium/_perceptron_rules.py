"""The classic rules of learning from noise-free signs: Opper, Kinzel, Kleinz and Nehl (1990)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import roots_legendre

from replica._core.arguments import LARGEST, real_array
from replica._core.jit import for_each_chunk, jit
from replica._core.results import Result
from replica._core.status import Status, warn_not_converged

from ._bayes import solve_sign
from ._ridge import ridge_point

__all__ = ["PerceptronRules", "perceptron_rules", "solve_maximal_stability"]

_CONVERGED = int(Status.CONVERGED)
_MAX_ITERATIONS = int(Status.MAX_ITERATIONS)

_ROOT_2PI = math.sqrt(2.0 * math.pi)
_ROOT_HALF = math.sqrt(0.5)
_NODES, _WEIGHTS = ((1 + roots_legendre(16)[0]) / 2, roots_legendre(16)[1] / 2)
# Standard deviations at which a normal law ends.
_FAR = 9.0
# Longest piece, in units of the scale of the integrand, on which 16 nodes are exact to rounding.
_PIECE = 2.4
# Noise variance of the signs as a linear function sqrt(2/pi) z of the field plus noise, in units of
# that slope: least squares cannot tell it from noise.
_SIGN_NOISE = 0.5 * math.pi - 1.0
# Steps of root-finders that need about ten; and the accuracy at which rounding shows.
_MOST_STEPS = 200
_SETTLED = 4e-16


@dataclass(frozen=True, repr=False)
class PerceptronRules(Result):
    """Error rates of the rules of perceptron learning; see `perceptron_rules`.

    Arrays have the shape of `alpha`; an error rate is P(sign u != sign z) on a fresh input,
    arccos(R)/pi.

    Attributes
    ----------
    alpha : ndarray
        Load P/N.
    hebb : ndarray
        W = sum_j y_j x_j; also the limit of strong decay for any loss.
    pseudo_inverse : ndarray
        Least squares without decay: of the weights with |u_j - y_j| = 0 the shortest for alpha < 1,
        the least sum of squares for alpha > 1. At alpha = 1 the weights diverge and say nothing.
    maximal_stability : ndarray
        The largest margin kappa = min_j y_j u_j / gamma (the support vector machine without slack).
    gibbs : ndarray
        Weights drawn at random from all that make no error on the samples (the version space).
    bayes : ndarray
        The vote of all these weights: the least error rate there is.
    margin : ndarray
        kappa of the rule of maximal stability.
    status : ndarray of int8
        A `Status` per element.
    """

    alpha: NDArray[np.float64]
    hebb: NDArray[np.float64]
    pseudo_inverse: NDArray[np.float64]
    maximal_stability: NDArray[np.float64]
    gibbs: NDArray[np.float64]
    bayes: NDArray[np.float64]
    margin: NDArray[np.float64]
    status: NDArray[np.int8]

    _problem = ("alpha",)
    _shown_first = "bayes"

    def _curve_name(self) -> str:
        return "sign teacher"


def perceptron_rules(alpha: ArrayLike) -> PerceptronRules:
    """Error rates of the classic rules of learning from the noise-free signs of a teacher.

    Parameters
    ----------
    alpha : array_like
        Load P/N, from 1e-100 to 1e100.

    Returns
    -------
    PerceptronRules
        One array of error rates for each rule.

    Raises
    ------
    TypeError, ValueError
        If `alpha` is not real or out of range.

    See Also
    --------
    bayes_optimal : The bound for other teachers and with noise.

    Notes
    -----
    Relative accuracy 1e-12. For large alpha, alpha times the error rate tends to .4417 (Bayes),
    .6247 (Gibbs) and .5005 (maximal stability), while Hebb's rule and the pseudo-inverse decay like
    alpha^(-1/2).

    Theory: :eq:`eq-hebb`, :eq:`eq-pseudo-inverse`, :eq:`eq-maximal-stability` and
    :eq:`eq-bayes-sign-errors` in :doc:`/classification`.

    Examples
    --------
    >>> rules = perceptron_rules([1.0, 5.0])
    >>> rules.maximal_stability.round(6)
    array([0.265711, 0.093827])
    >>> rules.bayes.round(6)
    array([0.254373, 0.083935])
    """
    alpha_ = real_array("alpha", alpha, low=1.0 / LARGEST, high=LARGEST)
    loads = alpha_.reshape(-1)
    rates = np.empty((6, loads.size))
    status = np.empty(loads.size, np.int8)
    for_each_chunk(partial(_solve_rules, loads, rates, status), loads.size, min_chunk=64)
    warn_not_converged(status.reshape(alpha_.shape))
    columns = (row.reshape(alpha_.shape) for row in rates)
    return PerceptronRules(alpha_, *columns, status=status.reshape(alpha_.shape))


@jit
def _solve_rules(alpha, rates, status, start, stop):
    for i in range(start, stop):
        a = alpha[i]
        rates[0, i] = math.atan2(1.0, math.sqrt(2.0 * a / math.pi)) / math.pi
        overlap = ridge_point(a, _SIGN_NOISE, 0.0).R
        if a > 1.0:
            rates[1, i] = math.atan2(math.sqrt(_SIGN_NOISE / (a - 1.0)), 1.0) / math.pi
        else:
            rates[1, i] = math.acos(overlap) / math.pi
        u, kappa, failed = solve_maximal_stability(a)
        rates[2, i] = math.atan(math.exp(-u)) / math.pi
        x, failed_too = solve_sign(a, 0.0, 0.0, False)
        V = 1.0 / (1.0 + math.exp(x))
        rates[3, i] = 2.0 * math.atan2(math.sqrt(V), math.sqrt(2.0 - V)) / math.pi
        rates[4, i] = math.atan(math.exp(-0.5 * x)) / math.pi
        rates[5, i] = kappa
        status[i] = max(failed, failed_too)


@jit
def _upper(x):
    """The probability that a standard normal variable exceeds x."""
    return 0.5 * math.erfc(x * _ROOT_HALF)


@jit
def _pulls(u, kappa):
    """E[(kappa - t)_+ P(+ | t)] and of its square, over the student's field t ~ N(0, 1)."""
    ratio = math.exp(u)  # P(+ | t) = Phi(ratio t)
    first = second = 0.0
    edge = _FAR / ratio
    low = max(-_FAR, -edge)
    for outside in range(2):
        start = low if outside == 0 else edge
        stop = min(kappa, _FAR) if outside == 1 else min(kappa, _FAR, edge)
        if stop <= start:
            continue
        scale = min(1.0, 1.0 / ratio) if outside == 0 else 1.0
        pieces = math.ceil((stop - start) / (_PIECE * scale))
        length = (stop - start) / pieces
        for piece in range(pieces):
            for k in range(_NODES.size):
                t = start + length * (piece + _NODES[k])
                weight = length * _WEIGHTS[k] * math.exp(-0.5 * t * t) / _ROOT_2PI
                weight *= _upper(-ratio * t) * (kappa - t)
                first += weight
                second += weight * (kappa - t)
    return first, second


@jit
def _margin_at(u, kappa):
    """kappa for R/sqrt(1 - R^2) = e^u by Newton's method in ln kappa, and alpha there.

    The two equations, without alpha: 2 E[(kappa - t)_+^2 P] R = (1 - R^2) sqrt(2/pi) A with
    A = E[(kappa - t)_+] over t ~ N(0, 1 - R^2), and then R = alpha sqrt(2/pi) A.
    """
    R, sigma = 1.0 / math.sqrt(1.0 + math.exp(-2.0 * u)), 1.0 / math.sqrt(1.0 + math.exp(2.0 * u))
    slope = math.sqrt(2.0 / math.pi)
    level = math.log(slope * sigma) - math.log(R) + math.log(sigma)
    for _ in range(_MOST_STEPS):
        v = kappa / sigma
        inside = _upper(-v)
        A = kappa * inside + sigma * math.exp(-0.5 * v * v) / _ROOT_2PI
        first, second = _pulls(u, kappa)
        excess = math.log(2.0 * second / A) - level
        step = -excess / (kappa * (2.0 * first / second - inside / A))
        kappa *= math.exp(min(max(step, -2.0), 2.0))
        if abs(step) < 1e-14:
            return kappa, R / (slope * A)
    return math.nan, math.nan


@jit
def solve_maximal_stability(alpha):
    """ln(R/sqrt(1 - R^2)), the margin, and a status: regula falsi with the weights of Illinois."""
    log_alpha = math.log(alpha)
    # Hebb's overlap, and for large loads R/sqrt(1 - R^2) = alpha/(.5005 pi): within a factor of 3.
    u = 0.5 * math.log(2.0 * alpha / math.pi) if alpha < 1.0 else math.log(2.0 * alpha / math.pi)
    kappa = 1.0 / math.sqrt(alpha) if alpha < 1.0 else 1.0 / alpha
    low, high = u - 1.0, u + 1.0
    kappa, load = _margin_at(low, kappa)
    at_low = math.log(load) - log_alpha
    kappa, load = _margin_at(high, kappa)
    at_high = math.log(load) - log_alpha
    side = 0
    for _ in range(_MOST_STEPS):
        if not (at_low <= 0.0 <= at_high):
            break
        u = (low * at_high - high * at_low) / (at_high - at_low)
        kappa, load = _margin_at(u, kappa)
        at = math.log(load) - log_alpha
        if abs(at) <= _SETTLED * max(1.0, abs(log_alpha)) or (
            high - low <= _SETTLED * max(1.0, abs(u))
        ):
            return u, kappa, _CONVERGED
        if at < 0.0:
            low, at_low = u, at
            at_high *= 0.5 if side == 1 else 1.0
            side = 1
        else:
            high, at_high = u, at
            at_low *= 0.5 if side == -1 else 1.0
            side = -1
    return math.nan, math.nan, _MAX_ITERATIONS
