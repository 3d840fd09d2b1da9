"""Averages over what the teacher gives: its field, its noise, and the output they make.

One law serves every teacher: a field t ~ N(0, variance) and an output y = phi(t) + noise * s with
s ~ N(0, 1). A linear teacher with noise S is the law phi(t) = t, variance 1 + S, without further
noise, which saves a dimension; so is a teacher whose noise enters before its activation, as in
eq. 20 of the paper.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from scipy.special import roots_legendre

from replica._core.activation_table import activation_value
from replica._core.jit import jit
from replica.students import LINEAR, LeakyReLU, Student

from ._proximal import Activation, prepare

__all__ = ["LEGENDRE", "Teacher", "graded_edges", "outer_rule", "prepare_teacher"]

# Pieces in standard deviations; beyond 8.5 the normal law has mass 2e-17.
_EDGES = np.array([-8.5, -5.0, -2.5, 0.0, 2.5, 5.0, 8.5])
#: Gauss-Legendre rules by level: nodes on [0, 1], weights.
LEGENDRE = tuple(((1 + x) / 2, w / 2) for x, w in (roots_legendre(n) for n in (5, 8, 12, 18, 26)))


class Teacher(NamedTuple):
    """The law of (t, y): see the module's docstring."""

    activation: Activation
    variance: float
    noise: float


def prepare_teacher(teacher: LeakyReLU | Student, S: float, *, noise: str = "output") -> Teacher:
    """Return the law of `teacher` with label noise of variance S, added before or after phi."""
    variance = 1.0 + S if noise == "input" or teacher == LINEAR else 1.0
    output_noise = 0.0 if variance != 1.0 else math.sqrt(S)
    width = 40.0
    while width < 9 * math.sqrt(variance):
        width *= 4
    return Teacher(prepare(teacher, width), variance, output_noise)


@jit
def outer_rule(teacher: Any, switches: Any, width: float, rule: Any) -> tuple[Any, Any, Any]:
    """Return the nodes t, y and the weights of an average over the teacher's law.

    The pieces end at the teacher's kinks and where y is one of `switches`; with ``width > 0`` they
    shrink geometrically towards a switch, down to that width in y.
    """
    sd = math.sqrt(teacher.variance)
    centers = _fields_at(teacher, switches)
    edges = graded_edges(_EDGES * sd, centers, np.full(centers.size, width), 0.5 * sd)
    t, w = _rule(edges, sd, rule)
    y = np.empty(t.size)
    for i in range(t.size):
        y[i] = activation_value(teacher.activation.breaks, teacher.activation.series, t[i])
    if teacher.noise == 0.0:
        return t, y, w
    scale = teacher.noise
    widths = np.full(switches.size, width / scale)
    room = 0
    for i in range(t.size):  # count first, then fill
        edges = graded_edges(_EDGES, (switches - y[i]) / scale, widths, 0.5)
        room += (edges.size - 1) * rule[0].size
    out_t = np.empty(room)
    out_y = np.empty(room)
    out_w = np.empty(room)
    used = 0
    for i in range(t.size):
        edges = graded_edges(_EDGES, (switches - y[i]) / scale, widths, 0.5)
        s, ws = _rule(edges, 1.0, rule)
        for j in range(s.size):
            out_t[used] = t[i]
            out_y[used] = y[i] + scale * s[j]
            out_w[used] = w[i] * ws[j]
            used += 1
    return out_t[:used], out_y[:used], out_w[:used]


@jit
def graded_edges(base: Any, centers: Any, widths: Any, coarse: float) -> Any:
    """Return `base` with an edge at every center, and edges that shrink towards it.

    A center with ``width >= coarse`` is too blunt to need an edge; with ``width == 0`` it is sharp
    and gets one edge only.
    """
    edges = np.empty(base.size + 64 * centers.size)
    edges[: base.size] = base
    count = base.size
    for k in range(centers.size):
        if widths[k] >= coarse or not (base[0] < centers[k] < base[-1]):
            continue
        edges[count] = centers[k]
        count += 1
        step = 3.0 * widths[k]
        for _ in range(31):
            if step == 0.0 or step >= 2.0 * coarse:
                break
            for side in (-step, step):
                if base[0] < centers[k] + side < base[-1]:
                    edges[count] = centers[k] + side
                    count += 1
            step *= 3.0
    return np.sort(edges[:count])


@jit
def _rule(edges: Any, sd: float, rule: Any) -> tuple[Any, Any]:
    nodes, weights = rule
    order = nodes.size
    x = np.empty((edges.size - 1) * order)
    w = np.empty(x.size)
    count = 0
    for piece in range(edges.size - 1):
        length = edges[piece + 1] - edges[piece]
        if length <= 1e-14 * sd:
            continue
        for k in range(order):
            x[count] = edges[piece] + length * nodes[k]
            v = x[count] / sd
            density = math.exp(-0.5 * v * v) / (sd * math.sqrt(2 * math.pi))
            w[count] = weights[k] * length * density
            count += 1
    return x[:count], w[:count]


@jit
def _fields_at(teacher: Any, switches: Any) -> Any:
    """Return the teacher's kinks and, without output noise, the fields t where y is a switch."""
    activation = teacher.activation
    u = activation.u
    limit = 8.5 * math.sqrt(teacher.variance)
    found = np.empty(u.size * (switches.size + 1))
    count = 0
    for v in range(u.size):
        if activation.kink[v]:
            found[count] = u[v]
            count += 1
    if teacher.noise > 0.0:
        return found[:count]
    for k in range(switches.size):
        for v in range(u.size - 1):
            if u[v + 1] < -limit or u[v] > limit:
                continue
            below = activation.g_right[v] - switches[k]
            above = activation.g_left[v + 1] - switches[k]
            if below * above >= 0.0:
                if below == 0.0 and above != 0.0:
                    found[count] = u[v]
                    count += 1
                continue
            low = u[v]
            high = u[v + 1]
            t = low - below * (high - low) / (above - below)
            for _ in range(60):
                value = activation_value(activation.breaks, activation.series, t) - switches[k]
                if value * below > 0.0:
                    low = t
                else:
                    high = t
                if value == 0.0 or high - low < 1e-14 * (1.0 + abs(t)):
                    break
                t = 0.5 * (low + high)
            found[count] = t
            count += 1
    return found[:count]
