"""Replica-symmetry breaking of a leaky-ReLU student at zero temperature: the saddle point.

The unknowns are ln chi, m, ln(q_0 - m^2), the logarithms of the steps q_i - q_(i-1) of the overlap,
and those of the breakpoints xi_i, i = 1 .. K. The averages are compiled, and long enough that what
is around them is plain NumPy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from replica._core.arguments import ArgumentError, broadcast, integer, problem, real_array
from replica._core.jit import for_each_chunk
from replica._core.results import Result, over
from replica._core.status import Status, warn_not_converged
from replica.students import LeakyReLU, as_piecewise

from ._nested_levels import Averages, averages
from ._piecewise import piecewise_point
from ._ridge import Point, ridge_point
from ._tilted_sample import bend

__all__ = ["BrokenSymmetry", "error_of_replica_symmetry", "solve_broken_symmetry"]

Array = NDArray[np.float64]

# Steps of the trapezoidal rule, which leave errors of 1e-6, 1e-9 and 1e-12, and the residuals to
# reach with each of them; the first only has to lead to the second.
_RULES = ((0.3, 1e-5), (0.2, 1e-8), (0.15, 1e-10))
# Nested levels take a hundred times as long.
_NESTED_RULES = ((0.45, 1e-3), (0.3, 1e-5), (0.2, 1e-8))
# A step of the overlap below this part of q - m^2 is below the rounding of all that is reported.
_LEAST_GAP = 1e-14
# Of the unknowns, for the Jacobian: between the rounding (1e-13) and the curvature.
_DIFFERENCE = 1e-6
# Where the decay is not followed down from any more.
_LARGEST_ZETA = 1e3


class _Problem(NamedTuple):
    alpha: float
    S: float
    zeta: float
    slope: float


class _Unknowns(NamedTuple):
    """Order parameters at a vector of unknowns, with D of the levels."""

    chi: float
    m: float
    v: float
    d: Array
    xi: Array
    D: Array


class _Found(NamedTuple):
    """A solution and how it was found; the residual is above the tolerance where it was not."""

    x: Array
    residual: float
    jacobian: Array | None
    evaluations: int
    converged: bool


def _unknowns(x: Array) -> _Unknowns:
    K = (x.size - 3) // 2
    d, xi = np.exp(x[3 : 3 + K]), np.exp(x[3 + K :])
    D = np.empty(K + 1)
    D[K] = math.exp(x[0])
    for j in range(K - 1, -1, -1):
        D[j] = D[j + 1] + xi[j] * d[j]
    return _Unknowns(D[K], float(x[1]), math.exp(x[2]), d, xi, D)


def _averages_at(x: Array, p: _Problem, step: float) -> Averages:
    u = _unknowns(x)
    return averages(u.chi, u.m, u.v, u.d, u.xi, p.S, p.slope, step)


def _residuals(x: Array, p: _Problem, step: float) -> Array:
    """What is left of the equations at x, in relative terms."""
    u = _unknowns(x)
    here = averages(u.chi, u.m, u.v, u.d, u.xi, p.S, p.slope, step)
    D = u.D
    first = [
        D[0] * (p.zeta - p.alpha * here.g0) - 1.0,
        u.m - p.alpha * D[0] * here.g1,
        1.0 - p.alpha * D[0] ** 2 * here.V0 / u.v,
    ]
    steps = 1.0 - p.alpha * D[:-1] * D[1:] * here.spread / u.d
    inner = np.array([bend(t) for t in u.xi * u.d / D[1:]])
    return np.concatenate([first, steps, 1.0 - 2.0 * p.alpha * here.excess / inner])


def _newton(
    x: Array,
    p: _Problem,
    rule: tuple[float, float],
    free: slice,
    *,
    jacobian: Array | None = None,
    max_iter: int = 40,
) -> _Found:
    """Newton's method in the unknowns `free`, the others fixed.

    With the first three fixed the self-overlap is held: q_0 follows the steps. The Jacobian is by
    differences, and kept as long as the residual shrinks tenfold, at first the one that is given.
    """
    step, tolerance = rule
    K = (x.size - 3) // 2
    rest = math.exp(x[2]) + float(np.exp(x[3 : 3 + K]).sum())

    def residuals(trial: Array) -> Array:
        with np.errstate(all="ignore"):
            return _residuals(trial, p, step)[free]

    def moved(by: Array) -> Array | None:
        trial = x.copy()
        trial[free] += by
        if free.start == 3:
            left = rest - float(np.exp(trial[3 : 3 + K]).sum())
            if not left > 0.0:
                return None
            trial[2] = math.log(left)
        return trial

    r = residuals(x)
    count, size = 1, _largest(r)
    for _ in range(max_iter):
        if size < tolerance or not size < math.inf:
            break
        fresh = jacobian is None
        if jacobian is None:
            jacobian = np.empty((r.size, r.size))
            for k in range(r.size):
                unit = np.zeros(r.size)
                unit[k] = _DIFFERENCE
                trial = moved(unit)
                there = r if trial is None else residuals(trial)
                jacobian[:, k] = (there - r) / _DIFFERENCE
            count += r.size
        try:
            move = np.asarray(-np.linalg.solve(jacobian, r), dtype=np.float64)
        except np.linalg.LinAlgError:
            break
        if not np.isfinite(move).all():
            break
        damping = 1.0 / max(1.0, float(np.abs(move).max()))
        full = damping == 1.0
        for _ in range(7):
            trial = moved(damping * move)
            if trial is not None:
                there = residuals(trial)
                count += 1
                if _largest(there) < size:
                    break
            damping *= 0.4
        else:
            if fresh:
                break
            jacobian = None
            continue
        if not (full and damping == 1.0 and _largest(there) < 0.1 * size):
            jacobian = None
        x, r, size = trial, there, _largest(there)
    return _Found(x, size, jacobian, count, size < tolerance)


def _largest(r: Array) -> float:
    """The largest residual, infinite if one is no number."""
    return float(np.abs(r).max()) if np.isfinite(r).all() else math.inf


def _start(p: _Problem, chi: float, m: float, v: float) -> Array:
    """The solution of one level for a small jump, at the replica-symmetric overlaps.

    Beside the edge of a sample the field is broadened by s = sqrt(d), and the jump J y of f counts
    as theta = xi J y s. The numbers 0.35 and 1.42 are what the two come to as the jump vanishes.
    """
    alpha, S, _, a = p
    sigma = math.sqrt(1.0 + S)
    mu = m / sigma
    tau = math.sqrt(v + mu * mu * S)
    A, B = math.sqrt(1.0 + chi), math.sqrt(1.0 + a * a * chi)
    kappa = chi * (B + a * A) / (A + B)
    jump = (1.0 - a) / (A * B)
    # labels at the edge are normal with this width
    label = 1.0 / math.hypot(1.0 / sigma, (kappa + mu / sigma) / tau)
    p0, p1, pa = (math.atan2(tau, mu + slope * sigma) for slope in (kappa, chi, a * chi))
    held = (math.pi - p0 + p1) * (chi / (1.0 + chi)) ** 2
    held += (math.pi + p0 - pa) * (a * a * chi / (1.0 + a * a * chi)) ** 2 + pa - p1
    # the replicon without the jump; where it is not positive, this is no more than a guess
    replicon = max(1.0 - alpha * held / (2.0 * math.pi), 0.05)
    s = 0.35 * alpha * (chi * jump) ** 2 * math.sqrt(0.5 * math.pi) * label**3
    s /= 2.0 * math.pi * sigma * tau * replicon
    s = min(s, math.sqrt(0.05 * v))
    breakpoint_ = math.log(1.42 / (jump * label * s))
    return np.array([math.log(chi), m, math.log(v - s * s), 2.0 * math.log(s), breakpoint_])


def _symmetric(p: _Problem) -> Point:
    solve = ridge_point if p.slope == 1.0 else piecewise_point
    return solve(*p[:3]) if p.slope == 1.0 else solve(*p)


def _from_symmetry(p: _Problem, point: Point) -> Array:
    rest = point.gamma**2 * (1.0 - point.R) * (1.0 + point.R)
    return _start(p, point.chi, point.gamma * point.R, rest)


_ALL = slice(0, None)
_ONLY_BREAKING = slice(3, 5)
_BREAKPOINT_GIVEN = slice(0, 4)


def _one_level(p: _Problem, point: Point) -> _Found:
    """Solve for one level by the coarsest rule, from the symmetric solution."""
    rough = _newton(_from_symmetry(p, point), p, (_RULES[0][0], 1e-2), _ONLY_BREAKING, max_iter=20)
    found = _newton(rough.x, p, _RULES[0], _ALL)
    return found._replace(evaluations=rough.evaluations + found.evaluations)


def _follow_zeta(p: _Problem) -> _Found:
    """Solve for one level by the coarsest rule, following it down from a larger decay."""
    zeta, count = max(10.0 * p.zeta, 1e-4), 0
    while True:
        there = p._replace(zeta=zeta)
        found = _one_level(there, _symmetric(there))
        count += found.evaluations
        if found.converged or zeta > _LARGEST_ZETA:
            break
        zeta *= 4.0
    stride, slope = 0.3, np.zeros(5)
    while zeta != p.zeta and found.converged and stride < 0.99:
        then = max(zeta * stride, p.zeta)
        if zeta < 1e-9 * p.alpha:  # far below what the samples do
            then = p.zeta
        ratio = math.log(then / zeta) if then > 0.0 else 0.0
        trial = _newton(
            found.x + ratio * slope, p._replace(zeta=then), _RULES[0], _ALL, max_iter=15
        )
        count += trial.evaluations
        if trial.converged:
            if ratio:
                slope = (trial.x - found.x) / ratio
            zeta, found, stride = then, trial, max(0.1, stride * stride)
        else:
            stride = math.sqrt(stride)
    return found._replace(evaluations=count, converged=found.converged and zeta == p.zeta)


def _follow_breakpoint(p: _Problem, found: _Found, target: float) -> _Found:
    """Follow the solution of one level to a breakpoint that is given, ln xi = target."""
    count, stride = found.evaluations, 0.7
    while found.x[4] != target and stride > 0.01:
        left = target - found.x[4]
        x = found.x.copy()
        x[4] = target if abs(left) <= stride else x[4] + math.copysign(stride, left)
        trial = _newton(x, p, _RULES[0], _BREAKPOINT_GIVEN, max_iter=12)
        count += trial.evaluations
        if trial.converged:
            found = trial
        else:
            stride *= 0.4
    return found._replace(evaluations=count, jacobian=None, converged=found.x[4] == target)


def _deeper(x: Array, K: int) -> Array:
    """The guess for K levels from a solution x for fewer, which takes its place among small jumps.

    Their steps and breakpoints are in known proportions; what x has in others, the guess has too.
    """
    L = (x.size - 3) // 2
    nearest = np.minimum(np.arange(K), L - 1)
    d = x[3 : 3 + L] - np.log(_STEPS_OF_LEVELS[L])
    xi = x[3 + L :] - np.log(_BREAKPOINTS_OF_LEVELS[L])
    d = d[nearest] + np.log(_STEPS_OF_LEVELS[K])
    xi = xi[nearest] + np.log(_BREAKPOINTS_OF_LEVELS[K])
    left = math.exp(x[2]) + float(np.exp(x[3 : 3 + L]).sum() - np.exp(d).sum())
    v = math.log(left) if left > 0.0 else x[2]
    return np.concatenate([x[:2], [v], d, xi])


def _more_levels(p: _Problem, one: _Found, K: int) -> _Found:
    """Solve for K levels by a coarse rule, at once or, if that fails, level by level."""
    found = _newton(_deeper(one.x, K), p, _NESTED_RULES[0], _ALL)
    count, found_levels = found.evaluations, one
    if not found.converged:
        for k in range(2, K + 1):
            found = found_levels = _newton(_deeper(found_levels.x, k), p, _NESTED_RULES[1], _ALL)
            count += found.evaluations
            if not found.converged:
                break
    return found._replace(evaluations=one.evaluations + count)


def _solve(p: _Problem, K: int, xi: float) -> dict[str, object]:
    """Solve one point; every quantity by name."""
    point = _symmetric(p)
    exact = p.slope == 1.0 or not point.chi < math.inf
    if not exact:
        rest = (1.0 - point.R) * (1.0 + point.R)
        exact = rest < _LEAST_GAP
        if not exact:
            x = _from_symmetry(p, point)
            exact = math.exp(x[3]) < _LEAST_GAP * math.exp(x[2])
    if exact:
        return _describe_symmetric(point, K)
    found = _one_level(p, point)
    if not found.converged:
        other = _follow_zeta(p)
        found = other._replace(evaluations=found.evaluations + other.evaluations)
    free, rules, jacobian = _ALL, _RULES[1:], found.jacobian
    if found.converged and K > 1:
        found = _more_levels(p, found, K)
        rules, jacobian = _NESTED_RULES[1:], found.jacobian
    elif found.converged and not math.isnan(xi):
        found = _follow_breakpoint(p, found, math.log(xi))
        free, jacobian = _BREAKPOINT_GIVEN, None
    count, shift = found.evaluations, math.nan
    for rule in rules:
        if not found.converged:
            break
        before = found.x
        found = _newton(before, p, rule, free, jacobian=jacobian, max_iter=30)
        jacobian = found.jacobian
        count += found.evaluations
        shift = float(np.abs(found.x - before).max())
    if not found.converged:
        return _failed(K, found.residual, count)
    row = _describe(p, point, found.x, rules[-1][0], not math.isnan(xi))
    return row | {"residual": found.residual, "quadrature_error": shift, "n_iter": count}


def _describe_symmetric(point: Point, K: int) -> dict[str, object]:
    """Return the replica-symmetric solution, which is the answer, or which does not exist."""
    missing = point.status > Status.DIVERGENT
    nothing = math.nan if missing else 0.0
    return {
        "broken": False,
        "gamma": point.gamma,
        "R": point.R,
        "chi": point.chi,
        "gen_error": point.gen_error,
        "rs_error": nothing,
        "train_error": point.train_error,
        "energy": point.energy,
        "energy_error": nothing,
        "complexity": nothing,
        "dead_fraction": point.dead_fraction,
        "overlaps": np.full(K + 1, point.gamma) ** 2,
        "breakpoints": np.full(K, np.nan),
        "residual": point.residual,
        "quadrature_error": nothing,
        "n_iter": point.n_iter,
        "status": point.status,
    }


def _failed(K: int, residual: float, count: int) -> dict[str, object]:
    nan = math.nan
    status = int(Status.MAX_ITERATIONS)
    nothing = Point(nan, nan, nan, nan, nan, nan, nan, residual, nan, count, status)
    return _describe_symmetric(nothing, K)


def _describe(p: _Problem, point: Point, x: Array, step: float, given: bool) -> dict[str, object]:
    u = _unknowns(x)
    here = _averages_at(x, p, step)
    alpha, _, zeta, a = p
    overlaps = u.v + u.m * u.m + np.concatenate([[0.0], np.cumsum(u.d)])
    q = float(overlaps[-1])
    gamma = math.sqrt(q)
    # first the difference from the symmetric solution, which may be small
    shift = 0.5 * (1.0 + a * a) * (gamma - point.gamma) * (gamma + point.gamma)
    shift -= (1.0 + a) * (u.m - point.gamma * point.R)
    energy = 0.5 * (alpha * here.train + zeta * q)
    t = u.xi * u.d / u.D[1:]
    complexity = 0.5 * bend(t[0]) - alpha * float(here.excess[0]) if given else 0.0
    functional = 0.5 * (zeta * q - float((np.log1p(t) / u.xi).sum()) - u.v / u.D[0])
    functional += alpha * here.phi + complexity / u.xi[0]
    return {
        "broken": True,
        "gamma": gamma,
        "R": u.m / gamma,
        "chi": u.chi,
        "gen_error": point.gen_error + shift,
        "rs_error": shift,
        "train_error": here.train,
        "energy": energy,
        "energy_error": abs(functional - energy) / energy,
        "complexity": complexity,
        "dead_fraction": here.dead,
        "overlaps": overlaps,
        "breakpoints": u.xi,
        "status": int(Status.CONVERGED),
    }


# Steps of the overlap and breakpoints of K levels, in units of those of one level, as the jump of
# f vanishes (measured at slope 0.7, where they have come to within a few parts in a hundred).
_STEPS_OF_LEVELS = {
    1: (1.0,),
    2: (0.9424, 0.2155),
    3: (0.8111, 0.3274, 0.0730),
    4: (0.6978, 0.3641, 0.1425, 0.0317),
    5: (0.6079, 0.3676, 0.1856, 0.0722, 0.0160),
    6: (0.5367, 0.3573, 0.2090, 0.1048, 0.0407, 0.0090),
}
_BREAKPOINTS_OF_LEVELS = {
    1: (1.0,),
    2: (0.7101, 2.6395),
    3: (0.6131, 1.4114, 5.2220),
    4: (0.5643, 1.0499, 2.3835, 8.8734),
    5: (0.5348, 0.8807, 1.6105, 3.6583, 13.704),
    6: (0.5151, 0.7830, 1.2662, 2.3098, 5.2612, 19.814),
}
_MOST_LEVELS = max(_STEPS_OF_LEVELS)


@dataclass(frozen=True, repr=False)
class BrokenSymmetry(Result):
    """Order parameters and errors of a student whose minima form a tree of states.

    All arrays have the broadcast shape of (alpha, S, zeta), those of levels one axis more. Every
    value is NaN where `status` is neither CONVERGED nor DIVERGENT.

    Attributes
    ----------
    student : LeakyReLU
    levels : int
        Number K of steps of replica-symmetry breaking.
    alpha, S, zeta : ndarray
        Load, noise variance, weight decay (sum convention).
    broken : ndarray of bool
        Whether symmetry is broken. Where it is not, replica symmetry is exact (the linear student;
        at zeta = 0 below the interpolation threshold; a teacher that is met), or the step of the
        overlap is below 1e-14 of q - m^2; all values are then those of `solve_equilibrium`.
    gamma, R : ndarray
        Length of the weights, sqrt(|W|^2/N), and cosine with the teacher.
    q_0, q_1 : ndarray
        Overlap of two minima of different states and, for one level, of one state, which is the
        self-overlap gamma^2; see `overlaps` for more levels.
    chi : ndarray
        Susceptibility inside a state.
    xi : ndarray
        The first (smallest) breakpoint: the slope of the complexity, an inverse temperature among
        minima. NaN where symmetry is not broken.
    gen_error : ndarray
        Generalization error against the noise-free teacher.
    rs_error : ndarray
        `gen_error` minus that of replica symmetry: the error of the latter, as far as `levels` see.
    train_error : ndarray
        Mean of (y - g(u))^2 over the training set.
    energy : ndarray
        Per weight: alpha train_error/2 + zeta gamma^2/2.
    energy_error : ndarray
        How far, relatively, the extremum of the functional is from `energy`, which it must equal.
    complexity : ndarray
        Logarithm of the number of minima of this energy, per weight: 0 for the ground state, which
        is solved for unless `xi` was given.
    dead_fraction : ndarray
        Fraction of the samples with y > 0 and student field u < 0.
    overlaps : ndarray, shape (..., levels + 1)
        q_0 .. q_K, increasing; the last is gamma^2.
    breakpoints : ndarray, shape (..., levels)
        xi_1 .. xi_K, increasing.
    residual, quadrature_error : ndarray
        Largest relative residual of the equations; how far the solutions of the last two quadrature
        rules are apart in the logarithms of the unknowns, a bound far above the error of the finer.
    n_iter : ndarray of int
        Evaluations of the averages.
    status : ndarray of int8
        A `Status` per element; `messages` says it in words.
    """

    student: LeakyReLU
    levels: int
    alpha: NDArray[np.float64]
    S: NDArray[np.float64]
    zeta: NDArray[np.float64]
    broken: NDArray[np.bool_]
    gamma: NDArray[np.float64]
    R: NDArray[np.float64]
    q_0: NDArray[np.float64]
    q_1: NDArray[np.float64]
    chi: NDArray[np.float64]
    xi: NDArray[np.float64]
    gen_error: NDArray[np.float64]
    rs_error: NDArray[np.float64]
    train_error: NDArray[np.float64]
    energy: NDArray[np.float64]
    energy_error: NDArray[np.float64]
    complexity: NDArray[np.float64]
    dead_fraction: NDArray[np.float64]
    residual: NDArray[np.float64]
    quadrature_error: NDArray[np.float64]
    n_iter: NDArray[np.int64]
    status: NDArray[np.int8]
    overlaps: NDArray[np.float64] = over(..., "step", in_frames=False)
    breakpoints: NDArray[np.float64] = over(..., "level", in_frames=False)

    _problem = ("student", "levels", "alpha", "S", "zeta")

    def _curve_name(self) -> str:
        return self.student.name


def solve_broken_symmetry(
    alpha: ArrayLike,
    S: ArrayLike,
    zeta: ArrayLike = 0.0,
    *,
    student: str | LeakyReLU = "relu",
    levels: int = 1,
    xi: ArrayLike | None = None,
) -> BrokenSymmetry:
    """Solve for the ground state of a leaky-ReLU student without assuming replica symmetry.

    Parameters
    ----------
    alpha : array_like
        Load P/N, from 1e-100 to 1e100.
    S : array_like
        Variance of the label noise, from 0 to 1e100.
    zeta : array_like
        Weight decay in the sum convention, from 0 to 1e100; 0 means exactly 0.
    student : {"relu", "linear"} or LeakyReLU
        The student's activation; the teacher is linear.
    levels : int
        Number of steps of replica-symmetry breaking, 1 to 6. One takes some 50 ms a point; each
        further one two to five times as long as the one before. What they change falls by a
        factor of four to seven with each.
    xi : array_like, optional
        A given breakpoint instead of that of the ground state (one level): minima of another
        energy, whose number is `BrokenSymmetry.complexity`. Smaller means higher and more of them.

    Returns
    -------
    BrokenSymmetry
        Frozen, with arrays of the broadcast shape.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type, out of range, or the shapes do not broadcast.

    Warns
    -----
    ConvergenceWarning
        If an element did not converge; its values are NaN and `status` says why.

    See Also
    --------
    solve_equilibrium : The replica-symmetric solution, which has closed forms.

    Notes
    -----
    Converged means an undamped relative residual below 1e-10 (1e-8 with more than one level). At
    zeta = 0 within 1e-5 above the interpolation threshold chi is so large that rounding may leave
    more; such a point has the status MAX_ITERATIONS.

    Theory: :eq:`eq-parisi`, :eq:`eq-broken-saddle-point` and :eq:`eq-broken-breakpoint` in
    :doc:`/symmetry_breaking`.

    Examples
    --------
    >>> found = solve_broken_symmetry(2.0, 0.25, 1 / 64)
    >>> print(f"{found.gen_error:.5f} {found.rs_error:.5f} {found.xi:.2f}")
    0.83990 -0.00189 65.37
    """
    who = as_piecewise(student, what="solve_broken_symmetry")
    K = integer("levels", levels, low=1, high=_MOST_LEVELS)
    alpha_, S_, zeta_ = problem(alpha, S, zeta)
    if xi is None:
        given = np.full_like(alpha_, np.nan)
    elif K > 1:
        raise ArgumentError(f"xi can be given for one level only, got levels={K}")
    else:
        given = real_array("xi", xi, low=0.0, low_open=True)
        alpha_, S_, zeta_, given = broadcast(alpha=alpha_, S=S_, zeta=zeta_, xi=given)
    flat = zip(*(array.ravel().tolist() for array in (alpha_, S_, zeta_, given)), strict=True)
    problems = [(_Problem(a, s, z, who.slope), breakpoint_) for a, s, z, breakpoint_ in flat]
    rows: list[dict[str, object]] = [{}] * alpha_.size

    def kernel(start: int, stop: int) -> None:
        for i in range(start, stop):
            rows[i] = _solve(problems[i][0], K, problems[i][1])

    for_each_chunk(kernel, alpha_.size, min_chunk=1)
    kinds = {"broken": np.bool_, "n_iter": np.int64, "status": np.int8}
    more = {"overlaps": (K + 1,), "breakpoints": (K,)}
    columns = {}
    for name in _QUANTITIES:
        column = np.array([row[name] for row in rows], dtype=kinds.get(name, np.float64))
        columns[name] = column.reshape(alpha_.shape + more.get(name, ()))
    warn_not_converged(columns["status"])
    return BrokenSymmetry(
        student=who,
        levels=K,
        alpha=alpha_,
        S=S_,
        zeta=zeta_,
        q_0=columns["overlaps"][..., 0],
        q_1=columns["overlaps"][..., 1],
        xi=columns["breakpoints"][..., 0],
        **columns,
    )


_FROM_LEVELS = ("q_0", "q_1", "xi")
_QUANTITIES = tuple(
    item.name
    for item in fields(BrokenSymmetry)
    if item.name not in (*BrokenSymmetry._problem, *_FROM_LEVELS)
)


def error_of_replica_symmetry(
    alpha: Array, S: Array, zeta: Array, slope: float, gen_error: Array | None = None
) -> Array:
    """`gen_error`, that of one level unless given, less the replica-symmetric one."""
    if gen_error is None:
        return solve_broken_symmetry(alpha, S, zeta, student=LeakyReLU(slope)).rs_error
    problems = zip(alpha.tolist(), S.tolist(), zeta.tolist(), strict=True)
    symmetric = [_symmetric(_Problem(*problem, slope)).gen_error for problem in problems]
    return gen_error - np.array(symmetric)
