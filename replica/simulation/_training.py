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
from replica._core.student_values import refuse_jumps
from replica.inputs import Clusters, Inputs, Isotropic, as_inputs
from replica.labels import Flip, NoiseLike, NoiseWord, as_noise, check_labels
from replica.losses import SQUARE, Loss, LossLike, as_loss
from replica.students import LINEAR, SIGN, LeakyReLU, Student, StudentLike, as_student

from ._data import claim_memory, default_threads, inputs_key, map_runs, require_memory, streams
from ._dense import dense_memory, run_dense
from ._inputs import field_variance
from ._matrix_free import matrix_free_memory, run_matrix_free
from ._minimize import minimizer_memory, run_minimizer
from ._run_statistics import RunStatistics, warn_of_failures
from ._settings import (
    DIVERGENCE_LIMIT,
    MAX_RUNS,
    MAX_SIZE,
    MAX_VARIANCE,
    NORMALIZERS,
    OBSERVABLES,
    Method,
    Normalizer,
    Recorder,
    RunRecord,
    TrainingSettings,
    fill_in_fresh,
    starting_scale,
)
from ._tables import Tables, has_kinks

__all__ = ["TrainingRun", "mean_field_training", "simulate_training"]

Engine = Literal["dense", "matrix-free"]
Precision = Literal["float64", "float32"]
Schedule = Literal["constant", "step", "cosine"]

_MAX_EPOCHS = 10**8  # schedule and slopes hold one number per epoch
_EPOCHS: dict[Method, int] = {"sgd": 100, "newton": 1000, "l-bfgs": 10_000}
# L-BFGS compares energies, whose rounding hides gradients smaller than about 1e-8.
_TOLERANCE: dict[Method, float] = {"sgd": 0.0, "newton": 1e-10, "l-bfgs": 1e-7}


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
    train_error : ndarray
        Mean of (y - g(h))^2 over the training set.
    gen_error : ndarray
        On fresh inputs, exact from (gamma, R, bias): E[(phi(z) - g(h))^2] against the noise-free
        output of the teacher, or for a loss of margins the `error_rate`.
    train_loss, test_loss : ndarray
        Mean of l(y, g(h)) over the training set, and its average over fresh noisy samples.
    train_error_rate, error_rate : ndarray
        Where labels are signs: the fraction of training labels with y h <= 0, and for a sign
        teacher P(sign h != sign z) on fresh inputs, arccos(R)/pi without bias; else NaN.
    energy : ndarray
        (sum_j l(y_j, g(h_j)) + zeta |W|^2 / 2) / N, the trained energy per weight.
    dead_fraction : ndarray
        Fraction of all samples with y > 0 whose field is negative.
    norm_ratio : ndarray
        |W| over its value at epoch 0.
    status : ndarray of int8, shape (n_runs,)
        A `Status` per run: CONVERGED (the tolerance was met; the last state is repeated), DONE (all
        epochs used), DIVERGENT (the records from there on are NaN), or of a minimizer
        MAX_ITERATIONS, or NEEDS_DECAY or DIVERGENT where without decay there are many minima or
        none (the last record is NaN).
    epochs_done : ndarray of int, shape (n_runs,)
        Epochs actually trained, or iterations of a minimizer.
    gradient_norm, duality_gap : ndarray, shape (n_runs,)
        At the end of a minimizer: |gradient|/sqrt(N) (of a loss with kinks with the best slopes
        found at them), and where the energy is convex and zeta > 0 a bound on (energy -
        minimum)/energy; else NaN.
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
    alpha, S, N, student, teacher, noise, loss, normalizer, zeta, method, batch_size, learning_rate
        The arguments of `simulate_training`, with their defaults filled in.
    schedule, epochs, momentum, dropout, gamma0, L0, anneal, tolerance, start, engine
        The same, too.
    seed, data_seed, dtype
        The same; `n_runs` is a property, and `epoch` stands for its `record`.
    """

    _problem = (
        "alpha", "S", "N", "student", "teacher", "noise", "loss", "inputs", "normalizer", "zeta",
        "method", "batch_size", "learning_rate", "schedule", "epochs", "momentum", "dropout",
        "gamma0", "L0", "anneal", "tolerance", "start", "engine", "n_runs", "seed", "data_seed",
        "dtype",
    )  # fmt: skip
    _observables: ClassVar[tuple[str, ...]] = OBSERVABLES

    alpha: float
    S: float
    N: int
    student: LeakyReLU | Student
    teacher: LeakyReLU | Student
    noise: NoiseWord | Flip
    loss: Loss
    inputs: Inputs
    normalizer: Normalizer
    zeta: float
    method: Method
    batch_size: int
    learning_rate: float | None
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
    train_loss: NDArray[np.float64] = over("epoch", "run")
    test_loss: NDArray[np.float64] = over("epoch", "run")
    train_error_rate: NDArray[np.float64] = over("epoch", "run")
    error_rate: NDArray[np.float64] = over("epoch", "run")
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
    gradient_norm: NDArray[np.float64] = over("run")
    duality_gap: NDArray[np.float64] = over("run")
    data_seeds: tuple[np.random.SeedSequence | None, ...]

    def _curve_name(self) -> str:
        parts = [self.normalizer, self.student.name]
        if self.loss != SQUARE:
            parts.append(self.loss.name)
        return ", ".join(parts)


def simulate_training(
    alpha: float,
    S: float,
    *,
    N: int = 4096,
    student: StudentLike = "linear",
    teacher: StudentLike = "linear",
    noise: NoiseLike = "output",
    loss: LossLike = "square",
    inputs: Inputs | None = None,
    normalizer: Normalizer = "none",
    zeta: float = 0.0,
    method: Method = "sgd",
    batch_size: int | None = None,
    learning_rate: float | None = None,
    schedule: Schedule | Sequence[float] = "constant",
    epochs: int | None = None,
    momentum: float = 0.0,
    dropout: float = 0.0,
    gamma0: float | None = None,
    L0: float | None = None,
    anneal: bool | float = False,
    tolerance: float | None = None,
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
    """Train a student on P = alpha N samples of a noisy teacher, by SGD or to the minimum.

    The energy is ``sum_j l(y_j, g(h_j)) + zeta |W|^2 / 2`` (sum convention; in the mean
    convention of the paper's loss the coefficient is zeta / alpha), with l half the square of
    y - g by default. One step of rate eta follows the gradient of the sum over one batch plus the
    batch's share M/P of the penalty, so that an epoch of small steps is one step of rate eta on the
    whole energy. With a normalizer the trained parameters are w and the scale v = sqrt(N) gamma,
    and the penalty is zeta v^2 / 2 (gamma decay).

    Parameters
    ----------
    alpha : float
        Load P/N; P = round(alpha N) must be at least 1.
    S : float
        Variance of the labels' noise s.
    N : int
        Number of inputs, at least 3.
    student : str, LeakyReLU, Student or function
        The activation g, continuous: "linear", "relu", "erf", "tanh", ..., or your own.
    teacher : str, LeakyReLU, Student or function
        The activation phi of the teacher with field z = w*.x.
    noise : {"output", "input", "logistic"} or Flip
        Labels y = phi(z) + s; y = phi(z + s); the same with s of the logistic law; or
        y = +-phi(z + s), the sign turned with a probability.
    loss : str or Loss
        "square", "absolute", "huber", "epsilon-insensitive", "quantile" of y - g, or "hinge",
        "squared-hinge", "logistic", "exponential" of y g (labels that are signs); or your own.
    inputs : Inputs, optional
        `Isotropic()` (the default), `Spectrum`, `PowerLaw`, `RandomFeatures` (as they are, not
        Gaussian inputs of the same covariance: N features) or `Clusters` without a bias, for a
        linear student, whose labels are those of the clusters. Dense engine, no normalizer.
    normalizer : {"none", "wn", "pn", "bn", "bn-var", "bn-mean"}
        "none": h = w.x. "wn" and "pn": h = sqrt(N) gamma w.x/|w|; normalization by the population
        statistics of inputs N(0, I/N) is weight normalization (eq. 4), so the two are one.
        "bn": h = gamma (w.x - mu_B)/sigma_B. "bn-var": h = gamma w.x/sigma_B with
        sigma_B^2 the batch mean of (w.x)^2, the student of section 4. "bn-mean":
        h = sqrt(N) gamma (w.x - mu_B)/|w|. Gradients pass through the batch statistics.
    zeta : float
        Weight decay ("none") or gamma decay, sum convention.
    method : {"sgd", "newton", "l-bfgs"}
        "sgd" descends by the options below. The others minimize, in float64 with the dense engine:
        "newton" finds the minimum of every convex loss, with kinks or not, for the linear student
        without normalizer; it factorizes matrices of size min(N, P). "l-bfgs" takes any student,
        loss and normalizer without kinks and finds the minimum where the energy is convex, else a
        local one. Both record the start (as epoch 0) and the minimum (as epoch 1) only.
    batch_size : int, optional
        Samples per step, in [1, P] and at least 2 with batch statistics. By default 32 (P if that
        is smaller), and P for the matrix-free engine. Rows beyond the last full batch of an epoch
        wait for the next shuffle.
    learning_rate : float
        eta, 0.1 by default. Full-batch descent of the square loss without normalizer is stable
        below 2 / ((1 + sqrt(alpha))^2 + zeta).
    schedule : str or sequence of float
        "constant", "step" (a tenth after 50 % and a hundredth after 75 % of the epochs), "cosine"
        (half a cosine to 0), or one factor per epoch.
    epochs : int, optional
        Passes over the training set, at least 0; of a minimizer the most iterations. By default
        100 ("sgd"), 1000 ("newton"), 10,000 ("l-bfgs").
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
        For piecewise-linear students: take the negative side's slope of the samples with y > 0
        linearly from 1 to the student's own over this fraction of the epochs (True: 0.5). This
        finds far lower minima of the non-convex energy than descent from a random start.
    tolerance : float, optional
        "sgd": stop once |W| changes by less than `tolerance` |W| within an epoch; 0, the default,
        never stops early. Minimizers have converged when the gradient is below `tolerance` times
        |dl/dh| at w = 0, by default 1e-10 ("newton") and 1e-7 ("l-bfgs"); with kinks, when the
        `duality_gap` is below it.
    start : TrainingRun, optional
        Continue from the final effective weights of that run on the same training sets, possibly
        with another loss or normalizer (fine-tuning after batch normalization is frozen).
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
        epoch are always included. Each measurement costs half an epoch. "sgd" only.
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
        If a run diverged, or a minimizer did not converge.

    See Also
    --------
    replica.gen_error, replica.solve_equilibrium : What the minimum is for large N.

    Notes
    -----
    Theory: :eq:`eq-training-energy` and :eq:`eq-deferred` in :doc:`/simulation`. Losses and
    activations of your own are read from tables that are exact to rounding.

    Examples
    --------
    >>> run = simulate_training(2.0, 0.25, N=200, zeta=0.25, batch_size=400, epochs=60, seed=1)
    >>> run.messages[0], bool(run.gen_error[-1, 0] < run.gen_error[0, 0])
    ('all steps that were asked for are done', True)
    >>> svm = simulate_training(2.0, 0.0, N=100, teacher="sign", loss="hinge", zeta=0.1,
    ...                         method="newton")
    >>> svm.messages[0], bool(svm.duality_gap[0] < 1e-9)
    ('converged', True)
    """
    alpha = real_scalar("alpha", alpha, low=0.0, low_open=True)
    S = real_scalar("S", S, low=0.0, high=MAX_VARIANCE)
    N = integer("N", integer("N", N, low=3), high=MAX_SIZE)
    student = as_student(student)
    refuse_jumps(student)
    teacher = as_student(teacher, name="teacher")
    noise, loss = as_noise(noise), as_loss(loss)
    where = as_inputs(inputs)
    if isinstance(where, Clusters):
        teacher = _check_clusters(where, student, teacher, noise, S)
    check_labels(loss, teacher, noise, S)
    method = cast(Method, choice("method", method, get_args(Method)))
    normalizer = cast(Normalizer, choice("normalizer", normalizer, NORMALIZERS))
    engine = cast(Engine, choice("engine", engine, get_args(Engine)))
    if not isinstance(where, Isotropic):
        if normalizer != "none" or engine != "dense":
            raise ArgumentError(
                "inputs that are not isotropic need normalizer='none' and engine='dense', "
                f"got {normalizer!r} and {engine!r}"
            )
        field_variance(where, N)  # refuses what N columns cannot hold
    if alpha * N > MAX_SIZE:
        raise ArgumentError(f"alpha must give at most {MAX_SIZE:g} samples, got {alpha * N:g}")
    P = round(alpha * N)
    if P < 1:
        raise ArgumentError(f"alpha must give at least one sample, got alpha * N = {alpha * N:g}")
    normalization = NORMALIZERS[normalizer]
    if batch_size is None:
        batch_size = min(32, P) if engine == "dense" and method == "sgd" else P
    batch_size = integer("batch_size", batch_size, low=normalization.smallest_batch, high=P)
    if engine == "matrix-free" and batch_size != P:
        raise ArgumentError(
            f"batch_size must be P = {P} (or None) with engine='matrix-free', got {batch_size}"
        )
    if L0 is None:
        L0 = 1.0 if normalization.has_gamma else 0.01
    L0 = real_scalar("L0", L0, low=0.0, high=DIVERGENCE_LIMIT, low_open=normalization.has_gamma)
    epochs = _EPOCHS[method] if epochs is None else integer("epochs", epochs, low=0)
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
    if learning_rate is None:
        learning_rate = 0.1 if method == "sgd" else None
    else:
        learning_rate = real_scalar("learning_rate", learning_rate, low=0.0, low_open=True)
    tolerance = _TOLERANCE[method] if tolerance is None else tolerance
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
        teacher=teacher,
        noise=noise,
        loss=loss,
        inputs=where,
        normalizer=normalizer,
        zeta=real_scalar("zeta", zeta, low=0.0),
        method=method,
        batch_size=batch_size,
        rates=factors if learning_rate is None else learning_rate * factors,
        up_slopes=_up_slopes(student, anneal_epochs, epochs),
        momentum=real_scalar("momentum", momentum, low=0.0, high=1.0, high_open=True),
        dropout=real_scalar("dropout", dropout, low=0.0, high=1.0, high_open=True),
        gamma0=starting_scale(normalizer, gamma0, L0),
        L0=L0,
        tolerance=real_scalar("tolerance", tolerance, low=0.0),
        anneal_epochs=anneal_epochs,
        record_epochs=_record_epochs(record, epochs if method == "sgd" else min(epochs, 1)),
        dtype=dtype,
    )
    if method != "sgd":
        _check_minimizer(settings, engine, learning_rate, schedule)
    Tables(student, loss)  # refused here rather than in a thread
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
    for name in ("N", "engine", "batch_size", "start", "method"):
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


def _check_clusters(
    inputs: Clusters,
    student: LeakyReLU | Student,
    teacher: LeakyReLU | Student,
    noise: Any,
    S: float,
) -> Student:
    """Refuse what two clusters do not have; their labels are signs, as those of a sign teacher."""
    if student != LINEAR or inputs.bias:
        raise ArgumentError(
            "inputs=Clusters serves the linear student without a bias, "
            f"got {student.name!r} and {inputs!r}"
        )
    if teacher not in (LINEAR, SIGN) or noise != "output" or S != 0.0:
        raise ArgumentError(
            "inputs=Clusters has the labels of its clusters: no teacher, noise='output' and S = 0, "
            f"got {teacher.name!r}, {noise!r} and {S!r}"
        )
    return SIGN


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


def _up_slopes(
    student: LeakyReLU | Student, anneal_epochs: int, epochs: int
) -> NDArray[np.float64]:
    if not isinstance(student, LeakyReLU):
        if anneal_epochs:
            raise ArgumentError(
                "anneal lowers the slope of the negative side and serves piecewise-linear students "
                f"only ('relu', LeakyReLU(slope)), got {student.name!r}"
            )
        return np.full(epochs, np.nan)
    slope = student.slope
    up_slopes = np.full(epochs, slope)
    up_slopes[:anneal_epochs] = np.linspace(1.0, slope, anneal_epochs + 1)[:anneal_epochs]
    return up_slopes


def _check_minimizer(
    settings: TrainingSettings, engine: Engine, learning_rate: float | None, schedule: Any
) -> None:
    """Refuse what a minimizer cannot do, and options of SGD that it would not look at."""
    method, loss = settings.method, settings.loss
    for name, value, needed in (
        ("engine", engine, "dense"),
        ("dtype", settings.dtype.name, "float64"),
        ("batch_size", settings.batch_size, settings.P),
        ("schedule", schedule, "constant"),
        ("learning_rate", learning_rate, None),
        ("momentum", settings.momentum, 0.0),
        ("dropout", settings.dropout, 0.0),
        ("anneal", settings.anneal_epochs, 0),
    ):
        if value != needed:
            raise ArgumentError(f"{name} must be {needed!r} with method={method!r}, got {value!r}")
    kinks = has_kinks(loss)
    if method == "newton":
        if not settings.is_convex:
            raise ArgumentError(
                "method='newton' serves convex energies: the linear student without normalizer, "
                f"got student {settings.student.name!r} and normalizer {settings.normalizer!r}"
            )
    elif kinks or settings.student.kinks:
        what = f"loss {loss.name!r}" if kinks else f"student {settings.student.name!r}"
        raise ArgumentError(
            f"method='l-bfgs' needs a loss and a student without kinks, got {what}"
            + ("; method='newton' takes it" if kinks and settings.is_convex else "")
        )


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
    for name in ("alpha", "S", "N", "teacher", "noise"):
        theirs, ours = getattr(start, name), getattr(settings, name)
        if theirs != ours:
            raise ArgumentError(f"{name} must equal that of start, {theirs!r}, got {ours!r}")
    if start.weights.dtype != settings.dtype:
        raise ArgumentError(f"dtype must equal that of start, {start.weights.dtype}")
    if start.inputs is not settings.inputs and start.inputs != settings.inputs:
        raise ArgumentError(f"inputs must equal that of start, {start.inputs!r}")
    if n_runs is not None and n_runs != start.n_runs:
        raise ArgumentError(f"n_runs must equal that of start, {start.n_runs}, got {n_runs}")
    if not np.isin(start.status, (Status.CONVERGED, Status.DONE)).all():
        raise ArgumentError("start must not contain runs that diverged or did not converge")
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
    needs = {"dense": dense_memory, "matrix-free": matrix_free_memory}
    need = (needs[engine] if settings.method == "sgd" else minimizer_memory)(settings)
    train = run_dense if settings.method == "sgd" else run_minimizer
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
                    return train(settings, seeds[i], data_seeds[i], starts[i], recorder, stop)
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
    warn_of_failures(status)
    observables: dict[str, Any] = {name: values[:, i] for i, name in enumerate(OBSERVABLES)}
    fill_in_fresh(settings, observables)
    weights = [record.weights for record in records if record.weights is not None]
    return TrainingRun(
        alpha=settings.alpha,
        S=settings.S,
        N=settings.N,
        student=settings.student,
        teacher=settings.teacher,
        noise=settings.noise,
        loss=settings.loss,
        inputs=settings.inputs,
        normalizer=settings.normalizer,
        zeta=settings.zeta,
        method=settings.method,
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
        gradient_norm=np.array([record.gradient_norm for record in records]),
        duality_gap=np.array([record.duality_gap for record in records]),
        data_seeds=tuple(
            given or streams(own, 1)[0] for given, own in zip(data_seeds, seeds, strict=True)
        ),
    )
