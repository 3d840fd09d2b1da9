"""Direct training of a batch-normalized student on a fixed data set, written without the library.

Loss of one batch: (1/2M) sum_j (y_j - gamma g(h_j)/sigma_B)^2, h = X w, sigma_B^2 = mean_B h^2
(the shift and the mean are frozen, as in section 4 of the paper).
"""

from __future__ import annotations

import numba
import numpy as np
from scipy import optimize


# Sums may be reordered: four times as fast, and nothing here depends on the last bit.
@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _train(X, y, w, slope, size, n_epochs, rate, seed):
    """SGD, learning rate decaying as 1/t^0.75; returns the average of w."""
    np.random.seed(seed)  # noqa: NPY002 (Numba's own stream)
    P, N = X.shape
    w = w.copy()
    w *= np.sqrt(N) / np.sqrt(w @ w)
    gamma = 1.0
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
            w_sum += w
            n_sum += 1
    return w_sum / n_sum


def problem(N, alpha, S, seed):
    """Data of the teacher-student problem: inputs N(0, I/N), linear teacher plus noise."""
    rng = np.random.default_rng(seed)
    P = round(alpha * N)
    X = rng.standard_normal((P, N)) / np.sqrt(N)
    teacher = rng.standard_normal(N)
    teacher *= np.sqrt(N) / np.linalg.norm(teacher)
    return X, X @ teacher + np.sqrt(S) * rng.standard_normal(P), teacher


# Sums may be reordered: four times as fast, and nothing here depends on the last bit.
@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _trained_scale(h, y, slope, size, n_batches, seed):
    """The gamma that minimizes the expected loss at fixed w: learning rate annealed to zero."""
    np.random.seed(seed)  # noqa: NPY002
    order = np.arange(h.size)
    overlap = 0.0
    square = 0.0
    for _ in range(n_batches):
        second = 0.0
        yg = 0.0
        gg = 0.0
        for i in range(size):
            k = np.random.randint(i, h.size)  # noqa: NPY002
            order[i], order[k] = order[k], order[i]
            u = h[order[i]]
            g = u if u > 0 else slope * u
            second += u * u
            yg += y[order[i]] * g
            gg += g * g
        s = np.sqrt(second / size)
        overlap += yg / s
        square += gg / (s * s)
    return overlap / square


def trained_weights(X, y, *, slope, batch_size, n_epochs, rate, seed, start=None):
    """Effective weights gamma w/sigma for sigma of the training set and of the population.

    Training starts from the row space of X: at X^T y unless `start` is given. SGD noise in w
    lowers the gamma that goes with it, so gamma is trained last, at the averaged w.
    """
    start = X.T @ y if start is None else start
    w = _train(X, y, start, slope, batch_size, n_epochs, rate, seed)
    h = X @ w
    gamma = _trained_scale(h, y, slope, batch_size, 2_000_000 // batch_size, seed)
    training = gamma * w / np.sqrt(np.mean(h**2))
    return training, gamma * w * np.sqrt(w.size) / np.linalg.norm(w)


@numba.njit(cache=True, nogil=True)
def _correlation(h, y, batches):
    """Mean over the batches of mean_B(y h)/sigma_B, and its gradient in h."""
    size = batches.shape[1]
    total = 0.0
    gradient = np.zeros(h.size)
    for batch in batches:
        overlap = 0.0
        second = 0.0
        for k in batch:
            overlap += h[k] * y[k] / size
            second += h[k] * h[k] / size
        sigma = np.sqrt(second)
        total += overlap / sigma
        for k in batch:
            gradient[k] += (y[k] - h[k] * overlap / second) / (sigma * size)
    return total / len(batches), gradient / len(batches)


def minimized_weights(X, y, *, batch_size, n_epochs, seed):
    """What `trained_weights` tends to for the linear student at vanishing learning rate.

    Minimizes the mean loss over `n_epochs` fixed shuffles of the data by L-BFGS, in coordinates
    in which least squares is isotropic.
    """
    rng = np.random.default_rng(seed)
    n_used = len(y) // batch_size * batch_size
    batches = np.concatenate(
        [rng.permutation(len(y))[:n_used].reshape(-1, batch_size) for _ in range(n_epochs)]
    )
    U, scale, V = np.linalg.svd(X, full_matrices=False)

    def loss(v):  # with the best gamma: minus E[mean_B(y h)/sigma_B]
        correlation, total = _correlation(U @ v, y, batches)
        return -correlation, -U.T @ total

    options = {"maxiter": 500, "ftol": 1e-13, "gtol": 1e-7}
    result = optimize.minimize(loss, U.T @ y, jac=True, method="L-BFGS-B", options=options)
    h = U @ result.x
    w = V.T @ (result.x / scale)
    training = -result.fun * w / np.sqrt(np.mean(h**2))
    return training, -result.fun * w * np.sqrt(w.size) / np.linalg.norm(w)
