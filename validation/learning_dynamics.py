"""Table 1 and the picture of the learning dynamics: theory beside simulation at finite N.

Run from the root of the repository: python -m validation.learning_dynamics. It prints the maximum
learning rates as published, from the Jacobian and from simulated steps, and draws
docs/dynamics.png.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from scipy.optimize import brentq

from replica.dynamics import (
    fixed_point,
    integrate,
    integrate_grid,
    jacobian,
    max_learning_rate,
)
from replica.plotting import finish_axes, line_style, save_figure
from replica.students import ERF, LINEAR, RELU, LeakyReLU

# By the name the tests import it under: compiled code remembers the name of its module.
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from online_chain import simulate, stability_limit

SLOPE = {LINEAR: 1.0, RELU: 0.0, LeakyReLU(0.25): 0.25, ERF: -1.0}
CASES = [("sgd", 0.0, 0.0), ("wn", 0.0, 0.0), ("bn", 0.25, 0.0), ("bn", 0.25, 0.1)]


def coupled_limit(method, student, zeta, S, gamma):
    """Effective learning rate at which the (gamma, R) block of the Jacobian turns unstable."""

    def largest(effective):
        L = gamma if method == "sgd" else 1.0
        eta = effective if method == "sgd" else effective / gamma
        matrix = jacobian(method, gamma, 1.0, L, student=student, learning_rate=eta, zeta=zeta, S=S)
        return np.linalg.eigvals(matrix[:2, :2]).real.max()

    return brentq(largest, 0.5, 40.0)


def reading(published: float, exact: float, value: float, error: float) -> str:
    """Why a row is as it is, from its numbers."""
    if abs(published - exact) < 1e-9 * exact:
        return "all agree: I2 = 0 at the fixed point"
    if abs(value - exact) > 3 * error:
        return f"simulation {abs(value - exact) / error:.1f} s.e. from dR'/dR: unexplained"
    off = abs(value - published) / error
    return f"I2 > 0 there, and Prop. 2 drops it: published is {off:.0f} s.e. off"


def print_table(runs: int = 1_000_000) -> None:
    print("maximum effective learning rate: published (I2 dropped), sign change of dR'/dR,")
    print("of the largest eigenvalue of the (gamma, R) block, and from simulated steps")
    columns = "method  zeta  S     published  dR'/dR  coupled  simulated          reading"
    print(f"{'student':<17} {columns}")
    for student, slope in SLOPE.items():
        for method, zeta, S in CASES:
            gamma = fixed_point(method, student=student, zeta=zeta).gamma
            published = max_learning_rate(method, student=student, zeta=zeta)
            exact = max_learning_rate(method, student=student, zeta=zeta, S=S, neglect_I2=False)
            coupled = coupled_limit(method, student, zeta, S, gamma)
            value, error = stability_limit(method, slope, gamma=gamma, guess=exact, S=S, runs=runs)
            print(
                f"{student.name:<17} {method:<6} {zeta:<5g} {S:<5g} {published:9.4f} {exact:8.4f} "
                f"{coupled:8.4f}  {value:.4f} +- {error:.4f}  "
                f"{reading(published, exact, value, error)}"
            )


def draw(path: Path) -> None:
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
    for ax, name, where in zip(
        axes[0], (r"$\gamma$", "$R$", "$L$"), ("none", "inside", "none"), strict=True
    ):
        finish_axes(ax, xlabel="time  $t$ = steps / $N$", ylabel=name, legend=where)
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
        simulate("sgd", 4000, 8, [150.0], seed=k, a=0.0, eta=x, D=0.1)[:, 0, 1]
        for k, x in enumerate(points)
    ]
    R = 1 - np.array(simulated)
    ax.errorbar(
        points, R.mean(axis=1), R.std(axis=1) / np.sqrt(8), fmt="o", color="black", markersize=4,
        label="relu, N = 4000",
    )  # fmt: skip
    ax.set_title("sgd: $R$ at late times", loc="left")
    finish_axes(ax, xlabel=r"$\eta$", ylabel="$R$", legend="inside")
    save_figure(figure, path, dpi=100)


if __name__ == "__main__":
    print_table()
    draw(Path(__file__).parent.parent / "docs" / "dynamics.png")
