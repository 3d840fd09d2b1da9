"""Inputs that are not isotropic: power-law spectra, random features as they are, and clusters."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from replica import Status, gen_error, simulate_training, solve_clusters, solve_equilibrium
from replica.inputs import Clusters, Inputs, PowerLaw, RandomFeatures
from replica.plotting import ERROR_LABEL, LOAD_LABEL, draw_curve, finish_axes, line_style, new_axes

from ._claims import Claim, Point
from ._runs import Measurement, Setup, standard_error

# A law of few modes, of which every size holds a whole number of copies.
POWER = PowerLaw(1.0, size=32)
FEATURES = RandomFeatures("relu", 4.0)
CLUSTERS = Clusters(0.5, 0.3)
LOADS = (0.25, 2.0)

SQUARE = {"S": 0.2, "loss": "square", "zeta": 0.05}
LOGISTIC = {"S": 0.1, "loss": "logistic", "zeta": 0.02, "teacher": "sign", "noise": "input"}
HINGE = {"S": 0.1, "loss": "hinge", "zeta": 1.0, "teacher": "sign", "noise": "input"}
CONVEX = (SQUARE, LOGISTIC, HINGE)
SEPARATED = ("square", "logistic", "hinge")  # losses on the clusters, whose labels are their own
SEPARATED_ZETA = 0.5
RELU = {"S": 0.2, "student": "relu", "zeta": 0.25}
# From zero weights: without decay the minimum that is nearest to the start is then the shortest.
MINIMIZE = {"method": "newton", "L0": 0.0}
DESCENT = {
    "method": "sgd",
    "batch_size": -16,
    "learning_rate": 0.5,
    "schedule": "cosine",
    "L0": 0.01,
    "anneal": True,
    "epochs": 150,
    "record": 150,
}

# Of the features without decay: inputs for each sample, p/n, and the neighbours of the peak.
NO_DECAY = {"S": 0.2, "zeta": 0.0}
SAMPLES_PER_INPUT = (0.5, 2.0)
WIDTHS = (0.5, 0.7, 1.5, 3.0)
BESIDE_PEAK = (0.7, 1.5)
PEAK_RUNS = 12

# Exponents of the variances and of the teacher's power, with that of the tail of the error.
TAILS = {(2.0, 3.0): 2.0, (2.0, 8.0): 4.0, (2.0, 2.0): 1.0}
TAIL_RUNS = 8000  # over the number of samples


@cache
def inputs_of(kind: str, value: float = 0.0) -> Inputs:
    """The inputs that a stored run names by words and numbers."""
    if kind == "features" and value:
        return RandomFeatures("relu", value)
    return {"power": POWER, "features": FEATURES, "clusters": CLUSTERS}[kind]


def end(**options: Any) -> dict[str, Any]:
    """One call of `simulate_training`, by default to the minimum: what it ends with, of each run.

    `kind` names the inputs and `ratio`, if not 0, the features over inputs. `batch_size` -16 means
    N/16.
    """
    inputs = inputs_of(options.pop("kind"), options.pop("ratio", 0.0))
    options = MINIMIZE | options
    if "batch_size" in options:
        options["batch_size"] = max(1, options["N"] // -options["batch_size"])
    run = simulate_training(**options, inputs=inputs, n_threads=1, progress=False)
    names = ("gen_error", "error_rate", "gamma", "R", "train_loss", "energy")
    missing = not np.isin(run.status, (Status.CONVERGED, Status.DONE)).all()
    return {
        "epoch": run.epoch[-1:],
        "status": "max_iterations" if missing else "done",
        **{f"{name}_runs": getattr(run, name)[-1:] for name in names},
    }


def tail(*, a: float, b: float, size: int, n: int, n_runs: int, seed: int) -> dict[str, Any]:
    """Log errors of the shortest weights that fit n noiseless samples of a power law."""
    run = simulate_training(
        n / size, 0.0, N=size, inputs=PowerLaw(a, b, size), zeta=0.0, **MINIMIZE,
        n_runs=n_runs, seed=seed, n_threads=1, progress=False,
    )  # fmt: skip
    return {"runs": np.log(run.gen_error[-1])}


def around_peak(*, p: int, n: int, d: int, n_runs: int, seed: int) -> dict[str, Any]:
    """Log errors of p features of d inputs that see n samples, without decay.

    Of their logarithm, because at p = n the error itself has no mean.
    """
    run = simulate_training(
        n / p, NO_DECAY["S"], N=p, inputs=RandomFeatures("relu", p / d), zeta=0.0, **MINIMIZE,
        n_runs=n_runs, seed=seed, n_threads=1, progress=False,
    )  # fmt: skip
    return {"runs": np.log(run.gen_error[-1])}


def loaded(setup: Setup, alpha: float) -> Setup:
    """Few large runs at the small load, smaller and more at the large one, for as much work."""
    n_runs = setup.n_runs * (2 if setup.option == "--full" else 1)
    if alpha < 1.0:
        return replace(setup, n_runs=n_runs)
    N = max(setup.N // 8, min(setup.N // 2, 256))
    return replace(setup, N=N, sizes=(N // 4, N // 2), n_runs=n_runs * setup.N // N)


def where(setup: Setup, alpha: float, word: str) -> str:
    """The parameters of a point, in words."""
    return f"{word}, alpha = {alpha:g}, N = {loaded(setup, alpha).N}"


def trained(setup: Setup, kind: str, alpha: float, options: dict[str, Any]) -> dict[str, Any]:
    """Measurements of all observables; the runs are made once."""
    smaller = loaded(setup, alpha)
    names = ("gen_error", "error_rate", "gamma", "R", "train_loss", "energy")
    grid = [{"kind": kind, "alpha": alpha, **options}]
    return {name: smaller.measure(grid, name, function=end)[0] for name in names}


def linear_points(
    setup: Setup,
    kind: str,
    *,
    problems: Sequence[dict[str, Any]] = CONVEX,
    inputs: Inputs | None = None,
) -> tuple[Point, ...]:
    """Convex losses of a linear student; `inputs` of the theory if not those of the runs."""
    points = []
    for alpha in LOADS:
        for options in problems:
            found = trained(setup, kind, alpha, options)
            theory = solve_equilibrium(
                alpha, **options, student="linear", inputs=inputs or inputs_of(kind)
            )
            points += [
                found[name].point(
                    where(setup, alpha, f"{options['loss']}, {name}"), getattr(theory, name)
                )
                for name in ("gen_error", "R", "train_loss")
            ]
    return tuple(points)


def cluster_runs(setup: Setup) -> Iterator[tuple[float, str, dict[str, Any]]]:
    """Load, loss and measurements of all runs on clusters."""
    for alpha in LOADS:
        for loss in SEPARATED:
            options = {"S": 0.0, "loss": loss, "zeta": SEPARATED_ZETA}
            yield alpha, loss, trained(setup, "clusters", alpha, options)


def cluster_points(setup: Setup) -> tuple[Point, ...]:
    """Convex losses on two clusters."""
    points = []
    for alpha, loss, found in cluster_runs(setup):
        theory = solve_clusters(alpha, SEPARATED_ZETA, inputs=CLUSTERS, loss=loss)
        points += [
            found[name].point(where(setup, alpha, f"{loss}, {name}"), getattr(theory, name))
            for name in ("error_rate", "gamma", "train_loss")
        ]
    return tuple(points)


def relu_points(setup: Setup, *names: str) -> tuple[Point, ...]:
    """The annealed ReLU student on both kinds of inputs that have a teacher."""
    points = []
    for kind in ("power", "features"):
        for alpha in LOADS:
            found = trained(setup, kind, alpha, RELU | DESCENT)
            theory = solve_equilibrium(alpha, **RELU, inputs=inputs_of(kind))
            points += [
                found[name].point(where(setup, alpha, f"{kind}, {name}"), getattr(theory, name))
                for name in names
            ]
    return tuple(points)


def no_decay_runs(setup: Setup) -> Iterator[tuple[float, float, Measurement]]:
    """d/n, p/n and the error of features without decay."""
    smaller = loaded(setup, 2.0)
    for dimension in SAMPLES_PER_INPUT:
        grid = [
            {"kind": "features", "ratio": w / dimension, "alpha": 1.0 / w, **NO_DECAY}
            for w in WIDTHS
        ]
        for w, measured in zip(WIDTHS, smaller.measure(grid, function=end), strict=True):
            yield dimension, w, measured


def no_decay_theory(dimension: float, width: float) -> float:
    """Error of p = width n features of d = dimension n inputs."""
    features = RandomFeatures("relu", width / dimension)
    return float(gen_error(1.0 / width, **NO_DECAY, inputs=features))


def peak_points(setup: Setup) -> tuple[Point, ...]:
    """By how much the log error at p = n exceeds that of fewer and of more features."""
    n = min(setup.N // 2, 512)
    points = []
    for dimension in SAMPLES_PER_INPUT:
        widths = (1.0, *BESIDE_PEAK)
        grid = [{"p": round(w * n), "seed": setup.seed + i} for i, w in enumerate(widths)]
        fixed = {"n": n, "d": round(dimension * n), "n_runs": PEAK_RUNS}
        top, *others = [np.asarray(r["runs"]) for r in setup.run(around_peak, grid, **fixed)]
        points += [
            Point(
                f"d = {dimension:g} n, p = n beside {w:g} n, n = {n}",
                0.0,
                float(top.mean() - other.mean()),
                math.hypot(standard_error(top), standard_error(other)),
                PEAK_RUNS,
                at_least=True,
            )
            for w, other in zip(BESIDE_PEAK, others, strict=True)
        ]
    return tuple(points)


def tail_sizes(setup: Setup) -> tuple[int, ...]:
    """Numbers of samples n of the tail, far below that of the modes; doubled each time."""
    last = 128 if setup.N >= 2048 else setup.N // 8
    return (last // 8, last // 4, last // 2, last)


def tail_runs(setup: Setup, exponents: tuple[float, float]) -> list[np.ndarray]:
    """Log errors of every run at `tail_sizes`."""
    sizes = tail_sizes(setup)
    grid = [
        {"n": n, "n_runs": max(4, TAIL_RUNS // n), "seed": setup.seed + k}
        for k, n in enumerate(sizes)
    ]
    a, b = exponents
    results = setup.run(tail, grid, a=a, b=b, size=setup.N)
    return [np.asarray(r["runs"]) for r in results]


def tail_theory(setup: Setup, exponents: tuple[float, float], n: Any) -> Any:
    """Error of n samples of a power law without noise and decay."""
    size = setup.N
    return gen_error(np.asarray(n) / size, 0.0, 0.0, inputs=PowerLaw(*exponents, size))


def tail_error_points(setup: Setup) -> tuple[Point, ...]:
    """ln of the error over n beside its theory; the effect c/n from all but the last n."""
    sizes = tail_sizes(setup)
    points = []
    for exponents in TAILS:
        rows = tail_runs(setup, exponents)
        # Differences to the theory, because c/n is of those.
        values = tuple(
            (r - math.log(tail_theory(setup, exponents, n)))[None]
            for r, n in zip(rows, sizes, strict=True)
        )
        difference = Measurement(sizes, np.zeros(1, int), values).point("", 0.0)
        expected = math.log(tail_theory(setup, exponents, sizes[-1]))
        points.append(
            replace(
                difference,
                where=f"ln error at a = {exponents[0]:g}, b = {exponents[1]:g}, n = {sizes[-1]}",
                theory=expected,
                simulation=expected + difference.simulation,
            )
        )
    return tuple(points)


def exponent_points(setup: Setup) -> tuple[Point, ...]:
    """Exponents between n and 2n; the effect c/n from all but the last pair."""
    sizes = tail_sizes(setup)
    points = []
    for exponents, known in TAILS.items():
        rows = tail_runs(setup, exponents)
        slopes = []
        for low, high in pairwise(rows):
            k = high.size  # the fewer runs
            # Of as many groups of runs at n as there are runs at 2n.
            groups = low[: low.size // k * k].reshape(k, -1).mean(axis=1)
            slopes.append((groups - high)[None] / math.log(2.0))
        measured = Measurement(sizes[:-1], np.zeros(1, int), tuple(slopes))
        text = f"a = {exponents[0]:g}, b = {exponents[1]:g}, n = {sizes[-2]} to {sizes[-1]}"
        points.append(measured.point(text, known))
    return tuple(points)


def run(setup: Setup) -> list[Claim]:
    """All claims, and the figure."""
    name = "inputs"
    common: dict[str, Any] = {"stated_by": "package", **setup.evidence(name)}
    saddle = "solve_equilibrium(inputs=...)"
    power, features = linear_points(setup, "power"), linear_points(setup, "features")
    claims = [
        Claim(
            name="inputs-power",
            statement="On inputs of a power-law spectrum the minimum of square, logistic and hinge "
            "loss has the errors and training losses of the theory.",
            formula="(eq-weights) of the page on inputs",
            theory=f"{saddle} with {POWER.name}",
            points=power,
            **common,
        ),
        Claim(
            name="inputs-features",
            statement="On random ReLU features the minimum of square, logistic and hinge loss has "
            "the errors and training losses of Gaussian features with the same kappa1 and kappa*.",
            formula="(eq-random-features) of the page on inputs",
            theory=f"{saddle} with {FEATURES.name}",
            points=features,
            note="The features are drawn as they are, phi(F x) - E phi.",
            **common,
        ),
        Claim(
            name="inputs-clusters",
            statement="On two unequal clusters the minimum of square, logistic and hinge loss has "
            "the error rate, length and training loss of the theory.",
            formula="(eq-clusters) of the page on inputs",
            theory=f"solve_clusters with {CLUSTERS.name}",
            points=cluster_points(setup),
            **common,
        ),
        Claim(
            name="inputs-relu-energy",
            statement="Annealed training of the ReLU student reaches the ground-state energy of "
            "the theory on a power-law spectrum and on random features.",
            formula="(eq-weights) of the page on inputs",
            theory=f"{saddle}, energy per weight",
            points=relu_points(setup, "energy"),
            note=RELU_NOTE,
            **common,
        ),
        Claim(
            name="inputs-relu-error",
            statement="Annealed training of the ReLU student has the replica-symmetric error on a "
            "power-law spectrum and on random features.",
            formula="(eq-weights) of the page on inputs",
            theory=f"{saddle}, gen_error",
            points=relu_points(setup, "gen_error"),
            note=RELU_NOTE,
            **common,
        ),
        Claim(
            name="inputs-features-no-decay",
            statement="Without decay, random features on both sides of the peak have the error of "
            "the theory.",
            formula="(eq-weights-no-decay) of the page on inputs",
            theory="gen_error(inputs=RandomFeatures), the shortest weights that fit",
            points=tuple(
                m.point(f"d = {d:g} n, p = {w:g} n, p = {m.N}", no_decay_theory(d, w))
                for d, w, m in no_decay_runs(setup)
            ),
            **common,
        ),
        Claim(
            name="inputs-features-peak",
            statement="Without decay the error of random features is largest where there are as "
            "many features as samples, whatever the number of inputs.",
            formula="p = n",
            theory="by how much ln of the error is larger than beside the peak: 0",
            points=peak_points(setup),
            **common,
        ),
        Claim(
            name="inputs-power-tail",
            statement="Without noise and decay the error on a power law follows the theory along "
            "its tail.",
            formula="(eq-weights-no-decay) of the page on inputs",
            theory="ln of gen_error(inputs=PowerLaw)",
            points=tail_error_points(setup),
            note=f"{setup.N} modes; c/n is that of the number of samples n.",
            **common,
        ),
        Claim(
            name="inputs-power-exponent",
            statement="Without noise and decay the error on a power law falls with the exponent "
            "min(b - 1, 2 a) of the number of samples.",
            formula="min(b - 1, 2 a)",
            theory="the same",
            points=exponent_points(setup),
            note=f"{setup.N} modes. The exponent is that of 1 << n << N; between these n the curve "
            f"of the theory has {theory_slopes(setup)}.",
            **common,
        ),
    ]
    draw(setup, name)
    return claims


RELU_NOTE = (
    "No convex problem: replica symmetry is unstable at these points (rs_stable is False), and the "
    "minimum that training finds need not be the lowest. On clusters only linear students are "
    "simulated."
)


def theory_slopes(setup: Setup) -> str:
    """Exponents of the theory's curves where `exponent_points` compares."""
    pair = tail_sizes(setup)[-2:]
    slopes = [-np.diff(np.log2(tail_theory(setup, e, pair)))[0] for e in TAILS]
    return ", ".join(f"{slope:.3f}" for slope in slopes)


def draw(setup: Setup, name: str) -> None:
    """Double descent in the features, tails of power laws, and clusters."""
    figure, (left, middle, right) = new_axes(3, width=4.6, height=4.6)
    widths = np.r_[np.geomspace(0.3, 0.98, 40), 1.0, np.geomspace(1.02, 4.0, 40)]
    found = list(no_decay_runs(setup))
    for i, dimension in enumerate(SAMPLES_PER_INPUT):
        curve = np.array([no_decay_theory(dimension, w) for w in widths])
        draw_curve(left, widths, curve, index=i, marker="none", label=f"d = {dimension:g} n")
        mine = [(w, m) for d, w, m in found if d == dimension]
        points(left, i, [w for w, _ in mine], [m for _, m in mine])
    left.set(xscale="log", ylim=(0.0, 4.0))
    left.set_xticks([0.5, 1, 2, 4], ["0.5", "1", "2", "4"])
    left.minorticks_off()
    finish_axes(
        left, title="ReLU features, no decay", xlabel="features per sample  $p/n$",
        ylabel=ERROR_LABEL, legend="below",
    )  # fmt: skip

    sizes = np.array(tail_sizes(setup))
    n = np.geomspace(sizes[0], sizes[-1], 40)
    for i, (exponents, known) in enumerate(TAILS.items()):
        label = f"a = {exponents[0]:g}, b = {exponents[1]:g}"
        theory = tail_theory(setup, exponents, n)
        draw_curve(middle, n, theory, index=i, marker="none", label=label)
        rows = tail_runs(setup, exponents)
        means = np.exp([r.mean() for r in rows])
        errors = means * [float(standard_error(r)) for r in rows]
        middle.errorbar(sizes, means, errors, **line_style(i, linestyle="none"))
        guide = 1.6 * theory[0] * (n / n[0]) ** -known
        middle.plot(n, guide, color="0.6", linewidth=1.0, linestyle=":")
        middle.annotate(f"$n^{{-{known:g}}}$", (n[20], guide[20]), xytext=(3, 3),
                        textcoords="offset points")  # fmt: skip
    middle.set(xscale="log", yscale="log")
    middle.set_xticks(sizes, [str(s) for s in sizes])
    middle.minorticks_off()
    title = f"power laws of {setup.N} modes"
    finish_axes(middle, title=title, xlabel="samples  $n$", ylabel=ERROR_LABEL, legend="below")

    loads = np.geomspace(0.15, 4.0, 30)
    runs = list(cluster_runs(setup))
    for i, loss in enumerate(SEPARATED):
        theory = solve_clusters(loads, SEPARATED_ZETA, inputs=CLUSTERS, loss=loss)
        draw_curve(right, loads, theory.error_rate, index=i, marker="none", label=loss)
        mine = [(a, m["error_rate"]) for a, word, m in runs if word == loss]
        points(right, i, [a for a, _ in mine], [m for _, m in mine])
    draw_curve(right, loads, theory.bayes_error, index=4, marker="none", label="Bayes")
    right.set_xscale("log")
    right.set_xticks([0.25, 0.5, 1, 2, 4], ["0.25", "0.5", "1", "2", "4"])
    right.minorticks_off()
    title = f"two clusters, ζ = {SEPARATED_ZETA:g}"
    finish_axes(right, title=title, xlabel=LOAD_LABEL, ylabel="error rate", legend="below")
    setup.save(figure, name)


def points(ax: Any, index: int, x: list[float], measured: list[Measurement]) -> None:
    """Simulations, with their errors."""
    style = line_style(index, linestyle="none")
    ax.errorbar(x, [m.mean[-1] for m in measured], [m.error[-1] for m in measured], **style)
