"""Convex losses on inputs of any modes, linear student: labels that are signs, and residuals.

The channels are those of `_label_loss` and `_residual_loss`: with P = p - x the pull of the
proximal step, K = E[1 - p'], W = E[P^2] and G, the slope of the pull in the teacher's field,

    V_hat = alpha K/chi,   m_hat = alpha G/chi,   q_hat = alpha W/chi^2,

and the sums over the modes close the loop. Signs do not see the length of the teacher's field: it
is scaled to 1, the noise with it. The part of a linear teacher's field that the inputs do not carry
is noise. Without decay and with chi infinite, kappa = zeta/V_hat takes the place of chi.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from replica._core.jit import jit
from replica._core.status import Status

from ._fixed_point import newton_step
from ._label_loss import NORMAL, Law, agreement, label_point, moved, separability_load
from ._label_loss import _everything as label_averages
from ._label_loss import _sums as label_sums
from ._pull import new_nodes, pull, value_slope_curvature
from ._residual_loss import Found, failed, residual_point, write_found
from ._weights import linear_start, ridge_sums

__all__ = ["LABELS", "RESIDUALS", "solve_structured_loss"]

_CONVERGED = int(Status.CONVERGED)
_DIVERGENT = int(Status.DIVERGENT)
_MAX_ITERATIONS = int(Status.MAX_ITERATIONS)
_NEEDS_DECAY = int(Status.NEEDS_DECAY)
LABELS, RESIDUALS = 0, 1
_RESIDUAL = 1e-10
_LAST_STEP = 1e-7
_MOST_STEPS = 60
_LONGEST = 2.0
# Continuation in ln(zeta): first step, and the shortest; where it ends without decay, in units of
# the mean variance.
_FIRST_MOVE, _LEAST_MOVE = 2.0, 1e-3
_SMALL_ZETA = 1e-5
# Residuals so small that the loss is straight on both sides of a kink.
_TINY = 1e-9
# A decay so much larger than the pull of all samples makes the student that of Hebb.
_HEBB = 100.0


class _Sample(NamedTuple):
    """Averages over a sample, and their derivatives in ln chi, in m (v fixed) and in ln v."""

    K: float
    W: float
    G: float
    K_l: float
    W_l: float
    G_l: float
    K_m: float
    W_m: float
    G_m: float
    K_v: float
    W_v: float
    G_v: float


@jit
def _sample(kind, sides, law, E, chi, m, v, nodes, sums):
    """The channel; `law.S` is the noise, E the variance of the teacher's field."""
    if kind == RESIDUALS:
        h = E - m
        s2 = law.S + h * h / E + v
        s = math.sqrt(s2)
        p = pull(sides.plus, chi, 0.0, s, nodes)
        K_s, W_s = 0.5 * p.Kvv / s2, p.KPv / s  # in s^2
        K_l = p.K - p.KPv / s
        s2_m = -2.0 * h / E
        return _Sample(
            p.K, p.W, p.K, K_l, 2.0 * (p.W - p.KPP), K_l, K_s * s2_m, W_s * s2_m, K_s * s2_m,
            K_s * v, W_s * v, K_s * v,
        )  # fmt: skip
    c = label_sums(sides, law, chi, m, v, nodes, sums)
    return _Sample(
        c.K, c.W, c.G, c.K_l, c.W_l, c.G_l, c.K_m + 2.0 * m * c.K_q, c.W_m + 2.0 * m * c.W_q,
        c.G_m + 2.0 * m * c.G_q, v * c.K_q, v * c.W_q, v * c.G_q,
    )  # fmt: skip


class _Saddle(NamedTuple):
    """Where an iteration ended; `chi` is kappa without decay and with chi infinite."""

    chi: float
    m: float
    v: float
    residual: float
    n_iter: int
    found: bool


@jit
def _newton(kind, modes, alpha, zeta, limit, sides, law, x, m, v, nodes, sums):
    """Newton's method on (ln x, m, ln v) from a start; x is chi, or kappa if `limit`."""
    E, U = modes.explained, modes.unexplained
    share = U / (E * modes.rho)
    x0, m0, v0, scale0 = x, m, v, 1.0
    norm0 = math.inf
    d_l = d_m = d_v = 0.0
    damping = 1.0
    small = False
    J = np.empty((3, 3))
    for n in range(_MOST_STEPS):
        chi = 1.0 if limit else x
        c = _sample(kind, sides, law, modes.rho, chi, m, v, nodes, sums)
        if limit:
            at = ridge_sums(modes, x, 1.0)
            m_hat = c.G / c.K
            q_hat = c.W / (alpha * c.K * c.K)
            r1 = math.log(alpha * c.K / at.chi)
        else:
            V = alpha * c.K / chi
            at = ridge_sums(modes, zeta, V)
            m_hat = alpha * c.G / chi
            q_hat = alpha * c.W / (chi * chi)
            r1 = math.log(chi / at.chi)
        off = at.spread + share * at.P1 * at.P1
        off_V = at.spread_V - 2.0 * share * at.P1 * at.P2
        new_v = q_hat * at.A1 + m_hat * m_hat * off
        scale = abs(m) + 1e-6 * math.sqrt(v * modes.rho)
        r2 = m_hat * at.P1 - m
        r3 = math.log(new_v / v)
        norm = max(abs(r1), abs(r2) / scale, abs(r3))
        if small and norm < _RESIDUAL:
            return _Saddle(x, m, v, norm, n, True)
        if not norm < 4.0 * norm0:
            damping *= 0.25
            if damping < 1e-5:
                break
            x = x0 * math.exp(damping * d_l)
            m = moved(m0, damping * d_m, scale0)
            v = v0 * math.exp(damping * d_v)
            small = False
            continue
        norm0 = norm
        x0, m0, v0, scale0 = x, m, v, scale
        for k in range(3):
            if k == 0:
                K_k, W_k, G_k = (0.0, 0.0, 0.0) if limit else (c.K_l, c.W_l, c.G_l)
            elif k == 1:
                K_k, W_k, G_k = c.K_m, c.W_m, c.G_m
            else:
                K_k, W_k, G_k = c.K_v, c.W_v, c.G_v
            if limit:
                mh_k = (G_k - m_hat * K_k) / c.K
                qh_k = (W_k / (alpha * c.K) - 2.0 * q_hat * K_k) / c.K
                J[0, k] = K_k / c.K
                J[1, k] = mh_k * at.P1
                J[2, k] = qh_k * at.A1 + 2.0 * m_hat * mh_k * off
                if k == 0:  # sums of degree -1, -1, -2 and -2 in (kappa, 1)
                    J[0, 0] += 1.0 - at.A1 / at.chi
                    J[1, 0] += m_hat * (at.P2 - at.P1)
                    J[2, 0] += 2.0 * q_hat * (at.A2 - at.A1)
                    J[2, 0] -= m_hat * m_hat * (2.0 * off + off_V)
            else:
                drop = 1.0 if k == 0 else 0.0
                V_k = alpha * (K_k - drop * c.K) / chi
                mh_k = alpha * (G_k - drop * c.G) / chi
                qh_k = alpha * (W_k - 2.0 * drop * c.W) / (chi * chi)
                J[0, k] = drop + at.A1 / at.chi * V_k
                J[1, k] = mh_k * at.P1 - m_hat * at.P2 * V_k
                J[2, k] = qh_k * at.A1 - 2.0 * q_hat * at.A2 * V_k
                J[2, k] += 2.0 * m_hat * mh_k * off + m_hat * m_hat * off_V * V_k
            J[2, k] /= new_v
            # steps of m in units of its scale, and logarithms of the equations: far off they are
            # nearly linear in those of the unknowns
            if k == 1:
                for row in range(3):
                    J[row, 1] *= scale
        new_m = m_hat * at.P1
        if m != 0.0 and new_m / m > 0.0:
            r2 = math.log(new_m / m)
            for k in range(3):
                J[1, k] /= new_m
            J[1, 1] -= scale / m
        else:
            r2 /= scale
            for k in range(3):
                J[1, k] /= scale
            J[1, 1] -= 1.0
        J[2, 2] -= 1.0
        d_l, d_m, d_v = newton_step(
            J[0, 0], J[0, 1], J[0, 2], J[1, 0], J[1, 1], J[1, 2], J[2, 0], J[2, 1], J[2, 2],
            r1, r2, r3,
        )  # fmt: skip
        size = max(abs(d_l), abs(d_m), abs(d_v))
        if not size < math.inf:
            break
        small = size < _LAST_STEP
        damping = 1.0
        longest = size / _LONGEST
        if longest > 1.0:
            d_l, d_m, d_v = d_l / longest, d_m / longest, d_v / longest
        x *= math.exp(d_l)
        m = moved(m, d_m, scale)
        v *= math.exp(d_v)
    return _Saddle(x0, m0, v0, norm0, _MOST_STEPS, False)


@jit
def _start(kind, modes, alpha, zeta, sides, law, S, stiffness):
    """A first guess (chi, m, v), as if every sample pulled as it does at u = 0."""
    if kind == RESIDUALS:
        return linear_start(modes, alpha, S, zeta)
    plus = -value_slope_curvature(sides.plus, 0.0)[1]
    minus = -value_slope_curvature(sides.minus, 0.0)[1]
    at = ridge_sums(modes, zeta, alpha * stiffness)
    m_hat = alpha * agreement(law, 0.0, 1.0)[1] * (plus + minus)
    q_hat = 0.5 * alpha * (plus * plus + minus * minus)
    share = modes.unexplained / (modes.explained * modes.rho)
    off = at.spread + share * at.P1 * at.P1
    return at.chi, m_hat * at.P1, q_hat * at.A1 + m_hat * m_hat * off


@jit
def _regularized(kind, modes, alpha, zeta, sides, law, nodes, sums):
    """The saddle point of finite chi: from a guess, else along decreasing decay."""
    slope = abs(value_slope_curvature(sides.plus, 0.0)[1])
    curvature = value_slope_curvature(sides.plus, 0.0)[2]
    mean = modes.weight @ modes.s
    S = law.S
    if zeta > 0.0 or alpha > modes.rank:
        chi, m, v = _start(kind, modes, alpha, zeta, sides, law, S, 0.2 + curvature)
        found = _newton(kind, modes, alpha, zeta, False, sides, law, chi, m, v, nodes, sums)
        total = found.n_iter
        if found.found:
            return found
    else:
        total = 0
    high = max(zeta, _HEBB * alpha * (slope + curvature + 1.0) * mean)
    chi, m, v = _start(kind, modes, alpha, high, sides, law, S, 0.0)
    here = _newton(kind, modes, alpha, high, False, sides, law, chi, m, v, nodes, sums)
    total += here.n_iter
    low = math.log(max(zeta, _SMALL_ZETA * mean))
    at = math.log(high)
    before, before_at = here, at
    move = _FIRST_MOVE
    while here.found:
        if at == low:
            if math.exp(low) <= zeta:
                return _Saddle(here.chi, here.m, here.v, here.residual, total, True)
            last = _newton(
                kind, modes, alpha, zeta, False, sides, law, here.chi, here.m, here.v, nodes, sums
            )
            return _Saddle(last.chi, last.m, last.v, last.residual, total + last.n_iter, last.found)
        to = max(at - move, low)
        ratio = (to - at) / (at - before_at) if at != before_at else 0.0
        chi = here.chi * (here.chi / before.chi) ** ratio
        m = here.m + ratio * (here.m - before.m)
        v = here.v * (here.v / before.v) ** ratio
        z = zeta if to == low and zeta > 0.0 else math.exp(to)
        there = _newton(kind, modes, alpha, z, False, sides, law, chi, m, v, nodes, sums)
        total += there.n_iter
        if there.found:
            before, before_at = here, at
            here, at = there, to
            move *= 1.5
            if at == low and zeta > 0.0:
                return _Saddle(here.chi, here.m, here.v, here.residual, total, True)
        else:
            move *= 0.3
            if move < _LEAST_MOVE:
                break
    return _Saddle(math.nan, math.nan, math.nan, 1.0, total, False)


@jit
def _infinite_chi(kind, modes, alpha, limit, law, nodes, sums):
    """The saddle point without decay and with chi infinite, along increasing load.

    `chi` of the result is kappa.
    """
    low, high = limit.plus.breaks
    plus = low if low > 0.0 or high == math.inf else high
    low, high = limit.minus.breaks
    minus = low if low > 0.0 or high == math.inf else high
    at = min(alpha, 0.01 * modes.rank)
    # few samples, all of which are held
    x = (modes.weight @ modes.s) / at
    sums_ = ridge_sums(modes, x, 1.0)
    if kind == RESIDUALS:
        G, W = 1.0, law.S + modes.rho
    else:
        G = agreement(law, 0.0, 1.0)[1] * (plus + minus)
        W = 0.5 * (plus * plus + minus * minus)
    m = G * sums_.P1
    v = W / at * sums_.A1
    here = _newton(kind, modes, at, 0.0, True, limit, law, x, m, v, nodes, sums)
    total = here.n_iter
    before, before_at = here, at
    move = 1.0
    while here.found:
        if at >= alpha:
            return _Saddle(here.chi, here.m, here.v, here.residual, total, True)
        to = min(at * math.exp(move), alpha)
        if at == before_at:
            x, m, v = here.chi * at / to, here.m * to / at, here.v * to / at
        else:
            ratio = math.log(to / at) / math.log(at / before_at)
            x = here.chi * (here.chi / before.chi) ** ratio
            m = here.m * abs(here.m / before.m) ** ratio if here.m != 0.0 else 0.0
            v = here.v * (here.v / before.v) ** ratio
        there = _newton(kind, modes, to, 0.0, True, limit, law, x, m, v, nodes, sums)
        total += there.n_iter
        if there.found:
            before, before_at = here, at
            here, at = there, to
            move = min(move * 1.5, 2.0)
        else:
            move *= 0.3
            if move < _LEAST_MOVE:
                break
    return _Saddle(math.nan, math.nan, math.nan, 1.0, total, False)


@jit
def _of_rank(kind, modes, alpha, sides, limit, reached, least, law, of_margin, nodes, sums):
    """Without decay, and chi finite: inputs of any modes are isotropic ones of their rank.

    What they do not carry of the field is noise before the sign.
    """
    E, U, rho = modes.explained, modes.unexplained, modes.rho
    load = alpha / modes.rank
    if kind == RESIDUALS:
        p = residual_point(load, law.S, 0.0, sides.plus, limit.plus, least, nodes)
        q = E + p.gen_error
        R = math.sqrt(E / q)
        rate = p.error_rate
        error = p.gen_error
    else:
        noisy = Law(law.kind, (law.S + U) / E, law.flip)
        p = label_point(
            load, 0.0, sides, limit, reached, least, noisy, of_margin, False, nodes, sums
        )
        q = p.q
        R = p.R * math.sqrt(E / rho)
        rate = math.acos(min(max(R, -1.0), 1.0)) / math.pi if U > 0.0 else p.error_rate
        error = rate
        if not of_margin:
            error = 1.0 - 2.0 * math.sqrt(2.0 / math.pi) * R * math.sqrt(q) + q
    return Found(
        math.sqrt(q), R, q, p.chi, error, p.train_error, p.train_loss, p.test_loss, rate,
        p.train_error_rate, p.margin, p.replicon, p.residual, p.interpolating, p.n_iter, p.status,
    )  # fmt: skip


@jit
def _teacher_is_found(modes, alpha, zeta, curve, nodes):
    """Whether a kink of the loss at 0 holds the student at a noise-free teacher, decay or not.

    Near the teacher everything scales with the residuals' width s: chi = t s with alpha K = rank,
    and the fixed point s = 0 is stable if a step makes s smaller.
    """
    if not alpha > modes.rank:
        return False
    s = _TINY * math.sqrt(modes.rho)
    low, high = math.log(_TINY), -math.log(_TINY)
    for _ in range(80):
        log_t = 0.5 * (low + high)
        if alpha * pull(curve, math.exp(log_t) * s, 0.0, s, nodes).K > modes.rank:
            high = log_t
        else:
            low = log_t
    t = math.exp(low)
    bias = 0.0
    for k in range(modes.s.size):
        bias += modes.powers[k] / (modes.s[k] * modes.s[k])
    W = pull(curve, t * s, 0.0, s, nodes).W / (s * s)
    return alpha / modes.rank * W + (zeta * t / modes.rank) ** 2 * bias < 1.0


@jit
def _averages(kind, sides, law, E, chi, m, v, nodes):
    """(test loss, training loss, mean of (y - u)^2 in training, P(y u <= 0) there, E[(1-p')^2])."""
    out = np.zeros(5)
    if kind == RESIDUALS:
        s = math.sqrt(law.S + (E - m) ** 2 / E + v)
        trained = pull(sides.plus, chi, 0.0, s, nodes)
        out[0] = pull(sides.plus, 0.0, 0.0, s, nodes).train
        out[1], out[2], out[3], out[4] = trained.train, trained.pp, math.nan, trained.KK
        return out
    return label_averages(sides, law, chi, m, v, nodes)


@jit
def _length(modes, zeta, V, m_hat, q_hat):
    """|w|^2/N."""
    total = 0.0
    for k in range(modes.s.size):
        t = 1.0 / (zeta + V * modes.s[k])
        st2 = modes.s[k] * t * t
        total += (m_hat * m_hat * modes.powers[k] + q_hat * modes.weight[k]) * st2
    return total


@jit
def structured_loss_point(
    kind, modes, alpha, zeta, sides, limit, reached, least, law, of_margin, nodes, sums,
    lengths, place,
):  # fmt: skip
    """Equilibrium at one point; `modes` have rho = 1 for labels, and nothing unexplained for
    residuals.

    `limit` are the curves of the set where the loss is `least`, or of the margin x >= 1 if that is
    not `reached`, or the empty interval (1, 0) if then nothing is known.
    """
    nan, inf = math.nan, math.inf
    E = modes.rho
    if zeta == 0.0:
        low, high = limit.plus.breaks
        half_line = high == inf
        may = low <= high
        if kind == LABELS and (half_line or low > high):
            # separable by some weights, whatever the modes; not known for a mixed law of noise
            noisy = Law(law.kind, (law.S + modes.unexplained) / modes.explained, law.flip)
            separable = alpha < modes.rank * separability_load(noisy)
            if separable and low > high:
                return failed(_NEEDS_DECAY, 0)
            may = separable
        elif low == high:
            may = alpha < modes.rank
        if may:
            at = _infinite_chi(kind, modes, alpha, limit, law, nodes, sums)
            if at.found:
                at_modes = ridge_sums(modes, at.chi, 1.0)
                q = at.v + at.m * at.m / E
                gamma = math.sqrt(q)
                R = at.m / math.sqrt(q * E)
                rate = math.atan2(math.sqrt(at.v), at.m / math.sqrt(E)) / math.pi
                every = _averages(kind, limit, law, E, 1.0, at.m, at.v, nodes)
                unequal = at_modes.A1 / (at_modes.chi * at_modes.chi)
                replicon = 1.0 - alpha * every[4] * unequal
                margin = nan
                if high == inf:
                    c = label_sums(limit, law, 1.0, at.m, at.v, nodes, sums)
                    length = _length(modes, at.chi, 1.0, c.G / c.K, c.W / (alpha * c.K * c.K))
                    margin = low / math.sqrt(length)
                if not reached:
                    return Found(
                        inf, R, inf, inf, rate if of_margin else inf, inf, 0.0, inf, rate, 0.0,
                        margin, replicon, at.residual, True, at.n_iter, _DIVERGENT,
                    )  # fmt: skip
                fresh = _averages(kind, sides, law, E, 0.0, at.m, at.v, nodes)
                error = rate
                if kind == RESIDUALS:
                    error = (E - at.m) ** 2 / E + at.v
                    rate = nan
                elif not of_margin:
                    error = 1.0 - 2.0 * math.sqrt(2.0 / math.pi) * at.m + q
                return Found(
                    gamma, R, q, inf, error, every[2], least, fresh[0], rate, every[3], margin,
                    replicon, at.residual, True, at.n_iter, _CONVERGED,
                )  # fmt: skip
            if half_line or low == high:
                return failed(_MAX_ITERATIONS, at.n_iter)
        if kind == RESIDUALS or law.kind == NORMAL or modes.unexplained == 0.0:
            return _of_rank(
                kind, modes, alpha, sides, limit, reached, least, law, of_margin, nodes, sums
            )
    if (
        kind == RESIDUALS
        and law.S == 0.0
        and zeta > 0.0
        and _teacher_is_found(modes, alpha, zeta, sides.plus, nodes)
    ):
        loss = value_slope_curvature(sides.plus, 0.0)[0]
        return Found(
                math.sqrt(E), 1.0, E, 0.0, 0.0, 0.0, loss, loss, nan, nan, nan, 1.0, 0.0, False, 0,
                _CONVERGED,
            )  # fmt: skip
    at = _regularized(kind, modes, alpha, zeta, sides, law, nodes, sums)
    if not at.found and zeta > 0.0 and reached and limit.plus.breaks[0] <= limit.plus.breaks[1]:
        # a decay so small that the solution without any is the better start
        cold = _infinite_chi(kind, modes, alpha, limit, law, nodes, sums)
        if cold.found:
            c = _sample(kind, limit, law, E, 1.0, cold.m, cold.v, nodes, sums)
            chi = alpha * c.K * cold.chi / zeta
            at = _newton(
                kind, modes, alpha, zeta, False, sides, law, chi, cold.m, cold.v, nodes, sums
            )
    if not at.found:
        return failed(_MAX_ITERATIONS if zeta > 0.0 else _NEEDS_DECAY, at.n_iter)
    q = at.v + at.m * at.m / E
    gamma = math.sqrt(q)
    R = at.m / math.sqrt(q * E)
    every = _averages(kind, sides, law, E, at.chi, at.m, at.v, nodes)
    c = _sample(kind, sides, law, E, at.chi, at.m, at.v, nodes, sums)
    V = alpha * c.K / at.chi
    at_modes = ridge_sums(modes, zeta, V)
    lengths[place] = _length(modes, zeta, V, alpha * c.G / at.chi, alpha * c.W / (at.chi * at.chi))
    replicon = 1.0 - alpha * every[4] * at_modes.A1 / (at_modes.chi * at_modes.chi)
    if kind == RESIDUALS:
        rate = nan
        error = (E - at.m) ** 2 / E + at.v
    else:
        rate = math.atan2(math.sqrt(at.v), at.m) / math.pi
        error = rate if of_margin else 1.0 - 2.0 * math.sqrt(2.0 / math.pi) * at.m + q
    return Found(
        gamma, R, q, at.chi, error, every[2], every[1], every[0], rate, every[3], nan, replicon,
        at.residual, False, at.n_iter, _CONVERGED,
    )  # fmt: skip


@jit
def solve_structured_loss(
    kind, modes, alpha, S, zeta, sides, limit, reached, least, law_kind, flip, of_margin, columns,
    lengths, start, stop,
):  # fmt: skip
    """Fill the columns from `start` to `stop`; S in units of the field for labels."""
    nodes = new_nodes(sides.plus)
    sums = np.zeros(13)
    for i in range(start, stop):
        law = Law(law_kind, S[i], flip)
        point = structured_loss_point(
            kind, modes, alpha[i], zeta[i], sides, limit, reached, least, law, of_margin, nodes,
            sums, lengths, i,
        )  # fmt: skip
        write_found(columns, i, point)
