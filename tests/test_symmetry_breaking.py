"""Broken replica symmetry: against brute force, against its own derivatives, and at its limits."""

import math
import warnings

import numpy as np
import pytest

import replica
from reference import symmetry_breaking as brute_force
from reference.tables import FOLDER, read
from replica import ConvergenceWarning, LeakyReLU, Status, solve_broken_symmetry, solve_equilibrium
from replica.equilibrium import _symmetry_breaking
from replica.equilibrium._nested_levels import averages

ROWS = read(FOLDER / "symmetry_breaking.csv")
# alpha, S, zeta, slope all over the grid of tests/symmetry_breaking_scan.py
SAMPLE = [
    (0.3, 0.01, 1e-6, 0.0),
    (0.3, 4.0, 1.0, 0.9),
    (1.0, 0.25, 1e-6, 0.3),
    (1.4, 0.05, 1e-4, 0.0),
    (1.5, 0.25, 0.0, 0.0),
    (1.7, 4.0, 1e-5, 0.01),
    (3.0, 0.01, 1e-3, 0.7),
    (10.0, 4.0, 0.0, 0.0),
    (10.0, 1.0, 0.1, 0.5),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['alpha']}, slope {row['slope']}")
def test_solution_is_that_of_brute_force(row):
    expected = {name: float(text) for name, text in row.items()}
    problem = [expected[name] for name in ("alpha", "S", "zeta")]
    found = solve_broken_symmetry(*problem, student=LeakyReLU(expected["slope"]))
    # the gradient of the reference is good to 1e-12, and 1e-5 of the energy depends on xi
    for name in ("chi", "q_0", "q_1"):
        assert getattr(found, name) == pytest.approx(expected[name], rel=1e-6)
    assert found.xi == pytest.approx(expected["xi"], rel=1e-5)
    assert found.q_1 - found.q_0 == pytest.approx(expected["q_1"] - expected["q_0"], rel=1e-5)
    assert found.gamma * found.R == pytest.approx(expected["m"], rel=1e-6)
    assert found.energy == pytest.approx(expected["energy"], rel=1e-11)


@pytest.mark.parametrize("slope", [0.0, 0.4])
def test_functional_anywhere_is_that_of_brute_force(slope):
    """Order parameters that solve nothing: a check of the average of phi alone."""
    chi, m, v, d, xi, S = 1.3, 0.7, 0.3, 0.01, 20.0, 0.5
    D = chi + xi * d
    here = averages(chi, m, v, np.array([d]), np.array([xi]), S, slope, 0.15)
    expected = brute_force.functional(chi, m, v, d, xi, (1.7, S, 0.2, slope))
    functional = 0.1 * (v + m * m + d) - (math.log(D / chi) / xi + v / D) / 2 + 1.7 * here.phi
    assert functional == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize(("slope", "K"), [(0.0, 1), (0.3, 1), (0.0, 2), (0.3, 2), (0.3, 3)])
def test_averages_are_derivatives_of_phi(slope, K):
    """Every average of the saddle point is a derivative of E phi_0, here by differences."""
    S, step = 0.25, 0.15 if K == 1 else 0.2
    start = [2.0, 0.4, 0.2, *(0.01, 0.003, 0.001)[:K], *(30.0, 70.0, 200.0)[:K]]

    def at(x):
        return averages(
            x[0], x[1], x[2], np.array(x[3 : 3 + K]), np.array(x[3 + K :]), S, slope, step
        )

    def derivative(k):
        h = 1e-3 * start[k]
        f = []
        for j in (-2, -1, 1, 2):
            x = list(start)
            x[k] += j * h
            f.append(at(x).phi)
        return (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * h)

    here = at(start)
    V = here.V0 + np.concatenate([[0.0], np.cumsum(here.spread)])
    d, xi = np.array(start[3 : 3 + K]), np.array(start[3 + K :])

    # what the rule leaves (1e-12, for nested levels 1e-9) over the step of the difference
    def close(value):
        return pytest.approx(value, rel=1e-8 if K == 1 else 3e-6, abs=1e-10)

    assert derivative(0) == close(-V[-1] / 2)
    assert derivative(1) == close(-here.g1 - start[1] * here.g0)
    assert derivative(2) == close(-here.g0 / 2)
    curvature = -here.g0
    for j in range(K):
        assert derivative(3 + j) == close((curvature - xi[j] * V[j]) / 2)
        curvature += xi[j] * here.spread[j]
        information = here.excess[j] + xi[j] ** 2 * d[j] * V[j] / 2
        assert derivative(3 + K + j) == close(-information / xi[j] ** 2)


@pytest.mark.parametrize("slope", [0.0, 0.3])
def test_levels_of_one_breakpoint_are_one_level(slope):
    """The convolution of the nested levels against the closed form of the innermost one."""
    one = averages(2.0, 0.4, 0.2, np.array([0.006]), np.array([65.0]), 0.25, slope, 0.15)
    two = averages(2.0, 0.4, 0.2, np.array([0.004, 0.002]), np.full(2, 65.0), 0.25, slope, 0.15)
    for name in ("g0", "g1", "V0", "train", "dead", "phi"):
        assert getattr(two, name) == pytest.approx(getattr(one, name), rel=1e-11)
    assert two.spread.sum() == pytest.approx(one.spread[0], rel=1e-11)
    # relative entropies add; the Gaussian part of the inner one sees V1 instead of V0
    moved = 0.5 * 65.0**2 * 0.002 * two.spread[0]
    assert two.excess.sum() + moved == pytest.approx(one.excess[0], rel=1e-10)


def test_known_values():
    """An independent damped iteration, to the digits it had."""
    found = solve_broken_symmetry([2.0, 1.5], 0.25, [1 / 64, 0.25])
    assert found.energy == pytest.approx([0.652014, 0.565274], abs=1e-6)
    assert found.gen_error == pytest.approx([0.83990, 0.72900], abs=1e-5)
    assert found.q_0[0] / found.q_1[0] == pytest.approx(0.9873, abs=1e-4)
    assert found.xi[0] == pytest.approx(65.4, abs=0.1)
    plain = solve_equilibrium([2.0, 1.5], 0.25, [1 / 64, 0.25], student="relu")
    assert found.rs_error == pytest.approx(found.gen_error - plain.gen_error, abs=1e-14)


def test_more_levels_converge():
    levels = [solve_broken_symmetry(2.0, 0.25, 1 / 64, levels=K) for K in (1, 2, 3)]
    energies, errors = (
        np.array([getattr(x, name) for x in levels]) for name in ("energy", "gen_error")
    )
    # five levels of the independent iteration
    assert energies[-1] == pytest.approx(0.6520156, abs=1e-7)
    assert errors[-1] == pytest.approx(0.83983, abs=1e-5)
    assert (np.diff(energies) > 0).all()
    assert np.diff(energies, 2)[0] < -0.5 * np.diff(energies)[0]
    assert abs(np.diff(errors)[1]) < 0.3 * abs(np.diff(errors)[0])
    for x in levels:
        assert x.energy_error < 1e-9
        assert (np.diff(x.overlaps) > 0).all()
        assert (np.diff(x.breakpoints) > 0).all()
        assert x.overlaps[-1] == pytest.approx(x.gamma**2, rel=1e-14)


@pytest.mark.parametrize("point", SAMPLE)
def test_functional_is_the_energy_and_above_the_symmetric_one(point):
    *problem, slope = point
    found = solve_broken_symmetry(*problem, student=LeakyReLU(slope))
    plain = solve_equilibrium(*problem, student=LeakyReLU(slope))
    assert found.converged
    assert found.residual < 1e-10
    assert found.energy_error < 1e-9
    assert found.quadrature_error < 1e-6
    assert found.energy > plain.energy * (1 - 1e-9)
    assert found.energy == pytest.approx(float(plain.energy), rel=1e-3)


@pytest.mark.parametrize(
    ("student", "alpha", "S", "zeta"),
    [("linear", 1.5, 0.25, 0.1), ("relu", 1.2, 0.25, 0.0), ("relu", 3.0, 0.0, 0.0)],
)
def test_exact_replica_symmetry_is_kept(student, alpha, S, zeta):
    """Convex problems, and a teacher that is met: every value to the last digit."""
    found = solve_broken_symmetry(alpha, S, zeta, student=student)
    plain = solve_equilibrium(alpha, S, zeta, student=student)
    assert not found.broken
    assert found.rs_error == 0
    assert math.isnan(found.xi)
    for name in ("gamma", "R", "chi", "gen_error", "train_error", "energy", "dead_fraction"):
        assert getattr(found, name) == getattr(plain, name)
    assert found.q_0 == found.q_1 == plain.gamma**2


def test_divergent_points_stay_divergent():
    found = solve_broken_symmetry(1.0, 0.25, 0.0, student=LeakyReLU(0.5))
    assert found.status == Status.DIVERGENT
    assert found.gen_error == math.inf


def test_small_jumps_scale():
    """The step of the overlap goes like the fourth, xi like the inverse third power of the jump."""
    slopes = np.array([0.9, 0.98])
    found = [solve_broken_symmetry(1.5, 0.25, 0.25, student=LeakyReLU(a)) for a in slopes]
    # kappa, chi and with them the jump per 1 - slope change a little, too
    for values, power in (([x.q_1 - x.q_0 for x in found], 4), ([x.xi for x in found], -3)):
        measured = np.log(values[1] / values[0]) / np.log((1 - slopes[1]) / (1 - slopes[0]))
        assert measured == pytest.approx(power, abs=0.2)


def test_complexity_is_the_legendre_transform():
    """At given breakpoints: d complexity/d energy = xi, and nothing is left at the ground state."""
    ground = solve_broken_symmetry(2.0, 0.25, 1 / 64)
    middle = 55.0
    near = solve_broken_symmetry(
        2.0, 0.25, 1 / 64, xi=[middle - 0.5, middle + 0.5, float(ground.xi)]
    )
    assert near.complexity[0] > near.complexity[1] > 0
    assert near.energy[0] > near.energy[1] > ground.energy
    slope = np.diff(near.complexity)[0] / np.diff(near.energy)[0]
    assert slope == pytest.approx(middle, rel=1e-3)
    assert near.complexity[2] == pytest.approx(0, abs=1e-9)
    assert near.energy[2] == pytest.approx(float(ground.energy), rel=1e-10)
    assert near.energy_error.max() < 1e-9
    assert ground.complexity == 0


def test_every_point_is_solved_on_its_own():
    alpha = np.array([[0.5, 1.5], [2.0, 3.0]])
    together = solve_broken_symmetry(alpha, 0.25, 1 / 64)
    assert together.gen_error.shape == (2, 2)
    assert together.overlaps.shape == (2, 2, 2)
    assert together.breakpoints.shape == (2, 2, 1)
    alone = solve_broken_symmetry(2.0, 0.25, 1 / 64)
    assert alone.gen_error.shape == ()
    assert alone.gen_error == together.gen_error[1, 0]
    assert len(together.to_pandas()) == 4
    assert set(together.to_xarray().overlaps.dims) == {"axis_0", "axis_1", "step"}


def test_failure_is_a_status_and_a_warning(monkeypatch):
    # one iteration is not enough
    short = _symmetry_breaking._newton

    def one_iteration(*arguments, **options):
        return short(*arguments, **options | {"max_iter": 1})

    monkeypatch.setattr(_symmetry_breaking, "_newton", one_iteration)
    with pytest.warns(ConvergenceWarning, match="1 of 2 points"):
        found = solve_broken_symmetry([2.0, 0.5], 0.25, [1 / 64, 0.0])
    assert found.status.tolist() == [Status.MAX_ITERATIONS, Status.CONVERGED]
    for name in ("gamma", "gen_error", "rs_error", "energy", "energy_error", "xi", "q_0"):
        assert math.isnan(getattr(found, name)[0])


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="levels must be an integer >= 1 and <= 6, got 0"):
        solve_broken_symmetry(2.0, 0.25, levels=0)
    with pytest.raises(ValueError, match="xi can be given for one level only, got levels=2"):
        solve_broken_symmetry(2.0, 0.25, 0.1, levels=2, xi=3.0)
    with pytest.raises(ValueError, match="xi must lie in"):
        solve_broken_symmetry(2.0, 0.25, 0.1, xi=0.0)
    with pytest.raises(ValueError, match="serves piecewise-linear students only"):
        solve_broken_symmetry(2.0, 0.25, 0.1, student="erf")
    with pytest.raises(ValueError, match="alpha must lie in"):
        solve_broken_symmetry(0.0, 0.25, 0.1)


def test_no_points_are_no_points():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert replica.solve_broken_symmetry([], 0.25).gen_error.shape == (0,)


def test_equilibrium_takes_a_broken_symmetry():
    problem = ([0.5, 2.0], 0.25, [0.0, 1 / 64])
    plain = solve_equilibrium(*problem, student="relu")
    one = solve_equilibrium(*problem, student="relu", symmetry="1rsb")
    found = solve_broken_symmetry(*problem)
    for name in ("gamma", "R", "chi", "gen_error", "train_error", "energy", "status"):
        assert (getattr(one, name) == getattr(found, name)).all()
    assert (one.train_loss, one.symmetry) == (pytest.approx(found.train_error / 2), "1rsb")
    assert (one.energy == one.free_energy).all()
    # below its threshold at zeta = 0 the problem is convex
    assert plain.rs_error[0] == one.rs_error[0] == 0
    assert plain.rs_error[1] == pytest.approx(found.rs_error[1], rel=1e-12)
    assert one.rs_error[1] == pytest.approx(found.rs_error[1], rel=1e-9)
    two = replica.gen_error(2.0, 0.25, 1 / 64, student="relu", symmetry="krsb", levels=2)
    assert two == solve_broken_symmetry(2.0, 0.25, 1 / 64, levels=2).gen_error


def test_error_of_symmetry_is_unknown_where_nobody_knows():
    inputs = replica.Spectrum([0.5, 1.5])
    assert math.isnan(solve_equilibrium(2.0, 0.25, 0.1, student="relu", inputs=inputs).rs_error)
    assert solve_equilibrium(2.0, 0.25, 0.1, student="linear").rs_error == 0


@pytest.mark.parametrize(
    "options",
    [{"beta": 10.0}, {"theory": "published"}, {"teacher": "sign"}, {"student": "erf"}],
    ids=str,
)
def test_broken_symmetry_refuses_what_it_does_not_serve(options):
    with pytest.raises(ValueError, match="symmetry '1rsb'"):
        solve_equilibrium(2.0, 0.25, 0.1, **{"student": "relu", **options}, symmetry="1rsb")


def test_band_of_a_curve_is_the_error_of_replica_symmetry():
    loads = np.array([1.0, 2.0])
    ax = replica.plot_curve(loads, 0.25, 1 / 64, student="relu", band=True)
    edges = np.asarray(ax.collections[0].get_paths()[0].vertices)
    found = solve_broken_symmetry(loads, 0.25, 1 / 64)
    for x, with_error, shift in zip(loads, found.gen_error, found.rs_error, strict=True):
        heights = edges[edges[:, 0] == x, 1]
        assert heights.min() == pytest.approx(with_error, rel=1e-12)
        assert heights.max() == pytest.approx(with_error - shift, rel=1e-12)
    with pytest.raises(ValueError, match="band is for quantity 'gen_error'"):
        replica.plot_curve(loads, 0.25, 0.1, student="relu", quantity="chi", band=True)
