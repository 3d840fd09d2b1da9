"""A convex loss of residuals on labels of any teacher, linear student.

Given the node t of the teacher's field the residual r = y - omega is normal, so that one sum over t
of the averages of `_pull` is left: r | t ~ N(phi(t) - m t/rho, v' + S), with rho the variance of t
(1 + S for noise before the activation) and v' = q - m^2/rho.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from replica._core.jit import jit
from replica._core.status import Status
from replica.labels import NoiseWord
from replica.students import LeakyReLU, Student

from ._fixed_point import FixedPoint, Step, fixed_point
from ._pull import Curve, new_nodes, pull
from ._residual_loss import Found, failed
from ._ridge import ridge_point
from ._weights import Ridge, coordinates, overlaps_at

__all__ = ["Labels", "labels_of", "teacher_point"]

_TOLERANCE = 1e-11
_REACH = 9.0
# Panels of the teacher's field, finer where the loss has kinks: the mean over omega given t follows
# them on the scale of the spread of omega.
_FINE, _COARSE = 0.25, 0.75
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(12)
# Decays tried on the way, each so much smaller, where a direct start fails.
_RATIO = 5.0
_LARGE = 1e3


class Labels(NamedTuple):
    """Nodes of a rule over the field t, or over the noise of a linear teacher (`linear`)."""

    t: NDArray[np.float64]
    y: NDArray[np.float64]
    weight: NDArray[np.float64]
    variance: float
    extra: float  # variance of normal noise added to y
    linear: bool
    c1: float  # E[y z]
    c2: float  # E[y^2]
    clean: tuple[float, float]  # E[phi(z) z], E[phi(z)^2]


def labels_of(teacher: LeakyReLU | Student, noise: NoiseWord, S: float, smooth: bool) -> Labels:
    """Return the rule for labels phi(z) + s or phi(z + s)."""
    size = _COARSE if smooth else _FINE
    if noise == "logistic":  # of a linear teacher
        b = math.sqrt(3.0 * S) / math.pi
        t, weight = _rule(size, 40.0, ())
        weight = weight * 0.25 / np.cosh(0.5 * t) ** 2
        return Labels(t, b * t, weight, 1.0, 0.0, True, 1.0, 1.0 + S, (1.0, 1.0))
    clean_t, clean_w = _rule(size, _REACH, teacher.kinks)
    clean_w = clean_w * np.exp(-0.5 * clean_t**2) / math.sqrt(2.0 * math.pi)
    phi = teacher.values(clean_t)
    clean = float(clean_w @ (phi * clean_t)), float(clean_w @ phi**2)
    if noise == "output":
        return Labels(clean_t, phi, clean_w, 1.0, S, False, clean[0], clean[1] + S, clean)
    scale = math.sqrt(1.0 + S)
    t, weight = _rule(size, _REACH, tuple(kink / scale for kink in teacher.kinks))
    weight = weight * np.exp(-0.5 * t**2) / math.sqrt(2.0 * math.pi)
    y = teacher.values(scale * t)
    c1, c2 = float(weight @ (y * t)) / scale, float(weight @ y**2)
    return Labels(scale * t, y, weight, 1.0 + S, 0.0, False, c1, c2, clean)


def _rule(
    size: float, reach: float, kinks: tuple[float, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    panels = math.ceil(reach / size)
    edges = np.linspace(-reach, reach, 2 * panels + 1)
    edges = np.unique(np.concatenate([edges, [k for k in kinks if abs(k) < reach]]))
    half = np.diff(edges)[:, None] / 2
    t = edges[:-1, None] + half * (1.0 + _NODES)
    return t.ravel(), (half * _WEIGHTS).ravel()


class _Sums(NamedTuple):
    K: float
    W: float
    G: float
    KK: float
    train: float
    pp: float


@jit
def _averages(curve, chi, m, v, labels, nodes):
    """K = E[1 - p'], W = E[P^2], G = chi E[df/dz], and what is reported."""
    if labels.linear:
        gain = 0.0
        tau = math.sqrt((1.0 - m) ** 2 + v)
    else:
        gain = m / labels.variance
        # q - m^2/variance, without the cancellation of q and m^2
        tau = math.sqrt(v + m * m * (1.0 - 1.0 / labels.variance) + labels.extra)
    K = W = tP = KK = train = pp = 0.0
    for i in range(labels.t.size):
        w = labels.weight[i]
        if w < 1e-18:
            continue
        here = pull(curve, chi, labels.y[i] - gain * labels.t[i], tau, nodes)
        K += w * here.K
        W += w * here.W
        tP += w * labels.t[i] * here.P
        KK += w * here.KK
        train += w * here.train
        pp += w * here.pp
    G = K if labels.linear else (tP + m * K) / labels.variance
    return _Sums(K, W, G, KK, train, pp)


def _compiled(labels: Labels) -> Any:
    return _Compiled(
        labels.t, labels.y, labels.weight, labels.variance, labels.extra, labels.linear
    )


class _Compiled(NamedTuple):
    t: NDArray[np.float64]
    y: NDArray[np.float64]
    weight: NDArray[np.float64]
    variance: float
    extra: float
    linear: bool


def teacher_point(
    alpha: float, zeta: float, curve: Curve, limit: Curve, least: float, labels: Labels,
    weights: Ridge | None = None,
) -> Found:  # fmt: skip
    """Equilibrium at one point; `limit` is the curve of the set where the loss is `least`.

    `weights` are those of inputs that are not isotropic, on which the teacher's field is of unit
    variance.
    """
    rule = _compiled(labels)
    nodes = new_nodes(curve)
    evaluations = 0

    def solve(of: Curve, decay: float, x: NDArray[np.float64]) -> FixedPoint | None:
        infinite = of is limit

        def step(x: NDArray[np.float64]) -> Step:
            nonlocal evaluations
            evaluations += 1
            chi = math.inf if infinite else math.exp(x[0])
            m, v = float(x[-2]), math.exp(x[-1])
            here = _averages(of, 0.0 if infinite else chi, m, v, rule, nodes)
            if not (here.K > 0.0 and here.W > 0.0):
                return Step(np.full(x.size, np.nan))
            there = [alpha * here.G, math.log(alpha * here.W)]
            if infinite:
                return Step(np.array(there))
            if weights is not None:
                weights.zeta = decay
                pull_hat = alpha * here.K / chi, alpha * here.G / chi, alpha * here.W / (chi * chi)
                at = weights.overlaps(*pull_hat)
                return Step(np.full(x.size, np.nan) if at is None else coordinates(at))
            new = 1.0 / (decay + alpha * here.K / chi)
            scale = new / chi
            return Step(
                np.array([math.log(new), scale * there[0], there[1] + 2.0 * math.log(scale)])
            )

        return fixed_point(step, x, _TOLERANCE)

    low, high = limit.breaks
    if zeta == 0.0 and weights is not None:
        if alpha <= weights.rank:
            return failed(int(Status.NEEDS_DECAY), 0)
    elif zeta == 0.0:
        if not (low > -math.inf and high < math.inf):
            return failed(int(Status.NEEDS_DECAY), 0)
        if low == high and alpha == 1.0:
            inf, nan = math.inf, math.nan
            return Found(
                inf, 0.0, inf, inf, inf, low * low, least, inf, nan, nan, nan, 0.0, 0.0, True, 0,
                int(Status.DIVERGENT),
            )  # fmt: skip
        if low < high or alpha < 1.0:
            _, m, v = _start(min(alpha, 0.9), 1e-3, labels)
            at = solve(limit, 0.0, np.array([m, math.log(v)]))
            if at is not None:
                found = _found(alpha, zeta, curve, limit, least, labels, at, evaluations, nodes)
                if found.status == int(Status.CONVERGED):
                    return found
    at = solve(curve, zeta, _coordinates(*_start(alpha, max(zeta, 1e-3), labels)))
    if at is None:
        # along decreasing decay, from where one sample hardly matters
        decay = max(_LARGE * (1.0 + alpha), zeta)
        at = solve(curve, decay, _coordinates(*_start(alpha, decay, labels)))
        while at is not None and decay > zeta:
            decay = max(decay / _RATIO, zeta) if decay > 1e-9 else zeta
            at = solve(curve, decay, at.x)
    if at is None:
        return failed(int(Status.MAX_ITERATIONS), evaluations)
    return _found(alpha, zeta, curve, curve, least, labels, at, evaluations, nodes, weights)


def _coordinates(chi: float, m: float, v: float) -> NDArray[np.float64]:
    return np.array([math.log(chi), m, math.log(v)])


def _start(alpha: float, zeta: float, labels: Labels) -> tuple[float, float, float]:
    """chi, m and v of the square loss."""
    c1, spread = labels.c1, labels.c2 - labels.c1**2
    ridge = ridge_point(alpha, 0.0, zeta)
    share = ridge.chi / (1.0 + ridge.chi)
    m = alpha * share * c1
    h = c1 * (1.0 - alpha * share)
    return ridge.chi, m, max(alpha * share**2 * (spread + h * h) / ridge.replicon, 1e-12)


def _found(
    alpha: float,
    zeta: float,
    curve: Curve,
    of: Curve,
    least: float,
    labels: Labels,
    at: FixedPoint,
    evaluations: int,
    nodes: Any,
    weights: Ridge | None = None,
) -> Found:
    infinite = of is not curve
    m, v = float(at.x[-2]), math.exp(at.x[-1])
    chi = math.inf if infinite else math.exp(at.x[0])
    rule = _compiled(labels)
    here = _averages(of, 0.0 if infinite else chi, m, v, rule, nodes)
    if infinite and not alpha * here.K < 1.0:
        return failed(int(Status.MAX_ITERATIONS), evaluations)
    fresh = _averages(curve, 0.0, m, v, rule, nodes)
    q = v + m * m
    gamma = math.sqrt(q)
    cross, power = labels.clean
    error = (1.0 - m) ** 2 + v if labels.linear else power - 2.0 * cross * m + q
    unequal = 1.0
    if weights is not None:
        weights.zeta = zeta
        unequal = weights.inequality(alpha * here.K / chi)
        pull_hat = alpha * here.K / chi, alpha * here.G / chi, alpha * here.W / (chi * chi)
        weights.last_length = weights.length(overlaps_at(at.x), *pull_hat)
    nan = math.nan
    return Found(
        gamma, m / gamma, q, chi, error, here.pp, least if infinite else here.train, fresh.train,
        nan, nan, nan, 1.0 - alpha * here.KK * unequal, at.residual, infinite, evaluations,
        int(Status.CONVERGED),
    )  # fmt: skip
