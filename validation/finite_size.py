"""Finite-size scaling: how simulations at N approach the theory, in the mean and in scatter."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from replica import gen_error, simulate_training
from replica.plotting import finish_axes, line_style, new_axes

from ._claims import Claim, Point
from ._exact_ridge import mean_exact_ridge
from ._runs import Setup, standard_error
from .figure1_linear import DECAYS, LOADS, RIDGE, SGD_LOADS, S, descent_points

LOAD = 1.5
ZETA = 0.25
RATE, STEPS = 0.1, 10  # of the matrix-free runs

# N: independent runs. The mean deviates by 1/N and a single data set by as much (after averaging
# over teacher and noise), so that an exponent needs many data sets at some sizes, not large N.
MEAN_RUNS = {
    "--quick": {32: 1600, 64: 800, 128: 400, 256: 200, 512: 50},
    "--full": {256: 1600, 512: 800, 1024: 200, 2048: 40, 4096: 8, 8192: 2},
}
DENSE_RUNS = {
    "--quick": {32: 512, 64: 256, 128: 128, 256: 96, 512: 64},
    "--full": {256: 256, 512: 128, 1024: 64, 2048: 32, 4096: 16, 8192: 8},
}
FREE_RUNS = {
    "--quick": {1_000: 256, 10_000: 96, 100_000: 32},
    "--full": {1_000: 256, 10_000: 128, 100_000: 48, 1_000_000: 24},
}


def least_squares(*, N: int, n_runs: int, seed: int) -> dict:
    """Error of least squares at `LOAD` on drawn inputs, averaged exactly over noise."""
    rng = np.random.default_rng((seed, N))
    P = round(LOAD * N)

    def draw() -> float:
        return mean_exact_ridge(rng.standard_normal((P, N)) / np.sqrt(N), S, 0.0)

    return {"runs": [draw() for _ in range(n_runs)]}


def dense(*, N: int, n_runs: int, seed: int) -> dict:
    """Errors of ridge regression trained on stored samples."""
    run = simulate_training(
        LOAD, S, N=N, zeta=ZETA, batch_size=round(LOAD * N), n_runs=n_runs, seed=seed,
        learning_rate=RIDGE["learning_rate"], momentum=RIDGE["momentum"], L0=0.0,
        epochs=120, record=120, n_threads=1, progress=False,
    )  # fmt: skip
    return {"runs": run.gen_error[-1]}


def matrix_free(*, N: int, n_runs: int, seed: int, student: str) -> dict:
    """Errors after a few steps of the matrix-free engine."""
    run = simulate_training(
        LOAD, S, N=N, student=student, learning_rate=RATE, engine="matrix-free", epochs=STEPS,
        L0=0.0 if student == "linear" else 0.01, n_runs=n_runs, seed=seed, record=STEPS,
        n_threads=1, progress=False,
    )  # fmt: skip
    return {"runs": run.gen_error[-1]}


def descent_limit() -> float:
    """Error of the linear student after `STEPS` steps of `RATE` from zero weights, N = infinity.

    (1 - alpha)_+ and the Marchenko-Pastur average of (1 - eta x)^(2T) + S (1 - (1 - eta x)^T)^2/x
    by Gauss-Chebyshev quadrature.
    """
    n = 400
    angle = np.pi * np.arange(1, n + 1) / (n + 1)
    half = 2.0 * np.sqrt(LOAD)
    x = 1.0 + LOAD + half * np.cos(angle)
    weight = half**2 * np.sin(angle) ** 2 * np.pi / (n + 1) / (2 * np.pi * x)
    left = (1.0 - RATE * x) ** STEPS
    return max(1.0 - LOAD, 0.0) + float(weight @ (left**2 + S * (1.0 - left) ** 2 / x))


def finite_excess(N: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the mean error of least squares exceeds its limit by, exactly."""
    return S * N / (LOAD * N - N - 1) - S / (LOAD - 1)


def power(
    N: NDArray[np.float64], values: NDArray[np.float64], errors: NDArray[np.float64]
) -> tuple[float, float]:
    """Exponent p of A N^p fitted to values, which may be negative, and its standard error."""
    from scipy.optimize import curve_fit

    best, covariance = curve_fit(
        lambda n, log_size, p: np.exp(log_size) * (n / N[0]) ** p, N, values,
        p0=(np.log(max(values[0], errors[0])), -0.75), sigma=errors, absolute_sigma=True,
    )  # fmt: skip
    return float(best[1]), float(np.sqrt(covariance[1, 1]))


def deviations(rows: list[NDArray[np.float64]], limit: float | None) -> tuple[NDArray, NDArray]:
    """Root mean square of single runs about `limit` (their own mean if None), with its error."""
    if limit is None:
        spread = np.array([r.std(ddof=1) for r in rows])
    else:
        spread = np.array([np.sqrt(np.mean((r - limit) ** 2)) for r in rows])
    return spread, spread / np.sqrt([2 * (r.size - (limit is None)) for r in rows])


def run(setup: Setup) -> list[Claim]:
    """All claims, and the figure."""
    name = "finite_size"
    common = setup.evidence(name)

    def runs(function, table, **fixed) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
        grid = [{"N": n, "n_runs": k} for n, k in table[setup.option].items()]
        rows = setup.run(function, grid, seed=setup.seed, **fixed)
        return np.array([g["N"] for g in grid], float), [np.asarray(r["runs"]) for r in rows]

    sizes, exact = runs(least_squares, MEAN_RUNS)
    excess = np.array([r.mean() for r in exact]) - gen_error(LOAD, S)
    # Averaged over noise they scatter as 1/N: pooled, because the largest sizes have few draws.
    squares = sum(
        float(np.sum((n * (r - r.mean())) ** 2)) for n, r in zip(sizes, exact, strict=True)
    )
    counts = np.array([r.size for r in exact])
    error = np.sqrt(squares / np.sum(counts - 1) / counts) / sizes
    exponent, exponent_error = power(sizes, excess, error)
    expected, _ = power(sizes, finite_excess(sizes), error)

    free_limit = descent_limit()
    families = {
        "dense, ridge": (gen_error(LOAD, S, ZETA), *runs(dense, DENSE_RUNS)),
        "matrix-free, linear": (free_limit, *runs(matrix_free, FREE_RUNS, student="linear")),
        "matrix-free, ReLU": (None, *runs(matrix_free, FREE_RUNS, student="relu")),
    }
    scatter = {}
    for label, (limit, n, rows) in families.items():
        spread, spread_error = deviations(rows, limit)
        scatter[label] = (n, spread, spread_error, *power(n, spread, spread_error))

    def mean_points(label: str, limit: float):
        _, n, rows = families[label]
        for size, row in list(zip(n, rows, strict=True))[-2:]:
            where = f"{label}, N = {size:,.0f}"
            yield Point(where, limit, row.mean(), standard_error(row), row.size)

    limits = []
    for zeta in (0.0, *DECAYS):
        measured = setup.measure(descent_points(zeta), "controlled_error")
        for alpha, m in zip(LOADS if zeta else SGD_LOADS, measured, strict=True):
            limits.append(
                Point(
                    f"alpha = {alpha:g}, zeta = {zeta:g}",
                    gen_error(alpha, S, zeta),
                    float(m.fit.limit[-1]),
                    float(m.fit.limit_error[-1]),
                    sum(v.shape[1] for v in m.values[:-1]),
                )
            )
    claims = [
        Claim(
            name="limit",
            statement="Linear training extrapolated to N = infinity, by a + c/N from small sizes, "
            "meets the theory.",
            stated_by="package",
            formula="section 4: the thermodynamic limit",
            theory="gen_error",
            points=tuple(limits),
            note=f"From N = {', '.join(map(str, setup.sizes))} alone, with no c/N allowed.",
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
                    f"alpha = {LOAD:g}, N = {sizes[0]:.0f}..{sizes[-1]:.0f}",
                    expected,
                    exponent,
                    exponent_error,
                    int(counts.sum()),
                ),
            ),
            note="Averaged exactly over the noise on every draw of the inputs. In the mean of "
            "plain training runs the 1/N is hidden by their scatter.",
            **common,
        ),
        Claim(
            name="scatter",
            statement="Single runs deviate from the limit as N^(-1/2).",
            stated_by="package",
            formula="none in the paper",
            theory="-1/2",
            points=tuple(
                Point(
                    f"{label}, alpha = {LOAD:g}, N = {n[0]:,.0f}..{n[-1]:,.0f}",
                    -0.5,
                    rate,
                    rate_error,
                    min(r.size for r in families[label][2]),
                )
                for label, (n, _, _, rate, rate_error) in scatter.items()
            ),
            note="Root mean square about the theory; for ReLU, which has no closed form after "
            f"{STEPS} steps, about the mean of the runs.",
            **common,
        ),
        Claim(
            name="large-N",
            statement="Training at the largest sizes meets the theory with no c/N allowed.",
            stated_by="package",
            formula="section 4: the thermodynamic limit",
            theory=f"ridge, zeta = {ZETA:g}; {STEPS} steps of {RATE:g} averaged over the "
            "Marchenko-Pastur law",
            points=(
                *mean_points("dense, ridge", gen_error(LOAD, S, ZETA)),
                *mean_points("matrix-free, linear", free_limit),
            ),
            note="The deviation of order 1/N is below the scatter.",
            **common,
        ),
    ]
    draw(setup, name, sizes, excess, error, scatter)
    return claims


def draw(setup: Setup, name: str, sizes, excess, error, scatter) -> None:
    """Means on the left, single runs on the right."""
    figure, (left, right) = new_axes(2)
    left.errorbar(sizes, excess, error, **line_style(0, linestyle="none", label="simulated"))
    left.plot(sizes, finite_excess(sizes), color="black", label="$SN/(P-N-1) - S/(\\alpha-1)$")
    for i, (label, (n, spread, spread_error, rate, rate_error)) in enumerate(scatter.items()):
        text = f"{label}: {rate:.3f} ± {rate_error:.3f}"
        right.errorbar(n, spread, spread_error, **line_style(i, linestyle="none", label=text))
        guide = spread[0] * (n / n[0]) ** -0.5
        right.plot(n, guide, color="black", lw=1, label=r"$N^{-1/2}$" if i == 0 else "")
    left.set(xscale="log", yscale="log")
    left.set_xticks(sizes, [f"{n:.0f}" for n in sizes])
    right.set(xscale="log", yscale="log")
    for axis in (left.xaxis, left.yaxis, right.yaxis):
        axis.set_minor_formatter("")
    title = rf"least squares, $\alpha$ = {LOAD:g}: mean error"
    finish_axes(left, xlabel="$N$", ylabel="excess over the limit", title=title, legend="inside")
    finish_axes(
        right, xlabel="$N$", ylabel="deviation of single runs",
        title="single runs: exponent fitted", legend="below",
    )  # fmt: skip
    setup.save(figure, name)
