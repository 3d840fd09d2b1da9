"""Students and teachers: the function g(u) that turns the field u = W.x into the output."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import erf

from ._core.activation_table import ActivationTable, first_breaks, tabulate
from ._core.arguments import ArgumentError, ArgumentTypeError, real_array, real_scalar
from ._core.callables import evaluate, refuse_random
from ._core.suggest import suggestion

__all__ = ["ERF", "LINEAR", "QUADRATIC", "RELU", "SIGN", "SOFTPLUS", "TANH"]
__all__ += ["LeakyReLU", "Student", "as_activation", "as_student"]

_tabulate_once = lru_cache(maxsize=64)(tabulate)


@dataclass(frozen=True)
class LeakyReLU:
    """The piecewise-linear student g(u) = u for u > 0 and slope * u for u < 0.

    Parameters
    ----------
    slope : float
        Slope of the negative side, in [0, 1]: 1 is the linear student, 0 is ReLU.

    Raises
    ------
    TypeError, ValueError
        If `slope` is not a real number in [0, 1].

    Examples
    --------
    >>> LeakyReLU(0.1)
    LeakyReLU(slope=0.1)
    >>> LeakyReLU(1.0) == LINEAR
    True
    """

    slope: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "slope", real_scalar("slope", self.slope, low=0.0, high=1.0))

    @property
    def name(self) -> str:
        """The name in labels and tables, "linear", "relu" or "leaky-relu(slope)"."""
        if self.slope == 1.0:
            return "linear"
        return "relu" if self.slope == 0.0 else f"leaky-relu({self.slope:g})"

    @property
    def kinks(self) -> tuple[float, ...]:
        """Points where the slope jumps."""
        return () if self.slope == 1.0 else (0.0,)

    def values(self, u: ArrayLike) -> NDArray[np.float64]:
        """Return g(u), elementwise."""
        u = real_array("u", u)
        return np.where(u > 0, u, self.slope * u)

    def slopes(self, u: ArrayLike) -> NDArray[np.float64]:
        """Return g'(u), elementwise; the slope of the negative side at 0."""
        u = real_array("u", u)
        return np.where(u > 0, 1.0, self.slope)

    def table(self, half_width: float) -> ActivationTable:
        """Return g, g', g'' on [-half_width, half_width] for the compiled general solvers."""
        breaks = first_breaks(half_width)
        slope = np.where(breaks[:-1] < 0, self.slope, 1.0)
        series = np.zeros((3, slope.size, 2))
        series[0, :, 0] = slope * (breaks[:-1] + breaks[1:]) / 2
        series[0, :, 1] = slope * np.diff(breaks) / 2
        series[1, :, 0] = slope
        return ActivationTable(breaks, series, np.array(self.kinks))


@dataclass(frozen=True)
class Student:
    """A student, or a teacher, with an activation of your own.

    Parameters
    ----------
    activation : callable
        g(u): a compiled (``numba.njit``) or plain Python function of one float that returns one
        finite real number. A function that also accepts arrays (``numpy.tanh``) is called with
        arrays. It is called a few hundred times, once; what it costs does not matter.
    derivative : callable, optional
        g'(u). Only needed when g carries rounding noise; the slope of the interpolated g is
        accurate to about 1e-12 otherwise.
    kinks : sequence of float, optional
        Every point where g or g' jumps, in increasing order. A kink that is not declared is
        refused when the student is used first.

    Raises
    ------
    TypeError
        If `activation` or `derivative` is not a function, does not return one real number, or
        cannot be hashed.
    ValueError
        If kinks are not finite and strictly increasing, or a value of g is not finite or another
        one when g is called again.

    Examples
    --------
    >>> import math
    >>> student = Student(lambda u: max(-1.0, min(1.0, u)), kinks=(-1.0, 1.0))
    >>> student.values([-3.0, 0.25])
    array([-1.  ,  0.25])
    >>> Student(math.tanh).slopes(0.0)
    array(1.)
    """

    activation: Callable[..., Any]
    derivative: Callable[..., Any] | None = None
    kinks: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        kinks = real_array("kinks", _as_list(self.kinks))
        if kinks.ndim != 1 or (np.diff(kinks) <= 0).any():
            raise ArgumentError(f"kinks must be strictly increasing, got {self.kinks!r}")
        object.__setattr__(self, "kinks", tuple(kinks.tolist()))
        # Two points away from most kinks: enough to refuse what is not a scalar function.
        points = np.array([-0.6180339887, 0.7548776662])
        for name in ("activation", "derivative"):
            function = getattr(self, name)
            if name == "activation" or function is not None:
                values = evaluate(function, points, name=name)
                refuse_random(function, points, values, name=name)
                if not isinstance(function, Hashable):
                    raise ArgumentTypeError(f"{name} must be hashable, got {function!r}")

    @property
    def name(self) -> str:
        """The name in labels and tables, that of the activation."""
        return getattr(self.activation, "__name__", type(self.activation).__name__).strip("_<>")

    def values(self, u: ArrayLike) -> NDArray[np.float64]:
        """Return g(u), elementwise."""
        u = real_array("u", u)
        return evaluate(self.activation, u.ravel(), name="activation").reshape(u.shape)

    def slopes(self, u: ArrayLike) -> NDArray[np.float64]:
        """Return g'(u), elementwise; without `derivative`, from an interpolation of g."""
        u = real_array("u", u)
        if self.derivative is not None:
            return evaluate(self.derivative, u.ravel(), name="derivative").reshape(u.shape)
        # A power of two, so that fields of about the same size share one table.
        width = 2.0 ** np.ceil(np.log2(max(16.0, float(np.abs(u).max(initial=0.0)))))
        breaks, series, _ = self.table(width)
        piece = np.clip(np.searchsorted(breaks, u, side="right") - 1, 0, breaks.size - 2)
        t = (2 * u - breaks[piece] - breaks[piece + 1]) / (breaks[piece + 1] - breaks[piece])
        slopes = np.polynomial.chebyshev.chebval(
            t, np.moveaxis(series[1][piece], -1, 0), tensor=False
        )
        return np.asarray(slopes)

    def table(self, half_width: float) -> ActivationTable:
        """Return g, g', g'' on [-half_width, half_width] for the compiled general solvers.

        Raises
        ------
        ValueError
            If g has a kink or jump that was not declared, or `derivative` is not its derivative.
        """
        return _tabulate_once(self.activation, self.derivative, self.kinks, float(half_width))


def _as_list(kinks: Any) -> Any:
    return list(kinks) if isinstance(kinks, Iterable) and not isinstance(kinks, str) else kinks


def _erf(u: Any) -> Any:
    return erf(u / np.sqrt(2))


def _softplus(u: Any) -> Any:
    return np.logaddexp(0.0, u)


def _quadratic(u: Any) -> Any:
    return u * u


LINEAR = LeakyReLU(1.0)
RELU = LeakyReLU(0.0)
#: erf(u / sqrt(2)), the activation of Saad and Solla (1995).
ERF = Student(_erf)
TANH = Student(np.tanh)
#: ln(1 + exp(u)).
SOFTPLUS = Student(_softplus)
#: u ** 2.
QUADRATIC = Student(_quadratic)
#: The sign of u, a perceptron.
SIGN = Student(np.sign, kinks=(0.0,))

_BY_NAME = {"linear": LINEAR, "relu": RELU}
_GENERAL = {
    "erf": ERF,
    "tanh": TANH,
    "softplus": SOFTPLUS,
    "quadratic": QUADRATIC,
    "sign": SIGN,
}


def as_student(student: Any, *, name: str = "student") -> LeakyReLU:
    """Return the student meant by `student`: "linear", "relu" or a `LeakyReLU` itself.

    Examples
    --------
    >>> as_student("relu")
    LeakyReLU(slope=0.0)
    """
    if isinstance(student, LeakyReLU):
        return student
    if not isinstance(student, str):
        raise ArgumentTypeError(
            f"{name} must be 'linear', 'relu' or a LeakyReLU(slope), got {student!r}"
        )
    if student not in _BY_NAME:
        raise ArgumentError(
            f"{name} must be 'linear', 'relu' or a LeakyReLU(slope), got {student!r}"
            f"{suggestion(student, _BY_NAME)}"
        )
    return _BY_NAME[student]


def as_activation(student: Any, *, name: str = "student") -> LeakyReLU | Student:
    """Return the student (or teacher) meant by `student`, where any activation is served.

    Names are "linear", "relu", "erf", "tanh", "softplus", "quadratic" and "sign".

    Examples
    --------
    >>> as_activation("erf").name
    'erf'
    """
    if isinstance(student, LeakyReLU | Student):
        return student
    if callable(student) and not isinstance(student, type):
        return Student(student)
    names = (*_BY_NAME, *_GENERAL)
    allowed = f"one of {names}, a LeakyReLU(slope) or a Student(activation)"
    if not isinstance(student, str):
        raise ArgumentTypeError(f"{name} must be {allowed}, got {student!r}")
    if student not in names:
        raise ArgumentError(
            f"{name} must be {allowed}, got {student!r}{suggestion(student, names)}"
        )
    return _BY_NAME[student] if student in _BY_NAME else _GENERAL[student]


def error_of_overlaps(
    gamma: NDArray[np.float64], R: NDArray[np.float64], slope: float
) -> NDArray[np.float64]:
    """Generalization error E[(z - g(u))^2] at length `gamma` and overlap `R`, unchecked.

    Eq. (18) for any slope, as a sum of squares so that nothing cancels near the minimum; inf where
    `gamma` is.
    """
    k = 0.5 * (1.0 + slope * slope)
    with np.errstate(invalid="ignore"):
        along = np.where(np.isinf(gamma), 0.0, gamma * R - 0.5 * (1.0 + slope) / k)
        excess = gamma**2 * (1.0 - R) * (1.0 + R) + along**2
    return 0.25 * (1.0 - slope) ** 2 / k + k * excess
