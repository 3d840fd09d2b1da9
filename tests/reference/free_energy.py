"""The replica-symmetric free energy (eq. 19) by nested quadrature, to about 1e-11.

Imports nothing from `replica`. Three nested Gauss-Legendre sums over the label, the student's
mean field and the field inside ln Z: no closed form of Z, no change of variables. The linear
student has a closed form, with which `--verify` compares.
"""

from __future__ import annotations

from itertools import pairwise

from mpmath import erf, exp, log, log1p, mp, mpf, pi, sqrt, tanh

from .tables import legendre, main, text

__all__ = ["TABLES", "free_energy", "linear_free_energy"]

NAMES = ["student", "gamma", "R", "q", "alpha", "S", "beta", "zeta", "free_energy"]
INPUTS = [
    ("linear", 0.7, 0.8, 0.8, 1.5, 0.25, 4.0, 0.3),
    ("relu", 0.7, 0.8, 0.8, 1.5, 0.25, 4.0, 0.3),
    ("relu", 1.0, 0.3, 1.25, 0.5, 0.0, 2.0, 0.1),
    ("relu", 0.5, -0.2, 0.75, 2.0, 1.0, 0.5, 0.0),
    ("leaky", 0.7, 0.8, 0.8, 1.5, 0.25, 4.0, 0.3),
    ("erf", 1.0, 0.9, 1.5, 2.0, 0.1, 5.0, 0.2),
    ("erf", 0.3, 0.5, 4.0, 1.0, 0.5, 0.25, 0.5),
    ("tanh", 1.0, 0.9, 1.25, 2.0, 0.1, 8.0, 0.2),
    ("softplus", 0.8, 0.7, 1.0, 1.0, 0.2, 3.0, 0.1),
    ("quadratic", 0.6, 0.5, 0.5, 1.0, 0.2, 3.0, 0.1),
]
STUDENTS = {
    "linear": lambda u: u,
    "relu": lambda u: max(u, 0),
    "leaky": lambda u: max(u, u / 8),
    "erf": lambda u: erf(u / sqrt(2)),
    "tanh": tanh,
    "softplus": lambda u: log1p(exp(u)),
    "quadratic": lambda u: u * u,
}


def normal_rule(n: int, reach: int, cut=None):
    """Points and weights of a standard normal law on pieces up to `reach`, cut where asked."""
    edges = [mpf(k) for k in (-16, -12, -9, -6, -4, -2, 0, 2, 4, 6, 9, 12, 16) if abs(k) <= reach]
    edges = sorted({*edges, *([cut] if cut is not None and abs(cut) < reach else [])})
    rule = []
    for low, high in pairwise(edges):
        half = (high - low) / 2
        for x, w in legendre(n):
            z = low + half + half * x
            rule.append((z, w * half * exp(-z * z / 2) / sqrt(2 * pi)))
    return rule


def free_energy(student: str, gamma, R, q, alpha, S, beta, zeta, n: int = 12):
    """f at the given order parameters."""
    g = STUDENTS[student]
    d, m = q - gamma**2, gamma * R
    sigma, slope = sqrt(1 + S), m / (1 + S)
    tau, width = sqrt(gamma**2 - m * slope), sqrt(d)
    kinked = student in ("relu", "leaky")
    total = mpf(0)
    outer = normal_rule(n, 9)
    # For an unlikely label the weight of u peaks far out: the inner rule has to reach there.
    plain = normal_rule(n, 16)
    for t, wt in outer:
        y = sigma * t
        for v, wv in outer:
            if wt * wv < mpf("1e-16"):
                continue
            omega = slope * y + tau * v
            rule = normal_rule(n, 16, -omega / width) if kinked else plain
            Z = sum(w * exp(-beta * (y - g(omega + width * u)) ** 2 / 2) for u, w in rule)
            total += wt * wv * log(Z)
    minus_beta_f = (gamma**2 - m**2) / (2 * d) + log(d) / 2 - beta * zeta * q / 2 + alpha * total
    return -minus_beta_f / beta


def linear_free_energy(gamma, R, q, alpha, S, beta, zeta):
    """The same for the linear student, in closed form."""
    d, m = q - gamma**2, gamma * R
    mean = -log1p(beta * d) / 2 - beta * (1 + S - 2 * m + gamma**2) / (2 * (1 + beta * d))
    return -((gamma**2 - m**2) / (2 * d) + log(d) / 2 - beta * zeta * q / 2 + alpha * mean) / beta


def row(inputs) -> list:
    """One row of the table."""
    mp.dps = 20
    value = free_energy(inputs[0], *(mpf(x) for x in inputs[1:]))
    return [*inputs, text(value, 16)]


TABLES = {"free_energy": (row, lambda: INPUTS, NAMES)}


def verify() -> None:
    """Compare the linear student with its closed form, a ReLU row with a finer rule."""
    mp.dps = 20
    values = [mpf(x) for x in INPUTS[0][1:]]
    assert abs(free_energy("linear", *values) - linear_free_energy(*values)) < mpf("1e-14")
    for index in (1, 2):
        values = [mpf(x) for x in INPUTS[index][1:]]
        change = free_energy("relu", *values, n=15) - free_energy("relu", *values)
        assert abs(change) < mpf("1e-11"), change


if __name__ == "__main__":
    main(__doc__ or "", TABLES, verify)
