"""Piecewise-linear students of a linear teacher on inputs of any modes, at zero temperature.

The cone moments of `_piecewise` are the channel, the sums over the modes of `_weights` the other
half; Newton's method joins them, compiled. What the inputs do not carry of a linear teacher's field
is noise like any other: S grows by it, and the field shrinks to its explained part, which is the
unit here. Without decay and above the interpolation threshold nothing depends on the modes but
their rank, and the problem is the isotropic one at the load alpha/rank; below, chi is infinite and
kappa = zeta/V_hat takes its place.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from replica._core.jit import jit
from replica._core.status import Status

from ._fixed_point import newton_step
from ._piecewise import Branch, cone_saddle, excess_error, piecewise_point, relu_interpolates
from ._ridge import Point, write_point
from ._spectrum_ridge import spectrum_point
from ._weights import ridge_sums

__all__ = ["solve_structured", "structured_error", "structured_errors", "structured_point"]

_CONVERGED = int(Status.CONVERGED)
_DIVERGENT = int(Status.DIVERGENT)
_MAX_ITERATIONS = int(Status.MAX_ITERATIONS)
_RESIDUAL = 1e-10
# The channel at a chi so large is that at infinity to the last digit: it comes near as 1/sqrt(chi).
_INFINITE_CHI = 1e40
# A first decay from which the solution without any is looked for.
_SMALL_ZETA = 1e-4
# Rounding of a sum of weights.
_ROUNDED = 4.5e-16


@jit
def _residuals(modes: Any, alpha: float, S: float, zeta: float, a: float, x: Any, out: Any) -> Any:
    """Write residuals and their Jacobian; return the training error, dead fraction and V_hat.

    x = (chi or kappa, m, 1 - m, v), in units of the teacher's explained field; the unknowns are
    ln x[0], m and ln v. Without decay x[0] is kappa.
    """
    cold = zeta == 0.0
    chi = _INFINITE_CHI if cold else x[0]
    m, h, v = x[1], x[2], x[3]
    c = cone_saddle(chi, m, h, v, S, a)
    X_l = 0.0 if cold else c.X_l
    Z_l = 0.0 if cold else c.Z_l
    W_l = 0.0 if cold else c.W_l
    W_m = 2.0 * (c.Y_l - c.Y - h * (c.X - c.X_l))
    W_v = v * (c.X - c.X_l)
    E = modes.explained
    if cold:
        # in units of V_hat
        sums = ridge_sums(modes, x[0], 1.0)
        m_hat = c.Z / c.X
        q_hat = c.W / (alpha * c.X * c.X)
        V = math.nan
        out[0, 3] = math.log(alpha * c.X / sums.chi)
        out[0, 0] = 1.0 - sums.A1 / sums.chi
        P1_l = (sums.P2 - sums.P1) / E
        A1_l = 2.0 * (sums.A2 - sums.A1)
        spread_l = -(2.0 * sums.spread + sums.spread_V) / E
        m_hat_l = q_hat_l = 0.0
        left = x[0] * sums.P0 / E + (1.0 - m_hat) * sums.P1 / E
    else:
        V = alpha * c.X / chi
        m_hat = alpha * c.Z / chi
        q_hat = alpha * c.W / (chi * chi)
        sums = ridge_sums(modes, zeta, V)
        V_l = alpha * (X_l - c.X) / chi
        out[0, 3] = math.log(chi / sums.chi)
        out[0, 0] = 1.0 + sums.A1 / sums.chi * V_l
        P1_l = -sums.P2 / E * V_l
        A1_l = -2.0 * sums.A2 * V_l
        spread_l = sums.spread_V / E * V_l
        m_hat_l = alpha * (Z_l - c.Z) / chi
        q_hat_l = alpha * (W_l - 2.0 * c.W) / (chi * chi)
        left = zeta * sums.P0 / E - alpha * c.Y / chi * sums.P1 / E
    P1 = sums.P1 / E
    spread = sums.spread / E
    # the maps: m = m_hat P1, h = left, v = q_hat A1 + m_hat^2 spread
    new_v = q_hat * sums.A1 + m_hat * m_hat * spread
    out[1, 3] = h - left if m > 0.5 else m_hat * P1 - m
    out[2, 3] = math.log(new_v / v)
    out[1, 0] = m_hat_l * P1 + m_hat * P1_l
    out[2, 0] = q_hat_l * sums.A1 + q_hat * A1_l
    out[2, 0] += 2.0 * m_hat * m_hat_l * spread + m_hat * m_hat * spread_l
    for k in range(1, 3):
        X_k, Z_k, W_k = (c.X_m, c.Z_m, W_m) if k == 1 else (c.X_v, c.Z_v, W_v)
        if cold:
            out[0, k] = X_k / c.X
            m_hat_k = (Z_k - m_hat * X_k) / c.X
            q_hat_k = (W_k / (alpha * c.X) - 2.0 * q_hat * X_k) / c.X
            out[1, k] = m_hat_k * P1
            out[2, k] = q_hat_k * sums.A1 + 2.0 * m_hat * m_hat_k * spread
        else:
            V_k = alpha * X_k / chi
            m_hat_k = alpha * Z_k / chi
            q_hat_k = alpha * W_k / (chi * chi)
            out[0, k] = sums.A1 / sums.chi * V_k
            out[1, k] = m_hat_k * P1 - m_hat * sums.P2 / E * V_k
            out[2, k] = (q_hat_k - 2.0 * q_hat / sums.A1 * sums.A2 * V_k) * sums.A1
            out[2, k] += 2.0 * m_hat * m_hat_k * spread + m_hat * m_hat * sums.spread_V / E * V_k
    for k in range(3):
        out[2, k] /= new_v
    out[1, 1] -= 1.0
    out[2, 2] -= 1.0
    return c.train, c.dead


@jit
def _newton(
    modes: Any, alpha: float, S: float, zeta: float, a: float, x: Any, max_iter: int
) -> Branch:
    """Damped Newton iteration on (ln x[0], m, ln v) from x, which it moves.

    It ends as the isotropic one does: a full step below 1e-7, and the residual after it small.
    """
    out = np.empty((3, 4))
    accepted = x.copy()
    norm0 = math.inf
    d0 = d1 = d2 = 0.0
    damping = 1.0
    small = False
    train = dead = math.nan
    for n_iter in range(max_iter):
        train, dead = _residuals(modes, alpha, S, zeta, a, x, out)
        scale = max(abs(x[2]), math.sqrt(x[3])) if x[1] > 0.5 else abs(x[1])
        r0, r1, r2 = out[0, 3], out[1, 3], out[2, 3]
        norm = max(abs(r0), abs(r1) / scale, abs(r2))
        if small and norm < _RESIDUAL:
            return Branch(x[0], x[1], x[2], x[3], n_iter, norm, train, dead, True)
        if not norm < 10.0 * norm0 and n_iter > 0:
            if damping < 1e-6:
                break
            damping *= 0.25
        else:
            norm0 = norm
            accepted[:] = x
            d0, d1, d2 = newton_step(
                out[0, 0], out[0, 1], out[0, 2], out[1, 0], out[1, 1], out[1, 2],
                out[2, 0], out[2, 1], out[2, 2], r0, r1, r2,
            )  # fmt: skip
            size = max(abs(d0), abs(d1) / scale, abs(d2))
            if not size < math.inf:
                break
            small = max(abs(d1) / scale, abs(d2)) < 1e-7 and abs(d0) < max(
                1e-7, 1e-15 * accepted[0]
            )
            damping = min(1.0, 2.0 / size)
        x[0] = accepted[0] * math.exp(damping * d0)
        x[1] = accepted[1] + damping * d1
        x[2] = accepted[2] - damping * d1
        x[3] = accepted[3] * math.exp(damping * d2)
    return Branch(x[0], x[1], x[2], x[3], max_iter, norm0, train, dead, False)


@jit
def _start(modes: Any, alpha: float, S: float, zeta: float, a: float, x: Any) -> None:
    """Write a first guess (chi, m, h, v): every sample on the branch of its label's sign."""
    low, high = 0.0, 0.5 * alpha * (1.0 + a * a)
    V = 0.5 * high
    sums = ridge_sums(modes, zeta, V)
    for _ in range(60):
        n1, na = 1.0 / (1.0 + sums.chi), 1.0 / (1.0 + a * a * sums.chi)
        gap = V - 0.5 * alpha * (n1 + a * a * na)
        if gap > 0.0:
            high = V
        else:
            low = V
        step = gap / (1.0 - 0.5 * alpha * (n1 * n1 + (a * na) ** 2 * a * a) * sums.A1)
        new = V - step
        if not low < new < high:
            new = 0.5 * (low + high)
        done = abs(new - V) <= 0.01 * V
        V = new
        sums = ridge_sums(modes, zeta, V)
        if done:
            break
    chi = sums.chi
    E = modes.explained
    k1, ka = chi / (1.0 + chi), a * chi / (1.0 + a * a * chi)
    m_hat = 0.5 * alpha * (k1 + ka) / chi
    m = m_hat * sums.P1 / E
    h = 1.0 - m
    gain = alpha * sums.A1 / (chi * chi)
    w1, wa = 0.5 * gain * k1 * k1, 0.5 * gain * ka * ka
    v = w1 * (h * h + S) + wa * ((1.0 - a + a * h) ** 2 + S) + m_hat * m_hat * sums.spread / E
    left = max(1.0 - w1 - a * a * wa, 0.05)
    x[0], x[1], x[2], x[3] = chi, m, h, v / left


@jit
def _regularized(modes: Any, alpha: float, S: float, zeta: float, a: float) -> Branch:
    """The saddle point with decay: from the guess, else followed down from a larger decay."""
    x = np.empty(4)
    _start(modes, alpha, S, zeta, a, x)
    point = _newton(modes, alpha, S, zeta, a, x, 40)
    total = point.n_iter
    if point.found:
        return point
    mean = modes.weight @ modes.s
    z = max(mean, 10.0 * zeta)
    _start(modes, alpha, S, z, a, x)
    point = _newton(modes, alpha, S, z, a, x, 60)
    total += point.n_iter
    last = x.copy()
    factor = 0.1
    while point.found and z > zeta and factor < 0.999:
        z_next = max(z * factor, zeta)
        last[:] = x
        trial = _newton(modes, alpha, S, z_next, a, x, 30)
        total += trial.n_iter
        if trial.found:
            z, point = z_next, trial
            factor = max(factor * factor, 1e-3)
        else:
            x[:] = last
            factor = math.sqrt(factor)
    found = point.found and z == zeta
    return Branch(
        point.chi, point.m, point.h, point.v, total, point.residual, point.train, point.dead, found
    )


@jit
def _interpolating(modes: Any, alpha: float, S: float, a: float) -> Branch:
    """The saddle point without decay below the threshold; `chi` of the result is kappa."""
    x = np.empty(4)
    zeta = _SMALL_ZETA * (modes.weight @ modes.s)
    total = 0
    point = _regularized(modes, alpha, S, zeta, a)
    while point.found:
        total += point.n_iter
        X = cone_saddle(point.chi, point.m, point.h, point.v, S, a).X
        x[0] = zeta * point.chi / (alpha * X)
        x[1], x[2], x[3] = point.m, point.h, point.v
        limit = _newton(modes, alpha, S, 0.0, a, x, 40)
        total += limit.n_iter
        if limit.found or zeta < 1e-12:
            point = limit
            break
        zeta *= 1e-2
        point = _regularized(modes, alpha, S, zeta, a)
    return Branch(
        point.chi,
        point.m,
        point.h,
        point.v,
        total,
        point.residual,
        point.train,
        point.dead,
        point.found,
    )


@jit
def _linear_point(modes: Any, alpha: float, S: float, zeta: float) -> Point:
    """The linear student, with the square loss: one scalar root."""
    found = spectrum_point(alpha, S, zeta, modes.s, modes.powers, modes.weight)
    E = modes.explained
    gamma = math.sqrt(found.q)
    R = min(found.m / (gamma * math.sqrt(E)), 1.0) if gamma > 0.0 and E > 0.0 else 0.0
    if found.status == _DIVERGENT:
        R = 0.0
    train = found.train_error
    energy = 0.5 * alpha * train
    if zeta > 0.0:
        energy += 0.5 * zeta * found.norm2
    dead = 0.0
    if found.chi < math.inf and E > 0.0:
        sigma = math.sqrt(E + S)
        mu = found.m / sigma
        sums = ridge_sums(modes, found.kappa, 1.0)
        tau2 = sums.spread + sums.A1 / alpha * (found.gen_error + S) + mu * mu * S / E
        dead = math.atan2(math.sqrt(tau2), mu + found.chi * sigma) / (2.0 * math.pi)
    if found.status > _DIVERGENT:
        energy = dead = math.nan
    return Point(
        gamma,
        R,
        found.chi,
        found.gen_error,
        train,
        energy,
        dead,
        found.residual,
        found.replicon,
        found.n_iter,
        found.status,
    )


@jit
def structured_point(modes: Any, alpha: float, S: float, zeta: float, a: float) -> Point:
    """Equilibrium at one point, for a slope from 0 to 1; a linear teacher."""
    E, U = modes.explained, modes.unexplained
    noise = S + U
    if a == 1.0:
        p = _linear_point(modes, alpha, noise, zeta)
        R = p.R * math.sqrt(E / modes.rho)
        return Point(
            p.gamma,
            R,
            p.chi,
            p.gen_error + U,
            p.train_error,
            p.energy,
            p.dead_fraction,
            p.residual,
            p.replicon,
            p.n_iter,
            p.status,
        )
    s = noise / E
    size = math.sqrt(E)
    share = math.sqrt(E / modes.rho)
    load = alpha / modes.rank
    if abs(load - 1.0) <= _ROUNDED:
        load = 1.0
    fits = zeta == 0.0 and (load <= 1.0 if a > 0.0 else relu_interpolates(load, s))
    if zeta == 0.0 and (not fits or load == (1.0 if a > 0.0 else 2.0)):
        p = piecewise_point(load, s, 0.0, a)
        train = p.train_error * E
        return Point(
            p.gamma * size,
            p.R * share,
            p.chi,
            p.gen_error * E + U,
            train,
            0.5 * alpha * train,
            p.dead_fraction,
            p.residual,
            p.replicon,
            p.n_iter,
            p.status,
        )
    b = _interpolating(modes, alpha, s, a) if fits else _regularized(modes, alpha, s, zeta, a)
    if not b.found:
        nan = math.nan
        return Point(nan, nan, nan, nan, nan, nan, nan, b.residual, nan, b.n_iter, _MAX_ITERATIONS)
    root_v = math.sqrt(b.v)
    gamma = math.hypot(root_v, b.m)
    R = min(b.m / gamma, 1.0)
    eps = 0.5 * (1.0 - a) ** 2 / (1.0 + a * a) + excess_error(b.m, b.h, root_v, a)
    train = b.train * E
    energy = 0.5 * alpha * train
    replicon = -math.inf  # u jumps, and the square of a delta function diverges
    chi = b.chi
    if fits:
        chi = math.inf
        sums = ridge_sums(modes, b.chi, 1.0)
        held = 1.0
        if a == 0.0:
            held = 0.5 + math.acos(min(R / math.sqrt(1.0 + s), 1.0)) / (2.0 * math.pi)
        replicon = 1.0 - alpha * held * sums.A1 / (sums.chi * sums.chi)
    else:
        c = cone_saddle(chi, b.m, b.h, b.v, s, a)
        V = alpha * c.X / chi
        m_hat = alpha * c.Z / chi
        q_hat = alpha * c.W / (chi * chi)
        length = 0.0
        for k in range(modes.s.size):
            t = 1.0 / (zeta + V * modes.s[k])
            st2 = modes.s[k] * t * t
            length += (m_hat * m_hat * modes.powers[k] / E + q_hat * modes.weight[k]) * st2
        energy += 0.5 * zeta * length * E
    return Point(
        gamma * size,
        R * share,
        chi,
        eps * E + U,
        train,
        energy,
        b.dead,
        b.residual,
        replicon,
        b.n_iter,
        _CONVERGED,
    )


@jit
def structured_error(modes: Any, alpha: float, S: float, zeta: float, a: float) -> float:
    """The generalization error alone; NaN where the solver failed."""
    return structured_point(modes, alpha, S, zeta, a).gen_error


@jit
def structured_errors(
    modes: Any, a: float, alpha: Any, S: Any, zeta: Any, eps: Any, start: int, stop: int
) -> None:
    """Fill ``eps[start:stop]`` with the generalization error alone."""
    for i in range(start, stop):
        eps[i] = structured_error(modes, alpha[i], S[i], zeta[i], a)


@jit
def solve_structured(
    modes: Any, alpha: Any, S: Any, zeta: Any, a: float, columns: Any, start: int, stop: int
) -> None:
    """Fill the columns from `start` to `stop`."""
    for i in range(start, stop):
        write_point(columns, i, structured_point(modes, alpha[i], S[i], zeta[i], a))
