"""Two Gaussian clusters, one for each label: the saddle point of any convex loss, with a bias.

x = y v/sqrt(N) + sqrt(Delta) xi with |v|^2 = N, u = W.x/sqrt(N) + b. The margin of a fresh sample
of either label is normal, y u ~ N(m + y b, Delta q), m = W.v/N and q = |W|^2/N, and what a sample
pulls is P = x - p of the proximal step p at V = Delta chi. With K = E[1 - p'] and W = E[P^2],

    zeta chi = 1 - alpha K,   m = -alpha E[P]/Delta,   q - m^2 = alpha W/Delta,   E[y P] = 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from replica._core.arguments import LARGEST, ArgumentTypeError, broadcast, real_array
from replica._core.results import Result
from replica._core.status import Status, warn_not_converged
from replica.inputs import Clusters
from replica.losses import SQUARE, Loss, LossLike, as_loss

from ._fixed_point import Step, fixed_point
from ._pull import Curve, Pull, curve_of, nearest, new_nodes, pull, value_slope_curvature
from ._ridge import ridge_point

__all__ = ["ClusterEquilibrium", "clusters_bayes_error", "solve_clusters"]

_TOLERANCE = 1e-12
# Without decay a chi beyond this is that of separable clusters, which no chi solves.
_LARGEST_CHI = 1e8
# Where a start fails the decay is lowered by this factor, and from there on to 0.
_RATIO, _LEAST_DECAY = 0.3, 1e-9
_DIFFERENCE = 1e-5
# Longest step of the bias.
_LONGEST = 0.5
# Losses of one's own are tabulated for margins in this range, then in wider ones.
_REACHES = (40.0, 640.0, 10240.0)


@dataclass(frozen=True, repr=False)
class ClusterEquilibrium(Result):
    """A linear classifier trained to the end on two clusters; see `solve_clusters`.

    All arrays have the broadcast shape of (alpha, zeta), and are NaN where `status` is neither
    CONVERGED nor DIVERGENT.

    Attributes
    ----------
    inputs : Clusters
    loss : Loss
    alpha, zeta : ndarray
        Load and weight decay.
    m, gamma, R, bias : ndarray
        Overlap W.v/N with the direction between the clusters, length |W|/sqrt(N), cosine of their
        angle, and the bias b (0 without one).
    chi : ndarray
        Susceptibility of the weights; inf where the training set is separated without decay.
    error_rate, bayes_error : ndarray
        Fraction of fresh samples on the wrong side of u = 0, and the least that any rule reaches
        with the same training set.
    train_error_rate, train_loss, test_loss : ndarray
        The same of the training set, and the mean loss there and on fresh samples.
    residual : ndarray
        What is left of the equations, relative.
    n_iter : ndarray of int
    status : ndarray of int8
        CONVERGED; DIVERGENT where the weights grow for ever (a loss without a minimum on separable
        clusters, without decay), though their direction is known.
    """

    inputs: Clusters
    loss: Loss
    alpha: NDArray[np.float64]
    zeta: NDArray[np.float64]
    m: NDArray[np.float64]
    gamma: NDArray[np.float64]
    R: NDArray[np.float64]
    bias: NDArray[np.float64]
    chi: NDArray[np.float64]
    error_rate: NDArray[np.float64]
    bayes_error: NDArray[np.float64]
    train_error_rate: NDArray[np.float64]
    train_loss: NDArray[np.float64]
    test_loss: NDArray[np.float64]
    residual: NDArray[np.float64]
    n_iter: NDArray[np.int64]
    status: NDArray[np.int8]

    _problem = ("inputs", "loss", "alpha", "zeta")
    _shown_first = "error_rate"

    def _curve_name(self) -> str:
        return self.loss.name


_VALUES = ("m", "gamma", "R", "bias", "chi", "error_rate", "train_error_rate", "train_loss")
_VALUES += ("test_loss", "residual")


def solve_clusters(
    alpha: ArrayLike, zeta: ArrayLike = 0.0, *, inputs: Clusters, loss: LossLike = "square"
) -> ClusterEquilibrium:
    """Train a linear classifier to the end on alpha N samples of two clusters, N -> infinity.

    Parameters
    ----------
    alpha : array_like
        Load, samples over inputs, from 1e-100 to 1e100.
    zeta : array_like
        Weight decay, from 0 to 1e100, of the energy sum_j l(y_j, u_j) + zeta |W|^2/2; the bias is
        not decayed. At 0 a training set that can be separated has no other solution than that of
        largest margin (hinge losses), or none of finite length (logistic, exponential): then the
        direction is that of the largest margin, and the status DIVERGENT.
    inputs : Clusters
        Variance, share of the labels, and whether there is a bias.
    loss : str or Loss
        Anything that `as_loss` takes, of the margin y u or of the residual y - u.

    Returns
    -------
    ClusterEquilibrium

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type, out of range, or the shapes do not broadcast.

    Warns
    -----
    ConvergenceWarning
        If an element did not converge; its values are NaN.

    See Also
    --------
    gen_error : The error rate alone, with ``inputs=Clusters(...)``.

    Notes
    -----
    Theory: :eq:`eq-clusters` in :doc:`/inputs`.

    Examples
    --------
    >>> from replica.inputs import Clusters
    >>> found = solve_clusters(2.0, [0.1, 1e6], inputs=Clusters(0.3))
    >>> found.error_rate.round(6), found.bayes_error.round(6)
    (array([0.078337, 0.04433 ]), array([0.04433, 0.04433]))
    """
    if not isinstance(inputs, Clusters):
        raise ArgumentTypeError(f"inputs must be Clusters(variance), got {inputs!r}")
    known = as_loss(loss)
    alpha_, zeta_ = broadcast(
        alpha=real_array("alpha", alpha, low=1.0 / LARGEST, high=LARGEST),
        zeta=real_array("zeta", zeta, low=0.0, high=LARGEST),
    )
    rows = [
        _point(*pair, inputs, known)
        for pair in zip(alpha_.ravel().tolist(), zeta_.ravel().tolist(), strict=True)
    ]
    columns: dict[str, Any] = {
        name: np.array([row.get(name, math.nan) for row in rows]).reshape(alpha_.shape)
        for name in _VALUES
    }
    status = np.array([row["status"] for row in rows], np.int8).reshape(alpha_.shape)
    warn_not_converged(status)
    return ClusterEquilibrium(
        inputs=inputs,
        loss=known,
        alpha=alpha_,
        zeta=zeta_,
        bayes_error=np.asarray(clusters_bayes_error(alpha_, inputs)),
        n_iter=np.array([row["n_iter"] for row in rows], np.int64).reshape(alpha_.shape),
        status=status,
        **columns,
    )


def clusters_bayes_error(alpha: ArrayLike, inputs: Clusters) -> NDArray[np.float64]:
    """Return the least error rate after alpha N samples, the direction v being Gaussian.

    The posterior mean of v sees the clusters at a distance t = sqrt(alpha/(Delta (alpha + Delta)))
    from u = 0, in standard deviations.
    """
    alpha = np.asarray(alpha, float)
    share, Delta = inputs.fraction, inputs.variance
    t = np.sqrt(1.0 / (Delta * (1.0 + Delta / alpha)))
    shift = math.log(share / (1.0 - share)) / (2.0 * t)
    return share * ndtr(-t - shift) + (1.0 - share) * ndtr(-t + shift)


def _point(alpha: float, zeta: float, inputs: Clusters, loss: Loss) -> dict[str, Any]:
    """Solve at one load and decay."""
    square = _square(alpha, zeta, inputs)
    if loss == SQUARE:
        return square
    if zeta == 0.0:
        found = _largest_margin(alpha, inputs, loss, square)
        if found is not None:
            return found
    found = None
    for reach in _REACHES:
        curves = [_margin_curve(loss, y, reach) for y in (1.0, -1.0)]
        found = _solve(alpha, zeta, inputs, curves, square)
        if found is None or np.isfinite(found["train_loss"]):
            break
    if found is None:
        status = Status.NEEDS_DECAY if zeta == 0.0 else Status.MAX_ITERATIONS
        return {"n_iter": 0, "status": status}
    return found


def _margin_curve(loss: Loss, y: float, reach: float) -> Curve:
    """The loss as a function of the margin x = y u of a sample of this label."""
    if loss.of == "margin":
        return curve_of(loss, reach=(-reach, reach))
    return curve_of(loss, y, -y, reach=(-reach, reach))


def _square(alpha: float, zeta: float, inputs: Clusters) -> dict[str, Any]:
    """The square loss in closed form, infinite chi and the peak at alpha = 1 included."""
    Delta = inputs.variance
    V = ridge_point(alpha, 0.0, zeta / Delta).chi
    k = V / (1.0 + V) if math.isfinite(V) else 1.0
    imbalance = 2.0 * inputs.fraction - 1.0 if inputs.bias else 0.0
    spread = 1.0 - imbalance * imbalance  # of the labels around the bias
    t = alpha * k * spread / Delta
    m = t / (1.0 + t)
    left = 1.0 - m
    bias = imbalance * left
    stable = 1.0 - alpha * k * k
    if not stable > 0.0:
        row = {"m": m, "gamma": math.inf, "R": 0.0, "bias": bias, "chi": math.inf}
        row |= {"error_rate": 0.5, "train_error_rate": 0.0, "train_loss": 0.0}
        return row | {"test_loss": math.inf, "residual": 0.0, "n_iter": 0,
                      "status": Status.DIVERGENT}  # fmt: skip
    v = alpha * k * k * (left * left * spread / Delta + m * m) / stable
    q = m * m + v
    test = 0.5 * (left * left * spread + Delta * q)
    row = _row(alpha, m, v, bias, V / Delta, inputs, 0.0, 0)
    # the training fields are p = (x + V)/(1 + V): normal, nearer to 1
    rates = []
    for y, share in ((1.0, inputs.fraction), (-1.0, 1.0 - inputs.fraction)):
        mean, sd = m + y * bias, math.sqrt(Delta * q)
        edge = (-V - mean) / sd if math.isfinite(V) else -math.inf
        rates.append(share * float(ndtr(edge)))
    loss = test / (1.0 + V) ** 2 if math.isfinite(V) else 0.0
    return row | {"train_error_rate": sum(rates), "train_loss": loss, "test_loss": test}


def _row(
    alpha: float,
    m: float,
    v: float,
    bias: float,
    chi: float,
    inputs: Clusters,
    residual: float,
    n_iter: int,
) -> dict[str, Any]:
    gamma = math.hypot(m, math.sqrt(v))
    sd = math.sqrt(inputs.variance) * gamma
    share = inputs.fraction
    rate = share * ndtr(-(m + bias) / sd) + (1.0 - share) * ndtr(-(m - bias) / sd)
    return {
        "m": m,
        "gamma": gamma,
        "R": m / gamma,
        "bias": bias,
        "chi": chi,
        "error_rate": float(rate),
        "residual": residual,
        "n_iter": n_iter,
        "status": Status.CONVERGED,
    }


class _Sides:
    """The averages over the two labels at given order parameters."""

    def __init__(self, inputs: Clusters, curves: list[Curve]) -> None:
        self.inputs, self.curves = inputs, curves
        self.nodes = [new_nodes(curve) for curve in curves]
        self.n_evaluations = 0

    def __call__(self, V: float, m: float, v: float, bias: float) -> list[tuple[float, Pull]]:
        """Return the share of each label and its averages."""
        self.n_evaluations += 1
        tau = math.sqrt(self.inputs.variance * (m * m + v))
        shares = (self.inputs.fraction, 1.0 - self.inputs.fraction)
        return [
            (share, pull(curve, V, m + y * bias, tau, nodes))
            for y, share, curve, nodes in zip(
                (1.0, -1.0), shares, self.curves, self.nodes, strict=True
            )
        ]


def _solve(
    alpha: float, zeta: float, inputs: Clusters, curves: list[Curve], start: dict[str, Any]
) -> dict[str, Any] | None:
    """The saddle point of finite chi; None if not found, NaN losses if a table is too narrow."""
    Delta = inputs.variance
    sides = _Sides(inputs, curves)

    decay = zeta

    def once(x: NDArray[np.float64]) -> NDArray[np.float64]:
        chi, m, v = math.exp(x[0]), float(x[1]), math.exp(x[2])
        bias = float(x[3]) if inputs.bias else 0.0
        pulls = sides(Delta * chi, m, v, bias)
        K = sum(share * p.K for share, p in pulls)
        P = sum(share * p.P for share, p in pulls)
        W = sum(share * p.W for share, p in pulls)
        stiffness = decay + alpha * K / chi
        if not (stiffness > 0.0 and W > 0.0) or (decay == 0.0 and chi > _LARGEST_CHI):
            return np.full(x.size, np.nan)
        new = [-math.log(stiffness), -alpha * P / Delta, math.log(alpha * W / Delta)]
        if inputs.bias:
            new.append(_better_bias(bias, pulls, K))
        return np.array(new)

    def step(x: NDArray[np.float64]) -> Step:
        return _with_slopes(once, x)

    chi = start["chi"] if start["chi"] < math.inf else 1.0 / alpha
    gamma = min(start["gamma"], 10.0)
    rest = max(gamma * gamma - start["m"] ** 2, 1e-3 * gamma * gamma)
    x = np.array([math.log(chi), start["m"], math.log(rest), start["bias"]])[
        : 4 if inputs.bias else 3
    ]
    found = fixed_point(step, x, _TOLERANCE, plain=10)
    if found is None:  # along decreasing decay
        decay = max(zeta, alpha)
        found = fixed_point(step, x, _TOLERANCE, plain=10)
        while found is not None and decay > zeta:
            decay = max(_RATIO * decay, zeta) if decay > _LEAST_DECAY else zeta
            found = fixed_point(step, found.x, _TOLERANCE, plain=3)
    if found is None:
        return None
    chi, m, v = math.exp(found.x[0]), float(found.x[1]), math.exp(found.x[2])
    bias = float(found.x[3]) if inputs.bias else 0.0
    row = _row(alpha, m, v, bias, chi, inputs, found.residual, sides.n_evaluations)
    fresh = sides(0.0, m, v, bias)
    trained = sides(Delta * chi, m, v, bias)
    return row | {
        "train_loss": sum(share * p.train for share, p in trained),
        "test_loss": sum(share * p.train for share, p in fresh),
        "train_error_rate": _train_error_rate(inputs, curves, Delta * chi, m, v, bias),
    }


def _better_bias(bias: float, pulls: list[tuple[float, Pull]], K: float) -> float:
    """A Newton step towards E[y P] = 0, or a step of one half where its slope K is nothing."""
    (plus, p), (minus, q) = pulls
    gap = plus * p.P - minus * q.P
    return bias - (gap / K if abs(gap) < _LONGEST * K else math.copysign(_LONGEST, gap))


def _with_slopes(
    once: Callable[[NDArray[np.float64]], NDArray[np.float64]], x: NDArray[np.float64]
) -> Step:
    """The map with its Jacobian, by central differences, which are accurate to about 1e-9."""
    steps = _DIFFERENCE * np.eye(x.size)
    slopes = [(once(x + d) - once(x - d)) / (2.0 * _DIFFERENCE) for d in steps]
    return Step(once(x), np.array(slopes).T)


def _train_error_rate(
    inputs: Clusters, curves: list[Curve], V: float, m: float, v: float, bias: float
) -> float:
    """Fraction of the training samples with y u <= 0: those with a field below V l'(0)."""
    sd = math.sqrt(inputs.variance * (m * m + v))
    total = 0.0
    for y, share, curve in zip(
        (1.0, -1.0), (inputs.fraction, 1.0 - inputs.fraction), curves, strict=True
    ):
        slope = value_slope_curvature(curve, 0.0)[1]
        total += share * float(ndtr((V * slope - m - y * bias) / sd))
    return total


def _largest_margin(
    alpha: float, inputs: Clusters, loss: Loss, start: dict[str, Any]
) -> dict[str, Any] | None:
    """Separable clusters without decay: the shortest weights with y u >= 1, and chi infinite."""
    if loss.of != "margin":
        return None
    strips = loss.strips
    reached = strips is not None and strips.coefficients[-1] == (0.0, 0.0, 0.0)
    edge = strips.breaks[-1] if strips is not None and reached else 1.0
    sides = _Sides(inputs, [nearest(edge, math.inf)] * 2)
    Delta = inputs.variance

    def once(x: NDArray[np.float64]) -> NDArray[np.float64]:
        m, v = float(x[0]), math.exp(x[1])
        bias = float(x[2]) if inputs.bias else 0.0
        pulls = sides(1.0, m, v, bias)
        K = sum(share * p.K for share, p in pulls)
        P = sum(share * p.P for share, p in pulls)
        W = sum(share * p.W for share, p in pulls)
        if not W > 0.0:
            return np.full(x.size, np.nan)
        new = [-alpha * P / Delta, math.log(alpha * W / Delta)]
        if inputs.bias:
            new.append(_better_bias(bias, pulls, K))
        return np.array(new)

    def step(x: NDArray[np.float64]) -> Step:
        return _with_slopes(once, x)

    gamma = min(start["gamma"], 10.0)
    rest = max(gamma * gamma - start["m"] ** 2, 1e-3 * gamma * gamma)
    x = np.array([start["m"], math.log(rest), start["bias"]])[: 3 if inputs.bias else 2]
    found = fixed_point(step, x, _TOLERANCE, plain=10)
    if found is None:
        return None
    m, v = float(found.x[0]), math.exp(found.x[1])
    bias = float(found.x[2]) if inputs.bias else 0.0
    pulls = sides(1.0, m, v, bias)
    if not 1.0 - alpha * sum(share * p.K for share, p in pulls) > 0.0:
        return None
    row = _row(alpha, m, v, bias, math.inf, inputs, found.residual, sides.n_evaluations)
    row |= {"train_error_rate": 0.0, "train_loss": 0.0}
    if not reached:
        row |= {"m": math.inf, "gamma": math.inf, "test_loss": math.inf}
        return row | {"bias": bias and math.copysign(math.inf, bias), "status": Status.DIVERGENT}
    fresh = _Sides(inputs, [curve_of(loss)] * 2)(0.0, m, v, bias)
    return row | {"test_loss": sum(share * p.train for share, p in fresh)}
