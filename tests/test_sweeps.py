"""Tests of sweeps: nothing lost, nothing run twice, whatever happens."""

from __future__ import annotations

import itertools
import os
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import replica
from replica import sweeps
from replica.simulation._online import simulate_online
from replica.students import LeakyReLU
from replica.sweeps import CorruptStoreError, StoreError, SweepTable, load_runs, sweep

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
        fixed={"S": 0.25, "N": 50, "t_max": 1.0, "n_runs": 3, "progress": False},
        store=store,
        progress=False,
    )
    run = simulate_online(
        0.25, student="relu", learning_rate=0.5, N=50, t_max=1.0, n_runs=3, progress=False
    )
    assert table["gen_error"][-1] == run.final()["gen_error"]
    assert np.isfinite(table["gen_error_se"]).all()


@pytest.mark.filterwarnings("ignore::replica.ConvergenceWarning")
def test_sweep_marks_diverged_runs(store):
    options = {"S": 0.25, "N": 50, "student": "linear", "t_max": 60.0, "progress": False}
    table = sweep(
        simulate_online, {"learning_rate": [0.5, 4.0]}, fixed=options, store=store, progress=False
    )
    assert table["status"].tolist() == ["done", "diverged"]
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


# --------------------------------------------------------------------------- failures and retries


def test_sweep_stores_failures_and_tries_them_again(store):
    with pytest.warns(RuntimeWarning, match="1 of 3 runs failed after 2 attempts.*two is not a"):
        table = sweep(fail_on_two, {"x": [1, 2, 3]}, store=store, progress=False)
    assert table["status"].tolist() == ["done", "failed", "done"]
    assert "two is not a number" in table["message"][1]
    assert np.isnan(table["value"][1])
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


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_sweep_killed_at_random_moments_loses_nothing_and_repeats_nothing(store, tmp_path, kills):
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
    assert all(sweeps._process_exists(worker) for worker in workers)
    process.kill()
    process.communicate()
    while any(sweeps._process_exists(worker) for worker in workers):
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
    key = sweeps._key(f"{__name__}.multiply", {"x": 2, "y": 1.0})
    with sqlite3.connect(store) as connection:
        connection.execute(
            "INSERT INTO runs (key, function, version, parameters, status, owner) "
            "VALUES (?, ?, '0', '{}', 'running', 'ghost')",
            (key, f"{__name__}.multiply"),
        )
        connection.execute("INSERT INTO owners VALUES ('ghost', 'elsewhere', 1, ?)", (time.time(),))
    connection.close()
    with sweeps._Store(store) as runs:
        assert runs.claim(key, "f", {}) == "busy"
    with sqlite3.connect(store) as connection:
        connection.execute("UPDATE owners SET heartbeat = heartbeat - 1000")
    connection.close()
    table = sweep(multiply, [{"x": 2, "y": 1.0}], store=store, progress=False)
    assert table["product"].tolist() == [2.0]


def test_a_dead_process_that_nobody_waited_for_does_not_exist():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    assert sweeps._process_exists(process.pid)
    process.kill()
    deadline = time.monotonic() + 60
    while sweeps._process_exists(process.pid):  # not waited for: a zombie
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.wait()
    assert not sweeps._process_exists(process.pid)


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
    with sqlite3.connect(store) as connection:
        running = connection.execute("SELECT count(*) FROM runs WHERE status = 'running'")
        assert running.fetchone() == (0,)
    connection.close()


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


# ------------------------------------------------------------------------------ damaged stores


def test_sweep_on_a_full_disk_keeps_what_is_stored(store, monkeypatch):
    connect = sweeps._connect

    def small(path, read_only):
        connection = connect(path, read_only)
        connection.execute("PRAGMA max_page_count = 12")  # SQLite's own "disk full"
        return connection

    monkeypatch.setattr(sweeps, "_connect", small)
    with pytest.raises(StoreError, match=r"disk is full.*Finished runs are kept"):
        sweep(lambda x: "x" * 3000, {"x": list(range(50))}, name="f", store=store, progress=False)
    monkeypatch.undo()
    kept = sweeps.load_runs(store)
    n_kept = int(np.sum(kept["status"] == "done"))
    assert 1 <= n_kept < 50
    calls = []

    def again(x):
        calls.append(x)
        return "x" * 3000

    table = sweep(again, {"x": list(range(50))}, name="f", store=store, progress=False)
    assert table["status"].tolist() == ["done"] * 50
    assert len(calls) == 50 - n_kept


def test_sweep_refuses_a_read_only_store(store):
    sweep(multiply, GRID, store=store, progress=False)
    content = bytearray(store.read_bytes())
    content[18] = 3  # a file format write version above 2 makes SQLite treat it as read-only
    store.write_bytes(content)
    with pytest.raises(StoreError, match="read-only"):
        sweep(multiply, GRID, store=store, progress=False)
    assert store.read_bytes() == content
    assert load_runs(store).n_rows == 6


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"function": lambda x: x}, "name must be given"),
        ({"grid": {"x": [float("nan")]}}, "parameter 'x' must be finite"),
        ({"fixed": {"x": 1}}, "fixed must not repeat"),
        ({"retries": -1}, "retries must be an integer >= 0"),
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
