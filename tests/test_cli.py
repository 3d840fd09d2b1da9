"""The command line, mostly in-process: what a user types, sees and gets back."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import random
import shlex
import subprocess
import sys
import threading
import warnings
from itertools import product

import matplotlib.image
import numpy as np
import pytest

import replica
from replica.cli import _arguments, _output, build_parser, main


@pytest.fixture
def run(capsys):
    """Run the command; return (exit code, stdout, stderr)."""

    def call(*argv: str) -> tuple[int, str, str]:
        code = main(argv)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def assert_one_line_error(result, *words: str, code: int = 2) -> None:
    got, out, err = result
    assert got == code
    assert out == ""
    assert err.startswith("replica: error: ")
    assert err.count("\n") == 1, err
    for word in words:
        assert word in err


# --- numbers, students, paths -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.25", [0.25]),
        ("1/64", [0.015625]),
        ("0,0.0156,0.25", [0, 0.0156, 0.25]),
        ("0:1:5", [0, 0.25, 0.5, 0.75, 1]),
        ("1:0:3", [1, 0.5, 0]),
        ("3:7:1", [3]),
        ("log:1e-3:1e3:3", [1e-3, 1, 1e3]),
        ("0, 1/4 ,1:2:2", [0, 0.25, 1, 2]),
        ("inf", [math.inf]),
    ],
)
def test_numbers_reads_lists_and_grids(text, expected):
    np.testing.assert_allclose(_arguments.numbers(text), expected, rtol=1e-15)


def test_numbers_grid_has_exact_ends():
    grid = _arguments.numbers("log:1e-3:1e3:50")
    assert (grid[0], grid[-1], grid.size) == (1e-3, 1e3, 50)


@pytest.mark.parametrize(
    ("alpha", "word"),
    [
        ("", "not a number"),
        ("1,,2", "not a number"),
        ("one", "not a number"),
        ("1/0", "not a number"),
        ("1/2/3", "not a number"),
        ("0.1:4", "not a grid"),
        ("0.1:4:10:2", "not a grid"),
        ("lin:1:4:10", "not a grid"),
        ("0.1:4:0", ">= 1"),
        ("0.1:4:-3", ">= 1"),
        ("0.1:4:2.5", "whole number"),
        ("0.1:4:nan", "whole number"),
        ("0.1:inf:5", "finite"),
        ("0.1:4:1e12", "more than"),
        ("log:0:1:3", "> 0"),
        ("log:-1:1:3", "> 0"),
    ],
)
def test_curve_bad_numbers_are_refused_in_one_line(run, alpha, word):
    assert_one_line_error(run("curve", f"--alpha={alpha}", "--S", "1"), "--alpha", word)


@pytest.mark.parametrize("student", ["gelu", "leaky", "leaky:2", "leaky:x", "linear,", "RELU"])
def test_curve_bad_student_is_refused_in_one_line(run, student):
    result = run("curve", "--alpha", "1", "--S", "1", "--student", student)
    assert_one_line_error(result, "--student")


def test_students_reads_names_and_slopes():
    assert _arguments.students("linear,relu,leaky:1/4") == [
        replica.LINEAR,
        replica.RELU,
        replica.LeakyReLU(0.25),
    ]


def test_students_of_the_command_line_are_those_of_the_library():
    names = list(replica.students._BY_NAME)
    assert [student.name for student in _arguments.students(",".join(names))] == names
    assert all(f"{name}, " in _arguments.STUDENTS for name in names)
    assert _arguments.student("leaky:.1") == replica.LeakyReLU(0.1)


def test_simulate_says_whom_it_serves(run):
    result = run("simulate", "--alpha", "1", "--S", "1", "--N", "20", "--student", "sign")
    assert_one_line_error(result, "student must be continuous")


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("curve.gif", "must end in .png, .pdf, .svg, .csv or .json"),
        ("curve", "must end in"),
        ("nowhere/curve.png", "no directory"),
        ("folder.csv", "is a directory"),
    ],
)
def test_curve_bad_output_is_refused_before_anything_is_computed(run, tmp_path, name, word):
    (tmp_path / "folder.csv").mkdir()
    # alpha = 0 would be refused by the library: the path is looked at first.
    result = run("curve", "--alpha", "0", "--S", "1", "-o", str(tmp_path / name))
    assert_one_line_error(result, "--output", word)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a file that is always full")
def test_curve_failing_write_is_one_line(run, tmp_path):
    path = tmp_path / "curve.csv"
    path.symlink_to("/dev/full")
    result = run("curve", "--alpha", "1.5,2", "--S", "1", "-o", str(path))
    assert_one_line_error(result, "No space left")


# --- replica error ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("student", "theory"),
    [*product(("linear", "relu"), ("replica", "published")), ("leaky:0.1", "replica")],
)
def test_error_prints_gen_error_with_all_digits(run, student, theory):
    code, out, err = run(
        *("error", "--alpha", "2.5", "--S", "1/4", "--zeta", "1/64"),
        *("--student", student, "--theory", theory),
    )
    expected = replica.gen_error(
        2.5, 0.25, 1 / 64, student=_arguments.student(student), theory=theory
    )
    assert (code, err) == (0, "")
    assert float(out) == expected


def test_error_prints_inf_at_the_divergence(run):
    assert run("error", "--alpha", "1", "--S", "0.25") == (0, "inf\n", "")


def test_error_zeta_mean_converts_the_strength(run):
    _, out, _ = run("error", "--alpha", "2", "--S", "0.25", "--zeta", "0.1", "--zeta-mean")
    assert float(out) == replica.gen_error(2.0, 0.25, 0.2)


def test_error_json_is_strict_and_echoes_the_problem(run):
    code, out, _ = run("error", "--alpha", "1", "--S", "0.25", "--json")
    assert code == 0
    assert json.loads(out, parse_constant=pytest.fail) == {
        "alpha": 1.0,
        "S": 0.25,
        "zeta": 0.0,
        "student": "linear",
        "theory": "replica",
        "gen_error": "inf",
    }


def test_error_all_shows_the_order_parameters(run):
    argv = ("error", "--alpha", "2", "--S", "0.25", "--zeta", "1/64", "--student", "relu", "--all")
    solution = replica.solve_equilibrium(2.0, 0.25, 1 / 64, student="relu")
    code, out, _ = run(*argv)
    shown = dict(line.split() for line in out.splitlines())
    assert code == 0
    for name in ("gamma", "R", "chi", "gen_error", "train_error", "energy", "dead_fraction"):
        assert float(shown[name]) == getattr(solution, name)
    in_json = json.loads(run(*argv, "--json")[1])
    assert in_json["R"] == solution.R
    assert in_json["interpolating"] is False


@pytest.mark.parametrize(
    ("problem", "word"),
    [
        (("--alpha", "0", "--S", "1"), "alpha"),
        (("--alpha", "-2", "--S", "1"), "alpha"),
        (("--alpha", "nan", "--S", "1"), "alpha"),
        (("--alpha", "2", "--S", "-1"), "S must"),
        (("--alpha", "2", "--S", "1", "--zeta", "-1"), "zeta"),
        (("--alpha", "2"), "--S"),
        (("--alpha", "2", "--S", "1", "--theory", "exact"), "--theory"),
        (("--alpha", "2", "--S", "1", "--alfa", "3"), "--alfa"),
        (("--alpha", "2", "--S", "1", "--student", "leaky:0.1", "--theory", "published"), "publ"),
    ],
)
def test_error_bad_input_is_one_line_and_code_2(run, problem, word):
    assert_one_line_error(run("error", *problem), word)


# --- replica curve ------------------------------------------------------------------------------

CURVES = ("curve", "--alpha", "0.5:2:4", "--S", "1/4", "--zeta", "0,1/64", "--student")


def expected_rows(students=("linear", "relu")):
    return [
        (
            student,
            "replica",
            0.25,
            zeta,
            alpha,
            replica.gen_error(alpha, 0.25, zeta, student=student),
        )
        for student in students
        for zeta in (0.0, 1 / 64)
        for alpha in (0.5, 1.0, 1.5, 2.0)
    ]


def read_csv(text: str):
    header, *rows = csv.reader(io.StringIO(text))
    assert header == ["student", "theory", "S", "zeta", "alpha", "gen_error"]
    return [(s, t, *map(float, numbers)) for s, t, *numbers in rows]


def test_curve_without_output_prints_csv(run):
    code, out, err = run(*CURVES, "linear,relu")
    assert (code, err) == (0, "")
    assert read_csv(out) == expected_rows()


def test_curve_writes_csv_and_json_with_the_same_numbers(run, tmp_path):
    for suffix in ("csv", "json"):
        path = tmp_path / f"curve.{suffix}"
        result = run(*CURVES, "linear,relu", "-o", str(path))
        assert result == (0, "", f"wrote {path}\n")
    assert read_csv((tmp_path / "curve.csv").read_text()) == expected_rows()
    records = json.loads((tmp_path / "curve.json").read_text(), parse_constant=pytest.fail)
    assert records[1]["gen_error"] == "inf"
    rows = [(*list(r.values())[:-1], float(r["gen_error"])) for r in records]
    assert rows == expected_rows()


def test_curve_writes_pictures(run, tmp_path):
    for suffix, magic in (("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")):
        path = tmp_path / f"curve.{suffix}"
        assert run(*CURVES, "linear", "-o", str(path))[0] == 0
        assert path.read_bytes().startswith(magic)
    image = matplotlib.image.imread(tmp_path / "curve.png")
    assert image[..., :3].min() < 0.5, "the picture is blank"


# --- replica figure -----------------------------------------------------------------------------


def parse_table(text: str) -> dict[str, list[float]]:
    """Columns of an aligned table; names may hold single spaces, columns are two apart."""
    lines = [[cell for cell in line.strip().split("  ") if cell] for line in text.splitlines()]
    names, *rows = [[cell.strip() for cell in line] for line in lines]
    return {n: [float(row[i]) for row in rows] for i, n in enumerate(names)}


def test_figure_1_prints_numbers_that_are_gen_error(run, tmp_path):
    code, out, err = run("figure", "1", "-o", str(tmp_path / "f.png"))
    assert (code, err) == (0, f"wrote {tmp_path / 'f.png'}\n")
    linear, relu = out.strip().split("\n\n")
    problems = {
        "vanilla SGD, zeta = 0": {},
        "zeta = 1/64": {"zeta": 1 / 64},
        "zeta = 0.25": {"zeta": 0.25},
        "published, zeta = 0": {"theory": "published"},
        "replica, zeta = 0": {},
        "replica, zeta = 1/64": {"zeta": 1 / 64},
        "replica, zeta = 0.25": {"zeta": 0.25},
        "published, S = 0": {"theory": "published", "S": 0.0},
        "replica, S = 0": {"S": 0.0},
    }
    seen = set()
    for student, text in (("linear", linear), ("relu", relu)):
        title, table = text.split("\n", 1)
        assert student in title.lower()
        columns = parse_table(table)
        alpha = np.array(columns.pop("alpha"))
        for name, values in columns.items():
            problem = {"S": 0.25} | problems[name]
            expected = replica.gen_error(alpha, **problem, student=student)
            np.testing.assert_allclose(values, expected, atol=0.5001e-4, err_msg=name)
            seen.add(name)
    assert seen == set(problems)
    # What the paper says in words: divergence at 1 and at 2, best decay zeta = S.
    assert parse_table(linear.split("\n", 1)[1])["vanilla SGD, zeta = 0"].count(math.inf) == 1
    assert parse_table(relu.split("\n", 1)[1])["published, zeta = 0"].count(math.inf) == 1


def test_figure_1_default_output_is_in_the_working_directory(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("figure", "1")[0] == 0
    assert (tmp_path / "figure1.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("number", ["0", "7", "one", "1.5"])
def test_figure_unknown_number_is_refused_in_one_line(run, number):
    assert_one_line_error(run("figure", number), "NUMBER")


def test_figure_bad_suffix_is_refused_in_one_line(run):
    assert_one_line_error(run("figure", "1", "-o", "figure.docx"), ".png, .pdf")


# --- the command as a whole ---------------------------------------------------------------------


def subcommands() -> list[str]:
    actions = build_parser()._subparsers._group_actions  # type: ignore[union-attr]
    return list(actions[0].choices)  # type: ignore[arg-type]


@pytest.mark.parametrize("command", subcommands())
def test_help_has_examples_that_parse(run, command):
    code, out, _ = run(command, "--help")
    assert code == 0
    examples = [
        line.strip().split("|")[0].split()
        for line in out.split("examples:", 1)[1].splitlines()
        if line.strip().startswith("replica ")
    ]
    assert examples
    for _, *argv in examples:
        assert build_parser().parse_args(argv).command == command


def test_help_lists_every_command(run):
    code, out, _ = run("--help")
    assert code == 0
    for command in subcommands():
        assert f"\n    {command} " in out


def test_main_without_command_is_one_line(run):
    assert_one_line_error(run(), "COMMAND")


def test_main_unknown_command_is_one_line(run):
    assert_one_line_error(run("solve"), "solve")


def _replace_gen_error(monkeypatch, function) -> None:
    monkeypatch.setattr(replica, "gen_error", function, raising=False)


def test_main_shows_convergence_warning_in_one_line_and_code_1(run, monkeypatch):
    def fail(*args, **options):
        warnings.warn("1 of 1 elements\nfailed", replica.ConvergenceWarning, stacklevel=2)
        return math.nan

    _replace_gen_error(monkeypatch, fail)
    code, out, err = run("error", "--alpha", "1", "--S", "1")
    assert (code, out) == (1, "nan\n")
    assert err == "replica: warning: 1 of 1 elements failed\n"


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError("Unable to allocate 7 TiB"), 2, "Unable to allocate"),
        (replica.ArgumentTypeError("S must be real"), 2, "S must be real"),
        (replica.ArgumentError("S must be >= 0"), 2, "S must be >= 0"),
        (replica.StoreError("no such store"), 2, "no such store"),
        (OSError(28, "No space left on device", "/x"), 2, "/x: No space left on device"),
    ],
)
def test_main_turns_exceptions_into_one_line(run, monkeypatch, error, code, message):
    def fail(*args, **options):
        raise error

    _replace_gen_error(monkeypatch, fail)
    assert_one_line_error(run("error", "--alpha", "1", "--S", "1"), message, code=code)


@pytest.mark.parametrize(
    "error",
    [ZeroDivisionError("x"), TypeError("f() got 1"), ValueError("x"), RecursionError("deep")],
)
def test_main_asks_to_report_defects(run, monkeypatch, error):
    def fail(*args, **options):
        raise error

    _replace_gen_error(monkeypatch, fail)
    code, out, err = run("error", "--alpha", "1", "--S", "1")
    assert (code, out) == (70, "")
    *trace, last = err.splitlines()
    assert trace[0].startswith("Traceback")
    assert "in fail" in err
    assert last.startswith(f"replica: error: {type(error).__name__}: {error}")
    assert "please report" in last


def test_main_code_is_1_wherever_a_point_did_not_converge(run, monkeypatch, tmp_path):
    def fail(alpha, *args, **options):
        warnings.warn("a point failed", replica.ConvergenceWarning, stacklevel=2)
        return np.full(np.shape(alpha), math.nan)

    _replace_gen_error(monkeypatch, fail)
    monkeypatch.setattr("replica.equilibrium.gen_error", fail)
    picture, table = str(tmp_path / "c.png"), str(tmp_path / "c.csv")
    for output in ((), ("-o", table), ("-o", picture)):
        code, _, err = run("curve", "--alpha", "1,2", "--S", "1", *output)
        assert code == 1
        assert "replica: warning: a point failed\n" in err


def test_dynamics_code_is_1_if_a_run_diverges(run):
    code, out, err = run(
        "dynamics", "--normalizer", "none", "--lr", "30", "-t", "50", "--points", "5"
    )
    assert code == 1
    assert "nan" in out
    assert err.startswith("replica: warning: ")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("curve", "--alpha", "2", "--s", "0.25"), "unknown option --s; did you mean --S?"),
        (("error", "-S", "1"), "unknown option -S; did you mean --S?"),
        (("error", "--alfa=2", "--S", "1"), "unknown option --alfa; did you mean --alpha?"),
        (("simulate", "--S", "1", "--stud", "relu"), "--stud; did you mean --student?"),
        (("--versio",), "unknown option --versio; did you mean --version?"),
        (("curv", "--alpha", "2"), "'curv' is not one of error, curve, bayes"),
        (("curv", "--alpha", "2"), "did you mean curve?"),
        (("error", "--theory", "Published"), "did you mean published?"),
        (("error", "--student", "lineer"), "did you mean linear?"),
        (("dynamics", "--student", "Tanh"), "did you mean tanh?"),
        (("dynamics", "--normalizer", "wm"), "did you mean wn?"),
        (("simulate", "--S", "1", "--normalizer", "bn-men"), "did you mean bn-mean?"),
        (("simulate", "--S", "1", "--alpha", "1", "--engine", "Dense"), "did you mean dense?"),
    ],
)
def test_main_says_what_was_meant(run, argv, message):
    assert_one_line_error(run(*argv), message)


@pytest.mark.parametrize("alpha", ["-1/4", "-1e-3", "-inf", "-2:2:5", "-.5"])
def test_negative_values_are_no_options(run, alpha):
    assert_one_line_error(run("curve", "--alpha", alpha, "--S", "1"), "alpha must lie in")


def test_main_says_now_and_then_that_it_is_at_work(monkeypatch):
    class Stream(io.StringIO):
        told = threading.Event()

        def write(self, text):
            self.told.set()
            return super().write(text)

    stream = Stream()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr("replica.cli._FIRST_SIGN", 0.01)
    _replace_gen_error(monkeypatch, lambda *args, **options: float(stream.told.wait(60.0)))
    assert main(["error", "--alpha", "1", "--S", "1"]) == 0
    assert stream.getvalue().startswith("replica: still at work after 0 s\n")
    monkeypatch.setattr(stream, "isatty", lambda: True)  # a reader sees the progress bars
    monkeypatch.setattr("replica.cli.Thread", pytest.fail)
    assert main(["error", "--alpha", "1", "--S", "1"]) == 0


# --- standard streams -----------------------------------------------------------------------------


class Narrow(io.TextIOWrapper):
    """Standard output in an encoding with few letters."""

    def __init__(self, encoding: str) -> None:
        super().__init__(io.BytesIO(), encoding=encoding)

    def text(self) -> str:
        self.flush()
        return self.buffer.getvalue().decode(self.encoding)


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_main_writes_in_any_encoding(monkeypatch, tmp_path, capsys, encoding):
    stream = Narrow(encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    assert main(["figure", "1", "-o", str(tmp_path / "f.svg")]) == 0
    assert "vanilla SGD, zeta = 0" in stream.text()
    assert stream.errors == "strict", "as it was"
    assert "\\" not in stream.text()
    (tmp_path / "s.toml").write_text(
        'function = "builtins:str"\n[grid]\nobject = ["\u03b6"]\n', "utf-8"
    )
    main(["sweep", str(tmp_path / "s.toml"), "--store", str(tmp_path / "r.sqlite")])
    assert main(["runs", str(tmp_path / "r.sqlite"), "--csv"]) == 0
    assert "\\u03b6" in stream.text()


@pytest.mark.parametrize("command", ["curve", "figure", "dynamics", "simulate"])
def test_main_draws_whatever_the_settings_of_matplotlib_are(run, monkeypatch, tmp_path, command):
    monkeypatch.setitem(matplotlib.rcParams, "text.usetex", True)
    monkeypatch.setenv("PATH", str(tmp_path))  # no LaTeX
    path = tmp_path / "f.png"
    more = ["--alpha", "2"] if command == "simulate" else []
    assert run(command, *USUAL[command].split(), *more, "-o", str(path))[0] == 0
    assert path.read_bytes().startswith(b"\x89PNG")


def test_main_without_standard_output(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "stdout", None)
    for argv in (["error", "--alpha", "1", "--S", "1"], ["figure", "1"], ["--help"]):
        monkeypatch.chdir(tmp_path)
        assert main(argv) == 2
        assert capsys.readouterr().err == "replica: error: standard output is closed\n"
        assert sys.stdout is None
    path = tmp_path / "c.csv"  # a result that goes elsewhere does not need it
    assert main(["curve", "--alpha", "1", "--S", "1", "-o", str(path)]) == 0
    assert path.read_text().startswith("student,")
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["error", "--alpha", "1", "--S", "1"]) == 2


def test_as_text_aligns_columns_that_are_wider_than_their_name():
    text = _output.as_text({"n": [1000000, 2], "value": [0.5, math.nan]}, digits=2)
    assert text.splitlines() == ["      n  value", "1000000   0.50", "      2    nan"]


# --- anything may be typed ------------------------------------------------------------------------

NUMBERS = (
    *("0", "1", "2", "0.25", "1/64", "4/3", "1e-300", "1e300", "5e-324", "-1", "-1/4", "-0", "1/0"),
    *(
        "nan",
        "inf",
        "-inf",
        "1e999",
        "0x10",
        "1_0",
        "٣",
        "",
        " ",
        "x",
        "1,2",
        "0.1:4:5",
        "log:1:9:3",
    ),
    *(
        "log:0:1:3",
        "1:2",
        "1:2:0",
        "1:2:1e99",
        "::",
        ",",
        "--",
        "-",
        "9" * 400,
        "1.",
        ".5",
        "1e",
        "∞",
    ),
)
WORDS = (
    *("linear", "relu", "leaky:0.1", "leaky:2", "leaky:", "Relu", "tanh", "erf", "linear,relu", ""),
    *("replica", "published", "batch_norm", "bn", "wn", "pn,none", "bn-men", "none", "bn-var"),
    *("constant", "cosine", "float32", "dense", "matrix-free", "chain", "direct", "é", "-", "a b"),
)
FILES = (
    "f.png",
    "f.csv",
    "f.json",
    "f.svg",
    "f.gif",
    "no/f.csv",
    ".",
    "",
    "plan.toml",
    "deep.toml",
)
OPTIONS = {
    "error": ("--alpha --S --zeta", "--student --theory", "--zeta-mean --all --json"),
    "curve": ("--alpha --S --zeta", "--student --theory", ""),
    "figure": ("1", "", ""),
    "dynamics": (
        "--lr --zeta --S --gamma0 --R0 --L0 --batch-size -t",
        "--normalizer --student",
        "--log",
    ),
    "simulate": (
        "--alpha --S --zeta --batch-size --learning-rate -t --momentum --dropout --tolerance "
        "--n-runs --seed",
        "--student --normalizer --schedule --engine --dtype",
        "--online --anneal",
    ),
    "sweep": ("", "", ""),
    "runs": ("", "", "--csv"),
}
USUAL = {  # so that some lines are right, and all are quick
    "error": "--alpha 2 --S 0.25",
    "curve": "--alpha 0.5,2 --S 0.25",
    "dynamics": "--lr 0.5 -t 2 --points 4",
    "simulate": "--S 0.25 --N 30 --epochs 2",
    "figure": "1",
    "sweep": "plan.toml --store s.sqlite",
    "runs": "s.sqlite",
}


def random_line(rng: random.Random) -> list[str]:
    """A command line that somebody might type, mostly wrong."""
    command = rng.choice(list(OPTIONS))
    numbers, words, flags = (group.split() for group in OPTIONS[command])
    line = USUAL[command].split()
    if command == "simulate":
        line += rng.choice((["--alpha", "2"], [], ["--online", "-t", "1"]))
        line = [word for word in line if "--online" not in line or word not in ("--epochs", "2")]
    for _ in range(rng.randrange(4)):
        kind = rng.randrange(8)
        if kind < 3 and numbers:
            line += [rng.choice(numbers), rng.choice(NUMBERS)]
        elif kind < 5 and words:
            line += [rng.choice(words), rng.choice(WORDS)]
        elif kind == 5 and flags:
            line.append(rng.choice(flags))
        elif kind == 6:
            line += ["-o", rng.choice(FILES)]
        elif line:  # a slip of the fingers
            place = rng.randrange(len(line))
            word = line[place]
            line[place] = rng.choice((word[:-1], word + "x", word.swapcase(), word[1:], word * 2))
            if rng.random() < 0.3:
                del line[place]
    return [command, *line] if rng.random() < 0.95 else line


@pytest.fixture
def files_to_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = 'function = "builtins:divmod"\n[grid]\nx = [1, 2]\n'
    (tmp_path / "plan.toml").write_text(plan)
    (tmp_path / "deep.toml").write_text("x = " + "[" * 9000)


@pytest.mark.filterwarnings("default")  # as on the command line
@pytest.mark.parametrize("seed", range(40))
def test_any_line_ends_in_a_code_and_without_a_traceback(run, files_to_run, seed):
    line = random_line(random.Random(seed))
    code, _, err = run(*line)
    assert code in (0, 1, 2), line
    assert "Traceback" not in err, line
    if code == 2:
        assert err.splitlines()[-1].startswith("replica: error: "), line


# --- in a process of its own --------------------------------------------------------------------


def _environment() -> dict[str, str]:
    # Without a buffer a write cut short by a closed pipe goes unnoticed, by CPython's design.
    hidden = ("DISPLAY", "WAYLAND_DISPLAY", "MPLBACKEND", "PYTHONUNBUFFERED")
    return {name: value for name, value in os.environ.items() if name not in hidden}


def test_module_runs_without_a_display(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "replica", "figure", "1", "-o", str(tmp_path / "f.pdf")],
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, f"wrote {tmp_path / 'f.pdf'}\n")
    assert (tmp_path / "f.pdf").read_bytes().startswith(b"%PDF")


def test_module_survives_a_reader_that_goes_away():
    argv = [sys.executable, "-m", "replica", "curve", "--alpha", "0.1:4:20000", "--S", "1"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(argv, env=_environment(), **pipes) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        stderr = process.stderr.read()
    assert (process.returncode, stderr) == (141, b"")


@pytest.mark.skipif(os.name != "posix", reason="a shell that can close standard output")
@pytest.mark.parametrize(
    ("argv", "redirection"),
    [
        (["error", "--alpha", "1", "--S", "1"], ">&-"),
        (["--help"], ">/dev/full"),
        (["--help"], ">&- 2>&-"),
    ],
)
def test_module_without_standard_output_has_code_2_and_no_traceback(argv, redirection):
    call = shlex.join([sys.executable, "-m", "replica", *argv])
    result = subprocess.run(
        ["sh", "-c", f"{call} {redirection}"],
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    lines = [] if "2>&-" in redirection else ["replica: error: "]
    assert [line[:16] for line in result.stderr.splitlines()] == lines


def test_help_does_not_load_the_numerical_libraries():
    code = (
        "import sys; from replica.cli import main; main(['--help']);"
        "sys.exit(' '.join({'numpy', 'numba', 'scipy', 'matplotlib'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.stderr.strip() == ""


@pytest.mark.parametrize("name", ["erf", "softplus"])
def test_error_and_curve_take_any_student_by_name(run, name):
    expected = replica.gen_error(2.0, 0.25, 0.1, student=name)
    code, out, _ = run("error", "--alpha", "2", "--S", "0.25", "--zeta", "0.1", "--student", name)
    assert (code, float(out)) == (0, expected)
    code, out, _ = run("curve", "--alpha", "2", "--S", "0.25", "--zeta", "0.1", "--student", name)
    assert code == 0
    assert float(out.splitlines()[1].split(",")[-1]) == expected


def test_error_all_of_a_general_student_has_what_is_known(run):
    argv = ("--alpha", "2", "--S", "0.25", "--zeta", "0.1", "--student", "erf")
    code, out, _ = run("error", *argv, "--all", "--json")
    assert code == 0
    shown = json.loads(out)
    assert shown["status"] == "converged"
    assert shown["chi"] > 0
    assert shown["dead_fraction"] is None or math.isnan(float(shown["dead_fraction"]))
