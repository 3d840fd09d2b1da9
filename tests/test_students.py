"""Students and teachers: what is taken for one, how they show themselves, who refuses whom."""

from __future__ import annotations

import inspect
import math
import pickle
import re
import warnings
from pathlib import Path

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


def test_as_student_values_a_function_once():
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


START = {"R0": 0.1, "L0": 1.0, "learning_rate": 0.1}
STATE = {"gamma": 1.0, "R": 0.9, "L": 1.0, "learning_rate": 0.1, "normalizer": "wn"}
QUIET = {"N": 20, "progress": False}
LAYERS = [np.eye(2), np.ones((2, 2))], np.array([[0.0, 1.0], [1.0, 0.5], [2.0, -1.0]]), [0, 1, 0]
H = np.linspace(-1.0, 1.0, 9)
# The smallest call of each function of the table in docs/students.md, by student or activation.
CALLS = {
    "gen_error": lambda **s: replica.gen_error(2.0, 0.1, 0.2, **s),
    "gen_error_from_overlaps": lambda **s: replica.gen_error_from_overlaps(1.0, 0.5, **s),
    "optimal_zeta": lambda **s: replica.optimal_zeta(3.0, 0.25, **s),
    "plot_curve": lambda **s: replica.plot_curve([2.0], 0.1, 0.2, **s),
    "solve_equilibrium": lambda **s: replica.solve_equilibrium(2.0, 0.0, 0.2, **s),
    "free_energy": lambda **s: replica.free_energy(
        1.0, 0.5, 1.2, alpha=1.0, S=0.0, zeta=0.2, beta=3.0, **s
    ),
    "interpolation_threshold": lambda **s: replica.interpolation_threshold(0.25, **s),
    "dynamics.integrate": lambda **s: replica.dynamics.integrate(t=[0.1], **START, **s),
    "dynamics.correlations": lambda **s: replica.dynamics.correlations(1.0, 0.5, **s),
    "dynamics.fixed_point": lambda **s: replica.dynamics.fixed_point(normalizer="wn", **s),
    "dynamics.jacobian": lambda **s: replica.dynamics.jacobian(**STATE, **s),
    "dynamics.eigenvalues": lambda **s: replica.dynamics.eigenvalues(**STATE, **s),
    "dynamics.max_learning_rate": lambda **s: replica.dynamics.max_learning_rate(
        normalizer="wn", **s
    ),
    "dynamics.integrate_grid": lambda **s: replica.dynamics.integrate_grid(t=[0.1], **START, **s),
    "simulate_online": lambda **s: replica.simulate_online(S=0.0, t=0.1, **QUIET, **s),
    "simulate_training": lambda **s: replica.simulate_training(2.0, 0.0, epochs=1, **QUIET, **s),
    "mean_field_training": lambda **s: replica.mean_field_training(
        2.0, 0.0, n_samples=50, epochs=1, learning_rate=0.1, progress=False, **s
    ),
    "bn_equilibrium": lambda **s: replica.bn_equilibrium(2.0, 0.25, batch_size=16, **s),
    "bn_gen_error": lambda **s: replica.bn_gen_error(2.0, 0.25, batch_size=16, **s),
    "solve_broken_symmetry": lambda **s: replica.solve_broken_symmetry(1.7, 0.25, 0.2, **s),
    "solve_output_penalty": lambda **s: replica.solve_output_penalty(2.0, 0.25, 0.1, 0.1, **s),
    "gamma_decay_strength": lambda **s: replica.gamma_decay_strength(16, **s),
    "deep_gamma_decay": lambda **s: replica.deep_gamma_decay(*LAYERS, batch_size=8, **s),
    "gamma_decay": lambda **s: replica.gamma_decay(H, batch_size=8, gamma=1.0, **s),
    "batch_norm.expected_loss": lambda **s: replica.batch_norm.expected_loss(
        H, H, batch_size=8, gamma=1.0, **s
    ),
    "batch_norm.sampled_loss": lambda **s: replica.batch_norm.sampled_loss(
        H, H, batch_size=8, gamma=1.0, n_draws=100, **s
    ),
}


def table_of_the_page():
    """Function -> (student, teacher), in the words of the table in docs/students.md."""
    page = (Path(__file__).parent.parent / "docs" / "students.md").read_text("utf-8")
    rows = re.findall(r"^\| (`.*?`) \| (.*?) \| (.*?) \|$", page, re.MULTILINE)
    return {
        name: (student, teacher)
        for names, student, teacher in rows
        for name in re.findall(r"`(.*?)`", names)
    }


TABLE = table_of_the_page()


def test_table_of_students_has_every_function_that_takes_one():
    takers = set()
    for module in (replica, replica.dynamics, replica.batch_norm):
        for name in module.__all__:
            function = getattr(module, name)
            where = name if hasattr(replica, name) else f"{module.__name__[8:]}.{name}"
            if inspect.isfunction(function):
                parameters = inspect.signature(function).parameters
                takers |= {where} if {"student", "activation"} & parameters.keys() else set()
    takers -= {"batch_norm.as_glm"}
    passed_on = {"dynamics.eigenvalues", "mean_field_training"}  # by **problem, **options
    assert TABLE.keys() == takers | passed_on | {"early_stopping"}
    assert CALLS.keys() == TABLE.keys() - {"early_stopping"}


@pytest.mark.parametrize("name", CALLS)
def test_table_of_students_says_whom_each_function_serves(name):
    student, teacher = TABLE[name]
    call = CALLS[name]
    key = "activation" if "activation" in student else "student"
    call(**{key: "relu"})
    call(**{key: LeakyReLU(0.3)})
    if student == "any":
        call(student="erf" if name == "optimal_zeta" else math.tanh)
        if name in ("gen_error_from_overlaps", "gen_error"):  # the others take it, and their time
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", replica.ConvergenceWarning)
                call(student="sign")
    elif student.startswith("continuous"):
        call(**{key: math.tanh})
        with pytest.raises(ValueError, match="must be continuous"):
            call(**{key: "sign"})
    elif "erf" in student:
        call(student="erf")
        with pytest.raises(ValueError, match="needs a closed form or a series"):
            call(student="tanh")
    elif key == "activation":
        call(activation="softplus")
        with pytest.raises(ValueError, match="activation must be 'linear', 'relu', 'softplus'"):
            call(activation="erf")
    else:
        assert student == "piecewise linear"
        for refused in ("erf", TANH, math.tanh):
            with pytest.raises(ValueError, match="serves piecewise-linear students only"):
                call(student=refused)
    if teacher == "any":
        call(student="linear", teacher="sign")
        call(student="linear", teacher=math.tanh)
    elif teacher == "linear":
        with pytest.raises(TypeError, match="teacher"):
            call(teacher="linear")
