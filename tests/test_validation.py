"""The argument checks: what passes unchanged, and what each message says."""

import math

import numpy as np
import pytest

import replica
from replica._core.arguments import broadcast, choice, integer, real_array, real_scalar


@pytest.mark.parametrize("value", [1, 1.5, np.float32(0.5), np.int8(3), [1, 2], np.ones((2, 0))])
def test_real_array_accepts_integers_and_floats(value):
    array = real_array("x", value)
    assert array.dtype == np.float64
    np.testing.assert_array_equal(array, np.asarray(value, dtype=float))


def test_real_array_copies():
    value = np.ones(3)
    assert not np.shares_memory(real_array("x", value), value)


@pytest.mark.parametrize(
    ("value", "limits", "words"),
    [
        (0.0, {"low": 0.0, "low_open": True}, "x must lie in (0, inf), got 0.0"),
        (2.0, {"high": 1.0}, "x must lie in (-inf, 1], got 2.0"),
        (1.0, {"low": 0.0, "high": 1.0, "high_open": True}, "x must lie in [0, 1), got 1.0"),
        (-math.inf, {}, "x must lie in (-inf, inf), got -inf"),
        ([[0.0, math.nan]], {"low": 0.0}, "got nan (element [0, 1])"),
        (math.inf, {"low": 0.0}, "x must lie in [0, inf), got inf"),
        (math.nan, {"finite": False}, "x must lie in [-inf, inf], got nan"),
    ],
)
def test_real_array_names_value_and_range(value, limits, words):
    with pytest.raises(ValueError) as caught:
        real_array("x", value, **limits)
    assert words in str(caught.value)


def test_real_array_accepts_infinity_where_it_is_allowed():
    assert real_array("x", math.inf, low=0.0, finite=False) == math.inf


@pytest.mark.parametrize("value", [[1.0, 2.0], [], [[1.0]]])
def test_real_scalar_refuses_arrays(value):
    with pytest.raises(TypeError, match="x must be a single number"):
        real_scalar("x", value)


@pytest.mark.parametrize("value", [1.0, True, "3", None, np.float64(2), np.bool_(True)])
def test_integer_refuses_what_is_not_an_integer(value):
    with pytest.raises(TypeError, match="n must be an integer"):
        integer("n", value)


def test_integer_checks_its_range():
    assert integer("n", np.int32(4), low=1, high=4) == 4
    with pytest.raises(ValueError, match="n must be an integer >= 1, got 0"):
        integer("n", 0, low=1)
    with pytest.raises(ValueError, match="n must be an integer >= 1 and <= 4, got 5"):
        integer("n", 5, low=1, high=4)


def test_choice_lists_the_options():
    assert choice("method", "bn", ["bn", "wn"]) == "bn"
    with pytest.raises(ValueError, match=r"method must be one of \('bn', 'wn'\), got 'sgd'"):
        choice("method", "sgd", ["bn", "wn"])


def test_broadcast_names_the_shapes_that_clash():
    a, b = broadcast(a=np.ones((2, 1)), b=np.arange(3.0))
    assert a.shape == b.shape == (2, 3)
    assert a.flags.c_contiguous
    assert b.flags.owndata or b.base is not None
    with pytest.raises(ValueError, match=r"a \(2,\), b \(3,\)"):
        broadcast(a=np.ones(2), b=np.ones(3))


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda: real_array("x", -1.0, low=0.0), replica.ArgumentError),
        (lambda: integer("n", 0, low=1), replica.ArgumentError),
        (lambda: choice("method", "sgd", ["bn"]), replica.ArgumentError),
        (lambda: broadcast(a=np.ones(2), b=np.ones(3)), replica.ArgumentError),
        (lambda: replica.gen_error(-1.0, 0.25), replica.ArgumentError),
        (
            lambda: replica.gen_error(2.0, 0.25, student="erf", theory="published"),
            replica.ArgumentError,
        ),
        (
            lambda: replica.gen_error(2.0, 0.25, 1.0, theory="batch_norm"),
            replica.ArgumentError,
        ),
        (lambda: real_array("x", "1"), replica.ArgumentTypeError),
        (lambda: real_array("x", [[1.0], [1.0, 2.0]]), replica.ArgumentTypeError),
        (lambda: real_array("x", np.ma.array([1.0])), replica.ArgumentTypeError),
        (lambda: real_scalar("x", [1.0]), replica.ArgumentTypeError),
        (lambda: integer("n", 1.5), replica.ArgumentTypeError),
        (lambda: choice("method", 1, ["bn"]), replica.ArgumentTypeError),
        (lambda: replica.gen_error(2.0, 0.25, theory=1), replica.ArgumentTypeError),
    ],
)
def test_argument_errors_have_a_class_of_their_own(call, kind):
    with pytest.raises(ValueError if kind is replica.ArgumentError else TypeError) as caught:
        call()
    assert type(caught.value) is kind
