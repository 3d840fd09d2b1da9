"""Monte Carlo of the batch-normalized loss: draws per second on one core, beside NumPy.

Run: python benchmarks/bench_batch_norm.py
"""

from __future__ import annotations

import time

import numpy as np

from replica.batch_norm import as_glm, sampled_loss

DRAWS = 1 << 17  # one random stream: one thread
SIZE = 32


def seconds(call, repeats=15):
    """Shortest of several timings, compilation excluded."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def numpy_draws(h, y, activation):
    """The same independent-noise average in vectorised NumPy, without control variate."""
    rng = np.random.default_rng(0)
    glm = as_glm(activation)
    t = (h - h.mean()) / h.std()
    j = rng.integers(0, h.size, DRAWS)
    m = rng.standard_normal(DRAWS) / np.sqrt(SIZE)
    r = np.sqrt(rng.chisquare(SIZE - 1, DRAWS) / SIZE)
    moved = (t[j] - m) / r
    return np.mean(glm.A(moved) - glm.A(t[j]) - y[j] * (moved - t[j]))


def main():
    rng = np.random.default_rng(0)
    h, y = rng.standard_normal((2, 10_000))
    print(f"{'activation':<10} {'batches':<12} {'10^6 draws/s per core':>22} {'over NumPy':>11}")
    for activation in ("linear", "softplus", "logistic"):
        reference = seconds(lambda activation=activation: numpy_draws(h, y, activation))
        for batches in ("independent", "real"):
            options = {"batch_size": SIZE, "gamma": 1.0, "activation": activation}
            options |= {"batches": batches, "n_draws": DRAWS, "seed": 0}
            taken = seconds(lambda options=options: sampled_loss(h, y, **options))
            rate = DRAWS / taken / 1e6
            print(f"{activation:<10} {batches:<12} {rate:>22.1f} {reference / taken:>10.1f}x")


if __name__ == "__main__":
    main()
