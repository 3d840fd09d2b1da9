"""`replica bayes`, `threshold`, `optimum`, and the options for losses and labels."""

import csv
import io
import json
import math

import matplotlib.image
import numpy as np
import pytest

import replica
from replica.cli import _arguments, main


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


@pytest.mark.parametrize(
    ("inputs", "legend"),
    [("clusters:0.3", ["ζ = 0.1", "ζ = 10", "Bayes bound"]), ("power:1", ["ζ = 0.1", "ζ = 10"])],
)
def test_curve_draws_inputs(tmp_path, monkeypatch, inputs, legend):
    drawn = []
    monkeypatch.setattr(replica.plotting, "save_figure", lambda figure, path: drawn.append(figure))
    line = f"curve --alpha 0.5:2:4 --S 0 --zeta 0.1,10 --inputs {inputs} -o {tmp_path}/curve.png"
    assert main([*line.split(), *["--bayes"] * (len(legend) == 3)]) == 0
    axes = drawn[0].axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == legend
    value = _arguments.inputs(inputs).value
    assert value.name in axes.get_title(loc="left").replace("\n", " ")
    expected = replica.gen_error(np.linspace(0.5, 2, 4), 0.0, 0.1, inputs=value)
    np.testing.assert_array_equal(axes.get_lines()[0].get_ydata(), expected)


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
        ("optimum --alpha 1 --S 1 --inputs clusters:0.3", "S must be 0 with inputs=Clusters"),
        ("error --alpha 1 --S 1 --inputs powr:1", "did you mean power?"),
        ("error --alpha 1 --S 1 --inputs power", "power:EXPONENT[:TEACHER_EXPONENT[:SIZE]]"),
        ("error --alpha 1 --S 1 --inputs power:1:x", "'x' is not a number"),
        ("error --alpha 1 --S 1 --inputs power:-1", "exponent must lie in"),
        ("error --alpha 1 --S 1 --inputs power:1:1:1e12", "more than 10,000,000 modes"),
        ("error --alpha 1 --S 1 --inputs features:relu", "features:ACTIVATION:RATIO"),
        ("error --alpha 1 --S 1 --inputs features:rleu:2", "did you mean relu?"),
        ("error --alpha 1 --S 1 --inputs features:quadratic:2", "must have a linear part"),
        ("error --alpha 1 --S 0 --inputs clusters:0.3:0.5:yes", "[:bias]"),
        ("error --alpha 1 --S 0 --inputs spectrum:none.csv", "none.csv: No such file"),
        ("error --alpha 1 --S 0 --inputs power:1 --theory published", "isotropic inputs only"),
        ("curve --alpha 1 --S 0 --inputs power:1 --bayes", "isotropic inputs and clusters only"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(refusal, line, words):
    assert words in refusal(line)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("isotropic", replica.Isotropic()),
        ("power:1.2", replica.PowerLaw(1.2)),
        ("power:6/5:3/2:50", replica.PowerLaw(1.2, 1.5, 50)),
        ("features:relu:2", replica.RandomFeatures("relu", 2.0)),
        ("features:leaky:0.1:1/2", replica.RandomFeatures(replica.LeakyReLU(0.1), 0.5)),
        ("clusters:0.3", replica.Clusters(0.3)),
        ("clusters:0.7:0.25:bias", replica.Clusters(0.7, 0.25, bias=True)),
    ],
)
def test_inputs_are_read_as_they_are_written(text, expected):
    read = _arguments.inputs(text)
    assert (read.text, read.value) == (text, expected)


def test_inputs_of_a_file_are_its_columns(tmp_path):
    path = tmp_path / "a:b.csv"
    path.write_text("weights, variances ,teacher\n1,4,1\n\n2,1,1\n1,0,0\n")
    modes = _arguments.inputs(f"spectrum:{path}").value.modes
    expected = replica.Spectrum([4, 1, 0], teacher=[1, 1, 0], weights=[1, 2, 1]).modes
    assert all(np.array_equal(one, other) for one, other in zip(modes, expected, strict=True))
    path.write_text("2\n1/2\n")  # one column needs no name
    modes = _arguments.inputs(f"spectrum:{path}").value.modes
    assert modes.variances.tolist() == [2.0, 0.5]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "there is no column 'variances'"),
        ("teacher\n1\n", "there is no column 'variances'"),
        ("variance\n1\n", "did you mean variances?"),
        ("variances,variances\n1,1\n", "each once"),
        ("variances,teacher\n1\n", "row 1 has 1 values for 2 columns"),
        ("variances\n1\nx\n", "'x' in row 2 is not a number"),
        ("variances\n1\n-1\n", "variances must lie in"),
        ("variances\n0\n", "variances must not all be 0"),
        ("variances\nnan\n", "variances"),
        (b"\xff\xfe\x00", "is not a CSV file"),
    ],
)
def test_inputs_of_a_bad_file_are_refused_in_one_line(refusal, tmp_path, content, words):
    path = tmp_path / "s.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    assert words in refusal(f"error --alpha 1 --S 0 --inputs spectrum:{path}")


def test_error_curve_and_optimum_take_inputs(table, capsys):
    inputs = replica.PowerLaw(1.2, size=50)
    expected = replica.gen_error([0.5, 2.0], 0.25, 0.1, inputs=inputs)
    rows = table("curve --alpha 0.5,2 --S 0.25 --zeta 0.1 --inputs power:1.2:1.2:50")
    assert [float(row["gen_error"]) for row in rows] == np.ravel(expected).tolist()
    assert {row["inputs"] for row in rows} == {"power:1.2:1.2:50"}
    line = "error --alpha 2 --S 0.25 --zeta 0.1 --inputs power:1.2:1.2:50"
    assert main(line.split()) == 0
    assert float(capsys.readouterr().out) == np.ravel(expected)[1]
    (row,) = table("optimum --alpha 2 --S 0.25 --inputs power:1.2:1.2:50")
    assert float(row["zeta"]) == replica.optimal_zeta(2.0, 0.25, inputs=inputs)
    assert float(row["gen_error"]) < np.ravel(expected)[1]


def test_clusters_have_a_bound_of_their_own_and_no_teacher(table, capsys):
    solved = replica.solve_clusters(2.0, 0.1, inputs=replica.Clusters(0.3), loss="hinge")
    line = "--alpha 2 --S 0 --zeta 0.1 --loss hinge --inputs clusters:0.3"
    (row,) = table(f"curve {line} --bayes")
    assert float(row["gen_error"]) == solved.error_rate
    assert float(row["bayes"]) == solved.bayes_error
    assert row.keys().isdisjoint({"teacher", "noise"})
    assert main(f"error {line} --all --json".split()) == 0
    found = json.loads(capsys.readouterr().out)
    for name in ("error_rate", "bayes_error", "bias", "train_error_rate"):
        assert found[name] == getattr(solved, name)
    assert found["gen_error"] == solved.error_rate
    assert main(f"error {line} --teacher sign --all".split()) == 2
    assert "no teacher" in capsys.readouterr().err


def test_error_all_shows_what_means_something_for_the_problem(capsys):
    def shown(line: str) -> dict[str, str]:
        assert main(["error", *line.split(), "--all"]) == 0
        return dict(row.split(maxsplit=1) for row in capsys.readouterr().out.splitlines())

    separable = shown("--alpha 1.5 --S 0 --loss hinge --teacher sign")
    assert float(separable["margin"]) > 0.0
    assert float(separable["train_error_rate"]) == 0.0
    assert separable["gen_error"] == separable["error_rate"]
    decayed = shown("--alpha 1.5 --S 0 --zeta 0.1 --loss hinge --teacher sign")
    assert "margin" not in decayed  # there is none
    plain = shown("--alpha 1.5 --S 0.1")
    assert plain.keys().isdisjoint({"margin", "error_rate", "train_loss"})
    assert "nan" not in {*separable.values(), *decayed.values(), *plain.values()}


def test_optimum_has_the_limit_of_infinite_decay_as_its_error(table):
    (row,) = table("optimum --alpha 0.01 --S 5 --teacher sign --noise input --loss hinge")
    # The rule of Hebb: W is the sum of y x, of overlap E[y z] = sqrt(2/(pi (1 + S))).
    overlap = math.sqrt(2.0 / (math.pi * 6.0))
    R = overlap * math.sqrt(0.01 / (1.0 + 0.01 * overlap**2))
    assert row["zeta"] == "inf"
    assert float(row["gen_error"]) == pytest.approx(math.acos(R) / math.pi, rel=1e-12)
    (row,) = table("optimum --alpha 0.5 --teacher quadratic")  # nothing to learn: W = 0, E z^4
    assert row["zeta"] == "inf"
    assert float(row["gen_error"]) == pytest.approx(3.0, rel=1e-12)
