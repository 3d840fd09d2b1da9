"""Averages over the samples of a leaky-ReLU student when symmetry is broken in K nested levels.

The innermost level is closed (`_tilted_sample`). For K = 1 that leaves two coordinates, the label
and the field; both are mapped so that the trapezoidal rule converges exponentially, however narrow
the edge beside which the branches mix. For K > 1 the levels between are Gaussian convolutions on an
even grid in a window around the edge; outside it one branch is alone and everything is known.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from replica._core.jit import jit

from ._tilted_sample import bend, negative, positive, scales

__all__ = ["Averages", "averages"]

_ROOT_2PI = math.sqrt(2.0 * math.pi)
# standard deviations beyond which the normal law has no weight (1e-17)
_REACH = 8.6
# half-width of a window, in standard deviations of the path (1e-15)
_WINDOW = 8.0
# nodes of a convolution of less weight do not count
_NEGLIGIBLE = 1e-25
# labels of less weight do not count
_LEAST_WEIGHT = 1e-22
# the double-exponential map of labels begins here, where its weight is 1e-17 of that at its scale
_FIRST_LABEL = -3.7
# nodes far from an edge are so many standard deviations times the step apart
_SPACING = 3.5
# room for the nodes of a field, and of a window: 10 times what was seen; NaN beyond the latter
_MOST_FIELDS = 20_000
_MOST_NODES = 100_000
# the ends of a kink have one window if they are nearer than so many half-widths of a window
_MERGED = 2.5
_LOW, _KINK, _HIGH = 0, 1, 2


class Averages(NamedTuple):
    """Averages over all samples: what the saddle-point equations are made of.

    g0 = E[df_0/dw], g1 = E[df_0/dy], V0 = E[f_0^2]; E[(y - g(u))^2]; the probability of y > 0 and
    u < 0; E[phi_0]; of each level the mean squared step of f and the part of the information that
    a tilted normal law of the same mean has not.
    """

    g0: float
    g1: float
    V0: float
    train: float
    dead: float
    phi: float
    spread: NDArray[np.float64]
    excess: NDArray[np.float64]


class _Row(NamedTuple):
    """Columns of what a node of a window carries; those of spread and excess are K each."""

    phi: int = 0
    f: int = 1
    loss: int = 2
    dead: int = 3
    levels: int = 4


_ROW = _Row()


@jit
def _slopes(D, a):
    """The edges at a level are at w = -slope y: of the jump, and of both ends of the kink."""
    A, B = math.sqrt(1.0 + D), math.sqrt(1.0 + a * a * D)
    return D * (B + a * A) / (A + B), a * D, D


@jit
def _alone(row, region, y, w, level, D, d, xi, a):
    """Fill a row for a node that lies on one branch with all its paths."""
    K = d.size
    b = a if region == _LOW else 1.0
    R = (y - b * w) / (1.0 + b * b * D[level])
    if region == _KINK:
        row[_ROW.f] = -w / D[level]
        row[_ROW.phi] = 0.5 * (y * y + w * w / D[level])
        row[_ROW.loss] = y * y
    else:
        row[_ROW.f] = b * R
        row[_ROW.phi] = 0.5 * (1.0 + b * b * D[level]) * R * R
        row[_ROW.loss] = R * R
    row[_ROW.dead] = 1.0 if region == _LOW and y > 0.0 else 0.0
    for j in range(level, K):
        if region == _KINK:
            outer, inner, square = D[j], D[j + 1], 1.0
        else:
            outer, inner, square = 1.0 + b * b * D[j], 1.0 + b * b * D[j + 1], b * b
        t = xi[j] * d[j] * square / inner
        moved = square * d[j] / (outer * inner)
        row[_ROW.phi] += 0.5 * math.log1p(t) / xi[j]
        if region != _KINK:
            row[_ROW.loss] += moved
        row[_ROW.levels + j] = square * moved
        row[_ROW.levels + K + j] = 0.5 * bend(t)


@jit
def _region(y, w, D, a):
    kappa, low, high = _slopes(D, a)
    if y > 0.0:
        return _HIGH if w > -kappa * y else _LOW
    if w < -low * y:
        return _LOW
    return _HIGH if w > -high * y else _KINK


@jit
def _pull(region, y, w, D, a):
    """f of a branch alone."""
    if region == _KINK:
        return -w / D
    b = a if region == _LOW else 1.0
    return b * (y - b * w) / (1.0 + b * b * D)


@jit
def _convolve(out, source, first, spacing, o, y, level, anchor, lowest, highest, D, d, xi, a, work):
    """Fill the row of a target at `level` from the window at level + 1.

    `first` is the coordinate of the first node; the branches from `lowest` to `highest` are near.
    """
    K = d.size
    n = source.shape[0]
    variance, x = d[level], xi[level]
    w = o - _slopes(D[level], a)[anchor] * y
    moved = (_slopes(D[level], a)[anchor] - _slopes(D[level + 1], a)[anchor]) * y
    left, right = math.inf, -math.inf
    for region in range(lowest, highest + 1):
        if y > 0.0 and region == _KINK:
            continue
        center = o - moved + x * variance * _pull(region, y, w, D[level], a)
        left, right = min(left, center), max(right, center)
    reach = _REACH * math.sqrt(variance)
    begin = max(0, math.floor((left - reach - first) / spacing))
    end = min(n, math.ceil((right + reach - first) / spacing) + 1)
    middle = source[(begin + end) // 2, _ROW.phi]
    top = -math.inf
    for k in range(begin, end):
        step = first + k * spacing - o + moved
        work[0, k] = -0.5 * step * step / variance - x * (source[k, _ROW.phi] - middle)
        top = max(top, work[0, k])
    Z = f = 0.0
    for k in range(begin, end):
        work[0, k] -= top
        work[1, k] = math.exp(work[0, k])
        Z += work[1, k]
        f += work[1, k] * source[k, _ROW.f]
    f /= Z
    out[:] = 0.0
    spread = excess = 0.0
    for k in range(begin, end):
        p = work[1, k] / Z
        if p < _NEGLIGIBLE:
            continue
        rest = first + k * spacing - o + moved - x * variance * f
        spread += p * (source[k, _ROW.f] - f) ** 2
        excess += p * (work[0, k] + 0.5 * rest * rest / variance)
        for c in range(_ROW.loss, _ROW.levels):
            out[c] += p * source[k, c]
        for j in range(level + 1, K):
            out[_ROW.levels + j] += p * source[k, _ROW.levels + j]
            out[_ROW.levels + K + j] += p * source[k, _ROW.levels + K + j]
    density = spacing / (_ROOT_2PI * math.sqrt(variance))
    out[_ROW.f] = f
    out[_ROW.phi] = middle - (top + math.log(Z * density)) / x
    out[_ROW.levels + level] = spread
    out[_ROW.levels + K + level] = excess - math.log(Z * density)


@jit
def _window(y, anchor, both, half, step, D, d, xi, a, k, rows, other, work):
    """Solve the levels K - 1 .. 1 in a window around an edge.

    Returns its first node, their distance at level 1, and their number, -1 if there is no room.
    Targets are within `half` of the edge, or of the two ends of the kink if `both`; beyond them the
    nodes are those of a branch alone. A level needs no more nodes than its own broadening asks for.
    """
    K = d.size
    extra = 0.0
    for j in range(K - 1):
        drift = 0.0
        if y > 0.0:
            kappa = _slopes(D[j], a)[0]
            moved = (kappa - _slopes(D[j + 1], a)[0]) * y
            for region in (_LOW, _HIGH):
                pull = xi[j] * d[j] * _pull(region, y, -kappa * y, D[j], a)
                drift = max(drift, abs(pull - moved))
        extra = max(extra, _REACH * math.sqrt(d[j]) + drift)
    length = (1.0 - a) * D[0] * abs(y) if both else 0.0
    first = -half - extra
    lowest, highest = _near(anchor, both)
    spacing, n = 0.0, 0
    for level in range(K - 1, 0, -1):
        source_spacing, source_n = spacing, n
        narrow = math.sqrt(d[level] * D[level + 1] / D[level])
        spacing = 2.0 * step * narrow
        if y > 0.0:
            jump = (1.0 - a) / math.sqrt((1.0 + D[level]) * (1.0 + a * a * D[level]))
            spacing /= 1.0 + 0.5 * xi[level] * jump * y * narrow
        n = math.ceil((length + 2.0 * (half + extra)) / spacing) + 1
        if n > rows.shape[0]:
            return first, spacing, -1
        edge = _slopes(D[level], a)[anchor]
        for i in range(n):
            o = first + i * spacing
            if level == K - 1:
                if y > 0.0:
                    sample = positive(y, o, k)
                else:
                    between = (1.0 - a) * D[level] * y
                    low = o - between if anchor == 2 else o
                    sample = negative(y, low, low + between, k)
                row = other[i]
                row[_ROW.phi], row[_ROW.f] = sample.phi, sample.f
                row[_ROW.loss], row[_ROW.dead] = sample.loss, sample.dead
                row[_ROW.levels + level] = sample.spread
                row[_ROW.levels + K + level] = sample.excess
            elif o < -half or o > length + half:
                w = o - edge * y
                _alone(other[i], _region(y, w, D[level], a), y, w, level, D, d, xi, a)
            else:
                _convolve(
                    other[i],
                    rows[:source_n],
                    first,
                    source_spacing,
                    o,
                    y,
                    level,
                    anchor,
                    lowest,
                    highest,
                    D,
                    d,
                    xi,
                    a,
                    work,
                )
        rows[:n] = other[:n]
    return first, spacing, n


@jit
def _near(anchor, both):
    """The first and the last branch beside an edge."""
    if anchor == 0 or both:
        return _LOW, _HIGH
    return (_LOW, _KINK) if anchor == 1 else (_KINK, _HIGH)


@jit
def _labels(sign, scale, sigma, step):
    """Nodes and weights of a rule over the labels of one sign, even in the logarithm of the label.

    It resolves everything that happens on any scale above `scale`; y = 0 is an end of it.
    """
    n = math.ceil((math.log(_REACH * sigma / scale) - _FIRST_LABEL) / step)
    y, p = np.empty(n), np.empty(n)
    for i in range(n):
        x = _FIRST_LABEL + i * step
        e = math.exp(-x)
        y[i] = scale * math.exp(x - e)
        z = y[i] / sigma
        p[i] = y[i] * (1.0 + e) * step * math.exp(-0.5 * z * z) / (sigma * _ROOT_2PI)
        if p[i] < _LEAST_WEIGHT * scale:
            p[i] = 0.0
        y[i] *= sign
    return y, p


@jit
def _fields(o, p, mean, tau, h, two, between, step):
    """Fill nodes and weights of a rule over a normal field, dense at 0 on the scale h.

    With `two` also at `between`. Even in x(o) = (o - mean)/L + asinh(o/h) + asinh((o - between)/h),
    which is inverted by Newton's method. Returns their number.
    """
    L = _SPACING * tau
    here, end = mean - _REACH * tau, mean + _REACH * tau
    x = (here - mean) / L + math.asinh(here / h)
    x_end = (end - mean) / L + math.asinh(end / h)
    if two:
        x += math.asinh((here - between) / h)
        x_end += math.asinh((end - between) / h)
    x = math.ceil(x / step) * step
    n = 0
    while x < x_end and n < o.size:
        for _ in range(40):
            density = 1.0 / L + 1.0 / math.sqrt(h * h + here * here)
            gap = x - (here - mean) / L - math.asinh(here / h)
            if two:
                density += 1.0 / math.sqrt(h * h + (here - between) ** 2)
                gap -= math.asinh((here - between) / h)
            here += gap / density
            if abs(gap) < 1e-9:  # the next one would be below rounding
                break
        density = 1.0 / L + 1.0 / math.sqrt(h * h + here * here)
        if two:
            density += 1.0 / math.sqrt(h * h + (here - between) ** 2)
        z = (here - mean) / tau
        o[n], p[n] = here, step / density * math.exp(-0.5 * z * z) / (tau * _ROOT_2PI)
        n += 1
        x += step
        here += step / density
    return n


class _Outer(NamedTuple):
    """What the rules over labels and fields have to resolve, and the edges they see."""

    tau: float
    s: float  # broadening of an edge
    kappa: float
    D: float
    jump: float
    xi: float


@jit
def _outer(m, v, s, xi, D, S, a):
    sigma2 = 1.0 + S
    jump = (1.0 - a) / math.sqrt((1.0 + D) * (1.0 + a * a * D))
    return _Outer(math.sqrt(v + m * m * S / sigma2), s, _slopes(D, a)[0], D, jump, xi)


@jit
def _scale(sign, k):
    """Below this label nothing happens any more."""
    slope = k.kappa if sign > 0.0 else k.D
    return min(k.s, k.tau, 1.0 / (k.xi * k.s)) / (1.0 + slope)


@jit
def _edges(y, a, k):
    """The field at the (first) edge, the distance of the second one, and how broad they are."""
    if y > 0.0:
        return -k.kappa * y, 0.0, 1.0 / (1.0 / (1.5 * k.s) + k.xi * k.jump * y / 3.0)
    return -a * k.D * y, -(1.0 - a) * k.D * y, 1.5 * k.s


@jit
def one_level_averages(chi, m, v, d, xi, S, a, step):
    """Averages over all samples for one level, by trapezoidal rules of this step."""
    sigma2 = 1.0 + S
    k = scales(chi, d, xi, a)
    outer = _outer(m, v, math.sqrt(d), xi, k.D, S, a)
    nodes, weights = np.empty(_MOST_FIELDS), np.empty(_MOST_FIELDS)
    g0 = yf = V0 = train = dead = phi = spread = excess = 0.0
    for sign in (1.0, -1.0):
        labels, p_labels = _labels(sign, _scale(sign, outer), math.sqrt(sigma2), step)
        for i in range(labels.size):
            y = labels[i]
            if p_labels[i] == 0.0:
                continue
            center, between, h = _edges(y, a, outer)
            mean = m * y / sigma2 - center
            n = _fields(nodes, weights, mean, outer.tau, h, y < 0.0, between, step)
            for j in range(n):
                o, p = nodes[j], p_labels[i] * weights[j]
                sample = positive(y, o, k) if y > 0.0 else negative(y, o, o - between, k)
                g0 += p * (o - mean) * sample.f
                yf += p * y * sample.f
                V0 += p * sample.f**2
                spread += p * sample.spread
                excess += p * sample.excess
                train += p * sample.loss
                dead += p * sample.dead
                phi += p * sample.phi
    g0 /= outer.tau**2
    g1 = (yf - m * g0) / sigma2
    return Averages(g0, g1, V0, train, dead, phi, np.full(1, spread), np.full(1, excess))


@jit
def nested_averages(chi, m, v, d, xi, S, a, step):
    """Averages over all samples for more levels than one."""
    K = d.size
    sigma2 = 1.0 + S
    D = np.empty(K + 1)
    D[K] = chi
    for j in range(K - 1, -1, -1):
        D[j] = D[j + 1] + xi[j] * d[j]
    s = math.sqrt(d.sum())
    k = scales(chi, d[K - 1], xi[K - 1], a)
    outer = _outer(m, v, s, xi[0], D[0], S, a)
    half = _WINDOW * s * math.sqrt(D[0] / chi)
    width = _ROW.levels + 2 * K
    rows, other = np.zeros((2, _MOST_NODES, width)), np.zeros((_MOST_NODES, width))
    work, row = np.empty((2, _MOST_NODES)), np.zeros(width)
    firsts, spacings, sizes = np.zeros(2), np.zeros(2), np.zeros(2, np.int64)
    nodes, weights = np.empty(_MOST_FIELDS), np.empty(_MOST_FIELDS)
    g0 = yf = V0 = train = dead = phi = 0.0
    spread, excess = np.zeros(K), np.zeros(K)
    for sign in (1.0, -1.0):
        labels, p_labels = _labels(sign, _scale(sign, outer), math.sqrt(sigma2), step)
        for i in range(labels.size):
            y = labels[i]
            if p_labels[i] == 0.0:
                continue
            center, between, h = _edges(y, a, outer)
            mean = m * y / sigma2 - center
            two = y < 0.0
            both = two and between < _MERGED * half
            for edge in range(2 if two and not both else 1):
                sizes[edge] = 0
                here = between if edge == 1 else 0.0
                far = between if both else here
                beyond = half + _REACH * outer.tau
                if mean - here < -beyond or mean - far > beyond:
                    continue
                anchor = 1 + edge if two else 0
                firsts[edge], spacings[edge], sizes[edge] = _window(
                    y, anchor, both, half, step, D, d, xi, a, k, rows[edge], other, work
                )
                if sizes[edge] < 0:
                    g0 = math.nan
            n = _fields(nodes, weights, mean, outer.tau, h, two, between, step)
            length = between if both else 0.0
            for j in range(n):
                o, p = nodes[j], p_labels[i] * weights[j]
                edge = -1
                if sizes[0] > 0 and -half <= o <= length + half:
                    edge = 0
                elif two and not both and sizes[1] > 0 and abs(o - between) <= half:
                    edge = 1
                if edge >= 0:
                    anchor = 1 + edge if two else 0
                    low, high = _near(anchor, both)
                    _convolve(
                        row,
                        rows[edge, : sizes[edge]],
                        firsts[edge],
                        spacings[edge],
                        o - between if edge == 1 else o,
                        y,
                        0,
                        anchor,
                        low,
                        high,
                        D,
                        d,
                        xi,
                        a,
                        work,
                    )
                else:
                    w = o + center
                    _alone(row, _region(y, w, D[0], a), y, w, 0, D, d, xi, a)
                f = row[_ROW.f]
                g0 += p * (o - mean) * f
                yf += p * y * f
                V0 += p * f * f
                train += p * row[_ROW.loss]
                dead += p * row[_ROW.dead]
                phi += p * row[_ROW.phi]
                for level in range(K):
                    spread[level] += p * row[_ROW.levels + level]
                    excess[level] += p * row[_ROW.levels + K + level]
    g0 /= outer.tau**2
    return Averages(g0, (yf - m * g0) / sigma2, V0, train, dead, phi, spread, excess)


def averages(
    chi: float,
    m: float,
    v: float,
    d: NDArray[np.float64],
    xi: NDArray[np.float64],
    S: float,
    slope: float,
    step: float,
) -> Averages:
    """Averages over all samples at q_0 = v + m^2, steps d of the overlap, and breakpoints xi."""
    if d.size == 1:
        return one_level_averages(chi, m, v, d[0], xi[0], S, slope, step)
    return nested_averages(chi, m, v, d, xi, S, slope, step)
