"""Where runs happen: threads that Python does not wait for, processes, or the user's executor."""

from __future__ import annotations

import os
import pickle
import queue
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from multiprocessing import current_process, get_context, parent_process
from typing import ParamSpec, TypeVar

from replica._core.arguments import ArgumentError, ArgumentTypeError
from replica._core.cores import n_cores

__all__ = [
    "check_executor",
    "imports_main",
    "is_worker_starting",
    "main_file",
    "open_executor",
]

# Arguments and result of what a thread runs.
P = ParamSpec("P")
T = TypeVar("T")


def check_executor(executor: Executor | str | None, function: Callable[..., object]) -> None:
    """Refuse what is no executor, and a function that its processes cannot have."""
    if not isinstance(executor, Executor) and executor not in (None, "threads", "processes"):
        raise ArgumentTypeError(
            "executor must be a concurrent.futures.Executor, 'threads', 'processes' or None, "
            f"got {executor!r}"
        )
    if executor != "processes" and not isinstance(executor, ProcessPoolExecutor):
        return
    name = getattr(function, "__qualname__", repr(function))
    advice = "put it into a module (a .py file) and import it from there, or use threads"
    try:
        pickle.dumps(function)
    except Exception as error:
        raise ArgumentError(
            f"function {name} cannot be sent to worker processes ({error}): {advice}"
        ) from None
    if not imports_main(executor) or main_file() is not None:
        return
    if getattr(sys.modules["__main__"], "__file__", None):
        raise ArgumentError(
            "the script was read from standard input, and worker processes cannot import it: save "
            "it to a file, or use threads"
        )
    if function.__module__ == "__main__":
        raise ArgumentError(
            f"function {name} was entered in a notebook, at a prompt or in a -c command, where "
            f"worker processes cannot find it: {advice}"
        )


def imports_main(executor: Executor | str | None) -> bool:
    """Whether the workers start from nothing, and so import the script."""
    if executor == "processes":
        return True
    # Not public, but there is no other way to know.
    context = getattr(executor, "_mp_context", None)
    return context is not None and context.get_start_method() != "fork"


def main_file() -> str | None:
    """What worker processes import as the script, if anything."""
    main = sys.modules["__main__"]
    name = getattr(getattr(main, "__spec__", None), "name", None)
    file = getattr(main, "__file__", None)
    return name or (file if file and os.path.exists(file) else None)


def is_worker_starting() -> bool:
    """Whether this is a worker process that imports the script it belongs to."""
    # What `multiprocessing` itself looks at before it refuses to start processes here.
    return getattr(current_process(), "_inheriting", False)


def open_executor(executor: Executor | str | None) -> tuple[Executor, bool]:
    """The executor, and whether it is ours to shut down."""
    if isinstance(executor, Executor):
        return executor, False
    if executor == "processes":
        pool = ProcessPoolExecutor(
            n_cores(), mp_context=get_context("spawn"), initializer=_exit_with_parent
        )
        return pool, True
    return _DaemonThreads(n_cores()), True


class _DaemonThreads(Executor):
    """Threads that Python does not wait for when it ends.

    A standard pool would keep an interrupted sweep alive until its longest run is done.
    """

    def __init__(self, max_workers: int) -> None:
        self._max_workers = max_workers
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        for _ in range(max_workers):
            threading.Thread(target=self._work, daemon=True).start()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()

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
