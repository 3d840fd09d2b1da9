"""Online learning: every step sees fresh samples. Two engines, equal in law.

``direct`` holds the N weights; ``chain`` holds the order parameters alone, which with Gaussian
inputs are an exact Markov chain at finite N and cost O(M) per step whatever N.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from replica._core.activation_table import ActivationTable
from replica._core.arguments import ArgumentError, choice, integer, real_array, real_scalar
from replica.students import LeakyReLU, Student, as_student, quick_values, refuse_jumps

from . import _kernels as kernels
from ._data import default_threads, map_runs, pair_error, require_memory, streams
from ._run_statistics import RunStatistics
from ._settings import (
    DIVERGENCE_LIMIT,
    MAX_RUNS,
    MAX_SIZE,
    MAX_VARIANCE,
    NORMALIZERS,
    Normalizer,
    warn_of_divergence,
)

__all__ = ["OnlineRun", "simulate_online"]

# Random numbers are drawn in blocks of about this many: large enough to hide the call, small
# enough for the cache.
_BLOCK_NUMBERS = 1 << 16
_FARTHEST = 64.0  # fields that tables reach at first; the teacher's has variance 1
_RECORDS = 100  # intervals that are recorded if only the end is asked for
# More than a day of the cheapest steps.
_MAX_STEPS = 10**12


@dataclass(frozen=True, eq=False, repr=False)
class OnlineRun(RunStatistics):
    """Order parameters along online learning, one column per run.

    Attributes
    ----------
    t : ndarray, shape (n_records,)
        Samples seen per weight, (number of steps) * M / N.
    gamma, R, L, gen_error : ndarray, shape (n_records, n_runs)
        Scale and overlap of the effective weights, |w|/sqrt(N), and E[(g_t(z) - g(u))^2] with
        population statistics against the noise-free teacher output; by quadrature, to about 1e-8,
        unless student and teacher are piecewise linear.
    status : ndarray of str, shape (n_runs,)
        "budget" (all steps done) or "diverged" (the records from there on are NaN).
    seconds : float
        Wall time.
    student, teacher, normalizer, S, zeta, batch_size, learning_rate, gamma0, R0, L0, N, engine
    seed
        The arguments of `simulate_online`, with their defaults filled in.
    """

    student: LeakyReLU | Student
    teacher: LeakyReLU | Student
    normalizer: str
    S: float
    zeta: float
    batch_size: int
    learning_rate: float
    gamma0: float
    R0: float
    L0: float
    N: int
    engine: str
    seed: int
    t: NDArray[np.float64]
    gamma: NDArray[np.float64]
    R: NDArray[np.float64]
    L: NDArray[np.float64]
    gen_error: NDArray[np.float64]
    status: NDArray[np.str_]
    seconds: float

    _observables = ("gamma", "R", "L", "gen_error")

    def plot(self, observable: str = "R", *, ax: Any = None) -> Any:
        """Draw the mean of `observable` against t; returns the Matplotlib axes."""
        return self._draw(observable, ax)

    def _abscissa(self) -> tuple[NDArray[Any], str]:
        return self.t, "t = samples / N"

    def _legend(self) -> str:
        return f"{self.normalizer}, N = {self.N}"

    def __repr__(self) -> str:
        diverged = int(np.sum(self.status == "diverged"))
        return (
            f"OnlineRun({self.student.name}, {self.normalizer}, S={self.S:g}, zeta={self.zeta:g}, "
            f"N={self.N}, batch_size={self.batch_size}, learning_rate={self.learning_rate:g}, "
            f"{self.engine}; {self.n_runs} runs, {diverged} diverged; at t={self.t[-1]:g} "
            f"gamma={self.mean('gamma')[-1]:.4g}, R={self.mean('R')[-1]:.4g}, "
            f"L={self.mean('L')[-1]:.4g}, gen_error={self.mean('gen_error')[-1]:.4g})"
        )


def simulate_online(
    *,
    student: str | LeakyReLU | Student | Callable[[float], float] = "relu",
    teacher: str | LeakyReLU | Student | Callable[[float], float] | None = None,
    normalizer: Normalizer = "none",
    S: float = 0.0,
    zeta: float = 0.0,
    batch_size: int = 1,
    learning_rate: float = 0.5,
    gamma0: float | None = None,
    R0: float = 0.0,
    L0: float = 1.0,
    t: ArrayLike = 10.0,
    N: int = 1000,
    engine: Literal["chain", "direct"] = "chain",
    n_runs: int = 1,
    seed: int = 0,
    n_threads: int | None = None,
    progress: bool = True,
) -> OnlineRun:
    """Simulate online learning of g_t(w*.x) + s from fresh Gaussian samples (section 3).

    One step sees `batch_size` = M fresh samples, follows the gradient of the sum of their losses
    and takes M/N units of time. The arguments mean what they do in `replica.dynamics.integrate`,
    which is the limit N -> infinity.

    Parameters
    ----------
    student : str, LeakyReLU, Student or function
        The student's activation, continuous, since it learns by its slope.
    teacher : str, LeakyReLU, Student or function, optional
        The teacher's activation; by default the student's, as in section 3.
    normalizer : {"none", "wn", "pn", "bn", "bn-var", "bn-mean"}
        "none" (SGD), "wn", "pn" (population statistics; the same as "wn" here), or real batch
        statistics: "bn", "bn-var", "bn-mean".
    S : float
        Variance of the output noise.
    zeta : float
        Decay per sample: over dt = 1 gamma (without normalizer: w) shrinks by 1 - eta zeta, as in
        eq. (6).
    batch_size : int
        Samples per step, at least 2 with batch statistics.
    learning_rate : float
        eta > 0, of the sum over the batch of (1/2) (y - g(u))^2.
    gamma0, R0, L0 : float
        Start: output scale, overlap in [-1, 1], weight length |w|/sqrt(N). `gamma0` is 1 by
        default, without a normalizer L0 and nothing else.
    t : float or array_like, shape (n_records,)
        Samples seen per weight. An array, >= 0 and increasing: when to record, each time rounded
        to the next whole step. A number: the end, with 100 equal intervals recorded up to it
        (fewer if there are fewer steps).
    N : int
        Number of inputs, at least 3; the chain engine takes any.
    engine : {"chain", "direct"}
        Order parameters alone, or all N weights.
    n_runs, seed, n_threads, progress
        Independent runs; seed of everything; threads (one per processor by default, one in a
        worker thread or process; the result does not depend on them); progress bar on a terminal.

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

    Notes
    -----
    Theory: :eq:`eq-online-step` in :doc:`/simulation`; :eq:`eq-chain` in :doc:`/exact_chain`.

    Examples
    --------
    >>> run = simulate_online(N=10**9, normalizer="wn", batch_size=10**6, learning_rate=0.5,
    ...                       t=0.02)
    >>> run.R[-1, 0] > run.R[0, 0]
    np.True_
    """
    S = real_scalar("S", S, low=0.0, high=MAX_VARIANCE)
    N = integer("N", integer("N", N, low=3), high=MAX_SIZE)
    learner = as_student(student)
    refuse_jumps(learner)
    truth = learner if teacher is None else as_student(teacher, name="teacher")
    choice("normalizer", normalizer, NORMALIZERS)
    choice("engine", engine, ("chain", "direct"))
    center, scale = NORMALIZERS[normalizer]
    normalized = scale != kernels.SCALE_NONE
    smallest = 2 if center or scale == kernels.SCALE_BATCH else 1
    M = integer("batch_size", integer("batch_size", batch_size, low=smallest), high=MAX_SIZE)
    L0 = real_scalar("L0", L0, low=0.0, high=DIVERGENCE_LIMIT, low_open=normalized)
    R0 = real_scalar("R0", R0, low=-1.0, high=1.0)
    if gamma0 is None:
        gamma0 = 1.0 if normalized else L0
    gamma0 = real_scalar("gamma0", gamma0, low=0.0, high=DIVERGENCE_LIMIT)
    if not normalized and gamma0 != L0:
        raise ArgumentError(
            f"gamma0 must be L0 without a normalizer, where both are |w|/sqrt(N), got {gamma0!r} "
            f"and {L0!r}"
        )
    eta = real_scalar("learning_rate", learning_rate, low=0.0, low_open=True)
    zeta = real_scalar("zeta", zeta, low=0.0)
    n_runs = integer("n_runs", n_runs, low=1, high=MAX_RUNS)
    seed = integer("seed", seed, low=0)
    record_steps = _record_steps(t, M / N)
    n_steps, n_records = int(record_steps[-1]), record_steps.size
    n_threads = default_threads() if n_threads is None else integer("n_threads", n_threads, low=1)
    workers = min(n_threads, n_runs)
    per_sample, weights = (N, 4 * N) if engine == "direct" else (4, 0)
    require_memory(
        workers * 8.0 * (max(per_sample * M, 4 * _BLOCK_NUMBERS // 3) + weights + 4 * M)
        + 64.0 * n_records * n_runs,
        f"{engine} engine with N = {N}, M = {M}, {n_runs} runs and {n_records} records",
        "a smaller batch_size, fewer records or runs"
        + (", or engine='chain'" if engine == "direct" else ""),
    )

    from tqdm import tqdm

    began = time.perf_counter()
    stop = threading.Event()
    with tqdm(total=n_runs * n_steps, unit="step", disable=None if progress else True) as bar:
        make = _Chain if engine == "chain" else _Direct

        def run(i: int) -> NDArray[np.float64]:
            own = np.random.SeedSequence(seed, spawn_key=(i,))
            walker = make(own, S, N, M, (center, scale), learner, truth, eta, zeta * M / N)
            walker.start(gamma0, R0, L0)
            return _follow(walker, record_steps, stop, bar.update)

        values = np.stack(map_runs(run, n_runs, workers, stop), axis=-1)
    status = np.where(np.isnan(values[-1, 0]), "diverged", "budget")
    warn_of_divergence(status)
    return OnlineRun(
        student=learner,
        teacher=truth,
        normalizer=normalizer,
        S=S,
        zeta=zeta,
        batch_size=M,
        learning_rate=eta,
        gamma0=gamma0,
        R0=R0,
        L0=L0,
        N=N,
        engine=engine,
        seed=seed,
        t=np.asarray(record_steps * (M / N), np.float64),
        gamma=values[:, 0],
        R=values[:, 1],
        L=values[:, 2],
        gen_error=pair_error(values[:, 0], values[:, 1], learner, truth),
        status=status,
        seconds=time.perf_counter() - began,
    )


def _record_steps(t: ArrayLike, dt: float) -> NDArray[np.int64]:
    """After how many steps of length `dt` to record, for `t` as in `simulate_online`."""
    times = real_array("t", t, low=0.0)
    if times.ndim > 1 or times.size == 0:
        raise ArgumentError(f"t must be a number or a non-empty 1-D array, got shape {times.shape}")
    if times.size and times.max() / dt > _MAX_STEPS:
        raise ArgumentError(
            f"t must give at most {_MAX_STEPS:g} steps of batch_size samples, "
            f"got {times.max() / dt:g}"
        )
    # A whole number of steps, but for rounding, is that number.
    steps = np.ceil(times / dt - 1e-9).astype(np.int64)
    if times.ndim == 0:
        last = int(steps)
        return np.linspace(0, last, min(_RECORDS, max(last, 1)) + 1).round().astype(np.int64)
    if (np.diff(steps) <= 0).any():
        where = int(np.argmax(np.diff(steps) <= 0))
        raise ArgumentError(
            f"t must increase by at least a step, {dt:.4g}, from one time to the next, got "
            f"{times[where]:g} before {times[where + 1]:g} (element {where + 1})"
        )
    return steps


def _follow(
    walker: Any, record_steps: NDArray[np.int64], stop: threading.Event, tick: Any
) -> NDArray[np.float64]:
    """(gamma, R, L) at each of `record_steps`, shape (n_records, 3); NaN after a divergence."""
    values = np.full((record_steps.size, 3), np.nan)
    done = 0
    for i, step in enumerate(record_steps.tolist()):
        left = step - done
        done = step
        while left and not stop.is_set():
            steps = min(left, walker.block)
            if not walker.advance(steps):
                return values
            left -= steps
            tick(steps)
        values[i] = walker.order_parameters()
    return values


def _slope(activation: LeakyReLU | Student) -> float:
    """The negative side's slope; of an activation with a table it is not read."""
    return activation.slope if isinstance(activation, LeakyReLU) else 0.0


class _Activation:
    """A student's activation in compiled code, tabulated as far out as the fields go."""

    def __init__(self, student: LeakyReLU | Student) -> None:
        self.student = student
        self.width = _FARTHEST
        self.table = None if isinstance(student, LeakyReLU) else student.table(self.width)

    def apply(
        self, state: list[NDArray[np.float64]], steps: Callable[[ActivationTable | None], bool]
    ) -> bool:
        """Take `steps`, which change `state`; again with a wider table where a field left it."""
        before = [array.copy() for array in state] if self.table is not None else []
        while True:
            if steps(self.table):
                return True
            # A field beyond the table makes the state NaN, a divergence makes it large first.
            if self.table is None or self.width >= DIVERGENCE_LIMIT:
                return False
            self.width *= 8.0
            self.table = self.student.table(self.width)
            for array, saved in zip(state, before, strict=True):
                array[:] = saved


class _Chain:
    """The order parameters alone."""

    def __init__(self, seed, S, N, M, switches, student, teacher, eta, decay) -> None:  # type: ignore[no-untyped-def]
        fields, noise, rest = (np.random.default_rng(s) for s in streams(seed, 3))
        self.fields, self.noise, self.rest = fields, noise, rest
        self.S, self.N, self.M = S, N, M
        self.activation = _Activation(student)
        slopes = (_slope(student), _slope(teacher))
        self.options = (*switches, *slopes, eta, decay, DIVERGENCE_LIMIT)
        self.teacher = None if isinstance(teacher, LeakyReLU) else teacher.table(_FARTHEST)
        self.block = max(1, _BLOCK_NUMBERS // (3 * M))

    def start(self, gamma: float, R: float, L: float) -> None:
        self.state = np.array([gamma, L * R, L * math.sqrt((1.0 - R) * (1.0 + R))])

    def order_parameters(self) -> tuple[float, float, float]:
        gamma, parallel, across = self.state
        L = math.hypot(parallel, across)
        return gamma, (parallel / L if L > 0.0 else 0.0), L

    def advance(self, steps: int) -> bool:
        fields = self.fields.standard_normal((steps, 2, self.M))
        noise = np.zeros((steps, self.M))
        if self.S:
            noise = math.sqrt(self.S) * self.noise.standard_normal((steps, self.M))
        rest = self.draw_chi_square(steps)
        return self.activation.apply(
            [self.state],
            lambda table: kernels.online_chain(
                fields, noise, rest, self.state, self.N, *self.options, table, self.teacher
            ),
        )

    def draw_chi_square(self, steps: int) -> NDArray[np.float64]:
        """Squared length, times N, of an input outside the plane of student and teacher."""
        return self.rest.chisquare(self.N - 2, steps)


class _Direct:
    """All N weights."""

    def __init__(self, seed, S, N, M, switches, student, teacher, eta, decay) -> None:  # type: ignore[no-untyped-def]
        inputs, noise, init = (np.random.default_rng(s) for s in streams(seed, 3))
        self.inputs, self.noise, self.init = inputs, noise, init
        self.S, self.N, self.M, self.teacher = S, N, M, teacher
        self.activation = _Activation(student)
        slopes = (_slope(student), _slope(student))
        self.options = (*switches, *slopes, eta, decay, 0.0, DIVERGENCE_LIMIT)
        self.block = max(1, _BLOCK_NUMBERS // (N * M))
        self.normalized = switches[1] != kernels.SCALE_NONE

    def start(self, gamma: float, R: float, L: float) -> None:
        # The teacher is (1, ..., 1); the rest of w points anywhere orthogonal to it.
        v = np.empty(self.N)
        self.init.standard_normal(out=v)
        v -= v.mean()
        v *= math.sqrt(self.N) / float(np.linalg.norm(v))
        self.w = L * (R + math.sqrt((1.0 - R) * (1.0 + R)) * v)
        self.velocity = np.empty(self.N)
        self.state = np.array([gamma, 0.0, L])

    def order_parameters(self) -> tuple[float, float, float]:
        parallel, L = kernels.order_parameters(self.w)
        gamma = self.state[0] if self.normalized else L
        return gamma, (parallel / L if L > 0.0 else 0.0), L

    def advance(self, steps: int) -> bool:
        X = self.inputs.standard_normal((steps * self.M, self.N))
        X *= 1.0 / math.sqrt(self.N)
        z = X.sum(axis=1)
        y = quick_values(self.teacher, z)
        y += math.sqrt(self.S) * self.noise.standard_normal(y.size)
        u, batch_y, c = np.empty(self.M), np.empty(self.M), np.empty(self.M)
        self.velocity[:] = 0.0
        return self.activation.apply(
            [self.state, self.w, self.velocity],
            lambda table: kernels.train_epoch(
                X, y, np.arange(y.size), self.M, self.w, self.velocity, self.state,
                np.empty(0), u, batch_y, c, *self.options, table,
            ),
        )  # fmt: skip
