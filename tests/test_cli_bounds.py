"""`replica bayes`, `threshold`, `optimum`, and the options for losses and labels."""

import csv
import io
import json

import matplotlib.image
import numpy as np
import pytest

import replica
from replica.cli import main


@pytest.fixture
def table(capsys):
    """Run the command; return the rows of the CSV on standard output."""

    def call(line: str) -> list[dict[str, str]]:
        assert main(line.split()) == 0
        return list(csv.DictReader(io.StringIO(capsys.readouterr().out)))

    return call


@pytest.fixture
def refusal(capsys):
    def call(line: str) -> str:
        assert main(line.split()) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        return err

    return call


def test_bayes_prints_the_error_of_every_point(table):
    rows = table("bayes --alpha 1,2 --S 0,0.25")
    expected = replica.bayes_optimal([1.0, 2.0], [[0.0], [0.25]]).gen_error
    assert [float(row["gen_error"]) for row in rows] == expected.ravel().tolist()
    assert [row["S"] for row in rows] == ["0.0", "0.0", "0.25", "0.25"]
    assert list(rows[0]) == ["teacher", "noise", "S", "alpha", "gen_error"]


def test_bayes_of_signs_prints_error_rates_and_with_all_the_rest(table):
    (row,) = table("bayes --alpha 2 --teacher sign --noise flip:0.1")
    solved = replica.bayes_optimal(2.0, teacher="sign", noise=replica.Flip(0.1))
    assert float(row["error_rate"]) == solved.error_rate
    assert (row["teacher"], row["noise"]) == ("sign", "flip:0.1")
    (row,) = table("bayes --alpha 2 --teacher sign --noise flip:0.1 --all")
    for name in ("gibbs_error_rate", "gamma", "weak_recovery", "residual"):
        assert float(row[name]) == getattr(solved, name)


def test_bayes_draws_a_picture(tmp_path, capsys):
    path = tmp_path / "bound.png"
    assert main(["bayes", "--alpha", "log:0.1:10:5", "--teacher", "sign", "-o", str(path)]) == 0
    assert matplotlib.image.imread(path).std() > 0.05
    assert "wrote" in capsys.readouterr().err


def test_threshold_is_that_of_the_student_or_of_the_labels(table):
    rows = table("threshold --S 0,0.25 --student relu")
    loads = replica.interpolation_threshold([0.0, 0.25], student="relu")
    assert [float(row["alpha"]) for row in rows] == loads.tolist()
    (row,) = table("threshold --S 0.5 --teacher sign")
    assert float(row["alpha"]) == replica.separability_threshold(0.5)
    assert row["noise"] == "input"


def test_optimum_is_the_best_decay_with_its_error(table):
    rows = table("optimum --alpha 0.5,2 --S 0.25 --student relu")
    for row, alpha in zip(rows, (0.5, 2.0), strict=True):
        assert float(row["zeta"]) == replica.optimal_zeta(alpha, 0.25, student="relu")
        assert float(row["gen_error"]) == replica.gen_error(
            alpha, 0.25, float(row["zeta"]), student="relu"
        )


def test_curve_has_loss_labels_and_bound_as_columns_if_asked(table):
    rows = table("curve --alpha 1,2 --S 0,1 --teacher sign --noise input --loss hinge --bayes")
    words = {"loss": "hinge", "teacher": "sign", "noise": "input"}
    assert all(row.items() >= words.items() for row in rows)
    problem = {"alpha": [1.0, 2.0], "S": [[0.0], [1.0]], "teacher": "sign", "noise": "input"}
    errors = replica.gen_error(**problem, loss="hinge")
    bounds = replica.bayes_optimal(**problem).error_rate
    np.testing.assert_array_equal([float(row["gen_error"]) for row in rows], np.ravel(errors))
    np.testing.assert_array_equal([float(row["bayes"]) for row in rows], bounds.ravel())
    assert list(table("curve --alpha 1 --S 0")[0]) == [
        *("student", "theory", "S", "zeta", "alpha", "gen_error")
    ]


def test_curve_draws_the_bound_as_a_line(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(replica.plotting, "save_figure", lambda figure, path: drawn.append(figure))
    path = str(tmp_path / "curve.png")
    line = [
        "curve",
        "--alpha",
        "0.5:2:4",
        "--S",
        "0.1,0.25",
        "--zeta",
        "0.1",
        "--bayes",
        "-o",
        path,
    ]
    assert main(line) == 0
    axes = drawn[0].axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        *("S = 0.1", "S = 0.25", "Bayes bound, S = 0.1", "Bayes bound, S = 0.25")
    ]
    bound = axes.get_lines()[-1].get_ydata()
    expected = replica.bayes_optimal(np.linspace(0.5, 2, 4), 0.25).gen_error
    np.testing.assert_array_equal(bound, expected)


def test_error_takes_a_loss_and_labels(capsys):
    line = "error --alpha 2 --S 0 --zeta 0.1 --loss logistic --teacher sign"
    problem = {"loss": "logistic", "teacher": "sign"}
    solved = replica.solve_equilibrium(2.0, 0.0, 0.1, **problem)
    assert main([*line.split(), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["gen_error"] == replica.gen_error(2.0, 0.0, 0.1, **problem)
    assert (found["loss"], found["teacher"], found["noise"]) == ("logistic", "sign", "output")
    assert main([*line.split(), "--all"]) == 0
    shown = dict(row.split(maxsplit=1) for row in capsys.readouterr().out.splitlines())
    assert float(shown["test_loss"]) == solved.test_loss


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("bayes --alpha 1 --noise logistic", "needs teacher 'sign', got 'linear'"),
        ("bayes --alpha 1 --noise flipp", "did you mean flip?"),
        ("bayes --alpha 1 --S -1", "S must lie in"),
        ("optimum --alpha 1 --loss hing", "did you mean hinge?"),
        ("optimum --alpha 1 --loss hinge", "needs labels that are signs"),
        ("threshold --teacher sign --student relu", "for --student linear only, got relu"),
        ("threshold --teacher tanh", "needs labels that are signs"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(refusal, line, words):
    assert words in refusal(line)
