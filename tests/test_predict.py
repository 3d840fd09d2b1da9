"""The learning curve of given data: its theory, its fits, its complaints, and its command."""

from __future__ import annotations

import gzip
import math
import struct
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import datasets
from sklearn.linear_model import Ridge

import replica
from replica import ArgumentError, ArgumentTypeError, Inputs, Status, predict_learning_curve
from replica._data_files import read_idx, read_table
from replica._sample_spectrum import as_samples, blind_scores, sample_spectrum, source_modes
from replica.cli import main
from replica.equilibrium._spectrum_ridge import spectrum_point
from replica.learning_curve import _best, _fit_rows, _solve


def source(size=100):
    """A spectrum over three decades, and a teacher that prefers its strong modes."""
    k = np.arange(1.0, size + 1.0)
    powers = k**-1.2
    return k**-1.5, powers / powers.sum()


def draw(rows, size=100, S=0.3, seed=0):
    """Samples of the source, neither centered nor in the axes of the spectrum."""
    s, p = source(size)
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.standard_normal((size, size)))[0]
    modes = rng.standard_normal((rows, size)) * np.sqrt(s)
    y = modes @ np.sqrt(p / s) + math.sqrt(S) * rng.standard_normal(rows)
    return modes @ rotation.T + 2.0, y + 5.0


def truth(n, S, zeta, size=100):
    """Test error of n samples, the mean being fitted too."""
    s, p = source(size)
    point = spectrum_point(n - 1.0, S, zeta, s, p, np.ones(size))
    return (point.gen_error + S) * (1.0 + 1.0 / n)


# --- the theory of given samples --------------------------------------------------------------


@pytest.mark.parametrize("rows", [60, 110, 200, 2000])
@pytest.mark.parametrize("zeta", [0.0, 0.1, 10.0])
def test_prediction_is_that_of_the_source(rows, zeta):
    """Below, at and above as many samples as dimensions; a fitted teacher would be off by far.

    The prediction has the relative scatter sqrt(2/degrees of freedom) of a residual variance.
    """
    n = np.array([10, 30, 59]) if rows < 100 else np.array([10, 50, 150, 1000])
    true = np.array([truth(size, 0.3, zeta) for size in n])
    found = []
    for seed in range(8):
        X, y = draw(rows, seed=seed)
        curve = predict_learning_curve(X, y, n=n, zeta=zeta, n_splits=0)
        found.append(curve.test_error[1] / true)
    scatter = math.sqrt(2.0 / max(rows - 1 - 100, 10))
    mean = np.mean(found, axis=0)
    assert (np.abs(mean - 1.0) <= 3.0 * scatter / math.sqrt(8.0) + 2.0 / n).all()


def test_naive_spectrum_fails_where_this_one_holds():
    """The control: covariance and least squares of 200 samples in 100 dimensions, taken as true."""
    X, y = draw(200)
    centered, targets = X - X.mean(axis=0), y - y.mean()
    s, V = np.linalg.eigh(centered.T @ centered / 200)
    w = np.linalg.lstsq(centered, targets, rcond=None)[0]
    S = float(np.mean((targets - centered @ w) ** 2))
    naive = spectrum_point(149.0, S, 0.0, s, s * (V.T @ w) ** 2, np.ones(100))
    assert naive.gen_error + S < 0.6 * truth(150, 0.3, 0.0)


def test_best_decay_is_the_least_error_and_that_of_isotropic_theory():
    rng = np.random.default_rng(2)
    D, S = 50, 0.5
    X = rng.standard_normal((20_000, D))
    y = X @ np.full(D, 1.0 / math.sqrt(D)) + math.sqrt(S) * rng.standard_normal(20_000)
    curve = predict_learning_curve(X, y, n=[20, 50, 200], n_splits=0)
    # zeta = S is the best of the library's inputs N(0, I/N): S N of inputs of variance 1
    np.testing.assert_allclose(curve.zeta[0], S * D, rtol=0.06)
    around = curve.zeta[0] * np.array([[0.5], [0.9], [1.1], [2.0]])
    for k, size in enumerate(curve.n):
        others = predict_learning_curve(X[:4000], y[:4000], n=size, zeta=around[:, k], n_splits=0)
        assert (others.test_error[1:, 0] >= others.test_error[0, 0]).all()
        again = predict_learning_curve(
            X[:4000], y[:4000], n=size, zeta=others.zeta[0, 0], n_splits=0
        )
        assert again.test_error[1, 0] == pytest.approx(others.test_error[0, 0], rel=1e-9)


def test_decay_belongs_to_the_scale_of_n_samples():
    """The root solves the equation it comes from, on every side of the rank and of the samples."""
    for rows in (60, 150, 1000):
        spectrum = sample_spectrum(as_samples(*draw(rows)))
        n = np.array([3.0, 40.0, 59.0] + ([100.0, 101.0, 700.0, 1e6] if rows > 100 else []))
        for zeta in (1e-9, 0.1, 1e5):
            at = spectrum.at(spectrum.decay(n, zeta))
            np.testing.assert_allclose(zeta / at.kappa + at.df1, n, rtol=1e-10)
        none = spectrum.decay(n, 0.0)
        assert ((none > 0.0) == (n < spectrum.rank)).all() or rows == 60
        at = spectrum.at(none)
        below = n < spectrum.rank
        np.testing.assert_allclose(at.df1[below], n[below], rtol=1e-9)


def test_all_samples_make_generalized_cross_validation():
    X, y = draw(300)
    spectrum = sample_spectrum(as_samples(X, y))
    X, y = X - X.mean(axis=0), y - y.mean()
    for zeta in (0.0, 0.5, 30.0):
        hat = X @ np.linalg.solve(X.T @ X + zeta * np.eye(100), X.T)
        expected = 299.0 * np.sum((y - hat @ y) ** 2) / (299.0 - np.trace(hat)) ** 2
        at = spectrum.at(np.array(zeta))
        found = at.G * 299.0 / (299.0 - at.df1 + at.between)
        assert float(found) == pytest.approx(expected, rel=1e-9)


def test_without_decay_the_error_at_as_many_samples_as_dimensions_is_infinite():
    curve = predict_learning_curve(*draw(300), n=[50, 101, 300], zeta=0.0, n_splits=0)
    assert curve.status[1].tolist() == [Status.CONVERGED, Status.DIVERGENT, Status.CONVERGED]
    assert curve.test_error[1, 1] == math.inf
    assert np.isfinite(curve.test_error[0]).all()


def test_asymptote_and_where_the_curve_is_flat():
    found = [predict_learning_curve(*draw(400, seed=k), n_splits=0) for k in range(12)]
    noise = np.array([curve.noise for curve in found])
    claimed = np.mean([curve.noise_se for curve in found])
    assert abs(noise.mean() - 0.3) <= 3.0 * claimed / math.sqrt(12.0)
    assert 0.5 * claimed <= noise.std(ddof=1) <= 1.7 * claimed
    spectrum = sample_spectrum(as_samples(*draw(400)))
    flat = found[0].n_flat
    at, before = (_best(spectrum, np.array([n]))[2][0] for n in (flat, flat - 1.0))
    # the curve takes the best of a grid of decays
    assert at * (1.0 - 1e-3) <= 1.1 * found[0].noise <= before * (1.0 + 1e-3)


def test_pure_noise_wants_infinite_decay():
    rng = np.random.default_rng(5)
    X, y = rng.standard_normal((500, 20)), rng.standard_normal(500)
    spectrum = sample_spectrum(as_samples(X, y))
    spectrum.along[:] = 0.0
    curve = _best(spectrum, np.array([10, 100]))
    assert (curve[0] == math.inf).all()


@settings(max_examples=25, deadline=None)
@given(
    st.floats(-6.0, 6.0), st.floats(-6.0, 6.0), st.floats(-1e3, 1e3), st.sampled_from([30, 60, 300])
)
def test_units_and_order_do_not_matter(log_x, log_y, shift, rows):
    """X in other units takes zeta times their square, y gives errors times theirs."""
    X, y = draw(rows, 50)
    a, b = 10.0**log_x, 10.0**log_y
    rng = np.random.default_rng(7)
    order, axes = rng.permutation(rows), np.linalg.qr(rng.standard_normal((50, 50)))[0]
    other = (a * (X[order] @ axes + shift), b * (y[order] + shift))
    options = {"n": [5, 25, 29], "n_splits": 0}
    one = predict_learning_curve(X, y, zeta=[0.0, 0.2], **options)
    two = predict_learning_curve(*other, zeta=[0.0, 0.2 * a * a], **options)
    np.testing.assert_allclose(two.test_error, b * b * one.test_error, rtol=1e-6)
    assert one.noise == pytest.approx(two.noise / (b * b), rel=1e-6, nan_ok=True)


def test_inputs_from_samples_give_the_same_curve_to_every_solver():
    X, y = draw(400)
    inputs = Inputs.from_samples(X, y)
    assert (inputs.size, inputs.n_samples) == (100, 400)
    n = np.array([30, 90, 300, 2000])
    curve = predict_learning_curve(X, y, n=n, zeta=[0.01, 1.0], n_splits=0)
    for i, zeta in enumerate([0.01, 1.0], 1):
        error = replica.gen_error((n - 1.0) / inputs.size, inputs.S, zeta, inputs=inputs)
        same = (error + inputs.S) * (1.0 + 1.0 / n)
        np.testing.assert_allclose(same, curve.test_error[i], rtol=0.01)
    modes = source_modes(sample_spectrum(as_samples(X, y)))
    assert modes.counts.sum() == pytest.approx(100.0, rel=1e-12)
    assert modes.powers.min() >= 0.0
    with pytest.raises(ArgumentError, match="more rows than directions"):
        Inputs.from_samples(*draw(90))


def test_error_rate_of_two_clusters():
    """Fewer and more samples than the 240 given, unequal classes, against fits of fresh data."""
    rng = np.random.default_rng(11)
    center = np.full(30, 1.2 / math.sqrt(30.0))

    def clusters(rows):
        y = np.where(rng.random(rows) < 0.3, 1.0, -1.0)
        return y[:, None] * center + rng.standard_normal((rows, 30)), y

    sizes = np.array([40, 120, 1000])
    fresh, labels = clusters(20_000)
    true = np.empty(3)
    for k, size in enumerate(sizes):
        fits = [Ridge(alpha=5.0).fit(*clusters(size)) for _ in range(20)]
        true[k] = np.mean([np.mean(np.sign(fit.predict(fresh)) != labels) for fit in fits])
    curves = [
        predict_learning_curve(*clusters(240), n=sizes, zeta=5.0, n_splits=0) for _ in range(12)
    ]
    found = np.array([curve.error_rate[1] for curve in curves])
    error = found.std(axis=0, ddof=1) / math.sqrt(12.0)
    assert (error <= 0.01).all()
    assert (np.abs(found.mean(axis=0) - true) <= 3.0 * error + 0.005).all()
    assert (np.diff(true) <= -0.01).all()  # the three differ by more than is allowed


# --- the fits ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["dense", "sparse", "integers", "standardized"])
def test_fits_are_those_of_scikit_learn(kind):
    rng = np.random.default_rng(4)
    X = rng.poisson(0.5, (90, 30)) * np.arange(1, 31)
    y = X[:, 0] + rng.standard_normal(90)
    shown = (
        scipy.sparse.csc_matrix(X) if kind == "sparse" else X * (1 if kind == "integers" else 1.0)
    )
    samples = as_samples(shown, y, standardize=kind == "standardized")
    own = X / X.std(axis=0) if kind == "standardized" else X * 1.0
    for rows in (np.arange(20), np.arange(10, 80)):
        for zeta, (w, b) in zip(
            (0.3, 20.0), _fit_rows(samples, rows, np.array([0.3, 20.0])), strict=True
        ):
            known = Ridge(alpha=zeta).fit(own[rows], y[rows])
            shift = 0.0 if kind == "sparse" else samples.mean * samples.scale @ w
            np.testing.assert_allclose(w, known.coef_, rtol=1e-7, atol=1e-10)
            assert b - shift == pytest.approx(known.intercept_, rel=1e-7)
    (w, _), *_ = _fit_rows(samples, np.arange(20), np.zeros(1))
    centered = own[:20] - own[:20].mean(axis=0)
    np.testing.assert_allclose(
        w, np.linalg.lstsq(centered, y[:20] - y[:20].mean(), rcond=None)[0], atol=1e-8
    )


def test_infinite_decay_is_the_mean():
    assert _solve(np.eye(3), np.ones(3), np.array([math.inf]), 3)[0].tolist() == [0.0, 0.0, 0.0]


def test_measured_error_is_that_of_the_source():
    """Gaussian samples: the fits agree with the theory, in products of rows and of columns."""
    X, y = draw(3000)
    curve = predict_learning_curve(X, y, n=[50, 90, 400, 2000], zeta=[0.3], seed=3)
    true = [truth(n, 0.3, 0.3) for n in curve.n]
    assert (curve.measured_error_se[1] <= 0.1 * curve.measured_error[1]).all()
    scatter = curve.measured_error_se[1] + 0.05 * curve.measured_error[1]
    assert (np.abs(curve.measured_error[1] - true) <= 3.0 * scatter).all()
    np.testing.assert_allclose(
        curve.deviation, curve.measured_error / curve.test_error - 1.0, rtol=1e-12
    )
    again = predict_learning_curve(X, y, n=[50, 90, 400, 2000], zeta=[0.3], seed=3)
    np.testing.assert_array_equal(again.measured_error, curve.measured_error)
    other = predict_learning_curve(X, y, n=[50, 90, 400, 2000], zeta=[0.3], seed=4)
    assert (other.measured_error != curve.measured_error).all()


def test_large_samples_take_the_nested_way_to_the_same_fits(monkeypatch):
    X, y = draw(3000)
    for shown in (X, scipy.sparse.csr_array(X)):
        small = predict_learning_curve(shown, y, n=[1500, 2400], zeta=[0.0, 0.3])
        with monkeypatch.context() as patch:
            patch.setattr(replica.learning_curve, "_SMALL", 0)
            large = predict_learning_curve(shown, y, n=[1500, 2400], zeta=[0.0, 0.3])
        np.testing.assert_allclose(large.measured_error, small.measured_error, rtol=1e-8)


def test_blind_scores_leave_each_sample_out():
    """Against fits of all others: the mean share for each own costs a little, no more."""
    X, y = draw(200)
    for rows in (200, 80):  # more and fewer than dimensions
        samples = as_samples(X[:rows], y[:rows])
        spectrum = sample_spectrum(samples)
        decay = np.array([3.0])
        ((_, scores),) = blind_scores(samples, spectrum, decay)
        exact = np.empty(rows)
        for i in range(rows):
            others = np.delete(np.arange(rows), i)
            exact[i] = Ridge(alpha=3.0).fit(X[others], y[others]).predict(X[i : i + 1])[0]
        assert np.corrcoef(scores[:, 0], exact)[0, 1] > 0.99
        assert scores.mean() == pytest.approx(exact.mean(), abs=0.02)
    sparse = as_samples(scipy.sparse.csr_array(X), y)
    ((_, same),) = blind_scores(sparse, sample_spectrum(sparse), np.array([3.0]))
    samples = as_samples(X, y)
    ((_, scores),) = blind_scores(samples, sample_spectrum(samples), np.array([3.0]))
    np.testing.assert_allclose(same, scores, rtol=1e-8)


# --- data -------------------------------------------------------------------------------------


def test_real_data_regression():
    X, y = datasets.load_diabetes(return_X_y=True, as_frame=True)
    curve = predict_learning_curve(X, y, n=[40, 100, 350], zeta=0.0, standardize=True, n_splits=20)
    # within 4 standard errors, which know nothing of the rows that all splits share, or 10 %
    allowed = 4.0 * curve.measured_error_se + 0.1 * curve.test_error
    assert (np.abs(curve.measured_error - curve.test_error) <= allowed).all()
    assert curve.noise == pytest.approx(2932.7, abs=0.1)  # residual variance of the textbook fit
    assert not curve.classes
    assert np.isnan(curve.error_rate).all()


def test_real_data_labels():
    X, y = datasets.load_breast_cancer(return_X_y=True)
    curve = predict_learning_curve(X, y, n=[30, 100, 400], standardize=True, n_splits=10)
    assert curve.classes == ("0", "1")
    assert (np.abs(curve.measured_rate - curve.error_rate) <= 0.02).all()
    assert (np.abs(curve.deviation[0]) <= 0.2).all()
    X, y = datasets.load_digits(return_X_y=True)
    curve = predict_learning_curve(X, y < 5, n=[100, 1000], zeta=[1.0], n_splits=5)
    assert curve.notes == ("left out since they do not vary: 3 columns (0, 32, 39)",)
    assert (curve.n_columns, curve.rank) == (61, 61)
    assert (np.abs(curve.deviation) <= 0.25).all()


def test_labels_of_any_kind():
    X, y = datasets.load_wine(return_X_y=True, as_frame=True)
    y = (y == 0).to_numpy()
    one = predict_learning_curve(X, y, n=[40], standardize=True)
    for shown in (
        np.where(y, "red", "pink"),
        pd.Series(np.where(y, "red", "pink")),
        pd.Series(np.where(y, "red", "pink"), dtype="category"),
        y * 7 - 3.0,
        pd.Series(y * 2, dtype="Int64"),
    ):
        other = predict_learning_curve(X, shown, n=[40], standardize=True)
        np.testing.assert_array_equal(other.measured_error, one.measured_error)
        np.testing.assert_array_equal(other.error_rate, one.error_rate)
    assert predict_learning_curve(X, np.where(y, "red", "pink"), n=[9]).classes == ("pink", "red")


def test_kinds_of_tables_agree():
    X, y = draw(120, 20)
    X = np.round(X * 8.0) / 8.0  # exact in single precision
    one = predict_learning_curve(X, y, n=[10, 50])
    frame = pd.DataFrame(X, columns=[f"c{k}" for k in range(20)])
    tables = [X.tolist(), X.astype(np.float32), X.astype(object), frame, frame.astype("Float64")]
    tables += [scipy.sparse.csr_matrix(X), scipy.sparse.coo_array(X), np.asfortranarray(X)]
    for table in tables:
        other = predict_learning_curve(table, y, n=[10, 50])
        np.testing.assert_allclose(other.test_error, one.test_error, rtol=1e-9)
        np.testing.assert_allclose(other.measured_error, one.measured_error, rtol=1e-6)


def test_few_samples_say_what_they_can():
    X, y = draw(80)
    curve = predict_learning_curve(X, y, zeta=[0.0, 1.0])
    assert curve.n.max() == 80
    assert np.isnan([curve.noise, curve.noise_se, curve.n_flat]).all()
    assert "no more samples (80 that differ) than dimensions (100)" in curve.notes[0]
    assert np.isfinite(curve.test_error).all()
    with pytest.raises(ArgumentError, match=r"n must be at most 80, the number of samples.*200"):
        predict_learning_curve(X, y, n=[20, 200])


def test_as_many_samples_as_directions_and_one_or_two_more():
    """No division by what is not left over; and a word of warning."""
    for rows in (29, 30, 31, 32):
        X, y = draw(rows, 29)
        curve = predict_learning_curve(X, y > np.median(y), zeta=[0.0, 1.0])
        assert np.isfinite(curve.test_error[[0, 2]]).all()
        assert (np.abs(curve.error_rate - 0.5) <= 0.5).all()
        assert math.isnan(curve.noise) == (rows <= 30)
        assert ("uncertain" in curve.notes[0]) == (rows > 30)


def test_targets_without_noise():
    X, _ = draw(60, 10)
    curve = predict_learning_curve(X, X @ np.arange(10.0), zeta=0.0)
    assert curve.noise == 0.0
    assert curve.test_error[1, -1] == 0.0
    assert math.isnan(curve.n_flat)
    assert curve.plot("zeta").get_ylabel()


def test_repeated_rows_are_no_knowledge_of_the_noise():
    """Else 20 rows given twice would tell the noise of 50 columns."""
    X, y = draw(20, 50)
    for shown in (np.vstack([X, X]), scipy.sparse.csr_array(np.vstack([X, X]))):
        curve = predict_learning_curve(shown, np.tile(y, 2), n=[5, 10], n_splits=0)
        assert (curve.rank, math.isnan(curve.noise)) == (19, True)
        assert curve.notes
    # but a table of few directions is one, however many columns it has
    few = X[:, :5] @ np.random.default_rng(1).standard_normal((5, 50))
    curve = predict_learning_curve(few, y, n=[5, 10], n_splits=0)
    assert (curve.rank, math.isnan(curve.noise)) == (5, False)


def test_blocks_change_nothing(monkeypatch):
    wide, tall = draw(40, 100), draw(90, 20)
    whole = [predict_learning_curve(*data, n=[5, 30], zeta=0.1) for data in (wide, tall)]
    monkeypatch.setattr(replica._sample_spectrum, "_BLOCK", 8 * 40 * 7)
    for data, one in zip((wide, tall), whole, strict=True):
        other = predict_learning_curve(*data, n=[5, 30], zeta=0.1)
        np.testing.assert_allclose(other.test_error, one.test_error, rtol=1e-9)
        # the best decay is that of a flat minimum
        np.testing.assert_allclose(other.measured_error, one.measured_error, rtol=1e-6)


def test_columns_that_follow_from_others_change_nothing():
    X, y = draw(300, 20)
    one = predict_learning_curve(X, y, n=[10, 100], n_splits=0)
    twice = np.hstack([X, X]) / math.sqrt(2.0)
    other = predict_learning_curve(twice, y, n=[10, 100], n_splits=0)
    assert (other.n_columns, other.rank) == (40, 20)
    assert "columns that follow from others: 20 of 40" in other.notes[0]
    np.testing.assert_allclose(other.test_error, one.test_error, rtol=1e-8)
    constant = np.insert(X, 3, 7.0, axis=1)
    third = predict_learning_curve(constant, y, n=[10, 100], n_splits=0)
    np.testing.assert_allclose(third.test_error, one.test_error, rtol=1e-10)


FRAME = pd.DataFrame({"age": [1.0, 2.0, 3.0, 4.0, 6.0], "size": [2.0, 1.0, 5.0, 2.0, 1.0]})
Y = [0.1, 0.5, 0.3, 0.9, 1.2]


@pytest.mark.parametrize(
    ("X", "y", "error", "message"),
    [
        (FRAME.assign(city=list("abcde")), Y, ArgumentTypeError, "'city'"),
        (FRAME.assign(day=pd.Timestamp("2020-01-01")), Y, ArgumentTypeError, "'day' .datetime"),
        (FRAME.replace(3.0, np.nan), Y, ArgumentError, "column 'age': 1; drop"),
        (FRAME.replace(3.0, np.inf), Y, ArgumentError, "column 'age': 1; drop"),
        ([*FRAME.to_numpy().tolist(), ["x", 1]], Y, ArgumentTypeError, "type <U"),
        (np.array([[1, 2], [3, "x"]] * 3, dtype=object), Y, ArgumentTypeError, "'x' in column 1"),
        (FRAME.replace(3.0, np.nan).to_numpy(), Y, ArgumentError, "column 0: 1"),
        (scipy.sparse.csr_array([[1.0, np.nan]] * 5), Y, ArgumentError, "column 1"),
        (FRAME, Y[:4], ArgumentError, "X has 5 rows and y 4 values"),
        (FRAME, [Y, Y], ArgumentError, r"y must be one column, got shape \(2, 5\)"),
        (FRAME[:3], Y[:3], ArgumentError, "at least 4 rows"),
        (FRAME * 0.0, Y, ArgumentError, "every column of X is constant"),
        (FRAME, [1.0] * 5, ArgumentError, "y must vary, but every value is 1"),
        (FRAME, [0.1, np.nan, 0.3, 0.4, 0.5], ArgumentError, "y must have no missing"),
        (FRAME, pd.Series(["a", None, "b", "a", "b"]), ArgumentError, "y must have no missing"),
        (FRAME, list("abcab"), ArgumentError, "got 3 labels: a, b, c; choose one against"),
        (FRAME * 1e200, Y, ArgumentError, "standard deviation of the columns of X must lie in"),
        (FRAME, np.array(Y) * 1e-200, ArgumentError, "standard deviation of y must lie in"),
        (FRAME["age"].to_numpy(), Y, ArgumentError, r"rows and columns, got shape \(5,\)"),
        (FRAME.to_numpy() * 1j, Y, ArgumentTypeError, "type complex"),
    ],
)
def test_data_that_cannot_be_used(X, y, error, message):
    with pytest.raises(error, match=message):
        predict_learning_curve(X, y)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 1}, r"n must lie in \[2"),
        ({"n": 2.5}, "whole numbers"),
        ({"n": [[3]]}, "one dimension"),
        ({"zeta": -1.0}, r"zeta must lie in \[0"),
        ({"loss": "hinge"}, "loss must be one of"),
        ({"n_splits": -1}, "n_splits must be an integer >= 0"),
        ({"seed": -1}, "seed must be an integer >= 0"),
    ],
)
def test_arguments_that_make_no_sense(options, message):
    with pytest.raises((ArgumentError, ArgumentTypeError), match=message):
        predict_learning_curve(*draw(50, 5), **options)


# --- the result -------------------------------------------------------------------------------


def test_result_as_table_text_and_picture():
    X, y = datasets.load_breast_cancer(return_X_y=True, as_frame=True)
    curve = predict_learning_curve(X, y, n=[20, 31, 100, 2000], zeta=[0.0, 5.0], standardize=True)
    table = curve.to_pandas()
    assert len(table) == 12
    assert set(table["decay"]) == {"best", "0", "5"}
    first = table[(table["decay"] == "5") & (table["n"] == 100)]
    assert first["test_error"].item() == curve.test_error[2, 2]
    assert np.isnan(curve.measured_error[:, 3]).all()  # more than there are
    report = curve.report()
    assert report.splitlines()[0] == "569 samples, 30 columns that vary, rank 30"
    assert "labels: -1 is '0', 1 is '1'" in report
    assert f"{100.0 * curve.deviation[0, 2]:+.1f} %" in report
    ax = curve.plot()
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["best decay", "ζ = 0", "ζ = 5", "ridge fits of the data"]
    assert ax.get_ylim()[1] < 10.0  # the peak without decay does not press the rest flat
    for quantity in ("error_rate", "zeta", "deviation"):
        assert curve.plot(quantity).get_ylabel()
    with pytest.raises(ArgumentError, match="quantity must be one of"):
        curve.plot("noise")
    with pytest.raises(ArgumentError, match="needs labels"):
        predict_learning_curve(*draw(50, 5), n=[10]).plot("error_rate")


# --- files and the command --------------------------------------------------------------------


@pytest.fixture(scope="module")
def table():
    X, y = draw(120, 6)
    return pd.DataFrame(X, columns=list("abcdef")).assign(price=y)


def test_files_of_every_kind_hold_the_same(table, tmp_path):
    pytest.importorskip("pyarrow")
    X, y = table.drop(columns="price").to_numpy(), table["price"].to_numpy()
    table.to_csv(tmp_path / "t.csv", index=False)
    table.to_csv(tmp_path / "t.csv.gz", index=False)
    table.to_csv(tmp_path / "t.tsv", index=False, sep="\t")
    table.to_parquet(tmp_path / "t.parquet")
    np.save(tmp_path / "t.npy", table.to_numpy())
    np.savez(tmp_path / "t.npz", X=X, price=y)
    for name in ("t.csv", "t.csv.gz", "t.tsv", "t.parquet", "t.npz"):
        found = read_table(tmp_path / name, "price")
        np.testing.assert_array_equal(np.asarray(found[0]), X)
        np.testing.assert_array_equal(np.asarray(found[1]), y)
    np.testing.assert_array_equal(read_table(tmp_path / "t.npy", "6")[0], X)
    np.testing.assert_array_equal(read_table(tmp_path / "t.npy", "-1")[1], y)


def test_files_that_cannot_be_read(table, tmp_path):
    table.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(ArgumentError, match=r"no column 'prize' .*did you mean price\?"):
        read_table(tmp_path / "t.csv", "prize")
    with pytest.raises(ArgumentError, match="no column 'y' among 'a', 'b'"):
        read_table(tmp_path / "t.csv")
    with pytest.raises(FileNotFoundError):
        read_table(tmp_path / "none.csv", "price")
    with pytest.raises(ArgumentError, match=r"ends in .csv, .*got .*t.xls"):
        read_table(tmp_path / "t.xls", "price")
    parquet = ["bad.parquet"] if find_spec("pyarrow") else []
    for name in ("bad.npy", "bad.npz", *parquet, "bad.csv.gz"):
        (tmp_path / name).write_bytes(b"\x80nothing of the kind\xff")
        with pytest.raises(ArgumentError, match="bad"):
            read_table(tmp_path / name, "price")
    (tmp_path / "bad.csv").write_bytes(b"a,b\n1,2\n1,2,3\n")
    with pytest.raises(ArgumentError, match="cannot be read as"):
        read_table(tmp_path / "bad.csv", "b")
    np.save(tmp_path / "p.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(ArgumentError, match="pickled objects are refused"):
        read_table(tmp_path / "p.npy", "0")
    np.save(tmp_path / "t.npy", table.to_numpy())
    with pytest.raises(ArgumentError, match="from 0 to 6, got 'price'"):
        read_table(tmp_path / "t.npy", "price")
    np.savez(tmp_path / "t.npz", X=table.to_numpy(), z=table.to_numpy())
    with pytest.raises(ArgumentError, match=r"arrays 'X' and 'price', has \['X', 'z'\]"):
        read_table(tmp_path / "t.npz", "price")


def test_missing_packages_are_named(table, tmp_path, monkeypatch, capsys):
    table.to_csv(tmp_path / "t.csv", index=False)
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    assert main(["predict", str(tmp_path / "t.csv"), "--target", "price"]) == 2
    assert "pip install 'replica-solver[tables]'" in capsys.readouterr().err


def test_parquet_needs_a_package_that_is_named(table, tmp_path, monkeypatch):
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    for name in ("pyarrow", "pyarrow.parquet", "fastparquet"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(ImportError, match="pip install pyarrow"):
        read_table(tmp_path / "t.parquet", "price")


def test_idx_files(tmp_path):
    values = np.arange(24, dtype=">i4").reshape(2, 3, 4)
    data = struct.pack(">BBBB3I", 0, 0, 12, 3, 2, 3, 4) + values.tobytes()
    (tmp_path / "plain").write_bytes(data)
    (tmp_path / "zipped.gz").write_bytes(gzip.compress(data))
    for name in ("plain", "zipped.gz"):
        found = read_idx(tmp_path / name)
        np.testing.assert_array_equal(found, values)
        assert found.dtype == np.int32
    for bad in (data[:-1], data + b"x", data[:9], b"", b"\0\0\x07\x01", gzip.compress(data)[:-9]):
        (tmp_path / "bad").write_bytes(bad)
        with pytest.raises(ArgumentError, match="bad"):
            read_idx(tmp_path / "bad")


def test_command_writes_picture_and_numbers(table, tmp_path, capsys):
    table.assign(name="x").to_csv(tmp_path / "t.csv", index=False)
    words = ["predict", str(tmp_path / "t.csv"), "--target", "price", "--zeta", "0,1"]
    assert main(words) == 2
    assert "'name'" in capsys.readouterr().err
    assert main([*words, "--drop", "nam"]) == 2
    assert "no column 'nam'; did you mean name?" in capsys.readouterr().err
    words += ["--drop", "name", "--n", "10,40", "--standardize", "--splits", "2"]
    picture, numbers = tmp_path / "curve.png", tmp_path / "curve.csv"
    assert main([*words, "-o", str(picture), "--csv", str(numbers)]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("120 samples, 6 columns that vary, rank 6\nthe error flattens at ")
    assert err == f"wrote {numbers}\nwrote {picture}\n"
    assert picture.read_bytes()[:4] == b"\x89PNG"
    written = pd.read_csv(numbers)
    known = predict_learning_curve(
        table.drop(columns="price"),
        table["price"],
        n=[10, 40],
        zeta=[0.0, 1.0],
        standardize=True,
        n_splits=2,
    )
    np.testing.assert_allclose(written["test_error"], known.test_error.reshape(-1), rtol=1e-12)
    assert list(written["decay"]) == ["best"] * 2 + ["0"] * 2 + ["1"] * 2


def test_command_draws_labels_in_two_panels(table, tmp_path, capsys):
    labels = np.where(table["price"] > table["price"].median(), "dear", "cheap")
    np.savez(tmp_path / "t.npz", X=table.drop(columns="price").to_numpy(), y=labels)
    assert main(["predict", str(tmp_path / "t.npz"), "-o", str(tmp_path / "c.svg")]) == 0
    assert "labels: -1 is 'cheap', 1 is 'dear'" in capsys.readouterr().out
    assert "error rate" in (tmp_path / "c.svg").read_text("utf-8")
