"""Convex losses, and labels that are signs: which solver serves which problem.

Linear student. Residuals under normal noise of a linear teacher go to `_residual_loss`, signs to
`_label_loss`, any other labels to `_teacher_loss`; the square loss on signs is ridge regression.
"""

from __future__ import annotations

import math
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from replica._core.arguments import LARGEST, ArgumentError, problem, real_array
from replica._core.jit import for_each_chunk
from replica._core.status import Status, warn_not_converged
from replica.inputs import Inputs, Isotropic
from replica.labels import Flip, NoiseLike, NoiseWord, as_noise, check_labels, labels_are_signs
from replica.losses import EXPONENTIAL, LOGISTIC, SQUARE, Loss
from replica.students import LINEAR, SIGN, LeakyReLU, Student, StudentLike, as_student, stretched

from ._equilibrium import Equilibrium
from ._label_loss import LOGISTIC_LAW, NORMAL, Law, Sides, separability_load, solve_label_loss
from ._pull import curve_of, nearest
from ._residual_loss import FoundColumns, solve_residual_loss, write_found
from ._structured_loss import LABELS, RESIDUALS, solve_structured_loss
from ._teacher_loss import labels_of, teacher_point
from ._weights import Ridge, mode_arrays

__all__ = [
    "best_decay",
    "best_ridge_decay",
    "separability_threshold",
    "serves",
    "solve_convex_loss",
]

# Ranges of the table of a loss of one's own, tried in turn until all fields are inside. The second
# is for functions that are no numbers on the first; all functions must be on it. Margins may grow
# where the loss is small, so that the right side grows first.
_REACHES = (
    (-160.0, 160.0),
    (-40.0, 40.0),
    (-160.0, 640.0),
    (-640.0, 640.0),
    (-160.0, 1e4),
    (-1e4, 1e4),
    (-1e5, 1e5),
)
_LEAST_REACH = _REACHES[1]
_ISOTROPIC = Isotropic()
# A slope so small beside the largest is rounding of zero.
_FLAT = 1e-11
# Where a tail is looked at, and the ratio of its log slopes x l''/|l'|: 2 for an exponential,
# hardly above 1 for a power.
_TAIL, _EXPONENTIAL_TAIL = (32.0, 64.0), 1.5


class _Least(NamedTuple):
    """The set [low, high] on which a loss takes its least value; not `reached` at infinity."""

    low: float
    high: float
    value: float
    reached: bool


def serves(
    loss: Loss, student: LeakyReLU | Student, teacher: LeakyReLU | Student, noise: Any, S: Any
) -> bool:
    """Whether a problem is one of this module: any of the linear student that is not ridge."""
    if loss != SQUARE or noise == "logistic" or isinstance(noise, Flip):
        if student != LINEAR:
            what = f"loss {loss.name!r}" if loss != SQUARE else f"noise {_name(noise)!r}"
            raise ArgumentError(f"{what} serves student 'linear' only, got {student.name!r}")
        return True
    return student == LINEAR and labels_are_signs(teacher, noise, S)


def _name(noise: NoiseWord | Flip) -> str:
    return noise if isinstance(noise, str) else noise.name


def solve_convex_loss(
    alpha: ArrayLike,
    S: ArrayLike,
    zeta: ArrayLike,
    *,
    loss: Loss,
    teacher: LeakyReLU | Student,
    noise: NoiseWord | Flip,
    inputs: Inputs = _ISOTROPIC,
) -> Equilibrium:
    """Equilibrium of the linear student; see `solve_equilibrium`."""
    loads, noises, decays = problem(alpha, S, zeta)
    columns, lengths = found_columns(
        loads, noises, decays, loss=loss, teacher=teacher, noise=noise, inputs=inputs
    )
    warn_not_converged(columns.status)
    gamma, q, train = columns.gamma, columns.q, columns.train_loss
    with np.errstate(invalid="ignore"):
        weight = np.where(decays == 0.0, 0.0, 0.5 * decays * lengths)
    energy = np.asarray(loads * train + weight)
    return Equilibrium(
        student=LINEAR,
        teacher=teacher,
        noise=noise,
        inputs=inputs,
        theory="replica",
        loss=loss,
        alpha=loads,
        S=noises,
        zeta=decays,
        beta=np.full_like(loads, np.inf),
        gamma=gamma,
        R=columns.R,
        q=q,
        chi=columns.chi,
        gen_error=columns.gen_error,
        gibbs_gen_error=columns.gen_error,
        posterior_mean_gen_error=columns.gen_error,
        train_error=columns.train_error,
        test_loss=columns.test_loss,
        train_loss=train,
        error_rate=columns.error_rate,
        train_error_rate=columns.train_error_rate,
        margin=columns.margin,
        energy=energy,
        free_energy=energy,
        entropy=np.where(np.isnan(gamma), np.nan, -np.inf),
        dead_fraction=np.full_like(loads, np.nan),
        interpolating=columns.interpolating,
        replicon=columns.replicon,
        rs_stable=np.asarray(columns.status <= Status.DONE),
        residual=columns.residual,
        quadrature_error=np.zeros_like(loads),
        n_iter=columns.n_iter,
        status=columns.status,
    )


def found_columns(
    alpha: NDArray[np.float64],
    S: NDArray[np.float64],
    zeta: NDArray[np.float64],
    *,
    loss: Loss,
    teacher: LeakyReLU | Student,
    noise: NoiseWord | Flip,
    inputs: Inputs = _ISOTROPIC,
) -> tuple[FoundColumns, NDArray[np.float64]]:
    """Solve checked arrays of one shape; also return |w|^2/N, which on isotropic inputs is q."""
    check_labels(loss, teacher, noise, S)
    lengths = np.full(alpha.size, np.nan)
    flat = alpha.reshape(-1), S.reshape(-1), zeta.reshape(-1)
    columns = FoundColumns.of_size(alpha.size)
    if loss.strips is not None or loss in (LOGISTIC, EXPONENTIAL):
        _solve(
            flat[0], flat[1], flat[2], loss, teacher, noise, inputs, _REACHES[0], columns, lengths
        )
    else:
        _widen(flat, loss, teacher, noise, inputs, columns, lengths)
    if teacher == SIGN and not labels_are_signs(teacher, noise, S):
        columns.error_rate[:] = np.arccos(np.clip(columns.R, -1.0, 1.0)) / np.pi
    if isinstance(inputs, Isotropic):
        lengths = columns.q
    return columns.reshape(alpha.shape), lengths.reshape(alpha.shape)


def _widen(
    flat: tuple[NDArray[np.float64], ...],
    loss: Loss,
    teacher: LeakyReLU | Student,
    noise: NoiseWord | Flip,
    inputs: Inputs,
    columns: FoundColumns,
    lengths: NDArray[np.float64],
) -> None:
    """Solve with tables as wide as the fields need."""
    columns.status[:] = int(Status.NON_FINITE)
    for reach in _REACHES:
        again = (columns.status == Status.NON_FINITE) | (columns.status == Status.MAX_ITERATIONS)
        again |= (columns.status == Status.CONVERGED) & np.isnan(columns.test_loss)
        if not again.any():
            return
        part = FoundColumns.of_size(int(again.sum()))
        length = np.full(int(again.sum()), np.nan)
        try:
            alpha, S, zeta = (array[again] for array in flat)
            _solve(alpha, S, zeta, loss, teacher, noise, inputs, reach, part, length)
        except (ArithmeticError, ArgumentError):
            if reach == _LEAST_REACH:
                raise
            continue  # the loss itself ends before this table does
        for column, values in zip(columns, part, strict=True):
            column[again] = values
        lengths[again] = length


def _solve(
    alpha: NDArray[np.float64],
    S: NDArray[np.float64],
    zeta: NDArray[np.float64],
    loss: Loss,
    teacher: LeakyReLU | Student,
    noise: NoiseWord | Flip,
    inputs: Inputs,
    reach: tuple[float, float],
    columns: FoundColumns,
    lengths: NDArray[np.float64],
) -> None:
    least = _least(loss)
    if not isinstance(inputs, Isotropic):
        _solve_structured(
            alpha, S, zeta, loss, least, teacher, noise, inputs, reach, columns, lengths
        )
        return
    if labels_are_signs(teacher, noise, S):
        kind = LOGISTIC_LAW if noise == "logistic" else NORMAL
        flip = noise.probability if isinstance(noise, Flip) else 0.0
        sides, limit = _sides(loss, least, reach)
        margin, square = loss.of == "margin", loss == SQUARE
        kernel = partial(
            solve_label_loss, alpha, S, zeta, sides, limit, least.reached, least.value, kind, flip,
            margin, square, columns,
        )  # fmt: skip
        for_each_chunk(kernel, alpha.size, min_chunk=64)
        return
    curve = curve_of(loss, reach=reach)
    limit = nearest(least.low, least.high) if least.reached else nearest(-np.inf, np.inf)
    if teacher == LINEAR and (noise != "logistic" or loss == SQUARE or not S.any()):
        kernel = partial(solve_residual_loss, alpha, S, zeta, curve, limit, least.value, columns)
        for_each_chunk(kernel, alpha.size, min_chunk=1024)
        return
    if noise == "logistic" and teacher != LINEAR:
        raise ArgumentError(
            f"noise 'logistic' serves teachers 'linear' and 'sign' here, got {teacher.name!r}"
        )
    assert not isinstance(noise, Flip)
    silent = S == 0.0
    if noise == "logistic" and silent.any():
        laws: tuple[NoiseWord, NoiseWord] = ("output", "logistic")
        for some, law in zip((silent, ~silent), laws, strict=True):
            part = FoundColumns.of_size(int(some.sum()))
            _solve(
                alpha[some], S[some], zeta[some], loss, teacher, law, inputs, reach, part, lengths
            )
            for column, values in zip(columns, part, strict=True):
                column[some] = values
        return
    smooth = curve.breaks.size == 0

    def solve(start: int, stop: int) -> None:
        for i in range(start, stop):
            labels = labels_of(teacher, noise, float(S[i]), smooth)
            point = teacher_point(
                float(alpha[i]), float(zeta[i]), curve, limit, least.value, labels
            )
            write_found(columns, i, point)

    for_each_chunk(solve, alpha.size, min_chunk=2)


def _solve_structured(
    alpha: NDArray[np.float64],
    S: NDArray[np.float64],
    zeta: NDArray[np.float64],
    loss: Loss,
    least: _Least,
    teacher: LeakyReLU | Student,
    noise: NoiseWord | Flip,
    inputs: Inputs,
    reach: tuple[float, float],
    columns: FoundColumns,
    lengths: NDArray[np.float64],
) -> None:
    """The same on inputs of any modes."""
    modes = mode_arrays(inputs)
    unit = modes._replace(
        powers=modes.powers / modes.rho,
        explained=modes.explained / modes.rho,
        unexplained=modes.unexplained / modes.rho,
        rho=1.0,
    )
    if labels_are_signs(teacher, noise, S):
        kind = LOGISTIC_LAW if noise == "logistic" else NORMAL
        flip = noise.probability if isinstance(noise, Flip) else 0.0
        sides, limit = _sides(loss, least, reach)
        kernel = partial(
            solve_structured_loss, LABELS, unit, alpha, S / modes.rho, zeta, sides, limit,
            least.reached, least.value, kind, flip, loss.of == "margin", columns, lengths,
        )  # fmt: skip
        for_each_chunk(kernel, alpha.size, min_chunk=16)
        return
    curve = curve_of(loss, reach=reach)
    limit = nearest(least.low, least.high) if least.reached else nearest(-np.inf, np.inf)
    if teacher == LINEAR and (noise != "logistic" or loss == SQUARE or not S.any()):
        bare = modes._replace(unexplained=0.0, rho=modes.explained)
        sides, limits = Sides(curve, curve, True), Sides(limit, limit, True)
        kernel = partial(
            solve_structured_loss, RESIDUALS, bare, alpha, S + modes.unexplained, zeta, sides,
            limits, least.reached and bool(np.isfinite(limit.breaks).all()), least.value, NORMAL,
            0.0, False, columns, lengths,
        )  # fmt: skip
        for_each_chunk(kernel, alpha.size, min_chunk=16)
        columns.gen_error[:] += modes.unexplained
        columns.R[:] *= math.sqrt(modes.explained / modes.rho)
        return
    if noise == "logistic":
        raise ArgumentError(
            "noise 'logistic' serves teacher 'sign' on inputs that are not isotropic, "
            f"got {teacher.name!r}"
        )
    assert not isinstance(noise, Flip)
    smooth = curve.breaks.size == 0
    unit_teacher = stretched(teacher, math.sqrt(modes.rho))
    noises = S if noise == "output" else S / modes.rho

    def solve(start: int, stop: int) -> None:
        for i in range(start, stop):
            labels = labels_of(unit_teacher, noise, float(noises[i]), smooth)
            weights = Ridge(unit, float(zeta[i]))
            point = teacher_point(
                float(alpha[i]), float(zeta[i]), curve, limit, least.value, labels, weights
            )
            write_found(columns, i, point)
            lengths[i] = weights.last_length

    for_each_chunk(solve, alpha.size, min_chunk=2)


def _sides(loss: Loss, least: _Least, reach: tuple[float, float]) -> tuple[Sides, Sides]:
    """The loss, and the set where it is least, as functions of x = y u at y = 1 and at y = -1."""
    low, high = least.low, least.high
    if not least.reached:
        # The direction is that of the maximal margin if the tail is exponential; else not known.
        low, high = (1.0, np.inf) if _has_exponential_tail(loss) else (1.0, 0.0)
    if loss.of == "margin":
        curve, limit = curve_of(loss, reach=reach), nearest(low, high)
        return Sides(curve, curve, True), Sides(limit, limit, True)
    plus, minus = curve_of(loss, 1.0, -1.0, reach), curve_of(loss, -1.0, 1.0, reach)
    same = _is_even(loss)
    if not least.reached:
        low, high = 1.0, 0.0
        return Sides(plus, minus, same), Sides(nearest(low, high), nearest(low, high), same)
    limits = nearest(1.0 - high, 1.0 - low), nearest(1.0 + low, 1.0 + high)
    return Sides(plus, minus, same), Sides(*limits, same)


@lru_cache(maxsize=64)
def _is_even(loss: Loss) -> bool:
    points = np.array([0.3, 1.0, 1.7, 5.0])
    return bool(np.array_equal(loss.values(points), loss.values(-points)))


@lru_cache(maxsize=64)
def _least(loss: Loss) -> _Least:
    """Where the loss is least."""
    if loss in (LOGISTIC, EXPONENTIAL):
        return _Least(np.inf, np.inf, 0.0, False)
    low, high = _LEAST_REACH
    if loss.strips is None:
        table = loss.table(low, high)
        points = np.unique(np.concatenate([table.breaks, np.linspace(low, high, 4001)]))
        edges = table.kinks
    else:
        edges = np.array(loss.strips.breaks)
        points = np.unique(
            np.concatenate(
                [edges, np.nextafter(edges, low), np.nextafter(edges, high), [low, high, -1.0, 1.0]]
            )
        )
    slopes = loss.slopes(points)
    tiny = _FLAT * float(np.abs(slopes).max())
    falling, rising = points[slopes < -tiny], points[slopes > tiny]
    left = _turn(loss, points, falling.max(), -tiny) if falling.size else -np.inf
    right = _turn(loss, points, np.nextafter(rising.min(), low), tiny) if rising.size else np.inf
    ends = [loss.values(end * np.array([0.5, 0.75, 1.0])) for end in (low, high)]
    if (rising.size == 0 and (np.diff(ends[1]) < 0.0).all()) or (
        falling.size == 0 and (np.diff(ends[0]) < 0.0).all()
    ):
        return _Least(left, right, 0.0, False)
    for kink in loss.kinks if loss.strips is None else loss.strips.breaks:
        left = kink if abs(left - kink) < 1e-9 * (1.0 + abs(kink)) else left
        right = kink if abs(right - kink) < 1e-9 * (1.0 + abs(kink)) else right
    if np.isfinite(right - left):
        inside = loss.values(left + (right - left) * np.array([0.2, 0.4, 0.6, 0.8]))
        level = float(loss.values(0.5 * (left + right)))
        if right - left < 1e-5 or (np.abs(inside - level) > 1e-15 * (1.0 + abs(level))).any():
            at = _turn(loss, np.array([left, right]), left, 0.0)  # a point, at which l is smooth
            left = right = 0.0 if abs(at) < 1e-12 else at
    at = left if np.isfinite(left) else right if np.isfinite(right) else 0.0
    return _Least(float(left), float(right), float(loss.values(at)), True)


def _turn(loss: Loss, points: NDArray[np.float64], from_: float, level: float) -> float:
    """Where the slope passes `level` beside a point, by bisection."""
    k = int(np.searchsorted(points, from_, side="right"))
    low = float(points[k - 1])
    high = float(points[min(k, points.size - 1)])
    for _ in range(200):
        middle = 0.5 * (low + high)
        if not low < middle < high:
            break
        if float(loss.slopes(middle)) < level:
            low = middle
        else:
            high = middle
    return high


@lru_cache(maxsize=64)
def _has_exponential_tail(loss: Loss) -> bool:
    if loss in (LOGISTIC, EXPONENTIAL):
        return True
    near, far = _TAIL
    slopes = np.abs(loss.slopes([near, far]))
    if slopes[1] < 1e-13 * np.abs(loss.slopes(0.0)):
        return True
    ratios = np.array([near, far]) * loss.curvatures([near, far]) / slopes
    return bool(ratios[1] > _EXPONENTIAL_TAIL * ratios[0])


# Decays of a first look, and beside the best of them Chebyshev nodes on intervals of log zeta of
# these half-widths: the derivative of the interpolation vanishes at the minimum.
_LOOK = np.logspace(-8.0, 6.0, 43)
_HALF_WIDTHS = (0.8, 0.2)
# Below, E[y z]^2 is rounding of an average that vanishes.
_NO_SIGNAL = 1e-24
_CHEBYSHEV = np.cos(np.pi * (np.arange(15) + 0.5) / 15)


def best_ridge_decay(S: float, teacher: LeakyReLU | Student) -> float:
    """Return the decay of least error of the linear student, square loss, noise added to y.

    To a linear student, labels are c z and noise of variance E[y^2] - c^2, c = E[y z].
    """
    labels = labels_of(teacher, "output", S, False)
    signal = labels.c1**2
    return (labels.c2 - signal) / signal if signal > _NO_SIGNAL * labels.c2 else math.inf


def best_decay(
    alpha: float,
    S: float,
    *,
    loss: Loss,
    teacher: LeakyReLU | Student,
    noise: NoiseWord | Flip,
    inputs: Inputs = _ISOTROPIC,
) -> float:
    """Return the decay of least `gen_error`; 0 or inf if there is none between; NaN if not found."""

    def error(zeta: NDArray[np.float64]) -> NDArray[np.float64]:
        loads, noises = np.full_like(zeta, alpha), np.full_like(zeta, S)
        found, _ = found_columns(
            loads, noises, zeta, loss=loss, teacher=teacher, noise=noise, inputs=inputs
        )
        return np.where(np.isnan(found.gen_error), np.inf, found.gen_error)

    decays = np.concatenate([[0.0], _LOOK])
    errors = error(decays)
    k = int(np.argmin(errors))
    if not np.isfinite(errors[k]):
        return math.nan
    if errors[0] <= errors[k] * (1.0 + 1e-13):
        return 0.0
    if errors[-1] <= errors[k] * (1.0 + 1e-13) and loss.of == "margin":
        return math.inf
    if k == decays.size - 1 or k <= 1:
        return float(decays[k])
    at = math.log(decays[k])
    for half in _HALF_WIDTHS:
        series = np.polynomial.Chebyshev.fit(
            _CHEBYSHEV, error(np.exp(at + half * _CHEBYSHEV)), _CHEBYSHEV.size - 1, domain=[-1, 1]
        )
        roots = series.deriv().roots()
        roots = roots[np.abs(roots.imag) < 1e-6].real
        roots = roots[np.abs(roots) <= 1.0]
        if not roots.size:
            return math.nan
        at += half * float(roots[np.argmin(series(roots))])
    return math.exp(at)


def separability_threshold(
    S: ArrayLike = 0.0, *, teacher: StudentLike = "sign", noise: NoiseLike = "input"
) -> float | NDArray[np.float64]:
    """Largest load at which labels that are signs can be separated by a linear student.

    Parameters
    ----------
    S : array_like
        Variance of the noise of the teacher's field, from 0 to 1e100.
    teacher : str or Student
        "sign": only its labels are signs.
    noise : {"input", "logistic"} or Flip
        The law of that noise; see `replica.labels.as_noise`. "output" at S = 0 only.

    Returns
    -------
    float or ndarray
        The threshold alpha_c, in the shape of `S`: inf for labels without noise, 2 for labels
        that say nothing about the teacher.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range, or the labels are not signs.

    See Also
    --------
    interpolation_threshold : The same for the square loss.

    Notes
    -----
    Below alpha_c a hinge or logistic loss without decay finds the maximal margin, above it finite
    weights. Candes and Sur (2020): 1/alpha_c = min_t E[max(0, t y z + Z)^2] with Z ~ N(0, 1)
    independent of the teacher's field z and the label y.

    Theory: :eq:`eq-separability` in :doc:`/classification`.

    Examples
    --------
    >>> separability_threshold(0.0)
    inf
    >>> round(separability_threshold(0.5), 6), round(separability_threshold(noise="flip:0.5"), 6)
    (3.247451, 2.0)
    """
    S_ = real_array("S", S, low=0.0, high=LARGEST)
    whom, how = as_student(teacher, name="teacher"), as_noise(noise)
    if not labels_are_signs(whom, how, S_):
        raise ArgumentError(
            f"separability_threshold needs labels that are signs: teacher 'sign' with noise "
            f"'input', 'logistic' or Flip(probability), or with S = 0; got teacher {whom.name!r} "
            f"with noise {_name(how)!r}"
        )
    kind = LOGISTIC_LAW if how == "logistic" else NORMAL
    flip = how.probability if isinstance(how, Flip) else 0.0
    found = [separability_load(Law(kind, value, flip)) for value in S_.ravel().tolist()]
    threshold = np.array(found).reshape(S_.shape)
    return float(threshold) if threshold.ndim == 0 else threshold
