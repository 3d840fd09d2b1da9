"""The validation of losses: its convex programs, its small claims, and theories that are wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize

from replica import ConvergenceWarning, bayes_optimal
from validation import losses
from validation._claims import Point, judge, load_claims
from validation._runs import Setup

N = 12
RESULTS = Path(__file__).parent.parent / "validation" / "results"


def samples(P: int, seed: int, S: float = 1.0):
    return losses.sign_samples(P / N, S, N, np.random.SeedSequence(seed))


def test_separable_samples_are_those_with_a_margin():
    # The least-distance program shares nothing with the linear one.
    found = []
    for seed in range(30):
        X, y = samples(30, seed)
        w = losses.maximal_margin(X, y)
        found.append(losses.is_separable(X, y))
        assert found[-1] == (w is not None), seed
        if w is not None:
            assert (y * (X @ w)).min() > 1.0 - 1e-9
    assert 5 < sum(found) < 25  # both answers occur


def test_largest_separable_is_the_last_separable_prefix():
    for seed in range(6):
        X, y = samples(6 * N, 100 + seed)
        P = losses.largest_separable(X, y)
        assert losses.is_separable(X[:P], y[:P])
        assert not losses.is_separable(X[: P + 1], y[: P + 1])
    X, y = samples(4 * N, 1, S=0.0)
    assert losses.largest_separable(X, y) == 4 * N


def test_random_labels_are_separated_as_cover_counts():
    # The mean of the largest load is exactly 2, at every N: labels say nothing about the teacher.
    runs = losses.measure_separability(1e12, N, 60, 5)["runs"]
    assert abs(runs.mean() - 2.0) < 4 * runs.std() / np.sqrt(runs.size)


def test_no_weights_have_a_larger_margin():
    for seed in range(3):
        X, y = samples(14, 200 + seed, S=0.0)
        w = losses.maximal_margin(X, y)
        assert w is not None
        reference = minimize(
            lambda w: w @ w, w + 0.1, jac=lambda w: 2 * w, method="SLSQP",
            constraints={"type": "ineq", "fun": lambda w, G=y[:, None] * X: G @ w - 1.0},
            options={"ftol": 1e-12, "maxiter": 500},
        )  # fmt: skip
        assert reference.success
        np.testing.assert_allclose(w, reference.x, atol=1e-5)


@pytest.mark.parametrize("loss", ["logistic", "hinge", "Huber", "absolute"])
def test_scikit_learn_has_the_same_minimum(loss):
    pytest.importorskip("sklearn")
    distance = losses.compare_fits(loss, 2.0, 40, 2, 3)["distance"]
    assert distance < 3 * losses.SOLVERS[loss]


def test_scikit_learn_claim_is_left_out_in_so_many_words(monkeypatch, capsys):
    monkeypatch.setattr(losses, "find_spec", lambda name: None)
    losses.says_without_scikit_learn.cache_clear()
    assert not losses.says_without_scikit_learn()
    assert "scikit-learn is not installed" in capsys.readouterr().out
    losses.says_without_scikit_learn.cache_clear()


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    return Setup(tmp_path_factory.mktemp("validation"), N=64, n_runs=150, sizes=(16, 32))


@pytest.mark.parametrize("loss", ["logistic", "Huber"])
def test_a_theory_with_the_noise_doubled_is_red(setup, loss):
    # The negative control: what is simulated has S = 0.25.
    case = losses.LOSSES[loss] | losses.NEWTON | {"alpha": 2.0}
    points = losses.compare(setup, [case])
    assert judge(points).colour == "green"
    wrong = losses.theory(case, S=2 * case["S"])
    values = [float(getattr(wrong, name)) for name in losses.COMPARED]
    doubled = [replace(p, theory=v) for p, v in zip(points, values, strict=True)]
    assert judge(doubled).colour == "red"


def test_an_error_below_the_bayes_bound_would_be_red():
    case = losses.LARGE[0]
    bound = float(bayes_optimal(0.5, 0.25, teacher="sign", noise="input").error_rate)
    assert losses.bayes_bound(case) == bound
    near = losses.below_bayes(case, Point("here", 0.5, bound - 0.005, 0.01, 1000))
    far = losses.below_bayes(case, Point("here", 0.5, bound - 0.1, 0.01, 1000))
    above = losses.below_bayes(case, Point("here", 0.5, bound + 0.1, 0.01, 1000))
    assert [judge([p]).colour for p in (near, far, above)] == ["green", "red", "green"]


def test_runs_that_do_not_reach_the_minimum_are_said_to():
    case = losses.LOSSES["logistic"] | losses.NEWTON | {"alpha": 0.5, "zeta": 0.0, "S": 0.0}
    with pytest.warns(ConvergenceWarning):
        record = losses.minimum(**case, N=20, n_runs=1, seed=1)
    assert record["status"] == "divergent"
    assert np.isnan(record["gamma_runs"]).all()
    good = losses.minimum(**case | {"zeta": 0.5}, N=20, n_runs=1, seed=1)
    assert good["status"] == "done"


def test_stored_minima_would_be_red_with_the_noise_doubled():
    stored = {c.name: c for c in load_claims(RESULTS / "losses.json")}
    claim, wrong = stored["losses-minimum"], []
    cases = {losses.words(case): case for case in losses.LARGE}
    for point in claim.points:
        words, name = point.where.rsplit(": ", 1)
        case = cases[words]
        assert point.theory == pytest.approx(float(getattr(losses.theory(case), name)))
        doubled = losses.theory(case, S=2 * case["S"])
        wrong.append(replace(point, theory=float(getattr(doubled, name))))
    assert claim.verdict.colour != "red"
    assert judge(wrong).colour == "red"
