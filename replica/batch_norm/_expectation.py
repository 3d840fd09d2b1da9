"""Expectation of the batch-normalized loss over the batch: quadrature and Monte Carlo."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from replica._core.arguments import ArgumentError, choice, integer, real_scalar
from replica._core.jit import for_each_chunk, jit
from replica._core.results import Result
from replica.students import StudentLike

from ._gamma_decay import GLM, LOGISTIC, PIECEWISE, as_glm, evaluate, targets
from ._prior import BatchPrior, Law, Noise, batch_prior, standardize

__all__ = ["ExpectedLoss", "expected_loss", "sampled_loss"]

_CHUNK = 1 << 17  # evaluations per random stream


@dataclass(frozen=True, repr=False)
class ExpectedLoss(Result):
    """E over batch statistics of mean_j A(h_j) - y_j h_j; see `expected_loss`, `sampled_loss`.

    Attributes
    ----------
    batch_size : int
    gamma, beta : float
    activation : str
    noise : {"both", "mean", "std"}
        The problem, without its data.
    pn_loss : float
        The loss under population normalization.
    excess : float
        What batch normalization adds to it.
    standard_error : float
        Of `excess`; 0 for quadrature.
    n_draws : int
        Number of evaluations of the loss; 0 for quadrature.
    """

    _problem = ("batch_size", "gamma", "beta", "activation", "noise")

    batch_size: int
    gamma: float
    beta: float
    activation: str
    noise: Noise
    pn_loss: float
    excess: float
    standard_error: float
    n_draws: int

    @property
    def loss(self) -> float:
        """The batch-normalized loss, ``pn_loss + excess``."""
        return self.pn_loss + self.excess


def expected_loss(
    h: ArrayLike,
    y: ArrayLike,
    *,
    batch_size: int,
    gamma: float,
    beta: float = 0.0,
    activation: StudentLike | GLM = "softplus",
    noise: Noise = "both",
    law: Law = "chi",
    kurtosis: float = 0.0,
    mean_subtracted: bool = True,
) -> ExpectedLoss:
    """Expected batch-normalized loss, statistics independent of the sample, by quadrature.

    Parameters
    ----------
    h, y : array_like, shape (P,)
        Hidden values before normalization and targets.
    batch_size, gamma, beta, activation, mean_subtracted
        As for `gamma_decay`.
    noise : {"both", "mean", "std"}
        Which statistics fluctuate; the other one is that of the population.
    law : {"chi", "truncated"}
        Law of sigma_B, see `batch_prior`; under the untruncated Gaussian the expectation of a
        quadratic loss is infinite.
    kurtosis : float
        Excess kurtosis of the truncated law.

    Returns
    -------
    ExpectedLoss
        The loss under population normalization and what batch normalization adds.

    Raises
    ------
    TypeError, ValueError
        As for `gamma_decay`, and for a law or batch size at which E[1/sigma_B^2] is infinite.

    Notes
    -----
    Theory: :eq:`eq-theorem-1` in :doc:`/batch_norm`.

    Examples
    --------
    >>> h = np.linspace(-2, 2, 101)
    >>> result = expected_loss(h, 0 * h, batch_size=18, gamma=1.0, activation="linear",
    ...                        noise="std", mean_subtracted=False)
    >>> round(result.loss / result.pn_loss, 12)  # E[1/sigma_B^2] = M/(M - 2)
    1.125
    """
    noise = choice("noise", noise, get_args(Noise))
    t, gamma, beta, glm = _problem(h, gamma, beta, activation)
    y = targets(y, t.size)
    prior = batch_prior(batch_size, kurtosis=kurtosis, law=law, mean_subtracted=mean_subtracted)
    m, m_weight, r, r_weight = np.zeros(1), np.ones(1), np.ones(1), np.ones(1)
    if noise != "std":
        m, m_weight = prior.mu_nodes()
    if noise != "mean":
        r, r_weight = prior.sigma_nodes()
    field = gamma * t + beta
    A = evaluate(glm.A, field, "A")
    excess = 0.0
    for m_i, weight in zip(m, m_weight, strict=True):
        # One row per node of sigma_B; differences, since the loss itself is much larger.
        moved = gamma * (t - m_i) / r[:, None] + beta
        change = evaluate(glm.A, moved, "A") - A - y * (moved - field)
        excess += float(weight * r_weight @ np.mean(change, axis=1))
    pn_loss = float(np.mean(A - y * field))
    return ExpectedLoss(prior.batch_size, gamma, beta, glm.name, noise, pn_loss, excess, 0.0, 0)


def sampled_loss(
    h: ArrayLike,
    y: ArrayLike,
    *,
    batch_size: int,
    gamma: float,
    beta: float = 0.0,
    activation: StudentLike | GLM = "softplus",
    batches: Literal["independent", "real"] = "independent",
    noise: Noise = "both",
    law: Law = "chi",
    kurtosis: float = 0.0,
    mean_subtracted: bool = True,
    control: bool = True,
    n_draws: int = 1_000_000,
    seed: int | Sequence[int] | np.random.SeedSequence | None = None,
) -> ExpectedLoss:
    """Expected batch-normalized loss by Monte Carlo, from independent noise or real batches.

    Parameters
    ----------
    h, y : array_like, shape (P,)
        Hidden values before normalization and targets.
    batch_size, gamma, beta, activation
        As for `gamma_decay`, named activations only.
    batches : {"independent", "real"}
        "independent" draws (mu_B, sigma_B) from the law, as Theorem 1 supposes; "real" draws M of
        the P samples without replacement and normalizes them by their own mean and deviation.
    noise, law, kurtosis, mean_subtracted
        Which statistics fluctuate and by which law, as for `expected_loss`; for independent noise
        only, in a real batch the samples decide.
    control : bool
        Use as control variate the Taylor polynomial of the loss in the noise (second order for
        independent noise, first order for real batches), whose mean is known exactly.
    n_draws : int
        Number of evaluations of the loss, rounded up to whole batches, or to pairs with opposite
        mu_B for independent noise.
    seed : int, sequence of int, SeedSequence or None
        The result depends on it but not on the number of threads.

    Returns
    -------
    ExpectedLoss
        The loss under population normalization and what batch normalization adds.

    Raises
    ------
    TypeError, ValueError
        As for `expected_loss`; for a user-given `GLM`; for real batches with batch_size > P, with
        `noise` other than "both", or if one of them holds equal values only (sigma_B = 0).

    Notes
    -----
    Theory: :eq:`eq-theorem-1` in :doc:`/batch_norm`.

    Examples
    --------
    >>> h = np.linspace(-2, 2, 101)
    >>> options = dict(batch_size=16, gamma=1.0, activation="softplus")
    >>> exact = expected_loss(h, h, **options)
    >>> sampled = sampled_loss(h, h, **options, n_draws=100_000, seed=1)
    >>> bool(abs(sampled.excess - exact.excess) < 5 * sampled.standard_error)
    True
    """
    real = choice("batches", batches, ("independent", "real")) == "real"
    noise = choice("noise", noise, get_args(Noise))
    if real and noise != "both":
        raise ArgumentError(f"noise must be 'both' with real batches, got {noise!r}")
    n_draws = integer("n_draws", n_draws, low=2)
    t, gamma, beta, glm = _problem(h, gamma, beta, activation)
    y = targets(y, t.size)
    if glm.kernel is None:
        raise ArgumentError(
            f"sampled_loss needs a named activation, got the user-given {glm.name!r}"
        )
    field = gamma * t + beta
    A, slope, curvature = glm.A(field), glm.dA(field), glm.d2A(field)
    error = slope - y
    # All numbers of one sample side by side, since the kernels read them at random places.
    table = np.column_stack([t, y, A, slope, curvature])
    kernel = glm.kernel
    if real:
        size = integer("batch_size", batch_size, low=2, high=t.size)
        # the last factor: drawing without replacement
        drift = -(t * (t**2 - 1) / 2 + t) / size * (t.size - size) / (t.size - 1)
        known = gamma * float(np.mean(error * drift))

        def draw(rng: np.random.Generator, count: int) -> tuple[float, float]:
            return _real_batches(rng, count, size, table, gamma, beta, kernel, control)
    else:
        prior = batch_prior(batch_size, kurtosis=kurtosis, law=law, mean_subtracted=mean_subtracted)
        size = 2
        known = _taylor_mean(prior, noise, t, error, curvature, gamma)
        drawn = _Drawn(
            0.0 if noise == "std" else 1 / math.sqrt(prior.batch_size),
            noise != "mean",
            prior.batch_size,
            prior.dof if prior.law == "chi" else 0,
            prior.width,
            prior.lower,
        )

        def draw(rng: np.random.Generator, count: int) -> tuple[float, float]:
            return _independent_noise(rng, count, table, gamma, beta, kernel, control, drawn)

    n_items = max(2, math.ceil(n_draws / size))
    per_chunk = max(1, _CHUNK // size)
    n_chunks = math.ceil(n_items / per_chunk)
    if not isinstance(seed, np.random.SeedSequence):
        seed = np.random.SeedSequence(seed)
    streams = seed.spawn(n_chunks)
    sums = np.zeros((n_chunks, 2))

    def run(start: int, stop: int) -> None:
        for i in range(start, stop):
            count = min(per_chunk, n_items - i * per_chunk)
            sums[i] = draw(np.random.default_rng(streams[i]), count)

    for_each_chunk(run, n_chunks, min_chunk=1)
    total, squares = sums.sum(axis=0)
    if not np.isfinite(squares):
        raise ArgumentError(
            f"h must not have so many equal values that a batch of {batch_size} can be constant, "
            "with sigma_B = 0"
        )
    mean = total / n_items
    variance = max(squares / n_items - mean**2, 0.0) * n_items / (n_items - 1)
    return ExpectedLoss(
        int(batch_size),
        gamma,
        beta,
        glm.name,
        noise,
        float(np.mean(A - y * field)),
        float(mean + (known if control else 0.0)),
        math.sqrt(variance / n_items),
        n_items * size,
    )


# Columns of the table of samples.
_T, _Y, _A, _SLOPE, _CURVATURE = range(5)


class _Drawn(NamedTuple):
    """How independent noise is drawn."""

    mu_width: float  # deviation of mu_B/sigma_P
    noisy_std: bool
    batch_size: int
    dof: int  # of the chi law; 0: truncated Gaussian
    width: float
    lower: float


class _Problem(NamedTuple):
    t: NDArray[np.float64]
    gamma: float
    beta: float
    glm: GLM


def _problem(h: ArrayLike, gamma: float, beta: float, activation: StudentLike | GLM) -> _Problem:
    t = standardize(h).t
    return _Problem(t, real_scalar("gamma", gamma), real_scalar("beta", beta), as_glm(activation))


def _taylor_mean(
    prior: BatchPrior,
    noise: Noise,
    t: NDArray[np.float64],
    error: NDArray[np.float64],
    curvature: NDArray[np.float64],
    gamma: float,
) -> float:
    """Mean of error d + curvature d^2/2 for d = gamma ((t - m)/r - t)."""
    first = second = 0.0  # E[1/r] - 1, E[1/r^2] - 1
    if noise != "mean":
        first, second = prior.inverse_moment(1) - 1, prior.inverse_moment(2) - 1
    shift = np.mean(error * t) * first
    square = np.mean(curvature * t**2) * (second - 2 * first)
    if noise != "std":
        square += np.mean(curvature) * (1 + second) / prior.batch_size
    return float(gamma * shift + 0.5 * gamma**2 * square)


@jit
def _partition_function(kernel, x):
    """A(x) of the losses that have a kernel."""
    k = kernel.parameter
    if kernel.kind == PIECEWISE:
        return 0.5 * x * x * (1.0 if x > 0.0 else k)
    if kernel.kind == LOGISTIC:
        return max(x, 0.0) + math.log1p(math.exp(-abs(x)))
    # Li2(-exp(-|k x|)) by its Bernoulli series, B_{2n} / (2n + 1)! from n = 1 to 6, in
    # u = -log(1 + exp(-|k x|)), |u| <= log 2.
    z = k * x
    u = -math.log1p(math.exp(-abs(z)))
    v = u * u
    tail = 1 / 526901760.0 - v * 4.0647616451442255e-11
    tail = 1 / 36.0 - v * (1 / 3600.0 - v * (1 / 211680.0 - v * (1 / 10886400.0 - v * tail)))
    dilog = u - 0.25 * v + u * v * tail
    if z < 0.0:
        return -dilog / (k * k)
    return (math.pi**2 / 6 + 0.5 * z * z + dilog) / (k * k)


@jit
def _independent_noise(rng, count, table, gamma, beta, kernel, control, drawn):
    """Sums of the excess loss and of its square over `count` pairs of draws.

    The two of a pair share sample and sigma_B and have opposite mu_B: odd powers of it drop out.
    """
    n = table.shape[0]
    total = 0.0
    squares = 0.0
    for _ in range(count):
        j = int(rng.random() * n)
        m = drawn.mu_width * rng.standard_normal()
        if not drawn.noisy_std:
            r = 1.0
        elif drawn.dof > 0:
            r = math.sqrt(2.0 * rng.standard_gamma(0.5 * drawn.dof) / drawn.batch_size)
        else:
            r = 1.0 + drawn.width * rng.standard_normal()
            while abs(r - 1.0) >= 1.0 - drawn.lower:
                r = 1.0 + drawn.width * rng.standard_normal()
        t = table[j, _T]
        value = 0.0
        for side in (m, -m):
            d = gamma * ((t - side) / r - t)
            value += 0.5 * (_partition_function(kernel, gamma * t + beta + d) - table[j, _A])
            if control:
                value -= 0.5 * (table[j, _SLOPE] * d + 0.5 * table[j, _CURVATURE] * d * d)
            else:
                value -= 0.5 * table[j, _Y] * d
        total += value
        squares += value * value
    return total, squares


@jit
def _real_batches(rng, count, size, table, gamma, beta, kernel, control):
    """The same over `count` batches of `size` samples, normalized by their own statistics."""
    n = table.shape[0]
    order = np.arange(n)
    total = 0.0
    squares = 0.0
    for _ in range(count):
        first = 0.0
        second = 0.0
        square = 0.0
        for i in range(size):  # partial Fisher-Yates shuffle
            other = i + int(rng.random() * (n - i))
            order[i], order[other] = order[other], order[i]
            t = table[order[i], _T]
            d = t - table[order[0], _T]  # about one of them: equal values give exactly 0
            first += d
            second += d * d
            square += t * t
        d = first / size
        m = table[order[0], _T] + d
        r = math.sqrt(max(second / size - d * d, 0.0))
        if r == 0.0:
            return math.nan, math.nan
        delta = square / size - 1.0
        value = 0.0
        for i in range(size):
            j = order[i]
            t = table[j, _T]
            d = gamma * ((t - m) / r - t)
            value += _partition_function(kernel, gamma * t + beta + d)
            value -= table[j, _A] + table[j, _Y] * d
            if control:
                value += (table[j, _SLOPE] - table[j, _Y]) * gamma * (0.5 * t * delta + m)
        value /= size
        total += value
        squares += value * value
    return total, squares
