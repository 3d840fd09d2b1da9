"""Training to the minimum: L-BFGS, and Newton's method for convex problems.

A loss with kinks is l(x) = q(x) + sum_k J_k max(0, x - e_k), with q smooth: where x - e = s - t,
s, t >= 0, the kink costs J s, and its multiplier a in [0, J] obeys s (J - a) = t a = 0. A
primal-dual interior-point method (S. J. Wright, Primal-Dual Interior-Point Methods, SIAM 1997)
takes both products to 0 together; the multipliers give a bound on how far the minimum is.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

from replica._core.status import Status
from replica.students import LINEAR

from . import _kernels as kernels
from ._data import streams
from ._dense import dense_memory, starting_point, training_set_of
from ._settings import DIVERGENCE_LIMIT, Recorder, RunRecord, TrainingSettings
from ._tables import has_kinks, kinks_of

__all__ = ["minimizer_memory", "run_minimizer"]

# Pairs of steps and gradients that L-BFGS remembers; it costs them, and saves passes over the data.
_MEMORY = 20
# An energy below this part of that of w = 0 is none: without decay every sample is fitted.
_NOTHING = 1e-12
# Of the way to the boundary that an interior-point step goes at most.
_INSIDE = 0.995
# Line searches end where the slope has fallen to this part.
_FLAT = 0.5

Array = NDArray[np.floating]


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
    recorder.population = training_set.population
    w, gamma = starting_point(settings, init, start)
    u = np.empty(settings.P)

    def record(w: Array, gamma: float) -> None:
        kernels.project(X, np.arange(settings.P), w, u)
        recorder.record(u, y, gamma, *kernels.order_parameters(w), w)

    record(w, gamma)
    problem = _Problem(settings, X, y, recorder, stop)
    if settings.method == "l-bfgs":
        found = _descend(problem, w, gamma)
    else:
        solve = _interior_point if has_kinks(settings.loss) else _newton
        found = solve(problem, w) if settings.P >= settings.N else _in_row_space(solve, problem, w)
    found = found._replace(status=_checked(problem, found))
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


def _checked(problem: _Problem, found: _Minimum) -> Status:
    """Without decay samples that are separated have no minimum, or many."""
    if problem.zeta or not problem.tables.margin or problem.settings.student != LINEAR:
        return found.status
    margins = problem.y * (problem.X @ found.w)
    if found.status == Status.NON_FINITE or not (margins > 0.0).all():
        return found.status
    attained = problem.settings.loss.slopes(margins.max()) == 0.0
    return Status.NEEDS_DECAY if attained else Status.DIVERGENT


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


def _in_row_space(
    solve: Callable[[_Problem, Array], _Minimum], problem: _Problem, w: Array
) -> _Minimum:
    """The minimum of fewer samples than weights: P coordinates of w along the samples.

    With X X^T = L L^T they are L^T beta for w = X^T beta, which keeps lengths and makes L the data.
    """
    X = problem.X
    try:
        L = cholesky((X @ X.T).T, lower=True, overwrite_a=True, check_finite=False)
    except LinAlgError:  # samples that depend on each other, as of inputs of low rank
        return solve(problem, w)

    def back(v: Array) -> Array:
        return X.T @ solve_triangular(L, v, trans=1, lower=True, check_finite=False)

    v = solve_triangular(L, X @ w, lower=True, check_finite=False)
    problem.X = L
    found = solve(problem, v)
    problem.X = X
    # Decay takes the rest of w; without it nothing does.
    rest = np.zeros_like(w) if problem.zeta else w - back(v)
    return found._replace(w=back(found.w) + rest)


def _newton(problem: _Problem, w: Array) -> _Minimum:
    """The minimum for a loss without kinks."""
    X, y, zeta, tables = problem.X, problem.y, problem.zeta, problem.tables
    bound = problem.settings.tolerance * problem.scale
    u = X @ w
    status, steps, norm, gap = Status.MAX_ITERATIONS, 0, math.inf, math.nan

    def slopes(u: Array) -> Array:
        return tables.losses(y, u, 1)

    while True:
        gradient = X.T @ slopes(u) + zeta * w
        norm = float(np.linalg.norm(gradient))
        energy = float(np.sum(tables.losses(y, u))) + 0.5 * zeta * float(w @ w)
        gap = norm**2 / (2.0 * zeta * energy) if zeta and energy > 0.0 else math.nan
        if norm <= bound and not gap > problem.settings.tolerance:
            status = Status.CONVERGED
            break
        if steps >= problem.settings.epochs or problem.stop.is_set() or not norm < math.inf:
            break
        curvatures = tables.losses(y, u, 2)
        # Without decay a little of the largest curvature keeps the system regular.
        shift = zeta or 1e-12 * float(np.max(curvatures, initial=1e-300)) * X.shape[0] / X.shape[1]
        try:
            step = _factorize(X, curvatures, shift)(gradient)
        except LinAlgError:
            break
        d = X @ step
        t = _line_search(lambda t, u=u, d=d: float(d @ slopes(u - t * d)), zeta, w, step)
        if not t:
            break
        w, u = w - t * step, u - t * d
        steps += 1
        problem.tick()
        if float(np.linalg.norm(w)) > DIVERGENCE_LIMIT * math.sqrt(w.size):
            break
    return _Minimum(w, math.nan, status, steps, norm / math.sqrt(problem.N), gap)


class _Inside(NamedTuple):
    """Multipliers a and b = J - a of the kinks e, and x - e = s - t; all positive.

    b is kept beside a: near the minimum a difference would be 0.
    """

    a: Array
    b: Array
    s: Array
    t: Array

    def length(self, da: Array, ds: Array, dt: Array) -> float:
        """How much of a step leaves all of them positive, 1 at most."""
        most = 1.0 / _INSIDE
        for value, change in zip(self, (da, -da, ds, dt), strict=True):
            falling = change < 0.0
            if falling.any():
                most = min(most, float(np.min(-value[falling] / change[falling])))
        return _INSIDE * most

    def moved(self, far: float, da: Array, ds: Array, dt: Array) -> _Inside:
        """After this part of a step."""
        a, b, s, t = self
        return _Inside(a + far * da, b - far * da, s + far * ds, t + far * dt)

    def product(self) -> float:
        """Mean of s b and t a, which are 0 at the minimum."""
        return float(np.mean(self.s * self.b + self.t * self.a)) / 2.0


class _Linearized(NamedTuple):
    """The equations of the minimum around a point, `off` = x - e and D = da/dx."""

    X: Array
    sign: Array
    gradient: Array
    off: Array
    inside: _Inside
    D: Array
    solve: Callable[[Array], Array]

    def step(self, product_s: Array, product_t: Array) -> tuple[Array, Array, Array, Array]:
        """Steps of w, a, s and t towards these products s b and t a."""
        X, sign, D = self.X, self.sign, self.D
        a, b, s, t = self.inside
        shift = D * (self.off - product_s / b + product_t / a)
        dw = -self.solve(self.gradient + X.T @ (sign * shift.sum(axis=0)))
        da = D * (sign * (X @ dw)) + shift
        return dw, da, (product_s + s * da) / b - s, (product_t - t * da) / a - t


def _interior_point(problem: _Problem, w: Array) -> _Minimum:
    """The minimum for a loss with kinks."""
    X, y, zeta, tables = problem.X, problem.y, problem.zeta, problem.tables
    settings = problem.settings
    if not zeta and y.size <= problem.N:  # every sample can be fitted, in many ways
        return _Minimum(w, math.nan, Status.NEEDS_DECAY, 0, math.nan, math.nan)
    # x = y - u or y u has the slope `sign` along u.
    sign = y if tables.margin else np.full(y.size, -1.0)
    e, J = (part[:, None] for part in kinks_of(settings.loss))
    off = settings.loss.argument(y, X @ w) - e
    half = np.broadcast_to(0.5 * J, off.shape)
    away = float(np.mean(np.abs(off))) or 1.0
    inside = _Inside(half, half, np.maximum(off, 0.0) + away, np.maximum(-off, 0.0) + away)
    steps, status = 0, Status.MAX_ITERATIONS
    nothing = _NOTHING * float(np.sum(tables.losses(y, np.zeros(y.size))))
    while True:
        u = X @ w
        off = settings.loss.argument(y, u) - e
        smooth = sign * tables.losses(y, u, 1) - np.sum(np.where(off > 0.0, J, 0.0), axis=0)
        gradient = X.T @ (sign * (smooth + inside.a.sum(axis=0))) + zeta * w
        norm = float(np.linalg.norm(gradient))
        energy = float(np.sum(tables.losses(y, u))) + 0.5 * zeta * float(w @ w)
        # Fenchel and Young: what the kinks cost above their tangents a.
        missed = inside.b * np.maximum(off, 0.0) + inside.a * np.maximum(-off, 0.0)
        # Without decay |w| stands for the unknown distance from the minimum.
        rest = norm**2 / (2.0 * zeta) if zeta else norm * float(np.linalg.norm(w))
        gap = (float(np.sum(missed)) + rest) / energy if energy > 0.0 else 0.0
        if not zeta and energy <= nothing:
            status = Status.NEEDS_DECAY
        elif gap <= settings.tolerance:
            status = Status.CONVERGED
        elif steps < settings.epochs and not problem.stop.is_set() and gap < math.inf:
            D = 1.0 / (inside.s / inside.b + inside.t / inside.a)
            try:
                solve = _factorize(X, tables.losses(y, u, 2) + D.sum(axis=0), zeta)
            except LinAlgError:
                break
            equations = _Linearized(X, sign, gradient, off, inside, D, solve)
            # Mehrotra's predictor and corrector.
            _, da, ds, dt = equations.step(np.zeros_like(D), np.zeros_like(D))
            now, then = inside.product(), inside.moved(inside.length(da, ds, dt), da, ds, dt)
            aim = now * min(max(then.product() / now, 0.0), 1.0) ** 3
            dw, da, ds, dt = equations.step(aim + ds * da, aim - dt * da)
            far = inside.length(da, ds, dt)
            w, inside = w + far * dw, inside.moved(far, da, ds, dt)
            steps += 1
            problem.tick()
            continue
        break
    return _Minimum(w, math.nan, status, steps, norm / math.sqrt(problem.N), gap)


def _factorize(X: Array, curvatures: Array, zeta: float) -> Callable[[Array], Array]:
    """The solver of (zeta + X^T D X) step = gradient."""
    rows = np.flatnonzero(curvatures > 0.0)
    scaled = X[rows]
    scaled *= np.sqrt(curvatures[rows])[:, None]
    hessian = scaled.T @ scaled
    hessian[np.diag_indices_from(hessian)] += zeta
    # The transpose is in the order of LAPACK: no copy.
    factor = cho_factor(hessian.T, overwrite_a=True, check_finite=False)
    return lambda gradient: cho_solve(factor, gradient)


def _line_search(
    slope_of_losses: Callable[[float], float], zeta: float, w: Array, step: Array
) -> float:
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
