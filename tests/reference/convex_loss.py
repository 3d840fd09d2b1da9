"""Equilibria of the linear student under convex losses to 25 digits, by plain quadrature.

Imports nothing from `replica` but for the first guesses, which `main` takes from its solver: the
problem is convex, so that a root of the equations is the solution whatever led there. No closed
moments and no derivative of the pull: both follow from Stein's identity.
"""

from __future__ import annotations

import csv
import math
import sys
from itertools import pairwise

from mpmath import inf, mp, mpf

from .tables import FOLDER, exact, legendre, text

DIGITS = 34
REACH = 13
NODES = 36

# loss, labels, probability of a flip, alpha, S, zeta
PROBLEMS = [
    ("absolute", "linear", 0.0, 0.01, 0.25, 0.1),
    ("absolute", "linear", 0.0, 1000.0, 100.0, 1e-8),
    ("absolute", "linear", 0.0, 2.0, 0.3, 0.0),
    ("absolute", "linear", 0.0, 1.1, 0.0, 1.0),
    ("huber:1.0", "linear", 0.0, 2.0, 0.3, 0.1),
    ("huber:0.01", "linear", 0.0, 1000.0, 0.01, 1e4),
    ("huber:1.0", "linear", 0.0, 0.5, 0.0, 1e-8),
    ("huber:1.0", "linear", 0.0, 1.5, 100.0, 0.0),
    ("epsilon-insensitive:0.1", "linear", 0.0, 3.0, 0.01, 1e-8),
    ("epsilon-insensitive:0.5", "linear", 0.0, 1.3, 0.04, 0.0),
    ("epsilon-insensitive:0.1", "linear", 0.0, 1000.0, 0.0, 1e-8),
    ("quantile:0.9", "linear", 0.0, 2.0, 0.3, 0.1),
    ("quantile:0.9", "linear", 0.0, 5.0, 2.0, 0.0),
    ("hinge", "sign", 0.0, 0.01, 0.0, 1e-8),
    ("hinge", "sign", 0.0, 1000.0, 0.0, 1e-8),
    ("hinge", "sign", 0.0, 2.0, 0.25, 0.1),
    ("hinge", "sign", 0.1, 5.0, 0.0, 0.0),
    ("hinge", "sign", 0.0, 1.5, 0.5, 0.0),
    ("hinge", "sign", 0.5, 0.7, 0.0, 0.0),
    ("hinge", "sign", 0.0, 100.0, 100.0, 1e4),
    ("squared-hinge", "sign", 0.0, 3.0, 0.0, 0.01),
    ("squared-hinge", "sign", 0.2, 1000.0, 1.0, 0.0),
    ("absolute", "sign", 0.0, 2.0, 0.1, 0.3),
    ("epsilon-insensitive:0.3", "sign", 0.0, 0.8, 0.1, 0.0),
    ("quantile:0.8", "sign", 0.1, 2.0, 0.1, 0.3),
    ("logistic", "sign", 0.0, 2.0, 0.25, 0.1),
    ("logistic", "sign", 0.0, 0.01, 0.0, 1e-8),
    ("logistic", "sign", 0.0, 1000.0, 0.0, 1e-8),
    ("logistic", "sign", 0.1, 6.0, 1.0, 0.0),
    ("exponential", "sign", 0.0, 2.0, 0.25, 0.1),
    ("exponential", "sign", 0.1, 20.0, 1.0, 0.0),
]


def nearest_interval(loss: str):
    """Where the loss is least."""
    kind, _, number = loss.partition(":")
    if kind == "epsilon-insensitive":
        return -mpf(number), mpf(number)
    return (mpf(1), inf) if kind in ("hinge", "squared-hinge") else (mpf(0), mpf(0))


def kinks_of(loss: str, chi, infinite: bool):
    """Where the proximal step, a function of the loss's own argument, bends."""
    low, high = nearest_interval(loss)
    if infinite:
        return [low, high]
    kind, _, number = loss.partition(":")
    if kind == "absolute":
        return [-chi, chi]
    if kind == "huber":
        return [-(1 + chi) * mpf(number), (1 + chi) * mpf(number)]
    if kind == "epsilon-insensitive":
        return [low - chi, low, high, high + chi]
    if kind == "quantile":
        return [chi * (mpf(number) - 1), chi * mpf(number)]
    return {"hinge": [1 - chi, mpf(1)], "squared-hinge": [mpf(1)]}.get(kind, [])


def step(loss: str, x, chi, infinite: bool):
    """The proximal step p of the loss's own argument."""
    low, high = nearest_interval(loss)
    if infinite:
        return min(max(x, low), high)
    kind, _, number = loss.partition(":")
    if kind == "absolute":
        return x - chi if x > chi else x + chi if x < -chi else mpf(0)
    if kind == "huber":
        delta = mpf(number)
        return x / (1 + chi) if abs(x) < (1 + chi) * delta else x - mp.sign(x) * chi * delta
    if kind == "epsilon-insensitive":
        if low <= x <= high:
            return x
        return max(x - chi, high) if x > high else min(x + chi, low)
    if kind == "quantile":
        level = mpf(number)
        up, down = chi * level, chi * (level - 1)
        return x - up if x > up else x - down if x < down else mpf(0)
    if kind == "hinge":
        return x if x > 1 else min(x + chi, mpf(1))
    if kind == "squared-hinge":
        return x if x > 1 else (x + chi) / (1 + chi)
    p = x
    if kind == "exponential" and x < 1:
        p = max(x, -mp.log((1 - x) / chi))
    low, high = x, inf
    for _ in range(400):  # p + chi l'(p) = x, by Newton's method between bounds
        e = mp.exp(-p)
        slope, bend = (-e, e) if kind == "exponential" else (-e / (1 + e), e / (1 + e) ** 2)
        gap = p + chi * slope - x
        low, high = (low, p) if gap > 0 else (p, high)
        new = p - gap / (1 + chi * bend)
        if not low < new < high and high < inf and gap:
            new = (low + high) / 2
        if abs(new - p) < mpf(10) ** (-DIGITS + 4) * (1 + abs(p)):
            return new
        p = new
    raise ArithmeticError("the proximal step does not converge")


def rule(edges):
    """Nodes and weights of Gauss and Legendre between consecutive edges."""
    nodes = legendre(NODES)
    for a, b in pairwise(edges):
        for x, w in nodes:
            yield (a + b) / 2 + (b - a) / 2 * x, w * (b - a) / 2


def edges_of(scale, kinks, extra=()):
    """Edges of panels of the normal law of this width."""
    inside = [k for k in (*kinks, *extra) if abs(k) < REACH * scale]
    return sorted({*(scale * k for k in range(-REACH, REACH + 1)), *inside})


def residual_equations(problem, infinite, unknown):
    """The two equations for (log chi, log s^2), or for log s^2."""
    loss, _, _, alpha, S, zeta = problem
    chi, s2 = mp.exp(unknown[0]), mp.exp(unknown[-1])
    s = mp.sqrt(s2)
    cross = square = mpf(0)
    for r, w in rule(edges_of(s, kinks_of(loss, chi, infinite))):
        g = w * mp.npdf(r, 0, s)
        pull = r - step(loss, r, chi, infinite)
        cross += g * pull * r
        square += g * pull**2
    h = 1 - alpha * cross / s2 if infinite else zeta * chi
    second = (S + h * h + alpha * square) / s2 - 1
    return [second] if infinite else [h + alpha * cross / s2 - 1, second]


def label_equations(problem, infinite, unknown):
    """The equations for (log chi, m, log v), or for (m, log v)."""
    loss, _, flip, alpha, S, zeta = problem
    chi, m, v = mp.exp(unknown[0]), unknown[-2], mp.exp(unknown[-1])
    q = v + m * m
    s2 = v / q + S
    scale = mp.sqrt(q)
    a = m / (q * mp.sqrt(s2))
    K = W = G = mpf(0)
    width = 1 / abs(a) if m else scale
    steps = [sign * width * k for sign in (-1, 1) for k in (0, 0.5, 1, 2, 3, 4, 6, 8, 11, 14)]
    kind = loss.partition(":")[0]
    margin = kind in ("hinge", "squared-hinge", "logistic", "exponential")
    bends = kinks_of(loss, chi, infinite)
    for y in (1,) if margin else (1, -1):
        # x = y omega; the loss's own argument is x, or r = y (1 - x)
        kinks = bends if margin else [1 - y * k for k in bends]
        if not bends:  # a smooth loss bends on the scale of one
            kinks = [chi * mpf(k) / 4 for k in range(-4, 1)]
        for x, w in rule(edges_of(scale, kinks, steps)):
            g = w * mp.npdf(x, 0, scale) * (2 if margin else 1)
            agree = flip + (1 - 2 * flip) * mp.ncdf(a * x)
            own = x if margin else y * (1 - x)
            p = step(loss, own, chi, infinite)
            pull = (p if margin else 1 - y * p) - x
            W += g * agree * pull**2
            K += g * agree * pull * x
            G += g * (1 - 2 * flip) * mp.npdf(a * x) / mp.sqrt(s2) * pull
    K = -(K - m * G) / q
    last = alpha * W / v - 1
    second = m - alpha * G
    return [second, last] if infinite else [zeta * chi + alpha * K - 1, second, last]


def solve(problem, start):
    """(gamma, R, chi, gen_error) next to (chi, m, v) or, for residuals, (chi, s^2)."""
    mp.dps = DIGITS
    loss, labels, flip, *numbers = problem
    problem = (loss, labels, exact(flip), *(exact(x) for x in numbers))
    infinite = math.isinf(start[0])
    equations = label_equations if labels == "sign" else residual_equations
    guess = [mp.log(start[-1])]
    if labels == "sign":
        guess.insert(0, mpf(start[1]))
    if not infinite:
        guess.insert(0, mp.log(start[0]))
    unknown = newton(lambda x: equations(problem, infinite, x), guess)
    chi = inf if infinite else mp.exp(unknown[0])
    alpha, S, zeta = problem[3:]
    if labels == "sign":
        m, v = unknown[-2], mp.exp(unknown[-1])
        angle = mp.atan2(mp.sqrt(v), m) / mp.pi
        q = v + m * m
        error = angle
        if loss.partition(":")[0] in ("absolute", "huber", "quantile", "epsilon-insensitive"):
            error = 1 - 2 * mp.sqrt(2 / mp.pi) * m + q
    else:
        s2 = mp.exp(unknown[-1])
        error = s2 - S
        if infinite:
            s = mp.sqrt(s2)
            cross = sum(
                w * mp.npdf(r, 0, s) * r * (r - step(loss, r, chi, True))
                for r, w in rule(edges_of(s, kinks_of(loss, chi, True)))
            )
            h = 1 - alpha * cross / s2
        else:
            h = zeta * chi
        m = 1 - h
        q = error - h * h + m * m
    gamma = mp.sqrt(q)
    return gamma, m / gamma, chi, error


def newton(equations, x):
    """Root next to x, by Newton's method with differences."""
    small = mpf(10) ** (-DIGITS // 3)
    for _ in range(12):
        here = equations(x)
        columns = []
        for k in range(len(x)):
            shifted = list(x)
            shifted[k] += small
            columns.append([(b - a) / small for a, b in zip(here, equations(shifted), strict=True)])
        jacobian = mp.matrix(columns).T
        move = mp.lu_solve(jacobian, mp.matrix(here))
        x = [a - b for a, b in zip(x, move, strict=True)]
        if max(abs(b) for b in move) < mpf(10) ** (-DIGITS + 9):
            return x
    raise ArithmeticError("no convergence")


def main() -> None:
    """Write the table to the path given, or to its place."""
    from replica import Flip, solve_equilibrium

    path = sys.argv[1] if len(sys.argv) > 1 else FOLDER / "convex_loss.csv"
    with open(path, "w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        names = ("loss", "teacher", "flip", "alpha", "S", "zeta", "gamma", "R", "chi", "gen_error")
        table.writerow(names)
        for problem in PROBLEMS:
            loss, labels, flip, alpha, S, zeta = problem
            noise = Flip(flip) if labels == "sign" else "output"
            found = solve_equilibrium(alpha, S, zeta, loss=loss, teacher=labels, noise=noise)
            m = float(found.gamma * found.R)
            v = float(found.q * (1 - found.R) * (1 + found.R))
            start = (float(found.chi), m, v)
            if labels == "linear":
                start = (float(found.chi), float(found.gen_error + S))
            row = [text(value, 25) for value in solve(problem, start)]
            table.writerow([*problem, *row])
            file.flush()
            columns = (found.gamma, found.R, found.chi, found.gen_error)
            pairs = zip(columns, map(float, row), strict=True)
            off = max(abs(float(a) / b - 1) if math.isfinite(b) and b else 0.0 for a, b in pairs)
            print(*problem, f"{off:.1e}", flush=True)


if __name__ == "__main__":
    main()
