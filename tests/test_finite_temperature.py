"""The Gibbs saddle point: closed form of the linear student, limits, thermodynamics."""

from __future__ import annotations

import math
import warnings
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

import replica
from replica import ConvergenceWarning, LeakyReLU, Status
from replica.equilibrium import _saddle_point
from replica.equilibrium._finite_temperature import (
    gibbs_averages,
    sample_free_energy,
    solve_finite_temperature,
)
from replica.equilibrium._proximal import prepare
from replica.equilibrium._teacher_average import LEGENDRE, prepare_teacher
from replica.equilibrium._zero_temperature import solve_general_student
from replica.students import ERF, LINEAR, RELU, SIGN, SOFTPLUS, Student

PHYSICS = (1.5, 0.25, 0.3)


@pytest.mark.parametrize("student", [RELU, LeakyReLU(0.3), ERF, SOFTPLUS, SIGN])
@pytest.mark.parametrize(
    ("y", "omega", "V", "beta"),
    [(0.7, -0.3, 0.3, 2.0), (-1.2, 0.4, 0.1, 20.0), (2.0, 0.1, 1.0, 0.1)],
)
def test_sample_free_energy_agrees_with_direct_integration(student, y, omega, V, beta):
    def integral(function):
        def weighted(u):
            g = float(student.values(u))
            weight = math.exp(-((u - omega) ** 2) / (2 * V) - beta * (y - g) ** 2 / 2)
            return function(u, g) * weight / math.sqrt(2 * math.pi * V)

        reach = 9 * math.sqrt(V)
        pieces = sorted({omega - reach, 0.0, omega, omega + reach})
        return sum(
            quad(weighted, low, high, epsabs=1e-14, epsrel=1e-12, limit=200)[0]
            for low, high in pairwise(pieces)
        )

    Z = integral(lambda u, g: 1.0)
    mean = integral(lambda u, g: u) / Z
    expected = (
        math.log(Z),
        mean - omega,
        integral(lambda u, g: (u - mean) ** 2) / Z,
        integral(lambda u, g: (y - g) ** 2) / Z,
    )
    table = prepare(student, 40.0)
    values = sample_free_energy(table, math.nan, y, omega, V, beta, LEGENDRE[3])
    assert values == pytest.approx(expected, rel=1e-9, abs=1e-10)
    if isinstance(student, LeakyReLU):
        closed = sample_free_energy(table, student.slope, y, omega, V, beta, LEGENDRE[3])
        assert closed == pytest.approx(expected, rel=1e-9, abs=1e-10)


@pytest.mark.parametrize(("y", "omega"), [(3.0, -2.0), (-3.0, 2.0), (-1.0, 0.5)])
def test_both_forms_of_the_sample_free_energy_agree_far_in_the_tails(y, omega):
    table = prepare(RELU, 40.0)
    general = sample_free_energy(table, math.nan, y, omega, 1e-4, 1e4, LEGENDRE[3])
    closed = sample_free_energy(table, 0.0, y, omega, 1e-4, 1e4, LEGENDRE[3])
    assert general == pytest.approx(closed, rel=1e-11)


@pytest.mark.parametrize(
    ("y", "omega"), [(0.0847, 0.00053), (0.0711, -0.000997), (0.0681, -0.0130)]
)
def test_a_minimum_beside_a_kink_is_found_between_the_vertices(y, omega):
    student = Student(lambda u: np.maximum(u, 0.0), kinks=(0.0,))
    table = prepare(student, 40.0)
    general = sample_free_energy(table, math.nan, y, omega, 2.4e-6, 1e6, LEGENDRE[3])
    closed = sample_free_energy(table, 0.0, y, omega, 2.4e-6, 1e6, LEGENDRE[3])
    assert general == pytest.approx(closed, rel=1e-9)


@pytest.mark.parametrize("beta", [1e-3, 0.1, 1.0, 100.0, 1e8])
def test_linear_student_meets_the_closed_form_at_every_temperature(beta):
    point = solve_finite_temperature(*PHYSICS, beta, student="linear")
    exact = replica.solve_equilibrium(*PHYSICS, student="linear")
    for name in ("gamma", "R", "chi", "gen_error"):
        assert getattr(point, name) == pytest.approx(float(getattr(exact, name)), rel=1e-9)
    assert point.q == pytest.approx(float(exact.gamma) ** 2 + float(exact.chi) / beta, rel=1e-9)
    assert point.gibbs_gen_error == pytest.approx(
        float(exact.gen_error) + float(exact.chi) / beta, rel=1e-9
    )
    assert point.posterior_mean_gen_error == pytest.approx(float(exact.gen_error), rel=1e-6)
    assert point.rs_stable


NUMBERS = ("gamma", "R", "q", "chi", "gen_error", "gibbs_gen_error", "posterior_mean_gen_error")
NUMBERS += ("train_error", "energy", "free_energy", "entropy", "replicon", "residual")


@given(
    log_alpha=st.floats(-2, 2),
    log_S=st.floats(-6, 2),
    log_zeta=st.floats(-6, 2),
    log_beta=st.floats(-12, 12),
    slope=st.sampled_from([0.0, 0.3, 1.0]),
)
@settings(max_examples=40, deadline=None)
def test_no_converged_point_holds_a_nan_at_any_temperature(
    log_alpha, log_S, log_zeta, log_beta, slope
):
    alpha, S, zeta, beta = (10.0**x for x in (log_alpha, log_S, log_zeta, log_beta))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        point = solve_finite_temperature(alpha, S, zeta, beta, student=LeakyReLU(slope))
    values = np.array([getattr(point, name) for name in NUMBERS])
    assert point.status == Status.CONVERGED or (np.isnan(values).all() and caught)
    if point.converged:
        assert np.isfinite(values).all()
        assert abs(point.R) <= 1 + 1e-12
        # Jensen: averaging the output cannot make it worse.
        assert 0 <= point.posterior_mean_gen_error <= point.gibbs_gen_error * (1 + 1e-12)


def test_a_nan_in_any_field_is_a_status_and_a_warning(monkeypatch):
    monkeypatch.setattr(_saddle_point, "mean_square_error", lambda *_: math.nan)
    with pytest.warns(ConvergenceWarning, match="non-finite"):
        point = solve_finite_temperature(*PHYSICS, 2.0, student="relu")
    assert point.status == Status.NON_FINITE
    assert np.isnan(point.gamma)


def test_high_temperature_limit_of_relu_scales_with_the_temperature():
    """All fields grow like 1 / sqrt(beta), and chi becomes a constant."""
    beta = np.array([1e-8, 1e-10, 1e-12])
    point = solve_finite_temperature(1.0, 0.25, 0.25, beta, student="relu")
    assert point.converged.all()
    for name in ("q", "gen_error", "gibbs_gen_error", "posterior_mean_gen_error", "train_error"):
        scaled = getattr(point, name) * beta
        assert scaled == pytest.approx(np.full(3, scaled[-1]), rel=1e-6)  # O(beta) is left out
    # The labels do not matter: they are small beside the fields.
    other = solve_finite_temperature(1.0, 9.0, 0.25, 1e-12, student="relu")
    assert point.chi == pytest.approx(np.full(3, float(other.chi)), rel=1e-6)


def test_fields_just_inside_the_table_do_not_leave_it():
    # sqrt(q) between 3.3 and 4.5: with the table at 9 sqrt(q) some moments were NaN.
    beta = np.geomspace(0.2, 0.5, 6)
    point = solve_finite_temperature(1.0, 0.25, 0.25, beta, student="relu")
    assert (np.sqrt(point.q) > 2).all()
    for name in NUMBERS:
        assert np.isfinite(getattr(point, name)).all()


def test_errors_do_not_cancel_where_the_student_meets_its_teacher():
    # m is known to 1e-10 of itself, so the error (1 - m)^2 to about 1e-10 / (1 - m).
    alpha, zeta = 100.0, 1e-4
    point = solve_finite_temperature(alpha, 0.0, zeta, [1e-6, 1.0, 1e6], student="linear")
    exact = float(replica.gen_error(alpha, 0.0, zeta))
    assert exact < 2e-12
    assert point.gen_error == pytest.approx(np.full(3, exact), rel=1e-3)
    assert point.posterior_mean_gen_error == pytest.approx(np.full(3, exact), rel=1e-3)


def test_relu_agrees_with_an_independent_dense_grid():
    point = solve_finite_temperature(1.0, 0.25, 0.25, [10.0, 200.0], student="relu")
    assert point.gamma**2 == pytest.approx([0.375892, 0.359339], abs=1e-6)
    assert point.gamma * point.R == pytest.approx([0.417948, 0.385785], abs=1e-6)
    assert point.chi == pytest.approx([2.331718, 2.389122], abs=1e-6)


def test_relu_converges_to_zero_temperature_like_log_beta_over_beta():
    beta = np.array([1e4, 1e5, 1e6, 1e7])
    warm = solve_finite_temperature(1.0, 0.25, 0.25, beta, student="relu")
    cold = replica.solve_equilibrium(1.0, 0.25, 0.25, student="relu")
    rate = (cold.chi - warm.chi) * beta / np.log(beta)
    assert rate == pytest.approx(np.full(4, rate.mean()), rel=0.03)
    assert 0.5 < rate.mean() < 1.0
    assert (np.abs(warm.gen_error - cold.gen_error) * beta / np.log(beta) < 5).all()


@pytest.mark.parametrize(
    ("slope", "zeta", "alpha"), [(0.005, 1e-5, 0.5), (0.005, 1e-5, 1.6), (0.0, 1e-5, 0.5)]
)
def test_nearly_interpolating_student_meets_its_ground_state(slope, zeta, alpha):
    """Weights of length 80, susceptibilities of 6e4, and two saddle points at alpha = 1.6."""
    student = LeakyReLU(slope)
    closed = replica.solve_equilibrium(alpha, 0.25, zeta, student=student)
    if alpha < 1:
        general = solve_general_student(alpha, 0.25, zeta, student=student)
        assert general.energy == pytest.approx(float(closed.energy), rel=1e-8)
        assert general.gen_error == pytest.approx(float(closed.gen_error), rel=1e-6)
    beta = np.array([1e6, 1e8, 1e10])
    warm = solve_finite_temperature(alpha, 0.25, zeta, beta, student=student)
    distance = np.abs(warm.energy - closed.energy)
    assert (distance[1:] < 0.05 * distance[:-1]).all()
    assert distance[2] < 1e-7 * closed.energy


def test_averages_do_not_depend_on_the_width_of_the_table():
    law = prepare_teacher(LINEAR, 0.25)
    for slope in (0.005, 0.3):
        narrow, wide = (
            gibbs_averages(
                prepare(LeakyReLU(slope), width), slope, law, 1e6, 6e4, 30.0, 6400.0, LEGENDRE[2]
            )
            for width in (40.0, 10240.0)
        )
        assert narrow == pytest.approx(wide, rel=1e-14)


@pytest.mark.parametrize("slope", [0.0, 0.3])
@pytest.mark.parametrize("beta", [1.0, 300.0, 1e6])
def test_branches_alone_give_what_quadrature_gives(slope, beta):
    """The closed form of the far branches against the path without it, for any student."""
    law = prepare_teacher(LINEAR, 0.25)
    student = Student(lambda u: np.maximum(u, slope * u), kinks=(0.0,))
    table = prepare(student, 40.0)
    closed = gibbs_averages(table, slope, law, beta, 2.4, 0.4, 0.36, LEGENDRE[3])
    direct = gibbs_averages(table, math.nan, law, beta, 2.4, 0.4, 0.36, LEGENDRE[3])
    assert closed == pytest.approx(direct, rel=1e-6)


def test_beta_inf_is_the_zero_temperature_solution():
    general = replica.solve_equilibrium(*PHYSICS, student=LeakyReLU(0.2), beta=[np.inf, 1e6])
    closed = replica.solve_equilibrium(*PHYSICS, student=LeakyReLU(0.2))
    for name in ("gamma", "R", "chi", "gen_error", "train_error", "energy"):
        assert getattr(general, name)[0] == float(getattr(closed, name))
    assert general.replicon[0] == -np.inf
    assert not general.rs_stable[0]
    assert "diverge" in general.stability
    assert general.gen_error[1] == pytest.approx(general.gen_error[0], rel=1e-4)


@pytest.mark.parametrize(("student", "beta"), [("relu", 5.0), ("relu", 200.0), ("linear", 1.0)])
def test_thermodynamic_identities(student, beta):
    alpha, S, zeta = PHYSICS

    def solve(beta, zeta):
        return solve_finite_temperature(alpha, S, zeta, beta, student=student)

    point = solve(beta, zeta)
    steps = np.array([-2, -1, 1, 2]) * 1e-3
    weights = np.array([1, -8, 8, -1]) / 12e-3
    warmer = solve(beta * (1 + steps), zeta)
    slope = weights @ (warmer.beta * warmer.free_energy) / beta
    assert slope == pytest.approx(float(point.energy), abs=1e-6)
    stiffer = solve(beta, zeta * (1 + steps))
    assert 2 * (weights @ stiffer.free_energy) / zeta == pytest.approx(float(point.q), abs=1e-6)
    assert point.entropy == pytest.approx(
        float(beta * (point.energy - point.free_energy)), rel=1e-12
    )


def test_replicon_changes_sign_as_the_temperature_falls():
    point = solve_finite_temperature(1.0, 0.25, 0.25, [10.0, 200.0, 1e4], student="relu")
    assert point.rs_stable.tolist() == [True, True, False]
    assert (np.diff(point.replicon) < 0).all()
    assert "negative" in point.stability


def test_gibbs_error_exceeds_the_error_of_the_averaged_output():
    point = solve_finite_temperature(1.0, 0.25, 0.25, [1.0, 10.0], student="relu")
    assert (point.gibbs_gen_error > point.posterior_mean_gen_error).all()


def test_results_do_not_depend_on_the_order_of_the_points():
    alpha = np.array([0.5, 3.0, 1.0, 2.0])
    there = solve_finite_temperature(alpha, 0.1, 0.2, 10.0, student="relu")
    back = solve_finite_temperature(alpha[::-1], 0.1, 0.2, 10.0, student="relu")
    one_by_one = [solve_finite_temperature(a, 0.1, 0.2, 10.0, student="relu") for a in alpha]
    for name in ("gamma", "R", "chi", "free_energy", "residual", "n_iter"):
        assert (getattr(there, name) == getattr(back, name)[::-1]).all()
        assert (getattr(there, name) == [float(getattr(p, name)) for p in one_by_one]).all()


@pytest.mark.slow
def test_general_quadrature_agrees_with_the_closed_form_of_the_sample():
    # The same function as a Student takes the general path.
    student = replica.students.Student(lambda u: np.maximum(u, 0.25 * u), kinks=(0.0,))
    general = solve_finite_temperature(1.0, 0.25, 0.25, 10.0, student=student)
    closed = solve_finite_temperature(1.0, 0.25, 0.25, 10.0, student=LeakyReLU(0.25))
    for name in ("gamma", "R", "chi", "free_energy", "entropy", "train_error", "replicon"):
        assert getattr(general, name) == pytest.approx(float(getattr(closed, name)), rel=1e-7)


def test_shapes_broadcast_and_status_is_reported():
    point = solve_finite_temperature([[0.5], [2.0]], 0.1, 0.2, [1.0, 5.0, 25.0], student="linear")
    assert point.gamma.shape == point.beta.shape == (2, 3)
    assert (point.status == Status.CONVERGED).all()
    assert (point.residual < 1e-9).all()
    assert "Equilibrium" in repr(point)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"beta": 0.0}, ValueError, "beta must lie in"),
        ({"beta": -1.0}, ValueError, "beta must lie in"),
        ({"beta": "cold"}, TypeError, "beta must be a real number"),
        ({"alpha": 0.0}, ValueError, "alpha must lie in"),
        ({"S": np.nan}, ValueError, "S must lie in"),
        ({"student": 3}, TypeError, "student must be one of"),
        ({"teacher": "gelu"}, ValueError, "teacher must be one of"),
        ({"theory": "published"}, ValueError, "covers a linear teacher at zero temperature"),
        ({"noise": 1}, TypeError, "noise must be one of"),
    ],
)
def test_solve_equilibrium_refuses_bad_input_at_finite_temperature(change, error, words):
    arguments = {"alpha": 1.0, "S": 0.25, "zeta": 0.3, "beta": 2.0, "student": "relu"} | change
    with pytest.raises(error, match=words):
        replica.solve_equilibrium(**arguments)
