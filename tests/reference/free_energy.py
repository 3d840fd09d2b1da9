"""The replica-symmetric free energy (eq. 19) by nested quadrature, to about 1e-12.

Imports nothing from `replica`. Three nested Gauss-Legendre sums over the label, the student's
mean field and the field inside ln Z, in float64: no closed form of Z, no change of variables.
`--verify` compares with finer rules, with the closed form of the linear student and, where
beta <= 8, row by row with the same integral in mpmath.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from mpmath import exp, log, log1p, mp, mpf, pi, sqrt
from scipy.special import erf

from .tables import legendre, main

__all__ = ["TABLES", "free_energy", "linear_free_energy"]

NAMES = ["student", "gamma", "R", "q", "alpha", "S", "beta", "zeta", "free_energy"]
INPUTS = [
    ("linear", 0.7, 0.8, 0.8, 1.5, 0.25, 4.0, 0.3),
    ("relu", 0.7, 0.8, 0.8, 1.5, 0.25, 4.0, 0.3),
    ("relu", 1.0, 0.3, 1.25, 0.5, 0.0, 2.0, 0.1),
    ("relu", 0.5, -0.2, 0.75, 2.0, 1.0, 0.5, 0.0),
    ("relu", 0.6, 0.7, 0.6, 1.0, 0.25, 10.0, 0.25),
    ("relu", 0.6, 0.65, 0.384, 1.0, 0.25, 100.0, 0.25),
    ("leaky", 0.7, 0.8, 0.8, 1.5, 0.25, 4.0, 0.3),
    ("leaky", 0.7, 0.7, 0.55, 1.0, 0.25, 40.0, 0.1),
    ("erf", 1.0, 0.9, 1.5, 2.0, 0.1, 5.0, 0.2),
    ("erf", 0.3, 0.5, 4.0, 1.0, 0.5, 0.25, 0.5),
    ("tanh", 1.0, 0.9, 1.25, 2.0, 0.1, 8.0, 0.2),
    ("softplus", 0.8, 0.7, 1.0, 1.0, 0.2, 3.0, 0.1),
    ("quadratic", 0.6, 0.5, 0.5, 1.0, 0.2, 3.0, 0.1),
]
STUDENTS = {
    "linear": lambda u: u,
    "relu": lambda u: np.maximum(u, 0),
    "leaky": lambda u: np.maximum(u, u / 8),
    "erf": lambda u: erf(u / np.sqrt(2)),
    "tanh": np.tanh,
    "softplus": lambda u: np.logaddexp(0, u),
    "quadratic": lambda u: u * u,
}
SLOPES = {"relu": (0.0, 1.0), "leaky": (0.125, 1.0)}
IN_MPMATH = {
    "linear": lambda u: u,
    "relu": lambda u: max(u, mpf(0)),
    "leaky": lambda u: max(u, u / 8),
    "erf": lambda u: mp.erf(u / sqrt(2)),
    "tanh": mp.tanh,
    "softplus": lambda u: log1p(exp(u)) if u < 0 else u + log1p(exp(-u)),
    "quadratic": lambda u: u * u,
}
# Pieces of an interval that begins at a kink, where the integrand may fall off within 1e-2 of it.
FROM_KINK = np.array([0, 1e-3, 4e-3, 0.015, 0.05, *np.linspace(0.1, 1, 10)])


def pieces(edges, n: int):
    """Gauss-Legendre points and weights of n nodes on pieces; `edges` has them on its last axis."""
    nodes, weights = np.polynomial.legendre.leggauss(n)
    half = np.diff(edges, axis=-1)[..., None] / 2
    x = (edges[..., :-1, None] + half) + half * nodes
    return x.reshape(*x.shape[:-2], -1), (half * weights).reshape(*x.shape[:-2], -1)


def ln_z(student: str, y, omega, V, beta, n: int):
    """ln E_u exp(-beta (y - g(u))^2 / 2) over u ~ N(omega, V), y a number, omega an array."""
    width = np.sqrt(V)
    if student in SLOPES:  # a window on either side of the kink, around the largest integrand
        windows = []
        for sign, b in zip((-1, 1), SLOPES[student], strict=True):
            center = np.maximum(sign * (omega + beta * V * b * y) / (1 + b * b * beta * V), 0)
            near = np.maximum(center - 9 * width, 0)[:, None]
            far = center[:, None] + 9 * width
            u, weights = pieces(near + (far - near) * FROM_KINK, n)
            windows.append((sign * u, weights))
        u, weights = (np.concatenate(parts, axis=1) for parts in zip(*windows, strict=True))
    else:
        u, weights = pieces(omega[:, None] + width * np.linspace(-16, 16, 21), n)
    exponent = -((u - omega[:, None]) ** 2) / (2 * V) - beta * (y - STUDENTS[student](u)) ** 2 / 2
    peak = exponent.max(axis=1)
    total = (weights * np.exp(exponent - peak[:, None])).sum(axis=1)
    return peak + np.log(total) - np.log(2 * np.pi * V) / 2


def free_energy(student: str, gamma, R, q, alpha, S, beta, zeta, n: int = 14) -> float:
    """f at the given order parameters."""
    V, m = q - gamma**2, gamma * R
    slope = m / (1 + S)
    tau = np.sqrt(gamma**2 - m * slope)
    # The colder, the sharper ln Z turns with the label and the field.
    count = int(12 * max(1, 0.5 / np.sqrt(V)))
    rule = []
    for number in (count, 2 * count):
        v, weights = pieces(np.linspace(-8.5, 8.5, number + 1), n)
        rule.append((v, weights * np.exp(-v * v / 2) / np.sqrt(2 * np.pi)))
    (label, label_weights), (field, field_weights) = rule
    total = 0.0
    for t, weight in zip(label, label_weights, strict=True):
        y = np.sqrt(1 + S) * t
        total += weight * (field_weights @ ln_z(student, y, slope * y + tau * field, V, beta, n))
    minus_beta_f = (gamma**2 - m**2) / (2 * V) + np.log(V) / 2 - beta * zeta * q / 2 + alpha * total
    return float(-minus_beta_f / beta)


def linear_free_energy(gamma, R, q, alpha, S, beta, zeta):
    """The same for the linear student, in closed form."""
    d, m = q - gamma**2, gamma * R
    mean = -log1p(beta * d) / 2 - beta * (1 + S - 2 * m + gamma**2) / (2 * (1 + beta * d))
    return -((gamma**2 - m**2) / (2 * d) + log(d) / 2 - beta * zeta * q / 2 + alpha * mean) / beta


def free_energy_in_mpmath(student: str, gamma, R, q, alpha, S, beta, zeta):
    """The same at 20 digits, for warm rows; another arrangement of the nodes."""
    g = IN_MPMATH[student]
    gamma, R, q, alpha, S, beta, zeta = (mpf(x) for x in (gamma, R, q, alpha, S, beta, zeta))
    V, m = q - gamma**2, gamma * R
    slope = m / (1 + S)
    sigma, tau, width = sqrt(1 + S), sqrt(gamma**2 - m * slope), sqrt(V)
    outer = _normal_rule(9)
    total = mpf(0)
    for t, wt in outer:
        for v, wv in outer:
            if wt * wv < mpf("1e-16"):
                continue
            y = sigma * t
            omega = slope * y + tau * v
            # For an unlikely label the weight of u peaks far out: the inner rule reaches there.
            rule = _normal_rule(16, -omega / width if student in SLOPES else None)
            Z = sum(w * exp(-beta * (y - g(omega + width * u)) ** 2 / 2) for u, w in rule)
            total += wt * wv * log(Z)
    return -((gamma**2 - m**2) / (2 * V) + log(V) / 2 - beta * zeta * q / 2 + alpha * total) / beta


def _normal_rule(reach: int, cut=None):
    edges = [mpf(k) for k in (-16, -12, -9, -6, -4, -2, 0, 2, 4, 6, 9, 12, 16) if abs(k) <= reach]
    edges = sorted({*edges, *([cut] if cut is not None and abs(cut) < reach else [])})
    rule = []
    for low, high in pairwise(edges):
        half = (high - low) / 2
        for x, w in legendre(16):
            z = low + half + half * x
            rule.append((z, w * half * exp(-z * z / 2) / sqrt(2 * pi)))
    return rule


def row(inputs) -> list:
    """One row of the table."""
    return [*inputs, f"{free_energy(*inputs):.15g}"]


TABLES = {"free_energy": (row, lambda: INPUTS, NAMES)}


def verify() -> None:
    """Every row with a finer rule, the linear row in closed form, the warm rows in mpmath."""
    mp.dps = 20
    for inputs in INPUTS:
        change = abs(free_energy(*inputs, n=18) - free_energy(*inputs))
        print(inputs, f"changes by {change:.1e} with a finer rule", flush=True)
        assert change < 2e-12
    closed = linear_free_energy(*(mpf(x) for x in INPUTS[0][1:]))
    assert abs(free_energy(*INPUTS[0]) - closed) < 1e-13
    for inputs in INPUTS:  # some minutes a row
        if inputs[NAMES.index("beta")] <= 8:
            difference = abs(free_energy(*inputs) - free_energy_in_mpmath(*inputs))
            print(inputs, f"mpmath differs by {float(difference):.1e}", flush=True)
            assert difference < 2e-12


if __name__ == "__main__":
    main(__doc__ or "", TABLES, verify)
