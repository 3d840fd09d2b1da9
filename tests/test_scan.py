"""A small part of the scan of `solver_scan.py`, and that it sees what it should."""

import numpy as np
import pytest

import replica
import solver_scan
from replica import Status


def test_lines_through_special_values_are_smooth():
    points, failures = solver_scan.scan(100, 150, seed=1)
    assert points == 15_000
    assert failures == []


def test_random_points_of_the_whole_box_have_a_value():
    assert solver_scan.box(2_000, seed=1) == []


def test_corners_agree_with_the_reference_to_the_condition_of_the_problem():
    worst, words = solver_scan.aim(8, seed=2)[0]
    assert worst <= 1, words


@pytest.mark.filterwarnings("ignore::replica.ConvergenceWarning")
def test_scan_notices_a_value_that_is_off_and_one_that_is_missing(monkeypatch):
    exact = replica.solve_equilibrium

    def spoiled(alpha, *arguments, **options):
        solved = exact(alpha, *arguments, **options)
        solved.gen_error[70:72] *= 1 + 1e-6
        solved.status[5:6] = Status.MAX_ITERATIONS
        return solved

    monkeypatch.setattr(replica, "solve_equilibrium", spoiled)
    _, failures = solver_scan.scan(20, 150, seed=1)
    text = "\n".join(failures)
    assert text.count("no convergence") >= 10
    assert np.sum(["gen_error is off" in failure for failure in failures]) >= 10
