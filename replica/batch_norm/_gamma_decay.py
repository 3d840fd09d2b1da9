"""Theorem 1: batch normalization as population normalization plus gamma decay, on data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from replica._core.arguments import (
    ArgumentError,
    ArgumentTypeError,
    choice,
    integer,
    real_array,
    real_scalar,
)
from replica._core.results import Result
from replica._core.suggest import suggestion
from replica.students import SOFTPLUS, LeakyReLU, StudentLike, as_piecewise, as_student

from ._prior import Law, Noise, batch_prior, chi_excess, estimate_batch_prior, standardize

__all__ = [
    "GLM",
    "GammaDecay",
    "as_glm",
    "gamma_decay",
    "gamma_decay_strength",
    "pn_to_wn",
    "wn_to_pn",
]

Function = Callable[[NDArray[np.float64]], NDArray[np.float64]]

# A of the compiled kernels: of a piecewise-linear mean function by its slope, of softplus(k h)/k
# by k, of the logistic function.
PIECEWISE, SMOOTH, LOGISTIC = range(3)


class Kernel(NamedTuple):
    """Which compiled A serves a loss, and its parameter."""

    kind: int
    parameter: float


@dataclass(frozen=True)
class GLM:
    """Loss A(h) - y h of a generalized linear model, by A and its first two derivatives.

    Parameters
    ----------
    name : str
        For labels.
    A, dA, d2A : callable
        A, A' and A'', each from an array to an array of the same shape.
    kernel : Kernel, optional
        The compiled form of A that `sampled_loss` needs; the losses of `as_glm` have one.

    Examples
    --------
    >>> poisson = GLM("poisson", np.exp, np.exp, np.exp)
    >>> float(poisson.d2A(np.zeros(1))[0])
    1.0
    """

    name: str
    A: Function
    dA: Function
    d2A: Function
    kernel: Kernel | None = None


def _softplus_integral(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Integral of log(1 + exp(x)) from -infinity, that is -Li2(-exp(x))."""
    tail = -special.spence(1.0 + np.exp(-np.abs(x)))
    return np.where(x < 0, tail, np.pi**2 / 6 + 0.5 * x**2 - tail)


def as_glm(
    activation: StudentLike | GLM | Literal["logistic"], *, sharpness: float | None = None
) -> GLM:
    """Return the GLM loss meant by `activation`.

    Parameters
    ----------
    activation : {"linear", "relu", "softplus", "logistic"}, LeakyReLU or GLM
        The mean function A': a student by its name, 1/(1 + exp(-h)), or the loss itself.
    sharpness : float, optional
        The k of softplus(k h)/k for "softplus", in (0, inf]: 1, the default, is the paper's
        surrogate of ReLU, infinity ReLU itself.

    Returns
    -------
    GLM
        A, A' and A'', named.

    Raises
    ------
    TypeError, ValueError
        For an unknown activation or one whose A has no closed form here, or a sharpness out of
        range or of another activation.

    Examples
    --------
    >>> as_glm("linear").A(np.array([2.0]))
    array([2.])
    """
    text = activation if isinstance(activation, str) else None
    refusal = ArgumentError(
        "activation must be 'linear', 'relu', 'softplus', 'logistic', a LeakyReLU(slope) or a "
        f"GLM(name, A, dA, d2A), got {activation!r}{suggestion(text, _NAMES) if text else ''}"
    )
    if text is not None and text not in _NAMES:
        raise refusal  # `as_student` would name students that do not serve here
    glm = student = None
    if isinstance(activation, GLM):
        glm = activation
    elif text == "logistic":
        glm = _LOGISTIC
    else:
        student = as_student(activation, "activation")
    if student == SOFTPLUS:
        k = 1.0 if sharpness is None else sharpness
        k = real_scalar("sharpness", k, low=0.0, low_open=True, finite=False)
        return _piecewise_glm(LeakyReLU(0.0)) if np.isinf(k) else _softplus_glm(k)
    if sharpness is not None:
        raise ArgumentError(f"sharpness is that of 'softplus', got activation {activation!r}")
    if glm is not None:
        return glm
    if isinstance(student, LeakyReLU):
        return _piecewise_glm(student)
    raise refusal


def _piecewise_glm(student: LeakyReLU) -> GLM:
    a = student.slope
    return GLM(
        student.name,
        lambda h: 0.5 * h * np.where(h > 0, h, a * h),
        lambda h: np.where(h > 0, h, a * h),
        lambda h: a + (1 - a) * np.heaviside(h, 0.5),
        Kernel(PIECEWISE, a),
    )


def _softplus_glm(k: float) -> GLM:
    return GLM(
        "softplus",
        lambda h: _softplus_integral(k * h) / k**2,
        lambda h: np.logaddexp(0.0, k * h) / k,
        lambda h: special.expit(k * h),
        Kernel(SMOOTH, k),
    )


_NAMES = ("linear", "relu", "softplus", "logistic")
_LOGISTIC = GLM(
    "logistic",
    lambda h: np.logaddexp(0.0, h),
    special.expit,
    lambda h: special.expit(h) * special.expit(-h),
    Kernel(LOGISTIC, 0.0),
)


@dataclass(frozen=True, repr=False)
class GammaDecay(Result):
    """The decomposition of the batch-normalized loss of one neuron; see `gamma_decay`.

    Attributes
    ----------
    batch_size : int
    gamma, beta : float
    activation : str
        The problem, without its data.
    zeta : float
        Strength zeta(h) = zeta_mean + zeta_std.
    zeta_mean, zeta_std : float
        The part of mu_B, mean_j A''(h_j)/(2 M), and of sigma_B, (rho + 2) I/(8 M).
    fisher : float
        I(gamma) = mean_j A''(h_j) ((w.x_j - mu_P)/sigma_P)^2.
    mean_curvature : float
        mean_j A''(h_j).
    kurtosis : float
        Excess kurtosis rho used.
    penalty : float
        zeta gamma^2.
    pn_loss, remainder, total : float or None
        Loss under population normalization, first-order remainder R_f, and
        ``pn_loss + remainder + penalty``; None without targets.
    real_batch : float or None
        What a real batch, which contains the sample it normalizes, adds to `total` at order 1/M.
    """

    _problem = ("batch_size", "gamma", "beta", "activation")

    batch_size: int
    gamma: float
    beta: float
    activation: str
    zeta: float
    zeta_mean: float
    zeta_std: float
    fisher: float
    mean_curvature: float
    kurtosis: float
    penalty: float
    pn_loss: float | None
    remainder: float | None
    total: float | None
    real_batch: float | None


def gamma_decay(
    h: ArrayLike,
    y: ArrayLike | None = None,
    *,
    batch_size: int,
    gamma: float,
    beta: float = 0.0,
    activation: StudentLike | GLM = "softplus",
    kurtosis: float | None = None,
    law: Law = "gaussian",
    mean_subtracted: bool = True,
) -> GammaDecay:
    """Decompose the batch-normalized loss of a neuron: population normalization + gamma decay.

    Parameters
    ----------
    h : array_like, shape (P,)
        Hidden values w.x_j before normalization, finite and not all equal.
    y : array_like, shape (P,), optional
        Targets of the loss A(h) - y h; without them only the penalty can be given.
    batch_size : int
        M >= 2.
    gamma, beta : float
        Scale and shift after normalization.
    activation : {"softplus", "linear", "relu", "logistic"}, LeakyReLU or GLM
        The loss, see `as_glm`; a `GLM` has your own A, A' and A''. By default softplus, which
        stands for ReLU in the paper.
    kurtosis : float, optional
        Excess kurtosis rho; estimated from `h` by default (0 with law="chi").
    law : {"gaussian", "published", "truncated", "chi"}
        Law of sigma_B that gives R_f its factor E[sigma_P/sigma_B] - 1; see `batch_prior`.
    mean_subtracted : bool
        Whether sigma_B is measured about mu_B (chi law only).

    Returns
    -------
    GammaDecay
        Loss, remainder and penalty, and the parts of the strength.

    Raises
    ------
    TypeError, ValueError
        For constant or non-finite `h`, M < 2, targets of another length, or an M at which
        E[1/sigma_B] does not exist.

    Notes
    -----
    Theorem 1 with h_j = gamma (w.x_j - mu_P)/sigma_P + beta:
    zeta(h) = (rho + 2) I/(8 M) + mean_j A''(h_j)/(2 M). The first-order term
    R_f = mean_j (A'(h_j) - y_j)(h_j - beta)(E[sigma_P/sigma_B] - 1), which the paper drops, is of
    the same order 1/M and vanishes only on average over targets drawn from the model itself.

    The error is O(1/M^2) for noise independent of the sample, as Theorem 1 supposes. In a real
    batch the sample moves its own mean and variance, which costs a further term of order 1/M,
    given as `real_batch` (statistics about mu_B, batches drawn with replacement).

    Theory: :eq:`eq-theorem-1`, :eq:`eq-gamma-decay` and :eq:`eq-real-batch` in :doc:`/batch_norm`.

    Examples
    --------
    >>> h = np.random.default_rng(0).standard_normal(1000)
    >>> result = gamma_decay(h, batch_size=32, gamma=1.0, activation="linear", kurtosis=0.0)
    >>> round(result.zeta * 32, 12), round(result.zeta_std * 32, 12)
    (0.75, 0.25)
    """
    batch_size = integer("batch_size", batch_size, low=2)
    gamma, beta = real_scalar("gamma", gamma), real_scalar("beta", beta)
    glm = as_glm(activation)
    t, mean, std = standardize(h)
    if kurtosis is None:
        prior = estimate_batch_prior(
            h, batch_size=batch_size, law=law, mean_subtracted=mean_subtracted
        )
    else:
        prior = batch_prior(
            batch_size,
            mean=mean,
            std=std,
            kurtosis=kurtosis,
            law=law,
            mean_subtracted=mean_subtracted,
        )
    field = gamma * t + beta
    curvature = evaluate(glm.d2A, field, "A''")
    fisher = float(np.mean(curvature * t**2))
    mean_curvature = float(np.mean(curvature))
    zeta_mean = mean_curvature / (2 * batch_size)
    zeta_std = (prior.kurtosis + 2) * fisher / (8 * batch_size)
    zeta = zeta_mean + zeta_std
    pn_loss = remainder = total = real_batch = None
    if y is not None:
        y = targets(y, t.size)
        error = evaluate(glm.dA, field, "A'") - y
        pn_loss = float(np.mean(evaluate(glm.A, field, "A") - y * field))
        bias = prior.inverse_bias
        remainder = float(np.mean(error * gamma * t) * bias)
        total = pn_loss + remainder + zeta * gamma**2
        rho, skewness = float(np.mean(t**4)) - 3, float(np.mean(t**3))
        # E[(t - m)/r - t | the sample is in the batch], to order 1/M.
        shift = (0.375 * (rho + 2) - 0.5 * (t**2 - 2)) * t - t + 0.5 * skewness
        real_batch = float(
            gamma * np.mean(error * (shift / batch_size - bias * t))
            + 0.5 * gamma**2 * skewness * np.mean(curvature * t) / batch_size
            + gamma**2 * (rho - prior.kurtosis) * fisher / (8 * batch_size)
        )
    return GammaDecay(
        batch_size=batch_size,
        gamma=gamma,
        beta=beta,
        activation=glm.name,
        zeta=zeta,
        zeta_mean=zeta_mean,
        zeta_std=zeta_std,
        fisher=fisher,
        mean_curvature=mean_curvature,
        kurtosis=prior.kurtosis,
        penalty=zeta * gamma**2,
        pn_loss=pn_loss,
        remainder=remainder,
        total=total,
        real_batch=real_batch,
    )


def targets(y: ArrayLike, size: int) -> NDArray[np.float64]:
    """Return `y` as an array of `size` finite numbers."""
    y = real_array("y", y)
    if y.shape != (size,):
        raise ArgumentError(f"y must have shape ({size},) like h, got {y.shape}")
    return y


def evaluate(function: Function, h: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """Return ``function(h)``, checked since it may be the user's own."""
    values = np.asarray(function(h), dtype=float)
    if values.shape != h.shape or not np.isfinite(values).all():
        raise ArgumentError(f"{name} must return finite values of shape {h.shape}")
    return values


def gamma_decay_strength(
    batch_size: ArrayLike,
    *,
    student: StudentLike = "linear",
    noise: Noise = "both",
    loss: Literal["squared", "half-squared"] = "squared",
    exact: bool = False,
    mean_subtracted: bool = True,
) -> Any:
    """Strength zeta of gamma decay of a neuron with Gaussian inputs and mean squared loss.

    Parameters
    ----------
    batch_size : int or array_like of int
        M >= 2; with `exact` and the noise of sigma_B, M >= 4 (3 without mean subtraction).
    student : {"linear", "relu"} or LeakyReLU
        Activation g.
    noise : {"both", "mean", "std"}
        The noise of mu_B, that of sigma_B, or both. The teacher-student problem of section 4 has
        that of sigma_B only.
    loss : {"squared", "half-squared"}
        Convention of the mean loss to which zeta gamma^2 is added: mean_j (y_j - g)^2, as in
        section 4 of the paper, or half of it, as in appendix C.3.
    exact : bool
        Exact in M (targets given by the noiseless student at gamma = 1) instead of the leading
        order in 1/M: the Gamma functions of appendix C.3, generalized to a kink of g. The two
        parts then do not add up, since mu_B is divided by sigma_B.
    mean_subtracted : bool
        Whether sigma_B is measured about mu_B: M - 1 degrees of freedom, as in C.3, or M.
        Used by `exact` only.

    Returns
    -------
    float or ndarray
        zeta, of the shape of `batch_size`.

    Raises
    ------
    TypeError, ValueError
        For bad options or a batch size below the limits above.

    Notes
    -----
    Leading order, half-squared: k/(4 M) from sigma_B and k/(2 M) from mu_B, with
    k = (1 + slope^2)/2, the mean of g'^2. Hence linear 1/(2 M) and ReLU 1/(4 M) for the squared
    loss with sigma_B only, and 3/(4 M) for the linear student, half-squared loss, both.

    In the sum convention, energy = (1/2) sum_j (y_j - g)^2 + (zeta_sum/2) N gamma^2, the same
    penalty has zeta_sum = alpha zeta ("squared") = 2 alpha zeta ("half-squared").

    Theory: :eq:`eq-strength` in :doc:`/batch_norm`.

    Examples
    --------
    >>> gamma_decay_strength(16, student="relu", noise="std") == 1 / 64
    True
    >>> round(32 * gamma_decay_strength(32, loss="half-squared", exact=True), 4)
    0.8809
    """
    a = as_piecewise(student, what="gamma_decay_strength").slope
    size = batch_sizes(batch_size)
    k = 0.5 * (1 + a**2)
    choice("noise", noise, get_args(Noise))
    m = 0.0 * size if noise == "std" else 1 / np.sqrt(size)  # deviation of mu_B/sigma_P
    if not exact:
        zeta = k * (0.5 * m**2 + (0.0 if noise == "mean" else 0.25 / size))
    else:
        first = second = np.zeros_like(size)  # E[sigma_P/sigma_B] - 1, E[(sigma_P/sigma_B)^2] - 1
        if noise != "mean":
            dof = size - bool(mean_subtracted)
            if (dof <= 2).any():
                raise ArgumentError(
                    f"batch_size must be at least {3 + bool(mean_subtracted)} for E[1/sigma_B^2] "
                    f"to exist, got {int(size.min())}"
                )
            first, second = chi_excess(size, dof, -1), chi_excess(size, dof, -2)
        # E[g(t - mu) g(t)] = k + kink for Gaussian t and mu: the arc-cosine kernel
        kink = 0.5 * (1 - a) ** 2 / np.pi * (m - np.arctan(m))
        square = second - 2 * first + (1 + second) * m**2
        zeta = 0.5 * (k * square - 2 * (1 + first) * kink)
    if choice("loss", loss, ("squared", "half-squared")) == "squared":
        zeta = 2 * zeta
    return float(zeta) if zeta.ndim == 0 else zeta


def batch_sizes(batch_size: ArrayLike) -> NDArray[np.float64]:
    """Check one batch size or an array of them; returned as floats."""
    if np.ndim(batch_size) == 0:
        return np.asarray(float(integer("batch_size", batch_size, low=2)))
    size = np.asarray(batch_size)
    if size.dtype.kind not in "iu":
        raise ArgumentTypeError(f"batch_size must hold integers, got an array of type {size.dtype}")
    return real_array("batch_size", size, low=2)


def pn_to_wn(
    gamma: float, beta: float, w: ArrayLike, *, input_variance: float, input_mean: ArrayLike = 0.0
) -> tuple[float, float]:
    """Parameters (v, b) of the weight-normalized neuron that equals a population-normalized one.

    Parameters
    ----------
    gamma, beta : float
        Of h = gamma (w.x - mu_P)/sigma_P + beta.
    w : array_like, shape (N,)
        Weights, not all zero.
    input_variance : float
        a > 0: the inputs are uncorrelated, each of variance a.
    input_mean : array_like
        Mean of the inputs, one number or shape (N,).

    Returns
    -------
    v, b : float
        Of h = v w.x/|w| + b.

    Raises
    ------
    TypeError, ValueError
        For a zero or non-finite `w`, or input_variance <= 0.

    Notes
    -----
    Eq. 4: sigma_P = sqrt(a) |w| and mu_P = w.mean, so v = gamma/sqrt(a) and
    b = beta - gamma mu_P/(sqrt(a) |w|). With a = 1/N, v = sqrt(N) gamma.

    Theory: :eq:`eq-weight-norm` in :doc:`/batch_norm`.

    Examples
    --------
    >>> pn_to_wn(2.0, 1.0, [3.0, 4.0], input_variance=4.0, input_mean=[5.0, 0.0])
    (1.0, -2.0)
    """
    scale, offset = _population(w, input_variance, input_mean)
    gamma, beta = real_scalar("gamma", gamma), real_scalar("beta", beta)
    return gamma / scale, beta - gamma * offset / scale


def wn_to_pn(
    v: float, b: float, w: ArrayLike, *, input_variance: float, input_mean: ArrayLike = 0.0
) -> tuple[float, float]:
    """Parameters (gamma, beta) of population normalization from (v, b); inverse of `pn_to_wn`.

    Parameters
    ----------
    v, b : float
        Of h = v w.x/|w| + b.
    w, input_variance, input_mean
        As for `pn_to_wn`.

    Returns
    -------
    gamma, beta : float
        Of h = gamma (w.x - mu_P)/sigma_P + beta.

    Raises
    ------
    TypeError, ValueError
        As for `pn_to_wn`.

    Notes
    -----
    Theory: :eq:`eq-weight-norm` in :doc:`/batch_norm`.

    Examples
    --------
    >>> wn_to_pn(1.0, 0.5, [3.0, 4.0], input_variance=4.0)
    (2.0, 0.5)
    """
    scale, offset = _population(w, input_variance, input_mean)
    v, b = real_scalar("v", v), real_scalar("b", b)
    return v * scale, b + v * offset


def _population(w: ArrayLike, input_variance: float, input_mean: ArrayLike) -> tuple[float, float]:
    """Return (sqrt(a), w.mean/|w|)."""
    w, mean = real_array("w", w), real_array("input_mean", input_mean)
    a = real_scalar("input_variance", input_variance, low=0.0, low_open=True)
    if w.ndim != 1 or mean.shape not in ((), w.shape):
        raise ArgumentError(
            f"w must be a vector and input_mean a number or as long as w, got shapes "
            f"{w.shape} and {mean.shape}"
        )
    norm = float(np.linalg.norm(w))
    if norm == 0.0:
        raise ArgumentError("w must not be zero")
    return float(np.sqrt(a)), float(np.sum(w * mean)) / norm
