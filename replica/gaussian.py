"""Gaussian averages in one, two and three dimensions, each with an error estimate.

Smooth directions use a Gauss-Hermite rule, directions with declared kinks or jumps are cut there
into Gauss-Legendre pieces, which keep their full order; each is compared with a rule of another
kind, since two of one kind agree on what is odd, whether it is smooth or not. `gaussian_average`
takes any callable and refines until it reaches a tolerance; `mean_1d`, `mean_2d` and `mean_3d` are
fixed rules for use inside compiled code; `cone_moments` is a closed form.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import roots_hermitenorm, roots_legendre

from ._core.arguments import ArgumentError, integer, real_array, real_scalar
from ._core.callables import evaluate
from ._core.jit import jit
from ._core.results import Result
from ._core.status import Status

__all__ = ["Average", "cone_moments", "gaussian_average", "hermite_rule", "mean_1d", "mean_2d"]
__all__ += ["mean_3d", "sector_moments", "split_rule"]

Array = NDArray[np.float64]
Line = float | Callable[..., Any]  # a kink, or where it is given the preceding components

# Edges of the pieces of the standard normal law; beyond 13 its mass is 1e-38. The solvers have
# pieces of their own (`EDGES` of the equilibrium): there f is at most linear, here it may grow.
_EDGES = np.array([-13, -11, -8, -5, -3, -1.5, 0, 1.5, 3, 5, 8, 11, 13], dtype=np.float64)
# Fewer pieces per axis in several dimensions; beyond 9 the mass is 2e-19.
_EDGES_ND = np.array([-9, -5, -2.5, 0, 2.5, 5, 9], dtype=np.float64)
# The coarser rule has other pieces: with the same ones, or with mirror images, two rules agree
# exactly on a step in the middle of a piece or beside its ends, and both are wrong.
_COARSE_EDGES = np.array(
    [-13, -10.4, -7.6, -4.7, -2.75, -1.15, 0.35, 1.8, 3.4, 5.6, 8.7, 11.3, 13], dtype=np.float64
)
_COARSE_EDGES_ND = np.array([-9, -5.2, -2.8, -0.55, 1.75, 4.25, 9], dtype=np.float64)
# What the integrand still has in the outer pieces beyond this point counts as error.
_TAIL = 11.0
_TAIL_ND = 8.5
_FINE = roots_legendre(16)
_COARSE = roots_legendre(10)
_HERMITE_ORDER = 60
# Where a piece is cut in two. One 16-node rule on the piece and one on each part then differ by at
# least a seventh of the error, wherever a step lies between the outer nodes; cut in the middle
# they agree exactly on a step there.
_CUT = 0.452
# The outer nodes of a piece stand 0.5 % inside it. The integrand is also asked for here, in units
# of the piece, so that what happens beyond them is seen.
_PROBE = 1e-15


@dataclass(frozen=True, repr=False)
class Average(Result):
    """A Gaussian average: its value, an estimate of its error, and what it took.

    Attributes
    ----------
    value : float
        The average.
    error : float
        Estimate of the absolute error, rounding included.
    n_evaluations : int
        Number of points at which the integrand was evaluated.
    status : Status
        CONVERGED if `error` is within the tolerance that was asked for (1e-12 if none was); DONE
        if the evaluations that were allowed, or the fixed rules, left a larger one.
    """

    value: float
    error: float
    n_evaluations: int
    status: Status

    def __float__(self) -> float:
        return self.value


def gaussian_average(
    integrand: Callable[..., float],
    covariance: ArrayLike = 1.0,
    *,
    mean: ArrayLike = 0.0,
    kinks: Sequence[Line] | Sequence[Sequence[Line]] = (),
    tol: float | None = 1e-12,
    max_evaluations: int = 2_000_000,
) -> Average:
    """Average of `integrand` over a Gaussian vector of one, two or three components.

    Parameters
    ----------
    integrand : callable
        f(x), f(x, y) or f(x, y, z): compiled (``numba.njit``) or plain Python, of floats.
    covariance : float or array_like, shape (d, d)
        Variance (one dimension) or covariance matrix, positive semidefinite; d <= 3.
    mean : float or array_like, shape (d,), optional
        Mean of the Gaussian vector.
    kinks : sequence, optional
        Where the integrand or its slope jumps, or has a singularity that can be integrated: it is
        not evaluated there. In any order, also twice, or far out. In one dimension, the points. In
        d dimensions, d sequences, one per component; an entry is a number, or a function of the
        *preceding* components (``lambda x: 0.5 * x`` for a jump of f(x, y) along y = x / 2).
    tol : float or None, optional
        Error to reach, absolute below 1 and relative above. None: one pair of fixed rules without
        refinement.
    max_evaluations : int, optional
        Refinement stops before it would evaluate the integrand more often than this.

    Returns
    -------
    Average
        The most accurate value reached, with its error estimate: the difference between the last
        two rules, plus the rounding error, plus what the integrand still has in the far tails. A
        kink that was not declared is found by refinement, in one dimension down to full accuracy.
        A feature narrower than the distance of the nodes, 0.1 to 0.5 standard deviations at first,
        that no node sees remains unseen.

    Raises
    ------
    TypeError
        If the integrand does not return one real number.
    ValueError
        If the covariance is not symmetric positive semidefinite with d <= 3, if `kinks` does not
        fit d, or if the integrand is not finite.

    Notes
    -----
    Theory: :eq:`eq-gaussian-average` in :doc:`/gaussian`.

    Examples
    --------
    >>> average = gaussian_average(lambda z: max(z - 0.3, 0.0), kinks=[0.3])
    >>> round(average.value, 12), average.error < 1e-12
    (0.266761242117, True)
    >>> gaussian_average(lambda x, y: x * y, [[1.0, 0.4], [0.4, 2.0]]).value
    0.4...
    """
    shift, factor = _mean_and_factor(mean, covariance)
    dimension = shift.size
    lines = _lines(kinks, dimension)
    tol_used = 1e-12 if tol is None else real_scalar("tol", tol, low=0.0)
    limit = integer("max_evaluations", max_evaluations, low=1)

    if dimension == 1:
        found = _one_dimension(
            integrand, shift[0], factor[0, 0], cast(list[float], lines[0]), tol, limit
        )
        return _average(*found, tol_used)

    def integrate(level: int) -> tuple[float, float, int]:
        points, z, weights = _tensor_rule(shift, factor, lines, level)
        values = evaluate(integrand, *points, name="integrand")
        terms = weights * values
        rounding = 4e-16 * float(np.abs(terms).sum())
        outside = np.abs(z).max(axis=0) > _TAIL_ND
        tail = float(np.abs(terms[outside]).sum())
        return float(terms.sum()), rounding + tail, values.size

    value, _, used = integrate(0)
    error = np.inf
    for level in range(1, 12):
        last, last_error = value, error
        value, floor, n = integrate(level)
        used += n
        error = abs(value - last) + floor
        # Two rules may agree by accident while neither has converged.
        if level > 1:
            error = max(error, 0.25 * last_error)
        if tol is None or error <= tol_used * max(1.0, abs(value)):
            break
        if used + _size(lines, level + 1) > limit:
            break
    return _average(value, error, used, tol_used)


def _average(value: float, error: float, used: int, tol: float) -> Average:
    reached = error <= tol * max(1.0, abs(value))
    return Average(value, error, used, Status.CONVERGED if reached else Status.DONE)


def hermite_rule(n: int) -> tuple[Array, Array]:
    """Gauss-Hermite rule for averages over a standard normal variable.

    Exact for polynomials up to degree 2 n - 1; use `split_rule` for anything with a kink.

    Parameters
    ----------
    n : int
        Number of nodes, 1 to 2000.

    Returns
    -------
    nodes, weights : ndarray, shape (n,)
        The average of f is ``weights @ f(nodes)``.

    Raises
    ------
    TypeError, ValueError
        If `n` is no integer or out of range.

    Notes
    -----
    Theory: :eq:`eq-gauss-hermite` in :doc:`/gaussian`.

    Examples
    --------
    >>> nodes, weights = hermite_rule(8)
    >>> bool(abs(weights @ nodes**4 - 3) < 1e-13)
    True
    """
    nodes, weights = _hermite(integer("n", n, low=1, high=2000))
    return nodes.copy(), weights.copy()


def split_rule(kinks: ArrayLike = ()) -> tuple[Array, Array]:
    """Piecewise Gauss-Legendre rule for averages over a standard normal variable.

    Each piece has 16 nodes; the arrays may be handed to compiled code.

    Parameters
    ----------
    kinks : array_like
        Where the function, or its slope, jumps: the pieces end there. In any order.

    Returns
    -------
    nodes, weights : ndarray, one-dimensional
        The average of f is ``weights @ f(nodes)``.

    Raises
    ------
    TypeError, ValueError
        If `kinks` are not finite real numbers.

    Notes
    -----
    Theory: :eq:`eq-split-rule` in :doc:`/gaussian`.

    Examples
    --------
    >>> nodes, weights = split_rule([0.0])
    >>> bool(abs(weights @ (nodes > 0) - 0.5) < 1e-15)
    True
    """
    points = np.sort(real_array("kinks", np.asarray(kinks, dtype=np.float64)).ravel())
    return _legendre_rule(_EDGES, points, *_FINE)


def _mean_and_factor(mean: ArrayLike, covariance: ArrayLike) -> tuple[Array, Array]:
    matrix = np.atleast_2d(real_array("covariance", covariance))
    dimension = matrix.shape[0]
    if matrix.shape != (dimension, dimension) or dimension > 3:
        raise ArgumentError(
            f"covariance must be a variance or a (d, d) matrix with d <= 3, got {matrix.shape}"
        )
    # Every entry is compared on the scale of its own components, which may differ by much.
    sd = np.sqrt(np.abs(np.diag(matrix)))
    scales = np.outer(sd, sd)
    if (np.abs(matrix - matrix.T) > 1e-12 * scales).any():
        raise ArgumentError(f"covariance must be symmetric, got {matrix.tolist()}")
    factor = np.zeros_like(matrix)
    for i in range(dimension):
        for j in range(i):
            rest = matrix[i, j] - factor[i, :j] @ factor[j, :j]
            factor[i, j] = rest / factor[j, j] if factor[j, j] > 0 else 0.0
        rest = matrix[i, i] - factor[i, :i] @ factor[i, :i]
        # A rounding error below zero is a singular covariance, which is allowed.
        if rest < -1e-12 * scales[i, i]:
            raise ArgumentError(f"covariance must be positive semidefinite, got {matrix.tolist()}")
        factor[i, i] = math.sqrt(rest) if rest > 1e-15 * scales[i, i] else 0.0
    if (np.abs(factor @ factor.T - matrix) > 1e-9 * scales).any():
        raise ArgumentError(f"covariance must be positive semidefinite, got {matrix.tolist()}")
    shift = real_array("mean", mean)
    if shift.ndim == 0:
        shift = np.full(dimension, float(shift))
    if shift.shape != (dimension,):
        raise ArgumentError(f"mean must have shape ({dimension},), got {shift.shape}")
    return shift, factor


def _lines(kinks: Any, dimension: int) -> list[list[Line]]:
    if dimension == 1:
        kinks = [kinks]
    if len(kinks) == 0:
        kinks = [()] * dimension
    if len(kinks) != dimension:
        raise ArgumentError(
            f"kinks must hold {dimension} sequences, one per component, got {kinks!r}"
        )
    lines = []
    for component, entries in enumerate(kinks):
        checked: list[Line] = []
        for entry in entries:
            if callable(entry):
                if component == 0:
                    raise ArgumentError("kinks of the first component must be numbers")
                checked.append(entry)
            else:
                checked.append(real_scalar("kinks", entry))
        lines.append(checked)
    return lines


def _size(lines: list[list[Line]], level: int) -> int:
    size = 1
    for entries in lines:
        if not entries and level < 2:
            size *= _smooth_rule(level)[0].size
        else:
            pieces = _EDGES_ND.size - 1 + len(entries)
            size *= pieces * 16 << max(0, _halvings(entries, level))
    return size


def _halvings(entries: list[Line], level: int) -> int:
    """Return how often the pieces of an axis are halved; -1 stands for the coarser rule."""
    return level - 1 if entries else level - 3


def _tensor_rule(
    shift: Array, factor: Array, lines: list[list[Line]], level: int
) -> tuple[list[Array], Array, Array]:
    """Return the points (one array per component), the standard normal z (d, n), the weights."""
    z = np.zeros((0, 1))
    weights = np.ones(1)
    points: list[Array] = []
    for i, entries in enumerate(lines):
        center = shift[i] + factor[i, :i] @ z if i else np.full(1, shift[i])
        width = factor[i, i]
        given = cuts = np.empty((weights.size, 0))
        if width == 0.0:
            new_z, new_w = np.zeros((weights.size, 1)), np.ones((weights.size, 1))
        elif not entries and level < 2:
            nodes, node_weights = _smooth_rule(level)
            new_z = np.broadcast_to(nodes, (weights.size, nodes.size))
            new_w = np.broadcast_to(node_weights, new_z.shape)
        else:
            given = np.empty((weights.size, len(entries)))
            for k, entry in enumerate(entries):
                given[:, k] = evaluate(entry, *points, name="kinks") if callable(entry) else entry
            cuts = (given - center[:, None]) / width
            halvings = _halvings(entries, level)
            if halvings < 0:
                new_z, new_w = _legendre_pieces(_COARSE_EDGES_ND, cuts, *_COARSE, 0)
            else:
                new_z, new_w = _legendre_pieces(_EDGES_ND, cuts, *_FINE, halvings)
        repeat = new_z.shape[1]
        z = np.concatenate([np.repeat(z, repeat, axis=1), new_z.reshape(1, -1)])
        weights = np.repeat(weights, repeat) * new_w.ravel()
        points = [np.repeat(p, repeat) for p in points]
        points.append(np.repeat(center, repeat) + width * z[-1])
        for edge, cut in zip(given.T, cuts.T, strict=True):
            _leave(np.repeat(edge, repeat), points[-1], z[-1], np.repeat(cut, repeat))
        # Pieces of length zero, between equal kinks, lie on them.
        inside = new_w.ravel() > 0.0
        if not inside.all():
            z, weights, points = z[:, inside], weights[inside], [p[inside] for p in points]
    return points, z, weights


def _leave(kink: Array | float, x: Array, z: Array, cut: Array | float) -> None:
    """Move the points `x` that were rounded onto a kink to their own side of it, in place."""
    hit = x == kink
    if hit.any():
        side = np.where(z >= cut, np.inf, -np.inf)
        x[hit] = np.nextafter(x, side)[hit]


def _legendre_pieces(
    base: Array,
    cuts: Array,
    nodes: Array,
    node_weights: Array,
    halvings: int,
) -> tuple[Array, Array]:
    """Return nodes and weights of shape (n, m) for n sets of cuts, each piece halved."""
    edges = np.broadcast_to(base, (cuts.shape[0], base.size))
    cuts = np.clip(cuts, base[0], base[-1])
    edges = np.sort(np.concatenate([edges, cuts], axis=1), axis=1)
    for _ in range(halvings):
        halved = np.empty((edges.shape[0], 2 * edges.shape[1] - 1))
        halved[:, ::2] = edges
        halved[:, 1::2] = (edges[:, 1:] + edges[:, :-1]) / 2
        edges = halved
    half = np.diff(edges, axis=1)[:, :, None] / 2
    z = (edges[:, :-1, None] + half) + half * nodes
    weights = half * node_weights * np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return z.reshape(len(z), -1), weights.reshape(len(z), -1)


def _one_dimension(
    integrand: Callable[..., float],
    mean: float,
    sd: float,
    kinks: list[float],
    tol: float | None,
    limit: int,
) -> tuple[float, float, int]:
    """Return value, error and evaluations: two rules, then pieces that are cut where they fail."""
    if sd == 0.0:
        value = float(evaluate(integrand, np.array([mean]), name="integrand")[0])
        return value, 4e-16 * abs(value), 1
    cuts = (np.array(kinks, dtype=np.float64) - mean) / sd

    def weighted(z: Array) -> Array:
        x = (mean + sd * z).ravel()
        for kink, cut in zip(kinks, cuts, strict=True):
            _leave(kink, x, z.ravel(), cut)
        values = evaluate(integrand, x, name="integrand").reshape(z.shape)
        return values * np.exp(-z * z / 2) / math.sqrt(2 * math.pi)

    def places(left: Array, right: Array) -> Array:
        half = (right - left)[:, None] / 2
        return (left[:, None] + half) + half * _PROBED

    def integrals(at: Array, left: Array, right: Array) -> tuple[Array, Array, Array, Array]:
        """Return the integrals of f and |f|, what may hide at the ends, and how poor the fit is."""
        half = (right - left)[:, None] / 2
        terms = at[:, 1:-1] * half * _FINE[1]
        with np.errstate(over="ignore", invalid="ignore"):
            beyond, last = np.abs(at @ _BEYOND), np.abs(at @ _LAST)
        noise = 1e-12 * np.abs(at).max(axis=1, keepdims=True)
        hidden = np.where(beyond > _UNLIKELY * last + noise, beyond, 0.0).sum(axis=1)
        defect = np.maximum(last - noise, 0.0).max(axis=1)
        hidden *= _OUTER_GAP * half[:, 0]
        return terms.sum(axis=1), np.abs(terms).sum(axis=1), hidden, defect

    value = used = 0
    error = np.inf
    accuracy = 1e-12 if tol is None else tol
    if not kinks:
        (z, w), (other_z, other_w) = _smooth_rule(1), _smooth_rule(0)
        # Two coarser rules, as it costs little here: no kink lies where both agree with the finer.
        nodes = np.concatenate([z, other_z, -other_z])
        values = evaluate(integrand, mean + sd * nodes, name="integrand")
        terms = w * values[: z.size]
        value = float(terms.sum())
        others = values[z.size :].reshape(2, -1) @ other_w
        tail = np.abs(terms[np.abs(z) > _TAIL]).sum()
        error = float(np.abs(value - others).max() + 4e-16 * np.abs(terms).sum() + tail)
        used = nodes.size
        if tol is None or error <= accuracy * max(1.0, abs(value)):
            return value, error, used
    edges = np.unique(np.concatenate([_EDGES, np.clip(cuts, -13.0, 13.0)]))
    left, right = edges[:-1], edges[1:]
    z, w = _legendre_pieces(_COARSE_EDGES, cuts[None], *_COARSE, 0)
    z, w = (z[w > 0.0], w[w > 0.0]) if kinks else (np.empty(0), np.empty(0))
    fine = places(left, right)
    values = weighted(np.concatenate([fine.ravel(), z]))  # one call of the integrand is cheaper
    used += values.size
    at = values[: fine.size].reshape(fine.shape)
    coarse, size, hidden, defect = integrals(at, left, right)
    if kinks:
        terms = w * math.sqrt(2 * math.pi) * np.exp(z * z / 2) * values[fine.size :]
        value = float(coarse.sum())
        tail = size[np.maximum(np.abs(left), np.abs(right)) > _TAIL].sum()
        floor = 4e-16 * size.sum() + tail + hidden.sum()
        error = float(abs(value - terms.sum()) + floor)
        if tol is None or error <= accuracy * max(1.0, abs(value)):
            return value, error, used
    before = error * size / max(float(size.sum()), 1e-300)
    value = error = 0.0
    for _ in range(100):
        if not left.size:
            break
        cut = left + _CUT * (right - left)
        lows, highs = np.concatenate([left, cut]), np.concatenate([cut, right])
        parts = np.stack(integrals(weighted(places(lows, highs)), lows, highs)).reshape(4, 2, -1)
        (first, second), sizes, hidden, defects = parts
        used += lows.size * _PROBED.size
        size = sizes.sum(axis=0)
        piece_error = np.abs(first + second - coarse)
        # Where a polynomial fits the parts no better than the whole, no rule converges fast: two
        # that agree do so by accident.
        slow = defects.max(axis=0) > 1e-3 * defect
        piece_error = np.where(slow, np.maximum(piece_error, 0.1 * before), piece_error)
        piece_error += 4e-16 * size
        piece_error += hidden.sum(axis=0)
        piece_error += np.where(np.maximum(np.abs(left), np.abs(right)) > _TAIL, size, 0.0)
        scale = max(1.0, abs(value + float((first + second).sum())))
        done = piece_error <= np.maximum(0.02 * accuracy * scale, 8e-16 * size)
        done |= right - left < 1e-13
        total, total_error = first + second, float(piece_error.sum())
        enough = error + total_error <= accuracy * scale
        if enough or used + 4 * left.size * _PROBED.size > limit:
            done[:] = True
        value += float(total[done].sum())
        error += float(piece_error[done].sum())
        again = ~done
        left, right = (
            np.concatenate([left[again], cut[again]]),
            np.concatenate([cut[again], right[again]]),
        )
        coarse = np.concatenate([first[again], second[again]])
        defect = defects[:, again].ravel()
        before = np.concatenate([piece_error[again], piece_error[again]])
    return value, error, used


def _extrapolation(nodes: Array, x: float) -> Array:
    """Return the weights with which values at `nodes` make their polynomial's value at `x`."""
    factors = (x - nodes[None, :]) / (nodes[:, None] - nodes[None, :] + np.eye(nodes.size))
    np.fill_diagonal(factors, 1.0)
    return factors.prod(axis=1)


def _end_checks() -> tuple[Array, Array]:
    """Return two matrices, for both ends of a piece: values at `_PROBED` times matrix is a defect.

    The first: how far the value at the probe is from the polynomial through all nodes; the
    second: how far the value at the outer node is from the polynomial through the others.
    """
    nodes = _FINE[0]
    beyond, last = np.zeros((nodes.size + 2, 2)), np.zeros((nodes.size + 2, 2))
    for column, probe, outer in ((0, 0, 0), (1, -1, -1)):
        others = np.delete(np.arange(nodes.size), outer)
        beyond[1:-1, column] = -_extrapolation(nodes, _PROBED[probe])
        beyond[probe, column] = 1.0
        last[1 + others, column] = -_extrapolation(nodes[others], nodes[outer])
        last[1:-1, column][outer] = 1.0
    return beyond, last


_PROBED = np.concatenate([[2 * _PROBE - 1], _FINE[0], [1 - 2 * _PROBE]])
_BEYOND, _LAST = _end_checks()
# Of a smooth function the first defect is at most 10 times the second.
_UNLIKELY = 50.0
_OUTER_GAP = 1.0 - _FINE[0][-1]


@lru_cache(maxsize=2)
def _smooth_rule(level: int) -> tuple[Array, Array]:
    """Return the coarser (0) or finer (1) rule of a variable without kinks.

    The coarser is the trapezoidal rule, which is as accurate here as a Gauss-Hermite rule of 32
    nodes; with nodes that are not symmetric about 0 it differs from the finer one by at least a
    seventh of the error, wherever a step lies. Two Gauss-Hermite rules agree on every odd function.
    """
    if level == 1:
        return _hermite(_HERMITE_ORDER)
    z = 0.5 * (np.arange(-20.0, 21.0) + 0.185)
    weights: Array = np.exp(-z * z / 2)
    return z, weights / weights.sum()


@lru_cache(maxsize=32)
def _hermite(n: int) -> tuple[Array, Array]:
    nodes, weights = roots_hermitenorm(n)
    return nodes, weights / weights.sum()


# --- Kernels for compiled code -------------------------------------------------------------------


@jit
def _legendre_rule(
    base: Array, cuts: Array, nodes: Array, node_weights: Array
) -> tuple[Array, Array]:
    """Return nodes and weights of the standard normal law cut at `base` and `cuts`."""
    edges = np.sort(np.concatenate((base, cuts)))
    order = nodes.size
    z = np.empty((edges.size - 1) * order)
    w = np.empty_like(z)
    count = 0
    for piece in range(edges.size - 1):
        low = max(edges[piece], -13.0)
        high = min(edges[piece + 1], 13.0)
        if high <= low:
            continue
        half = 0.5 * (high - low)
        for k in range(order):
            x = low + half + half * nodes[k]
            z[count] = x
            w[count] = half * node_weights[k] * math.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
            count += 1
    return z[:count], w[:count]


@jit
def mean_1d(
    integrand: Callable[..., float], mean: float, sd: float, kinks: Array
) -> tuple[float, float]:
    """Value and error of E[f(x)], x ~ N(mean, sd**2); compiled, for use in compiled code.

    Parameters
    ----------
    integrand : compiled function
        f, of one float.
    mean, sd : float
        Mean and standard deviation (> 0) of x.
    kinks : ndarray
        Where f or its slope jumps.

    Returns
    -------
    value, error : float
        The average from 16-node pieces, and its distance from that of 10-node pieces plus rounding.

    Notes
    -----
    Theory: :eq:`eq-split-rule` in :doc:`/gaussian`.

    Examples
    --------
    >>> import numba, numpy as np
    >>> relu = numba.njit(lambda u: max(u, 0.0))
    >>> value, error = mean_1d(relu, 0.0, 1.0, np.array([0.0]))
    >>> bool(abs(value - (2 * np.pi) ** -0.5) < 1e-14), error < 1e-12
    (True, True)
    """
    fine = 0.0
    size = 0.0
    z, w = _legendre_rule(_EDGES, (kinks - mean) / sd, *_FINE)
    for i in range(z.size):
        term = w[i] * integrand(mean + sd * z[i])
        fine += term
        size += abs(term)
    coarse = 0.0
    z, w = _legendre_rule(_COARSE_EDGES, (kinks - mean) / sd, *_COARSE)
    for i in range(z.size):
        coarse += w[i] * integrand(mean + sd * z[i])
    return fine, abs(fine - coarse) + 4e-16 * size


@jit
def mean_2d(
    integrand: Callable[..., float], covariance: Array, kinks_x: Array, kinks_y: Array
) -> tuple[float, float]:
    """Value and error of E[f(x, y)], (x, y) centered with a (2, 2) covariance; compiled.

    Parameters
    ----------
    integrand : compiled function
        f, of two floats.
    covariance : ndarray, shape (2, 2)
        Positive definite.
    kinks_x, kinks_y : ndarray
        Where f or its slope jumps, in x and in y.

    Returns
    -------
    value, error : float
        As for `mean_1d`.

    Notes
    -----
    Theory: :eq:`eq-split-rule` in :doc:`/gaussian`.

    Examples
    --------
    >>> import numba, numpy as np
    >>> product = numba.njit(lambda x, y: x * y)
    >>> value, error = mean_2d(product, np.array([[1.0, 0.3], [0.3, 1.0]]), *np.zeros((2, 1)))
    >>> round(value, 12)
    0.3
    """
    s1 = math.sqrt(covariance[0, 0])
    slope = covariance[0, 1] / s1
    s2 = math.sqrt(covariance[1, 1] - slope * slope)
    sums = np.zeros(3)
    for rule in range(2):
        nodes, weights = _FINE if rule == 0 else _COARSE
        base = _EDGES if rule == 0 else _COARSE_EDGES
        z, w = _legendre_rule(base, kinks_x / s1, nodes, weights)
        for i in range(z.size):
            center = slope * z[i]
            zz, ww = _legendre_rule(base, (kinks_y - center) / s2, nodes, weights)
            for j in range(zz.size):
                term = w[i] * ww[j] * integrand(s1 * z[i], center + s2 * zz[j])
                sums[rule] += term
                sums[2] += abs(term)
    return sums[0], abs(sums[0] - sums[1]) + 2e-16 * sums[2]


@jit
def mean_3d(
    integrand: Callable[..., float],
    covariance: Array,
    kinks_x: Array,
    kinks_y: Array,
    kinks_z: Array,
) -> tuple[float, float]:
    """Value and error of E[f(x, y, z)] for a centered vector with a (3, 3) covariance; compiled.

    Parameters
    ----------
    integrand : compiled function
        f, of three floats.
    covariance : ndarray, shape (3, 3)
        Positive definite.
    kinks_x, kinks_y, kinks_z : ndarray
        Where f or its slope jumps, in x, in y and in z.

    Returns
    -------
    value, error : float
        As for `mean_1d`.

    Notes
    -----
    Theory: :eq:`eq-split-rule` in :doc:`/gaussian`.
    """
    s1 = math.sqrt(covariance[0, 0])
    l21 = covariance[1, 0] / s1
    l31 = covariance[2, 0] / s1
    s2 = math.sqrt(covariance[1, 1] - l21 * l21)
    l32 = (covariance[2, 1] - l21 * l31) / s2
    s3 = math.sqrt(covariance[2, 2] - l31 * l31 - l32 * l32)
    sums = np.zeros(3)
    for rule in range(2):
        nodes, weights = _FINE if rule == 0 else _COARSE
        base = _EDGES if rule == 0 else _COARSE_EDGES
        z1, w1 = _legendre_rule(base, kinks_x / s1, nodes, weights)
        for i in range(z1.size):
            z2, w2 = _legendre_rule(base, (kinks_y - l21 * z1[i]) / s2, nodes, weights)
            for j in range(z2.size):
                y = l21 * z1[i] + s2 * z2[j]
                center = l31 * z1[i] + l32 * z2[j]
                z3, w3 = _legendre_rule(base, (kinks_z - center) / s3, nodes, weights)
                inner = 0.0
                size = 0.0
                for k in range(z3.size):
                    term = w3[k] * integrand(s1 * z1[i], y, center + s3 * z3[k])
                    inner += term
                    size += abs(term)
                sums[rule] += w1[i] * w2[j] * inner
                sums[2] += w1[i] * w2[j] * size
    return sums[0], abs(sums[0] - sums[1]) + 2e-16 * sums[2]


@jit
def sector_moments(start: float, stop: float) -> tuple[float, float, float, float]:
    """Probability and second moments of a standard normal pair inside a sector of angles.

    Parameters
    ----------
    start, stop : float
        The sector ``start <= atan2(y, x) <= stop``, in radians, ``stop - start`` at most 2 pi.

    Returns
    -------
    P, xx, xy, yy : float
        The probability, and E[x x], E[x y], E[y y] over the sector, not divided by P.

    Notes
    -----
    Theory: :eq:`eq-sector-moments` in :doc:`/gaussian`.

    Examples
    --------
    >>> import math
    >>> [round(x, 3) for x in sector_moments(0.0, math.pi / 2)]
    [0.25, 0.25, 0.159, 0.25]
    """
    width = stop - start
    # sin and cos of twice the angle, as products: no cancellation in a narrow sector.
    sines = math.sin(width) * math.cos(start + stop) / 2
    xx = (width / 2 + sines) / math.pi
    yy = (width / 2 - sines) / math.pi
    xy = math.sin(width) * math.sin(start + stop) / (2 * math.pi)
    return width / (2 * math.pi), xx, xy, yy


@jit
def cone_moments(
    c_xx: float,
    c_xy: float,
    c_yy: float,
    from_ray: tuple[float, float],
    to_ray: tuple[float, float],
) -> tuple[float, float, float, float]:
    """Probability and second moments of a centered Gaussian pair inside a cone, in closed form.

    Parameters
    ----------
    c_xx, c_xy, c_yy : float
        The covariance of the pair, positive definite.
    from_ray, to_ray : tuple of two floats
        Points (x, y) on the rays that bound the cone, which reaches counter-clockwise from the
        first to the second; equal rays give the whole plane.

    Returns
    -------
    P, xx, xy, yy : float
        The probability, and E[x x], E[x y], E[y y] over the cone, not divided by P.

    Notes
    -----
    Theory: :eq:`eq-cone-of-gaussian` in :doc:`/gaussian`.

    Examples
    --------
    >>> whole = cone_moments(2.0, 0.5, 1.0, (1.0, 0.0), (1.0, 0.0))
    >>> [round(x, 12) for x in whole]
    [1.0, 2.0, 0.5, 1.0]
    """
    l11 = math.sqrt(c_xx)
    l21 = c_xy / l11
    l22 = math.sqrt(c_yy - l21 * l21)
    # Angles of the rays in the coordinates where the pair is standard normal.
    start = math.atan2((from_ray[1] - l21 * from_ray[0] / l11) / l22, from_ray[0] / l11)
    stop = math.atan2((to_ray[1] - l21 * to_ray[0] / l11) / l22, to_ray[0] / l11)
    if stop <= start:
        stop += 2 * math.pi
    probability, aa, ab, bb = sector_moments(start, stop)
    xx = l11 * l11 * aa
    xy = l11 * (l21 * aa + l22 * ab)
    yy = l21 * l21 * aa + 2 * l21 * l22 * ab + l22 * l22 * bb
    return probability, xx, xy, yy
