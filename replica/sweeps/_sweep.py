"""The sweep: every point of a grid run once, whatever happens."""

from __future__ import annotations

import json
import sys
import time
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

from replica._core.arguments import ArgumentError, ArgumentTypeError, integer
from replica._core.cores import n_cores
from replica._core.status import Status

from ._executors import (
    check_executor,
    imports_main,
    is_worker_starting,
    main_file,
    open_executor,
)
from ._points import (
    Label,
    Plain,
    Point,
    check_call,
    code_digest,
    grid_points,
    label,
    name_of,
    plain,
    run_key,
)
from ._store import (
    BEAT_SECONDS,
    FINISHED,
    Contents,
    EmptyStoreError,
    Row,
    Store,
    StoreError,
    contents,
    read_store,
)
from ._table import MISSING, RESERVED, SweepTable

__all__ = ["delete_runs", "load_runs", "sweep"]

# Between two looks at the runs of other sweeps: short beside a run, long beside a look.
_POLL_SECONDS = 0.2

# Of a run: status, result as JSON, message, seconds.
_Ended: TypeAlias = tuple[str, str, str | None, float]


def sweep(
    function: Callable[..., object],
    grid: Mapping[str, Sequence[object]] | Iterable[Mapping[str, object]],
    *,
    store: str | Path = "runs.sqlite",
    fixed: Mapping[str, object] | None = None,
    executor: Executor | str | None = None,
    retries: int = 1,
    progress: bool = True,
    name: str | None = None,
    dry_run: bool = False,
) -> SweepTable:
    """Call `function` on every point of `grid`, keep each result at once, return them as a table.

    A run is known by the hash of the function's name, its parameters and the package version.
    Finished runs are read from `store` instead of being run again, so a sweep that was
    interrupted, killed or broken is resumed by calling it again. Several sweeps may share a store
    at the same time: each run is claimed by one of them, and a claim lapses when its owner dies.
    A store that holds all runs of the grid is read only, and may be where one may not write.

    Parameters
    ----------
    function : callable
        Called with keyword arguments. Returns a number, a mapping of names to numbers, strings or
        arrays, or an object with ``final()`` that returns such a mapping, as the results of
        `simulate_training` and `simulate_online` do. An entry "status" marks the run:
        a `Status` of one that has ended, or its name in lower case, such as "divergent".
    grid : mapping or iterable of mappings
        Parameter -> values, for every combination; or the points themselves. Values are numbers,
        strings, booleans, None, lists of these, or dataclasses of these. 1 and 1.0 are one value.
    store : path
        SQLite file, created if missing. It must lie on a local disk.
    fixed : mapping, optional
        Parameters common to all points.
    executor : Executor or "threads" or "processes", optional
        Where runs happen: by default a pool of one thread per processor. Any
        ``concurrent.futures.Executor`` will do, ``dask.distributed.Client.get_executor()``
        included. For processes `function` must stand in a file that can be imported, and in a
        script the call of `sweep` under ``if __name__ == "__main__":``.
    retries : int
        How often a run that raised is tried again before it is stored as "failed"; a ``TypeError``
        is no accident and not tried again. A later sweep tries it anew.
    progress : bool
        Progress bar with a time estimate, on a terminal.
    name : str, optional
        Name under which runs are stored; needed for lambdas and nested functions.
    dry_run : bool
        Run nothing and write nothing: what there is. The rest is "waiting", or "running" where
        another sweep is at work on it.

    Returns
    -------
    SweepTable
        One row per point of the grid, in its order.

    Raises
    ------
    ValueError, TypeError
        For a grid, parameter or function that cannot be stored, for a parameter that the function
        does not have, or a function that the processes of the executor cannot import.
    StoreError
        If the disk is full, the store read-only, or the executor broken. Everything finished
        before is kept.
    CorruptStoreError
        If the file is damaged or belongs to another program.

    Warns
    -----
    RuntimeWarning
        If runs failed, or if runs in the store were made by other code of the same name.

    Examples
    --------
    >>> import tempfile, math
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = sweep(math.ldexp, [], store=f"{folder}/runs.sqlite", name="ldexp")
    >>> table.n_rows
    0
    """
    if not callable(function):
        raise ArgumentTypeError(f"function must be callable, got {function!r}")
    retries = integer("retries", retries, low=0)
    path, called = Path(store), name or name_of(function)
    points = grid_points(grid, dict(fixed or {}))
    check_call(function, called, points)
    check_executor(executor, function)
    work = _Work(function, called, points)
    known = _known(path)
    work.take(known.rows)
    work.warn_of_other_code(stacklevel=3)
    if work.todo and not dry_run:
        if is_worker_starting():
            raise RuntimeError(
                "sweep was called by a worker process that is only importing the script: "
                'put the call under `if __name__ == "__main__":`'
            )
        pool, owned = open_executor(executor)
        try:
            with Store(path) as runs:
                _run_all(work, runs, pool, retries, progress)
        finally:
            if owned:
                pool.shutdown(wait=False, cancel_futures=True)
    work.warn_of_other_code(stacklevel=3)  # what other sweeps have stored meanwhile
    work.warn_of_failures(stacklevel=3)
    return work.table(path, known.running if dry_run else set())


def load_runs(store: str | Path) -> SweepTable:
    """Return all runs of a store as one table, `function` and `version` being its first parameters.

    Nothing is written, neither to the store nor beside it, and nothing waits for a sweep that is
    at work on it: runs in progress are not in the table.

    Parameters
    ----------
    store : path
        The SQLite file of a `sweep`.

    Returns
    -------
    SweepTable
        One row per run, ordered by the parameters.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    StoreError, CorruptStoreError
        If it cannot be read.
    """
    path = Path(store)
    if not path.exists():
        raise FileNotFoundError(2, "no such store", str(store))
    records = [(row, *contents(row, path)) for row in read_store(path).rows]
    names = tuple(dict.fromkeys(name for _, inputs, _ in records for name in inputs))
    records.sort(key=lambda record: _place(record[0], record[1], names))
    front = [{"function": row.function, "version": row.version} for row, _, _ in records]
    return _table(records, names, front)


def delete_runs(store: str | Path, runs: SweepTable) -> int:
    """Delete runs from a store, so that a later sweep runs them again.

    Parameters
    ----------
    store : path
        The SQLite file of a `sweep`.
    runs : SweepTable
        Some of its runs: rows of what `load_runs` or `sweep` returned.

    Returns
    -------
    int
        How many there were.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = f"{folder}/runs.sqlite"
    ...     table = sweep(lambda x: x, {"x": [1, 2]}, name="same", store=store, progress=False)
    ...     deleted = delete_runs(store, table.select(table["x"] > 1))
    ...     left = load_runs(store)
    >>> deleted, left["x"].tolist()
    (1, [1])
    """
    path = Path(store)
    if not path.exists():
        raise FileNotFoundError(2, "no such store", str(store))
    with Store(path) as opened:
        deleted = opened.delete(runs._keys)
        opened.release()
    return deleted


# --------------------------------------------------------------------------------- what there is


class _Work:
    """The runs of one sweep: what is known of them, and what is left to do."""

    def __init__(self, function: Callable[..., object], name: str, points: Sequence[Point]) -> None:
        from replica import __version__

        self.function, self.name, self.version = function, name, __version__
        self.points = {run_key(name, __version__, point): point for point in points}
        self.code = code_digest(function)
        self.rows: dict[str, Row] = {}
        self.failures: list[tuple[BaseException, int]] = []
        self.made_by_other_code = 0

    @property
    def todo(self) -> list[str]:
        """The runs that are not finished, in order."""
        return [
            key
            for key in self.points
            if key not in self.rows or self.rows[key].status not in FINISHED
        ]

    def take(self, rows: Iterable[Row]) -> None:
        """Remember what the store has of these runs."""
        for row in rows:
            if row.key in self.points:
                self.rows[row.key] = row
                self.made_by_other_code += row.status in FINISHED and self._is_other(row.code)

    def _is_other(self, code: str | None) -> bool:
        if code is None or self.code is None or code == self.code:
            return False
        return code.partition(":")[0] == self.code.partition(":")[0]

    def row(self, key: str, status: str, result: str | None, message: str | None, seconds: float):
        """The row of a run that has ended here."""
        if message is not None:  # file names may have bytes that are no text
            message = message.encode(errors="backslashreplace").decode()
        inputs = {name: plain(name, value) for name, value in self.points[key].items()}
        return Row(
            key, self.name, self.version, json.dumps(inputs), self.code, status, result, message,
            seconds,
        )  # fmt: skip

    def warn_of_other_code(self, *, stacklevel: int) -> None:
        """Say that results are those of another function, once for each run."""
        if self.made_by_other_code:
            warnings.warn(
                f"{self.made_by_other_code} of {len(self.points)} runs were stored by another "
                f"version of {self.name}: its code has changed since. Delete them (delete_runs, or "
                "`replica runs --delete`) to run them again, or give the new function a new name",
                RuntimeWarning,
                stacklevel=stacklevel,
            )
            self.made_by_other_code = 0

    def warn_of_failures(self, *, stacklevel: int) -> None:
        """Say that runs have failed."""
        if self.failures:
            error, attempts = self.failures[0]
            first = "".join(traceback.format_exception_only(error)).strip()
            warnings.warn(
                f"{len(self.failures)} of {len(self.points)} runs failed, the first after "
                f"{attempts} attempt{'s'[: attempts > 1]} with {first}; the column 'message' says "
                "more, and the same sweep tries them again",
                RuntimeWarning,
                stacklevel=stacklevel,
            )

    def table(self, path: Path, running: set[str]) -> SweepTable:
        """The runs in the order of the grid, with the parameters as they were given."""
        records = []
        for key, point in self.points.items():
            inputs = {name: label(plain(name, value)) for name, value in point.items()}
            # A failed run that is tried again is running.
            row = None if key in running else self.rows.get(key)
            if row is None:
                stands = "running" if key in running else "waiting"
                row = Row(key, "", "", "{}", None, stands, None, None, 0.0)
            records.append((row, inputs, contents(row, path)[1]))
        names = tuple(dict.fromkeys(name for _, inputs, _ in records for name in inputs))
        return _table(records, names, [{} for _ in records])


def _known(path: Path) -> Contents:
    if path.is_file():
        with suppress(EmptyStoreError):  # another sweep is creating it
            return read_store(path)
    return Contents([], set())


def _table(
    records: Sequence[tuple[Row, dict[str, Label], dict[str, Plain]]],
    names: tuple[str, ...],
    front: Sequence[dict[str, str]],
) -> SweepTable:
    """The columns of runs, each under a name of its own: `front`, parameters, results, the rest."""
    taken: set[str] = set(RESERVED)
    inputs = {name: _free(name, "_parameter", taken) for name in names}
    outputs = dict.fromkeys(name for _, _, result in records for name in result)
    outputs = {name: _free(name, "_result", taken) for name in outputs}
    columns: dict[str, Sequence[object]] = {
        name: [f[name] for f in front] for name in (front[0] if front else ())
    }
    columns |= {
        column: [values.get(name, MISSING) for _, values, _ in records]
        for name, column in inputs.items()
    }
    parameters = list(columns)
    columns |= {
        column: [result.get(name) for _, _, result in records] for name, column in outputs.items()
    }
    for name in ("status", "seconds", "message"):
        columns[name] = [getattr(row, name) for row, _, _ in records]
    return SweepTable(columns, parameters, keys=[row.key for row, _, _ in records])


def _free(name: str, ending: str, taken: set[str]) -> str:
    while name in taken:
        name += ending
    taken.add(name)
    return name


def _place(row: Row, inputs: Mapping[str, Label], names: tuple[str, ...]) -> tuple[object, ...]:
    """Sorts runs: parameters as numbers before parameters as text."""
    ordered = []
    for name in names:
        value = inputs.get(name, "")
        ordered.append((1, 0.0, value) if isinstance(value, str) else (0, value, ""))
    return (row.function, row.version, *ordered)


# --------------------------------------------------------------------------------- the main loop


def _run_all(work: _Work, runs: Store, pool: Executor, retries: int, progress: bool) -> None:
    from tqdm import tqdm

    todo = deque(work.todo)
    capacity = 2 * (getattr(pool, "_max_workers", None) or 2 * n_cores())
    in_flight: dict[Future[_Ended], tuple[str, int]] = {}
    is_pool_proven = False

    def submit(key: str, attempt: int) -> None:
        in_flight[pool.submit(_call, work.function, work.points[key])] = (key, attempt)

    bar = tqdm(
        total=len(work.points), initial=len(work.points) - len(todo), unit="run",
        disable=None if progress else True,
    )  # fmt: skip
    try:
        while todo or in_flight:
            busy = 0
            while len(in_flight) < capacity and busy < len(todo):
                key = todo.popleft()
                claim = runs.claim(key)
                if isinstance(claim, Row):
                    work.take([claim])
                    bar.update()
                elif claim:
                    submit(key, 1)
                else:  # another sweep is on it: look again later
                    todo.append(key)
                    busy += 1
            if not in_flight:
                if todo:
                    time.sleep(_POLL_SECONDS)
                runs.beat()
                continue
            timeout = _POLL_SECONDS if busy else BEAT_SECONDS
            finished, _ = wait(in_flight, timeout=timeout, return_when=FIRST_COMPLETED)
            runs.beat()
            for future in finished:
                key, attempt = in_flight.pop(future)
                error = future.exception()
                if isinstance(error, BrokenExecutor):
                    raise error
                is_pool_proven = True
                if error is None:
                    row = work.row(key, *future.result())
                elif attempt <= retries and not isinstance(error, TypeError):
                    submit(key, attempt + 1)
                    continue
                else:
                    message = "".join(traceback.format_exception(error))
                    row = work.row(key, "failed", None, message, 0.0)
                kept = runs.commit(row)
                if kept is None:  # we were out for so long that another sweep took it
                    todo.append(key)
                    continue
                work.take([kept])
                if error is not None and kept is row:
                    work.failures.append((error, attempt))
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
            advice = ""
            if not is_pool_proven and imports_main(pool) and main_file() is not None:
                advice = (
                    ". No worker process came as far as the end of a run: they import the script "
                    "first, so the call of sweep in it must stand under "
                    '`if __name__ == "__main__":`'
                )
            raise StoreError(
                f"the executor broke down ({error}){advice}; {stored}: the same sweep with a new "
                "executor resumes there"
            ) from error
        raise
    bar.close()
    runs.release()


def _call(function: Callable[..., object], parameters: Point) -> _Ended:
    """Run one point, in the worker."""
    began = time.perf_counter()
    result = function(**parameters)
    final = getattr(result, "final", None)
    if final is not None:
        result = final()
    if not isinstance(result, Mapping):
        result = {} if result is None else {"value": result}
    record = {str(key): plain(f"result {key!r}", value) for key, value in result.items()}
    status = record.pop("status", "done")
    if isinstance(status, int) and not isinstance(status, bool) and status in list(Status):
        status = Status(status).name.lower()
    if status not in FINISHED:
        raise ArgumentError(f"status of a result must be one of {FINISHED}, got {status!r}")
    return status, json.dumps(record), None, time.perf_counter() - began
