"""Learning dynamics: the differential equations beside online learning at finite N."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from replica import simulate_online
from replica.dynamics import Trajectory, integrate
from replica.plotting import finish_axes, line_style

from ._claims import Claim, Point
from ._runs import Setup, fit_limit

START = {"gamma0": 0.5, "R0": 0.1, "L0": 1.0}
RATE, S = 0.5, 0.25
TIMES = (2.0, 5.0, 10.0)
STUDENTS = ("relu", "linear")
BATCH_SIZE = 8
# zeta of section 4.1 that stands for batches of M
DECAY = {"relu": 1 / (4 * BATCH_SIZE), "linear": 1 / (2 * BATCH_SIZE)}
RUNS = {"chain": 60, "direct": 8}  # times setup.n_runs


@dataclass(frozen=True)
class Method:
    """One way to learn, in the words that equations and simulator share."""

    normalizer: str
    zeta: float = 0.0
    batch_size: int = 1

    def problem(self, student: str) -> dict[str, Any]:
        """The arguments of both; without a normalizer gamma is L."""
        start = START | ({"L0": START["gamma0"]} if self.normalizer == "none" else {})
        return {
            "student": student, "normalizer": self.normalizer, "S": S, "zeta": self.zeta,
            "batch_size": self.batch_size, "learning_rate": RATE, **start,
        }  # fmt: skip

    @property
    def observables(self) -> tuple[str, ...]:
        """What is compared."""
        return ("gamma", "1 - R") if self.normalizer == "none" else ("gamma", "1 - R", "L")


METHODS = {
    "SGD": Method("none"),
    "SGD, weight decay": Method("none", zeta=0.1),
    "WN": Method("wn"),
    "WN, gamma decay": Method("pn", zeta=0.1),
    "real BN": Method("bn", batch_size=BATCH_SIZE),
    "real BN, no mean": Method("bn-var", batch_size=BATCH_SIZE),
}
REAL = ("real BN", "real BN, no mean")


def trajectory(
    *, method: str, student: str, N: int, engine: str, n_runs: int, seed: int
) -> dict[str, object]:
    """Means and standard errors of the order parameters at `TIMES`."""
    run = simulate_online(
        **METHODS[method].problem(student), t=TIMES, N=N, engine=engine, n_runs=n_runs, seed=seed,
        n_threads=1, progress=False,
    )  # fmt: skip
    record: dict[str, object] = {}
    for name in ("gamma", "R", "L"):
        record[name] = run.mean(name)
        record[f"{name}_se"] = run.standard_error(name)
    record["1 - R"], record["1 - R_se"] = 1.0 - run.mean("R"), record["R_se"]
    return record


def run(setup: Setup) -> list[Claim]:
    """The claims, and the figure."""
    name = "dynamics_trajectories"
    common = setup.evidence(name)
    cases = [(student, label) for student in STUDENTS for label in METHODS]
    sizes = (*setup.sizes, setup.N)
    runs = {engine: count * setup.n_runs for engine, count in RUNS.items()}
    # At every size as much work as at setup.N.
    grid = [
        {"method": label, "student": student, "N": n, "engine": engine,
         "n_runs": runs[engine] * setup.N // n, "seed": setup.seed + (engine == "direct")}
        for student, label in cases
        for engine, n in (*(("chain", n) for n in sizes), ("direct", setup.N))
    ]  # fmt: skip
    rows = setup.run(trajectory, grid)
    width = len(sizes) + 1
    blocks = {case: rows[i * width : (i + 1) * width] for i, case in enumerate(cases)}

    def compare(student: str, label: str, engine: str, theory: Trajectory) -> list[Point]:
        *small, chain, direct = blocks[student, label]
        points = []
        for quantity in METHODS[label].observables:
            means = np.array([row[quantity] for row in small])
            errors = np.array([row[f"{quantity}_se"] for row in small])
            fit = fit_limit(np.array(setup.sizes), means, errors)
            row = chain if engine == "chain" else direct
            values = getattr(theory, quantity if quantity != "1 - R" else "one_minus_R")
            for i, t in enumerate(TIMES):
                points.append(
                    Point(
                        f"{student}, {label}, {quantity} at t = {t:g}",
                        float(values[i]),
                        float(row[quantity][i]),
                        float(row[f"{quantity}_se"][i]),
                        runs[engine],
                        allowance=float(fit.slope[i]) / setup.N,
                        allowance_error=float(fit.slope_error[i]) / setup.N,
                    )
                )
        return points

    what = {"chain": "order-parameter chain", "direct": "all N weights"}
    claims = []
    for engine in RUNS:
        points = {True: [], False: []}
        for student, label in cases:
            theory = integrate(**METHODS[label].problem(student), t=TIMES)
            points[label in REAL] += compare(student, label, engine, theory)
        claims += [
            Claim(
                name=f"trajectories-{engine}",
                statement=f"Online SGD and WN, without and with decay, at N = {setup.N} follow the "
                f"order-parameter equations ({what[engine]}).",
                stated_by="paper",
                formula="eqs. 6, 13-15, with k3 in place of the misprint in eq. 15",
                theory="dynamics.integrate",
                points=tuple(points[False]),
                **common,
            ),
            Claim(
                name=f"trajectories-real-bn-{engine}",
                statement=f"Online mini-batch BN, M = {BATCH_SIZE}, at N = {setup.N} follows "
                f"equations with exact batch averages ({what[engine]}).",
                stated_by="package",
                formula="none in the paper",
                theory='dynamics.integrate, normalizer "bn" and "bn-var"',
                points=tuple(points[True]),
                **common,
            ),
        ]
    modeled = []
    for student, zeta in DECAY.items():
        model = integrate(**Method("pn", zeta=zeta).problem(student), t=TIMES)
        for label in REAL:
            modeled += compare(student, label, "direct", model)
    claims.append(
        Claim(
            name="trajectories-bn-as-decay",
            statement=f"Online mini-batch BN, M = {BATCH_SIZE}, follows the equations of WN with "
            "gamma decay.",
            stated_by="paper",
            formula="eq. 6 with zeta = 1/(4 M) for ReLU, 1/(2 M) for the linear student",
            theory='dynamics.integrate, normalizer "pn"',
            points=tuple(modeled),
            note="Batch norm shrinks gamma by about 3/2 times as much as gamma decay does, without "
            "the mean subtracted by half as much; and it has more noise.",
            **common,
        )
    )
    draw(setup, blocks, name)
    return claims


def draw(setup: Setup, blocks: dict, name: str) -> None:
    """Equations as lines, all N weights as points, for each student."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 6.2), layout="constrained")
    fine = np.linspace(0.0, TIMES[-1], 101)
    for student, row in zip(STUDENTS, figure.subplots(2, 3), strict=True):
        for index, (label, method) in enumerate(METHODS.items()):
            curve = integrate(**method.problem(student), t=fine)
            direct = blocks[student, label][-1]
            for ax, quantity in zip(row, ("gamma", "R", "L"), strict=True):
                ax.plot(fine, getattr(curve, quantity), **line_style(index, marker="none"))
                style = line_style(index, linestyle="none", label=label)
                ax.errorbar(TIMES, direct[quantity], direct[f"{quantity}_se"], **style)
        for ax, label in zip(row, (r"$\gamma$", "$R$", "$L$"), strict=True):
            last = student == STUDENTS[-1] and label == "$R$"
            finish_axes(
                ax, xlabel="samples per weight", ylabel=label, legend="inside" if last else "none"
            )
        row[0].set_title(f"{student}, $N$ = {setup.N}", loc="left")
    setup.save(figure, name)
