"""Simulators with every loss, label and student, and training to the minimum."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from scipy.optimize import linprog
from scipy.special import expit

import replica
from replica import ArgumentError, ConvergenceWarning, Status
from replica.labels import Flip
from replica.losses import ABSOLUTE, HINGE, LOGISTIC, Loss, as_loss, huber
from replica.simulation import _kernels as kernels
from replica.simulation import simulate_online, simulate_training
from replica.simulation._data import draw_labels, make_training_set
from replica.simulation._fresh_errors import fresh_loss, sign_error, student_error
from replica.simulation._settings import NORMALIZERS
from replica.simulation._tables import Tables, kinks_of
from replica.students import LINEAR, RELU, SIGN, TANH, LeakyReLU, Student, as_student


def log_cosh(r):
    return np.logaddexp(r, -r)


def steep(x):
    return max(0.0, 1.0 - x) ** 2 + max(0.0, -x)


RESIDUALS = ["absolute", "huber:0.7", "epsilon-insensitive:0.3", "quantile:0.8", Loss(log_cosh)]
MARGINS = ["hinge", "squared-hinge", "logistic", "exponential"]
MARGINS += [Loss(steep, kinks=(0.0, 1.0), of="margin")]
LOSSES = [as_loss(loss) for loss in RESIDUALS + MARGINS]
SMOOTH = ["square", "huber", "squared-hinge", "logistic", "exponential"]
KINKED = ["absolute", "quantile:0.9", "epsilon-insensitive:0.3", "hinge"]
QUIET = {"progress": False}


def labels_for(loss):
    """A teacher and a noise whose labels the loss takes."""
    signs = {"teacher": "sign", "noise": "input"}
    return signs if as_loss(loss).of == "margin" else {}


def training_set_of(run, i=0):
    P = round(run.alpha * run.N)
    dtype = run.weights.dtype
    return make_training_set(P, run.N, run.S, run.data_seeds[i], dtype, run.teacher, run.noise)


def name_of(value):
    return value if isinstance(value, str) else getattr(value, "name", None)


# -------------------------------------------------------------------------------- gradients


@pytest.mark.parametrize("student", [LeakyReLU(0.3), TANH], ids=name_of)
@pytest.mark.parametrize("loss", LOSSES, ids=name_of)
def test_gradient_of_every_loss_agrees_with_finite_differences(loss, student):
    rng = np.random.default_rng(4)
    N, M, v = 12, 7, 2.5
    w, X = rng.standard_normal(N), rng.standard_normal((M, N)) / math.sqrt(N)
    y = rng.standard_normal(M)
    y = np.sign(y) if loss.of == "margin" else y
    keep = 2.0 * rng.integers(0, 2, M)
    tables = Tables(student, loss)
    for normalizer in ("none", "wn", "bn"):

        def energy(w, v, normalizer=normalizer):
            u = X @ w
            if normalizer == "bn":
                u = (u - u.mean()) / u.std()
            elif normalizer == "wn":
                u = u * math.sqrt(N) / np.linalg.norm(w)
            g = student.values(u if normalizer == "none" else v / math.sqrt(N) * u)
            return float(np.sum(loss.values(loss.argument(y, keep * g))))

        c = np.empty(M)
        b, dgamma, _, beyond = kernels.backpropagate(
            X @ w, y, keep, v / math.sqrt(N), np.linalg.norm(w) / math.sqrt(N), N,
            *NORMALIZERS[normalizer], tables.slope, tables.slope, tables.table, tables.loss, c,
        )  # fmt: skip
        step = 1e-6
        numeric = [(energy(w - e, v) - energy(w + e, v)) / 2 / step for e in step * np.eye(N)]
        assert b * w + X.T @ c == pytest.approx(np.array(numeric), abs=3e-8)
        if normalizer != "none":
            slope = (energy(w, v - step) - energy(w, v + step)) / (2 * step)
            assert math.sqrt(N) * dgamma == pytest.approx(slope, abs=3e-8)
        assert beyond == 0.0
        assert np.linalg.norm(numeric) > 0.01


@pytest.mark.parametrize("loss", LOSSES, ids=name_of)
def test_one_step_of_full_batch_descent_is_the_gradient(loss):
    options = {"N": 20, "batch_size": 40, "zeta": 0.3, "learning_rate": 0.05, "L0": 0.4, **QUIET}
    run = simulate_training(2.0, 0.25, loss=loss, epochs=1, **labels_for(loss), **options)
    before = simulate_training(2.0, 0.25, loss=loss, epochs=0, **labels_for(loss), **options)
    X, y = training_set_of(run).X, training_set_of(run).y
    w = before.weights[0]
    slope = loss.slopes(loss.argument(y, X @ w)) * (y if loss.of == "margin" else -1.0)
    expected = w - 0.05 * (X.T @ slope + 0.3 * w)
    assert run.weights[0] == pytest.approx(expected, rel=1e-9, abs=1e-11)


def test_table_of_a_loss_widens_where_a_run_asks():
    # The margin of the first table is 16; separable data drive it far beyond.
    own = Loss(lambda x: np.logaddexp(0.0, -x), of="margin")
    options = {"N": 10, "teacher": "sign", "zeta": 1e-6, "learning_rate": 5.0, "epochs": 400}
    one = simulate_training(1.0, 0.0, loss=own, normalizer="wn", gamma0=30.0, **options, **QUIET)
    two = simulate_training(
        1.0, 0.0, loss="logistic", normalizer="wn", gamma0=30.0, **options, **QUIET
    )
    assert one.gamma[-1, 0] > 20.0
    assert one.gamma == pytest.approx(two.gamma, rel=1e-9)
    assert one.train_loss == pytest.approx(two.train_loss, rel=1e-7, abs=1e-15)


def test_loss_that_overflows_diverges():
    with pytest.warns(ConvergenceWarning, match="1 of 1 runs diverged"):
        run = simulate_training(
            1.0, 0.0, N=20, teacher="sign", loss="exponential", learning_rate=1.0, L0=600.0, **QUIET
        )
    assert run.status[0] == Status.DIVERGENT


@pytest.mark.parametrize("loss", ["absolute", "hinge", "logistic"])
def test_engines_agree_in_law_for_every_loss(loss):
    options = {"N": 200, "batch_size": 300, "epochs": 5, "learning_rate": 0.2, "n_runs": 40}
    options |= labels_for(loss) | QUIET
    dense, free = (
        simulate_training(1.5, 0.25, student="tanh", loss=loss, engine=engine, **options)
        for engine in ("dense", "matrix-free")
    )
    for name in ("gamma", "R", "train_loss", "test_loss", "gen_error"):
        gap = abs(dense.mean(name)[-1] - free.mean(name)[-1])
        error = math.hypot(dense.standard_error(name)[-1], free.standard_error(name)[-1])
        assert gap < 4 * error, name


# ---------------------------------------------------------------------------------- labels


def test_labels_have_the_law_that_their_noise_says():
    z = np.full(200_000, 0.4)
    rng = np.random.default_rng(3)
    S = math.pi**2 / 3
    drawn = {
        noise: draw_labels(SIGN, noise, S, z, rng) for noise in ("input", "logistic", Flip(0.2))
    }
    plus = {
        "input": 0.5 * math.erfc(-0.4 / math.sqrt(2 * S)),
        "logistic": expit(0.4),
    }
    plus[Flip(0.2)] = 0.2 + 0.6 * plus["input"]
    for noise, y in drawn.items():
        assert set(np.unique(y)) == {-1.0, 1.0}
        error = math.sqrt(plus[noise] * (1 - plus[noise]) / y.size)
        assert abs(np.mean(y > 0) - plus[noise]) < 4 * error, noise
    outside = draw_labels(RELU, "output", 0.25, z, rng)
    assert abs(outside.var() - 0.25) < 4 * 0.25 * math.sqrt(2 / z.size)
    assert draw_labels(RELU, "input", 0.25, z, rng).min() == 0.0


# ------------------------------------------------------------- losses and errors on fresh inputs

PROBLEMS = [
    # student, teacher, noise, S, loss
    (LINEAR, LINEAR, "output", 0.25, huber(0.5)),
    (LINEAR, LINEAR, "logistic", 0.25, ABSOLUTE),
    (TANH, LINEAR, "output", 0.0, as_loss("epsilon-insensitive:0.4")),
    (TANH, RELU, "output", 0.25, ABSOLUTE),
    (RELU, RELU, "input", 0.25, as_loss("quantile:0.8")),
    (TANH, RELU, "logistic", 0.25, Loss(log_cosh)),
    (LeakyReLU(0.2), TANH, "output", 0.0, ABSOLUTE),
    (LINEAR, SIGN, "input", 0.25, HINGE),
    (LINEAR, SIGN, "logistic", 3.0, LOGISTIC),
    (TANH, SIGN, Flip(0.1), 0.0, LOGISTIC),
    (LeakyReLU(0.3), SIGN, "logistic", 0.01, as_loss("squared-hinge")),
    (LINEAR, SIGN, "input", 0.25, as_loss("square")),
]


def ids_of(problem):
    student, teacher, noise, _, loss = problem
    return f"{student.name}-{teacher.name}-{getattr(noise, 'name', noise)}-{loss.name}"


@pytest.mark.parametrize("problem", PROBLEMS, ids=ids_of)
def test_fresh_loss_is_that_of_a_sample(problem):
    student, teacher, noise, S, loss = problem
    rng = np.random.default_rng(7)
    for gamma, R, bias in ((0.8, 0.6, 0.0), (3.0, 0.95, -0.4)):
        z, rest = rng.standard_normal((2, 200_000))
        u = gamma * (R * z + math.sqrt(1 - R * R) * rest) + bias
        y = draw_labels(teacher, noise, S, z, rng)
        sample = loss.values(loss.argument(y, student.values(u)))
        found = fresh_loss(*problem, *(np.array([x]) for x in (gamma, R, bias)))[0]
        assert abs(sample.mean() - found) < 4 * sample.std() / math.sqrt(sample.size)


def test_fresh_loss_of_an_own_function_is_that_of_the_name():
    # Strips against a table, and the closed form of the square against both averages.
    state = np.array([0.3, 0.9]), np.array([0.5, 0.99]), np.array([0.0, 0.2])
    own = Loss(abs, kinks=(0.0,))
    square = Loss(lambda r: 0.5 * r * r)
    for teacher, noise in ((LINEAR, "output"), (RELU, "output"), (TANH, "input")):
        problem = (TANH, teacher, noise, 0.25)
        one, two = fresh_loss(*problem, own, *state), fresh_loss(*problem, ABSOLUTE, *state)
        assert one == pytest.approx(two, rel=1e-9)
        one, two = (fresh_loss(*problem, loss, *state) for loss in (square, as_loss("square")))
        assert one == pytest.approx(two, rel=1e-9)
    assert as_loss("square") != square


def test_fresh_loss_of_the_closed_cases():
    # E|r| and E max(0, 1 - r) of normal r; the probit of the overlap.
    gamma, R, S = 0.7, 0.8, 0.25
    one = (np.array([x]) for x in (gamma, R, 0.0))
    found = fresh_loss(LINEAR, LINEAR, "output", S, ABSOLUTE, *one)[0]
    width = math.sqrt(1 + S + gamma**2 - 2 * gamma * R)
    assert found == pytest.approx(width * math.sqrt(2 / math.pi), rel=1e-10)
    nothing = (np.array([x]) for x in (0.0, 0.0, 0.0))
    assert fresh_loss(LINEAR, SIGN, "input", S, LOGISTIC, *nothing)[0] == pytest.approx(math.log(2))


@pytest.mark.parametrize("gamma", [0.5, 4.0, 15.0])
def test_fresh_loss_of_exponential_growth_is_complete(gamma):
    # E exp(-y u) of labels that know nothing of u: all of it lies at v = +-gamma.
    found = fresh_loss(
        LINEAR,
        SIGN,
        Flip(0.5),
        0.0,
        as_loss("exponential"),
        *(np.array([x]) for x in (gamma, 0.3, 0.0)),
    )
    assert found[0] == pytest.approx(math.exp(0.5 * gamma**2), rel=1e-10)


def test_sign_error_with_a_bias_is_that_of_a_sample():
    z, rest = np.random.default_rng(2).standard_normal((2, 400_000))
    for gamma, R, bias in ((0.5, 0.3, 0.4), (2.0, -0.9, -0.3), (1.0, 0.999, 0.01)):
        u = gamma * (R * z + math.sqrt(1 - R * R) * rest) + bias
        p = float(sign_error(gamma, R, bias))
        assert abs(np.mean(np.sign(u) != np.sign(z)) - p) < 4 * math.sqrt(p * (1 - p) / z.size)
    assert sign_error(1.0, 1.0) == 0.0
    assert sign_error(1.0, -1.0) == 1.0


def test_student_error_with_a_bias_agrees_with_the_linear_teachers_form():
    gamma, R, bias = np.array([0.4, 2.0]), np.array([0.3, -0.9]), np.array([0.5, -1.5])
    general = Student(lambda u: max(u, 0.2 * u), kinks=(0.0,))
    exact = student_error(LeakyReLU(0.2), LINEAR, gamma, R, bias)
    assert student_error(general, LINEAR, gamma, R, bias) == pytest.approx(exact, rel=1e-11)


# --------------------------------------------------------------------- what a run reports is true


@pytest.mark.parametrize("normalizer", ["none", "wn", "bn"])
@pytest.mark.parametrize("loss", ["logistic", "huber"])
@pytest.mark.parametrize("student", ["tanh", LeakyReLU(0.2)], ids=name_of)
def test_run_reports_what_its_weights_say(student, loss, normalizer):
    run = simulate_training(
        1.5, 0.25, N=40, epochs=4, student=student, loss=loss, normalizer=normalizer, zeta=0.1,
        batch_size=8, **labels_for(loss), **QUIET,
    )  # fmt: skip
    X, y = training_set_of(run).X, training_set_of(run).y
    h = X @ (run.weight_scale[0] * run.weights[0]) + run.bias[-1, 0]
    g, loss = as_student(student).values(h), as_loss(loss)
    mean = np.mean(loss.values(loss.argument(y, g)))
    assert run.train_error[-1, 0] == pytest.approx(np.mean((y - g) ** 2), rel=1e-10)
    assert run.train_loss[-1, 0] == pytest.approx(mean, rel=1e-10)
    energy = 1.5 * mean + 0.05 * run.gamma_population[-1, 0] ** 2
    assert run.energy[-1, 0] == pytest.approx(energy, rel=1e-10)
    if loss.of == "margin":
        assert run.train_error_rate[-1, 0] == np.mean(y * h <= 0)
        assert run.gen_error[-1, 0] == run.error_rate[-1, 0]
    else:
        assert np.isnan(run.train_error_rate).all()
        assert np.isnan(run.error_rate).all()


def test_error_rate_without_bias_is_the_angle():
    run = simulate_training(1.0, 0.0, N=30, epochs=3, teacher="sign", loss="hinge", **QUIET)
    assert run.error_rate == pytest.approx(np.arccos(run.R) / math.pi, rel=1e-13)
    square = simulate_training(1.0, 0.0, N=30, epochs=3, teacher="sign", **QUIET)
    assert square.error_rate == pytest.approx(np.arccos(square.R) / math.pi, rel=1e-13)
    cross = square.gamma * square.R * math.sqrt(2 / math.pi)
    assert square.gen_error == pytest.approx(1 + square.gamma**2 - 2 * cross, rel=1e-9)


# --------------------------------------------------------------------------- to the minimum


@pytest.mark.parametrize("alpha", [0.6, 2.0])
@pytest.mark.parametrize("method", ["newton", "l-bfgs"])
def test_minimum_of_the_square_loss_is_ridge_regression(method, alpha):
    run = simulate_training(alpha, 0.25, N=50, zeta=0.2, method=method, **QUIET)
    X, y = training_set_of(run).X, training_set_of(run).y
    ridge = np.linalg.solve(X.T @ X + 0.2 * np.eye(50), X.T @ y)
    assert run.status[0] == Status.CONVERGED
    assert run.weights[0] == pytest.approx(ridge, abs=1e-6 if method == "l-bfgs" else 1e-10)
    w = run.weights[0]
    gradient = np.linalg.norm(X.T @ (X @ w - y) + 0.2 * w) / math.sqrt(50)
    assert run.gradient_norm[0] == pytest.approx(gradient, rel=1e-3, abs=1e-13)
    assert run.epoch.tolist() == [0, 1]


@pytest.mark.parametrize("alpha", [0.6, 2.0])
@pytest.mark.parametrize("loss", [*SMOOTH, *RESIDUALS, *MARGINS], ids=name_of)
def test_newton_finds_the_minimum_of_every_loss(loss, alpha):
    run = simulate_training(
        alpha, 0.25, N=40, zeta=0.1, method="newton", loss=loss, **labels_for(loss), **QUIET
    )
    assert run.status[0] == Status.CONVERGED
    assert 0.0 <= run.duality_gap[0] <= 1e-10
    # Nothing near is lower: the energy is strongly convex, E(w + d) >= E + zeta |d|^2 / 2.
    X, y = training_set_of(run).X, training_set_of(run).y
    loss = run.loss

    def energy(w):
        return np.sum(loss.values(loss.argument(y, X @ w))) + 0.05 * w @ w

    w = run.weights[0]
    assert energy(w) / 40 == pytest.approx(run.energy[-1, 0], rel=1e-12)
    rng = np.random.default_rng(1)
    for size in (1e-3, 0.1, 3.0):
        for d in size * rng.standard_normal((10, 40)):
            assert energy(w + d) >= energy(w) + 0.05 * d @ d * (1 - 1e-6) - 1e-9


@pytest.mark.parametrize("loss", SMOOTH)
def test_l_bfgs_finds_what_newton_finds(loss):
    newton, descent = (
        simulate_training(
            2.0, 0.25, N=60, zeta=0.1, method=method, loss=loss, **labels_for(loss), **QUIET
        )
        for method in ("newton", "l-bfgs")
    )
    assert descent.status[0] == Status.CONVERGED
    assert descent.weights == pytest.approx(newton.weights, abs=2e-5)
    assert descent.energy[-1] == pytest.approx(newton.energy[-1], rel=1e-11)
    assert descent.duality_gap[0] < 1e-10


def test_newton_takes_samples_that_depend_on_each_other():
    # Inputs of rank 10, 20 samples: X X^T has no Cholesky factor.
    flat = replica.Spectrum([1.0, 0.0, 0.0, 0.0], teacher=[1.0, 0.0, 0.0, 0.0])
    options = {"N": 40, "zeta": 0.1, "inputs": flat, "method": "newton", **QUIET}
    for loss in ("huber", "absolute"):
        run = simulate_training(0.5, 0.25, loss=loss, **options)
        assert run.status[0] == Status.CONVERGED
        assert np.count_nonzero(np.abs(run.weights[0]) > 1e-9) == 10


def test_least_absolute_deviations_are_the_linear_program():
    run = simulate_training(2.0, 0.5, N=20, loss="absolute", method="newton", **QUIET)
    X, y = training_set_of(run).X, training_set_of(run).y
    P, N = X.shape
    cost = np.concatenate([np.zeros(N), np.ones(2 * P)])
    exact = linprog(
        cost,
        A_eq=np.hstack([X, np.eye(P), -np.eye(P)]),
        b_eq=y,
        bounds=[(None, None)] * N + [(0, None)] * (2 * P),
    )
    assert run.status[0] == Status.CONVERGED
    assert run.energy[-1, 0] * N == pytest.approx(exact.fun, rel=1e-9)
    assert run.weights[0] == pytest.approx(exact.x[:N], abs=1e-5)


def test_minima_are_those_of_scikit_learn():
    linear_model = pytest.importorskip("sklearn.linear_model")
    svm = pytest.importorskip("sklearn.svm")
    options = {"N": 30, "zeta": 0.5, "teacher": "sign", "noise": "input", "method": "newton"}
    for name, model in (
        ("logistic", linear_model.LogisticRegression(C=2.0, fit_intercept=False, tol=1e-10)),
        ("hinge", svm.LinearSVC(
            C=2.0, loss="hinge", fit_intercept=False, tol=1e-10, max_iter=10**6
        )),
        # Their squared hinge has no factor 1/2.
        ("squared-hinge", svm.LinearSVC(C=1.0, fit_intercept=False, tol=1e-10, max_iter=10**6)),
    ):  # fmt: skip
        run = simulate_training(2.0, 0.25, loss=name, **options, **QUIET)
        data = training_set_of(run)
        theirs = model.fit(data.X, data.y).coef_[0]
        assert run.weights[0] == pytest.approx(theirs, abs=3e-5), name
    run = simulate_training(
        2.0, 0.25, N=30, loss="quantile:0.8", zeta=0.0, method="newton", **QUIET
    )
    data = training_set_of(run)
    model = linear_model.QuantileRegressor(quantile=0.8, alpha=0.0, fit_intercept=False)
    assert run.weights[0] == pytest.approx(model.fit(data.X, data.y).coef_, abs=1e-5)


def test_l_bfgs_trains_any_smooth_student_with_any_normalizer_to_a_stationary_point():
    for student, normalizer in (("tanh", "none"), ("softplus", "wn"), ("erf", "bn")):
        run = simulate_training(
            2.0, 0.25, N=30, student=student, teacher="relu", normalizer=normalizer, zeta=0.1,
            loss="huber", method="l-bfgs", **QUIET,
        )  # fmt: skip
        assert run.status[0] == Status.CONVERGED
        assert np.isnan(run.duality_gap[0])
        # A step of descent from there changes nothing.
        after = simulate_training(
            2.0, 0.25, N=30, student=student, teacher="relu", normalizer=normalizer, zeta=0.1,
            loss="huber", batch_size=60, learning_rate=0.1, epochs=1, start=run, **QUIET,
        )  # fmt: skip
        assert after.gamma[1, 0] == pytest.approx(run.gamma[-1, 0], rel=1e-5)
        assert after.R[1, 0] == pytest.approx(run.R[-1, 0], rel=1e-5)
        assert run.energy[1, 0] < run.energy[0, 0]


def test_sgd_ends_where_newton_does():
    options = {"N": 40, "zeta": 0.5, "teacher": "sign", "noise": "input", "loss": "logistic"}
    exact = simulate_training(2.0, 0.25, method="newton", **options, **QUIET)
    descent = simulate_training(
        2.0, 0.25, batch_size=80, learning_rate=0.5, epochs=2000, tolerance=1e-9, **options, **QUIET
    )
    assert descent.weights == pytest.approx(exact.weights, abs=1e-6)


@pytest.mark.parametrize(
    ("loss", "alpha", "status"),
    [
        ("logistic", 1.0, Status.DIVERGENT),
        ("exponential", 1.0, Status.DIVERGENT),
        ("squared-hinge", 1.0, Status.NEEDS_DECAY),
        ("hinge", 0.5, Status.NEEDS_DECAY),
        ("hinge", 1.5, Status.NEEDS_DECAY),
        ("absolute", 0.5, Status.NEEDS_DECAY),
    ],
)
def test_without_decay_separated_samples_have_no_minimum(loss, alpha, status):
    teacher = "sign" if as_loss(loss).of == "margin" else "linear"
    with pytest.warns(ConvergenceWarning, match="1 of 1 runs"):
        run = simulate_training(
            alpha, 0.0, N=40, teacher=teacher, loss=loss, method="newton", **QUIET
        )
    assert run.status[0] == status
    assert np.isnan(run.gamma[-1, 0])
    assert np.isnan(run.mean("energy")).all()
    assert run.final()["status"] == status.name.lower()


def test_minimizer_that_runs_out_of_iterations_says_so():
    with pytest.warns(ConvergenceWarning, match="1 of 1 runs found no minimum") as caught:
        run = simulate_training(
            2.0, 0.25, N=40, zeta=0.01, loss="huber", method="l-bfgs", epochs=2, **QUIET
        )
    assert [warning.filename for warning in caught] == [__file__]
    assert run.status[0] == Status.MAX_ITERATIONS
    assert np.isnan(run.energy[1, 0])
    assert np.isfinite(run.energy[0, 0])
    assert run.gradient_norm[0] > 0.0
    with pytest.raises(ArgumentError, match="start must not contain"):
        simulate_training(2.0, 0.25, N=40, start=run)


def test_run_of_a_minimizer_knows_its_problem():
    run = simulate_training(
        2.0, 0.25, N=30, zeta=0.2, teacher="sign", noise=Flip(0.1), loss="hinge", method="newton",
        n_runs=2, **QUIET,
    )  # fmt: skip
    again = simulate_training(**run.problem)
    assert np.array_equal(again.weights, run.weights)
    assert run.learning_rate is None
    assert not np.array_equal(run.weights[0], run.weights[1])


def test_decomposition_of_a_loss_finds_its_kinks():
    for name, edges, jumps in (
        ("absolute", [0.0], [2.0]),
        ("hinge", [1.0], [1.0]),
        ("epsilon-insensitive:0.3", [-0.3, 0.3], [1.0, 1.0]),
        ("quantile:0.9", [0.0], [1.0]),
        ("huber", [], []),
        ("squared-hinge", [], []),
        ("logistic", [], []),
    ):
        found = kinks_of(as_loss(name))
        assert found[0] == pytest.approx(edges), name
        assert found[1] == pytest.approx(jumps), name
    found = kinks_of(MARGINS[-1])  # its slope jumps at 0 only, its curvature at 1
    assert found[0] == pytest.approx([0.0])
    assert found[1] == pytest.approx([1.0])


# ----------------------------------------------------------------------------------- online


@pytest.mark.parametrize(
    ("loss", "noise", "student"),
    [
        ("huber", "output", "linear"),
        ("absolute", "output", "tanh"),
        ("hinge", "input", "linear"),
        ("logistic", "logistic", "linear"),
        (Loss(log_cosh), "output", "relu"),
        ("exponential", Flip(0.1), "erf"),
    ],
    ids=name_of,
)
def test_online_engines_agree_in_law_for_losses_and_noises(loss, noise, student):
    signs = as_loss(loss).of == "margin"
    options = {
        "student": student, "teacher": "sign" if signs else "linear", "loss": loss, "noise": noise,
        "S": 0.3, "zeta": 0.1, "batch_size": 4, "learning_rate": 0.3, "t": [1.0], "N": 40,
        "n_runs": 300, "progress": False,
    }  # fmt: skip
    chain, direct = (simulate_online(engine=engine, **options) for engine in ("chain", "direct"))
    for name in ("gamma", "R", "gen_error"):
        gap = abs(chain.mean(name)[-1] - direct.mean(name)[-1])
        error = math.hypot(chain.standard_error(name)[-1], direct.standard_error(name)[-1])
        assert gap < 4 * error, name
    if signs:
        assert chain.error_rate == pytest.approx(np.arccos(chain.R) / math.pi)
        assert np.array_equal(chain.gen_error, chain.error_rate)


def test_online_of_a_loss_of_ones_own_is_that_of_the_name():
    options = {"teacher": "sign", "noise": "input", "S": 0.2, "t": [0.5, 3.0], "N": 50, **QUIET}
    for engine in ("chain", "direct"):
        own = Loss(lambda x: np.logaddexp(0.0, -x), of="margin")
        one, two = (
            simulate_online(student="linear", loss=loss, engine=engine, **options)
            for loss in (own, LOGISTIC)
        )
        assert pytest.approx(two.R, rel=1e-9) == one.R
    assert pytest.approx(one.R, rel=1e-12) == simulate_online(**one.problem).R


# ---------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"loss": "hinge"}, "needs labels that are signs"),
        ({"loss": "hinge", "teacher": "sign"}, "needs labels that are signs"),
        ({"loss": "hing"}, "did you mean hinge"),
        ({"noise": "inptu"}, "noise must be one of"),
        ({"noise": Flip(0.1)}, "turns signs"),
        ({"teacher": "singn"}, "teacher must be"),
        ({"method": "adam"}, "method must be one of"),
        ({"method": "newton", "student": "tanh"}, "serves convex energies"),
        ({"method": "newton", "normalizer": "wn"}, "serves convex energies"),
        ({"method": "l-bfgs", "loss": "absolute"}, "without kinks.*method='newton' takes it"),
        ({"method": "l-bfgs", "student": "relu"}, "student without kinks, got student 'relu'"),
        ({"method": "newton", "momentum": 0.5}, "momentum must be 0.0 with method='newton'"),
        ({"method": "newton", "learning_rate": 0.5}, "learning_rate must be None"),
        ({"method": "newton", "batch_size": 8}, "batch_size must be 40"),
        ({"method": "newton", "dtype": "float32"}, "dtype must be 'float64'"),
        ({"method": "newton", "engine": "matrix-free", "epochs": 5}, "engine must be 'dense'"),
        ({"method": "newton", "schedule": "cosine"}, "schedule must be 'constant'"),
        ({"method": "l-bfgs", "dropout": 0.1}, "dropout must be 0.0"),
    ],
)
def test_simulate_training_refuses_what_has_no_meaning(bad, message):
    with pytest.raises(ArgumentError, match=message):
        simulate_training(**{"alpha": 1.0, "S": 0.25, "N": 40, **QUIET, **bad})


def test_simulate_online_refuses_labels_that_a_loss_cannot_take():
    with pytest.raises(ArgumentError, match="needs labels that are signs"):
        simulate_online(student="linear", loss="hinge", S=0.1, teacher="sign")


# ------------------------------------------------------------------------------ against the theory


@pytest.mark.parametrize("loss", ["logistic", "hinge", "huber", "absolute"])
def test_minimum_has_the_overlaps_of_the_theory(loss):
    point = {"alpha": 2.0, "zeta": 0.3, "loss": loss} | labels_for(loss)
    run = simulate_training(S=0.25, N=200, n_runs=8, method="newton", **point, **QUIET)
    assert (run.status == Status.CONVERGED).all()

    def deviations(S):
        exact = replica.solve_equilibrium(S=S, **point)
        names = ["gamma", "R", "gen_error", "train_error", "train_loss", "test_loss"]
        names += ["error_rate", "train_error_rate"] if run.loss.of == "margin" else []
        errors = {name: run.standard_error(name)[-1] + 0.25 / run.N for name in names}
        return {
            name: abs(run.mean(name)[-1] - getattr(exact, name)) / error
            for name, error in errors.items()
        }

    assert max(deviations(0.25).values()) < 4, deviations(0.25)
    assert max(deviations(0.5).values()) > 8  # the comparison sees another variance of the noise


@pytest.mark.parametrize(("method", "loss"), [("newton", "hinge"), ("l-bfgs", "huber")])
@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_minimizers_use_the_memory_they_predict(monkeypatch, method, loss, alpha):
    predicted = []
    monkeypatch.setattr(
        "replica.simulation._training.require_memory", lambda n, *text: predicted.append(n)
    )
    options = {"N": 500, "zeta": 1.0, "method": method, "loss": loss, **labels_for(loss), **QUIET}
    simulate_training(alpha, 0.25, **options)  # compiles
    tracemalloc.start()
    simulate_training(alpha, 0.25, **options)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0.6 * predicted[-1] < peak < 1.1 * predicted[-1] + 200_000
