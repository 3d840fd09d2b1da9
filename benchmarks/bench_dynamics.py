"""Speed of the learning dynamics, as ratios within one run.

A phase diagram of 1,000 trajectories over (eta, zeta) by `integrate_grid`, against
`scipy.integrate.solve_ivp` with the same equations written in Python (on a sample of the grid, at
the same tolerances). Run: python benchmarks/bench_dynamics.py
"""

from __future__ import annotations

import math
import time

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
            "bn", student="relu", learning_rate=ETA, zeta=ZETA, t=t, rtol=RTOL, atol=ATOL, **START
        )
        best = min(best, time.perf_counter() - start)
    assert (grid.status == 0).all()
    return best


def scipy_seconds(t: np.ndarray, method: str, sample: list[tuple[float, float]]) -> float:
    start = time.perf_counter()
    for eta, zeta in sample:
        solve_ivp(
            python_rates, (0.0, t[-1]), list(START.values()), method=method, t_eval=t,
            args=(eta, zeta), rtol=RTOL, atol=ATOL,
        )  # fmt: skip
    return time.perf_counter() - start


def one_seconds(t: np.ndarray, sample: list[tuple[float, float]]) -> float:
    start = time.perf_counter()
    for eta, zeta in sample:
        integrate(
            "bn", student="relu", learning_rate=eta, zeta=zeta, t=t, rtol=RTOL, atol=ATOL, **START
        )
    return time.perf_counter() - start


def main() -> None:
    integrate_grid("bn", student="relu", learning_rate=1.0, t=1.0, **START)  # compile
    size = ETA.size * ZETA.size
    rng = np.random.default_rng(0)
    sample = [(float(rng.choice(ETA.ravel())), float(rng.choice(ZETA))) for _ in range(10)]
    print(f"{size} trajectories, ReLU, 50 output times; seconds, and multiples of the first")
    for last in (1e2, 1e4, 1e6):
        t = np.geomspace(0.1, last, 50)
        rows = [("integrate_grid", grid_seconds(t))]
        scale = size / len(sample)
        rows.append(("integrate (LSODA)", scale * one_seconds(t, sample)))
        rows.append(("solve_ivp LSODA, Python", scale * scipy_seconds(t, "LSODA", sample)))
        if last <= 1e2:
            rows.append(("solve_ivp RK45, Python", scale * scipy_seconds(t, "RK45", sample)))
        for name, value in rows:
            print(f"t <= {last:<8g} {name:<26} {value:9.3f} s {value / rows[0][1]:8.1f} x")


if __name__ == "__main__":
    main()
