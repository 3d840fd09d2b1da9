"""Tests of simulate_online: the chain and the N-vectors agree in law, and both with eq. (6)."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import ks_2samp

from replica import ArgumentError, ConvergenceWarning, Status
from replica.losses import SQUARE
from replica.simulation import _data as data_module
from replica.simulation import _fresh_errors as fresh_errors
from replica.simulation import _kernels as kernels
from replica.simulation._fresh_errors import piecewise_teacher_error, student_error
from replica.simulation._online import _Chain, _OrderParameters, _Problem, simulate_online
from replica.simulation._settings import NORMALIZERS
from replica.students import ERF, LINEAR, QUADRATIC, RELU, SIGN, SOFTPLUS, TANH, LeakyReLU, Student

OBSERVED = ("gamma", "R", "L", "gen_error")


def in_law(a, b):
    """Smallest p-value of two-sample tests and of comparisons of mean and variance.

    The scale L of a batch-normalized student has moments that barely exist (its steps divide by
    the deviation of a few samples), so for L the logarithm is compared.
    """
    smallest = 1.0
    for name in OBSERVED:
        for when in (1, -1):
            x, y = getattr(a, name)[when], getattr(b, name)[when]
            if name == "L":
                x, y = np.log(x), np.log(y)
            smallest = min(smallest, ks_2samp(x, y).pvalue)
            z = (x.mean() - y.mean()) / math.sqrt(x.var() / x.size + y.var() / y.size)
            smallest = min(smallest, math.erfc(abs(z) / math.sqrt(2)))
            kurtosis = np.mean((x - x.mean()) ** 4) / x.var() ** 2
            error = math.sqrt(max(kurtosis - 1.0, 0.1) * (1 / x.size + 1 / y.size))
            z = math.log(x.var() / y.var()) / error
            smallest = min(smallest, math.erfc(abs(z) / math.sqrt(2)))
    return smallest


def both_engines(N=64, n_runs=2000, **options):
    start = {"L0": 0.8, "R0": 0.3} | ({"gamma0": 0.5} if options["normalizer"] != "none" else {})
    common = {
        "N": N, "zeta": 0.1, "t": [0.0, 1.0, 2.0], "n_runs": n_runs, "progress": False,
        "n_threads": 1,
    }  # fmt: skip
    return (
        simulate_online(S=0.25, engine="direct", seed=1, **common, **start, **options),
        simulate_online(S=0.25, engine="chain", seed=2, **common, **start, **options),
    )


FAST = [("none", "relu", 1), ("wn", "relu", 3), ("bn", "relu", 4)]
CASES = [
    (normalizer, student, M)
    for normalizer in NORMALIZERS
    for student in ("linear", "relu", LeakyReLU(0.3))
    for M in ((1, 3) if normalizer in ("none", "wn") else (4,))
    if (normalizer, student, M) not in FAST and normalizer != "pn"
]


@pytest.mark.parametrize(
    ("normalizer", "student", "batch_size"),
    [*FAST, *(pytest.param(*case, marks=pytest.mark.slow) for case in CASES)],
)
def test_chain_agrees_in_law_with_direct(normalizer, student, batch_size):
    # 24 p-values for each of 21 cases, fixed seeds: 1e-5 leaves a 0.5 % chance for a bad draw.
    direct, chain = both_engines(normalizer=normalizer, student=student, batch_size=batch_size)
    assert in_law(direct, chain) > 1e-5


# Students and teachers outside the leaky family, real batches and a start that is far out.
GENERAL = [
    {"student": "erf", "normalizer": "none", "batch_size": 2},
    {"student": "tanh", "teacher": "sign", "normalizer": "bn", "batch_size": 4},
    {"student": "softplus", "teacher": "relu", "normalizer": "bn-mean", "batch_size": 3},
    {"student": "relu", "teacher": "quadratic", "normalizer": "wn", "learning_rate": 0.2},
]


@pytest.mark.parametrize(
    "options",
    [GENERAL[0], *(pytest.param(case, marks=pytest.mark.slow) for case in GENERAL[1:])],
    ids=["erf", "tanh from sign", "softplus from relu", "relu from quadratic"],
)
def test_chain_agrees_in_law_with_direct_for_any_activation(options):
    direct, chain = both_engines(n_runs=300, **options)
    assert in_law(direct, chain) > 1e-5


def leaky(u):
    return np.where(u > 0, u, 0.2 * u)


@pytest.mark.parametrize("engine", ["chain", "direct"])
@pytest.mark.parametrize(("normalizer", "gamma0"), [("none", None), ("bn", 30.0), ("wn", 0.5)])
def test_tabulated_activation_learns_as_the_compiled_one(engine, normalizer, gamma0):
    # From |w|/sqrt(N) = 40 without normalizer, or gamma = 30, fields leave the first table.
    options = {
        "normalizer": normalizer, "gamma0": gamma0, "L0": 1.0 if gamma0 else 40.0, "S": 0.1,
        "zeta": 0.1, "batch_size": 4, "learning_rate": 0.1, "N": 40, "t": [0.0, 0.5, 3.0],
        "engine": engine, "n_runs": 2, "seed": 5, "progress": False,
    }  # fmt: skip
    exact = simulate_online(student=LeakyReLU(0.2), teacher="relu", **options)
    general = Student(leaky, kinks=(0.0,))
    target = Student(lambda z: max(z, 0.0), kinks=(0.0,))
    for student, teacher in ((general, "relu"), (LeakyReLU(0.2), target), (general, target)):
        tabulated = simulate_online(student=student, teacher=teacher, **options)
        for name in OBSERVED:
            one, other = getattr(exact, name), getattr(tabulated, name)
            assert one == pytest.approx(other, rel=1e-9, abs=1e-11), name


@pytest.mark.parametrize("student", [TANH, QUADRATIC, SOFTPLUS], ids=lambda s: s.name)
def test_table_of_any_width_is_accurate_in_the_middle(student):
    u = np.linspace(-60.0, 60.0, 501)
    for width in (64.0, 1024.0, 2.0**20):
        found = kernels.tabulated(student.table(width), u)
        assert found == pytest.approx(student.values(u), rel=2e-13, abs=2e-13)


def test_backpropagate_stops_before_the_end_of_a_table():
    table = TANH.table(16.0)
    state = kernels.ChainState(1.0, 0.0, 20.0)
    fields = np.zeros((3, 2, 1))
    fields[1] = 1.0
    progress = kernels.online_chain(
        fields, np.zeros((3, 1)), False, np.empty((0, 0)), np.zeros(3), 0, state, 50,
        *NORMALIZERS["none"], math.nan, table, None, 0.0, None, 0.1, 0.0, 1e6,
    )  # fmt: skip
    assert (progress.steps, progress.status) == (1, Status.RUNNING)
    assert progress.furthest == 20.0
    assert progress.state.across == 20.0


@pytest.mark.parametrize("exp", [math.exp, np.exp])
def test_student_whose_output_overflows_diverges(exp):
    with pytest.warns(ConvergenceWarning, match="2 of 2 runs diverged"):
        run = simulate_online(
            student=exp,
            teacher="erf",
            N=50,
            learning_rate=1.0,
            L0=100.0,
            n_runs=2,
            t=5.0,
            progress=False,
        )
    assert (run.status == Status.DIVERGENT).all()
    assert np.isnan(run.gen_error[-1]).all()


def test_undeclared_kink_is_refused_before_the_runs():
    with pytest.raises(ArgumentError, match="kinks"):
        simulate_online(student=lambda u: abs(u - 0.3), progress=False)


# ------------------------------------------------------------------- errors on fresh inputs


def erf_error(gamma, R):
    """Saad and Solla (1995), for one student and one teacher of length 1."""
    own, cross = gamma**2 / (1 + gamma**2), gamma * R / math.sqrt(2 * (1 + gamma**2))
    return 2 / math.pi * (math.asin(own) + math.asin(0.5) - 2 * math.asin(cross))


GAMMAS = (0.0, 0.01, 0.7, 1.0, 5.0, 300.0)
OVERLAPS = (-1.0, -0.6, 0.0, 0.3, 0.999, 1.0 - 1e-9, 1.0)
PAIRS = [(gamma, R) for gamma in GAMMAS for R in OVERLAPS]


def test_student_error_of_erf_agrees_with_the_closed_form():
    gamma, R = np.array(PAIRS).T
    exact = [erf_error(*pair) for pair in PAIRS]
    assert student_error(ERF, ERF, gamma, R) == pytest.approx(exact, abs=1e-12)
    # Where the closed form cancels, a sum of squares does not: 3/4 of E[g'(z)^2] 2 (1 - R) ...
    small = student_error(ERF, ERF, np.ones(1), np.array([1.0 - 1e-12]))[0]
    slope_square = 2 / math.pi / math.sqrt(3)  # E[g'(z)^2] for g' = sqrt(2/pi) exp(-z^2/2)
    assert small == pytest.approx(2 * (1 - (1.0 - 1e-12)) * slope_square, rel=1e-6)


@pytest.mark.parametrize(("a", "b"), [(0.0, 0.0), (0.3, 0.0), (1.0, 0.4)])
def test_student_error_by_quadrature_agrees_with_the_piecewise_form(a, b):
    student, teacher = LeakyReLU(a), LeakyReLU(b)
    for gamma, R in PAIRS:
        table = fresh_errors.table_reaching(student, 9 * gamma)
        found = fresh_errors._averaged_square(table, teacher.table(16.0), gamma, R, 0.0)
        exact = float(piecewise_teacher_error(gamma, R, a, b))
        assert found == pytest.approx(exact, abs=1e-12 * (1 + gamma**2))


def clip(u):
    return np.clip(u, -1.0, 1.0)


@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        (TANH, SIGN),
        (RELU, ERF),
        (Student(clip, kinks=(-1.0, 1.0)), Student(clip, kinks=(-1.0, 1.0))),
        (Student(lambda u: np.tanh(30 * u)), Student(lambda u: np.sin(8 * u))),
        (Student(lambda u: np.sin(8 * u)), QUADRATIC),
    ],
    ids=["tanh sign", "relu erf", "clip clip", "steep wave", "wave quadratic"],
)
@pytest.mark.parametrize(("gamma", "R"), [(0.7, 0.3), (1.3, -0.8), (2.0, 0.99)])
def test_student_error_agrees_with_a_plain_sum(student, teacher, gamma, R):
    # Midpoints so many that kinks do not matter at this accuracy.
    def midpoints(n):
        x = (np.arange(n) + 0.5) / n * 17 - 8.5
        return x, np.exp(-0.5 * x**2) * (17 / n) / math.sqrt(2 * math.pi)

    (x, weight), total = midpoints(4001), 0.0
    output = student.values(gamma * x)
    for w, share in zip(*midpoints(1000), strict=True):
        target = teacher.values(R * x + math.sqrt(1 - R * R) * w)
        total += share * float(weight @ (target - output) ** 2)
    found = student_error(student, teacher, np.array([gamma]), np.array([R]))[0]
    assert found == pytest.approx(total, abs=3e-4 if SIGN in (student, teacher) else 1e-5)


# -------------------------------------------------------------------------------- results


def test_online_run_in_tables():
    run = simulate_online(student="tanh", N=30, t=[0.1, 0.5, 1.0], n_runs=2, progress=False)
    frame = run.to_pandas()
    assert len(frame) == 6
    last = frame[(frame.run == 1) & (frame.t == run.t[2])]
    assert last.gen_error.item() == run.gen_error[2, 1]
    assert set(frame.status) == {"done"}
    assert frame.attrs["N"] == 30
    data = run.to_xarray()
    assert dict(data.sizes) == {"t": 3, "run": 2}
    assert float(data.R.sel(t=run.t[1])[0]) == run.R[1, 0]
    assert data.attrs["normalizer"] == "none"


def test_chain_agrees_in_law_with_direct_for_a_linear_teacher():
    direct, chain = both_engines(
        normalizer="none", student="relu", teacher="linear", batch_size=2, learning_rate=1.0
    )
    assert in_law(direct, chain) > 1e-5


@pytest.mark.parametrize("shift", [-1, 0, 1])
def test_chain_with_one_degree_of_freedom_too_many_or_too_few_is_caught(monkeypatch, shift):
    def shifted(self, steps):
        return self.rest.chisquare(self.problem.N - 2 + shift, steps)

    monkeypatch.setattr(_Chain, "draw_chi_square", shifted)
    direct, chain = both_engines(
        N=8, n_runs=3000, normalizer="none", student="linear", batch_size=1, learning_rate=1.0
    )
    assert (in_law(direct, chain) > 1e-5) == (shift == 0)


def test_simulate_online_pn_is_wn():
    options = {"batch_size": 2, "zeta": 0.1, "progress": False}
    pn = simulate_online(S=0.25, normalizer="pn", **options)
    wn = simulate_online(S=0.25, normalizer="wn", **options)
    assert np.array_equal(pn.R, wn.R)


def linear_ode(normalizer, S, eta, zeta, state, t_max, n=4000):
    """Order-parameter equations (6) of a linear student and teacher, by Runge-Kutta."""

    def slope(state):
        gamma, R, L = state
        if normalizer == "none":
            gamma = L
        i1, i3 = gamma * R - gamma**2, 1 - gamma * R
        i2 = 1 + gamma**2 - 2 * gamma * R + S
        if normalizer == "none":
            dL = (2 * eta * (i1 - zeta * L**2) + eta**2 * i2) / (2 * L)
            dLR = eta * (i3 - zeta * L * R)
            return np.array([dL, (dLR - R * dL) / L, dL])
        dR = eta * gamma / L**2 * i3 - eta * R / L**2 * i1 - eta**2 * gamma**2 * R * i2 / (2 * L**4)
        return np.array(
            [eta * i1 / gamma - eta * zeta * gamma, dR, eta**2 * gamma**2 * i2 / (2 * L**3)]
        )

    state, h = np.array(state, float), t_max / n
    for _ in range(n):
        k1 = slope(state)
        k2 = slope(state + h / 2 * k1)
        k3 = slope(state + h / 2 * k2)
        k4 = slope(state + h * k3)
        state += h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return state


@pytest.mark.parametrize("normalizer", ["none", "wn"])
def test_chain_meets_the_learning_dynamics_at_large_n(normalizer):
    N, n_runs = 20_000, 8
    gamma = {"gamma0": 0.5} if normalizer == "wn" else {}
    run = simulate_online(
        S=0.25, N=N, student="linear", normalizer=normalizer, zeta=0.1, learning_rate=0.5,
        t=3.0, R0=0.2, L0=0.5, n_runs=n_runs, progress=False, **gamma,
    )  # fmt: skip
    exact = linear_ode(normalizer, 0.25, 0.5, 0.1, (0.5, 0.2, 0.5), 3.0)
    for name, value in zip(("gamma", "R", "L"), exact, strict=True):
        error = run.standard_error(name)[-1]
        assert abs(run.mean(name)[-1] - value) < 5 * error + 2 / N
        assert error < 2e-3


def test_chain_fluctuations_shrink_with_the_square_root_of_n():
    spread = []
    for N in (100, 10_000):
        run = simulate_online(S=0.25, N=N, t=[1.0], n_runs=200, L0=0.5, R0=0.2, progress=False)
        spread.append(run.R[-1].std())
    assert spread[0] / spread[1] == pytest.approx(10.0, rel=0.25)


def test_chain_keeps_one_minus_r_to_full_precision():
    # Without noise a linear student converges on its teacher; 1 - R^2 falls far below 2^-53.
    run = simulate_online(N=50, student="linear", learning_rate=0.5, t=60.0, progress=False)
    assert run.R[-1, 0] == 1.0
    assert run.gen_error[-1, 0] < 1e-12
    problem = _Problem(
        student=LINEAR, teacher=LINEAR, normalization=NORMALIZERS["none"], noise="output",
        loss=SQUARE, S=0.0, decay=0.0,
        batch_size=1, learning_rate=0.5, start=_OrderParameters(1.0, 0.0, 1.0), N=50,
    )  # fmt: skip
    walker = _Chain(problem, np.random.SeedSequence(1))
    walker.advance(3000)
    assert 0.0 < walker.state.across < 1e-9


def test_simulate_online_starts_where_asked():
    for engine in ("chain", "direct"):
        run = simulate_online(
            N=300, engine=engine, normalizer="bn", batch_size=4, gamma0=0.7, R0=-0.4, L0=2.0,
            t=0.1, progress=False,
        )  # fmt: skip
        start = (run.gamma[0, 0], run.R[0, 0], run.L[0, 0])
        assert start == pytest.approx((0.7, -0.4, 2.0), rel=1e-12)
        assert run.gen_error == pytest.approx(
            piecewise_teacher_error(run.gamma, run.R, 0.0, 0.0), rel=1e-12
        )
        assert run.t[0] == 0.0
        assert run.t[-1] == pytest.approx(0.1, abs=4 / 300)


@pytest.mark.parametrize("engine", ["chain", "direct"])
def test_simulate_online_depends_on_the_seed_only(engine):
    options = {"N": 60, "engine": engine, "n_runs": 6, "normalizer": "bn", "batch_size": 4}
    one = simulate_online(S=0.25, n_threads=1, seed=3, progress=False, **options)
    two = simulate_online(S=0.25, n_threads=3, seed=3, progress=False, **options)
    other = simulate_online(S=0.25, n_threads=1, seed=4, progress=False, **options)
    assert np.array_equal(one.R, two.R)
    assert not np.array_equal(one.R, other.R)
    assert len(np.unique(one.R[-1])) == 6


def test_chain_result_does_not_depend_on_the_records():
    coarse = simulate_online(S=0.25, N=40, t=[3.0], progress=False)
    fine = simulate_online(S=0.25, N=40, t=np.linspace(0, 3, 31), progress=False)
    assert coarse.R[-1, 0] == pytest.approx(fine.R[-1, 0], rel=1e-12)


@pytest.mark.parametrize("engine", ["chain", "direct"])
def test_simulate_online_marks_divergence(engine):
    with pytest.warns(ConvergenceWarning, match="1 of 1 runs diverged") as caught:
        run = simulate_online(
            S=0.25, N=50, student="linear", learning_rate=4.0, t=100.0, engine=engine,
            progress=False,
        )  # fmt: skip
    assert [warning.filename for warning in caught] == [__file__]
    assert run.status.dtype == np.int8
    assert run.status[0] == Status.DIVERGENT
    finite = np.isfinite(run.R[:, 0])
    assert finite[0]
    assert not finite[-1]
    assert np.all(np.diff(finite.astype(int)) <= 0)
    assert run.final()["status"] == "divergent"
    assert "1 divergent" in repr(run)


def test_chain_takes_any_n():
    # The work is the number of steps; a step that allocated by N would need terabytes here.
    run = simulate_online(N=10**12, normalizer="wn", batch_size=32, t=[32e-9], progress=False)
    assert run.t[-1] == pytest.approx(32e-9)


@pytest.mark.parametrize("engine", ["chain", "direct"])
@pytest.mark.parametrize("normalizer", NORMALIZERS)
def test_online_run_knows_its_problem(engine, normalizer):
    start = {"L0": 0.7, "R0": 0.1} | ({"gamma0": 0.6} if normalizer != "none" else {})
    run = simulate_online(
        S=0.25, N=30, student="relu", teacher=LeakyReLU(0.4), normalizer=normalizer, zeta=0.1,
        batch_size=3, learning_rate=0.3, t=[0.1, 0.35, 1.0], engine=engine, n_runs=2, seed=4,
        **start,
    )  # fmt: skip
    again = simulate_online(**run.problem)
    for name in ("t", *OBSERVED):
        assert np.allclose(getattr(again, name), getattr(run, name), rtol=1e-12, atol=0)


def test_online_run_final_and_plot():
    run = simulate_online(N=30, n_runs=3, progress=False)
    assert run.final()["R"] == run.mean("R")[-1]
    assert run.messages.tolist() == ["all steps that were asked for are done"] * 3
    assert not run.converged.any()
    ax = run.plot("gen_error")
    assert np.array_equal(ax.lines[0].get_ydata(), run.mean("gen_error"))
    assert np.array_equal(run.plot("R").lines[0].get_xdata(), run.t)
    with pytest.raises(ValueError, match="observable"):
        run.mean("train_error")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"S": -0.1}, "S must lie in"),
        ({"N": 2}, "N must be an integer >= 3, got 2"),
        ({"engine": "ode"}, "engine must be one of"),
        ({"normalizer": "ln"}, "normalizer must be one of"),
        ({"normalizer": "bn"}, "batch_size must be an integer >= 2, got 1"),
        ({"learning_rate": 0.0}, "learning_rate must lie in"),
        ({"R0": 1.5}, "R0 must lie in"),
        ({"L0": 0.0, "normalizer": "wn"}, "L0 must lie in"),
        ({"gamma0": 0.3}, "gamma0 must be L0 without a normalizer"),
        ({"teacher": "tanl"}, "teacher must be .* did you mean tanh"),
        ({"student": "sign"}, "student must be continuous, .* sign jumps at 0"),
        ({"gamma0": 0.0, "normalizer": "wn"}, "gamma0 must lie in"),
        ({"t": -1.0}, "t must lie in"),
        ({"t": []}, "t must be a number or a non-empty 1-D array"),
        ({"t": [1.0, 1.0]}, "t must increase by at least a step, 0.001, .* 1 before 1"),
        ({"n_runs": 10**12}, "n_runs must be an integer >= 1.* <= 1000000"),
        ({"n_threads": 0}, "n_threads must be an integer >= 1"),
        ({"N": 10**30}, "N must be an integer <= 1000000000000000000"),
        ({"t": 1e20}, "t must give at most 1e\\+12 steps"),
        ({"L0": 1e300}, "L0 must lie in"),
        ({"S": 1e200}, "S must lie in"),
    ],
)
def test_simulate_online_refuses_bad_input(bad, message):
    with pytest.raises(ValueError, match=message):
        simulate_online(**{"S": 0.25, **bad})


def test_simulate_online_predicts_its_memory(monkeypatch):
    monkeypatch.setattr(data_module, "available_memory", lambda: 10**6)
    with pytest.raises(MemoryError, match="direct engine with N = 100000"):
        simulate_online(N=100_000, engine="direct")
    with pytest.raises(MemoryError, match=r"chain engine with .* M = 100000, .* batch_size"):
        simulate_online(N=10**6, batch_size=100_000)
    assert simulate_online(N=100_000, t=1e-3, progress=False).n_runs == 1
