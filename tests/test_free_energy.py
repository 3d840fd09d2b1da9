"""The free energy against nested quadrature, its limits and its bad input."""

from __future__ import annotations

import numpy as np
import pytest

from reference.free_energy import linear_free_energy
from reference.tables import FOLDER, read
from replica import ConvergenceWarning, LeakyReLU
from replica.equilibrium._finite_temperature import solve_finite_temperature
from replica.equilibrium._free_energy import free_energy, free_energy_published

ROWS = read(FOLDER / "free_energy.csv")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["student"])
def test_free_energy_agrees_with_nested_quadrature(row):
    student = LeakyReLU(0.125) if row["student"] == "leaky" else row["student"]
    names = ("gamma", "R", "q")
    overlaps = [float(row[name]) for name in names]
    physics = {name: float(row[name]) for name in ("alpha", "S", "beta", "zeta")}
    value = free_energy(*overlaps, student=student, **physics)
    assert value == pytest.approx(float(row["free_energy"]), abs=3e-11)


@pytest.mark.parametrize("beta", [1e-3, 1.0, 1e4, 1e8])
@pytest.mark.parametrize("student", ["linear", "relu", "erf"])
def test_free_energy_is_finite_at_any_temperature(student, beta):
    physics = {"alpha": 1.5, "S": 0.25, "beta": beta, "zeta": 0.3}
    q = 0.36 + 2.0 / beta
    value = free_energy(0.6, 0.7, q, student=student, **physics)
    assert np.isfinite(value)
    if student == "linear":
        exact = float(linear_free_energy(0.6, 0.7, q, 1.5, 0.25, beta, 0.3))
        assert value == pytest.approx(exact, rel=1e-10)


def test_free_energy_stays_finite_with_wide_fluctuations_at_low_temperature():
    physics = {"alpha": 1.5, "S": 0.25, "beta": 1e8, "zeta": 0.3}
    assert np.isfinite(free_energy(0.6, 0.7, 0.86, student="relu", **physics))


@pytest.mark.parametrize(("student", "beta"), [("linear", 20.0), ("relu", 3.0), ("relu", 300.0)])
def test_free_energy_is_stationary_at_the_solution(student, beta):
    physics = {"alpha": 1.5, "S": 0.25, "zeta": 0.3}
    point = solve_finite_temperature(*physics.values(), beta, student=student)
    at = np.array([point.gamma, point.R, point.q], dtype=float)
    step = 1e-3 * min(1.0, at[2] - at[0] ** 2)
    stencil = np.array([-2.0, -1.0, 1.0, 2.0]) * step
    weights = np.array([1.0, -8.0, 8.0, -1.0]) / (12 * step)
    for k in range(3):
        shifted = np.repeat(at[:, None], 4, axis=1)
        shifted[k] += stencil
        values = free_energy(*shifted, student=student, beta=beta, **physics)
        assert abs(weights @ values) < 1e-8
    assert float(free_energy(*at, student=student, beta=beta, **physics)) == pytest.approx(
        float(point.free_energy), abs=1e-9
    )


def test_free_energy_beyond_the_table_is_nan_and_a_warning():
    physics = {"alpha": 1.0, "S": 0.25, "beta": 1e-8, "student": "tanh"}
    with pytest.warns(ConvergenceWarning, match="1 of 2 points"):
        values = free_energy(0.6, 0.7, [1.0, 1e9], **physics)
    assert np.isfinite(values[0])
    assert np.isnan(values[1])


def test_free_energy_is_not_stationary_elsewhere():
    physics = {"alpha": 1.5, "S": 0.25, "zeta": 0.3, "beta": 3.0}
    values = free_energy([0.6, 0.61], 0.7, 0.9, student="relu", **physics)
    assert abs(values[1] - values[0]) > 1e-4


def test_free_energy_published_is_half_linear_and_half_constant():
    gamma, R, q, alpha, S, beta = 0.7, 0.8, 0.8, 1.5, 0.25, 4.0
    linear = float(linear_free_energy(gamma, R, q, alpha / 2, S, beta, 0.0))
    constant = alpha * (1 + S) / 4
    value = free_energy_published(gamma, R, q, alpha=alpha, S=S, beta=beta)
    assert value == pytest.approx(linear + constant, abs=1e-14)


def test_free_energy_published_is_stationary_at_equations_22_and_23():
    alpha, S, beta, d = 3.0, 0.25, 50.0, 0.04
    a = (1 + beta * d) / (beta * d)
    assert a == pytest.approx(alpha / 2)  # what stationarity in gamma^2 asks for
    r = alpha / (2 * a)
    gamma2 = (r * r + alpha / (2 * a * a) * (1 - 2 * r + S)) / (1 - alpha / (2 * a * a))
    for h in (1e-4, -1e-4):
        values = []
        for gamma_sq, overlap in ((gamma2 + h, r), (gamma2, r + h), (gamma2, r)):
            gamma = np.sqrt(gamma_sq)
            physics = {"alpha": alpha, "S": S, "beta": beta}
            values.append(
                float(free_energy_published(gamma, overlap / gamma, gamma_sq + d, **physics))
            )
        assert abs(values[0] - values[2]) < 1e-9  # linear in gamma^2 at fixed d and r
        assert abs(values[1] - values[2]) < 30 * h * h  # quadratic in r


def test_free_energy_published_is_not_the_limit_of_the_functional():
    arguments = {"alpha": 1.0, "S": 0.25, "beta": 1e6}
    q = 0.36 + 2.4e-6
    exact = free_energy(0.6, 0.63, q, student="relu", **arguments)
    assert abs(exact - free_energy_published(0.6, 0.63, q, **arguments)) > 1e-3


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"q": 0.3}, ValueError, "q must be larger than gamma"),
        ({"R": 1.5}, ValueError, "R must lie in"),
        ({"gamma": -0.1}, ValueError, "gamma must lie in"),
        ({"beta": 0.0}, ValueError, "beta must lie in"),
        ({"beta": np.inf}, ValueError, "beta must lie in"),
        ({"S": -1.0}, ValueError, "S must lie in"),
        ({"student": "gelu"}, ValueError, "student must be one of"),
        ({"noise": "both"}, ValueError, "noise must be one of"),
    ],
)
def test_free_energy_refuses_bad_input(change, error, words):
    arguments = {"gamma": 0.6, "R": 0.7, "q": 0.6, "alpha": 1.0, "S": 0.25, "beta": 10.0}
    arguments |= {"student": "relu"} | change
    with pytest.raises(error, match=words):
        free_energy(**arguments)
