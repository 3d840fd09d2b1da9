"""Training sets, random streams, memory and threads.

The teacher is w* = (1, ..., 1): the inputs are rotation invariant, so the direction of the
teacher cannot matter.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import threading
import weakref
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from replica._core.cores import n_cores
from replica._core.student_values import quick_values
from replica.labels import Flip, NoiseWord
from replica.students import LINEAR, LeakyReLU, Student

__all__ = [
    "FieldOverlaps",
    "Population",
    "TrainingSet",
    "available_memory",
    "claim_memory",
    "default_threads",
    "draw_labels",
    "draw_noise",
    "draw_normal",
    "inputs_key",
    "make_training_set",
    "map_runs",
    "require_memory",
    "streams",
]


Ended = TypeVar("Ended")  # what a run hands back

# Random numbers are drawn in blocks of this many, which stay in the cache.
DRAW_BLOCK = 1 << 14


class FieldOverlaps(NamedTuple):
    """Of a student's field u on fresh inputs: covariance with the teacher's z, and variance."""

    m: float
    q: float


class Population:
    """Where the inputs of one training set come from; `rho` is the variance of the teacher's field.

    Attributes
    ----------
    N : int
        Number of inputs of the student.
    rho : float
        Variance of the teacher's field z.
    """

    N: int
    rho: float = 1.0

    def draw(self, rng: np.random.Generator, X: NDArray[Any]) -> NDArray[np.float64]:
        """Fill the rows of X with inputs and return the teacher's field of each."""
        raise NotImplementedError

    def overlaps(self, w: NDArray[Any]) -> FieldOverlaps:
        """Return what a student of weights w has in common with the teacher on fresh inputs."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Samples of a noisy teacher.

    Attributes
    ----------
    X : ndarray, shape (P, N)
        Inputs with entries N(0, 1/N); read-only.
    y : ndarray, shape (P,)
        Labels.
    population : Population or None
        Where inputs that are not isotropic come from.
    """

    X: NDArray[np.floating]
    y: NDArray[np.float64]
    population: Population | None = None


_shared: weakref.WeakValueDictionary[Hashable, NDArray[np.floating]]
_shared = weakref.WeakValueDictionary()
_key_locks: dict[Hashable, threading.Lock] = {}
_lock = threading.Lock()


def make_training_set(
    P: int,
    N: int,
    S: float,
    seed: np.random.SeedSequence,
    dtype: DTypeLike = np.float64,
    teacher: LeakyReLU | Student = LINEAR,
    noise: NoiseWord | Flip = "output",
) -> TrainingSet:
    """Draw the samples that a run with this data seed trains on: the labels of z = w*.x.

    One seed gives the same inputs in float64 and, rounded, in float32. Those who ask for the same
    inputs, from whatever thread, share one read-only array for as long as any of them holds it; S
    may differ between them.

    Parameters
    ----------
    P, N : int
        Number of samples and of inputs.
    S : float
        Variance of the noise s.
    seed : numpy.random.SeedSequence
        Of the data, as ``run.data_seeds[i]`` of a `TrainingRun`.
    dtype : dtype, optional
        Precision of the inputs.
    teacher : LeakyReLU or Student, optional
        The teacher's activation phi.
    noise : {"output", "input", "logistic"} or Flip, optional
        Labels y = phi(z) + s, y = phi(z + s), ...; see `simulate_training`.

    Returns
    -------
    TrainingSet

    See Also
    --------
    simulate_training : Trains on such a set; its results name the seeds.

    Notes
    -----
    Theory: :eq:`eq-training-energy` in :doc:`/simulation`.

    Examples
    --------
    >>> seed = np.random.SeedSequence(1)
    >>> a = make_training_set(20, 10, 0.0, seed)
    >>> b = make_training_set(20, 10, 0.25, seed)
    >>> a.X is b.X, bool(np.allclose(a.y, a.X.sum(axis=1)))
    (True, True)
    """
    inputs, labels = streams(seed, 2)
    key = inputs_key(P, N, seed, dtype)
    with _lock:
        key_lock = _key_locks.setdefault(key, threading.Lock())
    with key_lock:
        X = _shared.get(key)
        if X is None:
            X = _draw_inputs(P, N, inputs, dtype)
            _shared[key] = X
    with _lock:
        _key_locks.pop(key, None)
    z = X.sum(axis=1, dtype=np.float64)
    return TrainingSet(X, draw_labels(teacher, noise, S, z, np.random.default_rng(labels)))


def draw_labels(
    teacher: LeakyReLU | Student,
    noise: NoiseWord | Flip,
    S: float,
    z: NDArray[np.float64],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """The labels of the teacher's fields z."""
    s, flips = draw_noise(noise, S, z.shape, rng)
    if noise == "output":
        return quick_values(teacher, z) + s
    y = quick_values(teacher, z + s)
    return y * flips if flips.size else y


def draw_noise(
    noise: NoiseWord | Flip, S: float, shape: tuple[int, ...], rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Noise s of variance S, and the factors +-1 that turn labels (empty if none are turned)."""
    if noise == "logistic":
        s = rng.logistic(0.0, math.sqrt(3.0 * S) / math.pi, shape)
    else:
        s = math.sqrt(S) * rng.standard_normal(shape)
    if isinstance(noise, Flip):
        return s, np.where(rng.random(shape) < noise.probability, -1.0, 1.0)
    return s, np.empty((0,) * len(shape))


def inputs_key(
    P: int, N: int, seed: np.random.SeedSequence, dtype: DTypeLike
) -> tuple[Hashable, ...]:
    """What the inputs of a training set depend on."""
    return (str(seed.entropy), seed.spawn_key, P, N, np.dtype(dtype).str)


def _draw_inputs(
    P: int, N: int, seed: np.random.SeedSequence, dtype: DTypeLike
) -> NDArray[np.floating]:
    X = np.empty((P, N), dtype)
    draw_normal(np.random.default_rng(seed), X.reshape(-1), 1.0 / math.sqrt(N))
    X.setflags(write=False)
    return X


def draw_normal(rng: np.random.Generator, out: NDArray[np.floating], scale: float) -> None:
    """Fill the vector `out` with numbers N(0, scale^2), drawn in float64 whatever its dtype.

    NumPy draws other numbers in float32; rounded ones make the two precisions comparable.
    """
    block = np.empty(min(out.size, DRAW_BLOCK))
    for start in range(0, out.size, DRAW_BLOCK):
        part = block[: out.size - start]
        rng.standard_normal(out=part)
        np.multiply(part, scale, out=out[start : start + part.size], casting="same_kind")


def streams(seed: np.random.SeedSequence, n: int) -> list[np.random.SeedSequence]:
    """The first `n` children of `seed`: what ``seed.spawn(n)`` gives on its first call."""
    return [np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, i)) for i in range(n)]


def available_memory() -> int | None:
    """Bytes this process may still allocate (machine and container limit); None if unknown."""
    bounds = []
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                bounds.append(1024 * int(line.split()[1]))
    except OSError:
        with contextlib.suppress(AttributeError, ValueError, OSError):
            bounds.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with contextlib.suppress(OSError, ValueError):
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        if limit != "max":
            used = int(Path("/sys/fs/cgroup/memory.current").read_text())
            bounds.append(max(int(limit) - used, 0))
    return min(bounds) if bounds else None


def require_memory(n_bytes: float, what: str, advice: str) -> None:
    """Raise ``MemoryError`` before any work if `n_bytes` exceed what is available.

    What other runs of this process hold counts as available: `claim_memory` waits for it.
    """
    with _memory:
        available = _capacity if _claims else available_memory()
    if available is not None and n_bytes > 0.9 * available:
        raise MemoryError(
            f"{what} needs {n_bytes / 2**30:.3g} GiB and {available / 2**30:.3g} GiB are "
            f"available; use {advice}"
        )


_memory = threading.Condition()
_claims: dict[
    Hashable, tuple[float, int]
] = {}  # what is held: (bytes, number of runs that hold it)
_capacity: int | None = None  # available memory when there were no claims


@contextlib.contextmanager
def claim_memory(key: Hashable, n_bytes: float, stop: threading.Event) -> Iterator[None]:
    """Wait until `n_bytes` fit beside what the other runs of this process hold, and hold them.

    Without this, runs that start together in the threads of a sweep would each find the same
    memory free. Runs of one `key` share what they hold.
    """
    global _capacity
    with _memory:
        while _claims and key not in _claims and not stop.is_set():
            held = sum(size for size, _ in _claims.values())
            if _capacity is None or held + n_bytes <= 0.9 * _capacity:
                break
            _memory.wait(0.5)
        if not _claims:
            _capacity = available_memory()
        _claims[key] = (n_bytes, _claims.get(key, (0, 0))[1] + 1)
    try:
        yield
    finally:
        with _memory:
            size, holders = _claims.pop(key)
            if holders > 1:
                _claims[key] = (size, holders - 1)
            _memory.notify_all()


def default_threads() -> int:
    """Threads of a simulation: one per processor, or one alone where its siblings use the others.

    That is in worker threads and worker processes, as in a sweep.
    """
    among_others = (
        threading.current_thread() is not threading.main_thread()
        or multiprocessing.parent_process() is not None
    )
    return 1 if among_others else n_cores()


def map_runs(
    run: Callable[[int], Ended], n_runs: int, workers: int, stop: threading.Event
) -> list[Ended]:
    """``[run(0), ..., run(n_runs - 1)]`` on a thread pool; an exception stops the other runs."""
    if workers <= 1:
        return [run(i) for i in range(n_runs)]
    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(run, i) for i in range(n_runs)]
        try:
            return [future.result() for future in futures]
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
