"""Gaussian averages against the mpmath table, and the honesty of their error estimates."""

from __future__ import annotations

import math

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import erf

from reference import gaussian as reference
from reference.tables import FOLDER, read
from replica import Status
from replica.gaussian import (
    cone_moments,
    gaussian_average,
    hermite_rule,
    mean_1d,
    mean_2d,
    mean_3d,
    sector_moments,
    split_rule,
)

ROWS = read(FOLDER / "gaussian.csv")
NAMES = {n: getattr(np, n) for n in ("exp", "cos", "sin", "tanh", "log", "sqrt", "sign")}
NAMES |= {"maximum": np.maximum, "minimum": np.minimum, "abs": np.abs, "erf": erf}


def problem(row):
    """The integrand, covariance and kinks of one row of the table."""
    entries = [float(entry) for entry in row["covariance"].split()]
    dimension = {1: 1, 3: 2, 6: 3}[len(entries)]
    variables = {1: "z", 2: "x, y", 3: "x, y, z"}[dimension]
    integrand = eval(f"lambda {variables}: {row['integrand']}", NAMES)
    covariance = np.zeros((dimension, dimension))
    covariance[np.triu_indices(dimension)] = entries
    covariance = covariance + np.triu(covariance, 1).T
    kinks = []
    for component in row["kinks"].split(";"):
        lines = component.split()
        kinks.append([eval(f"lambda x: {e}") if "x" in e else float(e) for e in lines])
    return integrand, covariance, kinks[0] if dimension == 1 else kinks


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["integrand"])
def test_gaussian_average_agrees_with_mpmath_and_its_error_is_honest(row):
    integrand, covariance, kinks = problem(row)
    average = gaussian_average(integrand, covariance, kinks=kinks)
    true_error = abs(average.value - float(row["value"]))
    assert true_error <= 10 * average.error
    assert row["smooth"] == "no" or true_error <= 1e-12 * max(1.0, abs(average.value))
    assert average.converged == (average.error <= 1e-12 * max(1.0, abs(average.value)))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["integrand"])
def test_gaussian_average_without_refinement_is_honest(row):
    integrand, covariance, kinks = problem(row)
    average = gaussian_average(integrand, covariance, kinks=kinks, tol=None)
    assert abs(average.value - float(row["value"])) <= 10 * average.error


def test_table_is_what_its_script_computes():
    assert len(ROWS) == len(reference.INTEGRANDS) == 40
    for index in (0, 7, 18, 26, 37, 39):
        assert reference.row(reference.INTEGRANDS[index]) == list(ROWS[index].values())


@pytest.mark.parametrize(
    ("integrand", "covariance"),
    [
        (lambda z: np.sign(z - 0.37), 1.0),
        (lambda x, y: np.sign(x + y - 0.37), [[1.0, 0.2], [0.2, 1.0]]),
    ],
)
def test_undeclared_jump_is_reported_as_poor_accuracy(integrand, covariance):
    average = gaussian_average(integrand, covariance, tol=None)
    assert average.error > 1e-3
    assert not average.converged


def test_average_is_a_result_like_the_others():
    average = gaussian_average(lambda z: z * z, 2.0)
    assert average.status is Status.CONVERGED
    (row,) = average.to_pandas().to_dict("records")
    assert row.keys() == {"value", "error", "n_evaluations", "status"}
    assert row["status"] == "converged"
    assert row["value"] == average.value == float(average) == pytest.approx(2.0)
    poor = gaussian_average(lambda z: np.sign(z - 0.37), tol=None)
    assert poor.status is Status.DONE
    assert poor.converged is False
    assert "status         done" in repr(poor)


def test_undeclared_jump_of_two_variables_is_not_called_converged():
    average = gaussian_average(lambda x, y: np.sign(x + y - 0.37), np.eye(2))
    exact = -erf(0.37 / 2)
    assert not average.converged
    assert abs(average.value - exact) <= 10 * average.error


def test_hermite_rule_fails_at_a_kink_where_the_split_rule_is_exact():
    exact = math.exp(-0.045) / math.sqrt(2 * math.pi) - 0.15 * math.erfc(0.3 / math.sqrt(2))
    z, w = hermite_rule(95)
    assert 1e-4 < abs(w @ np.maximum(z - 0.3, 0) - exact) < 5e-3
    z, w = split_rule([0.3])
    assert abs(w @ np.maximum(z - 0.3, 0) - exact) < 1e-15


def test_hermite_rule_fails_beyond_its_degree():
    z, w = hermite_rule(6)
    assert abs(w @ z**10 / 945 - 1) < 1e-13
    assert abs(w @ z**12 / 10395 - 1) > 1e-3


def test_singular_covariance_averages_over_fewer_dimensions():
    average = gaussian_average(lambda x, y: x * y, [[1.0, 2.0], [2.0, 4.0]])
    assert average.value == pytest.approx(2.0, abs=1e-13)


def test_mean_shifts_the_law():
    average = gaussian_average(lambda x, y: x * y, [[1.0, 0.5], [0.5, 2.0]], mean=[3.0, -1.0])
    assert average.value == pytest.approx(0.5 - 3.0, abs=1e-12)


def test_compiled_and_python_integrands_agree():
    def integrand(x, y):
        return max(x, 0.0) * math.tanh(y)

    compiled = numba.njit(integrand)
    covariance = [[0.5, 0.3], [0.3, 1.0]]
    slow = gaussian_average(integrand, covariance, kinks=[[0.0], []], tol=None)
    fast = gaussian_average(compiled, covariance, kinks=[[0.0], []], tol=None)
    assert slow.value == pytest.approx(fast.value, abs=1e-15)


def test_compiled_kernels_serve_compiled_user_code():
    relu3 = numba.njit(lambda x, y, z: max(x, 0.0) * max(y, 0.0) * abs(z))
    relu2 = numba.njit(lambda x, y: max(x, 0.0) * max(y, 0.0))
    relu1 = numba.njit(lambda x: max(x - 0.5, 0.0))
    zero = np.zeros(1)
    corr = np.array([[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 1.0]])

    @numba.njit
    def user_code():
        one, _ = mean_1d(relu1, 0.5, 2.0, np.array([0.5]))
        two, error_2 = mean_2d(relu2, corr[:2, :2].copy(), zero, zero)
        three, error_3 = mean_3d(relu3, corr, zero, zero, zero)
        return one, two, error_2, three, error_3

    one, two, error_2, three, error_3 = user_code()
    half = math.sqrt(0.75)
    exact = (half + 0.5 * (math.pi - math.acos(0.5))) / (2 * math.pi)
    assert one == pytest.approx(2 / math.sqrt(2 * math.pi), abs=1e-14)
    assert abs(two - exact) <= min(1e-13, 10 * error_2)
    assert abs(three - exact * math.sqrt(2 / math.pi)) <= min(1e-13, 10 * error_3)


def test_mean_1d_reports_an_undeclared_jump():
    value, error = mean_1d(numba.njit(lambda z: np.sign(z - 0.37)), 0.0, 1.0, np.empty(0))
    assert error > 1e-3
    assert abs(value + math.erf(0.37 / math.sqrt(2))) <= 10 * error


def test_cone_moments_agree_with_quadrature():
    # The cone between the rays (1, -1) and (1, 1): |y| < x.
    value = cone_moments(0.8, 0.3, 1.1, (1.0, -1.0), (1.0, 1.0))
    covariance = [[0.8, 0.3], [0.3, 1.1]]
    kinks = [[0.0], [lambda x: -x, lambda x: x]]
    for moment, weight in zip(
        value,
        (lambda x, y: 1.0, lambda x, y: x * x, lambda x, y: x * y, lambda x, y: y * y),
        strict=True,
    ):
        average = gaussian_average(
            lambda x, y, w=weight: w(x, y) * (np.abs(y) < x), covariance, kinks=kinks
        )
        assert moment == pytest.approx(average.value, abs=1e-12)


@given(st.floats(0.1, 3.0), st.floats(-0.95, 0.95), st.floats(-3.1, 3.1), st.floats(0.01, 3.0))
@settings(max_examples=50, deadline=None)
def test_cone_moments_of_a_cone_and_its_complement_add_up(s, r, start, width):
    first = (math.cos(start), math.sin(start))
    second = (math.cos(start + width), math.sin(start + width))
    inside = np.array(cone_moments(s * s, r * s, 1.0, first, second))
    outside = np.array(cone_moments(s * s, r * s, 1.0, second, first))
    assert inside + outside == pytest.approx(np.array([1.0, s * s, r * s, 1.0]), abs=1e-13)
    assert inside[0] > 0


def test_sector_moments_of_a_narrow_sector_do_not_cancel():
    width = 1e-9
    probability, xx, xy, yy = sector_moments(0.0, width)
    assert probability == pytest.approx(width / (2 * math.pi), rel=1e-15)
    assert xx == pytest.approx(width / math.pi, rel=1e-15)
    assert xy == pytest.approx(width**2 / (2 * math.pi), rel=1e-8)
    assert abs(yy) < 1e-24


def mean_of_tanh(k, shift):
    """E tanh(k (z + shift)): that of the sign, and the rest, which lives within 40 / k."""
    x, w = np.polynomial.legendre.leggauss(64)
    rest = 0.0
    for low, high in ((-40, -8), (-8, -2), (-2, 0), (0, 2), (2, 8), (8, 40)):
        t = (low + high) / 2 + (high - low) / 2 * x
        density = np.exp(-((t / k - shift) ** 2) / 2) / math.sqrt(2 * math.pi) / k
        rest += (high - low) / 2 * float(w @ ((np.tanh(t) - np.sign(t)) * density))
    return rest + math.erf(shift / math.sqrt(2))


def refuted(average, exact):
    """Whether the error is more than ten times its estimate, beyond rounding of the reference."""
    return abs(average.value - exact) > 10 * average.error + 4e-16 * abs(exact)


@pytest.mark.parametrize("scale", [1.0, 0.15, 1e-3, 1e-6])
@pytest.mark.parametrize("tol", [1e-12, 1e-5])
def test_error_of_undeclared_steps_and_kinks_is_honest(scale, tol):
    shifts = np.random.default_rng(8).normal(0, scale, 50)
    for c in shifts:
        step = gaussian_average(np.sign, mean=c, tol=tol)
        assert not refuted(step, math.erf(c / math.sqrt(2)))
        kink = gaussian_average(np.abs, mean=c, tol=tol)
        density = math.exp(-c * c / 2) / math.sqrt(2 * math.pi)
        assert not refuted(kink, c * math.erf(c / math.sqrt(2)) + 2 * density)


@pytest.mark.parametrize("k", [10.0, 1e2, 1e3, 1e4, 1e5, 1e6])
def test_error_of_steep_functions_is_honest(k):
    for c in np.random.default_rng(9).normal(0, 0.5, 35):
        average = gaussian_average(lambda z: np.tanh(k * z), mean=c)
        assert not refuted(average, mean_of_tanh(k, c))


def test_error_of_a_pair_of_rules_is_honest_at_a_step():
    for c in np.random.default_rng(10).normal(0, 1.0, 200):
        average = gaussian_average(np.sign, mean=c, tol=None)
        assert not average.converged
        assert not refuted(average, math.erf(c / math.sqrt(2)))


def test_a_kink_declared_a_little_beside_its_place_is_not_called_exact():
    for beside in (1e-3, 1e-6):
        average = gaussian_average(lambda z: np.sign(z - 0.3), kinks=[0.3 - beside])
        assert not refuted(average, -math.erf(0.3 / math.sqrt(2)))


@pytest.mark.parametrize("dimension", [2, 3])
def test_undeclared_steps_of_several_variables_are_not_called_converged(dimension):
    rng = np.random.default_rng(12)
    limit = 20_000 if dimension == 2 else 350_000
    for _ in range(60 if dimension == 2 else 5):
        c = rng.normal(0, rng.choice([1e-3, 0.15, 1.0]), dimension)
        exact = math.erf(c[0] / math.sqrt(2))
        for step in (
            lambda *x: np.sign(x[0]) + 0.0 * x[1],
            lambda *x: np.tanh(1e4 * x[0]) + 0.0 * x[1],
        ):
            average = gaussian_average(step, np.eye(dimension), mean=c, max_evaluations=limit)
            assert not average.converged
            assert abs(average.value - exact) < 0.3


def test_compiled_mean_is_honest_beside_the_edges_of_its_pieces():
    sign = numba.njit(lambda z: np.sign(z))
    for c in np.random.default_rng(13).normal(0, 1e-3, 50):
        value, error = mean_1d(sign, c, 1.0, np.empty(0))
        assert error > 1e-3
        assert abs(value - math.erf(c / math.sqrt(2))) <= 10 * error


@pytest.mark.parametrize(
    ("mean", "kinks"),
    [
        (0.0, [0.0]),
        (0.0, [0.0, 0.0, 1e-300, 13.0, -13.0, 1e9]),
        (0.3, [0.3]),
        (2.0, [2.0, 2.0]),
    ],
)
def test_singularity_at_a_declared_kink_is_never_evaluated(mean, kinks):
    average = gaussian_average(lambda z: math.log(abs(z - mean)), mean=mean, kinks=kinks, tol=1e-9)
    assert average.converged
    assert average.value == pytest.approx(-(np.euler_gamma + math.log(2)) / 2, abs=1e-9)


def test_singularities_on_kinks_of_two_variables_are_never_evaluated():
    average = gaussian_average(
        lambda x, y: math.log(abs(x)) + math.log(abs(y - x)),
        np.eye(2),
        kinks=[[0.0, 0.0], [lambda x: x, lambda x: x]],
        max_evaluations=20_000,
    )
    exact = -np.euler_gamma - math.log(2) / 2
    assert not average.converged
    assert abs(average.value - exact) <= 10 * average.error


def test_components_of_very_different_scale_are_all_averaged():
    # The second component is independent of the first and 1e9 times smaller.
    average = gaussian_average(lambda x, y: np.cos(1e9 * y), [[1.0, 0.0], [0.0, 1e-18]])
    assert average.value == pytest.approx(math.exp(-0.5), rel=1e-12)


def test_variance_zero_evaluates_at_the_mean_once():
    average = gaussian_average(lambda z: 3.0 * z, 0.0, mean=2.0, kinks=[2.0], tol=0.0)
    assert (average.value, average.n_evaluations) == (6.0, 1)


@pytest.mark.parametrize(
    ("arguments", "keywords", "error", "words"),
    [
        ((3.0,), {}, TypeError, "integrand must be a function"),
        ((lambda z: [z, z],), {}, TypeError, "integrand must return one real number"),
        ((lambda z: math.nan,), {}, ValueError, "integrand must return finite numbers"),
        ((np.cos, -1.0), {}, ValueError, "positive semidefinite"),
        ((np.cos, np.eye(4)), {}, ValueError, "d <= 3"),
        ((np.cos, [[1.0, 0.2], [0.3, 1.0]]), {}, ValueError, "symmetric"),
        ((np.cos, [[1.0, 2.0], [2.0, 1.0]]), {}, ValueError, "positive semidefinite"),
        ((np.cos,), {"kinks": [lambda x: x]}, ValueError, "kinks of the first component"),
        ((np.add, np.eye(2)), {"kinks": [0.0]}, ValueError, "kinks must hold 2 sequences"),
        ((np.cos,), {"mean": [0.0, 1.0]}, ValueError, "mean must have shape"),
        ((np.cos,), {"tol": -1.0}, ValueError, "tol must lie in"),
    ],
)
def test_gaussian_average_refuses_bad_input(arguments, keywords, error, words):
    with pytest.raises(error, match=words.replace("(", r"\(")):
        gaussian_average(*arguments, **keywords)


def test_an_exception_in_the_integrand_reaches_the_user():
    def integrand(z):
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        gaussian_average(integrand)
