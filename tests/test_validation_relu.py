"""The validation's convex program for ReLU against a linear one, and its control variates."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog, minimize

from replica.simulation import make_training_set
from validation._runs import Setup
from validation.figure1_relu import known_averages, sample_averages, sharpen
from validation.relu_threshold import largest_fit, least_norm_fit

N = 12


def samples(P: int, seed: int):
    drawn = make_training_set(P, N, 0.25, np.random.SeedSequence(seed))
    return drawn.X, drawn.y


def is_feasible(X, y) -> bool:
    """By linear programming, an algorithm that shares nothing with the one under test."""
    on = y > 0
    result = linprog(
        np.zeros(N), A_ub=X[~on], b_ub=np.zeros((~on).sum()), A_eq=X[on], b_eq=y[on],
        bounds=(None, None),
    )  # fmt: skip
    return result.status == 0


def test_least_norm_fit_exists_where_a_linear_program_is_feasible():
    found = []
    for seed in range(40):
        X, y = samples(17, seed)
        found.append(least_norm_fit(X, y) is not None)
        assert found[-1] == is_feasible(X, y), seed
    assert 5 < sum(found) < 35  # both answers occur


def test_least_norm_fit_meets_its_conditions_and_no_shorter_one_does():
    for seed in range(5):
        X, y = samples(13, 100 + seed)
        W = least_norm_fit(X, y)
        assert W is not None
        on = y > 0
        np.testing.assert_allclose(X[on] @ W, y[on], atol=1e-10)
        assert (X[~on] @ W).max() < 1e-10
        reference = minimize(
            lambda w: w @ w, W + 0.1, jac=lambda w: 2 * w, method="SLSQP",
            constraints=[
                {"type": "eq", "fun": lambda w, X=X[on], t=y[on]: X @ w - t},
                {"type": "ineq", "fun": lambda w, X=X[~on]: -X @ w},
            ],
            options={"ftol": 1e-12, "maxiter": 500},
        )  # fmt: skip
        assert reference.success
        np.testing.assert_allclose(W, reference.x, atol=1e-5)


def test_largest_fit_is_the_last_feasible_prefix():
    for seed in range(10):
        X, y = samples(4 * N, 200 + seed)
        P = largest_fit(X, y)
        assert is_feasible(X[:P], y[:P])
        assert not is_feasible(X[: P + 1], y[: P + 1])


@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_sample_averages_have_the_expectation_they_subtract(alpha):
    runs = sample_averages(alpha, 16, 2000, 3)["runs"]
    z = runs.mean(axis=0) / (runs.std(axis=0) / np.sqrt(len(runs)))
    assert np.abs(z).max() < 4.0


def test_sharpen_lowers_the_error_and_keeps_the_mean(tmp_path):
    setup = Setup(tmp_path, N=64, n_runs=100, sizes=(16, 32))
    options = {
        "alpha": 0.5, "S": 0.25, "zeta": 0.25, "student": "relu", "batch_size": 0,
        "learning_rate": 0.5, "epochs": 30, "record": 30, "anneal": True,
    }  # fmt: skip
    (raw,) = setup.measure([options], "energy")
    sharp = sharpen(raw, known_averages(setup, 0.5))
    assert sharp.error[-1] < 0.3 * raw.error[-1]
    assert abs(sharp.mean[-1] - raw.mean[-1]) < 4.0 * raw.error[-1]
