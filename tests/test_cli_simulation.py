"""Tests of `replica simulate`, `replica sweep` and `replica runs`."""

from __future__ import annotations

import csv
import json
import sys

import numpy as np
import pytest

from replica.cli import main
from replica.inputs import PowerLaw
from replica.simulation import simulate_online, simulate_training
from replica.students import LeakyReLU
from replica.sweeps import load_runs

SMALL = ["--alpha", "2", "--S", "1/4", "--N", "40", "--epochs", "6"]


@pytest.fixture
def run(capsys):
    """Call the command; returns (exit code, standard output, standard error)."""

    def call(*argv):
        code = main([str(a) for a in argv])
        return (code, *capsys.readouterr())

    return call


def read_csv(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def test_simulate_prints_the_last_state(run):
    code, out, err = run("simulate", *SMALL, "--seed", 3)
    expected = simulate_training(2.0, 0.25, N=40, epochs=6, seed=3, progress=False)
    assert code == 0
    shown, wanted = (
        [line for line in text.splitlines() if "seconds" not in line]
        for text in (out.strip(), repr(expected))
    )
    assert shown == wanted
    assert err == ""


def test_simulate_writes_the_course_of_training(run, tmp_path):
    path = tmp_path / "run.csv"
    code, out, err = run(
        "simulate", *SMALL, "--student", "relu", "--normalizer", "bn", "--zeta", "1/64",
        "--batch-size", "8", "--n-runs", "2", "--anneal", "--schedule", "cosine", "-o", path,
    )  # fmt: skip
    expected = simulate_training(
        2.0, 0.25, N=40, epochs=6, student="relu", normalizer="bn", zeta=1 / 64, batch_size=8,
        n_runs=2, anneal=True, schedule="cosine", progress=False,
    )  # fmt: skip
    assert (code, out, err) == (0, "", f"wrote {path}\n")
    rows = read_csv(path)
    assert [int(row["epoch"]) for row in rows] == list(range(7))
    assert float(rows[-1]["gen_error"]) == expected.mean("gen_error")[-1]
    assert float(rows[-1]["R_se"]) == expected.standard_error("R")[-1]


def test_simulate_online_and_picture(run, tmp_path):
    code, out, _ = run("simulate", "--online", "--S", "0", "--N", "1e3", "-t", "1")
    assert code == 0
    assert out.startswith("OnlineRun\n")
    start = ("--gamma0", "0.6", "--R0", "0.2", "--L0", "2", "--normalizer", "bn", "--batch-size", 4)
    code, out, _ = run(
        "simulate", "--online", "--S", "0.1", "--student", "erf", "--teacher", "leaky:0.5",
        "--N", 50, "-t", 1, *start, "-o", tmp_path / "run.csv",
    )  # fmt: skip
    expected = simulate_online(
        student="erf", teacher=LeakyReLU(0.5), S=0.1, normalizer="bn", batch_size=4, gamma0=0.6,
        R0=0.2, L0=2.0, N=50, t=1.0, progress=False,
    )  # fmt: skip
    rows = read_csv(tmp_path / "run.csv")
    assert [float(row["gen_error"]) for row in rows] == expected.mean("gen_error").tolist()
    code, _, _ = run("simulate", *SMALL, "-o", tmp_path / "run.png")
    assert code == 0
    assert (tmp_path / "run.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (["--S", "0.25"], "--alpha"),
        (["--alpha", "1", "--S", "0.25", "-t", "3"], "-t goes with --online"),
        (["--online", "--S", "0.25", "--epochs", "3"], "--epochs goes without --online"),
        (["--alpha", "1", "--S", "0.25", "--R0", "0.1"], "--R0 goes with --online"),
        (["--alpha", "1", "--S", "0.25", "--student", "sign"], "student must be continuous"),
        (["--online", "--S", "0.25", "--student", "sign"], "student must be continuous"),
        (["--alpha", "1", "--S", "-1"], "S must lie in"),
        (["--alpha", "1", "--S", "0", "--engine", "gpu"], "engine must be one of"),
        (["--alpha", "1e9", "--S", "0"], "GiB"),
        (["--alpha", "1", "--S", "0", "--method", "adam"], "method must be one of"),
        (["--alpha", "1", "--S", "0", "--loss", "hinge"], "needs labels that are signs"),
        (
            ["--alpha", "1", "--S", "0", "--inputs", "power:1:1:4", "--engine", "matrix-free"],
            "dense",
        ),
        (["--online", "--S", "0", "--inputs", "power:1"], "--inputs goes without --online"),
        (["--online", "--S", "0", "--method", "newton"], "--method goes without --online"),
    ],
)
def test_simulate_refuses_bad_input_in_one_line(run, argv, word):
    code, out, err = run("simulate", *argv)
    assert (code, out) == (2, "")
    assert word in err
    assert err.count("\n") == 1


def test_simulate_diverging_run_is_exit_code_1(run):
    code, out, err = run("simulate", *SMALL, "--epochs", "60", "--learning-rate", "50")
    assert code == 1
    assert "1 divergent" in out
    assert "warning: 1 of 1 runs diverged" in err


def test_simulate_to_the_minimum_of_a_loss_on_labels(run, tmp_path):
    path = tmp_path / "run.csv"
    argv = ("--alpha", 2, "--S", 0.5, "--zeta", 0.1, "--N", 40, "--method", "newton")
    labels = ("--teacher", "sign", "--noise", "input")
    assert run("simulate", *argv, *labels, "--loss", "hinge", "-o", path)[0] == 0
    options = {"zeta": 0.1, "N": 40, "method": "newton", "progress": False}
    expected = simulate_training(2.0, 0.5, teacher="sign", noise="input", loss="hinge", **options)
    last = read_csv(path)[-1]
    for name in ("error_rate", "train_error_rate", "test_loss", "train_loss"):
        assert float(last[name]) == getattr(expected, name)[-1, 0]
    # What is half of another column, or means nothing, is left out.
    assert run("simulate", *argv, *labels, "-o", path)[0] == 0
    assert read_csv(path)[0].keys() >= {"error_rate", "train_error_rate"}
    assert read_csv(path)[0].keys().isdisjoint({"test_loss", "train_loss"})
    assert run("simulate", *argv, "--loss", "huber:0.5", "-o", path)[0] == 0
    assert "test_loss" in read_csv(path)[0]
    assert "error_rate" not in read_csv(path)[0]


def test_simulate_takes_inputs(run, tmp_path):
    path = tmp_path / "run.csv"
    argv = ("--alpha", 2, "--S", 0.1, "--zeta", 0.1, "--N", 20, "--method", "newton")
    assert run("simulate", *argv, "--inputs", "power:1:1.5:20", "-o", path)[0] == 0
    expected = simulate_training(
        2.0, 0.1, zeta=0.1, N=20, method="newton", inputs=PowerLaw(1.0, 1.5, 20), progress=False
    )
    assert float(read_csv(path)[-1]["gen_error"]) == expected.gen_error[-1, 0]


def test_simulate_online_takes_a_loss_and_labels(run, tmp_path):
    path = tmp_path / "run.csv"
    argv = ("--S", 0.5, "--student", "linear", "--teacher", "sign", "--noise", "input")
    argv += ("--loss", "logistic", "--N", 50, "-t", 0.5)
    assert run("simulate", "--online", *argv, "-o", path)[0] == 0
    expected = simulate_online(
        S=0.5, student="linear", teacher="sign", noise="input", loss="logistic", N=50, t=0.5,
        progress=False,
    )  # fmt: skip
    assert float(read_csv(path)[-1]["error_rate"]) == expected.error_rate[-1, 0]


WORDED_PLAN = """
function = "simulate_training"
[grid]
loss = "square,huber:0.5"
inputs = ["power:1:1:20", "isotropic"]
[fixed]
alpha = 1.5
S = 0.1
zeta = 0.1
N = 20
noise = "input"
teacher = "linear"
method = "newton"
"""


@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_sweep_takes_losses_labels_and_inputs_as_words(run, tmp_path, executor):
    store, plan = tmp_path / "runs.sqlite", tmp_path / "sweep.toml"
    plan.write_text(f'executor = "{executor}"{WORDED_PLAN}')
    code, out, err = run("sweep", plan, "--store", store, "-o", tmp_path / "table.csv")
    assert (code, "4 done" in out) == (0, True), err
    rows = read_csv(tmp_path / "table.csv")
    names = [(row["loss"], row["inputs"]) for row in rows]
    kinds = ("power:1:1:20", "isotropic")
    assert names == [(loss, inputs) for loss in ("square", "huber:0.5") for inputs in kinds]
    options = {"zeta": 0.1, "N": 20, "method": "newton", "progress": False}
    expected = simulate_training(
        1.5, 0.1, noise="input", loss="huber:0.5", inputs=PowerLaw(1.0, size=20), **options
    )
    assert float(rows[2]["gen_error"]) == expected.gen_error[-1, 0]
    code, out, err = run("sweep", plan, "--store", store, "--dry-run")  # the same code, too
    assert (code, "4 done" in out, err) == (0, True, "")


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ('loss = ["hing"]', "did you mean hinge?"),
        ('noise = ["flip:2"]', "probability must lie in"),
        ('inputs = ["powr:1"]', "did you mean power?"),
    ],
)
def test_sweep_refuses_bad_words_before_the_first_run(run, tmp_path, line, word):
    plan = tmp_path / "sweep.toml"
    plan.write_text(f'function = "simulate_training"\n[grid]\nalpha = [1]\n{line}\n[fixed]\nS = 0')
    code, out, err = run("sweep", plan, "--store", tmp_path / "runs.sqlite")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert word in err
    assert not (tmp_path / "runs.sqlite").exists()


PLAN = """
function = "simulate_training"
store = "{store}"
[grid]
alpha = "1:2:2"
student = ["linear", "leaky:0.1"]
[fixed]
S = 0.25
N = 40
epochs = 4
"""


def test_sweep_runs_resumes_and_exports(run, tmp_path):
    store, plan = tmp_path / "runs.sqlite", tmp_path / "sweep.toml"
    plan.write_text(PLAN.format(store=store))
    code, out, err = run("sweep", plan, "-o", tmp_path / "table.csv")
    assert (code, err) == (0, f"wrote {tmp_path / 'table.csv'}\n")
    assert "SweepTable(4 runs: 4 done" in out
    rows = read_csv(tmp_path / "table.csv")
    assert [row["student"] for row in rows] == ["linear", "leaky:0.1"] * 2
    before = store.read_bytes()
    assert run("sweep", plan)[0] == 0
    assert run("runs", store, "-o", tmp_path / "runs.json")[0] == 0
    exported = json.loads((tmp_path / "runs.json").read_text())
    assert sorted(float(row["gen_error"]) for row in rows) == sorted(
        row["gen_error"] for row in exported
    )
    assert before[:16] == store.read_bytes()[:16]
    code, out, err = run("runs", store)
    assert code == 0
    constant, header, *lines = out.splitlines()
    assert "S = 0.25, N = 40, epochs = 4" in constant
    assert header.split()[:2] == ["alpha", "student"]
    assert len(lines) == 4
    assert max(map(len, (header, *lines))) <= 100
    assert "more columns; --columns all" in err
    code, out, _ = run("runs", store, "--csv")
    assert len(list(csv.DictReader(out.splitlines()))) == 4


def test_sweep_runs_a_function_of_the_users(run, tmp_path, monkeypatch):
    (tmp_path / "mymodel.py").write_text("def cube(x):\n    return x ** 3\n")
    (tmp_path / "sweep.toml").write_text('function = "mymodel:cube"\n[grid]\nx = [1.0, 2.0]\n')
    monkeypatch.chdir(tmp_path)
    code, out, err = run("sweep", "sweep.toml")
    assert (code, err) == (0, "")
    assert (tmp_path / "runs.sqlite").exists()
    assert "2 done" in out


def test_sweep_prefers_installed_modules_to_files_of_their_name(run, tmp_path, monkeypatch):
    (tmp_path / "colorsys.py").write_text("raise AssertionError('imported')\n")
    (tmp_path / "sweep.toml").write_text(
        'function = "colorsys:rgb_to_yiq"\n[grid]\nr = [0.5]\n[fixed]\ng = 0.5\nb = 0.5\n'
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    code, out, err = run("sweep", "sweep.toml")
    assert (code, err) == (0, "")
    assert "1 done" in out


MODEL = "def line(x, seed, kind=None):\n    return {'y': x + 0.5 * (-1) ** seed}\n"
MODEL_PLAN = """
function = "mymodel2:line"
[grid]
x = [2.0, 1.0]
seed = [0, 1, 18446744073709551615]
kind = ["a"]
"""


@pytest.fixture
def model_store(run, tmp_path, monkeypatch):
    (tmp_path / "mymodel2.py").write_text(MODEL)
    (tmp_path / "sweep.toml").write_text(MODEL_PLAN)
    monkeypatch.chdir(tmp_path)
    assert run("sweep", "sweep.toml")[0] == 0
    return tmp_path / "runs.sqlite"


def test_sweep_dry_run_counts_and_writes_nothing(run, tmp_path, model_store):
    content = model_store.read_bytes()
    (tmp_path / "sweep.toml").write_text(MODEL_PLAN.replace("2.0,", "2.0, 3.0,"))
    code, out, _ = run("sweep", "sweep.toml", "--dry-run")
    assert code == 0
    assert "9 runs: 6 done, 3 waiting" in out
    assert model_store.read_bytes() == content
    code, out, _ = run("sweep", "sweep.toml", "--dry-run", "--store", "other.sqlite")
    assert "9 runs: 9 waiting" in out
    assert not (tmp_path / "other.sqlite").exists()


def test_runs_selects_rows_and_columns_in_the_order_of_the_parameters(run, model_store):
    def shown(*argv):
        code, out, _ = run("runs", model_store, "--columns", "x,seed,y", *argv)
        assert code == 0
        cells = [line.split() for line in out.splitlines()[1:]]
        return [(float(x), int(seed), float(y)) for x, seed, y in cells]

    seed = 18446744073709551615
    low, high = [(1.0, 0, 1.5), (1.0, 1, 0.5), (1.0, seed, 0.5)], [(2.0, 0, 2.5), (2.0, 1, 1.5)]
    assert shown() == [*low, *high, (2.0, seed, 1.5)]
    assert shown("--where", "x=1") == low
    assert shown("--where", "x < 2", "--where", "seed >= 1") == low[1:]
    assert shown("--where", f"seed={seed}", "--where", "y!=0.5") == [(2.0, seed, 1.5)]
    assert shown("--where", "kind=a", "--where", "seed=18446744073709551614") == []


def test_runs_averages_over_seeds(run, model_store):
    code, out, _ = run("runs", model_store, "--mean-over", "seed", "--csv")
    rows = list(csv.DictReader(out.splitlines()))
    assert code == 0
    assert [float(row["x"]) for row in rows] == [1.0, 2.0]
    assert [row["n_averaged"] for row in rows] == ["3", "3"]
    y = [1.5, 0.5, 0.5]
    assert float(rows[0]["y"]) == pytest.approx(np.mean(y))
    assert float(rows[0]["y_se"]) == pytest.approx(np.std(y, ddof=1) / np.sqrt(3))


def test_runs_deletes_what_is_selected(run, model_store):
    code, out, _ = run("runs", model_store, "--where", "x>1", "--delete")
    assert (code, out) == (0, f"deleted 3 runs of {model_store}\n")
    code, out, _ = run("sweep", "sweep.toml", "--dry-run")
    assert "3 done, 3 waiting" in out


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (["--delete"], "--delete needs --where"),
        (["--where", "x"], "must be like alpha>=1"),
        (["--where", "x<a"], "'a' is no number"),
        (["--where", "sead=1"], "did you mean seed?"),
        (["--columns", "x,z"], "there is no column 'z'"),
        (["--mean-over", "sed"], "did you mean seed?"),
    ],
)
def test_runs_refuses_bad_input_in_one_line(run, model_store, argv, word):
    code, out, err = run("runs", model_store, *argv)
    assert (code, out) == (2, "")
    assert word in err
    assert err.count("\n") == 1


def test_sweep_knows_a_student_by_one_identity(run, tmp_path):
    plan = tmp_path / "sweep.toml"
    fixed = "\n[fixed]\nS = 0.25\nN = 40\nepochs = 2\n"
    for line in ('student = "relu"', 'student = ["relu"]', 'student = ["leaky:0"]'):
        text = f'function = "simulate_training"\n[grid]\nalpha = [1.0]\n{line}{fixed}'
        plan.write_text(text)
        assert run("sweep", plan, "--store", tmp_path / "runs.sqlite")[0] == 0
    plan.write_text(f'function = "simulate_training"\n[grid]\nalpha = [1]{fixed}student = "relu"\n')
    code, out, _ = run("sweep", plan, "--store", tmp_path / "runs.sqlite", "--dry-run")
    assert (code, "1 done" in out) == (0, True)
    assert load_runs(tmp_path / "runs.sqlite").n_rows == 1


def test_sweep_reads_ranges_of_whole_numbers(run, tmp_path):
    plan = tmp_path / "sweep.toml"
    plan.write_text(
        'function = "simulate_training"\n[grid]\nseed = "0:2:3"\nN = "40:50:2"\nalpha = "1:2:2"\n'
        "[fixed]\nS = 0.25\nepochs = 2\n"
    )
    code, out, err = run("sweep", plan, "--store", tmp_path / "runs.sqlite")
    assert (code, err) == (0, "")
    assert "12 done" in out


@pytest.mark.filterwarnings("default::RuntimeWarning")
def test_runs_lists_a_failed_run_in_one_line(run, tmp_path):
    store, plan = tmp_path / "runs.sqlite", tmp_path / "sweep.toml"
    plan.write_text(PLAN.format(store=store) + "batch_size = 500\n")
    code, out, err = run("sweep", plan)
    assert code == 1
    assert "4 failed" in out
    assert "ArgumentError: batch_size must be" in err
    code, out, _ = run("runs", store)
    _, _, *lines = out.splitlines()  # what is constant, and the names
    assert len(lines) == 4
    assert all("ArgumentError: batch_size must be" in line for line in lines)
    run("runs", store, "-o", tmp_path / "runs.csv")
    assert all("Traceback" in row["message"] for row in read_csv(tmp_path / "runs.csv"))


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("grid = 3", "'function' is missing"),
        ('function = "simulate_training"', "'grid' is missing"),
        ('function = "nothing"\n[grid]', "function must be one of"),
        ('function = "os:nothing"\n[grid]', "cannot be imported"),
        ('function = "os:getpid"\n[grid]\nx = 3', "grid.x must be a list"),
        ('function = "os:getpid"\n[grid]\nx = "a:b"', "grid.x"),
        ('function = "os:getpid"\ncolor = 1\n[grid]', "unknown entries ['color']"),
        ("function = ", "not a TOML file"),
        ("x = " + "[" * 5000 + "]" * 5000, "nested too deeply"),
        ('function = "simulate_trainin"\n[grid]', "did you mean simulate_training?"),
        ('function = "os:getpid"\ngird = 1\n[grid]', "did you mean grid?"),
        ('function = "os:getpid"\n[grid]\n[fixed]\nstudent = "leaky:7"', "is not a student"),
        ('function = "os:getpid"\n[grid]\nstudent = ["leaky:x"]', "is not a number"),
        ('function = ":getpid"\n[grid]', "function"),
        ('function = "simulate_training"\n[grid]\nalhpa = [1]', "did you mean alpha?"),
        ('function = "simulate_training"\n[grid]\nalpha = [1]', "needs the parameter 'S'"),
        ('function = "simulate_training"\n[grid]\nstudent = ["rleu"]', "'rleu' is not a student"),
    ],
)
def test_sweep_refuses_a_bad_plan_in_one_line(run, tmp_path, text, word):
    plan = tmp_path / "sweep.toml"
    plan.write_text(text)
    code, out, err = run("sweep", plan)
    assert (code, out) == (2, "")
    assert word in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("source", "word"),
    [
        (
            "def f(x):\n  return 1 / 0\ny = 1 / 0\n",
            "ZeroDivisionError('division by zero') ({}, line 3)",
        ),
        ("import sys\nsys.exit('no')\n", "SystemExit('no') ({}, line 2)"),
        ("def f(x:\n", "SyntaxError"),
        ("import no_such_module\n", "No module named 'no_such_module' ({}, line 1)"),
        ("f = 3\n", "'g'"),
    ],
)
def test_sweep_of_a_module_that_cannot_be_imported_is_one_line(
    run, tmp_path, monkeypatch, source, word
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    name = f"broken_{abs(hash(source))}"
    (tmp_path / f"{name}.py").write_text(source)
    (tmp_path / "sweep.toml").write_text(f'function = "{name}:g"\n[grid]\nx = [1]\n')
    code, out, err = run("sweep", "sweep.toml")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "cannot be imported" in err
    assert word.format(tmp_path / f"{name}.py") in err


def test_runs_refuses_what_is_no_store(run, tmp_path):
    code, _, err = run("runs", tmp_path / "none.sqlite")
    assert code == 2
    assert "no such store" in err
    (tmp_path / "text.sqlite").write_text("alpha\n" * 1000)
    code, _, err = run("runs", tmp_path / "text.sqlite")
    assert code == 2
    assert "damaged" in err
