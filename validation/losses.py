"""Losses and labels: the minimum of a convex loss, separable data, the Bayes bound, tanh and abs.

Training goes to the minimum, whose gradient or duality gap the simulator reports. One run at
N = 4096 holds one to three matrices of P N numbers, 64 to 270 MB each. It takes a second or a few,
but a minute for a loss with kinks at alpha = 2, where matrices of size N are factorized.
Separability is decided by linear programs, and the maximal margin is the shortest solution of its
inequalities.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from replica import (
    Equilibrium,
    Status,
    bayes_optimal,
    separability_threshold,
    simulate_training,
    solve_equilibrium,
)
from replica.losses import huber
from replica.plotting import ERROR_LABEL, LOAD_LABEL, draw_curve, finish_axes, line_style, new_axes
from replica.simulation import make_training_set
from replica.students import LINEAR, SIGN, Student

from ._claims import Claim, Point
from ._runs import Setup
from .relu_threshold import by_point, last_point, limit, nonnegative_fit

MARGINS: dict[str, Any] = {"teacher": "sign", "noise": "input", "S": 0.25}
RESIDUALS: dict[str, Any] = {"teacher": "linear", "noise": "output", "S": 0.25}
LOSSES: dict[str, dict[str, Any]] = {
    "logistic": MARGINS | {"loss": "logistic", "zeta": 0.5},
    "hinge": MARGINS | {"loss": "hinge", "zeta": 1.0},
    "Huber": RESIDUALS | {"loss": "huber", "zeta": 0.25},
    "absolute": RESIDUALS | {"loss": "absolute", "zeta": 0.25},
}
NEWTON: dict[str, Any] = {"method": "newton"}
DESCENT: dict[str, Any] = {"method": "l-bfgs"}
LARGE = [
    LOSSES["logistic"] | NEWTON | {"alpha": 0.5},
    LOSSES["logistic"] | DESCENT | {"alpha": 2.0},
    LOSSES["hinge"] | NEWTON | {"alpha": 0.5},
    LOSSES["Huber"] | NEWTON | {"alpha": 0.5},
    LOSSES["Huber"] | DESCENT | {"alpha": 2.0},
    LOSSES["absolute"] | NEWTON | {"alpha": 0.5},
    LOSSES["hinge"] | NEWTON | {"alpha": 2.0},
    LOSSES["absolute"] | NEWTON | {"alpha": 2.0},
]
# Labels of noise S = 1 cannot be separated above alpha = 2.695.
UNDECAYED = [
    LOSSES["absolute"] | NEWTON | {"alpha": 2.0, "zeta": 0.0},
    LOSSES["Huber"] | DESCENT | {"alpha": 2.0, "zeta": 0.0},
    LOSSES["logistic"] | DESCENT | {"alpha": 6.0, "zeta": 0.0, "S": 1.0},
]
TANH: dict[str, Any] = {"student": "tanh", "teacher": "tanh", "S": 0.05, "zeta": 0.1} | DESCENT
# Annealing is of piecewise-linear students with a slope in [0, 1]: it has no meaning for abs.
ABS: dict[str, Any] = {
    "student": "abs", "teacher": "abs", "S": 0.05, "zeta": 0.1, "method": "sgd",
    "batch_size": -16, "learning_rate": 0.2, "schedule": "cosine", "epochs": 300, "record": 300,
}  # fmt: skip
TANH_CASES = [TANH | {"alpha": a} for a in (1.0, 2.0, 4.0)]
ABS_CASES = [ABS | {"alpha": a} for a in (12.0, 16.0)]
FEW_SAMPLES = [ABS | {"alpha": a} for a in (2.0, 4.0)]
BETWEEN = [ABS | {"alpha": 8.0}]  # some runs find the minimum, others do not
OBSERVABLES = ("gamma", "R", "gen_error", "train_loss", "energy")
COMPARED = OBSERVABLES[:4]  # of convex losses; of the other students what they minimize, too
NOISES = (1.0, 4.0)  # of labels whose separability is decided
MAXIMAL_MARGINS = ((0.5, 0.0), (2.0, 0.0), (1.0, 0.25))  # (alpha, S)
# Relative distance of two solvers' weights that counts as one standard error. Ours are run to
# gradients or gaps of 1e-10; what is left are coordinate descent (hinge) after 1e5 passes, and the
# L-BFGS of HuberRegressor, which stops where the energy changes by less than 2e-9 of itself: that
# is a distance of the square root of it, times that of energy per curvature, about 2.
SOLVERS = {"logistic": 1e-7, "hinge": 1e-5, "Huber": 1e-4, "absolute": 1e-7}
# Above the tolerance of the linear programs, 1e-7, and far below margins, of order 1/N and more.
SMALLEST = 1e-6
FITS = 4  # training sets of each comparison with scikit-learn

ABSOLUTE_VALUE = Student(np.abs, kinks=(0.0,))

Array = NDArray[np.float64]


def activation(name: str) -> str | Student:
    """The student of this name, "abs" besides those of the package."""
    return ABSOLUTE_VALUE if name == "abs" else name


def minimum(**options: Any) -> dict[str, Any]:
    """One call of `simulate_training`: the observables at its end, of every run.

    `batch_size` may be negative: -16 means N/16.
    """
    for name in ("student", "teacher"):
        if name in options:
            options[name] = activation(options[name])
    if "batch_size" in options:
        options["batch_size"] = max(1, options["N"] // -options["batch_size"])
    run = simulate_training(**options, n_threads=1, progress=False)
    record: dict[str, Any] = {"epoch": run.epoch[-1:]}
    for name in OBSERVABLES:
        record[f"{name}_runs"] = getattr(run, name)[-1:]
    failed = ~np.isin(run.status, (Status.CONVERGED, Status.DONE))
    return record | {"status": "divergent" if failed.any() else "done"}


def theory(case: dict[str, Any], S: float | None = None) -> Equilibrium:
    """The replica-symmetric minimum of a case; `S`: with the noise of another one."""
    options = {k: case[k] for k in ("loss", "noise") if k in case}
    return solve_equilibrium(
        case["alpha"],
        case["S"] if S is None else S,
        case["zeta"],
        student=activation(case.get("student", "linear")),
        teacher=activation(case["teacher"]),
        **options,
    )


def words(case: dict[str, Any]) -> str:
    """The parameters of a case, in words."""
    what = case["student"] if "student" in case else case["loss"]
    return f"{what}, alpha = {case['alpha']:g}, zeta = {case['zeta']:g}, S = {case['S']:g}"


def compare(
    setup: Setup, cases: Sequence[dict[str, Any]], observables: Sequence[str] = COMPARED
) -> tuple[Point, ...]:
    """Every observable of every case, beside the theory."""
    found = {name: setup.measure(cases, name, function=minimum) for name in observables}
    expected = [theory(case) for case in cases]
    return tuple(
        found[name][i].point(f"{words(case)}: {name}", float(getattr(expected[i], name)))
        for i, case in enumerate(cases)
        for name in observables
    )


# ------------------------------------------------------------------------ the same by scikit-learn


def compare_fits(loss: str, alpha: float, N: int, n_runs: int, seed: int) -> dict[str, Any]:
    """Largest |W - W'|/|W'| of our minima W and scikit-learn's W' on the same samples."""
    case: dict[str, Any] = LOSSES[loss] | NEWTON
    if loss == "absolute":  # scikit-learn has the decay of |W|_1 there
        case = case | {"zeta": 0.0}

    def train(**changes: Any) -> Any:
        options: dict[str, Any] = {"N": N, "n_runs": n_runs, "seed": seed, **case, **changes}
        return simulate_training(alpha, n_threads=1, progress=False, **options)

    fitted, distances = train(), []
    teacher = SIGN if case["teacher"] == "sign" else LINEAR
    for i, data_seed in enumerate(fitted.data_seeds):
        data = make_training_set(
            round(alpha * N), N, case["S"], data_seed, teacher=teacher, noise=case["noise"]
        )
        W, scale = by_scikit_learn(loss, data.X, data.y, case["zeta"])
        if loss == "Huber":  # of the width and the decay that its estimate of the scale makes
            fitted = train(loss=huber(1.35 * scale), zeta=case["zeta"] * scale)
        own = fitted.weights[i]
        distances.append(np.linalg.norm(own - W) / np.linalg.norm(W))
    return {"distance": float(np.max(distances))}


def by_scikit_learn(loss: str, X: NDArray[Any], y: Array, zeta: float) -> tuple[Array, float]:
    """scikit-learn's weights, and of Huber's regression the scale s that it estimates.

    It minimizes sum_j s h(r_j/s) + s + a |W|^2 over W and s, with h(x) = x^2 for |x| below e, and
    beyond with constant slope: for its s that is our Huber loss of width e s and zeta = a s.
    """
    from sklearn.linear_model import HuberRegressor, LogisticRegression, QuantileRegressor
    from sklearn.svm import LinearSVC

    if loss == "logistic":
        model = LogisticRegression(
            C=1 / zeta, fit_intercept=False, solver="newton-cholesky", tol=1e-12, max_iter=1000
        )
    elif loss == "hinge":
        model = LinearSVC(
            loss="hinge", dual=True, C=1 / zeta, fit_intercept=False, tol=1e-9, max_iter=100_000
        )
    elif loss == "Huber":
        model = HuberRegressor(
            epsilon=1.35, alpha=zeta, fit_intercept=False, tol=1e-10, max_iter=10_000
        )
    else:
        model = QuantileRegressor(quantile=0.5, alpha=0.0, fit_intercept=False, solver="highs")
    model.fit(X, y)
    return np.ravel(model.coef_), float(getattr(model, "scale_", 1.0))


# ------------------------------------------------------------------------------- separable samples


def is_separable(X: NDArray[Any], y: Array) -> bool:
    """Whether some w has y_j w.x_j > 0 for all samples: a linear program.

    It has the largest t with y_j w.x_j >= t and |w_i| <= 1, so that it always has a solution.

    Examples
    --------
    >>> X = np.array([[1.0], [-2.0]])
    >>> is_separable(X, np.array([1.0, -1.0])), is_separable(X, np.array([1.0, 1.0]))
    (True, False)
    """
    from scipy.optimize import linprog

    N = X.shape[1]
    solution = linprog(
        np.append(np.zeros(N), -1.0),
        A_ub=np.column_stack([-y[:, None] * X, np.ones(y.size)]),
        b_ub=np.zeros(y.size),
        bounds=[(-1.0, 1.0)] * N + [(0.0, None)],
        method="highs",
    )
    if solution.status != 0:
        raise RuntimeError(f"the linear program ended with: {solution.message}")
    return bool(-solution.fun > SMALLEST)


def largest_separable(X: NDArray[Any], y: Array) -> int:
    """How many samples, in the order given, can still be separated: by bisection."""
    low, high = 0, 2 * X.shape[1]
    while high <= y.size and is_separable(X[:high], y[:high]):
        low, high = high, 2 * high
    high = min(high, y.size + 1)
    while high - low > 1:
        middle = (low + high) // 2
        if is_separable(X[:middle], y[:middle]):
            low = middle
        else:
            high = middle
    return low


def sign_samples(alpha: float, S: float, N: int, seed: np.random.SeedSequence) -> tuple[Array, Any]:
    """Samples of a sign teacher with noise before the sign; inputs of variance 1."""
    data = make_training_set(round(alpha * N), N, S, seed, teacher=SIGN, noise="input")
    return data.X * np.sqrt(N), data.y


def measure_separability(S: float, N: int, n_runs: int, seed: int) -> dict[str, Any]:
    """Largest load that can be separated, for `n_runs` sequences of samples."""
    loads = []
    for child in np.random.SeedSequence(seed).spawn(n_runs):
        count = largest_separable(*sign_samples(8.0, S, N, child))
        if count == 8 * N:
            raise RuntimeError(f"all {count} samples are separated: no largest load")
        loads.append(count / N)
    return {"runs": np.array(loads)}


def maximal_margin(X: NDArray[Any], y: Array) -> Array | None:
    """The shortest w with y_j w.x_j >= 1 for all j; None if there is none.

    Least-distance programming as in `relu_threshold.least_norm_fit`.

    Examples
    --------
    >>> maximal_margin(np.array([[2.0, 0.0], [0.0, 4.0]]), np.array([1.0, -1.0])).round(12)
    array([ 0.5 , -0.25])
    """
    columns = np.vstack([(y[:, None] * X).T, np.ones(y.size)])
    target = np.zeros(X.shape[1] + 1)
    target[-1] = 1.0
    r = columns @ nonnegative_fit(columns, target) - target
    return None if np.linalg.norm(r) < 1e-6 else -r[:-1] / r[-1]


def measure_margins(alpha: float, S: float, N: int, n_runs: int, seed: int) -> dict[str, Any]:
    """Margin and overlap of the maximal-margin solution; NaN where there is none."""
    found = []
    for child in np.random.SeedSequence(seed).spawn(n_runs):
        w = maximal_margin(*sign_samples(alpha, S, N, child))
        if w is None:
            found.append((np.nan, np.nan))
        else:
            length = float(np.linalg.norm(w))
            found.append((1.0 / length, w.sum() / (np.sqrt(N) * length)))
    margins, overlaps = np.transpose(found)
    return {"margin": margins, "R": overlaps}


# ---------------------------------------------------------------------------------------- claims


@cache
def says_without_scikit_learn() -> bool:
    """Whether scikit-learn is there; says so once if not."""
    there = find_spec("sklearn") is not None
    if not there:
        print("scikit-learn is not installed: the claim losses-scikit-learn is left out")
    return there


def run(setup: Setup) -> list[Claim]:
    """All claims, and the figure."""
    name = "losses"
    common = setup.evidence(name)
    full = setup.N >= 4096
    # Fewer runs, and no middle size, rather than a smaller N.
    large = replace(setup, n_runs=2, sizes=setup.sizes[:2]) if full else setup
    middle = replace(setup, N=1024, n_runs=8, sizes=(128, 256)) if full else setup
    small = replace(setup, N=512, n_runs=6, sizes=(64, 128))
    convex = compare(large, LARGE)
    undecayed = compare(middle, UNDECAYED)
    errors = [p for p in convex if p.where.endswith(": gen_error")]
    sizes = [32, 64, 128] if full else [24, 48, 96]
    counts = [300, 150, 60] if full else [60, 40, 25]
    loads = measure_by_size(setup, measure_separability, [{"S": S} for S in NOISES], sizes, counts)
    margin_sizes = [100, 200, 400] if full else [50, 100, 200]
    margin_counts = [160, 80, 24] if full else [60, 30, 16]
    at = [{"alpha": alpha, "S": S} for alpha, S in MAXIMAL_MARGINS]
    margins = measure_by_size(setup, measure_margins, at, margin_sizes, margin_counts)
    claims = [
        Claim(
            name="losses-minimum",
            statement="Trained to the minimum, logistic, hinge, Huber and absolute losses have the "
            "length, overlap, error and training loss of the replica solution.",
            theory="solve_equilibrium(loss=...)",
            points=convex,
            note="Signs with noise before the sign for losses of margins (there the error is the "
            "error rate), a linear teacher with noise after it for losses of residuals. Convex: "
            "there is one minimum, and replica symmetry is exact. The training is by Newton's or "
            "an interior-point method, that of smooth losses at alpha = 2 by L-BFGS.",
            **CONVEX | common,
        ),
        Claim(
            name="losses-no-decay",
            statement="Without decay, where samples cannot be fitted or separated, the minimum is "
            "finite and that of the replica solution at zeta = 0.",
            theory="solve_equilibrium(loss=...) at zeta = 0",
            points=undecayed,
            N=middle.N,
            **CONVEX | common,
        ),
        Claim(
            name="losses-separability",
            statement="Noisy signs can be separated up to the load of separability_threshold.",
            stated_by="package",
            formula="1/alpha_c = min_t E[max(0, t y z + Z)^2] (Candes and Sur 2020)",
            theory="separability_threshold",
            points=tuple(
                Point(
                    f"S = {S:g}",
                    float(separability_threshold(S)),
                    *limit(sizes, runs["runs"]),
                    min(counts),
                )
                for S, runs in zip(NOISES, loads, strict=True)
            ),
            note="Largest separable load of each sequence of samples, decided by linear programs; "
            f"means at N = {', '.join(map(str, sizes))} extrapolated by a + c/N.",
            N=sizes[-1],
            **common,
        ),
        Claim(
            name="losses-maximal-margin",
            statement="At zeta = 0 separable samples have the margin kappa and the overlap of the "
            "replica solution.",
            stated_by="package",
            formula="Gardner (1988); Opper, Kinzel, Kleinz and Nehl (1990) without noise",
            theory="solve_equilibrium(loss='hinge') at zeta = 0: margin and R",
            points=tuple(
                last_point(f"{word}, alpha = {alpha:g}, S = {S:g}", value, margin_sizes, runs[word])
                for (alpha, S), runs in zip(MAXIMAL_MARGINS, margins, strict=True)
                for word, value in margin_theory(alpha, S).items()
            ),
            note="The shortest weights of y W.x >= 1, exactly.",
            N=margin_sizes[-1],
            **common,
        ),
        Claim(
            name="losses-bayes",
            statement="No loss has a generalization error below the Bayes-optimal one.",
            stated_by="package",
            formula="the least error of all rules",
            theory="by how much the simulation goes below bayes_optimal: 0",
            points=tuple(below_bayes(case, p) for case, p in zip(LARGE, errors, strict=True)),
            note="Errors above the bound, by the same order: " + above_bayes(errors) + ".",
            **common,
        ),
    ]
    claims += general_claims(middle, small, common)
    if says_without_scikit_learn():
        claims.append(scikit_learn_claim(setup, common))
    draw(setup, name, convex, sizes, [runs["runs"] for runs in loads])
    return claims


CONVEX: dict[str, Any] = {
    "stated_by": "package",
    "formula": "energy sum_j l(y_j, u_j) + zeta |W|^2/2",
}


def measure_by_size(
    setup: Setup,
    function: Callable[..., dict[str, Any]],
    points: Sequence[dict[str, float]],
    sizes: Sequence[int],
    counts: Sequence[int],
) -> list[dict[str, list[Array]]]:
    """What `function` measures at every point, name by name: the single runs of every size."""
    grid = [
        {**point, "N": N, "n_runs": n, "seed": setup.seed + 1000 * k}
        for point in points
        for k, (N, n) in enumerate(zip(sizes, counts, strict=True))
    ]
    results = setup.run(function, grid)
    names = [name for name in ("runs", "margin", "R") if name in results[0]]
    columns = {name: by_point([{"runs": r[name]} for r in results], len(sizes)) for name in names}
    return [{name: columns[name][i] for name in names} for i in range(len(points))]


def margin_theory(alpha: float, S: float) -> dict[str, float]:
    """Margin and overlap of the maximal-margin solution."""
    found = solve_equilibrium(alpha, S, 0.0, loss="hinge", teacher="sign", noise="input")
    return {"margin": float(found.margin), "R": float(found.R)}


def bayes_bound(case: dict[str, Any]) -> float:
    """The least error of a case, in the same measure."""
    best = bayes_optimal(case["alpha"], case["S"], teacher=case["teacher"], noise=case["noise"])
    return float(best.error_rate if case["teacher"] == "sign" else best.gen_error)


def below_bayes(case: dict[str, Any], point: Point) -> Point:
    """By how much the simulated error is below the bound; finite size is allowed for as before."""
    return replace(point, theory=0.0, simulation=max(0.0, bayes_bound(case) - point.simulation))


def above_bayes(errors: Sequence[Point]) -> str:
    """The simulated errors over the Bayes-optimal ones, in percent."""
    shares = [
        100.0 * (p.simulation / bayes_bound(case) - 1.0)
        for case, p in zip(LARGE, errors, strict=True)
    ]
    return ", ".join(f"{s:.1f} %" for s in shares)


def general_claims(setup: Setup, small: Setup, common: dict[str, Any]) -> list[Claim]:
    """Students of an energy that is not convex: what training finds beside the theory."""
    common = common | {"stated_by": "package"}
    both = ("energy", "gen_error")
    tanh = compare(setup, TANH_CASES, both)
    many, few, between = (
        compare(small, cases, both) for cases in (ABS_CASES, FEW_SAMPLES, BETWEEN)
    )
    theory_column = "solve_equilibrium(student=..., teacher=...)"
    return [
        Claim(
            name="losses-tanh",
            statement="The tanh student, trained by L-BFGS from small weights, has the energy and "
            "error of the replica-symmetric solution.",
            formula="square loss of tanh, teacher tanh with noise after it",
            theory=theory_column,
            points=tanh,
            N=setup.N,
            note=NOT_CONVEX + excess_energy(TANH_CASES, tanh) + ".",
            **common,
        ),
        Claim(
            name="losses-abs",
            statement="With samples enough the student |u|, trained by SGD from small weights, has "
            "the energy and error of the replica-symmetric solution.",
            formula="square loss of |u|, teacher |z| with noise after it",
            theory=theory_column,
            points=many,
            N=small.N,
            note=NOT_CONVEX + excess_energy(ABS_CASES, many) + ".",
            **common,
        ),
        Claim(
            name="losses-abs-few-samples",
            statement="With fewer, most runs of the student |u| end in local minima: their mean "
            "energy and error are above those of the replica-symmetric solution.",
            formula="square loss of |u|, teacher |z| with noise after it",
            theory=theory_column,
            points=tuple(replace(p, at_least=True) for p in few),
            N=small.N,
            note="Whether a better minimum can be found is left open. "
            + NOT_CONVEX
            + excess_energy(FEW_SAMPLES + BETWEEN, few + between)
            + ".",
            **common,
        ),
    ]


NOT_CONVEX = (
    "The energy is not convex: training may end in local minima, and where the replicon is "
    "negative the symmetric energy is too low. Energy found over that of the theory: "
)


def excess_energy(cases: Sequence[dict[str, Any]], points: Sequence[Point]) -> str:
    """The energy found over that of the theory, by case, with the replicon."""
    found = [p for p in points if p.where.endswith(": energy")]
    return "; ".join(
        f"alpha = {case['alpha']:g}: {100 * (p.simulation / p.theory - 1):+.2f} %, replicon "
        f"{float(theory(case).replicon):.3g}"
        for case, p in zip(cases, found, strict=True)
    )


def scikit_learn_claim(setup: Setup, common: dict[str, Any]) -> Claim:
    """Weights of both on the same samples."""
    cases = [
        {"loss": loss, "alpha": alpha, "N": 100, "n_runs": FITS, "seed": setup.seed}
        for loss, loads in (
            ("logistic", (0.5, 2.0)), ("hinge", (0.5, 2.0)), ("Huber", (2.0,)), ("absolute", (2.0,))
        )
        for alpha in loads
    ]  # fmt: skip
    found = setup.run(compare_fits, cases)
    return Claim(
        name="losses-scikit-learn",
        statement="scikit-learn has the same minimum on the same samples, to the solvers' "
        "tolerance.",
        stated_by="package",
        formula="LogisticRegression, LinearSVC (dual), HuberRegressor, QuantileRegressor",
        theory="distance of the weights |W - W'|/|W'|: 0",
        points=tuple(
            # No scatter: the error is the solvers' tolerance.
            Point(
                f"{case['loss']}, alpha = {case['alpha']:g}",
                0.0,
                float(row["distance"]),
                SOLVERS[case["loss"]],
                1000,
            )
            for case, row in zip(cases, found, strict=True)
        ),
        note=f"The largest distance of {FITS} training sets. The +- is not scatter but the "
        "tolerance of the solvers. scikit-learn has C = 1/zeta; of HuberRegressor, which estimates "
        "a scale, the width and the decay times that scale; the absolute loss is compared at "
        "zeta = 0, where both have the same energy.",
        N=100,
        **common,
    )


# ---------------------------------------------------------------------------------------- figure


def draw(
    setup: Setup, name: str, points: Sequence[Point], sizes: Sequence[int], loads: Any
) -> None:
    """Errors over the load beside the Bayes bound, and the share of separable samples."""
    figure, axes = new_axes(3, width=4.4, height=4.4)
    alpha = np.geomspace(0.2, 4.0, 60)
    cases = LARGE
    errors = [p for p in points if p.where.endswith(": gen_error")]
    for ax, titled in zip(axes, (("logistic", "hinge"), ("Huber", "absolute")), strict=False):
        for i, title in enumerate(titled):
            case = LOSSES[title]
            curve = theory(case | {"alpha": alpha}).gen_error
            label = f"{title}, ζ = {case['zeta']:g}"
            draw_curve(ax, alpha, curve, index=i, marker="none", label=label)
            chosen = [k for k, c in enumerate(cases) if c["loss"] == case["loss"]]
            style = line_style(i, linestyle="none", label=f"{title}, trained")
            ax.errorbar(
                [cases[k]["alpha"] for k in chosen], [errors[k].simulation for k in chosen],
                [errors[k].standard_error for k in chosen], **style,
            )  # fmt: skip
        best = np.array([bayes_bound(LOSSES[titled[0]] | {"alpha": a}) for a in alpha])
        draw_curve(ax, alpha, best, index=3, marker="none", label="Bayes-optimal")
    for j, (S, runs) in enumerate(zip(NOISES, loads, strict=True)):
        for size, found, width in zip(sizes, runs, (0.6, 1.0, 1.6), strict=True):
            loads_found = np.sort(found)
            share = 1.0 - np.arange(found.size) / found.size
            style = line_style(j, marker="none", linewidth=width, label=f"S = {S:g}, N = {size}")
            axes[2].step(loads_found, share, **style)
        axes[2].axvline(float(separability_threshold(S)), color="0.4", linewidth=1.0, zorder=0)
    rate: dict[str, Any] = {"xlabel": LOAD_LABEL, "ylabel": "error rate", "legend": "below"}
    finish_axes(axes[0], title="signs with noise, S = 0.25", **rate)
    finish_axes(axes[1], title="linear teacher, S = 0.25", **rate | {"ylabel": ERROR_LABEL})
    title = "separable samples (lines: theory)"
    finish_axes(axes[2], title=title, **rate | {"ylabel": "share of separable samples"})
    setup.save(figure, name)
