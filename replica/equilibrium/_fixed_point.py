"""Fixed points of a smooth map in any dimension; one Newton step in three, compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from replica._core.jit import jit

__all__ = ["FixedPoint", "Step", "fixed_point", "newton_step"]

Vector = NDArray[np.float64]

# More evaluations than this mean that there is no convergence: Newton's method needs about ten.
_MAX_EVALUATIONS = 300
# Longest move of an unknown in one step, all of which are logarithms or of order one.
_LONGEST = 1.0
# Forward differences of a map that is accurate to 1e-12 or better.
_DIFFERENCE = 1e-6
# So many plain iterations at the start, and after a Newton step that made things worse.
_FIRST, _AGAIN = 2, 10
# A step that leaves the domain of the map is halved, until it moves nothing.
_HALVINGS = 30
# A Jacobian kept by Broyden's updates is renewed after so many of them if progress is slow.
_OLD = 6


class Step(NamedTuple):
    """The value of the map, and its Jacobian where it is known (else None)."""

    value: Vector
    jacobian: NDArray[np.float64] | None = None


class FixedPoint(NamedTuple):
    """Where the map stands still, the Jacobian of step(x) - x there, and what is left of that."""

    x: Vector
    jacobian: NDArray[np.float64] | None
    residual: float


def fixed_point(
    step: Callable[[Vector], Step],
    x: Vector,
    tolerance: float,
    jacobian: NDArray[np.float64] | None = None,
    *,
    plain: int = _FIRST,
    known: Callable[[Vector], bool] | None = None,
    foresee: bool = False,
) -> FixedPoint | None:
    """Solve step(x) = x: plain iterations, then Newton's method.

    The Jacobian is the map's own where it gives one, else `jacobian` or finite differences with
    Broyden's updates. None if there is no convergence, which means a residual and a Newton step
    both below `tolerance`; also None as soon as `known` says that the solution next to the point
    ahead is known already.
    With `foresee`, the end of a Newton step whose square is below `tolerance` is the solution,
    without a look at it, if the map knows its Jacobian.
    """
    here = step(x)
    residual = here.value - x
    size = np.abs(residual).max()
    if here.jacobian is None and jacobian is not None:
        plain = 0
    evaluations, age = 1, 0
    while evaluations < _MAX_EVALUATIONS:
        if not np.isfinite(size):
            return None
        if plain > 0:
            plain -= 1
            move = residual
        else:
            if here.jacobian is not None:
                jacobian = here.jacobian - np.eye(x.size)
            elif jacobian is None:
                jacobian = np.empty((x.size, x.size))
                for k in range(x.size):
                    shifted = x.copy()
                    shifted[k] += _DIFFERENCE
                    change = step(shifted).value - shifted - residual
                    jacobian[:, k] = change / _DIFFERENCE
                evaluations += x.size
                age = 0
            if not np.isfinite(jacobian).all():
                return None
            try:
                move = -np.linalg.solve(jacobian, residual)
            except np.linalg.LinAlgError:
                plain, jacobian = _AGAIN - 2, None
                continue
            longest = np.abs(move).max()
            if foresee and here.jacobian is not None and longest * longest <= tolerance:
                return FixedPoint(x + move, jacobian, float(longest * longest))
            if size <= tolerance and longest <= 10 * tolerance:
                return FixedPoint(x, jacobian, float(size))
        move = move * min(1.0, _LONGEST / max(np.abs(move).max(), 1e-300))
        if known is not None and plain == 0 and known(x + move):
            return None
        there = step(x + move)
        new = there.value - (x + move)
        evaluations += 1
        halvings = 0
        while not np.isfinite(new).all() and halvings < _HALVINGS:
            halvings += 1
            move = move / 2
            there = step(x + move)
            new = there.value - (x + move)
            evaluations += 1
        new_size = np.abs(new).max()
        if jacobian is not None and plain == 0:
            if new_size > 2 * size:  # worse: from the better point, without Newton
                plain, jacobian = _AGAIN, None
                continue
            if there.jacobian is None:
                change = new - residual - jacobian @ move
                jacobian = jacobian + np.outer(change, move) / (move @ move)
                age += 1
                if age >= _OLD and new_size > 0.1 * size:
                    jacobian = None
        x, here, residual, size = x + move, there, new, new_size
    return None


@jit
def newton_step(a11, a12, a13, a21, a22, a23, a31, a32, a33, r1, r2, r3):
    """Return the solution d of ``a d = -r`` in three unknowns, by Cramer's rule."""
    q1 = a22 * a33 - a23 * a32
    q2 = a23 * a31 - a21 * a33
    q3 = a21 * a32 - a22 * a31
    det = a11 * q1 + a12 * q2 + a13 * q3
    d1 = -(q1 * r1 + (a13 * a32 - a12 * a33) * r2 + (a12 * a23 - a13 * a22) * r3) / det
    d2 = -(q2 * r1 + (a11 * a33 - a13 * a31) * r2 + (a13 * a21 - a11 * a23) * r3) / det
    d3 = -(q3 * r1 + (a12 * a31 - a11 * a32) * r2 + (a11 * a22 - a12 * a21) * r3) / det
    return d1, d2, d3
