"""Speed of the solver of broken symmetry, as ratios within one run.

The comparison is the averages of one point by nested sums, as a notebook would write them.
Run: python benchmarks/bench_symmetry_breaking.py
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np

import replica
from replica.equilibrium._nested_levels import averages

POINT = {"chi": 2.0, "m": 0.4, "v": 0.2, "d": 0.006, "xi": 65.0}
S = 0.25


def seconds(function: Callable[[], object], repeats: int = 5) -> float:
    """Best of several runs after a warm-up."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def nested_sums(nodes: int) -> float:
    """E phi_0 of ReLU by three Gauss-Hermite sums of `nodes` nodes."""
    x, w = np.polynomial.hermite_e.hermegauss(nodes)
    w = w / math.sqrt(2 * math.pi)
    chi, m, v, d, xi = POINT.values()
    total = 0.0
    for noise, p in zip(x, w, strict=True):
        y = math.sqrt(1 + S) * noise
        field = m * y / (1 + S) + math.sqrt(v + m * m * S / (1 + S)) * x
        inner = field[:, None] + math.sqrt(d) * x
        on = (inner + chi * y) / (1 + chi)
        off = np.minimum(inner, 0.0)
        cost_on = np.where(on > 0, (on - inner) ** 2 / (2 * chi) + (y - on) ** 2 / 2, np.inf)
        cost = np.minimum(cost_on, (off - inner) ** 2 / (2 * chi) + y * y / 2)
        least = cost.min(axis=1)
        total += p * (w @ (least - np.log(np.exp(-xi * (cost - least[:, None])) @ w) / xi))
    return total


def compiled(step: float) -> float:
    chi, m, v, d, xi = POINT.values()
    return averages(chi, m, v, np.array([d]), np.array([xi]), S, 0.0, step).phi


def main() -> None:
    exact = compiled(0.1)
    base = seconds(lambda: compiled(0.2))
    print(f"averages of one level, step 0.2: error {abs(compiled(0.2) - exact):.0e}")
    for nodes in (40, 160):
        ratio = seconds(lambda n=nodes: nested_sums(n), 2) / base
        error = abs(nested_sums(nodes) - exact)
        print(f"  nested sums of {nodes} nodes: {ratio:.1f} times as long, error {error:.0e}")

    one = seconds(lambda: replica.solve_broken_symmetry(2.0, S, 1 / 64), 3)
    print(f"a whole solution: {one / base:.0f} times as long as its averages at step 0.2")
    loads = np.linspace(0.3, 4.0, 40)
    curve = seconds(lambda: replica.solve_broken_symmetry(loads, S, 1 / 64), 2)
    print(f"a curve of 40 points: {curve / one:.0f} times as long as the one at alpha = 2")
    for K in (2, 3, 4):
        more = seconds(lambda K=K: replica.solve_broken_symmetry(2.0, S, 1 / 64, levels=K), 1)
        print(f"{K} levels: {more / one:.0f} times as long")


if __name__ == "__main__":
    main()
