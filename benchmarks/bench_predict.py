"""Speed of learning curves on inputs of any spectrum and on given data, as ratios within one run.

Run: python benchmarks/bench_predict.py [rows columns], by default 60000 784. The comparisons are
what a notebook would do: `scipy.optimize.brentq` on the equation of each load, and one fit by
scikit-learn's way (products of columns, Cholesky) for each of the subsets that the check fits.
Linear algebra has one thread: where others use the machine too, threads that wait for a processor
are slower than one.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is loaded

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import brentq

from replica import predict_learning_curve
from replica.equilibrium._spectrum_ridge import SpectrumColumns, solve_spectrum


def seconds(function: Callable[[], object], repeats: int) -> float:
    """Best of several runs after a warm-up."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def roots() -> None:
    """Fifty loads of a spectrum of 784 modes."""
    k = np.arange(1.0, 785.0)
    s, counts = k**-1.5, np.ones(784)
    p = s / s.sum()
    n, S = np.linspace(20.0, 3000.0, 50), np.full(50, 0.1)
    columns = SpectrumColumns.of_size(50)

    def by_brentq(zeta: float) -> None:
        for load in n:
            low, high = zeta / load * 0.5, (zeta + s.sum()) / load * 2.0
            kappa = brentq(lambda x, load=load: zeta / x + np.sum(s / (s + x)) - load, low, high)
            left = kappa / (s + kappa)
            (p @ left**2 + 0.1) / (1.0 - np.sum((1.0 - left) ** 2) / load)

    for zeta in (1e-6, 1.0):
        zetas = np.full(50, zeta)
        own = seconds(lambda z=zetas: solve_spectrum(n, S, z, s, p, counts, columns, 0, 50), 20)
        other = seconds(lambda z=zeta: by_brentq(z), 3)
        print(
            f"zeta = {zeta:g}: 50 loads, 784 modes in {1e3 * own:.2f} ms, brentq {other / own:.0f} "
            "times as long"
        )


def data(rows: int, columns: int) -> None:
    """The whole prediction, with its check, on integers as images have them."""
    rng = np.random.default_rng(0)
    scale = 60.0 * np.arange(1.0, columns + 1.0) ** -0.5
    X = np.empty((rows, columns), dtype=np.uint8)
    for start in range(0, rows, 4096):
        part = X[start : start + 4096]
        part[:] = np.clip(rng.standard_normal(part.shape) * scale + 100.0, 0, 255)
    y = X[:, : columns // 2].astype(np.float32).sum(axis=1) + 50.0 * rng.standard_normal(rows)
    labels = y > np.median(y)

    start = time.perf_counter()
    curve = predict_learning_curve(X, labels)
    own = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

    def fit(size: int) -> None:
        which = rng.permutation(rows)[:size]
        block = X[which].astype(np.float64)
        block -= block.mean(axis=0)
        gram = block.T @ block
        gram.flat[:: columns + 1] += 1.0
        cho_solve(cho_factor(gram), block.T @ (labels[which] - 0.5))

    sizes = curve.n[np.isfinite(curve.measured_error[0])]
    start = time.perf_counter()
    for size in sizes:
        fit(int(size))
    other = 5.0 * (time.perf_counter() - start)
    print(
        f"{rows} x {columns}: {own:.1f} s, at most {peak:.2f} GB in all; one fit a size and split "
        f"alone would be {other / own:.2f} of that"
    )


if __name__ == "__main__":
    roots()
    data(*(map(int, sys.argv[1:3]) if len(sys.argv) > 2 else (60_000, 784)))
