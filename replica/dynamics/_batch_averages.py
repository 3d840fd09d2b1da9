"""Averages of one step of real batch normalization over a fresh batch of M samples.

With u_j = w.x_j/L, z_j = R u_j + sqrt(1 - R^2) v_j and independent normal u_j, v_j the output is
g(gamma h_j), h_j = (u_j - c ubar) / sigma_B: "bn" has c = 1 and the batch's own sigma_B, "bn-var"
c = 0, "bn-mean" c = 1 and sigma_B = 1. Below, s = 0 for "bn-mean" and 1 otherwise. Minus the
gradient of the sum of the losses is (gamma/L) sum_j c_j x_j, where, <...> the mean over the batch,

    delta_j = g'(gamma h_j) (y_j - g(gamma h_j)),
    c_j = (delta_j - c <delta> - s h_j <delta h>) / sigma_B,

up to a multiple of w for "bn-mean" that keeps the length of w. The averages, all per sample, are

    P = E[delta_j h_j],   I2 = E[sum_j c_j^2] / M,   G = E[sum_j c_j (z_j - R u_j)] / M.

The average over v can be done first. With T_q(u) = E[g*(z)^q | u], K(u) = E[g*'(z) | u]

    P = E[h g' (T_1 - g)],   G = (1 - R^2) E[(1 - c/M - s h^2/M) g' K / sigma_B],
    I2 = E[sigma_B^-2 {(1 - c/M - s h^2/M) g'^2 (T_2 + S - 2 g T_1 + g^2)
                       - (1 - 1/M) (c + s h_1 h_2) Delta_1 Delta_2}],   Delta = g' (T_1 - g).

Samples are coupled through the pair (h_1, h_2) alone. Under both laws used below its density is
sum_k r_k p_k(h_1) p_k(h_2), p_k orthonormal polynomials, so that pairs cost squares of single
integrals; rho = -c/(M-1) is the correlation of the two. There are two ways:

- Student and teacher leaky (`leaky_series`): sigma_B^-p is an integral over t of t^(p/2-1)
  exp(-t M sigma_B^2/2), which leaves Gaussian fields of variance 1/(1+t), r_k = rho^k (Mehler),
  and integrals over h that are elementary. Functions of R alone result, kept as Chebyshev series.
- Any other: h on its sphere, r_k = C_k(rho)/C_k(1) (Funk and Hecke), quadrature over h, sigma_B and
  ubar.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import owens_t

from replica._core.activation_table import activation_at, activation_value
from replica._core.arguments import ArgumentError
from replica._core.jit import jit
from replica.students import LeakyReLU, Student

from ._averages import Averages, Derivatives
from ._closed_forms import along_tangent, mirrored
from ._quadrature import STEP_CUTS

__all__ = ["batch_averages", "by_quadrature", "leaky_series", "refuse_small_batch"]
__all__ += ["series_averages"]

Array = NDArray[np.float64]


class _Statistics(NamedTuple):
    """What is taken from the batch: subtracted mean c, division by sigma_B s, smallest M.

    Below the smallest M, E[c_j^2] is infinite: sigma_B^2 needs more than two degrees of freedom. In
    the smallest batch of all, normalized fields are signs, so that the gradient of w is zero.
    """

    c: int
    s: int
    least: int


# Two more degrees of freedom than are taken out; the mean alone needs a second sample.
_NORMALIZERS = {
    "bn": _Statistics(1, 1, 4),
    "bn-var": _Statistics(0, 1, 3),
    "bn-mean": _Statistics(1, 0, 2),
}

_PHI0 = 1 / math.sqrt(2 * math.pi)  # the normal density at 0
_T = 2 / math.pi  # E[|u|]^2 of a normal u


def refuse_small_batch(normalizer: str, M: int) -> None:
    """Raise an `ArgumentError` if the update of one step has no finite variance."""
    least = _NORMALIZERS[normalizer].least
    if least > M:
        raise ArgumentError(
            f"batch_size must be at least {least} for normalizer {normalizer!r}, got {M}: in "
            "smaller batches the update of one step has an infinite variance (or, where the fields "
            "of a batch are signs, is zero), so that no order-parameter equations exist; "
            "replica.simulate_online runs from 2 on"
        )


# --- Leaky pairs ----------------------------------------------------------------------------------

# Series of kappa (G = sin^2 kappa), P, I2 and dI2/dR; P and I2 at gamma^0 and gamma^1.
_KAPPA, _P0, _I0, _I1, _I0_R, _I1_R = range(6)
_N_ROWS = 6  # so many of them
_CHOP = 3e-16  # the rounding noise of the coefficients


def _panels(edges: Array, n: int) -> tuple[Array, Array]:
    """Gauss-Legendre rule with n nodes between successive edges."""
    x, w = np.polynomial.legendre.leggauss(n)
    half = np.diff(edges)[:, None] / 2
    return (edges[:-1, None] + half * (1 + x)).ravel(), (half * w).ravel()


def _graded(top: float, scale: float, n: int) -> tuple[Array, Array]:
    """Rule on [0, top] for a function that bends at `scale`, at any distance below `top`."""
    depth = max(1, math.ceil(math.log2(top / max(scale, 1e-12)) / 1.5) + 1)
    return _panels(np.concatenate([[0.0], top * 2.0 ** (-1.5 * np.arange(depth, -1, -1))]), n)


class _ScaleLaw:
    """The integral over t of sigma_B^-p, as nodes y = (1 + t)^(-1/2) and weights.

    E[sigma_B^-p f(x)] with f of degree k in the scale of x is ``weight(p, k) @ E[f(x / y)]``, with
    x the Gaussian fields of variance y^2.
    """

    def __init__(self, scaled: int, n: int, M: int, theta: float) -> None:
        self.n, self.M, self.scaled = n, M, scaled
        if not scaled:
            self.y = np.ones(1)
            return
        # y = cos x has the density cos(x)^(n-p-1+k) sin(x)^(p-1), below rounding beyond `top`.
        top = math.sqrt(80.0 / n)
        if top < math.pi / 4:
            self.x, self.w = _panels(top * np.array([0.0, 0.25, 0.5, 1.0]), 14)
            self.y = np.cos(self.x)
        else:
            x, w = _panels(math.pi / 4 * np.array([0.0, 0.5, 1.0]), 14)
            angle, more = _graded(math.pi / 4, math.sin(theta), 12)
            self.x = np.concatenate([x, math.pi / 2 - angle])
            self.w = np.concatenate([w, more])
            self.y = np.concatenate([np.cos(x), np.sin(angle)])
        sine = np.sin(self.x)
        self.log_sine = np.log(sine)
        near = self.x < 0.5
        self.log_y = np.where(near, np.log1p(-(np.where(near, sine, 0.0) ** 2)) / 2, np.log(self.y))

    def weight(self, p: int, k: int) -> Array:
        if not self.scaled:
            return np.ones(1)
        log_c = p / 2 * math.log(self.M / 2) - math.lgamma(p / 2) + math.log(2)
        powers = (self.n - p - 1 + k) * self.log_y + (p - 1) * self.log_sine
        return self.w * np.exp(log_c + powers)


@lru_cache(maxsize=32)
def leaky_series(normalizer: str, M: int, a: float, b: float) -> Array:
    """Return what `series_averages` has to know of a normalizer, batch size and two slopes.

    Row 0 holds constants, rows 1 to 6 and 7 to 12 the Chebyshev series of six functions for R >= 0
    and R < 0, in x = asinh(theta / delta) with theta = arccos |R|.
    """
    c, s, _ = _NORMALIZERS[normalizer]
    n = M - c
    inverse = M / (n - 2) if s else 1.0  # E[sigma_B^-2]
    # The functions bend at theta ~ M^(-1/2) when the mean is subtracted; those of the smallest
    # batches also contain theta^n log(theta), so that x has to reach further down.
    delta, size = (1e-3, 96) if n <= 4 else (min(0.02, 1 / math.sqrt(M)), 72)
    width = math.asinh(math.pi / (2 * delta))
    quarter_turns = np.outer(np.arange(size), 2 * np.arange(size) + 1) % (4 * size)
    to_series = np.cos(quarter_turns * (math.pi / (2 * size))) * (2 / size)
    to_series[0] /= 2
    nodes = to_series[1] * (size / 2)
    angles = delta * np.sinh(width * (1 + nodes) / 2)
    out = np.zeros((1 + 2 * _N_ROWS, size))
    out[0, :5] = delta, width, *_constants(c, s, M, a, inverse)
    for side in (0, 1):
        values = [_functions(c, s, M, a, b, angle, 1 - 2 * side) for angle in angles]
        out[1 + side * _N_ROWS : 1 + (side + 1) * _N_ROWS] = (to_series @ values).T
    linear, series = a == b == 1.0, out[1:].reshape(2, _N_ROWS, size)
    if a == 1.0 and s:  # the gradient projects a linear student's own output out
        out[0, 3] = 0.0
        series[:, [_I1, _I1_R]] = 0.0
    if linear and s:  # I2 = C (1 - R^2 + S)
        out[0, 5] = out[0, 4]
        series[:, [_I0, _I0_R]] = 0.0
    elif linear:  # I2 = C ((1 - gamma)^2 + 2 gamma D + S)
        out[0, 6], out[0, 3] = out[0, 4], 0.0
        series[:, [_I0, _I1, _I0_R, _I1_R]] = 0.0
    kept = np.flatnonzero((np.abs(out[1:]) > _CHOP).any(axis=0))
    out = np.ascontiguousarray(out[:, : max(kept[-1] + 1, 7)])
    out.flags.writeable = False
    return out


def _halves(slope: float) -> tuple[list[float], list[float]]:
    """Even and odd parts of slope^p on the negative side, 1 on the positive, p = 0 ... 4."""
    return [(1 + slope**p) / 2 for p in range(5)], [(1 - slope**p) / 2 for p in range(5)]


def _constants(c: int, s: int, M: int, a: float, inverse: float) -> tuple[float, float, float]:
    """Coefficients that do not depend on R: of gamma in P, of gamma^2 and of S in I2."""
    e, o = _halves(a)
    n, kappa, rho = M - c, c / M, -c / (M - 1)
    root, angle = math.sqrt(1 - rho * rho), math.asin(rho)
    square = 1 + 2 * rho * rho
    one, pair = e[4] * (1 - kappa), c * (e[2] ** 2 * rho + o[2] ** 2 * _T * (root + rho * angle))
    if not s:
        variance = 1 - kappa
        own = variance * (one - (1 - 1 / M) * pair)
        return -e[2] * variance, own, e[2] * (1 - kappa)
    fourth = n / (n + 2)
    one -= 3 * fourth / M * e[4]
    pair += fourth * (e[2] ** 2 * square + o[2] ** 2 * _T * (square * angle + 3 * rho * root))
    return -e[2], inverse * (one - (1 - 1 / M) * pair), e[2] * inverse * (1 - kappa - 1 / M)


def _functions(c: int, s: int, M: int, a: float, b: float, theta: float, sign: int) -> list[float]:
    """The six functions of R = sign cos(theta)."""
    e, o = _halves(a)
    f, d = _halves(b)
    kappa, rho = c / M, -c / (M - 1)
    omega = math.sqrt(1 - kappa)
    R, sine = sign * math.cos(theta), math.sin(theta)
    law = _ScaleLaw(s, M - c, M, theta)
    y = law.y
    # x = y omega xhat and z: correlation r, and its complement without cancellation.
    sd = np.sqrt(R * R * (y * y * omega**2 + kappa) + sine**2)
    r = R * y * omega / sd
    co = np.sqrt(R * R * kappa + sine**2) / sd
    asin = np.arctan2(r, co)
    square = 1 + 2 * r * r
    corr, area = co + r * asin, asin + r * co

    def one(p: int, q: int, even: Array | float, odd: Array) -> Array:
        return e[p] * f[q] * even + o[p] * d[q] * _T * odd

    def both(weight: Array, q: int, phi: Array, slope: Array) -> NDArray[np.float64]:
        """Average of sd^q phi(r), and its derivative in R."""
        by_R = y * omega * slope * sd ** (q - 1)
        by_R += R * omega**2 * (y * y - 1) * sd ** (q - 2) * (q * phi - r * slope)
        return np.array([weight @ (sd**q * phi), weight @ by_R])

    shape = 1 - kappa
    P = omega * (law.weight(1, 1) @ (sd * one(1, 1, r, corr)))
    k = shape * (law.weight(1, 0) @ one(1, 1, 1.0, asin))
    I0 = shape * both(law.weight(2, 0), 2, one(2, 2, 1.0, area), one(2, 2, 0.0, 2 * co))
    I1 = both(law.weight(3, 1), 1, one(3, 1, r, corr), one(3, 1, 1.0, asin)) * shape * omega
    if s:
        k -= omega**2 / M * (law.weight(3, 2) @ one(1, 1, 1.0, area))
        phi = one(2, 2, square, square * asin + 3 * r * co)
        slope = one(2, 2, 4 * r, 4 * corr)
        I0 -= omega**2 / M * both(law.weight(4, 2), 2, phi, slope)
        phi = one(3, 1, 3 * r, (2 + r * r) * co + 3 * r * asin)
        I1 -= omega**3 / M * both(law.weight(5, 3), 1, phi, one(3, 1, 3.0, 3 * area))
    if M == 2:  # x_2 = -x_1, so that g'(x_1) g'(x_2) = a
        I0[0] -= a / 2 * d[1] ** 2 * _T
        reflected = e[1] * f[1] * r - o[1] * d[1] * _T * corr, e[1] * f[1] - o[1] * d[1] * _T * asin
        I1 += a / 2 * omega * both(np.ones(1), 1, *reflected)
    elif not a == b == 1.0:  # `leaky_series` knows I2 of the linear pair
        pairs = _pair_averages(c, s, rho, law, omega, math.sqrt(kappa), R, sine, e, o, f, d)
        I0 -= (1 - 1 / M) * pairs[:2]
        I1 -= (1 - 1 / M) * pairs[2:]
    return [float(x) for x in (k, P, I0[0], -2 * I1[0], I0[1], -2 * I1[1])]


def _pair_averages(
    c: int, s: int, rho: float, law: _ScaleLaw, omega: float, mean: float, R: float, sine: float,
    e: list[float], o: list[float], f: list[float], d: list[float],
) -> Array:  # fmt: skip
    """Averages over two samples at gamma^0 and gamma^1, each with its derivative in R."""
    if c:
        # The pair's fields change over ubar ~ sin(theta), where the teacher bends.
        m, weight = _graded(2.0, sine / mean, 10)
        far, more = _panels(np.array([2.0, 4.0, 6.0, 8.5]), 10)
        m, weight = np.concatenate([m, far]), np.concatenate([weight, more])
        weight = weight * 2 * _PHI0 * np.exp(-m * m / 2)
        # rho^K is below rounding.
        K = int(39 / -math.log(-rho)) + 1
    else:
        m, weight, K = np.zeros(1), np.ones(1), 1
    scale = law.y * omega
    alpha, beta = R / sine * scale, R / sine * mean * m
    owen = owens_t(beta / np.sqrt(1 + alpha[:, None] ** 2), alpha[:, None])
    nothing = np.zeros_like(scale)
    outer = np.array(
        [
            law.weight(2, 0) if c else nothing,
            law.weight(4, 2) * omega**2 if s else nothing,
            law.weight(3, 1) * omega if c else nothing,
            law.weight(5, 3) * omega**3 if s else nothing,
        ]
    )
    slopes = np.array([e[1] * f[1], o[1] * d[1], o[1] * f[1], e[1] * d[1], e[2], o[2]])
    return _sum_pairs(scale, mean * m, weight, outer, owen, R, sine, rho, K, slopes)


@jit
def _sum_pairs(scale, shift, weight, outer, owen, R, sine, rho, K, slopes):
    """Sum over k of rho^k (products of Hermite coefficients), integrated over scale and shift.

    With tau(w) = E|w + v|, the teacher given x = scale xhat and ubar = shift is
    f z + d sine tau(alpha xhat + beta). The Hermite coefficients of sgn(xhat) tau follow from those
    of sgn(xhat) tau', and these from I_k, those of sgn(xhat) tau''/2, which obey a three-term
    recurrence; those without the sign are Hermite functions. `odd` and `even` are the parts of the
    coefficients that are odd and even under reversal of xhat and ubar together: their cross terms
    vanish in the average over the sign of ubar.
    """
    ez, ot, oz, et, e2, o2 = slopes
    root = np.sqrt(np.arange(K + 4.0))
    inverse = 1 / np.sqrt(np.maximum(np.arange(K + 4.0), 1.0))
    at0 = np.zeros(K + 4)  # he_k(0)
    at0[0] = 1.0
    for k in range(1, K + 3):
        at0[k + 1] = -root[k] * at0[k - 1] / root[k + 1]
    sign = np.zeros(K + 4)  # of sgn(xhat), |xhat| and xhat |xhat|
    for k in range(1, K + 4):
        sign[k] = 2 * _PHI0 * at0[k - 1] / root[k]
    size = np.zeros(K + 3)
    for k in range(K + 3):
        size[k] = root[k + 1] * sign[k + 1] + (root[k] * sign[k - 1] if k else 0.0)
    signed_square = np.zeros(K + 2)
    for k in range(K + 2):
        signed_square[k] = root[k + 1] * size[k + 1] + (root[k] * size[k - 1] if k else 0.0)
    i0 = np.zeros(K + 3)
    i1 = np.zeros(K + 3)
    i2 = np.zeros(K + 3)
    h = np.zeros(K + 3)
    odd = np.zeros((2, K + 2))
    even = np.zeros((2, K + 2))
    total = np.zeros(4)
    ratio = R / sine
    for a in range(scale.size):
        alpha = ratio * scale[a]
        q2 = 1.0 + alpha * alpha
        q = math.sqrt(q2)
        r = alpha / q
        inverse_q, inverse_q2 = 1 / q, 1 / q2
        for j in range(shift.size):
            beta = ratio * shift[j]
            reduced = beta / q
            density = _PHI0 * math.exp(-beta * beta / 2)
            density_r = _PHI0 * math.exp(-reduced * reduced / 2)
            slope = math.erf(beta / math.sqrt(2.0))
            value = beta * slope + 2 * density
            # i0, i1, i2: coefficients of sgn tau, sgn tau', sgn tau'' / 2.
            i2[0] = -density_r / q * math.erf(alpha * reduced / math.sqrt(2.0))
            for k in range(K + 2):
                last = root[k] * alpha * alpha * i2[k - 1] if k else 0.0
                new = 2 * at0[k] * _PHI0 * density - alpha * beta * i2[k] - last
                i2[k + 1] = new * inverse[k + 1] * inverse_q2
            i1[0] = 4 * owen[a, j]
            for k in range(1, K + 3):
                i1[k] = (2 * at0[k - 1] * _PHI0 * slope + 2 * alpha * i2[k - 1]) * inverse[k]
            i0[0] = beta * i1[0] + alpha * i1[1] + 2 * i2[0]
            for k in range(1, K + 3):
                i0[k] = (2 * at0[k - 1] * _PHI0 * value + alpha * i1[k - 1]) * inverse[k]
            # h: Hermite functions (-r)^k he_k(reduced) phi(reduced); far out they are 0.
            h[0] = density_r
            h[1] = -r * reduced * density_r
            for k in range(1, K + 2):
                h[k + 1] = -r * (reduced * h[k] + r * root[k] * h[k - 1]) * inverse[k + 1]
            erf_r = math.erf(reduced / math.sqrt(2.0))
            for k in range(K + 2):
                # without the sign: tau, tau', tau'' / 2
                if k == 0:
                    t0 = q * (reduced * erf_r + 2 * density_r)
                    before, t1 = 0.0, erf_r
                else:
                    before = erf_r if k == 1 else 2 * r * h[k - 2] * inverse[k - 1]
                    t0 = alpha * before * inverse[k]
                    t1 = 2 * r * h[k - 1] * inverse[k]
                after = 2 * r * h[k] * inverse[k + 1]
                t2 = h[k] * inverse_q
                # dtau/dR in the units of z: u tau' - 2 (R / sine) tau'' / 2
                t_R = scale[a] * (root[k + 1] * after + root[k] * before) + shift[j] * t1
                t_R -= 2 * ratio * t2
                s_R = scale[a] * (root[k + 1] * i1[k + 1] + (root[k] * i1[k - 1] if k else 0.0))
                s_R += shift[j] * i1[k] - 2 * ratio * i2[k]
                z = scale[a] if k == 1 else (shift[j] if k == 0 else 0.0)
                sz = scale[a] * size[k] + shift[j] * sign[k]
                odd[0, k] = ez * R * z + ot * sine * i0[k]
                odd[1, k] = ez * z + ot * s_R
                even[0, k] = oz * R * sz + et * sine * t0
                even[1, k] = oz * sz + et * t_R
            power = 1.0
            aa = xx = ab = xb = aa_R = xx_R = ab_R = xb_R = 0.0
            for k in range(K + 1):
                up, down = root[k + 1], root[k]
                b = k - 1 if k else 0
                x_odd = up * odd[0, k + 1] + down * odd[0, b]
                x_odd_R = up * odd[1, k + 1] + down * odd[1, b]
                x_even = up * even[0, k + 1] + down * even[0, b]
                x_even_R = up * even[1, k + 1] + down * even[1, b]
                aa += power * (odd[0, k] ** 2 + even[0, k] ** 2)
                aa_R += power * 2 * (odd[0, k] * odd[1, k] + even[0, k] * even[1, k])
                xx += power * (x_odd**2 + x_even**2)
                xx_R += power * 2 * (x_odd * x_odd_R + x_even * x_even_R)
                linear = e2 if k == 1 else 0.0
                ab += power * (linear * odd[0, k] + o2 * size[k] * even[0, k])
                ab_R += power * (linear * odd[1, k] + o2 * size[k] * even[1, k])
                square = e2 if k == 0 else (e2 * math.sqrt(2.0) if k == 2 else 0.0)
                xb += power * (square * x_odd + o2 * signed_square[k] * x_even)
                xb_R += power * (square * x_odd_R + o2 * signed_square[k] * x_even_R)
                power *= rho
            w = weight[j]
            total[0] += w * (outer[0, a] * aa + outer[1, a] * xx)
            total[1] += w * (outer[0, a] * aa_R + outer[1, a] * xx_R)
            total[2] += w * (outer[2, a] * ab + outer[3, a] * xb)
            total[3] += w * (outer[2, a] * ab_R + outer[3, a] * xb_R)
    return total


@jit
def series_averages(series: Array, S: float, gamma: float, D: float) -> Derivatives:
    """Return P, I2, G, each followed by its derivatives in gamma and D, for a `leaky_series`.

    As in `_closed_forms.averages`: a negative gamma is the state (-gamma, -R), and outside
    0 <= D <= 2, where an integrator may look, the averages go on along their tangents.
    """
    inside = min(max(D, 0.0), 2.0)
    if gamma >= 0.0:
        return along_tangent(_inside(series, S, gamma, inside), D - inside)
    return along_tangent(mirrored(_inside(series, S, -gamma, 2.0 - inside)), D - inside)


@jit
def _inside(series: Array, S: float, gamma: float, D: float) -> Derivatives:
    """The averages for gamma >= 0 and 0 <= D <= 2."""
    delta, width, P_1, I2_2, noise, across, miss = series[0, :7]
    near = min(D, 2.0 - D)
    x = math.asinh(2.0 * math.atan2(math.sqrt(near), math.sqrt(2.0 - near)) / delta)
    t = 2.0 * x / width - 1.0
    first = 1 if D <= 1.0 else 1 + _N_ROWS
    # Clenshaw's recurrence for all series, and for the slope of kappa, side by side.
    k1 = k2 = s1 = s2 = p1 = p2 = a1 = a2 = b1 = b2 = c1 = c2 = d1 = d2 = 0.0
    for n in range(series.shape[1] - 1, 0, -1):
        s1, s2 = 2.0 * k1 + 2.0 * t * s1 - s2, s1
        k1, k2 = series[first, n] + 2.0 * t * k1 - k2, k1
        p1, p2 = series[first + 1, n] + 2.0 * t * p1 - p2, p1
        a1, a2 = series[first + 2, n] + 2.0 * t * a1 - a2, a1
        b1, b2 = series[first + 3, n] + 2.0 * t * b1 - b2, b1
        c1, c2 = series[first + 4, n] + 2.0 * t * c1 - c2, c1
        d1, d2 = series[first + 5, n] + 2.0 * t * d1 - d2, d1
    kappa_t = k1 + t * s1 - s2
    kappa = series[first, 0] + t * k1 - k2
    P0 = series[first + 1, 0] + t * p1 - p2
    I0 = series[first + 2, 0] + t * a1 - a2
    I1 = series[first + 3, 0] + t * b1 - b2
    I0_R = series[first + 4, 0] + t * c1 - c2
    I1_R = series[first + 5, 0] + t * d1 - d2
    R = 1.0 - D
    sine2 = D * (2.0 - D)
    # d(kappa)/dD = d(kappa)/d(theta) / sin(theta), and theta = delta sinh(x) from either end.
    slope = math.sqrt(sine2) * kappa_t * 2.0 / (width * delta * math.cosh(x))
    if D > 1.0:
        slope = -slope
    I2 = I0 + gamma * (I1 + gamma * I2_2) + noise * S
    I2 += across * sine2 + miss * ((1.0 - gamma) ** 2 + 2.0 * gamma * D)
    I2_g = I1 + 2.0 * gamma * I2_2 - 2.0 * miss * (R - gamma)
    I2_D = 2.0 * (across * R + miss * gamma) - I0_R - gamma * I1_R
    G_D = 2.0 * R * kappa + slope
    return Derivatives(P0 + P_1 * gamma, P_1, -kappa, I2, I2_g, I2_D, sine2 * kappa, 0.0, G_D)


# --- Any student and teacher ----------------------------------------------------------------------

_FIELD_LIMIT = 10.0  # beyond, the normal law has 1e-23
_PAIR_TOLERANCE = 1e-10  # last quarter of the pair's series, relative to I2
_PAIR_FLOOR = 1e-14  # and its rounding, where I2 is 0
_SPLIT_BELOW = 16  # degrees of freedom beyond which batches of one sign do not matter
# Of pieces of about unit width: twice the nodes change averages of smooth pairs by 2e-16.
_LEGENDRE = np.polynomial.legendre.leggauss(16)
_FEWER = np.polynomial.legendre.leggauss(12)


def batch_averages(
    normalizer: str,
    M: int,
    student: LeakyReLU | Student,
    teacher: LeakyReLU | Student,
    S: float,
    gamma: float,
    D: float,
) -> Averages:
    """Return P, I2 and G of one step of batch normalization, per sample.

    Parameters
    ----------
    normalizer : {"bn", "bn-var", "bn-mean"}
        What is taken from the batch: mean and variance, mean square, or mean.
    M : int
        Batch size.
    student, teacher : LeakyReLU or Student
        Both leaky: series, exact to about 1e-14 of the largest term. Otherwise quadrature, to
        about 1e-10 when both are smooth. Near R = 1 kinks leave 1e-6 (1e-3 in batches below eight)
        when both have them, and the jump of a teacher 1e-4 in batches below eight.
    S, gamma, D : float
        Variance of the label noise, output scale, 1 - R.

    Returns
    -------
    Averages
        P, I2 and G per sample, see the head of the module; the rates of gamma, L^4 and R follow as
        they do from those of a single sample. I2 is NaN where a smooth student is too steep, as
        tanh(100 u), for a small batch.

    Raises
    ------
    ValueError
        If I2 is infinite: for M < 4 ("bn"), M < 3 ("bn-var"), M < 2 ("bn-mean").

    Examples
    --------
    >>> from replica.students import LINEAR
    >>> P, I2, G = batch_averages("bn", 8, LINEAR, LINEAR, 0.0, 0.9, 0.5)
    >>> round(I2, 12) == round((8 - 2) / (8 - 3) * (1 - 0.5**2), 12)
    True
    """
    refuse_small_batch(normalizer, M)
    if isinstance(student, LeakyReLU) and isinstance(teacher, LeakyReLU):
        series = leaky_series(normalizer, M, student.slope, teacher.slope)
        at = series_averages(series, S, gamma, D)
        return Averages(at.P, at.I2, at.G)
    return by_quadrature(normalizer, M, student, teacher, S, gamma, D)


def by_quadrature(
    normalizer: str,
    M: int,
    student: LeakyReLU | Student,
    teacher: LeakyReLU | Student,
    S: float,
    gamma: float,
    D: float,
) -> Averages:
    """`batch_averages` of any pair."""
    c, s, _ = _NORMALIZERS[normalizer]
    # Outside [0, 2], where an integrator may look, G goes on through its zero.
    sine2, D = D * (2.0 - D), min(max(D, 0.0), 2.0)
    R = 1.0 - D
    sine = max(math.sqrt(D * (2.0 - D)), 1e-9)  # finer steps than this are not resolved
    known = teacher.table(16.0)  # the widest field is |R| 10 + sine 9
    jumps = known.series[0] @ np.ones(known.series.shape[2])
    signs = (-1.0) ** np.arange(known.series.shape[2])
    jumps = known.series[0, 1:] @ signs - jumps[:-1]
    jumps[np.abs(jumps) < 1e-9] = 0.0  # what the interpolation of a continuous one leaves
    cuts = _union(
        np.arange(-_FIELD_LIMIT, _FIELD_LIMIT + 1),
        (known.breaks / R if R else np.empty(0)),
        *((kink + sine * STEP_CUTS) / R for kink in known.kinks if R),
        limit=_FIELD_LIMIT,
    )
    smoothed = _smooth(known.breaks, known.series, jumps, R, sine, cuts, *_LEGENDRE)
    own = student.table(2.0 ** math.ceil(math.log2(max(abs(gamma), 1.0))) * 16.0)
    steep = bool(teacher.kinks) and sine < 0.5 * abs(R)
    steps = np.array([kink / R for kink in known.kinks]) if R else np.empty(0)
    own_cuts = own.breaks / gamma if gamma else np.empty(0)
    outer = _outer_rule(c, s, M, steep)
    P = I2 = kappa = tail = math.nan
    for K in (96,) if steep or student.kinks else (32, 96, 256):
        kernel, factors = _kernel(c, s, M, K)
        P, I2, kappa, tail = _sum_batch(
            *outer, c, s, M, gamma, S, own.breaks, own.series, cuts, smoothed, own_cuts, steps,
            sine / abs(R) if R else 0.0, STEP_CUTS, kernel, factors, *_FEWER,
        )  # fmt: skip
        if steep or student.kinks or tail < _PAIR_TOLERANCE * I2 + _PAIR_FLOOR:
            break
    else:
        if tail > 1e-6 * I2:  # too steep a student for the longest series
            I2 = math.nan
    return Averages(P, I2, sine2 * kappa)


def _union(*points: Array, limit: float) -> Array:
    """The points within the limit, sorted, without near duplicates."""
    x = np.unique(np.concatenate([*points, [-limit, limit]]))
    x = x[np.abs(x) <= limit]
    return x[np.append(True, np.diff(x) > 1e-12)]  # shorter pieces hold nothing


@lru_cache(maxsize=32)
def _kernel(c: int, s: int, M: int, K: int) -> tuple[Array, Array]:
    """r_k of the pair, and the factors B_k of h p_k = B_{k+1} p_{k+1} + B_k p_{k-1}."""
    n, rho = M - c, -c / (M - 1)
    k = np.arange(1.0, K + 2)
    if not s:
        r = rho ** np.arange(K + 1.0)
        B = np.sqrt((1 - c / M) * k)
    else:
        r = np.ones(K + 1)
        r[1] = rho
        for i in range(1, K):
            r[i + 1] = ((2 * i + n - 2) * rho * r[i] - i * r[i - 1]) / (i + n - 2)
        B = np.sqrt(n * k * (k + n - 3) / ((2 * k + n - 2) * (2 * k + n - 4)))
    # Kinks leave slowly decaying terms that oscillate: they are faded out.
    r *= np.exp(-36 * (np.arange(K + 1) / K) ** 16)
    kept = int(np.flatnonzero(np.abs(r) > 1e-15)[-1]) + 1  # less is below the rounding of the sum
    B = np.concatenate([[0.0], B[: kept + 1]])
    return r[:kept], B


@lru_cache(maxsize=32)
def _outer_rule(c: int, s: int, M: int, steep: bool) -> tuple[Array, Array, Array]:
    """Nodes sigma_B and ubar, and their weights.

    (sigma_B, ubar) is a vector of length |u|/sqrt(M) whose direction is independent of it; fields
    are smooth functions of the two, not of sigma_B and ubar near 0.
    """
    if not s:
        if steep:  # the pair's kinks meet at 0
            x, w = _panels(np.array([-8.5, -3.0, 0.0, 3.0, 8.5]), 14)
            w = w * _PHI0 * np.exp(-x * x / 2)
        else:
            x, w = np.polynomial.hermite_e.hermegauss(24)
        return np.ones_like(x), x / math.sqrt(M), w / w.sum()
    n = M - c
    # |u| / sqrt(M) has the density x^(M-1) exp(-M x^2/2); rules are made for I2, which has x^-2.
    fine, w = _panels(np.linspace(max(0.0, 1 - 6 / math.sqrt(M)), 1 + 6 / math.sqrt(M), 7), 24)
    length, w = _gauss_rule(fine, w * np.exp((M - 3) * np.log(fine) - M * (fine**2 - 1) / 2), 14)
    w = w * length**2
    if not c:
        return length, np.zeros_like(length), w / w.sum()
    top = min(math.pi / 2, 8.5 / math.sqrt(n))
    # The kinks of student and teacher may meet at ubar = 0; and beyond `side`, where all fields of
    # the batch have the sign of their mean, a kink has left it.
    side = math.atan(math.sqrt(n))
    if not steep:
        edges = [-top, top]
    elif n > _SPLIT_BELOW:
        edges = [-top, 0.0, top]
    else:
        edges = [-math.pi / 2, -side, 0.0, side, math.pi / 2]
    parts = []
    for low, high in pairwise(edges):
        fine, v = _panels(np.linspace(low, high, 7), 24)
        parts.append(
            _gauss_rule(
                fine,
                v * np.cos(fine) ** (n - 3),
                18 if low < 0 < high else 12 if low * high == 0.0 else 8,
            )
        )
    angle, v = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    v = v * np.cos(angle) ** 2
    weight = np.outer(w / w.sum(), v / v.sum())
    kept = weight > 1e-14 * weight.max()  # less is below the rounding of the sum
    return (
        np.outer(length, np.cos(angle))[kept],
        np.outer(length, np.sin(angle))[kept],
        weight[kept],
    )


def _gauss_rule(x: Array, w: Array, n: int) -> tuple[Array, Array]:
    """The n-point Gauss rule of the measure that a finer rule stands for."""
    total = w.sum()
    w = w / total
    diagonal, off = np.empty(n), np.zeros(n)
    before, p = np.zeros_like(x), np.ones_like(x)
    for k in range(n):
        diagonal[k] = w @ (x * p * p)
        before, p = p, (x - diagonal[k]) * p - off[k] * before
        if k < n - 1:
            off[k + 1] = math.sqrt(w @ (p * p))
            p /= off[k + 1]
    nodes, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(off[1:], 1) + np.diag(off[1:], -1))
    return nodes, total * vectors[0] ** 2


@jit
def _smooth(breaks, series, jumps, R, sine, cuts, x, w):
    """E[g(z)], E[g'(z)] and E[g(z)^2] given u, as series between the cuts in u."""
    n = x.size
    degree = series.shape[2] - 1
    out = np.zeros((3, cuts.size - 1, n))
    values = np.empty((3, n))
    for i in range(cuts.size - 1):
        middle, half = (cuts[i] + cuts[i + 1]) / 2, (cuts[i + 1] - cuts[i]) / 2
        for j in range(n):
            u = middle + half * math.cos(math.pi * (j + 0.5) / n)
            mean = slope = square = 0.0
            for p in range(breaks.size - 1):
                low = max((breaks[p] - R * u) / sine, -9.0)
                high = min((breaks[p + 1] - R * u) / sine, 9.0)
                if p and -9.0 < low < 9.0:
                    slope += jumps[p - 1] * _PHI0 * math.exp(-low * low / 2) / sine
                if high <= low:
                    continue
                pieces = int((high - low) / 3.0) + 1
                width = (high - low) / pieces
                scale = 2.0 / (breaks[p + 1] - breaks[p])
                for k in range(pieces):
                    for m in range(x.size):
                        v = low + width * (k + (1 + x[m]) / 2)
                        t = (R * u + sine * v - breaks[p]) * scale - 1.0
                        a1 = a2 = b1 = b2 = 0.0
                        for q in range(degree, 0, -1):
                            a1, a2 = series[0, p, q] + 2.0 * t * a1 - a2, a1
                            b1, b2 = series[1, p, q] + 2.0 * t * b1 - b2, b1
                        g = series[0, p, 0] + t * a1 - a2
                        weight = w[m] * width / 2 * _PHI0 * math.exp(-v * v / 2)
                        mean += weight * g
                        square += weight * g * g
                        slope += weight * (series[1, p, 0] + t * b1 - b2)
            values[0, j], values[1, j], values[2, j] = mean, slope, square
        for q in range(n):
            for j in range(n):
                f = math.cos(q * math.pi * (j + 0.5) / n) * (2.0 if q else 1.0) / n
                for m in range(3):
                    out[m, i, q] += f * values[m, j]
    return out


@jit
def _sum_batch(
    sigmas, means, weights, c, s, M, gamma, S, own_breaks, own_series, cuts, smoothed, own_cuts,
    steps, step_width, step_cuts, kernel, factors, x, w,
):  # fmt: skip
    """P, I2, kappa and the end of the pair's series; for each (sigma_B, ubar) a rule in h."""
    n = M - c
    K = kernel.size
    lanes = x.size
    f = np.empty(K + 1)
    f_lanes = np.empty((K + 1, lanes))  # one column for each node of a panel: no serial sums
    now, last, weighted, h_lanes = np.empty((4, lanes))
    # h = radius sin(angle) on the sphere, h itself for Gaussian fields.
    radius = math.sqrt(float(n))
    spread = math.sqrt(1.0 - c / M)
    if s:
        top = min(math.pi / 2, math.sqrt(72.0 / n))
        norm = math.exp(math.lgamma(n / 2) - math.lgamma((n - 1) / 2)) / math.sqrt(math.pi)
        h_top = radius * math.sin(top)
    else:
        h_top = top = 8.5 * spread
        norm = _PHI0 / spread
    n_base = math.ceil(h_top)
    if s:  # p_K oscillates K / 2 times
        n_base = max(n_base, math.ceil(1.6 * K * 2 * top / math.pi / x.size))
    shape = 1.0 - c / M
    edges = np.empty(n_base + 1 + 2 * (own_cuts.size + steps.size * step_cuts.size))
    P = I2 = kappa = tail = 0.0
    for i in range(sigmas.size):
        sigma, mean = sigmas[i], means[i]
        count = n_base + 1
        for k in range(count):
            edges[k] = top * (2.0 * k / n_base - 1.0)
        for k in range(own_cuts.size + steps.size * step_cuts.size):
            if k < own_cuts.size:
                h = own_cuts[k]
            else:
                a, b = divmod(k - own_cuts.size, step_cuts.size)
                h = (steps[a] + step_width * step_cuts[b] - mean) / sigma
            for _ in range(2 if M == 2 else 1):
                if abs(h) < h_top:
                    edges[count] = math.asin(h / radius) if s else h
                    count += 1
                h = -h
        edges[:count].sort()
        f_lanes[:] = 0.0
        own_P = own_I2 = own_kappa = mirrored = 0.0
        for k in range(count - 1):
            half = (edges[k + 1] - edges[k]) / 2
            if half < 1e-14:  # holds nothing
                continue
            for m in range(lanes):
                at = edges[k] + half * (1 + x[m])
                if s:
                    h = radius * math.sin(at)
                    density = norm * math.cos(at) ** (n - 2)
                else:
                    h = at
                    density = norm * math.exp(-((at / spread) ** 2) / 2)
                weight = w[m] * half * density
                g, slope, _ = activation_at(own_breaks, own_series, gamma * h)
                u = min(max(mean + sigma * h, cuts[0]), cuts[-1])
                T, T_u, T2 = activation_at(cuts, smoothed, u)
                delta = slope * (T - g)
                free = shape - s * h * h / M
                own_P += weight * h * delta
                own_kappa += weight * free * slope * T_u
                own_I2 += weight * free * slope * slope * (T2 + S - 2 * g * T + g * g)
                if M == 2:
                    g, slope, _ = activation_at(own_breaks, own_series, -gamma * h)
                    u = min(max(mean - sigma * h, cuts[0]), cuts[-1])
                    mirrored += weight * delta * slope * (activation_value(cuts, smoothed, u) - g)
                    continue
                h_lanes[m], weighted[m] = h, weight * delta
                last[m], now[m] = 0.0, 1.0
                f_lanes[0, m] += weight * delta
            if M == 2:
                continue
            for q in range(K):
                up, down = 1.0 / factors[q + 1], factors[q] / factors[q + 1]
                column = f_lanes[q + 1]
                for m in range(lanes):
                    new = up * h_lanes[m] * now[m] - down * last[m]
                    last[m] = now[m]
                    now[m] = new
                    column[m] += weighted[m] * new
        for q in range(K + 1):
            f[q] = f_lanes[q].sum()
        pair = mirrored
        if M > 2:
            for q in range(K):
                both = factors[q + 1] * f[q + 1] + (factors[q] * f[q - 1] if q else 0.0)
                term = kernel[q] * (c * f[q] ** 2 + s * both**2)
                pair += term
                if 4 * q >= 3 * K:
                    tail += weights[i] * abs(term) / (sigma * sigma)
        P += weights[i] * own_P
        kappa += weights[i] * own_kappa / sigma
        I2 += weights[i] * (own_I2 - (1.0 - 1.0 / M) * pair) / (sigma * sigma)
    return P, I2, kappa, tail
