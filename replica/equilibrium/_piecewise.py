"""Leaky-ReLU student at zero temperature: the replica-symmetric saddle point in closed form.

The scalar denoiser f(omega, y) is linear on cones, so every Gaussian average is a sum of sector
moments and no numerical integral is left. Scalar kernels first, then the loop over an array.

Coordinates. With sigma^2 = 1 + S, mu = m/sigma and tau^2 = q - mu^2, a sample with y > 0 has
y = r sigma sin(phi), omega = r (mu sin(phi) - tau cos(phi)), 0 < phi < pi, and r^2 is chi-squared
with two degrees of freedom; samples with y < 0 are reflected, (omega, y) -> (-omega, -y). The ray
omega = -k y lies at tan(phi) = tau/(mu + k sigma). Three of them bound the cones:
k = kappa (y > 0, where f jumps), k = chi and k = slope*chi (y < 0, the two ends of the kink).

Unknowns. (chi, m, v) with v = q - m^2, and h = 1 - m beside m: tau^2 = v + mu^2 S and h stay
accurate where the student meets the teacher (v -> 0, m -> 1), where q and m alone would cancel.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from replica._core.jit import jit
from replica._core.status import Status

from ._fixed_point import newton_step
from ._ridge import Point, write_point

__all__ = ["UNIQUE_SLOPE", "UNIQUE_ZETA", "optimal_zeta_piecewise", "piecewise_error"]
__all__ += [
    "piecewise_errors",
    "piecewise_point",
    "relu_interpolates",
    "relu_threshold",
    "solve_piecewise",
]

_CONVERGED = int(Status.CONVERGED)
_DIVERGENT = int(Status.DIVERGENT)
_MAX_ITERATIONS = int(Status.MAX_ITERATIONS)
_TWO_PI = 2.0 * math.pi
# beyond these the saddle point is unique: without noise, where they reach farthest, folds end at
# slope 0.0176 (zeta -> 0) and at zeta = 1.56e-4 (slope 0.009)
UNIQUE_SLOPE = 0.02
UNIQUE_ZETA = 1e-3
# smaller slopes give the same numbers, or scale with them, and their squares may underflow
_TINY_SLOPE = 1e-30
# largest step of log chi beside its prediction; branches are 0.25 apart where a transition is seen
_SAME_BRANCH = 0.2
# smaller ones have the inverse of a slope, and with it the direction, out of range
_LEAST_SLOPE = 1e-300
_RESIDUAL = 1e-10
# up to this load ReLU without decay is nearer to its threshold than to the linear student's start
_FAR_ABOVE = 2.1
_GUESSED_CHI = 1e8
# up to here what rounding leaves of a difference of two numbers that agree to 1/chi will do
_LARGE_CHI = 1e3


class Branch(NamedTuple):
    """A solution in the solver's coordinates, what it took, and whether it was found."""

    chi: float
    m: float
    h: float
    v: float
    n_iter: int
    residual: float
    train: float
    dead: float
    found: bool


class Saddle(NamedTuple):
    """What the saddle-point equations are made of, see `cone_saddle`."""

    X: float
    X_rest: float
    Y: float
    Z: float
    W: float
    W_rest: float
    X_l: float
    X_m: float
    X_v: float
    Y_l: float
    Z_l: float
    Z_m: float
    Z_v: float
    W_l: float
    train: float
    dead: float


@jit
def _sin2(phi, s, c):
    """Integral of sin^2 over [0, phi], with s = sin(phi), c = cos(phi)."""
    if phi > 0.4:
        return 0.5 * (phi - s * c)
    # phi - s c cancels for small angles: sum its series, (2 phi)^3/3! - (2 phi)^5/5! + ...
    x2 = 4.0 * phi * phi
    series = 1.0 - x2 / 272.0
    series = 1.0 - x2 / 210.0 * series
    series = 1.0 - x2 / 156.0 * series
    series = 1.0 - x2 / 110.0 * series
    series = 1.0 - x2 / 72.0 * series
    series = 1.0 - x2 / 42.0 * series
    series = 1.0 - x2 / 20.0 * series
    return phi * x2 / 12.0 * series


@jit
def _cone(k, mu, sigma, tau):
    """Angle of the ray omega = -k y, its sine and cosine, mu + k sigma, and rho."""
    c = mu + k * sigma
    rho = math.sqrt(c * c + tau * tau)
    return math.atan2(tau, c), tau / rho, c / rho, c, rho


@jit
def cone_saddle(chi, m, h, v, S, a):
    """Everything the saddle point needs at (chi, m, v), in closed form.

    Returns X = -chi E[df/domega], 1 - X, Y = chi E[df/domega + df/dy], Z = chi E[df/dy],
    W = chi^2 E[f^2] and v - W; the derivatives of X and Z in log chi, m (v fixed) and log v, and
    those of Y and W in log chi; the training error; the fraction of dead samples. The other
    derivatives of W follow from the symmetry of the Hessian of the free energy:
    2 (Y_l - Y - h (X - X_l)) in m and X - X_l in v.
    """
    sigma = math.sqrt(1.0 + S)
    mu = m / sigma
    tau2 = v + mu * mu * S
    tau = math.sqrt(tau2)
    q = v + m * m
    A = math.sqrt(1.0 + chi)
    B = math.sqrt(1.0 + a * a * chi)
    n1 = 1.0 / (1.0 + chi)
    na = 1.0 / (1.0 + a * a * chi)
    # where the two branches are equally good for y > 0; kappa_l is the derivative in log chi
    kappa = chi * (B + a * A) / (A + B)
    kappa_l = kappa - chi * chi * (1.0 - a) * (1.0 - a * a) / (2.0 * A * B * (A + B) ** 2)
    p0, s0, c0, b0, rho0 = _cone(kappa, mu, sigma, tau)
    p1, s1, c1, b1, rho1 = _cone(chi, mu, sigma, tau)
    pa, sa, ca, ba, rhoa = _cone(a * chi, mu, sigma, tau)
    P1 = (math.pi - p0 + p1) / _TWO_PI
    Pa = (math.pi + p0 - pa) / _TWO_PI
    # the wedge between the two ends of the kink, from its own tangent: it may be very thin
    pin = math.atan2((1.0 - a) * chi * sigma * tau, b1 * ba + tau2)
    P_pin = pin / _TWO_PI
    jump = chi * (1.0 - a) * math.sqrt(n1 * na) * sigma * tau / (_TWO_PI * rho0 * rho0)
    k1 = chi * n1
    ka = a * chi * na

    X = k1 * P1 + a * ka * Pa + P_pin - jump
    X_rest = n1 * P1 + na * Pa + jump
    Z = k1 * P1 + ka * Pa + kappa * jump
    Y = (1.0 - a) * ka * Pa - P_pin + (1.0 + kappa) * jump

    half_pi = 0.5 * math.pi
    i0 = _sin2(p0, s0, c0)
    i1 = _sin2(p1, s1, c1)
    ia = _sin2(pa, sa, ca)
    # integrals of sin^2, 2 sin cos and cos^2 over the angles of a branch.
    # branch 1: [p0, pi] for y > 0 and [0, p1] for y < 0; branch a: [0, p0] and [pa, pi]
    ss1, sc1 = half_pi - i0 + i1, s1 * s1 - s0 * s0
    cc1 = math.pi - p0 - (half_pi - i0) + p1 - i1
    ssa, sca = half_pi - ia + i0, s0 * s0 - sa * sa
    cca = math.pi - pa - (half_pi - ia) + p0 - i0
    d1 = (S + h) / sigma  # sigma - mu
    W1 = d1 * d1 * ss1 + d1 * tau * sc1 + tau2 * cc1
    da = (S + (1.0 - a) + a * h) / sigma  # sigma - a mu
    Wa = da * da * ssa + da * a * tau * sca + a * a * tau2 * cca
    # on the kink f = -omega/chi with omega = sqrt(q) r sin(t): t is the angle from omega = 0
    t1, ta = chi * sigma * tau, a * chi * sigma * tau
    u1, ua = mu * b1 + tau2, mu * ba + tau2
    rho = math.sqrt(q)
    if a == 0.0:  # the kink begins at omega = 0
        W_pin = _sin2(pin, t1 / (rho * rho1), u1 / (rho * rho1))
    else:
        W_pin = _sin2(math.atan2(t1, u1), t1 / (rho * rho1), u1 / (rho * rho1))
        W_pin -= _sin2(math.atan2(ta, ua), ta / (rho * rhoa), ua / (rho * rhoa))
    W_pin *= q
    W = (k1 * k1 * W1 + ka * ka * Wa + W_pin) / math.pi
    if chi > _LARGE_CHI:
        # v = E[(y - omega)^2] - S - h^2, and chi f is about y/b - omega on the branch of slope b:
        # E[(y - omega)^2 - chi^2 f^2] branch by branch has no terms of the size of v
        dd = d1 * d1 * ssa + d1 * tau * sca + tau2 * cca  # of (y - omega)^2 over branch a
        yd = sigma * (d1 * ssa + 0.5 * tau * sca)  # of y (y - omega)
        rest = n1 * (1.0 + k1) * W1 + na * (1.0 + a * ka) * dd
        rest -= ka * ka * (1.0 - a) * (2.0 * a * yd + (1.0 - a) * sigma * sigma * ssa)
        rest += sigma * ((sigma - 2.0 * mu) * (ia - i1) + tau * (sa * sa - s1 * s1))
        W_rest = rest / math.pi - S - h * h
    else:
        W_rest = v - W

    # derivatives of the angles and of log(jump) in log chi, m (v fixed) and log v
    mS = mu * S / sigma
    e0, e1, ea = 1.0 / (rho0 * rho0), 1.0 / (rho1 * rho1), 1.0 / (rhoa * rhoa)
    p0_l, p1_l, pa_l = -sigma * tau * kappa_l * e0, -sigma * tau * chi * e1, -ta * ea
    p0_m = (b0 * mS / tau - tau / sigma) * e0
    p1_m = (b1 * mS / tau - tau / sigma) * e1
    pa_m = (ba * mS / tau - tau / sigma) * ea
    w = 0.5 * v / tau
    p0_v, p1_v, pa_v = b0 * w * e0, b1 * w * e1, ba * w * ea
    jump_l = jump * (1.0 - 0.5 * k1 - 0.5 * a * ka - 2.0 * sigma * b0 * kappa_l * e0)
    jump_m = jump * (mS / tau2 - 2.0 * (b0 / sigma + mS) * e0)
    jump_v = jump * v * (0.5 / tau2 - e0)

    X_l = k1 * n1 * P1 + a * ka * na * Pa - jump_l
    X_l += (k1 * (p1_l - p0_l) + a * ka * (p0_l - pa_l) + (pa_l - p1_l)) / _TWO_PI
    X_m = (k1 * (p1_m - p0_m) + a * ka * (p0_m - pa_m) + (pa_m - p1_m)) / _TWO_PI - jump_m
    X_v = (k1 * (p1_v - p0_v) + a * ka * (p0_v - pa_v) + (pa_v - p1_v)) / _TWO_PI - jump_v
    Z_l = k1 * n1 * P1 + ka * na * Pa + kappa * jump_l + kappa_l * jump
    Z_l += (k1 * (p1_l - p0_l) + ka * (p0_l - pa_l)) / _TWO_PI
    Z_m = (k1 * (p1_m - p0_m) + ka * (p0_m - pa_m)) / _TWO_PI + kappa * jump_m
    Z_v = (k1 * (p1_v - p0_v) + ka * (p0_v - pa_v)) / _TWO_PI + kappa * jump_v
    # of Y in log chi, without the cancellation of Z_l - X_l where slope or m is near 1
    Y_l = (1.0 - a) * ka * na * Pa + kappa_l * jump + (1.0 + kappa) * jump_l
    Y_l += (1.0 - a) * ka * (p0_l - pa_l) / _TWO_PI
    Y_l -= (1.0 - a) * t1 * (q - a * (chi * sigma) ** 2) * e1 * ea / _TWO_PI
    # d(chi^2 E f^2)/d log chi; the last term is the moving jump, E[y^3 delta(omega + kappa y)]
    f1, fa = (1.0 + kappa) * k1, (1.0 + a * kappa) * ka
    W_l = 2.0 * (n1 * k1 * k1 * W1 + na * ka * ka * Wa) / math.pi
    W_l += kappa_l * (f1 * f1 - fa * fa) * (sigma * tau * e0) ** 2 * sigma * tau / math.pi

    train = (n1 * n1 * W1 + na * na * Wa + sigma * sigma * (ia - i1)) / math.pi
    dead = p0 / _TWO_PI
    return Saddle(X, X_rest, Y, Z, W, W_rest, X_l, X_m, X_v, Y_l, Z_l, Z_m, Z_v, W_l, train, dead)


@jit
def _start(alpha, S, zeta, a):
    """A first guess (chi, m, h, v): every sample on the branch of its label's sign."""
    chi = 1.0 / (zeta + 0.5 * alpha * (1.0 + a * a))
    for _ in range(60):
        n1, na = 1.0 / (1.0 + chi), 1.0 / (1.0 + a * a * chi)
        gap = 0.5 * alpha * (n1 + na) - (alpha - 1.0) - zeta * chi
        step = gap / (zeta + 0.5 * alpha * (n1 * n1 + (a * na) ** 2))
        chi += step
        if not step > 0.01 * chi or (a == 0.0 and chi > 1e12):
            break
    k1, ka = chi / (1.0 + chi), a * chi / (1.0 + a * a * chi)
    m = 0.5 * alpha * (k1 + ka)
    h = 1.0 - m
    if m > 0.5:  # the same by the equation for chi, free of cancellation
        h = zeta * chi - 0.5 * alpha * ka * (1.0 - a)
        m = 1.0 - h
    w1, wa = 0.5 * alpha * k1 * k1, 0.5 * alpha * ka * ka
    v = w1 * (h * h + S) + wa * ((1.0 - a + a * h) ** 2 + S)
    # 1 - w1 - a^2 wa at the root; for a slope near 1 it is as small as it says, else an artifact
    left = zeta * chi + 0.5 * alpha * k1 / (1.0 + chi) + 0.5 * alpha * a * ka / (1.0 + a * a * chi)
    return chi, m, h, v / max(left, 0.05 * (1.0 - a))


@jit
def _start_above_threshold(alpha, S):
    """A first guess (chi, m, h, v) for ReLU without decay, where few samples are left unfitted.

    The weights are those at the threshold, where tan(phi) = tau/mu, and chi is the leading order
    beyond it: 1/sqrt(chi) = pi sigma/tau (1/alpha_c - 1/alpha).
    """
    T = math.sqrt(S) + math.pi * S if S < 1.0 else 0.5 * math.pi * (1.0 + 3.0 * S)
    phi = 0.0
    for _ in range(50):
        phi = math.atan(T)
        gap = _tan_minus_angle(phi) - S * (math.pi + phi)
        step = gap * (1.0 + T * T) / max(T * T - S, 1e-300)
        T = max(T - step, 1.0001 * math.sqrt(S))
        if abs(step) < 0.01 * T:  # a guess needs no more
            break
    phi = math.atan(T)
    at = _TWO_PI / (math.pi + phi)
    sigma2 = 1.0 + S
    d = (2.0 - at + 2.0 * S) / at - T / math.pi
    m = sigma2 / (1.0 + d)
    mu = m / math.sqrt(sigma2)
    root = T * mu / (math.pi * math.sqrt(sigma2) * (1.0 / at - 1.0 / alpha))
    return root * root, m, 1.0 - m, max(mu * mu * (T * T - S), 1e-12)


@jit
def _newton(alpha, S, zeta, a, chi, m, h, v, max_iter):
    """Damped Newton iteration on (log chi, m, log v) from a given start.

    It ends when a full step was below 1e-7 in every variable (so that, convergence being
    quadratic, the next is below rounding) and the residual at the point it led to is small. Towards
    the interpolation threshold chi grows, and rounding alone moves log chi by about chi times it.
    """
    chi0, m0, h0, v0 = chi, m, h, v  # the last accepted point
    norm0 = math.inf
    d_chi = d_m = d_v = 0.0
    small = False
    damping = 1.0
    train = dead = math.nan
    # there the differences 1 - X and v - W are small; farther off they would be the larger terms
    beside_one = abs(alpha - 1.0) < 0.25
    for n_iter in range(max_iter):
        here = cone_saddle(chi, m, h, v, S, a)
        train, dead = here.train, here.dead
        X, X_rest, Y, W = here.X, here.X_rest, here.Y, here.W
        X_l, X_m, X_v, Y_l = here.X_l, here.X_m, here.X_v, here.Y_l
        near = m > 0.5
        if beside_one:
            r1 = zeta * chi + (alpha - 1.0) - alpha * X_rest
        else:
            r1 = zeta * chi + alpha * X - 1.0
        if near:  # m near 1: the same equation for h, free of cancellation
            scale = max(abs(h), math.sqrt(v))
            r2 = (h - zeta * chi + alpha * Y) / scale
        else:
            scale = abs(m)
            r2 = (m - alpha * here.Z) / scale
        if beside_one:
            r3 = (here.W_rest - (alpha - 1.0) * W) / v
        else:
            r3 = 1.0 - alpha * W / v
        norm = max(abs(r1), abs(r2), abs(r3))
        if small and norm < _RESIDUAL:
            return Branch(chi, m, h, v, n_iter, norm, train, dead, True)
        if not norm < 10.0 * norm0:
            if damping < 1e-6:
                break
            damping *= 0.25
            chi = chi0 * math.exp(damping * d_chi)
            m, h = m0 + damping * d_m, h0 - damping * d_m
            v = v0 * math.exp(damping * d_v)
            continue
        norm0 = norm
        chi0, m0, h0, v0 = chi, m, h, v
        # rows r1, r2, r3; columns log chi, m/scale, log v
        a11, a12, a13 = zeta * chi + alpha * X_l, alpha * X_m * scale, alpha * X_v
        if near:
            a21 = (alpha * Y_l - zeta * chi) / scale
            a22 = alpha * (here.Z_m - X_m) - 1.0
            a23 = alpha * (here.Z_v - X_v) / scale
        else:
            a21 = -alpha * here.Z_l / scale
            a22 = 1.0 - alpha * here.Z_m
            a23 = -alpha * here.Z_v / scale
        a31 = -alpha * here.W_l / v
        a32 = -2.0 * alpha * (Y_l - Y - h * (X - X_l)) * scale / v
        a33 = alpha * (X_rest + X_l) - (alpha - 1.0) - r3
        d_chi, d_m, d_v = newton_step(a11, a12, a13, a21, a22, a23, a31, a32, a33, r1, r2, r3)
        size = max(abs(d_chi), abs(d_m), abs(d_v))
        if not size < math.inf:
            break
        small = max(abs(d_m), abs(d_v)) < 1e-7 and abs(d_chi) < max(1e-7, 1e-15 * chi0)
        d_m *= scale
        damping = min(1.0, 2.0 / size)
        chi = chi0 * math.exp(damping * d_chi)
        m, h = m0 + damping * d_m, h0 - damping * d_m
        v = v0 * math.exp(damping * d_v)
    return Branch(chi, m, h, v, max_iter, norm0, train, dead, False)


@jit
def _follow_zeta(alpha, S, zeta, a):
    """Follow the solution down from a large zeta; not found where its branch ends before."""
    z = max(1.0, 10.0 * zeta)
    chi, m, h, v = _start(alpha, S, z, a)
    point = _newton(alpha, S, z, a, chi, m, h, v, 40)
    total = point.n_iter
    factor = 0.1
    l_chi = l_m = l_h = l_v = 0.0  # logarithmic derivatives in zeta, for the prediction
    while z > zeta and 1e-300 < factor < 0.999:
        if point.found:
            chi, m, h, v = point.chi, point.m, point.h, point.v
        z_next = max(z * factor, zeta)
        if max(abs(l_chi), abs(l_v)) < 0.01 and z * chi < 1e-3:
            z_next = zeta  # zeta no longer matters: go straight to it, be it 0
            point = _newton(alpha, S, z_next, a, chi, m, h, v, 30)
        else:
            w = math.log(z_next / z)
            if abs(h) < 0.1:
                h_next = h * math.exp(l_h * w)
                m_next = 1.0 - h_next
            else:
                m_next = m * math.exp(l_m * w)
                h_next = 1.0 - m_next
            chi_next, v_next = chi * math.exp(l_chi * w), v * math.exp(l_v * w)
            point = _newton(alpha, S, z_next, a, chi_next, m_next, h_next, v_next, 30)
        total += point.n_iter
        if point.found:
            if z_next > 0.0:
                w = math.log(z_next / z)
                l_chi, l_v = math.log(point.chi / chi) / w, math.log(point.v / v) / w
                l_m = math.log(point.m / m) / w if m > 0.0 and point.m > 0.0 else 0.0
                l_h = math.log(point.h / h) / w if h * point.h > 0.0 else 0.0
            z = z_next
            factor = max(factor * factor, 1e-3)
        else:
            factor = math.sqrt(factor)
    return _with_count(point, total, point.found)


@jit
def _follow_load(alpha_from, alpha, S, zeta, a, strict):
    """Follow the solution from another load; not found where its branch ends before.

    Near a fold Newton's method may land on another branch. If `strict`, a point counts as one of
    this branch only if log chi is near the line through the two points before.
    """
    chi, m, h, v = _start(alpha_from, S, zeta, a)
    point = _newton(alpha_from, S, zeta, a, chi, m, h, v, 40)
    total = point.n_iter
    if not point.found:
        point = _follow_zeta(alpha_from, S, zeta, a)
        total += point.n_iter
        if not point.found:
            return _with_count(point, total, False)
    now = alpha_from
    last = point
    l_chi = l_v = d_m = 0.0  # derivatives in alpha, for the prediction
    step = 0.25 * (alpha - alpha_from)
    shortest = 1e-4 * abs(alpha - alpha_from)
    while now != alpha:
        if abs(step) < shortest:
            return _with_count(last, total, False)
        then = alpha if abs(alpha - now) <= abs(step) else now + step
        w = then - now
        chi, m = last.chi * math.exp(l_chi * w), last.m + d_m * w
        h, v = last.h - d_m * w, last.v * math.exp(l_v * w)
        point = _newton(then, S, zeta, a, chi, m, h, v, 30)
        total += point.n_iter
        if point.found and (not strict or abs(math.log(point.chi / chi)) < _SAME_BRANCH):
            if strict:
                l_chi, l_v = math.log(point.chi / last.chi) / w, math.log(point.v / last.v) / w
                d_m = (point.m - last.m) / w
            now, last = then, point
            step *= 1.5
        else:
            step *= 0.3
    return _with_count(last, total, True)


@jit
def _with_count(point, total, found):
    """The same point with the iterations of the whole way, and whether that led anywhere."""
    p = point
    return Branch(p.chi, p.m, p.h, p.v, total, p.residual, p.train, p.dead, found)


@jit
def _energy(point, alpha, zeta):
    if not point.found:
        return math.inf
    return alpha * point.train + zeta * (point.v + point.m**2)


@jit
def _regularized(alpha, S, zeta, a):
    """The saddle point of finite chi; of several, the one of least energy.

    Small slopes at small zeta have two stable solutions for loads between 4/3 and 2, the limits of
    the ReLU threshold: one fits the samples with y < 0 by weights of order 1/slope, the other gives
    them up as ReLU does. The first is reached from lower loads, the second from higher ones, where
    chi may leap at the ReLU threshold as it does from one branch to another.
    """
    if 0.0 < a < UNIQUE_SLOPE and zeta < UNIQUE_ZETA and 4.0 / 3.0 < alpha < 2.0:
        below = _follow_load(4.0 / 3.0, alpha, S, zeta, a, True)
        above = _follow_load(2.0, alpha, S, zeta, a, True)
        if not above.found:
            above = _follow_load(2.0, alpha, S, zeta, a, False)
        if not above.found and not below.found:
            below = _follow_load(4.0 / 3.0, alpha, S, zeta, a, False)
        return above if _energy(above, alpha, zeta) < _energy(below, alpha, zeta) else below
    if a == 0.0 and zeta == 0.0 and S > 0.0 and alpha < _FAR_ABOVE:
        chi, m, h, v = _start_above_threshold(alpha, S)
        # nearer to the threshold rounding would pass the guess itself for converged
        if chi < _GUESSED_CHI:
            point = _newton(alpha, S, zeta, a, chi, m, h, v, 12)
            if point.found:
                return point
    chi, m, h, v = _start(alpha, S, zeta, a)
    point = _newton(alpha, S, zeta, a, chi, m, h, v, 40)
    if point.found:
        return point
    return _follow_zeta(alpha, S, zeta, a)


@jit
def _relu_ridgeless(alpha, S):
    """ReLU at zeta = 0 below its interpolation threshold: every sample with y > 0 is fitted.

    One equation in T = tau/mu is left. It has one root between T = sqrt(S), where v = 0, and the
    point where the susceptibility diverges.
    """
    sigma2 = 1.0 + S
    low = math.sqrt(S)
    high = _TWO_PI * sigma2 / alpha
    if alpha > 4.0 / 3.0:
        high = min(high, math.tan(math.pi * (2.0 - alpha) / alpha))
    T = min(high, math.sqrt(S + 2.0 * sigma2 * sigma2 / alpha))
    free = 2.0 - alpha
    room = free + 2.0 * S
    norm = d = v = math.inf
    n_iter = 0
    while n_iter < 200:
        n_iter += 1
        phi = math.atan(T)
        d = room / alpha - T / math.pi  # sigma/mu - 1
        c2 = 1.0 / (1.0 + T * T)
        rest = 0.5 * d * d + _sin2(phi, T * math.sqrt(c2), math.sqrt(c2)) / (math.pi * c2)
        v = alpha * (0.5 * T * T + rest)  # in units of mu^2
        gap = 0.5 * free * T * T - S - alpha * rest  # T^2 - S - v
        norm = abs(gap) / (T * T + S)
        if gap < 0.0:
            low = T
        else:
            high = T
        slope = free * T + alpha * (d - T * phi) / math.pi
        step = gap / slope
        if abs(step) <= 1e-15 * T or high - low <= 1e-15 * T:
            break
        T -= step
        if not low < T < high:
            T = 0.5 * (low + high)
    m = sigma2 / (1.0 + d)
    return m, (d - S) / (1.0 + d), m * m * v / sigma2, n_iter, norm


@jit
def relu_interpolates(alpha, S):
    """Can ReLU at zeta = 0 fit every sample with y > 0 and silence the others?"""
    if alpha <= 4.0 / 3.0:
        return True
    if alpha >= 2.0:
        return alpha == 2.0 and S == 0.0
    # A few roundings above the threshold the other branch has no accuracy left; this one has.
    phi = min(math.pi * (2.0 - alpha) / alpha + 1e-14, math.nextafter(0.5 * math.pi, 0.0))
    return _tan_minus_angle(phi) >= S * (math.pi + phi)


@jit
def _relu_threshold_array(S, threshold):
    """Newton from the right in T = tan(phi), where the equation is convex: it cannot overshoot."""
    for i in range(S.size):
        T = 0.5 * math.pi * (1.0 + 3.0 * S[i])
        for _ in range(200):
            phi = math.atan(T)
            gap = _tan_minus_angle(phi) - S[i] * (math.pi + phi)
            step = gap * (1.0 + T * T) / (T * T - S[i])
            if not step > 1e-15 * T:
                break
            T -= step
        threshold[i] = _TWO_PI / (math.pi + math.atan(T))


def relu_threshold(S: NDArray[np.float64]) -> NDArray[np.float64]:
    """Interpolation threshold of ReLU: alpha = 2 pi/(pi + phi), S = (tan phi - phi)/(pi + phi)."""
    flat = np.ascontiguousarray(S).reshape(-1)
    threshold = np.empty_like(flat)
    _relu_threshold_array(flat, threshold)
    threshold[flat == 0.0] = 2.0
    return threshold.reshape(S.shape)


@jit
def _tan_minus_angle(phi):
    if phi > 0.1:
        return math.tan(phi) - phi
    p2 = phi * phi
    series = 1.0 / 3.0 + p2 * (2.0 / 15.0 + p2 * (17.0 / 315.0 + p2 * (62.0 / 2835.0)))
    return phi * p2 * (series + p2**4 * (1382.0 / 155925.0))


@jit
def _order_parameters(alpha, S, zeta, a):
    """The saddle point, whichever branch it is on: with sqrt(v) for v."""
    if zeta == 0.0 and a > 0.0 and alpha <= 1.0:
        # every sample is fitted exactly: least norm at the targets g^-1(y), here times a
        if alpha == 1.0:
            return Branch(math.inf, 0.0, 1.0, math.inf, 0, 0.0, 0.0, 0.0, True)
        c1 = 0.5 * (1.0 + a)
        c2 = 0.5 * (1.0 + a * a)
        m = alpha * c1 / a
        rest = 1.0 - alpha
        h = rest - alpha * 0.5 * (1.0 - a) / a
        # (1 + S) c2 - alpha (2 - alpha) c1^2 as a sum of squares
        spread = S * c2 + (0.5 * (1.0 - a)) ** 2 + (rest * c1) ** 2
        v = alpha / rest * spread
        return Branch(math.inf, m, h, math.sqrt(v) / a, 0, 0.0, 0.0, 0.0, True)
    if zeta == 0.0 and a == 0.0 and relu_interpolates(alpha, S):
        if alpha == 2.0:
            return Branch(math.inf, 1.0, 0.0, 0.0, 0, 0.0, 0.5, 0.0, True)
        m, h, v, n_iter, residual = _relu_ridgeless(alpha, S)
        train = 0.5 * (1.0 + S)
        return Branch(math.inf, m, h, math.sqrt(v), n_iter, residual, train, 0.0, True)
    if S < 1e-100 and alpha > 2.0 and zeta < 1e-100 and a < _TINY_SLOPE:
        # noise-free and enough samples: the student is the teacher, to the last digit
        return Branch(2.0 / (alpha - 2.0), 1.0, 0.0, 0.0, 0, 0.0, 0.5, 0.0, True)
    b = max(a, _TINY_SLOPE) if a > 0.0 else 0.0
    p = _regularized(alpha, S, zeta, b)
    chi, m, v = p.chi, p.m, p.v
    if b > a and zeta == 0.0 and b * b * chi > 1e-9:
        # the branch whose weights grow like 1/slope: scale them from the slope solved at
        c = b / a
        chi, m, root_v = chi * c * c, m * c, math.sqrt(v) * c
        return Branch(chi, m, 1.0 - m, root_v, p.n_iter, p.residual, p.train, p.dead, p.found)
    return Branch(chi, m, p.h, math.sqrt(v), p.n_iter, p.residual, p.train, p.dead, p.found)


@jit
def excess_error(m, h, root_v, a):
    """Generalization error above that of the best student of this slope, free of cancellation."""
    d = h + a * (1.0 - a) / (1.0 + a * a)
    return 0.5 * (1.0 + a * a) * (root_v * root_v + d * d)


@jit
def _replicon(alpha, S, a, chi, R):
    """1 - alpha E[(du/domega - 1)^2]; at chi = inf 1 - alpha times the share of samples held.

    A sample is held if u does not follow omega: at its label or, for ReLU and y <= 0, at 0.
    """
    if math.isnan(chi):
        return math.nan
    if chi < math.inf or (a > 0.0 and alpha > 1.0):
        return -math.inf  # u jumps, and the square of a delta function diverges
    if a > 0.0:
        return 1.0 - alpha
    held = 0.5 + math.acos(min(R / math.sqrt(1.0 + S), 1.0)) / (2.0 * math.pi)
    return 1.0 - alpha * held


@jit
def piecewise_point(alpha, S, zeta, a):
    """Equilibrium at one point, for slope a < 1."""
    b = max(a, _LEAST_SLOPE) if a > 0.0 else 0.0
    p = _order_parameters(alpha, S, zeta, b)
    m, root_v = p.m, p.v
    eps = 0.5 * (1.0 - a) ** 2 / (1.0 + a * a) + excess_error(m, p.h, root_v, a)
    if not p.found or not p.residual <= _RESIDUAL or math.isnan(eps):
        nan = math.nan
        return Point(nan, nan, nan, nan, nan, nan, nan, p.residual, nan, p.n_iter, _MAX_ITERATIONS)
    gamma = math.hypot(root_v, m)
    R = min(m / gamma, 1.0)
    energy = 0.5 * alpha * p.train
    if zeta > 0.0:
        energy += 0.5 * zeta * gamma * gamma
    if b > a and eps == math.inf:
        gamma *= b / a  # where gen_error is out of range, the weights grow like 1/slope
    status = _CONVERGED if eps < math.inf else _DIVERGENT
    replicon = _replicon(alpha, S, a, p.chi, R)
    return Point(
        gamma, R, p.chi, eps, p.train, energy, p.dead, p.residual, replicon, p.n_iter, status
    )


@jit
def piecewise_error(alpha, S, zeta, a):
    """The generalization error alone; NaN where the solver failed."""
    return piecewise_point(alpha, S, zeta, a).gen_error


@jit
def piecewise_errors(a, alpha, S, zeta, eps, start, stop):
    """Fill ``eps[start:stop]`` with the generalization error alone."""
    for i in range(start, stop):
        eps[i] = piecewise_error(alpha[i], S[i], zeta[i], a)


@jit
def solve_piecewise(alpha, S, zeta, a, columns, start, stop):
    """Fill the columns from `start` to `stop`."""
    for i in range(start, stop):
        write_point(columns, i, piecewise_point(alpha[i], S[i], zeta[i], a))


@jit
def _objective(alpha, S, log_zeta, a, small):
    """What orders gen_error without losing digits: its excess if `small`, else gen_error - 1."""
    p = _order_parameters(alpha, S, math.exp(log_zeta), a)
    m, h, root_v = p.m, p.h, p.v
    if not p.found:
        return math.inf
    if small:
        return excess_error(m, h, root_v, a)
    return 0.5 * (1.0 + a * a) * (root_v * root_v + m * m) - (1.0 + a) * m


@jit
def optimal_zeta_piecewise(alpha, S, a, best, start, stop):
    """Fill ``best[start:stop]`` with the decay of least error: scan of log zeta, golden section."""
    golden = 0.5 * (math.sqrt(5.0) - 1.0)
    for i in range(start, stop):
        low, high = math.log(1e-14), math.log(1e3 * (1.0 + S[i]))
        count = 100
        width = (high - low) / (count - 1)
        small = True
        x = low
        f = math.inf
        for k in range(count):
            trial = _objective(alpha[i], S[i], low + k * width, a, True)
            if trial < f:
                x, f = low + k * width, trial
        if f == math.inf:
            best[i] = math.nan
            continue
        if f > 0.25 * (1.0 + a) ** 2 / (1.0 + a * a):
            small = False
        left, right = x - width, x + width
        x1, x2 = right - golden * (right - left), left + golden * (right - left)
        f1 = _objective(alpha[i], S[i], x1, a, small)
        f2 = _objective(alpha[i], S[i], x2, a, small)
        while right - left > 1e-9:
            if f1 <= f2:
                right, x2, f2 = x2, x1, f1
                x1 = right - golden * (right - left)
                f1 = _objective(alpha[i], S[i], x1, a, small)
            else:
                left, x1, f1 = x1, x2, f2
                x2 = left + golden * (right - left)
                f2 = _objective(alpha[i], S[i], x2, a, small)
        x = 0.5 * (left + right)
        f = _objective(alpha[i], S[i], x, a, small)
        best[i] = math.exp(x)
        if _objective(alpha[i], S[i], -math.inf, a, small) <= f:
            best[i] = 0.0
