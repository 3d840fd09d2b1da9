"""Converged batch normalization of the linear student at any batch size, beyond the 1/M expansion.

Private to the package: `teacher_student` calls it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from replica._core.status import Status

__all__ = ["FiniteBatchSolution", "solve_finite_batch"]

SMALLEST_BATCH = 4  # below, the proximal map jumps too often for the quadrature
# Twice of any changes gamma and R by 3e-7 at alpha = 1.5, M = 4, by 1e-14 at alpha = 3, M = 16, and
# by 3e-6 at alpha = 1.1, S = 0.5, M = 8.
_FIELD_NODES, _LABEL_PANELS, _LAW_NODES = 32, 8, 64
# Rounds until the law settles: 7 to 15 of them from alpha = 1.1 on, more nearer to 1. A Newton step
# is at most 0.3 long, and converges or will not. The tolerance is far below the error of the nodes.
_MAX_OUTER, _MAX_NEWTON, _TOLERANCE = 60, 60, 1e-11


@dataclass(frozen=True)
class FiniteBatchSolution:
    """Overlaps of the effective weights by statistics of the test time; see `bn_equilibrium`."""

    gamma_training: float
    gamma_population: float
    R: float
    angle: float  # to the weights of least squares
    status: Status


@dataclass
class _State:
    """Order parameters of w (|w| without meaning): overlap, orthogonal length, susceptibility."""

    m: float
    tau: float
    V: float

    def scaled(self, k: float) -> _State:
        return _State(self.m * k, self.tau * k, self.V * k * k)


def solve_finite_batch(alpha: float, S: float, batch_size: int) -> FiniteBatchSolution:
    """Maximum of the mean correlation of y and w.x inside batches, for alpha > 1 and S > 0.

    The expected loss over batches is mean(y^2) - 2 gamma C + gamma^2 with C the mean of
    sum_B(y u)/sqrt(M sum_B(u^2)), so gamma = C and w maximizes C. C depends on the training set
    through the empirical law of (u, y) alone, and its derivative with respect to that law is a
    loss of each single sample, -ell(u, y) = sqrt(M) [y u A(u^2) + B(u^2)] with

        A(v) = E[(v + T_{M-1})^(-1/2)],   B(v) = (M-1) E[y2 u2 (v + u2^2 + T_{M-2})^(-1/2)],

    T_n the sum of n independent u^2: a problem of M-estimation whose loss depends on its own
    solution. Each round computes A and B from the law, and solves the replica-symmetric equations
    of the M-estimator for them.
    """
    x, weight_x = _normal_nodes(_FIELD_NODES)
    labels, weight_y = _panel_nodes(_LABEL_PANELS)
    X, Y = x[:, None], np.sqrt(1 + S) * labels[None, :]
    law = _Law(X, Y, np.outer(weight_x, weight_y), batch_size, S)
    state = _State(1.0, float(np.sqrt(S / (alpha - 1))), 1 / (alpha - 1))  # least squares
    u = (law.field(state) + state.V * Y) / (1 + state.V)
    before, change = np.full(4, np.inf), 1.0
    for n_rounds in range(_MAX_OUTER):
        # |w| is free: the training-set output has mean square 1 throughout.
        k = 1 / law.rms(u)
        u, state = k * u, state.scaled(k)
        law.update(u)
        if n_rounds == 0:
            state.V = 1 / ((alpha - 1) * law.mean(law.Y * u))  # ell has this curvature, not 1
        now = np.array([state.m, state.tau, state.V, law.correlation])
        if not np.all(np.isfinite(now)):
            return _failed(Status.NON_FINITE)
        if n_rounds:
            change = np.max(np.abs(now - before) / now)
        if change < _TOLERANCE:
            gamma, m = law.correlation, state.m
            length = float(np.hypot(m, state.tau))
            # W.W_LS/N by the cavity method for both estimators on the same data.
            overlap = m + (law.mean(law.Y * u) - m) * alpha / (alpha - 1)
            cosine = overlap / (length * np.sqrt(1 + S / (alpha - 1)))
            angle = float(np.arccos(min(1.0, cosine)))
            return FiniteBatchSolution(gamma * length, gamma, m / length, angle, Status.CONVERGED)
        before = now
        # An inexact solution serves until the law itself has settled.
        found = _solve_estimator(alpha, law, state, tolerance=1e-3 * change)
        if found is None:
            break
        state, u = found
    return _failed(Status.MAX_ITERATIONS)


def _failed(status: Status) -> FiniteBatchSolution:
    return FiniteBatchSolution(np.nan, np.nan, np.nan, np.nan, status)


class _Law:
    """The law of (u, y) on the training set, on nodes, and the loss that it gives a sample.

    E[(v + T_n)^(-1/2)] = 2/sqrt(pi) int_0^inf exp(-s^2 v) phi(s)^n ds with phi the mean of
    exp(-s^2 u^2) turns the averages over the other samples of the batch into a single integral.
    """

    def __init__(
        self,
        X: NDArray[np.float64],
        Y: NDArray[np.float64],
        weight: NDArray[np.float64],
        batch_size: int,
        S: float,
    ) -> None:
        self.X, self.Y, self.weight, self.M, self.S = X, Y, weight, batch_size, S
        r, w = np.polynomial.legendre.leggauss(_LAW_NODES)
        r = 0.5 * (r + 1)
        self.s2 = r**2 / (1 - r) ** 2 / batch_size
        self.ds = w / (1 - r) ** 2 / np.sqrt(np.pi)  # with 2/sqrt(pi) and sqrt(M)
        # Candidates among which the global minimum of the proximal map is sought.
        self.grid = np.sinh(np.linspace(-3.2, 3.2, 161))
        self.grid_exp = np.exp(-np.outer(self.grid**2, self.s2))

    def mean(self, values: NDArray[np.float64]) -> float:
        """Average over the training set."""
        return float(np.sum(self.weight * values))

    def rms(self, u: NDArray[np.float64]) -> float:
        """Root mean square of the training-set output."""
        return float(np.sqrt(self.mean(u * u)))

    def field(self, state: _State) -> NDArray[np.float64]:
        """Cavity field: Gaussian, of variance m^2 + tau^2 and covariance m with the label."""
        spread = np.sqrt(state.m**2 * self.S / (1 + self.S) + state.tau**2)
        return state.m / (1 + self.S) * self.Y + spread * self.X

    def update(self, u: NDArray[np.float64]) -> None:
        """Take u as the output on the training set."""
        E = np.exp(-np.outer(u.ravel() ** 2, self.s2))
        phi = self.weight.ravel() @ E
        psi = (self.weight * self.Y * u).ravel() @ E
        a = self.ds * phi ** (self.M - 1)
        b = self.ds * (self.M - 1) * psi * phi ** (self.M - 2)
        self.correlation = float(np.sum(self.ds * psi * phi ** (self.M - 1)))
        self.gains = np.stack([a, -a * self.s2, a * self.s2**2, -b * self.s2, b * self.s2**2])
        self.grid_gain = self.grid * (self.grid_exp @ a), self.grid_exp @ b

    def derivatives(
        self, u: NDArray[np.float64], Y: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """First and second derivative of ell in u, for lists of outputs and labels."""
        v = u * u
        A, A1, A2, B1, B2 = self.gains @ np.exp(-np.outer(self.s2, v))
        first = -(Y * A + 2 * v * Y * A1 + 2 * u * B1)
        second = -(6 * u * Y * A1 + 4 * u * v * Y * A2 + 2 * B1 + 4 * v * B2)
        return first, second

    def prox(self, state: _State) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Field z and the u that minimizes (z - u)^2/(2 V) + ell(u, y), on all nodes."""
        z, V = self.field(state), state.V
        linear, even = self.grid_gain
        u = np.empty(z.shape)
        for j, y in enumerate(self.Y[0]):  # column by column: the whole table would be large
            cost = (z[:, j, None] - self.grid) ** 2 / (2 * V) - (y * linear + even)
            u[:, j] = self.grid[cost.argmin(axis=1)]
        flat, target, label = u.ravel(), z.ravel(), np.broadcast_to(self.Y, z.shape).ravel()
        active = np.arange(flat.size)
        for _ in range(_MAX_NEWTON):
            first, second = self.derivatives(flat[active], label[active])
            step = (flat[active] + V * first - target[active]) / np.maximum(
                np.abs(1 + V * second), 0.1
            )
            step = np.clip(step, -0.3, 0.3)  # stays with the minimum that the grid chose
            flat[active] -= step
            active = active[np.abs(step) > 1e-9]  # Newton: the next step is below rounding
            if not active.size:
                break
        return z, flat.reshape(z.shape)


def _solve_estimator(
    alpha: float, law: _Law, start: _State, *, tolerance: float
) -> tuple[_State, NDArray[np.float64]] | None:
    """Replica-symmetric equations of the M-estimator with the present loss, without decay.

    With f = (u - z)/V: E[f y0] = 0, alpha V^2 E[f^2] = tau^2, -alpha V E[df/dz] = 1; the last by
    Stein's identity, which holds where the proximal map jumps, too.
    """
    from scipy.optimize import root

    S, Y = law.S, law.Y

    def unpack(p: NDArray[np.float64]) -> _State:
        return _State(float(p[0]), *map(float, np.exp(p[1:])))

    def equations(p: NDArray[np.float64]) -> list[float]:
        state = unpack(p)
        m, tau2 = state.m, state.tau**2
        z, u = law.prox(state)
        shift = u - z  # V f
        teacher = (tau2 * Y + m * S * z) / (m * m * S + tau2 * (1 + S))  # E[y0 | z, y]
        overlap = law.mean(teacher * shift)
        return [
            alpha * overlap / state.tau,
            0.5 * np.log(alpha * law.mean(shift**2) / tau2),
            -alpha * (law.mean(z * shift) - m * overlap) / tau2 - 1,
        ]

    with np.errstate(all="ignore"):  # a trial step may leave the region where this is finite
        solution = root(equations, [start.m, np.log(start.tau), np.log(start.V)], tol=tolerance)
    # hybr says "no progress" where rounding is reached; the residual decides.
    if not np.max(np.abs(solution.fun)) < max(1e-9, 10 * tolerance):
        return None
    state = unpack(solution.x)
    return state, law.prox(state)[1]


def _normal_nodes(n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gauss-Hermite nodes of a standard normal."""
    x, w = np.polynomial.hermite_e.hermegauss(n)
    return x, w / w.sum()


def _panel_nodes(n_panels: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ten Gauss-Legendre nodes in each panel: the label enters with a cusp where u jumps."""
    x, w = np.polynomial.legendre.leggauss(10)
    edges = np.linspace(-8.2, 8.2, n_panels + 1)
    half = 0.5 * (edges[1] - edges[0])
    nodes = (edges[:-1, None] + half * (1 + x)).ravel()
    weight = np.tile(w, n_panels) * half * np.exp(-0.5 * nodes**2)
    return nodes, weight / weight.sum()
