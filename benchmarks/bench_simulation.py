"""Speed of the simulators, as ratios measured in one run.

    python benchmarks/bench_simulation.py [dense] [losses] [minima] [online] [matrix-free]
                                          [full-size] [torch]

``torch`` measures PyTorch on the CPU and needs the optional package ``torch``; without an argument
every section but ``full-size`` and ``minima`` runs (torch only where it is installed). One thread
unless stated.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
import time
from collections.abc import Callable

import numpy as np

from replica.losses import Loss, LossLike, as_loss
from replica.simulation import _kernels as kernels
from replica.simulation import simulate_online, simulate_training
from replica.simulation._tables import Tables
from replica.students import RELU

N, P, M = 4096, 8192, 32


def best_of(
    work: Callable[[], object], repeats: int = 5, clock: Callable[[], float] = time.process_time
) -> float:
    """Shortest time of `repeats` calls, after one call that compiles.

    Processor time by default: what other processes take of a shared machine does not count.
    """
    work()
    times = []
    for _ in range(repeats):
        began = clock()
        work()
        times.append(clock() - began)
    return min(times)


@kernels.jit(fastmath=True)
def read_all(X: np.ndarray) -> float:
    """Sum of all entries with eight accumulators: a streaming read."""
    flat = X.reshape(-1)
    zero = flat[0] * 0
    a, b, c, d = zero, zero, zero, zero
    quarter = flat.size // 4
    for i in range(quarter):
        a += flat[i]
        b += flat[quarter + i]
        c += flat[2 * quarter + i]
        d += flat[3 * quarter + i]
    return a + b + c + d


def make_epoch(
    X: np.ndarray, y: np.ndarray, scale: int, loss: LossLike = "square"
) -> Callable[[], object]:
    """One epoch of BN (or plain) training on (X, y) with its own state."""
    table = Tables(RELU, as_loss(loss)).loss
    rng = np.random.default_rng(0)
    w = rng.standard_normal(N).astype(np.float32)
    d, state = np.zeros_like(w), kernels.WeightState(1.0, 0.0, 1.0)
    u, batch_y, c = np.empty(M, np.float32), np.empty(M), np.empty(M, np.float32)
    order = rng.permutation(P)
    return lambda: kernels.train_epoch(
        X, y, order, M, w, d, state, np.empty(0), u, batch_y, c,
        scale == kernels.SCALE_BATCH, scale, 0.0, 0.0, None, table, 0.01, 0.0, 0.0, 1e6,
    )  # fmt: skip


def bench_dense() -> float:
    """BN training at N = 4096, P = 8192, M = 32, float32: steps per second and bandwidth."""
    rng = np.random.default_rng(1)
    X = rng.standard_normal((P, N), dtype=np.float32) / np.float32(np.sqrt(N))
    y = X.sum(axis=1).astype(np.float64)
    epoch = make_epoch(X, y, kernels.SCALE_BATCH)
    # Alternate the two measurements: neighbors on the machine then disturb both alike.
    read, train = np.inf, np.inf
    for _ in range(5):
        read = min(read, best_of(lambda: read_all(X), 3))
        train = min(train, best_of(epoch, 3))
    steps = P // M / train
    print(f"dense BN, float32, 1 thread        {steps:10.0f} steps/s")
    print(f"  streaming read of X              {X.nbytes / read / 1e9:10.2f} GB/s")
    print(f"  data read by training            {X.nbytes / train / 1e9:10.2f} GB/s")
    print(f"  share of the streaming read      {read / train:10.1%}")

    epochs = [make_epoch(X, y, kernels.SCALE_BATCH), make_epoch(X.copy(), y, kernels.SCALE_BATCH)]

    def both(works: list[Callable[[], object]]) -> None:
        threads = [threading.Thread(target=work) for work in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    copy = X.copy()
    reads = [lambda: read_all(X), lambda: read_all(copy)]
    for what, works in (
        ("two concurrent runs: throughput ", epochs),
        ("two streaming reads at a time ", reads),
    ):
        single, pair = best_of(works[0], 20), best_of(lambda works=works: both(works), 20)
        # Two free cores give twice the throughput unless the memory slows both down.
        print(f"  {what}  {4 * single / pair:10.2f} x one (from processor times)")
        wall = time.perf_counter
        single, pair = (
            best_of(works[0], 20, wall),
            best_of(lambda works=works: both(works), 20, wall),
        )
        print(f"  {what}  {2 * single / pair:10.2f} x one (on the clock)")
    return steps


def log_cosh(r: float) -> float:
    """A loss of one's own, in plain Python."""
    return float(np.logaddexp(r, -r))


LOSSES: list[LossLike] = ["absolute", "huber", "epsilon-insensitive", "quantile", "hinge"]
LOSSES += ["squared-hinge", "logistic", "exponential", Loss(log_cosh)]


def bench_losses() -> None:
    """A step of every loss over one of the square, dense engine and chain."""
    rng = np.random.default_rng(1)
    X = rng.standard_normal((P, N), dtype=np.float32) / np.float32(np.sqrt(N))
    y = np.sign(X.sum(axis=1)).astype(np.float64)
    square = make_epoch(X, y, kernels.SCALE_NONE)
    signs = {"teacher": "sign", "student": "linear", "n_threads": 1, "progress": False}

    def chain(loss: LossLike) -> None:
        simulate_online(loss=loss, batch_size=M, N=N, t=[200.0], learning_rate=0.01, **signs)

    print(f"a step of a loss over one of the square, N = {N}, M = {M}: dense (float32), chain")
    for loss in LOSSES:
        epoch = make_epoch(X, y, kernels.SCALE_NONE, loss)
        times = np.full(4, np.inf)
        for _ in range(5):  # alternate: neighbors on the machine then disturb both alike
            works = (square, epoch, lambda: chain("square"), lambda loss=loss: chain(loss))
            times = np.minimum(times, [best_of(work, 1) for work in works])
        dense, online = times[1] / times[0], times[3] / times[2]
        print(f"  {as_loss(loss).name:<22} {dense:8.3f} {online:8.2f}")


def bench_minima() -> None:
    """Seconds to the minimum at N = 4096, P = 8192, over a pass of SGD; takes minutes."""
    options = {"N": N, "teacher": "sign", "noise": "input", "zeta": 0.1, "progress": False}
    epochs = {"epochs": 5, "record": 5, "loss": "logistic", "n_threads": 1}
    began = time.process_time()
    simulate_training(2.0, 0.25, **options, **epochs)
    epoch = (time.process_time() - began) / 5
    print(
        f"to the minimum, N = {N}, P = {P}, against {epoch:.2f} s of an epoch with the data drawn"
    )
    for loss, method in (("logistic", "l-bfgs"), ("logistic", "newton"), ("hinge", "newton")):
        began = time.process_time()
        run = simulate_training(2.0, 0.25, loss=loss, method=method, **options)
        seconds = time.process_time() - began
        print(
            f"  {loss:<10} {method:<8} {seconds / epoch:7.1f} epochs, {run.epochs_done[0]} "
            f"iterations, duality gap {run.duality_gap[0]:.0e}"
        )


def bench_torch(ours: float | None) -> None:
    """The same training in PyTorch: Linear + BatchNorm1d + ReLU + SGD."""
    import torch

    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(1)
    X = torch.randn(P, N, generator=generator) / N**0.5
    y = X.sum(1, keepdim=True)
    model = torch.nn.Sequential(
        torch.nn.Linear(N, 1, bias=False), torch.nn.BatchNorm1d(1), torch.nn.ReLU()
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    order = torch.randperm(P, generator=generator)

    def epoch() -> None:
        for start in range(0, P, M):
            rows = order[start : start + M]
            optimizer.zero_grad()
            loss = 0.5 * torch.sum((model(X[rows]) - y[rows]) ** 2)
            loss.backward()
            optimizer.step()

    steps = P // M / best_of(epoch)
    print(f"PyTorch {torch.__version__}, 1 thread       {steps:10.0f} steps/s")
    if ours:
        print(f"  ours / PyTorch                   {ours / steps:10.1f}")


def bench_online() -> None:
    """Chain against direct at N = 4096, M = 32, and the chain's independence of N."""

    def seconds_per_step(
        engine: str, N: int, n_steps: int, student: str = "relu", M: int = M
    ) -> float:
        options = {
            "student": student,
            "N": N, "engine": engine, "normalizer": "bn", "batch_size": M,
            "t": [n_steps * M / N], "n_threads": 1, "progress": False,
        }  # fmt: skip
        return best_of(lambda: simulate_online(S=0.25, **options), 3) / n_steps

    direct = seconds_per_step("direct", N, 200)
    chain = seconds_per_step("chain", N, 100_000)
    print(f"online BN, N = {N}, M = {M}: direct {direct * 1e6:.0f} us, chain {chain * 1e6:.2f} us")
    print(f"  direct / chain                   {direct / chain:10.0f}")
    for size in (2, M):
        relu, erf = (seconds_per_step("chain", N, 100_000, s, size) for s in ("relu", "erf"))
        print(f"  chain, M = {size}: erf (tabulated) / relu {erf / relu:6.1f}")
    for power in range(3, 10):
        step = seconds_per_step("chain", 10**power, 100_000)
        print(f"  chain, N = 1e{power}: {step * 1e6:6.2f} us per step")


def bench_matrix_free() -> None:
    """Time over N and steps, and against the dense engine."""

    def seconds(N: int, steps: int, engine: str = "matrix-free") -> float:
        options = {
            "N": N, "engine": engine, "batch_size": round(1.5 * N), "epochs": steps,
            "student": "relu", "learning_rate": 0.2, "dtype": "float32", "record": steps,
            "n_threads": 1, "progress": False,
        }  # fmt: skip
        began = time.process_time()
        simulate_training(1.5, 0.25, **options)
        return time.process_time() - began

    seconds(1000, 3)
    seconds(1000, 3, "dense")
    print("matrix-free, P = 1.5 N, float32, 1 thread")
    for N in (1000, 10_000, 100_000):
        times = {steps: seconds(N, steps) for steps in (25, 50, 100)}
        line = ", ".join(f"{steps} steps {t:7.3f} s" for steps, t in times.items())
        print(f"  N = {N:>7}: {line}; 100/50 steps {times[100] / times[50]:.2f}")
    N = 16_384
    # 10 dense steps and the data; the rest is extrapolated, as a full run only repeats them.
    ten, thirty = seconds(N, 10, "dense"), seconds(N, 30, "dense")
    dense = ten + 90 * (thirty - ten) / 20
    free = seconds(N, 100)
    print(f"  N = {N}, 100 steps: dense {dense:.1f} s (from 10 and 30 steps), free {free:.2f} s")
    print(f"  dense / matrix-free              {dense / free:10.1f}")


def bench_full_size() -> None:
    """N = 1e6, P = 1.5e6, 100 steps, float32, all threads: 1.3 GB instead of a 6 TB matrix."""
    run = simulate_training(
        1.5, 0.25, N=1_000_000, engine="matrix-free", epochs=100, student="relu",
        learning_rate=0.2, dtype="float32",
    )  # fmt: skip
    print(f"  {run}")
    print(f"  {run.seconds[0]:.0f} s, orthogonality error {run.orthogonality_error[0]:.1e}")
    import resource

    print(f"  peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


def main(sections: list[str]) -> None:
    """Run the sections named on the command line."""
    sections = sections or ["dense", "losses", "torch", "online", "matrix-free"]
    steps = bench_dense() if "dense" in sections else None
    if "losses" in sections:
        bench_losses()
    if "minima" in sections:
        bench_minima()
    if "torch" in sections:
        if importlib.util.find_spec("torch"):
            bench_torch(steps)
        else:
            print("PyTorch is not installed: comparison left out")
    if "online" in sections:
        bench_online()
    if "matrix-free" in sections:
        bench_matrix_free()
    if "full-size" in sections:
        bench_full_size()


if __name__ == "__main__":
    main(sys.argv[1:])
