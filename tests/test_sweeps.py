"""Tests of sweeps: nothing lost, nothing run twice, whatever happens."""

from __future__ import annotations

import itertools
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from concurrent.futures import (
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from contextlib import closing, suppress
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

import replica
from replica import Status
from replica.simulation._online import simulate_online
from replica.students import LeakyReLU
from replica.sweeps import (
    CorruptStoreError,
    StoreError,
    SweepTable,
    _store,
    delete_runs,
    load_runs,
    sweep,
)
from replica.sweeps._points import code_digest, run_key
from replica.sweeps._store import Row, Store

GRID = {"x": [1, 2, 3], "y": [0.5, 1.5]}


def multiply(x, y):
    return {"product": x * y, "pair": [x, y]}


def logged(x, log, pause=0.0):
    """Leave a line in `log` when a run starts."""
    with open(log, "a") as stream:
        stream.write(f"{x}\n")
    time.sleep(pause)
    return {"square": x * x}


def log_process(x, log, pause):
    """Leave the number of this process in `log`."""
    return logged(os.getpid(), log, pause)


def fail_on_two(x):
    if x == 2:
        raise RuntimeError("two is not a number")
    return float(x)


def die_once(x, marker):
    """Kill the worker process the first time x = 3 comes along."""
    if x == 3 and not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"square": x * x}


def starts(log):
    return [int(line) for line in Path(log).read_text().split()] if Path(log).exists() else []


@pytest.fixture
def store(tmp_path):
    return tmp_path / "runs.sqlite"


# ----------------------------------------------------------------------------------- the table


def test_sweep_returns_the_grid_in_order(store):
    table = sweep(multiply, GRID, store=store, progress=False)
    assert table["x"].tolist() == [1, 1, 2, 2, 3, 3]
    assert table["product"].tolist() == [0.5, 1.5, 1.0, 3.0, 1.5, 4.5]
    assert table["pair"].shape == (6, 2)
    assert table["status"].tolist() == ["done"] * 6
    assert table.n_rows == 6
    assert "6 done" in repr(table)
    assert set(table) >= {"x", "y", "product", "pair", "status", "seconds", "message"}


def test_table_in_a_notebook_is_its_first_rows():
    table = SweepTable({"name": ["<b>"] * 12, "e": range(12)}, ("name",))
    html = table._repr_html_()
    assert html.count("<tr>") == 11
    assert "&lt;b&gt;" in html
    assert "2 more" in html
    assert "more" not in table.select([0])._repr_html_()


def test_sweep_takes_points_and_fixed_parameters(store):
    points = [{"x": 1}, {"x": 5}, {"x": 1}]
    table = sweep(multiply, points, fixed={"y": np.float64(2.0)}, store=store, progress=False)
    assert table["x"].tolist() == [1, 5]  # a point is one run, however often it is named
    assert table["product"].tolist() == [2.0, 10.0]


def test_sweep_keeps_results_to_the_last_bit(store):
    values = np.random.default_rng(1).standard_normal(50)
    exact = sweep(lambda v: v, {"v": values}, name="same", store=store, progress=False)
    assert np.array_equal(exact["value"], values)
    assert np.array_equal(exact["v"], values)


def test_sweep_distinguishes_functions_versions_and_parameters(store, tmp_path, monkeypatch):
    log = str(tmp_path / "log")
    for _ in range(2):
        sweep(logged, {"x": [1, 2]}, fixed={"log": log}, store=store, progress=False)
    assert sorted(starts(log)) == [1, 2]
    sweep(logged, {"x": [1]}, fixed={"log": log, "pause": 0.001}, store=store, progress=False)
    sweep(logged, {"x": [1]}, fixed={"log": log}, name="other", store=store, progress=False)
    assert sorted(starts(log)) == [1, 1, 1, 2]
    monkeypatch.setattr(replica, "__version__", "999")
    sweep(logged, {"x": [1]}, fixed={"log": log}, store=store, progress=False)
    assert sorted(starts(log)) == [1, 1, 1, 1, 2]
    table = load_runs(store)
    assert table.n_rows == 5
    assert sorted(set(table["version"])) == sorted({"999", "0.1.0"} & set(table["version"]))


def test_sweep_of_simulations_stores_final_states(store):
    table = sweep(
        simulate_online,
        {"student": [LeakyReLU(0.2), "relu"], "learning_rate": [0.3, 0.5]},
        fixed={"S": 0.25, "N": 50, "t": 1.0, "n_runs": 3, "progress": False},
        store=store,
        progress=False,
    )
    run = simulate_online(
        S=0.25, student="relu", learning_rate=0.5, N=50, t=1.0, n_runs=3, progress=False
    )
    assert table["gen_error"][-1] == run.final()["gen_error"]
    assert np.isfinite(table["gen_error_se"]).all()


@pytest.mark.filterwarnings("ignore::replica.ConvergenceWarning")
def test_sweep_marks_diverged_runs(store):
    options = {"S": 0.25, "N": 50, "student": "linear", "t": 60.0, "progress": False}
    table = sweep(
        simulate_online, {"learning_rate": [0.5, 4.0]}, fixed=options, store=store, progress=False
    )
    assert table["status"].tolist() == ["done", "divergent"]
    assert np.isnan(table["R"]).tolist() == [False, True]


def test_sweep_table_to_pandas_and_xarray(store):
    pytest.importorskip("pandas")
    table = sweep(multiply, GRID, store=store, progress=False)
    frame = table.to_pandas()
    assert frame["product"].tolist() == table["product"].tolist()
    pytest.importorskip("xarray")
    scalars = SweepTable({"x": [1, 2], "value": [3.0, 4.0]}, ("x",))
    assert float(scalars.to_xarray()["value"].sel(x=2)) == 4.0


def test_sweep_table_fills_gaps():
    table = SweepTable({"a": [1.0, None], "b": ["u", None], "c": [[1], [1, 2]]}, ())
    assert np.isnan(table["a"][1])
    assert table["b"].tolist() == ["u", None]
    assert table["c"].tolist() == [[1], [1, 2]]


@pytest.mark.parametrize(
    "values",
    [
        [None, 8, 16],
        [LeakyReLU(0.1), LeakyReLU(0.2), "relu"],
        [[1, 2], [1, 3], [2]],
        [True, 1, "1"],
        [2**64 - 1, 2**64 - 2, 0],
        [-1, 2**63, 0.5],
        ["None", "nan", ""],
    ],
)
def test_every_run_is_in_the_table_under_a_label_of_its_own(store, values):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("xarray")
    grid = {"kind": values, "seed": [0, 1]}
    table = sweep(lambda kind, seed: seed, grid, name="seed", store=store, progress=False)
    again = load_runs(store)
    assert table.n_rows == again.n_rows == 6
    for runs in (table, again):
        kinds = runs.to_xarray()["value"]
        assert kinds.sizes["kind"] == 3
        assert kinds.notnull().all()
        assert kinds.sum() == 3
        assert runs.to_pandas().groupby("kind").size().tolist() == [2, 2, 2]
        assert len(pandas.unique(runs.to_pandas()["kind"])) == 3
    assert set(table["kind"].tolist()) == set(again["kind"].tolist())


def test_equal_numbers_are_one_run(store):
    calls = []
    grids = [{"x": [1, 2.0]}, {"x": [1.0, 2, np.float32(2)]}, {"x": np.array([1, 2])}]
    for grid in grids:
        table = sweep(lambda x: calls.append(x), grid, name="f", store=store, progress=False)
        assert table["x"].tolist() == [1, 2]
    assert sorted(calls) == [1, 2]


def test_large_integers_keep_their_digits(store):
    seeds = [0, 2**53 + 1, 2**63 + 3, 2**64 - 1]
    table = sweep(lambda seed: seed, {"seed": seeds}, name="f", store=store, progress=False)
    assert table["seed"].tolist() == table["value"].tolist() == seeds
    assert load_runs(store)["seed"].tolist() == seeds
    mixed = SweepTable({"a": [2**53 + 1, 0.5], "b": [2**53 + 1, None], "c": [[2**53 + 1, 0.5]]}, ())
    assert mixed["a"].tolist() == [2**53 + 1, 0.5]
    assert mixed["b"].tolist() == [2**53 + 1, None]
    assert mixed["c"].tolist() == [[2**53 + 1, 0.5]]
    assert SweepTable({"a": [[1e300, 2]]}, ())["a"].shape == (1, 2)


def test_nothing_is_overwritten_by_a_column_of_the_same_name(store):
    def busy(status, seconds, message, function):
        return {"seconds": -1.0, "message": "m", "status_parameter": 3, "function": "g"}

    grid = {"status": ["x"], "seconds": [5], "message": ["y"], "function": ["f"]}
    sweep(busy, grid, name="busy", store=store, progress=False)
    table = load_runs(store)
    for name, value in {
        "function": "busy", "status": "done", "function_parameter": "f", "status_parameter": "x",
        "seconds_parameter": 5, "message_parameter": "y", "seconds_result": -1.0,
        "message_result": "m", "status_parameter_result": 3, "function_result": "g",
    }.items():  # fmt: skip
        assert table[name].tolist() == [value], name
    assert table["seconds"][0] >= 0
    assert table["message"].tolist() == [None]


def test_to_xarray_spreads_runs_over_the_grid_or_raises(store):
    pytest.importorskip("xarray")
    points = [{"x": 2, "y": 0.5}, {"x": 1, "y": 0.5}, {"x": 1, "y": 1.5}]
    data = sweep(multiply, points, store=store, progress=False).to_xarray()
    assert data["product"].dims == ("x", "y")
    assert data["x"].values.tolist() == [2, 1]
    np.testing.assert_array_equal(data["product"], [[1.0, np.nan], [0.5, 1.5]])
    assert data["pair"].shape == (2, 2, 2)
    assert data["status"].isnull().values.tolist() == [[False, True], [False, False]]
    twice = SweepTable({"x": [1, 1], "value": [3.0, 4.0]}, ("x",))
    with pytest.raises(ValueError, match="two runs of the table have the same parameters"):
        twice.to_xarray()
    scattered = SweepTable({"x": range(2000), "y": range(2000), "value": range(2000)}, ("x", "y"))
    with pytest.raises(ValueError, match="no grid of 2000 x 2000 points"):
        scattered.to_xarray()
    assert load_runs(store).to_xarray()["product"].sizes == {
        "function": 1, "version": 1, "x": 2, "y": 2,
    }  # fmt: skip


def test_load_runs_orders_by_the_parameters_and_knows_them(store):
    grid = {"x": [10, 2, None], "y": [1.5, 0.5]}
    sweep(lambda x, y: y, grid, name="f", store=store, progress=False)
    sweep(multiply, {"x": [1], "y": [2]}, store=store, progress=False)
    table = load_runs(store)
    assert table.parameters == ("function", "version", "x", "y")
    assert table["function"].tolist() == ["f"] * 6 + [f"{__name__}.multiply"]
    assert table["x"].tolist() == [2, 2, 10, 10, "None", "None", 1]
    assert table["y"].tolist() == [0.5, 1.5] * 3 + [2]


def test_mean_over_averages_what_is_done_and_selects():
    table = SweepTable(
        {
            "alpha": [1, 1, 1, 2], "seed": [0, 1, 2, 0], "e": [1.0, 3.0, 50.0, 4.0],
            "e_se": [0.1] * 4, "name": ["a"] * 4, "status": ["done", "done", "divergent", "done"],
        },
        ("alpha", "seed"),
    )  # fmt: skip
    mean = table.mean_over("seed")
    assert list(mean) == ["alpha", "n_averaged", "e", "e_se"]
    assert mean.parameters == ("alpha",)
    assert mean["e"].tolist() == [2.0, 4.0]
    assert mean["n_averaged"].tolist() == [2, 1]
    np.testing.assert_allclose(mean["e_se"], [1.0, np.nan])
    assert table.select(table["alpha"] == 2)["e"].tolist() == [4.0]
    assert table.select([])["e"].tolist() == []
    with pytest.raises(ValueError, match="no parameter 'sed'; did you mean seed"):
        table.mean_over("sed")


def test_dry_run_runs_and_writes_nothing(store):
    sweep(multiply, GRID, store=store, progress=False)
    content = store.read_bytes()
    grid = GRID | {"x": [3, 4]}
    table = sweep(multiply, grid, store=store, progress=False, dry_run=True)
    assert table["status"].tolist() == ["done", "done", "waiting", "waiting"]
    assert table["product"].tolist()[:2] == [1.5, 4.5]
    assert store.read_bytes() == content


def test_dry_run_tells_what_is_running_elsewhere(store):
    sweep(multiply, {"x": [1]}, fixed={"y": 1.0}, store=store, progress=False)
    function = f"{__name__}.multiply"
    keys = [run_key(function, replica.__version__, {"x": x, "y": 1.0}) for x in (2, 3)]

    def stands():
        grid = {"x": [1, 2, 3, 4]}
        table = sweep(multiply, grid, fixed={"y": 1.0}, store=store, progress=False, dry_run=True)
        return table["status"].tolist()

    with Store(store) as elsewhere:
        assert [elsewhere.claim(key) for key in keys] == [True, True]
        assert stands() == ["done", "running", "running", "waiting"]
        with elsewhere._transaction():  # its last sign of life is long ago
            elsewhere._connection.execute("UPDATE owners SET heartbeat = heartbeat - 1e6")
        assert stands() == ["done", "waiting", "waiting", "waiting"]
        elsewhere.beat(now=True)
        elsewhere.release()
    assert stands() == ["done", "waiting", "waiting", "waiting"]


def test_status_of_a_run_is_that_of_its_result(store):
    def ends(status):
        return {"value": 1.0, "status": getattr(Status, status)}

    names = ["DONE", "CONVERGED", "DIVERGENT", "MAX_ITERATIONS", "NON_FINITE", "NEEDS_DECAY"]
    table = sweep(ends, {"status": names}, name="ends", store=store, progress=False)
    assert table["status"].tolist() == [name.lower() for name in names]
    assert table.mean_over("status_parameter")["n_averaged"].tolist() == [2]  # done or converged
    again = sweep(ends, {"status": names}, name="ends", store=store, progress=False, dry_run=True)
    assert again["status"].tolist() == table["status"].tolist()  # ended for good
    for wrong in ("running", "failed", "ok", 7, True, [0, 1]):
        with pytest.warns(RuntimeWarning, match="status of a result must be one of"):
            bad = sweep(
                lambda x, wrong=wrong: {"status": wrong}, {"x": [1]}, name=f"bad {wrong}",
                store=store, progress=False, retries=0,
            )  # fmt: skip
        assert bad["status"].tolist() == ["failed"]


def test_delete_runs_deletes_what_is_selected(store):
    with pytest.warns(RuntimeWarning):
        table = sweep(fail_on_two, {"x": [1, 2, 3]}, store=store, progress=False)
    assert delete_runs(store, table.select(table["status"] == "failed")) == 1
    left = load_runs(store)
    assert left["x"].tolist() == [1, 3]
    assert delete_runs(store, left.select(left["x"] > 1)) == 1
    assert load_runs(store)["x"].tolist() == [1]


# --------------------------------------------------------------------------- failures and retries


def test_sweep_stores_failures_and_tries_them_again(store):
    with pytest.warns(
        RuntimeWarning, match="1 of 3 runs failed, the first after 2 attempts.*two is not a"
    ):
        table = sweep(fail_on_two, {"x": [1, 2, 3]}, store=store, progress=False)
    assert table["status"].tolist() == ["done", "failed", "done"]
    assert "two is not a number" in table["message"][1]
    assert np.isnan(table["value"][1])
    with pytest.warns(RuntimeWarning, match="its code has changed"):
        healed = sweep(
            lambda x: 2.0 * x, {"x": [1, 2, 3]}, name=f"{__name__}.fail_on_two", store=store,
            progress=False,
        )  # fmt: skip
    assert healed["status"].tolist() == ["done"] * 3
    assert healed["value"].tolist() == [1.0, 4.0, 3.0]  # only the failed one has run again


def test_sweep_retries_a_run_that_fails_once(store):
    tries = []

    def flaky(x):
        tries.append(x)
        if len(tries) == 1:
            raise OSError("busy")
        return x

    table = sweep(flaky, {"x": [7]}, name="flaky", retries=1, store=store, progress=False)
    assert table["value"].tolist() == [7]
    assert tries == [7, 7]


def test_sweep_does_not_try_a_type_error_again(store):
    tries = []

    def wrong(x):
        tries.append(x)
        return x + "1"

    with pytest.warns(RuntimeWarning, match="the first after 1 attempt with TypeError"):
        sweep(wrong, {"x": [7]}, name="wrong", retries=3, store=store, progress=False)
    assert tries == [7]


def test_sweep_warns_of_results_of_other_code(store):
    def f(x):
        """Doubled."""
        return 2 * x

    def same(x):
        """Twice as much."""  # the same in other words
        return 2 * x

    def other(x):
        return 3 * x

    sweep(f, {"x": [1]}, name="f", store=store, progress=False)
    sweep(same, {"x": [1]}, name="f", store=store, progress=False)
    with pytest.warns(RuntimeWarning, match="1 of 2 runs were stored by another version of f"):
        table = sweep(other, {"x": [1, 2]}, name="f", store=store, progress=False)
    assert table["value"].tolist() == [2, 6]


def test_code_digest_is_the_same_in_every_process():
    code = (
        "from replica.sweeps._points import code_digest\n"
        "def f(x, k=(1, None)): return x in {'a', 'b', 'c'} or [i for i in x if i in {'d', 'e'}]\n"
        "print(code_digest(f))"
    )
    root = str(Path(replica.__file__).parents[1])
    digests = {
        subprocess.check_output(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": root},
        )
        for seed in ("1", "2")
    }
    assert len(digests) == 1
    assert code_digest(len) is None


# ------------------------------------------------------------------------------------- executors


@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_sweep_does_not_depend_on_the_executor(store, executor):
    table = sweep(multiply, GRID, store=store, executor=executor, progress=False)
    assert table["product"].tolist() == [0.5, 1.5, 1.0, 3.0, 1.5, 4.5]


@pytest.mark.slow
def test_sweep_of_simulations_does_not_depend_on_the_executor(store, tmp_path):
    fixed = {"S": 0.25, "N": 50, "normalizer": "bn", "batch_size": 4, "progress": False}
    tables = [
        sweep(
            simulate_online, {"seed": [0, 1]}, fixed=fixed, executor=executor, progress=False,
            store=tmp_path / f"{executor}.sqlite",
        )
        for executor in ("threads", "processes")
    ]  # fmt: skip
    for name in ("gamma", "R", "L", "gen_error"):
        assert np.array_equal(tables[0][name], tables[1][name])


def test_sweep_leaves_a_given_executor_open(store):
    with ThreadPoolExecutor(1) as pool:
        sweep(multiply, GRID, store=store, executor=pool, progress=False)
        assert pool.submit(int, "3").result() == 3


UNGUARDED = """
import sys
sys.path[:0] = {path!r}
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from test_sweeps import multiply
from replica.sweeps import sweep
pool = {pool}
sweep(multiply, {{"x": [1, 2], "y": [3]}}, store={store!r}, executor=pool, progress=False)
"""
PATH = [str(Path(__file__).parent), str(Path(replica.__file__).parents[1])]


@pytest.mark.parametrize(
    "pool", ["'processes'", "ProcessPoolExecutor(1, mp_context=get_context('spawn'))"]
)
def test_sweep_with_processes_in_a_script_without_guard_names_the_guard(store, tmp_path, pool):
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED.format(path=PATH, store=str(store), pool=pool))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "put the call under `if __name__" in done.stderr  # a worker
    assert "must stand under `if __name__" in done.stderr.splitlines()[-1]
    assert "StoreError: the executor broke down" in done.stderr


def run_unguarded(store, *, from_input=False, function="multiply"):
    source = UNGUARDED.format(path=PATH, store=str(store), pool="'processes'")
    source = source.replace("sweep(multiply", f"def f(x, y): return x\nsweep({function}")
    command = [sys.executable] if from_input else [sys.executable, "-c", source]
    text = source if from_input else ""
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=120)


def test_sweep_with_processes_gives_advice_that_is_true(store):
    done = run_unguarded(store, from_input=True)
    assert "ArgumentError: the script was read from standard input" in done.stderr
    assert "save it to a file" in done.stderr
    done = run_unguarded(store, function="f")
    assert "ArgumentError: function f was entered in a notebook" in done.stderr
    assert "put it into a module" in done.stderr
    assert not store.exists()
    done = run_unguarded(store)  # what is advised: it comes from a module, and there is no file
    assert (done.returncode, done.stderr) == (0, "")


def test_sweep_with_processes_refuses_what_cannot_be_sent(store):
    with (
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool,
        pytest.raises(ValueError, match="cannot be sent to worker processes"),
    ):
        sweep(lambda x: x, {"x": [1]}, name="f", store=store, executor=pool, progress=False)


def test_a_worker_may_read_a_finished_sweep_while_it_starts(store, monkeypatch):
    sweep(multiply, GRID, store=store, progress=False)
    monkeypatch.setattr("replica.sweeps._sweep.is_worker_starting", lambda: True)
    assert sweep(multiply, GRID, store=store, progress=False).n_rows == 6
    with pytest.raises(RuntimeError, match="put the call under `if __name__"):
        sweep(multiply, {"x": [9], "y": [1.0]}, store=store, progress=False)


@pytest.mark.slow
def test_sweep_survives_a_killed_worker_of_a_process_pool(store, tmp_path):
    fixed = {"marker": str(tmp_path / "marker")}
    grid = {"x": list(range(6))}
    with pytest.raises(StoreError, match="the executor broke down"):
        sweep(die_once, grid, fixed=fixed, store=store, executor="processes", progress=False)
    table = sweep(die_once, grid, fixed=fixed, store=store, progress=False)
    assert table["square"].tolist() == [0, 1, 4, 9, 16, 25]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_sweep_survives_a_killed_worker_of_a_dask_cluster(store, tmp_path):
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        marker = tmp_path / "marker"
        table = sweep(
            die_once, {"x": list(range(8))}, fixed={"marker": str(marker)}, store=store,
            executor=client.get_executor(), progress=False,
        )  # fmt: skip
    assert marker.exists()
    assert table["square"].tolist() == [x * x for x in range(8)]


# ------------------------------------------------------------------- killed, interrupted, shared


SCRIPT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run in background
sys.path[:0] = {path!r}
from test_sweeps import {function}
from replica.sweeps import sweep
if __name__ == "__main__":
    sweep({function}, {{"x": list(range({n}))}}, fixed={{"log": {log!r}, "pause": {pause}}},
          store={store!r}, executor={executor!r}, progress=False)
    print("complete")
"""


def start_sweep(store, log, n, function="logged", executor="threads", pause=0.005):
    path = [str(Path(__file__).parent), str(Path(replica.__file__).parents[1])]
    script = textwrap.dedent(SCRIPT).format(
        path=path, n=n, log=str(log), store=str(store), function=function, executor=executor,
        pause=pause,
    )  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )  # fmt: skip


def committed(store):
    if not store.exists():
        return set()
    with sqlite3.connect(store, timeout=60) as connection:
        try:
            rows = connection.execute("SELECT result FROM runs WHERE status = 'done'").fetchall()
        except sqlite3.OperationalError:  # killed before the tables were there
            return set()
    connection.close()
    return {round(eval(row[0])["square"] ** 0.5) for row in rows}


def test_sweep_killed_at_random_moments_loses_nothing_and_repeats_nothing(store, tmp_path):
    kills = 3  # tests/torture_store.py does it more often
    log = tmp_path / "log"
    rng = random.Random(kills)
    n = 8 * kills
    snapshots = []
    for _ in range(kills):
        process = start_sweep(store, log, n)
        wanted = len(starts(log)) + rng.randrange(0, 6)
        deadline = time.monotonic() + 60
        while len(starts(log)) < wanted and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.01))
        process.kill()
        process.communicate()
        snapshots.append((committed(store), len(starts(log))))
    for (before, _), (after, _) in itertools.pairwise(snapshots):
        assert before <= after
    fixed = {"log": str(log), "pause": 0.005}
    grid = {"x": list(range(n))}
    table = sweep(logged, grid, fixed=fixed, store=store, progress=False)
    assert table["square"].tolist() == [x * x for x in range(n)]
    assert table["status"].tolist() == ["done"] * n
    history = starts(log)
    for done, length in snapshots:
        assert not done & set(history[length:])  # what was committed never started again
    assert set(history) == set(range(n))
    fresh = sweep(logged, grid, fixed=fixed, store=tmp_path / "fresh.sqlite", progress=False)
    assert np.array_equal(fresh["square"], table["square"])


@pytest.mark.slow
def test_sweep_killed_takes_its_worker_processes_along(store, tmp_path):
    log = tmp_path / "log"
    process = start_sweep(store, log, 5000, function="log_process", executor="processes")
    deadline = time.monotonic() + 60
    while not starts(log):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    workers = set(starts(log))
    assert all(_store.process_exists(worker) for worker in workers)
    process.kill()
    process.communicate()
    while any(_store.process_exists(worker) for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_concurrent_sweeps_share_a_store_and_the_work(store, tmp_path):
    log = tmp_path / "log"
    processes = [start_sweep(store, log, 40) for _ in range(3)]
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert out.strip() == "complete", err
    assert sorted(starts(log)) == list(range(40))
    assert sorted(load_runs(store)["square"].tolist()) == [x * x for x in range(40)]


def test_concurrent_sweeps_in_one_process_share_the_work(store, tmp_path):
    log = str(tmp_path / "log")
    tables = []

    def one():
        fixed = {"log": log, "pause": 0.01}
        tables.append(sweep(logged, {"x": range(20)}, fixed=fixed, store=store, progress=False))

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tables) == 2
    assert np.array_equal(tables[0]["square"], tables[1]["square"])
    assert sorted(starts(log)) == list(range(20))


def test_sweep_takes_over_a_claim_whose_lease_has_run_out(store, tmp_path):
    sweep(multiply, [{"x": 1, "y": 1.0}], store=store, progress=False)
    key = run_key(f"{__name__}.multiply", replica.__version__, {"x": 2, "y": 1.0})
    with closing(sqlite3.connect(store)) as connection, connection:
        connection.execute("INSERT INTO claims VALUES (?, 'ghost')", (key,))
        connection.execute("INSERT INTO owners VALUES ('ghost', 'elsewhere', 1, ?)", (time.time(),))
    with Store(store) as runs:
        assert runs.claim(key) is False
        runs.release()
    with sqlite3.connect(store) as connection:
        connection.execute("UPDATE owners SET heartbeat = heartbeat - 1000")
    connection.close()
    table = sweep(multiply, [{"x": 2, "y": 1.0}], store=store, progress=False)
    assert table["product"].tolist() == [2.0]


def test_claim_does_not_wait_for_a_heartbeat_in_the_future(store):
    with Store(store) as runs:
        execute = runs._connection.execute
        execute("INSERT INTO claims VALUES ('key', 'ghost')")
        execute("INSERT INTO owners VALUES ('ghost', 'elsewhere', 1, ?)", (time.time(),))
        assert runs.claim("key") is False
        execute("UPDATE owners SET heartbeat = ? WHERE owner = 'ghost'", (time.time() + 60,))
        assert runs.claim("key") is True


def stolen_by_ghost(x, store):
    """Another sweep, on another machine, takes the run over while it is under way."""
    with closing(sqlite3.connect(store, timeout=60)) as connection, connection:
        connection.execute("UPDATE claims SET owner = 'ghost'")
        connection.execute(
            "REPLACE INTO owners VALUES ('ghost', 'elsewhere', 1, ?)", (time.time(),)
        )
    return {"square": -1.0}


@pytest.mark.parametrize("end", ["done", "died"])
def test_sweep_that_lost_a_run_to_another_waits_for_it(store, end):
    point = {"x": 3, "store": str(store)}
    name = f"{__name__}.stolen_by_ghost"
    key = run_key(name, replica.__version__, point)
    began = threading.Event()

    def ghost():
        while not began.wait(0.05):
            if store.exists():
                with suppress(sqlite3.Error), closing(sqlite3.connect(store)) as connection:
                    claims = connection.execute("SELECT owner FROM claims").fetchall()
                    if claims == [("ghost",)]:
                        began.set()
        with Store(store) as runs:
            runs._connection.execute("DELETE FROM owners WHERE owner = 'ghost'")
            if end == "done":
                runs.owner = "ghost"
                runs.commit(Row(key, name, "0", "{}", None, "done", '{"square": 9.0}', None, 1.0))

    thread = threading.Thread(target=ghost)
    thread.start()
    function = stolen_by_ghost
    if end == "died":  # then it is run again, and stored

        def function(x, store):
            return {"square": 9.0} if began.is_set() else stolen_by_ghost(x, store)

    table = sweep(function, [point], name=name, store=store, progress=False)
    thread.join()
    assert table["square"].tolist() == [9.0]
    assert table["status"].tolist() == ["done"]


def test_sweep_returns_its_failures_though_another_has_taken_them_over(store, monkeypatch):
    release = Store.release

    def taken(self):  # at the last moment
        self._connection.execute("DELETE FROM runs WHERE status = 'failed'")
        release(self)

    monkeypatch.setattr(Store, "release", taken)
    with pytest.warns(RuntimeWarning, match="1 of 3 runs failed"):
        table = sweep(fail_on_two, {"x": [1, 2, 3]}, store=store, progress=False)
    assert table["status"].tolist() == ["done", "failed", "done"]


def test_a_dead_process_that_nobody_waited_for_does_not_exist():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    assert _store.process_exists(process.pid)
    process.kill()
    deadline = time.monotonic() + 60
    while _store.process_exists(process.pid):  # not waited for: a zombie
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.wait()
    assert not _store.process_exists(process.pid)


def test_sweep_interrupted_says_how_to_resume(store, tmp_path):
    log = tmp_path / "log"
    process = start_sweep(store, log, 2000)
    deadline = time.monotonic() + 60
    while len(committed(store)) < 4:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert "complete" not in out
    assert "the finished runs are in" in err
    assert "resumes" in err
    assert len(committed(store)) >= 4
    with closing(sqlite3.connect(store)) as connection:
        assert connection.execute("SELECT count(*) FROM claims").fetchone() == (0,)


def test_sweep_interrupted_does_not_wait_for_its_runs(store, tmp_path):
    log = tmp_path / "log"
    process = start_sweep(store, log, 100, pause=3600)
    deadline = time.monotonic() + 60
    while not starts(log):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert "unfinished ones are dropped" in err
    assert load_runs(store).n_rows == 0


class _Broken(Executor):
    def submit(self, fn, /, *args, **kwargs):
        future: Future = Future()
        future.set_exception(BrokenExecutor("gone"))
        return future


def test_sweep_names_a_broken_executor(store):
    with pytest.raises(StoreError, match=r"gone.*new executor\s+resumes"):
        sweep(multiply, GRID, store=store, executor=_Broken(), progress=False)
    assert sweep(multiply, GRID, store=store, progress=False).n_rows == 6


# -------------------------------------------------------------------------------------- reading


def test_reading_leaves_nothing_beside_the_store(store):
    sweep(multiply, GRID, store=store, progress=False)
    assert load_runs(store).n_rows == 6
    assert os.listdir(store.parent) == [store.name]
    with Store(store) as runs:  # a sweep at work: its last runs are in the log only
        row = Row("key", "f", "0", '{"x": 1}', None, "done", '{"y": 2}', None, 1.0)
        assert runs.commit(row) == row
        before = {path.name: path.stat().st_mtime_ns for path in store.parent.iterdir()}
        assert len(before) == 3
        assert load_runs(store).n_rows == 7
        assert before == {path.name: path.stat().st_mtime_ns for path in store.parent.iterdir()}
    assert os.listdir(store.parent) == [store.name]


def test_reading_sees_what_a_killed_sweep_had_committed(store, tmp_path):
    sweep(multiply, GRID, store=store, progress=False)
    copy = tmp_path / "copy"
    copy.mkdir()
    with Store(store) as runs:
        runs.commit(Row("key", "f", "0", '{"x": 1}', None, "done", '{"y": 2}', None, 1.0))
        for path in store.parent.glob("runs.sqlite*"):
            if not path.name.endswith("-shm"):
                (copy / path.name).write_bytes(path.read_bytes())
    names = sorted(os.listdir(copy))
    assert names == ["runs.sqlite", "runs.sqlite-wal"]
    assert load_runs(copy / "runs.sqlite").n_rows == 7
    assert sorted(os.listdir(copy)) == names


def test_reading_waits_until_the_store_holds_still(store, monkeypatch):
    sweep(multiply, GRID, store=store, progress=False)
    state, calls = _store._state, []

    def restless(path):
        calls.append(path)
        return (*state(path), len(calls)) if len(calls) < 6 else state(path)

    def changed_meanwhile(path):
        first, *rest = restless(path)
        return (first if len(calls) >= 6 else len(calls), *rest)

    monkeypatch.setattr(_store, "_state", changed_meanwhile)
    assert load_runs(store).n_rows == 6
    assert len(calls) >= 6
    count = itertools.count()
    monkeypatch.setattr(_store, "_state", lambda path: (next(count),))
    monkeypatch.setattr(_store, "_READ_ATTEMPTS", 2)
    with pytest.raises(StoreError, match="changes faster than it can be read"):
        load_runs(store)


READER = """
import os, sys
sys.path[:0] = {path!r}
import test_sweeps, tqdm, encodings.idna
from replica.sweeps import StoreError, load_runs, sweep
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
print(load_runs({store!r}).n_rows)
print(sweep(test_sweeps.multiply, {grid!r}, store={store!r}, progress=False).n_rows)
try:
    sweep(test_sweeps.multiply, [{{"x": 7, "y": 7}}], store={store!r}, progress=False)
except StoreError as error:
    print(error)
"""


STRANGER = """
import os, sys
sys.path[:0] = {path!r}
import test_sweeps, tqdm, encodings.idna
from replica.sweeps import StoreError, load_runs, sweep
os.setgid(65534)
os.setuid(65534)
print(load_runs({store!r}).n_rows)
try:
    sweep(test_sweeps.multiply, [{{"x": 7, "y": 7}}], store={store!r}, progress=False)
except StoreError as error:
    print(error)
else:
    print(load_runs({store!r}).n_rows)
"""


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become another user"
)
@pytest.mark.parametrize("shared", [False, True])
def test_two_users_share_a_store_or_stay_out_of_each_others_way(shared):
    umask = os.umask(0 if shared else 0o022)
    try:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder).chmod(0o777)
            store = Path(folder, "runs.sqlite")
            sweep(multiply, GRID, store=store, progress=False)
            code = STRANGER.format(path=PATH, store=str(store))
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
            first, second = done.stdout.splitlines()
            assert first == "6", done.stderr
            assert second == "7" if shared else "runs.sqlite is read-only for this user" in second
            assert os.listdir(folder) == ["runs.sqlite"]
            assert sweep(multiply, [{"x": 8, "y": 8}], store=store, progress=False).n_rows == 1
    finally:
        os.umask(umask)


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_finished_store_is_read_where_one_may_not_write():
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder, "runs.sqlite")
        sweep(multiply, GRID, store=store, progress=False)
        store.chmod(0o444)
        Path(folder).chmod(0o555)
        code = READER.format(path=PATH, store=str(store), grid=GRID)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        Path(folder).chmod(0o755)
        lines = done.stdout.splitlines()
        assert lines[:2] == ["6", "6"], done.stderr
        assert "read-only" in lines[2]
        assert os.listdir(folder) == ["runs.sqlite"]


# ------------------------------------------------------------------------------ damaged stores


def test_sweep_on_a_full_disk_keeps_what_is_stored(store, monkeypatch):
    connect = _store._connect

    def small(*arguments):
        connection = connect(*arguments)
        connection.execute("PRAGMA max_page_count = 12")  # SQLite's own "disk full"
        return connection

    monkeypatch.setattr(_store, "_connect", small)
    with pytest.raises(StoreError, match=r"disk is full.*Finished runs are kept"):
        sweep(lambda x: "x" * 3000, {"x": list(range(50))}, name="f", store=store, progress=False)
    monkeypatch.undo()
    kept = load_runs(store)
    n_kept = int(np.sum(kept["status"] == "done"))
    assert 1 <= n_kept < 50
    calls = []

    def again(x):
        calls.append(x)
        return "x" * 3000

    with pytest.warns(RuntimeWarning, match="its code has changed"):
        table = sweep(again, {"x": list(range(50))}, name="f", store=store, progress=False)
    assert table["status"].tolist() == ["done"] * 50
    assert len(calls) == 50 - n_kept


def test_sweep_refuses_a_read_only_store(store):
    sweep(multiply, GRID, store=store, progress=False)
    content = bytearray(store.read_bytes())
    content[18] = 3  # a file format write version above 2 makes SQLite treat it as read-only
    store.write_bytes(content)
    with pytest.raises(StoreError, match="read-only"):
        sweep(multiply, GRID | {"x": [1, 4]}, store=store, progress=False)
    assert store.read_bytes() == content
    assert load_runs(store).n_rows == 6
    assert sweep(multiply, GRID, store=store, progress=False).n_rows == 6  # nothing to write


def test_sweep_takes_any_file_name(tmp_path):
    store = tmp_path / "50% of a? run#1.sqlite"
    sweep(multiply, GRID, store=store, progress=False)
    assert load_runs(store).n_rows == 6
    assert store.exists()


def test_sweep_refuses_a_store_in_a_missing_folder(tmp_path):
    with pytest.raises(StoreError, match="folder does not exist"):
        sweep(multiply, GRID, store=tmp_path / "nowhere" / "runs.sqlite", progress=False)
    with pytest.raises(StoreError, match="is a folder"):
        sweep(multiply, GRID, store=tmp_path, progress=False)


@pytest.mark.parametrize("damage", ["noise", "text", "truncated"])
def test_sweep_refuses_a_damaged_store_with_advice(store, damage):
    sweep(multiply, {"x": list(range(200)), "y": [1.0]}, store=store, progress=False)
    content = bytearray(store.read_bytes())
    if damage == "noise":
        content[4096:12288] = random.Random(1).randbytes(8192)
    elif damage == "text":
        content = bytearray(b"alpha,gen_error\n" * 500)
    else:
        content = content[: len(content) // 2 // 4096 * 4096]
    store.write_bytes(content)
    with pytest.raises(CorruptStoreError, match=r"damaged .* untouched.*\.recover"):
        sweep(multiply, GRID, store=store, progress=False)
    assert store.read_bytes() == content


def test_flipped_bytes_never_give_wrong_numbers(store, tmp_path):
    rng = random.Random(2)
    grid = {"x": list(range(12)), "y": [0.1]}
    whole = sweep(multiply, grid, store=store, progress=False)
    right = dict(zip(whole["x"].tolist(), whole["product"].tolist(), strict=True))
    content = store.read_bytes()
    used = [i for i, byte in enumerate(content) if byte]  # most of a small store is empty
    damaged = tmp_path / "damaged.sqlite"
    refused = 0
    for _ in range(60):
        flipped = bytearray(content)
        flipped[rng.choice(used)] ^= 1 << rng.randrange(8)
        damaged.write_bytes(flipped)
        try:
            table = load_runs(damaged)
        except StoreError:
            refused += 1
            continue
        for x, value, pair in zip(table["x"], table["product"], table["pair"], strict=True):
            assert value == right[x]
            assert pair.tolist() == [x, 0.1]
    assert refused > 30


@pytest.mark.parametrize(
    ("parameters", "result"),
    [
        ("{}", "[1, 2]"),
        ("{}", "3"),
        ("{}", "{"),
        ("{}", "[" * 100_000 + "]" * 100_000),
        ("[1]", "{}"),
        ('{"x": {"a": 1, "b": 2}}', "{}"),
        ('{"x": {"a": 1}}', "{}"),
    ],
)
def test_load_runs_refuses_json_of_the_wrong_shape(store, parameters, result):
    with Store(store) as runs:
        runs.commit(Row("key", "f", "0", parameters, None, "done", result, None, 1.0))
    with pytest.raises(CorruptStoreError, match=r"run 'key'.*DELETE FROM runs WHERE key = 'key'"):
        load_runs(store)


def test_sweep_refuses_a_row_with_a_wrong_checksum(store):
    sweep(multiply, GRID, store=store, progress=False)
    with closing(sqlite3.connect(store)) as connection, connection:
        connection.execute("UPDATE runs SET result = replace(result, '4.5', '4.6')")
    for read in (load_runs, lambda store: sweep(multiply, GRID, store=store, progress=False)):
        with pytest.raises(CorruptStoreError, match="its checksum is wrong"):
            read(store)


def test_sweep_refuses_the_file_of_another_program(store):
    with sqlite3.connect(store) as connection:
        connection.execute("CREATE TABLE photographs (name TEXT)")
    connection.close()
    with pytest.raises(CorruptStoreError, match="another program"):
        sweep(multiply, GRID, store=store, progress=False)


def test_sweep_refuses_a_store_of_a_newer_release(store):
    sweep(multiply, GRID, store=store, progress=False)
    with sqlite3.connect(store) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreError, match="newer release"):
        sweep(multiply, GRID, store=store, progress=False)


def test_load_runs_needs_a_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_runs(tmp_path / "none.sqlite")
    assert not (tmp_path / "none.sqlite").exists()


def test_load_runs_of_a_store_that_is_being_created_says_so(store):
    sqlite3.connect(store).close()
    store.touch()
    with pytest.raises(StoreError, match="holds no runs yet"):
        load_runs(store)


# ------------------------------------------------------------------------------------ bad input

DEEP: list = []
for _ in range(2000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"function": lambda x: x}, "name must be given"),
        ({"grid": {"x": [float("nan")]}}, "parameter 'x' must be finite"),
        ({"fixed": {"x": 1}}, "fixed must not repeat"),
        ({"retries": -1}, "retries must be an integer >= 0"),
        ({"grid": {"x": [1], "z": [2]}}, "multiply has no parameter 'z'; it has x, y"),
        ({"function": logged, "grid": {"x": [1], "loq": ["a"]}}, "'loq'; did you mean log?"),
        ({"grid": {"x": [1]}}, "multiply needs the parameter 'y'"),
        ({"grid": {"x": [DEEP], "y": [1]}}, "parameter 'x' must not be nested so deeply"),
    ],
)
def test_sweep_refuses_bad_values(store, arguments, message):
    with pytest.raises(ValueError, match=message):
        sweep(**{"function": multiply, "grid": GRID, "store": store, **arguments})
    assert not store.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"function": 3}, "function must be callable"),
        ({"grid": {"x": 3}}, r"grid\['x'\] must be a sequence"),
        ({"grid": {"x": "abc"}}, r"grid\['x'\] must be a sequence"),
        ({"grid": {"x": [object()]}}, "parameter 'x' must be a number"),
        ({"executor": 4}, "executor must be"),
    ],
)
def test_sweep_refuses_wrong_types(store, arguments, message):
    with pytest.raises(TypeError, match=message):
        sweep(**{"function": multiply, "grid": GRID, "store": store, **arguments})
    assert not store.exists()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_sweep_records_a_result_that_cannot_be_stored(store):
    table = sweep(lambda x: object(), {"x": [1]}, name="bad", store=store, progress=False)
    assert table["status"].tolist() == ["failed"]
    assert "result 'value' must be a number" in table["message"][0]


def test_importing_sweeps_is_cheap():
    code = "import sys, replica.sweeps; print({'matplotlib', 'tqdm', 'dask'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"
