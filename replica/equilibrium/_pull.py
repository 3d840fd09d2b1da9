"""How a sample pulls under a convex loss: the proximal step, and its averages over normal fields.

A `Curve` is a convex function l(x) as the compiled solvers take it. Its proximal step p(x) solves
p + chi l'(p) = x; the pull is x - p = chi l'(p), its slope 1 - p'(x) lies in [0, 1]. Piecewise
quadratic curves have moments in closed form. Any other curve is integrated along p, on which
x = p + chi l'(p) is explicit: no equation is solved but at the edges of panels.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from replica._core.activation_table import activation_at
from replica._core.jit import jit
from replica.losses import EXPONENTIAL, LOGISTIC, Loss

__all__ = [
    "EXPONENTIAL_CURVE",
    "NEAREST",
    "STRIPS",
    "Curve",
    "Pull",
    "curve_of",
    "nearest",
    "new_nodes",
    "place_nodes",
]
__all__ += ["prox", "pull", "value_slope_curvature"]

# Kinds of a curve. NEAREST is the limit chi -> infinity: p is the point of [low, high] next to x.
STRIPS, LOGISTIC_CURVE, EXPONENTIAL_CURVE, TABLE, NEAREST = 0, 1, 2, 3, 4

# The normal law ends here: beyond, 2e-19 of it.
REACH = 9.0
# Rules of so many nodes take a panel of the normal law to rounding, one of so many standard
# deviations times a quadratic, and one along p where a smooth loss bends.
_PANEL = 2.0
_PANELS = 9
_LINEAR_NODES, _LINEAR_WEIGHTS = np.polynomial.legendre.leggauss(12)
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)
_FEW_NODES, _FEW_WEIGHTS = np.polynomial.legendre.leggauss(8)
# Where logistic and exponential losses bend.
_BENDS = np.array(
    [-36.0, -26.0, -18.0, -12.0, -8.0, -5.0, -3.0, -1.5, 0.0, 1.5, 3.0, 5.0, 8.0, 12.0, 18.0, 26.0]
    + [36.0]
)
# Thin intervals are summed by a rule, since differences of closed forms would cancel; and tails
# from here on, where the pull is zero elsewhere.
_THIN = 0.5
_TAIL = 4.0
_ROOT_2PI = math.sqrt(2.0 * math.pi)
_MOST_STEPS = 200
# The slope of a table on one side of a kink is read so near to it.
_BESIDE = 1e-13


class Curve(NamedTuple):
    """A convex function of x: l(shift + sign x) of a loss l."""

    kind: int
    breaks: NDArray[np.float64]  # of strips, kinks of a table, or (low, high) of NEAREST
    coefficients: NDArray[np.float64]  # c0, c1, c2 of each strip, shape (n, 3)
    shift: float
    sign: float
    table_breaks: NDArray[np.float64]
    table: NDArray[np.float64]
    bends: NDArray[np.float64]  # edges of panels along p
    flat: bool  # whether the pull vanishes on a strip


_NONE = np.empty(0)
_NO_ROWS = np.empty((0, 3))
_NO_TABLE = np.empty((3, 0, 1))


def curve_of(
    loss: Loss, shift: float = 0.0, sign: float = 1.0, reach: tuple[float, float] = (-40.0, 40.0)
) -> Curve:
    """Return l(shift + sign x) of x; a table of a loss of one's own holds x in `reach`."""
    if loss.strips is not None:
        breaks = (np.array(loss.strips.breaks, dtype=np.float64) - shift) * sign
        c0, c1, c2 = np.array(loss.strips.coefficients).T
        rows = [c0 + c1 * shift + c2 * shift**2, sign * (c1 + 2.0 * c2 * shift), c2]
        order = slice(None, None, 1 if sign > 0 else -1)
        table = np.ascontiguousarray(np.stack(rows, axis=1)[order])
        flat = bool(((table[:, 1] == 0.0) & (table[:, 2] == 0.0)).any())
        breaks = np.ascontiguousarray(breaks[order])
        return Curve(STRIPS, breaks, table, 0.0, 1.0, _NONE, _NO_TABLE, _NONE, flat)
    kinds = {LOGISTIC: LOGISTIC_CURVE, EXPONENTIAL: EXPONENTIAL_CURVE}
    if loss in kinds:
        bends = np.sort((_BENDS - shift) * sign)
        kind = kinds[loss]
        return Curve(kind, _NONE, _NO_ROWS, shift, sign, _NONE, _NO_TABLE, bends, False)
    low, high = sorted(shift + sign * x for x in reach)
    found = loss.table(low, high)
    kinks = np.sort((found.kinks - shift) * sign)
    bends = np.sort((found.breaks - shift) * sign)
    bends = np.union1d(bends, np.array([0.0])) if bends[0] < 0.0 < bends[-1] else bends
    return Curve(
        TABLE, kinks, _NO_ROWS, shift, sign, found.breaks, found.series, bends, False
    )  # fmt: skip


def nearest(low: float, high: float) -> Curve:
    """Return the curve whose proximal step goes to the next point of [low, high]."""
    ends = np.array([low, high])
    return Curve(NEAREST, ends, _NO_ROWS, 0.0, 1.0, _NONE, _NO_TABLE, _NONE, low < high)


@jit
def value_slope_curvature(curve: Any, x: float) -> tuple[float, float, float]:
    """Return l, l' and l'' at x; NaN outside of a table."""
    if curve.kind == STRIPS:
        k = 0
        while k < curve.breaks.size and x > curve.breaks[k]:
            k += 1
        c0, c1, c2 = curve.coefficients[k]
        return c0 + x * (c1 + c2 * x), c1 + 2.0 * c2 * x, 2.0 * c2
    if curve.kind == NEAREST:
        return 0.0, 0.0, 0.0
    r = curve.shift + curve.sign * x
    if curve.kind == LOGISTIC_CURVE:
        e = math.exp(-abs(r))
        value = math.log1p(e) + max(0.0, -r)
        slope = -e / (1.0 + e) if r > 0.0 else -1.0 / (1.0 + e)
        return value, curve.sign * slope, e / ((1.0 + e) * (1.0 + e))
    if curve.kind == EXPONENTIAL_CURVE:
        e = math.exp(-r)
        return e, -curve.sign * e, e
    value, slope, curvature = activation_at(curve.table_breaks, curve.table, r)
    return value, curve.sign * slope, max(curvature, 0.0)


@jit
def prox(curve: Any, chi: float, x: float, low: float, high: float) -> float:
    """Return p on a smooth stretch between low and high with p + chi l'(p) = x."""
    p = min(max(min(max(x, 0.0), 1.0), low), high)  # x - p is of the sign of -l', often bounded
    if low > -math.inf and high < math.inf:
        p = 0.5 * (low + high)
    step = 1.0
    before = math.inf
    for _ in range(_MOST_STEPS):
        _, slope, curvature = value_slope_curvature(curve, p)
        gap = p + chi * slope - x
        if gap > 0.0:
            high = p
        elif gap < 0.0:
            low = p
        else:
            return p
        new = p - gap / (1.0 + chi * curvature)
        # Along an exponential Newton's steps are of length one: halve instead.
        slow = abs(gap) > 0.25 * before and high - low < math.inf
        before = abs(gap)
        if slow or not low < new < high:
            if low == -math.inf:
                new = p - step
                step *= 2.0
            elif high == math.inf:
                new = p + step
                step *= 2.0
            else:
                new = 0.5 * (low + high)
        if abs(new - p) <= 1e-15 * (1.0 + abs(p)) or not low < new < high:
            return new
        p = new
    return p


class _Edge(NamedTuple):
    """An edge at v standard deviations, the normal density there, and erfc(|v|/sqrt(2))."""

    v: float
    density: float
    beyond: float


@jit
def _edge(v: float) -> _Edge:
    if abs(v) > 38.0:
        return _Edge(v, 0.0, 0.0)
    return _Edge(v, math.exp(-0.5 * v * v) / _ROOT_2PI, math.erfc(abs(v) * math.sqrt(0.5)))


@jit
def _moments(left: _Edge, right: _Edge) -> tuple[float, float, float, float]:
    """Moments 0 to 3 of a standard normal variable between two edges."""
    low, high = left.v, right.v
    if high - low < _THIN:
        m0 = m1 = m2 = m3 = 0.0
        half = 0.5 * (high - low)
        middle = 0.5 * (high + low)
        for k in range(_FEW_NODES.size):
            x = middle + half * _FEW_NODES[k]
            w = _FEW_WEIGHTS[k] * half * math.exp(-0.5 * x * x) / _ROOT_2PI
            m0 += w
            m1 += w * x
            m2 += w * x * x
            m3 += w * x * x * x
        return m0, m1, m2, m3
    if low > 0.0:
        m0 = 0.5 * (left.beyond - right.beyond)
    elif high < 0.0:
        m0 = 0.5 * (right.beyond - left.beyond)
    else:
        m0 = 1.0 - 0.5 * (left.beyond + right.beyond)
    l1 = low * left.density if left.density > 0.0 else 0.0
    h1 = high * right.density if right.density > 0.0 else 0.0
    m1 = left.density - right.density
    l2 = low * l1 if l1 != 0.0 else 0.0
    h2 = high * h1 if h1 != 0.0 else 0.0
    return m0, m1, m0 + l1 - h1, 2.0 * m1 + l2 - h2


class Pull(NamedTuple):
    """Averages over x ~ N(mean, tau^2), v = (x - mean)/tau, P = x - p the pull and p' = dp/dx."""

    K: float  # E[1 - p']
    K_rest: float  # E[p']
    W: float  # E[P^2]
    W_rest: float  # E[p (2 x - p)], which is E[x^2] - W
    P: float  # E[P]
    KPv: float  # E[(1 - p') P v]
    KPP: float  # E[(1 - p') P^2]
    Kvv: float  # E[(1 - p') (v^2 - 1)]
    KK: float  # E[(1 - p')^2]
    train: float  # E[l(p)]
    test: float  # E[l(x)]
    pp: float  # E[p^2]


_ZERO = Pull(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


@jit
def _linear_piece(total, left, right, offset, share, rest, c0, c1, c2, mean, tau, tail):
    """Add a stretch of x on which the pull is offset + share x, share + rest = 1."""
    a, b = left.v, right.v
    if not b > a or a > 38.0 or b < -38.0:
        return total
    # The pull is A + B v, p is C + D v, x is mean + tau v.
    A = offset + share * mean
    B = share * tau
    C = rest * mean - offset
    D = rest * tau
    if tail and (a > _TAIL or b < -_TAIL) and b - a >= _THIN:
        m0, m1, m2, m3, w0, w1 = _tail_moments(a, b, A, B)
    else:
        m0, m1, m2, m3 = _moments(left, right)
        w0 = A * A * m0 + 2.0 * A * B * m1 + B * B * m2
        w1 = A * m1 + B * m2
    p1 = C * m0 + D * m1
    pp = C * C * m0 + 2.0 * C * D * m1 + D * D * m2
    xp = mean * p1 + tau * (C * m1 + D * m2)
    return Pull(
        total.K + share * m0,
        total.K_rest + rest * m0,
        total.W + w0,
        total.W_rest + 2.0 * xp - pp,
        total.P + A * m0 + B * m1,
        total.KPv + share * w1,
        total.KPP + share * w0,
        total.Kvv + share * (m2 - m0),
        total.KK + share * share * m0,
        total.train + c0 * m0 + c1 * p1 + c2 * pp,
        total.test,
        total.pp + pp,
    )


@jit
def _tail_moments(a, b, A, B):
    """Moments in a tail, and E[(A + B v)^2], E[(A + B v) v], without cancellation."""
    flip = 1.0
    if b < 0.0:
        a, b, flip = -b, -a, -1.0
    m0 = m1 = m2 = m3 = w0 = w1 = 0.0
    stop = min(b, a + 40.0 / a)
    left = a
    while left < stop:
        right = min(left + 6.0 / a, stop)
        half = 0.5 * (right - left)
        for k in range(_NODES.size):
            x = 0.5 * (left + right) + half * _NODES[k]
            w = _WEIGHTS[k] * half * math.exp(-0.5 * x * x) / _ROOT_2PI
            v = flip * x
            at = A + B * v
            m0 += w
            m1 += w * v
            m2 += w * v * v
            m3 += w * v * v * v
            w0 += w * at * at
            w1 += w * at * v
        left = right
    return m0, m1, m2, m3, w0, w1


@jit
def _of_strips(curve, chi, mean, tau):
    total = _ZERO
    n = curve.breaks.size
    left = _edge(-math.inf)
    edge = high = 0.0
    for k in range(n + 1):
        c0, c1, c2 = curve.coefficients[k]
        rest = 1.0 / (1.0 + 2.0 * chi * c2)
        share = 2.0 * chi * c2 * rest
        right = _edge(math.inf)
        if k < n:
            edge = curve.breaks[k]
            high = edge + chi * (c1 + 2.0 * c2 * edge)
            right = _edge((high - mean) / tau)
        total = _linear_piece(
            total, left, right, chi * c1 * rest, share, rest, c0, c1, c2, mean, tau, curve.flat
        )
        left = right
        if k < n:
            _, d1, d2 = curve.coefficients[k + 1]
            low = edge + chi * (d1 + 2.0 * d2 * edge)
            if low > high:  # a kink: p stands still
                left = _edge((low - mean) / tau)
                value = c0 + edge * (c1 + c2 * edge)
                total = _linear_piece(
                    total, right, left, -edge, 1.0, 0.0, value, 0.0, 0.0, mean, tau, curve.flat
                )
    return total


@jit
def _of_nearest(curve, mean, tau):
    low, high = curve.breaks
    flat = curve.flat
    first, last = _edge(-math.inf), _edge(math.inf)
    left, right = _edge((low - mean) / tau), _edge((high - mean) / tau)
    total = _ZERO
    total = _linear_piece(total, first, left, -low, 1.0, 0.0, 0.0, 0.0, 0.0, mean, tau, flat)
    total = _linear_piece(total, left, right, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, mean, tau, flat)
    total = _linear_piece(total, right, last, -high, 1.0, 0.0, 0.0, 0.0, 0.0, mean, tau, flat)
    return total


class Nodes(NamedTuple):
    """Nodes of a rule over x: field x, step p, dp/dx and weight dx; room for all of them."""

    x: NDArray[np.float64]
    p: NDArray[np.float64]
    rest: NDArray[np.float64]
    share: NDArray[np.float64]  # 1 - dp/dx
    weight: NDArray[np.float64]
    edges: NDArray[np.float64]


@jit
def new_nodes(curve):
    """Return room for the nodes of a curve."""
    edges = 80 + 4 * curve.breaks.size
    size = 16 * (edges + curve.bends.size + 2)
    room = np.empty((5, size))
    return Nodes(room[0], room[1], room[2], room[3], room[4], np.empty(edges))


@jit
def _add_linear(nodes, count, left, right, offset, rest, share):
    """Nodes on a stretch on which p = offset + rest x."""
    half = 0.5 * (right - left)
    for k in range(_LINEAR_NODES.size):
        x = left + half * (1.0 + _LINEAR_NODES[k])
        nodes.x[count] = x
        nodes.p[count] = offset + rest * x
        nodes.rest[count] = rest
        nodes.share[count] = share
        nodes.weight[count] = _LINEAR_WEIGHTS[k] * half
        count += 1
    return count


@jit
def _of_piece(curve, piece, x):
    """l' and l'' at x, of the piece of the table that holds it."""
    breaks, series = curve.table_breaks, curve.table
    left, right = breaks[piece], breaks[piece + 1]
    t = (2.0 * (curve.shift + curve.sign * x) - left - right) / (right - left)
    b1 = b2 = c1 = c2 = 0.0
    for n in range(series.shape[2] - 1, 0, -1):
        b1, b2 = series[1, piece, n] + 2.0 * t * b1 - b2, b1
        c1, c2 = series[2, piece, n] + 2.0 * t * c1 - c2, c1
    slope = series[1, piece, 0] + t * b1 - b2
    return curve.sign * slope, max(series[2, piece, 0] + t * c1 - c2, 0.0)


@jit
def _add_smooth(nodes, count, curve, chi, start, stop):
    """Nodes along p from start to stop, on which the curve is smooth."""
    bends = curve.bends
    at = np.searchsorted(bends, start, side="right")
    piece = -1
    left = start
    while left < stop:
        right = stop
        if at < bends.size and bends[at] < stop:
            right = bends[at]
            at += 1
        half = 0.5 * (right - left)
        if curve.kind == TABLE:
            r = curve.shift + curve.sign * (left + half)
            piece = np.searchsorted(curve.table_breaks, r, side="right") - 1
        for k in range(_NODES.size):
            p = left + half * (1.0 + _NODES[k])
            if piece >= 0:
                slope, curvature = _of_piece(curve, piece, p)
            else:
                _, slope, curvature = value_slope_curvature(curve, p)
            stretch = 1.0 + chi * curvature
            nodes.x[count] = p + chi * slope
            nodes.p[count] = p
            nodes.rest[count] = 1.0 / stretch
            nodes.share[count] = chi * curvature / stretch
            nodes.weight[count] = _WEIGHTS[k] * half * stretch
            count += 1
        left = right
    return count


@jit
def _merge(edges, n, value, low, high):
    """Insert a value between low and high into sorted edges."""
    if not low < value < high:
        return n
    k = n
    while k > 0 and edges[k - 1] > value:
        edges[k] = edges[k - 1]
        k -= 1
    edges[k] = value
    return n + 1


@jit
def place_nodes(nodes, curve, chi, mean, tau, width, extent, floor, everywhere):
    """Fill the nodes for x ~ N(mean, tau^2) times a step at x = 0 of that width; return how many.

    The step ends `extent` widths from 0, and nothing is left below `floor`. Without `everywhere`, stretches without a pull are left out. -1 if p leaves a table.
    """
    low, high = max(mean - REACH * tau, floor), mean + REACH * tau
    edges = nodes.edges
    n = 0
    for k in range(_PANELS + 1):
        edges[n] = mean + (k * _PANEL - REACH) * tau
        n += 1
    if width < tau:
        for factor in (2.0, 4.0, 6.5, 9.0, 13.0, 19.0, 28.0, 40.0):
            if factor <= extent:
                n = _merge(edges, n, factor * width, low, high)
                n = _merge(edges, n, -factor * width, low, high)
        n = _merge(edges, n, 0.0, low, high)
    count = 0
    if curve.kind == STRIPS or curve.kind == NEAREST:
        if curve.kind == STRIPS:
            _, slope, _ = value_slope_curvature(curve, 0.0)
            n = _merge(edges, n, chi * slope, low, high)  # where p = 0
        pieces = curve.breaks.size + 1
        last = -math.inf
        for k in range(pieces):
            if curve.kind == STRIPS:
                c1, c2 = curve.coefficients[k, 1], curve.coefficients[k, 2]
                rest = 1.0 / (1.0 + 2.0 * chi * c2)
                share = 2.0 * chi * c2 * rest
                offset = -chi * c1 * rest
                pulls = c1 != 0.0 or c2 != 0.0
                end = math.inf
                if k < pieces - 1:
                    edge = curve.breaks[k]
                    end = edge + chi * (c1 + 2.0 * c2 * edge)
            else:
                pulls = k != 1
                rest = 0.0 if pulls else 1.0
                share = 1.0 - rest
                offset = 0.0
                if k == 0:
                    offset = curve.breaks[0]
                elif k == 2:
                    offset = curve.breaks[1]
                end = curve.breaks[k] if k < 2 else math.inf
            if pulls or everywhere:
                count = _stretch(nodes, count, n, last, end, offset, rest, share, low, high)
            last = end
            if curve.kind == STRIPS and k < pieces - 1:
                d1, d2 = curve.coefficients[k + 1, 1], curve.coefficients[k + 1, 2]
                edge = curve.breaks[k]
                end = edge + chi * (d1 + 2.0 * d2 * edge)
                if end > last:
                    count = _stretch(nodes, count, n, last, end, edge, 0.0, 1.0, low, high)
                last = max(last, end)
        return count
    table_low, table_high = -math.inf, math.inf
    if curve.kind == TABLE:
        table_low, table_high = curve.bends[0], curve.bends[-1]
    last_x = -math.inf
    last_p = table_low
    for k in range(curve.breaks.size + 1):
        end_p = table_high
        if k < curve.breaks.size:
            end_p = curve.breaks[k]
        inside = end_p - _BESIDE * (1.0 + abs(end_p)) if end_p < math.inf else math.inf
        end_x = math.inf
        if end_p < math.inf:
            end_x = inside + chi * value_slope_curvature(curve, inside)[1]
        if k == 0 and last_p > -math.inf:
            last_x = last_p + chi * value_slope_curvature(curve, last_p)[1]
            if last_x > low:
                return -1
        from_x, to_x = max(last_x, low), min(end_x, high)
        if from_x < to_x:
            left = last_p if from_x == last_x else prox(curve, chi, from_x, last_p, inside)
            here = from_x
            for j in range(n + 1):
                there = edges[j] if j < n else to_x
                if there <= here:
                    continue
                there = min(there, to_x)
                right = inside if there == end_x else prox(curve, chi, there, left, inside)
                count = _add_smooth(nodes, count, curve, chi, left, right)
                left, here = right, there
                if here >= to_x:
                    break
        last_x = end_x
        if k < curve.breaks.size:
            end_p += _BESIDE * (1.0 + abs(end_p))
            end_x = end_p + chi * value_slope_curvature(curve, end_p)[1]
            if end_x > last_x:
                count = _stretch(
                    nodes, count, n, last_x, end_x, curve.breaks[k], 0.0, 1.0, low, high
                )
            last_x = max(last_x, end_x)
        last_p = end_p
    if last_x < high:
        return -1
    return count


@jit
def _stretch(nodes, count, n, start, stop, offset, rest, share, low, high):
    """Nodes on a stretch of x on which p is linear, cut at the edges."""
    left, stop = max(start, low), min(stop, high)
    for j in range(n + 1):
        right = min(nodes.edges[j], stop) if j < n else stop
        if right > left:
            count = _add_linear(nodes, count, left, right, offset, rest, share)
            left = right
    return count


@jit
def _by_rule(curve, chi, mean, tau, nodes):
    """The averages of a curve without closed moments; NaN if p leaves a table."""
    count = place_nodes(nodes, curve, chi, mean, tau, math.inf, 0.0, -math.inf, True)
    K = K_rest = W = W_rest = P = KPv = KPP = Kvv = KK = train = pp = 0.0
    for i in range(count):
        v = (nodes.x[i] - mean) / tau
        w = nodes.weight[i] * math.exp(-0.5 * v * v) / (_ROOT_2PI * tau)
        p, rest = nodes.p[i], nodes.rest[i]
        share = nodes.share[i]
        at = nodes.x[i] - p
        K += w * share
        K_rest += w * rest
        W += w * at * at
        W_rest += w * p * (2.0 * nodes.x[i] - p)
        P += w * at
        KPv += w * share * at * v
        KPP += w * share * at * at
        Kvv += w * share * (v * v - 1.0)
        KK += w * share * share
        train += w * value_slope_curvature(curve, p)[0]
        pp += w * p * p
    if count < 0:
        K = math.nan
    return Pull(K, K_rest, W, W_rest, P, KPv, KPP, Kvv, KK, train, 0.0, pp)


@jit
def pull(curve, chi, mean, tau, nodes):
    """Return the averages over x ~ N(mean, tau^2), those of the loss at x left out."""
    if curve.kind == STRIPS:
        return _of_strips(curve, chi, mean, tau)
    if curve.kind == NEAREST:
        return _of_nearest(curve, mean, tau)
    return _by_rule(curve, chi, mean, tau, nodes)
