"""Sweeps: a grid of runs on any executor, every finished run safe in one SQLite file.

The file is the only state: a sweep that is killed at any moment is resumed by the same call.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import queue
import socket
import sqlite3
import sys
import threading
import time
import traceback
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass
from importlib import import_module
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._core.arguments import integer
from ._core.cores import n_cores
from ._core.status import warn

__all__ = ["CorruptStoreError", "StoreError", "SweepTable", "load_runs", "sweep"]

_APPLICATION_ID = 0x7265706C  # "repl": marks the file as one of ours
_SCHEMA_VERSION = 1
_FINISHED = ("done", "diverged")
# A claim whose owner has not been heard of for this long is void; owners beat far more often.
_LEASE_SECONDS = 120.0
_BEAT_SECONDS = 5.0
_POLL_SECONDS = 0.2

_SCHEMA = """
CREATE TABLE runs (
    key TEXT PRIMARY KEY,
    function TEXT NOT NULL,
    version TEXT NOT NULL,
    parameters TEXT NOT NULL,
    status TEXT NOT NULL,
    result TEXT,
    message TEXT,
    seconds REAL,
    attempts INTEGER NOT NULL DEFAULT 0,
    owner TEXT,
    finished REAL
) WITHOUT ROWID;
CREATE TABLE owners (
    owner TEXT PRIMARY KEY, host TEXT NOT NULL, pid INTEGER NOT NULL, heartbeat REAL NOT NULL
) WITHOUT ROWID;
"""


class StoreError(OSError):
    """The store cannot be written or read; what it holds is kept."""


class CorruptStoreError(StoreError):
    """The file is damaged, or no store of this package."""


class SweepTable(Mapping[str, NDArray[Any]]):
    """A table of runs: column name -> array with one row per run, in the order of the grid.

    The columns are the parameters, the results, and `status` ("done", "diverged" or "failed"),
    `seconds` and `message`. Results missing from a run are NaN, or None if they are no numbers.

    Examples
    --------
    >>> table = SweepTable({"alpha": [1.0, 2.0], "gen_error": [0.5, 0.25]}, ("alpha",))
    >>> table["gen_error"].tolist(), len(table), table.n_rows
    ([0.5, 0.25], 2, 2)
    """

    def __init__(self, columns: Mapping[str, Sequence[Any]], parameters: Sequence[str]) -> None:
        self._columns = {name: _column(values) for name, values in columns.items()}
        self.parameters = tuple(parameters)

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    @property
    def n_rows(self) -> int:
        """Number of runs."""
        return len(next(iter(self._columns.values()), ()))

    def to_pandas(self) -> Any:
        """The table as a pandas DataFrame; array-valued results become columns of lists."""
        pandas = import_module("pandas")
        return pandas.DataFrame(
            {name: list(c) if c.ndim > 1 else c for name, c in self._columns.items()}
        )

    def to_xarray(self) -> Any:
        """The table as an xarray Dataset whose dimensions are the parameters."""
        return self.to_pandas().set_index(list(self.parameters)).to_xarray()

    def __repr__(self) -> str:
        status = self._columns.get("status", np.array([], str))
        counts = ", ".join(f"{np.sum(status == s)} {s}" for s in np.unique(status))
        return f"SweepTable({self.n_rows} runs: {counts}; columns {', '.join(self._columns)})"


def sweep(
    function: Callable[..., Any],
    grid: Mapping[str, Sequence[Any]] | Iterable[Mapping[str, Any]],
    *,
    store: str | Path = "runs.sqlite",
    fixed: Mapping[str, Any] | None = None,
    executor: Executor | str | None = None,
    retries: int = 1,
    progress: bool = True,
    name: str | None = None,
) -> SweepTable:
    """Call `function` on every point of `grid`, keep each result at once, return them as a table.

    A run is known by the hash of the function's name, its parameters and the package version.
    Finished runs are read from `store` instead of being run again, so a sweep that was
    interrupted, killed or broken is resumed by calling it again. Several sweeps may share a store
    at the same time: each run is claimed by one of them, and a claim lapses when its owner dies.

    Parameters
    ----------
    function : callable
        Called with keyword arguments. Returns a number, a mapping of names to numbers, strings or
        arrays, or an object with ``final()`` that returns such a mapping, as the results of
        `simulate_training` and `simulate_online` do. An entry ``status="diverged"`` marks the run.
    grid : mapping or iterable of mappings
        Parameter -> values, for every combination; or the points themselves. Values are numbers,
        strings, booleans, None, lists of these, or dataclasses of these.
    store : path
        SQLite file, created if missing. It must lie on a local disk.
    fixed : mapping, optional
        Parameters common to all points.
    executor : Executor or "threads" or "processes", optional
        Where runs happen: by default a pool of one thread per processor. Any
        ``concurrent.futures.Executor`` will do, ``dask.distributed.Client.get_executor()``
        included. For other than threads `function` must be importable.
    retries : int
        How often a run that raised is tried again before it is stored as "failed". A later sweep
        tries it anew.
    progress : bool
        Progress bar with a time estimate, on a terminal.
    name : str, optional
        Name under which runs are stored; needed for lambdas and nested functions.

    Returns
    -------
    SweepTable
        One row per point of the grid, in its order.

    Raises
    ------
    ValueError, TypeError
        For a grid, parameter or function that cannot be stored.
    StoreError
        If the disk is full or the store read-only. Everything finished before is kept.
    CorruptStoreError
        If the file is damaged or belongs to another program.

    Warns
    -----
    RuntimeWarning
        If runs failed.

    Examples
    --------
    >>> import tempfile, math
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = sweep(math.ldexp, [], store=f"{folder}/runs.sqlite", name="ldexp")
    >>> table.n_rows
    0
    """
    if not callable(function):
        raise TypeError(f"function must be callable, got {function!r}")
    retries = integer("retries", retries, low=0)
    label = name or _name_of(function)
    points = _points(grid, dict(fixed or {}))
    keys = [_key(label, parameters) for parameters in points]
    work = dict(zip(keys, points, strict=True))
    pool, owned = _executor(executor)
    try:
        with _Store(store) as runs:
            _run_all(function, label, work, runs, pool, retries, progress)
            return runs.table(keys, list(points[0]) if points else [])
    finally:
        if owned:
            pool.shutdown(wait=False, cancel_futures=True)


def load_runs(store: str | Path) -> SweepTable:
    """Return all runs of a store as one table, with the columns `function` and `version` in front.

    Parameters
    ----------
    store : path
        The SQLite file of a `sweep`.

    Returns
    -------
    SweepTable
        One row per run, by function and then in the order in which they finished.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    StoreError, CorruptStoreError
        If it cannot be read.
    """
    if not Path(store).exists():
        raise FileNotFoundError(2, "no such store", str(store))
    with _Store(store, read_only=True) as runs:
        return runs.table(None, [])


# --------------------------------------------------------------------------------- the main loop


def _run_all(
    function: Callable[..., Any],
    label: str,
    work: dict[str, dict[str, Any]],
    runs: _Store,
    pool: Executor,
    retries: int,
    progress: bool,
) -> None:
    from tqdm import tqdm

    finished_before = runs.finished(label)
    todo = deque(key for key in work if key not in finished_before)
    capacity = 2 * (getattr(pool, "_max_workers", None) or 2 * n_cores())
    in_flight: dict[Future[Any], tuple[str, int]] = {}
    failures: list[BaseException] = []

    def submit(key: str, attempt: int) -> None:
        in_flight[pool.submit(_call, function, work[key])] = (key, attempt)

    bar = tqdm(
        total=len(work), initial=len(work) - len(todo), unit="run",
        disable=None if progress else True,
    )  # fmt: skip
    try:
        while todo or in_flight:
            busy = 0
            while len(in_flight) < capacity and busy < len(todo):
                key = todo.popleft()
                claim = runs.claim(key, label, work[key])
                if claim == "ours":
                    submit(key, 0)
                elif claim == "busy":  # another sweep is on it: look again later
                    todo.append(key)
                    busy += 1
                else:
                    bar.update()
            if not in_flight:
                time.sleep(_POLL_SECONDS)
                runs.beat()
                continue
            timeout = _POLL_SECONDS if busy else _BEAT_SECONDS
            finished, _ = wait(in_flight, timeout=timeout, return_when=FIRST_COMPLETED)
            runs.beat()
            for future in finished:
                key, attempt = in_flight.pop(future)
                error = future.exception()
                if isinstance(error, BrokenExecutor):
                    raise error
                if error is None:
                    runs.commit(key, *future.result(), attempts=attempt + 1)
                elif attempt < retries:
                    submit(key, attempt + 1)
                    continue
                else:
                    failures.append(error)
                    message = "".join(traceback.format_exception(error))
                    runs.commit(key, "failed", None, message, 0.0, attempts=attempt + 1)
                bar.update()
    except BaseException as error:
        for future in in_flight:
            future.cancel()
        bar.close()
        stored = f"the finished runs are in {runs.path}"
        if isinstance(error, KeyboardInterrupt):
            print(
                f"interrupted: {stored} ({len(in_flight)} unfinished ones are dropped); the same "
                "sweep on the same store resumes there",
                file=sys.stderr,
            )
        with suppress(StoreError):
            runs.release()
        if isinstance(error, BrokenExecutor):
            raise StoreError(
                f"the executor broke down ({error}); {stored}: the same sweep with a new executor "
                "resumes there"
            ) from error
        raise
    bar.close()
    runs.release()
    if failures:
        first = "".join(traceback.format_exception_only(failures[0])).strip()
        warn(
            f"{len(failures)} of {len(work)} runs failed after {retries + 1} attempts each, the "
            f"first with {first}; the column 'message' says more, and the same sweep tries them "
            "again",
            RuntimeWarning,
        )


def _call(
    function: Callable[..., Any], parameters: dict[str, Any]
) -> tuple[str, str, str | None, float]:
    """Run one point, in the worker: (status, result as JSON, message, seconds)."""
    began = time.perf_counter()
    result = function(**parameters)
    if hasattr(result, "final"):
        result = result.final()
    if not isinstance(result, Mapping):
        result = {} if result is None else {"value": result}
    record = {str(key): _plain(f"result {key!r}", value) for key, value in result.items()}
    status = record.pop("status", "done")
    if status not in _FINISHED:
        raise ValueError(f"status of a result must be one of {_FINISHED}, got {status!r}")
    return status, json.dumps(record), None, time.perf_counter() - began


# ------------------------------------------------------------------------------------- the store


class _Store:
    """The SQLite file. One connection, used by the thread that runs the sweep only."""

    def __init__(self, path: str | Path, *, read_only: bool = False) -> None:
        self.path = Path(path)
        self.read_only = read_only
        self.owner = uuid.uuid4().hex
        self._last_beat = 0.0
        self._connection: sqlite3.Connection

    def __enter__(self) -> _Store:
        if not self.path.absolute().parent.is_dir():
            raise StoreError(f"store {self.path}: the folder does not exist")
        if self.path.is_dir():
            raise StoreError(f"store {self.path} is a folder; name a file")
        with self._explained():
            self._connection = _connect(self.path, self.read_only)
        try:
            with self._explained():
                self._check()
                if not self.read_only:
                    self._prepare()
            if not self.read_only:
                self.beat(now=True)
        except BaseException:
            self._connection.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def _check(self) -> None:
        # Before anything is written: the file may belong to another program.
        execute = self._connection.execute
        # Tables first: another sweep may create the store now, mark and tables in one transaction.
        (tables,) = execute("SELECT count(*) FROM sqlite_master").fetchone()
        (application,) = execute("PRAGMA application_id").fetchone()
        (version,) = execute("PRAGMA user_version").fetchone()
        if not tables and self.read_only:
            raise StoreError(f"store {self.path} holds no runs yet; a sweep may be creating it")
        if application != _APPLICATION_ID and tables:
            raise CorruptStoreError(
                f"store {self.path} is an SQLite file of another program; choose another path"
            )
        if version > _SCHEMA_VERSION:
            raise StoreError(
                f"store {self.path} was written by a newer release (schema {version}); update"
            )
        report = execute("PRAGMA quick_check").fetchall()
        if report != [("ok",)]:
            raise CorruptStoreError(self._advice(str(report[0][0])))

    def _prepare(self) -> None:
        execute = self._connection.execute
        self._switch_to_wal()
        execute("PRAGMA synchronous = FULL")
        with self._transaction():
            if not execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                for statement in _SCHEMA.split(";"):
                    execute(statement)
                execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")

    def _switch_to_wal(self) -> None:
        # SQLite does not wait for a lock here, as it does everywhere else.
        for attempt in range(100):
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or attempt == 99:
                    raise
                time.sleep(0.05)

    def finished(self, label: str) -> set[str]:
        """Keys of the finished runs of a function in this version."""
        with self._explained():
            rows = self._connection.execute(
                "SELECT key FROM runs WHERE function = ? AND status IN (?, ?)", (label, *_FINISHED)
            ).fetchall()
        return {key for (key,) in rows}

    def claim(self, key: str, label: str, parameters: dict[str, Any]) -> str:
        """Make a run ours: "ours", "busy" (a living sweep has it) or "finished"."""
        from . import __version__

        with self._explained(), self._transaction():
            row = self._connection.execute(
                "SELECT status, owner FROM runs WHERE key = ?", (key,)
            ).fetchone()
            if row is None:
                self._connection.execute(
                    "INSERT INTO runs (key, function, version, parameters, status, owner) "
                    "VALUES (?, ?, ?, ?, 'running', ?)",
                    (key, label, __version__, _canonical(parameters), self.owner),
                )
                return "ours"
            status, owner = row
            if status in _FINISHED:
                return "finished"
            if status == "running" and owner != self.owner and self._is_alive(owner):
                return "busy"
            self._connection.execute(
                "UPDATE runs SET status = 'running', owner = ?, message = NULL WHERE key = ?",
                (self.owner, key),
            )
            return "ours"

    def commit(
        self,
        key: str,
        status: str,
        result: str | None,
        message: str | None,
        seconds: float,
        *,
        attempts: int,
    ) -> None:
        """Store a run. Nothing happens if its claim has lapsed and another sweep took it."""
        with self._explained(), self._transaction():
            self._connection.execute(
                "UPDATE runs SET status = ?, result = ?, message = ?, seconds = ?, "
                "attempts = attempts + ?, finished = ?, owner = NULL WHERE key = ? AND owner = ?",
                (status, result, message, seconds, attempts, time.time(), key, self.owner),
            )

    def release(self) -> None:
        """Give up all claims."""
        with self._explained(), self._transaction():
            execute = self._connection.execute
            execute("DELETE FROM runs WHERE status = 'running' AND owner = ?", (self.owner,))
            execute("DELETE FROM owners WHERE owner = ?", (self.owner,))

    def beat(self, *, now: bool = False) -> None:
        """Say that this sweep lives, now and then."""
        if not now and time.monotonic() - self._last_beat < _BEAT_SECONDS:
            return
        self._last_beat = time.monotonic()
        with self._explained(), self._transaction():
            self._connection.execute(
                "INSERT INTO owners VALUES (?, ?, ?, ?) "
                "ON CONFLICT (owner) DO UPDATE SET heartbeat = excluded.heartbeat",
                (self.owner, _host(), os.getpid(), time.time()),
            )

    def table(self, keys: list[str] | None, parameters: list[str]) -> SweepTable:
        """The runs with these keys, in this order; all of them for None."""
        with self._explained():
            rows = self._connection.execute(
                "SELECT key, function, version, parameters, status, result, seconds, message "
                "FROM runs ORDER BY function, finished"
            ).fetchall()
        if keys is not None:
            by_key = {row[0]: row for row in rows}
            rows = [by_key[key] for key in keys]
        columns: dict[str, list[Any]] = {}
        front = ("function", "version") if keys is None else ()
        records = []
        for _, function, version, raw, status, result, seconds, message in rows:
            inputs = json.loads(raw)
            outputs = json.loads(result) if result else {}
            record = dict(zip(front, (function, version), strict=False)) | inputs
            record |= {f"{k}_result" if k in inputs else k: v for k, v in outputs.items()}
            record |= {"status": status, "seconds": seconds, "message": message}
            records.append(record)
        last = ("status", "seconds", "message")
        names = dict.fromkeys(name for r in records for name in r if name not in last)
        for name in (*(names or parameters), *last):
            columns[name] = [record.get(name) for record in records]
        return SweepTable(columns, parameters)

    def _is_alive(self, owner: str) -> bool:
        row = self._connection.execute(
            "SELECT host, pid, heartbeat FROM owners WHERE owner = ?", (owner,)
        ).fetchone()
        if row is None:
            return False
        host, pid, heartbeat = row
        if time.time() - heartbeat > _LEASE_SECONDS:
            return False
        return host != _host() or _process_exists(pid)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        # BEGIN stands inside: an interrupt may come right after it.
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            self._connection.execute("BEGIN IMMEDIATE")
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """SQLite's errors in terms of what the user can do."""
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise CorruptStoreError(self._advice(str(error))) from error
            reason = {
                sqlite3.SQLITE_FULL: "the disk is full; free some space",
                sqlite3.SQLITE_READONLY: "it is read-only; change its permissions",
                sqlite3.SQLITE_CANTOPEN: "it cannot be opened; check path and permissions",
                sqlite3.SQLITE_IOERR: f"reading or writing failed ({error}); check the disk",
                sqlite3.SQLITE_BUSY: "another process has locked it for a minute",
            }.get(code, str(error))
            raise StoreError(
                f"store {self.path}: {reason}. Finished runs are kept; the same sweep resumes."
            ) from error

    def _advice(self, reason: str) -> str:
        return (
            f"store {self.path} is damaged ({reason}) and was left untouched. Move it away and "
            "start a new one; `sqlite3 FILE .recover` may save its rows."
        )


def _connect(path: Path, read_only: bool) -> sqlite3.Connection:
    address = path.absolute().as_uri() + ("?mode=ro" if read_only else "")
    return sqlite3.connect(address, uri=True, timeout=60.0, isolation_level=None)


def _host() -> str:
    # Process numbers are comparable within one namespace only, which containers do not share.
    namespace = ""
    with suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid")
    return socket.gethostname() + namespace


def _process_exists(pid: int) -> bool:
    if os.name != "posix":
        return True  # there only the lease tells
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    with suppress(OSError, IndexError):
        # A dead process that nobody has waited for still has its number (containers).
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return True


# -------------------------------------------------------------------------- points and parameters


def _executor(executor: Executor | str | None) -> tuple[Executor, bool]:
    """The executor, and whether it is ours to shut down."""
    if isinstance(executor, Executor):
        return executor, False
    if executor in (None, "threads"):
        return _DaemonThreads(n_cores()), True
    if executor == "processes":
        pool = ProcessPoolExecutor(
            n_cores(), mp_context=get_context("spawn"), initializer=_exit_with_parent
        )
        return pool, True
    raise TypeError(
        "executor must be a concurrent.futures.Executor, 'threads', 'processes' or None, "
        f"got {executor!r}"
    )


class _DaemonThreads(Executor):
    """Threads that Python does not wait for when it ends.

    A standard pool would keep an interrupted sweep alive until its longest run is done.
    """

    def __init__(self, max_workers: int) -> None:
        self._max_workers = max_workers
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        for _ in range(max_workers):
            threading.Thread(target=self._work, daemon=True).start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()

        def task() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        self._queue.put(task)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End each thread after what it is doing; the sweep has canceled what is still queued."""
        for _ in range(self._max_workers):
            self._queue.put(None)

    def _work(self) -> None:
        while (task := self._queue.get()) is not None:
            task()


def _exit_with_parent() -> None:
    """End this worker when its parent dies: a killed sweep must not leave processes behind."""
    parent = parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _name_of(function: Callable[..., Any]) -> str:
    module = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", None)
    if not module or not name or "<" in name:
        raise ValueError(
            f"name must be given for {function!r}: it has no importable name to store runs under"
        )
    return f"{module}.{name}"


def _points(grid: Any, fixed: dict[str, Any]) -> list[dict[str, Any]]:
    if isinstance(grid, Mapping):
        for key, values in grid.items():
            if isinstance(values, str) or not isinstance(values, Iterable):
                raise TypeError(f"grid[{key!r}] must be a sequence of values, got {values!r}")
        combinations = itertools.product(*grid.values())
        points = [dict(zip(grid, values, strict=True)) for values in combinations]
    else:
        points = [dict(point) for point in grid]
    for point in points:
        both = point.keys() & fixed.keys()
        if both:
            raise ValueError(f"fixed must not repeat the grid's parameters, got {sorted(both)}")
    points = [{k: _value(k, v) for k, v in (point | fixed).items()} for point in points]
    unique = {_canonical(point): point for point in points}
    return list(unique.values())


def _value(name: str, value: Any) -> Any:
    """A parameter as it is passed to the function: NumPy scalars become Python's."""
    value = value.item() if isinstance(value, np.generic) else value
    _plain(f"parameter {name!r}", value, finite=True)
    return value


def _plain(name: str, value: Any, *, finite: bool = False) -> Any:
    """`value` as JSON can hold it."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if finite and not np.isfinite(value):
            raise ValueError(f"{name} must be finite, got {value}")
        return value
    if isinstance(value, list | tuple):
        return [_plain(name, item, finite=finite) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        inside = {
            f.name: _plain(name, getattr(value, f.name), finite=finite) for f in fields(value)
        }
        return {type(value).__name__: inside}
    raise TypeError(
        f"{name} must be a number, string, bool, None, a list or a dataclass of these, "
        f"got {type(value).__name__}"
    )


def _canonical(parameters: dict[str, Any]) -> str:
    plain = {name: _plain(name, value) for name, value in parameters.items()}
    return json.dumps(plain, sort_keys=True, separators=(",", ":"))


def _key(label: str, parameters: dict[str, Any]) -> str:
    from . import __version__

    text = "\n".join((label, __version__, _canonical(parameters)))
    return hashlib.sha256(text.encode()).hexdigest()


def _column(values: Sequence[Any]) -> NDArray[Any]:
    """An array of the values: numeric where they are numbers, with NaN for None."""
    present = [value for value in values if value is not None]
    numeric = present and all(isinstance(v, int | float | np.number | np.bool_) for v in present)
    if numeric and len(present) < len(values):
        return np.array([np.nan if value is None else value for value in values], float)
    if len(present) == len(values):
        with suppress(ValueError):  # ragged
            array = np.array(values)
            if array.dtype.kind in "biufU":
                return array
    column = np.empty(len(values), object)
    column[:] = values
    return column
