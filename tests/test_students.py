"""Students and teachers: what is taken for one, how they show themselves, who refuses whom."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest

import replica
from replica.students import (
    ERF,
    LINEAR,
    QUADRATIC,
    RELU,
    SIGN,
    SOFTPLUS,
    TANH,
    LeakyReLU,
    Student,
    as_piecewise,
    as_student,
)

BY_NAME = {
    "linear": LINEAR,
    "relu": RELU,
    "erf": ERF,
    "tanh": TANH,
    "softplus": SOFTPLUS,
    "quadratic": QUADRATIC,
    "sign": SIGN,
}


@pytest.mark.parametrize(("name", "student"), BY_NAME.items())
def test_as_student_takes_names_and_students(name, student):
    assert as_student(name) is student
    assert as_student(student) is student
    assert student.name == name
    assert repr(student) == name.upper()
    assert repr(pickle.loads(pickle.dumps(student))) == name.upper()


def test_as_student_takes_a_function_as_the_activation():
    assert as_student(math.tanh) == Student(math.tanh)
    assert as_student(np.tanh) == Student(np.tanh)
    double = lambda u: 2.0 * u  # noqa: E731
    assert as_student(double) == as_student(double) == Student(double)
    assert as_student(double) != as_student(lambda u: 2.0 * u)
    assert as_student(double).values([1.5, -2.0]).tolist() == [3.0, -4.0]


def test_as_student_checks_a_function_once():
    calls = []

    def counted(u):
        calls.append(u)
        return u

    as_student(counted)
    first = len(calls)
    as_student(counted)
    assert len(calls) == first > 0


def test_repr_of_a_student_says_what_it_is():
    def clip(u):
        return max(-1.0, min(1.0, u))

    def slope(u):
        return float(abs(u) < 1)

    assert repr(LeakyReLU(0.3)) == "LeakyReLU(0.3)"
    assert repr(LeakyReLU(0.123456789)) == "LeakyReLU(0.123456789)"
    assert [repr(LeakyReLU(s)) for s in (0, 1)] == ["RELU", "LINEAR"]
    assert repr(Student(math.tanh)) == "Student(tanh)"
    assert repr(Student(clip, slope, (-1.0, 1.0))) == (
        "Student(clip, derivative=slope, kinks=(-1.0, 1.0))"
    )
    assert repr(Student(lambda u: u)) == "Student(<lambda>)"


class _NotHashable:
    __hash__ = None  # type: ignore[assignment]

    def __call__(self, u):
        return u


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ("gelu", ValueError, "student must be one of .*'sign'.*got 'gelu'"),
        ("Relu", ValueError, "did you mean relu"),
        (0.5, TypeError, "student must be one of .*a function, got 0.5"),
        (None, TypeError, "student must be one of"),
        (Student, TypeError, "student must be one of"),
        (float, TypeError, "student must be one of"),
        (_NotHashable(), TypeError, "activation must be hashable"),
        (lambda u: 1j, TypeError, "activation must return one real number"),
        (lambda u: math.nan, ValueError, "activation must return finite numbers"),
    ],
)
def test_as_student_refuses(value, error, message):
    with pytest.raises(error, match=message):
        as_student(value)
    with pytest.raises(error, match=message):
        as_piecewise(value)


def test_as_student_names_the_argument():
    with pytest.raises(ValueError, match="teacher must be one of"):
        as_student("gelu", "teacher")


def test_as_piecewise_says_who_serves_whom():
    assert as_piecewise("relu") is RELU
    assert as_piecewise(LeakyReLU(0.3)) == LeakyReLU(0.3)
    with pytest.raises(ValueError, match=r"^x serves piecewise-linear students only \('linear', "):
        as_piecewise("erf", what="x")
    with pytest.raises(ValueError, match=r"LeakyReLU\(slope\)\), got Student\(tanh\)"):
        as_piecewise(Student(math.tanh))
    with pytest.raises(ValueError, match="piecewise-linear teachers only"):
        as_piecewise("erf", "teacher")


# What serves piecewise-linear students only, as docs/own_student.md lists it.
ONLY_PIECEWISE = {
    "simulate_training": lambda s: replica.simulate_training(2.0, 0.0, student=s, N=20, epochs=1),
    "interpolation_threshold": lambda s: replica.interpolation_threshold(0.25, student=s),
    "solve_output_penalty": lambda s: replica.solve_output_penalty(2.0, 0.25, 0.1, 0.1, student=s),
    "bn_equilibrium": lambda s: replica.bn_equilibrium(2.0, 0.25, batch_size=16, student=s),
    "gamma_decay_strength": lambda s: replica.gamma_decay_strength(16, student=s),
}


@pytest.mark.parametrize("name", ONLY_PIECEWISE)
@pytest.mark.parametrize("student", ["erf", TANH, math.tanh])
def test_what_serves_piecewise_students_only_says_so(name, student):
    with pytest.raises(ValueError, match="serves piecewise-linear students only"):
        ONLY_PIECEWISE[name](student)
