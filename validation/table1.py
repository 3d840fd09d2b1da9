"""Table 1: maximum learning rates as published and with I2 kept, beside simulated steps.

The figure is that of docs/dynamics.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from replica.dynamics import (
    fixed_point,
    integrate,
    integrate_grid,
    max_learning_rate,
)
from replica.plotting import finish_axes, line_style
from replica.students import ERF, LINEAR, RELU, LeakyReLU

from ._claims import Claim, Point
from ._runs import Setup

# By the name the tests import it under: compiled code remembers the name of its module.
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from online_chain import simulate, stability_limit

RUNS = 200_000

STUDENTS = {s.name: s for s in (LINEAR, RELU, LeakyReLU(0.25), ERF)}
# method, zeta, S; with decay or noise I2 does not vanish at the fixed point
CASES = [("sgd", 0.0, 0.0), ("wn", 0.0, 0.0), ("bn", 0.25, 0.0), ("bn", 0.25, 0.1)]


def simulated_limit(
    *, student: str, method: str, zeta: float, S: float, runs: int, seed: int
) -> dict[str, float]:
    """Effective learning rate at which simulated single steps stop approaching the teacher."""
    activation = STUDENTS[student]
    slope = -1.0 if activation == ERF else activation.slope  # the simulator's code for erf
    gamma = fixed_point(method, student=activation, zeta=zeta).gamma
    guess = max_learning_rate(method, student=activation, zeta=zeta, S=S, neglect_I2=False)
    value, error = stability_limit(method, slope, gamma=gamma, guess=guess, S=S, runs=runs,
                                   seed=seed)  # fmt: skip
    return {"mean": value, "error": error}


def run(setup: Setup) -> list[Claim]:
    """Both claims, and the figure."""
    name = "table1"
    common = {"command": setup.command(name), "seed": setup.seed, "figure": f"{name}.png"}
    cases = [(student, *case) for student in STUDENTS for case in CASES]
    keys = ("student", "method", "zeta", "S")
    rows = setup.run(
        simulated_limit,
        [dict(zip(keys, case, strict=True)) for case in cases],
        runs=RUNS,
        seed=setup.seed,
    )
    points = {}
    for neglect in (True, False):
        points[neglect] = tuple(
            Point(
                f"{student}, {method}, zeta = {zeta:g}, S = {S:g}",
                max_learning_rate(
                    method, student=STUDENTS[student], zeta=zeta, S=S, neglect_I2=neglect
                ),
                row["mean"],
                row["error"],
                RUNS,
            )
            for (student, method, zeta, S), row in zip(cases, rows, strict=True)
        )
    claims = [
        Claim(
            name="table1-published",
            statement="The maximum effective learning rates of Table 1.",
            stated_by="paper",
            formula="Table 1, Props. 1-4",
            theory="max_learning_rate, I2 dropped",
            points=points[True],
            note="With decay or noise I2 does not vanish at the fixed point; the rates rise.",
            **common,
        ),
        Claim(
            name="table1-with-I2",
            statement="The maximum effective learning rates with I2 kept.",
            stated_by="package",
            formula="eq. 14, nothing dropped",
            theory="max_learning_rate(neglect_I2=False)",
            points=points[False],
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
    for index, method in enumerate(("bn", "wn", "sgd")):
        run = integrate(
            method,
            student="relu",
            learning_rate=1.0,
            zeta=0.25 if method == "bn" else 0.0,
            gamma0=0.5,
            R0=0.1,
            L0=0.5 if method == "sgd" else 1.0,
            t=t,
        )
        style = line_style(index, marker="none", label=method)
        for ax, values in zip(axes[0], (run.gamma, run.R, run.L), strict=True):
            ax.plot(t, values, **style)
    for ax, label, where in zip(
        axes[0], (r"$\gamma$", "$R$", "$L$"), ("none", "inside", "none"), strict=True
    ):
        finish_axes(ax, xlabel="time  $t$ = steps / $N$", ylabel=label, legend=where)
    axes[0, 0].set_title(r"ReLU, $\eta = 1$, $\zeta = 0.25$", loc="left")

    eta = np.linspace(0.05, 10.0, 120)
    zeta = np.linspace(0.0, 0.6, 60)
    gamma = 1 / (1 + 2 * zeta)
    for ax, L0 in zip(axes[1, :2], (1.0, None), strict=True):
        late = L0 is None
        grid = integrate_grid(
            "bn",
            student="relu",
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
        published = np.array([max_learning_rate("bn", student="relu", zeta=z) for z in zeta])
        kept = [max_learning_rate("bn", student="relu", zeta=z, neglect_I2=False) for z in zeta]
        ax.plot(zeta, published / gamma, color="white", linewidth=1.5, label="published")
        ax.plot(zeta, kept / gamma, color="white", linestyle="--", label="with $I_2$ kept")
        ax.set(xlabel=r"$\zeta$", ylabel=r"$\eta$", ylim=(eta[0], eta[-1]))
        ax.set_title(
            r"bn: $1 - R$ at $t = 10^4$" if late else r"bn: largest $1 - R$ for $t \leq 40$",
            loc="left",
        )
        legend = ax.legend(facecolor="0.3", loc="upper left", fontsize=8)
        for text in legend.get_texts():
            text.set_color("white")
    figure.colorbar(picture, ax=axes[1, :2], label="$1 - R$")

    ax = axes[1, 2]
    eta = np.linspace(1.6, 2.4, 160)  # not 2 itself, where |w| of the linear student just stays
    for index, student in enumerate(("relu", "linear")):
        grid = integrate_grid(
            "sgd", student=student, learning_rate=eta, gamma0=1.0, R0=0.9, L0=1.0, t=[1e4]
        )
        style = line_style(index, marker="none", label=f"{student}, limit")
        ax.plot(eta, np.where(grid.status == 0, grid.R[:, 0], np.nan), **style)
        last = eta[grid.status == 0].max()  # above it |w| diverges: no value to draw
        ax.axvline(last, color=style["color"], linestyle=":", linewidth=1.0)
    points = np.array([1.7, 1.9, 2.05, 2.1, 2.15, 2.2])
    simulated = [
        simulate("sgd", 4000, 8, [150.0], seed=setup.seed + k, a=0.0, eta=x, D=0.1)[:, 0, 1]
        for k, x in enumerate(points)
    ]
    R = 1 - np.array(simulated)
    ax.errorbar(
        points, R.mean(axis=1), R.std(axis=1) / np.sqrt(8), fmt="o", color="black", markersize=4,
        label="relu, N = 4000",
    )  # fmt: skip
    ax.set_title("sgd: $R$ at late times", loc="left")
    finish_axes(ax, xlabel=r"$\eta$", ylabel="$R$", legend="inside")
    setup.save(figure, name)
