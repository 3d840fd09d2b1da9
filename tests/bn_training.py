"""Direct training of a batch-normalised student on a fixed data set, written without the library.

Loss of one batch: (1/2M) sum_j (y_j - gamma g(h_j)/sigma_B)^2, h = X w, sigma_B^2 = mean_B h^2
(the shift and the mean are frozen, as in section 4 of the paper).
"""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
def _train(X, y, slope, size, n_epochs, rate, seed):
    """SGD, learning rate decaying as 1/t^0.75; returns averages of gamma and w."""
    np.random.seed(seed)  # noqa: NPY002 (Numba's own stream)
    P, N = X.shape
    w = X.T @ y
    w *= np.sqrt(N) / np.sqrt(w @ w)
    gamma = 1.0
    gamma_sum = 0.0
    w_sum = np.zeros(N)
    n_sum = 0
    h = np.empty(size)
    force = np.empty(size)
    step = np.empty(N)
    for epoch in range(n_epochs):
        lr = rate / (1 + epoch / (0.02 * n_epochs)) ** 0.75
        order = np.random.permutation(P)  # noqa: NPY002
        for b in range(P // size):
            batch = order[b * size : (b + 1) * size]
            second = 0.0
            for i in range(size):
                x = X[batch[i]]
                u = 0.0
                for k in range(N):
                    u += x[k] * w[k]
                h[i] = u
                second += u * u
            s = np.sqrt(second / size)
            dgamma = 0.0
            back = 0.0
            for i in range(size):
                g = h[i] if h[i] > 0 else slope * h[i]
                error = y[batch[i]] - gamma * g / s
                dgamma += error * g / s
                force[i] = error * (1.0 if h[i] > 0 else slope) / s
                back += error * g
            step[:] = 0.0
            for i in range(size):
                # d/dh_i of -sum_j error_j gamma g_j/s, the second part through sigma_B
                f = lr * gamma * (force[i] - back * h[i] / (size * s * s * s))
                x = X[batch[i]]
                for k in range(N):
                    step[k] += f * x[k]
            norm = 0.0
            for k in range(N):
                w[k] += step[k]
                norm += w[k] * w[k]
            gamma += lr * 0.1 * dgamma / size
            # The loss does not depend on |w|: fixing it fixes the effective learning rate.
            norm = np.sqrt(N / norm)
            for k in range(N):
                w[k] *= norm
        if 2 * epoch >= n_epochs:
            gamma_sum += gamma
            w_sum += w
            n_sum += 1
    return gamma_sum / n_sum, w_sum / n_sum


def problem(N, alpha, S, seed):
    """Data of the teacher-student problem: inputs N(0, I/N), linear teacher plus noise."""
    rng = np.random.default_rng(seed)
    P = round(alpha * N)
    X = rng.standard_normal((P, N)) / np.sqrt(N)
    teacher = rng.standard_normal(N)
    teacher *= np.sqrt(N) / np.linalg.norm(teacher)
    return X, X @ teacher + np.sqrt(S) * rng.standard_normal(P), teacher


def trained_weights(X, y, *, slope, batch_size, n_epochs, rate, seed, statistics="training"):
    """Effective weights gamma w/sigma at test time, sigma of the training set or population."""
    gamma, w = _train(X, y, slope, batch_size, n_epochs, rate, seed)
    if statistics == "training":
        sigma = np.sqrt(np.mean((X @ w) ** 2))
    else:
        sigma = np.linalg.norm(w) / np.sqrt(w.size)
    return gamma * w / sigma
