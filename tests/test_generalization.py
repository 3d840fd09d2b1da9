"""The front door: types, bad input, conversions, the optimal decay."""

import math

import numpy as np
import pytest

import replica
from replica import LeakyReLU, Student, published
from replica.gaussian import gaussian_average
from replica.students import as_student

STUDENTS = ["linear", "relu", LeakyReLU(0.3)]


@pytest.mark.parametrize("student", STUDENTS)
def test_gen_error_returns_a_float_for_scalars_and_an_array_otherwise(student):
    value = replica.gen_error(2, 0.25, 0.1, student=student)
    assert type(value) is float
    assert type(replica.gen_error(np.float32(2), np.array(0.25), 0.1, student=student)) is float
    many = replica.gen_error([2], 0.25, 0.1, student=student)
    assert isinstance(many, np.ndarray)
    assert many.shape == (1,)
    assert many[0] == value


@pytest.mark.parametrize("student", STUDENTS)
def test_gen_error_does_not_depend_on_the_layout_of_its_input(student):
    alpha = np.linspace(0.1, 4, 12).reshape(3, 4)
    S = np.linspace(0, 1, 12).reshape(3, 4)
    expected = [
        [replica.gen_error(alpha[i, j], S[i, j], 0.1, student=student) for j in range(4)]
        for i in range(3)
    ]
    for convert in (np.asfortranarray, np.copy, lambda x: x[::-1][::-1], lambda x: x.tolist()):
        found = replica.gen_error(convert(alpha), convert(S), 0.1, student=student)
        np.testing.assert_array_equal(found, expected)
    whole = replica.gen_error(np.array([1, 2]), np.array([0, 1]), 1, student=student)
    floats = replica.gen_error([1.0, 2.0], [0.0, 1.0], 1.0, student=student)
    np.testing.assert_array_equal(whole, floats)
    single = replica.gen_error(alpha.astype(np.float32), 0.25, 0.1, student=student)
    double = replica.gen_error(alpha.astype(np.float32).astype(float), 0.25, 0.1, student=student)
    np.testing.assert_array_equal(single, double)
    np.testing.assert_array_equal(replica.gen_error([], 0.25, student=student), [])


def test_gen_error_leaves_its_input_alone():
    alpha = np.array([0.5, 2.0])
    replica.gen_error(alpha, 0.25, student="relu", theory="published")
    np.testing.assert_array_equal(alpha, [0.5, 2.0])


def test_gen_error_published_relu_is_proposition_5_and_its_continuation():
    alpha = np.array([1e-3, 0.5, 1.5, 1.999])
    for S in (0.0, 0.25, 10.0):
        found = replica.gen_error(alpha, S, student="relu", theory="published")
        np.testing.assert_allclose(found, published.relu_sgd_error(alpha, S), rtol=1e-12)
    above = replica.gen_error([2.5, 10.0], 0.25, student="relu", theory="published")
    np.testing.assert_allclose(above, 0.5 + 0.25 / (np.array([2.5, 10.0]) - 2), rtol=1e-14)
    assert replica.gen_error(2.0, 0.25, student="relu", theory="published") == math.inf
    assert replica.gen_error(2.0, 0.0, student="relu", theory="published") == 0.5


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((0.0, 0.25), ValueError, "alpha must lie in [1e-100, 1e+100], got 0.0"),
        ((-1, 0.25), ValueError, "alpha must lie in [1e-100, 1e+100], got -1.0"),
        ((math.inf, 0.25), ValueError, "alpha must lie in [1e-100, 1e+100], got inf"),
        ((1.4e154, 0.25), ValueError, "alpha must lie in [1e-100, 1e+100], got 1.4e+154"),
        ((1.0, 0.25, 1.4e154), ValueError, "zeta must lie in [0, 1e+100], got 1.4e+154"),
        ((math.nan, 0.25), ValueError, "alpha must lie in [1e-100, 1e+100], got nan"),
        (
            ([1.0, math.nan], 0.25),
            ValueError,
            "alpha must lie in [1e-100, 1e+100], got nan (element [1])",
        ),
        ((1.0, -0.1), ValueError, "S must lie in [0, 1e+100], got -0.1"),
        ((1.0, math.inf), ValueError, "S must lie in [0, 1e+100], got inf"),
        ((1.0, 0.25, -1e-9), ValueError, "zeta must lie in [0, 1e+100], got -1e-09"),
        ((1.0, 0.25, math.nan), ValueError, "zeta must lie in [0, 1e+100], got nan"),
        ((1j, 0.25), TypeError, "alpha must be a real number"),
        (("2", 0.25), TypeError, "alpha must be a real number"),
        ((True, 0.25), TypeError, "alpha must be a real number"),
        ((np.array([True]), 0.25), TypeError, "alpha must be a real number"),
        ((1.0, None), TypeError, "S must be a real number"),
        ((1.0, [[1.0], [1.0, 2.0]]), TypeError, "S must be a real number"),
        ((np.ma.masked_array([1.0], [True]), 0.25), TypeError, "alpha must not be a masked array"),
        (([1.0, 2.0], [0.1, 0.2, 0.3]), ValueError, "alpha (2,), S (3,), zeta ()"),
    ],
)
def test_gen_error_refuses_bad_input(arguments, error, words):
    for student in STUDENTS:
        with pytest.raises(error) as caught:
            replica.gen_error(*arguments, student=student)
        assert words in str(caught.value)


@pytest.mark.parametrize("slope", [-0.1, 1.1, math.nan, math.inf])
def test_leaky_relu_refuses_slopes_outside_the_unit_interval(slope):
    with pytest.raises(ValueError, match=r"slope must lie in \[0, 1\]"):
        LeakyReLU(slope)


@pytest.mark.parametrize("slope", ["0.5", True, None, [0.1, 0.2], 1j])
def test_leaky_relu_refuses_what_is_not_a_number(slope):
    with pytest.raises(TypeError, match="slope must be"):
        LeakyReLU(slope)


def test_leaky_relu_knows_its_name():
    names = [LeakyReLU(slope).name for slope in (0, 1, 0.1)]
    assert names == ["relu", "linear", "leaky-relu(0.1)"]


def test_gen_error_from_overlaps_is_a_gaussian_average():
    draw = np.random.default_rng(1)
    z, x = draw.normal(size=(2, 400_000))
    for slope in (0.0, 0.3, 1.0):
        gamma, R = 1.3, 0.6
        u = gamma * (R * z + math.sqrt(1 - R * R) * x)
        squares = (z - np.where(u > 0, u, slope * u)) ** 2
        expected = replica.gen_error_from_overlaps(gamma, R, student=LeakyReLU(slope))
        sem = squares.std() / math.sqrt(squares.size)
        assert abs(squares.mean() - expected) < 4 * sem
        assert abs(squares.mean() - 1.02 * expected) > 4 * sem  # a 2 % error would be seen


def test_gen_error_from_overlaps_keeps_its_digits_near_the_teacher():
    assert replica.gen_error_from_overlaps(1.0, 1.0 - 2**-50) == pytest.approx(2**-49, rel=1e-12)
    assert replica.gen_error_from_overlaps(1.0 + 1e-9, 1.0) == pytest.approx(1e-18, rel=1e-6)


@pytest.mark.parametrize(
    ("gamma", "R", "words"),
    [(-1.0, 0.0, "gamma must lie in [0, inf)"), (1.0, 1.1, "R must lie in [-1, 1]")],
)
def test_gen_error_from_overlaps_refuses_bad_input(gamma, R, words):
    with pytest.raises(ValueError) as caught:
        replica.gen_error_from_overlaps(gamma, R)
    assert words in str(caught.value)


def test_zeta_from_mean_has_the_same_minimum():
    """Ridge on a small data set: both losses, minimized numerically, agree."""
    draw = np.random.default_rng(2)
    N, P, decay = 5, 8, 0.3
    X, y = draw.normal(size=(P, N)) / math.sqrt(N), draw.normal(size=P)
    zeta = replica.zeta_from_mean(decay, P / N)
    summed = np.linalg.solve(X.T @ X + zeta * np.eye(N), X.T @ y)
    # gradient of (1/P) |y - X W|^2 + decay |W|^2/N, the paper's loss with gamma^2 = |W|^2/N
    gradient = -2 / P * X.T @ (y - X @ summed) + 2 * decay * summed / N
    np.testing.assert_allclose(gradient, 0.0, atol=1e-14)
    np.testing.assert_array_equal(replica.zeta_from_mean(0.1, [1.0, 2.0]), [0.1, 0.2])


def test_optimal_zeta_of_the_linear_student_is_the_noise():
    np.testing.assert_array_equal(
        replica.optimal_zeta([0.5, 1.0], [[0.0], [0.25]]), [[0] * 2, [0.25] * 2]
    )
    grid = np.geomspace(0.1, 0.6, 41)
    best = grid[np.argmin(replica.gen_error(1.3, 0.25, grid))]
    assert best == pytest.approx(0.25, rel=0.05)


@pytest.mark.parametrize("student", ["relu", LeakyReLU(0.1), LeakyReLU(0.9)])
@pytest.mark.parametrize("alpha", [0.05, 0.5, 1.5, 3.0, 100.0])
@pytest.mark.parametrize("S", [0.01, 0.25, 10.0])
def test_optimal_zeta_is_the_global_minimum(student, alpha, S):
    best = replica.optimal_zeta(alpha, S, student=student)
    least = replica.gen_error(alpha, S, best, student=student)
    grid = np.concatenate([[0.0], np.geomspace(1e-12, 1e3, 1001)])
    assert least <= replica.gen_error(alpha, S, grid, student=student).min() * (1 + 1e-12)
    if best > 0:  # and it is located, not only as good: the parabola through three points agrees
        x = best * np.array([0.99, 1.0, 1.01])
        e = replica.gen_error(alpha, S, x, student=student)
        vertex = best + 0.005 * best * (e[0] - e[2]) / (e[0] - 2 * e[1] + e[2])
        assert vertex == pytest.approx(best, rel=2e-4)


def test_optimal_zeta_without_noise_or_with_too_many_weights_can_be_zero():
    assert replica.optimal_zeta(3.0, 0.0, student="relu") == 0.0
    assert replica.optimal_zeta(0.5, 0.0, student="relu") == 0.0


@pytest.mark.parametrize(
    ("keywords", "error", "words"),
    [
        ({"theory": "batch_norm"}, ValueError, "theory must be one of ('replica', 'published')"),
        ({"theory": "exact"}, ValueError, "theory must be one of"),
        ({"theory": 3}, TypeError, "theory must be one of"),
        ({"batch_size": 8}, TypeError, "batch_size"),
        ({"student": "gelu"}, ValueError, "student must be one of"),
        ({"student": ["relu"]}, TypeError, "student must be one of"),
    ],
)
def test_gen_error_refuses_unknown_options(keywords, error, words):
    with pytest.raises(error) as caught:
        replica.gen_error(2.0, 0.25, **keywords)
    assert words in str(caught.value)


@pytest.mark.parametrize("student", STUDENTS)
@pytest.mark.parametrize(("alpha", "S", "zeta"), [(0.5, 0.25, 0.0), (2, 0, 1), (1.4, 1.0, 1e-9)])
def test_gen_error_of_plain_numbers_has_the_digits_of_arrays(student, alpha, S, zeta):
    expected = replica.gen_error(np.array([alpha]), S, zeta, student=student)[0]
    assert replica.gen_error(alpha, S, zeta, student=student) == expected
    solved = replica.solve_equilibrium(alpha, S, zeta, student=student)
    assert solved.gen_error == expected


@pytest.mark.parametrize("convert", [float, lambda x: [x]])
def test_gen_error_of_a_point_that_fails_warns_on_both_ways(monkeypatch, convert):
    def failing(*arguments):
        eps = arguments[-3]
        eps[:] = math.nan

    module = "replica.equilibrium._generalization."
    monkeypatch.setattr(module + "piecewise_error", lambda *_: math.nan)
    monkeypatch.setattr(module + "piecewise_errors", failing)
    with pytest.warns(replica.ConvergenceWarning, match="1 of 1 points did not converge"):
        value = replica.gen_error(convert(2.0), 0.25, student="relu")
    assert np.isnan(value).all()


@pytest.mark.parametrize("student", ["erf", "softplus", "sign", LeakyReLU(0.3)])
def test_gen_error_from_overlaps_of_any_student_is_a_gaussian_average(student):
    gamma, R = 1.3, 0.6
    activation = as_student(student)
    m = gamma * R
    average = gaussian_average(
        lambda z, u: (z - activation.values(u)) ** 2,
        [[1.0, m], [m, gamma**2]],
        kinks=[[], [0.0]],
    )
    found = replica.gen_error_from_overlaps([[gamma]], R, student=student)
    assert found.shape == (1, 1)
    assert found == pytest.approx(average.value, rel=1e-9)
    at_zero = 1.0 + float(activation.values(0.0)) ** 2
    assert replica.gen_error_from_overlaps(0.0, R, student=student) == pytest.approx(at_zero)


def test_gen_error_from_overlaps_of_a_general_student_meets_its_equilibrium():
    solved = replica.solve_equilibrium(1.5, 0.1, 0.2, student="softplus")
    again = replica.gen_error_from_overlaps(solved.gamma, solved.R, student="softplus")
    assert again == pytest.approx(float(solved.gen_error), rel=1e-9)


def test_optimal_zeta_of_a_general_student_is_a_minimum():
    best = replica.optimal_zeta(1.5, 0.25, student="erf")
    around = best * np.array([0.7, 0.97, 1.0, 1.03, 1.4])
    errors = replica.gen_error(1.5, 0.25, around, student="erf")
    assert errors.argmin() == 2
    vertex = best * (1 + 0.015 * (errors[1] - errors[3]) / (errors[1] - 2 * errors[2] + errors[3]))
    assert vertex == pytest.approx(best, rel=5e-3)  # three digits, and the parabola's own error


@pytest.mark.parametrize(
    "student", ["sign", Student(lambda u: np.where(u > 0, 2.0, 0.5), kinks=(0.0,))]
)
def test_optimal_zeta_refuses_a_student_without_a_minimum_at_once(student, monkeypatch):
    monkeypatch.setattr("replica.equilibrium._generalization.solve_equilibrium", None)  # not asked
    with pytest.raises(replica.ArgumentError, match="depends on the length of its weights"):
        replica.optimal_zeta([1.0, 2.0], 0.25, student=student)


def test_optimal_zeta_of_a_disguised_relu_is_that_of_the_closed_form():
    disguised = Student(lambda u: np.maximum(u, 0.0), kinks=(0.0,))
    expected = replica.optimal_zeta(2.0, 0.25, student="relu")
    assert replica.optimal_zeta(2.0, 0.25, student=disguised) == pytest.approx(expected, rel=1e-3)


def test_gen_error_of_any_other_student_is_that_of_its_equilibrium():
    value = replica.gen_error(1.5, 0.1, 0.2, student="softplus")
    assert type(value) is float
    assert value == replica.solve_equilibrium(1.5, 0.1, 0.2, student="softplus").gen_error
    with pytest.raises(ValueError, match="covers a linear teacher at zero temperature only"):
        replica.gen_error(1.5, 0.1, 0.2, student="softplus", theory="published")
