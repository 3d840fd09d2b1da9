"""Speed of the learning dynamics, as ratios within one run.

One trajectory by `integrate`, and a phase diagram of 1,000 over (eta, zeta) by `integrate_grid`,
against `scipy.integrate.solve_ivp` with the same equations written in Python (on a sample of the
grid, at the same tolerances, taken in turns). Run: python benchmarks/bench_dynamics.py
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable

import numpy as np
from scipy.integrate import solve_ivp

from replica.dynamics import integrate, integrate_grid

ETA = np.linspace(0.1, 6.0, 40)[:, None]
ZETA = np.linspace(0.0, 1.0, 25)
START = {"gamma0": 0.5, "R0": 0.1, "L0": 1.0}
RTOL, ATOL = 1e-6, 1e-10


def python_rates(_: float, state: np.ndarray, eta: float, zeta: float) -> list[float]:
    """Eq. (6) for the ReLU student, as printed (with eq. 15 corrected)."""
    gamma, R, L = state
    R = min(max(R, -1.0), 1.0)
    root, arc = math.sqrt(1 - R * R), math.asin(R)
    k1 = (math.pi * R + 2 * root + 2 * R * arc) / (4 * math.pi)
    k3 = (math.pi + 2 * R * root + 2 * arc) / (4 * math.pi)
    I1 = gamma * k1 - gamma**2 / 2
    I2 = gamma**2 / 2 + k3 - 2 * gamma * k1
    I3 = k3 - gamma * R / 2
    noise = eta**2 * gamma**2 * I2 / (2 * L**3)
    drift = eta * gamma / L**2 * I3 - eta * R / L**2 * I1
    return [eta * I1 / gamma - eta * zeta * gamma, drift - noise * R / L, noise]


def grid_seconds(t: np.ndarray) -> float:
    best = math.inf
    for _ in range(3):
        start = time.perf_counter()
        grid = integrate_grid(
            student="relu",
            normalizer="pn",
            learning_rate=ETA,
            zeta=ZETA,
            t=t,
            rtol=RTOL,
            atol=ATOL,
            **START,
        )
        best = min(best, time.perf_counter() - start)
    assert (grid.status == 0).all()
    return best


def scipy_run(t: np.ndarray, method: str, eta: float, zeta: float, rtol: float) -> None:
    solve_ivp(
        python_rates, (0.0, t[-1]), list(START.values()), method=method, t_eval=t,
        args=(eta, zeta), rtol=rtol, atol=ATOL,
    )  # fmt: skip


def one_run(t: np.ndarray, solver: str | None, eta: float, zeta: float, rtol: float) -> None:
    integrate(
        student="relu", normalizer="pn", learning_rate=eta, zeta=zeta, t=t, rtol=rtol, atol=ATOL,
        solver=solver, **START,
    )  # fmt: skip


def interleaved(
    runs: list[Callable[[float, float], None]], sample: list[tuple[float, float]]
) -> np.ndarray:
    """Seconds per trajectory of each of `runs`: taken in turns, the best of three."""
    seconds = np.empty((3, len(sample), len(runs)))
    for place in np.ndindex(seconds.shape):
        start = time.perf_counter()
        runs[place[2]](*sample[place[1]])
        seconds[place] = time.perf_counter() - start
    return seconds.min(axis=0).mean(axis=0)


def main() -> None:
    integrate_grid(student="relu", normalizer="pn", learning_rate=1.0, t=1.0, **START)  # compile
    one_run(np.array([1.0]), None, 1.0, 0.0, RTOL)
    size = ETA.size * ZETA.size
    rng = np.random.default_rng(0)
    sample = [(float(rng.choice(ETA.ravel())), float(rng.choice(ZETA))) for _ in range(10)]
    print("one trajectory, ReLU, 50 output times; milliseconds, and multiples of the first")
    for last, rtol in itertools.product((1e2, 1e4, 1e6), (1e-6, 1e-9)):
        t = np.geomspace(0.1, last, 50)
        rows: dict[str, Callable[[float, float], None]] = {
            "integrate": lambda *p, t=t, rtol=rtol: one_run(t, None, *p, rtol),
            "integrate, solver LSODA": lambda *p, t=t, rtol=rtol: one_run(t, "LSODA", *p, rtol),
            "solve_ivp LSODA, Python": lambda *p, t=t, rtol=rtol: scipy_run(t, "LSODA", *p, rtol),
        }
        seconds = interleaved(list(rows.values()), sample)
        for name, value in zip(rows, seconds, strict=True):
            print(
                f"t <= {last:<8g} rtol {rtol:g} {name:<26} {1e3 * value:9.3f} ms "
                f"{value / seconds[0]:8.1f} x"
            )
    print(f"\n{size} trajectories, the same; seconds, and multiples of the first")
    for last in (1e2, 1e4, 1e6):
        t = np.geomspace(0.1, last, 50)
        seconds = interleaved([lambda *p, t=t: scipy_run(t, "LSODA", *p, RTOL)], sample)
        rows_grid = [("integrate_grid", grid_seconds(t))]
        rows_grid.append(("solve_ivp LSODA, Python", size * float(seconds[0])))
        for name, value in rows_grid:
            print(f"t <= {last:<8g} {name:<26} {value:9.3f} s {value / rows_grid[0][1]:8.1f} x")


if __name__ == "__main__":
    main()
