"""Figure 1(b): the ReLU student, plain and annealed, with decay and with batch norm."""

from __future__ import annotations

import numpy as np

from replica import gen_error, interpolation_threshold, solve_equilibrium
from replica.plotting import (  # fmt: skip
    ERROR_LABEL,
    LOAD_LABEL,
    draw_curve,
    finish_axes,
    line_style,
    new_axes,
)
from replica.published import relu_sgd_error

from ._claims import Claim, Point
from ._runs import Setup, mean_field

S = 0.25
LOADS = (0.5, 1.0, 1.5, 2.0, 3.0)
ZETAS = (1 / 64, 0.25)
RELU = {
    "S": S,
    "student": "relu",
    "batch_size": -16,
    "learning_rate": 0.5,
    "schedule": "cosine",
    "epochs": 300,
    "record": 300,
}
BATCH_SIZE = 16  # the paper pairs it with zeta = 1/(4 M) = 1/64
DESCENT = {"alpha": 1.5, "S": S, "student": "relu", "zeta": 1 / 64, "learning_rate": 0.2}
DESCENT_STEPS = (5, 20, 40)


def run(setup: Setup) -> list[Claim]:
    """All claims, and the figure."""
    name = "figure1_relu"
    common = {"command": setup.command(name), "seed": setup.seed, "figure": f"{name}.png"}
    problems = [(zeta, alpha) for zeta in ZETAS for alpha in LOADS]
    annealed = [RELU | {"alpha": a, "zeta": z, "anneal": True} for z, a in problems]
    energy = setup.measure(annealed, "energy")
    error = setup.measure(annealed)
    plain = setup.measure([RELU | {"alpha": a, "zeta": 0.0} for a in LOADS])
    decayed = setup.measure([RELU | {"alpha": a, "zeta": 1 / 64} for a in LOADS], fit=False)
    decayed_energy = setup.measure(
        [RELU | {"alpha": a, "zeta": 1 / 64} for a in LOADS], "energy", fit=False
    )
    normalised = {"batch_size": BATCH_SIZE, "init_scale": 1.0}
    bn = setup.measure(
        [RELU | normalised | {"alpha": a, "normalizer": "bn-var"} for a in LOADS], fit=False
    )
    wn = setup.measure(
        [RELU | normalised | {"alpha": a, "normalizer": "wn", "zeta": 1 / 64} for a in LOADS],
        fit=False,
    )
    (descent,) = setup.measure(
        [DESCENT | {"batch_size": 0, "epochs": DESCENT_STEPS[-1], "record": list(DESCENT_STEPS)}]
    )
    size = {"n_samples": 8 * setup.N, "n_runs": setup.n_runs, "epochs": DESCENT_STEPS[-1]}
    (limit,) = setup.run(
        mean_field, [DESCENT | size | {"record": list(DESCENT_STEPS), "seed": setup.seed + 7}]
    )
    theory = [solve_equilibrium(a, S, z, student="relu") for z, a in problems]
    where = [f"alpha = {a:g}, zeta = {z:g}" for z, a in problems]
    below_two = [(a, m) for a, m in zip(LOADS, plain, strict=True) if a < 2.0]
    claims = [
        Claim(
            name="relu-energy",
            statement="Annealed training reaches the replica-symmetric ground-state energy.",
            stated_by="package",
            formula="an open problem in the paper",
            theory="solve_equilibrium, energy per weight",
            points=tuple(
                m.point(w, float(t.energy)) for w, t, m in zip(where, theory, energy, strict=True)
            ),
            note="Replica symmetry is formally unstable for ReLU; the theory is an approximation.",
            **common,
        ),
        Claim(
            name="relu-error",
            statement="Annealed training has the replica-symmetric generalization error.",
            stated_by="package",
            formula="an open problem in the paper",
            theory="solve_equilibrium, gen_error",
            points=tuple(
                m.point(w, float(t.gen_error)) for w, t, m in zip(where, theory, error, strict=True)
            ),
            note="Flat directions of the landscape make the error more sensitive than the energy.",
            **common,
        ),
        Claim(
            name="relu-published",
            statement="Vanilla SGD of the ReLU student has the error of Proposition 5.",
            stated_by="paper",
            formula="Prop. 5: 1 - alpha/4 + alpha S/(2 (2 - alpha))",
            theory="the same",
            points=tuple(
                m.point(f"alpha = {a:g}", float(relu_sgd_error(a, S))) for a, m in below_two
            ),
            note="Proposition 5 treats samples with y <= 0 as a constant.",
            **common,
        ),
        Claim(
            name="relu-sgd-as-replica",
            statement="Vanilla SGD of the ReLU student ends in the replica ground state of "
            "vanishing decay.",
            stated_by="paper",
            formula="section 4.1: SGD as the equilibrium at zero temperature",
            theory="solve_equilibrium at zeta = 0",
            points=tuple(
                m.point(f"alpha = {a:g}", gen_error(a, S, student="relu"))
                for a, m in zip(LOADS, plain, strict=True)
            ),
            note="Plain descent ends in local minima with silent samples.",
            **common,
        ),
        Claim(
            name="relu-bn-as-decay",
            statement="Batch norm of M = 16 has the error of weight normalization with gamma "
            "decay 1/64.",
            stated_by="paper",
            formula="section 4.2: zeta = 1/(4 M)",
            theory="simulation of weight normalization with gamma decay",
            points=tuple(
                Point(
                    f"alpha = {a:g}",
                    float(w.mean[-1]),
                    float(b.mean[-1]),
                    float(b.error[-1]),
                    setup.n_runs,
                    theory_error=float(w.error[-1]),
                )
                for a, b, w in zip(LOADS, bn, wn, strict=True)
            ),
            note=f"Both after {RELU['epochs']} epochs from weights of order one.",
            **common,
        ),
        Claim(
            name="relu-mean-field",
            statement="Plain gradient descent on N weights follows its mean-field limit.",
            stated_by="package",
            formula="none in the paper",
            theory="mean_field_training (Monte Carlo of the limit)",
            points=tuple(
                descent.point(
                    f"alpha = 1.5, zeta = 1/64, step {step}",
                    limit["gen_error"][k],
                    record=k,
                    theory_error=float(limit["gen_error_se"][k]),
                )
                for k, step in enumerate(descent.epoch)
                if step > 0
            ),
            **common,
        ),
    ]
    draw(setup, dict(zip(problems, error, strict=True)), plain, decayed, bn, wn, name)
    gap = [
        f"{a:g}: {100 * (d.mean[-1] / e.mean[-1] - 1):+.1f} %"
        for a, d, e in zip(LOADS, decayed_energy, energy[: len(LOADS)], strict=True)
    ]
    print(f"energy of plain over annealed training, zeta = 1/64, by load: {', '.join(gap)}\n")
    return claims


def draw(setup: Setup, annealed, plain, decayed, bn, wn, name: str) -> None:
    """Theory and annealed training on the left, plain training on the right."""
    figure, (left, right) = new_axes(2, height=4.4)
    alpha = np.arange(10, 311) / 100.0
    names = {0.0: "ζ = 0", 1 / 64: "ζ = 1/64", 0.25: "ζ = 0.25"}

    def measured(ax, index, points, label, **line):
        style = line_style(index, linestyle="none", label=label, **line)
        ax.errorbar(LOADS, [m.mean[-1] for m in points], [m.error[-1] for m in points], **style)

    for i, (zeta, label) in enumerate(names.items()):
        values = gen_error(alpha, S, zeta, student="relu")
        draw_curve(left, alpha, values, index=i, marker="none", label=f"replica, {label}")
        if zeta:
            points = [annealed[zeta, a] for a in LOADS]
            measured(left, i, points, f"annealed, {label}")
    below = alpha[alpha < 1.9]
    draw_curve(
        right, below, relu_sgd_error(below, S), index=4, marker="none", label="Proposition 5"
    )
    bound = relu_sgd_error(alpha[alpha < 2], 0.0)
    draw_curve(right, alpha[alpha < 2], bound, index=3, marker="none", label="Proposition 5, S = 0")
    for i, zeta in enumerate((0.0, 1 / 64)):
        values = gen_error(alpha, S, zeta, student="relu")
        draw_curve(right, alpha, values, index=i, marker="none", label=f"replica, {names[zeta]}")
    measured(right, 0, plain, "SGD, ζ = 0")
    measured(right, 1, decayed, "SGD, ζ = 1/64")
    measured(right, 2, bn, "BN, M = 16")
    measured(right, 6, wn, "WN, gamma decay 1/64")
    threshold = interpolation_threshold(S, student="relu")
    for ax in (left, right):
        ax.axvline(threshold, color="0.6", linewidth=1.0, zorder=0)
        ax.annotate(r"$\alpha_c$", (threshold, 0.42), xytext=(3, 0), textcoords="offset points")
        ax.set_ylim(0.4, 1.5)
    options = {"xlabel": LOAD_LABEL, "ylabel": ERROR_LABEL, "legend": "below"}
    finish_axes(left, title=f"ReLU, S = {S}, N = {setup.N}: annealed", **options)
    finish_axes(right, title="plain training", **options)
    setup.save(figure, name)
