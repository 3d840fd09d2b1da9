"""Students and teachers: the function g(u) that turns the field u = W.x into the output."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import erf, expit

from ._core.activation_table import ActivationTable, first_breaks, tabulate
from ._core.arguments import ArgumentError, ArgumentTypeError, real_array, real_scalar
from ._core.callables import RealFunction, check_function, checked_kinks, evaluate, name_of
from ._core.suggest import suggestion

__all__ = ["ERF", "LINEAR", "QUADRATIC", "RELU", "SIGN", "SOFTPLUS", "TANH"]
__all__ += ["LeakyReLU", "Student", "StudentLike", "as_piecewise", "as_student"]

# Tables and bare functions kept: more than one problem uses, few enough to hold.
_KEPT = 64
_tabulate_once = lru_cache(maxsize=_KEPT)(tabulate)


@dataclass(frozen=True, repr=False)
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
    LeakyReLU(0.1)
    >>> LeakyReLU(1.0)
    LINEAR
    """

    slope: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "slope", real_scalar("slope", self.slope, low=0.0, high=1.0))

    def __repr__(self) -> str:
        return _constant(self) or f"LeakyReLU({self.slope!r})"

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

    def curvatures(self, u: ArrayLike) -> NDArray[np.float64]:
        """Return g''(u), elementwise: 0, also at the kink."""
        return np.zeros(real_array("u", u).shape)

    def table(self, half_width: float) -> ActivationTable:
        """Return g, g', g'' on [-half_width, half_width] for the compiled general solvers."""
        breaks = first_breaks(half_width)
        slope = np.where(breaks[:-1] < 0, self.slope, 1.0)
        series = np.zeros((3, slope.size, 2))
        series[0, :, 0] = slope * (breaks[:-1] + breaks[1:]) / 2
        series[0, :, 1] = slope * np.diff(breaks) / 2
        series[1, :, 0] = slope
        return ActivationTable(breaks, series, np.array(self.kinks))


@dataclass(frozen=True, repr=False)
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
    >>> Student(math.tanh), Student(math.tanh).slopes(0.0).round(12)
    (Student(tanh), np.float64(1.0))
    """

    activation: RealFunction
    derivative: RealFunction | None = None
    kinks: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "kinks", checked_kinks(self.kinks))
        check_function(self.activation, "activation")
        if self.derivative is not None:
            check_function(self.derivative, "derivative")

    def __repr__(self) -> str:
        parts = [name_of(self.activation)]
        if self.derivative is not None:
            parts.append(f"derivative={name_of(self.derivative)}")
        if self.kinks:
            parts.append(f"kinks={self.kinks}")
        return _constant(self) or f"Student({', '.join(parts)})"

    @property
    def name(self) -> str:
        """The name in labels and tables, that of the activation."""
        return name_of(self.activation).strip("_<>")

    def values(self, u: ArrayLike) -> NDArray[np.float64]:
        """Return g(u), elementwise."""
        u = real_array("u", u)
        return evaluate(self.activation, u.ravel(), name="activation").reshape(u.shape)

    def slopes(self, u: ArrayLike) -> NDArray[np.float64]:
        """Return g'(u), elementwise; without `derivative`, from an interpolation of g."""
        u = real_array("u", u)
        if self.derivative is not None:
            return evaluate(self.derivative, u.ravel(), name="derivative").reshape(u.shape)
        return self._interpolated(u, 1)

    def curvatures(self, u: ArrayLike) -> NDArray[np.float64]:
        """Return g''(u), elementwise, from an interpolation of `derivative`, or of g without it.

        Accurate to about 1e-12, or 1e-11; from the right at a kink.
        """
        return self._interpolated(real_array("u", u), 2)

    def _interpolated(self, u: NDArray[np.float64], order: int) -> NDArray[np.float64]:
        # A power of two, so that fields of about the same size share one table.
        width = 2.0 ** np.ceil(np.log2(max(16.0, float(np.abs(u).max(initial=0.0)))))
        breaks, series, _ = self.table(width)
        piece = np.clip(np.searchsorted(breaks, u, side="right") - 1, 0, breaks.size - 2)
        t = (2 * u - breaks[piece] - breaks[piece + 1]) / (breaks[piece + 1] - breaks[piece])
        coefficients = np.moveaxis(series[order][piece], -1, 0)
        return np.asarray(np.polynomial.chebyshev.chebval(t, coefficients, tensor=False))

    def table(self, half_width: float) -> ActivationTable:
        """Return g, g', g'' on [-half_width, half_width] for the compiled general solvers.

        Raises
        ------
        ValueError
            If g has a kink or jump that was not declared, or `derivative` is not its derivative.
        """
        return _tabulate_once(self.activation, self.derivative, self.kinks, float(half_width))


def _constant(student: LeakyReLU | Student) -> str | None:
    """The name of the constant of this module that equals `student`, if one does."""
    return next((name.upper() for name, known in _BY_NAME.items() if known == student), None)


def _erf(u: float) -> float:
    return erf(u / np.sqrt(2))


def _softplus(u: float) -> float:
    return np.logaddexp(0.0, u)


def _quadratic(u: float) -> float:
    return u * u


def _erf_slope(u: float) -> float:
    return np.sqrt(2 / np.pi) * np.exp(-0.5 * u * u)


def _tanh_slope(u: float) -> float:
    return 1.0 / np.cosh(np.clip(u, -350.0, 350.0)) ** 2  # beyond, 0 to rounding


def _softplus_slope(u: float) -> float:
    return expit(u)


def _double(u: float) -> float:
    return 2.0 * u


LINEAR = LeakyReLU(1.0)
RELU = LeakyReLU(0.0)
#: erf(u / sqrt(2)), the activation of Saad and Solla (1995).
ERF = Student(_erf, _erf_slope)
TANH = Student(np.tanh, _tanh_slope)
#: ln(1 + exp(u)).
SOFTPLUS = Student(_softplus, _softplus_slope)
#: u ** 2.
QUADRATIC = Student(_quadratic, _double)
#: The sign of u, a perceptron.
SIGN = Student(np.sign, kinks=(0.0,))

_BY_NAME: dict[str, LeakyReLU | Student] = {
    "linear": LINEAR,
    "relu": RELU,
    "erf": ERF,
    "tanh": TANH,
    "softplus": SOFTPLUS,
    "quadratic": QUADRATIC,
    "sign": SIGN,
}

#: What `as_student` takes.
StudentLike: TypeAlias = str | LeakyReLU | Student | RealFunction

_student_of = lru_cache(maxsize=_KEPT)(Student)


def as_student(value: StudentLike, name: str = "student") -> LeakyReLU | Student:
    """Return the student (or teacher) meant by `value`.

    Parameters
    ----------
    value : str, LeakyReLU, Student or callable
        "linear", "relu", "erf", "tanh", "softplus", "quadratic" or "sign"; a student itself; or a
        function g(u) without kinks, which is taken as the activation of a `Student`.
    name : str
        What error messages call `value`.

    Returns
    -------
    LeakyReLU or Student
        Equal for equal `value`, the same function included.

    Raises
    ------
    TypeError, ValueError
        If `value` is none of these, or the function is not one of a real number; see `Student`.

    See Also
    --------
    as_piecewise : The same for what serves piecewise-linear students only.

    Examples
    --------
    >>> import math
    >>> as_student("erf"), as_student(LeakyReLU(0.3)), as_student(math.tanh)
    (ERF, LeakyReLU(0.3), Student(tanh))
    """
    if isinstance(value, LeakyReLU | Student):
        return value
    if isinstance(value, str):
        if value in _BY_NAME:
            return _BY_NAME[value]
    elif callable(value) and not isinstance(value, type):
        return _student_of(value) if isinstance(value, Hashable) else Student(value)
    allowed = (
        f"{name} must be one of {tuple(_BY_NAME)}, a LeakyReLU(slope), a Student(activation) or a "
        f"function, got {value!r}"
    )
    if isinstance(value, str):
        raise ArgumentError(allowed + suggestion(value, _BY_NAME))
    raise ArgumentTypeError(allowed)


def as_piecewise(
    value: StudentLike, name: str = "student", *, what: str = "this function"
) -> LeakyReLU:
    """Return the student meant by `value`, for what serves piecewise-linear students only.

    Parameters
    ----------
    value : str or LeakyReLU
        See `as_student`.
    name : str
        What error messages call `value`.
    what : str
        What does not serve the others, the subject of the message.

    Returns
    -------
    LeakyReLU

    Raises
    ------
    ValueError
        If `value` is a student that is not piecewise linear, such as "erf".
    TypeError, ValueError
        If it is no student at all.

    Examples
    --------
    >>> as_piecewise("relu")
    RELU
    """
    student = as_student(value, name)
    if isinstance(student, LeakyReLU):
        return student
    raise ArgumentError(
        f"{what} serves piecewise-linear {name}s only ('linear', 'relu', LeakyReLU(slope)), "
        f"got {value!r}"
    )


class _Stretched:
    """u -> g(c u) of another activation; equal for equal ones."""

    def __init__(self, of: LeakyReLU | Student, factor: float) -> None:
        self.of, self.factor = of, factor
        self.__name__ = of.name

    def __call__(self, u: ArrayLike) -> NDArray[np.float64]:
        return self.of.values(self.factor * np.asarray(u))

    def __hash__(self) -> int:
        return hash((self.of, self.factor))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Stretched) and (self.of, self.factor) == (other.of, other.factor)


def stretched(activation: LeakyReLU | Student, factor: float) -> LeakyReLU | Student:
    """The activation u -> g(factor u), factor > 0: a field of another variance, seen as a unit one.

    Examples
    --------
    >>> stretched(LINEAR, 2.0).values(1.5)
    array(3.)
    """
    if factor == 1.0 or activation == SIGN:
        return activation
    return Student(
        _Stretched(activation, factor), kinks=tuple(kink / factor for kink in activation.kinks)
    )
