"""The validation's own rule, storage and summary, and a small claim from end to end."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from replica import bn_gen_error, early_stopping, gen_error
from validation import figure1_linear, finite_size
from validation.__main__ import SCRIPTS
from validation._claims import Claim, Point, judge, load_claims, save_claims
from validation._exact_ridge import exact_ridge, mean_exact_ridge, ridge_control
from validation._runs import Measurement, Setup, fit_limit, train
from validation.summary import summarize, write_summary


def claim(*points: Point, name: str = "test", stated_by: str = "package") -> Claim:
    return Claim(
        name=name, statement="Theory | is right.", stated_by=stated_by, formula="eq. 0",
        theory="a number", points=points, command="python -m validation", seed=1,
        figure="test.png", note="a note",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("theory", "simulation", "allowance", "outcome", "colour"),
    [
        (1.0, 1.02, 0.0, "holds", "green"),
        (1.0, 1.06, 0.0, "fails", "red"),
        (1.0, 1.06, 0.05, "holds", "green"),
        (1.0, 1.06, -0.05, "fails", "red"),
        (1.0, 0.94, -0.05, "holds", "green"),
        (1.0, 0.955, 0.0, "holds within 4.5 %", "amber"),
        (1.0, math.nan, 0.0, "fails", "red"),
        (math.inf, 1.0, 0.0, "fails", "red"),
        (0.0, 0.06, 0.0, "fails", "red"),
    ],
)
def test_judge_follows_the_rule(theory, simulation, allowance, outcome, colour):
    verdict = judge([Point("here", theory, simulation, 0.01, 1000, allowance=allowance)])
    assert (verdict.outcome, verdict.colour) == (outcome, colour)
    assert colour == "green" or "here" in verdict.reason


def test_judge_of_one_precise_point_is_three_standard_errors():
    assert Point("", 1.0, 1.0, 1.0, 10**6).tolerance(1) == pytest.approx(3.0, abs=1e-3)


def test_judge_widens_with_few_runs_and_many_points():
    point = Point("", 1.0, 1.0, 1.0, 8)
    assert point.tolerance(1) > 4.0
    assert point.tolerance(20) > point.tolerance(1)


def test_judge_has_the_false_alarm_rate_it_states():
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(2000):
        runs = rng.standard_normal((12, 16))
        errors = runs.std(axis=1, ddof=1) / 4.0
        points = [Point("", 1.0, 1.0 + r.mean(), e, 16) for r, e in zip(runs, errors, strict=True)]
        alarms += judge(points).colour != "green"
    assert alarms <= 16  # 5.4 expected; more than 16 has a chance of 5e-5


@pytest.mark.parametrize("bad", [[], [Point("one run", 1.0, 1.0, 0.1, 1)]])
def test_judge_never_passes_a_claim_without_evidence(bad):
    if bad:
        assert judge(bad).colour == "red"
    else:
        with pytest.raises(ValueError, match="points must not be empty"):
            judge(bad)


def test_one_bad_point_among_many_is_red_and_named():
    good = [Point(f"good {i}", 1.0, 1.0, 0.01, 50) for i in range(9)]
    verdict = judge([*good, Point("bad", 1.0, 2.0, 0.01, 50)])
    assert verdict.colour == "red"
    assert "bad" in verdict.reason
    assert "1 of 10" in verdict.reason


def test_claims_survive_json_even_without_a_number(tmp_path):
    claims = [
        claim(Point("a", 1.0, 1.01, 0.01, 16, 0.002, 0.001, 0.003)),
        claim(Point("b", math.inf, 1.0, 0.01, 16), name="other"),
    ]
    save_claims(claims, tmp_path / "claims.json")
    back = load_claims(tmp_path / "claims.json")
    assert back[0] == claims[0]
    assert [c.verdict.colour for c in back] == ["green", "red"]


def test_load_claims_rejects_a_verdict_written_by_hand(tmp_path):
    path = tmp_path / "claims.json"
    save_claims([claim(Point("a", 1.0, 2.0, 0.01, 16))], path)
    record = json.loads(path.read_text())
    record[0]["verdict"] |= {"outcome": "holds", "colour": "green"}
    path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match="does not follow from its points"):
        load_claims(path)


def test_summary_has_one_line_a_claim_with_its_colour(tmp_path):
    save_claims([claim(Point("a", 1.0, 1.0, 0.01, 16))], tmp_path / "first.json")
    save_claims([claim(Point("a", 1.0, 2.0, 0.01, 16))], tmp_path / "second.json")
    text = write_summary(tmp_path).read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if "Theory" in line]
    assert len(rows) == 2
    assert rows[0].startswith("| 🟢")
    assert rows[1].startswith("| 🔴")
    assert all(row.replace("\\|", "").count("|") == 8 for row in rows)
    assert "1 green, 0 amber, 1 red" in text
    assert "Size: other" in text
    assert "[first](test.png)" in text
    assert summarize({}).count("🟢") == 0


@pytest.mark.parametrize("option", ["--quick", "--full"])
def test_summary_says_the_size_and_never_breaks_a_row(option):
    hostile = replace(
        claim(Point("a | b\nc", 1.0, 2.0, 0.01, 16)),
        command=f"python -m validation {option} --only first",
        statement="one\ntwo | three",
    )
    text = summarize({"first": [hostile]})
    (row,) = [line for line in text.splitlines() if "three" in line]
    assert row.replace("\\|", "").count("|") == 8
    assert f"Size: {option[2:]}." in text
    assert f"| {option[2:]} |" in row


def test_table_shows_command_and_seed():
    assert "python -m validation (seed 1)" in claim(Point("a", 1.0, 1.0, 0.01, 16)).table()


def test_fit_limit_recovers_a_line_in_one_over_n():
    sizes = np.array([32, 64, 128])
    means = np.stack([1.0 + 2.0 / sizes, 0.5 - 1.0 / sizes], axis=1)
    fit = fit_limit(sizes, means, np.full((3, 2), 1e-3))
    np.testing.assert_allclose(fit.limit, [1.0, 0.5])
    np.testing.assert_allclose(fit.slope, [2.0, -1.0])
    assert (fit.limit_error > 1e-3 / math.sqrt(3)).all()


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Ridge regression by SGD at N = 64, and the setup that holds its store."""
    setup = Setup(tmp_path_factory.mktemp("validation"), N=64, n_runs=600, sizes=(16, 32))
    options = {
        "alpha": 2.0, "S": 0.25, "zeta": 0.25, "student": "linear", "batch_size": -16,
        "learning_rate": 1.0, "schedule": "cosine", "epochs": 40, "record": 40,
    }  # fmt: skip
    return setup, options, setup.measure([options])[0]


def test_a_claim_from_simulation_to_summary_holds(measured):
    setup, _, m = measured
    result = claim(m.point("alpha = 2", gen_error(2.0, 0.25, 0.25)))
    assert result.verdict.colour == "green", result.table()
    save_claims([result], setup.output / "tiny.json")
    assert "🟢" in write_summary(setup.output).read_text(encoding="utf-8")
    assert m.sizes == (16, 32, 64)


@pytest.mark.parametrize("zeta", [2 * 0.25, 4 * 0.25, 0.0])
def test_a_wrong_theory_is_red(measured, zeta):
    # The negative control: the simulated decay is 0.25.
    _, _, m = measured
    assert judge([m.point("alpha = 2", gen_error(2.0, 0.25, zeta))]).colour == "red"


def test_measure_reads_finished_runs_from_the_store(measured, monkeypatch):
    setup, options, m = measured

    def refuse(**_):
        raise AssertionError("trained again")

    monkeypatch.setattr("validation._runs.simulate_training", refuse)
    again = setup.measure([options])[0]
    np.testing.assert_array_equal(again.mean, m.mean)


def test_minus_is_exactly_zero_for_the_same_runs(measured):
    _, _, m = measured
    difference = m.minus(m)
    assert difference.mean[-1] == 0.0
    assert difference.error[-1] == 0.0


@pytest.mark.parametrize(("P", "zeta"), [(20, 0.1), (90, 0.0), (90, 0.3), (20, 0.0)])
def test_exact_ridge_solves_the_normal_equations(P, zeta):
    rng = np.random.default_rng(3)
    X, noise = rng.standard_normal((P, 40)) / np.sqrt(40), rng.standard_normal(P)
    y = X.sum(axis=1) + noise
    W = np.linalg.pinv(X.T @ X + zeta * np.eye(40)) @ X.T @ y
    assert exact_ridge(X, noise, zeta) == pytest.approx(np.mean((W - 1.0) ** 2), rel=1e-8)


@pytest.mark.parametrize(("P", "zeta"), [(20, 0.1), (90, 0.0), (90, 0.3), (20, 0.0)])
def test_mean_exact_ridge_is_an_average_over_the_spectrum(P, zeta):
    rng = np.random.default_rng(4)
    X = rng.standard_normal((P, 40)) / np.sqrt(40)
    x = np.linalg.eigvalsh(X.T @ X)[-min(P, 40) :]
    zero_modes = 40 - x.size
    expected = (zero_modes + np.sum((zeta**2 + 0.25 * x) / (x + zeta) ** 2)) / 40
    assert mean_exact_ridge(X, 0.25, zeta) == pytest.approx(expected, rel=1e-8)


def test_controls_sharpen_without_moving_the_mean():
    options = {
        "alpha": 2.0, "S": 0.25, "zeta": 0.25, "N": 64, "n_runs": 100, "seed": 5, "record": 250,
        **figure1_linear.RIDGE,
    }  # fmt: skip
    record = train(**options, controls=[0.25])
    plain, sharp = record["gen_error_runs"][-1], record["controlled_error_runs"][-1]
    assert sharp.std() < 0.3 * plain.std()
    moved = plain - sharp
    assert abs(moved.mean()) < 4 * moved.std() / np.sqrt(moved.size)


def test_ridge_control_is_the_difference_of_its_parts():
    rng = np.random.default_rng(6)
    X, noise = rng.standard_normal((30, 12)) / np.sqrt(12), rng.standard_normal(30)
    expected = exact_ridge(X, noise, 0.2) - mean_exact_ridge(X, 0.25, 0.2)
    assert ridge_control(X, noise, 0.25, 0.2) == pytest.approx(expected)


def test_batch_norm_without_effect_is_red(tmp_path):
    # The negative control: c_M = 1 would leave the error of least squares.
    setup = Setup(tmp_path, N=128, n_runs=64, sizes=(32, 64))
    options = figure1_linear.CONVERGED | {"alpha": 3.0, "epochs": 800}
    (m,) = setup.measure([options], "difference", function=figure1_linear.converge)
    theory = bn_gen_error(3.0, 0.25, batch_size=32) - gen_error(3.0, 0.25)
    assert judge([m.point("alpha = 3", theory)]).colour == "green"
    assert judge([m.point("alpha = 3", 0.0)]).colour == "red"


def test_power_recovers_an_exponent_and_its_error():
    rng = np.random.default_rng(7)
    N = np.array([32.0, 64.0, 128.0, 256.0])
    errors = 0.1 / N
    fits = np.array(
        [
            finite_size.power(N, 2.0 / N + errors * rng.standard_normal(4), errors)
            for _ in range(200)
        ]
    )
    assert fits[:, 0].mean() == pytest.approx(-1.0, abs=4 * fits[:, 1].mean() / np.sqrt(200))
    assert fits[:, 0].std() == pytest.approx(fits[:, 1].mean(), rel=0.3)


def test_descent_limit_tends_to_the_flow(monkeypatch):
    # One unit of time by steps of 0.001: Euler's error is of that order.
    monkeypatch.setattr(finite_size, "RATE", 1e-3)
    monkeypatch.setattr(finite_size, "STEPS", 1000)
    flow = early_stopping(finite_size.LOAD, finite_size.S, 1.0).gen_error
    assert finite_size.descent_limit() == pytest.approx(float(flow), rel=1e-3)


# A validation of tiny runs, one script, as the command line runs it; it hangs after some runs.
TINY = """
import itertools, signal, sys, threading
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs ignore
import replica.sweeps._sweep as sweeps
from validation import __main__, _runs, figure1_linear, finite_size
_runs.Setup.quick = classmethod(lambda cls, output: cls(output, N=48, n_runs=4, sizes=(16, 24)))
for table in (finite_size.MEAN_RUNS, finite_size.DENSE_RUNS, finite_size.FREE_RUNS):
    table["--quick"] = {48: 40, 96: 40, 192: 40, 384: 40}
finite_size.LOADS = figure1_linear.LOADS = (0.5, 1.0, 2.0)
finite_size.SGD_LOADS = figure1_linear.SGD_LOADS = (0.5, 2.0)
call, count, limit = sweeps._call, itertools.count(1), int(sys.argv[2])
def limited(*arguments):
    if next(count) > limit:
        threading.Event().wait()  # until the signal comes
    return call(*arguments)
sweeps._call = limited
sys.argv[1:] = ["--quick", "--only", "finite_size", "--output", sys.argv[1]]
__main__.run()
"""


def tiny_validation(output: Path, *, limit: int = 10**6) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", TINY, str(output), str(limit)], cwd=Path(__file__).parent.parent,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
    )  # fmt: skip


def finished_runs(store: Path) -> int:
    if not store.exists():
        return 0
    try:
        with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as connection:
            query = "SELECT count(*) FROM runs WHERE status = 'done'"
            return connection.execute(query).fetchone()[0]
    except sqlite3.OperationalError:  # not created yet
        return 0


@pytest.mark.slow
def test_an_interrupted_validation_resumes_with_the_same_results(tmp_path):
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    undisturbed, done = tiny_validation(whole), 0
    for kill in (signal.SIGKILL, signal.SIGINT):
        process = tiny_validation(broken, limit=6)
        while finished_runs(broken / "runs.sqlite") < done + 3 and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(kill)
        _, errors = process.communicate(timeout=120)
        assert process.returncode == (130 if kill == signal.SIGINT else -kill), errors
        assert not (broken / "finite_size.json").exists()
        assert finished_runs(broken / "runs.sqlite") >= done + 3
        done = finished_runs(broken / "runs.sqlite")
    assert "resumes here" in errors
    for process in (tiny_validation(broken), undisturbed):
        process.communicate(timeout=300)
    for name in ("finite_size.json", "summary.md"):
        assert (broken / name).read_bytes() == (whole / name).read_bytes()


RESULTS = Path(__file__).parent.parent / "validation" / "results"


def test_stored_results_agree_with_the_summary_and_have_their_figures():
    stored = {path.stem: load_claims(path) for path in sorted(RESULTS.glob("*.json"))}
    assert set(stored) == set(SCRIPTS)
    assert (RESULTS / "summary.md").read_text(encoding="utf-8") == summarize(stored)
    names = [c.name for claims in stored.values() for c in claims]
    assert len(names) == len(set(names))
    assert all((RESULTS / c.figure).exists() for claims in stored.values() for c in claims)


def test_stored_batch_norm_claim_would_be_red_without_batch_norm():
    claims = load_claims(RESULTS / "figure1_linear.json")
    (converged,) = (c for c in claims if c.name == "linear-bn-converged")
    assert judge([replace(p, theory=0.0) for p in converged.points]).colour == "red"


def test_stored_ridge_claim_would_be_red_with_the_decay_doubled():
    (ridge,) = (c for c in load_claims(RESULTS / "figure1_linear.json") if c.name == "linear-decay")
    wrong = []
    for point in ridge.points:
        alpha, zeta = map(float, re.findall(r"= ([\d.]+)", point.where))
        assert point.theory == pytest.approx(gen_error(alpha, 0.25, zeta))
        wrong.append(replace(point, theory=gen_error(alpha, 0.25, 2 * zeta)))
    assert ridge.verdict.colour == "green"
    assert judge(wrong).colour == "red"


def test_judge_of_a_direction_tells_wrong_from_not_resolved():
    def effect(value):
        return Point("here", 0.0, value, 0.01, 1000, at_least=True)

    assert judge([effect(0.1), effect(0.2)]).colour == "green"
    unresolved = judge([effect(0.1), effect(0.005)])
    assert (unresolved.outcome, unresolved.colour) == ("not resolved", "amber")
    assert "1 of 2 effects" in unresolved.reason
    assert judge([effect(0.1), effect(0.005), effect(-0.1)]).colour == "red"
    small_but_wrong = Point("here", 1.0, 0.98, 0.001, 1000, at_least=True)
    assert judge([small_but_wrong]).colour == "red"


def test_judge_names_the_worst_point_also_where_the_theory_is_zero():
    small, large = Point("small", 0.0, 0.1, 0.01, 1000), Point("large", 0.0, -0.5, 0.01, 1000)
    assert "worst at large" in judge([small, large]).reason


def test_measurement_pools_the_scatter_over_sizes():
    rng = np.random.default_rng(5)
    sizes, counts = (100, 400, 1600), (64, 16, 4)
    values = tuple(
        rng.standard_normal((1, n)) / np.sqrt(N) for N, n in zip(sizes, counts, strict=True)
    )
    measured = Measurement(sizes, np.array([0]), values)
    assert measured.n_runs == 1 + 63 + 15 + 3
    assert measured.error[0] == pytest.approx(1 / np.sqrt(4 * 1600), rel=0.25)
    assert measured.mean[0] == values[-1].mean()


def test_judge_says_how_many_points_have_power():
    strong, weak = Point("", 1.0, 1.0, 0.1, 1000), Point("", 0.01, 0.0, 0.1, 1000)
    assert judge([strong, weak]).reason.endswith("1 of them tell the theory from 0")
