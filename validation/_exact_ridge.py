"""Ridge regression solved exactly on the samples of a simulated run. Imports only linear algebra.

Its error serves as control variate: what is known about its mean takes the scatter between data
sets out of simulated errors, without touching their mean.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

__all__ = ["exact_ridge", "mean_exact_ridge", "ridge_control"]


def exact_ridge(X: NDArray[np.float64], noise: NDArray[np.float64], zeta: float) -> float:
    """Generalization error of ridge regression on samples y = X w* + noise with w* = (1, ..., 1).

    At zeta = 0 least squares, for P < N the solution of least norm.

    Examples
    --------
    >>> X = np.vstack([np.eye(2), np.eye(2)])
    >>> print(f"{exact_ridge(X, np.array([1.0, 1.0, 0.0, 0.0]), 0.0):.6f}")
    0.250000
    """
    return _error(X, noise, zeta, _inverse(X, zeta))


def mean_exact_ridge(X: NDArray[np.float64], S: float, zeta: float) -> float:
    """The average of `exact_ridge` over noise of variance S and a teacher of random direction.

    Examples
    --------
    >>> print(f"{mean_exact_ridge(np.vstack([np.eye(2), np.eye(2)]), 0.25, 0.0):.6f}")
    0.125000
    """
    return _mean(X, S, zeta, _inverse(X, zeta))


def ridge_control(
    X: NDArray[np.float64], noise: NDArray[np.float64], S: float, zeta: float
) -> float:
    """`exact_ridge` minus `mean_exact_ridge`: its mean over data sets is 0."""
    inverse = _inverse(X, zeta)
    return _error(X, noise, zeta, inverse) - _mean(X, S, zeta, inverse)


def _inverse(X: NDArray[np.float64], zeta: float) -> NDArray[np.float64]:
    """(G + zeta)^-1 with the smaller Gram matrix G of X."""
    P, N = X.shape
    gram = X @ X.T if P < N else X.T @ X
    gram[np.diag_indices_from(gram)] += zeta
    factor, failed = lapack.dpotrf(gram, lower=1, clean=1, overwrite_a=1)
    if not failed:
        factor, failed = lapack.dpotri(factor, lower=1, overwrite_c=1)
    if failed:
        raise np.linalg.LinAlgError(f"singular Gram matrix: P = {P}, N = {N}, zeta = {zeta}")
    return factor + np.tril(factor, -1).T


def _error(
    X: NDArray[np.float64], noise: NDArray[np.float64], zeta: float, inverse: NDArray[np.float64]
) -> float:
    P, N = X.shape
    if P < N:  # W = X^T (X X^T + zeta)^-1 y
        difference = X.T @ (inverse @ (X.sum(axis=1) + noise)) - 1.0
    else:  # W - w* = (X^T X + zeta)^-1 (X^T s - zeta w*)
        difference = inverse @ (X.T @ noise - zeta)
    return float(difference @ difference) / N


def _mean(X: NDArray[np.float64], S: float, zeta: float, inverse: NDArray[np.float64]) -> float:
    # Mean over the eigenvalues x of X^T X of (zeta^2 + S x)/(x + zeta)^2.
    P, N = X.shape
    trace = np.trace(inverse)
    square = float(np.vdot(inverse, inverse))
    return float(max(N - P, 0) + zeta**2 * square + S * (trace - zeta * square)) / N
