"""Gaussian averages of the online update in closed form, with their derivatives (Numba kernels).

Everything is written in D = 1 - R and the angle theta = arccos R, in forms that do not cancel as
D -> 0: a trajectory reaches D = 1e-12 long before it ends.

The three averages that drive every method, with u = gamma uhat, <uhat z> = R,
delta = g'(u) (g*(z) + s - g(u)):

    P = E[delta uhat] = I1 / gamma
    I2 = E[delta^2]
    G = E[delta (z - R uhat)] = I3 - R I1 / gamma = (1 - R^2) E[g'(u) g*'(z)]

The last identity is Stein's lemma. It shows that the drift towards R = 1 vanishes there exactly.
"""

from __future__ import annotations

import math

from replica._core.jit import jit

from ._averages import Derivatives

__all__ = ["ERF_PAIR", "LEAKY_PAIR", "along_tangent", "averages", "generalization_error"]
__all__ += ["mirrored"]

LEAKY_PAIR = 0  # student slope a, teacher slope b
ERF_PAIR = 1  # erf(u / sqrt 2) on both sides; a and b are not used


@jit
def _angle_functions(D: float) -> tuple[float, float, float, float]:
    """Return theta, sin(theta), sin - theta cos and theta - sin cos at R = 1 - D."""
    theta = 2.0 * math.atan2(math.sqrt(D), math.sqrt(2.0 - D))
    sine = math.sqrt(D * (2.0 - D))
    if theta > 0.5:
        cosine = 1.0 - D
        return theta, sine, sine - theta * cosine, theta - sine * cosine
    # Taylor series, since both differences cancel to theta^3; 9 terms reach rounding at 0.5.
    first = 0.0
    third = 0.0
    term = theta  # (-1)^k theta^(2k+1) / (2k+1)!
    power = 1.0  # 4^k
    for k in range(1, 10):
        term *= -theta * theta / ((2 * k) * (2 * k + 1))
        power *= 4.0
        first -= 2 * k * term
        third -= power * term
    return theta, sine, first, third


@jit
def _leaky(a: float, b: float, S: float, gamma: float, D: float) -> Derivatives:
    theta, sine, first, third = _angle_functions(D)
    R = 1.0 - D
    p1 = (1 - a) * (1 - b) / (2 * math.pi)
    p2 = (1 - a * a) * (1 - b * b) / (2 * math.pi)
    p3 = (1 - a**3) * (1 - b) / (2 * math.pi)

    P = (1 + a * a) / 2 * ((1 - gamma) - D) + a * (b - a) / 2 * R + p1 * first
    P_gamma = -(1 + a * a) / 2
    P_D = -(1 + a * b) / 2 + p1 * theta

    miss = b - a * gamma
    I2 = ((1 - gamma) ** 2 + 2 * gamma * D) / 2 + a * a * (miss**2 + 2 * a * b * gamma * D) / 2
    I2 += S * (1 + a * a) / 2 - p2 * third - 2 * gamma * p3 * first
    I2_gamma = gamma - R + a * a * (a * b * D - a * miss) - 2 * p3 * first
    I2_D = gamma * (1 + a**3 * b) - 2 * p2 * sine - 2 * gamma * p3 * theta

    kappa = (1 + a * b) / 2 - p1 * theta
    G = sine * sine * kappa
    G_D = 2 * R * kappa - p1 * sine
    return Derivatives(P, P_gamma, P_D, I2, I2_gamma, I2_D, G, 0.0, G_D)


@jit
def _erf_distance(x: float, y: float, excess: float, k: float, rest: float) -> float:
    """Return pi / 2 E[(erf(u / sqrt 2) - erf(z / sqrt 2))^2] of variances x, y and covariance k.

    ``excess = x - y`` and ``rest = x y - k^2`` come from where they do not cancel. The average is
    asin(x / (1 + x)) + asin(y / (1 + y)) - 2 asin(k / sqrt((1 + x) (1 + y))), which does: instead,
    a difference of arctangents for k^2 = x y, and the turn of the last arcsine from there to k.
    """
    sx = math.sqrt(x)
    sy = math.sqrt(y)
    root = math.sqrt(1 + x + y)
    root_x = math.sqrt(1 + 2 * x)
    root_y = math.sqrt(1 + 2 * y)
    # Tangents of the two steps, from x to the middle and from there to y, per factor sx and sy.
    up = excess / (sx * root_x * (1 + y) + sy * root * (1 + x))
    down = excess / (sy * root_y * (1 + x) + sx * root * (1 + y))
    bend = root + sx * sy * (x + y + 2 * x * y) / (root_y * (1 + x) + root_x * (1 + y))
    stretch = math.atan(up * down * bend / (1 + sx * sy * up * down))
    # Sine and cosine of the turn, times (1 + x) (1 + y).
    far = math.sqrt(1 + x + y + rest)
    sine = sx * sy * far - k * root
    if k > 0.0:
        sine = rest * (1 + x) * (1 + y) / (sx * sy * far + k * root)
    return stretch + 2 * math.atan2(sine, far * root + k * sx * sy)


@jit
def _erf(S: float, gamma: float, D: float) -> Derivatives:
    c = 2 / math.pi
    R = 1.0 - D
    q = gamma * gamma
    # E[g'(u) g*'(z)] = c / sqrt(det); det = det(I + C) of the two fields.
    det = 2 * (1 + q) - q * R * R
    det_gamma = 2 * gamma * (2 - R * R)
    det_R = -2 * q * R

    w = 1 + 2 * q
    root = math.sqrt(w)
    sine2 = D * (2.0 - D)
    teacher = c * R / ((1 + q) * math.sqrt(det))
    own = c * gamma / ((1 + q) * root)
    P = teacher - own
    if R * gamma > 0.0:  # the same, where it cancels
        lead = (1 - gamma) * (1 + gamma) - sine2 * (1 + q)
        P = c * lead / (math.sqrt(det) * root * (R * root + gamma * math.sqrt(det)))
    P_gamma = -teacher * (2 * gamma / (1 + q) + det_gamma / (2 * det))
    P_gamma -= c / ((1 + q) * root) - own * (2 * gamma / (1 + q) + 2 * gamma / w)
    P_R = c / ((1 + q) * math.sqrt(det)) - teacher * det_R / (2 * det)

    # g'^2 tilts the law of (u, z): variances x and y, covariance k; then E[g g*] is an arcsine.
    x = q / w
    x_gamma = 2 * gamma / (w * w)
    k = gamma * R / w
    k_gamma = R / w - 4 * gamma * gamma * R / (w * w)
    k_R = gamma / w
    y = (1 + 2 * q * sine2) / w
    y_gamma = -4 * gamma * R * R / (w * w)
    y_R = -4 * q * R / w
    excess = ((gamma - 1) * (gamma + 1) - 2 * q * sine2) / w
    bracket = S + c * _erf_distance(x, y, excess, k, q * sine2 / w)
    # Derivatives of the three arcsines; the last in k, in x it is -sk_ k / (2 (1 + x)).
    sx_ = 1 / ((1 + x) * math.sqrt(1 + 2 * x))
    sy_ = 1 / ((1 + y) * math.sqrt(1 + 2 * y))
    sk_ = 1 / math.sqrt((1 + x) * (1 + y) - k * k)
    b_gamma = sx_ * x_gamma + sy_ * y_gamma
    b_gamma -= 2 * sk_ * (k_gamma - k * x_gamma / (2 * (1 + x)) - k * y_gamma / (2 * (1 + y)))
    b_R = sy_ * y_R - 2 * sk_ * (k_R - k * y_R / (2 * (1 + y)))
    I2 = c * bracket / root
    I2_gamma = c * (c * b_gamma - bracket * 2 * gamma / w) / root
    I2_R = c * c * b_R / root

    kappa = c / math.sqrt(det)
    G = sine2 * kappa
    G_gamma = -G * det_gamma / (2 * det)
    G_R = -2 * R * kappa - G * det_R / (2 * det)
    return Derivatives(P, P_gamma, -P_R, I2, I2_gamma, -I2_R, G, G_gamma, -G_R)


@jit
def _inside(pair: int, a: float, b: float, S: float, gamma: float, D: float) -> Derivatives:
    """Averages for 0 <= D <= 2."""
    if pair == ERF_PAIR:
        return _erf(S, gamma, D)
    if gamma >= 0.0:
        return _leaky(a, b, S, gamma, D)
    return mirrored(_leaky(a, b, S, -gamma, 2.0 - D))


@jit
def mirrored(at: Derivatives) -> Derivatives:
    """Return the averages at (gamma, R), given those at (-gamma, -R): uhat is reversed."""
    return Derivatives(
        -at.P, at.P_gamma, at.P_D, at.I2, -at.I2_gamma, -at.I2_D, at.G, -at.G_gamma, -at.G_D
    )


@jit
def along_tangent(at: Derivatives, step: float) -> Derivatives:
    """Go on from an edge of 0 <= D <= 2: the field stays smooth, with the right Jacobian."""
    return Derivatives(
        at.P + at.P_D * step, at.P_gamma, at.P_D,
        at.I2 + at.I2_D * step, at.I2_gamma, at.I2_D,
        at.G + at.G_D * step, at.G_gamma, at.G_D,
    )  # fmt: skip


@jit
def averages(pair: int, a: float, b: float, S: float, gamma: float, D: float) -> Derivatives:
    """Return P, I2, G, each followed by its derivatives in gamma and D.

    A negative gamma (the student's sign can flip on the way) is the state (-gamma, -R) with uhat
    reversed.
    """
    if D < 0.0 or D > 2.0:
        # An integrator may look a little outside.
        edge = 0.0 if D < 0.0 else 2.0
        step = D - edge
        return along_tangent(_inside(pair, a, b, S, gamma, edge), step)
    return _inside(pair, a, b, S, gamma, D)


@jit
def generalization_error(pair: int, a: float, b: float, gamma: float, D: float) -> float:
    """Return E[(g*(z) - g(u))^2], the noise-free error of the pair."""
    D = min(max(D, 0.0), 2.0)
    if pair == ERF_PAIR:
        q = gamma * gamma
        excess = (gamma - 1) * (gamma + 1)
        rest = q * (D * (2.0 - D))
        return 2 / math.pi * _erf_distance(q, 1.0, excess, gamma * (1.0 - D), rest)
    if gamma < 0.0:
        gamma, D = -gamma, 2.0 - D
    first = _angle_functions(D)[2]
    up = (1 - gamma) ** 2 + 2 * gamma * D
    down = (b - a * gamma) ** 2 + 2 * a * b * gamma * D
    return (up + down) / 2 - gamma * (1 - a) * (1 - b) / math.pi * first
