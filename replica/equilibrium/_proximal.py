"""The proximal step of the square loss for any activation, found globally.

For a sample with output y, a weight vector sees the field omega before and u after the step,

    u(omega) = argmin_u (u - omega)**2 / (2 chi) + (y - g(u))**2 / 2 = argmin_u h(u) - omega u,
    h(u) = u**2 / 2 + chi (y - g(u))**2 / 2.

So u(omega) is read off the lower convex envelope of h: where h touches its envelope, u is the
minimizer for the field omega = h'(u); where the envelope is a straight bridge, u(omega) jumps over
it at omega = slope; at a kink of g the minimizer is pinned for an interval of fields. No minimum is
ever searched for, and the global one cannot be missed by more than the spacing of the vertices on
which the envelope is built (eight per piece of the activation's table), after which the ends of
the bridges are polished.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from replica._core.activation_table import activation_at
from replica._core.jit import jit
from replica.students import LeakyReLU, Student

__all__ = ["Array", "PreparedActivation", "Room", "Stretch", "Stretches", "envelope", "field_at"]
__all__ += ["new_room", "prepare", "stretch", "switching_outputs"]

Array = NDArray[np.float64]

# Per piece of the table: cells in which h has no more than one inflection for the usual students.
_CELLS = 8
# The ends of a bridge converge quadratically, or by bisection where h is concave.
_MAX_STEPS = 60
# A move that is rounding, relative to 1 + |u|, and one whose square is.
_NOTHING = 1e-13
_SQUARE_IS_NOTHING = 1e-9
# A curvature of g that is rounding: at y of 1/that size or more, h is never flat.
_STRAIGHT = 1e-9


class PreparedActivation(NamedTuple):
    """An activation for the compiled solvers: its table, and its values at the vertices.

    At a vertex that is a kink the left and right limits of g and g' differ. Every piece of the
    table has the same number of vertices, its ends among them.
    """

    breaks: Array
    series: Array
    u: Array
    g_left: Array
    g_right: Array
    slope_left: Array
    slope_right: Array
    curvature: Array
    kink: NDArray[np.bool_]


class Stretch(NamedTuple):
    """Part of u(omega): u grows with omega, or, if `u_low` is `u_high`, it is pinned at a kink.

    Only on a pinned stretch `output` is set, to g.
    """

    u_low: float
    u_high: float
    omega_low: float
    omega_high: float
    output: float


class Stretches(NamedTuple):
    """The stretches of one sample in the order of omega; u jumps where their ends differ."""

    u_low: Array
    u_high: Array
    omega_low: Array
    omega_high: Array
    output: Array


class Room(NamedTuple):
    """What `envelope` writes into: its result, and the heights and the hull of the vertices."""

    found: Stretches
    heights: Array
    hull: NDArray[np.int64]


def prepare(student: LeakyReLU | Student, half_width: float) -> PreparedActivation:
    """Return `student` on [-half_width, half_width] in the form the compiled solvers take."""
    breaks, series, kinks = student.table(half_width)
    cells = _CELLS if series.shape[2] > 2 else 1  # a linear piece needs no more than its ends
    t = np.linspace(-1.0, 1.0, cells + 1)
    at = np.polynomial.chebyshev.chebval(t, np.moveaxis(series, 2, 0))  # (3, pieces, cells + 1)
    half = np.diff(breaks)[:, None] / 2
    u = (breaks[:-1, None] + half) + half * t
    left = np.concatenate([at[:, :1, 0], at[:, :, 1:].reshape(3, -1)], axis=1)
    right = np.concatenate([at[:, :, :-1].reshape(3, -1), at[:, -1:, -1]], axis=1)
    u = np.append(u[:, :-1].ravel(), breaks[-1])
    # A kink is not a jump, though its two sides come from different series.
    same = np.abs(left[0] - right[0]) <= 1e-12 * (1 + np.abs(left[0]))
    right[0][same] = left[0][same]
    return PreparedActivation(
        breaks, series, u, left[0], right[0], left[1], right[1], right[2], np.isin(u, kinks)
    )


@jit
def new_room(activation: PreparedActivation) -> Room:
    """Return room for the envelopes of an activation: two stretches and more for every vertex."""
    n = activation.u.size
    rows = 2 * n + 4
    found = Stretches(
        np.empty(rows), np.empty(rows), np.empty(rows), np.empty(rows), np.empty(rows)
    )
    return Room(found, np.empty(n), np.empty(n, np.int64))


@jit
def stretch(found: Stretches, k: int) -> Stretch:
    """Return stretch k."""
    return Stretch(
        found.u_low[k],
        found.u_high[k],
        found.omega_low[k],
        found.omega_high[k],
        found.output[k],
    )


@jit
def envelope(
    activation: PreparedActivation, y: float, chi: float, low: float, high: float, room: Room
) -> int:
    """Write the minimizers u(omega) of one sample for omega from `low` to `high` into `room`.

    Returns the number of stretches, which may reach beyond these fields; they end within them only
    where the table ends.
    """
    first = _last_before(activation, y, chi, low)
    last = _first_behind(activation, y, chi, high)
    count = _lower_hull(activation, y, chi, first, last, room.heights, room.hull)
    rows = 0
    for _ in range(last + 1 - first):
        rows, wrong = _walk(activation, y, chi, room.hull, count, room.found)
        if wrong < 0:
            break
        # A bridge touches beyond the cells of its vertex: that vertex is not on the envelope.
        for e in range(wrong, count - 1):
            room.hull[e] = room.hull[e + 1]
        count -= 1
    return rows


@jit
def _distance(activation: PreparedActivation, y: float, chi: float, omega: float, v: int) -> float:
    """Return how far from `omega` u(omega) may lie: there it costs no more than at vertex v."""
    r = min(abs(y - activation.g_left[v]), abs(y - activation.g_right[v]))
    return math.sqrt((activation.u[v] - omega) ** 2 + chi * r * r)


@jit
def _last_before(activation: PreparedActivation, y: float, chi: float, omega: float) -> int:
    """Return a vertex that lies before all minimizers of fields from `omega` on."""
    u = activation.u
    v = max(int(np.searchsorted(u, omega)) - 1, 0)
    v = int(np.searchsorted(u, omega - _distance(activation, y, chi, omega, v))) - 2
    while v > 0 and activation.kink[v]:
        v -= 1
    return max(v, 0)


@jit
def _first_behind(activation: PreparedActivation, y: float, chi: float, omega: float) -> int:
    """Return a vertex that lies behind all minimizers of fields up to `omega`."""
    u = activation.u
    end = int(u.size) - 1
    v = min(int(np.searchsorted(u, omega)), end)
    v = int(np.searchsorted(u, omega + _distance(activation, y, chi, omega, v))) + 1
    while v < end and activation.kink[v]:
        v += 1
    return min(v, end)


@jit
def _lower_hull(
    activation: PreparedActivation,
    y: float,
    chi: float,
    first: int,
    last: int,
    heights: Array,
    hull: NDArray[np.int64],
) -> int:
    """Write the lower convex hull of h at the vertices from first to last; return its length."""
    u = activation.u
    g_left = activation.g_left
    g_right = activation.g_right
    kink = activation.kink
    count = 0
    for v in range(first, last + 1):  # Andrew's monotone chain
        left = y - g_left[v]
        right = y - g_right[v]
        h = 0.5 * u[v] * u[v] + 0.5 * chi * min(left * left, right * right)
        heights[v] = h
        # A concave kink is never a minimizer, however coarse the vertices around it.
        if kink[v] and g_left[v] == g_right[v]:
            bend = chi * left
            if bend * (activation.slope_right[v] - activation.slope_left[v]) >= 0.0:
                continue
        while count >= 2:
            i = hull[count - 2]
            j = hull[count - 1]
            if (heights[j] - heights[i]) * (u[v] - u[i]) >= (h - heights[i]) * (u[j] - u[i]):
                count -= 1
            else:
                break
        hull[count] = v
        count += 1
    return count


@jit
def _walk(
    activation: PreparedActivation,
    y: float,
    chi: float,
    hull: NDArray[np.int64],
    count: int,
    found: Stretches,
) -> tuple[int, int]:
    """Write the stretches along a hull; return how many, and its first wrong entry or -1."""
    u = activation.u
    kink = activation.kink
    rows = 0
    v = hull[0]
    start_u = u[v]
    start_w = field_at(start_u, y, chi, activation.g_right[v], activation.slope_right[v])
    after_bridge = False
    for e in range(count):
        v = hull[e]
        last = e == count - 1
        bridge = False
        a = s = b = 0.0
        if not last:
            nxt = hull[e + 1]
            bridge = (
                nxt > v + 1
                or (kink[v] and _jumps_up_right(activation, y, v))
                or (kink[nxt] and _jumps_up_left(activation, y, nxt))
            )
            if bridge:
                a, b, s = _bridge(activation, y, chi, v, nxt)
                if e > 0 and a <= u[v - 1]:
                    return rows, e
                if e + 2 < count and b >= u[nxt + 1]:
                    return rows, e + 1
        if kink[v] and not (bridge and a < u[v]) and not (after_bridge and start_u > u[v]):
            g = activation.g_left[v]
            if abs(y - activation.g_right[v]) < abs(y - g):
                g = activation.g_right[v]
            low = start_w
            if not (after_bridge and start_u == u[v]):
                low = field_at(u[v], y, chi, activation.g_left[v], activation.slope_left[v])
                rows = _append(found, rows, start_u, u[v], start_w, low, g)
            if bridge and a == u[v]:
                rows = _append(found, rows, u[v], u[v], low, s, g)
                start_u = b
                start_w = s
                after_bridge = True
                continue
            high = field_at(u[v], y, chi, activation.g_right[v], activation.slope_right[v])
            rows = _append(found, rows, u[v], u[v], low, high, g)
            start_u = u[v]
            start_w = high
        if bridge:
            rows = _append(found, rows, start_u, a, start_w, s, 0.0)
            start_u = b
            start_w = s
        elif last:
            end_w = field_at(u[v], y, chi, activation.g_left[v], activation.slope_left[v])
            rows = _append(found, rows, start_u, u[v], start_w, end_w, 0.0)
        after_bridge = bridge
    return rows, -1


@jit
def _height(activation: PreparedActivation, y: float, chi: float, v: int) -> float:
    left = y - activation.g_left[v]
    right = y - activation.g_right[v]
    return 0.5 * activation.u[v] ** 2 + 0.5 * chi * min(left * left, right * right)


@jit
def field_at(u: float, y: float, chi: float, g: float, slope: float) -> float:
    """Return h'(u), the field of which u is a stationary point."""
    return u - chi * (y - g) * slope


@jit
def _jumps_up_right(activation: PreparedActivation, y: float, v: int) -> bool:
    return abs(y - activation.g_right[v]) > abs(y - activation.g_left[v]) and (
        activation.g_right[v] != activation.g_left[v]
    )


@jit
def _jumps_up_left(activation: PreparedActivation, y: float, v: int) -> bool:
    return abs(y - activation.g_left[v]) > abs(y - activation.g_right[v]) and (
        activation.g_right[v] != activation.g_left[v]
    )


@jit
def _append(
    found: Stretches, rows: int, u_low: float, u_high: float, w_low: float, w_high: float, g: float
) -> int:
    if w_high <= w_low:
        return rows
    found.u_low[rows] = u_low
    found.u_high[rows] = u_high
    found.omega_low[rows] = w_low
    found.omega_high[rows] = w_high
    found.output[rows] = g
    return rows + 1


@jit
def _bridge(
    activation: PreparedActivation, y: float, chi: float, i: int, j: int
) -> tuple[float, float, float]:
    """Return both ends and the slope of the line that touches h near the vertices i < j."""
    breaks = activation.breaks
    series = activation.series
    from_cell = _cell(activation, i)
    to_cell = _cell(activation, j)
    a = from_cell.u
    b = to_cell.u
    s = (_height(activation, y, chi, j) - _height(activation, y, chi, i)) / (b - a)
    for _ in range(_MAX_STEPS):
        new_a, height_a, newton_a = _touch(breaks, series, from_cell, y, chi, a, s)
        new_b, height_b, newton_b = _touch(breaks, series, to_cell, y, chi, b, s)
        if new_b <= new_a:
            break
        moved = abs(new_a - a) + abs(new_b - b)
        a = new_a
        b = new_b
        s = (height_b - height_a) / (b - a)
        # What is left is the square of a Newton step, and no more of the slope of the bridge.
        tolerance = _SQUARE_IS_NOTHING if newton_a and newton_b else _NOTHING
        if moved < tolerance * (1.0 + abs(a) + abs(b)):
            break
    return a, b, s


class _Cell(NamedTuple):
    """A vertex, with those beside it at `low` and `high`: numbers are quicker than nine arrays."""

    low: float
    u: float
    high: float
    g_left: float
    g_right: float
    slope_left: float
    slope_right: float
    curvature: float
    kink: bool


@jit
def _cell(activation: PreparedActivation, v: int) -> _Cell:
    u = activation.u
    return _Cell(
        u[max(v - 1, 0)],
        u[v],
        u[min(v + 1, u.size - 1)],
        activation.g_left[v],
        activation.g_right[v],
        activation.slope_left[v],
        activation.slope_right[v],
        activation.curvature[v],
        activation.kink[v],
    )


@jit
def _touch(
    breaks: Array, series: Array, cell: _Cell, y: float, chi: float, x: float, s: float
) -> tuple[float, float, bool]:
    """Return a better point than `x` at which h' = s, in the cells on both sides of a vertex.

    Also h there, to second order in the move, and whether the move is a step of Newton's method.
    """
    low = cell.low
    high = cell.high
    if cell.kink:
        left = y - cell.g_left
        right = y - cell.g_right
        below = -np.inf
        if abs(left) <= abs(right):
            below = field_at(cell.u, y, chi, cell.g_left, cell.slope_left)
        above = np.inf
        if abs(right) <= abs(left):
            above = field_at(cell.u, y, chi, cell.g_right, cell.slope_right)
        if below <= s <= above:
            return cell.u, 0.5 * (cell.u * cell.u + chi * min(left * left, right * right)), True
        if s < below:
            high = cell.u
            if x >= high:
                x = 0.5 * (low + high)
        else:
            low = cell.u
            if x <= low:
                x = 0.5 * (low + high)
    if x == cell.u:
        g, g1, g2 = cell.g_right, cell.slope_right, cell.curvature
    else:
        # Not on the edge, which may be a kink: there the slope of the other side would be read.
        margin = 1e-9 * (high - low)
        x = min(max(x, low + margin), high - margin)
        g, g1, g2 = activation_at(breaks, series, x)
    slope = x - chi * (y - g) * g1
    curvature = 1.0 + chi * g1 * g1 - chi * (y - g) * g2
    new = 0.5 * (x + (low if slope > s else high))  # out of the concave stretch
    newton = False
    if curvature > 0.0:
        new = min(max(x - (slope - s) / curvature, low), high)
        newton = low < new < high
    move = new - x
    height = 0.5 * (x * x + chi * (y - g) ** 2) + move * (slope + 0.5 * curvature * move)
    return new, height, newton


@jit
def switching_outputs(activation: PreparedActivation, chi: float) -> Array:
    """Return the outputs y at which a jump or a pinned stretch of u(omega) appears or vanishes.

    Averages over y are smooth between these: the extrema over u of the output at which h is
    locally flat (h'' = 0), the outputs g at the kinks, and the middle of every jump of g.
    """
    u = activation.u
    found = np.empty(2 * u.size)
    count = 0
    flat = np.empty(u.size)
    for v in range(u.size):
        g2 = activation.curvature[v]
        flat[v] = np.nan
        if abs(g2) > _STRAIGHT:
            flat[v] = activation.g_right[v] + (1.0 / chi + activation.slope_right[v] ** 2) / g2
    for v in range(1, u.size - 1):
        if activation.kink[v]:
            found[count] = 0.5 * (activation.g_left[v] + activation.g_right[v])
            count += 1
        sign = 1.0 if activation.curvature[v] > 0.0 else -1.0
        if activation.curvature[v - 1] * sign <= 0.0 or activation.curvature[v + 1] * sign <= 0.0:
            continue
        here = sign * flat[v]
        before = sign * flat[v - 1]
        after = sign * flat[v + 1]
        if here < before and here <= after:
            # The vertex of the parabola through three points, in local units.
            d0 = u[v] - u[v - 1]
            d1 = u[v + 1] - u[v]
            s0 = (here - before) / d0
            s1 = (after - here) / d1
            bend = (s1 - s0) / (d0 + d1)
            slope = (s0 * d1 + s1 * d0) / (d0 + d1)
            found[count] = sign * (here - 0.25 * slope * slope / bend)
            count += 1
    return np.sort(found[:count])
