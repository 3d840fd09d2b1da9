"""Training on a finite set: `simulate_training`, its result, and the large-N limit of it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from replica._core.arguments import (
    ArgumentError,
    ArgumentTypeError,
    choice,
    integer,
    real_array,
    real_scalar,
)
from replica._core.results import over
from replica._core.status import Status
from replica.students import LeakyReLU, StudentLike, as_piecewise

from ._data import claim_memory, default_threads, inputs_key, map_runs, require_memory, streams
from ._dense import dense_memory, run_dense
from ._matrix_free import matrix_free_memory, run_matrix_free
from ._run_statistics import RunStatistics, warn_of_divergence
from ._settings import (
    DIVERGENCE_LIMIT,
    MAX_RUNS,
    MAX_SIZE,
    MAX_VARIANCE,
    NORMALIZERS,
    OBSERVABLES,
    Normalizer,
    Recorder,
    RunRecord,
    TrainingSettings,
    fill_in_gen_errors,
    starting_scale,
)

__all__ = ["TrainingRun", "mean_field_training", "simulate_training"]

Engine = Literal["dense", "matrix-free"]
Precision = Literal["float64", "float32"]
Schedule = Literal["constant", "step", "cosine"]

_MAX_EPOCHS = 10**8  # schedule and slopes hold one number per epoch


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class TrainingRun(RunStatistics):
    """Order parameters and errors along training, one column per run.

    Every observable has shape (n_records, n_runs); `epoch` has shape (n_records,). The student is
    evaluated with the statistics of its whole training set, as in practice; the fields that end in
    ``_population`` use the exact statistics of fresh inputs instead. The two coincide unless the
    normalizer takes statistics from batches ("bn", "bn-mean", "bn-var").

    Attributes
    ----------
    epoch : ndarray
        Epochs at which the observables were measured; 0 is the initial state.
    gamma, R, L : ndarray
        |W|/sqrt(N) of the effective weights W, their overlap W.w*/(|W||w*|) with the teacher, and
        |w|/sqrt(N) of the trained weights w.
    bias : ndarray
        Offset of the field left by the training-set mean ("bn", "bn-mean"; else 0).
    train_error, gen_error : ndarray
        Mean of (y - g(h))^2 over the training set, and E[(z - g(h))^2] on fresh inputs with the
        noise-free teacher field z, exact from (gamma, R, bias).
    energy : ndarray
        (1/2 sum_j (y_j - g(h_j))^2 + zeta |W|^2 / 2) / N, the trained energy per weight.
    dead_fraction : ndarray
        Fraction of all samples with y > 0 whose field is negative.
    norm_ratio : ndarray
        |W| over its value at epoch 0.
    status : ndarray of int8, shape (n_runs,)
        A `Status` per run: CONVERGED (the tolerance was met; the last state is repeated), DONE (all
        epochs used) or DIVERGENT (the records from there on are NaN).
    epochs_done : ndarray of int, shape (n_runs,)
        Epochs actually trained.
    weights, weight_scale : ndarray or None
        Final w of shape (n_runs, N) and the factors that turn w into W; None without weights
        (matrix-free engine). Not in `to_pandas`.
    orthogonality_error : ndarray, shape (n_runs,)
        Largest overlap left between the directions of the matrix-free engine; NaN for "dense".
    gamma_population, train_error_population, gen_error_population : ndarray
        The same with the statistics of fresh inputs.
    seconds : ndarray, shape (n_runs,)
        Wall time of each run.
    data_seeds : tuple
        What the training set of each run was drawn from, for `start`.
    alpha, S, N, student, normalizer, zeta, batch_size, learning_rate, schedule, epochs, momentum
        The arguments of `simulate_training`, with their defaults filled in.
    dropout, gamma0, L0, anneal, tolerance, start, engine, seed, data_seed, dtype
        The same; `n_runs` is a property, and `epoch` stands for its `record`.
    """

    _problem = (
        "alpha", "S", "N", "student", "normalizer", "zeta", "batch_size", "learning_rate",
        "schedule", "epochs", "momentum", "dropout", "gamma0", "L0", "anneal", "tolerance", "start",
        "engine", "n_runs", "seed", "data_seed", "dtype",
    )  # fmt: skip
    _observables: ClassVar[tuple[str, ...]] = OBSERVABLES

    alpha: float
    S: float
    N: int
    student: LeakyReLU
    normalizer: Normalizer
    zeta: float
    batch_size: int
    learning_rate: float
    schedule: Schedule | tuple[float, ...]
    epochs: int
    momentum: float
    dropout: float
    gamma0: float
    L0: float
    anneal: float
    tolerance: float
    start: TrainingRun | None
    engine: Engine
    seed: int
    data_seed: int | None
    dtype: np.dtype[Any]
    epoch: NDArray[np.int64] = over("epoch")
    gamma: NDArray[np.float64] = over("epoch", "run")
    R: NDArray[np.float64] = over("epoch", "run")
    L: NDArray[np.float64] = over("epoch", "run")
    bias: NDArray[np.float64] = over("epoch", "run")
    train_error: NDArray[np.float64] = over("epoch", "run")
    gen_error: NDArray[np.float64] = over("epoch", "run")
    energy: NDArray[np.float64] = over("epoch", "run")
    dead_fraction: NDArray[np.float64] = over("epoch", "run")
    norm_ratio: NDArray[np.float64] = over("epoch", "run")
    gamma_population: NDArray[np.float64] = over("epoch", "run")
    train_error_population: NDArray[np.float64] = over("epoch", "run")
    gen_error_population: NDArray[np.float64] = over("epoch", "run")
    status: NDArray[np.int8] = over("run")
    epochs_done: NDArray[np.int64] = over("run")
    seconds: NDArray[np.float64] = over("run")
    weights: NDArray[Any] | None = over("run", "weight", in_frames=False)
    weight_scale: NDArray[np.float64] = over("run")
    orthogonality_error: NDArray[np.float64] = over("run")
    data_seeds: tuple[np.random.SeedSequence | None, ...]

    def _curve_name(self) -> str:
        return f"{self.normalizer}, {self.student.name}"


def simulate_training(
    alpha: float,
    S: float,
    *,
    N: int = 4096,
    student: StudentLike = "linear",
    normalizer: Normalizer = "none",
    zeta: float = 0.0,
    batch_size: int | None = None,
    learning_rate: float = 0.1,
    schedule: Schedule | Sequence[float] = "constant",
    epochs: int = 100,
    momentum: float = 0.0,
    dropout: float = 0.0,
    gamma0: float | None = None,
    L0: float | None = None,
    anneal: bool | float = False,
    tolerance: float = 0.0,
    start: TrainingRun | None = None,
    engine: Engine = "dense",
    n_runs: int | None = None,
    seed: int = 0,
    data_seed: int | None = None,
    dtype: Precision | np.dtype[Any] | type[np.floating[Any]] = "float64",
    record: int | Sequence[int] | None = None,
    n_threads: int | None = None,
    progress: bool = True,
) -> TrainingRun:
    """Train a student on P = alpha N samples of a noisy linear teacher by mini-batch SGD.

    The energy is ``1/2 sum_j (y_j - g(h_j))^2 + zeta |W|^2 / 2`` (sum convention; in the mean
    convention of the paper's loss the coefficient is zeta / alpha). One step of rate eta follows
    the gradient of the sum over one batch plus the batch's share M/P of the penalty, so that an
    epoch of small steps is one step of rate eta on the whole energy. With a normalizer the
    trained parameters are w and the scale v = sqrt(N) gamma, and the penalty is zeta v^2 / 2
    (gamma decay).

    Parameters
    ----------
    alpha : float
        Load P/N; P = round(alpha N) must be at least 1.
    S : float
        Variance of the teacher's noise.
    N : int
        Number of inputs, at least 3.
    student : "linear", "relu" or LeakyReLU
        The activation g, piecewise linear; `simulate_online` takes any.
    normalizer : {"none", "wn", "pn", "bn", "bn-var", "bn-mean"}
        "none": h = w.x. "wn" and "pn": h = sqrt(N) gamma w.x/|w|; normalization by the population
        statistics of inputs N(0, I/N) is weight normalization (eq. 4), so the two are one.
        "bn": h = gamma (w.x - mu_B)/sigma_B. "bn-var": h = gamma w.x/sigma_B with
        sigma_B^2 the batch mean of (w.x)^2, the student of section 4. "bn-mean":
        h = sqrt(N) gamma (w.x - mu_B)/|w|. Gradients pass through the batch statistics.
    zeta : float
        Weight decay ("none") or gamma decay, sum convention.
    batch_size : int, optional
        Samples per step, in [1, P] and at least 2 with batch statistics. By default 32 (P if that
        is smaller), and P for the matrix-free engine. Rows beyond the last full batch of an epoch
        wait for the next shuffle.
    learning_rate : float
        eta. Full-batch descent without normalizer is stable below
        2 / ((1 + sqrt(alpha))^2 + zeta).
    schedule : str or sequence of float
        "constant", "step" (a tenth after 50 % and a hundredth after 75 % of the epochs), "cosine"
        (half a cosine to 0), or one factor per epoch.
    epochs : int
        Passes over the training set, at least 0.
    momentum : float
        Heavy-ball coefficient in [0, 1).
    dropout : float
        Probability in [0, 1) that an output is dropped; kept ones are divided by 1 - dropout.
    gamma0 : float, optional
        Initial gamma: 1 by default, without a normalizer L0 and nothing else.
    L0 : float, optional
        Initial |w|/sqrt(N), in the mean square: 1 with a normalizer, 0.01 without. The entries of w
        are N(0, L0^2), so that the length and R = 0 of a run are met up to O(1/sqrt(N)).
    anneal : bool or float
        For slopes below 1: take the negative side's slope of the samples with y > 0 linearly from
        1 to the student's own over this fraction of the epochs (True: 0.5). This finds far lower
        minima of the non-convex energy than descent from a random start.
    tolerance : float
        Stop once |W| changes by less than `tolerance` |W| within an epoch; 0 never stops early.
    start : TrainingRun, optional
        Continue from the final effective weights of that run on the same training sets, possibly
        with another normalizer (fine-tuning after batch normalization is frozen).
    engine : "dense" or "matrix-free"
        "matrix-free" simulates full-batch training exactly in law without the data matrix;
        memory and time do not grow with P N.
    n_runs : int, optional
        Independent runs, 1 by default.
    seed : int
        Seed of everything; the result does not depend on the number of threads.
    data_seed : int, optional
        Let all runs share the training set of this seed; by default each has its own. Dense engine
        only.
    dtype : "float64" or "float32"
        Precision of the data and the weights.
    record : int or sequence of int, optional
        Measure every so many epochs, or at these; about 20 times by default. 0 and the last
        epoch are always included. Each measurement costs half an epoch.
    n_threads : int, optional
        Threads; by default one per processor, and one in a worker thread or process (sweeps).
    progress : bool
        Show a progress bar on a terminal.

    Returns
    -------
    TrainingRun

    Raises
    ------
    ValueError, TypeError
        For arguments out of range.
    MemoryError
        Before any work, if the predicted peak does not fit into the available memory.

    Warns
    -----
    ConvergenceWarning
        If a run diverged.

    Notes
    -----
    Theory: :eq:`eq-training-energy` and :eq:`eq-deferred` in :doc:`/simulation`.

    Examples
    --------
    >>> run = simulate_training(2.0, 0.25, N=200, zeta=0.25, batch_size=400, epochs=60, seed=1)
    >>> run.messages[0], bool(run.gen_error[-1, 0] < run.gen_error[0, 0])
    ('all steps that were asked for are done', True)
    """
    alpha = real_scalar("alpha", alpha, low=0.0, low_open=True)
    S = real_scalar("S", S, low=0.0, high=MAX_VARIANCE)
    N = integer("N", integer("N", N, low=3), high=MAX_SIZE)
    student = as_piecewise(student, what="simulate_training")
    normalizer = cast(Normalizer, choice("normalizer", normalizer, NORMALIZERS))
    engine = cast(Engine, choice("engine", engine, get_args(Engine)))
    if alpha * N > MAX_SIZE:
        raise ArgumentError(f"alpha must give at most {MAX_SIZE:g} samples, got {alpha * N:g}")
    P = round(alpha * N)
    if P < 1:
        raise ArgumentError(f"alpha must give at least one sample, got alpha * N = {alpha * N:g}")
    normalization = NORMALIZERS[normalizer]
    if batch_size is None:
        batch_size = min(32, P) if engine == "dense" else P
    batch_size = integer("batch_size", batch_size, low=normalization.smallest_batch, high=P)
    if engine == "matrix-free" and batch_size != P:
        raise ArgumentError(
            f"batch_size must be P = {P} (or None) with engine='matrix-free', got {batch_size}"
        )
    if L0 is None:
        L0 = 1.0 if normalization.has_gamma else 0.01
    L0 = real_scalar("L0", L0, low=0.0, high=DIVERGENCE_LIMIT, low_open=normalization.has_gamma)
    epochs = integer("epochs", epochs, low=0)
    if epochs > _MAX_EPOCHS:
        raise ArgumentError(f"epochs must be at most {_MAX_EPOCHS}, got {epochs}")
    if engine == "matrix-free" and data_seed is not None:
        raise ArgumentError(
            "data_seed needs engine='dense': without the data matrix every run draws its own"
        )
    if engine == "matrix-free" and epochs + 2 > min(N, P):
        raise ArgumentError(
            f"epochs must be at most min(N, P) - 2 = {min(N, P) - 2} with engine='matrix-free', "
            f"got {epochs}; the dense engine is the right one there"
        )
    learning_rate = real_scalar("learning_rate", learning_rate, low=0.0, low_open=True)
    factors = _schedule(schedule, epochs)
    anneal = _anneal(anneal)
    anneal_epochs = round(anneal * epochs)
    dtype = _dtype(dtype)
    settings = TrainingSettings(
        alpha=alpha,
        S=S,
        N=N,
        P=P,
        student=student,
        normalizer=normalizer,
        zeta=real_scalar("zeta", zeta, low=0.0),
        batch_size=batch_size,
        rates=learning_rate * factors,
        up_slopes=_up_slopes(student.slope, anneal_epochs, epochs),
        momentum=real_scalar("momentum", momentum, low=0.0, high=1.0, high_open=True),
        dropout=real_scalar("dropout", dropout, low=0.0, high=1.0, high_open=True),
        gamma0=starting_scale(normalizer, gamma0, L0),
        L0=L0,
        tolerance=real_scalar("tolerance", tolerance, low=0.0),
        anneal_epochs=anneal_epochs,
        record_epochs=_record_epochs(record, epochs),
        dtype=dtype,
    )
    seed = integer("seed", seed, low=0)
    data_seeds: list[np.random.SeedSequence | None]
    starts: list[tuple[NDArray[Any], float] | None]
    if start is None:
        n_runs = 1 if n_runs is None else integer("n_runs", n_runs, low=1, high=MAX_RUNS)
        shared = None if data_seed is None else np.random.SeedSequence(
            integer("data_seed", data_seed, low=0)
        )  # fmt: skip
        starts = [None] * n_runs
        root = np.random.SeedSequence(seed)
        seeds = root.spawn(n_runs)
        data_seeds = [shared] * n_runs
    else:
        starts, data_seeds = _continue_from(start, settings, engine, n_runs, data_seed)
        n_runs = len(starts)
        seeds = np.random.SeedSequence((seed, 1)).spawn(n_runs)
    n_threads = default_threads() if n_threads is None else integer("n_threads", n_threads, low=1)

    records = _run_all(settings, engine, seeds, data_seeds, starts, n_threads, progress)
    arguments = {
        "learning_rate": learning_rate,
        "schedule": schedule if isinstance(schedule, str) else tuple(factors.tolist()),
        "epochs": epochs,
        "anneal": anneal,
        "start": start,
        "engine": engine,
        "seed": seed,
        "data_seed": data_seed,
    }
    return _collect(settings, arguments, seeds, data_seeds, records)


def mean_field_training(
    alpha: float,
    S: float,
    *,
    n_samples: int = 100_000,
    n_runs: int = 8,
    epochs: int = 100,
    seed: int = 0,
    **options: Any,
) -> TrainingRun:
    """Order parameters of full-batch training in the limit N -> infinity, by Monte Carlo.

    Runs the matrix-free engine at N = `n_samples`. Its deviation from the limit (dynamical
    mean-field theory) has a mean of order 1/N, which the scatter of order 1/sqrt(N) between runs
    outweighs by far, so ``run.mean(...)`` estimates the limit and ``run.standard_error(...)`` is
    its Monte-Carlo error.

    Parameters
    ----------
    alpha, S : float
        Load and noise variance.
    n_samples : int
        N of each run; memory and time grow linearly with it.
    n_runs : int
        Independent runs, at least 2 for an error estimate.
    epochs : int
        Gradient steps; time grows quadratically with them.
    seed : int
        Seed of everything.
    **options
        Any option of `simulate_training` but ``N``, ``engine`` and ``batch_size``.

    Returns
    -------
    TrainingRun

    Notes
    -----
    Theory: :eq:`eq-deferred` in :doc:`/simulation`.

    Examples
    --------
    >>> curve = mean_field_training(2.0, 0.0, n_samples=2000, epochs=5, learning_rate=0.1)
    >>> bool(abs(curve.mean("R")[-1] - 1.0) < 0.2)
    True
    """
    n_runs = integer("n_runs", n_runs, low=2)
    if "student" in options:
        options["student"] = as_piecewise(options["student"], what="mean_field_training")
    for name in ("N", "engine", "batch_size", "start"):
        if name in options:
            raise ArgumentTypeError(
                f"mean_field_training takes no {name}; it sets the engine itself"
            )
    n_samples = integer("n_samples", integer("n_samples", n_samples, low=3), high=MAX_SIZE)
    return simulate_training(
        alpha,
        S,
        N=n_samples,
        engine="matrix-free",
        n_runs=n_runs,
        epochs=epochs,
        seed=seed,
        **options,
    )


def _schedule(schedule: Schedule | Sequence[float], epochs: int) -> NDArray[np.float64]:
    """One learning-rate factor per epoch."""
    if isinstance(schedule, str):
        choice("schedule", schedule, get_args(Schedule))
        done = np.arange(epochs) / max(epochs, 1)
        if schedule == "constant":
            return np.ones(epochs)
        if schedule == "step":
            return np.where(done < 0.5, 1.0, np.where(done < 0.75, 0.1, 0.01))
        return 0.5 * (1.0 + np.cos(np.pi * done))
    factors = real_array("schedule", schedule, low=0.0)
    if factors.shape != (epochs,):
        raise ArgumentError(
            f"schedule must hold one factor per epoch, shape ({epochs},), got {factors.shape}"
        )
    return factors


def _dtype(dtype: Any) -> np.dtype[Any]:
    try:
        name = str(dtype) if dtype is None else np.dtype(dtype).name
    except TypeError:  # NumPy's message does not name the argument
        name = str(dtype)
    return np.dtype(choice("dtype", name, ("float64", "float32")))


def _anneal(anneal: bool | float) -> float:
    """The fraction of the epochs over which the slope is annealed."""
    if isinstance(anneal, bool):
        anneal = 0.5 if anneal else 0.0
    return real_scalar("anneal", anneal, low=0.0, high=1.0)


def _up_slopes(slope: float, anneal_epochs: int, epochs: int) -> NDArray[np.float64]:
    up_slopes = np.full(epochs, slope)
    up_slopes[:anneal_epochs] = np.linspace(1.0, slope, anneal_epochs + 1)[:anneal_epochs]
    return up_slopes


def _record_epochs(record: int | Sequence[int] | None, epochs: int) -> NDArray[np.int64]:
    if record is None:
        wanted = np.linspace(0, epochs, min(epochs, 20) + 1).round().astype(np.int64)
    elif isinstance(record, Sequence | np.ndarray) and not isinstance(record, str):
        wanted = np.array([integer("record", e, low=0, high=epochs) for e in record], np.int64)
    else:
        wanted = np.arange(0, epochs, integer("record", record, low=1), dtype=np.int64)
    return np.unique(np.concatenate([[0], wanted, [epochs]])).astype(np.int64)


def _continue_from(
    start: TrainingRun,
    settings: TrainingSettings,
    engine: Engine,
    n_runs: int | None,
    data_seed: int | None,
) -> tuple[list[tuple[NDArray[Any], float] | None], list[np.random.SeedSequence | None]]:
    """Initial (w, gamma) and training set of each run that continues `start`."""
    if not isinstance(start, TrainingRun):
        raise ArgumentTypeError(f"start must be a TrainingRun, got {type(start).__name__}")
    if start.weights is None or engine != "dense":
        raise ArgumentError("start must hold weights, which only engine='dense' produces and takes")
    if data_seed is not None:
        raise ArgumentError("data_seed must not be given with start, whose training sets are used")
    for name in ("alpha", "S", "N"):
        theirs, ours = getattr(start, name), getattr(settings, name)
        if theirs != ours:
            raise ArgumentError(f"{name} must equal that of start, {theirs:g}, got {ours:g}")
    if start.weights.dtype != settings.dtype:
        raise ArgumentError(f"dtype must equal that of start, {start.weights.dtype}")
    if n_runs is not None and n_runs != start.n_runs:
        raise ArgumentError(f"n_runs must equal that of start, {start.n_runs}, got {n_runs}")
    if np.any(start.status == Status.DIVERGENT):
        raise ArgumentError("start must not contain runs that diverged")
    starts: list[tuple[NDArray[Any], float] | None] = []
    for i, w in enumerate(start.weights):
        if settings.normalizer == start.normalizer:
            starts.append((w, float(start.gamma_population[-1, i])))
        else:
            starts.append((start.weight_scale[i] * w, float(start.gamma[-1, i])))
    return starts, list(start.data_seeds)


def _run_all(
    settings: TrainingSettings,
    engine: Engine,
    seeds: list[np.random.SeedSequence],
    data_seeds: list[np.random.SeedSequence | None],
    starts: list[tuple[NDArray[Any], float] | None],
    n_threads: int,
    progress: bool,
) -> list[RunRecord]:
    """Run every seed, as many at a time as threads and memory allow; the others wait."""
    from tqdm import tqdm

    n_runs = len(seeds)
    need = dense_memory(settings) if engine == "dense" else matrix_free_memory(settings)
    advice = "a smaller N or alpha, dtype='float32', or "
    advice += "engine='matrix-free' (full batch)" if engine == "dense" else "fewer epochs"
    what = f"one run with P = {settings.P}, N = {settings.N}, engine={engine!r}"
    require_memory(need, what, advice)
    workers = min(n_runs, n_threads) if engine == "dense" else 1
    stop = threading.Event()
    total = n_runs * settings.epochs
    with tqdm(total=total, unit="epoch", disable=None if progress else True) as bar:

        def run(i: int) -> RunRecord:
            recorder = Recorder(settings, lambda: bar.update())
            data_seed = data_seeds[i] or streams(seeds[i], 1)[0]
            key = (engine, *inputs_key(settings.P, settings.N, data_seed, settings.dtype))
            if engine != "dense":
                key = (*key, object())  # shares nothing
            # An overflow is recorded as divergence.
            with claim_memory(key, need, stop), np.errstate(over="ignore", invalid="ignore"):
                if engine == "dense":
                    return run_dense(settings, seeds[i], data_seeds[i], starts[i], recorder, stop)
                return run_matrix_free(settings, seeds[i], recorder, n_threads)

        return map_runs(run, n_runs, workers, stop)


def _collect(
    settings: TrainingSettings,
    arguments: dict[str, Any],
    seeds: list[np.random.SeedSequence],
    data_seeds: list[np.random.SeedSequence | None],
    records: list[RunRecord],
) -> TrainingRun:
    values = np.stack([record.values for record in records], axis=-1)
    status = np.array([record.status for record in records], np.int8)
    warn_of_divergence(status)
    observables: dict[str, Any] = {name: values[:, i] for i, name in enumerate(OBSERVABLES)}
    fill_in_gen_errors(observables, settings.student.slope)
    weights = [record.weights for record in records if record.weights is not None]
    return TrainingRun(
        alpha=settings.alpha,
        S=settings.S,
        N=settings.N,
        student=settings.student,
        normalizer=settings.normalizer,
        zeta=settings.zeta,
        batch_size=settings.batch_size,
        momentum=settings.momentum,
        dropout=settings.dropout,
        gamma0=settings.gamma0,
        L0=settings.L0,
        tolerance=settings.tolerance,
        dtype=settings.dtype,
        **arguments,
        epoch=settings.record_epochs,
        **observables,
        status=status,
        epochs_done=np.array([record.epochs_done for record in records]),
        seconds=np.array([record.seconds for record in records]),
        weights=np.stack(weights) if weights else None,
        weight_scale=np.array([record.weight_scale for record in records]),
        orthogonality_error=np.array([record.orthogonality_error for record in records]),
        data_seeds=tuple(
            given or streams(own, 1)[0] for given, own in zip(data_seeds, seeds, strict=True)
        ),
    )
