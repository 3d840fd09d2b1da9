"""The correlations I1, I2, I3 of the online update."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from replica._core.arguments import ArgumentError, broadcast, choice, real_array
from replica._core.normalizer import Normalizer
from replica._core.results import Result
from replica._core.status import Status, warn_not_converged
from replica.students import LeakyReLU, Student, StudentLike

from . import _batch_averages, _quadrature
from ._averages import Averages
from ._model import LARGEST, make_model

__all__ = ["Correlations", "correlations"]

Method = Literal["auto", "closed", "quadrature"]


@dataclass(frozen=True, eq=False, repr=False)
class Correlations(Result):
    """Averages of the online update with the fields (eq. 6), arrays of one shape.

    Attributes
    ----------
    I1, I2, I3 : ndarray
        E[delta u], E[delta^2] and E[delta z]; with real batches what stands in their places.
    status : ndarray of int8
        CONVERGED, or NON_FINITE where a student is too steep for the quadrature over its batch.
    gamma, R : ndarray
        Where, broadcast.
    student, teacher, normalizer, S, batch_size, method
        The other arguments of `correlations`.
    """

    _problem = ("student", "teacher", "normalizer", "S", "batch_size", "gamma", "R")
    _shown_first = "I2"

    gamma: NDArray[np.float64]
    R: NDArray[np.float64]
    student: LeakyReLU | Student
    teacher: LeakyReLU | Student
    normalizer: Normalizer
    S: float
    batch_size: int
    method: Method
    I1: NDArray[np.float64]
    I2: NDArray[np.float64]
    I3: NDArray[np.float64]
    status: NDArray[np.int8]


def correlations(
    gamma: ArrayLike,
    R: ArrayLike,
    *,
    student: StudentLike,
    teacher: StudentLike | None = None,
    normalizer: Normalizer = "none",
    S: float = 0.0,
    batch_size: int = 1,
    method: Method = "auto",
) -> Correlations:
    """Return the correlations between the update and the fields, eqs. (13)-(15).

    delta = g'(u) (g*(z) + s - g(u)) with Var u = gamma^2, Var z = 1, E[u z] = gamma R, Var s = S.

    Parameters
    ----------
    gamma, R : array_like
        Order parameters, 0 < gamma <= 1e50 and |R| <= 1; broadcast.
    student, teacher : str, LeakyReLU or Student
        The teacher's activation is that of the student by default.
    normalizer, batch_size : optional
        As in `integrate`: "none", "wn" and "pn" have the same correlations; for real batches I1, I2
        and I3 are what makes eq. (6) hold, per sample.
    S : float, optional
        Variance of the label noise.
    method : {"auto", "closed", "quadrature"}, optional
        "auto" takes the closed form where there is one: the leaky family (with batches by a
        series), and erf with erf without batches.

    Returns
    -------
    Correlations

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or is out of range, or a closed form is asked for that
        does not exist.

    Warns
    -----
    ConvergenceWarning
        Where a student is too steep for the quadrature over its batch; I2 is NaN there.

    Notes
    -----
    Theory: :eq:`eq-correlations` and :eq:`eq-batch-averages` in :doc:`/dynamics`.

    For ReLU the printed eq. (15) has pi R where the first term of I2 needs pi: at R = 0 it is 1/4,
    not 0.

    Examples
    --------
    >>> at_start = correlations(1.0, 0.0, student="linear", S=0.25)
    >>> float(at_start.I1), float(at_start.I2), float(at_start.I3)
    (-1.0, 2.25, 1.0)
    """
    model = make_model(
        student=student, teacher=teacher, normalizer=normalizer, S=S, batch_size=batch_size
    )
    choice("method", method, get_args(Method))
    if method == "closed" and model.pair is None:
        raise ArgumentError(f"no closed form for {model.described}")
    gamma, R = broadcast(
        gamma=real_array("gamma", gamma, low=0.0, high=LARGEST, low_open=True),
        R=real_array("R", R, low=-1.0, high=1.0),
    )

    def averages(gamma: float, D: float) -> Averages:
        if method != "quadrature":
            return model.averages(gamma, D)
        at = model.student, model.teacher, model.S, gamma, D
        if model.has_batches:
            return _batch_averages.by_quadrature(model.normalizer, model.batch_size, *at)
        return _quadrature.averages(*at)

    out = np.empty((3, gamma.size))
    for i, (g, r) in enumerate(zip(gamma.flat, R.flat, strict=True)):
        P, I2, G = averages(float(g), 1.0 - float(r))
        out[:, i] = g * P, I2, G + r * P
    I1, I2, I3 = out.reshape(3, *gamma.shape)
    finite = np.isfinite(I1) & np.isfinite(I2) & np.isfinite(I3)
    status = np.where(finite, Status.CONVERGED, Status.NON_FINITE).astype(np.int8)
    warn_not_converged(status)
    return Correlations(
        gamma, R, model.student, model.teacher, model.normalizer, model.S, model.batch_size, method,
        I1, I2, I3, status,
    )  # fmt: skip
