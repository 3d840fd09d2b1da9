"""What is being learnt, by which method: the checked problem and its vector field.

The state is (gamma, D, Lambda) with D = 1 - R and Lambda = L^4: in these variables nothing is
singular at R = 1 and L grows linearly in time when the noise persists.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from replica._core.arguments import ArgumentError, choice, integer, real_scalar
from replica._core.jit import jit
from replica.students import ERF, LeakyReLU, Student, as_activation

from . import _closed_forms, _quadrature
from ._mini_batch import batch_averages

__all__ = ["LARGEST", "METHODS", "Model", "field", "field_jacobian", "make_model"]

METHODS = ("bn", "wn", "sgd", "minibatch-bn")
# Rates hold fourth powers, which have to stay floats.
LARGEST = 1e50
L_RANGE: dict[str, Any] = {"low": 1 / LARGEST, "high": LARGEST}

# P, I2 per batch, G; and the same with the derivatives in gamma and D after each.
Averages = tuple[float, float, float]
Derivatives = tuple[float, float, float, float, float, float, float, float, float]


@dataclass(frozen=True)
class Model:
    """A checked learning problem; `pair` is None when no closed form is known."""

    method: str
    student: LeakyReLU | Student
    teacher: LeakyReLU | Student
    learning_rate: float
    zeta: float
    S: float
    batch_size: int

    @cached_property
    def pair(self) -> tuple[int, float, float] | None:
        """The closed form that serves this student and teacher: kind and the two slopes."""
        if isinstance(self.student, LeakyReLU) and isinstance(self.teacher, LeakyReLU):
            return _closed_forms.LEAKY_PAIR, self.student.slope, self.teacher.slope
        if self.student == ERF and self.teacher == ERF:  # a copy is another object
            return _closed_forms.ERF_PAIR, 0.0, 0.0
        return None

    @property
    def is_compiled(self) -> bool:
        """Whether the compiled integrator serves this problem: its averages have a closed form."""
        return self.pair is not None and self.method != "minibatch-bn"

    def averages(self, gamma: float, D: float) -> Averages:
        """Return P, I2 (per batch) and G; see `_closed_forms`."""
        if self.method == "minibatch-bn":
            _, a, b = self.pair  # type: ignore[misc]
            return batch_averages(self.batch_size, a, b, self.S, gamma, D)
        if self.pair is None:
            P, I2, G = _quadrature.averages(self.student, self.teacher, self.S, gamma, D)
            return P, I2 / self.batch_size, G
        P, _, _, I2, _, _, G, _, _ = _closed_forms.averages(*self.pair, self.S, gamma, D)
        return P, I2 / self.batch_size, G

    def derivatives(self, gamma: float, D: float) -> Derivatives:
        """Return P, I2 (per batch) and G, each followed by its derivatives in gamma and D."""
        if not self.is_compiled:
            return _differentiate(self.averages, gamma, D)
        values = list(_closed_forms.averages(*self.pair, self.S, gamma, D))  # type: ignore[misc]
        values[3:6] = [value / self.batch_size for value in values[3:6]]
        return tuple(values)  # type: ignore[return-value]

    def generalization_error(self, gamma: float, D: float) -> float:
        """Return E[(g*(z) - g(u))^2]."""
        if self.pair is None:
            return _quadrature.generalization_error(self.student, self.teacher, gamma, D)
        return _closed_forms.generalization_error(*self.pair, gamma, D)

    def rates(self, gamma: float, D: float, quartic: float) -> tuple[float, float, float]:
        """Return the time derivatives of gamma, D and L^4."""
        sgd = self.method == "sgd"
        return field(
            sgd, self.learning_rate, self.zeta, *self.averages(gamma, D), gamma, D, quartic
        )

    def rates_jacobian(self, gamma: float, D: float, quartic: float) -> np.ndarray:
        """Return the matrix of derivatives of `rates`, shape (3, 3)."""
        sgd = self.method == "sgd"
        averages = self.derivatives(gamma, D)
        entries = field_jacobian(sgd, self.learning_rate, self.zeta, *averages, gamma, D, quartic)
        return np.array(entries).reshape(3, 3)


def make_model(
    method: Any,
    student: Any,
    teacher: Any,
    *,
    learning_rate: Any = 0.0,
    zeta: Any = 0.0,
    S: Any = 0.0,
    batch_size: Any = 1,
) -> Model:
    """Check the description of a learning problem and return it."""
    method = choice("method", method, METHODS)
    student = as_activation(student)
    for kink in student.kinks:
        below, above = student.values([kink - 1e-9, kink + 1e-9])
        if abs(above - below) > 1e-6:
            raise ArgumentError(
                f"student must be continuous, since it learns by its slope; {student.name} jumps "
                f"at {kink:g}"
            )
    teacher = student if teacher is None else as_activation(teacher, name="teacher")
    model = Model(
        method=method,
        student=student,
        teacher=teacher,
        learning_rate=real_scalar("learning_rate", learning_rate, low=0.0, high=LARGEST),
        zeta=real_scalar("zeta", zeta, low=0.0, high=LARGEST),
        S=real_scalar("S", S, low=0.0, high=LARGEST),
        batch_size=integer("batch_size", integer("batch_size", batch_size, low=1), high=10**18),
    )
    if model.zeta and method in ("wn", "sgd"):
        raise ArgumentError(
            f"zeta must be 0 for method {method!r}, which has no gamma decay, got {model.zeta:g}"
        )
    if method == "minibatch-bn":
        if model.pair is None or model.pair[0] != _closed_forms.LEAKY_PAIR:
            raise ArgumentError(
                "method 'minibatch-bn' needs a linear, ReLU or leaky-ReLU student and teacher, got "
                f"{student.name} and {teacher.name}"
            )
        integer("batch_size", batch_size, low=3)  # E[1 / sigma_B^2] is infinite below
    return model


@jit
def field(
    sgd: bool,
    eta: float,
    zeta: float,
    P: float,
    I2: float,
    G: float,
    gamma: float,
    D: float,
    quartic: float,
) -> tuple[float, float, float]:
    """Return the time derivatives of (gamma, D, L^4); for SGD gamma is L and the last is 0."""
    if sgd:
        noise = eta * eta * I2 / (gamma * gamma)
        return eta * P + noise * gamma / 2, -eta * G / gamma + noise * (1 - D) / 2, 0.0
    growth = eta * eta * gamma * gamma * I2
    drift = eta * gamma * G / np.sqrt(quartic)
    return eta * (P - zeta * gamma), growth * (1 - D) / (2 * quartic) - drift, 2 * growth


@jit
def field_jacobian(
    sgd: bool,
    eta: float,
    zeta: float,
    P: float,
    P_g: float,
    P_D: float,
    I2: float,
    I2_g: float,
    I2_D: float,
    G: float,
    G_g: float,
    G_D: float,
    gamma: float,
    D: float,
    quartic: float,
) -> tuple[float, float, float, float, float, float, float, float, float]:
    """Return the derivatives of `field`, row by row."""
    R = 1 - D
    if sgd:
        n = eta * eta / (gamma * gamma)
        return (
            eta * P_g + n * (gamma * I2_g - I2) / 2,
            eta * P_D + n * gamma * I2_D / 2,
            0.0,
            -eta * (G_g - G / gamma) / gamma + n * R * (I2_g - 2 * I2 / gamma) / 2,
            -eta * G_D / gamma + n * (R * I2_D - I2) / 2,
            0.0,
            0.0,
            0.0,
            0.0,
        )
    n = eta * eta * gamma * gamma
    n_g = 2 * eta * eta * gamma * I2 + n * I2_g
    rate = eta / np.sqrt(quartic)
    return (
        eta * (P_g - zeta),
        eta * P_D,
        0.0,
        n_g * R / (2 * quartic) - rate * (G + gamma * G_g),
        n * (R * I2_D - I2) / (2 * quartic) - rate * gamma * G_D,
        (rate * gamma * G / 2 - n * I2 * R / (2 * quartic)) / quartic,
        2 * n_g,
        2 * n * I2_D,
        0.0,
    )


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
    return tuple(  # type: ignore[return-value]
        float(x)
        for k in range(3)
        for x in (values[k], by_gamma[k], by_D[k])  # pyright: ignore
    )
