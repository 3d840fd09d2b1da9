"""Replica-symmetric zero-temperature solution of the (leaky-)ReLU student to 30 digits.

Imports nothing from `replica`. The field pair is written as y = sigma n1, omega = (m/sigma) n1 + tau n2
with independent standard normal n1, n2, so that the unknowns (chi, m, tau) stay of their own
size where the student's covariance with the teacher becomes singular.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from mpmath import matrix, mp, mpf

from .tables import exact, log_uniform, main, text

__all__ = ["Moments", "Solution", "moments", "solve"]

DIGITS = 140
COARSE_DIGITS = 70


class Moments(NamedTuple):
    """Gaussian averages of f = (prox - omega)/chi over the field pair."""

    f_squared: mpf  # E[f^2]
    g0: mpf  # E[df/domega], jumps included
    g1: mpf  # E[df/dy], jumps included
    train_error: mpf  # E[(y - g(prox))^2]
    dead_fraction: mpf  # P[y > 0, prox < 0]


def rays(chi, slope):
    """Directions (omega, y) across which the linear form of f may change."""
    up, down = mp.sqrt(1 + chi), mp.sqrt(1 + slope**2 * chi)
    switch = (up - down) / (down - slope * up) if slope < 1 else mpf(0)
    return [(1, 0), (-switch, 1), (-1, 0), (slope * chi, -1), (chi, -1)]


def branch(omega, y, chi, slope):
    """Slope of the branch of g that holds the proximal point; None if it sits on the kink."""
    candidates = [(((0 - omega) ** 2 / chi + y**2), None)]
    for b, sign in ((mpf(1), 1), (slope, -1)):
        u = (omega + b * chi * y) / (1 + b**2 * chi)
        if sign * u > 0:
            candidates.append(((u - omega) ** 2 / chi + (y - b * u) ** 2, b))
    return min(candidates, key=lambda candidate: candidate[0])[1]


def sectors(directions, m, tau, sigma):
    """Angles and second moments of (n1, n2) between consecutive directions (omega, y).

    Yields ((omega, y) inside, angle, (E[n1^2; sector], E[n1 n2; sector], E[n2^2; sector])).
    """
    points = []
    for omega, y in directions:
        n1 = y / sigma
        n2 = (omega - m / sigma * n1) / tau
        points.append((mp.atan2(n2, n1), n1, n2))
    points.sort()
    for (t1, c1, s1), (t2, c2, s2) in zip(points, points[1:] + points[:1], strict=True):
        angle = t2 - t1 if t2 >= t1 else t2 - t1 + 2 * mp.pi
        if angle == 0:
            continue
        r1, r2 = c1**2 + s1**2, c2**2 + s2**2
        sine = 2 * (c2 * s2 / r2 - c1 * s1 / r1)  # sin(2 t2) - sin(2 t1)
        cosine = (c2**2 - s2**2) / r2 - (c1**2 - s1**2) / r1
        middle = t1 + angle / 2
        n1, n2 = mp.cos(middle), mp.sin(middle)
        second = [(angle + sine / 2), -cosine / 2, (angle - sine / 2)]
        yield (
            (m / sigma * n1 + tau * n2, sigma * n1),
            angle,
            [value / (2 * mp.pi) for value in second],
        )


def moments(chi, m, tau, sigma, slope) -> Moments:
    """Averages at finite chi, sector by sector."""
    f_squared = n1_f = n2_f = train = dead = mpf(0)
    for (omega, y), angle, (e11, e12, e22) in sectors(rays(chi, slope), m, tau, sigma):
        b = branch(omega, y, chi, slope)
        if b is None:
            along_omega, along_y = -1 / chi, mpf(0)
            residual_omega, residual_y = mpf(0), mpf(1)
        else:
            residual_y = 1 / (1 + b**2 * chi)
            residual_omega = -b * residual_y
            along_omega, along_y = b * residual_omega, b * residual_y
        p, r = along_y * sigma + along_omega * m / sigma, along_omega * tau
        f_squared += p * p * e11 + 2 * p * r * e12 + r * r * e22
        n1_f += p * e11 + r * e12
        n2_f += p * e12 + r * e22
        p, r = residual_y * sigma + residual_omega * m / sigma, residual_omega * tau
        train += p * p * e11 + 2 * p * r * e12 + r * r * e22
        if b == slope and y > 0 and slope < 1:
            dead += angle / (2 * mp.pi)
    g0 = n2_f / tau
    return Moments(f_squared, g0, (n1_f - m / sigma * g0) / sigma, train, dead)


class Solution(NamedTuple):
    """Order parameters and what follows from them."""

    gamma: mpf
    R: mpf
    chi: mpf
    gen_error: mpf
    train_error: mpf
    energy: mpf
    dead_fraction: mpf


def residuals(x, alpha, S, zeta, slope):
    """Saddle-point equations, each divided by its own size, in the logarithms of (chi, m, tau)."""
    chi, m, tau = (mp.exp(value) for value in x)
    sigma = mp.sqrt(1 + S)
    at = moments(chi, m, tau, sigma, slope)
    return [
        chi * (zeta - alpha * at.g0) - 1,
        alpha * at.g1 * chi / m - 1,
        (m**2 * S / sigma**2 + alpha * at.f_squared * chi**2) / tau**2 - 1,
    ]


class NoConvergenceError(ArithmeticError):
    """Newton's method did not reach the requested residual."""


def newton(equations, x, tolerance, max_iter=40):
    """Damped Newton iteration with a difference Jacobian at half the working precision."""
    n = len(x)
    step = mpf(10) ** (-(mp.dps // 2))
    value = equations(x)
    size = max(map(abs, value))
    for _ in range(max_iter):
        if size < tolerance:
            return x
        jacobian = matrix(n, n)
        for j in range(n):
            shifted = equations([x[i] + (step if i == j else 0) for i in range(n)])
            for i in range(n):
                jacobian[i, j] = (shifted[i] - value[i]) / step
        try:
            direction = mp.lu_solve(jacobian, matrix(value))
        except ZeroDivisionError as error:
            raise NoConvergenceError("singular Jacobian") from error
        damping = min(mpf(1), 2 / max(abs(d) for d in direction))
        while True:
            trial = [x[i] - damping * direction[i] for i in range(n)]
            trial_value = equations(trial)
            trial_size = max(map(abs, trial_value))
            if trial_size < size:
                break
            damping /= 2
            if damping < mpf(2) ** -12:
                raise NoConvergenceError("no descent")
        x, value, size = trial, trial_value, trial_size
    raise NoConvergenceError("iteration limit")


def relax(x, alpha, S, zeta, slope, n_iter):
    """Damped fixed-point iteration, from any start."""
    sigma = mp.sqrt(1 + S)
    chi, m, tau = (mp.exp(value) for value in x)
    for _ in range(n_iter):
        at = moments(chi, m, tau, sigma, slope)
        chi_new = 1 / max(zeta - alpha * at.g0, 1 / (2 * chi))
        m_new = alpha * at.g1 * chi
        tau_new = mp.sqrt(m**2 * S / sigma**2 + alpha * at.f_squared * chi**2)
        chi, m, tau = (chi + chi_new) / 2, (m + m_new) / 2, (tau + tau_new) / 2
    return [mp.log(chi), mp.log(m), mp.log(tau)]


def continue_in_zeta(alpha, S, zeta, slope):
    """Coarse solution at zeta, followed from strong decay, where the iteration contracts."""
    tolerance = mpf(10) ** -20
    here = mp.log(max(zeta, 100 * (1 + alpha)))
    goal = mp.log(zeta)

    def solve_at(log_zeta, start):
        return newton(lambda x: residuals(x, alpha, S, mp.exp(log_zeta), slope), start, tolerance)

    strong = mp.exp(here)
    start = [mp.log(1 / strong), mp.log(alpha / strong), mp.log(mp.sqrt(alpha * (1 + S)) / strong)]
    x = solve_at(here, relax(start, alpha, S, strong, slope, 60))
    velocity = [mpf(-1)] * 3
    previous = None
    step = mpf(2)
    while here > goal:
        there = max(here - step, goal)
        length = here - there
        guess = [x[i] - velocity[i] * length for i in range(3)]
        guesses = [guess]
        if previous:  # m may approach its limit linearly in zeta while chi and tau follow powers
            ratio = (mp.exp(here) - mp.exp(there)) / (mp.exp(previous[0]) - mp.exp(here))
            m = mp.exp(x[1]) + (mp.exp(x[1]) - mp.exp(previous[1])) * ratio
            if m > 0:
                guesses.append([guess[0], mp.log(m), guess[2]])
        guess = min(
            guesses,
            key=lambda g: max(map(abs, residuals(g, alpha, S, mp.exp(there), slope))),  # noqa: B023
        )
        try:
            x_new = solve_at(there, guess)
        except NoConvergenceError:
            step = length / 2
            if step < 1e-3:
                raise
            continue
        previous = (here, x[1])
        velocity = [(x[i] - x_new[i]) / length for i in range(3)]
        x, here = x_new, there
        step = min(2 * step, mpf(3))
    return x


def polish(x, alpha, S, zeta, slope):
    """Newton at full precision."""
    return newton(
        lambda x: residuals(x, alpha, S, zeta, slope), x, mpf(10) ** -75, max_iter=20
    )


def outputs(x, alpha, S, zeta, slope) -> Solution:
    """What the table holds, from the logarithms of (chi, m, tau)."""
    chi, m, tau = (mp.exp(value) for value in x)
    sigma = mp.sqrt(1 + S)
    at = moments(chi, m, tau, sigma, slope)
    return finish(chi, m, tau, at.train_error, at.dead_fraction, alpha, S, zeta, slope)


def finish(chi, m, tau, train_error, dead_fraction, alpha, S, zeta, slope) -> Solution:
    """Generalization error, energy and the normalised overlap from (chi, m, tau)."""
    q = tau**2 + m**2 / (1 + S)
    gamma = mp.sqrt(q)
    gen_error = 1 + (1 + slope**2) * q / 2 - (1 + slope) * m
    energy = alpha * train_error / 2 + zeta * q / 2
    return Solution(gamma, m / gamma, chi, gen_error, train_error, energy, dead_fraction)


def other_starts(alpha, S, zeta, slope, count):
    """Coarse solutions reached from random starts, some of them at the scale 1/slope."""
    draw = random.Random(repr((float(alpha), float(S), float(zeta), float(slope))))
    scale = 1 / max(slope, mpf(10) ** -7) if slope > 0 else mpf(1)
    for _ in range(count):
        size = mp.sqrt(1 + S) * draw.choice([1, scale]) * mpf(10) ** draw.uniform(-1, 1)
        chi = draw.choice([1, scale**2]) * mpf(10) ** draw.uniform(-1, 4)
        start = [mp.log(chi), mp.log(size), mp.log(size) + draw.uniform(-2, 1)]
        try:
            x = relax(start, alpha, S, zeta, slope, draw.choice([5, 40]))
            yield newton(
                lambda x: residuals(x, alpha, S, zeta, slope), x, mpf(10) ** -20
            )
        except (ArithmeticError, ValueError):
            continue


def solve(alpha, S, zeta, slope, starts=0):
    """Logarithms of (chi, m, tau) of every solution found, lowest energy first."""
    mp.dps = COARSE_DIGITS
    found = []
    coarse = [continue_in_zeta(alpha, S, zeta, slope)]
    for x in [*coarse, *other_starts(alpha, S, zeta, slope, starts)]:
        if all(max(abs(x[i] - old[i]) for i in range(3)) > 1e-6 for old in found):
            found.append(x)
    mp.dps = DIGITS
    found = [polish(x, alpha, S, zeta, slope) for x in found]
    return sorted(found, key=lambda x: outputs(x, alpha, S, zeta, slope).energy)


def condition(evaluate, inputs):
    """Largest relative change of (gamma, R, chi, gen_error) per relative change of one input."""
    step = mpf(10) ** -20
    base = evaluate(inputs)
    worst = mpf(0)
    for i, value in enumerate(inputs):
        if value == 0:
            continue
        shifted = evaluate([*inputs[:i], value * (1 + step), *inputs[i + 1 :]])
        for old, new in list(zip(base, shifted, strict=True))[:4]:
            if mp.isfinite(old) and old != 0:
                worst = max(worst, abs(new / old - 1) / step)
    return worst


def regular_row(inputs):
    """One row of piecewise.csv."""
    exact_inputs = [exact(value) for value in inputs]
    slope = exact_inputs[3]
    found = solve(*exact_inputs, starts=12 if 0 < slope < 0.2 else 3)
    x = found[0]
    solution = outputs(x, *exact_inputs)
    number = condition(lambda values: outputs(polish(x, *values), *values), exact_inputs)
    return [
        *map(repr, inputs),
        *map(text, solution),
        text(number, 3),
        len(found),
    ]


def regular_inputs():
    """(alpha, S, zeta, slope)."""
    slopes = [0.0, 1e-6, 0.01, 0.1, 0.3, 0.5, 0.9, 0.999, 1 - 1e-9]
    points = [
        (alpha, 0.25, zeta, slope)
        for slope in (0.0, 0.1, 0.5)
        for alpha in (0.5, 1.0, 1.5, 2.0, 3.0)
        for zeta in (0.015625, 0.25)
    ]
    # noise-free and nearly unregularised beyond the threshold: R -> 1 to the last digit and beyond
    points += [
        (alpha, 0.0, zeta, slope)
        for slope in (0.0, 0.5)
        for alpha in (2.5, 10.0, 1e3)
        for zeta in (1e-12, 1e-6)
    ]
    points += [(1e-3, S, zeta, 0.0) for S in (0.0, 1.0) for zeta in (1e-12, 1e-3, 1.0, 1e4)]
    points += [
        (alpha, S, zeta, 0.0)
        for alpha, S in ((4 / 3, 30.0), (1.46, 0.25), (1.47, 0.25), (2.0, 0.0), (2.0, 1e-4))
        for zeta in (1e-9, 1e-3)
    ]
    points += [
        (alpha, S, zeta, slope)
        for slope in slopes
        for alpha, S, zeta in (
            (0.999, 1e-12, 1e-10),
            (1.001, 1.0, 1e-6),
            (1.4, 0.25, 1e-12),
            (2.0, 1e-4, 1e-8),
            (100.0, 1e3, 1.0),
        )
    ]
    draw = random.Random(20260102)
    while len(points) < 250:
        alpha = log_uniform(draw, 1e-3, 1e3) if draw.random() < 0.5 else log_uniform(draw, 0.3, 5)
        S = draw.choice([0.0, 1e-12, 1e-4, 0.25, 1.0, 30.0, 1e3, log_uniform(draw, 1e-4, 1e2)])
        zeta = log_uniform(draw, 1e-12, 1e4) if draw.random() < 0.5 else log_uniform(draw, 1e-4, 10)
        points.append((alpha, S, zeta, draw.choice(slopes)))
    return points


NAMES = [
    "alpha", "S", "zeta", "slope", "gamma", "R", "chi", "gen_error", "train_error", "energy",
    "dead_fraction", "condition",
]
TABLES = {
    "piecewise": (regular_row, regular_inputs, [*NAMES, "n_solutions"]),
}

if __name__ == "__main__":
    main(__doc__, TABLES, None)
