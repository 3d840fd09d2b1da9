"""What batch normalization does to the teacher-student problem, against direct training."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

from bn_training import minimized_weights, problem, trained_weights
from replica import RELU, LeakyReLU, solve_equilibrium
from replica.batch_norm import (
    bn_equilibrium,
    bn_gen_error,
    gamma_decay_strength,
    output_penalty_strength,
    shrinkage,
    solve_output_penalty,
)


@pytest.mark.parametrize("size", [2, 3, 4, 8, 32, 1000, 10**8])
def test_shrinkage_is_the_mean_of_a_chi_variable(size):
    for dof, subtracted in ((size, False), (size - 1, True)):
        exact = mpmath.sqrt(mpmath.mpf(2) / size) * mpmath.gammaprod(
            [mpmath.mpf(dof + 1) / 2], [mpmath.mpf(dof) / 2]
        )
        assert shrinkage(size, mean_subtracted=subtracted) == pytest.approx(float(exact), rel=1e-12)


def test_shrinkage_tends_to_its_expansion():
    size = np.array([100, 1000])
    assert (1 - shrinkage(size)) * 4 * size == pytest.approx(1, abs=2e-3)
    assert (1 - shrinkage(size, mean_subtracted=True)) * 4 * size == pytest.approx(3, rel=1e-2)


def test_shrinkage_refuses_bad_input():
    with pytest.raises(ValueError, match="batch_size"):
        shrinkage(1)
    with pytest.raises(TypeError, match="batch_size"):
        shrinkage(8.0)
    with pytest.raises(ValueError, match="alpha must lie in"):
        bn_gen_error(0.0, 0.25, batch_size=8)
    with pytest.raises(ValueError, match="S must lie in"):
        bn_gen_error(1.0, -0.25, batch_size=8)
    with pytest.raises(ValueError, match="statistics must be one of"):
        bn_gen_error(1.0, 0.25, batch_size=8, statistics="running")
    with pytest.raises(ValueError, match="penalty must lie in"):
        solve_output_penalty(1.0, 0.25, 0.1, -0.5)


# --- linear student -----------------------------------------------------------------------------

N, S, SEEDS = 256, 0.25, 8


def measure(alpha, batch_size):
    """Rows of (projection on least squares, M tan(angle), error, the same with population sigma,
    the two errors expected on the same data)."""
    rows = []
    for seed in range(SEEDS):
        X, y, teacher = problem(N, alpha, S, seed)
        ls = np.linalg.lstsq(X, y, rcond=None)[0]
        training, population = minimized_weights(
            X, y, batch_size=batch_size, n_epochs=150, seed=seed
        )
        along = training @ ls / (ls @ ls)
        across = np.linalg.norm(training - along * ls) / np.linalg.norm(along * ls)
        theory = bn_equilibrium(alpha, S, batch_size=batch_size)
        # c_M and the angle of the theory on this very least-squares solution: N -> infinity is
        # not needed to compare, and the spread between data sets drops out.
        c = 1 - (1 - theory.shrinkage) * (len(y) - batch_size) / (len(y) - 1)
        stretch = 1 / np.cos(theory.angle) ** 2
        q, m = ls @ ls / N, ls @ teacher / N
        gain = c * np.sqrt(np.mean((X @ ls) ** 2) / (q * stretch))
        rows.append(
            [
                along - c,
                batch_size * across,
                np.mean((training - teacher) ** 2) - (1 + c**2 * q * stretch - 2 * c * m),
                np.mean((population - teacher) ** 2) - (1 + gain**2 * q * stretch - 2 * gain * m),
                np.mean((training - teacher) ** 2) - theory.gen_error,
            ]
        )
    rows = np.array(rows)
    return rows.mean(axis=0), rows.std(axis=0, ddof=1) / np.sqrt(SEEDS), theory


@pytest.mark.parametrize("batch_size", [4, 8, 32])
@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_bn_equilibrium_linear_student_agrees_with_training_to_convergence(alpha, batch_size):
    mean, error, theory = measure(alpha, batch_size)
    measured = mean[0] + theory.shrinkage
    print(
        f"alpha={alpha} M={batch_size}: c_M {theory.shrinkage:.4f} measured {measured:.4f} "
        f"+- {error[0]:.4f}; M tan(angle) {batch_size * np.tan(theory.angle):.3f} measured "
        f"{mean[1]:.3f} +- {error[1]:.3f}; error of data sets {mean[4]:+.4f} +- {error[4]:.4f}"
    )
    third_order = 1.0 / batch_size**3
    for value, spread in zip(mean[[0, 2, 3]], error[[0, 2, 3]], strict=True):
        assert abs(value) < 4 * spread + third_order + 1e-4
    # the error itself, with the spread of the data sets
    assert abs(mean[4]) < 4 * error[4] + third_order + 1e-4
    # the ridge-like shrinkage of independent noise, 1/(1 + 1/(2 M)), is excluded
    independent = 1 / (1 + gamma_decay_strength(batch_size, noise="std"))
    assert abs(measured - independent) > 4 * error[0]
    if alpha < 1:
        assert mean[1] < 1e-4  # exactly along least squares
    else:
        # finite N and M change the angle by 10 % here
        assert mean[1] == pytest.approx(batch_size * np.tan(theory.angle), rel=0.15)


def test_bn_equilibrium_linear_student_agrees_with_stochastic_gradient_descent():
    # The plain algorithm. A finite learning rate leaves an error of a few 1e-3.
    for alpha, batch_size in ((0.5, 4), (2.0, 8)):
        rows = []
        for seed in range(4):
            X, y, _ = problem(128, alpha, S, seed)
            ls = np.linalg.lstsq(X, y, rcond=None)[0]
            options = {"slope": 1.0, "batch_size": batch_size, "seed": seed}
            sgd, _ = trained_weights(X, y, n_epochs=2000, rate=0.3, **options)
            best, _ = minimized_weights(X, y, batch_size=batch_size, n_epochs=100, seed=seed)
            rows.append([sgd @ ls / (ls @ ls), best @ ls / (ls @ ls)])
            assert sgd @ best > 0.999 * np.linalg.norm(sgd) * np.linalg.norm(best)
        sgd, best = np.mean(rows, axis=0)
        print(f"alpha={alpha} M={batch_size}: SGD {sgd:.4f}, minimum {best:.4f}")
        assert sgd == pytest.approx(best, abs=0.004)


def test_bn_equilibrium_keeps_the_peak_that_ridge_removes():
    alphas = np.array([0.99, 0.999, 1.0, 1.001, 1.01])
    errors = bn_gen_error(alphas, 0.25, batch_size=32)
    assert np.isinf(errors[2])
    assert errors[1] > 5 * errors[0]
    assert errors[3] > 5 * errors[4]
    # population statistics fix the length of the weights and with it the peak
    bounded = bn_gen_error(alphas, 0.25, batch_size=32, statistics="population")
    assert bounded[2] == pytest.approx(1 + 1.25 * shrinkage(32) ** 2)
    assert np.all(bounded < 2.3)


def test_bn_equilibrium_of_the_leaky_student_is_infinite_at_its_threshold():
    result = bn_equilibrium(1.0, 0.25, batch_size=8, student=LeakyReLU(0.3))
    assert np.isinf(result.gen_error)
    assert result.R == 0.0
    bounded = bn_gen_error(1.0, 0.25, batch_size=8, student=LeakyReLU(0.3), statistics="population")
    assert np.isfinite(bounded)


def test_bn_equilibrium_tends_to_least_squares_for_large_batches():
    alphas = np.array([0.3, 0.9, 1.5, 4.0])
    plain = solve_equilibrium(alphas, 0.25).gen_error
    gap = bn_gen_error(alphas, 0.25, batch_size=10**6) - plain
    assert np.abs(gap).max() < 3e-6
    assert bn_gen_error(2.0, 0.0, batch_size=8) == pytest.approx((1 - shrinkage(8)) ** 2)


# --- output penalty -----------------------------------------------------------------------------


@pytest.mark.parametrize("student", ["linear", "relu", LeakyReLU(0.3)])
def test_solve_output_penalty_without_penalty_is_the_core_solution(student):
    plain = solve_equilibrium([0.5, 2.0], 0.25, 0.1, student=student)
    result = solve_output_penalty([0.5, 2.0], 0.25, 0.1, 0.0, student=student)
    for name in ("gamma", "R", "chi", "gen_error", "energy"):
        assert getattr(result, name) == pytest.approx(getattr(plain, name), rel=1e-12)


def test_solve_output_penalty_linear_agrees_with_direct_solution():
    alpha, zeta, c, n = 1.5, 0.2, 0.6, 600
    theory = solve_output_penalty(alpha, S, zeta, c)
    rows = []
    for seed in range(4):
        X, y, teacher = problem(n, alpha, S, seed)
        matrix = (1 + c) * X.T @ X + zeta * np.eye(n)
        W = np.linalg.solve(matrix, X.T @ y)
        h = X @ W
        rows.append([
            np.mean((W - teacher) ** 2),
            (0.5 * np.sum((y - h) ** 2) + 0.5 * c * np.sum(h**2) + 0.5 * zeta * W @ W) / n,
            np.trace(np.linalg.inv(matrix)) / n,
        ])  # fmt: skip
    rows = np.array(rows)
    expected = [theory.gen_error, theory.energy, theory.chi]
    error = rows.std(axis=0, ddof=1) / 2
    assert np.all(np.abs(rows.mean(axis=0) - expected) < 4 * error + 1e-4)
    assert abs(rows[:, 0].mean() - solve_equilibrium(alpha, S, zeta).gen_error) > 5 * error[0]


def annealed(X, y, slope, zeta, c):
    """Gradient descent on the penalised loss from the linear student, the slope on the negative
    side lowered slowly where y > 0, as suits a loss with several minima."""
    W = np.zeros(X.shape[1])
    rate = 1 / ((1 + c) * np.linalg.norm(X, 2) ** 2 + zeta)
    for step in range(600):
        a = slope + (1 - slope) * max(0.0, 1 - step / 300)
        u = X @ W
        side = np.where(u > 0, 1.0, np.where(y > 0, a, slope))
        W = W + rate * (X.T @ (side * (y - (1 + c) * side * u)) - zeta * W)
    return W


@pytest.mark.parametrize("slope", [0.0, 0.4])
def test_solve_output_penalty_relu_agrees_with_gradient_descent(slope):
    alpha, zeta, c, n = 3.0, 0.3, 0.5, 300
    theory = solve_output_penalty(alpha, S, zeta, c, student=LeakyReLU(slope))
    rows = []
    for seed in range(6):
        X, y, teacher = problem(n, alpha, S, seed)
        W = annealed(X, y, slope, zeta, c)
        # the mapping to the plain problem holds on every data set
        plain = annealed(X, y, slope, zeta / (1 + c), 0.0)
        assert np.abs(W * (1 + c) - plain).max() < 1e-6
        g = np.where(X @ W > 0, 1.0, slope) * (X @ W)
        q, m = W @ W / n, W @ teacher / n
        energy = (0.5 * np.sum((y - g) ** 2) + 0.5 * c * np.sum(g**2)) / n + 0.5 * zeta * q
        rows.append([
            1 + (1 + slope**2) * q / 2 - (1 + slope) * m,
            energy * (1 + S) / np.mean(y**2),  # it scales with y^2: less spread between data sets
        ])  # fmt: skip
    mean, error = np.mean(rows, axis=0), np.std(rows, axis=0, ddof=1) / np.sqrt(len(rows))
    print(f"slope={slope}: {mean} +- {error} against {theory.gen_error:.5f}, {theory.energy:.5f}")
    # 1 %: replica symmetry is an approximation here
    assert abs(mean[0] - theory.gen_error) < 4 * error[0] + 0.01 * theory.gen_error
    assert abs(mean[1] - theory.energy) < 4 * error[1] + 0.01 * theory.energy


def test_bn_equilibrium_of_relu_is_the_output_penalty_at_zero_decay():
    alphas = np.array([0.5, 3.0, 8.0])
    result = bn_equilibrium(alphas, 0.25, batch_size=8, student="relu")
    penalty = solve_output_penalty(alphas, 0.25, 0.0, output_penalty_strength(8), student=RELU)
    assert result.gamma == pytest.approx(penalty.gamma)
    assert result.gen_error == pytest.approx(penalty.gen_error)


@pytest.mark.parametrize("alpha", [0.5, 1.2, 3.0])
@pytest.mark.parametrize("slope", [0.0, 0.3])
def test_bn_equilibrium_population_length_is_that_of_the_training_fields(slope, alpha):
    # gamma = c_M sqrt(E[u^2]), u the minimum of the one-sample energy, found here by brute force
    student = LeakyReLU(slope)
    plain = solve_equilibrium(alpha, S, student=student)
    q, m, chi = plain.gamma**2, plain.gamma * plain.R, float(plain.chi)
    rng = np.random.default_rng(0)
    y, rest = rng.standard_normal((2, 400_000))
    y *= np.sqrt(1 + S)
    omega = m * y / (1 + S) + np.sqrt(q - m**2 / (1 + S)) * rest
    chi = min(chi, 1e9)  # interpolation: the fit comes first, then the distance
    high = np.maximum((omega + chi * y) / (1 + chi), 0)
    low = np.minimum((omega + slope * chi * y) / (1 + slope**2 * chi), 0)
    energies = [
        (u - omega) ** 2 / chi + (y - np.where(u > 0, u, slope * u)) ** 2 for u in (high, low)
    ]
    u2 = np.where(energies[0] < energies[1], high, low) ** 2
    found = bn_equilibrium(alpha, S, batch_size=8, student=student, statistics="population")
    expected = (found.gamma / shrinkage(8)) ** 2
    assert abs(u2.mean() - expected) < 4 * u2.std() / np.sqrt(u2.size)


def relu_training(alpha, batch_size, n_epochs, n=128, seeds=4):
    """ReLU student trained with batch norm, and without from a tiny start, on the same data.

    Rows of (projection on the full-batch fit started from it, kurtosis of its training fields and
    of those of the plain student, q of both).
    """
    rows = []
    for seed in range(seeds):
        X, y, _ = problem(n, alpha, S, seed)
        W, _ = trained_weights(
            X, y, slope=0.0, batch_size=batch_size, n_epochs=n_epochs, rate=0.3, seed=seed
        )
        rate = 1 / np.linalg.norm(X, 2) ** 2
        fit, plain = W, 1e-9 * X.T @ y
        for _ in range(4000):
            fit = fit + rate * X.T @ np.where(X @ fit > 0, y - X @ fit, 0.0)
            plain = plain + rate * X.T @ np.where(X @ plain > 0, y - X @ plain, 0.0)
        kurtosis = [np.mean(u**4) / np.mean(u**2) ** 2 for u in (X @ W, X @ plain)]
        rows.append([W @ fit / (fit @ fit), *kurtosis, W @ W / n, plain @ plain / n])
    rows = np.array(rows)
    return rows.mean(axis=0), rows.std(axis=0, ddof=1) / np.sqrt(seeds)


@pytest.mark.slow
def test_bn_equilibrium_relu_holds_at_large_load_and_fails_at_small_load():
    batch_size = 8
    mean, error = relu_training(8.0, batch_size, 1000)
    c = shrinkage(batch_size)
    print(f"alpha=8: projection {mean[0]:.4f} +- {error[0]:.4f}, c_M = {c:.4f}")
    # 1/M corrections from the non-Gaussian fields are not in the theory: half of 1 - c_M
    assert mean[0] == pytest.approx(c, abs=0.5 * (1 - c) + 4 * error[0])
    # Below the threshold the minima form a continuum: batch norm moves along it towards fields of
    # low kurtosis and long weights, plain training stays at the least norm of the theory.
    mean, error = relu_training(0.8, batch_size, 4000)
    q = bn_equilibrium(0.8, S, batch_size=batch_size, student="relu").gamma ** 2
    print(
        f"alpha=0.8: kurtosis {mean[1]:.2f} +- {error[1]:.2f}, plain {mean[2]:.2f} "
        f"+- {error[2]:.2f}; q {mean[3]:.2f} +- {error[3]:.2f}, plain {mean[4]:.2f}, theory {q:.2f}"
    )
    assert mean[1] < 2.2 < 3 < mean[2]
    assert mean[3] > 2 * q
    assert mean[4] < 1.2 * q / c**2
