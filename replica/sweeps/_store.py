"""The store of runs: one SQLite file, written run by run, and read without a trace.

A row is a run that has ended, with a checksum. Who is at work on what stands in tables of its own,
so that a run in progress never touches what is known of an earlier one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import sqlite3
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from replica._core.status import Status

from ._points import Label, Plain, label

__all__ = [
    "BEAT_SECONDS",
    "FINISHED",
    "Contents",
    "CorruptStoreError",
    "EmptyStoreError",
    "Row",
    "Store",
    "StoreError",
    "contents",
    "read_store",
]

# How a run can have ended for good: by any `Status` of what was run, by its name in tables.
FINISHED = tuple(
    status.name.lower()
    for status in Status
    if status not in (Status.FAILED, Status.RUNNING, Status.WAITING)
)

_APPLICATION_ID = 0x7265706C  # "repl": marks the file as one of ours
_SCHEMA_VERSION = 3  # of the tables below and of the words for the status in them
# A claim whose owner has not been heard of for this long is void; owners beat far more often.
_LEASE_SECONDS = 120.0
BEAT_SECONDS = 5.0
# Attempts to read a store before another process has changed it again, 50 ms apart.
_READ_ATTEMPTS = 100

_SCHEMA = """
CREATE TABLE runs (
    key TEXT PRIMARY KEY,
    function TEXT NOT NULL,
    version TEXT NOT NULL,
    parameters TEXT NOT NULL,
    code TEXT,
    status TEXT NOT NULL,
    result TEXT,
    message TEXT,
    seconds REAL NOT NULL,
    checksum TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE claims (key TEXT PRIMARY KEY, owner TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE owners (
    owner TEXT PRIMARY KEY, host TEXT NOT NULL, pid INTEGER NOT NULL, heartbeat REAL NOT NULL
) WITHOUT ROWID;
"""


class StoreError(OSError):
    """The store cannot be written or read; what it holds is kept."""


class CorruptStoreError(StoreError):
    """The file is damaged, or no store of this package."""


class EmptyStoreError(StoreError):
    """There are no tables yet: another process may be creating them."""


class Contents(NamedTuple):
    """What a store holds."""

    rows: list[Row]
    running: set[str]  # keys of the runs that a living sweep is at work on


class Row(NamedTuple):
    """A run that has ended."""

    key: str
    function: str
    version: str
    parameters: str  # JSON, in the order of the grid
    code: str | None  # digest of the function
    status: str
    result: str | None  # JSON
    message: str | None
    seconds: float

    @property
    def checksum(self) -> str:
        """Of everything in the row."""
        return hashlib.sha256(json.dumps(self).encode()).hexdigest()[:32]


def contents(row: Row, path: Path) -> tuple[dict[str, Label], dict[str, Plain]]:
    """Parameters, as tables show them, and results of a run."""
    try:
        parameters, result = json.loads(row.parameters), json.loads(row.result or "{}")
        if not isinstance(result, dict):
            raise ValueError("the result is no object")
        return {name: label(value) for name, value in parameters.items()}, result
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise CorruptStoreError(_row_advice(path, row.key, reason)) from error


# ----------------------------------------------------------------------------------------- reading


def read_store(path: Path) -> Contents:
    """All of a store. Needs nothing but the right to read it, and leaves nothing beside it."""
    for attempt in range(_READ_ATTEMPTS):
        before = _state(path)
        try:
            found = _read_once(path)
        except (StoreError, FileNotFoundError) as error:
            if _state(path) == before or attempt == _READ_ATTEMPTS - 1:
                raise error
        else:
            if found is not None:
                return found
        time.sleep(0.05)
    raise StoreError(f"store {path} changes faster than it can be read; try again later")


def _read_once(path: Path) -> Contents | None:
    """None if another process changed the store at the same time."""
    before = _state(path)
    if not any(_beside(path)):
        # Nobody writes: no lock and no file of SQLite's own is needed.
        with _explained(path), closing(_connect(path, "?mode=ro&immutable=1")) as connection:
            _check(connection, path)
            found = _contents(connection, path)
        return found if _state(path)[0] == before[0] else None
    # Committed runs may be in the write-ahead log, which SQLite reads only with files of its own.
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, path.name)
        try:
            for source in (path, *filter(None, _beside(path))):
                shutil.copyfile(source, copy.with_name(source.name))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"store {path} cannot be copied to {folder}: {error}") from error
        if _state(path) != before:
            return None
        with _explained(path), closing(_connect(copy)) as connection:
            _check(connection, path)
            return _contents(connection, path)


def _contents(connection: sqlite3.Connection, path: Path) -> Contents:
    claims = connection.execute("SELECT key, owner FROM claims").fetchall()
    running = {key for key, owner in claims if _is_alive(connection, owner)}
    return Contents(list(_rows(connection, path)), running)


def _beside(path: Path) -> tuple[Path | None, Path | None]:
    """The logs of changes that are not in the file yet."""
    log, journal = (path.with_name(path.name + end) for end in ("-wal", "-journal"))
    return log if log.exists() else None, journal if journal.exists() else None


def _state(path: Path) -> tuple[tuple[int, ...] | bytes | None, ...]:
    """What changes with the file, or when its log begins anew; not when the log grows."""
    state: list[tuple[int, ...] | bytes | None] = [None, None, None]
    with suppress(FileNotFoundError):
        status = path.stat()
        state[0] = status.st_ino, status.st_size, status.st_mtime_ns
    for i, other in enumerate(_beside(path), 1):
        if other is not None:
            with suppress(OSError), other.open("rb") as stream:
                state[i] = stream.read(32)  # the header: it holds a number of this log
    return tuple(state)


def _rows(connection: sqlite3.Connection, path: Path, key: str | None = None) -> Iterator[Row]:
    """The rows, or the one with this key, after a look at their checksums."""
    query = f"SELECT {', '.join(Row._fields)}, checksum FROM runs"
    found = (
        connection.execute(query)
        if key is None
        else connection.execute(f"{query} WHERE key = ?", (key,))
    )
    for *values, checksum in found:
        row = Row(*values)
        try:
            damaged = row.checksum != checksum
        except TypeError:  # bytes where text was
            damaged = True
        if damaged:
            raise CorruptStoreError(_row_advice(path, row.key, "its checksum is wrong"))
        yield row


# ----------------------------------------------------------------------------------------- writing


class Store:
    """A store that is written to. One connection, used by the thread that runs the sweep only."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.owner = uuid.uuid4().hex
        self._last_beat = 0.0
        self._connection: sqlite3.Connection

    def __enter__(self) -> Store:
        _check_access(self.path)
        with _explained(self.path):
            self._connection = _connect(self.path)
        try:
            with _explained(self.path):
                with suppress(EmptyStoreError):
                    _check(self._connection, self.path)
                self._prepare()
            self.beat(now=True)
        except BaseException:
            self._connection.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def _prepare(self) -> None:
        execute = self._connection.execute
        self._switch_to_log()
        execute("PRAGMA synchronous = FULL")
        with self._transaction():
            if not execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                for statement in _SCHEMA.split(";"):
                    execute(statement)
                execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
            for (owner,) in execute("SELECT owner FROM owners").fetchall():
                if not _is_alive(self._connection, owner):
                    self._forget(owner)

    def _switch_to_log(self) -> None:
        # SQLite does not wait for a lock here, as it does everywhere else.
        for attempt in range(100):
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or attempt == 99:
                    raise
                time.sleep(0.05)

    def claim(self, key: str) -> Row | bool:
        """The run if it is finished; else whether it is ours, or a living sweep is on it."""
        with _explained(self.path), self._transaction():
            row = self._row(key)
            if row is not None and row.status in FINISHED:
                return row
            if not self._may_have(key):
                return False
            self._connection.execute("REPLACE INTO claims VALUES (?, ?)", (key, self.owner))
            return True

    def commit(self, row: Row) -> Row | None:
        """Store a run that we had claimed.

        If the claim lapsed meanwhile, what another sweep has stored is kept and returned; None if
        it is still at work.
        """
        with _explained(self.path), self._transaction():
            known = self._row(row.key)
            if known is not None and known.status in FINISHED:
                return known
            if not self._may_have(row.key):
                return None
            marks = ", ".join("?" * (len(row) + 1))
            self._connection.execute(f"REPLACE INTO runs VALUES ({marks})", (*row, row.checksum))
            self._connection.execute("DELETE FROM claims WHERE key = ?", (row.key,))
            return row

    def delete(self, keys: Iterable[str]) -> int:
        """Delete runs; returns how many there were."""
        with _explained(self.path), self._transaction():
            query = "DELETE FROM runs WHERE key = ?"
            return self._connection.executemany(query, [(key,) for key in keys]).rowcount

    def release(self) -> None:
        """Give up all claims."""
        with _explained(self.path), self._transaction():
            self._forget(self.owner)

    def beat(self, *, now: bool = False) -> None:
        """Say that this sweep lives, now and then."""
        if not now and time.monotonic() - self._last_beat < BEAT_SECONDS:
            return
        self._last_beat = time.monotonic()
        with _explained(self.path), self._transaction():
            self._connection.execute(
                "REPLACE INTO owners VALUES (?, ?, ?, ?)",
                (self.owner, _host(), os.getpid(), time.time()),
            )

    def _row(self, key: str) -> Row | None:
        return next(_rows(self._connection, self.path, key), None)

    def _may_have(self, key: str) -> bool:
        query = "SELECT owner FROM claims WHERE key = ?"
        claim = self._connection.execute(query, (key,)).fetchone()
        return claim is None or claim[0] == self.owner or not _is_alive(self._connection, claim[0])

    def _forget(self, owner: str) -> None:
        for table in ("claims", "owners"):
            self._connection.execute(f"DELETE FROM {table} WHERE owner = ?", (owner,))

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


# ------------------------------------------------------------------------------ SQLite and the host


def _is_alive(connection: sqlite3.Connection, owner: str) -> bool:
    """Whether the sweep that owns claims is still at work."""
    query = "SELECT host, pid, heartbeat FROM owners WHERE owner = ?"
    row = connection.execute(query, (owner,)).fetchone()
    if row is None:
        return False
    host, pid, heartbeat = row
    if not isinstance(heartbeat, int | float) or not isinstance(pid, int):
        return False
    # In the future after the clock was set back: then a living owner beats again at once.
    if not -BEAT_SECONDS <= time.time() - heartbeat <= _LEASE_SECONDS:
        return False
    return host != _host() or process_exists(pid)


def _check_access(path: Path) -> None:
    """Refuse, before SQLite touches anything, what could not be written."""
    if not path.absolute().parent.is_dir():
        raise StoreError(f"store {path}: the folder does not exist")
    if path.is_dir():
        raise StoreError(f"store {path} is a folder; name a file")
    if not path.exists():
        try:
            path.touch()  # SQLite would not follow the umask, and so keep a group out
        except OSError as error:
            raise StoreError(f"store {path} cannot be created: {error}") from error
    # A log that SQLite makes for a file of another user would lock that one out of it.
    for end in ("", "-wal", "-shm"):
        file = path.with_name(path.name + end)
        if file.exists() and not os.access(file, os.W_OK):
            raise StoreError(
                f"store {path}: {file.name} is read-only for this user; change its permissions, "
                "or sweep into a store of your own"
            )


def _connect(path: Path, options: str = "") -> sqlite3.Connection:
    address = path.absolute().as_uri() + options
    connection = sqlite3.connect(address, uri=True, timeout=60.0, isolation_level=None)
    # Damaged text is found by its checksum.
    connection.text_factory = lambda data: data.decode(errors="replace")
    return connection


def _check(connection: sqlite3.Connection, path: Path) -> None:
    # Before anything is written: the file may belong to another program.
    execute = connection.execute
    # Tables first: another sweep may create the store now, mark and tables in one transaction.
    (tables,) = execute("SELECT count(*) FROM sqlite_master").fetchone()
    (application,) = execute("PRAGMA application_id").fetchone()
    (version,) = execute("PRAGMA user_version").fetchone()
    if not tables:
        raise EmptyStoreError(f"store {path} holds no runs yet; a sweep may be creating it")
    if application != _APPLICATION_ID:
        raise CorruptStoreError(
            f"store {path} is an SQLite file of another program; choose another path"
        )
    if version != _SCHEMA_VERSION:
        age = "a newer release" if version > _SCHEMA_VERSION else "an older release"
        raise StoreError(
            f"store {path} was written by {age} (schema {version}, here {_SCHEMA_VERSION}); use "
            "that one, or another path"
        )
    report = execute("PRAGMA quick_check").fetchall()
    if report != [("ok",)]:
        raise CorruptStoreError(_advice(path, str(report[0][0])))


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """SQLite's errors in terms of what the user can do."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        # Our statements are right: an error in them means that the tables are not ours any more.
        damage = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
        if code in (*damage, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH):
            raise CorruptStoreError(_advice(path, str(error))) from error
        reason = {
            sqlite3.SQLITE_FULL: "the disk is full; free some space",
            sqlite3.SQLITE_READONLY: "it is read-only; change its permissions",
            sqlite3.SQLITE_CANTOPEN: "it cannot be opened; check path and permissions",
            sqlite3.SQLITE_IOERR: f"reading or writing failed ({error}); check the disk",
            sqlite3.SQLITE_BUSY: "another process has locked it for a minute",
        }.get(code, str(error))
        raise StoreError(
            f"store {path}: {reason}. Finished runs are kept; the same sweep resumes."
        ) from error


def _advice(path: Path, reason: str) -> str:
    return (
        f"store {path} is damaged ({reason}) and was left untouched. Move it away and "
        "start a new one; `sqlite3 FILE .recover` may save its rows."
    )


def _row_advice(path: Path, key: str, reason: str) -> str:
    return (
        f"store {path} is damaged (run {key!r}: {reason}) and was left untouched. To give up this "
        f"run and keep the others: `sqlite3 FILE \"DELETE FROM runs WHERE key = '{key}'\"`."
    )


def _host() -> str:
    # Process numbers are comparable within one namespace only, which containers do not share.
    namespace = ""
    with suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid")
    return socket.gethostname() + namespace


def process_exists(pid: int) -> bool:
    """Whether a process of this machine lives."""
    if os.name != "posix":
        return True  # there only the lease tells
    if not 0 < pid < 2**31:  # damaged; 0 and -1 are not a process but many
        return False
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
