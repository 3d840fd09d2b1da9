"""Scan of the solvers of convex losses: random points of the box, every loss and law of labels.

Run: python tests/loss_scan.py [--points 10000]. Prints what does not converge, and what is out of
the bounds that hold for any loss.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np

import replica
from replica import Flip, Loss, Status

MARGIN = ("hinge", "squared-hinge", "logistic", "exponential")
RESIDUAL = ("absolute", "huber", "huber:0.01", "huber:30", "epsilon-insensitive", "quantile:0.9")
OWN = {
    "own softplus": Loss(lambda x: np.logaddexp(0.0, -x), of="margin"),
    "own ln cosh": Loss(lambda r: np.logaddexp(r, -r) - np.log(2.0)),
}


def box(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Loads, noises and decays; some noises and decays are 0, some loads near 1 and 2."""
    draw = np.random.default_rng(seed)
    alpha = np.where(draw.random(n) < 0.2, draw.uniform(0.9, 3.0, n), 10 ** draw.uniform(-2, 3, n))
    S = np.where(draw.random(n) < 0.15, 0.0, 10 ** draw.uniform(-6, 2, n))
    zeta = np.where(draw.random(n) < 0.15, 0.0, 10 ** draw.uniform(-8, 4, n))
    return alpha, S, zeta


def scan(loss, teacher: str, noise, n: int, seed: int) -> list[str]:
    """Solve n points; what failed, in words."""
    alpha, S, zeta = box(n, seed)
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", replica.ConvergenceWarning)
        found = replica.solve_equilibrium(alpha, S, zeta, loss=loss, teacher=teacher, noise=noise)
    seconds = time.perf_counter() - start
    done = (found.status == Status.CONVERGED) | (found.status == Status.DIVERGENT)
    ok = done & (np.abs(found.R) <= 1.0) & (found.replicon > -1e-9)
    ok &= (found.train_loss >= -1e-12) & ~(found.test_loss < -1e-12) & ~np.isnan(found.test_loss)
    ok &= (found.status == Status.DIVERGENT) | (found.residual < 1e-9)
    name = getattr(loss, "name", loss)
    told = f"{name}, teacher {teacher}, noise {getattr(noise, 'name', noise)}"
    counts = {
        Status(int(k)).name.lower(): int((found.status == k).sum()) for k in set(found.status)
    }
    print(
        f"{told}: {counts}, {int((~ok).sum())} bad, {1e6 * seconds / n:.0f} us a point", flush=True
    )
    return [
        f"  {told}: alpha {alpha[i]!r}, S {S[i]!r}, zeta {zeta[i]!r}: {found.messages[i]}, "
        f"R {found.R[i]:.6g}, residual {found.residual[i]:.2g}, replicon {found.replicon[i]:.3g}, "
        f"losses {found.train_loss[i]:.3g} {found.test_loss[i]:.3g}"
        for i in np.flatnonzero(~ok)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Scan of the solvers of convex losses")
    parser.add_argument("--points", type=int, default=10_000, help="points of each named loss")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    n, failures = options.points, []
    for k, loss in enumerate(RESIDUAL):
        failures += scan(loss, "linear", "output", n, options.seed + k)
        failures += scan(loss, "sign", "input", n // 4, options.seed + k)
    for k, loss in enumerate(MARGIN):
        failures += scan(loss, "sign", "input", n, options.seed + k)
        failures += scan(loss, "sign", Flip(0.1), n // 4, options.seed + k)
        failures += scan(loss, "sign", "logistic", n // 200, options.seed + k)
    failures += scan("square", "sign", Flip(0.2), n, options.seed)
    failures += scan(OWN["own softplus"], "sign", "input", n // 50, options.seed)
    failures += scan(OWN["own ln cosh"], "linear", "output", n // 20, options.seed)
    for loss in ("huber", "quantile:0.9"):
        failures += scan(loss, "erf", "output", n // 500, options.seed)
        failures += scan(loss, "tanh", "input", n // 500, options.seed)
        failures += scan(loss, "linear", "logistic", n // 500, options.seed)
    print("\n".join(failures[:200]))
    print(f"{len(failures)} fail")


if __name__ == "__main__":
    main()
