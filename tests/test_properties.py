"""Properties that hold for every problem, searched for counterexamples by hypothesis."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import replica
from replica import LeakyReLU, Status

settings.register_profile("replica", deadline=None, max_examples=150, derandomize=True)
settings.load_profile("replica")


def log_range(low, high):
    return st.floats(math.log10(low), math.log10(high)).map(lambda x: 10.0**x)


loads = log_range(1e-3, 1e3)
noises = st.one_of(st.just(0.0), log_range(1e-9, 1e3))
decays = st.one_of(st.just(0.0), log_range(1e-12, 1e4))
positive_decays = log_range(1e-12, 1e4)
slopes = st.one_of(st.just(0.0), st.just(1.0), st.floats(0.0, 1.0), log_range(1e-9, 1.0))


def error(alpha, S, zeta, slope):
    return replica.gen_error(alpha, S, zeta, student=LeakyReLU(slope))


@given(loads, noises, decays, slopes)
def test_gen_error_is_above_the_best_student_of_its_slope(alpha, S, zeta, slope):
    solved = replica.solve_equilibrium(alpha, S, zeta, student=LeakyReLU(slope))
    assert solved.status <= Status.DIVERGENT
    assert solved.residual <= 1e-10
    assert abs(solved.R) <= 1.0
    assert solved.gamma >= 0.0
    assert solved.chi > 0.0
    assert solved.gen_error >= (1 - slope) ** 2 / (2 * (1 + slope**2))


@given(loads, noises, positive_decays)
def test_slope_one_is_the_limit_of_leaky_slopes(alpha, S, zeta):
    near = error(alpha, S, zeta, 1 - 1e-13)
    assert near == pytest.approx(error(alpha, S, zeta, 1.0), rel=1e-6, abs=1e-24)


@given(loads, noises, log_range(1e-6, 1e4))
def test_slope_zero_is_the_limit_of_leaky_slopes_at_positive_decay(alpha, S, zeta):
    # the slope enters through a^2 chi and chi <= 1/zeta
    near = error(alpha, S, zeta, 1e-9 * min(1.0, math.sqrt(zeta)))
    assert near == pytest.approx(error(alpha, S, zeta, 0.0), rel=1e-6)


@given(loads, noises, log_range(1e-2, 1e4), st.floats(0.0, 1.0))
def test_gen_error_is_continuous_in_slope(alpha, S, zeta, slope):
    step = 1e-9 if slope < 0.5 else -1e-9
    assert error(alpha, S, zeta, slope + step) == pytest.approx(
        error(alpha, S, zeta, slope), rel=1e-5, abs=1e-12
    )


@given(loads, log_range(1e-6, 1e3), decays, st.floats(1.001, 10.0))
def test_gen_error_of_the_linear_student_grows_with_noise(alpha, S, zeta, factor):
    assert error(alpha, factor * S, zeta, 1.0) >= error(alpha, S, zeta, 1.0)


@given(
    loads, noises, st.floats(1.001, 10.0), st.one_of(st.just(0.0), log_range(1e-12, 1.0)), slopes
)
def test_gen_error_grows_with_noise_at_moderate_decay(alpha, S, factor, zeta, slope):
    assume(slope == 0.0 or slope > 0.02)  # below, the ground state may change branch
    less, more = error(alpha, S, zeta, slope), error(alpha, factor * S, zeta, slope)
    assert more >= less * (1 - 1e-12)


def test_gen_error_of_an_overregularized_relu_falls_a_little_with_noise():
    """A property of the equations from zeta of about 50 upward, confirmed by mpmath."""
    errors = replica.gen_error(1.25, [0.0, 0.5, 1.0], 100.0, student="relu")
    assert np.all(np.diff(errors) < 0)
    assert 1 - errors[-1] / errors[0] < 1e-4


@given(loads, noises, positive_decays)
def test_linear_optimum_is_at_zeta_equal_to_noise(alpha, S, zeta):
    assert error(alpha, S, S, 1.0) <= error(alpha, S, zeta, 1.0) * (1 + 1e-14)


@given(loads, noises, slopes)
def test_zeta_zero_is_the_limit_of_small_zeta(alpha, S, slope):
    assume(slope == 0.0 or slope > 1e-2)  # below, zeta competes with slope^2
    assume(abs(alpha - replica.interpolation_threshold(S, student=LeakyReLU(slope))) > 1e-2)
    near = error(alpha, S, 1e-14, slope)
    assert near == pytest.approx(error(alpha, S, 0.0, slope), rel=1e-3, abs=1e-20)


@given(
    st.lists(st.tuples(loads, noises, decays), min_size=1, max_size=6),
    slopes,
    st.randoms(use_true_random=False),
)
def test_elements_do_not_know_of_each_other(problems, slope, random):
    alpha, S, zeta = (np.array(column) for column in zip(*problems, strict=True))
    together = error(alpha, S, zeta, slope)
    alone = [error(*problem, slope) for problem in problems]
    np.testing.assert_array_equal(together, alone)
    order = list(range(len(problems)))
    random.shuffle(order)
    np.testing.assert_array_equal(
        error(alpha[order], S[order], zeta[order], slope), together[order]
    )
    outer = error(alpha[:, None], S[0], zeta[0], slope)
    assert outer[0, 0] == together[0]


@given(noises, log_range(1e-3, 1e3), slopes)
def test_small_load_leaves_an_untrained_student(S, zeta, slope):
    solved = replica.solve_equilibrium(1e-9, S, zeta, student=LeakyReLU(slope))
    # m and q are of order alpha: eps -> 1
    bound = 1e-9 * 10 * (1 + S) / min(zeta, 1.0) ** 2
    assert abs(solved.gen_error - 1) <= bound
    assert solved.chi == pytest.approx(1 / zeta, rel=1e-8 / min(zeta, 1.0))


@given(noises.filter(lambda S: S < 10), decays.filter(lambda zeta: zeta < 10), slopes)
def test_large_load_finds_the_best_student(S, zeta, slope):
    solved = replica.solve_equilibrium(1e6, S, zeta, student=LeakyReLU(slope))
    linear = replica.solve_equilibrium(1e6, S, zeta)
    assert linear.gen_error == pytest.approx(S / 1e6, rel=1e-4, abs=1e-10)
    assert pytest.approx(1.0, abs=1e-5 * (1 + S)) == linear.R
    assert pytest.approx(1.0, abs=1e-4 * (1 + S)) == solved.R


def test_large_load_relu_is_not_its_teacher_when_the_labels_are_noisy():
    """Noise flips the sign of labels near z = 0, so that even an endless ReLU student is biased.

    The trained ReLU minimizes E[(y - u_+)^2], whose minimum over gamma at R = 1 is gamma = 1.
    """
    solved = replica.solve_equilibrium(1e8, 4.0, student="relu")
    assert solved.gen_error == pytest.approx(0.5, rel=1e-6)
    assert solved.gamma == pytest.approx(1.0, rel=1e-3)


@given(loads, noises, positive_decays)
def test_published_relu_is_the_linear_student_at_half_the_load(alpha, S, zeta):
    published = replica.gen_error(alpha, S, zeta, student="relu", theory="published")
    linear = replica.gen_error(alpha / 2, S, zeta)
    assert published == pytest.approx(0.5 + 0.5 * linear, rel=1e-14)
