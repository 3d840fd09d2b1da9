"""What is being learnt, by which method: the checked problem and its vector field.

The state is (gamma, D, Lambda) with D = 1 - R and Lambda = L^4: in these variables nothing is
singular at R = 1 and L grows linearly in time when the noise persists. Rates are per sample seen
and weight, of the gradient of the sum over the batch: so far as the averages do not depend on the
size of the batch, nothing does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from replica._core.arguments import Limits, choice, integer, real_scalar
from replica._core.jit import jit
from replica._core.normalizer import Normalizer
from replica._core.student_values import refuse_jumps
from replica.students import ERF, LeakyReLU, Student, StudentLike, as_student

from . import _closed_forms, _quadrature
from ._averages import Averages, Derivatives
from ._batch_averages import batch_averages, leaky_series, refuse_small_batch, series_averages

__all__ = ["LARGEST", "L_RANGE", "NORMALIZERS", "Model", "Pair"]
__all__ += ["error_of", "field", "field_jacobian", "make_model", "pair_averages"]

NORMALIZERS: tuple[Normalizer, ...] = get_args(Normalizer)
# Rates hold fourth powers, which have to stay floats.
LARGEST = 1e50
# The inverse of L is taken as often as L.
L_RANGE: Limits = {"low": 1 / LARGEST, "high": LARGEST}
# Batch sizes are counted in 64 bits.
_LARGEST_BATCH = 10**18


class Pair(NamedTuple):
    """Student and teacher as compiled code knows them: the formula of `_closed_forms`, its slopes.

    The `leaky_series` of real batches goes beside it, or None: by the type of that the compiler
    decides which averages it takes, which costs nothing where there are no batches.
    """

    kind: int
    a: float
    b: float


@dataclass(frozen=True)
class Model:
    """A checked learning problem; `pair` is None when only quadrature serves."""

    student: LeakyReLU | Student
    teacher: LeakyReLU | Student
    normalizer: Normalizer
    S: float
    zeta: float
    batch_size: int
    learning_rate: float

    @property
    def plain(self) -> bool:
        """Whether gamma and L are the same number."""
        return self.normalizer == "none"

    @property
    def has_batches(self) -> bool:
        """Whether statistics are those of the batch."""
        return self.normalizer.startswith("bn")

    @cached_property
    def pair(self) -> Pair | None:
        """What the compiled integrator needs, for pairs that have it."""
        if isinstance(self.student, LeakyReLU) and isinstance(self.teacher, LeakyReLU):
            return Pair(_closed_forms.LEAKY_PAIR, self.student.slope, self.teacher.slope)
        if self.student == ERF and self.teacher == ERF and not self.has_batches:
            return Pair(_closed_forms.ERF_PAIR, 0.0, 0.0)
        return None

    @cached_property
    def series(self) -> NDArray[np.float64] | None:
        """What `pair_averages` has to know of real batches."""
        if self.pair is None or not self.has_batches:
            return None
        return leaky_series(self.normalizer, self.batch_size, self.pair.a, self.pair.b)

    @property
    def described(self) -> str:
        """The problem in an error message."""
        return (
            f"normalizer {self.normalizer!r} with student {self.student.name} and teacher "
            f"{self.teacher.name}"
        )

    def averages(self, gamma: float, D: float) -> Averages:
        """Return P, I2 and G; see `_closed_forms`."""
        if self.pair is not None:
            at = pair_averages(self.pair, self.series, self.S, gamma, D)
            return Averages(at.P, at.I2, at.G)
        if self.has_batches:
            return batch_averages(
                self.normalizer, self.batch_size, self.student, self.teacher, self.S, gamma, D
            )
        return _quadrature.averages(self.student, self.teacher, self.S, gamma, D)

    def derivatives(self, gamma: float, D: float) -> Derivatives:
        """Return P, I2 and G, each followed by its derivatives in gamma and D."""
        if self.pair is None:
            return _differentiate(self.averages, gamma, D)
        return pair_averages(self.pair, self.series, self.S, gamma, D)

    def generalization_error(self, gamma: float, D: float) -> float:
        """Return E[(g*(z) - g(u))^2]."""
        if self.student == ERF and self.teacher == ERF:
            return _closed_forms.generalization_error(_closed_forms.ERF_PAIR, 0.0, 0.0, gamma, D)
        if self.pair is None:
            return _quadrature.generalization_error(self.student, self.teacher, gamma, D)
        return error_of(self.pair, gamma, D)

    def rates(self, gamma: float, D: float, quartic: float) -> tuple[float, float, float]:
        """Return the time derivatives of gamma, D and L^4."""
        at = self.averages(gamma, D)
        return field(self.plain, self.learning_rate, self.zeta, at, gamma, D, quartic)

    def rates_jacobian(self, gamma: float, D: float, quartic: float) -> NDArray[np.float64]:
        """Return the matrix of derivatives of `rates`, shape (3, 3)."""
        at, out = self.derivatives(gamma, D), np.empty((3, 3))
        field_jacobian(self.plain, self.learning_rate, self.zeta, at, gamma, D, quartic, out)
        return out


def make_model(
    *,
    student: StudentLike,
    teacher: StudentLike | None,
    normalizer: str,
    S: object = 0.0,
    zeta: object = 0.0,
    batch_size: object = 1,
    learning_rate: object = 0.0,
) -> Model:
    """Check the description of a learning problem and return it."""
    student = as_student(student)
    refuse_jumps(student)
    teacher = student if teacher is None else as_student(teacher, name="teacher")
    normalizer = choice("normalizer", normalizer, NORMALIZERS)
    batch_size = integer(
        "batch_size", integer("batch_size", batch_size, low=1), high=_LARGEST_BATCH
    )
    model = Model(
        student=student,
        teacher=teacher,
        normalizer=normalizer,
        S=real_scalar("S", S, low=0.0, high=LARGEST),
        zeta=real_scalar("zeta", zeta, low=0.0, high=LARGEST),
        batch_size=batch_size,
        learning_rate=real_scalar("learning_rate", learning_rate, low=0.0, high=LARGEST),
    )
    if model.has_batches:
        refuse_small_batch(normalizer, batch_size)
    return model


@jit
def pair_averages(
    pair: Pair, series: NDArray[np.float64] | None, S: float, gamma: float, D: float
) -> Derivatives:
    """Return P, I2 and G with their derivatives."""
    if series is not None:
        return series_averages(series, S, gamma, D)
    return _closed_forms.averages(pair.kind, pair.a, pair.b, S, gamma, D)


@jit
def error_of(pair: Pair, gamma: float, D: float) -> float:
    """Return E[(g*(z) - g(u))^2], with population statistics whatever the normalizer."""
    return _closed_forms.generalization_error(pair.kind, pair.a, pair.b, gamma, D)


@jit
def field(
    plain: bool,
    eta: float,
    zeta: float,
    at: Averages,
    gamma: float,
    D: float,
    quartic: float,
) -> tuple[float, float, float]:
    """Return the time derivatives of (gamma, D, L^4); if plain, gamma is L and the last is 0."""
    drift = eta * (at.P - zeta * gamma)
    if plain:
        noise = eta * eta * at.I2 / (gamma * gamma)
        return drift + noise * gamma / 2, -eta * at.G / gamma + noise * (1 - D) / 2, 0.0
    growth = eta * eta * gamma * gamma * at.I2
    turn = eta * gamma * at.G / np.sqrt(quartic)
    return drift, growth * (1 - D) / (2 * quartic) - turn, 2 * growth


@jit
def field_jacobian(
    plain: bool,
    eta: float,
    zeta: float,
    at: Derivatives,
    gamma: float,
    D: float,
    quartic: float,
    out: NDArray[np.float64],
) -> None:
    """Write the derivatives of `field` into `out`, shape (3, 3)."""
    R = 1 - D
    out[0, 0], out[0, 1], out[0, 2] = eta * (at.P_gamma - zeta), eta * at.P_D, 0.0
    if plain:
        n = eta * eta / (gamma * gamma)
        out[0, 0] += n * (gamma * at.I2_gamma - at.I2) / 2
        out[0, 1] += n * gamma * at.I2_D / 2
        out[1, 0] = -eta * (at.G_gamma - at.G / gamma) / gamma
        out[1, 0] += n * R * (at.I2_gamma - 2 * at.I2 / gamma) / 2
        out[1, 1] = -eta * at.G_D / gamma + n * (R * at.I2_D - at.I2) / 2
        out[1, 2] = out[2, 0] = out[2, 1] = out[2, 2] = 0.0
        return
    n = eta * eta * gamma * gamma
    n_gamma = 2 * eta * eta * gamma * at.I2 + n * at.I2_gamma
    rate = eta / np.sqrt(quartic)
    out[1, 0] = n_gamma * R / (2 * quartic) - rate * (at.G + gamma * at.G_gamma)
    out[1, 1] = n * (R * at.I2_D - at.I2) / (2 * quartic) - rate * gamma * at.G_D
    out[1, 2] = (rate * gamma * at.G / 2 - n * at.I2 * R / (2 * quartic)) / quartic
    out[2, 0], out[2, 1], out[2, 2] = 2 * n_gamma, 2 * n * at.I2_D, 0.0


def _differentiate(
    averages: Callable[[float, float], Averages], gamma: float, D: float
) -> Derivatives:
    """Derivatives of averages that have no closed form, by local polynomials.

    D = 1 - cos(theta); the averages are smooth in theta, not in D, near theta = 0.
    """
    theta = float(np.arccos(np.clip(1.0 - D, -1.0, 1.0)))
    width = 0.05
    low = min(max(theta - width, 0.0), np.pi - 2 * width)
    nodes = np.cos(np.pi * (np.arange(12) + 0.5) / 12)
    angles = low + width * (1 + nodes)
    in_theta = np.array([averages(gamma, 1 - np.cos(angle)) for angle in angles])
    series = np.polynomial.chebyshev.chebfit(nodes, in_theta, 11)
    at = (theta - low) / width - 1
    slope = np.polynomial.chebyshev.chebval(at, np.polynomial.chebyshev.chebder(series)) / width
    # Nearer to an end the ratio below is off by rounding/theta, its limit by theta^2.
    if min(theta, np.pi - theta) < 1e-3:
        # d/dD = (d/dtheta) / sin(theta), whose limit at an end is the second derivative.
        bend = np.polynomial.chebyshev.chebval(at, np.polynomial.chebyshev.chebder(series, 2))
        by_D = bend / width**2 / np.cos(theta)
    else:
        by_D = slope / np.sin(theta)
    step = 0.02 * max(abs(gamma), 0.1)
    in_gamma = np.array([averages(gamma + step * node, D) for node in nodes])
    series = np.polynomial.chebyshev.chebfit(nodes, in_gamma, 11)
    by_gamma = np.polynomial.chebyshev.chebval(0.0, np.polynomial.chebyshev.chebder(series)) / step
    values = averages(gamma, D)
    table = np.array([values, np.asarray(by_gamma), np.asarray(by_D)]).T
    return Derivatives(*table.ravel().tolist())
