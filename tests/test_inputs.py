"""Inputs: modes, the weights' half of the saddle point, and every channel on them."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from replica import (
    ArgumentError,
    Clusters,
    Equilibrium,
    Flip,
    Isotropic,
    LeakyReLU,
    PowerLaw,
    RandomFeatures,
    Spectrum,
    Status,
    Student,
    gen_error,
    optimal_zeta,
    simulate_training,
    solve_clusters,
    solve_equilibrium,
)
from replica.equilibrium._weights import Ridge, mode_arrays
from replica.equilibrium._zero_temperature import solve_general_student
from replica.inputs import as_inputs, hermite_coefficients
from replica.simulation._inputs import population_of
from replica.students import as_student, stretched

ONES = Spectrum(np.ones(3))
UNEQUAL = Spectrum([4.0, 1.0, 0.25, 0.0], [1.0, -0.5, 2.0, 3.0], [1, 2, 3, 2], unexplained=0.3)
LAWS = [PowerLaw(1.0, size=50), PowerLaw(1.5, 2.5, size=40), RandomFeatures("erf", 2.0), UNEQUAL]
QUANTITIES = [
    name
    for name in Equilibrium.__dataclass_fields__
    if name not in (*Equilibrium._problem, "residual", "n_iter", "quadrature_error")
]


def assert_equal_results(a: Equilibrium, b: Equilibrium, rel: float) -> None:
    for name in QUANTITIES:
        x, y = np.asarray(getattr(a, name), float), np.asarray(getattr(b, name), float)
        np.testing.assert_allclose(x, y, rtol=rel, atol=rel * 1e-3, err_msg=name)


# --- modes ---------------------------------------------------------------------------------------


def test_spectrum_counts_what_the_teacher_has_in_each_mode():
    modes = UNEQUAL.modes
    np.testing.assert_allclose(modes.weights, np.array([1, 2, 3, 2]) / 8)
    assert modes.explained == pytest.approx((4 * 1 + 2 * 0.25 + 3 * 0.25 * 4) / 8)
    assert modes.rho == pytest.approx(modes.explained + 0.3)
    assert modes.rank == 0.75
    np.testing.assert_allclose(modes.cross_powers, [16.0, 0.25, 0.25, 0.0])


@pytest.mark.parametrize("ratio", [0.1, 0.999, 1.0, 1.001, 3.0, 200.0])
def test_random_features_have_the_moments_of_the_marchenko_pastur_law(ratio):
    features = RandomFeatures(Student(np.tanh), ratio)
    modes = features.modes
    lam = (modes.variances - features.kappa_star**2) / features.kappa1**2
    # moments of F F^T: the Narayana polynomials of the ratio
    moments = [1.0, 1.0, 1 + ratio, 1 + 3 * ratio + ratio**2]
    moments.append(1 + 6 * ratio + 6 * ratio**2 + ratio**3)
    for k, moment in enumerate(moments):
        assert modes.weights @ lam**k == pytest.approx(moment, rel=1e-11)
    zero = modes.weights[lam < 1e-9 * (1 + ratio)].sum()
    if ratio > 1.5:
        assert zero == pytest.approx(1 - 1 / ratio, rel=1e-12)
    assert modes.rho == pytest.approx(1.0, abs=1e-14)


@pytest.mark.parametrize("ratio", [0.3, 1.0, 2.5])
def test_random_features_stieltjes_transform_is_the_closed_form(ratio):
    features = RandomFeatures("erf", ratio)
    modes = features.modes
    lam = (modes.variances - features.kappa_star**2) / features.kappa1**2
    for x in (0.05, 1.0, 30.0):
        # g = <1/(lam + x)> solves ratio x g^2 + (x + 1 - ratio) g - 1 = 0
        b = x + 1 - ratio
        g = (math.sqrt(b * b + 4 * ratio * x) - b) / (2 * ratio * x)
        assert modes.weights @ (1 / (lam + x)) == pytest.approx(g, rel=1e-11)


def test_relu_features_have_the_known_constants():
    features = RandomFeatures("relu", 1.0)
    assert features.mean == pytest.approx(1 / math.sqrt(2 * math.pi), rel=1e-14)
    assert features.kappa1 == pytest.approx(0.5, rel=1e-14)
    assert features.kappa_star**2 == pytest.approx(0.25 - 1 / (2 * math.pi), rel=1e-13)
    assert RandomFeatures("linear", 1.0).kappa_star < 1e-15
    c = hermite_coefficients(as_student("relu"), 4)
    np.testing.assert_allclose(c[2], 1 / math.sqrt(4 * math.pi), rtol=1e-13)
    assert abs(c[3]) < 1e-15


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Spectrum([]), "variances must be a list of numbers"),
        (lambda: Spectrum([1.0, -1.0]), r"variances must lie in \[0"),
        (lambda: Spectrum([0.0]), "variances must not all be 0"),
        (lambda: Spectrum([1.0, 2.0], [1.0]), "teacher must have one element for each of the 2"),
        (lambda: Spectrum([1.0, 0.0], [0.0, 1.0]), "teacher must not be 0 in every mode"),
        (lambda: Spectrum([1.0, 0.0], None, [0.0, 1.0]), "weights must not all be 0"),
        (lambda: PowerLaw(-1.0), r"exponent must lie in \[0"),
        (lambda: PowerLaw(1.0, size=0), "size must be an integer >= 1"),
        (lambda: RandomFeatures("relu", 0.0), r"ratio must lie in \(0"),
        (lambda: RandomFeatures("quadratic", 1.0), "activation must have a linear part"),
        (lambda: Clusters(0.0), r"variance must lie in \(0"),
        (lambda: Clusters(1.0, 1.0), r"fraction must lie in \(0, 1\)"),
        (lambda: gen_error(1.0, 0.0, inputs=Clusters(1.0), student="relu"), "Clusters"),
        (lambda: gen_error(1.0, 0.1, inputs=Clusters(1.0)), "S must be 0"),
        (lambda: solve_equilibrium(1.0, 0.1, inputs=Clusters(1.0)), "see solve_clusters"),
        (lambda: gen_error(1.0, 0.1, theory="published", inputs=ONES), "theory 'published'"),
    ],
)
def test_inputs_refuse_what_makes_no_sense(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


def test_as_inputs_names_what_it_takes():
    assert as_inputs(None) == Isotropic()
    with pytest.raises(TypeError, match="inputs must be Isotropic"):
        gen_error(1.0, 0.1, inputs="power")


def test_stretched_is_the_activation_of_a_longer_field():
    relu = stretched(as_student("relu"), 3.0)
    np.testing.assert_allclose(relu.values([-1.0, 2.0]), [0.0, 6.0])
    assert relu == stretched(as_student("relu"), 3.0)
    assert stretched(as_student("sign"), 3.0) == as_student("sign")


# --- isotropic inputs are the same ---------------------------------------------------------------


@pytest.mark.parametrize("student", ["linear", "relu", LeakyReLU(0.3)])
def test_spectrum_of_ones_is_isotropic_for_piecewise_linear_students(student):
    alpha, zeta = np.array([0.3, 0.9, 1.4, 3.0])[:, None], np.array([0.0, 1e-6, 1 / 64, 10.0])
    a = solve_equilibrium(alpha, 0.25, zeta, student=student)
    b = solve_equilibrium(alpha, 0.25, zeta, student=student, inputs=ONES)
    assert_equal_results(a, b, 1e-12)


def test_spectrum_of_ones_is_isotropic_for_the_general_solver():
    for options in (
        {"student": "erf", "teacher": "erf"},
        {"student": "relu", "teacher": "relu", "beta": 10.0},
    ):
        a = solve_equilibrium(1.5, 0.2, 0.1, **options)
        b = solve_equilibrium(1.5, 0.2, 0.1, inputs=ONES, **options)
        assert_equal_results(a, b, 1e-11)


@pytest.mark.parametrize("loss", ["logistic", "hinge", "square"])
def test_spectrum_of_ones_is_isotropic_for_labels(loss):
    for noise, S in (("input", 0.0), ("input", 0.3), ("logistic", 0.3), (Flip(0.1), 0.0)):
        options = {"loss": loss, "teacher": "sign", "noise": noise}
        alpha, zeta = np.array([0.6, 3.0])[:, None], np.array([0.0, 0.1])
        a = solve_equilibrium(alpha, S, zeta, **options)
        b = solve_equilibrium(alpha, S, zeta, inputs=ONES, **options)
        assert_equal_results(a, b, 1e-9)


@pytest.mark.parametrize("loss", ["huber", "absolute", "epsilon-insensitive"])
def test_spectrum_of_ones_is_isotropic_for_residuals(loss):
    alpha, zeta = np.array([0.6, 3.0])[:, None], np.array([0.0, 0.1])
    a = solve_equilibrium(alpha, 0.2, zeta, loss=loss)
    b = solve_equilibrium(alpha, 0.2, zeta, loss=loss, inputs=ONES)
    assert_equal_results(a, b, 1e-9)
    options = {"loss": loss, "teacher": "relu"}
    a = solve_equilibrium(1.5, 0.2, 0.1, **options)
    b = solve_equilibrium(1.5, 0.2, 0.1, inputs=ONES, **options)
    assert_equal_results(a, b, 1e-9)


@settings(max_examples=15, deadline=None)
@given(
    st.floats(0.1, 5.0), st.floats(0.0, 2.0), st.floats(1e-3, 10.0), st.floats(0.1, 9.0),
    st.sampled_from(["linear", "relu"]),
)  # fmt: skip
def test_longer_inputs_are_a_smaller_decay_and_a_longer_field(alpha, S, zeta, factor, student):
    # s -> factor s at a fixed teacher: rho and S grow by the factor, u too, zeta by it
    a = solve_equilibrium(alpha, S, zeta, student=student, inputs=UNEQUAL)
    longer = Spectrum(
        factor * UNEQUAL.variances, UNEQUAL.teacher, UNEQUAL.weights, factor * UNEQUAL.unexplained
    )
    b = solve_equilibrium(alpha, factor * S, factor * zeta, student=student, inputs=longer)
    assert b.gen_error == pytest.approx(factor * a.gen_error, rel=1e-9)
    assert pytest.approx(a.R, rel=1e-9) == b.R


# --- ridge regression ----------------------------------------------------------------------------


def ridge_by_mpmath(inputs, alpha, S, zeta):
    """Error of ridge regression, and kappa, with 40 digits."""
    modes = inputs.modes
    mpmath.mp.dps = 40
    w, s, p = ([mpmath.mpf(float(x)) for x in column] for column in
               (modes.weights, modes.variances, modes.powers))  # fmt: skip
    alpha, S, zeta = mpmath.mpf(alpha), mpmath.mpf(S), mpmath.mpf(zeta)

    def gap(t):
        k = mpmath.exp(t)
        return mpmath.fsum(a * b / (b + k) for a, b in zip(w, s, strict=True)) + zeta / k - alpha

    near = brentq(lambda t: float(gap(t)), -25.0, 25.0)
    kappa = mpmath.exp(mpmath.findroot(gap, near))
    left = mpmath.fsum(a * c * (kappa / (b + kappa)) ** 2 for a, b, c in zip(w, s, p, strict=True))
    second = mpmath.fsum(a * (b / (b + kappa)) ** 2 for a, b in zip(w, s, strict=True))
    noise = S + mpmath.mpf(modes.unexplained)
    return (left + noise) / (1 - second / alpha) - S, kappa


@pytest.mark.parametrize("inputs", LAWS, ids=lambda law: law.name)
@pytest.mark.parametrize("zeta", [1e-8, 0.1, 1e3])
def test_linear_student_agrees_with_mpmath(inputs, zeta):
    for alpha in (0.4, 2.0):
        expected, _ = ridge_by_mpmath(inputs, alpha, 0.2, zeta)
        assert gen_error(alpha, 0.2, zeta, inputs=inputs) == pytest.approx(
            float(expected), rel=2e-12
        )


@pytest.mark.parametrize("inputs", LAWS, ids=lambda law: law.name)
def test_general_channel_meets_the_identity_of_degrees_of_freedom(inputs):
    alpha, zeta = 1.5, 0.1
    found = solve_general_student(alpha, 0.2, zeta, student="linear", inputs=inputs)
    V_hat = alpha / (1 + found.chi)
    modes = inputs.modes
    kappa = zeta / V_hat
    freedom = modes.weights @ (modes.variances / (modes.variances + kappa))
    assert float(freedom + zeta / kappa) == pytest.approx(alpha, rel=1e-13)


def test_power_law_error_is_the_recorded_one():
    # found by an independent program; its simulation gave .1482(24)
    assert gen_error(1.5, 0.2, 0.1, inputs=PowerLaw(1.0, size=400)) == pytest.approx(
        0.149637, abs=5e-7
    )


@pytest.mark.parametrize(("a", "b"), [(1.5, 2.0), (2.0, 8.0)])
def test_power_law_error_falls_with_its_exponent(a, b):
    size = 200_000
    n = np.array([300.0, 3000.0])
    error = gen_error(n / size, 0.0, 0.0, inputs=PowerLaw(a, b, size))
    slope = -np.diff(np.log(error))[0] / math.log(10.0)
    assert slope == pytest.approx(min(b - 1, 2 * a), abs=0.03)


def test_equal_variances_beside_each_other_keep_the_digits_of_their_spread():
    near = Spectrum([1.0, 1.0 + 1e-9], [1.0, 1.0])
    weights = Ridge(mode_arrays(near), 0.5)
    found = weights.overlaps(1.0, 1.0, 1e-30)
    # r = s/(1/2 + s): the spread is (dr/ds ds)^2 times the law's variance, here a quarter
    expected = (0.5 / 1.5**2 * 1e-9) ** 2 / 4 / (1 + 0.5e-9)
    assert found is not None
    assert found.rest == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("inputs", LAWS, ids=lambda law: law.name)
@pytest.mark.parametrize("zeta", [0.0, 0.3])
def test_slopes_of_the_weights_are_those_of_differences(inputs, zeta):
    weights = Ridge(mode_arrays(inputs), zeta)
    at = np.array([0.7, 0.4, 0.9])

    def coordinates(x):
        found = weights.overlaps(*x)
        return np.array([math.log(found.chi), found.m, math.log(found.rest)])

    slopes = np.array(weights.slopes(*at), copy=True)
    h = 1e-5
    for k in range(3):
        step = h * np.eye(3)[k]
        numeric = (coordinates(at + step) - coordinates(at - step)) / (2 * h)
        np.testing.assert_allclose(slopes[:, k], numeric, rtol=1e-8, atol=1e-9)


# --- ReLU and other channels ---------------------------------------------------------------------


@pytest.mark.parametrize("inputs", LAWS, ids=lambda law: law.name)
def test_relu_in_closed_form_is_that_of_the_general_channel(inputs):
    a = solve_equilibrium(1.5, 0.2, 0.1, student="relu", inputs=inputs)
    b = solve_general_student(1.5, 0.2, 0.1, student="relu", inputs=inputs)
    for name in ("gamma", "R", "chi", "gen_error", "train_error", "energy"):
        assert getattr(a, name) == pytest.approx(float(getattr(b, name)), rel=1e-9), name


@pytest.mark.parametrize("student", ["linear", "relu", LeakyReLU(0.5)])
@pytest.mark.parametrize("alpha", [0.3, 0.7, 1.3, 3.0])
def test_no_decay_is_the_limit_of_small_decay(student, alpha):
    error = gen_error(alpha, 0.2, [0.0, 1e-13], student=student, inputs=UNEQUAL)
    assert error[1] == pytest.approx(error[0], rel=1e-5)


@pytest.mark.parametrize("loss", ["hinge", "huber", "epsilon-insensitive"])
def test_no_decay_is_the_limit_of_small_decay_for_losses(loss):
    options = {"loss": loss} | ({"teacher": "sign"} if loss == "hinge" else {})
    S = 0.0 if loss == "hinge" else 0.2
    for alpha in (0.4, 3.0):
        error = gen_error(alpha, S, [0.0, 1e-7], inputs=UNEQUAL, **options)
        assert error[1] == pytest.approx(error[0], rel=1e-4)


def test_unexplained_part_of_a_linear_field_is_noise():
    bare = Spectrum(UNEQUAL.variances, UNEQUAL.teacher, UNEQUAL.weights)
    for options in ({"student": "relu"}, {"loss": "huber"}):
        a = gen_error(1.5, 0.2, 0.1, inputs=UNEQUAL, **options)
        b = gen_error(1.5, 0.5, 0.1, inputs=bare, **options)
        assert a == pytest.approx(b + 0.3, rel=1e-12)


def test_unexplained_part_of_a_field_enters_before_the_sign():
    bare = Spectrum(UNEQUAL.variances, UNEQUAL.teacher, UNEQUAL.weights)
    options = {"loss": "logistic", "teacher": "sign", "noise": "input"}
    a = solve_equilibrium(1.5, 0.2, 0.1, inputs=UNEQUAL, **options)
    b = solve_equilibrium(1.5, 0.5, 0.1, inputs=bare, **options)
    assert a.train_loss == pytest.approx(float(b.train_loss), rel=1e-12)
    share = math.sqrt(bare.modes.rho / UNEQUAL.modes.rho)
    assert pytest.approx(float(b.R) * share, rel=1e-12) == a.R


def test_energy_counts_the_decay_of_the_weights_not_of_the_field():
    # dE/dzeta at the minimum is half the squared length
    h = 1e-4
    for options in ({"student": "relu"}, {"loss": "huber"}, {"student": "erf", "teacher": "erf"}):
        zeta = np.array([0.2 - h, 0.2, 0.2 + h])
        found = solve_equilibrium(1.5, 0.2, zeta, inputs=UNEQUAL, **options)
        slope = (found.energy[2] - found.energy[0]) / (2 * h)
        samples = found.energy - 1.5 * found.train_loss
        assert slope == pytest.approx(samples[1] / 0.2, rel=1e-6)


def test_free_energy_on_a_spectrum_is_stationary_in_temperature():
    beta = np.array([4.99, 5.0, 5.01])
    found = solve_equilibrium(1.5, 0.2, 0.1, beta=beta, student="relu", inputs=UNEQUAL)
    # d(beta f)/dbeta is the energy, up to the unit of the Gaussian measure
    slope = np.diff((beta * found.free_energy)[[0, 2]])[0] / (beta[2] - beta[0])
    assert slope == pytest.approx(found.energy[1], rel=1e-5)


def test_random_features_peak_where_there_are_as_many_as_samples():
    ratio = np.array([0.5, 0.8, 0.95, 1.0, 1.05, 1.25, 2.0])
    error = [gen_error(1 / r, 0.1, 0.0, inputs=RandomFeatures("relu", float(r))) for r in ratio]
    assert np.argmax(error) == 3
    assert error[3] == math.inf
    smooth = [gen_error(1 / r, 0.1, 0.3, inputs=RandomFeatures("relu", float(r))) for r in ratio]
    assert np.all(np.diff(smooth) < 0.0)


def test_logistic_regression_on_random_features_is_the_recorded_one():
    from scipy.special import erf

    features = RandomFeatures(Student(erf), 2.0)
    error = gen_error(1.5, 0.0, 0.1, loss="logistic", teacher="sign", inputs=features)
    assert error == pytest.approx(0.2062, abs=1e-4)
    # the check can fail: without the nonlinear part of the features it is another number
    modes = features.modes
    s = modes.variances - features.kappa_star**2
    teacher = np.sqrt(np.divide(modes.powers, modes.variances))
    wrong = Spectrum(np.maximum(s, 0.0), teacher, modes.weights)
    assert (
        abs(gen_error(1.5, 0.0, 0.1, loss="logistic", teacher="sign", inputs=wrong) - error) > 5e-3
    )


def test_best_decay_on_a_spectrum_is_a_minimum():
    for options in ({}, {"student": "relu"}):
        best = optimal_zeta(1.5, 0.2, inputs=UNEQUAL, **options)
        error = gen_error(1.5, 0.2, best * np.array([0.97, 1.0, 1.03]), inputs=UNEQUAL, **options)
        assert error[1] == error.min()
    # a teacher with equal weights in all modes is the prior of ridge regression
    white = Spectrum([3.0, 1.0, 0.2], [2.0, 2.0, 2.0])
    assert optimal_zeta(1.5, 0.2, inputs=white) == pytest.approx(0.2 / 4.0, rel=1e-6)


# --- two clusters --------------------------------------------------------------------------------


@pytest.mark.parametrize(("alpha", "Delta", "bayes"), [(2, 0.3, 0.04432962), (1, 1, 0.23975006)])
def test_two_clusters_reach_the_bayes_error_at_large_decay(alpha, Delta, bayes):
    for loss in ("square", "logistic", "hinge"):
        found = solve_clusters(alpha, 1e7, inputs=Clusters(Delta), loss=loss)
        assert found.error_rate == pytest.approx(bayes, abs=5e-9)
        assert found.bayes_error == pytest.approx(bayes, abs=5e-9)


def test_square_loss_on_clusters_in_closed_form_is_that_of_the_fixed_point():
    from replica import Loss

    square = Loss(lambda r: 0.5 * r * r)
    for inputs in (Clusters(0.5), Clusters(0.7, 0.25, True), Clusters(0.7, 0.25)):
        a = solve_clusters([0.7, 2.0], 0.1, inputs=inputs)
        b = solve_clusters([0.7, 2.0], 0.1, inputs=inputs, loss=square)
        for name in ("m", "gamma", "bias", "error_rate", "train_loss", "test_loss"):
            np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-8, atol=1e-12)


def test_clusters_without_decay_have_the_largest_margin_or_a_finite_minimum():
    alpha = np.array([0.7, 6.0])
    for inputs in (Clusters(0.3), Clusters(0.7, 0.25, True)):
        hinge = solve_clusters(alpha, [0.0, 1e-6], inputs=inputs, loss="hinge")
        assert hinge.chi[0] == math.inf
        assert hinge.train_loss[0] == 0.0
        small = solve_clusters(0.7, 1e-6, inputs=inputs, loss="hinge")
        assert small.error_rate == pytest.approx(hinge.error_rate[0], rel=1e-4)
    logistic = solve_clusters(0.7, 0.0, inputs=Clusters(0.3), loss="logistic")
    assert logistic.status == Status.DIVERGENT
    assert logistic.gamma == math.inf
    assert logistic.error_rate == pytest.approx(
        float(solve_clusters(0.7, 0.0, inputs=Clusters(0.3), loss="hinge").error_rate), rel=1e-12
    )


def test_unbalanced_clusters_mirror():
    for loss in ("logistic", "hinge"):
        a = solve_clusters(2.0, 0.1, inputs=Clusters(0.7, 0.25, True), loss=loss)
        b = solve_clusters(2.0, 0.1, inputs=Clusters(0.7, 0.75, True), loss=loss)
        assert a.bias == pytest.approx(-float(b.bias), rel=1e-8)
        assert a.error_rate == pytest.approx(float(b.error_rate), rel=1e-9)
        assert a.bias < 0.0 < a.bayes_error < a.error_rate


def test_gen_error_on_clusters_is_their_error_rate():
    rate = gen_error(2.0, 0.0, 0.1, inputs=Clusters(0.5), loss="logistic")
    assert rate == float(solve_clusters(2.0, 0.1, inputs=Clusters(0.5), loss="logistic").error_rate)
    best = optimal_zeta(2.0, 0.0, inputs=Clusters(0.7, 0.25, True), loss="logistic")
    around = gen_error(
        2.0, 0.0, best * np.array([0.9, 1.0, 1.1]), inputs=Clusters(0.7, 0.25, True),
        loss="logistic",
    )  # fmt: skip
    assert around[1] == around.min()


# --- simulations ---------------------------------------------------------------------------------


def deviation(run, name, theory, allowance=0.0):
    """Of the mean over runs from theory, in standard errors, less a part of order 1/N."""
    values = getattr(run, name)[-1]
    error = values.std(ddof=1) / math.sqrt(values.size)
    return (abs(values.mean() - float(theory)) - allowance) / error


@pytest.mark.parametrize(
    ("inputs", "options"),
    [
        (PowerLaw(1.0, size=100), {}),
        (UNEQUAL, {}),
        (UNEQUAL, {"loss": "logistic", "teacher": "sign", "noise": "input"}),
        (UNEQUAL, {"student": "erf", "teacher": "erf", "method": "l-bfgs"}),
    ],
)
def test_training_on_a_spectrum_agrees_with_the_theory(inputs, options):
    how = {"method": "newton"} | options
    run = simulate_training(1.5, 0.2, N=200, inputs=inputs, zeta=0.1, n_runs=12, seed=2, **how)
    options = {name: value for name, value in options.items() if name != "method"}
    theory = solve_equilibrium(1.5, 0.2, 0.1, inputs=inputs, **options)
    for name in ("gamma", "R", "gen_error", "train_error", "energy"):
        value = getattr(theory, name)
        assert deviation(run, name, value, 2.0 * abs(value) / 200) < 4.0, name


def test_training_on_random_features_agrees_with_the_theory():
    features = RandomFeatures("erf", 2.0)
    run = simulate_training(
        1.5, 0.2, N=240, inputs=features, zeta=0.02, method="newton", n_runs=16, seed=1
    )
    for name in ("gamma", "R", "gen_error"):
        value = getattr(solve_equilibrium(1.5, 0.2, 0.02, inputs=features), name)
        assert deviation(run, name, value, 2.0 * abs(value) / 240) < 4.0, name
    # features whose nonlinear part is not counted
    modes = features.modes
    linear = modes.variances - features.kappa_star**2
    teacher = np.sqrt(np.divide(modes.powers, modes.variances))
    wrong = Spectrum(np.maximum(linear, 0.0), teacher, modes.weights)
    value = gen_error(1.5, 0.2, 0.02, inputs=wrong)
    assert deviation(run, "gen_error", value, 2.0 * value / 240) > 8.0


@pytest.mark.parametrize("loss", ["logistic", "hinge", "square"])
def test_training_on_clusters_agrees_with_the_theory(loss):
    inputs = Clusters(0.5, 0.3)
    run = simulate_training(
        2.0, 0.0, N=200, inputs=inputs, loss=loss, zeta=0.2, method="newton", n_runs=12, seed=4
    )
    theory = solve_clusters(2.0, 0.2, inputs=inputs, loss=loss)
    for name in ("gamma", "R", "error_rate", "train_loss", "test_loss", "train_error_rate"):
        value = getattr(theory, name)
        assert deviation(run, name, value, 3.0 * abs(value) / 200) < 4.0, name


def test_populations_have_the_overlaps_they_tell():
    rng = np.random.default_rng(3)
    for inputs in (UNEQUAL, RandomFeatures("relu", 1.5), Clusters(0.7)):
        population = population_of(inputs, 60, rng)
        X = np.empty((40_000, 60))
        z = population.draw(rng, X)
        w = rng.standard_normal(60)
        m, q = population.overlaps(w)
        u = X @ w
        if isinstance(inputs, Clusters):
            q += m * m  # within a cluster
        assert np.mean(u * z) == pytest.approx(m, abs=0.03 * math.sqrt(q))
        assert np.mean(u * u) == pytest.approx(q, rel=0.03)
        assert np.mean(z * z) == pytest.approx(population.rho, rel=0.03)


def test_training_on_other_inputs_refuses_what_it_cannot_do():
    def train(**options):
        simulate_training(1.0, options.pop("S", 0.0), N=20, epochs=1, **options)

    for options, message in (
        ({"inputs": ONES, "normalizer": "wn"}, "normalizer='none'"),
        ({"inputs": ONES, "engine": "matrix-free"}, "engine='dense'"),
        ({"inputs": Clusters(1.0, bias=True)}, "without a bias"),
        ({"inputs": Clusters(1.0), "S": 0.1}, "S = 0"),
        ({"inputs": Spectrum([1.0, 0.0], weights=[1, 1000])}, "N must be large enough"),
    ):
        with pytest.raises(ArgumentError, match=message):
            train(**options)
