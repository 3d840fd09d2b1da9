"""Finite-size scaling: how simulations at N approach the theory, which gives the allowances."""

from __future__ import annotations

import numpy as np

from replica import gen_error, simulate_training
from replica.plotting import finish_axes, line_style, new_axes

from ._claims import Claim, Point
from ._runs import Setup
from .figure1_linear import DECAYS, S, decay_points

# Least squares, where the error at finite N is known: S N/(P - N - 1).
LOAD = 1.5
EXPONENT_SIZES = (16, 24, 32, 48, 64)
EXPONENT_SAMPLES = 400_000  # N times runs, at every size
SCATTER_SIZES = (500, 2_000, 8_000, 32_000)
SCATTER_RUNS = 48


def least_squares(*, N: int, n_runs: int, seed: int) -> dict:
    """Mean error of exact least squares at `LOAD`, drawn without training."""
    rng = np.random.default_rng((seed, N))
    errors = np.empty(n_runs)
    for i in range(n_runs):
        X = rng.standard_normal((round(LOAD * N), N)) / np.sqrt(N)
        # W - W* = (X^T X)^-1 X^T s
        noise = np.sqrt(S) * rng.standard_normal(X.shape[0])
        errors[i] = np.mean(np.linalg.lstsq(X, noise, rcond=None)[0] ** 2)
    return {"mean": errors.mean(), "error": errors.std(ddof=1) / np.sqrt(n_runs)}


def scatter(*, N: int, n_runs: int, seed: int) -> dict:
    """Scatter between runs of the matrix-free engine: ReLU, 10 steps."""
    run = simulate_training(
        1.5, S, N=N, student="relu", learning_rate=0.2, engine="matrix-free", epochs=10,
        n_runs=n_runs, seed=seed, record=10, n_threads=1, progress=False,
    )  # fmt: skip
    return {"std": run.gen_error[-1].std(ddof=1)}


def slope(x, y, error) -> tuple[float, float]:
    """Weighted straight line: its slope and standard error."""
    basis = np.stack([np.ones_like(x), x], axis=1) / error[:, None]
    covariance = np.linalg.inv(basis.T @ basis)
    return float((covariance @ basis.T @ (y / error))[1]), float(np.sqrt(covariance[1, 1]))


def run(setup: Setup) -> list[Claim]:
    """All claims, and the figure."""
    name = "finite_size"
    common = {"command": setup.command(name), "seed": setup.seed, "figure": f"{name}.png"}
    grid = [{"N": n, "n_runs": EXPONENT_SAMPLES // n} for n in EXPONENT_SIZES]
    exact = setup.run(least_squares, grid, seed=setup.seed)
    sizes = np.array(EXPONENT_SIZES, float)
    deviation = np.array([r["mean"] for r in exact]) - gen_error(LOAD, S)
    error = np.array([r["error"] for r in exact])
    # log of the deviation over N: the logarithm's error is the relative one
    exponent, exponent_error = slope(np.log(sizes), np.log(deviation), error / deviation)
    spread = setup.run(
        scatter, [{"N": n, "n_runs": SCATTER_RUNS} for n in SCATTER_SIZES], seed=setup.seed
    )
    stds = np.array([r["std"] for r in spread])
    width = np.full(stds.size, 1 / np.sqrt(2 * (SCATTER_RUNS - 1)))
    rate, rate_error = slope(np.log(np.array(SCATTER_SIZES, float)), np.log(stds), width)
    limits, measured = [], {}
    for zeta, (loads, _) in DECAYS.items():
        measured[zeta] = setup.measure(decay_points(zeta))
        for alpha, m in zip(loads, measured[zeta], strict=True):
            limits.append(
                Point(
                    f"alpha = {alpha:g}, zeta = {zeta:g}",
                    gen_error(alpha, S, zeta),
                    float(m.fit.limit[-1]),
                    float(m.fit.limit_error[-1]),
                    setup.n_runs,
                )
            )
    many = EXPONENT_SAMPLES // max(EXPONENT_SIZES)
    claims = [
        Claim(
            name="limit",
            statement="Linear training extrapolated to N = infinity, by a + c/N from small sizes, "
            "meets the theory.",
            stated_by="package",
            formula="section 4: the thermodynamic limit",
            theory="gen_error",
            points=tuple(limits),
            note=f"From N = {', '.join(map(str, setup.sizes))} alone, without allowance.",
            **common,
        ),
        Claim(
            name="exponent",
            statement="The mean of least squares deviates from the limit as 1/N.",
            stated_by="package",
            formula="none in the paper",
            theory="exponent of S N/(P - N - 1) - S/(alpha - 1), fitted at the same sizes",
            points=(
                Point(
                    f"alpha = {LOAD:g}, N = {EXPONENT_SIZES[0]}..{EXPONENT_SIZES[-1]}",
                    slope(np.log(sizes), np.log(finite_error(sizes)), error / deviation)[0],
                    exponent,
                    exponent_error,
                    many,
                ),
            ),
            note="The exponent tends to -1; at these sizes the next order makes it steeper.",
            **common,
        ),
        Claim(
            name="scatter",
            statement="Single runs scatter about their mean as N^(-1/2) (matrix-free engine).",
            stated_by="package",
            formula="none in the paper",
            theory="-1/2",
            points=(
                Point(
                    f"ReLU, alpha = 1.5, N = {SCATTER_SIZES[0]}..{SCATTER_SIZES[-1]}",
                    -0.5,
                    rate,
                    rate_error,
                    SCATTER_RUNS,
                ),
            ),
            **common,
        ),
    ]
    figure, (left, right) = new_axes(2)
    style = line_style(0, linestyle="none", label="least squares, simulated")
    left.errorbar(sizes, deviation, error, **style)
    left.plot(sizes, finite_error(sizes), color="black", label="$SN/(P-N-1) - S/(\\alpha-1)$")
    left.set(xscale="log", yscale="log")
    style = line_style(1, linestyle="none", label="standard deviation of runs")
    right.errorbar(SCATTER_SIZES, stds, stds * width, **style)
    guide = np.array(SCATTER_SIZES, float)
    line = stds[0] * (guide / guide[0]) ** -0.5
    right.plot(guide, line, color="black", label="$N^{-1/2}$")
    right.set(xscale="log", yscale="log")
    title = rf"linear, $\alpha$ = {LOAD:g}, $\zeta$ = 0"
    finish_axes(left, xlabel="$N$", ylabel="deviation from the limit", title=title, legend="inside")
    finish_axes(
        right, xlabel="$N$", ylabel="scatter", title="ReLU, matrix-free, 10 steps", legend="inside"
    )
    setup.save(figure, name)
    return claims


def finite_error(N):
    """What the mean error of least squares exceeds its limit by, exactly."""
    return S * N / (LOAD * N - N - 1) - S / (LOAD - 1)
