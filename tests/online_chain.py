"""Online learning at finite N, exact in law, for the tests of the dynamics.

With fresh inputs x ~ N(0, I/N) the triple (gamma, R, L) is a Markov chain by itself: a step needs
the fields of each sample along the student (uhat) and along the teacher's orthogonal part (v), and
one chi-squared number for the N - 2 directions that are left. Written without the library's
averages or flow.
"""

from __future__ import annotations

# ruff: noqa: NPY002 - compiled code has the legacy generator, seeded per run
import math

import numpy as np

from replica._core.jit import jit

ROOT2 = math.sqrt(2.0)


@jit
def activation(slope, u):
    """Leaky ReLU of the slope; a slope of -1 stands for erf(u / sqrt 2)."""
    if slope == -1.0:
        return math.erf(u / ROOT2)
    return u if u > 0 else slope * u


@jit
def derivative(slope, u):
    if slope == -1.0:
        return math.sqrt(2 / math.pi) * math.exp(-u * u / 2)
    return 1.0 if u > 0 else slope


@jit
def _run(seed, sgd, batch_norm, M, N, a, b, eta, zeta, S, gamma, D, L, stops, out):
    np.random.seed(seed)
    R, sine = 1.0 - D, math.sqrt(D * (2.0 - D))
    uhat, v, h, force = np.empty(M), np.empty(M), np.empty(M), np.empty(M)
    step = 0
    for i in range(stops.size):
        while step < stops[i]:
            step += 1
            square = 0.0
            for k in range(M):
                uhat[k], v[k] = np.random.normal(), np.random.normal()
                square += uhat[k] ** 2 / M
            sigma = math.sqrt(square) if batch_norm else 1.0
            m = 0.0
            for k in range(M):
                h[k] = uhat[k] / sigma
                y = activation(b, R * uhat[k] + sine * v[k])
                if S > 0:
                    y += math.sqrt(S) * np.random.normal()
                u = gamma * h[k]
                force[k] = derivative(a, u) * (y - activation(a, u))
                m += force[k] * h[k] / M
            along = across = rest = 0.0
            for k in range(M):
                if sgd:
                    e = eta * force[k] / M
                elif batch_norm:
                    e = eta * gamma / (L * M * sigma) * (force[k] - h[k] * m)
                else:
                    e = eta * gamma / (L * M) * force[k]
                along += e * uhat[k] / N
                across += e * v[k] / N
                rest += e * e
            rest *= np.random.chisquare(N - 2) / N**2
            if not sgd:
                along = 0.0
                gamma += eta / N * (m - zeta * gamma)
            # Components along the teacher and at right angles to it.
            parallel = R * (L + along) + sine * across
            normal2 = (sine * (L + along) - R * across) ** 2 + rest
            L = math.sqrt(parallel**2 + normal2)
            sine = math.sqrt(normal2) / L
            R = parallel / L
            if sgd:
                gamma = L
        out[i, 0], out[i, 2] = gamma, L
        out[i, 1] = sine * sine / (1 + R) if R > 0 else 1 - R


@jit
def _runs(seeds, sgd, batch_norm, M, N, a, b, eta, zeta, S, gamma, D, L, stops, out):
    for i in range(seeds.size):
        _run(seeds[i], sgd, batch_norm, M, N, a, b, eta, zeta, S, gamma, D, L, stops, out[i])


def simulate(
    method, N, runs, times, *, seed, a, b=None, eta, zeta=0.0, S=0.0, gamma=1.0, D=0.9, L=1.0, M=1
):
    """(gamma, 1 - R, L) of `runs` runs at `times`, shape (runs, n, 3)."""
    seeds = np.random.SeedSequence(seed).generate_state(runs).astype(np.int64)
    out = np.empty((runs, len(times), 3))
    stops = np.rint(np.asarray(times) * N).astype(np.int64)
    b = a if b is None else b
    numbers = (float(x) for x in (a, b, eta, zeta, S, gamma, D, L))
    _runs(seeds, method == "sgd", method == "minibatch-bn", M, N, *numbers, stops, out)
    return out


def extrapolate(values, errors, sizes):
    """Limit N -> infinity of means known at several N, its standard error, chi^2, the 1/N term.

    Least squares of y + c/N + d/N^2, the last two fitted.
    """
    sizes = np.asarray(sizes, dtype=float)
    basis = np.stack([np.ones_like(sizes), 1 / sizes, 1 / sizes**2], axis=1)
    weighted = basis / errors[:, None]
    covariance = np.linalg.inv(weighted.T @ weighted)
    coefficients = covariance @ weighted.T @ (values / errors)
    chi2 = float(np.sum(((values - basis @ coefficients) / errors) ** 2))
    return coefficients[0], math.sqrt(covariance[0, 0]), chi2, coefficients[1]


def overlap_rate(method, a, *, eta, gamma, L, runs, seed, S=0.0, D=1e-9, N=100_000):
    """Growth rate of 1 - R near R = 1 measured from single steps, with its standard error.

    Each draw is used for a start at angle theta, at -theta and at 0: the noise that does not
    depend on the start cancels.
    """
    rng = np.random.default_rng(seed)
    uhat, v, s = rng.standard_normal((3, runs))
    rest = rng.chisquare(N - 2, runs)
    erf = np.vectorize(math.erf, otypes=[float])

    def g(u):
        return erf(u / ROOT2) if a == -1.0 else np.where(u > 0, u, a * u)

    def slope(u):
        if a == -1.0:
            return math.sqrt(2 / math.pi) * np.exp(-u * u / 2)
        return np.where(u > 0, 1.0, a)

    def after(sine):
        R = 1.0 - sine**2 / (1 + math.sqrt(1 - sine**2))
        u = gamma * uhat
        force = slope(u) * (g(R * uhat + sine * v) + math.sqrt(S) * s - g(u))
        e = eta * force * (1.0 if method == "sgd" else gamma / L)
        along = L + (e * uhat / N if method == "sgd" else 0.0)
        parallel = R * along + sine * e * v / N
        normal2 = (sine * along - R * e * v / N) ** 2 + e**2 * rest / N**2
        length = np.sqrt(parallel**2 + normal2)
        return normal2 / length / (length + parallel)

    sine = math.sqrt(D * (2 - D))
    growth = N * ((after(sine) + after(-sine)) / 2 - after(0.0) - D) / D
    return growth.mean(), growth.std() / math.sqrt(runs)


def stability_limit(method, a, *, gamma, L=1.0, guess, runs=200_000, seed=0, S=0.0):
    """Effective learning rate at which the measured `overlap_rate` changes sign, and its error.

    rate / eta_eff is a straight line in eta_eff: fitted to five learning rates around the guess.
    """
    effective = guess * np.linspace(0.6, 1.4, 5)
    eta = effective * L if method == "sgd" else effective * L**2 / gamma
    pairs = [
        overlap_rate(method, a, eta=x, gamma=gamma, L=L, runs=runs, seed=(seed, k), S=S)
        for k, x in enumerate(eta)
    ]
    rate, error = np.array(pairs).T / effective
    basis = np.stack([np.ones(5), effective], axis=1) / error[:, None]
    covariance = np.linalg.inv(basis.T @ basis)
    c0, c1 = covariance @ basis.T @ (rate / error)
    limit = -c0 / c1
    gradient = np.array([-1 / c1, c0 / c1**2])
    return limit, math.sqrt(gradient @ covariance @ gradient)
