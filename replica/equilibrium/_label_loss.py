"""Any convex loss on labels that are signs, linear student.

With x = y omega and t = m x/q the mean of the teacher's field given omega, the label agrees with
probability W(t) = E P(+|t + sqrt(1 - m^2/q) xi); by symmetry every average is one-dimensional,

    K = 2 E[W (1 - p')],   W_F = 2 E[W (p - x)^2],   G = 2 E[W' (p - x)],   x ~ N(0, q),

and zeta chi = 1 - alpha K, m = alpha G, v = q - m^2 = alpha W_F, for the proximal step p(x). Losses
of residuals are functions l(1 - x) at y = 1 and l(x - 1) at y = -1. Unknowns (log chi, m, log v).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from replica._core.jit import jit
from replica._core.status import Status

from ._fixed_point import newton_step
from ._pull import EXPONENTIAL_CURVE, new_nodes, place_nodes, value_slope_curvature
from ._residual_loss import Found, failed, write_found
from ._ridge import ridge_point

__all__ = ["NORMAL", "Law", "Sides", "label_point", "separability_load", "solve_label_loss"]

_CONVERGED = int(Status.CONVERGED)
_DIVERGENT = int(Status.DIVERGENT)
_MAX_ITERATIONS = int(Status.MAX_ITERATIONS)
_NEEDS_DECAY = int(Status.NEEDS_DECAY)
NORMAL, LOGISTIC_LAW = 0, 1
_ROOT_2PI = math.sqrt(2.0 * math.pi)
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)
# Trapezoidal rules: for a normal variable, and a logistic one of unit scale, to rounding.
_XI = np.arange(-9.0, 9.25, 0.5)
_XI_WEIGHTS = 0.5 * np.exp(-0.5 * _XI**2) / _ROOT_2PI
_LOGIT = np.arange(-40.0, 40.25, 0.5)
_LOGIT_WEIGHTS = 0.125 / np.cosh(0.5 * _LOGIT) ** 2
_RESIDUAL = 1e-10
# Residuals below are rounding: no reason to damp.
_FLOOR = 1e-11
_LAST_STEP = 1e-7
_MOST_STEPS = 40
_LONGEST = 2.0
# Where alpha K = 1 - h is so near to 1 that h is lost in it.
_NEAR = 0.1
_ROUNDING = 1e-14
_LARGEST_LOG = 300.0
# A normal step ends here, to 1e-21.
_EXTENT = 9.5
# Plain iterations before Newton's method, and how well chi is solved for in them.
_FIRST, _ROUGH = 2, 0.2
# Continuation in log(zeta), or in log(alpha): first step, and the shortest.
_FIRST_MOVE, _LEAST_MOVE = 2.0, 1e-4
# A decay so much larger than the pull of all samples makes the student that of Hebb.
_HEBB = 100.0


class Law(NamedTuple):
    """The noise of the field whose sign is the label, and the probability of a turned sign."""

    kind: int
    S: float
    flip: float


class Sides(NamedTuple):
    """The loss as a function of x = y u, at y = 1 and at y = -1; `same` if these are one."""

    plus: Any
    minus: Any
    same: bool


@jit
def agreement(law, t, tau2):
    """Return W(t) and its first three derivatives."""
    a = 1.0 - 2.0 * law.flip
    if law.kind == NORMAL or law.S == 0.0:
        s2 = tau2 + law.S
        s = math.sqrt(s2)
        x = t / s
        w1 = a * math.exp(-0.5 * x * x) / (_ROOT_2PI * s)
        w = law.flip + a * 0.5 * math.erfc(-x * math.sqrt(0.5))
        return w, w1, -x / s * w1, (x * x - 1.0) / s2 * w1
    b = math.sqrt(3.0 * law.S) / math.pi
    tau = math.sqrt(tau2)
    w = w1 = w2 = w3 = 0.0
    if b >= tau:
        for k in range(_XI.size):
            x = (t + tau * _XI[k]) / b
            e = math.exp(-abs(x))
            p = 1.0 / (1.0 + e) if x > 0.0 else e / (1.0 + e)
            d = e / ((1.0 + e) * (1.0 + e))
            w += _XI_WEIGHTS[k] * p
            w1 += _XI_WEIGHTS[k] * d
            w2 += _XI_WEIGHTS[k] * d * (1.0 - 2.0 * p)
            w3 += _XI_WEIGHTS[k] * d * (1.0 - 6.0 * d)
        return law.flip + a * w, a * w1 / b, a * w2 / (b * b), a * w3 / (b * b * b)
    for k in range(_LOGIT.size):
        x = (t + b * _LOGIT[k]) / tau
        d = math.exp(-0.5 * x * x) / _ROOT_2PI
        w += _LOGIT_WEIGHTS[k] * 0.5 * math.erfc(-x * math.sqrt(0.5))
        w1 += _LOGIT_WEIGHTS[k] * d
        w2 -= _LOGIT_WEIGHTS[k] * d * x
        w3 += _LOGIT_WEIGHTS[k] * d * (x * x - 1.0)
    return law.flip + a * w, a * w1 / tau, a * w2 / tau2, a * w3 / (tau2 * tau)


class Sums(NamedTuple):
    """Averages over a sample and their derivatives in log chi, in m (q fixed) and in q."""

    K: float
    K_rest: float
    W: float
    G: float
    K_l: float
    W_l: float
    G_l: float
    K_m: float
    W_m: float
    G_m: float
    K_q: float
    W_q: float
    G_q: float
    FP: float  # 2 E[W (p - x) p]
    FP_size: float  # the same of absolute values


@jit
def _step(law, m, v, q):
    """Width of the step W in x, how many of them it extends, and below what x nothing is left."""
    width = math.sqrt(v / q + law.S) * q / abs(m) if m != 0.0 else math.inf
    if law.kind == NORMAL or law.S == 0.0:
        floor = -_EXTENT * width if law.flip == 0.0 and m > 0.0 else -math.inf
        return width, _EXTENT, floor
    return width, math.inf, -math.inf


@jit
def _add_side(curve, law, chi, m, v, q, factor, nodes, sums):
    sigma = math.sqrt(q)
    tau2 = v / q
    width, extent, floor = _step(law, m, v, q)
    count = place_nodes(nodes, curve, chi, 0.0, sigma, width, extent, floor, False)
    if count < 0:
        sums[0] = math.nan
    norm = factor / (_ROOT_2PI * sigma)
    gain = m / q
    for i in range(count):
        x, p, rest = nodes.x[i], nodes.p[i], nodes.rest[i]
        share = nodes.share[i]
        g = norm * nodes.weight[i] * math.exp(-0.5 * x * x / q)
        w, w1, w2, w3 = agreement(law, gain * x, tau2)
        f = p - x
        spread = (x * x / q - 1.0) / (2.0 * q)
        r = g * w
        r_x = g * (w1 * gain - w * x / q)
        r_m = g * (w1 * x / q - w2 * gain)
        r_q = r * spread + g * (-w1 * gain * x / q + 0.5 * w2 * gain * gain)
        d = g * w1
        d_m = g * (w2 * x / q - w3 * gain)
        d_q = d * spread + g * (-w2 * gain * x / q + 0.5 * w3 * gain * gain)
        sums[0] += r * share
        sums[1] += r * rest
        sums[2] += r * f * f
        sums[3] += d * f
        sums[4] += r_x * f * rest
        sums[5] += 2.0 * r * f * f * rest
        sums[6] += d * f * rest
        sums[7] += r_m * share
        sums[8] += r_m * f * f
        sums[9] += d_m * f
        sums[10] += r_q * share
        sums[11] += r_q * f * f
        sums[12] += d_q * f
        sums[13] += r * f * p
        sums[14] += r * abs(f * p)


@jit
def _sums(sides, law, chi, m, v, nodes, sums):
    q = v + m * m
    sums[:] = 0.0
    _add_side(sides.plus, law, chi, m, v, q, 2.0 if sides.same else 1.0, nodes, sums)
    if not sides.same:
        _add_side(sides.minus, law, chi, m, v, q, 1.0, nodes, sums)
    return Sums(
        sums[0], sums[1], sums[2], sums[3], sums[4], sums[5], sums[6], sums[7], sums[8], sums[9],
        sums[10], sums[11], sums[12], sums[13], sums[14],
    )  # fmt: skip


class Saddle(NamedTuple):
    """Where an iteration ended."""

    chi: float
    m: float
    v: float
    h: float
    residual: float
    n_iter: int
    found: bool


@jit
def moved(m, step, scale):
    """m after a step of its logarithm, or in units of `scale` where it is near 0."""
    return m * math.exp(step * scale / m) if abs(m) > 0.5 * scale else m + step * scale


@jit
def _newton(alpha, zeta, sides, law, chi, m, v, nodes, sums):
    """Newton's method from a start; with chi = inf for the limit curve, where h = 1 - alpha K."""
    limit = chi == math.inf
    exact_rest = not (sides.plus.flat or sides.minus.flat)
    chi0, m0, v0, scale0 = chi, m, v, 1.0
    norm0 = math.inf
    d_l = d_m = d_v = 0.0
    damping = 1.0
    small = False
    h = 0.0
    size = math.inf
    for n in range(_MOST_STEPS):
        s = _sums(sides, law, chi, m, v, nodes, sums)
        if limit:
            r1 = 0.0
            h = 1.0 - alpha * s.K
        else:
            h = zeta * chi
            r1 = h + alpha * s.K - 1.0
            if exact_rest and s.K_rest < s.K:
                r1 = h + (alpha - 1.0) - alpha * s.K_rest
        scale = abs(m) + 1e-6 * math.sqrt(v)
        r2 = m - alpha * s.G
        r3 = 1.0 - alpha * s.W / v
        norm = max(abs(r1), abs(r2) / scale, abs(r3))
        exact = alpha * s.FP_size < _NEAR * (v + m * m)
        near = not limit and zeta > 0.0 and h < _NEAR and size < 1e-3 and exact
        if small and norm < _RESIDUAL:
            return Saddle(chi, m, v, h, norm, n, True)
        if not norm < 4.0 * norm0 + _FLOOR:
            damping *= 0.25
            if damping < 1e-5:
                break
            chi = chi0 if limit else chi0 * math.exp(damping * d_l)
            m = moved(m0, damping * d_m, scale0)
            v = v0 * math.exp(damping * d_v)
            small = False
            continue
        norm0 = norm
        chi0, m0, v0, scale0 = chi, m, v, scale
        # Logarithms of the equations in those of the unknowns: far off they are nearly linear.
        a11, a12, a13 = 1.0, 0.0, 0.0
        a21 = a31 = 0.0
        if not limit:
            e1 = 1.0 + r1
            a11 = (h + alpha * s.K_l) / e1
            a12 = alpha * (s.K_m + 2.0 * m * s.K_q) * scale / e1
            a13 = alpha * v * s.K_q / e1
            r1 = math.log1p(r1)
            if near:
                # zeta q = alpha E[F p]/chi: the same by the other two equations, and exact where
                # alpha K is near 1
                q = v + m * m
                r1 = 1.0 - alpha * s.FP / (q * h)
                e1 = h * q / alpha
                a11 = (h * q / alpha + q * s.K_l - s.W_l - m * s.G_l) / e1
                in_q = (s.W + m * s.G) / q
                in_m = q * s.K_m - s.W_m - s.G - m * s.G_m
                in_q += q * s.K_q - s.W_q - m * s.G_q
                a12 = (in_m + 2.0 * m * in_q) * scale / e1
                a13 = v * in_q / e1
            a31 = -s.W_l / s.W
        if m != 0.0 and s.G / m > 0.0:
            a21 = -s.G_l / s.G if not limit else 0.0
            a22 = scale / m - scale * (s.G_m + 2.0 * m * s.G_q) / s.G
            a23 = -v * s.G_q / s.G
            r2 = -math.log(alpha * s.G / m)
        else:
            a21 = -alpha * s.G_l / scale if not limit else 0.0
            a22 = 1.0 - alpha * (s.G_m + 2.0 * m * s.G_q)
            a23 = -alpha * v * s.G_q / scale
            r2 = r2 / scale
        a32 = -scale * (s.W_m + 2.0 * m * s.W_q) / s.W
        a33 = 1.0 - v * s.W_q / s.W
        r3 = -math.log(alpha * s.W / v)
        d_l, d_m, d_v = newton_step(a11, a12, a13, a21, a22, a23, a31, a32, a33, r1, r2, r3)
        size = max(abs(d_l), abs(d_m), abs(d_v))
        if not size < math.inf:
            break
        # What rounding leaves of 1 - alpha K moves chi by its inverse.
        rounding = 0.0 if limit or near or h == 0.0 else _ROUNDING / h
        small = max(abs(d_m), abs(d_v)) < _LAST_STEP and abs(d_l) < max(_LAST_STEP, rounding)
        small = small and (near or not exact or h > _NEAR or limit or zeta == 0.0)
        damping = 1.0
        longest = max(abs(d_l), abs(d_m), abs(d_v)) / _LONGEST
        if longest > 1.0:
            d_l, d_m, d_v = d_l / longest, d_m / longest, d_v / longest
        chi = chi if limit else chi * math.exp(d_l)
        m = moved(m, d_m, scale)
        v *= math.exp(d_v)
    return Saddle(chi0, m0, v0, h, norm0, _MOST_STEPS, False)


@jit
def _slope_at_zero(sides):
    plus = -value_slope_curvature(sides.plus, 0.0)[1]
    minus = -value_slope_curvature(sides.minus, 0.0)[1]
    return plus, minus


@jit
def _hebb(alpha, zeta, sides, law):
    """chi, m and v at a decay so large that every sample pulls as it does at u = 0."""
    plus, minus = _slope_at_zero(sides)
    w1 = agreement(law, 0.0, 1.0)[1]
    chi = 1.0 / zeta
    m = alpha * chi * w1 * (plus + minus)
    v = 0.5 * alpha * chi * chi * (plus * plus + minus * minus)
    return chi, m, v


@jit
def _chi_at(alpha, zeta, sides, law, chi, m, v, nodes, sums):
    """About the chi that solves zeta chi + alpha K = 1 at given m and v."""
    low, high = -math.inf, math.inf
    x = math.log(chi)
    s = _sums(sides, law, chi, m, v, nodes, sums)
    for n in range(_MOST_STEPS):
        if n > 0:
            s = _sums(sides, law, math.exp(x), m, v, nodes, sums)
        h = zeta * math.exp(x)
        gap = h + alpha * s.K - 1.0
        if gap > 0.0:
            high = x
        else:
            low = x
        slope = h + alpha * s.K_l
        step = -gap / slope if slope > 0.0 else math.copysign(_LONGEST, -gap)
        new = x + min(max(step, -4.0 * _LONGEST), 4.0 * _LONGEST)
        if not low < new < high:
            new = 0.5 * (low + high)
        if abs(gap) < _ROUGH or abs(new - x) < _ROUGH or abs(new) > _LARGEST_LOG:
            return math.exp(x), n + 1, s
        x = new
    return math.exp(x), _MOST_STEPS, s


@jit
def _solve(alpha, zeta, sides, law, nodes, sums):
    """Find the saddle point at finite chi: directly, else along decreasing decay."""
    plus, minus = _slope_at_zero(sides)
    pull = max(abs(plus), abs(minus))
    total = 0
    if zeta > alpha:
        chi, m, v = _hebb(alpha, zeta, sides, law)
    else:
        # Plain iterations from no weights, chi solved for in each.
        chi, m, v = _hebb(alpha, zeta + alpha, sides, law)
        v, m = 1e-4 * v, 1e-4 * m
        for _ in range(_FIRST):
            chi, n, s = _chi_at(alpha, zeta, sides, law, chi, m, v, nodes, sums)
            m, v = alpha * s.G, alpha * s.W
            total += n
    if v > 0.0:
        found = _newton(alpha, zeta, sides, law, chi, m, v, nodes, sums)
        total += found.n_iter
        if found.found:
            return Saddle(found.chi, found.m, found.v, found.h, found.residual, total, True)
    high = max(zeta, _HEBB * alpha * (pull + 1.0))
    chi, m, v = _hebb(alpha, high, sides, law)
    here = _newton(alpha, high, sides, law, chi, m, v, nodes, sums)
    total += here.n_iter
    low = max(zeta, 1e-12)
    at = math.log(high)
    before, before_at = here, at
    move = _FIRST_MOVE
    while here.found:
        if zeta == 0.0 or at == math.log(low):
            last = _newton(alpha, zeta, sides, law, here.chi, here.m, here.v, nodes, sums)
            total += last.n_iter
            if last.found:
                return Saddle(last.chi, last.m, last.v, last.h, last.residual, total, True)
            if at == math.log(low):
                break
        to = max(at - move, math.log(low))
        ratio = (to - at) / (at - before_at) if at != before_at else 0.0
        chi = here.chi * (here.chi / before.chi) ** ratio
        m = here.m + ratio * (here.m - before.m)
        v = here.v * (here.v / before.v) ** ratio
        there = _newton(alpha, math.exp(to), sides, law, chi, m, v, nodes, sums)
        total += there.n_iter
        if there.found:
            before, before_at = here, at
            here, at = there, to
            move *= 1.5
        else:
            move *= 0.3
            if move < _LEAST_MOVE:
                break
    return Saddle(math.nan, math.nan, math.nan, 0.0, 1.0, total, False)


@jit
def _solve_limit(alpha, sides, law, nodes, sums):
    """Find the saddle point at chi = inf, for NEAREST curves, along increasing load."""
    low, high = sides.plus.breaks
    at = min(alpha, 0.01)
    plus = low if low > 0.0 else high
    low, high = sides.minus.breaks
    minus = low if low > 0.0 else high
    w1 = agreement(law, 0.0, 1.0)[1]
    m = at * w1 * (plus + minus)
    v = 0.5 * at * (plus * plus + minus * minus)
    here = _newton(at, 0.0, sides, law, math.inf, m, v, nodes, sums)
    total = here.n_iter
    before, before_at = here, at
    move = 1.0
    while here.found and here.h > 0.0:
        if at >= alpha:
            return Saddle(here.chi, here.m, here.v, here.h, here.residual, total, True)
        to = min(at * math.exp(move), alpha)
        ratio = math.log(to / at) / math.log(at / before_at) if at != before_at else 0.0
        m = here.m * abs(here.m / before.m) ** ratio if here.m != 0.0 else 0.0
        v = here.v * (here.v / before.v) ** ratio
        if at == before_at:
            m, v = here.m * to / at, here.v * to / at
        there = _newton(to, 0.0, sides, law, math.inf, m, v, nodes, sums)
        total += there.n_iter
        if there.found and there.h > 0.0:
            before, before_at = here, at
            here, at = there, to
            move = min(move * 1.5, 2.0)
        else:
            move *= 0.3
            if move < _LEAST_MOVE:
                break
    return Saddle(math.nan, math.nan, math.nan, 0.0, 1.0, total, False)


@jit
def separability_load(law):
    """Largest load at which signs can be separated: 1/alpha = min_t E max(0, t y z + Z)^2."""
    if law.flip == 0.0 and law.S == 0.0:
        return math.inf
    if law.flip == 1.0 and law.S == 0.0:
        return math.inf
    # The minimum, where half the derivative E[V (t V Phi(t V) + phi(t V))] vanishes, V = y z.
    low, high = -math.inf, math.inf
    t = 0.0
    step = 1.0
    for _ in range(200):
        _, slope, curvature = _orthant(law, t)
        if slope > 0.0:
            high = t
        else:
            low = t
        new = t - slope / curvature
        if not low < new < high:
            if low == -math.inf:
                new = t - step
                step *= 2.0
            elif high == math.inf:
                new = t + step
                step *= 2.0
            else:
                new = 0.5 * (low + high)
        new = min(max(new, t - 2.0 * abs(t) - 1.0), t + 2.0 * abs(t) + 1.0)
        if abs(new - t) <= 1e-10 * (1e-3 + abs(t)):  # the minimum is flat
            break
        t = new
    return 1.0 / _orthant(law, t)[0]


@jit
def _orthant(law, t):
    """E max(0, t V + Z)^2, half its derivative in t, and half the second; V = y z."""
    total = slope = curvature = 0.0
    width = min(math.sqrt(law.S), 1.0 / (abs(t) + 1e-30), 1.5)
    width = max(min(width, 1.0), 1e-12)
    # Panels double from the width of the steps at V = 0 up to that of the normal law.
    for sign in (-1.0, 1.0):
        left = 0.0
        size = width
        while left < 9.5:
            right = min(left + size, 9.5)
            half = 0.5 * (right - left)
            for k in range(_NODES.size):
                x = sign * (left + half * (1.0 + _NODES[k]))
                w = agreement(law, x, 0.0)[0]
                g = 2.0 * _WEIGHTS[k] * half * w * math.exp(-0.5 * x * x) / _ROOT_2PI
                a = t * x
                density = math.exp(-0.5 * a * a) / _ROOT_2PI
                below = 0.5 * math.erfc(-a * math.sqrt(0.5))
                total += g * ((1.0 + a * a) * below + a * density)
                slope += g * x * (a * below + density)
                curvature += g * x * x * below
            if right >= 4.0 * width:
                size = min(2.0 * size, 1.0)
            left = right
    return total, slope, curvature


@jit
def _everything(sides, law, chi, m, v, nodes):
    """(test loss, training loss, mean of (1 - p)^2, P(p <= 0), E[(1 - p')^2])."""
    q = v + m * m
    sigma = math.sqrt(q)
    tau2 = v / q
    width, extent, floor = _step(law, m, v, q)
    out = np.zeros(5)
    for side in range(1 if sides.same else 2):
        curve = sides.plus if side == 0 else sides.minus
        factor = (2.0 if sides.same else 1.0) / (_ROOT_2PI * sigma)
        # at chi = 0 the step stays where it is
        for pass_ in range(2):
            count = place_nodes(
                nodes, curve, chi * pass_ if pass_ else 0.0, 0.0, sigma, width, extent, floor, True
            )
            for i in range(count):
                x, p = nodes.x[i], nodes.p[i]
                g = factor * nodes.weight[i] * math.exp(-0.5 * x * x / q)
                g *= agreement(law, m / q * x, tau2)[0]
                if pass_ == 0:
                    out[0] += g * value_slope_curvature(curve, x)[0]
                else:
                    out[1] += g * value_slope_curvature(curve, p)[0]
                    out[2] += g * (1.0 - p) * (1.0 - p)
                    if p < 0.0:
                        out[3] += g
                    out[4] += g * nodes.share[i] * nodes.share[i]
            if count < 0:
                out[pass_] = math.nan
    if sides.plus.kind == EXPONENTIAL_CURVE and sides.same:
        out[0] = _exponential_test_loss(law, m, v)
    return out


@jit
def _exponential_test_loss(law, m, v):
    """E exp(-y omega): the factor exp(-omega) moves the law of z by -m, far beyond any rule."""
    if law.flip == 0.0 and (law.kind == NORMAL or law.S == 0.0) and m > 0.0:
        x = m / math.sqrt(1.0 + law.S)
        if x > 30.0:  # the tail of the normal law, to 1e-9 and better
            rest = (v + x * x * law.S) / 2.0
            series = 1.0 - 1.0 / (x * x) * (1.0 - 3.0 / (x * x) * (1.0 - 5.0 / (x * x)))
            return 2.0 * math.exp(rest) * series / (x * _ROOT_2PI)
    q = v + m * m
    return 2.0 * math.exp(0.5 * q) * agreement(law, -m, 1.0)[0] if q < 1400.0 else math.inf


@jit
def _ridge(alpha, zeta, law):
    """The square loss: signs are c z and noise of variance 1 - c^2, c = E[y z]."""
    c = 2.0 * agreement(law, 0.0, 1.0)[1]
    ridge = ridge_point(alpha, 0.0, zeta)
    share = ridge.chi / (1.0 + ridge.chi) if ridge.chi < math.inf else 1.0
    h = 1.0 - alpha * share
    if h < 0.5:
        h = zeta * ridge.chi if zeta > 0.0 else max(1.0 - alpha, 0.0)
    v = alpha * share * share * (1.0 - c * c + c * c * h * h) / ridge.replicon
    return Saddle(ridge.chi, c * alpha * share, v, h, ridge.residual, 0, True)


@jit
def _angle(m, v):
    """Error rate arccos(R)/pi of the signs, R = m/sqrt(m^2 + v)."""
    return math.atan2(math.sqrt(v), m) / math.pi


@jit
def label_point(alpha, zeta, sides, limit, reached, least, law, of_margin, square, nodes, sums):
    """Equilibrium at one point.

    `limit` are the curves of the set where the loss is `least`, or of the margin x >= 1 if that is
    not `reached`, or the empty interval (1, 0) if then nothing is known.
    """
    nan, inf = math.nan, math.inf
    in_limit = True
    for side in (limit.plus, limit.minus):
        in_limit = in_limit and side.breaks[0] <= 0.0 <= side.breaks[1]
    if in_limit and reached:
        return _nothing_learned(alpha, zeta, sides, least, of_margin)
    if zeta == 0.0:
        low, high = limit.plus.breaks
        half_line = high == inf
        may = True
        if half_line or low > high:
            may = alpha < separability_load(law)
            if may and low > high:
                return failed(_NEEDS_DECAY, 0)
        elif low == high:
            may = alpha < 1.0
        if may:
            if square:
                at = _ridge(alpha, zeta, law)
            else:
                at = _solve_limit(alpha, limit, law, nodes, sums)
            if at.found:
                return _at_limit(alpha, at, sides, limit, reached, least, law, of_margin, nodes)
            if half_line or low == high:
                return failed(_MAX_ITERATIONS, at.n_iter)
        elif low == high and alpha == 1.0:
            return Found(
                inf, 0.0, inf, inf, inf if not of_margin else 0.5, 0.0, least, inf, 0.5, nan, nan,
                0.0, 0.0, True, 0, _DIVERGENT,
            )  # fmt: skip
    if square:
        at = _ridge(alpha, zeta, law)
    else:
        at = _solve(alpha, zeta, sides, law, nodes, sums)
    if not at.found:
        return failed(_MAX_ITERATIONS, at.n_iter)
    q = at.m * at.m + at.v
    gamma = math.sqrt(q)
    R = at.m / gamma
    rate = _angle(at.m, at.v)
    every = _everything(sides, law, at.chi, at.m, at.v, nodes)
    error = rate if of_margin else 1.0 - 2.0 * math.sqrt(2.0 / math.pi) * at.m + q
    return Found(
        gamma, R, q, at.chi, error, every[2], every[1], every[0], rate, every[3], nan,
        1.0 - alpha * every[4], at.residual, False, at.n_iter, _CONVERGED,
    )  # fmt: skip


@jit
def _at_limit(alpha, at, sides, limit, reached, least, law, of_margin, nodes):
    """No decay, and every sample where the loss is least: chi is infinite."""
    nan, inf = math.nan, math.inf
    q = at.m * at.m + at.v
    gamma = math.sqrt(q)
    R = at.m / gamma
    rate = _angle(at.m, at.v)
    every = _everything(limit, law, 1.0, at.m, at.v, nodes)
    low, high = limit.plus.breaks
    margin = low / gamma if high == inf else nan
    if not reached:  # gamma -> inf along this direction
        return Found(
            inf, R, inf, inf, rate if of_margin else inf, inf, 0.0, inf, rate, 0.0, margin,
            at.h, at.residual, True, at.n_iter, _DIVERGENT,
        )  # fmt: skip
    fresh = _everything(sides, law, 0.0, at.m, at.v, nodes)
    error = rate if of_margin else 1.0 - 2.0 * math.sqrt(2.0 / math.pi) * at.m + q
    return Found(
        gamma, R, q, inf, error, every[2], least, fresh[0], rate, every[3], margin, at.h,
        at.residual, True, at.n_iter, _CONVERGED,
    )  # fmt: skip


@jit
def _nothing_learned(alpha, zeta, sides, least, of_margin):
    """The loss is least at u = 0: no weights."""
    curvature = value_slope_curvature(sides.plus, 0.0)[2]
    chi = 1.0 / (zeta + alpha * curvature) if zeta + alpha * curvature > 0.0 else math.inf
    nan = math.nan
    return Found(
        0.0, 0.0, 0.0, chi, 0.5 if of_margin else 1.0, 1.0, least, least, 0.5, 1.0, nan,
        1.0, 0.0, True, 0, _CONVERGED,
    )  # fmt: skip


@jit
def solve_label_loss(
    alpha,
    S,
    zeta,
    sides,
    limit,
    reached,
    least,
    kind,
    flip,
    of_margin,
    square,
    columns,
    start,
    stop,
):
    """Fill the columns from `start` to `stop`."""
    nodes = new_nodes(sides.plus)
    sums = np.zeros(15)
    for i in range(start, stop):
        law = Law(kind, S[i], flip)
        point = label_point(
            alpha[i], zeta[i], sides, limit, reached, least, law, of_margin, square, nodes, sums
        )
        write_found(columns, i, point)
