"""Figure 1(a): the linear student without decay, with decay, with batch norm, stopped early."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from replica import (
    bn_gen_error,
    early_stopping,
    gen_error,
    shrinkage,
    simulate_training,
    solve_equilibrium,
)
from replica.plotting import ERROR_LABEL, LOAD_LABEL, draw_curve, finish_axes, line_style, new_axes
from replica.published import linear_decay_error, linear_sgd_error

from ._claims import Claim
from ._runs import Measurement, Setup

S = 0.25
# Multiples of 1/32, so that P = alpha N is whole at all sizes: rounding would look like a 1/N.
LOADS = (0.09375, 0.25, 0.5, 0.75, 1.0, 1.3125, 1.5, 2.0, 3.0)
SGD_LOADS = tuple(a for a in LOADS if a != 1.0)  # at alpha = 1 the error without decay is infinite
LINEAR = {"student": "linear", "L0": 0.0}
SGD = LINEAR | {"batch_size": -16, "learning_rate": 1.0, "schedule": "cosine"}
# Ridge regression by whole-batch descent: mini-batches would add their noise to the slow directions
# of small decay. With this momentum all modes above 0.009 relax as 0.95^epochs.
RIDGE = LINEAR | {"batch_size": 0, "learning_rate": 0.3, "momentum": 0.9, "epochs": 200}
DECAYS = (1 / 64, 0.25)
NOISELESS_LOADS = (0.09375, 0.25, 0.5, 0.75)

BATCH_SIZE = 32  # of batch norm; the paper pairs it with zeta = 1/(2 M) = 1/64
BN = {"S": S, "student": "linear", "normalizer": "bn-var", "batch_size": BATCH_SIZE}
BN_EPOCHS = (10, 30, 500)
BN_LOADS = (0.09375, 0.25, 0.5, 0.75, 1.0, 1.3125, 2.0, 3.0)
SURVIVOR_LOADS = (0.25, 0.5)  # where 500 epochs suffice
# The step on w is the rate over |w|^2/N: smaller weights need a smaller rate.
STARTS = {
    "order-one": {"L0": 1.0, "learning_rate": 0.5},
    "small": {"L0": 0.1, "learning_rate": 0.05},
}
# To the end: from the least-squares weights, at a low rate because the noise of the batches delays
# the last of the way.
CONVERGED_EPOCHS = {2.0: 1600, 3.0: 800}
CONVERGED = BN | {"learning_rate": 0.03, "schedule": "cosine"}

FLOW_RATE = 0.025  # and twice that: all times are whole numbers of both steps
FLOW_TIMES = (0.5, 1.0, 2.5, 5.0)
FLOW_LOADS = (0.25, 0.5, 1.0, 1.5, 3.0)


def descent_points(zeta: float) -> list[dict[str, Any]]:
    """The simulations of one ridge curve, or of least squares by vanilla SGD."""
    if zeta:
        options = RIDGE | {"S": S, "zeta": zeta, "record": RIDGE["epochs"], "controls": [zeta]}
        return [options | {"alpha": alpha} for alpha in LOADS]
    return [sgd_point(alpha, S) | {"controls": [0.0]} for alpha in SGD_LOADS]


def sgd_point(alpha: float, noise: float) -> dict[str, Any]:
    """Vanilla SGD until the slowest mode, of rate (1 - sqrt(alpha))^2, has decayed by e^-8."""
    epochs = max(40, math.ceil(16 / (1 - math.sqrt(alpha)) ** 2))
    return SGD | {"alpha": alpha, "S": noise, "epochs": epochs, "record": epochs}


def bn_points(start: str) -> list[dict[str, Any]]:
    """Batch norm on all loads."""
    options = {"schedule": "cosine", "epochs": BN_EPOCHS[-1], "record": list(BN_EPOCHS)}
    return [BN | STARTS[start] | options | {"alpha": alpha} for alpha in BN_LOADS]


def converge(**options: Any) -> dict[str, Any]:
    """Batch norm from the least-squares weights; the errors minus those of least squares."""
    N, alpha, epochs = options["N"], options["alpha"], options.pop("epochs")
    common = {name: options[name] for name in ("alpha", "S", "student", "N", "seed")}
    common |= {"n_threads": 1, "progress": False}
    descent = {name: RIDGE[name] for name in ("learning_rate", "momentum", "L0", "epochs")}
    start = simulate_training(
        **common, **descent, batch_size=round(alpha * N), n_runs=options.pop("n_runs")
    )
    names = ("normalizer", "batch_size", "learning_rate", "schedule")
    run = simulate_training(
        **common, **{name: options[name] for name in names}, epochs=epochs, record=epochs,
        start=start,
    )  # fmt: skip
    values = run.gen_error - start.gen_error[-1]
    return {"epoch": run.epoch, "difference_runs": values}


def surviving_error(alpha: float, L0: float, L: np.ndarray) -> np.ndarray:
    """Converged batch norm below alpha = 1, from the final L = |w|/sqrt(N).

    Training leaves the part of w outside the space of the inputs as it was, of squared length
    (1 - alpha) L0^2 N; the rest becomes c_M times least squares once w is normalized.
    """
    solution = solve_equilibrium(alpha, S, 0.0, student="linear")
    c, q = shrinkage(BATCH_SIZE), float(solution.gamma) ** 2
    m = float(solution.gamma * solution.R)
    outside = (1 - alpha) * L0**2
    return 1 - 2 * c * m + c**2 * q * (1 + outside / (L**2 - outside))


def flow_point(alpha: float, rate: float) -> dict[str, Any]:
    """Gradient descent by small steps, stopped at all times."""
    steps = [round(t / rate) for t in FLOW_TIMES]
    # Stopping at t acts much like a decay 1/t: a good control.
    options = {"epochs": steps[-1], "record": steps, "controls": [1 / t for t in FLOW_TIMES]}
    return LINEAR | options | {"alpha": alpha, "S": S, "batch_size": 0, "learning_rate": rate}


def flow_limit(fine: Measurement, coarse: Measurement) -> Measurement:
    """Steps to 0: two step sizes of ratio 2 on the same samples, extrapolated linearly."""
    pairs = zip(fine.values, coarse.values, strict=True)
    return replace(fine, values=tuple(2 * f - c for f, c in pairs))


def run(setup: Setup) -> list[Claim]:
    """All claims, and the figure."""
    name = "figure1_linear"
    common = setup.evidence(name)
    zetas = (0.0, *DECAYS)
    trained = {z: setup.measure(descent_points(z), "controlled_error") for z in zetas}
    plain = {z: setup.measure(descent_points(z)) for z in zetas}
    noiseless = setup.measure([sgd_point(alpha, 0.0) for alpha in NOISELESS_LOADS])
    bn = {start: setup.measure(bn_points(start)) for start in STARTS}
    # Differences on the same samples and controlled means need no larger N than this.
    N = min(1024, setup.N // 2)
    medium = replace(setup, N=N, n_runs=4 * setup.n_runs, sizes=setup.sizes[:2])
    converged = medium.measure(
        [CONVERGED | {"alpha": a, "epochs": n} for a, n in CONVERGED_EPOCHS.items()],
        "difference",
        function=converge,
    )
    halfway = medium.measure(
        [CONVERGED | {"alpha": a, "epochs": n // 2} for a, n in CONVERGED_EPOCHS.items()],
        "difference",
        function=converge,
    )
    fine, coarse = (
        medium.measure([flow_point(a, rate) for a in FLOW_LOADS], "controlled_error")
        for rate in (FLOW_RATE, 2 * FLOW_RATE)
    )
    flow = [flow_limit(f, c) for f, c in zip(fine, coarse, strict=True)]

    def beside_ridge(records):
        for start, measured in bn.items():
            for record in records:
                for alpha, m in zip(BN_LOADS, measured, strict=True):
                    difference = m.minus(plain[1 / 64][LOADS.index(alpha)])
                    where = f"{start} start, {m.epoch[record]} epochs, alpha = {alpha:g}"
                    yield difference.point(where, 0.0, record=record)

    def survivors():
        for start, measured in bn.items():
            lengths = setup.measure(bn_points(start), "L")
            for alpha in SURVIVOR_LOADS:
                i = BN_LOADS.index(alpha)
                scale = STARTS[start]["L0"]
                theory = tuple(surviving_error(alpha, scale, L) for L in lengths[i].values)
                where = f"{start} start, alpha = {alpha:g}"
                yield measured[i].beside(where, replace(lengths[i], values=theory))

    def between_starts():
        for record in range(1, len(BN_EPOCHS) + 1):
            for alpha, one, small in zip(BN_LOADS, *bn.values(), strict=True):
                # Records are at the same epochs: only this one enters.
                other = replace(small, values=tuple(v[: record + 1] for v in small.values))
                where = f"{one.epoch[record]} epochs, alpha = {alpha:g}"
                yield one.minus(other).point(where, 0.0, record=record)

    changes = ", ".join(
        f"{h.mean[-1]:.5f} instead of {c.mean[-1]:.5f} at alpha = {a:g}"
        for a, c, h in zip(CONVERGED_EPOCHS, converged, halfway, strict=True)
    )
    control = (
        "Control variate: exact ridge regression on the same samples, minus its average over "
        "teacher and noise on these inputs."
    )
    claims = [
        Claim(
            name="linear-sgd",
            statement="Vanilla SGD of the linear student ends at the least-squares error.",
            stated_by="paper",
            formula="section 4.1: 1 - alpha + alpha S/(1 - alpha); S/(alpha - 1) above 1",
            theory="the same",
            points=tuple(
                m.point(f"alpha = {a:g}", float(linear_sgd_error(a, S)))
                for a, m in zip(SGD_LOADS, trained[0.0], strict=True)
            ),
            note=control,
            **common,
        ),
        Claim(
            name="linear-noiseless",
            statement="Without noise, SGD from zero weights ends at the error max(1 - alpha, 0).",
            stated_by="paper",
            formula="section 4.1 at S = 0: 1 - alpha",
            theory="gen_error",
            points=tuple(
                m.point(f"alpha = {a:g}", gen_error(a, 0.0))
                for a, m in zip(NOISELESS_LOADS, noiseless, strict=True)
            ),
            note="Below alpha = 1; above it the error is 0 but for unfinished training.",
            **common,
        ),
        Claim(
            name="linear-decay",
            statement="Weight decay gives the ridge curves of Krogh and Hertz (sum convention).",
            stated_by="paper",
            formula="section 4.1: S d(zeta G)/d zeta - zeta^2 dG/d zeta",
            theory="the same",
            points=tuple(
                m.point(f"alpha = {a:g}, zeta = {z:g}", float(linear_decay_error(a, S, z)))
                for z in DECAYS
                for a, m in zip(LOADS, trained[z], strict=True)
            ),
            note=control + " Descent on the whole set with momentum.",
            **common,
        ),
        Claim(
            name="linear-bn-as-ridge",
            statement=f"Batch norm of M = 32 after {BN_EPOCHS[-1]} epochs has the error of ridge "
            "regression with zeta = 1/64.",
            stated_by="paper",
            formula="section 4.1: zeta = 1/(2 M)",
            theory="error minus that of ridge on the same samples: 0",
            points=tuple(beside_ridge([3])),
            note="In the end batch norm keeps the peak at alpha = 1: its penalty acts on the "
            "outputs on the training set, not on the weights. Below alpha = 1 the initial weights "
            "outside the space of the inputs survive. The paper derives 1/(2 M) for the mean of "
            "the loss over samples, alpha/(2 M) on the scale of these curves.",
            **common,
        ),
        Claim(
            name="linear-bn-as-ridge-early",
            statement=f"Batch norm of M = 32 stopped after {BN_EPOCHS[0]} or {BN_EPOCHS[1]} epochs "
            "has the error of ridge regression with zeta = 1/64.",
            stated_by="paper",
            formula="section 4.1: zeta = 1/(2 M)",
            theory="error minus that of ridge on the same samples: 0",
            points=tuple(beside_ridge([1, 2])),
            note="It crosses the ridge curve at some load and time; which, depends on the start.",
            **common,
        ),
        Claim(
            name="linear-bn-one-curve",
            statement="The error of batch norm of M = 32 at a load and time depends neither on the "
            "scale of the initial weights (1 or 0.1) nor on the learning rate (0.5 or 0.05).",
            stated_by="paper",
            formula="section 4.1: zeta = 1/(2 M) alone",
            theory="error from order-one weights minus that from small ones, same samples: 0",
            points=tuple(between_starts()),
            note="The ratio of the rate to |w|/sqrt(N) at the start is the same.",
            **common,
        ),
        Claim(
            name="linear-bn-converged",
            statement="Batch norm of M = 32 ends at about c_M times least squares.",
            stated_by="package",
            formula="none in the paper",
            theory="error minus that of least squares on the same samples, bn_gen_error",
            points=tuple(
                m.point(
                    f"alpha = {a:g}",
                    bn_gen_error(a, S, batch_size=BATCH_SIZE, theory="finite-batch")
                    - gen_error(a, S),
                )
                for a, m in zip(CONVERGED_EPOCHS, converged, strict=True)
            ),
            note="From the least-squares weights, after "
            f"{' and '.join(map(str, CONVERGED_EPOCHS.values()))} epochs; after half of them "
            f"{changes}.",
            N=medium.N,
            **common,
        ),
        Claim(
            name="linear-bn-survivors",
            statement="Below alpha = 1 batch norm ends at c_M times least squares plus what is "
            "left of the initial weights outside the space of the inputs.",
            stated_by="package",
            formula="none in the paper",
            theory="1 - 2 c_M m + c_M^2 q L^2/(L^2 - (1 - alpha) L0^2) at the measured L",
            points=tuple(survivors()),
            note="That is why the points of the two starts lie apart in the figure.",
            **common,
        ),
        Claim(
            name="linear-early-stopping",
            statement="Gradient descent stopped at time t has the error of the gradient flow.",
            stated_by="package",
            formula="none in the paper",
            theory="early_stopping, an average over the Marchenko-Pastur law",
            points=tuple(
                m.point(
                    f"alpha = {a:g}, t = {t:g}", early_stopping(a, S, t).gen_error, record=i + 1
                )
                for a, m in zip(FLOW_LOADS, flow, strict=True)
                for i, t in enumerate(FLOW_TIMES)
            ),
            note=f"Steps of {FLOW_RATE} and {2 * FLOW_RATE} on the same samples, extrapolated to "
            "0. Control variate: ridge regression with zeta = 1/t.",
            N=medium.N,
            **common,
        ),
    ]
    draw(setup, plain, noiseless, bn, converged, flow, name)
    return claims


def draw(setup: Setup, trained, noiseless, bn, converged, flow, name: str) -> None:
    """Descent, batch norm, early stopping."""
    figure, (left, middle, right) = new_axes(3, height=4.6)
    alpha = np.arange(9, 311) / 100.0
    for i, (zeta, measured) in enumerate(trained.items()):
        label = f"ζ = {zeta:g}" if zeta != 1 / 64 else "ζ = 1/64"
        draw_curve(left, alpha, gen_error(alpha, S, zeta), index=i, marker="none", label=label)
        how = "SGD" if zeta == 0 else "descent"
        points(left, LOADS if zeta else SGD_LOADS, measured, i, label=f"{how}, {label}")
    draw_curve(left, alpha, gen_error(alpha, 0.0), index=3, marker="none", label="S = 0")
    points(left, NOISELESS_LOADS, noiseless, 3, label="SGD, S = 0")

    curves = {
        "ridge, ζ = 1/64": gen_error(alpha, S, 1 / 64),
        "converged BN": bn_gen_error(alpha, S, batch_size=BATCH_SIZE),
    }
    for i, (label, values) in enumerate(curves.items()):
        style = {"color": "black", "linestyle": ("--", "-")[i], "marker": "none"}
        draw_curve(middle, alpha, values, label=label, **style)
    for (start, measured), marker in zip(bn.items(), "os", strict=True):
        for i, epochs in enumerate(BN_EPOCHS):
            label = f"{start} start, {epochs} epochs"
            points(middle, BN_LOADS, measured, i + 1, i + 1, marker=marker, label=label)
    least = [gen_error(a, S) for a in CONVERGED_EPOCHS]
    ends = [value + m.mean[-1] for value, m in zip(least, converged, strict=True)]
    style = line_style(
        4, linestyle="none", marker="*", markersize=11, zorder=5, label="trained to the end"
    )
    middle.plot(list(CONVERGED_EPOCHS), ends, **style)

    for i, t in enumerate(FLOW_TIMES):
        curve = early_stopping(alpha, S, t).gen_error
        draw_curve(right, alpha, curve, index=i, marker="none", label=f"t = {t:g}")
        points(right, FLOW_LOADS, flow, i, i + 1, label=f"descent, t = {t:g}")
    best = early_stopping(alpha, S, 1.0).optimal_error
    draw_curve(right, alpha, best, color="black", linestyle=":", marker="none", label="best time")

    for axes, top, title in (
        (left, 1.5, f"linear, S = {S}, N = {setup.N}"),
        (middle, 2.6, "batch norm, M = 32"),
        (right, 1.0, "stopped early"),
    ):
        axes.set_ylim(0.0, top)
        finish_axes(axes, title=title, xlabel=LOAD_LABEL, ylabel=ERROR_LABEL, legend="below")
    setup.save(figure, name)


def points(axes, loads, measured: list[Measurement], index: int, record: int = -1, **style) -> None:
    """Means with standard errors over the loads."""
    options = line_style(index, linestyle="none") | style
    mean, error = ([getattr(m, what)[record] for m in measured] for what in ("mean", "error"))
    axes.errorbar(loads, mean, error, **options)
