"""Losses and labels: values, slopes, names, and what is refused."""

from __future__ import annotations

import math

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import replica
from replica.labels import Flip, as_noise, check_labels, labels_are_signs
from replica.losses import (
    ABSOLUTE,
    EXPONENTIAL,
    HINGE,
    LOGISTIC,
    SQUARE,
    SQUARED_HINGE,
    Loss,
    as_loss,
    epsilon_insensitive,
    huber,
    quantile,
)
from replica.students import LINEAR, SIGN

FORMULAS = {
    SQUARE: lambda r: r * r / 2,
    ABSOLUTE: abs,
    huber(1.5): lambda r: r * r / 2 if abs(r) < 1.5 else 1.5 * abs(r) - 1.125,
    epsilon_insensitive(0.3): lambda r: max(0.0, abs(r) - 0.3),
    quantile(0.9): lambda r: max(0.9 * r, -0.1 * r),
    HINGE: lambda x: max(0.0, 1 - x),
    SQUARED_HINGE: lambda x: max(0.0, 1 - x) ** 2 / 2,
    LOGISTIC: lambda x: math.log1p(math.exp(-x)),
    EXPONENTIAL: lambda x: math.exp(-x),
}
PUBLIC = {name: getattr(replica, name) for name in replica.__all__}
IDS = [loss.name for loss in FORMULAS]


@pytest.mark.parametrize("loss", FORMULAS, ids=IDS)
@given(x=st.floats(-20, 20))
def test_named_losses_have_the_values_of_their_formulas(loss, x):
    assert loss.values(x) == pytest.approx(FORMULAS[loss](x), rel=1e-13, abs=1e-15)


@pytest.mark.parametrize("loss", FORMULAS, ids=IDS)
@given(x=st.floats(-9, 9))
def test_slopes_and_curvatures_are_those_of_a_table_of_the_values(loss, x):
    kinks = loss.strips.breaks if loss.strips else ()
    if kinks and min(abs(x - kink) for kink in kinks) < 1e-9:
        return
    own = Loss(FORMULAS[loss], kinks=kinks, of=loss.of)
    scale = 1 + float(loss.values(x))
    assert float(loss.slopes(x)) == pytest.approx(float(own.slopes(x)), abs=1e-11 * scale)
    assert float(loss.curvatures(x)) == pytest.approx(float(own.curvatures(x)), abs=1e-8 * scale)


@pytest.mark.parametrize("loss", FORMULAS, ids=IDS)
def test_names_lead_back_to_the_loss_and_reprs_are_code(loss):
    assert as_loss(loss.name) == loss
    assert eval(repr(loss), PUBLIC) == loss
    assert hash(as_loss(loss.name)) == hash(loss)


def test_strips_are_where_the_loss_is_quadratic():
    strips = huber(2.0).strips
    assert strips.breaks == (-2.0, 2.0)
    assert strips.coefficients == ((-2.0, -2.0, 0.0), (0.0, 0.0, 0.5), (-2.0, 2.0, 0.0))
    assert LOGISTIC.strips is None


def test_parameters_after_a_colon():
    assert as_loss("huber:0.5") == huber(0.5)
    assert as_loss("quantile:0.9") == quantile(0.9)
    assert as_loss("epsilon-insensitive") == epsilon_insensitive(0.1)
    assert as_loss(quantile(1 / 3).name) == quantile(1 / 3)
    assert epsilon_insensitive(0.0) == ABSOLUTE


def test_argument_of_the_loss():
    assert SQUARE.argument([1.0, -1.0], 0.25).tolist() == [0.75, -1.25]
    assert HINGE.argument([1.0, -1.0], 0.25).tolist() == [0.25, -0.25]


@numba.njit
def quartic(r):
    return r**4


def test_functions_of_users_are_tabulated():
    loss = Loss(quartic)
    assert loss.slopes([-3.0, 0.5, 40.0]) == pytest.approx([-108.0, 0.5, 256000.0], rel=1e-11)
    assert loss.curvatures([-3.0, 0.5]) == pytest.approx([108.0, 3.0], rel=1e-9)
    given = Loss(quartic, lambda r: 4 * r**3, of="margin")
    assert repr(given) == "Loss(quartic, derivative=<lambda>, of='margin')"
    assert (loss.name, given.name) == ("quartic", "quartic")


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Loss(np.sin), ValueError, "convex, but the slope of sin falls near x ="),
        (lambda: Loss(np.sign, kinks=(0.0,)), ValueError, "convex, but sign jumps at x = 0"),
        (lambda: Loss(lambda r: -abs(r), kinks=(0,)), ValueError, "falls near x = 0"),
        (lambda: Loss(lambda r: -1e-3 * r * r), ValueError, "must be convex"),
        (lambda: Loss(abs), ValueError, "the slope of function jumps at x = 0"),
        (lambda: Loss(abs, kinks=(1.0, 0.0)), ValueError, "kinks must be strictly increasing"),
        (lambda: Loss(quartic, np.cos), ValueError, "derivative is not the derivative of function"),
        (lambda: Loss(3.0), TypeError, "function must be a function"),
        (lambda: Loss(lambda r: "a"), TypeError, "function must return one real number"),
        (lambda: Loss(quartic, of="error"), ValueError, "of must be one of"),
        (lambda: huber(0.0), ValueError, "delta must lie in"),
        (lambda: quantile(1.0), ValueError, r"level must lie in \(0, 1\)"),
        (lambda: epsilon_insensitive(-1.0), ValueError, "epsilon must lie in"),
        (lambda: as_loss("higne"), ValueError, "did you mean hinge"),
        (lambda: as_loss("huber:x"), ValueError, "takes a number after the colon"),
        (lambda: as_loss("hinge:2"), ValueError, "loss must be one of"),
        (lambda: as_loss(abs), TypeError, r"Loss\(function, of="),
        (lambda: Flip(1.5), ValueError, r"probability must lie in \[0, 1\]"),
        (lambda: as_noise("imput"), ValueError, "did you mean input"),
        (lambda: as_noise(0.1), TypeError, "noise must be one of"),
        (lambda: check_labels(HINGE, LINEAR, "output"), ValueError, "'hinge'.*signs.*'linear'"),
        (lambda: check_labels(HINGE, SIGN, "output", 0.1), ValueError, "'sign'.*'output'"),
        (lambda: check_labels(SQUARE, LINEAR, Flip(0.1)), ValueError, "needs teacher 'sign'"),
    ],
)
def test_what_is_refused(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_labels_that_are_signs():
    assert labels_are_signs(SIGN, "output", 0.0)
    assert labels_are_signs(SIGN, "logistic", np.array([0.0, 1.0]))
    assert not labels_are_signs(SIGN, "output", np.array([0.0, 1.0]))
    assert not labels_are_signs(LINEAR, "input", 0.0)
    check_labels(HINGE, SIGN, Flip(0.2), 1.0)
    check_labels(ABSOLUTE, LINEAR, "logistic", 1.0)
    assert as_noise(Flip(0.25).name) == Flip(0.25)
