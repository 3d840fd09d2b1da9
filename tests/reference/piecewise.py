"""Replica-symmetric zero-temperature solution of the (leaky-)ReLU student to 30 digits.

Imports nothing from `replica`. The field pair is written as y = sigma n1,
omega = (m/sigma) n1 + tau n2 with independent standard normal n1, n2, so that the unknowns
(chi, m, tau) keep their own size where the covariance of (omega, y) becomes singular.
"""

from __future__ import annotations

import random
from functools import partial
from itertools import pairwise
from typing import NamedTuple

from mpmath import inf, matrix, mp, mpf

from .tables import FOLDER, exact, log_uniform, main, read, text

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


def residuals(alpha, S, zeta, slope, x):
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


def follow(equations_at, x, start, goal):
    """Carry a solution of equations_at(parameter) from parameter = start to goal (both positive).

    Steps are uniform in the logarithm and shrink until Newton's method converges.
    """
    tolerance = mpf(10) ** -20
    here, goal = mp.log(start), mp.log(goal)
    x = newton(equations_at(mp.exp(here)), x, tolerance, 100)
    velocity, previous = [mpf(0)] * len(x), None
    step = mpf(1)
    while here != goal:
        length = min(step, abs(goal - here))
        there = goal if length == abs(goal - here) else here + length * mp.sign(goal - here)
        equations = equations_at(mp.exp(there))
        guesses = [[x[i] + velocity[i] * (there - here) for i in range(len(x))]]
        if previous:  # m may approach a limit linearly while the other unknowns follow powers
            ratio = mp.expm1(there - here) / -mp.expm1(previous[0] - here)
            m = mp.exp(x[1]) + (mp.exp(x[1]) - mp.exp(previous[1])) * ratio
            if m > 0:
                guesses.append([guesses[0][0], mp.log(m), *guesses[0][2:]])
        guess = min(guesses, key=lambda x: max(map(abs, equations(x))))
        try:
            x_new = newton(equations, guess, tolerance)
        except NoConvergenceError:
            step = length / 2
            if step < 1e-3:
                raise
            continue
        previous = (here, x[1])
        velocity = [(x_new[i] - x[i]) / (there - here) for i in range(len(x))]
        x, here, step = x_new, there, min(2 * step, mpf(3))
    return x


def from_strong_decay(alpha, S, zeta, slope):
    """Coarse solution followed from a large zeta, where the plain iteration contracts."""
    strong = max(zeta, 100 * (1 + alpha))
    x = [mp.log(1 / strong), mp.log(alpha / strong), mp.log(mp.sqrt(alpha * (1 + S)) / strong)]
    x = relax(x, alpha, S, strong, slope, 60)
    return follow(lambda zeta: partial(residuals, alpha, S, zeta, slope), x, strong, zeta)


def from_large_slope(alpha, S, zeta, slope):
    """Coarse solution followed from slope 1/2: the one of large norm where there are several."""
    x = from_strong_decay(alpha, S, zeta, mpf(0.5))
    return follow(lambda slope: partial(residuals, alpha, S, zeta, slope), x, mpf(0.5), slope)


def polish(x, alpha, S, zeta, slope):
    """Newton at full precision."""
    return newton(partial(residuals, alpha, S, zeta, slope), x, mpf(10) ** -75)


def outputs(x, alpha, S, zeta, slope) -> Solution:
    """What the table holds, from the logarithms of (chi, m, tau)."""
    chi, m, tau = (mp.exp(value) for value in x)
    sigma = mp.sqrt(1 + S)
    at = moments(chi, m, tau, sigma, slope)
    return finish(chi, m, tau, at.train_error, at.dead_fraction, alpha, S, zeta, slope)


def finish(chi, m, tau, train_error, dead_fraction, alpha, S, zeta, slope) -> Solution:
    """Generalization error, energy and the normalized overlap from (chi, m, tau)."""
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
            yield newton(partial(residuals, alpha, S, zeta, slope), x, mpf(10) ** -20)
        except (ArithmeticError, ValueError):
            continue


def several_possible(slope) -> bool:
    """Whether a solution of norm 1/slope may compete with one like that of the ReLU student."""
    return 0 < slope < 0.2


def solve(alpha, S, zeta, slope):
    """Logarithms of (chi, m, tau) of every solution found, lowest energy first."""
    mp.dps = COARSE_DIGITS
    routes = (
        [from_strong_decay, from_large_slope] if several_possible(slope) else [from_strong_decay]
    )
    coarse = []
    for route in routes:
        try:
            coarse.append(route(alpha, S, zeta, slope))
        except NoConvergenceError:  # the branch ends in a fold
            continue
    coarse += other_starts(alpha, S, zeta, slope, 6 if several_possible(slope) else 3)
    found = distinct(coarse)
    mp.dps = DIGITS
    found = [polish(x, alpha, S, zeta, slope) for x in found]
    return sorted(found, key=lambda x: outputs(x, alpha, S, zeta, slope).energy)


def distinct(solutions):
    """The solutions without repetitions; none at all is an error."""
    found = []
    for x in solutions:
        if all(max(abs(a - b) for a, b in zip(x, old, strict=True)) > 1e-6 for old in found):
            found.append(x)
    if not found:
        raise NoConvergenceError("no solution found")
    return found


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
    found = solve(*exact_inputs)
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
    # several solutions: large norm and near-ReLU ones around the transition between them
    points += [
        (1.4, 0.25, 1e-14, 1e-6),
        (1.5, 0.25, 1e-10, 1e-4),
        (1.6, 0.25, 1e-10, 1e-6),
        (1.8, 0.25, 1e-14, 1e-6),
        (1.5, 0.0, 1e-14, 1e-6),
        (1.9, 0.0, 1e-14, 1e-6),
    ]
    draw = random.Random(20260102)
    while len(points) < 250:
        alpha = log_uniform(draw, 1e-3, 1e3) if draw.random() < 0.5 else log_uniform(draw, 0.3, 5)
        S = draw.choice([0.0, 1e-12, 1e-4, 0.25, 1.0, 30.0, 1e3, log_uniform(draw, 1e-4, 1e2)])
        zeta = log_uniform(draw, 1e-12, 1e4) if draw.random() < 0.5 else log_uniform(draw, 1e-4, 10)
        points.append((alpha, S, zeta, draw.choice(slopes)))
    return points


def limit_moments(m, tau, sigma, slope) -> Moments:
    """Averages of F = chi f for chi -> inf: samples are fitted exactly wherever the branch allows.

    The train error of a ReLU student is what its negative labels leave.
    """
    m_squared = n1_f = n2_f = mpf(0)
    for (omega, y), _, (e11, e12, e22) in sectors([(1, 0), (-1, 0), (0, -1)], m, tau, sigma):
        if y > 0:
            along_omega, along_y = mpf(-1), mpf(1)
        elif slope > 0:
            along_omega, along_y = mpf(-1), 1 / slope
        else:
            along_omega, along_y = mpf(-1 if omega > 0 else 0), mpf(0)
        p, r = along_y * sigma + along_omega * m / sigma, along_omega * tau
        m_squared += p * p * e11 + 2 * p * r * e12 + r * r * e22
        n1_f += p * e11 + r * e12
        n2_f += p * e12 + r * e22
    g0 = n2_f / tau
    train = sigma**2 / 2 if slope == 0 else mpf(0)
    return Moments(m_squared, g0, (n1_f - m / sigma * g0) / sigma, train, mpf(0))


def limit_residuals(alpha, S, slope, x):
    """Equations of the interpolating solution at zeta = 0 in the logarithms of (m, tau)."""
    m, tau = (mp.exp(value) for value in x)
    sigma = mp.sqrt(1 + S)
    at = limit_moments(m, tau, sigma, slope)
    return [
        alpha * at.g1 / m - 1,
        (m**2 * S / sigma**2 + alpha * at.f_squared) / tau**2 - 1,
    ]


def solve_threshold(S) -> dict[str, mpf]:
    """Interpolation threshold of the ReLU student, -alpha g0 = 1 on the solution, and its peak."""
    mp.dps = COARSE_DIGITS

    def equations_at(S):
        def equations(x):
            alpha, m, tau = (mp.exp(value) for value in x)
            g0 = limit_moments(m, tau, mp.sqrt(1 + S), mpf(0)).g0
            return [-alpha * g0 - 1, *limit_residuals(alpha, S, mpf(0), x[1:])]

        return equations

    x = follow(equations_at, [mp.log(1.4), mp.log(2), mp.log(2)], mpf(1), S)
    x = newton(equations_at(S), x, mpf(10) ** -50)
    alpha, m, tau = (mp.exp(value) for value in x)
    peak = finish(inf, m, tau, (1 + S) / 2, mpf(0), alpha, S, mpf(0), mpf(0))
    return {"alpha_c": alpha, "gamma": peak.gamma, "R": peak.R, "gen_error": peak.gen_error}


def solve_ridgeless(alpha, S, slope):
    """Logarithms of (chi, m, tau) of every solution at zeta = 0, lowest energy first.

    chi is infinite below the interpolation threshold (1 for slope > 0).
    """
    threshold = 1 if slope > 0 else solve_threshold(S)["alpha_c"] if S > 0 else 2
    if alpha < threshold:
        mp.dps = COARSE_DIGITS
        size = mp.log((1 + S) * mpf(0.1)) / 2 - (mp.log(slope) if slope > 0 else 0)
        x = follow(
            lambda alpha: partial(limit_residuals, alpha, S, slope), [size, size], mpf(0.1), alpha
        )
        return [polish_ridgeless([inf, *x], alpha, S, slope)]
    nearly = mpf(10) ** -24 * (slope**2 if slope > 0 else 1)
    starts = solve(alpha, S, nearly, slope)
    found = distinct(polish_ridgeless(start, alpha, S, slope) for start in starts)
    return sorted(found, key=lambda x: ridgeless_outputs(x, alpha, S, slope).energy)


def polish_ridgeless(x, alpha, S, slope):
    """Newton at full precision and zeta = 0."""
    mp.dps = DIGITS
    if mp.isinf(x[0]):
        return [inf, *newton(partial(limit_residuals, alpha, S, slope), x[1:], mpf(10) ** -75)]
    return polish(x, alpha, S, mpf(0), slope)


def ridgeless_outputs(x, alpha, S, slope) -> Solution:
    """What the table holds, from the logarithms of (chi, m, tau)."""
    if not mp.isinf(x[0]):
        return outputs(x, alpha, S, mpf(0), slope)
    m, tau = mp.exp(x[1]), mp.exp(x[2])
    train = (1 + S) / 2 if slope == 0 else mpf(0)
    return finish(inf, m, tau, train, mpf(0), alpha, S, mpf(0), slope)


def ridgeless_row(inputs):
    """One row of ridgeless.csv."""
    exact_inputs = [exact(value) for value in inputs]
    alpha, S, slope = exact_inputs
    if slope == 0 and S == 0 and alpha > 2:
        # the student is the teacher: tau = 0, every positive sample fitted, chi = 1/(alpha/2 - 1)
        solution = Solution(
            mpf(1), mpf(1), 2 / (alpha - 2), mpf("0.5"), mpf("0.5"), alpha / 4, mpf(0)
        )
        return [*map(repr, inputs), *map(text, solution), text(alpha / (alpha - 2), 3), 1]
    if slope > 0 and alpha == 1:  # infinite norm at the threshold
        solution = Solution(inf, mpf(0), inf, inf, mpf(0), mpf(0), mpf(0))
        return [*map(repr, inputs), *map(text, solution), "inf", 1]
    found = solve_ridgeless(*exact_inputs)
    x = found[0]
    solution = ridgeless_outputs(x, *exact_inputs)
    number = condition(
        lambda values: ridgeless_outputs(polish_ridgeless(x, *values), *values), exact_inputs
    )
    return [*map(repr, inputs), *map(text, solution), text(number, 3), len(found)]


def ridgeless_inputs():
    """(alpha, S, slope)."""
    relu = [
        (alpha, S, 0.0)
        for S in (0.0, 1e-4, 0.25, 1.0, 30.0, 1e3)
        for alpha in (1e-3, 0.5, 1.0, 1.3, 1.5, 1.9, 2.1, 3.0, 10.0, 1e3)
    ]
    near = [(alpha, 0.25, 0.0) for alpha in (1.4, 1.46, 1.4649, 1.465, 1.47, 1.6)]
    leaky = [
        (alpha, S, slope)
        for slope in (1e-6, 0.01, 0.1, 0.5, 0.9, 1 - 1e-9)
        for alpha, S in (
            (0.1, 1.0),
            (0.5, 0.0),
            (0.999, 0.25),
            (1.001, 0.25),
            (1.3, 0.25),
            (1.5, 0.25),
            (2.0, 1e-4),
            (3.0, 0.0),
            (3.0, 30.0),
            (100.0, 1.0),
        )
    ]
    return relu + near + [(1.0, 0.0, 0.5), (1.0, 0.25, 0.1), *leaky]


def threshold_row(inputs):
    """One row of threshold.csv."""
    values = solve_threshold(exact(inputs[0]))
    return [repr(inputs[0]), *map(text, values.values())]


def threshold_inputs():
    """(S,)."""
    return [
        (S,)
        for S in (
            1e-8,
            1e-6,
            1e-4,
            1e-3,
            0.01,
            0.05,
            0.1,
            0.25,
            0.5,
            1.0,
            2.0,
            4.0,
            10.0,
            30.0,
            100.0,
            1e3,
            1e6,
        )
    ]


def threshold_closed_form(alpha, S):
    """Zero at the interpolation threshold of the ReLU student."""
    return alpha * mp.tan(mp.pi * (2 - alpha) / alpha) - mp.pi * (2 * (1 + S) - alpha)


def direct_averages(chi, m, tau, sigma, slope):
    """E[f^2], E[omega f], E[y f], E[(y - g)^2] by two-dimensional quadrature of the proximal point.

    The edges in the angle are bisected from the branch that holds the minimum, without any formula.
    """
    mp.dps = 20

    def fields(t):
        return m / sigma * mp.cos(t) + tau * mp.sin(t), sigma * mp.cos(t)

    def proximal(omega, y):
        b = branch(omega, y, chi, slope)
        if b is None:
            return mpf(0), mpf(0)
        u = (omega + b * chi * y) / (1 + b**2 * chi)
        return u, b * u

    def label(t):
        omega, y = fields(t)
        b = branch(omega, y, chi, slope)
        return (-1 if b is None else b, y > 0)

    edges = []
    grid = [2 * mp.pi * (k + mpf(1) / 7) / 200 for k in range(201)]
    for low, high in pairwise(grid):
        if label(low) != label(high):
            first = label(low)
            for _ in range(70):
                middle = (low + high) / 2
                low, high = (middle, high) if label(middle) == first else (low, middle)
            edges.append(low)
    edges.append(edges[0] + 2 * mp.pi)

    def average(function):
        def integrand(r, t):
            omega, y = (r * field for field in fields(t))
            u, g = proximal(omega, y)
            return r * mp.exp(-(r**2) / 2) * function(omega, y, (u - omega) / chi, g)

        return sum(
            mp.quad(integrand, [0, 4, 12], [t1, t2], method="gauss-legendre", maxdegree=4)
            for t1, t2 in pairwise(edges)
        ) / (2 * mp.pi)

    return [
        average(lambda omega, y, f, g: f**2),
        average(lambda omega, y, f, g: omega * f),
        average(lambda omega, y, f, g: y * f),
        average(lambda omega, y, f, g: (y - g) ** 2),
    ]


def energy_gradient(x, alpha, S, zeta, slope):
    """Gradient of the energy -(q - m^2)/(2 chi) + zeta q/2 + alpha E[min] in (chi, q, m).

    It vanishes at a saddle point; no derivative of f, Stein identity or jump enters.
    """

    def energy(chi, q, m):
        at = moments(chi, m, mp.sqrt(q - m**2 / (1 + S)), mp.sqrt(1 + S), slope)
        minimum = chi * at.f_squared / 2 + at.train_error / 2
        return -(q - m**2) / (2 * chi) + zeta * q / 2 + alpha * minimum

    chi, m, tau = (mp.exp(value) for value in x)
    point = [chi, tau**2 + m**2 / (1 + S), m]
    step = mpf(10) ** -45
    gradient = []
    for i in range(3):
        shifts = [
            [p * (1 + sign * step * (i == j)) for j, p in enumerate(point)] for sign in (1, -1)
        ]
        gradient.append((energy(*shifts[0]) - energy(*shifts[1])) / (2 * step))
    return [value / energy(*point) for value in gradient]


def verify() -> None:
    """Print the largest relative differences between independent routes."""
    worst = mpf(0)
    for row in read(FOLDER / "leaky_relu_rs.csv"):
        mp.dps = DIGITS
        values = [mpf(row[name]) for name in ("alpha", "S", "lam", "slope")]  # decimal, not float64
        solution = outputs(solve(*values)[0], *values)
        for name in ("gamma", "R", "chi", "gen_error"):
            worst = max(worst, abs(mpf(row[name]) / getattr(solution, name) - 1))
    print("leaky_relu_rs.csv (25 digits):", mp.nstr(worst, 3))
    worst_average = worst_gradient = mpf(0)
    for inputs in [(1.5, 0.25, 0.015625, 0.0), (0.7, 0.0, 0.25, 0.3), (3.0, 1.0, 1e-3, 0.01)]:
        values = [exact(value) for value in inputs]
        alpha, S, _, slope = values
        x = solve(*values)[0]
        worst_gradient = max(worst_gradient, *map(abs, energy_gradient(x, *values)))
        chi, m, tau = (mp.exp(value) for value in x)
        sigma = mp.sqrt(1 + S)
        at = moments(chi, m, tau, sigma, slope)
        q = tau**2 + m**2 / (1 + S)
        sector = [at.f_squared, q * at.g0 + m * at.g1, m * at.g0 + sigma**2 * at.g1, at.train_error]
        direct = direct_averages(chi, m, tau, sigma, slope)
        worst_average = max(
            worst_average, *(abs(a / b - 1) for a, b in zip(direct, sector, strict=True))
        )
        print("moments against two-dimensional quadrature:", mp.nstr(worst_average, 3), flush=True)
    print("gradient of the energy at the solution:", mp.nstr(worst_gradient, 3))
    worst = mpf(0)
    for (S,) in threshold_inputs():
        alpha = solve_threshold(exact(S))["alpha_c"]
        worst = max(worst, abs(threshold_closed_form(alpha, exact(S))))
    print("threshold, closed form at the numerical root:", mp.nstr(worst, 3))


SOLUTION = list(Solution._fields)
TABLES = {
    "piecewise": (
        regular_row,
        regular_inputs,
        ["alpha", "S", "zeta", "slope", *SOLUTION, "condition", "n_solutions"],
    ),
    "ridgeless": (
        ridgeless_row,
        ridgeless_inputs,
        ["alpha", "S", "slope", *SOLUTION, "condition", "n_solutions"],
    ),
    "threshold": (threshold_row, threshold_inputs, ["S", "alpha_c", "gamma", "R", "gen_error"]),
}

if __name__ == "__main__":
    main(__doc__, TABLES, verify)
