"""Tables on their way out: CSV and JSON for programs, aligned text for people.

A table is a mapping from column names to equally long columns. Floats are written with the
fewest digits that read back as the same number.
"""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

__all__ = ["as_csv", "as_json", "as_text", "json_value", "say_written", "write_table"]

Table = Mapping[str, Iterable[object]]


@runtime_checkable
class _NumPyNumber(Protocol):
    """A number of NumPy."""

    def item(self) -> object: ...


def write_table(path: Path, table: Table) -> None:
    """Write `table` to `path` as CSV or JSON, after the suffix."""
    text = as_json(table) if path.suffix.lower() == ".json" else as_csv(table)
    path.write_text(text, encoding="utf-8")


def say_written(path: Path) -> None:
    """Tell people where the result is, on standard error: standard output is for results."""
    print(f"wrote {path}", file=sys.stderr)


def as_csv(table: Table) -> str:
    """Return `table` as CSV with a header line.

    Examples
    --------
    >>> print(as_csv({"alpha": [0.5, 1.0], "gen_error": [0.75, float("inf")]}), end="")
    alpha,gen_error
    0.5,0.75
    1.0,inf
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(table)
    writer.writerows(_rows(table))
    return stream.getvalue()


def as_json(table: Table) -> str:
    """Return `table` as a JSON list with one object per row.

    JSON has no infinity and no NaN: they become the strings "inf" and "nan", which ``float``
    reads.
    """
    names = list(table)
    rows = [
        {name: json_value(value) for name, value in zip(names, row, strict=True)}
        for row in _rows(table)
    ]
    return "[\n" + ",\n".join(json.dumps(row, allow_nan=False) for row in rows) + "\n]\n"


def json_value(value: object) -> object:
    """Return `value` as something strict JSON can hold.

    Examples
    --------
    >>> json_value(float("inf"))
    'inf'
    """
    value = _plain(value)
    return repr(value) if isinstance(value, float) and not math.isfinite(value) else value


def as_text(table: Table, *, digits: int = 4) -> str:
    """Return `table` as aligned text with floats to `digits` decimals.

    Examples
    --------
    >>> print(as_text({"alpha": [0.5, 1.0], "gen_error": [0.75, float("inf")]}), end="")
     alpha  gen_error
    0.5000     0.7500
    1.0000        inf
    """
    columns = []
    for name, values in table.items():
        cells = [_cell(_plain(value), digits) for value in values]
        width = max(map(len, [name, *cells]))
        columns.append([name.rjust(width), *(cell.rjust(width) for cell in cells)])
    return "".join("  ".join(row) + "\n" for row in zip(*columns, strict=True))


def _cell(value: object, digits: int) -> str:
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)


def _rows(table: Table) -> list[tuple[object, ...]]:
    return [tuple(map(_plain, row)) for row in zip(*table.values(), strict=True)]


def _plain(value: object) -> object:
    """NumPy scalars as the Python numbers they stand for."""
    return value.item() if isinstance(value, _NumPyNumber) else value
