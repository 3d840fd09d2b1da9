"""Expectation of the batch-normalized loss over the batch: quadrature and Monte Carlo."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from replica._core.arguments import ArgumentError, choice, integer, real_scalar
from replica._core.jit import for_each_chunk, jit

from ._gamma_decay import GLM, IDENTITY, LOGISTIC, SMOOTH, as_glm, evaluate, targets
from ._prior import BatchPrior, batch_prior, standardize

__all__ = ["ExpectedLoss", "expected_loss", "sampled_loss"]

_CHUNK = 1 << 17  # evaluations per random stream


@dataclass(frozen=True)
class ExpectedLoss:
    """E over batch statistics of mean_j A(h_j) - y_j h_j; see `expected_loss`, `sampled_loss`.

    Attributes
    ----------
    pn_loss : float
        The loss under population normalization.
    excess : float
        What batch normalization adds to it.
    standard_error : float
        Of `excess`; 0 for quadrature.
    n_draws : int
        Number of evaluations of the loss; 0 for quadrature.
    """

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
    activation: Any = "relu",
    sharpness: float = 1.0,
    noise: str = "both",
    law: str = "chi",
    kurtosis: float = 0.0,
    mean_subtracted: bool = True,
) -> ExpectedLoss:
    """Expected batch-normalized loss, statistics independent of the sample, by quadrature.

    Parameters
    ----------
    h, y : array_like, shape (P,)
        Hidden values before normalization and targets.
    batch_size, gamma, beta, activation, sharpness, mean_subtracted
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
    >>> result = expected_loss(h, 0 * h, batch_size=18, gamma=1.0, activation="identity",
    ...                        noise="std", mean_subtracted=False)
    >>> round(result.loss / result.pn_loss, 12)  # E[1/sigma_B^2] = M/(M - 2)
    1.125
    """
    noise = choice("noise", noise, ("both", "mean", "std"))
    t, gamma, beta, glm = _problem(h, gamma, beta, activation, sharpness)
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
    return ExpectedLoss(float(np.mean(A - y * field)), excess, 0.0, 0)


def sampled_loss(
    h: ArrayLike,
    y: ArrayLike,
    *,
    batch_size: int,
    gamma: float,
    beta: float = 0.0,
    activation: Any = "relu",
    sharpness: float = 1.0,
    batches: str = "independent",
    noise: str = "both",
    law: str = "chi",
    kurtosis: float = 0.0,
    mean_subtracted: bool = True,
    control: bool = True,
    n_draws: int = 1_000_000,
    seed: Any = None,
) -> ExpectedLoss:
    """Expected batch-normalized loss by Monte Carlo, from independent noise or real batches.

    Parameters
    ----------
    h, y : array_like, shape (P,)
        Hidden values before normalization and targets.
    batch_size, gamma, beta, activation, sharpness
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
    seed : int, SeedSequence or None
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
    noise = choice("noise", noise, ("both", "mean", "std"))
    if real and noise != "both":
        raise ArgumentError(f"noise must be 'both' with real batches, got {noise!r}")
    n_draws = integer("n_draws", n_draws, low=2)
    t, gamma, beta, glm = _problem(h, gamma, beta, activation, sharpness)
    y = targets(y, t.size)
    if glm.code[0] < 0:
        raise ArgumentError(
            f"sampled_loss needs a named activation, got the user-given {glm.name!r}"
        )
    field = gamma * t + beta
    A, slope, curvature = glm.A(field), glm.dA(field), glm.d2A(field)
    error = slope - y
    # All numbers of one sample side by side, since the kernels read them at random places.
    table = np.column_stack([t, y, A, slope, curvature])
    if real:
        size = integer("batch_size", batch_size, low=2, high=t.size)
        # the last factor: drawing without replacement
        drift = -(t * (t**2 - 1) / 2 + t) / size * (t.size - size) / (t.size - 1)
        known = gamma * float(np.mean(error * drift))

        def draw(rng: np.random.Generator, count: int) -> tuple[float, float]:
            return _real_batches(rng, count, size, table, gamma, beta, *glm.code, control)
    else:
        prior = batch_prior(batch_size, kurtosis=kurtosis, law=law, mean_subtracted=mean_subtracted)
        size = 2
        known = _taylor_mean(prior, noise, t, error, curvature, gamma)
        law_parameters = (
            0.0 if noise == "std" else 1 / math.sqrt(prior.batch_size),
            noise != "mean",
            prior.batch_size,
            prior.dof if prior.law == "chi" else 0,
            prior.width,
            prior.lower,
        )

        def draw(rng: np.random.Generator, count: int) -> tuple[float, float]:
            return _independent_noise(
                rng, count, table, gamma, beta, *glm.code, control, *law_parameters
            )

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
        float(np.mean(A - y * field)),
        float(mean + (known if control else 0.0)),
        math.sqrt(variance / n_items),
        n_items * size,
    )


def _problem(
    h: ArrayLike, gamma: float, beta: float, activation: Any, sharpness: float
) -> tuple[NDArray[np.float64], float, float, GLM]:
    t, _, _ = standardize(h)
    glm = as_glm(activation, sharpness=sharpness)
    return t, real_scalar("gamma", gamma), real_scalar("beta", beta), glm


def _taylor_mean(
    prior: BatchPrior,
    noise: str,
    t: NDArray[np.float64],
    error: NDArray[np.float64],
    curvature: NDArray[np.float64],
    gamma: float,
) -> float:
    """Mean of error d + curvature d^2/2 for d = gamma ((t - m)/r - t)."""
    first = second = 1.0
    if noise != "mean":
        first, second = prior.inverse_moment(1), prior.inverse_moment(2)
    shift = np.mean(error * t) * (first - 1)
    square = np.mean(curvature * t**2) * (1 - 2 * first + second)
    if noise != "std":
        square += np.mean(curvature) * second / prior.batch_size
    return float(gamma * shift + 0.5 * gamma**2 * square)


@jit
def _partition_function(code, k, x):
    """A(x) of the named losses."""
    if code == IDENTITY:
        return 0.5 * x * x
    if code == LOGISTIC:
        return max(x, 0.0) + math.log1p(math.exp(-abs(x)))
    if code == SMOOTH:
        # Li2(-exp(-|k x|)) by its Bernoulli series in u = -log(1 + exp(-|k x|)), |u| <= log 2.
        z = k * x
        u = -math.log1p(math.exp(-abs(z)))
        v = u * u
        tail = 1 / 526901760.0 - v * 4.0647616451442255e-11
        tail = 1 / 36.0 - v * (1 / 3600.0 - v * (1 / 211680.0 - v * (1 / 10886400.0 - v * tail)))
        dilog = u - 0.25 * v + u * v * tail
        if z < 0.0:
            return -dilog / (k * k)
        return (math.pi**2 / 6 + 0.5 * z * z + dilog) / (k * k)
    return 0.5 * max(x, 0.0) ** 2


@jit
def _independent_noise(
    rng, count, table, gamma, beta, code, k, control, mu_width, noisy_std, size, dof, width, lower
):
    """Sums of the excess loss and of its square over `count` pairs of draws.

    The two of a pair share sample and sigma_B and have opposite mu_B: odd powers of it drop out.
    """
    n = table.shape[0]
    total = 0.0
    squares = 0.0
    for _ in range(count):
        j = int(rng.random() * n)
        m = mu_width * rng.standard_normal()
        if not noisy_std:
            r = 1.0
        elif dof > 0:
            r = math.sqrt(2.0 * rng.standard_gamma(0.5 * dof) / size)
        else:
            r = 1.0 + width * rng.standard_normal()
            while abs(r - 1.0) >= 1.0 - lower:
                r = 1.0 + width * rng.standard_normal()
        t = table[j, 0]
        value = 0.0
        for side in (m, -m):
            d = gamma * ((t - side) / r - t)
            value += 0.5 * (_partition_function(code, k, gamma * t + beta + d) - table[j, 2])
            if control:
                value -= 0.5 * (table[j, 3] * d + 0.5 * table[j, 4] * d * d)
            else:
                value -= 0.5 * table[j, 1] * d
        total += value
        squares += value * value
    return total, squares


@jit
def _real_batches(rng, count, size, table, gamma, beta, code, k, control):
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
            t = table[order[i], 0]
            d = t - table[order[0], 0]  # about one of them: equal values give exactly 0
            first += d
            second += d * d
            square += t * t
        d = first / size
        m = table[order[0], 0] + d
        r = math.sqrt(max(second / size - d * d, 0.0))
        if r == 0.0:
            return math.nan, math.nan
        delta = square / size - 1.0
        value = 0.0
        for i in range(size):
            j = order[i]
            t = table[j, 0]
            d = gamma * ((t - m) / r - t)
            value += _partition_function(code, k, gamma * t + beta + d)
            value -= table[j, 2] + table[j, 1] * d
            if control:
                value += (table[j, 3] - table[j, 1]) * gamma * (0.5 * t * delta + m)
        value /= size
        total += value
        squares += value * value
    return total, squares
