"""What one label tells about the student's field: the channel of Bayes-optimal learning.

Given the samples seen so far, the teacher's field z of a fresh input is normal, with the mean
omega ~ N(0, q) of the posterior and its variance V = 1 - q. All of Bayes-optimal learning hangs on

    I(q) = E[(d ln P(y | omega) / d omega)^2],  P(y | omega) = E[P(y | z) given omega],

the Fisher information of the label y about omega. By the identity of Nishimori the score g = d ln P
/ d omega has E[g^2] = E[g (z - omega)] / V; both sides are computed, the second by another formula
or another integral, and what they differ by is reported. Three kinds of labels: signs, with closed
forms of P; a noise added to the output, P being a convolution; functions of the field without
noise of their own, where y tells the set of fields that have this output.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import roots_legendre

from replica._core.activation_table import activation_at, activation_value
from replica._core.jit import jit

from ._proximal import PreparedActivation
from ._teacher_average import EDGES, REACH, graded_edges

__all__ = ["Information", "leaky_information", "output_information", "output_variance"]
__all__ += ["preimage_information", "sign_information", "sign_overlap", "smooth_fraction"]
__all__ += ["turning_points"]

_ROOT_2PI = math.sqrt(2.0 * math.pi)
_ROOT_HALF = math.sqrt(0.5)
_NODES, _WEIGHTS = ((1 + roots_legendre(16)[0]) / 2, roots_legendre(16)[1] / 2)
# Standard deviations at which normal laws end: they hold all but 3e-18; squared densities decay
# faster.
_FAR = 8.7
_FAR_SQUARED = 9.5
# e^-40 is below rounding: where logistic laws end.
_LOGISTIC_FAR = 40.0
# Longest piece, in units of the scale of the integrand, on which 16 nodes are exact to rounding.
_PIECE = 2.4
# Step of the trapezoidal rule: spectrally accurate for normal and logistic laws.
_STEP = 0.5
# Slopes of a plateau: those of a table, with its rounding.
_FLAT = 1e-12
# Outputs that differ by less are one.
_SAME = 1e-12
# Where the integrals end that give the law of an output, which is asked for within REACH.
_WIDE = 9.6
# Outputs of a lower probability are left out: at the ends of all integrals their scores are wrong.
_NEGLIGIBLE = 1e-17
# More pieces of the field mean a noise too small for sums over it; a second at most.
_MOST_PIECES = 4000
# How closely, in standard deviations, the pieces shrink towards a square root.
_SQUARE_ROOT = 1e-9
# Densities below this count as 0: the square of their slope underflows.
_TINY = 1e-280


class Information(NamedTuple):
    """I(q), E[g (z - omega)]/V by another formula, and the mean log-likelihood E[ln P]."""

    fisher: float
    overlap: float
    log_likelihood: float


# --- Signs ---------------------------------------------------------------------------------------


@jit
def _upper(x):
    """The probability that a standard normal variable exceeds x."""
    return 0.5 * math.erfc(x * _ROOT_HALF)


@jit
def _sign_law(omega, V, S, flip, logistic):
    """P(+ | omega), P(- | omega), and the derivative of the first."""
    if not logistic or S == 0.0:
        sd = math.sqrt(V + S)
        a = omega / sd
        plus, minus = _upper(-a), _upper(a)
        slope = math.exp(-0.5 * a * a) / (_ROOT_2PI * sd)
    else:
        scale = math.sqrt(3.0 * S) / math.pi
        sd = math.sqrt(V)
        plus = minus = slope = 0.0
        if sd <= scale:  # the field varies less than the noise: sum over the field
            for k in range(-20, 21):
                x = _STEP * k
                weight = _STEP * math.exp(-0.5 * x * x) / _ROOT_2PI
                u = (omega + sd * x) / scale
                up, down = 1.0 / (1.0 + math.exp(-u)), 1.0 / (1.0 + math.exp(u))
                plus += weight * up
                minus += weight * down
                slope += weight * up * down / scale
        else:
            for k in range(-80, 81):
                u = _STEP * k
                weight = _STEP / (2.0 + math.exp(u) + math.exp(-u))
                a = (omega + scale * u) / sd
                plus += weight * _upper(-a)
                minus += weight * _upper(a)
                slope += weight * math.exp(-0.5 * a * a) / (_ROOT_2PI * sd)
    kept = 1.0 - 2.0 * flip
    return flip + kept * plus, flip + kept * minus, kept * slope


@jit
def _sign_score(omega, V, S, flip, logistic):
    """E_x[x P(+ | z = omega + sqrt(V) x)]/sqrt(V): the derivative again, from the raw law."""
    scale = math.sqrt(3.0 * S) / math.pi if logistic else math.sqrt(S)
    sd = math.sqrt(V)
    by_parts = scale > sd  # E[x P] would cancel, and E[dP/dz] has no sharp peak
    centers, widths = np.array([-omega / sd]), np.array([scale / sd])
    edges = graded_edges(np.linspace(-_FAR, _FAR, 9), centers, widths, 1.0)
    total = 0.0
    for piece in range(edges.size - 1):
        length = edges[piece + 1] - edges[piece]
        for k in range(_NODES.size):
            x = edges[piece] + length * _NODES[k]
            z = omega + sd * x
            weight = length * _WEIGHTS[k] * math.exp(-0.5 * x * x) / _ROOT_2PI
            u = z / scale if scale > 0.0 else math.copysign(math.inf, z)
            if by_parts and logistic:
                value = 1.0 / ((1.0 + math.exp(-u)) * (1.0 + math.exp(u)) * scale)
            elif by_parts:
                value = math.exp(-0.5 * u * u) / (_ROOT_2PI * scale)
            elif logistic:
                value = x / (1.0 + math.exp(-u)) / sd
            else:
                value = x * _upper(-u) / sd
            total += weight * value
    return (1.0 - 2.0 * flip) * total


@jit
def _sign_average(q, V, S, flip, logistic, other):
    """E[g^2] for a sign, or with `other` E[g (z - omega)]/V."""
    if logistic:
        scale = math.sqrt(3.0 * S) / math.pi
        width = math.sqrt(V) + scale
        reach = _FAR_SQUARED * math.sqrt(V) + _LOGISTIC_FAR * scale
    else:
        width = math.sqrt(V + S)
        reach = _FAR_SQUARED * width
    root = math.sqrt(q)
    last = min(_FAR, reach / root) if root > 0.0 else _FAR
    longest = _PIECE if flip == 0.0 else 0.5 * _PIECE  # P(-) has a crossover where it is `flip`
    pieces = max(4, math.ceil(last * root / (longest * width)))
    length = last / pieces
    total = 0.0
    for piece in range(pieces):
        for k in range(_NODES.size):
            v = length * (piece + _NODES[k])
            plus, minus, slope = _sign_law(root * v, V, S, flip, logistic)
            if minus < _TINY:
                continue
            second = _sign_score(root * v, V, S, flip, logistic) if other else slope
            weight = length * _WEIGHTS[k] * math.exp(-0.5 * v * v) / _ROOT_2PI
            total += weight * slope * second * (1.0 / plus + 1.0 / minus)
    return 2.0 * total


@jit
def sign_information(q, V, S, flip, logistic):
    """I(q) of the label sign(z + s), flipped with probability `flip`; s normal or logistic."""
    return _sign_average(q, V, S, flip, logistic, False)


@jit
def sign_overlap(q, V, S, flip, logistic):
    """The same by Nishimori's identity, from P(y | z) itself."""
    return _sign_average(q, V, S, flip, logistic, True)


# --- Noise added to the output -------------------------------------------------------------------


@jit
def _leaky_density(y, omega, slope, S, V):
    """P(y | omega), and its derivative from dP(y | z)/dz and from (z - omega)/V."""
    P = by_parts = direct = 0.0
    for b, side in ((1.0, 1.0), (slope, -1.0)):
        total = S + b * b * V
        sd = math.sqrt(V * S / total)
        mean = (omega * S + b * y * V) / total
        e = y - b * omega
        peak = math.exp(-0.5 * e * e / total) / (_ROOT_2PI * math.sqrt(total))
        a = side * mean / sd
        inside = _upper(-a)
        edge = math.exp(-0.5 * a * a) / _ROOT_2PI
        P += peak * inside
        by_parts += peak * b * (e / total * inside - side * b * sd / S * edge)
        direct += peak * (b * e / total * inside + side * sd / V * edge)
    return P, by_parts, direct


@jit
def leaky_information(slope, S, q, V, rule):
    """I(q) of y = phi(z) + s for a (leaky) ReLU: the law of y given omega in closed form."""
    kink = np.zeros(1)
    edges = _pieces(math.sqrt(q), kink, math.sqrt(V))
    fisher = overlap = log_likelihood = 0.0
    for piece in range(edges.size - 1):
        for k in range(rule[0].size):
            omega, weight = _normal_node(edges, piece, k, q, rule)
            if weight == 0.0:
                continue
            if abs(omega) > _FAR * math.sqrt(V):  # one branch alone
                b = 1.0 if omega > 0.0 else slope
                total = S + b * b * V
                fisher += weight * b * b / total
                overlap += weight * b * b / total
                log_likelihood -= weight * 0.5 * (math.log(2.0 * math.pi * total) + 1.0)
                continue
            reach = REACH * math.sqrt(V)
            ends = np.array([min(slope * (omega - reach), 0.0), max(omega + reach, 0.0)])
            y_edges = _output_edges(ends, kink, S, V)
            span = y_edges[-1] - y_edges[0]
            for p in range(y_edges.size - 1):
                length = y_edges[p + 1] - y_edges[p]
                if length == 0.0:
                    continue
                for j in range(rule[0].size):
                    y = y_edges[p] + length * rule[0][j]
                    P, by_parts, direct = _leaky_density(y, omega, slope, S, V)
                    if P * span < _NEGLIGIBLE:
                        continue
                    w = weight * length * rule[1][j]
                    used, other = (by_parts, direct) if S > V else (direct, by_parts)
                    fisher += w * used * used / P
                    overlap += w * used * other / P
                    log_likelihood += w * P * math.log(P)
    return Information(fisher, overlap, log_likelihood)


@jit
def _pieces(sd, centers, width):
    """The pieces of N(0, sd^2) for an integrand that changes over `width` near the centers."""
    if sd == 0.0:
        return np.zeros(2)
    return graded_edges(EDGES * sd, centers, np.full(centers.size, 0.5 * width), sd)


@jit
def _normal_node(edges, piece, k, variance, rule):
    """A node of an average over N(0, variance), and its weight; of no variance the only one."""
    if variance == 0.0:
        return 0.0, 1.0 if piece == 0 and k == 0 else 0.0
    length = edges[piece + 1] - edges[piece]
    x = edges[piece] + length * rule[0][k]
    density = math.exp(-0.5 * x * x / variance) / (_ROOT_2PI * math.sqrt(variance))
    return x, length * rule[1][k] * density


@jit
def _output_edges(ends, centers, S, V):
    """Pieces of the output: as long as its law is broad, graded towards `centers` and `ends`."""
    sd = math.sqrt(S)
    low = ends.min() - REACH * sd
    high = ends.max() + REACH * sd
    coarse = max(sd, (high - low) / 12.0)
    base = np.linspace(low, high, math.ceil((high - low) / (2.0 * coarse)) + 1)
    marks = np.append(centers, ends)
    edges = graded_edges(base, marks, np.full(marks.size, sd), coarse)
    if sd > 0.3 * coarse:
        return edges
    # A narrow peak above a broad law: 1/P has poles not far from where the two are equal.
    steps = np.append(np.arange(-6, 0), np.arange(1, 7)) * (1.5 * sd)
    around = np.empty(12 * centers.size)
    for c in range(centers.size):
        around[12 * c : 12 * c + 12] = centers[c] + steps
    return np.sort(np.append(edges, around[(around > low) & (around < high)]))


def turning_points(activation: PreparedActivation) -> NDArray[np.float64]:
    """Kinks, and the fields where phi is largest or smallest."""
    u = activation.u
    at = np.repeat(u, 2)[1:-1]
    slopes = np.ravel([activation.slope_right[:-1], activation.slope_left[1:]], order="F")
    (some,) = np.nonzero(np.abs(slopes) > _FLAT)
    found = u[activation.kink].tolist()
    for i, j in pairwise(some):
        if slopes[i] * slopes[j] > 0.0:
            continue
        if at[i] == at[j] or j > i + 1:  # at a vertex, or flat between
            found.append(at[(i + j) // 2])
            continue
        low, high = at[i], at[j]
        for _ in range(60):
            middle = 0.5 * (low + high)
            slope = activation_at(activation.breaks, activation.series, middle)[1]
            low, high = (middle, high) if slope * slopes[i] > 0.0 else (low, middle)
        found.append(0.5 * (low + high))
    return np.unique(found)


@jit
def output_information(activation, turns, S, q, V, rule):
    """I(q) of y = phi(z) + s for any phi: P(y | omega) as an integral over z."""
    sd, noise = math.sqrt(V), math.sqrt(S)
    edges = _pieces(math.sqrt(q), turns, sd)
    fisher = overlap = log_likelihood = 0.0
    for piece in range(edges.size - 1):
        for k in range(rule[0].size):
            omega, weight = _normal_node(edges, piece, k, q, rule)
            if weight == 0.0:
                continue
            cuts = (turns - omega) / sd
            cuts = cuts[np.abs(cuts) < _WIDE]
            x_edges = _field_edges(activation, omega, sd, noise, cuts)
            n = x_edges.size - 1
            if n >= _MOST_PIECES:
                return Information(np.nan, np.nan, np.nan)
            order = rule[0].size
            phi, slope = np.empty((n, order)), np.empty((n, order))
            law, pull = np.empty((n, order)), np.empty((n, order))
            low, high = np.empty(n), np.empty(n)
            for p in range(n):
                for j in range(order):
                    x, w = _normal_node(x_edges, p, j, 1.0, rule)
                    value = activation_at(activation.breaks, activation.series, omega + sd * x)
                    phi[p, j] = value[0]
                    slope[p, j] = value[1] / noise
                    law[p, j] = w / (_ROOT_2PI * noise)
                    pull[p, j] = x / sd
                low[p] = phi[p].min() - _WIDE * noise
                high[p] = phi[p].max() + _WIDE * noise
            ends = np.array([low.min() + _WIDE * noise, high.max() - _WIDE * noise])
            inside = turns[np.abs(turns - omega) < _WIDE * sd]
            images = np.empty(2 * inside.size)
            jumps = np.empty(inside.size)
            for c in range(inside.size):
                v = np.searchsorted(activation.u, inside[c])
                if v < activation.u.size and activation.u[v] == inside[c]:
                    images[2 * c] = activation.g_left[v]
                    images[2 * c + 1] = activation.g_right[v]
                else:
                    images[2 * c : 2 * c + 2] = activation_value(
                        activation.breaks, activation.series, inside[c]
                    )
                x = (inside[c] - omega) / sd
                jumps[c] = math.exp(-0.5 * x * x) / (2.0 * math.pi * sd * noise)
            y_edges = _output_edges(ends, images, S, V)
            span = y_edges[-1] - y_edges[0]
            for p in range(y_edges.size - 1):
                length = y_edges[p + 1] - y_edges[p]
                if length == 0.0:
                    continue
                for j in range(order):
                    y = y_edges[p] + length * rule[0][j]
                    P = direct = by_parts = 0.0
                    for i in range(n):
                        if not low[i] < y < high[i]:
                            continue
                        for l in range(order):
                            s = (y - phi[i, l]) / noise
                            density = law[i, l] * math.exp(-0.5 * s * s)
                            P += density
                            direct += density * pull[i, l]
                            by_parts += density * s * slope[i, l]
                    if P * span < _NEGLIGIBLE:
                        continue
                    for c in range(inside.size):  # where phi jumps
                        before = (y - images[2 * c]) / noise
                        after = (y - images[2 * c + 1]) / noise
                        by_parts += jumps[c] * (
                            math.exp(-0.5 * after * after) - math.exp(-0.5 * before * before)
                        )
                    w = weight * length * rule[1][j]
                    used, other = (by_parts, direct) if S > V else (direct, by_parts)
                    fisher += w * used * used / P
                    overlap += w * used * other / P
                    log_likelihood += w * P * math.log(P)
    return Information(fisher, overlap, log_likelihood)


@jit
def _field_edges(activation, omega, sd, noise, cuts):
    """Pieces of x = (z - omega)/sd, so short that phi varies by little more than the noise."""
    edges = [-_WIDE]
    for stop in np.append(np.sort(cuts), _WIDE):
        left = edges[-1]
        while left < stop and len(edges) <= _MOST_PIECES:
            step = 2.0
            for _ in range(60):
                steepest = 0.0
                for part in range(3):
                    at = omega + sd * min(left + (0.05 + 0.45 * part) * step, stop)
                    value = activation_at(activation.breaks, activation.series, at)[1]
                    steepest = max(steepest, abs(value))
                if step * math.sqrt(1.0 + (steepest * sd / noise) ** 2) <= 2.5:
                    break
                step *= 0.7
            left = stop if left + 1.01 * step > stop else left + step
            edges.append(left)
    return np.array(edges)


@jit
def output_variance(activation, turns, q, V, rule):
    """E[var(phi(z) given omega)], the error of the posterior mean of the output."""
    sd = math.sqrt(V)
    outer = _pieces(math.sqrt(q), turns, sd)
    total = 0.0
    for piece in range(outer.size - 1):
        for k in range(rule[0].size):
            omega, weight = _normal_node(outer, piece, k, q, rule)
            if weight == 0.0:
                continue
            cuts = (turns - omega) / sd
            edges = graded_edges(EDGES, cuts, np.zeros(cuts.size), 1.0)
            center = activation_value(activation.breaks, activation.series, omega)
            first = second = 0.0
            for p in range(edges.size - 1):
                for j in range(rule[0].size):
                    x, w = _normal_node(edges, p, j, 1.0, rule)
                    value = activation_value(activation.breaks, activation.series, omega + sd * x)
                    first += w * (value - center)
                    second += w * (value - center) ** 2
            total += weight * max(second - first * first, 0.0)
    return total


# --- Functions of the field, without noise of their own ------------------------------------------


@jit
def smooth_fraction(activation, variance):
    """The probability that phi is not flat at t ~ N(0, variance)."""
    u, sd = activation.u, math.sqrt(variance)
    flat = 0.0
    for v in range(u.size - 1):
        if _is_flat(activation, v):
            low = u[v] if v > 0 else -math.inf
            high = u[v + 1] if v + 2 < u.size else math.inf
            flat += _between(low / sd, high / sd)
    return 1.0 - flat


@jit
def _is_flat(activation, v):
    """Whether phi is constant between two vertices."""
    middle = 0.5 * (activation.u[v] + activation.u[v + 1])
    value = activation_value(activation.breaks, activation.series, middle)
    size = 1.0 + abs(value)
    return (
        abs(activation.g_right[v] - value) <= 1e-14 * size
        and abs(activation.g_left[v + 1] - value) <= 1e-14 * size
        and abs(activation.slope_right[v]) <= _FLAT * size
    )


@jit
def _between(a, b):
    """The probability of a < x < b, x standard normal, to its own relative accuracy."""
    if a + b < 0.0:
        a, b = -b, -a
    return _upper(a) - _upper(b)


@jit
def _preimages(activation, y, low, high, fields, slopes):
    """Write the isolated fields of output y between `low` and `high`, and |phi'| there."""
    u = activation.u
    count = 0
    for v in range(u.size - 1):
        if u[v + 1] < low or u[v] > high:
            continue
        below = activation.g_right[v] - y
        above = activation.g_left[v + 1] - y
        if below * above > 0.0 or _is_flat(activation, v):
            continue
        if above == 0.0:  # it belongs to the cell that begins there
            continue
        left, right = u[v], u[v + 1]
        t = left - below * (right - left) / (above - below)
        slope = 0.0
        for _ in range(100):
            value, slope, _unused = activation_at(activation.breaks, activation.series, t)
            value -= y
            if value == 0.0:
                break
            if value * below > 0.0:
                left = t
            else:
                right = t
            step = t - value / slope if slope != 0.0 else left
            moved = step if left < step < right else 0.5 * (left + right)
            if abs(moved - t) <= 4e-16 * abs(t) or right - left <= 4e-16 * abs(t):
                break
            t = moved
        fields[count] = t
        slopes[count] = max(abs(slope), 1e-150)
        count += 1
    return count


@jit
def preimage_information(activation, turns, S, q, V, rule):
    """I(q) of y = phi(t), t = z + s, for any phi: y tells the fields t that have this output."""
    variance, T = 1.0 + S, V + S
    sd, width = math.sqrt(variance), math.sqrt(T)
    turns = turns[np.abs(turns) < REACH * sd]
    u = activation.u
    fields, slopes = np.empty(u.size), np.empty(u.size)
    # Where the number of fields of one output changes.
    images = np.empty(turns.size * u.size)
    count = 0
    for c in range(turns.size):
        y = activation_value(activation.breaks, activation.series, turns[c])
        for i in range(_preimages(activation, y, -REACH * sd, REACH * sd, fields, slopes)):
            if abs(fields[i] - turns[c]) > 1e-6:
                images[count] = fields[i]
                count += 1
    edges = _pieces(sd, turns, width)
    edges = graded_edges(edges, images[:count], np.full(count, _SQUARE_ROOT * sd), sd)
    # Given t, omega has the mean q t/variance and this standard deviation.
    spread = math.sqrt(q * T / variance)
    fisher = overlap = log_likelihood = 0.0
    reach = (REACH + 2.0) * width
    for piece in range(edges.size - 1):
        for k in range(rule[0].size):
            t, weight = _normal_node(edges, piece, k, variance, rule)
            if weight == 0.0:
                continue
            y, slope_here, _unused = activation_at(activation.breaks, activation.series, t)
            if abs(slope_here) <= _FLAT * (1.0 + abs(y)):
                continue
            mean = q * t / variance
            low, high = mean - REACH * spread - reach, mean + REACH * spread + reach
            count = _preimages(activation, y, low, high, fields, slopes)
            nearest = np.argmin(np.abs(fields[:count] - t)) if count else 0
            fields[nearest], slopes[nearest] = t, abs(slope_here)
            count = max(count, 1)
            # Where another field becomes more likely than t, and how fast.
            doubts, sharpness = np.empty(count), np.empty(count)
            for i in range(count):
                apart = t - fields[i]
                level = T / apart * math.log(slopes[i] / slopes[nearest]) if i != nearest else 0.0
                doubts[i] = (0.5 * (t + fields[i]) - level - mean) / spread
                sharpness[i] = 0.5 * T / abs(apart) / spread if i != nearest else 1.0
            own_edges = graded_edges(EDGES, doubts, sharpness, 1.0) if spread > 0.0 else np.zeros(2)
            for p in range(own_edges.size - 1):
                for j in range(rule[0].size):
                    x, w = _normal_node(own_edges, p, j, 1.0 if spread > 0.0 else 0.0, rule)
                    if w == 0.0:
                        continue
                    # Differences of fields that keep their digits where T is small.
                    here = t * T / variance - spread * x
                    own = 0.5 * here * here / T
                    P = score = 0.0
                    for i in range(count):
                        there = here if i == nearest else fields[i] - t + here
                        e = own - 0.5 * there * there / T
                        P += math.exp(e) / slopes[i]
                        score += math.exp(e) / slopes[i] * there / T
                    score /= P
                    w *= weight
                    fisher += w * score * score
                    overlap += w * score * here / T
                    log_likelihood += w * (math.log(P) - own - 0.5 * math.log(2.0 * math.pi * T))
    flat = _plateau_information(activation, q, T, rule)
    return Information(
        fisher + flat.fisher, overlap + flat.overlap, log_likelihood + flat.log_likelihood
    )


@jit
def _plateau_information(activation, q, T, rule):
    """The part of the labels on plateaus of phi, of which each has a probability of its own."""
    u, width = activation.u, math.sqrt(T)
    first, last, height = np.empty(u.size), np.empty(u.size), np.empty(u.size)
    count = 0
    for v in range(u.size - 1):
        if _is_flat(activation, v):
            low = u[v] if v > 0 else -math.inf
            high = u[v + 1] if v + 2 < u.size else math.inf
            value = activation.g_right[v]
            if count > 0 and last[count - 1] == low and abs(height[count - 1] - value) < _SAME:
                last[count - 1] = high
            else:
                first[count], last[count], height[count] = low, high, value
                count += 1
    fisher = overlap = log_likelihood = 0.0
    if count == 0:
        return Information(fisher, overlap, log_likelihood)
    ends = np.append(first[:count], last[:count])
    ends = ends[np.abs(ends) < math.inf]
    edges = _pieces(math.sqrt(q), ends, width)
    for c in range(count):
        seen = False  # a plateau of the same height has been counted
        for d in range(c):
            seen |= abs(height[d] - height[c]) < _SAME
        if seen:
            continue
        for piece in range(edges.size - 1):
            for k in range(rule[0].size):
                omega, weight = _normal_node(edges, piece, k, q, rule)
                P = slope = 0.0
                for d in range(c, count):
                    if abs(height[d] - height[c]) < _SAME:
                        a, b = (first[d] - omega) / width, (last[d] - omega) / width
                        P += _between(a, b)
                        slope += (math.exp(-0.5 * a * a) - math.exp(-0.5 * b * b)) / _ROOT_2PI
                if weight == 0.0 or P < _TINY:
                    continue
                slope /= width
                fisher += weight * slope * slope / P
                overlap += weight * slope * slope / P
                log_likelihood += weight * P * math.log(P)
    return Information(fisher, overlap, log_likelihood)
