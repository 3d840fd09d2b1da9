"""Averages of the online update by brute two-dimensional quadrature, to 20 digits.

Imports nothing from `replica`. Columns: slopes of student and teacher (-1 stands for
erf(u / sqrt 2)), gamma, R, S; then I1 = E[delta u], I2 = E[delta^2], I3 = E[delta z] and
gen_error = E[(g*(z) - g(u))^2], with delta = g'(u) (g*(z) + s - g(u)).
"""

from __future__ import annotations

from itertools import pairwise

from mpmath import mp, mpf

from .tables import exact, main, text

__all__ = ["TABLES", "averages"]

NAMES = ["student", "teacher", "gamma", "R", "S", "I1", "I2", "I3", "gen_error"]


def value(slope, u):
    if slope == -1:
        return mp.erf(u / mp.sqrt(2))
    return u if u > 0 else slope * u


def derivative(slope, u):
    if slope == -1:
        return mp.sqrt(2 / mp.pi) * mp.exp(-u * u / 2)
    return mpf(1) if u > 0 else slope


def pieces(cut):
    """Panels of the standard normal law out to 11 deviations, with an edge at `cut`."""
    edges = [mpf(x) for x in (-11, -6, -3, -1, 1, 3, 6, 11)]
    if -11 < cut < 11:
        edges = sorted([*edges, cut])
    return pairwise(edges)


def rule(cut, nodes):
    for low, high in pieces(cut):
        half = (high - low) / 2
        for x, w in nodes:
            z = low + half * (1 + x)
            yield z, half * w * mp.npdf(z)


def legendre(n):
    """Gauss-Legendre nodes and weights."""
    found = []
    for k in range(n):
        x = mp.cos(mp.pi * (k + mpf(3) / 4) / (n + mpf(1) / 2))
        for _ in range(8):  # Newton; quadratic from a start that is good to 1e-3
            top, below = mp.legendre(n, x), mp.legendre(n - 1, x)
            slope = n * (x * top - below) / (x * x - 1)
            x -= top / slope
        found.append((x, 2 / ((1 - x * x) * slope**2)))
    return found


def averages(student, teacher, gamma, R, S):
    """The four averages, as mpmath numbers."""
    mp.dps = 30
    a, b, gamma, R, S = (exact(x) for x in (student, teacher, gamma, R, S))
    nodes = legendre(24)
    sine = mp.sqrt(1 - R * R)
    sums = [mpf(0)] * 4
    for x, weight in rule(mpf(0), nodes):
        u = gamma * x
        slope, own = derivative(a, u), value(a, u)
        moments = [mpf(0)] * 3  # of the teacher's output y: E[y], E[y^2], E[y z] given u
        for v, inner in rule(-R * x / sine, nodes):
            z = R * x + sine * v
            y = value(b, z)
            for k, term in enumerate((y, y * y, y * z)):
                moments[k] += inner * term
        square = moments[1] - 2 * own * moments[0] + own**2
        sums[0] += weight * slope * (moments[0] - own) * u
        sums[1] += weight * slope**2 * (square + S)
        sums[2] += weight * slope * (moments[2] - own * R * x)
        sums[3] += weight * square
    return sums


def inputs():
    pairs = [(0.0, 0.0), (1.0, 1.0), (0.25, 0.25), (0.1, 0.75), (1.0, 0.0), (-1.0, -1.0)]
    places = [(0.75, 0.5, 0.25), (1.25, -0.3, 0.0), (0.9, 0.98, 0.01)]
    return [(*pair, *place) for pair in pairs for place in places]


def make_row(row):
    return [repr(x) for x in row] + [text(x, 20) for x in averages(*row)]


def verify():
    """Compare with the linear student's moments, which are polynomials."""
    gamma, R, S = mpf("0.75"), mpf("0.5"), mpf("0.25")
    square = 1 + gamma**2 - 2 * gamma * R
    expected = [gamma * R - gamma**2, square + S, 1 - gamma * R, square]
    worst = max(abs(x - y) for x, y in zip(averages(1, 1, 0.75, 0.5, 0.25), expected, strict=True))
    print(f"linear student: largest difference {mp.nstr(worst, 3)}")


TABLES = {"dynamics": (make_row, inputs, NAMES)}

if __name__ == "__main__":
    main(__doc__, TABLES, verify)
