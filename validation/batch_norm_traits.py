"""Section 5's traits of batch norm, on the single layer: its two parts, its batch size, freezing
it, and dropout on top. What the paper states as a direction is judged as one; beside it stands what
the package predicts in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from replica import (
    Status,
    bn_equilibrium,
    bn_gen_error,
    gen_error,
    shrinkage,
    simulate_training,
    solve_equilibrium,
)
from replica.plotting import finish_axes, line_style, new_axes
from replica.simulation import TrainingRun, make_training_set

from ._claims import Claim, Point
from ._runs import Setup, standard_error

S = 0.25
RUNS = 24
CENTERED = ("bn", "bn-mean")
M_PARTS = 8  # batch size at which the parts are compared
SIZES = (4, 8, 32, 128)
FROZEN_SIZES = (4, 32)  # batch sizes after which plain SGD goes on
LARGE = 128  # "large-batch" batch norm, under dropout
RELU_LOADS = (2.0, 4.0)
# load, noise, batch size of the linear batch norm that is frozen, and then trained on by SGD
FROZEN = (
    (0.5, 0.25, 4),
    (0.5, 0.0, 4),
    (2.0, 0.25, 4),
    (2.0, 0.25, 32),
    (3.0, 0.25, 4),
    (3.0, 0.25, 32),
)
# load, noise, share of the outputs dropped
DROPPED = ((2.0, 0.25, 0.1), (2.0, 0.25, 0.3), (3.0, 0.05, 0.1), (3.0, 0.05, 0.3))


def decay(epochs: int) -> list[float]:
    """Learning-rate factors from e^0 to e^-6."""
    return np.exp(-6.0 * np.arange(epochs) / epochs).tolist()


def trained(
    *,
    alpha: float,
    S: float,
    N: int,
    n_runs: int,
    seed: int,
    student: str,
    normalizer: str,
    batch_size: int,
    epochs: int,
    dropout: float = 0.0,
    tuning: int = 0,
) -> dict[str, Any]:
    """Train to the end and compare with least squares on the same samples, run by run.

    Returns length, error and training error; for a linear student the scale W.V/|V|^2 along the
    least-squares V (with an intercept if the normalizer subtracts a mean), the length and the error
    of V; with `tuning` epochs of plain SGD afterwards, what they lead to.
    """
    options: dict[str, Any] = {"N": N, "student": student, "batch_size": batch_size}
    options |= {"n_threads": 1, "progress": False}
    start = None
    if student == "linear" and alpha < 1:
        # Batch norm keeps what the start has outside the row space, so start inside it.
        start = simulate_training(
            alpha, S, n_runs=n_runs, seed=seed, learning_rate=0.5, epochs=200, **options
        )
    lengths = (epochs // 2, epochs) if student == "linear" else (epochs,)
    runs = [
        simulate_training(
            alpha, S, n_runs=n_runs, seed=seed, normalizer=normalizer, learning_rate=0.5,
            schedule=decay(length), epochs=length, record=length, dropout=dropout, start=start,
            **options,
        )
        for length in lengths
    ]  # fmt: skip
    if any(np.any(run.status == Status.DIVERGENT) for run in runs):
        return {"status": "divergent"}
    found = [
        {k: getattr(run, k)[-1] for k in ("gamma", "gen_error", "train_error")}
        | (least_squares(run) if student == "linear" else {})
        for run in runs
    ]
    # The noise of the steps leaves a deviation of order 1/epochs, extrapolated to none where the
    # minimum is unique.
    result = found[-1]
    if student == "linear":
        result = {name: 2.0 * found[1][name] - found[0][name] for name in result}
    if tuning:
        after = simulate_training(
            alpha, S, learning_rate=0.3, schedule=decay(tuning), epochs=tuning, record=tuning,
            start=runs[-1], **options,
        )  # fmt: skip
        for name in ("gen_error", "train_error"):
            result[f"{name}_rise"] = getattr(after, name)[-1] - result[name]
        result["gamma_ratio"] = after.gamma[-1] / result["gamma"]
    return result


def least_squares(run: TrainingRun) -> dict[str, NDArray[np.float64]]:
    """Scale of the weights along least squares on their own samples; its length and its error."""
    rows = []
    assert run.weights is not None  # the dense engine has them
    for w, scale, seed in zip(run.weights, run.weight_scale, run.data_seeds, strict=True):
        data = make_training_set(round(run.alpha * run.N), run.N, run.S, seed, w.dtype)
        mean = data.X.mean(axis=0) if run.normalizer in CENTERED else np.zeros(run.N)
        best = np.linalg.lstsq(data.X - mean, data.y, rcond=None)[0]
        W = scale * w
        error = np.mean((1.0 - best) ** 2) + (best @ mean) ** 2
        rows.append((W @ best / (best @ best), np.linalg.norm(best) / np.sqrt(run.N), error))
    return dict(zip(("scale", "best_gamma", "best_error"), np.transpose(rows), strict=True))


def problem(student: str, normalizer: str, alpha: float, batch_size: int, **options: Any) -> dict:
    """Arguments of `trained`, the same for the same run wherever it is used."""
    options.setdefault("tuning", 300 if batch_size in FROZEN_SIZES else 0)
    return {
        "student": student, "normalizer": normalizer, "alpha": alpha, "batch_size": batch_size,
        "S": S, "epochs": 1200, **options,
    }  # fmt: skip


def simulate(setup: Setup, problems: Sequence[dict]) -> list[dict[str, Any]]:
    """`trained` at every problem: smaller than elsewhere, since the training is long."""
    size = {"N": width(setup), "n_runs": RUNS, "seed": setup.seed}
    return setup.run(trained, problems, **size)


def width(setup: Setup) -> int:
    """N of these runs."""
    return max(128, setup.N // 8)


def mean_point(where: str, theory: float, values: NDArray[np.float64]) -> Point:
    """Theory beside the mean over runs."""
    error = float(standard_error(values))
    return Point(where, float(theory), float(np.mean(values)), error, len(values))


def direction_points(effects: dict[str, NDArray[np.float64]]) -> tuple[Point, ...]:
    """One point for each effect that is said to be positive: its mean over runs against 0."""
    return tuple(
        replace(mean_point(where, 0.0, values), at_least=True) for where, values in effects.items()
    )


@cache
def along_and_turned(alpha: float, S: float, size: int, *, centered: bool) -> tuple[float, float]:
    """W.V/|V|^2 along the least-squares V, and 1/cos of the angle to it, at N = infinity."""
    c = shrinkage(size, mean_subtracted=centered)
    if alpha <= 1 or S == 0:
        return c, 1.0
    # A centered batch has M - 1 degrees of freedom; for its scale that is exact at the V itself.
    bn = bn_equilibrium(alpha, S, batch_size=size - centered, theory="finite-batch")
    length = float(bn.gamma) / float(solve_equilibrium(alpha, S, 0.0).gamma)
    turned = 1.0 / np.cos(float(bn.angle))
    return length / turned * c / bn.shrinkage, turned


def expected_scale(normalizer: str, alpha: float, S: float, batch_size: int, N: int) -> float:
    """Length along least squares after training, in batches drawn without replacement."""
    if normalizer in ("wn", "bn-mean"):
        return 1.0
    c, _ = along_and_turned(alpha, S, batch_size, centered=normalizer == "bn")
    return c + (1.0 - c) * (batch_size - 1) / (round(alpha * N) - 1)


def expected_change(
    normalizer: str, alpha: float, S: float, *, batch_size: int, scale: float
) -> tuple[float, float]:
    """Error minus that of least squares, and |W| over that of least squares."""
    best = solve_equilibrium(alpha, S, 0.0)
    q, m = float(best.gamma) ** 2, float(best.gamma * best.R)
    turned = 1.0
    if normalizer != "bn-mean":
        _, turned = along_and_turned(alpha, S, batch_size, centered=normalizer == "bn")
    return q * ((scale * turned) ** 2 - 1.0) - 2.0 * m * (scale - 1.0), scale * turned


def run(setup: Setup) -> list[Claim]:
    """All claims, and the figure."""
    name = "batch_norm_traits"
    common = setup.evidence(name)
    N = width(setup)
    claims: list[Claim] = []
    figure, axes = new_axes(4, width=5.2, height=4.4)
    for trait, ax in zip((parts, batch_sizes, frozen, dropout), axes, strict=True):
        claims += [Claim(**common, **claim, N=N) for claim in trait(setup, N, ax)]
    setup.save(figure, name)
    return claims


def parts(setup: Setup, N: int, ax: Any) -> list[dict[str, Any]]:
    """The mean only, the deviation only, both."""
    kinds = ("bn-mean", "bn-var", "bn")
    loads = (0.5, 2.0)
    linear = {
        (a, kind): row
        for a in loads
        for kind, row in zip(
            kinds, simulate(setup, [problem("linear", k, a, M_PARTS) for k in kinds]), strict=True
        )
    }
    relu = {
        (a, kind): row
        for a in RELU_LOADS
        for kind, row in zip(
            ("wn", *kinds),
            simulate(setup, [problem("relu", k, a, M_PARTS) for k in ("wn", *kinds)]),
            strict=True,
        )
    }
    scales, errors, published = [], [], []
    strengths = {"bn-mean": 1.0, "bn-var": 0.5, "bn": 1.5}  # 2 M zeta, half-squared loss
    for (a, kind), row in linear.items():
        where = f"{kind}, alpha = {a:g}, M = {M_PARTS}"
        scale = expected_scale(kind, a, S, M_PARTS, N)
        change, _ = expected_change(kind, a, S, batch_size=M_PARTS, scale=scale)
        scales.append(mean_point(where, scale, row["scale"]))
        errors.append(mean_point(where, change, row["gen_error"] - row["best_error"]))
        published.append(mean_point(where, 1 / (1 + strengths[kind] / M_PARTS), row["scale"]))
    improves, needed = {}, {}
    for student, runs, own_loads in (("linear", linear, loads), ("relu", relu, RELU_LOADS)):
        for a in own_loads:
            where = f"{student}, alpha = {a:g}"
            for kind in ("bn-mean", "bn-var"):
                row = runs[a, kind]
                plain = row["best_error"] if student == "linear" else relu[a, "wn"]["gen_error"]
                improves[f"{where}, {kind} over none"] = plain - row["gen_error"]
                both = runs[a, "bn"]["gen_error"]
                needed[f"{where}, both over {kind}"] = row["gen_error"] - both
    for i, (student, runs, a) in enumerate(
        (s, r, a) for s, r, own in (("linear", linear, loads), ("relu", relu, RELU_LOADS))
        for a in own
    ):  # fmt: skip
        base = [
            runs[a, k]["best_error"] if student == "linear" else runs[a, "wn"]["gen_error"]
            for k in kinds
        ]
        changes = [runs[a, k]["gen_error"] - b for k, b in zip(kinds, base, strict=True)]
        style = line_style(i, linestyle="none", label=f"{student}, α = {a:g}")
        x = np.arange(3) + 0.12 * (i - 1.5)
        spread = [standard_error(c) for c in changes]
        ax.errorbar(x, [c.mean() for c in changes], spread, **style)
    for k, point in enumerate(errors):
        ax.plot(k % 3 + 0.12 * (k // 3 - 1.5), point.theory, "_", color="black", markersize=14)
    ax.axhline(0.0, color="0.7", lw=0.8)
    ax.set_xticks(range(3), ["mean", "deviation", "both"])
    title = f"part of batch norm, M = {M_PARTS} (lines: theory)"
    finish_axes(ax, title=title, xlabel="", ylabel="error - without batch norm", legend="below")
    return [
        {
            "name": "parts-scale",
            "statement": "A linear student with mean-only batch norm ends at least squares "
            "itself, variance-only at c_M times it, both at E[sigma_B]/sigma_P of M - 1 degrees "
            "of freedom.",
            "stated_by": "package",
            "formula": "none in the paper",
            "theory": "1; c_M; c_M with M - 1; without replacement",
            "points": tuple(scales),
            "note": "The sample is part of the batch: with the mean alone both terms of the "
            "expected loss, 2 <y h> and <h^2>, lose the same factor 1 - 1/M.",
        },
        {
            "name": "parts-error",
            "statement": "So the noise of the mean alone leaves the error of least squares "
            "unchanged; both parts together shrink three times as much as the deviation.",
            "stated_by": "package",
            "formula": "none in the paper",
            "theory": "error minus that of least squares on the same samples",
            "points": tuple(errors),
        },
        {
            "name": "parts-published",
            "statement": "The noise of mu_B and of sigma_B shorten the weights like gamma decay "
            "of strength 1/(2M) and 1/(4M), together 3/(4M).",
            "stated_by": "paper",
            "formula": "eq. 3 for the linear student: zeta = 1/(2M) + 1/(4M)",
            "theory": "1/(1 + 2 zeta) times least squares",
            "points": tuple(published),
            "note": "Noise that is independent of the sample would do so.",
        },
        {
            "name": "parts-improve",
            "statement": "Either part of batch norm alone lowers the generalization error.",
            "stated_by": "paper",
            "formula": "section 5, Fig. 2(c, d)",
            "theory": "more than 0",
            "points": direction_points(improves),
        },
        {
            "name": "parts-both-needed",
            "statement": "Both parts together generalize better than either of them.",
            "stated_by": "paper",
            "formula": "sections 2.1 and 5",
            "theory": "more than 0",
            "points": direction_points(needed),
        },
    ]


def batch_sizes(setup: Setup, N: int, ax: Any) -> list[dict[str, Any]]:
    """gamma^2 and the error against M."""
    linear = simulate(setup, [problem("linear", "bn-var", 2.0, M) for M in SIZES])
    relu = {a: simulate(setup, [problem("relu", "bn", a, M) for M in SIZES]) for a in RELU_LOADS}
    lengths, errors = [], []
    for M, row in zip(SIZES, linear, strict=True):
        scale = expected_scale("bn-var", 2.0, S, M, N)
        change, length = expected_change("bn-var", 2.0, S, batch_size=M, scale=scale)
        ratio = (row["gamma"] / row["best_gamma"]) ** 2
        lengths.append(mean_point(f"alpha = 2, M = {M}", length**2, ratio))
        errors.append(
            mean_point(f"alpha = 2, M = {M}", change, row["gen_error"] - row["best_error"])
        )
    rises, worse = {}, {}
    for where, rows in (
        ("linear, alpha = 2", linear),
        *((f"relu, alpha = {a:g}", relu[a]) for a in RELU_LOADS),
    ):
        for k in range(len(SIZES) - 1):
            pair = f"{where}, M = {SIZES[k]} to {SIZES[k + 1]}"
            rises[pair] = rows[k + 1]["gamma"] ** 2 - rows[k]["gamma"] ** 2
            worse[pair] = rows[k + 1]["gen_error"] - rows[k]["gen_error"]
    M = (4, 5, 6, 8, 11, 16, 32, 64, 128)
    for i, alpha in enumerate((2.0, 3.0)):
        exact = [bn_gen_error(alpha, S, batch_size=m, theory="finite-batch") for m in M]
        theory = np.array(exact) - gen_error(alpha, S)
        style = {"color": "black", "linestyle": ("-", "--")[i], "marker": "none"}
        ax.plot(M, theory, label=f"linear theory, α = {alpha:g}", **style)
    three = simulate(setup, [problem("linear", "bn-var", 3.0, m) for m in (4, 8, 32)])
    for i, (label, sizes, rows) in enumerate(
        (("linear, α = 2", SIZES, linear), ("linear, α = 3", (4, 8, 32), three))
    ):
        changes = [row["gen_error"] - row["best_error"] for row in rows]
        style = line_style(i, linestyle="none", label=label)
        spread = [standard_error(c) for c in changes]
        ax.errorbar(sizes, [c.mean() for c in changes], spread, **style)
    ax.axhline(0.0, color="0.7", lw=0.8)
    ax.set_xscale("log")
    title = "batch size (deviation only)"
    finish_axes(ax, title=title, xlabel="$M$", ylabel="error - least squares", legend="below")
    return [
        {
            "name": "batch-size-gamma",
            "statement": "gamma^2 of the linear student grows with M as (c_M/cos theta)^2.",
            "stated_by": "package",
            "formula": "none in the paper",
            "theory": "over gamma^2 of least squares on the same samples",
            "points": tuple(lengths),
        },
        {
            "name": "batch-size-error",
            "statement": "Against least squares, batch norm gains by its shorter weights and "
            "loses by their turn: at S = 0.25 and alpha = 2 it helps for M above 5.",
            "stated_by": "package",
            "formula": "none in the paper",
            "theory": "bn_equilibrium at any M: q (c^2/cos^2 theta - 1) - 2 m (c - 1)",
            "points": tuple(errors),
        },
        {
            "name": "batch-size-gamma-rises",
            "statement": "gamma^2 grows with the batch size.",
            "stated_by": "paper",
            "formula": "section 5, Fig. 2(e)",
            "theory": "more than 0",
            "points": direction_points(rises),
        },
        {
            "name": "batch-size-error-rises",
            "statement": "The generalization error grows with the batch size.",
            "stated_by": "paper",
            "formula": "section 5, Fig. 2(f)",
            "theory": "more than 0",
            "points": direction_points(worse),
            "note": "Linear: the turn of the weights, of order 1/M, undoes it at small M.",
        },
    ]


def frozen(setup: Setup, N: int, ax: Any) -> list[dict[str, Any]]:
    """Freeze batch norm and go on with SGD."""
    linear = simulate(setup, [problem("linear", "bn-var", a, M, S=s) for a, s, M in FROZEN])
    cases = [(kind, a) for a in RELU_LOADS for kind in ("bn", "bn-var")]
    relu = simulate(setup, [problem("relu", kind, a, 4) for kind, a in cases])
    changes, ratios = [], []
    effects: dict[str, dict[str, NDArray]] = {"norm": {}, "train": {}, "error": {}}
    for (a, s, M), row in zip(FROZEN, linear, strict=True):
        where = f"linear, alpha = {a:g}, S = {s:g}, M = {M}"
        scale = expected_scale("bn-var", a, s, M, N)
        change, length = expected_change("bn-var", a, s, batch_size=M, scale=scale)
        changes.append(mean_point(where, -change, row["gen_error_rise"]))
        ratios.append(mean_point(where, 1 / length, row["gamma_ratio"]))
        add_effects(effects, where, row)
    for (kind, a), row in zip(cases, relu, strict=True):
        add_effects(effects, f"relu, {kind}, alpha = {a:g}, M = 4", row)
    largest = max(abs(p.theory) for p in changes) * 1.3
    ax.plot([-largest, largest], [-largest, largest], color="0.7", lw=0.8)
    for i, (point, (a, s, M)) in enumerate(zip(changes, FROZEN, strict=True)):
        style = line_style(i, linestyle="none", label=f"α = {a:g}, S = {s:g}, M = {M}")
        ax.errorbar([point.theory], [point.simulation], [point.standard_error], **style)
    finish_axes(
        ax,
        title="freezing (linear): rise of the error",
        xlabel="theory",
        ylabel="simulation",
        legend="below",
    )
    stated = {
        "norm": ("norm-rises", "the norm of the weights rises"),
        "train": ("train-falls", "the training error falls"),
        "error": ("error-rises", "the generalization error rises"),
    }
    return [
        {
            "name": "freeze-norm",
            "statement": "Plain SGD after a frozen linear batch norm lengthens the weights by "
            "cos theta/c_M.",
            "stated_by": "package",
            "formula": "none in the paper",
            "theory": "cos theta/c_M",
            "points": tuple(ratios),
        },
        {
            "name": "freeze-error",
            "statement": "Whether the error of the linear student then rises depends on whether "
            "shrinkage had helped: c_M above 2/(1 + S/|alpha - 1|) - 1, less the turn.",
            "stated_by": "package",
            "formula": "none in the paper",
            "theory": "error of least squares minus that of batch norm",
            "points": tuple(changes),
        },
        *(
            {
                "name": f"freeze-{short}",
                "statement": f"With batch norm frozen and SGD continued, {what}.",
                "stated_by": "paper",
                "formula": "section 5 and Fig. 4",
                "theory": "more than 0",
                "points": direction_points(effects[key]),
            }
            for key, (short, what) in stated.items()
        ),
    ]


def add_effects(effects: dict[str, dict[str, NDArray]], where: str, row: dict[str, Any]) -> None:
    """What the paper expects to be positive after freezing."""
    effects["norm"][where] = row["gamma_ratio"] - 1.0
    effects["train"][where] = -row["train_error_rise"]
    effects["error"][where] = row["gen_error_rise"]


def dropout(setup: Setup, N: int, ax: Any) -> list[dict[str, Any]]:
    """Dropout after batch norm of large batches."""
    rates = {key: [0.0] + [p for a, s, p in DROPPED if (a, s) == key] for key in
             dict.fromkeys((a, s) for a, s, _ in DROPPED)}  # fmt: skip
    linear = {
        key: simulate(
            setup,
            [problem("linear", "bn-var", key[0], LARGE, S=key[1], dropout=p) for p in rates[key]],
        )
        for key in rates
    }
    relu = {
        a: simulate(setup, [problem("relu", "bn", a, LARGE, dropout=p) for p in (0.0, 0.1)])
        for a in RELU_LOADS
    }
    scales, errors, improves = [], [], {}
    for i, ((a, s), rows) in enumerate(linear.items()):
        c = expected_scale("bn-var", a, s, LARGE, N)
        for p, row in zip(rates[a, s], rows, strict=True):
            where = f"linear, alpha = {a:g}, S = {s:g}, dropout {p:g}"
            change, _ = expected_change("bn-var", a, s, batch_size=LARGE, scale=(1 - p) * c)
            gain = row["gen_error"] - row["best_error"]
            scales.append(mean_point(where, (1 - p) * c, row["scale"]))
            errors.append(mean_point(where, change, gain))
            if p:
                improves[where] = rows[0]["gen_error"] - row["gen_error"]
        shares = np.linspace(0.0, 0.4, 41)
        theory = [
            expected_change("bn-var", a, s, batch_size=LARGE, scale=(1 - p) * c)[0] for p in shares
        ]
        color = line_style(i)["color"]
        ax.plot(shares, theory, color=color, label=f"linear theory, α = {a:g}, S = {s:g}")
        style = line_style(i, linestyle="none", label=f"linear, α = {a:g}, S = {s:g}")
        drawn = errors[-len(rows) :]
        ax.errorbar(rates[a, s], [x.simulation for x in drawn],
                    [x.standard_error for x in drawn], **style)  # fmt: skip
    for a, (without, row) in relu.items():
        where = f"relu, alpha = {a:g}, S = {S:g}, dropout 0.1"
        improves[where] = without["gen_error"] - row["gen_error"]
        scales.append(mean_point(f"{where}, over none", 0.9, row["gamma"] / without["gamma"]))
    ax.axhline(0.0, color="0.7", lw=0.8)
    title = f"dropout on batch norm, M = {LARGE}"
    finish_axes(
        ax, title=title, xlabel="share dropped", ylabel="error - least squares", legend="below"
    )
    return [
        {
            "name": "dropout-scale",
            "statement": "Dropout of a share p after batch norm multiplies the weights by 1 - p.",
            "stated_by": "package",
            "formula": "none in the paper",
            "theory": "linear: (1 - p) c_M of least squares; ReLU: 1 - p of the norm without",
            "points": tuple(scales),
            "note": "Averaged over masks, dropout adds p/(2 (1 - p)) sum_j g_j^2: an output "
            "penalty, like batch norm's own.",
        },
        {
            "name": "dropout-error",
            "statement": "Every further share lowers the error of the linear student until "
            "(1 - p) c_M reaches 1/(1 + S/|alpha - 1|), and raises it from there on.",
            "stated_by": "package",
            "formula": "none in the paper",
            "theory": "error minus that of least squares on the same samples",
            "points": tuple(errors),
        },
        {
            "name": "dropout-improves",
            "statement": "Dropout improves batch norm of large batches.",
            "stated_by": "paper",
            "formula": "section 5, Fig. 2(g, h), observed in convolutional networks",
            "theory": "more than 0",
            "note": "Linear students with the deviation only, ReLU with both parts. S = 0.05 is "
            "here because the theory of the linear student says that dropout harms there.",
            "points": direction_points(improves),
        },
    ]
