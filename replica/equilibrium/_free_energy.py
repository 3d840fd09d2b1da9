"""The replica-symmetric free energy as a functional of the order parameters, eqs. 19 and 21.

The module is private because its main function bears the natural name.
"""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from replica._core.arguments import ArgumentError, broadcast, choice, real_array
from replica._core.status import Status, warn_not_converged
from replica.students import LeakyReLU, StudentLike, as_student

from ._equilibrium import Noise
from ._finite_temperature import gibbs_averages
from ._saddle_point import WIDTHS, prepared, teacher_law
from ._teacher_average import LEGENDRE

__all__ = ["free_energy", "free_energy_published"]


def free_energy(
    gamma: ArrayLike,
    R: ArrayLike,
    q: ArrayLike,
    *,
    alpha: ArrayLike,
    S: ArrayLike,
    beta: ArrayLike,
    zeta: ArrayLike = 0.0,
    student: StudentLike,
    teacher: StudentLike = "linear",
    noise: Noise = "output",
) -> NDArray[np.float64]:
    """Replica-symmetric free energy per weight at given order parameters (eq. 19).

    With d = q - gamma^2,

        -beta f = (gamma^2 - gamma^2 R^2) / (2 d) + ln(d) / 2 - beta zeta q / 2
                  + alpha E ln E_u exp(-beta (y - g(u))^2 / 2),  u ~ N(omega, d),

    without the constant (1 + ln(2 pi)) / 2 of the flat measure on weights. The equilibrium is
    where it is stationary; `solve_equilibrium` with ``beta=`` finds that point.

    Parameters
    ----------
    gamma, R : float or array_like
        Square root of the overlap of two replicas, >= 0, and gamma R the overlap with the teacher,
        R in [-1, 1].
    q : float or array_like
        Self-overlap, larger than gamma ** 2.
    alpha, S, beta, zeta : float or array_like
        Load, variance of the label noise, inverse temperature, ridge coefficient (sum convention).
    student, teacher : str, LeakyReLU or Student
        Activations of student and teacher.
    noise : {"output", "input"}
        Label y = phi(z) + s, or y = phi(z + s) as in eq. 20.

    Returns
    -------
    ndarray
        f, in the broadcast shape; everything is done with logarithms, so that it stays finite for
        beta from 1e-3 to 1e8. The relative accuracy of the average is about 1e-10.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range, or ``q <= gamma ** 2``.

    Warns
    -----
    ConvergenceWarning
        If an element could not be evaluated: its fields leave the table of the activation, at
        sqrt(q) of 1000 and more. Its value is NaN.

    Notes
    -----
    Theory: :eq:`eq-free-energy` in :doc:`/finite_temperature`.

    Examples
    --------
    >>> round(float(free_energy(0.6, 0.7, 0.6, alpha=1, S=0.25, beta=10, student="relu")), 6)
    0.442149
    """
    who, whom = as_student(student), as_student(teacher, name="teacher")
    noise = choice("noise", noise, get_args(Noise))
    values = _checked(gamma, R, q, alpha, S, beta, zeta)
    slope = who.slope if isinstance(who, LeakyReLU) else math.nan
    result = np.empty(values[0].shape)
    for index in np.ndindex(result.shape):
        g, r, self_overlap, load, s, b, decay = (float(v[index]) for v in values)
        d = self_overlap - g * g
        law = teacher_law(whom, s, noise)
        mean_ln_z = math.nan
        for width in WIDTHS:
            averages = gibbs_averages(
                prepared(who, width), slope, law, b, b * d, g * r, g * g, LEGENDRE[3]
            )
            mean_ln_z = averages.ln_Z
            if math.isfinite(mean_ln_z):
                break
        entropic = 0.5 * g * g * (1 - r) * (1 + r) / d + 0.5 * math.log(d)
        result[index] = -(entropic + load * mean_ln_z) / b + 0.5 * decay * self_overlap
    failed = np.where(np.isfinite(result), Status.CONVERGED, Status.NON_FINITE)
    warn_not_converged(np.asarray(failed, dtype=np.int8))
    return np.where(np.isfinite(result), result, np.nan)


def free_energy_published(
    gamma: ArrayLike,
    R: ArrayLike,
    q: ArrayLike,
    *,
    alpha: ArrayLike,
    S: ArrayLike,
    beta: ArrayLike,
) -> NDArray[np.float64]:
    """Eq. 21 as published: the ReLU student's free energy "as beta grows", linear teacher.

    It replaces the inner average by that of a linear student where y > 0 and by the loss of the
    output 0 where y <= 0, which is not the limit of eq. 19: there the student is active on some
    samples with y <= 0, and silent on some with y > 0.

    Parameters
    ----------
    gamma, R, q : float or array_like
        Order parameters, as for `free_energy`.
    alpha, S, beta : float or array_like
        Load, variance of the label noise and inverse temperature.

    Returns
    -------
    ndarray
        f, in the broadcast shape, of a student without decay.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range, or ``q <= gamma ** 2``.

    Notes
    -----
    Theory: :eq:`eq-published-free-energy` in :doc:`/finite_temperature`.

    Examples
    --------
    >>> f = free_energy_published(0.6, 0.7, 0.6, alpha=1, S=0.25, beta=10)
    >>> round(float(f), 6)
    0.432818
    """
    g, r, self_overlap, load, s, b, _ = _checked(gamma, R, q, alpha, S, beta, 0.0)
    d = self_overlap - g * g
    active = np.log1p(b * d) + b * (1 - 2 * g * r + g * g + s) / (1 + b * d)
    minus_beta_f = (
        g * g * (1 - r * r) / (2 * d) + np.log(d) / 2 - load / 4 * active - load * b / 4 * (1 + s)
    )
    return np.asarray(-minus_beta_f / b)


def _checked(
    gamma: ArrayLike,
    R: ArrayLike,
    q: ArrayLike,
    alpha: ArrayLike,
    S: ArrayLike,
    beta: ArrayLike,
    zeta: ArrayLike,
) -> tuple[NDArray[np.float64], ...]:
    values = broadcast(
        gamma=real_array("gamma", gamma, low=0.0),
        R=real_array("R", R, low=-1.0, high=1.0),
        q=real_array("q", q, low=0.0, low_open=True),
        alpha=real_array("alpha", alpha, low=0.0),
        S=real_array("S", S, low=0.0),
        beta=real_array("beta", beta, low=0.0, low_open=True),
        zeta=real_array("zeta", zeta, low=0.0),
    )
    excess = values[2] - values[0] ** 2
    if (excess <= 0).any():
        raise ArgumentError(
            f"q must be larger than gamma ** 2, got q - gamma ** 2 = {float(excess.min())!r}"
        )
    return values
