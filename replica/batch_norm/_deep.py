"""Gamma decay of every neuron of a batch-normalized multilayer perceptron (appendix C.4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from replica._core.arguments import ArgumentError, choice, integer, real_array
from replica._core.results import Result, over
from replica._core.student_values import refuse_jumps
from replica.students import LeakyReLU, Student, StudentLike, as_student

from ._prior import Law, estimate_batch_prior, standardize

__all__ = ["DeepGammaDecay", "deep_gamma_decay"]

Array = NDArray[np.float64]


Loss = Literal["cross-entropy", "squared", "half-squared"]
Hessian = Literal["exact", "gauss-newton"]

_BLOCK = 256  # samples whose layer Hessians are held at once


@dataclass(frozen=True, repr=False, kw_only=True)
class DeepGammaDecay(Result):
    """Decomposition of the loss of a batch-normalized perceptron; see `deep_gamma_decay`.

    Attributes
    ----------
    batch_size : int
    activation : LeakyReLU or Student
    loss : {"cross-entropy", "squared", "half-squared"}
    hessian : {"exact", "gauss-newton"}
        The problem, without its data.
    zeta, zeta_mean, zeta_std : tuple of ndarray
        Strength of every neuron, one array of shape (N_l,) per hidden layer, and its parts from
        mu_B and sigma_B. The exact Hessian can make it negative.
    kurtosis : tuple of ndarray
        Excess kurtosis of the hidden values that was used; 0 with law="chi", that of Gaussian ones.
    remainder : tuple of ndarray
        First-order remainder of every neuron.
    pn_loss, penalty, total : float
        Loss under population normalization, sum of zeta gamma^2, and
        ``pn_loss + sum of remainder + penalty``.
    """

    _problem = ("batch_size", "activation", "loss", "hessian")
    _shown_first = "zeta"

    batch_size: int
    activation: LeakyReLU | Student
    loss: Loss
    hessian: Hessian
    zeta: tuple[Array, ...] = over("layer", "neuron")
    zeta_mean: tuple[Array, ...] = over("layer", "neuron")
    zeta_std: tuple[Array, ...] = over("layer", "neuron")
    kurtosis: tuple[Array, ...] = over("layer", "neuron")
    remainder: tuple[Array, ...] = over("layer", "neuron")
    pn_loss: float
    penalty: float
    total: float


@dataclass(frozen=True)
class _Layer:
    weights: Array  # of the map from the layer below
    gain: Array  # gamma/sigma_P
    gamma: Array
    t: Array  # (P, N_l), standardized hidden values
    slope: Array
    bend: Array
    kurtosis: Array
    bias: Array  # E[sigma_P/sigma_B] - 1


def deep_gamma_decay(
    weights: Sequence[ArrayLike],
    x: ArrayLike,
    y: ArrayLike,
    *,
    batch_size: int,
    gammas: Sequence[ArrayLike] | None = None,
    betas: Sequence[ArrayLike] | None = None,
    output_bias: ArrayLike = 0.0,
    activation: StudentLike = "tanh",
    loss: Loss = "cross-entropy",
    hessian: Hessian = "exact",
    law: Law = "gaussian",
    mean_subtracted: bool = True,
) -> DeepGammaDecay:
    """Strengths zeta_i^l of gamma decay for each neuron of a small multilayer perceptron.

    Parameters
    ----------
    weights : sequence of array_like
        ``weights[l]`` of shape (N_{l+1}, N_l); all but the last feed a batch-normalized layer
        z^l = g(gamma (W z^{l-1} - mu_P)/sigma_P + beta), the last one is a plain affine map.
    x : array_like, shape (P, N_0)
        Inputs.
    y : array_like
        Targets, shape (P, K) for the squared losses; class numbers 0..K-1, shape (P,), for
        "cross-entropy".
    batch_size : int
        M >= 2.
    gammas, betas : sequence of array_like, optional
        Scales (default 1) and shifts (default 0) of each normalized layer, scalars or (N_l,).
    output_bias : array_like
        Added to the outputs, one number or shape (K,).
    activation : str, LeakyReLU, Student or callable
        g, as a student anywhere: "tanh", "relu", ``scipy.special.expit``, ... without jumps.
    loss : {"cross-entropy", "squared", "half-squared"}
        Mean over samples of softmax cross-entropy, |o - y|^2, or half of it.
    hessian : {"exact", "gauss-newton"}
        "exact" is the whole second derivative of the loss with respect to the normalized values;
        "gauss-newton" leaves out the terms with g'', which are not positive and not small unless
        the fit is good. With piecewise-linear g the two agree (almost everywhere).
    law, mean_subtracted
        Law of sigma_B that fixes the remainder, as for `gamma_decay`.

    Returns
    -------
    DeepGammaDecay
        Strength and remainder of every neuron, and the loss they add up to.

    Raises
    ------
    TypeError, ValueError
        For shapes that do not fit, fewer than two matrices, M < 2, a neuron whose hidden value
        does not vary over the samples, non-finite data, or unknown options.

    Notes
    -----
    Appendix C.4: zeta_i = mean_j H_ii(j)/2 [ (rho_i + 2)/(4 M) t_ij^2 + 1/M ], with H the Hessian
    of the loss of sample j in the normalized values of the layer and t_ij the standardized hidden
    value. H is found layer by layer from the output down, H <- W^T H W, which is exact because
    every sample has its own. The statistics of different neurons are taken as independent of each
    other and of the sample, and the noise of lower layers as not changing the population
    statistics of the upper ones; the error is then O(1/M^2).

    Theory: :eq:`eq-deep` in :doc:`/batch_norm`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> weights = [rng.standard_normal((4, 3)), rng.standard_normal((2, 4))]
    >>> result = deep_gamma_decay(weights, rng.standard_normal((50, 3)), np.arange(50) % 2,
    ...                           batch_size=16)
    >>> [zeta.shape for zeta in result.zeta]
    [(4,)]
    """
    batch_size = integer("batch_size", batch_size, low=2)
    g = as_student(activation, "activation")
    refuse_jumps(g, "activation")
    loss = choice("loss", loss, get_args(Loss))
    exact = choice("hessian", hessian, get_args(Hessian)) == "exact"
    x = real_array("x", x)
    matrices = [real_array(f"weights[{i}]", w) for i, w in enumerate(weights)]
    if len(matrices) < 2:
        raise ArgumentError(f"weights must hold at least 2 matrices, got {len(matrices)}")
    if x.ndim != 2:
        raise ArgumentError(f"x must have shape (P, N_0), got {x.shape}")
    width = x.shape[1]
    for i, w in enumerate(matrices):
        if w.ndim != 2 or w.shape[1] != width:
            raise ArgumentError(f"weights[{i}] must have shape (any, {width}), got {w.shape}")
        width = w.shape[0]
    hidden = matrices[:-1]
    scales = _per_neuron("gammas", gammas, hidden, 1.0)
    shifts = _per_neuron("betas", betas, hidden, 0.0)

    layers = []
    z = x
    for i, (w, gamma, beta) in enumerate(zip(hidden, scales, shifts, strict=True)):
        h = z @ w.T
        t = np.empty_like(h)
        sigma, kurtosis, bias = (np.empty(len(w)) for _ in range(3))
        for k in range(len(w)):
            try:
                found = standardize(h[:, k])
                prior = estimate_batch_prior(
                    h[:, k], batch_size=batch_size, law=law, mean_subtracted=mean_subtracted
                )
            except ValueError as error:
                raise ArgumentError(f"neuron {k} of hidden layer {i + 1}: {error}") from None
            t[:, k], sigma[k] = found.t, found.std
            kurtosis[k], bias[k] = prior.kurtosis, prior.inverse_bias
        field = gamma * t + beta
        z, slope, bend = g.values(field), g.slopes(field), g.curvatures(field)
        layers.append(_Layer(w, gamma / sigma, gamma, t, slope, bend, kurtosis, bias))
    bias_out = real_array("output_bias", output_bias)
    if bias_out.shape not in ((), (width,)):
        raise ArgumentError(
            f"output_bias must be a number or have shape ({width},), got {bias_out.shape}"
        )
    output = z @ matrices[-1].T + bias_out
    losses, gradient, curvature = _output_loss(loss, output, y)

    n_samples = len(x)
    diagonals = [np.empty_like(layer.t) for layer in layers]
    gradients = [np.empty_like(layer.t) for layer in layers]
    for start in range(0, n_samples, _BLOCK):
        block = slice(start, start + _BLOCK)
        G, H = gradient[block], curvature(block)
        up = matrices[-1]
        for i in reversed(range(len(layers))):
            layer = layers[i]
            slope = layer.slope[block]
            G = G @ up
            H = np.matmul(up.T, np.matmul(H, up)) * slope[:, :, None] * slope[:, None, :]
            if exact:
                index = np.arange(len(layer.weights))
                H[:, index, index] += layer.bend[block] * G
            G = G * slope
            gradients[i][block] = G
            diagonals[i][block] = np.diagonal(H, axis1=1, axis2=2)
            up = layer.gain[:, None] * layer.weights

    zeta_mean = tuple(np.mean(d, axis=0) / (2 * batch_size) for d in diagonals)
    zeta_std = tuple(
        (layer.kurtosis + 2) * np.mean(d * layer.t**2, axis=0) / (8 * batch_size)
        for d, layer in zip(diagonals, layers, strict=True)
    )
    zeta = tuple(a + b for a, b in zip(zeta_mean, zeta_std, strict=True))
    remainder = tuple(
        layer.gamma * layer.bias * np.mean(G * layer.t, axis=0)
        for G, layer in zip(gradients, layers, strict=True)
    )
    pn_loss = float(np.mean(losses))
    penalty = float(sum(np.sum(z * layer.gamma**2) for z, layer in zip(zeta, layers, strict=True)))
    return DeepGammaDecay(
        batch_size=batch_size,
        activation=g,
        loss=loss,
        hessian=hessian,
        zeta=zeta,
        zeta_mean=zeta_mean,
        zeta_std=zeta_std,
        kurtosis=tuple(layer.kurtosis for layer in layers),
        remainder=remainder,
        pn_loss=pn_loss,
        penalty=penalty,
        total=pn_loss + penalty + float(sum(np.sum(r) for r in remainder)),
    )


def _per_neuron(
    name: str, values: Sequence[ArrayLike] | None, hidden: list[Array], default: float
) -> list[Array]:
    if values is None:
        values = [default] * len(hidden)
    if len(values) != len(hidden):
        raise ArgumentError(
            f"{name} must have one entry per hidden layer ({len(hidden)}), got {len(values)}"
        )
    result = []
    for i, (value, w) in enumerate(zip(values, hidden, strict=True)):
        array = real_array(f"{name}[{i}]", value)
        if array.shape not in ((), (len(w),)):
            raise ArgumentError(
                f"{name}[{i}] must be a number or have shape ({len(w)},), got {array.shape}"
            )
        result.append(np.broadcast_to(array, len(w)))
    return result


class _OutputLoss(NamedTuple):
    value: Array  # of every sample
    gradient: Array
    hessian: Callable[[slice], Array]  # of a block of samples


def _output_loss(loss: Loss, output: Array, y: ArrayLike) -> _OutputLoss:
    n, k = output.shape
    if loss == "cross-entropy":
        labels = np.asarray(y)
        if labels.shape != (n,) or labels.dtype.kind not in "iu":
            raise ArgumentError(
                f"y must hold {n} integer class numbers, "
                f"got shape {labels.shape} of type {labels.dtype}"
            )
        if labels.size and (labels.min() < 0 or labels.max() >= k):
            raise ArgumentError(f"y must lie in 0..{k - 1}, got {labels.min()}..{labels.max()}")
        log_p = special.log_softmax(output, axis=1)
        p = np.exp(log_p)
        gradient = p.copy()
        gradient[np.arange(n), labels] -= 1

        def hessian(block: slice) -> Array:
            q = p[block]
            return q[:, :, None] * np.eye(k) - q[:, :, None] * q[:, None, :]

        return _OutputLoss(-log_p[np.arange(n), labels], gradient, hessian)
    target = real_array("y", y)
    if target.shape != (n, k):
        raise ArgumentError(f"y must have shape ({n}, {k}), got {target.shape}")
    scale = 1.0 if loss == "half-squared" else 2.0
    error = output - target
    return _OutputLoss(
        0.5 * scale * np.sum(error**2, axis=1),
        scale * error,
        lambda block: np.broadcast_to(scale * np.eye(k), (len(error[block]), k, k)),
    )
