"""Errors of a student of given overlaps, for any two activations."""

from __future__ import annotations

import math

import numpy as np

from replica._core.activation_table import activation_value
from replica._core.jit import jit

from ._proximal import Array, PreparedActivation
from ._teacher_average import EDGES, Rule, graded_edges

__all__ = ["mean_square_error"]

# A piece of the normal law, in its standard deviations, that is empty but for rounding.
_EMPTY = 1e-14


@jit
def mean_square_error(
    student: PreparedActivation,
    teacher: PreparedActivation,
    m: float,
    rest: float,
    V: float,
    rule: Rule,
    rho: float = 1.0,
) -> float:
    """E[(phi(z) - G(w))^2] of a field w of covariance m with z and variance ``m^2/rho + rest``.

    `rho` is the variance of z, and G(w) the average of g(u) over u ~ N(w, V). A mean of squares:
    the moments of phi and G would cancel where the student is close to its teacher.
    """
    nodes, weights, _ = rule
    variance = rest + m * m / rho
    sd = math.sqrt(variance)
    gain = m / variance
    spread = math.sqrt(rho * rest / variance)  # of z, given w
    width = math.sqrt(V)
    kinks_u = student.u[student.kink]
    kinks_z = teacher.u[teacher.kink]
    # The average given w turns quickly where it passes a kink.
    count = kinks_u.size
    centers = np.empty(count + kinks_z.size)
    widths = np.empty(centers.size)
    centers[:count] = kinks_u / sd
    widths[:count] = width / sd
    for k in range(kinks_z.size):
        if gain != 0.0:
            centers[count] = kinks_z[k] / (gain * sd)
            widths[count] = spread / abs(gain * sd)
            count += 1
    edges = graded_edges(EDGES, centers[:count], widths[:count], 1.0)
    # z given w has the variance spread^2: all that counts if phi is one straight line.
    straight = teacher.series.shape[2] == 2 and kinks_z.size == 0
    variation = (teacher.slope_right[0] * spread) ** 2
    total = 0.0
    for i in range(edges.size - 1):
        length = edges[i + 1] - edges[i]
        if length < _EMPTY:
            continue
        for j in range(nodes.size):
            v = edges[i] + length * nodes[j]
            p = weights[j] * length * math.exp(-0.5 * v * v) / math.sqrt(2 * math.pi)
            w = sd * v
            output = _mean_activation(student, kinks_u, w, width, 0.0, False, rule)
            if straight:
                mean = activation_value(teacher.breaks, teacher.series, gain * w)
                total += p * ((mean - output) ** 2 + variation)
            else:
                total += p * _mean_activation(
                    teacher, kinks_z, gain * w, spread, output, True, rule
                )
    return total


@jit
def _mean_activation(
    activation: PreparedActivation,
    kinks: Array,
    mean: float,
    sd: float,
    other: float,
    square: bool,
    rule: Rule,
) -> float:
    """E[g(u)] over u ~ N(mean, sd^2), or E[(g(u) - other)^2]."""
    nodes, weights, _ = rule
    if sd == 0.0:
        value = activation_value(activation.breaks, activation.series, mean)
        return (value - other) ** 2 if square else value
    centers = (kinks - mean) / sd
    edges = graded_edges(EDGES, centers, np.zeros(centers.size), 1.0)
    total = 0.0
    for k in range(edges.size - 1):
        length = edges[k + 1] - edges[k]
        for n in range(nodes.size):
            z = edges[k] + length * nodes[n]
            p = weights[n] * length * math.exp(-0.5 * z * z)
            value = activation_value(activation.breaks, activation.series, mean + sd * z)
            total += p * ((value - other) ** 2 if square else value)
    return total / math.sqrt(2 * math.pi)
