"""The law of the batch statistics (mu_B, sigma_B): moments, sampling, quadrature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from replica._core.arguments import ArgumentError, choice, integer, real_array, real_scalar

__all__ = ["BatchPrior", "Law", "Noise", "batch_prior", "chi_excess", "estimate_batch_prior"]
__all__ += ["standardize"]

Law = Literal["gaussian", "published", "truncated", "chi"]
Noise = Literal["both", "mean", "std"]  # of mu_B and sigma_B, or of one of them

_STIRLING = 25  # from here on the next term of the series below is less than 1e-16 of it


def chi_excess(batch_size: ArrayLike, dof: ArrayLike, k: int) -> NDArray[np.float64]:
    """E[(sigma_B/sigma_P)^k] - 1 when M sigma_B^2/sigma_P^2 is chi-squared with `dof` degrees.

    Of order 1/M, and to 1e-14 of itself for k <= 3: what batch normalization adds is made of it.
    """
    size, n = np.asarray(batch_size, float), np.asarray(dof, float)
    # Gamma((n + k)/2)/Gamma(n/2) (2/M)^(k/2), factor by factor: two of the Gamma function's steps
    # are a factor each, and half a step, from z on, is sqrt(z) exp(r(z)).
    whole, odd = divmod(abs(k), 2)
    sign = 1 if k > 0 else -1
    z = (n if k > 0 else n - 1) / 2
    i = np.arange(whole).reshape(-1, *[1] * n.ndim)
    steps = n + odd + 2 * i if k > 0 else n - odd - 2 - 2 * i
    log = np.log1p((steps - size) / size).sum(axis=0)
    if odd:
        log = log + 0.5 * np.log1p((2 * z - size) / size) + _half_step(z)
    return np.expm1(sign * log)


def _half_step(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """log of Gamma(z + 1/2)/(Gamma(z) sqrt(z))."""
    steps = z + np.arange(_STIRLING).reshape(-1, *[1] * z.ndim) + 0.5
    shifted = 1 / (z + _STIRLING)
    x = shifted**2
    series = -1 / 8 + x * (1 / 192 + x * (-1 / 640 + x * (17 / 14336 - x * 31 / 18432)))
    return series * shifted + 0.5 * np.log1p(-0.25 / steps**2).sum(axis=0)


@dataclass(frozen=True)
class BatchPrior:
    """Law of the mean mu_B and the standard deviation sigma_B of one batch of hidden values.

    Made by `batch_prior` (from moments) or `estimate_batch_prior` (from data).

    Attributes
    ----------
    batch_size : int
        M.
    mean, std, kurtosis : float
        Population mean mu_P, standard deviation sigma_P and *excess* kurtosis rho of h.
    law : str
        "gaussian", "published", "truncated" or "chi"; see `batch_prior`.
    mean_subtracted : bool
        Whether sigma_B is measured about mu_B (chi law: M - 1 degrees of freedom) or about
        mu_P (M degrees).
    lower : float
        Smallest sigma_B/sigma_P of the truncated law.
    """

    batch_size: int
    mean: float
    std: float
    kurtosis: float
    law: Law
    mean_subtracted: bool
    lower: float

    @property
    def dof(self) -> int:
        """Degrees of freedom of the chi law."""
        return self.batch_size - self.mean_subtracted

    @property
    def mu_mean(self) -> float:
        """E[mu_B] = mu_P."""
        return self.mean

    @property
    def mu_variance(self) -> float:
        """Var[mu_B] = sigma_P^2 / M."""
        return self.std**2 / self.batch_size

    @property
    def sigma_mean(self) -> float:
        """E[sigma_B]."""
        if self.law == "chi":
            return self.std * (1 + self._excess(1))
        return self.std

    @property
    def sigma_variance(self) -> float:
        """Var[sigma_B]; sigma_P^2 (rho + 2)/(4 M) for the Gaussian law."""
        if self.law == "chi":
            mean = self._excess(1)  # E[sigma_B^2] - E[sigma_B]^2, both less sigma_P^2
            return self.std**2 * (self._excess(2) - mean * (2 + mean))
        if self.law == "truncated":
            sigma, weights = self.sigma_nodes()
            return float(self.std**2 * weights @ (sigma - 1) ** 2)
        return self.width**2

    def inverse_moment(self, k: int) -> float:
        """E[(sigma_P/sigma_B)^k].

        Raises
        ------
        ValueError
            Where it is infinite: always for the Gaussian laws, whose density is positive at
            sigma_B = 0, and for the chi law unless its degrees of freedom exceed `k`.
        """
        return 1 + self._inverse_excess(integer("k", k, low=1))

    @property
    def inverse_bias(self) -> float:
        """E[sigma_P/sigma_B] - 1, the factor of the first-order remainder R_f.

        Exact for the chi and the truncated law; for the Gaussian ones, where the expectation
        does not exist, the leading term Var[sigma_B]/sigma_P^2 of its expansion in 1/M.
        """
        if self.law in ("gaussian", "published"):
            return self.sigma_variance / self.std**2
        return self._inverse_excess(1)

    def sample(
        self, size: int, *, seed: int | np.random.SeedSequence | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Draw `size` independent pairs; returns the arrays (mu_B, sigma_B).

        The untruncated Gaussian laws can return sigma_B <= 0: that is how they are defined.
        """
        size = integer("size", size, low=0)
        rng = np.random.default_rng(seed)
        mu = self.mean + np.sqrt(self.mu_variance) * rng.standard_normal(size)
        if self.law == "chi":
            return mu, self.std * np.sqrt(rng.chisquare(self.dof, size) / self.batch_size)
        if self.law == "truncated" and self.width > 0:
            tail = special.ndtr(-(1 - self.lower) * self.std / self.width)
            draws = special.ndtri(tail + (1 - 2 * tail) * rng.random(size))
        else:
            draws = rng.standard_normal(size)
        return mu, np.asarray(self.std + self.width * draws)

    def mu_nodes(self, n: int = 48) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Nodes and weights for averages over (mu_B - mu_P)/sigma_P."""
        x, w = special.roots_hermitenorm(n)
        return x / np.sqrt(self.batch_size), w / w.sum()

    def sigma_nodes(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Nodes and weights for averages over sigma_B/sigma_P of functions up to 1/sigma_B^2.

        Raises
        ------
        ValueError
            For the untruncated Gaussian laws, and the chi law with at most 2 degrees.
        """
        if self.law == "truncated":
            width = self.width / self.std
            if width == 0.0:  # two values of equal weight: sigma_B does not fluctuate
                return np.ones(1), np.ones(1)
            reach = min(1 - self.lower, 10 * width)
            x, w = special.roots_legendre(96)
            w = w * np.exp(-0.5 * (reach * x / width) ** 2)
            return 1 + reach * x, w / w.sum()
        self._require_inverse(2)
        # Trapezoid in log sigma: the integrand is analytic and decays at both ends, to the left
        # only like exp((dof - 2) x) once 1/sigma^2 is in it.
        step = 0.3 / np.sqrt(2.0 * self.dof)
        left = 8 / np.sqrt(self.dof) + 40.0 / (self.dof - 2 + np.sqrt(self.dof))
        if self.dof < 8:
            left = 40.0 / (self.dof - 2)
        x = np.arange(-left, 8 / np.sqrt(self.dof), step)
        exponent = self.dof * x - 0.5 * self.batch_size * np.expm1(2 * x)
        w = np.exp(exponent - exponent.max())
        return np.exp(x), w / w.sum()

    @property
    def width(self) -> float:
        """Standard deviation of sigma_B under the Gaussian law, before any truncation."""
        scale = 1.0 if self.law == "published" else self.std
        return scale * float(np.sqrt((self.kurtosis + 2) / (4 * self.batch_size)))

    def _excess(self, k: int) -> float:
        """E[(sigma_B/sigma_P)^k] - 1 of the chi law."""
        return float(chi_excess(self.batch_size, self.dof, k))

    def _inverse_excess(self, k: int) -> float:
        """E[(sigma_P/sigma_B)^k] - 1, to full relative accuracy."""
        if self.law == "truncated":
            sigma, weights = self.sigma_nodes()
            return float(weights @ (sigma**-k - 1))
        self._require_inverse(k)
        return self._excess(-k)

    def _require_inverse(self, k: int) -> None:
        if self.law != "chi":
            raise ArgumentError(
                f"E[1/sigma_B^{k}] is infinite under law={self.law!r}: sigma_B reaches 0; "
                "use law='chi' or 'truncated'"
            )
        if self.dof <= k:
            raise ArgumentError(
                f"batch_size must be at least {k + 1 + self.mean_subtracted} for "
                f"E[1/sigma_B^{k}] to exist, got {self.batch_size}"
            )


def batch_prior(
    batch_size: int,
    *,
    mean: float = 0.0,
    std: float = 1.0,
    kurtosis: float = 0.0,
    law: Law = "gaussian",
    mean_subtracted: bool = True,
    lower: float = 0.25,
) -> BatchPrior:
    """Law of (mu_B, sigma_B) from the batch size and the moments of h.

    Parameters
    ----------
    batch_size : int
        M >= 2.
    mean, std, kurtosis : float
        Population mean, standard deviation (> 0) and excess kurtosis (>= -2; 0 for Gaussian h).
    law : {"gaussian", "published", "truncated", "chi"}
        mu_B ~ N(mean, std^2/M) always, independent of sigma_B, which is

        - "gaussian": N(std, std^2 (kurtosis + 2)/(4 M)), the leading order in 1/M;
        - "published": N(std, (kurtosis + 2)/(4 M)) as printed in section 2, without the factor
          std^2 (the same when std = 1);
        - "truncated": the first one given ``|sigma_B - std| < (1 - lower) std``;
        - "chi": exact for Gaussian h, M sigma_B^2/std^2 ~ chi^2 with M - 1 degrees of freedom
          (M if not `mean_subtracted`).
    mean_subtracted : bool
        Whether sigma_B is measured about mu_B; only the chi law depends on it.
    lower : float
        Truncation of sigma_B/std, in (0, 1).

    Returns
    -------
    BatchPrior
        With moments, samples and quadrature nodes of the law.

    Raises
    ------
    TypeError, ValueError
        For M < 2, std <= 0, kurtosis < -2, an unknown law, or law="chi" with kurtosis != 0.

    Notes
    -----
    Section 2 of the paper. Under the Gaussian laws E[1/sigma_B] and E[1/sigma_B^2] do not exist,
    since the density of sigma_B does not vanish at 0; the paper's expansion in 1/M is asymptotic.

    Theory: :eq:`eq-batch-prior` in :doc:`/batch_norm`.

    Examples
    --------
    >>> prior = batch_prior(32, std=2.0)
    >>> prior.mu_variance, prior.sigma_variance
    (0.125, 0.0625)
    >>> round(batch_prior(32, law="chi", mean_subtracted=False).inverse_moment(2), 6)
    1.066667
    """
    batch_size = integer("batch_size", batch_size, low=2)
    law = choice("law", law, get_args(Law))
    kurtosis = real_scalar("kurtosis", kurtosis, low=-2.0)
    if law == "chi" and kurtosis != 0.0:
        raise ArgumentError(
            f"law='chi' is that of Gaussian h: kurtosis must be 0, got {kurtosis!r}"
        )
    return BatchPrior(
        batch_size,
        real_scalar("mean", mean),
        real_scalar("std", std, low=0.0, low_open=True),
        kurtosis,
        law,
        bool(mean_subtracted),
        real_scalar("lower", lower, low=0.0, high=1.0, low_open=True, high_open=True),
    )


def estimate_batch_prior(
    h: ArrayLike,
    *,
    batch_size: int,
    law: Law = "gaussian",
    mean_subtracted: bool = True,
    lower: float = 0.25,
) -> BatchPrior:
    """Law of (mu_B, sigma_B) for batches of the hidden values `h`, moments estimated from them.

    Parameters
    ----------
    h : array_like, shape (P,)
        Hidden values w.x_j, finite and not all equal.
    batch_size, law, mean_subtracted, lower
        As for `batch_prior`. With law="chi" the kurtosis of the data is ignored.

    Returns
    -------
    BatchPrior
        With moments, samples and quadrature nodes of the law.

    Raises
    ------
    TypeError, ValueError
        As `batch_prior`, and for constant, empty or non-finite `h`.

    Notes
    -----
    Theory: :eq:`eq-batch-prior` in :doc:`/batch_norm`.

    Examples
    --------
    >>> estimate_batch_prior([-1.0, 1.0, -1.0, 1.0], batch_size=8).kurtosis
    -2.0
    """
    t, mean, std = standardize(h)
    kurtosis = 0.0 if law == "chi" else max(float(np.mean(t**4)) - 3.0, -2.0)
    return batch_prior(
        batch_size,
        mean=mean,
        std=std,
        kurtosis=kurtosis,
        law=law,
        mean_subtracted=mean_subtracted,
        lower=lower,
    )


class Standardized(NamedTuple):
    """Hidden values in units of their own standard deviation."""

    t: NDArray[np.float64]  # (h - mu_P)/sigma_P
    mean: float
    std: float


def standardize(h: ArrayLike) -> Standardized:
    """Standardize a sample `h` that is not constant."""
    h = real_array("h", h)
    if h.ndim != 1 or h.size < 2:
        raise ArgumentError(
            f"h must be one-dimensional with at least 2 values, got shape {h.shape}"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        mean = float(h.mean())
        std = float(h.std())
    # Beyond, sigma^2 or its inverse leaves the range of float64.
    if not (1e-150 < std < 1e150 or np.ptp(h) == 0.0):
        raise ArgumentError(
            f"h must have a standard deviation within 1e-150 .. 1e150, got values in "
            f"[{float(h.min())!r}, {float(h.max())!r}]"
        )
    # Rounding leaves a tiny spread in a constant array.
    if std <= 1e-13 * max(abs(mean), float(np.finfo(float).tiny)):
        raise ArgumentError(f"h must not be constant: every value is {mean!r}, so sigma_P = 0")
    return Standardized((h - mean) / std, mean, std)
