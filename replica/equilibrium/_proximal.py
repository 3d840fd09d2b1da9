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

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from replica._core.activation_table import activation_at
from replica._core.jit import jit
from replica.students import LeakyReLU, Student

__all__ = ["Activation", "envelope", "prepare", "switching_outputs"]

_CELLS = 8  # per piece of the table


class Activation(NamedTuple):
    """An activation for the compiled solvers: its table, and its values at the vertices.

    At a vertex that is a kink the left and right limits of g and g' differ.
    """

    breaks: NDArray[np.float64]
    series: NDArray[np.float64]
    u: NDArray[np.float64]
    g_left: NDArray[np.float64]
    g_right: NDArray[np.float64]
    slope_left: NDArray[np.float64]
    slope_right: NDArray[np.float64]
    curvature: NDArray[np.float64]
    kink: NDArray[np.bool_]


def prepare(student: LeakyReLU | Student, half_width: float) -> Activation:
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
    return Activation(
        breaks, series, u, left[0], right[0], left[1], right[1], right[2], np.isin(u, kinks)
    )


@jit
def envelope(activation: Any, y: float, chi: float, h: Any, hull: Any, items: Any) -> int:
    """Write the minimizers u(omega) of one sample, ordered by omega, into `items`.

    Row k of `items` is (u_low, u_high, omega_low, omega_high, g): either a smooth stretch, along
    which u increases with omega, or, with u_low == u_high, a pinned one, where g is the output.
    A jump of u lies between rows whose ends differ. `h` (float) and `hull` (integer) are
    scratch as long as the vertices; `items` needs two rows for every vertex. Returns the number
    of rows.
    """
    u = activation.u
    kink = activation.kink
    n = u.size
    count = 0
    for v in range(n):  # Andrew's monotone chain
        h[v] = _height(activation, y, chi, v)
        # A concave kink is never a minimizer, however coarse the vertices around it.
        if kink[v] and activation.g_left[v] == activation.g_right[v]:
            bend = chi * (y - activation.g_left[v])
            if bend * (activation.slope_right[v] - activation.slope_left[v]) >= 0.0:
                continue
        while count >= 2:
            i = hull[count - 2]
            j = hull[count - 1]
            if (h[j] - h[i]) * (u[v] - u[i]) >= (h[v] - h[i]) * (u[j] - u[i]):
                count -= 1
            else:
                break
        hull[count] = v
        count += 1
    rows = 0
    for _ in range(n):
        rows, wrong = _walk(activation, y, chi, hull, count, items)
        if wrong < 0:
            break
        # A bridge touches beyond the cells of its vertex: that vertex is not on the envelope.
        for e in range(wrong, count - 1):
            hull[e] = hull[e + 1]
        count -= 1
    return rows


@jit
def _walk(
    activation: Any, y: float, chi: float, hull: Any, count: int, items: Any
) -> tuple[int, int]:
    """Write the rows along a hull; return their number and the hull's first wrong entry or -1."""
    u = activation.u
    kink = activation.kink
    rows = 0
    start_u = u[0]
    start_w = _field(u[0], y, chi, activation.g_right[0], activation.slope_right[0])
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
                low = _field(u[v], y, chi, activation.g_left[v], activation.slope_left[v])
                rows = _append(items, rows, start_u, u[v], start_w, low, g)
            if bridge and a == u[v]:
                rows = _append(items, rows, u[v], u[v], low, s, g)
                start_u = b
                start_w = s
                after_bridge = True
                continue
            high = _field(u[v], y, chi, activation.g_right[v], activation.slope_right[v])
            rows = _append(items, rows, u[v], u[v], low, high, g)
            start_u = u[v]
            start_w = high
        if bridge:
            rows = _append(items, rows, start_u, a, start_w, s, 0.0)
            start_u = b
            start_w = s
        elif last:
            end_w = _field(u[v], y, chi, activation.g_left[v], activation.slope_left[v])
            rows = _append(items, rows, start_u, u[v], start_w, end_w, 0.0)
        after_bridge = bridge
    return rows, -1


@jit
def _height(activation: Any, y: float, chi: float, v: int) -> float:
    left = y - activation.g_left[v]
    right = y - activation.g_right[v]
    return 0.5 * activation.u[v] ** 2 + 0.5 * chi * min(left * left, right * right)


@jit
def _field(u: float, y: float, chi: float, g: float, slope: float) -> float:
    return u - chi * (y - g) * slope


@jit
def _jumps_up_right(activation: Any, y: float, v: int) -> bool:
    return abs(y - activation.g_right[v]) > abs(y - activation.g_left[v]) and (
        activation.g_right[v] != activation.g_left[v]
    )


@jit
def _jumps_up_left(activation: Any, y: float, v: int) -> bool:
    return abs(y - activation.g_left[v]) > abs(y - activation.g_right[v]) and (
        activation.g_right[v] != activation.g_left[v]
    )


@jit
def _append(
    items: Any, rows: int, u_low: float, u_high: float, w_low: float, w_high: float, g: float
) -> int:
    if w_high <= w_low:
        return rows
    items[rows, 0] = u_low
    items[rows, 1] = u_high
    items[rows, 2] = w_low
    items[rows, 3] = w_high
    items[rows, 4] = g
    return rows + 1


@jit
def _bridge(activation: Any, y: float, chi: float, i: int, j: int) -> tuple[float, float, float]:
    """Return both ends and the slope of the line that touches h near the vertices i < j."""
    u = activation.u
    a = u[i]
    b = u[j]
    ha = _height(activation, y, chi, i)
    hb = _height(activation, y, chi, j)
    s = (hb - ha) / (b - a)
    for _ in range(60):
        new_a = _touch(activation, y, chi, i, a, s)
        new_b = _touch(activation, y, chi, j, b, s)
        if new_b <= new_a:
            break
        moved = abs(new_a - a) + abs(new_b - b)
        a = new_a
        b = new_b
        if a == u[i]:
            ha = _height(activation, y, chi, i)
        else:
            ga = activation_at(activation.breaks, activation.series, a)[0]
            ha = 0.5 * a * a + 0.5 * chi * (y - ga) ** 2
        if b == u[j]:
            hb = _height(activation, y, chi, j)
        else:
            gb = activation_at(activation.breaks, activation.series, b)[0]
            hb = 0.5 * b * b + 0.5 * chi * (y - gb) ** 2
        s = (hb - ha) / (b - a)
        if moved < 1e-13 * (1.0 + abs(a) + abs(b)):
            break
    return a, b, s


@jit
def _touch(activation: Any, y: float, chi: float, v: int, x: float, s: float) -> float:
    """Return a better point than `x` at which h' = s, in the cells on both sides of vertex v."""
    u = activation.u
    low = u[max(v - 1, 0)]
    high = u[min(v + 1, u.size - 1)]
    if activation.kink[v]:
        below = -np.inf
        if not _jumps_up_left(activation, y, v):
            below = _field(u[v], y, chi, activation.g_left[v], activation.slope_left[v])
        above = np.inf
        if not _jumps_up_right(activation, y, v):
            above = _field(u[v], y, chi, activation.g_right[v], activation.slope_right[v])
        if below <= s <= above:
            return u[v]
        if s < below:
            high = u[v]
            if x >= high:
                x = 0.5 * (low + high)
        else:
            low = u[v]
            if x <= low:
                x = 0.5 * (low + high)
    # Not on the edge itself, which may be a kink: there the slope of the other side would be read.
    margin = 1e-9 * (high - low)
    x = min(max(x, low + margin), high - margin)
    g, g1, g2 = activation_at(activation.breaks, activation.series, x)
    slope = x - chi * (y - g) * g1
    curvature = 1.0 + chi * g1 * g1 - chi * (y - g) * g2
    if curvature <= 0.0:  # inside the concave stretch: go away from it
        return 0.5 * (x + (low if slope > s else high))
    return min(max(x - (slope - s) / curvature, low), high)


@jit
def switching_outputs(activation: Any, chi: float) -> Any:
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
        if abs(g2) > 1e-9:
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
