"""Table 1 and Propositions 1-4: by integration, by the Jacobian and by simulation.

The figure is that of docs/dynamics.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import brentq

from replica import simulate_online
from replica.dynamics import fixed_point, integrate, integrate_grid, jacobian, max_learning_rate
from replica.plotting import finish_axes, line_style
from replica.students import ERF, LINEAR, RELU, LeakyReLU

from ._claims import Claim, Point
from ._online_chain import overlap_rate, simulate, stability_limit
from ._runs import Setup, fit_limit

RUNS = 200_000  # single steps, at each of five learning rates

STUDENTS = {s.name: s for s in (LINEAR, RELU, LeakyReLU(0.25), ERF)}
# normalizer, zeta, S; with decay or noise I2 does not vanish at the fixed point
CASES = [("none", 0.0, 0.0), ("wn", 0.0, 0.0), ("pn", 0.25, 0.0), ("pn", 0.25, 0.1)]
DECAYS = (0.0, 0.25)
START = {"gamma0": 0.5, "R0": 0.1, "L0": 1.0}
RECORDED = ("gamma", "R", "L")
RATE, LATE = 0.5, 50.0  # of the runs that approach the fixed point
BATCH_SIZE = 8
REAL_RATES = (1.25, 1.875)  # effective, below and above the maximum 1.66 of real batch norm
REAL_TIME = 1.6
LENGTH = 1.0  # L_0, where the rates of the normalized methods are stated


def problem(student: str, normalizer: str, zeta: float, S: float) -> dict:
    """The arguments that all functions of the dynamics share."""
    return {"student": STUDENTS[student], "normalizer": normalizer, "zeta": zeta, "S": S}


def steps_code(student: str) -> float:
    """The slope by which the simulator of single steps knows a student; -1 stands for erf."""
    return -1.0 if student == ERF.name else STUDENTS[student].slope


def simulated_limit(
    *, student: str, normalizer: str, zeta: float, S: float, runs: int, seed: int
) -> dict[str, float]:
    """Effective learning rate at which simulated single steps stop approaching the teacher."""
    case = problem(student, normalizer, zeta, S)
    gamma = fixed_point(**case).gamma
    guess = max_learning_rate(**case, neglect_I2=False)
    value, error = stability_limit(normalizer, steps_code(student), gamma=gamma, guess=guess, S=S,
                                   runs=runs, seed=seed)  # fmt: skip
    return {"mean": value, "error": error}


def simulated_rate(
    *, student: str, normalizer: str, zeta: float, S: float, runs: int, seed: int
) -> dict[str, float]:
    """Growth rate of 1 - R near 0 in simulated single steps, at an effective rate of 1."""
    gamma = fixed_point(**problem(student, normalizer, zeta, S)).gamma
    value, error = overlap_rate(normalizer, steps_code(student), eta=LENGTH**2 / gamma, gamma=gamma,
                                L=LENGTH, runs=runs, seed=seed, S=S)  # fmt: skip
    return {"mean": value, "error": error}


def simulated_decay(
    *, deviation: str, student: str, normalizer: str, zeta: float, learning_rate: float,
    gamma: float, batch_size: int, t: float, N: int, n_runs: int, seed: int
) -> dict[str, float]:  # fmt: skip
    """Rate at which a small deviation from (gamma, R = 1) grows or decays up to the time t."""
    options = {
        "student": student, "normalizer": normalizer, "zeta": zeta, "batch_size": batch_size,
        "learning_rate": learning_rate, "L0": LENGTH, "t": [0.0, t], "N": N, "n_runs": n_runs,
        "seed": seed, "n_threads": 1, "progress": False,
    }  # fmt: skip
    if deviation == "gamma":
        # Both runs see the same samples. So long a w stays where it is, and R with it.
        options["L0"] = 100.0
        high, low = (simulate_online(gamma0=gamma * x, R0=1.0, **options) for x in (1.01, 0.99))
        gap = high.gamma - low.gamma
    else:
        gap = 1.0 - simulate_online(gamma0=gamma, R0=1.0 - 1e-8, **options).R
    ratio = gap[-1] / gap[0]
    error = ratio.std(ddof=1) / math.sqrt(n_runs) / ratio.mean()
    return {"mean": math.log(ratio.mean()) / t, "error": error / t}


def approach(*, student: str, zeta: float, N: int, n_runs: int, seed: int) -> dict[str, float]:
    """gamma, R and L at the time LATE of online learning, with standard errors."""
    run = simulate_online(
        student=student, normalizer="pn", zeta=zeta, learning_rate=RATE, t=[LATE], N=N,
        n_runs=n_runs, seed=seed, n_threads=1, progress=False, **START,
    )  # fmt: skip
    record = {name: float(run.mean(name)[-1]) for name in RECORDED}
    return record | {f"{name}_se": float(run.standard_error(name)[-1]) for name in RECORDED}


def integrated_rate(deviation: str, gamma: float, eta: float, size: float, **case: Any) -> float:
    """Rate at which a deviation of the integrated flow from (gamma, R = 1) begins to grow."""
    # In R it must be small: the noise lifts R off 1 at a finite rate, and the averages of students
    # with a kink go on as sqrt(1 - R).
    time = size if deviation == "R" else math.sqrt(size)
    ends = []
    for sign in (1, -1):
        start = gamma + sign * time * (deviation == "gamma")
        overlap = 1.0 - size * (deviation == "R" and sign == 1)
        run = integrate(
            **case, learning_rate=eta, gamma0=start, R0=overlap,
            L0=start if case["normalizer"] == "none" else LENGTH, t=[0.0, time],
            solver="DOP853", rtol=1e-12, atol=1e-30 if deviation == "R" else 1e-16,
        )  # fmt: skip
        ends.append(run.gamma if deviation == "gamma" else run.one_minus_R)
    gap = ends[0] - ends[1]
    return float(math.log(gap[1] / gap[0]) / time)


def refined(measure: Callable[[float], float]) -> tuple[float, float]:
    """The value at a deviation of 1e-8; its error is the distance from 4e-8, and rounding."""
    value = measure(1e-8)
    return value, abs(value - measure(4e-8)) + np.finfo(float).eps / 1e-8


def integrated_rate_and_error(
    deviation: str, gamma: float, eta: float, **case: Any
) -> tuple[float, float]:
    """The limit of `integrated_rate` for small deviations."""
    return refined(lambda size: integrated_rate(deviation, gamma, eta, size, **case))


def integrated_limit(student: str, normalizer: str, zeta: float, S: float) -> tuple[float, float]:
    """Effective learning rate at which the integrated flow stops approaching R = 1, and error."""
    case = problem(student, normalizer, zeta, S)
    gamma = fixed_point(**case).gamma
    scale = 1.0 if normalizer == "none" else LENGTH**2 / gamma
    guess = max_learning_rate(**case)

    def border(size: float) -> float:
        rate = lambda x: integrated_rate("R", gamma, x * scale, size, **case)  # noqa: E731
        return brentq(rate, 0.7 * guess, 1.6 * guess, xtol=1e-10)  # type: ignore[return-value]

    return refined(border)


def limit_of_flow(student: str, zeta: float) -> dict[str, tuple[float, float]]:
    """gamma and R of the integrated flow, extrapolated to t = infinity, with the error of that."""
    t = np.logspace(4, 8, 13)
    run = integrate(student=student, normalizer="pn", learning_rate=RATE, zeta=zeta, t=t, **START)
    limits = {}
    for name in ("gamma", "R"):
        # The corrections are powers of t^(-1/4).
        ends = [np.polyfit(t**-0.25, getattr(run, name), degree)[-1] for degree in (5, 4)]
        limits[name] = float(ends[0]), float(abs(ends[0] - ends[1])) + 1e-9  # rtol
    return limits


def measured(where: str, theory: float, value: float, error: float) -> Point:
    """A comparison with a numerical error or that of very many single steps."""
    return Point(where, theory, value, error, RUNS)


def at_sizes(setup: Setup, function: Callable[..., dict], points: list[dict]) -> list[list[dict]]:
    """`function` at the small sizes and at setup.N, with equal work at each."""
    sizes = (*setup.sizes, setup.N)
    grid = [
        point | {"N": n, "n_runs": point["n_runs"] * setup.N // n, "seed": setup.seed}
        for point in points
        for n in sizes
    ]
    rows = setup.run(function, grid)
    return [rows[i : i + len(sizes)] for i in range(0, len(rows), len(sizes))]


def sized(
    setup: Setup, where: str, theory: float, block: list[dict], n_runs: int, name: str = "mean"
) -> Point:
    """A comparison at setup.N with the allowance from the smaller sizes."""
    mean = np.array([row[name] for row in block])
    error = np.array([row["error" if name == "mean" else f"{name}_se"] for row in block])
    fit = fit_limit(np.array(setup.sizes), mean[:-1], error[:-1])
    return Point(
        where, theory, float(mean[-1]), float(error[-1]), n_runs,
        allowance=float(fit.slope) / setup.N,
        allowance_error=float(fit.slope_error) / setup.N,
    )  # fmt: skip


def fixed_point_points(setup: Setup) -> tuple[list[Point], list[Point]]:
    """Proposition 1, and the same simulations against the flow at that time."""
    cases = [{"student": s, "zeta": z} for s in ("linear", "relu") for z in DECAYS]
    runs = 8 * setup.n_runs
    blocks = at_sizes(setup, approach, [case | {"n_runs": runs} for case in cases])
    paper, own = [], []
    for case, block in zip(cases, blocks, strict=True):
        where = f"{case['student']}, zeta = {case['zeta']:g}"
        point = fixed_point(normalizer="pn", **case)
        flow = integrate(normalizer="pn", learning_rate=RATE, t=[LATE], **START, **case)
        for name, (value, error) in limit_of_flow(**case).items():
            theory = getattr(point, name)
            paper.append(measured(f"{where}, {name}, integrated to infinity", theory, value, error))
        for name in RECORDED:
            theory = float(getattr(flow, name)[0])
            own.append(sized(setup, f"{where}, {name}({LATE:g})", theory, block, runs, name))
    return paper, own


def eigenvalue_points(setup: Setup) -> tuple[list[Point], list[Point]]:
    """Proposition 2 as printed, and the rate of R with I2 kept; at an effective rate of 1."""
    cases = [(student, *case) for student in STUDENTS for case in CASES if case[0] != "none"]
    keys = ("student", "normalizer", "zeta", "S")
    steps = setup.run(simulated_rate, [dict(zip(keys, c, strict=True)) for c in cases],
                      runs=2 * RUNS, seed=setup.seed)  # fmt: skip
    decays = {}
    runs = 120 * setup.n_runs
    for student, normalizer, zeta, S in cases:
        if S == 0.0 and student in ("linear", "relu"):
            gamma = fixed_point(**problem(student, normalizer, zeta, S)).gamma
            for deviation in ("gamma",) if zeta else ("gamma", "R"):
                decays[student, zeta, deviation] = {
                    "deviation": deviation, "student": student, "normalizer": "pn", "zeta": zeta,
                    "learning_rate": LENGTH**2 / gamma, "gamma": gamma, "batch_size": 1, "t": 1.0,
                    "n_runs": runs,
                }  # fmt: skip
    blocks = dict(zip(decays, at_sizes(setup, simulated_decay, list(decays.values())), strict=True))
    paper, own = [], []
    for (student, normalizer, zeta, S), row in zip(cases, steps, strict=True):
        case = problem(student, normalizer, zeta, S)
        gamma = fixed_point(**case).gamma
        eta = LENGTH**2 / gamma
        printed = fixed_point(**case, learning_rate=eta, L0=LENGTH)
        matrix = jacobian(gamma, 1.0, LENGTH, learning_rate=eta, **case)
        where = f"{student}, zeta = {zeta:g}, S = {S:g}"
        theories = (("gamma", printed.eigenvalue_gamma, matrix[0, 0]),
                    ("R", printed.eigenvalue_R, matrix[1, 1]))  # fmt: skip
        for name, published, kept in theories:
            value, error = integrated_rate_and_error(name, gamma, eta, **case)
            block = blocks.get((student, zeta, name)) if S == 0.0 else None
            for points, theory in ((paper, published), (own, kept)):
                text = f"lambda_{name}, {where}"
                if points is paper:
                    points.append(measured(f"{text}, Jacobian", theory, kept, 1e-12))
                elif name == "gamma":
                    continue  # the printed one has nothing to mend
                points.append(measured(f"{text}, integration", theory, value, error))
                if name == "R":
                    points.append(
                        measured(f"{text}, single steps", theory, row["mean"], row["error"])
                    )
                if block:
                    points.append(sized(setup, f"{text}, decay over t = 1", theory, block, runs))
    return paper, own


def limit_points(setup: Setup) -> tuple[list[Point], list[Point], list[Point], list[Point]]:
    """Table 1 without noise, with noise, the latter with I2 kept, and Proposition 4."""
    cases = [(student, *case) for student in STUDENTS for case in CASES]
    keys = ("student", "normalizer", "zeta", "S")
    rows = setup.run(
        simulated_limit,
        [dict(zip(keys, case, strict=True)) for case in cases],
        runs=RUNS,
        seed=setup.seed,
    )
    quiet, published, kept, shortfalls = [], [], [], []
    without_decay = {}
    for case, row in zip(cases, rows, strict=True):
        student, normalizer, zeta, S = case
        value, error = integrated_limit(*case)
        found = {"integration": (value, error), "single steps": (row["mean"], row["error"])}
        for how, (value, error) in found.items():
            text = f"{student}, {normalizer}, zeta = {zeta:g}, S = {S:g}, {how}"
            theory = max_learning_rate(**problem(*case))
            right = max_learning_rate(**problem(*case), neglect_I2=False)
            if zeta == S == 0.0:
                quiet.append(measured(text, theory, value, error))
                without_decay[student, how] = value, error
                continue
            published.append(measured(text, theory, value, error))
            kept.append(measured(text, right, value, error))
            least, least_error = without_decay[student, how]
            shortfall = max(0.0, least + 2 * zeta - value)
            shortfalls.append(measured(text, 0.0, shortfall, math.hypot(error, least_error)))
    return quiet, published, kept, shortfalls


def real_batch_points(setup: Setup) -> tuple[list[Point], list[Point]]:
    """Growth of 1 - R in real mini-batches: by the paper's model, and by the exact average."""
    gamma = fixed_point(student="linear", normalizer="bn-var", batch_size=BATCH_SIZE).gamma
    runs = 300 * setup.n_runs
    options = {"deviation": "R", "student": "linear", "normalizer": "bn-var", "zeta": 0.0,
               "gamma": gamma, "batch_size": BATCH_SIZE, "t": REAL_TIME,
               "n_runs": runs}  # fmt: skip
    blocks = at_sizes(
        setup,
        simulated_decay,
        [options | {"learning_rate": x * LENGTH**2 / gamma} for x in REAL_RATES],
    )
    paper, own = [], []
    for rate, block in zip(REAL_RATES, blocks, strict=True):
        where = f"linear, M = {BATCH_SIZE}, effective rate {rate:g}"
        decay = {"student": "linear", "normalizer": "pn", "zeta": 1 / (2 * BATCH_SIZE)}
        scale = LENGTH**2 / fixed_point(**decay).gamma
        printed = fixed_point(**decay, learning_rate=rate * scale, L0=LENGTH).eigenvalue_R
        eta = rate * LENGTH**2 / gamma
        case = {"student": "linear", "normalizer": "bn-var", "batch_size": BATCH_SIZE}
        right = jacobian(gamma=gamma, R=1.0, L=LENGTH, learning_rate=eta, **case)[1, 1]
        value, error = integrated_rate_and_error("R", gamma, eta, **case)
        own.append(measured(f"{where}, integration", right, value, error))
        for points, theory in ((paper, printed), (own, right)):
            points.append(
                sized(setup, f"{where}, growth over t = {REAL_TIME:g}", theory, block, runs)
            )
    return paper, own


def run(setup: Setup) -> list[Claim]:
    """All claims, and the figure."""
    name = "table1"
    common = setup.evidence(name)
    end, late = fixed_point_points(setup)
    printed, rates = eigenvalue_points(setup)
    quiet, published, kept, shortfalls = limit_points(setup)
    model, real = real_batch_points(setup)
    claims = [
        Claim(
            name="prop1-fixed-point",
            statement="Learning ends at R = 1, gamma_0 = 1/(2 zeta + 1) for ReLU, 1/(zeta + 1) "
            "for the linear student.",
            stated_by="paper",
            formula="Proposition 1, Table 1",
            theory="dynamics.fixed_point",
            points=tuple(end),
            note=f"At eta = {RATE:g}, where with decay the approach is as slow as t^(-1/2) and L "
            "never stops growing.",
            **common,
        ),
        Claim(
            name="prop1-approach",
            statement=f"Simulated online learning is at t = {LATE:g} where the flow is.",
            stated_by="package",
            formula="eq. 6",
            theory="dynamics.integrate",
            points=tuple(late),
            **common,
        ),
        Claim(
            name="prop2-eigenvalues",
            statement="The eigenvalues of the Jacobian at the fixed point.",
            stated_by="paper",
            formula="Proposition 2: lambda_R = (eta_eff/2) dI2/dR (eta_max - eta_eff)",
            theory="fixed_point: eigenvalue_gamma, eigenvalue_R",
            points=tuple(printed),
            note="At an effective learning rate of 1. The proof keeps dI2/dR and drops I2, which "
            "is not 0 with decay or noise. lambda_gamma = -eta (1/2 + zeta) of ReLU is printed "
            "without eta in the proof of Proposition 3.",
            **common,
        ),
        Claim(
            name="prop2-with-I2",
            statement="The rate of R at the fixed point with I2 kept.",
            stated_by="package",
            formula="eq. 6, nothing dropped",
            theory="dynamics.jacobian, its entry (R, R)",
            points=tuple(rates),
            **common,
        ),
        Claim(
            name="prop3-stability",
            statement="Without decay and noise R = 1 is stable if and only if the effective "
            "learning rate is below the maximum of Table 1.",
            stated_by="paper",
            formula="Proposition 3, Table 1",
            theory="max_learning_rate; measured: where the rate of R changes sign",
            points=tuple(quiet),
            **common,
        ),
        Claim(
            name="prop3-stability-with-decay",
            statement="The same with decay or noise.",
            stated_by="paper",
            formula="Proposition 3, Table 1",
            theory="max_learning_rate, I2 dropped",
            points=tuple(published),
            note="I2 does not vanish at the fixed point; the maximum rises.",
            **common,
        ),
        Claim(
            name="table1-with-I2",
            statement="The maximum effective learning rates with decay or noise, I2 kept.",
            stated_by="package",
            formula="eq. 14, nothing dropped",
            theory="max_learning_rate(neglect_I2=False)",
            points=tuple(kept),
            **common,
        ),
        Claim(
            name="prop4-bound",
            statement="Gamma decay raises the maximum by at least 2 zeta.",
            stated_by="paper",
            formula="Proposition 4: eta_max^bn >= eta_max + 2 zeta",
            theory="what is missing from the bound: 0",
            points=tuple(shortfalls),
            note="For the paper's model of batch norm. What is compared is by how much the "
            "measured maximum falls short of the bound.",
            **common,
        ),
        Claim(
            name="prop4-real-batches",
            statement="Real batch norm approaches R = 1 as the model does, gamma decay of 1/(2 M).",
            stated_by="paper",
            formula="Proposition 2 at zeta = 1/(2 M)",
            theory="the rate of R of the model",
            points=tuple(model),
            note="Without the mean subtracted. At an effective rate of 1.875 the model, whose "
            "maximum is 2.125, approaches R = 1; real batch norm, whose maximum is 1.66, leaves "
            "it. Weight norm has 2. In the mean over the batch: 15, 17, 13.3 and 16.",
            **common,
        ),
        Claim(
            name="real-batches-rate",
            statement="The rate of R of real mini-batch norm.",
            stated_by="package",
            formula="none in the paper",
            theory='dynamics.jacobian, normalizer "bn-var"',
            points=tuple(real),
            **common,
        ),
    ]
    draw(setup, name)
    return claims


def draw(setup: Setup, name: str) -> None:
    """Trajectories, the region of stability, and late times against the learning rate."""
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 6.2), layout="constrained")
    axes = figure.subplots(2, 3)
    t = np.linspace(0.0, 30.0, 200)
    for index, normalizer in enumerate(("pn", "wn", "none")):
        run = integrate(
            student="relu",
            normalizer=normalizer,
            learning_rate=1.0,
            zeta=0.25 if normalizer == "pn" else 0.0,
            gamma0=0.5,
            R0=0.1,
            L0=0.5 if normalizer == "none" else 1.0,
            t=t,
        )
        style = line_style(index, marker="none", label=normalizer)
        for ax, values in zip(axes[0], (run.gamma, run.R, run.L), strict=True):
            ax.plot(t, values, **style)
    for ax, label, where in zip(
        axes[0], (r"$\gamma$", "$R$", "$L$"), ("none", "inside", "none"), strict=True
    ):
        finish_axes(ax, xlabel="time  $t$ = samples / $N$", ylabel=label, legend=where)
    axes[0, 0].set_title(r"ReLU, $\eta = 1$, pn: $\zeta = 0.25$", loc="left")

    eta = np.linspace(0.05, 10.0, 120)
    zeta = np.linspace(0.0, 0.6, 60)
    gamma = 1 / (1 + 2 * zeta)
    for ax, L0 in zip(axes[1, :2], (1.0, None), strict=True):
        late = L0 is None
        grid = integrate_grid(
            student="relu",
            normalizer="pn",
            learning_rate=eta[:, None],
            zeta=zeta,
            gamma0=gamma,
            R0=0.999,
            L0=1.0,
            t=np.linspace(0.5, 40, 80) if not late else [1e4],
        )
        shown = grid.one_minus_R[..., -1] if late else grid.one_minus_R.max(axis=-1)
        picture = ax.pcolormesh(
            zeta, eta, np.maximum(shown, 1e-5), norm=LogNorm(1e-5, 1.0), cmap="viridis",
            rasterized=True,
        )  # fmt: skip
        published = np.array(
            [max_learning_rate(student="relu", normalizer="pn", zeta=z) for z in zeta]
        )
        kept = [
            max_learning_rate(student="relu", normalizer="pn", zeta=z, neglect_I2=False)
            for z in zeta
        ]
        ax.plot(zeta, published / gamma, color="white", linewidth=1.5, label="published")
        ax.plot(zeta, kept / gamma, color="white", linestyle="--", label="with $I_2$ kept")
        ax.set(xlabel=r"$\zeta$", ylabel=r"$\eta$", ylim=(eta[0], eta[-1]))
        ax.set_title(
            r"pn: $1 - R$ at $t = 10^4$" if late else r"pn: largest $1 - R$ for $t \leq 40$",
            loc="left",
        )
        legend = ax.legend(facecolor="0.3", loc="upper left", fontsize=8)
        for text in legend.get_texts():
            text.set_color("white")
    figure.colorbar(picture, ax=axes[1, :2], label="$1 - R$")

    ax = axes[1, 2]
    eta = np.linspace(1.6, 2.4, 160)  # not 2 itself, where |w| of the linear student just stays
    for index, student in enumerate(("relu", "linear")):
        grid = integrate_grid(student=student, learning_rate=eta, R0=0.9, L0=1.0, t=[1e4])
        style = line_style(index, marker="none", label=f"{student}, limit")
        ax.plot(eta, np.where(grid.status == 0, grid.R[:, 0], np.nan), **style)
        last = eta[grid.status == 0].max()  # above it |w| diverges: no value to draw
        ax.axvline(last, color=style["color"], linestyle=":", linewidth=1.0)
    points = np.array([1.7, 1.9, 2.05, 2.1, 2.15, 2.2])
    simulated = [
        simulate(
            student="relu",
            learning_rate=x,
            R0=0.9,
            L0=1.0,
            t=[150.0],
            N=4000,
            runs=8,
            seed=setup.seed + k,
        )[:, 0, 1]
        for k, x in enumerate(points)
    ]
    R = 1 - np.array(simulated)
    ax.errorbar(
        points, R.mean(axis=1), R.std(axis=1) / np.sqrt(8), fmt="o", color="black", markersize=4,
        label="relu, N = 4000",
    )  # fmt: skip
    ax.set_title("none: $R$ at late times", loc="left")
    finish_axes(ax, xlabel=r"$\eta$", ylabel="$R$", legend="inside")
    setup.save(figure, name)
