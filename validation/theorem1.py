"""Theorem 1 by Monte Carlo: the order of its error, the term it drops, the strengths, c_M."""

from __future__ import annotations

import numpy as np

from replica import gamma_decay_strength, shrinkage, simulate_training
from replica.batch_norm import gamma_decay, sampled_loss
from replica.plotting import finish_axes, line_style, new_axes

from ._claims import Claim, Point
from ._runs import Setup

BATCH_SIZES = (16, 32, 64, 128)
N_DRAWS = 400_000
REPEATS = 8
N_SAMPLES = 400
# student, what fluctuates, loss, the paper's strength times M
STRENGTHS = (
    ("linear", "std", "squared", 0.5),
    ("relu", "std", "squared", 0.25),
    ("linear", "both", "half-squared", 0.75),
)
SHRINKAGE_SIZES = (4, 8, 32)


def excess(*, batch_size: int, activation: str, seed: int) -> dict:
    """Simulated BN loss minus PN loss at gamma = 1, and the theorem's terms on the same data."""
    h, y = np.random.default_rng(0).standard_normal((2, N_SAMPLES))
    options = {"batch_size": batch_size, "gamma": 1.0, "activation": activation, "law": "chi"}
    runs = [sampled_loss(h, y, **options, n_draws=N_DRAWS, seed=(seed, k)) for k in range(REPEATS)]
    values = np.array([r.excess for r in runs])
    terms = gamma_decay(h, y, **options, kurtosis=0.0)
    return {
        "mean": values.mean(),
        "error": values.std(ddof=1) / np.sqrt(REPEATS),
        "penalty": terms.penalty,
        "remainder": terms.remainder,
    }


def strength(*, batch_size: int, student: str, noise: str, loss: str, seed: int) -> dict:
    """gamma decay measured: mean of (g(h) - g((h - mu_B)/sigma_B))^2 over drawn statistics."""
    rng = np.random.default_rng((seed, batch_size))
    count, M, centred = 2_000_000, batch_size, noise == "both"
    h = rng.standard_normal(count)
    mu = rng.standard_normal(count) / np.sqrt(M) if centred else 0.0
    sigma = np.sqrt(rng.chisquare(M - 1 if centred else M, count) / M)
    g = (lambda u: u) if student == "linear" else (lambda u: np.maximum(u, 0.0))
    values = (g(h) - g((h - mu) / sigma)) ** 2 * (0.5 if loss == "half-squared" else 1.0)
    parts = values.reshape(100, -1).mean(axis=1)
    return {"mean": parts.mean(), "error": parts.std(ddof=1) / 10.0}


def shrunk(*, batch_size: int, N: int, n_runs: int, seed: int) -> dict:
    """gamma after batch norm over gamma of least squares, run by run on the same samples."""
    options = {"N": N, "n_runs": n_runs, "seed": seed, "n_threads": 1, "progress": False}
    options |= {"schedule": "cosine", "batch_size": batch_size, "record": 500, "epochs": 500}
    bn = simulate_training(3.0, 0.25, normalizer="bn-var", learning_rate=0.3, **options)
    ls = simulate_training(3.0, 0.25, learning_rate=0.3, **options)
    ratio = bn.gamma[-1] / ls.gamma[-1]
    return {"mean": ratio.mean(), "error": ratio.std(ddof=1) / np.sqrt(n_runs)}


def run(setup: Setup) -> list[Claim]:
    """All claims, and the figure."""
    name = "theorem1"
    common = {"command": setup.command(name), "seed": setup.seed, "figure": f"{name}.png"}
    M = np.array(BATCH_SIZES, float)
    losses = {
        activation: setup.run(
            excess, [{"batch_size": m, "activation": activation} for m in BATCH_SIZES],
            seed=setup.seed,
        )
        for activation in ("relu", "logistic")
    }  # fmt: skip
    left = {
        a: np.array([r["mean"] - r["penalty"] - r["remainder"] for r in rows])
        for a, rows in losses.items()
    }
    errors = {a: np.array([r["error"] for r in rows]) for a, rows in losses.items()}
    orders = []
    for a in losses:
        # log rest = constant + p log M + d/M: the exponent p at large M, the next order apart.
        basis = np.stack([np.log(M), np.ones_like(M), 1 / M], axis=1)
        weight = np.abs(left[a]) / errors[a]
        basis *= weight[:, None]
        covariance = np.linalg.inv(basis.T @ basis)
        value = (covariance @ basis.T @ (np.log(np.abs(left[a])) * weight))[0]
        error = float(np.sqrt(covariance[0, 0]))
        where = f"{a}, M = {BATCH_SIZES[0]}..{BATCH_SIZES[-1]}"
        orders.append(Point(where, -2.0, float(value), error, REPEATS))
    published = [
        Point(f"{a}, M = {r['batch_size']}", r["penalty"], r["mean"], r["error"], REPEATS)
        for a, rows in losses.items()
        for r in rows
    ]
    exact, leading = [], []
    for student, noise, loss, times_M in STRENGTHS:
        options = {"student": student, "noise": noise, "loss": loss}
        rows = setup.run(strength, [{"batch_size": m} | options for m in BATCH_SIZES],
                         seed=setup.seed)  # fmt: skip
        for m, row in zip(BATCH_SIZES, rows, strict=True):
            theory = gamma_decay_strength(
                m, student=student, loss=loss, variance_only=noise == "std", exact=True,
                mean_subtracted=noise == "both",
            )  # fmt: skip
            where = f"{student}, {noise}, {loss}, M = {m}"
            exact.append(Point(where, theory, row["mean"], row["error"], 100))
        # The leading order is the limit of M zeta, a straight line in 1/M with a curvature term.
        value = np.array([r["mean"] for r in rows]) * M
        error = np.array([r["error"] for r in rows]) * M
        basis = np.stack([M**-k for k in range(3)], axis=1) / error[:, None]
        covariance = np.linalg.inv(basis.T @ basis)
        limit = (covariance @ basis.T @ (value / error))[0]
        leading.append(
            Point(f"{student}, {noise}, {loss}: M zeta", times_M, float(limit),
                  float(np.sqrt(covariance[0, 0])), 100)
        )  # fmt: skip
    size = {"N": setup.N // 2, "n_runs": setup.n_runs}
    ratios = setup.run(shrunk, [{"batch_size": m} | size for m in SHRINKAGE_SIZES],
                       seed=setup.seed)  # fmt: skip
    claims = [
        Claim(
            name="theorem1-published",
            statement="BN loss is PN loss plus zeta(h) gamma^2, for any targets.",
            stated_by="paper",
            formula="Theorem 1: zeta = (rho + 2) I/(8 M) + <A''>/(2 M)",
            theory="the penalty alone",
            points=tuple(published),
            note="The term R_f, of order 1/M too, vanishes only for targets drawn from the model.",
            **common,
        ),
        Claim(
            name="theorem1-order",
            statement="With R_f kept, the error of Theorem 1 is of order 1/M^2.",
            stated_by="package",
            formula="Theorem 1 and the term it drops",
            theory="exponent -2 of the rest (BN loss - PN loss - R_f - penalty)",
            points=tuple(orders),
            note="The fit has a term of the next order, d/M, beside the exponent.",
            **common,
        ),
        Claim(
            name="strengths-leading",
            statement="gamma decay is 1/(2M) (linear), 1/(4M) (ReLU), 3/(4M) (half loss, with "
            "mu_B) for large M.",
            stated_by="paper",
            formula="section 4 and appendix C.3",
            theory="limit of M zeta",
            points=tuple(leading),
            **common,
        ),
        Claim(
            name="strengths-exact",
            statement="The closed forms of gamma decay at finite M.",
            stated_by="package",
            formula="appendix C.3, extended to ReLU",
            theory="gamma_decay_strength(exact=True)",
            points=tuple(exact),
            **common,
        ),
        Claim(
            name="shrinkage",
            statement="Batch norm shortens the weights of least squares by c_M, not 1/(1 + "
            "1/(2M)).",
            stated_by="package",
            formula="none in the paper",
            theory="c_M = sqrt(2/M) Gamma((M + 1)/2)/Gamma(M/2), to order 1/M^2",
            points=tuple(
                Point(f"alpha = 3, M = {m}", shrinkage(m), r["mean"], r["error"], setup.n_runs)
                for m, r in zip(SHRINKAGE_SIZES, ratios, strict=True)
            ),
            **common,
        ),
    ]
    figure, (first, second) = new_axes(2)
    for i, (a, rows) in enumerate(losses.items()):
        whole = np.array([abs(r["mean"] - r["penalty"]) for r in rows])
        first.plot(M, whole, **line_style(2 * i, label=f"{a}, penalty alone"))
        first.plot(M, np.abs(left[a]), **line_style(2 * i + 1, label=f"{a}, with $R_f$"))
    first.set(xscale="log", yscale="log")
    finish_axes(first, xlabel="$M$", ylabel="what Theorem 1 misses", legend="inside")
    sizes = np.arange(4, 41)
    second.plot(sizes, shrinkage(sizes), color="black", label="$c_M$")
    second.plot(sizes, 1 / (1 + 0.5 / sizes), color="0.5", linestyle="--", label="$1/(1 + 1/2M)$")
    style = line_style(0, linestyle="none", label="simulated")
    second.errorbar(
        SHRINKAGE_SIZES, [r["mean"] for r in ratios], [r["error"] for r in ratios], **style
    )
    finish_axes(second, xlabel="$M$", ylabel=r"$\gamma$ over least squares", legend="inside")
    setup.save(figure, name)
    return claims
