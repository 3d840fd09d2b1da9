"""Averages of real batch normalization: against sampling, closed forms, and each other."""

import math

import numpy as np
import pytest
from scipy.special import erf

from replica.dynamics import _closed_forms
from replica.dynamics._batch_averages import batch_averages, leaky_series, series_averages
from replica.students import ERF, LINEAR, RELU, SIGN, SOFTPLUS, TANH, LeakyReLU, Student

LEAKY = LeakyReLU(0.3)
# E[sigma_B^-4] is finite for all of them, so that the scatter of I2 gives its error.
SAMPLED = [("bn", 8), ("bn", 32), ("bn-var", 5), ("bn-mean", 2), ("bn-mean", 8)]
# sqrt(2 / pi), the mean of |z|
MEAN_SIZE = math.sqrt(2 / math.pi)


def functions(student):
    """g and g' in plain NumPy, apart from the package's own."""
    if isinstance(student, LeakyReLU):
        a = student.slope
        return lambda u: np.where(u > 0, u, a * u), lambda u: np.where(u > 0, 1.0, a)
    return {
        "erf": (lambda u: erf(u / math.sqrt(2)), lambda u: MEAN_SIZE * np.exp(-u * u / 2)),
        "tanh": (np.tanh, lambda u: 1 / np.cosh(u) ** 2),
        "softplus": (lambda u: np.logaddexp(0, u), lambda u: 1 / (1 + np.exp(-u))),
        "sign": (np.sign, None),
    }[student.name]


def sample(normalizer, M, student, teacher, S, gamma, D, runs):
    """Means and standard errors of the three averages over `runs` batches."""
    rng = np.random.default_rng(M)
    u, v, s = rng.standard_normal((3, runs, M))
    sine = math.sqrt(D * (2 - D))
    (g, slope), (teach, _) = functions(student), functions(teacher)
    y = teach((1 - D) * u + sine * v) + math.sqrt(S) * s
    mean = 0.0 if normalizer == "bn-var" else u.mean(axis=1, keepdims=True)
    sigma = 1.0
    if normalizer != "bn-mean":
        sigma = np.sqrt(((u - mean) ** 2).mean(axis=1, keepdims=True))
    h = (u - mean) / sigma
    delta = slope(gamma * h) * (y - g(gamma * h))
    pull = (delta * h).mean(axis=1, keepdims=True)
    c = delta
    if normalizer != "bn-var":
        c = c - delta.mean(axis=1, keepdims=True)
    if normalizer != "bn-mean":
        c = (c - h * pull) / sigma
    values = np.array([pull[:, 0], (c**2).mean(axis=1), sine * (c * v).mean(axis=1)])
    return values.mean(axis=1), values.std(axis=1) / math.sqrt(runs)


@pytest.mark.parametrize(("normalizer", "M"), SAMPLED)
@pytest.mark.parametrize(
    ("student", "teacher", "gamma", "R", "S"),
    [
        (RELU, RELU, 1.5, -0.5, 0.1),
        (LEAKY, LEAKY, 1.0, 0.999999, 0.0),
        (ERF, ERF, 0.8, 0.9, 0.1),
        (TANH, RELU, 1.5, -0.5, 0.0),
        (RELU, TANH, 0.3, 0.1, 0.2),
        (SOFTPLUS, SIGN, 0.7, 0.6, 0.0),
    ],
)
def test_batch_averages_match_sampling(normalizer, M, student, teacher, gamma, R, S):
    arguments = normalizer, M, student, teacher, S, gamma, 1 - R
    mean, error = sample(*arguments, runs=120_000 // M)
    assert np.all(np.abs(np.array(batch_averages(*arguments)) - mean) < 4 * error)


@pytest.mark.parametrize(
    ("normalizer", "M", "a", "b"),
    [
        ("bn", 4, 0.3, 0.0),
        ("bn", 8, 1.0, 0.3),
        ("bn-var", 3, 0.3, 0.0),
        ("bn-var", 8, 0.0, 0.3),
        ("bn-mean", 2, 0.3, 0.0),
        ("bn-mean", 8, 1.0, 0.3),
    ],
)
def test_series_and_quadrature_agree(normalizer, M, a, b):
    # One averages over Gaussian fields in closed form, the other over the sphere by quadrature.
    student = Student(LeakyReLU(a).values, kinks=LeakyReLU(a).kinks)
    teacher = LeakyReLU(b)
    for gamma, D, tolerance in [(0.8, 0.5, 2e-9), (-0.8, 1.6, 2e-9), (1.2, 1e-6, 2e-5)]:
        exact = batch_averages(normalizer, M, LeakyReLU(a), teacher, 0.1, gamma, D)
        found = batch_averages(normalizer, M, student, teacher, 0.1, gamma, D)
        assert found == pytest.approx(exact, rel=tolerance)


@pytest.mark.parametrize(("normalizer", "M"), [("bn", 4), ("bn-var", 3), ("bn-mean", 2)])
def test_linear_students_have_the_closed_form(normalizer, M):
    n = M if normalizer == "bn-var" else M - 1
    sigma = math.sqrt(2 / M) * math.exp(math.lgamma((n + 1) / 2) - math.lgamma(n / 2))
    S, gamma = 0.2, 0.9
    for D in (1e-12, 0.3, 1.0, 1.9):
        R, sine2 = 1 - D, D * (2 - D)
        for noise in (S, 0.0):
            found = batch_averages(normalizer, M, LINEAR, LINEAR, noise, gamma, D)
            if normalizer == "bn-mean":
                miss = (1 - gamma) ** 2 + 2 * gamma * D + noise
                expected = tuple((1 - 1 / M) * x for x in (R - gamma, miss, sine2))
            else:
                expected = sigma * R - gamma, (n - 1) / (n - 2) * (sine2 + noise), sigma * sine2
            assert found == pytest.approx(expected, rel=1e-13)
    # The noise vanishes with 1 - R when the student has learnt all, and keeps its digits.
    last = batch_averages(normalizer, M, LINEAR, LINEAR, 0.0, 1.0, 1e-12)
    factor = (1 - 1 / M) if normalizer == "bn-mean" else (n - 1) / (n - 2)
    assert last[1] == pytest.approx(factor * 2e-12, rel=1e-11)


@pytest.mark.parametrize("normalizer", ["bn", "bn-var", "bn-mean"])
def test_large_batches_approach_the_population_at_rate_1_over_M(normalizer):
    a, b, S, gamma, D = 0.3, 0.1, 0.1, 0.8, 0.2
    P, _, _, I2, _, _, G, _, _ = _closed_forms.averages(0, a, b, S, gamma, D)
    delta = MEAN_SIZE * ((1 + a) * (1 - b) + (1 - a) * (1 + b) * (1 - D)) / 4
    delta -= gamma * MEAN_SIZE * (1 - a * a) / 2
    # The projections leave E[delta^2] less the squares of its components along 1 and h.
    limit = np.array([P, I2 - (normalizer != "bn-var") * delta**2, G])
    limit[1] -= (normalizer != "bn-mean") * P**2
    differences = []
    for M in (10**4, 10**5, 10**6):
        values = series_averages(leaky_series(normalizer, M, a, b), S, gamma, D)
        differences.append(M * (np.array([values[0], values[3], values[6]]) - limit))
    assert np.abs(differences[2]).min() > 1e-3
    # The next order is 1/M of the first.
    np.testing.assert_allclose(differences[0], differences[2], rtol=2e-3, atol=1e-8)
    np.testing.assert_allclose(differences[1], differences[2], rtol=2e-4, atol=1e-7)


@pytest.mark.parametrize(("normalizer", "M"), [("bn", 8), ("bn-var", 3), ("bn-mean", 3)])
@pytest.mark.parametrize(("a", "b"), [(1.0, 1.0), (0.3, 0.0)])
def test_series_derivatives_are_those_of_the_values(normalizer, M, a, b):
    series = leaky_series(normalizer, M, a, b)

    def values(gamma, D):
        return np.array(series_averages(series, 0.1, gamma, D))[[0, 3, 6]]

    for gamma, D in [
        (0.8, 1e-4),
        (0.8, 0.3),
        (1.3, 0.9999),
        (0.8, 1.0001),
        (-0.7, 0.4),
        (0.5, 1.99),
    ]:
        given = np.array(series_averages(series, 0.1, gamma, D))
        step = 1e-3 * min(D, 2 - D)
        by_D = 8 * (values(gamma, D + step) - values(gamma, D - step))
        by_D -= values(gamma, D + 2 * step) - values(gamma, D - 2 * step)
        # 1e-14 is the rounding of the values.
        np.testing.assert_allclose(by_D / (12 * step), given[[2, 5, 8]], atol=1e-8 + 1e-14 / step)
        by_gamma = (values(gamma + 1e-3, D) - values(gamma - 1e-3, D)) / 2e-3
        np.testing.assert_allclose(by_gamma, given[[1, 4, 7]], atol=1e-11)


def test_series_go_on_along_their_tangents_outside():
    series = leaky_series("bn-var", 8, 0.3, 0.0)
    for edge, outside in ((0.0, -1e-3), (2.0, 2.001)):
        at_edge = np.array(series_averages(series, 0.1, 0.8, edge))
        found = np.array(series_averages(series, 0.1, 0.8, outside))
        expected = at_edge[[0, 3, 6]] + (outside - edge) * at_edge[[2, 5, 8]]
        np.testing.assert_allclose(found[[0, 3, 6]], expected, rtol=1e-13)
        assert found[6] < 0.0 == at_edge[6]


def test_series_with_negative_gamma_are_the_mirrored_state():
    series = leaky_series("bn-mean", 8, 0.3, 0.0)
    one = np.array(series_averages(series, 0.1, 0.8, 0.4))
    other = np.array(series_averages(series, 0.1, -0.8, 1.6))
    signs = [-1, 1, 1, 1, -1, -1, 1, -1, -1]
    np.testing.assert_allclose(other, one * signs, rtol=1e-12)


@pytest.mark.parametrize(("student", "teacher"), [(RELU, RELU), (ERF, ERF)])
def test_drift_is_relatively_accurate_near_the_teacher(student, teacher):
    ratios = [
        batch_averages("bn-var", 8, student, teacher, 0.0, 0.9, D)[2] / (D * (2 - D))
        for D in (1e-15, 1e-12)
    ]
    # theta = sqrt(2 D) is the size of the next term.
    assert ratios[0] == pytest.approx(ratios[1], rel=2e-6)


@pytest.mark.parametrize(
    ("normalizer", "M", "least"), [("bn", 3, 4), ("bn-var", 2, 3), ("bn-mean", 1, 2)]
)
@pytest.mark.parametrize("student", [LINEAR, ERF])
def test_too_small_batches_are_refused(normalizer, M, least, student):
    with pytest.raises(ValueError, match=f"batch_size must be at least {least} for .*, got {M}"):
        batch_averages(normalizer, M, student, student, 0.1, 0.8, 0.5)
    _, I2, _ = batch_averages(normalizer, least, student, student, 0.1, 0.8, 0.5)
    assert 0.0 < I2 < math.inf


def test_students_too_steep_for_the_pair_series_give_nan_not_a_number():
    steep = Student(lambda u: np.tanh(100 * u))
    P, I2, G = batch_averages("bn", 4, steep, TANH, 0.1, 1.0, 0.3)
    assert math.isnan(I2)
    assert math.isfinite(P + G)
