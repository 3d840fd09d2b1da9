"""User functions of real numbers, compiled or plain Python, evaluated on arrays of points.

A user function is called with floats and returns a float; an exception it raises reaches the user
with its own traceback.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Hashable, Iterable
from functools import lru_cache
from typing import Any, TypeAlias, cast

import numba
import numpy as np
from numba.core.registry import CPUDispatcher
from numpy.typing import NDArray

from .arguments import ArgumentError, ArgumentTypeError, real_array

__all__ = [
    "RealFunction",
    "check_function",
    "checked_kinks",
    "evaluate",
    "name_of",
    "refuse_random",
]

#: A user function; some take arrays as well.
RealFunction: TypeAlias = Callable[..., float | NDArray[np.float64]]

# Points at which a whole-array call of a Python function is compared with scalar calls.
_PROBES = 17


def evaluate(
    function: RealFunction, *points: NDArray[np.float64], name: str
) -> NDArray[np.float64]:
    """Return ``function(*coordinates)`` at every point; `points` are 1-D arrays of one length.

    Compiled functions run in a compiled loop. A plain Python function is called once with the
    whole arrays if that gives what scalar calls give (as for ``numpy.tanh``), else point by point.

    Raises
    ------
    TypeError
        If `function` is not callable or does not return one real number.
    ValueError
        If a value is not finite.
    """
    if not callable(function):
        raise ArgumentTypeError(f"{name} must be a function of real numbers, got {function!r}")
    if not points[0].size:
        return np.empty(0)
    if isinstance(function, CPUDispatcher):
        _real(function(*(float(p[0]) for p in points)), name, points, 0)  # a readable refusal
        values = np.empty(points[0].size)
        _compiled_loop(function, len(points))(*points, values)
    else:
        values = _evaluate_python(function, points, name)
    bad = ~np.isfinite(values)
    if bad.any():
        first = int(np.argmax(bad))
        raise ArgumentError(
            f"{name} must return finite numbers, got {float(values[first])} at {_at(points, first)}"
        )
    return values


def refuse_random(
    function: RealFunction,
    points: NDArray[np.float64],
    values: NDArray[np.float64],
    *,
    name: str,
) -> None:
    """Call `function` once more at the points where it gave `values`.

    Raises
    ------
    ValueError
        If it gives something else now.
    """
    again = evaluate(function, points, name=name)
    # Vector units may differ from scalar code in the last bits.
    changed = np.abs(again - values) > 1e-13 * (1.0 + np.abs(values))
    if changed.any():
        at = int(np.argmax(changed))
        raise ArgumentError(
            f"{name} must be a function of its argument alone, got {float(values[at])} and then "
            f"{float(again[at])} at u = {points[at]:.17g}"
        )


def _evaluate_python(
    function: RealFunction, points: tuple[NDArray[np.float64], ...], name: str
) -> NDArray[np.float64]:
    size = points[0].size
    if size > _PROBES:
        probes = np.unique(np.linspace(0, size - 1, _PROBES).astype(np.int64))
        expected = _one_by_one(function, tuple(p[probes] for p in points), name)
        try:
            with np.errstate(all="ignore"):  # branches not taken may overflow inside numpy.where
                values = np.asarray(function(*points))
        except Exception:  # not written for arrays: the scalar calls below decide
            values = np.empty(0)
        if (
            values.shape == (size,)
            and values.dtype.kind in "iuf"
            and np.allclose(values[probes], expected, rtol=1e-14, atol=0.0, equal_nan=True)
        ):
            return values.astype(np.float64)
    return _one_by_one(function, points, name)


def _one_by_one(
    function: RealFunction, points: tuple[NDArray[np.float64], ...], name: str
) -> NDArray[np.float64]:
    columns = [p.tolist() for p in points]
    return np.array(
        [_real(function(*x), name, points, i) for i, x in enumerate(zip(*columns, strict=True))]
    )


def _real(value: object, name: str, points: tuple[NDArray[np.float64], ...], index: int) -> float:
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        raise ArgumentTypeError(
            f"{name} must return one real number, got {value!r} at {_at(points, index)}"
        )
    return float(value)


def _at(points: tuple[NDArray[np.float64], ...], index: int) -> str:
    return ", ".join(f"{p[index]:.17g}" for p in points)


@lru_cache(maxsize=64)
def _compiled_loop(function: CPUDispatcher, dimension: int) -> Callable[..., None]:
    """Return a compiled loop over points for one compiled function (not cached on disk)."""

    def loop_1d(x, out):
        for i in range(x.size):
            out[i] = function(x[i])

    def loop_2d(x, y, out):
        for i in range(x.size):
            out[i] = function(x[i], y[i])

    def loop_3d(x, y, z, out):
        for i in range(x.size):
            out[i] = function(x[i], y[i], z[i])

    loop = (loop_1d, loop_2d, loop_3d)[dimension - 1]
    # A loop that closes over a user's function cannot be cached on disk, hence not `jit`.
    return cast(Callable[..., None], numba.njit(nogil=True, error_model="numpy")(loop))


def name_of(function: RealFunction) -> str:
    """What `function` is called in texts."""
    return getattr(function, "__name__", type(function).__name__)


def checked_kinks(given: Any) -> tuple[float, ...]:
    """Return the kinks of a user function as numbers, strictly increasing."""
    listed = isinstance(given, Iterable) and not isinstance(given, str)
    kinks = real_array("kinks", list(given) if listed else given)
    if kinks.ndim != 1 or (np.diff(kinks) <= 0).any():
        raise ArgumentError(f"kinks must be strictly increasing, got {given!r}")
    return tuple(kinks.tolist())


def check_function(function: RealFunction, name: str) -> None:
    """Refuse what is not a scalar function that can be remembered."""
    # Two points away from most kinks are enough.
    points = np.array([-0.6180339887, 0.7548776662])
    values = evaluate(function, points, name=name)
    refuse_random(function, points, values, name=name)
    if not isinstance(function, Hashable):
        raise ArgumentTypeError(f"{name} must be hashable, got {function!r}")
