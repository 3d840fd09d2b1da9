"""Theory and simulation speak one language: one dictionary of arguments serves both."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import replica
from replica import LeakyReLU, Status

NORMALIZERS = ("none", "wn", "pn", "bn", "bn-var", "bn-mean")
STUDENTS = ("linear", "relu", LeakyReLU(0.3), "erf")
N, RUNS = 20_000, 40
# Means at finite N differ by c/N from the limit. Measured at N = 400, |c| is 0.8 or less in these
# problems; a standard error is four times this or more.
FINITE_SIZE = 1 / N
COMPARED = ("gamma", "R", "L", "gen_error")


def problem(normalizer: str, student: Any, **other: Any) -> dict[str, Any]:
    """Decay, noise and a start that is special in no way."""
    start = {"R0": 0.2, "L0": 0.8} | ({} if normalizer == "none" else {"gamma0": 0.6})
    return {
        "student": student, "normalizer": normalizer, "S": 0.25, "zeta": 0.2, "batch_size": 8,
        "learning_rate": 0.4, "t": [0.5, 2.0], **start, **other,
    }  # fmt: skip


def deviations(arguments: dict[str, Any]) -> dict[str, float]:
    """The largest distance of chain and equations, in standard errors beyond the finite size."""
    flow = replica.dynamics.integrate(**arguments)
    chain = replica.simulate_online(**arguments, N=N, n_runs=RUNS, seed=1, progress=False)
    assert flow.status == Status.CONVERGED
    assert (chain.status == Status.DONE).all()
    assert chain.t == pytest.approx(flow.t, abs=arguments["batch_size"] / N)
    found = {}
    for name in COMPARED:
        gap = np.abs(chain.mean(name) - getattr(flow, name)) - FINITE_SIZE
        found[name] = float(np.max(gap / chain.standard_error(name)))
    return found


@pytest.mark.parametrize("normalizer", NORMALIZERS)
@pytest.mark.parametrize("student", STUDENTS, ids=str)
def test_one_dictionary_gives_one_curve(normalizer, student):
    worst = deviations(problem(normalizer, student))
    assert max(worst.values()) < 4.0, worst


@pytest.mark.parametrize("student", ["relu", "erf"])
def test_one_dictionary_gives_one_curve_for_another_teacher(student):
    worst = deviations(problem("none", student, teacher=LeakyReLU(0.6), batch_size=1))
    assert max(worst.values()) < 4.0, worst


@pytest.mark.parametrize(
    "other",
    [{"learning_rate": 0.44}, {"zeta": 0.25}, {"S": 0.35}, {"R0": 0.22}, {"t": [0.55, 2.2]}],
    ids=lambda other: next(iter(other)),
)
def test_comparison_sees_another_meaning_of_an_argument(other):
    arguments = problem("wn", "relu")
    flow = replica.dynamics.integrate(**arguments | other)
    chain = replica.simulate_online(**arguments, N=N, n_runs=RUNS, seed=1, progress=False)
    gaps = [
        np.max(np.abs(chain.mean(name) - getattr(flow, name)) / chain.standard_error(name))
        for name in COMPARED
    ]
    assert max(gaps) > 6.0


def test_arguments_of_theory_and_simulation_have_the_same_names():
    theory = list(inspect.signature(replica.dynamics.integrate).parameters)
    simulation = list(inspect.signature(replica.simulate_online).parameters)
    shared = theory[: theory.index("t") + 1]
    assert simulation[: len(shared)] == shared
