"""Reading and writing of the reference tables; imports only the standard library and mpmath."""

from __future__ import annotations

import argparse
import csv
import math
import sys
from functools import lru_cache
from multiprocessing import Pool
from pathlib import Path

from mpmath import mp, mpf

__all__ = ["FOLDER", "columns", "exact", "legendre", "log_uniform", "main", "read", "text"]

FOLDER = Path(__file__).parent


def exact(value: str | float) -> mpf:
    """The float64 number that a table's text reads to, as an exact high-precision number."""
    return mpf(float(value))


def text(value, digits: int = 30) -> str:
    """A number as decimal text; infinities in the spelling that `float` reads."""
    if mp.isinf(value):
        return "inf" if value > 0 else "-inf"
    return mp.nstr(value, digits, strip_zeros=True)


def read(path: str | Path) -> list[dict[str, str]]:
    """Rows of a table, every entry as text."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def main(description: str, tables: dict, verify) -> None:
    """Command line of a script: `--verify`, or the name of a table and where to write it."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("table", nargs="?", choices=tables, help="which table to compute")
    parser.add_argument("-o", "--output", help="file to write (default: standard output)")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--verify", action="store_true", help="compare with independent routes")
    options = parser.parse_args()
    if options.verify:
        verify()
    if options.table:
        make_row, inputs, names = tables[options.table]
        with Pool(options.processes) as pool:
            rows = pool.map(make_row, inputs(), chunksize=1)
        with open(options.output, "w", newline="") if options.output else sys.stdout as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(names)
            table.writerows(rows)


@lru_cache
def _legendre(n: int, dps: int) -> list:
    found = []
    for k in range(n):
        x = mp.cos(mp.pi * (k + mpf(3) / 4) / (n + mpf(1) / 2))
        for _ in range(8):
            p, below = x, mpf(1)
            for j in range(2, n + 1):
                p, below = ((2 * j - 1) * x * p - (j - 1) * below) / j, p
            slope = n * (x * p - below) / (x * x - 1)
            x -= p / slope
        found.append((x, 2 / ((1 - x * x) * slope**2)))
    return found


def legendre(n: int) -> list:
    """Gauss-Legendre nodes and weights on [-1, 1] at the present precision."""
    return _legendre(n, mp.dps)


def log_uniform(draw, low: float, high: float) -> float:
    """A log-uniform draw rounded to six significant digits, so that the table stays readable."""
    return float(f"{math.exp(draw.uniform(math.log(low), math.log(high))):.6g}")


def columns(name: str) -> dict:
    """The columns of ``name.csv`` as float64 arrays."""
    import numpy as np

    rows = read(FOLDER / f"{name}.csv")
    return {key: np.array([float(row[key]) for row in rows]) for key in rows[0]}
