"""Tests of simulate_training with the dense engine, and of what both engines share."""

from __future__ import annotations

import dataclasses
import gc
import inspect
import itertools
import math
import threading
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from replica import ConvergenceWarning, Status
from replica.simulation import _data as data_module
from replica.simulation import _kernels as kernels
from replica.simulation import _training as training_module
from replica.simulation._data import (
    default_threads,
    make_training_set,
    map_runs,
    require_memory,
)
from replica.simulation._fresh_errors import linear_teacher_error, piecewise_teacher_error
from replica.simulation._settings import NORMALIZERS, OBSERVABLES
from replica.simulation._training import mean_field_training, simulate_training
from replica.students import TANH, LeakyReLU

ALL = tuple(NORMALIZERS)
QUICK = {"N": 40, "epochs": 6, "progress": False}


def training_set_of(run, i=0):
    """The data run `i` was trained on."""
    P = round(run.alpha * run.N)
    return make_training_set(P, run.N, run.S, run.data_seeds[i], run.weights.dtype)


# ---------------------------------------------------------------------------- gradients


def batch_energy(w, v, X, y, keep, normalizer, slope, slope_up):
    """The energy of a batch written from its definition, with v = sqrt(N) gamma."""
    gamma = v / math.sqrt(w.size)
    u = X @ w
    if normalizer in ("bn", "bn-mean"):
        u = u - u.mean()
    if normalizer in ("bn", "bn-var"):
        u = u / np.sqrt(np.mean(u**2))
    elif normalizer != "none":
        u = u * math.sqrt(w.size) / np.linalg.norm(w)
    h = u if normalizer == "none" else gamma * u
    g = np.where(h > 0, h, np.where(y > 0, slope_up, slope) * h)
    return 0.5 * np.sum((y - keep * g) ** 2)


def gradient_errors(normalizer, slope, slope_up=None, dropout=False, spoil=0.0):
    """Relative deviation of the kernel's gradient from central differences, for w and for v."""
    slope_up = slope if slope_up is None else slope_up
    rng = np.random.default_rng(3)
    N, M = 12, 7
    w, v = rng.standard_normal(N), 0.8 * math.sqrt(N)
    X, y = rng.standard_normal((M, N)) / math.sqrt(N), rng.standard_normal(M)
    keep = 2.0 * rng.integers(0, 2, M) if dropout else np.ones(M)
    c = np.empty(M)
    b, dgamma, _, _ = kernels.backpropagate(
        X @ w, y, keep if dropout else np.empty(0), v / math.sqrt(N),
        np.linalg.norm(w) / math.sqrt(N), N, *NORMALIZERS[normalizer], slope, slope_up, None, None,
        c,
    )  # fmt: skip
    c += spoil * X @ w

    def energy(w, v):
        return batch_energy(w, v, X, y, keep, normalizer, slope, slope_up)

    step = 1e-6
    numeric = np.array([(energy(w - e, v) - energy(w + e, v)) / 2 for e in step * np.eye(N)]) / step
    numeric_v = (energy(w, v - step) - energy(w, v + step)) / (2 * step)
    own = b * w + X.T @ c
    scale = np.linalg.norm(numeric)
    return (
        np.linalg.norm(own - numeric) / scale,
        abs(math.sqrt(N) * dgamma - numeric_v) / scale,
    )


@pytest.mark.parametrize("normalizer", ALL)
@pytest.mark.parametrize("slope", [1.0, 0.3, 0.0])
def test_backpropagate_agrees_with_finite_differences(normalizer, slope):
    assert max(gradient_errors(normalizer, slope)) < 1e-8
    assert max(gradient_errors(normalizer, slope, slope_up=0.6, dropout=True)) < 1e-8


@pytest.mark.parametrize("normalizer", ALL)
def test_backpropagate_through_a_table_agrees_with_finite_differences(normalizer):
    rng = np.random.default_rng(4)
    N, M, v = 12, 7, 2.5
    w, y = rng.standard_normal(N), rng.standard_normal(M)
    X = rng.standard_normal((M, N)) / math.sqrt(N)
    keep = 2.0 * rng.integers(0, 2, M)

    def energy(w, v):
        gamma, u = v / math.sqrt(N), X @ w
        u = u - u.mean() if normalizer in ("bn", "bn-mean") else u
        if normalizer in ("bn", "bn-var"):
            u = u / np.sqrt(np.mean(u**2))
        elif normalizer != "none":
            u = u * math.sqrt(N) / np.linalg.norm(w)
        h = u if normalizer == "none" else gamma * u
        return 0.5 * np.sum((y - keep * np.tanh(h)) ** 2)

    c = np.empty(M)
    b, dgamma, furthest, _ = kernels.backpropagate(
        X @ w, y, keep, v / math.sqrt(N), np.linalg.norm(w) / math.sqrt(N), N,
        *NORMALIZERS[normalizer], math.nan, math.nan, TANH.table(16.0), None, c,
    )  # fmt: skip
    step = 1e-6
    numeric = [(energy(w - e, v) - energy(w + e, v)) / 2 / step for e in step * np.eye(N)]
    assert b * w + X.T @ c == pytest.approx(np.array(numeric), abs=1e-8)
    slope = (energy(w, v - step) - energy(w, v + step)) / (2 * step)
    assert math.sqrt(N) * dgamma == pytest.approx(slope, abs=1e-8)
    assert furthest != 0.0


def test_backpropagate_check_sees_a_term_left_out():
    # Leaving out the gradient through sigma_B shifts c along u, as `spoil` does.
    assert gradient_errors("bn", 0.0, spoil=1e-4)[0] > 1e-6


# ------------------------------------------------------------------- exact fresh-input errors


@given(gamma=st.floats(0.01, 3), R=st.floats(-1, 1), bias=st.floats(-2, 2), slope=st.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_linear_teacher_error_agrees_with_quadrature(gamma, R, bias, slope):
    def integrand(v):
        u = gamma * v + bias
        g = u if u > 0 else slope * u
        return (R * v - g) ** 2 * math.exp(-(v**2) / 2) / math.sqrt(2 * math.pi)

    kink = -bias / gamma
    edges = sorted({-12.0, *([kink] if abs(kink) < 12 else []), 0.0, 12.0})
    exact = 1 - R**2 + sum(quad(integrand, *pair)[0] for pair in itertools.pairwise(edges))
    assert linear_teacher_error(gamma, R, bias, slope) == pytest.approx(exact, abs=1e-8)


@pytest.mark.parametrize(("slope", "teacher_slope"), [(0.0, 0.0), (0.3, 0.0), (1.0, 0.5)])
def test_piecewise_teacher_error_agrees_with_a_sample(slope, teacher_slope):
    z, v = np.random.default_rng(5).standard_normal((2, 400_000))
    gamma, R = 0.7, -0.4
    u = gamma * (R * z + math.sqrt(1 - R**2) * v)
    error = (np.where(z > 0, z, teacher_slope * z) - np.where(u > 0, u, slope * u)) ** 2
    expected = piecewise_teacher_error(gamma, R, slope, teacher_slope)
    assert abs(error.mean() - expected) < 4 * error.std() / math.sqrt(error.size)


def test_piecewise_teacher_error_meets_the_linear_teacher():
    assert piecewise_teacher_error(0.6, 0.3, 0.2, 1.0) == pytest.approx(
        linear_teacher_error(0.6, 0.3, 0.0, 0.2), abs=1e-14
    )


# ----------------------------------------------------------------- what a run reports is true


@pytest.mark.parametrize("normalizer", ALL)
def test_simulate_training_reports_what_its_weights_say(normalizer):
    run = simulate_training(
        1.5, 0.25, student=LeakyReLU(0.2), normalizer=normalizer, zeta=0.1, batch_size=8, **QUICK
    )
    X, y = training_set_of(run).X, training_set_of(run).y
    w = run.weights[0]
    u = X @ w
    center = u.mean() if normalizer in ("bn", "bn-mean") else 0.0
    if normalizer == "none":
        factor = 1.0
    elif normalizer in ("bn", "bn-var"):
        factor = run.gamma_population[-1, 0] / np.sqrt(np.mean((u - center) ** 2))
    else:
        factor = run.gamma_population[-1, 0] * math.sqrt(run.N) / np.linalg.norm(w)
    h = factor * (u - center)
    g = np.where(h > 0, h, 0.2 * h)
    W = run.weight_scale[0] * w
    assert run.weight_scale[0] == pytest.approx(factor, rel=1e-12)
    assert run.gamma[-1, 0] == pytest.approx(np.linalg.norm(W) / math.sqrt(run.N), rel=1e-12)
    assert run.R[-1, 0] == pytest.approx(W.mean() / run.gamma[-1, 0], rel=1e-12)
    assert run.bias[-1, 0] == pytest.approx(-factor * center, abs=1e-14)
    assert run.train_error[-1, 0] == pytest.approx(np.mean((y - g) ** 2), rel=1e-12)
    assert run.dead_fraction[-1, 0] == np.mean((y > 0) & (h < 0))
    energy = 0.75 * run.train_error[-1, 0] + 0.05 * run.gamma_population[-1, 0] ** 2
    assert run.energy[-1, 0] == pytest.approx(energy, rel=1e-12)
    assert run.norm_ratio[-1, 0] == pytest.approx(run.gamma[-1, 0] / run.gamma[0, 0], rel=1e-12)
    same = np.array_equal(run.gamma, run.gamma_population)
    assert same == (normalizer not in ("bn", "bn-var"))


def test_simulate_training_gen_error_is_that_of_fresh_inputs():
    run = simulate_training(
        1.0, 0.5, student="relu", normalizer="bn", batch_size=8, learning_rate=0.3, **QUICK
    )
    X = np.random.default_rng(8).standard_normal((200_000, run.N)) / math.sqrt(run.N)
    h = X @ (run.weight_scale[0] * run.weights[0]) + run.bias[-1, 0]
    error = (X.sum(axis=1) - np.maximum(h, 0)) ** 2
    assert abs(run.bias[-1, 0]) > 1e-3
    assert abs(error.mean() - run.gen_error[-1, 0]) < 4 * error.std() / math.sqrt(error.size)


# --------------------------------------------------------------------------------- physics


@pytest.mark.parametrize("normalizer", ["none", "wn", "pn"])
@pytest.mark.parametrize(("alpha", "zeta"), [(2.0, 0.25), (0.5, 0.05)])
def test_simulate_training_reaches_the_ridge_solution(normalizer, alpha, zeta):
    run = simulate_training(
        alpha, 0.25, N=40, zeta=zeta, normalizer=normalizer, batch_size=round(40 * alpha),
        learning_rate=1.0 / (1 + math.sqrt(alpha)) ** 2, epochs=20_000, tolerance=1e-9,
        record=20_000, progress=False,
    )  # fmt: skip
    assert run.status[0] == Status.CONVERGED
    assert run.epochs_done[0] < 20_000
    X, y = training_set_of(run).X, training_set_of(run).y
    ridge = np.linalg.solve(X.T @ X + zeta * np.eye(run.N), X.T @ y)
    W = run.weight_scale[0] * run.weights[0]
    assert np.linalg.norm(W - ridge) < 1e-6 * np.linalg.norm(ridge)


@pytest.mark.parametrize(("normalizer", "degrees"), [("bn-var", 8), ("bn", 7)])
def test_simulate_training_bn_has_the_least_squares_direction_and_a_smaller_scale(
    normalizer, degrees
):
    # Inside a batch the mean square of h/gamma is exactly 1, so only E[sigma_B] acts on gamma:
    # sigma_B^2 M is chi-square with one degree of freedom less if the mean is subtracted.
    run = simulate_training(
        2.0, 0.25, N=256, normalizer=normalizer, batch_size=8, learning_rate=0.3,
        schedule="step", epochs=200, n_runs=2, record=200, progress=False,
    )  # fmt: skip
    shrinkage = math.sqrt(2 / 8) * math.gamma((degrees + 1) / 2) / math.gamma(degrees / 2)
    for i in range(2):
        X, y = training_set_of(run, i).X, training_set_of(run, i).y
        best = np.linalg.solve(X.T @ X, X.T @ y)
        W = run.weight_scale[i] * run.weights[i]
        assert W @ best / np.linalg.norm(W) / np.linalg.norm(best) > 0.99
        ratio = np.linalg.norm(X @ W) / np.linalg.norm(X @ best)
        assert ratio == pytest.approx(shrinkage, abs=0.01)


def test_simulate_training_anneal_finds_lower_minima():
    options = {
        "N": 500, "student": "relu", "zeta": 1 / 64, "batch_size": 500, "epochs": 400,
        "learning_rate": 0.35, "n_runs": 4, "record": 400, "progress": False,
    }  # fmt: skip
    plain = simulate_training(1.0, 0.25, **options)
    annealed = simulate_training(1.0, 0.25, anneal=True, **options)
    assert np.all(annealed.energy[-1] < plain.energy[-1])
    assert annealed.mean("dead_fraction")[-1] < 0.5 * plain.mean("dead_fraction")[-1]
    # Replica-symmetric ground state at these parameters: 0.3189.
    error = annealed.standard_error("energy")[-1]
    assert abs(annealed.mean("energy")[-1] - 0.3189) < 4 * error


def test_simulate_training_dropout_shrinks_like_its_penalty():
    # E over masks of (y - k u)^2 is (y - u)^2 + p/(1-p) u^2: least squares times 1 - p.
    run = simulate_training(
        4.0, 0.1, N=64, dropout=0.3, batch_size=16, learning_rate=0.3, schedule="cosine",
        epochs=400, record=400, progress=False,
    )  # fmt: skip
    X, y = training_set_of(run).X, training_set_of(run).y
    best = 0.7 * np.linalg.solve(X.T @ X, X.T @ y)
    assert np.linalg.norm(run.weights[0] - best) < 0.05 * np.linalg.norm(best)


def test_simulate_training_momentum_reaches_the_same_minimum_sooner():
    options = {"N": 40, "zeta": 0.01, "batch_size": 80, "learning_rate": 0.05, "epochs": 4000}
    plain, heavy = (
        simulate_training(2.0, 0.25, momentum=m, tolerance=1e-7, progress=False, **options)
        for m in (0.0, 0.8)
    )
    assert heavy.epochs_done[0] < 0.5 * plain.epochs_done[0]
    assert heavy.gen_error[-1, 0] == pytest.approx(plain.gen_error[-1, 0], abs=1e-5)


def test_simulate_training_fine_tunes_a_frozen_batch_norm_run():
    options = {"N": 128, "student": "relu", "batch_size": 4, "n_runs": 2, "progress": False}
    bn = simulate_training(
        2.0, 0.25, normalizer="bn", learning_rate=0.3, schedule="step", epochs=150, **options
    )
    tuned = simulate_training(2.0, 0.25, learning_rate=0.02, epochs=150, start=bn, **options)
    for name in ("gamma", "R"):
        assert getattr(tuned, name)[0] == pytest.approx(getattr(bn, name)[-1], rel=1e-12)
    # Without the batch statistics the norm grows, the training error falls, and fresh inputs pay.
    assert np.all(tuned.norm_ratio[-1] > 1.05)
    assert np.all(tuned.train_error[-1] < bn.train_error[-1])
    assert np.all(tuned.gen_error[-1] > bn.gen_error[-1])
    same = simulate_training(2.0, 0.25, normalizer="bn", epochs=0, start=bn, **options)
    assert np.array_equal(same.weights, bn.weights)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("normalizer", ALL)
def test_simulate_training_measures_a_state_in_one_way(normalizer, dtype):
    # The end of a run and the start of one that continues it are one state: not a bit may differ.
    # Sums in another order agree on some processors and not on others, hence many lengths.
    for N in (*range(30, 46), 517):
        options = {"N": N, "normalizer": normalizer, "batch_size": 4, "dtype": dtype}
        run = simulate_training(1.0, 0.25, student="relu", epochs=1, **options)
        same = simulate_training(1.0, 0.25, student="relu", epochs=0, start=run, **options)
        for name in OBSERVABLES:
            if name != "norm_ratio":  # its unit is the start of each run
                first, last = getattr(same, name)[0], getattr(run, name)[-1]
                assert np.array_equal(first, last, equal_nan=True), (N, name)


def test_simulate_training_schedules_scale_each_epoch():
    options = {"N": 40, "epochs": 4, "batch_size": 40, "progress": False}
    frozen = simulate_training(1.0, 0.0, schedule=[1, 0, 0, 0], record=1, **options)
    assert np.array_equal(frozen.R[1], frozen.R[4])
    assert not np.array_equal(frozen.R[0], frozen.R[1])
    by_name = simulate_training(1.0, 0.0, schedule="step", **options)
    by_hand = simulate_training(1.0, 0.0, schedule=[1, 1, 0.1, 0.01], **options)
    assert np.array_equal(by_name.weights, by_hand.weights)
    cosine = simulate_training(1.0, 0.0, schedule="cosine", **options)
    by_hand = simulate_training(
        1.0, 0.0, schedule=0.5 + 0.5 * np.cos(np.pi * np.arange(4) / 4), **options
    )
    assert np.array_equal(cosine.weights, by_hand.weights)


def rerun(function, run, **renamed):
    """Call `function` with the arguments that `run` knows; `renamed` is what is called otherwise.

    Every argument has to be there, but for those that do not act on the result.
    """
    names = set(inspect.signature(function).parameters) - {"progress", "n_threads"}
    again = function(**{name: getattr(run, renamed.get(name, name)) for name in names})
    for field in dataclasses.fields(run):
        one, other = getattr(run, field.name), getattr(again, field.name)
        if field.name == "seconds":
            continue
        if isinstance(one, np.ndarray) and one.dtype.kind == "f":
            assert np.allclose(one, other, rtol=1e-12, atol=1e-300, equal_nan=True), field.name
        elif isinstance(one, np.ndarray):
            assert np.array_equal(one, other), field.name
        elif field.name == "data_seeds":
            assert [s.spawn_key for s in one] == [s.spawn_key for s in other]
        elif field.name == "start":
            assert one is other
        else:
            assert one == other, field.name


@given(
    normalizer=st.sampled_from(ALL),
    student=st.sampled_from(["relu", LeakyReLU(0.3)]),
    schedule=st.sampled_from(["constant", "step", "cosine", [1.0, 0.5, 0.1, 2.0]]),
    engine=st.sampled_from(["dense", "matrix-free"]),
    dtype=st.sampled_from(["float64", "float32"]),
    numbers=st.tuples(*[st.floats(0.01, 0.5)] * 7),
    record=st.sampled_from([None, 3, [1, 2]]),
    seed=st.integers(0, 5),
)
@settings(max_examples=25, deadline=None)
def test_training_run_knows_its_problem(
    normalizer, student, schedule, engine, dtype, numbers, record, seed
):
    zeta, rate, momentum, dropout, scale, gamma, anneal = numbers
    options = {
        "N": 20, "student": student, "normalizer": normalizer, "zeta": zeta, "dtype": dtype,
        "learning_rate": rate, "schedule": schedule, "epochs": 4, "momentum": momentum,
        "dropout": dropout, "L0": scale, "anneal": anneal,
        "gamma0": scale if normalizer == "none" else gamma,
        "tolerance": 1e-9, "engine": engine, "n_runs": 2, "seed": seed, "record": record,
    }  # fmt: skip
    if engine == "dense":
        options |= {"batch_size": 6, "data_seed": seed}
    run = simulate_training(1.5, 0.25, **options)
    rerun(simulate_training, run, record="epoch")
    if engine == "dense":
        options |= {"start": run, "data_seed": None, "learning_rate": 0.02}
        rerun(simulate_training, simulate_training(1.5, 0.25, **options), record="epoch")
    assert run.learning_rate == rate
    assert run.anneal == anneal


def test_mean_field_training_run_knows_its_problem():
    run = mean_field_training(1.5, 0.25, n_samples=50, epochs=3, n_runs=2, schedule="cosine")
    assert (run.N, run.engine, run.batch_size, run.schedule) == (50, "matrix-free", 75, "cosine")
    rerun(simulate_training, run, record="epoch")


# ---------------------------------------------------------------------- seeds, threads, memory


def test_simulate_training_depends_on_the_seed_only():
    options = {**QUICK, "normalizer": "bn", "batch_size": 8, "n_runs": 4, "dropout": 0.1}
    one = simulate_training(1.0, 0.25, seed=7, n_threads=1, **options)
    two = simulate_training(1.0, 0.25, seed=7, n_threads=4, **options)
    other = simulate_training(1.0, 0.25, seed=8, n_threads=1, **options)
    for name in OBSERVABLES:
        assert np.array_equal(getattr(one, name), getattr(two, name), equal_nan=True)
    assert np.array_equal(one.weights, two.weights)
    assert not np.array_equal(one.weights, other.weights)
    assert len(np.unique(one.R[-1])) == 4


@pytest.mark.parametrize("normalizer", ALL)
@pytest.mark.parametrize("student", ["linear", "relu"])
def test_simulate_training_float32_stays_close_to_float64(normalizer, student):
    options = {
        "N": 48, "student": student, "normalizer": normalizer, "zeta": 0.1, "batch_size": 8,
        "momentum": 0.3, "epochs": 50, "n_runs": 2, "progress": False,
    }  # fmt: skip
    single, double = (
        simulate_training(2.0, 0.25, dtype=dtype, **options) for dtype in ("float32", "float64")
    )
    # 600 steps of rounding at 6e-8 each, none of them amplified by a stable descent.
    w32, w64 = single.weights.astype(float), double.weights
    assert np.linalg.norm(w32 - w64) < 1e-6 * np.linalg.norm(w64)
    for name in ("gamma", "R", "train_error", "gen_error", "energy"):
        assert np.abs(getattr(single, name) - getattr(double, name)).max() < 1e-6
    assert not np.array_equal(w32, w64)


@pytest.mark.parametrize("size", [5, 3 * data_module.DRAW_BLOCK + 7])
def test_draw_normal_rounds_one_stream(size):
    exact = 0.5 * np.random.default_rng(3).standard_normal(size)
    for dtype in (np.float64, np.float32):
        out = np.empty(size, dtype)
        data_module.draw_normal(np.random.default_rng(3), out, 0.5)
        assert np.array_equal(out, exact.astype(dtype))


def test_simulate_training_float32_runs_end_to_end():
    run = simulate_training(2.0, 0.1, dtype="float32", normalizer="bn", batch_size=8, **QUICK)
    assert run.weights.dtype == np.float32
    assert run.gen_error[-1, 0] < run.gen_error[0, 0]


def test_mean_field_training_refuses_a_student_that_jumps():
    with pytest.raises(ValueError, match="student must be continuous"):
        mean_field_training(2.0, 0.0, n_samples=100, epochs=1, student="sign")


def test_make_training_set_is_shared_while_it_is_held():
    seed = np.random.SeedSequence(11)
    held: list = []

    def take(i):
        held.append(make_training_set(200, 100, 0.1 * i, seed))
        return held[-1].X

    arrays = map_runs(take, 8, 4, threading.Event())
    assert all(X is arrays[0] for X in arrays)
    assert not arrays[0].flags.writeable
    copy = arrays[0].copy()
    n_shared = len(data_module._shared)
    del arrays
    held.clear()
    gc.collect()
    assert len(data_module._shared) < n_shared
    assert np.array_equal(make_training_set(200, 100, 0.0, seed).X, copy)


def test_default_threads_is_one_where_siblings_use_the_others(monkeypatch):
    monkeypatch.setattr(data_module, "n_cores", lambda: 7)
    assert default_threads() == 7
    seen = []
    thread = threading.Thread(target=lambda: seen.append(default_threads()))
    thread.start()
    thread.join()
    assert seen == [1]
    monkeypatch.setattr(data_module.multiprocessing, "parent_process", object)
    assert default_threads() == 1


def test_simulate_training_data_seed_shares_one_training_set():
    run = simulate_training(1.0, 0.25, n_runs=2, data_seed=5, batch_size=8, **QUICK)
    assert np.array_equal(training_set_of(run, 0).X, training_set_of(run, 1).X)
    assert not np.array_equal(run.weights[0], run.weights[1])


def test_simulate_training_refuses_what_does_not_fit(monkeypatch):
    with pytest.raises(MemoryError, match=r"P = 100000000, N = 100000000.*needs .* GiB"):
        simulate_training(1.0, 0.0, N=100_000_000)
    monkeypatch.setattr(data_module, "available_memory", lambda: 10_000)
    with pytest.raises(MemoryError, match="float32"):
        simulate_training(1.0, 0.0, N=100)
    monkeypatch.setattr(data_module, "available_memory", lambda: None)
    require_memory(1e30, "unknown machine", "")


@pytest.mark.parametrize("engine", ["dense", "matrix-free"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_simulate_training_uses_the_memory_it_predicts(monkeypatch, engine, dtype):
    predicted = []
    monkeypatch.setattr(
        "replica.simulation._training.require_memory", lambda n, *text: predicted.append(n)
    )
    options = {"N": 500, "engine": engine, "dtype": dtype, "progress": False, "normalizer": "bn"}
    options |= {"epochs": 2} if engine == "dense" else {"epochs": 40, "N": 5000}
    simulate_training(2.0, 0.25, **options)  # compiles
    tracemalloc.start()
    simulate_training(2.0, 0.25, **options)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0.7 * predicted[-1] < peak < 1.1 * predicted[-1] + 200_000


def test_simulate_training_runs_fewer_at_a_time_when_memory_is_short(monkeypatch):
    monkeypatch.setattr(data_module, "available_memory", lambda: 60_000)
    run = simulate_training(1.0, 0.0, n_runs=3, n_threads=3, batch_size=8, **QUICK)
    assert run.n_runs == 3


@pytest.mark.parametrize(("data_seed", "together"), [(None, 1), (3, 3)])
def test_claim_memory_makes_runs_wait_that_do_not_fit_together(monkeypatch, data_seed, together):
    # Three calls at once, as the threads of a sweep make them; memory for one training set.
    run_dense = training_module.run_dense
    monkeypatch.setattr(data_module, "available_memory", lambda: 40_000)
    meeting = threading.Barrier(together)
    running, most = [], []

    def watched(*args):
        running.append(1)
        most.append(len(running))
        meeting.wait(60)  # passes only if as many runs as expected are here at a time
        time.sleep(0.05)  # runs that should wait for this one would be seen beside it
        result = run_dense(*args)
        running.pop()
        return result

    monkeypatch.setattr(training_module, "run_dense", watched)

    def call(seed):
        return simulate_training(1.0, 0.0, seed=seed, data_seed=data_seed, batch_size=8, **QUICK)

    runs = map_runs(call, 3, 3, threading.Event())
    assert len(runs) == 3
    assert max(most) == together
    assert not data_module._claims


def test_simulate_training_stops_the_other_runs_on_an_exception(monkeypatch):
    calls = []

    def fail(*args):
        calls.append(args)
        if len(calls) == 1:
            raise KeyboardInterrupt
        assert args[-1].wait(60)  # the event that stops the others

    monkeypatch.setattr("replica.simulation._training.run_dense", fail)
    with pytest.raises(KeyboardInterrupt):
        simulate_training(1.0, 0.0, n_runs=50, n_threads=2, batch_size=8, **QUICK)
    assert len(calls) < 50


# ------------------------------------------------------------------------ endings and results


def test_simulate_training_marks_divergence():
    with pytest.warns(ConvergenceWarning, match="2 of 2 runs diverged") as caught:
        run = simulate_training(
            1.0, 0.25, learning_rate=5.0, n_runs=2, record=1, N=40, batch_size=40, epochs=60,
            progress=False,
        )  # fmt: skip
    assert [warning.filename for warning in caught] == [__file__]
    assert run.status.tolist() == [Status.DIVERGENT] * 2
    assert np.all(run.epochs_done < 60)
    finite = np.isfinite(run.gamma)
    assert finite[0].all()
    assert not finite[-1].any()
    # Finite records first, NaN after the end, nothing in between.
    assert np.all(np.diff(finite.astype(int), axis=0) <= 0)
    assert run.final()["status"] == "divergent"
    assert "2 divergent" in repr(run)


def test_mean_field_training_warns_at_the_line_of_its_caller():
    with pytest.warns(ConvergenceWarning, match="2 of 2 runs diverged") as caught:
        mean_field_training(1.0, 0.25, n_samples=80, n_runs=2, epochs=60, learning_rate=5.0)
    assert [warning.filename for warning in caught] == [__file__]


def test_simulate_training_mean_leaves_out_diverged_runs():
    run = simulate_training(1.0, 0.25, n_runs=3, batch_size=8, **QUICK)
    object.__setattr__(
        run, "status", np.array([Status.DONE, Status.DIVERGENT, Status.CONVERGED], np.int8)
    )
    assert run.mean("R") == pytest.approx(run.R[:, [0, 2]].mean(axis=1))
    spread = np.abs(run.R[-1, 0] - run.R[-1, 2]) / 2
    assert run.standard_error("R")[-1] == pytest.approx(spread)
    assert run.final()["n_divergent"] == 1
    assert run.final()["status"] == "done"


def test_simulate_training_without_epochs_measures_the_start():
    run = simulate_training(1.0, 0.0, N=40, epochs=0, L0=0.0)
    assert run.epoch.tolist() == [0]
    assert run.gen_error[0, 0] == 1.0
    assert math.isnan(run.standard_error("R")[0])


def test_simulate_training_records_where_asked():
    assert simulate_training(1.0, 0.0, record=4, **QUICK).epoch.tolist() == [0, 4, 6]
    assert simulate_training(1.0, 0.0, record=[5, 2], **QUICK).epoch.tolist() == [0, 2, 5, 6]
    assert simulate_training(1.0, 0.0, **QUICK).epoch.tolist() == list(range(7))


def test_training_run_in_tables():
    run = simulate_training(1.0, 0.25, n_runs=2, batch_size=8, record=3, **QUICK)
    frame = run.to_pandas()
    assert len(frame) == 3 * 2
    assert "weights" not in frame
    last = frame[(frame.run == 1) & (frame.epoch == 6)]
    assert last.gen_error.item() == run.gen_error[-1, 1]
    assert set(frame.status) == {"done"}
    assert frame.attrs["alpha"] == 1.0
    data = run.to_xarray()
    assert dict(data.sizes) == {"epoch": 3, "run": 2, "weight": 40}
    assert np.array_equal(data.weights, run.weights)
    tuned = simulate_training(1.0, 0.25, start=run, batch_size=8, **QUICK)
    assert tuned.to_pandas().attrs["start"] == "TrainingRun"
    assert max(map(len, repr(tuned).splitlines())) < 130


def test_training_run_plot_draws_the_mean():
    run = simulate_training(1.0, 0.0, n_runs=2, **QUICK)
    ax = run.plot("R")
    assert np.array_equal(ax.lines[0].get_ydata(), run.mean("R"))
    with pytest.raises(ValueError, match="quantity must be one of"):
        run.plot("nonsense")


BAD = [
    ({"alpha": 0.0}, "alpha must lie in"),
    ({"alpha": 0.001}, "at least one sample"),
    ({"S": -1.0}, "S must lie in"),
    ({"N": 2}, "N must be an integer >= 3, got 2"),
    ({"batch_size": 41}, "batch_size must be an integer >= 1.* <= 40, got 41"),
    ({"batch_size": 1, "normalizer": "bn"}, "batch_size must be an integer >= 2"),
    ({"epochs": -1}, "epochs must be an integer >= 0, got -1"),
    ({"normalizer": "ln"}, "normalizer must be one of"),
    ({"student": "tanl"}, "student must be"),
    ({"student": "sign"}, "student must be continuous"),
    ({"student": "tanh", "anneal": True}, "anneal .* serves piecewise-linear students only"),
    ({"engine": "gpu"}, "engine must be one of"),
    ({"dtype": "float16"}, "dtype must be one of"),
    ({"schedule": "linear"}, "schedule must be one of"),
    ({"schedule": [1.0]}, "one factor per epoch"),
    ({"learning_rate": 0.0}, "learning_rate must lie in"),
    ({"momentum": 1.0}, "momentum must lie in"),
    ({"dropout": 1.0}, "dropout must lie in"),
    ({"zeta": math.nan}, "zeta must lie in"),
    ({"anneal": 2.0}, "anneal must lie in"),
    ({"L0": 0.0, "normalizer": "wn"}, "L0 must lie in"),
    ({"n_runs": 0}, "n_runs must be an integer >= 1"),
    ({"record": 0}, "record must be an integer >= 1"),
    ({"record": [7]}, "record must be an integer >= 0.* <= 6"),
    ({"seed": -1}, "seed must be an integer >= 0"),
    ({"n_runs": 10**12}, "n_runs must be an integer >= 1.* <= 1000000"),
    ({"epochs": 10**12}, "epochs must be at most 100000000"),
    ({"N": 10**30}, "N must be an integer <= 1000000000000000000"),
    ({"alpha": 1e300}, "alpha must give at most 1e\\+18 samples"),
    ({"S": 1e200}, "S must lie in"),
    ({"gamma0": 1e100, "normalizer": "wn"}, "gamma0 must lie in"),
    ({"L0": 1e100}, "L0 must lie in"),
    ({"n_threads": 0}, "n_threads must be an integer >= 1, got 0"),
    ({"dtype": "int37"}, "dtype must be one of"),
    ({"dtype": None}, "dtype must be one of"),
    ({"engine": "matrix-free", "data_seed": 1}, "data_seed needs engine='dense'"),
]


@pytest.mark.parametrize(("bad", "message"), BAD)
def test_simulate_training_refuses_bad_input(bad, message):
    arguments = {"alpha": 1.0, "S": 0.25, **QUICK, **bad}
    with pytest.raises(ValueError, match=message):
        simulate_training(**arguments)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"N": 4.0}, "N must be an integer"),
        ({"student": 3}, "student must be"),
        ({"record": "all"}, "record must be an integer, got 'all'"),
        ({"record": [1.5]}, "record must be an integer, got 1.5"),
        ({"start": 1}, "start must be"),
    ],
)
def test_simulate_training_refuses_wrong_types(bad, message):
    with pytest.raises(TypeError, match=message):
        simulate_training(**{"alpha": 1.0, "S": 0.25, **QUICK, **bad})


def test_simulate_training_refuses_a_start_that_does_not_match():
    run = simulate_training(1.0, 0.25, **QUICK)
    for bad, message in [
        ({"alpha": 2.0}, "alpha must equal that of start, 1"),
        ({"S": 0.0}, "S must equal"),
        ({"n_runs": 2}, "n_runs must equal"),
        ({"data_seed": 2}, "data_seed"),
        ({"dtype": "float32"}, "dtype must equal"),
    ]:
        with pytest.raises(ValueError, match=message):
            simulate_training(**{"alpha": 1.0, "S": 0.25, "start": run, **QUICK, **bad})
