"""Fixed points, their stability, maximum and effective learning rates, and late-time laws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Required, TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq, root

from replica._core.arguments import ArgumentError, broadcast, real_array, real_scalar
from replica._core.normalizer import Normalizer
from replica._core.results import Result
from replica._core.status import Status, warn
from replica.students import LeakyReLU, Student, StudentLike

from ._model import L_RANGE, LARGEST, Model, make_model

__all__ = ["AsymptoticLaw", "FixedPoint", "effective_learning_rate", "eigenvalues", "fixed_point"]
__all__ += ["jacobian", "max_learning_rate"]

# Averages are exact to a few 1e-16; a residual noise below this is zero.
_ZERO_NOISE = 1e-14
# The fixed point moves by about eta: steps of a twentieth are well within reach of Newton's method.
_N_CONTINUATION = 20
# What rounding, and a quadrature, leave of the balance.
_BALANCED = 1e-11


@dataclass(frozen=True)
class AsymptoticLaw:
    """How a normalized method behaves at late times when the noise never stops.

    With I2 the mean squared update that is left at (gamma, R) = (gamma0, 1):
    ``L ~ length * t**(1/4)``, ``eta gamma / L^2 ~ effective_learning_rate * t**(-1/2)`` and
    ``1 - R ~ one_minus_R * t**(-1/2)``. Relative corrections are O(t**(-1/2)), and O(t**(-1/4)) for
    the last of a student with a kink, since its averages are smooth in arccos(R) only.

    Attributes
    ----------
    I2, length, effective_learning_rate, one_minus_R : float
        The residual noise and the three prefactors.
    """

    I2: float
    length: float
    effective_learning_rate: float
    one_minus_R: float


@dataclass(frozen=True, eq=False, repr=False)
class FixedPoint(Result):
    """A fixed point of the order-parameter flow.

    Attributes
    ----------
    gamma, R, L : float
        Its place; with a normalizer L is free and is what was asked for.
    eigenvalue_gamma, eigenvalue_R : float
        Proposition 2: the two rates at this place without the terms in I2 itself (without a
        normalizer: the rates of L and R). Both negative means stable.
    exact : bool
        Whether the flow at this learning rate really stops here. False: only the limit
        eta -> 0 does, L grows without bound and `law` holds instead.
    law : AsymptoticLaw or None
        The late-time behavior where `exact` is False.
    status : Status
        CONVERGED, or MAX_ITERATIONS where no fixed point continues the one of small eta.
    student, teacher, normalizer, S, zeta, batch_size, learning_rate, L0
        The arguments of `fixed_point`.
    """

    _problem = (
        "student", "teacher", "normalizer", "S", "zeta", "batch_size", "learning_rate", "L0",
    )  # fmt: skip

    student: LeakyReLU | Student
    teacher: LeakyReLU | Student
    normalizer: Normalizer
    S: float
    zeta: float
    batch_size: int
    learning_rate: float
    L0: float
    gamma: float
    R: float
    L: float
    eigenvalue_gamma: float
    eigenvalue_R: float
    exact: bool
    law: AsymptoticLaw | None
    status: Status


def fixed_point(
    *,
    student: StudentLike,
    teacher: StudentLike | None = None,
    normalizer: Normalizer = "none",
    S: float = 0.0,
    zeta: float = 0.0,
    batch_size: int = 1,
    learning_rate: float = 0.0,
    L0: float = 1.0,
) -> FixedPoint:
    """Return the fixed point that learning approaches (Table 1, Proposition 1).

    Parameters
    ----------
    student, teacher, normalizer, S, zeta, batch_size
        As in `integrate`.
    learning_rate : float, optional
        eta. 0 gives the paper's fixed point, the limit of small eta. Without a normalizer and for
        eta > 0 the fixed point of the flow itself is returned, which has R < 1 when noise persists.
    L0 : float, optional
        With a normalizer: the weight length at which to state the rates.

    Returns
    -------
    FixedPoint

    Raises
    ------
    ValueError
        If an argument is out of range, or no gamma > 0 balances the flow.

    Warns
    -----
    ConvergenceWarning
        Without a normalizer, where no fixed point continues the one of small eta: the values are
        NaN.

    Notes
    -----
    Theory: :eq:`eq-fixed-point` and :eq:`eq-late-times` in :doc:`/dynamics`.

    gamma0 is (1 + a b) / (1 + a^2 + 2 zeta) for slopes a (student) and b (teacher): 1/(1 + 2 zeta)
    for ReLU, 1/(1 + zeta) for linear. The late-time laws follow from
    d(L^4)/dt = 2 eta^2 gamma^2 I2 and the balance of drift and noise in R.

    Examples
    --------
    >>> point = fixed_point(student="relu", normalizer="pn", learning_rate=0.5, zeta=0.25)
    >>> round(point.gamma, 12), point.R, point.exact
    (0.666666666667, 1.0, False)
    >>> fixed_point(student="linear", learning_rate=0.5, S=0.3).L ** 2
    1.1...
    """
    model = make_model(
        student=student,
        teacher=teacher,
        normalizer=normalizer,
        S=S,
        zeta=zeta,
        batch_size=batch_size,
        learning_rate=learning_rate,
    )
    L = real_scalar("L0", L0, **L_RANGE)
    gamma = _balanced_gamma(model)
    if model.plain:
        return _plain_fixed_point(model, gamma, L)
    eta = model.learning_rate
    at = model.derivatives(gamma, 0.0)
    eigenvalue_R = _overlap_rate(eta * gamma / L**2, at.G_D, at.I2_D)
    exact = eta == 0.0 or at.I2 < _ZERO_NOISE
    law = None
    if not exact:
        rate = (2 * at.I2) ** -0.5
        law = AsymptoticLaw(
            I2=at.I2,
            length=(2 * (eta * gamma) ** 2 * at.I2) ** 0.25,
            effective_learning_rate=rate,
            one_minus_R=rate * at.I2 / (2 * at.G_D),
        )
    eigenvalue_gamma = eta * (at.P_gamma - model.zeta)
    return _result(model, L, gamma, 1.0, L, eigenvalue_gamma, eigenvalue_R, exact, law)


class _Problem(TypedDict, total=False):
    """The keyword arguments of `jacobian`."""

    student: Required[StudentLike]
    teacher: StudentLike | None
    normalizer: Normalizer
    S: float
    zeta: float
    batch_size: int
    learning_rate: Required[float]


def _result(
    model: Model,
    L0: float,
    gamma: float,
    R: float,
    L: float,
    eigenvalue_gamma: float,
    eigenvalue_R: float,
    exact: bool,
    law: AsymptoticLaw | None,
    status: Status = Status.CONVERGED,
) -> FixedPoint:
    return FixedPoint(
        model.student,
        model.teacher,
        model.normalizer,
        model.S,
        model.zeta,
        model.batch_size,
        model.learning_rate,
        L0,
        gamma,
        R,
        L,
        eigenvalue_gamma,
        eigenvalue_R,
        exact,
        law,
        status=status,
    )


def _overlap_rate(effective: float, G_D: float, I2_D: float) -> float:
    """Return lambda_R of Proposition 2, (1/2) eta_eff dI2/dR (eta_max - eta_eff)."""
    return -effective * G_D + effective**2 * I2_D / 2


def _balanced_gamma(model: Model) -> float:
    """Return gamma with E[delta uhat] = zeta gamma at R = 1."""

    def balance(gamma: float) -> float:
        return model.averages(gamma, 0.0)[0] - model.zeta * gamma

    unit = 1.0 / (1.0 + model.zeta)  # gamma is about 1 / zeta at strong decay
    low, high = 1e-6 * unit, unit  # a millionth of it: no pair's fixed point is so near 0
    if not balance(low) > 0:
        raise ArgumentError(
            f"no gamma > 0 balances the flow at R = 1 for student {model.student.name} and teacher "
            f"{model.teacher.name}"
        )
    while balance(high) > 0:
        low, high = high, 2 * high
        if high > 1e6:  # where |W| has diverged
            raise ArgumentError("the output scale gamma has no finite fixed point for this pair")
    # xtol as good as 0: the relative tolerance, 4 units in the last place, decides.
    return float(brentq(balance, low, high, xtol=1e-300))  # type: ignore[arg-type]


def _plain_fixed_point(model: Model, gamma: float, L0: float) -> FixedPoint:
    """Follow the fixed point of small eta up to the model's eta by Newton steps."""
    eta, zeta = model.learning_rate, model.zeta
    state = np.array([gamma, 0.0])
    if model.averages(gamma, 0.0).I2 > _ZERO_NOISE:
        for step in np.linspace(0.0, 1.0, _N_CONTINUATION + 1)[1:] * eta:

            def balance(y: NDArray[np.float64], eta: float = step) -> list[float]:
                at = model.averages(y[0], y[1])
                noise = eta * at.I2 / (2 * y[0] ** 2)
                drift = at.P - zeta * y[0]
                return [drift + noise * y[0], noise * (1 - y[1]) - at.G / y[0]]

            found = root(balance, state, tol=1e-14)  # as good as it gets; _BALANCED judges
            state = found.x
            if np.abs(found.fun).max() > _BALANCED or not 0 <= state[1] <= 2 or state[0] <= 0:
                warn(f"none: the fixed point of small eta does not reach learning_rate = {eta:g}")
                nan = float("nan")
                stuck = Status.MAX_ITERATIONS
                return _result(model, L0, nan, nan, nan, nan, nan, False, None, stuck)
    L, D = float(state[0]), float(state[1])
    at = model.derivatives(L, D)
    rate_L = eta * (at.P_gamma - zeta) + eta**2 * at.I2_gamma / (2 * L)
    rate_R = _overlap_rate(eta / L, at.G_D, at.I2_D)
    return _result(model, L0, L, 1.0 - D, L, rate_L, rate_R, True, None)


def jacobian(
    gamma: float,
    R: float,
    L: float,
    *,
    student: StudentLike,
    teacher: StudentLike | None = None,
    normalizer: Normalizer = "none",
    S: float = 0.0,
    zeta: float = 0.0,
    batch_size: int = 1,
    learning_rate: float,
) -> NDArray[np.float64]:
    """Return the Jacobian of the flow at any point, nothing neglected.

    Parameters
    ----------
    gamma, R, L : float
        Where; without a normalizer gamma must equal L. At R = 1 the derivative is the one from
        below.
    student, teacher, normalizer, S, zeta, batch_size, learning_rate
        As in `integrate`.

    Returns
    -------
    ndarray
        Shape (3, 3) in the order (gamma, R, L), or (2, 2) in the order (R, L) without a
        normalizer. Analytic for the leaky family and erf; differentiated numerically (about 1e-8)
        otherwise.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or is out of range.

    Notes
    -----
    Theory: :eq:`eq-jacobian` in :doc:`/dynamics`.

    Examples
    --------
    >>> jacobian(1.0, 1.0, 1.0, student="linear", normalizer="wn", learning_rate=0.5).round(3)
    array([[-0.5 ,  0.5 ,  0.  ],
           [ 0.  , -0.75,  0.  ],
           [ 0.  , -0.25,  0.  ]])
    """
    model = make_model(
        student=student,
        teacher=teacher,
        normalizer=normalizer,
        S=S,
        zeta=zeta,
        batch_size=batch_size,
        learning_rate=learning_rate,
    )
    gamma = real_scalar("gamma", gamma, low=0.0, high=LARGEST, low_open=True)
    D = 1.0 - real_scalar("R", R, low=-1.0, high=1.0)
    L = real_scalar("L", L, **L_RANGE)
    if model.plain and gamma != L:
        raise ArgumentError(f"gamma is L for normalizer 'none', got {gamma:g} and {L:g}")
    matrix = model.rates_jacobian(gamma, D, L**4)
    if not model.plain:
        # From (gamma, 1 - R, L^4) to (gamma, R, L); the map to L is curved, hence the last line.
        growth = model.rates(gamma, D, L**4)[2]
        scale = np.array([1.0, -1.0, 1 / (4 * L**3)])
        with np.errstate(over="ignore", invalid="ignore"):
            matrix = matrix * scale[:, None] / scale
            matrix[2, 2] -= 3 * growth / (4 * L**4)
    if not np.isfinite(matrix).all():
        raise ArgumentError(
            f"learning_rate, gamma and 1/L must be smaller: the rates at learning_rate = "
            f"{model.learning_rate:g}, gamma = {gamma:g}, L = {L:g} overflow"
        )
    if model.plain:
        return np.array([[matrix[1, 1], -matrix[1, 0]], [-matrix[0, 1], matrix[0, 0]]])
    return matrix + 0.0  # no -0.0


def eigenvalues(
    gamma: float, R: float, L: float, **problem: Unpack[_Problem]
) -> NDArray[np.complex128]:
    """Return the eigenvalues of `jacobian`, largest real part first.

    Parameters
    ----------
    gamma, R, L, **problem
        As in `jacobian`.

    Returns
    -------
    ndarray of complex
        Shape (3,), or (2,) without a normalizer.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or is out of range.

    Notes
    -----
    Theory: :eq:`eq-jacobian` in :doc:`/dynamics`.

    Examples
    --------
    >>> eigenvalues(1.0, 1.0, 1.0, student="relu", learning_rate=2.5).real.round(4)
    array([ 0.625, -1.25 ])
    """
    values = np.linalg.eigvals(jacobian(gamma, R, L, **problem)).astype(np.complex128)
    return values[np.argsort(-values.real, kind="stable")]


def max_learning_rate(
    *,
    student: StudentLike,
    teacher: StudentLike | None = None,
    normalizer: Normalizer = "none",
    S: float = 0.0,
    zeta: float = 0.0,
    batch_size: int = 1,
    neglect_I2: bool = True,
) -> float:
    """Return the effective learning rate above which R = 1 is unstable (Table 1).

    Compare it with `effective_learning_rate` at the fixed point, eta gamma0 / L0^2, which without a
    normalizer is eta / gamma0.

    Parameters
    ----------
    student, teacher, normalizer, S, zeta, batch_size
        As in `integrate`.
    neglect_I2 : bool, optional
        Proposition 2 keeps the derivative of I2 but drops I2 itself, which is of the same order in
        eta. False keeps it: then this is the exact sign change of dR'/dR at (gamma0, 1, L0). The
        two agree where I2 = 0 there (zeta = 0, S = 0, the teacher's activation, no batches). `S`
        matters only here.

    Returns
    -------
    float
        eta_max; inf where no learning rate destabilizes R = 1.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or is out of range.

    Notes
    -----
    Theory: :eq:`eq-max-rate` and :eq:`eq-batch-linear` in :doc:`/dynamics`.

    With slope a on both sides 2 (1 + a^2) / (1 + a^4) / gamma0, gamma0 from `fixed_point`: ReLU
    2 + 4 zeta, linear 2 + 2 zeta, and 2 for both without decay. In the mean over a batch in place
    of the sum, these are M times as large.

    Examples
    --------
    >>> round(max_learning_rate(student="relu", normalizer="pn", zeta=0.25), 12)
    3.0
    >>> max_learning_rate(student="linear")
    2.0
    """
    model = make_model(
        student=student,
        teacher=teacher,
        normalizer=normalizer,
        S=S,
        zeta=zeta,
        batch_size=batch_size,
    )
    at = model.derivatives(_balanced_gamma(model), 0.0)
    gain = at.I2_D if neglect_I2 else at.I2_D - at.I2
    return float(2 * at.G_D / gain) if gain > 0 else float("inf")


def effective_learning_rate(
    gamma: ArrayLike, L: ArrayLike, *, learning_rate: ArrayLike
) -> NDArray[np.float64] | float:
    """Return the learning rate that acts on the direction of the weights (Table 1).

    Parameters
    ----------
    gamma, L : array_like
        Order parameters, L > 0; broadcast. Without a normalizer both are the same number, and the
        result is eta / L.
    learning_rate : array_like
        eta >= 0.

    Returns
    -------
    float or ndarray
        eta gamma / L^2.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or is out of range.

    Notes
    -----
    Theory: :eq:`eq-effective-rate` in :doc:`/dynamics`.

    Examples
    --------
    >>> effective_learning_rate(0.8, 2.0, learning_rate=0.5)
    0.1
    """
    gamma, L, eta = broadcast(
        gamma=real_array("gamma", gamma, low=-LARGEST, high=LARGEST),
        L=real_array("L", L, **L_RANGE),
        learning_rate=real_array("learning_rate", learning_rate, low=0.0, high=LARGEST),
    )
    value = eta * gamma / L**2
    return float(value) if np.ndim(value) == 0 else value
