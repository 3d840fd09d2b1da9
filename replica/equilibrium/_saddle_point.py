"""The saddle point of the general solvers: channel, weights and fixed point put together.

`_zero_temperature` and `_finite_temperature` give the channel's averages, `_weights` turns them
into overlaps; this module finds the fixed points, one problem after the other on a thread pool.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from replica._core.arguments import broadcast, choice, real_array
from replica._core.jit import for_each_chunk
from replica._core.status import Status, warn_not_converged
from replica.inputs import Inputs, Isotropic, as_inputs
from replica.students import LINEAR, LeakyReLU, Student, as_student

from ._equilibrium import Equilibrium, Noise, of_square_loss
from ._errors import mean_square_error
from ._fixed_point import FixedPoint, Step, fixed_point
from ._piecewise import UNIQUE_SLOPE, UNIQUE_ZETA, piecewise_point
from ._proximal import PreparedActivation, prepare
from ._ridge import ridge_point
from ._teacher_average import LEGENDRE, REACH, ROUGH, Rule, Teacher, prepare_teacher
from ._weights import IsotropicRidge, Ridge, coordinates, linear_start, overlaps_at, ridge_of

__all__ = ["WIDTHS", "Averages", "Point", "forgets_length", "prepared", "solve_all", "teacher_law"]

_TOLERANCE = 1e-10
# Where the coarsest rule hands over to the next.
_ROUGH = 1e-4
_HAND_OVER = 1e-7
# Two rules that agree so well: the finer one is more accurate by some orders of magnitude.
_ACCURATE = 1e-5
# E[f^2] so small beside the loss is rounding: chi^2 E[f^2] is a length squared on the scale of u.
_NO_PULL = 1e-16
# Above it a field of size 1/zeta is no more than rounding of the breaks of a table.
_LARGEST_DECAY = 1e15
# Solutions so near to each other are one: Newton's method, nearer than that, goes to the same.
_SAME = 0.01
# Half-widths of the tables of an activation, tried in turn until all fields are inside.
WIDTHS = (40.0, 160.0, 640.0, 2560.0, 10240.0)
# Without decay, chi may have no fixed point. It has none if every one of so many steps, some of
# them as long as ln(chi) + 1, would raise it by so much: by half an e-fold together.
_GROWTH_STEPS = 25
_GROWTH = 0.02
# So many of these steps are plain iterations; Newton's method takes the rest, and leaps.
_SLOW_STEPS = 18
# A search that has not halved its residual for so long is in a valley without a bottom.
_PATIENCE = 30
# Fields of all sizes that every table has.
_LENGTHS = np.array([1e-6, 1e-3, 0.1, 0.37, 0.83, 1.0, 1.7, 3.1, 10.0, 39.0])
# ln(gamma^2 - m^2) below which f is rounding if there is nothing but the teacher to be found.
_MET = math.log(1e-7)

# A channel: the averages over one sample at (chi, m, q) by a quadrature rule. The first five are
# F, g0, g1, the loss and the replicon integral; see `SampleAverages` and `GibbsAverages`.
Averages = Callable[[PreparedActivation, Teacher, float, float, float, Rule], Any]


@dataclass
class Point:
    """One problem and its averages; keeps the table as wide as the fields need."""

    alpha: float
    S: float
    zeta: float
    beta: float
    student: LeakyReLU | Student
    teacher: LeakyReLU | Student
    noise: str
    averages: Averages
    weights: IsotropicRidge | Ridge
    cold: dict[str, float] | None = None
    width: int = 0
    n_evaluations: int = 0
    last: tuple[Any, Any] = (None, None)
    diverges: bool = False

    def evaluate(self, chi: float, m: float, q: float, level: int) -> Any:
        """Return the averages at the order parameters, on the table that is wide enough."""
        if self.last[0] == (chi, m, q, level):
            return self.last[1]
        law = self.law()
        # Without decay the growth of chi is judged, which needs the whole law.
        rule = ROUGH if level == 0 and self.zeta > 0.0 else LEGENDRE[level]
        while True:
            self.n_evaluations += 1
            values = self.averages(self.table(), law, chi, m, q, rule)
            if np.isfinite(values[:4]).all() or self.width == len(WIDTHS) - 1:
                self.last = (chi, m, q, level), values
                return values
            self.width += 1

    def table(self) -> PreparedActivation:
        """Return the activation on the present range."""
        return prepared(self.student, WIDTHS[self.width])

    def law(self) -> Teacher:
        """Return the law of the teacher's field and output."""
        return teacher_law(self.teacher, self.S, self.noise, self.weights.rho)

    def step(self, x: NDArray[np.float64], level: int) -> Step:
        """One iteration of the equations for (ln chi, m, ln(gamma^2 - m^2/rho))."""
        here = overlaps_at(x, self.weights.rho)
        sample = self.evaluate(here.chi, here.m, here.q, level)
        pull = self.pull(sample)
        there = self.weights.overlaps(*pull)
        if there is None:
            return Step(np.full(x.size, np.nan))
        slopes = getattr(sample, "slopes", None)
        if slopes is None:
            return Step(coordinates(there))
        hats = self.alpha * np.stack([-slopes[1], slopes[2], slopes[0]])  # in chi, m, q
        inner = np.diag([here.chi, 1.0, here.rest])  # of chi, m, q in the coordinates
        inner[2, 1] = 2.0 * here.m / here.rho
        return Step(coordinates(there), self.weights.slopes(*pull) @ hats @ inner)

    def pull(self, sample: Any) -> tuple[float, float, float]:
        """Return (V_hat, m_hat, q_hat), how the samples pull."""
        alpha = self.alpha
        return -alpha * sample.g0, alpha * sample.g1, alpha * sample.F


prepared = lru_cache(maxsize=64)(prepare)


@lru_cache(maxsize=256)
def teacher_law(teacher: LeakyReLU | Student, S: float, noise: str, rho: float = 1.0) -> Teacher:
    return prepare_teacher(teacher, S, noise=noise, rho=rho)


def solve_all(
    make_averages: Callable[[float], Averages],
    alpha: ArrayLike,
    S: ArrayLike,
    zeta: ArrayLike,
    beta: ArrayLike,
    *,
    student: Any,
    teacher: Any,
    noise: Noise,
    inputs: Inputs | None = None,
    closed_form: bool = False,
) -> Equilibrium:
    """Check, broadcast and solve an array of problems; `make_averages` takes beta.

    With `closed_form`, a (leaky) ReLU or linear student of a linear teacher is not solved for at
    zero temperature, where its solution is known, and is started there at any other.
    """
    who, whom = as_student(student), as_student(teacher, name="teacher")
    choice("noise", noise, get_args(Noise))
    where = as_inputs(inputs)
    loads = real_array("alpha", alpha, low=0.0, low_open=True)
    noises = real_array("S", S, low=0.0)
    decays = real_array("zeta", zeta, low=0.0)
    inverse = real_array("beta", beta, low=0.0, low_open=True, finite=False)
    loads, noises, decays, inverse = broadcast(alpha=loads, S=noises, zeta=decays, beta=inverse)
    shape = loads.shape
    parameters = np.stack([a.ravel() for a in (loads, noises, decays, inverse)], axis=1)
    points = [
        Point(
            *row,
            student=who,
            teacher=whom,
            noise=noise,
            averages=make_averages(row[3]),
            weights=ridge_of(where, row[2]),
        )
        for row in parameters.tolist()
    ]
    closed_form = closed_form and isinstance(where, Isotropic)
    if closed_form and isinstance(who, LeakyReLU) and whom == LINEAR:
        for point in points:
            point.cold = _closed_form(point, who.slope)
    for point in points[:1]:  # a user function that raises does so here, in the calling thread
        point.table()
        point.law()
    rows: list[dict[str, Any] | None] = [_without_solution(point) for point in points]
    _on_threads(points, rows, lambda point: _solve_cold(point))
    _continue(points, rows, parameters)
    for i, point in enumerate(points):
        if rows[i] is None and point.diverges:
            rows[i] = _failed(Status.NEEDS_DECAY)
    rows = [row if row is None else _checked(row) for row in rows]
    columns = {}
    for name in _QUANTITIES:
        values = [(row or _FAILED)[name] for row in rows]
        columns[name] = np.array(values, dtype=_KIND.get(name, np.float64)).reshape(shape)
    warn_not_converged(columns["status"])
    return Equilibrium(
        student=who,
        teacher=whom,
        noise=noise,
        inputs=where,
        theory="replica",
        alpha=loads,
        S=noises,
        zeta=decays,
        beta=inverse,
        **columns,
        **of_square_loss(
            whom, noise, noises, columns["gen_error"], columns["train_error"], columns["R"]
        ),
    )


_FOLLOWING = ("test_loss", "train_loss", "error_rate", "train_error_rate", "margin")
_QUANTITIES = tuple(
    f.name for f in fields(Equilibrium) if f.name not in (*Equilibrium._problem, *_FOLLOWING)
)
_KIND = {"status": np.int8, "n_iter": np.int64, "rs_stable": np.bool_, "interpolating": np.bool_}
_FAILED: dict[str, Any] = dict.fromkeys(_QUANTITIES, math.nan)
_FAILED |= {"rs_stable": False, "interpolating": False, "n_iter": 0}
_FAILED |= {"status": int(Status.MAX_ITERATIONS)}
# At zero temperature, without a bound on the weights, and what is not known at all.
_MAY_BE_INFINITE = ("entropy", "replicon", "chi")
_MAY_BE_UNKNOWN = ("dead_fraction",)


def _failed(status: Status) -> dict[str, Any]:
    return _FAILED | {"status": int(status)}


def _checked(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row, or that of a failure if it is called converged and holds a NaN."""
    sound = all(
        math.isfinite(value) or (name in _MAY_BE_INFINITE and not math.isnan(value))
        for name, value in row.items()
        if name not in _MAY_BE_UNKNOWN
    )
    return row if sound or row["status"] != Status.CONVERGED else _failed(Status.NON_FINITE)


def _without_solution(point: Point) -> dict[str, Any] | None:
    """Return the row of a problem that nothing bounds, or that is beyond the quadrature.

    A field whose spread is rounding beside the table of the activation has no averages.

    The saddle point asks for alpha E[1 - var_u / V] = 1 - zeta chi, and the variance is positive
    (at zero temperature du/domega, which is not negative): fewer samples than weights leave
    directions without any force. Inputs of a lower rank have fewer weights.
    """
    known = point.cold is not None and math.isinf(point.beta)
    if point.zeta > _LARGEST_DECAY and not known:
        return _failed(Status.NON_FINITE)
    if point.zeta > 0.0 or point.alpha > point.weights.rank:
        return None
    return None if known else _failed(Status.NEEDS_DECAY)


def _on_threads(points: list[Point], rows: list[Any], solve: Callable[[Point], Any]) -> None:
    from tqdm import tqdm

    stop = threading.Event()
    # The bar is for people who wait: only on a terminal, only if it takes more than two seconds.
    with tqdm(total=len(points), disable=None, delay=2.0, desc="saddle points") as bar:

        def kernel(first: int, last: int) -> None:
            for i in range(first, last):
                if stop.is_set():
                    return
                if rows[i] is None:
                    rows[i] = solve(points[i])
                bar.update(1)

        try:
            for_each_chunk(kernel, len(points), min_chunk=1)
        except BaseException:
            stop.set()
            raise


def _solve_cold(point: Point) -> dict[str, float] | None:
    """Solve from scratch; of several saddle points found, the one with the lowest energy."""
    if math.isinf(point.beta) and forgets_length(point.student):
        return None  # with decay the weights shrink for ever, without it nothing says how long
    starts = [_linear_start(point)]
    if point.cold is not None:
        if math.isinf(point.beta):
            return point.cold
        slope = point.student.slope if isinstance(point.student, LeakyReLU) else 1.0
        start = _start_from(point.cold, point.weights.rho)
        if np.isfinite(start).all():
            coexistence = 0.0 < slope < UNIQUE_SLOPE and point.zeta < UNIQUE_ZETA
            starts = [start, *starts] if coexistence else [start]
    elif isinstance(point.student, Student):
        starts.append(np.array([starts[0][0] - 1.0, 0.1 * starts[0][1], starts[0][2]]))
    rough: list[FixedPoint] = []

    def known(x: NDArray[np.float64]) -> bool:
        return any(np.abs(other.x - x).max() <= _SAME for other in rough)

    plain = 2 if point.cold is None else 0
    if point.zeta == 0.0 and point.cold is None:
        plain = _SLOW_STEPS  # Newton's method leaps over what the growth of chi would tell
    for start in starts:
        found = fixed_point(
            _watched(point, 0), start, _ROUGH, plain=plain, known=known, foresee=True
        )
        if found is not None and not known(found.x):
            rough.append(found)
    rows = [
        row
        for row in (_polish(point, found.x, found.jacobian) for found in rough)
        if row is not None
    ]
    if not rows:
        return None
    key = "energy" if math.isinf(point.beta) else "free_energy"
    return min(rows, key=lambda row: row[key])


def forgets_length(student: LeakyReLU | Student) -> bool:
    """Whether the output is the same for all lengths of the weights, a constant on either side."""
    if isinstance(student, LeakyReLU):
        return False
    output = student.values(np.outer([-1.0, 1.0], _LENGTHS))
    return bool((output == output[:, :1]).all())


def _closed_form(point: Point, slope: float) -> dict[str, float] | None:
    """Return the zero-temperature solution of a piecewise-linear student; None if there is none."""
    problem = point.alpha, point.S, point.zeta
    found = ridge_point(*problem) if slope == 1.0 else piecewise_point(*problem, slope)
    if found.status > Status.DIVERGENT:
        return None
    return {
        "gamma": found.gamma,
        "R": found.R,
        "q": found.gamma * found.gamma,
        "chi": found.chi,
        "gen_error": found.gen_error,
        "gibbs_gen_error": found.gen_error,
        "posterior_mean_gen_error": found.gen_error,
        "train_error": found.train_error,
        "energy": found.energy,
        "free_energy": found.energy,
        "entropy": -math.inf,
        "dead_fraction": found.dead_fraction,
        "interpolating": math.isinf(found.chi),
        "replicon": found.replicon,
        "rs_stable": found.replicon >= 0,
        "residual": found.residual,
        "quadrature_error": 0.0,
        "n_iter": found.n_iter,
        "status": found.status,
    }


def _start_from(row: dict[str, float], rho: float) -> NDArray[np.float64]:
    m = row["gamma"] * row["R"] * math.sqrt(rho)
    rest = max(row["gamma"] ** 2 - m * m / rho, 1e-300)
    return np.array([math.log(row["chi"]), m, math.log(rest)])


def _linear_start(point: Point) -> NDArray[np.float64]:
    """Return the zero-temperature solution of the linear student, which is never far away."""
    alpha, S, zeta = point.alpha, point.S, point.zeta
    if isinstance(point.weights, Ridge):
        chi, m, rest = linear_start(point.weights.modes, alpha, S, zeta)
        return np.array([math.log(chi), m, math.log(rest)])
    if zeta > 0:
        b = zeta + alpha - 1
        root = math.hypot(b, 2 * math.sqrt(zeta))
        chi = 2 / (root + b) if b > 0 else (root - b) / (2 * zeta)
    else:
        chi = 1 / (alpha - 1) if alpha > 1.05 else 20.0
    chi = min(chi, 1e3)
    m = alpha * chi / (1 + chi)
    k = min(m * chi / (1 + chi), 0.95)
    m = min(m, 1.0)
    return np.array([math.log(chi), m, math.log(k * (S + (1 - m) ** 2) / (1 - k) + 1e-6)])


def _continue(
    points: list[Point], rows: list[dict[str, Any] | None], parameters: NDArray[np.float64]
) -> None:
    """Solve what failed from scratch with the nearest solved problems as starts.

    "Nearest" is decided by the parameters, so the order of the problems does not matter.
    """
    place = np.log(parameters[:, [0, 2]] + 1e-12)
    cold = np.where(np.isinf(parameters[:, 3]), 0.0, 1 / parameters[:, 3])
    place = np.column_stack([place, np.log(cold + 1e-12), parameters[:, 1]])
    for _ in range(8):
        todo = [i for i, row in enumerate(rows) if row is None]
        solved = [i for i, row in enumerate(rows) if row is not None]
        if not todo or not solved:
            return
        progress = {}
        for i in todo:
            distance = np.abs(place[solved] - place[i]).sum(axis=1)
            near = solved[int(np.lexsort((*parameters[solved].T, distance))[0])]
            start = rows[near]
            assert start is not None
            progress[i] = _polish(points[i], _start_from(start, points[i].weights.rho), None)
        for i, row in progress.items():
            rows[i] = row
        if all(row is None for row in progress.values()):
            return


def _polish(
    point: Point, x: NDArray[np.float64], jacobian: NDArray[np.float64] | None
) -> dict[str, float] | None:
    """Solve from `x` with finer and finer quadrature, until two rules agree."""
    coarse = None
    for level in range(1, len(LEGENDRE)):
        first = coarse is None
        tolerance = _HAND_OVER if first else _TOLERANCE
        step = _watched(point, level)
        found = fixed_point(step, x, tolerance, jacobian, plain=0, foresee=first)
        if found is None:
            return None
        x, jacobian, residual = found
        if coarse is not None:
            error = float((np.abs(x - coarse) / np.maximum(1.0, np.abs(x))).max())
            if error < _ACCURATE:
                if _vanishes(point, x, level):
                    return None
                # The two may agree to the last digit because neither had to move.
                error = max(error, residual)
                return _describe(point, x, residual, error, level)
        coarse = x
    return None


def _vanishes(point: Point, x: NDArray[np.float64], level: int) -> bool:
    """Whether the samples stopped pulling though there is a loss: the weights shrink for ever.

    A student whose output does not depend on the length of its weights has no minimum with decay.
    """
    here = overlaps_at(x, point.weights.rho)
    sample = point.evaluate(here.chi, here.m, here.q, level)
    return _NO_PULL * sample.loss > sample.F


def _watched(point: Point, level: int) -> Callable[[NDArray[np.float64]], Step]:
    """Return ``point.step`` at `level`; without decay NaN once the search is vain."""

    def step(x: NDArray[np.float64]) -> Step:
        return point.step(x, level)

    if point.zeta > 0.0:
        return step
    count = halved = 0
    best = least_growth = math.inf
    widens = False  # if not, it is the distance from a noise-free teacher that has no fixed point

    def watched(x: NDArray[np.float64]) -> Step:
        nonlocal count, halved, best, least_growth, widens
        if (count >= _GROWTH_STEPS and least_growth > _GROWTH) or count - halved > _PATIENCE:
            point.diverges |= widens and least_growth > 0.0
            return Step(np.full(x.size, np.nan))
        taken = step(x)
        new = taken.value
        count += 1
        if np.isfinite(new).all():
            least_growth = min(least_growth, float(new[0] - x[0]))
            widens = bool(new[2] > x[2])
            if point.S == 0.0 and x[2] < _MET and not widens:
                return Step(np.full(x.size, np.nan))  # the teacher is met, and chi is noise
            size = float(np.abs(new - x).max())
            if size < 0.5 * best:
                best, halved = size, count
        return taken

    return watched


def _describe(
    point: Point, x: NDArray[np.float64], residual: float, shift: float, level: int
) -> dict[str, float]:
    weights = point.weights
    here = overlaps_at(x, weights.rho)
    chi, m, rest, rho = here
    gamma2 = here.q
    sample = point.evaluate(chi, m, gamma2, level)
    loss = sample.loss
    alpha, zeta, beta = point.alpha, point.zeta, point.beta
    cold = math.isinf(beta)
    V = 0.0 if cold else chi / beta
    q = gamma2 + V
    pull = point.pull(sample)
    length = weights.length(here, *pull)
    if not cold:
        length += weights.spread(pull[0], beta)
    energy = alpha * loss / 2 + zeta * length / 2
    replicon = 1 - alpha * sample.replicon * weights.inequality(pull[0])
    if cold:
        free_energy, entropy = energy, -math.inf
        # Below this weight the jumps carry less than the accuracy of the averages.
        if abs(sample.jump) > 1e-12:
            replicon = -math.inf
    else:
        beta_f = -(weights.free_energy(here, beta, *pull) + alpha * sample.ln_Z)
        free_energy = beta_f / beta
        entropy = beta * energy - beta_f
    rule = LEGENDRE[2]
    law = point.law()
    reach = REACH * math.sqrt(2 * q)  # two fields at right angles
    width = next((w for w in WIDTHS if w > reach), WIDTHS[-1])
    if isinstance(point.student, LeakyReLU):  # two straight lines, as long as anybody likes
        width = max(width, reach)
    table, truth = prepared(point.student, width), law.activation
    gen_error = gibbs = mean = mean_square_error(table, truth, m, rest, 0.0, rule, rho)
    if not cold:
        gibbs = mean_square_error(table, truth, m, rest + V, 0.0, rule, rho)
        mean = mean_square_error(table, truth, m, rest, V, rule, rho)
    return {
        "gamma": math.sqrt(gamma2),
        "R": m / math.sqrt(gamma2 * rho),
        "q": q,
        "chi": chi,
        "gen_error": gen_error,
        "gibbs_gen_error": gibbs,
        "posterior_mean_gen_error": mean,
        "train_error": loss,
        "energy": energy,
        "free_energy": free_energy,
        "entropy": entropy,
        "dead_fraction": math.nan,
        "interpolating": False,
        "replicon": replicon,
        "rs_stable": bool(replicon >= 0),
        "residual": residual,
        "quadrature_error": shift,
        "n_iter": point.n_evaluations,
        "status": int(Status.CONVERGED),
    }
