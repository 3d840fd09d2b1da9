"""One sample of a leaky-ReLU student under the innermost level of a broken symmetry.

Given a field w and a label y, the field x of a minimum is normal with mean w and variance d, and
weighted with exp(-xi M(x, y)), where M is the Moreau envelope of the loss. M is quadratic between
an edge (y > 0, where its slope jumps down) or two (y < 0, the ends of the kink), so that this is a
mixture of truncated normal laws.

Everything is written in the distance o of the field from the edge as the next level sees it, at
D = chi + xi d in place of chi: between branches only differences count, which are of higher order
in a small jump, where xi reaches 1e20 while d does 1e-20.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from replica._core.jit import jit

__all__ = ["Sample", "Scales", "alone", "bend", "negative", "on_kink", "positive", "scales"]

_ROOT_2 = math.sqrt(2.0)
_ROOT_2PI = math.sqrt(2.0 * math.pi)
# so many standard deviations leave 1e-17 beyond, and so large a difference of exponents 1e-20
_ALONE = 8.6
_NEGLIGIBLE = 45.0


@jit
def _half_line(z):
    """ln Phi(z) and phi(z)/Phi(z)."""
    if z > -8.0:
        p = 0.5 * math.erfc(-z / _ROOT_2)
        density = math.exp(-0.5 * z * z) / _ROOT_2PI
        log_p = math.log(p) if z < 0.0 else math.log1p(-0.5 * math.erfc(z / _ROOT_2))
        return log_p, density / p
    # Laplace's continued fraction: 8 terms leave 1e-17
    rest = -z
    for k in range(9, 0, -1):
        rest = -z + k / rest
    return -0.5 * z * z - math.log(_ROOT_2PI * rest), rest


@jit
def bend(t):
    """ln(1 + t) - t/(1 + t), which is t^2/2 for small t."""
    if t > 0.05:
        return math.log1p(t) - t / (1.0 + t)
    series = 0.0
    for k in range(12, 1, -1):
        series = (k - 1.0) / k - t * series
    return t * t * series


class Branch(NamedTuple):
    """The quadratic (y - b x)^2/(2 n) at the innermost level and at the next, n -> N."""

    b: float
    n: float
    N: float
    g: float  # curvature
    sd: float  # width of the tilted law of x
    t: float  # xi d g
    ratio: float  # N/n = 1 + t


class Scales(NamedTuple):
    """What all samples share."""

    chi: float
    D: float
    d: float
    xi: float
    low: Branch  # u < 0
    high: Branch  # u > 0
    kappa: float  # at D
    jump: float  # of f at D, in units of y
    side_low: float
    side_high: float
    slope: float


class Sample(NamedTuple):
    """Averages over the tilted law of one sample."""

    phi: float
    f: float
    spread: float
    excess: float
    loss: float
    dead: float


@jit
def _branch(b, chi, D, xi, d):
    n, N = 1.0 + b * b * chi, 1.0 + b * b * D
    return Branch(b, n, N, b * b / n, math.sqrt(d * n / N), xi * d * b * b / n, N / n)


@jit
def scales(chi, d, xi, a):
    D = chi + xi * d
    low, high = _branch(a, chi, D, xi, d), _branch(1.0, chi, D, xi, d)
    A, B = math.sqrt(high.n), math.sqrt(low.n)
    AD, BD = math.sqrt(high.N), math.sqrt(low.N)
    kappa = D * (BD + a * AD) / (AD + BD)
    # kappa at D less kappa at chi, in units of xi d
    moved = (B + a * A) * (BD + a * AD) * B * BD / (1.0 + a)
    moved /= low.n * low.N * (A / B + AD / BD)
    jump = (1.0 - a) / (AD * BD)
    side_low = moved - a * (1.0 + a * kappa) / low.N
    side_high = (1.0 + kappa) / high.N - moved
    slope = (1.0 - a) * (1.0 + a) / (AD * BD * (BD + a * AD))  # 1/AD - a/BD
    return Scales(chi, D, d, xi, low, high, kappa, jump, side_low, side_high, slope)


@jit
def alone(branch, y, w, k):
    """A sample that one branch has for itself."""
    R = (y - branch.b * w) / branch.N
    c = branch.b / branch.n * branch.sd
    phi = 0.5 * (branch.N * R * R + math.log1p(branch.t) / k.xi)
    gone = 1.0 if branch.b < 1.0 and y > 0.0 else 0.0
    spread = (branch.g * branch.sd) ** 2
    return Sample(phi, branch.b * R, spread, 0.5 * bend(branch.t), R * R + c * c, gone)


@jit
def on_kink(y, w, k):
    """A sample with y < 0 that the kink has for itself."""
    t = k.xi * k.d / k.chi
    phi = 0.5 * (y * y + w * w / k.D + math.log1p(t) / k.xi)
    return Sample(phi, -w / k.D, k.d / (k.chi * k.D), 0.5 * bend(t), y * y, 0.0)


@jit
def _piece_excess(p, ln_p, ln_mass, t, square, k, shift):
    x = 0.5 * (bend(t) + t / (1.0 + t) * (1.0 - square)) - ln_mass + ln_p
    return p * (x - 0.5 * k.xi * k.xi * k.d * shift * shift)


@jit
def _branch_loss(branch, R, mean, square):
    c = branch.b / branch.n * branch.sd
    return R * R - 2.0 * R * c * mean + c * c * square


@jit
def positive(y, o, k):
    """A sample with y > 0 at w = -kappa y + o."""
    low, high = k.low, k.high
    w = -k.kappa * y + o
    reach = k.xi * k.d * y
    z_low = (reach * k.side_low - o / low.ratio) / low.sd
    z_high = (reach * k.side_high + o / high.ratio) / high.sd
    # of the exponents, high less low
    root = (y - low.b * w) / math.sqrt(low.N) + (y - w) / math.sqrt(high.N)
    gain = 0.5 * (k.xi * k.slope * o * root + math.log(low.ratio / high.ratio))
    if gain < -_NEGLIGIBLE and z_low > _ALONE:
        return alone(low, y, w, k)
    if gain > _NEGLIGIBLE and z_high > _ALONE:
        return alone(high, y, w, k)
    ln_low, mills_low = _half_line(z_low)
    ln_high, mills_high = _half_line(z_high)
    gain += ln_high - ln_low
    if gain > 0.0:
        ratio = math.exp(-gain)
        ln_Z = math.log1p(ratio)
        ln_p_high, ln_p_low = -ln_Z, -gain - ln_Z
    else:
        ratio = math.exp(gain)
        ln_Z = math.log1p(ratio)
        ln_p_high, ln_p_low = gain - ln_Z, -ln_Z
    p_low, p_high = math.exp(ln_p_low), math.exp(ln_p_high)
    sq_low, sq_high = 1.0 - z_low * mills_low, 1.0 - z_high * mills_high
    R_low, R_high = (y - low.b * w) / low.N, (y - w) / high.N
    shift_low, shift_high = -low.g * low.sd * mills_low, high.g * high.sd * mills_high
    apart = k.jump * y - o * (1.0 / high.N - low.b * low.b / low.N)
    gap = apart - shift_high + shift_low
    between = p_low * p_high * gap * gap
    f = low.b * R_low - shift_low + p_high * gap
    spread = between
    spread += p_low * ((low.g * low.sd) ** 2 * sq_low - shift_low**2)
    spread += p_high * ((high.g * high.sd) ** 2 * sq_high - shift_high**2)
    excess = k.xi * k.d * p_high * mills_high / high.sd * apart + 0.5 * k.xi**2 * k.d * between
    excess += _piece_excess(p_low, ln_p_low, ln_low, low.t, sq_low, k, shift_low)
    excess += _piece_excess(p_high, ln_p_high, ln_high, high.t, sq_high, k, shift_high)
    loss = p_low * _branch_loss(low, R_low, -mills_low, sq_low)
    loss += p_high * _branch_loss(high, R_high, mills_high, sq_high)
    phi = 0.5 * high.N * R_high * R_high
    phi += (0.5 * math.log(high.ratio) - ln_high + ln_p_high) / k.xi
    return Sample(phi, f, spread, excess, loss, p_low)


@jit
def negative(y, o_low, o_high, k):
    """A sample with y < 0 at w = -a D y + o_low = -D y + o_high: convex, with a kink between."""
    low, high = k.low, k.high
    w = o_low - low.b * k.D * y
    ratio = k.D / k.chi
    sd = math.sqrt(k.d / ratio)
    width = math.sqrt(k.d * ratio)
    z_l, z_h = -o_low / width, -o_high / width
    if z_l > _ALONE:
        return alone(low, y, w, k)
    if z_h < -_ALONE:
        return alone(high, y, w, k)
    t = k.xi * k.d / k.chi
    if z_l < -_ALONE and z_h > _ALONE:
        return on_kink(y, w, k)
    z_low, z_high = -o_low / (low.sd * low.ratio), o_high / (high.sd * high.ratio)
    ln_low, mills_low = _half_line(z_low)
    ln_high, mills_high = _half_line(z_high)
    if z_l > 0.0:
        mass = 0.5 * (math.erfc(z_l / _ROOT_2) - math.erfc(z_h / _ROOT_2))
    else:
        mass = 0.5 * (math.erfc(-z_h / _ROOT_2) - math.erfc(-z_l / _ROOT_2))
    # logarithms of the parts of Z, less that of an untruncated kink
    e_low = 0.5 * (k.xi * o_low * o_low / (k.D * low.N) - math.log(low.ratio / ratio)) + ln_low
    e_high = 0.5 * (k.xi * o_high * o_high / (k.D * high.N) - math.log(high.ratio / ratio))
    e_high += ln_high
    top = max(e_low, e_high)
    ln_mass = -math.inf
    mean, square = 0.0, 1.0
    if mass > 1e-300:
        ln_mass = math.log(mass)
        top = max(top, ln_mass)
        at_l = math.exp(-0.5 * z_l * z_l) / (_ROOT_2PI * mass)
        at_h = math.exp(-0.5 * z_h * z_h) / (_ROOT_2PI * mass)
        mean = at_l - at_h
        square = 1.0 + z_l * at_l - z_h * at_h
    p_low, p_high, p = math.exp(e_low - top), math.exp(e_high - top), math.exp(ln_mass - top)
    ln_Z = math.log(p_low + p_high + p)
    p_low, p_high, p = p_low * math.exp(-ln_Z), p_high * math.exp(-ln_Z), p * math.exp(-ln_Z)
    sq_low, sq_high = 1.0 - z_low * mills_low, 1.0 - z_high * mills_high
    R_low, R_high = (y - low.b * w) / low.N, (y - w) / high.N
    shift_low, shift_high = -low.g * low.sd * mills_low, high.g * high.sd * mills_high
    shift = sd / k.chi * mean
    # relative to what f is on the kink
    F_low, F_high = o_low / (k.D * low.N), o_high / (k.D * high.N)
    f = p_low * (F_low - shift_low) + p_high * (F_high - shift_high) - p * shift
    between = p_low * (F_low - shift_low - f) ** 2 + p_high * (F_high - shift_high - f) ** 2
    between += p * (shift + f) ** 2
    spread = between + p_low * ((low.g * low.sd) ** 2 * sq_low - shift_low**2)
    spread += p_high * ((high.g * high.sd) ** 2 * sq_high - shift_high**2)
    spread += p * ((sd / k.chi) ** 2 * square - shift**2)
    at_low, at_high = p_low * mills_low / low.sd, p_high * mills_high / high.sd
    excess = k.xi * k.d * (at_high * F_high - at_low * F_low) + 0.5 * k.xi**2 * k.d * between
    excess += _piece_excess(p_low, e_low - top - ln_Z, ln_low, low.t, sq_low, k, shift_low)
    excess += _piece_excess(p_high, e_high - top - ln_Z, ln_high, high.t, sq_high, k, shift_high)
    if p > 0.0:
        excess += _piece_excess(p, ln_mass - top - ln_Z, ln_mass, t, square, k, shift)
    loss = p_low * _branch_loss(low, R_low, -mills_low, sq_low)
    loss += p_high * _branch_loss(high, R_high, mills_high, sq_high) + p * y * y
    phi = 0.5 * (y * y + w * w / k.D + math.log1p(t) / k.xi) - (top + ln_Z) / k.xi
    return Sample(phi, f - w / k.D, spread, excess, loss, 0.0)
