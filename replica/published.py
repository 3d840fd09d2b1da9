"""The paper's closed forms exactly as published, named by equation: Luo et al. (ICLR 2019).

They are kept to be compared with; `solve_equilibrium` holds what the library trusts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._core.arguments import broadcast, real_array

__all__ = ["linear_decay_error", "linear_sgd_error", "relu_sgd_error"]


def linear_sgd_error(alpha: ArrayLike, S: ArrayLike) -> NDArray[np.float64]:
    """Section 4.1: linear student, vanilla SGD to the end (zeta = 0).

    1 - alpha + alpha S/(1 - alpha) below alpha = 1, S/(alpha - 1) above; at 1 it diverges unless
    S = 0.

    Parameters
    ----------
    alpha, S : array_like
        Load P/N > 0 and variance of the label noise >= 0.

    Returns
    -------
    ndarray
        The generalization error, of the broadcast shape.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type, out of range, or the shapes do not broadcast.

    Notes
    -----
    Theory: :eq:`eq-ridgeless` in :doc:`/theory`.

    Examples
    --------
    >>> linear_sgd_error([0.5, 2.0], 0.25)
    array([0.75, 0.25])
    """
    alpha_, S_ = _load_and_noise(alpha, S)
    with np.errstate(divide="ignore", invalid="ignore"):
        below = 1 - alpha_ + alpha_ * S_ / (1 - alpha_)
        above = S_ / (alpha_ - 1)
    at = np.where(S_ > 0, np.inf, 0.0)
    return np.where(alpha_ < 1, below, np.where(alpha_ > 1, above, at))


def linear_decay_error(alpha: ArrayLike, S: ArrayLike, zeta: ArrayLike) -> NDArray[np.float64]:
    """Section 4.1: linear student with decay, S d(zeta G)/d zeta - zeta^2 dG/d zeta.

    G = [1 - alpha - zeta + sqrt((zeta + (1 + sqrt(alpha))^2)(zeta + (1 - sqrt(alpha))^2))]/(2 zeta)
    is the response function of Krogh and Hertz (1992). Needs zeta > 0, and loses digits to
    cancellation where zeta is small and alpha > 1: `gen_error` does not.

    Parameters
    ----------
    alpha, S, zeta : array_like
        Load P/N > 0, variance of the label noise >= 0, weight decay > 0 (sum convention).

    Returns
    -------
    ndarray
        The generalization error, of the broadcast shape.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type, out of range, or the shapes do not broadcast.

    Notes
    -----
    Theory: :eq:`eq-ridge-error` in :doc:`/theory`.

    Examples
    --------
    >>> round(float(linear_decay_error(2.0, 0.25, 0.25)), 6)
    0.175391
    """
    alpha_, S_, zeta_ = broadcast(
        alpha=real_array("alpha", alpha, low=0.0, low_open=True),
        S=real_array("S", S, low=0.0),
        zeta=real_array("zeta", zeta, low=0.0, low_open=True),
    )
    root = np.sqrt((zeta_ + (1 + np.sqrt(alpha_)) ** 2) * (zeta_ + (1 - np.sqrt(alpha_)) ** 2))
    G = (1 - alpha_ - zeta_ + root) / (2 * zeta_)
    G_zeta = ((zeta_ + 1 + alpha_) / root - 1 - 2 * G) / (2 * zeta_)
    return np.asarray(S_ * (G + zeta_ * G_zeta) - zeta_**2 * G_zeta)


def relu_sgd_error(alpha: ArrayLike, S: ArrayLike) -> NDArray[np.float64]:
    """Proposition 5: ReLU student, vanilla SGD to the end; alpha < 2 only.

    1 - alpha/4 + alpha S/(2 (2 - alpha)). It fits the samples with y > 0 and counts the others as
    a constant, although the student is active on some of them.

    Parameters
    ----------
    alpha, S : array_like
        Load P/N in (0, 2) and variance of the label noise >= 0.

    Returns
    -------
    ndarray
        The generalization error, of the broadcast shape.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type, out of range, or the shapes do not broadcast.

    Notes
    -----
    Theory: :eq:`eq-published` in :doc:`/theory`.

    Examples
    --------
    >>> relu_sgd_error(1.0, 0.25)
    array(0.875)
    """
    alpha_, S_ = broadcast(
        alpha=real_array("alpha", alpha, low=0.0, high=2.0, low_open=True, high_open=True),
        S=real_array("S", S, low=0.0),
    )
    return np.asarray(1 - alpha_ / 4 + alpha_ * S_ / (2 * (2 - alpha_)))


def _load_and_noise(alpha: ArrayLike, S: ArrayLike) -> tuple[NDArray[np.float64], ...]:
    return broadcast(
        alpha=real_array("alpha", alpha, low=0.0, low_open=True), S=real_array("S", S, low=0.0)
    )
