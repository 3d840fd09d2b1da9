"""Training to the minimum: L-BFGS, and Newton's method for convex problems.

A loss with kinks is smoothed: min_x (x - v)^2/(2 chi) + l(x) at v = u + chi a has a continuous
slope, and with the multipliers a = l'(u) of the last round (the augmented Lagrangian method) the
smoothing leaves no trace in the minimum. Each round is a Newton iteration whose linear systems see
only the samples that sit at a kink or on a curved piece.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

from replica._core.status import Status

from . import _kernels as kernels
from ._data import streams
from ._dense import dense_memory, starting_point, training_set_of
from ._settings import DIVERGENCE_LIMIT, Recorder, RunRecord, TrainingSettings
from ._tables import has_kinks

__all__ = ["minimizer_memory", "run_minimizer"]

# Pairs of steps and gradients that L-BFGS remembers; it costs them, and saves passes over the data.
_MEMORY = 20
# Smoothing chi of a round over that of the one before, and the least: beyond, rounding shows.
_SHARPENING, _SHARPEST = 0.1, 1e-6
# Newton steps of one round; a dozen is usual.
_MOST_STEPS = 100
# Line searches end where the slope has fallen to this part.
_FLAT = 0.5

Array = NDArray[np.float64]


class _Minimum(NamedTuple):
    """`gradient_norm` is |gradient|/sqrt(N); `gap` bounds energy - minimum, over the energy."""

    w: Array
    gamma: float
    status: Status
    iterations: int
    gradient_norm: float
    gap: float


def minimizer_memory(settings: TrainingSettings) -> int:
    """Bytes of one training set and what minimizing on it needs besides."""
    P, N = settings.P, settings.N
    extra = 2 * _MEMORY * N if settings.method == "l-bfgs" else P * N + 2 * min(P, N) ** 2
    return dense_memory(settings) + 8 * (extra + 24 * P + 16 * N)


def run_minimizer(
    settings: TrainingSettings,
    seed: np.random.SeedSequence,
    data_seed: np.random.SeedSequence | None,
    start: tuple[NDArray[Any], float] | None,
    recorder: Recorder,
    stop: threading.Event,
) -> RunRecord:
    """Record the start and the minimum; without convergence the second record stays NaN."""
    began = time.perf_counter()
    data, init = streams(seed, 2)
    training_set = training_set_of(settings, data_seed or data)
    X, y = training_set.X, training_set.y
    w, gamma = starting_point(settings, init, start)
    u = np.empty(settings.P)

    def record(w: Array, gamma: float) -> None:
        kernels.project(X, np.arange(settings.P), w, u)
        recorder.record(u, y, gamma, *kernels.order_parameters(w))

    record(w, gamma)
    problem = _Problem(settings, X, y, recorder, stop)
    if settings.method == "l-bfgs":
        found = _descend(problem, w, gamma)
    elif has_kinks(settings.loss):
        found = _sharpen(problem, w)
    else:
        found = _newton(problem, w)
    recorder.status = found.status
    if found.status == Status.CONVERGED and settings.epochs:
        record(found.w, found.gamma)
    return RunRecord(
        recorder.values,
        recorder.status,
        found.iterations,
        found.w,
        recorder.weight_scale,
        math.nan,
        time.perf_counter() - began,
        found.gradient_norm,
        found.gap,
    )


class _Problem:
    """The energy on one training set, and its parts."""

    def __init__(
        self,
        settings: TrainingSettings,
        X: Array,
        y: Array,
        recorder: Recorder,
        stop: threading.Event,
    ) -> None:
        self.settings, self.X, self.y = settings, X, y
        self.tables, self.stop, self.recorder = recorder.tables, stop, recorder
        self.zeta, self.N = settings.zeta, settings.N
        # The gradient at w = 0 has about this size, whatever the labels.
        slopes = self.tables.losses(y, self.tables.outputs(np.zeros(y.size)), 1)
        self.scale = float(np.linalg.norm(slopes)) or 1.0

    def tick(self) -> None:
        self.recorder.tick()

    def energy_and_gradient(self, w: Array, gamma: float) -> tuple[float, Array, float]:
        """The energy, and its derivatives with respect to w and v = sqrt(N) gamma."""
        settings, tables, P = self.settings, self.tables, self.y.size
        u, c = self.X @ w, np.empty(P)
        L = float(np.linalg.norm(w)) / math.sqrt(self.N)
        while True:
            b, dgamma, *asked = kernels.backpropagate(
                u, self.y, np.empty(0), gamma, L, self.N, settings.center, settings.scale,
                tables.slope, tables.slope, tables.table, tables.loss, c,
            )  # fmt: skip
            if not kernels.beyond(tables.table, *asked):
                break
            if not tables.widen(*asked):
                return math.inf, np.zeros(self.N), 0.0
        normalized = settings.scale != kernels.SCALE_NONE
        h = u
        if normalized or settings.center:
            mean = u.mean() if settings.center else 0.0
            batch = settings.scale == kernels.SCALE_BATCH
            h = (gamma / (math.sqrt(np.mean((u - mean) ** 2)) if batch else L)) * (u - mean)
        energy = float(np.sum(tables.losses(self.y, tables.outputs(h))))
        gradient = -(self.X.T @ c) - b * w
        if normalized:
            v = math.sqrt(self.N) * gamma
            slope = self.zeta * v - math.sqrt(self.N) * dgamma
            return energy + 0.5 * self.zeta * v * v, gradient, slope
        return energy + 0.5 * self.zeta * float(w @ w), gradient + self.zeta * w, 0.0

    def envelope(self, chi: float, a: Array, u: Array) -> tuple[Array, Array] | None:
        """Slopes and curvatures of the smoothed loss at v = u + chi a, with respect to u."""
        tables, y = self.tables, self.y
        margin = tables.margin
        v = y * (u + chi * a) if margin else y - u - chi * a
        slopes, curvatures = np.empty(u.size), np.empty(u.size)
        while beyond := kernels.envelope(tables.loss, chi, v, slopes, curvatures):
            if not tables.widen(0.0, beyond):
                return None
        return (y * slopes if margin else -slopes), curvatures


def _descend(problem: _Problem, w: Array, gamma: float) -> _Minimum:
    """A minimum near the start, by L-BFGS; `the` minimum where the energy is convex."""
    settings, N = problem.settings, problem.N
    normalized = settings.scale != kernels.SCALE_NONE
    root = math.sqrt(N)

    def split(x: Array) -> tuple[Array, float]:
        return (x[:N], float(x[N]) / root) if normalized else (x, math.nan)

    def function(x: Array) -> tuple[float, Array]:
        energy, gradient, slope = problem.energy_and_gradient(*split(x))
        return energy, np.append(gradient, slope) if normalized else gradient

    def after_step(x: Array) -> None:
        problem.tick()
        if problem.stop.is_set():
            raise StopIteration

    bound = settings.tolerance * problem.scale
    solution = minimize(
        function,
        np.append(w, root * gamma) if normalized else w,
        jac=True,
        method="L-BFGS-B",
        callback=after_step,
        options={
            "maxcor": _MEMORY,
            "maxiter": settings.epochs,
            "maxfun": 20 * settings.epochs + 1,
            "ftol": 0.0,
            "gtol": bound / math.sqrt(w.size + 1),  # of the largest component
            "maxls": 50,
        },
    )
    w, gamma = split(solution.x)
    norm = float(np.linalg.norm(solution.jac))
    status = Status.CONVERGED if norm <= bound else Status.MAX_ITERATIONS
    gap = math.nan
    if settings.is_convex and problem.zeta and solution.fun > 0.0:
        gap = norm**2 / (2.0 * problem.zeta * solution.fun)
    return _Minimum(w, gamma, status, int(solution.nit), norm / root, gap)


def _newton(problem: _Problem, w: Array) -> _Minimum:
    """The minimum for a loss without kinks."""
    X, y, zeta, tables = problem.X, problem.y, problem.zeta, problem.tables
    bound = problem.settings.tolerance * problem.scale
    u = X @ w
    status, steps, norm = Status.MAX_ITERATIONS, 0, math.inf

    def slopes(u: Array) -> Array:
        return tables.losses(y, u, 1)

    while True:
        gradient = X.T @ slopes(u) + zeta * w
        norm = float(np.linalg.norm(gradient))
        if norm <= bound:
            status = Status.CONVERGED
            break
        if steps >= problem.settings.epochs or problem.stop.is_set() or not norm < math.inf:
            break
        curvatures = tables.losses(y, u, 2)
        # Without decay a little of the largest curvature keeps the system regular.
        shift = zeta or 1e-12 * float(np.max(curvatures, initial=1e-300)) * X.shape[0] / X.shape[1]
        step = _solve(X, curvatures, shift, gradient)
        d = X @ step
        t = _line_search(lambda t, d=d: d @ slopes(u - t * d), zeta, w, step)
        if not t:
            break
        w, u = w - t * step, u - t * d
        steps += 1
        problem.tick()
        if float(np.linalg.norm(w)) > DIVERGENCE_LIMIT * math.sqrt(w.size):
            break
    gap = math.nan
    if zeta:
        energy = float(np.sum(tables.losses(y, u))) + 0.5 * zeta * float(w @ w)
        gap = norm**2 / (2.0 * zeta * energy) if energy > 0.0 else 0.0
    return _Minimum(w, math.nan, status, steps, norm / math.sqrt(w.size), gap)


def _sharpen(problem: _Problem, w: Array) -> _Minimum:
    """The minimum for a loss with kinks; zeta > 0, which the dual bound needs."""
    X, y, zeta, tables = problem.X, problem.y, problem.zeta, problem.tables
    settings = problem.settings
    u = X @ w
    a = np.zeros(y.size)
    chi = 1.0 if tables.margin else float(np.sqrt(np.mean(y * y))) or 1.0
    smallest = _SHARPEST * chi
    steps, norm, gap, status = 0, math.inf, math.inf, Status.MAX_ITERATIONS
    while status != Status.CONVERGED:
        for _ in range(_MOST_STEPS):
            found = problem.envelope(chi, a, u)
            if found is None:
                return _Minimum(w, math.nan, Status.DIVERGENT, steps, norm, gap)
            multipliers, curvatures = found
            gradient = X.T @ multipliers + zeta * w
            norm = float(np.linalg.norm(gradient))
            energy = float(np.sum(tables.losses(y, u))) + 0.5 * zeta * float(w @ w)
            # Fenchel and Young: l(u) + l*(a) - a u, with a = l'(u_near) at the nearby u_near.
            near = u + chi * (a - multipliers)
            young = tables.losses(y, u) - tables.losses(y, near) - multipliers * (u - near)
            young = float(np.sum(np.maximum(young, 0.0)))
            left = norm**2 / (2.0 * zeta)
            gap = (young + left) / energy if energy > 0.0 else 0.0
            if gap <= settings.tolerance:
                status = Status.CONVERGED
                break
            if left <= max(0.01 * young, 0.1 * settings.tolerance * energy):
                break
            if steps >= settings.epochs or problem.stop.is_set():
                return _Minimum(w, math.nan, status, steps, norm / math.sqrt(w.size), gap)
            step = _solve(X, curvatures, zeta, gradient)
            d = X @ step

            def along(t: float, d: Array = d, chi: float = chi, a: Array = a) -> float:
                there = problem.envelope(chi, a, u - t * d)
                return math.inf if there is None else d @ there[0]

            t = _line_search(along, zeta, w, step)
            w, u = w - t * step, u - t * d
            steps += 1
            problem.tick()
            if not t:
                break
        a = multipliers
        chi = max(_SHARPENING * chi, smallest)
    return _Minimum(w, math.nan, status, steps, norm / math.sqrt(w.size), gap)


def _solve(X: Array, curvatures: Array, zeta: float, gradient: Array) -> Array:
    """Solve (zeta + X^T D X) step = gradient, over the smaller side."""
    rows = np.flatnonzero(curvatures > 0.0)
    D = curvatures[rows]
    active = X if rows.size == len(X) else X[rows]
    if rows.size < X.shape[1]:
        gram = active @ active.T
        gram[np.diag_indices_from(gram)] += zeta / D
        inner = cho_solve(cho_factor(gram, overwrite_a=True, check_finite=False), active @ gradient)
        return (gradient - active.T @ inner) / zeta
    scaled = active * np.sqrt(D)[:, None]
    hessian = scaled.T @ scaled
    hessian[np.diag_indices_from(hessian)] += zeta
    return cho_solve(cho_factor(hessian, overwrite_a=True, check_finite=False), gradient)


def _line_search(slope_of_losses: Callable[[float], float], zeta: float, w: Array, step: Array):
    """How far to go along -step: where the slope of the convex energy has fallen by half."""
    linear, square = float(w @ step), float(step @ step)

    def slope(t: float) -> float:
        found = -float(slope_of_losses(t)) - zeta * (linear - t * square)
        return found if found == found else math.inf

    first = slope(0.0)
    if not first < 0.0:
        return 0.0
    low, high, t = 0.0, math.inf, 1.0
    for _ in range(60):
        here = slope(t)
        if abs(here) <= _FLAT * abs(first):
            return t
        if here > 0.0:
            high = t
        else:
            low = t
        t = 0.5 * (low + high) if high < math.inf else 2.0 * t
    return low
