"""Speed of the zero-temperature solver, as ratios within one run.

The comparison is what a notebook would do: `scipy.optimize.root` on the saddle-point equations
with the averages by quadrature on a grid. Run: python benchmarks/bench_equilibrium.py, or with the
path of another checkout to compare the cost of single calls with.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np
from scipy.optimize import root

import replica
from replica.equilibrium._piecewise import solve_piecewise
from replica.equilibrium._ridge import Columns


def seconds(function: Callable[[], object], repeats: int = 5) -> float:
    """Best of several runs after a warm-up."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def quadrature_point(alpha: float, S: float, zeta: float, nodes: int = 200) -> float:
    """gen_error of ReLU from the same equations, written the generic way."""
    x, w = np.polynomial.legendre.leggauss(nodes)
    x, w = 8 * x, 8 * w
    w = w * np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    noise, field = np.meshgrid(x, x)
    weight = np.outer(w, w)

    def equations(unknown: np.ndarray) -> np.ndarray:
        chi, m, q = math.exp(unknown[0]), unknown[1], math.exp(unknown[2])
        y = math.sqrt(1 + S) * field
        omega = m / (1 + S) * y + math.sqrt(max(q - m * m / (1 + S), 1e-12)) * noise
        on = (omega + chi * y) / (1 + chi)
        off = np.minimum(omega, 0.0)
        cost_on = np.where(on > 0, (on - omega) ** 2 / chi + (y - on) ** 2, np.inf)
        u = np.where(cost_on < (off - omega) ** 2 / chi + y * y, on, off)
        f = (u - omega) / chi
        moments = np.array([np.sum(weight * f * omega), np.sum(weight * f * y)])
        g0, g1 = np.linalg.solve([[q, m], [m, 1 + S]], moments)
        return np.array(
            [
                chi * (zeta - alpha * g0) - 1,
                m - alpha * g1 * chi,
                q - (alpha**2 * g1**2 + alpha * np.sum(weight * f * f)) * chi**2,
            ]
        )

    m, q = root(equations, [0.0, 0.4, -1.0], tol=1e-8).x[1:]
    return 1 + math.exp(q) / 2 - m


def solve_on_one_thread(alpha: np.ndarray, zeta: float, slope: float = 0.0) -> Callable[[], None]:
    n = alpha.size
    columns = Columns.of_size(n)
    arrays = alpha, np.full(n, 0.25), np.full(n, zeta)
    return lambda: solve_piecewise(*arrays, slope, columns, 0, n)


def fresh_process(code: str, **environment: str) -> float:
    """Seconds that `code` says it took, in a new interpreter."""
    program = f"import time; t = time.perf_counter()\n{code}\nprint(time.perf_counter() - t)"
    command = [sys.executable, "-c", program]
    output = subprocess.check_output(command, text=True, env={**os.environ, **environment})
    return float(output.splitlines()[-1])


# What a call costs beside the physics, and the general solver; each prints microseconds.
CALLS = {
    "gen_error, scalar, linear": "g(2.0, 0.25, 0.1)",
    "gen_error, scalar, ReLU": "g(2.0, 0.25, 0.1, student='relu')",
    "gen_error, 50 points, linear": "g(loads, 0.25, 0.1)",
    "gen_error, 50 points, ReLU": "g(loads, 0.25, 0.1, student='relu')",
    "erf student": "s(1.5, 0.1, 0.1, student='erf')",
    "erf student, 20 loads one by one": (
        "[g(a, 0.1, 0.1, student='erf') for a in np.linspace(0.5, 5.0, 20).tolist()]"
    ),
    "erf student, erf teacher with noise": "s(1.5, 0.1, 0.1, student='erf', teacher='erf')",
    "linear student, sign teacher with noise": (
        "s(1.5, 0.1, 0.1, student='linear', teacher='sign')"
    ),
}
_TIMED = """
import sys, time
sys.path.insert(0, sys.argv[1])
import numpy as np, replica
g, s, loads = replica.gen_error, replica.solve_equilibrium, np.linspace(0.1, 4, 50)
call = lambda: {call}
call()
best, end = 1e9, time.perf_counter() + 0.5
while time.perf_counter() < end:
    start = time.perf_counter(); call(); best = min(best, time.perf_counter() - start)
print(1e6 * best)
"""


def compare_with(other: str) -> None:
    """Print what every call takes here and in the checkout at `other`, in turns."""
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    print(f"microseconds a call: here, in {other}, ratio")
    for name, call in CALLS.items():
        best = dict.fromkeys((here, other), math.inf)
        for _ in range(2):
            for folder in best:
                command = [sys.executable, "-c", _TIMED.replace("{call}", call), folder]
                best[folder] = min(best[folder], float(subprocess.check_output(command, text=True)))
        mine, theirs = best[here], best[other]
        print(f"  {name:<40} {mine:10.1f} {theirs:10.1f} {theirs / mine:8.1f}")


def main() -> None:
    if len(sys.argv) > 1:
        compare_with(sys.argv[1])
        return
    n = 200_000
    alpha = np.linspace(0.1, 4, n)
    print(f"ReLU curve, {n} points, alpha 0.1 .. 4, S = 0.25")
    for zeta in (0.0, 1 / 64, 0.25):
        one = seconds(solve_on_one_thread(alpha, zeta))
        both = seconds(lambda z=zeta: replica.solve_equilibrium(alpha, 0.25, z, student="relu"))
        print(
            f"  zeta {zeta:<9g} {n / one:12,.0f} points/s on one thread; "
            f"whole call on {os.cpu_count()} cores {one / both:.2f} times as fast"
        )
    one = seconds(solve_on_one_thread(alpha, 1 / 64)) / n
    few = np.linspace(1.34, 1.99, 2000)
    twice = seconds(solve_on_one_thread(few, 1e-6, 1e-3)) / few.size
    print(f"  where two solutions are compared: {twice / one:.0f} times as long a point")
    start = time.perf_counter()
    few = [0.5, 1.0, 1.5, 2.0, 3.0]
    generic = [quadrature_point(a, 0.25, 1 / 64) for a in few]
    each = (time.perf_counter() - start) / len(few)
    exact = replica.gen_error(few, 0.25, 1 / 64, student="relu")
    worst = np.max(np.abs(np.array(generic) / exact - 1))
    print(f"  scipy.optimize.root on 200 x 200 nodes: {each / one:,.0f} times as long a point,")
    print(f"  and its gen_error is off by up to {worst:.1e}")

    n = 1_000_000
    alpha = np.linspace(0.1, 4, n)

    def twenty_operations() -> None:
        x = alpha
        for _ in range(10):
            x = x * alpha
            x = x + alpha

    ratio = seconds(lambda: replica.gen_error(alpha, 0.25, 0.1)) / seconds(twenty_operations)
    print(f"linear, {n} points: {ratio:.2f} times NumPy's time for 20 elementwise operations")

    call = "import replica; replica.gen_error(2.0, 0.25, 0.1, student='relu')"
    fresh_process(call)
    print(f"import replica, fresh process: {fresh_process('import replica'):.3f} s")
    print(f"first ReLU call, fresh process, warm cache: {fresh_process(call):.2f} s")
    with tempfile.TemporaryDirectory() as folder:
        print(f"first ReLU call, cold cache: {fresh_process(call, NUMBA_CACHE_DIR=folder):.2f} s")


if __name__ == "__main__":
    main()
