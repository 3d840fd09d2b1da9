"""A failure is reported once per line of the caller, at that line, whichever door was taken."""

import math
import warnings

import numpy as np
import pytest

import replica
from replica import ConvergenceWarning, Status
from replica.batch_norm import _finite_batch as finite_batch

LOADS = [1.0, 2.0]
LEARN = {"gamma0": 1.0, "R0": 0.1, "L0": 1.0, "learning_rate": 2.1}
ONLINE = {"N": 50, "student": "linear", "learning_rate": 4.0, "t": 100.0, "progress": False}
TRAIN = {"N": 40, "batch_size": 40, "learning_rate": 5.0, "epochs": 60, "record": 1}


def broken(**parameters):
    raise ArithmeticError("no value")


DOORS = {
    "gen_error": 'replica.gen_error(LOADS, 0.25, student="relu")',
    "gen_error of a scalar": 'replica.gen_error(1.0, 0.25, student="relu")',
    "gen_error of a general student": 'replica.gen_error(0.3, 0.1, student="softplus")',
    "solve_equilibrium": 'replica.solve_equilibrium(LOADS, 0.25, student="relu")',
    "solve_equilibrium of a general student": (
        'replica.solve_equilibrium(0.3, 0.1, student="softplus")'
    ),
    "optimal_zeta": 'replica.optimal_zeta(LOADS, 0.25, student="relu")',
    "solve_output_penalty": 'replica.solve_output_penalty(LOADS, 0.25, 0.0, 1.0, student="relu")',
    "bn_equilibrium": 'replica.bn_equilibrium(2.0, 0.25, batch_size=8, theory="finite-batch")',
    "bn_gen_error": 'replica.bn_gen_error(2.0, 0.25, batch_size=8, theory="finite-batch")',
    "plot_curve": 'replica.plot_curve(LOADS, 0.25, student="relu")',
    "dynamics.integrate": ('replica.dynamics.integrate(student="linear", t=[0.0, 1e6], **LEARN)'),
    "dynamics.fixed_point": (
        'replica.dynamics.fixed_point(student="linear", learning_rate=2.5, S=0.3)'
    ),
    "simulate_online": "replica.simulate_online(S=0.25, **ONLINE)",
    "simulate_training": "replica.simulate_training(1.0, 0.25, progress=False, **TRAIN)",
    "sweep": 'replica.sweep(broken, {"alpha": LOADS}, store=store, progress=False, retries=0)',
}


@pytest.fixture
def nothing_converges(monkeypatch):
    def failing(alpha, S, zeta, slope, columns, start, stop):
        for column in columns[:9]:
            column[:] = math.nan
        columns.status[:] = Status.MAX_ITERATIONS

    def failing_errors(slope, alpha, S, zeta, eps, start, stop):
        eps[:] = math.nan

    def failing_optimum(alpha, S, slope, best, start, stop):
        best[:] = math.nan

    monkeypatch.setattr("replica.equilibrium._solve.solve_piecewise", failing)
    front = "replica.equilibrium._generalization."
    monkeypatch.setattr(front + "piecewise_error", lambda *_: math.nan)
    monkeypatch.setattr(front + "piecewise_errors", failing_errors)
    monkeypatch.setattr(front + "optimal_zeta_piecewise", failing_optimum)
    monkeypatch.setattr(finite_batch, "_MAX_OUTER", 2)


@pytest.mark.usefixtures("nothing_converges")
@pytest.mark.parametrize("call", DOORS.values(), ids=DOORS)
def test_each_failing_line_gives_one_warning_at_that_line(call, tmp_path):
    program = compile(f"{call}\n{call}\n", "their_script.py", "exec")
    with warnings.catch_warnings(record=True) as caught:
        warnings.resetwarnings()
        warnings.simplefilter("default")  # once per line, as Python does by itself in __main__
        exec(program, {**globals(), "store": tmp_path / "runs.sqlite"})
    found = [(str(w.filename), w.lineno) for w in caught]
    assert found == [("their_script.py", 1), ("their_script.py", 2)], [str(w) for w in caught]
    kind = RuntimeWarning if "sweep" in call else ConvergenceWarning
    assert all(w.category is kind for w in caught)


def test_a_warning_of_a_function_that_the_package_calls_names_its_line(tmp_path):
    program = (
        "def theirs(alpha):\n"
        "    return {'error': replica.gen_error(alpha, 0.1, student='softplus')}\n"
        "replica.sweep(theirs, {'alpha': [0.3]}, name='theirs', store=store, progress=False)\n"
    )
    names = {"replica": replica, "store": tmp_path / "runs.sqlite"}
    with pytest.warns(ConvergenceWarning) as caught:
        exec(compile(program, "their_script.py", "exec"), names)
    assert [(w.filename, w.lineno) for w in caught] == [("their_script.py", 2)]


def test_optimal_zeta_that_was_not_found_is_not_a_number(nothing_converges):
    with pytest.warns(ConvergenceWarning, match="2 of 2 points did not converge"):
        found = replica.optimal_zeta(LOADS, 0.25, student="relu")
    assert np.isnan(found).all()
