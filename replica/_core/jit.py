"""The one Numba decorator of the package, its cache, and the thread pool that feeds its kernels."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeVar, overload

import numba
from numba.core import config
from numba.core.caching import CompileResultCacheImpl, FunctionCache, NullCache
from numba.core.serialize import dumps

from .cores import n_cores
from .status import warn

if TYPE_CHECKING:
    from numba.core.compiler import CompileResult

__all__ = ["for_each_chunk", "jit"]


# What a kernel returns. Its arguments stay unchecked: compiled code takes what fits.
Returned = TypeVar("Returned")


@overload
def jit(
    function: Callable[..., Returned], /, *, fastmath: bool = ...
) -> Callable[..., Returned]: ...
@overload
def jit(
    *, fastmath: bool = ...
) -> Callable[[Callable[..., Returned]], Callable[..., Returned]]: ...
def jit(function: Callable[..., object] | None = None, /, *, fastmath: bool = False) -> object:
    """Compile `function` in nopython mode: cached on disk, without the GIL, IEEE division.

    ``fastmath=True`` allows reassociation and contraction only. It is meant for long sums in
    simulation loops; full fast-math would also make ``isnan(nan)`` false.

    Whatever is wrong with the cache, functions are compiled without it, with one warning.
    """
    flags = {"reassoc", "contract"} if fastmath else False
    compiler = numba.njit(nogil=True, error_model="numpy", fastmath=flags)
    return _cached(compiler(function)) if function else lambda f: _cached(compiler(f))


def _cached(dispatcher: Any) -> object:  # Numba declares no cache that one may set
    if hasattr(dispatcher, "py_func"):  # else a plain function, under NUMBA_DISABLE_JIT
        try:
            dispatcher._cache = _Cache(dispatcher.py_func)
        except Exception as error:
            dispatcher._cache = _NoCache(dispatcher.py_func, error)
    return dispatcher


class _Checked(CompileResultCacheImpl):
    """Compiled code with a checksum: a damaged file must not become machine code."""

    def get_filename_base(self, fullname: str, abiflags: str) -> str:
        # Files of their own: Numba's have no checksum.
        return super().get_filename_base(fullname, abiflags) + "-checked"

    def reduce(self, cres: object) -> tuple[bytes, bytes]:
        code = dumps(super().reduce(cres))
        return hashlib.sha256(code).digest(), code

    def rebuild(self, target_context: object, payload: tuple[bytes, bytes]) -> CompileResult:
        checksum, code = payload
        if hashlib.sha256(code).digest() != checksum:
            raise ValueError("a file is damaged")
        return super().rebuild(target_context, pickle.loads(code))


class _Cache(FunctionCache):
    """Numba's cache of one function, that never stands in the way of compiling it."""

    _impl_class = _Checked

    def load_overload(self, sig: object, target_context: object) -> object:
        folder = _folder_asked_for()
        if folder and not _is_inside(self.cache_path, folder):
            _warn_once(f"cannot be kept in {folder}, but is in {self.cache_path}")
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:
            # What an older version of this package called by a name that is gone is only old.
            if not isinstance(error, AttributeError | ImportError):
                _warn_once(f"in {self.cache_path} cannot be read ({_reason(error)})")
            with suppress(Exception):
                self.flush()  # an empty index: what is compiled now can be stored again
            return None

    def save_overload(self, sig: object, data: object) -> None:
        try:
            super().save_overload(sig, data)
        except Exception as error:
            _warn_once(f"in {self.cache_path} cannot be written ({_reason(error)})")


class _NoCache(NullCache):
    """In place of a cache that has no folder; says so when first something is compiled."""

    def __init__(self, function: FunctionType, error: Exception) -> None:
        beside = os.path.join(os.path.dirname(function.__code__.co_filename), "__pycache__")
        folders = ", ".join(filter(None, [_folder_asked_for(), beside, "the user's cache folder"]))
        self._reason = f"has no folder that can be written: tried {folders} ({_reason(error)})"

    def load_overload(self, sig: object, target_context: object) -> None:
        _warn_once(self._reason)


_warned = False


def _warn_once(what: str) -> None:
    global _warned
    if not _warned:
        _warned = True
        warn(
            f"the cache of compiled functions {what}; what it lacks is compiled again in every "
            "process. The environment variable NUMBA_CACHE_DIR names another folder.",
            RuntimeWarning,
        )


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _folder_asked_for() -> str:
    return getattr(config, "CACHE_DIR", "")  # made of NUMBA_CACHE_DIR


def _is_inside(path: str, folder: str) -> bool:
    folder = os.path.join(os.path.abspath(folder), "")
    return os.path.abspath(path).startswith(folder)


def for_each_chunk(kernel: Callable[[int, int], None], size: int, *, min_chunk: int = 4096) -> None:
    """Call ``kernel(start, stop)`` so that the calls together cover ``range(size)``.

    The calls run on a thread pool when there is enough work; `kernel` must release the GIL and
    treat every index on its own, so that the result does not depend on how the range is cut.
    """
    workers = min(n_cores(), size // min_chunk)
    if workers <= 1:
        if size:
            kernel(0, size)
        return
    # More pieces than workers, since neighboring points may be much harder than others.
    pieces = min(4 * workers, size // min_chunk)
    edges = [size * i // pieces for i in range(pieces + 1)]
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(kernel, edges[:-1], edges[1:]))
