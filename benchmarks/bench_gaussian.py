"""Speed of the general solvers, beside the same integrals done by scipy.integrate.nquad.

Run from the root of the repository: ``python benchmarks/bench_gaussian.py``. Ratios are of times
measured in one run on one machine; the absolute times are only for orientation.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.integrate import nquad

from replica.equilibrium._finite_temperature import gibbs_averages, solve_finite_temperature
from replica.equilibrium._proximal import prepare
from replica.equilibrium._teacher_average import LEGENDRE, prepare_teacher
from replica.equilibrium._zero_temperature import solve_general_student
from replica.gaussian import gaussian_average
from replica.students import LINEAR, RELU


def best(call: Callable[[], Any], repeats: int = 7) -> float:
    """Shortest wall time of a call in seconds, after one call to compile."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def nquad_ln_z(y: float, omega: float, V: float, beta: float) -> float:
    """ln Z of the ReLU student, by one-dimensional quadrature."""

    def weighted(u: float) -> float:
        return math.exp(-0.5 * u * u - beta * (y - max(omega + math.sqrt(V) * u, 0)) ** 2 / 2)

    (value, _) = nquad(weighted, [(-9, 9)], opts={"epsabs": 0, "epsrel": 1e-8})[:2]
    return math.log(value / math.sqrt(2 * math.pi))


def nquad_average(beta: float, chi: float, m: float, q: float, S: float) -> float:
    """E ln Z of the ReLU student by nested quadrature, to about 1e-6."""
    sigma, tau = math.sqrt(1 + S), math.sqrt(q - m * m / (1 + S))

    def integrand(v: float, t: float) -> float:
        y = sigma * t
        value = nquad_ln_z(y, m / (1 + S) * y + tau * v, chi / beta, beta)
        return value * math.exp(-0.5 * (v * v + t * t)) / (2 * math.pi)

    return nquad(integrand, [(-6, 6), (-6, 6)], opts={"epsabs": 1e-6, "epsrel": 0})[0]


def main() -> None:
    """Print the table."""
    beta, chi, m, q, S = 1.0, 2.457, 0.446, 0.617, 0.25
    law, relu = prepare_teacher(LINEAR, S), prepare(RELU, 40.0)

    def ours() -> Any:
        return gibbs_averages(relu, 0.0, law, beta, chi, m, q, LEGENDRE[1])

    fast = best(ours)
    start = time.perf_counter()
    reference = nquad_average(beta, chi, m, q, S)
    slow = time.perf_counter() - start
    print(f"E ln Z, ReLU, beta = 1:  {1e3 * fast:8.2f} ms here (with all other averages)")
    print(f"{'':24s} {1e3 * slow:8.0f} ms nquad (E ln Z alone), ratio {slow / fast:.0f}")
    print(f"{'':24s} difference {abs(ours()[5] - reference):.1e}")

    print("\none saddle point, warm")
    cases = {
        "finite temperature, ReLU, beta = 1": lambda: solve_finite_temperature(
            1.0, S, 0.25, beta, student="relu"
        ),
        "finite temperature, ReLU, beta = 10": lambda: solve_finite_temperature(
            1.0, S, 0.25, 10.0, student="relu"
        ),
        "finite temperature, ReLU, beta = 1e6": lambda: solve_finite_temperature(
            1.0, S, 0.25, 1e6, student="relu"
        ),
        "zero temperature, ReLU, general path": lambda: solve_general_student(
            1.5, 0.1, 0.1, student="relu"
        ),
        "zero temperature, erf": lambda: solve_general_student(1.5, 0.1, 0.1, student="erf"),
        "zero temperature, softplus": lambda: solve_general_student(
            1.5, 0.1, 0.1, student="softplus"
        ),
    }
    for name, call in cases.items():
        print(f"  {name:40s} {1e3 * best(call):8.1f} ms")

    alpha = np.linspace(0.5, 4.0, 32)
    many = best(lambda: solve_general_student(alpha, 0.1, 0.1, student="erf"), repeats=2)
    one = best(lambda: [solve_general_student(a, 0.1, 0.1, student="erf") for a in alpha], 2)
    print(f"\n32 points of the erf student, {os.cpu_count()} cores: array/loop = {many / one:.2f}")

    smooth = best(lambda: gaussian_average(np.tanh))
    kinked = best(lambda: gaussian_average(lambda z: np.maximum(z - 0.3, 0), kinks=[0.3]))
    plain = best(lambda: nquad(lambda z: math.exp(-z * z / 2) * max(z - 0.3, 0), [(-9, 9)]))
    print(f"\n1-D average, smooth {1e3 * smooth:.2f} ms, kinked {1e3 * kinked:.2f} ms, ", end="")
    print(f"nquad without the kink {1e3 * plain:.2f} ms")


if __name__ == "__main__":
    main()
