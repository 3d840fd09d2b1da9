"""Ridge regression on inputs of any spectrum: the scalar root, its limits, and simulations."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replica import Status, solve_equilibrium
from replica.equilibrium._spectrum_ridge import SpectrumColumns, solve_spectrum, spectrum_point


def power_law(size=40, exponent=1.5):
    """A spectrum over decades, and a teacher that prefers its strong modes."""
    k = np.arange(1.0, size + 1.0)
    powers = k**-1.2
    return k**-exponent, powers / powers.sum(), np.ones(size)


def exact(n, S, zeta, s, p, c):
    """The same from the equations as they are written, in 60 digits."""
    with mpmath.workdps(60):
        n, S, zeta = map(mpmath.mpf, (n, S, zeta))
        modes = [tuple(map(mpmath.mpf, mode)) for mode in zip(s, p, c, strict=True)]

        def excess(kappa):
            return zeta / kappa + sum(c * s / (s + kappa) for s, _, c in modes) - n

        low, high = mpmath.mpf(10) ** -60, (zeta + sum(c * s for s, _, c in modes)) / n * 2
        if excess(low) < 0:
            kappa = mpmath.mpf(0)
        else:
            for _ in range(60):  # bisection of the logarithm, then a bracketing secant rule
                middle = mpmath.sqrt(low * high)
                low, high = (middle, high) if excess(middle) > 0 else (low, middle)
            kappa = mpmath.findroot(excess, (low, high), solver="anderson", tol=1e-100)
        left = [kappa / (s + kappa) for s, _, _ in modes]
        df1 = sum(c * (1 - u) for (_, _, c), u in zip(modes, left, strict=True))
        df2 = sum(c * (1 - u) ** 2 for (_, _, c), u in zip(modes, left, strict=True))
        bias = sum(p * u**2 for (_, p, _), u in zip(modes, left, strict=True))
        error = (bias + S) / (1 - df2 / n)
        explained = sum(p * (1 - u) ** 2 for (_, p, _), u in zip(modes, left, strict=True))
        return {
            "kappa": kappa,
            "gen_error": error - S,
            "m": sum(p * (1 - u) for (_, p, _), u in zip(modes, left, strict=True)),
            "q": explained + df2 / n * error,
            "train_error": error * (1 - df1 / n) ** 2,
        }


LOADS = (0.3, 7.0, 39.0, 40.0, 40.0 + 2.0**-30, 41.5, 300.0)


@pytest.mark.parametrize("zeta", [0.0, 1e-12, 1e-6, 1e-2, 1.0, 1e4])
def test_point_against_60_digits(zeta):
    s, p, c = power_law()
    for n in LOADS:
        if n == 40.0 and zeta == 0.0:
            continue  # infinite: a test of its own
        point = spectrum_point(n, 0.3, zeta, s, p, c)
        assert point.status == Status.CONVERGED
        assert point.residual <= 1e-13
        for name, value in exact(n, 0.3, zeta, s, p, c).items():
            assert getattr(point, name) == pytest.approx(float(value), rel=1e-12, abs=1e-99), (
                n,
                name,
            )


@settings(max_examples=60, deadline=None)
@given(
    st.floats(-3.0, 5.0), st.floats(-14.0, 5.0), st.floats(0.1, 6.0), st.sampled_from([3, 50, 784])
)
def test_root_satisfies_its_equation(log_n, log_zeta, exponent, size):
    s, p, c = power_law(size, exponent)
    n, zeta = 10.0**log_n, 10.0**log_zeta
    point = spectrum_point(n, 0.1, zeta, s, p, c)
    total = math.fsum([*(s / (s + point.kappa)), zeta / point.kappa])
    assert abs(total - n) <= 1e-13 * n
    assert point.n_iter <= 60


def test_without_decay_on_both_sides_of_the_rank():
    s, p, c = power_law(30)
    s[20:], p[20:] = 0.0, 0.0  # dead inputs
    p /= p.sum()
    below, above = (spectrum_point(n, 0.2, 0.0, s, p, c) for n in (15.0, 25.0))
    assert below.kappa > 0.0
    assert below.train_error == 0.0
    assert below.chi == math.inf
    assert above.kappa == 0.0
    assert above.gen_error == pytest.approx(0.2 * 20 / 5, rel=1e-14)
    assert above.train_error == pytest.approx(0.2 * (1 - 20 / 25), rel=1e-14)
    at = spectrum_point(20.0, 0.2, 0.0, s, p, c)
    assert at.status == Status.DIVERGENT
    assert at.gen_error == math.inf
    silent = spectrum_point(20.0, 0.0, 0.0, s, p, c)
    assert (silent.status, silent.gen_error) == (Status.CONVERGED, 0.0)
    # continuous in the decay
    for n, point in ((15.0, below), (25.0, above)):
        small = spectrum_point(n, 0.2, 1e-13, s, p, c)
        assert small.gen_error == pytest.approx(point.gen_error, rel=1e-9)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 1.0 + 1e-9, 3.0])
@pytest.mark.parametrize("zeta", [0.0, 1e-9, 0.25, 40.0])
def test_isotropic_inputs_are_the_closed_form_of_the_library(alpha, zeta):
    N = 1000.0  # modes of variance 1/N: x ~ N(0, I/N)
    one = np.ones(1)
    point = spectrum_point(alpha * N, 0.25, zeta, one / N, one, one * N)
    known = solve_equilibrium(alpha, 0.25, zeta)
    for name, value in {
        "chi": point.chi,
        "gen_error": point.gen_error,
        "train_error": point.train_error,
        "gamma": math.sqrt(point.q),
        "R": point.m / math.sqrt(point.q),
        "replicon": point.replicon,
    }.items():
        # alpha N is rounded, and beside the threshold the error has a condition of 1/|alpha - 1|
        rel = 1e-12 if abs(alpha - 1.0) > 1e-6 else 1e-6
        assert value == pytest.approx(float(getattr(known, name)), rel=rel, abs=1e-15), name
    if math.isfinite(point.q):
        assert point.norm2 / N == pytest.approx(point.q, rel=1e-12)


def test_decay_of_raw_inputs_is_N_times_that_of_the_library():
    """Inputs times c, decay times c^2: the same predictions."""
    s, p, c = power_law()
    one = spectrum_point(25.0, 0.1, 0.3, s, p, c)
    other = spectrum_point(25.0, 0.1, 0.3 * 49.0, 49.0 * s, p, c)
    assert other.gen_error == pytest.approx(one.gen_error, rel=1e-13)
    assert other.norm2 * 49.0 == pytest.approx(one.norm2, rel=1e-12)


def test_counts_are_repeated_modes():
    s, p, _ = power_law(20)
    counts = np.arange(1.0, 21.0)
    repeats = counts.astype(int)
    long = [np.repeat(s, repeats), np.repeat(p / counts, repeats), np.ones(repeats.sum())]
    for n in (50.0, 210.0, 400.0):
        one = spectrum_point(n, 0.1, 0.01, s, p, counts)
        other = spectrum_point(n, 0.1, 0.01, *long)
        assert one.gen_error == pytest.approx(other.gen_error, rel=1e-12)
    third = np.full(3, 1.0 / 3.0)
    assert spectrum_point(1.0, 0.1, 0.0, s[:3], p[:3], third).status == Status.DIVERGENT
    assert spectrum_point(1.0, 0.1, 1e-12, s[:3], p[:3], third).residual <= 1e-13


def test_counts_that_are_fractions_cost_no_digits():
    """Beside n = rank = 1, where 98 times 1/98 is 1 but for rounding."""
    s, p, _ = power_law(98, 0.5)
    for zeta in (1e-12, 1e-6, 1.0):
        for alpha in (0.1, 1.0, 3.0):
            point = spectrum_point(alpha, 0.3, zeta, s, p, np.full(98, 1.0 / 98.0))
            with mpmath.workdps(60):
                known = exact(alpha, 0.3, zeta, s, p, [mpmath.mpf(1) / 98] * 98)
            for name, value in known.items():
                assert getattr(point, name) == pytest.approx(float(value), rel=1e-12, abs=0.0), name


def test_order_of_the_modes_does_not_matter():
    s, p, c = power_law(784, 3.0)
    order = np.random.default_rng(1).permutation(784)
    one, other = (
        spectrum_point(700.0, 0.1, 1e-10, s, p, c),
        spectrum_point(700.0, 0.1, 1e-10, s[order], p[order], c),
    )
    assert one.gen_error == pytest.approx(other.gen_error, rel=1e-12)


def test_columns_are_the_points():
    s, p, c = power_law()
    n = np.array([3.0, 40.0, 90.0])
    S, zeta = np.full(3, 0.1), np.array([0.0, 1.0, 0.0])
    columns = SpectrumColumns.of_size(3)
    solve_spectrum(n, S, zeta, s, p, c, columns, 0, 3)
    for i in range(3):
        point = spectrum_point(n[i], S[i], zeta[i], s, p, c)
        assert tuple(column[i] for column in columns) == tuple(point)


def test_ridge_fits_of_gaussian_data_have_this_error():
    """n, D = 150, 100: the finite-size deviation is below the bound, 40 fits make the scatter."""
    rng = np.random.default_rng(3)
    s, p, _ = power_law(100)
    teacher, S, n = np.sqrt(p / s), 0.2, 150
    for zeta in (0.02, 1.0):
        point = spectrum_point(float(n), S, zeta, s, p, np.ones(100))
        found = []
        for _ in range(40):
            X = rng.standard_normal((n, 100)) * np.sqrt(s)
            y = X @ teacher + math.sqrt(S) * rng.standard_normal(n)
            w = np.linalg.solve(X.T @ X + zeta * np.eye(100), X.T @ y)
            d = w - teacher
            found.append([d @ (s * d), np.mean((y - X @ w) ** 2), w @ w])
        mean, scatter = np.mean(found, axis=0), np.std(found, axis=0, ddof=1) / math.sqrt(40)
        theory = np.array([point.gen_error, point.train_error, point.norm2])
        assert (np.abs(mean - theory) <= 4.0 * scatter + 2.0 / n * theory).all()
        assert (scatter <= 0.05 * theory).all()
