"""Converged batch norm of the linear student at any batch size, against direct minimization."""

from __future__ import annotations

import numpy as np
import pytest

from bn_training import minimized_weights, problem
from replica import gen_error
from replica._core.status import ConvergenceWarning, Status
from replica.batch_norm import _finite_batch as finite_batch
from replica.batch_norm import bn_equilibrium, bn_gen_error

S = 0.25


@pytest.mark.slow
def test_bn_equilibrium_replica_agrees_with_minimization_where_the_expansion_fails():
    alpha, M, N, seeds = 1.3, 4, 512, 40
    rows = []
    for seed in range(seeds):
        X, y, teacher = problem(N, alpha, S, seed)
        ls = np.linalg.lstsq(X, y, rcond=None)[0]
        w, _ = minimized_weights(X, y, batch_size=M, n_epochs=300, seed=seed)
        along = w @ ls / (ls @ ls)
        across = np.linalg.norm(w - along * ls) / np.linalg.norm(along * ls)
        # The scatter between data sets is common to both errors.
        rows.append([across, along, np.mean((w - teacher) ** 2) - np.mean((ls - teacher) ** 2)])
    mean, error = np.mean(rows, axis=0), np.std(rows, axis=0, ddof=1) / np.sqrt(seeds)

    def expected(theory):
        bn = bn_equilibrium(alpha, S, batch_size=M, theory=theory)
        least_squares = np.sqrt(1 + S / (alpha - 1))
        return np.array(
            [
                np.tan(bn.angle),
                bn.gamma * np.cos(bn.angle) / least_squares,
                bn.gen_error - gen_error(alpha, S),
            ]
        )

    assert (np.abs(mean - expected("finite-batch")) < 3 * error).all()
    expansion = np.abs(mean - expected("expansion")) / error
    assert expansion[0] > 5
    assert expansion[2] > 3


def test_bn_equilibrium_replica_tends_to_the_expansion_for_large_batches():
    for M in (32, 128, 512):
        exact = bn_equilibrium(2.0, S, batch_size=M, theory="finite-batch")
        expansion = bn_equilibrium(2.0, S, batch_size=M)
        assert exact.gen_error == pytest.approx(float(expansion.gen_error), abs=1.0 / M**3)
        assert M * np.tan(exact.angle) == pytest.approx(M * np.tan(expansion.angle), abs=0.8 / M)


def test_bn_equilibrium_replica_is_the_expansion_where_the_residual_vanishes():
    alpha, noise = np.array([0.3, 0.9, 2.0]), np.array([0.25, 0.25, 0.0])
    exact = bn_equilibrium(alpha, noise, batch_size=4, theory="finite-batch")
    expansion = bn_equilibrium(alpha, noise, batch_size=4)
    np.testing.assert_array_equal(exact.gen_error, expansion.gen_error)
    np.testing.assert_array_equal(exact.angle, 0.0)


@pytest.mark.parametrize(("alpha", "noise"), [(1.01, 1e-4), (2.0, 100.0), (1e3, 1e3)])
def test_bn_equilibrium_replica_converges_at_the_ends_of_the_range(alpha, noise):
    exact = bn_equilibrium(alpha, noise, batch_size=8, theory="finite-batch")
    assert exact.status == Status.CONVERGED
    # The direction of least squares is not the best one inside batches: gamma^2 is what the
    # training loss gains, and must not be smaller than there.
    population = bn_equilibrium(
        alpha, noise, batch_size=8, theory="finite-batch", statistics="population"
    )
    output = (1 + noise / alpha) ** 0.5
    assert population.gamma >= exact.shrinkage * output * (1 - 1e-12)


def test_finite_batch_law_agrees_with_drawn_batches():
    """A(v), B(v) and C, one-dimensional integrals over Laplace transforms, by Monte Carlo."""
    M, v = 5, 0.7
    x, wx = finite_batch._normal_nodes(32)
    labels, wy = finite_batch._panel_nodes(8)
    Y = np.sqrt(1 + S) * labels[None, :]
    law = finite_batch._Law(x[:, None], Y, np.outer(wx, wy), M, S)
    law.update(0.6 * Y + 0.5 * x[:, None] + 0.05 * (Y * x[:, None]))
    rng = np.random.default_rng(0)
    y = np.sqrt(1 + S) * rng.standard_normal((400_000, M))
    g = rng.standard_normal(y.shape)
    u = 0.6 * y + 0.5 * g + 0.05 * y * g
    kernel = np.exp(-v * law.s2)
    rest = (u[:, 1:] ** 2).sum(axis=1)
    drawn = {
        "A": 1 / np.sqrt(v + rest),
        "B": (M - 1) * y[:, 1] * u[:, 1] / np.sqrt(v + rest),
        "C": (y * u).sum(axis=1) / np.sqrt(M * (u**2).sum(axis=1)),
    }
    a, _, _, minus_b_s2, _ = law.gains
    found = {
        "A": kernel @ a / np.sqrt(M),
        "B": -(kernel / law.s2) @ minus_b_s2 / np.sqrt(M),
        "C": law.correlation,
    }
    for name, values in drawn.items():
        error = values.std() / np.sqrt(len(values))
        assert found[name] == pytest.approx(values.mean(), abs=4 * error), name


def test_bn_equilibrium_replica_refuses_what_it_does_not_cover():
    with pytest.raises(ValueError, match=r"linear student and batch_size >= 4, got relu and 8"):
        bn_gen_error(2.0, S, batch_size=8, student="relu", theory="finite-batch")
    with pytest.raises(ValueError, match="batch_size >= 4, got linear and 3"):
        bn_gen_error(2.0, S, batch_size=3, theory="finite-batch")
    with pytest.raises(ValueError, match="theory must be one of"):
        bn_gen_error(2.0, S, batch_size=8, theory="expanded")


def test_bn_equilibrium_replica_reports_missing_convergence(monkeypatch):
    monkeypatch.setattr(finite_batch, "_MAX_OUTER", 2)
    with pytest.warns(ConvergenceWarning, match="1 of 2 points did not converge"):
        found = bn_equilibrium([0.5, 2.0], S, batch_size=8, theory="finite-batch")
    assert np.isfinite(found.gen_error[0])
    assert np.isnan(found.gen_error[1])
    assert list(found.status) == [Status.CONVERGED, Status.MAX_ITERATIONS]
