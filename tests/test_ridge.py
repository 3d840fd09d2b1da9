"""The linear student and early stopping against 30-digit references."""

import math

import numpy as np
import pytest
from mpmath import mp, mpf

import replica
from reference.tables import columns
from replica import published
from replica.equilibrium._ridge import ridge_point

RIDGE = columns("ridge")
EARLY = columns("early_stopping")
OPTIMAL = columns("optimal_stopping")


@pytest.mark.parametrize("name", ["gamma", "R", "chi", "gen_error", "train_error", "energy"])
def test_solve_equilibrium_linear_matches_reference(name):
    solved = replica.solve_equilibrium(RIDGE["alpha"], RIDGE["S"], RIDGE["zeta"])
    np.testing.assert_allclose(getattr(solved, name), RIDGE[name], rtol=2e-15)


def test_reference_comparison_notices_a_change_of_the_twelfth_digit():
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(RIDGE["gamma"] * (1 + 1e-12), RIDGE["gamma"], rtol=2e-15)


def test_solve_equilibrium_linear_satisfies_the_saddle_point():
    solved = replica.solve_equilibrium(RIDGE["alpha"], RIDGE["S"], RIDGE["zeta"])
    assert solved.residual.max() < 1e-14


def test_gen_error_at_zeta_zero_is_the_published_closed_form():
    alpha = np.array([1e-3, 0.3, 0.999, 1.0, 1.001, 2.0, 1e3])
    for S in (0.0, 0.25, 1e3):
        expected = published.linear_sgd_error(alpha, S)
        np.testing.assert_allclose(replica.gen_error(alpha, S), expected, rtol=1e-12)


def test_gen_error_is_continuous_at_zeta_zero():
    alpha = np.array([0.01, 0.5, 0.9, 1.1, 2.0, 100.0])
    at_zero = replica.gen_error(alpha, 0.25, 0.0)
    np.testing.assert_allclose(replica.gen_error(alpha, 0.25, 1e-12), at_zero, rtol=1e-9)


def test_gen_error_is_the_published_form_with_decay():
    alpha, zeta = np.meshgrid([0.1, 0.7, 1.0, 1.5, 4.0], [1 / 64, 0.25, 2.0])
    expected = published.linear_decay_error(alpha, 0.25, zeta)
    np.testing.assert_allclose(replica.gen_error(alpha, 0.25, zeta), expected, rtol=1e-11)


def test_solve_equilibrium_at_the_threshold_diverges_with_noise_only():
    noisy = replica.solve_equilibrium(1.0, 0.25)
    assert noisy.gen_error == math.inf
    assert noisy.status == replica.Status.DIVERGENT
    assert noisy.interpolating
    silent = replica.solve_equilibrium(1.0, 0.0)
    assert silent.gen_error == 0.0
    assert silent.status == replica.Status.CONVERGED


def test_replicon_is_one_minus_alpha_chi_squared_over_one_plus_chi_squared():
    for alpha, S, zeta in [(0.5, 0.25, 0.1), (2.0, 0.0, 0.0), (3.0, 1.0, 5.0)]:
        chi, replicon = ridge_point(alpha, S, zeta)[2], ridge_point(alpha, S, zeta)[8]
        assert replicon == pytest.approx(1 - alpha * (chi / (1 + chi)) ** 2, rel=1e-13)


def test_early_stopping_matches_reference():
    run = replica.early_stopping(EARLY["alpha"], EARLY["S"], EARLY["t"])
    np.testing.assert_allclose(run.gen_error, EARLY["gen_error"], rtol=1e-12, atol=1e-300)


def test_early_stopping_optimum_matches_reference():
    run = replica.early_stopping(OPTIMAL["alpha"], OPTIMAL["S"], OPTIMAL["t"])
    np.testing.assert_allclose(run.optimal_time, OPTIMAL["t"], rtol=1e-11)
    np.testing.assert_allclose(run.optimal_error, OPTIMAL["gen_error"], rtol=1e-12)
    np.testing.assert_allclose(run.gen_error, run.optimal_error, rtol=1e-12)


@pytest.mark.parametrize("alpha", [1e-3, 0.5, 1 - 1e-9, 1.0, 1 + 1e-9, 2.0, 1e3])
@pytest.mark.parametrize("S", [0.0, 0.25, 1e3])
def test_early_stopping_starts_at_one_and_ends_at_least_squares(alpha, S):
    run = replica.early_stopping(alpha, S, [0.0, math.inf])
    assert run.gen_error[0] == pytest.approx(1.0, rel=1e-13)
    assert run.gen_error[1] == replica.gen_error(alpha, S)
    assert run.optimal_error[0] <= run.gen_error.min() * (1 + 1e-12)


def test_early_stopping_optimum_is_a_minimum_and_worse_than_optimal_decay():
    for alpha in (0.3, 1.0, 1.7):
        best = replica.early_stopping(alpha, 0.25, 1.0)
        near = replica.early_stopping(alpha, 0.25, best.optimal_time * np.array([0.97, 1.03]))
        assert (near.gen_error > best.optimal_error).all()
        # the ridge with zeta = S is the Bayes-optimal estimator here: nothing can beat it
        assert best.optimal_error > replica.gen_error(alpha, 0.25, 0.25)


def test_early_stopping_without_noise_never_stops():
    run = replica.early_stopping(0.5, 0.0, 3.0)
    assert run.optimal_time == math.inf
    assert run.optimal_error == 0.5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0.0, 0.25, 1.0), "alpha must lie in [1e-100, 1e+100]"),
        ((1.0, -1.0, 1.0), "S must lie in [0, 1e+100]"),
        ((1.0, 0.25, -2.0), "t must lie in [0, inf]"),
        ((1.0, 0.25, math.nan), "t must lie in [0, inf]"),
    ],
)
def test_early_stopping_refuses_bad_input(arguments, words):
    with pytest.raises(ValueError) as caught:
        replica.early_stopping(*arguments)
    assert words in str(caught.value)


@pytest.mark.parametrize("alpha", [1e-100, 1e-60, 1.0, 1.4e60, 1e100])
@pytest.mark.parametrize("zeta", [0.0, 1e-300, 1e-90, 1.0, 1e70, 1e100])
@pytest.mark.parametrize("S", [0.0, 1e-250, 1e-80, 1e100])
def test_equilibrium_is_right_over_the_whole_range_of_its_arguments(alpha, zeta, S):
    if alpha == 1.0 and zeta == 0.0:
        return  # infinite
    with mp.workdps(900):
        a, z, s = mpf(alpha), mpf(zeta), mpf(S)
        if z > 0:
            b = z + a - 1
            chi = (mp.sqrt(b**2 + 4 * z) - b) / (2 * z)
        else:
            chi = 1 / (a - 1) if a > 1 else mp.inf
        share = chi / (1 + chi) if zeta > 0 or alpha > 1 else mpf(1)
        m = a * share
        v = (1 - 2 * m + m**2 + s) * a * share**2 / (1 - a * share**2)
        exact = {"gamma": mp.sqrt(m**2 + v), "chi": chi, "gen_error": (1 - m) ** 2 + v}
        exact["R"] = m / exact["gamma"]
        exact = {name: float(value) for name, value in exact.items()}
    solved = replica.solve_equilibrium(alpha, S, zeta)
    for name, value in exact.items():
        assert getattr(solved, name) == pytest.approx(value, rel=1e-14, abs=1e-300), name
    assert replica.gen_error(alpha, S, zeta) == solved.gen_error
