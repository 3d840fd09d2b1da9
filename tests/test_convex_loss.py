"""Convex losses and labels that are signs: references, limits, identities, bad input."""

from __future__ import annotations

import math
import warnings
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.optimize import minimize_scalar
from scipy.special import expit, ndtr

from reference import convex_loss as reference
from reference.tables import FOLDER, read
from replica import (
    ConvergenceWarning,
    Flip,
    Loss,
    Status,
    epsilon_insensitive,
    gen_error,
    huber,
    optimal_zeta,
    quantile,
    separability_threshold,
    solve_equilibrium,
)

QUANTITIES = ("gamma", "R", "chi", "gen_error")
ROWS = read(FOLDER / "convex_loss.csv")
PUBLISHED = [row for row in read(FOLDER / "classification_rs.csv") if row["loss"] != "bayes"]
MARGIN = ("hinge", "squared-hinge", "logistic", "exponential")
RESIDUAL = ("absolute", "huber", "epsilon-insensitive", "quantile:0.9")
SIGNS = {"teacher": "sign", "noise": "input"}


def of_row(row):
    noise = Flip(float(row["flip"])) if row["teacher"] == "sign" else "output"
    numbers = (float(row[key]) for key in ("alpha", "S", "zeta"))
    return solve_equilibrium(*numbers, loss=row["loss"], teacher=row["teacher"], noise=noise)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "-".join(list(row.values())[:6]))
def test_reference_at_the_corners(row):
    found = of_row(row)
    assert found.status == Status.CONVERGED
    for key in QUANTITIES:
        assert float(getattr(found, key)) == pytest.approx(float(row[key]), rel=1e-12), key


@pytest.mark.parametrize("index", [2, 9])
def test_the_script_of_the_reference_gives_its_table(index):
    row, problem = ROWS[index], reference.PROBLEMS[index]
    gamma, R, chi, error = (float(row[key]) for key in QUANTITIES)
    m = gamma * R
    start = (chi, m, gamma**2 - m**2) if problem[1] == "sign" else (chi, error + problem[4])
    again = reference.solve(problem, start)
    for key, value in zip(QUANTITIES, again, strict=True):
        if math.isfinite(value):
            assert abs(value / reference.mpf(row[key]) - 1) < 1e-19, key


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: "-".join(list(row.values())[:3]))
def test_rows_that_two_other_programs_agree_on(row):
    found = solve_equilibrium(
        float(row["alpha"]), 0.0, float(row["zeta"]), loss=row["loss"], teacher="sign"
    )
    m = found.gamma * found.R
    for value, key in (
        (m, "m"),
        (found.q, "q"),
        (found.chi, "chi"),
        (found.error_rate, "error_rate"),
    ):
        assert float(value) == pytest.approx(float(row[key]), abs=1e-12, rel=1e-12)


@pytest.mark.parametrize(
    ("alpha", "error"), [(1.0, 0.25707544), (2.0, 0.18602790), (5.0, 0.11340116)]
)
def test_best_ridge_decay_on_noiseless_signs(alpha, error):
    best = math.pi / 2 - 1
    assert optimal_zeta(alpha, 0.0, teacher="sign") == pytest.approx(best, rel=1e-11)
    found = solve_equilibrium(alpha, 0.0, best, teacher="sign")
    assert float(found.error_rate) == pytest.approx(error, abs=6e-9)


@pytest.mark.parametrize(("margin", "load"), [(0.5, 0.961205), (1.0, 0.519572)])
def test_capacity_with_margin_of_random_labels(margin, load):
    found = solve_equilibrium(load, 0.0, 0.0, loss="hinge", teacher="sign", noise=Flip(0.5))
    assert float(found.margin) == pytest.approx(margin, abs=2e-6)
    assert float(found.R) == pytest.approx(0.0, abs=1e-12)
    assert separability_threshold(noise=Flip(0.5)) == pytest.approx(2.0, rel=1e-13)
    assert separability_threshold(1e12) == pytest.approx(2.0, rel=1e-10)


@pytest.mark.parametrize("S", [0.01, 0.5, 20.0])
@pytest.mark.parametrize("noise", ["input", "logistic"])
def test_separability_is_the_formula_and_where_the_margin_vanishes(S, noise):
    def plus(v):  # probability of a label + at field v
        if noise == "logistic":
            return expit(v * math.pi / math.sqrt(3 * S))
        return ndtr(v / math.sqrt(S))

    def mean(t):
        def inside(v):
            a = t * v
            part = (1 + a * a) * ndtr(a) + a * math.exp(-a * a / 2) / math.sqrt(2 * math.pi)
            return 2 * plus(v) * part * math.exp(-v * v / 2)

        edges = np.linspace(-9, 9, 13)
        pieces = [quad(inside, a, b, epsabs=1e-14)[0] for a, b in pairwise(edges)]
        return sum(pieces) / math.sqrt(2 * math.pi)

    least = minimize_scalar(mean, bracket=(-1.0, 0.0), options={"xtol": 1e-10}).fun
    threshold = separability_threshold(S, noise=noise)
    assert threshold == pytest.approx(1 / least, rel=1e-10)
    near = np.array([1e-3, 1e-4]) * threshold
    labels = {"loss": "hinge", "teacher": "sign", "noise": noise}
    below = solve_equilibrium(threshold - near, S, 0.0, **labels)
    assert (below.margin > 0).all()
    assert below.margin[1] == pytest.approx(0.1 * below.margin[0], rel=0.05)
    above = solve_equilibrium(threshold + near, S, 0.0, **labels)
    assert np.isfinite(above.gamma).all()
    assert (above.gamma > 100).all()
    assert np.isnan(above.margin).all()


def test_clean_labels_can_always_be_separated():
    assert separability_threshold([0.0, 0.0]).tolist() == [math.inf, math.inf]
    assert separability_threshold(noise=Flip(1.0)) == math.inf


@pytest.mark.parametrize("noise", ["input", "logistic", Flip(0.1)])
def test_hinge_and_logistic_go_to_the_maximal_margin(noise):
    alpha = [0.3, 1.0]
    found = [
        solve_equilibrium(alpha, 0.3, 0.0, loss=loss, teacher="sign", noise=noise)
        for loss in MARGIN
    ]
    for other in found[1:]:
        assert pytest.approx(found[0].R, rel=1e-13) == other.R
        assert other.margin == pytest.approx(found[0].margin, rel=1e-13)
    assert found[0].gamma * found[0].margin == pytest.approx(1.0)
    assert (found[0].status == Status.CONVERGED).all()
    assert (found[2].status == Status.DIVERGENT).all()
    assert np.isinf(found[2].gamma).all()
    assert np.isinf([f.chi for f in found]).all()
    assert all(f.interpolating.all() and (f.train_error_rate == 0).all() for f in found)
    small = solve_equilibrium(alpha, 0.3, 1e-9, loss="hinge", teacher="sign", noise=noise)
    assert pytest.approx(found[0].R, rel=1e-6) == small.R
    assert small.gamma == pytest.approx(found[0].gamma, rel=1e-6)


def test_maximal_stability_at_large_load():
    found = solve_equilibrium([1e3, 1e4], 0.0, 0.0, loss="hinge", teacher="sign")
    assert np.array([1e3, 1e4]) * found.error_rate == pytest.approx(0.5005, abs=3e-5)


@pytest.mark.parametrize("loss", MARGIN)
@pytest.mark.parametrize("S", [0.0, 0.7])
def test_large_decay_is_hebb(loss, S):
    alpha = np.array([0.1, 3.0])
    found = solve_equilibrium(alpha, S, 1e9, loss=loss, **SIGNS)
    hebb = 1 / np.sqrt(1 + math.pi / 2 * (1 + S) / alpha)
    assert pytest.approx(hebb, rel=1e-7) == found.R


@pytest.mark.parametrize("alpha", [0.4, 1.0, 2.5])
@pytest.mark.parametrize("zeta", [0.0, 0.2])
def test_wide_huber_is_ridge(alpha, zeta):
    S = 0.3
    wide = solve_equilibrium(alpha, S, zeta, loss=huber(1e9))
    ridge = solve_equilibrium(alpha, S, zeta)
    for key in (*QUANTITIES, "train_error", "train_loss", "test_loss", "replicon", "energy"):
        # at alpha = 1 without decay both are infinite
        assert float(getattr(wide, key)) == pytest.approx(
            float(getattr(ridge, key)), rel=1e-12, abs=1e-15
        ), key
    assert wide.status == ridge.status


def test_median_is_half_the_absolute_loss_and_a_thin_tube_nearly_it():
    absolute = solve_equilibrium(2.0, 0.3, 0.2, loss="absolute")
    median = solve_equilibrium(2.0, 0.3, 0.1, loss="quantile")
    thin = solve_equilibrium(2.0, 0.3, 0.2, loss=epsilon_insensitive(1e-13))
    for key in ("gamma", "R", "gen_error"):
        assert getattr(median, key) == pytest.approx(getattr(absolute, key), rel=1e-13)
        assert getattr(thin, key) == pytest.approx(getattr(absolute, key), rel=1e-12)
    mirrored = [gen_error(2.0, 0.3, 0.2, loss=quantile(level)) for level in (0.2, 0.8)]
    assert mirrored[0] == pytest.approx(mirrored[1], rel=1e-13)


def test_residual_losses_interpolate_with_the_least_norm():
    ridge = solve_equilibrium(0.6, 0.3, 0.0)
    for loss in ("absolute", "huber:0.2", "quantile:0.7"):
        found = solve_equilibrium(0.6, 0.3, 0.0, loss=loss)
        assert found.interpolating
        assert math.isinf(found.chi)
        assert float(found.train_loss) == 0.0
        assert float(found.gen_error) == pytest.approx(float(ridge.gen_error), rel=1e-14)
    tube = solve_equilibrium([0.6, 1.2, 4.0], 0.3, 0.0, loss=epsilon_insensitive(0.5))
    assert tube.interpolating.tolist() == [True, True, False]
    small = solve_equilibrium([0.6, 1.2, 4.0], 0.3, 1e-10, loss=epsilon_insensitive(0.5))
    assert small.gamma == pytest.approx(tube.gamma, rel=1e-7)
    assert tube.train_error[0] < 0.25  # inside the tube


def test_absolute_loss_recovers_the_teacher_in_spite_of_decay():
    # seen in a simulation at N = 200: exact up to a decay between 0.1 and 1 at this load
    found = solve_equilibrium(1.1, 0.0, [0.1, 1.0], loss="absolute")
    assert (found.R[0], found.gen_error[0]) == (1.0, 0.0)
    assert found.gen_error[1] == pytest.approx(0.24592278, abs=1e-8)


CASES = [
    *((loss, "linear", "output") for loss in RESIDUAL),
    *((loss, "sign", "input") for loss in (*RESIDUAL, *MARGIN, "square")),
    ("hinge", "sign", "logistic"),
    ("logistic", "sign", Flip(0.2)),
    ("absolute", "linear", "logistic"),
    ("huber", "erf", "output"),
    ("quantile:0.8", "relu", "input"),
    ("absolute", "sign", "output"),
]


@pytest.mark.parametrize(("loss", "teacher", "noise"), CASES)
def test_energy_falls_with_decay_and_load_as_it_must(loss, teacher, noise):
    """The envelope theorem: dE/dzeta = q/2; and test loss is the growth of the rest with load."""
    alpha, S, zeta, step = 1.7, 0.3, 0.4, 1e-3
    points = zeta * np.exp(step * np.array([-2, -1, 0, 1, 2]))
    found = solve_equilibrium(alpha, S, points, loss=loss, teacher=teacher, noise=noise)
    assert found.converged.all()
    slope = np.array([1, -8, 0, 8, -1]) @ found.energy / (12 * step)
    assert slope == pytest.approx(zeta * found.q[2] / 2, rel=1e-8)
    assert (found.train_loss < found.test_loss).all()
    assert found.rs_stable.all()
    assert (found.replicon > 0).all()


def test_general_teachers_meet_the_general_solver_for_a_square_loss():
    for teacher, noise in (("erf", "output"), ("relu", "output"), ("tanh", "input")):
        wide = solve_equilibrium(1.5, 0.2, 0.3, loss=huber(1e6), teacher=teacher, noise=noise)
        square = solve_equilibrium(1.5, 0.2, 0.3, teacher=teacher, noise=noise)
        for key in (*QUANTITIES, "train_error"):
            value = float(getattr(square, key))
            assert float(getattr(wide, key)) == pytest.approx(value, rel=1e-9), (teacher, key)
    logistic = solve_equilibrium(1.5, 0.2, 0.3, loss=huber(1e6), noise="logistic")
    assert float(logistic.gen_error) == pytest.approx(gen_error(1.5, 0.2, 0.3), rel=1e-9)
    assert gen_error(1.5, 0.2, 0.3, noise="logistic") == pytest.approx(
        gen_error(1.5, 0.2, 0.3), rel=1e-14
    )


OWN = {
    "logistic": Loss(lambda x: np.logaddexp(0.0, -x), of="margin"),
    "hinge": Loss(lambda x: max(0.0, 1.0 - x), kinks=(1.0,), of="margin"),
    "huber": Loss(lambda r: r * r / 2 if abs(r) < 1 else abs(r) - 0.5, kinks=(-1.0, 1.0)),
    "absolute": Loss(abs, kinks=(0.0,)),
}


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("zeta", [0.0, 1e-4, 0.5])
def test_functions_of_users_are_the_named_losses(name, zeta):
    signs = SIGNS if name in ("logistic", "hinge") else {}
    alpha = [0.7, 2.0, 20.0]
    own = solve_equilibrium(alpha, 0.3, zeta, loss=OWN[name], **signs)
    named = solve_equilibrium(alpha, 0.3, zeta, loss=name, **signs)
    assert own.status.tolist() == named.status.tolist()
    for key in ("gamma", "R", "gen_error", "train_loss", "test_loss", "margin"):
        assert getattr(own, key) == pytest.approx(
            getattr(named, key), rel=1e-10, abs=1e-14, nan_ok=True
        ), key


@pytest.mark.parametrize(
    ("loss", "labels"),
    [("hinge", SIGNS), ("logistic", SIGNS), ("huber:0.5", {}), ("absolute", {}), ("square", SIGNS)],
)
def test_optimal_decay_is_a_minimum(loss, labels):
    best = optimal_zeta(2.0, 0.3, loss=loss, **labels)
    around = best * np.exp(np.array([-0.02, 0.0, 0.02]))
    errors = gen_error(2.0, 0.3, around, loss=loss, **labels)
    assert errors[1] < min(errors[0], errors[2])
    # of a parabola through the three: the minimum is in the middle
    assert abs(errors[2] - errors[0]) < 0.05 * (errors[0] + errors[2] - 2 * errors[1])


def test_optimal_decay_where_it_is_known():
    best = optimal_zeta(1.3, 0.2, teacher="erf")
    errors = solve_equilibrium(1.3, 0.2, best * np.array([0.9, 1.0, 1.1]), teacher="erf").gen_error
    assert errors[1] < min(errors[0], errors[2])
    assert best == pytest.approx((np.arcsin(0.5) * 2 / math.pi + 0.2) * math.pi - 1, rel=1e-10)
    assert optimal_zeta(2.0, 0.3, loss=huber(1e6)) == pytest.approx(0.3, rel=1e-10)
    assert optimal_zeta(1.5, 0.0, loss="absolute") == 0.0
    assert optimal_zeta(0.05, 2.0, loss="hinge", **SIGNS) > 1.0


@settings(max_examples=40, deadline=None)
@given(
    loss=st.sampled_from([*RESIDUAL, *MARGIN]),
    log_alpha=st.floats(-2, 3),
    S=st.one_of(st.just(0.0), st.floats(-6, 2).map(lambda x: 10**x)),
    zeta=st.one_of(st.just(0.0), st.floats(-8, 4).map(lambda x: 10**x)),
)
def test_anything_in_the_box_is_solved(loss, log_alpha, S, zeta):
    labels = SIGNS if loss in MARGIN else {}
    found = solve_equilibrium(10**log_alpha, S, zeta, loss=loss, **labels)
    assert found.status in (Status.CONVERGED, Status.DIVERGENT)
    assert -1 <= found.R <= 1
    assert found.train_loss >= -1e-14
    if found.status == Status.CONVERGED:
        assert found.residual < 1e-10


def test_statuses_where_there_is_no_minimum():
    falling = Loss(np.exp)
    with pytest.warns(ConvergenceWarning, match="needs zeta > 0"):
        assert solve_equilibrium(2.0, 0.1, 0.0, loss=falling).status == Status.NEEDS_DECAY
    assert solve_equilibrium(2.0, 0.1, 0.5, loss=falling).converged
    # the direction depends on a tail that is no exponential
    heavy = Loss(lambda x: 1 / (1 + x) if x > 0 else 1 - x, kinks=(0.0,), of="margin")
    with pytest.warns(ConvergenceWarning, match="needs zeta > 0"):
        found = solve_equilibrium(1.0, 0.0, 0.0, loss=heavy, teacher="sign")
    assert found.status == Status.NEEDS_DECAY
    assert np.isnan(found.gamma)
    peak = solve_equilibrium(1.0, 0.3, 0.0, loss="absolute")
    assert peak.status == Status.DIVERGENT
    assert peak.gen_error == math.inf


def test_a_loss_that_is_least_at_no_weights():
    found = solve_equilibrium(2.0, 0.1, 0.3, loss=epsilon_insensitive(1.0), **SIGNS)
    assert found.converged
    assert (found.gamma, found.gen_error, found.error_rate) == (0.0, 1.0, 0.5)


def test_exponential_loss_on_fresh_samples_is_summed_far_out():
    found = solve_equilibrium(3.0, 0.4, [0.5, 1e-3], loss="exponential", **SIGNS)
    m = found.gamma * found.R
    for k in range(2):
        q, s2 = found.q[k], found.q[k] - m[k] ** 2

        def inside(z, k=k, s2=s2):  # over y = 1, given z
            return ndtr(z / math.sqrt(0.4)) * math.exp(-m[k] * z + s2 / 2 - z * z / 2)

        exact = 2 * quad(inside, -60, 20, points=[-m[k], 0], limit=400)[0] / math.sqrt(2 * math.pi)
        assert found.test_loss[k] == pytest.approx(exact, rel=1e-8), q


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"loss": "hinge"}, "'hinge' is a function of y u and needs labels that are signs"),
        ({"loss": "hinge", "teacher": "sign"}, "got teacher 'sign' with noise 'output'"),
        ({"loss": "huber", "student": "relu"}, "loss 'huber' serves student 'linear' only"),
        ({"noise": "logistic", "student": "relu"}, "noise 'logistic' serves student 'linear'"),
        ({"loss": "huber", "noise": Flip(0.1)}, "Flip turns signs and needs teacher 'sign'"),
        ({"loss": "huber", "beta": 2.0}, "a temperature, and theory 'published'"),
        ({"loss": "huber", "theory": "published"}, "a temperature, and theory 'published'"),
        ({"loss": "huber", "noise": "logistic", "teacher": "erf"}, "'logistic' serves teachers"),
        ({"loss": "hing"}, "did you mean hinge"),
        ({"noise": "imput"}, "did you mean input"),
    ],
)
def test_what_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        solve_equilibrium(2.0, 0.1, 0.5, **arguments)


def test_separability_is_of_signs():
    with pytest.raises(ValueError, match="separability_threshold needs labels that are signs"):
        separability_threshold(0.1, teacher="linear")
    with pytest.raises(ValueError, match="S must lie in"):
        separability_threshold(-1.0)


def test_shapes_and_tables():
    found = solve_equilibrium([[1.0], [2.0]], 0.1, [0.1, 1.0, 10.0], loss="logistic", **SIGNS)
    assert found.gamma.shape == found.energy.shape == found.error_rate.shape == (2, 3)
    assert found.problem["loss"].name == "logistic"
    assert isinstance(gen_error(1.0, 0.1, 0.1, loss="hinge", **SIGNS), float)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        empty = solve_equilibrium([], 0.1, 0.1, loss="absolute")
    assert empty.gamma.shape == (0,)
    assert found.gen_error == pytest.approx(found.error_rate)
    residual = solve_equilibrium(2.0, 0.1, 0.5, loss="huber", **SIGNS)
    mean_square = 1 - 2 * math.sqrt(2 / math.pi) * residual.gamma * residual.R + residual.q
    assert residual.gen_error == pytest.approx(float(mean_square))
