"""The ReLU student without decay as a convex program: interpolation threshold and least norm.

Below the threshold every sample with y > 0 can be fitted, W.x = y, while every other is silent,
W.x <= 0. That is a system of linear equations and inequalities; `least_norm_fit` decides it and
finds its shortest solution exactly. No training and no replicas.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from replica import gen_error, gen_error_from_overlaps, interpolation_threshold
from replica.plotting import ERROR_LABEL, LOAD_LABEL, draw_curve, finish_axes, line_style, new_axes
from replica.simulation import make_training_set

from ._claims import Claim, Point
from ._runs import Setup, fit_limit, standard_error

NOISES = (0.01, 0.25, 1.0, 4.0)
# S: loads of the least-norm solutions, far enough below the threshold for one to exist at every N.
LEAST_NORM = {0.25: (0.25, 0.5, 0.75, 1.0), 0.0: (0.5, 1.0, 1.25)}
# A solution 1e6 times longer than the fit of the samples with y > 0 counts as none.
SMALLEST = 1e-6


def least_norm_fit(X: NDArray[Any], y: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """The shortest W with W.x = y where y > 0 and W.x <= 0 elsewhere; None if there is none.

    The equations are solved by QR. What is left, the shortest v with G v >= h, is least-distance
    programming (Lawson and Hanson, Solving Least Squares Problems, 1974, chapter 23): with
    the non-negative least-squares fit of (0, 1) by the columns of [G^T; h^T], the residual r is 0
    if and only if the system has no solution, and v = -r[:-1] / r[-1] otherwise.

    Examples
    --------
    >>> X = np.array([[1.0, 0.0], [1.0, 1.0]])
    >>> least_norm_fit(X, np.array([1.0, -0.5])).round(12)
    array([ 1., -1.])
    >>> least_norm_fit(np.vstack([X, X[:1] - X[1:]]), np.array([1.0, -0.5, -0.5])) is None
    True
    """
    from scipy.linalg import qr, solve_triangular

    active = y > 0
    k, N = int(np.count_nonzero(active)), X.shape[1]
    if k > N:
        return None
    Q, T = qr(X[active].T)
    W = Q[:, :k] @ solve_triangular(T[:k], y[active], trans="T")
    fields = X[~active] @ W
    if not np.any(fields > 0):
        return W
    rest = Q[:, k:]
    scale = np.linalg.norm(fields)
    target = np.zeros(N - k + 1)
    target[-1] = 1.0
    columns = np.vstack([-(X[~active] @ rest).T, fields / scale])
    r = columns @ nonnegative_fit(columns, target) - target
    if np.linalg.norm(r) < SMALLEST:
        return None
    return W - rest @ (r[:-1] * (scale / r[-1]))


def nonnegative_fit(columns: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[Any]:
    """The x >= 0 of least |columns x - target|.

    `nnls` of SciPy 1.13 solves the normal equations, and may turn in a circle where the columns
    nearly depend on each other; then by another method, which does not but is slower.

    Examples
    --------
    >>> nonnegative_fit(np.array([[1.0, 1.0], [0.0, 1.0]]), np.array([1.0, -1.0]))
    array([1., 0.])
    """
    from scipy.optimize import lsq_linear, nnls

    most = 100 * columns.shape[1]
    try:
        return nnls(columns, target, maxiter=most)[0]
    except RuntimeError:
        fit = lsq_linear(
            columns, target, bounds=(0.0, np.inf), method="bvls", tol=1e-15, max_iter=most
        )
        return np.asarray(fit.x)


def largest_fit(X: NDArray[Any], y: NDArray[np.float64]) -> int:
    """How many samples, in the order given, still have a solution: by bisection.

    Every further sample is a further constraint, so the answer changes once.

    Examples
    --------
    >>> X = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, -1.0]])
    >>> largest_fit(X, np.array([1.0, -0.5, -0.5]))
    2
    """
    low, high = 0, y.size + 1
    while high - low > 1:
        middle = (low + high) // 2
        if least_norm_fit(X[:middle], y[:middle]) is None:
            high = middle
        else:
            low = middle
    return low


def measure_thresholds(S: float, N: int, n_runs: int, seed: int) -> dict[str, Any]:
    """Largest load that can be fitted, for `n_runs` sequences of samples."""
    loads = []
    for child in np.random.SeedSequence(seed).spawn(n_runs):
        samples = make_training_set(4 * N, N, S, child)  # at load 4 more than N have y > 0
        loads.append(largest_fit(samples.X, samples.y) / N)
    return {"runs": np.array(loads)}


def measure_least_norm(alpha: float, S: float, N: int, n_runs: int, seed: int) -> dict[str, Any]:
    """Generalization error of the least-norm solution; NaN where there is none."""
    errors = []
    for child in np.random.SeedSequence(seed).spawn(n_runs):
        samples = make_training_set(round(alpha * N), N, S, child)
        W = least_norm_fit(samples.X, samples.y)
        if W is None:
            errors.append(np.nan)
        else:
            gamma = np.sqrt(np.mean(W**2))
            errors.append(gen_error_from_overlaps(gamma, W.mean() / gamma, student="relu"))
    return {"runs": np.array(errors)}


def run(setup: Setup) -> list[Claim]:
    """Both claims, and the figure."""
    name = "relu_threshold"
    common = setup.evidence(name)
    factor = 1 if setup.N < 4096 else 2
    sizes = [factor * n for n in (50, 100, 200)]
    counts = [factor * n for n in (600, 400, 160)]
    grid = [
        {"S": S, "N": N, "n_runs": n, "seed": setup.seed + 1000 * k}
        for S in NOISES
        for k, (N, n) in enumerate(zip(sizes, counts, strict=True))
    ]
    loads = by_point(setup.run(measure_thresholds, grid), len(sizes))
    thresholds = {S: limit(sizes, runs) for S, runs in zip(NOISES, loads, strict=True)}
    least_norm_counts = [factor * n for n in (1200, 800, 400)]
    cases = [(S, alpha) for S in LEAST_NORM for alpha in LEAST_NORM[S]]
    grid = [
        {"alpha": alpha, "S": S, "N": N, "n_runs": n, "seed": setup.seed + 7 + 1000 * k}
        for S, alpha in cases
        for k, (N, n) in enumerate(zip(sizes, least_norm_counts, strict=True))
    ]
    errors = by_point(setup.run(measure_least_norm, grid), len(sizes))
    claims = [
        Claim(
            name="relu-threshold",
            statement="The ReLU student can fit all samples with y > 0 and silence the others up "
            "to the load alpha_c(S).",
            stated_by="package",
            formula="Prop. 5 diverges at alpha = 2 for every S > 0",
            theory="alpha_c = 2 pi/(pi + phi), S = (tan phi - phi)/(pi + phi)",
            points=tuple(
                Point(
                    f"S = {S:g}",
                    interpolation_threshold(S, student="relu"),
                    *thresholds[S],
                    min(counts),
                )
                for S in NOISES
            ),
            note=f"Largest solvable load of each sequence of samples, decided exactly as a convex "
            f"program; means at N = {', '.join(map(str, sizes))} extrapolated by a + c/N. The "
            "system is solvable where a random subspace of dimension N meets a cone in the space "
            "of the P outputs. By the conic kinematic formula that happens up to a load at which "
            "the statistical dimension of the cone is P - N + 1, in a window of width N^(-1/2), "
            "and the mean moves by 1/N.",
            **common,
        ),
        Claim(
            name="relu-least-norm",
            statement="Below alpha_c the least-norm solution has the replica error of vanishing "
            "decay.",
            stated_by="package",
            formula="section 4.1 has 1 - alpha/4 + alpha S/(2 (2 - alpha)) instead",
            theory="solve_equilibrium at zeta = 0",
            points=tuple(
                last_point(
                    f"alpha = {alpha:g}, S = {S:g}",
                    gen_error(alpha, S, student="relu"),
                    sizes,
                    runs,
                )
                for (S, alpha), runs in zip(cases, errors, strict=True)
            ),
            note="Vanishing decay picks the least-norm point of a convex set: there is one minimum "
            "and replica symmetry is exact, unlike above alpha_c and at any zeta > 0.",
            **common,
        ),
    ]
    draw(setup, sizes, dict(zip(NOISES, loads, strict=True)), thresholds, cases, errors, name)
    return claims


def by_point(results: list[dict[str, Any]], n_sizes: int) -> list[list[NDArray[np.float64]]]:
    """The single runs of every point, by size."""
    runs = [np.asarray(r["runs"], float) for r in results]
    return [runs[i : i + n_sizes] for i in range(0, len(runs), n_sizes)]


def summary(runs: list[NDArray[np.float64]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard error at every size."""
    mean = np.array([r.mean() for r in runs])
    return mean, np.array([standard_error(r) for r in runs])


def limit(sizes: list[int], runs: list[NDArray[np.float64]]) -> tuple[float, float]:
    """Extrapolation by a + c/N, with its standard error."""
    fit = fit_limit(np.array(sizes), *summary(runs))
    return float(fit.limit), float(fit.limit_error)


def last_point(
    where: str, theory: float, sizes: list[int], runs: list[NDArray[np.float64]]
) -> Point:
    """The largest size beside the theory, with the allowance c/N that the smaller ones give."""
    mean, error = summary(runs)
    fit = fit_limit(np.array(sizes[:-1]), mean[:-1], error[:-1])
    slope, slope_error = float(fit.slope) / sizes[-1], float(fit.slope_error) / sizes[-1]
    last = float(mean[-1]), float(error[-1]), runs[-1].size
    return Point(where, float(theory), *last, slope, slope_error)


def draw(setup: Setup, sizes, loads, thresholds, cases, errors, name: str) -> None:
    """Threshold against the noise, its approach in N, and the error below it."""
    figure, (left, middle, right) = new_axes(3, width=4.2, height=4.2)
    S = np.geomspace(0.003, 12.0, 200)
    draw_curve(left, S, interpolation_threshold(S, student="relu"), marker="none", label="theory")
    style = line_style(1, linestyle="none", label="solvable systems, N → ∞")
    left.errorbar(NOISES, *np.transpose([thresholds[s] for s in NOISES]), **style)
    for value, text in ((2.0, "2, no noise"), (4 / 3, "4/3, noise only")):
        left.axhline(value, color="0.6", linewidth=1.0, linestyle=":", zorder=0)
        left.annotate(text, (0.0032, value), xytext=(0, -12), textcoords="offset points")
    left.set_xscale("log")
    left.set_ylim(1.25, 2.05)
    for i, s in enumerate(NOISES):
        style = line_style(i, linestyle="none", label=f"S = {s:g}")
        middle.errorbar(1.0 / np.array(sizes), *summary(loads[s]), **style)
        middle.plot([0.0], [interpolation_threshold(s, student="relu")], "_", color="black", ms=14)
        fit = fit_limit(np.array(sizes), *summary(loads[s]))
        ends = np.array([0.0, 1.05 / sizes[0]])
        middle.plot(ends, fit.limit + fit.slope * ends, color=style["color"], linewidth=0.8)
    alpha = np.arange(5, 200) / 100.0
    for i, noise in enumerate(LEAST_NORM):
        values = gen_error(alpha, noise, student="relu")
        draw_curve(right, alpha, values, index=i, marker="none", label=f"replica, S = {noise:g}")
        chosen = [k for k, (s, _) in enumerate(cases) if s == noise]
        mean, error = np.transpose([[v[-1] for v in summary(errors[k])] for k in chosen])
        style = line_style(i, linestyle="none", label=f"least norm, S = {noise:g}")
        right.errorbar([cases[k][1] for k in chosen], mean, error, **style)
    right.set_ylim(0.4, 1.5)
    threshold = r"threshold  $\alpha_c$"
    finish_axes(left, title="interpolation threshold", xlabel="noise  S", ylabel=threshold)
    left.legend(loc="upper right")
    finish_axes(
        middle,
        title="finite systems (bars at 0: theory)",
        xlabel="1/N",
        ylabel=threshold,
        legend="below",
    )
    title = f"least norm, N = {sizes[-1]}"
    finish_axes(right, title=title, xlabel=LOAD_LABEL, ylabel=ERROR_LABEL, legend="below")
    setup.save(figure, name)
