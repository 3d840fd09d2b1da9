"""Speed of the solvers of convex losses, as points a second of one core and as ratios in one run.

The comparison is what a user does without theory: one fit by scikit-learn at N = 2000, if it is
installed. Run: python benchmarks/bench_losses.py
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

import replica
from replica import Loss
from replica._core import jit

N = 2000


def seconds(function: Callable[[], object], repeats: int = 5) -> float:
    """Best of several runs after a warm-up."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def theory(loss: str | Loss, points: int, signs: bool) -> float:
    """Seconds a point on one core, alpha in 0.1..10, zeta in 0.01..10, S = 0.1."""
    draw = np.random.default_rng(0)
    alpha, zeta = 10 ** draw.uniform(-1, 1, points), 10 ** draw.uniform(-2, 1, points)
    labels = {"teacher": "sign", "noise": "input"} if signs else {}
    return (
        seconds(lambda: replica.solve_equilibrium(alpha, 0.1, zeta, loss=loss, **labels)) / points
    )


def alternative(hinge: bool) -> float | None:
    """Seconds of one fit at alpha = 2, zeta = 1, as many as one point of a curve needs at least."""
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.svm import LinearSVC
    except ImportError:
        return None
    draw = np.random.default_rng(0)
    X = draw.normal(size=(2 * N, N)) / np.sqrt(N)
    y = np.sign(X @ draw.normal(size=N))
    if hinge:
        model = LinearSVC(C=1.0, loss="hinge", fit_intercept=False, max_iter=10_000)
    else:
        model = LogisticRegression(C=1.0, fit_intercept=False)
    return seconds(lambda: model.fit(X, y), repeats=2)


def main() -> None:
    jit.n_cores = lambda: 1  # one core, as the figures say
    own = Loss(lambda x: np.logaddexp(0.0, -x), of="margin")
    ridge = theory("square", 20_000, False)
    print(f"ridge: {1 / ridge:,.0f} points/s")
    rows = (
        ("huber", "huber", 20_000, False),
        ("absolute", "absolute", 20_000, False),
        ("quantile:0.9", "quantile:0.9", 20_000, False),
        ("hinge", "hinge", 400, True),
        ("squared-hinge", "squared-hinge", 400, True),
        ("logistic", "logistic", 100, True),
        ("exponential", "exponential", 100, True),
        ("a function of one's own", own, 50, True),
    )
    found = {}
    for name, loss, points, signs in rows:
        found[name] = theory(loss, points, signs)
        print(
            f"{name}: {1 / found[name]:,.0f} points/s, {found[name] * 1e6:.1f} us a point, "
            f"{found[name] / ridge:.0f} times ridge"
        )
    for name, hinge in (("logistic", False), ("hinge", True)):
        fit = alternative(hinge)
        if fit is None:
            print("scikit-learn is not installed")
            break
        print(
            f"{name}: one fit at N = {N} by scikit-learn takes {fit:.2f} s, "
            f"{fit / found[name]:,.0f} times a point of theory"
        )


if __name__ == "__main__":
    main()
