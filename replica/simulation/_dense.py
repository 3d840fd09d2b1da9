"""Mini-batch SGD on a stored training set: the dense engine of `simulate_training`."""

from __future__ import annotations

import math
import threading
import time

import numpy as np
from numpy.typing import NDArray

from replica._core.status import Status
from replica.inputs import Isotropic

from . import _kernels as kernels
from ._data import DRAW_BLOCK, TrainingSet, make_training_set, streams
from ._inputs import population_memory, structured_training_set
from ._settings import DIVERGENCE_LIMIT, Recorder, RunRecord, TrainingSettings

__all__ = ["dense_memory", "run_dense", "starting_point", "training_set_of"]

_NO_MASK = np.empty(0)  # no dropout: the kernels read nothing


def dense_memory(settings: TrainingSettings) -> int:
    """Bytes of one training set and what training on it needs besides."""
    P, N = settings.P, settings.N
    extra = 0
    if not isinstance(settings.inputs, Isotropic):
        extra = population_memory(settings.inputs, N)
    return extra + P * N * settings.dtype.itemsize + 64 * (P + N) + 8 * min(P * N, DRAW_BLOCK)


def training_set_of(settings: TrainingSettings, seed: np.random.SeedSequence) -> TrainingSet:
    """The training set of this seed."""
    if not isinstance(settings.inputs, Isotropic):
        return structured_training_set(
            settings.inputs,
            settings.P,
            settings.N,
            settings.S,
            seed,
            settings.dtype,
            settings.teacher,
            settings.noise,
        )
    return make_training_set(
        settings.P,
        settings.N,
        settings.S,
        seed,
        settings.dtype,
        settings.teacher,
        settings.noise,
    )


def starting_point(
    settings: TrainingSettings,
    seed: np.random.SeedSequence,
    start: tuple[NDArray[np.floating], float] | None,
) -> tuple[NDArray[np.floating], float]:
    """(w, gamma) of `start`; without it, w ~ N(0, L0^2) and gamma0."""
    if start is None:
        w = np.random.default_rng(seed).standard_normal(settings.N) * settings.L0
        gamma = settings.gamma0
    else:
        w, gamma = start
    return np.array(w, settings.dtype), gamma


def run_dense(
    settings: TrainingSettings,
    seed: np.random.SeedSequence,
    data_seed: np.random.SeedSequence | None,
    start: tuple[NDArray[np.floating], float] | None,
    recorder: Recorder,
    stop: threading.Event,
) -> RunRecord:
    """Train once. `start` is (w, gamma); None draws w ~ N(0, L0^2) and takes gamma0."""
    began = time.perf_counter()
    data, init, shuffle, drop = streams(seed, 4)
    training_set = training_set_of(settings, data_seed or data)
    X, y = training_set.X, training_set.y
    recorder.population = training_set.population
    w, gamma = starting_point(settings, init, start)
    shuffle_rng, drop_rng = np.random.default_rng(shuffle), np.random.default_rng(drop)

    tables = recorder.tables
    M = settings.batch_size
    all_rows = np.arange(settings.P)
    all_fields = np.empty(settings.P, settings.dtype)
    u, batch_y, c = np.empty(M, settings.dtype), np.empty(M), np.empty(M, settings.dtype)
    velocity = np.zeros(settings.N, settings.dtype)
    gamma_velocity = 0.0
    previous = w * np.nan
    epoch = 0
    for epoch in range(settings.epochs + 1):
        # Not the length that the last step leaves in its place: a run that starts here has none.
        parallel, L = kernels.order_parameters(w)
        converged = False
        if settings.tolerance and epoch > settings.anneal_epochs:
            factor = 1.0 if settings.scale == kernels.SCALE_NONE else gamma / L
            current = factor * w
            change = np.linalg.norm(current - previous)
            converged = bool(change <= settings.tolerance * np.linalg.norm(current))
            previous = current
        if recorder.due(epoch) or converged:
            kernels.project(X, all_rows, w, all_fields)
            recorder.record(all_fields, y, gamma, parallel, L, w)
        if converged:
            recorder.hold()
        if converged or epoch == settings.epochs or stop.is_set():
            break
        order = all_rows if settings.P == M else shuffle_rng.permutation(settings.P)
        mask = _NO_MASK
        if settings.dropout:
            kept = drop_rng.random(settings.P) >= settings.dropout
            mask = kept / (1.0 - settings.dropout)
        state = kernels.WeightState(float(gamma), gamma_velocity, L)
        while True:
            end = kernels.train_epoch(
                X, y, order, M, w, velocity, state, mask, u, batch_y, c,
                settings.center, settings.scale, tables.slope, settings.up_slopes[epoch],
                tables.table, tables.loss, settings.rates[epoch], settings.zeta * M / settings.P,
                settings.momentum, DIVERGENCE_LIMIT,
            )  # fmt: skip
            state, status = end.state, end.status
            if status != Status.RUNNING:
                break
            if not tables.widen(end.furthest, end.loss_furthest):
                status = Status.DIVERGENT
                break
            order, mask = order[end.steps * M :], mask[end.steps * M :]
        gamma, gamma_velocity, _ = state
        recorder.tick()
        if status == Status.DIVERGENT:
            recorder.status = Status.DIVERGENT
            break
    return RunRecord(
        recorder.values,
        recorder.status,
        epoch,
        w,
        recorder.weight_scale,
        math.nan,
        time.perf_counter() - began,
    )
