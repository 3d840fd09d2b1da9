"""Errors on fresh inputs, from the order parameters: no test set is involved.

Closed forms for piecewise-linear activations, quadrature for all others.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from replica._core.activation_table import ActivationTable, activation_value
from replica._core.arguments import ArgumentError
from replica._core.jit import jit
from replica.students import LeakyReLU, Student

__all__ = ["LARGEST_FIELD", "linear_teacher_error", "online_error", "piecewise_teacher_error"]
__all__ += ["table_reaching"]

# Fields beyond this are not tabulated: the state of a run whose fields get there has diverged.
LARGEST_FIELD = 2.0**20
# The standard normal density beyond this is below 1e-17.
_EDGE = 8.8
# Smooth integrands take the trapezoidal rule, whose error is exp(-2 pi d / h) with d the distance
# of a pole from the real axis, exp(-2 pi^2 / h^2) of the density. A piece of a table is so short
# that d is twice its width or more: 0.4 of the width makes the error 1e-13.
_STEP_IN_PIECES, _LARGEST_STEP = 0.4, 0.7
# Others are cut at their kinks and have this rule in between. Its error over a gap of two widths,
# which are five steps, is 1e-12; of the density over a gap of 2 it is less.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(10)
_GAP_IN_STEPS, _LARGEST_GAP = 5.0, 2.0
# Where finer steps than this were needed, cuts between all pieces of the table are cheaper.
_SMALLEST_STEP = 0.05
# A kink of the teacher at R v + sqrt(1 - R^2) w, averaged over w: cuts for v, in widths.
_KINK_CUTS = np.array([-8.0, -4.0, -1.5, 0.0, 1.5, 4.0, 8.0])


def linear_teacher_error(
    gamma: ArrayLike, R: ArrayLike, bias: ArrayLike, slope: float
) -> NDArray[np.float64]:
    """E[(z - g(u))^2] for the field u = gamma v + bias, (z, v) normal with correlation R.

    The teacher's output is its noise-free field z; no test set is involved. For bias = 0 this is
    1 + (1 + a^2) gamma^2 / 2 - (1 + a) gamma R, with a the slope of the negative side.

    Examples
    --------
    >>> float(linear_teacher_error(1.0, 1.0, 0.0, 0.0))
    0.5
    """
    gamma, R, bias = np.broadcast_arrays(
        np.asarray(gamma, float), np.asarray(R, float), np.asarray(bias, float)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(bias == 0.0, 0.0, bias / np.abs(gamma))
    positive = ndtr(ratio)  # P(u > 0)
    density = np.exp(-0.5 * ratio**2) / math.sqrt(2.0 * math.pi)
    square = gamma**2 + bias**2
    above = square * positive + bias * np.abs(gamma) * density  # E[u^2; u > 0]
    mean_square = slope**2 * square + (1.0 - slope**2) * above
    correlation = gamma * R * (slope + (1.0 - slope) * positive)  # E[z g(u)], by Stein's lemma
    return 1.0 + mean_square - 2.0 * correlation


def piecewise_teacher_error(
    gamma: ArrayLike, R: ArrayLike, slope: float, teacher_slope: float
) -> NDArray[np.float64]:
    """E[(g_t(z) - g(gamma v))^2] for piecewise-linear teacher and student.

    Examples
    --------
    >>> float(piecewise_teacher_error(1.0, 1.0, 0.0, 0.0))
    0.0
    """
    gamma, R = np.asarray(gamma, float), np.asarray(R, float)
    R = np.clip(R, -1.0, 1.0)
    a, b = slope, teacher_slope
    # g_a(u) = (1 + a) u / 2 + (1 - a) |u| / 2, and E|u||z| is the arc-sine law.
    folded = np.abs(gamma) * (2.0 / math.pi) * (np.sqrt(1.0 - R**2) + R * np.arcsin(R))
    cross = ((1 + a) * (1 + b) * gamma * R + (1 - a) * (1 - b) * folded) / 4.0
    return (1 + b**2) / 2.0 + (1 + a**2) * gamma**2 / 2.0 - 2.0 * cross


def online_error(
    student: LeakyReLU | Student,
    teacher: LeakyReLU | Student,
    gamma: NDArray[np.float64],
    R: NDArray[np.float64],
) -> NDArray[np.float64]:
    """E[(g_t(z) - g(gamma v))^2] of any student and teacher, elementwise.

    Accurate to about 1e-11 of the larger mean square output and, as a sum of squares, down to the
    smallest errors. NaN where gamma is NaN, or so large that the student's output is no number.

    Examples
    --------
    >>> from replica.students import ERF, RELU
    >>> online_error(ERF, RELU, np.ones(1), np.zeros(1)).round(6)
    array([0.833333])
    """
    if isinstance(student, LeakyReLU) and isinstance(teacher, LeakyReLU):
        return piecewise_teacher_error(gamma, R, student.slope, teacher.slope)
    errors = np.full(gamma.shape, np.nan)
    target = teacher.table(16.0)
    for i in np.flatnonzero(np.isfinite(gamma)):
        try:
            with np.errstate(over="ignore"):
                table = table_reaching(student, _EDGE * gamma[i])
        except (ArgumentError, OverflowError):
            continue
        errors[i] = _averaged_square(table, target, gamma[i], R[i])
    return errors


def table_reaching(student: LeakyReLU | Student, field: float) -> ActivationTable:
    """The table of `student` that reaches `field`; widths are powers of 2, so there are few."""
    return student.table(2.0 ** math.ceil(math.log2(max(16.0, abs(field)))))


@jit
def _narrowest(table):
    """Width of the narrowest piece where fields of a normal student are."""
    width = 16.0
    for i in range(table.breaks.size - 1):
        if abs(table.breaks[i]) < 16.0:
            width = min(width, table.breaks[i + 1] - table.breaks[i])
    return width


@jit
def _rule(cuts, step):
    """Nodes and weights of an average over N(0, 1): trapezoidal without cuts, else between them."""
    if not cuts.size:
        n = math.ceil(_EDGE / step)
        nodes = step * np.arange(-n, n + 1)
        return nodes, step / math.sqrt(2.0 * math.pi) * np.exp(-0.5 * nodes**2)
    largest = min(_LARGEST_GAP, _GAP_IN_STEPS * step)
    edges = np.concatenate((np.array([-_EDGE]), cuts[np.abs(cuts) < _EDGE], np.array([_EDGE])))
    edges.sort()
    pieces = np.ceil(np.diff(edges) / largest)
    nodes = np.empty(int(pieces.sum()) * _NODES.size)
    weights = np.empty(nodes.size)
    k = 0
    for i in range(pieces.size):
        half = (edges[i + 1] - edges[i]) / pieces[i] / 2
        for piece in range(int(pieces[i])):
            for j in range(_NODES.size):
                nodes[k] = edges[i] + (2 * piece + 1 + _NODES[j]) * half
                weights[k] = half / math.sqrt(2.0 * math.pi) * _WEIGHTS[j]
                k += 1
    return nodes, weights * np.exp(-0.5 * nodes**2)


@jit
def _averaged_square(table, target, gamma, R):
    """E[(g_t(R v + sqrt(1 - R^2) w) - g(gamma v))^2] over v, w ~ N(0, 1)."""
    R = min(max(R, -1.0), 1.0)
    sine = math.sqrt((1.0 - R) * (1.0 + R))
    inner_step = min(_LARGEST_STEP, _STEP_IN_PIECES * _narrowest(target))
    step = min(inner_step, _STEP_IN_PIECES * _narrowest(table) / max(abs(gamma), 1e-10))
    inner_cuts = target.kinks if inner_step >= _SMALLEST_STEP else target.breaks
    cuts = np.empty(0)
    if gamma != 0.0:
        cuts = (table.kinks if step >= _SMALLEST_STEP else table.breaks) / gamma
    if R != 0.0:
        cuts = np.concatenate((cuts, (target.kinks[:, None] + sine * _KINK_CUTS).ravel() / R))
        if inner_step < _SMALLEST_STEP:
            cuts = np.concatenate((cuts, inner_cuts / R))
    # Between all breaks of a table the rule needs no finer steps than its other function does.
    inner_step = inner_step if inner_step >= _SMALLEST_STEP else _LARGEST_GAP
    v, weight = _rule(cuts, step if step >= _SMALLEST_STEP else inner_step)
    w, share = _rule(inner_cuts, inner_step)
    total = 0.0
    for i in range(v.size):
        output = activation_value(table.breaks, table.series, gamma * v[i])
        if sine == 0.0:
            z = R * v[i]
            total += weight[i] * (activation_value(target.breaks, target.series, z) - output) ** 2
            continue
        if inner_cuts.size:
            w, share = _rule((inner_cuts - R * v[i]) / sine, inner_step)
        for j in range(w.size):
            z = R * v[i] + sine * w[j]
            # Beyond 16 the density is 1e-56, and the table ends.
            z = min(max(z, target.breaks[0]), target.breaks[-1])
            miss = activation_value(target.breaks, target.series, z) - output
            total += weight[i] * share[j] * miss * miss
    return total
