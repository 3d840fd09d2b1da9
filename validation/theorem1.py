"""Theorem 1 by Monte Carlo: its error, the terms it drops, real batches, the strengths, c_M."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from replica import gamma_decay_strength, shrinkage
from replica.batch_norm import expected_loss, gamma_decay, sampled_loss
from replica.plotting import finish_axes, line_style, new_axes

from ._claims import Claim, Point
from ._runs import Setup, standard_error
from .batch_norm_traits import S, expected_scale, mean_point, problem, simulate, width

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
# batch sizes at each load; for alpha < 1 they must stay far below the number of samples
SHRINKAGE_SIZES = {0.5: (4, 8), 2.0: (4, 8, 32), 3.0: (4, 8, 32)}
REAL_SIZES = (32, 64, 128)
N_POPULATION = 100_000
# The paper's surrogate of ReLU is softplus.
ACTIVATIONS = {"relu": "softplus", "logistic": "logistic"}


def sample(size: int) -> NDArray[np.float64]:
    """Hidden values and targets, independent of each other."""
    return np.random.default_rng(0).standard_normal((2, size))


def excess(*, batch_size: int, activation: str, batches: str, seed: int) -> dict:
    """Simulated BN loss minus PN loss at gamma = 1, and what the theory says on the same data."""
    real = batches == "real"
    h, y = sample(N_POPULATION if real else N_SAMPLES)
    if real:
        y = y + h  # targets that depend on h see the sample act on its own batch
    options = {"batch_size": batch_size, "gamma": 1.0, "activation": activation, "law": "chi"}
    runs = [
        sampled_loss(h, y, **options, batches=batches, n_draws=(5 if real else 1) * N_DRAWS,
                     seed=(seed, k))
        for k in range(REPEATS)
    ]  # fmt: skip
    values = np.array([r.excess for r in runs])
    terms = gamma_decay(h, y, **options, kurtosis=0.0)
    return {
        "mean": values.mean(),
        "error": values.std(ddof=1) / np.sqrt(REPEATS),
        "penalty": terms.penalty,
        "remainder": terms.remainder,
        "real_batch": terms.real_batch,
        "exact": np.nan if real else expected_loss(h, y, **options).excess,
    }


def second_order(activation: str) -> float:
    """Limit of M^2 (BN loss - PN loss - R_f - penalty) at gamma = 1, from the moments of the noise.

    For d = t u - m (1 + u), u = sigma_P/sigma_B - 1, and M sigma_B^2/sigma_P^2 of M - 1 degrees of
    freedom, M^2 times the moments beyond Theorem 1: E[u^2] -> 71/16, E[u^3] -> 25/8, E[u^4] -> 3/4.
    """
    h, _ = sample(N_SAMPLES)
    t = (h - h.mean()) / h.std()
    s = 1.0 / (1.0 + np.exp(-t))
    bell = s * (1.0 - s)
    # Second to fourth derivative of A; the second is s for softplus, s (1 - s) for logistic.
    two, three, four = (
        (s, bell, bell * (1 - 2 * s))
        if activation == "softplus"
        else (bell, bell * (1 - 2 * s), bell * (1 - 6 * bell))
    )
    moments = (
        two * (71 / 16 * t**2 + 3) / 2
        + three * (25 / 8 * t**3 + 27 / 4 * t) / 6
        + four * (3 / 4 * t**4 + 3 * t**2 + 3) / 24
    )
    return float(np.mean(moments))


def extrapolate(values: NDArray, errors: NDArray) -> tuple[float, float]:
    """Limit of a + b/M + c/M^2 + ... through values at M doubled each time, and its error."""
    weights = np.eye(len(values))
    for k in range(1, len(values)):
        weights = (2**k * weights[1:] - weights[:-1]) / (2**k - 1)
    return float(weights[0] @ values), float(np.hypot.reduce(weights[0] * errors))


def strength(*, batch_size: int, student: str, noise: str, loss: str, seed: int) -> dict:
    """gamma decay measured: mean of (g(h) - g((h - mu_B)/sigma_B))^2 over drawn statistics."""
    rng = np.random.default_rng((seed, batch_size))
    count, M, centered = 2_000_000, batch_size, noise == "both"
    h = rng.standard_normal(count)
    mu = rng.standard_normal(count) / np.sqrt(M) if centered else 0.0
    sigma = np.sqrt(rng.chisquare(M - 1 if centered else M, count) / M)
    g = (lambda u: u) if student == "linear" else (lambda u: np.maximum(u, 0.0))
    values = (g(h) - g((h - mu) / sigma)) ** 2 * (0.5 if loss == "half-squared" else 1.0)
    parts = values.reshape(100, -1).mean(axis=1)
    return {"mean": parts.mean(), "error": parts.std(ddof=1) / 10.0}


def run(setup: Setup) -> list[Claim]:
    """All claims, and the figure."""
    name = "theorem1"
    common = setup.evidence(name)
    M = np.array(BATCH_SIZES, float)
    losses = {
        name: setup.run(
            excess, [{"batch_size": m, "activation": activation} for m in BATCH_SIZES],
            seed=setup.seed, batches="independent",
        )
        for name, activation in ACTIVATIONS.items()
    }  # fmt: skip
    real = setup.run(
        excess, [{"batch_size": m} for m in REAL_SIZES],
        seed=setup.seed, batches="real", activation="softplus",
    )  # fmt: skip
    left = {
        a: np.array([r["mean"] - r["penalty"] - r["remainder"] for r in rows])
        for a, rows in losses.items()
    }
    rest, orders = [], []
    for a, rows in losses.items():
        for m, r, value in zip(BATCH_SIZES, rows, left[a], strict=True):
            theory = r["exact"] - r["penalty"] - r["remainder"]
            rest.append(Point(f"{a}, M = {m}", theory, value, r["error"], REPEATS))
        limit = extrapolate(M**2 * left[a], M**2 * np.array([r["error"] for r in rows]))
        orders.append(Point(f"{a}: M^2 rest", second_order(ACTIVATIONS[a]), *limit, REPEATS))
    sizes = np.array(REAL_SIZES, float)
    limit = extrapolate(
        sizes * [r["mean"] for r in real], sizes * np.array([r["error"] for r in real])
    )
    # R_f holds all orders in 1/M of the mean of 1/sigma_B, so its own limit is needed.
    drift = extrapolate(sizes * [r["remainder"] for r in real], 0 * sizes)[0]
    both = extrapolate(sizes * [r["remainder"] + r["real_batch"] for r in real], 0 * sizes)[0]
    penalty = REAL_SIZES[0] * real[0]["penalty"]
    where = "relu: M (BN loss - PN loss)"
    independent = Point(where, penalty + drift, *limit, REPEATS)
    corrected = Point(where, penalty + both, *limit, REPEATS)
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
                m, student=student, loss=loss, noise=noise, exact=True,
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
    shrunk = [
        (a, m, row["scale"])
        for a, batch_sizes in SHRINKAGE_SIZES.items()
        for m, row in zip(
            batch_sizes,
            simulate(setup, [problem("linear", "bn-var", a, m) for m in batch_sizes]),
            strict=True,
        )
    ]
    claims = [
        Claim(
            name="theorem1-published",
            statement="BN loss is PN loss plus zeta(h) gamma^2, here for given targets.",
            stated_by="paper",
            formula="Theorem 1: zeta = (rho + 2) I/(8 M) + <A''>/(2 M)",
            theory="the penalty alone",
            points=tuple(published),
            note="The term R_f, of order 1/M too, vanishes only for targets drawn from the model.",
            **common,
        ),
        Claim(
            name="theorem1-rest",
            statement="What Theorem 1 with R_f kept still misses, from Monte Carlo and from "
            "quadrature over the batch statistics.",
            stated_by="package",
            formula="Theorem 1 and the term it drops",
            theory="expected_loss - PN loss - R_f - penalty",
            points=tuple(rest),
            **common,
        ),
        Claim(
            name="theorem1-order",
            statement="With R_f kept, the error of Theorem 1 is of order 1/M^2.",
            stated_by="package",
            formula="Theorem 1 and the term it drops",
            theory="limit of M^2 rest, from the moments of mu_B and sigma_B",
            points=tuple(orders),
            note="The simulated values at M = 16 to 128 are extrapolated in powers of 1/M.",
            **common,
        ),
        Claim(
            name="theorem1-real-batches",
            statement="Theorem 1, with R_f kept, holds for real batches to order 1/M.",
            stated_by="paper",
            formula="Theorem 1 and the term it drops",
            theory="limit of M (R_f + penalty)",
            points=(independent,),
            note="In a real batch the sample moves the statistics that normalize it.",
            **common,
        ),
        Claim(
            name="theorem1-real-batches-corrected",
            statement="With the term for the sample's own share in its batch it does.",
            stated_by="package",
            formula="none in the paper",
            theory="limit of M (R_f + penalty + real_batch)",
            points=(corrected,),
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
            statement="Batch norm shortens the weights of least squares by about c_M, not "
            "1/(1 + 1/(2M)).",
            stated_by="package",
            formula="none in the paper",
            theory="bn_equilibrium at any M, drawn without replacement",
            points=tuple(
                mean_point(
                    f"alpha = {a:g}, M = {m}",
                    expected_scale("bn-var", a, S, m, width(setup)),
                    scale,
                )
                for a, m, scale in shrunk
            ),
            note=f"W.V/|V|^2 along the least-squares V of the same samples, S = {S:g}, trained to "
            "the end.",
            N=width(setup),
            **common,
        ),
    ]
    figure, (first, second) = new_axes(2)
    for i, (a, rows) in enumerate(losses.items()):
        whole = np.array([abs(r["mean"] - r["penalty"]) for r in rows])
        first.plot(M, whole, **line_style(2 * i, label=f"{a}, penalty alone"))
        first.plot(M, np.abs(left[a]), **line_style(2 * i + 1, label=f"{a}, with $R_f$"))
    first.set(xscale="log", yscale="log")
    first.set_xticks(BATCH_SIZES, [str(m) for m in BATCH_SIZES])
    first.set_xticks([], minor=True)
    finish_axes(first, xlabel="$M$", ylabel="what Theorem 1 misses", legend="inside")
    sizes = np.arange(4, 41)
    second.plot(sizes, shrinkage(sizes), color="black", label="$c_M$")
    second.plot(sizes, 1 / (1 + 0.5 / sizes), color="0.5", linestyle="--", label="$1/(1 + 1/2M)$")
    for i, alpha in enumerate(SHRINKAGE_SIZES):
        points = [(m, scale) for a, m, scale in shrunk if a == alpha]
        x = [m * (1 + 0.03 * (i - 1)) for m, _ in points]
        spread = [standard_error(scale) for _, scale in points]
        style = line_style(i, linestyle="none", label=f"simulated, α = {alpha:g}")
        second.errorbar(x, [scale.mean() for _, scale in points], spread, **style)
    finish_axes(second, xlabel="$M$", ylabel="scale over least squares", legend="inside")
    setup.save(figure, name)
    return claims
