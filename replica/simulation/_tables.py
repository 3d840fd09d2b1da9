"""A student and a loss as the compiled loops want them: tables that are made wider on demand."""

from __future__ import annotations

import math

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

from replica._core.activation_table import ActivationTable
from replica._core.arguments import LARGEST, ArgumentError
from replica._core.student_values import quick_values
from replica.losses import EXPONENTIAL, LOGISTIC, SQUARE, Loss
from replica.students import LeakyReLU, Student

from . import _kernels as kernels

__all__ = ["Tables", "has_kinks", "kinks_of", "loss_table", "slope_and_table", "table_reaching"]

# Fields beyond this are not tabulated: the state of a run whose fields get there has diverged.
LARGEST_FIELD = 2.0**20
# Losses without strips whose own functions take arrays.
_FAST = (LOGISTIC, EXPONENTIAL)
# Half-width of the first tables: a standard normal field is never beyond.
_FIRST_WIDTH = 16.0


def slope_and_table(
    activation: LeakyReLU | Student, reach: float = _FIRST_WIDTH
) -> tuple[float, ActivationTable | None]:
    """Slope and table of an activation, as the kernels want them."""
    if isinstance(activation, LeakyReLU):
        return activation.slope, None
    return math.nan, table_reaching(activation, reach)


def table_reaching(student: LeakyReLU | Student, field: float) -> ActivationTable:
    """The table of `student` that reaches `field`; widths are powers of 2, so there are few."""
    return student.table(_width(field))


def _width(argument: float) -> float:
    return 2.0 ** math.ceil(math.log2(max(_FIRST_WIDTH, abs(argument))))


def loss_table(loss: Loss, lower: float, upper: float) -> kernels.LossTable | None:
    """A loss as the kernels want it, None for the square; strips reach everywhere."""
    if loss == SQUARE:
        return None
    margin, strips = loss.of == "margin", loss.strips
    if strips is not None:
        n = len(strips.coefficients)
        c0, c1, c2 = np.array(strips.coefficients, float).T
        series = np.zeros((3, n, 3))
        # x^2 = (T_2(x) + 1)/2
        series[0] = np.stack([c0 + c2 / 2, c1, c2 / 2], axis=-1)
        series[1, :, 0], series[1, :, 1], series[2, :, 0] = c1, 2 * c2, 2 * c2
        breaks = np.array(strips.breaks, float)
        return kernels.LossTable(margin, breaks, np.zeros(n), np.ones(n), series, -np.inf, np.inf)
    breaks, series, _ = loss.table(lower, upper)
    centers, inverses = (breaks[:-1] + breaks[1:]) / 2, 2.0 / np.diff(breaks)
    return kernels.LossTable(margin, breaks[1:-1].copy(), centers, inverses, series, lower, upper)


def kinks_of(loss: Loss) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where the slope of a loss jumps, and by how much."""
    breaks = np.array(loss.kinks if loss.strips is None else loss.strips.breaks, float)
    if loss.strips is not None:
        _, c1, c2 = np.array(loss.strips.coefficients).T
        jumps = np.diff(c1) + 2.0 * np.diff(c2) * breaks
    else:
        table = loss.table(*_reaching(breaks))
        left, right = chebyshev.chebval(np.array([-1.0, 1.0]), table.series[1].T).T
        at = np.searchsorted(table.breaks, breaks)
        jumps = left[at] - right[at - 1]
    # Slopes of series are continuous to about 1e-12.
    jumping = jumps > 1e-9
    return breaks[jumping], jumps[jumping]


def has_kinks(loss: Loss) -> bool:
    """Whether the slope of the loss jumps anywhere."""
    return kinks_of(loss)[0].size > 0


def _reaching(points: NDArray[np.float64]) -> tuple[float, float]:
    """Ends of a table that has these points inside."""
    width = 2.0 * float(np.max(np.abs(points), initial=_FIRST_WIDTH / 2.0))
    return -_width(width), _width(width)


class Tables:
    """What the kernels need of a student and a loss; a run has its own, since they widen."""

    def __init__(self, student: LeakyReLU | Student, loss: Loss) -> None:
        self.student, self._loss = student, loss
        self.slope, self.table = slope_and_table(student)
        self.loss = loss_table(loss, -_FIRST_WIDTH, _FIRST_WIDTH)

    def widen(self, furthest: float, loss_furthest: float) -> bool:
        """Take tables that reach these arguments; False if the run runs away there."""
        if not (abs(furthest) <= LARGEST_FIELD and abs(loss_furthest) <= LARGEST_FIELD):
            return False
        with np.errstate(over="ignore"):
            try:
                if self.table is not None and abs(furthest) > self.table.breaks[-1]:
                    if abs(float(self.student.values(furthest))) > LARGEST:
                        return False
                    self.table = table_reaching(self.student, furthest)
                if self.loss is not None and loss_furthest:
                    if abs(float(self._loss.values(loss_furthest))) > LARGEST:
                        return False
                    lower, upper = self.loss.lower, self.loss.upper
                    if loss_furthest < 0.0:
                        lower = -_width(loss_furthest)
                    else:
                        upper = _width(loss_furthest)
                    self.loss = loss_table(self._loss, lower, upper)
            except (ArgumentError, OverflowError):
                return False
        return True

    def outputs(self, h: NDArray[np.float64]) -> NDArray[np.float64]:
        """g(h), elementwise."""
        return quick_values(self.student, h)

    @property
    def margin(self) -> bool:
        """Whether the loss is one of y u, not of y - u."""
        return self._loss.of == "margin"

    def losses(
        self, y: NDArray[np.floating], outputs: NDArray[np.floating], order: int = 0
    ) -> NDArray[np.float64]:
        """l(y, u) at the outputs u, or a derivative with respect to u; NaN where it overflows."""
        loss = self._loss
        x = loss.argument(y, outputs)
        sign = 1.0 if order != 1 else y if loss.of == "margin" else -1.0
        if loss.strips is not None or loss in _FAST:
            return sign * (loss.values, loss.slopes, loss.curvatures)[order](x)
        found = np.empty(x.size)
        while self.loss is not None and (beyond := kernels.losses(self.loss, order, x, found)):
            if not self.widen(0.0, beyond):
                return np.full(x.size, np.nan)
        return sign * found
