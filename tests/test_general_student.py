"""Any student: its table, its global proximal step, and its zero-temperature saddle point."""

from __future__ import annotations

import copy
import itertools
import math
import pickle
import warnings

import numba
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import replica
from reference.tables import FOLDER, read
from replica import ConvergenceWarning, LeakyReLU, Status
from replica._core.activation_table import activation_at
from replica.equilibrium import _saddle_point, _zero_temperature
from replica.equilibrium._proximal import (
    envelope,
    new_room,
    prepare,
    stretch,
    switching_outputs,
)
from replica.equilibrium._teacher_average import LEGENDRE, prepare_teacher
from replica.equilibrium._zero_temperature import solve_general_student, zero_temperature_averages
from replica.gaussian import gaussian_average
from replica.students import (
    ERF,
    LINEAR,
    QUADRATIC,
    RELU,
    SIGN,
    SOFTPLUS,
    TANH,
    Student,
    as_student,
)

HARD_TANH = Student(lambda u: np.clip(u, -1.0, 1.0), kinks=(-1.0, 1.0))
STUDENTS = [LINEAR, RELU, LeakyReLU(0.3), ERF, TANH, SOFTPLUS, QUADRATIC, HARD_TANH, SIGN]


def ids(value):
    return getattr(value, "name", None)


# --- Students and their tables -------------------------------------------------------------------


@pytest.mark.parametrize("student", STUDENTS, ids=ids)
def test_table_interpolates_the_activation_to_rounding(student):
    table = student.table(40.0)
    u = np.random.default_rng(1).uniform(-12, 12, 400)
    found = np.array([activation_at(table.breaks, table.series, x) for x in u])
    values = student.values(u)
    assert found[:, 0] == pytest.approx(values, rel=1e-14, abs=2e-14)
    assert found[:, 1] == pytest.approx(student.slopes(u), rel=1e-11, abs=2e-12)


def test_table_has_the_curvature():
    table = TANH.table(40.0)
    u = np.linspace(-5, 5, 101)
    found = np.array([activation_at(table.breaks, table.series, x)[2] for x in u])
    assert found == pytest.approx(-2 * np.tanh(u) / np.cosh(u) ** 2, abs=1e-10)


def test_compiled_plain_and_vectorized_activations_give_the_same_table():
    @numba.njit
    def compiled(u):
        return math.tanh(u) if u > 0.5 else 0.25 * u

    def plain(u):
        return math.tanh(u) if u > 0.5 else 0.25 * u

    def vectorized(u):
        return np.where(u > 0.5, np.tanh(u), 0.25 * u)

    tables = [Student(f, kinks=(0.5,)).table(20.0) for f in (compiled, plain, vectorized)]
    # NumPy's tanh may differ from that of the C library in the last bit.
    assert tables[0].series[:2] == pytest.approx(tables[1].series[:2], abs=1e-12)
    assert tables[0].series[:2] == pytest.approx(tables[2].series[:2], abs=1e-12)


@pytest.mark.parametrize(
    ("build", "error", "words"),
    [
        (lambda: Student(3.0), TypeError, "activation must be a function"),
        (lambda: Student(lambda u: [u]), TypeError, "must return one real number"),
        (lambda: Student(lambda u: u > 0), TypeError, "must return one real number"),
        (lambda: Student(lambda u: math.nan), ValueError, "must return finite numbers"),
        (lambda: Student(lambda u: math.inf), ValueError, "must return finite numbers"),
        (lambda: Student(np.tanh, kinks=(1.0, 0.0)), ValueError, "strictly increasing"),
        (lambda: Student(np.tanh, kinks=(0.0, 0.0)), ValueError, "strictly increasing"),
        (lambda: Student(np.tanh, kinks=(math.nan,)), ValueError, "kinks must lie in"),
        (lambda: Student(np.tanh, kinks="0"), TypeError, "kinks must be a real number"),
        (lambda: Student(abs).table(40.0), ValueError, "jumps at u = 0"),
        (lambda: Student(lambda u: abs(u - 0.3)).table(40.0), ValueError, "near u = 0.3"),
        (lambda: Student(np.tanh, np.tanh).table(40.0), ValueError, "not the derivative"),
        (lambda: as_student("gelu"), ValueError, "student must be one of"),
    ],
)
def test_bad_activations_are_refused(build, error, words):
    with pytest.raises(error, match=words):
        build()


def test_an_exception_in_an_activation_keeps_its_own_traceback():
    def activation(u):
        if u > 3:
            raise ArithmeticError("mine")
        return u

    with pytest.raises(ArithmeticError, match="mine") as caught:
        solve_general_student(1.0, 0.1, 0.1, student=Student(activation))
    assert caught.traceback[-1].name == "activation"


@pytest.mark.parametrize("student", [s for s in STUDENTS if s is not HARD_TANH], ids=ids)
def test_copies_of_a_student_are_equal_to_it(student):
    twins = (pickle.loads(pickle.dumps(student)), copy.copy(student), copy.deepcopy(student))
    for twin in twins:
        assert twin == student
        assert hash(twin) == hash(student)


def calls():
    """Count its calls, and let the count show in the value."""
    count = itertools.count()
    return lambda u: u + 1e-9 * next(count)


def random_far_out():
    rng = np.random.default_rng()
    return lambda u: math.tanh(u) + (1e-6 * rng.normal() if abs(u) > 5 else 0.0)


class Unhashable:
    __hash__ = None

    def __call__(self, u):
        return math.tanh(u)


@pytest.mark.parametrize(
    ("activation", "error", "words"),
    [
        (calls(), ValueError, "function of its argument alone"),
        (random_far_out(), ValueError, "function of its argument alone"),
        (lambda u: np.tanh(u) + 1e-8 * np.sin(1e9 * u), ValueError, "look like noise"),
        (lambda u: np.float32(np.tanh(u)), ValueError, "rounded to single precision"),
        (Unhashable(), TypeError, "activation must be hashable"),
        (lambda u: complex(u), TypeError, "must return one real number"),
        (lambda u: np.array([u]), TypeError, "must return one real number"),
        (lambda u: u if u < 5 else math.nan, ValueError, "must return finite numbers"),
        (lambda u: 1 / (u - u), ZeroDivisionError, "division"),
    ],
)
def test_what_is_no_function_is_refused_by_the_table(activation, error, words):
    with pytest.raises(error, match=words):
        Student(activation).table(40.0)


def test_a_random_derivative_is_refused():
    count = itertools.count()
    with pytest.raises(ValueError, match="derivative must be a function of its argument alone"):
        Student(np.tanh, lambda u: 1.0 + 1e-9 * next(count))


# --- The proximal step ---------------------------------------------------------------------------


def stretches(activation, y, chi, low=-np.inf, high=np.inf):
    """Return what `envelope` finds, in order."""
    room = new_room(activation)
    return [stretch(room.found, k) for k in range(envelope(activation, y, chi, low, high, room))]


def minimizer(activation, found, y, chi, omega):
    """Read u(omega) off the stretches of `envelope`."""
    k = int(np.searchsorted([part.omega_low for part in found], omega)) - 1
    low, high = found[k].u_low, found[k].u_high
    for _ in range(100 if high > low else 0):
        u = (low + high) / 2
        g, slope, _ = activation_at(activation.breaks, activation.series, u)
        low, high = (u, high) if u - chi * (y - g) * slope < omega else (low, u)
    return (low + high) / 2


@pytest.mark.parametrize("student", STUDENTS, ids=ids)
@given(y=st.floats(-3, 3), log_chi=st.floats(-2, 4))
@settings(max_examples=25, deadline=None)
def test_envelope_finds_the_global_minimum(student, y, log_chi):
    chi = math.exp(log_chi)
    activation = prepare(student, 40.0)
    found = stretches(activation, y, chi)
    fields = np.array([(part.omega_low, part.omega_high) for part in found])
    assert (np.diff(fields.ravel()) >= -1e-9).all()
    # Left and right limits of g at a kink both count.
    grid = np.unique(np.concatenate([np.linspace(-12, 12, 4001), [-1e-13, 1e-13]]))
    grid = grid[grid != 0] if student is SIGN else grid
    g = student.values(grid)
    for omega in np.linspace(-3.9, 4.1, 9):
        u = minimizer(activation, found, y, chi, omega)
        sides = student.values([u - 1e-13, u + 1e-13]) if student is SIGN else student.values([u])
        energy = (u - omega) ** 2 / (2 * chi) + ((y - sides) ** 2).min() / 2
        best = ((grid - omega) ** 2 / (2 * chi) + (y - g) ** 2 / 2).min()
        assert energy <= best + 1e-9


def test_a_local_minimum_would_be_caught():
    # ReLU, y > 0, omega < 0: u = omega is a minimum, but u > 0 may be lower.
    y, chi, omega = 2.0, 3.0, -0.5
    local = (y - 0.0) ** 2 / 2
    u = (omega + chi * y) / (1 + chi)
    assert (u - omega) ** 2 / (2 * chi) + (y - u) ** 2 / 2 < local - 0.1


def test_envelope_of_relu_is_the_closed_form():
    activation = prepare(RELU, 40.0)
    y, chi = 0.8, 2.4
    silent, active = stretches(activation, y, chi)
    switch = -(math.sqrt(1 + chi) - 1) * y
    assert silent[2:4] == pytest.approx((-40, switch), abs=1e-12)
    assert active.omega_low == pytest.approx(switch, abs=1e-12)
    assert active.u_low == pytest.approx((switch + chi * y) / (1 + chi), abs=1e-12)
    pinned = stretches(activation, -y, chi)[1]
    assert pinned[:4] == pytest.approx((0.0, 0.0, 0.0, chi * y), abs=1e-12)


@given(
    log_slope=st.floats(-4, -0.1),
    log_chi=st.floats(-2, 6),
    log_y=st.floats(-4, 1),
    width=st.sampled_from([40.0, 640.0, 10240.0]),
)
@settings(max_examples=200, deadline=None)
def test_envelope_of_leaky_relu_switches_where_the_closed_form_does(
    log_slope, log_chi, log_y, width
):
    """Both ends of the bridge may lie many cells away from the vertices it was found at."""
    a, chi, y = 10**log_slope, 10**log_chi, 10**log_y
    root, leaky = math.sqrt(1 + chi), math.sqrt(1 + a * a * chi)
    switch = -chi * (leaky + a * root) / (root + leaky) * y
    ends = [(switch + b * chi * y) / (1 + b * b * chi) for b in (a, 1.0)]
    assume(-width < ends[0] and ends[1] < width)
    activation = prepare(LeakyReLU(a), width)
    before, after = stretches(activation, y, chi)
    assert before.omega_high == after.omega_low == pytest.approx(switch, rel=1e-8)
    assert [before.u_high, after.u_low] == pytest.approx(ends, rel=1e-6)


@pytest.mark.parametrize("student", STUDENTS, ids=ids)
@given(y=st.floats(-3, 3), log_chi=st.floats(-2, 4), low=st.floats(-6, 6), width=st.floats(0, 6))
@settings(max_examples=25, deadline=None)
def test_envelope_of_some_fields_is_that_of_all(student, y, log_chi, low, width):
    """Vertices that no field from low to high can reach are left out, and none that one can."""
    chi, high = math.exp(log_chi), low + width
    activation = prepare(student, 160.0)
    some = stretches(activation, y, chi, low, high)
    assert some[0].omega_low <= low
    assert some[-1].omega_high >= high
    inside = [part for part in some if part.omega_high > low and part.omega_low < high]
    everything = stretches(activation, y, chi)
    same = [part for part in everything if part.omega_high > low and part.omega_low < high]
    assert len(inside) == len(same)
    for one, other in zip(inside, same, strict=True):
        # beyond the fields asked for, a stretch may end elsewhere
        assert max(one.omega_low, low) == pytest.approx(max(other.omega_low, low), abs=1e-12)
        assert min(one.omega_high, high) == pytest.approx(min(other.omega_high, high), abs=1e-12)
    for one, two, other, another in zip(inside, inside[1:], same, same[1:], strict=False):
        assert (one.u_high, two.u_low) == pytest.approx((other.u_high, another.u_low), abs=1e-12)


def test_switching_outputs_of_erf_are_where_its_jump_appears():
    activation = prepare(ERF, 40.0)
    low, high = switching_outputs(activation, 2.0)
    assert low == pytest.approx(-high, abs=1e-12)
    for y, jumps in ((0.97 * high, False), (1.1 * high, True)):
        assert (len(stretches(activation, y, 2.0)) > 1) is jumps


# --- Averages and saddle points ------------------------------------------------------------------


@pytest.mark.parametrize("slope", [0.0, 0.3])
def test_jump_part_of_g0_is_the_closed_form(slope):
    S, m, q, chi = 0.3, 0.5, 0.6, 2.0
    law = prepare_teacher(LINEAR, S)
    values = zero_temperature_averages(prepare(LeakyReLU(slope), 40.0), law, chi, m, q, LEGENDRE[3])
    root, leaky = math.sqrt(1 + chi), math.sqrt(1 + slope**2 * chi)
    kappa = (root - leaky) / (leaky - slope * root)
    sigma = math.sqrt(1 + S)
    mu, tau = m / sigma, math.sqrt(q - m * m / (1 + S))
    density = sigma * tau / (2 * math.pi * ((mu + kappa * sigma) ** 2 + tau**2))
    assert values[5] == pytest.approx((1 - slope) / (root * leaky) * density, rel=1e-11)


@pytest.mark.parametrize("student", [ERF, SOFTPLUS, HARD_TANH], ids=ids)
def test_averages_agree_with_a_direct_proximal_step(student):
    """The same averages from minimizing over a grid of u, point by point."""
    chi, m, q, S = 1.5, 0.4, 0.5, 0.3
    law = prepare_teacher(LINEAR, S)
    values = zero_temperature_averages(prepare(student, 40.0), law, chi, m, q, LEGENDRE[3])
    u = np.linspace(-8, 8, 8001)
    g = student.values(u)
    omega, t = np.meshgrid(np.linspace(-5, 5, 161), np.linspace(-7, 7, 161), indexing="ij")
    weight = np.exp(
        -0.5 * (t * t / (1 + S) + (omega - m / (1 + S) * t) ** 2 / (q - m * m / (1 + S)))
    )
    weight /= weight.sum()
    f = np.empty_like(omega)
    for j in range(t.shape[1]):
        h = u * u / 2 + chi * (t[0, j] - g) ** 2 / 2
        best = u[np.argmin(h - omega[:, j, None] * u, axis=1)]
        f[:, j] = (best - omega[:, j]) / chi
    matrix = np.array([[q, m], [m, 1 + S]])
    direct = np.linalg.solve(matrix, [(weight * omega * f).sum(), (weight * t * f).sum()])
    # The grid's accuracy at the jumps of f.
    assert values[0] == pytest.approx((weight * f * f).sum(), abs=2e-4)
    assert values[1:3] == pytest.approx(direct, abs=3e-3)


CHANNELS = [
    (ERF, LINEAR, 0.1),
    (RELU, LINEAR, 0.1),
    (HARD_TANH, LINEAR, 0.1),
    (SIGN, LINEAR, 0.3),
    (ERF, TANH, 0.0),
    (SOFTPLUS, RELU, 0.2),
    (ERF, SIGN, 0.1),
    (LINEAR, SIGN, 0.1),
]


@pytest.mark.parametrize(("student", "teacher", "S"), CHANNELS, ids=ids)
def test_slopes_of_the_averages_are_their_derivatives(student, teacher, S):
    """Jumps of f included: only E[f^2] in chi knows how high they are."""
    table, law = prepare(student, 160.0), prepare_teacher(teacher, S)
    x = np.array([1.7, 0.5, 0.55])

    def averages(x):
        return np.array(zero_temperature_averages(table, law, *x, LEGENDRE[3])[:3])

    h = 1e-3
    for k, shift in enumerate(h * np.eye(3)):
        near = averages(x + shift) - averages(x - shift)
        far = averages(x + 2 * shift) - averages(x - 2 * shift)
        expected = (8 * near - far) / (12 * h)
        found = zero_temperature_averages(table, law, *x, LEGENDRE[3]).slopes[:, k]
        # quadrature at a jump that is passed by: 1e-9 in the averages, over h
        assert found == pytest.approx(expected, abs=3e-6)


@pytest.mark.parametrize("student", [ERF, RELU, HARD_TANH, LINEAR], ids=ids)
@pytest.mark.parametrize("teacher", [ERF, RELU, SIGN], ids=ids)
def test_noise_summed_beforehand_is_noise_summed_sample_by_sample(student, teacher):
    table, law = prepare(student, 160.0), prepare_teacher(teacher, 0.2)
    chi, m, q = 1.7, 0.5, 0.55
    tau = math.sqrt(q - m * m)
    problem = (table, law, chi, m)
    switches = switching_outputs(table, chi)
    scale = 0.2 * tau / (1 + chi)
    outputs = _zero_temperature._over_outputs(*problem, q, tau, switches, scale, LEGENDRE[3])
    fields = _zero_temperature._over_fields(*problem, tau, switches, scale, LEGENDRE[3])
    # The replicon integral of a jumping student is singular, and its jump part is not smooth.
    smooth = [k for k in range(13) if k not in (10, 11, 12)]
    assert outputs[smooth] == pytest.approx(fields[smooth], rel=1e-8, abs=1e-11)
    assert outputs[[11, 12]] == pytest.approx(fields[[11, 12]], rel=2e-2, abs=1e-12)


@pytest.mark.parametrize("row", read(FOLDER / "leaky_relu_rs.csv")[::3], ids=lambda r: r["alpha"])
def test_general_path_reproduces_the_leaky_relu_table(row):
    student = LeakyReLU(float(row["slope"]))
    point = solve_general_student(*(float(row[n]) for n in ("alpha", "S", "lam")), student=student)
    tolerance = max(1e-9, 10 * float(point.quadrature_error))
    assert tolerance < 1e-5
    for name in ("gamma", "R", "chi", "gen_error"):
        assert getattr(point, name) == pytest.approx(float(row[name]), rel=tolerance), name


def test_general_and_closed_form_agree_on_energies_and_stability():
    for student in (LINEAR, LeakyReLU(0.4), RELU):
        general = solve_general_student(1.3, 0.2, 0.4, student=student)
        closed = replica.solve_equilibrium(1.3, 0.2, 0.4, student=student)
        for name in ("train_error", "energy", "replicon"):
            expected = float(getattr(closed, name))
            assert getattr(general, name) == pytest.approx(expected, rel=1e-8), name


@pytest.mark.parametrize("student", [ERF, SOFTPLUS], ids=ids)
def test_energy_is_stationary_in_the_decay(student):
    """dE/dzeta = gamma^2 / 2: fails unless all three order parameters solve the equations."""
    steps = np.array([-2, -1, 1, 2]) * 1e-3
    weights = np.array([1, -8, 8, -1]) / 12e-3
    point = solve_general_student(1.5, 0.1, 0.2, student=student)
    around = solve_general_student(1.5, 0.1, 0.2 * (1 + steps), student=student)
    slope = weights @ around.energy / 0.2
    assert 2 * slope == pytest.approx(float(point.gamma) ** 2, abs=1e-6)


def test_gen_error_is_the_average_it_claims_to_be():
    point = solve_general_student(1.5, 0.0, 0.2, student="erf", teacher="relu")
    m, q = float(point.gamma * point.R), float(point.gamma) ** 2
    average = gaussian_average(
        lambda z, u: (np.maximum(z, 0) - ERF.values(u)) ** 2, [[1.0, m], [m, q]], kinks=[[0.0], []]
    )
    assert point.gen_error == pytest.approx(average.value, abs=1e-9)


def test_matched_student_finds_a_noiseless_teacher():
    point = solve_general_student(3.0, 0.0, [1e-1, 1e-3], student="relu", teacher="relu")
    assert point.gen_error[1] < 1e-4 < point.gen_error[0]
    assert point.R[1] > 0.999


def test_noise_before_the_activation_of_a_linear_teacher_is_label_noise():
    there = solve_general_student(1.0, 0.3, 0.2, student="relu", noise="input")
    back = solve_general_student(1.0, 0.3, 0.2, student="relu", noise="output")
    assert there.gamma == back.gamma


@pytest.mark.slow
def test_noisy_nonlinear_teacher_with_a_linear_law_is_the_linear_teacher():
    # A linear phi in disguise takes the three-dimensional average instead of the reduced one.
    disguised = Student(lambda u: 1.0 * u)
    there = solve_general_student(1.0, 0.3, 0.2, student="relu", teacher=disguised)
    back = solve_general_student(1.0, 0.3, 0.2, student="relu")
    for name in ("gamma", "R", "chi", "gen_error"):
        assert getattr(there, name) == pytest.approx(float(getattr(back, name)), rel=1e-6)


def test_sign_teacher_is_served():
    point = solve_general_student(2.0, 0.0, 0.3, student="linear", teacher="sign")
    # A linear student sees the sign as c z + noise, c^2 = 2/pi.
    c = math.sqrt(2 / math.pi)
    linear = replica.solve_equilibrium(2.0, (1 - c * c) / c**2, 0.3, student="linear")
    assert pytest.approx(float(linear.R), rel=1e-9) == point.R
    assert point.gamma == pytest.approx(c * float(linear.gamma), rel=1e-9)


def test_jump_is_reported_as_unstable_and_its_absence_as_stable():
    jumping = solve_general_student(1.5, 0.1, 0.1, student="erf")
    assert jumping.replicon == -np.inf
    assert not jumping.rs_stable
    smooth = solve_general_student(1.5, 0.0, 0.1, student="erf", teacher="erf")
    assert smooth.rs_stable
    assert 0 < smooth.replicon < 1


def test_results_do_not_depend_on_the_order_of_the_points():
    zeta = np.array([0.5, 0.01, 0.1])
    there = solve_general_student(1.5, 0.1, zeta, student="softplus")
    back = solve_general_student(1.5, 0.1, zeta[::-1], student="softplus")
    assert (there.gamma == back.gamma[::-1]).all()


def test_continuation_does_not_depend_on_the_order_of_the_points(monkeypatch):
    """Every cold start but one fails, so that all others are continued from it."""
    cold = _saddle_point._solve_cold
    monkeypatch.setattr(
        _saddle_point, "_solve_cold", lambda point: cold(point) if point.alpha == 2.0 else None
    )
    alpha = np.array([1.0, 3.0, 2.0, 1.5, 2.5])
    order = np.array([3, 0, 4, 2, 1])
    there = solve_general_student(alpha, 0.1, 0.2, student="softplus")
    back = solve_general_student(alpha[order], 0.1, 0.2, student="softplus")
    assert there.converged.all()
    for name in ("gamma", "R", "chi", "energy", "n_iter"):
        assert (getattr(there, name)[order] == getattr(back, name)).all()


def test_no_finite_solution_is_a_status_and_never_a_number():
    with pytest.warns(ConvergenceWarning, match="1 of 2 points.*needs zeta > 0"):
        point = replica.solve_equilibrium([0.3, 3.0], 0.1, 0.0, student="softplus")
    assert point.status.tolist() == [Status.NEEDS_DECAY, Status.CONVERGED]
    assert np.isnan(point.gen_error[0])
    assert np.isfinite(point.gen_error[1])


def test_failure_with_decay_is_not_blamed_on_its_absence():
    # The loss of a sign student does not depend on the length of its weights.
    with pytest.warns(ConvergenceWarning, match="no convergence"):
        point = solve_general_student(1.0, 0.1, 0.1, student="sign")
    assert point.status == Status.MAX_ITERATIONS
    assert np.isnan(point.gen_error)


def test_rules_that_never_agree_are_not_called_converged(monkeypatch):
    monkeypatch.setattr("replica.equilibrium._saddle_point._ACCURATE", 0.0)
    with pytest.warns(ConvergenceWarning, match="1 of 1"):
        point = solve_general_student(1.0, 0.1, 0.1, student="relu")
    assert np.isnan(point.energy)


@pytest.mark.parametrize("student", ["tanh", "erf", "softplus", "quadratic", "sign"])
@pytest.mark.parametrize("beta", [3.0, np.inf])
def test_fewer_samples_than_weights_need_decay_and_nothing_is_iterated(student, beta, monkeypatch):
    monkeypatch.setattr(_saddle_point.Point, "evaluate", None)  # any evaluation would raise
    with pytest.warns(ConvergenceWarning, match="needs zeta > 0"):
        result = replica.solve_equilibrium([0.3, 1.0], 0.1, 0.0, student=student, beta=beta)
    assert (result.status == Status.NEEDS_DECAY).all()
    assert np.isnan(result.gen_error).all()


def test_points_without_decay_are_decided_in_few_evaluations(monkeypatch):
    count = 0
    step = _saddle_point.Point.step

    def counted(self, x, level):
        nonlocal count
        count += 1
        return step(self, x, level)

    monkeypatch.setattr(_saddle_point.Point, "step", counted)
    for student, alpha, S in (("tanh", 1.1, 0.1), ("erf", 1.5, 0.1), ("softplus", 1.5, 0.0)):
        count = 0
        with pytest.warns(ConvergenceWarning):
            assert (
                solve_general_student(alpha, S, 0.0, student=student).status == Status.NEEDS_DECAY
            )
        assert count <= 120  # there were 700 to 1300


@pytest.mark.parametrize(
    ("student", "alpha", "S", "gen_error"),
    [
        # As before points without decay were decided early: chi is 8.3, 8.1 and 19 here.
        ("erf", 2.0, 0.0, 0.1756253522161101),
        ("tanh", 2.0, 0.0, 0.20065137681637768),
        ("quadratic", 1.5, 0.1, 5.874600855519858),
    ],
)
def test_points_without_decay_just_above_the_threshold_converge(student, alpha, S, gen_error):
    result = solve_general_student(alpha, S, 0.0, student=student)
    assert result.gen_error == pytest.approx(gen_error, rel=1e-7)


def test_noise_free_point_without_decay_is_not_said_to_have_infinite_chi():
    with pytest.warns(ConvergenceWarning):
        result = solve_general_student(3.0, 0.0, 0.0, student="softplus", teacher="softplus")
    assert result.status == Status.MAX_ITERATIONS


@pytest.mark.parametrize("zeta", [1e17, 1e30, 1e100])
def test_decay_beyond_the_quadrature_is_a_status(zeta):
    with pytest.warns(replica.ConvergenceWarning):
        found = replica.solve_equilibrium(2.0, 0.1, zeta, teacher="quadratic")
    assert np.isnan(found.gen_error)
    assert found.status == replica.Status.NON_FINITE


@pytest.mark.parametrize("alpha", [1e-100, 1e-17, 1e17])
@pytest.mark.parametrize("students", [("linear", "quadratic"), ("erf", "linear")])
def test_loads_at_the_ends_of_the_range_have_a_status(alpha, students):
    student, teacher = students
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", replica.ConvergenceWarning)
        found = replica.solve_equilibrium(alpha, 0.1, 1.0, student=student, teacher=teacher)
    assert np.isnan(found.gen_error) == (found.status != replica.Status.CONVERGED)
