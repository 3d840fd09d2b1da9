"""The correlations I1, I2, I3 of the online update."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from replica._core.arguments import ArgumentError, broadcast, choice, real_array
from replica.students import LeakyReLU, Student

from . import _quadrature
from ._model import LARGEST, make_model

__all__ = ["Correlations", "correlations"]


@dataclass(frozen=True)
class Correlations:
    """Averages of the online update with the fields (eq. 6), arrays of one shape.

    Attributes
    ----------
    I1, I2, I3 : ndarray
        E[delta u], E[delta^2] and E[delta z].
    gamma, R : ndarray
        Where, broadcast.
    student, teacher, S, method
        The other arguments of `correlations`.
    """

    gamma: NDArray[np.float64]
    R: NDArray[np.float64]
    student: LeakyReLU | Student
    teacher: LeakyReLU | Student
    S: float
    method: str
    I1: NDArray[np.float64]
    I2: NDArray[np.float64]
    I3: NDArray[np.float64]


def correlations(
    gamma: ArrayLike,
    R: ArrayLike,
    *,
    student: str | LeakyReLU | Student,
    teacher: str | LeakyReLU | Student | None = None,
    S: float = 0.0,
    method: str = "auto",
) -> Correlations:
    """Return the correlations between the update and the fields, eqs. (13)-(15).

    delta = g'(u) (g*(z) + s - g(u)) with Var u = gamma^2, Var z = 1, E[u z] = gamma R, Var s = S.

    Parameters
    ----------
    gamma, R : array_like
        Order parameters, 0 < gamma <= 1e50 and |R| <= 1; broadcast.
    student, teacher : str, LeakyReLU or Student
        The teacher's activation is that of the student by default.
    S : float, optional
        Variance of the label noise.
    method : {"auto", "closed", "quadrature"}, optional
        "auto" takes the closed form where there is one: the leaky family, and erf with erf.

    Returns
    -------
    Correlations

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or is out of range, or a closed form is asked for that
        does not exist.

    Notes
    -----
    Theory: :eq:`eq-correlations` in :doc:`/dynamics`.

    For ReLU the printed eq. (15) has pi R where the first term of I2 needs pi: at R = 0 it is 1/4,
    not 0.

    Examples
    --------
    >>> at_start = correlations(1.0, 0.0, student="linear", S=0.25)
    >>> float(at_start.I1), float(at_start.I2), float(at_start.I3)
    (-1.0, 2.25, 1.0)
    """
    model = make_model("wn", student, teacher, S=S)
    choice("method", method, ("auto", "closed", "quadrature"))
    if method == "closed" and model.pair is None:
        raise ArgumentError(
            f"no closed form for student {model.student.name} and teacher {model.teacher.name}"
        )
    gamma, R = broadcast(
        gamma=real_array("gamma", gamma, low=0.0, high=LARGEST, low_open=True),
        R=real_array("R", R, low=-1.0, high=1.0),
    )
    out = np.empty((3, gamma.size))
    for i, (g, r) in enumerate(zip(gamma.flat, R.flat, strict=True)):
        if method == "quadrature":
            P, I2, G = _quadrature.averages(model.student, model.teacher, model.S, g, 1.0 - r)
        else:
            P, I2, G = model.averages(g, 1.0 - r)
        out[:, i] = g * P, I2, G + r * P
    I1, I2, I3 = out.reshape(3, *gamma.shape)
    return Correlations(gamma, R, model.student, model.teacher, model.S, method, I1, I2, I3)
