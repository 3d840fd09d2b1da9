"""Gaussian averages of forty integrands to 25 digits: nested quadrature, closed forms in 3-D.

Imports nothing from `replica`. The integrands are expressions, evaluated here by mpmath and in
the test by NumPy, in the variables z (one dimension), x, y (two) or x, y, z (three).
"""

from __future__ import annotations

from itertools import pairwise

from mpmath import asin, exp, inf, matrix, mp, mpf, pi, quad, sqrt

from .tables import legendre, main, text

__all__ = ["TABLES"]

ONE = "1"
TWO = "0.8 0.5 1.2"
NEAR = "1.0 0.99 1.0"
THREE = "1.0 0.3 -0.2 0.9 0.4 1.1"
NAMES = ["integrand", "covariance", "kinks", "smooth", "value"]

# Expression, upper triangle of the covariance, kinks per component (";" between components),
# and whether the integrand is analytic between its declared kinks.
INTEGRANDS = [
    ("z**2", ONE, "", "yes"),
    ("z**8", ONE, "", "yes"),
    ("exp(z)", "2.25", "", "yes"),
    ("exp(-z*z)", ONE, "", "yes"),
    ("exp(z*z/4)", ONE, "", "yes"),
    ("cos(3*z)", ONE, "", "yes"),
    ("cos(10*z)", ONE, "", "yes"),
    ("tanh(z)**2", ONE, "", "yes"),
    ("tanh(5*z + 1)", ONE, "", "yes"),
    ("1/(1 + z*z)", ONE, "", "yes"),
    ("1/(1 + 25*z*z)", ONE, "", "yes"),
    ("erf(z)**2", "0.5", "", "yes"),
    ("log(1 + exp(z))", ONE, "", "yes"),
    ("sin(z)*exp(0.5*z)", ONE, "", "yes"),
    ("sqrt(1 + z*z)", "9", "", "yes"),
    ("exp(-50*(z - 1)**2)", ONE, "", "yes"),
    ("maximum(z - 0.25, 0)", ONE, "0.25", "yes"),
    ("maximum(z - 0.25, 0)**2", "4", "0.25", "yes"),
    ("abs(z)", ONE, "0", "yes"),
    ("abs(z - 1.75)**3", ONE, "1.75", "yes"),
    ("sign(z - 0.5)", ONE, "0.5", "yes"),
    ("exp(z)*(1 + sign(z))", ONE, "0", "yes"),
    ("minimum(maximum(z, -1), 1)**2", ONE, "-1 1", "yes"),
    ("abs(abs(z) - 1)", ONE, "-1 0 1", "yes"),
    ("maximum(z - 4, 0)", ONE, "4", "yes"),
    ("sign(z + 2)*tanh(3*z)", ONE, "-2", "yes"),
    ("abs(z)*cos(5*z)", ONE, "0", "yes"),
    ("sqrt(abs(z - 0.25))", ONE, "0.25", "no"),
    ("log(abs(z - 0.3))", ONE, "0.3", "no"),
    ("x*y + x", TWO, ";", "yes"),
    ("tanh(x)*tanh(y)", TWO, ";", "yes"),
    ("cos(x + 2*y)", TWO, ";", "yes"),
    ("exp(x*y/4)", TWO, ";", "yes"),
    ("maximum(x, 0)*maximum(y, 0)", TWO, "0;0", "yes"),
    ("sign(x)*sign(y)", NEAR, "0;0", "yes"),
    ("abs(y - 0.5*x)*cos(x)", TWO, ";0.5*x", "yes"),
    ("maximum(x - 0.5, 0)*tanh(y)", TWO, "0.5;", "yes"),
    ("cos(x + y - z)", THREE, ";;", "yes"),
    ("x*x*y*z", THREE, ";;", "yes"),
    ("(1 + sign(x))*(1 + sign(y))*(1 + sign(z))/8", THREE, "0;0;0", "yes"),
]


def functions() -> dict:
    """The names an integrand may use, for mpmath."""
    names = {name: getattr(mp, name) for name in ("exp", "cos", "sin", "tanh", "erf", "log")}
    return names | {"sqrt": sqrt, "maximum": max, "minimum": min, "sign": mp.sign}


def full(covariance: str) -> matrix:
    """The covariance matrix of an upper triangle."""
    entries = [mpf(entry) for entry in covariance.split()]
    dimension = {1: 1, 3: 2, 6: 3}[len(entries)]
    result = matrix(dimension, dimension)
    for i in range(dimension):
        for j in range(i, dimension):
            result[i, j] = result[j, i] = entries.pop(0)
    return result


def average(expression: str, covariance: str, kinks: str) -> mpf:
    """The average by quadrature, nested in two dimensions, with cuts at the kinks."""
    C = full(covariance)
    names = functions()
    code = compile(expression, "integrand", "eval")
    if C.rows == 3:
        return _three(expression, C)
    if expression == "sign(x)*sign(y)":  # too sharp for the nested rule at this correlation
        return 2 / pi * asin(C[0, 1] / sqrt(C[0, 0] * C[1, 1]))
    if C.rows == 1:
        return _normal(lambda z: eval(code, names, {"z": z}), mpf(0), C[0, 0], kinks, {}, False)
    first, second = kinks.split(";")
    slope, rest = C[0, 1] / C[0, 0], C[1, 1] - C[0, 1] ** 2 / C[0, 0]

    def inner(x):
        values = {"x": x}
        return _normal(
            lambda y: eval(code, names, {"x": x, "y": y}), slope * x, rest, second, values
        )

    return _normal(inner, mpf(0), C[0, 0], first, {})


def _normal(function, mean, variance, kinks, values, nested=True) -> mpf:
    sd = sqrt(variance)
    cuts = [eval(entry, functions(), values) for entry in kinks.split()]
    edges = sorted(
        [*(mean + sd * k for k in (-15, -9, -6, -4, -2.5, -1, 0, 1, 2.5, 4, 6, 9, 15)), *cuts]
    )
    reach = 15 if not nested else 9
    edges = [e for e in edges if abs(e - mean) <= reach * sd]

    def weighted(x):
        return function(x) * exp(-((x - mean) ** 2) / (2 * variance))

    if not nested:
        return quad(weighted, edges) / (sd * sqrt(2 * pi))
    total = mpf(0)
    for low, high in pairwise(edges):
        half = (high - low) / 2
        total += half * sum(w * weighted(low + half + half * x) for x, w in legendre(20))
    return total / (sd * sqrt(2 * pi))


def _three(expression: str, C) -> mpf:
    """Closed forms: characteristic function, Wick's theorem, orthant probability."""
    if expression.startswith("cos"):
        v = matrix([1, 1, -1])
        return exp(-(v.T * C * v)[0] / 2)
    if expression.startswith("x*x"):
        return C[0, 0] * C[1, 2] + 2 * C[0, 1] * C[0, 2]
    correlations = [C[i, j] / sqrt(C[i, i] * C[j, j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    return mpf(1) / 8 + sum(asin(r) for r in correlations) / (4 * pi)


def row(inputs) -> list[str]:
    """One row of the table."""
    expression, covariance, kinks, _ = inputs
    # The tails that are cut off: 1e-48 beyond 15 standard deviations, 1e-18 beyond 9.
    mp.dps = 30 if len(covariance.split()) == 1 else 18
    value = average(expression, covariance, kinks)
    assert abs(value) < inf
    return [*inputs, text(value, 25 if mp.dps == 30 else 17)]


TABLES = {"gaussian": (row, lambda: INTEGRANDS, NAMES)}


def verify() -> None:
    """Compare with what is known in closed form."""
    mp.dps = 30
    known = {
        "z**8": mpf(105),
        "cos(3*z)": exp(mpf(-9) / 2),
        "abs(z)": sqrt(2 / pi),
        "exp(z*z/4)": sqrt(mpf(2)),
    }
    for expression, value in known.items():
        (found,) = [row(i) for i in INTEGRANDS if i[0] == expression]
        assert abs(mpf(found[-1]) - value) < mpf("1e-22"), expression


if __name__ == "__main__":
    main(__doc__ or "", TABLES, verify)
