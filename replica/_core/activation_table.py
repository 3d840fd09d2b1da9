"""An activation, its slope and its curvature as piecewise Chebyshev series.

A user's activation is called on a few hundred points, once; the compiled solvers then read this
table, so that one compiled solver serves every activation, compiled or plain Python.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

from .arguments import ArgumentError
from .callables import evaluate, refuse_random
from .jit import jit

__all__ = ["ActivationTable", "activation_at", "activation_in", "activation_value", "first_breaks"]
__all__ += ["tabulate"]

# A value costs 17 multiplications, and erf on [-16, 16] takes 18 pieces.
_DEGREE = 16
# Values and slopes at the two sides of an edge, and given and found derivatives, differ by less if
# they are the same: about 1e-12, or 1e-9 of a function with rounding noise.
_DIFFERENT = 1e-6
# The last coefficients of a resolved piece: rounding of its values, and no more.
_RESOLVED = 4e-15
# Pieces are halved at most this often: 80 / 2**22 is 2e-5, the finest scale that is resolved.
_MAX_HALVINGS = 22
# More unresolved pieces than this per unit of half-width: noise, not a function. A wave needs about
# two pieces per period.
_MAX_DENSITY = 128
# Pieces grow with |u|, without end, so that a growing activation stays accurate where the fields
# are, however wide the table.
_FIRST_BREAKS = (0.0, *(sign * 4.0**k for k in range(12) for sign in (-1.0, 1.0)))
# Of Chebyshev interpolation in a piece, and from values there to coefficients.
_NODES = np.cos(np.pi * (np.arange(_DEGREE + 1) + 0.5) / (_DEGREE + 1))
_TO_SERIES = np.linalg.inv(chebyshev.chebvander(_NODES, _DEGREE))


class ActivationTable(NamedTuple):
    """Breaks of the pieces, shape (n + 1,), and series of g, g', g'', shape (3, n, degree + 1)."""

    breaks: NDArray[np.float64]
    series: NDArray[np.float64]
    kinks: NDArray[np.float64]


def tabulate(
    activation: Callable[[float], float],
    derivative: Callable[[float], float] | None,
    kinks: tuple[float, ...],
    half_width: float,
    *,
    low: float | None = None,
    name: str = "activation",
    variable: str = "u",
) -> ActivationTable:
    """Return the table of `activation` on [-half_width, half_width], to rounding error.

    With `low`, on [low, half_width]; `name` and `variable` are what errors call the function.

    Raises
    ------
    ValueError
        If the activation has a kink or jump that is not among `kinks`, is noise, gives another
        value when it is called again, or if `derivative` is not the derivative of `activation`.
    """
    edges = first_breaks(half_width, kinks)
    if low is not None:
        edges = first_breaks(max(half_width, -low), kinks)
        edges = np.unique([low, *edges[(edges > low) & (edges < half_width)], half_width])
    done: list[tuple[float, NDArray[np.float64]]] = []
    left, right = edges[:-1], edges[1:]
    for level in range(_MAX_HALVINGS):
        middle, half = (left + right) / 2, (right - left) / 2
        points = middle[:, None] + half[:, None] * _NODES
        values = evaluate(activation, points.ravel(), name=name).reshape(points.shape)
        if level == 0:
            refuse_random(activation, points.ravel(), values.ravel(), name=name)
        series = values @ _TO_SERIES.T
        # Below 1e-2 the values count as small: their absolute accuracy is what matters.
        scale = np.maximum(np.abs(values).max(axis=1), 1e-2)
        resolved = np.abs(series[:, -3:]).max(axis=1) <= _RESOLVED * scale
        done += zip(left[resolved], series[resolved], strict=True)
        left, middle, right = left[~resolved], middle[~resolved], right[~resolved]
        if not left.size:
            break
        if left.size > _MAX_DENSITY * half_width:
            raise ArgumentError(
                f"{name} is not smooth anywhere near {variable} = {left[0]:.6g}: its values look "
                "like noise, or are rounded to single precision"
            )
        left, right = np.concatenate([left, middle]), np.concatenate([middle, right])
    else:
        raise ArgumentError(
            f"{name} is not smooth near {variable} = {left[0]:.6g}: declare every point where it "
            "or its slope jumps in kinks"
        )
    done.sort(key=lambda piece: piece[0])
    breaks = np.array([*(piece[0] for piece in done), half_width])
    values = np.array([piece[1] for piece in done])
    half = np.diff(breaks)[:, None] / 2
    slopes = _derivative(values, half)
    _refuse_undeclared_kinks(breaks, values, slopes, kinks, name, variable)
    if derivative is not None:
        points = (breaks[:-1, None] + half) + half * _NODES
        given = evaluate(derivative, points.ravel(), name="derivative").reshape(points.shape)
        found = chebyshev.chebval(_NODES, slopes.T)
        wrong = np.abs(given - found) > _DIFFERENT * (1 + np.abs(found))
        if wrong.any():
            index = tuple(np.argwhere(wrong)[0])
            raise ArgumentError(
                f"derivative is not the derivative of {name}: {given[index]:.9g} at "
                f"{variable} = {points[index]:.6g}, where the slope is {found[index]:.9g}"
            )
        slopes = given @ _TO_SERIES.T
    series = np.stack([values, slopes, _derivative(slopes, half)])
    inside = np.array([k for k in kinks if edges[0] < k < half_width], dtype=np.float64)
    return ActivationTable(breaks, np.ascontiguousarray(series), inside)


def first_breaks(half_width: float, kinks: tuple[float, ...] = ()) -> NDArray[np.float64]:
    """Return the edges of the pieces before any halving."""
    edges = [e for e in (*_FIRST_BREAKS, *kinks) if abs(e) < half_width]
    return np.unique([-half_width, *edges, half_width])


def _derivative(series: NDArray[np.float64], half: NDArray[np.float64]) -> NDArray[np.float64]:
    slopes = np.zeros_like(series)
    slopes[:, :-1] = chebyshev.chebder(series, axis=1) / half
    return slopes


def _refuse_undeclared_kinks(
    breaks: NDArray[np.float64],
    values: NDArray[np.float64],
    slopes: NDArray[np.float64],
    kinks: tuple[float, ...],
    name: str,
    variable: str,
) -> None:
    for series, what in ((values, "value"), (slopes, "slope")):
        at_left, at_right = chebyshev.chebval(np.array([-1.0, 1.0]), series.T).T
        jump = np.abs(at_left[1:] - at_right[:-1])
        bad = (jump > _DIFFERENT * (1 + np.abs(at_left[1:]))) & ~np.isin(breaks[1:-1], kinks)
        if bad.any():
            where = breaks[1:-1][bad][0]
            raise ArgumentError(
                f"the {what} of {name} jumps at {variable} = {where:.6g}, which is not among kinks"
            )


@jit
def _clenshaw(series: NDArray[np.float64], t: float) -> float:
    b1 = 0.0
    b2 = 0.0
    for k in range(series.size - 1, 0, -1):
        b1, b2 = series[k] + 2.0 * t * b1 - b2, b1
    return series[0] + t * b1 - b2


@jit
def _piece(breaks: NDArray[np.float64], u: float) -> int:
    low = 0
    high = breaks.size - 1
    while high - low > 1:
        middle = (low + high) // 2
        if u >= breaks[middle]:
            low = middle
        else:
            high = middle
    return low


@jit
def activation_value(breaks: NDArray[np.float64], series: NDArray[np.float64], u: float) -> float:
    """Return g(u); NaN outside the tabulated range."""
    if not (breaks[0] <= u <= breaks[-1]):
        return np.nan
    k = _piece(breaks, u)
    t = (2.0 * u - breaks[k] - breaks[k + 1]) / (breaks[k + 1] - breaks[k])
    return _clenshaw(series[0, k], t)


@jit
def activation_in(
    breaks: NDArray[np.float64], series: NDArray[np.float64], k: int, u: float
) -> tuple[float, float, float]:
    """Return g(u), g'(u), g''(u) by the series of piece k, in which u lies."""
    t = (2.0 * u - breaks[k] - breaks[k + 1]) / (breaks[k + 1] - breaks[k])
    # Three recurrences side by side take hardly longer than one.
    a1 = a2 = b1 = b2 = c1 = c2 = 0.0
    for n in range(series.shape[2] - 1, 0, -1):
        a1, a2 = series[0, k, n] + 2.0 * t * a1 - a2, a1
        b1, b2 = series[1, k, n] + 2.0 * t * b1 - b2, b1
        c1, c2 = series[2, k, n] + 2.0 * t * c1 - c2, c1
    return (
        series[0, k, 0] + t * a1 - a2,
        series[1, k, 0] + t * b1 - b2,
        series[2, k, 0] + t * c1 - c2,
    )


@jit
def activation_at(
    breaks: NDArray[np.float64], series: NDArray[np.float64], u: float
) -> tuple[float, float, float]:
    """Return g(u), g'(u), g''(u); NaN outside the tabulated range, from the right at a kink."""
    if not (breaks[0] <= u <= breaks[-1]):
        return np.nan, np.nan, np.nan
    return activation_in(breaks, series, _piece(breaks, u), u)
