"""One step of replica-symmetry breaking, leaky-ReLU student: the extremum by brute force.

Imports nothing from `replica`. The functional is three nested Gauss-Legendre sums, over the label,
the field between states and the field inside one, with the Moreau envelope as the least of the
candidates; nothing is integrated in closed form. Its gradient and its Hessian are differences, and
Newton's method starts from a few digits. `--verify` compares rows with finer rules.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from .tables import FOLDER, main, read

__all__ = ["TABLES", "functional"]

NAMES = ["alpha", "S", "zeta", "slope", "chi", "m", "q_0", "q_1", "xi", "energy"]
# The inputs, and where the search begins: chi, m, q_0 - m^2, q_1 - q_0, xi.
STARTS = {
    (2.0, 0.25, 1 / 64, 0.0): (4.131, 0.9342, 0.6558, 0.01966, 65.37),
    (1.5, 0.25, 0.25, 0.0): (1.725, 0.5191, 0.2258, 8.953e-4, 180.4),
    (1.7, 4.0, 0.0, 0.0): (34.76, 1.906, 121.8, 15.34, 4.801),
    (1.5, 4.0, 0.01, 0.1): (13.62, 1.825, 34.73, 0.13, 18.75),
}
# Of the logarithms, for differences of fourth order; rounding leaves 1e-13 in the gradient, and
# where symmetry is broken weakly the curvature is small: such problems make no reference.
DIFFERENCE = 1e-2
# A piece has so many nodes; 18 change the functional by 1e-10 or less.
NODES = 12


def _rule(n: int) -> tuple[np.ndarray, np.ndarray]:
    nodes, weights = np.polynomial.legendre.leggauss(n)
    return 0.5 * (nodes + 1.0), 0.5 * weights


@numba.njit
def _envelope(x, y, chi, a):
    """min over u of (u - x)^2/(2 chi) + (y - g(u))^2/2, from the three candidates."""
    best = x * x / (2.0 * chi) + y * y / 2.0  # u = 0
    u = (x + chi * y) / (1.0 + chi)
    if u > 0.0:
        best = min(best, (u - x) ** 2 / (2.0 * chi) + (y - u) ** 2 / 2.0)
    u = (x + a * chi * y) / (1.0 + a * a * chi)
    if u < 0.0:
        best = min(best, (u - x) ** 2 / (2.0 * chi) + (y - a * u) ** 2 / 2.0)
    return best


@numba.njit
def _pieces(low, high, cuts, longest, edges):
    """Fill the edges of pieces between low and high, cut at `cuts` and no longer than `longest`."""
    edges[0] = low
    n = 1
    last = low
    while last < high:
        end = min(high, last + longest)
        for cut in cuts:
            if last < cut < end:
                end = cut
        edges[n] = last = end
        n += 1
    return n


@numba.njit
def _between(w, y, chi, s, xi, a, ends, nodes, weights, edges):
    """-(1/xi) ln E exp(-xi M(w + s eta, y)) over a standard normal eta."""
    here = _envelope(w, y, chi, a)
    low = high = 0.0  # where the weight may have its maximum
    for far in (-10.0, 0.0, 10.0):
        x = w + far * s
        pull = 0.5 * xi * (_envelope(x - s, y, chi, a) - _envelope(x + s, y, chi, a))
        low, high = min(low, pull), max(high, pull)
    cuts = (ends - w) / s
    n = _pieces(low - 10.0, high + 10.0, cuts, 2.0, edges)
    total = 0.0
    for k in range(n - 1):
        length = edges[k + 1] - edges[k]
        for i in range(nodes.size):
            eta = edges[k] + length * nodes[i]
            cost = _envelope(w + s * eta, y, chi, a) - here
            total += length * weights[i] * math.exp(-0.5 * eta * eta - xi * cost)
    return here - math.log(total / math.sqrt(2.0 * math.pi)) / xi


@numba.njit
def _average(chi, m, v, d, xi, S, a, labels, nodes, weights):
    """E phi_0 over the label and the field between states."""
    sigma = math.sqrt(1.0 + S)
    tau = math.sqrt(v + m * m * S / (1.0 + S))
    s = math.sqrt(d)
    D = chi + xi * d
    A, B = math.sqrt(1.0 + chi), math.sqrt(1.0 + a * a * chi)
    AD, BD = math.sqrt(1.0 + D), math.sqrt(1.0 + a * a * D)
    kappa, kappa_D = (A - B) / (B - a * A), (AD - BD) / (BD - a * AD)
    edges, inner = np.empty(2000), np.empty(2000)
    offsets = np.array([-9.0, -6.0, -4.0, -2.5, -1.5, -0.75, 0.0, 0.75, 1.5, 2.5, 4.0, 6.0, 9.0])
    total = 0.0
    for k in range(labels.size - 1):
        for i in range(nodes.size):
            y = sigma * (labels[k] + (labels[k + 1] - labels[k]) * nodes[i])
            p_y = (labels[k + 1] - labels[k]) * weights[i] * math.exp(-0.5 * (y / sigma) ** 2)
            mean = m * y / (1.0 + S)
            if y > 0.0:
                ends = np.array([-kappa * y])
                where = -kappa_D * y + s * offsets
            else:
                ends = np.array([-a * chi * y, -chi * y])
                where = np.concatenate((-a * D * y + s * offsets, -D * y + s * offsets))
            n = _pieces(-8.5, 8.5, (where - mean) / tau, 1.0, edges)
            for j in range(n - 1):
                length = edges[j + 1] - edges[j]
                for l in range(nodes.size):
                    z = edges[j] + length * nodes[l]
                    p = p_y * length * weights[l] * math.exp(-0.5 * z * z) / (2.0 * math.pi)
                    w = mean + tau * z
                    total += p * _between(w, y, chi, s, xi, a, ends, nodes, weights, inner)
    return total


def _labels(s: float) -> np.ndarray:
    """Edges of pieces of y/sigma, finer and finer towards 0."""
    half = [8.5, 6.0, 4.5, 3.0, 2.0, 1.2, 0.6]
    while half[-1] > min(s, 0.02):
        half.append(0.45 * half[-1])
    return np.array([*(-x for x in half), 0.0, *half[::-1]])


def functional(
    chi: float,
    m: float,
    v: float,
    d: float,
    xi: float,
    problem: tuple[float, float, float, float],
    nodes: int = NODES,
) -> float:
    """The functional of one step at any order parameters, v = q_0 - m^2 and d = q_1 - q_0."""
    alpha, S, zeta, a = problem
    D = chi + xi * d
    phi = _average(chi, m, v, d, xi, S, a, _labels(math.sqrt(d)), *_rule(nodes))
    return zeta * (v + m * m + d) / 2 - (math.log(D / chi) / xi + v / D) / 2 + alpha * phi


def _row(inputs: tuple[float, float, float, float]) -> tuple[float, ...]:
    x = np.log(STARTS[inputs])

    def at(x: np.ndarray) -> float:
        chi, m, v, d, xi = np.exp(x).tolist()
        return functional(chi, m, v, d, xi, inputs)

    def gradient(x: np.ndarray) -> np.ndarray:
        h = DIFFERENCE
        slopes = np.empty(5)
        for k, unit in enumerate(np.eye(5)):
            f = [at(x + j * h * unit) for j in (-2, -1, 1, 2)]
            slopes[k] = (f[0] - 8.0 * f[1] + 8.0 * f[2] - f[3]) / (12.0 * h)
        return slopes

    def hessian(x: np.ndarray) -> np.ndarray:
        h = 4 * DIFFERENCE
        matrix = np.empty((5, 5))
        units = h * np.eye(5)
        for k, first in enumerate(units):
            for l, second in enumerate(units[: k + 1]):
                corners = (first + second, -first - second, first - second, second - first)
                f = [at(x + corner) for corner in corners]
                matrix[k, l] = matrix[l, k] = (f[0] + f[1] - f[2] - f[3]) / (4 * h * h)
        return matrix

    curvature = hessian(x)
    for _ in range(12):
        step = np.linalg.solve(curvature, gradient(x))
        x = x - step
        if np.abs(step).max() < 1e-6:
            break
    chi, m, v, d, xi = np.exp(x).tolist()
    return (*inputs, chi, m, v + m * m, v + m * m + d, xi, at(x))


def _make_row(inputs: tuple[float, float, float, float]) -> list[str]:
    return [repr(float(value)) for value in _row(inputs)]


def verify() -> None:
    for row in read(FOLDER / "symmetry_breaking.csv"):
        numbers = {name: float(row[name]) for name in NAMES}
        m, q_0 = numbers["m"], numbers["q_0"]
        unknowns = numbers["chi"], m, q_0 - m * m, numbers["q_1"] - q_0, numbers["xi"]
        alpha, S, zeta, slope = (numbers[name] for name in NAMES[:4])
        problem = alpha, S, zeta, slope
        finer = functional(*unknowns, problem, nodes=20)
        print(problem, "functional by a finer rule, less that of the table:", end=" ")
        print(f"{finer - numbers['energy']:.1e}")


TABLES = {"symmetry_breaking": (_make_row, lambda: list(STARTS), NAMES)}

if __name__ == "__main__":
    main(__doc__ or "", TABLES, verify)
