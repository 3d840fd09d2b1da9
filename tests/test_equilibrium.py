"""What `solve_equilibrium` returns: shapes, identities, status, and what it refuses."""

import math
import warnings

import numpy as np
import pytest

import replica
from replica import ConvergenceWarning, LeakyReLU, Status
from replica.equilibrium import _solve as equilibrium

STUDENTS = ["linear", "relu", LeakyReLU(0.3)]
ARRAYS = [
    "alpha", "S", "zeta", "gamma", "R", "chi", "gen_error", "train_error", "energy",
    "dead_fraction", "interpolating", "replicon", "rs_stable", "residual", "n_iter", "status",
    "beta", "q", "gibbs_gen_error", "posterior_mean_gen_error", "free_energy", "entropy",
    "quadrature_error",
]  # fmt: skip


@pytest.mark.parametrize(
    ("student", "theory"),
    [*((s, "replica") for s in STUDENTS), ("linear", "published"), ("relu", "published")],
)
def test_solve_equilibrium_fills_the_broadcast_shape(student, theory):
    alpha = np.linspace(0.5, 3, 4)[:, None]
    zeta = np.array([0.0, 0.1, 1.0])
    solved = replica.solve_equilibrium(alpha, 0.25, zeta, student=student, theory=theory)
    for name in ARRAYS:
        assert getattr(solved, name).shape == (4, 3), name
    empty = replica.solve_equilibrium(np.empty((0, 3)), 0.25, zeta, student=student, theory=theory)
    for name in ARRAYS:
        assert getattr(empty, name).shape == (0, 3), name


@pytest.mark.parametrize("student", STUDENTS)
def test_solve_equilibrium_order_parameters_give_its_gen_error(student):
    solved = replica.solve_equilibrium([0.5, 1.2, 5.0], 0.25, 0.1, student=student)
    again = replica.gen_error_from_overlaps(solved.gamma, solved.R, student=student)
    np.testing.assert_allclose(again, solved.gen_error, rtol=1e-13)


@pytest.mark.parametrize("student", STUDENTS)
@pytest.mark.parametrize("alpha", [0.3, 1.0, 1.6, 4.0])
def test_energy_derivatives_are_the_averages_it_generates(student, alpha):
    """At a stationary point d energy/d zeta = q/2 and d(energy)/d(alpha) = cost of one sample."""
    zeta, h = 0.2, 1e-5

    def energy(zeta):
        return float(replica.solve_equilibrium(alpha, 0.25, zeta, student=student).energy)

    solved = replica.solve_equilibrium(alpha, 0.25, zeta, student=student)
    slope = (energy(zeta + h) - energy(zeta - h)) / (2 * h)
    assert slope == pytest.approx(float(solved.gamma) ** 2 / 2, rel=1e-8)
    assert solved.energy == pytest.approx(
        float(alpha * solved.train_error / 2 + zeta * solved.gamma**2 / 2), rel=1e-14
    )


def test_energy_of_the_published_relu_is_that_of_half_the_samples_plus_a_constant():
    solved = replica.solve_equilibrium(3.0, 0.25, 0.5, student="relu", theory="published")
    half = replica.solve_equilibrium(1.5, 0.25, 0.5)
    assert solved.gamma == half.gamma
    assert solved.gen_error == pytest.approx(0.5 + 0.5 * float(half.gen_error), rel=1e-15)
    assert solved.train_error == pytest.approx(0.5 * float(half.train_error) + 0.625, rel=1e-15)
    decay = 0.5 * 0.5 * solved.gamma**2
    assert solved.energy == pytest.approx(1.5 * float(solved.train_error) + decay, rel=1e-14)


def test_dead_fraction_is_a_probability_and_vanishes_where_samples_are_fitted():
    solved = replica.solve_equilibrium([0.5, 1.0, 2.0, 10.0], 0.25, [[0.0], [0.3]], student="relu")
    assert (solved.dead_fraction[0, :2] == 0).all()
    rest = np.concatenate([solved.dead_fraction[0, 2:], solved.dead_fraction[1]])
    assert ((rest > 0) & (rest < 0.5)).all()


def test_rs_stable_holds_for_convex_problems_only():
    assert replica.solve_equilibrium(2.0, 0.25, 0.1).rs_stable
    curved = replica.solve_equilibrium(2.0, 0.25, 0.1, student="relu")
    assert not curved.rs_stable
    assert curved.replicon == -math.inf
    # Without decay and below the threshold the least-norm fit is a convex program.
    threshold = replica.interpolation_threshold(0.25, student="relu")
    convex = replica.solve_equilibrium([0.1, 1.0, 0.999 * threshold], 0.25, student="relu")
    assert convex.rs_stable.all()
    assert (np.diff(convex.replicon) < 0).all()
    at_threshold = replica.solve_equilibrium(threshold * (1 - 1e-9), 0.25, student="relu")
    assert abs(at_threshold.replicon) < 1e-4
    assert not replica.solve_equilibrium(1.01 * threshold, 0.25, student="relu").rs_stable
    leaky = replica.solve_equilibrium([0.5, 1.5], 0.25, student=replica.LeakyReLU(0.5))
    assert leaky.replicon.tolist() == [0.5, -math.inf]


def test_interpolating_means_every_fittable_sample_is_fitted():
    load = np.array([0.5, 1.4, 1.6, 3.0])
    noisy = replica.solve_equilibrium(load, 0.25, student="relu")
    assert noisy.interpolating.tolist() == [True, True, False, False]
    np.testing.assert_allclose(noisy.train_error[:2], 0.625, rtol=1e-15)  # the y < 0 remain
    assert replica.solve_equilibrium(load, 0.0, student="relu").interpolating.all()
    linear = replica.solve_equilibrium(load, 0.25)
    assert linear.interpolating.tolist() == [True, False, False, False]
    assert linear.train_error[0] == 0.0
    assert not replica.solve_equilibrium(load, 0.25, 1e-9, student="relu").interpolating.any()


def test_solve_equilibrium_is_frozen_and_readable():
    solved = replica.solve_equilibrium(2.0, 0.25, 0.1, student="relu")
    with pytest.raises(AttributeError):
        solved.gamma = 1.0
    text = repr(solved)
    assert f"gamma                     {solved.gamma:.12g}" in text
    assert len(text.splitlines()) == 36
    many = repr(replica.solve_equilibrium([0.5, 1.0], 0.25, student="linear"))
    assert "shape (2,), 0.75 .. inf" in many
    assert len(repr(replica.solve_equilibrium([], 0.25)).splitlines()) == 28


def test_status_of_a_point_that_fails_is_reported_and_its_values_are_nan(monkeypatch):
    def failing(alpha, S, zeta, slope, columns, start, stop):
        for column in columns[:9]:
            column[:] = 1.0
            column[1] = math.nan
        columns.status[:] = Status.CONVERGED
        columns.status[1] = Status.MAX_ITERATIONS

    monkeypatch.setattr(equilibrium, "solve_piecewise", failing)
    with pytest.warns(ConvergenceWarning, match=r"1 of 3 points did not converge, first at index"):
        solved = replica.solve_equilibrium([1.0, 2.0, 3.0], 0.25, student="relu")
    assert np.isnan(solved.gen_error).tolist() == [False, True, False]
    assert "NaN" in solved.messages[1]
    assert solved.messages[0] == "converged"


def test_status_of_a_kernel_that_runs_out_of_iterations_is_not_a_number():
    from replica.equilibrium import _piecewise as piecewise

    point = piecewise._newton(2.0, 0.25, 0.1, 0.0, 3.0, 0.5, 0.5, 1.0, 2)
    assert not point.found  # two iterations are not enough, and it says so


def test_solve_equilibrium_does_not_warn_about_a_true_infinity():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert replica.solve_equilibrium(1.0, 0.25).gen_error == math.inf
        published = replica.solve_equilibrium(2.0, 0.25, student="relu", theory="published")
    assert published.gen_error == math.inf
    assert "infinite" in published.messages


@pytest.mark.parametrize("student", STUDENTS)
def test_large_arrays_on_threads_equal_single_points(student):
    draw = np.random.default_rng(5)
    alpha, S = 10 ** draw.uniform(-2, 2, 20_000), 10 ** draw.uniform(-2, 1, 20_000)
    many = replica.solve_equilibrium(alpha, S, 0.01, student=student)
    for i in range(0, 20_000, 1_997):
        one = replica.solve_equilibrium(alpha[i], S[i], 0.01, student=student)
        for name in ARRAYS:
            assert getattr(one, name) == getattr(many, name)[i], name


@pytest.mark.parametrize(
    ("keywords", "error", "words"),
    [
        ({"theory": "exact"}, ValueError, "theory must be one of ('replica', 'published')"),
        ({"theory": 3}, TypeError, "theory must be one of"),
        ({"student": "gelu"}, ValueError, "student must be one of ('linear', 'relu', 'erf'"),
        ({"student": 0.5}, TypeError, "student must be one of ('linear', 'relu', 'erf'"),
        (
            {"student": LeakyReLU(0.5), "theory": "published"},
            ValueError,
            "theory 'published' covers student 'linear' and 'relu' only",
        ),
    ],
)
def test_solve_equilibrium_refuses_unknown_options(keywords, error, words):
    with pytest.raises(error) as caught:
        replica.solve_equilibrium(1.0, 0.25, **keywords)
    assert words in str(caught.value)
