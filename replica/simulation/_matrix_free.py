"""Full-batch training exactly in law without the data matrix: the matrix-free engine.

A Gaussian X is drawn only in the directions that training has looked at (the principle of deferred
decisions; Y. M. Lu, IEEE Trans. Inf. Theory 67, 8264 (2021)). After t steps these are t + 2
directions of weight space, held through coefficients only, and t + 1 of sample space, so memory is
2 P (t + 2) numbers and step t costs O(P t), whatever N.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from replica._core.jit import jit
from replica._core.status import Status

from . import _kernels as kernels
from ._data import DRAW_BLOCK, draw_labels, draw_normal, streams
from ._settings import DIVERGENCE_LIMIT, Recorder, RunRecord, TrainingSettings

__all__ = ["matrix_free_memory", "run_matrix_free"]

# Rows per partial sum: fixed, so that results do not depend on the number of threads, and small,
# so that float32 sums over a block stay accurate before they are added up in float64.
_BLOCK = 2048

_NO_MASK = np.empty(0)  # no dropout: the kernels read nothing


def matrix_free_memory(settings: TrainingSettings) -> int:
    """Bytes of the revealed directions and of the vectors of length P."""
    itemsize = settings.dtype.itemsize
    per_sample = 2 * (settings.epochs + 2) * itemsize + 4 * itemsize + 24
    return settings.P * per_sample + 8 * min(settings.P, DRAW_BLOCK)


@jit(fastmath=True)
def _fields(A, n, coefficients, start, stop, u):
    """u = A c on rows start..stop."""
    for j in range(start, stop):
        row = A[j]
        total = row[0] * coefficients[0]
        for l in range(1, n):
            total += row[l] * coefficients[l]
        u[j] = total


@jit(fastmath=True)
def _overlaps(U, n, f, start, stop, sums):
    """sums = U^T f on rows start..stop."""
    sums[:] = 0
    for j in range(start, stop):
        row, value = U[j], f[j]
        for l in range(n):
            sums[l] += row[l] * value


@jit(fastmath=True)
def _remove(U, n, k, start, stop, r, sums):
    """r -= U k, then sums = U^T r: one Gram-Schmidt pass and the overlaps it has left."""
    sums[:] = 0
    for j in range(start, stop):
        row = U[j]
        total = r[j] * 0
        for l in range(n):
            total += row[l] * k[l]
        r[j] -= total
        value = r[j]
        for l in range(n):
            sums[l] += row[l] * value


@jit(fastmath=True)
def _reveal(U, n_u, A, n_a, k, g, start, stop, r, sums_r, sums_g, sums_a):
    """Second pass r -= U k; the sums U^T r, (U^T g, r.g) and (A^T r, |r|^2)."""
    sums_r[:] = 0
    sums_g[:] = 0
    sums_a[:] = 0
    for j in range(start, stop):
        row, image = U[j], A[j]
        total = r[j] * 0
        for l in range(n_u):
            total += row[l] * k[l]
        r[j] -= total
        value, fresh = r[j], g[j]
        for l in range(n_u):
            sums_r[l] += row[l] * value
            sums_g[l] += row[l] * fresh
        for l in range(n_a):
            sums_a[l] += image[l] * value
        sums_g[n_u] += value * fresh
        sums_a[n_a] += value * value


@jit(fastmath=True)
def _extend(U, n_u, A, n_a, k, g, r, inverse, weight, start, stop):
    """Append u_new = r/|r| to U and a_new = g - U k + weight u_new to A."""
    for j in range(start, stop):
        row = U[j]
        total = g[j]
        for l in range(n_u):
            total -= row[l] * k[l]
        direction = r[j] * inverse
        row[n_u] = direction
        A[j, n_a] = total + weight * direction


class _Directions:
    """X as far as it has been looked at: X^T u_j = sum_l B[j, l] v_l and X v_l = A[:, l]."""

    def __init__(
        self,
        P: int,
        N: int,
        steps: int,
        dtype: np.dtype[np.floating],
        rng: np.random.Generator,
        pool: ThreadPoolExecutor | None,
    ) -> None:
        self.N, self.dtype, self.rng, self.pool = N, dtype, rng, pool
        self.A = np.empty((P, steps + 2), dtype)
        self.U = np.empty((P, steps + 1), dtype)
        self.B = np.zeros((steps + 1, steps + 2))
        self.n_a, self.n_u = 2, 0
        self.fresh = np.empty(P, dtype)
        for l in range(2):
            draw_normal(rng, self.fresh, 1.0 / math.sqrt(N))
            self.A[:, l] = self.fresh
        self.orthogonality_error = 0.0
        self.edges = [(i, min(i + _BLOCK, P)) for i in range(0, P, _BLOCK)]

    def _each_block(self, kernel: Callable[..., None], *widths: int) -> list[NDArray[np.float64]]:
        """Run ``kernel(start, stop, *sums)`` on every block; the sums added up in block order."""
        partial = [np.empty((len(self.edges), width), self.dtype) for width in widths]

        def work(i: int) -> None:
            kernel(*self.edges[i], *(p[i] for p in partial))

        if self.pool is None or len(self.edges) < 8:
            for i in range(len(self.edges)):
                work(i)
        else:
            list(self.pool.map(work, range(len(self.edges))))
        return [p.sum(axis=0, dtype=np.float64) for p in partial]

    def fields(self, coefficients: NDArray[np.float64], u: NDArray[np.floating]) -> None:
        """u = X w for the w with these coefficients."""
        c = coefficients.astype(self.dtype)
        self._each_block(lambda a, b: _fields(self.A, self.n_a, c, a, b, u))

    def back_project(self, f: NDArray[np.floating]) -> NDArray[np.float64]:
        """Coefficients of X^T f, revealing one new direction; `f` is overwritten."""
        U, A, n_u, n_a = self.U, self.A, self.n_u, self.n_a
        norm = float(np.linalg.norm(f))
        result = np.zeros(self.B.shape[1])
        if norm == 0.0:
            return result
        (k,) = self._each_block(lambda a, b, s: _overlaps(U, n_u, f, a, b, s), n_u)
        first = k.astype(self.dtype)
        (again,) = self._each_block(lambda a, b, s: _remove(U, n_u, first, a, b, f, s), n_u)
        second = again.astype(self.dtype)
        draw_normal(self.rng, self.fresh, 1.0 / math.sqrt(self.N))
        left, k_fresh, image = self._each_block(
            lambda a, b, s, t, v: _reveal(U, n_u, A, n_a, second, self.fresh, a, b, f, s, t, v),
            n_u, n_u + 1, n_a + 1,
        )  # fmt: skip
        k += again
        residual = math.sqrt(image[n_a])
        # A residual of rounding size is no direction: f lies in the span already.
        if residual > 64 * np.finfo(self.dtype).eps * norm:
            if n_u:
                error = float(np.max(np.abs(left))) / residual
                self.orthogonality_error = max(self.orthogonality_error, error)
            chi = math.sqrt(self.draw_chi_square(self.N - n_a) / self.N)
            self.B[n_u, :n_a] = image[:n_a] / residual
            self.B[n_u, n_a] = chi
            # a_new has component chi along u_new, none along the older u, and is fresh elsewhere.
            weight = self.dtype.type(chi - k_fresh[n_u] / residual)
            inverse, k_old = self.dtype.type(1.0 / residual), k_fresh[:n_u].astype(self.dtype)
            self._each_block(
                lambda a, b: _extend(U, n_u, A, n_a, k_old, self.fresh, f, inverse, weight, a, b)
            )
            self.n_u, self.n_a = n_u + 1, n_a + 1
            result += residual * self.B[n_u]
        return result + k @ self.B[:n_u]

    def draw_chi_square(self, degrees: int) -> float:
        """Squared length, times N, of X^T u outside the known weight directions."""
        return float(self.rng.chisquare(degrees))


def run_matrix_free(
    settings: TrainingSettings, seed: np.random.SeedSequence, recorder: Recorder, n_threads: int
) -> RunRecord:
    """Train once, from w ~ N(0, L0^2)."""
    began = time.perf_counter()
    P, N = settings.P, settings.N
    data, init, _, drop = streams(seed, 4)
    rng, drop_rng = np.random.default_rng(data), np.random.default_rng(drop)
    init_rng = np.random.default_rng(init)
    pool = ThreadPoolExecutor(n_threads) if n_threads > 1 and P >= 16 * _BLOCK else None
    try:
        known = _Directions(P, N, settings.epochs, settings.dtype, rng, pool)
        # v_0 is the teacher's direction, v_1 that of the rest of the initial weights.
        w = np.zeros(settings.epochs + 2)
        w[0] = settings.L0 * init_rng.standard_normal()
        w[1] = settings.L0 * math.sqrt(init_rng.chisquare(N - 1))
        z = math.sqrt(N) * known.A[:, 0].astype(np.float64)
        y = draw_labels(settings.teacher, settings.noise, settings.S, z, rng)
        tables = recorder.tables
        velocity = np.zeros_like(w)
        u, f = np.empty(P, settings.dtype), np.empty(P, settings.dtype)
        gamma, gamma_velocity = settings.gamma0, 0.0
        normalized = settings.scale != kernels.SCALE_NONE
        previous = w * np.nan
        epoch = 0
        for epoch in range(settings.epochs + 1):
            L = float(np.linalg.norm(w)) / math.sqrt(N)
            if not (L < DIVERGENCE_LIMIT and abs(gamma) < DIVERGENCE_LIMIT):
                recorder.status = Status.DIVERGENT
                break
            known.fields(w, u)
            converged = False
            if settings.tolerance and epoch > settings.anneal_epochs:
                current = w * (gamma / L if normalized else 1.0)
                change = np.linalg.norm(current - previous)
                converged = bool(change <= settings.tolerance * np.linalg.norm(current))
                previous = current
            if recorder.due(epoch) or converged:
                recorder.record(u, y, gamma, w[0] / math.sqrt(N), L)
            if converged:
                recorder.hold()
            if converged or epoch == settings.epochs:
                break
            mask = _NO_MASK
            if settings.dropout:
                mask = (drop_rng.random(P) >= settings.dropout) / (1.0 - settings.dropout)
            while True:
                b, dgamma, *asked = kernels.backpropagate(
                    u, y, mask, gamma, L, N, settings.center, settings.scale,
                    tables.slope, settings.up_slopes[epoch], tables.table, tables.loss, f,
                )  # fmt: skip
                if not kernels.beyond(tables.table, *asked):
                    break
                if not tables.widen(*asked):
                    recorder.status = Status.DIVERGENT
                    break
            if recorder.status == Status.DIVERGENT:
                break
            if normalized:
                gamma_velocity = settings.momentum * gamma_velocity + dgamma - settings.zeta * gamma
                gamma += settings.rates[epoch] * gamma_velocity
            else:
                b -= settings.zeta
            velocity = settings.momentum * velocity + b * w + known.back_project(f)
            w = w + settings.rates[epoch] * velocity
            recorder.tick()
    finally:
        if pool is not None:
            pool.shutdown()
    return RunRecord(
        recorder.values,
        recorder.status,
        epoch,
        None,
        recorder.weight_scale,
        known.orthogonality_error,
        time.perf_counter() - began,
    )
