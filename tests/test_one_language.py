"""Theory and simulation speak one language: the same arguments give the same curve."""

from __future__ import annotations

import numpy as np
import pytest

from replica import simulate_online
from replica.dynamics import integrate
from replica.simulation._settings import NORMALIZERS
from replica.students import LeakyReLU

RUNS = 48
N = 4_000
STUDENTS = ("linear", "relu", LeakyReLU(0.3), "erf")


@pytest.mark.parametrize("student", STUDENTS)
@pytest.mark.parametrize("normalizer", NORMALIZERS)
def test_integrate_and_simulate_online_take_one_dictionary(normalizer, student):
    problem = {
        "student": student, "normalizer": normalizer, "S": 0.2, "zeta": 0.15, "batch_size": 8,
        "learning_rate": 0.6, "gamma0": None if normalizer == "none" else 0.6, "R0": 0.2,
        "L0": 0.8, "t": [0.5, 2.0],
    }  # fmt: skip
    theory = integrate(**problem)
    runs = simulate_online(**problem, N=N, n_runs=RUNS, progress=False)
    np.testing.assert_allclose(runs.t, theory.t)
    for name in ("gamma", "R", "L", "gen_error"):
        deviation = runs.mean(name) - getattr(theory, name)
        # The mean at finite N is off by c/N; c of a few times the batch size is seen at small N.
        assert np.all(np.abs(deviation) < 4 * runs.standard_error(name) + 4 * 8 / N), name


@pytest.mark.parametrize("wrong", [{"zeta": 0.3}, {"learning_rate": 0.66}, {"S": 0.4}])
def test_another_problem_is_noticed(wrong):
    problem = {
        "student": "relu", "normalizer": "bn-var", "S": 0.2, "zeta": 0.15, "batch_size": 8,
        "learning_rate": 0.6, "gamma0": 0.6, "R0": 0.2, "L0": 0.8, "t": [2.0],
    }  # fmt: skip
    theory = integrate(**(problem | wrong))
    runs = simulate_online(**problem, N=N, n_runs=RUNS, progress=False)
    noticed = [
        abs(runs.mean(name)[-1] - getattr(theory, name)[-1])
        > 4 * runs.standard_error(name)[-1] + 4 * 8 / N
        for name in ("gamma", "R", "L")
    ]
    assert any(noticed)
