"""The one Numba decorator of the package, and the thread pool that feeds its kernels."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba

from .cores import n_cores

__all__ = ["for_each_chunk", "jit"]


def jit(function: Callable[..., Any] | None = None, /, *, fastmath: bool = False) -> Any:
    """Compile `function` in nopython mode: cached on disk, without the GIL, IEEE division.

    ``fastmath=True`` allows reassociation and contraction only. It is meant for long sums in
    simulation loops; full fast-math would also make ``isnan(nan)`` false.
    """
    flags = {"reassoc", "contract"} if fastmath else False
    options = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": flags}
    if function is None:
        return lambda wrapped: numba.njit(**options)(wrapped)
    return numba.njit(**options)(function)


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
