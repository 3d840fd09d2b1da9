"""Checks of arguments, made once, at the edge of the library.

Every message names the parameter, the value that was refused and the range that is allowed.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from typing import TypedDict, TypeVar, Unpack

import numpy as np
from numpy.typing import NDArray

from .suggest import suggestion

__all__ = [
    "LARGEST",
    "ArgumentError",
    "ArgumentTypeError",
    "Limits",
    "broadcast",
    "choice",
    "integer",
    "problem",
    "real_array",
    "real_scalar",
]

Word = TypeVar("Word", bound=str)  # a Literal, where `options` are its values

# loads (and their inverse), noises and decays up to here: products of three are still numbers
LARGEST = 1e100


class Limits(TypedDict, total=False):
    """The range that an argument has to lie in, for `real_array` and `real_scalar`."""

    low: float
    high: float
    low_open: bool
    high_open: bool
    finite: bool


class ArgumentError(ValueError):
    """An argument has a value that is not allowed; the message names it and the range.

    A class of its own, so that a caller can tell a wrong argument from a failure inside.
    """

    __module__ = "replica"  # the name by which users reach it


class ArgumentTypeError(TypeError):
    """An argument is of a type that is not allowed; the message names it and what is."""

    __module__ = "replica"


def _interval(low: float, high: float, low_open: bool, high_open: bool) -> str:
    return f"{'(' if low_open else '['}{low:g}, {high:g}{')' if high_open else ']'}"


def real_array(
    name: str,
    value: object,
    *,
    low: float = -np.inf,
    high: float = np.inf,
    low_open: bool = False,
    high_open: bool = False,
    finite: bool = True,
) -> NDArray[np.float64]:
    """Return `value` as a float64 array after checking type, finiteness and range.

    Integers and floats of any width are accepted; bool, complex, strings, objects and masked
    arrays are refused with an `ArgumentTypeError`, values out of range with an `ArgumentError`.
    """
    if type(value) is float and (
        (low < value if low_open else low <= value)
        and (value < high if high_open else value <= high)
        and (not finite or -np.inf < value < np.inf)
    ):
        return np.array(value)  # the usual case, at a tenth of the price
    if isinstance(value, np.ma.MaskedArray):
        raise ArgumentTypeError(f"{name} must not be a masked array; fill or compress it first")
    try:
        array = np.asarray(value)
    except ValueError as error:  # ragged nested sequences
        raise ArgumentTypeError(f"{name} must be a real number or array, got {value!r}") from error
    if array.dtype.kind not in "iuf":
        raise ArgumentTypeError(
            f"{name} must be a real number or an array of them, "
            f"got {_shown(value)} of type {array.dtype}"
        )
    array = array.astype(np.float64)
    if array.size == 0:
        return array
    # two passes in the good case: min and max are NaN if any element is
    least, most = array.min(), array.max()
    inside = (least > low if low_open else least >= low) and (
        most < high if high_open else most <= high
    )
    if not inside or (finite and (least == -np.inf or most == np.inf)):
        bad = np.isnan(array) | (array <= low if low_open else array < low)
        bad |= array >= high if high_open else array > high
        if finite:
            bad |= np.isinf(array)
        culprit = float(array[bad].flat[0])
        where = "" if array.ndim == 0 else f" (element {np.argwhere(bad)[0].tolist()})"
        allowed = _interval(
            low,
            high,
            low_open or (finite and low == -np.inf),
            high_open or (finite and high == np.inf),
        )
        raise ArgumentError(f"{name} must lie in {allowed}, got {culprit!r}{where}")
    return array


def real_scalar(name: str, value: object, **limits: Unpack[Limits]) -> float:
    """Return `value` as a float after the checks of `real_array`; arrays are refused."""
    array = real_array(name, value, **limits)
    if array.ndim:
        raise ArgumentTypeError(
            f"{name} must be a single number, got an array of shape {array.shape}"
        )
    return float(array)


def integer(name: str, value: object, *, low: int | None = None, high: int | None = None) -> int:
    """Return `value` as an int; floats, bools and numbers out of range are refused."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Integral):
        raise ArgumentTypeError(f"{name} must be an integer, got {_shown(value)}")
    number = int(value)
    if (low is not None and number < low) or (high is not None and number > high):
        limits = [f">= {low}"] if low is not None else []
        limits += [f"<= {high}"] if high is not None else []
        raise ArgumentError(f"{name} must be an integer {' and '.join(limits)}, got {number}")
    return number


def choice(name: str, value: object, options: Iterable[Word]) -> Word:
    """Return `value` if it is one of the strings in `options`."""
    options = tuple(options)
    if not isinstance(value, str):
        raise ArgumentTypeError(f"{name} must be one of {options}, got {_shown(value)}")
    for option in options:
        if option == value:
            return option
    raise ArgumentError(
        f"{name} must be one of {options}, got {value!r}{suggestion(value, options)}"
    )


def broadcast(**arrays: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Broadcast named arrays against each other; C-contiguous copies, in the order given."""
    shapes = {array.shape for array in arrays.values()} - {()}
    if not shapes:
        return tuple(arrays.values())
    if len(shapes) == 1:  # numbers beside arrays of one shape, the usual case
        (shape,) = shapes
        return tuple(
            np.ascontiguousarray(array) if array.ndim else np.full(shape, array)
            for array in arrays.values()
        )
    try:
        shape = np.broadcast_shapes(*(array.shape for array in arrays.values()))
    except ValueError:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ArgumentError(f"the shapes do not broadcast together: {shapes}") from None
    return tuple(
        np.ascontiguousarray(np.broadcast_to(array, shape)).reshape(shape)
        for array in arrays.values()
    )


def problem(alpha: object, S: object, zeta: object) -> tuple[NDArray[np.float64], ...]:
    """Check load, noise variance and decay and broadcast them against each other."""
    return broadcast(
        alpha=real_array("alpha", alpha, low=1.0 / LARGEST, high=LARGEST),
        S=real_array("S", S, low=0.0, high=LARGEST),
        zeta=real_array("zeta", zeta, low=0.0, high=LARGEST),
    )


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
