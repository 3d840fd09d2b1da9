"""The averages of `_closed_forms` for any student and teacher, by quadrature.

The field uhat is cut where the student's slope jumps and, finely, where the teacher's jump passes;
the teacher's field given uhat is cut at the teacher's jumps.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from replica._core.student_values import quick_values
from replica.gaussian import split_rule
from replica.students import LeakyReLU, Student

from ._averages import Averages

__all__ = ["STEP_CUTS", "averages", "generalization_error"]

# A kink or jump of the teacher is seen by uhat through R uhat + sqrt(1 - R^2) v, as a step of width
# sqrt(1 - R^2); cuts in those units, beyond which it is as sharp as rounding shows.
STEP_CUTS = np.array([-8.0, -4.0, -1.5, 0.0, 1.5, 4.0, 8.0])


def _points(
    student: LeakyReLU | Student, teacher: LeakyReLU | Student, gamma: float, D: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return nodes uhat and v, with z = R uhat + sqrt(1 - R^2) v, and weights; shapes broadcast."""
    R, sine = 1.0 - D, math.sqrt(D * (2.0 - D))
    cuts = [kink / gamma for kink in student.kinks] if gamma else []
    if R:
        for kink in teacher.kinks:
            steps = (kink + sine * STEP_CUTS) / R
            cuts += [cut for cut in steps if abs(cut) < 13.0]
    uhat, weight = split_rule(np.array(cuts))
    if not teacher.kinks or sine == 0.0:
        v, inner = split_rule()
        return uhat[:, None], v, weight[:, None] * inner
    rules = [split_rule((np.array(teacher.kinks) - R * x) / sine) for x in uhat]
    sizes = [v.size for v, _ in rules]
    v, inner = (np.concatenate(parts) for parts in zip(*rules, strict=True))
    return np.repeat(uhat, sizes), v, np.repeat(weight, sizes) * inner


def averages(
    student: LeakyReLU | Student,
    teacher: LeakyReLU | Student,
    S: float,
    gamma: float,
    D: float,
) -> Averages:
    """Return P = E[delta uhat], I2 = E[delta^2] and G = E[delta (z - R uhat)]."""
    if D < 0.0 or D > 2.0:
        # Outside, where an integrator may look: G continues through its zero, the rest is constant.
        edge, inside = (0.0, 1e-6) if D < 0.0 else (2.0, 2.0 - 1e-6)
        P, I2, _ = averages(student, teacher, S, gamma, edge)
        G = averages(student, teacher, S, gamma, inside)[2]
        return Averages(P, I2, G * (D - edge) / (inside - edge))
    uhat, v, weight = _points(student, teacher, gamma, D)
    sine = math.sqrt(D * (2.0 - D))
    u = gamma * uhat
    slope = student.slopes(u)
    delta = slope * (quick_values(teacher, (1.0 - D) * uhat + sine * v) - quick_values(student, u))
    weighted = weight * delta
    noise = S * float(np.sum(weight * slope**2)) if S else 0.0
    P = float(np.sum(weighted * uhat))
    I2 = float(np.sum(weighted * delta)) + noise
    return Averages(P, I2, sine * float(np.sum(weighted * v)))


def generalization_error(
    student: LeakyReLU | Student, teacher: LeakyReLU | Student, gamma: float, D: float
) -> float:
    """Return E[(g*(z) - g(u))^2]."""
    D = min(max(D, 0.0), 2.0)
    uhat, v, weight = _points(student, teacher, gamma, D)
    z = (1.0 - D) * uhat + math.sqrt(D * (2.0 - D)) * v
    return float(
        np.sum(weight * (quick_values(teacher, z) - quick_values(student, gamma * uhat)) ** 2)
    )
