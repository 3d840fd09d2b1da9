"""Tests of the matrix-free engine: equal in law to dense full-batch training, and its limit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import ks_2samp

from replica import ConvergenceWarning, Status
from replica.simulation import _data as data_module
from replica.simulation import _matrix_free as matrix_free
from replica.simulation._matrix_free import _Directions, matrix_free_memory
from replica.simulation._settings import NORMALIZERS
from replica.simulation._training import mean_field_training, simulate_training
from replica.students import LeakyReLU

OBSERVED = ("gamma", "R", "train_error", "gen_error", "dead_fraction")


def in_law(a, b, names=OBSERVED):
    """Smallest p-value of two-sample tests of every observable at two times, and of the means."""
    smallest = 1.0
    for name in names:
        for when in (-1, len(a.epoch) // 2):
            x, y = getattr(a, name)[when], getattr(b, name)[when]
            if np.ptp(x) == 0.0 and np.ptp(y) == 0.0:
                assert x[0] == y[0]
                continue
            smallest = min(smallest, ks_2samp(x, y).pvalue)
            z = (x.mean() - y.mean()) / math.sqrt(x.var() / x.size + y.var() / y.size)
            smallest = min(smallest, math.erfc(abs(z) / math.sqrt(2)))
            # Variance ratio on the log scale; its error grows with the kurtosis.
            kurtosis = np.mean((x - x.mean()) ** 4) / x.var() ** 2
            error = math.sqrt(max(kurtosis - 1.0, 0.1) * (1 / x.size + 1 / y.size))
            z = math.log(x.var() / y.var()) / error
            smallest = min(smallest, math.erfc(abs(z) / math.sqrt(2)))
    return smallest


def both_engines(n_runs=2000, **options):
    options = {"N": 64, "epochs": 6, "learning_rate": 0.3, "n_runs": n_runs, **options}
    P = round(1.5 * options["N"])
    dense = simulate_training(
        1.5, 0.25, batch_size=P, seed=1, record=3, progress=False, n_threads=1, **options
    )
    free = simulate_training(
        1.5, 0.25, engine="matrix-free", seed=2, record=3, progress=False, **options
    )
    return dense, free


# The first four cases touch every branch of the gradient.
CASES = [("none", "relu"), ("wn", "relu"), ("bn", "linear"), ("bn-var", "relu")]
SLOW_CASES = [
    (normalizer, student)
    for normalizer in NORMALIZERS
    for student in ("linear", "relu")
    if (normalizer, student) not in CASES and normalizer != "pn"
]


@pytest.mark.parametrize(
    ("normalizer", "student"),
    [*CASES, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW_CASES)],
)
def test_matrix_free_agrees_in_law_with_dense(normalizer, student):
    # 30 p-values for each of 12 cases, fixed seeds: 1e-5 leaves a 0.4 % chance for a bad draw.
    dense, free = both_engines(normalizer=normalizer, student=student, zeta=0.1, L0=0.7)
    assert in_law(dense, free) > 1e-5
    assert free.orthogonality_error.max() < 1e-13


def test_matrix_free_agrees_in_law_with_every_option_on():
    dense, free = both_engines(
        n_runs=1000, student=LeakyReLU(0.2), anneal=True, momentum=0.5, dropout=0.2,
        schedule="cosine", normalizer="bn",
    )  # fmt: skip
    assert in_law(dense, free) > 1e-5


@pytest.mark.parametrize(("student", "epochs"), [("relu", 6), ("linear", 30)])
def test_matrix_free_agrees_in_law_in_float32(student, epochs):
    dense, free = both_engines(n_runs=1000, student=student, epochs=epochs, dtype="float32")
    assert in_law(dense, free) > 1e-5
    assert 1e-9 < free.orthogonality_error.max() < 1e-5


def test_matrix_free_float32_stays_close_to_float64():
    # A linear student soon looks along directions it knows, where rounding picks the new one and
    # with it other numbers of the same law: there only the law is the same (see above).
    options = {
        "N": 200, "engine": "matrix-free", "student": "relu", "epochs": 40, "zeta": 0.1,
        "learning_rate": 0.2, "progress": False,
    }  # fmt: skip
    for normalizer in ("none", "wn", "bn"):
        single, double = (
            simulate_training(1.5, 0.25, dtype=dtype, normalizer=normalizer, **options)
            for dtype in ("float32", "float64")
        )
        for name in ("gamma", "R", "train_error", "gen_error"):
            difference = np.abs(getattr(single, name) - getattr(double, name)).max()
            assert 0.0 < difference < 2e-6


@pytest.mark.parametrize("student", ["linear", "relu"])
def test_matrix_free_pn_is_wn(student):
    options = {"N": 64, "engine": "matrix-free", "epochs": 5, "zeta": 0.1, "progress": False}
    pn = simulate_training(1.5, 0.25, student=student, normalizer="pn", **options)
    wn = simulate_training(1.5, 0.25, student=student, normalizer="wn", **options)
    assert np.array_equal(pn.gen_error, wn.gen_error)


@pytest.mark.parametrize("shift", [-1, 0, 1])
def test_matrix_free_with_one_degree_of_freedom_too_many_or_too_few_is_caught(monkeypatch, shift):
    right = _Directions.draw_chi_square
    monkeypatch.setattr(_Directions, "draw_chi_square", lambda self, k: right(self, k + shift))
    dense, free = both_engines(n_runs=3000, N=16, zeta=0.1)
    assert (in_law(dense, free) > 1e-5) == (shift == 0)


def test_matrix_free_directions_satisfy_their_identities():
    # A = X V and U^T X = B V^T on the known directions imply U^T A = B, and U is orthonormal.
    N, P, steps = 50, 80, 20
    rng = np.random.default_rng(4)
    known = _Directions(P, N, steps, np.dtype(float), rng, None)
    for t in range(steps):
        f = np.tanh(known.A[:, : known.n_a] @ rng.standard_normal(known.n_a))
        expected = f @ known.A[:, : known.n_a]
        result = known.back_project(f.copy())
        # X^T f projected on the directions known before, and |X^T f| >= that projection.
        assert result[: t + 2] == pytest.approx(expected, abs=1e-12)
        assert result[t + 2] > 0.0
        assert not result[t + 3 :].any()
    U, A = known.U[:, :steps], known.A[:, : steps + 2]
    assert np.abs(U.T @ U - np.eye(steps)).max() < 1e-13
    assert np.abs(U.T @ A - known.B[:steps]).max() < 1e-13
    assert known.orthogonality_error < 1e-13


def test_matrix_free_spectrum_is_that_of_a_gaussian_matrix():
    # With every direction revealed, B B^T has the law of X X^T restricted to the span of U; its
    # trace per direction is chi-square with N degrees of freedom.
    N, P, steps = 40, 60, 10
    totals = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        known = _Directions(P, N, steps, np.dtype(float), rng, None)
        for _ in range(steps):
            known.back_project(rng.standard_normal(P))
        totals.append(N * np.sum(known.B[:steps] ** 2, axis=1))
    totals = np.array(totals).ravel()
    error = math.sqrt(2 * N / totals.size)
    assert abs(totals.mean() - N) < 4 * error
    assert totals.var() == pytest.approx(2 * N, rel=0.1)


def test_matrix_free_reveals_nothing_for_a_known_direction():
    rng = np.random.default_rng(1)
    known = _Directions(30, 20, 5, np.dtype(float), rng, None)
    first = rng.standard_normal(30)
    once = known.back_project(first.copy())
    again = known.back_project(2.0 * first)
    assert known.n_u == 1
    assert again == pytest.approx(2.0 * once, rel=1e-13)
    assert not known.back_project(np.zeros(30)).any()


def test_matrix_free_does_not_depend_on_the_number_of_threads():
    P = 16 * matrix_free._BLOCK
    options = {"engine": "matrix-free", "N": P, "epochs": 4, "progress": False, "seed": 3}
    for dtype in ("float64", "float32"):
        one = simulate_training(1.0, 0.25, n_threads=1, dtype=dtype, **options)
        two = simulate_training(1.0, 0.25, n_threads=4, dtype=dtype, **options)
        assert np.array_equal(one.R, two.R)
        assert np.array_equal(one.train_error, two.train_error)


def test_matrix_free_finite_size_scatter_shrinks_with_the_square_root_of_n():
    scatter = []
    for N in (100, 10_000):
        run = simulate_training(
            1.0, 0.25, N=N, engine="matrix-free", epochs=8, n_runs=60, student="relu",
            progress=False, seed=5,
        )  # fmt: skip
        scatter.append(run.gen_error[-1].std())
    assert scatter[0] / scatter[1] == pytest.approx(10.0, rel=0.4)


def test_matrix_free_stops_when_converged_or_diverged():
    run = simulate_training(
        4.0, 0.1, N=200, engine="matrix-free", epochs=60, learning_rate=0.15, tolerance=1e-3,
        zeta=0.5, progress=False,
    )  # fmt: skip
    assert run.status[0] == Status.CONVERGED
    assert run.epochs_done[0] < 60
    assert run.R[-1, 0] > 0.9
    with pytest.warns(ConvergenceWarning, match="1 of 1 runs diverged"):
        run = simulate_training(
            4.0, 0.1, N=200, engine="matrix-free", epochs=60, learning_rate=3.0, progress=False
        )
    assert run.status[0] == Status.DIVERGENT
    assert math.isnan(run.R[-1, 0])
    with pytest.warns(ConvergenceWarning):  # overflows, but no warning of NumPy's
        simulate_training(
            1.0, 0.1, N=99, engine="matrix-free", epochs=9, learning_rate=1e200, progress=False
        )


def test_matrix_free_predicts_its_memory(monkeypatch):
    wanted = []
    monkeypatch.setattr(
        "replica.simulation._training.require_memory", lambda n, *text: wanted.append(n)
    )
    run = simulate_training(1.5, 0.0, N=2000, engine="matrix-free", epochs=10, progress=False)
    known = _Directions(3000, 2000, 10, np.dtype(float), np.random.default_rng(0), None)
    assert known.A.nbytes + known.U.nbytes <= wanted[0] < 1.5 * (known.A.nbytes + known.U.nbytes)
    assert run.weights is None
    monkeypatch.undo()
    monkeypatch.setattr(data_module, "available_memory", lambda: 10**5)
    with pytest.raises(MemoryError, match="matrix-free"):
        simulate_training(1.5, 0.0, N=2000, engine="matrix-free", epochs=10, progress=False)
    assert callable(matrix_free_memory)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"batch_size": 32}, "batch_size must be P = 100"),
        ({"epochs": 99}, r"epochs must be at most min\(N, P\) - 2 = 98"),
    ],
)
def test_matrix_free_refuses_what_it_cannot_do(bad, message):
    with pytest.raises(ValueError, match=message):
        simulate_training(1.0, 0.0, **{"N": 100, "engine": "matrix-free", "epochs": 5, **bad})
    dense = simulate_training(1.0, 0.0, N=100, epochs=1, batch_size=10, progress=False)
    with pytest.raises(ValueError, match="start must hold weights"):
        simulate_training(1.0, 0.0, N=100, engine="matrix-free", epochs=2, start=dense)


def test_mean_field_training_is_met_by_dense_training():
    options = {"student": "relu", "zeta": 0.1, "learning_rate": 0.3, "progress": False}
    limit = mean_field_training(
        1.5, 0.25, n_samples=20_000, n_runs=6, epochs=10, record=5, **options
    )
    dense = simulate_training(
        1.5, 0.25, N=500, batch_size=750, n_runs=40, epochs=10, record=5, seed=9, **options
    )
    for name in ("gamma", "R", "train_error", "gen_error"):
        error = np.hypot(limit.standard_error(name), dense.standard_error(name))
        difference = np.abs(limit.mean(name) - dense.mean(name))
        assert np.all(difference < 4 * error + 2 / 500)
        assert np.all(limit.standard_error(name) < 0.01)


def test_mean_field_training_linear_first_step_is_exact():
    # From W = 0 one step of rate eta gives m = eta alpha, q = eta^2 (alpha^2 + alpha (1 + S)).
    alpha, S, eta = 1.5, 0.25, 0.3
    run = mean_field_training(
        alpha, S, n_samples=20_000, epochs=1, L0=0.0, learning_rate=eta, progress=False
    )
    m, q = run.gamma[-1] * run.R[-1], run.gamma[-1] ** 2
    for value, exact in (
        (m, eta * alpha),
        (q, eta**2 * (alpha**2 + alpha * (1 + S))),
    ):
        assert abs(value.mean() - exact) < 4 * value.std(ddof=1) / math.sqrt(value.size) + 1e-4


def descent_error(alpha, S, eta, steps):
    """Error of linear full-batch descent from W = 0 as N -> infinity: each eigenvalue x of X^T X
    learns the fraction 1 - (1 - eta x)^steps of its component, and of the noise on it."""
    low, high = (1 - math.sqrt(alpha)) ** 2, (1 + math.sqrt(alpha)) ** 2

    def integrand(theta):
        # x runs over the Marchenko-Pastur law as theta over [0, pi]; the edges become smooth.
        x = (high + low) / 2 - (high - low) / 2 * math.cos(theta)
        density = ((high - low) / 2 * math.sin(theta)) ** 2 / (2 * math.pi * x)
        left = (1 - eta * x) ** steps
        return density * (left**2 + S * (1 - left) ** 2 / x)

    return max(1 - alpha, 0) + quad(integrand, 0, math.pi)[0]


@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_mean_field_training_agrees_with_the_spectrum(alpha):
    S, eta = 0.25, 0.25
    run = mean_field_training(
        alpha, S, n_samples=20_000, epochs=12, L0=0.0, learning_rate=eta, record=4,
        progress=False,
    )  # fmt: skip
    error = run.standard_error("gen_error")
    for i, steps in enumerate(run.epoch):
        exact = descent_error(alpha, S, eta, steps)
        assert abs(run.mean("gen_error")[i] - exact) < 4 * error[i] + 2 / 20_000
    assert np.all(error < 3e-3)


@pytest.mark.parametrize("bad", ["N", "engine", "batch_size", "start"])
def test_mean_field_training_refuses_what_it_sets_itself(bad):
    with pytest.raises(TypeError, match=f"takes no {bad}"):
        mean_field_training(1.0, 0.0, **{bad: 3})
