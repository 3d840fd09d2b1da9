"""What a training run is asked to do, and what is measured along it; shared by both engines."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from replica._core.arguments import ArgumentError, real_scalar
from replica._core.normalizer import Normalizer
from replica._core.status import Status
from replica.inputs import Clusters, Inputs, Isotropic
from replica.labels import Flip, NoiseWord, labels_are_signs
from replica.losses import SQUARE, Loss
from replica.students import LINEAR, SIGN, LeakyReLU, Student, stretched

from . import _kernels as kernels
from ._data import Population
from ._fresh_errors import fresh_loss, generalization_error, normal_margin_loss, sign_error
from ._inputs import field_variance
from ._tables import Tables

__all__ = ["NORMALIZERS", "OBSERVABLES", "Normalization", "RunRecord"]
__all__ += ["TrainingSettings", "fill_in_fresh", "starting_scale"]


Method = Literal["sgd", "newton", "l-bfgs"]


class Normalization(NamedTuple):
    """What a normalizer does: is the batch mean subtracted, and what is the field divided by."""

    center: bool
    scale: int

    @property
    def has_gamma(self) -> bool:
        """Whether the length of the weights is a parameter of its own."""
        return self.scale != kernels.SCALE_NONE

    @property
    def smallest_batch(self) -> int:
        """Samples that a step needs: one alone has no variance, and is its own mean."""
        return 2 if self.center or self.scale == kernels.SCALE_BATCH else 1


NORMALIZERS: dict[Normalizer, Normalization] = {
    "none": Normalization(False, kernels.SCALE_NONE),
    "wn": Normalization(False, kernels.SCALE_NORM),
    "pn": Normalization(False, kernels.SCALE_NORM),
    "bn": Normalization(True, kernels.SCALE_BATCH),
    "bn-var": Normalization(False, kernels.SCALE_BATCH),
    "bn-mean": Normalization(True, kernels.SCALE_NORM),
}

OBSERVABLES = (
    "gamma",
    "R",
    "L",
    "bias",
    "train_error",
    "gen_error",
    "train_loss",
    "test_loss",
    "train_error_rate",
    "error_rate",
    "energy",
    "dead_fraction",
    "norm_ratio",
    "gamma_population",
    "train_error_population",
    "gen_error_population",
)

# A weight norm |w|/sqrt(N) or gamma beyond this (the teacher's is 1) counts as divergence.
DIVERGENCE_LIMIT = 1e6
# More runs than this in one call are a mistake; their seeds alone take a gigabyte.
MAX_RUNS = 10**6
# Of inputs, samples and samples per step: what the kernels' 64-bit integers can count.
MAX_SIZE = 10**18
# Variances beyond this have squares that are no floats.
MAX_VARIANCE = 1e100


@dataclass(frozen=True, eq=False)
class TrainingSettings:
    """One training problem after all checks; `rates` and `up_slopes` hold one value per epoch."""

    alpha: float
    S: float
    N: int
    P: int
    student: LeakyReLU | Student
    teacher: LeakyReLU | Student
    noise: NoiseWord | Flip
    loss: Loss
    inputs: Inputs
    normalizer: Normalizer
    zeta: float
    method: Method
    batch_size: int
    rates: NDArray[np.float64]
    up_slopes: NDArray[np.float64]
    momentum: float
    dropout: float
    gamma0: float
    L0: float
    tolerance: float
    anneal_epochs: int
    record_epochs: NDArray[np.int64]
    dtype: np.dtype[np.floating]

    @property
    def epochs(self) -> int:
        return self.rates.size

    @property
    def labels_are_signs(self) -> bool:
        return labels_are_signs(self.teacher, self.noise, self.S)

    @property
    def is_convex(self) -> bool:
        """Whether every minimum of the energy is the minimum."""
        return self.student == LINEAR and self.normalizer == "none"

    @property
    def center(self) -> bool:
        return NORMALIZERS[self.normalizer].center

    @property
    def scale(self) -> int:
        return NORMALIZERS[self.normalizer].scale


@dataclass(frozen=True, eq=False)
class RunRecord:
    """What one run of an engine hands back: observables of shape (n_records, n_observables)."""

    values: NDArray[np.float64]
    status: Status
    epochs_done: int
    weights: NDArray[np.floating] | None
    weight_scale: float
    orthogonality_error: float
    seconds: float
    gradient_norm: float = math.nan
    duality_gap: float = math.nan


def observe(
    settings: TrainingSettings,
    tables: Tables,
    u: NDArray[np.floating],
    y: NDArray[np.float64],
    gamma: float,
    parallel: float,
    L: float,
    start_norm: float,
) -> tuple[NDArray[np.float64], float]:
    """All observables from the fields u = X w of the training set, and W's norm over w's.

    What belongs to fresh inputs follows from the others and is left to `fill_in_fresh`.

    `gamma` is the trained scale, `parallel` = w.w*/N and `L` = |w|/sqrt(N). The student is
    evaluated with the statistics of the whole training set, and again with those of the population
    (mean 0, standard deviation L).
    """
    R = parallel / L if L > 0.0 else 0.0
    if settings.scale == kernels.SCALE_NONE:
        gamma, population, factor = L, 1.0, 1.0
    else:
        population = factor = gamma / L
    mean, square = kernels.field_moments(u)
    mean = mean if settings.center else 0.0
    gamma_train = gamma
    if settings.scale == kernels.SCALE_BATCH:
        factor = gamma / math.sqrt(square - mean**2)
        gamma_train = factor * L
    bias = -factor * mean
    errors = _training_errors(settings, tables, u, y, factor, bias)
    train_error_population = errors.square
    if settings.center or settings.scale == kernels.SCALE_BATCH:
        train_error_population = _mean_square(tables, u, y, population, 0.0)[0]
    values = {
        "gamma": gamma_train,
        "R": R,
        "L": L,
        "bias": bias,
        "train_error": errors.square,
        "train_loss": errors.loss,
        "train_error_rate": errors.wrong,
        "energy": settings.P / settings.N * errors.loss + 0.5 * settings.zeta * gamma**2,
        "dead_fraction": errors.dead,
        "norm_ratio": gamma_train / start_norm if start_norm > 0.0 else math.nan,
        "gamma_population": gamma,
        "train_error_population": train_error_population,
    }
    return np.array([values.get(name, math.nan) for name in OBSERVABLES]), factor


class _TrainingErrors(NamedTuple):
    """Mean square error and loss, and fractions of samples: y > 0 > h, and y h <= 0."""

    square: float
    loss: float
    dead: float
    wrong: float


def _training_errors(
    settings: TrainingSettings,
    tables: Tables,
    u: NDArray[np.floating],
    y: NDArray[np.float64],
    factor: float,
    bias: float,
) -> _TrainingErrors:
    square, dead = _mean_square(tables, u, y, factor, bias)
    loss, wrong = 0.5 * square, math.nan
    if settings.loss != SQUARE:
        loss = float(np.mean(tables.losses(y, tables.outputs(factor * u.astype(float) + bias))))
    if settings.labels_are_signs:
        wrong = float(np.mean(y * (factor * u + bias) <= 0.0))
    return _TrainingErrors(square, loss, dead, wrong)


def _mean_square(
    tables: Tables, u: NDArray[np.floating], y: NDArray[np.float64], factor: float, bias: float
) -> tuple[float, float]:
    if tables.table is None:
        return kernels.squared_error(u, y, factor, bias, tables.slope)
    h = factor * u.astype(float) + bias
    return float(np.mean((y - tables.outputs(h)) ** 2)), float(np.mean((y > 0.0) & (h < 0.0)))


def starting_scale(normalizer: Normalizer, gamma0: float | None, L0: float) -> float:
    """The checked gamma at the start: 1 by default, and L0 without a normalizer.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If `gamma0` is out of range, or is not L0 without a normalizer.
    """
    has_gamma = NORMALIZERS[normalizer].has_gamma
    if gamma0 is None:
        return 1.0 if has_gamma else L0
    gamma0 = real_scalar("gamma0", gamma0, low=0.0, high=DIVERGENCE_LIMIT, low_open=has_gamma)
    if not has_gamma and gamma0 != L0:
        raise ArgumentError(
            "gamma0 must be L0 without a normalizer, where both are |w|/sqrt(N), "
            f"got {gamma0!r} and {L0!r}"
        )
    return gamma0


def fill_in_fresh(settings: TrainingSettings, observables: dict[str, NDArray[np.float64]]) -> None:
    """Errors and losses on fresh inputs, from the order parameters, for all records at once."""
    if isinstance(settings.inputs, Clusters):
        _fill_in_clusters(settings, settings.inputs, observables)
        return
    if not isinstance(settings.inputs, Isotropic):
        _fill_in_structured(settings, observables)
        return
    R, bias = observables["R"], observables["bias"]
    problem = settings.student, settings.teacher
    for name, shift in (("", bias), ("_population", np.zeros_like(bias))):
        observables[f"gen_error{name}"] = generalization_error(
            *problem, settings.loss, observables[f"gamma{name}"], R, shift
        )
    gamma = observables["gamma"]
    observables["test_loss"] = fresh_loss(
        *problem, settings.noise, settings.S, settings.loss, gamma, R, bias
    )
    if settings.teacher == SIGN:
        observables["error_rate"] = sign_error(gamma, R, bias)


def _fill_in_structured(
    settings: TrainingSettings, observables: dict[str, NDArray[np.float64]]
) -> None:
    """The same for a teacher's field of any variance: another teacher of a unit field."""
    rho = field_variance(settings.inputs, settings.N)
    size = math.sqrt(rho)
    student, teacher, noise, S = settings.student, settings.teacher, settings.noise, settings.S
    inside = teacher != LINEAR and noise != "output"
    unit = stretched(teacher, size)
    gamma, R = observables["gamma"], observables["R"]
    if teacher == LINEAR and isinstance(student, LeakyReLU):
        error = rho * generalization_error(student, LINEAR, settings.loss, gamma / size, R)
    else:
        error = generalization_error(student, unit, settings.loss, gamma, R)
    observables["gen_error"] = observables["gen_error_population"] = error
    observables["test_loss"] = fresh_loss(
        student,
        unit,
        "output" if teacher == LINEAR and noise == "input" else noise,
        S / rho if inside else S,
        settings.loss,
        gamma,
        R,
        np.zeros_like(gamma),
    )
    if teacher == SIGN:
        observables["error_rate"] = sign_error(gamma, R)


def _fill_in_clusters(
    settings: TrainingSettings, inputs: Clusters, observables: dict[str, NDArray[np.float64]]
) -> None:
    """The same for two clusters: y u is normal, of mean gamma R and variance Delta gamma^2."""
    gamma, R = observables["gamma"], observables["R"]
    m, sd = gamma * R, math.sqrt(inputs.variance) * gamma
    rate = ndtr(-R / math.sqrt(inputs.variance))
    for name in ("error_rate", "gen_error", "gen_error_population"):
        observables[name] = rate
    observables["test_loss"] = normal_margin_loss(settings.loss, inputs.fraction, m, sd)


class Recorder:
    """Collects the observables at the epochs asked for and decides how the run ended."""

    def __init__(self, settings: TrainingSettings, tick: Callable[[], object]) -> None:
        self.settings = settings
        self.tables = Tables(settings.student, settings.loss)
        #: Of inputs that are not isotropic: what knows the fields on fresh ones.
        self.population: Population | None = None
        self.values = np.full((settings.record_epochs.size, len(OBSERVABLES)), np.nan)
        self.status = Status.DONE
        self.start_norm = math.nan
        self.weight_scale = math.nan
        self._tick = tick
        self._next = 0

    def due(self, epoch: int) -> bool:
        """Whether `epoch` is one of the epochs to record."""
        epochs = self.settings.record_epochs
        return self._next < epochs.size and epochs[self._next] == epoch

    def record(
        self,
        u: NDArray[np.floating],
        y: NDArray[np.float64],
        gamma: float,
        parallel: float,
        L: float,
        w: NDArray[np.floating] | None = None,
    ) -> None:
        """Measure now; w are the weights where a population has to be asked."""
        first = math.isnan(self.start_norm)
        self.values[self._next], self.weight_scale = observe(
            self.settings, self.tables, u, y, gamma, parallel, L, 1.0 if first else self.start_norm
        )
        if first:
            self.start_norm = float(self.values[0, OBSERVABLES.index("gamma")])
            self.values[0, OBSERVABLES.index("norm_ratio")] = 1.0
        if self.population is not None and w is not None:
            m, q = self.population.overlaps(w)
            row = self.values[self._next]
            size = math.sqrt(q)
            row[OBSERVABLES.index("gamma")] = row[OBSERVABLES.index("gamma_population")] = size
            cosine = m / (size * math.sqrt(self.population.rho)) if size > 0.0 else 0.0
            row[OBSERVABLES.index("R")] = cosine
        self._next += 1

    def tick(self) -> None:
        """Count one finished epoch."""
        self._tick()

    def hold(self) -> None:
        """A converged run stays where it is: repeat its last record."""
        self.status = Status.CONVERGED
        self.values[self._next :] = self.values[self._next - 1]
