"""Online learning at finite N, exact in law, for the tests and the validation of the dynamics.

With fresh inputs x ~ N(0, I/N) the triple (gamma, R, L) is a Markov chain by itself: a step needs
the fields of each sample along the student (uhat) and along the teacher's orthogonal part (v), and
one chi-squared number for the N - 2 directions that are left. Written without the library's
averages, flow or simulator; `simulate` takes the arguments of `integrate`.
"""

from __future__ import annotations

# ruff: noqa: NPY002 - compiled code has the legacy generator, seeded per run
import math

import numba
import numpy as np

from replica.students import ERF, LINEAR, RELU

ROOT2 = math.sqrt(2.0)

jit = numba.njit(nogil=True, error_model="numpy", cache=True)


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


def slope_of(student):
    """The number by which the chain knows a student or teacher."""
    student = {"linear": LINEAR, "relu": RELU, "erf": ERF}.get(student, student)
    return -1.0 if student == ERF else student.slope


@jit
def _run(seed, plain, centered, scaled, M, N, a, b, eta, zeta, S, gamma, R, L, stops, out):
    np.random.seed(seed)
    sine = math.sqrt((1.0 - R) * (1.0 + R))
    uhat, v, h, force = np.empty(M), np.empty(M), np.empty(M), np.empty(M)
    decay = eta * zeta * M / N
    step = 0
    for i in range(stops.size):
        while step < stops[i]:
            step += 1
            for k in range(M):
                uhat[k], v[k] = np.random.normal(), np.random.normal()
            mean = uhat.mean() if centered else 0.0
            sigma = math.sqrt(((uhat - mean) ** 2).mean()) if scaled else 1.0
            for k in range(M):
                h[k] = (uhat[k] - mean) / sigma
                y = activation(b, R * uhat[k] + sine * v[k])
                if S > 0:
                    y += math.sqrt(S) * np.random.normal()
                u = gamma * h[k]
                force[k] = derivative(a, u) * (y - activation(a, u))
            pull = (force * h).mean()
            common = force.mean() if centered else 0.0
            along = across = rest = 0.0
            for k in range(M):
                # By the chain rule through mean, sigma and the length of w.
                e = eta * force[k]
                if not plain:
                    own = pull * h[k] if scaled else 0.0
                    e = eta * gamma / L * (force[k] - common - own) / sigma
                along += e * uhat[k] / N
                across += e * v[k] / N
                rest += e * e
            rest *= np.random.chisquare(N - 2) / N**2
            if plain:
                along -= decay * L
            else:
                along = 0.0
                gamma += eta * M / N * pull - decay * gamma
            # Components along the teacher and at right angles to it.
            parallel = R * (L + along) + sine * across
            normal2 = (sine * (L + along) - R * across) ** 2 + rest
            L = math.sqrt(parallel**2 + normal2)
            sine = math.sqrt(normal2) / L
            R = parallel / L
            if plain:
                gamma = L
        out[i, 0], out[i, 2] = gamma, L
        out[i, 1] = sine * sine / (1 + R) if R > 0 else 1 - R


@jit
def _runs(seeds, plain, centered, scaled, M, N, a, b, eta, zeta, S, gamma, R, L, stops, out):
    for i in range(seeds.size):
        _run(
            seeds[i], plain, centered, scaled, M, N, a, b, eta, zeta, S, gamma, R, L, stops, out[i]
        )


def simulate(
    *, student, teacher=None, normalizer="none", S=0.0, zeta=0.0, batch_size=1, learning_rate,
    gamma0=None, R0, L0, t, N, runs, seed,
):  # fmt: skip
    """(gamma, 1 - R, L) of `runs` runs at the times `t`, shape (runs, n, 3)."""
    seeds = np.random.SeedSequence(seed).generate_state(runs).astype(np.int64)
    out = np.empty((runs, len(t), 3))
    stops = np.rint(np.asarray(t) * N / batch_size).astype(np.int64)
    a = slope_of(student)
    b = a if teacher is None else slope_of(teacher)
    plain = normalizer == "none"
    if gamma0 is None:
        gamma0 = L0 if plain else 1.0
    numbers = (float(x) for x in (a, b, learning_rate, zeta, S, gamma0, R0, L0))
    centered, scaled = normalizer in ("bn", "bn-mean"), normalizer in ("bn", "bn-var")
    _runs(seeds, plain, centered, scaled, batch_size, N, *numbers, stops, out)
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


def overlap_rate(normalizer, a, *, eta, gamma, L, runs, seed, S=0.0, D=1e-9, N=100_000):
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
        e = eta * force * (1.0 if normalizer == "none" else gamma / L)
        along = L + (e * uhat / N if normalizer == "none" else 0.0)
        parallel = R * along + sine * e * v / N
        normal2 = (sine * along - R * e * v / N) ** 2 + e**2 * rest / N**2
        length = np.sqrt(parallel**2 + normal2)
        return normal2 / length / (length + parallel)

    sine = math.sqrt(D * (2 - D))
    growth = N * ((after(sine) + after(-sine)) / 2 - after(0.0) - D) / D
    return growth.mean(), growth.std() / math.sqrt(runs)


def stability_limit(normalizer, a, *, gamma, L=1.0, guess, runs=200_000, seed=0, S=0.0):
    """Effective learning rate at which the measured `overlap_rate` changes sign, and its error.

    rate / eta_eff is a straight line in eta_eff: fitted to five learning rates around the guess.
    """
    effective = guess * np.linspace(0.6, 1.4, 5)
    eta = effective * L if normalizer == "none" else effective * L**2 / gamma
    pairs = [
        overlap_rate(normalizer, a, eta=x, gamma=gamma, L=L, runs=runs, seed=(seed, k), S=S)
        for k, x in enumerate(eta)
    ]
    rate, error = np.array(pairs).T / effective
    basis = np.stack([np.ones(5), effective], axis=1) / error[:, None]
    covariance = np.linalg.inv(basis.T @ basis)
    c0, c1 = covariance @ basis.T @ (rate / error)
    limit = -c0 / c1
    gradient = np.array([-1 / c1, c0 / c1**2])
    return limit, math.sqrt(gradient @ covariance @ gradient)
