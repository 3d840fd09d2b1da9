"""Online learning: every step sees fresh samples. Two engines, equal in law.

``direct`` holds the N weights; ``chain`` holds the order parameters alone, which with Gaussian
inputs are an exact Markov chain at finite N and cost O(M) per step whatever N.
"""

from __future__ import annotations

import math
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, cast, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from replica._core.arguments import ArgumentError, choice, integer, real_array, real_scalar
from replica._core.results import over
from replica._core.status import Status
from replica._core.student_values import refuse_jumps
from replica.labels import Flip, NoiseLike, NoiseWord, as_noise, check_labels
from replica.losses import SQUARE, Loss, LossLike, as_loss
from replica.students import SIGN, LeakyReLU, Student, StudentLike, as_student

from . import _kernels as kernels
from ._data import default_threads, draw_labels, draw_noise, map_runs, require_memory, streams
from ._fresh_errors import generalization_error, sign_error
from ._run_statistics import RunStatistics, warn_of_failures
from ._settings import (
    DIVERGENCE_LIMIT,
    MAX_RUNS,
    MAX_SIZE,
    MAX_VARIANCE,
    NORMALIZERS,
    Normalization,
    Normalizer,
    starting_scale,
)
from ._tables import Tables, slope_and_table

__all__ = ["OnlineRun", "simulate_online"]

Engine = Literal["chain", "direct"]
# Random numbers are drawn in blocks of about this many: large enough to hide the call, small
# enough for the cache.
_BLOCK_NUMBERS = 1 << 16
# More than a day of the cheapest steps.
_MAX_STEPS = 10**12
# Records of a run whose `t` is one number: enough for a smooth curve.
_RECORDS = 100
# A time this close above a whole number of steps, relatively, is that number after rounding.
_ROUNDING = 1e-14


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class OnlineRun(RunStatistics):
    """Order parameters along online learning, one column per run.

    Attributes
    ----------
    t : ndarray, shape (n_records,)
        Samples seen per weight, (number of steps) * M / N.
    gamma, R, L, gen_error : ndarray, shape (n_records, n_runs)
        Scale and overlap of the effective weights, |w|/sqrt(N), and E[(g_t(z) - g(u))^2] with
        population statistics against the noise-free teacher output; for a loss of margins the
        `error_rate`.
    error_rate : ndarray, shape (n_records, n_runs)
        P(sign u != sign z) for a sign teacher, arccos(R)/pi; else NaN.
    status : ndarray of int8, shape (n_runs,)
        A `Status` per run: DONE, or DIVERGENT (the records from there on are NaN).
    seconds : float
        Wall time.
    student, teacher, normalizer, S, zeta, batch_size, learning_rate, gamma0, R0, L0
        The arguments of `simulate_online`, with their defaults filled in.
    noise, loss, N, engine, seed
        The same; `n_runs` is a property. ``simulate_online(**run.problem)`` repeats the run.
    """

    _problem = (
        "student", "teacher", "normalizer", "S", "zeta", "batch_size", "learning_rate",
        "gamma0", "R0", "L0", "t", "noise", "loss", "N", "engine", "n_runs", "seed",
    )  # fmt: skip
    _observables: ClassVar[tuple[str, ...]] = ("gamma", "R", "L", "gen_error", "error_rate")

    student: LeakyReLU | Student
    teacher: LeakyReLU | Student
    normalizer: Normalizer
    S: float
    zeta: float
    batch_size: int
    learning_rate: float
    gamma0: float
    R0: float
    L0: float
    noise: NoiseWord | Flip
    loss: Loss
    N: int
    engine: Engine
    seed: int
    t: NDArray[np.float64] = over("t")
    gamma: NDArray[np.float64] = over("t", "run")
    R: NDArray[np.float64] = over("t", "run")
    L: NDArray[np.float64] = over("t", "run")
    gen_error: NDArray[np.float64] = over("t", "run")
    error_rate: NDArray[np.float64] = over("t", "run")
    status: NDArray[np.int8] = over("run")
    seconds: float

    def _curve_name(self) -> str:
        loss = "" if self.loss == SQUARE else f"{self.loss.name}, "
        return f"{self.normalizer}, {loss}N = {self.N}"


def simulate_online(
    *,
    student: StudentLike = "relu",
    teacher: StudentLike | None = None,
    normalizer: Normalizer = "none",
    S: float = 0.0,
    zeta: float = 0.0,
    batch_size: int = 1,
    learning_rate: float = 0.5,
    gamma0: float | None = None,
    R0: float = 0.0,
    L0: float = 1.0,
    t: ArrayLike = 10.0,
    noise: NoiseLike = "output",
    loss: LossLike = "square",
    N: int = 1000,
    engine: Engine = "chain",
    n_runs: int = 1,
    seed: int = 0,
    n_threads: int | None = None,
    progress: bool = True,
) -> OnlineRun:
    """Simulate online learning of g_t(w*.x) + s from fresh Gaussian samples (section 3).

    One step sees `batch_size` = M fresh samples, follows the summed gradient with rate eta and
    advances t by M/N. The arguments up to `t` mean what they do in `dynamics.integrate`, the limit
    N -> infinity of this for the square loss and noise of the output, which are all it has.

    Parameters
    ----------
    student : str, LeakyReLU, Student or function
        The student's activation, continuous: "linear", "relu", "erf", "tanh", ..., or your own.
    teacher : optional
        The teacher's activation; by default the student's, as in section 3.
    normalizer : {"none", "wn", "pn", "bn", "bn-var", "bn-mean"}, optional
        "none" is plain SGD; "wn" and "pn" (population statistics) are the same here; "bn",
        "bn-var" and "bn-mean" have real batch statistics.
    S : float, optional
        Variance of the labels' noise s.
    zeta : float, optional
        Decay per sample: over dt = 1 gamma (without normalizer: w) shrinks by 1 - eta zeta.
    batch_size : int, optional
        Samples per step, at least 2 with batch statistics. Below 4 ("bn") or 3 ("bn-var") updates
        have an infinite variance: runs then scatter at any N, and no theory answers.
    learning_rate : float, optional
        eta > 0, of the sum over the batch of the losses, (1/2) (y - g(u))^2 by default.
    gamma0, R0, L0 : float, optional
        Start: output scale (> 0; 1 by default, without a normalizer L0 and nothing else), overlap
        in [-1, 1], and weight length |w|/sqrt(N).
    t : float or array_like, shape (n_records,), optional
        Samples seen per weight. An array, >= 0 and increasing: when to record, each time rounded to
        the next whole step; ``run.t`` holds what comes of it. A number: the end, with 100 equal
        intervals recorded up to it (fewer if there are fewer steps).
    noise : {"output", "input", "logistic"} or Flip, optional
        Labels y = g_t(z) + s; y = g_t(z + s); the same with s of the logistic law; or
        y = +-g_t(z + s), the sign turned with a probability.
    loss : str or Loss, optional
        "square", "huber", "logistic", "hinge", ... or your own, as in `simulate_training`.
    N : int, optional
        Number of inputs, at least 3; the chain engine takes any.
    engine : {"chain", "direct"}, optional
        Order parameters alone, or all N weights.
    n_runs, seed, n_threads, progress
        Independent runs; seed of everything; threads (one per processor by default, one in a worker
        thread or process; the result does not depend on them); progress bar on a terminal.

    Returns
    -------
    OnlineRun

    Raises
    ------
    ValueError, TypeError
        For arguments out of range.
    MemoryError
        Before any work, if the samples of a step, the weights or the records do not fit.

    Warns
    -----
    ConvergenceWarning
        If a run diverged.

    See Also
    --------
    replica.dynamics.integrate : The order-parameter equations, N -> infinity.

    Notes
    -----
    Theory: :eq:`eq-online-step` in :doc:`/simulation`; :eq:`eq-chain` in :doc:`/exact_chain`.

    Activations outside the leaky family and losses of your own are read from tables that are exact
    to rounding. The `gen_error` of such activations is a quadrature, accurate to about 1e-11 of the
    mean square outputs.

    Examples
    --------
    >>> run = simulate_online(student="erf", normalizer="wn", N=10**9, batch_size=10**6,
    ...                       t=[0.0, 0.02])
    >>> bool(run.R[1, 0] > run.R[0, 0])
    True
    """
    student = as_student(student)
    refuse_jumps(student)
    teacher = student if teacher is None else as_student(teacher, name="teacher")
    noise, loss = as_noise(noise), as_loss(loss)
    S = real_scalar("S", S, low=0.0, high=MAX_VARIANCE)
    check_labels(loss, teacher, noise, S)
    normalizer = cast(Normalizer, choice("normalizer", normalizer, NORMALIZERS))
    engine = cast(Engine, choice("engine", engine, get_args(Engine)))
    N = integer("N", integer("N", N, low=3), high=MAX_SIZE)
    normalization = NORMALIZERS[normalizer]
    batch_size = integer(
        "batch_size",
        integer("batch_size", batch_size, low=normalization.smallest_batch),
        high=MAX_SIZE,
    )
    L0 = real_scalar("L0", L0, low=0.0, high=DIVERGENCE_LIMIT, low_open=normalization.has_gamma)
    start = _OrderParameters(
        starting_scale(normalizer, gamma0, L0), real_scalar("R0", R0, low=-1.0, high=1.0), L0
    )
    zeta = real_scalar("zeta", zeta, low=0.0)
    problem = _Problem(
        student=student,
        teacher=teacher,
        normalization=normalization,
        noise=noise,
        loss=loss,
        S=S,
        decay=zeta * batch_size / N,
        batch_size=batch_size,
        learning_rate=real_scalar("learning_rate", learning_rate, low=0.0, low_open=True),
        start=start,
        N=N,
    )
    record_steps = _record_steps(t, batch_size / N)
    n_runs = integer("n_runs", n_runs, low=1, high=MAX_RUNS)
    seed = integer("seed", seed, low=0)
    n_threads = default_threads() if n_threads is None else integer("n_threads", n_threads, low=1)
    workers = min(n_threads, n_runs)
    _require_memory(problem, engine, workers, n_runs, record_steps.size)
    make = {"chain": _Chain, "direct": _Direct}[engine]
    # Refused here rather than in a thread.
    Tables(student, loss)
    slope_and_table(teacher, _reach(noise, S))

    from tqdm import tqdm

    began = time.perf_counter()
    stop = threading.Event()
    total = n_runs * int(record_steps[-1])
    with tqdm(total=total, unit="step", disable=None if progress else True) as bar:

        def run(i: int) -> _Records:
            walker = make(problem, np.random.SeedSequence(seed, spawn_key=(i,)))
            return _follow(walker, record_steps, stop, bar.update)

        records = map_runs(run, n_runs, workers, stop)
    gamma, R, L, gen_error, error_rate = (
        np.stack(parts, axis=-1) for parts in zip(*(r.observables for r in records), strict=True)
    )
    status = np.array([record.status for record in records], np.int8)
    warn_of_failures(status)
    return OnlineRun(
        student=student,
        teacher=teacher,
        normalizer=normalizer,
        S=problem.S,
        zeta=zeta,
        batch_size=batch_size,
        learning_rate=problem.learning_rate,
        gamma0=start.gamma,
        R0=start.R,
        L0=start.L,
        noise=noise,
        loss=loss,
        N=N,
        engine=engine,
        seed=seed,
        t=np.asarray(record_steps * (batch_size / N), np.float64),
        gamma=gamma,
        R=R,
        L=L,
        gen_error=gen_error,
        error_rate=error_rate,
        status=status,
        seconds=time.perf_counter() - began,
    )


class _OrderParameters(NamedTuple):
    gamma: float
    R: float
    L: float


@dataclass(frozen=True)
class _Problem:
    """What all runs of a call share, after all checks; `decay` is that of one step."""

    student: LeakyReLU | Student
    teacher: LeakyReLU | Student
    normalization: Normalization
    noise: NoiseWord | Flip
    loss: Loss
    S: float
    decay: float
    batch_size: int
    learning_rate: float
    start: _OrderParameters
    N: int


class _Records(NamedTuple):
    """The observables at the records, and how the run ended."""

    observables: tuple[NDArray[np.float64], ...]
    status: Status


def _record_steps(t: ArrayLike, dt: float) -> NDArray[np.int64]:
    """After how many steps of length `dt` to record, for `t` as in `simulate_online`."""
    times = real_array("t", t, low=0.0)
    if times.ndim > 1 or times.size == 0:
        raise ArgumentError(f"t must be a number or a non-empty 1-D array, got shape {times.shape}")
    if times.max() / dt > _MAX_STEPS:
        raise ArgumentError(
            f"t must give at most {_MAX_STEPS:g} steps of batch_size samples, "
            f"got {times.max() / dt:g}"
        )
    steps = np.ceil(times / dt * (1.0 - _ROUNDING)).astype(np.int64)
    if times.ndim == 0:
        last = int(steps)
        return np.linspace(0, last, min(_RECORDS, last) + 1).round().astype(np.int64)
    if (np.diff(steps) <= 0).any():
        where = int(np.argmax(np.diff(steps) <= 0))
        raise ArgumentError(
            f"t must increase by at least a step, {dt:.4g}, from one time to the next, got "
            f"{times[where]:g} before {times[where + 1]:g} (element {where + 1})"
        )
    return steps


def _require_memory(
    problem: _Problem, engine: Engine, workers: int, n_runs: int, n_records: int
) -> None:
    N, M = problem.N, problem.batch_size
    per_sample, weights = (N, 4 * N) if engine == "direct" else (4, 0)
    require_memory(
        workers * 8.0 * (max(per_sample * M, 4 * _BLOCK_NUMBERS // 3) + weights + 4 * M)
        + 64.0 * n_records * n_runs,
        f"{engine} engine with N = {N}, M = {M}, {n_runs} runs and {n_records} records",
        "a smaller batch_size, fewer records or runs"
        + (", or engine='chain'" if engine == "direct" else ""),
    )


def _follow(
    walker: _Walker,
    record_steps: NDArray[np.int64],
    stop: threading.Event,
    tick: Callable[[int], object],
) -> _Records:
    """Walk to the last of `record_steps`; the records after a divergence are NaN."""
    states = np.full((record_steps.size, 3), np.nan)
    done, status = 0, Status.DONE
    for i, wanted in enumerate(record_steps.tolist()):
        while done < wanted and status == Status.DONE and not stop.is_set():
            steps = min(wanted - done, walker.block)
            status = walker.advance(steps)
            done += steps
            tick(steps)
        if status != Status.DONE:
            break
        states[i] = walker.order_parameters()
    gamma, R, L = states.T
    problem = walker.problem
    error = generalization_error(problem.student, problem.teacher, problem.loss, gamma, R)
    rate = sign_error(gamma, R) if problem.teacher == SIGN else np.full(R.size, np.nan)
    return _Records((gamma, R, L, error, rate), status)


class _Walker(ABC):
    """One run: a state, its random numbers, and the tables of activations that need one."""

    #: Steps whose random numbers are drawn at a time.
    block: int

    def __init__(self, problem: _Problem) -> None:
        self.problem = problem
        self.tables = Tables(problem.student, problem.loss)

    @abstractmethod
    def order_parameters(self) -> _OrderParameters:
        """The state as it is."""

    @abstractmethod
    def _draw(self, steps: int) -> tuple[NDArray[np.float64], ...]:
        """Random numbers of some steps."""

    @abstractmethod
    def _move(self, drawn: tuple[NDArray[np.float64], ...], first: int) -> kernels.Progress:
        """Make the steps from number `first` on."""

    def advance(self, steps: int) -> Status:
        """Make some steps: DONE or DIVERGENT."""
        drawn, first = self._draw(steps), 0
        while True:
            progress = self._move(drawn, first)
            self.state = progress.state
            first += progress.steps
            if progress.status != Status.RUNNING:
                return Status(progress.status)
            if not self.tables.widen(progress.furthest, progress.loss_furthest):
                return Status.DIVERGENT


def _reach(noise: NoiseWord | Flip, S: float) -> float:
    """Teacher's fields, and their noise where it stands inside, are never beyond this."""
    if noise == "output":
        return 16.0
    # Of the logistic law e^-80 is beyond 45 standard deviations.
    return 16.0 + (45.0 if noise == "logistic" else 16.0) * math.sqrt(S)


class _Chain(_Walker):
    """The order parameters alone."""

    def __init__(self, problem: _Problem, seed: np.random.SeedSequence) -> None:
        super().__init__(problem)
        self.teacher = slope_and_table(problem.teacher, _reach(problem.noise, problem.S))
        self.fields, self.noise, self.rest = map(np.random.default_rng, streams(seed, 3))
        self.block = max(1, _BLOCK_NUMBERS // (3 * problem.batch_size))
        gamma, R, L = problem.start
        self.state = kernels.ChainState(gamma, L * R, L * math.sqrt((1.0 - R) * (1.0 + R)))

    def order_parameters(self) -> _OrderParameters:
        gamma, parallel, across = self.state
        L = math.hypot(parallel, across)
        return _OrderParameters(gamma, parallel / L if L > 0.0 else 0.0, L)

    def _draw(self, steps: int) -> tuple[NDArray[np.float64], ...]:
        problem, shape = self.problem, (steps, self.problem.batch_size)
        fields = self.fields.standard_normal((steps, 2, problem.batch_size))
        noise, flips = np.zeros(shape), np.empty((0, 0))
        if problem.S or isinstance(problem.noise, Flip):
            noise, flips = draw_noise(problem.noise, problem.S, shape, self.noise)
        return fields, noise, flips, self.draw_chi_square(steps)

    def _move(self, drawn: tuple[NDArray[np.float64], ...], first: int) -> kernels.Progress:
        problem, tables = self.problem, self.tables
        fields, noise, flips, rest = drawn
        return kernels.online_chain(
            fields, noise, problem.noise != "output", flips, rest, first, self.state, problem.N,
            *problem.normalization, tables.slope, tables.table, tables.loss, *self.teacher,
            problem.learning_rate, problem.decay, DIVERGENCE_LIMIT,
        )  # fmt: skip

    def draw_chi_square(self, steps: int) -> NDArray[np.float64]:
        """Squared length, times N, of an input outside the plane of student and teacher."""
        return self.rest.chisquare(self.problem.N - 2, steps)


class _Direct(_Walker):
    """All N weights."""

    def __init__(self, problem: _Problem, seed: np.random.SeedSequence) -> None:
        super().__init__(problem)
        inputs, noise, init = streams(seed, 3)
        self.inputs, self.noise = np.random.default_rng(inputs), np.random.default_rng(noise)
        N, M = problem.N, problem.batch_size
        self.block = max(1, _BLOCK_NUMBERS // (N * M))
        gamma, R, L = problem.start
        # The teacher is (1, ..., 1); the rest of w points anywhere orthogonal to it.
        v = np.empty(N)
        np.random.default_rng(init).standard_normal(out=v)
        v -= v.mean()
        v *= math.sqrt(N) / float(np.linalg.norm(v))
        self.w = L * (R + math.sqrt((1.0 - R) * (1.0 + R)) * v)
        self.velocity = np.empty(N)
        self.state = kernels.WeightState(gamma, 0.0, L)
        self.scratch = tuple(np.empty((3, M)))

    def order_parameters(self) -> _OrderParameters:
        parallel, L = kernels.order_parameters(self.w)
        gamma = self.state.gamma if self.problem.normalization.has_gamma else L
        return _OrderParameters(gamma, parallel / L if L > 0.0 else 0.0, L)

    def _draw(self, steps: int) -> tuple[NDArray[np.float64], ...]:
        problem = self.problem
        X = self.inputs.standard_normal((steps * problem.batch_size, problem.N))
        X *= 1.0 / math.sqrt(problem.N)
        y = draw_labels(problem.teacher, problem.noise, problem.S, X.sum(axis=1), self.noise)
        return X, y

    def _move(self, drawn: tuple[NDArray[np.float64], ...], first: int) -> kernels.Progress:
        problem, tables, M = self.problem, self.tables, self.problem.batch_size
        X, y = drawn
        self.velocity[:] = 0.0
        return kernels.train_epoch(
            X, y, np.arange(first * M, y.size), M, self.w, self.velocity, self.state,
            np.empty(0), *self.scratch, *problem.normalization, tables.slope, tables.slope,
            tables.table, tables.loss, problem.learning_rate, problem.decay, 0.0, DIVERGENCE_LIMIT,
        )  # fmt: skip
