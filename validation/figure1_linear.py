"""Figure 1(a): the linear student without decay, with decay, with batch norm, stopped early."""

from __future__ import annotations

import numpy as np

from replica import bn_gen_error, early_stopping, gen_error
from replica.plotting import (  # fmt: skip
    ERROR_LABEL,
    LOAD_LABEL,
    draw_curve,
    finish_axes,
    line_style,
    new_axes,
)
from replica.published import linear_decay_error, linear_sgd_error

from ._claims import Claim
from ._runs import Setup

S = 0.25
BATCH_SIZE = 32  # of batch norm; the paper pairs it with zeta = 1/(2 M) = 1/64
SGD = {"S": S, "student": "linear", "batch_size": -16, "learning_rate": 1.0, "schedule": "cosine"}
# zeta: (loads, epochs). Without decay the slowest mode relaxes at (1 - sqrt(alpha))^2.
DECAYS = {
    0.0: ((0.25, 0.5, 1.5, 2.0, 3.0), 300),
    1 / 64: ((0.25, 0.5, 1.0, 1.5, 2.0, 3.0), 400),
    0.25: ((0.25, 0.5, 1.0, 1.5, 2.0, 3.0), 100),
}
BN = {
    "S": S,
    "student": "linear",
    "normalizer": "bn-var",
    "batch_size": BATCH_SIZE,
    "schedule": "cosine",
    "epochs": 500,
    "record": [10, 30, 500],
}
# The step on w is the rate over |w|^2/N: smaller weights need a smaller rate.
STARTS = {
    "order-one": {"init_scale": 1.0, "learning_rate": 0.5},
    "small": {"init_scale": 0.1, "learning_rate": 0.05},
}
BN_LOADS = (0.5, 1.0, 1.5, 2.0, 3.0)
FLOW = {"S": S, "alpha": 1.0, "student": "linear", "batch_size": 0, "learning_rate": 0.01}
FLOW_TIMES = (0.5, 1.0, 2.5, 5.0)


def decay_points(zeta: float) -> list[dict]:
    """The simulations of one ridge curve."""
    loads, epochs = DECAYS[zeta]
    options = SGD | {"zeta": zeta, "epochs": epochs, "record": epochs}
    return [options | {"alpha": alpha} for alpha in loads]


def run(setup: Setup) -> list[Claim]:
    """All claims, and the figure."""
    name = "figure1_linear"
    common = {
        "command": setup.command(name),
        "seed": setup.seed,
        "figure": f"{name}.png",
    }
    ridge = {zeta: setup.measure(decay_points(zeta)) for zeta in DECAYS}
    bn = {
        word: setup.measure([BN | start | {"alpha": a} for a in BN_LOADS], fit=word == "order-one")
        for word, start in STARTS.items()
    }
    steps = [round(t / FLOW["learning_rate"]) for t in FLOW_TIMES]
    (flow,) = setup.measure([FLOW | {"epochs": steps[-1], "record": steps}])

    def decay_claim_points(zetas):
        for zeta in zetas:
            for alpha, m in zip(DECAYS[zeta][0], ridge[zeta], strict=True):
                theory = linear_decay_error(alpha, S, zeta) if zeta else linear_sgd_error(alpha, S)
                yield m.point(f"alpha = {alpha:g}, zeta = {zeta:g}", float(theory))

    def beside(alpha, zeta):
        # The runs of one load saw the same samples.
        ridge_runs = ridge[zeta][DECAYS[zeta][0].index(alpha)]
        return bn["order-one"][BN_LOADS.index(alpha)].minus(ridge_runs)

    claims = [
        Claim(
            name="linear-sgd",
            statement="Vanilla SGD of the linear student ends at the least-squares error.",
            stated_by="paper",
            formula="section 4.1: 1 - alpha + alpha S/(1 - alpha); S/(alpha - 1) above 1",
            theory="the same",
            points=tuple(decay_claim_points([0.0])),
            **common,
        ),
        Claim(
            name="linear-decay",
            statement="Weight decay gives the ridge curves of Krogh and Hertz (sum convention).",
            stated_by="paper",
            formula="section 4.1: S d(zeta G)/d zeta - zeta^2 dG/d zeta",
            theory="the same",
            points=tuple(decay_claim_points([1 / 64, 0.25])),
            **common,
        ),
        Claim(
            name="linear-bn-as-ridge",
            statement="Batch norm of M = 32 trained to the end has the error of ridge regression "
            "with zeta = 1/64.",
            stated_by="paper",
            formula="section 4.1: zeta = 1/(2 M)",
            theory="error minus that of ridge on the same samples: 0",
            points=tuple(beside(a, 1 / 64).point(f"alpha = {a:g}", 0.0) for a in BN_LOADS),
            note=f"After {BN['epochs']} epochs from weights of order one, like the paper's runs at "
            "a finite time. In the end batch norm keeps the peak at alpha = 1: its penalty acts on "
            "the outputs on the training set, not on the weights.",
            **common,
        ),
        Claim(
            name="linear-bn-converged",
            statement="Batch norm of M = 32 ends at c_M times least squares.",
            stated_by="package",
            formula="none in the paper",
            theory="error minus that of least squares on the same samples, to order 1/M^2",
            # Below alpha = 1 the initial weights outside the space of the inputs survive, and close
            # to it the slowest directions, which relax as (1 - sqrt(alpha))^2, are on their way.
            points=tuple(
                beside(a, 0.0).point(
                    f"alpha = {a:g}",
                    bn_gen_error(a, S, batch_size=BATCH_SIZE) - gen_error(a, S),
                )
                for a in (2.0, 3.0)
            ),
            note=f"After {BN['epochs']} epochs, when batch norm is not quite at its limit: whether "
            "longer training closes the gap to the theory is not shown.",
            **common,
        ),
        Claim(
            name="linear-early-stopping",
            statement="Gradient descent stopped at time t has the error of the gradient flow.",
            stated_by="package",
            formula="none in the paper",
            theory="early_stopping, an average over the Marchenko-Pastur law",
            points=tuple(
                flow.point(
                    f"alpha = 1, t = {t:g}",
                    early_stopping(1.0, S, t).gen_error,
                    record=int(np.flatnonzero(flow.epoch == step)[0]),
                )
                for t, step in zip(FLOW_TIMES, steps, strict=True)
            ),
            note="Steps of 0.01, which is not quite the flow.",
            **common,
        ),
    ]
    draw(setup, ridge, bn, name)
    return claims


def draw(setup: Setup, ridge, bn, name: str) -> None:
    """Ridge on the left, batch norm on the right."""
    figure, (left, right) = new_axes(2, height=4.4)
    alpha = np.arange(10, 311) / 100.0
    for i, zeta in enumerate(DECAYS):
        label = f"ζ = {zeta:g}" if zeta != 1 / 64 else "ζ = 1/64"
        draw_curve(left, alpha, gen_error(alpha, S, zeta), index=i, marker="none", label=label)
        style = line_style(i, linestyle="none", label=f"SGD, {label}")
        mean = [m.mean[-1] for m in ridge[zeta]]
        left.errorbar(DECAYS[zeta][0], mean, [m.error[-1] for m in ridge[zeta]], **style)
    curves = {
        "ridge, ζ = 1/64": gen_error(alpha, S, 1 / 64),
        "converged BN, M = 32": bn_gen_error(alpha, S, batch_size=BATCH_SIZE),
    }
    for i, (label, values) in enumerate(curves.items()):
        style = {"color": "black", "linestyle": ("--", "-")[i], "marker": "none"}
        draw_curve(right, alpha, values, label=label, **style)
    index = 1
    for word, marker in zip(STARTS, "os", strict=True):
        for record in (1, 2, 3):
            epoch = bn[word][0].epoch[record]
            style = line_style(
                index, linestyle="none", marker=marker, label=f"{word} start, {epoch} epochs"
            )
            y = [m.mean[record] for m in bn[word]]
            right.errorbar(BN_LOADS, y, [m.error[record] for m in bn[word]], **style)
            index += 1
    left.set_ylim(0.0, 1.3)
    right.set_ylim(0.0, 2.0)
    options = {"xlabel": LOAD_LABEL, "ylabel": ERROR_LABEL, "legend": "below"}
    finish_axes(left, title=f"linear student, S = {S}, N = {setup.N}", **options)
    finish_axes(right, title="batch norm, M = 32", **options)
    setup.save(figure, name)
