"""Zero-temperature saddle point for any student and any teacher.

With the proximal step u(omega, y) of `proximal` and f = (u - omega) / chi, the replica-symmetric
saddle point of the ridge-regularized square loss is

    chi = 1 / (zeta - alpha g0),   m = alpha g1 chi,   q = (alpha^2 g1^2 + alpha E[f^2]) chi^2,

where (g0, g1) solves [[q, m], [m, Var t]] (g0, g1) = (E[omega f], E[t f]) (Stein's identity, which
includes the jumps of f without differentiating it). The averages over omega are taken along u:
on a smooth stretch omega = u - chi (y - g) g' is an explicit function of u, so no equation is
solved for the proximal step.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from replica._core.activation_table import activation_at
from replica._core.jit import jit

from ._proximal import envelope, switching_outputs
from ._saddle_point import GeneralEquilibrium, solve_all
from ._teacher_average import outer_rule

__all__ = ["normal_moments", "solve_general_student", "zero_temperature_averages"]

# The law of omega given t is cut off where its density is below 1e-16 of the peak.
_REACH = 8.5
_ROOT_2PI = math.sqrt(2 * math.pi)


def solve_general_student(
    alpha: ArrayLike,
    S: ArrayLike,
    zeta: ArrayLike,
    *,
    student: Any,
    teacher: Any = "linear",
    noise: str = "output",
) -> GeneralEquilibrium:
    """Zero-temperature equilibrium of any student that learns from any teacher.

    Parameters
    ----------
    alpha, S, zeta : float or array_like
        Load P/N > 0, variance of the label noise >= 0, ridge coefficient >= 0 of the sum
        convention; they broadcast. At zeta = 0 a student that can fit every sample has no finite
        chi, and the element is reported as not converged.
    student, teacher : str, LeakyReLU or Student
        Activations g of the student and phi of the teacher.
    noise : {"output", "input"}
        Label y = phi(z) + s, or y = phi(z + s) as in eq. 20.

    Returns
    -------
    GeneralEquilibrium
        Of several saddle points found, the one of lowest energy. Elements that did not converge
        are NaN and reported by a `ConvergenceWarning`.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range, or an activation is not a smooth function between its
        declared kinks. An exception raised by an activation is passed on.

    Notes
    -----
    Theory: :eq:`eq-zero-temperature`, :eq:`eq-gibbs-saddle-point` and :eq:`eq-envelope` in
    :doc:`/finite_temperature`.

    Examples
    --------
    >>> result = solve_general_student(2.0, 0.1, 0.25, student="relu")
    >>> round(float(result.gen_error), 6)
    0.640459
    """
    return solve_all(
        lambda beta: zero_temperature_averages,
        alpha,
        S,
        zeta,
        np.inf,
        student=student,
        teacher=teacher,
        noise=noise,
    )


@jit
def zero_temperature_averages(
    student: Any, teacher: Any, chi: float, m: float, q: float, rule: Any
) -> Any:
    """Return E[f^2], g0, g1, E[(y - g(u))^2], the replicon integral, the jump part of g0.

    The replicon integral is E[(du/domega - 1)^2] without the jumps, whose square diverges. The
    last entry is the mean of -f's jumps. NaN if a field leaves the tabulated range.
    """
    tau2 = q - m * m / teacher.variance
    out = np.zeros(6)
    if not (tau2 > 0.0 and chi > 0.0):
        return np.full(6, np.nan)
    tau = math.sqrt(tau2)
    switches = switching_outputs(student, chi)
    # Near a switch the mean over omega varies where a jump passes through the law of omega.
    scale = 0.2 * min(tau, 1.0) / (1.0 + chi)
    t, y, w = outer_rule(teacher, switches, max(scale, 1e-6), rule)
    n = student.u.size
    h = np.empty(n)
    hull = np.empty(n, np.int64)
    items = np.empty((2 * n + 4, 5))
    sums = np.zeros(6)
    for i in range(t.size):
        if w[i] < 1e-17:
            continue
        mean = m * t[i] / teacher.variance
        rows = envelope(student, y[i], chi, h, hull, items)
        sums[:] = 0.0
        low = mean - _REACH * tau
        high = mean + _REACH * tau
        if items[0, 2] > low or items[rows - 1, 3] < high:
            return np.full(6, np.nan)
        for k in range(rows):
            if items[k, 3] > low and items[k, 2] < high:
                if items[k, 0] == items[k, 1]:
                    _add_pinned(items[k], y[i], chi, mean, tau, sums)
                else:
                    _add_smooth(student, items[k], y[i], chi, mean, tau, rule, sums)
            if k + 1 < rows and low < items[k, 3] < high:
                v = (items[k, 3] - mean) / tau
                density = math.exp(-0.5 * v * v) / (tau * _ROOT_2PI)
                sums[5] += density * (items[k + 1, 0] - items[k, 1]) / chi
        out[0] += w[i] * sums[0]
        out[1] += w[i] * sums[1]
        out[2] += w[i] * t[i] * sums[2]
        out[3] += w[i] * sums[3]
        out[4] += w[i] * sums[4]
        out[5] += w[i] * sums[5]
    out[1] /= tau
    out[2] = (out[2] - m * out[1]) / teacher.variance
    return out


@jit
def normal_moments(low: float, high: float) -> tuple[float, float, float]:
    """Moments 0, 1 and 2 of a standard normal variable between `low` and `high`."""
    d1 = math.exp(-0.5 * low * low) / _ROOT_2PI
    d2 = math.exp(-0.5 * high * high) / _ROOT_2PI
    if low > 0.0:
        p = 0.5 * (math.erfc(low / math.sqrt(2.0)) - math.erfc(high / math.sqrt(2.0)))
    else:
        p = 0.5 * (math.erfc(-high / math.sqrt(2.0)) - math.erfc(-low / math.sqrt(2.0)))
    return p, d1 - d2, p + low * d1 - high * d2


@jit
def _add_pinned(row: Any, y: float, chi: float, mean: float, tau: float, sums: Any) -> None:
    v1 = max((row[2] - mean) / tau, -_REACH)
    v2 = min((row[3] - mean) / tau, _REACH)
    p, p1, p2 = normal_moments(v1, v2)
    c0 = (row[0] - mean) / chi
    c1 = tau / chi
    sums[0] += c0 * c0 * p - 2.0 * c0 * c1 * p1 + c1 * c1 * p2
    sums[1] += c0 * p1 - c1 * p2
    sums[2] += c0 * p - c1 * p1
    sums[3] += (y - row[4]) ** 2 * p
    sums[4] += p


@jit
def _add_smooth(
    student: Any, row: Any, y: float, chi: float, mean: float, tau: float, rule: Any, sums: Any
) -> None:
    breaks = student.breaks
    low = max(row[2], mean - _REACH * tau)
    high = min(row[3], mean + _REACH * tau)
    start = row[0] if low == row[2] else _invert(student, row, y, chi, low)
    stop = row[1] if high == row[3] else _invert(student, row, y, chi, high)
    nodes, weights = rule
    left = start
    left_field = low
    piece = np.searchsorted(breaks, start, side="right")
    while left < stop:
        right = stop
        right_field = high
        if piece < breaks.size and breaks[piece] < stop:
            right = breaks[piece]
            g, g1, _ = activation_at(breaks, student.series, right)
            right_field = right - chi * (y - g) * g1
        piece += 1
        parts = 1 + int(abs(right_field - left_field) / (3.0 * tau))
        length = (right - left) / parts
        for part in range(parts):
            for k in range(nodes.size):
                u = left + length * (part + nodes[k])
                g, g1, g2 = activation_at(breaks, student.series, u)
                f = (y - g) * g1
                stretch = 1.0 + chi * g1 * g1 - chi * (y - g) * g2  # domega/du
                v = (u - chi * f - mean) / tau
                p = weights[k] * length * stretch * math.exp(-0.5 * v * v) / (tau * _ROOT_2PI)
                sums[0] += p * f * f
                sums[1] += p * v * f
                sums[2] += p * f
                sums[3] += p * (y - g) ** 2
                sums[4] += p * (1.0 / stretch - 1.0) ** 2
        left = right
        left_field = right_field


@jit
def _invert(student: Any, row: Any, y: float, chi: float, field: float) -> float:
    """Return u with omega(u) = field on a smooth stretch: bisection, polished by Newton."""
    low = row[0]
    high = row[1]
    u = 0.5 * (low + high)
    for _ in range(100):
        g, g1, g2 = activation_at(student.breaks, student.series, u)
        excess = u - chi * (y - g) * g1 - field
        if excess > 0.0:
            high = u
        else:
            low = u
        stretch = 1.0 + chi * g1 * g1 - chi * (y - g) * g2
        step = -excess / stretch if stretch > 0.0 else 0.0
        new = u + step
        if not (low < new < high) or step == 0.0:
            new = 0.5 * (low + high)
        if abs(new - u) < 1e-12 * (1.0 + abs(u)):
            return new
        u = new
    return u
