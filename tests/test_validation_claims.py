"""The validation's own rule, storage and summary, and a small claim from end to end."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from replica import gen_error
from validation.__main__ import SCRIPTS
from validation._claims import Claim, Point, judge, load_claims, save_claims
from validation._runs import Setup, fit_limit
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
    assert all(row.replace("\\|", "").count("|") == 7 for row in rows)
    assert "1 green, 0 amber, 1 red" in text
    assert "[first](test.png)" in text
    assert summarize({}).count("🟢") == 0


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
    assert difference.mean.tolist() == [0.0]
    assert difference.error.tolist() == [0.0]


RESULTS = Path(__file__).parent.parent / "validation" / "results"


def test_stored_results_agree_with_the_summary_and_have_their_figures():
    stored = {path.stem: load_claims(path) for path in sorted(RESULTS.glob("*.json"))}
    assert set(stored) == set(SCRIPTS)
    assert (RESULTS / "summary.md").read_text(encoding="utf-8") == summarize(stored)
    names = [c.name for claims in stored.values() for c in claims]
    assert len(names) == len(set(names))
    assert all((RESULTS / c.figure).exists() for claims in stored.values() for c in claims)


def test_stored_ridge_claim_would_be_red_with_the_decay_doubled():
    (ridge,) = (c for c in load_claims(RESULTS / "figure1_linear.json") if c.name == "linear-decay")
    wrong = []
    for point in ridge.points:
        alpha, zeta = map(float, re.findall(r"= ([\d.]+)", point.where))
        assert point.theory == pytest.approx(gen_error(alpha, 0.25, zeta))
        wrong.append(replace(point, theory=gen_error(alpha, 0.25, 2 * zeta)))
    assert ridge.verdict.colour == "green"
    assert judge(wrong).colour == "red"
