"""Cost of inputs of many modes: each channel on 1000 modes beside the same on isotropic inputs.

Both run in turn in one process, so that the ratio means something on a busy machine. The goal is
twice the isotropic time and 20 us more. Run: python benchmarks/bench_inputs.py
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from replica import Inputs, PowerLaw, RandomFeatures, gen_error, solve_equilibrium
from replica._core import jit

MODES = PowerLaw(1.0, size=1000)
LOADS = np.geomspace(0.2, 5.0, 50)


def interleaved(one: Callable[[], Any], other: Callable[[], Any], repeats: int) -> list[float]:
    """Best seconds of each after a warm-up, called in turn."""
    best = [np.inf, np.inf]
    one(), other()
    for _ in range(repeats):
        for k, function in enumerate((one, other)):
            start = time.perf_counter()
            function()
            best[k] = min(best[k], time.perf_counter() - start)
    return best


def report(name: str, points: int, call: Callable[[Inputs | None], Any], repeats: int = 7) -> None:
    """Print both times of a point and what the goal leaves."""
    plain, modes = interleaved(lambda: call(None), lambda: call(MODES), repeats)
    plain, modes = 1e6 * plain / points, 1e6 * modes / points
    print(
        f"{name}: {modes:,.1f} us a point with 1000 modes, {plain:,.1f} us isotropic, "
        f"ratio {modes / plain:.2f}, goal {2 * plain + 20:,.1f} us"
    )


def main() -> None:
    jit.n_cores = lambda: 1  # one core
    linear = interleaved(
        lambda: gen_error(LOADS, 0.2, 0.1),
        lambda: gen_error(LOADS, 0.2, 0.1, inputs=PowerLaw(1.0, size=784)),
        7,
    )[1]
    print(f"ridge, 784 modes, 50 loads: {1e3 * linear:.2f} ms (goal 5 ms)")
    start = time.perf_counter()
    nodes = RandomFeatures("relu", 1.0).modes.weights.size
    print(f"random features: {nodes} nodes in {1e3 * (time.perf_counter() - start):.1f} ms")
    labels = {"teacher": "sign", "noise": "input"}
    report("relu", 50, lambda i: gen_error(LOADS, 0.2, 0.1, student="relu", inputs=i))
    report("huber", 50, lambda i: gen_error(LOADS, 0.2, 0.1, loss="huber", inputs=i))
    report("hinge", 50, lambda i: gen_error(LOADS, 0.2, 0.1, loss="hinge", inputs=i, **labels))
    report(
        "logistic", 50, lambda i: gen_error(LOADS, 0.2, 0.1, loss="logistic", inputs=i, **labels)
    )
    erf = {"student": "erf", "teacher": "erf"}
    report("erf", 3, lambda i: solve_equilibrium(LOADS[20:23], 0.2, 0.1, inputs=i, **erf), 3)
    relu = {"student": "relu", "beta": 10.0}
    report(
        "relu, beta = 10",
        3,
        lambda i: solve_equilibrium(LOADS[20:23], 0.2, 0.1, inputs=i, **relu),
        3,
    )


if __name__ == "__main__":
    main()
