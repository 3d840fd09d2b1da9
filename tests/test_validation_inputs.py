"""The claims on inputs, small: the true theory passes, and wrong constants come out red."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from replica import RandomFeatures, Spectrum
from validation import inputs
from validation.__main__ import SCRIPTS
from validation._claims import judge
from validation._runs import Setup


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    """Small; the runs are shared by the tests of this file."""
    return Setup(tmp_path_factory.mktemp("inputs"), N=512, n_runs=6, sizes=(64, 128))


def features_with(factor: float) -> Spectrum:
    """The features of the claims, with `factor` times their kappa*^2."""
    right = inputs.FEATURES
    s = right.modes.variances + (factor - 1.0) * right.kappa_star**2
    s = np.where(s > 1e-12, s, 0.0)
    covariance = np.sqrt(right.modes.cross_powers)  # with the teacher: knows nothing of kappa*
    teacher = np.divide(covariance, s, out=np.zeros(s.size), where=s > 0.0)
    explained = float(right.modes.weights @ (s * teacher**2))
    return Spectrum(s, teacher, right.modes.weights, max(1.0 - explained, 0.0))


def test_script_is_registered():
    assert "inputs" in SCRIPTS


@pytest.mark.parametrize(
    ("factor", "red"), [(1.0, False), (0.0, True), (2.0, True)], ids=["right", "none", "doubled"]
)
def test_features_with_a_wrong_kappa_star_are_red(setup, factor, red):
    points = inputs.linear_points(
        setup, "features", problems=[inputs.SQUARE], inputs=features_with(factor)
    )
    assert (judge(points).colour == "red") == red


def test_wrong_kappa_star_is_a_change_of_the_right_one():
    modes, right = features_with(1.0).modes, inputs.FEATURES.modes
    np.testing.assert_allclose(modes.variances, right.variances, rtol=1e-14)
    np.testing.assert_allclose(modes.powers, right.powers, rtol=1e-12, atol=1e-14)
    assert modes.unexplained == pytest.approx(right.unexplained, abs=1e-12)


def test_clusters_of_another_variance_are_red(setup, monkeypatch):
    monkeypatch.setattr(inputs, "SEPARATED", ("square",))
    assert judge(inputs.cluster_points(setup)).colour != "red"
    monkeypatch.setattr(inputs, "CLUSTERS", inputs.Clusters(0.75, 0.3))
    assert judge(inputs.cluster_points(setup)).colour == "red"


def test_error_peaks_where_there_are_as_many_features_as_samples(setup):
    points = inputs.peak_points(setup)
    assert judge(points).colour == "green"
    elsewhere = [replace(p, simulation=-p.simulation) for p in points]  # were it beside p = n
    assert judge(elsewhere).colour == "red"


def test_exponent_of_the_tail_is_resolved(tmp_path, monkeypatch):
    small = Setup(tmp_path, N=256, n_runs=4, sizes=(64, 128))
    monkeypatch.setattr(inputs, "TAIL_RUNS", 1000)
    monkeypatch.setattr(inputs, "TAILS", {(2.0, 3.0): 2.0})
    assert judge(inputs.exponent_points(small)).colour != "red"
    assert judge(inputs.tail_error_points(small)).colour == "green"
    monkeypatch.setattr(inputs, "TAILS", {(2.0, 3.0): 3.0})
    assert judge(inputs.exponent_points(small)).colour == "red"


def test_tail_is_that_of_the_shortest_weights():
    # a start that is not 0 stays in the directions that no sample sees, and is 4 times the error
    runs = inputs.tail(a=2.0, b=8.0, size=256, n=32, n_runs=40, seed=1)["runs"]
    theory = float(inputs.gen_error(32 / 256, 0.0, 0.0, inputs=inputs.PowerLaw(2.0, 8.0, 256)))
    assert runs.mean() == pytest.approx(math.log(theory), abs=0.5)


def test_stored_runs_name_their_inputs():
    assert inputs.inputs_of("power") is inputs.POWER
    narrow = inputs.inputs_of("features", 0.5)
    assert isinstance(narrow, RandomFeatures)
    assert narrow.ratio == 0.5
