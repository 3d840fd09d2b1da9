"""Bayes-optimal learning and the perceptron rules, against mpmath and the other solvers."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp, mpf
from scipy.integrate import dblquad
from scipy.special import expit

import replica
from replica import LeakyReLU, Student, bayes_optimal, perceptron_rules
from replica.equilibrium._label_information import sign_information, sign_overlap
from replica.equilibrium._perceptron_rules import _pulls
from replica.labels import Flip

RULES = ("hebb", "pseudo_inverse", "maximal_stability", "gibbs", "bayes")


def exact_sign_information(q, S, flip):
    """I(q) of a flipped probit label in 30 digits, from P(y | omega)."""
    with mp.workdps(30):
        q, S, flip = mpf(q), mpf(S), mpf(flip)
        sd = mp.sqrt(1 - q + S)

        def integrand(v):
            a = mp.sqrt(q) * v / sd
            slope = (1 - 2 * flip) * mp.npdf(a) / sd
            up, down = flip + (1 - 2 * flip) * mp.ncdf(a), flip + (1 - 2 * flip) * mp.ncdf(-a)
            return mp.npdf(v) * slope**2 * (1 / up + 1 / down)

        width = min(mpf(1), sd / mp.sqrt(q))
        return 2 * mp.quad(integrand, [k * width for k in (0, 1, 2, 3, 4, 6, 8, 11, 15, 20)])


@pytest.mark.parametrize("flip", [0.0, 1e-3, 0.2])
@pytest.mark.parametrize(("q", "S"), [(1e-9, 0.0), (0.3, 0.0), (0.999, 0.0), (0.7, 0.5)])
def test_sign_information_matches_30_digits(q, S, flip):
    exact = exact_sign_information(q, S, flip)
    assert sign_information(q, 1 - q, S, flip, False) == pytest.approx(float(exact), rel=3e-13)


@pytest.mark.parametrize(("q", "S"), [(0.3, 1.0), (0.9, 0.01), (0.99, 30.0)])
def test_logistic_information_is_the_average_over_field_and_noise(q, S):
    scale, V = math.sqrt(3 * S) / math.pi, 1 - q
    x = np.linspace(-9, 9, 3601)  # spectrally accurate, since the integrands are smooth
    density = np.exp(-x * x / 2) / math.sqrt(2 * math.pi) * (x[1] - x[0])
    z = math.sqrt(q) * x[:, None] + math.sqrt(V) * x
    up, down = expit(z / scale) @ density, expit(-z / scale) @ density
    slope = (expit(z / scale) * expit(-z / scale)) @ density / scale
    expected = density @ (slope**2 * (1 / up + 1 / down))
    assert sign_information(q, V, S, 0.0, True) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("logistic", [False, True])
@pytest.mark.parametrize("S", [0.0, 1e-4, 1.0, 1e6])
def test_identity_of_nishimori_holds_for_signs_of_any_noise(S, logistic):
    for V in (1.0 - 1e-6, 0.5, 1e-3, 1e-12):
        law = (1.0 - V, V, S, 0.1, logistic)
        assert sign_overlap(*law) == pytest.approx(sign_information(*law), rel=1e-11)


def test_bayes_optimal_sign_matches_the_reference_rows():
    solved = bayes_optimal([0.5, 1.0, 2.0, 5.0], teacher="sign")
    rows = [0.322395339606, 0.254372970339, 0.174534185580, 0.083935169845]
    np.testing.assert_allclose(solved.error_rate, rows, atol=1e-12)
    np.testing.assert_allclose(
        solved.q, [0.280325734371, 0.486263637016, 0.728298173971, 0.932064245664], atol=1e-12
    )
    assert solved.residual.max() < 1e-13
    np.testing.assert_array_equal(solved.R, solved.gamma)


@pytest.mark.parametrize(("alpha", "S", "flip"), [(1.5, 0.0, 0.0), (40.0, 0.3, 0.05)])
def test_bayes_optimal_sign_solves_the_equation_in_30_digits(alpha, S, flip):
    solved = bayes_optimal(alpha, S, teacher="sign", noise=Flip(flip))
    q = mpf(float(solved.q))
    # one step of the iteration, which contracts: the distance from q bounds that to the solution
    q_hat = alpha * exact_sign_information(q, S, flip)
    assert float(q_hat / (1 + q_hat) / q) == pytest.approx(1.0, abs=1e-13)


def test_comparison_of_signs_notices_a_doubled_noise():
    once, twice = (bayes_optimal(2.0, S, teacher="sign", noise="input").q for S in (0.25, 0.5))
    assert abs(once - twice) > 1e-2


def test_bayes_optimal_sign_has_the_known_asymptotics():
    alpha = np.array([1e4, 1e20, 1e100])
    solved = bayes_optimal(alpha, teacher="sign")
    np.testing.assert_allclose(alpha * solved.error_rate, 0.4417, atol=1e-4)
    np.testing.assert_allclose(solved.gibbs_error_rate / solved.error_rate, math.sqrt(2), rtol=1e-7)
    rules = perceptron_rules(alpha)
    np.testing.assert_allclose(alpha * rules.maximal_stability, 0.5005, atol=1e-4)
    np.testing.assert_allclose(rules.hebb * np.sqrt(alpha), (2 * math.pi) ** -0.5, rtol=1e-3)


def test_flipped_signs_carry_the_same_information_and_half_of_them_none():
    loads = np.array([0.1, 3.0])
    often, rarely = (bayes_optimal(loads, 0.2, teacher="sign", noise=Flip(p)).q for p in (0.9, 0.1))
    np.testing.assert_allclose(often, rarely, rtol=1e-13)
    nothing = bayes_optimal(loads, 0.2, teacher="sign", noise=Flip(0.5))
    np.testing.assert_array_equal(nothing.q, 0.0)
    np.testing.assert_array_equal(nothing.error_rate, 0.5)
    np.testing.assert_array_equal(nothing.gibbs_error_rate, 0.5)


def test_linear_teacher_is_ridge_at_zeta_equal_to_S():
    alpha, S = np.array([0.1, 1.0, 2.0, 1e3])[:, None], np.array([1e-8, 0.25, 1e3])
    solved = bayes_optimal(alpha, S)
    np.testing.assert_allclose(solved.gen_error, replica.gen_error(alpha, S, S), rtol=1e-13)
    np.testing.assert_allclose(bayes_optimal([1, 2], 0.25).q, [0.609611797, 0.824609470], atol=1e-9)


def test_linear_teacher_without_noise_is_known_at_alpha_one():
    solved = bayes_optimal([0.25, 0.75, 1.0, 4.0])
    np.testing.assert_allclose(solved.gen_error, [0.75, 0.25, 0.0, 0.0], rtol=1e-15, atol=0)
    np.testing.assert_array_equal(solved.gamma[2:], 1.0)
    # the noise may as well come after an invertible activation, if it is none
    np.testing.assert_array_equal(bayes_optimal(0.25, teacher="tanh").q, solved.q[0])


def test_relu_teacher_is_the_gibbs_measure_at_temperature_S():
    alpha = np.array([1.0, 2.0])
    solved = bayes_optimal(alpha, 0.25, teacher="relu")
    np.testing.assert_allclose(solved.q, [0.364681654, 0.589417185], atol=1e-9)
    gibbs = replica.solve_equilibrium(1.0, 0.25, 0.25, student="relu", teacher="relu", beta=4.0)
    assert solved.gamma[0] == pytest.approx(float(gibbs.gamma), rel=1e-9)
    assert solved.gen_error[0] == pytest.approx(float(gibbs.posterior_mean_gen_error), rel=1e-9)
    assert solved.gibbs_gen_error[0] == pytest.approx(float(gibbs.gibbs_gen_error), rel=1e-9)


def test_closed_and_numerical_laws_of_the_output_agree():
    student = Student(lambda u: u if u > 0 else 0.3 * u, kinks=(0.0,))
    closed = bayes_optimal(1.5, 0.25, teacher=LeakyReLU(0.3))
    general = bayes_optimal(1.5, 0.25, teacher=student)
    for name in ("q", "gen_error"):
        assert getattr(general, name) == pytest.approx(float(getattr(closed, name)), rel=1e-12)
    assert max(closed.residual, general.residual) < 1e-12


def test_sign_teacher_with_noise_on_its_output_is_a_mixture_of_two_normal_laws():
    q = float(bayes_optimal(1.0, 0.25, teacher="sign", noise="output").q)

    def integrand(y, omega):
        a = omega / math.sqrt(1 - q)
        near, far = (math.exp(-((y - s) ** 2) / 0.5) / math.sqrt(0.5 * math.pi) for s in (1, -1))
        up = 0.5 * math.erfc(-a / math.sqrt(2))
        slope = (near - far) * math.exp(-a * a / 2) / math.sqrt(2 * math.pi * (1 - q))
        weight = math.exp(-omega * omega / (2 * q)) / math.sqrt(2 * math.pi * q)
        return weight * slope**2 / (near * up + far * (1 - up))

    reach = 6 * math.sqrt(q)
    q_hat, _ = dblquad(integrand, -reach, reach, -4, 4, epsabs=1e-9, epsrel=1e-9)
    assert q_hat / (1 + q_hat) == pytest.approx(q, rel=1e-7)


def test_even_teachers_have_the_transitions_of_phase_retrieval():
    # noise-free, weak recovery at 1/2 and exact recovery at 1; algorithms are held up until 1.128
    solved = bayes_optimal([0.45, 0.55, 0.95, 1.0, 1.1, 1.2], teacher="quadratic")
    np.testing.assert_allclose(solved.weak_recovery, 0.5, rtol=1e-9)
    np.testing.assert_array_equal(solved.n_solutions[[0, 1, 2, 4, 5]], [1, 2, 2, 4, 2])
    np.testing.assert_array_equal(solved.q[[0, 3, 4, 5]], [0.0, 1.0, 1.0, 1.0])
    assert 0 < solved.q[1] < solved.q[2] < 0.5
    # before the transition the best guess of z^2 is its mean
    assert solved.gen_error[0] == pytest.approx(2.0, rel=1e-12)
    same = bayes_optimal(0.95, teacher=Student(abs, kinks=(0.0,)))
    assert same.q == pytest.approx(solved.q[2], rel=1e-10)


@pytest.mark.parametrize("S", [0.0764, 2.01, 92.6])
def test_even_teachers_with_output_noise_teach_nothing_at_small_loads(S):
    solved = bayes_optimal(0.08, S, teacher="quadratic")
    assert solved.converged
    assert solved.q == 0.0
    assert solved.weak_recovery > 0.5


def test_narrow_peaks_of_the_output_are_resolved():
    # the peak of silent outputs, of width 1e-4, is 1e4 times as high as the law beside it
    solved = bayes_optimal([0.047, 0.12], 1e-8, teacher="relu")
    assert solved.quadrature_error.max() < 1e-10


def test_of_several_solutions_that_of_least_free_energy_is_returned():
    alpha = np.linspace(1.0, 1.2, 5)
    solved = bayes_optimal(alpha, 1e-6, teacher="quadratic", noise="input")
    assert solved.n_solutions.max() == 4
    assert solved.converged.all()
    jump = np.diff(solved.q).argmax()
    assert np.diff(solved.q)[jump] > 0.4
    assert (np.diff(solved.q) > 0).all()
    # on both sides of the jump there are other solutions, on the other branch
    assert solved.n_solutions[jump] > 2 or solved.n_solutions[jump + 1] > 2


def test_relu_without_noise_is_known_at_alpha_two():
    solved = bayes_optimal([1.0, 1.9, 1.99, 2.0, 5.0], teacher="relu")
    assert (np.diff(solved.gen_error[:4]) < 0).all()
    np.testing.assert_array_equal(solved.gen_error[3:], 0.0)
    # a plateau and one field for each other output: one-dimensional integrals
    noisy = bayes_optimal(1.0, 0.25, teacher="relu", noise="input")
    q, T = float(noisy.q), 1.25 - float(noisy.q)
    x = np.linspace(-9, 9, 3601)
    density = np.exp(-x * x / 2) / math.sqrt(2 * math.pi) * (x[1] - x[0])
    a = math.sqrt(q / T) * x
    silent = np.array([0.5 * math.erfc(u / math.sqrt(2)) for u in a])
    slope = np.exp(-a * a / 2) / math.sqrt(2 * math.pi * T)
    # P(t > 0) = 1/2 of the information of t itself, and the sign of the others
    q_hat = 0.5 / T + density @ (slope**2 / silent)
    assert q_hat / (1 + q_hat) == pytest.approx(q, rel=1e-11)


def test_constant_teacher_teaches_nothing():
    solved = bayes_optimal([0.5, 5.0], 0.25, teacher=lambda u: 0.0 * u + 3.0)
    np.testing.assert_array_equal(solved.q, 0.0)
    np.testing.assert_array_equal(solved.gen_error, 0.0)
    np.testing.assert_array_equal(solved.weak_recovery, math.inf)


def test_what_cannot_be_resolved_is_nan_with_a_warning():
    with pytest.warns(replica.ConvergenceWarning, match="2 of 2 points"):
        solved = bayes_optimal([1.0, 2.0], 1e-12, teacher="tanh")
    assert np.isnan(solved.gamma).all()
    assert np.isnan(solved.gen_error).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alpha": 0.0}, "alpha must lie in"),
        ({"alpha": 1.0, "S": -0.1}, "S must lie in"),
        ({"alpha": 1.0, "noise": "logistic"}, "'logistic' .* needs teacher 'sign', got 'linear'"),
        ({"alpha": 1.0, "noise": Flip(0.1), "teacher": "relu"}, "'flip:0.1' .* got 'relu'"),
        ({"alpha": 1.0, "teacher": "rellu"}, "did you mean relu"),
    ],
)
def test_bayes_optimal_refuses(arguments, message):
    with pytest.raises(replica.ArgumentError, match=message):
        bayes_optimal(**arguments)


@settings(deadline=None, max_examples=30)
@given(st.floats(-3, 3), st.floats(1.001, 3))
def test_bayes_is_the_best_rule_and_all_but_one_learn_from_every_sample(log_alpha, factor):
    rules = perceptron_rules(10.0**log_alpha * np.array([1.0, factor]))
    for name in RULES:
        assert (getattr(rules, name) >= rules.bayes * (1 - 1e-12)).all()
        if name != "pseudo_inverse":  # it peaks at alpha = 1
            assert getattr(rules, name)[1] < getattr(rules, name)[0]
    assert (rules.maximal_stability <= rules.hebb * (1 + 1e-12)).all()


@settings(deadline=None, max_examples=30)
@given(st.floats(-2, 3), st.floats(-3, 2), st.sampled_from(["input", "logistic", Flip(0.2)]))
def test_noise_never_helps_and_samples_always_do(log_alpha, log_S, noise):
    alpha, S = 10.0**log_alpha, 10.0**log_S
    solved = bayes_optimal(
        [alpha, alpha, 1.1 * alpha], [S, 1.1 * S, S], teacher="sign", noise=noise
    )
    here, noisier, later = solved.error_rate
    assert later < here < noisier
    assert (solved.gibbs_error_rate > solved.error_rate).all()


@pytest.mark.parametrize("alpha", [1e-6, 0.3, 1.0, 30.0, 1e6])
def test_maximal_stability_solves_its_two_equations_in_30_digits(alpha):
    rules = perceptron_rules(alpha)
    kappa = mpf(float(rules.margin))
    with mp.workdps(30):
        R, sigma = (
            mp.cospi(float(rules.maximal_stability)),
            mp.sinpi(float(rules.maximal_stability)),
        )
        mean = kappa * mp.ncdf(kappa / sigma) + sigma * mp.npdf(kappa / sigma)
        assert alpha * mp.sqrt(2 / mp.pi) * mean / R == pytest.approx(1.0, abs=1e-12)
        ends = [-12 * sigma / R, -3 * sigma / R, 0, 3 * sigma / R, 12 * sigma / R, 12, kappa]
        ends = sorted(max(min(end, kappa), mpf(-12)) for end in ends)
        total = mp.quad(
            lambda t: mp.npdf(t) * (kappa - t) ** 2 * mp.ncdf(R * t / sigma), [*dict.fromkeys(ends)]
        )
        assert 2 * alpha * total / sigma**2 == pytest.approx(1.0, abs=1e-12)


def test_pulls_notice_a_change_of_the_margin():
    assert abs(_pulls(0.0, 1.0)[1] - _pulls(0.0, 1.0 + 1e-9)[1]) > 1e-10


def test_perceptron_rules_match_the_solvers_of_their_problems():
    alpha = np.array([0.3, 0.9, 1.0, 1.2, 5.0])
    rules = perceptron_rules(alpha)
    # signs are sqrt(2/pi) z plus what least squares takes for noise
    direction = replica.solve_equilibrium(alpha, math.pi / 2 - 1, 0.0).R
    np.testing.assert_allclose(rules.pseudo_inverse, np.arccos(direction) / math.pi, rtol=1e-12)
    strong = replica.solve_equilibrium(alpha, math.pi / 2 - 1, 1e9).R
    np.testing.assert_allclose(rules.hebb, np.arccos(strong) / math.pi, rtol=1e-8)
    bayes = bayes_optimal(alpha, teacher="sign")
    np.testing.assert_allclose(rules.bayes, bayes.error_rate, rtol=1e-14)
    np.testing.assert_allclose(rules.gibbs, bayes.gibbs_error_rate, rtol=1e-14)
    # a draw from the version space has the overlap q with the teacher
    np.testing.assert_allclose(np.cos(math.pi * rules.gibbs), bayes.q, rtol=1e-13)


def test_maximal_stability_is_the_hinge_loss_without_decay():
    alpha = np.array([0.3, 5.0])
    rules = perceptron_rules(alpha)
    hinge = replica.solve_equilibrium(alpha, 0.0, 0.0, loss="hinge", teacher="sign", noise="input")
    np.testing.assert_allclose(rules.maximal_stability, hinge.error_rate, rtol=1e-12)
    np.testing.assert_allclose(rules.margin, hinge.margin, rtol=1e-12)


def test_results_are_tables_and_curves():
    alpha = np.linspace(0.5, 5.0, 4)
    rules = perceptron_rules(alpha)
    assert list(rules.to_pandas().columns) == ["alpha", *RULES, "margin", "status"]
    assert len(rules.plot("hebb").get_lines()) == 1
    frame = bayes_optimal(alpha, 0.25, teacher="sign", noise=Flip(0.1)).to_pandas()
    assert frame.attrs == {"teacher": "sign", "noise": "flip:0.1"}
    assert perceptron_rules(1.0).bayes.shape == ()
    assert bayes_optimal(np.ones((2, 0)), 0.25, teacher="relu").q.shape == (2, 0)
