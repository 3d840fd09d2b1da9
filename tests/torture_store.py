"""Many times what the tests of the store do a few times: kills and flipped bytes, with counts.

    python tests/torture_store.py [--kills 30] [--flips 400] [--seed 0]

Ends with 1 if a committed run was lost or repeated, or if a number was wrong.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from replica.sweeps import CorruptStoreError, StoreError, load_runs, sweep
from test_sweeps import logged, start_sweep, starts


def kill(folder: Path, times: int, rng: random.Random) -> bool:
    """Kill one sweep after another on one store; resume to the same table."""
    store, log, n = folder / "killed.sqlite", folder / "log", 14 * times
    snapshots: list[tuple[set[int], int]] = []
    lost = 0
    for _ in range(times):
        process = start_sweep(store, log, n, pause=0.02)
        wanted = len(starts(log)) + rng.randrange(15)
        while len(starts(log)) < wanted and process.poll() is None:
            time.sleep(0.003)
        time.sleep(rng.uniform(0.0, 0.1))
        process.kill()
        process.communicate()
        try:
            done = set(load_runs(store)["x"].tolist())
        except (FileNotFoundError, StoreError, KeyError):  # killed before the first run
            done = set()
        lost += len(snapshots[-1][0] - done) if snapshots else 0
        snapshots.append((done, len(starts(log))))
    grid, fixed = {"x": list(range(n))}, {"log": str(log), "pause": 0.02}
    resumed = sweep(logged, grid, fixed=fixed, store=store, progress=False)
    history = starts(log)
    repeated = sum(len(done & set(history[length:])) for done, length in snapshots)
    fixed["pause"] = 0.0
    fresh = sweep(logged, grid, fixed=fixed, store=folder / "fresh.sqlite", progress=False)
    same = np.array_equal(resumed["square"], fresh["square"])
    print(f"{times} kills, {len(snapshots[-1][0])} of {n} runs committed before the last: ", end="")
    print(f"{lost} lost, {repeated} repeated, table {'the same' if same else 'DIFFERENT'}")
    return same and not lost and not repeated


def model(x: int, kind: str) -> dict:
    """Numbers, an array and a text."""
    return {"y": 1.1 * x, "pair": [x, x / 3], "text": kind * x}


def flip(folder: Path, times: int, rng: random.Random) -> bool:
    """Flip one bit of a store at a time, half of them where it is not empty, and read it."""
    store, damaged = folder / "whole.sqlite", folder / "damaged.sqlite"
    grid = {"x": list(range(40)), "kind": ["a", "b"]}
    names = ("x", "kind", "y", "pair", "text")

    def rows(table):
        return {repr([np.asarray(table[name][i]).tolist() for name in names]) for i in range(80)}

    right = rows(sweep(model, grid, store=store, progress=False))
    content = store.read_bytes()
    used = [i for i, byte in enumerate(content) if byte]
    found: Counter[str] = Counter()
    for k in range(times):
        flipped = bytearray(content)
        flipped[rng.choice(used) if k % 2 else rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        damaged.write_bytes(flipped)
        try:
            table = load_runs(damaged)
        except CorruptStoreError:
            found["CorruptStoreError"] += 1
        except Exception as error:
            found[f"OTHER ERROR {type(error).__name__}"] += 1
        else:
            is_right = table.n_rows == 80 and rows(table) == right
            found["no difference" if is_right else "WRONG"] += 1
    print(f"{times} flipped bits: {dict(found)}")
    return set(found) <= {"CorruptStoreError", "no difference"}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--flips", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    generator = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as path:
        results = [
            kill(Path(path), arguments.kills, generator),
            flip(Path(path), arguments.flips, generator),
        ]
    sys.exit(0 if all(results) else 1)
