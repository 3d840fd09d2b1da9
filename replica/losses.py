"""Losses: the convex function of the residual y - u, or of the margin y u, that training minimizes.

The energy is sum_j l(y_j, u_j) + zeta |w|^2/2; "square", r^2/2, is ridge regression.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from ._core.activation_table import ActivationTable, tabulate
from ._core.arguments import ArgumentError, ArgumentTypeError, choice, real_array, real_scalar
from ._core.callables import check_function, checked_kinks, evaluate, name_of
from ._core.suggest import suggestion

__all__ = ["ABSOLUTE", "EXPONENTIAL", "HINGE", "LOGISTIC", "SQUARE", "SQUARED_HINGE"]
__all__ += ["Loss", "LossLike", "Strips", "as_loss", "epsilon_insensitive", "huber", "quantile"]

Of = Literal["residual", "margin"]

# Tables kept: more than one problem uses, few enough to hold.
_KEPT = 64
# Convexity is tested up to here when the loss is made, and farther where a table reaches farther.
_TESTED = 8.0
# A slope that falls by less is rounding of a slope that stands still.
_FALL = 1e-8
_NODES = np.linspace(-1.0, 1.0, 33)


class Strips(NamedTuple):
    """A piecewise-quadratic function: c0 + c1 x + c2 x^2 on each strip between `breaks`."""

    breaks: tuple[float, ...]
    coefficients: tuple[tuple[float, float, float], ...]


@dataclass(frozen=True)
class _Quadratics:
    """A loss that is known by its strips."""

    name: str
    shown: str
    strips: Strips

    def __call__(self, x: Any) -> Any:
        c0, c1, c2 = self._at(x)
        return c0 + x * (c1 + c2 * x)

    def slope(self, x: Any) -> Any:
        _, c1, c2 = self._at(x)
        return c1 + 2.0 * c2 * x

    def curvature(self, x: Any) -> Any:
        return 2.0 * self._at(x)[2]

    def _at(self, x: Any) -> Any:
        strip = np.searchsorted(self.strips.breaks, x, side="left")
        return np.moveaxis(np.array(self.strips.coefficients)[strip], -1, 0)


@dataclass(frozen=True)
class _Known:
    """A smooth loss whose derivatives are known."""

    name: str
    shown: str
    value: Callable[[Any], Any]
    slope: Callable[[Any], Any]
    curvature: Callable[[Any], Any]

    def __call__(self, x: Any) -> Any:
        return self.value(x)


@dataclass(frozen=True, repr=False)
class Loss:
    """A convex loss of your own: a function of the residual y - u, or of the margin y u.

    Parameters
    ----------
    function : callable
        l(x): a compiled (``numba.njit``) or plain Python function of one float that returns one
        finite real number; see `Student` for how functions are called.
    derivative : callable, optional
        l'(x). Only needed when l carries rounding noise.
    kinks : sequence of float, optional
        Every point where l' jumps, in increasing order.
    of : {"residual", "margin"}
        Whether x = y - u or x = y u. A loss of the margin needs labels that are signs.

    Raises
    ------
    TypeError
        If `function` or `derivative` is not a function of one real number that can be hashed.
    ValueError
        If the function is not convex (the message says where), or has a kink that is not declared.

    See Also
    --------
    as_loss : The losses that have names.

    Examples
    --------
    >>> import numpy as np
    >>> loss = Loss(lambda r: np.logaddexp(r, -r), of="residual")  # ln(2 cosh r)
    >>> loss.slopes([1.0, 50.0]).round(6)
    array([0.761594, 1.      ])
    >>> Loss(np.sin)
    Traceback (most recent call last):
        ...
    replica.ArgumentError: a loss must be convex, but the slope of sin falls near x = 0.0312
    """

    function: Callable[..., Any]
    derivative: Callable[..., Any] | None = None
    kinks: tuple[float, ...] = ()
    of: Of = "residual"

    def __post_init__(self) -> None:
        choice("of", self.of, get_args(Of))
        if isinstance(self.function, _Quadratics | _Known):
            return
        object.__setattr__(self, "kinks", checked_kinks(self.kinks))
        check_function(self.function, "function")
        if self.derivative is not None:
            check_function(self.derivative, "derivative")
        self.table(-_TESTED, _TESTED)

    def __repr__(self) -> str:
        known = self._known
        if known is not None:
            return known.shown
        parts = [name_of(self.function)]
        if self.derivative is not None:
            parts.append(f"derivative={name_of(self.derivative)}")
        if self.kinks:
            parts.append(f"kinks={self.kinks}")
        return f"Loss({', '.join(parts)}, of={self.of!r})"

    @property
    def _known(self) -> _Quadratics | _Known | None:
        return self.function if isinstance(self.function, _Quadratics | _Known) else None

    @property
    def name(self) -> str:
        """The name in labels and tables; `as_loss` takes it, unless it is that of a function."""
        known = self._known
        return name_of(self.function).strip("_<>") if known is None else known.name

    @property
    def strips(self) -> Strips | None:
        """The pieces of a piecewise-quadratic loss that has a name, else None."""
        known = self._known
        return known.strips if isinstance(known, _Quadratics) else None

    def argument(self, y: ArrayLike, u: ArrayLike) -> NDArray[np.float64]:
        """Return what the loss is a function of: y - u or y u, elementwise."""
        y, u = real_array("y", y), real_array("u", u)
        return np.asarray(y - u if self.of == "residual" else y * u)

    def values(self, x: ArrayLike) -> NDArray[np.float64]:
        """Return l(x), elementwise."""
        x = real_array("x", x)
        if self._known is not None:
            return np.asarray(self._known(x))
        return evaluate(self.function, x.ravel(), name="function").reshape(x.shape)

    def slopes(self, x: ArrayLike) -> NDArray[np.float64]:
        """Return l'(x), elementwise, from the left at a kink of a loss that has a name.

        Of a function without `derivative`, from an interpolation, to about 1e-12; from the right
        at a kink.
        """
        x = real_array("x", x)
        if self._known is not None:
            return np.asarray(self._known.slope(x))
        if self.derivative is not None:
            return evaluate(self.derivative, x.ravel(), name="derivative").reshape(x.shape)
        return self._interpolated(x, 1)

    def curvatures(self, x: ArrayLike) -> NDArray[np.float64]:
        """Return l''(x), elementwise, the jumps of l' at kinks left out."""
        x = real_array("x", x)
        if self._known is not None:
            return np.asarray(self._known.curvature(x)) + 0.0 * x
        return self._interpolated(x, 2)

    def _interpolated(self, x: NDArray[np.float64], order: int) -> NDArray[np.float64]:
        low, high = x.min(initial=-_TESTED), x.max(initial=_TESTED)
        # Powers of two, so that fields of about the same size share one table.
        low, high = (float(np.sign(e) * 2.0 ** np.ceil(np.log2(abs(e)))) for e in (low, high))
        breaks, series, _ = self.table(low, high)
        piece = np.clip(np.searchsorted(breaks, x, side="right") - 1, 0, breaks.size - 2)
        t = (2 * x - breaks[piece] - breaks[piece + 1]) / (breaks[piece + 1] - breaks[piece])
        coefficients = np.moveaxis(series[order][piece], -1, 0)
        return np.asarray(chebyshev.chebval(t, coefficients, tensor=False))

    def table(self, low: float, high: float) -> ActivationTable:
        """Return l, l', l'' on [low, high] for compiled solvers, low < 0 < high.

        Raises
        ------
        ValueError
            If l is not convex there, has a kink that was not declared, or `derivative` is not its
            derivative.
        """
        known = self._known
        if known is not None:
            kinks = known.strips.breaks if isinstance(known, _Quadratics) else ()
            return _tabulate_once(known, known.slope, kinks, float(low), float(high))
        return _tabulate_once(self.function, self.derivative, self.kinks, float(low), float(high))


@lru_cache(maxsize=_KEPT)
def _tabulate_once(
    function: Callable[..., Any],
    derivative: Callable[..., Any] | None,
    kinks: tuple[float, ...],
    low: float,
    high: float,
) -> ActivationTable:
    table = tabulate(function, derivative, kinks, high, low=low, name="function", variable="x")
    _refuse_what_is_not_convex(table, name_of(function))
    return table


def _refuse_what_is_not_convex(table: ActivationTable, name: str) -> None:
    breaks = table.breaks
    left, right = chebyshev.chebval(np.array([-1.0, 1.0]), table.series[0].T).T
    jump = np.abs(left[1:] - right[:-1]) > 1e-6 * (1.0 + np.abs(left[1:]))
    if jump.any():
        where = breaks[1:-1][jump][0]
        raise ArgumentError(f"a loss must be convex, but {name} jumps at x = {where:.6g}")
    slopes = chebyshev.chebval(_NODES, table.series[1].T)
    points = (breaks[:-1, None] * (1.0 - _NODES) + breaks[1:, None] * (1.0 + _NODES)) / 2
    slopes, points = slopes.ravel(), points.ravel()
    falls = np.diff(slopes) < -_FALL * (1.0 + np.abs(slopes[1:]))
    if falls.any():
        where = float(points[1:][falls][np.argmin(np.abs(points[1:][falls]))])
        raise ArgumentError(
            f"a loss must be convex, but the slope of {name} falls near x = {where:.3g}"
        )


def _quadratics(
    name: str, breaks: tuple[float, ...], rows: tuple[tuple[float, float, float], ...], **rest: Any
) -> Loss:
    shown = rest.pop("shown", name.upper().replace("-", "_"))
    return Loss(_Quadratics(name, shown, Strips(breaks, rows)), **rest)


def huber(delta: float = 1.0) -> Loss:
    """Huber's loss of the residual: r^2/2 for |r| < delta, delta |r| - delta^2/2 beyond.

    Parameters
    ----------
    delta : float
        Where it becomes linear, from 1e-100 to 1e100.

    Returns
    -------
    Loss

    Raises
    ------
    TypeError, ValueError
        If `delta` is not a real number in that range.

    Notes
    -----
    Theory: :eq:`eq-residual-loss` in :doc:`/classification`.

    Examples
    --------
    >>> huber(1.5).values([1.0, 2.0])
    array([0.5  , 1.875])
    """
    d = real_scalar("delta", delta, low=1e-100, high=1e100)
    rows = ((-0.5 * d * d, -d, 0.0), (0.0, 0.0, 0.5), (-0.5 * d * d, d, 0.0))
    return _quadratics(_parameter("huber", d, 1.0), (-d, d), rows, shown=f"huber({d!r})")


def epsilon_insensitive(epsilon: float = 0.1) -> Loss:
    """Vapnik's loss of the residual: 0 for |r| < epsilon, |r| - epsilon beyond.

    Parameters
    ----------
    epsilon : float
        Half-width of the tube, from 0 to 1e100; 0 is the absolute loss.

    Returns
    -------
    Loss

    Raises
    ------
    TypeError, ValueError
        If `epsilon` is not a real number in that range.

    Notes
    -----
    Theory: :eq:`eq-residual-loss` in :doc:`/classification`.

    Examples
    --------
    >>> epsilon_insensitive(0.5).values([0.25, -2.0])
    array([0. , 1.5])
    """
    e = real_scalar("epsilon", epsilon, low=0.0, high=1e100)
    if e == 0.0:
        return ABSOLUTE
    rows = ((-e, -1.0, 0.0), (0.0, 0.0, 0.0), (-e, 1.0, 0.0))
    name = _parameter("epsilon-insensitive", e, 0.1)
    return _quadratics(name, (-e, e), rows, shown=f"epsilon_insensitive({e!r})")


def quantile(level: float = 0.5) -> Loss:
    """Loss of quantile regression: level r for r > 0, (level - 1) r for r < 0.

    Parameters
    ----------
    level : float
        The quantile, in (0, 1); 1/2 is half the absolute loss.

    Returns
    -------
    Loss

    Raises
    ------
    TypeError, ValueError
        If `level` is not a real number in (0, 1).

    Notes
    -----
    Theory: :eq:`eq-residual-loss` in :doc:`/classification`.

    Examples
    --------
    >>> quantile(0.75).values([-2.0, 2.0])
    array([0.5, 1.5])
    """
    p = real_scalar("level", level, low=0.0, high=1.0, low_open=True, high_open=True)
    rows = ((0.0, p - 1.0, 0.0), (0.0, p, 0.0))
    return _quadratics(_parameter("quantile", p, 0.5), (0.0,), rows, shown=f"quantile({p!r})")


def _parameter(kind: str, value: float, default: float) -> str:
    number = f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return kind if value == default else f"{kind}:{number}"


def _logistic(x: Any) -> Any:
    return np.logaddexp(0.0, -x)


def _logistic_slope(x: Any) -> Any:
    return -expit(-x)


def _logistic_curvature(x: Any) -> Any:
    return expit(x) * expit(-x)


def _exponential(x: Any) -> Any:
    return np.exp(-x)


def _exponential_slope(x: Any) -> Any:
    return -np.exp(-x)


#: r^2/2: ridge regression.
SQUARE = _quadratics("square", (), ((0.0, 0.0, 0.5),))
#: |r|: least absolute deviations.
ABSOLUTE = _quadratics("absolute", (0.0,), ((0.0, -1.0, 0.0), (0.0, 1.0, 0.0)))
#: max(0, 1 - x) of the margin x = y u: the support vector machine.
HINGE = _quadratics("hinge", (1.0,), ((1.0, -1.0, 0.0), (0.0, 0.0, 0.0)), of="margin")
#: max(0, 1 - x)^2/2 of the margin.
SQUARED_HINGE = _quadratics(
    "squared-hinge", (1.0,), ((0.5, -1.0, 0.5), (0.0, 0.0, 0.0)), of="margin"
)
#: ln(1 + exp(-x)) of the margin: logistic regression.
LOGISTIC = Loss(
    _Known("logistic", "LOGISTIC", _logistic, _logistic_slope, _logistic_curvature), of="margin"
)
#: exp(-x) of the margin: the loss of boosting.
EXPONENTIAL = Loss(
    _Known("exponential", "EXPONENTIAL", _exponential, _exponential_slope, _exponential),
    of="margin",
)

_BY_NAME: dict[str, Loss] = {
    loss.name: loss for loss in (SQUARE, ABSOLUTE, HINGE, SQUARED_HINGE, LOGISTIC, EXPONENTIAL)
}
_WITH_PARAMETER: dict[str, Callable[..., Loss]] = {
    "huber": huber,
    "epsilon-insensitive": epsilon_insensitive,
    "quantile": quantile,
}

#: What `as_loss` takes.
LossLike: TypeAlias = str | Loss


def as_loss(value: LossLike, name: str = "loss") -> Loss:
    """Return the loss meant by `value`.

    Parameters
    ----------
    value : str or Loss
        "square", "absolute", "hinge", "squared-hinge", "logistic" or "exponential"; "huber",
        "epsilon-insensitive" or "quantile", with the parameter after a colon if it is not the
        usual one ("huber:1.5"); or a loss itself.
    name : str
        What error messages call `value`.

    Returns
    -------
    Loss
        Equal for equal `value`.

    Raises
    ------
    TypeError, ValueError
        If `value` is none of these, or the parameter is out of range.

    Examples
    --------
    >>> as_loss("hinge"), as_loss("huber:1.5"), as_loss("quantile")
    (HINGE, huber(1.5), quantile(0.5))
    """
    if isinstance(value, Loss):
        return value
    names = (*_BY_NAME, *_WITH_PARAMETER)
    allowed = f"{name} must be one of {names} or a Loss(function, of=...), got {value!r}"
    if not isinstance(value, str):
        raise ArgumentTypeError(allowed)
    if value in _BY_NAME:
        return _BY_NAME[value]
    kind, colon, number = value.partition(":")
    if kind in _WITH_PARAMETER:
        if not colon:
            return _WITH_PARAMETER[kind]()
        try:
            parameter = float(number)
        except ValueError:
            raise ArgumentError(
                f"{name} {kind!r} takes a number after the colon, got {value!r}"
            ) from None
        return _WITH_PARAMETER[kind](parameter)
    raise ArgumentError(allowed + suggestion(value, names))
