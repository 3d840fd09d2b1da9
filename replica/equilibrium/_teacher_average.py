"""Averages over what the teacher gives: its field, its noise, and the output they make.

One law serves every teacher: a field t ~ N(0, variance) and an output y = phi(t) + noise * s with
s ~ N(0, 1). A linear teacher with noise S is the law phi(t) = t, variance 1 + S, without further
noise, which saves a dimension; so is a teacher whose noise enters before its activation, as in
eq. 20 of the paper.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import roots_legendre

from replica._core.activation_table import activation_at, activation_value
from replica._core.jit import jit
from replica.students import LINEAR, LeakyReLU, Student

from ._proximal import Array, PreparedActivation, prepare

__all__ = ["DENSITY_NODES", "EDGES", "LEGENDRE", "REACH", "ROUGH", "NoisyFields", "Rule"]
__all__ += [
    "Teacher",
    "density_at",
    "graded_edges",
    "law_given_output",
    "noise_is_broad",
    "noisy_fields",
    "outer_rule",
]
__all__ += ["output_edges", "prepare_teacher"]

# Standard deviations at which a normal law is cut off: beyond, it has mass 2e-17.
REACH = 8.5
# Its pieces: fewer and not as far out as those of `replica.gaussian`, whose integrands may grow as
# they like and are asked for once; here f is at most linear, and is asked for in every step.
EDGES = np.array([-REACH, -5.0, -2.5, 0.0, 2.5, 5.0, REACH])


class Rule(NamedTuple):
    """A quadrature rule on [0, 1], and the standard deviations at which it cuts off normal laws."""

    nodes: Array
    weights: Array
    reach: float


#: Gauss-Legendre rules by level. The first only leads to a solution.
LEGENDRE = tuple(
    Rule((1 + x) / 2, w / 2, REACH) for x, w in (roots_legendre(n) for n in (5, 8, 12, 18, 26))
)
#: The first on most of the law: beyond 5 it has mass 6e-7.
ROUGH = LEGENDRE[0]._replace(reach=5.0)


class Teacher(NamedTuple):
    """The law of (t, y): see the module's docstring."""

    activation: PreparedActivation
    variance: float
    noise: float


def prepare_teacher(
    teacher: LeakyReLU | Student, S: float, *, noise: str = "output", rho: float = 1.0
) -> Teacher:
    """Return the law of `teacher` with label noise of variance S, added before or after phi.

    `rho` is the variance of the teacher's field z: its covariance with the student's is that of t.
    """
    inside = noise == "input" or teacher == LINEAR
    variance = rho + S if inside else rho
    output_noise = 0.0 if inside else math.sqrt(S)
    width = 40.0
    while width < REACH * math.sqrt(variance):
        width *= 4
    return Teacher(prepare(teacher, width), variance, output_noise)


@jit
def outer_rule(
    teacher: Teacher, switches: Array, width: float, rule: Rule
) -> tuple[Array, Array, Array]:
    """Return the nodes t, y and the weights of an average over the teacher's law.

    The pieces end at the teacher's kinks and where y is one of `switches`; with ``width > 0`` they
    shrink geometrically towards a switch, down to that width in y.
    """
    sd = math.sqrt(teacher.variance)
    base = EDGES[np.abs(EDGES) <= rule.reach]
    centers = _fields_at(teacher, switches)
    edges = graded_edges(base * sd, centers, np.full(centers.size, width), 0.5 * sd)
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
        edges = graded_edges(base, (switches - y[i]) / scale, widths, 0.5)
        room += (edges.size - 1) * rule.nodes.size
    out_t = np.empty(room)
    out_y = np.empty(room)
    out_w = np.empty(room)
    used = 0
    for i in range(t.size):
        edges = graded_edges(base, (switches - y[i]) / scale, widths, 0.5)
        s, ws = _rule(edges, 1.0, rule)
        for j in range(s.size):
            out_t[used] = t[i]
            out_y[used] = y[i] + scale * s[j]
            out_w[used] = w[i] * ws[j]
            used += 1
    return out_t[:used], out_y[:used], out_w[:used]


@jit
def graded_edges(base: Array, centers: Array, widths: Array, coarse: float) -> Array:
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
def _rule(edges: Array, sd: float, rule: Rule) -> tuple[Array, Array]:
    nodes, weights, _ = rule
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
def _fields_at(teacher: Teacher, switches: Array) -> Array:
    """Return the teacher's kinks and, without output noise, the fields t where y is a switch."""
    activation = teacher.activation
    u = activation.u
    limit = REACH * math.sqrt(teacher.variance)
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


# --- The law of (omega, t) given the output, for a teacher with noise after its activation -------

# Chebyshev nodes on a piece of two standard deviations of omega given t: the series of a normal
# density on it is cut off at 1e-11 of its peak.
DENSITY_NODES = 16
_ANGLES = np.pi * (np.arange(DENSITY_NODES) + 0.5) / DENSITY_NODES
_POINTS = np.cos(_ANGLES)
_TO_SERIES = 2.0 / DENSITY_NODES * np.cos(np.outer(np.arange(DENSITY_NODES), _ANGLES))
_TO_SERIES[0] /= 2.0
# Above so many pieces in omega, or in the outputs, summing over the noise itself is quicker.
_MOST_PIECES = 100
# Pieces of a normal law, in its standard deviations: the longest near the center of EDGES.
_PIECE = 2.5


class NoisyFields(NamedTuple):
    """Nodes t of a noisy teacher's field, their outputs and weights, and the laws of omega there.

    ``series[j, p]`` is the Chebyshev series of the density of omega given t_j on piece p, which
    begins at ``low + 2 tau p``; it is negligible outside the pieces from `first` to `last`.
    """

    t: Array
    phi: Array
    weight: Array
    low: float
    pieces: int
    series: Array
    first: NDArray[np.int64]
    last: NDArray[np.int64]


@jit
def noise_is_broad(teacher: Teacher, m: float, q: float, tau: float) -> bool:
    """Whether the noise, and the law of omega given t, are broad enough to sum over y instead."""
    if 2.0 * REACH * math.sqrt(q) > _MOST_PIECES * 2.0 * tau:
        return False
    u = teacher.activation.u
    low = np.inf
    high = -np.inf
    for v in range(u.size):
        if abs(u[v]) <= REACH:
            low = min(low, teacher.activation.g_left[v], teacher.activation.g_right[v])
            high = max(high, teacher.activation.g_left[v], teacher.activation.g_right[v])
    return high - low < _MOST_PIECES * _PIECE * teacher.noise


@jit
def noisy_fields(teacher: Teacher, m: float, q: float, tau: float, rule: Rule) -> NoisyFields:
    """Return the nodes of the field t: pieces as short as the sharpest of the three laws needs."""
    activation = teacher.activation
    sd = math.sqrt(teacher.variance)
    kinks = activation.u[activation.kink]
    ends = np.sort(
        np.append(np.array([-REACH * sd, REACH * sd]), kinks[np.abs(kinks) < REACH * sd])
    )
    edges = [ends[0]]
    sharp = 1.0 / teacher.variance + (m / (teacher.variance * tau)) ** 2
    for k in range(ends.size - 1):
        left = ends[k]
        while left < ends[k + 1]:
            slope = activation_at(activation.breaks, activation.series, left)[1]
            step = _PIECE / math.sqrt(sharp + (slope / teacher.noise) ** 2)
            middle = min(left + 0.5 * step, ends[k + 1])
            slope = max(
                abs(slope), abs(activation_at(activation.breaks, activation.series, middle)[1])
            )
            step = _PIECE / math.sqrt(sharp + (slope / teacher.noise) ** 2)
            left = ends[k + 1] if left + 1.01 * step > ends[k + 1] else left + step
            edges.append(left)
    t, w = _rule(np.array(edges), sd, rule)
    pieces = math.ceil(REACH * math.sqrt(q) / tau)
    low = -pieces * tau
    phi = np.empty(t.size)
    series = np.zeros((t.size, pieces, DENSITY_NODES))
    first = np.empty(t.size, np.int64)
    last = np.empty(t.size, np.int64)
    values = np.empty(DENSITY_NODES)
    for j in range(t.size):
        phi[j] = activation_value(activation.breaks, activation.series, t[j])
        mean = m * t[j] / teacher.variance
        first[j] = max(int((mean - REACH * tau - low) / (2.0 * tau)), 0)
        last[j] = min(int((mean + REACH * tau - low) / (2.0 * tau)), pieces - 1)
        for p in range(first[j], last[j] + 1):
            for k in range(DENSITY_NODES):
                v = (low + tau * (2 * p + 1 + _POINTS[k]) - mean) / tau
                values[k] = math.exp(-0.5 * v * v) / (tau * math.sqrt(2.0 * math.pi))
            for n in range(DENSITY_NODES):
                total = 0.0
                for k in range(DENSITY_NODES):
                    total += _TO_SERIES[n, k] * values[k]
                series[j, p, n] = total
    return NoisyFields(t, phi, w, low, pieces, series, first, last)


@jit
def output_edges(teacher: Teacher, phi: Array, switches: Array, width: float) -> Array:
    """Return the pieces of the output y: of the size of the noise, graded towards the switches."""
    low = phi.min() - REACH * teacher.noise
    high = phi.max() + REACH * teacher.noise
    count = math.ceil((high - low) / (_PIECE * teacher.noise))
    base = np.linspace(low, high, count + 1)
    return graded_edges(base, switches, np.full(switches.size, width), 0.5 * teacher.noise)


@jit
def law_given_output(fields: NoisyFields, noise: float, y: float, law: Array) -> tuple[int, int]:
    """Write the joint density of y and omega, times t^l, into ``law[piece, :, l]``.

    Returns the first and the last piece that count; none if the first is beyond the last.
    """
    law[:] = 0.0
    first = fields.pieces
    last = -1
    for j in range(fields.t.size):
        s = (y - fields.phi[j]) / noise
        if abs(s) > REACH:
            continue
        a = fields.weight[j] * math.exp(-0.5 * s * s) / (noise * math.sqrt(2.0 * math.pi))
        if a < 1e-18:
            continue
        t = fields.t[j]
        first = min(first, fields.first[j])
        last = max(last, fields.last[j])
        for p in range(fields.first[j], fields.last[j] + 1):
            for n in range(DENSITY_NODES):
                b = a * fields.series[j, p, n]
                law[p, n, 0] += b
                law[p, n, 1] += b * t
                law[p, n, 2] += b * t * t
                law[p, n, 3] += b * t * t * t
    while first <= last and abs(law[first, 0, 0]) < 1e-18:
        first += 1
    while first <= last and abs(law[last, 0, 0]) < 1e-18:
        last -= 1
    return first, last


@jit
def density_at(
    law: Array, low: float, tau: float, omega: float
) -> tuple[float, float, float, float]:
    """Return the four densities at omega."""
    x = (omega - low) / (2.0 * tau)
    p = min(max(int(x), 0), law.shape[0] - 1)
    x = 2.0 * (x - p) - 1.0
    before = 1.0
    here = x
    r0 = law[p, 0, 0] + x * law[p, 1, 0]
    r1 = law[p, 0, 1] + x * law[p, 1, 1]
    r2 = law[p, 0, 2] + x * law[p, 1, 2]
    r3 = law[p, 0, 3] + x * law[p, 1, 3]
    for n in range(2, DENSITY_NODES):
        before, here = here, 2.0 * x * here - before
        r0 += here * law[p, n, 0]
        r1 += here * law[p, n, 1]
        r2 += here * law[p, n, 2]
        r3 += here * law[p, n, 3]
    return r0, r1, r2, r3
